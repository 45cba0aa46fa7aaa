//! An agent without an SCS: roles that it takes, VIPs that nobody has enabled. And what it does by itself where there is no
//! gate.

use crate::is_log;
use crate::peers::{Other, expecting_host0_with, peer, shared_with};
use crate::scs::{self, Agent, Scs, script, wait_for};
use crate::vips::{add_vips, by_hand, is_here, modeless, vip4, vip6, with_vips};
use crate::voice::Voice;
use control_link::messages::{Fact, FromPeer};
use control_link::{Identity, Role};
use domain::{AppStatus, Cluster, Epoch, LaunchOutcome, RunMode, ScriptName, VipControl, VipVerb, events};
use lease::{Body, Kind, Message, PairId, Refusal, Why};
use netlab::Lab;

fn part() -> Cluster {
    add_vips(shared_with("host0", "192.0.2.20"), ["host1", "host0"], &VipControl::BuiltIn)
}

/// An agent on host1 whose SCS is played, and the one of host0, also played, which it hears.
struct Scene {
    scs: Scs,
    agent: Agent,
    voice: Voice,
    identity: Identity,
    other: Other,
}

impl Scene {
    fn set(lab: &mut Lab) -> Self {
        let (mut scs, agent, voice) = expecting_host0_with(lab, part());
        let identity = scs.identity(Role::Agent, "host0");
        let mut other = Other::dial(lab, &identity).unwrap();
        other.greet(&voice);
        scs.fact(|fact| peer(fact, "host0", true));
        Self { scs, agent, voice, identity, other }
    }
}

fn about_the_pair(body: Body) -> Message {
    Message { pair: PairId::of(&"pair-app1".parse().unwrap()), body }
}

/// What the agent asked for last, to hold: under which epoch, by which grant.
fn asked(voice: &Voice) -> Option<(Epoch, Epoch)> {
    voice.messages().iter().rev().find_map(|message| match message.body {
        Body::Ask { epoch, kind: Kind::Hold { granted }, .. } => Some((epoch, granted)),
        Body::Ask { kind: Kind::Standby, .. }
        | Body::Promise { .. }
        | Body::Reject { .. }
        | Body::Release { .. } => None,
    })
}

pub fn a_role_that_was_taken_counts_when_its_lease_is_won(lab: &mut Lab) {
    let Scene { mut scs, agent, voice, mut other, .. } = Scene::set(lab);
    scs.voice.promise(false);
    voice.promise(false);
    wait_for(|| (!voice.messages().is_empty()).then_some(()));
    // The server has seen an epoch that no voter has: it would refuse a smaller one.
    assert_eq!(scs.vip(VipVerb::Disable, vip4(), 41, None).outcome, LaunchOutcome::Succeeded);
    scs.hang_up();
    agent.has_said("connection to the SCS is lost", 1);
    // The other server fails; and its agent has no vote to give.
    let release = about_the_pair(Body::Release { epoch: Epoch(7), why: Why::Failed });
    other.link.send(&FromPeer::Lease { messages: vec![release] }).unwrap();
    agent.has_said("application app1 becomes primary without an SCS", 1);
    let (_, granted) = wait_for(|| asked(&voice));
    assert_eq!(granted, Epoch(42));

    // The SCS is back, and hears nothing of it.
    scs.welcome(part());
    scs.fact(|fact| is_log(fact, events::CONNECTED));
    assert!(!scs.seen.iter().any(|fact| is_log(fact, events::TOOK_OVER_ALONE)), "{:#?}", scs.seen);
    assert_eq!(scs.taken_over, []);

    // It is won, under a greater epoch, since the other voter has seen that meanwhile.
    let (seen, why) = (Epoch(99), Refusal::Epoch);
    voice.say(&[about_the_pair(Body::Reject { seen, granted: Epoch(0), why })]);
    wait_for(|| asked(&voice).filter(|(epoch, _)| *epoch > seen));
    voice.promise(true);
    scs.fact(|fact| is_log(fact, events::TOOK_OVER_ALONE));
    scs.wait_until(|scs| !scs.taken_over.is_empty());
    assert_eq!(scs.taken_over[0].epoch, Epoch(100));
}

