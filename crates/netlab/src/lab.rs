//! The laboratory: segments (bridges) in a network namespace that is the switch, and hosts on them, whose cables can be
//! cut, made one-way, and kept from certain others. Programs run on hosts by [`Lab::spawn`], closures by [`Lab::in_host`].

use crate::cleanup::end_processes;
use crate::enclosure::WORK_DIR;
use crate::host::{Namespaces, switch_network};
use crate::links::{self, Drop as Dropped, End, Hook};
use crate::netlink::Netlink;
use crate::types::{Address, Mac};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A network interface that a host shall have.
#[derive(Debug, Clone, Copy)]
pub struct Nic<'a> {
    /// The segment that its cable leads to; the first to name one makes it.
    pub segment: &'a str,
    /// Its name on the host, at most 15 bytes.
    pub name: &'a str,
    /// Its addresses, each with the length of its prefix: `192.0.2.11/24`, `2001:db8::11/64`.
    pub addresses: &'a [&'a str],
}

/// A way through a host's cables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// What the host sends.
    FromHost,
    /// What is sent to the host.
    ToHost,
}

/// Why something did not happen in the laboratory.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The process is not inside namespaces of its own.
    #[error("a laboratory is only built inside namespaces of its own: call netlab::enter first")]
    NotInside,
    /// There is no such host.
    #[error("the laboratory has no host {0:?}")]
    NoSuchHost(String),
    /// The host has no such interface, or none on such a segment.
    #[error("host {host:?} has no interface {nic:?}")]
    NoSuchNic {
        /// The host.
        host: String,
        /// The name of the interface or segment.
        nic: String,
    },
    /// A host's name was used twice, or is not one that a directory can have.
    #[error("{0:?} cannot be the name of a further host: it must be new, not empty and without '/'")]
    BadName(String),
    /// An address of an interface is not one.
    #[error("{0:?} is not an address with the length of its prefix, such as \"192.0.2.11/24\"")]
    BadAddress(String),
    /// The kernel refused something.
    #[error("{doing} failed")]
    Kernel {
        /// What was being done.
        doing: String,
        /// What the kernel answered.
        source: io::Error,
    },
}

fn failed(doing: impl Into<String>) -> impl FnOnce(io::Error) -> LabError {
    |source| LabError::Kernel { doing: doing.into(), source }
}

/// A switch and its hosts. Namespaces are held by descriptors only; dropping the lab kills every process that runs on one of
/// its hosts, grandchildren included, and with the descriptors everything is gone.
pub struct Lab {
    directory: PathBuf,
    /// In the switch's network namespace, which lives as long as this socket.
    switch: Mutex<Netlink>,
    /// Index of the bridge by segment.
    segments: BTreeMap<String, u32>,
    hosts: BTreeMap<String, Host>,
    /// Pairs of hosts that do not hear each other, each with the lesser name first.
    blocked: BTreeSet<(String, String)>,
    /// How many ports the switch has; numbers them, and the hosts' hardware addresses.
    ports: u16,
}

struct Host {
    namespaces: Namespaces,
    netlink: Mutex<Netlink>,
    directory: PathBuf,
    ports: Vec<Port>,
    silenced: BTreeSet<Direction>,
}

/// The switch's end of a host's cable.
struct Port {
    segment: String,
    nic: String,
    index: u32,
    mac: Mac,
}

impl Lab {
    /// Builds an empty laboratory.
    ///
    /// # Errors
    /// [`LabError::NotInside`] before [`crate::enter`]; [`LabError::Kernel`].
    pub fn new() -> Result<Self, LabError> {
        static LABS: AtomicU32 = AtomicU32::new(0);
        if !Path::new(WORK_DIR).is_dir() {
            return Err(LabError::NotInside);
        }
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let directory = PathBuf::from(format!("{WORK_DIR}/lab-{}-{number}", std::process::id()));
        std::fs::create_dir(&directory).map_err(failed("making the lab's directory"))?;
        let switch = switch_network(Netlink::open).map_err(failed("making the switch"))?;
        Ok(Self {
            directory,
            switch: Mutex::new(switch),
            segments: BTreeMap::new(),
            hosts: BTreeMap::new(),
            blocked: BTreeSet::new(),
            ports: 0,
        })
    }

