//! The Backup RPC over real sockets: each end against the other, and against peers that do everything wrong.
// `cfg(test)`: else clippy forbids the modules' helper functions what it allows their tests.

/// Peers: a handler from a closure, a server that sends given messages, a relay that cuts, sockets that speak something else.
#[cfg(test)]
mod peers;
/// Whom the client cannot talk to, and what it says about it.
#[cfg(test)]
mod reach;
/// Replies of the read RPCs, and what is none.
#[cfg(test)]
mod reader;
/// Tokens, places, stopping, health, reflection: what the server does besides streaming.
#[cfg(test)]
mod serve;
/// Streams: whole ones, and every way in which one is not.
#[cfg(test)]
mod stream;
/// TLS, with client certificates and without.
#[cfg(test)]
mod tls;
