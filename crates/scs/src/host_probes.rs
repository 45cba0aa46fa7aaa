//! Whether a host answers whose agent does not: a TCP connection attempt, without any right and without any program on
//! the other side. Refused is an answer: the host's kernel sent it. Only silence and "no route" are none.

use domain::{HostName, Micros};
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// How long an answer counts: longer than the pause between two attempts, shorter than anybody's patience.
const ANSWER_COUNTS: Duration = Duration::from_secs(1);

/// Probes of hosts, each with at most one attempt under way.
#[derive(Debug, Default)]
pub(crate) struct HostProbes {
    hosts: BTreeMap<HostName, Probe>,
    tokens: BTreeMap<Token, HostName>,
}

#[derive(Debug)]
struct Probe {
    target: SocketAddr,
    every: Duration,
    since: Micros,
    next: Micros,
    attempt: Option<(Token, TcpStream)>,
    answered: Option<Micros>,
}

impl HostProbes {
    /// Begins to probe `host`, or goes on at another pace.
    pub(crate) fn begin(&mut self, host: &HostName, target: SocketAddr, every: Duration, now: Micros) {
        let probe = self.hosts.entry(host.clone()).or_insert_with(|| Probe {
            target,
            every,
            since: now,
            next: now,
            attempt: None,
            answered: None,
        });
        probe.every = every;
        probe.target = target;
    }

    /// The agent is back: no more attempts.
    pub(crate) fn end(&mut self, host: &HostName) {
        if let Some((token, _)) = self.hosts.remove(host).and_then(|probe| probe.attempt) {
            self.tokens.remove(&token);
        }
    }

    pub(crate) fn is_probing(&self, host: &HostName) -> bool {
        self.hosts.contains_key(host)
    }

    /// We slept: what was not heard meanwhile says nothing.
    pub(crate) fn forgive(&mut self, now: Micros) {
        for probe in self.hosts.values_mut() {
            probe.since = now;
            if let Some(answered) = &mut probe.answered {
                *answered = now;
            }
        }
    }

    /// Whether the host has answered since `since`.
    pub(crate) fn answered_since(&self, host: &HostName, since: Micros) -> bool {
        self.hosts.get(host).and_then(|p| p.answered).is_some_and(|at| at >= since)
    }

    /// What can be said of each host that has been probed for long enough.
    pub(crate) fn verdicts(&self, now: Micros) -> Vec<(HostName, bool)> {
        let verdict = |p: &Probe| match p.answered {
            Some(at) if now.since(at) < ANSWER_COUNTS => Some(true),
            Some(_) => Some(false),
            None => (now.since(p.since) >= ANSWER_COUNTS).then_some(false),
        };
        self.hosts.iter().filter_map(|(host, p)| Some((host.clone(), verdict(p)?))).collect()
    }

    /// Starts the attempts that are due. `token` gives a new token for each.
    pub(crate) fn attempt(&mut self, registry: &Registry, mut token: impl FnMut() -> Token, now: Micros) {
        for (host, probe) in self.hosts.iter_mut().filter(|(_, p)| p.next <= now) {
            probe.next = now + probe.every;
            if let Some((token, _)) = probe.attempt.take() {
                self.tokens.remove(&token);
            }
            match TcpStream::connect(probe.target) {
                Ok(mut stream) => {
                    let token = token();
                    if registry.register(&mut stream, token, Interest::WRITABLE).is_ok() {
                        self.tokens.insert(token, host.clone());
                        probe.attempt = Some((token, stream));
                    }
                }
                Err(e) if is_answer(&e) => probe.answered = Some(now),
                Err(_) => {}
            }
        }
    }

    /// Takes an event of the poll, if the token is one of an attempt.
    pub(crate) fn finish(&mut self, token: Token, now: Micros) -> bool {
        let Some(host) = self.tokens.remove(&token) else { return false };
        if let Some(probe) = self.hosts.get_mut(&host)
            && let Some((_, stream)) = probe.attempt.take()
        {
            let answers = match stream.take_error() {
                Ok(None) => stream.peer_addr().is_ok(),
                Ok(Some(e)) => is_answer(&e),
                Err(_) => false,
            };
            if answers {
                probe.answered = Some(now);
            }
        }
        true
    }

    /// When the next attempt or verdict is due.
    pub(crate) fn next_deadline(&self) -> Option<Micros> {
        self.hosts.values().map(|p| p.next).min()
    }
}

/// Refused or reset: some kernel at that address said so.
fn is_answer(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset)
}
