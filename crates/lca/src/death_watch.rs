//! Waits for the end of one application in a thread of its own, by the lifeline that the application holds, and tells the
//! real-time thread some milliseconds before the pidfd does.

use control_link::lifeline::{Outcome, Watched};
use control_link::real_time::raise_thread;
use lca_core::supervisor::Exit;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::thread;

/// SCHED_FIFO priority: that of the real-time thread, which waits for what this thread says.
const PRIORITY: libc::c_int = 20;
/// It calls a few functions that need next to nothing, bytes.
const STACK: usize = 64 * 1_024;
/// Where the exit code stands in `/proc/PID/stat` behind the name in brackets (proc_pid_stat(5), field 52).
const EXIT_CODE: usize = 49;

/// Waits for the end of one process. Dropped, it waits no more.
#[derive(Debug)]
pub struct DeathWatch {
    watched: Arc<Watched>,
    told: PipeReader,
}

impl DeathWatch {
    /// Begins to wait for the end of the process with this number, which is to be given [`DeathWatch::lifeline`].
    ///
    /// # Errors
    /// What the system refused.
    pub fn begin(pid: u32) -> io::Result<Self> {
        let watched = Arc::new(Watched::new()?);
        let (told, tell) = io::pipe()?;
        set_nonblocking(&told)?;
        let waiting = Arc::clone(&watched);
        thread::Builder::new()
            .name("death-watch".to_owned())
            .stack_size(STACK)
            .spawn(move || wait(pid, &waiting, tell))?;
        Ok(Self { watched, told })
    }

    /// What the application is to hold.
    #[must_use]
    pub fn lifeline(&self) -> BorrowedFd<'_> {
        self.watched.descriptor()
    }

    /// How the process is ending, if it is. The descriptor is readable then; it also is when there is nothing to wait for
    /// any more.
    pub fn dying(&mut self) -> Option<Exit> {
        let mut code = [0; 4];
        self.told.read_exact(&mut code).ok()?;
        Some(exit(i32::from_ne_bytes(code)))
    }
}

impl Drop for DeathWatch {
    fn drop(&mut self) {
        self.watched.give_up();
    }
}

impl AsRawFd for DeathWatch {
    fn as_raw_fd(&self) -> RawFd {
        self.told.as_raw_fd()
    }
}

fn wait(pid: u32, watched: &Watched, mut tell: PipeWriter) {
    // Where it is not allowed, the real-time thread has no such right either.
    let _ = raise_thread(PRIORITY);
    match watched.wait() {
        // The main thread is the last that a process needs. Other threads, and processes below it, may come and go.
        Outcome::Dying { thread } if thread == pid => {
            // Nobody reads it any more where the process's end was seen in another way.
            let _ = tell.write_all(&exit_code(pid).unwrap_or(0).to_ne_bytes());
        }
        Outcome::Dying { .. } | Outcome::GivenUp => {}
    }
}

/// How a process that is ending will have ended, as wait(2) will say it. 0 also where it may not be known.
fn exit_code(pid: u32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, behind) = stat.rsplit_once(')')?;
    behind.split_ascii_whitespace().nth(EXIT_CODE)?.parse().ok()
}

fn exit(code: i32) -> Exit {
    let status = ExitStatus::from_raw(code);
    match (status.signal(), status.code()) {
        (Some(signal), _) => Exit::Signal(signal),
        (None, Some(code)) if code != 0 => Exit::Code(code),
        (None, _) => Exit::Unknown,
    }
}

fn set_nonblocking(pipe: &PipeReader) -> io::Result<()> {
    let fd = pipe.as_fd().as_raw_fd();
    // SAFETY: a descriptor that is open; a new pipe has no other flags.
    match unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
