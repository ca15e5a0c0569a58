//! `verify`, `inspect` and `digest`: what only reads.

use super::convert;
use super::job::Job;
use crate::error::Error;
use crate::{digest, inspect, verify};
use pyo3::prelude::*;
use std::path::PathBuf;

/// A job that proves segments.
#[pyfunction]
#[pyo3(name = "verify")]
pub(crate) fn verify_verb(
    paths: Vec<PathBuf>,
    level: &str,
    chain: Option<bool>,
    trusted: Option<(u64, String)>,
) -> PyResult<Job> {
    let level = match level {
        "quick" => verify::Level::Quick,
        "full" => verify::Level::Full,
        other => {
            return Err(
                Error::invalid(format!("expected \"quick\" or \"full\" for level, found {other:?}")).into()
            );
        }
    };
    let options = verify::Options { paths, level, chain, trusted };
    Ok(Job::new(move |progress| verify::run(options, progress), convert::result))
}

/// A job that says what a segment or a datastore is.
#[pyfunction]
#[pyo3(name = "inspect")]
pub(crate) fn inspect_verb(path: PathBuf, reading: convert::Reading) -> Job {
    Job::new(move |progress| inspect::run(path, convert::reading(reading), progress), convert::result)
}

/// A job that takes the logical digest.
#[pyfunction]
#[pyo3(name = "digest")]
pub(crate) fn digest_verb(
    paths: Vec<PathBuf>,
    at: Option<u64>,
    now: Option<u64>,
    history: bool,
    reading: convert::Reading,
) -> Job {
    let options = digest::Options { paths, at, now, history, reading: convert::reading(reading) };
    Job::new(move |progress| digest::run(options, progress), convert::result)
}
