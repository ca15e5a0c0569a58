//! The one currency: [`Entry`], one key at one version, and what yields, keeps and takes them.
//!
//! Every format and engine is a [`Source`], a [`Sink`] or both, and the verbs are plumbing between them. A source stands on
//! an entry and lends it; nothing is copied on the way from a file's buffer to a sink that writes it.

use crate::base::progress::Progress;
use crate::error::Result;
use std::cmp::Ordering;

/// `bitDelete`: a tombstone; the entry has no value.
pub const META_DELETE: u8 = 0x01;
/// `bitValuePointer`: where the source kept the value. A stream carries every value inline, so it says nothing here.
pub const META_VALUE_POINTER: u8 = 0x02;
/// `bitDiscardEarlierVersions`: older versions of the key are logically dead.
pub const META_DISCARD_EARLIER: u8 = 0x04;
/// `bitMergeEntry`: the operand of a merge operator.
pub const META_MERGE: u8 = 0x08;
/// The meta bits that an entry keeps between datastores: the pointer and transaction bits belong to their directory.
pub const META_KEPT: u8 = META_DELETE | META_DISCARD_EARLIER | META_MERGE;

/// Badger's own keys begin with this; no backup carries them and no loader takes them.
pub const INTERNAL_PREFIX: &[u8] = b"!badger!";
/// Badger's transaction limit on a key (`txn.go: modify`); its memtable holds no longer ones.
pub const MAX_KEY: usize = 65_000;

/// One key at one version, borrowed from the source that stands on it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Entry<'a> {
    /// The user key: opaque bytes.
    pub key: &'a [u8],
    /// The commit version.
    pub version: u64,
    /// The value; empty for a delete.
    pub value: &'a [u8],
    /// Badger's meta bits.
    pub meta: u8,
    /// The user's meta byte.
    pub user_meta: u8,
    /// Unix seconds after which the entry counts as deleted; 0: never.
    pub expires_at: u64,
}

impl Entry<'_> {
    /// A tombstone?
    pub fn is_delete(&self) -> bool {
        self.meta & META_DELETE != 0
    }

    /// Expired at `now` (Unix seconds)? Badger's own rule: at the second itself it is.
    pub fn is_expired(&self, now: u64) -> bool {
        self.expires_at != 0 && self.expires_at <= now
    }

    /// The order of every source: keys ascending, versions of a key descending.
    pub fn order(&self, other: &Entry<'_>) -> Ordering {
        self.key.cmp(other.key).then(other.version.cmp(&self.version))
    }

    /// The same entry but for the bit that says where a value was kept?
    pub fn same_content(&self, other: &Entry<'_>) -> bool {
        let strip = |meta: u8| meta & !META_VALUE_POINTER;
        self.value == other.value
            && strip(self.meta) == strip(other.meta)
            && self.user_meta == other.user_meta
            && self.expires_at == other.expires_at
    }

    /// The same entry, of which one was sent after it had expired? Badger's stream leaves the value of an expired entry out.
    pub fn same_but_expired(&self, other: &Entry<'_>) -> bool {
        self.expires_at != 0
            && (self.value.is_empty() || other.value.is_empty())
            && self.same_content(&Entry { value: self.value, ..*other })
    }

    /// A copy that owns its bytes.
    pub fn to_owned(&self) -> OwnedEntry {
        OwnedEntry {
            key: self.key.to_vec(),
            version: self.version,
            value: self.value.to_vec(),
            meta: self.meta,
            user_meta: self.user_meta,
            expires_at: self.expires_at,
        }
    }
}

/// An [`Entry`] that owns its bytes: for the few places that must keep one.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct OwnedEntry {
    /// See [`Entry::key`].
    pub key: Vec<u8>,
    /// See [`Entry::version`].
    pub version: u64,
    /// See [`Entry::value`].
    pub value: Vec<u8>,
    /// See [`Entry::meta`].
    pub meta: u8,
    /// See [`Entry::user_meta`].
    pub user_meta: u8,
    /// See [`Entry::expires_at`].
    pub expires_at: u64,
}

impl OwnedEntry {
    /// The borrowed form.
    pub fn as_entry(&self) -> Entry<'_> {
        Entry {
            key: &self.key,
            version: self.version,
            value: &self.value,
            meta: self.meta,
            user_meta: self.user_meta,
            expires_at: self.expires_at,
        }
    }
}

