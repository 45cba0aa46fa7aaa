//! Two network namespaces with a wire between them, made through netlink. They are gone when the test thread and its
//! sockets are, so that nothing is left behind.

use crate::netlink::{Request, RouteSocket};
use crate::socket::Socket;
use crate::{Drained, Monitor, NetEvent};
use domain::InterfaceName;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long a test waits for an event that must come.
const PATIENCE: Duration = Duration::from_secs(10);

const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;

/// A network namespace.
pub(super) struct Place(File);

/// The host under test with interface `sip0`, and its neighbour with `far0` at the other end of the wire. The test
/// begins in the namespace of the host.
pub(super) struct Lab {
    pub(super) host: Place,
    pub(super) neighbour: Place,
}

/// Runs `test` in a lab and a thread of its own. `name` is the test's own name: without privileges the test is run in
/// a process of its own, in a user namespace, since a process with several threads cannot enter one.
pub(super) fn in_lab(name: &str, test: impl FnOnce(&Lab) + Send + 'static) {
    // SAFETY: takes no pointers.
    if unsafe { libc::geteuid() } != 0 {
        return as_root_of_a_user_namespace(name);
    }
    let result = std::thread::spawn(|| test(&Lab::build())).join();
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

impl Lab {
    fn build() -> Self {
        let neighbour = Place::new();
        let host = Place::new();
        add_wire("sip0", &neighbour, "far0");
        let lab = Self { host, neighbour };
        lab.neighbour.visit(|| set_up(&far0(), true));
        set_up(&sip0(), true);
        wait_until_running(&sip0());
        lab.neighbour.visit(|| wait_until_running(&far0()));
        lab
    }
}

impl Place {
    /// Makes a namespace and moves the thread there.
    pub(super) fn new() -> Self {
        // SAFETY: takes no pointers; concerns this thread only.
        let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
        assert_eq!(result, 0, "cannot make a network namespace: {}", io::Error::last_os_error());
        Self(File::open("/proc/thread-self/ns/net").unwrap())
    }

    /// Moves the thread there.
    pub(super) fn enter(&self) {
        // SAFETY: takes no pointers; concerns this thread only.
        let result = unsafe { libc::setns(self.0.as_raw_fd(), libc::CLONE_NEWNET) };
        assert_eq!(result, 0, "cannot enter a network namespace: {}", io::Error::last_os_error());
    }

    /// Does something there. What is opened there keeps belonging there.
    pub(super) fn visit<T>(&self, work: impl FnOnce() -> T) -> T {
        let before = Self(File::open("/proc/thread-self/ns/net").unwrap());
        self.enter();
        let result = work();
        before.enter();
        result
    }
}

/// Makes a wire from interface `near` of this namespace to `far` of another.
pub(super) fn add_wire(near: &str, place: &Place, far: &str) {
    let mut wire = Request::about_link(libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_ACK, 0);
    wire.attribute(libc::IFLA_IFNAME, format!("{near}\0").as_bytes());
    wire.nested(libc::IFLA_LINKINFO, |wire| {
        wire.attribute(libc::IFLA_INFO_KIND, b"veth");
        wire.nested(IFLA_INFO_DATA, |wire| {
            wire.nested(VETH_INFO_PEER, |wire| {
                wire.push(&[0; 16]); // struct ifinfomsg
                wire.attribute(libc::IFLA_IFNAME, format!("{far}\0").as_bytes());
                wire.attribute(libc::IFLA_NET_NS_FD, &place.0.as_raw_fd().to_ne_bytes());
            });
        });
    });
    RouteSocket::open().unwrap().order(wire).expect("a veth pair can be made");
}

pub(super) fn sip0() -> InterfaceName {
    InterfaceName::new("sip0").unwrap()
}

pub(super) fn far0() -> InterfaceName {
    InterfaceName::new("far0").unwrap()
}

/// Sets an interface of this namespace up or down.
pub(super) fn set_up(interface: &InterfaceName, up: bool) {
    let mut request = Request::new(libc::RTM_NEWLINK, libc::NLM_F_ACK);
    let flags = if up { libc::IFF_UP } else { 0 };
    let header = [0, index(interface).cast_signed(), flags, libc::IFF_UP];
    request.push(&header.map(i32::to_ne_bytes).concat());
    RouteSocket::open().unwrap().order(request).unwrap();
}

/// Makes a bridge in this namespace.
pub(super) fn add_bridge(name: &str) -> InterfaceName {
    let mut bridge = Request::about_link(libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_ACK, 0);
    bridge.attribute(libc::IFLA_IFNAME, format!("{name}\0").as_bytes());
    bridge.nested(libc::IFLA_LINKINFO, |bridge| bridge.attribute(libc::IFLA_INFO_KIND, b"bridge"));
    RouteSocket::open().unwrap().order(bridge).expect("a bridge can be made");
    InterfaceName::new(name).unwrap()
}

/// Makes an interface a port of a bridge; 0 takes it out.
pub(super) fn set_bridge(interface: &InterfaceName, bridge: u32) {
    let mut request = Request::about_link(libc::RTM_NEWLINK, libc::NLM_F_ACK, index(interface));
    request.attribute(libc::IFLA_MASTER, &bridge.to_ne_bytes());
    RouteSocket::open().unwrap().order(request).unwrap();
}

/// Sends a netlink message to a socket that is not the kernel's.
pub(super) fn send_to_process(to: &impl AsRawFd, bytes: &[u8]) {
    let from = Socket::route(0).unwrap();
    // SAFETY: all zeros is a valid `sockaddr_nl`.
    let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    let mut length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: pointer and length describe `address`.
    let result = unsafe { libc::getsockname(to.as_raw_fd(), (&raw mut address).cast(), &raw mut length) };
    assert_eq!(result, 0);
    address.nl_groups = 0; // to that socket alone
    let address = (&raw const address).cast();
    // SAFETY: both pointers come with the length of what they point to.
    let sent =
        unsafe { libc::sendto(from.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0, address, length) };
    assert_eq!(usize::try_from(sent).ok(), Some(bytes.len()), "{}", io::Error::last_os_error());
}

/// Removes an interface of this namespace, and with it the other end of the wire.
pub(super) fn remove(interface: &InterfaceName) {
    let request = Request::about_link(libc::RTM_DELLINK, libc::NLM_F_ACK, index(interface));
    RouteSocket::open().unwrap().order(request).unwrap();
}

/// Moves an interface of this namespace into another.
pub(super) fn bring_home(interface: &InterfaceName, home: &Place) {
    let mut request = Request::about_link(libc::RTM_NEWLINK, libc::NLM_F_ACK, index(interface));
    request.attribute(libc::IFLA_NET_NS_FD, &home.0.as_raw_fd().to_ne_bytes());
    RouteSocket::open().unwrap().order(request).unwrap();
}

pub(super) fn index(interface: &InterfaceName) -> u32 {
    Socket::packet().unwrap().interface_index(interface).unwrap().expect("there is such an interface")
}

/// Writes a value under `/proc/sys/net` of this namespace.
pub(super) fn sysctl(path: &str, value: &str) {
    fs::write(format!("/proc/sys/net/{path}"), value).unwrap_or_else(|e| panic!("cannot set {path}: {e}"));
}

/// Only then does the kernel send what it is given: it connects the queues after it has noticed the carrier.
pub(super) fn wait_until_running(interface: &InterfaceName) {
    let mut monitor = Monitor::open().unwrap();
    let socket = Socket::packet().unwrap();
    wait_for("carrier", &monitor.as_raw_fd(), || {
        drain(&mut monitor);
        (socket.interface_flags(interface).unwrap()? & libc::IFF_RUNNING != 0).then_some(())
    });
}

/// All that a monitor has to tell.
pub(super) fn drain(monitor: &mut Monitor) -> Vec<NetEvent> {
    let mut events = Vec::new();
    while monitor.events(&mut events).unwrap() == Drained::MoreWaits {}
    events
}

/// Waits until `look` finds something; looks again whenever `readable` is.
pub(super) fn wait_for<T>(what: &str, readable: &impl AsRawFd, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        let left = end.saturating_duration_since(Instant::now());
        assert!(poll(readable, left), "waited for {what} in vain");
    }
}

/// Whether a descriptor becomes readable in time.
pub(super) fn poll(readable: &impl AsRawFd, within: Duration) -> bool {
    let mut entry = libc::pollfd { fd: readable.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry, as said.
    unsafe { libc::poll(&raw mut entry, 1, i32::try_from(within.as_millis()).unwrap()) == 1 }
}

fn as_root_of_a_user_namespace(name: &str) {
    // SAFETY: take no pointers.
    let (uid, gid) = unsafe { (libc::getuid(), libc::getgid()) };
    let maps = [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("0 {uid} 1")),
        ("/proc/self/gid_map", format!("0 {gid} 1")),
    ];
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", &format!("tests::{name}"), "--test-threads=1"]);
    // SAFETY: between fork and exec: one system call, and three files written.
    unsafe {
        child.pre_exec(move || {
            if libc::unshare(libc::CLONE_NEWUSER) != 0 {
                return Err(io::Error::last_os_error());
            }
            maps.iter().try_for_each(|(path, text)| fs::write(path, text))
        });
    }
    let output = child.output().expect("user namespaces are allowed here");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
