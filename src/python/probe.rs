//! A stand-in for a verb, so that tests can hold the boundary itself to its word: every kind of error, progress, cancellation.

use super::convert;
use super::job::Job;
use crate::base::progress::{Phase, Progress};
use crate::error::{Error, Kind, Result};
use pyo3::prelude::*;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// The codes of all kinds of error.
#[pyfunction]
pub(crate) fn kinds() -> Vec<&'static str> {
    Kind::ALL.iter().map(|kind| kind.code()).collect()
}

/// A job that works for `seconds`, holding the file `held` in a blocking thread as a verb holds its `.part`, and then gives its
/// numbers, or fails with the error of `code`.
#[pyfunction]
#[pyo3(signature = (seconds, code=None, held=None))]
pub(crate) fn probe(seconds: f64, code: Option<String>, held: Option<PathBuf>) -> Job {
    Job::new(
        move |progress| async move {
            let guard = progress.cancel_on_drop();
            let worked = tokio::task::spawn_blocking(move || work(&progress, seconds, held)).await;
            guard.disarm();
            let done = worked.map_err(|error| Error::io("the worker died").caused_by(error))??;
            fail(code.as_deref())?;
            Ok(done)
        },
        convert::result,
    )
}

fn work(progress: &Progress, seconds: f64, held: Option<PathBuf>) -> Result<Value> {
    struct Held(Option<PathBuf>);
    impl Drop for Held {
        fn drop(&mut self) {
            // The test that named the file looks whether it is gone.
            let _ = self.0.take().map(std::fs::remove_file);
        }
    }
    let _held = Held(held);
    let steps = (seconds * 200.0).max(0.0).round();
    progress.begin(Phase::Writing, 1 << 20);
    progress.set_height(7);
    while progress.state().elapsed_s < steps / 200.0 {
        progress.check()?;
        std::thread::sleep(Duration::from_millis(5));
        progress.add(1024, 1);
    }
    Ok(
        json!({ "entries": progress.state().entries, "seconds": seconds, "none": null, "list": [-1, true, "text"] }),
    )
}

fn fail(code: Option<&str>) -> Result<()> {
    let Some(code) = code else { return Ok(()) };
    let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.code() == code) else {
        return Err(Error::invalid(format!("expected the code of a kind of error, found {code:?}")));
    };
    Err(Error::new(kind, "expected a probe, found a probe")
        .at_path("probe.badger")
        .at_offset(7)
        .with_hint("look at the probe")
        .caused_by(Error::io("the cause").caused_by(std::io::Error::from_raw_os_error(5))))
}
