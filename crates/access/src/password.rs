//! Passwords: what is kept of them, and which are refused.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Fewest characters of a password.
pub const MIN_PASSWORD: usize = 12;
/// Most bytes of a password: what a hash costs grows with them.
pub const MAX_PASSWORD: usize = 256;

/// Memory of one hash, KiB; with [`PASSES`] as OWASP's password storage cheat sheet has it: about 20 ms of a core.
const MEMORY: u32 = 19 * 1_024;
/// Passes over the memory.
const PASSES: u32 = 2;
/// Most memory that a hash is checked with, KiB.
const MOST_MEMORY: u32 = 1 << 20;
/// Most passes that a hash is checked with.
const MOST_PASSES: u32 = 100;

/// Argon2id (RFC 9106) of a password, with its salt and what it was made with: a later release may make them otherwise.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasswordHash {
    /// KiB.
    memory: u32,
    passes: u32,
    salt: [u8; 16],
    hash: [u8; 32],
}

/// Why a password is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Too easy to guess.
    #[error("a password has at least {MIN_PASSWORD} characters")]
    Short,
    /// Too long to be hashed without being a burden.
    #[error("a password has at most {MAX_PASSWORD} bytes")]
    Long,
    /// Too easy to guess.
    #[error("a password is not the name, and not one character again and again")]
    Plain,
    /// The library refused; its parameters are constants, so nobody has seen this.
    #[error("the password cannot be hashed")]
    Hash,
}

impl PasswordHash {
    /// Hashes `password`, which is to be that of the user `name`. Takes about 20 ms: not for a thread that others wait for.
    ///
    /// # Errors
    /// [`PasswordError`].
    pub fn new(password: &str, name: &str, salt: [u8; 16]) -> Result<Self, PasswordError> {
        if password.len() > MAX_PASSWORD {
            return Err(PasswordError::Long);
        }
        if password.chars().count() < MIN_PASSWORD {
            return Err(PasswordError::Short);
        }
        let first = password.chars().next();
        if password.eq_ignore_ascii_case(name) || password.chars().all(|c| Some(c) == first) {
            return Err(PasswordError::Plain);
        }
        Self::made(password.as_bytes(), salt)
    }

    /// Whether `password` is the one. As costly as [`PasswordHash::new`].
    #[must_use]
    pub fn is_of(&self, password: &str) -> bool {
        let Self { memory, passes, salt, hash } = self;
        if password.len() > MAX_PASSWORD {
            return false;
        }
        let Ok(again) = argon2id(password.as_bytes(), salt, *memory, *passes) else { return false };
        // In a time that does not tell where they differ.
        again.iter().zip(hash).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
    }

    /// A hash that no password has and that costs as much to check as any: for names that do not exist, so that the time
    /// does not tell who does.
    ///
    /// # Errors
    /// [`PasswordError::Hash`].
    pub fn of_nobody(random: [u8; 32]) -> Result<Self, PasswordError> {
        let (password, salt) = random.split_at(16);
        Self::made(password, salt.try_into().map_err(|_| PasswordError::Hash)?)
    }

    fn made(password: &[u8], salt: [u8; 16]) -> Result<Self, PasswordError> {
        let (memory, passes) = (MEMORY, PASSES);
        Ok(Self { memory, passes, salt, hash: argon2id(password, &salt, memory, passes)? })
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(..)")
    }
}

fn argon2id(password: &[u8], salt: &[u8], memory: u32, passes: u32) -> Result<[u8; 32], PasswordError> {
    // What was kept may have been written by anybody: neither days nor all of the memory for a login.
    if memory > MOST_MEMORY || passes > MOST_PASSES {
        return Err(PasswordError::Hash);
    }
    let params = Params::new(memory, passes, 1, None).map_err(|_| PasswordError::Hash)?;
    let mut blocks = vec![Block::new(); params.block_count()];
    let mut hash = [0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(password, salt, &mut hash, &mut blocks)
        .map_err(|_| PasswordError::Hash)?;
    Ok(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_again_and_no_other() {
        let hash = PasswordHash::new("correct horse battery", "ann", [7; 16]).unwrap();
        assert!(hash.is_of("correct horse battery"));
        for other in ["correct horse battery ", "Correct horse battery", "", &"x".repeat(300)] {
            assert!(!hash.is_of(other), "{other:?}");
        }
        assert_eq!(format!("{hash:?}"), "PasswordHash(..)", "not in any log");
        let kept: PasswordHash = serde_json::from_str(&serde_json::to_string(&hash).unwrap()).unwrap();
        assert!(kept.is_of("correct horse battery"));
        let costly = PasswordHash { memory: u32::MAX, ..hash };
        assert!(!costly.is_of("correct horse battery"), "not even tried");
    }

    #[test]
    fn what_is_easily_guessed_is_refused() {
        let new = |password: &str| PasswordHash::new(password, "administrator", [7; 16]).unwrap_err();
        assert_eq!(new("elevenchars"), PasswordError::Short);
        assert_eq!(new("aaaaaaaaaaaaaaaa"), PasswordError::Plain);
        assert_eq!(new("Administrator"), PasswordError::Plain);
        assert_eq!(new(&"long".repeat(65)), PasswordError::Long);
    }

    #[test]
    fn nobody_has_no_password() {
        let hash = PasswordHash::of_nobody([9; 32]).unwrap();
        assert!(!hash.is_of("") && !hash.is_of("correct horse battery"));
    }
}
