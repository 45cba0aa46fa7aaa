//! The VIPs of this host's pairs: put onto their interfaces and removed, announced, watched, put back. Runs on the
//! real-time thread and never waits. Whether a VIP *should* be here is the SCS's decision; this keeps to it.

mod lease;
mod life_time;

use crate::say::Say;
use control_link::messages::Fact;
use domain::{
    AppName, Cluster, Epoch, EventId, HostName, InterfaceName, InterfaceReport, LogEvent, Micros, PairName,
    VipAddress, VipControl, VipReport, events,
};
use lca_core::put_back::Pace;
use life_time::{LifeTime, Renewals};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;
use vip_control::{
    Announcer, Changed, Drained, DuplicateCheck, Monitor, NetEvent, Validity, VipController, VipError,
};

/// The VIPs.
#[derive(Debug)]
pub struct Vips {
    host: HostName,
    tools: Result<Tools, String>,
    announcer: Announcer,
    /// Pairs whose lease this host holds. Without it the other host may have the VIPs by now, and an announcement would
    /// take them from it: none is sent.
    held: BTreeSet<PairName>,
    /// Something happened to an interface or its filters: the gate is to be looked at.
    disturbed: bool,
    vips: BTreeMap<VipAddress, Vip>,
    interfaces: BTreeMap<InterfaceName, InterfaceReport>,
    renewals: Renewals,
    put_back: u64,
    events: Vec<NetEvent>,
    say: Say,
}

/// What is needed to touch addresses; only there with the rights to.
#[derive(Debug)]
struct Tools {
    controller: VipController,
    monitor: Monitor,
    duplicates: DuplicateCheck,
}

#[derive(Debug)]
struct Vip {
    pair: PairName,
    app: AppName,
    interface: InterfaceName,
    control: VipControl,
    /// How long the kernel keeps the address when this agent does not renew it; built-in control only.
    valid: Validity,
    life_time: LifeTime,
    /// Ordered to be here.
    wanted: bool,
    /// The epoch of the order to disable it, where that was the last order.
    kept_off: Option<Epoch>,
    /// Its control script was told to disable it because the lease ended, and not to enable it again since.
    suspended: bool,
    /// Whether the SCS has been told that it is here.
    present: bool,
    epoch: Epoch,
    pace: Pace,
    try_again: Option<Micros>,
    duplicate_told: Option<Micros>,
}

/// Another holder that goes on announcing itself is told of at most this often.
const DUPLICATE_PACE: Duration = Duration::from_secs(10);

/// Facts in the order in which they are to be reported.
pub type Facts = Vec<Fact>;

impl Vips {
    /// Without VIPs yet. Where the rights are missing, every later order says so.
    #[must_use]
    pub fn open(host: &HostName, say: &Say, put_back: u64) -> Self {
        let tools = Tools::open().map_err(|e| e.to_string());
        if let Err(why) = &tools {
            say.warning(format_args!("VIPs cannot be controlled: {why}"));
        }
        Self {
            host: host.clone(),
            tools,
            announcer: Announcer::new(),
            held: BTreeSet::new(),
            disturbed: false,
            vips: BTreeMap::new(),
            interfaces: BTreeMap::new(),
            renewals: Renewals::default(),
            put_back,
            events: Vec::new(),
            say: say.clone(),
        }
    }

    /// The watcher of addresses and interfaces, to be registered with the event loop.
    pub fn monitor(&self) -> Option<&Monitor> {
        self.tools.as_ref().ok().map(|tools| &tools.monitor)
    }

    /// The listener for other holders, to be registered with the event loop.
    pub fn duplicates(&self) -> Option<&DuplicateCheck> {
        self.tools.as_ref().ok().map(|tools| &tools.duplicates)
    }

    /// VIPs put back since the agent first started on this boot.
    #[must_use]
    pub fn put_back(&self) -> u64 {
        self.put_back
    }

