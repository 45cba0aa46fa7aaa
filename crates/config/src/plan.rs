//! What a change of the cluster means: each difference in words, with its consequence. Pure: it compares two clusters
//! and neither asks nor tells anybody.

use domain::{
    AlarmCondition, Application, Cluster, Failback, FlapGuard, GatePolicy, Host, HostName, Pair, PairName,
    Profile, Redundancy, Script, ScsSettings, SipSettings, Solution, Vip, format_duration,
};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

const AT_ONCE: &str = "takes effect at once";
const NEXT_START: &str = "takes effect at its next start";
const SCS_RESTART: &str = "takes effect when the SCS is restarted; callers notice nothing of that";
const APPLICATION_REMOVED: &str = "its agent stops it";
const APPLICATION_MOVED: &str = "it is stopped on the old host and is new on the other";
const PAIR_REMOVED: &str = "its VIPs are disabled: callers of these addresses are cut off";
const MEMBERS: &str = "the primary is elected anew among them; service may move";
const GATE_CLOSES: &str = "takes effect at once; a primary on a host without a gate loses the VIPs";
const SOLUTION_REMOVED: &str = "its applications go on as they are; an order to it that is under way ends";
const VIP_REMOVED: &str = "it is disabled: callers of this address are cut off";
const VIP_ANEW: &str = "it is disabled and enabled anew: a short interruption for its callers";
const VIP_MOVES: &str =
    "withheld until the old hosts' agents have heard of it and their lease is over; see `takeover status`";
/// What callers may notice.
const INTERRUPTIONS: [&str; 8] = [
    APPLICATION_REMOVED,
    APPLICATION_MOVED,
    PAIR_REMOVED,
    MEMBERS,
    GATE_CLOSES,
    VIP_REMOVED,
    VIP_ANEW,
    VIP_MOVES,
];

/// One difference between two clusters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Change {
    /// What is different: `application sip1`.
    pub subject: String,
    /// How: `start-limit changed from 90s to 2m`.
    pub change: String,
    /// What follows from it.
    pub consequence: Cow<'static, str>,
    /// Whether callers may notice it.
    pub interrupts: bool,
}

impl Change {
    /// Whether it waits until the SCS is started anew.
    #[must_use]
    pub fn waits_for_restart(&self) -> bool {
        self.consequence == SCS_RESTART
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.subject, self.change, self.consequence)
    }
}

/// Everything that is different in `new`, in the order of the file's sections. Empty where nothing is.
#[must_use]
pub fn plan(old: &Cluster, new: &Cluster) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut cluster = Comparison { subject: "cluster".to_owned(), changes: &mut changes };
    cluster.values("name", &old.name, &new.name, AT_ONCE);
    let mut scs = Comparison { subject: "SCS".to_owned(), changes: &mut changes };
    compare_scs(&mut scs, &old.scs, &new.scs);
    let hosts = Lifecycle {
        kind: "host",
        added: "its agent is let in once it connects",
        removed: "its agent is no longer let in; what it runs, it goes on running until it is stopped there",
    };
    hosts.compare(&mut changes, &old.hosts, &new.hosts, compare_host);
    let applications = Lifecycle {
        kind: "application",
        added: "its agent learns of it at once, and starts it if it starts by itself",
        removed: APPLICATION_REMOVED,
    };
    applications.compare(&mut changes, &old.applications, &new.applications, compare_application);
    let pairs = Lifecycle {
        kind: "pair",
        added: "a primary is elected and its host gets the VIPs",
        removed: PAIR_REMOVED,
    };
    pairs.compare(&mut changes, &old.pairs, &new.pairs, compare_pair);
    compare_places(&mut changes, old, new);
    let solutions = Lifecycle { kind: "solution", added: AT_ONCE, removed: SOLUTION_REMOVED };
    solutions.compare(&mut changes, &old.solutions, &new.solutions, |c, old, new| {
        let Solution { applications } = old;
        c.contents("applications", applications, &new.applications, AT_ONCE);
    });
    let scripts = Lifecycle { kind: "script", added: AT_ONCE, removed: AT_ONCE };
    scripts.compare(&mut changes, &old.scripts, &new.scripts, compare_script);
    let conditions = Lifecycle {
        kind: "alarm condition",
        added: "raised by the next such event",
        removed: "its active alarms end, their clearance reactions are not run",
    };
    // The wiring follows its pair, which has been told of already.
    let visible = |all: &BTreeMap<String, AlarmCondition>| -> BTreeMap<String, AlarmCondition> {
        all.iter().filter(|(name, _)| !name.contains(' ')).map(|(n, c)| (n.clone(), c.clone())).collect()
    };
    conditions.compare(
        &mut changes,
        &visible(&old.alarm_conditions),
        &visible(&new.alarm_conditions),
        compare_condition,
    );
    changes
}

