//! The SCS's time: microseconds that go on evenly (CLOCK_BOOTTIME) and read like Unix time.

use domain::Micros;
use std::time::{Duration, SystemTime};

/// Boot time laid beside wall time once, at the start: never goes back, counts through suspend, and can be shown as
/// Unix time. When somebody sets the wall clock later, records keep the old alignment until the next start.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// Unix time at boot, microseconds.
    boot: u64,
}

impl Clock {
    /// Reads both clocks.
    #[must_use]
    pub fn start() -> Self {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let wall = u64::try_from(wall.as_micros()).unwrap_or(u64::MAX);
        Self { boot: wall.saturating_sub(boot_time().0) }
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Micros {
        Micros(self.boot + boot_time().0)
    }
}

/// CLOCK_BOOTTIME, microseconds.
fn boot_time() -> Micros {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec to write to; CLOCK_BOOTTIME exists since Linux 2.6.39.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    assert_eq!(failed, 0, "CLOCK_BOOTTIME can be read");
    Micros(time.tv_sec.cast_unsigned() * 1_000_000 + time.tv_nsec.cast_unsigned() / 1_000)
}
