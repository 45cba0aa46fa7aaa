//! The voter's half: one promise at a time, kept for `l_v`.

use crate::{Body, Kind, Refusal, Seat, Timing};
use domain::{Epoch, Member, Micros};

/// Whom the SCS's voter promises to. Agents' voters go by promises alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Entitled {
    /// Who holds already, or asks to hold: it is not known yet whom the SCS wants.
    #[default]
    Anyone,
    /// This member, under this grant, or under a newer one that it took without the SCS.
    Only {
        /// The member.
        member: Member,
        /// Its grant.
        granted: Epoch,
    },
}

/// A promise that was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Given {
    pub to: Member,
    pub epoch: Epoch,
    pub until: Micros,
}

/// The newest ask of a member that has no promise yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Standing {
    pub epoch: Epoch,
    pub at: Micros,
    pub kind: Kind,
    /// When it came, our clock: what is older than a lease is of no use to the asker.
    pub heard: Micros,
}

/// A voter's state.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Voter {
    pub timing: Timing,
    pub quarantine: Option<Micros>,
    pub given: Option<Given>,
    /// The greatest epoch promised, or let go.
    pub seen: Epoch,
    /// Up to which epoch each member let go: a request that was overtaken by its release is none.
    pub let_go: [Epoch; 2],
    /// The newest grant known.
    pub granted: Epoch,
    pub standing: [Option<Standing>; 2],
    pub entitled: Entitled,
}

/// An answer to a member.
pub(crate) type Answer = (Member, Body);

impl Voter {
    pub fn new(timing: Timing) -> Self {
        Self {
            timing,
            quarantine: None,
            given: None,
            seen: Epoch(0),
            let_go: [Epoch(0); 2],
            granted: Epoch(0),
            standing: [None; 2],
            entitled: Entitled::Anyone,
        }
    }

    /// Takes in an ask; `None`: it is kept, and answered when the vote becomes free.
    pub fn ask(&mut self, from: Member, asked: Standing, hold_us: u32, now: Micros) -> Option<Body> {
        let refused = if u128::from(hold_us) > self.timing.hold().as_micros() {
            Some(Refusal::Timing)
        } else {
            self.standing[from_index(from)] = Some(asked);
            self.refusal(from, asked.epoch, asked.kind)
        };
        match (refused, asked.kind) {
            (None, _) => self.grant(from, now),
            (Some(why), Kind::Hold { .. }) => {
                // An asker that forgot what it let go must learn to go above it.
                let let_go = self.let_go[from_index(from)];
                let seen = if asked.epoch == let_go {
                    self.seen.max(Epoch(let_go.0.saturating_add(1)))
                } else {
                    self.seen
                };
                Some(Body::Reject { seen, granted: self.granted, why })
            }
            (Some(_), Kind::Standby) => None,
        }
    }

    /// A member let go. True: that is news.
    pub fn released(&mut self, by: Member, epoch: Epoch) -> bool {
        self.seen = self.seen.max(epoch);
        let let_go = &mut self.let_go[from_index(by)];
        let news = *let_go < epoch;
        *let_go = (*let_go).max(epoch);
        if self.given.is_some_and(|given| given.to == by && given.epoch <= epoch) {
            self.given = None;
        }
        let standing = &mut self.standing[from_index(by)];
        if standing.is_some_and(|standing| standing.epoch <= epoch) {
            *standing = None;
        }
        news
    }

    /// Lets go of what has run out.
    pub fn time_passed(&mut self, now: Micros) {
        if self.quarantine.is_some_and(|until| until <= now) {
            self.quarantine = None;
        }
        if self.given.is_some_and(|given| given.until <= now) {
            self.given = None;
        }
        for standing in &mut self.standing {
            if standing.is_some_and(|standing| standing.heard + self.timing.hold() <= now) {
                *standing = None;
            }
        }
    }

    /// Answers a request that stands, if the vote is free for it now.
    pub fn answer_standing(&mut self, now: Micros) -> Option<Answer> {
        // Who has the promise is answered as it asks.
        if self.given.is_some() {
            return None;
        }
        [Member::First, Member::Second].into_iter().find_map(|member| {
            let standing = self.standing[from_index(member)]?;
            let free = self.refusal(member, standing.epoch, standing.kind).is_none();
            free.then(|| self.grant(member, now).map(|body| (member, body)))?
        })
    }

    /// Promises to a member on its standing request, whoever is entitled: a hand-over by the holder that let go.
    pub fn hand_over(&mut self, to: Member, now: Micros) -> Option<Body> {
        let standing = self.standing[from_index(to)]?;
        (self.quarantine.is_none() && self.given.is_none() && standing.epoch >= self.seen)
            .then(|| self.grant(to, now))?
    }

    /// When [`Voter::time_passed`] has something to do next.
    pub fn next_deadline(&self) -> Option<Micros> {
        [self.quarantine, self.given.map(|given| given.until)].into_iter().flatten().min()
    }

    fn refusal(&self, from: Member, epoch: Epoch, kind: Kind) -> Option<Refusal> {
        if self.quarantine.is_some() {
            return Some(Refusal::Quarantine);
        }
        let entitled = match (self.entitled, kind) {
            (Entitled::Anyone, Kind::Hold { .. }) => true,
            (Entitled::Anyone, Kind::Standby) => false,
            (Entitled::Only { member, .. }, Kind::Standby) => member == from,
            (Entitled::Only { member, granted }, Kind::Hold { granted: by }) => {
                member == from || by > granted
            }
        };
        if !entitled {
            return Some(match kind {
                Kind::Hold { .. } => Refusal::Outdated,
                Kind::Standby => Refusal::Promised,
            });
        }
        if self.given.is_some_and(|given| given.to != from) {
            return Some(Refusal::Promised);
        }
        (epoch < self.seen || epoch <= self.let_go[from_index(from)]).then_some(Refusal::Epoch)
    }

    /// The caller has looked at [`Voter::refusal`].
    fn grant(&mut self, to: Member, now: Micros) -> Option<Body> {
        let standing = self.standing[from_index(to)].take()?;
        // A stall between reading the clock and getting here shortens nothing: an earlier promise is never taken back.
        let until = self.given.map_or(Micros(0), |given| given.until).max(now + self.timing.promise());
        self.given = Some(Given { to, epoch: standing.epoch, until });
        self.seen = self.seen.max(standing.epoch);
        if let Kind::Hold { granted } = standing.kind {
            self.granted = self.granted.max(granted);
        }
        Some(Body::Promise { epoch: standing.epoch, at: standing.at })
    }
}

pub(crate) const fn from_index(member: Member) -> usize {
    Seat::Member(member).index()
}
