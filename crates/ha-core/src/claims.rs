//! VIPs that the configuration gives to other hosts, or to another pair, than before. Who had them may not have heard of
//! it and still answer for them, so such a VIP is withheld: it is in no pair that agents are told of, until it is certain that
//! nobody holds it as before, or an operator says that the hosts are switched off.
//!
//! What is certain when. Holding takes two of three promises, and the SCS gives none any more that follow from the old
//! configuration. Where the pair is gone, or one of its hosts is another now, a host that has taken the new configuration
//! gives none either: the other cannot hold for longer than the last promise counts. Where the pair goes on with the same
//! hosts, and has lost the VIP only, promises go on, and either of them may hold with the old list of VIPs: both have to
//! have taken the new configuration.
//!
//! A claim that one of them has ended is kept, withholding nothing, until the other has heard as well: where the pair comes back
//! meanwhile, promises are given in its name again, also to the one that still has the old list.

use crate::Action;
use crate::state::State;
use domain::{Cluster, HostName, LogEvent, Micros, Pair, PairName, VipAddress, events};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Most claims that are kept for a host that has not heard and may never come back; the oldest go first.
const MOST_ENDED: usize = 10_000;

/// What a pair's lease was about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ground {
    pub pair: PairName,
    /// The members' hosts.
    pub hosts: [HostName; 2],
    pub vips: BTreeSet<IpAddr>,
    /// The longest promise that may be out.
    pub promise: Duration,
}

/// A VIP that two hosts had in a configuration before this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The address.
    pub vip: IpAddr,
    /// The pair that had it.
    pub pair: PairName,
    /// The hosts of its members then.
    pub hosts: [HostName; 2],
    /// The longest promise on its lease that may have been out, microseconds.
    pub promise_us: u64,
    /// Since when this SCS knows: who connects later is told the new configuration.
    #[serde(skip)]
    since: Micros,
    /// Which of the hosts have taken the new configuration.
    #[serde(skip)]
    told: [bool; 2],
    /// When nobody can hold it any more.
    #[serde(skip)]
    over_at: Option<Micros>,
    /// Nobody can, as long as the pair does not come back.
    #[serde(default)]
    ended: bool,
}

impl Claim {
    fn promise(&self) -> Duration {
        Duration::from_micros(self.promise_us)
    }

    /// Whether the pair goes on with the same hosts.
    fn goes_on(&self, cluster: &Cluster) -> bool {
        let pair = cluster.pairs.get(&self.pair);
        pair.and_then(|pair| hosts_of(cluster, pair)).is_some_and(|hosts| same(&hosts, &self.hosts))
    }

    /// Whether the VIP is where it was before.
    fn is_void(&self, cluster: &Cluster) -> bool {
        self.goes_on(cluster) && cluster.pairs[&self.pair].vips.iter().any(|v| v.address.address == self.vip)
    }

    /// Why the VIP is withheld from pair `to`, and what to do.
    fn why(&self, to: &PairName, cluster: &Cluster) -> String {
        let Self { vip, pair, hosts: [first, second], .. } = self;
        let who =
            if self.goes_on(cluster) { "the agents of both have" } else { "the agent of one of them has" };
        format!(
            "{vip} is withheld: {first} and {second} had it in pair {pair} and may still answer for it, until {who} \
             connected; if that cannot be, switch them off and `takeover acknowledge {to}`"
        )
    }
}

impl State {
    /// What the leases of all pairs are about.
    pub(crate) fn grounds(&self) -> impl Iterator<Item = Ground> {
        self.cluster.pairs.iter().filter_map(|(name, pair)| {
            let vips = pair.vips.iter().map(|vip| vip.address.address).collect();
            let promise = self.pairs.get(name)?.promised.longest();
            Some(Ground { pair: name.clone(), hosts: hosts_of(&self.cluster, pair)?, vips, promise })
        })
    }

