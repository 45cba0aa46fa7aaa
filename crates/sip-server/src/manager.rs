//! Tells the manager (an agent, or systemd) how the server is: readiness, heartbeats, a status sentence.

use control_link::notify::{Notifier, State};
use domain::Micros;
use std::ffi::OsString;
use std::time::Duration;

/// Heartbeats within the manager's limit of silence: two may come late or get lost.
const HEARTBEATS_PER_LIMIT: u32 = 3;
/// How often a status sentence is told at most, other than at a change of mode.
const STATUS_EVERY: Duration = Duration::from_secs(10);

/// The server's line to its manager. A manager that restarts makes its socket anew, so the line is made anew when
/// telling fails; one that is away is no reason to end.
#[derive(Debug)]
pub(crate) struct Manager {
    socket: Option<OsString>,
    notifier: Option<Notifier>,
    heartbeat_every: Option<Duration>,
    next_heartbeat: Micros,
    next_status: Micros,
    status: String,
}

impl Manager {
    pub(crate) fn new(socket: Option<OsString>, watchdog: Option<Duration>) -> Self {
        let heartbeat_every = watchdog.filter(|_| socket.is_some()).map(|limit| limit / HEARTBEATS_PER_LIMIT);
        Self {
            socket,
            notifier: None,
            heartbeat_every,
            next_heartbeat: Micros(0),
            next_status: Micros(0),
            status: String::new(),
        }
    }

    /// Says that the server is ready, and how it is.
    pub(crate) fn ready(&mut self, status: String, now: Micros) {
        self.status = status;
        self.next_status = now + STATUS_EVERY;
        let status = self.status.clone();
        self.tell(&[State::Ready, State::Status(&status)]);
    }

    /// Says how the server is.
    pub(crate) fn status(&mut self, status: String, now: Micros) {
        self.next_status = now + STATUS_EVERY;
        if status != self.status {
            self.tell(&[State::Status(&status)]);
            self.status = status;
        }
    }

    /// Whether it is time to say again how the server is.
    pub(crate) fn status_is_due(&self, now: Micros) -> bool {
        self.socket.is_some() && now >= self.next_status
    }

    /// Says that the server is about to end.
    pub(crate) fn stopping(&mut self) {
        self.tell(&[State::Stopping, State::Status("stopping")]);
    }

    /// Sends a heartbeat if one is due. Only the event loop calls this, so a loop that hangs falls silent.
    pub(crate) fn heartbeat(&mut self, now: Micros) {
        let Some(every) = self.heartbeat_every else { return };
        if now >= self.next_heartbeat {
            self.tell(&[State::Watchdog]);
            self.next_heartbeat = now + every;
        }
    }

    /// When something is due next.
    pub(crate) fn next_deadline(&self) -> Option<Micros> {
        self.socket.as_ref()?;
        let heartbeat = self.heartbeat_every.map(|_| self.next_heartbeat);
        Some(heartbeat.map_or(self.next_status, |heartbeat| heartbeat.min(self.next_status)))
    }

    fn tell(&mut self, states: &[State<'_>]) {
        let Some(socket) = &self.socket else { return };
        if self.notifier.as_ref().is_some_and(|notifier| notifier.tell(states).is_ok()) {
            return;
        }
        self.notifier = Notifier::to(socket).ok();
        if let Some(notifier) = &self.notifier {
            // A manager that does not take it now hears the next one.
            let _ = notifier.tell(states);
        }
    }
}
