//! Errors across the wire: [`Error`] to status on the server, status to [`Error`] on the client.
//!
//! A status of our server carries the kind in `evbackup-reason` ([`Kind::code`]) and the hint in `evbackup-hint-bin`; any other
//! server's is judged by its gRPC code.

use crate::error::{Error, Kind};
use std::error::Error as StdError;
use tonic::metadata::{AsciiMetadataValue, MetadataValue};
use tonic::{Code, Status};

/// The reason code, for programs.
pub(crate) const REASON: &str = "evbackup-reason";
/// The hint, for people; binary, because header values are ASCII.
pub(crate) const HINT: &str = "evbackup-hint-bin";
/// Headers have a limit of 16 KiB in all; an error text beyond this is no help.
const MAX_TEXT: usize = 2000;

const NO_BACKUP_HINT: &str = "this node has no Backup RPC: pass via=\"blocks\", run `evbackup serve` beside it, or back up the directory";

/// What a server answers for `error`.
pub(crate) fn to_status(error: &Error) -> Status {
    let code = match error.kind() {
        Kind::Invalid => Code::InvalidArgument,
        Kind::Missing => Code::NotFound,
        Kind::Denied => Code::PermissionDenied,
        Kind::Exists => Code::AlreadyExists,
        Kind::Unsupported => Code::Unimplemented,
        Kind::NoSpace => Code::ResourceExhausted,
        Kind::Mismatch => Code::FailedPrecondition,
        Kind::Damaged => Code::DataLoss,
        Kind::Incomplete => Code::Aborted,
        Kind::Locked | Kind::Unavailable => Code::Unavailable,
        Kind::Io => Code::Internal,
        Kind::Cancelled => Code::Cancelled,
    };
    let mut status = Status::new(code, plain(&error.to_string()));
    let headers = status.metadata_mut();
    headers.insert(REASON, AsciiMetadataValue::from_static(error.code()));
    if let Some(hint) = error.hint() {
        headers.insert_bin(HINT, MetadataValue::from_bytes(plain(hint).as_bytes()));
    }
    status
}

/// The kind that a server of ours gave as its reason.
pub(crate) fn reason(status: &Status) -> Option<Kind> {
    let reason = status.metadata().get(REASON)?.to_str().ok()?;
    Kind::ALL.into_iter().find(|kind| kind.code() == reason)
}

/// The error that a status means: before the first message, or (`receiving`) after it.
///
/// After it only what retrying cannot mend keeps its kind; the rest is an incomplete stream, to which the caller adds how far it
/// came.
pub(crate) fn from_status(status: &Status, receiving: bool) -> Error {
    let said = said(status);
    if let Some(kind) = reason(status) {
        let kind = match kind {
            Kind::Mismatch | Kind::Denied | Kind::Damaged | Kind::Unsupported | Kind::Invalid => kind,
            _ if receiving => Kind::Incomplete,
            // The server's full disk or lost lock is not ours.
            _ => Kind::Unavailable,
        };
        let error = Error::new(kind, said);
        let hint = status.metadata().get_bin(HINT).and_then(|hint| hint.to_bytes().ok());
        return match hint {
            Some(hint) => error.with_hint(plain(&String::from_utf8_lossy(&hint))),
            None => error,
        };
    }
    match status.code() {
        Code::Unauthenticated => {
            Error::denied(format!("the server knows us not: {said}")).with_hint("pass the right token")
        }
        Code::PermissionDenied => Error::denied(format!("the server denies access: {said}")),
        Code::FailedPrecondition => Error::mismatch(format!("the server refuses: {said}")),
        Code::InvalidArgument if !receiving => Error::invalid(format!("the server refuses: {said}")),
        Code::DataLoss => Error::damaged(format!("the server's data is damaged: {said}")),
        Code::Unimplemented | Code::NotFound if !receiving => {
            Error::unsupported(format!("expected the Backup RPC, found none: {said}"))
                .with_hint(NO_BACKUP_HINT)
        }
        // Only our own decoder says this: a message above the limit.
        Code::OutOfRange => Error::damaged(said),
        _ if receiving => Error::incomplete(said),
        _ => Error::unavailable(format!("the server failed: {said}")),
    }
}

/// What a status says: its message, and what lies below it when it was made on this side.
pub(crate) fn said(status: &Status) -> String {
    let message = plain(status.message());
    let below = status.source().map(chain).unwrap_or_default();
    match (message.is_empty(), below.is_empty() || message.contains(&below)) {
        (true, true) => status.code().description().to_lowercase(),
        (true, false) => below,
        (false, true) => message,
        (false, false) => format!("{message}: {below}"),
    }
}

/// The texts of an error and its causes, innermost last, each once.
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let part = error.to_string();
        if !text.contains(&part) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&part);
        }
        next = error.source();
    }
    plain(&text)
}

/// A text from elsewhere made fit for one line of a terminal: no control characters, not endless.
fn plain(text: &str) -> String {
    text.chars()
        .take(MAX_TEXT)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect::<String>()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_retrying_cannot_mend_keeps_its_kind_and_the_rest_is_worth_a_retry() {
        for kind in Kind::ALL {
            let sent = Error::new(kind, "expected 1, found 2").with_hint("do \u{fc}ber");
            let status = to_status(&sent);
            assert_eq!(reason(&status), Some(kind));
            let keeps = matches!(
                kind,
                Kind::Mismatch | Kind::Denied | Kind::Damaged | Kind::Unsupported | Kind::Invalid
            );
            for (receiving, otherwise) in [(false, Kind::Unavailable), (true, Kind::Incomplete)] {
                let got = from_status(&status, receiving);
                assert_eq!(got.kind(), if keeps { kind } else { otherwise });
                assert_eq!((got.what(), got.hint()), ("expected 1, found 2", Some("do \u{fc}ber")));
            }
        }
    }

    #[test]
    fn a_foreign_status_is_judged_by_its_code() {
        for (code, asking, receiving) in [
            (Code::Unimplemented, Kind::Unsupported, Kind::Incomplete),
            (Code::NotFound, Kind::Unsupported, Kind::Incomplete),
            (Code::Unauthenticated, Kind::Denied, Kind::Denied),
            (Code::PermissionDenied, Kind::Denied, Kind::Denied),
            (Code::FailedPrecondition, Kind::Mismatch, Kind::Mismatch),
            (Code::DataLoss, Kind::Damaged, Kind::Damaged),
            (Code::OutOfRange, Kind::Damaged, Kind::Damaged),
            (Code::Internal, Kind::Unavailable, Kind::Incomplete),
            (Code::Unknown, Kind::Unavailable, Kind::Incomplete),
            (Code::Cancelled, Kind::Unavailable, Kind::Incomplete),
            (Code::DeadlineExceeded, Kind::Unavailable, Kind::Incomplete),
            (Code::ResourceExhausted, Kind::Unavailable, Kind::Incomplete),
        ] {
            let status = Status::new(code, "so");
            assert_eq!(from_status(&status, false).kind(), asking, "{code:?}");
            assert_eq!(from_status(&status, true).kind(), receiving, "{code:?}");
        }
    }

    #[test]
    fn a_text_from_elsewhere_stays_on_its_line() {
        let status = Status::unavailable(format!("a\nb\x1b[2J{}", "x".repeat(5000)));
        let error = from_status(&status, false);
        assert!(error.what().starts_with("the server failed: a b [2Jxxx"), "{error}");
        assert!(error.what().len() < 2100);
        assert!(!from_status(&Status::internal(""), true).what().is_empty());
    }
}
