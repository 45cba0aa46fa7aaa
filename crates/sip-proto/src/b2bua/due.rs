//! What time brings to a call: messages sent again, waits given up, sessions refreshed or ended, and what is over cleared
//! away.

use super::context::Context;
use super::state::{Answer, Call, Cancelling, Inbound, Phase, Progress, Purpose, Serving, Side};
use super::{Cause, Event};
use crate::transaction::Fired;
use crate::{Message, Method, Wire};

/// What became of something that is sent until it is acknowledged.
enum Unacknowledged {
    NotYet,
    Again(Wire),
    GivenUp,
}

impl Call {
    /// Does everything that is due.
    pub(super) fn due(&mut self, ctx: &mut Context<'_>) {
        self.invitation_due(ctx);
        for id in self.branches.ids() {
            self.branch_due(ctx, id);
        }
        for id in self.exchanges.ids() {
            self.exchange_due(ctx, id);
        }
        for id in self.pairs.ids() {
            self.provisional_due(ctx, id);
            for side in [Side::Caller, Side::Callee] {
                self.session_due(ctx, id, side);
            }
        }
        match self.head.phase {
            Phase::Routing { until } if until <= ctx.now => {
                self.tell_caller(ctx, 500, |draft| draft);
                self.end(ctx, Cause::Refused(500));
            }
            Phase::Calling { until } if until <= ctx.now => self.rang_too_long(ctx),
            Phase::Routing { .. }
            | Phase::Calling { .. }
            | Phase::Established { .. }
            | Phase::Over { .. } => {}
        }
    }

    /// Another host began what this call waits for: what it said last may not have got out.
    pub(super) fn resume(&mut self, ctx: &mut Context<'_>) {
        self.taken_over(ctx.timing(), ctx.now);
        if matches!(self.head.phase, Phase::Routing { .. }) {
            ctx.event(Event::Incoming { call: self.key });
        }
        if let Some(invitation) = &*self.invitation
            && invitation.request.is_some()
            && let Some(wire) = invitation.machine.heard_again().send
        {
            // Nobody repeats a provisional response that was lost; who has had it takes it for the network's doing.
            ctx.send_again(self.key, invitation.reply, wire, None);
        }
    }

    /// The caller's INVITE came again, or the ACK for what we refused it with.
    pub(super) fn invitation_again(&mut self, ctx: &mut Context<'_>, method: Method, message: &Message<'_>) {
        let Some(invitation) = &mut *self.invitation else { return };
        let heard = match (&mut invitation.machine, method) {
            (Serving::Invite(machine), Method::Ack) => machine.acknowledged(ctx.timing(), ctx.now),
            (machine, _) => machine.heard_again(),
        };
        if let Some(wire) = heard.send {
            ctx.send_again(self.key, invitation.reply, wire, None);
        }
        let cseq = invitation.cseq;
        // The ACK for a 2xx, from one who does not know that it is a transaction of its own.
        if let (true, Phase::Established { pair }) = (heard.pass, self.head.phase) {
            self.acked(ctx, pair, Side::Caller, message, cseq);
        }
    }

    /// A request could not be sent: as if the target had said 503 (RFC 3261, section 8.1.3.1).
    pub(super) fn unsent(&mut self, ctx: &mut Context<'_>, number: u32) {
        let branch = self.branches.iter().find(|(_, branch)| branch.outbound.number == number);
        if let Some(id) = branch.map(|(id, _)| id) {
            let unanswered = self.branches.get(id).is_some_and(|b| b.outbound.machine.unanswered().is_some());
            if unanswered {
                self.branch_failed(ctx, id, 503);
                self.branches.remove(id);
            }
        }
        // Within a dialog it is sent again until it times out: the other side may come back over another connection.
    }

    /// Forgets what is over.
    pub(super) fn clear_away(&mut self) {
        if self.invitation.as_ref().is_some_and(Inbound::is_over) {
            *self.invitation = None;
        }
        for id in self.branches.ids() {
            if self.branches.get(id).is_some_and(|branch| branch.is_over()) {
                self.branches.remove(id);
                for pair in self.pairs.ids() {
                    // The answer that it was sent for will not come again.
                    if self.pairs.get(pair).is_some_and(|p| p.branch == id && p.ack.is_some())
                        && let Some(pair) = self.pairs.get_mut(pair)
                    {
                        pair.ack = None;
                    }
                }
            }
        }
        for id in self.exchanges.ids() {
            if self.exchanges.get(id).is_some_and(|exchange| exchange.is_over()) {
                self.exchanges.remove(id);
            }
        }
    }

    fn invitation_due(&mut self, ctx: &mut Context<'_>) {
        let key = self.key;
        let Some(invitation) = &mut *self.invitation else { return };
        match invitation.machine.due(ctx.timing(), ctx.now) {
            Fired::Again(wire) => ctx.send_again(key, invitation.reply, wire, None),
            Fired::Nothing | Fired::TimedOut | Fired::Ended => {}
        }
        match answer_due(ctx, &mut invitation.answer) {
            Unacknowledged::NotYet => {}
            Unacknowledged::Again(wire) => ctx.send_again(key, invitation.reply, wire, None),
            Unacknowledged::GivenUp => {
                self.end(ctx, Cause::NotAcknowledged);
                self.hang_up_if_over(ctx);
            }
        }
    }

