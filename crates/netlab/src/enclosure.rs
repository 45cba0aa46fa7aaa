//! Namespaces for one program: made, furnished, and gone with it.
//!
//! ```text
//! guardian (outside) ── clone3 ──> process 1 (reaper) ── fork ──> the program
//!      pidfd, life pipe ───────────────^   ^── reaps orphans, passes signals on
//! ```
//! Process 1 exists because the kernel treats the first process of a PID namespace apart: signals without a handler do
//! not reach it and it must reap every orphan. A program should not have to know, so it runs as the second one. Process
//! 1 ends when the program does or when the guardian is gone (parent-death signal, and the life pipe for the moment before
//! that is set), and the kernel then kills everything inside.

use crate::enter::{EnterError, forwarded_signals, sent_by_a_process};
use crate::links;
use crate::netlink::Netlink;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getegid, geteuid, pipe2};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

/// Where a program inside may keep files; in memory, private, gone with it. Every host of a lab sees the same.
pub const WORK_DIR: &str = "/run/netlab";

/// Directories of the product that every host of a lab has for itself: where it is, and the name of its copy in the host's
/// own directory.
pub(crate) const PRIVATE_DIRS: [(&str, &str); 3] =
    [("/run/takeover", "run"), ("/var/lib/takeover", "lib"), ("/var/log/takeover", "log")];

/// Exit code of process 1 where the guardian is gone, and so nobody reads it.
const ABANDONED: i32 = 125;

/// A step that failed, and what the kernel said.
#[derive(Debug)]
pub(crate) struct Step(pub(crate) &'static str, pub(crate) Errno);

trait During<T> {
    fn during(self, step: &'static str) -> Result<T, Step>;
}

impl<T> During<T> for nix::Result<T> {
    fn during(self, step: &'static str) -> Result<T, Step> {
        self.map_err(|errno| Step(step, errno))
    }
}

impl<T> During<T> for io::Result<T> {
    fn during(self, step: &'static str) -> Result<T, Step> {
        self.map_err(|error| Step(step, Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))))
    }
}

/// Who returns from [`launch`].
pub(crate) enum Launched {
    /// The program inside.
    Inside,
    /// The guardian.
    Outside(Guard),
}

/// What the guardian holds: everything inside dies when it is dropped.
pub(crate) struct Guard {
    pidfd: OwnedFd,
    /// Process 1 reads its other end and ends when this one is closed.
    _life: OwnedFd,
}

impl Guard {
    /// Becomes readable when everything inside has ended.
    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Sends a signal to the program inside, through process 1. One that has ended is not an error.
    pub(crate) fn signal(&self, number: u32) {
        send_signal(self.pidfd.as_fd(), number.cast_signed());
    }

    /// Kills everything inside.
    pub(crate) fn kill(&self) {
        send_signal(self.pidfd.as_fd(), libc::SIGKILL);
    }

    /// The exit code, where everything inside has ended: that of the program, 128 + n where signal n ended it.
    pub(crate) fn try_wait(&self) -> Option<u8> {
        // Process 1 is our child and nobody else waits for it, so there is no error but "not yet".
        let status = waitid(Id::PIDFd(self.pidfd.as_fd()), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG);
        exit_code(status.ok()?)
    }

    /// Waits until everything inside has ended, at most this long.
    pub(crate) fn wait(&self, limit: Duration) -> Option<u8> {
        let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        let mut ready = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
        // A signal that interrupts (there are none that the caller does not die of) only shortens the wait.
        let _ = poll(&mut ready, timeout);
        self.try_wait()
    }
}

/// Sends a signal by pidfd; that the process has ended is not an error.
pub(crate) fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) {
    // SAFETY: the descriptor is open for as long as it is borrowed; the call reads no memory of ours.
    let _ = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
}

/// Makes the namespaces and forks the calling program into them; `mask` is the signal mask that it shall have there.
pub(crate) fn launch(mask: &SigSet) -> Result<Launched, EnterError> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads != 1 {
        return Err(EnterError::Threads(threads));
    }
    // What is still buffered would be written by both.
    let _ = (io::stdout().flush(), io::stderr().flush());
    let pipe = || pipe2(OFlag::O_CLOEXEC).during("making a pipe");
    let (report_reader, report_writer) = pipe().map_err(Step::into_error)?;
    let (life_reader, life_writer) = pipe().map_err(Step::into_error)?;
    let identity = Identity { uid: geteuid().as_raw(), gid: getegid().as_raw() };

    match clone_into_namespaces().map_err(Step::into_error)? {
        Cloned::Guardian { pidfd } => {
            drop((report_writer, life_reader));
            await_setup(report_reader)?;
            Ok(Launched::Outside(Guard { pidfd, _life: life_writer }))
        }
        Cloned::First { in_user_namespace } => {
            drop((report_reader, life_writer));
            let identity = in_user_namespace.then_some(identity);
            match become_first(identity.as_ref(), mask) {
                Ok(Role::Program) => Ok(Launched::Inside), // the pipes' ends close here
                Ok(Role::Reaper(program, signals)) => {
                    drop(report_writer);
                    reap_until_end(program, &signals, &life_reader)
                }
                Err(step) => report_and_exit(report_writer, &step),
            }
        }
    }
}

