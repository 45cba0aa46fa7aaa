//! Targets whose call nobody knows: a primary sent the INVITE and ended before its backup heard of it. Nobody waits for the
//! answer, but whoever gave it repeats it, and believes in a call.

use super::context::Numbers;
use super::outputs::{Outgoing, Outputs};
use super::state::Leg;
use super::{CallKey, Calls, Flow, context};
use crate::{Dialog, Message};
use domain::Micros;

/// What sets the branch of our ACK and BYE apart from those of whoever sent the INVITE: their numbers count from below.
const ACK: u32 = 1 << 31;
const BYE: u32 = 1 << 30;

impl Calls {
    /// A 2xx for an INVITE with a branch of ours, of no call that there is. It is acknowledged, and the call that it would
    /// make is ended (RFC 3261, section 13.2.2.4). Both go where the 2xx came from, whatever its Contact says: it asks nobody
    /// else to be sent something. Nothing is kept: when the 2xx comes again, the same is said again.
    pub(super) fn answered_to_nobody(
        &mut self,
        response: &Message<'_>,
        (call, number): (CallKey, u32),
        cseq: u32,
        flow: Flow,
        now: Micros,
        out: &mut Outputs,
    ) {
        let mut ctx = context(&self.settings, self.epoch, now, out, &mut self.scratch);
        // All that a dialog takes from the INVITE is in its response as well.
        let Ok(dialog) = Dialog::of_response(response, response, ctx.epoch) else { return };
        let mut leg = Leg {
            dialog,
            flow,
            behind_nat: true,
            allows_update: false,
            timer: None,
            retry_at: None,
            session: None,
            gone: false,
        };
        let ack = ctx.ack(call, &leg, Numbers { transaction: number | ACK, cseq }, None);
        let cseq = leg.dialog.next_cseq(ctx.epoch);
        let bye = ctx.own_request(call, &leg, Numbers { transaction: number | BYE, cseq }, "BYE", None, None);
        let wires = [ack, bye].into_iter().flatten();
        out.messages.extend(wires.map(|wire| Outgoing { flow, wire, call: None, transaction: None }));
    }
}
