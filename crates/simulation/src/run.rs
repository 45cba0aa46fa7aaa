//! Runs a history from the beginning to the day on which everything is whole, and says what was wrong.

use crate::clock::TrueTime;
use crate::scenario::Scenario;
use crate::whole;
use crate::world::{Counts, World};

/// Events that a history may take; more is a loop. The longest take a hundred thousand.
const MOST_EVENTS: u64 = 1_000_000;
/// How long after everything was mended an operator sees to what was stopped by order.
const OPERATOR_US: u64 = 5_000_000;
/// How often it is looked whether everything is right.
const LOOK_US: u64 = 500_000;
/// How long that may take: the longest pauses between repeats (10 s), some of them behind each other.
const PATIENCE_US: u64 = 120_000_000;

/// What came of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What was wrong; empty: nothing.
    pub violations: Vec<String>,
    /// What the world counted.
    pub counts: Counts,
    /// The longest time that a pair was without service, microseconds.
    pub longest_outage_us: u64,
    /// How long it took after the mending until everything was right, microseconds.
    pub right_after_us: u64,
    /// What happened, line by line, where that was asked for.
    pub lines: Vec<String>,
}

/// Runs a history; `verbose`: with every line of what happens.
#[must_use]
pub fn run(scenario: &Scenario, verbose: bool) -> Outcome {
    let mut world = World::new(scenario, verbose);
    let right_after_us = live(scenario, &mut world);
    Outcome {
        violations: world.judge.violations().to_vec(),
        counts: world.counts(),
        longest_outage_us: world.judge.longest_outage_us(),
        right_after_us,
        lines: world.take_lines(),
    }
}

fn live(scenario: &Scenario, world: &mut World) -> u64 {
    let go = |world: &mut World, until: u64| {
        if !world.run_until(TrueTime(until), MOST_EVENTS) {
            let busy = world.busy();
            world.judge.complain(format!("events without end, at {}: {busy}", world.now));
        }
        !world.judge.has_seen_enough()
    };
    if !go(world, scenario.heal_us) {
        return 0;
    }
    world.heal();
    let mut at = scenario.heal_us;
    if scenario.patience_us.is_none() {
        at += OPERATOR_US;
        if !go(world, at) {
            return 0;
        }
        world.order_what_was_stopped();
    }
    let end = at + PATIENCE_US;
    loop {
        at += LOOK_US;
        if !go(world, at) {
            return 0;
        }
        let wrong = whole::what_is_wrong(world);
        if wrong.is_empty() {
            return at - scenario.heal_us;
        }
        if at >= end {
            for what in wrong {
                world.judge.complain(format!("long after everything was mended: {what}"));
            }
            return 0;
        }
    }
}
