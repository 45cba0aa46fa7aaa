//! What every endpoint does the same way: an unchanged answer is not sent again (ETag), and an order that is sent again because
//! its answer was lost is not carried out again (Idempotency-Key).

use super::door::Caller;
use crate::api::{MAX_BODY, Problem};
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use domain::Micros;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Header that names an order (draft-ietf-httpapi-idempotency-key-header).
const KEY: &str = "idempotency-key";
/// Longest key, bytes.
const MAX_KEY: usize = 128;
/// Orders remembered at most; the oldest are forgotten first.
const REMEMBERED: usize = 1_000;
/// How long an order is remembered.
const MEMORY: Duration = Duration::from_secs(24 * 3_600);
/// Largest answer that is looked at, bytes: the largest page of the log is smaller.
const MAX_ANSWER: usize = 64 << 20;

/// Gives an answer its ETag, and leaves it out where the client has it already.
pub(super) async fn unchanged(request: Request, next: Next) -> Response {
    let reads = *request.method() == Method::GET;
    let known = request.headers().get(header::IF_NONE_MATCH).cloned();
    let response = next.run(request).await;
    let json = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    if !reads || response.status() != StatusCode::OK || !json {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let Ok(body) = to_bytes(body, MAX_ANSWER).await else {
        return Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the answer is too large; ask for less")
            .into_response();
    };
    let tag = format!("\"{}\"", hex(&Sha256::digest(&body)[..16]));
    let is_known = known.as_ref().and_then(|value| value.to_str().ok()).is_some_and(|known| {
        known
            .split(',')
            .map(|one| one.trim())
            .any(|one| one.strip_prefix("W/").unwrap_or(one) == tag || one == "*")
    });
    if let Ok(value) = HeaderValue::from_str(&tag) {
        head.headers.insert(header::ETAG, value);
    }
    // Kept by nobody but who asked, and asked for each time.
    head.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    if is_known {
        head.status = StatusCode::NOT_MODIFIED;
        head.headers.remove(header::CONTENT_LENGTH);
        head.headers.remove(header::CONTENT_TYPE);
        return Response::from_parts(head, Body::empty());
    }
    Response::from_parts(head, body.into())
}

/// The orders that carried a key, by who gave them and the key, with what was answered.
#[derive(Debug, Clone, Default)]
pub(super) struct Orders(Arc<Mutex<BTreeMap<(String, String), Order>>>);

#[derive(Debug, Clone)]
struct Order {
    /// Of path and body: a key is for one order.
    fingerprint: [u8; 32],
    at: Micros,
    answer: watch::Receiver<Option<Answer>>,
}

#[derive(Debug, Clone)]
struct Answer {
    status: StatusCode,
    kind: Option<HeaderValue>,
    body: Bytes,
}

impl Orders {
    /// Carries the request out, or, where one with its key was, answers as that was answered. Goes on when the client goes away
    /// meanwhile, or the next attempt would carry it out again.
    pub(super) async fn once(&self, caller: &Caller, now: Micros, request: Request, next: Next) -> Response {
        let Some(key) = request.headers().get(KEY).cloned() else { return next.run(request).await };
        let key = match key.to_str() {
            Ok(key)
                if (1..=MAX_KEY).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic()) =>
            {
                key.to_owned()
            }
            Ok(_) | Err(_) => {
                return Problem::bad_request(format!(
                    "an Idempotency-Key has 1 to {MAX_KEY} visible characters"
                ))
                .into_response();
            }
        };
        let (head, body) = request.into_parts();
        let Ok(body) = to_bytes(body, MAX_BODY).await else {
            let detail = format!("the body is larger than {} KiB, or did not come", MAX_BODY / 1024);
            return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail).into_response();
        };
        let mut hash = Sha256::new();
        hash.update(head.uri.path());
        hash.update([0]);
        hash.update(&body);
        let fingerprint = hash.finalize().into();
        let order = match self.begin((caller.identity(), key), fingerprint, now) {
            Begun::Again(order) if order.fingerprint != fingerprint => {
                let detail = "this Idempotency-Key was used for another order; make a new one for each";
                return Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail).into_response();
            }
            Begun::Again(order) => order.answer,
            Begun::First(sender, answer) => {
                let request = Request::from_parts(head, body.into());
                tokio::spawn(async move {
                    let (head, body) = next.run(request).await.into_parts();
                    let body = to_bytes(body, MAX_ANSWER).await.unwrap_or_default();
                    let kind = head.headers.get(header::CONTENT_TYPE).cloned();
                    // Whoever asked may be gone; the answer is kept in the channel.
                    sender.send_replace(Some(Answer { status: head.status, kind, body }));
                });
                answer
            }
        };
        let mut order = order;
        let answer = order.wait_for(Option::is_some).await.ok().and_then(|answer| answer.clone());
        match answer {
            Some(Answer { status, kind, body }) => {
                let mut response = (status, body).into_response();
                match kind {
                    Some(kind) => response.headers_mut().insert(header::CONTENT_TYPE, kind),
                    None => response.headers_mut().remove(header::CONTENT_TYPE),
                };
                response
            }
            None => super::routes::no_answer().into_response(),
        }
    }

    fn begin(&self, name: (String, String), fingerprint: [u8; 32], now: Micros) -> Begun {
        let mut orders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        orders.retain(|_, order| now.since(order.at) < MEMORY);
        if let Some(order) = orders.get(&name) {
            return Begun::Again(order.clone());
        }
        while orders.len() >= REMEMBERED {
            let oldest = orders.iter().min_by_key(|(_, order)| order.at).map(|(name, _)| name.clone());
            let Some(oldest) = oldest else { break };
            orders.remove(&oldest);
        }
        let (sender, answer) = watch::channel(None);
        orders.insert(name, Order { fingerprint, at: now, answer: answer.clone() });
        Begun::First(sender, answer)
    }
}

enum Begun {
    First(watch::Sender<Option<Answer>>, watch::Receiver<Option<Answer>>),
    Again(Order),
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_in_number_and_time() {
        let orders = Orders::default();
        let name = |n: u64| ("ann".to_owned(), n.to_string());
        let count = |orders: &Orders| orders.0.lock().unwrap().len();
        for n in 0..2 * REMEMBERED as u64 {
            assert!(matches!(orders.begin(name(n), [0; 32], Micros(n)), Begun::First(..)));
        }
        assert_eq!(count(&orders), REMEMBERED);
        let newest = 2 * REMEMBERED as u64 - 1;
        assert!(matches!(orders.begin(name(newest), [0; 32], Micros(newest)), Begun::Again(_)));
        let tomorrow = Micros(newest) + MEMORY;
        assert!(matches!(orders.begin(name(newest), [0; 32], tomorrow), Begun::First(..)));
        assert_eq!(count(&orders), 1);
    }
}
