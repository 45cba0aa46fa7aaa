//! Makes a failing history as small as it gets, so that a person can read what is left.

use crate::network::Weather;
use crate::run::run;
use crate::scenario::{Scenario, Timed, When};

/// Histories that shrinking may run.
const MOST_RUNS: u32 = 400;

/// The smallest history found that still fails.
#[must_use]
pub fn shrink(scenario: &Scenario) -> Scenario {
    let mut smallest = scenario.clone();
    let mut runs = 0;
    let mut fails = |candidate: &Scenario| {
        runs += 1;
        runs <= MOST_RUNS && !run(candidate, false).violations.is_empty()
    };
    let calm = Scenario { weather: Weather::FAIR, ..smallest.clone() };
    if calm != smallest && fails(&calm) {
        smallest = calm;
    }
    let true_clocks = Scenario { drift_ppm: vec![0; smallest.drift_ppm.len()], ..smallest.clone() };
    if smallest.breakage.is_none() && fails(&true_clocks) {
        smallest = true_clocks;
    }
    // Bounded: each round leaves out at least one fault, or is the last.
    loop {
        let without = (0..smallest.faults.len()).rev().find_map(|n| {
            let mut candidate = smallest.clone();
            candidate.faults.remove(n);
            fails(&candidate).then_some(candidate)
        });
        match without {
            Some(candidate) => smallest = candidate,
            None => break,
        }
    }
    sooner(smallest, &mut fails)
}

/// Nothing needs to go on for longer than the last fault.
fn sooner(scenario: Scenario, fails: &mut impl FnMut(&Scenario) -> bool) -> Scenario {
    let begins = |timed: &Timed| match timed.when {
        When::At(at) | When::Behind { from: at, .. } => at,
    };
    let last = scenario.faults.iter().map(begins).max().unwrap_or(0);
    for after_us in [1_000_000, 2_000_000, 5_000_000] {
        let candidate = Scenario { heal_us: last + after_us, ..scenario.clone() };
        if candidate.heal_us < scenario.heal_us && fails(&candidate) {
            return candidate;
        }
    }
    scenario
}
