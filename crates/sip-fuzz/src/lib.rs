//! What must hold of the SIP Server whatever bytes come: functions that panic where it does not. `fuzz/` (cargo-fuzz) calls
//! them with bytes that it looks for; this crate's tests with the files that it has found and kept, and mutations of these.
//!
//! | function | the bytes are |
//! |---|---|
//! | [`message`] | a message, or what a connection carries |
//! | [`calls`] | what phones do, one after the other, while the role moves to and fro |
//! | [`stream`] | what the primary tells its backup |

mod calls;
mod message;
mod mutation;
mod office;
mod phones;
mod script;
mod stream;

pub use calls::{calls, changes_of};
pub use message::message;
pub use mutation::{Random, mutate};
pub use stream::{stream, told_of};
