//! What follows from the profile of a pair: how long its lease and the promises behind it last, why that is safe, and how
//! long service may be away. For `takeover check`.

use domain::{Cluster, GatePolicy, Pair, PairName, Profile};
use lease::{DRIFT_PPM, GATE_SLACK, Timing};
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// The arithmetic of one pair. Times are microseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Guarantee {
    pair: PairName,
    profile: String,
    gate: GatePolicy,
    /// Time between heartbeats and between renewals (h).
    renewed_every_us: u64,
    /// How long a lease lasts for its holder (`l_h`).
    lease_us: u64,
    /// How long a promise lasts at the voter (`l_v`).
    promise_us: u64,
    /// The longest absence of service when a host is cut off or its agent is dead, but for a round trip.
    host_cut_us: u64,
    /// Longest stall that the lease outlasts though a renewal is lost.
    longest_stall_us: u64,
    /// Why a host that stalls as it was said to does not keep the lease.
    flappy: Option<String>,
}

impl Guarantee {
    /// Of each pair of the cluster; `stall` is the longest stall of its hosts, where it was measured.
    pub fn of_all(cluster: &Cluster, stall: Option<Duration>) -> Vec<Self> {
        cluster.pairs.iter().map(|(name, pair)| Self::of(name, pair, stall)).collect()
    }

    fn of(name: &PairName, pair: &Pair, stall: Option<Duration>) -> Self {
        let timing = Timing::from(pair.profile);
        Self {
            pair: name.clone(),
            profile: pair.profile.to_string(),
            gate: pair.gate,
            renewed_every_us: micros(timing.every()),
            lease_us: micros(timing.hold()),
            promise_us: micros(timing.promise()),
            host_cut_us: micros(timing.host_cut()),
            longest_stall_us: micros(timing.longest_stall()),
            flappy: stall.and_then(|stall| timing.flappy(stall)).map(|flappy| {
                let good =
                    Profile::NAMED.iter().find(|named| Timing::from(**named).flappy(flappy.stall).is_none());
                let remedy = good.map_or_else(
                    || "no profile is slow enough for such a host".to_owned(),
                    |profile| format!("profile \"{profile}\" would do"),
                );
                format!("{flappy}; {remedy}")
            }),
        }
    }
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (lease, promise) = (millis(self.lease_us), millis(self.promise_us));
        writeln!(f, "pair {}, profile {}, gate {}", self.pair, self.profile, self.gate)?;
        writeln!(f, "  lease            {lease}, renewed every {}", millis(self.renewed_every_us))?;
        writeln!(
            f,
            "  promise          {promise} = {lease} x (1 + r) / (1 - r) + {} for gate and wire; r = {DRIFT_PPM} ppm of drift",
            millis(micros(GATE_SLACK)),
        )?;
        writeln!(
            f,
            "  host cut off     the other serves at most {} and a round trip later: promise and one renewal",
            millis(self.host_cut_us)
        )?;
        writeln!(f, "  agent dead       the same")?;
        writeln!(f, "  server killed    one report and one instruction: a round trip to the SCS")?;
        writeln!(
            f,
            "  stalls survived  below {}, though a renewal is lost besides",
            millis(self.longest_stall_us)
        )?;
        if let Some(flappy) = &self.flappy {
            writeln!(f, "  warning: the lease will be lost without need: {flappy}")?;
        }
        Ok(())
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// As milliseconds, with as many decimals as there are.
fn millis(us: u64) -> String {
    let text = format!("{}.{:03}", us / 1_000, us % 1_000);
    format!("{} ms", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../../packaging/examples/minimal.toml");

    fn shown(profile: &str, stall: Option<u64>) -> String {
        let text = EXAMPLE.replacen("[pairs.sip]", &format!("[pairs.sip]\nprofile = {profile}"), 1);
        let (cluster, _) = config::parse_cluster("test.toml", &text).unwrap();
        Guarantee::of_all(&cluster, stall.map(Duration::from_millis))[0].to_string()
    }

    #[test]
    fn the_arithmetic_of_a_pair_is_shown() {
        let expected = "\
pair sip, profile normal, gate preferred
  lease            450 ms, renewed every 100 ms
  promise          451.451 ms = 450 ms x (1 + r) / (1 - r) + 1 ms for gate and wire; r = 500 ppm of drift
  host cut off     the other serves at most 551.451 ms and a round trip later: promise and one renewal
  agent dead       the same
  server killed    one report and one instruction: a round trip to the SCS
  stalls survived  below 250 ms, though a renewal is lost besides
";
        assert_eq!(shown("\"normal\"", None), expected);
        assert_eq!(shown("\"normal\"", Some(249)), expected);
    }

    #[test]
    fn a_stall_that_is_too_long_is_warned_about_with_what_would_do() {
        let text = shown("{ heartbeat = \"20ms\", lease = \"80ms\" }", Some(45));
        assert!(text.contains("make 85ms; the lease is 80ms; profile \"normal\" would do"), "{text}");
        assert!(shown("\"wan\"", Some(2_500)).contains("no profile is slow enough"));
    }
}
