//! Who is in a call: whom it calls, whose place another call takes (RFC 3891), and where parties are when their connections
//! were made anew.

use super::context::{Context, request_flow, reread};
use super::state::{Call, Cancelling, Inbound, Leg, Outbound, Phase, Progress, Side};
use super::{CallKey, Calls, Flow, Outputs, Target};
use domain::Micros;

/// A call that another one is to take the place of, on the side of whoever transfers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// The call.
    pub call: CallKey,
    /// Who stays in it, and is to be called with the new one.
    pub target: Target,
    /// Whether that is who called.
    pub is_caller: bool,
}

impl Calls {
    /// Who has room taken up by a call besides its caller: who answered it, or all that are called now, by
    /// [`Target::label`]; one with several contacts perhaps several times, one behind the other.
    pub fn called(&self, call: CallKey) -> impl Iterator<Item = &str> {
        let call = self.calls.get(&call);
        let (answered, calling) = match call.map(|call| call.head.phase) {
            Some(Phase::Established { .. }) => (call.and_then(|call| call.head.answered_by.as_deref()), None),
            Some(Phase::Calling { .. }) => (None, call),
            Some(Phase::Routing { .. } | Phase::Over { .. }) | None => (None, None),
        };
        let open = calling.into_iter().flat_map(|call| call.branches.iter());
        let open = open.filter(|(_, branch)| branch.progress == Progress::Open);
        answered.into_iter().chain(open.map(|(_, branch)| &*branch.target.label))
    }

    /// The call that an INVITE is to take the place of, as its Replaces says; none where it has none. Otherwise the status
    /// that says why not (RFC 3891, section 3).
    #[must_use]
    pub fn replaced(&self, by: CallKey) -> Option<Result<Replaced, u16>> {
        let message = reread(self.invite(by)?)?;
        let replaces = match message.replaces() {
            Ok(replaces) => replaces?,
            Err(_) => return Some(Err(400)),
        };
        let call = CallKey::of_tag(replaces.to_tag.as_bytes()).and_then(|key| self.calls.get(&key));
        let tags = (replaces.call_id, replaces.to_tag, replaces.from_tag);
        let Some((call, (pair, side))) = call.and_then(|call| Some((call, call.dialog_of(tags)?))) else {
            return Some(Err(481));
        };
        let (Some(from), Some(stays)) = (call.leg(pair, side), call.leg(pair, side.other())) else {
            return Some(Err(481));
        };
        Some(match call.head.phase {
            Phase::Over { .. } => Err(603),
            Phase::Established { .. } if from.gone || stays.gone => Err(603),
            Phase::Established { .. } if replaces.early_only => Err(486),
            Phase::Established { .. } => Ok(Replaced {
                call: call.key,
                target: self.target_of(call, stays, side.other()),
                is_caller: side == Side::Callee,
            }),
            // Who is transferred could only take the place of somebody who rings.
            Phase::Routing { .. } | Phase::Calling { .. } => Err(481),
        })
    }

    /// A side of a call, as somebody to be called who then gives up that call.
    fn target_of(&self, call: &Call, leg: &Leg, side: Side) -> Target {
        let label = match side {
            Side::Callee => call.head.answered_by.clone().unwrap_or_default(),
            Side::Caller => Box::default(),
        };
        let dialog = &leg.dialog;
        let (theirs, ours) = (dialog.remote_tag(), dialog.local_tag());
        Target {
            uri: dialog.remote_target().into(),
            flow: request_flow(&self.settings, leg),
            behind_nat: leg.behind_nat,
            route: dialog.routes().map(|routes| String::from_utf8_lossy(routes).into()),
            label,
            replaces: Some(format!("{};to-tag={theirs};from-tag={ours}", dialog.call_id()).into()),
        }
    }

    /// Somebody who was reached by one connection (TCP, TLS) is now reached by another: so are the calls that go over it.
    /// What waits for an answer there is sent again.
    pub fn moved(&mut self, from: Flow, to: Flow, now: Micros, out: &mut Outputs) {
        let now = self.clock(now);
        let over = |key: u64| (from, CallKey(key));
        let concerned = self.streams.range(over(0)..=over(u64::MAX));
        let concerned: Vec<CallKey> = concerned.map(|(_, call)| *call).collect();
        for call in concerned {
            self.with(call, now, out, |call, ctx| call.moved(ctx, from, to));
        }
    }
}

