//! What SCS, agents and applications say to each other. Unknown fields are ignored and new ones have defaults, so that
//! two adjacent releases understand each other. Bounded by [`MAX_FRAME`] before anything is decoded, and what an agent
//! says by [`FromAgent::validate`] behind that.

use domain::{
    AnswerOutcome, AppName, AppReport, Cause, Cluster, Epoch, GateReport, HostFigures, HostName, Instruction,
    InterfaceReport, LAUNCH_OUTPUT_LIMIT, Launch, LaunchOutcome, LaunchResult, LeaseReport, LogEvent,
    MOST_HOLDERS, Micros, PeerReport, RefId, RunMode, Standby, TakenOver, VipReport,
};
pub use domain::{Fact, Report};
use lease::Message;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Version of the messages that this build speaks. 2: lease messages, links between agents, and what agents report of
/// either. 3: what a hot pair's members say of their copies, and pages of applications.
pub const PROTOCOL: u32 = 3;
/// Oldest version that this build still understands.
pub const OLDEST_PROTOCOL: u32 = 1;
/// First version whose ends understand lease messages, in datagrams and otherwise.
pub const LEASES_SINCE: u32 = 2;
/// First version whose ends know [`FromAgent::Standby`], [`ToAgent::Fetch`] and [`FromAgent::Fetched`].
pub const PAGES_SINCE: u32 = 3;
/// Largest page of an application that is passed on, bytes: with every byte escaped in JSON it still fits into a frame.
pub const MAX_PAGE: usize = 128 * 1024;
/// Longest path of a page, bytes.
pub const MAX_PATH: usize = 512;
/// Largest frame on the control connection, bytes. A configuration of 1,000 hosts fits; a peer that announces more is refused.
pub const MAX_FRAME: usize = 1 << 20;
/// Greatest epoch: a grant every microsecond for 285 years; a JSON number holds it exactly everywhere.
pub const MAX_EPOCH: u64 = 1 << 53;
/// Largest number of applications or VIPs in one message.
pub const MAX_ITEMS: usize = 4_096;
/// Largest text in a message from an agent, bytes: more than an honest agent sends, since what is refused here is
/// reported again after the reconnect, and refused again. A script's output may be longer, see [`MAX_OUTPUT`].
pub const MAX_TEXT: usize = 4_096;
/// Largest output of a script in a message, bytes: [`LAUNCH_OUTPUT_LIMIT`] and what replacing bytes that are not UTF-8
/// makes of it.
pub const MAX_OUTPUT: usize = 3 * LAUNCH_OUTPUT_LIMIT;
/// Largest number of attributes of a log event.
pub const MAX_ATTRIBUTES: usize = 64;

/// The protocol version for a connection with a peer whose newest is `hello_protocol`: the newest that both speak.
///
/// # Errors
/// A sentence for the goodbye where there is none: who is to be upgraded.
pub fn negotiate(hello_protocol: u32) -> Result<u32, String> {
    if hello_protocol < OLDEST_PROTOCOL {
        return Err(format!(
            "its newest protocol version is {hello_protocol}, the oldest one understood here is {OLDEST_PROTOCOL}; \
             upgrade it"
        ));
    }
    Ok(hello_protocol.min(PROTOCOL))
}

/// First message of an agent on a new connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// Newest protocol version that the agent speaks.
    pub protocol: u32,
    /// Release of the agent, for people and for the drift alarm.
    pub release: String,
    /// The host; must be the name in the agent's certificate.
    pub host: HostName,
    /// Random id of the kernel's boot (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: String,
    /// Agent's CLOCK_BOOTTIME when it sent this.
    pub at: Micros,
    /// Agent's CLOCK_REALTIME when it sent this.
    pub wall: Micros,
}

/// SCS's answer to a [`Hello`] that it accepts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    /// Protocol version of this connection.
    pub protocol: u32,
    /// Release of the SCS.
    pub release: String,
    /// Id of the connection's datagrams (see `seal`).
    pub session: u64,
    /// The agent's part of the cluster.
    pub cluster: Cluster,
    /// Milliseconds between heartbeats, both ways.
    pub heartbeat_ms: u64,
    /// Milliseconds of silence after which the other end counts as lost.
    pub silence_ms: u64,
}

