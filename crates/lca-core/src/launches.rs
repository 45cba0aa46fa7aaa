//! Which launch runs when. Pure: the same reference runs once; scripts for one VIP run one after another, so that an
//! enable never overtakes a disable; different VIPs run side by side, up to a bound.

use domain::{
    LAUNCH_OUTPUT_LIMIT, Launch, LaunchOutcome, LaunchResult, LaunchWhat, RefId, VipAddress, VipVerb,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Scripts that run at the same time.
const SIDE_BY_SIDE: usize = 8;
/// Launches that may wait.
const WAITING: usize = 1_000;
/// Results remembered, to be told again.
const REMEMBERED: usize = 1_000;
/// How much of the output is remembered with them, bytes.
const REMEMBERED_OUTPUT: usize = 1_024;

const _: () = assert!(REMEMBERED_OUTPUT < LAUNCH_OUTPUT_LIMIT);

/// What is to become of a launch that was ordered.
#[derive(Debug, PartialEq)]
pub enum Offered {
    /// New.
    New,
    /// It is running or waits: its result will come.
    InHand,
    /// It ran before: its result once more.
    Known(LaunchResult),
}

/// Launches of scripts in hand, and the results of all kinds of launches.
#[derive(Debug, Default)]
pub struct Launches {
    waiting: VecDeque<Box<Launch>>,
    running: BTreeMap<RefId, Option<VipAddress>>,
    known: BTreeMap<RefId, LaunchResult>,
    order: VecDeque<RefId>,
}

impl Launches {
    /// Whether a launch of this reference was seen before.
    #[must_use]
    pub fn offered(&self, ref_id: RefId) -> Offered {
        if let Some(result) = self.known.get(&ref_id) {
            Offered::Known(result.clone())
        } else if self.running.contains_key(&ref_id)
            || self.waiting.iter().any(|launch| launch.ref_id == ref_id)
        {
            Offered::InHand
        } else {
            Offered::New
        }
    }

    /// Puts a new launch of a script in line.
    ///
    /// # Errors
    /// The launch, where too many wait.
    pub fn queue(&mut self, launch: Box<Launch>) -> Result<(), Box<Launch>> {
        if self.waiting.len() >= WAITING {
            return Err(launch);
        }
        self.waiting.push_back(launch);
        Ok(())
    }

    /// The next launch that may begin now, if any; it counts as running until [`Launches::ended`].
    pub fn begin_next(&mut self) -> Option<Box<Launch>> {
        if self.running.len() >= SIDE_BY_SIDE {
            return None;
        }
        // A VIP is busy while a script for it runs, or an earlier one waits.
        let mut busy: BTreeSet<VipAddress> = self.running.values().flatten().copied().collect();
        let free =
            self.waiting.iter().position(|launch| vip_of(launch).is_none_or(|vip| busy.insert(vip)))?;
        let launch = self.waiting.remove(free)?;
        self.running.insert(launch.ref_id, vip_of(&launch));
        Some(launch)
    }

    /// What the last launch that waits for its turn will do to a VIP; none: none waits.
    #[must_use]
    pub fn last_waiting(&self, of: &VipAddress) -> Option<VipVerb> {
        self.waiting.iter().rev().find_map(|launch| match &launch.what {
            LaunchWhat::VipControl { vip, verb, .. } if vip == of => Some(*verb),
            LaunchWhat::VipControl { .. }
            | LaunchWhat::Announce { .. }
            | LaunchWhat::FindHolder { .. }
            | LaunchWhat::Script { .. } => None,
        })
    }

    /// A launch ended (or never ran): remembers its result.
    pub fn ended(&mut self, result: &LaunchResult) {
        self.running.remove(&result.ref_id);
        let mut kept = result.clone();
        kept.output.truncate(kept.output.floor_char_boundary(REMEMBERED_OUTPUT));
        if self.known.insert(result.ref_id, kept).is_none() {
            self.order.push_back(result.ref_id);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// The outcomes of the newest `most` launches, oldest first, for the agent's next run.
    pub fn newest(&self, most: usize) -> impl Iterator<Item = (RefId, LaunchOutcome)> + '_ {
        let skipped = self.order.len().saturating_sub(most);
        self.order
            .iter()
            .skip(skipped)
            .filter_map(|ref_id| Some((*ref_id, self.known.get(ref_id)?.outcome.clone())))
    }

    /// Takes in what [`Launches::newest`] gave.
    pub fn restore(&mut self, outcomes: Vec<(RefId, LaunchOutcome)>) {
        for (ref_id, outcome) in outcomes {
            self.ended(&LaunchResult { ref_id, outcome, output: String::new(), took_us: 0 });
        }
    }
}

fn vip_of(launch: &Launch) -> Option<VipAddress> {
    match &launch.what {
        LaunchWhat::VipControl { vip, .. }
        | LaunchWhat::Announce { vip, .. }
        | LaunchWhat::FindHolder { vip, .. } => Some(*vip),
        LaunchWhat::Script { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{Epoch, InterfaceName, ScriptName};
    use std::time::Duration;

    fn launch(ref_id: u64, vip: Option<u8>) -> Box<Launch> {
        let script = ScriptName::new("move").unwrap();
        let what = match vip {
            None => LaunchWhat::Script { script },
            Some(n) => LaunchWhat::VipControl {
                verb: VipVerb::Enable,
                vip: format!("192.0.2.{n}/24").parse().unwrap(),
                interface: InterfaceName::new("eth0").unwrap(),
                script: Some(script),
            },
        };
        Box::new(Launch {
            ref_id: RefId(ref_id),
            what,
            pair: None,
            app: None,
            mode: None,
            epoch: Epoch(1),
            event: None,
            alarm: String::new(),
            time_limit: Duration::from_secs(10),
        })
    }

    fn result(ref_id: u64) -> LaunchResult {
        LaunchResult {
            ref_id: RefId(ref_id),
            outcome: LaunchOutcome::Succeeded,
            output: String::new(),
            took_us: 5,
        }
    }

    fn next(launches: &mut Launches) -> Option<u64> {
        launches.begin_next().map(|launch| launch.ref_id.0)
    }

    #[test]
    fn scripts_for_one_vip_keep_their_order_and_others_pass() {
        let mut launches = Launches::default();
        for (ref_id, vip) in [(1, Some(1)), (2, Some(1)), (3, Some(2)), (4, None), (5, Some(1))] {
            launches.queue(launch(ref_id, vip)).unwrap();
        }
        assert_eq!(launches.last_waiting(&"192.0.2.1/24".parse().unwrap()), Some(VipVerb::Enable));
        assert_eq!(next(&mut launches), Some(1));
        assert_eq!(next(&mut launches), Some(3));
        assert_eq!(launches.last_waiting(&"192.0.2.2/24".parse().unwrap()), None, "its turn has come");
        assert_eq!(next(&mut launches), Some(4));
        assert_eq!(next(&mut launches), None, "2 and 5 wait for 1");
        launches.ended(&result(1));
        assert_eq!(next(&mut launches), Some(2));
        assert_eq!(next(&mut launches), None);
        launches.ended(&result(2));
        assert_eq!(next(&mut launches), Some(5));
    }

    #[test]
    fn a_reference_runs_once() {
        let mut launches = Launches::default();
        assert_eq!(launches.offered(RefId(1)), Offered::New);
        launches.queue(launch(1, None)).unwrap();
        assert_eq!(launches.offered(RefId(1)), Offered::InHand);
        launches.begin_next().unwrap();
        assert_eq!(launches.offered(RefId(1)), Offered::InHand);
        launches.ended(&result(1));
        assert_eq!(launches.offered(RefId(1)), Offered::Known(result(1)));
        let mut next_run = Launches::default();
        next_run.restore(launches.newest(10).collect());
        assert!(matches!(next_run.offered(RefId(1)), Offered::Known(_)));
    }

    #[test]
    fn everything_is_bounded() {
        let mut launches = Launches::default();
        for ref_id in 0..WAITING as u64 {
            launches.queue(launch(ref_id, None)).unwrap();
        }
        assert!(launches.queue(launch(9_999, None)).is_err());
        for ref_id in 0..SIDE_BY_SIDE as u64 {
            assert_eq!(next(&mut launches), Some(ref_id));
        }
        assert_eq!(next(&mut launches), None);
        for ref_id in 0..=REMEMBERED as u64 {
            launches.ended(&result(ref_id));
        }
        assert_eq!(launches.offered(RefId(0)), Offered::New, "the oldest is forgotten");
        assert!(matches!(launches.offered(RefId(1)), Offered::Known(_)));
    }
}
