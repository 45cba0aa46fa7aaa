//! The watchdog device (Linux `Documentation/watchdog/watchdog-api.rst`), the third layer behind lease and gate: it resets
//! the host when the real-time thread has stopped for longer than any promise lasts.
//!
//! The real-time thread only counts its rounds ([`Pulse`]); a thread of its own looks whether it went on, and pets the device
//! if so. The device is not touched by the real-time thread itself, because a driver may keep the caller waiting (IPMI asks the
//! management controller).

use crate::say::Say;
use control_link::real_time::raise_thread;
use domain::Cluster;
use lease::Timing;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Shortest time-out: an agent that is restarted after a crash must be back within it.
const SHORTEST: Duration = Duration::from_secs(10);
/// More than the longest promise, so that a host is not reset whose lease is still believed in.
const SLACK: Duration = Duration::from_secs(1);
/// SCHED_FIFO priority of the thread that pets: a busy host is no hung one.
const PRIORITY: i32 = 10;
/// Written before closing, it stops the device instead of leaving it to run out ("magic close").
const STOP: &[u8] = b"V";
/// Anything else written pets it.
const PET: &[u8] = b"p";

/// Sets the time-out of a device, seconds; returns what the device made of it.
type SetTimeout = fn(BorrowedFd<'_>, u32) -> io::Result<u32>;

/// What the real-time thread and the one that pets tell each other.
#[derive(Debug, Default)]
pub struct Pulse {
    rounds: AtomicU64,
    wanted_s: AtomicU32,
    armed_s: AtomicU32,
}

impl Pulse {
    /// The real-time thread's loop has gone round.
    pub fn beat(&self) {
        self.rounds.fetch_add(1, Ordering::Relaxed);
    }

    /// The time-out is to be above the longest promise of these pairs; from the next petting on.
    pub fn outlast(&self, cluster: &Cluster) {
        let promises = cluster.pairs.values().map(|pair| Timing::from(pair.profile).promise());
        self.wanted_s.store(timeout_for(promises.max().unwrap_or_default()), Ordering::Relaxed);
    }

    /// Seconds after which the host is reset when the agent hangs; 0: no device is armed.
    pub fn armed_s(&self) -> u32 {
        self.armed_s.load(Ordering::Relaxed)
    }

    fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Relaxed)
    }
}

/// Longest pause between two beats: so often the real-time thread must go round though nothing happens.
pub const BEAT: Duration = Duration::from_secs(1);

/// Whole seconds are all that the interface knows.
fn timeout_for(promise: Duration) -> u32 {
    let timeout = promise.saturating_add(SLACK).max(SHORTEST);
    u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX).saturating_add(u32::from(timeout.subsec_nanos() > 0))
}

