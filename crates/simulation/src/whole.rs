//! What must be so when everything was mended and nothing has happened for a while.

use crate::clock::TrueTime;
use crate::host::Host;
use crate::message::Node;
use crate::world::World;
use domain::{AppName, Pair, PairName, RunMode};

/// In words; empty: all is well.
pub(crate) fn what_is_wrong(world: &World) -> Vec<String> {
    let mut wrong = Vec::new();
    let Some(scs) = &world.scs else { return vec!["the SCS is down".to_owned()] };
    let unanswered = scs.state().unanswered();
    if unanswered > 0 {
        wrong.push(format!("{unanswered} instructions or launches are not answered"));
    }
    for (n, host) in world.hosts.iter().enumerate() {
        match host.agent.as_ref().map(|agent| agent.unacknowledged()) {
            None => wrong.push(format!("{} has no agent", Node::Host(n))),
            Some(0) => {}
            Some(some) => wrong.push(format!("{some} reports of {} are not acknowledged", Node::Host(n))),
        }
    }
    let view = scs.state().view(world.scs_time());
    for app in view.applications.iter().filter(|app| app.stop_ordered && !world.stopped.contains(&app.name)) {
        wrong.push(format!("{} counts as stopped by order, and nobody ordered it", app.name));
    }
    for (name, pair) in &world.cluster().pairs {
        let Some(seen) = view.pairs.iter().find(|seen| seen.name == *name) else { continue };
        pair_is_wrong(world, name, pair, &mut wrong);
        if let Some(incident) = seen.incident {
            wrong.push(format!("{name}: incident {incident} does not end"));
        }
        if seen.primary.is_none() || seen.primary != seen.wanted_primary {
            wrong
                .push(format!("{name}: the SCS wants {:?} and sees {:?}", seen.wanted_primary, seen.primary));
        }
    }
    wrong
}

fn pair_is_wrong(world: &World, name: &PairName, pair: &Pair, wrong: &mut Vec<String>) {
    let member = |app: &AppName| {
        let host = world.cluster().host_of(app).expect("every application has a host");
        world.hosts.iter().find(|known| known.name == *host).expect("every host is in the world")
    };
    let is_primary = |app: &&AppName| {
        member(app).processes.get(*app).is_some_and(|p| p.ready && p.mode == RunMode::Primary)
    };
    let primaries: Vec<&AppName> = pair.members.iter().filter(is_primary).collect();
    let [primary] = primaries[..] else {
        return wrong.push(format!("{name} has primaries {primaries:?}"));
    };
    for app in &pair.members {
        let (host, here) = (member(app), app == primary);
        for vip in &pair.vips {
            if host.addresses.contains(&vip.address) != here {
                let has = if here { "has not" } else { "has" };
                wrong.push(format!("{primary} is primary, and {} {has} {}", host.name, vip.address));
            }
        }
        if is_open(host, name, world.now) != here {
            let gate = if here { "closed" } else { "open" };
            wrong.push(format!("{primary} is primary, and the gate of {} is {gate}", host.name));
        }
        let backing = host.agent.as_ref().and_then(|agent| agent.backing(name, host.clock.at(world.now)));
        if here && backing != Some(2) {
            wrong.push(format!("{name}: the lease of {} has the backing of {backing:?}", host.name));
        }
    }
}

fn is_open(host: &Host, pair: &PairName, now: TrueTime) -> bool {
    host.gate(pair).is_open(host.clock.at(now))
}
