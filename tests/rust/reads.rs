#![cfg(test)] // All of it, so that the lints know helpers to be tests too.

use super::proof::{block_on, in_memory, into_badger, put, serve_listen, serve_store, take, unlocked};
use evbackup::backup::{Origin, Since};
use evbackup::badger::{Directory, ReadOptions};
use evbackup::base::progress::Progress;
use evbackup::base::scratch::Scratch;
use evbackup::entry::{Sink as _, pour};
use evbackup::error::{Kind, Result};
use evbackup::evnode::hash;
use evbackup::evnode::key::{Key, Mark};
use evbackup::evnode::record::SignedHeader;
use evbackup::evnode::sample::{CHAIN_ID, Sample};
use evbackup::flow::node::{Block, Node, held::Held, segments::Segments};
use evbackup::proto::evnode::get_block_request::Identifier;
use evbackup::proto::evnode::store_service_client::StoreServiceClient;
use evbackup::proto::evnode::{GetBlockRequest, GetMetadataRequest};
use evbackup::rpc::Listen;
use evbackup::store::{LoadOptions, Loader, NewAbout};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::transport::Channel;
use tonic::{Code, Request};

const BLOCKS: u64 = 60;
const PATH: &str = "/evnode.v1.StoreService";

fn sample() -> Sample {
    let mut sample = Sample::with_blocks(BLOCKS);
    sample.include(50);
    sample.prune(7);
    sample.mark(Mark::GenesisDa, 101);
    sample
}

fn store(path: &Path) -> Sample {
    let sample = sample();
    let mut loader = Loader::create(path, LoadOptions::default()).unwrap();
    sample.entries().try_for_each(|entry| loader.put(entry)).unwrap();
    // What `sample` marks at the end has the version of the block that would come next.
    loader.finish_with(NewAbout { pinned_version: BLOCKS + 1, ..NewAbout::default() }).unwrap();
    sample
}

fn client(address: SocketAddr) -> StoreServiceClient<Channel> {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
    StoreServiceClient::new(endpoint.connect_lazy())
}

fn by(identifier: Identifier) -> GetBlockRequest {
    GetBlockRequest { identifier: Some(identifier) }
}

/// Every read RPC, out of a store, a directory of a stopped node and one that a node may have open.
#[test]
fn the_read_rpcs_are_served_from_any_datastore() {
    let folder = tempfile::tempdir().unwrap();
    let (stored, badger) = (folder.path().join("store"), folder.path().join("badger"));
    let sample = store(&stored);
    let options = into_badger(std::slice::from_ref(&stored), &badger);
    unlocked(|| block_on(evbackup::restore::run(options.clone(), Progress::new()))).unwrap();
    let offline = ReadOptions { offline: true, ..ReadOptions::default() };
    for (path, reading) in
        [(&stored, None), (&badger, Some(ReadOptions::default())), (&badger, Some(offline))]
    {
        block_on(async {
            let options = evbackup::serve::Options {
                path: path.clone(),
                reading: reading.unwrap_or_default(),
                listen: Listen::new("127.0.0.1:0"),
            };
            let server = evbackup::serve::run(options).await.unwrap();
            answers(&mut client(server.address()), &sample).await;
            server.stop().await.unwrap();
        });
    }
}

