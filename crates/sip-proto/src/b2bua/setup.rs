//! From INVITE to answer: targets are called group by group, what they say is passed on, and the first that answers is
//! who the call is with (RFC 3261, sections 13 and 16.7).

use super::context::{
    Context, Invite, Numbers, Passed, Unwritable, read_challenges, request_of, reread, session_in,
};
use super::state::{Asking, Branch, Call, Leg, Outbound, Pair, Phase, Progress, Provisional, Side};
use super::{Cause, Event, Failover, Plan, Target};
use crate::draft::{Draft, ToTag};
use crate::transaction::{Client, InviteClient, Repeat};
use crate::{Dialog, HeaderName, Message, SessionTimer, Wire};
use std::time::Duration;

/// What the Reason of a CANCEL says where somebody else answered: phones then do not show a missed call (RFC 3326).
const ELSEWHERE: &str = "SIP;cause=200;text=\"Call completed elsewhere\"";

/// How an INVITE differs from the first one to a target.
#[derive(Default)]
struct Retry {
    tag: Option<std::sync::Arc<str>>,
    cseq: u32,
    asked_s: u32,
    authorization: Option<(&'static str, String)>,
    lengthened: bool,
}

impl Call {
    // ---- orders

    /// The call is to be routed so.
    pub(super) fn route(&mut self, ctx: &mut Context<'_>, mut plan: Plan) {
        if !matches!(self.head.phase, Phase::Routing { .. }) {
            return;
        }
        let mut room = ctx.settings.limits.targets;
        for group in &mut plan.groups {
            group.truncate(room);
            room -= group.len();
        }
        plan.groups.retain(|group| !group.is_empty());
        self.head.plan = Some(plan);
        self.next_group(ctx);
    }

    /// The call is to be refused.
    pub(super) fn refuse(&mut self, ctx: &mut Context<'_>, status: u16, retry_after_s: Option<u32>) {
        if matches!(self.head.phase, Phase::Routing { .. }) {
            let status = if (300..700).contains(&status) { status } else { 500 };
            self.tell_caller(ctx, status, |draft| draft.maybe("Retry-After", retry_after_s));
            self.end(ctx, Cause::Refused(status));
        }
    }

    // ---- to the caller

    pub(super) fn trying(&mut self, ctx: &mut Context<'_>) {
        self.tell_caller(ctx, 100, |draft| draft);
    }

    /// The tag of answers that are of no target's dialog.
    pub(super) fn own_tag(&self) -> String {
        format!("{}0000", self.key)
    }

    /// Answers the caller's INVITE by ourselves.
    pub(super) fn tell_caller(
        &mut self,
        ctx: &mut Context<'_>,
        status: u16,
        add: impl for<'b> FnOnce(Draft<'b>) -> Draft<'b>,
    ) {
        let Some((request, flow)) = self.invitation.as_ref().and_then(request_of) else { return };
        let Some(message) = reread(&request) else { return };
        let tag = self.own_tag();
        let tag = if status == 100 { ToTag::None } else { ToTag::Of(&tag) };
        if let Ok(wire) = ctx.response(&message, flow, status, None, tag, add) {
            self.answer_caller(ctx, status, &wire);
        }
    }

    fn answer_caller(&mut self, ctx: &mut Context<'_>, status: u16, wire: &Wire) {
        if let Some(invitation) = &mut *self.invitation {
            invitation.answer(ctx, self.key, status, wire);
        }
    }

    /// Passes a target's response to the caller; where that cannot be written, a final one becomes a 500.
    fn pass_to_caller(
        &mut self,
        ctx: &mut Context<'_>,
        code: u16,
        response: &Message<'_>,
        passed: &Passed<'_>,
    ) -> Option<Wire> {
        let (request, flow) = self.invitation.as_ref().and_then(request_of)?;
        let message = reread(&request)?;
        match ctx.passed_response(&message, flow, response, passed) {
            Ok(wire) => {
                self.answer_caller(ctx, passed.status.unwrap_or(code), &wire);
                Some(wire)
            }
            Err(Unwritable) => {
                if code >= 300 {
                    self.tell_caller(ctx, 500, |draft| draft);
                }
                None
            }
        }
    }

    // ---- to targets

