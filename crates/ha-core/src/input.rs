//! What goes into the core and what comes out of it.

use crate::{DrillPlan, Incident, Plan};
use alarms::{ActiveAlarm, Ending};
use domain::{
    Answer, AppName, AppReport, Cluster, Epoch, EventId, HostName, Instruction, InterfaceReport, Launch,
    LaunchResult, LaunchWhat, LeaseReport, LogEvent, Micros, PairName, RunMode, SolutionName, Standby,
    TakenOver, VipAddress, VipReport, VipSighting,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;

/// How the link to an agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lost {
    /// It was closed: the agent ended, its host's kernel said so.
    Closed,
    /// It went silent.
    Silent,
}

/// Ties the outcome of an operator's order to it; chosen by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OrderId(pub u64);

/// Who ordered something, for the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct By {
    /// Name of the operator or of the reaction.
    pub who: String,
    /// The reason given; may be empty.
    pub reason: String,
}

/// What an operator can order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "order")]
pub enum OperatorOrder {
    /// Exchange the modes of a pair.
    SwitchOver {
        /// The pair.
        pair: PairName,
        /// The member that is to be primary; none: the one that is not.
        to: Option<AppName>,
        /// Hash of the plan that the operator saw; refused where the state has moved on. None: no plan was seen.
        plan: Option<u64>,
        /// Also where a check fails that may be forced.
        #[serde(default)]
        force: bool,
    },
    /// Start an application.
    Start {
        /// The application.
        app: AppName,
    },
    /// Stop an application. Never a failure: nothing is restarted, nothing fails over.
    Stop {
        /// The application.
        app: AppName,
        /// Let it finish what is in hand first.
        graceful: bool,
    },
    /// Stop and start an application.
    Restart {
        /// The application.
        app: AppName,
        /// Let it finish what is in hand first.
        graceful: bool,
    },
    /// Acknowledge a pair that was frozen because it flapped.
    Acknowledge {
        /// The pair.
        pair: PairName,
    },
    /// Nothing moves by itself until somebody ends it.
    Freeze {
        /// The pair.
        pair: PairName,
    },
    /// Ends that.
    Unfreeze {
        /// The pair.
        pair: PairName,
    },
    /// Somebody works on a pair for a while.
    Maintain {
        /// The pair.
        pair: PairName,
        /// For how long, from now.
        lasts: Duration,
    },
    /// The work is done before its time.
    EndMaintenance {
        /// The pair.
        pair: PairName,
    },
    /// Practise a switchover of a pair later.
    ScheduleDrill {
        /// The pair.
        pair: PairName,
        /// When, how often, and whether back again.
        plan: DrillPlan,
    },
    /// Practise it no more.
    RemoveDrill {
        /// The pair.
        pair: PairName,
        /// The drill's number.
        number: u64,
    },
    /// Start the applications of a solution, one after the other.
    StartSolution {
        /// The solution.
        solution: SolutionName,
    },
    /// Stop them, in the opposite order.
    StopSolution {
        /// The solution.
        solution: SolutionName,
        /// Let each finish what is in hand first.
        graceful: bool,
    },
    /// Clear an active alarm.
    ClearAlarm {
        /// Its number.
        number: u64,
    },
}

