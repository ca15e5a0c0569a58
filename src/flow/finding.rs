//! What a check found, as data: the reader goes on to the end, and whoever asked decides.

use crate::error::{Error, Kind};
use serde::{Serialize, Serializer};
use std::path::{Path, PathBuf};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Worth knowing.
    Info,
    /// A promise that nobody made or that cannot be checked.
    Warning,
    /// Something is wrong: a restore would refuse.
    Error,
}

/// One thing that a check found.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// The stable name of what was found: see `docs/errors.md`.
    pub code: &'static str,
    /// Expected and found.
    pub message: String,
    /// The file.
    pub file: Option<PathBuf>,
    /// The byte in it.
    pub offset: Option<u64>,
    /// The key, as hex.
    pub key: Option<String>,
    /// The block height.
    pub height: Option<u64>,
    /// The last block, where it is about several.
    pub until: Option<u64>,
    /// Which of the rules of a chain is broken: see `docs/concepts/what-is-proven.md`.
    pub rule: Option<u8>,
    /// What to do next.
    pub hint: Option<String>,
    /// The error this is when nothing may be wrong.
    #[serde(serialize_with = "code")]
    pub kind: Kind,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn code<S: Serializer>(kind: &Kind, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(kind.code())
}

impl Finding {
    /// A finding of this level and code; an error of this kind where findings are not collected.
    #[must_use]
    pub fn new(level: Level, code: &'static str, kind: Kind, message: impl Into<String>) -> Self {
        Self {
            level,
            code,
            message: message.into(),
            file: None,
            offset: None,
            key: None,
            height: None,
            until: None,
            rule: None,
            hint: None,
            kind,
        }
    }

    /// Bytes that are not what they must be.
    #[must_use]
    pub fn damage(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Level::Error, code, Kind::Damaged, message)
    }

    /// Something that cannot be promised.
    #[must_use]
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Level::Warning, code, Kind::Damaged, message)
    }

    /// Something worth knowing.
    #[must_use]
    pub fn info(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Level::Info, code, Kind::Damaged, message)
    }

    /// The finding that an error is.
    #[must_use]
    pub fn from_error(code: &'static str, error: &Error) -> Self {
        let mut this = Self::new(Level::Error, code, error.kind(), error.what());
        this.offset = error.offset();
        this.file = error.path().map(Path::to_owned);
        this.hint = error.hint().map(str::to_owned);
        this
    }

    /// Adds the file.
    #[must_use]
    pub fn in_file(mut self, path: &Path) -> Self {
        self.file.get_or_insert_with(|| path.to_owned());
        self
    }

    /// Adds the byte.
    #[must_use]
    pub fn at(mut self, offset: u64) -> Self {
        self.offset = Some(offset);
        self
    }

    /// Adds the key.
    #[must_use]
    pub fn with_key(mut self, key: &[u8]) -> Self {
        self.key = Some(data_encoding::HEXLOWER.encode(key));
        self
    }

    /// Adds what to do next.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The error it is where nothing may be wrong.
    #[must_use]
    pub fn to_error(&self) -> Error {
        let mut error = Error::new(self.kind, self.message.clone());
        if let Some(file) = &self.file {
            error = error.at_path(file);
        }
        if let Some(offset) = self.offset {
            error = error.at_offset(offset);
        }
        match &self.hint {
            Some(hint) => error.with_hint(hint.clone()),
            None => error,
        }
    }
}

/// Fails with the first finding that is an error.
pub fn refuse(findings: &[Finding]) -> crate::error::Result<()> {
    match findings.iter().find(|finding| finding.level == Level::Error) {
        Some(finding) => Err(finding.to_error()),
        None => Ok(()),
    }
}
