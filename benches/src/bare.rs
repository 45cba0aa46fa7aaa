//! The floor as a contender: its two processes started anew for every run, in alternating directions.

use crate::sample::{Sample, Watch};
use crate::servers::{Servers, end};
use domain::{InterfaceName, VipAddress};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rehearsal::{AGENT_HOSTS, VIP};
use std::path::Path;
use std::time::Duration;
use vip_control::VipController;

/// Port on which the standby side waits for the word.
const PORT: u16 = 7_999;
/// How long a takeover may take.
const LIMIT: Duration = Duration::from_secs(2);

/// The bare supervisor on two hosts.
pub struct Bare {
    servers: Servers,
    /// The host that holds next.
    holder: usize,
}

impl Bare {
    /// Builds its network and servers.
    ///
    /// # Errors
    /// What could not be made.
    pub fn start(takeover: &Path) -> anyhow::Result<Self> {
        Ok(Self { servers: Servers::start(takeover, "floor")?, holder: 0 })
    }

    /// Kills the holder's server and observes.
    ///
    /// # Errors
    /// No takeover.
    pub fn server_killed(&mut self) -> anyhow::Result<Sample> {
        let (old, new) = (self.holder, 1 - self.holder);
        let peer = format!("192.0.2.1{}:{PORT}", new + 1);
        let server = self.servers.pid(old);
        let mut standby = self.servers.helper(new, &["floor-standby".to_owned(), peer.clone()])?;
        let mut holder = self.servers.helper(old, &["floor-holder".to_owned(), server.to_string(), peer])?;
        let client = Watch::begin(&self.servers.lab, self.servers.tag(old))?;
        kill(Pid::from_raw(i32::try_from(server)?), Signal::SIGKILL)?;
        let seen = client.taken_over_by(self.servers.tag(new), LIMIT);
        end(&mut holder)?;
        end(&mut standby)?;
        self.clean()?;
        self.servers.restart(old)?;
        self.holder = new;
        seen
    }

    /// Removes the VIP wherever it is.
    fn clean(&self) -> anyhow::Result<()> {
        let (vip, on) = address()?;
        for host in AGENT_HOSTS {
            self.servers.lab.in_host(host, || VipController::open()?.disable(&vip, &on))??;
        }
        Ok(())
    }
}

/// The VIP that all contenders move, and the interface that it is on.
///
/// # Errors
/// Never: both are constants that parse.
pub fn address() -> anyhow::Result<(VipAddress, InterfaceName)> {
    Ok((format!("{VIP}/24").parse()?, "eth0".parse()?))
}
