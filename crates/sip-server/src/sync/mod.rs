//! The replication: `sip-sync`'s stream over mutual TLS, in the server's event loop.
//!
//! In the loop and not on a thread: a change is with the kernel before the message that depends on it is sent, without
//! waiting for anybody. Nothing here blocks; what the kernel does not take waits in the stream's bounded queue.

mod meeting;
#[cfg(test)]
mod tests;

use crate::settings::Member;
use control_link::ca::Issued;
use control_link::delegation::Delegate;
use control_link::{Link, LinkError, Received};
use domain::{Epoch, Micros, RunMode, SipMember, SipSettings};
use meeting::{Meeting, Met, Place};
use mio::{Interest, Registry, Token};
use serde::Serialize;
use sha2::{Digest, Sha256};
use sip_sync::{Broken, Counters, Limits, Readiness, Replica, Replicator, Role, Settings, Timing};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Most bytes that wait in the link, encrypted; what is more waits in the stream, whose bound it is.
const LINK_QUEUE: usize = 256 << 10;
/// Bytes that are encrypted at once.
const CHUNK: usize = 64 << 10;
/// Times that one read is followed by another before the role is taken: 64 KiB each.
const READS_BEFORE_TAKEOVER: usize = 64;
/// Pause before the next connection after one was lost.
const SOON: Duration = Duration::from_millis(100);
/// The same after one that cannot be better for now.
const LATER: Duration = Duration::from_secs(5);
/// How often the figures are told.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// What the manager is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Report {
    /// Whether a takeover would lose nothing, as far as this end knows. A primary has all there is.
    pub(crate) synced: bool,
    /// How far the backup is behind, milliseconds; none: the two are not in contact.
    pub(crate) lag_ms: Option<u64>,
}

/// One end of the replication. `K` is the replica's cursor.
#[derive(Debug)]
pub(crate) struct Replication<K> {
    stream: Replicator<K>,
    meeting: Meeting,
    place: Place,
    registry: Registry,
    tokens: Tokens,
    link: Option<Link>,
    /// Whether the link may have something to read.
    readable: bool,
    incoming: Vec<u8>,
    role: Role,
    /// As it was in the last round.
    readiness: Readiness,
    reported: Option<Report>,
    next_report: Micros,
    notes: Vec<String>,
}

/// What the event loop knows the replication's sockets by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tokens {
    /// Connections that were made.
    pub(crate) met: Token,
    /// The connection.
    pub(crate) link: Token,
}

impl<K> Replication<K> {
    /// Begins, as backup, to look for the other member.
    ///
    /// # Errors
    /// Where the system gives no pipe or thread.
    pub(crate) fn start(
        member: &Member,
        settings: &SipSettings,
        registry: &Registry,
        tokens: Tokens,
    ) -> io::Result<Self> {
        let place = place(member, settings);
        let mut stream = Replicator::new(stream_settings(member, settings));
        Ok(Self {
            readiness: stream.readiness(Micros(0)),
            stream,
            meeting: Meeting::start(place.clone(), registry, tokens.met)?,
            place,
            registry: registry.try_clone()?,
            tokens,
            link: None,
            readable: false,
            incoming: Vec::new(),
            role: Role::Backup,
            reported: None,
            next_report: Micros(0),
            notes: Vec::new(),
        })
    }

    /// The settings were read again.
    ///
    /// # Errors
    /// As [`Replication::start`]; the connection that there is stays.
    pub(crate) fn reconfigure(&mut self, member: &Member, settings: &SipSettings) -> io::Result<()> {
        let place = place(member, settings);
        if place != self.place {
            self.meeting = Meeting::start(place.clone(), &self.registry, self.tokens.met)?;
            self.place = place;
        }
        self.stream.set_settings(stream_settings(member, settings));
        Ok(())
    }

    /// An event of one of the two tokens.
    pub(crate) fn mark_ready(&mut self, token: Token) {
        self.readable |= token == self.tokens.link;
    }

    /// Hands changes to the kernel, before the messages that depend on them are sent.
    pub(crate) fn send<C: Serialize>(&mut self, changes: &[C], now: Micros) {
        let sent = self.stream.send(changes, now);
        self.checked(sent, now);
        self.flush(now);
    }

    /// Takes what has arrived and does what is due. Once in each round of the event loop.
    pub(crate) fn turn<R: Replica<Cursor = K>>(&mut self, replica: &mut R, now: Micros) {
        self.meet(now);
        self.read(replica, now);
        let done = self.stream.due(replica, now);
        self.checked(done, now);
        self.flush(now);
        self.readiness = self.stream.readiness(now);
    }

    /// The run mode is another one now, or its epoch. Before a primary's first step.
    pub(crate) fn set_mode<R>(&mut self, mode: RunMode, epoch: Epoch, replica: &mut R, now: Micros)
    where
        R: Replica<Cursor = K>,
    {
        match mode {
            RunMode::Primary => {
                // What the last primary said before it fell silent is here already, if it is anywhere.
                self.readable = true;
                for _ in 0..READS_BEFORE_TAKEOVER {
                    if !self.readable {
                        break;
                    }
                    self.read(replica, now);
                }
                self.role = Role::Primary;
                self.stream.set_role(Role::Primary, epoch);
            }
            RunMode::Backup => {
                self.role = Role::Backup;
                self.stream.set_role(Role::Backup, epoch);
            }
            // Its calls are its own until another one is primary.
            RunMode::Exiting => {}
        }
        self.flush(now);
    }

    /// When [`Replication::turn`] is due; at once where there is more to read.
    pub(crate) fn next_deadline(&self) -> Option<Micros> {
        if self.readable && self.link.is_some() {
            return Some(Micros(0));
        }
        [self.stream.next_deadline(), Some(self.next_report)].into_iter().flatten().min()
    }

