//! What happens in dialogs: requests of one side are passed to the other and the responses back, ACK included (RFC 3261,
//! sections 12.2 and 14; RFC 3262, RFC 3311, RFC 4028).

use super::context::{Context, Numbers, Passed, request_of, reread, session_in};
use super::state::{
    Asking, Call, Cancelling, Exchange, Inbound, Leg, Outbound, Phase, Progress, Purpose, Serving, Side,
};
use super::{Cause, Flow, timer_refused};
use crate::draft::ToTag;
use crate::rejection::{Detail, Rejection, malformed, rejection};
use crate::transaction::{Client, InviteClient, InviteServer, Server, ServerKey};
use crate::{Message, Method, Order, RequestLine, SessionTimer, Wire};
use std::time::Duration;

/// How long until a refresh that failed is tried again.
const REFRESH_AGAIN: Duration = Duration::from_secs(10);

impl Call {
    // ---- requests

    /// A request with a tag of ours came.
    pub(super) fn request_in_dialog(
        &mut self,
        ctx: &mut Context<'_>,
        key: ServerKey,
        message: &Message<'_>,
        line: RequestLine<'_>,
        flow: Flow,
    ) -> Result<(), Rejection> {
        let cseq = message.cseq().map_err(malformed)?;
        let again = self
            .exchanges
            .iter()
            .find(|(_, exchange)| exchange.inbound.as_ref().is_some_and(|inbound| inbound.key == key));
        if let Some(id) = again.map(|(id, _)| id) {
            self.exchange_again(ctx, id, line.method, message);
            return Ok(());
        }
        let (pair, side) = self.side_of(message).ok_or(rejection(481))?;
        if line.method == Method::Ack {
            self.acked(ctx, pair, side, message, cseq.number);
            return Ok(());
        }
        let over = self.is_over();
        let limit = ctx.settings.limits.transactions;
        let leg = self.pairs.get_mut(pair).and_then(|pair| pair.leg_mut(side)).ok_or(rejection(481))?;
        if over || leg.gone {
            return Err(rejection(481));
        }
        if leg.dialog.note(&cseq) == Order::Behind {
            return Err(Rejection { reason: "CSeq Out Of Order", ..rejection(500) });
        }
        // Its NAT may have moved it, or its connection was made anew.
        leg.flow = flow;
        if self.exchanges.len() >= limit {
            return Err(Rejection { detail: Detail::RetryAfter(1), ..rejection(500) });
        }
        match line.method {
            Method::Bye => self.bye_came(ctx, key, message, pair, side, cseq.number, flow),
            Method::Prack => {
                let rack = self.take_rack(pair, side, message)?;
                self.relay(ctx, key, message, line, Way { pair, from: side, flow }, Some(rack))
            }
            Method::Invite | Method::Update => {
                self.check_glare(ctx, pair, side, line.method)?;
                SessionTimer::grant(message, &ctx.settings.session, ctx.now).map_err(timer_refused)?;
                if let Some(leg) = self.pairs.get_mut(pair).and_then(|pair| pair.leg_mut(side)) {
                    leg.dialog.refresh_target(message);
                }
                self.relay(ctx, key, message, line, Way { pair, from: side, flow }, None)
            }
            Method::Ack
            | Method::Cancel
            | Method::Info
            | Method::Message
            | Method::Notify
            | Method::Options
            | Method::Publish
            | Method::Refer
            | Method::Register
            | Method::Subscribe
            | Method::Other => self.relay(ctx, key, message, line, Way { pair, from: side, flow }, None),
        }
    }

    /// Whose dialog a request is of.
    fn side_of(&self, message: &Message<'_>) -> Option<(u16, Side)> {
        let (to, from) = (message.to().ok()?.tag()?, message.from().ok()?.tag().unwrap_or_default());
        let (to, from) = (std::str::from_utf8(to).ok()?, std::str::from_utf8(from).ok()?);
        self.dialog_of((message.call_id().ok()?, to, from))
    }

