//! The table of findings.

use super::{batch, schema as schema_of};
use crate::error::Result;
use arrow_array::RecordBatch;
use arrow_array::builder::{StringBuilder, UInt64Builder};
use arrow_schema::{DataType, SchemaRef};
use std::sync::Arc;

/// A finding as a report holds it: see [`Finding`](crate::flow::finding::Finding).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Row {
    /// How bad it is.
    pub level: String,
    /// Its stable name.
    pub code: String,
    /// Expected and found.
    pub message: String,
    /// The file.
    pub file: Option<String>,
    /// The byte in it.
    pub offset: Option<u64>,
    /// The key, as hex.
    pub key: Option<String>,
    /// The block.
    pub height: Option<u64>,
    /// What to do next.
    pub hint: Option<String>,
    /// The last block, where it is about several.
    pub until: Option<u64>,
    /// The number of the chain's rule.
    pub rule: Option<u64>,
    /// Which error it is.
    pub kind: String,
}

fn schema() -> SchemaRef {
    schema_of(&[
        ("level", DataType::Utf8, false),
        ("code", DataType::Utf8, false),
        ("message", DataType::Utf8, false),
        ("file", DataType::Utf8, true),
        ("offset", DataType::UInt64, true),
        ("key", DataType::Utf8, true),
        ("height", DataType::UInt64, true),
        ("hint", DataType::Utf8, true),
        ("until", DataType::UInt64, true),
        ("rule", DataType::UInt64, true),
        ("kind", DataType::Utf8, false),
    ])
}

/// Findings as one batch: a report holds them in memory anyway.
pub fn findings(rows: &[Row]) -> Result<RecordBatch> {
    let text = |get: fn(&Row) -> Option<&str>| {
        let mut column = StringBuilder::new();
        for row in rows {
            column.append_option(get(row));
        }
        Arc::new(column.finish())
    };
    let number = |get: fn(&Row) -> Option<u64>| {
        let mut column = UInt64Builder::new();
        for row in rows {
            column.append_option(get(row));
        }
        Arc::new(column.finish())
    };
    batch(
        schema(),
        vec![
            text(|row| Some(&row.level)),
            text(|row| Some(&row.code)),
            text(|row| Some(&row.message)),
            text(|row| row.file.as_deref()),
            number(|row| row.offset),
            text(|row| row.key.as_deref()),
            number(|row| row.height),
            text(|row| row.hint.as_deref()),
            number(|row| row.until),
            number(|row| row.rule),
            text(|row| Some(&row.kind)),
        ],
    )
}
