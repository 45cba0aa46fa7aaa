//! The gate: the kernel lets a managed VIP's traffic through only while a lease says so, whoever put the address there
//! and whatever has become of the agent. Closed is the default; a gate is opened until a point in time, at which it
//! closes by itself.
//!
//! A program for clsact on each guarded interface (`program.rs`) looks up the address that a frame is about and drops it
//! unless the VIP's slot (`slots.rs`), which the agent writes to in shared memory, allows it. Programs, slots and
//! addresses belong to the interface's filters, so they stay when the agent ends, and the next [`Gate::open`] finds
//! them there. Nothing of it has a name outside the network namespace of the thread that opened it.
//!
//! What a gate stops: ARP, neighbour discovery, IPv4 and IPv6 (so ICMP, UDP, TCP and all others) to and from managed
//! VIPs, in both directions, on every guarded interface. What it does not: traffic on interfaces that are not guarded,
//! `lo` included; frames that had passed it and still wait in a queue of the interface; what XDP or a program before it
//! answers. [`Gate::check`] tells of the last.
//!
//! When to open and to close is decided elsewhere.

mod assembler;
mod bpf;
mod error;
pub(crate) mod filters;
mod left;
mod program;
mod slots;
mod support;
#[cfg(test)]
mod tests;

pub use error::{GateError, Refusal};
pub use left::{Left, left};
pub use support::{Part, Support, support};

use crate::netlink::RouteSocket;
use bpf::{Kind, Map, Program, Shape};
use domain::{Epoch, InterfaceName, Micros, VipAddress};
use program::{KEY, Way};
use slots::{Slot, Slots, Snapshot};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

/// How many VIPs there is room for on a host.
pub const MOST_VIPS: usize = slots::MOST as usize;

/// Which address has which slot.
const ADDRESSES: Shape = Shape::new(Kind::Hash, KEY, size_of::<u32>(), slots::MOST, c"takeover_vips");
/// The number in the name goes up when a slot's layout changes its meaning.
const SLOTS: Shape =
    Shape::new(Kind::Array, size_of::<u32>(), size_of::<Slot>(), slots::MOST, c"takeover_slots1");
const PROGRAM_NAMES: [&CStr; 2] = [c"takeover_in", c"takeover_out"];
/// Addresses read from a map, with room for one that changes meanwhile.
const MOST_KEYS: u32 = 2 * slots::MOST;

/// The gate of this host. One process at a time may have one: `slots.rs` says why.
#[derive(Debug)]
pub struct Gate {
    route: RouteSocket,
    addresses: Map,
    slots: Slots,
    programs: [Program; 2],
    /// The slot of each managed address.
    managed: BTreeMap<IpAddr, u32>,
    guarded: BTreeSet<InterfaceName>,
    continued: Continued,
}

/// What became of the gate of the process before.
#[derive(Debug)]
pub enum Continued {
    /// There was none.
    New,
    /// It goes on: what was open stays open until its time, fences are kept.
    Whole,
    /// It could not be read and was replaced by a new one, in which everything is closed that was given to [`Gate::open`]
    /// (so give it all the VIPs there are; given none, it leaves the gate as it is until the first is
    /// [managed](Gate::manage)). Its fences are gone, and so is what they were for: late stores of the process before go
    /// nowhere now.
    Replaced {
        /// Why; without CAP_SYS_ADMIN the kernel does not give access to what another process has made.
        why: io::Error,
    },
}

/// What a VIP's gate says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GateState {
    /// Whether the VIP's traffic passes.
    pub open: bool,
    /// Under which epoch it was opened last; zero: never.
    pub epoch: Epoch,
    /// Until when, on CLOCK_BOOTTIME; counts only where the epoch is not below the fence.
    pub until: Micros,
    /// The smallest epoch that can open it.
    pub fence: Epoch,
    /// How many frames it has stopped.
    pub stopped: u64,
}

/// A place where the gate does not stand as it should, or did not until now.
#[derive(Debug)]
pub struct Hole {
    /// Where.
    pub interface: InterfaceName,
    /// What was found.
    pub fault: Fault,
    /// Nothing where the gate stands again.
    pub remains: Option<GateError>,
}

