//! The configuration as a model that `stateright` explores, and what must hold in each of its states.

use crate::action::Action;
use crate::setup::{Milestone, Setup};
use crate::world::World;
use domain::{Epoch, Member};
use stateright::{Model, Property};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Nothing is worth more than this.
pub const ONE_HOLDER: &str = "at most one gate is open";
/// Epochs grow at a holder; over all holders, as long as no voter loses its memory.
pub const EPOCHS_GROW: &str = "epochs grow";
/// See `recovery`.
pub const COMES_BACK: &str = "service comes back when faults end";

impl Model for Setup {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![self.beginning()]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        self.list(world, actions);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        Some(self.after(world, action, &mut |_| ()))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(ONE_HOLDER, |_, world: &World| world.open().count() < 2),
            Property::always(EPOCHS_GROW, |_, world: &World| world.broken.is_none()),
        ];
        if self.recovery_of_one_in.is_some() {
            properties.push(Property::always(COMES_BACK, |setup: &Setup, world| {
                !setup.looks_at(world) || setup.comes_back(world)
            }));
        }
        properties.extend(self.milestones.iter().map(|milestone| milestone.property()));
        properties
    }

    fn within_boundary(&self, world: &World) -> bool {
        world.machines.iter().all(|machine| machine.seen() <= self.max_epoch)
    }
}

impl Setup {
    /// Whether this state is one of those that recovery is looked at from. Not while too many messages fly: those are
    /// half a step.
    fn looks_at(&self, world: &World) -> bool {
        let mut hasher = DefaultHasher::new();
        world.hash(&mut hasher);
        world.flying.len() <= self.flying
            && self.recovery_of_one_in.is_some_and(|one_in| hasher.finish().is_multiple_of(one_in))
    }
}

impl Milestone {
    /// Its words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Milestone::TakeOver => "the other takes over",
            Milestone::SeamlessTakeOver => "the other takes over within a tick",
            Milestone::FailBack => "the first holds again",
            Milestone::Service => "somebody holds",
            Milestone::ReAdoption => "a crashed agent renews its lease in time",
        }
    }

    fn property(self) -> Property<Setup> {
        let words = self.words();
        match self {
            Milestone::TakeOver => Property::sometimes(words, |_, world: &World| took_over(world)),
            Milestone::SeamlessTakeOver => {
                Property::sometimes(words, |_, world: &World| took_over(world) && !world.story.dark)
            }
            Milestone::FailBack => Property::sometimes(words, |_, world: &World| {
                let [first, second] = &world.gates;
                world.is_open(Member::First) && second.epoch > Epoch(0) && first.epoch > second.epoch
            }),
            Milestone::Service => Property::sometimes(words, |_, world: &World| world.open().count() == 1),
            Milestone::ReAdoption => Property::sometimes(words, |_, world: &World| world.story.readopted),
        }
    }
}

/// Second is open, and First was before.
fn took_over(world: &World) -> bool {
    world.is_open(Member::Second) && world.gates[0].epoch > Epoch(0)
}
