//! What lies between a stream's bytes on the wire and the messages in them: nothing, or TLS (`rustls`).

use mio::net::TcpStream;
use std::io::{self, Read, Write};

/// What a read led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Got {
    /// This many bytes are in the buffer.
    Bytes(usize),
    /// Something came that is of the layer's own, such as a part of the handshake.
    Progress,
    /// The other end has closed.
    End,
}

/// A layer. Errors of the kind `WouldBlock` mean: when the socket is ready again.
#[derive(Debug)]
pub(super) enum Layer {
    Plain,
    Tls(Box<rustls::Connection>),
}

impl Layer {
    /// Whether messages may pass.
    pub(super) fn is_open(&self) -> bool {
        match self {
            Layer::Plain => true,
            Layer::Tls(tls) => !tls.is_handshaking(),
        }
    }

    /// Reads once.
    pub(super) fn read(&mut self, stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<Got> {
        let tls = match self {
            Layer::Plain => return uninterrupted(|| stream.read(buffer)).map(got),
            Layer::Tls(tls) => tls,
        };
        match tls.reader().read(buffer) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            result => return result.map(got),
        }
        if uninterrupted(|| tls.read_tls(stream))? == 0 {
            return Ok(Got::End);
        }
        if let Err(e) = tls.process_new_packets() {
            // The alert that tells the peer what is wrong; if it cannot be sent, the connection ends all the same.
            let _ = tls.write_tls(stream);
            return Err(io::Error::new(io::ErrorKind::InvalidData, e));
        }
        Ok(Got::Progress)
    }

    /// Writes as much as goes; how much of `bytes` was taken. What was taken and is not out yet is written first the next
    /// time, so that is to be called until all is taken and [`Layer::is_flushed`].
    pub(super) fn write(&mut self, stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
        let tls = match self {
            Layer::Plain if bytes.is_empty() => return Ok(0),
            Layer::Plain => return uninterrupted(|| stream.write(bytes)).and_then(some),
            Layer::Tls(tls) => tls,
        };
        while tls.wants_write() {
            uninterrupted(|| tls.write_tls(stream)).and_then(some)?;
        }
        if tls.is_handshaking() {
            return Ok(0);
        }
        let taken = tls.writer().write(bytes)?;
        while tls.wants_write() {
            match uninterrupted(|| tls.write_tls(stream)).and_then(some) {
                // What was taken is taken; the rest of it follows when the socket has room.
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && taken > 0 => break,
                result => result?,
            };
        }
        Ok(taken)
    }

    /// Whether nothing that was taken waits to go out.
    pub(super) fn is_flushed(&self) -> bool {
        match self {
            Layer::Plain => true,
            Layer::Tls(tls) => !tls.wants_write(),
        }
    }

    /// Says goodbye, where there is a word for it and room for the word.
    pub(super) fn close(&mut self, stream: &mut TcpStream) {
        if let Layer::Tls(tls) = self {
            tls.send_close_notify();
            let _ = tls.write_tls(stream);
        }
    }
}

fn got(length: usize) -> Got {
    if length == 0 { Got::End } else { Got::Bytes(length) }
}

fn some(length: usize) -> io::Result<usize> {
    if length == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(length) }
}

fn uninterrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