    /// Calls the next group, or, where there is none, says that nobody takes the call.
    fn next_group(&mut self, ctx: &mut Context<'_>) {
        let group = self.head.plan.as_mut().and_then(|plan| {
            let ringing = plan.ringing;
            (!plan.groups.is_empty()).then(|| (plan.groups.remove(0), ringing))
        });
        let Some((group, ringing)) = group else { return self.give_up(ctx) };
        self.head.phase = Phase::Calling { until: ctx.now + ringing.max(Duration::from_secs(1)) };
        for target in group {
            let asked_s = ctx.settings.session.interval_s;
            self.invite(ctx, target, Retry { cseq: 1, asked_s, ..Retry::default() });
        }
        self.go_on(ctx);
    }

    fn invite(&mut self, ctx: &mut Context<'_>, target: Target, retry: Retry) {
        let Some((request, _)) = self.invitation.as_ref().and_then(request_of) else { return };
        let Some(message) = reread(&request) else { return };
        let id = self.new_part();
        let tag = retry.tag.unwrap_or_else(|| format!("{}-{id:04x}", self.key).into());
        let number = self.head.numbers.take(ctx.epoch);
        let least = message.min_se().unwrap_or(0).max(ctx.settings.session.min_se_s);
        let asked_s = retry.asked_s.max(least);
        let wire = ctx.invite(
            &message,
            &Invite {
                call: self.key,
                uri: &target.uri,
                flow: target.flow,
                route: target.route.as_deref(),
                tag: &tag,
                number,
                cseq: retry.cseq,
                session_s: asked_s,
                min_se_s: least,
                authorization: retry.authorization.as_ref().map(|(name, value)| (*name, value.as_str())),
                replaces: target.replaces.as_deref(),
            },
        );
        let Ok(wire) = wire else { return self.note(513, None) };
        let flow = target.flow;
        let machine = InviteClient::new(wire.clone(), ctx.is_reliable(flow), ctx.timing(), ctx.now);
        let outbound = Outbound { number, cseq: retry.cseq, flow, machine: Asking::Invite(machine) };
        let (authorized, lengthened) = (retry.authorization.is_some(), retry.lengthened);
        let branch =
            Branch { target, tag, outbound, progress: Progress::Open, asked_s, authorized, lengthened };
        self.branches.insert(id, branch);
        ctx.send(self.key, flow, wire, Some(number));
    }

    pub(super) fn new_part(&mut self) -> u16 {
        let id = self.head.next_part;
        // Wraps only after more transactions than a call can have had; numbers in use are far behind by then.
        self.head.next_part = id.checked_add(1).unwrap_or(1);
        id
    }

    // ---- from targets

    /// A target answered its INVITE.
    pub(super) fn heard_from_branch(
        &mut self,
        ctx: &mut Context<'_>,
        id: u16,
        response: &Message<'_>,
        code: u16,
    ) {
        let Some(branch) = self.branches.get_mut(id) else { return };
        let heard = branch.outbound.machine.heard(response, ctx.timing(), ctx.now);
        if let Some(ack) = heard.send {
            ctx.send(self.key, branch.outbound.flow, ack, None);
        }
        if !heard.pass {
            return;
        }
        match code {
            ..200 => self.provisional(ctx, id, response, code),
            200..300 => self.accepted(ctx, id, response, code),
            300.. => self.declined(ctx, id, response, code),
        }
    }

    fn is_calling(&self) -> bool {
        matches!(self.head.phase, Phase::Calling { .. })
    }

