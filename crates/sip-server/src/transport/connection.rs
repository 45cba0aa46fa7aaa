//! One connection, over TCP or TLS: bytes in, messages cut out of them; messages queued, bytes out. Bounded in memory and
//! in time: who does not read what we say is read no more, and not kept for long.

use super::Ticket;
use super::layer::{Got, Layer};
use super::sockets;
use domain::Micros;
use mio::net::TcpStream;
use sip_proto::{Frame, Framer};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// How long a connection of ours may take to come about. Shorter than a transaction waits (RFC 3261, timer B: 32 s), so
/// that there is time for the next target.
const CONNECTING: Duration = Duration::from_secs(4);
/// How long TLS may take to agree.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long one that connected to us may say nothing that is SIP.
const FIRST_MESSAGE: Duration = Duration::from_secs(60);
/// How long a connection may be silent after that. Longer than registrations last, and than the pauses between the
/// keep-alives of RFC 5626, section 4.4.1. One whose other end is gone is found by the kernel's own keep-alives.
const IDLE: Duration = Duration::from_secs(2 * 3_600);
/// How long a message may take to arrive.
const SLOW_MESSAGE: Duration = Duration::from_secs(30);
/// How long what we say may wait for the other end to read.
const SLOW_READER: Duration = Duration::from_secs(10);
/// Messages of one connection that are taken before others have their turn.
const MESSAGES_PER_TURN: usize = 16;
/// While this much is unsent, nothing is read: who asks has to listen, too. Bytes.
const READ_NO_MORE: usize = 64 << 10;
/// What may wait to be sent at most; a connection on which more would is closed. Bytes.
const MAX_UNSENT: usize = 512 << 10;
/// Room that is kept when all was sent, bytes.
const KEEP_BUFFER: usize = 4 << 10;

/// What a turn led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing more until the socket is ready again.
    Waits,
    /// There is more to do; others are served first.
    More,
    /// The connection has ended.
    Ended,
}

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Ours, and not accepted yet.
    Connecting,
    /// TLS has not agreed yet.
    Handshaking,
    /// Messages pass.
    Open,
    /// Nothing more is read; it ends when all is sent.
    Closing,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    layer: Layer,
    peer: SocketAddr,
    stage: Stage,
    /// Whether the other end connected to us.
    inbound: bool,
    framer: Framer,
    /// What was read and is not taken yet begins at `taken`.
    input: Vec<u8>,
    taken: usize,
    /// What is not sent yet begins at `sent`.
    output: Vec<u8>,
    sent: usize,
    /// Of the requests among these.
    tickets: Vec<Ticket>,
    began_at: Micros,
    /// Whether a message has come.
    heard: bool,
    received_at: Micros,
    /// Since when something waits to be sent and nothing is taken.
    stuck_since: Option<Micros>,
    /// When the message that is arriving began.
    message_began_at: Option<Micros>,
}

impl Connection {
    /// One that was accepted.
    pub(super) fn accepted(stream: TcpStream, layer: Layer, peer: SocketAddr, now: Micros) -> Self {
        sockets::prepare(&stream);
        let stage = if layer.is_open() { Stage::Open } else { Stage::Handshaking };
        Self::new(stream, layer, peer, stage, now)
    }

    /// One that was begun.
    pub(super) fn begun(stream: TcpStream, layer: Layer, peer: SocketAddr, now: Micros) -> Self {
        Self { inbound: false, ..Self::new(stream, layer, peer, Stage::Connecting, now) }
    }

    fn new(stream: TcpStream, layer: Layer, peer: SocketAddr, stage: Stage, now: Micros) -> Self {
        Self {
            stream,
            layer,
            peer,
            stage,
            inbound: true,
            framer: Framer::default(),
            input: Vec::new(),
            taken: 0,
            output: Vec::new(),
            sent: 0,
            tickets: Vec::new(),
            began_at: now,
            heard: false,
            received_at: now,
            stuck_since: None,
            message_began_at: None,
        }
    }