/// How things of one kind come and go.
struct Lifecycle {
    kind: &'static str,
    added: &'static str,
    removed: &'static str,
}

impl Lifecycle {
    fn compare<K: Ord + fmt::Display, V>(
        &self,
        changes: &mut Vec<Change>,
        old: &BTreeMap<K, V>,
        new: &BTreeMap<K, V>,
        compare: impl Fn(&mut Comparison<'_>, &V, &V),
    ) {
        let names: BTreeSet<&K> = old.keys().chain(new.keys()).collect();
        for name in names {
            let mut comparison = Comparison { subject: format!("{} {name}", self.kind), changes };
            match (old.get(name), new.get(name)) {
                (Some(old), Some(new)) => compare(&mut comparison, old, new),
                (None, Some(_)) => comparison.note("added".to_owned(), self.added),
                (Some(_), None) => comparison.note("removed".to_owned(), self.removed),
                (None, None) => unreachable!("each name comes from one of the two"),
            }
        }
    }
}

/// Two states of one thing, being compared.
struct Comparison<'a> {
    subject: String,
    changes: &'a mut Vec<Change>,
}

impl Comparison<'_> {
    fn note(&mut self, change: String, consequence: &'static str) {
        let interrupts = INTERRUPTIONS.contains(&consequence);
        let consequence = Cow::Borrowed(consequence);
        self.changes.push(Change { subject: self.subject.clone(), change, consequence, interrupts });
    }

    /// Notes a change of a setting that is short enough to be shown.
    fn values<T: PartialEq + fmt::Display>(
        &mut self,
        key: &str,
        old: &T,
        new: &T,
        consequence: &'static str,
    ) {
        if old != new {
            self.note(format!("{key} changed from {old} to {new}"), consequence);
        }
    }

    /// Notes a change of a duration.
    fn durations(
        &mut self,
        key: &str,
        old: std::time::Duration,
        new: std::time::Duration,
        consequence: &'static str,
    ) {
        self.values(key, &format_duration(old), &format_duration(new), consequence);
    }

    /// Notes a change of a setting that is too long to be shown.
    fn contents<T: PartialEq>(&mut self, key: &str, old: &T, new: &T, consequence: &'static str) {
        if old != new {
            self.note(format!("{key} changed"), consequence);
        }
    }
}

// Each function below takes its arguments apart field by field, so that a new field does not compile until its
// consequence is thought of.

fn compare_scs(c: &mut Comparison<'_>, old: &ScsSettings, new: &ScsSettings) {
    let ScsSettings { listen, api_listen, web, oidc, otlp, keep, keep_bytes, boot_grace, agent_grace } = old;
    c.contents("listen", listen, &new.listen, SCS_RESTART);
    c.contents("api-listen", api_listen, &new.api_listen, SCS_RESTART);
    let deleted = "takes effect at the next clean-up; records beyond it are deleted for good";
    c.contents("web", web, &new.web, SCS_RESTART);
    c.contents("oidc", oidc, &new.oidc, SCS_RESTART);
    c.contents("otlp", otlp, &new.otlp, SCS_RESTART);
    c.durations("keep", *keep, new.keep, deleted);
    c.values("keep-size", &crate::format_size(*keep_bytes), &crate::format_size(new.keep_bytes), deleted);
    c.durations("boot-grace", *boot_grace, new.boot_grace, "takes effect at the next start of the SCS");
    c.durations("agent-grace", *agent_grace, new.agent_grace, AT_ONCE);
}

fn compare_host(c: &mut Comparison<'_>, old: &Host, new: &Host) {
    let Host { address, peer_address: _ } = old;
    c.values(
        "address",
        address,
        &new.address,
        "the SCS probes the new address at once; agents dial the SCS as before",
    );
    c.values(
        "peer-address",
        &old.peers_reach_it_at(),
        &new.peers_reach_it_at(),
        "its agent and the others connect there at once; until then they vote through the SCS alone",
    );
}

