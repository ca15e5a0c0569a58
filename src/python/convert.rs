//! Python's values become ours; results become Python values of JSON types, which the face's dataclasses are made from.

use crate::error::{Error, Result};
use crate::flow::datastore::ReadOptions;
use crate::rpc;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use serde::Serialize;
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

/// A result as a Python value; the `finish` of most jobs.
pub(crate) fn result<T: Serialize>(py: Python<'_>, value: T) -> PyResult<Py<PyAny>> {
    let value = serde_json::to_value(value).map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
    Ok(plain(py, &value)?.unbind())
}

/// The keys of the dict that `evbackup.Tls` gives.
#[derive(Clone, FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Tls {
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    server_name: Option<String>,
}

impl From<Tls> for rpc::Tls {
    fn from(given: Tls) -> Self {
        Self { ca: given.ca, cert: given.cert, key: given.key, server_name: given.server_name }
    }
}

/// How a Badger directory is read: `offline`, `staging`, `any_file_system`, `max_rate`.
pub(crate) type Reading = (bool, Option<PathBuf>, bool, Option<u64>);

/// The same in our words.
pub(crate) fn reading((offline, staging, any_file_system, max_rate): Reading) -> ReadOptions {
    ReadOptions { offline, staging, any_file_system, max_rate, ..ReadOptions::default() }
}

/// A duration that Python gives in seconds.
pub(crate) fn seconds(value: f64, name: &str) -> Result<Duration> {
    match Duration::try_from_secs_f64(value) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err(Error::invalid(format!("expected more than 0 seconds for {name}, found {value}"))),
    }
}

fn plain<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Null => py.None().into_bound(py),
        Value::Bool(value) => value.into_pyobject(py)?.to_owned().into_any(),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(value), _) => value.into_pyobject(py)?.into_any(),
            (None, Some(value)) => value.into_pyobject(py)?.into_any(),
            (None, None) => number.as_f64().into_pyobject(py)?.into_any(),
        },
        Value::String(value) => value.into_pyobject(py)?.into_any(),
        Value::Array(values) => {
            let list = PyList::empty(py);
            for value in values {
                list.append(plain(py, value)?)?;
            }
            list.into_any()
        }
        Value::Object(fields) => {
            let dict = PyDict::new(py);
            for (name, value) in fields {
                dict.set_item(name, plain(py, value)?)?;
            }
            dict.into_any()
        }
    })
}
