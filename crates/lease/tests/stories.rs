//! The machine in short stories: three seats, a network that delivers at once unless it is cut, and a gate per host that
//! obeys as the kernel does.

#![allow(clippy::unwrap_used, reason = "tests")]

use domain::{Epoch, Member, Micros, Profile};
use lease::{Body, Entitled, Kind, MEMORY_LEN, Machine, Memory, Output, Seat, Timing, Want, Why};
use std::collections::VecDeque;
use std::time::Duration;

const FIRST: Seat = Seat::Member(Member::First);
const SECOND: Seat = Seat::Member(Member::Second);
const H: u64 = 100_000;

#[derive(Default, Clone, Copy)]
struct Gate {
    epoch: Epoch,
    until: Micros,
    fence: Epoch,
}

struct World {
    now: Micros,
    machines: [Machine; 3],
    alive: [bool; 3],
    gates: [Gate; 2],
    cuts: Vec<(Seat, Seat)>,
    happened: Vec<(Seat, Output)>,
}

impl World {
    /// Everybody has been up for longer than the quarantine.
    fn new() -> Self {
        let timing = Timing::from(Profile::Normal);
        let machines = Seat::ALL.map(|seat| Machine::new(seat, timing, Epoch(0), Micros(0)));
        let mut world = Self {
            now: Micros(0),
            machines,
            alive: [true; 3],
            gates: [Gate::default(); 2],
            cuts: Vec::new(),
            happened: Vec::new(),
        };
        world.run(1_000_000);
        world
    }

    /// First holds, Second stands by, the SCS wants First.
    fn settled() -> Self {
        let mut world = Self::new();
        world.entitle(Member::First, 2);
        world.want(FIRST, Want::Hold { granted: Epoch(2) });
        world.want(SECOND, Want::Standby);
        world.run(H);
        assert_eq!(world.open(), Some(Member::First));
        world
    }

    fn act(&mut self, seat: Seat, input: impl FnOnce(&mut Machine, Micros, &mut Vec<Output>)) {
        let mut queue = VecDeque::new();
        let mut out = Vec::new();
        if !self.alive[seat.index()] {
            return;
        }
        input(&mut self.machines[seat.index()], self.now, &mut out);
        self.carry_out(seat, out, &mut queue);
        while let Some((from, to, body)) = queue.pop_front() {
            if !self.alive[to.index()] || self.cuts.contains(&(from, to)) {
                continue;
            }
            let mut out = Vec::new();
            self.machines[to.index()].hear(from, body, self.now, &mut out);
            self.carry_out(to, out, &mut queue);
        }
        self.check();
    }

    fn carry_out(&mut self, seat: Seat, out: Vec<Output>, queue: &mut VecDeque<(Seat, Seat, Body)>) {
        for output in out {
            match output {
                Output::Send(to, body) => queue.push_back((seat, to, body)),
                Output::Open { epoch, until } => {
                    let gate = &mut self.gates[seat.index()];
                    (gate.epoch, gate.until) = (epoch, until);
                }
                Output::Close { epoch } => {
                    let gate = &mut self.gates[seat.index()];
                    gate.fence = gate.fence.max(Epoch(epoch.0 + 1));
                    gate.until = Micros(0);
                }
                Output::Lost { .. } | Output::Outdated { .. } | Output::Released { .. } => {}
            }
            self.happened.push((seat, output));
        }
    }

    fn open_gates(&self) -> Vec<Member> {
        let is_open = |gate: &Gate| gate.epoch >= gate.fence && self.now < gate.until;
        [Member::First, Member::Second]
            .into_iter()
            .zip(&self.gates)
            .filter(|(_, g)| is_open(g))
            .map(|(m, _)| m)
            .collect()
    }

    fn check(&self) {
        assert!(self.open_gates().len() < 2, "two gates are open at {}", self.now);
    }

    fn open(&self) -> Option<Member> {
        self.open_gates().first().copied()
    }

    /// Lets time pass, in steps of a millisecond.
    fn run(&mut self, us: u64) {
        let end = self.now + Duration::from_micros(us);
        while self.now < end {
            self.now += Duration::from_millis(1);
            for seat in Seat::ALL {
                if self.machines[seat.index()].next_deadline().is_some_and(|at| at <= self.now) {
                    self.act(seat, Machine::time_passed);
                }
            }
            self.check();
        }
    }

    fn want(&mut self, seat: Seat, want: Want) {
        self.act(seat, |machine, now, out| machine.want(want, Why::Ordered, false, now, out));
    }

    fn fail(&mut self, seat: Seat, hand_over: bool) {
        self.act(seat, |machine, now, out| machine.want(Want::Nothing, Why::Failed, hand_over, now, out));
    }

