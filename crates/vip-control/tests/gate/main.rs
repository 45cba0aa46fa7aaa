//! The gate as neighbours see it: a host, a client that asks for everything a host can answer, and processes that hold the gate
//! and are stopped, killed and replaced. Needs the machine's root; anybody else is told that it was skipped.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "clippy.toml allows tests to unwrap, and takes this for a program"
)]

mod holder;

use domain::{Epoch, InterfaceName, Micros, VipAddress};
use holder::Freezer;
use netlab::wire::{Kind, Party, Seen, Wire, answer, datagram, question, speaks_for};
use netlab::{Lab, Mac, Nic, harness, now};
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, UdpSocket};
use std::process::{Child, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};
use vip_control::gate::{Continued, Gate, GateError, left, support};
use vip_control::{Changed, Validity, VipController, VipError};

const PATIENCE: Duration = Duration::from_secs(10);
/// What a frame may take from the gate to the tap behind it, on a machine that stands still now and then.
const BEHIND_THE_GATE: Duration = Duration::from_millis(5);
/// Longer than any test.
const LONG: Duration = Duration::from_secs(59);

const V4: &str = "192.0.2.10/24";
const V6: &str = "2001:db8::10/64";
const HOST: Nic<'_> = Nic { segment: "lan", name: "eth0", addresses: &["192.0.2.11/24", "2001:db8::11/64"] };
const CLIENT: Nic<'_> =
    Nic { segment: "lan", name: "eth0", addresses: &["192.0.2.100/24", "2001:db8::100/64"] };

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some(role) if role.starts_with("role-") => return holder::play(role, &arguments[2..]),
        Some(_) | None => {}
    }
    if let Some(problem) = support().parts.into_iter().find_map(|part| part.problem)
        && !nix::unistd::geteuid().is_root()
    {
        println!("skipped: {problem}");
        return ExitCode::SUCCESS;
    }
    harness::run(&netlab::cases![
        what_this_machine_can_do,
        closed_until_authorised_whoever_puts_the_address_there,
        nothing_goes_out_and_nothing_comes_in,
        other_interfaces_of_the_host_do_not_answer_either,
        closes_on_time_when_its_holder_is_stopped,
        closes_on_time_when_its_holder_is_killed,
        closes_on_time_when_its_holder_is_frozen,
        closes_on_time_when_its_holder_is_starved,
        the_next_process_goes_on_where_the_last_one_ended,
        replacing_the_program_opens_nothing,
        a_gate_that_cannot_be_read_is_replaced_by_a_closed_one,
        who_may_not_is_told_what_is_missing,
    ])
}

fn vip(text: &str) -> VipAddress {
    text.parse().unwrap()
}

fn vips() -> [VipAddress; 2] {
    [vip(V4), vip(V6)]
}

fn eth0() -> InterfaceName {
    InterfaceName::new("eth0").unwrap()
}

/// A host and a client on one segment.
struct Scene<'a> {
    lab: &'a Lab,
    /// On the client.
    wire: Wire,
    client: Party,
    host_mac: Mac,
}

impl<'a> Scene<'a> {
    fn build(lab: &'a mut Lab) -> Self {
        lab.host("host", &[HOST]).unwrap();
        lab.host("client", &[CLIENT]).unwrap();
        Self::of(lab, "eth0")
    }

    fn of(lab: &'a Lab, host_nic: &str) -> Self {
        let wire = lab.in_host("client", || Wire::open("eth0").unwrap()).unwrap();
        let client = Party {
            mac: lab.mac("client", "eth0").unwrap(),
            v4: "192.0.2.100".parse().unwrap(),
            v6: "2001:db8::100".parse().unwrap(),
        };
        let scene = Self { lab, wire, client, host_mac: lab.mac("host", host_nic).unwrap() };
        scene.on_host(|| {
            // The kernel answers everything, also many questions a second.
            for setting in ["ipv4/icmp_ratelimit", "ipv6/icmp/ratelimit"] {
                std::fs::write(format!("/proc/sys/net/{setting}"), "0").unwrap();
            }
        });
        // The first answers wait until the host knows the client's hardware address.
        let own = scene.own_addresses();
        let end = Instant::now() + PATIENCE;
        while own.iter().any(|own| scene.ask_once(*own, Duration::from_millis(100)) != Kind::all()) {
            assert!(Instant::now() < end, "the host does not answer for itself");
        }
        scene
    }

