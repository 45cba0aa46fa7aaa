//! Heartbeats and lease messages in UDP datagrams, sealed with keys that come out of the link's TLS session (RFC 8446,
//! section 7.5): no second handshake, and a lost TCP segment delays none. Nothing here allocates.
//!
//! ```text
//!   "TKH1"  session (64 bits)  counter (64 bits) | at  heard  held_us  stall_us (64 bits each)  records | tag (16 bytes)
//!   ------------ clear, authenticated ---------- | ------------------- AES-256-GCM ------------------- |
//! ```
//! All numbers are big endian. The counter starts at 1, is never used twice with a key and is the nonce; each direction
//! has its own key. A record is a lease message of 40 bytes ([`Message::to_bytes`]); one of a kind that this release does
//! not know, and a rest of less than 40 bytes, are authenticated and then passed over. So a heartbeat without records
//! looks as in protocol 1, whose ends take nothing longer than 256 bytes and are sent no records.

use crate::messages::Heartbeat;
use domain::Micros;
use lease::{MESSAGE_LEN, Malformed, Message};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, Tag, UnboundKey};
use std::fmt;

pub(crate) const FROM_DIALER: &str = "EXPERIMENTAL takeover heartbeat from dialer";
pub(crate) const FROM_ACCEPTOR: &str = "EXPERIMENTAL takeover heartbeat from acceptor";
pub(crate) const KEY_LEN: usize = 32;

const MAGIC: [u8; 4] = *b"TKH1";
const HEADER_LEN: usize = 4 + 8 + 8;
const HEARTBEAT_LEN: usize = 4 * 8;
const TAG_LEN: usize = 16;

/// Length of a sealed heartbeat without lease messages, bytes.
pub const SEALED_LEN: usize = HEADER_LEN + HEARTBEAT_LEN + TAG_LEN;
/// Largest datagram, bytes: below the 1,500 of an Ethernet by more than IPv6 and UDP (48) or a tunnel in between take, so
/// that none goes in fragments, of which each can get lost.
pub const MAX_SEALED_LEN: usize = 1_400;
/// Lease messages that fit in one datagram.
pub const MOST_MESSAGES: usize = (MAX_SEALED_LEN - SEALED_LEN) / MESSAGE_LEN;

/// Why a datagram was not a heartbeat of this session. None of them is the link's fault: count them and go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Not of this protocol, or too short or long for it.
    #[error("the datagram is not a sealed heartbeat")]
    Foreign,
    /// Of another connection.
    #[error("the datagram belongs to another session")]
    OtherSession,
    /// Seen before, or too old to tell.
    #[error("the datagram was seen before or is too old")]
    Replayed,
    /// Not sealed with this session's key.
    #[error("the datagram was not sealed with this session's key")]
    Forged,
}

/// Seals and opens the datagrams of one connection.
pub struct Seal {
    session: u64,
    sealing: LessSafeKey,
    opening: LessSafeKey,
    /// Counter of the last datagram sealed.
    sealed: u64,
    window: ReplayWindow,
}

impl Seal {
    pub(crate) fn new(session: u64, sealing: &[u8; KEY_LEN], opening: &[u8; KEY_LEN]) -> Self {
        let key = |bytes: &[u8; KEY_LEN]| {
            LessSafeKey::new(UnboundKey::new(&AES_256_GCM, bytes).expect("AES-256-GCM has keys of 32 bytes"))
        };
        Self {
            session,
            sealing: key(sealing),
            opening: key(opening),
            sealed: 0,
            window: ReplayWindow::default(),
        }
    }

    /// The session, as [`Seal::session_of`] reads it from the datagrams.
    #[must_use]
    pub fn session(&self) -> u64 {
        self.session
    }

    /// The session that a datagram claims to belong to, to find its `Seal`; none where it is no sealed heartbeat.
    #[must_use]
    pub fn session_of(datagram: &[u8]) -> Option<u64> {
        Header::read(datagram).map(|header| header.session)
    }

    /// Seals a heartbeat into a datagram.
    #[must_use]
    pub fn seal(&mut self, heartbeat: &Heartbeat) -> [u8; SEALED_LEN] {
        let mut datagram = [0; SEALED_LEN];
        self.seal_into(heartbeat, &[], &mut datagram);
        datagram
    }

