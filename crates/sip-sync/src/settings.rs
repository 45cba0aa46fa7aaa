//! How one end of the stream is set up, how it stands, and what can be wrong.

use crate::frame::MAX_FRAME;
use crate::lag::Lag;
use domain::Epoch;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// What a member has to do with the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// It changes it and streams.
    Primary,
    /// It takes what is streamed.
    Backup,
}

/// How a member stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Its role.
    pub role: Role,
    /// Epoch of the primary that changed its value last. 0: nobody has.
    pub value: Epoch,
    /// Whether its value is whole: not in the middle of a resynchronisation.
    pub whole: bool,
}

/// Times of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Both ends say something at least this often.
    pub heartbeat: Duration,
    /// Who says nothing for this long, or acknowledges nothing, is given up.
    pub silence: Duration,
    /// A backup acknowledges what it took within this.
    pub ack: Duration,
    /// Parts of a resynchronisation are sent this often.
    pub part: Duration,
    /// Most lag of a backup that is ready.
    pub allowed_lag: Duration,
    /// After too much lag: how long it has to be at most half of that.
    pub recovery: Duration,
    /// How long a backup that was ready counts as ready after the stream has broken: if that is because the primary
    /// died, there is nothing that it could be waiting for.
    pub parting: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(100),
            silence: Duration::from_secs(2),
            ack: Duration::from_millis(2),
            part: Duration::from_millis(5),
            allowed_lag: Duration::from_millis(500),
            recovery: Duration::from_secs(1),
            parting: Duration::from_secs(5),
        }
    }
}

/// Bounds of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes that wait for the connection.
    pub queue: usize,
    /// Items in one part of a resynchronisation.
    pub part: usize,
    /// Changes that may be unacknowledged for another part to be sent.
    pub window: u64,
    /// Bytes that may wait for another part to be sent.
    pub part_queue: usize,
}

impl Default for Limits {
    /// A resynchronisation of at most 6,400 items a second, in pieces of some tenths of a millisecond.
    fn default() -> Self {
        Self { queue: 8 << 20, part: 32, window: 1_024, part_queue: 256 << 10 }
    }
}

/// How one end is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Name of the pair: the same at both ends.
    pub pair: Box<str>,
    /// Name of this member: another one at each end.
    pub application: Box<str>,
    /// Release of this program, for people.
    pub release: Box<str>,
    /// Version of the form of the changes. Ends with different ones do not understand each other.
    pub format: u32,
    /// A digest of those settings without which changes cannot be understood. Ends with different ones exchange none.
    pub shape: u64,
    /// A digest of all settings. A backup with other ones is not ready, but kept in step.
    pub digest: u64,
    /// Times.
    pub timing: Timing,
    /// Bounds.
    pub limits: Limits,
}

/// Why a connection is of no use any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Another release, which writes other frames or other changes.
    #[error(
        "the peer's release {release} speaks version {protocol}.{format} of the replication, this one {}.{}; \
         upgrade the older one",
        ours.0, ours.1
    )]
    OtherVersion {
        /// The peer's release.
        release: Box<str>,
        /// Its [`PROTOCOL`](crate::PROTOCOL).
        protocol: u32,
        /// Its [`Settings::format`].
        format: u32,
        /// Our protocol and format.
        ours: (u32, u32),
    },
    /// Not the other member of the pair.
    #[error("the peer is {application} of {pair}, which is not the other member of this pair")]
    OtherPair {
        /// The peer's pair.
        pair: Box<str>,
        /// The peer's name.
        application: Box<str>,
    },
    /// Bytes that are not the stream's.
    #[error("the peer sent {0}, which is malformed or out of place")]
    Malformed(&'static str),
    /// A frame over [`MAX_FRAME`].
    #[error("a frame of {bytes} bytes is too large, {MAX_FRAME} are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// A change cannot be written. An error of the program.
    #[error("a change cannot be written: {0}")]
    Unwritable(postcard::Error),
    /// The peer does not take what is sent.
    #[error("the peer is too slow: {bytes} bytes wait for it")]
    Overflow {
        /// Bytes that wait.
        bytes: usize,
    },
    /// The peer says nothing.
    #[error("the peer is silent")]
    Silent,
    /// The peer speaks, but acknowledges nothing.
    #[error("the peer has acknowledged nothing of what it was sent {0:?} ago")]
    Behind(Duration),
    /// The peer ended the connection and said why.
    #[error("the peer ended the replication: {0}")]
    Goodbye(Box<str>),
}

/// What one end has done since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Resynchronisations that it began as primary.
    pub streams_sent: u64,
    /// Resynchronisations that it took as backup.
    pub streams_taken: u64,
    /// Changes sent, items of resynchronisations included.
    pub changes_sent: u64,
    /// Changes taken, items of resynchronisations included.
    pub changes_taken: u64,
}

/// How the replication stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// Whether the backup (this one, or the peer of a primary) has all it needs to take over at once.
    pub ready: bool,
    /// How far it is behind. None: the two are not in contact.
    pub lag: Option<Lag>,
    /// What is going on.
    pub phase: Phase,
    /// Whether the two were told different settings.
    pub other_settings: bool,
}

/// What is going on between the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// There is no connection.
    Disconnected,
    /// There is one, and the peer has not said who it is.
    Greeting,
    /// The two were told settings that do not go together.
    OtherShape,
    /// Both are primary. The one with the older epoch will learn that it is not.
    BothPrimary,
    /// Neither is primary: there is nothing to stream.
    NoPrimary,
    /// The backup's value is of a newer epoch than the primary: the primary will learn that it is not.
    Newer,
    /// The whole value is being sent.
    Resync {
        /// Changes so far, those meanwhile included.
        changes: u64,
    },
    /// In step.
    Live,
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.phase {
            Phase::Disconnected => f.write_str("not connected to the other member"),
            Phase::Greeting => f.write_str("greeting the other member"),
            Phase::OtherShape => f.write_str("the other member was told other listening addresses"),
            Phase::BothPrimary => f.write_str("the other member is primary, too"),
            Phase::NoPrimary => f.write_str("neither member is primary"),
            Phase::Newer => f.write_str("the backup has served under a newer epoch than the primary"),
            Phase::Resync { changes } => write!(f, "resynchronising, {changes} items so far"),
            Phase::Live => {
                let Lag { time, changes } = self.lag.unwrap_or_default();
                write!(f, "in step, {} ms and {changes} changes behind", time.as_millis())
            }
        }?;
        if self.other_settings { f.write_str(", with other settings") } else { Ok(()) }
    }
}
