//! Every table and key of the two files, in one place: the reader refuses what is not here, and a test checks that the
//! reference (`docs/configuration.md`) describes all of it.

/// A kind of table and the keys that it may have.
#[derive(Debug, PartialEq, Eq)]
pub struct Section {
    /// How it is written, with names in capitals: `applications.NAME`.
    pub path: &'static str,
    /// Its keys.
    pub keys: &'static [&'static str],
}

macro_rules! sections {
    ($(#[$doc:meta])* $list:ident: $($name:ident = $path:literal [$($key:literal)*];)*) => {
        $(pub(crate) static $name: Section = Section { path: $path, keys: &[$($key),*] };)*
        $(#[$doc])*
        pub static $list: &[&Section] = &[$(&$name),*];
    };
}

sections! {
    /// The tables of the cluster file.
    CLUSTER_FILE:
    ROOT = "" ["cluster" "scs" "hosts" "applications" "pairs" "solutions" "scripts" "alarm-conditions"];
    CLUSTER = "cluster" ["name"];
    SCS = "scs" ["listen" "api-listen" "web" "oidc" "otlp" "keep" "keep-size" "boot-grace" "agent-grace"];
    SCS_WEB = "scs.web" ["listen" "certificate" "key" "address"];
    SCS_OIDC = "scs.oidc" [
        "name" "issuer" "client-id" "client-secret-file" "ca" "scopes" "user-claim" "groups-claim" "roles" "password-login"
    ];
    SCS_OIDC_ROLES = "scs.oidc.roles" ["viewer" "operator" "administrator"];
    HOST = "hosts.NAME" ["address" "peer-address"];
    APPLICATION = "applications.NAME" [
        "host" "command" "directory" "environment" "user" "mode-control" "autostart" "restart" "notify" "start-limit"
        "stop-limit" "suspend-limit" "watchdog" "on-hang" "probe"
    ];
    MODE_CONTROL = "applications.NAME.mode-control" ["command" "time-limit" "signal"];
    MODE_SIGNAL = "applications.NAME.mode-control.signal" ["primary" "backup"];
    RESTART = "applications.NAME.restart" ["auto" "delay" "attempts"];
    PROBE = "applications.NAME.probe" ["kind" "target" "path" "command" "every" "timeout" "failures"];
    PAIR = "pairs.NAME" ["members" "redundancy" "profile" "gate" "failback" "flap-guard" "vips" "sip"];
    PROFILE = "pairs.NAME.profile" ["heartbeat" "lease"];
    FLAP_GUARD = "pairs.NAME.flap-guard" ["free" "window" "hold-down" "freeze-after"];
    VIP = "pairs.NAME.vips" ["address" "interface" "control"];
    SIP = "pairs.NAME.sip" [
        "domains" "listen" "tls" "registrations" "users" "trunks" "routes" "limits" "timers" "replication" "http-port"
        "cdr-directory" "cdr-log"
    ];
    SIP_TLS = "pairs.NAME.sip.tls" ["certificate" "key" "ca"];
    SIP_REGISTRATIONS = "pairs.NAME.sip.registrations" ["min-expires" "default-expires" "max-expires" "contacts"];
    SIP_USER = "pairs.NAME.sip.users.NAME" ["sha256" "md5" "password-file" "calls" "outside"];
    SIP_TRUNK = "pairs.NAME.sip.trunks.NAME" [
        "host" "port" "transport" "from" "username" "password-file" "sources" "probe" "probe-failures" "calls"
    ];
    SIP_ROUTE = "pairs.NAME.sip.routes" ["prefix" "strip" "add" "trunks"];
    SIP_CHOICE = "pairs.NAME.sip.routes.trunks" ["trunk" "priority" "weight"];
    SIP_LIMITS = "pairs.NAME.sip.limits" ["calls" "source-rate" "source-burst" "refusals" "silence"];
    SIP_TIMERS = "pairs.NAME.sip.timers" ["ringing" "session-expires" "min-session"];
    SIP_REPLICATION = "pairs.NAME.sip.replication" ["port" "lag"];
    SOLUTION = "solutions.NAME" ["applications"];
    SCRIPT = "scripts.NAME" ["command" "time-limit"];
    CONDITION = "alarm-conditions.NAME" [
        "category" "detect" "application" "host" "cancel" "clearance-timeout" "reactions" "clearance-reactions"
        "refire" "hidden" "enabled"
    ];
    REACTION = "alarm-conditions.NAME.reactions" ["do" "pair" "script" "host" "application" "solution"];
}

sections! {
    /// The tables of the host file: it has only top-level keys.
    HOST_FILE:
    AGENT = "" [
        "host" "scs" "certificate" "key" "ca" "state-directory" "run-directory" "real-time" "cgroup" "watchdog"
    ];
}

impl Section {
    /// How messages name this kind of table.
    pub(crate) fn title(&self) -> String {
        if self.path.is_empty() { "the top level".to_owned() } else { format!("[{}]", self.path) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_table_and_key_is_listed_once() {
        for file in [CLUSTER_FILE, HOST_FILE] {
            let paths: BTreeSet<_> = file.iter().map(|section| section.path).collect();
            assert_eq!(paths.len(), file.len());
            for section in file {
                let keys: BTreeSet<_> = section.keys.iter().collect();
                assert_eq!(keys.len(), section.keys.len(), "{}", section.path);
            }
        }
    }
}
