//! Starting and stopping the SCS: store, state, sockets, threads.

use crate::clock::Clock;
use crate::configuration::Configuration;
use crate::core_loop::{CoreLoop, Incoming, Parts, WAKER};
use crate::handle::Handle;
use crate::observer::Observer;
use crate::store::{IncidentFilter, OpenError, QueryError, Retention, Store, StoreItem};
use control_link::{Acceptor, Identity, Limits, Role};
use domain::{Cluster, Micros};
use ha_core::{Durable, IncidentOutcome, Record, State};
use mio::{Poll, Waker};
use std::fs::{File, TryLockError};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long the end waits for the store: what is not written by then is lost, which is better than an SCS that hangs.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);
/// Priority of the core thread where SCHED_FIFO is allowed; below the agents', whose leases are shorter than our patience.
const CORE_PRIORITY: i32 = 10;

/// What the SCS is started with.
#[derive(Debug)]
pub struct Options {
    /// The cluster file.
    pub cluster_file: PathBuf,
    /// Its text.
    pub text: String,
    /// What it says, checked.
    pub cluster: Cluster,
    /// Where the store is; made where it is not there.
    pub state_directory: PathBuf,
    /// The SCS's certificate, key and the installation's CA.
    pub identity: Identity,
    /// The release of this build.
    pub release: &'static str,
}

/// Why the SCS did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The cluster file names no address to listen on.
    #[error("the cluster file names no address for agents; add `listen = [\"ADDRESS:7400\"]` to [scs]")]
    NoAddress,
    /// An address cannot be listened on.
    #[error("cannot listen on {address}; is another SCS running, and is the address one of this host?")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The state directory cannot be made.
    #[error("cannot make the state directory {path}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another SCS uses the store.
    #[error("another SCS runs on {path}; stop it, or give this one a --state-directory of its own")]
    Locked {
        /// The state directory.
        path: PathBuf,
    },
    /// The store cannot be opened.
    #[error("the store cannot be opened")]
    Store(#[from] OpenError),
    /// The state that survived cannot be read.
    #[error("the state of the last run cannot be read from the store")]
    Durable(#[from] QueryError),
    /// The state that survived makes no sense.
    #[error("the state of the last run makes no sense; move the store aside to start without it")]
    DurableMalformed(#[from] serde_json::Error),
    /// The system refused something else.
    #[error("the system refused a poll, a socket or a thread")]
    System(#[from] io::Error),
}

/// A running SCS. Dropping it stops it.
#[derive(Debug)]
pub struct Scs {
    handle: Handle,
    addresses: Vec<SocketAddr>,
    incoming: Sender<Incoming>,
    waker: Arc<Waker>,
    acceptor: Option<Acceptor>,
    _lock: File,
    core: Option<JoinHandle<()>>,
}

/// Starts the SCS.
///
/// # Errors
/// [`StartError`]; nothing keeps running.
pub fn start(options: Options) -> Result<Scs, StartError> {
    let Options { cluster_file, text, cluster, state_directory, identity, release } = options;
    let clock = Clock::start();
    let poll = Poll::new()?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
    let (incoming_sender, incoming) = channel();
    let (request_sender, requests) = channel();
    let wake: Arc<dyn Fn() + Send + Sync> = {
        let waker = Arc::clone(&waker);
        Arc::new(move || {
            // Fails only where the poll is gone, and then nobody is there to be woken.
            let _ = waker.wake();
        })
    };

    std::fs::create_dir_all(&state_directory)
        .map_err(|source| StartError::Directory { path: state_directory.clone(), source })?;
    let lock = lock(&state_directory)?;
    let retention = Retention { keep: cluster.scs.keep, keep_bytes: cluster.scs.keep_bytes };
    let store = {
        let (sender, wake) = (incoming_sender.clone(), Arc::clone(&wake));
        Store::open(&state_directory.join("takeover.db"), retention, move |health| {
            eprintln!("takeover scs: store: {health:?}");
            let _ = sender.send(Incoming::Store(health));
            wake();
        })?
    };
    let durable = durable_of(&store, clock.now())?;

    let (listeners, datagrams) = listen(&cluster.scs.listen)?;
    let addresses = listeners.iter().map(TcpListener::local_addr).collect::<io::Result<Vec<_>>>()?;
    let probe_port = addresses.first().ok_or(StartError::NoAddress)?.port();
    let configuration = Configuration::start(cluster_file, text, cluster.clone(), &store, clock.now())?;
    let handle = Handle::new(request_sender, Arc::clone(&wake), store.clone(), configuration);
    let state = State::new(cluster, durable, clock.now());
    handle.publish_view(state.view(clock.now()));
    let observer = {
        let (sender, wake) = (incoming_sender.clone(), Arc::clone(&wake));
        Observer::start(clock, move |told| {
            // Fails only when the core thread has ended.
            let _ = sender.send(Incoming::Observed(told));
            wake();
        })?
    };
    let parts = Parts {
        poll,
        clock,
        state,
        datagrams,
        probe_port,
        store,
        observer,
        handle: handle.clone(),
        incoming,
        requests,
        release,
    };
    let core = CoreLoop::new(parts)?;
    let core = std::thread::Builder::new().name("core".to_owned()).spawn(move || {
        if !control_link::real_time::raise_thread(CORE_PRIORITY) {
            eprintln!("takeover scs: no real-time rights (CAP_SYS_NICE): a busy host may delay decisions");
        }
        // An SCS without its core would look alive to whoever watches it, and decide nothing.
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| core.run())).is_err() {
            eprintln!("takeover scs: the core thread panicked; the program ends, so that it is started anew");
            std::process::abort();
        }
    })?;
    let acceptor = accept(listeners, &identity, &incoming_sender, &wake)?;
    Ok(Scs {
        handle,
        addresses,
        incoming: incoming_sender,
        waker,
        acceptor: Some(acceptor),
        _lock: lock,
        core: Some(core),
    })
}

/// One SCS to a store: two would grant the same epochs.
fn lock(directory: &Path) -> Result<File, StartError> {
    let path = directory.join("scs.lock");
    let error = |source| StartError::Directory { path: path.clone(), source };
    let file = File::create(&path).map_err(error)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StartError::Locked { path: directory.to_owned() }),
        Err(TryLockError::Error(source)) => Err(error(source)),
    }
}

