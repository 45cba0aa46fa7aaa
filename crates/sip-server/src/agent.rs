//! The agent's end of the mode socket, as the event loop sees it: who is there, what it says, what it is told. An agent
//! that goes away changes nothing; the next one is told everything anew.

use crate::say::Say;
use control_link::messages::{FromApplication, ToApplication};
use control_link::mode_socket::{Connection, Listener, ModeSocketError};
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// The agent, or the lack of one.
#[derive(Debug, Default)]
pub(crate) struct Agent {
    listener: Option<Listener>,
    connection: Option<Connection>,
}

impl Agent {
    /// Listens for it at `path`.
    pub(crate) fn listen(path: &Path, registry: &Registry, token: Token) -> anyhow::Result<Self> {
        let listener = Listener::bind(path)?;
        registry.register(&mut SourceFd(&listener.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self { listener: Some(listener), connection: None })
    }

    /// Takes the next one that connects; false where none does.
    pub(crate) fn accept(&mut self, registry: &Registry, token: Token, say: &Say) -> bool {
        let Some(listener) = &self.listener else { return false };
        match listener.accept() {
            Ok(Some(agent)) => {
                // The newest is the agent: one that was restarted comes before its predecessor is seen to be gone.
                let fd = agent.as_raw_fd();
                let registered = registry.register(&mut SourceFd(&fd), token, Interest::READABLE);
                self.connection = registered.is_ok().then_some(agent);
                true
            }
            Ok(None) => false,
            Err(e) => {
                say.note(format_args!("cannot accept the agent: {e}"));
                false
            }
        }
    }

    /// The next thing that it says, and the descriptor that came along.
    pub(crate) fn hear(&mut self, say: &Say) -> Option<(ToApplication, Option<OwnedFd>)> {
        loop {
            match self.connection.as_ref()?.receive_with() {
                Ok(heard) => return heard,
                Err(e @ (ModeSocketError::Malformed(_) | ModeSocketError::TooLarge { .. })) => {
                    say.note(format_args!("an instruction was dropped: {e}"));
                }
                Err(e) => {
                    say.note(format_args!("the agent is gone, the run mode stays: {e}"));
                    self.forget();
                }
            }
        }
    }

    /// Tells it something; false where nobody was told.
    pub(crate) fn tell(&mut self, message: &FromApplication, say: &Say) -> bool {
        let Some(agent) = &self.connection else { return false };
        let told = agent.send(message);
        if let Err(e) = &told {
            // It connects again and is told anew.
            say.note(format_args!("the agent could not be told: {e}"));
            self.forget();
        }
        told.is_ok()
    }

    /// Waits for another one.
    pub(crate) fn forget(&mut self) {
        self.connection = None;
    }
}
