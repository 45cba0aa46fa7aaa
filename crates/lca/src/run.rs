//! Starts the agent: reads what is known from before, makes sure that it is alone, and sets the threads going.

use crate::agent::{Agent, Start};
use crate::cgroup::Cgroups;
use crate::clock::boottime;
use crate::dialer::{Credentials, Dialer};
use crate::lease_memory::LeaseMemory;
use crate::mailbox::Mailbox;
use crate::meeting::{Meeting, ORDERS};
use crate::messages::News;
use crate::peers::Peers;
use crate::real_time::{FIRST_PEER, HEARTBEATS, LINK, WAKER};
use crate::say::Say;
use crate::session::Session;
use crate::spawn::Spawner;
use crate::state_file::{Files, RunState, boot_id};
use crate::watchdog::{Pulse, Watchdog};
use crate::{real_time, sys, worker};
use anyhow::{Context, bail};
use control_link::ca::Issued;
use control_link::notify::{Notifier, State};
use control_link::{Expected, Identity, Role};
use domain::HostName;
use mio::{Poll, Waker};
use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;
use tokio::sync::mpsc;

/// Jobs that may wait for the worker.
const JOBS: usize = 4_096;
/// Stack of each thread, bytes.
const STACK: usize = 512 * 1024;

/// What an agent is started with; from the host file.
#[derive(Debug, Clone)]
pub struct Options {
    /// The host.
    pub host: HostName,
    /// The SCSs, in the order in which they are dialed.
    pub scs: Vec<SocketAddr>,
    /// The agent's certificate (PEM).
    pub certificate: PathBuf,
    /// Its key (PEM).
    pub key: PathBuf,
    /// The cluster's CA (PEM).
    pub ca: PathBuf,
    /// Files that survive a reboot.
    pub state_directory: PathBuf,
    /// Files and sockets that do not; on a tmpfs.
    pub run_directory: PathBuf,
    /// Whether to use real-time scheduling and locked memory, where allowed.
    pub real_time: bool,
    /// Whether to put applications into control groups, where allowed.
    pub cgroup: bool,
    /// The watchdog device; none: none is used.
    pub watchdog: Option<PathBuf>,
}