/// An armed device. Dropped without [`Watchdog::stop`], it stays armed: an agent that breaks must come back in time.
#[derive(Debug)]
pub struct Watchdog {
    stop: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Watchdog {
    /// Arms the device at `path` and starts the thread that pets it.
    ///
    /// # Errors
    /// There is no such device, another program has it, or its time-out cannot be set; the text says what to do.
    pub fn start(path: &Path, pulse: &Arc<Pulse>, say: &Say) -> anyhow::Result<Self> {
        let device = Device::check(path)
            .and_then(|()| Device::open(path, pulse.wanted_s.load(Ordering::Relaxed), set_timeout))
            .map_err(|e| {
                anyhow::anyhow!("the watchdog {} cannot be armed: {}", path.display(), explain(&e))
            })?;
        pulse.armed_s.store(device.timeout_s, Ordering::Relaxed);
        let (stop, stopped) = sync_channel(1);
        let (pulse, say) = (Arc::clone(pulse), say.clone());
        let thread =
            thread::Builder::new().name("watchdog".to_owned()).stack_size(64 * 1_024).spawn(move || {
                // Refused like the real-time thread's own; that is told there.
                let _ = raise_thread(PRIORITY);
                device.keep(&pulse, &stopped, &say);
            })?;
        Ok(Self { stop, thread })
    }

    /// Stops the device: the agent ends by order.
    pub fn stop(self) {
        // Where the thread has ended it has said why.
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

fn explain(error: &io::Error) -> String {
    let remedy = match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENXIO | libc::ENODEV) => {
            "; load a driver (modprobe softdog), or take it out of the host file"
        }
        Some(libc::EBUSY) => "; another program has it (systemd: RuntimeWatchdogSec=off in system.conf)",
        Some(libc::ENOTTY) => "; it is no watchdog device",
        Some(_) | None => "",
    };
    format!("{error}{remedy}")
}

/// The open device: armed since it was opened.
struct Device {
    path: PathBuf,
    file: File,
    timeout_s: u32,
    set_timeout: SetTimeout,
}

impl Device {
    /// Anything but a device would be written to for nothing.
    fn check(path: &Path) -> io::Result<()> {
        let is_device = path.metadata()?.file_type().is_char_device();
        if is_device { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ENOTTY)) }
    }

    fn open(path: &Path, wanted_s: u32, set_timeout: SetTimeout) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).open(path)?;
        let mut device = Self { path: path.to_owned(), file, timeout_s: 0, set_timeout };
        if let Err(e) = device.set(wanted_s.max(timeout_for(Duration::ZERO))) {
            // Opening armed it, for as long as its driver likes; but not what is no watchdog.
            if e.raw_os_error() != Some(libc::ENOTTY) {
                device.disarm()?;
            }
            return Err(e);
        }
        Ok(device)
    }

    /// Sets the time-out. A device that takes only a shorter one is refused: it would reset a host that is in order.
    fn set(&mut self, seconds: u32) -> io::Result<()> {
        let set = (self.set_timeout)(self.file.as_fd(), seconds)?;
        if set < seconds {
            return Err(io::Error::other(format!(
                "its time-out is at most {set} s, and {seconds} s are needed"
            )));
        }
        self.timeout_s = set;
        Ok(())
    }

    fn pet(&mut self) -> io::Result<()> {
        self.file.write_all(PET)
    }

    fn disarm(&mut self) -> io::Result<()> {
        self.file.write_all(STOP)
    }

    /// Pets while the pulse goes on, until told to stop. Several looks to a time-out, so that one may come late.
    fn keep(mut self, pulse: &Pulse, stop: &Receiver<()>, say: &Say) {
        let mut last = None;
        loop {
            match stop.recv_timeout(Duration::from_secs(self.timeout_s.into()) / 4) {
                Ok(()) => {
                    if let Err(e) = self.disarm() {
                        say.error(format_args!(
                            "the watchdog {} cannot be stopped: {e}",
                            self.path.display()
                        ));
                    }
                    return;
                }
                // Nobody is left who could say so: left armed.
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => self.look(pulse, &mut last, say),
            }
        }
    }

    fn look(&mut self, pulse: &Pulse, last: &mut Option<u64>, say: &Say) {
        let rounds = pulse.rounds();
        if last.replace(rounds) == Some(rounds) {
            say.error(format_args!(
                "the real-time thread has stopped; the watchdog {} resets this host {} s after its last petting",
                self.path.display(),
                self.timeout_s
            ));
            return;
        }
        let wanted = pulse.wanted_s.load(Ordering::Relaxed);
        let outcome = if wanted > self.timeout_s { self.set(wanted) } else { Ok(()) };
        if let Err(e) = outcome.and_then(|()| self.pet()) {
            say.error(format_args!("the watchdog {}: {e}", self.path.display()));
        }
        pulse.armed_s.store(self.timeout_s, Ordering::Relaxed);
    }
}

