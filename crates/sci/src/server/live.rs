//! Live events as server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>). Each event is written
//! once, however many read it; the newest are kept for a while, so that a reader that was away for a moment goes on where it was.
//! Each reader has a bounded part of the events ahead of it; one that is too slow is told so and dropped.

use super::door::Caller;
use super::routes::{Api, Params, wall_clock};
use crate::api::live;
use axum::Extension;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::channel::{Channel, Sender};
use scs::handle::LiveEvent;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::timeout;

/// Silence after which something is sent, so that both ends notice a connection that is gone; and how often a reader's right to
/// read is looked at again.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a reader may leave [`WINDOW`] events unread.
const PATIENCE: Duration = Duration::from_secs(30);
/// Events between the hub and the connection, in addition to the hub's own bound.
const WINDOW: usize = 16;
/// Events that a reader may be behind, and that are kept for those who come back.
const KEPT: usize = 4_096;
/// Bytes of events that are kept.
const KEPT_BYTES: usize = 4 << 20;

/// Where all events go through on their way to the readers.
#[derive(Debug, Clone)]
pub(super) struct Hub {
    ring: Arc<Mutex<Ring>>,
    sender: broadcast::Sender<Frame>,
}

/// An event as it is sent.
#[derive(Debug, Clone)]
struct Frame {
    text: Bytes,
    /// The last for a reader: it must look anew, because events never came this far.
    ends: bool,
}

/// The newest events.
#[derive(Debug)]
struct Ring {
    /// Tells this run of the SCS from others: numbers begin anew with each.
    run: u64,
    /// Number of the newest event; 0: none yet.
    newest: u64,
    frames: VecDeque<Frame>,
    bytes: usize,
}

impl Hub {
    /// A hub that nothing has gone through yet. `run` tells it from those of earlier runs.
    pub(super) fn new(run: u64) -> Self {
        let (sender, _) = broadcast::channel(KEPT);
        let ring = Ring { run, newest: 0, frames: VecDeque::new(), bytes: 0 };
        Self { ring: Arc::new(Mutex::new(ring)), sender }
    }

