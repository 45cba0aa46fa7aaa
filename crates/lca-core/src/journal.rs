//! Reports that the SCS has not acknowledged yet, in order. Pure and bounded: when it is full, what is only to be read
//! goes before what is to be acted upon.

use domain::{Fact, Micros, Report};
use std::collections::VecDeque;

/// Reports kept.
const MOST: usize = 10_000;
/// Text kept in them, bytes: outputs of scripts, log texts, attributes.
const MOST_TEXT: usize = 4 << 20;
/// Log events dropped at once when there is no room.
const BATCH: usize = 100;

/// The reports.
#[derive(Debug)]
pub struct Journal {
    reports: VecDeque<Report>,
    text: usize,
    logs: usize,
    next: u64,
}

impl Journal {
    /// An empty journal whose first report has number `first`.
    #[must_use]
    pub fn new(first: u64) -> Self {
        Self { reports: VecDeque::new(), text: 0, logs: 0, next: first }
    }

    /// Appends a report and gives it the next number. Returns how many older ones had to go.
    pub fn push(&mut self, at: Micros, fact: Fact) -> usize {
        let report = Report { seq: self.next, at, fact };
        self.next += 1;
        self.text += text_of(&report.fact);
        self.logs += usize::from(is_log(&report.fact));
        self.reports.push_back(report);
        let mut gone = 0;
        // Each round drops at least one of the finitely many reports, and never the newest.
        while self.reports.len() > 1 && (self.reports.len() > MOST || self.text > MOST_TEXT) {
            gone += self.make_room();
        }
        gone
    }

    /// The newest report.
    #[must_use]
    pub fn last(&self) -> Option<&Report> {
        self.reports.back()
    }

    /// Forgets what the SCS has.
    pub fn acknowledge(&mut self, seq: u64) {
        while self.reports.front().is_some_and(|report| report.seq <= seq) {
            self.forget_first();
        }
    }

    /// All reports that wait, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Report> {
        self.reports.iter()
    }

    /// Drops the oldest log events, or where there are none the oldest report.
    fn make_room(&mut self) -> usize {
        let newest = self.next - 1;
        if self.logs == 0 || (self.logs == 1 && self.last().is_some_and(|report| is_log(&report.fact))) {
            self.forget_first();
            return 1;
        }
        let mut gone = 0;
        let (text, logs) = (&mut self.text, &mut self.logs);
        self.reports.retain(|report| {
            let goes = gone < BATCH && is_log(&report.fact) && report.seq != newest;
            if goes {
                gone += 1;
                *logs -= 1;
                *text -= text_of(&report.fact);
            }
            !goes
        });
        gone
    }

    fn forget_first(&mut self) {
        if let Some(report) = self.reports.pop_front() {
            self.text -= text_of(&report.fact);
            self.logs -= usize::from(is_log(&report.fact));
        }
    }
}

fn is_log(fact: &Fact) -> bool {
    match fact {
        Fact::Log(_) => true,
        Fact::App(_)
        | Fact::Vip(_)
        | Fact::VipSighted(_)
        | Fact::Interface(_)
        | Fact::Peer(_)
        | Fact::LeaseLetGo { .. }
        | Fact::Answer(_)
        | Fact::LaunchEnded(_) => false,
    }
}

/// Bytes of text that a report keeps in memory; the rest of it is of fixed size.
fn text_of(fact: &Fact) -> usize {
    match fact {
        Fact::App(report) => report.text.len(),
        Fact::Vip(report) => report.why.len(),
        Fact::LaunchEnded(result) => result.output.len(),
        Fact::Log(event) => {
            event.text.len()
                + event.attributes.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
        }
        Fact::VipSighted(_)
        | Fact::Interface(_)
        | Fact::Peer(_)
        | Fact::LeaseLetGo { .. }
        | Fact::Answer(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{Answer, AnswerOutcome, LaunchOutcome, LaunchResult, LogEvent, RefId, events};

    fn log() -> Fact {
        Fact::Log(LogEvent::new(events::APP_STARTED, Micros(0)))
    }

    fn answer(ref_id: u64) -> Fact {
        Fact::Answer(Answer { ref_id: RefId(ref_id), outcome: AnswerOutcome::Done })
    }

    #[test]
    fn numbers_grow_by_one_and_what_is_acknowledged_goes() {
        let mut journal = Journal::new(7);
        for n in 0..3 {
            assert_eq!(journal.push(Micros(n), answer(n)), 0);
        }
        journal.acknowledge(8);
        assert_eq!(journal.iter().map(|report| report.seq).collect::<Vec<_>>(), [9]);
        journal.acknowledge(3);
        journal.acknowledge(u64::MAX);
        assert_eq!(journal.iter().count(), 0);
        journal.push(Micros(9), answer(9));
        assert_eq!(journal.last().unwrap().seq, 10);
    }

    #[test]
    fn when_it_is_full_log_events_go_before_facts() {
        let mut journal = Journal::new(1);
        journal.push(Micros(0), answer(0));
        for _ in 1..MOST {
            journal.push(Micros(0), log());
        }
        assert_eq!(journal.push(Micros(0), answer(1)), BATCH);
        assert_eq!(journal.iter().next().unwrap().seq, 1, "the oldest fact is still there");
        assert_eq!(journal.iter().nth(1).unwrap().seq, 2 + BATCH as u64);
    }

    #[test]
    fn facts_go_only_when_there_is_nothing_else() {
        let mut journal = Journal::new(1);
        for n in 0..=MOST as u64 {
            journal.push(Micros(0), answer(n));
        }
        assert_eq!(journal.iter().next().unwrap().seq, 2);
        assert_eq!(journal.push(Micros(0), log()), 1, "the newest log event is not the one that goes");
        assert!(is_log(&journal.last().unwrap().fact));
    }

    #[test]
    fn large_outputs_are_bounded_too() {
        let mut journal = Journal::new(1);
        let output = "x".repeat(16 * 1024);
        for n in 0..1_000 {
            let result = LaunchResult {
                ref_id: RefId(n),
                outcome: LaunchOutcome::Succeeded,
                output: output.clone(),
                took_us: 1,
            };
            journal.push(Micros(0), Fact::LaunchEnded(result));
        }
        assert_eq!(journal.iter().count(), MOST_TEXT / output.len());
    }
}