    fn on_host<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.lab.in_host("host", work).unwrap()
    }

    fn own_addresses(&self) -> [IpAddr; 2] {
        ["192.0.2.11", "2001:db8::11"].map(|text| text.parse().unwrap())
    }

    fn send_questions(&self, address: IpAddr) {
        for kind in Kind::ALL {
            self.wire.send(&question(kind, &self.client, self.host_mac, address));
        }
    }

    fn is_from_host(&self, seen: &Seen) -> bool {
        seen.frame[6..12] == self.host_mac.0
    }

    fn ask_once(&self, address: IpAddr, within: Duration) -> BTreeSet<Kind> {
        self.send_questions(address);
        let mut heard = BTreeSet::new();
        while heard != Kind::all()
            && let Some(seen) = self.wire.next(within)
        {
            heard.extend(answer(&seen.frame).filter(|(_, from)| *from == address).map(|(kind, _)| kind));
        }
        heard
    }

    /// What the host answers for `vip`. Its answers for its own address, asked for later and always given, end the wait.
    fn answers(&self, vip: &VipAddress) -> BTreeSet<Kind> {
        let own =
            self.own_addresses().into_iter().find(|own| own.is_ipv4() == vip.address.is_ipv4()).unwrap();
        self.wire.seen(); // announcements among them
        self.send_questions(vip.address);
        self.send_questions(own);
        let (mut heard, mut heard_own) = (BTreeSet::new(), BTreeSet::new());
        while heard_own != Kind::all() {
            let seen = self.wire.next(PATIENCE).expect("the host answers for its own address");
            match answer(&seen.frame) {
                Some((kind, from)) if from == vip.address => drop(heard.insert(kind)),
                Some((kind, from)) if from == own => drop(heard_own.insert(kind)),
                Some(_) | None => {}
            }
        }
        heard
    }

    fn assert_answers(&self, expected: bool, when: &str) {
        for vip in vips() {
            let wanted = if expected { Kind::all() } else { BTreeSet::new() };
            assert_eq!(self.answers(&vip), wanted, "{when}, {vip}");
        }
    }
}

/// As somebody else would: the gate has no part in it.
fn add_address(vip: &VipAddress, interface: &InterfaceName) {
    let mut controller = VipController::open().unwrap();
    match controller.enable(vip, interface, Validity::Permanent) {
        Ok(changed) => assert_eq!(changed, Changed::Now),
        // The address is there. A closed gate stops the announcements, and the kernel says so.
        Err(VipError::NotSent { .. }) => {}
        Err(error) => panic!("{error}"),
    }
    assert!(controller.present(vip, interface).unwrap());
}

fn open_gate(interface: &InterfaceName) -> Gate {
    let vips = vips();
    let gate = Gate::open(vips.iter().map(|vip| (vip, interface))).unwrap();
    let mut gate = gate;
    assert!(gate.check().is_empty(), "the gate stands");
    gate
}

fn what_this_machine_can_do(_: &mut Lab) {
    let support = support();
    for part in &support.parts {
        assert!(part.problem.is_none(), "{part:?}");
    }
    assert!(support.is_sufficient() && support.parts.len() == 4);
    let cost = support.frame_cost.expect("measured");
    assert!(!cost.is_zero(), "{cost:?}");
}

fn closed_until_authorised_whoever_puts_the_address_there(lab: &mut Lab) {
    let scene = Scene::build(lab);
    let [v4, v6] = vips();
    scene.on_host(|| add_address(&v4, &eth0()));
    assert_eq!(scene.answers(&v4), Kind::all(), "before there is a gate");
    let mut gate = scene.on_host(|| open_gate(&eth0()));
    assert!(matches!(gate.continued(), Continued::New));
    scene.on_host(|| add_address(&v6, &eth0()));
    scene.assert_answers(false, "closed by default");
    for vip in &vips() {
        let state = gate.state(vip, now()).unwrap();
        assert!(!state.open && state.stopped > 0, "{state:?}");
        gate.authorise(vip, Epoch(2), now() + LONG).unwrap();
        assert!(gate.state(vip, now()).unwrap().open);
    }
    scene.assert_answers(true, "authorised");
    for vip in &vips() {
        gate.close_and_fence(vip, Epoch(2)).unwrap();
        assert_eq!(gate.fence(vip), Some(Epoch(3)));
    }
    scene.assert_answers(false, "closed and fenced");
    for vip in &vips() {
        gate.authorise(vip, Epoch(2), now() + LONG).expect_err("outdated");
    }
    scene.assert_answers(false, "the epoch is outdated");
    assert!(gate.unmanage(&v4).unwrap() && !gate.unmanage(&v4).unwrap());
    assert_eq!(scene.answers(&v4), Kind::all(), "not managed any more");
    drop(gate);
    scene.on_host(|| left().unwrap().remove().unwrap());
    scene.assert_answers(true, "without a gate");
}

