//! What travels between the parts of the world: control messages over ordered connections, sealed datagrams, and the
//! probes that a kernel answers by itself. The same things as on the real wire, without the bytes.

use domain::{
    AppReport, Cluster, Fact, Instruction, InterfaceReport, Launch, LeaseReport, Micros, PeerReport, Report,
    TakenOver, VipReport,
};
use std::fmt;
use std::sync::Arc;

/// A machine on the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Node {
    /// The SCS's.
    Scs,
    /// A host of the cluster, by its number.
    Host(usize),
}

impl Node {
    /// Its place in a table of all machines.
    pub(crate) fn index(self) -> usize {
        match self {
            Node::Scs => 0,
            Node::Host(n) => n + 1,
        }
    }

    /// The machine at a place.
    pub(crate) fn at(index: usize) -> Self {
        index.checked_sub(1).map_or(Node::Scs, Node::Host)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::Scs => f.write_str("scs"),
            Node::Host(n) => write!(f, "host{}", n + 1),
        }
    }
}

/// A connection between two processes; never used twice. Seals its datagrams too, so that those of another connection are
/// not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConnectionId(pub u64);

/// What arrives over a connection, in order.
#[derive(Debug, Clone)]
pub(crate) enum Segment {
    /// Agent to SCS.
    FromAgent(Box<FromAgent>),
    /// SCS to agent.
    ToAgent(Box<ToAgent>),
    /// Agent to agent: votes that are not to wait for a lost datagram to be sent again.
    Votes(Vec<lease::Message>),
    /// The other end is closed.
    Closed,
}

/// Agent to SCS.
#[derive(Debug, Clone)]
pub(crate) enum FromAgent {
    /// First of all.
    Hello { host: usize, boot: u64, at: Micros },
    /// All that the agent knows.
    Inventory {
        apps: Vec<AppReport>,
        vips: Vec<VipReport>,
        interfaces: Vec<InterfaceReport>,
        taken_over: Vec<TakenOver>,
        peers: Vec<PeerReport>,
    },
    /// How the leases of the host's pairs stand.
    Leases(Vec<LeaseReport>),
    /// Votes that are not to wait for a lost datagram to be sent again.
    Votes(Vec<lease::Message>),
    /// One fact more.
    Report(Report),
}

/// SCS to agent.
#[derive(Debug, Clone)]
pub(crate) enum ToAgent {
    /// The hello is accepted.
    Welcome { cluster: Arc<Cluster> },
    /// Do something.
    Instruct(Instruction),
    /// Run something once.
    Launch(Launch),
    /// All reports up to this number are taken.
    Acknowledge { seq: u64 },
}

/// What arrives alone, or does not.
#[derive(Debug, Clone)]
pub(crate) enum Datagram {
    /// Believed only on the connection that it belongs to.
    Sealed { of: ConnectionId, beat: Option<Beat>, lease: Vec<lease::Message> },
    /// A connection attempt of the SCS, to see whether the host answers.
    Probe,
    /// The host's kernel refused it: an answer.
    ProbeAnswer { host: usize },
}

/// A heartbeat, or its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Beat {
    /// The sender's clock.
    pub at: Micros,
}

/// One line for the transcript.
impl fmt::Display for FromAgent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use domain::AnswerOutcome;
        match self {
            FromAgent::Hello { boot, .. } => write!(f, "hello, boot {boot}"),
            FromAgent::Inventory { apps, vips, .. } => {
                f.write_str("inventory:")?;
                for app in apps {
                    write!(f, " {};", brief(app))?;
                }
                for vip in vips.iter().filter(|vip| vip.present) {
                    write!(f, " {}", vip.vip)?;
                }
                Ok(())
            }
            FromAgent::Leases(leases) => {
                f.write_str("leases:")?;
                for lease in leases {
                    write!(f, " {} {:?}, backing {};", lease.pair, lease.held, lease.backing)?;
                }
                Ok(())
            }
            FromAgent::Votes(votes) => write!(f, "{votes:?}"),
            FromAgent::Report(report) => match &report.fact {
                Fact::App(app) => f.write_str(&brief(app)),
                Fact::Vip(vip) => {
                    write!(f, "{} {} ({})", vip.vip, if vip.present { "is here" } else { "is gone" }, vip.why)
                }
                Fact::Interface(interface) => {
                    write!(f, "{} {}", interface.interface, if interface.up { "up" } else { "down" })
                }
                Fact::Answer(answer) => match &answer.outcome {
                    AnswerOutcome::Done => write!(f, "{} done", answer.ref_id),
                    AnswerOutcome::Refused { why } => write!(f, "{} refused: {why}", answer.ref_id),
                    AnswerOutcome::Stale { seen } => write!(f, "{} stale, seen {seen}", answer.ref_id),
                },
                Fact::LaunchEnded(result) => write!(f, "launch {} {}", result.ref_id, result.outcome),
                Fact::Peer(peer) => {
                    write!(f, "{} {}", if peer.heard { "hears" } else { "does not hear" }, peer.host)
                }
                Fact::LeaseLetGo { app, epoch, .. } => write!(f, "{app} let go of epoch {epoch}"),
                Fact::VipSighted(sighting) => write!(f, "{sighting}"),
                Fact::Log(event) => write!(f, "event {} {}", event.id, event.text),
            },
        }
    }
}

fn brief(app: &AppReport) -> String {
    let mode = app.mode.map(|mode| format!(" {mode}/{}", app.epoch)).unwrap_or_default();
    let cause = app.cause.as_ref().map(|cause| format!(" ({cause})")).unwrap_or_default();
    let released = if app.released.is_empty() { "" } else { ", VIPs released" };
    format!("{} {}{mode}{cause}{released}", app.app, app.status)
}

/// One line for the transcript.
impl fmt::Display for ToAgent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ToAgent::Welcome { .. } => f.write_str("welcome"),
            ToAgent::Instruct(Instruction { ref_id, app, order }) => write!(f, "{ref_id} {app}: {order}"),
            ToAgent::Launch(launch) => write!(f, "{} {}, epoch {}", launch.ref_id, launch.what, launch.epoch),
            ToAgent::Acknowledge { seq } => write!(f, "acknowledged to {seq}"),
        }
    }
}