async fn answers(client: &mut StoreServiceClient<Channel>, sample: &Sample) {
    let header = |height| sample.value(&Key::Header(height).to_bytes()).unwrap();
    for (asked, height, da_height) in [(0, BLOCKS, 0), (8, 8, 108), (50, 50, 150), (51, 51, 0)] {
        let answer = client.get_block(by(Identifier::Height(asked))).await.unwrap().into_inner();
        let block = answer.block.unwrap();
        assert_eq!(block.header.unwrap(), header(height));
        assert_eq!(block.data.unwrap(), sample.value(&Key::Data(height).to_bytes()).unwrap());
        assert_eq!((answer.header_da_height, answer.data_da_height), (da_height, da_height));
    }
    let decoded = SignedHeader::decode(header(20)).unwrap();
    for name in [hash::index(header(20)), hash::header(&decoded.header)] {
        let answer = client.get_block(by(Identifier::Hash(name.to_vec()))).await.unwrap().into_inner();
        assert_eq!(answer.block.unwrap().header.unwrap(), header(20));
    }
    for nothing in [Identifier::Height(7), Identifier::Height(BLOCKS + 1), Identifier::Hash(vec![1; 32])] {
        let status = client.get_block(by(nothing)).await.unwrap_err();
        assert_eq!(status.code(), Code::Internal);
        assert!(status.message().ends_with("datastore: key not found"), "{status}");
    }
    let status = client.get_block(GetBlockRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);

    let state = client.get_state(()).await.unwrap().into_inner().state.unwrap();
    assert_eq!((state.chain_id.as_str(), state.last_block_height), (CHAIN_ID, BLOCKS));
    assert!(state.last_header_hash.is_empty() && !state.app_hash.is_empty());

    let metadata = |key: &str| GetMetadataRequest { key: key.to_owned() };
    let value = client.get_metadata(metadata("d")).await.unwrap().into_inner().value;
    assert_eq!(value, &50_u64.to_le_bytes()[..]);
    let status = client.get_metadata(metadata("none")).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(client.get_genesis_da_height(()).await.unwrap().into_inner().height, 101);

    let stores = client.get_p2p_store_info(()).await.unwrap().into_inner().stores;
    let ends: Vec<_> = stores
        .iter()
        .map(|store| {
            (&*store.label, store.tail.as_ref().unwrap().height, store.head.as_ref().unwrap().height)
        })
        .collect();
    assert_eq!(ends, [("Header Store", 8, BLOCKS), ("Data Store", 8, BLOCKS)]);
}

#[test]
fn the_token_opens_the_read_rpcs_too() {
    let folder = tempfile::tempdir().unwrap();
    store(&folder.path().join("store"));
    block_on(async {
        let listen = Listen { token: Some("hush".to_owned()), ..Listen::new("127.0.0.1:0") };
        let server = serve_listen(&folder.path().join("store"), listen).await;
        let mut client = client(server.address());
        let status = client.get_state(()).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
        let status = client.get_block(by(Identifier::Height(9))).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
        let mut request = Request::new(());
        request.metadata_mut().insert("authorization", "Bearer hush".parse().unwrap());
        assert_eq!(client.get_state(request).await.unwrap().into_inner().state.unwrap().chain_id, CHAIN_ID);

        // In Connect's words.
        let json = "content-type: application/json\r\n";
        let (status, body) = post(server.address(), "GetState", json, b"{}").await;
        assert_eq!((status, text(&body).contains("\"unauthenticated\"")), (401, true), "{}", text(&body));
        let json = format!("{json}authorization: Bearer hush\r\n");
        assert_eq!(post(server.address(), "GetState", &json, b"{}").await.0, 200);
    });
}

/// One POST over HTTP/1.1: the status and the body.
async fn post(address: SocketAddr, method: &str, headers: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let (head, body) = exchange(address, method, headers, body).await;
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body)
}

/// One POST over HTTP/1.1 to a method of the service, or to a path: the head and the body of the reply.
async fn exchange(address: SocketAddr, method: &str, headers: &str, body: &[u8]) -> (String, Vec<u8>) {
    let path = if method.starts_with('/') { method.to_owned() } else { format!("{PATH}/{method}") };
    request(address, &format!("POST {path}"), headers, body).await
}

