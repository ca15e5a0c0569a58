//! `serve`: a running server that Python holds.

use super::convert::{self, Tls};
use super::job::Job;
use crate::error::Result;
use crate::rpc::{self, Listen};
use crate::serve;
use pyo3::prelude::*;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// The keys of the dict that `evbackup.serve` passes; the meaning of each is documented there.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Given {
    path: PathBuf,
    addr: String,
    tls: Option<Tls>,
    token: Option<String>,
    insecure: bool,
    max_rate: Option<u64>,
    reading: convert::Reading,
    max_backups: usize,
}

/// A job that begins to serve.
#[pyfunction]
#[pyo3(name = "serve")]
pub(crate) fn serve_verb(options: Given) -> Job {
    let listen = Listen {
        tls: options.tls.map(Into::into),
        token: options.token,
        insecure: options.insecure,
        max_rate: options.max_rate,
        max_backups: options.max_backups,
        ..Listen::new(options.addr)
    };
    let options = serve::Options { path: options.path, reading: convert::reading(options.reading), listen };
    Job::new(
        move |_| serve::run(options),
        |py, server| {
            let address = server.address().to_string();
            let server = Server {
                address,
                running: Arc::new(Mutex::new(Some(server))),
                stopping: CancellationToken::new(),
            };
            Ok(Py::new(py, server)?.into_any())
        },
    )
}

/// A server that runs until it is stopped or forgotten.
#[pyclass(frozen, module = "evbackup._evbackup")]
pub(crate) struct Server {
    #[pyo3(get)]
    address: String,
    running: Arc<Mutex<Option<rpc::Server>>>,
    stopping: CancellationToken,
}

#[pymethods]
impl Server {
    /// A job that stops it; a second time there is nothing to do.
    fn stop(&self) -> Job {
        let (running, stopping) = (Arc::clone(&self.running), self.stopping.clone());
        Job::new(
            move |_| async move {
                // Whoever waits for the end holds the lock until it hears this.
                stopping.cancel();
                match running.lock().await.take() {
                    Some(server) => server.stop().await,
                    None => Ok(()),
                }
            },
            convert::result,
        )
    }

    /// A job that waits until it is stopped.
    fn stopped(&self) -> Job {
        let (running, stopping) = (Arc::clone(&self.running), self.stopping.clone());
        Job::new(move |_| async move { ended(&running, &stopping).await }, convert::result)
    }
}

async fn ended(running: &Mutex<Option<rpc::Server>>, stopping: &CancellationToken) -> Result<()> {
    match &mut *running.lock().await {
        None => Ok(()),
        Some(server) => tokio::select! {
            ended = server.wait() => ended,
            () = stopping.cancelled() => Ok(()),
        },
    }
}
