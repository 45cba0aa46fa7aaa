//! Datagrams of the core thread: heartbeats and lease messages in, one answer for each agent out.

use crate::core_loop::CoreLoop;
use control_link::{MAX_SEALED_LEN, Seal};
use std::io;

/// Datagrams read before other work is looked after.
const BUDGET: usize = 1_024;

impl CoreLoop {
    /// Reads what has come, up to a bound, and answers it.
    pub(crate) fn read_datagrams(&mut self, socket: usize) {
        // One byte more than the longest one has shows one that is too long.
        let mut buffer = [0; MAX_SEALED_LEN + 1];
        for _ in 0..BUDGET {
            let (length, from) = match self.datagrams[socket].recv_from(&mut buffer) {
                Ok(received) => received,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                // An ICMP error of an answer sent before, or the like: nothing about this socket.
                Err(_) => continue,
            };
            let now = self.clock.now();
            let datagram = &mut buffer[..length];
            let Some(token) = Seal::session_of(datagram).and_then(|id| self.by_session.get(&id)).copied()
            else {
                continue;
            };
            let Some(agent) = self.sessions.get_mut(&token).and_then(|s| s.agent.as_mut()) else { continue };
            let votes = &mut self.votes;
            if agent.hear(datagram, (socket, from), now, |message| votes.push((token, message))) {
                self.unsent.insert(token);
            }
        }
        self.count_votes();
        self.send_datagrams();
    }

    /// Sends what waits: each agent gets one datagram, with the answer to its heartbeat and all votes in it.
    pub(crate) fn send_datagrams(&mut self) {
        let now = self.clock.now();
        while let Some(token) = self.unsent.pop_first() {
            let Some(agent) = self.sessions.get_mut(&token).and_then(|s| s.agent.as_mut()) else { continue };
            // Lost is lost: the next one comes.
            agent.send(now, |socket, to, sealed| drop(self.datagrams[socket].send_to(sealed, to)));
        }
    }
}
