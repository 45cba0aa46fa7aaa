//! One TCP connection: bytes in, messages cut out of them, answers out. Bounded in memory and in time: nothing is read
//! while an answer is unsent, so a client that does not read holds one answer, and not for long.

use crate::server::Counters;
use crate::sockets;
use domain::Micros;
use mio::net::TcpStream;
use sip_proto::{Arrival, Duty, Frame, Framer, Framing, UserAgentServer, parse};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

/// How long a connection may be silent. Longer than the pauses between the keep-alives of RFC 5626, section 4.4.1.
const IDLE: Duration = Duration::from_secs(600);
/// How long a message may take to arrive.
const SLOW_MESSAGE: Duration = Duration::from_secs(30);
/// How long an answer may wait for the client to read.
const SLOW_READER: Duration = Duration::from_secs(10);
/// Messages of one connection that are answered before others have their turn.
const MESSAGES_PER_TURN: usize = 16;

/// What a turn led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nothing more until the socket is ready again.
    Waits,
    /// There is more to do; others are served first.
    More,
    /// The connection has ended.
    Ended,
}

/// What the server lends a connection for a turn.
pub(crate) struct Lent<'a> {
    pub(crate) uas: &'a mut UserAgentServer,
    pub(crate) counters: &'a mut Counters,
    /// Where bytes are read to first.
    pub(crate) buffer: &'a mut [u8],
    pub(crate) duty: Duty,
    pub(crate) now: Micros,
}

/// A TCP connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    framer: Framer,
    /// What was read and is not answered yet begins at `taken`.
    input: Vec<u8>,
    taken: usize,
    /// What was answered and is not sent yet begins at `sent`.
    output: Vec<u8>,
    sent: usize,
    /// Nothing more is read; the connection ends when all is sent.
    closing: bool,
    /// When something was last received or sent.
    active_at: Micros,
    /// When the message that is arriving began.
    began_at: Option<Micros>,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, peer: SocketAddr, now: Micros) -> Self {
        // Answers are written whole; waiting for more would only delay them. Where it fails they come later.
        let _ = stream.set_nodelay(true);
        Self {
            stream,
            peer,
            framer: Framer::default(),
            input: Vec::new(),
            taken: 0,
            output: Vec::new(),
            sent: 0,
            closing: false,
            active_at: now,
            began_at: None,
        }
    }

    pub(crate) fn source(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Ends it so that the kernel sends nothing more for it but a reset.
    pub(crate) fn abort(self) {
        sockets::abort_on_close(&self.stream);
    }

    /// Whether it broke one of its time limits.
    pub(crate) fn is_overdue(&self, now: Micros) -> bool {
        let silent = now.since(self.active_at);
        let unsent = !self.output.is_empty() && silent >= SLOW_READER;
        let slow = self.began_at.is_some_and(|began| now.since(began) >= SLOW_MESSAGE);
        unsent || slow || silent >= IDLE
    }

    /// Sends, answers and reads as far as it goes without waiting, within the bounds of one turn.
    pub(crate) fn turn(&mut self, lent: &mut Lent<'_>) -> Turn {
        self.advance(lent).unwrap_or_else(|e| match e.kind() {
            io::ErrorKind::WouldBlock => Turn::Waits,
            _ => Turn::Ended,
        })
    }

    fn advance(&mut self, lent: &mut Lent<'_>) -> io::Result<Turn> {
        for _ in 0..MESSAGES_PER_TURN {
            self.flush(lent.now)?;
            if self.closing {
                return Ok(Turn::Ended);
            }
            if !self.answer_next(lent) && !self.read_more(lent)? {
                return Ok(Turn::Ended);
            }
        }
        Ok(Turn::More)
    }

    fn flush(&mut self, now: Micros) -> io::Result<()> {
        while self.sent < self.output.len() {
            match uninterrupted(|| self.stream.write(&self.output[self.sent..]))? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                length => self.sent += length,
            }
            self.active_at = now;
        }
        self.output.clear();
        self.sent = 0;
        Ok(())
    }

    /// Takes what is complete from the input and answers it; false where nothing is.
    fn answer_next(&mut self, lent: &mut Lent<'_>) -> bool {
        let input = &self.input[self.taken..];
        let arrival = Arrival { source: self.peer, now: lent.now, duty: lent.duty };
        let mut answer = |bytes: &[u8], output: &mut Vec<u8>| match parse(bytes, Framing::Stream) {
            Ok(message) => lent.counters.count(lent.uas.answer(&message, arrival, output)),
            Err(_) => lent.counters.not_sip += 1,
        };
        let taken = match self.framer.next(input) {
            Frame::Incomplete => return false,
            Frame::Skip(length) => length,
            Frame::KeepAlive(length) => {
                self.output.extend_from_slice(b"\r\n");
                length
            }
            Frame::Message(length) => {
                answer(&input[..length], &mut self.output);
                length
            }
            Frame::Broken(head) => {
                answer(&input[..head], &mut self.output);
                self.closing = true;
                input.len()
            }
        };
        self.taken += taken;
        self.began_at = (self.taken < self.input.len()).then_some(lent.now);
        true
    }

    /// Reads what has arrived; false where the other end has closed.
    fn read_more(&mut self, lent: &mut Lent<'_>) -> io::Result<bool> {
        self.input.drain(..self.taken);
        self.taken = 0;
        if self.input.is_empty() {
            // An idle connection holds no memory for the next message.
            self.input = Vec::new();
        }
        let length = uninterrupted(|| self.stream.read(lent.buffer))?;
        self.input.extend_from_slice(&lent.buffer[..length]);
        self.active_at = lent.now;
        // Half a keep-alive may wait for its other half until the next one.
        if self.input != b"\r\n" {
            self.began_at.get_or_insert(lent.now);
        }
        Ok(length > 0)
    }
}

fn uninterrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
