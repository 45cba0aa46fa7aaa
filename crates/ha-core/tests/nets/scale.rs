//! What an input costs where there are many pairs: it is about one of them, and the others have no part in it.

use crate::world::{app, host, pair};
use domain::*;
use ha_core::{Durable, Input, State, run};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// Inputs of each kind; the fastest counts, because the machine has other work.
const TRIES: usize = 200;
/// How much dearer an input may be among a hundred times as many pairs: look-ups are deeper, caches miss.
const DEARER: u32 = 25;

#[test]
#[cfg_attr(debug_assertions, ignore = "without optimization the core looks at all pairs, to check itself")]
fn an_input_costs_the_same_among_five_pairs_and_five_hundred() {
    let (few, many) = (costs(5), costs(500));
    for ((what, few), (_, many)) in few.into_iter().zip(many) {
        println!("{what}: {few:?} among 5 pairs, {many:?} among 500");
        assert!(many < few.max(Duration::from_micros(1)) * DEARER, "{what}: {few:?}, {many:?}");
    }
}

/// The time that each kind of input takes among so many pairs.
#[expect(clippy::disallowed_methods, reason = "what is measured is the time that the core does not read")]
fn costs(pairs: usize) -> Vec<(&'static str, Duration)> {
    let (mut state, mut now) = running(pairs);
    let at = pairs / 2;
    let (first, second, name) = (format!("a{at}"), format!("b{at}"), pair(&format!("p{at}")));
    let (holder, observer) = (host(&first), host(&second));
    let vip = state.cluster().pairs[&name].vips[0].address;
    let mut cost = |what, input: &dyn Fn(Micros) -> Input| {
        let mut best = Duration::MAX;
        for _ in 0..TRIES {
            now += Duration::from_millis(1);
            let input = input(now);
            let begun = Instant::now();
            run(&mut state, input, now);
            std::hint::black_box(state.next_deadline());
            best = best.min(begun.elapsed());
            state.take_settled();
        }
        (what, best)
    };
    vec![
        cost("application reported", &|at| Input::AppReported {
            host: holder.clone(),
            at,
            report: app_report(&first, RunMode::Primary),
        }),
        cost("VIP reported", &|at| Input::VipReported {
            host: holder.clone(),
            at,
            report: vip_report(vip, true),
        }),
        cost("VIP sighted", &|at| {
            let holders = vec![SeenHolder { mac: MacAddress([2; 6]), at }];
            let sighting = VipSighting { vip, interface: eth0(), asked: at, holders };
            Input::VipSighted { host: observer.clone(), at, sighting }
        }),
        cost("leases reported", &|_| {
            let (held, gate) = (Some(Epoch(2)), GateReport::Kernel);
            let lease = LeaseReport { pair: name.clone(), held, left_us: 1, backing: 2, gate };
            Input::LeasesReported { host: holder.clone(), leases: vec![lease] }
        }),
        cost("peer reported", &|at| Input::PeerReported {
            host: holder.clone(),
            at,
            peer: observer.clone(),
            heard: true,
        }),
        cost("time passed", &|_| Input::TimePassed),
    ]
}

/// So many pairs, all connected, each with its first member as primary.
fn running(pairs: usize) -> (State, Micros) {
    let now = Micros(1_000_000_000);
    let mut state = State::new(cluster(pairs), Durable::default(), now);
    for at in 0..pairs {
        let vip = state.cluster().pairs[&pair(&format!("p{at}"))].vips[0].address;
        for (side, mode) in [("a", RunMode::Primary), ("b", RunMode::Backup)] {
            let name = format!("{side}{at}");
            let connected =
                Input::AgentConnected { host: host(&name), release: "1".to_owned(), finds_holders: true };
            run(&mut state, connected, now);
            let inventory = Input::InventoryReported {
                host: host(&name),
                apps: vec![app_report(&name, mode)],
                vips: vec![vip_report(vip, mode == RunMode::Primary)],
                interfaces: vec![InterfaceReport { interface: eth0(), up: true, mac: None }],
            };
            run(&mut state, inventory, now);
        }
    }
    (state, now)
}

fn cluster(pairs: usize) -> Cluster {
    let mut text = String::new();
    for at in 0..pairs {
        let (net, number) = (at / 100, at % 100 + 1);
        for (side, last) in [("a", number), ("b", number + 100)] {
            writeln!(text, "[hosts.{side}{at}]\naddress = \"10.0.{net}.{last}\"").unwrap();
            writeln!(text, "[applications.{side}{at}]\nhost = \"{side}{at}\"\ncommand = [\"/usr/bin/sip\"]")
                .unwrap();
        }
        writeln!(text, "[pairs.p{at}]\nmembers = [\"a{at}\", \"b{at}\"]").unwrap();
        writeln!(text, "vips = [{{ address = \"10.1.{net}.{number}/16\", interface = \"eth0\" }}]").unwrap();
    }
    config::parse_cluster("cluster.toml", &text).unwrap_or_else(|r| panic!("{}", r.render(false))).0
}

fn eth0() -> InterfaceName {
    InterfaceName::new("eth0").unwrap()
}

fn vip_report(vip: VipAddress, present: bool) -> VipReport {
    VipReport { vip, interface: eth0(), present, why: String::new() }
}

fn app_report(name: &str, mode: RunMode) -> AppReport {
    AppReport {
        app: app(name),
        status: AppStatus::Started,
        mode: Some(mode),
        epoch: Epoch(2),
        synced: true,
        pid: None,
        cause: None,
        text: String::new(),
        restarts: 0,
        released: Vec::new(),
    }
}
