//! The API's client: one short-lived connection per request, over the Unix socket or TLS. What the answers mean is for
//! the caller.

use crate::api::{DEFAULT_SOCKET, PREFIX, Problem};
use access::{Secret, SecretError};
use bytes::Bytes;
use control_link::{Identity, IdentityError, PeerName, Role, web};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

/// How long connecting may take, the TLS handshake included.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long an answer may take; a little longer than the server gives itself.
const ANSWER_LIMIT: Duration = Duration::from_secs(35);
/// Silence of the live events after which the connection counts as lost; the server speaks every 15 s.
const LIVE_LIMIT: Duration = Duration::from_secs(45);
/// Largest answer that is read, bytes.
const MAX_ANSWER: usize = 64 << 20;
/// Largest token file, bytes.
const MAX_TOKEN: u64 = 1_024;
/// Largest live event, bytes.
const MAX_EVENT: usize = 1 << 20;

/// Where the SCS is.
#[derive(Debug, Clone)]
pub enum Target {
    /// Its Unix socket.
    Unix(PathBuf),
    /// Its TLS port.
    Https {
        /// `HOST:PORT`.
        address: String,
        /// Who asks.
        identity: Box<Identity>,
    },
    /// Its web port, with a token.
    Web {
        /// `HOST:PORT`.
        address: String,
        /// Whom to trust.
        tls: Arc<ClientConfig>,
        /// The token: 64 hexadecimal digits.
        token: Secret,
    },
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Unix(path) => write!(f, "unix:{}", path.display()),
            Target::Https { address, .. } | Target::Web { address, .. } => write!(f, "https://{address}"),
        }
    }
}

/// Files that say who asks, for a TLS port.
#[derive(Debug, Clone, Copy, Default)]
pub struct Credentials<'a> {
    /// Certificate.
    pub certificate: Option<&'a Path>,
    /// Its private key.
    pub key: Option<&'a Path>,
    /// The CA's certificate.
    pub ca: Option<&'a Path>,
    /// A token, in place of certificate and key.
    pub token_file: Option<&'a Path>,
}

/// Why `--scs` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// It is not an address.
    #[error("{0:?} is not an address of an SCS, expected unix:PATH or https://HOST:PORT")]
    Syntax(String),
    /// Certificates are missing.
    #[error(
        "an SCS at https://... wants to know who asks: give --ca and either --certificate and --key (`takeover ca issue` makes \
         them), for its API port, or --token-file (`takeover tokens add` makes a token), for its web port"
    )]
    NoIdentity,
    /// The token cannot be read.
    #[error("cannot read the token in {path}: {why}")]
    Token {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Certificates are no use.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The certificate is somebody else's.
    #[error("the certificate is that of {0}; the API is for operators, make one with `takeover ca issue`")]
    NotAnOperator(PeerName),
}

impl Target {
    /// Reads `unix:PATH` or `https://HOST:PORT`; for the latter, loads who asks.
    ///
    /// # Errors
    /// [`TargetError`].
    pub fn parse(text: &str, credentials: Credentials<'_>) -> Result<Self, TargetError> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Target::Unix(PathBuf::from(path)));
        }
        let syntax = || TargetError::Syntax(text.to_owned());
        let address = text.strip_prefix("https://").ok_or_else(syntax)?.trim_end_matches('/');
        let (host, port) = address.rsplit_once(':').ok_or_else(syntax)?;
        server_name(host).ok_or_else(syntax)?;
        port.parse::<u16>().map_err(|_| syntax())?;
        let Some(ca) = credentials.ca else { return Err(TargetError::NoIdentity) };
        if let Some(path) = credentials.token_file {
            let token = read_token(path).map_err(|why| TargetError::Token { path: path.to_owned(), why })?;
            return Ok(Target::Web { address: address.to_owned(), tls: web::client(ca)?, token });
        }
        let (Some(certificate), Some(key)) = (credentials.certificate, credentials.key) else {
            return Err(TargetError::NoIdentity);
        };
        let identity = Identity::load(certificate, key, ca)?;
        match identity.name().role {
            Role::Operator => Ok(Target::Https { address: address.to_owned(), identity: Box::new(identity) }),
            Role::Scs | Role::Agent => Err(TargetError::NotAnOperator(identity.name().clone())),
        }
    }
}