    /// Seals a heartbeat and lease messages and hands the datagram to `send`; more than one, each with the heartbeat,
    /// where the messages do not fit into one.
    pub fn seal_with(&mut self, heartbeat: &Heartbeat, messages: &[Message], mut send: impl FnMut(&[u8])) {
        let mut buffer = [0; MAX_SEALED_LEN];
        let mut left = messages;
        loop {
            let (these, later) = left.split_at(left.len().min(MOST_MESSAGES));
            let datagram = &mut buffer[..SEALED_LEN + these.len() * MESSAGE_LEN];
            self.seal_into(heartbeat, these, datagram);
            send(datagram);
            if later.is_empty() {
                return;
            }
            left = later;
        }
    }

    /// Fills `datagram`, which is as long as it must be.
    fn seal_into(&mut self, heartbeat: &Heartbeat, messages: &[Message], datagram: &mut [u8]) {
        // At one datagram a nanosecond this lasts 584 years; a repeated nonce would give the key away.
        self.sealed = self.sealed.checked_add(1).expect("2^64 datagrams are not sent in one session");
        let header = Header { session: self.session, counter: self.sealed };
        let (clear, rest) = datagram.split_at_mut(HEADER_LEN);
        let (body, tag) = rest.split_at_mut(rest.len() - TAG_LEN);
        clear.copy_from_slice(&header.bytes());
        let (words, records) = body.split_at_mut(HEARTBEAT_LEN);
        let numbers = [heartbeat.at.0, heartbeat.heard.0, heartbeat.held_us, heartbeat.stall_us];
        for (place, number) in words.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_be_bytes());
        }
        for (place, message) in records.chunks_exact_mut(MESSAGE_LEN).zip(messages) {
            place.copy_from_slice(&message.to_bytes());
        }
        let sealed = self
            .sealing
            .seal_in_place_separate_tag(header.nonce(), Aad::from(header.bytes()), body)
            .expect("1,400 bytes are not too long for AES-GCM");
        tag.copy_from_slice(sealed.as_ref());
    }

    /// Opens a datagram where it is: whatever comes of it, its bytes are not to be used again.
    ///
    /// # Errors
    /// [`SealError`]; the seal is as before, so that nobody without the key can do harm.
    pub fn open<'d>(&mut self, datagram: &'d mut [u8]) -> Result<Opened<'d>, SealError> {
        let header = Header::read(datagram).ok_or(SealError::Foreign)?;
        if header.session != self.session {
            return Err(SealError::OtherSession);
        }
        if !self.window.is_new(header.counter) {
            return Err(SealError::Replayed);
        }
        let sealed = datagram.get_mut(HEADER_LEN..).ok_or(SealError::Foreign)?;
        let (body, tag) = sealed.split_last_chunk_mut::<TAG_LEN>().ok_or(SealError::Foreign)?;
        let plain = self
            .opening
            .open_in_place_separate_tag(header.nonce(), Aad::from(header.bytes()), Tag::from(*tag), body, 0..)
            .map_err(|_| SealError::Forged)?;
        let (words, records) = plain.split_first_chunk::<HEARTBEAT_LEN>().ok_or(SealError::Foreign)?;
        let [at, heard, held_us, stall_us] = [0, 1, 2, 3].map(|n| u64::from_be_bytes(words.as_chunks().0[n]));
        self.window.mark(header.counter);
        let heartbeat = Heartbeat { at: Micros(at), heard: Micros(heard), held_us, stall_us };
        Ok(Opened { heartbeat, records: records.as_chunks().0 })
    }
}

/// What was in a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened<'d> {
    /// The heartbeat.
    pub heartbeat: Heartbeat,
    records: &'d [[u8; MESSAGE_LEN]],
}

impl Opened<'_> {
    /// The lease messages. One that is none is no reason to distrust the others: the datagram is the peer's, which may be
    /// of a newer release.
    pub fn messages(&self) -> impl ExactSizeIterator<Item = Result<Message, Malformed>> {
        self.records.iter().map(Message::from_bytes)
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seal")
            .field("session", &self.session)
            .field("sealed", &self.sealed)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Copy)]