    /// Adds a host, with `lo` and these interfaces up, their addresses usable and their ports on the switch forwarding.
    /// `/run/takeover`, `/var/lib/takeover` and `/var/log/takeover` are the host's own and outlive the programs on it.
    ///
    /// # Errors
    /// [`LabError::BadName`], [`LabError::BadAddress`], [`LabError::Kernel`].
    pub fn host(&mut self, name: &str, nics: &[Nic<'_>]) -> Result<(), LabError> {
        if name.is_empty() || name.starts_with('.') || name.contains('/') || self.hosts.contains_key(name) {
            return Err(LabError::BadName(name.to_owned()));
        }
        let doing = || failed(format!("making host {name}"));
        let directory = self.directory.join(name);
        let namespaces = Namespaces::of_host(&directory).map_err(doing())?;
        let mut netlink = namespaces.run(Netlink::open).and_then(|opened| opened).map_err(doing())?;
        links::link_index(&mut netlink, "lo")
            .and_then(|lo| links::set_up(&mut netlink, lo, true))
            .map_err(doing())?;
        let mut host = Host {
            namespaces,
            netlink: Mutex::new(netlink),
            directory,
            ports: Vec::new(),
            silenced: BTreeSet::new(),
        };
        for nic in nics {
            let port = self.plug_in(&host, nic)?;
            host.ports.push(port);
        }
        self.hosts.insert(name.to_owned(), host);
        // All ports were set up before, so that they become ready side by side.
        self.set_ports(name, None, true)
    }

    fn plug_in(&mut self, host: &Host, nic: &Nic<'_>) -> Result<Port, LabError> {
        let doing = || failed(format!("making interface {}", nic.name));
        let addresses = nic.addresses.iter().map(|text| parse(text)).collect::<Result<Vec<_>, _>>()?;
        let bridge = self.bridge(nic.segment)?;
        self.ports += 1;
        let [high, low] = self.ports.to_be_bytes();
        let mac = Mac([0x02, 0x6e, 0x6c, 0, high, low]); // locally administered
        let mut switch = lock(&self.switch);
        let (port, far) = (format!("port{}", self.ports), End { name: nic.name, mac });
        let index = links::create_cable(&mut switch, bridge, &port, &far, host.namespaces.network.as_fd())
            .map_err(doing())?;
        links::set_up(&mut switch, index, true).map_err(doing())?;
        let mut netlink = lock(&host.netlink);
        let far_index = links::link_index(&mut netlink, nic.name).map_err(doing())?;
        links::set_up(&mut netlink, far_index, true).map_err(doing())?;
        for (address, prefix) in addresses {
            links::add_address(&mut netlink, far_index, address, prefix)
                .map_err(failed(format!("adding {address}/{prefix} to {}", nic.name)))?;
        }
        Ok(Port { segment: nic.segment.to_owned(), nic: nic.name.to_owned(), index, mac })
    }

    fn bridge(&mut self, segment: &str) -> Result<u32, LabError> {
        if let Some(index) = self.segments.get(segment) {
            return Ok(*index);
        }
        let name = format!("segment{}", self.segments.len());
        let index = links::create_bridge(&mut lock(&self.switch), &name)
            .map_err(failed(format!("making segment {segment}")))?;
        self.segments.insert(segment.to_owned(), index);
        Ok(index)
    }

    /// Cuts the host off: its ports on the switch go down, so that it sees the carrier vanish as from a pulled cable.
    /// Cutting what is cut changes nothing.
    ///
    /// # Errors
    /// [`LabError::NoSuchHost`], [`LabError::Kernel`].
    pub fn cut(&self, host: &str) -> Result<(), LabError> {
        self.set_ports(host, None, false)
    }

    /// Cuts the host off from one segment only.
    ///
    /// # Errors
    /// As [`Self::cut`], and [`LabError::NoSuchNic`].
    pub fn cut_segment(&self, host: &str, segment: &str) -> Result<(), LabError> {
        self.set_ports(host, Some(segment), false)
    }

    /// Plugs the host in again; returns when the switch forwards to it.
    ///
    /// # Errors
    /// As [`Self::cut`].
    pub fn heal(&self, host: &str) -> Result<(), LabError> {
        self.set_ports(host, None, true)
    }

    /// Plugs the host in to one segment again.
    ///
    /// # Errors
    /// As [`Self::cut_segment`].
    pub fn heal_segment(&self, host: &str, segment: &str) -> Result<(), LabError> {
        self.set_ports(host, Some(segment), true)
    }

    fn set_ports(&self, host: &str, segment: Option<&str>, up: bool) -> Result<(), LabError> {
        let ports = &self.find(host)?.ports;
        let wanted: Vec<&Port> = ports.iter().filter(|p| segment.is_none_or(|s| s == p.segment)).collect();
        if let (Some(segment), true) = (segment, wanted.is_empty()) {
            return Err(LabError::NoSuchNic { host: host.to_owned(), nic: segment.to_owned() });
        }
        let doing = || failed(format!("setting the ports of {host} {}", if up { "up" } else { "down" }));
        let mut switch = lock(&self.switch);
        for port in &wanted {
            links::set_up(&mut switch, port.index, up).map_err(doing())?;
        }
        for port in wanted {
            await_forwarding(&mut switch, port.index, up).map_err(doing())?;
        }
        Ok(())
    }

    /// Drops, or again passes, everything that goes one way through the host's cables; the carrier stays.
    ///
    /// # Errors
    /// [`LabError::NoSuchHost`], [`LabError::Kernel`].
    pub fn one_way(&mut self, host: &str, dropped: Direction, on: bool) -> Result<(), LabError> {
        let found = self.hosts.get_mut(host).ok_or_else(|| LabError::NoSuchHost(host.to_owned()))?;
        if on {
            found.silenced.insert(dropped);
        } else {
            found.silenced.remove(&dropped);
        }
        self.set_filters(host)
    }

    /// Keeps two hosts from hearing each other, or lets them again, while both hear everybody else.
    ///
    /// # Errors
    /// [`LabError::NoSuchHost`], [`LabError::Kernel`].
    pub fn block_between(&mut self, one: &str, other: &str, on: bool) -> Result<(), LabError> {
        self.find(one)?;
        self.find(other)?;
        let pair = (one.min(other).to_owned(), one.max(other).to_owned());
        if on {
            self.blocked.insert(pair);
        } else {
            self.blocked.remove(&pair);
        }
        self.set_filters(one)?;
        self.set_filters(other)
    }

    fn set_filters(&self, name: &str) -> Result<(), LabError> {
        let doing = || failed(format!("setting the filters of {name}"));
        let host = self.find(name)?;
        let unheard: Vec<Mac> = self
            .blocked
            .iter()
            .filter_map(|(a, b)| if a == name { Some(b) } else { (b == name).then_some(a) })
            .filter_map(|peer| self.hosts.get(peer))
            .flat_map(|peer| peer.ports.iter().map(|port| port.mac))
            .collect();
        let drops = |way, unheard| {
            if host.silenced.contains(&way) { Dropped::All } else { Dropped::From(unheard) }
        };
        let mut switch = lock(&self.switch);
        for port in &host.ports {
            match links::add_filter_hooks(&mut switch, port.index) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(doing()(error)),
                Ok(()) | Err(_) => {}
            }
            for (hook, what) in [
                (Hook::Ingress, drops(Direction::FromHost, &[][..])),
                (Hook::Egress, drops(Direction::ToHost, &unheard[..])),
            ] {
                links::set_filter(&mut switch, port.index, hook, &what).map_err(doing())?;
            }
        }
        Ok(())
    }

