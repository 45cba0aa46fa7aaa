//! Messages between SCS, agents and applications, and the connection that carries them: mutual TLS 1.3 over TCP for
//! what must arrive in order, sealed UDP datagrams for heartbeats and votes. See `docs/decisions/0003-transport.md`.
//!
//! ```text
//!   dial ──> Handshake ──> Link  <── Handshake <── Acceptor         Link: frames of JSON, non-blocking, for an event loop
//!               ^           |            ^
//!            Identity      Seal       Identity <── ca               Seal: heartbeats and lease messages in datagrams, keys
//!                                                             out of the link's TLS
//! ```
//!
//! Nothing here decides anything: who may connect is the caller's `check`, what a message means is the caller's too.
//! On the same host, [`mode_socket`] carries run modes between an agent and an application, and [`notify`] is the
//! sd_notify protocol, both sides of it.

mod acceptor;
pub mod ca;
pub mod delegation;
mod dial;
mod handshake;
mod identity;

pub mod journal;
pub mod lifeline;
mod link;
pub mod messages;
pub mod mode_socket;
pub mod notify;
mod peer;
pub mod real_time;
mod reason;
mod seal;
mod tcp;
pub mod web;

pub use acceptor::{Acceptor, Limits};
pub use dial::{DialError, Expected, dial};
pub use identity::{Identity, IdentityError};
pub use link::{Link, LinkError, Received};
pub use peer::{Certificate, PeerName, Rights, Role};
pub use seal::{MAX_SEALED_LEN, MOST_MESSAGES, Opened, SEALED_LEN, Seal, SealError};