    fn provisional(&mut self, ctx: &mut Context<'_>, id: u16, response: &Message<'_>, code: u16) {
        let Some(branch) = self.branches.get(id) else { return };
        if let Progress::Unwanted { elsewhere } = branch.progress {
            return self.cancel_branch(ctx, id, elsewhere);
        }
        if code == 100 || !self.is_calling() || branch.progress != Progress::Open {
            return;
        }
        let label = branch.target.label.clone();
        // Without a tag it is of no dialog, at least not yet.
        let tagged = response.to().is_ok_and(|to| to.tag().is_some());
        let pair = if tagged { self.pair_of(ctx, id, response) } else { None };
        let mut rseq = None;
        if response.lists(HeaderName::Require, "100rel") && self.caller_supports("100rel") {
            let next =
                response.rseq().ok().flatten().zip(pair).and_then(|(rseq, pair)| self.take_rseq(pair, rseq));
            // Sent again, or one before it is missing: it comes again (RFC 3262, section 4).
            let Some(next) = next else { return };
            rseq = Some(next);
        }
        let tag = match pair {
            Some(pair) => caller_tag(self, pair),
            None => self.own_tag(),
        };
        let passed = Passed { rseq, negotiates: true, ..Passed::as_it_is(ToTag::Of(&tag)) };
        let Some(wire) = self.pass_to_caller(ctx, code, response, &passed) else { return };
        if let (Some(rseq), Some(pair)) = (rseq, pair.and_then(|pair| self.pairs.get_mut(pair))) {
            pair.provisional = Some(Provisional {
                response: wire,
                rseq,
                again: Repeat::after(ctx.timing().t1, ctx.now),
                give_up_at: ctx.now + ctx.timing().give_up(),
            });
        }
        if code == 180 {
            ctx.event(Event::Ringing { call: self.key, label });
        }
    }

    /// Notes a reliable provisional response of the callee; the RSeq that it has for the caller, if it is the next.
    fn take_rseq(&mut self, pair: u16, rseq: u32) -> Option<u32> {
        let pair = self.pairs.get_mut(pair)?;
        if pair.callee_rseq.is_some_and(|last| last.checked_add(1) != Some(rseq)) {
            return None;
        }
        pair.callee_rseq = Some(rseq);
        let ours = pair.caller_rseq;
        pair.caller_rseq += 1;
        Some(ours)
    }

    fn caller_supports(&self, option: &str) -> bool {
        let request = self.invitation.as_ref().and_then(|invitation| invitation.request.as_ref());
        request.and_then(reread).is_some_and(|message| {
            message.lists(HeaderName::Supported, option) || message.lists(HeaderName::Require, option)
        })
    }

    /// The dialogs that a target's response is of, made where they are new; `None` where it makes none.
    fn pair_of(&mut self, ctx: &mut Context<'_>, branch: u16, response: &Message<'_>) -> Option<u16> {
        let tag = response.to().ok()?.tag().unwrap_or_default();
        let known = self
            .pairs
            .iter()
            .find(|(_, pair)| pair.branch == branch && pair.callee.dialog.remote_tag().as_bytes() == tag);
        if let Some((id, _)) = known {
            return Some(id);
        }
        if self.pairs.len() >= ctx.settings.limits.dialogs {
            return None;
        }
        let callee = self.callee_leg(ctx, branch, response)?;
        let id = self.new_part();
        let caller = self.caller_leg(ctx, id);
        let invite_cseq = self.branches.get(branch)?.outbound.cseq;
        let pair = Pair {
            branch,
            caller,
            callee,
            invite_cseq,
            acknowledged: false,
            ack: None,
            callee_rseq: None,
            // Below 2^31, as section 3 of RFC 3262 wants; any number will do.
            caller_rseq: 1 + u32::from(id),
            provisional: None,
        };
        self.pairs.insert(id, pair);
        Some(id)
    }

    fn callee_leg(&self, ctx: &Context<'_>, branch: u16, response: &Message<'_>) -> Option<Leg> {
        let branch = self.branches.get(branch)?;
        // All that a dialog takes from our own INVITE is in its response as well.
        let dialog = Dialog::of_response(response, response, ctx.epoch).ok()?;
        Some(Leg {
            dialog,
            flow: branch.outbound.flow,
            behind_nat: branch.target.behind_nat,
            allows_update: response.lists(HeaderName::Allow, "UPDATE"),
            timer: None,
            retry_at: None,
            session: None,
            gone: false,
        })
    }

    /// The caller's side of a new pair, while the caller waits.
    fn caller_leg(&self, ctx: &Context<'_>, pair: u16) -> Option<Leg> {
        let (request, flow) = self.invitation.as_ref().and_then(request_of).filter(|_| self.is_calling())?;
        let message = reread(&request)?;
        let dialog =
            Dialog::of_request(&message, format!("{}{pair:04x}", self.key).into(), ctx.epoch).ok()?;
        let named = message.via().ok().and_then(|via| via.host.parse::<std::net::IpAddr>().ok());
        Some(Leg {
            dialog,
            flow,
            behind_nat: named.is_some_and(|named| named != flow.peer.ip()),
            allows_update: message.lists(HeaderName::Allow, "UPDATE"),
            timer: None,
            retry_at: None,
            session: None,
            gone: false,
        })
    }

