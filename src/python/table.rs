//! Tables, handed over by the Arrow `PyCapsule` interface: whatever reads it (polars, `DuckDB`, pandas, …) takes the batches one by one, and
//! no library for frames is needed here.

use super::store::Opened;
use crate::error::{Error, Result};
use crate::flow::table::{Batch, FindingRow, Name, Reading, findings, pick};
use crate::open;
use arrow_array::cast::AsArray;
use arrow_array::ffi_stream::FFI_ArrowArrayStream;
use arrow_array::types::{TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt64Type};
use arrow_array::{Array, RecordBatchReader};
use arrow_schema::ffi::FFI_ArrowSchema;
use arrow_schema::{ArrowError, DataType, SchemaRef, TimeUnit};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyTuple};

/// Rows that can be read any number of times.
#[pyclass(frozen, module = "evbackup._evbackup")]
pub(crate) struct Table {
    rows: Rows,
    schema: SchemaRef,
    /// The places of the columns that are shown; `None`: all.
    picked: Option<Vec<usize>>,
}

enum Rows {
    Of(Py<Opened>, Name),
    Ready(Batch),
}

impl Rows {
    fn clone(&self, py: Python<'_>) -> Self {
        match self {
            Rows::Of(opened, name) => Rows::Of(opened.clone_ref(py), *name),
            Rows::Ready(batch) => Rows::Ready(batch.clone()),
        }
    }
}

impl Table {
    /// A table of an open datastore.
    pub(super) fn of(opened: Py<Opened>, name: &str) -> Result<Self> {
        let name = Name::from_name(name)?;
        Ok(Self { rows: Rows::Of(opened, name), schema: name.schema(), picked: None })
    }

    fn reader(&self) -> Result<Reader> {
        let rows = match &self.rows {
            Rows::Of(opened, name) => Unread::Datastore(opened.get().open()?, Some(Reading::new(*name))),
            Rows::Ready(batch) => Unread::Ready(Some(batch.clone())),
        };
        Ok(Reader { rows, schema: self.schema.clone(), picked: self.picked.clone(), asked: here() })
    }
}

#[pymethods]
impl Table {
    /// The names of the columns.
    fn columns(&self) -> Vec<String> {
        self.schema.fields().iter().map(|field| field.name().clone()).collect()
    }

    /// The same with these columns only, in this order.
    fn select(&self, py: Python<'_>, columns: Vec<String>) -> PyResult<Self> {
        let picked = pick(&self.schema, columns)?;
        let schema = self.schema.project(&picked).map_err(|error| arrow(&error))?;
        // The places in what is read.
        let before = |at: &usize| self.picked.as_ref().map_or(Some(*at), |before| before.get(*at).copied());
        let picked = picked.iter().filter_map(before).collect();
        Ok(Self { rows: self.rows.clone(py), schema: schema.into(), picked: Some(picked) })
    }

    /// The first rows, as tuples of plain values; times in nanoseconds.
    fn head<'py>(&self, py: Python<'py>, rows: usize) -> PyResult<Vec<Bound<'py, PyTuple>>> {
        let mut reader = self.reader()?;
        let Some(batch) = py.detach(|| reader.advance())? else { return Ok(Vec::new()) };
        let row = |at| {
            let cells = batch.columns().iter().map(|column| cell(py, column, at));
            PyTuple::new(py, cells.collect::<PyResult<Vec<_>>>()?)
        };
        (0..batch.num_rows().min(rows)).map(row).collect()
    }

    /// A capsule with a stream of the rows, from the first one.
    fn stream<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        let stream = FFI_ArrowArrayStream::new(Box::new(self.reader()?));
        PyCapsule::new_with_value(py, stream, c"arrow_array_stream")
    }

    /// A capsule with the names and kinds of the columns.
    fn schema<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        let schema = FFI_ArrowSchema::try_from(&*self.schema).map_err(|error| arrow(&error))?;
        PyCapsule::new_with_value(py, schema, c"arrow_schema")
    }
}

/// The table of findings, from the fields of each.
#[pyfunction]
pub(crate) fn findings_table(rows: Vec<Finding>) -> PyResult<Table> {
    let rows: Vec<_> = rows.into_iter().map(FindingRow::from).collect();
    let batch = findings(&rows)?;
    Ok(Table { schema: batch.schema(), rows: Rows::Ready(batch), picked: None })
}

