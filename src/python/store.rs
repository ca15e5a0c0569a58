//! `open`: a datastore that Python holds.

use super::convert;
use super::job::Job;
use crate::entry::OwnedEntry;
use crate::error::{Error, Result};
use crate::flow::sample::{self, Shape};
use crate::flow::work;
use crate::inspect;
use crate::open::{self, Page};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// A job that opens a datastore for reading.
#[pyfunction]
#[pyo3(name = "open")]
pub(crate) fn open_verb(path: PathBuf, reading: convert::Reading) -> Job {
    Job::new(
        move |_| open::open(path, convert::reading(reading)),
        |py, opened| Ok(Py::new(py, Opened(Mutex::new(Some(opened))))?.into_any()),
    )
}

/// A job that makes a store with a sample chain, or adds blocks to it; for the demo and the tests.
#[pyfunction]
#[pyo3(signature = (path, blocks, data_bytes=400))]
pub(crate) fn sample_store(path: PathBuf, blocks: u64, data_bytes: usize) -> Job {
    let shape = Shape { data_bytes };
    let make = move || {
        if path.exists() {
            sample::extend(&path, blocks, shape)
        } else {
            sample::create(&path, blocks, shape)
        }
    };
    Job::new(
        move |progress| work::blocking(progress, move |_| make().map(|written| written.entries)),
        convert::result,
    )
}

/// An open datastore, until it is closed.
#[pyclass(frozen, module = "evbackup._evbackup")]
pub(crate) struct Opened(Mutex<Option<open::Opened>>);

impl Opened {
    fn open(&self) -> Result<open::Opened> {
        let opened = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        opened.ok_or_else(|| Error::invalid("expected an open datastore, found one that was closed"))
    }
}

#[pymethods]
impl Opened {
    /// A job that finds the newest live entry of a key at a version.
    fn get(&self, key: Vec<u8>, version: Option<u64>) -> PyResult<Job> {
        let opened = self.open()?;
        Ok(Job::new(
            move |_| async move { opened.get(key, version).await },
            |py, found| {
                found.map_or_else(|| Ok(py.None()), |entry| Ok(python_entry(py, &entry)?.unbind().into_any()))
            },
        ))
    }

    /// A job that reads some of the newest live entries with a prefix, and the key to go on after.
    #[pyo3(signature = (prefix, after, version, limit))]
    fn page(
        &self,
        prefix: Vec<u8>,
        after: Option<Vec<u8>>,
        version: Option<u64>,
        limit: usize,
    ) -> PyResult<Job> {
        let opened = self.open()?;
        Ok(Job::new(move |_| async move { opened.page(prefix, after, version, limit).await }, python_page))
    }

    /// A job that says what it is.
    fn info(&self) -> PyResult<Job> {
        let opened = self.open()?;
        let (path, reading) = (opened.path().to_owned(), opened.reading().clone());
        let look = move |progress| {
            work::blocking(progress, move |progress| inspect::datastore_info(&path, &reading, progress))
        };
        Ok(Job::new(look, convert::result))
    }

    /// Lets go of the files, once what is being read is read.
    fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

fn python_page(py: Python<'_>, page: Page) -> PyResult<Py<PyAny>> {
    let entries = PyList::empty(py);
    for entry in &page.entries {
        entries.append(python_entry(py, entry)?)?;
    }
    let next = page.next.map(|key| PyBytes::new(py, &key));
    Ok((entries, next).into_pyobject(py)?.into_any().unbind())
}

/// The fields of `evbackup.Entry`, in its order.
fn python_entry<'py>(py: Python<'py>, entry: &OwnedEntry) -> PyResult<Bound<'py, PyTuple>> {
    let (key, value) = (PyBytes::new(py, &entry.key), PyBytes::new(py, &entry.value));
    (key, entry.version, value, entry.user_meta, entry.expires_at).into_pyobject(py)
}
