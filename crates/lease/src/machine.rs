//! One seat's machine for one pair: a voter, and, where the seat is an agent's, a candidate beside it.

use crate::memory::Memory;
use crate::voter::{Entitled, Standing, Voter, from_index};
use crate::{Body, Kind, Output, Refusal, Seat, Timing, Why};
use domain::{Epoch, Member, Micros};
use std::time::Duration;

mod set_back;

/// What an agent wants for its own host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Want {
    /// Nothing: there is no server here that could use the VIP.
    #[default]
    Nothing,
    /// To hold in case: the server is a ready backup.
    Standby,
    /// To hold: the server is, or is becoming, primary by this grant.
    Hold {
        /// The epoch of the grant.
        granted: Epoch,
    },
}

/// The machine. Every input comes with the time; all outputs are appended, in the order in which they are to be carried
/// out. Nothing in it is ever wrong for being called late.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Machine {
    seat: Seat,
    timing: Timing,
    voter: Voter,
    /// Unused at the SCS.
    candidate: Candidate,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
struct Candidate {
    want: Want,
    /// Found in the memory, and not yet said what is wanted: what is held is neither renewed nor let go.
    resumed: bool,
    /// The epoch that is asked under.
    epoch: Epoch,
    /// How long a lease under that epoch lasts: as long as its asks say, whatever the settings are by now.
    hold: Duration,
    /// The newest anchor that each seat promised under that epoch.
    anchors: [Option<Micros>; 3],
    held: Option<Held>,
    next_ask: Micros,
    /// What was let go is told again until every promise has run out: a release may get lost.
    telling: Option<Telling>,
}

/// A lease held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Held {
    pub epoch: Epoch,
    pub until: Micros,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Telling {
    epoch: Epoch,
    why: Why,
    next: Micros,
    until: Micros,
}

impl Machine {
    /// A machine without memory: it neither promises nor asks for `l_v` (R4), however often it is made anew meanwhile.
    /// `seen` is the greatest epoch that is on record anywhere.
    #[must_use]
    pub fn new(seat: Seat, timing: Timing, seen: Epoch, now: Micros) -> Self {
        let quiet = now + timing.promise();
        let mut voter = Voter::new(timing);
        voter.quarantine = Some(quiet);
        voter.seen = seen;
        Self { seat, timing, voter, candidate: Candidate { next_ask: quiet, ..Candidate::default() } }
    }

    /// Keeps a quarantine up for `promise` at least: promises may be out that were given for longer than these settings say.
    #[must_use]
    pub fn quiet_for(mut self, promise: Duration, now: Micros) -> Self {
        let quiet = self.voter.quarantine.map(|until| until.max(now + promise));
        self.voter.quarantine = quiet;
        self.candidate.next_ask = quiet.unwrap_or(self.candidate.next_ask);
        self
    }

    /// The machine of an agent that crashed, from what it left. Where it does not say that the lease was held, the gate is
    /// closed again: the crash may have come before that was done.
    #[must_use]
    pub fn resume(
        member: Member,
        timing: Timing,
        memory: &Memory,
        now: Micros,
        out: &mut Vec<Output>,
    ) -> Self {
        let mut voter = Voter::new(timing);
        (voter.quarantine, voter.given, voter.seen, voter.granted) =
            (memory.quarantine, memory.given, memory.seen, memory.granted);
        let mut machine = Self {
            seat: Seat::Member(member),
            timing,
            voter,
            candidate: Candidate {
                resumed: memory.held.is_some(),
                epoch: memory.epoch,
                hold: memory.hold,
                anchors: memory.anchors,
                held: memory.held,
                next_ask: memory.quarantine.unwrap_or(now).max(now),
                ..Candidate::default()
            },
        };
        if memory.held.is_none() && memory.epoch > Epoch(0) {
            out.push(Output::Close { epoch: memory.epoch });
            machine.next_term();
        }
        machine.expire(now, out);
        machine
    }

