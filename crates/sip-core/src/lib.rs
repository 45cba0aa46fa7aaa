//! The SIP Server as a value: registrations, calls, users, trunks and routes, joined. Messages and the time go in; messages,
//! changes for the backup, questions, notices and call records come out. It reads no clock and opens no socket.
//!
//! ```text
//!                      ┌───────────── SipCore ─────────────┐
//!  message, flow ────> │ sources   too many, scanners?     │
//!                      │ identity  whose is it? (digest)   │ ──> messages, each with its flow
//!                      │ REGISTER ─> registrar (sip-proto) │ ──> changes, for the backup, before them
//!                      │ calls ────> b2bua (sip-proto)     │ ──> questions: where is this trunk?
//!                      │ routing   contacts, trunks        │ ──> notices, records
//!                      │ trunks    probed, in service?     │
//!                      └───────────────────────────────────┘
//! ```
//!
//! A backup holds one, too, and takes the changes (`replica`); when its turn comes, [`SipCore::take_over`] is all there is
//! to do. Times inside are on the clock of the calls ([`sip_proto::b2bua::Calls::clock`]).

mod calls;
mod configure;
mod core;
mod figures;
mod identity;
mod outputs;
mod records;
mod replica;
mod requests;
mod routing;
mod setup;
mod sources;
mod trace;
mod trunks;

pub use core::{Input, SipCore};
pub use figures::Figures;
pub use outputs::{Notice, Outputs, Place, Question};
pub use records::Record;
pub use replica::{Change, Cursor, FORMAT};
pub use setup::Setup;
