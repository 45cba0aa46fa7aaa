//! What would happen if something failed now. Nothing here is a second opinion on the decision: a copy of the state is dealt
//! the fault as the core would hear of it, agents are imagined that answer what they are told at once, and what comes of it
//! is put into words. What the lease adds in time follows from its arithmetic ([`lease::Timing`]).
//!
//! What this cannot foresee is what it does not know: how long a program takes for its change of mode, and a packet for its
//! way. Where nothing has to be waited for it says so, and not how many milliseconds that are.

mod imagined;
mod part;
mod words;

use crate::Lost;
use crate::state::State;
use domain::{
    AppName, AppReport, AppStatus, Cause, GateReport, HostName, Micros, OnHang, Pair, PairName, Redundancy,
    RunMode, VipControl,
};
use imagined::Imagined;
use lease::Timing;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How far the imagination goes, beyond what a cold backup's start may take: what has not settled by then (a flap guard's
/// hold-down, a failback) is what comes next.
const HORIZON: Duration = Duration::from_secs(60);

/// Something that may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The primary's process ends.
    PrimaryDies,
    /// The primary's process is there and does nothing.
    PrimaryHangs,
    /// The primary's host is without power.
    PrimaryHostDies,
    /// The primary's host runs and reaches nobody.
    PrimaryHostCut,
    /// The agent of the primary's host dies and is not started again.
    PrimaryAgentDies,
    /// The backup's host is without power.
    BackupHostDies,
    /// The two hosts' agents do not hear each other.
    PeerLinkCut,
    /// The SCS is gone.
    ScsDies,
}

impl Fault {
    /// All of them, the likeliest first.
    pub const ALL: [Fault; 8] = [
        Fault::PrimaryDies,
        Fault::PrimaryHangs,
        Fault::PrimaryHostDies,
        Fault::PrimaryHostCut,
        Fault::PrimaryAgentDies,
        Fault::BackupHostDies,
        Fault::PeerLinkCut,
        Fault::ScsDies,
    ];
}

/// What would happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Consequence {
    /// If this failed.
    pub fault: Fault,
    /// The same with names, a few words.
    pub title: String,
    /// What would happen, a sentence or a few.
    pub text: String,
    /// How long after it the SCS would know, microseconds; none: it would not.
    pub noticed_us: Option<u64>,
    /// Whether the role would move.
    pub moves: bool,
    /// Who would serve in the end; none: nobody by itself.
    pub primary: Option<AppName>,
    /// How long nobody would serve, at the worst, microseconds, beyond the milliseconds that a change of mode itself takes;
    /// 0: nothing has to be waited for, or nothing is interrupted; none: service would not come back by itself.
    pub away_us: Option<u64>,
    /// How many other voters would confirm the lease's holder then, of 2; none: there is no lease, or no holder.
    pub backing: Option<u8>,
    /// Alarm Conditions that would become active.
    pub alarms: Vec<String>,
    /// What would be wrong then, as `trouble` of the pair's view.
    pub trouble: Vec<String>,
    /// What the product would do next by itself.
    pub next: String,
}

/// A pair as it stands when the fault comes.
struct Scene<'s> {
    state: &'s State,
    name: &'s PairName,
    pair: &'s Pair,
    now: Micros,
    primary: &'s AppName,
    backup: &'s AppName,
    primary_host: &'s HostName,
    backup_host: &'s HostName,
    timing: Timing,
}

/// How a fault shows, before anything is decided.
struct Blow {
    /// When the SCS can know, at the latest; none: never.
    noticed: Option<Duration>,
    /// When service ends because of it, at the earliest; none: it does not.
    ends: Option<Duration>,
    /// Whether the lease is let go with it; else the other has to wait until promises have run out.
    let_go: bool,
}

impl State {
    /// What would happen to a pair if something failed at `now`: one consequence for each fault that can still come.
    ///
    /// # Errors
    /// A sentence where there is no such pair, or nobody is its primary.
    pub fn consequences(&self, name: &PairName, now: Micros) -> Result<Vec<Consequence>, String> {
        let part = self.part_for(name).ok_or_else(|| format!("there is no pair {name}"))?;
        let nobody = || format!("{name} has no primary now: `takeover status` says what it waits for");
        let pair = &part.cluster.pairs[name];
        let primary = part.pairs[name].wanted.as_ref().ok_or_else(nobody)?;
        let backup = pair.other(primary);
        let hosts = part.host_of(primary).zip(part.host_of(backup));
        let (primary_host, backup_host) = hosts.ok_or_else(nobody)?;
        let scene = Scene {
            state: &part,
            name,
            pair,
            now,
            primary,
            backup,
            primary_host,
            backup_host,
            timing: Timing::from(pair.profile),
        };
        Ok(Fault::ALL
            .into_iter()
            .filter(|fault| scene.may_come(*fault))
            .map(|fault| scene.follow(fault))
            .collect())
    }
}

