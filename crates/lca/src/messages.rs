//! What the real-time thread and the worker say to each other. Both queues are bounded; the real-time thread never waits
//! for room.

use crate::scripts::Script;
use crate::spawn::{Found, Running};
use crate::state_file::RunState;
use control_link::Link;
use domain::{AppName, Cluster, HostFigures, LaunchResult, Probe, RefId, SipAssignment};
use lca_core::supervisor::Settings;
use mio::net::UdpSocket;
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// Real-time thread to worker: what may take milliseconds.
#[derive(Debug)]
pub enum Job {
    /// See whether a process of the agent's last run is there; answered by [`News::Found`].
    Find(AppName, Box<Settings>),
    /// Start a process; answered by [`News::Started`].
    Start(AppName, Box<Settings>),
    /// Kill all processes of an application that left its process group.
    Kill(AppName),
    /// Its main process has ended: kill what is left and forget it.
    Clear(AppName),
    /// It has another main process now: remember that one for the agent's next run.
    KeepProcess(AppName, u32),
    /// Begin to probe in place of what was probed before, or end; answered by [`News::Probed`], again and again.
    Probe {
        /// The application.
        app: AppName,
        /// Comes back with the results, so that late ones are known.
        run: u64,
        /// What to ask; none: nothing any more.
        probe: Option<Probe>,
    },
    /// Run a mode command; answered by [`News::ModeCommandEnded`].
    ModeCommand(AppName, RefId, Script),
    /// Run a script; answered by [`News::ScriptEnded`].
    Script(RefId, Script),
    /// Keep the run state, and who was stopped by order; answered by [`News::Saved`].
    Save(Box<RunState>, BTreeSet<AppName>),
    /// Keep the agent's part of the cluster.
    SaveCluster(Box<Cluster>),
    /// Write what a SIP Server is told, or remove it; answered by [`News::SipSettingsKept`].
    KeepSipSettings {
        /// The application.
        app: AppName,
        /// What it is told; none: nothing any more.
        assignment: Option<Box<SipAssignment>>,
        /// The user whose it is.
        user: Option<String>,
    },
    /// Fetch a page of an application; answered by [`News::Fetched`].
    Fetch {
        /// The question's.
        number: u64,
        /// Where it shows its pages.
        target: SocketAddr,
        /// Which.
        path: String,
    },
}

/// Worker, and those who make connections, to real-time thread.
#[derive(Debug)]
pub enum News {
    /// Answers [`Job::Find`].
    Found(AppName, Result<Found, String>),
    /// Answers [`Job::Start`].
    Started(AppName, Result<Running, String>),
    /// One result of a probe.
    Probed {
        /// The application.
        app: AppName,
        /// As in the job.
        run: u64,
        /// Able to provide service, or why not.
        result: Result<(), String>,
    },
    /// Answers [`Job::ModeCommand`].
    ModeCommandEnded(AppName, RefId, Result<(), String>),
    /// Answers [`Job::Script`].
    ScriptEnded(LaunchResult),
    /// Answers [`Job::Save`].
    Saved,
    /// Answers [`Job::KeepSipSettings`]: whether that changed anything.
    SipSettingsKept(AppName, Result<bool, String>),
    /// Answers [`Job::Fetch`]: the page, or why there is none.
    Fetched(u64, Result<String, String>),
    /// New figures of the host.
    Figures(Box<HostFigures>),
    /// A connection to an SCS.
    Linked(Box<Link>),
    /// A connection with the agent of another host.
    PeerLinked(Box<Link>),
    /// A socket for the datagrams of other agents.
    PeerSocket(UdpSocket),
    /// The agent is to end and to leave everything as it is.
    Terminate,
}
