//! The datagrams of one connection as the real-time thread sends and reads them: a heartbeat in time, lease messages with
//! it, and for how long the other end has been silent. Which socket they go through is the caller's.

use control_link::Seal;
use control_link::messages::Heartbeat;
use domain::Micros;
use lease::{Body, Message};
use std::time::Duration;

/// How often to send and how long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Time between heartbeats.
    pub every: Duration,
    /// Silence after which the other end counts as lost.
    pub silence: Duration,
}

/// The datagrams of one connection.
#[derive(Debug)]
pub struct Datagrams {
    seal: Seal,
    pace: Pace,
    next_beat: Micros,
    /// When anything was heard last, our clock.
    heard_at: Micros,
    /// The newest time stamp in a heartbeat of the other end, its clock, and when it arrived, ours.
    newest: Option<(Micros, Micros)>,
    /// Our greatest lateness since the last heartbeat.
    stall: Duration,
    /// Lease messages that were none.
    malformed: u64,
}

impl Datagrams {
    /// Of a connection that has just begun: the first heartbeat is due, and the other end counts as just heard.
    #[must_use]
    pub fn new(seal: Seal, pace: Pace, now: Micros) -> Self {
        Self { seal, pace, next_beat: now, heard_at: now, newest: None, stall: Duration::ZERO, malformed: 0 }
    }

    /// The session that the datagrams belong to.
    #[must_use]
    pub fn session(&self) -> u64 {
        self.seal.session()
    }

    /// Time between heartbeats, and the silence that is too long.
    #[must_use]
    pub fn pace(&self) -> Pace {
        self.pace
    }

    /// Follows another pace from now on. Nobody is silent for having kept to the one before.
    pub fn set_pace(&mut self, pace: Pace, now: Micros) {
        if self.pace != pace {
            self.pace = pace;
            self.next_beat = self.next_beat.min(now + pace.every);
            self.heard_at = now;
        }
    }

    /// Lease messages of the other end that were none of this release.
    #[must_use]
    pub fn malformed(&self) -> u64 {
        self.malformed
    }

    /// Opens a datagram and hands its lease messages to `vote`. False: it is not the other end's, and changes nothing.
    pub fn hear(&mut self, datagram: &mut [u8], now: Micros, mut vote: impl FnMut(Message)) -> bool {
        let Ok(opened) = self.seal.open(datagram) else { return false };
        let both_ways = opened.heartbeat.both_ways(self.pace.every, now);
        for message in opened.messages() {
            match message {
                // Whoever does not hear us cannot hold by our promise, and would keep it from who can.
                Ok(Message { body: Body::Ask { .. }, .. }) if both_ways < now => {}
                Ok(message) => vote(message),
                Err(_) => self.malformed = self.malformed.saturating_add(1),
            }
        }
        self.heard_at = self.heard_at.max(both_ways);
        if self.newest.is_none_or(|(newest, _)| newest < opened.heartbeat.at) {
            self.newest = Some((opened.heartbeat.at, now));
        }
        true
    }

    /// The other end said something on the connection itself.
    pub fn heard(&mut self, now: Micros) {
        self.heard_at = now;
    }

    /// Sends a heartbeat, with these lease messages.
    pub fn send(&mut self, messages: &[Message], now: Micros, send: impl FnMut(&[u8])) {
        let us = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
        let (heard, held_us) = self.newest.map_or((Micros(0), 0), |(at, when)| (at, us(now.since(when))));
        let stall_us = us(std::mem::take(&mut self.stall));
        self.seal.seal_with(&Heartbeat { at: now, heard, held_us, stall_us }, messages, send);
        self.next_beat = if now < self.next_beat {
            // Votes take the heartbeat along, which then need not go by itself.
            now + self.pace.every
        } else {
            // On the beat where it was kept; after a pause not several at once.
            (self.next_beat + self.pace.every).max(now + self.pace.every / 2)
        };
    }

    /// When a heartbeat is due, or silence has lasted too long.
    #[must_use]
    pub fn next_deadline(&self) -> Micros {
        self.next_beat.min(self.silent_at())
    }

    /// When the next heartbeat is due.
    #[must_use]
    pub fn next_beat(&self) -> Micros {
        self.next_beat
    }

    /// When silence will have lasted too long.
    #[must_use]
    pub fn silent_at(&self) -> Micros {
        self.heard_at + self.pace.silence
    }

    /// We ourselves were late by this much: the other end is not silent for that.
    pub fn grant(&mut self, time: Duration) {
        self.stall = self.stall.max(time);
        self.heard_at += time;
    }
}
