//! A datastore behind the RPCs of `StoreService`.

use crate::base::progress::Progress;
use crate::base::scratch::Scratch;
use crate::error::Result;
use crate::flow::datastore::ReadOptions;
use crate::flow::node::Node;
use crate::flow::node::held::Held;
use crate::flow::serving;
use crate::proto::evnode::BackupRequest;
use crate::rpc::{self, Handler, Listen, Outlet, Reads, Server};
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// A datastore that nobody has asked for so long is let go, so that it can be compacted or replaced.
const IDLE: Duration = Duration::from_secs(10);

/// What to serve, and where.
#[derive(Clone, Debug)]
pub struct Options {
    /// The datastore.
    pub path: PathBuf,
    /// How it is read, where it is a Badger directory.
    pub reading: ReadOptions,
    /// How to listen.
    pub listen: Listen,
}

/// Serves a datastore until the server is stopped: backups of it, and the RPCs that read a node's blocks.
///
/// Each request is answered out of the datastore's present state: what was applied to it in the meantime is served, what is applied while a
/// backup runs is not in that one.
///
/// ```no_run
/// # async fn example() -> evbackup::error::Result<()> {
/// use evbackup::{rpc::Listen, serve};
///
/// let listen = Listen::new("127.0.0.1:0");
/// let server = serve::run(serve::Options { path: "/var/lib/evbackup/store".into(), reading: Default::default(), listen }).await?;
/// println!("listening on {}", server.address());
/// server.stop().await
/// # }
/// ```
pub async fn run(options: Options) -> Result<Server> {
    let Options { path, reading, listen } = options;
    let scratch = reading.staging.as_ref().map_or_else(Scratch::system, Scratch::new);
    let open = move |_: &Progress| Held::open(&path, &reading);
    let held = Arc::new(crate::flow::work::blocking(Progress::new(), open).await?);
    let resting = Arc::downgrade(&held);
    let node = Node::new(Arc::clone(&held), scratch);
    let server = rpc::listen(listen, Arc::new(Served { held, node })).await?;
    tokio::spawn(rest(resting));
    Ok(server)
}

/// Lets go of the datastore when nobody asks, until the server is gone.
async fn rest(held: Weak<Held>) {
    let mut often = tokio::time::interval(IDLE / 4);
    loop {
        often.tick().await;
        let Some(held) = held.upgrade() else { return };
        // Closing files may take a moment.
        if tokio::task::spawn_blocking(move || held.rest(IDLE)).await.is_err() {
            return;
        }
    }
}

struct Served {
    held: Arc<Held>,
    node: Node,
}

impl Handler for Served {
    fn backup(&self, request: &BackupRequest, outlet: &mut dyn Outlet) -> Result<()> {
        let datastore = self.held.datastore()?;
        let base = serving::base(request);
        let progress = outlet.progress();
        serving::answer(&*datastore, request.since_version, base.as_ref(), outlet, &progress)
    }

    fn reads(&self) -> Option<&dyn Reads> {
        Some(&self.node)
    }
}