fn compare_application(c: &mut Comparison<'_>, old: &Application, new: &Application) {
    let Application {
        host,
        command,
        directory,
        environment,
        user,
        mode_control,
        autostart,
        restart,
        notify,
        start_limit,
        stop_limit,
        suspend_limit,
        watchdog,
        on_hang,
        probe,
    } = old;
    c.values("host", host, &new.host, APPLICATION_MOVED);
    c.contents("command", command, &new.command, NEXT_START);
    c.contents("directory", directory, &new.directory, NEXT_START);
    c.contents("environment", environment, &new.environment, NEXT_START);
    c.contents("user", user, &new.user, NEXT_START);
    c.contents("mode-control", mode_control, &new.mode_control, NEXT_START);
    c.values("autostart", autostart, &new.autostart, "takes effect when its agent next starts");
    c.contents("restart", restart, &new.restart, AT_ONCE);
    c.values("notify", notify, &new.notify, NEXT_START);
    c.durations("start-limit", *start_limit, new.start_limit, NEXT_START);
    c.durations("stop-limit", *stop_limit, new.stop_limit, AT_ONCE);
    c.durations("suspend-limit", *suspend_limit, new.suspend_limit, AT_ONCE);
    c.contents("watchdog", watchdog, &new.watchdog, NEXT_START);
    c.contents("on-hang", on_hang, &new.on_hang, AT_ONCE);
    c.contents("probe", probe, &new.probe, AT_ONCE);
}

fn compare_pair(c: &mut Comparison<'_>, old: &Pair, new: &Pair) {
    let Pair { members, redundancy, profile, gate, failback, flap_guard, vips, sip } = old;
    let show = |members: &[domain::AppName; 2]| format!("{}, {}", members[0], members[1]);
    c.values("members", &show(members), &show(&new.members), MEMBERS);
    c.values::<Redundancy>("redundancy", redundancy, &new.redundancy, AT_ONCE);
    let heartbeats = "the agents of its hosts change their heartbeats and leases at once";
    c.values::<Profile>("profile", profile, &new.profile, heartbeats);
    let consequence = match new.gate {
        GatePolicy::Preferred => AT_ONCE,
        GatePolicy::Required => GATE_CLOSES,
    };
    c.values::<GatePolicy>("gate", gate, &new.gate, consequence);
    c.values::<Failback>("failback", failback, &new.failback, AT_ONCE);
    c.contents::<FlapGuard>("flap-guard", flap_guard, &new.flap_guard, AT_ONCE);
    compare_vips(c, vips, &new.vips);
    match (sip, &new.sip) {
        (Some(old), Some(new)) => compare_sip(c, old, new),
        (None, None) => {}
        (Some(_), None) => c.note("sip removed".to_owned(), NEXT_START),
        (None, Some(_)) => c.note("sip added".to_owned(), NEXT_START),
    }
}

/// Never shows a value: some are secret.
fn compare_sip(c: &mut Comparison<'_>, old: &SipSettings, new: &SipSettings) {
    let SipSettings {
        domains,
        listen,
        tls,
        registrations,
        users,
        trunks,
        routes,
        limits,
        timers,
        replication,
        http_port,
        cdr_directory,
        cdr_log,
    } = old;
    let new_calls = "the SIP Servers take it at once; calls go on as they are";
    let restart = "running SIP Servers keep all their settings until they are restarted, the backup first";
    c.contents("sip.domains", domains, &new.domains, new_calls);
    c.contents("sip.listen", listen, &new.listen, restart);
    c.contents("sip.tls", tls, &new.tls, new_calls);
    c.contents("sip.registrations", registrations, &new.registrations, new_calls);
    let removed = users.keys().filter(|name| !new.users.contains_key(*name)).count();
    let added = new.users.keys().filter(|name| !users.contains_key(*name)).count();
    let changed =
        users.iter().filter(|(name, user)| new.users.get(*name).is_some_and(|new| new != *user)).count();
    if removed + added + changed > 0 {
        c.note(format!("sip.users: {added} added, {removed} removed, {changed} changed"), new_calls);
    }
    c.contents("sip.trunks", trunks, &new.trunks, new_calls);
    c.contents("sip.routes", routes, &new.routes, new_calls);
    c.contents("sip.limits", limits, &new.limits, new_calls);
    c.contents("sip.timers", timers, &new.timers, new_calls);
    c.contents("sip.replication", replication, &new.replication, new_calls);
    c.contents("sip.http-port", http_port, &new.http_port, new_calls);
    c.contents("sip.cdr-directory", cdr_directory, &new.cdr_directory, new_calls);
    c.contents("sip.cdr-log", cdr_log, &new.cdr_log, new_calls);
}

