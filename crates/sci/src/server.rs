//! The API's server, on a thread of its own. What it says comes from the SCS's handle and store; the core thread never
//! waits for it. Connections are in `listen`, the endpoints in `routes`, the live events in `live`.

mod calls;
mod console;
mod listen;
mod live;
mod patient;
mod problem;
mod routes;

pub use listen::{BindError, bind_unix};

use control_link::Identity;
use scs::handle::Handle;
use std::io;
use std::net::TcpListener;
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
}

/// A running server. Stops when dropped: requests in hand are cut off, orders already given are carried out.
#[derive(Debug)]
pub struct Server {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
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

/// Serves the API until the result is dropped. `release` is what `/version` says.
///
/// # Errors
/// The thread or its event loop cannot be made.
pub fn serve(handle: Handle, listeners: Listeners, release: &str) -> io::Result<Server> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(QUERY_THREADS)
        .build()?;
    let Listeners { unix, tls } = listeners;
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
    drop(context);
    let routes = routes::router(routes::Api { handle, release: release.into() });
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::Builder::new().name("api".to_owned()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                // Either the sender was dropped or it sent: both mean stop.
                _ = stopped => {}
                () = listen::accept(unix, tls, routes) => {}
            }
        });
        // Queries that still run end by their own time limit; nobody waits for their answer.
        runtime.shutdown_background();
    })?;
    Ok(Server { stop: Some(stop), thread: Some(thread) })
}