/// Agent to SCS.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum FromAgent {
    /// First on a connection.
    Hello(Hello),
    /// Everything that the agent knows, once behind the welcome and whenever the cluster was assigned anew.
    Inventory {
        /// All applications of the host.
        apps: Vec<AppReport>,
        /// All VIPs of the host's pairs.
        vips: Vec<VipReport>,
        /// All interfaces that carry VIPs.
        interfaces: Vec<InterfaceReport>,
        /// The roles that the agent took while no SCS was there, each pair's last.
        #[serde(default)]
        taken_over: Vec<TakenOver>,
        /// All other agents that share a pair with this one.
        #[serde(default)]
        peers: Vec<PeerReport>,
        /// The number of the newest [`ToAgent::Assign`] of this connection that it has carried out; 0: of none.
        #[serde(default)]
        assigned: u64,
    },
    /// Lease messages that are not to wait for a lost datagram to be sent again; from [`LEASES_SINCE`] on. They travel
    /// in a datagram as well.
    Lease {
        /// In the order in which they were sent.
        messages: Vec<Message>,
    },
    /// How the leases of the host's pairs stand; only the newest of each matters.
    Leases {
        /// One for each pair.
        leases: Vec<LeaseReport>,
    },
    /// A report that must not get lost: kept by the agent until acknowledged, sent again after a reconnect.
    Report(Report),
    /// Figures of the host; only the newest matters.
    Figures(HostFigures),
    /// What a member of a hot pair says of the copy that its backup keeps; only the newest matters. From [`PAGES_SINCE`]
    /// on.
    Standby {
        /// The member.
        app: AppName,
        /// The figures.
        standby: Standby,
    },
    /// Answers [`ToAgent::Fetch`].
    Fetched {
        /// The question's.
        number: u64,
        /// The page, or why there is none.
        page: Result<String, String>,
    },
}

impl FromAgent {
    /// First protocol version in which there is this message; an end that speaks an older one takes it for malformed.
    #[must_use]
    pub fn known_since(&self) -> u32 {
        match self {
            FromAgent::Hello(_) | FromAgent::Inventory { .. } | FromAgent::Figures(_) => 1,
            FromAgent::Leases { .. } | FromAgent::Lease { .. } => LEASES_SINCE,
            FromAgent::Standby { .. } | FromAgent::Fetched { .. } => PAGES_SINCE,
            FromAgent::Report(report) => match &report.fact {
                Fact::App(_)
                | Fact::Vip(_)
                | Fact::Interface(_)
                | Fact::Answer(_)
                | Fact::LaunchEnded(_)
                | Fact::Log(_) => 1,
                Fact::VipSighted(_) | Fact::Peer(_) | Fact::LeaseLetGo { .. } => LEASES_SINCE,
            },
        }
    }

    /// Checks the bounds that the types do not know.
    ///
    /// # Errors
    /// A sentence: what is over which bound.
    pub fn validate(&self) -> Result<(), String> {
        match self {
            FromAgent::Hello(hello) => {
                text("the release", &hello.release)?;
                text("the boot id", &hello.boot_id)
            }
            FromAgent::Leases { leases } => {
                items("leases", leases.len())?;
                leases.iter().try_for_each(|lease| match &lease.gate {
                    GateReport::Agent { why } => text("why there is no gate", why),
                    GateReport::Kernel | GateReport::Unknown => Ok(()),
                })
            }
            FromAgent::Inventory { apps, vips, interfaces, taken_over, peers, assigned: _ } => {
                items("peers", peers.len())?;
                items("roles taken over", taken_over.len())?;
                taken_over.iter().try_for_each(|taken| {
                    epoch(taken.epoch)?;
                    text("why a role was taken over", &taken.why)
                })?;
                items("applications", apps.len())?;
                items("VIPs", vips.len())?;
                items("interfaces", interfaces.len())?;
                apps.iter().try_for_each(app_report)?;
                vips.iter().try_for_each(|vip| text("the reason of a VIP's change", &vip.why))
            }
            FromAgent::Lease { messages } => lease_messages(messages),
            FromAgent::Report(told) => report(told),
            FromAgent::Figures(_) | FromAgent::Standby { .. } => Ok(()),
            FromAgent::Fetched { page: Ok(page), .. } => bound("a page", "bytes", page.len(), MAX_PAGE),
            FromAgent::Fetched { page: Err(why), .. } => text("why there is no page", why),
        }
    }
}

