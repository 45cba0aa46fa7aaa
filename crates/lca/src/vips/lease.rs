//! What a pair's lease has to do with its VIPs: without it none is announced, nor exposed where no gate stands; with it,
//! and without an SCS, what is missing is found.

use super::{Facts, Vip, Vips};
use domain::{Epoch, Micros, PairName, VipAddress, VipControl};

impl Vips {
    /// This host holds a pair's lease now: what is here is announced, what should be here and is not is put here.
    pub fn won(&mut self, pair: &PairName, now: Micros, out: &mut Facts) {
        self.held.insert(pair.clone());
        for address in self.of_pair(pair, |vip| vip.wanted) {
            self.restore(address, now, out);
            if let Some(vip) = self.vips.get(&address).filter(|vip| vip.present) {
                self.announcer.start(address, vip.interface.clone(), now);
            }
        }
    }

    /// This host holds a pair's lease as an earlier run of the agent did: its VIPs are to be found here.
    pub fn still_holds(&mut self, pair: &PairName) {
        if !self.held.contains(pair) {
            self.held.insert(pair.clone());
        }
    }

    /// Leases that have run out do not count any more, even before it is told that they were lost: after a stall, what
    /// happened meanwhile must not be judged by them.
    pub fn hold_only(&mut self, holds: impl Fn(&PairName) -> bool) {
        self.held.retain(holds);
    }

    /// This host holds a pair's lease no longer. Where no gate stands between the VIPs and the network (`exposed`), they
    /// go, and come back with the lease: those under built-in control at once; the others are returned, for their scripts to
    /// disable.
    #[must_use]
    pub fn lost(&mut self, pair: &PairName, exposed: bool, now: Micros, out: &mut Facts) -> Vec<VipAddress> {
        self.held.remove(pair);
        let mut by_script = Vec::new();
        for address in self.of_pair(pair, |_| true) {
            self.announcer.stop(&address);
            let Some(vip) = self.vips.get_mut(&address).filter(|_| exposed) else { continue };
            match vip.control {
                VipControl::BuiltIn if vip.present => {
                    let wanted = vip.wanted;
                    self.remove_or_say(address, "the lease ended", now, out);
                    if let Some(vip) = self.vips.get_mut(&address) {
                        vip.wanted = wanted;
                    }
                }
                VipControl::Script(_) if (vip.wanted || vip.present) && !vip.suspended => {
                    vip.suspended = true;
                    by_script.push(address);
                }
                VipControl::BuiltIn | VipControl::Script(_) => {}
            }
        }
        by_script
    }

    /// VIPs of a pair that were disabled by their scripts for the lease alone, and are to be here again with it.
    #[must_use]
    pub fn suspended(&self, pair: &PairName) -> Vec<VipAddress> {
        self.of_pair(pair, |vip| vip.wanted && vip.suspended)
    }

    /// VIPs of a pair that should be here if the role was `granted` here, and that nobody has enabled: an order to disable one
    /// counts until the next grant.
    #[must_use]
    pub fn missing(&self, pair: &PairName, granted: Epoch) -> Vec<VipAddress> {
        let disabled = |vip: &Vip| vip.kept_off.is_some_and(|by| by >= granted);
        self.of_pair(pair, |vip| !disabled(vip) && (vip.suspended || !vip.wanted))
    }

    /// Whether a VIP is under the built-in control.
    #[must_use]
    pub fn is_built_in(&self, address: &VipAddress) -> bool {
        self.vips.get(address).is_some_and(|vip| vip.control == VipControl::BuiltIn)
    }

    fn of_pair(&self, pair: &PairName, wanted: impl Fn(&Vip) -> bool) -> Vec<VipAddress> {
        let of_pair = self.vips.iter().filter(|(_, vip)| vip.pair == *pair && wanted(vip));
        of_pair.map(|(address, _)| *address).collect()
    }
}
