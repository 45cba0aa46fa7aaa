//! Truth from outside: after a role change the host of the other member asks the network who has the VIPs, and the change
//! is complete when the answer is the new holder. The same answers, asked for now and then by the agents themselves,
//! raise "VIP seen on two hosts" and "VIP without a holder", whatever the agents believe.

use crate::state::State;
use crate::{Action, Input, LaunchRequest, Phase};
use domain::{
    AppName, HostName, InterfaceName, LaunchWhat, LogEvent, MacAddress, Micros, Pair, PairName, RunMode,
    VipAddress, events,
};
use std::time::Duration;

/// After so many answers that are not the new holder's an alarm is raised.
const ALARM_AFTER: u32 = 3;
/// Pause before the network is asked again; grows with each time.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// Longest pause.
const ASK_AGAIN_MOST: Duration = Duration::from_secs(10);

/// How far the verification of a role change is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Verification {
    /// Nothing is to be verified.
    #[default]
    None,
    /// The network was asked; sightings from then on count.
    Asked {
        /// When.
        at: Micros,
        /// How often so far.
        times: u32,
    },
    /// The answer was not the new holder's: announced anew, asked again later.
    Doubted {
        /// When to ask again.
        again_at: Micros,
        /// How often it was asked so far.
        times: u32,
    },
}

/// A single odd answer outside of a role change, about which it was asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Doubt {
    /// When to ask again, if the inquiry told nothing.
    again_at: Micros,
    /// How often it was asked so far.
    times: u32,
}

/// The pause behind the inquiry of this number.
fn pause(times: u32) -> Duration {
    ASK_AGAIN.saturating_mul(1 << times.min(10)).min(ASK_AGAIN_MOST)
}

/// What an observer's answer says about a holder.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    /// Nothing newer than the question.
    NotYet,
    /// The holder answers, and nobody else.
    Confirmed,
    /// Something else, in words.
    Other(String),
}

impl State {
    /// Whether a role change that is complete as far as agents tell is so from outside too. Asks where it was not asked.
    pub(crate) fn verified(
        &mut self,
        name: &PairName,
        pair: &Pair,
        wanted: &AppName,
        now: Micros,
        out: &mut Vec<Action>,
    ) -> bool {
        let Some(observer) = self.observer(pair, wanted) else {
            if !pair.vips.is_empty() && self.pairs[name].incident.is_some() {
                let text = "not verified from outside: no other host of the pair can be asked".to_owned();
                self.note(name, Phase::Verified, now, None, text);
            }
            self.set_verification(name, Verification::None);
            return true;
        };
        match self.pairs[name].verification.clone() {
            Verification::None => {
                self.ask_who_has(name, pair, wanted, &observer, now, 1);
                false
            }
            Verification::Asked { at, times } => {
                let seen: Vec<(VipAddress, Seen)> = pair
                    .vips
                    .iter()
                    .map(|vip| (vip.address, self.seen(&vip.address, &observer, wanted, at)))
                    .collect();
                if let Some((vip, what)) = seen.iter().find_map(|(vip, seen)| match seen {
                    Seen::Other(what) => Some((*vip, what.clone())),
                    Seen::NotYet => Some((*vip, "no answer was reported".to_owned())),
                    Seen::Confirmed => None,
                }) {
                    self.doubt(name, pair, wanted, &observer, &vip, &what, times, now, out);
                    return false;
                }
                let holder = self.host_of(wanted).cloned();
                let text = format!(
                    "{observer} asked the network: {} answers",
                    holder.as_ref().map_or_else(String::new, ToString::to_string)
                );
                self.note(name, Phase::Verified, now, Some(observer), text);
                self.set_verification(name, Verification::None);
                let state = self.pairs.get_mut(name);
                if state.is_some_and(|state| std::mem::take(&mut state.not_confirmed)) {
                    let event = LogEvent::new(events::VIP_CONFIRMED, now).because(name).with("pair", name);
                    self.log(event.of(&pair.members[0]), out);
                }
                true
            }
            Verification::Doubted { again_at, times } if again_at <= now => {
                self.ask_who_has(name, pair, wanted, &observer, now, times + 1);
                false
            }
            Verification::Doubted { .. } => false,
        }
    }

    /// When it is to be asked again.
    pub(crate) fn verification_deadline(&self, name: &PairName) -> Option<Micros> {
        let state = &self.pairs[name];
        let verification = match state.verification {
            Verification::Doubted { again_at, .. } => Some(again_at),
            Verification::None | Verification::Asked { .. } => None,
        };
        let due = [verification, state.doubt.map(|doubt| doubt.again_at)];
        due.into_iter().flatten().filter(|at| *at > state.settled_at).min()
    }

    /// Whether observers said twice in a row that nobody answers for a VIP of the pair, or several hosts do. After the first
    /// time it is asked at once, because a single answer may be of the moment of a change.
    pub(crate) fn seen_wrong(&mut self, name: &PairName, pair: &Pair, now: Micros) -> (bool, bool) {
        let state = &self.pairs[name];
        let Some(wanted) = state.wanted.clone().filter(|_| state.change.is_none()) else {
            return (false, false);
        };
        let Some(observer) = self.observer(pair, &wanted) else { return (false, false) };
        let (mut nobody, mut several, mut doubtful) = (false, false, false);
        for vip in &pair.vips {
            let Some(seen) = self.sightings.get(&(vip.address, observer.clone())) else { continue };
            nobody |= seen.odd >= 2 && seen.holders.is_empty();
            several |= seen.odd >= 2 && seen.holders.len() > 1;
            doubtful |= seen.odd == 1 && seen.holders.len() != 1;
        }
        self.ask_in_doubt(name, pair, &wanted, &observer, doubtful, now);
        (nobody, several)
    }

