//! The pause before a restart: doubles while failures follow each other, and ends in giving up.

use domain::{Micros, RestartPolicy};
use std::time::Duration;

/// Longest pause.
const LONGEST: Duration = Duration::from_secs(60);

/// Counts failures that follow each other.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    in_a_row: u32,
    ready_since: Option<Micros>,
}

/// What follows a failure.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A restart at this time.
    RestartAt(Micros),
    /// Nothing: it failed this often in a row.
    GivenUp(u32),
    /// Nothing: it is not to be restarted.
    Nothing,
}

impl Backoff {
    /// The application became ready.
    pub(super) fn ready(&mut self, now: Micros) {
        self.ready_since.get_or_insert(now);
    }

    /// An operator started it, or it stopped by order: the count begins anew.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// It failed. Having been ready for `steady` before ends the row.
    pub(super) fn failed(&mut self, policy: RestartPolicy, steady: Duration, now: Micros) -> Next {
        if self.ready_since.take().is_some_and(|since| now.since(since) >= steady) {
            self.in_a_row = 0;
        }
        if !policy.auto {
            return Next::Nothing;
        }
        if self.in_a_row >= policy.attempts {
            return Next::GivenUp(self.in_a_row);
        }
        let doubled = 2_u32.saturating_pow(self.in_a_row.min(16));
        self.in_a_row += 1;
        Next::RestartAt(now + policy.delay.saturating_mul(doubled).min(LONGEST.max(policy.delay)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RestartPolicy = RestartPolicy { auto: true, delay: Duration::from_secs(1), attempts: 8 };
    const STEADY: Duration = Duration::from_secs(90);

    #[test]
    fn the_pause_doubles_to_a_minute_and_then_nothing_follows() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..8)
            .map(|_| match backoff.failed(POLICY, STEADY, Micros(0)) {
                Next::RestartAt(at) => at.0 / 1_000_000,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(backoff.failed(POLICY, STEADY, Micros(0)), Next::GivenUp(8));
    }

    #[test]
    fn only_having_been_ready_for_long_ends_the_row() {
        let mut backoff = Backoff::default();
        let second = Duration::from_secs(1);
        assert_eq!(backoff.failed(POLICY, STEADY, Micros(0)), Next::RestartAt(Micros(0) + second));
        backoff.ready(Micros(0));
        let early = Micros(0) + (STEADY - second);
        assert_eq!(backoff.failed(POLICY, STEADY, early), Next::RestartAt(early + 2 * second));
        backoff.ready(early);
        let late = early + STEADY;
        assert_eq!(backoff.failed(POLICY, STEADY, late), Next::RestartAt(late + second));
    }
}
