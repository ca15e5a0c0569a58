//! The asking end: connect, ask, and take the stream in until it is proven complete.

use super::address::Address;
use super::dial::{Dialer, expect_http2, explain, explain_late};
use super::rate::Bucket;
use super::status::{chain, from_status, reason, said};
use super::tls::Tls;
use super::wire::{
    self, Announced, AnyCodec, BACKUP, Base, Event, Final, MAX_MESSAGE, Read, announced, final_of, listed,
};
use crate::error::{Error, Kind, Result};
use crate::proto::any_layout::{AnyMetadata, AnyRequest};
use std::fmt;
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::codec::CompressionEncoding;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{Ascii, MetadataKey, MetadataMap, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

/// HTTP/2 windows for long fat links: 16 MiB keep 1 Gbit/s flowing over 130 ms, where the default 64 KiB yield 4 Mbit/s.
const STREAM_WINDOW: u32 = 16 << 20;
/// The connection's window: room for the one stream that fills it and a second one.
const CONNECTION_WINDOW: u32 = 32 << 20;
/// Under a rate limit the window shrinks, so that the sender is slowed down and not only its reader; never below HTTP/2's default.
const SMALLEST_WINDOW: u32 = 64 << 10;
/// Larger frames than HTTP/2's default 16 KiB, for fewer of them; a chunk of the node fits into one.
const FRAME_SIZE: u32 = 256 << 10;
/// A ping this often finds a peer that is gone without a word.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// How long a ping may stay unanswered.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

const CUT_HINT: &str = "ev-node cuts every reply 10 s after it began: run `evbackup serve` beside the node, \
                        or back up its directory";
const CUT_BY_OURS_HINT: &str =
    "take the backup again; if it ends at the same place, the server's log says why";
/// What to do about a stream that is not what it must be.
pub const DAMAGED_HINT: &str = "the server, or something on the way to it, is at fault: try again";
/// A released ev-node answers so, with the 404 of Go's web server.
const NOT_GRPC_HINT: &str = "is this the node's RPC port (7331 by default)? A node without the Backup RPC answers so, too: \
                             pass via=\"blocks\", run `evbackup serve` beside it, or back up its directory";
const PLAIN_TOKEN_HINT: &str =
    "use https:// or tls; insecure=True sends the token for everyone on the way to read";

/// Where to connect and how.
///
/// ```
/// use evbackup::rpc::Connect;
///
/// let mut options = Connect::new("node:7331".parse()?);
/// options.token = Some("hush".to_owned());
/// assert!(!format!("{options:?}").contains("hush"));
/// # Ok::<(), evbackup::error::Error>(())
/// ```
#[derive(Clone)]
pub struct Connect {
    /// Where the server is.
    pub address: Address,
    /// TLS with these files; `https://` alone is TLS with the system's roots.
    pub tls: Option<Tls>,
    /// A bearer token.
    pub token: Option<String>,
    /// Further headers of every request.
    pub headers: Vec<(String, String)>,
    /// Allows a token without TLS to another machine.
    pub insecure: bool,
    /// Time for name, TCP, TLS and the first word of HTTP/2 together.
    pub connect_timeout: Duration,
    /// How long a server may be silent; it begins anew with every message.
    pub idle_timeout: Duration,
    /// Bytes per second.
    pub max_rate: Option<u64>,
    /// Whether compressed replies are welcome. None: from other machines only, since loopback is quicker than any codec.
    pub compressed: Option<bool>,
}

impl Connect {
    /// The defaults for an address.
    pub fn new(address: Address) -> Self {
        Self {
            address,
            tls: None,
            token: None,
            headers: Vec::new(),
            insecure: false,
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            max_rate: None,
            compressed: None,
        }
    }

    /// Whether the connection has TLS.
    fn secure(&self) -> Result<bool> {
        if self.max_rate == Some(0) {
            return Err(Error::invalid("expected a rate above 0, found 0"));
        }
        let secure = match (self.address.tls(), &self.tls) {
            (Some(false), Some(_)) => {
                return Err(Error::invalid("expected https:// with tls, found http://"));
            }
            (said, files) => said.unwrap_or(files.is_some()),
        };
        if self.token.is_some() && !secure && !self.insecure && !self.address.is_loopback() {
            return Err(Error::invalid("expected TLS for a token, found a connection in plain text")
                .with_hint(PLAIN_TOKEN_HINT));
        }
        Ok(secure)
    }

    fn metadata(&self) -> Result<MetadataMap> {
        let mut map = MetadataMap::new();
        for (name, value) in &self.headers {
            let key = name
                .to_ascii_lowercase()
                .parse::<MetadataKey<Ascii>>()
                .map_err(|_| Error::invalid(format!("expected a header name, found {name:?}")))?;
            let lone = key != "authorization" || self.token.is_none();
            if !lone {
                return Err(Error::invalid("expected a token or an authorization header, found both"));
            }
            // A header may be a secret too: its value is in no error and no log.
            let mut value = value.parse::<MetadataValue<Ascii>>().map_err(|_| {
                Error::invalid(format!("expected visible ASCII in the header {name}, found other"))
            })?;
            value.set_sensitive(true);
            map.append(key, value);
        }
        if let Some(token) = &self.token {
            let mut value = format!("Bearer {token}")
                .parse::<MetadataValue<Ascii>>()
                .map_err(|_| Error::invalid("expected visible ASCII in the token, found other"))?;
            value.set_sensitive(true);
            map.insert("authorization", value);
        }
        Ok(map)
    }

    fn endpoint(&self, secure: bool) -> Result<Endpoint> {
        let scheme = if secure { "https" } else { "http" };
        let stream_window = match self.max_rate {
            Some(rate) => u32::try_from(rate).unwrap_or(u32::MAX).clamp(SMALLEST_WINDOW, STREAM_WINDOW),
            None => STREAM_WINDOW,
        };
        let endpoint = Endpoint::from_shared(format!("{scheme}://{}", self.address.authority()))
            .and_then(|endpoint| endpoint.user_agent(concat!("evbackup/", env!("CARGO_PKG_VERSION"))))
            .map_err(|error| {
                Error::invalid(format!("expected an address, found one that HTTP refuses: {error}"))
            })?
            .initial_stream_window_size(stream_window)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME_SIZE)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT);
        if !secure {
            return Ok(endpoint);
        }
        let config = self.tls.clone().unwrap_or_default().client(self.address.host())?;
        endpoint
            .tls_config(config)
            .map_err(|error| Error::invalid(format!("cannot set up TLS: {}", chain(&error))))
    }
}

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("Connect")
            .field("address", &self.address)
            .field("tls", &self.tls)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("headers", &names)
            .field("insecure", &self.insecure)
            .field("connect_timeout", &self.connect_timeout)
            .field("idle_timeout", &self.idle_timeout)
            .field("max_rate", &self.max_rate)
            .field("compressed", &self.compressed)
            .finish()
    }
}

