//! The process of an application as the real-time thread holds it: pidfd, lifeline, notify socket, mode socket. Reads and writes
//! them without waiting; what it means is the supervisor's.

use crate::cgroup::{self, Cgroup};
use crate::death_watch::DeathWatch;
use crate::spawn::Running;
use crate::sys;
use control_link::messages::{FromApplication, ToApplication};
use control_link::mode_socket::{Connection, ModeSocketError};
use control_link::notify::{self, MAX_NOTICE, Watchdog};
use domain::Micros;
use lca_core::supervisor::{Exit, Notice};
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

/// Datagrams or packets read in one go; the rest comes in the next round, after everybody else had a turn.
const MOST: usize = 64;
/// First pause between attempts to connect the mode socket; doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Which descriptor of a process an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The main process ended.
    Main,
    /// The main process is dying.
    Dying,
    /// The process that the agent started ended, where it has handed over to another one (`MAINPID=`).
    Leader,
    /// A notify datagram.
    Notify,
    /// A packet on the mode socket.
    Mode,
}

const KINDS: [Kind; 5] = [Kind::Main, Kind::Dying, Kind::Leader, Kind::Notify, Kind::Mode];

/// A token that says which process run and which descriptor; runs are never numbered twice, so a late event of a process
/// that is gone hits nobody.
#[must_use]
pub fn token(first: usize, run: usize, kind: Kind) -> Token {
    let kind = match kind {
        Kind::Main => 0,
        Kind::Dying => 1,
        Kind::Leader => 2,
        Kind::Notify => 3,
        Kind::Mode => 4,
    };
    Token(first + run * KINDS.len() + kind)
}

/// The inverse of [`token`].
#[must_use]
pub fn from_token(first: usize, token: Token) -> Option<(usize, Kind)> {
    let number = token.0.checked_sub(first)?;
    Some((number / KINDS.len(), KINDS[number % KINDS.len()]))
}

/// A running process.
#[derive(Debug)]
pub struct Process {
    run: usize,
    first_token: usize,
    /// Leads the session and the process group; what the agent started.
    leader: u32,
    main: OwnedFd,
    main_pid: u32,
    /// Tells of its end before `main` does, where the application knows of lifelines.
    death_watch: Option<DeathWatch>,
    /// The pidfd of the leader, where `main` is another process.
    leader_fd: Option<OwnedFd>,
    notify: UnixDatagram,
    cgroup: Option<Cgroup>,
    mode_path: PathBuf,
    mode: Option<Connection>,
    try_at: Option<Micros>,
    pause: Duration,
    /// Whether it has told its run mode since the agent holds it.
    pub mode_told: bool,
    has_ended: bool,
}

impl Process {
    /// Takes a process and watches it. `speaks`: it has a mode socket to be connected.
    ///
    /// # Errors
    /// The event loop refused.
    pub fn watch(
        running: Running,
        mode_path: PathBuf,
        speaks: bool,
        (first_token, run): (usize, usize),
        registry: &Registry,
        now: Micros,
    ) -> io::Result<Self> {
        let process = Self {
            run,
            first_token,
            leader: running.pid,
            main: running.pidfd,
            main_pid: running.pid,
            death_watch: None,
            leader_fd: None,
            notify: running.notify,
            cgroup: running.cgroup,
            mode_path,
            mode: None,
            try_at: speaks.then_some(now),
            pause: FIRST_PAUSE,
            mode_told: false,
            has_ended: false,
        };
        process.register(registry, process.main.as_raw_fd(), Kind::Main)?;
        process.register(registry, process.notify.as_raw_fd(), Kind::Notify)?;
        Ok(process)
    }

    /// The number of this run.
    #[must_use]
    pub fn run(&self) -> usize {
        self.run
    }

    /// The pidfd is readable: how the main process ended. It stays a zombie until [`Process::release`].
    pub fn ended(&mut self) -> Option<Exit> {
        let exit = match sys::ended(self.main.as_fd()) {
            Ok(None) => return None,
            Ok(Some(sys::Ended::Code(code))) => Exit::Code(code),
            Ok(Some(sys::Ended::Signal(signal))) => Exit::Signal(signal),
            // Not our child.
            Err(_) => Exit::Unknown,
        };
        self.has_ended = true;
        Some(exit)
    }

    /// The main process is dying, and how; its end follows.
    pub fn dying(&mut self, registry: &Registry) -> Option<Exit> {
        let exit = self.death_watch.as_mut()?.dying();
        // Nothing more comes from there.
        self.stop_death_watch(registry);
        exit
    }

    /// Whether its end was seen.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// A signal to the main process. That it has just ended is no error here: the pidfd tells.
    pub fn signal(&self, signal: libc::c_int) {
        let _ = sys::signal(self.main.as_fd(), signal);
    }

    /// SIGKILL to everything in its process group. What left the group is in the cgroup, which the worker clears.
    pub fn kill_all(&self) {
        let leader = self.leader_fd.as_ref().unwrap_or(&self.main);
        let _ = sys::signal_group(leader.as_fd(), self.leader, libc::SIGKILL);
        if self.leader_fd.is_some() {
            self.signal(libc::SIGKILL);
        }
    }

    /// The leader has ended after it had handed over.
    pub fn reap_leader(&self) {
        if let Some(leader) = &self.leader_fd {
            sys::reap(leader.as_fd());
        }
    }

    /// Lets go of a process that has ended.
    pub fn release(mut self, registry: &Registry) {
        self.stop_death_watch(registry);
        let _ = registry.deregister(&mut SourceFd(&self.main.as_raw_fd()));
        let _ = registry.deregister(&mut SourceFd(&self.notify.as_raw_fd()));
        if let Some(mode) = &self.mode {
            let _ = registry.deregister(&mut SourceFd(&mode.as_raw_fd()));
        }
        if let Some(leader) = &self.leader_fd {
            let _ = registry.deregister(&mut SourceFd(&leader.as_raw_fd()));
            sys::reap(leader.as_fd());
        }
        sys::reap(self.main.as_fd());
    }

