//! The queue between those who hand records in and the writer: bounded, in memory, held for moments only. It knows
//! nothing of SQLite.

use super::{AuditRecord, Retention, StoreItem};
use crate::configuration::Revision;
use domain::{Level, LogEvent};
use ha_core::Record;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Records of one transaction at most. Bounds how long the queue is locked while they are taken out.
pub(super) const BATCH: usize = 256;

/// How long the writer waits for more to come before it commits: one commit per burst, not one per record, and not in
/// the very moment in which a takeover needs the processor.
const LINGER: Duration = Duration::from_millis(10);

/// What becomes a row of its own, as opposed to the core's state, of which only the newest counts.
#[derive(Debug, PartialEq)]
pub(super) enum Row {
    Log(LogEvent),
    Record(Record),
    Audit(AuditRecord),
    Accounts(String),
    Configuration(Box<Revision>, String),
}

/// A row with its place in the order in which things were handed in.
pub(super) type Numbered = (u64, Row);

/// What the writer is to do next.
#[derive(Debug, PartialEq)]
pub(super) enum Work {
    /// Write the core's state.
    Durable(u64, String),
    /// Write these records.
    Records(Vec<Numbered>),
    /// Nothing is there to be written.
    Nothing,
    /// Nothing is left and nobody can hand anything in any more.
    End,
}

#[derive(Debug)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    /// The writer waits on it.
    work: Condvar,
    /// [`Queue::flush`] waits on it.
    settled: Condvar,
    capacity: usize,
}

#[derive(Debug)]
struct Inner {
    /// Everything but `detail` and `durable`.
    main: VecDeque<Numbered>,
    /// Log events of the levels interaction and trace, the first to be dropped.
    detail: VecDeque<Numbered>,
    durable: Option<(u64, String)>,
    /// The lowest number that the writer has taken out and not settled.
    taken: Option<u64>,
    next: u64,
    dropped: u64,
    /// Whether the writer sleeps until the first record comes.
    asleep: bool,
    /// Somebody waits in `flush`: no lingering.
    hurried: usize,
    closing: bool,
    retention: Retention,
}

impl Queue {
    pub(super) fn new(capacity: usize, retention: Retention) -> Self {
        let inner = Inner {
            main: VecDeque::new(),
            detail: VecDeque::new(),
            durable: None,
            taken: None,
            next: 0,
            dropped: 0,
            asleep: false,
            hurried: 0,
            closing: false,
            retention,
        };
        Self { inner: Mutex::new(inner), work: Condvar::new(), settled: Condvar::new(), capacity }
    }

    /// Puts an item in; over capacity, drops what matters least.
    pub(super) fn push(&self, item: StoreItem) {
        let mut inner = self.lock();
        match item {
            StoreItem::Log(event) if event.level == Level::Debug => return,
            StoreItem::Log(event) => inner.enqueue(Row::Log(event), self.capacity),
            StoreItem::Record(record) => inner.enqueue(Row::Record(record), self.capacity),
            StoreItem::Audit(record) => inner.enqueue(Row::Audit(record), self.capacity),
            StoreItem::Accounts(state) => inner.enqueue(Row::Accounts(state), self.capacity),
            StoreItem::Configuration(revision, text) => {
                inner.enqueue(Row::Configuration(revision, text), self.capacity)
            }
            StoreItem::Durable(state) => {
                let number = inner.number();
                inner.durable = Some((number, state));
            }
        }
        let wake = inner.asleep || inner.durable.is_some() || inner.waiting() == BATCH;
        inner.asleep = false;
        drop(inner);
        if wake {
            self.work.notify_one();
        }
    }

