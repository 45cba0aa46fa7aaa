//! Refusals of peers, told often enough to be seen and seldom enough not to fill the log: anybody who reaches the port
//! can cause one.

use domain::{LogEvent, Micros, events};
use std::time::Duration;

/// Time over which refusals are counted.
const WINDOW: Duration = Duration::from_secs(10);
/// Refusals within it that are told one by one.
const TOLD: u32 = 20;

/// Counts refusals.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    since: Micros,
    count: u32,
}

impl Refusals {
    /// The log event of a refusal; none where enough were told.
    pub(crate) fn event(&mut self, text: &str, now: Micros) -> Option<LogEvent> {
        let untold = self.count.saturating_sub(TOLD);
        if now.since(self.since) >= WINDOW {
            (self.since, self.count) = (now, 0);
        }
        self.count = self.count.saturating_add(1);
        let event = LogEvent::new(events::PEER_REFUSED, now).because(text);
        match (self.count, untold) {
            (1, 1..) => Some(event.with("untold before", untold)),
            (1..=TOLD, _) => Some(event),
            (_, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_told_once_it_ebbs() {
        let mut refusals = Refusals::default();
        let told =
            (0..1_000).filter(|n| refusals.event("a stranger", Micros(20_000_000 + n)).is_some()).count();
        assert_eq!(told, 20);
        let next = refusals.event("a stranger", Micros(40_000_000)).unwrap();
        assert_eq!(next.attributes["untold before"], "980");
    }
}
