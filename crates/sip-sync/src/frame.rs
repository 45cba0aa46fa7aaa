//! The frames of the stream.
//!
//! A frame is a length (32 bits, big endian, of what follows, at most [`MAX_FRAME`]), a kind (8 bits) and a body. The
//! first is [`Hello`], in both directions. How that and [`Kind::Goodbye`] begin is the same in all versions, so that two
//! that do not understand each other can say so; everything else is read only when both ends speak the same protocol and
//! the same format of changes, and is written by postcard.

use crate::outbox::Outbox;
use crate::settings::{Broken, Settings, Standing};
use serde::{Deserialize, Serialize};

/// Version of the frames.
pub const PROTOCOL: u32 = 1;
/// How a Hello begins.
pub const HELLO_MAGIC: [u8; 8] = *b"tkvrsync";
/// Largest frame, bytes. A frame of changes ends when it has `FULL_FRAME`, so only a single huge change comes near it.
pub const MAX_FRAME: usize = 4 << 20;
/// When a frame of changes is ended and the next one begun, bytes.
pub(crate) const FULL_FRAME: usize = 16 << 10;
/// Bytes of the length.
pub(crate) const PREFIX: usize = 4;
/// Longest text in a Goodbye or Hello, bytes.
const MAX_TEXT: usize = 255;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Who one is: [`Hello`]. Said again when something of it has changed.
    Hello = 1,
    /// Why one ends the connection: a text.
    Goodbye = 2,
    /// One's standing has changed: [`Standing`].
    Standing = 3,
    /// A stream begins, all there was is stale: [`Begin`].
    Begin = 4,
    /// The number of changes sent before in this stream, then changes to the end of the frame.
    Changes = 5,
    /// The value was sent to its end: [`Done`].
    Done = 6,
    /// What the backup has: [`Ack`]. Also as its heartbeat.
    Ack = 7,
    /// The primary's heartbeat: [`Clock`].
    Clock = 8,
    /// The backup has come apart from the primary and wants a new stream.
    Again = 9,
}

impl Kind {
    const ALL: [Kind; 9] = [
        Kind::Hello,
        Kind::Goodbye,
        Kind::Standing,
        Kind::Begin,
        Kind::Changes,
        Kind::Done,
        Kind::Ack,
        Kind::Clock,
        Kind::Again,
    ];

    fn of(byte: u8) -> Option<Self> {
        Kind::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Body of [`Kind::Begin`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Begin {
    /// Number of the stream on this connection.
    pub(crate) stream: u32,
    /// Time on the value's clock.
    pub(crate) clock: u64,
}

/// Body of [`Kind::Done`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Done {
    /// Changes sent in this stream.
    pub(crate) sent: u64,
}

/// Body of [`Kind::Ack`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ack {
    /// Which stream; 0: none.
    pub(crate) stream: u32,
    /// Changes of it that were taken.
    pub(crate) taken: u64,
    /// Whether the end of the snapshot was among them.
    pub(crate) whole: bool,
}

/// Body of [`Kind::Clock`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Clock {
    /// Time on the value's clock.
    pub(crate) clock: u64,
    /// How far the primary thinks the backup to be behind, milliseconds.
    pub(crate) lag_ms: u32,
}

/// Who one is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) pair: Box<str>,
    pub(crate) application: Box<str>,
    pub(crate) shape: u64,
    pub(crate) digest: u64,
    pub(crate) standing: Standing,
}

/// A frame that has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: Kind,
    pub(crate) body: &'a [u8],
    /// Its length in all, bytes.
    pub(crate) length: usize,
}

/// The first frame of `input`. None: it is not whole yet.
pub(crate) fn first(input: &[u8]) -> Result<Option<Frame<'_>>, Broken> {
    let Some(prefix) = input.first_chunk::<PREFIX>() else { return Ok(None) };
    let length = u32::from_be_bytes(*prefix) as usize;
    if length > MAX_FRAME {
        return Err(Broken::TooLarge { bytes: length });
    }
    let Some(kind) = input.get(PREFIX) else { return Ok(None) };
    // Before all of it is here: who speaks something else is not waited for.
    let kind =
        Kind::of(*kind).filter(|_| length > 0).ok_or(Broken::Malformed("a frame of an unknown kind"))?;
    let body = input.get(PREFIX + 1..PREFIX + length);
    Ok(body.map(|body| Frame { kind, body, length: PREFIX + length }))
}

/// Reads a body that is one value.
pub(crate) fn read<'a, T: Deserialize<'a>>(body: &'a [u8], what: &'static str) -> Result<T, Broken> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        Ok(_) | Err(_) => Err(Broken::Malformed(what)),
    }
}

/// Writes a frame with one value.
pub(crate) fn write<T: Serialize>(outbox: &mut Outbox, kind: Kind, value: &T) {
    let open = outbox.begin(kind);
    outbox.write(value).expect("the frames' own structures are of known length");
    outbox.end(open);
}

/// Writes who we are.
pub(crate) fn write_hello(outbox: &mut Outbox, settings: &Settings, standing: Standing) {
    let open = outbox.begin(Kind::Hello);
    outbox.raw(&HELLO_MAGIC);
    outbox.raw(&PROTOCOL.to_be_bytes());
    outbox.raw(&settings.format.to_be_bytes());
    let release = shortened(&settings.release);
    outbox.raw(&[u8::try_from(release.len()).unwrap_or(u8::MAX)]);
    outbox.raw(release.as_bytes());
    let hello = Hello {
        pair: settings.pair.clone(),
        application: settings.application.clone(),
        shape: settings.shape,
        digest: settings.digest,
        standing,
    };
    outbox.write(&hello).expect("a Hello is of known length");
    outbox.end(open);
}

/// Reads who the other is, as far as we understand it.
pub(crate) fn read_hello(body: &[u8], format: u32) -> Result<Hello, Broken> {
    let malformed = Broken::Malformed("a hello");
    let Some((magic, rest)) = body.split_first_chunk::<8>() else { return Err(malformed) };
    if *magic != HELLO_MAGIC {
        return Err(malformed);
    }
    let Some((protocol, rest)) = rest.split_first_chunk::<4>() else { return Err(malformed) };
    let Some((theirs, rest)) = rest.split_first_chunk::<4>() else { return Err(malformed) };
    let Some((length, rest)) = rest.split_first() else { return Err(malformed) };
    let Some((release, rest)) = rest.split_at_checked(usize::from(*length)) else { return Err(malformed) };
    let (protocol, theirs) = (u32::from_be_bytes(*protocol), u32::from_be_bytes(*theirs));
    if (protocol, theirs) != (PROTOCOL, format) {
        return Err(Broken::OtherVersion {
            release: printable(release),
            protocol,
            format: theirs,
            ours: (PROTOCOL, format),
        });
    }
    read(rest, "a hello")
}

/// Writes why we go.
pub(crate) fn write_goodbye(outbox: &mut Outbox, why: &str) {
    let open = outbox.begin(Kind::Goodbye);
    outbox.raw(shortened(why).as_bytes());
    outbox.end(open);
}

/// Reads why the other goes.
pub(crate) fn read_goodbye(body: &[u8]) -> Broken {
    Broken::Goodbye(printable(&body[..body.len().min(MAX_TEXT)]))
}

fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT)]
}

/// A text of the other's, for our log.
fn printable(text: &[u8]) -> Box<str> {
    String::from_utf8_lossy(text).chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
