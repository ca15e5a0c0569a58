#![cfg(test)] // All of it, so that the lints know helpers to be tests too.

use super::proof::{Random, drain, put};
use evbackup::base::progress::Progress;
use evbackup::base::scratch::Scratch;
use evbackup::entry::{Datastore, Entry, META_DELETE, META_KEPT, OwnedEntry, Sink, Source, VecSource, pour};
use evbackup::error::Result;
use evbackup::flow::chain::Chain;
use evbackup::flow::checks::{self, Level};
use evbackup::flow::digest::{Scope, digest};
use evbackup::flow::merge::{Merge, Named};
use evbackup::flow::segment::Segment;
use evbackup::format::{Reader, Writer};
use evbackup::store::{Increment, LoadOptions, Loader, NewAbout, Store};
use proptest::prelude::*;
use std::path::Path;

/// Small enough that sorting and gathering spill.
const MEMORY: usize = 1 << 10;

/// Where entries come from.
#[derive(Clone, Copy, Debug)]
enum From {
    Memory,
    /// A stream of one run.
    Stream,
    /// Runs that overlap, interleaved in pieces that share frames; up to 40 of them, which is more than are merged at once.
    Runs,
    /// Entries in any order under stream id 0, which promises none.
    Unsorted,
    Store,
    /// Segments that overlap.
    Chain,
}

const SOURCES: [From; 6] = [From::Memory, From::Stream, From::Runs, From::Unsorted, From::Store, From::Chain];

/// Where they go.
#[derive(Clone, Copy, Debug)]
enum To {
    Load,
    /// Into a store that has some of them already.
    Increment,
    Stream,
    Digest,
}

const SINKS: [To; 4] = [To::Load, To::Increment, To::Stream, To::Digest];

fn options() -> LoadOptions {
    LoadOptions { memory: MEMORY, ..LoadOptions::default() }
}

/// What every one of them keeps: the pointer bit and the transaction bits stay with their directory.
fn kept(entries: &[OwnedEntry]) -> Vec<OwnedEntry> {
    entries.iter().map(|entry| OwnedEntry { meta: entry.meta & META_KEPT, ..entry.clone() }).collect()
}

fn in_order(mut entries: Vec<OwnedEntry>) -> Vec<OwnedEntry> {
    entries.sort_by(|one, other| one.as_entry().order(&other.as_entry()));
    entries
}

/// The body of one frame.
fn frame_body(entries: &[OwnedEntry], id: u32) -> Vec<u8> {
    let mut stream = Vec::new();
    let mut writer = Box::new(Writer::new(id, |frame: &mut Vec<u8>| {
        stream.append(frame);
        Ok(())
    }));
    for entry in entries {
        writer.put(entry.as_entry()).unwrap();
    }
    writer.finish().unwrap();
    stream.drain(..8.min(stream.len()));
    stream
}

fn frame(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u64).to_le_bytes(), body].concat()
}

/// Deals entries out to runs, cuts the runs into pieces and lays these into frames in a random order that keeps each run's own.
fn interleaved(entries: &[OwnedEntry], random: &mut Random) -> Vec<u8> {
    let runs = 1 + random.below(40);
    let mut dealt = vec![Vec::new(); runs];
    for entry in entries {
        dealt[random.below(runs)].push(entry.clone());
    }
    let (mut stream, mut body) = (Vec::new(), Vec::new());
    while dealt.iter().any(|run| !run.is_empty()) {
        let run = random.below(runs);
        let length = (1 + random.below(4)).min(dealt[run].len());
        let rest = dealt[run].split_off(length);
        let piece = std::mem::replace(&mut dealt[run], rest);
        body.extend(frame_body(&piece, u32::try_from(run).unwrap() + 1));
        if random.below(3) == 0 && !body.is_empty() {
            stream.extend(frame(&std::mem::take(&mut body)));
        }
    }
    if !body.is_empty() {
        stream.extend(frame(&body));
    }
    stream
}

fn shuffled(entries: &[OwnedEntry], random: &mut Random) -> Vec<OwnedEntry> {
    let mut entries = entries.to_vec();
    for at in (1..entries.len()).rev() {
        entries.swap(at, random.below(at + 1));
    }
    entries
}

