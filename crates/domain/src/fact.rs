//! What an agent reports: facts, numbered, with the time at which each happened.

use crate::{
    Answer, AppName, AppReport, Epoch, InterfaceReport, LaunchResult, LogEvent, Micros, PairName, PeerReport,
    VipReport, VipSighting,
};
use serde::{Deserialize, Serialize};

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
    /// The network was asked who has a VIP, and this is who answered.
    VipSighted(VipSighting),
    /// An interface changed.
    Interface(InterfaceReport),
    /// The agent of another host is heard, or no longer.
    Peer(PeerReport),
    /// An instruction was carried out or not.
    Answer(Answer),
    /// A launch ended.
    LaunchEnded(LaunchResult),
    /// The other member of a pair let go of its lease because its server failed. Told by the peer's agent, since the SCS
    /// may not hear the agent itself.
    LeaseLetGo {
        /// The pair.
        pair: PairName,
        /// The member that failed.
        app: AppName,
        /// Up to this epoch.
        epoch: Epoch,
    },
    /// The agent or an application logged an event.
    Log(LogEvent),
}
