//! The judge sees everything, in true time, and says what must not be: two hosts that answer for one VIP, epochs that go
//! back, service that stays away for too long. Nobody in the world hears it.

use crate::clock::TrueTime;
use crate::host::Host;
use crate::scenario::{BEGIN_US, Breakage, Scenario};
use domain::{AppName, Cluster, Epoch, PairName, VipAddress};

/// Violations after which there is nothing more to learn from a history.
const ENOUGH: usize = 1;

#[derive(Debug)]
pub(crate) struct Judge {
    pairs: Vec<Pair>,
    /// Longest outage that is tolerated, microseconds.
    patience_us: Option<u64>,
    /// A gate counts.
    gated: bool,
    changed: bool,
    forgotten: bool,
    violations: Vec<String>,
}

#[derive(Debug)]
struct Pair {
    name: PairName,
    vips: Vec<VipAddress>,
    members: [(usize, AppName); 2],
    /// The greatest epoch under which a gate was open, and whose.
    greatest: Option<(Epoch, usize)>,
    served: Option<Service>,
    away_since: Option<TrueTime>,
    last_server: Option<usize>,
    takeovers: u64,
    longest_us: u64,
}

#[derive(Debug, Clone, Copy)]
struct Service {
    by: usize,
    /// Unless something changes.
    until: TrueTime,
}

impl Judge {
    pub(crate) fn new(scenario: &Scenario, cluster: &Cluster) -> Self {
        let host = |app: &AppName| {
            let name = cluster.host_of(app).expect("every application has a host");
            cluster.hosts.keys().position(|host| host == name).expect("every host is configured")
        };
        let pairs = cluster.pairs.iter().map(|(name, pair)| Pair {
            name: name.clone(),
            vips: pair.vips.iter().map(|vip| vip.address).collect(),
            members: pair.members.clone().map(|app| (host(&app), app)),
            greatest: None,
            served: None,
            away_since: None,
            last_server: None,
            takeovers: 0,
            longest_us: 0,
        });
        Self {
            pairs: pairs.collect(),
            patience_us: scenario.patience_us,
            gated: scenario.breakage != Some(Breakage::NoGate),
            changed: false,
            forgotten: false,
            violations: Vec::new(),
        }
    }

    /// Something happened that may have changed who answers.
    pub(crate) fn something_changed(&mut self) {
        self.changed = true;
    }

    /// A voter forgot: epochs need not grow any more.
    pub(crate) fn something_is_forgotten(&mut self) {
        self.forgotten = true;
    }

    pub(crate) fn has_seen_enough(&self) -> bool {
        self.violations.len() >= ENOUGH
    }

    pub(crate) fn violations(&self) -> &[String] {
        &self.violations
    }

    pub(crate) fn takeovers(&self) -> u64 {
        self.pairs.iter().map(|pair| pair.takeovers).sum()
    }

    /// The longest time without service, microseconds.
    pub(crate) fn longest_outage_us(&self) -> u64 {
        self.pairs.iter().map(|pair| pair.longest_us).max().unwrap_or(0)
    }

    pub(crate) fn complain(&mut self, what: String) {
        self.violations.push(what);
    }

    /// Whether a host answers for a VIP.
    pub(crate) fn answers(&self, host: &Host, vip: VipAddress, now: TrueTime) -> bool {
        let pair = self.pairs.iter().find(|pair| pair.vips.contains(&vip));
        pair.is_some_and(|pair| {
            host.carrier && self.is_open(host, pair, now) && host.addresses.contains(&vip)
        })
    }

    fn is_open(&self, host: &Host, pair: &Pair, now: TrueTime) -> bool {
        host.powered && (!self.gated || host.gate(&pair.name).is_open(host.clock.at(now)))
    }

