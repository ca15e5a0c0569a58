use super::Feature;
use super::mutate::varint;
use bytes::{BufMut, Bytes};
use evbackup::error::Kind;
use evbackup::proto::any_layout::{AnyMetadata, AnyRequest, AnyResponse, any_response::Response};
use evbackup::proto::evnode::BackupResponse;
use evbackup::rpc::{Client, Connect, Event, Request, connect};
use prost::Message;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpListener;
use tonic::Status;
use tonic::body::Body;
use tonic::codec::{Codec, EncodeBuf, Encoder};
use tonic::codegen::{Service, http};
use tonic::server::{Grpc, NamedService, ServerStreamingService};
use tonic_prost::{ProstCodec, ProstDecoder};

fn metadata(f: [u64; 5]) -> AnyMetadata {
    let [f1, f2, f3, f4, f5] = f;
    AnyMetadata { f1, f2, f3, f4, f5, ..AnyMetadata::default() }
}

fn encoded(response: Response) -> Vec<u8> {
    AnyResponse { response: Some(response) }.encode_to_vec()
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let rich = AnyMetadata {
        listed: vec![Bytes::from_static(b"/0/m/x"), Bytes::new()],
        pinned_version: Some(7),
        store_id: vec![1; 16],
        sha256: vec![2; 32],
        tip_height: Some(9),
        ..metadata([9, 3, 7, 1, 0])
    };
    vec![
        Vec::new(),
        encoded(Response::Chunk(Bytes::from_static(b"chunk"))),
        encoded(Response::Metadata(metadata([9, 0, 0, 0, 0]))),
        encoded(Response::Metadata(metadata([9, 8, 3, 77, 1]))),
        encoded(Response::Metadata(rich)),
        [0x0b].repeat(300),
    ]
}

/// Any bytes as one message of either of our decoders: what is read can be written, and reads the same.
pub(super) fn decoded(data: &[u8]) -> Feature {
    let any = AnyResponse::decode(data);
    if let Ok(message) = &any {
        assert_eq!(AnyResponse::decode(message.encode_to_vec().as_slice()).as_ref(), Ok(message));
    }
    let ours = BackupResponse::decode(data);
    if let Ok(message) = &ours {
        assert_eq!(BackupResponse::decode(message.encode_to_vec().as_slice()).as_ref(), Ok(message));
    }
    let shape = any.map(|message| match message.response {
        Some(Response::Metadata(m)) => {
            let set = [m.f1, m.f2, m.f3, m.f4, m.f5].map(|field| field > 0);
            format!("{set:?}{:?}{}", m.pinned_version.is_some(), m.listed.len().min(3))
        }
        Some(Response::Chunk(bytes)) => format!("chunk {}", bytes.is_empty()),
        None => "nothing".to_owned(),
    });
    format!("{shape:?}{}", ours.is_ok())
}

/// Sends bytes as messages, whatever they are.
#[derive(Clone, Copy, Debug, Default)]
struct RawCodec;

struct RawEncoder;

impl Encoder for RawEncoder {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = AnyRequest;
    type Encoder = RawEncoder;
    type Decoder = ProstDecoder<AnyRequest>;

    fn encoder(&mut self) -> RawEncoder {
        RawEncoder
    }

    fn decoder(&mut self) -> ProstDecoder<AnyRequest> {
        ProstCodec::<AnyRequest, AnyRequest>::default().decoder()
    }
}

/// A server that answers with the messages it was last given.
#[derive(Clone, Default)]
struct Parrot(Arc<Mutex<Vec<Bytes>>>);

impl NamedService for Parrot {
    const NAME: &'static str = "evnode.v1.StoreService";
}

impl Service<http::Request<Body>> for Parrot {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = tonic::codegen::BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { Ok(Grpc::new(RawCodec).server_streaming(this, request).await) })
    }
}

type Replies = Pin<Box<dyn tokio_stream::Stream<Item = Result<Bytes, Status>> + Send>>;

impl ServerStreamingService<AnyRequest> for Parrot {
    type Response = Bytes;
    type ResponseStream = Replies;
    type Future = tonic::codegen::BoxFuture<tonic::Response<Replies>, Status>;

    fn call(&mut self, _: tonic::Request<AnyRequest>) -> Self::Future {
        let messages = self.0.lock().unwrap().clone();
        let replies: Replies = Box::pin(tokio_stream::iter(messages.into_iter().map(Ok)));
        Box::pin(async move { Ok(tonic::Response::new(replies)) })
    }
}

struct Peers {
    runtime: tokio::runtime::Runtime,
    parrot: Parrot,
    options: Connect,
    /// The connection, and how many inputs went through it.
    client: Mutex<(Client, u32)>,
}