/// Connects, and makes sure that the other side speaks HTTP/2.
///
/// ```no_run
/// # async fn example() -> evbackup::error::Result<()> {
/// use evbackup::rpc::{Connect, Event, Request, connect};
///
/// let mut client = connect(&Connect::new("node:7331".parse()?)).await?;
/// let mut incoming = client.backup(Request::default()).await?;
/// println!("the node stands at {}", incoming.announced().current_height);
/// loop {
///     match incoming.next().await? {
///         Event::Chunk(bytes) => println!("{} bytes", bytes.len()),
///         Event::Listed(keys) => println!("{} keys", keys.len()),
///         Event::End(end) => break println!("complete up to version {}", end.last_version),
///     }
/// }
/// # Ok(()) }
/// ```
pub async fn connect(options: &Connect) -> Result<Client> {
    let secure = options.secure()?;
    let metadata = options.metadata()?;
    let place = options.address.to_string();
    let endpoint = options.endpoint(secure).map_err(|error| error.at(place.clone()))?;
    let (dialer, first) = Dialer::new(options.address.clone());
    let reaching = async {
        let channel = endpoint
            .connect_with_connector(dialer)
            .await
            .map_err(|error| explain(&error, &first.borrow(), secure))?;
        if !secure {
            expect_http2(first.clone()).await?;
        }
        Ok(channel)
    };
    let limit = options.connect_timeout;
    let channel = timeout(limit, reaching)
        .await
        .unwrap_or_else(|_| {
            let text = format!("expected an answer within {} s, found silence", limit.as_secs_f64());
            Err(Error::unavailable(text).with_hint("is the node running, and does a firewall stand between?"))
        })
        .map_err(|error| error.at(place.clone()))?;
    let mut grpc = Grpc::new(channel).max_decoding_message_size(MAX_MESSAGE);
    if options.compressed.unwrap_or(!options.address.is_loopback()) {
        grpc = grpc.accept_compressed(CompressionEncoding::Zstd).accept_compressed(CompressionEncoding::Gzip);
    }
    Ok(Client { grpc, metadata, place, idle: options.idle_timeout, max_rate: options.max_rate.unwrap_or(0) })
}

/// A connection to a server with the Backup RPC.
#[derive(Debug)]
pub struct Client {
    grpc: Grpc<Channel>,
    metadata: MetadataMap,
    place: String,
    idle: Duration,
    max_rate: u64,
}