    /// Takes the configured VIPs of this host; returns the pairs that are new. One that is held and no longer
    /// configured, or on another interface now, is removed.
    pub fn configure(&mut self, cluster: &Cluster, now: Micros, out: &mut Facts) -> Vec<PairName> {
        let mut configured = BTreeMap::new();
        for (pair_name, pair) in &cluster.pairs {
            let Some(app) = pair.members.iter().find(|app| cluster.host_of(app) == Some(&self.host)) else {
                continue;
            };
            for vip in &pair.vips {
                let Some(interface) = vip.interfaces.get(&self.host) else { continue };
                let fresh = Vip {
                    pair: pair_name.clone(),
                    app: app.clone(),
                    interface: interface.clone(),
                    control: vip.control.clone(),
                    valid: life_time::validity(pair.profile),
                    life_time: LifeTime::Unknown,
                    wanted: false,
                    kept_off: None,
                    suspended: false,
                    present: false,
                    epoch: Epoch(0),
                    pace: Pace::default(),
                    try_again: None,
                    duplicate_told: None,
                };
                configured.insert(vip.address, fresh);
            }
        }
        let gone: Vec<VipAddress> = self
            .vips
            .iter()
            .filter(|(address, vip)| configured.get(address).is_none_or(|new| new.interface != vip.interface))
            .map(|(address, _)| *address)
            .collect();
        for address in gone {
            if self.vips.get(&address).is_some_and(|vip| vip.wanted) {
                self.remove_or_say(address, "no longer configured", now, out);
            }
            self.vips.remove(&address);
        }
        let mut new_pairs = Vec::new();
        for (address, mut fresh) in configured {
            if let Some(vip) = self.vips.get_mut(&address) {
                (vip.pair, vip.app, vip.control) = (fresh.pair, fresh.app, fresh.control);
                vip.valid = fresh.valid;
                continue;
            }
            new_pairs.push(fresh.pair.clone());
            self.watch_interface(&fresh.interface);
            if let Ok(tools) = &mut self.tools {
                fresh.present = tools.controller.present(&address, &fresh.interface).unwrap_or(false);
            }
            self.vips.insert(address, fresh);
        }
        new_pairs.dedup();
        let used: Vec<_> = self.vips.values().map(|vip| &vip.interface).collect();
        self.interfaces.retain(|interface, _| used.contains(&interface));
        new_pairs
    }

    /// At the agent's start, once it is known what the pair's application here runs as: a VIP that a primary holds is
    /// kept, any other is removed (unknown is backup).
    pub fn settle(&mut self, pair: &PairName, primary: Option<Epoch>, now: Micros, out: &mut Facts) {
        let Ok(tools) = &mut self.tools else { return };
        let mut extra = Vec::new();
        for (address, vip) in self.vips.iter_mut().filter(|(_, vip)| vip.pair == *pair && !vip.wanted) {
            let present = tools.controller.present(address, &vip.interface).unwrap_or(false);
            match (present, primary) {
                (true, Some(epoch)) => {
                    vip.wanted = true;
                    vip.epoch = epoch;
                    vip.present = true;
                    if self.held.contains(pair) {
                        self.announcer.start(*address, vip.interface.clone(), now);
                    }
                    out.push(vip.fact(address, "found at start, held by the primary"));
                }
                (true, None) => extra.push(*address),
                (false, Some(_)) | (false, None) => {}
            }
        }
        for address in extra {
            self.remove_or_say(address, "found at start, without a primary here", now, out);
        }
        self.renewals.begin(now);
    }

    /// Puts a VIP here by order; announces it, and asks who else has it.
    ///
    /// # Errors
    /// A sentence. The VIP is not here, or is here and cannot be announced.
    pub fn enable(
        &mut self,
        address: VipAddress,
        epoch: Epoch,
        now: Micros,
        out: &mut Facts,
    ) -> Result<String, String> {
        let tools = self.tools.as_mut().map_err(|why| why.clone())?;
        let vip = self.vips.get_mut(&address).ok_or("this host's agent knows of no such VIP")?;
        let result = tools.controller.enable(&address, &vip.interface, vip.valid);
        let (changed, note) = judge(result)?;
        vip.life_time = LifeTime::Limited;
        vip.ordered(true, epoch);
        vip.try_again = None;
        if !std::mem::replace(&mut vip.present, true) {
            out.push(vip.fact(&address, "built-in control"));
            out.push(vip.event(events::VIP_ENABLED, &address, &self.host, now, "built-in control"));
        }
        self.announcer.start(address, vip.interface.clone(), now);
        // In parallel: the answers come, or not, when the VIP is in use already.
        let asked = tools.duplicates.start(&address, &vip.interface);
        match (note, asked) {
            (Some(note), _) => Ok(note),
            (None, Err(e)) => Ok(e.to_string()),
            (None, Ok(())) => Ok(match changed {
                Changed::Now => "added and announced".to_owned(),
                Changed::Already => "was there already, announced".to_owned(),
            }),
        }
    }

