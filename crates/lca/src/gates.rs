//! The gate in the kernel as the agent uses it, or its absence: then the agent itself takes the addresses away when a
//! lease ends, and the guarantee is lower.

use crate::say::Say;
use domain::{Epoch, GatePolicy, HostName, InterfaceName, Micros, Pair, PairName, VipAddress};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use vip_control::gate::{Fault, Gate};

/// The gate is looked at at least this often: nothing tells of every way to disturb it.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The gates of this host.
#[derive(Debug)]
pub struct Gates {
    gate: Result<Gate, String>,
    pairs: BTreeMap<PairName, Managed>,
    /// Interfaces on which the gate does not stand, and why.
    holes: BTreeMap<InterfaceName, String>,
    /// VIPs that the gate does not manage, for want of room, and its words.
    without: BTreeMap<VipAddress, String>,
    look_at: Micros,
    say: Say,
}

#[derive(Debug)]
struct Managed {
    policy: GatePolicy,
    vips: Vec<(VipAddress, InterfaceName)>,
}

/// Something that happened to the gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disturbed {
    /// It was disturbed, and stands again.
    Restored {
        /// Where.
        interface: InterfaceName,
        /// What was found.
        what: String,
    },
    /// It does not stand.
    Broken {
        /// Where.
        interface: InterfaceName,
        /// Why.
        why: String,
    },
    /// It stands again where it did not.
    Whole {
        /// Where.
        interface: InterfaceName,
    },
}

impl Gates {
    /// Opens the gate of this host, or goes on with the one that an earlier run left.
    #[must_use]
    pub fn open(say: &Say) -> Self {
        let gate = Gate::open([]).map_err(|e| e.to_string());
        match &gate {
            Ok(_) => {}
            Err(why) => {
                say.warning(format_args!("no gate in this kernel, leases alone protect the VIPs: {why}"))
            }
        }
        Self {
            gate,
            pairs: BTreeMap::new(),
            holes: BTreeMap::new(),
            without: BTreeMap::new(),
            look_at: Micros(0),
            say: say.clone(),
        }
    }

    /// Manages the VIPs of a pair: closed until a lease says otherwise. Those that are not configured any more are not.
    pub fn manage(&mut self, name: &PairName, pair: &Pair, host: &HostName) {
        let vips: Vec<(VipAddress, InterfaceName)> = pair
            .vips
            .iter()
            .filter_map(|vip| Some((vip.address, vip.interfaces.get(host)?.clone())))
            .collect();
        for (vip, interface) in &vips {
            self.guard(vip, interface);
        }
        self.close_moved(name, &vips);
        let before = self.pairs.insert(name.clone(), Managed { policy: pair.gate, vips });
        if let Some(before) = before {
            self.forget(&before);
        }
    }

    /// The pair is no longer configured.
    pub fn unmanage(&mut self, name: &PairName) {
        if let Some(before) = self.pairs.remove(name) {
            self.forget(&before);
        }
    }

    /// The greatest epoch that one of these VIPs' gates refuses: what closed it may be forgotten by everybody else.
    #[must_use]
    pub fn fenced_off(&self, vips: &[VipAddress]) -> Option<Epoch> {
        let gate = self.gate.as_ref().ok()?;
        let fence = vips.iter().filter_map(|vip| gate.fence(vip)).max()?;
        fence.0.checked_sub(1).map(Epoch)
    }

    /// Forgets addresses that an earlier run of the agent managed and that are not configured any more.
    pub fn forget_the_rest(&mut self) {
        let configured: BTreeSet<_> = self.addresses().map(|vip| vip.address).collect();
        if let Ok(gate) = &mut self.gate {
            let rest: Vec<_> = gate.managed().filter(|address| !configured.contains(address)).collect();
            for address in rest {
                let prefix = if address.is_ipv4() { 32 } else { 128 };
                if let Err(e) = gate.unmanage(&VipAddress { address, prefix }) {
                    self.say.error(format_args!("the gate of {address}: {e}"));
                }
            }
        }
    }

    /// Whether a lease on the pair's VIPs may be held here.
    #[must_use]
    pub fn may_hold(&self, name: &PairName) -> bool {
        self.pairs.get(name).is_none_or(|pair| match pair.policy {
            GatePolicy::Preferred => true,
            GatePolicy::Required => self.missing(name).is_none(),
        })
    }

    /// Why the pair's VIPs have no gate here; none: they have.
    #[must_use]
    pub fn missing(&self, name: &PairName) -> Option<&str> {
        match &self.gate {
            Err(why) => Some(why),
            Ok(_) => {
                let hole = |(vip, interface): &(VipAddress, InterfaceName)| {
                    self.without.get(vip).or_else(|| self.holes.get(interface))
                };
                self.pairs.get(name)?.vips.iter().find_map(hole).map(String::as_str)
            }
        }
    }

