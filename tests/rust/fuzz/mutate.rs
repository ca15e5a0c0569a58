use super::Target;
use crate::proof::{Random, put};
use evbackup::base::checksum::sha256_hex;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest input: everything that a parser does happens in far fewer bytes.
const MAX_INPUT: usize = 64 << 10;
/// Most inputs that are kept while it runs.
const MAX_POOL: usize = 2_000;
/// Most and longest inputs that a run adds to the kept corpus.
const MAX_KEPT: usize = 60;
const MAX_KEPT_INPUT: usize = 600;
/// Most that the memory of the whole process may grow by, in KiB: buffers of a MiB, not lengths that an input claims.
const MAX_GROWTH: u64 = 256 << 10;

/// Numbers at which parsers go wrong.
const NUMBERS: [u64; 12] =
    [0, 1, 7, 8, 127, 128, 65_000, 65_001, (2 << 30) + 1, u32::MAX as u64, 1 << 63, u64::MAX];

pub(super) struct Fuzz<'a> {
    target: &'a Target,
    pool: Vec<Vec<u8>>,
    seen: HashSet<String>,
    kept: usize,
    random: Random,
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz").join(name)
}

/// The files of a folder in the order of their names; none when it is not there.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

impl<'a> Fuzz<'a> {
    /// Runs the target on its seeds and the kept corpus, to begin with.
    pub(super) fn new(target: &'a Target) -> Self {
        let mut this =
            Self { target, pool: Vec::new(), seen: HashSet::new(), kept: 0, random: Random::new() };
        for seed in (target.seeds)() {
            this.offer(seed);
        }
        for path in files(&folder("corpus").join(target.name)) {
            this.offer(std::fs::read(path).unwrap());
            this.kept += 1;
        }
        this
    }

    /// How many inputs of the kept corpus there were.
    pub(super) fn kept(&self) -> usize {
        self.kept
    }

    /// As long as `EVBACKUP_FUZZ_S` says; with `EVBACKUP_FUZZ_KEEP` small inputs that showed something new join the corpus.
    pub(super) fn run_as_told(&mut self) {
        let seconds =
            std::env::var("EVBACKUP_FUZZ_S").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(5);
        let before = self.pool.len();
        let runs = self.run(Duration::from_secs(seconds), true);
        #[expect(clippy::print_stdout, reason = "what was done")]
        {
            println!(
                "{:10} {runs:8} runs, {} inputs that showed something new",
                self.target.name,
                self.pool.len() - before
            );
        }
        if std::env::var_os("EVBACKUP_FUZZ_KEEP").is_some() {
            let corpus = folder("corpus").join(self.target.name);
            for input in
                self.pool.iter().skip(before).filter(|input| input.len() <= MAX_KEPT_INPUT).take(MAX_KEPT)
            {
                put(&corpus.join(&sha256_hex(input)[..16]), input);
            }
        }
    }

    /// `alone`: no other tests run in this process, so its memory is ours.
    pub(super) fn run(&mut self, time: Duration, alone: bool) -> u64 {
        let (begun, before) = (Instant::now(), resident());
        let mut runs = 0;
        while begun.elapsed() < time {
            let input = self.changed();
            self.offer(input);
            runs += 1;
            if alone && runs % 1000 == 0 {
                let grown = resident().saturating_sub(before);
                assert!(grown < MAX_GROWTH, "{}: {grown} KiB more after {runs} runs", self.target.name);
            }
        }
        runs
    }

    /// Runs the target; an input that shows something new is kept. One that makes it panic is written down.
    fn offer(&mut self, input: Vec<u8>) {
        let feature = catch_unwind(AssertUnwindSafe(|| (self.target.run)(&input))).unwrap_or_else(|panic| {
            let found = folder("found");
            if !found.exists() {
                evbackup::base::durable::private_dir(&found).unwrap();
            }
            let path = found.join(format!("{}-{}", self.target.name, &sha256_hex(&input)[..16]));
            put(&path, &input);
            #[expect(clippy::print_stderr, reason = "what to look at")]
            {
                eprintln!("{} fails on {}", self.target.name, path.display());
            }
            resume_unwind(panic)
        });
        // Offsets, lengths and digests are different each time.
        let words =
            feature.split([' ', '"']).filter(|word| !word.contains(|sign: char| sign.is_ascii_digit()));
        let feature = words.collect::<Vec<_>>().join(" ");
        if self.seen.insert(feature) && self.pool.len() < MAX_POOL {
            self.pool.push(input);
        }
    }

    fn changed(&mut self) -> Vec<u8> {
        let random = &mut self.random;
        let pick =
            |random: &mut Random| self.pool.get(random.below(self.pool.len())).cloned().unwrap_or_default();
        let mut input = pick(random);
        for _ in 0..=random.below(5) {
            let (at, length) = (random.below(input.len() + 1), 1 + random.below(16));
            let end = (at + length).min(input.len());
            match random.below(10) {
                0 | 1 if at < input.len() => input[at] ^= 1 << random.below(8),
                2 if at < input.len() => input[at] = random.next().to_le_bytes()[0],
                3 => drop(input.drain(at..end)),
                4 => {
                    let twice = input[at..end].to_vec();
                    input.splice(at..at, twice);
                }
                5 => {
                    let bytes: Vec<_> = (0..length).map(|_| random.next().to_le_bytes()[0]).collect();
                    input.splice(at..at, bytes);
                }
                6 => {
                    let number = NUMBERS[random.below(NUMBERS.len())].wrapping_sub(random.next() % 2);
                    let bytes =
                        if random.below(2) == 0 { number.to_le_bytes().to_vec() } else { varint(number) };
                    let over = if random.below(2) == 0 { (at + bytes.len()).min(input.len()) } else { at };
                    input.splice(at..over, bytes);
                }
                7 => input.truncate(at),
                8 => {
                    let other = pick(random);
                    let from = random.below(other.len() + 1);
                    input.splice(at.., other[from..].iter().copied());
                }
                _ => {
                    let from = random.below(input.len() + 1);
                    let bytes = input[from..(from + length).min(input.len())].to_vec();
                    input.splice(at..end, bytes);
                }
            }
        }
        input.truncate(MAX_INPUT);
        input
    }
}

pub(super) fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
    bytes
}

/// The process's own memory, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.trim().split(' ').next()?.parse().ok()).unwrap_or(0)
}
