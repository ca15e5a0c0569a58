//! The private module `evbackup._evbackup`: the only code that knows Python.
//!
//! The public face is Python (`python/evbackup`): signatures, defaults, documents. What is here takes plain values, starts a
//! [`job::Job`] for each verb and turns results into dicts of JSON types and errors into the classes of
//! `evbackup.errors`. No logic: what a verb does, it does in Rust without Python as well.

mod backup;
mod blocks;
mod convert;
mod error;
mod job;
mod probe;
mod restore;
mod serve;
mod store;
mod table;
mod verify;

use pyo3::prelude::*;

/// The native half of evbackup; use the package `evbackup`.
#[pymodule]
mod _evbackup {
    #[pymodule_export]
    use super::{
        backup::backup_verb,
        job::{Job, shutdown},
        probe::{kinds, probe},
        restore::{align_verb, apply_verb, restore_verb},
        serve::{Server, serve_verb},
        store::{Opened, open_segments, open_verb, sample_store},
        table::{Table, findings_table},
        verify::{digest_verb, inspect_verb, verify_live, verify_verb, write_file},
    };
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        super::log_to_python(module.py());
        super::job::imported();
        Ok(())
    }
}

/// Sends Rust's log records to `logging.getLogger("evbackup")`. Levels are asked each time: a cached "off" would outlive
/// the `basicConfig` of a program that sets up its logging later.
fn log_to_python(py: Python<'_>) {
    let logger = pyo3_log::Logger::new(py, pyo3_log::Caching::Loggers);
    // A second interpreter in this process finds the first one's logger in place: then that one stays.
    let _ = logger.map(|logger| {
        logger
            .filter(log::LevelFilter::Warn)
            .filter_target("evbackup".to_owned(), log::LevelFilter::Debug)
            .install()
    });
}
