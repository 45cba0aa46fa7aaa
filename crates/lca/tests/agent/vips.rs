//! VIPs: enabled, disabled, put back, released by a death, found at the start; by the built-in control and by a script.

use crate::is_log;
use crate::scs::{self, Agent, Scs, cluster, eth0, script, sh};
use control_link::messages::Fact;
use domain::{
    AppStatus, Application, Cluster, LaunchOutcome, ModeControl, RunMode, ScriptName, Vip, VipAddress,
    VipControl, VipReport, VipVerb, events,
};
use netlab::Lab;
use std::collections::BTreeMap;
use std::time::Instant;
use vip_control::{Monitor, NetEvent, Validity, VipController};

pub fn vip4() -> VipAddress {
    "192.0.2.100/24".parse().unwrap()
}

pub fn vip6() -> VipAddress {
    "2001:db8::100/64".parse().unwrap()
}

/// app1 with both VIPs.
pub fn with_vips(app: Application, control: &VipControl) -> Cluster {
    add_vips(cluster([("app1", app)]), ["host1", "host2"], control)
}

/// Both VIPs in the pair of app1, on these hosts.
pub fn add_vips(mut cluster: Cluster, hosts: [&str; 2], control: &VipControl) -> Cluster {
    let pair = cluster.pairs.get_mut(&"pair-app1".parse().unwrap()).unwrap();
    for address in [vip4(), vip6()] {
        let interfaces = BTreeMap::from(hosts.map(|host| (host.parse().unwrap(), eth0())));
        pair.vips.push(Vip { address, interfaces, control: control.clone() });
    }
    cluster
}

pub fn modeless() -> Application {
    let mut app = sh("exec sleep 1000");
    app.mode_control = ModeControl::None;
    app
}

pub fn is_here(lab: &Lab, vip: VipAddress) -> bool {
    lab.addresses("host1").unwrap().iter().any(|found| found.address == vip.address)
}

/// Another tool's doing.
pub fn by_hand<T: Send>(lab: &Lab, work: impl FnOnce(&mut VipController) -> T + Send) -> T {
    lab.in_host("host1", || work(&mut VipController::open().unwrap())).unwrap()
}

fn is_vip(fact: &Fact, address: VipAddress, wanted: bool) -> bool {
    matches!(fact, Fact::Vip(VipReport { vip, present, .. }) if *vip == address && *present == wanted)
}

/// An agent whose application is primary, epoch 3, and has both VIPs.
fn primary_with_vips(lab: &mut Lab) -> (Scs, Agent, u32) {
    let mut scs = Scs::start(lab);
    let agent = Agent::start(lab, &scs);
    scs.welcome(with_vips(modeless(), &VipControl::BuiltIn));
    let pid = scs.app_is("app1", AppStatus::Started).pid.unwrap();
    scs.set_mode("app1", RunMode::Primary, 3);
    for vip in [vip4(), vip6()] {
        let enabled = scs.vip(VipVerb::Enable, vip, 3, None);
        assert_eq!(enabled.outcome, LaunchOutcome::Succeeded, "{enabled:?}");
        println!("enabled in {} us", enabled.took_us);
    }
    (scs, agent, pid)
}

pub fn the_built_in_control_enables_and_disables(lab: &mut Lab) {
    let (mut scs, _agent, _) = primary_with_vips(lab);
    assert!(is_here(lab, vip4()) && is_here(lab, vip6()));
    let seen = |wanted: &dyn Fn(&Fact) -> bool| scs.seen.iter().position(wanted);
    let present = seen(&|fact| is_vip(fact, vip4(), true)).expect("the VIP is reported");
    let ended = seen(&|fact| matches!(fact, Fact::LaunchEnded(_))).expect("the launch is reported");
    assert!(present < ended, "presence first, then the result");
    // The neighbour knows: it was told, it did not ask.
    assert_eq!(
        scs.vip(VipVerb::Enable, vip4(), 3, None).outcome,
        LaunchOutcome::Succeeded,
        "again does no harm"
    );
    let stale = scs.vip(VipVerb::Disable, vip4(), 2, None).outcome;
    assert!(matches!(stale, LaunchOutcome::Stale { seen } if seen.0 == 3), "{stale:?}");
    assert!(is_here(lab, vip4()));
    assert_eq!(scs.vip(VipVerb::Disable, vip4(), 3, None).outcome, LaunchOutcome::Succeeded);
    assert!(!is_here(lab, vip4()) && is_here(lab, vip6()));
    // A newer epoch of the pair, seen in a launch, fences off older instructions too.
    scs.vip(VipVerb::Disable, vip6(), 5, None);
    assert_eq!(
        scs.set_mode("app1", RunMode::Primary, 4),
        domain::AnswerOutcome::Stale { seen: domain::Epoch(5) }
    );
}

