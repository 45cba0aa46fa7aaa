//! The floor: the least that a takeover can be. On the holder's host a process waits on the server's pidfd and tells the
//! other host in one UDP packet; a process there adds the address by netlink and announces it. No decision, no
//! encryption, no record: what a product adds is the ratio to this.

use anyhow::{Context, ensure};
use domain::{InterfaceName, VipAddress};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};
use vip_control::{Validity, VipController};

/// What both sides print once they wait.
pub const READY: &str = "ready";
/// Real-time priority of both sides: that of the real-time thread of an agent is no advantage then.
const PRIORITY: i32 = 50;
/// Length of a datagram with one lease message.
const DATAGRAM: usize = 108;

/// The holder's side: adds the VIP, waits until the server dies, tells the other host, removes the VIP.
///
/// # Errors
/// What the kernel refused.
pub fn hold(server: u32, peer: SocketAddr, vip: &VipAddress, on: &InterfaceName) -> anyhow::Result<()> {
    become_real_time(PRIORITY);
    let mut controller = VipController::open()?;
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(peer)?;
    // The first packet finds the neighbour, so that the one that counts need not.
    socket.send(b"hello")?;
    let server = pidfd(server)?;
    controller.enable(vip, on, Validity::Permanent)?;
    say_ready()?;
    wait_for_end(&server)?;
    socket.send(b"dead")?;
    controller.disable(vip, on)?;
    Ok(())
}

/// The other side: waits for the word, adds the VIP and announces it, and stays until it is killed.
///
/// # Errors
/// What the kernel refused.
pub fn stand_by(listen: SocketAddr, vip: &VipAddress, on: &InterfaceName) -> anyhow::Result<()> {
    become_real_time(PRIORITY);
    let mut controller = VipController::open()?;
    let socket = UdpSocket::bind(listen)?;
    say_ready()?;
    let mut word = [0; 16];
    loop {
        let length = socket.recv(&mut word)?;
        if &word[..length] == b"dead" {
            controller.enable(vip, on, Validity::Permanent)?;
        }
    }
}

/// For keepalived, whose own watch on processes (the process connector) the kernel offers in its first network
/// namespace only: waits until the server dies and writes to the file that keepalived watches by inotify.
///
/// # Errors
/// What the kernel refused.
pub fn tell_by_file(server: u32, file: &Path) -> anyhow::Result<()> {
    become_real_time(PRIORITY);
    let server = pidfd(server)?;
    say_ready()?;
    wait_for_end(&server)?;
    std::fs::write(file, "1\n").with_context(|| format!("cannot write {}", file.display()))
}

/// What the process that renews does about the voters' answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Answers {
    /// Each wakes it, as a lease that hangs on them needs it.
    AsTheyCome,
    /// They are read when it wakes for the next round: less than any product can do, which would know too late.
    InTheNextRound,
}

/// The least that renewing one pair's lease can cost its holder: every so often one datagram to each of the other voters, and
/// their answers read; without voters, what waking up costs. Never ends by itself.
///
/// # Errors
/// What the kernel refused.
pub fn renew(every: Duration, answers: Answers, ask: &[SocketAddr]) -> anyhow::Result<()> {
    become_real_time(PRIORITY);
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_nonblocking(answers == Answers::InTheNextRound)?;
    say_ready()?;
    let mut answer = [0; DATAGRAM];
    let mut next = Instant::now();
    loop {
        next += every;
        for voter in ask {
            socket.send_to(&[0; DATAGRAM], voter)?;
        }
        match answers {
            Answers::AsTheyCome => {
                while let Some(left) =
                    next.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
                {
                    socket.set_read_timeout(Some(left))?;
                    let _ = socket.recv(&mut answer); // an error: time is up
                }
            }
            Answers::InTheNextRound => {
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
                for _ in ask {
                    let _ = socket.recv(&mut answer); // an error: it is lost
                }
            }
        }
    }
}

/// The voters' side of [`renew`]. Never ends by itself.
///
/// # Errors
/// What the kernel refused.
pub fn echo(listen: SocketAddr) -> anyhow::Result<()> {
    become_real_time(PRIORITY);
    let socket = UdpSocket::bind(listen)?;
    say_ready()?;
    let mut datagram = [0; DATAGRAM];
    loop {
        let (length, from) = socket.recv_from(&mut datagram)?;
        socket.send_to(&datagram[..length], from)?;
    }
}

fn pidfd(pid: u32) -> anyhow::Result<OwnedFd> {
    // SAFETY: takes two numbers (pidfd_open(2)).
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::c_long::from(pid), 0) };
    ensure!(fd >= 0, "process {pid} cannot be watched: {}", std::io::Error::last_os_error());
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd)?) })
}

fn wait_for_end(process: &OwnedFd) -> anyhow::Result<()> {
    poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE)?;
    Ok(())
}

fn say_ready() -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{READY}")?;
    Ok(out.flush()?)
}

/// SCHED_FIFO for this thread. Where it is not allowed the floor is what an ordinary process reaches.
pub fn become_real_time(priority: i32) {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: the parameters are read during the call only; 0 is the calling thread.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) };
}
