//! How late threads wake that sleep until a time: the measurement behind the choice of a profile. Two threads at once, one
//! with the agent's real-time priority and one without, each with a timer of a millisecond.

use crate::facts::{Jitter, Lateness};
use control_link::real_time::raise_thread;
use std::io;
use std::thread;
use std::time::Duration;

/// SCHED_FIFO priority, the agent's.
const PRIORITY: i32 = 20;
/// Time between wakes.
const EVERY: Duration = Duration::from_millis(1);
/// Longest measurement, so that the samples fit in memory.
pub const LONGEST: Duration = Duration::from_secs(3_600);

/// Measures for `lasting`, at most [`LONGEST`].
///
/// # Errors
/// The system has no thread for it.
pub fn measure(lasting: Duration) -> io::Result<Jitter> {
    thread::scope(|scope| {
        let named = |name: &str| thread::Builder::new().name(name.to_owned());
        let ordinary = named("jitter").spawn_scoped(scope, move || wakes(lasting))?;
        let real_time =
            named("jitter-rt").spawn_scoped(scope, move || raise_thread(PRIORITY).then(|| wakes(lasting)))?;
        let broken = |_| io::Error::other("a measuring thread panicked");
        Ok(Jitter {
            ordinary: ordinary.join().map_err(broken)?,
            real_time: real_time.join().map_err(broken)?,
        })
    })
}

fn wakes(lasting: Duration) -> Lateness {
    let every = EVERY.as_nanos() as u64;
    let end = now() + u64::try_from(lasting.min(LONGEST).as_nanos()).unwrap_or(u64::MAX);
    let mut late_us = Vec::with_capacity(usize::try_from(lasting.min(LONGEST).as_millis()).unwrap_or(0) + 1);
    let mut due = now() + every;
    while due < end {
        sleep_until(due);
        let now = now();
        late_us.push(now.saturating_sub(due) / 1_000);
        // What was slept through is one stall, not many.
        due += every * (now.saturating_sub(due) / every + 1);
    }
    of(late_us)
}

/// The figures of some wakes.
fn of(mut late_us: Vec<u64>) -> Lateness {
    late_us.sort_unstable();
    let rank =
        |percent: usize| late_us.get((late_us.len() * percent / 100).min(late_us.len().saturating_sub(1)));
    Lateness {
        p50_us: rank(50).copied().unwrap_or(0),
        p99_us: rank(99).copied().unwrap_or(0),
        max_us: late_us.last().copied().unwrap_or(0),
        wakes: late_us.len(),
    }
}

/// CLOCK_MONOTONIC, nanoseconds.
fn now() -> u64 {
    crate::clock::read(libc::CLOCK_MONOTONIC)
}

/// clock_nanosleep(2) until an absolute time: a late wake does not make the next one late.
fn sleep_until(due: u64) {
    let at = libc::timespec {
        tv_sec: libc::time_t::try_from(due / 1_000_000_000).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::try_from(due % 1_000_000_000).unwrap_or(0),
    };
    // SAFETY: `at` is a valid timespec; a null remainder is allowed. A signal ends the sleep early, which shows as a wake
    // that is not late.
    unsafe {
        libc::clock_nanosleep(libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME, &raw const at, std::ptr::null_mut())
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_all_wakes() {
        let figures = of((1..=200).rev().collect());
        assert_eq!(figures, Lateness { p50_us: 101, p99_us: 199, max_us: 200, wakes: 200 });
        assert_eq!(of(Vec::new()), Lateness::default());
    }

    #[test]
    fn a_measurement_has_about_a_wake_per_millisecond() {
        let jitter = measure(Duration::from_millis(50)).unwrap();
        assert!((1..=50).contains(&jitter.ordinary.wakes), "{jitter:?}");
        assert!(jitter.ordinary.p50_us <= jitter.ordinary.max_us, "{jitter:?}");
    }
}
