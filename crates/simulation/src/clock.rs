//! True time, which nobody in the world sees, and the clocks of its hosts, which run a little fast or slow.

use domain::Micros;
use std::fmt;
use std::ops::Add;

/// A point in true time: microseconds since the world began. Only the world judges by it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TrueTime(pub u64);

impl TrueTime {
    /// Microseconds from `earlier` to this point; zero where `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: TrueTime) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<u64> for TrueTime {
    type Output = TrueTime;
    fn add(self, us: u64) -> TrueTime {
        TrueTime(self.0.saturating_add(us))
    }
}

impl fmt::Display for TrueTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>3}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

const MILLION: i64 = 1_000_000;

/// A host's clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    started: TrueTime,
    showed: Micros,
    ppm: i64,
}

impl Clock {
    /// A clock that shows `showed` at `started` and runs `ppm` millionths too fast.
    pub(crate) fn new(started: TrueTime, showed: Micros, ppm: i64) -> Self {
        assert!(ppm.abs() < 100_000, "a clock, not a metronome");
        Self { started, showed, ppm }
    }

    /// What it shows at `at`.
    pub(crate) fn at(&self, at: TrueTime) -> Micros {
        let passed = i64::try_from(at.since(self.started)).expect("no world lasts that long");
        let shown = passed + (passed * self.ppm).div_euclid(MILLION);
        Micros(self.showed.0 + u64::try_from(shown).expect("no clock runs backwards"))
    }

    /// When it first shows `shown` or more.
    pub(crate) fn reaches(&self, shown: Micros) -> TrueTime {
        let local = i64::try_from(shown.0.saturating_sub(self.showed.0)).expect("no world lasts that long");
        let estimate = local * MILLION / (MILLION + self.ppm);
        let mut at = self.started + u64::try_from(estimate).expect("no clock runs backwards");
        // The estimate is rounded: at most a few microseconds away.
        while at > self.started && self.at(TrueTime(at.0 - 1)) >= shown {
            at = TrueTime(at.0 - 1);
        }
        while self.at(at) < shown {
            at = at + 1;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_reached_when_the_clock_shows_it_and_not_before() {
        for ppm in [-500, -37, 0, 1, 499, 500] {
            let clock = Clock::new(TrueTime(1_234), Micros(77), ppm);
            for shown in [77, 78, 2_000, 999_999, 1_000_000, 123_456_789] {
                let at = clock.reaches(Micros(shown));
                assert!(clock.at(at) >= Micros(shown), "{ppm} {shown}");
                assert!(
                    at == TrueTime(1_234) || clock.at(TrueTime(at.0 - 1)) < Micros(shown),
                    "{ppm} {shown}"
                );
            }
        }
    }

    #[test]
    fn a_fast_clock_is_ahead() {
        let second = TrueTime(1_000_000);
        assert_eq!(Clock::new(TrueTime(0), Micros(0), 500).at(second), Micros(1_000_500));
        assert_eq!(Clock::new(TrueTime(0), Micros(0), -500).at(second), Micros(999_500));
    }
}
