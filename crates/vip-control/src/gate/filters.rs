//! Where the gate's programs hang: the clsact queueing discipline of an interface, and on it one filter for each way
//! (tc-bpf(8)). Filters belong to the interface, not to a process. Which programs, and what to do about what is found, is
//! for the gate.

use super::program::Way;
use crate::netlink::{Message, Request, RouteSocket, attributes};
use std::io;
use std::os::fd::RawFd;

/// Before all filters with another preference.
pub(super) const PREFERENCE: u16 = 1;
/// By which our filter is known among those of the same preference.
const HANDLE: u32 = 0x7467;
/// By which a person knows it, in `tc filter show`; the agent that comes after us, too.
const NAMES: [&str; 2] = ["takeover-gate-in", "takeover-gate-out"];
const BPF: &str = "bpf";
const CLSACT: &str = "clsact";

// linux/pkt_sched.h and linux/pkt_cls.h, as far as the libc crate lacks them.
const TC_H_CLSACT: u32 = 0xffff_fff1;
const TC_H_CLSACT_HANDLE: u32 = 0xffff_0000;
const TC_H_INGRESS: u32 = 0xffff_fff2;
const TC_H_EGRESS: u32 = 0xffff_fff3;
const TCA_CHAIN: u16 = 11;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_FLAGS_GEN: u16 = 9;
const TCA_BPF_ID: u16 = 11;
/// The program's result is the verdict: `TCA_BPF_FLAG_ACT_DIRECT`.
const DIRECT_ACTION: u32 = 1;
/// Not on the network card's own processor: `TCA_CLS_FLAGS_SKIP_HW`.
const SKIP_HARDWARE: u32 = 1;
/// Length of `struct tcmsg`.
const TC_HEADER: usize = 20;

/// What stands on one way of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Installed {
    /// The id of the program of our filter.
    pub(super) ours: Option<u32>,
    /// Filters of others that decide before ours, or all where ours is not there.
    pub(super) before: usize,
}

/// Indices of the interfaces with a clsact queueing discipline.
pub(super) fn with_clsact(route: &mut RouteSocket) -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    let request =
        about(libc::RTM_GETQDISC, libc::NLM_F_DUMP, &Place { index: 0, parent: 0, handle: 0, info: 0 });
    route.list(&request, &mut found, |message| {
        let listed = Listed::read(message)?;
        (listed.kind == CLSACT).then_some(listed.index)
    })?;
    Ok(found)
}

/// What stands on one way of an interface; nothing where there is no such interface.
pub(super) fn installed(route: &mut RouteSocket, index: u32, way: Way) -> io::Result<Installed> {
    let place = Place { index, parent: parent(way), handle: 0, info: 0 };
    let request = about(libc::RTM_GETTFILTER, libc::NLM_F_DUMP, &place);
    let mut filters = Vec::new();
    route.list(&request, &mut filters, |message| {
        // Handle 0 stands for the group of filters with one preference. Only chain 0 is run by itself.
        let listed = Listed::read(message).filter(|listed| listed.handle != 0 && listed.chain == 0)?;
        Some(if listed.is_ours(way) { listed.program.or(Some(0)) } else { None })
    })?;
    let ours = filters.iter().position(Option::is_some);
    Ok(Installed { ours: ours.and_then(|at| filters[at]), before: ours.unwrap_or(filters.len()) })
}

/// Gives an interface the clsact queueing discipline; `EEXIST` where it has one, or `ingress`, which takes its place.
pub(super) fn add_clsact(route: &mut RouteSocket, index: u32) -> io::Result<()> {
    let place = Place { index, parent: TC_H_CLSACT, handle: TC_H_CLSACT_HANDLE, info: 0 };
    let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL | libc::NLM_F_ACK;
    let mut request = about(libc::RTM_NEWQDISC, flags, &place);
    request.attribute(libc::TCA_KIND, b"clsact\0");
    route.order(request)
}

/// Hangs a program up, in place of the one that our filter has: every frame meets the one or the other.
pub(super) fn attach(route: &mut RouteSocket, index: u32, way: Way, program: RawFd) -> io::Result<()> {
    let mut request = about(libc::RTM_NEWTFILTER, libc::NLM_F_CREATE | libc::NLM_F_ACK, &ours(index, way));
    request.attribute(libc::TCA_KIND, b"bpf\0");
    request.nested(libc::TCA_OPTIONS, |request| {
        request.attribute(TCA_BPF_FD, &program.to_ne_bytes());
        let mut name = [0; 20];
        let bytes = name_of(way).as_bytes();
        name[..bytes.len()].copy_from_slice(bytes);
        request.attribute(TCA_BPF_NAME, &name[..=bytes.len()]);
        request.attribute(TCA_BPF_FLAGS, &DIRECT_ACTION.to_ne_bytes());
        request.attribute(TCA_BPF_FLAGS_GEN, &SKIP_HARDWARE.to_ne_bytes());
    });
    route.order(request)
}