    /// Whose dialog has this Call-ID and these tags, ours first.
    pub(super) fn dialog_of(&self, (call_id, ours, theirs): (&str, &str, &str)) -> Option<(u16, Side)> {
        let is = |leg: Option<&Leg>| leg.is_some_and(|leg| leg.dialog.is(call_id, ours, theirs));
        self.pairs.iter().find_map(|(id, pair)| {
            [Side::Caller, Side::Callee].into_iter().find(|side| is(pair.leg(*side))).map(|side| (id, side))
        })
    }

    /// A request of an exchange came again, or the ACK for a refusal that we gave.
    fn exchange_again(&mut self, ctx: &mut Context<'_>, id: u16, method: Method, message: &Message<'_>) {
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        let (pair, from) = (exchange.pair, exchange.to.other());
        let Some(inbound) = &mut exchange.inbound else { return };
        let cseq = inbound.cseq;
        let heard = match (&mut inbound.machine, method) {
            (Serving::Invite(machine), Method::Ack) => machine.acknowledged(ctx.timing(), ctx.now),
            (machine, _) => machine.heard_again(),
        };
        if let Some(wire) = heard.send {
            ctx.send_again(self.key, inbound.reply, wire, None);
        }
        if heard.pass {
            self.acked(ctx, pair, from, message, cseq);
        }
    }

    /// The PRACK of the caller; RSeq and CSeq that the callee knows the response by (RFC 3262, section 7.2).
    fn take_rack(&mut self, pair: u16, side: Side, message: &Message<'_>) -> Result<(u32, u32), Rejection> {
        let rack = message.rack().map_err(malformed)?;
        let invite = self.invitation.as_ref().map(|invitation| invitation.cseq);
        let pair = self.pairs.get_mut(pair).ok_or(rejection(481))?;
        let waits = pair.provisional.as_ref().is_some_and(|provisional| provisional.rseq == rack.rseq);
        let theirs = pair.callee_rseq.filter(|_| {
            waits && side == Side::Caller && rack.method == "INVITE" && invite == Some(rack.cseq)
        });
        let theirs = theirs.ok_or(rejection(481))?;
        pair.provisional = None;
        Ok((theirs, pair.invite_cseq))
    }

    /// Two offers must not cross (RFC 3261, section 14.2; RFC 3311, section 5.2).
    fn check_glare(&self, ctx: &Context<'_>, pair: u16, side: Side, method: Method) -> Result<(), Rejection> {
        let first_is_open = self
            .invitation
            .as_ref()
            .is_some_and(|invitation| invitation.answer.is_some() || invitation.request.is_some());
        if method == Method::Invite && first_is_open {
            return Err(rejection(491));
        }
        let open =
            self.exchanges.iter().find(|(_, exchange)| exchange.pair == pair && exchange.is_negotiating());
        match open {
            None => Ok(()),
            Some((_, exchange)) if exchange.to == side => Err(rejection(491)),
            Some(_) => {
                let after_s = u32::try_from(ctx.random(u64::from(pair)) % 10).unwrap_or(0);
                Err(Rejection { detail: Detail::RetryAfter(after_s), ..rejection(500) })
            }
        }
    }