struct Header {
    session: u64,
    counter: u64,
}

impl Header {
    fn read(datagram: &[u8]) -> Option<Self> {
        if !(SEALED_LEN..=MAX_SEALED_LEN).contains(&datagram.len()) {
            return None;
        }
        let (magic, rest) = datagram.split_first_chunk::<4>()?;
        let (session, rest) = rest.split_first_chunk::<8>()?;
        let (counter, _) = rest.split_first_chunk::<8>()?;
        (*magic == MAGIC)
            .then_some(Self { session: u64::from_be_bytes(*session), counter: u64::from_be_bytes(*counter) })
    }

    fn bytes(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..12].copy_from_slice(&self.session.to_be_bytes());
        bytes[12..].copy_from_slice(&self.counter.to_be_bytes());
        bytes
    }

    fn nonce(self) -> Nonce {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.counter.to_be_bytes());
        Nonce::assume_unique_for_key(nonce)
    }
}

/// Which of the last 64 counters were seen (RFC 4303, section 3.4.3): datagrams may overtake each other, none counts
/// twice.
#[derive(Debug, Default)]
struct ReplayWindow {
    greatest: u64,
    /// Bit n: `greatest - n` was seen.
    seen: u64,
}

impl ReplayWindow {
    fn is_new(&self, counter: u64) -> bool {
        match self.greatest.checked_sub(counter) {
            None => true,
            Some(age) => counter != 0 && age < 64 && self.seen & (1 << age) == 0,
        }
    }