fn report(report: &Report) -> Result<(), String> {
    match &report.fact {
        Fact::App(report) => app_report(report),
        Fact::Vip(vip) => text("the reason of a VIP's change", &vip.why),
        Fact::VipSighted(sighting) => {
            bound("a sighting of a VIP", "holders", sighting.holders.len(), MOST_HOLDERS)
        }
        Fact::Interface(_) | Fact::Peer(_) => Ok(()),
        Fact::LeaseLetGo { epoch: let_go, .. } => epoch(*let_go),
        Fact::Answer(answer) => match &answer.outcome {
            AnswerOutcome::Done => Ok(()),
            AnswerOutcome::Refused { why } => text("the reason of a refusal", why),
            AnswerOutcome::Stale { seen } => epoch(*seen),
        },
        Fact::LaunchEnded(result) => launch_result(result),
        Fact::Log(event) => log_event(event),
    }
}

/// As strict as in a datagram.
fn lease_messages(messages: &[Message]) -> Result<(), String> {
    items("lease messages", messages.len())?;
    let possible = |message: &Message| Message::from_bytes(&message.to_bytes()).is_ok();
    if messages.iter().all(possible) { Ok(()) } else { Err("a lease message makes no sense".to_owned()) }
}

fn epoch(epoch: Epoch) -> Result<(), String> {
    if epoch.0 > MAX_EPOCH {
        return Err(format!("an epoch of {epoch}, at most {MAX_EPOCH} is possible"));
    }
    Ok(())
}

fn app_report(report: &AppReport) -> Result<(), String> {
    items("VIPs released with an application", report.released.len())?;
    epoch(report.epoch)?;
    text("what an application says of itself", &report.text)?;
    match &report.cause {
        Some(Cause::ProbeFailed(why) | Cause::NotStarted(why)) => text("the cause of a status", why),
        Some(
            Cause::Ordered
            | Cause::Exited(_)
            | Cause::Killed(_)
            | Cause::Ended
            | Cause::Hung
            | Cause::StartLimit
            | Cause::StopLimit
            | Cause::GaveUp(_),
        )
        | None => Ok(()),
    }
}

fn launch_result(result: &LaunchResult) -> Result<(), String> {
    bound("the output of a launch", "bytes", result.output.len(), MAX_OUTPUT)?;
    match &result.outcome {
        LaunchOutcome::Failed { why } => text("the reason of a failed launch", why),
        LaunchOutcome::Succeeded
        | LaunchOutcome::Exited { .. }
        | LaunchOutcome::Killed { .. }
        | LaunchOutcome::TimedOut
        | LaunchOutcome::Stale { .. } => Ok(()),
    }
}

fn log_event(event: &LogEvent) -> Result<(), String> {
    text("the text of a log event", &event.text)?;
    bound("a log event", "attributes", event.attributes.len(), MAX_ATTRIBUTES)?;
    event.attributes.iter().try_for_each(|(name, value)| {
        text("the name of an attribute", name)?;
        text("the value of an attribute", value)
    })
}

fn text(what: &str, text: &str) -> Result<(), String> {
    bound(what, "bytes", text.len(), MAX_TEXT)
}

fn items(what: &str, count: usize) -> Result<(), String> {
    bound(what, "items", count, MAX_ITEMS)
}

fn bound(what: &str, unit: &str, found: usize, allowed: usize) -> Result<(), String> {
    if found <= allowed {
        Ok(())
    } else {
        Err(format!("{what}: {found} {unit}, at most {allowed} are allowed"))
    }
}

