//! The answering end: the RPCs of a [`Handler`], with gRPC health and reflection.
//!
//! | who may          | health | reflection, Backup, the read RPCs                   |
//! |------------------|--------|-----------------------------------------------------|
//! | without a token  | yes    | when the server has none                            |
//! | with the token   | yes    | yes                                                 |
//!
//! With client certificates (`Tls::ca`) nobody gets as far as this without one. The port hands out the whole datastore, so an
//! address that other machines reach needs both TLS and one of the two, or the word `insecure`.

use super::address::Address;
use super::front::{self, Front};
use super::outlet::Handler;
use super::rate::Bucket;
use super::service::Service;
use super::status::to_status;
use super::tls::Tls;
use crate::error::{Error, Kind, Result};
use crate::proto::REFLECTION;
use crate::proto::evnode::store_service_server::StoreServiceServer;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::codec::CompressionEncoding;
use tonic::service::interceptor::InterceptedService;
use tonic::service::{Interceptor, Routes};
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Status};

/// The port of `evbackup serve`, beside the node's own.
pub const DEFAULT_SERVE_PORT: u16 = 7332;
/// A ping this often finds a client that is gone without a word.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// How long a ping may stay unanswered: a client that writes to a slow disk answers pings all the same.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// As many streams per connection as a node allows; each costs little until its turn comes.
const MAX_STREAMS: u32 = 100;
/// How long the end of connections and handlers is waited for once their streams were ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What to listen on and how.
///
/// ```
/// use evbackup::rpc::Listen;
///
/// let options = Listen { max_backups: 1, ..Listen::new("127.0.0.1:0") };
/// assert_eq!(options.heartbeat.as_secs(), 10);
/// ```
#[derive(Clone)]
pub struct Listen {
    /// Where to listen: `host:port`, port 0 for any, [`DEFAULT_SERVE_PORT`] when there is none.
    pub addr: String,
    /// TLS with this certificate; with `ca` only for clients with a certificate from it.
    pub tls: Option<Tls>,
    /// The bearer token that clients must show.
    pub token: Option<String>,
    /// Allows an address that other machines reach without TLS, token or client certificates.
    pub insecure: bool,
    /// Backups at a time; one more is told to come back later.
    pub max_backups: usize,
    /// Bytes per second, for all clients together.
    pub max_rate: Option<u64>,
    /// How long a stream may be silent before a sign of life is sent.
    pub heartbeat: Duration,
    /// How long a client of the read RPCs may take nothing of a long reply before it is given up.
    pub patience: Duration,
    /// How long [`Server::stop`] lets running backups go on.
    pub grace: Duration,
    /// Whether replies are compressed (zstd) for clients that ask for it.
    pub compressed: bool,
}

impl Listen {
    /// The defaults for an address.
    pub fn new(addr: impl Into<String>) -> Self {
        Self {
            addr: addr.into(),
            tls: None,
            token: None,
            insecure: false,
            max_backups: 2,
            max_rate: None,
            heartbeat: Duration::from_secs(10),
            patience: Duration::from_secs(60),
            grace: Duration::from_secs(5),
            compressed: true,
        }
    }

    /// Refuses to hand the datastore to a whole network by mistake.
    fn check(&self, loopback: bool) -> Result<()> {
        if self.token.as_ref().is_some_and(String::is_empty) {
            return Err(Error::invalid("expected a token, found an empty one"));
        }
        if self.max_rate == Some(0) || self.max_backups == 0 {
            return Err(Error::invalid("expected a rate and a number of backups above 0, found 0"));
        }
        if self.insecure || loopback {
            return Ok(());
        }
        let known = self.token.is_some() || self.tls.as_ref().is_some_and(|tls| tls.ca.is_some());
        let missing = match (self.tls.is_some(), known) {
            (true, true) => return Ok(()),
            (true, false) => "one without a token",
            (false, true) => "one without TLS",
            (false, false) => "one without TLS and token",
        };
        Err(Error::invalid(format!(
            "expected a protected server on an address that other machines reach, found {missing}"
        ))
        .with_hint(
            "set tls and token, listen on 127.0.0.1, or pass insecure=True if the network itself is closed",
        ))
    }
}