/// What [`Gate::check`] finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A filter of the gate was not there: somebody flushed it, the interface is new, or it cannot have one.
    Missing,
    /// A filter of the gate had another program.
    Exchanged,
    /// Filters or `tcx` programs of others decide first and may let pass what the gate would stop. The gate stands, the guarantee
    /// does not; whether they do so, and where they belong, is for a person to say.
    NotFirst {
        /// How many of them, both ways.
        before: usize,
    },
}

impl Gate {
    /// Makes the gate of this host for `vips`, or goes on with the one that is there. VIPs that are new to it are closed. It goes
    /// on managing those that are not among `vips`: [`Gate::unmanage`] those of [`Gate::managed`] that nobody needs.
    ///
    /// An interface that is not there, or cannot have a gate, is no error here: [`Gate::check`] tells, and tries again.
    ///
    /// # Errors
    /// What keeps this host from having a gate at all. A gate that was there stays as it was, then.
    pub fn open<'a>(
        vips: impl IntoIterator<Item = (&'a VipAddress, &'a InterfaceName)>,
    ) -> Result<Self, GateError> {
        let mut route = RouteSocket::open().map_err(|e| GateError::route("open a netlink socket", e))?;
        let mut found = Found::look(&mut route)?;
        let continued = match found.unreadable.take() {
            Some(why) => Continued::Replaced { why },
            None if found.sets.is_empty() => Continued::New,
            None => Continued::Whole,
        };
        let same = found
            .sets
            .iter()
            .position(|set| *set.addresses.shape() == ADDRESSES && *set.slots.shape() == SLOTS);
        let set = match same {
            Some(at) => found.sets.swap_remove(at),
            None => Set::create()?,
        };
        let slots = Slots::of(&set.slots).map_err(|e| GateError::bpf("share memory with a program", e))?;
        let managed = set.read().map_err(cannot_read)?;
        let programs = load(&set)?;
        let mut gate = Self {
            route,
            addresses: set.addresses,
            slots,
            programs,
            managed,
            guarded: BTreeSet::new(),
            continued,
        };
        for older in &found.sets {
            gate.take_over(older)?;
        }
        for (vip, interface) in vips {
            gate.add(vip)?;
            gate.guarded.insert(interface.clone());
        }
        // A gate that cannot be read stays until it is known what it is for: the new one would let everything pass.
        if !gate.managed.is_empty() || matches!(gate.continued, Continued::Whole) {
            gate.guarded.extend(found.interfaces);
        }
        // Only now, that every VIP is known to it, does the program take the place of the one before.
        for interface in gate.guarded.clone() {
            let _ = gate.guard(&interface); // the next check tries again, and tells
        }
        Ok(gate)
    }

    /// Whether this gate goes on from the one of the process before.
    #[must_use]
    pub fn continued(&self) -> &Continued {
        &self.continued
    }

    /// Closes the gate to a VIP, until it is [authorised](Self::authorise), and guards an interface. For a VIP that is managed
    /// already, nothing changes but that.
    ///
    /// # Errors
    /// [`GateError::Full`], where the VIP is not managed then. With any other error it is, but the interface is not guarded:
    /// [`Gate::check`] tries again.
    pub fn manage(&mut self, vip: &VipAddress, interface: &InterfaceName) -> Result<(), GateError> {
        self.add(vip)?;
        self.guarded.insert(interface.clone());
        self.guard(interface)
    }

    /// Forgets a VIP: its traffic passes, always. Whether it was managed.
    ///
    /// # Errors
    /// [`GateError::Kernel`].
    pub fn unmanage(&mut self, vip: &VipAddress) -> Result<bool, GateError> {
        let Some(number) = self.managed.get(&vip.address).copied() else { return Ok(false) };
        let cannot = |e| GateError::bpf("forget an address", e);
        self.addresses.remove(&program::key(vip.address)).map_err(cannot)?;
        self.managed.remove(&vip.address);
        if let Some(slot) = self.slots.get(number) {
            slot.clear();
        }
        Ok(true)
    }

    /// The addresses that are managed.
    pub fn managed(&self) -> impl Iterator<Item = IpAddr> {
        self.managed.keys().copied()
    }

    /// Lets a VIP's traffic through until `until` (CLOCK_BOOTTIME; at most 60 s ahead) under `epoch`; an earlier time than
    /// the one before counts, too. From now on smaller epochs cannot open it. No system call, no allocation.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn authorise(&mut self, vip: &VipAddress, epoch: Epoch, until: Micros) -> Result<(), Refusal> {
        let slot = self.slot(vip).ok_or(Refusal::NotManaged)?;
        slot.authorise(epoch, until).map_err(|fence| Refusal::Outdated { fence })
    }

    /// Closes a VIP's gate at once, and for good under `epoch` and all smaller ones. No system call, no allocation.
    ///
    /// A frame that another processor is looking at may still pass, as may frames in a queue of the interface.
    ///
    /// # Errors
    /// [`Refusal::NotManaged`].
    pub fn close_and_fence(&mut self, vip: &VipAddress, epoch: Epoch) -> Result<(), Refusal> {
        self.slot(vip).ok_or(Refusal::NotManaged)?.fence_off(epoch);
        Ok(())
    }

    /// The smallest epoch that can open a VIP's gate; none where the VIP is not managed.
    #[must_use]
    pub fn fence(&self, vip: &VipAddress) -> Option<Epoch> {
        self.slot(vip).map(|slot| Epoch(slot.snapshot().fence))
    }

    /// What a VIP's gate says, and whether it is open at `now`; none where the VIP is not managed.
    #[must_use]
    pub fn state(&self, vip: &VipAddress, now: Micros) -> Option<GateState> {
        let snapshot = self.slot(vip)?.snapshot();
        let Snapshot { deadline_ns, epoch, fence, stopped } = snapshot;
        Some(GateState {
            open: snapshot.is_open(now),
            epoch: Epoch(epoch),
            until: Micros(deadline_ns / 1_000),
            fence: Epoch(fence),
            stopped,
        })
    }

    /// Looks whether the gate stands on every guarded interface, and puts it up again where it does not. To be called when
    /// [`NetEvent::FiltersChanged`](crate::NetEvent::FiltersChanged), [`NetEvent::Link`](crate::NetEvent::Link) or
    /// [`NetEvent::Overrun`](crate::NetEvent::Overrun) comes, and now and then besides (nothing tells of `tcx` programs).
    /// Some 100 µs for each interface.
    ///
    /// An interface that does not exist is no hole. One that was made anew is, until this is called.
    pub fn check(&mut self) -> Vec<Hole> {
        let mut holes = Vec::new();
        for interface in self.guarded.clone() {
            let (fault, remains) = match self.fault(&interface) {
                Ok(None) | Err(GateError::NoInterface { .. }) => continue,
                Ok(Some(fault @ Fault::NotFirst { .. })) => (fault, None),
                Ok(Some(fault)) => match self.guard(&interface) {
                    Err(GateError::NoInterface { .. }) => continue, // just gone
                    outcome => (fault, outcome.err()),
                },
                Err(error) => (Fault::Missing, Some(error)),
            };
            holes.push(Hole { interface, fault, remains });
        }
        holes
    }

    fn slot(&self, vip: &VipAddress) -> Option<&Slot> {
        self.slots.get(*self.managed.get(&vip.address)?)
    }

    /// Gives an address a slot, closed.
    fn add(&mut self, vip: &VipAddress) -> Result<(), GateError> {
        self.add_address(vip.address).map(drop)
    }

    /// The slot of an address, and whether it is new.
    fn add_address(&mut self, address: IpAddr) -> Result<(&Slot, bool), GateError> {
        let full = GateError::Full { most: slots::MOST };
        let known = self.managed.get(&address).copied();
        let number = match known {
            Some(number) => number,
            None => {
                let Some(number) = self.free_slot() else { return Err(full) };
                // A process that was killed while it removed an address may have left something there.
                if let Some(slot) = self.slots.get(number) {
                    slot.clear();
                }
                let cannot = |e| GateError::bpf("add an address", e);
                self.addresses.put(&program::key(address), &number.to_ne_bytes()).map_err(cannot)?;
                self.managed.insert(address, number);
                number
            }
        };
        self.slots.get(number).map(|slot| (slot, known.is_none())).ok_or(full)
    }

    fn free_slot(&self) -> Option<u32> {
        let mut is_used = [false; MOST_VIPS];
        for number in self.managed.values() {
            if let Some(is_used) = is_used.get_mut(*number as usize) {
                *is_used = true;
            }
        }
        (0..slots::MOST).zip(is_used).find(|(_, is_used)| !is_used).map(|(number, _)| number)
    }

    /// Takes in what another set of maps says. There is one after a version whose maps were larger or smaller.
    fn take_over(&mut self, older: &Set) -> Result<(), GateError> {
        for (address, number) in older.read().map_err(cannot_read)? {
            let mut bytes = [0; size_of::<Slot>()];
            if !older.slots.get(&number.to_ne_bytes(), &mut bytes).map_err(cannot_read)? {
                continue;
            }
            let old = Snapshot::read(&bytes);
            let (slot, is_new) = self.add_address(address)?;
            slot.raise_fence(old.fence);
            if is_new && old.fence <= old.epoch {
                // Refused only where it could not have been open.
                let _ = slot.authorise(Epoch(old.epoch), Micros(old.deadline_ns / 1_000));
            }
        }
        Ok(())
    }

    /// What is wrong with the gate on an interface.
    fn fault(&mut self, interface: &InterfaceName) -> Result<Option<Fault>, GateError> {
        let index = self.existing(interface)?;
        let (mut fault, mut before) = (None, 0);
        for (way, program) in Way::BOTH.into_iter().zip(&self.programs) {
            let cannot = |e| GateError::route("list filters", e);
            let found = filters::installed(&mut self.route, index, way).map_err(cannot)?;
            let tcx = bpf::count_tcx(index, way == Way::Out).unwrap_or(0); // cannot be asked, then
            before += found.before + tcx as usize;
            match found.ours {
                Some(id) if id == program.id() => {}
                Some(_) => fault = fault.or(Some(Fault::Exchanged)),
                None => fault = Some(Fault::Missing),
            }
        }
        Ok(fault.or((before > 0).then_some(Fault::NotFirst { before })))
    }

    /// Puts both programs up on an interface, in place of what is there of ours.
    fn guard(&mut self, interface: &InterfaceName) -> Result<(), GateError> {
        const NEEDED: &str =
            "CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF are needed (modules sch_ingress, cls_bpf)";
        let index = self.existing(interface)?;
        let found = self.route.socket().interface_hardware(interface).map_err(cannot_look_up)?;
        let (link_type, _) = found.ok_or_else(|| no_interface(interface))?;
        if link_type != libc::ARPHRD_ETHER {
            return Err(GateError::NotEthernet { interface: interface.clone(), link_type });
        }
        let refused = |doing, e: io::Error| match e.raw_os_error() {
            Some(libc::ENODEV) => no_interface(interface),
            Some(libc::ENOENT | libc::EOPNOTSUPP) => {
                GateError::Unsupported { doing, needed: NEEDED, source: e }
            }
            _ => GateError::route(doing, e),
        };
        match filters::add_clsact(&mut self.route, index) {
            Ok(()) => {}
            Err(e) if e.raw_os_error() == Some(libc::EEXIST) => {
                let with_clsact = filters::with_clsact(&mut self.route);
                if !with_clsact.map_err(|e| refused("list queueing disciplines", e))?.contains(&index) {
                    return Err(GateError::IngressDiscipline { interface: interface.clone() });
                }
            }
            Err(e) => return Err(refused("add the queueing discipline clsact", e)),
        }
        for (way, program) in Way::BOTH.into_iter().zip(&self.programs) {
            filters::attach(&mut self.route, index, way, program.as_raw_fd()).map_err(|e| {
                match e.raw_os_error() {
                    Some(libc::EINVAL) => GateError::PreferenceTaken { interface: interface.clone() },
                    _ => refused("add a filter", e),
                }
            })?;
        }
        Ok(())
    }

    fn existing(&self, interface: &InterfaceName) -> Result<u32, GateError> {
        self.index(interface)?.ok_or_else(|| no_interface(interface))
    }

    fn index(&self, interface: &InterfaceName) -> Result<Option<u32>, GateError> {
        self.route.socket().interface_index(interface).map_err(cannot_look_up)
    }
}

