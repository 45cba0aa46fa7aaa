//! Secrets that nobody can guess, and what is kept of them.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::str::FromStr;

/// Bytes of a secret.
const LENGTH: usize = 32;

/// 256 random bits, written as 64 hexadecimal digits. Its `Debug` form does not tell it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; LENGTH]);

/// What is kept of a secret: its SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; LENGTH]);

/// Not 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("that is no secret of this program: it has 64 hexadecimal digits")]
pub struct SecretError;

impl Secret {
    /// From random bytes.
    #[must_use]
    pub const fn new(random: [u8; LENGTH]) -> Self {
        Self(random)
    }

    /// What is kept of it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest(Sha256::digest(self.0).into())
    }

    /// Another secret that whoever has this one can be told, and that nobody can make who has not: for the value that a page
    /// must send along with its orders. `label` tells one use from the other.
    #[must_use]
    pub fn derived(&self, label: &str) -> Secret {
        let mut hash = Sha256::new();
        hash.update(label.as_bytes());
        hash.update(self.0);
        Secret(hash.finalize().into())
    }

    /// As it is shown, once, to whoever it is for.
    #[must_use]
    pub fn reveal(&self) -> String {
        hex(&self.0)
    }

    /// Whether they are the same, in a time that does not tell where they differ.
    #[must_use]
    pub fn same_as(&self, other: &Secret) -> bool {
        self.0.iter().zip(other.0).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl FromStr for Secret {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        bytes(text).map(Self)
    }
}

impl TryFrom<String> for Digest {
    type Error = SecretError;

    fn try_from(text: String) -> Result<Self, SecretError> {
        bytes(&text).map(Self)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        hex(&digest.0)
    }
}

fn hex(bytes: &[u8; LENGTH]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(text: &str) -> Result<[u8; LENGTH], SecretError> {
    let digits = text.as_bytes();
    if digits.len() != 2 * LENGTH {
        return Err(SecretError);
    }
    let digit = |byte: u8| {
        char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok()).ok_or(SecretError)
    };
    let mut out = [0; LENGTH];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Ok(out)
}