impl fmt::Debug for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listen")
            .field("addr", &self.addr)
            .field("tls", &self.tls)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("insecure", &self.insecure)
            .field("max_backups", &self.max_backups)
            .field("max_rate", &self.max_rate)
            .field("heartbeat", &self.heartbeat)
            .field("patience", &self.patience)
            .field("grace", &self.grace)
            .field("compressed", &self.compressed)
            .finish()
    }
}

/// Binds the address and serves `handler` in the background.
///
/// ```
/// # use bytes::Bytes;
/// # use evbackup::error::Result;
/// # use evbackup::proto::evnode::BackupRequest;
/// # use evbackup::rpc::{Announced, Connect, Event, Handler, Listen, Outlet, connect, listen};
/// # use std::sync::Arc;
/// # struct Fixed;
/// # impl Handler for Fixed {
/// #     fn backup(&self, _: &BackupRequest, outlet: &mut dyn Outlet) -> Result<()> {
/// #         outlet.begin(Announced::default())?;
/// #         outlet.chunk(Bytes::from_static(b"entries"))?;
/// #         outlet.end(42)
/// #     }
/// # }
/// # async fn example() -> Result<()> {
/// let server = listen(Listen::new("127.0.0.1:0"), Arc::new(Fixed)).await?;
///
/// let mut client = connect(&Connect::new(server.address().to_string().parse()?)).await?;
/// let mut incoming = client.backup(Default::default()).await?;
/// assert_eq!(incoming.next().await?, Event::Chunk(Bytes::from_static(b"entries")));
/// let Event::End(end) = incoming.next().await? else { unreachable!() };
/// assert_eq!(end.last_version, 42);
///
/// server.stop().await
/// # }
/// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
/// ```
pub async fn listen(options: Listen, handler: Arc<dyn Handler>) -> Result<Server> {
    let address = Address::parse(&options.addr, DEFAULT_SERVE_PORT)?;
    let place = address.to_string();
    if address.tls().is_some_and(|tls| tls != options.tls.is_some()) {
        return Err(
            Error::invalid("expected https:// with tls and http:// without, found the opposite").at(place)
        );
    }
    let listener = bind(&address, &options).await.map_err(|error| error.at(place.clone()))?;
    let bound = listener.local_addr().map_err(|error| Error::from_io(error, "ask for its port", &place))?;

    let mut builder = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(PING_INTERVAL))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .max_concurrent_streams(MAX_STREAMS)
        .accept_http1(true);
    if let Some(tls) = &options.tls {
        let unfit = |error| Error::invalid(format!("cannot set up TLS: {}", super::status::chain(&error)));
        builder = builder.tls_config(tls.server()?).map_err(unfit)?;
    }

    let (stop, end) = (CancellationToken::new(), CancellationToken::new());
    let handlers = TaskTracker::new();
    let gate = Gate { expected: options.token.map(|token| format!("Bearer {token}").into()) };
    let service = StoreServiceServer::new(Service::new(
        handler,
        options.max_backups,
        options.max_rate.and_then(Bucket::new).map(Arc::new),
        options.heartbeat.max(Duration::from_millis(1)),
        options.patience,
        end.clone(),
        handlers.clone(),
    ));
    let service =
        if options.compressed { service.send_compressed(CompressionEncoding::Zstd) } else { service };
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<StoreServiceServer<Service>>().await;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(REFLECTION)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let unfit = |error| Error::unsupported(format!("cannot describe the services: {error}"));
    let newer = reflection().build_v1().map_err(unfit)?;
    let older = reflection().build_v1alpha().map_err(unfit)?;
    let mut routes = Routes::new(Front::new(InterceptedService::new(service, gate.clone())))
        .add_service(Front::new(health))
        .add_service(Front::new(InterceptedService::new(newer, gate.clone())))
        .add_service(Front::new(InterceptedService::new(older, gate)));
    let known = std::mem::take(routes.axum_router_mut());
    *routes.axum_router_mut() = known.fallback(front::nowhere);
    let served = builder.add_routes(routes);

    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let serving = tokio::spawn(served.serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned()));
    tracing::info!(address = %bound, "serving backups");
    Ok(Server { address: bound, place, stop, end, handlers, serving: Some(serving), grace: options.grace })
}

