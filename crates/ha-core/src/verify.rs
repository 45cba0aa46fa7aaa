//! Truth from outside: after a role change the host of the other member, and the SCS where it shares the subnets, ask the
//! network who has the VIPs, and the change is complete when the answer is the new holder. The same answers, asked for
//! now and then unasked, raise "VIP seen on two hosts" and "VIP without a holder", whatever the agents believe.

use crate::sightings::Observer;
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
        let observers = self.observers(pair, wanted);
        if observers.is_empty() {
            if !pair.vips.is_empty() && self.pairs[name].incident.is_some() {
                let text = "not verified from outside: no other host of the pair can be asked".to_owned();
                self.note(name, Phase::Verified, now, None, text);
            }
            self.set_verification(name, Verification::None);
            return true;
        }
        if self.scs_is_asking(pair) {
            return false;
        }
        match self.pairs[name].verification.clone() {
            Verification::None => {
                self.ask_who_has(name, pair, wanted, &observers, now, 1, out);
                false
            }
            Verification::Asked { at, times } => {
                if let Err((observer, vip, what)) = self.all_confirm(pair, wanted, &observers, at) {
                    self.doubt(name, pair, wanted, &observer, &vip, &what, times, now, out);
                    return false;
                }
                let confirms = |observer: &&Observer| {
                    let seen = |vip: &domain::Vip| self.seen(&vip.address, observer, wanted, at);
                    pair.vips.iter().all(|vip| seen(vip) == Seen::Confirmed)
                };
                let confirming: Vec<&Observer> = observers.iter().filter(confirms).collect();
                let names: Vec<String> = confirming.iter().map(ToString::to_string).collect();
                let host = confirming.iter().find_map(|observer| observer.host()).cloned();
                let holder = self.host_of(wanted).map_or_else(String::new, ToString::to_string);
                let text = format!("{} asked the network: {holder} answers", names.join(" and "));
                self.note(name, Phase::Verified, now, host, text);
                self.set_verification(name, Verification::None);
                let state = self.pairs.get_mut(name);
                if state.is_some_and(|state| std::mem::take(&mut state.not_confirmed)) {
                    let event = LogEvent::new(events::VIP_CONFIRMED, now).because(name).with("pair", name);
                    self.log(event.of(&pair.members[0]), out);
                }
                true
            }
            Verification::Doubted { again_at, times } if again_at <= now => {
                self.ask_who_has(name, pair, wanted, &observers, now, times + 1, out);
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
    pub(crate) fn seen_wrong(
        &mut self,
        name: &PairName,
        pair: &Pair,
        now: Micros,
        out: &mut Vec<Action>,
    ) -> (bool, bool) {
        let state = &self.pairs[name];
        let Some(wanted) = state.wanted.clone().filter(|_| state.change.is_none()) else {
            return (false, false);
        };
        let observers = self.observers(pair, &wanted);
        let (mut nobody, mut several, mut doubtful) = (false, false, false);
        for vip in &pair.vips {
            let seen = |observer: &Observer| self.sightings.get(&(vip.address, observer.clone()));
            let seen: Vec<_> = observers.iter().filter_map(seen).collect();
            // One who hears an answer is believed rather than one who hears none; two holders are believed of anybody.
            nobody |= !seen.is_empty() && seen.iter().all(|seen| seen.odd >= 2 && seen.holders.is_empty());
            several |= seen.iter().any(|seen| seen.odd >= 2 && seen.holders.len() > 1);
            doubtful |= seen.iter().any(|seen| seen.odd == 1 && seen.holders.len() != 1);
        }
        self.ask_in_doubt(name, pair, &wanted, &observers, doubtful, now, out);
        (nobody, several)
    }

    /// Asks once more about a single odd answer. An inquiry that fails tells nothing, so the doubt stays: then after a pause.
    #[expect(clippy::too_many_arguments, reason = "the facts of one question")]
    fn ask_in_doubt(
        &mut self,
        name: &PairName,
        pair: &Pair,
        wanted: &AppName,
        observers: &[Observer],
        doubtful: bool,
        now: Micros,
        out: &mut Vec<Action>,
    ) {
        let asking = self.launches.values().any(|l| l.launch.pair.as_ref() == Some(name));
        let idle = !asking && !self.scs_is_asking(pair) && self.inbox.is_empty();
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
            self.request_sightings(name, pair, wanted, observers, out);
        }
    }

    /// Whether the SCS itself is to answer for a VIP of the pair.
    fn scs_is_asking(&self, pair: &Pair) -> bool {
        pair.vips.iter().any(|vip| self.scs_asks.contains(&vip.address))
    }

    /// Who can ask the network about the VIPs of a pair that `holder` has.
    fn observers(&self, pair: &Pair, holder: &AppName) -> Vec<Observer> {
        let scs = !pair.vips.is_empty() && pair.vips.iter().all(|v| self.seen_by_scs.contains(&v.address));
        let host = self.observing_host(pair, holder).map(Observer::Host);
        host.into_iter().chain(scs.then_some(Observer::Scs)).collect()
    }

    /// The host from which it can be asked.
    fn observing_host(&self, pair: &Pair, holder: &AppName) -> Option<HostName> {
        let other = pair.other(holder);
        let host = self.host_of(other).filter(|_| self.reachable(other))?;
        let state = self.hosts.get(host).filter(|state| state.finds_holders)?;
        let up = |interface: &InterfaceName| state.interfaces.get(interface) == Some(&true);
        let can = |vip: &domain::Vip| vip.interfaces.get(host).is_some_and(up);
        (!pair.vips.is_empty() && pair.vips.iter().all(can)).then(|| host.clone())
    }

    #[expect(clippy::too_many_arguments, reason = "the facts of one question")]
    fn ask_who_has(
        &mut self,
        name: &PairName,
        pair: &Pair,
        wanted: &AppName,
        observers: &[Observer],
        now: Micros,
        times: u32,
        out: &mut Vec<Action>,
    ) {
        self.set_verification(name, Verification::Asked { at: now, times });
        self.request_sightings(name, pair, wanted, observers, out);
    }

    fn request_sightings(
        &mut self,
        name: &PairName,
        pair: &Pair,
        wanted: &AppName,
        observers: &[Observer],
        out: &mut Vec<Action>,
    ) {
        for observer in observers {
            for vip in &pair.vips {
                match observer {
                    Observer::Host(host) => {
                        let Some(interface) = vip.interfaces.get(host).cloned() else { continue };
                        let what = LaunchWhat::FindHolder { vip: vip.address, interface };
                        self.request(name, host, wanted, what);
                    }
                    Observer::Scs => {
                        self.scs_asks.insert(vip.address);
                        out.push(Action::FindHolder(vip.address));
                    }
                }
            }
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
        observer: &Observer,
        vip: &VipAddress,
        what: &str,
        times: u32,
        now: Micros,
        out: &mut Vec<Action>,
    ) {
        let again_at = now + pause(times);
        self.set_verification(name, Verification::Doubted { again_at, times });
        let text = format!("{observer} asked the network who has {}: {what}", vip.address);
        self.note(name, Phase::Verified, now, observer.host().cloned(), text.clone());
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

    /// Whether nobody saw anything else, and somebody saw the holder, of each VIP; else who saw what of which.
    fn all_confirm(
        &self,
        pair: &Pair,
        wanted: &AppName,
        observers: &[Observer],
        asked: Micros,
    ) -> Result<(), (Observer, VipAddress, String)> {
        for vip in &pair.vips {
            let mut confirmed = false;
            for observer in observers {
                match self.seen(&vip.address, observer, wanted, asked) {
                    Seen::Other(what) => return Err((observer.clone(), vip.address, what)),
                    Seen::Confirmed => confirmed = true,
                    Seen::NotYet => {}
                }
            }
            if !confirmed && let Some(first) = observers.first() {
                return Err((first.clone(), vip.address, "no answer was reported".to_owned()));
            }
        }
        Ok(())
    }

    fn seen(&self, vip: &VipAddress, observer: &Observer, wanted: &AppName, asked: Micros) -> Seen {
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
