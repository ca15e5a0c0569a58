//! The one error of the crate: what kind it is, where it happened, what was expected and what was found.
//!
//! Low layers know an offset, the layer that opened a file adds its path ([`Error::at_path`]); a text reads
//! `full.badger: expected 4096 more bytes of frame 12 at byte 83886088, found the end of the file`. Kinds are
//! cut by what a caller can do, not by where they arise; [`Kind::ALL`] lists them, so that a test can hold the Python
//! classes, the exit codes and `docs/errors.md` against them.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::path::{Path, PathBuf};

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a caller can do about an error. One Python class and one exit code each.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Kind {
    /// A call that cannot be meant.
    Invalid,
    /// The source ended a stream before completing it.
    Incomplete,
    /// A segment, a directory or a link of a chain is not there.
    Missing,
    /// Another run or a running node holds it.
    Locked,
    /// File modes, TLS, token, wrong key.
    Denied,
    /// Cannot connect, refused, idle too long: worth a retry.
    Unavailable,
    /// The target is there, or is not what may be replaced.
    Exists,
    /// Something that is right, but that evbackup does not do.
    Unsupported,
    /// The disk is full, or would be.
    NoSpace,
    /// Two things do not belong together.
    Mismatch,
    /// The disk or the system failed otherwise.
    Io,
    /// Bytes are not what they must be.
    Damaged,
    /// The caller stopped the work.
    Cancelled,
}

impl Kind {
    /// Every kind, in the order of `docs/errors.md`.
    pub const ALL: [Kind; 13] = [
        Kind::Invalid,
        Kind::Incomplete,
        Kind::Missing,
        Kind::Locked,
        Kind::Denied,
        Kind::Unavailable,
        Kind::Exists,
        Kind::Unsupported,
        Kind::NoSpace,
        Kind::Mismatch,
        Kind::Io,
        Kind::Damaged,
        Kind::Cancelled,
    ];

    /// The stable name that scripts compare with: `error.code` in Python, `"code"` in JSON.
    pub fn code(self) -> &'static str {
        match self {
            Kind::Invalid => "invalid-argument",
            Kind::Incomplete => "incomplete",
            Kind::Missing => "missing",
            Kind::Locked => "locked",
            Kind::Denied => "denied",
            Kind::Unavailable => "unavailable",
            Kind::Exists => "exists",
            Kind::Unsupported => "unsupported",
            Kind::NoSpace => "no-space",
            Kind::Mismatch => "mismatch",
            Kind::Io => "io",
            Kind::Damaged => "damaged",
            Kind::Cancelled => "cancelled",
        }
    }
}

/// An error with its place, its cause and a hint for the person on call.
///
/// ```
/// use evbackup::error::{Error, Kind};
///
/// let error = Error::damaged("expected 8 bytes of a frame length, found the end of the file")
///     .at_offset(96)
///     .at_path("full.badger");
/// assert_eq!(error.kind(), Kind::Damaged);
/// assert_eq!(error.code(), "damaged");
/// assert_eq!(
///     error.to_string(),
///     "full.badger: expected 8 bytes of a frame length, found the end of the file at byte 96"
/// );
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    what: Cow<'static, str>,
    place: Option<String>,
    path: Option<PathBuf>,
    offset: Option<u64>,
    hint: Option<Cow<'static, str>>,
    errno: Option<i32>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

