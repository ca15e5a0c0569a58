use super::*;
use evbackup::base::progress::Progress;
use evbackup::entry::Entry;
use rocksdb::{BlockBasedOptions, DB, DBCompressionType, IngestExternalFileOptions, Options, SstFileWriter};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

/// Entries made on the fly: keys of a chain in order, values that do not compress.
fn each(count: u64, size: usize, mut take: impl FnMut(Entry<'_>)) {
    let noise: Vec<u8> = {
        let mut state = 1_u64;
        std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .take((1 << 20) + size)
        .collect()
    };
    for number in 0..count {
        let from = usize::try_from(number.wrapping_mul(48_271) % (1 << 20)).unwrap();
        let key = format!("/0/d/{number:012}");
        // Versions do not follow the keys: the index must be sorted.
        let version = 1 + (number.wrapping_mul(2_654_435_761) % count);
        take(Entry { key: key.as_bytes(), version, value: &noise[from..from + size], ..Entry::default() });
    }
}

fn mb_per_s(bytes: u64, took: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
    let bytes = bytes as f64;
    bytes / 1e6 / took.as_secs_f64()
}

/// The yardstick: the same records through a bare table writer and one ingest; the index is sorted beforehand, untimed.
fn bare(path: &Path, count: u64, size: usize) -> Duration {
    std::fs::create_dir_all(path).unwrap();
    let mut table = BlockBasedOptions::default();
    table.set_block_size(16 << 10);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::Lz4);
    let mut index = Vec::new();
    each(count, 0, |entry| index.push((entry.version, entry.key.to_vec())));
    index.sort();
    let start = Instant::now();
    let mut files = Vec::new();
    let mut writer = None;
    let mut in_file = 0;
    let mut put = |key: &[u8], value: &[u8]| {
        if in_file > 128 << 20 {
            let mut full: SstFileWriter<'_> = writer.take().unwrap();
            full.finish().unwrap();
            in_file = 0;
        }
        let writer = writer.get_or_insert_with(|| {
            let file = path.join(format!("bare-{}.sst", files.len()));
            let writer = SstFileWriter::create(&options);
            writer.open(&file).unwrap();
            files.push(file);
            writer
        });
        writer.put(key, value).unwrap();
        in_file += key.len() + value.len();
        if key == b"~" {
            writer.finish().unwrap();
        }
    };
    let (mut key, mut value) = (Vec::new(), Vec::new());
    each(count, size, |entry| {
        key.clear();
        key.push(b'e');
        key.extend_from_slice(entry.key);
        key.extend_from_slice(&(!entry.version).to_be_bytes());
        value.clear();
        value.extend_from_slice(&[0, 0, 0]);
        value.extend_from_slice(entry.value);
        put(&key, &value);
    });
    for (version, name) in &index {
        key.clear();
        key.push(b'v');
        key.extend_from_slice(&version.to_be_bytes());
        key.extend_from_slice(name);
        put(&key, b"");
    }
    put(b"~", b"");
    let db = DB::open(&options, path.join("db")).unwrap();
    let mut ingest = IngestExternalFileOptions::default();
    ingest.set_move_files(true);
    db.ingest_external_file_opts(&ingest, files).unwrap();
    drop(db);
    start.elapsed()
}

fn ours(path: &Path, count: u64, size: usize) -> Duration {
    let start = Instant::now();
    let mut loader = Loader::create(path, LoadOptions::default()).unwrap();
    each(count, size, |entry| loader.put(entry).unwrap());
    loader.finish_with(pinned(count)).unwrap();
    start.elapsed()
}

/// The highest `RssAnon` while it lives, above what it was at the start.
struct Peak {
    stop: std::sync::mpsc::Sender<()>,
    watch: std::thread::JoinHandle<u64>,
    before: u64,
}

impl Peak {
    fn begin() -> Self {
        let (stop, stopped) = std::sync::mpsc::channel();
        let before = anon_kib();
        let watch = std::thread::spawn(move || {
            let mut peak = 0;
            while stopped
                .recv_timeout(Duration::from_millis(5))
                .is_err_and(|e| e == RecvTimeoutError::Timeout)
            {
                peak = peak.max(anon_kib());
            }
            peak
        });
        Self { stop, watch, before }
    }