    /// An agent wrote its gate.
    pub(crate) fn gate_opened(
        &mut self,
        host: &Host,
        number: usize,
        pair: &PairName,
        epoch: Epoch,
        now: TrueTime,
    ) {
        self.changed = true;
        let open = host.gate(pair).is_open(host.clock.at(now));
        let Some(pair) = self.pairs.iter_mut().find(|known| known.name == *pair).filter(|_| open) else {
            return;
        };
        match pair.greatest {
            Some((known, by)) if known == epoch && by != number => {
                let what = format!("{now}: epoch {epoch} of {} is held by two hosts", pair.name);
                self.violations.push(what);
            }
            Some((known, _)) if known > epoch && !self.forgotten => {
                let what = format!("{now}: {} is held under epoch {epoch}, behind epoch {known}", pair.name);
                self.violations.push(what);
            }
            Some(_) | None => {}
        }
        if pair.greatest.is_none_or(|(known, _)| known <= epoch) || self.forgotten {
            pair.greatest = Some((epoch, number));
        }
    }

    /// After every event.
    pub(crate) fn look(&mut self, hosts: &[Host], now: TrueTime) {
        if std::mem::take(&mut self.changed) {
            self.look_again(hosts, now);
        }
    }

    pub(crate) fn look_again(&mut self, hosts: &[Host], now: TrueTime) {
        for n in 0..self.pairs.len() {
            self.two_answer(n, hosts, now);
            let served = self.service(n, hosts, now);
            let pair = &mut self.pairs[n];
            pair.note(served, now);
            let away = pair.away_since.filter(|_| now.0 > BEGIN_US);
            let away_us = away.map_or(0, |since| now.since(since.max(TrueTime(BEGIN_US))));
            pair.longest_us = pair.longest_us.max(away_us);
            if let Some(most) = self.patience_us.filter(|most| away_us > *most) {
                let name = &pair.name;
                let what = format!("{now}: {name} has been without service for {away_us} us, at most {most}");
                self.violations.push(what);
            }
            if let Some(service) = served {
                pair.served = Some(service);
                pair.away_since = None;
            }
        }
    }

    /// Two open gates are enough: an address may be wherever another tool put it. (Also without carrier: the host does not
    /// know that nobody hears it.) Where there is no gate, addresses count.
    fn two_answer(&mut self, n: usize, hosts: &[Host], now: TrueTime) {
        let pair = &self.pairs[n];
        let answers = |(number, _): &&(usize, AppName)| {
            let host = &hosts[*number];
            self.is_open(host, pair, now)
                && (self.gated || pair.vips.iter().any(|vip| host.addresses.contains(vip)))
        };
        if pair.members.iter().filter(answers).count() > 1 {
            self.violations.push(format!("{now}: both hosts of {} may answer for its VIPs", pair.name));
        }
    }

    /// Who serves callers of a pair, and until when if nothing changes.
    fn service(&self, n: usize, hosts: &[Host], now: TrueTime) -> Option<Service> {
        let pair = &self.pairs[n];
        let serves = |(number, app): &&(usize, AppName)| {
            let host = &hosts[*number];
            host.carrier
                && self.is_open(host, pair, now)
                && pair.vips.iter().all(|vip| host.addresses.contains(vip))
                && host.processes.get(app).is_some_and(|process| process.serves())
        };
        let (by, _) = *pair.members.iter().find(serves)?;
        let host = &hosts[by];
        let until =
            if self.gated { host.clock.reaches(host.gate(&pair.name).until) } else { TrueTime(u64::MAX) };
        Some(Service { by, until })
    }
}

impl Pair {
    /// Keeps account of outages.
    fn note(&mut self, served: Option<Service>, now: TrueTime) {
        if let Some(before) = self.served.take_if(|before| before.until < now || served.is_none()) {
            self.away_since.get_or_insert(before.until.min(now));
        }
        if served.is_none() && self.away_since.is_none() {
            self.away_since = Some(now);
        }
        if let Some(Service { by, .. }) = served
            && self.last_server.replace(by).is_some_and(|before| before != by)
        {
            self.takeovers += 1;
        }
    }
}