    /// Passes a request from one side to the other.
    fn relay(
        &mut self,
        ctx: &mut Context<'_>,
        key: ServerKey,
        message: &Message<'_>,
        line: RequestLine<'_>,
        way: Way,
        rack: Option<(u32, u32)>,
    ) -> Result<(), Rejection> {
        let to = way.from.other();
        let cseq = message.cseq().map_err(malformed)?.number;
        let transaction = self.head.numbers.take(ctx.epoch);
        let leg = self.pairs.get_mut(way.pair).and_then(|pair| pair.leg_mut(to)).filter(|leg| !leg.gone);
        let leg = leg.ok_or(rejection(481))?;
        let numbers = Numbers { transaction, cseq: leg.dialog.next_cseq(ctx.epoch) };
        let wire =
            ctx.passed_request(self.key, leg, numbers, message, line, rack).map_err(|_| rejection(513))?;
        let flow = ctx.request_flow(leg);
        let reliable = ctx.is_reliable(flow);
        let is_invite = line.method == Method::Invite;
        let machine = if is_invite {
            Asking::Invite(InviteClient::new(wire.clone(), reliable, ctx.timing(), ctx.now))
        } else {
            Asking::Other(Client::new(wire.clone(), reliable, ctx.timing(), ctx.now))
        };
        let inbound = Inbound::new(ctx, key, message, cseq, way.flow, |reliable| {
            if is_invite {
                Serving::Invite(InviteServer::new(reliable))
            } else {
                Serving::Other(Server::new())
            }
        });
        let outbound = Outbound { number: transaction, cseq: numbers.cseq, flow, machine };
        let id = self.new_part();
        self.exchanges.insert(
            id,
            Exchange {
                pair: way.pair,
                to,
                purpose: if line.method == Method::Update { Purpose::RelayUpdate } else { Purpose::Relay },
                inbound: Some(inbound),
                outbound: Some(outbound),
                ack: None,
                cancel: Cancelling::No,
            },
        );
        if is_invite {
            self.tell(ctx, id, 100);
        }
        ctx.send(self.key, flow, wire, Some(transaction));
        Ok(())
    }

    /// Answers the request of an exchange by ourselves.
    pub(super) fn tell(&mut self, ctx: &mut Context<'_>, id: u16, status: u16) {
        let Some(inbound) = self.exchanges.get_mut(id).and_then(|exchange| exchange.inbound.as_mut()) else {
            return;
        };
        let Some((request, flow)) = request_of(inbound) else { return };
        let Some(message) = reread(&request) else { return };
        if let Ok(wire) = ctx.response(&message, flow, status, None, ToTag::None, |draft| draft) {
            inbound.answer(ctx, self.key, status, &wire);
        }
    }

    /// CANCEL of the caller's INVITE, or of one within a dialog (RFC 3261, section 9.2).
    pub(super) fn cancel(
        &mut self,
        ctx: &mut Context<'_>,
        key: &ServerKey,
        message: &Message<'_>,
        flow: Flow,
    ) -> Result<(), Rejection> {
        let of_call = self.invitation.as_ref().is_some_and(|invitation| invitation.key == *key);
        let of_exchange = self
            .exchanges
            .iter()
            .find(|(_, exchange)| exchange.inbound.as_ref().is_some_and(|inbound| inbound.key == *key));
        let of_exchange = of_exchange.map(|(id, _)| id);
        if !of_call && of_exchange.is_none() {
            return Err(rejection(481));
        }
        let tag = self.own_tag();
        if let Ok(wire) = ctx.response(message, flow, 200, None, ToTag::Of(&tag), |draft| draft) {
            ctx.send(self.key, ctx.reply_flow(message, flow), wire, None);
        }
        let waits = matches!(self.head.phase, Phase::Routing { .. } | Phase::Calling { .. });
        if of_call && waits {
            self.tell_caller(ctx, 487, |draft| draft);
            self.end(ctx, Cause::Cancelled);
        }
        if let Some(exchange) = of_exchange.and_then(|id| self.exchanges.get_mut(id)) {
            let unanswered = exchange.outbound.as_ref().is_some_and(|out| out.machine.unanswered().is_some());
            if unanswered && exchange.cancel == Cancelling::No {
                // What becomes of it, the other side will say; its answer is passed on.
                exchange.cancel = Cancelling::Wanted;
                exchange.cancel_if_wanted(ctx, self.key);
            }
        }
        Ok(())
    }

    // ---- ACK

