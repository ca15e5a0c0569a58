//! The Backup RPC: bytes over gRPC, as client and as server. Nothing here knows what is in them.
//!
//! ```text
//!   client                                server
//!   connect ── TCP, TLS, HTTP/2 ────────▶ listen
//!   Client::backup ── AnyRequest ───────▶ Handler::backup, on a thread of its own
//!   Incoming::announced ◀── metadata ──── Outlet::begin
//!   Event::Chunk  ◀── chunk …         ─── Outlet::chunk       (metadata again when nothing else could be sent for 10 s)
//!   Event::Listed ◀── metadata, listed ── Outlet::listed
//!   Event::End    ◀── metadata, completed  Outlet::end, once the handler has returned without an error
//! ```
//!
//! A reply is complete when exactly one final message came, nothing after it, and the status was OK. Whatever else
//! happens is an error that says how far it came. Messages are in `proto/`: the client reads with
//! [`any_layout`](crate::proto::any_layout), because the proposal had two layouts; the server speaks the final one.
//!
//! Nothing has an absolute deadline: a backup takes as long as it takes. Silence has one ([`Connect::idle_timeout`]), which the
//! server's heartbeat ([`Listen::heartbeat`]) stays below.

mod address;
mod client;
mod connect;
mod dial;
mod front;
mod outlet;
mod place;
mod rate;
mod reader;
mod reads;
mod server;
mod service;
mod status;
mod tls;
mod wire;

pub use address::{Address, DEFAULT_PORT};
pub use client::{Client, Connect, DAMAGED_HINT, Incoming, Request, connect};
pub use outlet::{Handler, Outlet};
pub use reader::{Found, MAX_REPLY, ReadBlock, ReadState, Reader};
pub use reads::{Reads, Refusal};
pub use server::{DEFAULT_SERVE_PORT, Listen, Server, listen};
pub use tls::Tls;
pub use wire::{Announced, Base, Event, Final, Layout, Listed};
