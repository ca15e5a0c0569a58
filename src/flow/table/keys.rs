//! The table of keys.

use super::{BATCH_BYTES, BATCH_ROWS, batch, hex, schema as schema_of, time};
use crate::base::progress::Progress;
use crate::entry::{Entry, Snapshot, Source as _};
use crate::error::Result;
use crate::evnode::key::{Key, SyncKey};
use crate::evnode::record::ExecMeta;
use arrow_array::RecordBatch;
use arrow_array::builder::{
    BooleanBuilder, StringBuilder, TimestampSecondBuilder, UInt8Builder, UInt64Builder,
};
use arrow_schema::{DataType, SchemaRef, TimeUnit};
use std::sync::Arc;

/// Where the next batch begins.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// Keys below it have been read.
    from: Vec<u8>,
    done: bool,
}

pub(super) fn schema() -> SchemaRef {
    schema_of(&[
        ("family", DataType::Utf8, false),
        ("height", DataType::UInt64, true),
        ("name", DataType::Utf8, false),
        ("key", DataType::Utf8, false),
        ("version", DataType::UInt64, false),
        ("versions", DataType::UInt64, false),
        ("deleted", DataType::Boolean, false),
        ("key_bytes", DataType::UInt64, false),
        ("value_bytes", DataType::UInt64, false),
        ("user_meta", DataType::UInt8, false),
        ("expires_at", time(TimeUnit::Second), true),
    ])
}

/// The block that an entry belongs to, if it belongs to one. Some say so in their value.
pub(super) fn height(key: &Key<'_>, value: &[u8]) -> Option<u64> {
    match key {
        Key::Header(height)
        | Key::Data(height)
        | Key::Signature(height)
        | Key::State(height)
        | Key::DaHeight(height, _)
        | Key::Sync(_, SyncKey::Height(height)) => Some(*height),
        Key::Index(_) => crate::evnode::key::height(value),
        Key::ExecMeta(_) => ExecMeta::decode(value).ok().map(|meta| meta.height),
        _ => None,
    }
}

pub(super) fn next(
    place: &mut Place,
    snapshot: &dyn Snapshot,
    progress: &Progress,
) -> Result<Option<RecordBatch>> {
    if place.done {
        return Ok(None);
    }
    let mut source = snapshot.prefix(b"", &place.from)?;
    let mut rows = Rows::default();
    let mut last: Vec<u8> = Vec::new();
    loop {
        if !source.advance()? {
            place.done = true;
            break;
        }
        progress.check()?;
        let entry = source.entry();
        if rows.is_at(&last, entry.key) {
            rows.versions += 1;
            continue;
        }
        if rows.is_full() {
            // The smallest key above the last one.
            last.push(0);
            place.from = last;
            break;
        }
        last.clear();
        last.extend_from_slice(entry.key);
        rows.put(&entry);
    }
    rows.finish()
}

#[derive(Default)]
struct Rows {
    family: StringBuilder,
    height: UInt64Builder,
    name: StringBuilder,
    key: StringBuilder,
    version: UInt64Builder,
    counts: UInt64Builder,
    deleted: BooleanBuilder,
    key_bytes: UInt64Builder,
    value_bytes: UInt64Builder,
    user_meta: UInt8Builder,
    expires_at: TimestampSecondBuilder,
    count: usize,
    /// Of the row that was put last; appended once all are counted.
    versions: u64,
    bytes: usize,
}

impl Rows {
    fn is_at(&self, last: &[u8], key: &[u8]) -> bool {
        self.count > 0 && last == key
    }

    fn is_full(&self) -> bool {
        self.count >= BATCH_ROWS || self.bytes >= BATCH_BYTES
    }

    fn put(&mut self, entry: &Entry<'_>) {
        self.count_versions();
        let key = Key::parse(entry.key);
        let name = entry.key.escape_ascii().to_string();
        self.bytes += name.len() + 2 * entry.key.len();
        self.family.append_value(key.family().name());
        self.height.append_option(height(&key, entry.value));
        self.name.append_value(name);
        self.key.append_value(hex(entry.key));
        self.version.append_value(entry.version);
        self.deleted.append_value(entry.is_delete());
        self.key_bytes.append_value(entry.key.len() as u64);
        self.value_bytes.append_value(entry.value.len() as u64);
        self.user_meta.append_value(entry.user_meta);
        let expires_at = Some(entry.expires_at).filter(|at| *at > 0);
        self.expires_at.append_option(expires_at.and_then(|at| i64::try_from(at).ok()));
        self.count += 1;
        self.versions = 1;
    }

    fn count_versions(&mut self) {
        if self.count > 0 {
            self.counts.append_value(self.versions);
        }
    }

    fn finish(mut self) -> Result<Option<RecordBatch>> {
        if self.count == 0 {
            return Ok(None);
        }
        self.count_versions();
        let columns: Vec<arrow_array::ArrayRef> = vec![
            Arc::new(self.family.finish()),
            Arc::new(self.height.finish()),
            Arc::new(self.name.finish()),
            Arc::new(self.key.finish()),
            Arc::new(self.version.finish()),
            Arc::new(self.counts.finish()),
            Arc::new(self.deleted.finish()),
            Arc::new(self.key_bytes.finish()),
            Arc::new(self.value_bytes.finish()),
            Arc::new(self.user_meta.finish()),
            Arc::new(self.expires_at.finish().with_timezone("UTC")),
        ];
        batch(schema(), columns).map(Some)
    }
}