impl Scene<'_> {
    /// Whether what would fail is there.
    fn may_come(&self, fault: Fault) -> bool {
        let heard = |app| self.state.reachable(app);
        match fault {
            Fault::PrimaryDies | Fault::PrimaryHangs => {
                heard(self.primary) && self.state.apps[self.primary].status().is_up()
            }
            Fault::PrimaryHostDies | Fault::PrimaryHostCut | Fault::PrimaryAgentDies => heard(self.primary),
            Fault::BackupHostDies => heard(self.backup),
            Fault::PeerLinkCut => {
                heard(self.primary) && heard(self.backup) && self.state.hear_each_other(self.pair)
            }
            Fault::ScsDies => true,
        }
    }

    fn follow(&self, fault: Fault) -> Consequence {
        let blow = self.blow(fault);
        let mut world = Imagined::new(self.state.clone(), self.name, self.now);
        self.strike(fault, &blow, &mut world);
        world.go_on(self.now + HORIZON + self.start_of_backup());
        let moves = world.state.pairs[self.name].wanted.as_ref() != Some(self.primary);
        let backing = world.backing();
        let starves = backing == Some(0);
        let serves = world.serving().cloned().filter(|_| !starves);
        let away = self.away(&blow, &world, moves, serves.is_some());
        let view = world.state.view(world.now);
        let pair = view.pairs.into_iter().find(|pair| pair.name == *self.name);
        let (trouble, next) = pair.map(|pair| (pair.trouble, pair.next)).unwrap_or_default();
        let mut told = Consequence {
            fault,
            title: words::title(self, fault),
            text: String::new(),
            noticed_us: blow.noticed.map(micros),
            moves,
            primary: serves,
            away_us: away.map(micros),
            backing,
            alarms: world.raised.into_iter().collect(),
            trouble,
            next,
        };
        let then = &world.state.pairs[self.name];
        told.text = words::text(self, &told, &then.reason, then.frozen_how().is_some());
        told
    }

    /// How long nobody serves, at the worst; none: for good.
    fn away(&self, blow: &Blow, world: &Imagined, moves: bool, serves: bool) -> Option<Duration> {
        if !serves {
            return None;
        }
        let Some(ends) = blow.ends.filter(|_| moves || world.served_again.is_some()) else {
            return Some(Duration::ZERO);
        };
        let decided = world.served_again.unwrap_or(self.now).since(self.now);
        let granted =
            if blow.let_go || self.pair.vips.is_empty() { Duration::ZERO } else { self.timing.host_cut() };
        Some(decided.max(granted).saturating_sub(ends))
    }

    fn blow(&self, fault: Fault) -> Blow {
        let silence = Some(self.pair.profile.silence()).filter(|_| !self.takes_scs(fault));
        let at_once = Some(Duration::ZERO);
        match fault {
            // Its pidfd says so.
            Fault::PrimaryDies => Blow { noticed: at_once, ends: at_once, let_go: true },
            Fault::PrimaryHangs => Blow { noticed: self.hang_noticed(), ends: at_once, let_go: true },
            Fault::PrimaryHostDies | Fault::PrimaryHostCut => {
                Blow { noticed: silence, ends: at_once, let_go: false }
            }
            // Its host's kernel closes the link. What answers goes on until the lease ends that nobody renews: at the
            // earliest, one that was to be renewed at that moment.
            Fault::PrimaryAgentDies => {
                let left = self.timing.hold().saturating_sub(self.timing.every());
                Blow { noticed: at_once, ends: Some(left), let_go: false }
            }
            Fault::BackupHostDies | Fault::PeerLinkCut => {
                Blow { noticed: silence, ends: None, let_go: false }
            }
            Fault::ScsDies => Blow { noticed: None, ends: None, let_go: false },
        }
    }

    /// When a hang of the primary is noticed, at the latest; none: nothing watches for it.
    fn hang_noticed(&self) -> Option<Duration> {
        let application = &self.state.cluster.applications[self.primary];
        let probed = application
            .probe
            .as_ref()
            .map(|probe| (probe.every.max(probe.timeout)).saturating_mul(probe.failures) + probe.timeout);
        application.watchdog.into_iter().chain(probed).min()
    }

    /// Deals the fault, as the core and the voters hear of it.
    fn strike(&self, fault: Fault, blow: &Blow, world: &mut Imagined) {
        let after = blow.noticed.unwrap_or_default();
        if self.takes_scs(fault) {
            world.without_scs();
        }
        match fault {
            Fault::PrimaryDies => {
                self.strike_server(AppStatus::Stopped, Cause::Killed(9), Duration::ZERO, world)
            }
            Fault::PrimaryHangs => {
                let Some(noticed) = blow.noticed else {
                    world.hung_unseen = true;
                    return;
                };
                match self.state.cluster.applications[self.primary].on_hang {
                    OnHang::Restart => self.strike_server(AppStatus::Stopped, Cause::Hung, noticed, world),
                    OnHang::Report => {
                        self.strike_server(AppStatus::ServiceUnavailable, Cause::Hung, noticed, world)
                    }
                }
            }
            Fault::PrimaryHostDies | Fault::PrimaryHostCut => {
                world.lose(self.primary_host, self.backup_host, Lost::Silent, after);
            }
            Fault::PrimaryAgentDies => {
                world.lose(self.primary_host, self.backup_host, Lost::Closed, Duration::ZERO);
            }
            Fault::BackupHostDies => world.lose(self.backup_host, self.primary_host, Lost::Silent, after),
            Fault::PeerLinkCut => {
                world.part(self.primary_host, self.backup_host, after);
                world.part(self.backup_host, self.primary_host, after);
            }
            Fault::ScsDies => {}
        }
    }

    /// The agent tells what became of the primary's process, and restarts it where it is to.
    fn strike_server(&self, status: AppStatus, cause: Cause, after: Duration, world: &mut Imagined) {
        let Some(report) = self.state.apps[self.primary].report.clone() else { return };
        let has_process = status.is_up();
        let built_in = self.pair.vips.iter().filter(|vip| vip.control == VipControl::BuiltIn);
        let released = if has_process { Vec::new() } else { built_in.map(|vip| vip.address).collect() };
        let failed = AppReport {
            status,
            cause: Some(cause),
            mode: report.mode.filter(|_| has_process),
            released,
            ..report.clone()
        };
        world.fail(self.primary_host, failed, after);
        let restart = self.state.cluster.applications[self.primary].restart;
        if !has_process && restart.auto {
            let back = AppReport {
                status: AppStatus::Started,
                mode: Some(RunMode::Backup),
                restarts: report.restarts.saturating_add(1),
                cause: None,
                ..report
            };
            world.start(self.primary_host, back, after + restart.delay);
        }
    }

    /// What enforces the lease under the primary.
    fn gate(&self) -> GateReport {
        let at = usize::from(&self.pair.members[0] != self.primary);
        let told = self.state.pairs[self.name].leases[at].as_ref();
        told.map_or(GateReport::Unknown, |(lease, _)| lease.gate.clone())
    }

    fn start_of_backup(&self) -> Duration {
        match self.pair.redundancy {
            Redundancy::Cold => self.state.cluster.applications[self.backup].start_limit,
            Redundancy::Hot | Redundancy::Warm => Duration::ZERO,
        }
    }

    /// Whether the fault takes the SCS with it: it has an address of the host that is lost.
    fn takes_scs(&self, fault: Fault) -> bool {
        let lost = match fault {
            Fault::PrimaryHostDies | Fault::PrimaryHostCut => self.primary_host,
            Fault::BackupHostDies => self.backup_host,
            Fault::ScsDies => return true,
            Fault::PrimaryDies | Fault::PrimaryHangs | Fault::PrimaryAgentDies | Fault::PeerLinkCut => {
                return false;
            }
        };
        let cluster = &self.state.cluster;
        let address = cluster.hosts.get(lost).map(|host| host.address);
        cluster.scs.listen.iter().any(|listen| Some(listen.ip()) == address)
    }
}

fn micros(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}
