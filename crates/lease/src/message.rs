//! What the voters say to each other, and how it looks in a datagram. Every message may be lost, late, doubled or out of
//! order; none needs an answer to be safe.

use domain::{Epoch, Member, Micros, PairName};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A voter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seat {
    /// The agent of one of the members.
    Member(Member),
    /// The SCS.
    Scs,
}

impl Seat {
    /// All of them.
    pub const ALL: [Seat; 3] = [Seat::Member(Member::First), Seat::Member(Member::Second), Seat::Scs];

    /// Its place in an array of three.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Seat::Member(Member::First) => 0,
            Seat::Member(Member::Second) => 1,
            Seat::Scs => 2,
        }
    }
}

impl fmt::Display for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Seat::Member(Member::First) => "first",
            Seat::Member(Member::Second) => "second",
            Seat::Scs => "scs",
        })
    }
}

/// Names a pair in a datagram: the FNV-1a hash of its name, 64 bits. `config` refuses a cluster in which two pairs
/// have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PairId(pub u64);

impl PairId {
    /// The id of the pair of this name.
    #[must_use]
    pub fn of(name: &PairName) -> Self {
        let hash = name.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        PairId(hash)
    }
}

/// A message about one pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Message {
    /// The pair.
    pub pair: PairId,
    /// What is said.
    pub body: Body,
}

/// What is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Body {
    /// A member asks for a promise.
    Ask {
        /// The epoch under which it would hold; its own ([`Epoch::next_of`]).
        epoch: Epoch,
        /// Its clock when it sent this: the anchor (R1).
        at: Micros,
        /// How long the lease would last from there (`l_h` at the asker), microseconds: a voter whose promise would not
        /// outlast it gives none.
        hold_us: u32,
        /// To hold now, or in case.
        kind: Kind,
    },
    /// A promise, in answer to [`Body::Ask`]: until `l_v` after it was given, nobody else gets one.
    Promise {
        /// The epoch asked for.
        epoch: Epoch,
        /// The anchor of the ask.
        at: Micros,
    },
    /// No promise, in answer to an ask to hold.
    Reject {
        /// The greatest epoch that the voter promised; above the last that it knows the asker to have let go.
        seen: Epoch,
        /// The newest grant of the primary role that the voter knows of.
        granted: Epoch,
        /// Why.
        why: Refusal,
    },
    /// A holder let go: its gate is closed and fenced.
    Release {
        /// The epoch up to which it lets go.
        epoch: Epoch,
        /// Why.
        why: Why,
    },
}

/// What an ask is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// To hold.
    Hold {
        /// The grant of the primary role that the asker goes by: the epoch of the SCS's instruction, or of its own decision
        /// where it takes over without the SCS.
        granted: Epoch,
    },
    /// A ready backup's standing request: to hold at once when the role becomes free.
    Standby,
}

/// Why there is no promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Refusal {
    /// The other member has the voter's promise.
    Promised,
    /// The epoch is below the greatest seen.
    Epoch,
    /// The voter lost its memory a moment ago (R4).
    Quarantine,
    /// The role was granted to the other member since.
    Outdated,
    /// The asker's lease would outlast the voter's promise: the two have different settings.
    Timing,
}

/// Why a holder let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Why {
    /// Its server failed, or its interface lost the carrier: a known failure.
    Failed,
    /// It was ordered to.
    Ordered,
    /// It learned that the other member has a newer grant.
    Outdated,
}

/// Length of a message in a datagram, bytes.
pub const MESSAGE_LEN: usize = 40;

/// Bytes that are no message of this protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a lease message")
    }
}

impl std::error::Error for Malformed {}

/// Greatest epoch that is believed; as in the control messages, a JSON number holds it everywhere.
const MAX_EPOCH: u64 = 1 << 53;

impl Message {
    /// As it looks in a datagram, five words of 64 bits, big endian: pair; epoch; time; granted; and the kind of message in
    /// the upper half of the last, with reason or duration in the lower.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; MESSAGE_LEN] {
        let (tag, reason, epoch, at, granted) = match self.body {
            Body::Ask { epoch, at, hold_us, kind: Kind::Hold { granted } } => {
                (1, u64::from(hold_us), epoch, at, granted)
            }
            Body::Ask { epoch, at, hold_us, kind: Kind::Standby } => {
                (2, u64::from(hold_us), epoch, at, Epoch(0))
            }
            Body::Promise { epoch, at } => (3, 0, epoch, at, Epoch(0)),
            Body::Reject { seen, granted, why } => (4, why.code(), seen, Micros(0), granted),
            Body::Release { epoch, why } => (5, why.code(), epoch, Micros(0), Epoch(0)),
        };
        let mut bytes = [0; MESSAGE_LEN];
        let words = [self.pair.0, epoch.0, at.0, granted.0, tag << 32 | reason];
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }

    /// Reads it from a datagram.
    ///
    /// # Errors
    /// It is none, or an epoch is beyond what is possible.
    pub fn from_bytes(bytes: &[u8; MESSAGE_LEN]) -> Result<Self, Malformed> {
        let mut words = [0; MESSAGE_LEN / 8];
        for (word, eight) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_be_bytes(*eight);
        }
        let [pair, epoch, at, granted, code] = words;
        if epoch > MAX_EPOCH || granted > MAX_EPOCH {
            return Err(Malformed);
        }
        let (epoch, at, granted) = (Epoch(epoch), Micros(at), Epoch(granted));
        let low = u32::try_from(code & u64::from(u32::MAX)).map_err(|_| Malformed)?;
        let body = match (code >> 32, low) {
            (1, hold_us) => Body::Ask { epoch, at, hold_us, kind: Kind::Hold { granted } },
            (2, hold_us) => Body::Ask { epoch, at, hold_us, kind: Kind::Standby },
            (3, 0) => Body::Promise { epoch, at },
            (4, why) => Body::Reject { seen: epoch, granted, why: Refusal::from_code(why)? },
            (5, why) => Body::Release { epoch, why: Why::from_code(why)? },
            _ => return Err(Malformed),
        };
        Ok(Self { pair: PairId(pair), body })
    }
}

impl Refusal {
    const fn code(self) -> u64 {
        match self {
            Refusal::Promised => 1,
            Refusal::Epoch => 2,
            Refusal::Quarantine => 3,
            Refusal::Outdated => 4,
            Refusal::Timing => 5,
        }
    }

    const fn from_code(code: u32) -> Result<Self, Malformed> {
        match code {
            1 => Ok(Refusal::Promised),
            2 => Ok(Refusal::Epoch),
            3 => Ok(Refusal::Quarantine),
            4 => Ok(Refusal::Outdated),
            5 => Ok(Refusal::Timing),
            _ => Err(Malformed),
        }
    }
}

impl Why {
    pub(crate) const fn code(self) -> u64 {
        match self {
            Why::Failed => 1,
            Why::Ordered => 2,
            Why::Outdated => 3,
        }
    }

    pub(crate) const fn from_code(code: u32) -> Result<Self, Malformed> {
        match code {
            1 => Ok(Why::Failed),
            2 => Ok(Why::Ordered),
            3 => Ok(Why::Outdated),
            _ => Err(Malformed),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Why::Failed => "failed",
            Why::Ordered => "ordered to",
            Why::Outdated => "the other member has a newer grant",
        })
    }
}