    /// The ACK for a 2xx came: it is passed on, once, with what it carries.
    pub(super) fn acked(
        &mut self,
        ctx: &mut Context<'_>,
        pair: u16,
        side: Side,
        message: &Message<'_>,
        cseq: u32,
    ) {
        if side == Side::Caller
            && let Some(invitation) = &mut *self.invitation
            && invitation.cseq == cseq
            && invitation.answer.take().is_some()
        {
            if let Some(callee) = self.pairs.get_mut(pair).map(|pair| &mut pair.callee)
                && callee.session.is_none()
            {
                callee.session = session_in(message);
                callee.drop_timer_unless(true);
            }
            self.acknowledge(ctx, pair, Some(message));
            // Who hung up meanwhile had to wait for this (RFC 3261, section 15).
            return self.hang_up_if_over(ctx);
        }
        let exchange = self.exchanges.iter().find(|(_, exchange)| {
            exchange.pair == pair
                && exchange.to == side.other()
                && exchange
                    .inbound
                    .as_ref()
                    .is_some_and(|inbound| inbound.cseq == cseq && inbound.answer.is_some())
        });
        let Some(id) = exchange.map(|(id, _)| id) else { return };
        if let Some(inbound) = self.exchanges.get_mut(id).and_then(|exchange| exchange.inbound.as_mut()) {
            inbound.answer = None;
        }
        self.acknowledge_exchange(ctx, id, Some(message));
    }

    /// Sends the ACK for the 2xx to an INVITE within a dialog, once; it is kept for when that comes again.
    pub(super) fn acknowledge_exchange(
        &mut self,
        ctx: &mut Context<'_>,
        id: u16,
        theirs: Option<&Message<'_>>,
    ) {
        let transaction = self.head.numbers.take(ctx.epoch);
        let Some(exchange) = self.exchanges.get_mut(id).filter(|exchange| exchange.ack.is_none()) else {
            return;
        };
        let Some(cseq) = exchange.outbound.as_ref().map(|out| out.cseq) else { return };
        let Some(leg) = self.pairs.get(exchange.pair).and_then(|pair| pair.leg(exchange.to)) else { return };
        let Ok(wire) = ctx.ack(self.key, leg, Numbers { transaction, cseq }, theirs) else { return };
        exchange.ack = Some(wire.clone());
        let flow = ctx.request_flow(leg);
        ctx.send(self.key, flow, wire, None);
    }

    // ---- responses

    /// A response to a request of ours came.
    pub(super) fn heard(
        &mut self,
        ctx: &mut Context<'_>,
        number: u32,
        is_cancel: bool,
        message: &Message<'_>,
        code: u16,
    ) {
        let is = |outbound: &Outbound| outbound.number == number;
        let branch = self.branches.iter().find(|(_, branch)| is(&branch.outbound)).map(|(id, _)| id);
        let of_exchange = |exchange: &Exchange| exchange.outbound.as_ref().is_some_and(is);
        let exchange = self.exchanges.iter().find(|(_, exchange)| of_exchange(exchange)).map(|(id, _)| id);
        match (branch, exchange, is_cancel) {
            (Some(id), _, false) => self.heard_from_branch(ctx, id, message, code),
            (None, Some(id), false) => self.heard_from_exchange(ctx, id, message, code),
            (Some(id), _, true) => {
                if let Some(Progress::Cancelled { cancel, .. }) =
                    self.branches.get_mut(id).map(|b| &mut b.progress)
                {
                    cancel.heard(message, ctx.timing(), ctx.now);
                }
            }
            (None, Some(id), true) => {
                if let Some(Cancelling::Sent(cancel)) = self.exchanges.get_mut(id).map(|e| &mut e.cancel) {
                    cancel.heard(message, ctx.timing(), ctx.now);
                }
            }
            (None, None, _) => {}
        }
    }

    fn heard_from_exchange(&mut self, ctx: &mut Context<'_>, id: u16, response: &Message<'_>, code: u16) {
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        let Some(outbound) = &mut exchange.outbound else { return };
        let heard = outbound.machine.heard(response, ctx.timing(), ctx.now);
        if let Some(ack) = heard.send {
            ctx.send(self.key, outbound.flow, ack, None);
        }
        if !heard.pass {
            return;
        }
        exchange.cancel_if_wanted(ctx, self.key);
        if let (Some(ack), 200..300) = (exchange.ack.clone(), code) {
            return ctx.send_again(self.key, exchange.outbound_flow(), ack, None);
        }
        match exchange.purpose {
            Purpose::Relay | Purpose::RelayUpdate => self.pass_back(ctx, id, response, code),
            Purpose::Refresh => self.refresh_answered(ctx, id, response, code),
            Purpose::Bye | Purpose::Answered => {}
        }
    }