fn compare_vips(c: &mut Comparison<'_>, old: &[Vip], new: &[Vip]) {
    let by_address = |vips: &[Vip]| -> BTreeMap<IpAddr, Vip> {
        vips.iter().map(|vip| (vip.address.address, vip.clone())).collect()
    };
    let (old, new) = (by_address(old), by_address(new));
    for (address, vip) in &old {
        let Vip { address: with_prefix, interfaces, control } = vip;
        let Some(new) = new.get(address) else {
            c.note(format!("VIP {address} removed"), VIP_REMOVED);
            continue;
        };
        let prefix = |prefix: u8| format!("/{prefix}");
        c.values(
            &format!("prefix length of VIP {address}"),
            &prefix(with_prefix.prefix),
            &prefix(new.address.prefix),
            VIP_ANEW,
        );
        c.contents(&format!("interface of VIP {address}"), interfaces, &new.interfaces, VIP_ANEW);
        let next = "takes effect when it is next enabled or disabled";
        c.contents(&format!("control of VIP {address}"), control, &new.control, next);
    }
    for address in new.keys().filter(|address| !old.contains_key(address)) {
        c.note(format!("VIP {address} added"), "it is enabled on the primary's host at once");
    }
}

/// VIPs that other hosts have, or the same ones in another pair: those that had them before have to hear of it first.
fn compare_places(changes: &mut Vec<Change>, old: &Cluster, new: &Cluster) {
    let places = |cluster: &Cluster| -> BTreeMap<IpAddr, (PairName, BTreeSet<HostName>)> {
        let mut places = BTreeMap::new();
        for (name, pair) in &cluster.pairs {
            let hosts: BTreeSet<_> =
                pair.members.iter().filter_map(|app| cluster.host_of(app)).cloned().collect();
            places.extend(pair.vips.iter().map(|vip| (vip.address.address, (name.clone(), hosts.clone()))));
        }
        places
    };
    let show = |hosts: &BTreeSet<HostName>| hosts.iter().map(HostName::as_str).collect::<Vec<_>>().join(", ");
    let new = places(new);
    for (vip, before) in places(old) {
        let Some((pair, hosts)) = new.get(&vip).filter(|after| **after != before) else { continue };
        let (old_pair, old_hosts) = before;
        let from = format!("from pair {old_pair} on {}", show(&old_hosts));
        let mut place = Comparison { subject: format!("VIP {vip}"), changes };
        place.note(format!("moves {from} to pair {pair} on {}", show(hosts)), VIP_MOVES);
    }
}

fn compare_script(c: &mut Comparison<'_>, old: &Script, new: &Script) {
    let Script { command, time_limit } = old;
    let next = "takes effect at its next launch";
    c.contents("command", command, &new.command, next);
    c.durations("time-limit", *time_limit, new.time_limit, next);
}