/// Reads a file as the verbs do: once to learn where its runs lie, then in order.
fn read_file(path: &Path, stream: &[u8], work: &mut dyn FnMut(&mut dyn Source)) {
    put(path, stream);
    let progress = Progress::new();
    let mut segment = Segment::open(path).unwrap();
    let findings = checks::segment(&mut segment, Level::Full, true, &progress).unwrap();
    assert!(findings.iter().all(|finding| ["no-manifest", "order"].contains(&finding.code)), "{findings:?}");
    let scratch = Scratch::system();
    let sources = segment.sorted(&scratch, MEMORY, &progress).unwrap();
    work(&mut *Merge::in_passes(sources, &scratch, &progress).unwrap());
}

fn load(entries: &[OwnedEntry], path: &Path) -> Result<()> {
    let mut loader = Loader::create(path, options())?;
    pour(&mut VecSource::new(entries.to_vec()), &mut loader)?;
    loader.finish_with(all_of(entries)).map(drop)
}

fn all_of(entries: &[OwnedEntry]) -> NewAbout {
    let pinned_version = entries.iter().map(|entry| entry.version).max().unwrap_or(0);
    NewAbout { pinned_version, ..NewAbout::default() }
}

/// Has `work` read the entries from such a source.
fn from(
    kind: From,
    entries: &[OwnedEntry],
    folder: &Path,
    random: &mut Random,
    work: &mut dyn FnMut(&mut dyn Source),
) {
    match kind {
        From::Memory => work(&mut VecSource::new(entries.to_vec())),
        From::Stream => work(&mut Reader::new(&*frame(&frame_body(entries, 7)))),
        From::Runs => read_file(&folder.join("runs"), &interleaved(entries, random), work),
        From::Unsorted => {
            let shuffled = shuffled(entries, random);
            let stream: Vec<_> = shuffled.chunks(5).flat_map(|some| frame(&frame_body(some, 0))).collect();
            read_file(&folder.join("unsorted"), &stream, work);
        }
        From::Store => {
            load(entries, &folder.join("from")).unwrap();
            let store = Store::open(folder.join("from")).unwrap();
            let snapshot = store.snapshot().unwrap();
            work(&mut *snapshot.source(0).unwrap());
        }
        From::Chain => {
            let links = 2 + random.below(4);
            let mut dealt = vec![Vec::new(); links];
            for entry in entries {
                let link = random.below(links);
                dealt[link].push(entry.clone());
                // Increments overlap: some entries come twice.
                if random.below(4) == 0 && link + 1 < links {
                    dealt[link + 1].push(entry.clone());
                }
            }
            let paths: Vec<_> = (0..links).map(|link| folder.join(format!("link{link}"))).collect();
            for (path, dealt) in paths.iter().zip(&dealt) {
                put(path, &interleaved(dealt, random));
            }
            let progress = Progress::new();
            let mut chain = Chain::open(&paths, None).unwrap();
            chain.check(Level::Full, true, &progress).unwrap();
            // An empty link ends nothing, but two of them are one and the same.
            let scratch = Scratch::system();
            work(&mut *chain.source(&scratch, MEMORY, &progress).unwrap());
        }
    }
}

