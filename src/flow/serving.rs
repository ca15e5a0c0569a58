//! The Backup RPC's answer out of any datastore, whether it goes over a wire or to the next thread.

use crate::base::progress::Progress;
use crate::entry::{Datastore, Entry, META_DELETE, Sink, Snapshot};
use crate::error::{Error, Result};
use crate::evnode::key;
use crate::flow::hasher::hex;
use crate::format::Writer;
use crate::rpc::{Announced, Base, Outlet};
use bytes::Bytes;

/// Sends the entries of `datastore` with versions above `since`, all read at one version.
///
/// What the increment is based on is held against the datastore before any byte: another history of versions, another block at the
/// base's height or a version that is still to come is a mismatch, never answered with something else.
pub fn answer(
    datastore: &dyn Datastore,
    since: u64,
    base: Option<&Base>,
    outlet: &mut dyn Outlet,
    progress: &Progress,
) -> Result<()> {
    let snapshot = datastore.snapshot()?;
    let pinned = snapshot.pinned_version();
    if since > pinned {
        return Err(mismatch(format!("expected a version up to {pinned}, found a base at {since}")));
    }
    if let Some(base) = base {
        prove(datastore.id(), &*snapshot, base)?;
    }
    let tip = snapshot.tip()?;
    outlet.begin(Announced {
        current_height: tip,
        pinned_version: Some(pinned),
        store_id: datastore.id().to_vec(),
        estimated_bytes: snapshot.estimate(since)?,
        tip_height: Some(tip),
        deletes: snapshot.deletes().to_owned(),
    })?;
    let mut source = snapshot.source(since)?;
    let mut writer = Box::new(Writer::new(1, |frame: &mut Vec<u8>| {
        progress.check()?;
        outlet.chunk(Bytes::from(std::mem::take(frame)))
    }));
    while source.advance()? {
        writer.put(source.entry())?;
    }
    writer.finish()?;
    outlet.end(pinned)
}

fn prove(id: &[u8], snapshot: &dyn Snapshot, base: &Base) -> Result<()> {
    if !base.store_id.is_empty() && base.store_id != id {
        return Err(mismatch(format!(
            "expected a base of store {}, found one of store {}",
            hex(id),
            hex(&base.store_id)
        )));
    }
    if base.version > snapshot.pinned_version() {
        let pinned = snapshot.pinned_version();
        return Err(mismatch(format!(
            "expected a base up to version {pinned}, found one at {}",
            base.version
        )));
    }
    if base.height == 0 || base.hash.is_empty() {
        return Ok(());
    }
    let stored = snapshot.get(&key::header(base.height))?;
    match stored.filter(|entry| entry.meta & META_DELETE == 0) {
        Some(entry) => same_block(base, &entry.as_entry()),
        // Pruned since: the store id and the version must do.
        None if snapshot.tip()? >= base.height => Ok(()),
        None => Err(mismatch(format!("expected a base up to the tip, found one at height {}", base.height))),
    }
}

fn same_block(base: &Base, entry: &Entry<'_>) -> Result<()> {
    let found = crate::base::checksum::sha256_hex(entry.value);
    if found == hex(&base.hash) {
        return Ok(());
    }
    Err(mismatch(format!(
        "expected the base's block {} to be {found}, found {}: it is of another chain",
        base.height,
        hex(&base.hash)
    )))
}

fn mismatch(what: String) -> Error {
    Error::mismatch(what).with_hint("take a full backup, or pass on_mismatch=\"full\"")
}
