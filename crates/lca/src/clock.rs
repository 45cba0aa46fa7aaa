//! The two clocks of the agent. Everything is timed on CLOCK_BOOTTIME, which counts while the machine sleeps and which
//! nobody sets; the wall clock is told once per connection.

use domain::Micros;

/// CLOCK_BOOTTIME (clock_gettime(2)).
#[must_use]
pub fn boottime() -> Micros {
    read(libc::CLOCK_BOOTTIME)
}

/// CLOCK_REALTIME.
#[must_use]
pub fn wall() -> Micros {
    read(libc::CLOCK_REALTIME)
}

/// How much faster the clock that leases are timed by runs than the oscillator under it.
#[derive(Debug, Default)]
pub struct Slew {
    last: Option<(u64, u64)>,
}

impl Slew {
    /// Parts per million since this was asked last; zero the first time. CLOCK_MONOTONIC is steered as CLOCK_BOOTTIME is, and
    /// like CLOCK_MONOTONIC_RAW does not count while the machine sleeps.
    pub fn ppm(&mut self) -> i64 {
        // Of several attempts the one in which the least came in between.
        let attempt = |_| {
            let before = nanos(libc::CLOCK_MONOTONIC_RAW);
            let steered = nanos(libc::CLOCK_MONOTONIC);
            let after = nanos(libc::CLOCK_MONOTONIC_RAW);
            (after.saturating_sub(before), steered, before + after.saturating_sub(before) / 2)
        };
        let Some((_, steered, raw)) = (0..5).map(attempt).min() else { return 0 };
        let ppm =
            self.last.map_or(0, |(last_steered, last_raw)| slew(steered - last_steered, raw - last_raw));
        self.last = Some((steered, raw));
        ppm
    }
}

fn slew(steered: u64, raw: u64) -> i64 {
    let difference = i128::from(steered) - i128::from(raw);
    i64::try_from(difference * 1_000_000 / i128::from(raw.max(1))).unwrap_or(i64::MAX)
}

fn nanos(clock: libc::clockid_t) -> u64 {
    let mut at = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `at` is a valid timespec to write to.
    let done = unsafe { libc::clock_gettime(clock, &raw mut at) };
    assert_eq!(done, 0, "clock_gettime knows CLOCK_MONOTONIC and CLOCK_MONOTONIC_RAW since Linux 2.6.28");
    let (seconds, nanos) = (u64::try_from(at.tv_sec).unwrap_or(0), u64::try_from(at.tv_nsec).unwrap_or(0));
    seconds * 1_000_000_000 + nanos
}

fn read(clock: libc::clockid_t) -> Micros {
    let mut at = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `at` is a valid timespec to write to.
    let done = unsafe { libc::clock_gettime(clock, &raw mut at) };
    assert_eq!(done, 0, "clock_gettime knows CLOCK_BOOTTIME and CLOCK_REALTIME on every Linux since 2.6.39");
    let (seconds, nanos) = (u64::try_from(at.tv_sec).unwrap_or(0), u64::try_from(at.tv_nsec).unwrap_or(0));
    Micros(seconds * 1_000_000 + nanos / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slew_is_told_in_parts_per_million() {
        assert_eq!(slew(1_000_500_000, 1_000_000_000), 500);
        assert_eq!(slew(999_000_000, 1_000_000_000), -1_000);
        assert_eq!(slew(5, 0), 5_000_000);
        let mut here = Slew::default();
        assert_eq!(here.ppm(), 0, "there is nothing to compare with yet");
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(here.ppm().abs() < 200_000, "no kernel steers further than 100,000");
    }
}