    /// Removes a VIP by order, also one that is not configured (any more).
    ///
    /// # Errors
    /// A sentence. It may still be here.
    pub fn disable(
        &mut self,
        address: VipAddress,
        interface: &InterfaceName,
        epoch: Epoch,
        now: Micros,
        out: &mut Facts,
    ) -> Result<String, String> {
        let text = |changed| match changed {
            Changed::Now => "removed".to_owned(),
            Changed::Already => "was not there".to_owned(),
        };
        if let Some(vip) = self.vips.get_mut(&address) {
            vip.ordered(false, epoch);
            return self.remove(address, "built-in control", now, out).map(text);
        }
        let tools = self.tools.as_mut().map_err(|why| why.clone())?;
        tools.controller.disable(&address, interface).map(text).map_err(|e| e.to_string())
    }

    /// Announces a VIP that is here, and begins the burst anew.
    ///
    /// # Errors
    /// A sentence.
    pub fn announce(&mut self, address: VipAddress, now: Micros) -> Result<String, String> {
        let tools = self.tools.as_mut().map_err(|why| why.clone())?;
        let vip = self.vips.get(&address).ok_or("this host's agent knows of no such VIP")?;
        if !vip.present {
            return Err("it is not on this host".to_owned());
        }
        if !self.held.contains(&vip.pair) {
            return Err("its lease is not held here".to_owned());
        }
        tools.controller.announce(&address, &vip.interface).map_err(|e| e.to_string())?;
        self.announcer.start(address, vip.interface.clone(), now);
        Ok("announced".to_owned())
    }

    /// The user's script was started for a VIP: what it is to do is what is wanted from now on.
    pub fn script_started(&mut self, address: VipAddress, wanted: bool, epoch: Epoch) {
        if let Some(vip) = self.vips.get_mut(&address) {
            vip.ordered(wanted, epoch);
        }
    }

    /// Removes the VIPs of a pair whose application here failed or ended, those under built-in control only. What was
    /// removed is appended to `released`.
    pub fn release(&mut self, pair: &PairName, now: Micros, released: &mut Vec<VipAddress>, out: &mut Facts) {
        // Mostly one or two VIPs; searched for each time so that nothing is allocated before the first is removed.
        while let Some(address) = self
            .vips
            .iter()
            .find(|(_, vip)| vip.pair == *pair && vip.wanted && vip.control == VipControl::BuiltIn)
            .map(|(address, _)| *address)
        {
            if self.remove_or_say(address, "its application here failed or ended", now, out) {
                released.push(address);
            }
            // `remove` has made it unwanted, whatever came of it: the loop ends.
        }
    }

    /// Takes in what netlink tells. True: there is more.
    pub fn watch(&mut self, now: Micros, out: &mut Facts) -> bool {
        let mut happened = std::mem::take(&mut self.events);
        let drained = match &mut self.tools {
            Ok(tools) => tools.monitor.events(&mut happened),
            Err(_) => return false,
        };
        for event in happened.drain(..) {
            match event {
                NetEvent::AddressAdded { address, permanent, .. } => {
                    self.address_added(address, permanent, now, out);
                }
                NetEvent::AddressRemoved { address, .. } => {
                    if let Some(vip) = self.vip_of(address) {
                        self.look_at(vip, now, out);
                    }
                }
                NetEvent::Link(report) => {
                    self.disturbed = true;
                    self.link_changed(report, now, out);
                }
                NetEvent::FiltersChanged { .. } => self.disturbed = true,
                NetEvent::Overrun => {
                    self.disturbed = true;
                    self.look_again(now, out);
                }
            }
        }
        self.events = happened;
        match drained {
            Ok(drained) => drained == Drained::MoreWaits,
            Err(e) => {
                self.say.error(format_args!("{e}"));
                false
            }
        }
    }