/// Tells Badger's synthetic tombstones from reused versions.
///
/// Behind an entry at version v that discards earlier versions, `DB.Backup` writes a tombstone at v - 1 and nothing older
/// (`backup.go`). So an increment may hold a delete at the very version at which its base holds a real entry. The newer entry
/// hides both; as in Badger's own loader, what comes later stands.
#[derive(Clone, Debug, Default)]
pub struct Discards {
    key: Vec<u8>,
    version: u64,
}

impl Discards {
    /// An entry passes, in the order of a source.
    pub fn pass(&mut self, entry: &Entry<'_>) {
        if entry.meta & META_DISCARD_EARLIER != 0 {
            self.key.clear();
            self.key.extend_from_slice(entry.key);
            self.version = entry.version;
        }
    }

    /// Is this the tombstone that stands for what the last discarding entry has discarded?
    pub fn explain(&self, entry: &Entry<'_>) -> bool {
        entry.meta & !META_VALUE_POINTER == META_DELETE
            && entry.version.checked_add(1) == Some(self.version)
            && entry.key == self.key
    }
}

/// Yields entries: keys ascending, versions of a key descending, unless it says otherwise.
///
/// A cursor, so that a merge can hold many of them without copying: [`advance`](Source::advance), then look at
/// [`entry`](Source::entry) as often as needed.
pub trait Source: Send {
    /// Moves to the next entry; false at the end. After an error or the end it is not called again.
    fn advance(&mut self) -> Result<bool>;

    /// The entry it stands on. Before the first and after the last `advance` it is the empty entry.
    fn entry(&self) -> Entry<'_>;
}

impl<S: Source + ?Sized> Source for Box<S> {
    fn advance(&mut self) -> Result<bool> {
        (**self).advance()
    }
    fn entry(&self) -> Entry<'_> {
        (**self).entry()
    }
}

/// Takes entries in the order of [`Source`].
pub trait Sink {
    /// Takes one entry.
    fn put(&mut self, entry: Entry<'_>) -> Result<()>;

    /// Ends: everything taken is written and on the disk.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// What a snapshot will be asked. A directory that a node writes to is copied before it is believed, and only what is needed of it.
#[derive(Clone, Debug, Default)]
pub struct Need {
    /// [`Snapshot::source`] will be asked for nothing at or below this version. 0: everything, and then every other question can be
    /// asked, too.
    pub since: u64,
    /// Keys that [`Snapshot::get`] will be asked for, whatever their version.
    pub keys: Vec<Vec<u8>>,
    /// Once the values of `keys`, in their order, have so many bytes, the rest need not be readable; one always is.
    pub enough: Option<usize>,
    /// [`Snapshot::listed`] will be asked, for the keys that begin with none of these.
    pub listed: Option<&'static [&'static [u8]]>,
}

impl Need {
    /// Everything there is.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Only the tip and the keys given: nothing is copied.
    pub fn keys(keys: Vec<Vec<u8>>) -> Self {
        Self { since: u64::MAX, keys, enough: None, listed: None }
    }
}

/// Holds entries: our store or a Badger directory.
pub trait Datastore: Send + Sync {
    /// Which history of versions it belongs to.
    fn id(&self) -> &[u8];

    /// May a version be given out twice? Badger counts on from the highest version it finds when it is opened, and compaction may have
    /// dropped the highest ones (`docs/concepts/increments.md`).
    fn reuses_versions(&self) -> bool {
        false
    }

    /// One state of it that no later write changes, good for what `need` says. `progress` is asked whether the caller still wants it.
    fn snapshot_for(&self, need: &Need, progress: &Progress) -> Result<Box<dyn Snapshot + '_>>;

    /// One state of it that can be asked everything.
    fn snapshot(&self) -> Result<Box<dyn Snapshot + '_>> {
        self.snapshot_for(&Need::everything(), &Progress::new())
    }
}

/// One state of a datastore, read at its pinned version: nothing above it is seen, but by [`Snapshot::everything`].
pub trait Snapshot: Send {
    /// Every entry is read at this version.
    fn pinned_version(&self) -> u64;

    /// How sure it is that deletes are in it: see `Deletes` in the manifest (`"exact"`, `"derived"`, `"unknown"`).
    fn deletes(&self) -> &str;

    /// The value of ev-node's `/0/t`, 0 when there is none.
    fn tip(&self) -> Result<u64> {
        let tip = self.get(b"/0/t")?.and_then(|entry| <[u8; 8]>::try_from(entry.value).ok());
        Ok(tip.map_or(0, u64::from_le_bytes))
    }

    /// The newest version of `key`, deletes included. `/0/t` can always be asked for.
    fn get(&self, key: &[u8]) -> Result<Option<OwnedEntry>>;