async fn bind(address: &Address, options: &Listen) -> Result<TcpListener> {
    let unknown = |why: String| Error::invalid(format!("cannot resolve {}: {why}", address.host()));
    let found: Vec<SocketAddr> = tokio::net::lookup_host((address.host(), address.port()))
        .await
        .map_err(|error| unknown(error.to_string()))?
        .collect();
    options.check(found.iter().all(|one| one.ip().to_canonical().is_loopback()))?;
    let mut failure = unknown("it has no address".to_owned());
    for one in found {
        match TcpListener::bind(one).await {
            Ok(listener) => return Ok(listener),
            Err(error) => failure = not_bound(error, address),
        }
    }
    Err(failure)
}

fn not_bound(error: std::io::Error, address: &Address) -> Error {
    use std::io::ErrorKind::{AddrInUse, AddrNotAvailable};
    let (kind, what, hint) = match error.kind() {
        AddrInUse => (
            Kind::Locked,
            "expected a free port, found one in use",
            "another server runs there: stop it, or listen on another port",
        ),
        AddrNotAvailable => {
            (Kind::Invalid, "expected an address of this machine, found another", "listen on 127.0.0.1")
        }
        _ => return Error::from_io(error, "listen there", address.to_string()),
    };
    let errno = error.raw_os_error();
    errno.into_iter().fold(Error::new(kind, what).with_hint(hint), Error::with_errno).caused_by(error)
}

/// A running server. Dropping it ends it without waiting; [`stop`](Server::stop) waits.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    place: String,
    stop: CancellationToken,
    end: CancellationToken,
    handlers: TaskTracker,
    serving: Option<JoinHandle<Result<(), tonic::transport::Error>>>,
    grace: Duration,
}

impl Server {
    /// Where it listens, with the port that it got.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the server ends by itself, which only a failure makes it do.
    pub async fn wait(&mut self) -> Result<()> {
        match &mut self.serving {
            None => Ok(()),
            Some(serving) => {
                let ended = serving.await;
                self.serving = None;
                self.outcome(ended)
            }
        }
    }

    /// Stops: no new backup from now on, running ones may end within the grace time, then they are cut with a reason. When it
    /// returns, no handler runs any more, unless one did not look at its outlet for two seconds.
    pub async fn stop(mut self) -> Result<()> {
        self.stop.cancel();
        self.handlers.close();
        let Some(mut serving) = self.serving.take() else { return Ok(()) };
        let mut ended = timeout(self.grace, &mut serving).await.ok();
        self.end.cancel();
        if ended.is_none() {
            ended = timeout(LAST_WORDS, &mut serving).await.ok();
        }
        // A client that reads nothing any more keeps its connection open: that is cut.
        serving.abort();
        if timeout(LAST_WORDS, self.handlers.wait()).await.is_err() {
            tracing::warn!("a backup handler still runs after the server has stopped");
        }
        ended.map_or(Ok(()), |ended| self.outcome(ended))
    }

    fn outcome(
        &self,
        ended: std::result::Result<Result<(), tonic::transport::Error>, tokio::task::JoinError>,
    ) -> Result<()> {
        let why = match ended {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => super::status::chain(&error),
            Err(error) => error.to_string(),
        };
        Err(Error::io(format!("the server failed: {why}")).at(self.place.clone()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        self.end.cancel();
    }
}

/// Lets requests with the right token through.
#[derive(Clone)]
struct Gate {
    expected: Option<Arc<str>>,
}

impl Interceptor for Gate {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let Some(expected) = &self.expected else { return Ok(request) };
        let given = request.metadata().get("authorization");
        if given.is_some_and(|given| same(given.as_bytes(), expected.as_bytes())) {
            return Ok(request);
        }
        let found = if given.is_some() { "another" } else { "none" };
        let error = Error::denied(format!("expected the server's token, found {found}"))
            .with_hint("pass the right token");
        let mut status = Status::unauthenticated(error.what());
        *status.metadata_mut() = to_status(&error).metadata().clone();
        Err(status)
    }
}

/// Compares in a time that depends on the lengths only, so that a token cannot be guessed byte by byte.
fn same(given: &[u8], expected: &[u8]) -> bool {
    let differing = given.iter().zip(expected).fold(0_u8, |all, (a, b)| std::hint::black_box(all | (a ^ b)));
    given.len() == expected.len() && differing == 0
}