    /// Passes events on until there are no more.
    pub(super) async fn run(self, mut events: broadcast::Receiver<LiveEvent>) {
        loop {
            match events.recv().await {
                Ok(LiveEvent::Log(event)) => self.pass(live::LOG, &event, false),
                Ok(LiveEvent::Incident(incident)) => self.pass(live::INCIDENT, &incident, false),
                Ok(LiveEvent::ViewChanged) => self.pass(live::VIEW, &(), false),
                Err(RecvError::Lagged(missed)) => self.pass(live::LOST, &missed, true),
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn pass(&self, name: &str, data: &impl Serialize, ends: bool) {
        let mut ring = self.lock();
        ring.newest += 1;
        let frame = Frame { text: ring.text(name, data), ends };
        ring.bytes += frame.text.len();
        ring.frames.push_back(frame.clone());
        while ring.frames.len() > KEPT || ring.bytes > KEPT_BYTES {
            let Some(oldest) = ring.frames.pop_front() else { break };
            ring.bytes -= oldest.text.len();
        }
        // With the lock held, so that no reader comes between the ring and the rest. An error only says that nobody reads.
        let _ = self.sender.send(frame);
    }

    /// What a reader gets at once who has seen all up to `seen`, and what comes after that.
    fn join(&self, seen: Option<&str>) -> (Vec<Bytes>, broadcast::Receiver<Frame>) {
        let ring = self.lock();
        // Said at once, so that the reader knows that nothing from here on escapes it.
        let mut first = vec![Bytes::from_static(b": connected\n\n")];
        match seen.map(|seen| ring.behind(seen)) {
            None => {}
            Some(Some(missed)) => first.extend(missed.map(|frame| frame.text.clone())),
            // How many is not known.
            Some(None) => first.push(ring.text(live::LOST, &0)),
        }
        (first, self.sender.subscribe())
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    /// The events behind the one that `id` names; none: not all of them are kept.
    fn behind(&self, id: &str) -> Option<impl Iterator<Item = &Frame>> {
        let (run, number) = id.split_once('-')?;
        let number: u64 = number.parse().ok()?;
        if run != format!("{:x}", self.run) {
            return None;
        }
        let missed = usize::try_from(self.newest.checked_sub(number)?).ok()?;
        let skipped = self.frames.len().checked_sub(missed)?;
        Some(self.frames.iter().skip(skipped))
    }

    /// An event with the number of the newest. JSON has no line breaks of its own, so its data is one line.
    fn text(&self, name: &str, data: &impl Serialize) -> Bytes {
        let json = serde_json::to_string(data).expect("plain data with text keys has a JSON form");
        format!("id: {:x}-{}\nevent: {name}\ndata: {json}\n\n", self.run, self.newest).into()
    }
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Resume {
    /// As the header `Last-Event-ID`, for who makes a new `EventSource`.
    #[serde(rename = "last-event-id")]
    last_event_id: Option<String>,
}

pub(super) async fn events(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    query: Params<Resume>,
) -> Response {
    let resume = match query {
        Ok(Query(resume)) => resume,
        Err(rejection) => return crate::api::Problem::from(rejection).into_response(),
    };
    let seen =
        headers.get("last-event-id").and_then(|id| id.to_str().ok()).or(resume.last_event_id.as_deref());
    let (first, rest) = api.hub.join(seen);
    let (sender, body) = Channel::new(WINDOW);
    tokio::spawn(pump(first, rest, sender, move || api.door.admits(&caller, wall_clock())));
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    (headers, Body::new(body)).into_response()
}

async fn pump(
    first: Vec<Bytes>,
    mut events: broadcast::Receiver<Frame>,
    mut sender: Sender<Bytes, Infallible>,
    may_read: impl Fn() -> bool,
) {
    for text in first {
        if !send(&mut sender, text).await {
            return;
        }
    }
    let mut look_at = tokio::time::Instant::now() + KEEP_ALIVE;
    loop {
        let (text, ends) = match tokio::time::timeout_at(look_at, events.recv()).await {
            Ok(Ok(frame)) => (frame.text, frame.ends),
            Ok(Err(RecvError::Lagged(missed))) => {
                (format!("event: {}\ndata: {missed}\n\n", live::LOST).into(), true)
            }
            Ok(Err(RecvError::Closed)) => return,
            // Whoever was logged out meanwhile reads no further.
            Err(_) if !may_read() => return,
            Err(_) => {
                look_at += KEEP_ALIVE;
                (Bytes::from_static(b": still here\n\n"), false)
            }
        };
        if !send(&mut sender, text).await || ends {
            return;
        }
    }
}

/// Whether the reader took it; not: it is too slow, or gone.
async fn send(sender: &mut Sender<Bytes, Infallible>, text: Bytes) -> bool {
    matches!(timeout(PATIENCE, sender.send_data(text)).await, Ok(Ok(())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(hub: &Hub, seen: &str) -> Vec<String> {
        let (first, _) = hub.join(Some(seen));
        first.iter().skip(1).map(|text| String::from_utf8_lossy(text).into_owned()).collect()
    }

    #[test]
    fn who_comes_back_goes_on_where_it_was() {
        let hub = Hub::new(0xAB);
        for n in 1..=3 {
            hub.pass(live::LOG, &n, false);
        }
        assert_eq!(
            texts(&hub, "ab-1"),
            ["id: ab-2\nevent: log\ndata: 2\n\n", "id: ab-3\nevent: log\ndata: 3\n\n"]
        );
        assert!(texts(&hub, "ab-3").is_empty());
        assert_eq!(texts(&hub, "ab-0").len(), 3);
        for other in ["ab-4", "ac-1", "", "ab", "ab-x", "ab--1", "ab-99999999999999999999"] {
            assert_eq!(texts(&hub, other), ["id: ab-3\nevent: lost\ndata: 0\n\n"], "{other:?}");
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let hub = Hub::new(1);
        for n in 0..2 * KEPT {
            hub.pass(live::LOG, &n, false);
        }
        assert_eq!(hub.lock().frames.len(), KEPT);
        assert_eq!(texts(&hub, &format!("1-{KEPT}")).len(), KEPT, "the oldest kept");
        assert_eq!(texts(&hub, &format!("1-{}", KEPT - 1)).len(), 1, "one more is lost");
        for _ in 0..100 {
            hub.pass(live::LOG, &"x".repeat(100_000), false);
        }
        assert!(hub.lock().bytes <= KEPT_BYTES && hub.lock().frames.len() <= 42);
    }
}
