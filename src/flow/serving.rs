//! The Backup RPC's answer out of any datastore, whether it goes over a wire or to the next thread.
//!
//! | datastore                    | an increment holds                                    | and lists                        |
//! |------------------------------|-------------------------------------------------------|----------------------------------|
//! | keeps every version apart    | what is above `since`                                 | nothing: its tombstones are kept |
//! | may give a version out twice | what is above a lower `since`, which its answer names | its live keys, for a known base  |
//!
//! How much lower: a block of the base that still stands at its version proves that no later version was below that one. Without the
//! block [`MARGIN`] must do.

use crate::base::progress::Progress;
use crate::entry::{Datastore, Entry, META_DELETE, Need, Sink, Snapshot, Source};
use crate::error::Result;
use crate::evnode::key;
use crate::flow::hasher::hex;
use crate::flow::increment::mismatch;
use crate::format::Writer;
use crate::proto::evnode::BackupRequest;
use crate::rpc::{Announced, Base, Listed, Outlet};
use bytes::Bytes;

/// How far versions are trusted to have fallen at most, where nothing proves that they have not (`docs/concepts/increments.md`).
pub const MARGIN: u64 = 10_000;
/// Listed keys are handed on in heaps of about so many bytes.
const HEAP: usize = 1 << 20;

/// What the client's increment is based on; none of it is there for a full backup.
pub fn base(request: &BackupRequest) -> Option<Base> {
    let base = Base {
        store_id: request.base_store_id.clone(),
        height: request.base_height,
        hash: request.base_hash.clone(),
        version: request.base_version,
        block_version: request.base_block_version,
    };
    (base != Base::default()).then_some(base)
}

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
    let reuses = datastore.reuses_versions();
    let mut from = since;
    if reuses && since > 0 {
        // Costs next to nothing and shows whether the rest is worth its while.
        let probe = datastore.snapshot_for(&Need::keys(proofs(base)), progress)?;
        from = lowered(since, prove(datastore, &*probe, since, base)?);
    }
    let snapshot = loop {
        let listed = (reuses && base.is_some()).then_some(key::BLOCK_FAMILIES);
        let need = Need { since: from, keys: proofs(base), listed, ..Need::default() };
        let snapshot = datastore.snapshot_for(&need, progress)?;
        let proof = prove(datastore, &*snapshot, since, base)?;
        let lower = if reuses { lowered(since, proof) } else { since };
        if lower >= from {
            break snapshot;
        }
        // The block that proved so much was pruned in between.
        from = lower;
    };
    let pinned = snapshot.pinned_version();
    let tip = snapshot.tip()?;
    let mut listed = if reuses && base.is_some() { snapshot.listed()? } else { None };
    let deletes = match (reuses, since, &listed) {
        (false, _, _) | (true, 0, _) => snapshot.deletes(),
        // Neither listed nor told by any mark.
        (true, _, Some(_)) if has_go_header(&*snapshot)? => "derived",
        (true, _, Some(_)) => "exact",
        (true, _, None) => "unknown",
    };
    outlet.begin(Announced {
        current_height: tip,
        pinned_version: Some(pinned),
        store_id: datastore.id().to_vec(),
        estimated_bytes: snapshot.estimate(from)?,
        tip_height: Some(tip),
        deletes: deletes.to_owned(),
        since: (from != since).then_some(from),
        reuses_versions: reuses,
    })?;
    let mut source = snapshot.source(from)?;
    let mut writer = Box::new(Writer::new(1, |frame: &mut Vec<u8>| {
        progress.check()?;
        outlet.chunk(Bytes::from(std::mem::take(frame)))
    }));
    let mut last: Option<Vec<u8>> = None;
    let mut passed = 0u32;
    while source.advance()? {
        passed = passed.wrapping_add(1);
        if passed.is_multiple_of(1024) {
            progress.check()?;
        }
        let entry = source.entry();
        if from < since {
            // Of what was not asked for only the newest entry of a key says anything: the older ones the base has, or they are of a
            // time after it and hidden already.
            let older = last.as_deref() == Some(entry.key);
            if older && entry.version <= since {
                continue;
            }
            if !older {
                last = Some(entry.key.to_vec());
            }
        }
        writer.put(entry)?;
    }
    writer.finish()?;
    outlet.left_out(snapshot.damaged());
    if let Some(listed) = &mut listed {
        list(&mut **listed, outlet, progress)?;
    }
    outlet.end(pinned)
}