/// The fields of `evbackup.Finding`, by name.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Finding {
    level: String,
    code: String,
    message: String,
    file: Option<String>,
    offset: Option<u64>,
    key: Option<String>,
    height: Option<u64>,
    hint: Option<String>,
    until: Option<u64>,
    rule: Option<u64>,
    kind: String,
}

impl From<Finding> for FindingRow {
    fn from(given: Finding) -> Self {
        let Finding { level, code, message, file, offset, key, height, hint, until, rule, kind } = given;
        Self { level, code, message, file, offset, key, height, hint, until, rule, kind }
    }
}

/// Batches as somebody pulls them, on whatever thread.
struct Reader {
    rows: Unread,
    schema: SchemaRef,
    picked: Option<Vec<usize>>,
    /// The thread that asked for the rows.
    asked: std::thread::ThreadId,
}

enum Unread {
    Datastore(open::Opened, Option<Reading>),
    Ready(Option<Batch>),
}

impl Reader {
    fn advance(&mut self) -> Result<Option<Batch>> {
        let batch = match &mut self.rows {
            Unread::Ready(batch) => batch.take(),
            Unread::Datastore(opened, reading) => {
                let Some(at) = reading.take() else { return Ok(None) };
                let read = detached(self.asked, || opened.read_table(at, &|| heard(self.asked)))?;
                read.map(|(at, batch)| {
                    *reading = Some(at);
                    batch
                })
            }
        };
        match (batch, &self.picked) {
            (Some(batch), Some(picked)) => batch.project(picked).map(Some).map_err(|error| arrow(&error)),
            (batch, _) => Ok(batch),
        }
    }
}

impl Iterator for Reader {
    type Item = std::result::Result<Batch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().map_err(|error| ArrowError::ExternalError(Box::new(error))).transpose()
    }
}

impl RecordBatchReader for Reader {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

fn here() -> std::thread::ThreadId {
    std::thread::current().id()
}

/// Lets go of the interpreter meanwhile, where the reader holds it: other threads go on, and those that read for us can log.
fn detached<T: Send>(asked: std::thread::ThreadId, read: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    if here() != asked {
        return read();
    }
    let mut read = Some(read);
    let mut run = || read.take().map(|read| read());
    let ran = Python::try_attach(|py| py.detach(&mut run)).flatten();
    // The interpreter may have ended.
    ran.or_else(run).unwrap_or_else(|| Err(Error::cancelled()))
}

/// Fails after Ctrl-C. Only the thread that asked for the rows is sure to be one of Python's, which may wait for the interpreter without
/// being waited for.
fn heard(asked: std::thread::ThreadId) -> Result<()> {
    if here() != asked {
        return Ok(());
    }
    let interrupted = Python::try_attach(|py| py.check_signals().is_err());
    if interrupted == Some(true) { Err(Error::cancelled()) } else { Ok(()) }
}

fn arrow(error: &ArrowError) -> Error {
    Error::io(format!("cannot make a table: {error}"))
}

/// One value of the kinds that our tables have.
fn cell(py: Python<'_>, column: &dyn Array, at: usize) -> PyResult<Py<PyAny>> {
    if column.is_null(at) {
        return Ok(py.None());
    }
    let value = match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().value(at).into_pyobject(py)?.into_any(),
        DataType::Boolean => column.as_boolean().value(at).into_pyobject(py)?.to_owned().into_any(),
        DataType::UInt8 => column.as_primitive::<UInt8Type>().value(at).into_pyobject(py)?.into_any(),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            column.as_primitive::<TimestampNanosecondType>().value(at).into_pyobject(py)?.into_any()
        }
        DataType::Timestamp(_, _) => {
            let seconds = column.as_primitive::<TimestampSecondType>().value(at);
            seconds.saturating_mul(1_000_000_000).into_pyobject(py)?.into_any()
        }
        _ => column.as_primitive::<UInt64Type>().value(at).into_pyobject(py)?.into_any(),
    };
    Ok(value.unbind())
}
