use bytes::Bytes;
use evbackup::error::{Error, Result};
use evbackup::proto::any_layout::{AnyMetadata, AnyRequest, AnyResponse, any_response::Response};
use evbackup::proto::evnode::BackupRequest;
use evbackup::rpc::{
    Announced, Client, Connect, Event, Final, Handler, Incoming, Listen, Outlet, Request, Server, connect,
    listen,
};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::{Grpc, NamedService, ServerStreamingService};
use tonic_prost::ProstCodec;

/// Long enough for a busy machine, short enough to wait for.
pub(super) const SOON: Duration = Duration::from_secs(5);

struct Fake<F>(F);

impl<F> Handler for Fake<F>
where
    F: Fn(&BackupRequest, &mut dyn Outlet) -> Result<()> + Send + Sync + 'static,
{
    fn backup(&self, request: &BackupRequest, outlet: &mut dyn Outlet) -> Result<()> {
        (self.0)(request, outlet)
    }
}

pub(super) fn handler<F>(work: F) -> Arc<dyn Handler>
where
    F: Fn(&BackupRequest, &mut dyn Outlet) -> Result<()> + Send + Sync + 'static,
{
    Arc::new(Fake(work))
}

pub(super) fn loopback() -> Listen {
    Listen::new("127.0.0.1:0")
}

pub(super) async fn serve<F>(work: F) -> Server
where
    F: Fn(&BackupRequest, &mut dyn Outlet) -> Result<()> + Send + Sync + 'static,
{
    listen(loopback(), handler(work)).await.unwrap()
}

pub(super) fn to(address: SocketAddr) -> Connect {
    let mut options = Connect::new(address.to_string().parse().unwrap());
    options.connect_timeout = SOON;
    options.idle_timeout = SOON;
    options
}

pub(super) async fn client(address: SocketAddr) -> Client {
    connect(&to(address)).await.unwrap()
}

pub(super) async fn ask(address: SocketAddr, since: u64) -> Result<Incoming> {
    client(address).await.backup(Request { since, base: None }).await
}

/// Takes a stream to its end.
pub(super) async fn drain(mut incoming: Incoming) -> Result<(Vec<Bytes>, Vec<Bytes>, Final)> {
    let (mut chunks, mut listed) = (Vec::new(), Vec::new());
    loop {
        match incoming.next().await? {
            Event::Chunk(bytes) => chunks.push(bytes),
            Event::Listed(keys) => listed.extend(keys.into_iter().map(|one| one.key)),
            Event::End(end) => return Ok((chunks, listed, end)),
        }
    }
}

pub(super) async fn fails(address: SocketAddr, since: u64) -> Error {
    match ask(address, since).await {
        Ok(incoming) => drain(incoming).await.unwrap_err(),
        Err(error) => error,
    }
}

pub(super) fn first(height: u64) -> Announced {
    Announced { current_height: height, ..Announced::default() }
}

/// What the server of the proposal, or a bad one, does in turn.
#[derive(Clone)]
pub(super) enum Act {
    Meta([u64; 5]),
    Chunk(usize),
    Raw(AnyResponse),
    Fail(Status),
    Hang,
}

/// A server that does as it is told and keeps what it was asked. `refuse` is the answer to a request with a first field.
#[derive(Clone)]
pub(super) struct Script {
    pub(super) acts: Vec<Act>,
    pub(super) refuse: Option<Status>,
    pub(super) gzip: bool,
    pub(super) asked: Arc<Mutex<Vec<AnyRequest>>>,
}

impl Script {
    pub(super) fn new(acts: impl Into<Vec<Act>>) -> Self {
        Self { acts: acts.into(), refuse: None, gzip: false, asked: Arc::default() }
    }

    pub(super) async fn start(self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        tokio::spawn(tonic::transport::Server::builder().add_service(self).serve_with_incoming(incoming));
        address
    }
}

impl NamedService for Script {
    const NAME: &'static str = "evnode.v1.StoreService";
}

impl Service<http::Request<Body>> for Script {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = tonic::codegen::BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::result::Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::<AnyResponse, AnyRequest>::default());
            if this.gzip {
                grpc = grpc.send_compressed(tonic::codec::CompressionEncoding::Gzip);
            }
            Ok(grpc.server_streaming(this, request).await)
        })
    }
}