    /// Takes in what pairs had before the configuration of the file; `old` is the one before it.
    pub(crate) fn claim(&mut self, before: impl IntoIterator<Item = Ground>, old: &Cluster, now: Micros) {
        for claim in &mut self.claims {
            match (claim.goes_on(old), claim.goes_on(&self.file)) {
                (true, true) | (false, false) => {}
                // Who had taken the list without the VIP gave promises all the same, and does until it hears of this.
                (true, false) => (claim.since, claim.told, claim.over_at) = (now, [false; 2], None),
                // Promises are given again, also to one that has not heard.
                (false, true) => (claim.over_at, claim.ended) = (None, false),
            }
        }
        for Ground { pair, hosts, vips, promise } in before {
            let promise_us = u64::try_from(promise.as_micros()).unwrap_or(u64::MAX);
            for vip in vips {
                let (pair, hosts) = (pair.clone(), hosts.clone());
                let claim = Claim {
                    vip,
                    pair,
                    hosts,
                    promise_us,
                    since: now,
                    told: [false; 2],
                    over_at: None,
                    ended: false,
                };
                let known = |c: &Claim| c.vip == vip && c.pair == claim.pair && same(&c.hosts, &claim.hosts);
                if !self.claims.iter().any(known) {
                    self.claims.push(claim);
                }
            }
        }
        let (void, claims) =
            std::mem::take(&mut self.claims).into_iter().partition(|claim| claim.is_void(&self.file));
        self.claims = claims;
        let void: Vec<Claim> = void;
        for claim in void {
            // It may have been away for a while: the SCS's promises of before still count.
            if let Some(state) = self.pairs.get_mut(&claim.pair) {
                state.promised.before(claim.promise(), now);
            }
        }
    }

    /// Goes on with the claims of the run before.
    pub(crate) fn restore_claims(&mut self, claims: Vec<Claim>, before: Vec<Ground>, now: Micros) {
        self.claims = claims.into_iter().map(|claim| Claim { since: now, ..claim }).collect();
        let file = Arc::clone(&self.file);
        self.claim(before, &file, now);
        if !self.claims.is_empty() {
            self.put_in_force();
        }
    }

    /// The configuration of the file without the VIPs that are withheld.
    pub(crate) fn without_withheld(&self) -> Cluster {
        let mut cluster = Cluster::clone(&self.file);
        for (name, vips) in self.withheld_now() {
            if let Some(pair) = cluster.pairs.get_mut(&name) {
                pair.vips.retain(|vip| !vips.contains(&vip.address));
            }
        }
        cluster
    }

    /// Ends claims that nobody can have any more, and tells of VIPs that are withheld, or no longer.
    pub(crate) fn see_to_claims(&mut self, now: Micros, out: &mut Vec<Action>) {
        if self.claims.is_empty() && self.withheld.is_empty() {
            return;
        }
        for claim in &mut self.claims {
            for (told, host) in claim.told.iter_mut().zip(&claim.hosts) {
                *told |= self
                    .hosts
                    .get(host)
                    .is_some_and(|h| h.usable() && h.since.max(h.assigned) >= claim.since);
            }
            let enough =
                if claim.goes_on(&self.file) { claim.told == [true; 2] } else { claim.told != [false; 2] };
            if enough && claim.over_at.is_none() && !claim.ended {
                claim.over_at = Some(now + claim.promise());
            }
        }
        let mut changed = false;
        for claim in self.claims.iter_mut().filter(|claim| claim.over_at.is_some_and(|at| at <= now)) {
            changed |= !std::mem::replace(&mut claim.ended, true);
            claim.over_at = None;
        }
        let before = self.claims.len();
        self.claims.retain(|claim| !(claim.ended && claim.told == [true; 2]));
        let mut too_many = self.claims.iter().filter(|claim| claim.ended).count().saturating_sub(MOST_ENDED);
        self.claims.retain(|claim| {
            let goes = claim.ended && too_many > 0;
            too_many -= usize::from(goes);
            !goes
        });
        self.changed |= changed || self.claims.len() != before;
        let withheld = self.withheld_now();
        if withheld == self.withheld {
            return;
        }
        let before = std::mem::replace(&mut self.withheld, withheld);
        self.put_in_force();
        let names: BTreeSet<PairName> = before.keys().chain(self.withheld.keys()).cloned().collect();
        for name in names {
            self.tell_withheld(&name, before.contains_key(&name), now, out);
        }
    }

