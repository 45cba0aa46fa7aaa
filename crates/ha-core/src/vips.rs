//! The safety net under the alarm-driven moves: what is known of a VIP is compared with where it belongs, and put right
//! when it has been wrong for a while and nothing is under way.

use crate::incidents::IncidentKind;
use crate::state::State;
use crate::{Action, LaunchRequest};
use domain::{
    AppName, AppStatus, HostName, LaunchWhat, LogEvent, Micros, Pair, PairName, RunMode, Vip, VipControl,
    VipVerb, events,
};
use std::time::Duration;

/// How long a VIP may be out of place before the safety net acts; doubles with each try up to [`PATIENCE_MOST`].
const PATIENCE: Duration = Duration::from_millis(200);
/// Longest pause between two tries.
const PATIENCE_MOST: Duration = Duration::from_secs(10);

impl State {
    /// Puts right what has been out of place for too long.
    pub(crate) fn place_vips(&mut self, name: &PairName, pair: &Pair, now: Micros, out: &mut Vec<Action>) {
        // While a planned switchover is between the two members, the address is where the workflow has it.
        let planned = |c: &crate::state::RoleChange| c.kind == IncidentKind::Manual;
        if self.pairs[name].change.as_ref().is_some_and(|c| planned(c) && !self.runs_as_primary(name, &c.to))
        {
            return;
        }
        for app in &pair.members {
            let Some(host) = self.host_of(app).cloned().filter(|_| self.reachable(app)) else { continue };
            let belongs = self.belongs(name, app);
            for vip in &pair.vips {
                let quiet = !self.launches.values().any(|l| l.host == host && is_about(&l.launch.what, vip));
                let Some(place) = self.vips.get_mut(&(host.clone(), vip.address)) else { continue };
                let Some(present) = place.present else { continue };
                if present == belongs {
                    place.misplaced = None;
                    place.tries = 0;
                    place.script_failed = false;
                    continue;
                }
                let since = *place.misplaced.get_or_insert(now);
                if quiet && now >= since + patience(place.tries) {
                    place.misplaced = Some(now);
                    place.tries += 1;
                    self.put_right(name, app, &host, vip, belongs, now, out);
                }
            }
        }
    }

    /// Whether the pair's VIPs belong on the host of `app`.
    fn belongs(&self, name: &PairName, app: &AppName) -> bool {
        let report = self.apps[app].report.as_ref();
        self.pairs[name].wanted.as_ref() == Some(app)
            && report.is_some_and(|r| r.status == AppStatus::Started && r.mode == Some(RunMode::Primary))
    }

    #[expect(clippy::too_many_arguments, reason = "the facts of one misplaced address")]
    fn put_right(
        &mut self,
        name: &PairName,
        app: &AppName,
        host: &HostName,
        vip: &Vip,
        belongs: bool,
        now: Micros,
        out: &mut Vec<Action>,
    ) {
        let Some(interface) = vip.interfaces.get(host).cloned() else { return };
        let verb = if belongs { VipVerb::Enable } else { VipVerb::Disable };
        let failed = self.vips.get(&(host.clone(), vip.address)).is_some_and(|place| place.script_failed);
        let script = match &vip.control {
            VipControl::Script(script) if !failed => Some(script.clone()),
            VipControl::Script(_) | VipControl::BuiltIn => None,
        };
        let what = LaunchWhat::VipControl { verb, vip: vip.address, interface, script };
        let event =
            LogEvent::new(events::VIP_MISPLACED, now).because(format!("{what} on {host}")).on(host).of(app);
        self.log(event.with("pair", name), out);
        let request = LaunchRequest {
            host: host.clone(),
            what,
            pair: Some(name.clone()),
            app: Some(app.clone()),
            mode: self.apps[app].mode(),
            event: Some(events::VIP_MISPLACED),
            alarm: String::new(),
        };
        self.inbox.push_back(crate::Input::LaunchRequested { request });
    }

    /// After a host that had been out of sight let go: the survivor announces, so that no neighbour keeps the old one.
    pub(crate) fn announce_if_due(&mut self, name: &PairName, pair: &Pair) {
        let state = &self.pairs[name];
        let Some(wanted) = state.wanted.clone().filter(|_| state.announce_due) else { return };
        let Some(host) = self.host_of(&wanted).cloned() else { return };
        if !self.runs_as_primary(name, &wanted) || !self.vips_in_place(pair, &wanted) {
            return;
        }
        if let Some(state) = self.pairs.get_mut(name) {
            state.announce_due = false;
        }
        for vip in &pair.vips {
            let Some(interface) = vip.interfaces.get(&host).cloned() else { continue };
            let request = LaunchRequest {
                host: host.clone(),
                what: LaunchWhat::Announce { vip: vip.address, interface },
                pair: Some(name.clone()),
                app: Some(wanted.clone()),
                mode: Some(RunMode::Primary),
                event: None,
                alarm: String::new(),
            };
            self.inbox.push_back(crate::Input::LaunchRequested { request });
        }
    }

    /// Whether all VIPs are known to be on the host of `holder`, and on no other host that can be reached.
    pub(crate) fn vips_in_place(&self, pair: &Pair, holder: &AppName) -> bool {
        pair.members.iter().filter(|m| self.reachable(m)).all(|member| {
            let Some(host) = self.host_of(member) else { return false };
            pair.vips.iter().all(|vip| {
                let present = self.vips.get(&(host.clone(), vip.address)).and_then(|place| place.present);
                present == Some(member == holder)
            })
        })
    }

    /// When the safety net has waited long enough for an address of this pair.
    pub(crate) fn vip_deadline(&self, name: &PairName, pair: &Pair) -> Option<Micros> {
        let settled_at = self.pairs[name].settled_at;
        let hosts = pair.members.iter().filter_map(|m| self.host_of(m));
        hosts
            .flat_map(|host| pair.vips.iter().map(move |vip| (host, vip)))
            .filter(|(host, vip)| {
                !self.launches.values().any(|l| &&l.host == host && is_about(&l.launch.what, vip))
            })
            .filter_map(|(host, vip)| self.vips.get(&(host.clone(), vip.address)))
            .filter_map(|place| place.misplaced.map(|since| since + patience(place.tries)))
            .filter(|due| *due > settled_at)
            .min()
    }
}

fn patience(tries: u32) -> Duration {
    PATIENCE.saturating_mul(1 << tries.min(10)).min(PATIENCE_MOST)
}

fn is_about(what: &LaunchWhat, of: &Vip) -> bool {
    match what {
        LaunchWhat::VipControl { vip, .. } => vip == &of.address,
        LaunchWhat::Announce { .. } | LaunchWhat::FindHolder { .. } | LaunchWhat::Script { .. } => false,
    }
}