    pub(super) fn source(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Whether the other end connected to us.
    pub(super) fn is_inbound(&self) -> bool {
        self.inbound
    }

    /// Ends it so that the kernel sends nothing more for it but a reset.
    pub(super) fn abort(self) {
        sockets::abort_on_close(&self.stream);
    }

    /// Ends it properly; the requests that were not sent.
    pub(super) fn close(mut self) -> Vec<Ticket> {
        self.layer.close(&mut self.stream);
        self.tickets
    }

    /// Whether it broke one of its time limits.
    pub(super) fn is_overdue(&self, now: Micros) -> bool {
        let over = |since: Option<Micros>, limit| since.is_some_and(|since| now.since(since) >= limit);
        let age = now.since(self.began_at);
        let slow = match self.stage {
            Stage::Connecting => age >= CONNECTING,
            Stage::Handshaking => age >= HANDSHAKE,
            Stage::Open => self.inbound && !self.heard && age >= FIRST_MESSAGE,
            Stage::Closing => false,
        };
        slow || over(self.stuck_since, SLOW_READER)
            || over(self.message_began_at, SLOW_MESSAGE)
            || over(Some(self.received_at), IDLE)
    }

    /// Adds a message to what is to be sent; false where too much waits already, and the connection is of no more use.
    #[must_use]
    pub(super) fn queue(&mut self, bytes: &[u8], ticket: Option<Ticket>, now: Micros) -> bool {
        self.tickets.extend(ticket);
        if self.output.len() - self.sent + bytes.len() > MAX_UNSENT {
            return false;
        }
        self.output.extend_from_slice(bytes);
        self.stuck_since.get_or_insert(now);
        true
    }

    /// Sends what is queued, as far as it goes without waiting.
    pub(super) fn flush(&mut self, now: Micros) -> Turn {
        match self.try_flush(now) {
            Ok(()) if self.stage == Stage::Closing => Turn::Ended,
            Ok(()) => Turn::Waits,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Turn::Waits,
            Err(_) => Turn::Ended,
        }
    }

    /// Sends, reads and gives messages to `take` as far as it goes without waiting, within the bounds of one turn.
    pub(super) fn turn(&mut self, buffer: &mut [u8], now: Micros, take: &mut dyn FnMut(&[u8])) -> Turn {
        self.advance(buffer, now, take).unwrap_or_else(|e| match e.kind() {
            io::ErrorKind::WouldBlock => Turn::Waits,
            _ => Turn::Ended,
        })
    }

    fn advance(&mut self, buffer: &mut [u8], now: Micros, take: &mut dyn FnMut(&[u8])) -> io::Result<Turn> {
        self.check_connected()?;
        for _ in 0..MESSAGES_PER_TURN {
            match self.try_flush(now) {
                Ok(()) if self.stage == Stage::Closing => return Ok(Turn::Ended),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && self.may_read() => {}
                result => result?,
            }
            if self.take_next(now, take) {
                if self.stage == Stage::Closing {
                    // What is said about its end is queued after this turn.
                    return Ok(Turn::More);
                }
            } else if !self.read_more(buffer, now)? {
                return Ok(Turn::Ended);
            }
        }
        Ok(Turn::More)
    }

    /// Finds out whether a connection of ours was accepted (connect(2), EINPROGRESS).
    fn check_connected(&mut self) -> io::Result<()> {
        if self.stage != Stage::Connecting {
            return Ok(());
        }
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        match self.stream.peer_addr() {
            Ok(_) => self.stage = if self.layer.is_open() { Stage::Open } else { Stage::Handshaking },
            Err(e) if e.kind() == io::ErrorKind::NotConnected => return Err(io::ErrorKind::WouldBlock.into()),
            Err(e) => return Err(e),
        }
        Ok(())
    }

    fn may_read(&self) -> bool {
        self.stage != Stage::Closing && self.unsent() < READ_NO_MORE
    }

    fn unsent(&self) -> usize {
        self.output.len() - self.sent
    }

    fn try_flush(&mut self, now: Micros) -> io::Result<()> {
        if self.stage == Stage::Connecting {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        while self.unsent() > 0 || !self.layer.is_flushed() {
            let taken = self.layer.write(&mut self.stream, &self.output[self.sent..])?;
            if taken > 0 {
                self.sent += taken;
                self.stuck_since = Some(now);
            } else if self.unsent() > 0 {
                // The handshake comes first.
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
        self.output.clear();
        self.output.shrink_to(KEEP_BUFFER);
        self.sent = 0;
        self.tickets.clear();
        self.stuck_since = None;
        Ok(())
    }

    /// Takes what is complete from the input; false where nothing is.
    fn take_next(&mut self, now: Micros, take: &mut dyn FnMut(&[u8])) -> bool {
        let input = &self.input[self.taken..];
        if input.is_empty() {
            return false;
        }
        let taken = match self.framer.next(input) {
            Frame::Incomplete => return false,
            Frame::Skip(length) => length,
            Frame::KeepAlive(length) => {
                self.output.extend_from_slice(b"\r\n");
                self.stuck_since.get_or_insert(now);
                length
            }
            Frame::Message(length) => {
                self.heard = true;
                take(&input[..length]);
                length
            }
            Frame::Broken(head) => {
                if head > 0 {
                    take(&input[..head]);
                }
                self.stage = Stage::Closing;
                input.len()
            }
        };
        self.taken += taken;
        self.message_began_at = (self.taken < self.input.len()).then_some(now);
        true
    }

    /// Reads what has arrived; false where the other end has closed.
    fn read_more(&mut self, buffer: &mut [u8], now: Micros) -> io::Result<bool> {
        self.input.drain(..self.taken);
        self.taken = 0;
        if self.input.is_empty() {
            // An idle connection holds no memory for the next message.
            self.input = Vec::new();
        }
        let length = match self.layer.read(&mut self.stream, buffer)? {
            Got::Bytes(length) => length,
            Got::Progress => {
                if self.stage == Stage::Handshaking && self.layer.is_open() {
                    self.stage = Stage::Open;
                }
                return Ok(true);
            }
            Got::End => return Ok(false),
        };
        self.input.extend_from_slice(&buffer[..length]);
        self.received_at = now;
        // Half a keep-alive may wait for its other half until the next one.
        if self.input != b"\r\n" {
            self.message_began_at.get_or_insert(now);
        }
        Ok(true)
    }
}
