//! [`Error`] becomes the exception class of its kind, its sources the `__cause__` chain.

use crate::error::{Error, Kind};
use pyo3::exceptions::{PyException, PyKeyboardInterrupt, PyOSError};
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyType};
use std::error::Error as StdError;

mod classes {
    use pyo3::import_exception;

    import_exception!(evbackup.errors, InvalidArgument);
    import_exception!(evbackup.errors, IncompleteError);
    import_exception!(evbackup.errors, MissingError);
    import_exception!(evbackup.errors, LockedError);
    import_exception!(evbackup.errors, DeniedError);
    import_exception!(evbackup.errors, UnavailableError);
    import_exception!(evbackup.errors, ExistsError);
    import_exception!(evbackup.errors, UnsupportedError);
    import_exception!(evbackup.errors, NoSpaceError);
    import_exception!(evbackup.errors, MismatchError);
    import_exception!(evbackup.errors, IoError);
    import_exception!(evbackup.errors, DamagedError);
}

/// The class of a kind. Work is only ever cancelled because its caller was interrupted.
fn class(py: Python<'_>, kind: Kind) -> Bound<'_, PyType> {
    match kind {
        Kind::Invalid => py.get_type::<classes::InvalidArgument>(),
        Kind::Incomplete => py.get_type::<classes::IncompleteError>(),
        Kind::Missing => py.get_type::<classes::MissingError>(),
        Kind::Locked => py.get_type::<classes::LockedError>(),
        Kind::Denied => py.get_type::<classes::DeniedError>(),
        Kind::Unavailable => py.get_type::<classes::UnavailableError>(),
        Kind::Exists => py.get_type::<classes::ExistsError>(),
        Kind::Unsupported => py.get_type::<classes::UnsupportedError>(),
        Kind::NoSpace => py.get_type::<classes::NoSpaceError>(),
        Kind::Mismatch => py.get_type::<classes::MismatchError>(),
        Kind::Io => py.get_type::<classes::IoError>(),
        Kind::Damaged => py.get_type::<classes::DamagedError>(),
        Kind::Cancelled => py.get_type::<PyKeyboardInterrupt>(),
    }
}

/// The exception for `error`.
pub(crate) fn to_python(py: Python<'_>, error: &Error) -> PyErr {
    match build(py, error) {
        Ok(raised) | Err(raised) => raised,
    }
}

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        Python::attach(|py| to_python(py, &error))
    }
}

fn build(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    let class = class(py, error.kind());
    if error.kind() == Kind::Cancelled {
        return Ok(PyErr::from_value(class.call0()?));
    }
    let details = [
        ("hint", error.hint().into_pyobject(py)?.into_any()),
        ("path", error.path().into_pyobject(py)?.into_any()),
        ("offset", error.offset().into_pyobject(py)?.into_any()),
        ("errno", error.errno().into_pyobject(py)?.into_any()),
    ];
    let raised = PyErr::from_value(class.call((error.to_string(),), Some(&details.into_py_dict(py)?))?);
    raised.set_cause(py, error.source().map(|source| cause(py, source)));
    Ok(raised)
}

/// A source may be one of ours, the system's, or a library's.
fn cause(py: Python<'_>, source: &(dyn StdError + 'static)) -> PyErr {
    if let Some(ours) = source.downcast_ref::<Error>() {
        return to_python(py, ours);
    }
    let raised = match source.downcast_ref::<std::io::Error>().map(|error| (error, error.raw_os_error())) {
        Some((error, Some(errno))) => PyOSError::new_err((errno, error.to_string())),
        _ => PyException::new_err(source.to_string()),
    };
    raised.set_cause(py, source.source().map(|source| cause(py, source)));
    raised
}