fn nothing_goes_out_and_nothing_comes_in(lab: &mut Lab) {
    let scene = Scene::build(lab);
    let all = vips();
    let mut gate = scene.on_host(|| open_gate(&eth0()));
    scene.on_host(|| all.iter().for_each(|vip| add_address(vip, &eth0())));
    let bind = |address: IpAddr| scene.on_host(move || UdpSocket::bind((address, 5060)).unwrap());
    for (vip, own) in all.iter().zip(scene.own_addresses()) {
        let (holding, ordinary) = (bind(vip.address), bind(own));
        holding.set_nonblocking(true).unwrap();
        ordinary.set_read_timeout(Some(PATIENCE)).unwrap();
        let to_client = if own.is_ipv4() { IpAddr::from(scene.client.v4) } else { scene.client.v6.into() };
        for open in [false, true] {
            if open {
                gate.authorise(vip, Epoch(1), now() + LONG).unwrap();
            }
            // Out: data, a connection, and announcements, behind which comes something that is allowed.
            scene.wire.seen();
            let _ = holding.send_to(b"from the VIP", (to_client, 5060));
            scene.on_host(|| {
                let announced = VipController::open().unwrap().announce(vip, &eth0());
                assert_eq!(announced.is_ok(), open, "who announces is told that nothing left: {announced:?}");
                ordinary.send_to(b"from the host", (to_client, 5060)).unwrap();
            });
            let mut speaks = 0;
            loop {
                let seen = scene.wire.next(PATIENCE).expect("the host sends");
                speaks += u32::from(scene.is_from_host(&seen) && speaks_for(&seen.frame, vip.address));
                if seen.frame.ends_with(b"from the host") {
                    break;
                }
            }
            assert_eq!(speaks > 0, open, "{speaks} frames speak for {vip}, open: {open}");
            // In: to the VIP first, then to the host itself.
            let mut buffer = [0; 64];
            for address in [vip.address, own] {
                scene.wire.send(&datagram(&scene.client, scene.host_mac, address, 5060));
            }
            ordinary.recv_from(&mut buffer).unwrap();
            assert_eq!(holding.recv_from(&mut buffer).is_ok(), open, "{vip}, open: {open}");
        }
    }
}

fn other_interfaces_of_the_host_do_not_answer_either(lab: &mut Lab) {
    // Linux answers on every interface for every address that it has.
    let second = Nic { name: "eth1", addresses: &[], ..HOST };
    lab.host("host", &[HOST, second]).unwrap();
    lab.host("client", &[CLIENT]).unwrap();
    let scene = Scene::of(lab, "eth1");
    scene.on_host(|| add_address(&vip(V4), &eth0()));
    let mut gate = scene.on_host(|| open_gate(&eth0()));
    let arp = |address: IpAddr| question(Kind::Neighbour, &scene.client, scene.host_mac, address);
    let [own, _] = scene.own_addresses();
    let from_eth1 = |expected: bool| {
        scene.wire.seen();
        scene.wire.send(&arp(vip(V4).address));
        scene.wire.send(&arp(own));
        let mut heard = false;
        loop {
            let seen = scene.wire.next(PATIENCE).expect("eth1 answers for the host's own address");
            if !scene.is_from_host(&seen) {
                continue;
            }
            match answer(&seen.frame) {
                Some((Kind::Neighbour, from)) if from == vip(V4).address => heard = true,
                Some((Kind::Neighbour, from)) if from == own => break,
                Some(_) | None => {}
            }
        }
        assert_eq!(heard, expected);
    };
    from_eth1(true);
    scene.on_host(|| gate.manage(&vip(V4), &InterfaceName::new("eth1").unwrap())).unwrap();
    from_eth1(false);
}