    /// Asks once more about a single odd answer. An inquiry that fails tells nothing, so the doubt stays: then after a pause.
    fn ask_in_doubt(
        &mut self,
        name: &PairName,
        pair: &Pair,
        wanted: &AppName,
        observer: &HostName,
        doubtful: bool,
        now: Micros,
    ) {
        let asking = self.launches.values().any(|l| l.launch.pair.as_ref() == Some(name));
        let idle = !asking && self.inbox.is_empty();
        let Some(state) = self.pairs.get_mut(name) else { return };
        if !doubtful {
            state.doubt = None;
            return;
        }
        let times = match state.doubt {
            Some(doubt) if now < doubt.again_at => return,
            Some(doubt) => doubt.times + 1,
            None => 1,
        };
        if idle {
            state.doubt = Some(Doubt { again_at: now + pause(times), times });
            self.request_sighting(name, pair, wanted, observer);
        }
    }

    /// The host from which the network can be asked about the VIPs of a pair that `holder` has.
    fn observer(&self, pair: &Pair, holder: &AppName) -> Option<HostName> {
        let other = pair.other(holder);
        let host = self.host_of(other).filter(|_| self.reachable(other))?;
        let state = self.hosts.get(host).filter(|state| state.finds_holders)?;
        let up = |interface: &InterfaceName| state.interfaces.get(interface) == Some(&true);
        let can = |vip: &domain::Vip| vip.interfaces.get(host).is_some_and(up);
        (!pair.vips.is_empty() && pair.vips.iter().all(can)).then(|| host.clone())
    }

    fn ask_who_has(
        &mut self,
        name: &PairName,
        pair: &Pair,
        wanted: &AppName,
        observer: &HostName,
        now: Micros,
        times: u32,
    ) {
        self.set_verification(name, Verification::Asked { at: now, times });
        self.request_sighting(name, pair, wanted, observer);
    }

    fn request_sighting(&mut self, name: &PairName, pair: &Pair, wanted: &AppName, observer: &HostName) {
        for vip in &pair.vips {
            let Some(interface) = vip.interfaces.get(observer).cloned() else { continue };
            let what = LaunchWhat::FindHolder { vip: vip.address, interface };
            self.request(name, observer, wanted, what);
        }
    }

    fn request(&mut self, name: &PairName, host: &HostName, app: &AppName, what: LaunchWhat) {
        let request = LaunchRequest {
            host: host.clone(),
            what,
            pair: Some(name.clone()),
            app: Some(app.clone()),
            mode: Some(RunMode::Primary),
            event: None,
            alarm: String::new(),
        };
        self.inbox.push_back(Input::LaunchRequested { request });
    }

    #[expect(clippy::too_many_arguments, reason = "the facts of one sentence")]
    fn doubt(
        &mut self,
        name: &PairName,
        pair: &Pair,
        wanted: &AppName,
        observer: &HostName,
        vip: &VipAddress,
        what: &str,
        times: u32,
        now: Micros,
        out: &mut Vec<Action>,
    ) {
        let again_at = now + pause(times);
        self.set_verification(name, Verification::Doubted { again_at, times });
        let text = format!("{observer} asked the network who has {}: {what}", vip.address);
        self.note(name, Phase::Verified, now, Some(observer.clone()), text.clone());
        if let Some(host) = self.host_of(wanted).cloned() {
            for vip in &pair.vips {
                let Some(interface) = vip.interfaces.get(&host).cloned() else { continue };
                self.request(name, &host, wanted, LaunchWhat::Announce { vip: vip.address, interface });
            }
        }
        if times == ALARM_AFTER {
            if let Some(state) = self.pairs.get_mut(name) {
                state.not_confirmed = true;
            }
            let event = LogEvent::new(events::VIP_NOT_CONFIRMED, now).because(text).with("pair", name);
            self.log(event.of(&pair.members[0]), out);
        }
    }

    fn seen(&self, vip: &VipAddress, observer: &HostName, wanted: &AppName, asked: Micros) -> Seen {
        let Some(seen) = self.sightings.get(&(*vip, observer.clone())).filter(|seen| seen.told >= asked)
        else {
            return Seen::NotYet;
        };
        let holder = self.host_of(wanted);
        let name = |mac: MacAddress| self.host_at(mac).map_or_else(|| mac.to_string(), ToString::to_string);
        match seen.holders.as_slice() {
            [] => Seen::Other("nobody answers".to_owned()),
            // One whose Ethernet address is not known is taken at its word.
            [one] if self.host_at(one.mac).is_none_or(|host| Some(host) == holder) => Seen::Confirmed,
            [one] => Seen::Other(format!("{} answers", name(one.mac))),
            several => {
                let names: Vec<_> = several.iter().map(|one| name(one.mac)).collect();
                Seen::Other(format!("{} answer", names.join(" and ")))
            }
        }
    }

    fn set_verification(&mut self, name: &PairName, verification: Verification) {
        if let Some(state) = self.pairs.get_mut(name) {
            state.verification = verification;
        }
    }
}
