//! The RPCs of `StoreService`, each on a thread that may block.

use super::outlet::{Handler, Outgoing, Reply};
use super::place::Place;
use super::rate::Bucket;
use super::reads::{Reads, Refusal};
use super::status::to_status;
use crate::base::progress::Progress;
use crate::error::{Error, Kind};
use crate::proto::evnode::store_service_server::StoreService;
use crate::proto::evnode::{
    BackupRequest, GetBlockRequest, GetBlockResponse, GetGenesisDaHeightResponse, GetMetadataRequest,
    GetMetadataResponse, GetP2pStoreInfoResponse, GetStateResponse,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};

/// Read RPCs at a time: each may hold a block of many megabytes, until its client has taken it or takes nothing for too long. The next ones wait.
const READS: usize = 8;
/// A reply up to this long is none of those: it waits for its client without a place.
const SHORT: usize = 64 << 10;

/// What answers.
pub(crate) struct Service {
    handler: Arc<dyn Handler>,
    places: Arc<Semaphore>,
    max_backups: usize,
    reading: Arc<Semaphore>,
    rate: Option<Arc<Bucket>>,
    heartbeat: Duration,
    patience: Duration,
    end: CancellationToken,
    handlers: TaskTracker,
}

impl Service {
    /// At most `max_backups` backups at a time; `end` is cancelled when the server has no more patience, `handlers` counts the threads.
    pub(crate) fn new(
        handler: Arc<dyn Handler>,
        max_backups: usize,
        rate: Option<Arc<Bucket>>,
        heartbeat: Duration,
        patience: Duration,
        end: CancellationToken,
        handlers: TaskTracker,
    ) -> Self {
        let (places, reading) = (Arc::new(Semaphore::new(max_backups)), Arc::new(Semaphore::new(READS)));
        Self { handler, places, max_backups, reading, rate, heartbeat, patience, end, handlers }
    }

    /// Asks the handler, which stops when nobody waits for the answer any more.
    async fn read<T: prost::Message + 'static>(
        &self,
        ask: impl FnOnce(&dyn Reads, &Progress) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let stopped = || {
            let error =
                Error::unavailable("the server was stopped").with_hint("try again when it runs again");
            Err(to_status(&error))
        };
        let place = tokio::select! {
            Ok(place) = Arc::clone(&self.reading).acquire_owned() => place,
            () = self.end.cancelled() => return stopped(),
        };
        let patience = self.patience;
        let (handler, progress) = (Arc::clone(&self.handler), Progress::new());
        let wanted = progress.cancel_on_drop();
        let answer = self.handlers.spawn_blocking(move || {
            let none = || Err(Status::unimplemented("this server serves backups only"));
            let answer = handler.reads().map_or_else(none, |reads| Ok(ask(reads, &progress)?))?;
            let place = (answer.encoded_len() > SHORT).then(|| Place::new(place, patience));
            Ok((answer, place))
        });
        let answer = tokio::select! {
            answer = answer => answer,
            () = self.end.cancelled() => return stopped(),
        };
        wanted.disarm();
        let (answer, place) = answer.unwrap_or_else(|error| Err(Status::internal(error.to_string())))?;
        let mut reply = Response::new(answer);
        if let Some(place) = place {
            reply.extensions_mut().insert(place);
        }
        Ok(reply)
    }
}

#[tonic::async_trait]
impl StoreService for Service {
    type BackupStream = Reply;

    async fn get_block(
        &self,
        request: Request<GetBlockRequest>,
    ) -> Result<Response<GetBlockResponse>, Status> {
        let which = request.into_inner().identifier;
        self.read(move |reads, progress| reads.block(which.as_ref(), progress)).await
    }

    async fn get_state(&self, _: Request<()>) -> Result<Response<GetStateResponse>, Status> {
        let state = |state| GetStateResponse { state: Some(state) };
        self.read(move |reads, progress| reads.state(progress).map(state)).await
    }

    async fn get_metadata(
        &self,
        request: Request<GetMetadataRequest>,
    ) -> Result<Response<GetMetadataResponse>, Status> {
        let name = request.into_inner().key;
        let value = |value| GetMetadataResponse { value };
        self.read(move |reads, progress| reads.metadata(&name, progress).map(value)).await
    }

    async fn get_genesis_da_height(
        &self,
        _: Request<()>,
    ) -> Result<Response<GetGenesisDaHeightResponse>, Status> {
        let height = |height| GetGenesisDaHeightResponse { height };
        self.read(move |reads, progress| reads.genesis_da_height(progress).map(height)).await
    }

    async fn get_p2p_store_info(&self, _: Request<()>) -> Result<Response<GetP2pStoreInfoResponse>, Status> {
        let stores = |stores| GetP2pStoreInfoResponse { stores };
        self.read(move |reads, progress| reads.p2p_stores(progress).map(stores)).await
    }

    async fn backup(&self, request: Request<BackupRequest>) -> Result<Response<Reply>, Status> {
        let client = request.remote_addr().map_or_else(|| "a client".to_owned(), |addr| addr.to_string());
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            let busy = Error::unavailable(format!(
                "expected fewer than {} backups at a time, found that many running",
                self.max_backups
            ));
            let busy = busy.with_hint("try again later, or raise max_backups of the server");
            let mut status = Status::resource_exhausted(busy.what());
            *status.metadata_mut() = to_status(&busy).metadata().clone();
            return Err(status);
        };
        let request = request.into_inner();
        let (mut outgoing, steps) = Outgoing::new(request.since_version, self.rate.clone(), self.end.clone());
        let handler = Arc::clone(&self.handler);
        self.handlers.spawn_blocking(move || {
            tracing::info!(client, since = request.since_version, "backup begins");
            let outcome = handler.backup(&request, &mut outgoing);
            let bytes = outgoing.bytes();
            match &outcome {
                Ok(()) => tracing::info!(client, bytes, "backup sent"),
                Err(error) if error.kind() == Kind::Cancelled => {
                    tracing::info!(client, bytes, "backup cancelled");
                }
                Err(error) => tracing::warn!(client, bytes, %error, "backup failed"),
            }
            outgoing.finish(outcome);
            drop(place);
        });
        steps.reply(self.heartbeat).await.map(Response::new)
    }
}
