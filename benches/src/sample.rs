//! One event as the client saw it, and what many of them have in common. The client is a prober that sends a SIP
//! OPTIONS every millisecond; a time without an answer is therefore known to a millisecond.

use crate::both::Dual;
use anyhow::{Context, ensure};
use domain::Micros;
use netlab::{Lab, Observation, ProbeSettings, Prober, now};
use rehearsal::{CLIENT, SIP_PORT, VIP};
use serde::Serialize;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// Observed before each event, so that everything is warm, and after it, so that late answers are seen.
const MARGIN: Duration = Duration::from_millis(50);
/// The prober's interval, µs.
const INTERVAL_US: u64 = 1_000;
/// How long the old primary may take to answer at all before an event.
const SERVICE_LIMIT: Duration = Duration::from_secs(20);

/// One event.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    /// Without an answer, µs.
    pub outage_us: u64,
    /// From the event (the order, the signal, the cut) to the first answer of the new holder, µs; none: it stayed.
    pub until_answer_us: Option<u64>,
    /// Requests that nobody answered.
    pub lost: usize,
    /// Answers of the old holder after the first of the new one.
    pub dual: usize,
    /// For how long both hosts answered, where both were asked all the time.
    #[serde(skip)]
    pub both: Option<Dual>,
    /// How late the prober sent each request, µs: what this machine is worth as a stopwatch.
    #[serde(skip)]
    pub lateness_us: Vec<u64>,
    /// Requests that were not sent at all, because the machine did not let the prober run.
    pub skipped: u64,
}

/// The client at work around one event.
pub struct Watch {
    prober: Prober,
    holder: String,
    event: Micros,
    event_unix: Micros,
}

impl Watch {
    /// Starts asking; returns when `holder` (the tag of its answers) serves and the event may happen.
    ///
    /// # Errors
    /// It does not answer.
    pub fn begin(lab: &Lab, holder: &str) -> anyhow::Result<Self> {
        let target = SocketAddr::new(VIP.parse::<IpAddr>()?, SIP_PORT);
        let prober = Prober::start(lab, CLIENT, ProbeSettings::new(target))?;
        let served = prober.await_answer(holder, now(), SERVICE_LIMIT);
        ensure!(served, "{holder} does not answer before the event");
        std::thread::sleep(MARGIN + next_phase());
        Ok(Self { prober, holder: holder.to_owned(), event: now(), event_unix: unix_now() })
    }

    /// When the event was to happen, in Unix time.
    #[must_use]
    pub fn event_unix(&self) -> Micros {
        self.event_unix
    }

    /// Waits until `new` has taken over, and a moment more.
    ///
    /// # Errors
    /// It does not answer within `limit`.
    pub fn taken_over_by(self, new: &str, limit: Duration) -> anyhow::Result<Sample> {
        self.seen_taken_over_by(new, limit, MARGIN).map(|(sample, _)| sample)
    }

    /// As [`Self::taken_over_by`], waiting for `after` more, with everything that was seen.
    ///
    /// # Errors
    /// It does not answer within `limit`.
    pub fn seen_taken_over_by(
        self,
        new: &str,
        limit: Duration,
        after: Duration,
    ) -> anyhow::Result<(Sample, Observation)> {
        let answered = self.prober.await_answer(new, self.event, limit);
        std::thread::sleep(after);
        let seen = self.prober.stop();
        ensure!(answered, "{new} did not answer within {limit:?}; answers: {:?}", seen.count_by_tag());
        let takeover = seen.takeover(&self.holder, new).with_context(|| {
            format!("no takeover from {} to {new}: {:?}", self.holder, seen.count_by_tag())
        })?;
        let sample = Sample {
            outage_us: us(takeover.outage()),
            until_answer_us: Some(us(takeover.first_of_new.since(self.event))),
            lost: seen.lost(),
            dual: takeover.late_answers,
            both: None,
            lateness_us: lateness(&seen),
            skipped: seen.skipped,
        };
        Ok((sample, seen))
    }

    /// After something during which somebody should have gone on answering, and in the end `after`, who may be the holder
    /// from before. The outage is the longest time without an answer.
    ///
    /// # Errors
    /// `after` does not answer now.
    pub fn continued_by(self, after: &str) -> anyhow::Result<Sample> {
        ensure!(self.prober.await_answer(after, now(), SERVICE_LIMIT), "{after} does not answer afterwards");
        std::thread::sleep(MARGIN);
        let seen = self.prober.stop();
        let during = seen.between(self.event - Duration::from_millis(2), Micros(u64::MAX));
        let dual = if self.holder == after {
            seen.answers().iter().filter(|answer| seen.who(answer) != after).count()
        } else {
            seen.takeover(&self.holder, after).map_or(0, |takeover| takeover.late_answers)
        };
        Ok(Sample {
            outage_us: during.longest_gap().map_or(0, |gap| us(gap.length())),
            until_answer_us: None,
            lost: seen.lost(),
            dual,
            both: None,
            lateness_us: lateness(&seen),
            skipped: seen.skipped,
        })
    }
}

/// Spreads the events evenly over the prober's interval, by multiples of the golden ratio: an event that always came
/// right after a request would find an outage up to a millisecond shorter than a phone does.
fn next_phase() -> Duration {
    static EVENTS: AtomicU64 = AtomicU64::new(0);
    let n = EVENTS.fetch_add(1, Ordering::Relaxed);
    Duration::from_micros(n * 618 % INTERVAL_US)
}

/// By how much each request left later than a millisecond after the one before.
fn lateness(seen: &Observation) -> Vec<u64> {
    let pairs = seen.requests().windows(2);
    pairs.map(|pair| us(pair[1].sent.since(pair[0].sent)).saturating_sub(INTERVAL_US)).collect()
}

fn unix_now() -> Micros {
    Micros(0) + SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO)
}

/// A duration in whole microseconds.
#[must_use]
pub fn us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Many values of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// How many there are.
    pub runs: usize,
    /// The least.
    pub min: u64,
    /// Of an even number, the lower of the two in the middle.
    pub median: u64,
    /// Nearest rank: with fewer than 100 values, the greatest.
    pub p99: u64,
    /// The greatest.
    pub max: u64,
    /// Their mean.
    pub mean: u64,
}

impl Summary {
    /// None of no values.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = u64>) -> Option<Self> {
        let mut sorted: Vec<u64> = values.into_iter().collect();
        sorted.sort_unstable();
        let rank = |percent: usize| sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1];
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let mean = sorted.iter().sum::<u64>() / sorted.len() as u64;
        Some(Self { runs: sorted.len(), min, median: rank(50), p99: rank(99), max, mean })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_by_nearest_rank() {
        assert_eq!(Summary::of([]), None);
        let one = Summary { runs: 1, min: 7, median: 7, p99: 7, max: 7, mean: 7 };
        assert_eq!(Summary::of([7]), Some(one));
        let many = Summary::of((1..=200).rev()).unwrap();
        assert_eq!(many, Summary { runs: 200, min: 1, median: 100, p99: 198, max: 200, mean: 100 });
        assert_eq!(Summary::of([3, 1, 2]).unwrap().median, 2);
    }
}