    /// Lets the VIPs' traffic through until `until`.
    pub fn authorise(&mut self, vips: &[VipAddress], epoch: Epoch, until: Micros) {
        if let Ok(gate) = &mut self.gate {
            // One without a gate is open anyhow.
            for vip in vips.iter().filter(|vip| !self.without.contains_key(vip)) {
                if let Err(e) = gate.authorise(vip, epoch, until) {
                    self.say.error(format_args!("the gate of {vip}: {e}"));
                }
            }
        }
    }

    /// Closes the VIPs' gate, for good under this epoch and all before it.
    pub fn close_and_fence(&mut self, vips: &[VipAddress], epoch: Epoch) {
        if let Ok(gate) = &mut self.gate {
            for vip in vips.iter().filter(|vip| !self.without.contains_key(vip)) {
                if let Err(e) = gate.close_and_fence(vip, epoch) {
                    self.say.error(format_args!("the gate of {vip}: {e}"));
                }
            }
        }
    }

    /// When the gate is to be looked at next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Micros> {
        (self.gate.is_ok() && !self.pairs.is_empty()).then_some(self.look_at)
    }

    /// Looks whether the gate stands, and puts it up again where it does not.
    pub fn look(&mut self, now: Micros, out: &mut Vec<Disturbed>) {
        self.look_at = now + LOOK_EVERY;
        self.try_again();
        let Ok(gate) = &mut self.gate else { return };
        let mut holes = BTreeMap::new();
        for hole in gate.check() {
            let what = match hole.fault {
                Fault::Missing => "its filter was gone".to_owned(),
                Fault::Exchanged => "its filter was replaced".to_owned(),
                Fault::NotFirst { before } => format!("{before} filters of another tool decide before it"),
            };
            match (hole.fault, hole.remains) {
                (_, Some(e)) => {
                    holes.insert(hole.interface, format!("{what}: {e}"));
                }
                (Fault::NotFirst { .. }, None) => {
                    holes.insert(hole.interface, what);
                }
                (Fault::Missing | Fault::Exchanged, None) => {
                    out.push(Disturbed::Restored { interface: hole.interface, what });
                }
            }
        }
        for (interface, why) in &holes {
            if self.holes.get(interface) != Some(why) {
                out.push(Disturbed::Broken { interface: interface.clone(), why: why.clone() });
            }
        }
        for interface in self.holes.keys().filter(|interface| !holes.contains_key(*interface)) {
            out.push(Disturbed::Whole { interface: interface.clone() });
        }
        self.holes = holes;
    }

    /// Closes the gate to a VIP that is not managed yet, if there is room.
    fn guard(&mut self, vip: &VipAddress, interface: &InterfaceName) {
        let Ok(gate) = &mut self.gate else { return };
        let failed = gate.manage(vip, interface).err();
        let managed = gate.fence(vip).is_some();
        if !managed {
            let why = failed.map(|e| e.to_string()).unwrap_or_default();
            if self.without.insert(*vip, format!("{vip}: {why}")).is_none() {
                self.say.error(format_args!("no gate for {vip}: {why}"));
            }
            return;
        }
        if let Some(e) = failed {
            self.say.error(format_args!("the gate of {vip} on {interface}: {e}"));
            self.holes.insert(interface.clone(), e.to_string());
        }
        if self.without.remove(vip).is_some() {
            self.say.notice(format_args!("there is a gate for {vip} now, closed until the lease is renewed"));
        }
    }

    /// Others may have gone, and left room.
    fn try_again(&mut self) {
        if self.without.is_empty() {
            return;
        }
        let managed = self.pairs.values().flat_map(|pair| &pair.vips);
        let without = managed.filter(|(vip, _)| self.without.contains_key(vip));
        for (vip, interface) in without.cloned().collect::<Vec<_>>() {
            self.guard(&vip, &interface);
        }
    }

    /// Closes those of a pair's VIPs that another pair had until now: its lease says nothing about this one's.
    fn close_moved(&mut self, name: &PairName, vips: &[(VipAddress, InterfaceName)]) {
        let Ok(gate) = &mut self.gate else { return };
        let others = self.pairs.iter().filter(|(other, _)| *other != name);
        let theirs: BTreeSet<_> =
            others.flat_map(|(_, managed)| &managed.vips).map(|(vip, _)| *vip).collect();
        for (vip, _) in vips.iter().filter(|(vip, _)| theirs.contains(vip)) {
            // What it is open under is never above its fence.
            let Some(fence) = gate.fence(vip) else { continue };
            if let Err(e) = gate.close_and_fence(vip, fence) {
                self.say.error(format_args!("the gate of {vip}: {e}"));
            }
        }
    }

    fn addresses(&self) -> impl Iterator<Item = &VipAddress> {
        self.pairs.values().flat_map(|pair| &pair.vips).map(|(vip, _)| vip)
    }

    fn forget(&mut self, gone: &Managed) {
        let still: BTreeSet<VipAddress> = self.addresses().copied().collect();
        if let Ok(gate) = &mut self.gate {
            for (vip, _) in gone.vips.iter().filter(|(vip, _)| !still.contains(vip)) {
                self.without.remove(vip);
                if let Err(e) = gate.unmanage(vip) {
                    self.say.error(format_args!("the gate of {vip}: {e}"));
                }
            }
        }
    }
}
