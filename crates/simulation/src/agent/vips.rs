//! VIPs in the agent's driver: put onto the host and removed, watched, put back.

use super::Effect;
use domain::{
    AppName, Cluster, Epoch, EventId, Fact, HostName, InterfaceName, InterfaceReport, LogEvent, MacAddress,
    Micros, PairName, VipAddress, VipControl, VipReport, events,
};
use lca_core::put_back::Pace;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

type Out = VecDeque<Effect>;
type Facts = Vec<Fact>;

#[derive(Debug)]
struct Vip {
    pair: PairName,
    app: AppName,
    interface: InterfaceName,
    control: VipControl,
    wanted: bool,
    /// The epoch of the order to disable it, where that was the last order.
    kept_off: Option<Epoch>,
    present: bool,
    epoch: Epoch,
    pace: Pace,
    try_again: Option<Micros>,
}

/// The VIPs.
#[derive(Debug)]
pub(super) struct Vips {
    vips: BTreeMap<VipAddress, Vip>,
    carrier: bool,
    mac: MacAddress,
}

impl Vips {
    pub(super) fn new(carrier: bool, mac: MacAddress) -> Self {
        Self { vips: BTreeMap::new(), carrier, mac }
    }

    /// Takes the configured VIPs of this host; returns the pairs that are new.
    pub(super) fn configure(
        &mut self,
        cluster: &Cluster,
        host: &HostName,
        here: &BTreeSet<VipAddress>,
    ) -> Vec<PairName> {
        let mut new = Vec::new();
        for (pair_name, pair) in &cluster.pairs {
            let Some(app) = pair.members.iter().find(|app| cluster.host_of(app) == Some(host)) else {
                continue;
            };
            for vip in &pair.vips {
                let Some(interface) = vip.interfaces.get(host) else { continue };
                self.vips.entry(vip.address).or_insert_with(|| {
                    new.push(pair_name.clone());
                    Vip {
                        pair: pair_name.clone(),
                        app: app.clone(),
                        interface: interface.clone(),
                        control: vip.control.clone(),
                        wanted: false,
                        kept_off: None,
                        present: here.contains(&vip.address),
                        epoch: Epoch(0),
                        pace: Pace::default(),
                        try_again: None,
                    }
                });
            }
        }
        new
    }

    /// At the agent's start: a VIP that a primary holds is kept, any other is removed (unknown is backup).
    pub(super) fn settle(
        &mut self,
        pair: &PairName,
        primary: Option<Epoch>,
        host: &HostName,
        now: Micros,
        facts: &mut Facts,
        out: &mut Out,
    ) {
        for (address, vip) in self.vips.iter_mut().filter(|(_, vip)| vip.pair == *pair && !vip.wanted) {
            match (vip.present, primary) {
                (true, Some(epoch)) => {
                    (vip.wanted, vip.epoch) = (true, epoch);
                    facts.push(vip.fact(address, "found at start, held by the primary"));
                }
                (true, None) => {
                    vip.remove(address, host, "found at start, without a primary here", now, facts, out);
                }
                (false, Some(_) | None) => {}
            }
        }
    }

    /// False: there is no such VIP here.
    pub(super) fn enable(
        &mut self,
        address: VipAddress,
        epoch: Epoch,
        host: &HostName,
        now: Micros,
        facts: &mut Facts,
        out: &mut Out,
    ) -> bool {
        let Some(vip) = self.vips.get_mut(&address) else { return false };
        (vip.wanted, vip.kept_off, vip.epoch, vip.try_again) = (true, None, epoch, None);
        out.push_back(Effect::Address(address, true));
        if !std::mem::replace(&mut vip.present, true) {
            facts.push(vip.fact(&address, "built-in control"));
            facts.push(vip.event(events::VIP_ENABLED, &address, host, now));
        }
        true
    }

    pub(super) fn disable(
        &mut self,
        address: VipAddress,
        host: &HostName,
        now: Micros,
        epoch: Epoch,
        facts: &mut Facts,
        out: &mut Out,
    ) -> bool {
        if let Some(vip) = self.vips.get_mut(&address) {
            vip.kept_off = Some(epoch);
            vip.remove(&address, host, "built-in control", now, facts, out);
        }
        true
    }

    pub(super) fn is_here(&self, address: VipAddress) -> bool {
        self.vips.get(&address).is_some_and(|vip| vip.present)
    }

    pub(super) fn script_started(&mut self, address: VipAddress, wanted: bool, epoch: Epoch) {
        if let Some(vip) = self.vips.get_mut(&address) {
            (vip.wanted, vip.epoch) = (wanted, epoch);
            vip.kept_off = (!wanted).then_some(epoch);
        }
    }

