//! The four workflows as the demo runs them: their names, the bounds that are printed, and what follows from an incident
//! and from what the client saw. Pure: doing it is `stage`'s business, showing it `report`'s and `picture`'s.

use domain::Micros;
use ha_core::{Incident, IncidentKind, IncidentOutcome};
use netlab::Observation;
use serde::Serialize;
use std::time::Duration;

/// A workflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Workflow {
    /// An operator orders the switchover.
    Manual,
    /// The primary's process is killed.
    Failure,
    /// The primary's host is cut off.
    Disconnected,
    /// It comes back.
    Reconnected,
}

impl Workflow {
    /// All, in the order in which they are told.
    pub const ALL: [Workflow; 4] =
        [Workflow::Manual, Workflow::Failure, Workflow::Disconnected, Workflow::Reconnected];

    /// Its name, as on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Workflow::Manual => "manual",
            Workflow::Failure => "failure",
            Workflow::Disconnected => "disconnected",
            Workflow::Reconnected => "reconnected",
        }
    }

    /// What its incidents are.
    #[must_use]
    pub fn kind(self) -> IncidentKind {
        match self {
            Workflow::Manual => IncidentKind::Manual,
            Workflow::Failure => IncidentKind::Failure,
            Workflow::Disconnected => IncidentKind::Disconnected,
            Workflow::Reconnected => IncidentKind::Reconnected,
        }
    }

    /// Longest time without an answer that passes.
    ///
    /// The demo checks that it works, not how fast the machine is. On a quiet one a switchover and a failover take about 2 ms,
    /// also for an unprivileged user. On one whose cores are all busy, and without the right to real-time priorities, a
    /// process may wait for 100 ms until it is run, hence 250 ms: far below the 450 ms and more that it takes where something
    /// is broken and silence has to tell.
    ///
    /// A host that is cut off counts as lost 450 ms after its last heartbeat (profile `normal`), of which there is one every
    /// 100 ms: its outage begins at 350 ms. An SCS that was itself kept waiting does not believe the silence and waits once
    /// more, hence twice that and 300 ms.
    #[must_use]
    pub fn outage_bound(self) -> Duration {
        match self {
            Workflow::Manual | Workflow::Failure | Workflow::Reconnected => Duration::from_millis(250),
            Workflow::Disconnected => Duration::from_millis(1_200),
        }
    }
}

/// A role change as the client saw it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// From the last answer of the old primary to the first of the new one. Where the primary does not change (the
    /// reconnection): the longest time without an answer.
    pub outage: Option<Duration>,
    /// Answers that the old primary gave after the new one's first.
    pub late_answers: usize,
    /// How long both answered.
    pub both: Duration,
    /// Requests that nobody answered.
    pub lost: usize,
    /// Requests that were never sent, because the machine did not let the client run in time.
    pub skipped: u64,
}

impl Seen {
    /// What of the change from `old` to `new` there is in a window with no other change.
    #[must_use]
    pub fn change(window: &Observation, kind: IncidentKind, old: &str, new: &str) -> Self {
        let (outage, late_answers, both) = match kind {
            IncidentKind::Reconnected => {
                let old_ones = || window.answers().iter().filter(|answer| window.who(answer) == old);
                let both = match (old_ones().next(), old_ones().next_back()) {
                    (Some(first), Some(last)) => last.at.since(first.at),
                    (None, _) | (_, None) => Duration::ZERO,
                };
                (window.longest_gap().map(netlab::Gap::length), old_ones().count(), both)
            }
            IncidentKind::Manual
            | IncidentKind::Failure
            | IncidentKind::Disconnected
            | IncidentKind::FirstPrimary => match window.takeover(old, new) {
                Some(takeover) => (Some(takeover.outage()), takeover.late_answers, takeover.dual()),
                None => (None, 0, Duration::ZERO),
            },
        };
        Self { outage, late_answers, both, lost: window.lost(), skipped: window.skipped }
    }
}

