//! The same world at random, with bounds that nobody could explore: a seed is a walk, a walk that ends badly is shortened
//! and told.

use crate::action::Action;
use crate::model::{COMES_BACK, EPOCHS_GROW, ONE_HOLDER};
use crate::setup::Setup;
use crate::transcript::transcript;
use crate::world::World;

/// A walk that ended badly.
#[derive(Debug)]
pub struct Fall {
    /// Its seed.
    pub seed: u64,
    /// What did not hold at its end.
    pub broken: &'static str,
    /// The way there, shortened.
    pub transcript: String,
}

/// Walks `steps` steps by a seed. From one state in `rest` it is looked at whether service comes back.
///
/// # Errors
/// Something did not hold.
pub fn walk(setup: &Setup, seed: u64, steps: usize, rest: usize) -> Result<(), Fall> {
    let mut taken = Vec::new();
    for (step, (action, world)) in (1..=steps).zip(Walk::new(setup, seed)) {
        taken.push(action);
        if let Some(broken) = broken(setup, &world, step % rest == 0) {
            let (setup, taken) = shorten(setup, taken, broken);
            return Err(Fall { seed, broken, transcript: transcript(&setup, &taken) });
        }
    }
    Ok(())
}

/// A walk: each step, and the state that it leads to. It has no end.
#[derive(Debug)]
pub struct Walk<'a> {
    setup: &'a Setup,
    world: World,
    random: Random,
    actions: Vec<Action>,
}

impl<'a> Walk<'a> {
    /// The walk of a seed.
    #[must_use]
    pub fn new(setup: &'a Setup, seed: u64) -> Self {
        Self { setup, world: setup.beginning(), random: Random(seed), actions: Vec::new() }
    }
}

impl Iterator for Walk<'_> {
    type Item = (Action, World);

    fn next(&mut self) -> Option<Self::Item> {
        self.actions.clear();
        self.setup.list(&self.world, &mut self.actions);
        let action = self.random.choose(&self.actions);
        self.world = self.setup.after(&self.world, action, &mut |_| ());
        Some((action, self.world.clone()))
    }
}

fn broken(setup: &Setup, world: &World, look: bool) -> Option<&'static str> {
    if world.open().count() > 1 {
        Some(ONE_HOLDER)
    } else if world.broken.is_some() {
        Some(EPOCHS_GROW)
    } else if look && world.flying.len() <= setup.flying && !setup.comes_back(world) {
        Some(COMES_BACK)
    } else {
        None
    }
}

/// Leaves out what the fall does not need: halves, then quarters, down to single steps, until nothing can go. Losses are
/// left out first: a message that does not arrive may as well stay on its way.
fn shorten(setup: &Setup, taken: Vec<Action>, why: &'static str) -> (Setup, Vec<Action>) {
    let roomy = Setup { flying: usize::MAX, ..setup.clone() };
    let Some(mut taken) = falls(&roomy, &taken, why) else { return (setup.clone(), taken) };
    loop {
        let before = taken.len();
        let mut length = before;
        while length > 0 {
            let mut from = taken.len();
            while from > 0 {
                let (start, end) = (from.saturating_sub(length), from.min(taken.len()));
                let without = [&taken[..start.min(end)], &taken[end..]].concat();
                if let Some(shorter) = falls(&roomy, &without, why) {
                    taken = shorter;
                }
                from = start;
            }
            length /= 2;
        }
        if taken.len() == before {
            return (roomy, taken);
        }
    }
}

/// Whether this ends badly, without the steps that are not possible any more: what is left of it.
fn falls(setup: &Setup, taken: &[Action], why: &'static str) -> Option<Vec<Action>> {
    let mut world = setup.beginning();
    let (mut done, mut actions) = (Vec::new(), Vec::new());
    for action in taken {
        actions.clear();
        setup.list(&world, &mut actions);
        if !actions.contains(action) {
            continue;
        }
        world = setup.after(&world, *action, &mut |_| ());
        done.push(*action);
        if broken(setup, &world, why == COMES_BACK) == Some(why) {
            return Some(done);
        }
    }
    None
}

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014): the same walk for a seed everywhere.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % limit).unwrap_or(0)
    }

    /// What is rare is chosen rarely: a kind of step first, by weight, then one of that kind.
    fn choose(&mut self, actions: &[Action]) -> Action {
        let total: usize = actions.iter().map(|action| weight(*action)).sum();
        let mut at = self.below(total);
        for action in actions {
            match at.checked_sub(weight(*action)) {
                Some(left) => at = left,
                None => return *action,
            }
        }
        unreachable!("time can always pass")
    }
}

fn weight(action: Action) -> usize {
    match action {
        Action::GoOn(_) => 40,
        Action::Due(_) => 20,
        Action::Deliver(_) | Action::DeliverByOldClock(_) => 10,
        Action::WriteLate(..) => 8,
        Action::Tick(_) => 6,
        Action::Order(_) => 2,
        Action::LoseBut(_) | Action::Crash(..) | Action::Settings(_) => 1,
    }
}