    /// Whether something happened that the gate may have suffered from; asked once for each time.
    pub fn take_disturbed(&mut self) -> bool {
        std::mem::take(&mut self.disturbed)
    }

    /// Whether all interfaces of a pair's VIPs have a carrier.
    #[must_use]
    pub fn has_carriers(&self, pair: &PairName) -> bool {
        self.vips
            .values()
            .filter(|vip| vip.pair == *pair)
            .all(|vip| self.interfaces.get(&vip.interface).is_some_and(|report| report.up))
    }

    /// Takes in who else answers for our VIPs.
    pub fn hear_duplicates(&mut self, now: Micros, out: &mut Facts) {
        let Ok(tools) = &mut self.tools else { return };
        let mut heard = match tools.duplicates.answers() {
            Ok(heard) => heard,
            Err(e) => return self.say.error(format_args!("{e}")),
        };
        heard.sort();
        heard.dedup();
        for duplicate in heard {
            // Without the lease, whoever answers is in the right, and the gate keeps this host quiet.
            let held = &self.held;
            let ours = |vip: &&mut Vip| vip.wanted && held.contains(&vip.pair);
            let Some(vip) = self.vips.get_mut(&duplicate.vip).filter(ours) else { continue };
            if vip.duplicate_told.is_some_and(|told| now.since(told) < DUPLICATE_PACE) {
                continue;
            }
            vip.duplicate_told = Some(now);
            let mac = duplicate.mac.to_string();
            out.push(vip.event(events::VIP_DUPLICATE, &duplicate.vip, &self.host, now, &mac));
        }
    }

