//! The SIP Server: registrar and back-to-back user agent on the VIP over UDP, TCP and TLS while it is primary, and silent
//! there while it is backup. `takeover sip-server` runs it.
//!
//! One thread, one event loop ([`run`], `server`): the mode socket, the signals, the connection with the other member and all
//! SIP sockets (`transport`) are in it, so that a run mode is taken between two requests and confirmed at once, and the
//! watchdog's heartbeats stop when the loop does. What a message means is decided in `sip-core`; what the other member has to
//! know, in `sip-sync`; which mode holds, in `mode`; here bytes are moved. What may take its time has a thread of its own:
//! names and HTTP (`beside`), call records (`cdr`), connecting with the other member (`sync::meeting`).

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
