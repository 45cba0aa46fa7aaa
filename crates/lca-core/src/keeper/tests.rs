//! Two keepers and the SCS's witness, on a network that delivers at once unless it is cut.

use super::*;
use domain::Profile;
use lease::Entitled;
use std::collections::VecDeque;

const SEATS: [Seat; 3] = Seat::ALL;

struct World {
    now: Micros,
    keepers: [Keeper; 2],
    scs: Machine,
    scs_up: bool,
    peers_linked: bool,
    acts: Vec<(Member, Act)>,
}

fn index(member: Member) -> usize {
    match member {
        Member::First => 0,
        Member::Second => 1,
    }
}

impl World {
    /// The first member is primary and the second stands by, both confirmed by the SCS.
    fn settled() -> Self {
        let timing = Timing::from(Profile::Normal);
        let keeper = |me| Keeper::new(me, timing, None, Micros(0), &mut Vec::new());
        let mut world = Self {
            now: Micros(0),
            keepers: [keeper(Member::First), keeper(Member::Second)],
            scs: Machine::new(Seat::Scs, timing, Epoch(0), Micros(0)),
            scs_up: true,
            peers_linked: true,
            acts: Vec::new(),
        };
        for member in [Member::First, Member::Second] {
            world.act(member, |keeper, now, out| keeper.scs_reached(true, now, out));
            world.act(member, |keeper, now, out| keeper.peer_heard(true, now, out));
        }
        world.run(Duration::from_secs(1));
        world.entitle(Member::First, 2);
        world.server(Member::First, Server::Primary { granted: Epoch(2) });
        world.server(Member::Second, Server::Ready);
        world.run(Duration::from_secs(1));
        assert!(world.holds(Member::First));
        world.acts.clear();
        world
    }

    fn entitle(&mut self, member: Member, granted: u64) {
        let mut out = Vec::new();
        let entitled = Entitled::Only { member, granted: Epoch(granted) };
        self.scs.entitle(entitled, self.now, &mut out);
        self.deliver(out.into_iter().filter_map(|output| sent(Seat::Scs, output)).collect());
    }

    fn act(&mut self, member: Member, input: impl FnOnce(&mut Keeper, Micros, &mut Vec<Act>)) {
        let mut out = Vec::new();
        input(&mut self.keepers[index(member)], self.now, &mut out);
        let from = Seat::Member(member);
        let send = |act: &Act| if let Act::Send(to, body) = act { Some((from, *to, *body)) } else { None };
        let sends = out.iter().filter_map(send).collect();
        self.acts.extend(out.into_iter().map(|act| (member, act)));
        self.deliver(sends);
    }

    fn deliver(&mut self, messages: Vec<(Seat, Seat, Body)>) {
        for (from, to, body) in VecDeque::from(messages) {
            let by_scs = from == Seat::Scs || to == Seat::Scs;
            if by_scs && !self.scs_up || !by_scs && !self.peers_linked {
                continue;
            }
            match to {
                Seat::Scs => {
                    let mut out = Vec::new();
                    self.scs.hear(from, body, self.now, &mut out);
                    self.deliver(out.into_iter().filter_map(|output| sent(Seat::Scs, output)).collect());
                }
                Seat::Member(member) => {
                    self.act(member, |keeper, now, out| keeper.hear(from, body, now, out))
                }
            }
        }
    }

    fn server(&mut self, member: Member, server: Server) {
        self.act(member, |keeper, now, out| keeper.server(server, now, out));
    }

    fn lose_scs(&mut self) {
        self.scs_up = false;
        for member in [Member::First, Member::Second] {
            self.act(member, |keeper, now, out| keeper.scs_reached(false, now, out));
        }
    }

    /// Either agent hears the other, or no longer.
    fn link_peers(&mut self, linked: bool) {
        self.peers_linked = linked;
        for member in [Member::First, Member::Second] {
            self.act(member, |keeper, now, out| keeper.peer_heard(linked, now, out));
        }
    }