type Replies = Pin<Box<dyn tokio_stream::Stream<Item = std::result::Result<AnyResponse, Status>> + Send>>;

impl ServerStreamingService<AnyRequest> for Script {
    type Response = AnyResponse;
    type ResponseStream = Replies;
    type Future = tonic::codegen::BoxFuture<tonic::Response<Replies>, Status>;

    fn call(&mut self, request: tonic::Request<AnyRequest>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let request = request.into_inner();
            let refused = (request.f1 > 0).then_some(this.refuse).flatten();
            this.asked.lock().unwrap().push(request);
            if let Some(status) = refused {
                return Err(status);
            }
            let (sender, receiver) = tokio::sync::mpsc::channel(4);
            tokio::spawn(async move {
                for act in this.acts {
                    let reply = match act {
                        Act::Meta(f) => Ok(metadata(f)),
                        Act::Chunk(size) => {
                            Ok(AnyResponse { response: Some(Response::Chunk(vec![7; size].into())) })
                        }
                        Act::Raw(reply) => Ok(reply),
                        Act::Fail(status) => Err(status),
                        Act::Hang => return sender.closed().await,
                    };
                    if sender.send(reply).await.is_err() {
                        return;
                    }
                }
            });
            let stream: Replies = Box::pin(tokio_stream::wrappers::ReceiverStream::new(receiver));
            Ok(tonic::Response::new(stream))
        })
    }
}

pub(super) fn metadata([f1, f2, f3, f4, f5]: [u64; 5]) -> AnyResponse {
    let message = AnyMetadata { f1, f2, f3, f4, f5, ..AnyMetadata::default() };
    AnyResponse { response: Some(Response::Metadata(message)) }
}

/// What a [`relay`] does after some bytes of chunks.
#[derive(Clone, Copy, Debug)]
pub(super) enum Then {
    /// The cable is pulled on both sides: what a killed server looks like.
    Cut,
    /// Nothing comes any more.
    Hang,
    /// The stream is reset with `INTERNAL_ERROR`: what the node's write timeout looks like.
    Reset,
}

/// Passes HTTP/2 on between a client and `server` until `after` bytes of DATA frames have come from the server.
pub(super) async fn relay(server: SocketAddr, after: usize, then: Then) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let server = TcpStream::connect(server).await.unwrap();
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let up = tokio::spawn(async move {
            // Either side may go at any time: that is what it is for.
            let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
        });
        let mut data = 0;
        let mut header = [0_u8; 9];
        while from_server.read_exact(&mut header).await.is_ok() {
            let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
            let mut payload = vec![0; length];
            from_server.read_exact(&mut payload).await.unwrap();
            data += if header[3] == 0 { length } else { 0 };
            if data > after {
                match then {
                    Then::Cut => break,
                    Then::Hang => std::future::pending().await,
                    Then::Reset => {
                        let reset = [0, 0, 4, 3, 0, header[5], header[6], header[7], header[8], 0, 0, 0, 2];
                        to_client.write_all(&reset).await.unwrap();
                        return std::future::pending().await;
                    }
                }
            }
            if to_client.write_all(&header).await.is_err() || to_client.write_all(&payload).await.is_err() {
                break;
            }
        }
        up.abort();
    });
    address
}

/// A socket that sends `bytes` to each client once that has sent something, then closes, unless `stay`.
pub(super) async fn socket(bytes: &'static [u8], stay: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut some = [0; 4096];
                // A client that goes first is as good.
                let _ = client.read(&mut some).await;
                let _ = client.write_all(bytes).await;
                while stay && client.read(&mut some).await.is_ok_and(|count| count > 0) {}
            });
        }
    });
    address
}

/// An HTTP/2 server by hand: SETTINGS, then `reply` once a request's HEADERS frame has come.
pub(super) async fn http2(reply: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut preface = [0; 24];
                client.read_exact(&mut preface).await.unwrap();
                client.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
                let mut header = [0; 9];
                while client.read_exact(&mut header).await.is_ok() {
                    let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
                    client.read_exact(&mut vec![0; length]).await.unwrap();
                    match header[3] {
                        1 => client.write_all(reply).await.unwrap(),
                        4 if header[4] == 0 => client.write_all(&[0, 0, 0, 4, 1, 0, 0, 0, 0]).await.unwrap(),
                        _ => {}
                    }
                }
            });
        }
    });
    address
}
