//! `open`: a datastore, or segments, that Python holds.

use super::blocks::{Read, Which, python_block, python_blocks, python_state};
use super::convert;
use super::job::Job;
use super::table::Table;
use crate::base::progress::Progress;
use crate::entry::OwnedEntry;
use crate::error::{Error, Result};
use crate::flow::node::Node;
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

/// A job that opens the segments of a chain for reading.
#[pyfunction]
#[pyo3(name = "open_segments")]
pub(crate) fn open_segments(paths: Vec<PathBuf>) -> Job {
    Job::new(
        move |_| open::segments(paths),
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

/// An open datastore or open segments, until they are closed.
#[pyclass(frozen, module = "evbackup._evbackup")]
pub(crate) struct Opened(Mutex<Option<open::Opened>>);

impl Opened {
    /// What is open, unless it was closed.
    pub(super) fn open(&self) -> Result<open::Opened> {
        let opened = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        opened.ok_or_else(|| Error::invalid("expected an open datastore, found one that was closed"))
    }
}

impl Drop for Opened {
    /// The last one waits for a thread, and whoever needs the GIL meanwhile has it.
    fn drop(&mut self) {
        let opened = self.0.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if opened.is_some() {
            // Where the interpreter has ended it goes with what was to be called.
            let _ = Python::try_attach(|py| py.detach(|| drop(opened)));
        }
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

    /// A job that says of which heights there are blocks: the first and the last, 0 and 0 where there are none.
    fn heights(&self) -> PyResult<Job> {
        let opened = self.open()?;
        let ask = |node: &Node, progress: &Progress| node.heights(progress).map(|at| (at.first, at.last));
        Ok(Job::new(
            move |progress| async move { opened.ask_node(ask, progress).await },
            |py, heights| Ok(heights.into_pyobject(py)?.into_any().unbind()),
        ))
    }

    /// A job that says the chain's name.
    fn chain_id(&self) -> PyResult<Job> {
        let opened = self.open()?;
        Ok(Job::new(
            move |progress| async move { opened.ask_node(Node::chain_id, progress).await },
            |py, name| Ok(name.into_pyobject(py)?.into_any().unbind()),
        ))
    }

    /// A job that finds a block; the newest one without a height or a hash.
    fn block(&self, which: Option<Which>) -> PyResult<Job> {
        let opened = self.open()?;
        let ask = move |node: &Node, progress: &Progress| {
            let block = match which {
                Some(Which::Hash(hash)) => node.block_of(&hash, progress),
                Some(Which::Height(height)) => node.block(height, progress),
                None => node.block(node.height(progress)?, progress),
            };
            Read::of(block?)
        };
        Ok(Job::new(
            move |progress| async move { opened.ask_node(ask, progress).await },
            |py, block| Ok(python_block(py, &block)?.into_any().unbind()),
        ))
    }

    /// A job that reads some blocks from `start` on and says where to go on; from the first one, or up to the last one, where None.
    fn blocks(&self, start: Option<u64>, stop: Option<u64>) -> PyResult<Job> {
        let opened = self.open()?;
        let ask = move |node: &Node, progress: &Progress| {
            let (start, stop) = match (start, stop) {
                (Some(start), Some(stop)) => (start, stop),
                (start, stop) => {
                    let there = node.heights(progress)?;
                    let end = if there.last == 0 { there.first } else { there.last.saturating_add(1) };
                    (start.unwrap_or(there.first), stop.unwrap_or(end))
                }
            };
            let blocks = node.blocks(start, stop, progress)?;
            let next = blocks.last().map(|last| last.height.saturating_add(1)).filter(|next| *next < stop);
            let blocks = blocks.into_iter().map(Read::of).collect::<Result<Vec<_>>>()?;
            Ok((blocks, next, stop))
        };
        Ok(Job::new(move |progress| async move { opened.ask_node(ask, progress).await }, python_blocks))
    }

    /// A job that finds the state after a block; after the newest one where None.
    fn state(&self, height: Option<u64>) -> PyResult<Job> {
        let opened = self.open()?;
        let ask = move |node: &Node, progress: &Progress| {
            let height = height.map_or_else(|| node.height(progress), Ok)?;
            node.state(height, progress)
        };
        Ok(Job::new(
            move |progress| async move { opened.ask_node(ask, progress).await },
            |py, state| python_state(py, &state),
        ))
    }

    /// A job that finds what the node keeps under a name.
    fn metadata(&self, name: String) -> PyResult<Job> {
        let opened = self.open()?;
        let ask = move |node: &Node, progress: &Progress| node.metadata(&name, progress);
        Ok(Job::new(
            move |progress| async move { opened.ask_node(ask, progress).await },
            |py, value| {
                Ok(value.map(|value| PyBytes::new(py, &value)).into_pyobject(py)?.into_any().unbind())
            },
        ))
    }

    /// A job that says what it is.
    fn info(&self) -> PyResult<Job> {
        let opened = self.open()?;
        let (path, reading) = (opened.path().to_owned(), opened.reading().clone());
        let look = move |progress| {
            work::blocking(progress, move |progress| {
                inspect::datastore_info(&path, false, &reading, progress)
            })
        };
        Ok(Job::new(look, convert::result))
    }

    /// A table of what is in it.
    fn table(this: Py<Self>, name: &str) -> PyResult<Table> {
        this.get().open()?;
        Ok(Table::of(this, name)?)
    }

    /// Lets go of the files, once what is being read is read.
    fn close(&self, py: Python<'_>) {
        let opened = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        py.detach(|| drop(opened));
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
