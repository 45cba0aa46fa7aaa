//! One request to the identity provider: bounded in time and size, without following anybody anywhere.

use axum::body::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

/// How long a request may take, name service included.
const LIMIT: Duration = Duration::from_secs(5);
/// Largest answer, bytes: a provider with hundreds of keys has less.
const MAX_ANSWER: usize = 256 * 1024;

/// What is sent.
pub(super) enum Sent {
    /// Nothing: `GET`.
    Nothing,
    /// A form: `POST`, with the value of an `Authorization` header.
    Form(String, Option<String>),
}

/// Asks `url`. Returns the status and the body.
///
/// # Errors
/// Why there is no answer, in words.
pub(super) async fn fetch(
    tls: &Arc<ClientConfig>,
    url: &str,
    sent: Sent,
) -> Result<(StatusCode, Bytes), String> {
    let exchange = async {
        let uri: Uri = url.parse().map_err(|_| "its address is not well-formed".to_owned())?;
        let host = uri.host().ok_or("its address has no host")?.trim_matches(['[', ']']).to_owned();
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if matches!(host.as_str(), "127.0.0.1" | "localhost") => false,
            Some(_) | None => return Err("its address is not https://".to_owned()),
        };
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let stream = TcpStream::connect((host.as_str(), port)).await.map_err(|error| error.to_string())?;
        if !secure {
            return converse(stream, &uri, sent).await;
        }
        let name = ServerName::try_from(host).map_err(|error| error.to_string())?;
        let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await;
        converse(stream.map_err(|error| error.to_string())?, &uri, sent).await
    };
    timeout(LIMIT, exchange).await.map_err(|_| format!("no answer within {} s", LIMIT.as_secs()))?
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    uri: &Uri,
    sent: Sent,
) -> Result<(StatusCode, Bytes), String> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let request = Request::builder()
        .uri(path)
        .header(header::HOST, host)
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, "takeover");
    let request = match sent {
        Sent::Nothing => request.method("GET").body(Full::default()),
        Sent::Form(form, authorization) => {
            let request =
                request.method("POST").header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
            match authorization {
                Some(value) => request.header(header::AUTHORIZATION, value),
                None => request,
            }
            .body(Full::new(Bytes::from(form)))
        }
    };
    let request = request.map_err(|_| "the request cannot be written".to_owned())?;
    // It ends with the sender, or with the limit of whoever waits for the answer.
    tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
    Ok((status, body.map_err(|error| error.to_string())?.to_bytes()))
}
