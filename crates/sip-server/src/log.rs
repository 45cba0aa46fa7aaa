//! Log events on their way to the agent, which passes them on to the SCS: so many in a while and no more, since a fault of
//! a trunk or an attack could make thousands of them, and calls end by the hundred.

use crate::agent::Agent;
use crate::say::Say;
use control_link::messages::FromApplication;
use domain::{LogEvent, Micros, events};
use sip_core::Record;
use std::time::Duration;

/// Notices that may go out at once.
const BURST: u32 = 50;
/// How often one more may.
const ONE_PER: Duration = Duration::from_millis(200);
/// Records of calls that may go out at once: so many seconds of what may go out in one.
const SECONDS_AT_ONCE: u32 = 2;

/// Characters of what somebody sent that an event shows.
const MOST_SHOWN: usize = 100;

/// The way to the agent.
#[derive(Debug)]
pub(crate) struct Log {
    burst: u32,
    one_per: Duration,
    tokens: u32,
    filled_at: Micros,
    withheld: u64,
}

impl Log {
    /// For what an operator wants to read.
    pub(crate) fn of_notices(now: Micros) -> Self {
        Self::new(BURST, ONE_PER, now)
    }

    /// For records of calls, at most so many a second; none: no way at all.
    pub(crate) fn of_calls(per_second: u16, now: Micros) -> Option<Self> {
        let per_second = u32::from(per_second);
        (per_second > 0)
            .then(|| Self::new(per_second * SECONDS_AT_ONCE, Duration::from_secs(1) / per_second, now))
    }

    fn new(burst: u32, one_per: Duration, now: Micros) -> Self {
        Self { burst, one_per, tokens: burst, filled_at: now, withheld: 0 }
    }

    /// Tells the agent that a call ended, without a word of its own here: the record is in a file.
    pub(crate) fn call(&mut self, record: &Record, agent: &mut Agent, say: &Say, now: Micros) {
        if self.may(now) {
            agent.tell(&FromApplication::Log { event: call_ended(record, now) }, say);
        }
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
        let due = now.since(self.filled_at).as_micros() / self.one_per.as_micros();
        let due = u32::try_from(due).unwrap_or(u32::MAX);
        if due > 0 {
            self.tokens = self.tokens.saturating_add(due).min(self.burst);
            self.filled_at += self.one_per * due.min(self.burst);
            if self.tokens == self.burst {
                self.filled_at = now;
            }
        }
        let may = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        may
    }
}

/// A record as a log event. Addresses are what others sent: bounded, so that the event is.
fn call_ended(record: &Record, now: Micros) -> LogEvent {
    let short = |text: &str| -> String { text.chars().take(MOST_SHOWN).collect() };
    let (caller, called) = (record.caller.as_deref().unwrap_or(&record.from), short(&record.called));
    let caller = short(caller);
    let seconds = record.duration_ms / 1_000;
    let text = format!("{caller} called {called}, {}, {seconds} s", record.cause);
    let event = LogEvent::new(events::CALL_ENDED, now).because(text);
    event
        .with("call", record.call)
        .with("call-id", short(&record.call_id))
        .with("epoch", record.epoch)
        .with("caller", caller)
        .with("called", called)
        .with("answered-by", short(record.answered_by.as_deref().unwrap_or_default()))
        .with("began", record.began_us)
        .with("setup-ms", record.setup_ms)
        .with("duration-ms", record.duration_ms)
        .with("cause", &record.cause)
        .with("status", record.status.map_or_else(String::new, |status| status.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::Epoch;
    use sip_proto::b2bua::CallKey;

    #[test]
    fn a_burst_passes_and_then_so_many_in_a_while() {
        let mut now = Micros(1_000);
        let mut log = Log::of_notices(now);
        assert_eq!((0..1_000).filter(|_| log.may(now)).count(), BURST as usize);
        now += ONE_PER * 3 + ONE_PER / 2;
        assert_eq!((0..1_000).filter(|_| log.may(now)).count(), 3);
        now += ONE_PER / 2;
        assert!(log.may(now), "halves add up");
        now += Duration::from_secs(1 << 40);
        assert_eq!((0..1_000).filter(|_| log.may(now)).count(), BURST as usize);
    }

    #[test]
    fn records_of_calls_have_a_pace_of_their_own() {
        let now = Micros(1_000);
        assert!(Log::of_calls(0, now).is_none());
        let mut log = Log::of_calls(20, now).unwrap();
        assert_eq!((0..1_000).filter(|_| log.may(now)).count(), 40);
        let later = now + Duration::from_secs(1);
        assert_eq!((0..1_000).filter(|_| log.may(later)).count(), 20);
    }

    #[test]
    fn a_record_is_told_whole_and_bounded() {
        let record = Record {
            call: CallKey::read("00000000000000a7").unwrap(),
            epoch: Epoch(7),
            call_id: "a".repeat(1_000),
            caller: None,
            from: "sip:alice@example.com".to_owned(),
            called: "sip:bob@example.com".to_owned(),
            answered_by: Some("bob".to_owned()),
            began_us: Micros(1),
            answered_us: Some(Micros(2)),
            ended_us: Micros(3),
            setup_ms: 4,
            duration_ms: 65_000,
            cause: "caller-hung-up".into(),
            status: None,
        };
        let event = call_ended(&record, Micros(9));
        assert!(
            event.text.ends_with("sip:alice@example.com called sip:bob@example.com, caller-hung-up, 65 s")
        );
        assert_eq!(event.attributes["call-id"].len(), MOST_SHOWN);
        assert_eq!(
            (event.attributes["epoch"].as_str(), event.attributes["duration-ms"].as_str()),
            ("7", "65000")
        );
    }
}