/// The state that survived the last run. What that run could not finish telling is put straight in the store.
fn durable_of(store: &Store, now: Micros) -> Result<Durable, StartError> {
    let mut durable: Durable = match store.load_durable()? {
        Some(json) => serde_json::from_str(&json)?,
        None => Durable::default(),
    };
    let newest = store.incidents(&IncidentFilter { limit: Some(1), ..IncidentFilter::default() })?;
    // The state is kept a moment behind the records: a number that a record has is never given out again.
    durable.last_incident =
        newest.iter().map(|i| i.id.0).chain([durable.last_incident]).max().unwrap_or_default();
    for mut incident in store.incidents(&IncidentFilter { open: Some(true), ..IncidentFilter::default() })? {
        incident.outcome = IncidentOutcome::Interrupted;
        incident.ended = Some(now);
        store.write(StoreItem::Record(Record::Incident(incident)));
    }
    Ok(durable)
}

fn listen(addresses: &[SocketAddr]) -> Result<(Vec<TcpListener>, Vec<mio::net::UdpSocket>), StartError> {
    let mut listeners = Vec::new();
    let mut datagrams = Vec::new();
    for address in addresses {
        let error = |source| StartError::Listen { address: *address, source };
        let listener = TcpListener::bind(address).map_err(error)?;
        // Port 0 (tests) means any: heartbeats go where control messages go.
        let datagram_address = listener.local_addr().map_err(error)?;
        datagrams.push(mio::net::UdpSocket::bind(datagram_address).map_err(error)?);
        listeners.push(listener);
    }
    Ok((listeners, datagrams))
}

fn accept(
    listeners: Vec<TcpListener>,
    identity: &Identity,
    incoming: &Sender<Incoming>,
    wake: &Arc<dyn Fn() + Send + Sync>,
) -> io::Result<Acceptor> {
    let tell = |incoming: &Sender<Incoming>, wake: &Arc<dyn Fn() + Send + Sync>| {
        let (incoming, wake) = (incoming.clone(), Arc::clone(wake));
        move |what| {
            // Fails only when the core thread has ended.
            let _ = incoming.send(what);
            wake();
        }
    };
    let (linked, refused) = (tell(incoming, wake), tell(incoming, wake));
    Acceptor::start(
        listeners,
        identity,
        Limits::default(),
        |peer| match peer.role {
            Role::Agent => Ok(()),
            Role::Scs | Role::Operator => {
                Err(format!("this port is for agents, its certificate is for {}", peer.role))
            }
        },
        move |link| linked(Incoming::Linked(Box::new(link))),
        move |address, why| refused(Incoming::Refused(address, why)),
    )
}

impl Scs {
    /// For the API.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Where agents reach it.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Stops: what must survive is written first. Agents and what they hold stay as they are.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.acceptor = None;
        let _ = self.incoming.send(Incoming::Stop);
        let _ = self.waker.wake();
        if let Some(core) = self.core.take() {
            let _ = core.join();
            if !self.handle.store().flush(FLUSH_LIMIT) {
                eprintln!(
                    "takeover scs: the store did not take the last records within {} s",
                    FLUSH_LIMIT.as_secs()
                );
            }
        }
    }
}

impl Drop for Scs {
    fn drop(&mut self) {
        self.end();
    }
}
