//! What the network says about a VIP: who answers when a host that does not hold it asks, as a client would.

use crate::{InterfaceName, MacAddress, Micros, VipAddress};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Holders named in one sighting. Two are trouble already; more than this are not told apart.
pub const MOST_HOLDERS: usize = 8;

/// The answers to one inquiry: who has a VIP, seen from outside by a host that does not hold it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VipSighting {
    /// The VIP.
    pub vip: VipAddress,
    /// The observer's interface on which it was asked.
    pub interface: InterfaceName,
    /// When it was asked first. All answers came later.
    pub asked: Micros,
    /// Who answered, each once, in the order of their first answers; at most [`MOST_HOLDERS`]. Empty: nobody.
    pub holders: Vec<SeenHolder>,
}

/// A machine that answered for a VIP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenHolder {
    /// Its Ethernet address, as it gave it.
    pub mac: MacAddress,
    /// When its first answer was read.
    pub at: Micros,
}

impl VipSighting {
    /// Whether exactly one machine answered.
    #[must_use]
    pub fn is_normal(&self) -> bool {
        self.holders.len() == 1
    }

    /// Whether the same machines answered, in whatever order.
    #[must_use]
    pub fn same_holders(&self, other: &VipSighting) -> bool {
        let known = |mac| other.holders.iter().any(|holder| holder.mac == mac);
        self.holders.len() == other.holders.len() && self.holders.iter().all(|holder| known(holder.mac))
    }
}

impl fmt::Display for VipSighting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, others)) = self.holders.split_first() else {
            return write!(f, "nobody answers for {}", self.vip.address);
        };
        write!(f, "{}", first.mac)?;
        for other in others {
            write!(f, " and {}", other.mac)?;
        }
        let verb = if others.is_empty() { "answers" } else { "answer" };
        write!(f, " {verb} for {}", self.vip.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sighting(macs: &[u8]) -> VipSighting {
        let holders = macs.iter().map(|n| SeenHolder { mac: MacAddress([2, 0, 0, 0, 0, *n]), at: Micros(1) });
        VipSighting {
            vip: "192.0.2.10/24".parse().unwrap(),
            interface: "eth0".parse().unwrap(),
            asked: Micros(0),
            holders: holders.collect(),
        }
    }

    #[test]
    fn the_order_of_answers_is_no_difference() {
        assert!(sighting(&[1, 2]).same_holders(&sighting(&[2, 1])));
        assert!(!sighting(&[1]).same_holders(&sighting(&[2])));
        assert!(!sighting(&[1]).same_holders(&sighting(&[1, 2])));
        assert!(sighting(&[1]).is_normal() && !sighting(&[]).is_normal() && !sighting(&[1, 2]).is_normal());
    }

    #[test]
    fn a_sighting_reads_as_a_sentence() {
        assert_eq!(sighting(&[]).to_string(), "nobody answers for 192.0.2.10");
        assert_eq!(sighting(&[1]).to_string(), "02:00:00:00:00:01 answers for 192.0.2.10");
        let two = "02:00:00:00:00:01 and 02:00:00:00:00:02 answer for 192.0.2.10";
        assert_eq!(sighting(&[1, 2]).to_string(), two);
    }
}
