//! Who sends how much: a bucket of tokens for each source, and silence for those who only try.
//!
//! An IPv4 address is a source, and a network of 64 bits of IPv6. The memory of sources is bounded; of too many, the one that
//! was heard longest ago is forgotten.

use domain::{Micros, SipLimits};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// Most sources that are remembered.
const MOST: usize = 65_536;
/// Tokens are counted in thousandths.
const TOKEN: u64 = 1_000;
/// What a refused request weighs.
pub(crate) const REFUSAL: u32 = 10;
/// What a challenged one weighs: all that is honest is challenged once, and a company behind one address that comes back all
/// at once many times before the first proof. Who never proves anything is a scanner nevertheless.
pub(crate) const CHALLENGE: u32 = 1;

/// What is to be done with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Serve it.
    Serve,
    /// Not answer it.
    Ignore,
}

#[derive(Debug)]
struct Source {
    tokens: u64,
    /// When tokens were last added.
    filled: Micros,
    /// When it was last heard; its entry in the index.
    heard: Micros,
    /// Weight of what was refused since somebody there was last known.
    refused: u32,
    silent_until: Micros,
    /// Until then somebody is there whom we know: it is not silenced.
    known_until: Micros,
}

/// All sources that were heard lately.
#[derive(Debug)]
pub(crate) struct Sources {
    limits: SipLimits,
    sources: BTreeMap<IpAddr, Source>,
    by_time: BTreeSet<(Micros, IpAddr)>,
}

impl Sources {
    pub(crate) fn new(limits: SipLimits) -> Self {
        Self { limits, sources: BTreeMap::new(), by_time: BTreeSet::new() }
    }

    /// Other limits count from now on.
    pub(crate) fn configure(&mut self, limits: SipLimits) {
        self.limits = limits;
    }

    /// A request outside of dialogs came.
    pub(crate) fn admit(&mut self, from: IpAddr, now: Micros) -> Admission {
        let full = u64::from(self.limits.source_burst) * TOKEN;
        let per_s = u64::from(self.limits.source_per_s);
        let source = self.source(from, now, full);
        let passed_us = u64::try_from(now.since(source.filled).as_micros()).unwrap_or(u64::MAX);
        // Thousandths a microsecond: tokens per second, divided by a thousand.
        source.tokens = full.min(source.tokens.saturating_add(passed_us.saturating_mul(per_s) / TOKEN));
        source.filled = now;
        if source.silent_until > now || source.tokens < TOKEN {
            return Admission::Ignore;
        }
        source.tokens -= TOKEN;
        Admission::Serve
    }

    /// A request of the source was refused. True: it is silenced now.
    pub(crate) fn refused(&mut self, from: IpAddr, weight: u32, now: Micros) -> bool {
        let (most, silence) = (self.limits.refusals.saturating_mul(REFUSAL), self.limits.silence);
        let full = u64::from(self.limits.source_burst) * TOKEN;
        let source = self.source(from, now, full);
        if source.known_until > now {
            return false;
        }
        source.refused = source.refused.saturating_add(weight);
        if source.refused < most || source.silent_until > now {
            return false;
        }
        source.refused = 0;
        source.silent_until = now + silence;
        true
    }

    /// Somebody is there who has proved who they are, and is remembered for so long.
    pub(crate) fn known(&mut self, from: IpAddr, lasts: Duration, now: Micros) {
        let full = u64::from(self.limits.source_burst) * TOKEN;
        let source = self.source(from, now, full);
        source.refused = 0;
        source.known_until = now + lasts;
    }

    fn source(&mut self, from: IpAddr, now: Micros, full: u64) -> &mut Source {
        let from = network(from);
        if !self.sources.contains_key(&from)
            && self.sources.len() >= MOST
            && let Some((_, oldest)) = self.by_time.pop_first()
        {
            self.sources.remove(&oldest);
        }
        let never = Micros(0);
        let (silent_until, known_until) = (never, never);
        let fresh = Source { tokens: full, filled: now, heard: now, refused: 0, silent_until, known_until };
        let source = self.sources.entry(from).or_insert(fresh);
        self.by_time.remove(&(source.heard, from));
        source.heard = now;
        self.by_time.insert((now, from));
        source
    }
}

/// The part of an address that stands for a source.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits() -> SipLimits {
        SipLimits {
            source_per_s: 10,
            source_burst: 20,
            refusals: 3,
            silence: 60 * SECOND,
            ..SipLimits::default()
        }
    }

    fn served(sources: &mut Sources, from: &str, times: usize, now: Micros) -> usize {
        let from = from.parse().unwrap();
        (0..times).filter(|_| sources.admit(from, now) == Admission::Serve).count()
    }

    #[test]
    fn a_burst_and_then_a_rate() {
        let mut sources = Sources::new(limits());
        let now = Micros(1_000_000);
        assert_eq!(served(&mut sources, "192.0.2.1", 100, now), 20);
        assert_eq!(served(&mut sources, "192.0.2.2", 5, now), 5, "another's requests are not counted");
        assert_eq!(served(&mut sources, "192.0.2.1", 100, now + SECOND), 10);
        assert_eq!(served(&mut sources, "192.0.2.1", 100, now + 60 * SECOND), 20);
    }

    #[test]
    fn a_network_of_ipv6_is_one_source() {
        let mut sources = Sources::new(limits());
        assert_eq!(served(&mut sources, "2001:db8::1", 15, Micros(1)), 15);
        assert_eq!(served(&mut sources, "2001:db8::2", 15, Micros(1)), 5);
    }

    #[test]
    fn who_only_tries_is_silenced_and_who_is_known_is_not() {
        let mut sources = Sources::new(limits());
        let (from, now) = ("192.0.2.1".parse().unwrap(), Micros(1_000_000));
        for told in [false, false, true] {
            assert_eq!(sources.refused(from, REFUSAL, now), told);
        }
        assert_eq!(sources.admit(from, now), Admission::Ignore);
        assert_eq!(sources.admit(from, now + 60 * SECOND), Admission::Serve);
        sources.known(from, 100 * SECOND, now + 61 * SECOND);
        for _ in 0..10 {
            assert!(!sources.refused(from, REFUSAL, now + 62 * SECOND));
        }
        assert_eq!(sources.admit(from, now + 62 * SECOND), Admission::Serve);
        let later = now + 200 * SECOND;
        assert_eq!([0; 3].map(|_| sources.refused(from, REFUSAL, later)), [false, false, true]);
    }

    #[test]
    fn who_never_proves_anything_is_silenced_too() {
        let mut sources = Sources::new(limits());
        let from = "192.0.2.1".parse().unwrap();
        let told = (1..100).find(|_| sources.refused(from, CHALLENGE, Micros(1)));
        assert_eq!(told, Some(30));
    }

    #[test]
    fn memory_is_bounded() {
        let mut sources = Sources::new(limits());
        for n in 0..u32::try_from(MOST).unwrap() + 100 {
            sources.admit(IpAddr::V4(n.into()), Micros(u64::from(n)));
        }
        assert_eq!((sources.sources.len(), sources.by_time.len()), (MOST, MOST));
    }
}