    fn branch_due(&mut self, ctx: &mut Context<'_>, id: u16) {
        let key = self.key;
        let Some(branch) = self.branches.get_mut(id) else { return };
        let flow = branch.outbound.flow;
        let number = branch.outbound.number;
        if let Progress::Cancelled { cancel, give_up_at } = &mut branch.progress {
            if let Fired::Again(wire) = cancel.due(ctx.timing(), ctx.now) {
                ctx.send_again(key, flow, wire, None);
            }
            if *give_up_at <= ctx.now {
                self.branches.remove(id);
                return;
            }
        }
        match branch.outbound.machine.due(ctx.timing(), ctx.now) {
            Fired::Nothing => {}
            Fired::Again(wire) => ctx.send_again(key, flow, wire, Some(number)),
            Fired::TimedOut => self.branch_failed(ctx, id, 408),
            // Where it is still open, its 2xx made no dialog, so that nobody could be called with it.
            Fired::Ended => self.branch_failed(ctx, id, 502),
        }
    }

    fn exchange_due(&mut self, ctx: &mut Context<'_>, id: u16) {
        let key = self.key;
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        let mut unacknowledged = false;
        if let Some(inbound) = &mut exchange.inbound {
            if let Fired::Again(wire) = inbound.machine.due(ctx.timing(), ctx.now) {
                ctx.send_again(key, inbound.reply, wire, None);
            }
            match answer_due(ctx, &mut inbound.answer) {
                Unacknowledged::NotYet => {}
                Unacknowledged::Again(wire) => ctx.send_again(key, inbound.reply, wire, None),
                Unacknowledged::GivenUp => unacknowledged = true,
            }
        }
        let mut timed_out = false;
        if let Some(outbound) = &mut exchange.outbound {
            match outbound.machine.due(ctx.timing(), ctx.now) {
                Fired::Again(wire) => ctx.send_again(key, outbound.flow, wire, Some(outbound.number)),
                Fired::TimedOut => timed_out = true,
                Fired::Nothing | Fired::Ended => {}
            }
            if let Cancelling::Sent(cancel) = &mut exchange.cancel
                && let Fired::Again(wire) = cancel.due(ctx.timing(), ctx.now)
            {
                ctx.send_again(key, outbound.flow, wire, None);
            }
        }
        let purpose = exchange.purpose;
        if unacknowledged {
            // Section 14.2: the INVITE within the dialog was not acknowledged.
            self.acknowledge_exchange(ctx, id, None);
            self.end(ctx, Cause::NotAcknowledged);
        }
        if timed_out {
            match purpose {
                Purpose::Relay | Purpose::RelayUpdate => {
                    self.tell(ctx, id, 408);
                    self.end(ctx, Cause::Lost);
                }
                Purpose::Refresh => self.end(ctx, Cause::Lost),
                Purpose::Bye | Purpose::Answered => {}
            }
        }
    }

    fn provisional_due(&mut self, ctx: &mut Context<'_>, id: u16) {
        let Some(pair) = self.pairs.get(id) else { return };
        let due = pair.provisional.as_ref().is_some_and(|p| p.again.at <= ctx.now || p.give_up_at <= ctx.now);
        if !due {
            return;
        }
        let Some(provisional) = self.pairs.get_mut(id).and_then(|pair| pair.provisional.as_mut()) else {
            return;
        };
        if provisional.give_up_at <= ctx.now {
            // RFC 3262, section 3: not acknowledged at all.
            self.tell_caller(ctx, 504, |draft| draft);
            return self.end(ctx, Cause::NotAcknowledged);
        }
        // The pauses of these double without a bound of their own.
        provisional.again.again(ctx.timing().give_up(), ctx.now);
        let wire = provisional.response.clone();
        if let Some(invitation) = &*self.invitation {
            ctx.send_again(self.key, invitation.reply, wire, None);
        }
    }

    fn session_due(&mut self, ctx: &mut Context<'_>, id: u16, side: Side) {
        if self.is_over() {
            return;
        }
        let Some(leg) = self.pairs.get(id).and_then(|pair| pair.leg(side)) else { return };
        let Some(timer) = leg.timer.filter(|_| !leg.gone && leg.dialog.is_confirmed()) else { return };
        if timer.dead_at() <= ctx.now {
            self.end(ctx, Cause::Expired);
        } else if leg.refresh_at().is_some_and(|at| at <= ctx.now) {
            self.refresh(ctx, id, side);
        }
    }
}

/// Sends a 2xx again that was not acknowledged, or gives up.
fn answer_due(ctx: &Context<'_>, answer: &mut Option<Answer>) -> Unacknowledged {
    let Some(waiting) = answer else { return Unacknowledged::NotYet };
    if waiting.give_up_at <= ctx.now {
        *answer = None;
        return Unacknowledged::GivenUp;
    }
    if waiting.again.at > ctx.now {
        return Unacknowledged::NotYet;
    }
    waiting.again.again(ctx.timing().t2, ctx.now);
    Unacknowledged::Again(waiting.response.clone())
}
