//! Each request's caller: known by the connection, by a token or by the session of a browser; and the gate in front of each
//! endpoint, which names the role that it needs.

use super::door::{Caller, Door, Peer, Proof};
use super::routes::{Api, short, wall_clock};
use crate::api::{CSRF_HEADER, PREFIX, Problem};
use access::{Role, Secret};
use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use scs::store::AuditRecord;
use std::net::SocketAddr;

/// Cookie of a session. With this prefix browsers take it from this host only, by TLS, for all paths.
const COOKIE: &str = "__Host-takeover";
/// What a page's session value is derived with.
const CSRF_LABEL: &str = "takeover csrf";
/// Longest text from outside that is put into an audit record, characters.
const MAX_AUDIT_TEXT: usize = 200;

/// Who may use an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// Whoever reaches the port: logging in.
    Nobody,
    /// Whoever has this role, or one with more rights.
    Role(Role),
}

/// Finds out who asks. Bad credentials are refused here, whatever they are shown for; none at all is for the gate to judge.
pub(super) async fn identify(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let caller = match &peer {
        Peer::Known { who, from, role } => Ok(Some(Caller {
            who: who.clone(),
            from: from.clone(),
            role: *role,
            pairs: None,
            proof: Proof::Connection,
        })),
        Peer::Stranger(address) => stranger(&api.door, *address, &request),
    };
    match caller {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => {
            audit_refusal(&api.door, &peer, None, &request, &problem);
            problem.into_response()
        }
    }
}

/// Lets through who has the role.
pub(super) async fn gate(needs: Needs, api: Api, request: Request, next: Next) -> Response {
    let caller: Option<Caller> = request.extensions().get::<Option<Caller>>().cloned().flatten();
    let problem = match (needs, &caller) {
        (Needs::Nobody, _) => return next.run(request).await,
        // Users, tokens and the configuration are of all pairs.
        (Needs::Role(access::Role::Administrator), Some(caller)) if caller.pairs.is_some() => {
            let detail = format!("{} is for some pairs only; this is about all of them", caller.who);
            Problem::new(StatusCode::FORBIDDEN, detail)
        }
        (Needs::Role(role), Some(caller)) if caller.role >= role => {
            let mut request = request;
            request.extensions_mut().insert(caller.clone());
            return match *request.method() {
                Method::POST => api.orders.once(caller, wall_clock(), request, next).await,
                _ => next.run(request).await,
            };
        }
        (Needs::Role(role), Some(caller)) => {
            let detail = format!("this needs the role {role}; {} is {}", caller.who, caller.role);
            Problem::new(StatusCode::FORBIDDEN, detail)
        }
        (Needs::Role(_), None) => {
            let detail = "log in first (POST /api/v1/session), or send a token: Authorization: Bearer TOKEN";
            Problem::new(StatusCode::UNAUTHORIZED, detail)
        }
    };
    // Reading without having logged in is what every browser does first; trying to give an order is an attempt.
    if caller.is_some() || *request.method() != Method::GET {
        let peer = request.extensions().get::<Peer>().cloned();
        if let Some(peer) = peer {
            audit_refusal(&api.door, &peer, caller.as_ref(), &request, &problem);
        }
    }
    let mut response = problem.into_response();
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
    }
    response
}

fn stranger(door: &Door, address: SocketAddr, request: &Request) -> Result<Option<Caller>, Problem> {
    let (headers, now) = (request.headers(), wall_clock());
    let from = address.to_string();
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let text = value.to_str().ok().and_then(|value| value.strip_prefix("Bearer "));
        let Some(text) = text else {
            return Err(Problem::new(StatusCode::UNAUTHORIZED, "expected Authorization: Bearer TOKEN"));
        };
        let Some((secret, token)) = door.token(text.trim(), now) else {
            return Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "this token does not exist, or it has expired",
            ));
        };
        let who = format!("token {}", token.name);
        return Ok(Some(Caller {
            who,
            from,
            role: token.role,
            pairs: token.pairs,
            proof: Proof::Token(secret),
        }));
    }
    let Some(secret) = cookie(headers) else { return Ok(None) };
    // A session that has ended is no bad credential: the page logs in again.
    let Some((name, role)) = door.session(&secret, now) else { return Ok(None) };
    let orders = !matches!(*request.method(), Method::GET | Method::HEAD);
    if orders {
        let shown =
            headers.get(CSRF_HEADER).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
        if !shown.is_some_and(|shown: Secret| shown.same_as(&csrf(&secret))) {
            let detail = format!(
                "an order of a page carries the value that GET /api/v1/session gives, as {CSRF_HEADER}"
            );
            return Err(Problem::new(StatusCode::FORBIDDEN, detail));
        }
    }
    Ok(Some(Caller { who: name, from, role, pairs: None, proof: Proof::Session(secret) }))
}

/// What a page must send with its orders: whoever cannot read our pages cannot know it.
pub(super) fn csrf(session: &Secret) -> Secret {
    session.derived(CSRF_LABEL)
}

/// The header that gives a browser its session; none: that takes it away.
pub(super) fn set_cookie(session: Option<&Secret>) -> String {
    let (value, age) = session.map_or((String::new(), "; Max-Age=0"), |secret| (secret.reveal(), ""));
    format!("{COOKIE}={value}; Path=/; Secure; HttpOnly; SameSite=Strict{age}")
}

fn cookie(headers: &HeaderMap) -> Option<Secret> {
    cookie_named(headers, COOKIE)
}

/// The secret in a cookie of ours.
pub(super) fn cookie_named(headers: &HeaderMap, name: &str) -> Option<Secret> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    lines
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
        .find_map(|value| value.parse().ok())
}

fn audit_refusal(door: &Door, peer: &Peer, caller: Option<&Caller>, request: &Request, problem: &Problem) {
    let (who, from) = match (caller, peer) {
        (Some(caller), _) => (caller.who.clone(), caller.from.clone()),
        (None, Peer::Known { who, from, .. }) => (who.clone(), from.clone()),
        (None, Peer::Stranger(address)) => ("?".to_owned(), address.to_string()),
    };
    // Inside the API the prefix is cut off already.
    let path = request.uri().path();
    let path = path.strip_prefix(PREFIX).unwrap_or(path);
    let record = AuditRecord {
        at: wall_clock(),
        who,
        from,
        what: short(&format!("{} {path}", request.method()), MAX_AUDIT_TEXT),
        reason: String::new(),
        result: format!("refused: {problem}"),
    };
    if caller.is_some() { door.audit(record) } else { door.audit_stranger(record) }
}