/// How an agent and the SCS keep in touch, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// Time between heartbeats.
    pub heartbeat_ms: u64,
    /// Silence after which either side gives the connection up.
    pub silence_ms: u64,
}

impl From<domain::Profile> for Pace {
    fn from(profile: domain::Profile) -> Self {
        let ms = |d: std::time::Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        Self { heartbeat_ms: ms(profile.heartbeat()), silence_ms: ms(profile.silence()) }
    }
}

/// SCS to agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum ToAgent {
    /// The hello is accepted.
    Welcome(Box<Welcome>),
    /// The hello is not accepted; the connection closes.
    Goodbye {
        /// Why, and what to do.
        why: String,
    },
    /// The configuration changed.
    Assign {
        /// The agent's part of it.
        cluster: Box<Cluster>,
        /// The inventory that answers it says this number. They grow, from 1 on, on each connection.
        #[serde(default)]
        number: u64,
        /// As in [`Welcome`], from now on; none: as before.
        #[serde(default)]
        pace: Option<Pace>,
    },
    /// Do something; answered by [`Fact::Answer`].
    Instruct(Instruction),
    /// Run something once; answered by [`Fact::LaunchEnded`].
    Launch(Box<Launch>),
    /// Ask an application for one of the pages that it shows at its HTTP address; answered by [`FromAgent::Fetched`], if
    /// the connection lasts. Changes nothing.
    Fetch {
        /// Ties the answer to it.
        number: u64,
        /// The application.
        app: AppName,
        /// The page, visible ASCII that begins with '/', at most [`MAX_PATH`] bytes.
        path: String,
    },
    /// All reports up to this number were taken by the SCS (and wait for its disk at most).
    Acknowledge {
        /// The number.
        seq: u64,
    },
}

/// Agent to agent. The end that dialed says [`FromPeer::Hello`], the other [`FromPeer::Welcome`]; who they are is in
/// their certificates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum FromPeer {
    /// First from the end that dialed.
    Hello {
        /// Newest protocol version that it speaks; the oldest possible is [`LEASES_SINCE`].
        protocol: u32,
        /// Its release, for people.
        release: String,
    },
    /// First from the end that accepted.
    Welcome {
        /// Protocol version of this connection.
        protocol: u32,
        /// Its release, for people.
        release: String,
        /// Id of the connection's datagrams (see `seal`).
        session: u64,
    },
    /// Behind the greeting, and whenever it changes: how often the sender wants to hear a heartbeat. Both ends follow
    /// the shorter of the two, so that a new profile that has reached one of them only silences neither.
    Pace {
        /// Microseconds between heartbeats.
        every_us: u64,
    },
    /// Lease messages that are not to wait for a lost datagram to be sent again. They travel in a datagram as well.
    Lease {
        /// In the order in which they were sent.
        messages: Vec<Message>,
    },
    /// The connection closes.
    Goodbye {
        /// Why, and what to do.
        why: String,
    },
}

impl FromPeer {
    /// Checks the bounds that the types do not know.
    ///
    /// # Errors
    /// A sentence: what is over which bound.
    pub fn validate(&self) -> Result<(), String> {
        match self {
            FromPeer::Hello { release, .. } | FromPeer::Welcome { release, .. } => {
                text("the release", release)
            }
            FromPeer::Pace { .. } => Ok(()),
            FromPeer::Lease { messages } => lease_messages(messages),
            FromPeer::Goodbye { why } => text("the reason of a goodbye", why),
        }
    }
}

/// A heartbeat, in both directions, in a sealed datagram (see `seal`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Sender's CLOCK_BOOTTIME.
    pub at: Micros,
    /// The newest `at` heard from the other end: lets it measure the round trip; zero where nothing was heard.
    pub heard: Micros,
    /// Microseconds between hearing that and sending this.
    pub held_us: u64,
    /// Greatest lateness of the sender's loop since the last heartbeat, microseconds.
    pub stall_us: u64,
}

