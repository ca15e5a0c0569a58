//! The logical digest of anything that holds entries; see [`flow::digest`](crate::flow::digest) for what it covers.

use crate::base::progress::{Phase, Progress};
use crate::base::scratch::Scratch;
use crate::entry::Need;
use crate::error::{Error, Result};
use crate::flow::chain::Chain;
use crate::flow::datastore::{self, ReadOptions};
use crate::flow::digest::{Scope, digest};
use crate::flow::finding::{Finding, Level, refuse};
use crate::flow::work;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

const MEMORY: usize = 64 << 20;

/// What to digest.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// A datastore, or the segments of one chain.
    pub paths: Vec<PathBuf>,
    /// Versions above this do not count; `None`: all that there are.
    pub at: Option<u64>,
    /// Unix seconds at which expiry is judged; `None`: now.
    pub now: Option<u64>,
    /// Every entry instead of the live newest ones.
    pub history: bool,
    /// How a Badger directory is read.
    pub reading: ReadOptions,
}

/// Takes the digest, as 64 lower-case hex digits.
///
/// ```no_run
/// # async fn example() -> evbackup::error::Result<()> {
/// use evbackup::{base::progress::Progress, digest};
///
/// let of = |path: &str| digest::Options { paths: vec![path.into()], ..Default::default() };
/// let store = digest::run(of("/var/lib/evbackup/store"), Progress::new()).await?;
/// assert_eq!(store, digest::run(of("full.badger"), Progress::new()).await?);
/// # Ok(()) }
/// ```
pub async fn run(options: Options, progress: Progress) -> Result<String> {
    work::blocking(progress, move |progress| take(&options, progress)).await
}

fn take(options: &Options, progress: &Progress) -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let scope = Scope {
        at: options.at.unwrap_or(u64::MAX),
        now: options.now.unwrap_or(now),
        history: options.history,
    };
    match options.paths.as_slice() {
        [] => Err(Error::invalid("expected a datastore or a segment, found nothing")),
        [path] if path.is_dir() => {
            let datastore = datastore::open(path, &options.reading)?;
            let snapshot = datastore.snapshot_for(&Need::everything(), progress)?;
            progress.begin(Phase::Verifying, snapshot.estimate(0)?);
            // A chain has entries above its complete version, too, where its source was written meanwhile.
            let mut source = snapshot.everything()?;
            Ok(digest(&mut *source, scope, progress)?.0)
        }
        paths => {
            let mut chain = Chain::open(paths, None)?;
            let only_one = paths.len() == 1;
            // A single increment has a digest, too: that of what it holds.
            let refused =
                |finding: &&Finding| finding.level == Level::Error && !(only_one && finding.code == "gap");
            if let Some(finding) = chain.findings().iter().find(refused) {
                return Err(finding.to_error());
            }
            progress.begin(Phase::Verifying, chain.bytes());
            refuse(&chain.check(crate::flow::checks::Level::Full, true, progress)?)?;
            let mut source = chain.source(&Scratch::system(), MEMORY, progress)?;
            Ok(digest(&mut *source, scope, progress)?.0)
        }
    }
}
