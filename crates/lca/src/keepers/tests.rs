//! What a change of the configuration, and a gate that remembers more than the agent, do to the leases.

use super::*;
use crate::say::Say;
use domain::{
    Application, Failback, FlapGuard, GatePolicy, ModeControl, OnHang, Profile, Redundancy, RestartPolicy,
    Vip, VipControl,
};
use lease::{Body, Kind};
use vip_control::gate::MOST_VIPS;

const SETTLED: Micros = Micros(10_000_000);

/// Pairs on host1 and host2; the members of each by host, first member first, and its VIPs.
fn cluster(pairs: &[(&str, [&str; 2], &[&str])]) -> Cluster {
    let mut cluster = Cluster::default();
    for (name, hosts, vips) in pairs {
        let members = hosts.map(|host| AppName::new(&format!("{name}-{host}")).unwrap());
        for (member, host) in members.iter().zip(hosts) {
            cluster.applications.insert(member.clone(), application(host));
        }
        let hosts = hosts.map(|host| (host.parse().unwrap(), "lo".parse().unwrap()));
        let vip = |address: &&str| Vip {
            address: address.parse().unwrap(),
            interfaces: BTreeMap::from(hosts.clone()),
            control: VipControl::BuiltIn,
        };
        let pair = Pair {
            members,
            redundancy: Redundancy::Warm,
            profile: Profile::Normal,
            gate: GatePolicy::Preferred,
            failback: Failback::Never,
            flap_guard: FlapGuard::default(),
            vips: vips.iter().map(vip).collect(),
            sip: None,
        };
        cluster.pairs.insert(name.parse().unwrap(), pair);
    }
    cluster
}

fn application(host: &str) -> Application {
    Application {
        host: host.parse().unwrap(),
        command: vec!["/bin/true".to_owned()],
        directory: None,
        environment: BTreeMap::new(),
        user: None,
        mode_control: ModeControl::None,
        autostart: false,
        restart: RestartPolicy::default(),
        notify: false,
        start_limit: Duration::from_secs(1),
        stop_limit: Duration::from_secs(1),
        suspend_limit: Duration::from_secs(5),
        watchdog: None,
        on_hang: OnHang::Report,
        probe: None,
    }
}

fn gates() -> Gates {
    // SAFETY: takes no pointers; concerns this thread only, which is the test's own.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    assert_eq!(result, 0, "cannot make a network namespace: {}", std::io::Error::last_os_error());
    Gates::open(&Say::start().unwrap())
}

fn keepers(gates: Gates, memory: Option<LeaseMemory>) -> Keepers {
    Keepers::new(&"host1".parse().unwrap(), memory, gates)
}

#[test]
fn members_that_changed_places_do_not_vote_by_what_was_promised_in_the_other_seat() {
    let directory = tempfile::tempdir().unwrap();
    let memory = LeaseMemory::open(&directory.path().join("leases"), "boot").unwrap();
    let (mut keepers, mut out) = (keepers(gates(), Some(memory)), Vec::new());
    keepers.configure(&cluster(&[("pair", ["host1", "host2"], &[])]), Micros(0), &mut out);
    let (pair, peer) = ("pair".parse().unwrap(), Voter::Peer("host2".parse().unwrap()));
    keepers.time_passed(SETTLED, &mut out);
    let asks = |epoch| {
        let kind = Kind::Hold { granted: Epoch(epoch) };
        let body = Body::Ask { epoch: Epoch(epoch), at: Micros(1), hold_us: 450_000, kind };
        Message { pair: PairId::of(&pair), body }
    };
    keepers.hear(&peer, &asks(3), SETTLED, &mut out);
    let promise = Body::Promise { epoch: Epoch(3), at: Micros(1) };
    let promised = |wanted: &Wanted| matches!(wanted, Wanted::Vote(_, message) if message.body == promise);
    assert!(out.iter().any(promised));

    // The other host, which may hold by that promise, has the first seat now, and this one the second.
    out.clear();
    keepers.configure(&cluster(&[("pair", ["host2", "host1"], &[])]), SETTLED, &mut out);
    keepers.server(&pair, Server::Primary { granted: Epoch(5) }, SETTLED, &mut out);
    let ask = |wanted: &Wanted| {
        matches!(wanted, Wanted::Vote(_, Message { body: Body::Ask { kind: Kind::Hold { .. }, .. }, .. }))
    };
    assert!(!out.iter().any(ask), "its own vote is not free: {out:?}");
    keepers.time_passed(SETTLED + Timing::from(Profile::Normal).promise(), &mut out);
    assert!(out.iter().any(ask));
}

