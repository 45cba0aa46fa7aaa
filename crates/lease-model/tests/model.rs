//! The model with small bounds, in the ordinary test run. `cargo xtask model --long` goes much further.

#![allow(clippy::unwrap_used, reason = "tests")]

use lease_model::action::Action;
use lease_model::configurations::{Bounds, broken, possible, safe, walked};
use lease_model::explore::explore;
use lease_model::model::ONE_HOLDER;
use lease_model::setup::{Breakage, Setup};
use lease_model::walk::{Walk, walk};
use lease_model::world::{Packet, World};

/// More than any of these needs.
const MOST: usize = 20_000_000;

#[test]
fn what_must_hold_holds_in_every_state() {
    for setup in safe(Bounds::Small) {
        let outcome = explore(&setup, 1, MOST);
        println!("{outcome}");
        assert!(outcome.is_good() && outcome.complete);
    }
}

#[test]
fn what_must_be_possible_is() {
    for setup in possible(Bounds::Small) {
        let outcome = explore(&setup, 1, MOST);
        println!("{outcome}");
        assert!(outcome.is_good());
    }
}

#[test]
fn every_rule_that_is_broken_shows() {
    for setup in broken() {
        let outcome = explore(&setup, 1, MOST);
        println!("{outcome}");
        assert!(outcome.broken.contains_key(ONE_HOLDER), "{} does no harm", setup.name);
    }
}

#[test]
fn nothing_falls_at_random() {
    for setup in walked() {
        for seed in 0..300 {
            if let Err(fall) = walk(&setup, seed, 1_000, 50) {
                panic!("{}, seed {seed}: {}\n{}", setup.name, fall.broken, fall.transcript);
            }
        }
    }
}

#[test]
fn walks_find_what_is_broken_and_tell_it_shortly() {
    let wild = walked().remove(0);
    for breakage in [Breakage::AnchoredAtArrival, Breakage::RelativeWrite] {
        let setup = Setup { breakage: Some(breakage), other_timing: None, ..wild.clone() };
        let fall = (0..1_000).find_map(|seed| walk(&setup, seed, 1_000, usize::MAX).err());
        let fall = fall.unwrap_or_else(|| panic!("{breakage:?} does no harm in a thousand walks"));
        assert_eq!(fall.broken, ONE_HOLDER);
        assert!(fall.transcript.lines().count() < 500, "{}", fall.transcript);
    }
}

/// The model sets all clocks back after each tick, and rounds times that are over: the same steps with clocks that run on
/// lead to the same states.
#[test]
fn clocks_that_are_set_back_change_nothing() {
    for setup in walked() {
        let setup = Setup { other_timing: None, ..setup };
        let plain = Setup { keep_time: true, ..setup.clone() };
        for seed in 0..100 {
            let mut world = plain.beginning();
            for (step, (action, expected)) in Walk::new(&setup, seed).take(300).enumerate() {
                world = plain.after(&world, with_clocks(action, &world), &mut |_| ());
                assert_eq!(
                    set_back(&world),
                    set_back(&expected),
                    "seed {seed}, step {step}, after {action:?}"
                );
            }
        }
    }
}

fn set_back(world: &World) -> World {
    let mut world = world.clone();
    world.set_back();
    world
}

/// The step as it is where clocks run on. Messages too old to be told apart there are told apart here: any of them will do.
fn with_clocks(action: Action, world: &World) -> Action {
    let image = |packet: &Packet| {
        let mut alone = World { flying: vec![*packet], ..world.clone() };
        alone.set_back();
        alone.flying[0]
    };
    match action {
        Action::Deliver(packet) => {
            Action::Deliver(*world.flying.iter().find(|flying| image(flying) == packet).unwrap())
        }
        Action::LoseBut(kept) => {
            let all = set_back(world).flying;
            let is_kept = |packet| kept >> all.binary_search(&image(packet)).unwrap() & 1 == 1;
            let bits = world.flying.iter().enumerate().filter(|(_, packet)| is_kept(packet));
            Action::LoseBut(bits.map(|(place, _)| 1 << place).sum())
        }
        same => same,
    }
}