/// The same of any HTTP method.
async fn request(address: SocketAddr, line: &str, headers: &str, body: &[u8]) -> (String, Vec<u8>) {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!(
        "{line} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).await.unwrap();
    let end = reply.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(reply[..end].to_vec()).unwrap();
    let body = reply.split_off(end + 4);
    if !head.to_lowercase().contains("transfer-encoding: chunked") {
        return (head, body);
    }
    let (mut plain, mut rest) = (Vec::new(), &body[..]);
    loop {
        let line = rest.windows(2).position(|window| window == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        if size == 0 {
            return (head, plain);
        }
        plain.extend_from_slice(&rest[line + 2..line + 2 + size]);
        rest = &rest[line + 4 + size..];
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn connect_is_answered_in_json_and_in_protobuf() {
    let folder = tempfile::tempdir().unwrap();
    let sample = store(&folder.path().join("store"));
    block_on(async {
        let server = serve_store(&folder.path().join("store")).await;
        let address = server.address();
        let json = "content-type: application/json\r\nconnect-protocol-version: 1\r\n";
        let (status, body) = post(address, "GetBlock", json, br#"{"height":"9"}"#).await;
        assert_eq!(status, 200, "{}", text(&body));
        let answer: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let header = &answer["block"]["header"]["header"];
        assert_eq!((header["height"].as_str(), header["chainId"].as_str()), (Some("9"), Some(CHAIN_ID)));
        assert_eq!(answer["headerDaHeight"].as_str(), Some("109"));

        let (status, body) = post(address, "GetBlock", json, br#"{"height":"7"}"#).await;
        let refusal: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((status, refusal["code"].as_str()), (500, Some("internal")));
        assert!(refusal["message"].as_str().unwrap().ends_with("datastore: key not found"));
        for (method, body, expected, code) in [
            ("GetBlock", &b"{}"[..], 400, "invalid_argument"),
            ("GetBlock", b"{", 400, "invalid_argument"),
            ("GetMetadata", br#"{"key":"none"}"#, 404, "not_found"),
            ("GetNothing", b"{}", 404, "unimplemented"),
            ("/evnode.v1.ConfigService/GetNamespace", b"{}", 404, "unimplemented"),
            ("/grpc.health.v1.Health/Check", b"{}", 404, "unimplemented"),
            ("Backup", b"{}", 501, "unimplemented"),
        ] {
            let (status, body) = post(address, method, json, body).await;
            assert_eq!(status, expected, "{method}: {}", text(&body));
            assert!(text(&body).contains(&format!("{{\"code\":\"{code}\"")), "{}", text(&body));
        }
        let packed = format!("{json}content-encoding: gzip\r\n");
        assert_eq!(post(address, "GetState", &packed, b"{}").await.0, 501);

        let proto = "content-type: application/proto\r\n";
        let (status, body) = post(address, "GetBlock", proto, &[8, 9]).await;
        let stored = sample.value(&Key::Header(9).to_bytes()).unwrap();
        assert_eq!(status, 200);
        assert!(body.windows(stored.len()).any(|window| window == stored));
        assert_eq!(post(address, "GetGenesisDaHeight", proto, b"").await, (200, vec![0x18, 101]));

        // A page in a browser is refused whatever it speaks.
        for content in [json, "content-type: application/grpc-web+proto\r\n"] {
            let page = format!("{content}origin: http://example.com\r\n");
            let (status, body) = post(address, "GetState", &page, b"{}").await;
            assert!(status == 403 || (status == 200 && body.is_empty()), "{status} {}", text(&body));
        }
    });
}

/// A node's router knows only what there is, and its services only what they speak.
#[test]
fn what_is_not_served_is_not_found() {
    let folder = tempfile::tempdir().unwrap();
    store(&folder.path().join("store"));
    block_on(async {
        let server = serve_store(&folder.path().join("store")).await;
        for (line, headers, status) in [
            ("GET /", "", 404),
            ("GET /evnode.v1.StoreService/GetNothing", "", 404),
            ("GET /evnode.v1.StoreService/GetState", "", 405),
            ("POST /evnode.v1.StoreService/GetState", "", 415),
            ("POST /evnode.v1.StoreService/GetNothing", "content-type: text/plain\r\n", 404),
            ("GET /grpc.health.v1.Health/Check", "", 404),
            ("GET /", "sec-fetch-site: none\r\n", 404),
            ("GET /evnode.v1.StoreService/GetState", "sec-fetch-site: none\r\n", 403),
        ] {
            let (head, body) = request(server.address(), line, headers, b"").await;
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {head}");
            assert_eq!(body.is_empty(), status > 404, "{line}: {}", text(&body));
        }
        for (kind, path) in [
            ("application/grpc", "/evnode.v1.ConfigService/GetNamespace"),
            ("application/grpc", "/evnode.v1.StoreService/GetNothing"),
            ("application/grpc-web+proto", "/evnode.v1.ConfigService/GetNamespace"),
            ("application/grpc-web+proto", "/evnode.v1.StoreService/GetNothing"),
        ] {
            let headers = format!("content-type: {kind}\r\n");
            let (head, _) = exchange(server.address(), path, &headers, &[0; 5]).await;
            assert!(
                head.starts_with("HTTP/1.1 200 ")
                    && head.contains(&format!("content-type: {kind}\r\n"))
                    && head.contains("grpc-status: 12"),
                "{path}: {head}"
            );
        }
    });
}

#[test]
fn grpc_web_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    store(&folder.path().join("store"));
    block_on(async {
        let server = serve_store(&folder.path().join("store")).await;
        let web = "content-type: application/grpc-web+proto\r\nx-grpc-web: 1\r\n";
        let (status, body) = post(server.address(), "GetGenesisDaHeight", web, &[0; 5]).await;
        assert_eq!(status, 200);
        // The message, then the trailers in a frame of their own.
        assert_eq!(&body[..8], [0, 0, 0, 0, 2, 0x18, 101, 0x80]);
        assert!(text(&body).contains("grpc-status:0"), "{}", text(&body));
        let question = [&[0, 0, 0, 0, 2][..], &[8, 7]].concat();
        let (head, _) = exchange(server.address(), "GetBlock", web, &question).await;
        assert!(
            head.contains("content-type: application/grpc-web+proto") && head.contains("grpc-status: 13"),
            "{head}"
        );
    });
}

/// A handler that knows nothing of blocks.
#[test]
fn a_server_of_backups_alone_has_no_read_rpcs() {
    block_on(async {
        let server = super::proof::replay(Vec::new(), 1).await;
        let status = client(server.address()).get_state(()).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented);
    });
}

/// A request costs what it reads: the second one opens nothing again.
#[test]
fn a_live_directory_is_not_opened_anew_for_each_request() {
    let folder = tempfile::tempdir().unwrap();
    let (stored, badger) = (folder.path().join("store"), folder.path().join("badger"));
    let sample = store(&stored);
    let options = into_badger(&[stored], &badger);
    unlocked(|| block_on(evbackup::restore::run(options.clone(), Progress::new()))).unwrap();
    let held = Arc::new(Held::open(&badger, &ReadOptions::default()).unwrap());
    let first = held.datastore().unwrap();
    let node = Node::new(Arc::clone(&held), Scratch::system());
    for height in 8..=BLOCKS {
        let block = node.block(height, &Progress::new()).unwrap();
        assert_eq!(block.header, sample.value(&Key::Header(height).to_bytes()).unwrap());
    }
    assert!(Arc::ptr_eq(&first, &held.datastore().unwrap()));
    drop((first, node));

    // Another database takes its place.
    let other = folder.path().join("other");
    let directory = unlocked(|| Directory::open(&badger, ReadOptions::default())).unwrap();
    let mut loader = Loader::create(&other, LoadOptions::default()).unwrap();
    let snapshot = evbackup::entry::Datastore::snapshot(&directory).unwrap();
    pour(&mut *snapshot.source(0).unwrap(), &mut loader).unwrap();
    loader.finish_with(NewAbout { pinned_version: BLOCKS + 1, ..NewAbout::default() }).unwrap();
    drop(snapshot);
    #[expect(clippy::disallowed_methods, reason = "a test moves directories about")]
    {
        std::fs::rename(&badger, folder.path().join("old")).unwrap();
        std::fs::rename(&other, &badger).unwrap();
    }
    let node = Node::new(held, Scratch::system());
    assert_eq!(node.height(&Progress::new()).unwrap(), BLOCKS);
}

/// Every block of a segment, by what it says of its heights.
fn blocks_of(path: &Path) -> Result<Vec<Block>> {
    let progress = Progress::new();
    let segments = Segments::open(&[path.to_owned()], &progress)?;
    let node = Node::new(Arc::new(segments), Scratch::system());
    let heights = node.heights(&progress)?;
    (heights.first..=heights.last.min(1000)).map(|height| node.block(height, &progress)).collect()
}

#[test]
fn a_damaged_segment_gives_an_error_and_never_another_block() {
    let folder = in_memory();
    let path = |name: &str| folder.path().join(name);
    let sample = Sample::with_blocks(12);
    let mut loader = Loader::create(path("store"), LoadOptions::default()).unwrap();
    sample.entries().try_for_each(|entry| loader.put(entry)).unwrap();
    loader.finish_with(NewAbout { pinned_version: 12, ..NewAbout::default() }).unwrap();
    let (full, bare) = (path("full.badger"), path("bare.badger"));
    block_on(take(&Origin::datastore(path("store")), &full, Since::Version(0))).unwrap();
    let whole = std::fs::read(&full).unwrap();
    put(&bare, &whole);
    let expected = blocks_of(&full).unwrap();
    assert_eq!((expected.len(), &blocks_of(&bare).unwrap()), (12, &expected));
    for at in (0..whole.len()).step_by(61) {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        put(&full, &flipped);
        assert_eq!(blocks_of(&full).unwrap_err().kind(), Kind::Damaged, "byte {at}");
        // Nobody vouches for one without a manifest: it may be read, and must end.
        put(&bare, &flipped);
        let _ = blocks_of(&bare);
    }
    for end in (0..whole.len()).step_by(97) {
        for path in [&full, &bare] {
            put(path, &whole[..end]);
            let found = blocks_of(path).unwrap_or_default();
            assert!(found.iter().all(|block| expected.contains(block)), "{end}");
        }
    }
}
