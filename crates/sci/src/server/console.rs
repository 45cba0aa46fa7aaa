//! The web console: its files, which tell nothing, for whoever reaches the port, with headers that let a page do no more than it
//! must.

use crate::api::{PREFIX, Problem};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use console::Asset;

/// What goes out with each file: scripts and styles from here alone, nothing inline, no frame around it, no type guessed.
pub(super) const HEADERS: [(HeaderName, &str); 5] = [
    // Heeded where the page came by TLS (RFC 6797).
    (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    // Asked for each time, and answered with 304 as long as the release is the same.
    (header::CACHE_CONTROL, "no-cache"),
];

/// What is not below the API's prefix: a file of the console, or nothing.
pub(super) async fn file(request: Request) -> Response {
    let path = request.uri().path();
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    match console::asset(path).filter(|_| reads && !path.starts_with(PREFIX)) {
        Some(asset) => answer(&asset, request.headers()),
        None => Problem::no_route(path).into_response(),
    }
}

fn answer(asset: &Asset, asked: &HeaderMap) -> Response {
    let known = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut response = if known.flat_map(|tags| tags.split(',')).any(|tag| tag.trim() == asset.etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, asset.content_type)], asset.bytes).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, HeaderValue::from_static(asset.etag));
    headers.extend(HEADERS.map(|(name, value)| (name, HeaderValue::from_static(value))));
    response
}

/// A browser shows its certificate to every page that makes it ask here. It says whose page that was (Fetch Metadata, W3C):
/// an order of another site's page is refused.
pub(super) async fn from_here(request: Request, next: Next) -> Response {
    let site = request.headers().get("sec-fetch-site").map(HeaderValue::as_bytes);
    let orders = !matches!(*request.method(), Method::GET | Method::HEAD);
    if orders && site.is_some_and(|site| site != b"same-origin" && site != b"none") {
        let why = "another site's page may not give orders here; use the console or the command line";
        return Problem::new(StatusCode::FORBIDDEN, why).into_response();
    }
    next.run(request).await
}
