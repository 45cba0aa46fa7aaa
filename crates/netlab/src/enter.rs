//! `enter`: continues the program inside namespaces of its own, while the process that was started stays outside as a
//! guardian that passes on signals and the exit code. The namespaces themselves are `enclosure`'s business.

use crate::enclosure::{self, Guard, Launched, Step};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io;
use std::os::fd::AsFd;

/// Where the program is after [`enter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Place {
    /// Inside: go on.
    Inside,
    /// Outside, and the program inside has ended with this code (128 + n where signal n ended it): end with it, too.
    Outside(u8),
}

/// Why the namespaces could not be entered.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// The program has started threads, which a fork would leave behind.
    #[error(
        "namespaces can only be entered by a program with one thread, this one has {0}: enter before starting any"
    )]
    Threads(usize),
    /// The machine does not let this user make namespaces.
    #[error(
        "this machine does not let this user make network namespaces ({step}): {advice}, or run as root, \
         with CAP_SYS_ADMIN where that is in a container"
    )]
    Forbidden {
        /// What was refused.
        step: String,
        /// Which setting forbids it, as far as can be told.
        advice: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// Something else failed while the namespaces were made.
    #[error("the namespaces could not be set up: {step}")]
    Setup {
        /// What was being done.
        step: String,
        /// What the kernel answered.
        source: io::Error,
    },
}

/// Continues the program in new network, mount and PID namespaces; without the right to make them (as root), in a new user
/// namespace as well, in which the caller is root.
///
/// The process forks rather than executing itself anew: whatever was opened before (the API's port, say) is simply still
/// there, and so are the controlling terminal, the environment and the working directory. Inside
/// - the file systems are the machine's, but for a fresh `/proc`, an empty `/run` in memory (with [`WORK_DIR`] and a
///   directory that `TMPDIR` names), and `/run/takeover`, `/var/lib/takeover` and `/var/log/takeover`, in memory too;
/// - no mount made inside is seen outside, and no control group can be made;
/// - the network is an interface `lo` and nothing else.
///
/// Nothing remains however the program ends: namespaces, mounts and processes inside go with process 1 of the PID
/// namespace, and that goes when the program inside ends or the guardian outside does, by SIGKILL, too.
///
/// [`WORK_DIR`]: crate::WORK_DIR
///
/// # Errors
/// See [`EnterError`]; the process has not changed then.
pub fn enter() -> Result<Place, EnterError> {
    let forwarded = forwarded_signals();
    let mut original = SigSet::empty();
    // Blocked before there is anybody to pass them on to, so that none is lost in between.
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&forwarded), Some(&mut original))
        .expect("blocking valid signals cannot fail");
    let outcome = match enclosure::launch(&original) {
        Ok(Launched::Inside) => return Ok(Place::Inside), // with the original mask
        Ok(Launched::Outside(guard)) => guard_until_end(&guard, &forwarded).map(Place::Outside),
        Err(error) => Err(error),
    };
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&original), None).expect("restoring the mask cannot fail");
    outcome
}

/// The signals that a guardian passes on.
pub(crate) fn forwarded_signals() -> SigSet {
    [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGUSR2]
        .into_iter()
        .collect()
}

/// Whether a signal came from a process. One from the terminal has already reached everybody in the foreground, the
/// program inside as well, and must not reach it twice.
pub(crate) fn sent_by_a_process(code: i32) -> bool {
    code <= 0 // SI_USER, SI_QUEUE, SI_TKILL; the kernel's own are greater (sigaction(2))
}

fn guard_until_end(guard: &Guard, forwarded: &SigSet) -> Result<u8, EnterError> {
    let failed = |source: Errno| Step("waiting for the program inside", source).into_error();
    let signals =
        SignalFd::with_flags(forwarded, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(failed)?;
    loop {
        let mut ready =
            [PollFd::new(signals.as_fd(), PollFlags::POLLIN), PollFd::new(guard.pidfd(), PollFlags::POLLIN)];
        match poll(&mut ready, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(failed(error)),
        }
        // Bounded: pending signals of one kind are one signal.
        while let Ok(Some(info)) = signals.read_signal() {
            if sent_by_a_process(info.ssi_code) {
                guard.signal(info.ssi_signo);
            }
        }
        if let Some(code) = guard.try_wait() {
            return Ok(code);
        }
    }
}

impl Step {
    /// As an error for the caller of [`enter`].
    pub(crate) fn into_error(self) -> EnterError {
        EnterError::new(self.0.to_owned(), self.1)
    }
}

impl EnterError {
    /// The error for a step that failed; advice is looked up where the kernel refused.
    pub(crate) fn new(step: String, errno: Errno) -> Self {
        let source = io::Error::from(errno);
        match errno {
            // ENOSYS: what the seccomp filters of containers answer.
            Errno::EPERM | Errno::EACCES | Errno::ENOSPC | Errno::EUSERS | Errno::ENOSYS => {
                EnterError::Forbidden { step, advice: advice(), source }
            }
            _ => EnterError::Setup { step, source },
        }
    }
}

/// Which of the settings that are known to forbid user namespaces does, and how to change it.
fn advice() -> String {
    const SETTINGS: [(&str, &str, &str); 3] = [
        ("kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
        ("user/max_user_namespaces", "0", "user.max_user_namespaces=10000"),
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ];
    let forbidding = SETTINGS.iter().filter(|(path, bad, _)| {
        std::fs::read_to_string(format!("/proc/sys/{path}")).is_ok_and(|value| value.trim() == *bad)
    });
    let remedies: Vec<String> =
        forbidding.map(|(_, _, remedy)| format!("set `sysctl -w {remedy}`")).collect();
    if remedies.is_empty() {
        "check the sysctls kernel.unprivileged_userns_clone, user.max_user_namespaces and \
         kernel.apparmor_restrict_unprivileged_userns, and the seccomp filter of a container"
            .to_owned()
    } else {
        remedies.join(" and ")
    }
}