    /// The entries with `since < version <= pinned`, all versions, deletes included.
    fn source(&self, since: u64) -> Result<Box<dyn Source + '_>>;

    /// Every entry that is held, those above the pinned version included: what the datastore says, not what it promises.
    fn everything(&self) -> Result<Box<dyn Source + '_>>;

    /// The entries whose key begins with `prefix` and is not below `from`, all versions, deletes included.
    fn prefix(&self, prefix: &[u8], from: &[u8]) -> Result<Box<dyn Source + '_>>;

    /// The live keys that begin with none of [`Need::listed`], with their newest version and without values; `None` where every delete is
    /// kept as a tombstone, so that nobody needs a list.
    fn listed(&self) -> Result<Option<Box<dyn Source + '_>>> {
        Ok(None)
    }

    /// How many older versions the sources so far have left out, because something damaged stands where their values were. Those whose
    /// values a node has collected do not count.
    fn damaged(&self) -> u64 {
        0
    }

    /// About how many bytes `source(since)` will yield; for progress, so a guess will do.
    fn estimate(&self, since: u64) -> Result<u64>;
}

/// Moves everything from a source into a sink; the count of entries.
///
/// ```
/// use evbackup::entry::{pour, Entry, Sink, Source, VecSource};
/// # use evbackup::error::Result;
/// struct Count(usize);
/// impl Sink for Count {
///     fn put(&mut self, _: Entry<'_>) -> Result<()> { self.0 += 1; Ok(()) }
///     fn finish(self: Box<Self>) -> Result<()> { Ok(()) }
/// }
/// let entry = Entry { key: b"/0/t", version: 1, ..Entry::default() };
/// let mut source = VecSource::new(vec![entry.to_owned()]);
/// assert_eq!(pour(&mut source, &mut Count(0))?, 1);
/// # Ok::<(), evbackup::error::Error>(())
/// ```
pub fn pour(source: &mut dyn Source, sink: &mut dyn Sink) -> Result<u64> {
    let mut entries = 0;
    while source.advance()? {
        sink.put(source.entry())?;
        entries += 1;
    }
    Ok(entries)
}

/// A source over entries in memory, as given: for tests and for the few tombstones of an increment.
#[derive(Debug, Default)]
pub struct VecSource {
    entries: Vec<OwnedEntry>,
    next: usize,
}

impl VecSource {
    /// Yields `entries` in the order given.
    pub fn new(entries: Vec<OwnedEntry>) -> Self {
        Self { entries, next: 0 }
    }
}

impl Source for VecSource {
    fn advance(&mut self) -> Result<bool> {
        self.next = (self.next + 1).min(self.entries.len() + 1);
        Ok(self.next <= self.entries.len())
    }

    fn entry(&self) -> Entry<'_> {
        let at = self.next.checked_sub(1).and_then(|at| self.entries.get(at));
        at.map_or_else(Entry::default, OwnedEntry::as_entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_key_up_version_down() {
        let at = |key: &'static [u8], version| Entry { key, version, ..Entry::default() };
        assert_eq!(at(b"a", 1).order(&at(b"b", 9)), Ordering::Less);
        assert_eq!(at(b"a", 9).order(&at(b"a", 1)), Ordering::Less);
        assert_eq!(at(b"a", 1).order(&at(b"a", 1)), Ordering::Equal);
    }

    #[test]
    fn content_is_equal_whatever_the_pointer_bit_says() {
        let one = Entry { key: b"k", version: 1, value: b"v", meta: META_VALUE_POINTER, ..Entry::default() };
        let other = Entry { meta: 0, ..one };
        assert!(one.same_content(&other));
        assert!(!one.same_content(&Entry { meta: META_DELETE, ..one }));
        assert!(!one.same_content(&Entry { value: b"w", ..one }));
        assert!(!one.same_content(&Entry { user_meta: 1, ..one }));
        assert!(!one.same_content(&Entry { expires_at: 1, ..one }));
    }

    #[test]
    fn a_vec_source_ends_and_stays_at_the_empty_entry() {
        let entry = Entry { key: b"k", version: 1, ..Entry::default() };
        let mut source = VecSource::new(vec![entry.to_owned()]);
        assert_eq!(source.entry(), Entry::default());
        assert!(source.advance().is_ok_and(|more| more));
        assert_eq!(source.entry(), entry);
        assert!(source.advance().is_ok_and(|more| !more));
        assert_eq!(source.entry(), Entry::default());
    }
}
