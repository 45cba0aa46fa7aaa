//! Cuts a stream of bytes into messages by Content-Length (RFC 3261, section 18.3), and finds the keep-alives between
//! them (RFC 5626, section 3.5.1). Holds no bytes; the caller keeps the buffer.

use crate::scan::saturating_number;
use crate::{Defect, Framing, HeaderName, MAX_MESSAGE, parse};
use memchr::memmem;

/// Longest head, start line to empty line, that is accepted from a stream, bytes: bounds what a sender that never
/// finishes a head can occupy.
pub const MAX_HEAD: usize = 16_384;

const LINE_END: &[u8] = b"\r\n";
const HEAD_END: &[u8] = b"\r\n\r\n";

/// What is at the beginning of the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// Nothing that is complete: more bytes are needed.
    Incomplete,
    /// This many bytes are a line end between messages: to be skipped.
    Skip(usize),
    /// This many bytes are a ping: to be answered with CRLF.
    KeepAlive(usize),
    /// This many bytes are a message.
    Message(usize),
    /// Where the message ends cannot be known, so the connection is of no more use. The first bytes, this many, are
    /// its head and may be worth a 400; 0 where they are not.
    Broken(usize),
}

/// Remembers how far the message at the beginning of the buffer was searched, so that one that comes byte by byte is
/// searched once.
#[derive(Debug, Clone, Copy, Default)]
pub struct Framer {
    searched: usize,
    length: Option<usize>,
}

impl Framer {
    /// Looks at `buffer`, which begins with what was there when this last said [`Frame::Incomplete`]. With any other
    /// answer the caller takes those bytes away before the next call.
    pub fn next(&mut self, buffer: &[u8]) -> Frame {
        let frame = self.look(buffer);
        if frame != Frame::Incomplete {
            *self = Self::default();
        }
        frame
    }

    fn look(&mut self, buffer: &[u8]) -> Frame {
        if let Some(length) = self.length {
            return if buffer.len() < length { Frame::Incomplete } else { Frame::Message(length) };
        }
        if buffer.starts_with(HEAD_END) {
            return Frame::KeepAlive(HEAD_END.len());
        }
        if HEAD_END.starts_with(buffer) {
            return Frame::Incomplete;
        }
        if buffer.starts_with(LINE_END) {
            return Frame::Skip(LINE_END.len());
        }
        // The end of the head may have begun in the last three bytes that were searched before.
        let from = self.searched.saturating_sub(HEAD_END.len() - 1);
        let window = &buffer[from..buffer.len().min(MAX_HEAD)];
        let Some(found) = memmem::find(window, HEAD_END) else {
            self.searched = buffer.len();
            return if buffer.len() >= MAX_HEAD { Frame::Broken(0) } else { Frame::Incomplete };
        };
        let head = from + found + HEAD_END.len();
        match message_length(&buffer[..head]) {
            Ok(length) if length <= buffer.len() => Frame::Message(length),
            Ok(length) => {
                self.length = Some(length);
                Frame::Incomplete
            }
            Err(broken) => broken,
        }
    }
}

/// Length of the message that begins with this head. A head with any defect ends the connection: the line that could
/// not be read, or was there twice, may have been the one that says where the message ends.
fn message_length(head: &[u8]) -> Result<usize, Frame> {
    let message = parse(head, Framing::Stream).map_err(|_| Frame::Broken(0))?;
    let body = match message.defect {
        None => Some(0),
        Some(Defect::BodyShort) => message.value(HeaderName::ContentLength).and_then(saturating_number),
        Some(_) => None,
    };
    let length = body.and_then(|body| head.len().checked_add(body as usize));
    length.filter(|length| *length <= MAX_MESSAGE).ok_or(Frame::Broken(head.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: &str) -> Vec<u8> {
        format!("OPTIONS sip:a SIP/2.0\r\nl: {}\r\n\r\n{body}", body.len()).into_bytes()
    }

    /// Takes everything from `bytes`, given `step` bytes at a time.
    fn frames(bytes: &[u8], step: usize) -> Vec<Frame> {
        let (mut framer, mut buffer, mut seen) = (Framer::default(), Vec::new(), Vec::new());
        for chunk in bytes.chunks(step) {
            buffer.extend_from_slice(chunk);
            loop {
                let frame = framer.next(&buffer);
                let taken = match frame {
                    Frame::Incomplete => break,
                    Frame::Skip(n) | Frame::KeepAlive(n) | Frame::Message(n) => n,
                    Frame::Broken(_) => buffer.len(),
                };
                seen.push(frame);
                buffer.drain(..taken);
            }
        }
        seen
    }

    #[test]
    fn messages_are_cut_however_they_arrive() {
        let (a, b) = (message("hello\r\n\r\nworld"), message(""));
        let stream = [&b"\r\n"[..], &a, b"\r\n\r\n", &b, &a].concat();
        let expected = [
            Frame::Skip(2),
            Frame::Message(a.len()),
            Frame::KeepAlive(4),
            Frame::Message(b.len()),
            Frame::Message(a.len()),
        ];
        for step in [1, 2, 3, 7, 50, stream.len()] {
            assert_eq!(frames(&stream, step), expected, "{step} bytes at a time");
        }
    }

    #[test]
    fn what_cannot_be_cut_is_broken() {
        for (head, answerable) in [
            ("OPTIONS sip:a SIP/2.0\r\nTo: x\r\n\r\n", true),
            ("OPTIONS sip:a SIP/2.0\r\nl: x\r\n\r\n", true),
            ("OPTIONS sip:a SIP/2.0\r\nl: 1\r\nl: 1\r\n\r\n", true),
            ("OPTIONS sip:a SIP/2.0\r\nl: 65535\r\n\r\n", true),
            ("OPTIONS sip:a SIP/2.0\r\nTo: x\r\nto: y\r\nl: x\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", false),
        ] {
            let expected = Frame::Broken(if answerable { head.len() } else { 0 });
            assert_eq!(frames(head.as_bytes(), 5), [expected], "{head}");
        }
    }

    #[test]
    fn an_endless_head_is_broken() {
        assert_eq!(frames(&[b'x'; MAX_HEAD], 100), [Frame::Broken(0)]);
        assert_eq!(frames(&[b'x'; MAX_HEAD - 1], 100), []);
    }

    #[test]
    fn a_slow_sender_is_searched_once() {
        let mut framer = Framer::default();
        let buffer = [b'x'; 1_000];
        for length in 4..buffer.len() {
            assert_eq!(framer.next(&buffer[..length]), Frame::Incomplete);
            assert_eq!(framer.searched, length);
        }
    }
}