/// One number of a workflow, and when it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberedStep<'a> {
    /// The number.
    pub number: u8,
    /// From the incident's first step to the first with this number.
    pub first: Duration,
    /// To the last with this number: both hosts and every VIP have their own.
    pub last: Duration,
    /// How many have this number.
    pub count: usize,
    /// What the first one says.
    pub text: &'a str,
}

/// The steps of an incident by number.
#[must_use]
pub fn numbered_steps(incident: &Incident) -> Vec<NumberedStep<'_>> {
    let begun = first_step(incident);
    (1..=incident.kind.last_step())
        .filter_map(|number| {
            let of_this = || incident.steps.iter().filter(|step| step.number == Some(number));
            let first = of_this().min_by_key(|step| step.at)?;
            let last = of_this().map(|step| step.at).max()?;
            Some(NumberedStep {
                number,
                first: first.at.since(begun),
                last: last.since(begun),
                count: of_this().count(),
                text: &first.text,
            })
        })
        .collect()
}

/// When the first step of an incident was; all offsets are from here.
#[must_use]
pub fn first_step(incident: &Incident) -> Micros {
    incident.steps.iter().map(|step| step.at).min().unwrap_or(incident.begun)
}

/// What is wrong with an incident as the record of a workflow: nothing where it was completed and every step happened,
/// the first occurrence of each number not before that of the number below.
#[must_use]
pub fn faults_of_record(workflow: Workflow, incident: &Incident) -> Vec<String> {
    let mut faults = Vec::new();
    if incident.kind != workflow.kind() {
        faults.push(format!("the incident is one of {}", incident.kind));
        return faults;
    }
    if incident.outcome != IncidentOutcome::Completed {
        faults.push(format!("the incident is {}", incident.outcome));
    }
    let steps = numbered_steps(incident);
    for number in 1..=incident.kind.last_step() {
        if !steps.iter().any(|step| step.number == number) {
            faults.push(format!("step {number} did not happen"));
        }
    }
    for (before, after) in steps.iter().zip(steps.iter().skip(1)) {
        if after.first < before.first {
            faults.push(format!("step {} happened before step {}", after.number, before.number));
        }
    }
    faults
}

/// What is wrong with what the client saw.
#[must_use]
pub fn faults_of_service(workflow: Workflow, seen: &Seen) -> Vec<String> {
    match seen.outage {
        None => vec!["the client did not see the old primary answer and then the new one".to_owned()],
        Some(outage) if outage > workflow.outage_bound() => {
            vec![format!("the client had no answer for {}, longer than {}", millis(outage), bound(workflow))]
        }
        Some(_) => Vec::new(),
    }
}

/// Figures over several runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// The lower of the two in the middle, where there are two.
    pub median: Duration,
    /// By nearest rank: the greatest of up to a hundred runs.
    pub p99: Duration,
    /// The least.
    pub min: Duration,
    /// The greatest.
    pub max: Duration,
}

impl Summary {
    /// Of some durations; none of none.
    #[must_use]
    pub fn of(mut durations: Vec<Duration>) -> Option<Self> {
        durations.sort_unstable();
        // Nearest rank: the least value that at least this share of all values does not exceed.
        let ranked =
            |percent: usize| durations.get((durations.len() * percent).div_ceil(100).max(1) - 1).copied();
        Some(Self {
            median: ranked(50)?,
            p99: ranked(99)?,
            min: *durations.first()?,
            max: *durations.last()?,
        })
    }
}

/// A measured duration for people: milliseconds with three decimals, so that columns can be compared.
#[must_use]
pub fn millis(duration: Duration) -> String {
    let us = duration.as_micros();
    format!("{}.{:03} ms", us / 1_000, us % 1_000)
}