/// Lets a process hold the gate, sends it a signal at some time, and looks when the last frame for a VIP left the host.
fn closes_on_time(lab: &mut Lab, stop: impl Fn(&Child)) {
    let scene = Scene::build(lab);
    scene.on_host(|| vips().iter().for_each(|vip| add_address(vip, &eth0())));
    let tap = scene.on_host(|| Wire::open("eth0").unwrap());
    for trial in 0..5 {
        let mut holder = holder::start(scene.lab, "host", &["role-renew", "eth0", V4, V6]);
        // At some point of the lease, a different one each time.
        let renewals = holder::wait_for_lines(&mut holder, 3 + trial);
        tap.seen();
        stop(&holder);
        let (gate, until) = scene.on_host(|| {
            let gate = open_gate(&eth0());
            let until = vips().map(|vip| gate.state(&vip, now()).unwrap().until);
            (gate, until)
        });
        assert!(matches!(gate.continued(), Continued::Whole));
        let last = until.into_iter().max().unwrap();
        let mut frames = Vec::new();
        while now() < last + Duration::from_millis(100) {
            vips().iter().for_each(|vip| scene.send_questions(vip.address));
            scene.wire.seen();
            frames.extend(tap.seen());
        }
        for (vip, until) in vips().iter().zip(until) {
            let spoken =
                frames.iter().filter(|seen| seen.is_outgoing && speaks_for(&seen.frame, vip.address));
            let last = spoken.map(|seen| seen.at).max().expect("it was open for a while");
            assert!(
                last <= until + BEHIND_THE_GATE,
                "{vip}: {last} is after {until}, trial {trial}, {renewals}"
            );
        }
        holder::end(holder);
        scene.assert_answers(false, "after its time");
    }
}

fn closes_on_time_when_its_holder_is_stopped(lab: &mut Lab) {
    closes_on_time(lab, |holder| holder::signal(holder, Signal::SIGSTOP));
}

fn closes_on_time_when_its_holder_is_killed(lab: &mut Lab) {
    closes_on_time(lab, |holder| holder::signal(holder, Signal::SIGKILL));
}

fn closes_on_time_when_its_holder_is_frozen(lab: &mut Lab) {
    let Some(group) = Freezer::create() else {
        println!("skipped: no control group of version 2 can be made here");
        return;
    };
    closes_on_time(lab, |holder| group.freeze(holder));
}

/// Others never wait, and are preferred.
fn closes_on_time_when_its_holder_is_starved(lab: &mut Lab) {
    let scene = Scene::build(lab);
    scene.on_host(|| vips().iter().for_each(|vip| add_address(vip, &eth0())));
    let tap = scene.on_host(|| Wire::open("eth0").unwrap());
    let mut holder = holder::start(scene.lab, "host", &["role-renew", "eth0", V4, V6]);
    let output = holder.stdout.take().unwrap();
    let (renewed, told) = channel();
    let reader = std::thread::spawn(move || {
        holder::raise_thread(2);
        let lines = BufReader::new(output).lines().map_while(Result::ok);
        lines.map(|line| Micros(line.parse().unwrap())).try_for_each(|until| renewed.send(until))
    });
    let mut renewals = vec![told.recv_timeout(PATIENCE).unwrap()];
    scene.assert_answers(true, "renewed");
    let mut frames = tap.seen();
    holder::raise_thread(2);
    let mut crowd = holder::start(scene.lab, "host", &["role-crowd"]);
    holder::wait_for_lines(&mut crowd, 1);
    let end = Instant::now() + PATIENCE;
    let mut asked_after_its_end = 0;
    while asked_after_its_end < 30 {
        assert!(Instant::now() < end, "it was not starved");
        vips().iter().for_each(|vip| scene.send_questions(vip.address));
        scene.wire.seen();
        frames.extend(tap.seen());
        renewals.extend(told.try_iter());
        let over = *renewals.last().unwrap() < now();
        asked_after_its_end = if over { asked_after_its_end + 1 } else { 0 };
        std::thread::sleep(Duration::from_millis(1)); // leaves the crowd a processor
    }
    holder::end(crowd);
    holder::end(holder);
    let _ = reader.join().unwrap(); // an error: the last line came when nobody asked any more
    renewals.extend(told.try_iter());
    for vip in vips() {
        let spoken = frames.iter().filter(|seen| seen.is_outgoing && speaks_for(&seen.frame, vip.address));
        let mut count = 0;
        for Seen { at, .. } in spoken {
            let authorised = renewals.iter().filter(|until| **until <= *at + holder::LEASE).max().unwrap();
            assert!(*at <= *authorised + BEHIND_THE_GATE, "{vip}: {at} is after {authorised}");
            count += 1;
        }
        assert!(count > 0, "{vip}: it was open for a while");
    }
}

