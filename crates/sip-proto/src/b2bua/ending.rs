//! The way out: one BYE per side, one record per call, and an answer to everything that is still open (RFC 3261, section
//! 15).

use super::context::{Context, Numbers};
use super::state::{
    Asking, Call, Cancelling, Exchange, Inbound, Outbound, Pair, Phase, Purpose, Serving, Side,
};
use super::{Cause, Cdr, Event, Flow};
use crate::Message;
use crate::rejection::Rejection;
use crate::transaction::{Client, Server, ServerKey};

impl Call {
    /// One side hangs up.
    #[allow(clippy::too_many_arguments, reason = "they are one request and whose it is")]
    pub(super) fn bye_came(
        &mut self,
        ctx: &mut Context<'_>,
        key: ServerKey,
        message: &Message<'_>,
        pair: u16,
        side: Side,
        cseq: u32,
        flow: Flow,
    ) -> Result<(), Rejection> {
        let inbound = Inbound::new(ctx, key, message, cseq, flow, |_| Serving::Other(Server::new()));
        let id = self.new_part();
        self.exchanges.insert(
            id,
            Exchange {
                pair,
                to: side.other(),
                purpose: Purpose::Answered,
                inbound: Some(inbound),
                outbound: None,
                ack: None,
                cancel: Cancelling::No,
            },
        );
        self.tell(ctx, id, 200);
        let established = matches!(self.head.phase, Phase::Established { .. });
        if let Some(leg) = self.pairs.get_mut(pair).and_then(|pair| pair.leg_mut(side)) {
            leg.gone = true;
        }
        match side {
            // In an early dialog: the caller gives up that way.
            Side::Caller if !established => {
                self.tell_caller(ctx, 487, |draft| draft);
                self.end(ctx, Cause::Cancelled);
            }
            Side::Caller => self.end(ctx, Cause::Caller),
            Side::Callee if established => self.end(ctx, Cause::Callee),
            // A callee must not do that (section 15); it is not with us any more, but others may still answer.
            Side::Callee => {}
        }
        Ok(())
    }

    /// The call is over, if it was not: everybody who is still in it is told, everything that is open is answered, and the
    /// record is written.
    pub(super) fn end(&mut self, ctx: &mut Context<'_>, cause: Cause) {
        if self.is_over() {
            return;
        }
        self.head.phase = Phase::Over { cause };
        self.head.plan = None;
        self.head.best = None;
        self.unwant_branches(ctx, false);
        let status = if cause == Cause::Order { 503 } else { 487 };
        self.tell_caller(ctx, status, |draft| draft);
        for id in self.exchanges.ids() {
            // Section 15.1.2: whoever waits for an answer gets one.
            if self.exchanges.get(id).is_some_and(|e| e.inbound.as_ref().is_some_and(|i| i.request.is_some()))
            {
                self.tell(ctx, id, 487);
            }
        }
        let early = |pair: &Pair| !pair.callee.dialog.is_confirmed();
        let early: Vec<u16> = self.pairs.iter().filter(|(_, pair)| early(pair)).map(|(id, _)| id).collect();
        for id in early {
            self.pairs.remove(id);
        }
        self.hang_up_if_over(ctx);
        ctx.event(Event::Ended(Box::new(Cdr {
            call: self.key,
            epoch: ctx.epoch,
            call_id: self.head.call_id.clone(),
            from: self.head.from.clone(),
            called: self.head.called.clone(),
            answered_by: self.head.answered_by.clone(),
            began_at: self.head.began_at,
            answered_at: self.head.answered_at,
            ended_at: ctx.now,
            cause,
        })));
    }

    /// Where the call is over, sends BYE to each side that has had none. The caller's has to wait for the ACK: before that
    /// it knows nothing of a dialog that could be ended (section 15).
    pub(super) fn hang_up_if_over(&mut self, ctx: &mut Context<'_>) {
        if !self.is_over() {
            return;
        }
        let waits = self.invitation.as_ref().is_some_and(|invitation| invitation.answer.is_some());
        for id in self.pairs.ids() {
            for side in [Side::Caller, Side::Callee] {
                let leg = self.pairs.get(id).and_then(|pair| pair.leg(side));
                let due = leg.is_some_and(|leg| leg.dialog.is_confirmed() && !leg.gone);
                if due && side == Side::Callee {
                    self.acknowledge_anew(ctx, id);
                    self.acknowledge(ctx, id, None);
                }
                if due && !(side == Side::Caller && waits) {
                    self.bye(ctx, id, side, None);
                }
            }
        }
    }

    /// Sends BYE to one side, once.
    pub(super) fn bye(&mut self, ctx: &mut Context<'_>, pair: u16, to: Side, reason: Option<&str>) {
        let transaction = self.head.numbers.take(ctx.epoch);
        let Some(leg) = self.pairs.get_mut(pair).and_then(|pair| pair.leg_mut(to)).filter(|leg| !leg.gone)
        else {
            return;
        };
        leg.gone = true;
        let numbers = Numbers { transaction, cseq: leg.dialog.next_cseq(ctx.epoch) };
        let Ok(wire) = ctx.own_request(self.key, leg, numbers, "BYE", None, reason) else { return };
        let flow = ctx.request_flow(leg);
        let machine = Asking::Other(Client::new(wire.clone(), ctx.is_reliable(flow), ctx.timing(), ctx.now));
        self.ask(
            ctx,
            pair,
            to,
            Purpose::Bye,
            Outbound { number: transaction, cseq: numbers.cseq, flow, machine },
            wire,
        );
    }
}
