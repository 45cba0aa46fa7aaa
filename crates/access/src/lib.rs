//! Who may use the Solution Control Interface: users with roles and passwords, sessions of browsers, tokens of programs, one-time
//! links, and who is locked out for having guessed. Pure: time and randomness come in as arguments, and the whole is a value that
//! whoever owns it keeps.
//!
//! Secrets (links, sessions, tokens) are 256 random bits that are shown once; only their SHA-256 is kept, which is enough for
//! secrets that nobody can guess. Passwords, which people choose, are kept as Argon2id hashes.

mod accounts;
mod guard;
mod password;
mod role;
mod secret;

pub use accounts::{
    Accounts, Grant, Link, MAX_LINKS, MAX_SESSIONS, MAX_TOKENS, MAX_USERS, Refusal, Session, Token, TokenId,
    User, Vouched,
};
pub use guard::{Guard, Locked};
pub use password::{MAX_PASSWORD, MIN_PASSWORD, PasswordError, PasswordHash};
pub use role::Role;
pub use secret::{Digest, Secret, SecretError};

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Longest name of a user or a token, bytes.
pub const MAX_NAME: usize = 64;

/// Name of a user or a token: 1 to [`MAX_NAME`] of `a-z A-Z 0-9 . _ @ -`, the first of them no dot and no hyphen. Its capital
/// letters count: `Ann` and `ann` are two.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("maxLength" = MAX_NAME, "pattern" = "^[A-Za-z0-9_@][A-Za-z0-9._@-]*$"))]
pub struct Name(String);

/// Why a text is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a name has 1 to {MAX_NAME} letters, digits and . _ @ - and begins with none of . and -")]
pub struct NameError;

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '@' | '-');
        if text.is_empty() || text.len() > MAX_NAME || text.starts_with(['.', '-']) || !text.chars().all(fits)
        {
            return Err(NameError);
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
