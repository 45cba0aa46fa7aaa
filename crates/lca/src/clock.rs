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

fn read(clock: libc::clockid_t) -> Micros {
    let mut at = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `at` is a valid timespec to write to.
    let done = unsafe { libc::clock_gettime(clock, &raw mut at) };
    assert_eq!(done, 0, "clock_gettime knows CLOCK_BOOTTIME and CLOCK_REALTIME on every Linux since 2.6.39");
    let (seconds, nanos) = (u64::try_from(at.tv_sec).unwrap_or(0), u64::try_from(at.tv_nsec).unwrap_or(0));
    Micros(seconds * 1_000_000 + nanos / 1_000)
}
