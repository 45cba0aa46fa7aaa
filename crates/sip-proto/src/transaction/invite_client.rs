//! The INVITE client transaction (RFC 3261, section 17.1.1; RFC 6026, section 8.4), and the two requests that are made
//! from its INVITE: ACK for a refusal (section 17.1.1.3) and CANCEL (section 9.1).

use super::{Fired, Heard, Repeat, Timing, earlier};
use crate::{Draft, Framing, Header, HeaderName, Message, StartLine, Wire, parse};
use domain::Micros;
use serde::{Deserialize, Serialize};

/// The transaction of an INVITE that was sent.
///
/// ```text
///               | INVITE sent
///   A: again    v
///     .--->  Calling  --- B, no answer at all: TimedOut ------.
///     '----   |  |                                            |
///         1xx |  | 2xx: pass   300-699: ACK, pass             |
///             v  |-----------------------------.              |
///       Proceeding                             |              |
///       1xx: pass |                            |              |
///             |   '---- 300-699: ACK, pass ----+---.          |
///         2xx |                            2xx |   |          |
///             v                                |   v          |
///         Accepted  <--------------------------'  Completed   |
///         2xx: pass                           300-699: ACK    |
///             | M                                  | D        |
///             '---------->  Terminated  <----------'----------'
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteClient {
    state: State,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    Calling { invite: Wire, again: Option<Repeat>, give_up_at: Micros },
    Proceeding { invite: Wire },
    Completed { ack: Wire, ends_at: Micros },
    Accepted { ends_at: Micros },
    Terminated,
}

impl InviteClient {
    /// The transaction of `invite`, which is sent now.
    #[must_use]
    pub fn new(invite: Wire, reliable: bool, timing: &Timing, now: Micros) -> Self {
        let again = Repeat::unless(reliable, timing, now);
        Self { state: State::Calling { invite, again, give_up_at: now + timing.give_up() } }
    }

    /// A response of this transaction came.
    pub fn heard(&mut self, response: &Message<'_>, timing: &Timing, now: Micros) -> Heard {
        let StartLine::Status { code, .. } = response.start else { return Heard::ABSORBED };
        match &self.state {
            State::Calling { invite, .. } | State::Proceeding { invite } => match code {
                ..200 => {
                    self.state = State::Proceeding { invite: invite.clone() };
                    Heard::PASSED
                }
                200..300 => {
                    self.state = State::Accepted { ends_at: now + timing.give_up() };
                    Heard::PASSED
                }
                300.. => {
                    let Some(ack) = refusal_ack(invite, response) else { return Heard::ABSORBED };
                    self.state = State::Completed { ack: ack.clone(), ends_at: now + timing.give_up() };
                    Heard { pass: true, send: Some(ack) }
                }
            },
            State::Completed { ack, .. } if code >= 300 => Heard::answered(ack),
            // Each is acknowledged by the user: it may be of another dialog (RFC 6026, section 8.4).
            State::Accepted { .. } if (200..300).contains(&code) => Heard::PASSED,
            State::Completed { .. } | State::Accepted { .. } | State::Terminated => Heard::ABSORBED,
        }
    }

    /// Does what is due.
    pub fn due(&mut self, timing: &Timing, now: Micros) -> Fired {
        match &mut self.state {
            State::Calling { give_up_at, .. } if *give_up_at <= now => {
                self.state = State::Terminated;
                Fired::TimedOut
            }
            State::Calling { invite, again: Some(again), .. } if again.at <= now => {
                // Timer A doubles without a bound of its own; B is the bound (section 17.1.1.2).
                again.again(timing.give_up(), now);
                Fired::Again(invite.clone())
            }
            State::Completed { ends_at, .. } | State::Accepted { ends_at } if *ends_at <= now => {
                self.state = State::Terminated;
                Fired::Ended
            }
            State::Calling { .. }
            | State::Proceeding { .. }
            | State::Completed { .. }
            | State::Accepted { .. }
            | State::Terminated => Fired::Nothing,
        }
    }

    /// When [`InviteClient::due`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Micros> {
        match &self.state {
            State::Calling { again, give_up_at, .. } => earlier(*again, *give_up_at),
            State::Completed { ends_at, .. } | State::Accepted { ends_at } => Some(*ends_at),
            State::Proceeding { .. } | State::Terminated => None,
        }
    }

    /// Another host goes on with it: what went over a connection is sent again, over another one.
    pub fn taken_over(&mut self, timing: &Timing, now: Micros) {
        if let State::Calling { again: again @ None, .. } = &mut self.state {
            *again = Some(Repeat::at_once(timing, now));
        }
    }

    /// The INVITE, as long as nobody answered it with a final response.
    #[must_use]
    pub fn unanswered(&self) -> Option<&Wire> {
        match &self.state {
            State::Calling { invite, .. } | State::Proceeding { invite } => Some(invite),
            State::Completed { .. } | State::Accepted { .. } | State::Terminated => None,
        }
    }

    /// The CANCEL of the INVITE, where it may be sent: a provisional response came and no final one (section 9.1). With
    /// the value of a Reason header field, where there is one to give (RFC 3326).
    #[must_use]
    pub fn cancel(&self, reason: Option<&str>) -> Option<Wire> {
        match &self.state {
            State::Proceeding { invite } => {
                let to = parse(invite, Framing::Datagram).ok()?.value(HeaderName::To)?;
                from_invite(invite, "CANCEL", to, reason)
            }
            State::Calling { .. } | State::Completed { .. } | State::Accepted { .. } | State::Terminated => {
                None
            }
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
            State::Calling { .. } => "calling",
            State::Proceeding { .. } => "proceeding",
            State::Completed { .. } => "completed",
            State::Accepted { .. } => "accepted",
            State::Terminated => "terminated",
        }
    }
}

