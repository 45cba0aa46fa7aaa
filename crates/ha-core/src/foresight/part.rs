//! The state of one pair by itself: small enough to be copied for each fault, whatever else the installation has.

use crate::Drills;
use crate::index::{Deadlines, Index};
use crate::sightings::Observer;
use crate::state::{PairState, State};
use alarms::Source;
use domain::{Cluster, DetectSource, HostName, Pair, PairName};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

impl State {
    /// All that is known of one pair: its members, their hosts, its VIPs. None where there is no such pair.
    #[must_use]
    pub fn part_for(&self, name: &PairName) -> Option<State> {
        let pair = self.cluster.pairs.get(name)?;
        let cluster = Arc::new(cluster_of(&self.cluster, name, pair));
        let vips: BTreeSet<_> = pair.vips.iter().map(|vip| vip.address).collect();
        let has_host = |host: &HostName| cluster.hosts.contains_key(host);
        Some(State {
            file: Arc::clone(&cluster),
            claims: Vec::new(),
            withheld: BTreeMap::new(),
            index: Index::of(&cluster),
            started_at: self.started_at,
            hosts: self
                .hosts
                .iter()
                .filter(|(host, _)| has_host(host))
                .map(|(host, state)| (host.clone(), state.clone()))
                .collect(),
            apps: self
                .apps
                .iter()
                .filter(|(app, _)| pair.members.contains(app))
                .map(|(app, state)| (app.clone(), state.clone()))
                .collect(),
            pairs: self
                .pairs
                .get_key_value(name)
                // What is practised is no consequence of a fault.
                .map(|(name, state)| (name.clone(), PairState { drills: Drills::default(), ..state.clone() }))
                .into_iter()
                .collect(),
            vips: self
                .vips
                .iter()
                .filter(|((host, vip), _)| has_host(host) && vips.contains(vip))
                .map(|(place, state)| (place.clone(), state.clone()))
                .collect(),
            sightings: self
                .sightings
                .iter()
                .filter(|((vip, observer), _)| vips.contains(vip) && is_known(observer, &cluster))
                .map(|(of, seen)| (of.clone(), seen.clone()))
                .collect(),
            solutions: BTreeMap::new(),
            touched_solutions: BTreeSet::new(),
            seen_by_scs: self.seen_by_scs.intersection(&vips).copied().collect(),
            scs_asks: self.scs_asks.intersection(&vips).copied().collect(),
            outstanding: self
                .outstanding
                .iter()
                .filter(|(_, waits)| pair.members.contains(&waits.app))
                .map(|(id, waits)| (*id, waits.clone()))
                .collect(),
            launches: self
                .launches
                .iter()
                .filter(|(_, waits)| waits.launch.pair.as_ref() == Some(name) && has_host(&waits.host))
                .map(|(id, waits)| (*id, waits.clone()))
                .collect(),
            alarms: self.alarms.about(|source| match source {
                Source::Application(app) => pair.members.contains(app),
                Source::Host(host) => has_host(host),
                Source::Cluster => false,
            }),
            last_ref: self.last_ref,
            last_incident: self.last_incident,
            changed: false,
            deadlines: Deadlines::default(),
            touched: BTreeSet::from([name.clone()]),
            settled: BTreeSet::new(),
            noted: BTreeSet::new(),
            unfinished: BTreeSet::new(),
            inbox: VecDeque::new(),
            cluster,
        })
    }
}

fn is_known(observer: &Observer, cluster: &Cluster) -> bool {
    match observer {
        Observer::Host(host) => cluster.hosts.contains_key(host),
        Observer::Scs => true,
    }
}

fn cluster_of(cluster: &Cluster, name: &PairName, pair: &Pair) -> Cluster {
    let is_member = |app: &&domain::AppName| pair.members.contains(app);
    let applications: BTreeMap<_, _> = cluster
        .applications
        .iter()
        .filter(|(app, _)| is_member(app))
        .map(|(app, settings)| (app.clone(), settings.clone()))
        .collect();
    let hosts: BTreeMap<_, _> = cluster
        .hosts
        .iter()
        .filter(|(host, _)| applications.values().any(|app| app.host == **host))
        .map(|(host, settings)| (host.clone(), settings.clone()))
        .collect();
    let conditions =
        cluster.alarm_conditions.iter().filter(|(_, condition)| match &condition.detect.source {
            DetectSource::Any => true,
            DetectSource::Application(app) => pair.members.contains(app),
            DetectSource::Host(host) => hosts.contains_key(host),
        });
    Cluster {
        name: cluster.name.clone(),
        scs: cluster.scs.clone(),
        alarm_conditions: conditions.map(|(name, condition)| (name.clone(), condition.clone())).collect(),
        pairs: BTreeMap::from([(name.clone(), pair.clone())]),
        solutions: BTreeMap::new(),
        scripts: cluster.scripts.clone(),
        applications,
        hosts,
    }
}
