//! What a machine must know again after its agent's crash (R4), as a value and as bytes in shared memory.

use crate::machine::Held;
use crate::voter::Given;
use domain::{Epoch, Member, Micros};
use std::time::Duration;

/// The state of a machine that outlives its process, but not its boot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Memory {
    pub(crate) quarantine: Option<Micros>,
    pub(crate) given: Option<Given>,
    pub(crate) seen: Epoch,
    pub(crate) granted: Epoch,
    pub(crate) epoch: Epoch,
    pub(crate) hold: Duration,
    pub(crate) anchors: [Option<Micros>; 3],
    pub(crate) held: Option<Held>,
}

const WORDS: usize = 14;

/// Length of a memory in bytes.
pub const MEMORY_LEN: usize = (WORDS + 1) * 8;

/// Stands for "none" where a time would be; no clock gets there.
const NONE: u64 = u64::MAX;

impl Memory {
    /// The lease that was held: its epoch, and until when.
    #[must_use]
    pub fn held(&self) -> Option<(Epoch, Micros)> {
        self.held.map(|held| (held.epoch, held.until))
    }

    /// Until when it binds whoever has it: a promise, or a quarantine.
    #[must_use]
    pub fn binds_until(&self) -> Option<Micros> {
        self.quarantine.max(self.given.map(|given| given.until))
    }

    /// As bytes, with a checksum behind: half a memory is none.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; MEMORY_LEN] {
        let time = |at: Option<Micros>| at.map_or(NONE, |at| at.0);
        let member = |member| match member {
            Member::First => 1,
            Member::Second => 2,
        };
        let given = self.given;
        let words: [u64; WORDS] = [
            time(self.quarantine),
            given.map_or(0, |given| member(given.to)),
            given.map_or(0, |given| given.epoch.0),
            time(given.map(|given| given.until)),
            self.seen.0,
            self.granted.0,
            self.epoch.0,
            u64::try_from(self.hold.as_micros()).unwrap_or(u64::MAX),
            time(self.anchors[0]),
            time(self.anchors[1]),
            time(self.anchors[2]),
            self.held.map_or(0, |held| held.epoch.0),
            time(self.held.map(|held| held.until)),
            VERSION,
        ];
        let mut bytes = [0; MEMORY_LEN];
        let sum = checksum(&words);
        for (place, word) in bytes.chunks_exact_mut(8).zip(words.into_iter().chain([sum])) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Reads it from bytes. None: there is no whole memory of this version.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; MEMORY_LEN]) -> Option<Self> {
        let mut words = [0; WORDS + 1];
        for (word, eight) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_le_bytes(*eight);
        }
        let (sum, words) = words.split_last()?;
        let &[
            quarantine,
            to,
            given,
            given_until,
            seen,
            granted,
            epoch,
            hold,
            first,
            second,
            scs,
            held,
            held_until,
            version,
        ] = words
        else {
            return None;
        };
        if checksum(words) != *sum || version != VERSION {
            return None;
        }
        let time = |word: u64| (word != NONE).then_some(Micros(word));
        let to = match to {
            1 => Some(Member::First),
            2 => Some(Member::Second),
            _ => None,
        };
        Some(Self {
            quarantine: time(quarantine),
            given: to.zip(time(given_until)).map(|(to, until)| Given { to, epoch: Epoch(given), until }),
            seen: Epoch(seen),
            granted: Epoch(granted),
            epoch: Epoch(epoch),
            hold: Duration::from_micros(hold),
            anchors: [time(first), time(second), time(scs)],
            held: time(held_until).map(|until| Held { epoch: Epoch(held), until }),
        })
    }
}

const VERSION: u64 = 0x7465_6c65_6173_6531;

fn checksum(words: &[u64]) -> u64 {
    words.iter().fold(0xcbf2_9ce4_8422_2325, |sum: u64, word| {
        (sum ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(29)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_as_it_was_or_not_at_all() {
        let memory = Memory {
            quarantine: None,
            given: Some(Given { to: Member::Second, epoch: Epoch(7), until: Micros(99) }),
            seen: Epoch(7),
            granted: Epoch(5),
            epoch: Epoch(8),
            hold: Duration::from_millis(450),
            anchors: [Some(Micros(1)), None, Some(Micros(3))],
            held: Some(Held { epoch: Epoch(8), until: Micros(451) }),
        };
        assert_eq!(memory.binds_until(), Some(Micros(99)));
        assert_eq!(Memory { quarantine: Some(Micros(100)), ..memory }.binds_until(), Some(Micros(100)));
        let bytes = memory.to_bytes();
        assert_eq!(Memory::from_bytes(&bytes), Some(memory));
        assert_eq!(Memory::from_bytes(&Memory::default().to_bytes()), Some(Memory::default()));
        assert_eq!(Memory::from_bytes(&[0; MEMORY_LEN]), None, "what was never written is no memory");
        for place in 0..MEMORY_LEN {
            let mut torn = bytes;
            torn[place] ^= 0x10;
            assert_eq!(Memory::from_bytes(&torn), None, "byte {place}");
        }
    }
}
