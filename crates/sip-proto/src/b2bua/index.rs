//! Where calls are found: by deadline, by the INVITE that began them, by the connections that they go over, and those that
//! are unsettled.

use super::context::interface;
use super::state::Call;
use super::{CallKey, CallSettings, Calls, Flow};

impl Calls {
    /// Enters a call into the indexes, or brings its entries up to date.
    pub(super) fn enlist(&mut self, key: CallKey) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        let deadline = call.next_deadline();
        if call.deadline != deadline {
            if let Some(old) = call.deadline {
                self.deadlines.remove(&(old, key));
            }
            if let Some(new) = deadline {
                self.deadlines.insert((new, key));
            }
            call.deadline = deadline;
        }
        let invite = call.invitation.as_ref().map(|invitation| &invitation.key);
        if call.listed.as_ref() != invite {
            if let Some(old) = call.listed.take() {
                self.invites.remove(&old);
            }
            if let Some(new) = invite.cloned() {
                call.listed = Some(new.clone());
                self.invites.insert(new, key);
            }
        }
        let goes_over = |flow: &Flow| over_stream(&self.settings, *flow);
        if !call.flows().filter(goes_over).eq(call.streams.iter().copied()) {
            for old in &call.streams {
                self.streams.remove(&(*old, key));
            }
            call.streams = call.flows().filter(goes_over).collect();
            self.streams.extend(call.streams.iter().map(|new| (*new, key)));
        }
        if call.is_unsettled() {
            self.unsettled.insert(key);
        } else {
            self.unsettled.remove(&key);
        }
    }

    pub(super) fn unlist(&mut self, call: &Call) {
        if let Some(deadline) = call.deadline {
            self.deadlines.remove(&(deadline, call.key));
        }
        if let Some(invite) = &call.listed {
            self.invites.remove(invite);
        }
        for stream in &call.streams {
            self.streams.remove(&(*stream, call.key));
        }
        self.unsettled.remove(&call.key);
    }

    /// Checks that the indexes say what the calls say. For tests.
    #[doc(hidden)]
    pub fn check(&self) {
        let deadlines = self.calls.values().filter_map(|call| Some((call.next_deadline()?, call.key)));
        assert_eq!(self.deadlines, deadlines.collect(), "deadlines");
        let invites =
            self.calls.values().filter_map(|call| Some((call.invitation.as_ref()?.key.clone(), call.key)));
        assert_eq!(self.invites, invites.collect(), "invites");
        let streams = self.calls.values().flat_map(|call| call.flows().map(|flow| (flow, call.key)));
        let streams = streams.filter(|(flow, _)| over_stream(&self.settings, *flow));
        assert_eq!(self.streams, streams.collect(), "streams");
        let unsettled = self.calls.values().filter(|call| call.is_unsettled()).map(|call| call.key);
        assert_eq!(self.unsettled, unsettled.collect(), "unsettled");
    }
}

fn over_stream(settings: &CallSettings, flow: Flow) -> bool {
    interface(settings, flow).transport.is_reliable()
}