    /// A target answered: it is who the call is with, or somebody else is, or nobody wants it any more.
    fn accepted(&mut self, ctx: &mut Context<'_>, id: u16, response: &Message<'_>, code: u16) {
        let Some(pair) = self.pair_of(ctx, id, response) else { return };
        if let Some(branch) = self.branches.get_mut(id) {
            branch.progress = Progress::Done;
        }
        let Some(known) = self.pairs.get(pair) else { return };
        if let Some(ack) = known.ack.clone() {
            let flow = ctx.request_flow(&known.callee);
            ctx.send_again(self.key, flow, ack, None);
        } else if self.is_calling() && known.caller.is_some() {
            self.establish(ctx, id, pair, response, code);
        } else if !known.callee.dialog.is_confirmed() {
            self.dismiss(ctx, pair, response);
        }
        // Otherwise it is the answer again, and the caller's ACK is still on its way.
    }

    fn establish(&mut self, ctx: &mut Context<'_>, branch: u16, id: u16, response: &Message<'_>, code: u16) {
        let Some((request, _)) = self.invitation.as_ref().and_then(request_of) else { return };
        let Some(message) = reread(&request) else { return };
        let Some((asked_s, label)) = self.branches.get(branch).map(|b| (b.asked_s, b.target.label.clone()))
        else {
            return;
        };
        let Some(pair) = self.pairs.get_mut(id) else { return };
        pair.provisional = None;
        let knows_timer = response.value(HeaderName::SessionExpires).is_some();
        let callee = &mut pair.callee;
        // A Contact that cannot be read leaves the one of the provisional response.
        let _ = callee.dialog.confirm_by(response);
        callee.allows_update |= response.lists(HeaderName::Allow, "UPDATE");
        callee.timer = Some(SessionTimer::agreed(response, asked_s, ctx.now));
        callee.session = session_in(&message);
        // An offer that comes in the answer is answered in the ACK, which will tell (`acked`).
        if !knows_timer || !message.body.is_empty() {
            callee.drop_timer_unless(knows_timer);
        }
        let mut session = None;
        if let Some(caller) = &mut pair.caller {
            caller.dialog.confirm();
            caller.timer = SessionTimer::grant(&message, &ctx.settings.session, ctx.now).ok();
            caller.session = session_in(response);
            caller.drop_timer_unless(message.lists(HeaderName::Supported, "timer"));
            session = caller.timer.and_then(|timer| timer.granted(&message));
        }
        let tag = caller_tag(self, id);
        let passed = Passed { session, negotiates: true, ..Passed::as_it_is(ToTag::Of(&tag)) };
        if self.pass_to_caller(ctx, code, response, &passed).is_none() {
            // Too long for the caller. It is told so, and the callee let go.
            self.tell_caller(ctx, 513, |draft| draft);
            return self.end(ctx, Cause::Refused(513));
        }
        self.head.phase = Phase::Established { pair: id };
        self.head.answered_at = Some(ctx.now);
        self.head.answered_by = Some(label.clone());
        self.head.plan = None;
        self.head.best = None;
        let others: Vec<u16> =
            self.pairs.iter().map(|(other, _)| other).filter(|other| *other != id).collect();
        for other in others {
            self.pairs.remove(other);
        }
        self.unwant_branches(ctx, true);
        ctx.event(Event::Answered { call: self.key, label });
    }

    /// Somebody answered whom nobody wants any more: acknowledged and let go (RFC 3261, sections 13.2.2.4 and 16.7).
    fn dismiss(&mut self, ctx: &mut Context<'_>, id: u16, response: &Message<'_>) {
        let Some(pair) = self.pairs.get_mut(id) else { return };
        let _ = pair.callee.dialog.confirm_by(response);
        pair.caller = None;
        self.acknowledge(ctx, id, None);
        self.bye(ctx, id, Side::Callee, None);
    }

