//! The field's own words as types: names, run modes, statuses, epochs, log events and the cluster they belong to.
//!
//! Everything here is a plain value, validated where it is made. It decides nothing and does no I/O; what to do with
//! these values is for `alarms` and `ha-core` to decide, and for the daemons to carry out.

mod cluster;
mod event;
mod fact;
mod instruction;
mod launch;
mod lease;
mod mac;
mod names;
mod reaction;
mod report;
mod sighting;
mod sip;
mod sip_assignment;
mod solution;
mod standby;
mod time;

pub use cluster::{
    AlarmCondition, Application, Category, Cluster, Detect, DetectSource, Failback, FlapGuard, GatePolicy,
    Host, Member, ModeControl, OidcSettings, OnHang, PEER_PORT, Pair, Probe, ProbeKind, Profile, Redundancy,
    RestartPolicy, Script, ScsSettings, Signal, Vip, VipControl, WebSettings,
};
pub use event::{EventId, EventKind, Level, LogEvent, ParseEventIdError, REGISTRY, events};
pub use fact::{Fact, Report};
pub use instruction::{Answer, AnswerOutcome, Instruction, Order};
pub use launch::{LAUNCH_OUTPUT_LIMIT, Launch, LaunchOutcome, LaunchResult, LaunchWhat, VipVerb};
pub use lease::{GateReport, LeaseReport, TakenOver};
pub use mac::{MacAddress, ParseMacAddressError};
pub use names::{
    AppName, HostName, InterfaceName, NameError, PairName, ScriptName, SolutionName, VipAddress,
    VipAddressError,
};
pub use reaction::Reaction;
pub use report::{
    AppReport, AppStatus, Cause, Epoch, HostFigures, HostStatus, InterfaceReport, PeerReport, RefId, RunMode,
    VipReport,
};
pub use sighting::{MOST_HOLDERS, SeenHolder, VipSighting};
pub use sip::{
    MOST_LOGGED_CALLS, SipChoice, SipCredentials, SipLimits, SipListen, SipName, SipRegistrations,
    SipReplication, SipRoute, SipSecret, SipSettings, SipTimers, SipTls, SipTransport, SipTrunk, SipUser,
    logged_calls,
};
pub use sip_assignment::{SIP_SETTINGS_VARIABLE, SipAssignment, SipIdentity, SipMember};
pub use solution::{Solution, SolutionStatus};
pub use standby::Standby;
pub use time::{Micros, format_duration, parse_duration};