    fn entitle(&mut self, member: Member, granted: u64) {
        let entitled = Entitled::Only { member, granted: Epoch(granted) };
        self.act(Seat::Scs, |machine, now, out| machine.entitle(entitled, now, out));
    }

    fn cut(&mut self, a: Seat, b: Seat) {
        self.cuts.extend([(a, b), (b, a)]);
    }

    fn held(&self, seat: Seat) -> Option<Epoch> {
        self.machines[seat.index()].held().map(|(epoch, _)| epoch)
    }

    fn backing(&self, seat: Seat) -> usize {
        self.machines[seat.index()].backing(self.now)
    }

    /// Until the gate of `member` is open; how long that took, microseconds.
    fn until_open(&mut self, member: Member, limit: u64) -> u64 {
        let begun = self.now;
        while self.open() != Some(member) {
            assert!(self.now.since(begun) < Duration::from_micros(limit), "{member:?} is not open in time");
            self.run(1_000);
        }
        u64::try_from(self.now.since(begun).as_micros()).unwrap()
    }
}

#[test]
fn a_holder_is_confirmed_by_both_others() {
    let mut world = World::settled();
    assert_eq!(world.backing(FIRST), 2);
    assert_eq!(world.held(FIRST), Some(Epoch(2)));
    for _ in 0..50 {
        world.run(H);
        assert_eq!(world.open(), Some(Member::First));
    }
}

#[test]
fn any_single_link_or_voter_may_be_lost() {
    for lost in [FIRST, SECOND, Seat::Scs] {
        let mut world = World::settled();
        if lost == FIRST {
            // The holder's own vote cannot be lost without the holder; the link between the two others can.
            world.cut(SECOND, Seat::Scs);
        } else {
            world.alive[lost.index()] = false;
        }
        for _ in 0..1_000 {
            world.run(H / 20);
            assert_eq!(world.open(), Some(Member::First), "{lost} lost");
        }
        assert_eq!(world.backing(FIRST), if lost == FIRST { 2 } else { 1 });
    }
}

#[test]
fn a_cut_holder_closes_before_the_other_opens() {
    let mut world = World::settled();
    world.cut(FIRST, SECOND);
    world.cut(FIRST, Seat::Scs);
    world.run(450_000);
    assert_eq!(world.open(), None);
    world.entitle(Member::Second, 3);
    world.want(SECOND, Want::Hold { granted: Epoch(3) });
    world.until_open(Member::Second, 10_000);
    assert_eq!(world.held(SECOND), Some(Epoch(3)));
    // Healed: the old holder learns that it is outdated.
    world.cuts.clear();
    world.run(2 * H);
    assert!(world.happened.contains(&(FIRST, Output::Outdated { granted: Epoch(3) })));
    assert_eq!(world.open(), Some(Member::Second));
}

#[test]
fn a_standing_request_is_answered_the_moment_the_role_is_free() {
    let mut world = World::settled();
    world.fail(FIRST, false);
    assert_eq!(world.open(), None);
    // The SCS decides; its vote goes out before its instruction.
    world.entitle(Member::Second, 3);
    world.cut(SECOND, Seat::Scs);
    world.cut(SECOND, FIRST);
    world.want(SECOND, Want::Hold { granted: Epoch(3) });
    assert_eq!(world.open(), Some(Member::Second), "without another message");
}

#[test]
fn without_the_scs_a_failed_holder_hands_over() {
    let mut world = World::settled();
    world.alive[Seat::Scs.index()] = false;
    world.run(5 * H);
    world.fail(FIRST, true);
    let told = world.happened.iter().any(|(seat, output)| {
        *seat == SECOND && matches!(output, Output::Released { by: Member::First, why: Why::Failed, .. })
    });
    assert!(told);
    world.cut(SECOND, FIRST);
    let granted = world.machines[SECOND.index()].next_grant();
    assert_eq!(granted, Epoch(3));
    world.want(SECOND, Want::Hold { granted });
    assert_eq!(world.open(), Some(Member::Second));
}

#[test]
fn silence_alone_moves_nothing() {
    let mut world = World::settled();
    world.alive[Seat::Scs.index()] = false;
    world.alive[FIRST.index()] = false;
    world.want(SECOND, Want::Hold { granted: Epoch(3) });
    world.run(100 * H);
    assert_eq!(world.open(), None, "one vote of three is not two");
}

