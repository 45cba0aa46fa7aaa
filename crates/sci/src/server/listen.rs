//! Connections: who may talk to the API, how many at once, and for how long they may dawdle.

use super::door::Peer;
use super::patient::Patient;
use crate::api::Problem;
use axum::http::StatusCode;
use axum::{Extension, Router};
use control_link::web::Tls;
use control_link::{Identity, PeerName, Rights, Role};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::unistd::{Uid, User};
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

type Stream = tokio_rustls::server::TlsStream<tokio::net::TcpStream>;

/// Connections at once on the Unix socket, and as many on the TLS port; more wait to be accepted.
const CONNECTIONS: usize = 128;
/// Connections at once on the web port: a thousand consoles with their live events, and those who come and go.
const WEB_CONNECTIONS: usize = 2_048;
/// How long a TLS handshake may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// How long a connection may be idle, or dawdle over a request's head.
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// Largest head of a request, bytes.
const MAX_HEAD: usize = 64 * 1024;
/// Pause when connections cannot be accepted (out of file descriptors, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the Unix socket cannot be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody serves there.
    #[error("{0} is in use: another SCS runs on this host; stop it first, or give this one another socket")]
    InUse(PathBuf),
    /// Something else is there.
    #[error("{0} exists and is not a socket; move it away, or give the SCS another socket")]
    NotASocket(PathBuf),
    /// It cannot be made.
    #[error("cannot listen on {path}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Binds the API's Unix socket, mode 0600; a missing directory is made with mode 0700, a socket left behind by an SCS
/// that is gone is replaced.
///
/// # Errors
/// [`BindError`].
pub fn bind_unix(path: &Path) -> Result<UnixListener, BindError> {
    let failed = |source| BindError::Io { path: path.to_owned(), source };
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    }
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(BindError::NotASocket(path.to_owned()));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => return Err(BindError::InUse(path.to_owned())),
        Ok(_) => fs::remove_file(path).map_err(failed)?,
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    // Whoever gets in before this is refused by who they are.
    fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

/// Accepts connections; never returns.
pub(super) async fn accept(
    unix: tokio::net::UnixListener,
    tls: Option<(tokio::net::TcpListener, Identity)>,
    web: Option<(tokio::net::TcpListener, Tls)>,
    routes: Router,
) {
    let certificates = async {
        let Some((listener, identity)) = tls else { return };
        let peer = |stream: &Stream, address: SocketAddr| {
            let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            remote_peer(certificate.map_or(&[], AsRef::as_ref), address)
        };
        accept_remote(listener, identity.api_server(), CONNECTIONS, peer, routes.clone()).await;
    };
    let browsers = async {
        let Some((listener, tls)) = web else { return };
        let peer = |_: &Stream, address| Ok(Peer::Stranger(address));
        accept_remote(listener, tls, WEB_CONNECTIONS, peer, routes.clone()).await;
    };
    tokio::join!(accept_local(unix, routes.clone()), certificates, browsers);
}

async fn accept_local(listener: tokio::net::UnixListener, routes: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = place(&places).await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let who = stream.peer_cred().and_then(|peer| local_peer(peer.uid(), peer.pid()));
                let routes = match who {
                    Ok(peer) => routes.clone().layer(Extension(peer)),
                    Err(error) => nobody(&error.to_string()),
                };
                tokio::spawn(converse(stream, routes, place));
            }
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn accept_remote(
    listener: tokio::net::TcpListener,
    tls: Tls,
    connections: usize,
    peer_of: impl Fn(&Stream, SocketAddr) -> Result<Peer, String> + Copy + Send + 'static,
    routes: Router,
) {
    let acceptor = TlsAcceptor::from(tls);
    let places = Arc::new(Semaphore::new(connections));
    loop {
        let place = place(&places).await;
        match listener.accept().await {
            Ok((stream, address)) => {
                let (acceptor, routes) = (acceptor.clone(), routes.clone());
                tokio::spawn(async move {
                    // Who does not get through the handshake was told why by TLS itself.
                    if let Ok(Ok(stream)) = timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await {
                        let routes = match peer_of(&stream, address) {
                            Ok(peer) => routes.layer(Extension(peer)),
                            Err(why) => nobody(&why),
                        };
                        converse(stream, routes, place).await;
                    }
                });
            }
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn place(places: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    Arc::clone(places).acquire_owned().await.expect("the semaphore is never closed")
}

/// Serves one connection until it ends.
async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin, routes: Router, _place: OwnedSemaphorePermit) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(Patient::new(stream)), TowerToHyperService::new(routes));
    // An error is the client's (gone, too slow, not HTTP), and it concerns nobody else.
    let _ = connection.await;
}

/// Root and the user that the SCS runs as. The socket's mode says the same; this holds wherever the socket is.
fn local_peer(uid: u32, pid: Option<i32>) -> io::Result<Peer> {
    let uid = Uid::from_raw(uid);
    if !uid.is_root() && uid != Uid::effective() {
        return Err(io::Error::other("only root and the user of the SCS may use this socket"));
    }
    let who = match User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        Ok(None) | Err(_) => format!("uid {uid}"),
    };
    let from = pid.map_or_else(|| "unix".to_owned(), |pid| format!("unix, process {pid}"));
    Ok(Peer::Known { who, from, role: access::Role::Administrator })
}

/// The operator's name in the certificate.
fn remote_peer(certificate: &[u8], address: SocketAddr) -> Result<Peer, String> {
    let peer = PeerName::of_certificate(certificate)?;
    match peer.role {
        Role::Operator => {
            let role = match peer.rights {
                Rights::Viewer => access::Role::Viewer,
                Rights::Operator => access::Role::Operator,
                Rights::Administrator => access::Role::Administrator,
            };
            Ok(Peer::Known { who: peer.name, from: address.to_string(), role })
        }
        Role::Scs | Role::Agent => {
            Err(format!("the certificate is that of {peer}; the API is for operators"))
        }
    }
}

/// All that somebody gets who may not use the API.
fn nobody(why: &str) -> Router {
    let problem = Problem::new(StatusCode::FORBIDDEN, why);
    Router::new().fallback(move || std::future::ready(problem.clone()))
}
