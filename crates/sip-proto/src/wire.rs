//! A message as it was or will be sent, shared between what sends it and what keeps it to send it again.

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// The bytes of one message. Copies share them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wire(Arc<[u8]>);

impl From<&[u8]> for Wire {
    fn from(bytes: &[u8]) -> Self {
        Self(Arc::from(bytes))
    }
}

impl Deref for Wire {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// The first line, which names the message.
impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = self.0.split(|b| *b == b'\r').next().unwrap_or_default();
        write!(f, "Wire({:?}, {} bytes)", String::from_utf8_lossy(line), self.0.len())
    }
}

impl Serialize for Wire {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Wire {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_byte_buf(Bytes)
    }
}

struct Bytes;

impl<'de> Visitor<'de> for Bytes {
    type Value = Wire;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Wire, E> {
        Ok(Wire::from(bytes))
    }

    /// Formats without bytes, JSON for one, write a list of numbers. What they announce as its length is not believed.
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Wire, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = list.next_element()? {
            bytes.push(byte);
        }
        Ok(Wire::from(&bytes[..]))
    }
}
