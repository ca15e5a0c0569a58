use super::peers::{
    Act, SOON, Script, Then, ask, client, drain, fails, first, loopback, metadata, relay, serve, to,
};
use bytes::Bytes;
use evbackup::error::{Error, Kind};
use evbackup::proto::any_layout::{AnyMetadata, AnyResponse, any_response::Response};
use evbackup::rpc::{Announced, Base, Connect, Event, Layout, Listed, Listen, Request, connect, listen};
use sha2::{Digest, Sha256};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};
use tonic::{Code, Status};

const FIRST: Act = Act::Meta([9, 0, 0, 0, 0]);
const FINAL: Act = Act::Meta([9, 0, 77, 1, 0]);
const CUT_HINT: &str = "ev-node cuts every reply 10 s after it began: run `evbackup serve` beside the node, or back up its directory";

fn pattern(size: usize) -> Bytes {
    (0..251_u8).cycle().take(size).collect::<Vec<_>>().into()
}

fn listed(key: &[u8]) -> Listed {
    Listed { key: Bytes::copy_from_slice(key), version: 7 }
}

#[tokio::test]
async fn a_backup_arrives_as_it_was_sent() {
    let server = serve(|request, outlet| {
        assert_eq!(
            (request.since_version, request.base_height, &request.base_hash[..]),
            (5, 4, &b"hash"[..])
        );
        outlet.begin(Announced {
            current_height: 12,
            pinned_version: Some(99),
            store_id: b"store".to_vec(),
            estimated_bytes: 1000,
            tip_height: Some(13),
            deletes: "exact".to_owned(),
            ..Announced::default()
        })?;
        outlet.chunk(pattern(3_000_001))?;
        outlet.chunk(Bytes::from_static(b"and more"))?;
        outlet.listed([&b"/0/t"[..], b"/0/m/d"].map(listed).to_vec())?;
        outlet.left_out(7);
        outlet.end(99)
    })
    .await;
    let base =
        Base { store_id: b"store".to_vec(), height: 4, hash: b"hash".to_vec(), version: 5, block_version: 6 };
    let mut client = client(server.address()).await;
    let incoming = client.backup(Request { since: 5, base: Some(base) }).await.unwrap();
    let told = incoming.announced().clone();
    assert_eq!((told.current_height, told.pinned_version, told.tip_height), (12, Some(99), Some(13)));
    assert_eq!((&told.store_id[..], told.estimated_bytes, &told.deletes[..]), (&b"store"[..], 1000, "exact"));

    let (chunks, listed, end) = drain(incoming).await.unwrap();
    let sent = [&pattern(3_000_001)[..], b"and more"].concat();
    assert_eq!(chunks.concat(), sent);
    assert_eq!(listed, [&b"/0/t"[..], b"/0/m/d"]);
    assert_eq!((end.layout, end.since, end.last_version, end.current_height), (Layout::F, 5, 99, 12));
    assert_eq!(
        (end.pinned_version, end.tip_height, end.deletes.as_deref()),
        (Some(99), Some(13), Some("exact"))
    );
    assert_eq!((&end.store_id[..], end.sha256), (&b"store"[..], Sha256::digest(sent).to_vec()));
    assert_eq!(end.left_out, 7);
}

#[tokio::test]
async fn chunks_are_cut_and_collected_to_size_and_lists_to_messages() {
    let server = serve(|_, outlet| {
        outlet.begin(first(1))?;
        outlet.chunk(pattern(10 << 20))?;
        outlet.chunk(pattern((1 << 20) + 1))?;
        for _ in 0..1000 {
            outlet.chunk(pattern(1000))?;
        }
        outlet.chunk(Bytes::new())?;
        outlet.listed((0..5000).map(|_| listed(&pattern(500))).collect())?;
        outlet.listed(vec![])?;
        outlet.end(1)
    })
    .await;
    let mut incoming = ask(server.address(), 0).await.unwrap();
    let (mut sizes, mut lists) = (Vec::new(), Vec::new());
    loop {
        match incoming.next().await.unwrap() {
            Event::Chunk(bytes) => sizes.push(bytes.len()),
            Event::Listed(keys) => lists.push(keys.len()),
            Event::End(_) => break,
        }
    }
    assert_eq!(sizes.iter().sum::<usize>(), (11 << 20) + 1 + 1_000_000);
    let (last, others) = sizes.split_last().unwrap();
    assert!(others.iter().all(|size| (128 << 10..=1 << 20).contains(size)), "{sizes:?}");
    assert!(*last < 128 << 10);
    assert_eq!(lists.iter().sum::<usize>(), 5000);
    assert!(lists.len() == 3 && lists.iter().all(|count| count * 505 <= 1 << 20), "{lists:?}");
}