    /// How it stands, or did in the last round.
    pub(crate) fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// What it has done so far.
    pub(crate) fn counters(&self) -> Counters {
        self.stream.counters()
    }

    /// What the manager is to be told now: a change at once, figures once a second.
    pub(crate) fn report(&mut self, now: Micros) -> Option<Report> {
        let lag_ms = self.readiness.lag.map(|lag| u64::try_from(lag.time.as_millis()).unwrap_or(u64::MAX));
        let report = Report { synced: self.readiness.ready || self.role == Role::Primary, lag_ms };
        let told = self.reported.is_some_and(|told| told.synced == report.synced);
        if told && now < self.next_report {
            return None;
        }
        self.next_report = now + REPORT_EVERY;
        self.reported = Some(report);
        Some(report)
    }

    /// A new manager knows nothing.
    pub(crate) fn report_anew(&mut self) {
        self.reported = None;
    }

    /// What people may want to know.
    pub(crate) fn notes(&mut self) -> std::vec::Drain<'_, String> {
        self.notes.drain(..)
    }

    // ---- the connection

    fn meet(&mut self, now: Micros) {
        self.meeting.hush();
        while let Some(met) = self.meeting.next() {
            match met {
                Met::Link(link) => self.connected(*link, now),
                Met::Note(note) => self.notes.push(note),
            }
        }
    }

    fn connected(&mut self, mut link: Link, now: Micros) {
        // A peer that connects again has lost the connection that we may still believe in.
        self.link = None;
        self.stream.disconnected(now);
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(e) = self.registry.register(link.source(), self.tokens.link, interest) {
            self.notes.push(format!("the connection with the other member cannot be polled: {e}"));
            return self.meeting.again(LATER);
        }
        self.notes.push(format!("connected with {} at {}", self.place.peer.application, link.peer_address()));
        self.link = Some(link);
        self.readable = true;
        self.stream.connected(now);
    }

    fn read<R: Replica<Cursor = K>>(&mut self, replica: &mut R, now: Micros) {
        let Some(link) = self.link.as_mut().filter(|_| self.readable) else {
            self.readable = false;
            return;
        };
        self.incoming.clear();
        let received = link.receive_bytes(&mut self.incoming);
        self.readable = matches!(received, Ok(Received::More));
        // What arrived before the end is whole; an error may be behind it.
        if !self.incoming.is_empty() {
            let taken = self.stream.received(&self.incoming, replica, now);
            self.checked(taken, now);
        }
        if let Err(e) = received {
            self.lost(&e, now);
        }
    }

    fn flush(&mut self, now: Micros) {
        let Some(link) = &mut self.link else { return };
        if let Err(e) = send_waiting(&mut self.stream, link) {
            self.lost(&e, now);
        }
    }

    fn checked(&mut self, result: Result<(), Broken>, now: Micros) {
        let Err(broken) = result else { return };
        if let Some(mut link) = self.link.take() {
            // A goodbye may wait; whether it arrives or not, the end comes.
            let _ = send_waiting(&mut self.stream, &mut link);
        }
        let pause = match broken {
            Broken::Silent => SOON,
            Broken::OtherVersion { .. }
            | Broken::OtherPair { .. }
            | Broken::Malformed(_)
            | Broken::TooLarge { .. }
            | Broken::Unwritable(_)
            | Broken::Overflow { .. }
            | Broken::Behind(_)
            | Broken::Goodbye(_) => LATER,
        };
        self.ended(&broken, pause, now);
    }

    fn lost(&mut self, error: &LinkError, now: Micros) {
        if self.link.take().is_some() {
            self.ended(error, SOON, now);
        }
    }

    fn ended(&mut self, why: &dyn std::error::Error, pause: Duration, now: Micros) {
        self.stream.disconnected(now);
        self.notes.push(format!("no replication with {}: {why}", self.place.peer.application));
        self.meeting.again(pause);
    }
}

/// Gives the link as much of what waits as it takes.
fn send_waiting<K>(stream: &mut Replicator<K>, link: &mut Link) -> Result<(), LinkError> {
    link.flush()?;
    while link.queued() < LINK_QUEUE {
        let waiting = stream.outgoing();
        if waiting.is_empty() {
            break;
        }
        let length = waiting.len().min(CHUNK);
        link.send_bytes(&waiting[..length])?;
        stream.sent(length);
    }
    Ok(())
}

fn place(member: &Member, settings: &SipSettings) -> Place {
    let at = |member: &SipMember| SocketAddr::new(member.address, settings.replication.port);
    let identity = &member.identity;
    Place {
        own: at(&member.this),
        other: at(&member.other),
        dials: member.this.app < member.other.app,
        files: Issued {
            certificate: identity.certificate.clone(),
            key: identity.key.clone(),
            ca: identity.ca.clone(),
        },
        peer: Delegate { host: member.other.host.clone(), application: member.other.app.clone() },
    }
}

fn stream_settings(member: &Member, settings: &SipSettings) -> Settings {
    Settings {
        pair: member.pair.as_str().into(),
        application: member.this.app.as_str().into(),
        release: env!("CARGO_PKG_VERSION").into(),
        format: sip_core::FORMAT,
        // Changes name listen addresses by their number.
        shape: digest(&settings.listen),
        digest: digest(settings),
        timing: Timing { allowed_lag: settings.replication.lag, ..Timing::default() },
        limits: Limits::default(),
    }
}

/// Tells settings apart. Both ends are of the same release where it matters, so JSON is the same where they are.
fn digest<T: Serialize>(value: &T) -> u64 {
    let json = serde_json::to_vec(value).unwrap_or_default();
    Sha256::digest(json).first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}
