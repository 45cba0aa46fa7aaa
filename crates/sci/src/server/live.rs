//! Live events as server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>). Each reader
//! has a bounded part of the SCS's events ahead of it; one that is too slow is told so and dropped.

use super::routes::Api;
use crate::api::live;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::channel::{Channel, Sender};
use scs::handle::LiveEvent;
use serde::Serialize;
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::timeout;

/// Silence after which something is sent, so that both ends notice a connection that is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a reader may leave [`WINDOW`] events unread.
const PATIENCE: Duration = Duration::from_secs(30);
/// Events between the SCS and the connection, in addition to the handle's own bound.
const WINDOW: usize = 16;

pub(super) async fn events(State(api): State<Api>) -> Response {
    let (sender, body) = Channel::new(WINDOW);
    tokio::spawn(pump(api.handle.events(), sender));
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    (headers, Body::new(body)).into_response()
}

async fn pump(mut events: broadcast::Receiver<LiveEvent>, mut sender: Sender<Bytes, Infallible>) {
    // Said at once, so that the reader knows that nothing from here on escapes it.
    let mut next = Some(": connected\n\n".to_owned());
    while let Some(text) = next {
        match timeout(PATIENCE, sender.send_data(text.into())).await {
            Ok(Ok(())) => {}
            // Too slow, or gone.
            Err(_) | Ok(Err(_)) => return,
        }
        next = match timeout(KEEP_ALIVE, events.recv()).await {
            Err(_) => Some(": still here\n\n".to_owned()),
            Ok(Ok(event)) => Some(frame_of(&event)),
            Ok(Err(RecvError::Lagged(missed))) => {
                // Whether the reader takes this, too, changes nothing.
                let _ = timeout(PATIENCE, sender.send_data(frame(live::LOST, &missed).into())).await;
                None
            }
            Ok(Err(RecvError::Closed)) => None,
        };
    }
}

fn frame_of(event: &LiveEvent) -> String {
    match event {
        LiveEvent::Log(event) => frame(live::LOG, event),
        LiveEvent::Incident(incident) => frame(live::INCIDENT, incident),
        LiveEvent::ViewChanged => frame(live::VIEW, &()),
    }
}

/// One event. JSON has no line breaks of its own, so its data is one line.
fn frame(name: &str, data: &impl Serialize) -> String {
    let json = serde_json::to_string(data).expect("plain data with text keys has a JSON form");
    format!("event: {name}\ndata: {json}\n\n")
}
