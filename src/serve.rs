//! A datastore behind the Backup RPC.

use crate::base::progress::Progress;
use crate::error::Result;
use crate::flow::datastore::{self, ReadOptions};
use crate::flow::serving;
use crate::proto::evnode::BackupRequest;
use crate::rpc::{self, Handler, Listen, Outlet, Server};
use std::path::PathBuf;
use std::sync::Arc;

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

/// Serves a datastore until the server is stopped.
///
/// The datastore is opened anew for each backup: what was applied to it in the meantime is served, what is applied while a backup
/// runs is not in that one.
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
    let (path, reading) = (options.path.clone(), options.reading.clone());
    crate::flow::work::blocking(Progress::new(), move |_| datastore::open(&path, &reading).map(drop)).await?;
    rpc::listen(options.listen, Arc::new(Served { path: options.path, reading: options.reading })).await
}

struct Served {
    path: PathBuf,
    reading: ReadOptions,
}

impl Handler for Served {
    fn backup(&self, request: &BackupRequest, outlet: &mut dyn Outlet) -> Result<()> {
        let datastore = datastore::open(&self.path, &self.reading)?;
        let base = serving::base(request);
        let progress = outlet.progress();
        serving::answer(&*datastore, request.since_version, base.as_ref(), outlet, &progress)
    }
}