enum Cloned {
    Guardian { pidfd: OwnedFd },
    First { in_user_namespace: bool },
}

/// Forks a child that is process 1 of new namespaces. As root the user namespace stays the same, so that the real rights
/// (real-time scheduling, other users) remain.
fn clone_into_namespaces() -> Result<Cloned, Step> {
    let namespaces = libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWPID;
    match clone3(namespaces) {
        Ok(Some(pidfd)) => Ok(Cloned::Guardian { pidfd }),
        Ok(None) => Ok(Cloned::First { in_user_namespace: false }),
        Err(Errno::EPERM) => {
            match clone3(namespaces | libc::CLONE_NEWUSER).during("making a user namespace")? {
                Some(pidfd) => Ok(Cloned::Guardian { pidfd }),
                None => Ok(Cloned::First { in_user_namespace: true }),
            }
        }
        Err(errno) => Err(Step("making network, mount and PID namespaces", errno)),
    }
}

/// `clone3(2)` used as a fork; the parent gets a pidfd. The C library's `fork` takes no namespaces, and `unshare` would
/// move the guardian as well. The child forks once more before it runs anything that minds that the C library was not told.
fn clone3(flags: i32) -> Result<Option<OwnedFd>, Errno> {
    let mut pidfd: RawFd = -1;
    // SAFETY: all zeroes is a valid `clone_args`.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = u64::from((flags | libc::CLONE_PIDFD).cast_unsigned());
    arguments.pidfd = (&raw mut pidfd).expose_provenance() as u64;
    arguments.exit_signal = libc::SIGCHLD.cast_unsigned().into();
    // SAFETY: without CLONE_VM the child has a copy of this memory, stack included, and this process has one thread.
    let result = unsafe {
        libc::syscall(libc::SYS_clone3, &raw mut arguments, std::mem::size_of::<libc::clone_args>())
    };
    match Errno::result(result)? {
        0 => Ok(None),
        // SAFETY: the kernel has just opened it for us.
        _ => Ok(Some(unsafe { OwnedFd::from_raw_fd(pidfd) })),
    }
}

/// Reads the report of process 1: nothing where all is well, else an error number and a step.
fn await_setup(report: OwnedFd) -> Result<(), EnterError> {
    let mut text = Vec::new();
    File::from(report)
        .take(1_000)
        .read_to_end(&mut text)
        .during("hearing from inside")
        .map_err(Step::into_error)?;
    let Some((errno, step)) = text.split_first_chunk::<4>() else { return Ok(()) };
    let errno = Errno::from_raw(i32::from_ne_bytes(*errno));
    Err(EnterError::new(String::from_utf8_lossy(step).into_owned(), errno))
}

fn report_and_exit(report: OwnedFd, Step(step, errno): &Step) -> ! {
    let mut text = (*errno as i32).to_ne_bytes().to_vec();
    text.extend_from_slice(step.as_bytes());
    let _ = File::from(report).write_all(&text); // the guardian is gone, then: nobody to tell
    exit_now(ABANDONED)
}

/// Ends this process without running anything that belongs to the program of which it is a fork.
fn exit_now(code: i32) -> ! {
    // SAFETY: always sound.
    unsafe { libc::_exit(code) }
}

/// Which of the two processes inside this is.
enum Role {
    Program,
    Reaper(Pid, SignalFd),
}

/// Who the caller is outside.
struct Identity {
    uid: u32,
    gid: u32,
}

/// What process 1 does first: makes the inside, then forks the program.
fn become_first(map_from: Option<&Identity>, mask: &SigSet) -> Result<Role, Step> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).during("tying process 1 to its guardian")?;
    if let Some(identity) = map_from {
        map_to_root(identity)?;
    }
    furnish()?;
    let mut handled = forwarded_signals();
    handled.add(Signal::SIGCHLD);
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&handled), None).during("blocking signals")?;
    let signals = SignalFd::with_flags(&handled, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .during("making a signal descriptor")?;
    // SAFETY: this process has one thread, so the child may do anything.
    match unsafe { fork() }.during("forking the program")? {
        ForkResult::Parent { child } => Ok(Role::Reaper(child, signals)),
        ForkResult::Child => {
            sigprocmask(SigmaskHow::SIG_SETMASK, Some(mask), None).during("restoring the signal mask")?;
            // SAFETY: this process has one thread, so nobody reads the environment meanwhile.
            unsafe { std::env::set_var("TMPDIR", format!("{WORK_DIR}/tmp")) };
            Ok(Role::Program)
        }
    }
}