    fn tell_withheld(&mut self, name: &PairName, before: bool, now: Micros, out: &mut Vec<Action>) {
        let Some(pair) = self.cluster.pairs.get(name) else { return };
        let event = match (self.why_withheld(name).next(), before) {
            (Some(why), false) => LogEvent::new(events::VIP_WITHHELD, now).because(format!("{name}: {why}")),
            (None, true) => LogEvent::new(events::VIP_RETURNED, now).because(name),
            (Some(_), true) | (None, false) => return,
        };
        let event = event.with("pair", name).of(&pair.members[0]);
        for host in pair.members.iter().filter(|app| self.reachable(app)).filter_map(|app| self.host_of(app))
        {
            out.push(Action::Assign(host.clone()));
        }
        self.log(event, out);
    }

    /// Why VIPs of a pair are withheld, a sentence for each claim.
    pub(crate) fn why_withheld<'s>(&'s self, name: &'s PairName) -> impl Iterator<Item = String> + 's {
        let vips: BTreeSet<IpAddr> =
            self.withheld.get(name).into_iter().flatten().map(|vip| vip.address).collect();
        let claims = self.claims.iter().filter(move |claim| !claim.ended && vips.contains(&claim.vip));
        claims.map(|claim| claim.why(name, &self.file))
    }

    /// An operator says that whoever had the withheld VIPs of this pair is switched off. Returns which hosts these are; none:
    /// nothing is withheld.
    pub(crate) fn end_claims(&mut self, name: &PairName) -> Option<String> {
        let vips = self.withheld.get(name)?;
        let (ended, claims): (Vec<Claim>, Vec<Claim>) = std::mem::take(&mut self.claims)
            .into_iter()
            .partition(|claim| vips.iter().any(|vip| vip.address == claim.vip));
        self.claims = claims;
        let hosts: BTreeSet<&str> =
            ended.iter().flat_map(|claim| &claim.hosts).map(HostName::as_str).collect();
        Some(hosts.into_iter().collect::<Vec<_>>().join(", "))
    }

    /// When time alone ends a claim.
    pub(crate) fn claim_deadline(&self) -> Option<Micros> {
        self.claims.iter().filter_map(|claim| claim.over_at).min()
    }

    fn withheld_now(&self) -> BTreeMap<PairName, BTreeSet<VipAddress>> {
        let mut withheld: BTreeMap<PairName, BTreeSet<VipAddress>> = BTreeMap::new();
        let claimed: BTreeSet<IpAddr> =
            self.claims.iter().filter(|claim| !claim.ended).map(|claim| claim.vip).collect();
        for (name, pair) in &self.file.pairs {
            let vips: BTreeSet<_> = pair
                .vips
                .iter()
                .map(|vip| vip.address)
                .filter(|vip| claimed.contains(&vip.address))
                .collect();
            if !vips.is_empty() {
                withheld.insert(name.clone(), vips);
            }
        }
        withheld
    }
}

fn hosts_of(cluster: &Cluster, pair: &Pair) -> Option<[HostName; 2]> {
    let [first, second] = &pair.members;
    Some([cluster.host_of(first)?.clone(), cluster.host_of(second)?.clone()])
}

/// Whether it is the same two: votes are theirs, whichever of them is called first.
fn same(one: &[HostName; 2], other: &[HostName; 2]) -> bool {
    let [first, second] = one;
    other == one || *other == [second.clone(), first.clone()]
}