/// Pours a source into such a sink, and holds what is there afterwards against what went in.
fn check(kind: To, source: &mut dyn Source, expected: &[OwnedEntry], folder: &Path, random: &mut Random) {
    let stored = |path: &Path| {
        let store = Store::open(path).unwrap();
        let snapshot = store.snapshot().unwrap();
        drain(&mut *snapshot.source(0).unwrap()).unwrap()
    };
    let found = match kind {
        To::Load => {
            let path = folder.join("load");
            let mut loader = Loader::create(&path, options()).unwrap();
            assert_eq!(pour(source, &mut loader).unwrap(), expected.len() as u64);
            loader.finish_with(all_of(expected)).unwrap();
            stored(&path)
        }
        To::Increment => {
            let path = folder.join("increment");
            let already: Vec<_> = expected.iter().filter(|_| random.below(3) == 0).cloned().collect();
            load(&already, &path).unwrap();
            let mut store = Store::open_for_writing(&path).unwrap();
            let mut increment = Increment::begin(&mut store, options()).unwrap();
            pour(source, &mut increment).unwrap();
            let written = increment.finish_with(all_of(expected)).unwrap();
            assert_eq!(
                (written.known, written.entries),
                (already.len() as u64, (expected.len() - already.len()) as u64)
            );
            drop(store);
            stored(&path)
        }
        To::Stream => {
            let mut stream = Vec::new();
            let mut writer = Box::new(Writer::new(3, |frame: &mut Vec<u8>| {
                stream.append(frame);
                Ok(())
            }));
            pour(source, &mut *writer).unwrap();
            writer.finish().unwrap();
            drain(&mut Reader::new(stream.as_slice())).unwrap()
        }
        To::Digest => {
            for history in [false, true] {
                // One version, one moment: two readings of one source are not to be had.
                if history == (random.below(2) == 0) {
                    continue;
                }
                let scope = Scope { at: 20, now: 1000, history };
                let taken = digest(source, scope, &Progress::new()).unwrap();
                let model = digest(&mut VecSource::new(expected.to_vec()), scope, &Progress::new()).unwrap();
                assert_eq!(taken, model);
                break;
            }
            return;
        }
    };
    assert_eq!(kept(&found), expected);
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(Vec::new()),
        prop::collection::vec(any::<u8>(), 1..20),
        (any::<u8>(), 1000usize..3000).prop_map(|(byte, length)| vec![byte; length]),
    ]
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => prop::collection::vec(prop::sample::select(vec![0u8, 1, b'/', b'a', 0xfe, 0xff]), 1..6),
        1 => prop::collection::vec(any::<u8>(), 1..40),
        1 => (any::<u8>(), 200usize..900).prop_map(|(byte, length)| vec![byte; length]),
    ]
}

fn entry() -> impl Strategy<Value = OwnedEntry> {
    let meta = prop::sample::select(vec![0u8, 0, META_DELETE, 0x02, 0x04, 0x08, 0x0c, 0x42, 0x80]);
    let expires_at = prop::sample::select(vec![0u64, 0, 0, 1, 1000, 1001, u64::MAX]);
    let version = prop_oneof![1u64..40, Just(u64::MAX - 1)];
    (key(), version, value(), meta, any::<u8>(), expires_at).prop_map(
        |(key, version, value, meta, user_meta, expires_at)| {
            let value = if meta & META_DELETE == 0 { value } else { Vec::new() };
            OwnedEntry { key, version, value, meta, user_meta, expires_at }
        },
    )
}

fn entries() -> impl Strategy<Value = Vec<OwnedEntry>> {
    prop::collection::vec(entry(), 0..120).prop_map(|entries| {
        let mut entries = in_order(entries);
        entries.dedup_by(|one, other| one.as_entry().order(&other.as_entry()).is_eq());
        entries
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 60, ..ProptestConfig::default() })]

    /// Whatever entries there are, every source gives them to every sink: each once, in order, with all fields.
    #[test]
    fn any_source_into_any_sink(entries in entries(), seed: u64) {
        let expected = kept(&entries);
        for kind in SOURCES {
            for sink in SINKS {
                let folder = tempfile::tempdir().unwrap();
                let (mut one, mut other) = (Random::seeded(seed), Random::seeded(!seed));
                from(kind, &entries, folder.path(), &mut one, &mut |source| {
                    check(sink, source, &expected, folder.path(), &mut other);
                });
            }
        }
    }
}

/// More sources than are open at once, and an order that only all of them together have.
#[test]
fn hundreds_of_sources_merge_into_one() {
    let mut random = Random::new();
    for count in [1, 2, 31, 32, 33, 64, 65, 300] {
        let at =
            |number: usize| Entry { key: b"", version: number as u64 % 7, ..Entry::default() }.to_owned();
        let all: Vec<_> = (0..2000)
            .map(|number: usize| OwnedEntry { key: (number / 7).to_be_bytes().to_vec(), ..at(number) })
            .collect();
        let mut dealt = vec![Vec::new(); count];
        for entry in &all {
            for _ in 0..=random.below(2) {
                dealt[random.below(count)].push(entry.clone());
            }
        }
        let sources = dealt.into_iter().enumerate().map(|(number, entries)| {
            let mut entries = in_order(entries);
            entries.dedup();
            Named::new(number.to_string(), Box::new(VecSource::new(entries)) as Box<dyn Source>)
        });
        let (scratch, progress) = (Scratch::system(), Progress::new());
        let mut merged = Merge::in_passes(sources.collect(), &scratch, &progress).unwrap();
        assert_eq!(drain(&mut *merged).unwrap(), in_order(all), "{count} sources");
    }
}
