//! The Solution Control Interface: what operators use. An HTTP/JSON API on the SCS's side, its client, and the
//! command line on top of that client. It decides nothing: orders go to the decision core through [`scs::handle`],
//! records come out of [`scs::store`].
//!
//! ```text
//!   takeover status, switchover, ...  ── client ──> Unix socket (root on the SCS host)  ──> server ──> Handle ──> core
//!   other programs, consoles          ───────────> TLS port (certificate of an operator) ──┘    └───> Store
//! ```

pub mod api;
pub mod client;
pub mod command;
pub mod health;
pub mod render;
pub mod server;
pub mod times;
pub mod watch;