    /// Lets time pass; a deadline that does not go away is an endless loop.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        let mut rounds = 0;
        loop {
            let due =
                [self.keepers[0].next_deadline(), self.keepers[1].next_deadline(), self.scs.next_deadline()];
            let Some(next) = due.into_iter().flatten().min().filter(|next| *next <= end) else { break };
            rounds += 1;
            assert!(rounds < 10_000, "the deadline {next} is due for ever");
            self.now = self.now.max(next);
            for seat in SEATS {
                match seat {
                    Seat::Member(member) if due[index(member)].is_some_and(|at| at <= self.now) => {
                        self.act(member, |keeper, now, out| keeper.time_passed(now, out));
                    }
                    Seat::Scs if due[2].is_some_and(|at| at <= self.now) => {
                        let mut out = Vec::new();
                        self.scs.time_passed(self.now, &mut out);
                        self.deliver(out.into_iter().filter_map(|output| sent(Seat::Scs, output)).collect());
                    }
                    Seat::Member(_) | Seat::Scs => {}
                }
            }
        }
        self.now = end;
    }

    fn holds(&self, member: Member) -> bool {
        self.keepers[index(member)].machine().held().is_some_and(|(_, until)| self.now < until)
    }

    fn did(&self, member: Member, wanted: impl Fn(&Act) -> bool) -> bool {
        self.acts.iter().any(|(who, act)| *who == member && wanted(act))
    }
}

fn sent(from: Seat, output: Output) -> Option<(Seat, Seat, Body)> {
    match output {
        Output::Send(to, body) => Some((from, to, body)),
        Output::Open { .. }
        | Output::Close { .. }
        | Output::Lost { .. }
        | Output::Outdated { .. }
        | Output::Released { .. } => None,
    }
}

const FAILED: Server = Server::Absent { by_order: false };

#[test]
fn while_the_scs_is_there_the_agents_wait_for_it() {
    let mut world = World::settled();
    world.server(Member::First, FAILED);
    world.run(Duration::from_secs(3));
    assert!(!world.did(Member::Second, |act| matches!(act, Act::TakeOver { .. })));
    assert!(world.did(Member::Second, |act| *act == Act::PeerFailed { epoch: Epoch(2) }));
    // It decides.
    world.entitle(Member::Second, 3);
    world.server(Member::Second, Server::Primary { granted: Epoch(3) });
    assert!(world.holds(Member::Second));
}

#[test]
fn a_known_failure_is_taken_over_without_the_scs() {
    let mut world = World::settled();
    world.lose_scs();
    world.server(Member::First, FAILED);
    let taken = Act::TakeOver { epoch: Epoch(3), why: Reason::PeerFailed { epoch: Epoch(2) } };
    assert!(world.did(Member::Second, |act| *act == taken));
    assert!(world.holds(Member::Second));
    // The failed one comes back and stays what it is.
    world.server(Member::First, Server::Ready);
    world.run(Duration::from_secs(10));
    assert!(world.holds(Member::Second));
    assert!(!world.did(Member::First, |act| matches!(act, Act::TakeOver { .. })));
}

#[test]
fn an_scs_that_died_along_with_the_server_is_found_out() {
    let mut world = World::settled();
    world.scs_up = false;
    world.server(Member::First, FAILED);
    assert!(!world.did(Member::Second, |act| matches!(act, Act::TakeOver { .. })));
    world.run(Duration::from_millis(450));
    world.lose_scs();
    world.run(Duration::from_millis(100));
    assert!(world.did(Member::Second, |act| matches!(act, Act::TakeOver { .. })));
    assert!(world.holds(Member::Second));
}

#[test]
fn a_stop_by_order_is_no_failure_for_the_peer_either() {
    let mut world = World::settled();
    world.lose_scs();
    world.server(Member::First, Server::Absent { by_order: true });
    world.run(Duration::from_secs(10));
    assert!(!world.did(Member::Second, |act| matches!(act, Act::TakeOver { .. })));
}