pub fn a_backup_gets_no_vip(lab: &mut Lab) {
    let mut scs = Scs::start(lab);
    let _agent = Agent::start(lab, &scs);
    scs.welcome(with_vips(modeless(), &VipControl::BuiltIn));
    scs.app_is("app1", AppStatus::Started);
    let refused = scs.vip(VipVerb::Enable, vip4(), 1, None).outcome;
    assert!(matches!(refused, LaunchOutcome::Failed { why } if why.contains("not in primary mode")));
    assert!(!is_here(lab, vip4()));
}

pub fn a_death_releases_the_vips_before_it_is_reported(lab: &mut Lab) {
    let (mut scs, _agent, pid) = primary_with_vips(lab);
    let killed = Instant::now();
    scs::kill(pid);
    let report = scs.app_is("app1", AppStatus::Stopped);
    println!("reported {} us after the kill", killed.elapsed().as_micros());
    assert!(!is_here(lab, vip4()) && !is_here(lab, vip6()));
    assert_eq!(report.released, [vip4(), vip6()]);
    scs.fact(|fact| is_vip(fact, vip4(), false));
    scs.fact(|fact| is_log(fact, events::VIP_DISABLED));
    // It comes back as backup, without them.
    assert_eq!(scs.app_is("app1", AppStatus::Started).mode, Some(RunMode::Backup));
    assert!(!is_here(lab, vip4()));
}

pub fn a_vip_that_another_tool_removes_is_put_back(lab: &mut Lab) {
    let (mut scs, _agent, _) = primary_with_vips(lab);
    for vip in [vip4(), vip6()] {
        by_hand(lab, |controller| controller.disable(&vip, &eth0()).unwrap());
        let removed = Instant::now();
        scs::wait_for(|| is_here(lab, vip).then_some(()));
        println!("{vip} was put back within {} us", removed.elapsed().as_micros());
        scs.fact(|fact| is_log(fact, events::VIP_PUT_BACK));
    }
    assert!(!scs.seen.iter().any(|fact| is_vip(fact, vip4(), false)), "it was not away");
    // Disabled by order: not put back.
    scs.vip(VipVerb::Disable, vip4(), 3, None);
    assert!(!is_here(lab, vip4()));
}

/// Waits until the kernel told, of each VIP and as often, that it is here for a limited time.
fn wait_for_renewals(monitor: &mut Monitor, times: usize) {
    let mut told = Vec::new();
    scs::wait_for(|| {
        let _ = monitor.events(&mut told).unwrap();
        let renewals = |vip: VipAddress| {
            let renewal = |event: &&NetEvent| {
                let NetEvent::AddressAdded { address, permanent, .. } = event else { return false };
                !permanent && *address == vip.address
            };
            told.iter().filter(renewal).count()
        };
        (renewals(vip4()) >= times && renewals(vip6()) >= times).then_some(())
    });
}

pub fn an_address_goes_when_its_agent_stops_and_comes_back_with_the_lease(lab: &mut Lab) {
    let (mut scs, agent, _) = primary_with_vips(lab);
    let mut monitor = lab.in_host("host1", || Monitor::open().unwrap()).unwrap();
    wait_for_renewals(&mut monitor, 2);
    for vip in [vip4(), vip6()] {
        by_hand(lab, |controller| controller.enable(&vip, &eth0(), Validity::Permanent).unwrap());
    }
    let mut monitor = lab.in_host("host1", || Monitor::open().unwrap()).unwrap();
    wait_for_renewals(&mut monitor, 1);
    scs::signal(agent.pid(), libc::SIGSTOP);
    scs::wait_for(|| (!is_here(lab, vip4()) && !is_here(lab, vip6())).then_some(()));
    scs::signal(agent.pid(), libc::SIGCONT);
    for vip in [vip4(), vip6()] {
        scs::wait_for(|| is_here(lab, vip).then_some(()));
        scs.fact(|fact| is_log(fact, events::VIP_ENABLED));
    }
    assert!(!scs.seen.iter().any(|fact| is_log(fact, events::VIP_PUT_BACK)), "no other tool removed them");
}

pub fn a_fight_over_a_vip_is_not_fought_for_ever(lab: &mut Lab) {
    let (mut scs, _agent, _) = primary_with_vips(lab);
    // The other tool removes it every time, at once.
    for _ in 0..5 {
        by_hand(lab, |controller| controller.disable(&vip4(), &eth0()).unwrap());
        scs::wait_for(|| is_here(lab, vip4()).then_some(()));
    }
    by_hand(lab, |controller| controller.disable(&vip4(), &eth0()).unwrap());
    scs.fact(|fact| is_vip(fact, vip4(), false));
    // And when the other tool has had enough, it comes back.
    scs.fact(|fact| is_vip(fact, vip4(), true));
    assert!(is_here(lab, vip4()));
}

