//! The sd_notify protocol, both sides (sd_notify(3), systemd.exec(5)): [`Notifier`] for our own programs, so that they
//! run under systemd and under an agent alike, and [`Notice`] for the agent that reads what applications tell.

use std::env;
use std::ffi::OsStr;
use std::fmt::Write;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Largest datagram, bytes; systemd's own limit (`NOTIFY_BUFFER_MAX` is `PIPE_BUF`).
pub const MAX_NOTICE: usize = 4_096;
/// How much of `STATUS=` is kept, bytes.
pub const MAX_STATUS: usize = 1_024;

/// What a program may tell its manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State<'a> {
    /// Start-up is finished.
    Ready,
    /// The configuration is being read again; [`State::Ready`] follows.
    Reloading,
    /// It is about to end.
    Stopping,
    /// A sentence about how it is; line breaks become spaces.
    Status(&'a str),
    /// It is alive.
    Watchdog,
    /// Its process id, where not the sender's.
    MainPid(u32),
}

/// The program's side: tells its manager, if there is one that wants to know.
#[derive(Debug)]
pub struct Notifier {
    socket: UnixDatagram,
}

impl Notifier {
    /// A notifier to the socket in `NOTIFY_SOCKET`; none where it is not set.
    ///
    /// # Errors
    /// Where the variable names no socket that can be reached.
    pub fn from_env() -> io::Result<Option<Self>> {
        env::var_os("NOTIFY_SOCKET").map(|name| Self::to(&name)).transpose()
    }

    /// A notifier to a socket: an absolute path, or a name in the abstract namespace behind '@' (unix(7)).
    ///
    /// # Errors
    /// Where the name is of neither form or the socket cannot be reached.
    pub fn to(name: &OsStr) -> io::Result<Self> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            _ => {
                let why =
                    format!("NOTIFY_SOCKET={} is neither a path nor '@' and a name", name.to_string_lossy());
                return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            }
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        // A manager that does not read must not stop the program.
        socket.set_nonblocking(true)?;
        Ok(Self { socket })
    }

    /// Sends `states` as one datagram.
    ///
    /// # Errors
    /// Where the manager's socket is gone or full.
    pub fn tell(&self, states: &[State<'_>]) -> io::Result<()> {
        let mut text = String::new();
        for state in states {
            // Writing to a String does not fail.
            let _ = match state {
                State::Ready => writeln!(text, "READY=1"),
                State::Reloading => writeln!(text, "RELOADING=1\nMONOTONIC_USEC={}", monotonic_us()),
                State::Stopping => writeln!(text, "STOPPING=1"),
                State::Status(status) => {
                    writeln!(text, "STATUS={}", first(status, MAX_STATUS).replace('\n', " "))
                }
                State::Watchdog => writeln!(text, "WATCHDOG=1"),
                State::MainPid(pid) => writeln!(text, "MAINPID={pid}"),
            };
        }
        self.socket.send(text.as_bytes()).map(|_| ())
    }
}

/// The longest silence that the manager tolerates (`WATCHDOG_USEC`, sd_watchdog_enabled(3)), where it wants heartbeats
/// of this very process. Half of it is a good interval for [`State::Watchdog`].
#[must_use]
pub fn watchdog_limit() -> Option<Duration> {
    let number = |name: &str| env::var(name).ok().map(|value| value.parse::<u64>().ok());
    let for_us = number("WATCHDOG_PID").is_none_or(|pid| pid == Some(u64::from(std::process::id())));
    let limit = number("WATCHDOG_USEC")??;
    (for_us && limit > 0).then(|| Duration::from_micros(limit))
}

/// What one datagram of an application says. A key that is there twice counts the last time; unknown keys are for other
/// readers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notice<'a> {
    /// `READY=1`.
    pub ready: bool,
    /// `RELOADING=1`.
    pub reloading: bool,
    /// `STOPPING=1`.
    pub stopping: bool,
    /// `WATCHDOG=`.
    pub watchdog: Option<Watchdog>,
    /// `STATUS=`, at most [`MAX_STATUS`] bytes of it.
    pub status: Option<&'a str>,
    /// `MAINPID=`, above 1. Whether the process is the application's is for the reader to check.
    pub main_pid: Option<u32>,
    /// `ERRNO=`, 1 to 4,095.
    pub errno: Option<i32>,
    /// `EXTEND_TIMEOUT_USEC=`: the time limit that is running ends no earlier than this from now.
    pub extend_timeout: Option<Duration>,
    /// `WATCHDOG_USEC=`: the longest silence from now on.
    pub watchdog_limit: Option<Duration>,
    /// The first line with a known key and a value that makes no sense. It is ignored, as systemd does; worth a log
    /// line.
    pub invalid: Option<&'a str>,
}

