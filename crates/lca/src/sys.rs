//! The kernel interfaces that the standard library does not have, each behind one safe function: pidfds, the timer of the
//! real-time thread, locked memory, and who sent a datagram.

use domain::Micros;
use std::fs;
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

/// `PIDFD_SIGNAL_PROCESS_GROUP` of the kernel's `linux/pidfd.h`, since Linux 6.9.
const PIDFD_SIGNAL_PROCESS_GROUP: libc::c_uint = 1 << 2;

/// How a child ended (waitid(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With an exit code.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

fn check(returned: libc::c_int) -> io::Result<libc::c_int> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(returned) }
}

/// pidfd_open(2): a descriptor that is readable when the process has ended.
///
/// # Errors
/// `ESRCH`: no such process.
pub fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?;
    // SAFETY: a system call without pointers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = check(libc::c_int::try_from(fd).unwrap_or(-1))?;
    // SAFETY: the kernel has just given us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// pidfd_send_signal(2) to the process itself.
///
/// # Errors
/// `ESRCH`: it has ended.
pub fn signal(pidfd: BorrowedFd<'_>, signal: libc::c_int) -> io::Result<()> {
    send_signal(pidfd, signal, 0)
}

/// A signal to all processes of the group that the process leads; also after the leader has ended.
///
/// # Errors
/// `ESRCH`: none is left.
pub fn signal_group(pidfd: BorrowedFd<'_>, leader: u32, signal: libc::c_int) -> io::Result<()> {
    match send_signal(pidfd, signal, PIDFD_SIGNAL_PROCESS_GROUP) {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
            // A kernel before 6.9. The group's id is not used again while a process of the group is left.
            let leader =
                libc::pid_t::try_from(leader).map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?;
            // SAFETY: a system call without pointers.
            check(unsafe { libc::killpg(leader, signal) }).map(drop)
        }
        result => result,
    }
}

fn send_signal(pidfd: BorrowedFd<'_>, signal: libc::c_int, flags: libc::c_uint) -> io::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo is allowed and means an ordinary kill(2).
    let done =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_info, flags) };
    check(libc::c_int::try_from(done).unwrap_or(-1)).map(drop)
}

/// How the child ended, if it has. It stays a zombie, and so its group's id stays taken, until [`reap`].
///
/// # Errors
/// `ECHILD`: it is not a child of this process; how it ended is not known.
pub fn ended(pidfd: BorrowedFd<'_>) -> io::Result<Option<Ended>> {
    wait(pidfd, libc::WNOWAIT)
}

/// Waits until the process has ended, for `limit` at most. For the worker, never for the real-time thread.
///
/// # Errors
/// `TimedOut`: it has not.
pub fn await_end(pidfd: BorrowedFd<'_>, limit: Duration) -> io::Result<()> {
    let mut poll = libc::pollfd { fd: pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let limit = libc::c_int::try_from(limit.as_millis()).unwrap_or(libc::c_int::MAX);
    // SAFETY: one valid pollfd.
    match check(unsafe { libc::poll(&raw mut poll, 1, limit) })? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}

/// Lets go of a child that has ended. One that has not, or that is no child, is left alone.
pub fn reap(pidfd: BorrowedFd<'_>) {
    let _ = wait(pidfd, 0);
}

fn wait(pidfd: BorrowedFd<'_>, flags: libc::c_int) -> io::Result<Option<Ended>> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let id = libc::id_t::try_from(pidfd.as_raw_fd()).expect("a descriptor is not negative");
    // SAFETY: `info` is valid to write to.
    check(unsafe {
        libc::waitid(libc::P_PIDFD, id, info.as_mut_ptr(), libc::WEXITED | libc::WNOHANG | flags)
    })?;
    // SAFETY: zeroed before, and filled in by waitid where a child has ended (then si_pid is not zero); the fields read
    // are those of SIGCHLD.
    let (pid, code, status) = unsafe {
        let info = info.assume_init_ref();
        (info.si_pid(), info.si_code, info.si_status())
    };
    Ok(match (pid, code) {
        (0, _) => None,
        (_, libc::CLD_EXITED) => Some(Ended::Code(status)),
        (_, _) => Some(Ended::Signal(status)),
    })
}

/// A timer on CLOCK_BOOTTIME (timerfd_create(2)): exact to the microsecond where epoll's time-out rounds up to
/// milliseconds, and it also runs out while the machine sleeps.
#[derive(Debug)]
pub struct Timer(OwnedFd);

impl Timer {
    /// A timer that is not set.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn new() -> io::Result<Self> {
        // SAFETY: a system call without pointers.
        let fd = check(unsafe {
            libc::timerfd_create(libc::CLOCK_BOOTTIME, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK)
        })?;
        // SAFETY: the kernel has just given us this descriptor.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Makes the timer readable at `at`; none: never. Setting it takes back an earlier readiness.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn set(&self, at: Option<Micros>) -> io::Result<()> {
        // All zero disarms; so a deadline of zero is one nanosecond after the boot.
        let at = at.map_or(libc::timespec { tv_sec: 0, tv_nsec: 0 }, |at| libc::timespec {
            tv_sec: libc::time_t::try_from(at.0 / 1_000_000).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::try_from(at.0 % 1_000_000 * 1_000).unwrap_or(0).max(1),
        });
        let setting =
            libc::itimerspec { it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 }, it_value: at };
        let no_old = std::ptr::null_mut();
        // SAFETY: `setting` is valid to read; a null old value is allowed.
        check(unsafe {
            libc::timerfd_settime(self.0.as_raw_fd(), libc::TFD_TIMER_ABSTIME, &raw const setting, no_old)
        })
        .map(drop)
    }
}

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}

