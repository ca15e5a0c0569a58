//! Take a segment from a server or a datastore: bytes are moved as they are, parsed on the way, and visible only once they are whole.

mod blocks;
mod describe;
mod graves;
mod record;
mod session;

use crate::base::durable::Replace;
use crate::base::progress::Progress;
use crate::error::{Error, Kind, Result};
pub use crate::flow::datastore::ReadOptions;
use crate::flow::increment::Base;
use crate::flow::work;
use crate::repo::catalog::{self, Catalog};
use crate::repo::pair;
use crate::rpc::Connect;
use record::Held;
use serde::Serialize;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

/// Where the entries are.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A server of the Backup RPC: a node that has it, or `evbackup serve`.
    Server(Box<Connect>),
    /// A datastore on this machine, and how it is read where it is a Badger directory.
    Datastore(PathBuf, ReadOptions),
}

impl Origin {
    /// A datastore on this machine, read as its engine does by default.
    pub fn datastore(path: impl Into<PathBuf>) -> Self {
        Self::Datastore(path.into(), ReadOptions::default())
    }

    /// What the manifest calls it.
    fn name(&self) -> String {
        match self {
            Origin::Server(connect) => connect.address.to_string(),
            Origin::Datastore(path, _) => path.display().to_string(),
        }
    }
}

/// A writer that an attempt borrows from the options.
pub type SharedWriter = Arc<Mutex<Box<dyn Write + Send>>>;

/// Where the segment goes.
#[derive(Clone)]
pub enum Output {
    /// A file, and its manifest and keys beside it.
    File(PathBuf),
    /// A file in this folder, named after chain, time and kind.
    Folder(PathBuf),
    /// The bare segment into a writer, such as standard output; its manifest into a file, if there is to be one.
    Stream {
        /// Takes the bytes.
        writer: SharedWriter,
        /// Takes the manifest.
        manifest: Option<PathBuf>,
    },
}

/// What the backup leaves out because it is elsewhere.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Since {
    /// Entries up to and with this version; 0: nothing is left out, a full backup.
    Version(u64),
    /// What this segment and those before it have.
    Segment(PathBuf),
    /// What the newest chain of the same source in the folder has; a full backup where there is none.
    Auto,
}

/// How the entries of a server are asked for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Via {
    /// By the Backup RPC; where there is none, as [`Via::Blocks`]. A chain goes on as it was begun.
    #[default]
    Auto,
    /// By the Backup RPC.
    Rpc,
    /// Block by block, by the RPCs that every released node has.
    Blocks,
}

/// What to back up, and how.
#[derive(Clone)]
pub struct Options {
    /// Where the entries are.
    pub origin: Origin,
    /// Where the segment goes.
    pub output: Output,
    /// How a server is asked.
    pub via: Via,
    /// Where blocks are copied: byte for byte, by names that lead out of a node's metadata. An accident of released nodes, not a promise.
    pub raw: bool,
    /// What is left out.
    pub since: Since,
    /// Take a full backup where an increment does not fit its base.
    pub on_mismatch_full: bool,
    /// Compare everything with all keys of the base; `None`: where nothing else finds deletes.
    pub exact: Option<bool>,
    /// Fail before the transfer when the source's tip is below this height.
    pub target_height: Option<u64>,
    /// Replace a segment that is there.
    pub overwrite: bool,
    /// What the manifest calls this run, unlike any other; `None`: something random.
    pub run_id: Option<String>,
}

impl Options {
    /// A full backup from `origin` to `output`.
    pub fn new(origin: Origin, output: Output) -> Self {
        Self {
            origin,
            output,
            via: Via::Auto,
            raw: false,
            since: Since::Version(0),
            on_mismatch_full: false,
            exact: None,
            target_height: None,
            overwrite: false,
            run_id: None,
        }
    }

    fn replace(&self) -> Replace {
        if self.overwrite { Replace::Always } else { Replace::Never }
    }
}

