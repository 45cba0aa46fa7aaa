//! For the model checker only: two machines that differ in nothing but what o'clock it is are one state.

use super::{Candidate, Machine};
use crate::Seat;
use crate::voter::Voter;
use domain::Micros;
use std::time::Duration;

impl Machine {
    /// The same machine on hosts whose clocks show less by `by`, each host its own; they show `now`. Times that are over
    /// become the latest ones that have the same effect, so nothing that the machine will do differs.
    #[doc(hidden)]
    pub fn set_back(&mut self, by: [Duration; 3], now: [Micros; 3]) {
        let hold = self.timing.hold();
        let clocks = Seat::ALL.map(|seat| Clock { by: by[seat.index()], now: now[seat.index()] });
        let own = clocks[self.seat.index()];
        self.voter.set_back(own, clocks, hold);
        self.candidate.set_back(own, self.timing.every());
    }
}

/// How times on one host's clock change.
#[derive(Clone, Copy)]
struct Clock {
    by: Duration,
    now: Micros,
}

impl Clock {
    /// A time that something lasts until, or is due at.
    fn deadline(self, at: Micros) -> Micros {
        at.max(self.now) - self.by
    }

    /// A time from which something counts for as long as a lease lasts.
    fn anchor(self, at: Micros, hold: Duration) -> Option<Micros> {
        (at + hold > self.now).then(|| at - self.by)
    }
}

impl Voter {
    fn set_back(&mut self, own: Clock, clocks: [Clock; 3], hold: Duration) {
        self.quarantine = self.quarantine.map(|until| own.deadline(until));
        if let Some(given) = &mut self.given {
            given.until = own.deadline(given.until);
        }
        for (standing, asker) in self.standing.iter_mut().zip(clocks) {
            *standing = standing.and_then(|mut standing| {
                standing.heard = own.anchor(standing.heard, hold)?;
                standing.at = standing.at.max(asker.now - hold) - asker.by;
                Some(standing)
            });
        }
        // Nobody waits for the vote: that it is free can as well be seen when somebody asks.
        if self.standing == [None; 2] {
            self.time_passed(own.now - own.by);
        }
    }
}

impl Candidate {
    fn set_back(&mut self, own: Clock, every: Duration) {
        self.anchors = self.anchors.map(|at| own.anchor(at?, self.hold));
        if let Some(held) = &mut self.held {
            held.until = own.deadline(held.until);
        }
        // An ask that is late is followed by the next on the same beat, however many were missed.
        let missed = own.now.since(self.next_ask).as_micros() / every.as_micros();
        self.next_ask = self.next_ask + every * u32::try_from(missed).unwrap_or(u32::MAX) - own.by;
        if let Some(telling) = &mut self.telling {
            telling.next = own.deadline(telling.next);
            telling.until = own.deadline(telling.until);
        }
    }
}
