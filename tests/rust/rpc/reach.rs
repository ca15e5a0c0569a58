use super::peers::{SOON, Script, ask, client, fails, http2, socket, to};
use evbackup::error::{Error, Kind};
use evbackup::rpc::{Connect, Request, Tls, connect};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

async fn refusal(options: &Connect) -> Error {
    connect(options).await.unwrap_err()
}

fn with_tls(address: SocketAddr) -> Connect {
    let mut options = to(address);
    options.address = format!("https://{address}").parse().unwrap();
    // Any certificate will do where no handshake succeeds.
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file.as_file(), signed.cert.pem().as_bytes()).unwrap();
    let (_, path) = file.keep().unwrap();
    options.tls = Some(Tls { ca: Some(path), ..Tls::default() });
    options
}

#[tokio::test]
async fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = refusal(&to(address)).await;
    assert_eq!((error.kind(), error.errno()), (Kind::Unavailable, Some(111)));
    assert_eq!(error.to_string(), format!("{address}: cannot connect: connection refused"));
    assert!(error.hint().unwrap().contains("rpc.address"), "{error:?}");
}

#[tokio::test]
async fn the_name_is_unknown() {
    let mut options = Connect::new("no-such-host.invalid".parse().unwrap());
    options.connect_timeout = Duration::from_secs(3);
    let error = refusal(&options).await;
    assert_eq!(error.kind(), Kind::Unavailable, "{error:?}");
    assert!(error.to_string().starts_with("no-such-host.invalid:7331: "), "{error}");
}

#[tokio::test]
async fn a_black_hole_ends_within_the_time_given() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for tls in [false, true] {
        let address = listener.local_addr().unwrap();
        let mut options = if tls { with_tls(address) } else { to(address) };
        options.connect_timeout = Duration::from_millis(300);
        let began = Instant::now();
        let error = refusal(&options).await;
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        assert_eq!(error.kind(), Kind::Unavailable);
        assert_eq!(error.what(), "expected an answer within 0.3 s, found silence");
    }
}

#[tokio::test]
async fn peers_that_speak_something_else_are_named() {
    for (bytes, kind, found) in [
        (&b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"[..], Kind::Unsupported, "speaks HTTP/1.1"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Kind::Unsupported, "speaks something else"),
        (b"\x15\x03\x03\x00\x02\x02\x46", Kind::Denied, "speaks TLS"),
        (b"\x15\x03\x01\x00\x02\x02\x46", Kind::Denied, "speaks TLS"),
        (b"", Kind::Unavailable, "closed without a word"),
    ] {
        for stay in [false, true] {
            if bytes.is_empty() && stay {
                continue;
            }
            let error = refusal(&to(socket(bytes, stay && bytes.len() >= 9).await)).await;
            assert_eq!(error.kind(), kind, "{error:?}");
            assert!(error.what().contains(found) && error.hint().is_some(), "{error:?}");
        }
    }
}

#[tokio::test]
async fn a_server_without_tls_is_told_apart_from_a_bad_certificate() {
    let real = Script::new([]).start().await;
    let http1 = socket(b"HTTP/1.1 400 Bad Request\r\n\r\n", true).await;
    for address in [real, http1] {
        let error = refusal(&with_tls(address)).await;
        assert_eq!(error.kind(), Kind::Denied, "{error:?}");
        assert_eq!(error.what(), "expected TLS, found a server without it");
    }
    let error = refusal(&with_tls(socket(b"", false).await)).await;
    assert_eq!(error.kind(), Kind::Unavailable, "{error:?}");
}

#[tokio::test]
async fn a_node_without_the_rpc_says_404_and_gets_a_way_out() {
    // HEADERS on stream 1, END_STREAM and END_HEADERS: `:status: 404` from HPACK's static table.
    let node = http2(&[0, 0, 1, 1, 5, 0, 0, 0, 1, 0x8d]).await;
    let error = fails(node, 0).await;
    assert_eq!(error.kind(), Kind::Unsupported, "{error:?}");
    let hint = "this node has no Backup RPC: pass via=\"blocks\", run `evbackup serve` beside it, or back up the directory";
    assert_eq!(error.hint(), Some(hint));

    // The same from a gRPC server that knows other services.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_, health) = tonic_health::server::health_reporter();
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    tokio::spawn(tonic::transport::Server::builder().add_service(health).serve_with_incoming(incoming));
    let error = fails(address, 0).await;
    assert_eq!((error.kind(), error.hint()), (Kind::Unsupported, Some(hint)), "{error:?}");
}

#[tokio::test]
async fn a_web_server_that_answers_200_to_anything() {
    // `:status: 200`, then `content-type: text/html` as a literal, then a DATA frame.
    let site = http2(b"\x00\x00\x0d\x01\x04\x00\x00\x00\x01\x88\x0f\x10\x09text/html\x00\x00\x06\x00\x01\x00\x00\x00\x01<html>").await;
    let error = fails(site, 0).await;
    assert_eq!(error.kind(), Kind::Unsupported, "{error:?}");
    assert_eq!(error.what(), "expected a gRPC reply, found text/html");
}

#[tokio::test]
async fn a_server_gone_between_connecting_and_asking() {
    let server = super::peers::serve(|_, _| Ok(())).await;
    let mut client = client(server.address()).await;
    server.stop().await.unwrap();
    let error = client.backup(Request::default()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{error:?}");
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_before_any_connection() {
    let token = |address: &str| {
        let mut options = Connect::new(address.parse().unwrap());
        options.token = Some("hush".to_owned());
        options.connect_timeout = Duration::from_millis(10);
        options
    };
    let error = refusal(&token("192.0.2.1:1")).await;
    assert_eq!(error.kind(), Kind::Invalid);
    assert_eq!(error.what(), "expected TLS for a token, found a connection in plain text");
    // Where it is allowed it gets as far as the network.
    let open = Connect { insecure: true, ..token("192.0.2.1:1") };
    for options in [open, token("https://192.0.2.1:1"), token("127.0.0.1:1")] {
        assert_eq!(refusal(&options).await.kind(), Kind::Unavailable);
    }
    for (name, value) in [("a b", "x"), ("", "x"), ("x", "\n"), ("authorization", "x")] {
        let headers = vec![(name.to_owned(), value.to_owned())];
        let error = refusal(&Connect { headers, ..token("127.0.0.1:1") }).await;
        assert_eq!(error.kind(), Kind::Invalid, "{error:?}");
    }
    let still = Connect { max_rate: Some(0), ..Connect::new("node".parse().unwrap()) };
    assert_eq!(refusal(&still).await.kind(), Kind::Invalid);
    let both = Connect { tls: Some(Tls::default()), ..Connect::new("http://node".parse().unwrap()) };
    assert_eq!(refusal(&both).await.what(), "expected https:// with tls, found http://");
    let lost = Tls { ca: Some("/nowhere/ca.pem".into()), ..Tls::default() };
    let error = refusal(&Connect { tls: Some(lost), ..Connect::new("node".parse().unwrap()) }).await;
    assert_eq!((error.kind(), error.path().is_some()), (Kind::Missing, true));
}

#[tokio::test]
async fn localhost_is_reached_by_whichever_address_answers() {
    let server = Script::new([]).start().await;
    let options = Connect::new(format!("localhost:{}", server.port()).parse().unwrap());
    let began = Instant::now();
    connect(&options).await.unwrap();
    assert!(began.elapsed() < SOON);
    assert!(ask(server, 0).await.is_err());
}
