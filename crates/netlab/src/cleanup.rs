//! Ends what runs on the hosts of a lab, whoever started it: a program's own children outlive it otherwise.

use crate::enclosure::send_signal;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;

/// Rounds of killing. Each kills all that it finds, so a further one is needed only for what was forked meanwhile.
const ROUNDS: u32 = 10;
/// How long one process may take to die, milliseconds; one in an uninterruptible state is left behind.
const DEATH_LIMIT_MS: u16 = 2_000;

/// Kills every other process whose network namespace is one of these (inode numbers) and waits until they have ended.
/// Nobody is reaped: whoever spawned one can still ask for its status.
pub(crate) fn end_processes(networks: &BTreeSet<u64>) {
    for _ in 0..ROUNDS {
        let found = processes_in(networks);
        if found.is_empty() {
            return;
        }
        for pidfd in &found {
            send_signal(pidfd.as_fd(), libc::SIGKILL);
        }
        for pidfd in &found {
            let mut ended = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut ended, PollTimeout::from(DEATH_LIMIT_MS));
        }
    }
}

fn processes_in(networks: &BTreeSet<u64>) -> Vec<OwnedFd> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let own = std::process::id();
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != own)
        .filter_map(|pid| {
            // The descriptor first: whatever the number means afterwards, the signal reaches who was looked at, or nobody.
            // A process that has ended, reaped or not, has no namespace any more.
            let pidfd = open(pid)?;
            let network = std::fs::metadata(format!("/proc/{pid}/ns/net")).ok()?;
            networks.contains(&network.ino()).then_some(pidfd)
        })
        .collect()
}

fn open(pid: u32) -> Option<OwnedFd> {
    // SAFETY: reads no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let number = RawFd::try_from(Errno::result(result).ok()?).ok()?;
    // SAFETY: the kernel has just opened it for us.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}