/// The agent is killed, and told of the change before its next run has begun.
#[test]
fn what_an_earlier_run_remembers_of_another_seat_is_no_memory_but_binds() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("leases");
    let memory = || Some(LeaseMemory::open(&path, "boot").unwrap());
    let (mut first, mut out) = (keepers(gates(), memory()), Vec::new());
    let mut slow = cluster(&[("pair", ["host1", "host2"], &[])]);
    slow.pairs.values_mut().for_each(|pair| pair.profile = Profile::Wan);
    first.configure(&slow, Micros(0), &mut out);
    let (pair, peer) = ("pair".parse().unwrap(), Voter::Peer("host2".parse().unwrap()));
    first.time_passed(SETTLED, &mut out);
    let kind = Kind::Hold { granted: Epoch(3) };
    let body = Body::Ask { epoch: Epoch(3), at: Micros(1), hold_us: 3_000_000, kind };
    first.hear(&peer, &Message { pair: PairId::of(&pair), body }, SETTLED, &mut out);
    let promised = |wanted: &Wanted| {
        matches!(wanted, Wanted::Vote(_, Message { body: Body::Promise { epoch: Epoch(3), .. }, .. }))
    };
    assert!(out.iter().any(promised));
    drop(first);

    let mut second = keepers(gates(), memory());
    second.configure(&cluster(&[("pair", ["host2", "host1"], &[])]), SETTLED, &mut Vec::new());
    let machine = |keepers: &Keepers| keepers.iter().next().unwrap().1.machine().clone();
    assert_eq!(machine(&second).promised_to(), None, "a promise of the second seat is not one of the first");
    let until = SETTLED + Timing::from(Profile::Wan).promise();
    assert_eq!(machine(&second).memory().binds_until(), Some(until), "but it is waited for");
    // What is remembered from now on is of this seat.
    drop(second);
    let mut third = keepers(gates(), memory());
    third.configure(&cluster(&[("pair", ["host2", "host1"], &[])]), until, &mut Vec::new());
    third.time_passed(until, &mut Vec::new());
    assert_eq!(machine(&third).memory().binds_until(), None, "no quarantine: it is remembered");
}

#[test]
fn what_the_gate_refuses_is_not_asked_for_by_an_agent_without_memory() {
    let part = cluster(&[("pair", ["host1", "host2"], &["192.0.2.10/24"])]);
    let (name, pair) = part.pairs.first_key_value().unwrap();
    let vips = [pair.vips[0].address];
    let mut gates = gates();
    gates.manage(name, pair, &"host1".parse().unwrap());
    gates.close_and_fence(&vips, Epoch(8));
    if gates.fenced_off(&vips).is_none() {
        return println!("skipped: {}", gates.missing(name).unwrap_or_default());
    }
    let mut keepers = keepers(gates, None);
    keepers.configure(&part, Micros(0), &mut Vec::new());
    let (_, keeper) = keepers.iter().next().unwrap();
    assert!(keeper.machine().seen() >= Epoch(9));
}

#[test]
fn a_vip_that_changes_its_pair_is_closed() {
    let hosts = ["host1", "host2"];
    let before = cluster(&[("a", hosts, &[]), ("b", hosts, &["192.0.2.10/24"])]);
    let vips = ["192.0.2.10/24".parse().unwrap()];
    let mut keepers = keepers(gates(), None);
    keepers.configure(&before, Micros(0), &mut Vec::new());
    keepers.gates().authorise(&vips, Epoch(4), Micros(u64::MAX));
    if keepers.gates().fenced_off(&vips).is_none() {
        return println!("skipped: {}", keepers.gates().missing(&"b".parse().unwrap()).unwrap_or_default());
    }
    assert_eq!(keepers.gates().fenced_off(&vips), Some(Epoch(3)));
    let after = cluster(&[("a", hosts, &["192.0.2.10/24"]), ("b", hosts, &[])]);
    keepers.configure(&after, Micros(1), &mut Vec::new());
    assert_eq!(keepers.gates().fenced_off(&vips), Some(Epoch(4)), "what the other pair's lease had opened");
    let (_, keeper) = keepers.iter().next().unwrap();
    assert!(keeper.machine().seen() > Epoch(4), "and it is asked for above");
}

#[test]
fn a_vip_that_the_gate_has_no_room_for_has_none() {
    let hosts = ["host1", "host2"];
    let fill: Vec<String> = (0..MOST_VIPS).map(|n| format!("10.0.{}.{}/16", n / 256, n % 256)).collect();
    let fill: Vec<&str> = fill.iter().map(String::as_str).collect();
    let mut keepers = keepers(gates(), None);
    keepers.configure(&cluster(&[("a", hosts, &fill)]), Micros(0), &mut Vec::new());
    let (a, b): (PairName, PairName) = ("a".parse().unwrap(), "b".parse().unwrap());
    let without = |keepers: &mut Keepers, pair: &PairName| {
        keepers.gates().missing(pair).is_some_and(|why| why.contains("10.1.0.1/16: "))
    };
    let first = ["10.0.0.0/16".parse().unwrap()];
    keepers.gates().close_and_fence(&first, Epoch(8));
    if keepers.gates().fenced_off(&first).is_none() {
        return println!("skipped: {}", keepers.gates().missing(&a).unwrap_or_default());
    }
    let full = cluster(&[("a", hosts, &fill), ("b", hosts, &["10.1.0.1/16"])]);
    keepers.configure(&full, Micros(1), &mut Vec::new());
    assert!(without(&mut keepers, &b) && !without(&mut keepers, &a));
    keepers.gates().look(Micros(2), &mut Vec::new());
    assert!(without(&mut keepers, &b), "that it stands on its interface changes nothing");
    let report = &keepers.gate_reports()[1];
    assert!(matches!(report, GateReport::Agent { why } if why.contains("10.1.0.1/16")), "{report:?}");
    // One that goes leaves room.
    keepers.configure(&cluster(&[("b", hosts, &["10.1.0.1/16"])]), Micros(3), &mut Vec::new());
    keepers.gates().look(Micros(4), &mut Vec::new());
    assert!(!without(&mut keepers, &b));
}