#[test]
fn silence_moves_nothing() {
    let mut world = World::settled();
    world.lose_scs();
    world.peers_linked = false;
    world.run(Duration::from_secs(10));
    assert!(!world.holds(Member::First) && !world.holds(Member::Second));
    assert!(!world.did(Member::Second, |act| matches!(act, Act::TakeOver { .. })));
    // And the holder holds again when the peer is back.
    world.peers_linked = true;
    world.run(Duration::from_millis(300));
    assert!(world.holds(Member::First));
}

#[test]
fn nobody_took_over_and_the_server_is_back() {
    let mut world = World::settled();
    world.server(Member::Second, FAILED);
    world.lose_scs();
    world.server(Member::First, FAILED);
    world.run(Duration::from_millis(100));
    world.server(Member::First, Server::Ready);
    world.run(Duration::from_secs(2));
    assert!(world.did(Member::First, |act| matches!(act, Act::TakeOver { why: Reason::BackAgain, .. })));
    assert!(world.holds(Member::First));
}

#[test]
fn one_that_slept_does_not_take_the_role_again_before_it_has_listened() {
    let mut world = World::settled();
    world.server(Member::First, FAILED);
    world.entitle(Member::Second, 3);
    world.server(Member::Second, Server::Primary { granted: Epoch(3) });
    world.server(Member::First, Server::Ready);
    world.run(Duration::from_millis(300));
    // The first agent is stopped. When it goes on, the first that it finds is that the SCS has given it up.
    world.now += Duration::from_millis(900);
    world.act(Member::First, |keeper, now, out| keeper.scs_reached(false, now, out));
    world.run(Duration::from_secs(10));
    assert!(!world.did(Member::First, |act| matches!(act, Act::TakeOver { .. })));
    assert!(world.holds(Member::Second));
}

/// What an agent that was stopped finds first when it goes on.
const FIRST_FOUND: [fn(&mut Keeper, Micros, &mut Vec<Act>); 6] = [
    |keeper, now, out| keeper.time_passed(now, out),
    |keeper, now, out| keeper.carrier(true, now, out),
    |keeper, now, out| keeper.peer_heard(true, now, out),
    |keeper, now, out| keeper.scs_reached(false, now, out),
    |keeper, now, out| keeper.server(Server::Ready, now, out),
    // Of before it slept.
    |keeper, now, out| {
        let ask = Body::Ask { epoch: Epoch(1), at: Micros(1), hold_us: 450_000, kind: lease::Kind::Standby };
        keeper.hear(Seat::Member(Member::Second), ask, now, out);
    },
];

#[test]
fn whatever_one_that_slept_finds_first_it_listens_before_it_takes_a_role() {
    for (which, first) in FIRST_FOUND.into_iter().enumerate() {
        // Its own server had failed, and is back; the SCS, which the other one alone reaches, decides.
        let mut world = World::settled();
        world.act(Member::First, |keeper, now, out| keeper.scs_reached(false, now, out));
        world.server(Member::Second, FAILED);
        world.server(Member::First, FAILED);
        world.server(Member::First, Server::Ready);
        world.server(Member::Second, Server::Ready);
        world.run(Duration::from_millis(600));
        // Stopped, until after it would have taken the role again; meanwhile the other one takes it.
        world.now += Duration::from_millis(500);
        world.act(Member::First, first);
        assert!(!world.did(Member::First, |act| matches!(act, Act::TakeOver { .. })), "event {which}");
        world.entitle(Member::Second, 3);
        world.server(Member::Second, Server::Primary { granted: Epoch(3) });
        world.run(Duration::from_secs(10));
        assert!(!world.did(Member::First, |act| matches!(act, Act::TakeOver { .. })), "event {which}");
        assert!(world.holds(Member::Second));
    }
}

