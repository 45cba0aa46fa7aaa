//! What SCS, agents and applications say to each other. Bounded and validated when decoded; unknown fields are ignored
//! and new ones have defaults, so that two adjacent releases understand each other.

use domain::{
    Answer, AppReport, Cluster, Epoch, HostFigures, HostName, Instruction, InterfaceReport, Launch,
    LaunchResult, LogEvent, Micros, RefId, RunMode, VipReport,
};
use serde::{Deserialize, Serialize};

/// Version of the messages that this build speaks.
pub const PROTOCOL: u32 = 1;
/// Oldest version that this build still understands.
pub const OLDEST_PROTOCOL: u32 = 1;
/// Largest frame on the control connection, bytes. A configuration of 1,000 hosts fits; a peer that announces more is refused.
pub const MAX_FRAME: usize = 1 << 20;
/// Largest number of applications or VIPs in one message.
pub const MAX_ITEMS: usize = 4_096;

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
    },
    /// A report that must not get lost: kept by the agent until acknowledged, sent again after a reconnect.
    Report(Report),
    /// Figures of the host; only the newest matters.
    Figures(HostFigures),
}

/// A numbered report of an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Grows by one with each report of one run of an agent.
    pub seq: u64,
    /// When it happened: agent's CLOCK_BOOTTIME.
    pub at: Micros,
    /// What happened.
    pub fact: Fact,
}

/// What an agent reports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "fact")]
pub enum Fact {
    /// An application changed.
    App(AppReport),
    /// A VIP appeared or went away.
    Vip(VipReport),
    /// An interface changed.
    Interface(InterfaceReport),
    /// An instruction was carried out or not.
    Answer(Answer),
    /// A launch ended.
    LaunchEnded(LaunchResult),
    /// The agent or an application logged an event.
    Log(LogEvent),
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
    },
    /// Do something; answered by [`Fact::Answer`].
    Instruct(Instruction),
    /// Run something once; answered by [`Fact::LaunchEnded`].
    Launch(Box<Launch>),
    /// All reports up to this number are safe with the SCS.
    Acknowledge {
        /// The number.
        seq: u64,
    },
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
    /// Whether a backup has what it needs to take over at once.
    Synced {
        /// Whether.
        synced: bool,
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