impl Heartbeat {
    /// Until when both ends are known to have heard each other, by a heartbeat that arrives at `now` (our clock): one that
    /// comes from an end which does not hear us proves half of it. `every` is the time between heartbeats; an end that
    /// has heard nothing yet is given time.
    #[must_use]
    pub fn both_ways(&self, every: Duration, now: Micros) -> Micros {
        // What it heard last was the newest when it was sent: one beat of ours and one of its own ago, and a late one.
        if self.heard == Micros(0) { now } else { now.min(self.heard + every * 5 / 2) }
    }
}

/// LCA to application, on the mode socket (one JSON object per packet).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum ToApplication {
    /// Take this run mode; answered by [`FromApplication::RunMode`] with the same reference.
    SetRunMode {
        /// Ties the answer to it.
        ref_id: RefId,
        /// The mode.
        mode: RunMode,
        /// The pair's epoch.
        epoch: Epoch,
    },
    /// Begin a graceful stop: answered by status changes.
    Suspend,
    /// What the application was told in a file (the one named in `TAKEOVER_SIP_SETTINGS`) has changed: read it again. Not
    /// answered; what is wrong with it is logged by the application, which goes on with what it had.
    Reconfigure,
    /// Comes with a descriptor, to be held as a [`Lifeline`](crate::lifeline::Lifeline), so that the agent learns of the
    /// process's end sooner. May be ignored; is not answered.
    Lifeline,
}