#[test]
fn a_voter_that_can_be_reached_again_is_asked_at_once() {
    let mut world = World::settled();
    world.scs_up = false;
    world.link_peers(false);
    world.act(Member::First, |keeper, now, out| keeper.scs_reached(false, now, out));
    // Between two renewals, of which the next comes too late.
    world.run(Duration::from_millis(350));
    let left = |world: &World| world.keepers[0].machine().held().map(|(_, until)| until.since(world.now));
    assert!(left(&world).is_some_and(|left| left < Duration::from_millis(100)), "{:?}", left(&world));
    world.scs_up = true;
    world.act(Member::First, |keeper, now, out| keeper.scs_reached(true, now, out));
    assert_eq!(left(&world), Some(Duration::from_millis(450)));
    // And the peer, with whose promise the loss of the SCS is survived.
    world.acts.clear();
    world.link_peers(true);
    let asked = |act: &Act| matches!(act, Act::Send(Seat::Member(Member::Second), Body::Ask { .. }));
    assert!(world.did(Member::First, asked));
}

#[test]
fn a_failure_is_not_forgotten_by_one_that_slept() {
    for first in FIRST_FOUND {
        let mut world = World::settled();
        // The SCS dies along with the server, and the other agent sleeps before it knows of the former.
        world.scs_up = false;
        world.server(Member::First, FAILED);
        world.now += Duration::from_secs(7);
        world.act(Member::Second, |keeper, now, out| keeper.scs_reached(false, now, out));
        world.act(Member::Second, first);
        assert!(!world.did(Member::Second, |act| matches!(act, Act::TakeOver { .. })));
        world.run(Duration::from_secs(2));
        assert!(world.did(Member::Second, |act| matches!(act, Act::TakeOver { .. })));
    }
}

#[test]
fn a_role_is_taken_under_an_epoch_that_the_server_does_not_refuse() {
    let mut world = World::settled();
    // An order under a newer grant was seen here, and by no voter.
    world.keepers[1].saw(Epoch(8));
    world.lose_scs();
    world.server(Member::First, FAILED);
    assert!(world.did(Member::Second, |act| matches!(act, Act::TakeOver { epoch: Epoch(9), .. })));
    world.run(Duration::from_millis(10));
    assert!(world.holds(Member::Second));
}

#[test]
fn a_role_that_the_server_did_not_take_is_taken_again() {
    let mut world = World::settled();
    world.lose_scs();
    world.server(Member::First, FAILED);
    let taken = |epoch| Act::TakeOver { epoch, why: Reason::PeerFailed { epoch: Epoch(2) } };
    assert!(world.did(Member::Second, |act| *act == taken(Epoch(3))));
    // It stays what it was: refused, or not confirmed in time.
    world.keepers[1].saw(Epoch(3));
    world.server(Member::Second, Server::Ready);
    assert!(!world.holds(Member::Second));
    world.run(TRY_AGAIN_AFTER * 2);
    let again = world.acts.iter().rev().find_map(|(_, act)| match act {
        Act::TakeOver { epoch, .. } => Some(*epoch),
        _ => None,
    });
    let again = again.filter(|epoch| *epoch > Epoch(3)).expect("it is told again, under a newer epoch");
    assert!(world.did(Member::Second, |act| *act == taken(again)), "for the same reason");
    assert!(world.holds(Member::Second));
    // Once it has stepped down by order that is over.
    world.act(Member::Second, |keeper, now, out| keeper.scs_reached(true, now, out));
    world.server(Member::Second, Server::Ready);
    world.act(Member::Second, |keeper, now, out| keeper.scs_reached(false, now, out));
    world.acts.clear();
    world.run(Duration::from_secs(10));
    assert!(!world.did(Member::Second, |act| matches!(act, Act::TakeOver { .. })));
}