macro_rules! constructors {
    ($($name:ident => $kind:ident),* $(,)?) => { $(
        #[doc = concat!("An error of [`Kind::", stringify!($kind), "`]; `what` says what was expected and what was found.")]
        #[must_use]
        pub fn $name(what: impl Into<Cow<'static, str>>) -> Self { Self::new(Kind::$kind, what) }
    )* };
}

impl Error {
    /// An error of this kind; `what` is lower case, without a final stop.
    #[must_use]
    pub fn new(kind: Kind, what: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            what: what.into(),
            place: None,
            path: None,
            offset: None,
            hint: None,
            errno: None,
            source: None,
        }))
    }

    constructors! {
        invalid => Invalid, incomplete => Incomplete, missing => Missing, locked => Locked, denied => Denied,
        unavailable => Unavailable, exists => Exists, unsupported => Unsupported, no_space => NoSpace,
        mismatch => Mismatch, io => Io, damaged => Damaged,
    }

    /// The caller stopped the work.
    #[must_use]
    pub fn cancelled() -> Self {
        Self::new(Kind::Cancelled, "stopped by the caller")
    }

    /// A failed system call on `path`: the errno decides the kind.
    #[must_use]
    pub fn from_io(error: std::io::Error, doing: &'static str, path: impl AsRef<Path>) -> Self {
        Self::of_io(error, doing).at_path(path)
    }

    /// The same where another layer knows the path.
    #[must_use]
    pub fn of_io(error: std::io::Error, doing: &'static str) -> Self {
        use std::io::ErrorKind as E;
        let kind = match error.kind() {
            E::NotFound => Kind::Missing,
            E::PermissionDenied | E::ReadOnlyFilesystem => Kind::Denied,
            E::AlreadyExists | E::DirectoryNotEmpty => Kind::Exists,
            E::StorageFull | E::QuotaExceeded | E::FileTooLarge => Kind::NoSpace,
            _ => Kind::Io,
        };
        let errno = error.raw_os_error();
        let mut this = Self::new(kind, format!("cannot {doing}: {}", system_text(&error)));
        this.0.errno = errno;
        this.0.source = Some(Box::new(error));
        this
    }

    /// Says before the text what cannot be done because of it.
    #[must_use]
    pub fn cannot(mut self, doing: impl fmt::Display) -> Self {
        self.0.what = format!("cannot {doing}: {}", self.0.what).into();
        self
    }

    /// Adds the file it is about, unless a lower layer already has.
    #[must_use]
    pub fn at_path(mut self, path: impl AsRef<Path>) -> Self {
        if self.0.path.is_none() && self.0.place.is_none() {
            self.0.path = Some(path.as_ref().to_owned());
        }
        self
    }

    /// Adds a place that is no file, such as an address without its credentials.
    #[must_use]
    pub fn at(mut self, place: impl Into<String>) -> Self {
        if self.0.path.is_none() && self.0.place.is_none() {
            self.0.place = Some(place.into());
        }
        self
    }

    /// Adds the byte offset, unless a lower layer already has.
    #[must_use]
    pub fn at_offset(mut self, offset: u64) -> Self {
        self.0.offset.get_or_insert(offset);
        self
    }

    /// Moves the offset, if there is one, from that of a part to that of the whole the part begins at `base` in.
    #[must_use]
    pub fn offset_by(mut self, base: u64) -> Self {
        self.0.offset = self.0.offset.map(|offset| offset.saturating_add(base));
        self
    }

    /// Adds what the person on call does next: a sentence in lower case, without a final stop.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.0.hint.get_or_insert(hint.into());
        self
    }

    /// Adds the error that caused this one.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source.get_or_insert(source.into());
        self
    }

    /// Adds the system's error number, for the exceptions that are `OSError`s in Python.
    #[must_use]
    pub fn with_errno(mut self, errno: i32) -> Self {
        self.0.errno.get_or_insert(errno);
        self
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// [`Kind::code`] of its kind.
    pub fn code(&self) -> &'static str {
        self.0.kind.code()
    }

    /// What to do next, where there is something to say.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The file it is about.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// The byte in that file.
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// The system's error number.
    pub fn errno(&self) -> Option<i32> {
        self.0.errno
    }

    /// The text without the place: expected and found.
    pub fn what(&self) -> &str {
        &self.0.what
    }
}

/// The text of a system error without Rust's " (os error 2)".
fn system_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_lowercase(),
        None => text,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.0.path {
            write!(f, "{}: ", path.display())?;
        } else if let Some(place) = &self.0.place {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.0.what)?;
        match self.0.offset {
            Some(offset) if !self.0.what.contains("at byte ") => write!(f, " at byte {offset}"),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {self}", self.code())?;
        if let Some(hint) = self.hint() {
            write!(f, " (hint: {hint})")?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_where_before_what_and_keeps_the_innermost_place() {
        let error = Error::damaged("expected a key, found nothing").at_offset(7).at_offset(9);
        let error = error.at_path("a.badger").at_path("b.badger");
        assert_eq!(error.to_string(), "a.badger: expected a key, found nothing at byte 7");
        assert_eq!((error.offset(), error.path()), (Some(7), Some(Path::new("a.badger"))));
    }

    #[test]
    fn says_what_cannot_be_done_behind_the_place() {
        let error =
            Error::mismatch("found another").at("node:7331").with_hint("look").cannot("follow a.badger");
        assert_eq!(error.to_string(), "node:7331: cannot follow a.badger: found another");
        assert_eq!((error.kind(), error.hint()), (Kind::Mismatch, Some("look")));
    }

    #[test]
    fn does_not_say_an_offset_twice() {
        let error =
            Error::damaged("expected 4 more bytes at byte 12, found the end of the file").at_offset(12);
        assert_eq!(error.to_string(), "expected 4 more bytes at byte 12, found the end of the file");
    }

    #[test]
    fn a_system_error_keeps_its_number_and_gets_its_kind() {
        let io = std::io::Error::from_raw_os_error(2);
        let error = Error::from_io(io, "open it", "/nowhere");
        assert_eq!((error.kind(), error.errno()), (Kind::Missing, Some(2)));
        assert_eq!(error.to_string(), "/nowhere: cannot open it: no such file or directory");
        for (errno, kind) in [(28, Kind::NoSpace), (13, Kind::Denied), (17, Kind::Exists), (5, Kind::Io)] {
            let io = std::io::Error::from_raw_os_error(errno);
            assert_eq!(Error::from_io(io, "write it", "f").kind(), kind);
        }
    }

    #[test]
    fn codes_are_distinct() {
        let mut codes: Vec<_> = Kind::ALL.iter().map(|kind| kind.code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Kind::ALL.len());
    }
}
