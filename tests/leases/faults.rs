//! What goes wrong, and how it is put right.

use netlab::Direction;
use nix::sys::signal::Signal;
use rehearsal::{SCS_HOST, Site};

/// A fault about the first host, which is primary when it begins, or about the SCS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The host's port goes down.
    Cut,
    /// Nothing that the host sends arrives.
    NotHeard,
    /// The host hears nothing.
    HearsNothing,
    /// Host and SCS do not hear each other.
    FromScs,
    /// The two hosts do not hear each other.
    FromPeer,
    /// The host's agent is stopped.
    AgentStopped,
    /// The host's agent is killed, and started again when it is put right.
    AgentKilled,
    /// The SCS is killed, and started again when it is put right.
    ScsKilled,
    /// The server is killed; its agent starts it again.
    ServerKilled,
}

impl Fault {
    pub fn begin(self, site: &mut Site) -> anyhow::Result<()> {
        match self {
            Fault::Cut => site.lab.cut("host1")?,
            Fault::NotHeard => site.lab.one_way("host1", Direction::FromHost, true)?,
            Fault::HearsNothing => site.lab.one_way("host1", Direction::ToHost, true)?,
            Fault::FromScs => site.lab.block_between("host1", SCS_HOST, true)?,
            Fault::FromPeer => site.lab.block_between("host1", "host2", true)?,
            Fault::AgentStopped => site.signal_agent("host1", Signal::SIGSTOP)?,
            Fault::AgentKilled => site.kill_agent("host1")?,
            Fault::ScsKilled => site.kill_scs()?,
            // Where its agent is away it may be gone already.
            Fault::ServerKilled => drop(site.signal_app("sip1", Signal::SIGKILL)),
        }
        Ok(())
    }

    pub fn end(self, site: &mut Site) -> anyhow::Result<()> {
        match self {
            Fault::Cut => site.lab.heal("host1")?,
            Fault::NotHeard => site.lab.one_way("host1", Direction::FromHost, false)?,
            Fault::HearsNothing => site.lab.one_way("host1", Direction::ToHost, false)?,
            Fault::FromScs => site.lab.block_between("host1", SCS_HOST, false)?,
            Fault::FromPeer => site.lab.block_between("host1", "host2", false)?,
            Fault::AgentStopped => site.signal_agent("host1", Signal::SIGCONT)?,
            Fault::AgentKilled => site.start_agent("host1")?,
            Fault::ScsKilled => site.start_scs()?,
            Fault::ServerKilled => {}
        }
        Ok(())
    }
}