#[test]
fn one_that_hears_nobody_does_not_take_the_role_again() {
    let mut world = World::settled();
    // The first host is cut off; the SCS, which the second reaches, makes that primary.
    world.link_peers(false);
    world.act(Member::First, |keeper, now, out| keeper.scs_reached(false, now, out));
    world.run(Duration::from_secs(1));
    world.entitle(Member::Second, 3);
    world.server(Member::Second, Server::Primary { granted: Epoch(3) });
    // Its server fails meanwhile, and is ready again.
    world.server(Member::First, FAILED);
    world.run(Duration::from_millis(100));
    world.server(Member::First, Server::Ready);
    world.run(Duration::from_secs(10));
    assert!(!world.did(Member::First, |act| matches!(act, Act::TakeOver { .. })));
    // The other has the role since, and keeps it when the link is back.
    world.link_peers(true);
    world.run(Duration::from_secs(10));
    assert!(world.holds(Member::Second));
    assert!(!world.did(Member::First, |act| matches!(act, Act::TakeOver { .. })));
}

#[test]
fn a_broken_primary_hands_over_to_one_that_stands_by() {
    let mut world = World::settled();
    world.lose_scs();
    world.server(Member::First, Server::Broken { granted: Epoch(2) });
    assert!(world.did(Member::First, |act| matches!(act, Act::StepDown { .. })));
    assert!(world.holds(Member::Second));
}

#[test]
fn without_a_carrier_the_role_goes_to_one_that_stands_by() {
    let mut world = World::settled();
    world.lose_scs();
    world.act(Member::First, |keeper, now, out| keeper.carrier(false, now, out));
    assert!(world.holds(Member::Second));
    let mut world = World::settled();
    world.server(Member::Second, FAILED);
    world.lose_scs();
    world.run(Duration::from_secs(1));
    world.act(Member::First, |keeper, now, out| keeper.carrier(false, now, out));
    assert!(world.holds(Member::First), "nobody else could do better");
}

#[test]
fn a_hand_over_that_did_not_arrive_is_taken_back() {
    let mut world = World::settled();
    world.lose_scs();
    world.run(Duration::from_millis(50));
    world.peers_linked = false;
    world.act(Member::First, |keeper, now, out| keeper.carrier(false, now, out));
    assert!(world.did(Member::First, |act| matches!(act, Act::StepDown { .. })));
    world.server(Member::First, Server::Ready);
    world.run(Duration::from_secs(2));
    world.act(Member::First, |keeper, now, out| keeper.carrier(true, now, out));
    world.peers_linked = true;
    world.run(Duration::from_secs(1));
    assert!(world.did(Member::First, |act| matches!(act, Act::TakeOver { why: Reason::BackAgain, .. })));
    assert!(world.holds(Member::First));
}

#[test]
fn one_that_is_cut_off_altogether_hands_nothing_over() {
    let mut world = World::settled();
    (world.scs_up, world.peers_linked) = (false, false);
    world.act(Member::First, |keeper, now, out| keeper.carrier(false, now, out));
    world.run(Duration::from_millis(440));
    world.lose_scs();
    world.run(Duration::from_secs(3));
    assert!(
        !world.did(Member::First, |act| matches!(act, Act::StepDown { .. })),
        "that is for the SCS to say"
    );
}

#[test]
fn one_that_is_outdated_closes_at_once_and_steps_down_when_nobody_else_makes_it() {
    let mut world = World::settled();
    world.entitle(Member::Second, 3);
    world.server(Member::Second, Server::Primary { granted: Epoch(3) });
    world.run(Duration::from_millis(200));
    assert!(world.holds(Member::Second) && !world.holds(Member::First));
    assert!(!world.did(Member::First, |act| matches!(act, Act::StepDown { .. })));
    world.run(STEP_DOWN_AFTER);
    assert!(world.did(Member::First, |act| *act == Act::StepDown { epoch: Epoch(3) }));
}
