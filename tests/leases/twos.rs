//! Two faults: one begins, the other begins a moment later, both are put right, in every order. Never do two hosts answer,
//! and everything is whole in the end.

use crate::faults::Fault;
use crate::watch::Watch;
use anyhow::Context;
use e2e::{site_with, whole_again};
use netlab::Lab;
use rehearsal::Site;
use std::time::Duration;

const CUTS: [Fault; 5] = [Fault::Cut, Fault::NotHeard, Fault::HearsNothing, Fault::FromScs, Fault::FromPeer];
const AGENTS: [Fault; 2] = [Fault::AgentStopped, Fault::AgentKilled];

pub fn of_cuts(_: &mut Lab) -> anyhow::Result<()> {
    let different =
        |one: Fault| CUTS.into_iter().filter(move |other| *other != one).map(move |other| (one, other));
    all(CUTS.into_iter().flat_map(different))
}

pub fn of_cuts_and_agents(_: &mut Lab) -> anyhow::Result<()> {
    all(CUTS
        .into_iter()
        .flat_map(|cut| AGENTS.into_iter().flat_map(move |agent| [(cut, agent), (agent, cut)])))
}

pub fn with_the_scs(_: &mut Lab) -> anyhow::Result<()> {
    let others = CUTS.into_iter().chain(AGENTS);
    all(others.flat_map(|other| [(other, Fault::ScsKilled), (Fault::ScsKilled, other)]))
}

pub fn with_the_server(_: &mut Lab) -> anyhow::Result<()> {
    let others = CUTS.into_iter().chain(AGENTS).chain([Fault::ScsKilled]);
    all(others.flat_map(|other| [(other, Fault::ServerKilled), (Fault::ServerKilled, other)]))
}

/// The host is cut off and comes back after every 70 ms of the time that a takeover takes.
pub fn healed_at_every_moment_of_a_takeover(_: &mut Lab) -> anyhow::Result<()> {
    let mut site = unguarded_site()?;
    for lasts in (0..=700).step_by(70) {
        back_to_the_first(&mut site)?;
        let watch = Watch::start(&site)?;
        Fault::Cut.begin(&mut site)?;
        std::thread::sleep(Duration::from_millis(lasts));
        Fault::Cut.end(&mut site)?;
        let primary = whole_again(&site)?;
        let answered = watch.end().with_context(|| format!("cut for {lasts} ms\n{}", site.logs()))?;
        println!("cut for {lasts} ms: answered by {answered:?}, primary is {primary}");
    }
    Ok(())
}

/// Faults one after another and at once, for `TAKEOVER_FAULT_SECONDS` (10) from the seed `TAKEOVER_SEED` (1).
pub fn at_random(_: &mut Lab) -> anyhow::Result<()> {
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
    };
    let (seconds, seed) = (number("TAKEOVER_FAULT_SECONDS", 10), number("TAKEOVER_SEED", 1));
    let faults: Vec<Fault> =
        CUTS.into_iter().chain(AGENTS).chain([Fault::ScsKilled, Fault::ServerKilled]).collect();
    // Xorshift: any sequence will do that a seed repeats.
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).map_or(0, |n| n % below.max(1))
    };
    let mut site = unguarded_site()?;
    let watch = Watch::start(&site)?;
    let (mut active, mut story): (Vec<Fault>, Vec<String>) = (Vec::new(), Vec::new());
    let begun = netlab::now();
    while netlab::now().since(begun) < Duration::from_secs(seconds) {
        let at = netlab::now().since(begun);
        if active.len() == 2 || !active.is_empty() && next(2) == 0 {
            let fault = active.swap_remove(next(active.len()));
            story.push(format!("{at:?}: {fault:?} ends"));
            fault.end(&mut site)?;
        } else {
            let fault = faults[next(faults.len())];
            if !active.contains(&fault)
                && !AGENTS.iter().all(|agent| active.contains(agent) || *agent == fault)
            {
                story.push(format!("{at:?}: {fault:?} begins"));
                fault.begin(&mut site)?;
                if fault != Fault::ServerKilled {
                    active.push(fault);
                }
            }
        }
        std::thread::sleep(Duration::from_millis(u64::try_from(next(900))?));
    }
    for fault in active {
        fault.end(&mut site)?;
    }
    let told = |site: &Site| format!("seed {seed}:\n{}\n{}", story.join("\n"), site.logs());
    whole_again(&site).with_context(|| told(&site))?;
    watch.end().with_context(|| told(&site))?;
    println!("seed {seed}: {} faults in {seconds} s", story.len());
    Ok(())
}

/// One installation goes through all of them.
fn all(twos: impl Iterator<Item = (Fault, Fault)>) -> anyhow::Result<()> {
    let mut site = unguarded_site()?;
    for (one, other) in twos {
        two(&mut site, one, other).with_context(|| format!("{one:?}, then {other:?}"))?;
    }
    Ok(())
}

fn two(site: &mut Site, one: Fault, other: Fault) -> anyhow::Result<()> {
    back_to_the_first(site)?;
    let watch = Watch::start(site)?;
    one.begin(site)?;
    std::thread::sleep(Duration::from_millis(250));
    other.begin(site)?;
    std::thread::sleep(Duration::from_millis(900));
    one.end(site)?;
    std::thread::sleep(Duration::from_millis(250));
    other.end(site)?;
    let primary = whole_again(site).with_context(|| site.logs())?;
    let answered = watch.end().with_context(|| site.logs())?;
    println!("{one:?}, then {other:?}: answered by {answered:?}, primary is {primary}");
    Ok(())
}

/// The ordinary installation, in which service may move as often as it likes.
fn unguarded_site() -> anyhow::Result<Site> {
    site_with(|cluster| cluster + "\n[pairs.sip.flap-guard]\nfree = 1000\nfreeze-after = 1000\n")
}

/// Every story begins with sip1 as primary.
fn back_to_the_first(site: &mut Site) -> anyhow::Result<()> {
    if whole_again(site)? != "sip1" {
        let ordered = site.command(&["switchover", "sip", "--to", "sip1"])?.output()?;
        anyhow::ensure!(ordered.status.success(), "{}", String::from_utf8_lossy(&ordered.stderr));
        e2e::whole(site, "sip1")?;
    }
    Ok(())
}