/// A client resets the stream of a reply that is damaged, and h2 ends a connection on which that happens a thousand times.
const PER_CONNECTION: u32 = 500;

static PEERS: LazyLock<Peers> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let parrot = Parrot::default();
    let (options, client) = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        tokio::spawn(
            tonic::transport::Server::builder().add_service(parrot.clone()).serve_with_incoming(incoming),
        );
        let mut options = Connect::new(address.to_string().parse().unwrap());
        options.idle_timeout = Duration::from_secs(20);
        let client = connect(&options).await.unwrap();
        (options, client)
    });
    Peers { runtime, parrot, options, client: Mutex::new((client, 0)) }
});

/// Cuts the input into messages: a varint with the length of each before it.
fn messages(mut data: &[u8]) -> Vec<Bytes> {
    let mut messages = Vec::new();
    while let Some((first, rest)) = data.split_first() {
        let (length, rest) = match rest.split_first() {
            Some((second, more)) if *first >= 0x80 => {
                (usize::from(first & 0x7f) | usize::from(*second) << 7, more)
            }
            _ => (usize::from(*first), rest),
        };
        let (message, more) = rest.split_at(length.min(rest.len()));
        messages.push(Bytes::copy_from_slice(message));
        data = more;
    }
    messages
}

fn sequence(messages: &[Vec<u8>]) -> Vec<u8> {
    let one = |message: &Vec<u8>| [varint(message.len() as u64), message.clone()].concat();
    messages.iter().flat_map(one).collect()
}

pub(super) fn reply_seeds() -> Vec<Vec<u8>> {
    let meta = |f| encoded(Response::Metadata(metadata(f)));
    let chunk = |bytes: &'static [u8]| encoded(Response::Chunk(Bytes::from_static(bytes)));
    let mut seeds: Vec<_> = seeds().iter().map(|message| sequence(std::slice::from_ref(message))).collect();
    seeds.push(sequence(&[meta([9, 0, 0, 0, 0]), chunk(b"abc"), meta([9, 0, 5, 1, 0])]));
    seeds.push(sequence(&[meta([9, 0, 0, 0, 0]), chunk(b"abc"), meta([9, 0, 0, 5, 1])]));
    seeds.push(sequence(&[meta([9, 0, 0, 0, 0]), meta([9, 0, 5, 1, 0]), chunk(b"late")]));
    seeds.push(sequence(&[
        meta([9, 0, 0, 0, 0]),
        meta([9, 0, 0, 0, 0]),
        Vec::new(),
        seeds_listed(),
        meta([9, 0, 0, 1, 0]),
    ]));
    seeds
}

fn seeds_listed() -> Vec<u8> {
    let listed = vec![Bytes::from_static(b"/m/a"), Bytes::from_static(b"/m/b")];
    encoded(Response::Metadata(AnyMetadata { listed, ..metadata([9, 0, 0, 0, 0]) }))
}

/// Any sequence of any messages through the client: chunks that were sent, at most one end and nothing after it, or an error that
/// says that the reply is damaged or incomplete.
pub(super) fn through_the_client(data: &[u8]) -> Feature {
    let sent = messages(data);
    let bytes: usize = sent.iter().map(Bytes::len).sum();
    // One input at a time, whichever test it is of.
    let mut held = PEERS.client.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    *PEERS.parrot.0.lock().unwrap() = sent;
    PEERS.runtime.block_on(async {
        let (client, inputs) = &mut *held;
        *inputs += 1;
        if inputs.is_multiple_of(PER_CONNECTION) {
            *client = connect(&PEERS.options).await.unwrap();
        }
        let mut incoming = match client.backup(Request::default()).await {
            Ok(incoming) => incoming,
            Err(error) => {
                assert!(matches!(error.kind(), Kind::Damaged | Kind::Incomplete), "{error}");
                return format!("first: {}", error.what());
            }
        };
        let (mut received, mut lists) = (0, 0);
        loop {
            match incoming.next().await {
                Ok(Event::Chunk(chunk)) => {
                    assert!(!chunk.is_empty());
                    received += chunk.len();
                    assert!(received <= bytes && incoming.bytes() == received as u64);
                }
                Ok(Event::Listed(keys)) => {
                    assert!(!keys.is_empty());
                    lists += 1;
                }
                Ok(Event::End(end)) => {
                    assert!(incoming.next().await.is_err());
                    return format!("{:?} {} {} {}", end.layout, received > 0, lists.min(2), end.since > 0);
                }
                Err(error) => {
                    assert!(
                        matches!(error.kind(), Kind::Damaged | Kind::Incomplete | Kind::Mismatch),
                        "{error}"
                    );
                    return format!("{} {} {}", error.what(), received > 0, lists.min(2));
                }
            }
        }
    })
}
