//! What belongs to what, looked up: an input costs the same however many pairs there are. And which pairs time alone may
//! change, in order.

use crate::state::State;
use domain::{AppName, Cluster, HostName, Micros, Pair, PairName, SolutionName, VipAddress};
use std::collections::{BTreeMap, BTreeSet};

/// The cluster, the other way round. Made anew with each configuration.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    pair_of: BTreeMap<AppName, PairName>,
    pair_with: BTreeMap<VipAddress, PairName>,
    pairs_on: BTreeMap<HostName, Vec<PairName>>,
    apps_on: BTreeMap<HostName, Vec<AppName>>,
    solution_of: BTreeMap<AppName, SolutionName>,
}

impl Index {
    pub fn of(cluster: &Cluster) -> Self {
        let mut index = Self::default();
        for (name, application) in &cluster.applications {
            index.apps_on.entry(application.host.clone()).or_default().push(name.clone());
        }
        for (name, pair) in &cluster.pairs {
            for vip in &pair.vips {
                index.pair_with.insert(vip.address, name.clone());
            }
            for app in &pair.members {
                index.pair_of.insert(app.clone(), name.clone());
            }
            let hosts: BTreeSet<_> = pair.members.iter().filter_map(|app| cluster.host_of(app)).collect();
            for host in hosts {
                index.pairs_on.entry(host.clone()).or_default().push(name.clone());
            }
        }
        for (name, solution) in &cluster.solutions {
            index.solution_of.extend(solution.applications.iter().map(|app| (app.clone(), name.clone())));
        }
        index
    }

    /// The solution that this application is a part of.
    pub fn solution_of(&self, app: &AppName) -> Option<&SolutionName> {
        self.solution_of.get(app)
    }

    /// The pair that has this VIP.
    pub fn pair_with(&self, vip: &VipAddress) -> Option<&PairName> {
        self.pair_with.get(vip)
    }

    /// The pairs with a member on this host.
    pub fn pairs_on(&self, host: &HostName) -> &[PairName] {
        self.pairs_on.get(host).map_or(&[], Vec::as_slice)
    }

    /// The applications of this host.
    pub fn apps_on(&self, host: &HostName) -> &[AppName] {
        self.apps_on.get(host).map_or(&[], Vec::as_slice)
    }
}

impl State {
    /// The pair that `app` is a member of.
    pub(crate) fn pair_of(&self, app: &AppName) -> Option<(&PairName, &Pair)> {
        self.cluster.pairs.get_key_value(self.index.pair_of.get(app)?)
    }
}

/// When time alone may change something about which pair.
#[derive(Debug, Clone, Default)]
pub(crate) struct Deadlines {
    of: BTreeMap<PairName, Micros>,
    in_order: BTreeSet<(Micros, PairName)>,
}

impl Deadlines {
    pub fn set(&mut self, pair: &PairName, at: Option<Micros>) {
        let before = self.of.get(pair).copied();
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.in_order.remove(&(before, pair.clone()));
            self.of.remove(pair);
        }
        if let Some(at) = at {
            self.in_order.insert((at, pair.clone()));
            self.of.insert(pair.clone(), at);
        }
    }

    pub fn is(&self, pair: &PairName, at: Option<Micros>) -> bool {
        self.of.get(pair).copied() == at
    }

    pub fn first(&self) -> Option<Micros> {
        self.in_order.first().map(|(at, _)| *at)
    }

    /// The pairs that are due.
    pub fn due(&self, now: Micros) -> impl Iterator<Item = &PairName> {
        self.in_order.iter().take_while(move |(at, _)| *at <= now).map(|(_, pair)| pair)
    }
}
