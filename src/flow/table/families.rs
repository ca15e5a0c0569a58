//! The table of families: what the keys of each weigh, over the height of the chain.

use super::keys::height;
use super::{batch, schema as schema_of};
use crate::base::progress::Progress;
use crate::entry::{Snapshot, Source as _};
use crate::error::Result;
use crate::evnode::key::{Family, Key};
use arrow_array::RecordBatch;
use arrow_array::builder::{StringBuilder, UInt64Builder};
use arrow_schema::{DataType, SchemaRef};
use std::collections::BTreeMap;
use std::sync::Arc;

/// So many stretches of heights at most: as many as a picture shows.
const STRETCHES: usize = 512;

pub(super) fn schema() -> SchemaRef {
    schema_of(&[
        ("family", DataType::Utf8, false),
        ("from_height", DataType::UInt64, true),
        ("to_height", DataType::UInt64, true),
        ("keys", DataType::UInt64, false),
        ("bytes", DataType::UInt64, false),
    ])
}

/// Keys, and bytes of them and their values.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Weight {
    keys: u64,
    bytes: u64,
}

impl Weight {
    fn add(&mut self, other: Weight) {
        self.keys = self.keys.saturating_add(other.keys);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

type Weights = BTreeMap<Family, Weight>;

/// What was weighed, in stretches of a common width that doubles when there are too many of them.
#[derive(Debug)]
struct Scale {
    /// As a power of two.
    width: u32,
    stretches: BTreeMap<u64, Weights>,
    /// What belongs to no block.
    rest: Weights,
    /// The lowest and the highest height of all.
    ends: (u64, u64),
}

impl Scale {
    fn new() -> Self {
        Self { width: 0, stretches: BTreeMap::new(), rest: Weights::new(), ends: (u64::MAX, 0) }
    }

    fn add(&mut self, family: Family, height: Option<u64>, weight: Weight) {
        let Some(height) = height else {
            return self.rest.entry(family).or_default().add(weight);
        };
        self.ends = (self.ends.0.min(height), self.ends.1.max(height));
        self.stretches.entry(height >> self.width).or_default().entry(family).or_default().add(weight);
        while self.stretches.len() > STRETCHES {
            self.widen();
        }
    }

    fn widen(&mut self) {
        self.width += 1;
        let mut wider: BTreeMap<u64, Weights> = BTreeMap::new();
        for (at, weights) in std::mem::take(&mut self.stretches) {
            let into = wider.entry(at >> 1).or_default();
            for (family, weight) in weights {
                into.entry(family).or_default().add(weight);
            }
        }
        self.stretches = wider;
    }

    fn rows(&self) -> Result<RecordBatch> {
        let (mut family, mut keys, mut bytes) =
            (StringBuilder::new(), UInt64Builder::new(), UInt64Builder::new());
        let (mut from, mut to) = (UInt64Builder::new(), UInt64Builder::new());
        let mut put = |name: Family, stretch: Option<(u64, u64)>, weight: Weight| {
            family.append_value(name.name());
            from.append_option(stretch.map(|(from, _)| from));
            to.append_option(stretch.map(|(_, to)| to));
            keys.append_value(weight.keys);
            bytes.append_value(weight.bytes);
        };
        for (at, weights) in &self.stretches {
            let first = at << self.width;
            let last = first | ((1 << self.width) - 1);
            let stretch = (first.max(self.ends.0), last.min(self.ends.1));
            for (family, weight) in weights {
                put(*family, Some(stretch), *weight);
            }
        }
        for (family, weight) in &self.rest {
            put(*family, None, *weight);
        }
        batch(
            schema(),
            vec![
                Arc::new(family.finish()),
                Arc::new(from.finish()),
                Arc::new(to.finish()),
                Arc::new(keys.finish()),
                Arc::new(bytes.finish()),
            ],
        )
    }
}

/// Weighs the newest live version of every key.
pub(super) fn all(snapshot: &dyn Snapshot, progress: &Progress) -> Result<RecordBatch> {
    let mut source = snapshot.prefix(b"", b"")?;
    let mut scale = Scale::new();
    let mut last: Option<Vec<u8>> = None;
    while source.advance()? {
        progress.check()?;
        let entry = source.entry();
        if last.as_deref() == Some(entry.key) {
            continue;
        }
        let key = last.get_or_insert_default();
        key.clear();
        key.extend_from_slice(entry.key);
        if !entry.is_delete() {
            let key = Key::parse(entry.key);
            let weight = Weight { keys: 1, bytes: (entry.key.len() + entry.value.len()) as u64 };
            scale.add(key.family(), height(&key, entry.value), weight);
        }
    }
    scale.rows()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_widen_and_lose_nothing() {
        let one = Weight { keys: 1, bytes: 10 };
        let mut scale = Scale::new();
        // A chain that begins high up has stretches as narrow as one that begins at 1.
        for height in 10_000_000..10_002_000 {
            scale.add(Family::Headers, Some(height), one);
            scale.add(Family::Data, Some(height), one);
        }
        scale.add(Family::Tip, None, one);
        assert_eq!((scale.width, scale.stretches.len()), (2, 500));
        let total: u64 = scale.stretches.values().flat_map(BTreeMap::values).map(|weight| weight.keys).sum();
        assert_eq!(total, 4000);
        let rows = scale.rows().unwrap();
        assert_eq!(rows.num_rows(), 1001);
        scale.add(Family::Headers, Some(u64::MAX), one);
        assert!(scale.rows().is_ok());
        scale.width = 63;
        assert!(scale.rows().is_ok());
    }
}
