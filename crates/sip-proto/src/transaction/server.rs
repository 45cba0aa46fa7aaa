//! The server transaction of any request but INVITE and ACK (RFC 3261, section 17.2.2).

use super::{Fired, Heard, Timing};
use crate::Wire;
use domain::Micros;
use serde::{Deserialize, Serialize};

/// The transaction of a request that was received.
///
/// ```text
///        | request received
///        v
///      Trying     request: absorbed
///   1xx  |  | 200-699 sent
///   sent v  '------------------.
///    Proceeding                v
///    request: 1xx again ---> Completed   request: response again
///               200-699 sent   | J
///                              v
///                          Terminated
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    state: State,
}

impl Default for Server {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    Trying,
    Proceeding { last: Wire },
    Completed { response: Wire, ends_at: Micros },
    Terminated,
}

impl Server {
    /// The transaction of a request that came now.
    #[must_use]
    pub fn new() -> Self {
        Self { state: State::Trying }
    }

    /// The user sends this response. Behind a final one nothing more is sent: whether it may be.
    #[must_use = "a response that comes too late must not be sent"]
    pub fn respond(&mut self, status: u16, response: &Wire, timing: &Timing, now: Micros) -> bool {
        match self.state {
            State::Trying | State::Proceeding { .. } => {}
            State::Completed { .. } | State::Terminated => return false,
        }
        self.state = if status < 200 {
            State::Proceeding { last: response.clone() }
        } else {
            State::Completed { response: response.clone(), ends_at: now + timing.give_up() }
        };
        true
    }

    /// The request came again.
    #[must_use]
    pub fn heard_again(&self) -> Heard {
        match &self.state {
            State::Proceeding { last: response } | State::Completed { response, .. } => {
                Heard::answered(response)
            }
            State::Trying | State::Terminated => Heard::ABSORBED,
        }
    }

    /// Does what is due.
    pub fn due(&mut self, now: Micros) -> Fired {
        match self.state {
            State::Completed { ends_at, .. } if ends_at <= now => {
                self.state = State::Terminated;
                Fired::Ended
            }
            State::Trying | State::Proceeding { .. } | State::Completed { .. } | State::Terminated => {
                Fired::Nothing
            }
        }
    }

    /// When [`Server::due`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Micros> {
        match self.state {
            State::Completed { ends_at, .. } => Some(ends_at),
            State::Trying | State::Proceeding { .. } | State::Terminated => None,
        }
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_terminated(&self) -> bool {
        matches!(self.state, State::Terminated)
    }

    /// The name of its state.
    #[must_use]
    pub fn state(&self) -> &'static str {
        match self.state {
            State::Trying => "trying",
            State::Proceeding { .. } => "proceeding",
            State::Completed { .. } => "completed",
            State::Terminated => "terminated",
        }
    }
}
