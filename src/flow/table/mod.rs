//! What a datastore holds as tables for people: Arrow record batches, a bounded one at a time.
//!
//! | table      | one row for                                                      | read from                        |
//! |------------|------------------------------------------------------------------|----------------------------------|
//! | `blocks`   | each block that has a header, by height                          | single keys, of segments, too    |
//! | `keys`     | each key, in key order: its newest version                       | everything, once                 |
//! | `families` | each family of keys and stretch of heights: how many, how large  | everything, once                 |
//! | `findings` | each finding of a report                                         | the report                       |
//!
//! Hashes and keys are hex, since plots and people do not read bytes. Nothing here fails because of what a value holds: what cannot be
//! read is null.

mod blocks;
mod families;
mod findings;
mod keys;

pub use findings::{Row as FindingRow, findings};

use crate::base::checksum::hex;
use crate::base::progress::Progress;
use crate::entry::Snapshot;
use crate::error::{Error, Result};
use crate::flow::node::{Heights, Values};
use arrow_array::ArrayRef;
pub use arrow_array::RecordBatch as Batch;
use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use std::sync::Arc;

/// Most rows in a batch.
const BATCH_ROWS: usize = 8192;
/// About how many bytes of texts a batch may have: keys may be long.
const BATCH_BYTES: usize = 4 << 20;

/// A table that is read from a datastore.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Name {
    /// Block by block.
    Blocks,
    /// Key by key.
    Keys,
    /// Families over height.
    Families,
}

impl Name {
    /// As in `table=`.
    pub fn name(self) -> &'static str {
        match self {
            Name::Blocks => "blocks",
            Name::Keys => "keys",
            Name::Families => "families",
        }
    }

    /// The table of that name.
    pub fn from_name(name: &str) -> Result<Self> {
        [Name::Blocks, Name::Keys, Name::Families].into_iter().find(|table| table.name() == name).ok_or_else(
            || {
                Error::invalid(format!(
                    "expected \"blocks\", \"keys\", \"families\" or \"findings\" as the table, found {name:?}"
                ))
            },
        )
    }

    /// Its columns.
    pub fn schema(self) -> SchemaRef {
        match self {
            Name::Blocks => blocks::schema(),
            Name::Keys => keys::schema(),
            Name::Families => families::schema(),
        }
    }
}

/// A table that is being read, from its first batch to its last.
#[derive(Debug)]
pub struct Reading {
    rows: Rows,
}

#[derive(Debug)]
enum Rows {
    Blocks(blocks::Place),
    Keys(keys::Place),
    Families { done: bool },
}

impl Reading {
    /// At the beginning.
    pub fn new(name: Name) -> Self {
        let rows = match name {
            Name::Blocks => Rows::Blocks(blocks::Place::default()),
            Name::Keys => Rows::Keys(keys::Place::default()),
            Name::Families => Rows::Families { done: false },
        };
        Self { rows }
    }

    /// Is it the table of blocks, which needs [`next_blocks`](Self::next_blocks)?
    pub fn is_of_blocks(&self) -> bool {
        matches!(self.rows, Rows::Blocks(_))
    }

    /// The next blocks of the heights that are there; `None` at the end.
    pub fn next_blocks(
        &mut self,
        there: Heights,
        values: &dyn Values,
        progress: &Progress,
    ) -> Result<Option<RecordBatch>> {
        match &mut self.rows {
            Rows::Blocks(place) => blocks::next(place, there, values, progress),
            _ => Ok(None),
        }
    }

    /// The next rows of what is no table of blocks; `None` at the end. It must be given the same state each time.
    ///
    /// ```
    /// use evbackup::base::progress::Progress;
    /// use evbackup::flow::sample::{Shape, create};
    /// use evbackup::flow::table::{Name, Reading};
    /// use evbackup::{entry::Datastore, store::Store};
    ///
    /// let folder = tempfile::tempdir().unwrap();
    /// let path = folder.path().join("store");
    /// create(&path, 10, Shape::default())?;
    /// let store = Store::open(&path)?;
    /// let mut keys = Reading::new(Name::Keys);
    /// let batch = keys.next(&*store.snapshot()?, &Progress::new())?.unwrap();
    /// // Six of each block, the tip, and the state before the first block.
    /// assert_eq!(batch.num_rows(), 10 * 6 + 2);
    /// assert!(keys.next(&*store.snapshot()?, &Progress::new())?.is_none());
    /// # Ok::<(), evbackup::error::Error>(())
    /// ```
    pub fn next(&mut self, snapshot: &dyn Snapshot, progress: &Progress) -> Result<Option<RecordBatch>> {
        match &mut self.rows {
            Rows::Keys(place) => keys::next(place, snapshot, progress),
            // Blocks need single keys only: see `next_blocks`.
            Rows::Blocks(_) | Rows::Families { done: true } => Ok(None),
            Rows::Families { done } => {
                *done = true;
                families::all(snapshot, progress).map(Some)
            }
        }
    }
}

/// The places of the columns that were asked for, in that order.
pub fn pick(schema: &Schema, columns: Vec<String>) -> Result<Vec<usize>> {
    if columns.is_empty() {
        return Err(Error::invalid("expected at least one column, found none"));
    }
    let place = |column: String| {
        schema.index_of(&column).map_err(|_| {
            let known: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            Error::invalid(format!("expected columns of {}, found {column:?}", known.join(", ")))
        })
    };
    columns.into_iter().map(place).collect()
}

fn schema(fields: &[(&str, DataType, bool)]) -> SchemaRef {
    let field = |(name, kind, nullable): &(&str, DataType, bool)| Field::new(*name, kind.clone(), *nullable);
    Arc::new(Schema::new(fields.iter().map(field).collect::<Vec<_>>()))
}

/// Unix time in UTC; `unit` as in the schema.
fn time(unit: TimeUnit) -> DataType {
    DataType::Timestamp(unit, Some("UTC".into()))
}

fn batch(schema: SchemaRef, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    RecordBatch::try_new(schema, columns)
        .map_err(|error| Error::io(format!("cannot make a batch of rows: {error}")).caused_by(error))
}