fn the_next_process_goes_on_where_the_last_one_ended(lab: &mut Lab) {
    let scene = Scene::build(lab);
    scene.on_host(|| vips().iter().for_each(|vip| add_address(vip, &eth0())));
    let mut first = holder::start(scene.lab, "host", &["role-open-long", "eth0", V4, V6]);
    assert!(first.wait().unwrap().success());
    scene.assert_answers(true, "its process has ended, its time has not");
    let mut gate = scene.on_host(|| Gate::open([]).unwrap());
    assert!(matches!(gate.continued(), Continued::Whole), "{:?}", gate.continued());
    assert!(
        gate.managed().eq(vips().map(|vip| vip.address)),
        "the next one knows what is managed, and where"
    );
    assert!(gate.check().is_empty());
    scene.assert_answers(true, "the next one has looked");
    for vip in &vips() {
        let state = gate.state(vip, now()).unwrap();
        assert_eq!((state.open, state.epoch, state.fence), (true, holder::EPOCH, holder::EPOCH));
        gate.authorise(vip, Epoch(1), now() + LONG).expect_err("fences are kept");
        gate.close_and_fence(vip, holder::EPOCH).unwrap();
    }
    scene.assert_answers(false, "closed by the next one");
    drop(gate);
    let gate = scene.on_host(|| open_gate(&eth0()));
    assert!(vips().iter().all(|vip| gate.fence(vip) == Some(Epoch(holder::EPOCH.0 + 1))));
}

fn replacing_the_program_opens_nothing(lab: &mut Lab) {
    let scene = Scene::build(lab);
    let mut gate = scene.on_host(|| open_gate(&eth0()));
    scene.on_host(|| vips().iter().for_each(|vip| add_address(vip, &eth0())));
    let tap = scene.on_host(|| Wire::open("eth0").unwrap());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                vips().iter().for_each(|vip| scene.send_questions(vip.address));
            }
        });
        for _ in 0..200 {
            gate = scene.on_host(|| open_gate(&eth0()));
            let leaked = |seen: &Seen| {
                seen.is_outgoing && vips().iter().any(|vip| speaks_for(&seen.frame, vip.address))
            };
            let leaks = tap.seen().iter().filter(|seen| leaked(seen)).count();
            if leaks > 0 {
                done.store(true, Ordering::Relaxed);
                panic!("{leaks} frames passed");
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    let stopped = gate.state(&vip(V4), Micros(0)).unwrap().stopped;
    assert!(stopped > 200, "{stopped}");
}

fn a_gate_that_cannot_be_read_is_replaced_by_a_closed_one(lab: &mut Lab) {
    let scene = Scene::build(lab);
    scene.on_host(|| vips().iter().for_each(|vip| add_address(vip, &eth0())));
    let play = |arguments: &[&str]| {
        assert!(holder::start(scene.lab, "host", arguments).wait().unwrap().success(), "{arguments:?}");
    };
    drop(scene.on_host(|| open_gate(&eth0())));
    play(&["role-look-without-sys-admin"]);
    scene.assert_answers(false, "left alone by who does not know what it is for");
    play(&["role-open-long", "eth0", V4, V6]);
    scene.assert_answers(true, "open for long");
    play(&["role-without-sys-admin", "eth0", V4, V6]);
    scene.assert_answers(false, "replaced");
}

fn who_may_not_is_told_what_is_missing(lab: &mut Lab) {
    lab.host("host", &[HOST]).unwrap();
    for role in ["role-nobody", "role-user-namespace"] {
        let mut child = holder::start(lab, "host", &[role]);
        assert!(child.wait().unwrap().success(), "{role}");
    }
}

/// For `holder`, which plays those who may not.
fn assert_refused(hint: &str) {
    let refused = Gate::open([]).expect_err("not allowed");
    assert!(matches!(refused, GateError::NoPermission { .. }), "{refused:?}");
    assert!(refused.to_string().contains(hint), "{refused}");
    let support = support();
    assert!(!support.is_sufficient());
    assert!(support.parts.iter().any(|part| part.problem.is_some()));
}