    /// Starts a program on a host, in a session of its own and the calling process's working directory. It runs as root of
    /// the laboratory: a user set in `command` takes effect before the host is entered, which then fails.
    ///
    /// It ends at the latest with the lab. (There is no parent-death signal: that would come when the calling *thread* ends.)
    ///
    /// # Errors
    /// [`LabError::NoSuchHost`]; [`LabError::Kernel`] with what spawning it said.
    pub fn spawn(&self, host: &str, mut command: Command) -> Result<Child, LabError> {
        self.find(host)?.namespaces.host_command(&mut command);
        command.spawn().map_err(failed(format!("starting {} on {host}", command.get_program().display())))
    }

    /// Runs `work` on a thread that lives on the host, with its network and its files, and waits for it. Sockets that it
    /// opens and hands back stay the host's.
    ///
    /// # Errors
    /// [`LabError::NoSuchHost`], [`LabError::Kernel`].
    ///
    /// # Panics
    /// With the panic of `work`.
    pub fn in_host<T: Send>(&self, host: &str, work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        self.find(host)?.namespaces.run(work).map_err(failed(format!("entering {host}")))
    }

    /// A directory whose `run`, `lib` and `log` are `/run/takeover`, `/var/lib/takeover` and `/var/log/takeover` of the host.
    ///
    /// # Errors
    /// [`LabError::NoSuchHost`].
    pub fn directory(&self, host: &str) -> Result<&Path, LabError> {
        Ok(&self.find(host)?.directory)
    }

