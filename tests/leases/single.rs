//! One fault at a time: what moves service and what does not, and how soon it is back.

use crate::faults::Fault;
use crate::watch::Watch;
use anyhow::ensure;
use e2e::{LIMIT, ordinary_site, wait_until, whole, whole_again};
use netlab::Lab;
use nix::sys::signal::Signal;
use rehearsal::{Site, VIP};
use std::time::Duration;

/// A promise of profile `normal` (452 ms), the next renewal (100 ms), and what a busy machine takes besides.
const SERVED_AGAIN: Duration = Duration::from_millis(552 + 700);
/// How long a client may be without an answer where nothing but the machine's load can delay one.
const HICCUP: Duration = Duration::from_millis(200);

pub fn host_cut(_: &mut Lab) -> anyhow::Result<()> {
    moves(Fault::Cut)
}

pub fn host_not_heard(_: &mut Lab) -> anyhow::Result<()> {
    moves(Fault::NotHeard)
}

pub fn host_hears_nothing(_: &mut Lab) -> anyhow::Result<()> {
    moves(Fault::HearsNothing)
}

pub fn cut_from_the_scs_alone(_: &mut Lab) -> anyhow::Result<()> {
    moves_nothing(Fault::FromScs)
}

pub fn cut_from_the_peer_alone(_: &mut Lab) -> anyhow::Result<()> {
    moves_nothing(Fault::FromPeer)
}

/// The agent's host goes on serving under the lease that it has.
pub fn agent_stopped_for_a_moment(_: &mut Lab) -> anyhow::Result<()> {
    let mut site = ordinary_site()?;
    let (watch, prober, begun) = (Watch::start(&site)?, site.prober()?, netlab::now());
    for _ in 0..5 {
        Fault::AgentStopped.begin(&mut site)?;
        std::thread::sleep(Duration::from_millis(100));
        Fault::AgentStopped.end(&mut site)?;
        std::thread::sleep(Duration::from_millis(300));
    }
    unmoved(&prober.observe(begun))?;
    ensure!(watch.end()? == ["host1"], "another host has answered");
    whole(&site, "sip1")
}

/// Its gate closes by itself, and when it goes on it does not answer once more.
pub fn agent_stopped_for_long(_: &mut Lab) -> anyhow::Result<()> {
    moves(Fault::AgentStopped)
}

pub fn agent_killed_for_good(_: &mut Lab) -> anyhow::Result<()> {
    moves(Fault::AgentKilled)
}

pub fn scs_killed(_: &mut Lab) -> anyhow::Result<()> {
    moves_nothing(Fault::ScsKilled)
}

/// The stated limit: one vote of three is left, the VIP stops. It is back with the host.
pub fn scs_and_host_lost_at_once(_: &mut Lab) -> anyhow::Result<()> {
    let mut site = ordinary_site()?;
    let (watch, prober) = (Watch::start(&site)?, site.prober()?);
    Fault::ScsKilled.begin(&mut site)?;
    Fault::Cut.begin(&mut site)?;
    // For as long as several leases last: nobody may take what one vote gives.
    std::thread::sleep(Duration::from_secs(2));
    let now = netlab::now();
    std::thread::sleep(Duration::from_millis(200));
    ensure!(prober.observe(now).answers().is_empty(), "somebody answers with one vote of three");
    Fault::Cut.end(&mut site)?;
    let healed = netlab::now();
    ensure!(
        prober.await_answer("sip1", healed, LIMIT),
        "the pair does not serve without the SCS\n{}",
        site.logs()
    );
    Fault::ScsKilled.end(&mut site)?;
    whole_again(&site)?;
    watch.end()?;
    Ok(())
}

/// Whoever puts the address there: the gate is closed to it.
pub fn address_added_by_hand_on_the_backup(_: &mut Lab) -> anyhow::Result<()> {
    let site = ordinary_site()?;
    let (watch, prober, begun) = (Watch::start(&site)?, site.prober()?, netlab::now());
    site.signal_agent("host2", Signal::SIGSTOP)?;
    let mut ip = std::process::Command::new("ip");
    ip.args(["address", "add", &format!("{VIP}/24"), "dev", "eth0"]);
    let added = site.lab.spawn("host2", ip)?.wait()?;
    ensure!(added.success(), "ip address add: {added}");
    wait_until("both hosts to have the address", || Ok(site.holders(VIP)?.len() == 2))?;
    std::thread::sleep(Duration::from_millis(300));
    site.signal_agent("host2", Signal::SIGCONT)?;
    wait_until("the address to be removed", || Ok(site.holders(VIP)? == ["host1"]))?;
    whole(&site, "sip1")?;
    unmoved(&prober.observe(begun))?;
    ensure!(watch.end()? == ["host1"], "the backup's host has answered");
    Ok(())
}

/// Service moves within a promise and a renewal, and stays moved when the fault is over.
fn moves(fault: Fault) -> anyhow::Result<()> {
    let mut site = ordinary_site()?;
    let (watch, prober, begun) = (Watch::start(&site)?, site.prober()?, netlab::now());
    ensure!(prober.await_answer("sip1", begun, LIMIT), "sip1 does not answer");
    fault.begin(&mut site)?;
    ensure!(prober.await_answer("sip2", begun, LIMIT), "{fault:?}: sip2 does not take over\n{}", site.logs());
    std::thread::sleep(Duration::from_millis(300));
    let seen = prober.observe(begun);
    let gap = longest_gap(&seen);
    ensure!(gap < SERVED_AGAIN, "{fault:?}: no answer for {gap:?}\n{}", site.logs());

    let healed = netlab::now();
    fault.end(&mut site)?;
    whole(&site, "sip2")?;
    let seen = prober.observe(healed);
    let after = longest_gap(&seen);
    println!("{fault:?}: served again after {gap:?}; longest gap after the heal {after:?}");
    ensure!(after < HICCUP, "{fault:?}: no answer for {after:?} after the heal\n{}", site.logs());
    ensure!(
        seen.count_by_tag().keys().all(|tag| *tag == "sip2"),
        "after the heal: {:?}",
        seen.count_by_tag()
    );
    ensure!(watch.end()? == ["host1", "host2"], "the role went back and forth");
    Ok(())
}

/// Service stays where it is, as long as the fault lasts and afterwards.
fn moves_nothing(fault: Fault) -> anyhow::Result<()> {
    let mut site: Site = ordinary_site()?;
    let (watch, prober, begun) = (Watch::start(&site)?, site.prober()?, netlab::now());
    fault.begin(&mut site)?;
    // For as long as several leases last.
    std::thread::sleep(Duration::from_millis(2_500));
    fault.end(&mut site)?;
    whole(&site, "sip1")?;
    unmoved(&prober.observe(begun))?;
    ensure!(watch.end()? == ["host1"], "{fault:?}: another host has answered\n{}", site.logs());
    Ok(())
}

fn unmoved(seen: &netlab::Observation) -> anyhow::Result<()> {
    ensure!(seen.count_by_tag().keys().all(|tag| *tag == "sip1"), "{:?}", seen.count_by_tag());
    let gap = longest_gap(seen);
    println!("unmoved, longest gap {gap:?}");
    ensure!(gap < HICCUP, "no answer for {gap:?}");
    Ok(())
}

fn longest_gap(seen: &netlab::Observation) -> Duration {
    seen.longest_gap().map_or(Duration::ZERO, netlab::Gap::length)
}