/// Everything that can happen to the core.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "input")]
pub enum Input {
    /// An agent's link is up. Its inventory follows.
    AgentConnected {
        /// Its host.
        host: HostName,
        /// Its release.
        release: String,
        /// Whether it can ask the network who has a VIP; releases before there were leases cannot.
        finds_holders: bool,
    },
    /// What the agent knows, all of it.
    InventoryReported {
        /// Its host.
        host: HostName,
        /// Its applications.
        apps: Vec<AppReport>,
        /// The VIPs of its pairs.
        vips: Vec<VipReport>,
        /// The interfaces that carry VIPs.
        interfaces: Vec<InterfaceReport>,
    },
    /// An agent's link is lost.
    AgentLost {
        /// Its host.
        host: HostName,
        /// How.
        how: Lost,
        /// Whether the host answered a probe since its agent was last heard.
        answers: bool,
    },
    /// The probe of a host whose agent is away changed its mind.
    HostProbed {
        /// The host.
        host: HostName,
        /// Whether it answers.
        answers: bool,
    },
    /// An application changed.
    AppReported {
        /// The agent's host.
        host: HostName,
        /// When it happened there.
        at: Micros,
        /// What.
        report: AppReport,
    },
    /// A VIP appeared or went away.
    VipReported {
        /// The agent's host.
        host: HostName,
        /// When it happened there.
        at: Micros,
        /// What.
        report: VipReport,
    },
    /// The network was asked who has a VIP.
    VipSighted {
        /// The host that asked.
        host: HostName,
        /// When the inquiry was over there.
        at: Micros,
        /// Who answered, with times of the SCS's clock.
        sighting: VipSighting,
    },
    /// The SCS's machine shares the subnets of these VIPs, and can ask their networks itself.
    ScsSees {
        /// Their addresses, as configured; others are not asked for.
        vips: BTreeSet<VipAddress>,
    },
    /// The SCS asked the network itself who has a VIP: the answer to [`Action::FindHolder`], or news.
    ScsSighted {
        /// The VIP.
        vip: VipAddress,
        /// When the inquiry was over.
        at: Micros,
        /// Who answered, or why nobody could be asked.
        sighting: Result<VipSighting, String>,
    },
    /// An interface changed.
    InterfaceReported {
        /// The agent's host.
        host: HostName,
        /// When it happened there.
        at: Micros,
        /// What.
        report: InterfaceReport,
    },
    /// The agent of a host hears another's agent, or no longer.
    PeerReported {
        /// The agent's host.
        host: HostName,
        /// When it happened there.
        at: Micros,
        /// The other host.
        peer: HostName,
        /// Whether its agent is heard.
        heard: bool,
    },
    /// An instruction was answered.
    Answered {
        /// The agent's host.
        host: HostName,
        /// When it happened there.
        at: Micros,
        /// The answer.
        answer: Answer,
    },
    /// A launch ended.
    LaunchEnded {
        /// The agent's host.
        host: HostName,
        /// When it happened there.
        at: Micros,
        /// The result.
        result: LaunchResult,
    },
    /// An agent, an application or the SCS around the core logged an event.
    EventReported {
        /// The event.
        event: LogEvent,
    },
    /// How the leases of its pairs stand at a host.
    LeasesReported {
        /// The agent's host.
        host: HostName,
        /// One for each pair.
        leases: Vec<LeaseReport>,
    },
    /// What a member of a hot pair says of the copy that its backup keeps.
    StandbyReported {
        /// The agent's host.
        host: HostName,
        /// The member.
        app: AppName,
        /// The figures.
        standby: Standby,
    },
    /// A member of a pair let go of its lease because its server failed; told by a voter.
    LeaseLetGo {
        /// The pair.
        pair: PairName,
        /// The member.
        app: AppName,
        /// Up to this epoch.
        epoch: Epoch,
    },
    /// A voter has seen a greater epoch of a pair than before.
    EpochSeen {
        /// The pair.
        pair: PairName,
        /// The epoch.
        epoch: Epoch,
    },
    /// An agent made a server primary while no SCS was there. Comes before its inventory.
    TookOver {
        /// The agent's host.
        host: HostName,
        /// What.
        taken: TakenOver,
    },
    /// An operator ordered something.
    Ordered {
        /// Ties the outcome to it.
        id: OrderId,
        /// What.
        order: OperatorOrder,
        /// By whom and why.
        by: By,
    },
    /// A new configuration is to be applied.
    ClusterApplied {
        /// All of it.
        cluster: Box<Cluster>,
        /// Which one it is, for the log.
        what: String,
    },
    /// An agent has carried out the newest [`Action::Assign`].
    Assigned {
        /// Its host.
        host: HostName,
    },
    /// A deadline has come.
    TimePassed,
    /// Inbox: a log event that this core logged.
    Logged {
        /// The event.
        event: LogEvent,
    },
    /// Inbox: a launch that an Alarm Reaction asks for.
    LaunchRequested {
        /// What.
        request: LaunchRequest,
    },
}

/// A launch that an Alarm Reaction asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchRequest {
    /// Where.
    pub host: HostName,
    /// What.
    pub what: LaunchWhat,
    /// The pair it is for.
    pub pair: Option<PairName>,
    /// The application whose event led to it.
    pub app: Option<AppName>,
    /// Its mode by that event.
    pub mode: Option<RunMode>,
    /// The event.
    pub event: Option<EventId>,
    /// The Alarm Condition.
    pub alarm: String,
}

/// What the caller is to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Send this to the agent on that host.
    Instruct(HostName, Instruction),
    /// Send this to the agent on that host.
    Launch(HostName, Launch),
    /// Send the agent on that host its part of the configuration ([`crate::State::cluster`]) anew.
    Assign(HostName),
    /// Ask the network from the SCS's machine who has this VIP; always answered with [`Input::ScsSighted`].
    FindHolder(VipAddress),
    /// Keep this log event. (The core has already put it into its own inbox.)
    Log(LogEvent),
    /// Keep this record.
    Record(Record),
    /// Tell whoever ordered it.
    Answer(OrderId, OrderOutcome),
    /// What must survive a restart has changed: keep [`crate::State::durable`]. Never waited for.
    Remember,
}

/// What is kept for people to read afterwards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "record")]
pub enum Record {
    /// An incident began, went on or ended; the newest with the same id counts.
    Incident(Incident),
    /// An alarm was raised or repeated.
    AlarmActive(ActiveAlarm),
    /// An alarm ended.
    AlarmEnded {
        /// The alarm.
        alarm: ActiveAlarm,
        /// How.
        ending: Ending,
        /// When.
        at: Micros,
    },
}

/// What became of an operator's order. Final, but for a switchover that began: its incident tells the end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum OrderOutcome {
    /// Done, or well under way; `incident` tells how a switchover goes on.
    Accepted {
        /// The incident that a switchover opened.
        incident: Option<u64>,
        /// In words.
        text: String,
    },
    /// Nothing was done.
    Refused {
        /// Why, and what to do.
        why: String,
        /// The plan with its failed checks, for a switchover.
        plan: Option<Plan>,
    },
}
