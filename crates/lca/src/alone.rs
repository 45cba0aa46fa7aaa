//! What the agent does by itself: roles that it takes and VIPs that it enables while there is no SCS, and VIPs that it
//! withdraws, SCS or not, when their lease ends and no gate stands before them.

use crate::agent::Agent;
use control_link::messages::Fact;
use domain::{
    AppName, AppReport, Epoch, Launch, LaunchWhat, LogEvent, Micros, PairName, RefId, RunMode, TakenOver,
    VipAddress, VipControl, VipVerb, events,
};
use lca_core::keeper::{Reason, Server};
use lca_core::supervisor::Input;
use std::time::Duration;

/// References of the agent's own orders, above any that an SCS gives out.
const OWN_REFS: u64 = 1 << 52;
/// How long a script may run that the agent launches by itself; the script's own limit may be shorter.
const OWN_LAUNCH_LIMIT: Duration = Duration::from_secs(30);
/// How often it is looked for VIPs that are missing, beside when something happened: what did not work is tried again.
const TEND_EVERY: Duration = Duration::from_secs(5);

/// Whether a reference is of the agent's own orders, which nobody else waits for.
pub fn is_own(ref_id: RefId) -> bool {
    ref_id.0 > OWN_REFS
}

impl Agent {
    /// Without an SCS: what it would order, in the same order.
    pub(crate) fn take_over(&mut self, pair: PairName, app: AppName, epoch: Epoch, why: Reason, now: Micros) {
        let peer = self.peer_app(&pair).map_or_else(|| "the other member".to_owned(), |app| app.to_string());
        let why = match why {
            Reason::PeerFailed { epoch } => {
                format!("{peer} failed and let go of epoch {epoch}, {app} is ready")
            }
            Reason::BackAgain => format!("{app} had failed, {peer} did not take over, {app} is ready again"),
        };
        self.say.notice(format_args!("application {app} becomes primary without an SCS: {why}"));
        let taking = TakenOver { pair: pair.clone(), app: app.clone(), epoch, at: now, why };
        self.book.taking.insert(pair, taking);
        self.own_order(&app, RunMode::Primary, epoch, now);
    }

    /// The lease is won. A role that was taken without an SCS counts from now on, for the SCS too: before, its epoch might be
    /// above that of a role that somebody really has.
    pub(crate) fn taken_over(&mut self, pair: &PairName, epoch: Epoch, now: Micros) {
        let Some(taking) = self.book.taking.remove(pair) else { return };
        let event =
            LogEvent::new(events::TOOK_OVER_ALONE, now).on(&self.host).of(&taking.app).because(&taking.why);
        self.report(Fact::Log(event.with("pair", pair).with("epoch", epoch)), now);
        // Maybe a greater epoch than the one that the role was taken under.
        self.book.taken.insert(pair.clone(), TakenOver { epoch, ..taking });
        // One that came back before the lease was won has heard nothing of it.
        self.tell_again(now);
    }

    /// An SCS orders the application's run mode: what this agent was about to decide is of no account any more.
    pub(crate) fn decided_by_scs(&mut self, app: &AppName) {
        self.book.taking.retain(|_, taking| taking.app != *app);
    }

    /// The pair's lease was let go, and whatever role there was with it.
    pub(crate) fn let_go_of_role(&mut self, pair: &PairName) {
        self.book.taken.remove(pair);
        self.book.taking.remove(pair);
    }

    fn own_ref(&mut self) -> RefId {
        self.book.own_refs += 1;
        RefId(OWN_REFS + self.book.own_refs)
    }

    pub(crate) fn own_order(&mut self, app: &AppName, mode: RunMode, epoch: Epoch, now: Micros) {
        let ref_id = self.own_ref();
        self.dirty = true;
        self.step(app, Input::RunModeOrdered { ref_id, mode, epoch }, now);
    }

    /// When [`Agent::tend`] is due next.
    pub(crate) fn tend_deadline(&self) -> Option<Micros> {
        let alone = !self.session.is_up() && self.keepers.iter().next().is_some();
        alone.then_some(self.book.tend_at)
    }

    /// Something happened that VIPs may be missing for.
    pub(crate) fn tend_soon(&mut self, now: Micros) {
        self.book.tend_at = now;
    }

