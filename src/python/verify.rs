//! `verify`, `inspect` and `digest`: what only reads.

use super::convert;
use super::job::Job;
use crate::base::durable::{self, Replace};
use crate::error::Error;
use crate::flow::work;
use crate::rpc::{Address, Connect, DEFAULT_PORT};
use crate::{digest, inspect, verify};
use pyo3::prelude::*;
use std::path::PathBuf;

/// The keys of the dict that `evbackup.verify` gives.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Verify {
    paths: Vec<PathBuf>,
    level: String,
    chain: Option<bool>,
    trusted: Option<(u64, String)>,
    genesis: Option<PathBuf>,
    signatures: String,
    was_based: bool,
    el_height: Option<u64>,
    el_timestamp: Option<u64>,
    el_state_root: Option<String>,
}

/// A job that proves segments.
#[pyfunction]
#[pyo3(name = "verify")]
pub(crate) fn verify_verb(given: Verify) -> PyResult<Job> {
    let level = match given.level.as_str() {
        "quick" => verify::Level::Quick,
        "full" => verify::Level::Full,
        other => {
            return Err(
                Error::invalid(format!("expected \"quick\" or \"full\" for level, found {other:?}")).into()
            );
        }
    };
    let execution_layer = match (given.el_height, given.el_timestamp, given.el_state_root) {
        (None, None, None) => None,
        (Some(height), timestamp, state_root) => Some(verify::El { height, timestamp, state_root }),
        _ => {
            let what = "expected el_height with el_timestamp or el_state_root, found one of these alone";
            return Err(Error::invalid(what).into());
        }
    };
    let options = verify::Options {
        paths: given.paths,
        level,
        chain: given.chain,
        trusted: given.trusted,
        genesis: given.genesis,
        was_based: given.was_based,
        signatures: verify::Signatures::from_name(&given.signatures)?,
        execution_layer,
    };
    Ok(Job::new(move |progress| verify::run(options, progress), convert::result))
}

/// The keys of the dict that `evbackup.verify` passes for the address of a node.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Live {
    addr: String,
    against: Vec<PathBuf>,
    sample: usize,
    trusted: Option<(u64, String)>,
    signatures: String,
    tls: Option<convert::Tls>,
    token: Option<String>,
    headers: Vec<(String, String)>,
    insecure: bool,
    connect_timeout_s: f64,
    idle_timeout_s: f64,
}

/// A job that holds a node against a backup.
#[pyfunction]
pub(crate) fn verify_live(options: Live) -> PyResult<Job> {
    let connect = Connect {
        tls: options.tls.map(Into::into),
        token: options.token,
        headers: options.headers,
        insecure: options.insecure,
        connect_timeout: convert::seconds(options.connect_timeout_s, "connect_timeout_s")?,
        idle_timeout: convert::seconds(options.idle_timeout_s, "idle_timeout_s")?,
        ..Connect::new(Address::parse(&options.addr, DEFAULT_PORT)?)
    };
    let options = verify::live::Options {
        connect: Box::new(connect),
        against: options.against,
        sample: options.sample,
        trusted: options.trusted,
        signatures: verify::Signatures::from_name(&options.signatures)?,
    };
    Ok(Job::new(move |progress| verify::live::run(options, progress), convert::result))
}

/// A job that says what a segment or a datastore is.
#[pyfunction]
#[pyo3(name = "inspect")]
pub(crate) fn inspect_verb(path: PathBuf, count: bool, reading: convert::Reading) -> Job {
    Job::new(move |progress| inspect::run(path, count, convert::reading(reading), progress), convert::result)
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

/// A job that writes a file in one piece: the page of a report.
#[pyfunction]
pub(crate) fn write_file(path: PathBuf, text: Vec<u8>, overwrite: bool) -> Job {
    let replace = if overwrite { Replace::Always } else { Replace::Never };
    let write = move |progress| work::blocking(progress, move |_| durable::write_file(&path, &text, replace));
    Job::new(write, convert::result)
}
