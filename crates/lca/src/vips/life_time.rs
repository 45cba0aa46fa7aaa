//! How long VIPs under the built-in control stay by themselves: as second layer behind the gate, and the first where there
//! is none, the kernel removes an address that this agent has stopped renewing, and it is renewed only while the lease
//! is held.

use super::{Facts, Vips};
use domain::{Micros, Profile, VipAddress, VipControl, events};
use std::num::NonZeroU32;
use std::ops::Bound;
use std::time::Duration;
use vip_control::{Refreshed, Validity};

/// How long an address stays that is not renewed, unless a lease may be longer.
const SHORTEST: Duration = Duration::from_secs(10);
/// Time between renewals: two may fail.
const EVERY: Duration = Duration::from_secs(3);
/// Addresses renewed in one go: some 0.1 ms, so that a host with hundreds of VIPs renews its leases in between.
const AT_ONCE: usize = 16;

/// When and with which VIP renewing goes on.
#[derive(Debug, Default)]
pub(super) struct Renewals {
    at: Micros,
    from: Option<VipAddress>,
}

/// What is known of an address's life time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LifeTime {
    /// Limited by this agent: it can be renewed.
    Limited,
    /// Found here, or put here by another tool.
    Unknown,
    /// It could not be limited, which was said.
    Refused,
}

impl Renewals {
    /// Renews all from now on.
    pub(super) fn begin(&mut self, now: Micros) {
        (self.at, self.from) = (now, None);
    }
}

/// How long an address of a pair with this profile stays: longer than the lease, which outlives an agent that crashed.
pub(super) fn validity(profile: Profile) -> Validity {
    let longest = SHORTEST.max(profile.silence() + Duration::from_secs(1));
    let seconds = u32::try_from(longest.as_secs()).ok().and_then(NonZeroU32::new);
    seconds.map_or(Validity::Permanent, Validity::Seconds)
}

impl Vips {
    /// When [`Vips::renew`] is due next.
    pub(super) fn renewal_due(&self) -> Option<Micros> {
        // Without the rights nothing is renewed, and a time that never moves on would be due for ever.
        (self.tools.is_ok() && !self.held.is_empty()).then_some(self.renewals.at)
    }

    /// Renews the addresses of the VIPs whose lease is held, some at a time.
    pub(super) fn renew(&mut self, now: Micros, out: &mut Facts) {
        let Ok(tools) = &mut self.tools else { return };
        if self.held.is_empty() || now < self.renewals.at {
            return;
        }
        let from = self.renewals.from.take().map_or(Bound::Unbounded, Bound::Included);
        let mut renewed = self.vips.range_mut((from, Bound::Unbounded)).filter(|(_, vip)| {
            vip.wanted && vip.present && vip.control == VipControl::BuiltIn && self.held.contains(&vip.pair)
        });
        let mut gone = Vec::new();
        for (address, vip) in renewed.by_ref().take(AT_ONCE) {
            let done = match vip.life_time {
                LifeTime::Limited => tools.controller.refresh(address, &vip.interface, vip.valid),
                LifeTime::Unknown | LifeTime::Refused => {
                    tools.controller.bound(address, &vip.interface, vip.valid).map(|_| Refreshed::Now)
                }
            };
            vip.life_time = match done {
                Ok(Refreshed::Now) => LifeTime::Limited,
                Ok(Refreshed::Gone) => {
                    gone.push(*address);
                    LifeTime::Unknown
                }
                Err(e) => {
                    if vip.life_time != LifeTime::Refused {
                        self.say
                            .warning(format_args!("{address} may outlive this agent on its interface: {e}"));
                    }
                    LifeTime::Refused
                }
            };
        }
        self.renewals.from = renewed.next().map(|(address, _)| *address);
        if self.renewals.from.is_none() {
            self.renewals.at = now + EVERY;
        }
        for address in gone {
            self.look_at(address, now, out);
        }
    }

    /// The lease was won: what ended with an earlier one is here again. No other tool is to blame for its absence.
    pub(super) fn restore(&mut self, address: VipAddress, now: Micros, out: &mut Facts) {
        let (Ok(tools), Some(vip)) = (&mut self.tools, self.vips.get_mut(&address)) else { return };
        let absent = tools.controller.present(&address, &vip.interface).is_ok_and(|present| !present);
        if !absent || vip.control != VipControl::BuiltIn {
            return self.look_at(address, now, out);
        }
        match super::judge(tools.controller.enable(&address, &vip.interface, vip.valid)) {
            Ok(_) => {
                vip.life_time = LifeTime::Limited;
                vip.try_again = None;
                let why = "the lease was won again";
                vip.now_present(true, &address, why, out);
                out.push(vip.event(events::VIP_ENABLED, &address, &self.host, now, why));
            }
            Err(_) => self.look_at(address, now, out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::say::Say;
    use domain::{HostName, PairName};

    #[test]
    fn without_the_rights_nothing_is_due_for_ever() {
        let (say, host) = (Say::start().unwrap(), HostName::new("host1").unwrap());
        let mut vips = Vips::open(&host, &say, 0);
        vips.tools = Err("no rights".to_owned());
        let (now, mut out) = (Micros(1_000_000), Facts::new());
        vips.won(&PairName::new("pair").unwrap(), now, &mut out);
        vips.time_passed(now, &mut out);
        assert!(vips.next_deadline().is_none_or(|at| at > now));
    }
}
