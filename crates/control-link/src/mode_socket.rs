//! The mode socket: run modes between an agent and an application on the same host. A Unix socket that keeps packets
//! apart (SEQPACKET, unix(7)), one JSON object per packet.
//!
//! The application listens at the path in `TAKEOVER_MODE_SOCKET` and the agent connects, so that an agent that was
//! restarted finds its applications again. The agent sends [`ToApplication`](crate::messages::ToApplication), the
//! application [`FromApplication`](crate::messages::FromApplication), beginning with its run mode.
//!
//! Everything is non-blocking and gives its descriptor for an event loop; [`Connection::wait`] and [`Listener::wait`]
//! are for programs without one.

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, RecvMsg, recvmsg, sendmsg};
use serde::Serialize;
use serde::de::DeserializeOwned;
use socket2::{Domain, SockAddr, Socket, Type};
use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Environment variable in which the agent names the path to an application that it starts.
pub const PATH_VARIABLE: &str = "TAKEOVER_MODE_SOCKET";
/// Largest packet, bytes.
pub const MAX_PACKET: usize = 4_096;
/// Connections that may wait to be accepted: one agent, and one that follows it.
const BACKLOG: i32 = 4;

/// What went wrong on a mode socket.
#[derive(Debug, thiserror::Error)]
pub enum ModeSocketError {
    /// The other end is gone; the agent connects again, the application accepts again.
    #[error("the other end closed the mode socket")]
    Closed,
    /// The other end does not read; the packet was not sent.
    #[error("the other end of the mode socket does not read")]
    Full,
    /// A packet is larger than [`MAX_PACKET`]. One of our own was not sent; one of the other end is dropped.
    #[error("a packet of {size} bytes is too large for the mode socket, {MAX_PACKET} are allowed")]
    TooLarge {
        /// Its size, bytes.
        size: usize,
    },
    /// A packet is not the message that is due here; it is dropped, the next one may be read.
    #[error("a malformed packet on the mode socket")]
    Malformed(#[source] serde_json::Error),
    /// A message of our own cannot be written as JSON.
    #[error("a message cannot be encoded")]
    Unencodable(#[source] serde_json::Error),
    /// The path is longer than a Unix socket's may be (107 bytes, unix(7)), or has a NUL in it.
    #[error("{0} cannot be the path of a socket: at most 107 bytes")]
    Path(PathBuf),
    /// Something that is not a socket stands at the path, or another program listens there.
    #[error("{path} cannot be used for the mode socket: {why}")]
    InTheWay {
        /// The path.
        path: PathBuf,
        /// What stands there.
        why: &'static str,
    },
    /// The system refused.
    #[error("the mode socket failed")]
    Io(#[from] io::Error),
}

/// The application's side: waits for the agent. Removes its file when dropped.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    path: PathBuf,
    inode: u64,
}

impl Listener {
    /// Listens at `path`, with mode 0600. A file left behind by a predecessor that listens no more is replaced.
    ///
    /// # Errors
    /// [`ModeSocketError::Path`], [`ModeSocketError::InTheWay`], or what the system refused.
    pub fn bind(path: &Path) -> Result<Self, ModeSocketError> {
        let address = address(path)?;
        remove_stale(path, &address)?;
        let socket = new_socket()?;
        // On Linux the file gets the socket's own mode, less the umask: nobody can connect in between.
        set_mode_0600(&socket)?;
        socket.bind(&address)?;
        socket.listen(BACKLOG)?;
        let inode = fs::symlink_metadata(path)?.ino();
        Ok(Self { socket, path: path.to_owned(), inode })
    }

    /// The next connection, if one waits.
    ///
    /// # Errors
    /// What the system refused.
    pub fn accept(&self) -> Result<Option<Connection>, ModeSocketError> {
        match self.socket.accept() {
            Ok((socket, _)) => {
                socket.set_nonblocking(true)?;
                Ok(Some(Connection { socket }))
            }
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
                ) =>
            {
                Ok(None)
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Waits until a connection may be accepted; false where none came within `limit`.
    ///
    /// # Errors
    /// What the system refused.
    pub fn wait(&self, limit: Duration) -> io::Result<bool> {
        wait_readable(self.as_raw_fd(), limit)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // A successor may have put its own socket there.
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// One connection, on either side.
#[derive(Debug)]
pub struct Connection {
    socket: Socket,
}

impl Connection {
    /// The agent's side: connects to an application that listens at `path`. Does not block.
    ///
    /// # Errors
    /// [`ModeSocketError::Path`], or [`ModeSocketError::Io`]: `NotFound` and `ConnectionRefused` mean that the
    /// application does not listen (yet), `WouldBlock` that it does not accept.
    pub fn connect(path: &Path) -> Result<Self, ModeSocketError> {
        let address = address(path)?;
        let socket = new_socket()?;
        socket.connect(&address)?;
        Ok(Self { socket })
    }

    /// Sends a message as one packet, whole or not at all.
    ///
    /// # Errors
    /// [`ModeSocketError::Full`], [`ModeSocketError::TooLarge`] and [`ModeSocketError::Unencodable`] leave the
    /// connection as it was; after the others it is dead.
    pub fn send<M: Serialize>(&self, message: &M) -> Result<(), ModeSocketError> {
        self.send_along(message, &[])
    }

    /// Sends a message as one packet, with a descriptor of which the other end gets a copy (`SCM_RIGHTS`, unix(7)).
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub fn send_with<M: Serialize>(&self, message: &M, along: BorrowedFd<'_>) -> Result<(), ModeSocketError> {
        self.send_along(message, &[ControlMessage::ScmRights(&[along.as_raw_fd()])])
    }

    fn send_along<M: Serialize>(
        &self,
        message: &M,
        along: &[ControlMessage<'_>],
    ) -> Result<(), ModeSocketError> {
        let packet = serde_json::to_vec(message).map_err(ModeSocketError::Unencodable)?;
        if packet.len() > MAX_PACKET {
            return Err(ModeSocketError::TooLarge { size: packet.len() });
        }
        let parts = [IoSlice::new(&packet)];
        loop {
            return match sendmsg::<()>(self.as_raw_fd(), &parts, along, MsgFlags::MSG_NOSIGNAL, None) {
                Ok(_) => Ok(()),
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => Err(ModeSocketError::Full),
                Err(Errno::EPIPE | Errno::ECONNRESET) => Err(ModeSocketError::Closed),
                Err(e) => Err(io::Error::from(e).into()),
            };
        }
    }

    /// The next message, if one has arrived. To be called until it returns none where the event loop is edge-triggered.
    /// Descriptors that came along are closed.
    ///
    /// # Errors
    /// [`ModeSocketError::TooLarge`] and [`ModeSocketError::Malformed`] cost that packet only; after the others the
    /// connection is dead.
    pub fn receive<M: DeserializeOwned>(&self) -> Result<Option<M>, ModeSocketError> {
        Ok(self.receive_along(&mut [])?.map(|(message, _)| message))
    }

    /// The next message, with the descriptor that came along with it. For the application's side: an agent lets nobody put
    /// descriptors into its hands.
    ///
    /// # Errors
    /// As [`Connection::receive`].
    pub fn receive_with<M: DeserializeOwned>(&self) -> Result<Option<(M, Option<OwnedFd>)>, ModeSocketError> {
        let mut room = cmsg_space!([RawFd; 1]);
        self.receive_along(room.as_mut())
    }

    fn receive_along<M: DeserializeOwned>(
        &self,
        room: &mut [u8],
    ) -> Result<Option<(M, Option<OwnedFd>)>, ModeSocketError> {
        let mut packet = [0; MAX_PACKET];
        let mut parts = [IoSliceMut::new(&mut packet)];
        // With MSG_TRUNC the packet's own length is returned, however much of it there was room for (recv(2)).
        let flags = MsgFlags::MSG_TRUNC | MsgFlags::MSG_CMSG_CLOEXEC;
        let (size, along) = loop {
            match recvmsg::<()>(self.as_raw_fd(), &mut parts, Some(&mut *room), flags) {
                Ok(received) if received.bytes == 0 => return Err(ModeSocketError::Closed),
                Ok(received) => break (received.bytes, descriptor(&received)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::ECONNRESET) => return Err(ModeSocketError::Closed),
                Err(e) => return Err(io::Error::from(e).into()),
            }
        };
        let packet = packet.get(..size).ok_or(ModeSocketError::TooLarge { size })?;
        let message = serde_json::from_slice(packet).map_err(ModeSocketError::Malformed)?;
        Ok(Some((message, along)))
    }

    /// Waits until something may be received; false where nothing came within `limit`.
    ///
    /// # Errors
    /// What the system refused.
    pub fn wait(&self, limit: Duration) -> io::Result<bool> {
        wait_readable(self.as_raw_fd(), limit)
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Connection {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The descriptor that came along, of which there was room for one.
fn descriptor(received: &RecvMsg<'_, '_, ()>) -> Option<OwnedFd> {
    received.cmsgs().ok()?.find_map(|control| match control {
        // SAFETY: the kernel has just made it for us, and nobody else knows of it.
        ControlMessageOwned::ScmRights(fds) => fds.first().map(|fd| unsafe { OwnedFd::from_raw_fd(*fd) }),
        _ => None,
    })
}

/// A non-blocking socket that programs started later do not inherit.
fn new_socket() -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn address(path: &Path) -> Result<SockAddr, ModeSocketError> {
    SockAddr::unix(path).map_err(|_| ModeSocketError::Path(path.to_owned()))
}

fn remove_stale(path: &Path, address: &SockAddr) -> Result<(), ModeSocketError> {
    let in_the_way = |why| ModeSocketError::InTheWay { path: path.to_owned(), why };
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e.into()),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(in_the_way("it is there and is not a socket"));
        }
        Ok(_) => {}
    }
    match new_socket()?.connect(address) {
        // A full backlog is somebody's who lives, too.
        Ok(()) => Err(in_the_way("another program listens there")),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Err(in_the_way("another program listens there")),
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => Ok(fs::remove_file(path)?),
        Err(e) => Err(e.into()),
    }
}

fn set_mode_0600(socket: &Socket) -> io::Result<()> {
    // SAFETY: fchmod(2) on a descriptor that is open.
    match unsafe { libc::fchmod(socket.as_raw_fd(), 0o600) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn wait_readable(fd: RawFd, limit: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // Rounded up, or the last part of a millisecond would be spent spinning.
        let left_ms = i32::try_from(left.as_micros().div_ceil(1_000)).unwrap_or(i32::MAX);
        let mut polled = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd that lives here, and its count.
        match unsafe { libc::poll(&raw mut polled, 1, left_ms) } {
            1 => return Ok(true),
            0 if left.is_zero() => return Ok(false),
            0 => {}
            _ => match io::Error::last_os_error() {
                e if e.kind() == io::ErrorKind::Interrupted => {}
                e => return Err(e),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{FromApplication, ToApplication};
    use domain::{Epoch, RefId, RunMode};
    use std::io::{Read, Write};
    use std::os::unix::fs::PermissionsExt;

    const SOON: Duration = Duration::from_secs(10);

    fn pair(dir: &tempfile::TempDir) -> (Listener, Connection, Connection) {
        let path = dir.path().join("mode");
        let listener = Listener::bind(&path).unwrap();
        let agent = Connection::connect(&path).unwrap();
        assert!(listener.wait(SOON).unwrap());
        let application = listener.accept().unwrap().unwrap();
        (listener, agent, application)
    }

    fn order() -> ToApplication {
        ToApplication::SetRunMode { ref_id: RefId(9), mode: RunMode::Primary, epoch: Epoch(3) }
    }

    #[test]
    fn an_order_and_its_answer_pass_as_packets() {
        let dir = tempfile::tempdir().unwrap();
        let (_listener, agent, application) = pair(&dir);
        assert!(application.receive::<ToApplication>().unwrap().is_none(), "nothing was sent yet");
        agent.send(&order()).unwrap();
        agent.send(&ToApplication::Suspend).unwrap();
        assert!(application.wait(SOON).unwrap());
        assert_eq!(application.receive().unwrap(), Some(order()));
        assert_eq!(application.receive().unwrap(), Some(ToApplication::Suspend));
        let answer =
            FromApplication::RunMode { ref_id: Some(RefId(9)), mode: RunMode::Primary, epoch: Epoch(3) };
        application.send(&answer).unwrap();
        assert!(agent.wait(SOON).unwrap());
        assert_eq!(agent.receive().unwrap(), Some(answer));
        drop(application);
        assert!(agent.wait(SOON).unwrap());
        assert!(matches!(agent.receive::<FromApplication>(), Err(ModeSocketError::Closed)));
        assert!(matches!(agent.send(&order()), Err(ModeSocketError::Closed)));
    }

    #[test]
    fn a_descriptor_comes_along_with_its_packet() {
        let dir = tempfile::tempdir().unwrap();
        let (_listener, agent, application) = pair(&dir);
        let (given, mut kept) = std::io::pipe().unwrap();
        agent.send_with(&ToApplication::Lifeline, given.as_fd()).unwrap();
        agent.send(&order()).unwrap();
        drop(given);
        assert!(application.wait(SOON).unwrap());
        let (message, along) = application.receive_with::<ToApplication>().unwrap().unwrap();
        assert_eq!(message, ToApplication::Lifeline);
        kept.write_all(b"x").unwrap();
        let mut byte = [0];
        std::fs::File::from(along.unwrap()).read_exact(&mut byte).unwrap();
        assert!(
            matches!(application.receive_with::<ToApplication>(), Ok(Some((message, None))) if message == order())
        );
        // Who does not ask for it gets the packet alone.
        application.send_with(&FromApplication::Suspending, dir_of(&dir).as_fd()).unwrap();
        assert!(agent.wait(SOON).unwrap());
        assert_eq!(agent.receive().unwrap(), Some(FromApplication::Suspending));
    }

    fn dir_of(dir: &tempfile::TempDir) -> fs::File {
        fs::File::open(dir.path()).unwrap()
    }

    #[test]
    fn bad_packets_cost_only_themselves() {
        let dir = tempfile::tempdir().unwrap();
        let (_listener, agent, application) = pair(&dir);
        for bad in [b"{".as_slice(), b"\xff\xfe", b"{\"type\":\"dance\"}", b"[]", &[b' '; MAX_PACKET]] {
            agent.socket.send(bad).unwrap();
            assert!(matches!(application.receive::<ToApplication>(), Err(ModeSocketError::Malformed(_))));
        }
        agent.socket.send(&[b' '; MAX_PACKET + 1]).unwrap();
        let size = MAX_PACKET + 1;
        assert!(
            matches!(application.receive::<ToApplication>(), Err(ModeSocketError::TooLarge { size: s }) if s == size)
        );
        assert!(matches!(agent.send(&"x".repeat(MAX_PACKET)), Err(ModeSocketError::TooLarge { .. })));
        agent.send(&order()).unwrap();
        assert_eq!(application.receive().unwrap(), Some(order()));
    }

    #[test]
    fn an_application_that_does_not_read_blocks_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let (_listener, agent, application) = pair(&dir);
        let full = (0..1_000_000).find_map(|_| agent.send(&order()).err());
        assert!(matches!(full, Some(ModeSocketError::Full)), "{full:?}");
        assert_eq!(application.receive().unwrap(), Some(order()));
    }

    #[test]
    fn a_stale_file_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mode");
        let stale = new_socket().unwrap();
        stale.bind(&address(&path).unwrap()).unwrap();
        drop(stale);
        assert!(path.exists());
        let listener = Listener::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(Listener::bind(&path), Err(ModeSocketError::InTheWay { .. })));
        drop(listener);
        assert!(!path.exists(), "the listener removes its file");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(Listener::bind(&path), Err(ModeSocketError::InTheWay { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        let long = dir.path().join("x".repeat(120));
        assert!(matches!(Listener::bind(&long), Err(ModeSocketError::Path(_))));
    }

    #[test]
    fn an_agent_that_comes_back_is_accepted_again() {
        let dir = tempfile::tempdir().unwrap();
        let (listener, agent, application) = pair(&dir);
        drop(agent);
        assert!(application.wait(SOON).unwrap());
        assert!(matches!(application.receive::<ToApplication>(), Err(ModeSocketError::Closed)));
        let agent = Connection::connect(&dir.path().join("mode")).unwrap();
        assert!(listener.wait(SOON).unwrap());
        let application = listener.accept().unwrap().unwrap();
        application.send(&FromApplication::Synced { synced: true, standby: None }).unwrap();
        assert!(agent.wait(SOON).unwrap());
        assert_eq!(agent.receive().unwrap(), Some(FromApplication::Synced { synced: true, standby: None }));
        assert!(!agent.wait(Duration::ZERO).unwrap());
    }
}