/// The maps of a gate.
#[derive(Debug)]
struct Set {
    addresses: Map,
    slots: Map,
}

impl Set {
    fn create() -> Result<Self, GateError> {
        let create = |shape| Map::create(shape).map_err(|e| GateError::bpf("make maps for eBPF programs", e));
        Ok(Self { addresses: create(ADDRESSES)?, slots: create(SLOTS)? })
    }

    /// Those of a program in the kernel, if they mean what ours mean; and the id of one of them.
    fn of(program: u32) -> io::Result<(u32, Self)> {
        let (mut addresses, mut slots) = (None, None);
        for id in Program::by_id(program)?.maps() {
            let map = Map::by_id(*id)?;
            if map.shape().resembles(&ADDRESSES) {
                addresses = Some((*id, map));
            } else if map.shape().resembles(&SLOTS) {
                slots = Some(map);
            }
        }
        let both = addresses.zip(slots).map(|((id, addresses), slots)| (id, Self { addresses, slots }));
        both.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "it is of a version that is not known here")
        })
    }

    /// Which address has which slot.
    fn read(&self) -> io::Result<BTreeMap<IpAddr, u32>> {
        let mut read = BTreeMap::new();
        let mut key = [0; KEY];
        let mut more = self.addresses.next_key(None, &mut key)?;
        for _ in 0..MOST_KEYS {
            if !more {
                return Ok(read);
            }
            let mut number = [0; size_of::<u32>()];
            if self.addresses.get(&key, &mut number)? {
                read.insert(program::address(key), u32::from_ne_bytes(number));
            }
            let after = key;
            more = self.addresses.next_key(Some(&after), &mut key)?;
        }
        Err(io::Error::other("the addresses do not end"))
    }
}