    /// Passes a response back to the side that asked.
    fn pass_back(&mut self, ctx: &mut Context<'_>, id: u16, response: &Message<'_>, code: u16) {
        let Some(exchange) = self.exchanges.get_mut(id) else { return };
        let Some((request, flow)) = exchange.inbound.as_ref().and_then(request_of) else { return };
        let Some(message) = reread(&request) else { return };
        let is_invite = exchange.is_invite();
        let negotiates = is_invite || exchange.is_update();
        if code == 100 || (code < 200 && !is_invite) {
            return;
        }
        let (pair, to) = (exchange.pair, exchange.to);
        let mut session = None;
        if negotiates && (200..300).contains(&code) {
            session = self.session_changed(ctx, pair, to, &message, response);
        }
        let passed = Passed { session, negotiates, ..Passed::as_it_is(ToTag::None) };
        let wire = ctx.passed_response(&message, flow, response, &passed);
        let inbound = self.exchanges.get_mut(id).and_then(|exchange| exchange.inbound.as_mut());
        match (wire, inbound) {
            (Ok(wire), Some(inbound)) => inbound.answer(ctx, self.key, code, &wire),
            (Err(_), _) if code >= 200 => self.tell(ctx, id, 500),
            (Err(_), _) | (Ok(_), None) => {}
        }
        // The other side knows of no call (RFC 3261, section 12.2.1.2). For other requests that may concern only what
        // they are about, such as a subscription (RFC 5057, section 5.1).
        if negotiates && code == 481 {
            self.end(ctx, Cause::Lost);
        }
    }

    /// Both sides agreed on a session: targets and timers are new. Session-Expires for who asked.
    fn session_changed(
        &mut self,
        ctx: &Context<'_>,
        pair: u16,
        to: Side,
        request: &Message<'_>,
        response: &Message<'_>,
    ) -> Option<crate::SessionExpires> {
        let limits = &ctx.settings.session;
        let pair = self.pairs.get_mut(pair)?;
        if let Some(leg) = pair.leg_mut(to) {
            leg.dialog.refresh_target(response);
            if leg.timer.is_some() {
                let asked_s = leg.timer.map_or(limits.interval_s, |timer| timer.interval_s);
                leg.timer = Some(SessionTimer::agreed(response, asked_s, ctx.now));
                leg.retry_at = None;
            }
            leg.keep_session(request);
        }
        let leg = pair.leg_mut(to.other())?;
        leg.keep_session(response);
        leg.retry_at = None;
        leg.timer.as_ref()?;
        let timer = SessionTimer::grant(request, limits, ctx.now).ok()?;
        leg.timer = Some(timer);
        timer.granted(request)
    }

    // ---- session timers

    /// Refreshes the session of one side: by UPDATE, or by INVITE with what it was told last (RFC 4028, section 7.4).
    pub(super) fn refresh(&mut self, ctx: &mut Context<'_>, pair: u16, to: Side) {
        let busy = self.exchanges.iter().any(|(_, exchange)| {
            let concerns_it = exchange.to == to || exchange.inbound.is_some();
            exchange.pair == pair && concerns_it && exchange.is_negotiating()
        });
        let transaction = self.head.numbers.take(ctx.epoch);
        let Some(leg) = self.pairs.get_mut(pair).and_then(|pair| pair.leg_mut(to)) else { return };
        leg.retry_at = Some(ctx.now + REFRESH_AGAIN);
        if busy {
            return;
        }
        let (method, body) =
            if leg.allows_update { ("UPDATE", None) } else { ("INVITE", leg.session.clone()) };
        let numbers = Numbers { transaction, cseq: leg.dialog.next_cseq(ctx.epoch) };
        let Ok(wire) = ctx.own_request(self.key, leg, numbers, method, body.as_ref(), None) else { return };
        let flow = ctx.request_flow(leg);
        let reliable = ctx.is_reliable(flow);
        let machine = if method == "INVITE" {
            Asking::Invite(InviteClient::new(wire.clone(), reliable, ctx.timing(), ctx.now))
        } else {
            Asking::Other(Client::new(wire.clone(), reliable, ctx.timing(), ctx.now))
        };
        self.ask(
            ctx,
            pair,
            to,
            Purpose::Refresh,
            Outbound { number: transaction, cseq: numbers.cseq, flow, machine },
            wire,
        );
    }