/// Application to LCA, on the mode socket (one JSON object per packet).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum FromApplication {
    /// First on a connection and after each change: what it runs as.
    RunMode {
        /// The instruction that led to it; none: told unasked.
        #[serde(default)]
        ref_id: Option<RefId>,
        /// The mode.
        mode: RunMode,
        /// The epoch of the instruction that led to it.
        epoch: Epoch,
    },
    /// Whether a backup has what it needs to take over at once. At each change of `synced`; for the figures' sake at
    /// most once a second.
    Synced {
        /// Whether.
        synced: bool,
        /// What that is, where it is something that can be counted.
        #[serde(default)]
        standby: Option<Standby>,
    },
    /// A graceful stop has begun.
    Suspending,
    /// A graceful stop: nothing is in hand any more.
    Suspended,
    /// A log event.
    Log {
        /// The event.
        event: LogEvent,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{Answer, MacAddress, SeenHolder, VipSighting, events};
    use lease::{Body, PairId};

    fn report(fact: Fact) -> FromAgent {
        FromAgent::Report(Report { seq: 1, at: Micros(1), fact })
    }

    #[test]
    fn the_newest_common_version_is_chosen() {
        assert_eq!(negotiate(PROTOCOL), Ok(PROTOCOL));
        assert_eq!(negotiate(PROTOCOL + 1), Ok(PROTOCOL), "a newer agent speaks ours");
        assert!(negotiate(OLDEST_PROTOCOL - 1).unwrap_err().contains("upgrade"));
    }

    #[test]
    fn what_is_over_a_bound_is_refused() {
        let interface: InterfaceReport = serde_json::from_str(r#"{"interface":"eth0","up":true}"#).unwrap();
        let inventory = |count| FromAgent::Inventory {
            apps: Vec::new(),
            vips: Vec::new(),
            interfaces: vec![interface.clone(); count],
            taken_over: Vec::new(),
            peers: Vec::new(),
            assigned: 0,
        };
        assert_eq!(inventory(MAX_ITEMS).validate(), Ok(()));
        assert!(inventory(MAX_ITEMS + 1).validate().unwrap_err().contains("interfaces"));

        let release = |epoch| Message {
            pair: PairId(1),
            body: Body::Release { epoch: Epoch(epoch), why: lease::Why::Failed },
        };
        let lease = |messages: Vec<Message>| {
            let peer = FromPeer::Lease { messages: messages.clone() };
            (FromAgent::Lease { messages }.validate(), peer.validate())
        };
        assert_eq!(lease(vec![release(MAX_EPOCH); MAX_ITEMS]), (Ok(()), Ok(())));
        for bad in [vec![release(1); MAX_ITEMS + 1], vec![release(1), release(MAX_EPOCH + 1)]] {
            let (agent, peer) = lease(bad);
            assert!(agent.is_err() && peer.is_err());
        }
        let hello = |length| FromPeer::Hello { protocol: 2, release: "x".repeat(length) };
        assert_eq!(hello(MAX_TEXT).validate(), Ok(()));
        assert!(hello(MAX_TEXT + 1).validate().is_err());

        let refusal = |length: usize| {
            let outcome = AnswerOutcome::Refused { why: "x".repeat(length) };
            report(Fact::Answer(Answer { ref_id: RefId(1), outcome }))
        };
        assert_eq!(refusal(MAX_TEXT).validate(), Ok(()));
        assert!(refusal(MAX_TEXT + 1).validate().is_err());

        let output = |length: usize| {
            let outcome = LaunchOutcome::Succeeded;
            report(Fact::LaunchEnded(LaunchResult {
                ref_id: RefId(1),
                outcome,
                output: "x".repeat(length),
                took_us: 1,
            }))
        };
        assert_eq!(output(MAX_OUTPUT).validate(), Ok(()));
        assert!(output(MAX_OUTPUT + 1).validate().is_err());

        let sighting = |count: u8| {
            let holders =
                (0..count).map(|n| SeenHolder { mac: MacAddress([2, 0, 0, 0, 0, n]), at: Micros(2) });
            report(Fact::VipSighted(VipSighting {
                vip: "192.0.2.1/24".parse().unwrap(),
                interface: "eth0".parse().unwrap(),
                asked: Micros(1),
                holders: holders.collect(),
            }))
        };
        assert_eq!(sighting(8).validate(), Ok(()));
        assert!(sighting(9).validate().unwrap_err().contains("holders"));

        let mut event = LogEvent::new(events::APP_STARTED, Micros(1));
        event.attributes = (0..=MAX_ATTRIBUTES).map(|n| (n.to_string(), String::new())).collect();
        assert!(report(Fact::Log(event)).validate().is_err());
    }

    #[test]
    fn an_end_that_does_not_hear_us_is_not_heard() {
        let every = Duration::from_millis(100);
        let heartbeat = |heard| Heartbeat { at: Micros(1), heard: Micros(heard), held_us: 0, stall_us: 0 };
        assert_eq!(heartbeat(0).both_ways(every, Micros(5_000_000)), Micros(5_000_000));
        assert_eq!(heartbeat(4_900_000).both_ways(every, Micros(5_000_000)), Micros(5_000_000));
        assert_eq!(heartbeat(3_000_000).both_ways(every, Micros(5_000_000)), Micros(3_250_000));
    }

    #[test]
    fn adjacent_releases_understand_each_other() {
        let newer = r#"{"type":"figures","cpu":0.5,"invented_later":[1,2]}"#;
        assert!(matches!(serde_json::from_str(newer), Ok(FromAgent::Figures(f)) if f.cpu == 0.5));
        let older = concat!(
            r#"{"type":"report","seq":1,"at":2,"#,
            r#""fact":{"fact":"vip","vip":"192.0.2.1/24","interface":"eth0","present":true}}"#
        );
        assert!(serde_json::from_str::<FromAgent>(older).is_ok());
        let older = r#"{"type":"inventory","apps":[],"vips":[],"interfaces":[]}"#;
        assert!(serde_json::from_str::<FromAgent>(older).is_ok());
        let older = serde_json::from_str(r#"{"type":"synced","synced":true}"#).unwrap();
        assert_eq!(FromApplication::Synced { synced: true, standby: None }, older);
        for bad in ["", "{}", r#"{"type":"dance"}"#, r#"{"type":"report","seq":-1}"#, "[]", "null"] {
            assert!(serde_json::from_str::<FromAgent>(bad).is_err(), "{bad} must be refused");
        }
        let deep = "[".repeat(100_000);
        assert!(serde_json::from_str::<FromAgent>(&deep).is_err(), "and overflow no stack");
    }
}
