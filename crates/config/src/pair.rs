//! `[pairs.NAME]` and its VIPs: two applications on two hosts that stand in for each other, and the addresses that
//! move between them.

use crate::names::{Names, named};
use crate::reader::{Field, Span, Table, did_you_mean, shown};
use crate::schema::{FLAP_GUARD, PAIR, PROFILE, VIP};
use crate::sip;
use crate::sip_ports::Ports;
use crate::values::{DAY, HOUR, SECOND};
use domain::{
    AppName, Failback, FlapGuard, GatePolicy, HostName, InterfaceName, Pair, PairName, Profile, Redundancy,
    Vip, VipAddress, VipControl, format_duration, parse_duration,
};
use lease::{PairId, Timing, TimingError};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// How a file names the agent's own VIP control.
pub(crate) const BUILT_IN: &str = "built-in";

/// Most VIPs of a pair: they are moved one after another, on the takeover path.
const MAX_VIPS: usize = 64;

/// How long an agent without real-time rights may have to wait on a busy host, in the ordinary course of things.
const ORDINARY_STALL: Duration = Duration::from_millis(50);

/// Addresses already given to somebody, so that none is given twice.
#[derive(Default)]
pub(crate) struct AddressBook {
    owners: BTreeMap<IpAddr, (String, Span)>,
}

impl AddressBook {
    /// Gives `address` to `owner`; reported where somebody else has it.
    pub(crate) fn claim(&mut self, address: IpAddr, owner: String, field: &Field<'_>) {
        // An IPv4-mapped address is the IPv4 address to the kernel.
        let canonical = address.to_canonical();
        match self.owners.get(&canonical) {
            Some((other, span)) => field.error(
                || format!("{address} is given twice"),
                |f| f.label(owner).related(span.clone(), other.clone()),
            ),
            None => {
                self.owners.insert(canonical, (owner, field.span()));
            }
        }
    }
}

/// Reads all pairs.
pub(crate) fn pairs(
    root: &Table<'_>,
    names: &Names,
    addresses: &mut AddressBook,
    ports: Ports<'_>,
) -> BTreeMap<PairName, Pair> {
    let mut reader = Reader { names, addresses, ports, taken: BTreeMap::new(), ids: BTreeMap::new() };
    named(root, "pairs", "pair", &PAIR, |name, table| reader.pair(name, table))
}

struct Reader<'a> {
    names: &'a Names,
    addresses: &'a mut AddressBook,
    ports: Ports<'a>,
    /// Applications that are in a pair, with the pair and the place that says so.
    taken: BTreeMap<AppName, (PairName, Span)>,
    /// Pairs by what lease messages call them.
    ids: BTreeMap<PairId, PairName>,
}

