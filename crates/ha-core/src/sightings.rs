//! What the network says about the VIPs, seen from outside by hosts that do not hold them, and by the SCS where it shares
//! the subnet: the newest sighting of each observer, and whose answer it was.

use crate::state::State;
use domain::{HostName, MacAddress, Micros, SeenHolder, VipAddress, VipSighting};
use std::collections::BTreeSet;
use std::fmt;

/// Who asked the network.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Observer {
    /// The agent of a member's host.
    Host(HostName),
    /// The SCS, from its own machine.
    Scs,
}

impl Observer {
    /// The host whose agent it is.
    pub(crate) fn host(&self) -> Option<&HostName> {
        match self {
            Observer::Host(host) => Some(host),
            Observer::Scs => None,
        }
    }
}

impl fmt::Display for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Observer::Host(host) => host.fmt(f),
            Observer::Scs => f.write_str("the SCS"),
        }
    }
}

/// What one observer saw last of one VIP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sighting {
    /// When it was asked first: what held before may have been answered before.
    pub asked: Micros,
    /// When the inquiry was over.
    pub at: Micros,
    /// When the SCS was told, on its own clock alone: two hosts' clocks are never equal enough to say what came first.
    pub told: Micros,
    /// Who answered.
    pub holders: Vec<SeenHolder>,
    /// How many sightings in a row, this one included, were not of exactly one holder.
    pub odd: u32,
}

impl State {
    /// Only members' hosts ask, and only about the VIPs of their pairs; anything else is not kept.
    pub(crate) fn vip_sighted(&mut self, host: HostName, at: Micros, sighting: VipSighting, now: Micros) {
        if self.vips.contains_key(&(host.clone(), sighting.vip)) {
            self.sighted(Observer::Host(host), at, sighting, now);
        }
    }

    /// The networks that the SCS's machine is in have changed. What it saw in others is old.
    pub(crate) fn scs_sees(&mut self, vips: BTreeSet<VipAddress>) {
        self.sightings.retain(|(vip, observer), _| *observer != Observer::Scs || vips.contains(vip));
        self.seen_by_scs = vips;
    }

    /// The SCS has asked the network itself. An inquiry that failed tells nothing.
    pub(crate) fn scs_sighted(
        &mut self,
        vip: VipAddress,
        at: Micros,
        sighting: Result<VipSighting, String>,
        now: Micros,
    ) {
        self.scs_asks.remove(&vip);
        self.touched.extend(self.index.pair_with(&vip).cloned());
        if let Ok(sighting) = sighting
            && self.seen_by_scs.contains(&vip)
            && self.index.pair_with(&vip).is_some()
        {
            self.sighted(Observer::Scs, at, sighting, now);
        }
    }

    fn sighted(&mut self, observer: Observer, at: Micros, sighting: VipSighting, now: Micros) {
        let VipSighting { vip, asked, holders, interface: _ } = sighting;
        let before = self.sightings.get(&(vip, observer.clone())).map_or(0, |seen| seen.odd);
        let odd = if holders.len() == 1 { 0 } else { before.saturating_add(1) };
        self.sightings.insert((vip, observer), Sighting { asked, at, told: now, holders, odd });
        self.touched.extend(self.index.pair_with(&vip).cloned());
    }

    /// The sightings of a VIP, by observer.
    pub(crate) fn sightings_of(&self, vip: &VipAddress) -> impl Iterator<Item = (&Observer, &Sighting)> {
        let vip = *vip;
        self.sightings
            .iter()
            .filter(move |((of, _), _)| *of == vip)
            .map(|((_, observer), seen)| (observer, seen))
    }

    /// The host that has an Ethernet address on an interface for VIPs; none: a stranger, or not heard of yet.
    pub(crate) fn host_at(&self, mac: MacAddress) -> Option<&HostName> {
        self.hosts.iter().find(|(_, host)| host.macs.values().any(|own| *own == mac)).map(|(name, _)| name)
    }

    /// An observer that went out of sight has nothing to say about now.
    pub(crate) fn forget_sightings_by(&mut self, host: &HostName) {
        self.sightings.retain(|(_, observer), _| observer.host() != Some(host));
    }
}
