//! Carrying out what the core wants: messages to agents first and at once, records to the store and to live listeners,
//! the view and the durable state a little later and seldom enough not to be felt.

use crate::handle::{Handle, LiveEvent};
use crate::store::{Store, StoreItem};
use domain::Micros;
use ha_core::{OrderId, OrderOutcome, Record, State};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How soon behind a change the view is made anew.
const VIEW_DELAY: Duration = Duration::from_millis(10);
/// Share of the core thread's time that making views may take: one in this many.
const VIEW_SHARE: u32 = 20;
/// How soon behind a change the durable state is handed to the store.
const DURABLE_DELAY: Duration = Duration::from_millis(5);
/// The same where writing it out takes long.
const DURABLE_MOST: Duration = Duration::from_millis(100);
/// Share of the core thread's time that writing it out may take: one in this many.
const DURABLE_SHARE: u32 = 10;

/// What leaves the core thread for others than agents.
#[derive(Debug)]
pub(crate) struct Outbox {
    store: Store,
    handle: Handle,
    waiting: BTreeMap<OrderId, oneshot::Sender<OrderOutcome>>,
    last_order: u64,
    view_due: Option<Micros>,
    view_cost: Duration,
    durable_due: Option<Micros>,
    durable_cost: Duration,
}

impl Outbox {
    pub(crate) fn new(store: Store, handle: Handle) -> Self {
        Self {
            store,
            handle,
            waiting: BTreeMap::new(),
            last_order: 0,
            view_due: None,
            view_cost: Duration::ZERO,
            durable_due: None,
            durable_cost: Duration::ZERO,
        }
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Remembers who waits for the outcome of an order.
    pub(crate) fn expect(&mut self, outcome: oneshot::Sender<OrderOutcome>) -> OrderId {
        self.last_order += 1;
        let id = OrderId(self.last_order);
        self.waiting.insert(id, outcome);
        id
    }

    pub(crate) fn answer(&mut self, id: OrderId, outcome: OrderOutcome) {
        if let Some(waiting) = self.waiting.remove(&id) {
            // Whoever asked may have gone; the outcome is in the log all the same.
            let _ = waiting.send(outcome);
        }
    }

    pub(crate) fn log(&mut self, event: domain::LogEvent) {
        self.handle.publish(LiveEvent::Log(event.clone()));
        self.store.write(StoreItem::Log(event));
    }

    pub(crate) fn record(&mut self, record: Record) {
        match &record {
            Record::Incident(incident) => {
                self.handle.publish(LiveEvent::Incident(Box::new(incident.clone())))
            }
            Record::AlarmActive(_) | Record::AlarmEnded { .. } => {}
        }
        self.store.write(StoreItem::Record(record));
    }

    /// Something changed: the view is out of date.
    pub(crate) fn changed(&mut self, now: Micros) {
        self.view_due.get_or_insert(now + VIEW_DELAY.max(self.view_cost * VIEW_SHARE));
    }

    /// Something changed that must survive.
    pub(crate) fn remember(&mut self, now: Micros) {
        self.durable_due
            .get_or_insert(now + (self.durable_cost * DURABLE_SHARE).clamp(DURABLE_DELAY, DURABLE_MOST));
    }

    /// Does what is due.
    pub(crate) fn work(&mut self, state: &State, now: Micros) {
        if self.durable_due.is_some_and(|at| at <= now) {
            self.durable_due = None;
            let begun = Instant::now();
            self.keep(state);
            self.durable_cost = begun.elapsed();
        }
        if self.view_due.is_some_and(|at| at <= now) {
            self.view_due = None;
            let begun = Instant::now();
            self.handle.publish_view(state.view(now));
            self.view_cost = begun.elapsed();
        }
    }

    /// Hands the durable state to the store.
    pub(crate) fn keep(&self, state: &State) {
        match serde_json::to_string(&state.durable()) {
            Ok(json) => self.store.write(StoreItem::Durable(json)),
            Err(e) => eprintln!("takeover scs: the durable state cannot be encoded: {e}"),
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Micros> {
        self.view_due.into_iter().chain(self.durable_due).min()
    }
}