impl Default for Target {
    fn default() -> Self {
        Target::Unix(PathBuf::from(DEFAULT_SOCKET))
    }
}

/// A token from a file that only its owner can read.
fn read_token(path: &Path) -> Result<Secret, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mode = file.metadata().map_err(|error| error.to_string())?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(format!("others can read it; run: chmod 600 {}", path.display()));
    }
    let mut text = String::new();
    file.take(MAX_TOKEN).read_to_string(&mut text).map_err(|error| error.to_string())?;
    text.trim().parse().map_err(|error: SecretError| error.to_string())
}

fn server_name(host: &str) -> Option<ServerName<'static>> {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(host.to_owned()).ok()
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection.
    #[error("cannot reach the SCS at {target}: {why}")]
    Unreachable {
        /// Where.
        target: String,
        /// What is wrong, and what to do.
        why: String,
    },
    /// The connection broke, or the answer is not one of this API.
    #[error("the SCS at {target} did not answer: {why}")]
    Broken {
        /// Where.
        target: String,
        /// What is wrong.
        why: String,
    },
    /// The SCS says no, and why.
    #[error("{0}")]
    Problem(Box<Problem>),
}

/// Asks one SCS.
#[derive(Debug, Clone)]
pub struct Client {
    target: Target,
}

impl Client {
    /// A client of the SCS at `target`. Connects to nothing yet.
    #[must_use]
    pub fn new(target: Target) -> Self {
        Self { target }
    }

    /// `GET` below the API's prefix, with a query.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &impl Serialize,
    ) -> Result<T, ClientError> {
        let query = serde_urlencoded::to_string(query).map_err(|error| self.broken(&error))?;
        let path = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
        self.ask(Method::GET, &path, Bytes::new()).await
    }

    /// `POST` below the API's prefix, with a body.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| self.broken(&error))?;
        self.ask(Method::POST, path, body.into()).await
    }

    /// `DELETE` below the API's prefix.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(Method::DELETE, path, Bytes::new()).await
    }

    /// What happens from now on; nothing that happens after this returned escapes it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn events(&self) -> Result<Events, ClientError> {
        let response = self.send(Method::GET, "/events", Bytes::new()).await?;
        if response.status() != StatusCode::OK {
            return Err(self.problem(response).await);
        }
        Ok(Events { client: self.clone(), body: response.into_body(), buffer: Vec::new() })
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let response = self.send(method, path, body).await?;
        if !response.status().is_success() {
            return Err(self.problem(response).await);
        }
        let body = self.read(response).await?;
        serde_json::from_slice(&body).map_err(|error| self.broken(&error))
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>, ClientError> {
        match &self.target {
            Target::Unix(path_of_socket) => {
                let stream = self.connected(UnixStream::connect(path_of_socket)).await?;
                self.exchange(stream, "localhost", method, path, body).await
            }
            Target::Https { address, identity } => {
                let stream = self.connected(connect_tls(address, identity)).await?;
                self.exchange(stream, address, method, path, body).await
            }
            Target::Web { address, tls, .. } => {
                let stream = self.connected(connect_web(address, tls)).await?;
                self.exchange(stream, address, method, path, body).await
            }
        }
    }

    async fn connected<S>(&self, connect: impl Future<Output = io::Result<S>>) -> Result<S, ClientError> {
        let result =
            timeout(CONNECT_LIMIT, connect).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        result.map_err(|error| ClientError::Unreachable {
            target: self.target.to_string(),
            why: self.explain(&error),
        })
    }

    async fn exchange<S>(
        &self,
        stream: S,
        host: &str,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, ClientError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut request = Request::builder();
        if let Target::Web { token, .. } = &self.target {
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.reveal()));
        }
        let request = request
            .method(method)
            .uri(format!("{PREFIX}{path}"))
            .header(HOST, host)
            .header(ACCEPT, "application/json, text/event-stream")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| self.broken(&error))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(&error))?;
        // Ends with the response's body; an error shows there.
        tokio::spawn(connection);
        match timeout(ANSWER_LIMIT, sender.send_request(request)).await {
            Ok(response) => response.map_err(|error| self.broken(&error)),
            Err(_) => Err(self.broken(&"no answer in time")),
        }
    }

    async fn read(&self, response: Response<Incoming>) -> Result<Bytes, ClientError> {
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect();
        match timeout(ANSWER_LIMIT, body).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) => Err(self.broken(&error)),
            Err(_) => Err(self.broken(&"no answer in time")),
        }
    }

    async fn problem(&self, response: Response<Incoming>) -> ClientError {
        let status = response.status();
        match self.read(response).await {
            Ok(body) => match serde_json::from_slice(&body) {
                Ok(problem) => ClientError::Problem(Box::new(problem)),
                Err(_) => self.broken(&format!("it says {status}; is this an SCS?")),
            },
            Err(error) => error,
        }
    }

    fn broken(&self, why: &dyn fmt::Display) -> ClientError {
        ClientError::Broken { target: self.target.to_string(), why: why.to_string() }
    }

    fn explain(&self, error: &io::Error) -> String {
        let running = "is it running? try `systemctl status takeover-scs`";
        match (&self.target, error.kind()) {
            (Target::Unix(_), io::ErrorKind::NotFound) => {
                format!("no such socket; {running}, or name another SCS with --scs or TAKEOVER_SCS")
            }
            (Target::Unix(_), io::ErrorKind::PermissionDenied) => {
                "permission denied; only root and the user of the SCS may use it, try sudo".to_owned()
            }
            (_, io::ErrorKind::ConnectionRefused) => format!("connection refused; {running}"),
            (_, io::ErrorKind::TimedOut) => {
                "no answer; is its host up, and does a firewall let the port through?".to_owned()
            }
            _ => error.to_string(),
        }
    }
}