fn compare_condition(c: &mut Comparison<'_>, old: &AlarmCondition, new: &AlarmCondition) {
    let AlarmCondition {
        category,
        detect,
        cancel,
        clearance_timeout,
        reactions,
        clearance_reactions,
        refire,
        hidden,
        enabled,
    } = old;
    let next = "takes effect with the next such event";
    c.values("category", category, &new.category, "takes effect for alarms raised from now on");
    c.contents("detect", detect, &new.detect, next);
    c.contents("cancel", cancel, &new.cancel, next);
    let raised = "takes effect for alarms raised from now on";
    c.durations("clearance-timeout", *clearance_timeout, new.clearance_timeout, raised);
    c.contents("reactions", reactions, &new.reactions, next);
    c.contents("clearance-reactions", clearance_reactions, &new.clearance_reactions, next);
    c.values("refire", refire, &new.refire, next);
    c.values("hidden", hidden, &new.hidden, raised);
    let switched = if new.enabled { "raised by the next such event" } else { "its active alarms end" };
    c.values("enabled", enabled, &new.enabled, switched);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse_cluster;

    const FILE: &str = r#"
        [hosts.host1]
        address = "192.0.2.11"
        [hosts.host2]
        address = "192.0.2.12"
        [applications.sip1]
        host = "host1"
        command = ["/usr/bin/sip"]
        [applications.sip2]
        host = "host2"
        command = ["/usr/bin/sip"]
        [pairs.sip]
        members = ["sip1", "sip2"]
        vips = [{ address = "192.0.2.100/24", interface = "eth0" }]
    "#;

    fn planned(edits: &[(&str, &str)]) -> Vec<String> {
        let mut text = FILE.to_owned();
        for (from, to) in edits {
            assert!(text.contains(from), "{from} must be in the file");
            text = text.replacen(from, to, 1);
        }
        let old = parse_cluster("old", FILE).unwrap().0;
        let new = parse_cluster("new", &text).unwrap().0;
        plan(&old, &new).iter().map(Change::to_string).collect()
    }

    #[test]
    fn the_same_file_changes_nothing() {
        assert_eq!(planned(&[]), [""; 0]);
    }

    #[test]
    fn a_changed_command_waits_for_the_next_start() {
        assert_eq!(
            planned(&[("/usr/bin/sip", "/opt/sip")]),
            ["application sip1: command changed: takes effect at its next start"]
        );
    }

    #[test]
    fn what_callers_notice_is_marked() {
        let marked = |edit: (&str, &str)| {
            let old = parse_cluster("old", FILE).unwrap().0;
            let new = parse_cluster("new", &FILE.replacen(edit.0, edit.1, 1)).unwrap().0;
            plan(&old, &new).iter().map(|change| change.interrupts).collect::<Vec<_>>()
        };
        assert_eq!(marked(("192.0.2.100/24", "192.0.2.100/25")), [true]);
        assert_eq!(marked(("/usr/bin/sip", "/opt/sip")), [false]);
    }

    #[test]
    fn a_removed_vip_cuts_off_its_callers() {
        assert_eq!(
            planned(&[("192.0.2.100/24", "192.0.2.101/24")]),
            [
                "pair sip: VIP 192.0.2.100 removed: it is disabled: callers of this address are cut off",
                "pair sip: VIP 192.0.2.101 added: it is enabled on the primary's host at once",
            ]
        );
    }

    #[test]
    fn short_values_are_shown_and_the_wiring_is_not() {
        let more =
            "[scripts.x]\ncommand = [\"/x\"]\n[pairs.sip]\nprofile = \"wan\"\nfailback = \"after 10m\"";
        assert_eq!(
            planned(&[("[pairs.sip]", more), ("\"sip1\", \"sip2\"", "\"sip2\", \"sip1\"")]),
            [
                "pair sip: members changed from sip1, sip2 to sip2, sip1: \
                 the primary is elected anew among them; service may move",
                "pair sip: profile changed from normal to wan: \
                 the agents of its hosts change their heartbeats and leases at once",
                "pair sip: failback changed from never to after 10m: takes effect at once",
                "script x: added: takes effect at once",
            ]
        );
    }

    #[test]
    fn changed_sip_settings_are_told_without_their_values() {
        let user =
            |md5: &str| format!("[pairs.sip.sip.users.u]\nmd5 = \"{}\"\n[hosts.host1]", md5.repeat(32));
        let sip = "[pairs.sip]\nsip.domains = [\"example.com\"]";
        let one = FILE.replacen("[hosts.host1]", &user("a"), 1).replacen("[pairs.sip]", sip, 1);
        let other = one.replacen(&user("a"), &user("b"), 1);
        let [one, other] = [one, other].map(|text| parse_cluster("f", &text).unwrap().0);
        let changes: Vec<String> = plan(&one, &other).iter().map(Change::to_string).collect();
        assert_eq!(
            changes,
            ["pair sip: sip.users: 0 added, 0 removed, 1 changed: \
              the SIP Servers take it at once; calls go on as they are"]
        );
    }

    #[test]
    fn a_vip_that_moves_is_withheld_first() {
        let renamed = planned(&[("[pairs.sip]", "[pairs.phones]")]);
        assert_eq!(
            renamed.last().map(String::as_str),
            Some(
                "VIP 192.0.2.100: moves from pair sip on host1, host2 to pair phones on host1, host2: withheld until \
                 the old hosts' agents have heard of it and their lease is over; see `takeover status`"
            )
        );
        let swapped = planned(&[("\"sip1\", \"sip2\"", "\"sip2\", \"sip1\"")]);
        assert!(!swapped.iter().any(|line| line.starts_with("VIP")), "{swapped:?}");
    }

    #[test]
    fn a_shipped_condition_switched_off_is_told() {
        let off = "[alarm-conditions.flapping]\nenabled = false\n[hosts.host1]";
        assert_eq!(
            planned(&[("[hosts.host1]", off)]),
            ["alarm condition flapping: enabled changed from true to false: its active alarms end"]
        );
    }
}
