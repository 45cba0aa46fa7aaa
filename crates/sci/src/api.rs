//! The API: its endpoints, and its own bodies as client and server share them. All else is of `ha_core` and
//! `scs::store`.
//!
//! | below [`PREFIX`] | asks or gives | answers |
//! |---|---|---|
//! | `GET /status` | | [`Status`] |
//! | `GET /hosts` | | [`Hosts`] |
//! | `GET /pairs/{pair}/plan` | `to` | [`Plan`] |
//! | `GET /pairs/{pair}/consequences` | | [`Consequences`] |
//! | `POST /pairs/{pair}/switchover` | [`SwitchOver`] | [`Accepted`] |
//! | `POST /pairs/{pair}/acknowledge` | [`Because`] | [`Accepted`] |
//! | `POST /pairs/{pair}/freeze`, `unfreeze` | [`Because`] | [`Accepted`] |
//! | `POST /pairs/{pair}/maintenance` | [`Maintain`] | [`Accepted`] |
//! | `POST /pairs/{pair}/maintenance/end` | [`Because`] | [`Accepted`] |
//! | `GET /pairs/{pair}/drills` | | [`Drills`] |
//! | `POST /pairs/{pair}/drills` | [`NewDrill`] | [`Accepted`] |
//! | `DELETE /pairs/{pair}/drills/{number}` | | [`Accepted`] |
//! | `GET /pairs/{pair}/calls` | `app`, `after`, `limit` | [`CallPage`] |
//! | `GET /pairs/{pair}/calls/{call}` | `app`; a key or a Call-ID | [`CallLine`] |
//! | `GET /pairs/{pair}/calls/{call}/trace` | `app`; a key or a Call-ID | [`CallTrace`] |
//! | `POST /applications/{app}/start` | [`Because`] | [`Accepted`] |
//! | `POST /applications/{app}/stop`, `restart` | [`Stop`] | [`Accepted`] |
//! | `GET /solutions` | | [`Solutions`] |
//! | `GET /solutions/{solution}` | | [`SolutionView`] |
//! | `POST /solutions/{solution}/start` | [`Because`] | [`Accepted`] |
//! | `POST /solutions/{solution}/stop` | [`Stop`] | [`Accepted`] |
//! | `GET /alarms` | `history`, `limit` | [`Alarms`] |
//! | `POST /alarms/{number}/clear` | [`Because`] | [`Accepted`] |
//! | `GET /log` | [`LogFilter`](scs::store::LogFilter) | [`LogPage`](scs::store::LogPage) |
//! | `GET /incidents` | [`IncidentFilter`](scs::store::IncidentFilter) | [`Incidents`] |
//! | `GET /incidents/{id}` | | [`Incident`] |
//! | `GET /incidents/{id}/report` | `form`: `text`, `html` | a page, not JSON |
//! | `GET /takeover-times` | `pair` | [`TakeoverTimesOf`] |
//! | `GET /configuration` | | [`InForce`](scs::configuration::InForce) |
//! | `GET /configuration/text` | | [`ConfigurationText`] |
//! | `GET /configuration/revisions` | | [`Revisions`] |
//! | `GET /configuration/revisions/{number}/text` | | [`ConfigurationText`] |
//! | `POST /configuration/plan` | [`PlanConfiguration`] | [`Outlook`] |
//! | `POST /configuration` | [`ApplyConfiguration`] | [`Revision`](scs::configuration::Revision) |
//! | `GET /audit` | `before`, `limit` | [`Audit`] |
//! | `GET /audit/verdict` | | [`AuditVerdict`](scs::store::AuditVerdict) |
//! | `GET /login` | | [`LoginWays`] |
//! | `GET /oidc/login`, `GET /oidc/callback` | what the identity provider says | on to there, and back |
//! | `GET /session` | | [`Session`] |
//! | `POST /session` | [`Login`] | [`Session`], and the cookie |
//! | `DELETE /session` | | [`Done`] |
//! | `POST /password/link` | [`LinkCode`] | [`LinkUse`] |
//! | `POST /password` | [`SetPassword`] | [`Done`] |
//! | `GET /users` | | [`Users`] |
//! | `POST /users` | [`NewUser`] | [`NewLink`] |
//! | `POST /users/{name}/link` | [`Because`] | [`NewLink`] |
//! | `POST /users/{name}/role` | [`NewRole`] | [`Done`] |
//! | `POST /users/{name}/disable`, `enable` | [`Because`] | [`Done`] |
//! | `DELETE /users/{name}` | | [`Done`] |
//! | `GET /tokens` | | [`Tokens`] |
//! | `POST /tokens` | [`NewToken`] | [`MadeToken`] |
//! | `DELETE /tokens/{id}` | | [`Done`] |
//! | `GET /events` | `last-event-id` | server-sent events, see [`live`] |
//! | `GET /version` | | [`Version`] |
//!
//! Whatever is not answered is a [`Problem`]. An accepted order is answered with 202, a refused one with 409; each is
//! in the audit. `POST` takes `application/json` only, which keeps web pages of others from sending one unasked.
//!
//! Times are microseconds since the Unix epoch. New fields may be added within a version; readers ignore what they do
//! not know. Requests with unknown fields are refused, so that a misspelt `gracefull` does not stop a server hard.