    /// The gate of this host refuses this epoch and all below it, whoever fenced them off and whether it is remembered: what
    /// is asked for is above.
    pub fn fenced_off(&mut self, epoch: Epoch) {
        self.voter.seen = self.voter.seen.max(Epoch(epoch.0.saturating_add(1)));
    }

    /// What must survive a crash. To be kept after each input, before the outputs are carried out.
    #[must_use]
    pub fn memory(&self) -> Memory {
        Memory {
            quarantine: self.voter.quarantine,
            given: self.voter.given,
            seen: self.voter.seen,
            granted: self.voter.granted,
            epoch: self.candidate.epoch,
            hold: self.candidate.hold,
            anchors: self.candidate.anchors,
            held: self.candidate.held,
        }
    }

    /// Other durations from now on. Promises given stay as they are, and so does a lease until it is asked for anew.
    pub fn set_timing(&mut self, timing: Timing) {
        self.timing = timing;
        self.voter.timing = timing;
    }

    /// What is wanted for this host. Wanting less than to hold lets a lease go: `why` says for what reason.
    /// `hand_over`: the promise of this seat goes to the other member's standing request along with the release, because
    /// nobody else is there to decide.
    pub fn want(&mut self, want: Want, why: Why, hand_over: bool, now: Micros, out: &mut Vec<Output>) {
        self.expire(now, out);
        let resumed = std::mem::take(&mut self.candidate.resumed);
        let before = std::mem::replace(&mut self.candidate.want, want);
        match want {
            Want::Hold { granted } => {
                self.voter.granted = self.voter.granted.max(granted);
                self.candidate.telling = None;
                if before != want || resumed {
                    self.ask(now, out);
                }
            }
            Want::Standby | Want::Nothing => {
                if matches!(before, Want::Hold { .. }) || resumed {
                    self.let_go(why, hand_over, now, out);
                }
                if want == Want::Standby && before != Want::Standby {
                    self.ask(now, out);
                }
            }
        }
        self.settle(now, out);
    }

    /// Whom the SCS wants (only its own seat asks).
    pub fn entitle(&mut self, entitled: Entitled, now: Micros, out: &mut Vec<Output>) {
        self.expire(now, out);
        self.voter.entitled = entitled;
        if let Entitled::Only { granted, .. } = entitled {
            self.voter.granted = self.voter.granted.max(granted);
        }
        self.settle(now, out);
    }

    /// Takes in what another voter says.
    pub fn hear(&mut self, from: Seat, body: Body, now: Micros, out: &mut Vec<Output>) {
        self.expire(now, out);
        match (body, from) {
            (_, from) if from == self.seat => {}
            (Body::Ask { epoch, at, hold_us, kind }, Seat::Member(member)) => {
                self.asked(member, Standing { epoch, at, kind, heard: now }, hold_us, now, out);
            }
            (Body::Release { epoch, why }, Seat::Member(member)) => {
                if self.voter.released(member, epoch) {
                    out.push(Output::Released { by: member, epoch, why });
                }
            }
            (Body::Promise { epoch, at }, _) => self.promised(from, epoch, at, now, out),
            (Body::Reject { seen, granted, why }, _) => self.rejected(seen, granted, why, now, out),
            // The SCS never holds.
            (Body::Ask { .. } | Body::Release { .. }, Seat::Scs) => {}
        }
        self.settle(now, out);
    }

    /// Another voter can be reached that could not: what it did not hear is asked again, out of turn.
    pub fn reached(&mut self, now: Micros, out: &mut Vec<Output>) {
        self.expire(now, out);
        if self.candidate.want != Want::Nothing {
            self.ask(now, out);
        }
        self.settle(now, out);
    }