pub fn vips_that_the_scs_did_not_get_to_are_enabled_without_it(lab: &mut Lab) {
    let mut scene = Scene::set(lab);
    let scs = &mut scene.scs;
    scs.set_mode("app1", RunMode::Primary, 2);
    scs.fact(|fact| is_log(fact, events::LEASE_HELD));
    assert!(!is_here(lab, vip4()), "nobody has ordered it yet");
    scs.hang_up();
    for vip in [vip4(), vip6()] {
        wait_for(|| is_here(lab, vip).then_some(()));
    }

    // What is disabled by order stays so, until the role is granted anew.
    scs.welcome(part());
    assert_eq!(scs.vip(VipVerb::Disable, vip4(), 2, None).outcome, LaunchOutcome::Succeeded);
    scs.hang_up();
    scs.welcome(part());
    scs.fact(|fact| is_log(fact, events::CONNECTED));
    assert!(!scs.seen.iter().any(|fact| is_log(fact, events::VIP_ENABLED)), "{:#?}", scs.seen);
    assert!(!is_here(lab, vip4()) && is_here(lab, vip6()));
    scs.set_mode("app1", RunMode::Primary, 4);
    scs.hang_up();
    wait_for(|| is_here(lab, vip4()).then_some(()));
}

pub fn an_agent_that_comes_back_late_enables_what_ran_out(lab: &mut Lab) {
    let Scene { mut scs, mut agent, voice, identity, other } = Scene::set(lab);
    scs.set_mode("app1", RunMode::Primary, 2);
    for vip in [vip4(), vip6()] {
        assert_eq!(scs.vip(VipVerb::Enable, vip, 2, None).outcome, LaunchOutcome::Succeeded);
    }
    agent.state_is_saved(|state| state.contains("\"mode\":\"primary\""));
    agent.kill();
    drop(other);
    scs.hang_up();
    // As the kernel does when nobody renews them.
    for vip in [vip4(), vip6()] {
        by_hand(lab, |controller| controller.disable(&vip, &scs::eth0()).unwrap());
    }
    agent.start_again(lab, &scs);
    let mut other = wait_for(|| Other::dial(lab, &identity).ok());
    other.greet(&voice);
    for vip in [vip4(), vip6()] {
        wait_for(|| is_here(lab, vip).then_some(()));
    }
}

pub fn without_a_gate_the_script_disables_a_vip_when_its_lease_ends(lab: &mut Lab) {
    renounce_bpf();
    let mut scs = Scs::start(lab);
    let agent = Agent::start(lab, &scs);
    let note = agent.directory().join("note");
    let name = ScriptName::new("move").unwrap();
    let mut part = with_vips(modeless(), &VipControl::Script(name.clone()));
    let text = format!("echo $TAKEOVER_VERB $TAKEOVER_VIP_ADDRESS >> {}", note.display());
    part.scripts.insert(name, script(&text));
    scs.welcome(part);
    scs.app_is("app1", AppStatus::Started);
    scs.set_mode("app1", RunMode::Primary, 2);
    assert_eq!(scs.vip(VipVerb::Enable, vip4(), 2, Some("move")).outcome, LaunchOutcome::Succeeded);
    let noted = |lines: &str| {
        wait_for(|| (std::fs::read_to_string(&note).unwrap() == lines).then_some(()));
    };
    noted("enable 192.0.2.100\n");
    scs.voice.promise(false);
    noted("enable 192.0.2.100\ndisable 192.0.2.100\n");
    agent.has_said("its script is run to disable it", 1);
    // It comes back with the lease.
    scs.voice.promise(true);
    noted("enable 192.0.2.100\ndisable 192.0.2.100\nenable 192.0.2.100\n");
    // What is disabled by order is not run again for that, nor enabled.
    assert_eq!(scs.vip(VipVerb::Disable, vip4(), 2, Some("move")).outcome, LaunchOutcome::Succeeded);
    scs.voice.promise(false);
    scs.fact(|fact| is_log(fact, events::LEASE_LOST));
    scs.voice.promise(true);
    scs.fact(|fact| is_log(fact, events::LEASE_HELD));
    noted("enable 192.0.2.100\ndisable 192.0.2.100\nenable 192.0.2.100\ndisable 192.0.2.100\n");
    assert!(matches!(scs.seen.last(), Some(Fact::Log(_))));
}

/// What this process executes from now on may not use bpf(2), root or not (capabilities(7), "Capability bounding set").
fn renounce_bpf() {
    const CAP_SYS_ADMIN: libc::c_ulong = 21;
    const CAP_PERFMON: libc::c_ulong = 38;
    const CAP_BPF: libc::c_ulong = 39;
    for capability in [CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF] {
        // SAFETY: takes numbers, and reads no memory of ours.
        let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        assert_eq!(dropped, 0, "capability {capability}: {}", std::io::Error::last_os_error());
    }
}