/// Locks the memory that is in use now and will be later, each page when it is first used (mlockall(2)).
///
/// # Errors
/// Where the limit for locked memory (RLIMIT_MEMLOCK) binds this process and cannot be lifted: under a limit a later
/// allocation would fail, and an agent that cannot allocate is worse than one that may be paged.
pub fn lock_memory() -> io::Result<()> {
    if !may_lock_any_amount() && memory_lock_limit()?.rlim_cur != libc::RLIM_INFINITY {
        let unlimited = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
        set_memory_lock_limit(&unlimited)?;
    }
    // SAFETY: a system call without pointers.
    check(unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT) }).map(drop)
}

/// Whether RLIMIT_MEMLOCK does not bind this process: CAP_IPC_LOCK, in the machine's own user namespace.
fn may_lock_any_amount() -> bool {
    const CAP_IPC_LOCK: u64 = 1 << 14;
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let everybody = read("/proc/self/uid_map").split_ascii_whitespace().eq(["0", "0", "4294967295"]);
    let capabilities = read("/proc/self/status")
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    everybody && capabilities.is_some_and(|set| set & CAP_IPC_LOCK != 0)
}

/// RLIMIT_MEMLOCK of this process.
///
/// # Errors
/// What the kernel refused.
pub fn memory_lock_limit() -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid to write to.
    check(unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) })?;
    Ok(limit)
}

/// Sets RLIMIT_MEMLOCK. Only a system call: also allowed between fork and exec.
///
/// # Errors
/// `EPERM`: only with CAP_SYS_RESOURCE may it be raised.
pub fn set_memory_lock_limit(limit: &libc::rlimit) -> io::Result<()> {
    // SAFETY: `limit` is valid to read.
    check(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, limit) }).map(drop)
}

/// A new session, and so a new process group, for the calling process. Only a system call.
///
/// # Errors
/// `EPERM`: it leads a group already.
pub fn new_session() -> io::Result<()> {
    // SAFETY: a system call without pointers.
    check(unsafe { libc::setsid() }).map(drop)
}

/// Becomes this user for good. Only system calls.
///
/// # Errors
/// `EPERM` without the right to.
pub fn become_user(uid: u32, gid: u32, groups: &[libc::gid_t]) -> io::Result<()> {
    // SAFETY: the pointer and the length belong to one slice; the other two have no pointers.
    unsafe {
        check(libc::setgroups(groups.len(), groups.as_ptr()))?;
        check(libc::setgid(gid))?;
        check(libc::setuid(uid)).map(drop)
    }
}

/// The session that a process belongs to (getsid(2)); none where there is no such process.
#[must_use]
pub fn session_of(pid: u32) -> Option<u32> {
    let pid = libc::pid_t::try_from(pid).ok()?;
    // SAFETY: a system call without pointers.
    check(unsafe { libc::getsid(pid) }).ok().and_then(|session| u32::try_from(session).ok())
}

/// Makes the kernel tell who sent each datagram (SO_PASSCRED, unix(7)).
///
/// # Errors
/// What the kernel refused.
pub fn pass_credentials(socket: &UnixDatagram) -> io::Result<()> {
    let on: libc::c_int = 1;
    let size = libc::socklen_t::try_from(mem::size_of_val(&on)).expect("four fits");
    // SAFETY: the pointer and the size belong to `on`.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PASSCRED,
            (&raw const on).cast(),
            size,
        )
    })
    .map(drop)
}

/// Receives a datagram and the process id of its sender, as the kernel vouches for it. Descriptors that come along are
/// not taken in.
///
/// # Errors
/// `EAGAIN`: none waits.
pub fn receive_from(socket: &UnixDatagram, buffer: &mut [u8]) -> io::Result<(usize, Option<u32>)> {
    // Room for the credentials alone: descriptors do not fit, and the kernel closes what does not fit.
    #[repr(align(8))]
    struct Control([u8; 32]);
    let mut control = Control([0; 32]);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zero is a valid msghdr without anything in it.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = control.0.len();
    // SAFETY: `header` points to buffers that live until the call returns, with their true lengths.
    let size = unsafe {
        libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC | libc::MSG_TRUNC)
    };
    let size = usize::try_from(size).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel has filled in the control messages; the CMSG macros stay within msg_controllen, and a message of
    // type SCM_CREDENTIALS holds a ucred, which may be unaligned.
    let sender = unsafe {
        let message = libc::CMSG_FIRSTHDR(&raw const header);
        (!message.is_null()
            && (*message).cmsg_level == libc::SOL_SOCKET
            && (*message).cmsg_type == libc::SCM_CREDENTIALS)
            .then(|| libc::CMSG_DATA(message).cast::<libc::ucred>().read_unaligned().pid)
    };
    Ok((size, sender.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0)))
}
