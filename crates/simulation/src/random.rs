//! The only source of chance in the world: numbers from a seed.

use std::ops::RangeInclusive;

/// SplitMix64: small, good enough, and the same everywhere.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// The numbers of `stream` for this seed. What is drawn from one stream changes nothing in another, so that a fault
    /// left out of a history leaves the network's whims as they were.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut random = Self(seed ^ stream.wrapping_mul(0xd6e8_feb8_6659_fd93));
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`, which is not zero.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// One of these.
    pub(crate) fn between(&mut self, range: RangeInclusive<u64>) -> u64 {
        range.start() + self.below(range.end() - range.start() + 1)
    }

    /// True `n` times in 1,000.
    pub(crate) fn per_mille(&mut self, n: u64) -> bool {
        n > 0 && self.below(1_000) < n
    }

    /// One of these.
    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[usize::try_from(self.below(of.len() as u64)).expect("an index")]
    }

    /// Short much more often than long: a length whose number of digits is drawn first.
    pub(crate) fn duration_us(&mut self, range: RangeInclusive<u64>) -> u64 {
        let (least, most) = (*range.start(), *range.end());
        let doublings = u64::from((most / least.max(1)).max(1).ilog2());
        let scale = least << self.between(0..=doublings);
        self.between(least..=(scale * 2).min(most))
    }
}