mod accounts;
mod configuration;

pub use accounts::{
    CSRF_HEADER, Done, LinkCode, LinkUse, Login, LoginWays, MadeToken, NewLink, NewRole, NewToken, NewUser,
    Session, SetPassword, TokenLine, Tokens, UserLine, Users,
};

pub use configuration::{
    ApplyConfiguration, ConfigurationText, MAX_CONFIGURATION, PlanConfiguration, Revisions,
};

use domain::{AppName, HostFigures, HostName, Micros, PairName};
use ha_core::{Consequence, Drill, HostView, Incident, IncidentKind, Plan, SolutionView, View};
use scs::configuration::Outlook;
use scs::store::{AlarmRecord, AuditRecord};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

/// What every path begins with.
pub const PREFIX: &str = "/api/v1";
/// Where the SCS listens for operators on its own host.
pub const DEFAULT_SOCKET: &str = "/run/takeover/scs.sock";
/// Largest request body, bytes.
pub const MAX_BODY: usize = 64 * 1024;
/// Longest reason given for an order, bytes.
pub const MAX_REASON: usize = 1_000;

/// `GET /status`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Status {
    /// Release of the SCS.
    pub release: String,
    /// Pairs, hosts, applications, active alarms.
    #[serde(flatten)]
    pub view: View,
    /// Newest figures by host.
    pub figures: BTreeMap<HostName, FiguresAt>,
    /// What each host's agent showed when it connected last, by host; not those that have not since the SCS started.
    #[serde(default)]
    pub certificates: BTreeMap<HostName, AgentCertificate>,
}

/// An agent's certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AgentCertificate {
    /// Its subject, as RFC 4514 writes it.
    pub subject: String,
    /// When it begins to count.
    pub from: Micros,
    /// When it counts no more: the agent cannot connect from then on.
    pub until: Micros,
}

/// Figures of a host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct FiguresAt {
    /// When they arrived at the SCS.
    pub received_at: Micros,
    /// The figures.
    #[serde(flatten)]
    pub figures: HostFigures,
}

/// `GET /hosts`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Hosts {
    /// By name.
    pub hosts: Vec<HostLine>,
}

/// A host with its figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct HostLine {
    /// What the SCS knows of it.
    #[serde(flatten)]
    pub host: HostView,
    /// Its newest figures; none: not heard of since the SCS started.
    pub figures: Option<FiguresAt>,
    /// What its agent showed when it connected last; none: not since the SCS started.
    #[serde(default)]
    pub certificate: Option<AgentCertificate>,
}

impl Status {
    /// Its hosts, each with what is known of it.
    #[must_use]
    pub fn host_lines(&self) -> Vec<HostLine> {
        let line = |host: &HostView| HostLine {
            host: host.clone(),
            figures: self.figures.get(&host.name).cloned(),
            certificate: self.certificates.get(&host.name).cloned(),
        };
        self.view.hosts.iter().map(line).collect()
    }
}

/// `GET /incidents`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Incidents {
    /// In the order of their numbers.
    pub incidents: Vec<Incident>,
}

/// `GET /takeover-times`: how long takeovers took, from the newest incidents that are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TakeoverTimesOf {
    /// Incidents that were looked at.
    pub incidents: usize,
    /// When the oldest of them began.
    pub since: Option<Micros>,
    /// By pair and kind.
    pub times: Vec<TakeoverTimes>,
}

/// The completed takeovers of one kind of one pair. Times count from when what set it off may have happened at the earliest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TakeoverTimes {
    /// The pair.
    pub pair: PairName,
    /// Which workflow.
    pub kind: IncidentKind,
    /// Until the new primary had its VIPs.
    pub service: Spread,
    /// Until the network was asked, and only the new holder answered.
    pub confirmed: Spread,
    /// Within what time service is back after a host was cut off, by the pair's present profile, microseconds.
    pub promise_us: Option<u64>,
    /// Whether the longest `service` is within that and the 20 ms that a change of mode may take on top.
    pub kept: Option<bool>,
}

/// How times are spread, microseconds, by nearest rank: of fewer than 100 times p99 is the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Spread {
    /// How many.
    pub count: usize,
    /// Half are not above it.
    pub median_us: u64,
    /// Of ten, nine are not above it.
    pub p90_us: u64,
    /// Of a hundred, 99 are not above it.
    pub p99_us: u64,
    /// The longest.
    pub worst_us: u64,
}

/// `GET /alarms`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Alarms {
    /// In the order of their numbers.
    pub alarms: Vec<AlarmRecord>,
}

/// `GET /audit`: who ordered what, refused attempts too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Audit {
    /// The newest first.
    pub records: Vec<AuditLine>,
}

