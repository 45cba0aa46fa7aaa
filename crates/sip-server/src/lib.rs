//! The SIP Server: answers OPTIONS and REGISTER on the VIP over UDP and TCP while it is primary, and is silent there
//! while it is backup. `takeover sip-server` runs it.
//!
//! One thread, one event loop ([`run`]): the mode socket, the signals and all SIP sockets are in it, so that a run mode
//! is taken between two requests and confirmed at once, and the watchdog's heartbeats stop when the loop does. What a
//! request means is decided in `sip-proto`; which mode holds, in `mode`; here bytes are moved.

mod agent;
mod beside;
mod cdr;
mod log;
mod manager;
mod mode;
mod options;
mod pages;
mod say;
mod server;
mod settings;
mod sync;
mod transport;

pub use options::{Args, ModeSource, Options};

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// Where the sockets cannot be bound at the start. Later, errors of single sockets are counted and survived.
pub fn run(options: Options) -> anyhow::Result<()> {
    server::Server::start(options)?.run()
}
