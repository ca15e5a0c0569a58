//! Making a connection, and saying exactly why there is none.
//!
//! HTTP/2 libraries report a peer that speaks something else as "frame with invalid size". So the first bytes that a peer sends
//! are kept: they tell an HTTP/1.1 server, a TLS server and an HTTP/2 server apart, and that a peer lives at all.

use super::address::Address;
use super::status::chain;
use crate::error::{Error, Kind};
use hyper_util::rt::TokioIo;
use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::codegen::Service;
use tonic::codegen::http::Uri;

/// How long one of a host's addresses is tried alone, before the next is tried as well (RFC 8305 proposes 250 ms).
const STAGGER: Duration = Duration::from_millis(250);

/// The length of an HTTP/2 frame header, which decides what the peer speaks.
const FRAME_HEADER: usize = 9;

/// The first bytes that the peer sent, and whether it closed after fewer.
#[derive(Clone, Debug, Default)]
pub(crate) struct First {
    bytes: Vec<u8>,
    ended: bool,
}

/// What a peer speaks, by its first bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Speaks {
    Nothing,
    Http2,
    Http1,
    Tls,
    Other,
}

impl First {
    fn enough(&self) -> bool {
        self.ended || self.bytes.len() >= FRAME_HEADER
    }

    fn speaks(&self) -> Speaks {
        match self.bytes.as_slice() {
            [] => Speaks::Nothing,
            [b'H', b'T', b'T', b'P', b'/', ..] => Speaks::Http1,
            // A record of TLS: alert or handshake, version 3.x.
            [0x15 | 0x16, 0x03, ..] => Speaks::Tls,
            // SETTINGS on stream 0: what every HTTP/2 peer must send first.
            [_, _, _, 0x04, _, 0, 0, 0, 0, ..] => Speaks::Http2,
            _ => Speaks::Other,
        }
    }
}

/// Waits for the first bytes of a peer that must speak HTTP/2 without TLS, and judges them.
pub(crate) async fn expect_http2(mut first: watch::Receiver<First>) -> Result<(), Error> {
    // An error means that the connection is gone; what it brought is still there.
    let first = match first.wait_for(First::enough).await {
        Ok(first) => first.clone(),
        Err(_) => First { ended: true, ..First::default() },
    };
    match first.speaks() {
        Speaks::Http2 => Ok(()),
        _ => Err(wrong_protocol(&first)),
    }
}

/// The peer of a connection without TLS does not speak HTTP/2.
fn wrong_protocol(first: &First) -> Error {
    match first.speaks() {
        Speaks::Tls => Error::denied("expected HTTP/2 without TLS, found a server that speaks TLS")
            .with_hint("write https:// before the address, or pass tls"),
        Speaks::Http1 => Error::unsupported("expected HTTP/2, found a server that speaks HTTP/1.1")
            .with_hint("give the node's RPC address itself: a proxy before it must pass gRPC (HTTP/2) on"),
        Speaks::Nothing => {
            Error::unavailable("expected HTTP/2, found a connection that was closed without a word")
                .with_hint("if the server speaks TLS, write https:// before the address")
        }
        Speaks::Http2 | Speaks::Other => {
            Error::unsupported("expected HTTP/2, found a server that speaks something else")
                .with_hint("is this the node's RPC port (7331 by default), and not its P2P or metrics port?")
        }
    }
}

/// Why connecting failed: our own error if the dialer made it, else what TLS or HTTP/2 say.
pub(crate) fn explain(error: &(dyn StdError + 'static), first: &First, tls: bool) -> Error {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(own) = cause.downcast_ref::<Error>() {
            let copy = Error::new(own.kind(), own.what().to_owned());
            let copy = own.errno().into_iter().fold(copy, Error::with_errno);
            return own.hint().map(str::to_owned).into_iter().fold(copy, Error::with_hint);
        }
        next = cause.source();
    }
    let text = chain(error);
    if tls {
        return explain_tls(&text, first);
    }
    match first.speaks() {
        Speaks::Http2 => Error::unavailable(format!("the connection failed: {text}")),
        _ => wrong_protocol(first),
    }
}

/// A certificate problem, by the words of the TLS library: `(word, hint)`.
const CERTIFICATE: [(&str, &str); 5] = [
    ("UnknownIssuer", "pass the certificate of the authority that signed it as ca"),
    // The issuer's name is known, its key is another: an authority made anew.
    ("BadSignature", "pass the certificate of the authority that signed it as ca"),
    ("not valid for name", "pass the name that stands in the certificate as server_name"),
    ("expired", "the certificate has run out: renew it, and check this machine's clock"),
    ("not valid yet", "check this machine's clock"),
];

fn explain_tls(text: &str, first: &First) -> Error {
    if text.contains("invalid peer certificate") {
        let error = Error::denied(format!("expected a certificate that is trusted, found another: {text}"));
        let hint = CERTIFICATE.iter().find(|(word, _)| text.contains(word)).map(|(_, hint)| *hint);
        return hint.into_iter().fold(error, Error::with_hint);
    }
    if text.contains("received fatal alert") {
        return refused_certificate(text);
    }
    match first.speaks() {
        Speaks::Http1 | Speaks::Http2 | Speaks::Other => {
            Error::denied("expected TLS, found a server without it")
                .with_hint("write http:// before the address")
        }
        Speaks::Tls if text.contains("HTTP/2 was not negotiated") => {
            Error::unsupported("expected HTTP/2 over TLS, found a server that offers none")
                .with_hint("a proxy before the node must pass gRPC (HTTP/2) on")
        }
        Speaks::Tls => Error::denied(format!("the TLS handshake failed: {text}")),
        Speaks::Nothing => Error::unavailable(format!("the connection ended in the TLS handshake: {text}"))
            .with_hint("if the server speaks no TLS, write http:// before the address"),
    }
}

