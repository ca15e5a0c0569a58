//! The table of blocks.

use super::{BATCH_ROWS, batch, hex, schema as schema_of, time};
use crate::base::progress::Progress;
use crate::error::Result;
use crate::evnode::hash;
use crate::evnode::key::{Key, Part, height as height_of};
use crate::evnode::record::{Data, SignedHeader};
use crate::flow::node::{Heights, Values};
use arrow_array::RecordBatch;
use arrow_array::builder::{StringBuilder, TimestampNanosecondBuilder, UInt64Builder};
use arrow_schema::{DataType, SchemaRef, TimeUnit};
use std::sync::Arc;

/// So many heights are asked for at once, and about so many bytes of them.
const ASKED: u64 = 512;
const ENOUGH: usize = 8 << 20;

/// Where the next batch begins.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// The next height; `None` before the first batch.
    next: Option<u64>,
}

pub(super) fn schema() -> SchemaRef {
    schema_of(&[
        ("height", DataType::UInt64, false),
        ("time", time(TimeUnit::Nanosecond), true),
        ("chain_id", DataType::Utf8, true),
        ("header_hash", DataType::Utf8, true),
        ("data_hash", DataType::Utf8, true),
        ("app_hash", DataType::Utf8, true),
        ("proposer", DataType::Utf8, true),
        ("transactions", DataType::UInt64, true),
        ("transaction_bytes", DataType::UInt64, true),
        ("bytes", DataType::UInt64, false),
        ("header_da_height", DataType::UInt64, true),
        ("data_da_height", DataType::UInt64, true),
    ])
}

pub(super) fn next(
    place: &mut Place,
    there: Heights,
    values: &dyn Values,
    progress: &Progress,
) -> Result<Option<RecordBatch>> {
    let mut height = place.next.unwrap_or(there.first);
    let mut rows = Rows::default();
    // A block that is larger than all that is asked for at once is asked for alone.
    let (mut asked, mut enough) = (ASKED, ENOUGH);
    while height <= there.last && there.last > 0 && rows.count < BATCH_ROWS {
        let stretch = height..=there.last.min(height.saturating_add(asked - 1));
        let keys: Vec<_> = stretch.clone().flat_map(keys).collect();
        let mut found = values.values(&keys, enough, progress)?.into_iter();
        (asked, enough) = (1, usize::MAX);
        for at in stretch {
            let parts: Vec<_> = found.by_ref().take(4).collect();
            // The rest did not fit.
            let Ok([header_da, data_da, header, data]) = <[_; 4]>::try_from(parts) else { break };
            if let Some(header) = header {
                rows.put(at, &header, data.as_deref(), [header_da, data_da]);
            }
            height = at.saturating_add(1);
            (asked, enough) = (ASKED, ENOUGH);
        }
    }
    place.next = Some(height);
    rows.finish()
}

/// What a row is made of; the small values first, so that they are not what did not fit.
fn keys(height: u64) -> [Vec<u8>; 4] {
    [
        Key::DaHeight(height, Part::Header),
        Key::DaHeight(height, Part::Data),
        Key::Header(height),
        Key::Data(height),
    ]
    .map(|key| key.to_bytes())
}

#[derive(Default)]
struct Rows {
    height: UInt64Builder,
    time: TimestampNanosecondBuilder,
    chain_id: StringBuilder,
    header_hash: StringBuilder,
    data_hash: StringBuilder,
    app_hash: StringBuilder,
    proposer: StringBuilder,
    transactions: UInt64Builder,
    transaction_bytes: UInt64Builder,
    bytes: UInt64Builder,
    header_da_height: UInt64Builder,
    data_da_height: UInt64Builder,
    count: usize,
}

impl Rows {
    fn put(&mut self, height: u64, stored: &[u8], data: Option<&[u8]>, da: [Option<Vec<u8>>; 2]) {
        let signed = SignedHeader::decode(stored).ok();
        let header = signed.as_ref().map(|signed| &signed.header);
        self.height.append_value(height);
        self.time.append_option(header.and_then(|header| i64::try_from(header.time).ok()));
        self.chain_id.append_option(header.map(|header| header.chain_id));
        self.header_hash.append_option(header.map(|header| hex(&hash::header(header))));
        self.data_hash.append_option(header.map(|header| hex(header.data_hash)));
        self.app_hash.append_option(header.map(|header| hex(header.app_hash)));
        self.proposer.append_option(header.map(|header| hex(header.proposer_address)));
        let weighed = data.and_then(|data| Data::decode(data).ok()).map(|data| {
            data.transactions().fold((0, 0), |(count, bytes), one| (count + 1, bytes + one.len() as u64))
        });
        self.transactions.append_option(weighed.map(|(count, _)| count));
        self.transaction_bytes.append_option(weighed.map(|(_, bytes)| bytes));
        self.bytes.append_value((stored.len() + data.map_or(0, <[u8]>::len)) as u64);
        let [header_da, data_da] = da.map(|value| value.as_deref().and_then(height_of));
        self.header_da_height.append_option(header_da);
        self.data_da_height.append_option(data_da);
        self.count += 1;
    }

    fn finish(mut self) -> Result<Option<RecordBatch>> {
        if self.count == 0 {
            return Ok(None);
        }
        let columns: Vec<arrow_array::ArrayRef> = vec![
            Arc::new(self.height.finish()),
            Arc::new(self.time.finish().with_timezone("UTC")),
            Arc::new(self.chain_id.finish()),
            Arc::new(self.header_hash.finish()),
            Arc::new(self.data_hash.finish()),
            Arc::new(self.app_hash.finish()),
            Arc::new(self.proposer.finish()),
            Arc::new(self.transactions.finish()),
            Arc::new(self.transaction_bytes.finish()),
            Arc::new(self.bytes.finish()),
            Arc::new(self.header_da_height.finish()),
            Arc::new(self.data_da_height.finish()),
        ];
        batch(schema(), columns).map(Some)
    }
}