impl Call {
    fn leg(&self, pair: u16, side: Side) -> Option<&Leg> {
        self.pairs.get(pair).and_then(|pair| pair.leg(side))
    }

    /// All ways that something of it goes.
    pub(super) fn flows(&self) -> impl Iterator<Item = Flow> {
        let legs = self.pairs.iter().flat_map(|(_, pair)| pair.caller.iter().chain([&pair.callee]));
        let inbounds = self.exchanges.iter().filter_map(|(_, exchange)| exchange.inbound.as_ref());
        let inbounds = self.invitation.iter().chain(inbounds);
        let outbounds = self.exchanges.iter().filter_map(|(_, exchange)| exchange.outbound.as_ref());
        let outbounds = self.branches.iter().map(|(_, branch)| &branch.outbound).chain(outbounds);
        legs.map(|leg| leg.flow)
            .chain(inbounds.map(|inbound| inbound.reply))
            .chain(outbounds.map(|outbound| outbound.flow))
    }

    fn moved(&mut self, ctx: &mut Context<'_>, from: Flow, to: Flow) {
        let key = self.key;
        for id in self.pairs.ids() {
            for side in [Side::Caller, Side::Callee] {
                let there = self.leg(id, side).is_some_and(|leg| leg.flow == from);
                if there && let Some(leg) = self.pairs.get_mut(id).and_then(|pair| pair.leg_mut(side)) {
                    leg.flow = to;
                }
            }
        }
        if self.invitation.as_ref().is_some_and(|inbound| inbound.is_by(from))
            && let Some(inbound) = &mut *self.invitation
        {
            inbound.moved(ctx, key, to);
        }
        for id in self.branches.ids() {
            if self.branches.get(id).is_some_and(|branch| branch.outbound.flow == from)
                && let Some(branch) = self.branches.get_mut(id)
            {
                branch.target.flow = to;
                branch.outbound.moved(ctx, key, to);
                if let Progress::Cancelled { cancel, .. } = &branch.progress
                    && let Some(wire) = cancel.unanswered().cloned()
                {
                    ctx.send_again(key, to, wire, None);
                }
            }
        }
        for id in self.exchanges.ids() {
            let Some(exchange) = self.exchanges.get(id) else { continue };
            let came = exchange.inbound.as_ref().is_some_and(|inbound| inbound.is_by(from));
            let goes = exchange.outbound.as_ref().is_some_and(|outbound| outbound.flow == from);
            if !came && !goes {
                continue;
            }
            let Some(exchange) = self.exchanges.get_mut(id) else { continue };
            if came && let Some(inbound) = &mut exchange.inbound {
                inbound.moved(ctx, key, to);
            }
            if goes && let Some(outbound) = &mut exchange.outbound {
                outbound.moved(ctx, key, to);
                if let Cancelling::Sent(cancel) = &exchange.cancel
                    && let Some(wire) = cancel.unanswered().cloned()
                {
                    ctx.send_again(key, to, wire, None);
                }
            }
        }
    }
}

impl Inbound {
    fn is_by(&self, flow: Flow) -> bool {
        self.flow == flow || self.reply == flow
    }

    /// What was answered may not have arrived.
    fn moved(&mut self, ctx: &mut Context<'_>, call: CallKey, to: Flow) {
        (self.flow, self.reply) = (to, to);
        let answer = self.answer.as_ref().map(|answer| answer.response.clone());
        if let Some(wire) = answer.or_else(|| self.machine.heard_again().send) {
            ctx.send_again(call, to, wire, None);
        }
    }
}

impl Outbound {
    fn moved(&mut self, ctx: &mut Context<'_>, call: CallKey, to: Flow) {
        self.flow = to;
        if let Some(wire) = self.machine.unanswered().cloned() {
            ctx.send_again(call, to, wire, Some(self.number));
        }
    }
}