/// What a connection is made of.
pub(super) struct Parts {
    pub(super) grpc: Grpc<Channel>,
    pub(super) metadata: MetadataMap,
    pub(super) place: String,
    pub(super) idle: Duration,
    pub(super) rate: Option<Bucket>,
}

/// What to ask for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Request {
    /// Versions up to and with this one are left out; 0: everything.
    pub since: u64,
    /// What the increment is based on, for a server that can prove it.
    pub base: Option<Base>,
}

/// Why asking failed: the status itself still decides whether to ask in the other layout.
enum Refusal {
    Status(Box<Status>),
    Other(Error),
}

impl Client {
    /// What [`Reader`](super::Reader) goes on with.
    pub(super) fn parts(&self) -> Parts {
        Parts {
            grpc: self.grpc.clone(),
            metadata: self.metadata.clone(),
            place: self.place.clone(),
            idle: self.idle,
            rate: Bucket::new(self.max_rate),
        }
    }

    /// Asks for a backup and waits for the first metadata message.
    ///
    /// A server of the proposal's first layout takes `since` for a target height and may refuse it; then the question is put
    /// again in that layout. If it does not refuse it sends everything, which [`Final::since`] says in the end.
    pub async fn backup(&mut self, request: Request) -> Result<Incoming> {
        let question = wire::ask_f(request.since, request.base.as_ref());
        let answer = match self.ask(question.clone()).await {
            Err(Refusal::Status(status))
                if status.code() == Code::FailedPrecondition
                    && reason(&status).is_none()
                    && request.since > 0 =>
            {
                self.ask(wire::ask_t(question)).await
            }
            answer => answer,
        };
        let (stream, first) = answer.map_err(|refusal| {
            let error = match refusal {
                Refusal::Status(status) => {
                    explain_late(&said(&status)).unwrap_or_else(|| from_status(&status, false))
                }
                Refusal::Other(error) => error,
            };
            hinted(error).at(self.place.clone())
        })?;
        Ok(Incoming {
            stream,
            announced: announced(first),
            asked: request.since,
            state: State::Open,
            idle: self.idle,
            rate: Bucket::new(self.max_rate),
            place: self.place.clone(),
            began: Instant::now(),
            bytes: 0,
        })
    }

    async fn ask(&mut self, question: AnyRequest) -> Result<(Streaming<Read>, AnyMetadata), Refusal> {
        let status = |status| Refusal::Status(Box::new(status));
        let asking = async {
            self.grpc.ready().await.map_err(|error| status(Status::from_error(error.into())))?;
            let mut request = tonic::Request::new(question);
            *request.metadata_mut() = self.metadata.clone();
            let path = PathAndQuery::from_static(BACKUP);
            let response = self.grpc.server_streaming(request, path, AnyCodec).await.map_err(status)?;
            expect_grpc(response.metadata()).map_err(Refusal::Other)?;
            Ok(response.into_inner())
        };
        let mut stream =
            timeout(self.idle, asking).await.map_err(|_| Refusal::Other(silent(self.idle, 0)))??;
        loop {
            let message = timeout(self.idle, stream.message())
                .await
                .map_err(|_| Refusal::Other(silent(self.idle, 0)))?
                .map_err(status)?;
            let found = match message {
                // Our server's sign of life while it still prepares.
                Some(Read::Nothing) => continue,
                Some(Read::Metadata(first)) => match final_of(&first) {
                    Ok(None) => return Ok((stream, *first)),
                    Ok(Some(_)) => "the final message",
                    Err(error) => return Err(Refusal::Other(error)),
                },
                Some(Read::Chunk(_)) => "a chunk",
                Some(Read::Damaged(why)) => return Err(Refusal::Other(not_a_message(&why))),
                None => {
                    let text = "expected the first message, found the end of the stream after 0 bytes";
                    return Err(Refusal::Other(Error::incomplete(text).with_hint(CUT_HINT)));
                }
            };
            let text = format!("expected the node's height as the first message, found {found}");
            return Err(Refusal::Other(Error::damaged(text)));
        }
    }
}

/// A web server may answer 200 to anything.
pub(super) fn expect_grpc(headers: &MetadataMap) -> Result<()> {
    match headers.get("content-type").map(|value| value.to_str().unwrap_or("something else")) {
        Some(found) if !found.starts_with("application/grpc") => {
            Err(Error::unsupported(format!("expected a gRPC reply, found {found}")).with_hint(NOT_GRPC_HINT))
        }
        _ => Ok(()),
    }
}

/// What to do about bytes that are not what they must be.
fn hinted(error: Error) -> Error {
    if error.kind() == Kind::Damaged { error.with_hint(DAMAGED_HINT) } else { error }
}