    /// When [`Vips::time_passed`] is due next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Micros> {
        let again = self.vips.values().filter_map(|vip| vip.try_again).min();
        [self.announcer.next_deadline(), again, self.renewal_due()].into_iter().flatten().min()
    }

    /// Sends the announcements that are due, renews addresses, and tries again what did not work.
    pub fn time_passed(&mut self, now: Micros, out: &mut Facts) {
        if let Ok(tools) = &mut self.tools {
            for (address, interface) in self.announcer.due(now) {
                if let Err(e) = tools.controller.announce(&address, &interface) {
                    self.say.warning(format_args!("{address} could not be announced: {e}"));
                }
            }
        }
        let due: Vec<_> = self
            .vips
            .iter()
            .filter(|(_, vip)| vip.try_again.is_some_and(|at| at <= now))
            .map(|(address, _)| *address)
            .collect();
        for address in due {
            self.look_at(address, now, out);
        }
        self.renew(now, out);
    }

    /// All VIPs, for the inventory.
    #[must_use]
    pub fn reports(&self) -> Vec<VipReport> {
        self.vips.iter().map(|(address, vip)| vip.report(address, "inventory")).collect()
    }

    /// All interfaces that carry VIPs, for the inventory.
    #[must_use]
    pub fn interfaces(&self) -> Vec<InterfaceReport> {
        self.interfaces.values().cloned().collect()
    }

    /// The VIPs of this host's pairs.
    pub fn addresses(&self) -> impl Iterator<Item = VipAddress> {
        self.vips.keys().copied()
    }

    /// The interface of a VIP of this host's pairs.
    #[must_use]
    pub fn interface_of(&self, vip: &VipAddress) -> Option<&InterfaceName> {
        self.vips.get(vip).map(|vip| &vip.interface)
    }

    /// Whether a VIP is to be held here.
    #[must_use]
    pub fn is_wanted(&self, vip: &VipAddress) -> bool {
        self.vips.get(vip).is_some_and(|vip| vip.wanted)
    }

    /// Whether the interface of a VIP is up and has carrier.
    #[must_use]
    pub fn has_carrier(&self, vip: &VipAddress) -> bool {
        self.interface_of(vip).and_then(|name| self.interfaces.get(name)).is_some_and(|report| report.up)
    }

    /// Whether an address is that of a VIP of this host's pairs.
    #[must_use]
    pub fn is_vip(&self, address: IpAddr) -> bool {
        self.vip_of(address).is_some()
    }

    /// True: it is not here any more.
    fn remove_or_say(&mut self, address: VipAddress, why: &str, now: Micros, out: &mut Facts) -> bool {
        let removed = self.remove(address, why, now, out);
        if let Err(e) = &removed {
            self.say.error(format_args!("{address} could not be removed: {e}"));
        }
        removed.is_ok()
    }

    fn remove(
        &mut self,
        address: VipAddress,
        why: &str,
        now: Micros,
        out: &mut Facts,
    ) -> Result<Changed, String> {
        self.announcer.stop(&address);
        let vip = self.vips.get_mut(&address).ok_or("this host's agent knows of no such VIP")?;
        vip.wanted = false;
        vip.try_again = None;
        let tools = self.tools.as_mut().map_err(|why| why.clone())?;
        let changed = tools.controller.disable(&address, &vip.interface).map_err(|e| e.to_string())?;
        tools.duplicates.stop(&address);
        if std::mem::replace(&mut vip.present, false) || changed == Changed::Now {
            out.push(vip.fact(&address, why));
            out.push(vip.event(events::VIP_DISABLED, &address, &self.host, now, why));
        }
        Ok(changed)
    }

    /// An address is one VIP; the prefix length may be another tool's own idea.
    fn vip_of(&self, address: IpAddr) -> Option<VipAddress> {
        let any_prefix = |prefix| VipAddress { address, prefix };
        self.vips.range(any_prefix(0)..=any_prefix(u8::MAX)).next().map(|(vip, _)| *vip)
    }

    fn address_added(&mut self, added: IpAddr, permanent: bool, now: Micros, out: &mut Facts) {
        let Some(address) = self.vip_of(added) else { return };
        let Some(vip) = self.vips.get_mut(&address) else { return };
        if permanent {
            vip.life_time = LifeTime::Unknown; // another tool's doing
        }
        // Else nothing new: each renewal of ours is told, too.
        if !vip.present {
            self.look_at(address, now, out);
        }
    }

    /// Compares what is wanted with what the kernel has now. What an event told may be out of date already: our own
    /// changes come back as events too.
    fn look_at(&mut self, address: VipAddress, now: Micros, out: &mut Facts) {
        let (Ok(tools), Some(vip)) = (&mut self.tools, self.vips.get_mut(&address)) else { return };
        vip.try_again = None;
        let present = match tools.controller.present(&address, &vip.interface) {
            Ok(present) => present,
            Err(VipError::NoInterface { .. }) => false,
            Err(e) => return self.say.error(format_args!("{address}: {e}")),
        };
        if present || !vip.wanted || vip.control != VipControl::BuiltIn || !self.held.contains(&vip.pair) {
            let why = match (vip.wanted == present, &vip.control) {
                (true, VipControl::Script(_)) => "VIP control script",
                (false, VipControl::Script(_)) if vip.suspended => "VIP control script: the lease ended",
                (_, _) if present => "added by another tool",
                (_, VipControl::BuiltIn) if vip.wanted => "gone: it is not renewed without the lease",
                (_, _) => "removed by another tool",
            };
            return vip.now_present(present, &address, why, out);
        }
        let lost = match vip.pace.take(now) {
            Ok(()) => judge(tools.controller.enable(&address, &vip.interface, vip.valid)),
            Err(again) => {
                vip.try_again = Some(again);
                return vip.now_present(false, &address, "removed by another tool again and again", out);
            }
        };
        match lost {
            Ok(_) => {
                self.put_back += 1;
                vip.life_time = LifeTime::Limited;
                self.announcer.start(address, vip.interface.clone(), now);
                let detail = "put back";
                out.push(vip.event(events::VIP_PUT_BACK, &address, &self.host, now, detail));
                vip.now_present(true, &address, detail, out);
            }
            Err(why) => {
                vip.try_again = Some(vip.pace.failed(now));
                vip.now_present(false, &address, &why, out);
            }
        }
    }

    fn link_changed(&mut self, report: InterfaceReport, now: Micros, out: &mut Facts) {
        let Some(known) = self.interfaces.get_mut(&report.interface) else { return };
        let before = std::mem::replace(known, report.clone());
        let was = before.up;
        if before != report {
            out.push(Fact::Interface(report.clone()));
        }
        if was != report.up {
            let id = if report.up { events::CARRIER_BACK } else { events::CARRIER_LOST };
            let event = LogEvent::new(id, now).on(&self.host).because(&report.interface);
            out.push(Fact::Log(event.with("interface", &report.interface)));
        }
        let on_it: Vec<_> = self
            .vips
            .iter()
            .filter(|(_, vip)| vip.interface == report.interface)
            .map(|(address, _)| *address)
            .collect();
        for address in on_it {
            self.look_at(address, now, out);
            let Some(vip) = self.vips.get(&address).filter(|vip| vip.wanted && vip.present) else { continue };
            match (was, report.up) {
                (true, false) => self.announcer.stop(&address),
                // The lease is held: nobody else has it, whatever the neighbours behind that interface believe.
                (false, true) if self.held.contains(&vip.pair) => {
                    self.announcer.start(address, vip.interface.clone(), now);
                }
                (false, _) | (true, true) => {}
            }
        }
    }

    fn look_again(&mut self, now: Micros, out: &mut Facts) {
        let Ok(tools) = &mut self.tools else { return };
        let reports: Vec<_> = self.interfaces.keys().map(|name| tools.link(name)).collect();
        for report in reports {
            // Looks at the VIPs too.
            self.link_changed(report, now, out);
        }
    }

    fn watch_interface(&mut self, interface: &InterfaceName) {
        let Ok(tools) = &mut self.tools else { return };
        self.interfaces.insert(interface.clone(), tools.link(interface));
    }
}

