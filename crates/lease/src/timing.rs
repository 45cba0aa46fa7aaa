//! How long things last, and why that is safe (R2).

use domain::{Profile, format_duration};
use std::fmt;
use std::time::Duration;

/// Greatest difference of a host's clock rate from true time, parts per million. Quartz keeps 50; a virtual machine
/// under `adjtimex` at most 500.
pub const DRIFT_PPM: u64 = 500;
/// What the gate may be late, and a packet may be on its way between gate and wire.
pub const GATE_SLACK: Duration = Duration::from_millis(1);

/// The durations of one pair's lease. Made by [`Timing::new`], so always safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timing {
    every: Duration,
    hold: Duration,
    promise: Duration,
}

/// Why a pair of durations makes no lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimingError {
    /// Renewals closer together or further apart than is possible.
    Every(Duration),
    /// A lease so short that a single lost renewal ends it, or too long to be of use.
    Hold {
        /// The lease.
        hold: Duration,
        /// The renewals.
        every: Duration,
    },
}

impl fmt::Display for TimingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TimingError::Every(every) => write!(
                f,
                "renewals every {}; between {} and {} is possible",
                format_duration(*every),
                format_duration(Timing::EVERY.0),
                format_duration(Timing::EVERY.1),
            ),
            TimingError::Hold { hold, every } => write!(
                f,
                "a lease of {} renewed every {}; it must outlast two renewals and a half ({}) and be at most {}",
                format_duration(*hold),
                format_duration(*every),
                format_duration(*every * 5 / 2),
                format_duration(Timing::LONGEST),
            ),
        }
    }
}

impl std::error::Error for TimingError {}

impl Timing {
    /// Bounds of the time between renewals.
    pub const EVERY: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(10));
    /// Longest lease.
    pub const LONGEST: Duration = Duration::from_secs(60);

    /// A lease of `hold`, renewed every `every`.
    ///
    /// # Errors
    /// A combination that is of no use; see [`TimingError`].
    pub fn new(every: Duration, hold: Duration) -> Result<Self, TimingError> {
        if every < Self::EVERY.0 || every > Self::EVERY.1 {
            return Err(TimingError::Every(every));
        }
        if hold * 2 < every * 5 || hold > Self::LONGEST {
            return Err(TimingError::Hold { hold, every });
        }
        Ok(Self { every, hold, promise: shortest_promise(hold) })
    }

    /// For the model only: durations that need not be safe.
    #[doc(hidden)]
    #[must_use]
    pub fn unchecked(every: Duration, hold: Duration, promise: Duration) -> Self {
        Self { every, hold, promise }
    }

    /// Time between renewals (h).
    #[must_use]
    pub fn every(&self) -> Duration {
        self.every
    }

    /// How long a lease lasts for its holder, from the anchor (`l_h`).
    #[must_use]
    pub fn hold(&self) -> Duration {
        self.hold
    }

    /// How long a promise lasts at the voter, from when it is given (`l_v`).
    #[must_use]
    pub fn promise(&self) -> Duration {
        self.promise
    }

    /// How long after a host was cut off, or its agent died, the other's lease begins at the latest: when the last promise
    /// has run out and the other asks again, `l_v + h`. A round trip comes on top.
    #[must_use]
    pub fn host_cut(&self) -> Duration {
        self.promise + self.every
    }

    /// Longest stall of the holder, or of a voter, that the lease outlasts though one renewal is lost on the way:
    /// `l_h - 2h`. What a packet takes there and back comes off it.
    #[must_use]
    pub fn longest_stall(&self) -> Duration {
        self.hold.saturating_sub(self.every * 2)
    }

    /// Why a host that now and then stalls for as long as `stall` loses such a lease without need; none: it does not.
    #[must_use]
    pub fn flappy(&self, stall: Duration) -> Option<Flappy> {
        (stall >= self.longest_stall()).then_some(Flappy { stall, timing: *self })
    }
}

/// A stall too long for a lease, with the arithmetic as its text. Nothing unsafe: the lease ends in time, and service with
/// it, until it is regained or the other host takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flappy {
    /// The stall.
    pub stall: Duration,
    /// The lease.
    pub timing: Timing,
}

impl fmt::Display for Flappy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stall, timing } = self;
        let gap = stall.saturating_add(timing.every * 2);
        write!(
            f,
            "a stall of {} and two renewals {} apart, since one may be lost, make {}; the lease is {}",
            format_duration(*stall),
            format_duration(timing.every),
            format_duration(gap),
            format_duration(timing.hold),
        )
    }
}

/// Safe whatever the profile, since the promise follows from the lease; of use where [`Timing::new`] takes it, which `config`
/// sees to.
impl From<Profile> for Timing {
    fn from(profile: Profile) -> Self {
        let (every, hold) = (profile.heartbeat(), profile.silence());
        Self { every, hold, promise: shortest_promise(hold) }
    }
}

/// R2: `l_h * (1 + rho) / (1 - rho)` and the gate's slack, rounded up to a microsecond.
fn shortest_promise(hold: Duration) -> Duration {
    let hold_us = u64::try_from(hold.as_micros()).unwrap_or(u64::MAX);
    let drifted = hold_us.saturating_mul(1_000_000 + DRIFT_PPM).div_ceil(1_000_000 - DRIFT_PPM);
    Duration::from_micros(drifted) + GATE_SLACK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_outlasts_the_lease_whatever_the_clocks_do() {
        for profile in Profile::NAMED {
            let timing = Timing::from(profile);
            // In true time: the holder's clock slow, the voter's fast.
            let longest_hold = timing.hold().as_nanos() * 1_000_000 / (1_000_000 - u128::from(DRIFT_PPM));
            let shortest_promise =
                timing.promise().as_nanos() * 1_000_000 / (1_000_000 + u128::from(DRIFT_PPM));
            let slack = GATE_SLACK.as_nanos() * 999 / 1_000;
            assert!(shortest_promise >= longest_hold + slack, "{profile}: {timing:?}");
            assert!(Timing::new(timing.every(), timing.hold()).is_ok_and(|same| same == timing));
        }
    }

    #[test]
    fn what_makes_no_lease_is_refused_with_the_figures() {
        let ms = Duration::from_millis;
        let error = |every, hold| Timing::new(ms(every), ms(hold)).unwrap_err().to_string();
        assert!(error(1, 100).contains("between 5ms and 10s"));
        assert!(error(20_000, 60_000).contains("between 5ms and 10s"));
        assert!(error(100, 249).contains("250ms"));
        assert!(Timing::new(ms(100), ms(250)).is_ok());
        assert!(error(1_000, 60_001).contains("at most 1m"));
    }

    #[test]
    fn a_stall_that_ends_the_lease_is_told_with_the_arithmetic() {
        let ms = Duration::from_millis;
        let fast = Timing::from(Profile::Fast);
        assert_eq!((fast.longest_stall(), fast.flappy(ms(9))), (ms(10), None));
        assert_eq!(
            fast.flappy(ms(14)).unwrap().to_string(),
            "a stall of 14ms and two renewals 10ms apart, since one may be lost, make 34ms; the lease is 30ms"
        );
        assert!(Timing::from(Profile::Normal).flappy(ms(250)).is_some());
        assert_eq!(Timing::from(Profile::Normal).flappy(ms(249)), None);
        assert!(fast.flappy(Duration::MAX).is_some());
    }
}
