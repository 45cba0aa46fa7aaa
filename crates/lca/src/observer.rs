//! Asks the network who has the VIPs that this host does not hold: by order, and every ten seconds unasked. What a holder
//! cannot tell of itself is seen from here. Runs on the real-time thread and never waits.

use crate::say::Say;
use crate::vips::{Facts, Vips};
use control_link::messages::Fact;
use domain::{Launch, Micros, RefId, VipAddress, VipSighting};
use std::collections::BTreeMap;
use std::time::Duration;
use vip_control::{Drained, Inquiry, next_turn};

/// How often it is asked unasked.
const PERIOD: Duration = Duration::from_secs(10);
/// Launches that may wait for the same inquiry.
const MOST_WAITING: usize = 16;
const HELD_HERE: &str = "this host holds it itself; only another one can see that from outside";
const NOT_KNOWN: &str = "this host's agent knows of no such VIP";

/// The observer.
#[derive(Debug)]
pub struct Observer {
    inquiry: Result<Inquiry, String>,
    vips: BTreeMap<VipAddress, Observed>,
    /// Without the SCS nobody is there to be told, and what would be told is old when it comes back.
    heard: bool,
    say: Say,
}

#[derive(Debug)]
struct Observed {
    next: Micros,
    /// What the SCS was told last.
    told: Option<VipSighting>,
    /// Whether the log says already that it cannot be asked.
    failed: bool,
    waiting: Vec<Waiting>,
}

/// A launch that ends with the inquiry.
#[derive(Debug)]
pub struct Waiting {
    /// The launch.
    pub launch: Box<Launch>,
    /// When it was ordered.
    pub begun: Micros,
}

/// How a launch ended: what was seen, in words, or why nothing was.
#[derive(Debug)]
pub struct Answered {
    /// The launch.
    pub waiting: Waiting,
    /// Its result.
    pub result: Result<String, String>,
}

impl Observer {
    /// Without VIPs yet. Where the rights are missing, every order says so.
    #[must_use]
    pub fn open(say: &Say) -> Self {
        let inquiry = Inquiry::open().map_err(|e| e.to_string());
        if let Err(why) = &inquiry {
            say.warning(format_args!("the network cannot be asked who has a VIP: {why}"));
        }
        Self { inquiry, vips: BTreeMap::new(), heard: false, say: say.clone() }
    }

    /// To be registered with the event loop.
    #[must_use]
    pub fn inquiry(&self) -> Option<&Inquiry> {
        self.inquiry.as_ref().ok()
    }

    /// Takes the VIPs of this host's pairs. Launches about those that are gone are answered.
    pub fn configure(&mut self, vips: &Vips, now: Micros, answered: &mut Vec<Answered>) {
        for (_, mut gone) in self.vips.extract_if(.., |vip, _| vips.interface_of(vip).is_none()) {
            answered.extend(gone.answers(&Err(NOT_KNOWN.to_owned())));
        }
        for vip in vips.addresses() {
            self.vips.entry(vip).or_insert_with(|| Observed {
                next: next_turn(&vip, PERIOD, now),
                told: None,
                failed: false,
                waiting: Vec::new(),
            });
        }
    }

    /// The SCS is reached again: what is seen next it is told, whether that changed or not.
    pub fn connected(&mut self, now: Micros) {
        self.heard = true;
        for (vip, observed) in &mut self.vips {
            observed.told = None;
            observed.next = next_turn(vip, PERIOD, now);
        }
    }

    /// The SCS cannot be reached any more.
    pub fn disconnected(&mut self) {
        self.heard = false;
    }

    /// Whether a launch of this reference waits for an inquiry.
    #[must_use]
    pub fn is_asked(&self, ref_id: RefId) -> bool {
        self.vips.values().flat_map(|observed| &observed.waiting).any(|w| w.launch.ref_id == ref_id)
    }

    /// Begins to ask by order. The launch is answered when the inquiry is over.
    ///
    /// # Errors
    /// A sentence and the launch: it is not begun.
    pub fn ask(
        &mut self,
        vip: &VipAddress,
        launch: Box<Launch>,
        vips: &Vips,
        now: Micros,
    ) -> Result<(), (Box<Launch>, String)> {
        if self.vips.get(vip).is_some_and(|observed| observed.waiting.len() >= MOST_WAITING) {
            return Err((launch, "too many launches ask for it at once".to_owned()));
        }
        let begun = self.begin(vip, vips, now);
        match (begun, self.vips.get_mut(vip)) {
            (Ok(()), Some(observed)) => {
                observed.waiting.push(Waiting { launch, begun: now });
                Ok(())
            }
            (Ok(()), None) => Err((launch, NOT_KNOWN.to_owned())),
            (Err(why), _) => Err((launch, why)),
        }
    }

    /// Takes in what was answered. True: there is more.
    pub fn hear(&mut self, now: Micros) -> bool {
        let Ok(inquiry) = &mut self.inquiry else { return false };
        match inquiry.hear(now) {
            Ok(drained) => drained == Drained::MoreWaits,
            Err(e) => {
                self.say.error(format_args!("{e}"));
                false
            }
        }
    }