/// Takes our filter down; `ENOENT` or `EINVAL` where there is none.
pub(super) fn detach(route: &mut RouteSocket, index: u32, way: Way) -> io::Result<()> {
    let mut request = about(libc::RTM_DELTFILTER, libc::NLM_F_ACK, &ours(index, way));
    request.attribute(libc::TCA_KIND, b"bpf\0");
    route.order(request)
}

/// The interface on which something about clsact or its filters changed; none for any other message.
pub(crate) fn changed_on(message: Message<'_>) -> Option<u32> {
    let about_filters = [libc::RTM_NEWTFILTER, libc::RTM_DELTFILTER].contains(&message.kind);
    let about_qdisc = [libc::RTM_NEWQDISC, libc::RTM_DELQDISC].contains(&message.kind);
    if !about_filters && !about_qdisc {
        return None;
    }
    let listed = Listed::read(message)?;
    [TC_H_CLSACT, TC_H_INGRESS, TC_H_EGRESS].contains(&listed.parent).then_some(listed.index)
}

/// Where in an interface's traffic control: the numbers of `struct tcmsg`.
struct Place {
    index: u32,
    parent: u32,
    handle: u32,
    info: u32,
}

fn ours(index: u32, way: Way) -> Place {
    let every_protocol = u32::from((libc::ETH_P_ALL as u16).to_be());
    let info = u32::from(PREFERENCE) << 16 | every_protocol;
    Place { index, parent: parent(way), handle: HANDLE, info }
}

fn parent(way: Way) -> u32 {
    match way {
        Way::In => TC_H_INGRESS,
        Way::Out => TC_H_EGRESS,
    }
}

fn name_of(way: Way) -> &'static str {
    let [into, out] = NAMES;
    match way {
        Way::In => into,
        Way::Out => out,
    }
}

fn about(kind: u16, flags: i32, place: &Place) -> Request {
    let mut request = Request::new(kind, flags);
    let Place { index, parent, handle, info } = *place;
    let family = [0; 4]; // AF_UNSPEC, padding
    for number in
        [family, index.to_ne_bytes(), handle.to_ne_bytes(), parent.to_ne_bytes(), info.to_ne_bytes()]
    {
        request.push(&number);
    }
    request
}

/// A queueing discipline or a filter as the kernel lists it.
struct Listed<'a> {
    index: u32,
    handle: u32,
    parent: u32,
    preference: u32,
    kind: &'a str,
    chain: u32,
    name: &'a str,
    program: Option<u32>,
}

impl<'a> Listed<'a> {
    /// None for messages about other things.
    fn read(message: Message<'a>) -> Option<Self> {
        let (header, rest) = message.payload.split_first_chunk::<TC_HEADER>()?;
        let mut listed = Self {
            index: number(&header[4..])?,
            handle: number(&header[8..])?,
            parent: number(&header[12..])?,
            preference: number(&header[16..])? >> 16,
            kind: "",
            chain: 0,
            name: "",
            program: None,
        };
        for (kind, payload) in attributes(rest) {
            match kind {
                libc::TCA_KIND => listed.kind = text(payload),
                TCA_CHAIN => listed.chain = number(payload)?,
                libc::TCA_OPTIONS if listed.kind == BPF => {
                    for (kind, payload) in attributes(payload) {
                        match kind {
                            TCA_BPF_NAME => listed.name = text(payload),
                            TCA_BPF_ID => listed.program = number(payload),
                            _ => (),
                        }
                    }
                }
                _ => (),
            }
        }
        Some(listed)
    }

    fn is_ours(&self, way: Way) -> bool {
        self.preference == u32::from(PREFERENCE) && self.handle == HANDLE && self.name == name_of(way)
    }
}

fn number(payload: &[u8]) -> Option<u32> {
    payload.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// A C string; empty where it is none.
fn text(payload: &[u8]) -> &str {
    payload.strip_suffix(&[0]).and_then(|bytes| str::from_utf8(bytes).ok()).unwrap_or_default()
}