/// The ACK for a final response other than 2xx: of the same transaction, so with the same Via.
fn refusal_ack(invite: &Wire, response: &Message<'_>) -> Option<Wire> {
    let to = response.value(HeaderName::To)?;
    from_invite(invite, "ACK", to, None)
}

/// A request that goes where the INVITE went, with its Request-URI, topmost Via, Route, From, Call-ID and CSeq number.
fn from_invite(invite: &Wire, method: &str, to: &[u8], reason: Option<&str>) -> Option<Wire> {
    let invite = parse(invite, Framing::Datagram).ok()?;
    let StartLine::Request(line) = invite.start else { return None };
    let mut out = Vec::with_capacity(512);
    let uri = std::str::from_utf8(line.uri).ok()?;
    let mut draft = Draft::request(&mut out, method, uri).raw("Via", invite.value(HeaderName::Via)?);
    let copied = |header: &&Header<'_>| matches!(header.name, HeaderName::Route | HeaderName::From);
    for header in invite.headers.iter().filter(copied) {
        draft = draft.copy(header);
    }
    draft
        .raw("To", to)
        .raw("Call-ID", invite.value(HeaderName::CallId)?)
        .header("CSeq", format_args!("{} {method}", invite.cseq().ok()?.number))
        .header("Max-Forwards", 70)
        .maybe("Reason", reason)
        .finish();
    Some(Wire::from(&out[..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVITE: &str = "INVITE sip:b@192.0.2.9;x SIP/2.0\r\nVia: SIP/2.0/UDP us;branch=z9hG4bK1\r\nv: SIP/2.0/UDP you\r\n\
        Route: <sip:p1;lr>\r\nMax-Forwards: 9\r\nf: <sip:a@x>;tag=1\r\nRoute: <sip:p2;lr>\r\nt: <sip:b@x>\r\n\
        Call-ID: c\r\nCSeq: 7 INVITE\r\nContact: <sip:us>\r\nContent-Length: 4\r\n\r\nbody";

    /// A transaction that has heard a response with this status.
    fn heard(status: u16) -> (InviteClient, Heard) {
        let timing = Timing::default();
        let mut client = InviteClient::new(Wire::from(INVITE.as_bytes()), false, &timing, Micros(0));
        let text = format!("SIP/2.0 {status} X\r\nTo: <sip:b@x>;tag=2\r\nCSeq: 7 INVITE\r\n\r\n");
        let heard = client.heard(&parse(text.as_bytes(), Framing::Datagram).unwrap(), &timing, Micros(0));
        (client, heard)
    }

    fn text(wire: Option<Wire>) -> String {
        String::from_utf8(wire.unwrap().to_vec()).unwrap()
    }

    #[test]
    fn a_refusal_is_acknowledged_the_way_that_the_invite_went() {
        assert_eq!(
            text(heard(486).1.send),
            "ACK sip:b@192.0.2.9;x SIP/2.0\r\nVia: SIP/2.0/UDP us;branch=z9hG4bK1\r\nRoute: <sip:p1;lr>\r\n\
             f: <sip:a@x>;tag=1\r\nRoute: <sip:p2;lr>\r\nTo: <sip:b@x>;tag=2\r\nCall-ID: c\r\nCSeq: 7 ACK\r\n\
             Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        );
        assert_eq!(heard(200).1.send, None);
    }

    #[test]
    fn an_invite_is_cancelled_between_its_provisional_and_its_final_response() {
        let cancel = text(heard(180).0.cancel(Some("SIP;cause=200")));
        assert!(
            cancel.starts_with("CANCEL sip:b@192.0.2.9;x SIP/2.0\r\nVia: SIP/2.0/UDP us;branch=z9hG4bK1\r\n")
        );
        assert!(
            cancel.contains("\r\nTo: <sip:b@x>\r\n")
                && cancel.contains("\r\nCSeq: 7 CANCEL\r\nMax-Forwards: 70\r\nReason: SIP;cause=200\r\n"),
            "{cancel}"
        );
        assert_eq!(heard(486).0.cancel(None), None);
        let fresh = InviteClient::new(Wire::from(INVITE.as_bytes()), false, &Timing::default(), Micros(0));
        assert_eq!(fresh.cancel(None), None);
    }
}
