//! Log events on their way to the agent, which passes them on to the SCS: so many in a while and no more, since a fault of
//! a trunk or an attack could make thousands of them.

use crate::agent::Agent;
use crate::say::Say;
use control_link::messages::FromApplication;
use domain::{LogEvent, Micros};
use std::time::Duration;

/// Events that may go out at once.
const BURST: u32 = 50;
/// How often one more may.
const ONE_PER: Duration = Duration::from_millis(200);

/// The way to the agent.
#[derive(Debug)]
pub(crate) struct Log {
    tokens: u32,
    filled_at: Micros,
    withheld: u64,
}

impl Log {
    pub(crate) fn new(now: Micros) -> Self {
        Self { tokens: BURST, filled_at: now, withheld: 0 }
    }

    /// Tells the agent of an event, or at least says it here.
    pub(crate) fn event(&mut self, event: LogEvent, agent: &mut Agent, say: &Say, now: Micros) {
        if !self.may(now) {
            self.withheld += 1;
            return;
        }
        if self.withheld > 0 {
            say.note(format_args!("{} log events were withheld: too many at once", self.withheld));
            self.withheld = 0;
        }
        say.note(format_args!("{} {}", event.id, event.text));
        agent.tell(&FromApplication::Log { event }, say);
    }

    fn may(&mut self, now: Micros) -> bool {
        let due = now.since(self.filled_at).as_micros() / ONE_PER.as_micros();
        let due = u32::try_from(due).unwrap_or(u32::MAX);
        if due > 0 {
            self.tokens = self.tokens.saturating_add(due).min(BURST);
            self.filled_at += ONE_PER * due.min(BURST);
            if self.tokens == BURST {
                self.filled_at = now;
            }
        }
        let may = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_so_many_in_a_while() {
        let mut now = Micros(1_000);
        let mut log = Log::new(now);
        assert_eq!((0..1_000).filter(|_| log.may(now)).count(), BURST as usize);
        now += ONE_PER * 3 + ONE_PER / 2;
        assert_eq!((0..1_000).filter(|_| log.may(now)).count(), 3);
        now += ONE_PER / 2;
        assert!(log.may(now), "halves add up");
        now += Duration::from_secs(1 << 40);
        assert_eq!((0..1_000).filter(|_| log.may(now)).count(), BURST as usize);
    }
}
