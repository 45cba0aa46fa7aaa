//! Log events: ids, levels, and the one table of all events that the product logs.

use crate::{AppName, HostName, Micros};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Id of a log event, `NN-NNNNN`. The four-digit spelling of the last part (`00-5150`) is the same id.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
pub struct EventId {
    /// First part, 0 to 99.
    pub area: u8,
    /// Second part, 0 to 99,999.
    pub number: u32,
}

impl EventId {
    /// An id from its two parts, for the constants in [`events`].
    #[must_use]
    pub const fn new(area: u8, number: u32) -> Self {
        assert!(area < 100 && number < 100_000, "an event id is NN-NNNNN");
        Self { area, number }
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}-{:05}", self.area, self.number)
    }
}

/// The text is not an event id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an event id such as 00-05150 or 00-5150")]
pub struct ParseEventIdError(String);

impl FromStr for EventId {
    type Err = ParseEventIdError;
    fn from_str(s: &str) -> Result<Self, ParseEventIdError> {
        let digits = |t: &str, len: &[usize]| {
            (len.contains(&t.len()) && t.bytes().all(|b| b.is_ascii_digit()))
                .then(|| t.parse::<u32>().ok())
                .flatten()
        };
        s.split_once('-')
            .and_then(|(a, n)| {
                Some(Self { area: u8::try_from(digits(a, &[2])?).ok()?, number: digits(n, &[4, 5])? })
            })
            .ok_or_else(|| ParseEventIdError(s.to_owned()))
    }
}

impl TryFrom<String> for EventId {
    type Error = ParseEventIdError;
    fn try_from(s: String) -> Result<Self, ParseEventIdError> {
        s.parse()
    }
}

impl From<EventId> for String {
    fn from(id: EventId) -> String {
        id.to_string()
    }
}

/// Level of a log event, most severe first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Raises an alarm by itself.
    Alarm,
    /// What an operator wants to read.
    Standard,
    /// Exchanges between parts.
    Interaction,
    /// Details for support.
    Trace,
    /// Details for developers; never kept centrally.
    Debug,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Level::Alarm => "alarm",
            Level::Standard => "standard",
            Level::Interaction => "interaction",
            Level::Trace => "trace",
            Level::Debug => "debug",
        })
    }
}

/// A row of the registry.
#[derive(Debug, Clone, Copy)]
pub struct EventKind {
    /// The id.
    pub id: EventId,
    /// The level it is logged at.
    pub level: Level,
    /// Its meaning, the beginning of the text of every such event.
    pub text: &'static str,
}

/// One log event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LogEvent {
    /// When it happened (not when it was heard of).
    pub at: Micros,
    /// Which event.
    pub id: EventId,
    /// How severe.
    pub level: Level,
    /// The host it is about, if any.
    pub host: Option<HostName>,
    /// The application it is about, if any.
    pub app: Option<AppName>,
    /// One sentence.
    pub text: String,
    /// Further facts by name: pair, epoch, cause, ...
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
}

impl LogEvent {
    /// An event of `id` with the registry's level and text.
    #[must_use]
    pub fn new(id: EventId, at: Micros) -> Self {
        let (level, text) = match EventKind::find(id) {
            Some(kind) => (kind.level, kind.text),
            None => (Level::Standard, "event from outside"),
        };
        Self { at, id, level, host: None, app: None, text: text.to_owned(), attributes: BTreeMap::new() }
    }

    /// The same event, about `host`.
    #[must_use]
    pub fn on(mut self, host: &HostName) -> Self {
        self.host = Some(host.clone());
        self
    }

    /// The same event, about `app`.
    #[must_use]
    pub fn of(mut self, app: &AppName) -> Self {
        self.app = Some(app.clone());
        self
    }

    /// The same event with `detail` behind the registry's text.
    #[must_use]
    pub fn because(mut self, detail: impl fmt::Display) -> Self {
        self.text = format!("{}: {detail}", self.text);
        self
    }

    /// The same event with one more fact.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.attributes.insert(name.to_owned(), value.to_string());
        self
    }
}

impl EventKind {
    /// The row of `id`, if the registry has one.
    #[must_use]
    pub fn find(id: EventId) -> Option<&'static EventKind> {
        REGISTRY.iter().find(|kind| kind.id == id)
    }
}