#[tokio::test]
async fn an_empty_backup_is_one() {
    let server = serve(|_, outlet| {
        outlet.begin(first(1))?;
        outlet.end(0)
    })
    .await;
    let (chunks, listed, end) = drain(ask(server.address(), 0).await.unwrap()).await.unwrap();
    assert!(chunks.is_empty() && listed.is_empty());
    assert_eq!((end.last_version, end.sha256), (0, Sha256::digest(b"").to_vec()));
    assert_eq!((end.pinned_version, end.deletes), (None, None));
}

#[tokio::test]
async fn the_final_message_tells_which_layout_a_server_speaks() {
    let f = Script::new([FIRST, Act::Chunk(131_072), Act::Chunk(5), FINAL]).start().await;
    let (chunks, _, end) = drain(ask(f, 3).await.unwrap()).await.unwrap();
    assert_eq!((chunks.concat().len(), end.layout, end.since, end.last_version), (131_077, Layout::F, 0, 77));

    // T takes our `since` for a target height, which it only echoes, and sends everything.
    let t =
        Script::new([Act::Meta([9, 3, 0, 0, 0]), Act::Chunk(8), Act::Meta([9, 3, 0, 1, 1])]).start().await;
    let (_, _, end) = drain(ask(t, 3).await.unwrap()).await.unwrap();
    assert_eq!((end.layout, end.since, end.last_version), (Layout::T, 0, 1));
}

#[tokio::test]
async fn a_server_of_layout_t_that_refuses_the_height_is_asked_again_in_its_own_words() {
    let mut script =
        Script::new([Act::Meta([9, 0, 500, 0, 0]), Act::Chunk(8), Act::Meta([9, 0, 500, 501, 1])]);
    script.refuse = Some(Status::failed_precondition("target height 500 is above the current height 9"));
    let asked = script.asked.clone();
    let (_, _, end) = drain(ask(script.start().await, 500).await.unwrap()).await.unwrap();
    assert_eq!((end.layout, end.since, end.last_version), (Layout::T, 500, 501));
    let asked: Vec<_> = asked.lock().unwrap().iter().map(|request| (request.f1, request.f2)).collect();
    assert_eq!(asked, [(500, 0), (0, 500)]);
}

#[tokio::test]
async fn streams_that_are_not_whole() {
    let listed = AnyMetadata { listed: vec![Bytes::from_static(b"k")], ..AnyMetadata::default() };
    let listed = Act::Raw(AnyResponse { response: Some(Response::Metadata(listed)) });
    let chunk = Act::Chunk(1000);
    let broken = Act::Fail(Status::internal("disk gone"));
    for (acts, kind, found) in [
        (vec![], Kind::Incomplete, "expected the first message, found the end of the stream after 0 bytes"),
        (vec![FIRST], Kind::Incomplete, "found the end of the stream after 0 bytes and "),
        (vec![FIRST, chunk.clone()], Kind::Incomplete, "found the end of the stream after 1000 bytes and "),
        (vec![FIRST, chunk.clone(), FIRST], Kind::Incomplete, "the end of the stream after 1000 bytes and "),
        (
            vec![FIRST, chunk.clone(), broken.clone()],
            Kind::Incomplete,
            "a cut stream (disk gone) after 1000 bytes",
        ),
        (
            vec![FIRST, FINAL, broken.clone()],
            Kind::Incomplete,
            "found a cut stream (disk gone) after 0 bytes",
        ),
        (vec![FIRST, FINAL, chunk.clone()], Kind::Damaged, "nothing after the final message, found a chunk"),
        (
            vec![FIRST, FINAL, FINAL],
            Kind::Damaged,
            "nothing after the final message, found a second final message",
        ),
        (vec![FIRST, FINAL, FIRST], Kind::Damaged, "nothing after the final message, found metadata"),
        (
            vec![FIRST, FINAL, listed.clone()],
            Kind::Damaged,
            "nothing after the final message, found metadata",
        ),
        (vec![FINAL], Kind::Damaged, "as the first message, found the final message"),
        (vec![chunk.clone()], Kind::Damaged, "as the first message, found a chunk"),
        (
            vec![FIRST, Act::Meta([9, 0, 0, 7, 0])],
            Kind::Damaged,
            "layout F or T, found 7 in field 4 and 0 in field 5",
        ),
        (
            vec![FIRST, Act::Meta([9, 0, 0, 7, 7])],
            Kind::Damaged,
            "layout F or T, found 7 in field 4 and 7 in field 5",
        ),
        (
            vec![FIRST, Act::Meta([9, 4, 9, 1, 0])],
            Kind::Mismatch,
            "follows version 3, found what follows version 4",
        ),
        (vec![broken], Kind::Unavailable, "the server failed: disk gone"),
    ] {
        let error = fails(Script::new(acts).start().await, 3).await;
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(error.what().contains(found), "{error:?}");
        assert_eq!(kind == Kind::Incomplete, error.hint() == Some(CUT_HINT), "{error:?}");
    }
}

