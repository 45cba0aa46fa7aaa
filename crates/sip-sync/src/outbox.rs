//! What is to be sent: frames in one buffer, bounded.

use crate::frame::{Kind, PREFIX};
use postcard::ser_flavors::Flavor;
use serde::Serialize;

/// Room that is kept when everything was sent, bytes.
const KEEP: usize = 64 * 1024;

/// Frames that wait for the connection.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    /// Up to here they are sent.
    sent: usize,
}

/// A frame that is being written: where it begins.
#[derive(Debug)]
#[must_use = "a frame that is not ended would be read as garbage"]
pub(crate) struct Open(usize);

impl Outbox {
    /// What waits.
    pub(crate) fn pending(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// The first `length` bytes of what waits are sent.
    pub(crate) fn sent(&mut self, length: usize) {
        self.sent = (self.sent + length).min(self.bytes.len());
        if self.sent == self.bytes.len() {
            self.bytes.clear();
            self.bytes.shrink_to(KEEP);
            self.sent = 0;
        } else if self.sent > self.bytes.len() / 2 && self.sent > KEEP {
            // Moves each byte once on average, and bounds the memory to twice of what waits.
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// Begins a frame.
    pub(crate) fn begin(&mut self, kind: Kind) -> Open {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; PREFIX]);
        self.bytes.push(kind as u8);
        Open(start)
    }

    /// Adds to the frame that is being written.
    ///
    /// # Errors
    /// Where the value cannot be written: a list whose length it does not know, or a `Serialize` that fails.
    pub(crate) fn write<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), postcard::Error> {
        postcard::serialize_with_flavor(value, Appending(&mut self.bytes))
    }

    /// Adds bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// How long the frame is so far, without the prefix.
    pub(crate) fn length(&self, open: &Open) -> usize {
        self.bytes.len() - open.0 - PREFIX
    }

    /// Ends the frame. Gives its length without the prefix.
    pub(crate) fn end(&mut self, open: Open) -> usize {
        let length = self.length(&open);
        let prefix = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        self.bytes[open.0..open.0 + PREFIX].copy_from_slice(&prefix);
        length
    }
}

/// Writes behind what is there.
struct Appending<'a>(&'a mut Vec<u8>);

impl Flavor for Appending<'_> {
    type Output = ();

    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(data);
        Ok(())
    }

    fn try_push(&mut self, data: u8) -> postcard::Result<()> {
        self.0.push(data);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_in_pieces_is_what_was_written() {
        let (mut outbox, mut all, mut read) = (Outbox::default(), Vec::new(), Vec::new());
        for n in 0..2_000u32 {
            let open = outbox.begin(Kind::Clock);
            outbox.raw(&[n as u8; 200]);
            assert_eq!(outbox.end(open), 201);
            all.extend_from_slice(&[0, 0, 0, 201, Kind::Clock as u8]);
            all.extend([n as u8; 200]);
            let length = (n as usize * 7) % 190;
            read.extend_from_slice(&outbox.pending()[..length]);
            outbox.sent(length);
        }
        assert!(outbox.len() > KEEP, "the test is to move what is left");
        read.extend_from_slice(outbox.pending());
        outbox.sent(outbox.len());
        assert!(read == all && outbox.len() == 0);
        assert!(outbox.bytes.capacity() <= 2 * KEEP);
    }
}