impl Tools {
    fn open() -> Result<Self, VipError> {
        Ok(Self {
            controller: VipController::open()?,
            monitor: Monitor::open()?,
            duplicates: DuplicateCheck::open()?,
        })
    }

    /// The state of an interface; one that is not there is down.
    fn link(&mut self, name: &InterfaceName) -> InterfaceReport {
        let gone = |_| InterfaceReport { interface: name.clone(), up: false, mac: None };
        self.controller.link(name).unwrap_or_else(gone)
    }
}

impl Vip {
    fn ordered(&mut self, wanted: bool, epoch: Epoch) {
        (self.wanted, self.epoch, self.suspended) = (wanted, epoch, false);
        self.kept_off = (!wanted).then_some(epoch);
    }

    fn report(&self, address: &VipAddress, why: &str) -> VipReport {
        VipReport {
            vip: *address,
            interface: self.interface.clone(),
            present: self.present,
            why: why.to_owned(),
        }
    }

    fn fact(&self, address: &VipAddress, why: &str) -> Fact {
        Fact::Vip(self.report(address, why))
    }

    fn event(&self, id: EventId, address: &VipAddress, host: &HostName, now: Micros, detail: &str) -> Fact {
        let detail = format!("{address} on {}: {detail}", self.interface);
        let event = LogEvent::new(id, now).on(host).of(&self.app).because(detail);
        Fact::Log(event.with("vip", address).with("pair", &self.pair).with("epoch", self.epoch))
    }

    fn now_present(&mut self, present: bool, address: &VipAddress, why: &str, out: &mut Facts) {
        if std::mem::replace(&mut self.present, present) != present {
            out.push(self.fact(address, why));
        }
    }
}

/// Whether the VIP is there after an attempt to enable it, with a note where its announcement must be repeated.
fn judge(result: Result<Changed, VipError>) -> Result<(Changed, Option<String>), String> {
    match result {
        Ok(changed) => Ok((changed, None)),
        // The address is there, and the schedule of announcements goes on trying.
        Err(
            e @ (VipError::NotSent { .. } | VipError::InterfaceDown { .. } | VipError::NotEthernet { .. }),
        ) => Ok((Changed::Now, Some(e.to_string()))),
        Err(
            e @ (VipError::NoInterface { .. }
            | VipError::NoPermission { .. }
            | VipError::OtherPrefix { .. }
            | VipError::Ipv6Disabled { .. }
            | VipError::NoNeighbours { .. }
            | VipError::Kernel { .. }),
        ) => Err(e.to_string()),
    }
}
