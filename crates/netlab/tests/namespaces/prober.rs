//! The prober against a responder that answers by a plan, so that what must be seen is known to the number.

use super::lab::build;
use crate::guest;
use netlab::{Lab, Observation, ProbeSettings, Prober, now};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

/// Runs a prober on `b` against a responder on `a`, until that has answered under the last tag of its plan.
fn probe(lab: &mut Lab, target: &str, plan: &str) -> Observation {
    build(lab, &["a", "b"]);
    let mut responder = lab.spawn("a", guest::command(&format!("responder {target} {plan}"))).unwrap();
    assert_eq!(guest::Output::of(&mut responder).line(), "ready");
    let prober = Prober::start(lab, "b", ProbeSettings::new(target.parse().unwrap())).unwrap();
    let last = plan.rsplit(':').next().unwrap();
    assert!(prober.await_answer(last, now() - LIMIT, LIMIT), "{last} has not answered: {:?}", prober.live());
    let live = prober.live();
    assert_eq!(live.last.map(|(who, _)| who).as_deref(), Some(last));
    assert!(live.sent > 0);
    prober.stop()
}

pub fn it_knows_who_answered_what(lab: &mut Lab) {
    let seen = probe(lab, "192.0.2.1:5060", "1-100:old,151-170:503,171-400:new,200-210:old,401-999999:end");
    let numbers: Vec<u32> = seen.requests().iter().map(|request| request.number).collect();
    assert_eq!(
        numbers,
        (1..=u32::try_from(numbers.len()).unwrap()).collect::<Vec<_>>(),
        "numbered one by one"
    );
    assert_eq!(seen.refused, 20);
    assert_eq!(seen.lost(), 70, "101 to 170");
    let counts = seen.count_by_tag();
    assert_eq!((counts["old"], counts["new"]), (111, 230));
    let takeover = seen.takeover("old", "new").unwrap();
    let numbered = |at| seen.answers().iter().find(|answer| answer.at == at).unwrap().number;
    assert_eq!((numbered(takeover.last_of_old), numbered(takeover.first_of_new)), (100, 171));
    assert_eq!(takeover.late_answers, 11);
    let answered = |number: usize| seen.requests()[number - 1].answered.unwrap();
    assert_eq!(takeover.outage(), answered(171).since(answered(100)));
    assert_eq!(takeover.dual_until, seen.answers().iter().rfind(|a| seen.who(a) == "old").map(|a| a.at));
    assert_eq!(seen.longest_gap().unwrap().length(), takeover.outage());
    assert_eq!(seen.last_answered_by(), Some("end"));
    let window = seen.between(takeover.first_of_new, takeover.dual_until.unwrap());
    assert_eq!(window.lost(), 0);
    // Times are in order on one clock.
    assert!(seen.from <= seen.requests()[0].sent && seen.answers().is_sorted_by_key(|answer| answer.at));
    assert!(seen.requests().iter().all(|r| r.answered.is_none_or(|at| at >= r.sent && at <= seen.to)));
}

pub fn it_asks_over_ipv6(lab: &mut Lab) {
    let seen = probe(lab, "[2001:db8::1]:5060", "1-999999:six");
    assert_eq!(seen.lost(), 0, "{seen:?}");
    assert_eq!(seen.count_by_tag().keys().collect::<Vec<_>>(), [&"six"]);
}

pub fn silence_is_lost_requests(lab: &mut Lab) {
    build(lab, &["a", "b"]);
    // Nobody is there at all (no neighbour), and a host without a server (ICMP errors): both are silence.
    for target in ["192.0.2.99:5060", "192.0.2.1:5060"] {
        let target: SocketAddr = target.parse().unwrap();
        let settings = ProbeSettings { patience: Duration::from_millis(10), ..ProbeSettings::new(target) };
        let prober = Prober::start(lab, "b", settings).unwrap();
        let started = now();
        while prober.observe(started).lost() < 50 {
            assert!(now().since(started) < LIMIT, "{:?}", prober.live());
            std::thread::yield_now();
        }
        let seen = prober.stop();
        assert_eq!((seen.lost(), seen.answers().len()), (seen.requests().len(), 0));
        assert_eq!(seen.longest_gap().unwrap().length(), seen.to.since(seen.from));
        assert_eq!((seen.last_answered_by(), seen.count_by_tag()), (None, BTreeMap::new()));
    }
}