/// What `WATCHDOG=` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watchdog {
    /// Alive.
    Alive,
    /// `trigger`: treat it as if the heartbeat had stayed out.
    Trigger,
}

/// Why a datagram was refused as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoticeError {
    /// Longer than [`MAX_NOTICE`].
    #[error("the notification has more than {MAX_NOTICE} bytes")]
    TooLong,
    /// Not UTF-8.
    #[error("the notification is not UTF-8")]
    NotUtf8,
}

impl<'a> Notice<'a> {
    /// Reads a datagram. Give it a buffer larger than [`MAX_NOTICE`], so that one that was cut off is noticed.
    ///
    /// # Errors
    /// [`NoticeError`].
    pub fn parse(datagram: &'a [u8]) -> Result<Self, NoticeError> {
        if datagram.len() > MAX_NOTICE {
            return Err(NoticeError::TooLong);
        }
        let text = std::str::from_utf8(datagram).map_err(|_| NoticeError::NotUtf8)?;
        let mut notice = Self::default();
        for line in text.lines() {
            if !notice.take(line) {
                notice.invalid.get_or_insert(first(line, MAX_STATUS));
            }
        }
        Ok(notice)
    }

    /// Takes one line; false where its key is known and its value makes no sense.
    fn take(&mut self, line: &'a str) -> bool {
        let Some((key, value)) = line.split_once('=') else {
            return line.is_empty();
        };
        let number =
            || value.bytes().all(|b| b.is_ascii_digit()).then(|| value.parse::<u64>().ok()).flatten();
        let duration = || number().filter(|us| *us > 0).map(Duration::from_micros);
        match key {
            "READY" => flag(&mut self.ready, value),
            "RELOADING" => flag(&mut self.reloading, value),
            "STOPPING" => flag(&mut self.stopping, value),
            "STATUS" => set(&mut self.status, Some(first(value, MAX_STATUS))),
            "WATCHDOG" => set(
                &mut self.watchdog,
                match value {
                    "1" => Some(Watchdog::Alive),
                    "trigger" => Some(Watchdog::Trigger),
                    _ => None,
                },
            ),
            // A process id fits 22 bits (PID_MAX_LIMIT of the kernel's include/linux/threads.h); 1 is init.
            "MAINPID" => {
                let pid = number()
                    .filter(|pid| (2..=1 << 22).contains(pid))
                    .and_then(|pid| u32::try_from(pid).ok());
                set(&mut self.main_pid, pid)
            }
            // MAX_ERRNO of the kernel's include/linux/err.h.
            "ERRNO" => {
                let errno = number().filter(|n| (1..=4_095).contains(n)).and_then(|n| i32::try_from(n).ok());
                set(&mut self.errno, errno)
            }
            "EXTEND_TIMEOUT_USEC" => set(&mut self.extend_timeout, duration()),
            "WATCHDOG_USEC" => set(&mut self.watchdog_limit, duration()),
            _ => true,
        }
    }
}

fn flag(place: &mut bool, value: &str) -> bool {
    *place |= value == "1";
    value == "1"
}

fn set<T>(place: &mut Option<T>, value: Option<T>) -> bool {
    let makes_sense = value.is_some();
    if makes_sense {
        *place = value;
    }
    makes_sense
}

/// At most `length` bytes of `text`, whole characters.
fn first(text: &str, length: usize) -> &str {
    &text[..text.floor_char_boundary(length)]
}