fn refused_certificate(text: &str) -> Error {
    Error::denied(format!("the server refuses this client's TLS: {text}"))
        .with_hint("the server asks for a client certificate that it trusts: pass cert and key")
}

/// A connection that fails at its first request: with TLS 1.3 a server's refusal of our certificate arrives only then.
pub(crate) fn explain_late(text: &str) -> Option<Error> {
    text.contains("received fatal alert").then(|| refused_certificate(text))
}

/// Connects TCP for the HTTP/2 library and keeps what the peer says first.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    address: Address,
    first: watch::Sender<First>,
}

impl Dialer {
    pub(crate) fn new(address: Address) -> (Self, watch::Receiver<First>) {
        let (first, seen) = watch::channel(First::default());
        (Self { address, first }, seen)
    }
}

impl Service<Uri> for Dialer {
    type Response = TokioIo<Watched>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self { address, first } = self.clone();
        first.send_replace(First::default());
        Box::pin(async move {
            let stream = dial(&address).await?;
            // Refused by odd systems only, and then nothing but speed is lost.
            let _ = stream.set_nodelay(true);
            Ok(TokioIo::new(Watched { stream, first: Some(first) }))
        })
    }
}

/// Tries every address of the host: the next one when one has failed, or is silent for a while.
async fn dial(address: &Address) -> Result<TcpStream, Error> {
    let found = tokio::net::lookup_host((address.host(), address.port())).await.map_err(|error| {
        Error::unavailable(format!("cannot resolve {}: {}", address.host(), words(&error)))
            .with_hint("check the host name")
            .caused_by(error)
    })?;
    let mut waiting = found.collect::<Vec<SocketAddr>>().into_iter();
    let mut trying = JoinSet::new();
    let mut failure = None;
    loop {
        match waiting.next() {
            Some(one) => drop(trying.spawn(TcpStream::connect(one))),
            None if trying.is_empty() => return Err(failure.unwrap_or_else(|| no_address(address))),
            None => {}
        }
        tokio::select! {
            Some(done) = trying.join_next() => match done {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => drop(failure.get_or_insert(refused(error))),
                Err(error) => drop(failure.get_or_insert(Error::unavailable(format!("cannot connect: {error}")))),
            },
            () = tokio::time::sleep(STAGGER), if waiting.len() > 0 => {}
        }
    }
}

fn no_address(address: &Address) -> Error {
    Error::unavailable(format!("cannot resolve {}: it has no address", address.host()))
}

fn refused(error: io::Error) -> Error {
    let this = Error::new(Kind::Unavailable, format!("cannot connect: {}", words(&error)))
        .with_hint("is the node running, and does its rpc.address listen beyond its own machine?");
    error.raw_os_error().into_iter().fold(this, Error::with_errno).caused_by(error)
}

/// The text of a system error without Rust's " (os error 2)".
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    let words = text.split_once(" (os error").map_or(text.as_str(), |(words, _)| words);
    let words = words.strip_prefix("failed to lookup address information: ").unwrap_or(words);
    words.to_lowercase()
}

/// A TCP connection whose first received bytes are told to a watcher.
#[derive(Debug)]
pub(crate) struct Watched {
    stream: TcpStream,
    /// None once enough was told.
    first: Option<watch::Sender<First>>,
}

impl Watched {
    fn tell(&mut self, received: &[u8], ended: bool) {
        let Some(first) = &self.first else { return };
        first.send_modify(|first| {
            let missing = FRAME_HEADER.saturating_sub(first.bytes.len());
            first.bytes.extend(received.iter().take(missing));
            first.ended |= ended;
        });
        if first.borrow().enough() {
            self.first = None;
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.tell(&[], true);
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if self.first.is_some() {
            match &polled {
                Poll::Ready(Ok(())) => {
                    let received = buf.filled().get(before..).unwrap_or_default();
                    self.tell(received, received.is_empty());
                }
                Poll::Ready(Err(_)) => self.tell(&[], true),
                Poll::Pending => {}
            }
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_say_what_a_peer_speaks() {
        for (bytes, speaks) in [
            (&b""[..], Speaks::Nothing),
            (b"HTTP/1.1 400 Bad Request", Speaks::Http1),
            (b"\x15\x03\x03\x00\x02\x02\x0a", Speaks::Tls),
            (b"\x00\x00\x18\x04\x00\x00\x00\x00\x00", Speaks::Http2),
            (b"\x00\x00\x18\x04", Speaks::Other),
            (b"SSH-2.0-OpenSSH", Speaks::Other),
        ] {
            assert_eq!(First { bytes: bytes.to_vec(), ended: false }.speaks(), speaks, "{bytes:?}");
        }
    }
}