    /// The names of the hosts, in order.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.hosts.keys().map(String::as_str)
    }

    /// The addresses that a host has now, whoever added them, but for those of loopback.
    ///
    /// # Errors
    /// [`LabError::NoSuchHost`], [`LabError::Kernel`].
    pub fn addresses(&self, host: &str) -> Result<Vec<Address>, LabError> {
        links::addresses(&mut lock(&self.find(host)?.netlink)).map_err(failed("reading the addresses"))
    }

    /// The hardware address that a host's neighbour table has for `address`, also where the entry is stale.
    ///
    /// # Errors
    /// [`LabError::NoSuchHost`], [`LabError::Kernel`].
    pub fn neighbour(&self, host: &str, address: IpAddr) -> Result<Option<Mac>, LabError> {
        links::neighbour(&mut lock(&self.find(host)?.netlink), address)
            .map_err(failed("reading the neighbours"))
    }

    /// The hardware address of a host's interface.
    ///
    /// # Errors
    /// [`LabError::NoSuchHost`], [`LabError::NoSuchNic`].
    pub fn mac(&self, host: &str, nic: &str) -> Result<Mac, LabError> {
        let port = self.find(host)?.ports.iter().find(|port| port.nic == nic);
        port.map(|port| port.mac)
            .ok_or_else(|| LabError::NoSuchNic { host: host.to_owned(), nic: nic.to_owned() })
    }

    fn find(&self, host: &str) -> Result<&Host, LabError> {
        self.hosts.get(host).ok_or_else(|| LabError::NoSuchHost(host.to_owned()))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let networks: BTreeSet<u64> =
            self.hosts.values().filter_map(|host| host.namespaces.network_id().ok()).collect();
        end_processes(&networks);
        self.hosts.clear(); // the mounts of the directories go before the directories
        let _ = std::fs::remove_dir_all(&self.directory); // in memory: what remains goes with the namespaces
    }
}

/// Waits until the port forwards, or no longer does: the bridge learns of a carrier a moment after it changed.
fn await_forwarding(switch: &mut Netlink, port: u32, wanted: bool) -> io::Result<()> {
    const LIMIT: Duration = Duration::from_secs(5);
    const PAUSE: Duration = Duration::from_micros(200);
    let started = Instant::now();
    while links::forwards(switch, port)? != wanted {
        if started.elapsed() > LIMIT {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the bridge did not follow the port's carrier",
            ));
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// A socket's state is whole between calls, so one that a panic left behind is as good as any.
fn lock(netlink: &Mutex<Netlink>) -> MutexGuard<'_, Netlink> {
    netlink.lock().unwrap_or_else(PoisonError::into_inner)
}

fn parse(text: &str) -> Result<(IpAddr, u8), LabError> {
    let bad = || LabError::BadAddress(text.to_owned());
    let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
    let address: IpAddr = address.parse().map_err(|_| bad())?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let prefix = prefix.parse().ok().filter(|prefix| (1..=longest).contains(prefix)).ok_or_else(bad)?;
    Ok((address, prefix))
}
