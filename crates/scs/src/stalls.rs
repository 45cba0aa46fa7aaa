//! Hosts that stall for longer than the leases of their pairs allow: told when it begins and when it is over. Such a host
//! loses a lease without need, which looks like a failure and is one of the profile.

use domain::{Cluster, HostFigures, HostName, LogEvent, Micros, events};
use lease::Timing;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long a host must go without such a stall before it counts as in order again.
const CALM: Duration = Duration::from_secs(600);

/// Which hosts stall too long, and when each did last.
#[derive(Debug, Default)]
pub(crate) struct Stalls(BTreeMap<HostName, Micros>);

impl Stalls {
    /// Figures of a host came in.
    pub(crate) fn event(
        &mut self,
        host: &HostName,
        figures: &HostFigures,
        cluster: &Cluster,
        now: Micros,
    ) -> Option<LogEvent> {
        let stall = Duration::from_micros(figures.longest_stall_us);
        let ours = |app| cluster.host_of(app) == Some(host);
        let flappy =
            cluster.pairs.iter().filter(|(_, pair)| pair.members.iter().any(ours)).find_map(
                |(name, pair)| Some((name, pair.profile, Timing::from(pair.profile).flappy(stall)?)),
            );
        let last = self.0.get(host).copied();
        match (flappy, last) {
            (Some((pair, profile, flappy)), last) => {
                self.0.insert(host.clone(), now);
                let event = LogEvent::new(events::LEASE_STRAINED, now).on(host).because(flappy);
                last.is_none().then(|| event.with("pair", pair).with("profile", profile))
            }
            (None, Some(last)) if now.since(last) >= CALM => {
                self.0.remove(host);
                Some(LogEvent::new(events::LEASE_STEADY, now).on(host))
            }
            (None, _) => None,
        }
    }
}

/// Hosts whose clocks run faster or slower than leases allow for: while that lasts, a promise may end before the lease
/// that was given for it (R2).
#[derive(Debug, Default)]
pub(crate) struct Slews(BTreeSet<HostName>);

impl Slews {
    /// Figures of a host came in.
    pub(crate) fn event(&mut self, host: &HostName, figures: &HostFigures, now: Micros) -> Option<LogEvent> {
        let ppm = figures.clock_ppm;
        let strays = ppm.unsigned_abs() > lease::DRIFT_PPM;
        if strays == self.0.contains(host) {
            return None;
        }
        let id = if strays { events::CLOCK_STRAYS } else { events::CLOCK_KEEPS };
        if strays {
            self.0.insert(host.clone());
        } else {
            self.0.remove(host);
        }
        let text = format!("by {ppm} ppm, {} are allowed for", lease::DRIFT_PPM);
        Some(LogEvent::new(id, now).on(host).because(text).with("ppm", ppm))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_strays_is_told_once_and_again_when_it_keeps_time() {
        let host = HostName::new("host1").unwrap();
        let mut slews = Slews::default();
        let mut told = |clock_ppm| {
            let figures = HostFigures { clock_ppm, ..HostFigures::default() };
            slews.event(&host, &figures, Micros(1)).map(|event| event.id)
        };
        assert_eq!(told(500), None);
        assert_eq!(told(-501), Some(events::CLOCK_STRAYS));
        assert_eq!(told(83_333), None);
        assert_eq!(told(20), Some(events::CLOCK_KEEPS));
        assert_eq!(told(0), None);
    }

    #[test]
    fn a_host_that_stalls_too_long_is_told_once_and_again_when_it_is_calm() {
        const FILE: &str = include_str!("../../../packaging/examples/minimal.toml");
        let (cluster, _) = config::parse_cluster("minimal.toml", FILE).unwrap();
        let [host1, elsewhere] = ["host1", "elsewhere"].map(|name| HostName::new(name).unwrap());
        let mut stalls = Stalls::default();
        let mut told = |host: &HostName, stall_ms: u64, at_s: u64| {
            let figures = HostFigures { longest_stall_us: stall_ms * 1_000, ..HostFigures::default() };
            stalls
                .event(host, &figures, &cluster, Micros(at_s * 1_000_000))
                .map(|event| (event.id, event.text))
        };
        assert_eq!(told(&host1, 249, 0), None);
        assert_eq!(told(&elsewhere, 10_000, 0), None, "a host without pairs has no lease");
        let (id, text) = told(&host1, 260, 5).unwrap();
        assert_eq!(id, events::LEASE_STRAINED);
        assert!(text.contains("make 460ms; the lease is 450ms"), "{text}");
        assert_eq!(told(&host1, 300, 100), None);
        assert_eq!(told(&host1, 0, 699), None);
        assert_eq!(told(&host1, 0, 700).map(|(id, _)| id), Some(events::LEASE_STEADY));
        assert_eq!(told(&host1, 0, 2_000), None);
        assert!(told(&host1, 260, 2_005).is_some());
    }
}