    /// Without an SCS: enables what is missing. It may have gone between its two orders, to be primary and to enable the
    /// VIPs; and an address that the last run of this agent held has run out when this one comes late.
    pub(crate) fn tend(&mut self, now: Micros) {
        if self.session.is_up() || now < self.book.tend_at {
            return;
        }
        self.book.tend_at = now + TEND_EVERY;
        let held = self.keepers.iter().filter(|(pair, _)| self.keepers.holds(pair, now));
        let held: Vec<PairName> = held.map(|(pair, _)| pair.clone()).collect();
        for pair in held {
            self.enable_missing(&pair, now);
        }
    }

    /// This host holds the pair's lease: enables its VIPs that are not here, as the pair's reactions would, but for those that
    /// an SCS can see to.
    pub(crate) fn enable_missing(&mut self, pair: &PairName, now: Micros) {
        let Some(Server::Primary { granted }) = self.keepers.server_is(pair) else { return };
        let Some(member) = self.member_of_pair(pair) else { return };
        // A newer grant than its own was seen: an SCS was about to give the role to the other.
        if self.unsettled.contains(pair) || member.supervised.greatest_epoch() > granted {
            return;
        }
        let confirmed = member.supervised.is_primary();
        let missing = match self.session.is_up() {
            true => self.vips.suspended(pair),
            false => self.vips.missing(pair, granted),
        };
        for vip in missing {
            // A script is not run for a server that may still refuse to be primary.
            if confirmed || self.vips.is_built_in(&vip) {
                self.launch_alone(pair, vip, VipVerb::Enable, granted, now);
            }
        }
    }

    /// The lease is not held any more, or an agent that starts finds it so.
    pub(crate) fn withdraw(&mut self, pair: &PairName, now: Micros) {
        let exposed = self.keepers.gates().missing(pair).map(str::to_owned);
        let by_script = self.vips.lost(pair, exposed.is_some(), now, &mut self.facts);
        self.report_facts(now);
        self.book.tell_at = now;
        if by_script.is_empty() {
            return;
        }
        let epoch = self.member_of_pair(pair).map(|member| member.supervised.greatest_epoch());
        for vip in by_script {
            let why = exposed.as_deref().unwrap_or_default();
            self.say.warning(format_args!(
                "the lease on {vip} is not held and no gate stands before it ({why}): its script is run to disable it"
            ));
            self.launch_alone(pair, vip, VipVerb::Disable, epoch.unwrap_or_default(), now);
        }
    }

    /// A gate fell, maybe before VIPs whose lease is not held.
    pub(crate) fn withdraw_all_exposed(&mut self, now: Micros) {
        let pairs = self.keepers.iter().map(|(pair, _)| pair);
        let pairs: Vec<PairName> = pairs.filter(|pair| !self.keepers.holds(pair, now)).cloned().collect();
        for pair in pairs {
            if self.keepers.gates().missing(&pair).is_some() {
                self.withdraw(&pair, now);
            }
        }
    }

    /// Has a VIP enabled or disabled, unless it is about to be enabled.
    fn launch_alone(
        &mut self,
        pair: &PairName,
        address: VipAddress,
        verb: VipVerb,
        epoch: Epoch,
        now: Micros,
    ) {
        let settings = self.cluster().pairs.get(pair);
        let Some(vip) = settings.and_then(|pair| pair.vips.iter().find(|vip| vip.address == address)) else {
            return;
        };
        let Some(interface) = vip.interfaces.get(&self.host).cloned() else { return };
        let script = match &vip.control {
            VipControl::BuiltIn => None,
            VipControl::Script(script) => Some(script.clone()),
        };
        if verb == VipVerb::Enable && self.launches.last_waiting(&address) == Some(verb) {
            return;
        }
        let (app, mode) = match self.member_of_pair(pair) {
            Some(member) => {
                let AppReport { app, mode, .. } = member.supervised.report();
                (Some(app), mode)
            }
            None => (None, None),
        };
        let taken = self.book.taken.contains_key(pair) || self.book.taking.contains_key(pair);
        let launch = Launch {
            ref_id: self.own_ref(),
            what: LaunchWhat::VipControl { verb, vip: address, interface, script },
            pair: Some(pair.clone()),
            app,
            mode,
            epoch,
            event: taken.then_some(events::TOOK_OVER_ALONE),
            alarm: String::new(),
            time_limit: OWN_LAUNCH_LIMIT,
        };
        self.launch_ready(Box::new(launch), now);
    }

    pub(crate) fn peer_app(&self, pair: &PairName) -> Option<AppName> {
        let pair = self.cluster().pairs.get(pair)?;
        pair.members.iter().find(|app| self.cluster().host_of(app) != Some(&self.host)).cloned()
    }
}
