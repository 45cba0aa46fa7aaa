//! The INVITE server transaction (RFC 3261, section 17.2.1; RFC 6026, section 8.5).

use super::{Fired, Heard, Repeat, Timing, earlier};
use crate::Wire;
use domain::Micros;
use serde::{Deserialize, Serialize};

/// The transaction of an INVITE that was received.
///
/// ```text
///            | INVITE received
///            v
///   .--> Proceeding ----- 2xx sent ------------.
///   '----  |   INVITE: last 1xx again          v
///  1xx     | 300-699 sent                   Accepted
///          v                                INVITE: absorbed
///  .--> Completed -- H, no ACK: TimedOut -. ACK: pass
///  '----   |         INVITE: again        |    |
///  G: again| ACK                          |    | L
///          v                              |    |
///      Confirmed --- I --> Terminated <---'----'
/// ```
///
/// A 2xx response is sent again by the user until the ACK comes (section 13.3.1.4): only the user knows that ACK.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteServer {
    state: State,
    reliable: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    Proceeding { last: Option<Wire> },
    Completed { response: Wire, again: Option<Repeat>, give_up_at: Micros },
    Confirmed { ends_at: Micros },
    Accepted { ends_at: Micros },
    Terminated,
}

impl InviteServer {
    /// The transaction of an INVITE that came now.
    #[must_use]
    pub fn new(reliable: bool) -> Self {
        Self { state: State::Proceeding { last: None }, reliable }
    }

    /// The user sends this response. Behind a final one nothing more is sent: whether it may be.
    #[must_use = "a response that comes too late must not be sent"]
    pub fn respond(&mut self, status: u16, response: &Wire, timing: &Timing, now: Micros) -> bool {
        if !self.is_proceeding() {
            return false;
        }
        let ends_at = now + timing.give_up();
        self.state = match status {
            ..200 => State::Proceeding { last: Some(response.clone()) },
            200..300 => State::Accepted { ends_at },
            300.. => State::Completed {
                response: response.clone(),
                again: Repeat::unless(self.reliable, timing, now),
                give_up_at: ends_at,
            },
        };
        true
    }

    /// The INVITE came again.
    #[must_use]
    pub fn heard_again(&self) -> Heard {
        match &self.state {
            State::Proceeding { last: Some(last) } => Heard::answered(last),
            State::Completed { response, .. } => Heard::answered(response),
            State::Proceeding { last: None }
            | State::Confirmed { .. }
            | State::Accepted { .. }
            | State::Terminated => Heard::ABSORBED,
        }
    }

    /// An ACK came: of this transaction, for a refusal; or, for a 2xx, one that its user found to be this INVITE's.
    pub fn acknowledged(&mut self, timing: &Timing, now: Micros) -> Heard {
        match &self.state {
            State::Completed { .. } => {
                self.state = State::Confirmed { ends_at: now + timing.t4 };
                Heard::ABSORBED
            }
            State::Accepted { .. } => Heard::PASSED,
            State::Proceeding { .. } | State::Confirmed { .. } | State::Terminated => Heard::ABSORBED,
        }
    }

    /// Does what is due.
    pub fn due(&mut self, timing: &Timing, now: Micros) -> Fired {
        match &mut self.state {
            State::Completed { give_up_at, .. } if *give_up_at <= now => {
                self.state = State::Terminated;
                Fired::TimedOut
            }
            State::Completed { response, again: Some(again), .. } if again.at <= now => {
                again.again(timing.t2, now);
                Fired::Again(response.clone())
            }
            State::Confirmed { ends_at } | State::Accepted { ends_at } if *ends_at <= now => {
                self.state = State::Terminated;
                Fired::Ended
            }
            State::Proceeding { .. }
            | State::Completed { .. }
            | State::Confirmed { .. }
            | State::Accepted { .. }
            | State::Terminated => Fired::Nothing,
        }
    }

    /// When [`InviteServer::due`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Micros> {
        match &self.state {
            State::Completed { again, give_up_at, .. } => earlier(*again, *give_up_at),
            State::Confirmed { ends_at } | State::Accepted { ends_at } => Some(*ends_at),
            State::Proceeding { .. } | State::Terminated => None,
        }
    }

    /// Another host goes on with it: what went over a connection is sent again, over another one.
    pub fn taken_over(&mut self, timing: &Timing, now: Micros) {
        if let State::Completed { again: again @ None, .. } = &mut self.state {
            *again = Some(Repeat::at_once(timing, now));
        }
        self.reliable = false;
    }

    /// Whether no final response was sent.
    #[must_use]
    pub fn is_proceeding(&self) -> bool {
        matches!(self.state, State::Proceeding { .. })
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
            State::Proceeding { .. } => "proceeding",
            State::Completed { .. } => "completed",
            State::Confirmed { .. } => "confirmed",
            State::Accepted { .. } => "accepted",
            State::Terminated => "terminated",
        }
    }
}
