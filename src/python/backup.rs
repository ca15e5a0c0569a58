//! `backup`: options in, a job out.

use super::convert::{self, Tls};
use super::job::Job;
use crate::backup::{self, Options, Origin, Output, Since, Via};
use crate::error::{Error, Result};
use crate::rpc::{Address, Connect, DEFAULT_PORT};
use pyo3::prelude::*;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// The keys of the dict that `evbackup.backup` passes; the meaning of each is documented there.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Given {
    source: (String, PathBuf),
    output: (String, PathBuf),
    manifest: Option<PathBuf>,
    since: (String, Option<PathBuf>, u64),
    via: String,
    raw: bool,
    on_mismatch: String,
    exact: Option<bool>,
    target_height: Option<u64>,
    overwrite: bool,
    tls: Option<Tls>,
    token: Option<String>,
    headers: Vec<(String, String)>,
    insecure: bool,
    max_rate: Option<u64>,
    reading: convert::Reading,
    connect_timeout_s: f64,
    idle_timeout_s: f64,
    run_id: Option<String>,
}

/// A job that takes a backup.
#[pyfunction]
#[pyo3(name = "backup")]
pub(crate) fn backup_verb(options: Given) -> PyResult<Job> {
    let options = options.understood()?;
    Ok(Job::new(move |progress| backup::run(options, progress), convert::result))
}

impl Given {
    fn understood(self) -> Result<Options> {
        let on_mismatch_full = match self.on_mismatch.as_str() {
            "error" => false,
            "full" => true,
            other => {
                return Err(Error::invalid(format!(
                    "expected \"error\" or \"full\" for on_mismatch, found {other:?}"
                )));
            }
        };
        let via = match self.via.as_str() {
            "auto" => Via::Auto,
            "rpc" => Via::Rpc,
            "blocks" => Via::Blocks,
            other => {
                return Err(Error::invalid(format!(
                    "expected \"auto\", \"rpc\" or \"blocks\" for via, found {other:?}"
                )));
            }
        };
        Ok(Options {
            origin: self.origin()?,
            output: self.output()?,
            via,
            raw: self.raw,
            since: match self.since {
                (kind, _, _) if kind == "auto" => Since::Auto,
                (_, Some(segment), _) => Since::Segment(segment),
                (_, None, version) => Since::Version(version),
            },
            on_mismatch_full,
            exact: self.exact,
            target_height: self.target_height,
            overwrite: self.overwrite,
            run_id: self.run_id,
        })
    }

    fn origin(&self) -> Result<Origin> {
        let (kind, place) = &self.source;
        if kind == "directory" {
            return Ok(Origin::Datastore(place.clone(), convert::reading(self.reading.clone())));
        }
        let address = Address::parse(&place.to_string_lossy(), DEFAULT_PORT)?;
        Ok(Origin::Server(Box::new(Connect {
            tls: self.tls.clone().map(Into::into),
            token: self.token.clone(),
            headers: self.headers.clone(),
            insecure: self.insecure,
            connect_timeout: convert::seconds(self.connect_timeout_s, "connect_timeout_s")?,
            idle_timeout: convert::seconds(self.idle_timeout_s, "idle_timeout_s")?,
            max_rate: self.max_rate,
            ..Connect::new(address)
        })))
    }

    fn output(&self) -> Result<Output> {
        let (kind, path) = &self.output;
        Ok(match kind.as_str() {
            "folder" => Output::Folder(path.clone()),
            "stdout" => {
                // The descriptor itself: Rust's own standard output looks for line ends in what passes.
                let stdout = std::io::stdout().as_fd().try_clone_to_owned();
                let stdout =
                    stdout.map_err(|error| Error::from_io(error, "write to it", "standard output"))?;
                let writer: Box<dyn Write + Send> = Box::new(File::from(stdout));
                Output::Stream { writer: Arc::new(Mutex::new(writer)), manifest: self.manifest.clone() }
            }
            _ => Output::File(path.clone()),
        })
    }
}