#[test]
fn the_newer_grant_wins_even_when_the_scs_dies_before_it_told_the_older() {
    let mut world = World::settled();
    world.cut(FIRST, Seat::Scs);
    world.run(5 * H);
    assert_eq!(world.open(), Some(Member::First), "the peer goes on confirming");
    world.want(SECOND, Want::Hold { granted: Epoch(3) });
    world.alive[Seat::Scs.index()] = false;
    world.until_open(Member::Second, 2 * H);
    assert!(world.happened.contains(&(FIRST, Output::Outdated { granted: Epoch(3) })));
}

#[test]
fn a_lost_release_costs_no_more_than_the_promise() {
    let mut world = World::settled();
    world.cut(FIRST, SECOND);
    world.cut(FIRST, Seat::Scs);
    world.fail(FIRST, false);
    world.entitle(Member::Second, 3);
    world.want(SECOND, Want::Hold { granted: Epoch(3) });
    let took = world.until_open(Member::Second, 500_000);
    assert!(took > 300_000, "the promises had to run out: {took} us");
}

#[test]
fn a_release_that_came_late_is_no_release_of_the_next_term() {
    let mut world = World::settled();
    world.fail(FIRST, false);
    world.run(H);
    world.entitle(Member::First, 4);
    world.want(FIRST, Want::Hold { granted: Epoch(4) });
    assert_eq!(world.open(), Some(Member::First));
    let late = Body::Release { epoch: Epoch(2), why: Why::Failed };
    world.act(SECOND, |machine, now, out| machine.hear(FIRST, late, now, out));
    assert_eq!(world.machines[SECOND.index()].promised_to().map(|(to, ..)| to), Some(Member::First));
    let late = Body::Promise { epoch: Epoch(2), at: world.now };
    let before = world.machines[FIRST.index()].clone();
    world.act(FIRST, |machine, now, out| machine.hear(SECOND, late, now, out));
    assert_eq!(world.machines[FIRST.index()], before, "a promise for the last term counts for nothing");
}

#[test]
fn an_agent_that_crashed_goes_on_where_it_was() {
    let mut world = World::settled();
    world.run(H / 2);
    let bytes: [u8; MEMORY_LEN] = world.machines[0].memory().to_bytes();
    world.alive[0] = false;
    world.run(2 * H);
    assert_eq!(world.open(), Some(Member::First), "the kernel keeps the gate open");
    let (memory, mut out) = (Memory::from_bytes(&bytes).unwrap(), Vec::new());
    world.machines[0] =
        Machine::resume(Member::First, Timing::from(Profile::Normal), &memory, world.now, &mut out);
    assert_eq!(out, [], "nothing is touched before the server was looked at");
    world.alive[0] = true;
    world.want(FIRST, Want::Hold { granted: Epoch(2) });
    for _ in 0..100 {
        world.run(H / 10);
        assert_eq!(world.open(), Some(Member::First));
    }
    assert_eq!(world.held(FIRST), Some(Epoch(2)), "under the same epoch");
}

#[test]
fn an_agent_that_crashed_and_finds_no_server_lets_go() {
    let mut world = World::settled();
    let memory = world.machines[0].memory();
    world.machines[0] =
        Machine::resume(Member::First, Timing::from(Profile::Normal), &memory, world.now, &mut Vec::new());
    world.fail(FIRST, false);
    assert_eq!(world.open(), None);
    assert_eq!(world.machines[Seat::Scs.index()].promised_to(), None);
}

#[test]
fn a_voter_without_memory_is_quiet_for_a_promise() {
    let mut world = World::settled();
    let scs = Seat::Scs.index();
    world.machines[scs] = Machine::new(Seat::Scs, Timing::from(Profile::Normal), Epoch(2), world.now);
    world.cut(FIRST, SECOND);
    world.run(440_000);
    assert_eq!(world.machines[scs].promised_to(), None);
    world.run(H);
    assert_eq!(world.machines[scs].promised_to().map(|(to, ..)| to), Some(Member::First));
    assert_eq!(world.open(), Some(Member::First), "and back in time");
}

#[test]
fn a_vote_that_moved_on_is_won_back_under_a_higher_epoch_while_the_gate_stays_open() {
    let mut world = World::settled();
    let moved = Body::Ask { epoch: Epoch(9), at: Micros(1), hold_us: 450_000, kind: Kind::Standby };
    // A voter that lost its memory, and promised somebody else under a higher epoch meanwhile.
    let scs = Seat::Scs.index();
    world.machines[scs] = Machine::new(Seat::Scs, Timing::from(Profile::Normal), Epoch(9), Micros(0));
    world.machines[scs].hear(SECOND, moved, world.now, &mut Vec::new());
    for _ in 0..100 {
        world.run(H / 10);
        assert_eq!(world.open(), Some(Member::First));
    }
    assert!(world.held(FIRST) > Some(Epoch(9)));
    assert_eq!(world.backing(FIRST), 2);
}

