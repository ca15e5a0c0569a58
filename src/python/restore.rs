//! `restore`, `apply` and `align`: options in, a job out.

use super::convert;
use super::job::Job;
use crate::base::durable::Owner;
use crate::{align, apply, restore};
use pyo3::prelude::*;
use std::path::PathBuf;

/// The keys of the dict that `evbackup.restore` passes; the meaning of each is documented there.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the call")]
pub(crate) struct Given {
    paths: Vec<PathBuf>,
    dest: PathBuf,
    engine: Option<String>,
    history: bool,
    at_height: Option<u64>,
    role: Option<String>,
    drop_queue: bool,
    requeue: bool,
    force: bool,
    trusted: Option<(u64, String)>,
    genesis: Option<PathBuf>,
    was_based: bool,
    overwrite: bool,
    keep_replaced: bool,
    owner: Option<(u32, u32)>,
    dry_run: bool,
    memory_mib: usize,
    reading: convert::Reading,
}

/// A job that restores a chain or copies a datastore.
#[pyfunction]
#[pyo3(name = "restore")]
pub(crate) fn restore_verb(options: Given) -> Job {
    let options = restore::Options {
        paths: options.paths,
        dest: options.dest,
        engine: options.engine,
        history: options.history,
        at_height: options.at_height,
        role: options.role,
        drop_queue: options.drop_queue,
        requeue: options.requeue,
        force: options.force,
        trusted: options.trusted,
        genesis: options.genesis,
        was_based: options.was_based,
        overwrite: options.overwrite,
        keep_replaced: options.keep_replaced,
        owner: options.owner.map(|(uid, gid)| Owner { uid, gid }),
        dry_run: options.dry_run,
        memory_mib: options.memory_mib,
        reading: convert::reading(options.reading),
    };
    Job::new(move |progress| restore::run(options, progress), convert::result)
}

/// A job that applies increments to a store.
#[pyfunction]
#[pyo3(name = "apply")]
pub(crate) fn apply_verb(paths: Vec<PathBuf>, store: PathBuf) -> Job {
    Job::new(move |progress| apply::run(apply::Options { paths, store }, progress), convert::result)
}

/// A job that compares a block of the execution layer with a backup or a datastore.
#[pyfunction]
#[pyo3(name = "align")]
pub(crate) fn align_verb(
    paths: Vec<PathBuf>,
    el_height: u64,
    el_timestamp: Option<u64>,
    el_state_root: Option<[u8; 32]>,
    reading: convert::Reading,
) -> Job {
    let reading = convert::reading(reading);
    let options = align::Options { paths, el_height, el_timestamp, el_state_root, reading };
    Job::new(move |progress| align::run(options, progress), convert::result)
}
