//! Heartbeats in UDP datagrams, sealed with keys that come out of the link's TLS session (RFC 8446, section 7.5): no
//! second handshake, and a lost TCP segment delays none. Nothing here allocates.
//!
//! ```text
//!   "TKH1"  session (64 bits)  counter (64 bits) | at  heard  held_us  stall_us (64 bits each) | tag (16 bytes)
//!   ------------ clear, authenticated ---------- | -------------- AES-256-GCM ---------------- |
//! ```
//! All numbers are big endian. The counter starts at 1, is never used twice with a key and is the nonce; each direction
//! has its own key. Bytes behind `stall_us`, from a newer release, are authenticated and then ignored.

use crate::messages::Heartbeat;
use domain::Micros;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, Tag, UnboundKey};
use std::fmt;

pub(crate) const FROM_DIALER: &str = "EXPERIMENTAL takeover heartbeat from dialer";
pub(crate) const FROM_ACCEPTOR: &str = "EXPERIMENTAL takeover heartbeat from acceptor";
pub(crate) const KEY_LEN: usize = 32;

const MAGIC: [u8; 4] = *b"TKH1";
const HEADER_LEN: usize = 4 + 8 + 8;
const BODY_LEN: usize = 4 * 8;
const TAG_LEN: usize = 16;
/// Largest datagram that is looked at, bytes.
const MAX_LEN: usize = 256;

/// Length of a sealed heartbeat, bytes.
pub const SEALED_LEN: usize = HEADER_LEN + BODY_LEN + TAG_LEN;

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

/// Seals and opens the heartbeats of one connection.
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
        // At one heartbeat a nanosecond this lasts 584 years; a repeated nonce would give the key away.
        self.sealed = self.sealed.checked_add(1).expect("2^64 heartbeats are not sent in one session");
        let header = Header { session: self.session, counter: self.sealed };
        let mut datagram = [0; SEALED_LEN];
        datagram[..HEADER_LEN].copy_from_slice(&header.bytes());
        let (body, tag) = datagram[HEADER_LEN..].split_at_mut(BODY_LEN);
        let words = [heartbeat.at.0, heartbeat.heard.0, heartbeat.held_us, heartbeat.stall_us];
        for (place, word) in body.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        let sealed = self
            .sealing
            .seal_in_place_separate_tag(header.nonce(), Aad::from(header.bytes()), body)
            .expect("32 bytes are not too long for AES-GCM");
        tag.copy_from_slice(sealed.as_ref());
        datagram
    }

    /// Opens a datagram.
    ///
    /// # Errors
    /// [`SealError`]; the state is as before, so that nobody without the key can do harm.
    pub fn open(&mut self, datagram: &[u8]) -> Result<Heartbeat, SealError> {
        let header = Header::read(datagram).ok_or(SealError::Foreign)?;
        if header.session != self.session {
            return Err(SealError::OtherSession);
        }
        if !self.window.is_new(header.counter) {
            return Err(SealError::Replayed);
        }
        let sealed = &datagram[HEADER_LEN..];
        let mut body = [0; MAX_LEN];
        let (sealed, tag) = sealed.split_last_chunk::<TAG_LEN>().ok_or(SealError::Foreign)?;
        let body = &mut body[..sealed.len()];
        body.copy_from_slice(sealed);
        let plain = self
            .opening
            .open_in_place_separate_tag(header.nonce(), Aad::from(header.bytes()), Tag::from(*tag), body, 0..)
            .map_err(|_| SealError::Forged)?;
        let mut words =
            plain.chunks_exact(8).map(|word| word.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)));
        let mut word = || words.next().ok_or(SealError::Foreign);
        let heartbeat =
            Heartbeat { at: Micros(word()?), heard: Micros(word()?), held_us: word()?, stall_us: word()? };
        self.window.mark(header.counter);
        Ok(heartbeat)
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
        if !(SEALED_LEN..=MAX_LEN).contains(&datagram.len()) {
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

    fn ends() -> (Seal, Seal) {
        let (a, b) = ([1; KEY_LEN], [2; KEY_LEN]);
        (Seal::new(7, &a, &b), Seal::new(7, &b, &a))
    }

    fn heartbeat(at: u64) -> Heartbeat {
        Heartbeat { at: Micros(at), heard: Micros(u64::MAX), held_us: 3, stall_us: 4 }
    }

    #[test]
    fn heartbeats_pass_in_both_directions_once() {
        let (mut agent, mut scs) = ends();
        let there = agent.seal(&heartbeat(1));
        assert_eq!(Seal::session_of(&there), Some(7));
        assert_eq!(scs.open(&there), Ok(heartbeat(1)));
        assert_eq!(scs.open(&there), Err(SealError::Replayed));
        let back = scs.seal(&heartbeat(2));
        assert_eq!(agent.open(&back), Ok(heartbeat(2)));
        let reflected = scs.seal(&heartbeat(3));
        assert_eq!(
            scs.open(&reflected),
            Err(SealError::Forged),
            "a datagram sent back to its sender must not count"
        );
    }

    #[test]
    fn every_changed_bit_is_noticed_and_harms_nothing() {
        let (mut agent, mut scs) = ends();
        let datagram = agent.seal(&heartbeat(1));
        for bit in 0..SEALED_LEN * 8 {
            let mut changed = datagram;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(scs.open(&changed).is_err(), "bit {bit} was changed unnoticed");
        }
        for length in 0..SEALED_LEN {
            assert_eq!(scs.open(&datagram[..length]), Err(SealError::Foreign));
        }
        assert_eq!(scs.open(&[0; MAX_LEN + 1]), Err(SealError::Foreign));
        assert_eq!(scs.open(&datagram), Ok(heartbeat(1)));
    }

    #[test]
    fn another_session_is_told_apart() {
        let (mut agent, _) = ends();
        let mut other = Seal::new(8, &[2; KEY_LEN], &[1; KEY_LEN]);
        assert_eq!(other.open(&agent.seal(&heartbeat(1))), Err(SealError::OtherSession));
    }

    #[test]
    fn a_longer_body_of_a_newer_release_is_understood() {
        let (agent, mut scs) = ends();
        let header = Header { session: 7, counter: 1 };
        let mut body: Vec<u8> = [1u64, 2, 3, 4, 5].iter().flat_map(|n| n.to_be_bytes()).collect();
        agent.sealing.seal_in_place_append_tag(header.nonce(), Aad::from(header.bytes()), &mut body).unwrap();
        let datagram = [header.bytes().as_slice(), &body].concat();
        let expected = Heartbeat { at: Micros(1), heard: Micros(2), held_us: 3, stall_us: 4 };
        assert_eq!(scs.open(&datagram), Ok(expected));
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