#[test]
fn the_scs_confirms_only_whom_it_wants() {
    let mut world = World::settled();
    world.cut(FIRST, SECOND);
    world.entitle(Member::Second, 3);
    world.run(2 * H);
    assert!(world.happened.contains(&(FIRST, Output::Outdated { granted: Epoch(3) })));
    assert_eq!(world.open(), None);
    world.want(SECOND, Want::Hold { granted: Epoch(3) });
    world.until_open(Member::Second, 500_000);
}

#[test]
fn a_longer_lease_than_the_voter_keeps_its_promise_for_is_refused() {
    let mut world = World::settled();
    world.machines[0].set_timing(Timing::from(Profile::Wan));
    world.alive[1] = false;
    world.run(10 * H);
    let refused = world.machines[Seat::Scs.index()].promised_to();
    assert_eq!(refused, None, "a promise of 452 ms does not cover a lease of 3 s");
}

fn make_longer(world: &mut World, seat: Seat) {
    world.machines[seat.index()].set_timing(Timing::from(Profile::Wan));
}

#[test]
fn what_was_promised_for_a_shorter_lease_makes_no_longer_one() {
    let mut world = World::settled();
    world.alive[1] = false;
    world.run(H + H / 2);
    // The SCS's promise is for 450 ms.
    make_longer(&mut world, FIRST);
    world.cut(FIRST, Seat::Scs);
    for _ in 0..10 {
        world.run(H / 10);
        let (_, until) = world.machines[0].held().unwrap();
        assert!(until.since(world.now) <= Duration::from_millis(450), "until {until} at {}", world.now);
    }
}

#[test]
fn a_longer_lease_is_asked_for_anew_while_the_gate_stays_open() {
    let mut world = World::settled();
    // Settings come from the SCS, which has them first.
    make_longer(&mut world, Seat::Scs);
    world.run(H / 2);
    make_longer(&mut world, FIRST);
    for _ in 0..50 {
        world.run(H / 10);
        assert_eq!(world.open(), Some(Member::First));
    }
    make_longer(&mut world, SECOND);
    for _ in 0..100 {
        world.run(H);
        assert_eq!(world.open(), Some(Member::First));
    }
    let (_, until) = world.machines[0].held().unwrap();
    assert!(until.since(world.now) > Duration::from_millis(2_000));
    assert_eq!(world.backing(FIRST), 2);
}

#[test]
fn a_crash_makes_no_longer_lease_of_it_either() {
    let mut world = World::settled();
    world.run(H / 2);
    let memory = Memory::from_bytes(&world.machines[0].memory().to_bytes()).unwrap();
    world.machines[0] =
        Machine::resume(Member::First, Timing::from(Profile::Wan), &memory, world.now, &mut Vec::new());
    world.cut(FIRST, SECOND);
    world.cut(FIRST, Seat::Scs);
    world.want(FIRST, Want::Hold { granted: Epoch(2) });
    world.run(H);
    let (_, until) = world.machines[0].held().unwrap();
    assert!(until.since(world.now) <= Duration::from_millis(450), "until {until} at {}", world.now);
}

#[test]
fn a_member_that_lost_its_memory_goes_above_what_it_let_go() {
    let mut world = World::settled();
    world.fail(FIRST, false);
    world.machines[0] = Machine::new(FIRST, Timing::from(Profile::Normal), Epoch(0), world.now);
    world.alive[1] = false;
    world.entitle(Member::First, 2);
    world.want(FIRST, Want::Hold { granted: Epoch(2) });
    world.until_open(Member::First, 1_000_000);
    assert!(world.held(FIRST) > Some(Epoch(2)));
}

#[test]
fn a_fence_that_outlived_the_memory_is_gone_above() {
    let mut world = World::new();
    world.entitle(Member::First, 2);
    // Fenced off by a run that left no memory, and known to no other voter.
    world.gates[0].fence = Epoch(9);
    world.machines[0].fenced_off(Epoch(8));
    world.want(FIRST, Want::Hold { granted: Epoch(8) });
    world.run(3 * H);
    assert_eq!(world.open(), Some(Member::First), "its gate obeys it");
}

#[test]
fn a_holder_does_not_give_way_to_one_with_no_newer_grant() {
    let mut world = World::new();
    world.want(FIRST, Want::Hold { granted: Epoch(0) });
    world.run(2 * H);
    assert_eq!(world.open(), Some(Member::First));
    world.want(SECOND, Want::Hold { granted: Epoch(0) });
    for _ in 0..100 {
        world.run(H / 10);
        assert_eq!(world.open(), Some(Member::First));
    }
}
