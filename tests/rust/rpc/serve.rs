use super::peers::{SOON, ask, client, drain, fails, first, handler, loopback, serve, to};
use bytes::Bytes;
use evbackup::base::progress::Progress;
use evbackup::error::{Error, Kind, Result};
use evbackup::proto::evnode::get_block_request::Identifier;
use evbackup::proto::evnode::store_service_client::StoreServiceClient;
use evbackup::proto::evnode::{BackupRequest, GetBlockRequest, GetBlockResponse, P2pStoreSnapshot, State};
use evbackup::rpc::{
    Connect, Event, Handler, Listen, Outlet, Reads, Refusal, Request, Server, Tls, connect, listen,
};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};
use tonic::Code;
use tonic::transport::Channel;

fn small(_: &BackupRequest, outlet: &mut dyn Outlet) -> Result<()> {
    outlet.begin(first(1))?;
    outlet.chunk(Bytes::from_static(b"x"))?;
    outlet.end(1)
}

fn endless(_: &BackupRequest, outlet: &mut dyn Outlet) -> Result<()> {
    outlet.begin(first(1))?;
    loop {
        outlet.chunk(Bytes::from(vec![0; 1 << 20]))?;
    }
}

#[tokio::test]
async fn the_token_decides() {
    let options = Listen { token: Some("hush".to_owned()), ..loopback() };
    assert!(!format!("{options:?}").contains("hush"));
    let server = listen(options, handler(small)).await.unwrap();
    for (token, found) in
        [(None, "none"), (Some("hus"), "another"), (Some("hush!"), "another"), (Some(""), "another")]
    {
        let options = Connect { token: token.map(str::to_owned), ..to(server.address()) };
        let error = connect(&options).await.unwrap().backup(Request::default()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Denied, "{error:?}");
        assert_eq!(error.what(), format!("expected the server's token, found {found}"));
        assert!(!format!("{error:?}").contains("hush"));
    }
    let right = Connect { token: Some("hush".to_owned()), ..to(server.address()) };
    let mut client = connect(&right).await.unwrap();
    drain(client.backup(Request::default()).await.unwrap()).await.unwrap();
    let headers = vec![("Authorization".to_owned(), "Bearer hush".to_owned())];
    let mut client = connect(&Connect { headers, ..to(server.address()) }).await.unwrap();
    drain(client.backup(Request::default()).await.unwrap()).await.unwrap();
}

/// Answers with blocks of a mebibyte, and counts them.
struct Blocks(std::sync::atomic::AtomicUsize);

impl Handler for Blocks {
    fn backup(&self, _: &BackupRequest, _: &mut dyn Outlet) -> Result<()> {
        Err(Error::unsupported("no backups"))
    }

    fn reads(&self) -> Option<&dyn Reads> {
        Some(self)
    }
}

impl Reads for Blocks {
    fn block(&self, which: Option<&Identifier>, _: &Progress) -> Result<GetBlockResponse, Refusal> {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let bytes = if which == Some(&Identifier::Height(1)) { 10 } else { 1 << 20 };
        let block = evbackup::proto::evnode::Block { header: None, data: Some(vec![7; bytes].into()) };
        Ok(GetBlockResponse { block: Some(block), ..GetBlockResponse::default() })
    }

    fn state(&self, _: &Progress) -> Result<State, Refusal> {
        Err(Refusal::NotFound("no state".to_owned()))
    }

    fn metadata(&self, name: &str, _: &Progress) -> Result<Bytes, Refusal> {
        Err(Refusal::NotFound(name.to_owned()))
    }

    fn genesis_da_height(&self, _: &Progress) -> Result<u64, Refusal> {
        Err(Refusal::NotFound("none".to_owned()))
    }

    fn p2p_stores(&self, _: &Progress) -> Result<Vec<P2pStoreSnapshot>, Refusal> {
        Ok(Vec::new())
    }
}

/// A channel of which each stream takes little that nobody reads, and the connection a lot.
async fn narrow(server: &Server) -> Channel {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", server.address())).unwrap();
    // What fits into the window of a stream is taken, whether somebody reads it or not; all of them fit into the connection's.
    let endpoint = endpoint.initial_stream_window_size(65_535).initial_connection_window_size(4 << 20);
    endpoint.connect().await.unwrap()
}

/// Asks for a block and does not read it.
async fn block(
    channel: Channel,
    height: u64,
) -> std::result::Result<tonic::Streaming<GetBlockResponse>, tonic::Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<GetBlockRequest, GetBlockResponse>::default();
    let path = "/evnode.v1.StoreService/GetBlock".parse().unwrap();
    let asked = GetBlockRequest { identifier: Some(Identifier::Height(height)) };
    grpc.server_streaming(tonic::Request::new(asked), path, codec).await.map(tonic::Response::into_inner)
}

