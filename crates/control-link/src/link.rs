//! One established connection: frames of JSON in TLS records over a non-blocking TCP socket. For an event loop: no call
//! blocks, no call works without bound, and what the socket does not take is queued up to a limit.
//!
//! A frame is a length (32 bits, big endian, at most [`MAX_FRAME`]) and that many bytes of JSON.

use crate::messages::MAX_FRAME;
use crate::peer::{Certificate, PeerName};
use crate::reason;
use crate::seal::{self, Seal};
use mio::net::TcpStream;
use rustls::Connection;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, BufRead, Write};
use std::net::SocketAddr;

/// Largest number of bytes that wait for the socket; a peer that reads so slowly is better dropped and met again.
pub const MAX_QUEUE: usize = 8 << 20;
/// How much one call of [`Link::receive`] reads from the socket, bytes: some thousand messages at most.
const RECEIVE_BUDGET: usize = 64 * 1024;
/// Buffers that grew for one large message are given back above this size, bytes.
const KEEP_BUFFER: usize = 64 * 1024;
const PREFIX: usize = 4;

/// Why a link cannot be used any more (all but [`LinkError::Overflow`], [`LinkError::TooLarge`] and
/// [`LinkError::Unencodable`] on sending, which leave it as it was).
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The peer closed the connection.
    #[error("the peer closed the connection")]
    Closed,
    /// The peer reads too slowly; the message was not queued.
    #[error("the peer does not read: {queued} bytes wait for it and {wanted} more do not fit")]
    Overflow {
        /// Bytes that wait.
        queued: usize,
        /// Bytes of the message.
        wanted: usize,
    },
    /// A message is larger than [`MAX_FRAME`].
    #[error("a message of {size} bytes is too large, {MAX_FRAME} are allowed")]
    TooLarge {
        /// Its size, bytes.
        size: usize,
    },
    /// The peer sent something that is not the message that is due here.
    #[error("the peer sent a malformed message: {why}")]
    Malformed {
        /// What is wrong and where.
        why: String,
    },
    /// A message of our own cannot be written as JSON.
    #[error("a message cannot be encoded")]
    Unencodable(#[source] serde_json::Error),
    /// TLS failed.
    #[error("{}", reason::sentence(.0))]
    Tls(rustls::Error),
    /// The connection failed.
    #[error("the connection failed")]
    Io(#[from] io::Error),
    /// The link's datagram keys were given out before; the same keys twice would be used with the same nonces.
    #[error("the keys for this connection's datagrams were given out before")]
    SealedBefore,
}

/// Whether [`Link::receive`] took all there was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "with an edge-triggered poll nothing announces what `More` left behind"]
pub enum Received {
    /// Everything that had arrived. The poll tells when there is more.
    All,
    /// Not everything: call again, without waiting for the poll, after looking after others.
    More,
}

/// One established connection, both ends known to each other. `Send`: made on one thread, used on another.
///
/// Register [`Link::source`] for reading and writing, call [`Link::receive`] once at once and then whenever it is
/// readable, [`Link::flush`] when it is writable. Dropping it says goodbye to the peer (TLS close_notify).
#[derive(Debug)]
pub struct Link {
    tls: Connection,
    stream: TcpStream,
    peer: PeerName,
    peer_address: SocketAddr,
    /// Plaintext that arrived and is not yet a whole frame.
    incoming: Vec<u8>,
    /// The frame being encoded; kept to be used again.
    outgoing: Vec<u8>,
    /// Bytes of TLS records that wait for the socket.
    queued: usize,
    sealed: bool,
}

impl Link {
    /// A link over a connection whose handshake is done.
    pub(crate) fn new(
        mut tls: Connection,
        stream: TcpStream,
        peer: PeerName,
        peer_address: SocketAddr,
    ) -> Self {
        // The limit is ours, in `send`: rustls' own would take half a frame.
        tls.set_buffer_limit(None);
        Self {
            tls,
            stream,
            peer,
            peer_address,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            queued: 0,
            sealed: false,
        }
    }

    /// Who is at the other end, as its certificate says.
    #[must_use]
    pub fn peer(&self) -> &PeerName {
        &self.peer
    }

    /// What the other end's certificate says beside the name; none: it cannot be read, which no handshake lets through.
    #[must_use]
    pub fn certificate(&self) -> Option<Certificate> {
        Certificate::read(self.tls.peer_certificates()?.first()?)
    }

    /// Where the other end is.
    #[must_use]
    pub fn peer_address(&self) -> SocketAddr {
        self.peer_address
    }

    /// The socket, to be registered with the event loop's poll.
    pub fn source(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Encodes and encrypts a message and writes as much as the socket takes at once; the rest waits for
    /// [`Link::flush`].
    ///
    /// # Errors
    /// [`LinkError::Overflow`], [`LinkError::TooLarge`] or [`LinkError::Unencodable`]: nothing was sent, the link is as
    /// it was. Otherwise the link is dead.
    pub fn send<M: Serialize>(&mut self, message: &M) -> Result<(), LinkError> {
        self.outgoing.clear();
        self.outgoing.shrink_to(KEEP_BUFFER);
        self.outgoing.extend_from_slice(&[0; PREFIX]);
        serde_json::to_writer(&mut self.outgoing, message).map_err(LinkError::Unencodable)?;
        let size = self.outgoing.len() - PREFIX;
        let prefix = match u32::try_from(size) {
            Ok(length) if size <= MAX_FRAME => length.to_be_bytes(),
            _ => return Err(LinkError::TooLarge { size }),
        };
        self.outgoing[..PREFIX].copy_from_slice(&prefix);
        let wanted = in_records(self.outgoing.len());
        if self.queued + wanted > MAX_QUEUE {
            return Err(LinkError::Overflow { queued: self.queued, wanted });
        }
        self.tls.writer().write_all(&self.outgoing)?;
        self.queued += wanted;
        self.flush()
    }

    /// Takes what has arrived, up to a bound, and appends the whole messages to `out`.
    ///
    /// # Errors
    /// The link is dead. Messages that arrived before are in `out` all the same (a goodbye comes right before the
    /// connection closes): look at them first.
    pub fn receive<M: DeserializeOwned>(&mut self, out: &mut Vec<M>) -> Result<Received, LinkError> {
        let mut left = RECEIVE_BUDGET;
        loop {
            while let Some(message) = self.take_message()? {
                out.push(message);
            }
            if left == 0 {
                return Ok(Received::More);
            }
            match self.read_records()? {
                0 => return Ok(Received::All),
                read => left = left.saturating_sub(read),
            }
        }
    }

    /// Encrypts bytes and writes as much as the socket takes at once; the rest waits for [`Link::flush`]. For protocols
    /// with frames of their own, instead of [`Link::send`].
    ///
    /// # Errors
    /// [`LinkError::Overflow`]: nothing was sent, the link is as it was. Otherwise the link is dead.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        let wanted = in_records(bytes.len());
        if self.queued + wanted > MAX_QUEUE {
            return Err(LinkError::Overflow { queued: self.queued, wanted });
        }
        self.tls.writer().write_all(bytes)?;
        self.queued += wanted;
        self.flush()
    }

    /// Takes what has arrived, up to a bound, and appends it to `out`. Instead of [`Link::receive`].
    ///
    /// # Errors
    /// The link is dead. What arrived before is in `out` all the same.
    pub fn receive_bytes(&mut self, out: &mut Vec<u8>) -> Result<Received, LinkError> {
        let mut left = RECEIVE_BUDGET;
        loop {
            out.append(&mut self.incoming);
            if left == 0 {
                return Ok(Received::More);
            }
            let read = self.read_records();
            out.append(&mut self.incoming);
            match read? {
                0 => return Ok(Received::All),
                read => left = left.saturating_sub(read),
            }
        }
    }

    /// Bytes that wait for the socket.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// One message, if a whole one has arrived. For the greeting: leaves the next ones to [`Link::receive`].
    pub(crate) fn receive_one<M: DeserializeOwned>(&mut self) -> Result<Option<M>, LinkError> {
        let mut total = 0;
        while total < RECEIVE_BUDGET {
            if let Some(message) = self.take_message()? {
                return Ok(Some(message));
            }
            match self.read_records()? {
                0 => return Ok(None),
                read => total += read,
            }
        }
        Err(LinkError::TooLarge { size: total })
    }

    /// Writes what waits, as far as the socket takes it.
    ///
    /// # Errors
    /// The link is dead.
    pub fn flush(&mut self) -> Result<(), LinkError> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.stream) {
                Ok(0) => return Err(LinkError::Closed),
                Ok(written) => self.queued = self.queued.saturating_sub(written),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(connection_error(e)),
            }
        }
        self.queued = 0;
        Ok(())
    }

    /// Whether something waits for the socket.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        self.tls.wants_write()
    }

    /// Keys for the datagrams that belong to this connection (RFC 8446, section 7.5), bound to `session`, which both
    /// ends must give alike. Once per link.
    ///
    /// # Errors
    /// [`LinkError::SealedBefore`] at the second call; [`LinkError::Tls`] where no keys can be made.
    pub fn seal(&mut self, session: u64) -> Result<Seal, LinkError> {
        if self.sealed {
            return Err(LinkError::SealedBefore);
        }
        let (out, back) = match &self.tls {
            Connection::Client(_) => (seal::FROM_DIALER, seal::FROM_ACCEPTOR),
            Connection::Server(_) => (seal::FROM_ACCEPTOR, seal::FROM_DIALER),
        };
        let export = |label: &str| {
            self.tls
                .export_keying_material([0u8; seal::KEY_LEN], label.as_bytes(), Some(&session.to_be_bytes()))
                .map_err(LinkError::Tls)
        };
        let seal = Seal::new(session, &export(out)?, &export(back)?);
        self.sealed = true;
        Ok(seal)
    }

    /// Reads records from the socket into `incoming`; the number of bytes read, 0 where there is nothing now.
    fn read_records(&mut self) -> Result<usize, LinkError> {
        let read = loop {
            match self.tls.read_tls(&mut self.stream) {
                Ok(0) => return Err(LinkError::Closed),
                Ok(read) => break read,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(connection_error(e)),
            }
        };
        let processed = self.tls.process_new_packets();
        self.take_plaintext()?;
        if let Err(e) = processed {
            // The alert that tells the peer what is wrong; if it cannot be sent, the error says enough.
            let _ = self.flush();
            return Err(LinkError::Tls(e));
        }
        // A key update wants an answer.
        self.flush()?;
        Ok(read)
    }

    /// Moves decrypted bytes from rustls to `incoming`, which thereby holds at most one unfinished frame and what one
    /// read brought.
    pub(crate) fn take_plaintext(&mut self) -> Result<(), LinkError> {
        let mut reader = self.tls.reader();
        loop {
            let taken = match reader.fill_buf() {
                // After close_notify; the next `read_tls` says so.
                Ok([]) => return Ok(()),
                Ok(chunk) => {
                    self.incoming.extend_from_slice(chunk);
                    chunk.len()
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(connection_error(e)),
            };
            reader.consume(taken);
        }
    }

    fn take_message<M: DeserializeOwned>(&mut self) -> Result<Option<M>, LinkError> {
        let Some(prefix) = self.incoming.first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let size = u32::from_be_bytes(*prefix) as usize;
        if size > MAX_FRAME {
            return Err(LinkError::TooLarge { size });
        }
        let Some(frame) = self.incoming.get(PREFIX..PREFIX + size) else {
            return Ok(None);
        };
        let message = serde_json::from_slice(frame)
            .map_err(|e| LinkError::Malformed { why: shortened(e.to_string()) })?;
        self.incoming.drain(..PREFIX + size);
        if self.incoming.is_empty() {
            self.incoming.shrink_to(KEEP_BUFFER);
        }
        Ok(Some(message))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.tls.send_close_notify();
        let _ = self.flush();
    }
}

/// A connection that the peer's kernel reset is closed, not broken.
fn connection_error(error: io::Error) -> LinkError {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => {
            LinkError::Closed
        }
        _ => LinkError::Io(error),
    }
}

/// Bytes that `plain` bytes take as TLS 1.3 records: each has at most 2^14 of them and 5 bytes of header, 1 of content
/// type and 16 of authentication around them (RFC 8446, section 5.2).
fn in_records(plain: usize) -> usize {
    plain + plain.div_ceil(1 << 14) * (5 + 1 + 16)
}

/// serde_json quotes what it found; what the peer chose must not fill a log.
fn shortened(mut text: String) -> String {
    const LONGEST: usize = 200;
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST));
        text.push_str(" ...");
    }
    text
}