/// Runs the agent until SIGTERM or SIGINT. Applications and VIPs stay as they are when it ends.
///
/// # Errors
/// The agent cannot start (another one runs, no certificate, directories that cannot be written), or its event loop broke.
pub fn run(options: Options) -> anyhow::Result<()> {
    let Options { host, scs, certificate, key, ca, state_directory, run_directory, .. } = options;
    if scs.is_empty() {
        bail!("no SCS is configured: name at least one in the host file");
    }
    let identity = Identity::load(&certificate, &key, &ca)?;
    if identity.name().role != Role::Agent || identity.name().name != host.as_str() {
        bail!("{} is the certificate of {}, not of agent {host}", certificate.display(), identity.name());
    }
    let files = Files { state: state_directory, run: run_directory };
    files.make()?;
    let _alone = lock(&files)?;
    let say = Say::start().context("cannot start a thread")?;
    let memory_lock_limit = sys::memory_lock_limit()?;
    let memory_locked = options.real_time && lock_memory(&say);

    let boot_id = boot_id().context("cannot read the boot id; is /proc mounted?")?;
    let pulse = Arc::new(Pulse::default());
    let lease_memory = LeaseMemory::open(&files.leases(), &boot_id)
        .map_err(|e| {
            say.warning(format_args!(
                "leases cannot be remembered over a crash of the agent, {}: {e}",
                files.leases().display()
            ));
        })
        .ok();
    let start = Start {
        host: host.clone(),
        boot_id: boot_id.clone(),
        cluster: known(files.cluster(), &say).flatten().unwrap_or_default(),
        last: last_run(&files, &boot_id, &say),
        stopped: known(files.stopped(), &say).unwrap_or_default(),
        files: files.clone(),
        memory_locked,
        lease_memory,
        pulse: Arc::clone(&pulse),
    };
    pulse.outlast(&start.cluster);
    say.notice(format_args!(
        "agent of host {host}, release {}, {} applications known",
        env!("CARGO_PKG_VERSION"),
        start.cluster.applications.len()
    ));

    let poll = Poll::new()?;
    let (mailbox, news) = Mailbox::new(Waker::new(poll.registry(), WAKER)?);
    let (jobs, waiting) = mpsc::channel(JOBS);
    let (dial, orders) = sync_channel(1);
    let own = Issued { certificate: certificate.clone(), key: key.clone(), ca: ca.clone() };
    let credentials = Credentials { certificate, key, ca };
    let (meet, meetings) = sync_channel(ORDERS);
    let meeting = Meeting::new(identity.clone(), credentials.clone(), mailbox.clone(), say.clone());
    thread::Builder::new()
        .name("meeting".to_owned())
        .stack_size(STACK)
        .spawn(move || meeting.run(&meetings))?;
    let (expected, whom) = (Expected::any(Role::Scs), "the SCS".to_owned());
    let dialer = Dialer { addresses: scs, expected, whom, credentials };
    let (told, dialer_says) = (mailbox.clone(), say.clone());
    let linked = move |link| told.send(News::Linked(Box::new(link)));
    thread::Builder::new()
        .name("dialer".to_owned())
        .stack_size(STACK)
        .spawn(move || dialer.run(identity, &orders, linked, &dialer_says))?;

    let session = Session::new(&host, &boot_id, dial, (LINK, HEARTBEATS), &say);
    let registry = poll.registry().try_clone()?;
    let peers = Peers::new(&host, meet, FIRST_PEER, &say);
    let agent = Agent::new(start, registry, jobs, (session, peers), say.clone(), boottime());
    let want_real_time = options.real_time;
    // As late as can be: from here on an agent that ends in disorder must be back in time.
    let watchdog = options.watchdog.map(|device| Watchdog::start(&device, &pulse, &say)).transpose()?;
    let loop_thread = thread::Builder::new()
        .name("real-time".to_owned())
        .stack_size(STACK)
        .spawn(move || real_time::run(agent, poll, &news, &pulse, want_real_time))?;

    let manager = Notifier::from_env().context("cannot reach the service manager (NOTIFY_SOCKET)")?;
    tell(manager.as_ref(), State::Ready, &say);
    let cgroups = options.cgroup.then(|| cgroups(&files, &say)).flatten();
    let spawner = Spawner { files, host, boot_id, cgroups, agent: own, memory_lock_limit };
    // Ends when the real-time thread has: the queue of jobs is closed then.
    worker::run(spawner, waiting, mailbox, say.clone()).context("the worker broke")?;
    match loop_thread.join() {
        Ok(ended) => ended.context("the real-time thread broke")?,
        Err(_) => bail!("the real-time thread panicked"),
    }
    if let Some(watchdog) = watchdog {
        watchdog.stop();
    }
    tell(manager.as_ref(), State::Stopping, &say);
    say.notice(format_args!("the agent ends; applications and VIPs stay as they are"));
    say.finish();
    Ok(())
}

/// Tells the service manager, if there is one; ready means that applications are looked after, not that an SCS answers.
fn tell(manager: Option<&Notifier>, state: State<'_>, say: &Say) {
    if let Some(Err(e)) = manager.map(|manager| manager.tell(&[state])) {
        say.warning(format_args!("the service manager cannot be told: {e}"));
    }
}

/// Two agents on one run directory would start everything twice.
pub(crate) fn lock(files: &Files) -> anyhow::Result<File> {
    let path = files.run.join("lca.lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            bail!("another agent runs with run directory {}; stop it first", files.run.display())
        }
        Err(std::fs::TryLockError::Error(e)) => {
            Err(e).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

fn lock_memory(say: &Say) -> bool {
    match sys::lock_memory() {
        Ok(()) => true,
        Err(e) => {
            say.warning(format_args!(
                "memory is not locked (CAP_IPC_LOCK and CAP_SYS_RESOURCE are needed): {e}"
            ));
            false
        }
    }
}

fn cgroups(files: &Files, say: &Say) -> Option<Cgroups> {
    match Cgroups::open(&files.run) {
        Ok(cgroups) => Some(cgroups),
        Err(e) => {
            say.notice(format_args!("no control groups, process groups must do: {e}"));
            None
        }
    }
}

/// What the last run knew, if that was on this boot.
fn last_run(files: &Files, boot_id: &str, say: &Say) -> RunState {
    known(files.run_state(), say)
        .flatten()
        .filter(|last: &RunState| last.boot_id == boot_id)
        .unwrap_or_default()
}

/// An unreadable file is told and then counts as none: an agent that does not start helps nobody, and the SCS tells
/// everything again.
fn known<T>(read: std::io::Result<T>, say: &Say) -> Option<T> {
    read.inspect_err(|e| say.error(format_args!("{e}; going on without it"))).ok()
}
