//! How far the backup is behind, and whether that is near enough to call it ready.

use domain::Micros;
use std::collections::VecDeque;
use std::time::Duration;

/// Changes that were sent within this of each other share a mark.
const RESOLUTION: Duration = Duration::from_millis(1);

/// How far a backup is behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lag {
    /// Age of the oldest change that it has not acknowledged.
    pub time: Duration,
    /// How many it has not acknowledged.
    pub changes: u64,
}

/// The primary's account of what it sent: changes are numbered, and a mark says when some number was reached.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// Changes sent.
    pub(crate) sent: u64,
    /// Of these: acknowledged.
    acknowledged: u64,
    /// Which number was sent when: the first that is not acknowledged is the oldest. Bounded, since whoever acknowledges
    /// nothing for long is dropped.
    marks: VecDeque<(u64, Micros)>,
}

impl Account {
    /// `sent` has grown.
    pub(crate) fn mark(&mut self, now: Micros) {
        match self.marks.back_mut() {
            Some((number, at)) if now.since(*at) < RESOLUTION => *number = self.sent,
            _ => self.marks.push_back((self.sent, now)),
        }
    }

    /// The backup has the first `number` changes. False: nobody sent so many.
    pub(crate) fn acknowledged(&mut self, number: u64) -> bool {
        if number > self.sent {
            return false;
        }
        self.acknowledged = self.acknowledged.max(number);
        while self.marks.front().is_some_and(|(sent, _)| *sent <= self.acknowledged) {
            self.marks.pop_front();
        }
        true
    }

    pub(crate) fn unacknowledged(&self) -> u64 {
        self.sent - self.acknowledged
    }

    pub(crate) fn lag(&self, now: Micros) -> Lag {
        let oldest = self.marks.front().map(|(_, at)| now.since(*at));
        Lag { time: oldest.unwrap_or_default(), changes: self.unacknowledged() }
    }
}

/// Whether the lag is small enough, without changing its mind all the time: too much of it ends readiness at once, and it
/// comes back after the lag was small for a while.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    /// Since when the lag is small again; none: it is too large.
    small_since: Option<Micros>,
    /// It was too large since the stream began.
    wavered: bool,
}

impl Gauge {
    pub(crate) fn judge(
        &mut self,
        lag: Duration,
        allowed: Duration,
        recovery: Duration,
        now: Micros,
    ) -> bool {
        if lag > allowed {
            self.wavered = true;
            self.small_since = None;
            return false;
        }
        if lag <= allowed / 2 || !self.wavered {
            let since = *self.small_since.get_or_insert(now);
            if now.since(since) >= recovery {
                self.wavered = false;
            }
        } else {
            self.small_since = None;
        }
        !self.wavered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Micros {
        Micros(ms * 1_000)
    }

    #[test]
    fn lag_is_the_age_of_the_oldest_change_that_is_not_acknowledged() {
        let mut account = Account::default();
        assert_eq!(account.lag(at(5)), Lag::default());
        for ms in [10, 20, 30] {
            account.sent += 100;
            account.mark(at(ms));
        }
        assert_eq!(account.lag(at(40)), Lag { time: Duration::from_millis(30), changes: 300 });
        assert!(account.acknowledged(150));
        assert_eq!(account.lag(at(40)), Lag { time: Duration::from_millis(20), changes: 150 });
        assert!(account.acknowledged(100), "an older one changes nothing");
        assert!(!account.acknowledged(301));
        assert!(account.acknowledged(300));
        assert_eq!(account.lag(at(90)), Lag::default());
    }

    #[test]
    fn marks_do_not_grow_with_the_number_of_changes() {
        let mut account = Account::default();
        for n in 0..10_000 {
            account.sent += 1;
            account.mark(Micros(n));
        }
        assert!(account.marks.len() <= 11, "{}", account.marks.len());
    }

    #[test]
    fn readiness_ends_at_once_and_comes_back_after_a_while() {
        let (mut gauge, ms) = (Gauge::default(), Duration::from_millis);
        let mut judge = |lag, now| gauge.judge(ms(lag), ms(100), ms(1_000), at(now));
        assert!(judge(0, 0) && judge(100, 10));
        assert!(!judge(101, 20) && !judge(60, 30), "between half and all of it nothing is won");
        assert!(!judge(50, 40) && !judge(50, 1_039));
        assert!(!judge(60, 1_040) && !judge(0, 1_050), "it was not small all the time");
        assert!(!judge(0, 2_049) && judge(0, 2_050));
        assert!(judge(90, 2_060));
    }
}