#[tokio::test]
async fn bytes_that_are_no_messages() {
    // `:status: 200`, `content-type: application/grpc`, then one gRPC message in a DATA frame.
    macro_rules! reply {
        ($length:literal, $message:literal) => {
            concat_bytes(
                b"\x00\x00\x14\x01\x04\x00\x00\x00\x01\x88\x0f\x10\x10application/grpc",
                &[0, 0, $length, 0, 0, 0, 0, 0, 1],
                $message,
            )
        };
    }
    for (reply, found) in [
        (
            reply!(8, b"\x00\x00\x00\x00\x03\x12\xff\x00"),
            "expected a message of the Backup RPC, found other bytes",
        ),
        (reply!(5, b"\x00\x7f\xff\xff\xff"), "the limit is: 268435456 bytes"),
    ] {
        let error = fails(super::peers::http2(reply).await, 0).await;
        assert_eq!(error.kind(), Kind::Damaged, "{error:?}");
        assert!(error.what().contains(found), "{error:?}");
    }
}

fn concat_bytes(headers: &[u8], frame: &[u8], message: &[u8]) -> &'static [u8] {
    Box::leak([headers, frame, message].concat().into_boxed_slice())
}

#[tokio::test]
async fn a_cut_a_reset_and_a_hang_in_the_middle() {
    let mut acts = vec![FIRST];
    acts.extend((0..100).map(|_| Act::Chunk(131_072)));
    acts.push(FINAL);
    let server = Script::new(acts).start().await;
    for then in [Then::Cut, Then::Reset] {
        let error = fails(relay(server, 4_000_000, then).await, 0).await;
        assert_eq!(error.kind(), Kind::Incomplete, "{then:?}: {error:?}");
        assert!(error.what().starts_with("expected the final message, found a cut stream ("), "{error:?}");
        let bytes: u64 =
            error.what().split(" after ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!((3_000_000..=4_000_000).contains(&bytes), "{error:?}");
        assert_eq!(error.hint(), Some(CUT_HINT));
    }
    let mut options = to(relay(server, 4_000_000, Then::Hang).await);
    options.idle_timeout = Duration::from_secs(1);
    let incoming = connect(&options).await.unwrap().backup(Request::default()).await.unwrap();
    let error = drain(incoming).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{error:?}");
    assert!(error.what().starts_with("expected a message within 1 s, found silence after "), "{error:?}");
}

#[tokio::test]
async fn silence_has_a_limit_that_begins_anew_with_each_message() {
    for acts in [vec![Act::Hang], vec![FIRST, Act::Hang], vec![FIRST, Act::Chunk(9), FINAL, Act::Hang]] {
        let mut options = to(Script::new(acts).start().await);
        options.idle_timeout = Duration::from_millis(200);
        let mut client = connect(&options).await.unwrap();
        let error = match client.backup(Request::default()).await {
            Ok(incoming) => drain(incoming).await.unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(error.kind(), Kind::Unavailable, "{error:?}");
        assert!(error.what().contains("found silence after"), "{error:?}");
    }
}

/// Slow before the first message, between two chunks and before the end, longer than the idle timeout each.
#[tokio::test]
async fn heartbeats_keep_a_slow_backup_alive() {
    let nap = || std::thread::sleep(Duration::from_secs(4));
    let options = Listen { heartbeat: Duration::from_millis(50), ..loopback() };
    let slow = super::peers::handler(move |_, outlet| {
        nap();
        outlet.begin(first(7))?;
        nap();
        outlet.chunk(Bytes::from_static(b"late"))?;
        nap();
        outlet.end(3)
    });
    let server = listen(options, slow).await.unwrap();
    let options = Connect { idle_timeout: Duration::from_secs(3), ..to(server.address()) };
    let incoming = connect(&options).await.unwrap().backup(Request::default()).await.unwrap();
    assert_eq!(incoming.announced().current_height, 7);
    let (chunks, _, end) = drain(incoming).await.unwrap();
    assert_eq!((chunks.concat(), end.last_version), (b"late".to_vec(), 3));
}

/// The proposal's client sees the heartbeats as what they are: metadata that is not complete.
#[tokio::test]
async fn a_client_of_the_proposal_reads_our_server() {
    use evbackup::proto::evnode::{BackupRequest, backup_response, store_service_client::StoreServiceClient};
    let options = Listen { heartbeat: Duration::from_millis(50), ..loopback() };
    let slow = super::peers::handler(|_, outlet| {
        outlet.begin(first(7))?;
        outlet.chunk(pattern(200_000))?;
        std::thread::sleep(Duration::from_millis(1500));
        outlet.end(3)
    });
    let server = listen(options, slow).await.unwrap();
    let mut client = StoreServiceClient::connect(format!("http://{}", server.address())).await.unwrap();
    let request = BackupRequest { since_version: 2, ..BackupRequest::default() };
    let mut stream = client.backup(request).await.unwrap().into_inner();
    let (mut bytes, mut told) = (0, Vec::new());
    while let Some(message) = stream.message().await.unwrap() {
        match message.response.unwrap() {
            backup_response::Response::Chunk(chunk) => bytes += chunk.len(),
            backup_response::Response::Metadata(message) => told.push(message),
        }
    }
    assert_eq!(bytes, 200_000);
    let (end, before) = told.split_last().unwrap();
    assert!(before.len() >= 3, "{} metadata messages", before.len());
    assert!(
        before.iter().all(|told| (told.current_height, told.since_version, told.completed) == (7, 2, false))
    );
    assert_eq!((end.current_height, end.since_version, end.last_version, end.completed), (7, 2, 3, true));
}

#[tokio::test]
async fn dropping_the_stream_stops_the_handler() {
    let (told, heard) = channel();
    let server = serve(move |_, outlet| {
        outlet.begin(first(1))?;
        let error = loop {
            if let Err(error) = outlet.chunk(pattern(1 << 20)) {
                break error;
            }
        };
        told.send((error.kind(), outlet.progress().check().is_err())).unwrap();
        Err(error)
    })
    .await;
    let mut incoming = ask(server.address(), 0).await.unwrap();
    assert!(matches!(incoming.next().await.unwrap(), Event::Chunk(_)));
    drop(incoming);
    let end = tokio::task::spawn_blocking(move || heard.recv_timeout(SOON)).await.unwrap().unwrap();
    assert_eq!(end, (Kind::Cancelled, true));
}

#[tokio::test]
async fn a_handlers_error_keeps_its_kind_text_and_hint() {
    let error = || Error::mismatch("expected store 1, found store 2").with_hint("take a full backup");
    let server = serve(move |_, _| Err(error())).await;
    let got = ask(server.address(), 9).await.unwrap_err();
    assert_eq!(got.kind(), Kind::Mismatch);
    assert_eq!(got.to_string(), format!("{}: expected store 1, found store 2", server.address()));
    assert_eq!(got.hint(), Some("take a full backup"));

    for (sent, kind, text) in [
        (Error::damaged("bad table"), Kind::Damaged, "bad table"),
        (Error::no_space("disk full"), Kind::Incomplete, "found a cut stream (disk full) after 9 bytes and "),
    ] {
        let (kind_sent, what) = (sent.kind(), sent.what().to_owned());
        let server = serve(move |_, outlet| {
            outlet.begin(Announced { pinned_version: Some(1), ..first(1) })?;
            outlet.chunk(Bytes::from_static(b"123456789"))?;
            // Small chunks wait for more; a list sends them on their way.
            outlet.listed(vec![listed(b"k")])?;
            Err(Error::new(kind_sent, what.clone()))
        })
        .await;
        let error = fails(server.address(), 0).await;
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(error.what().contains(text), "{error:?}");
        assert_ne!(error.hint(), Some(CUT_HINT));
    }
}

#[tokio::test]
async fn a_handler_that_misbehaves_is_never_a_complete_backup() {
    let bad: [fn(&mut dyn evbackup::rpc::Outlet) -> evbackup::error::Result<()>; 6] = [
        |_| Ok(()),
        |outlet| outlet.begin(first(1)),
        |outlet| outlet.chunk(pattern(10)),
        |outlet| outlet.end(3),
        |outlet| {
            outlet.begin(first(1))?;
            outlet.end(1)?;
            outlet.chunk(pattern(10))
        },
        |outlet| {
            outlet.begin(first(1))?;
            outlet.end(1)?;
            Err(Error::io("found out late"))
        },
    ];
    for (at, work) in bad.into_iter().enumerate() {
        let server = serve(move |_, outlet| work(outlet)).await;
        let error = fails(server.address(), 0).await;
        assert!(
            matches!(error.kind(), Kind::Incomplete | Kind::Unavailable | Kind::Invalid),
            "{at}: {error:?}"
        );
    }
    let server = serve(|_, outlet| {
        outlet.begin(first(1))?;
        std::panic::resume_unwind(Box::new("a bug"))
    })
    .await;
    let error = fails(server.address(), 0).await;
    assert_eq!(error.kind(), Kind::Incomplete, "{error:?}");
    assert!(error.what().contains("handler stopped without an answer"), "{error:?}");
}

#[tokio::test]
async fn a_rate_holds_on_either_side() {
    let work = |_: &_, outlet: &mut dyn evbackup::rpc::Outlet| {
        outlet.begin(first(1))?;
        for _ in 0..8 {
            outlet.chunk(pattern(128 << 10))?;
        }
        outlet.end(1)
    };
    // 1 MiB at 2 MiB/s: half a second less the burst.
    for (ours, theirs) in [(Some(2 << 20), None), (None, Some(2 << 20))] {
        let options = Listen { max_rate: theirs, ..loopback() };
        let server = listen(options, super::peers::handler(work)).await.unwrap();
        let options = Connect { max_rate: ours, ..to(server.address()) };
        let mut client = connect(&options).await.unwrap();
        let began = Instant::now();
        drain(client.backup(Request::default()).await.unwrap()).await.unwrap();
        let took = began.elapsed().as_secs_f64();
        assert!((0.25..10.0).contains(&took), "{took} s");
    }
}

#[tokio::test]
async fn compressed_replies_are_taken() {
    let ours = serve(|_, outlet| {
        outlet.begin(first(1))?;
        outlet.chunk(pattern(5_000_000))?;
        outlet.end(1)
    })
    .await;
    let mut script = Script::new([FIRST, Act::Chunk(1_000_000), FINAL]);
    script.gzip = true;
    let theirs = script.start().await;
    for compressed in [true, false] {
        for (address, size) in [(ours.address(), 5_000_000), (theirs, 1_000_000)] {
            let options = Connect { compressed: Some(compressed), ..to(address) };
            let mut client = connect(&options).await.unwrap();
            let (chunks, _, _) = drain(client.backup(Request::default()).await.unwrap()).await.unwrap();
            assert_eq!(chunks.concat().len(), size);
        }
    }
}

#[tokio::test]
async fn nothing_is_asked_after_the_end() {
    let mut incoming = ask(Script::new([FIRST, FINAL]).start().await, 0).await.unwrap();
    assert!(matches!(incoming.next().await.unwrap(), Event::End(_)));
    assert_eq!(incoming.next().await.unwrap_err().kind(), Kind::Invalid);
}

#[tokio::test]
async fn a_refusal_by_code_alone_and_messages_of_a_later_version() {
    for (code, kind) in [
        (Code::Unauthenticated, Kind::Denied),
        (Code::PermissionDenied, Kind::Denied),
        (Code::FailedPrecondition, Kind::Mismatch),
        (Code::Unimplemented, Kind::Unsupported),
        (Code::ResourceExhausted, Kind::Unavailable),
    ] {
        let server = Script::new([Act::Fail(Status::new(code, "no"))]).start().await;
        assert_eq!(fails(server, 0).await.kind(), kind, "{code:?}");
    }
    let later = Act::Raw(AnyResponse { response: None });
    let server =
        Script::new([later.clone(), FIRST, later.clone(), Act::Chunk(3), Act::Chunk(0), FINAL]).start().await;
    assert_eq!(drain(ask(server, 0).await.unwrap()).await.unwrap().0.concat().len(), 3);
    drop(metadata([0; 5]));
}
