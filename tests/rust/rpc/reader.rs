use super::peers::{SOON, http2, to};
use evbackup::error::{Error, Kind, Result};
use evbackup::rpc::{Found, MAX_REPLY, ReadBlock, connect};
use std::net::SocketAddr;
use std::time::Duration;

/// A reply's headers: `:status: 200`, and its type as a literal.
const HEADERS: &[u8] = b"\x00\x00\x14\x01\x04\x00\x00\x00\x01\x88\x0f\x10\x10application/grpc";

async fn block(address: SocketAddr, limit: usize) -> Result<Found<ReadBlock>> {
    let mut options = to(address);
    options.idle_timeout = Duration::from_secs(1);
    let reads = connect(&options).await.unwrap().reader();
    tokio::time::timeout(SOON, reads.block(7, limit)).await.unwrap()
}

async fn refused(address: SocketAddr) -> Error {
    block(address, MAX_REPLY).await.unwrap_err()
}

fn leaked(parts: &[&[u8]]) -> &'static [u8] {
    parts.concat().leak()
}

#[tokio::test]
async fn an_absurd_length_is_refused_before_anything_is_kept() {
    // A message of 1 GiB, of which nothing follows.
    let absurd = leaked(&[HEADERS, b"\x00\x00\x05\x00\x00\x00\x00\x00\x01\x00\x40\x00\x00\x00"]);
    let error = refused(http2(absurd).await).await;
    assert_eq!(error.kind(), Kind::Damaged, "{error:?}");
    assert_eq!(error.what(), "expected a reply of at most 268435456 bytes to GetBlock, found a longer one");
    let found = block(http2(absurd).await, 1 << 20).await.unwrap();
    assert_eq!(found, Found::TooLong, "the caller may have room for more");
}

#[tokio::test]
async fn bytes_that_are_no_reply_are_damage() {
    let trailers = b"\x00\x00\x0f\x01\x05\x00\x00\x00\x01\x00\x0bgrpc-status\x010";
    let rubbish =
        leaked(&[HEADERS, b"\x00\x00\x08\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x03\xff\xff\xff", trailers]);
    let error = refused(http2(rubbish).await).await;
    assert_eq!(error.kind(), Kind::Damaged, "{error:?}");
    assert!(error.what().starts_with("expected a reply to GetBlock, found other bytes"), "{error}");
    assert!(error.hint().is_some());
}

#[tokio::test]
async fn a_node_without_the_rpc_and_a_web_server_are_told() {
    // `:status: 404`, as Go's web server says it.
    let error = refused(http2(&[0, 0, 1, 1, 5, 0, 0, 0, 1, 0x8d]).await).await;
    assert_eq!(error.kind(), Kind::Unsupported, "{error:?}");
    assert!(error.what().starts_with("expected the RPC GetBlock, found none"), "{error}");
}

#[tokio::test]
async fn silence_ends() {
    let error = refused(http2(b"").await).await;
    assert_eq!(error.kind(), Kind::Unavailable, "{error:?}");
    assert!(error.to_string().contains("expected a message within 1 s, found silence"), "{error}");
}