pub(super) fn silent(idle: Duration, bytes: u64) -> Error {
    let text =
        format!("expected a message within {} s, found silence after {bytes} bytes", idle.as_secs_f64());
    Error::unavailable(text)
        .with_hint("the server or the way to it hangs: try again, or raise the idle timeout")
}

fn not_a_message(why: &str) -> Error {
    Error::damaged(format!("expected a message of the Backup RPC, found other bytes: {why}"))
}

/// A backup on its way in. Dropping it tells the server to stop.
#[derive(Debug)]
pub struct Incoming {
    stream: Streaming<Read>,
    announced: Announced,
    asked: u64,
    state: State,
    idle: Duration,
    rate: Option<Bucket>,
    place: String,
    began: Instant,
    bytes: u64,
}

#[derive(Debug)]
enum State {
    /// Chunks may come.
    Open,
    /// The final message has come: nothing but a good status may follow.
    Ending(Final),
    /// All was handed out, or it failed.
    Over,
}

impl Incoming {
    /// What the server said before the first byte.
    pub fn announced(&self) -> &Announced {
        &self.announced
    }

    /// Chunk bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next thing that comes. After [`Event::End`] or an error there is nothing more to ask for.
    pub async fn next(&mut self) -> Result<Event> {
        let event = self.advance().await;
        if matches!(event, Ok(Event::End(_)) | Err(_)) {
            self.state = State::Over;
        }
        event.map_err(|error| hinted(error).at(self.place.clone()))
    }

    async fn advance(&mut self) -> Result<Event> {
        loop {
            if matches!(self.state, State::Over) {
                return Err(Error::invalid("expected no question after the end of the stream, found one"));
            }
            let message = timeout(self.idle, self.stream.message())
                .await
                .map_err(|_| silent(self.idle, self.bytes))?
                .map_err(|status| self.cut(&status))?;
            if let State::Ending(end) = &self.state {
                return match message {
                    None => Ok(Event::End(end.clone())),
                    Some(found) => Err(after_the_end(&found)),
                };
            }
            match message {
                Some(Read::Nothing) => {}
                Some(Read::Chunk(bytes)) => {
                    self.bytes = self.bytes.saturating_add(bytes.len() as u64);
                    if let Some(rate) = &self.rate {
                        tokio::time::sleep(rate.take(bytes.len())).await;
                    }
                    return Ok(Event::Chunk(bytes));
                }
                Some(Read::Metadata(mut message)) => {
                    if let Some(end) = final_of(&message)? {
                        self.check(&end)?;
                        self.state = State::Ending(end);
                    }
                    if !message.listed.is_empty() {
                        return Ok(Event::Listed(listed(&mut message)?));
                    }
                }
                Some(Read::Damaged(why)) => return Err(not_a_message(&why)),
                None => return Err(self.incomplete("the end of the stream")),
            }
        }
    }

    /// The source may send more than was asked for, never less.
    fn check(&self, end: &Final) -> Result<()> {
        if end.since <= self.asked {
            return Ok(());
        }
        let (since, asked) = (end.since, self.asked);
        Err(Error::mismatch(format!(
            "expected what follows version {asked}, found what follows version {since}"
        ))
        .with_hint("take a full backup"))
    }

    fn cut(&self, status: &Status) -> Error {
        let error = from_status(status, true);
        if error.kind() != Kind::Incomplete {
            return error;
        }
        let cut = self.bare_incomplete(&format!("a cut stream ({})", error.what()));
        let hint = error.hint().map(str::to_owned);
        self.with_cut_hint(hint.into_iter().fold(cut, Error::with_hint))
    }

    fn incomplete(&self, found: &str) -> Error {
        self.with_cut_hint(self.bare_incomplete(found))
    }

    fn bare_incomplete(&self, found: &str) -> Error {
        let (bytes, seconds) = (self.bytes, self.began.elapsed().as_secs_f64());
        Error::incomplete(format!(
            "expected the final message, found {found} after {bytes} bytes and {seconds:.1} s"
        ))
    }

    /// Only ev-node itself has the time limit; our own server names its version.
    fn with_cut_hint(&self, error: Error) -> Error {
        match self.announced.pinned_version {
            None => error.with_hint(CUT_HINT),
            Some(_) => error.with_hint(CUT_BY_OURS_HINT),
        }
    }
}

fn after_the_end(found: &Read) -> Error {
    let found = match found {
        Read::Metadata(message) if matches!(final_of(message), Ok(Some(_))) => "a second final message",
        Read::Metadata(_) => "metadata",
        Read::Chunk(_) => "a chunk",
        Read::Nothing | Read::Damaged(_) => "another message",
    };
    Error::damaged(format!("expected nothing after the final message, found {found}"))
}