pub fn carrier_and_the_return_of_the_interface_are_told(lab: &mut Lab) {
    let (mut scs, _agent, _) = primary_with_vips(lab);
    // The connection to the SCS uses the same wire: what happens meanwhile is told afterwards.
    let down = |event: &NetEvent| matches!(event, NetEvent::Link(report) if report.interface == eth0() && !report.up);
    let mut monitor = lab.in_host("host1", || Monitor::open().unwrap()).unwrap();
    lab.cut("host1").unwrap();
    // The kernel tells a change of carrier up to a second later, and one that is over by then not at all.
    scs::wait_for(|| {
        let mut events = Vec::new();
        let _ = monitor.events(&mut events).unwrap();
        events.iter().any(down).then_some(())
    });
    lab.heal("host1").unwrap();
    scs.fact(|fact| is_log(fact, events::CARRIER_LOST));
    scs.fact(|fact| matches!(fact, Fact::Interface(report) if report.up && report.mac.is_some()));
    scs.fact(|fact| is_log(fact, events::CARRIER_BACK));
    assert!(is_here(lab, vip4()) && is_here(lab, vip6()));
}

pub fn a_leftover_vip_is_removed_at_the_start(lab: &mut Lab) {
    let mut scs = Scs::start(lab);
    by_hand(lab, |controller| controller.enable(&vip4(), &eth0(), Validity::Permanent).unwrap());
    let _agent = Agent::start(lab, &scs);
    scs.welcome(with_vips(modeless(), &VipControl::BuiltIn));
    scs::wait_for(|| (!is_here(lab, vip4())).then_some(()));
    scs.fact(|fact| is_log(fact, events::VIP_DISABLED));
}

pub fn the_next_agent_keeps_the_vips_of_a_primary(lab: &mut Lab) {
    let (mut scs, mut agent, pid) = primary_with_vips(lab);
    agent.state_is_saved(|state| state.contains("\"mode\":\"primary\""));
    agent.kill();
    agent.start_again(lab, &scs);
    scs.welcome(with_vips(modeless(), &VipControl::BuiltIn));
    scs.fact(|fact| is_vip(fact, vip6(), true));
    assert!(is_here(lab, vip4()) && is_here(lab, vip6()));
    assert!(!scs.seen.iter().any(|fact| is_log(fact, events::VIP_DISABLED)));
    let mut monitor = lab.in_host("host1", || Monitor::open().unwrap()).unwrap();
    wait_for_renewals(&mut monitor, 2);
    // And holds them as its own: a death releases them.
    scs::kill(pid);
    assert_eq!(scs.app_is("app1", AppStatus::Stopped).released, [vip4(), vip6()]);
}

pub fn the_gate_is_removed_when_neither_agent_nor_vip_is_there(lab: &mut Lab) {
    let (_scs, mut agent, _) = primary_with_vips(lab);
    let run = agent.directory().join("run");
    let remove = |force| lab.in_host("host1", || lca::remove_gate(&run, force)).unwrap();
    let refused = |force| format!("{:#}", remove(force).unwrap_err());
    assert!(refused(true).contains("another agent runs"), "{}", refused(true));
    agent.terminate();
    let why = refused(false);
    assert!(why.contains("192.0.2.100 is still on eth0") || why.contains("2001:db8::100"), "{why}");
    for vip in [vip4(), vip6()] {
        by_hand(lab, |controller| controller.disable(&vip, &eth0()).unwrap());
    }
    assert_eq!(remove(false).unwrap(), [eth0()]);
    assert_eq!(remove(false).unwrap(), [], "once is enough");
    let filters = lab.in_host("host1", || vip_control::gate::left().unwrap()).unwrap();
    assert!(filters.interfaces().is_empty(), "{filters:?}");
}

pub fn a_script_of_the_users_controls_vips(lab: &mut Lab) {
    let mut scs = Scs::start(lab);
    let agent = Agent::start(lab, &scs);
    let note = agent.directory().join("note");
    let name = ScriptName::new("move").unwrap();
    let mut part = with_vips(modeless(), &VipControl::Script(name.clone()));
    let text = format!(
        "echo $0 $TAKEOVER_VERB $TAKEOVER_VIP $TAKEOVER_VIP_ADDRESS $TAKEOVER_INTERFACE $TAKEOVER_MODE $TAKEOVER_PAIR >> {}",
        note.display()
    );
    part.scripts.insert(name, script(&text));
    scs.welcome(part);
    scs.app_is("app1", AppStatus::Started);
    scs.set_mode("app1", RunMode::Primary, 1);
    for verb in [VipVerb::Enable, VipVerb::Disable] {
        assert_eq!(scs.vip(verb, vip4(), 1, Some("move")).outcome, LaunchOutcome::Succeeded);
    }
    let facts = "192.0.2.100/24 192.0.2.100 eth0 primary pair-app1";
    assert_eq!(
        std::fs::read_to_string(&note).unwrap(),
        format!("enable enable {facts}\ndisable disable {facts}\n")
    );
    // What the script did is known by the kernel, whoever did it.
    by_hand(lab, |controller| controller.enable(&vip4(), &eth0(), Validity::Permanent).unwrap());
    scs.fact(|fact| is_vip(fact, vip4(), true));
}
