//! What processes do: become ready, beat, answer what they are told, end; scripts, and inquiries on the wire.

use super::{Event, World};
use crate::agent;
use crate::message::Node;
use crate::process::{Process, Said, Told};
use crate::scenario::Moment;
use domain::{
    AppName, Launch, LaunchOutcome, LaunchResult, LaunchWhat, RunMode, SeenHolder, VipSighting, VipVerb,
};
use lca_core::supervisor::Exit;

/// How often a server shows that it lives; its limit is a second.
const BEAT_US: u64 = 400_000;

/// What a process does next.
#[derive(Debug, Clone, Copy)]
pub(super) enum Does {
    BecomesReady,
    Beats,
    Hears(Told),
    GetsInStep,
    Ends(Exit),
}

impl World {
    /// A process is made.
    pub(super) fn spawn(&mut self, host: usize, app: &AppName) {
        let run = self.hosts[host].run;
        let refuses = self.hosts[host].refusing.contains(app);
        let pid = self.hosts[host].new_pid();
        // The worker had better not be asked twice: the old one would be orphaned.
        assert!(
            !self.hosts[host].processes.contains_key(app),
            "{app} is started twice on {}",
            Node::Host(host)
        );
        self.hosts[host].processes.insert(app.clone(), Process::new(pid, refuses));
        let (made, ready) = (self.random.between(500..=8_000), self.random.between(10_000..=400_000));
        self.after(made, Event::News { host, run, news: agent::Event::Started(app.clone(), pid) });
        self.process_will(host, app, pid, made + ready, Does::BecomesReady);
        self.say(|| format!("{} starts {app}, process {pid}", Node::Host(host)));
    }

    fn process_will(&mut self, host: usize, app: &AppName, pid: u32, after_us: u64, does: Does) {
        self.after(after_us, Event::Process { host, app: app.clone(), pid, does });
    }

    pub(super) fn process_does(&mut self, host: usize, app: &AppName, pid: u32, does: Does) {
        let Some(process) = self.hosts[host].processes.get_mut(app).filter(|p| p.pid == pid) else { return };
        match does {
            Does::BecomesReady => {
                process.ready = true;
                process.synced = false;
                self.says(host, app, pid, Said::Ready);
                let in_step = self.random.between(1_000..=100_000);
                self.process_will(host, app, pid, in_step, Does::GetsInStep);
                self.process_will(host, app, pid, BEAT_US, Does::Beats);
            }
            Does::Beats => {
                if !process.hung {
                    self.says(host, app, pid, Said::Alive);
                }
                self.process_will(host, app, pid, BEAT_US, Does::Beats);
            }
            Does::Hears(told) => {
                if !process.ready {
                    return;
                }
                let before = process.mode;
                let said = process.told(told);
                let promoted = before != RunMode::Primary && process.mode == RunMode::Primary;
                if told == Told::Hello {
                    self.says(host, app, pid, Said::Connected);
                }
                for said in said {
                    self.says(host, app, pid, said);
                }
                self.judge.something_changed();
                if promoted {
                    self.moment(Moment::Promoted);
                }
            }
            Does::GetsInStep => {
                process.synced = true;
                if !process.hung {
                    self.says(host, app, pid, Said::Synced(true));
                }
            }
            Does::Ends(exit) => {
                self.hosts[host].processes.remove(app);
                self.judge.something_changed();
                self.says(host, app, pid, Said::Exited(exit));
                self.say(|| format!("{}: {app}, process {pid}, ends: {exit:?}", Node::Host(host)));
            }
        }
    }

    pub(super) fn says(&mut self, host: usize, app: &AppName, pid: u32, said: Said) {
        let run = self.hosts[host].run;
        let delay = self.random.between(5..=60);
        let at = self.hosts[host].on_socket(app, 1, self.now + delay);
        self.at(at, Event::News { host, run, news: agent::Event::Said(app.clone(), pid, said) });
    }

    pub(super) fn process_ends(&mut self, host: usize, app: &AppName, after_us: u64, exit: Exit) {
        if let Some(pid) = self.hosts[host].processes.get(app).map(|process| process.pid) {
            self.process_will(host, app, pid, after_us, Does::Ends(exit));
        }
    }

    /// A server's whims are changed from outside.
    pub(super) fn change_process(
        &mut self,
        host: usize,
        app: &AppName,
        change: impl FnOnce(&mut Process) -> Vec<Said>,
    ) {
        let Some(process) = self.hosts[host].processes.get_mut(app) else { return };
        let said = change(process);
        let pid = process.pid;
        for said in said {
            self.says(host, app, pid, said);
        }
        self.judge.something_changed();
    }

    pub(super) fn host_of(&self, app: &AppName) -> Option<usize> {
        let name = self.cluster.host_of(app)?;
        self.names.iter().position(|host| host == name)
    }

    // ---- scripts, and what is asked on the wire ----

    pub(super) fn run_script(&mut self, host: usize, launch: Box<Launch>) {
        let (boot, run) = (self.hosts[host].boot, self.hosts[host].run);
        let takes = self.random.between(3_000..=120_000);
        self.after(takes, Event::ScriptEnds { host, boot, run, launch });
    }

    pub(super) fn script_ends(&mut self, host: usize, boot: u64, run: u64, launch: &Launch) {
        if self.hosts[host].boot != boot || !self.hosts[host].powered {
            return;
        }
        let outcome = if self.hosts[host].scripts_fail {
            LaunchOutcome::Exited { code: 1 }
        } else {
            if let LaunchWhat::VipControl { verb, vip, .. } = &launch.what {
                self.set_address(host, *vip, *verb == VipVerb::Enable, true);
            }
            LaunchOutcome::Succeeded
        };
        let result = LaunchResult { ref_id: launch.ref_id, outcome, output: String::new(), took_us: 1_000 };
        self.after(0, Event::News { host, run, news: agent::Event::ScriptEnded(result) });
    }

    /// An agent asks on the wire who has a VIP: the answers are in after a moment.
    pub(super) fn inquire(&mut self, host: usize, launch: Box<Launch>) {
        let run = self.hosts[host].run;
        let takes = self.random.between(500..=20_000);
        self.after(takes, Event::Inquired { host, run, launch });
    }

    pub(super) fn inquired(&mut self, host: usize, run: u64, launch: &Launch) {
        let LaunchWhat::FindHolder { vip, interface } = &launch.what else { return };
        let now = self.local(Node::Host(host));
        let answers = |other: usize| {
            let (here, there) = (Node::Host(host), Node::Host(other));
            other != host
                && !self.network.is_cut(here, there)
                && !self.network.is_cut(there, here)
                && self.judge.answers(&self.hosts[other], *vip, self.now)
        };
        let holders = (0..self.hosts.len()).filter(|other| answers(*other));
        let holders: Vec<_> =
            holders.map(|other| SeenHolder { mac: agent::mac_of(other), at: now }).collect();
        let sighting = VipSighting { vip: *vip, interface: interface.clone(), asked: now, holders };
        let news = agent::Event::Sighted(launch.ref_id, sighting);
        self.after(0, Event::News { host, run, news });
    }
}
