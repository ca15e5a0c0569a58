//! A node for tests: keeps a directory as Badger does, one step at a time, and knows which state each of its commits made.

use super::key;
use super::log::{Record as LogRecord, put_header, put_record};
use super::manifest::{self, Change, TableInfo};
use super::meta::{META_FIN_TXN, META_TXN, Pointer, Value};
use super::table::{Builder, BuilderOptions, Compression};
use super::{names, registry};
use crate::base::durable::{Replace, remove_file, write_file};
use crate::entry::{META_DELETE, META_VALUE_POINTER};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Values of this length go to the value log.
pub(super) const THRESHOLD: usize = 64;
const MEMORY_SIZE: u64 = 256 << 10;

/// The live keys with their values.
pub(super) type Live = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Clone, Debug, Eq, PartialEq)]
struct Stored {
    meta: u8,
    /// The value, or a pointer.
    bytes: Vec<u8>,
}

/// Sorted by internal key: newer versions first.
type Entries = BTreeMap<(Vec<u8>, u64), Stored>;

fn order(user_key: &[u8], version: u64) -> (Vec<u8>, u64) {
    (user_key.to_vec(), u64::MAX - version)
}

struct Memory {
    fid: u64,
    file: File,
    at: u64,
    entries: Entries,
}

pub(super) struct Node {
    dir: PathBuf,
    pub(super) version: u64,
    /// What was live after each commit.
    pub(super) states: Vec<Live>,
    tables: BTreeMap<u64, (u8, Entries)>,
    memory: Vec<Memory>,
    next_table: u64,
    next_memory: u64,
    logs_made: u64,
    /// Number, file, where the next record goes.
    value_logs: Vec<(u32, File, u64)>,
    next_value_log: u32,
    lingering: Vec<u64>,
}

impl Node {
    pub(super) fn start(dir: &Path) -> Self {
        write_file(&dir.join("KEYREGISTRY"), &registry::encode([7; 16]), Replace::Never).unwrap();
        write_file(&names::manifest(dir), &manifest::encode(&[]), Replace::Never).unwrap();
        let mut node = Self {
            dir: dir.to_owned(),
            version: 0,
            states: vec![Live::new()],
            tables: BTreeMap::new(),
            memory: Vec::new(),
            next_table: 1,
            next_memory: 1,
            logs_made: 0,
            value_logs: Vec::new(),
            next_value_log: 1,
            lingering: Vec::new(),
        };
        node.rotate_values();
        node.rotate();
        node
    }

    fn create(path: &Path) -> File {
        File::options().read(true).write(true).create_new(true).open(path).unwrap()
    }

    fn remove(path: &Path) {
        // As Badger does: first nothing is in it, then it is gone.
        File::options().write(true).open(path).unwrap().set_len(0).unwrap();
        remove_file(path).unwrap();
    }

    /// A new memtable.
    pub(super) fn rotate(&mut self) {
        let fid = self.next_memory;
        self.next_memory += 1;
        let file = Self::create(&names::memory_log(&self.dir, fid));
        file.set_len(MEMORY_SIZE).unwrap();
        let mut header = Vec::new();
        self.logs_made += 1;
        let mut iv = [1; 12];
        iv[4..].copy_from_slice(&self.logs_made.to_be_bytes());
        put_header(&mut header, iv);
        file.write_all_at(&header, 0).unwrap();
        self.memory.push(Memory { fid, file, at: header.len() as u64, entries: Entries::new() });
    }

    /// A new value log; the one before is cut to what is in it.
    pub(super) fn rotate_values(&mut self) {
        if let Some((_, file, at)) = self.value_logs.last() {
            file.set_len(*at).unwrap();
        }
        let fid = self.next_value_log;
        self.next_value_log += 1;
        let file = Self::create(&names::value_log(&self.dir, fid));
        file.set_len(1 << 20).unwrap();
        let mut header = Vec::new();
        put_header(&mut header, [2; 12]);
        file.write_all_at(&header, 0).unwrap();
        self.value_logs.push((fid, file, header.len() as u64));
    }

