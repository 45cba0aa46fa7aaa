//! Profiles together, and what an agent knows of the cluster.

use super::*;

#[test]
fn two_profiles_are_satisfied_by_the_shorter_of_each_length() {
    let ms = Duration::from_millis;
    let custom = |heartbeat, hold| Profile::Custom { heartbeat: ms(heartbeat), hold: ms(hold) };
    assert_eq!(Profile::Wan.and(Profile::Normal), Profile::Normal);
    assert_eq!(Profile::Fast.and(Profile::Normal), Profile::Fast);
    assert_eq!(custom(20, 3_000).and(Profile::Normal), custom(20, 450));
    assert_eq!(Profile::Normal.and(custom(20, 3_000)), custom(20, 450));
    assert_eq!(custom(20, 3_000).to_string(), "20ms/3s");
}
/// Pairs as `(member, host, member, host, profile)`.
fn with_pairs(pairs: &[(&str, &str, &str, &str, Profile)]) -> Cluster {
    let mut cluster = Cluster::default();
    for (one, here, other, there, profile) in pairs {
        for (app, host) in [(one, here), (other, there)] {
            let host: HostName = host.parse().unwrap();
            let at = Host { address: "192.0.2.1".parse().unwrap(), peer_address: None };
            cluster.hosts.insert(host.clone(), at);
            let environment = BTreeMap::from([("KEY".to_owned(), format!("of {app}"))]);
            cluster.applications.insert(app.parse().unwrap(), application(host, environment));
        }
        let pair = Pair {
            members: [one.parse().unwrap(), other.parse().unwrap()],
            redundancy: Redundancy::Warm,
            profile: *profile,
            gate: GatePolicy::default(),
            failback: Failback::Never,
            flap_guard: FlapGuard::default(),
            vips: Vec::new(),
            sip: None,
        };
        cluster.pairs.insert(format!("{one}-{other}").parse().unwrap(), pair);
    }
    cluster
}

fn application(host: HostName, environment: BTreeMap<String, String>) -> Application {
    let second = Duration::from_secs(1);
    Application {
        host,
        command: vec!["/bin/true".to_owned()],
        directory: None,
        environment,
        user: None,
        mode_control: ModeControl::None,
        autostart: true,
        restart: RestartPolicy::default(),
        notify: false,
        start_limit: second,
        stop_limit: second,
        suspend_limit: second,
        watchdog: None,
        on_hang: OnHang::Restart,
        probe: None,
    }
}

#[test]
fn an_agent_knows_where_its_pairs_other_members_are_and_nothing_of_other_pairs() {
    let cluster = with_pairs(&[
        ("a", "h1", "b", "h2", Profile::Wan),
        ("c", "h2", "d", "h1", Profile::Fast),
        ("e", "h1", "f", "h3", Profile::Normal),
        ("g", "h2", "i", "h3", Profile::Normal),
    ]);
    let host = |name: &str| name.parse::<HostName>().unwrap();
    let part = cluster.part_of(&host("h1"));
    let of = |app: &str| part.applications.get(&app.parse::<AppName>().unwrap());
    assert_eq!(of("a").unwrap().environment["KEY"], "of a");
    for other in ["b", "c", "f"] {
        assert!(of(other).unwrap().environment.is_empty(), "{other}'s environment is not h1's business");
    }
    assert!(of("g").is_none() && of("i").is_none() && part.pairs.len() == 3);

    let expected = BTreeMap::from([(host("h2"), Profile::Fast), (host("h3"), Profile::Normal)]);
    assert_eq!(part.peers_of(&host("h1")), expected, "the part is enough to know the peers");
    assert_eq!(cluster.peers_of(&host("h1")), expected);
    assert!(cluster.peers_of(&host("h4")).is_empty());
}
