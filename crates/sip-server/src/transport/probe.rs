//! The address where probes are answered in any run mode: a UDP socket of the host's own, not of a VIP.

use super::datagrams::{Datagrams, Inbox, Received};
use mio::{Interest, Registry, Token};
use std::net::SocketAddr;

/// The socket.
pub(crate) struct Probe {
    datagrams: Datagrams,
    inbox: Inbox,
    ready: bool,
}

impl Probe {
    pub(crate) fn bind(address: SocketAddr, registry: &Registry, token: Token) -> anyhow::Result<Self> {
        let mut datagrams = Datagrams::bind(address)?;
        registry.register(datagrams.source(), token, Interest::READABLE)?;
        Ok(Self { datagrams, inbox: Inbox::default(), ready: true })
    }

    pub(crate) fn mark_ready(&mut self) {
        self.ready = true;
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready
    }

    /// Has `answer` write an answer to each of a batch, and say where it goes.
    pub(crate) fn answer(
        &mut self,
        mut answer: impl FnMut(SocketAddr, &[u8], &mut Vec<u8>) -> Option<SocketAddr>,
    ) {
        if !self.ready {
            return;
        }
        let mut answers = Vec::new();
        let received = self.datagrams.receive(&mut self.inbox, |source, bytes| {
            let mut written = Vec::new();
            if let Some(to) = answer(source, bytes, &mut written) {
                answers.push((to, written));
            }
        });
        self.ready = received != Received::Drained;
        let batch: Vec<(SocketAddr, &[u8])> = answers.iter().map(|(to, bytes)| (*to, &bytes[..])).collect();
        // Who probes asks again.
        self.datagrams.send(&batch);
    }
}
