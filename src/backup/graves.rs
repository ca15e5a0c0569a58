//! What an increment adds to the stream: tombstones for what the base had and the source has no more.

use super::record::KeysFile;
use crate::entry::{Entry, META_DELETE, Sink as _, Source};
use crate::error::Result;
use crate::evnode::key;
use crate::flow::gone::{Gone, Untouched};
use crate::flow::increment::{Base, Ledger, bury};
use crate::flow::intake::Recorder;
use crate::flow::sort::Sorter;
use crate::flow::watch::Watch;
use crate::format::{FrameSink as _, Writer};
use crate::rpc::{Announced, Final};

/// At which version a key is buried that is gone without a trace: what the segment is complete to, so that whoever shows its entries
/// at that version shows that it is gone. [`bury`] puts it above the key's own version in any case.
///
/// Never higher: ranges are read at different moments, and a key that was found gone may have been written again before the last one
/// was read. Such a write lies above the announced block; where there are no blocks, above the first version after the base's, since the
/// delete itself took one.
pub(super) fn burial(base: &Base, announced: &Announced, end: &Final, watch: &Watch) -> u64 {
    let tip = watch.seen(&key::header(announced.current_height)).filter(|header| !header.delete);
    let tip = tip.map(|header| header.version);
    let last = base.manifest.last_version;
    let unproven = end.last_version.clamp(last, last.saturating_add(1));
    end.pinned_version.or(tip).unwrap_or(unproven).max(base.manifest.complete_version)
}

/// Where keys are buried.
#[derive(Clone, Copy)]
pub(super) struct Burial<'a> {
    pub(super) base: &'a Base,
    pub(super) announced: &'a Announced,
    /// See [`burial`].
    pub(super) version: u64,
}

impl Burial<'_> {
    /// The version of the tombstone for a key that the base has at `old`.
    ///
    /// What lies above the pinned version shows nowhere, so a tombstone that would have to lie there buries nothing. It would have to where
    /// the source gave out no version since the base although a key went: the versions since were purged and will come again.
    fn of(&self, key: &[u8], old: u64) -> Result<u64> {
        let version = self.version.max(old.saturating_add(1));
        match self.announced.pinned_version {
            Some(pinned) if version > pinned => Err(self.base.mismatch(format!(
                "key {} is gone, but the source's versions end at {pinned}, where the base had them: it gives out versions again",
                key.escape_ascii()
            ))),
            _ => Ok(version),
        }
    }
}

/// Lists what is live, of which `changed` has the newest version of each key first.
pub(super) fn list_live(changed: &mut dyn Source, keys: &mut KeysFile) -> Result<()> {
    let mut last: Option<Vec<u8>> = None;
    while changed.advance()? {
        let entry = changed.entry();
        if last.as_deref() == Some(entry.key) {
            continue;
        }
        last = Some(entry.key.to_vec());
        if entry.meta & META_DELETE == 0 {
            keys.put(entry.key, entry.version, entry.value.try_into().map_or(0, u64::from_le_bytes))?;
        }
    }
    Ok(())
}

/// Lists what is live and buries what is gone, behind the stream and in a run of its own.
pub(super) struct Graves<'a, 'k> {
    recorder: Recorder<'a>,
    burial: Burial<'k>,
    id: u32,
    keys: Option<&'k mut KeysFile>,
    buried: u64,
}

impl<'a, 'k> Graves<'a, 'k> {
    pub(super) fn new(
        mut recorder: Recorder<'a>,
        burial: Burial<'k>,
        keys: Option<&'k mut KeysFile>,
    ) -> Self {
        let id = recorder.watch().tally().highest_id().saturating_add(1);
        Self { recorder, burial, id, keys, buried: 0 }
    }

    pub(super) fn finish(self) -> (Recorder<'a>, u64) {
        (self.recorder, self.buried)
    }
}

impl Ledger for Graves<'_, '_> {
    fn live(&mut self, key: &[u8], version: u64, hash: u64) -> Result<()> {
        self.keys.as_deref_mut().map_or(Ok(()), |keys| keys.put(key, version, hash))
    }

    fn gone(&mut self, key: &[u8], version: u64) -> Result<()> {
        let grave = self.burial.of(key, version)?;
        self.buried += 1;
        let old = Entry { key, version, ..Entry::default() };
        let recorder = &mut self.recorder;
        let mut writer = Box::new(Writer::new(self.id, |frame: &mut Vec<u8>| recorder.frame(frame)));
        bury(&old, grave, &mut *writer)?;
        writer.finish()
    }
}

/// Buries the keys of the block families that are `gone` and that the stream did not touch, in a run of their own; how many.
pub(super) fn bury_gone<'a>(
    mut recorder: Recorder<'a>,
    gone: &Gone,
    touched: Box<dyn Source>,
    burial: Burial<'_>,
    sorter: Sorter,
) -> Result<(Recorder<'a>, u64)> {
    if gone.is_empty() {
        return Ok((recorder, 0));
    }
    let mut left = Untouched::new(gone.keys(sorter)?, touched);
    let id = recorder.watch().tally().highest_id().saturating_add(1);
    let mut writer = Box::new(Writer::new(id, |frame: &mut Vec<u8>| recorder.frame(frame)));
    let mut buried = 0;
    while left.advance()? {
        let key = left.entry().key;
        // One whose height cannot be told from the key may belong to none of the families any more.
        if key::is_block_family(key) {
            bury(&Entry { key, ..Entry::default() }, burial.of(key, 0)?, &mut *writer)?;
            buried += 1;
        }
    }
    writer.finish()?;
    Ok((recorder, buried))
}
