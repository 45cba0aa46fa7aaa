//! Mutations from a seed, for tests that have no fuzzer around them.

/// Numbers from a seed (xorshift64).
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// Changes a few bytes, preferring those that mean something in SIP, or cuts a piece out or puts it in again.
#[must_use]
pub fn mutate(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    const MEANINGFUL: &[u8] = b"\r\n\t \0\"\\<>;:,=?@[]%*/0129aZ\xff";
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(6) {
        if bytes.is_empty() {
            break;
        }
        let (at, end) = (random.below(bytes.len()), random.below(bytes.len()));
        match random.below(4) {
            0 => bytes[at] = random.below(256) as u8,
            1 => bytes[at] = MEANINGFUL[random.below(MEANINGFUL.len())],
            2 => bytes.insert(at, MEANINGFUL[random.below(MEANINGFUL.len())]),
            _ if at < end && end - at < bytes.len() => drop(bytes.drain(at..end.min(at + 40))),
            _ => bytes.extend_from_within(end..at.min(end + 40).max(end)),
        }
    }
    bytes
}