impl Reader<'_> {
    fn pair(&mut self, name: &PairName, table: &Table<'_>) -> Option<Pair> {
        self.check_id(name, table);
        let members = table
            .require("members", "members = [\"sip1\", \"sip2\"]")
            .and_then(|field| self.members(name, &field));
        let redundancy = table
            .get("redundancy")
            .and_then(|field| {
                field.choice(&[
                    ("hot", Redundancy::Hot),
                    ("warm", Redundancy::Warm),
                    ("cold", Redundancy::Cold),
                ])
            })
            // Our own SIP Servers keep a copy.
            .unwrap_or(if table.get("sip").is_some() { Redundancy::Hot } else { Redundancy::Warm });
        let hosts = members.as_ref().and_then(|members| self.hosts(members));
        let vips = self.vips(name, table, hosts.as_ref());
        let sip = table.get("sip").and_then(|field| {
            let settings = sip::settings(name, &field, &vips)?;
            self.ports.claim(name, hosts.as_ref(), &settings, &field);
            self.warn_without_copy(name, redundancy, &field);
            Some(Box::new(settings))
        });
        let pair = Pair {
            redundancy,
            profile: table.get("profile").and_then(|field| profile(name, &field)).unwrap_or_default(),
            gate: table
                .get("gate")
                .and_then(|field| {
                    field.choice(&[("preferred", GatePolicy::Preferred), ("required", GatePolicy::Required)])
                })
                .unwrap_or_default(),
            failback: table.get("failback").and_then(|field| failback(&field)).unwrap_or_default(),
            flap_guard: table
                .get("flap-guard")
                .map_or_else(FlapGuard::default, |field| flap_guard(name, &field)),
            vips,
            sip,
            members: members?,
        };
        if pair.vips.is_empty() && table.get("vips").is_none() {
            table.warning(
                || format!("pair \"{name}\" has no VIP"),
                |f| f.label("nothing moves with the primary mode"),
            );
        }
        Some(pair)
    }

    fn warn_without_copy(&self, name: &PairName, redundancy: Redundancy, field: &Field<'_>) {
        let label = match redundancy {
            Redundancy::Hot => return,
            Redundancy::Warm => "a planned switchover does not wait until the backup has the calls",
            Redundancy::Cold => "there is no backup that could keep a copy of the calls",
        };
        field.key_warning(
            || format!("pair \"{name}\" of SIP Servers is in {redundancy} standby"),
            |f| f.label(label).help("redundancy = \"hot\" is the default where there is `sip`".to_owned()),
        );
    }

    /// Two pairs of one id would vote for each other. It takes intent: 2^64 ids.
    fn check_id(&mut self, name: &PairName, table: &Table<'_>) {
        if let Some(other) = self.ids.insert(PairId::of(name), name.clone()) {
            table.error(
                || format!("the names of pairs \"{other}\" and \"{name}\" have the same hash"),
                |f| {
                    f.label("its lease messages could not be told from the other pair's")
                        .help("choose another name for one of them".to_owned())
                },
            );
        }
    }

    fn members(&mut self, name: &PairName, field: &Field<'_>) -> Option<[AppName; 2]> {
        let expected = "an array of two applications such as [\"sip1\", \"sip2\"]";
        let items = field.items(expected)?;
        let apps: Vec<Option<AppName>> =
            items.iter().map(|item| self.names.applications.resolve(item)).collect();
        let [first, second] = items.as_slice() else {
            field.error(
                || format!("pair \"{name}\" does not have two members"),
                |f| f.label(format!("expected {expected}")),
            );
            return None;
        };
        let [Some(a), Some(b)] = apps.as_slice() else { return None };
        if a == b {
            second.error(
                || format!("both members of pair \"{name}\" are application \"{a}\""),
                |f| f.label("expected another application"),
            );
            return None;
        }
        self.take(name, a, first);
        self.take(name, b, second);
        self.check_hosts_differ(name, a, b, field);
        Some([a.clone(), b.clone()])
    }

    fn take(&mut self, name: &PairName, app: &AppName, field: &Field<'_>) {
        match self.taken.get(app) {
            Some((other, span)) => field.error(
                || format!("application \"{app}\" is in two pairs"),
                |f| {
                    f.label(format!("a member of pair \"{name}\""))
                        .related(span.clone(), format!("a member of pair \"{other}\""))
                        .help("an application has one run mode, so it can be in one pair only".to_owned())
                },
            ),
            None => {
                self.taken.insert(app.clone(), (name.clone(), field.span()));
            }
        }
    }

    fn check_hosts_differ(&self, name: &PairName, a: &AppName, b: &AppName, field: &Field<'_>) {
        let (Some((host_a, _)), Some((host_b, span_b))) =
            (self.names.host_of.get(a), self.names.host_of.get(b))
        else {
            return;
        };
        if host_a == host_b {
            field.error(
                || format!("both members of pair \"{name}\" are on host \"{host_a}\""),
                |f| {
                    f.label(format!("\"{a}\" and \"{b}\" fail together with their host"))
                        .related(span_b.clone(), format!("where \"{b}\" is put on host \"{host_b}\""))
                        .help("put one of them on another host".to_owned())
                },
            );
        }
    }

    fn hosts(&self, members: &[AppName; 2]) -> Option<[HostName; 2]> {
        let host = |app| self.names.host_of.get(app).map(|(host, _)| host.clone());
        Some([host(&members[0])?, host(&members[1])?])
    }

    fn vips(&mut self, name: &PairName, table: &Table<'_>, hosts: Option<&[HostName; 2]>) -> Vec<Vip> {
        let Some(field) = table.get("vips") else { return Vec::new() };
        if field.is_table() {
            let remedy = format!("one of several has two brackets: [[pairs.{name}.vips]]");
            field.wrong_type("an array of tables", Some(remedy));
            return Vec::new();
        }
        let Some(items) = field.items("an array of tables") else { return Vec::new() };
        if items.is_empty() || items.len() > MAX_VIPS {
            field.error(
                || match items.len() {
                    0 => format!("`vips` of pair \"{name}\" is empty"),
                    n => format!("pair \"{name}\" has {n} VIPs"),
                },
                |f| f.label(format!("expected 1 to {MAX_VIPS} VIPs")),
            );
        }
        items.iter().take(MAX_VIPS).filter_map(|item| self.vip(name, item, hosts)).collect()
    }

    fn vip(&mut self, name: &PairName, item: &Field<'_>, hosts: Option<&[HostName; 2]>) -> Option<Vip> {
        let table = item.table(&VIP, format!("a VIP of pair \"{name}\""))?;
        let address = table.require("address", "address = \"192.0.2.100/24\"").and_then(|field| {
            let address = vip_address(&field)?;
            self.addresses.claim(address.address, format!("a VIP of pair \"{name}\""), &field);
            Some(address)
        });
        let interfaces = table
            .require("interface", "interface = \"eth0\"")
            .and_then(|field| self.interfaces(&field, hosts));
        let control = table.get("control").map_or(Some(VipControl::BuiltIn), |field| self.control(&field));
        Some(Vip { address: address?, interfaces: interfaces?, control: control? })
    }

    fn interfaces(
        &self,
        field: &Field<'_>,
        hosts: Option<&[HostName; 2]>,
    ) -> Option<BTreeMap<HostName, InterfaceName>> {
        let expected = "an interface's name such as \"eth0\", 1 to 15 bytes, or one for each host";
        if field.is_string() {
            let interface = field.understood(expected, interface_name)?;
            return Some(hosts?.iter().map(|host| (host.clone(), interface.clone())).collect());
        }
        if !field.is_table() {
            field.wrong_type(
                expected,
                Some("write \"eth0\", or { host1 = \"eth0\", host2 = \"ens3\" }".to_owned()),
            );
            return None;
        }
        let mut interfaces = BTreeMap::new();
        for entry in field.entries(expected) {
            let interface = entry.understood(expected, interface_name);
            let host = hosts.and_then(|hosts| hosts.iter().find(|host| host.as_str() == entry.name));
            if let (None, Some(hosts)) = (host, hosts) {
                let [a, b] = hosts;
                entry.key_error(
                    || format!("{} is not a host of this pair", shown(entry.name)),
                    |f| {
                        f.label(format!("expected \"{a}\" or \"{b}\", the hosts of the pair"))
                            .help(did_you_mean(entry.name, hosts.iter().map(HostName::as_str)))
                    },
                );
            }
            interfaces.extend(host.cloned().zip(interface));
        }
        for host in hosts?.iter().filter(|host| !field.has(host.as_str())) {
            field.error(
                || format!("the VIP has no interface on host \"{host}\""),
                |f| {
                    f.label(format!("\"{host}\" is missing here"))
                        .help(format!("add the interface that leads to the same network: {host} = \"eth0\""))
                },
            );
        }
        Some(interfaces)
    }

    fn control(&self, field: &Field<'_>) -> Option<VipControl> {
        if field.string("\"built-in\" or the name of a script")? == BUILT_IN {
            return Some(VipControl::BuiltIn);
        }
        self.names.scripts.resolve(field).map(VipControl::Script)
    }
}