    /// The next work: the core's state at once, records after a short time in which more may come. Waits at most
    /// until `idle_until` for something to do.
    pub(super) fn next(&self, idle_until: Instant) -> Work {
        let mut inner = self.lock();
        while inner.durable.is_none() && inner.waiting() == 0 {
            if inner.closing {
                return Work::End;
            }
            let left = idle_until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Work::Nothing;
            }
            inner.asleep = true;
            inner = self.sleep(inner, left);
            inner.asleep = false;
        }
        let commit_at = Instant::now() + LINGER;
        while inner.durable.is_none() && inner.waiting() < BATCH && inner.hurried == 0 && !inner.closing {
            let left = commit_at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            inner = self.sleep(inner, left);
        }
        if let Some((number, state)) = inner.durable.take() {
            inner.taken = Some(number);
            return Work::Durable(number, state);
        }
        let batch = inner.take_batch();
        inner.taken = batch.first().map(|(number, _)| *number);
        Work::Records(batch)
    }

    /// What was taken out is committed.
    pub(super) fn settle(&self) {
        self.lock().taken = None;
        self.settled.notify_all();
    }

    /// The core's state that was taken out could not be written.
    pub(super) fn put_back_durable(&self, number: u64, state: String) {
        let mut inner = self.lock();
        inner.taken = None;
        inner.durable.get_or_insert((number, state));
    }

    /// Records that were taken out could not be written.
    pub(super) fn put_back(&self, batch: Vec<Numbered>) {
        let mut inner = self.lock();
        inner.taken = None;
        for entry in batch.into_iter().rev() {
            inner.lane(&entry.1).push_front(entry);
        }
        while inner.waiting() > self.capacity {
            inner.drop_one();
        }
    }

    /// Sleeps for `time`, or until the queue closes. Returns whether it closes.
    pub(super) fn pause(&self, time: Duration) -> bool {
        let inner = self.lock();
        let wait = self.work.wait_timeout_while(inner, time, |inner| !inner.closing);
        let (inner, _) = wait.unwrap_or_else(std::sync::PoisonError::into_inner);
        inner.closing
    }

    pub(super) fn flush(&self, limit: Duration) -> bool {
        let mut inner = self.lock();
        let target = inner.next;
        inner.hurried += 1;
        self.work.notify_one();
        let wait =
            self.settled.wait_timeout_while(inner, limit, |inner| inner.oldest().is_some_and(|n| n < target));
        (inner, _) = wait.unwrap_or_else(std::sync::PoisonError::into_inner);
        inner.hurried -= 1;
        inner.oldest().is_none_or(|n| n >= target)
    }

    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.work.notify_one();
    }

    pub(super) fn set_retention(&self, retention: Retention) {
        self.lock().retention = retention;
    }

    pub(super) fn retention(&self) -> Retention {
        self.lock().retention
    }

    /// How many records wait, and how many were dropped so far.
    pub(super) fn figures(&self) -> (usize, u64) {
        let inner = self.lock();
        (inner.waiting(), inner.dropped)
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    fn sleep<'q>(&self, inner: MutexGuard<'q, Inner>, time: Duration) -> MutexGuard<'q, Inner> {
        self.work.wait_timeout(inner, time).unwrap_or_else(std::sync::PoisonError::into_inner).0
    }

    /// Nothing in here panics half way through a change, so a poisoned lock guards good data.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Inner {
    fn waiting(&self) -> usize {
        self.main.len() + self.detail.len()
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    fn lane(&mut self, row: &Row) -> &mut VecDeque<Numbered> {
        match row {
            Row::Log(event) if event.level >= Level::Interaction => &mut self.detail,
            Row::Log(_) | Row::Record(_) | Row::Audit(_) | Row::Accounts(_) | Row::Configuration(..) => {
                &mut self.main
            }
        }
    }

    fn enqueue(&mut self, row: Row, capacity: usize) {
        let number = self.number();
        self.lane(&row).push_back((number, row));
        if self.waiting() > capacity {
            self.drop_one();
        }
    }

    fn drop_one(&mut self) {
        if self.detail.pop_front().or_else(|| self.main.pop_front()).is_some() {
            self.dropped += 1;
        }
    }

    /// Up to [`BATCH`] items in the order in which they were handed in.
    fn take_batch(&mut self) -> Vec<Numbered> {
        let mut batch = Vec::with_capacity(self.waiting().min(BATCH));
        while batch.len() < BATCH {
            let from_detail = match (self.main.front(), self.detail.front()) {
                (Some((main, _)), Some((detail, _))) => detail < main,
                (None, Some(_)) => true,
                (Some(_) | None, None) => false,
            };
            let lane = if from_detail { &mut self.detail } else { &mut self.main };
            match lane.pop_front() {
                Some(entry) => batch.push(entry),
                None => break,
            }
        }
        batch
    }

    /// The lowest number that is not settled.
    fn oldest(&self) -> Option<u64> {
        let fronts =
            [self.main.front(), self.detail.front()].into_iter().flatten().map(|(number, _)| *number);
        fronts.chain(self.durable.as_ref().map(|(number, _)| *number)).chain(self.taken).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{LogEvent, Micros, events};

    fn queue(capacity: usize) -> Queue {
        Queue::new(capacity, Retention { keep: Duration::from_secs(1), keep_bytes: 1 })
    }

    fn event(level: Level, text: &str) -> StoreItem {
        let mut event = LogEvent::new(events::SCS_STARTED, Micros(1));
        event.level = level;
        event.text = text.to_owned();
        StoreItem::Log(event)
    }

    fn texts(work: Work) -> Vec<String> {
        let Work::Records(batch) = work else { panic!("records expected, not {work:?}") };
        batch
            .into_iter()
            .map(|(_, row)| match row {
                Row::Log(event) => event.text,
                other @ (Row::Record(_) | Row::Audit(_) | Row::Accounts(_) | Row::Configuration(..)) => {
                    format!("{other:?}")
                }
            })
            .collect()
    }

    #[test]
    fn details_are_dropped_first_then_the_oldest() {
        let queue = queue(3);
        queue.push(event(Level::Standard, "a"));
        queue.push(event(Level::Trace, "b"));
        queue.push(event(Level::Interaction, "c"));
        queue.push(event(Level::Alarm, "d"));
        assert_eq!(queue.figures(), (3, 1));
        queue.push(event(Level::Standard, "e"));
        queue.push(event(Level::Standard, "f"));
        queue.push(event(Level::Trace, "g"));
        assert_eq!(queue.figures(), (3, 4));
        assert_eq!(texts(queue.next(Instant::now())), ["d", "e", "f"]);
    }

    #[test]
    fn order_survives_two_lanes_and_a_failed_batch() {
        let queue = queue(10);
        for (level, text) in
            [(Level::Trace, "a"), (Level::Standard, "b"), (Level::Trace, "c"), (Level::Alarm, "d")]
        {
            queue.push(event(level, text));
        }
        queue.push(event(Level::Debug, "never kept"));
        let Work::Records(batch) = queue.next(Instant::now()) else { panic!("records expected") };
        queue.push(event(Level::Standard, "e"));
        queue.put_back(batch);
        assert!(!queue.flush(Duration::ZERO), "nothing is settled");
        assert_eq!(texts(queue.next(Instant::now())), ["a", "b", "c", "d", "e"]);
        assert!(!queue.flush(Duration::ZERO), "taken out is not settled");
        queue.settle();
        assert!(queue.flush(Duration::ZERO));
    }

    #[test]
    fn only_the_newest_state_of_the_core_is_written() {
        let queue = queue(10);
        queue.push(StoreItem::Durable("1".to_owned()));
        queue.push(StoreItem::Durable("2".to_owned()));
        let Work::Durable(number, state) = queue.next(Instant::now()) else { panic!("state expected") };
        assert_eq!(state, "2");
        queue.push(StoreItem::Durable("3".to_owned()));
        queue.put_back_durable(number, state);
        let Work::Durable(number, state) = queue.next(Instant::now()) else { panic!("state expected") };
        assert_eq!(state, "3");
        queue.put_back_durable(number, state);
        assert_eq!(
            queue.next(Instant::now()),
            Work::Durable(number, "3".to_owned()),
            "not lost by a failure"
        );
    }
}
