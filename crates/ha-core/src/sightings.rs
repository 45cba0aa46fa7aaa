//! What the network says about the VIPs, seen from outside by hosts that do not hold them: the newest sighting of each
//! observer, and whose answer it was.

use crate::state::State;
use domain::{HostName, MacAddress, Micros, SeenHolder, VipAddress, VipSighting};

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
        let VipSighting { vip, asked, holders, interface: _ } = sighting;
        if self.vips.contains_key(&(host.clone(), vip)) {
            let before = self.sightings.get(&(vip, host.clone())).map_or(0, |seen| seen.odd);
            let odd = if holders.len() == 1 { 0 } else { before.saturating_add(1) };
            self.sightings.insert((vip, host), Sighting { asked, at, told: now, holders, odd });
            self.touched.extend(self.index.pair_with(&vip).cloned());
        }
    }

    /// The sightings of a VIP, by observer.
    pub(crate) fn sightings_of(&self, vip: &VipAddress) -> impl Iterator<Item = (&HostName, &Sighting)> {
        let vip = *vip;
        self.sightings.iter().filter(move |((of, _), _)| *of == vip).map(|((_, host), seen)| (host, seen))
    }

    /// The host that has an Ethernet address on an interface for VIPs; none: a stranger, or not heard of yet.
    pub(crate) fn host_at(&self, mac: MacAddress) -> Option<&HostName> {
        self.hosts.iter().find(|(_, host)| host.macs.values().any(|own| *own == mac)).map(|(name, _)| name)
    }

    /// An observer that went out of sight has nothing to say about now.
    pub(crate) fn forget_sightings_by(&mut self, host: &HostName) {
        self.sightings.retain(|(_, observer), _| observer != host);
    }
}