/// What was taken.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Backup {
    /// The segment; `-` when it went into a stream.
    pub path: PathBuf,
    /// `"full"` or `"inc"`.
    pub kind: &'static str,
    /// How it came: `"rpc"`, `"blocks"`, `"raw"`, `"store"` or `"badger"`.
    pub via: String,
    /// What is known to be missing.
    pub lacks: Vec<String>,
    /// The segment's length.
    pub bytes: u64,
    /// Its entries.
    pub entries: u64,
    /// Versions up to this one are left out.
    pub since_version: u64,
    /// The highest version in it.
    pub last_version: u64,
    /// Up to this version it surely misses nothing.
    pub complete_version: u64,
    /// What the next increment asks for.
    pub next_since: u64,
    /// The tip that the source announced, 0 without blocks.
    pub announced_height: u64,
    /// The tip inside the segment, which may be torn.
    pub tip_height: u64,
    /// The highest height that is whole.
    pub complete_height: u64,
    /// How sure it is that every delete is in it.
    pub deletes: &'static str,
    /// SHA-256 of the segment, as hex.
    pub sha256: String,
    /// Seconds it took.
    pub elapsed_s: f64,
    /// Where it came from.
    pub source: String,
    /// What the operator should know.
    pub notes: Vec<String>,
}

/// Takes a backup; see [`Options`]. On any error nothing new is visible, and what was at the target is untouched.
///
/// ```no_run
/// # async fn example() -> evbackup::error::Result<()> {
/// use evbackup::backup::{self, Options, Origin, Output};
/// use evbackup::{base::progress::Progress, rpc::{Address, Connect}};
///
/// let node = Origin::Server(Box::new(Connect::new(Address::parse("node:7331", 7331)?)));
/// let full = backup::run(Options::new(node, Output::File("full.badger".into())), Progress::new()).await?;
/// println!("complete up to version {}", full.complete_version);
/// # Ok(()) }
/// ```
pub async fn run(options: Options, progress: Progress) -> Result<Backup> {
    let options = Arc::new(options);
    let found = Arc::clone(&options);
    // The folder is held from the choice of the base on: two runs at once would make two increments of one parent.
    let (held, base) = work::blocking(progress.clone(), move |_| {
        let folder = match &found.output {
            Output::Folder(folder) => Some(Arc::new(catalog::lock(folder)?)),
            _ => None,
        };
        Ok((Held { folder, ..Held::default() }, find_base(&found)?))
    })
    .await?;
    let increment = base.is_some() || !matches!(options.since, Since::Version(0) | Since::Auto);
    match Box::pin(session::run(&options, held.clone(), base, Vec::new(), &progress)).await {
        Err(error) if error.kind() == Kind::Mismatch && options.on_mismatch_full && increment => {
            if held.begun.load(Relaxed) {
                return Err(error.with_hint("nothing of what was written can be used: take a full backup"));
            }
            let note = format!("a full backup instead of an increment: {}", error.what());
            let mut full = Options::clone(&options);
            full.since = Since::Version(0);
            Box::pin(session::run(&Arc::new(full), held, None, vec![note], &progress)).await
        }
        result => result,
    }
}

/// An increment in the place of its own base would be of no use to anybody.
fn not_the_base(output: &Output, base: &Path) -> Result<()> {
    let whole = |path: &Path| std::fs::canonicalize(path).ok();
    let there = match output {
        Output::File(path) => whole(path).is_some_and(|path| Some(path) == whole(base)),
        Output::Stream { manifest: Some(path), .. } => {
            whole(path).is_some_and(|path| Some(path) == whole(&pair::manifest_path(base)))
        }
        _ => false,
    };
    if there {
        return Err(Error::invalid(
            "expected another file than the one that the increment follows, found the same",
        )
        .at_path(base)
        .with_hint("choose another name: an increment is of no use without its base"));
    }
    Ok(())
}

fn find_base(options: &Options) -> Result<Option<Base>> {
    match (&options.since, &options.output) {
        (Since::Version(_), _) => Ok(None),
        (Since::Segment(path), output) => {
            not_the_base(output, path)?;
            Base::load(path).map(Some)
        }
        (Since::Auto, Output::Folder(folder)) => newest(folder, &options.origin.name()),
        (Since::Auto, _) => Err(Error::invalid("expected a folder as the path where since is \"auto\"")
            .with_hint("give the folder that the chain is in, or the earlier segment as since")),
    }
}

/// The end of the newest chain that came from `source`.
fn newest(folder: &Path, source: &str) -> Result<Option<Base>> {
    let catalog = Catalog::open(folder)?;
    let ends =
        catalog.chains.iter().filter_map(|chain| chain.last()).filter(|link| link.manifest.source == source);
    let newest = ends.max_by(|one, other| one.manifest.started_at.cmp(&other.manifest.started_at));
    Ok(newest.map(|link| Base { path: link.path.clone(), manifest: link.manifest.clone() }))
}