/// A record of the audit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AuditLine {
    /// Its number; they grow.
    pub number: u64,
    /// The record.
    #[serde(flatten)]
    pub record: AuditRecord,
}

/// `GET /pairs/{pair}/consequences`: what would happen if something failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Consequences {
    /// The pair.
    pub pair: PairName,
    /// As things were then.
    pub at: Micros,
    /// One for each fault that can come, the likeliest first.
    pub consequences: Vec<Consequence>,
}

/// `GET /pairs/{pair}/calls`: what a SIP Server has in hand, in the order of the calls' keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct CallPage {
    /// Who told: the primary, or whoever was asked.
    pub app: Option<AppName>,
    /// The calls.
    pub calls: Vec<CallLine>,
    /// Where the next page begins (`after`); none: that is all.
    pub next: Option<String>,
}

/// `GET /pairs/{pair}/calls/{call}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CallLine {
    /// Its key; the same in the call's record, and at the backup.
    pub call: String,
    /// The Call-ID of the caller's side.
    pub call_id: String,
    /// The user, or the trunk, who calls.
    #[serde(default)]
    pub caller: Option<String>,
    /// Whom.
    pub called: String,
    /// Who answered.
    #[serde(default)]
    pub answered_by: Option<String>,
    /// `routing`, `ringing`, `established`, `over`.
    pub stage: String,
    /// How long ago it began, milliseconds.
    pub age_ms: u64,
}

/// `GET /pairs/{pair}/calls/{call}/trace`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CallTrace {
    /// Who told.
    pub app: AppName,
    /// The call's messages as a ladder, text of several lines.
    pub ladder: String,
}

/// Text as it may stand in a path or a query (RFC 3986, section 2.1).
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// `GET /version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Version {
    /// Release of the SCS.
    pub release: String,
    /// Version of the API.
    pub api: u32,
}

/// `POST /pairs/{pair}/switchover`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SwitchOver {
    /// The new primary; none: the member that is not primary.
    pub to: Option<AppName>,
    /// Why, for the record.
    pub reason: String,
    /// Hash of the plan that was looked at: refused where the state has moved on since. None: no plan was looked at.
    pub plan: Option<u64>,
    /// Also where a check fails that may be forced: the backup of a hot pair lacks what is lost then.
    pub force: bool,
}

/// `POST /pairs/{pair}/maintenance`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Maintain {
    /// How long it lasts from now, seconds.
    pub lasts_s: u64,
    /// Why, for the record.
    #[serde(default)]
    pub reason: String,
}

/// `POST /pairs/{pair}/drills`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDrill {
    /// When it is run first: in the future, 366 days ahead at the most.
    pub at: Micros,
    /// How many days of 24 hours later it is run again, 1 to 366; none: once.
    #[serde(default)]
    #[schemars(range(min = 1, max = 366))]
    pub every_days: Option<u16>,
    /// Whether service is brought back after the switchover was verified.
    #[serde(default)]
    pub back: bool,
    /// Why, for the record.
    #[serde(default)]
    pub reason: String,
}

/// `GET /pairs/{pair}/drills`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Drills {
    /// The pair.
    pub pair: PairName,
    /// By number; those that are over included.
    pub drills: Vec<Drill>,
}

/// `GET /solutions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Solutions {
    /// When this was so.
    pub at: Micros,
    /// By name.
    pub solutions: Vec<SolutionView>,
}

/// `POST /applications/{app}/stop` and `restart`, and `/solutions/{solution}/stop`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Stop {
    /// Let it finish what is in hand first.
    pub graceful: bool,
    /// Why, for the record.
    pub reason: String,
}

/// Every other `POST`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Because {
    /// Why, for the record.
    pub reason: String,
}

/// Answer to a `POST` that was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Accepted {
    /// The incident that a switchover opened: it tells how the switchover goes on.
    pub incident: Option<u64>,
    /// What is done, in words.
    pub text: String,
}

/// What is answered instead of a result (RFC 9457, `application/problem+json`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Problem {
    /// HTTP status code.
    pub status: u16,
    /// What kind of problem, in a few words.
    pub title: String,
    /// What is wrong this time, and what to do.
    pub detail: String,
    /// The plan with its failed checks, where a switchover was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Box<Plan>>,
    /// What is wrong with it, where a configuration was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outlook: Option<Box<Outlook>>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

/// Names of the events of `GET /events` (`text/event-stream`). Each has an `id`; with the last one seen as `Last-Event-ID`
/// (header, or `last-event-id` in the query) a stream goes on behind it.
pub mod live {
    /// A log event; the data is a `LogEvent`.
    pub const LOG: &str = "log";
    /// An incident began, went on or ended; the data is an `Incident`.
    pub const INCIDENT: &str = "incident";
    /// `GET /status` has something new to say; no data.
    pub const VIEW: &str = "view";
    /// Events were lost: look anew. The data is how many; 0: not known, because the reader was away for too long. Where the
    /// reader was too slow, the stream ends.
    pub const LOST: &str = "lost";
}