/// `WDIOC_SETTIMEOUT`, `_IOWR('W', 6, int)` of the kernel's `linux/watchdog.h`.
fn set_timeout(device: BorrowedFd<'_>, seconds: u32) -> io::Result<u32> {
    const WDIOC_SETTIMEOUT: libc::Ioctl = libc::_IOWR::<libc::c_int>(b'W' as u32, 6);
    let mut value = libc::c_int::try_from(seconds).unwrap_or(libc::c_int::MAX);
    // SAFETY: the request reads and writes one int, which lives through the call.
    if unsafe { libc::ioctl(device.as_raw_fd(), WDIOC_SETTIMEOUT, &raw mut value) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(u32::try_from(value).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::io::Read;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::OpenOptionsExt;

    /// A FIFO in the place of the device, and its other end.
    struct Fifo {
        _directory: tempfile::TempDir,
        path: PathBuf,
        reader: File,
    }

    impl Fifo {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("watchdog");
            let name = CString::new(path.as_os_str().as_bytes()).unwrap();
            // SAFETY: a valid string that ends in NUL.
            assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
            let reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
            Self { _directory: directory, path, reader }
        }

        /// What was written since the last call.
        fn written(&mut self) -> String {
            let mut buffer = [0; 64];
            match self.reader.read(&mut buffer) {
                Ok(n) => String::from_utf8(buffer[..n].to_vec()).unwrap(),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => String::new(),
                Err(e) => panic!("{e}"),
            }
        }
    }

    fn takes_any(_: BorrowedFd<'_>, seconds: u32) -> io::Result<u32> {
        Ok(seconds)
    }

    fn at_most_15(_: BorrowedFd<'_>, seconds: u32) -> io::Result<u32> {
        Ok(seconds.min(15))
    }

    #[test]
    fn the_time_out_is_above_the_longest_promise_and_at_least_ten_seconds() {
        assert_eq!(timeout_for(Duration::from_millis(452)), 10);
        assert_eq!(timeout_for(Duration::from_secs(9)), 10);
        assert_eq!(timeout_for(Duration::from_micros(60_061_031)), 62);
        assert_eq!(timeout_for(Duration::MAX), u32::MAX);
    }

    #[test]
    fn it_is_petted_only_while_the_loop_goes_round() {
        let (mut fifo, pulse, say) = (Fifo::new(), Pulse::default(), Say::start().unwrap());
        let mut device = Device::open(&fifo.path, 0, takes_any).unwrap();
        let mut last = None;
        for (beats, expected) in [(1, "p"), (3, "p"), (0, ""), (0, ""), (1, "p")] {
            (0..beats).for_each(|_| pulse.beat());
            device.look(&pulse, &mut last, &say);
            assert_eq!(fifo.written(), expected);
        }
        assert_eq!(pulse.armed_s(), 10);
    }

    #[test]
    fn a_longer_promise_makes_a_longer_time_out() {
        let (fifo, pulse, say) = (Fifo::new(), Pulse::default(), Say::start().unwrap());
        let mut device = Device::open(&fifo.path, 0, takes_any).unwrap();
        pulse.wanted_s.store(31, Ordering::Relaxed);
        device.look(&pulse, &mut None, &say);
        assert_eq!((device.timeout_s, pulse.armed_s()), (31, 31));
    }

    #[test]
    fn an_orderly_end_stops_the_device_and_no_other_does() {
        for (orderly, expected) in [(true, "V"), (false, "")] {
            let (mut fifo, pulse, say) = (Fifo::new(), Pulse::default(), Say::start().unwrap());
            let device = Device::open(&fifo.path, 0, takes_any).unwrap();
            let (stop, stopped) = sync_channel(1);
            if orderly {
                stop.send(()).unwrap();
            }
            drop(stop);
            device.keep(&pulse, &stopped, &say);
            assert_eq!(fifo.written(), expected);
        }
    }

    #[test]
    fn a_device_that_would_reset_too_early_is_stopped_and_refused() {
        let mut fifo = Fifo::new();
        let error = Device::open(&fifo.path, 20, at_most_15).err().unwrap();
        assert!(error.to_string().contains("at most 15 s, and 20 s are needed"), "{error}");
        assert_eq!(fifo.written(), "V");
    }

    #[test]
    fn what_is_no_watchdog_is_refused_and_not_written_to() {
        let mut fifo = Fifo::new();
        let said =
            |error: io::Error| assert!(explain(&error).ends_with("it is no watchdog device"), "{error}");
        said(Device::open(Path::new("/dev/null"), 20, set_timeout).err().unwrap());
        said(Device::check(&fifo.path).err().unwrap());
        assert_eq!(fifo.written(), "");
    }

    #[test]
    fn a_missing_device_is_told_with_what_to_do() {
        let error = Device::open(Path::new("/nonexistent/watchdog"), 0, takes_any).err().unwrap();
        assert!(explain(&error).contains("modprobe softdog"), "{error}");
    }
}
