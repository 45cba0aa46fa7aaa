//! The namespaces of one host of the laboratory: its network, and its view of the file system, in which the product's
//! directories are its own. Held by file descriptors alone: they have no names and end with the last of their users.

use crate::enclosure::PRIVATE_DIRS;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// A network namespace and a mount namespace.
pub(crate) struct Namespaces {
    pub(crate) network: OwnedFd,
    mounts: OwnedFd,
}

impl Namespaces {
    /// Makes those of a host whose own directories are in `directory`.
    pub(crate) fn of_host(directory: &Path) -> io::Result<Self> {
        on_a_thread(|| {
            let network = new_network()?;
            // Static addresses are usable at once, nothing is learnt from routers that are not there. Set before any
            // interface is made, which then starts with these.
            for place in ["all", "default"] {
                for setting in ["accept_dad", "accept_ra", "autoconf"] {
                    set_ipv6(place, setting, "0")?;
                }
            }
            unshare(CloneFlags::CLONE_NEWNS)?;
            for (shared, own) in PRIVATE_DIRS {
                let own = directory.join(own);
                std::fs::create_dir_all(&own)?;
                mount(Some(&own), shared, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
            }
            mount_sys()?;
            Ok(Self { network, mounts: open_own("mnt")? })
        })
    }

    /// Makes the calling thread live in them; with its working directory where that exists there, too. The thread must
    /// end there: it cannot come back.
    fn join(&self) -> io::Result<()> {
        let directory = std::env::current_dir()?;
        unshare(CloneFlags::CLONE_FS)?; // a mount namespace is joined by who shares its root with nobody
        setns(&self.network, CloneFlags::CLONE_NEWNET)?;
        setns(&self.mounts, CloneFlags::CLONE_NEWNS)?;
        std::env::set_current_dir(directory)
    }

    /// Runs `work` on a thread that lives in them.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        on_a_thread(|| {
            self.join()?;
            Ok(work())
        })
    }

    /// Has `command` run in them, in a session of its own. They must stay open until it is spawned.
    pub(crate) fn host_command(&self, command: &mut Command) {
        let (network, mounts) = (self.network.as_raw_fd(), self.mounts.as_raw_fd());
        // SAFETY: between fork and exec only system calls are made, and nothing is allocated.
        unsafe { command.pre_exec(move || enter_before_exec(network, mounts)) };
    }

    /// The number that identifies the network namespace: the inode of any `/proc/<pid>/ns/net` in it.
    pub(crate) fn network_id(&self) -> io::Result<u64> {
        Ok(File::from(self.network.try_clone()?).metadata()?.ino())
    }
}

/// Joins the namespaces in a process that is about to execute a program.
fn enter_before_exec(network: i32, mounts: i32) -> io::Result<()> {
    let mut directory = [0_u8; libc::PATH_MAX as usize];
    // SAFETY: the buffer is as long as said; the descriptors are open, being inherited from who spawns; the path that
    // `getcwd` left ends in NUL.
    unsafe {
        Errno::result(libc::setsid())?;
        // Joining a mount namespace moves to its root directory, hence there and back.
        let found = libc::syscall(libc::SYS_getcwd, directory.as_mut_ptr(), directory.len());
        Errno::result(found)?;
        Errno::result(libc::setns(network, libc::CLONE_NEWNET))?;
        Errno::result(libc::setns(mounts, libc::CLONE_NEWNS))?;
        Errno::result(libc::chdir(directory.as_ptr().cast()))?;
    }
    Ok(())
}

/// Makes the network namespace of the switch, in which nobody speaks IP.
pub(crate) fn switch_network<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    on_a_thread(|| {
        new_network()?;
        set_ipv6("default", "disable_ipv6", "1")?;
        work()
    })
}

fn new_network() -> io::Result<OwnedFd> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    open_own("net")
}

fn open_own(kind: &str) -> io::Result<OwnedFd> {
    Ok(File::open(format!("/proc/thread-self/ns/{kind}"))?.into())
}

/// Sets an IPv6 setting of the calling thread's network namespace; a kernel without IPv6 needs none.
fn set_ipv6(place: &str, setting: &str, value: &str) -> io::Result<()> {
    match std::fs::write(format!("/proc/sys/net/ipv6/conf/{place}/{setting}"), value) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Shows the host's own interfaces in `/sys`. A container may forbid it to unprivileged users; `/sys` then stays the
/// machine's, which only matters to a program that reads `/sys/class/net`.
fn mount_sys() -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    match mount(Some("sysfs"), "/sys", Some("sysfs"), flags, None::<&str>) {
        Ok(()) | Err(Errno::EPERM) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Runs `work` on a thread of its own, so that what it does to its namespaces ends with it; a panic goes on here.
fn on_a_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("lab-host".to_owned()).spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