    /// When [`Observer::time_passed`] is due next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Micros> {
        let inquiry = self.inquiry.as_ref().ok()?;
        let turn = self.vips.values().map(|observed| observed.next).min().filter(|_| self.heard);
        [inquiry.next_deadline(), turn].into_iter().flatten().min()
    }

    /// Goes on with what is in hand, and begins what is due. What was seen is appended to `out`, launches that ended to
    /// `answered`.
    pub fn time_passed(&mut self, vips: &Vips, now: Micros, out: &mut Facts, answered: &mut Vec<Answered>) {
        while let Some((vip, result)) = self.inquiry.as_mut().ok().and_then(|inquiry| inquiry.ended(now)) {
            // It came to be held here meanwhile: then this is no sight from outside.
            let result = if vips.is_wanted(&vip) {
                Err(HELD_HERE.to_owned())
            } else {
                result.map_err(|e| e.to_string())
            };
            self.ended(&vip, result, out, answered);
        }
        if !self.heard {
            return;
        }
        let is_due = |(vip, observed): (&VipAddress, &Observed)| (observed.next <= now).then_some(*vip);
        // Each once: then its next turn is in the future.
        while let Some(vip) = self.vips.iter().find_map(is_due) {
            self.take_turn(&vip, vips, now);
        }
    }

    fn take_turn(&mut self, vip: &VipAddress, vips: &Vips, now: Micros) {
        let Some(observed) = self.vips.get_mut(vip) else { return };
        observed.next = next_turn(vip, PERIOD, now);
        if vips.is_wanted(vip) {
            observed.told = None;
        } else if observed.waiting.is_empty() && vips.has_carrier(vip) {
            // (One that waits for an inquiry has it asked right now; a lost carrier is told on its own.)
            match self.begin(vip, vips, now) {
                Ok(()) => {}
                Err(why) => self.not_seen(vip, &why),
            }
        }
    }

    fn begin(&mut self, vip: &VipAddress, vips: &Vips, now: Micros) -> Result<(), String> {
        let inquiry = self.inquiry.as_mut().map_err(|why| why.clone())?;
        let interface = vips.interface_of(vip).ok_or(NOT_KNOWN)?;
        if vips.is_wanted(vip) {
            return Err(HELD_HERE.to_owned());
        }
        inquiry.ask(vip, interface, |address| vips.is_vip(address), now).map_err(|e| e.to_string())
    }

    fn ended(
        &mut self,
        vip: &VipAddress,
        result: Result<VipSighting, String>,
        out: &mut Facts,
        answered: &mut Vec<Answered>,
    ) {
        let Some(observed) = self.vips.get_mut(vip) else { return };
        let result = match result {
            Ok(sighting) => {
                let words = sighting.to_string();
                observed.seen(sighting, out);
                Ok(words)
            }
            Err(why) => {
                self.not_seen(vip, &why);
                Err(why)
            }
        };
        if let Some(observed) = self.vips.get_mut(vip) {
            answered.extend(observed.answers(&result));
        }
    }

    fn not_seen(&mut self, vip: &VipAddress, why: &str) {
        let Some(observed) = self.vips.get_mut(vip) else { return };
        observed.told = None;
        if !std::mem::replace(&mut observed.failed, true) {
            self.say.warning(format_args!("the network cannot be asked who has {vip}: {why}"));
        }
    }
}

impl Observed {
    /// Tells what somebody waits for, what is out of the ordinary, and what changed; the rest is as it was.
    fn seen(&mut self, sighting: VipSighting, out: &mut Facts) {
        self.failed = false;
        let same = self.told.as_ref().is_some_and(|told| told.same_holders(&sighting));
        if !same || !sighting.is_normal() || !self.waiting.is_empty() {
            out.push(Fact::VipSighted(sighting.clone()));
            self.told = Some(sighting);
        }
    }

    fn answers(&mut self, result: &Result<String, String>) -> impl Iterator<Item = Answered> {
        self.waiting.drain(..).map(|waiting| Answered { waiting, result: result.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{MacAddress, SeenHolder};

    fn sighting(macs: &[u8]) -> VipSighting {
        let holders = macs.iter().map(|n| SeenHolder { mac: MacAddress([2, 0, 0, 0, 0, *n]), at: Micros(1) });
        VipSighting {
            vip: "192.0.2.1/24".parse().unwrap(),
            interface: "eth0".parse().unwrap(),
            asked: Micros(0),
            holders: holders.collect(),
        }
    }

    #[test]
    fn only_news_and_what_is_out_of_the_ordinary_is_told() {
        let mut observed = Observed { next: Micros(0), told: None, failed: false, waiting: Vec::new() };
        let mut told = |macs: &[u8]| {
            let mut out = Facts::new();
            observed.seen(sighting(macs), &mut out);
            out.len() == 1
        };
        assert!(told(&[1]), "the first");
        assert!(!told(&[1]), "nothing new");
        assert!(told(&[1, 2]) && told(&[2, 1]), "two are told every time");
        assert!(told(&[2]) && !told(&[2]), "another holder");
        assert!(told(&[]) && told(&[]), "nobody is told every time");
        assert!(told(&[2]) && !told(&[2]));
    }
}
