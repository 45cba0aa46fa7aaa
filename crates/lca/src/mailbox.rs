//! The way into the real-time thread: a bounded queue and a waker. Senders wait for room; they have the time.

use crate::messages::News;
use mio::Waker;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// News that may wait.
const WAITING: usize = 1_024;

/// The senders' end. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Mailbox {
    queue: SyncSender<News>,
    waker: Arc<Waker>,
}

impl Mailbox {
    /// A mailbox whose reader is woken by `waker`.
    #[must_use]
    pub fn new(waker: Waker) -> (Self, Receiver<News>) {
        let (queue, news) = sync_channel(WAITING);
        (Self { queue, waker: Arc::new(waker) }, news)
    }

    /// Sends, and waits for room if need be. Once the real-time thread has ended nobody is interested any more.
    pub fn send(&self, news: News) {
        if self.queue.send(news).is_ok() {
            // Fails only when the eventfd's counter is full, and then a wake-up is due anyway.
            let _ = self.waker.wake();
        }
    }
}
