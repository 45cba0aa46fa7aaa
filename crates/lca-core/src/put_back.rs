//! How often a VIP is put back that another tool removes: at once, but not for ever at once. Pure.

use domain::Micros;
use std::time::Duration;

/// Times within `WINDOW` that it is put back at once.
const AT_ONCE: u32 = 5;
const WINDOW: Duration = Duration::from_secs(1);
/// First pause after that; doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The pace for one VIP.
#[derive(Debug, Default)]
pub struct Pace {
    window_ends: Micros,
    used: u32,
    pause: Duration,
    not_before: Micros,
}

impl Pace {
    /// Takes one turn, or says when the next one is allowed.
    ///
    /// # Errors
    /// Not before that time.
    pub fn take(&mut self, now: Micros) -> Result<(), Micros> {
        if now < self.not_before {
            return Err(self.not_before);
        }
        if now >= self.window_ends {
            if now.since(self.window_ends) > LONGEST_PAUSE {
                self.pause = Duration::ZERO;
            }
            self.window_ends = now + WINDOW;
            self.used = 0;
        }
        self.used += 1;
        if self.used > AT_ONCE {
            return Err(self.failed(now));
        }
        Ok(())
    }

    /// It did not work; returns when to try again.
    pub fn failed(&mut self, now: Micros) -> Micros {
        self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        self.not_before = now + self.pause;
        self.not_before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_times_at_once_then_with_growing_pauses() {
        let mut pace = Pace::default();
        let begin = Micros(100_000_000);
        for _ in 0..5 {
            assert_eq!(pace.take(begin), Ok(()));
        }
        let mut now = begin;
        let mut pauses = Vec::new();
        for _ in 0..7 {
            let again = pace.take(now).unwrap_err();
            pauses.push(again.since(now).as_secs());
            assert_eq!(pace.take(again - Duration::from_micros(1)), Err(again), "not before");
            now = again;
            for _ in 0..5 {
                assert_eq!(pace.take(now), Ok(()));
            }
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        now += Duration::from_secs(60);
        for _ in 0..5 {
            assert_eq!(pace.take(now), Ok(()));
        }
        assert_eq!(pace.take(now).unwrap_err().since(now).as_secs(), 1, "a quiet minute forgives");
    }
}