    /// Sends a request of our own within a dialog.
    pub(super) fn ask(
        &mut self,
        ctx: &mut Context<'_>,
        pair: u16,
        to: Side,
        purpose: Purpose,
        outbound: Outbound,
        wire: Wire,
    ) {
        let id = self.new_part();
        let (flow, number) = (outbound.flow, outbound.number);
        let (outbound, cancel) = (Some(outbound), Cancelling::No);
        self.exchanges.insert(id, Exchange { pair, to, purpose, inbound: None, outbound, ack: None, cancel });
        ctx.send(self.key, flow, wire, Some(number));
    }

    fn refresh_answered(&mut self, ctx: &mut Context<'_>, id: u16, response: &Message<'_>, code: u16) {
        let Some((pair, to, is_invite)) = self.exchanges.get(id).map(|e| (e.pair, e.to, e.is_invite()))
        else {
            return;
        };
        match code {
            ..200 => {}
            200..300 => {
                if is_invite {
                    self.acknowledge_exchange(ctx, id, None);
                }
                if let Some(leg) = self.pairs.get_mut(pair).and_then(|pair| pair.leg_mut(to)) {
                    leg.dialog.refresh_target(response);
                    leg.refreshed(ctx.now);
                }
            }
            408 | 481 => self.end(ctx, Cause::Lost),
            // It is tried again until the session is dead.
            300.. => {}
        }
    }
}

/// The way that a request came.
#[derive(Debug, Clone, Copy)]
struct Way {
    pair: u16,
    from: Side,
    flow: Flow,
}

impl Exchange {
    fn is_invite(&self) -> bool {
        matches!(self.outbound.as_ref().map(|out| &out.machine), Some(Asking::Invite(_)))
    }

    fn is_update(&self) -> bool {
        match self.purpose {
            Purpose::RelayUpdate => true,
            Purpose::Refresh => !self.is_invite(),
            Purpose::Relay | Purpose::Answered | Purpose::Bye => false,
        }
    }

    /// Whether an INVITE or UPDATE waits for its answer, or for the ACK.
    fn is_negotiating(&self) -> bool {
        let unanswered = self.outbound.as_ref().is_some_and(|out| out.machine.unanswered().is_some());
        let unacknowledged = self.inbound.as_ref().is_some_and(|inbound| inbound.answer.is_some());
        (self.is_invite() || self.is_update()) && (unanswered || unacknowledged)
    }

    fn outbound_flow(&self) -> Flow {
        let outbound = self.outbound.as_ref().map(|outbound| outbound.flow);
        outbound
            .or(self.inbound.as_ref().map(|inbound| inbound.flow))
            .expect("an exchange has one of the two")
    }

    /// Sends CANCEL for what was passed on, if that is wanted and a provisional response has come.
    fn cancel_if_wanted(&mut self, ctx: &mut Context<'_>, call: super::CallKey) {
        let Some(Outbound { machine: Asking::Invite(machine), flow, .. }) = &self.outbound else { return };
        if self.cancel == Cancelling::Wanted
            && let Some(wire) = machine.cancel(None)
        {
            let cancel = Client::new(wire.clone(), ctx.is_reliable(*flow), ctx.timing(), ctx.now);
            ctx.send(call, *flow, wire, None);
            self.cancel = Cancelling::Sent(cancel);
        }
    }
}

impl Leg {
    /// Keeps the session description of a message to it, where we may need it.
    fn keep_session(&mut self, message: &Message<'_>) {
        if self.session.is_some()
            && let Some(session) = session_in(message)
        {
            self.session = Some(session);
        }
    }
}