    /// Sends the ACK for a target's 2xx, once; it is kept for when that comes again.
    pub(super) fn acknowledge(&mut self, ctx: &mut Context<'_>, id: u16, theirs: Option<&Message<'_>>) {
        let transaction = self.head.numbers.take(ctx.epoch);
        let Some(pair) = self.pairs.get_mut(id).filter(|pair| !pair.acknowledged) else { return };
        let numbers = Numbers { transaction, cseq: pair.invite_cseq };
        let Ok(wire) = ctx.ack(self.key, &pair.callee, numbers, theirs) else { return };
        pair.acknowledged = true;
        pair.ack = Some(wire.clone());
        let flow = ctx.request_flow(&pair.callee);
        ctx.send(self.key, flow, wire, None);
    }

    /// Sends that ACK again where the host that sent it is not ours, and may have ended before it did: nobody takes a BYE for a
    /// call that is not established yet.
    pub(super) fn acknowledge_anew(&mut self, ctx: &mut Context<'_>, id: u16) {
        let Some(pair) = self.pairs.get(id).filter(|pair| pair.callee.dialog.is_new_to(ctx.epoch)) else {
            return;
        };
        let Some(ack) = pair.ack.clone() else { return };
        ctx.send_again(self.key, ctx.request_flow(&pair.callee), ack, None);
    }

    /// A target refused.
    fn declined(&mut self, ctx: &mut Context<'_>, id: u16, response: &Message<'_>, code: u16) {
        let Some(branch) = self.branches.get_mut(id) else { return };
        let wanted = branch.progress == Progress::Open;
        branch.progress = Progress::Done;
        let branch = branch.clone();
        self.forget_pairs_of(id);
        if !wanted || !self.is_calling() {
            return;
        }
        if let Some(retry) = retry_after(ctx, &branch, response, code) {
            return self.invite(ctx, branch.target, retry);
        }
        let retry_after_s = response.retry_after().filter(|_| code == 503).map(|retry| retry.after_s);
        let label = branch.target.label;
        ctx.event(Event::TargetFailed { call: self.key, label, status: code, retry_after_s });
        self.note(code, Some(Wire::from(response.bytes)));
        if code >= 600 {
            self.head.plan = None;
            self.unwant_branches(ctx, false);
        }
        self.go_on(ctx);
    }

    /// A target could not be reached at all, or said nothing: `status` says which.
    pub(super) fn branch_failed(&mut self, ctx: &mut Context<'_>, id: u16, status: u16) {
        let Some(branch) = self.branches.get_mut(id) else { return };
        let wanted = branch.progress == Progress::Open;
        branch.progress = Progress::Done;
        let label = branch.target.label.clone();
        self.forget_pairs_of(id);
        if wanted && self.is_calling() {
            ctx.event(Event::TargetFailed { call: self.key, label, status, retry_after_s: None });
            self.note(status, None);
            self.go_on(ctx);
        }
    }

    fn forget_pairs_of(&mut self, branch: u16) {
        let early = |pair: &Pair| pair.branch == branch && !pair.callee.dialog.is_confirmed();
        let early: Vec<u16> = self.pairs.iter().filter(|(_, pair)| early(pair)).map(|(id, _)| id).collect();
        for id in early {
            self.pairs.remove(id);
        }
    }

    // ---- failing

    /// Keeps a refusal if it is better than those before (RFC 3261, section 16.7, step 6).
    fn note(&mut self, status: u16, response: Option<Wire>) {
        let better = self.head.best.as_ref().is_none_or(|(best, _)| rank(status) < rank(*best));
        if better {
            self.head.best = Some((status, response));
        }
    }

    /// Nobody of this group has answered in time.
    pub(super) fn rang_too_long(&mut self, ctx: &mut Context<'_>) {
        self.unwant_branches(ctx, false);
        self.note(408, None);
        self.go_on(ctx);
    }

