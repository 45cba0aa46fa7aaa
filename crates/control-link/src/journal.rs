//! Structured entries for systemd's journal (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>): fields in a datagram. Our own,
//! because it is a dozen lines beside what a crate would bring along.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

/// Where the journal listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// An entry in the making.
#[derive(Debug, Clone, Default)]
pub struct Entry(Vec<u8>);

impl Entry {
    /// Adds a field. `name`: capital letters, digits and underscores, not an underscore first; others are put right, since the
    /// journal drops a field whose name it does not take.
    pub fn field(&mut self, name: &str, value: &str) {
        let clean = |c: char| match c.to_ascii_uppercase() {
            c @ ('A'..='Z' | '0'..='9') => c,
            _ => '_',
        };
        let name: String = name.chars().map(clean).collect();
        let name = name.trim_start_matches('_');
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return;
        }
        self.0.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            self.0.push(b'\n');
            self.0.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            self.0.push(b'=');
        }
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'\n');
    }
}

/// The way to the journal. A journal that is started anew is found again.
#[derive(Debug)]
pub struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Journal {
    /// The journal at this socket ([`SOCKET`]), whether it is there yet or not.
    ///
    /// # Errors
    /// The system gives no socket.
    pub fn at(path: &Path) -> io::Result<Self> {
        Ok(Self { socket: UnixDatagram::unbound()?, path: path.to_owned() })
    }

    /// Sends an entry. Waits while the journal is busy: not for a thread that must not wait.
    ///
    /// # Errors
    /// Nobody listens, or the entry is too large for a datagram (some 200 KiB).
    pub fn send(&self, entry: &Entry) -> io::Result<()> {
        self.socket.send_to(&entry.0, &self.path).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_as_the_journal_reads_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let journal = Journal::at(&path).unwrap();
        let mut entry = Entry::default();
        entry.field("MESSAGE", "one line");
        entry.field("_pair-name", "two\nlines");
        entry.field("4", "no name");
        assert!(journal.send(&entry).is_err(), "nobody listens yet");
        let listening = UnixDatagram::bind(&path).unwrap();
        journal.send(&entry).unwrap();
        let mut buffer = [0; 100];
        let length = listening.recv(&mut buffer).unwrap();
        assert_eq!(
            &buffer[..length],
            b"MESSAGE=one line\nPAIR_NAME\n\x09\0\0\0\0\0\0\0two\nlines\n".as_slice()
        );
    }
}