    fn mib(self) -> u64 {
        drop(self.stop);
        self.watch.join().unwrap().saturating_sub(self.before) >> 10
    }
}

fn anon_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
#[ignore = "measures: cargo test --test rust -- --ignored --nocapture store::speed::memory"]
fn memory() {
    let root = std::env::var_os("EVBACKUP_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    for (count, size) in [(1_000_000, 300), (8_000_000_u64, 300_usize), (120, 20 << 20), (25_000_000, 40)] {
        let dir = tempfile::tempdir_in(&root).unwrap();
        let path = dir.path().join("store");
        let peak = Peak::begin();
        let took = ours(&path, count, size);
        let loaded = peak.mib();
        let store = Store::open(&path).unwrap();
        let snapshot = store.snapshot().unwrap();
        let peak = Peak::begin();
        let mut source = snapshot.source(0).unwrap();
        while source.advance().unwrap() {}
        drop(source);
        let scanned = peak.mib();
        let peak = Peak::begin();
        let mut source = snapshot.source(count - count / 4).unwrap();
        while source.advance().unwrap() {}
        drop(source);
        let changed = peak.mib();
        drop(snapshot);
        drop(store);
        let mut store = Store::open_for_writing(&path).unwrap();
        let peak = Peak::begin();
        let mut increment = Increment::begin(&mut store, LoadOptions::default()).unwrap();
        each(count / 4, size, |mut entry| {
            entry.version += count;
            increment.put(entry).unwrap();
        });
        increment.finish_with(pinned(2 * count)).unwrap();
        let applied = peak.mib();
        let peak = Peak::begin();
        let dropped = store.compact(2 * count, &Progress::new()).unwrap();
        let compacted = peak.mib();
        println!(
            "{count} of {size} B: load {loaded} MiB in {took:?}, scan {scanned}, a quarter {changed}, apply {applied}, \
             compact {compacted} ({} dropped)",
            dropped.entries
        );
    }
}

#[test]
#[ignore = "measures: cargo test --release --test rust -- --ignored --nocapture store::speed"]
fn load_and_scan() {
    let root = std::env::var_os("EVBACKUP_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    for (count, size) in [(64_000_u64, 16_000_usize), (1_330_000, 300)] {
        let bytes = count * (size as u64 + 17);
        for round in 0..3 {
            let dir = tempfile::tempdir_in(&root).unwrap();
            let bare = bare(&dir.path().join("bare"), count, size);
            std::fs::remove_dir_all(dir.path().join("bare")).unwrap();
            rustix::fs::sync();
            let path = dir.path().join("ours");
            let ours = ours(&path, count, size);
            let start = Instant::now();
            let store = Store::open(&path).unwrap();
            let opened = start.elapsed();
            let start = Instant::now();
            let snapshot = store.snapshot().unwrap();
            let mut source = snapshot.source(0).unwrap();
            let mut seen = 0;
            while source.advance().unwrap() {
                seen += source.entry().value.len() as u64;
            }
            let scan = start.elapsed();
            assert_eq!(seen, count * size as u64);
            let start = Instant::now();
            let mut source = snapshot.source(count - count / 100).unwrap();
            while source.advance().unwrap() {}
            let changed = start.elapsed();
            let each_only = {
                let start = Instant::now();
                each(count, size, |entry| assert!(entry.version > 0));
                start.elapsed()
            };
            println!(
                "{size} B round {round}: bare {:.0} MB/s, ours {:.0} MB/s, ratio {:.2}; open {opened:?}, scan {:.0} MB/s, \
                 1 % {changed:?} of {scan:?}; making entries {each_only:?}",
                mb_per_s(bytes, bare),
                mb_per_s(bytes, ours),
                bare.as_secs_f64() / ours.as_secs_f64(),
                mb_per_s(bytes, scan),
            );
        }
    }
}