async fn state(channel: Channel) -> tonic::Status {
    StoreServiceClient::new(channel).get_state(()).await.unwrap_err()
}

/// Eight replies on a channel of which nobody takes anything.
async fn stalled(server: &Server) -> Vec<tonic::Streaming<GetBlockResponse>> {
    let channel = narrow(server).await;
    let mut stalled = Vec::new();
    for _ in 0..8 {
        stalled.push(tokio::time::timeout(SOON, block(channel.clone(), 2)).await.unwrap().unwrap());
    }
    stalled
}

/// One client that takes nothing is given up, for the others wait.
#[tokio::test]
async fn who_takes_nothing_does_not_keep_others_waiting() {
    let options = Listen { patience: Duration::from_secs(2), ..loopback() };
    let server = listen(options, Arc::new(Blocks(0.into()))).await.unwrap();
    let mut stalled = stalled(&server).await;
    let other = narrow(&server).await;
    let mut asked = Box::pin(state(other.clone()));
    assert!(
        tokio::time::timeout(Duration::from_millis(200), &mut asked).await.is_err(),
        "all places are taken"
    );
    let answer = tokio::time::timeout(SOON, asked).await.unwrap();
    assert_eq!((answer.code(), answer.message()), (Code::NotFound, "no state"));
    // The last of them was given up somewhat later than the first.
    tokio::time::sleep(Duration::from_secs(1)).await;
    for reply in &mut stalled {
        let found = tokio::time::timeout(SOON, reply.message()).await.unwrap();
        assert!(found.is_err(), "a reply that was given up is no whole one: {}", found.unwrap().is_some());
    }
    // Who takes it bit by bit is not given up.
    let mut reply = block(other, 2).await.unwrap();
    let message = tokio::time::timeout(SOON, reply.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(message.block.unwrap().data.unwrap().len(), 1 << 20);
}

/// Who waits for a place is told that there will be none.
#[tokio::test]
async fn who_waits_to_read_is_told_when_the_server_stops() {
    let options = Listen { grace: Duration::from_millis(300), ..loopback() };
    let server = listen(options, Arc::new(Blocks(0.into()))).await.unwrap();
    let stalled = stalled(&server).await;
    let other = narrow(&server).await;
    let waiting = tokio::spawn(state(other));
    tokio::time::sleep(Duration::from_millis(200)).await;
    server.stop().await.unwrap();
    let answer = tokio::time::timeout(SOON, waiting).await.unwrap().unwrap();
    assert_eq!((answer.code(), answer.message()), (Code::Unavailable, "the server was stopped"));
    drop(stalled);
}

/// What waits to be sent is in memory as much as what is being read: a client that asks and does not take gets no more.
#[tokio::test]
async fn blocks_that_nobody_takes_are_not_read_for_more() {
    let blocks = Arc::new(Blocks(0.into()));
    let server = listen(loopback(), blocks.clone()).await.unwrap();
    let channel = narrow(&server).await;
    let mut waiting = tokio::task::JoinSet::new();
    (0..24).for_each(|_| drop(waiting.spawn(block(channel.clone(), 2))));
    tokio::time::sleep(Duration::from_millis(500)).await;
    let read = blocks.0.load(std::sync::atomic::Ordering::SeqCst);
    assert!((1..=8).contains(&read), "{read} blocks are held");
    // Those that are taken make room, and what is gone does, too.
    let mut number = 0;
    while let Some(reply) = tokio::time::timeout(SOON, waiting.join_next()).await.unwrap() {
        let mut reply = reply.unwrap().unwrap();
        number += 1;
        if number % 2 == 0 {
            let message = tokio::time::timeout(SOON, reply.message()).await.unwrap().unwrap().unwrap();
            assert_eq!(message.block.unwrap().data.unwrap().len(), 1 << 20);
            assert!(reply.message().await.unwrap().is_none());
        }
    }
    let mut small = Vec::new();
    for _ in 0..24 {
        let asked = tokio::time::timeout(SOON, block(channel.clone(), 1));
        small.push(asked.await.unwrap().unwrap());
    }
    assert_eq!(blocks.0.load(std::sync::atomic::Ordering::SeqCst), 48);
}

#[tokio::test]
async fn one_backup_too_many_is_told_to_come_back() {
    let options = Listen { max_backups: 1, ..loopback() };
    let server = listen(options, handler(endless)).await.unwrap();
    let mut running = ask(server.address(), 0).await.unwrap();
    assert!(matches!(running.next().await.unwrap(), Event::Chunk(_)));
    let error = fails(server.address(), 0).await;
    assert_eq!(error.kind(), Kind::Unavailable);
    assert_eq!(error.what(), "expected fewer than 1 backups at a time, found that many running");
    assert!(error.hint().unwrap().contains("max_backups"));
    drop(running);
    // The place is free as soon as the handler has noticed.
    let began = Instant::now();
    while ask(server.address(), 0).await.is_err() {
        assert!(began.elapsed() < SOON);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_datastore_is_not_handed_to_a_network_by_mistake() {
    let token = Some("hush".to_owned());
    let tls = || Some(Tls { cert: Some("/nowhere".into()), key: Some("/nowhere".into()), ..Tls::default() });
    let all = || Listen::new("0.0.0.0:0");
    for (options, found) in [
        (all(), "one without TLS and token"),
        (Listen { token: token.clone(), ..all() }, "one without TLS"),
        (Listen { tls: tls(), ..all() }, "one without a token"),
    ] {
        let error = listen(options, handler(small)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.what().ends_with(&format!("found {found}")), "{error:?}");
    }
    // Enough protection: it gets as far as reading the files.
    let error = listen(Listen { token, tls: tls(), ..all() }, handler(small)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Missing, "{error:?}");
    let server = listen(Listen { insecure: true, ..all() }, handler(small)).await.unwrap();
    assert_ne!(server.address().port(), 0);

    let empty = Listen { token: Some(String::new()), ..loopback() };
    assert_eq!(listen(empty, handler(small)).await.unwrap_err().kind(), Kind::Invalid);
    for nothing in [Listen { max_rate: Some(0), ..loopback() }, Listen { max_backups: 0, ..loopback() }] {
        assert_eq!(listen(nothing, handler(small)).await.unwrap_err().kind(), Kind::Invalid);
    }
    let https = Listen::new("https://127.0.0.1:0");
    assert_eq!(listen(https, handler(small)).await.unwrap_err().kind(), Kind::Invalid);
}

#[tokio::test]
async fn a_port_in_use_and_an_address_of_another_machine() {
    let server = serve(small).await;
    let error = listen(Listen::new(server.address().to_string()), handler(small)).await.unwrap_err();
    assert_eq!((error.kind(), error.errno()), (Kind::Locked, Some(98)));
    let elsewhere = Listen { insecure: true, ..Listen::new("192.0.2.1:0") };
    assert_eq!(listen(elsewhere, handler(small)).await.unwrap_err().kind(), Kind::Invalid);
}

#[tokio::test]
async fn stopping_lets_a_short_backup_end_and_cuts_a_long_one() {
    let options = |grace| Listen { grace: Duration::from_millis(grace), ..loopback() };
    let gate = Arc::new(Barrier::new(2));
    let inside = Arc::clone(&gate);
    let short = handler(move |_, outlet| {
        outlet.begin(first(1))?;
        inside.wait();
        std::thread::sleep(Duration::from_millis(100));
        outlet.chunk(Bytes::from_static(b"whole"))?;
        outlet.end(1)
    });
    let server = listen(options(10_000), short).await.unwrap();
    let address = server.address();
    let incoming = ask(address, 0).await.unwrap();
    tokio::task::spawn_blocking(move || gate.wait()).await.unwrap();
    let (stopped, taken) = tokio::join!(server.stop(), drain(incoming));
    stopped.unwrap();
    assert_eq!(taken.unwrap().0.concat(), b"whole");
    assert_eq!(connect(&to(address)).await.unwrap_err().kind(), Kind::Unavailable);

    let server = listen(options(300), handler(endless)).await.unwrap();
    let incoming = ask(server.address(), 0).await.unwrap();
    let began = Instant::now();
    let (stopped, taken) = tokio::join!(server.stop(), drain(incoming));
    stopped.unwrap();
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    let error = taken.unwrap_err();
    assert_eq!(error.kind(), Kind::Incomplete, "{error:?}");
    assert!(error.what().contains("the server was stopped"), "{error:?}");

    // A client that reads nothing cannot hold it up.
    let alive = Arc::new(());
    let held = Arc::clone(&alive);
    let counted = handler(move |request, outlet| {
        let _running = Arc::clone(&held);
        endless(request, outlet)
    });
    let server = listen(options(300), counted).await.unwrap();
    let stuck = ask(server.address(), 0).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let began = Instant::now();
    server.stop().await.unwrap();
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    assert_eq!(Arc::strong_count(&alive), 2, "the handler still runs");
    drop(stuck);
}

#[tokio::test]
async fn health_reflection_and_unknown_methods() {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    };

    let server = serve(small).await;
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", server.address()))
        .unwrap()
        .connect_lazy();
    let request = HealthCheckRequest { service: "evnode.v1.StoreService".to_owned() };
    let reply = HealthClient::new(channel.clone()).check(request).await.unwrap().into_inner();
    assert_eq!(reply.status, 1);

    for (symbol, expected, absent) in [
        ("evnode.v1.StoreService", "GetP2PStoreInfo", "target_height"),
        ("evnode.v1.BackupMetadata", "pinned_version", "target_height"),
        ("evnode.v1.Header", "last_results_hash", "target_height"),
    ] {
        let ask = MessageRequest::FileContainingSymbol(symbol.to_owned());
        let ask = ServerReflectionRequest { host: String::new(), message_request: Some(ask) };
        let mut client = ServerReflectionClient::new(channel.clone());
        let mut replies = client.server_reflection_info(tokio_stream::once(ask)).await.unwrap().into_inner();
        let reply = replies.message().await.unwrap().unwrap().message_response;
        let Some(MessageResponse::FileDescriptorResponse(files)) = reply else { panic!("{reply:?}") };
        let file = files.file_descriptor_proto.concat();
        let holds = |name: &str| file.windows(name.len()).any(|window| window == name.as_bytes());
        assert!(holds(expected) && !holds(absent), "{symbol}");
    }

    // What the layers above do not serve yet.
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let path = tonic::codegen::http::uri::PathAndQuery::from_static("/evnode.v1.StoreService/GetState");
    let codec = tonic_prost::ProstCodec::<BackupRequest, BackupRequest>::default();
    let status = grpc.unary(tonic::Request::new(BackupRequest::default()), path, codec).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

/// The proposal's client speaks HTTP/1.1, where the status stands in the trailers of a chunked body; so do browsers.
#[tokio::test]
async fn grpc_over_http_1_for_clients_and_not_for_web_pages() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server =
        serve(
            |request, outlet| {
                if request.since_version > 0 { small(request, outlet) } else { Err(Error::io("no disk")) }
            },
        )
        .await;
    let post = async |headers: &str, message: &[u8]| {
        let mut stream = tokio::net::TcpStream::connect(server.address()).await.unwrap();
        let head = format!(
            "POST /evnode.v1.StoreService/Backup HTTP/1.1\r\nhost: node\r\nte: trailers\r\nconnection: close\r\n{headers}\
             content-type: application/grpc\r\ncontent-length: {}\r\n\r\n",
            message.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(message).await.unwrap();
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).await.unwrap();
        String::from_utf8_lossy(&reply).into_owned()
    };
    let since_one = [0, 0, 0, 0, 2, 8, 1];
    let reply = post("", &since_one).await;
    assert!(
        reply.starts_with("HTTP/1.1 200") && reply.ends_with("\r\n0\r\ngrpc-status: 0\r\n\r\n"),
        "{reply}"
    );
    let reply = post("", &[0; 5]).await;
    assert!(reply.contains("grpc-status: 13") && reply.contains("evbackup-reason: io"), "{reply}");
    for headers in ["origin: http://node\r\n", "sec-fetch-site: same-origin\r\n"] {
        let reply = post(headers, &since_one).await;
        assert!(reply.contains("grpc-status: 7") && reply.contains("web%20browser"), "{reply}");
    }
}

#[tokio::test]
async fn many_clients_at_once_each_get_their_own() {
    let work = |request: &BackupRequest, outlet: &mut dyn Outlet| {
        outlet.begin(first(request.since_version))?;
        outlet.chunk(Bytes::from(vec![u8::try_from(request.since_version).unwrap(); 3 << 20]))?;
        outlet.end(request.since_version)
    };
    let server = listen(Listen { max_backups: 8, ..loopback() }, handler(work)).await.unwrap();
    let mut one = client(server.address()).await;
    let mut all = tokio::task::JoinSet::new();
    for since in 1..=8 {
        let incoming = one.backup(Request { since, base: None }).await.unwrap();
        all.spawn(async move { (since, drain(incoming).await.unwrap()) });
    }
    while let Some(done) = all.join_next().await {
        let (since, (chunks, _, end)) = done.unwrap();
        assert_eq!(end.last_version, since);
        assert!(chunks.concat().iter().all(|byte| u64::from(*byte) == since));
    }
}
