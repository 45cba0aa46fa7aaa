//! The HTTP page: health, readiness for load balancers, metrics, calls. It knows nothing itself: it asks the event loop, so
//! that an answer is also a sign that the loop goes round.

use super::{Mouth, Word};
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{sleep, timeout};

/// Connections at once; more wait to be accepted.
const CONNECTIONS: usize = 64;
/// How long a connection may last: who asks again connects again.
const CONNECTION_LIMIT: Duration = Duration::from_secs(60);
/// How long a request's head may take.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// Largest head of a request, bytes.
const MAX_HEAD: usize = 16 << 10;
/// How long the event loop may take to answer. One that takes longer is not well.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);
/// Pause when connections cannot be accepted (out of file descriptors, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Calls on one page unless fewer are asked for.
const CALLS_PER_PAGE: usize = 1_000;

/// What somebody wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Whether the server is well, in any run mode.
    Health,
    /// Whether calls may be sent here: primary, and no graceful stop.
    Readiness,
    /// Figures, in the text format of Prometheus.
    Metrics,
    /// Calls, after the one with this key, at most so many.
    Calls { after: Option<String>, most: usize },
    /// One call, by its key or its Call-ID.
    Call(String),
    /// A ladder diagram of one, likewise.
    Trace(String),
}

impl Wanted {
    /// Whether the answer says who talks to whom. Nobody is asked who he is here, and anybody may read along.
    fn names_people(&self) -> bool {
        match self {
            Wanted::Health | Wanted::Readiness | Wanted::Metrics => false,
            Wanted::Calls { .. } | Wanted::Call(_) | Wanted::Trace(_) => true,
        }
    }
}

/// A question to the loop, and where its answer goes.
#[derive(Debug)]
pub(crate) struct Query {
    pub(crate) wanted: Wanted,
    answer: oneshot::Sender<Page>,
}

impl Query {
    /// Answers it. Whoever asked may have gone.
    pub(crate) fn answer(self, page: Page) {
        let _ = self.answer.send(page);
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) body: String,
}

impl Page {
    /// Some words.
    pub(crate) fn text(status: u16, text: impl Into<String>) -> Self {
        let mut body = text.into();
        body.push('\n');
        Self { status, content_type: "text/plain; charset=utf-8", body }
    }
}

/// Accepts connections until it is dropped.
pub(super) async fn serve(listener: TcpListener, mouth: Mouth) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Who connects to an address from that same address is on this host.
                let here = stream.local_addr().is_ok_and(|own| own.ip() == peer.ip());
                tokio::spawn(timeout(CONNECTION_LIMIT, converse(stream, here, mouth.clone(), place)));
            }
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn converse(stream: TcpStream, here: bool, mouth: Mouth, _place: OwnedSemaphorePermit) {
    let service = service_fn(move |request| {
        let mouth = mouth.clone();
        async move { Ok::<_, Infallible>(response(answer(&request, here, &mouth).await)) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    // An error is the client's (gone, too slow, not HTTP), and it concerns nobody else.
    let _ = connection.await;
}

async fn answer<B>(request: &Request<B>, here: bool, mouth: &Mouth) -> Page {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return Page::text(405, "only GET is answered here");
    }
    let Some(wanted) = wanted(request.uri().path(), request.uri().query()) else {
        return Page::text(
            404,
            "there are /health, /ready, /metrics, /calls, /calls/CALL and /calls/CALL/trace",
        );
    };
    if wanted.names_people() && !here {
        return Page::text(403, "calls are shown to this host alone; `takeover calls` asks from elsewhere");
    }
    let (answer, answered) = oneshot::channel();
    if !mouth.say(Word::Asked(Query { wanted, answer })) {
        return Page::text(503, "the event loop has too much to do");
    }
    match timeout(ANSWER_LIMIT, answered).await {
        Ok(Ok(page)) => page,
        Ok(Err(_)) | Err(_) => Page::text(503, "the event loop does not answer"),
    }
}

fn wanted(path: &str, query: Option<&str>) -> Option<Wanted> {
    match path {
        "/health" => Some(Wanted::Health),
        "/ready" => Some(Wanted::Readiness),
        "/metrics" => Some(Wanted::Metrics),
        "/calls" => {
            let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
            let (mut after, mut most) = (None, CALLS_PER_PAGE);
            for (name, value) in pairs {
                match name {
                    "after" => after = Some(value.to_owned()),
                    "most" => most = value.parse::<usize>().unwrap_or(most).min(CALLS_PER_PAGE),
                    _ => {}
                }
            }
            Some(Wanted::Calls { after, most })
        }
        other => {
            let call = other.strip_prefix("/calls/").filter(|call| !call.is_empty())?;
            // A Call-ID may have a slash in it, escaped.
            Some(match call.strip_suffix("/trace") {
                Some(call) => Wanted::Trace(unescaped(call)),
                None => Wanted::Call(unescaped(call)),
            })
        }
    }
}

/// Undoes percent-encoding (RFC 3986, section 2.1): a Call-ID may have any character in it.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail.first_chunk::<2>().filter(|_| *first == b'%');
        let byte = code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn response(page: Page) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(page.body)));
    *response.status_mut() = StatusCode::from_u16(page.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(page.content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_talks_to_whom_is_told_on_this_host_alone() {
        let (people, figures) = (["/calls", "/calls/x", "/calls/x/trace"], ["/health", "/ready", "/metrics"]);
        assert!(people.iter().all(|path| wanted(path, None).unwrap().names_people()));
        assert!(!figures.iter().any(|path| wanted(path, None).unwrap().names_people()));
    }

    #[test]
    fn paths_say_what_is_wanted() {
        let calls = |after: Option<&str>, most| Some(Wanted::Calls { after: after.map(str::to_owned), most });
        assert_eq!(wanted("/health", None), Some(Wanted::Health));
        assert_eq!(wanted("/calls", None), calls(None, CALLS_PER_PAGE));
        assert_eq!(wanted("/calls", Some("after=00ff&most=7&x=y&z")), calls(Some("00ff"), 7));
        assert_eq!(wanted("/calls", Some("most=999999999")), calls(None, CALLS_PER_PAGE));
        assert_eq!(wanted("/calls/a%40b%2", None), Some(Wanted::Call("a@b%2".to_owned())));
        assert_eq!(wanted("/calls/a%2Ftrace/trace", None), Some(Wanted::Trace("a/trace".to_owned())));
        assert_eq!(wanted("/calls/", None), None);
        assert_eq!(wanted("/", None), None);
    }
}