    fn store(&mut self, user_key: &[u8], version: u64, value: Option<&[u8]>) -> Stored {
        let Some(value) = value else { return Stored { meta: META_DELETE, bytes: Vec::new() } };
        if value.len() < THRESHOLD {
            return Stored { meta: 0, bytes: value.to_vec() };
        }
        let mut internal = Vec::new();
        key::put(&mut internal, user_key, version);
        let mut record = Vec::new();
        put_record(&mut record, &LogRecord { key: &internal, value, ..LogRecord::default() });
        let (fid, file, at) = self.value_logs.last_mut().unwrap();
        file.write_all_at(&record, *at).unwrap();
        let len = u32::try_from(record.len()).unwrap();
        let pointer = Pointer { fid: *fid, len, offset: u32::try_from(*at).unwrap() };
        *at += u64::from(len);
        Stored { meta: META_VALUE_POINTER, bytes: pointer.bytes().to_vec() }
    }

    fn log(&mut self, user_key: &[u8], version: u64, meta: u8, value: &[u8]) {
        let mut internal = Vec::new();
        key::put(&mut internal, user_key, version);
        let mut record = Vec::new();
        put_record(&mut record, &LogRecord { key: &internal, meta, value, ..LogRecord::default() });
        let memory = self.memory.last_mut().unwrap();
        memory.file.write_all_at(&record, memory.at).unwrap();
        memory.at += record.len() as u64;
    }

    /// A transaction; `None` deletes.
    pub(super) fn commit(&mut self, changes: &[(&[u8], Option<&[u8]>)]) {
        self.begin(changes);
        self.end_transaction();
    }

    /// A transaction without its mark, which a reader must not see.
    pub(super) fn begin(&mut self, changes: &[(&[u8], Option<&[u8]>)]) {
        self.version += 1;
        let version = self.version;
        let mut live = self.states.last().unwrap().clone();
        for (user_key, value) in changes {
            let stored = self.store(user_key, version, *value);
            self.log(user_key, version, stored.meta | META_TXN, &stored.bytes);
            self.memory.last_mut().unwrap().entries.insert(order(user_key, version), stored);
            match value {
                Some(value) => live.insert(user_key.to_vec(), value.to_vec()),
                None => live.remove(*user_key),
            };
        }
        self.states.push(live);
    }

    pub(super) fn end_transaction(&mut self) {
        let version = self.version;
        self.log(b"!badger!txn", version, META_FIN_TXN, version.to_string().as_bytes());
    }

    fn append_manifest(&self, changes: &[Change]) {
        let mut file = File::options().append(true).open(names::manifest(&self.dir)).unwrap();
        file.write_all(&manifest::record(changes)).unwrap();
    }

    fn write_table(&mut self, entries: &Entries) -> u64 {
        let id = self.next_table;
        self.next_table += 1;
        let file = Self::create(&names::table(&self.dir, id));
        let mut builder = Builder::new(file, BuilderOptions::default()).unwrap();
        for ((user_key, inverted), stored) in entries {
            let mut internal = Vec::new();
            key::put(&mut internal, user_key, u64::MAX - inverted);
            let value = Value { meta: stored.meta | META_TXN, bytes: &stored.bytes, ..Value::default() };
            builder.add(&internal, &value, 0).unwrap();
        }
        builder.finish(None).unwrap();
        id
    }

    /// The oldest memtable becomes a table; its log stays if somebody still reads it.
    pub(super) fn flush(&mut self, lingers: bool) {
        if self.memory.len() == 1 {
            self.rotate();
        }
        let memory = self.memory.remove(0);
        if !memory.entries.is_empty() {
            let id = self.write_table(&memory.entries);
            self.append_manifest(&[Change::Create(id, info(0))]);
            self.tables.insert(id, (0, memory.entries));
        }
        if lingers {
            self.lingering.push(memory.fid);
        } else {
            Self::remove(&names::memory_log(&self.dir, memory.fid));
        }
    }

    /// Nobody reads flushed memtables any more.
    pub(super) fn let_go(&mut self) {
        for fid in std::mem::take(&mut self.lingering) {
            Self::remove(&names::memory_log(&self.dir, fid));
        }
    }

