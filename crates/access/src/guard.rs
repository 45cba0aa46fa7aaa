//! Who guesses passwords is locked out: by the name that is guessed at, and by where the guesses come from. In memory only; a
//! restart gives [`FREE`] more guesses. Tokens and links are no matter of this: nobody guesses 256 bits, and one script with an
//! old token must not lock out all others on its host.

use domain::Micros;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// Wrong attempts that nothing follows from.
const FREE: u32 = 5;
/// How long one is locked out by the attempt after the last free one; each more doubles it.
const FIRST_LOCK: Duration = Duration::from_secs(10);
/// Longest lock.
const LONGEST_LOCK: Duration = Duration::from_secs(15 * 60);
/// After so long without a wrong attempt all are free again.
const FORGET: Duration = Duration::from_secs(3_600);
/// Names and sources remembered at most; beyond that, those longest without a wrong attempt are forgotten.
const REMEMBERED: usize = 4_096;
/// A source may be wrong more often than a name: many people may be behind one address.
const SOURCE_FREE: u32 = 20;

/// Locked out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many wrong attempts; try again in {} s", .left.as_secs() + 1)]
pub struct Locked {
    /// For how much longer.
    pub left: Duration,
}

/// Remembers wrong attempts.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    attempts: BTreeMap<Subject, Attempts>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Name(String),
    Source(IpAddr),
}

#[derive(Debug, Clone, Copy)]
struct Attempts {
    wrong: u32,
    last: Micros,
}

impl Guard {
    /// Whether an attempt at `name` from `source` is looked at at all. Those that are not are no attempts: somebody who is
    /// locked out is not kept out for longer by trying.
    ///
    /// # Errors
    /// [`Locked`].
    pub fn admit(&self, name: &str, source: IpAddr, now: Micros) -> Result<(), Locked> {
        let left = subjects(name, source)
            .filter_map(|subject| {
                let attempts = self.attempts.get(&subject)?;
                let until = attempts.last + lock(attempts.wrong, free(&subject));
                (now < until).then(|| until.since(now))
            })
            .max();
        left.map_or(Ok(()), |left| Err(Locked { left }))
    }

    /// An attempt was wrong.
    pub fn wrong(&mut self, name: &str, source: IpAddr, now: Micros) {
        self.attempts.retain(|_, attempts| now.since(attempts.last) < FORGET);
        for subject in subjects(name, source) {
            let attempts = self.attempts.entry(subject).or_insert(Attempts { wrong: 0, last: now });
            *attempts = Attempts { wrong: attempts.wrong.saturating_add(1), last: now };
        }
        while self.attempts.len() > REMEMBERED {
            let oldest = self
                .attempts
                .iter()
                .min_by_key(|(_, attempts)| attempts.last)
                .map(|(subject, _)| subject.clone());
            let Some(oldest) = oldest else { break };
            self.attempts.remove(&oldest);
        }
    }

    /// An attempt was right: the name's wrong ones are forgotten. Those of the source are not, or whoever has one account
    /// could guess at the others without end.
    pub fn right(&mut self, name: &str) {
        self.attempts.remove(&Subject::Name(name.to_owned()));
    }
}

fn subjects(name: &str, source: IpAddr) -> impl Iterator<Item = Subject> {
    // Whoever has a network of IPv6 has 2^64 addresses in it.
    let source = match source {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => IpAddr::V4(address),
            None => IpAddr::V6((u128::from(address) & (u128::MAX << 64)).into()),
        },
    };
    [Subject::Name(name.to_owned()), Subject::Source(source)].into_iter()
}

fn free(subject: &Subject) -> u32 {
    match subject {
        Subject::Name(_) => FREE,
        Subject::Source(_) => SOURCE_FREE,
    }
}

fn lock(wrong: u32, free: u32) -> Duration {
    match wrong.checked_sub(free) {
        None | Some(0) => Duration::ZERO,
        Some(over) => FIRST_LOCK.saturating_mul(1 << (over - 1).min(16)).min(LONGEST_LOCK),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn source(n: u32) -> IpAddr {
        IpAddr::V4((0xC000_0200 + n).into())
    }

    #[test]
    fn a_name_that_is_guessed_at_is_locked_for_longer_and_longer() {
        let mut guard = Guard::default();
        let now = Micros(0);
        for n in 0..FREE {
            assert_eq!(guard.admit("ann", source(n), now), Ok(()));
            guard.wrong("ann", source(n), now);
        }
        guard.wrong("ann", source(9), now);
        assert_eq!(guard.admit("ann", source(99), now).unwrap_err().left, FIRST_LOCK);
        assert_eq!(guard.admit("bob", source(9), now), Ok(()), "one wrong guess locks no source out");
        let later = Micros(10 * SECOND);
        assert_eq!(guard.admit("ann", source(99), later), Ok(()));
        guard.wrong("ann", source(99), later);
        assert_eq!(guard.admit("ann", source(99), later).unwrap_err().left, 2 * FIRST_LOCK);
        for _ in 0..100 {
            guard.wrong("ann", source(99), later);
        }
        assert_eq!(guard.admit("ann", source(98), later).unwrap_err().left, LONGEST_LOCK);
        guard.right("ann");
        assert_eq!(guard.admit("ann", source(98), later), Ok(()));
        assert!(
            guard.admit("ann", source(99), later).is_err(),
            "the source has guessed too often all the same"
        );
    }

    #[test]
    fn a_source_that_tries_many_names_is_locked_whatever_address_of_its_network_it_uses() {
        let mut guard = Guard::default();
        let address = |n: u64| IpAddr::V6((0x2001_0db8_0000_0001_u128 << 64 | u128::from(n)).into());
        for n in 0..=u64::from(SOURCE_FREE) {
            assert_eq!(guard.admit(&format!("user{n}"), address(n), Micros(0)), Ok(()));
            guard.wrong(&format!("user{n}"), address(n), Micros(0));
        }
        assert!(guard.admit("another", address(77), Micros(0)).is_err());
        assert_eq!(guard.admit("another", source(1), Micros(0)), Ok(()));
        let after = Micros(u64::try_from(FORGET.as_micros()).unwrap());
        guard.wrong("x", source(2), after);
        assert_eq!(guard.admit("another", address(77), after), Ok(()), "forgotten");
    }

    #[test]
    fn memory_is_bounded() {
        let mut guard = Guard::default();
        for n in 0..10_000_u32 {
            guard.wrong(&format!("user{n}"), source(n), Micros(u64::from(n)));
        }
        assert!(guard.attempts.len() <= REMEMBERED);
        assert!(guard.attempts.contains_key(&Subject::Name("user9999".to_owned())), "the newest are kept");
    }
}
