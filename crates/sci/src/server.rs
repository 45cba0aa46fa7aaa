//! The API's server, on a thread of its own. What it says comes from the SCS's handle and store; the core thread never
//! waits for it. Connections are in `listen`, the endpoints in `routes`, the live events in `live`.

mod accounts;
mod callers;
mod calls;
mod configuration;
mod console;
mod door;
mod drills;
mod foresight;
mod history;
mod listen;
mod live;
mod manners;
mod metrics;
mod oidc;
mod openapi;
mod orders;
mod patient;
mod problem;
mod routes;
mod solutions;
mod traces;

pub use door::DoorError;
pub use listen::{BindError, bind_unix};
pub use oidc::{CALLBACK as OIDC_CALLBACK, OidcError};

use access::Secret;
use control_link::Identity;
use control_link::web::Tls;
use domain::OidcSettings;
use door::Door;
use live::Hub;
use manners::Orders;
use metrics::Counters;
use scs::handle::Handle;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// Threads for queries of the store at most; more queries wait.
const QUERY_THREADS: usize = 4;

/// Where the API listens. Bound by the caller, who may have to do so before giving up rights or a namespace.
#[derive(Debug)]
pub struct Listeners {
    /// For root and the SCS's own user on this host; see [`bind_unix`].
    pub unix: UnixListener,
    /// For operators elsewhere, who show a certificate of the cluster's CA; and the SCS's own certificate.
    pub tls: Option<(TcpListener, Identity)>,
    /// For browsers, whose users log in, and programs with a token.
    pub web: Option<(TcpListener, Tls)>,
    /// How the web port's address is written, for links: `https://scs.example.com:7443`.
    pub web_address: Option<String>,
    /// Who else says who somebody is, for logins at the web port.
    pub oidc: Option<OidcSettings>,
}

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The thread, its event loop or a socket.
    #[error("cannot serve the API")]
    System(#[from] io::Error),
    /// Who may use it is not known.
    #[error(transparent)]
    Door(#[from] DoorError),
    /// Nobody could log in by the identity provider.
    #[error(transparent)]
    Oidc(#[from] OidcError),
    /// The figures' names are not as they must be.
    #[error("the figures cannot be counted")]
    Metrics(#[from] prometheus::Error),
}

/// A running server. Stops when dropped: requests in hand are cut off, orders already given are carried out.
#[derive(Debug)]
pub struct Server {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    first_link: Option<Secret>,
    /// Ends with it.
    _errands: Option<oidc::Errands>,
}

impl Server {
    /// Makes the first administrator, once: there is a web port and nobody who could administer there.
    #[must_use]
    pub fn first_link(&self) -> Option<&Secret> {
        self.first_link.as_ref()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // An error says that the thread panicked, which it has said by itself.
            let _ = thread.join();
        }
    }
}

/// Serves the API until the result is dropped; traces of role changes go to the collector at `otlp`, if there is one. `release`
/// is what `/version` says.
///
/// # Errors
/// [`ServeError`].
pub fn serve(
    handle: Handle,
    listeners: Listeners,
    otlp: Option<SocketAddr>,
    release: &str,
) -> Result<Server, ServeError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(QUERY_THREADS)
        .build()?;
    let door = Door::open(handle.store())?;
    let passwords = listeners.oidc.as_ref().is_none_or(|oidc| oidc.password_login);
    let first_link =
        if listeners.web.is_some() && passwords { door.first_link(routes::wall_clock()) } else { None };
    let Listeners { unix, tls, web, web_address, oidc } = listeners;
    let (oidc, errands) = match oidc.zip(web_address.clone()) {
        Some((settings, web_address)) => {
            let (oidc, errands) = oidc::Oidc::new(settings, &web_address)?;
            (Some(oidc), Some(errands))
        }
        None => (None, None),
    };
    door.end_vouched_but(oidc.as_ref().map(oidc::Oidc::fingerprint));
    unix.set_nonblocking(true)?;
    let context = runtime.enter();
    let unix = tokio::net::UnixListener::from_std(unix)?;
    let tls = match tls {
        Some((listener, identity)) => {
            listener.set_nonblocking(true)?;
            Some((tokio::net::TcpListener::from_std(listener)?, identity))
        }
        None => None,
    };
    let web = match web {
        Some((listener, tls)) => {
            listener.set_nonblocking(true)?;
            Some((tokio::net::TcpListener::from_std(listener)?, tls))
        }
        None => None,
    };
    drop(context);
    let hub = Hub::new(routes::wall_clock().0);
    // Subscribed here: whoever asks for events later misses none that came before.
    let passing_on = hub.clone().run(handle.events());
    let counters = Counters::new()?;
    let counting = counters.clone().run(handle.events());
    let tracing = traces::run(otlp, handle.events(), handle.view().cluster.clone(), release.to_owned());
    let routes = routes::router(routes::Api {
        handle,
        release: release.into(),
        door,
        hub,
        orders: Orders::default(),
        counters,
        web_address: web_address.map(Into::into),
        oidc,
    });
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::Builder::new().name("api".to_owned()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                // Either the sender was dropped or it sent: both mean stop.
                _ = stopped => {}
                () = listen::accept(unix, tls, web, routes) => {}
                () = passing_on => {}
                () = counting => {}
                () = tracing => {}
            }
        });
        // Queries that still run end by their own time limit; nobody waits for their answer.
        runtime.shutdown_background();
    })?;
    Ok(Server { stop: Some(stop), thread: Some(thread), first_link, _errands: errands })
}