    /// The next notices, of processes that belong to the application. True: there may be more.
    pub fn read_notices(&self, out: &mut Vec<Notice>) -> bool {
        let mut buffer = [0; MAX_NOTICE + 1];
        for _ in 0..MOST {
            let (size, sender) = match sys::receive_from(&self.notify, &mut buffer) {
                Ok(received) => received,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return false,
            };
            // Too long, or from somebody else: as if it had not been sent.
            let Some(datagram) = buffer.get(..size) else { continue };
            if !sender.is_some_and(|pid| self.owns(pid)) {
                continue;
            }
            if let Ok(notice) = notify::Notice::parse(datagram) {
                out.push(self.take(&notice));
            }
        }
        true
    }

    /// Follows the application to another main process.
    ///
    /// # Errors
    /// It has ended already, or the event loop refused; the old one is watched on.
    pub fn follow(&mut self, pid: u32, registry: &Registry) -> io::Result<()> {
        let new = sys::pidfd_open(pid)?;
        let old = std::mem::replace(&mut self.main, new);
        registry.deregister(&mut SourceFd(&old.as_raw_fd()))?;
        if self.leader_fd.is_none() {
            self.register(registry, old.as_raw_fd(), Kind::Leader)?;
            self.leader_fd = Some(old);
        }
        self.main_pid = pid;
        self.begin_death_watch(registry);
        self.register(registry, self.main.as_raw_fd(), Kind::Main)
    }

    /// Gives the application a lifeline. Without one, its end is seen a little later.
    fn begin_death_watch(&mut self, registry: &Registry) {
        self.stop_death_watch(registry);
        let Some(mode) = &self.mode else { return };
        let Ok(watch) = DeathWatch::begin(self.main_pid) else { return };
        if mode.send_with(&ToApplication::Lifeline, watch.lifeline()).is_ok()
            && self.register(registry, watch.as_raw_fd(), Kind::Dying).is_ok()
        {
            self.death_watch = Some(watch);
        }
    }

    fn stop_death_watch(&mut self, registry: &Registry) {
        if let Some(watch) = self.death_watch.take() {
            let _ = registry.deregister(&mut SourceFd(&watch.as_raw_fd()));
        }
    }

    /// When [`Process::connect`] is due next.
    #[must_use]
    pub fn next_attempt(&self) -> Option<Micros> {
        self.try_at
    }

    /// Connects the mode socket if it is time to. True: it is connected now. `soon`: the application has just become
    /// ready, so this is worth an attempt out of turn.
    pub fn connect(&mut self, now: Micros, soon: bool, registry: &Registry) -> bool {
        if self.try_at.is_none_or(|at| at > now && !soon) {
            return false;
        }
        let connected = Connection::connect(&self.mode_path)
            .ok()
            .filter(|connection| self.register(registry, connection.as_raw_fd(), Kind::Mode).is_ok());
        if connected.is_some() {
            self.mode = connected;
            self.try_at = None;
            self.pause = FIRST_PAUSE;
            self.begin_death_watch(registry);
            true
        } else {
            self.try_at = Some(now + self.pause);
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            false
        }
    }

    /// Sends on the mode socket.
    ///
    /// # Errors
    /// [`ModeSocketError`]; not connected counts as closed.
    pub fn tell(&self, message: &ToApplication) -> Result<(), ModeSocketError> {
        self.mode.as_ref().ok_or(ModeSocketError::Closed)?.send(message)
    }

    /// The next messages of the application.
    pub fn read_mode(&mut self, now: Micros, out: &mut Vec<FromApplication>) -> Drained {
        let Some(mode) = &self.mode else { return Drained::All };
        for _ in 0..MOST {
            match mode.receive() {
                Ok(Some(message)) => out.push(message),
                Ok(None) => return Drained::All,
                // That packet only.
                Err(ModeSocketError::TooLarge { .. } | ModeSocketError::Malformed(_)) => {}
                Err(_) => {
                    // Dropping the connection takes it out of the poll.
                    self.mode = None;
                    self.try_at = Some(now + self.pause);
                    return Drained::Closed;
                }
            }
        }
        Drained::More
    }

    fn register(&self, registry: &Registry, fd: std::os::fd::RawFd, kind: Kind) -> io::Result<()> {
        registry.register(&mut SourceFd(&fd), token(self.first_token, self.run, kind), Interest::READABLE)
    }

    /// Whether a process belongs to the application: of its session, or, where it made one of its own, of its cgroup
    /// (which is read from `/proc`, but only for such a process).
    fn owns(&self, pid: u32) -> bool {
        pid == self.leader
            || sys::session_of(pid) == Some(self.leader)
            || self.cgroup.as_ref().is_some_and(|group| cgroup::holds(group, pid))
    }

    fn take(&self, notice: &notify::Notice<'_>) -> Notice {
        Notice {
            ready: notice.ready,
            reloading: notice.reloading,
            stopping: notice.stopping,
            alive: notice.watchdog == Some(Watchdog::Alive),
            broken: notice.watchdog == Some(Watchdog::Trigger),
            watchdog: notice.watchdog_limit,
            extend: notice.extend_timeout,
            text: notice.status.map(str::to_owned),
            main_pid: notice.main_pid.filter(|pid| *pid != self.leader && self.owns(*pid)),
        }
    }
}

/// What reading the mode socket came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Nothing waits.
    All,
    /// There may be more.
    More,
    /// The application closed it; it is connected again later.
    Closed,
}