    /// Does what is due.
    pub fn time_passed(&mut self, now: Micros, out: &mut Vec<Output>) {
        self.expire(now, out);
        if self.candidate.want != Want::Nothing && self.candidate.next_ask <= now {
            self.ask(now, out);
        }
        self.tell(now, out);
        self.settle(now, out);
    }

    /// When [`Machine::time_passed`] is due next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Micros> {
        let candidate = &self.candidate;
        let ask = (candidate.want != Want::Nothing).then_some(candidate.next_ask);
        let held = candidate.held.map(|held| held.until);
        let telling = candidate.telling.map(|telling| telling.next);
        [self.voter.next_deadline(), ask, held, telling].into_iter().flatten().min()
    }

    /// The lease held: its epoch, and until when.
    #[must_use]
    pub fn held(&self) -> Option<(Epoch, Micros)> {
        self.candidate.held.map(|held| (held.epoch, held.until))
    }

    /// What is wanted for this host.
    #[must_use]
    pub fn wanted(&self) -> Want {
        self.candidate.want
    }

    /// How many other voters confirm the holder, 0 to 2: with 2 any single loss is survived.
    #[must_use]
    pub fn backing(&self, now: Micros) -> usize {
        let others = Seat::ALL.into_iter().filter(|seat| *seat != self.seat);
        others
            .filter_map(|seat| self.candidate.anchors[seat.index()])
            .filter(|at| *at + self.candidate.hold > now)
            .count()
    }

    /// The member that has this voter's promise, and until when.
    #[must_use]
    pub fn promised_to(&self) -> Option<(Member, Epoch, Micros)> {
        self.voter.given.map(|given| (given.to, given.epoch, given.until))
    }

    /// The greatest epoch that this seat knows of.
    #[must_use]
    pub fn seen(&self) -> Epoch {
        self.voter.seen.max(self.candidate.epoch)
    }

    /// The newest grant of the primary role that this seat knows of.
    #[must_use]
    pub fn granted(&self) -> Epoch {
        self.voter.granted
    }

    /// The epoch of a grant that a member would give itself: that of its standing request, where there is one, so that
    /// promises on it count.
    #[must_use]
    pub fn next_grant(&self) -> Epoch {
        let Some(me) = self.me() else { return self.voter.seen };
        let epoch = self.candidate.epoch;
        if is_of(epoch, me) && epoch >= self.voter.seen && epoch > self.voter.granted {
            epoch
        } else {
            epoch.max(self.voter.seen).max(self.voter.granted).next_of(me)
        }
    }

    /// Whether the other member stands by: its request was repeated when it should have been.
    #[must_use]
    pub fn other_stands_by(&self, now: Micros) -> bool {
        let standing = self.me().and_then(|me| self.voter.standing[from_index(me.other())]);
        standing.is_some_and(|standing| now.since(standing.heard) < self.timing.every() * 5 / 2)
    }

    /// Its durations.
    #[must_use]
    pub fn timing(&self) -> Timing {
        self.timing
    }

    fn me(&self) -> Option<Member> {
        match self.seat {
            Seat::Member(member) => Some(member),
            Seat::Scs => None,
        }
    }

    /// First in every input: what has run out by now does not count any more, however long ago it should have been noticed.
    fn expire(&mut self, now: Micros, out: &mut Vec<Output>) {
        self.voter.time_passed(now);
        if let Some(held) = self.candidate.held.filter(|held| held.until <= now) {
            self.candidate.held = None;
            self.candidate.resumed = false;
            out.push(Output::Lost { epoch: held.epoch });
        }
    }

    /// Last in every input: the vote may have become free for a request that stands.
    fn settle(&mut self, now: Micros, out: &mut Vec<Output>) {
        if let (Some(me), Want::Hold { .. }) = (self.me(), self.candidate.want) {
            // The role was granted here later: the vote is one's own as soon as it is free. A standby's request stands on.
            let theirs = &mut self.voter.standing[from_index(me.other())];
            if theirs.is_some_and(|standing| matches!(standing.kind, Kind::Hold { .. })) {
                *theirs = None;
            }
        }
        if let Some((member, body)) = self.voter.answer_standing(now) {
            if Some(member) == self.me() {
                if let Body::Promise { epoch, at } = body {
                    self.promised(self.seat, epoch, at, now, out);
                }
            } else {
                out.push(Output::Send(Seat::Member(member), body));
            }
        }
    }

    /// The other member asks.
    fn asked(&mut self, from: Member, asked: Standing, hold_us: u32, now: Micros, out: &mut Vec<Output>) {
        if let (Kind::Hold { granted: theirs }, Want::Hold { granted: mine }) =
            (asked.kind, self.candidate.want)
        {
            if theirs < mine {
                let (seen, why) = (self.voter.seen, Refusal::Outdated);
                out.push(Output::Send(Seat::Member(from), Body::Reject { seen, granted: mine, why }));
                return;
            }
            // Of two that go by the same grant, such as none at all, neither is outdated: votes decide.
            if theirs > mine {
                self.outdated(theirs, now, out);
            }
        }
        if let Some(body) = self.voter.ask(from, asked, hold_us, now) {
            out.push(Output::Send(Seat::Member(from), body));
        }
    }

    /// A voter promised.
    fn promised(&mut self, from: Seat, epoch: Epoch, at: Micros, now: Micros, out: &mut Vec<Output>) {
        // An anchor that is still to come is nobody's honest answer.
        if epoch != self.candidate.epoch || at > now || self.candidate.want == Want::Nothing {
            return;
        }
        let anchor = &mut self.candidate.anchors[from.index()];
        *anchor = (*anchor).max(Some(at));
        self.count(now, out);
    }

    /// Whether two voters promise, and until when.
    fn count(&mut self, now: Micros, out: &mut Vec<Output>) {
        if !matches!(self.candidate.want, Want::Hold { .. }) {
            return;
        }
        let mut anchors = self.candidate.anchors;
        anchors.sort_unstable();
        let [_, Some(second), _] = anchors else { return };
        let (epoch, until) = (self.candidate.epoch, second + self.candidate.hold);
        let longer = self.candidate.held.is_none_or(|held| held.epoch < epoch || held.until < until);
        if until > now && longer {
            self.candidate.held = Some(Held { epoch, until });
            out.push(Output::Open { epoch, until });
        }
    }

    fn rejected(&mut self, seen: Epoch, granted: Epoch, why: Refusal, now: Micros, out: &mut Vec<Output>) {
        let Want::Hold { granted: mine } = self.candidate.want else { return };
        match why {
            Refusal::Outdated if granted > mine => self.outdated(granted, now, out),
            // A voter's vote moved on: under a higher epoch it counts again. The gate stays open under the old one.
            Refusal::Epoch if seen > self.candidate.epoch => {
                self.voter.seen = self.voter.seen.max(seen);
                self.ask(now, out);
            }
            Refusal::Promised
            | Refusal::Quarantine
            | Refusal::Epoch
            | Refusal::Outdated
            | Refusal::Timing => {}
        }
    }

    /// Asks the others, and oneself.
    fn ask(&mut self, now: Micros, out: &mut Vec<Output>) {
        let Some(me) = self.me() else { return };
        if self.voter.quarantine.is_some() && self.candidate.held.is_none() {
            self.candidate.next_ask = self.voter.quarantine.unwrap_or(now);
            return;
        }
        self.candidate.next_ask = self.next_beat(now);
        let kind = match self.candidate.want {
            Want::Nothing => return,
            Want::Standby => Kind::Standby,
            Want::Hold { granted } => Kind::Hold { granted },
        };
        self.choose_epoch(me);
        let epoch = self.candidate.epoch;
        let hold_us = u32::try_from(self.candidate.hold.as_micros()).unwrap_or(u32::MAX);
        let ask = Body::Ask { epoch, at: now, hold_us, kind };
        out.push(Output::Send(Seat::Scs, ask));
        out.push(Output::Send(Seat::Member(me.other()), ask));
        if let Kind::Hold { .. } = kind {
            let mine = Standing { epoch, at: now, kind, heard: now };
            if let Some(Body::Promise { epoch, at }) = self.voter.ask(me, mine, hold_us, now) {
                self.promised(self.seat, epoch, at, now, out);
            }
        }
    }

    /// When to ask next: on the beat of the asks before, also after one out of turn or late. Pairs that were configured
    /// together have the same beat, so that their asks travel together.
    fn next_beat(&self, now: Micros) -> Micros {
        let (beat, every) = (self.candidate.next_ask, self.timing.every());
        if beat > now {
            return beat.min(now + every);
        }
        let missed = now.since(beat).as_micros() / every.as_micros();
        beat + every * u32::try_from(missed + 1).unwrap_or(u32::MAX)
    }

    /// The epoch to ask under: one's own, not below the grant, nor below what anybody was promised. Promises for a lease of
    /// another length do not count for this one (R2): it has an epoch of its own.
    fn choose_epoch(&mut self, me: Member) {
        let mut epoch = self.candidate.epoch;
        if let Want::Hold { granted } = self.candidate.want
            && is_of(granted, me)
        {
            epoch = epoch.max(granted);
        }
        let hold = self.timing.hold();
        let other_length = epoch == self.candidate.epoch && hold != self.candidate.hold;
        if !is_of(epoch, me) || epoch < self.voter.seen || other_length {
            epoch = epoch.max(self.voter.seen).next_of(me);
        }
        if epoch != self.candidate.epoch {
            self.candidate.epoch = epoch;
            self.candidate.hold = hold;
            self.candidate.anchors = [None; 3];
        }
    }

    /// The other member's grant is newer: it is its turn.
    fn outdated(&mut self, granted: Epoch, now: Micros, out: &mut Vec<Output>) {
        out.push(Output::Outdated { granted });
        self.voter.granted = self.voter.granted.max(granted);
        self.candidate.want = Want::Nothing;
        self.let_go(Why::Outdated, false, now, out);
    }

    /// R5: closed and fenced first, told then.
    fn let_go(&mut self, why: Why, hand_over: bool, now: Micros, out: &mut Vec<Output>) {
        let Some(me) = self.me() else { return };
        let epoch = self.candidate.epoch;
        out.push(Output::Close { epoch });
        self.voter.released(me, epoch);
        self.next_term();
        self.candidate.telling = Some(Telling { epoch, why, next: now, until: now + self.timing.promise() });
        self.tell(now, out);
        if hand_over && let Some(body) = self.voter.hand_over(me.other(), now) {
            out.push(Output::Send(Seat::Member(me.other()), body));
        }
    }

    /// What was promised for this term is of no use in the next.
    fn next_term(&mut self) {
        let Some(me) = self.me() else { return };
        let candidate = &mut self.candidate;
        candidate.held = None;
        candidate.anchors = [None; 3];
        self.voter.seen = self.voter.seen.max(candidate.epoch);
        candidate.epoch = self.voter.seen.next_of(me);
    }

    fn tell(&mut self, now: Micros, out: &mut Vec<Output>) {
        let Some(me) = self.me() else { return };
        let Some(telling) = self.candidate.telling.filter(|telling| telling.next <= now) else { return };
        let body = Body::Release { epoch: telling.epoch, why: telling.why };
        out.push(Output::Send(Seat::Member(me.other()), body));
        out.push(Output::Send(Seat::Scs, body));
        let next = now + self.timing.every();
        self.candidate.telling = (next < telling.until).then_some(Telling { next, ..telling });
    }
}

fn is_of(epoch: Epoch, member: Member) -> bool {
    epoch > Epoch(0) && Epoch(epoch.0 - 1).next_of(member) == epoch
}
