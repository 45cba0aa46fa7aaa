//! One configuration explored: by `stateright`, breadth first, to its end or to a limit.

use crate::model::ONE_HOLDER;
use crate::setup::Setup;
use crate::transcript::transcript;
use stateright::{Checker, HasDiscoveries, Model};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

/// What an exploration found.
#[derive(Debug)]
pub struct Outcome {
    /// The configuration's name.
    pub name: &'static str,
    /// States reached, as often as they were.
    pub states: usize,
    /// Different states.
    pub unique: usize,
    /// Longest way to a state.
    pub depth: usize,
    /// How long it took.
    pub took: Duration,
    /// Whether every state within the bounds was reached.
    pub complete: bool,
    /// Most steps that were bound to.
    pub steps: Option<usize>,
    /// Counterexamples, by the property that they break, as transcripts.
    pub broken: BTreeMap<&'static str, String>,
    /// Milestones reached, with the number of steps there.
    pub reached: BTreeMap<&'static str, usize>,
    /// Milestones not reached.
    pub missed: Vec<&'static str>,
}

/// Explores a configuration with `threads` threads until nothing is left, a property is broken, or `most` states were
/// reached.
#[must_use]
pub fn explore(setup: &Setup, threads: usize, most: usize) -> Outcome {
    let began = Instant::now();
    let milestones: Vec<_> = setup.milestones.iter().map(|milestone| milestone.words()).collect();
    let builder = setup.clone().checker().target_state_count(most);
    let builder = match setup.steps {
        None => builder.threads(threads),
        // Several threads do not keep to the shortest ways. The checker counts states, the first included, and does not
        // look at the last.
        Some(steps) => builder.threads(1).target_max_depth(steps + 2),
    };
    let enough = match setup.breakage {
        Some(_) => HasDiscoveries::AnyOf(BTreeSet::from([ONE_HOLDER])),
        // Milestones end it when all are reached; what must hold is looked at until nothing is left.
        None if !setup.milestones.is_empty() => HasDiscoveries::AllOf(milestones.iter().copied().collect()),
        None => HasDiscoveries::AnyFailures,
    };
    let checker = builder.finish_when(enough).spawn_bfs().join();
    let took = began.elapsed();
    let (mut broken, mut reached) = (BTreeMap::new(), BTreeMap::new());
    for (property, path) in checker.discoveries() {
        let steps: Vec<_> = path.into_actions();
        if milestones.contains(&property) {
            reached.insert(property, steps.len());
        } else {
            broken.insert(property, transcript(setup, &steps));
        }
    }
    Outcome {
        name: setup.name,
        states: checker.state_count(),
        unique: checker.unique_state_count(),
        depth: checker.max_depth(),
        took,
        steps: setup.steps,
        complete: broken.is_empty() && reached.is_empty() && checker.state_count() < most,
        missed: milestones.into_iter().filter(|words| !reached.contains_key(words)).collect(),
        broken,
        reached,
    }
}

impl Outcome {
    /// Whether everything held, and everything that should be possible is.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.broken.is_empty() && self.missed.is_empty()
    }

    /// The heading for the lines that it prints as.
    #[must_use]
    pub fn heading() -> String {
        format!(
            "{:44} {:>12} {:>12} {:>6} {:>8}  explored",
            "configuration", "states", "unique", "depth", "time"
        )
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, states, unique, depth, took, .. } = self;
        let took = format!("{:.1} s", took.as_secs_f64());
        let how = match (self.complete, self.steps) {
            (true, None) => "to the end".to_owned(),
            (true, Some(steps)) => format!("every way of {steps} steps"),
            (false, _) if !self.broken.is_empty() => "until it broke".to_owned(),
            (false, _) if !self.reached.is_empty() => "until all was seen".to_owned(),
            (false, _) => "to the limit".to_owned(),
        };
        write!(f, "{name:44} {states:>12} {unique:>12} {depth:>6} {took:>8}  {how}")?;
        for (words, steps) in &self.reached {
            write!(f, "\n    possible: {words} ({steps} steps)")?;
        }
        for words in &self.missed {
            write!(f, "\n    NOT SEEN: {words}")?;
        }
        for (property, transcript) in &self.broken {
            write!(f, "\n    BROKEN: {property}\n{transcript}")?;
        }
        Ok(())
    }
}