    /// All tables become one, in which only what is live is left.
    pub(super) fn compact(&mut self) {
        let old: Vec<_> = self.tables.keys().copied().collect();
        if old.is_empty() {
            return;
        }
        let mut all = Entries::new();
        // Newer tables last, so that their copy of an internal key stands.
        for (_, entries) in self.tables.values() {
            all.extend(entries.clone());
        }
        let mut newest: Option<Vec<u8>> = None;
        all.retain(|(user_key, _), stored| {
            let first = newest.as_ref() != Some(user_key);
            newest = Some(user_key.clone());
            first && stored.meta & META_DELETE == 0
        });
        let mut changes = Vec::new();
        self.tables.clear();
        if !all.is_empty() {
            let id = self.write_table(&all);
            changes.push(Change::Create(id, info(6)));
            self.tables.insert(id, (6, all));
        }
        changes.extend(old.iter().map(|id| Change::Delete(*id)));
        self.append_manifest(&changes);
        for id in old {
            Self::remove(&names::table(&self.dir, id));
        }
    }

    /// A fresh MANIFEST in the place of the long one.
    pub(super) fn rewrite(&mut self) {
        let tables: Vec<_> = self.tables.iter().map(|(id, (level, _))| (*id, info(*level))).collect();
        write_file(&names::manifest(&self.dir), &manifest::encode(&tables), Replace::Always).unwrap();
    }

    /// The oldest value log is collected: what of it is live is written again, at its version.
    pub(super) fn collect(&mut self) {
        self.rotate_values();
        let (victim, file, _) = self.value_logs.remove(0);
        let mut newest: BTreeMap<Vec<u8>, (u64, Stored)> = BTreeMap::new();
        let held = self.tables.values().map(|(_, entries)| entries);
        for entries in held.chain(self.memory.iter().map(|memory| &memory.entries)) {
            for ((user_key, inverted), stored) in entries {
                let version = u64::MAX - inverted;
                let found = newest.entry(user_key.clone()).or_insert_with(|| (version, stored.clone()));
                if version >= found.0 {
                    *found = (version, stored.clone());
                }
            }
        }
        for (user_key, (version, stored)) in newest {
            if stored.meta & META_VALUE_POINTER == 0 {
                continue;
            }
            let pointer = Pointer::read(&stored.bytes).unwrap();
            if pointer.fid != victim {
                continue;
            }
            let mut record = vec![0; pointer.len as usize];
            file.read_exact_at(&mut record, u64::from(pointer.offset)).unwrap();
            let value = super::log::read_record(&record).unwrap().0.value.to_vec();
            let stored = self.store(&user_key, version, Some(&value));
            self.log(&user_key, version, stored.meta, &stored.bytes);
            self.memory.last_mut().unwrap().entries.insert(order(&user_key, version), stored);
        }
        Self::remove(&names::value_log(&self.dir, victim));
    }

    /// Stops and starts: everything becomes tables, and numbers begin again.
    pub(super) fn restart(&mut self) {
        while self.memory.iter().any(|memory| !memory.entries.is_empty()) {
            self.flush(false);
        }
        self.let_go();
        for memory in std::mem::take(&mut self.memory) {
            Self::remove(&names::memory_log(&self.dir, memory.fid));
        }
        self.next_memory = 1;
        self.next_table = self.tables.keys().max().map_or(1, |id| id + 1);
        self.rotate();
        self.rotate_values();
    }

    /// `DB.DropAll`.
    pub(super) fn drop_all(&mut self) {
        self.drop_logs();
        self.drop_tables();
    }

    /// The first half of `DB.DropAll`: nothing says yet that it happens.
    pub(super) fn drop_logs(&mut self) {
        for memory in std::mem::take(&mut self.memory) {
            Self::remove(&names::memory_log(&self.dir, memory.fid));
        }
        self.let_go();
    }

    /// The second half.
    pub(super) fn drop_tables(&mut self) {
        let changes: Vec<_> = self.tables.keys().map(|id| Change::Delete(*id)).collect();
        if !changes.is_empty() {
            self.append_manifest(&changes);
        }
        for id in std::mem::take(&mut self.tables).into_keys() {
            Self::remove(&names::table(&self.dir, id));
        }
        self.next_table = 1;
        self.version += 1;
        self.states.push(Live::new());
        self.rotate();
    }
}

fn info(level: u8) -> TableInfo {
    TableInfo { level, compression: Compression::Snappy }
}
