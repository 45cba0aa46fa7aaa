//! How the members of a pair keep one value in two places: the protocol of the stream between their SIP Servers, as a
//! machine that takes bytes and time and gives bytes.
//!
//! Pure: it reads no clock, opens no socket and draws no random number. Whoever has the connection (mutual TLS, bytes in
//! order) passes on what arrives ([`Replicator::received`]) and sends what is to be sent ([`Replicator::outgoing`]). What
//! is replicated is a [`Replica`]; nothing here knows that it is calls and registrations.
//!
//! ```text
//!      primary                                            backup
//!         | <------------- Hello, both ways ------------> |    who, which formats, which role and epoch
//!         | Begin ---------------------------------------> |   everything that it has is stale now
//!         | Changes (parts of the whole, and new ones) --> |   a few at a time; calls go on meanwhile
//!         | <----------------------------------------- Ack |
//!         | Done ----------------------------------------> |   what is stale still is dropped: both are equal
//!         | Changes -------------------------------------> |   from now on in step: lag is what is not acknowledged
//!         | Clock, each 100 ms --------------------------> |
//! ```
//!
//! The connection outlives roles: who is primary streams, and after a switchover the other one does, beginning with a new
//! `Begin`. A value is only ever replaced by one of the same or a greater epoch, and a primary applies nothing. Nobody
//! waits for the stream: what does not fit into its bounded queue ends the connection, and the next one begins afresh.

mod frame;
mod lag;
mod outbox;
mod replica;
mod replicator;
mod settings;

pub use frame::{HELLO_MAGIC, MAX_FRAME, PROTOCOL};
pub use lag::Lag;
pub use replica::{Replica, Unknown};
pub use replicator::Replicator;
pub use settings::{Broken, Counters, Limits, Phase, Readiness, Role, Settings, Standing, Timing};