/// CLOCK_MONOTONIC in microseconds, which systemd demands with `RELOADING=1`.
fn monotonic_us() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is ours to be written; the clock exists on every Linux, the call cannot fail then.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_applications_tell_is_understood() {
        let text = "READY=1\nSTATUS=serving 3 calls = fine\nWATCHDOG=1\nMAINPID=42\nERRNO=2\nX_OWN=y\n\
                    EXTEND_TIMEOUT_USEC=5000000\nWATCHDOG_USEC=250000\nSTOPPING=1\nRELOADING=1\n";
        let expected = Notice {
            ready: true,
            reloading: true,
            stopping: true,
            watchdog: Some(Watchdog::Alive),
            status: Some("serving 3 calls = fine"),
            main_pid: Some(42),
            errno: Some(2),
            extend_timeout: Some(Duration::from_secs(5)),
            watchdog_limit: Some(Duration::from_millis(250)),
            invalid: None,
        };
        assert_eq!(Notice::parse(text.as_bytes()), Ok(expected));
        assert_eq!(Notice::parse(b"WATCHDOG=trigger").unwrap().watchdog, Some(Watchdog::Trigger));
        assert_eq!(Notice::parse(b""), Ok(Notice::default()));
    }

    #[test]
    fn a_senseless_value_costs_its_line_only() {
        for line in [
            "READY=yes",
            "WATCHDOG=0",
            "MAINPID=1",
            "MAINPID=0",
            "MAINPID=-5",
            "MAINPID=99999999999999999999",
            "MAINPID=4194305",
            "MAINPID=+5",
            "ERRNO=0",
            "ERRNO=x",
            "ERRNO=4096",
            "EXTEND_TIMEOUT_USEC=0",
            "WATCHDOG_USEC=1.5",
            "no equals sign",
        ] {
            let text = format!("{line}\nSTOPPING=1");
            let expected = Notice { stopping: true, invalid: Some(line), ..Notice::default() };
            assert_eq!(Notice::parse(text.as_bytes()), Ok(expected), "{line}");
        }
    }

    #[test]
    fn what_is_too_long_or_not_text_is_refused() {
        assert_eq!(Notice::parse(&[b'\n'; MAX_NOTICE]), Ok(Notice::default()));
        assert_eq!(Notice::parse(&[b'\n'; MAX_NOTICE + 1]), Err(NoticeError::TooLong));
        assert_eq!(Notice::parse(b"READY=1\nSTATUS=\xff"), Err(NoticeError::NotUtf8));
        let long = format!("STATUS={}", "\u{e9}".repeat(1_000));
        let status = Notice::parse(long.as_bytes()).unwrap().status.unwrap().len();
        assert_eq!(status, MAX_STATUS, "cut at a whole character");
        let odd = format!("STATUS=x{}", "\u{e9}".repeat(1_000));
        assert_eq!(Notice::parse(odd.as_bytes()).unwrap().status.unwrap().len(), MAX_STATUS - 1);
    }

    #[test]
    fn a_program_reaches_its_manager_by_path_and_by_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let abstract_name = format!("takeover-notify-test-{}", std::process::id());
        let by_path = UnixDatagram::bind(&path).unwrap();
        let address = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        let by_name = UnixDatagram::bind_addr(&address).unwrap();
        let at_name = format!("@{abstract_name}");
        for (manager, name) in [(by_path, path.as_os_str()), (by_name, OsStr::new(&at_name))] {
            let notifier = Notifier::to(name).unwrap();
            let told = [State::Status("one\ntwo"), State::Ready, State::MainPid(7), State::Watchdog];
            notifier.tell(&told).unwrap();
            let mut buffer = [0; MAX_NOTICE + 1];
            let length = manager.recv(&mut buffer).unwrap();
            let notice = Notice::parse(&buffer[..length]).unwrap();
            let expected = Notice {
                ready: true,
                watchdog: Some(Watchdog::Alive),
                status: Some("one two"),
                main_pid: Some(7),
                ..Notice::default()
            };
            assert_eq!(notice, expected);
            notifier.tell(&[State::Reloading]).unwrap();
            let length = manager.recv(&mut buffer).unwrap();
            assert!(buffer[..length].starts_with(b"RELOADING=1\nMONOTONIC_USEC="));
            drop(manager);
            assert!(
                notifier.tell(&[State::Stopping]).is_err(),
                "a manager that is gone is an error, not a signal"
            );
        }
        assert!(Notifier::to(OsStr::new("relative")).is_err());
    }
}