    fn mark(&mut self, counter: u64) {
        match self.greatest.checked_sub(counter) {
            None => {
                let step = u32::try_from(counter - self.greatest).unwrap_or(u32::MAX);
                self.seen = self.seen.checked_shl(step).unwrap_or(0) | 1;
                self.greatest = counter;
            }
            Some(age) => self.seen |= 1 << age,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::Epoch;
    use lease::{Body, PairId};

    fn ends() -> (Seal, Seal) {
        let (a, b) = ([1; KEY_LEN], [2; KEY_LEN]);
        (Seal::new(7, &a, &b), Seal::new(7, &b, &a))
    }

    fn heartbeat(at: u64) -> Heartbeat {
        Heartbeat { at: Micros(at), heard: Micros(u64::MAX), held_us: 3, stall_us: 4 }
    }

    fn promise(pair: u64) -> Message {
        Message { pair: PairId(pair), body: Body::Promise { epoch: Epoch(2), at: Micros(9) } }
    }

    fn promises(count: usize) -> Vec<Message> {
        (0..count as u64).map(promise).collect()
    }

    fn heard(seal: &mut Seal, mut datagram: impl AsMut<[u8]>) -> Result<Heartbeat, SealError> {
        seal.open(datagram.as_mut()).map(|opened| opened.heartbeat)
    }

    #[test]
    fn heartbeats_pass_in_both_directions_once() {
        let (mut agent, mut scs) = ends();
        let there = agent.seal(&heartbeat(1));
        assert_eq!(Seal::session_of(&there), Some(7));
        assert_eq!(heard(&mut scs, there), Ok(heartbeat(1)));
        assert_eq!(heard(&mut scs, there), Err(SealError::Replayed));
        assert_eq!(heard(&mut agent, scs.seal(&heartbeat(2))), Ok(heartbeat(2)));
        let reflected = scs.seal(&heartbeat(3));
        assert_eq!(
            heard(&mut scs, reflected),
            Err(SealError::Forged),
            "a datagram sent back to its sender must not count"
        );
    }

    #[test]
    fn lease_messages_travel_with_the_heartbeat_in_as_few_datagrams_as_hold_them() {
        let (mut agent, mut scs) = ends();
        for (count, datagrams) in
            [(0, 1), (1, 1), (MOST_MESSAGES, 1), (MOST_MESSAGES + 1, 2), (3 * MOST_MESSAGES, 3)]
        {
            let (mut sent, mut arrived) = (0, Vec::new());
            agent.seal_with(&heartbeat(1), &promises(count), |datagram| {
                sent += 1;
                let mut datagram = datagram.to_vec();
                assert!(datagram.len() <= MAX_SEALED_LEN);
                let opened = scs.open(&mut datagram).unwrap();
                assert_eq!(opened.heartbeat, heartbeat(1));
                arrived.extend(opened.messages().map(Result::unwrap));
            });
            assert_eq!((sent, arrived), (datagrams, promises(count)));
        }
    }

    #[test]
    fn a_heartbeat_alone_looks_as_in_protocol_1() {
        let (mut agent, mut other) = (ends().0, ends().0);
        let mut with = Vec::new();
        agent.seal_with(&heartbeat(1), &[], |datagram| with = datagram.to_vec());
        assert_eq!(with, other.seal(&heartbeat(1)));
        assert_eq!(with.len(), 68);
    }

    #[test]
    fn every_changed_bit_is_noticed_and_harms_nothing() {
        let (mut agent, mut scs) = ends();
        let mut datagram = Vec::new();
        agent.seal_with(&heartbeat(1), &promises(2), |sealed| datagram = sealed.to_vec());
        for bit in 0..datagram.len() * 8 {
            let mut changed = datagram.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(scs.open(&mut changed).is_err(), "bit {bit} was changed unnoticed");
        }
        for length in 0..datagram.len() {
            let expected = if length < SEALED_LEN { SealError::Foreign } else { SealError::Forged };
            assert_eq!(heard(&mut scs, datagram[..length].to_vec()), Err(expected), "{length} bytes");
        }
        assert_eq!(heard(&mut scs, [0; MAX_SEALED_LEN + 1]), Err(SealError::Foreign));
        assert_eq!(heard(&mut scs, datagram), Ok(heartbeat(1)));
    }

    #[test]
    fn another_session_is_told_apart() {
        let (mut agent, _) = ends();
        let mut other = Seal::new(8, &[2; KEY_LEN], &[1; KEY_LEN]);
        assert_eq!(heard(&mut other, agent.seal(&heartbeat(1))), Err(SealError::OtherSession));
    }

    /// A datagram with this behind the heartbeat.
    fn with_rest(agent: &Seal, rest: &[u8]) -> Vec<u8> {
        let header = Header { session: 7, counter: 1 };
        let mut body: Vec<u8> = [1u64, 2, 3, 4].iter().flat_map(|n| n.to_be_bytes()).collect();
        body.extend(rest);
        agent.sealing.seal_in_place_append_tag(header.nonce(), Aad::from(header.bytes()), &mut body).unwrap();
        [header.bytes().as_slice(), &body].concat()
    }

    #[test]
    fn what_a_newer_release_adds_is_passed_over() {
        let expected = Heartbeat { at: Micros(1), heard: Micros(2), held_us: 3, stall_us: 4 };
        for length in 1..MESSAGE_LEN {
            let (agent, mut scs) = ends();
            let mut datagram = with_rest(&agent, &vec![0xff; length]);
            let opened = scs.open(&mut datagram).unwrap();
            assert_eq!((opened.heartbeat, opened.messages().len()), (expected, 0));
        }
        let (agent, mut scs) = ends();
        let records = [[0xff; MESSAGE_LEN], promise(5).to_bytes(), [0; MESSAGE_LEN]].concat();
        let mut datagram = with_rest(&agent, &records);
        let opened = scs.open(&mut datagram).unwrap();
        assert_eq!(opened.heartbeat, expected);
        assert!(opened.messages().eq([Err(Malformed), Ok(promise(5)), Err(Malformed)]));
    }

    #[test]
    fn the_window_takes_each_of_the_last_64_once() {
        let mut window = ReplayWindow::default();
        assert!(!window.is_new(0), "the counter starts at 1");
        for counter in [1, 3, 2, 70, 7, 69, u64::MAX] {
            assert!(window.is_new(counter), "{counter} is new");
            window.mark(counter);
            assert!(!window.is_new(counter), "{counter} was seen");
        }
        assert!(!window.is_new(u64::MAX - 64), "too old to tell");
        assert!(window.is_new(u64::MAX - 63));
    }
}