/// What earlier processes have left on this host.
struct Found {
    /// Where there is a filter of a gate.
    interfaces: BTreeSet<InterfaceName>,
    /// The maps that are used there; one set, but for accidents.
    sets: Vec<Set>,
    /// Why one of them cannot be read.
    unreadable: Option<io::Error>,
}

impl Found {
    fn look(route: &mut RouteSocket) -> Result<Self, GateError> {
        let cannot = |e| GateError::route("list filters", e);
        let mut programs = BTreeSet::new();
        let mut interfaces = BTreeSet::new();
        for index in filters::with_clsact(route).map_err(cannot)? {
            for way in Way::BOTH {
                if let Some(program) = filters::installed(route, index, way).map_err(cannot)?.ours {
                    programs.insert(program);
                    interfaces.extend(route.socket().interface_name(index).map_err(cannot_look_up)?);
                }
            }
        }
        let mut found = Self { interfaces, sets: Vec::new(), unreadable: None };
        let mut known = BTreeSet::new();
        for program in programs {
            match Set::of(program) {
                Ok((id, set)) if known.insert(id) => found.sets.push(set),
                Ok(_) => {}
                Err(error) => found.unreadable = Some(error),
            }
        }
        Ok(found)
    }
}

fn load(set: &Set) -> Result<[Program; 2], GateError> {
    let load = |way, name| {
        let code = program::program(way, set.addresses.as_raw_fd(), set.slots.as_raw_fd());
        Program::load(&code, name).map_err(|(source, log)| {
            // Where the kernel takes not even the least of programs, ours is not to blame.
            if log.is_empty() || Program::load(&program::probe(), name).is_err() {
                GateError::bpf("load eBPF programs that read the time since boot", source)
            } else {
                GateError::Refused { log, source }
            }
        })
    };
    let [into, out] = PROGRAM_NAMES;
    Ok([load(Way::In, into)?, load(Way::Out, out)?])
}

fn no_interface(interface: &InterfaceName) -> GateError {
    GateError::NoInterface { interface: interface.clone() }
}

fn cannot_look_up(source: io::Error) -> GateError {
    GateError::route("look up an interface", source)
}

fn cannot_read(source: io::Error) -> GateError {
    GateError::bpf("read the gate of the process before", source)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL | libc::ENODEV))
}
