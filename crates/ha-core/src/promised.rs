//! For how long a promise of the SCS's voter may count that was given a moment ago: what an SCS that starts has to wait for
//! before it votes (rule R4). A profile that was made shorter does not shorten promises given under the one before.

use crate::state::State;
use domain::{Micros, PairName, Profile};
use lease::{Recorded, Timing};
use std::time::Duration;

/// How long promises on one pair's lease may count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Promised {
    /// The longest one that may be out.
    longest: Duration,
    /// When the last of those has run out that were longer than today's are.
    shorter_from: Option<Micros>,
}

impl Promised {
    /// From now on promises last as long as `profile` says.
    pub fn by(&mut self, profile: Profile, now: Micros) {
        let today = Timing::from(profile).promise();
        self.shorter_from = (today < self.longest).then(|| now + self.longest);
        self.longest = self.longest.max(today);
    }

    /// A run of the SCS before this one may have given promises of this length until now.
    pub fn before(&mut self, longest: Duration, now: Micros) {
        if self.longest < longest {
            *self = Self { longest, shorter_from: Some(now + longest) };
        }
    }

    /// True: longer ones than today's have just run out.
    fn time_passed(&mut self, profile: Profile, now: Micros) -> bool {
        let over = self.shorter_from.is_some_and(|at| at <= now);
        if over {
            *self = Self { longest: Timing::from(profile).promise(), shorter_from: None };
        }
        over
    }

    /// When the last of the longer ones has run out.
    pub fn deadline(&self) -> Option<Micros> {
        self.shorter_from
    }

    /// The longest one that may be out.
    pub fn longest(&self) -> Duration {
        self.longest
    }
}

impl State {
    /// What is on record for the SCS's voter of a pair.
    #[must_use]
    pub fn recorded(&self, name: &PairName) -> Recorded {
        let promise = self.pairs.get(name).map_or(Duration::ZERO, |state| state.promised.longest());
        Recorded { seen: self.greatest_epoch(name), promise }
    }

    /// Promises that were longer than today's are forgotten when they have run out.
    pub(crate) fn forget_longer_promises(&mut self, name: &PairName, profile: Profile, now: Micros) {
        if self.pairs.get_mut(name).is_some_and(|state| state.promised.time_passed(profile, now)) {
            self.changed = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Durable, Input, run};
    use domain::{AppName, Cluster, Epoch, HostName, Member};
    use lease::{Body, Kind, Message, PairId, Witness, Witnessed};

    const NOW: Micros = Micros(1_000_000_000);

    fn cluster(profile: &str) -> Cluster {
        let text = format!(
            r#"
            [hosts]
            host1 = {{ address = "192.0.2.11" }}
            host2 = {{ address = "192.0.2.12" }}
            [applications]
            sip1 = {{ host = "host1", command = ["/usr/bin/sip"] }}
            sip2 = {{ host = "host2", command = ["/usr/bin/sip"] }}
            [pairs.sip]
            members = ["sip1", "sip2"]
            profile = "{profile}"
            vips = [{{ address = "192.0.2.100/24", interface = "eth0" }}]
            "#
        );
        config::parse_cluster("cluster.toml", &text).unwrap_or_else(|r| panic!("{}", r.render(false))).0
    }

    fn pair() -> PairName {
        PairName::new("sip").unwrap()
    }

    /// What an SCS that starts at `now` says to host1's agent, which asks for the lease at `asked`.
    fn votes(profile: &str, durable: Durable, now: Micros, asked: Micros) -> bool {
        let state = State::new(cluster(profile), durable, now);
        let mut witness = Witness::default();
        witness.configure(state.cluster(), |pair| state.recorded(pair), now);
        let kind = Kind::Hold { granted: Epoch(2) };
        let body = Body::Ask { epoch: Epoch(2), at: Micros(1), hold_us: 10_000, kind };
        let ask = Message { pair: PairId::of(&pair()), body };
        let (mut out, host) = (Vec::new(), HostName::new("host1").unwrap());
        witness.time_passed(asked, &mut out);
        witness.hear(&host, &ask, asked, &mut out);
        let promise = |what: &Witnessed| {
            matches!(what, Witnessed::Vote(Member::First, Message { body: Body::Promise { .. }, .. }))
        };
        out.iter().any(promise)
    }

    fn promise(profile: Profile) -> Duration {
        Timing::from(profile).promise()
    }

    #[test]
    fn one_that_restarts_with_a_shorter_profile_waits_for_the_promises_of_the_longer_one() {
        let before = State::new(cluster("wan"), Durable::default(), NOW).durable();
        let (short, long) = (promise(Profile::Normal), promise(Profile::Wan));
        assert!(!votes("normal", before.clone(), NOW, NOW + short));
        assert!(!votes("normal", before.clone(), NOW, NOW + long - Duration::from_micros(1)));
        assert!(votes("normal", before, NOW, NOW + long));
        let same = State::new(cluster("normal"), Durable::default(), NOW).durable();
        assert!(votes("normal", same.clone(), NOW, NOW + short));
        assert!(!votes("wan", same, NOW, NOW + short), "and the longer one for its own");
    }

    #[test]
    fn one_that_dies_again_meanwhile_goes_on_waiting_and_afterwards_no_more() {
        let long = promise(Profile::Wan);
        let before = State::new(cluster("wan"), Durable::default(), NOW).durable();
        let mut state = State::new(cluster("normal"), before, NOW);
        let settle = |state: &mut State, now| {
            run(state, Input::TimePassed, now);
            state.durable()
        };
        let almost = NOW + long - Duration::from_micros(1);
        let kept = settle(&mut state, almost);
        assert!(!votes("normal", kept, almost, almost + promise(Profile::Normal)));
        let after = NOW + long;
        let kept = settle(&mut state, after);
        assert!(votes("normal", kept, after, after + promise(Profile::Normal)));
    }

    #[test]
    fn a_profile_made_shorter_while_it_runs_is_remembered_as_the_longer_one_for_as_long() {
        let mut state = State::new(cluster("wan"), Durable::default(), NOW);
        let change =
            Input::ClusterApplied { cluster: Box::new(cluster("normal")), what: "another".to_owned() };
        run(&mut state, change, NOW);
        assert_eq!(state.recorded(&pair()).promise, promise(Profile::Wan));
        run(&mut state, Input::TimePassed, NOW + promise(Profile::Wan));
        assert_eq!(state.recorded(&pair()).promise, promise(Profile::Normal));
    }

    #[test]
    fn what_is_kept_by_a_release_of_before_says_nothing_of_promises() {
        let mut before = State::new(cluster("normal"), Durable::default(), NOW).durable();
        for pair in before.pairs.values_mut() {
            pair.promise_us = 0;
            pair.wanted = Some(AppName::new("sip1").unwrap());
        }
        let state = State::new(cluster("normal"), before, NOW);
        assert_eq!(state.recorded(&pair()).promise, promise(Profile::Normal));
    }
}