fn list(listed: &mut dyn Source, outlet: &mut dyn Outlet, progress: &Progress) -> Result<()> {
    let (mut heap, mut bytes) = (Vec::new(), 0);
    while listed.advance()? {
        let entry = listed.entry();
        bytes += entry.key.len() + size_of::<Listed>();
        heap.push(Listed { key: Bytes::copy_from_slice(entry.key), version: entry.version });
        if bytes >= HEAP {
            progress.check()?;
            outlet.listed(std::mem::take(&mut heap))?;
            bytes = 0;
        }
    }
    outlet.listed(heap)
}

/// What is looked at to prove a base, and what its deletes can be known by.
fn proofs(base: Option<&Base>) -> Vec<Vec<u8>> {
    let header = base.filter(|base| base.height > 0).map(|base| key::header(base.height));
    let marks = [key::PRUNED_BLOCKS].into_iter().chain(key::GO_HEADER_HEADS);
    header.into_iter().chain(marks.map(<[u8]>::to_vec)).collect()
}

/// Are there the stores of go-header that a node up to v1.0.0-rc.1 kept? Their keys are hashes.
fn has_go_header(snapshot: &dyn Snapshot) -> Result<bool> {
    for head in key::GO_HEADER_HEADS {
        if snapshot.get(head)?.is_some_and(|entry| entry.meta & META_DELETE == 0) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// From where entries are sent for `since`: the block's version proves that no version at or below it was given out again.
fn lowered(since: u64, proof: Option<u64>) -> u64 {
    match (since, proof) {
        (0, _) => 0,
        // One version of overlap: the block comes along.
        (since, Some(version)) => since.min(version.saturating_sub(1)),
        (since, None) => since.saturating_sub(MARGIN),
    }
}

/// Is the base one of this datastore? The version of its block, where that is still there at its old version.
fn prove(
    datastore: &dyn Datastore,
    snapshot: &dyn Snapshot,
    since: u64,
    base: Option<&Base>,
) -> Result<Option<u64>> {
    let pinned = snapshot.pinned_version();
    if since > pinned {
        return Err(mismatch(format!("expected a version up to {pinned}, found a base at {since}")));
    }
    let Some(base) = base else { return Ok(None) };
    let id = datastore.id();
    if base.store_id != id && (!base.store_id.is_empty() || datastore.reuses_versions()) {
        let name = |id: &[u8]| if id.is_empty() { "without an id".to_owned() } else { hex(id) };
        return Err(mismatch(format!(
            "expected a base of store {}, found one of store {}",
            name(id),
            name(&base.store_id)
        )));
    }
    if base.version > pinned {
        return Err(mismatch(format!(
            "expected a base up to version {pinned}, found one at {}",
            base.version
        )));
    }
    if base.height == 0 || base.hash.is_empty() {
        if id.is_empty() {
            return Err(mismatch("expected a store id or a block to know the base by, found neither"));
        }
        return Ok(None);
    }
    let stored = snapshot.get(&key::header(base.height))?;
    match stored.filter(|entry| entry.meta & META_DELETE == 0) {
        Some(entry) => same_block(base, &entry.as_entry()),
        None if snapshot.tip()? < base.height => {
            Err(mismatch(format!("expected a base up to the tip, found one at height {}", base.height)))
        }
        // Pruned since: the store id and the version must do.
        None if is_pruned(snapshot, base.height)? => Ok(None),
        None => Err(mismatch(format!(
            "expected the base's block {}, found none, though it was not pruned",
            base.height
        ))),
    }
}

fn is_pruned(snapshot: &dyn Snapshot, height: u64) -> Result<bool> {
    let mark = snapshot.get(key::PRUNED_BLOCKS)?.filter(|entry| entry.meta & META_DELETE == 0);
    Ok(mark.and_then(|mark| key::height(&mark.value)).is_some_and(|mark| mark >= height))
}

fn same_block(base: &Base, entry: &Entry<'_>) -> Result<Option<u64>> {
    let found = crate::base::checksum::sha256_hex(entry.value);
    if found != hex(&base.hash) {
        return Err(mismatch(format!(
            "expected the base's block {} to be {found}, found {}: it is of another chain",
            base.height,
            hex(&base.hash)
        )));
    }
    match base.block_version {
        // It may have been written anew, so it proves no version.
        0 => Ok(None),
        version if version == entry.version => Ok(Some(version)),
        version => Err(mismatch(format!(
            "expected the base's block {} at version {}, found it at {version}: it was rolled back and written again",
            base.height, entry.version
        ))),
    }
}
