//! How long the kernel keeps an address that nobody renews.

use std::num::NonZeroU32;

/// How long the kernel keeps an address by itself (its `valid_lft`, see ip-address(8)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// Until somebody removes it.
    Permanent,
    /// For this many seconds, and up to two more: the kernel looks through its addresses about once per second.
    Seconds(NonZeroU32),
}

impl Validity {
    /// As the kernel wants it (`struct ifa_cacheinfo`): all bits set is for ever.
    pub(crate) fn seconds(self) -> u32 {
        match self {
            Validity::Permanent => u32::MAX,
            Validity::Seconds(seconds) => seconds.get(),
        }
    }
}