async fn connect_tls(
    address: &str,
    identity: &Identity,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let name = server_name(host).ok_or(io::ErrorKind::InvalidInput)?;
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let stream = TlsConnector::from(identity.api_client()).connect(name, stream).await?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let peer = PeerName::of_certificate(certificate.map_or(&[], AsRef::as_ref)).map_err(io::Error::other)?;
    match peer.role {
        Role::Scs => Ok(stream),
        Role::Agent | Role::Operator => Err(io::Error::other(format!("there is {peer}, not an SCS"))),
    }
}

async fn connect_web(
    address: &str,
    tls: &Arc<ClientConfig>,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let name = server_name(host).ok_or(io::ErrorKind::InvalidInput)?;
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    TlsConnector::from(Arc::clone(tls)).connect(name, stream).await
}

/// One live event: its name ([`crate::api::live`]) and its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its name.
    pub name: String,
    /// Its data, JSON.
    pub data: String,
}

/// Live events.
#[derive(Debug)]
pub struct Events {
    client: Client,
    body: Incoming,
    buffer: Vec<u8>,
}

impl Events {
    /// The next one; none: the server has ended the stream. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`ClientError`]; the stream is of no more use then.
    pub async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        loop {
            if let Some(event) = take_event(&mut self.buffer) {
                return Ok(Some(event));
            }
            match timeout(LIVE_LIMIT, self.body.frame()).await {
                Err(_) => return Err(self.client.broken(&"the live events fell silent")),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(self.client.broken(&error)),
                Ok(Some(Ok(frame))) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                    if self.buffer.len() > MAX_EVENT {
                        return Err(self.client.broken(&"a live event is too large"));
                    }
                }
            }
        }
    }
}

/// Takes the first complete event that is not a comment out of `buffer`.
fn take_event(buffer: &mut Vec<u8>) -> Option<Event> {
    while let Some(end) = buffer.windows(2).position(|two| two == b"\n\n") {
        let block: Vec<u8> = buffer.drain(..end + 2).collect();
        let block = String::from_utf8_lossy(&block);
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        if let Some(name) = field("event") {
            return Some(Event { name: name.to_owned(), data: field("data").unwrap_or_default().to_owned() });
        }
    }
    None
}