fn interface_name(text: &str) -> Result<InterfaceName, String> {
    // The domain's own words are about names in general.
    InterfaceName::new(text).map_err(|_| format!("{} cannot be the name of an interface", shown(text)))
}

fn vip_address(field: &Field<'_>) -> Option<VipAddress> {
    let expected = "an address with the length of its network's prefix such as \"192.0.2.100/24\"";
    let text = field.string(expected)?;
    let vip: VipAddress = match (text.parse(), text.parse::<IpAddr>()) {
        (Ok(vip), _) => vip,
        (Err(_), Ok(ip)) => {
            let usual = if ip.is_ipv4() { 24 } else { 64 };
            field.error(
                || format!("the VIP {ip} has no prefix length"),
                |f| {
                    f.label(format!("expected {expected}")).help(format!(
                        "add the prefix length of the network that it is in, often \"{ip}/{usual}\""
                    ))
                },
            );
            return None;
        }
        (Err(_), Err(_)) => return field.parsed(expected),
    };
    if let IpAddr::V4(address) = vip.address
        && vip.prefix < 31
    {
        // RFC 1122, section 3.2.1.3: all zeros or all ones in the host part is no host (but RFC 3021 for /31).
        let host_mask = u32::MAX >> vip.prefix;
        let host_part = u32::from(address) & host_mask;
        if host_part == 0 || host_part == host_mask {
            let what = if host_part == 0 { "network" } else { "broadcast address" };
            let network = Ipv4Addr::from(u32::from(address) & !host_mask);
            field.error(
                || format!("the VIP {vip} is the {what} itself"),
                |f| f.label(format!("expected an address within {network}/{}", vip.prefix)),
            );
            return None;
        }
    }
    Some(vip)
}

