//! What goes wrong, and how it is put right.

use anyhow::Context;
use netlab::Direction;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rehearsal::{AGENT_HOSTS, SCS_HOST, Site};
use std::{fmt, fs};

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The host's ports go down.
    Cut,
    /// Nothing that the host sends arrives.
    NotHeard,
    /// The host hears nothing.
    HearsNothing,
    /// Host and SCS do not hear each other.
    FromScs,
    /// The two hosts do not hear each other.
    FromPeer,
    /// The port of the interface that clients reach goes down; where there is no other one, [`What::Cut`].
    FromClients,
    /// The host's agent is stopped.
    AgentStopped,
    /// The host's agent is killed, and started again when it is put right.
    AgentKilled,
    /// The SCS is killed, and started again when it is put right.
    ScsKilled,
    /// The server is killed; its agent starts it again.
    ServerKilled,
    /// The agent and the server are killed; the agent is started again when it is put right.
    ServerAndAgentKilled,
}

impl What {
    /// All there are.
    pub const ALL: [What; 11] = [
        What::Cut,
        What::NotHeard,
        What::HearsNothing,
        What::FromScs,
        What::FromPeer,
        What::FromClients,
        What::AgentStopped,
        What::AgentKilled,
        What::ScsKilled,
        What::ServerKilled,
        What::ServerAndAgentKilled,
    ];

    /// On a host of the pair; the SCS has no other place.
    pub fn on(self, host: &'static str) -> Fault {
        Fault { what: self, host }
    }

    /// On the first host, which is primary in the beginning.
    pub fn on_the_first(self) -> Fault {
        self.on(AGENT_HOSTS[0])
    }
}

/// Where something goes wrong. Beginning what has begun changes nothing, nor does ending what is over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    pub what: What,
    pub host: &'static str,
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.what {
            What::ScsKilled => write!(f, "{:?}", self.what),
            what => write!(f, "{what:?} ({})", self.host),
        }
    }
}

impl Fault {
    pub fn begin(self, site: &mut Site) -> anyhow::Result<()> {
        let host = self.host;
        match self.what {
            What::Cut => site.lab.cut(host)?,
            What::FromClients => site.lab.cut_segment(host, "lan")?,
            What::AgentStopped if site.agent_pid(host).is_some() => {
                site.signal_agent(host, Signal::SIGSTOP)?;
            }
            What::AgentKilled if site.agent_pid(host).is_some() => site.kill_agent(host)?,
            What::ScsKilled if site.scs_pid().is_some() => site.kill_scs()?,
            What::AgentStopped | What::AgentKilled | What::ScsKilled => {}
            What::ServerKilled => kill_server(site, host)?,
            What::ServerAndAgentKilled => {
                // The other way round the agent might still let go of the lease.
                What::AgentKilled.on(host).begin(site)?;
                kill_server(site, host)?;
            }
            What::NotHeard | What::HearsNothing | What::FromScs | What::FromPeer => self.set(site, true)?,
        }
        Ok(())
    }

    pub fn end(self, site: &mut Site) -> anyhow::Result<()> {
        let host = self.host;
        match self.what {
            What::Cut => site.lab.heal(host)?,
            What::FromClients => site.lab.heal_segment(host, "lan")?,
            What::AgentStopped if site.agent_pid(host).is_some() => {
                site.signal_agent(host, Signal::SIGCONT)?;
            }
            What::AgentKilled | What::ServerAndAgentKilled if site.agent_pid(host).is_none() => {
                site.start_agent(host)?;
            }
            What::ScsKilled if site.scs_pid().is_none() => site.start_scs()?,
            What::AgentStopped
            | What::AgentKilled
            | What::ServerAndAgentKilled
            | What::ScsKilled
            | What::ServerKilled => {}
            What::NotHeard | What::HearsNothing | What::FromScs | What::FromPeer => self.set(site, false)?,
        }
        Ok(())
    }

    /// What the switch keeps back.
    fn set(self, site: &mut Site, on: bool) -> anyhow::Result<()> {
        let [first, second] = AGENT_HOSTS;
        match self.what {
            What::NotHeard => site.lab.one_way(self.host, Direction::FromHost, on)?,
            What::HearsNothing => site.lab.one_way(self.host, Direction::ToHost, on)?,
            What::FromScs => site.lab.block_between(self.host, SCS_HOST, on)?,
            What::FromPeer => site.lab.block_between(first, second, on)?,
            What::Cut
            | What::FromClients
            | What::AgentStopped
            | What::AgentKilled
            | What::ScsKilled
            | What::ServerKilled
            | What::ServerAndAgentKilled => anyhow::bail!("{self:?} is not the switch's affair"),
        }
        Ok(())
    }
}

/// Kills the server on a host, if there is one: found by its network, since neither agent nor SCS need be there to tell.
fn kill_server(site: &Site, host: &str) -> anyhow::Result<()> {
    let network = |process: &str| fs::read_link(format!("/proc/{process}/ns/net"));
    let of_host = site.lab.in_host(host, || network("thread-self"))?.context("a host has a network")?;
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let Ok(pid) = name.parse() else { continue };
        let command = fs::read(format!("/proc/{name}/cmdline")).unwrap_or_default();
        let is_server = command.split(|byte| *byte == 0).any(|word| word == b"sip-server");
        if is_server && network(&name).is_ok_and(|network| network == of_host) {
            kill(Pid::from_raw(pid), Signal::SIGKILL)?;
        }
    }
    Ok(())
}