    /// Where all of a group have refused, calls the next, if what they said leaves hope, and gives up otherwise.
    fn go_on(&mut self, ctx: &mut Context<'_>) {
        let open = self.branches.iter().any(|(_, branch)| branch.progress == Progress::Open);
        if open || !self.is_calling() {
            return;
        }
        let status = self.head.best.as_ref().map_or(408, |(status, _)| *status);
        let failover = self.head.plan.as_ref().map(|plan| plan.failover);
        let hope = match failover {
            Some(Failover::Unavailable) => matches!(status, 408 | 503),
            Some(Failover::AnyFailure) => status < 600,
            None => false,
        };
        if hope { self.next_group(ctx) } else { self.give_up(ctx) }
    }

    /// Tells the caller the best of the refusals.
    fn give_up(&mut self, ctx: &mut Context<'_>) {
        let (status, response) = self.head.best.take().unwrap_or((480, None));
        // A challenge was not for the caller, and another server's 503 is not ours (RFC 3261, section 16.7, step 6).
        let told = match status {
            401 | 407 => 403,
            503 => 500,
            422 => 500,
            status => status,
        };
        let tag = self.own_tag();
        let message = response.as_ref().and_then(reread);
        match message {
            Some(message) => {
                let other = (told != status).then_some(told);
                let passed = Passed { status: other, ..Passed::as_it_is(ToTag::Of(&tag)) };
                self.pass_to_caller(ctx, status, &message, &passed);
            }
            None => self.tell_caller(ctx, told, |draft| draft),
        }
        self.end(ctx, Cause::Refused(told));
    }

    // ---- cancelling

    /// Nobody wants the branches any more that have not answered; `elsewhere`: because another one has.
    pub(super) fn unwant_branches(&mut self, ctx: &mut Context<'_>, elsewhere: bool) {
        for id in self.branches.ids() {
            let open = self.branches.get(id).is_some_and(|branch| branch.progress == Progress::Open);
            if open && let Some(branch) = self.branches.get_mut(id) {
                branch.progress = Progress::Unwanted { elsewhere };
                self.cancel_branch(ctx, id, elsewhere);
            }
        }
    }

    /// Sends CANCEL, if a provisional response came; otherwise when one comes (RFC 3261, section 9.1).
    fn cancel_branch(&mut self, ctx: &mut Context<'_>, id: u16, elsewhere: bool) {
        let Some(branch) = self.branches.get_mut(id) else { return };
        let reason = elsewhere.then_some(ELSEWHERE);
        let Asking::Invite(machine) = &branch.outbound.machine else { return };
        let Some(wire) = machine.cancel(reason) else { return };
        let flow = branch.outbound.flow;
        let cancel = Client::new(wire.clone(), ctx.is_reliable(flow), ctx.timing(), ctx.now);
        branch.progress = Progress::Cancelled { cancel, give_up_at: ctx.now + ctx.timing().give_up() };
        ctx.send(self.key, flow, wire, None);
    }
}

/// The tag that the caller knows a pair by.
fn caller_tag(call: &Call, pair: u16) -> String {
    format!("{}{pair:04x}", call.key)
}

/// The INVITE that a refusal asks for: with credentials, or for a longer session (RFC 3261, section 22; RFC 4028, section
/// 7.4).
fn retry_after(ctx: &Context<'_>, branch: &Branch, response: &Message<'_>, code: u16) -> Option<Retry> {
    let again = Retry {
        tag: Some(branch.tag.clone()),
        cseq: branch.outbound.cseq + 1,
        asked_s: branch.asked_s,
        authorization: None,
        lengthened: branch.lengthened,
    };
    match code {
        401 | 407 if !branch.authorized => {
            let user = ctx.settings.users.get(&branch.target.label)?;
            let (challenge, name) = read_challenges(code);
            let cnonce = ctx.random(u64::from(branch.outbound.number));
            let value = user.answer(response.values(challenge), "INVITE", &branch.target.uri, cnonce)?;
            Some(Retry { authorization: Some((name, value)), ..again })
        }
        422 if !branch.lengthened => {
            let asked_s = response.min_se().filter(|least| *least > branch.asked_s)?;
            Some(Retry { asked_s, lengthened: true, ..again })
        }
        _ => None,
    }
}

/// How good a refusal is; less is better. What says something about the callee is better than what says something about
/// the way there.
fn rank(status: u16) -> u8 {
    match status {
        600.. => 0,
        300..400 => 1,
        408 => 4,
        400..500 => 2,
        503 => 5,
        _ => 3,
    }
}