macro_rules! registry {
    ($($(#[$doc:meta])* $name:ident = $area:literal - $number:literal, $level:ident, $text:literal;)*) => {
        /// The ids that the code uses, by name.
        pub mod events {
            use super::EventId;
            $($(#[$doc])* #[doc = $text] pub const $name: EventId = EventId::new($area, $number);)*
        }
        /// All log events that the product logs. Numbers known from the field are kept; our own live in `70-`.
        pub const REGISTRY: &[EventKind] = &[
            $(EventKind { id: events::$name, level: Level::$level, text: $text },)*
        ];
    };
}

registry! {
    CONNECTED = 0 - 4503, Standard, "connected to a server";
    CONNECTION_LOST = 0 - 4504, Standard, "connection to a server lost";
    APP_STARTED = 0 - 5060, Standard, "application started";
    APP_INITIALIZED = 0 - 5061, Standard, "initialization completed";
    APP_TERMINATED = 0 - 5064, Standard, "application terminated by an internal condition";
    APP_START_DETECTED = 0 - 5090, Standard, "start of an application detected";
    APP_STOP_DETECTED = 0 - 5091, Standard, "termination of an application detected";
    APP_ABLE = 0 - 5093, Standard, "application able to provide service";
    APP_NOT_ABLE = 0 - 5094, Standard, "application not able to provide service";
    NOW_PRIMARY = 0 - 5150, Standard, "application changed to primary mode";
    NOW_BACKUP = 0 - 5151, Standard, "application changed to backup mode";
    HOST_INACCESSIBLE = 0 - 8000, Standard, "host inaccessible, no LCA listening";
    HOST_NORMAL = 0 - 8001, Standard, "host operates in normal condition";
    HOST_UNAVAILABLE = 0 - 8002, Standard, "host unavailable, link to its LCA lost";
    HOST_UNREACHABLE = 0 - 8003, Standard, "host unreachable, no route";
    SOLUTION_BACK = 0 - 10370, Standard, "solution back in status started";
    SOLUTION_PENDING = 0 - 10385, Standard, "solution changed unplanned from started to pending";
    FLAPPING = 43 - 10327, Standard, "application flips between modes too often";
    STABLE_AGAIN = 43 - 10328, Standard, "application is stable again";
    SCS_ALONE = 43 - 10331, Standard, "SCS runs without a backup SCS";
    NO_PRIMARY = 43 - 20621, Standard, "pair has no primary";
    TWO_PRIMARIES = 43 - 20622, Standard, "pair has two primaries";
    PAIR_NORMAL = 43 - 20623, Standard, "pair is back to normal";
    VIP_ENABLED = 70 - 101, Standard, "VIP enabled";
    VIP_DISABLED = 70 - 102, Standard, "VIP disabled";
    VIP_PUT_BACK = 70 - 103, Standard, "VIP was removed by another tool and has been put back";
    VIP_MISPLACED = 70 - 104, Standard, "VIP out of place, being put right";
    VIP_NO_HOLDER = 70 - 105, Standard, "VIP has no holder";
    VIP_TWO_HOSTS = 70 - 106, Standard, "VIP seen on two hosts";
    VIP_NORMAL = 70 - 107, Standard, "VIP is where it belongs";
    VIP_DUPLICATE = 70 - 108, Standard, "another machine answers for the VIP";
    VIP_NOT_CONFIRMED = 70 - 109, Standard, "VIP's holder is not confirmed from outside";
    VIP_CONFIRMED = 70 - 110, Standard, "VIP's holder is confirmed from outside";
    VIP_WITHHELD = 70 - 111, Standard, "VIP withheld, hosts that had it before may still answer for it";
    VIP_RETURNED = 70 - 112, Standard, "VIP no longer withheld";
    SCRIPT_SUCCEEDED = 70 - 201, Interaction, "script succeeded";
    SCRIPT_FAILED = 70 - 202, Standard, "script failed";
    SCRIPT_SKIPPED = 70 - 203, Standard, "script not launched, its host is not reachable";
    BACKUP_NOT_READY = 70 - 301, Standard, "backup not ready to take over";
    BACKUP_READY = 70 - 302, Standard, "backup ready to take over";
    SWITCHOVER_ORDERED = 70 - 303, Standard, "switchover ordered";
    SWITCHOVER_REFUSED = 70 - 304, Standard, "switchover refused";
    FAILOVER_HELD = 70 - 305, Standard, "failover held back";
    PAIR_FROZEN = 70 - 306, Standard, "pair frozen until an operator acknowledges";
    PAIR_THAWED = 70 - 307, Standard, "pair acknowledged, automatic failover is on again";
    INSTRUCTION_UNANSWERED = 70 - 308, Standard, "instruction unanswered, sent again";
    INSTRUCTION_REFUSED = 70 - 309, Standard, "instruction refused";
    STOP_ORDERED = 70 - 310, Standard, "stop ordered";
    START_ORDERED = 70 - 311, Standard, "start ordered";
    RESTART_ORDERED = 70 - 312, Standard, "restart ordered";
    START_LIMIT_OVERRUN = 70 - 313, Standard, "application not ready within its start-up limit";
    STOP_LIMIT_OVERRUN = 70 - 314, Standard, "application did not end within its shutdown limit";
    SUSPEND_IGNORED = 70 - 315, Standard, "application did not begin its graceful stop in time and is stopped hard";
    RESTARTS_GIVEN_UP = 70 - 316, Standard, "application fails again and again, restarts given up";
    DRILL_SCHEDULED = 70 - 317, Standard, "drill scheduled";
    DRILL_REMOVED = 70 - 318, Standard, "drill removed";
    DRILL_SKIPPED = 70 - 319, Standard, "drill skipped";
    DRILL_PASSED = 70 - 320, Standard, "drill passed";
    DRILL_FAILED = 70 - 321, Standard, "drill failed";
    FROZEN_BY_HAND = 70 - 322, Standard, "pair frozen by hand, nothing fails over";
    UNFROZEN_BY_HAND = 70 - 323, Standard, "pair no longer frozen by hand";
    SOLUTION_START_ORDERED = 70 - 324, Standard, "start of a solution ordered";
    SOLUTION_STOP_ORDERED = 70 - 325, Standard, "stop of a solution ordered";
    SOLUTION_ORDER_DONE = 70 - 326, Standard, "solution is as was ordered";
    SOLUTION_ORDER_FAILED = 70 - 327, Standard, "solution could not be brought to what was ordered";
    CARRIER_LOST = 70 - 401, Standard, "interface of a VIP lost its carrier";
    CARRIER_BACK = 70 - 402, Standard, "interface of a VIP has its carrier back";
    AGENT_STALLED = 70 - 403, Standard, "agent was stalled";
    AGENT_LIMITED = 70 - 404, Standard, "agent runs without real-time rights";
    RELEASE_DRIFT = 70 - 405, Standard, "agent runs another release than the SCS";
    LEASE_STRAINED = 70 - 406, Standard, "host stalls for longer than a lease of its pairs allows";
    LEASE_STEADY = 70 - 407, Standard, "host stalls no longer than the leases of its pairs allow";
    CLOCK_STRAYS = 70 - 408, Standard, "host's clock runs faster or slower than leases allow for";
    CLOCK_KEEPS = 70 - 409, Standard, "host's clock keeps time as leases need it";
    PEER_REFUSED = 70 - 501, Standard, "peer refused";
    SCS_STARTED = 70 - 601, Standard, "SCS started";
    SCS_STOPPED = 70 - 602, Standard, "SCS stopped";
    STORE_FAILED = 70 - 603, Standard, "store cannot write, records are kept in memory meanwhile";
    STORE_BACK = 70 - 604, Standard, "store writes again";
    CONFIG_APPLIED = 70 - 605, Standard, "configuration applied";
    MAINTENANCE_BEGAN = 70 - 606, Standard, "pair is in maintenance";
    MAINTENANCE_ENDED = 70 - 607, Standard, "maintenance of the pair ended";
    LEASE_LOST = 70 - 801, Standard, "lease on the VIPs ran out without being renewed";
    LEASE_HELD = 70 - 802, Standard, "lease on the VIPs is held";
    BACKING_LOW = 70 - 803, Standard, "lease would not survive the loss of another voter";
    BACKING_FULL = 70 - 804, Standard, "lease is confirmed by all voters";
    GATE_DISTURBED = 70 - 805, Standard, "gate of the VIPs was removed by another tool and has been put back";
    GATE_MISSING = 70 - 806, Standard, "gate of the VIPs does not stand, leases alone protect them";
    GATE_WHOLE = 70 - 807, Standard, "gate of the VIPs stands";
    TOOK_OVER_ALONE = 70 - 808, Standard, "agent took over without an SCS";
    STEPPED_DOWN = 70 - 809, Standard, "agent made its server backup without an SCS";
    TRUNK_OUT = 70 - 901, Standard, "trunk out of service";
    TRUNK_IN = 70 - 902, Standard, "trunk in service again";
    SOURCE_SILENCED = 70 - 903, Standard, "source of SIP is no longer answered, too many of its requests were refused";
    CALLS_FULL = 70 - 904, Standard, "calls are refused, there are as many as there may be";
    CDR_FAILED = 70 - 905, Standard, "call records cannot be written";
    CDR_BACK = 70 - 906, Standard, "call records are written again";
    SIP_SETTINGS_TAKEN = 70 - 907, Standard, "SIP Server took new settings";
    SIP_SETTINGS_REFUSED = 70 - 908, Standard, "SIP Server refused new settings, the old ones count";
    SIP_OVERLOADED = 70 - 909, Standard, "calls are refused, more comes than the SIP Server can serve";
    CALL_ENDED = 70 - 910, Interaction, "call ended";
    ALARM_RAISED = 70 - 701, Alarm, "alarm raised";
    ALARM_CLEARED = 70 - 702, Standard, "alarm cleared";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn ids_have_two_spellings() {
        let id: EventId = "00-5150".parse().unwrap();
        assert_eq!(id, "00-05150".parse().unwrap());
        assert_eq!(id, events::NOW_PRIMARY);
        assert_eq!(id.to_string(), "00-05150");
        for bad in ["", "5150", "0-5150", "00-515", "00-515000", "aa-5150", "00-+515", "00_05150"] {
            assert!(bad.parse::<EventId>().is_err(), "{bad} must be refused");
        }
    }

    #[test]
    fn every_event_is_listed_once() {
        let ids: BTreeSet<_> = REGISTRY.iter().map(|kind| kind.id).collect();
        assert_eq!(ids.len(), REGISTRY.len());
    }
}