/// A workflow's bound for people.
#[must_use]
pub fn bound(workflow: Workflow) -> String {
    format!("{} ms", workflow.outage_bound().as_millis())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use domain::{AppName, Epoch, PairName};
    use ha_core::{IncidentId, Phase, Step};

    /// An incident with steps at these microseconds after an arbitrary beginning.
    pub(in super::super) fn incident(kind: IncidentKind, steps: &[(Option<u8>, u64)]) -> Incident {
        let begun = Micros(1_000_000);
        let step = |&(number, at): &(Option<u8>, u64)| Step {
            at: begun + Duration::from_micros(at),
            phase: Phase::Detected,
            number,
            host: None,
            text: format!("what happened at {at}"),
        };
        Incident {
            id: IncidentId(7),
            pair: PairName::new("sip").unwrap(),
            kind,
            from: Some(AppName::new("sip1").unwrap()),
            to: AppName::new("sip2").unwrap(),
            epoch: Epoch(2),
            reason: String::new(),
            ordered_by: String::new(),
            drill: None,
            begun,
            unnoticed_us: 0,
            ended: Some(begun + Duration::from_millis(1)),
            outcome: IncidentOutcome::Completed,
            evidence: Vec::new(),
            steps: steps.iter().map(step).collect(),
        }
    }

    const WHOLE: [(Option<u8>, u64); 8] = [
        (Some(1), 0),
        (None, 0),
        (Some(2), 10),
        (Some(3), 20),
        (Some(4), 20),
        (Some(5), 20),
        (Some(6), 30),
        (Some(6), 40),
    ];

    #[test]
    fn a_whole_record_has_no_faults() {
        let disconnected = incident(IncidentKind::Disconnected, &WHOLE);
        assert_eq!(faults_of_record(Workflow::Disconnected, &disconnected), Vec::<String>::new());
        assert_eq!(
            faults_of_record(Workflow::Manual, &disconnected),
            ["the incident is one of primary server disconnected"]
        );
    }

    #[test]
    fn a_step_that_is_missing_early_or_undone_is_a_fault() {
        let faults = |steps: &[(Option<u8>, u64)]| {
            faults_of_record(Workflow::Disconnected, &incident(IncidentKind::Disconnected, steps))
        };
        let mut missing = WHOLE;
        missing[3].0 = None;
        assert_eq!(faults(&missing), ["step 3 did not happen"]);
        let mut early = WHOLE;
        early[7].1 = 19; // the first occurrence counts, wherever it stands in the record
        assert_eq!(faults(&early), ["step 6 happened before step 5"]);
        let mut open = incident(IncidentKind::Disconnected, &WHOLE);
        open.outcome = IncidentOutcome::Open;
        assert_eq!(faults_of_record(Workflow::Disconnected, &open), ["the incident is under way"]);
    }

    #[test]
    fn steps_with_one_number_are_told_once_with_first_and_last() {
        let record = incident(IncidentKind::Disconnected, &WHOLE);
        let steps = numbered_steps(&record);
        let [.., last] = steps.as_slice() else { panic!("no steps") };
        let us = Duration::from_micros;
        let expected =
            NumberedStep { number: 6, first: us(30), last: us(40), count: 2, text: "what happened at 30" };
        assert_eq!((steps.len(), last), (6, &expected));
    }

    #[test]
    fn an_outage_passes_up_to_its_bound_and_must_have_been_seen() {
        let seen = |outage| Seen { outage, ..Seen::default() };
        let bound = Workflow::Failure.outage_bound();
        assert!(faults_of_service(Workflow::Failure, &seen(Some(bound))).is_empty());
        let longer = seen(Some(bound + Duration::from_micros(1)));
        assert_eq!(
            faults_of_service(Workflow::Failure, &longer),
            ["the client had no answer for 250.001 ms, longer than 250 ms"]
        );
        assert_eq!(faults_of_service(Workflow::Failure, &seen(None)).len(), 1);
    }

    #[test]
    fn figures_are_by_nearest_rank() {
        let of = |values: &[u64]| Summary::of(values.iter().map(|v| Duration::from_millis(*v)).collect());
        let figures = |s: Summary| [s.median, s.p99, s.min, s.max].map(|d| d.as_millis());
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[5]).map(figures), Some([5, 5, 5, 5]));
        assert_eq!(of(&[4, 1, 3, 2]).map(figures), Some([2, 4, 1, 4]));
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!(of(&hundred).map(figures), Some([50, 99, 1, 100]));
    }
}
