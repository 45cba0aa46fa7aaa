//! The client transaction of any request but INVITE and ACK (RFC 3261, section 17.1.2).

use super::{Fired, Heard, Repeat, Timing, earlier};
use crate::{Message, StartLine, Wire};
use domain::Micros;
use serde::{Deserialize, Serialize};

/// The transaction of a request that was sent.
///
/// ```text
///             | request sent
///  E: again   v
///    .---> Trying ------- F, no final response: TimedOut --.
///    '----  |  |                                           |
///       1xx |  '--- 200-699: pass ---.                     |
///           v                        v                     |
///       Proceeding --- 200-699 -> Completed                |
///       E: again       pass        | K                     |
///           |                      v                       |
///           '--- F: TimedOut -> Terminated <---------------'
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    state: State,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    /// `provisional`: whether a provisional response came, which makes this the state Proceeding.
    Waiting {
        request: Wire,
        provisional: bool,
        again: Option<Repeat>,
        give_up_at: Micros,
    },
    Completed {
        ends_at: Micros,
    },
    Terminated,
}

impl Client {
    /// The transaction of `request`, which is sent now.
    #[must_use]
    pub fn new(request: Wire, reliable: bool, timing: &Timing, now: Micros) -> Self {
        let again = Repeat::unless(reliable, timing, now);
        let give_up_at = now + timing.give_up();
        Self { state: State::Waiting { request, provisional: false, again, give_up_at } }
    }

    /// A response of this transaction came.
    pub fn heard(&mut self, response: &Message<'_>, timing: &Timing, now: Micros) -> Heard {
        let StartLine::Status { code, .. } = response.start else { return Heard::ABSORBED };
        match &mut self.state {
            State::Waiting { provisional, .. } if code < 200 => {
                *provisional = true;
                Heard::PASSED
            }
            State::Waiting { .. } => {
                self.state = State::Completed { ends_at: now + timing.t4 };
                Heard::PASSED
            }
            State::Completed { .. } | State::Terminated => Heard::ABSORBED,
        }
    }

    /// Does what is due.
    pub fn due(&mut self, timing: &Timing, now: Micros) -> Fired {
        match &mut self.state {
            State::Waiting { give_up_at, .. } if *give_up_at <= now => {
                self.state = State::Terminated;
                Fired::TimedOut
            }
            State::Waiting { request, provisional, again: Some(again), .. } if again.at <= now => {
                again.again(timing.t2, now);
                if *provisional {
                    *again = Repeat::after(timing.t2, now);
                }
                Fired::Again(request.clone())
            }
            State::Completed { ends_at } if *ends_at <= now => {
                self.state = State::Terminated;
                Fired::Ended
            }
            State::Waiting { .. } | State::Completed { .. } | State::Terminated => Fired::Nothing,
        }
    }

    /// When [`Client::due`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Micros> {
        match &self.state {
            State::Waiting { again, give_up_at, .. } => earlier(*again, *give_up_at),
            State::Completed { ends_at } => Some(*ends_at),
            State::Terminated => None,
        }
    }

    /// Another host goes on with it: what went over a connection is sent again, over another one.
    pub fn taken_over(&mut self, timing: &Timing, now: Micros) {
        if let State::Waiting { again: again @ None, .. } = &mut self.state {
            *again = Some(Repeat::at_once(timing, now));
        }
    }

    /// The request, as long as no final response came.
    #[must_use]
    pub fn unanswered(&self) -> Option<&Wire> {
        match &self.state {
            State::Waiting { request, .. } => Some(request),
            State::Completed { .. } | State::Terminated => None,
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
            State::Waiting { provisional: false, .. } => "trying",
            State::Waiting { provisional: true, .. } => "proceeding",
            State::Completed { .. } => "completed",
            State::Terminated => "terminated",
        }
    }
}
