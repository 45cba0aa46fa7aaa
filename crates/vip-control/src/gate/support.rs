//! What this kernel lets this process have of the gate, found out by trying: for `takeover doctor` and `takeover status`.
//! Everything is tried in a network namespace of its own, so that no interface of the host is touched.

use super::bpf::{self, Program};
use super::program::{self, Way};
use super::slots::Slots;
use super::{GateError, Set, filters, load};
use crate::netlink::RouteSocket;
use domain::Epoch;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// How often the program is run to see what it costs.
const RUNS: u32 = 10_000;
/// How long a gate is open for that.
const OPEN: Duration = Duration::from_secs(30);

const NAMESPACE: &str = "make a network namespace to try filters in";

/// What was found out.
#[derive(Debug, Default)]
pub struct Support {
    /// The parts of a gate, in the order in which they are needed. After one that fails the others are not tried.
    pub parts: Vec<Part>,
    /// What the gate costs each frame of a VIP, on the average.
    pub frame_cost: Option<Duration>,
}

/// A part of the gate.
#[derive(Debug)]
pub struct Part {
    /// What it is, in a few words.
    pub name: &'static str,
    /// Whether there is no gate without it.
    pub essential: bool,
    /// What it failed with; nothing where it works.
    pub problem: Option<GateError>,
}

impl Support {
    /// Whether this process can have a gate.
    #[must_use]
    pub fn is_sufficient(&self) -> bool {
        self.parts.iter().all(|part| part.problem.is_none() || !part.essential)
    }

    fn try_part<T>(
        &mut self,
        name: &'static str,
        essential: bool,
        outcome: Result<T, GateError>,
    ) -> Option<T> {
        let (value, problem) = match outcome {
            Ok(value) => (Some(value), None),
            Err(problem) => (None, Some(problem)),
        };
        self.parts.push(Part { name, essential, problem });
        value
    }
}

/// Tries everything that a gate needs. Takes some milliseconds: not for a real-time thread.
#[must_use]
pub fn support() -> Support {
    let mut support = Support::default();
    try_all(&mut support);
    support
}

/// None after a part that failed.
fn try_all(support: &mut Support) -> Option<()> {
    let memory = Set::create().and_then(|set| {
        let slots = Slots::of(&set.slots).map_err(|e| GateError::bpf("share memory with a program", e))?;
        Ok((set, slots))
    });
    let (set, slots) = support.try_part("memory shared with eBPF programs", true, memory)?;
    let programs = support.try_part("eBPF programs that read the time since boot", true, load(&set))?;
    support.frame_cost = frame_cost(&set, &slots, &programs).ok();
    let filters = try_filters(&programs);
    // Only where it was tried: the namespace to try it in takes more rights than the gate.
    let essential = !matches!(filters, Err(GateError::NoPermission { doing: NAMESPACE, .. }));
    support.try_part("the queueing discipline clsact with eBPF filters", essential, filters);
    let [program, _] = &programs;
    let again = Program::by_id(program.id()).map_err(|source| match source.raw_os_error() {
        Some(libc::EPERM) => GateError::NoPermission {
            doing: "open what another process has made",
            remedy:
                "this process lacks CAP_SYS_ADMIN; after a restart of the agent the gate is closed until its \
                     lease is renewed"
                    .to_owned(),
            source,
        },
        _ => GateError::bpf("open what another process has made", source),
    });
    support.try_part("going on with the gate of the agent before", false, again)?;
    Some(())
}

/// Puts the programs up in a namespace that is gone with its thread.
fn try_filters(programs: &[Program; 2]) -> Result<(), GateError> {
    const NEEDED: &str =
        "CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF are needed (modules sch_ingress, cls_bpf)";
    /// `lo` is the first interface of every namespace.
    const LO: u32 = 1;
    let attempt = || {
        bpf::enter_new_network().map_err(|e| (NAMESPACE, e))?;
        let mut route = RouteSocket::open().map_err(|e| ("open a netlink socket", e))?;
        filters::add_clsact(&mut route, LO).map_err(|e| ("add the queueing discipline clsact", e))?;
        for (way, program) in Way::BOTH.into_iter().zip(programs) {
            filters::attach(&mut route, LO, way, program.as_raw_fd()).map_err(|e| ("add a filter", e))?;
        }
        Ok(())
    };
    let outcome: Result<(), (&'static str, io::Error)> = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("gate-support".to_owned()).spawn_scoped(scope, attempt);
        let thread = thread.map_err(|e| ("start a thread", e))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    outcome.map_err(|(doing, source)| match source.raw_os_error() {
        Some(libc::EPERM) if doing == NAMESPACE => {
            GateError::NoPermission { doing, remedy: "this process lacks CAP_SYS_ADMIN".to_owned(), source }
        }
        Some(libc::ENOENT | libc::EOPNOTSUPP) => GateError::Unsupported { doing, needed: NEEDED, source },
        _ => GateError::route(doing, source),
    })
}

/// What a frame to an open VIP takes.
fn frame_cost(set: &Set, slots: &Slots, [into, _]: &[Program; 2]) -> io::Result<Duration> {
    let vip = Ipv4Addr::new(192, 0, 2, 1); // for documentation (RFC 5737)
    set.addresses.put(&program::key(vip.into()), &0_u32.to_ne_bytes())?;
    let Some(slot) = slots.get(0) else { return Err(io::ErrorKind::NotFound.into()) };
    if slot.authorise(Epoch(1), bpf::boot_time() + OPEN).is_err() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let mut frame = [0; 60];
    frame[12..14].copy_from_slice(&(libc::ETH_P_IP as u16).to_be_bytes());
    frame[14] = 0x45; // version 4, a header of five words
    frame[30..34].copy_from_slice(&vip.octets());
    into.run(&frame, RUNS).map(|(_, each)| each)
}