/// Makes the caller root in the new user namespace (user_namespaces(7), "Defining user and group ID mappings"): without
/// privileges only one's own ids can be mapped, and groups only once `setgroups` is given up.
fn map_to_root(Identity { uid, gid }: &Identity) -> Result<(), Step> {
    std::fs::write("/proc/self/setgroups", "deny").during("writing /proc/self/setgroups")?;
    std::fs::write("/proc/self/uid_map", format!("0 {uid} 1")).during("writing /proc/self/uid_map")?;
    std::fs::write("/proc/self/gid_map", format!("0 {gid} 1")).during("writing /proc/self/gid_map")
}

fn furnish() -> Result<(), Step> {
    let nothing = None::<&str>;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)
        .during("making the mounts private")?;
    mount(Some("proc"), "/proc", Some("proc"), safe(), nothing).during("mounting /proc")?;
    mount_memory("/run").during("mounting /run")?;
    std::fs::create_dir_all(format!("{WORK_DIR}/tmp")).during("making the work directory")?;
    for parent in ["/var/lib", "/var/log"] {
        make_writable(Path::new(parent)).during("mounting /var/lib and /var/log")?;
    }
    for (directory, _) in PRIVATE_DIRS {
        std::fs::create_dir_all(directory).during("making the product's directories")?;
    }
    let mut netlink = Netlink::open().during("opening a netlink socket")?;
    let lo = links::link_index(&mut netlink, "lo").during("finding lo")?;
    links::set_up(&mut netlink, lo, true).during("setting lo up")
}

fn safe() -> MsFlags {
    MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC
}

fn mount_memory(target: &str) -> nix::Result<()> {
    mount(Some("tmpfs"), target, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=755"))
}

/// Covers a directory by one in memory that shows the same entries, so that new ones can be made without rights there and
/// without leaving anything on the disk. Only `/run` is left empty: its sockets would lead outside.
fn make_writable(directory: &Path) -> io::Result<()> {
    let stage = format!("{WORK_DIR}/stage");
    std::fs::create_dir_all(&stage)?;
    mount_memory(&stage)?;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if PRIVATE_DIRS.iter().any(|(private, _)| entry.path() == Path::new(private)) {
            continue; // the machine has the product installed: not ours to touch
        }
        let shown = Path::new(&stage).join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            std::os::unix::fs::symlink(std::fs::read_link(entry.path())?, shown)?;
            continue;
        }
        if kind.is_dir() {
            std::fs::create_dir(&shown)?;
        } else {
            File::create(&shown)?;
        }
        // What cannot be shown (an automount that fails, say) is an empty entry: nothing here depends on it.
        let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
        let _ = mount(Some(&entry.path()), &shown, None::<&str>, bind, None::<&str>);
    }
    mount(Some(stage.as_str()), directory, None::<&str>, MsFlags::MS_MOVE, None::<&str>)?;
    std::fs::remove_dir(&stage)
}

/// What process 1 does for the rest of its life.
fn reap_until_end(program: Pid, signals: &SignalFd, life: &OwnedFd) -> ! {
    let _ = nix::sys::prctl::set_name(c"netlab-reaper"); // for who looks at the list of processes
    close_all_but([signals.as_fd().as_raw_fd(), life.as_raw_fd()]);
    loop {
        let mut ready = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(life.as_fd(), PollFlags::POLLIN), // and POLLHUP, which cannot be masked
        ];
        match poll(&mut ready, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => exit_now(ABANDONED),
        }
        if ready[1].any().unwrap_or(true) {
            exit_now(ABANDONED);
        }
        // Bounded: pending signals of one kind are one signal.
        while let Ok(Some(info)) = signals.read_signal() {
            let forwarded =
                Signal::try_from(info.ssi_signo.cast_signed()).ok().filter(|s| *s != Signal::SIGCHLD);
            if let Some(signal) = forwarded
                && sent_by_a_process(info.ssi_code)
            {
                let _ = kill(program, signal); // it has ended, then: noticed below
            }
        }
        if let Some(code) = reap(program) {
            exit_now(code.into());
        }
    }
}

/// Reaps whoever has ended; the exit code where the program is among them. Bounded by the number of processes.
fn reap(program: Pid) -> Option<u8> {
    let mut code = None;
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        match status.pid() {
            None => break, // nobody else yet
            Some(pid) if pid == program => code = exit_code(status),
            Some(_) => {}
        }
    }
    code
}

fn exit_code(status: WaitStatus) -> Option<u8> {
    match status {
        WaitStatus::Exited(_, code) => Some((code & 0xff).try_into().unwrap_or(u8::MAX)),
        WaitStatus::Signaled(_, signal, _) => Some(128 + u8::try_from(signal as i32).unwrap_or(0)),
        _ => None,
    }
}

/// Closes what the program has open (a listening port must close when the program closes it), but for the standard
/// streams, which keep messages of a panic visible.
fn close_all_but(mut keep: [RawFd; 2]) {
    keep.sort_unstable();
    let [low, high] = keep.map(RawFd::cast_unsigned);
    for (first, last) in [(3, low - 1), (low + 1, high - 1), (high + 1, u32::MAX)] {
        if first <= last {
            // SAFETY: this process never uses the descriptors that it closes here, nor drops their owners: it only leaves
            // by `_exit`.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    }
}