fn profile(name: &PairName, field: &Field<'_>) -> Option<Profile> {
    let profile = if field.is_table() {
        own_profile(name, field)
    } else if field.is_string() {
        field.choice(&[("fast", Profile::Fast), ("normal", Profile::Normal), ("wan", Profile::Wan)])
    } else {
        field.wrong_type(
            "\"fast\", \"normal\", \"wan\" or a table",
            Some("write \"normal\", or { heartbeat = \"50ms\", lease = \"250ms\" }".to_owned()),
        );
        None
    }?;
    if let Some(flappy) = Timing::from(profile).flappy(ORDINARY_STALL) {
        field.warning(
            || format!("pair \"{name}\" needs agents with real-time rights for its profile \"{profile}\""),
            |f| {
                f.label(format!(
                    "a host that is silent for {} counts as lost",
                    format_duration(profile.silence())
                ))
                .help(format!(
                    "on a busy host without them, {flappy}; use it where `takeover doctor` says that both hosts can, \
                     else \"normal\""
                ))
            },
        );
    }
    Some(profile)
}

/// A profile given by its two lengths of time.
fn own_profile(name: &PairName, field: &Field<'_>) -> Option<Profile> {
    let table = field.table(&PROFILE, format!("`profile` of pair \"{name}\""))?;
    let heartbeat = table.require("heartbeat", "heartbeat = \"100ms\"");
    let lease = table.require("lease", "lease = \"450ms\"");
    let every = heartbeat.as_ref().and_then(|field| field.duration(Timing::EVERY.0..=Timing::EVERY.1));
    let hold = lease.as_ref().and_then(|field| field.duration(Timing::EVERY.0..=Timing::LONGEST));
    let (heartbeat, hold) = (every?, hold?);
    match Timing::new(heartbeat, hold) {
        Ok(timing) => Some(Profile::Custom { heartbeat: timing.every(), hold: timing.hold() }),
        Err(error) => {
            let wrong = match error {
                TimingError::Every(_) => table.get("heartbeat"),
                TimingError::Hold { .. } => table.get("lease"),
            };
            wrong?.error(
                || format!("pair \"{name}\" has {error}"),
                |f| f.label(format!("expected at least \"{}\"", format_duration(heartbeat * 5 / 2))),
            );
            None
        }
    }
}

fn failback(field: &Field<'_>) -> Option<Failback> {
    let expected = "\"never\", \"manual\" or \"after 10m\"";
    let text = field.string(expected)?;
    let failback = match text {
        "never" => Some(Failback::Never),
        "manual" => Some(Failback::Manual),
        _ => text.strip_prefix("after ").and_then(|stable| parse_duration(stable).ok()).map(Failback::After),
    };
    let range = SECOND..=7 * DAY;
    match failback {
        Some(Failback::After(stable)) if !range.contains(&stable) => {
            field.error(
                || "`failback` is out of range".to_owned(),
                |f| f.label("expected \"after 1s\" to \"after 7d\""),
            );
            None
        }
        Some(failback) => Some(failback),
        None => {
            let help = match parse_duration(text) {
                Ok(_) => Some(format!("did you mean \"after {text}\"?")),
                Err(_) => did_you_mean(text, ["never", "manual"].into_iter()),
            };
            field.error(
                || format!("`failback` cannot be {}", shown(text)),
                |f| f.label(format!("expected {expected}")).help(help),
            );
            None
        }
    }
}

fn flap_guard(name: &PairName, field: &Field<'_>) -> FlapGuard {
    let default = FlapGuard::default();
    let Some(table) = field.table(&FLAP_GUARD, format!("`flap-guard` of pair \"{name}\"")) else {
        return default;
    };
    let free = table.integer("free", 0..=1_000, default.free);
    let guard = FlapGuard {
        free,
        window: table.duration("window", SECOND..=DAY, default.window),
        hold_down: table.duration("hold-down", Duration::ZERO..=HOUR, default.hold_down),
        freeze_after: table.integer("freeze-after", 1..=1_000, default.freeze_after.max(free)),
    };
    if let Some(field) = table.get("freeze-after").filter(|_| guard.freeze_after < guard.free) {
        field.error(
            || format!("pair \"{name}\" would freeze before its free failovers are used"),
            |f| f.label(format!("expected at least `free`, {}", guard.free)),
        );
    }
    guard
}
