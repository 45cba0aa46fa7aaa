//! How fast the clocks run: what the kernel says that it corrects, and how much faster than the hardware the clock of the
//! leases ran while it was measured.

/// Reads a clock (clock_gettime(2)), nanoseconds.
pub(crate) fn read(clock: libc::clockid_t) -> u64 {
    let mut at = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `at` is valid to write to.
    let done = unsafe { libc::clock_gettime(clock, &raw mut at) };
    assert_eq!(done, 0, "the clocks read here are known to every Linux since 2.6.39");
    u64::try_from(at.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(at.tv_nsec).unwrap_or(0)
}

/// What adjtimex(2) says: whether the time is kept, and by how much the rate is corrected, ppm. None where it may not be
/// asked.
pub(crate) fn corrections() -> Option<(bool, f64)> {
    // SAFETY: all zero is a valid timex, and asks without setting anything.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: `timex` is valid to read and write.
    if unsafe { libc::adjtimex(&raw mut timex) } < 0 {
        return None;
    }
    // `freq` is ppm with 16 binary places; `tick` is microseconds per 10 ms, 10,000 where nothing is corrected by it.
    let rate = timex.freq as f64 / 65_536.0 + (timex.tick - 10_000) as f64 * 100.0;
    Some((timex.status & libc::STA_UNSYNC == 0, rate))
}

/// Compares CLOCK_MONOTONIC, which runs at the rate of CLOCK_BOOTTIME and is corrected, with CLOCK_MONOTONIC_RAW, which is
/// not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slew {
    corrected: u64,
    raw: u64,
}

impl Slew {
    /// Begins a measurement.
    pub(crate) fn begin() -> Self {
        let (corrected, raw) = both();
        Self { corrected, raw }
    }

    /// How much faster the corrected clock ran since, ppm; none where too little time has passed to tell.
    pub(crate) fn ppm(self) -> Option<f64> {
        let (corrected, raw) = both();
        slew_ppm(corrected.saturating_sub(self.corrected), raw.saturating_sub(self.raw))
    }
}

/// Readings are some 100 ns apart: over less than 100 ms that would be more than a ppm.
fn slew_ppm(corrected_ns: u64, raw_ns: u64) -> Option<f64> {
    (raw_ns >= 100_000_000).then(|| (corrected_ns as f64 / raw_ns as f64 - 1.0) * 1e6)
}

/// Both clocks at one moment: of several readings, the one that took least time.
fn both() -> (u64, u64) {
    let reading = || {
        let before = read(libc::CLOCK_MONOTONIC_RAW);
        let corrected = read(libc::CLOCK_MONOTONIC);
        let after = read(libc::CLOCK_MONOTONIC_RAW);
        (after - before, corrected, before + (after - before) / 2)
    };
    let (_, corrected, raw) = (0..8).map(|_| reading()).min().expect("eight readings");
    (corrected, raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slew_is_told_in_ppm() {
        assert!((slew_ppm(1_000_500_000, 1_000_000_000).unwrap() - 500.0).abs() < 0.01);
        assert!((slew_ppm(999_900_000, 1_000_000_000).unwrap() + 100.0).abs() < 0.01);
        assert_eq!(slew_ppm(1_000, 1_000), None);
    }

    #[test]
    fn the_kernel_tells_its_corrections() {
        let (_, ppm) = corrections().unwrap();
        assert!(ppm.abs() <= 100_000.0, "{ppm}");
    }
}