    /// Whether a VIP should be here if the role was `granted` here, and nobody has enabled it.
    pub(super) fn is_missing(&self, address: &VipAddress, granted: Epoch) -> bool {
        let missing = |vip: &Vip| !vip.wanted && vip.kept_off.is_none_or(|by| by < granted);
        self.vips.get(address).is_some_and(missing)
    }

    /// Removes the VIPs of a pair whose application here failed or ended, those under built-in control only.
    pub(super) fn release(
        &mut self,
        pair: &PairName,
        host: &HostName,
        now: Micros,
        released: &mut Vec<VipAddress>,
        facts: &mut Facts,
        out: &mut Out,
    ) {
        let held = |vip: &Vip| vip.pair == *pair && vip.wanted && vip.control == VipControl::BuiltIn;
        for (address, vip) in self.vips.iter_mut().filter(|(_, vip)| held(vip)) {
            vip.remove(address, host, "its application here failed or ended", now, facts, out);
            released.push(*address);
        }
    }

    /// Compares what is wanted with what the kernel has now.
    pub(super) fn look_at(
        &mut self,
        address: VipAddress,
        here: &BTreeSet<VipAddress>,
        now: Micros,
        facts: &mut Facts,
        out: &mut Out,
    ) {
        let Some(vip) = self.vips.get_mut(&address) else { return };
        vip.try_again = None;
        let present = here.contains(&address);
        if present || !vip.wanted || vip.control != VipControl::BuiltIn {
            return vip.now_present(present, &address, "changed by another tool", facts);
        }
        match vip.pace.take(now) {
            Ok(()) => {
                out.push_back(Effect::Address(address, true));
                vip.now_present(true, &address, "put back", facts);
            }
            Err(again) => {
                vip.try_again = Some(again);
                vip.now_present(false, &address, "removed by another tool again and again", facts);
            }
        }
    }

    pub(super) fn carrier(&mut self, up: bool, host: &HostName, now: Micros, facts: &mut Facts) {
        if std::mem::replace(&mut self.carrier, up) == up {
            return;
        }
        let id = if up { events::CARRIER_BACK } else { events::CARRIER_LOST };
        facts.extend(self.interfaces().into_iter().map(Fact::Interface));
        facts.push(Fact::Log(LogEvent::new(id, now).on(host)));
    }

    pub(super) fn has_carrier(&self) -> bool {
        self.carrier
    }

    pub(super) fn next_deadline(&self) -> Option<Micros> {
        self.vips.values().filter_map(|vip| vip.try_again).min()
    }

    pub(super) fn time_passed(
        &mut self,
        here: &BTreeSet<VipAddress>,
        now: Micros,
        facts: &mut Facts,
        out: &mut Out,
    ) {
        let due = self.vips.iter().filter(|(_, vip)| vip.try_again.is_some_and(|at| at <= now));
        let due: Vec<VipAddress> = due.map(|(address, _)| *address).collect();
        for address in due {
            self.look_at(address, here, now, facts, out);
        }
    }

    pub(super) fn reports(&self) -> Vec<VipReport> {
        self.vips.iter().map(|(address, vip)| vip.report(address, "inventory")).collect()
    }

    pub(super) fn interfaces(&self) -> Vec<InterfaceReport> {
        let names: BTreeSet<_> = self.vips.values().map(|vip| vip.interface.clone()).collect();
        names
            .into_iter()
            .map(|interface| InterfaceReport { interface, up: self.carrier, mac: Some(self.mac) })
            .collect()
    }
}

impl Vip {
    fn remove(
        &mut self,
        address: &VipAddress,
        host: &HostName,
        why: &str,
        now: Micros,
        facts: &mut Facts,
        out: &mut Out,
    ) {
        (self.wanted, self.try_again) = (false, None);
        out.push_back(Effect::Address(*address, false));
        if std::mem::replace(&mut self.present, false) {
            facts.push(self.fact(address, why));
            facts.push(self.event(events::VIP_DISABLED, address, host, now));
        }
    }

    fn report(&self, address: &VipAddress, why: &str) -> VipReport {
        let (interface, present) = (self.interface.clone(), self.present);
        VipReport { vip: *address, interface, present, why: why.to_owned() }
    }

    fn fact(&self, address: &VipAddress, why: &str) -> Fact {
        Fact::Vip(self.report(address, why))
    }

    fn event(&self, id: EventId, address: &VipAddress, host: &HostName, now: Micros) -> Fact {
        let event = LogEvent::new(id, now).on(host).of(&self.app);
        Fact::Log(event.with("vip", address).with("pair", &self.pair).with("epoch", self.epoch))
    }

    fn now_present(&mut self, present: bool, address: &VipAddress, why: &str, facts: &mut Facts) {
        if std::mem::replace(&mut self.present, present) != present {
            facts.push(self.fact(address, why));
        }
    }
}
