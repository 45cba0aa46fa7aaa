//! What a cluster file means: defaults, the conditions that come with it, the examples, and that no input whatever does
//! harm.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use config::{
    AgentConfig, MAX_FILE, MAX_REPORTED, Report, load_cluster, parse_agent, parse_cluster, shipped_conditions,
};
use domain::{
    AppName, Category, Cluster, DetectSource, Failback, FlapGuard, GatePolicy, HostName, ModeControl, OnHang,
    PairName, Profile, Reaction, Redundancy, RestartPolicy, ScsSettings, VipControl, events,
};
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

const EXAMPLE: &str = include_str!("../../../packaging/examples/cluster.toml");
const MINIMAL: &str = include_str!("../../../packaging/examples/minimal.toml");
const SIP_EXAMPLE: &str = include_str!("../../../packaging/examples/sip-pair.toml");
const KAMAILIO_EXAMPLE: &str = include_str!("../../../packaging/examples/kamailio/cluster.toml");
const HOST_EXAMPLE: &str = include_str!("../../../packaging/examples/host.toml");

fn cluster(text: &str) -> Cluster {
    match parse_cluster("test.toml", text) {
        Ok((cluster, _)) => cluster,
        Err(report) => panic!("{report}"),
    }
}

fn broken(text: &str) -> Report {
    *parse_cluster("test.toml", text).expect_err("the file must be refused")
}

fn app(name: &str) -> AppName {
    AppName::new(name).unwrap()
}

/// The file with its defaults, which stand behind a '#', made part of it.
fn with_defaults(example: &str) -> String {
    let uncomment = |line: &str| match line.strip_prefix('#') {
        Some(setting) if setting.starts_with(|c: char| c.is_ascii_lowercase()) => setting.to_owned(),
        Some(_) | None => line.to_owned(),
    };
    example.lines().map(|line| uncomment(line) + "\n").collect()
}

#[test]
fn the_example_is_right_and_its_comments_show_the_defaults() {
    let (plain, report) = parse_cluster("cluster.toml", EXAMPLE).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(report.warnings, 0, "{report}");
    assert!(with_defaults(EXAMPLE).len() + 20 < EXAMPLE.len(), "the example shows defaults behind '#'");
    assert_eq!(cluster(&with_defaults(EXAMPLE)), plain);
}

#[test]
fn the_sip_example_is_right_and_its_comments_show_the_defaults() {
    let (plain, report) = parse_cluster("sip.toml", SIP_EXAMPLE).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(report.warnings, 0, "{report}");
    let with_defaults = with_defaults(SIP_EXAMPLE);
    assert!(with_defaults.len() + 10 < SIP_EXAMPLE.len(), "the example shows defaults behind '#'");
    assert_eq!(cluster(&with_defaults), plain);
    let pair = &plain.pairs[&PairName::new("sip").unwrap()];
    assert_eq!(pair.redundancy, Redundancy::Hot);
    let sip = pair.sip.as_deref().unwrap();
    assert_eq!(sip.trunks["carrier"].from, Some(0));
    let tried = |route: usize| {
        let trunks = sip.routes[route].trunks.iter();
        trunks.map(|t| (t.trunk.as_str(), t.priority, t.weight)).collect::<Vec<_>>()
    };
    assert_eq!(tried(0), [("carrier", 1, 1), ("reserve", 2, 1)]);
    assert_eq!(tried(1), [("carrier", 1, 3), ("reserve", 1, 1)]);
}

#[test]
fn the_example_with_another_sip_server_is_right() {
    let (cluster, report) =
        parse_cluster("kamailio.toml", KAMAILIO_EXAMPLE).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(report.warnings, 0, "{report}");
    let member = &cluster.applications[&app("kamailio1")];
    assert!(matches!(member.mode_control, ModeControl::Command { .. }) && member.probe.is_some());
    assert!(!member.notify && member.watchdog.is_none());
}

/// The minimal file with SIP settings.
fn with_sip(settings: &str) -> String {
    format!("{MINIMAL}\n[pairs.sip.sip]\ndomains = [\"Example.COM\", \"other.example\"]\n{settings}\n")
}

#[test]
fn sip_settings_have_the_documented_defaults() {
    let text = with_sip("users = {}");
    let sip = cluster(&text).pairs[&PairName::new("sip").unwrap()].sip.clone().unwrap();
    assert_eq!(sip.domains, ["example.com", "other.example"]);
    let listen: Vec<_> = sip.listen.iter().map(|l| format!("{}:{}", l.transport, l.address)).collect();
    assert_eq!(listen, ["udp:192.0.2.100:5060", "tcp:192.0.2.100:5060"]);
    assert_eq!((sip.replication.port, sip.http_port, sip.cdr_directory), (7403, None, None));
}

#[test]
fn a_password_in_a_file_becomes_what_is_kept_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("alice");
    std::fs::write(&file, "Circle of Life\n").unwrap();
    let settings = format!(
        "[pairs.sip.sip.users.alice]\npassword-file = {file:?}\n\
         [pairs.sip.sip.trunks.t]\nhost = \"192.0.2.9\"\nusername = \"us\"\npassword-file = {file:?}\n"
    );
    let text = with_sip(&settings);
    let read = || parse_cluster("test.toml", &text).unwrap_or_else(|report| panic!("{report}"));
    let (_, report) = read();
    assert!(report.to_string().contains("can be read by others"), "{report}");
    assert!(!report.to_string().contains("Circle"), "{report}");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let (cluster, report) = read();
    assert!(!report.to_string().contains("can be read by others"), "{report}");
    let sip = cluster.pairs[&PairName::new("sip").unwrap()].sip.clone().unwrap();
    let secret = &sip.users["alice"].secret;
    // H("alice:example.com:Circle of Life"), by md5sum and sha256sum.
    assert_eq!(secret.md5.as_deref(), Some("5d63aace79644831cf1ded8600ab8c95"));
    assert_eq!(
        secret.sha256.as_deref(),
        Some("14a0879670c48697dfd2ac8b6e2ce7244ffb13721e49e1309ce2237a9b0e8301")
    );
    assert_eq!(sip.trunks["t"].credentials.as_ref().unwrap().password, "Circle of Life");
    assert!(!format!("{cluster:?}").contains("Circle"));
}

#[test]
fn only_the_hosts_of_a_pair_are_told_its_secrets() {
    let text = with_sip("users = {}") + "[hosts.host3]\naddress = \"192.0.2.13\"\n";
    let cluster = cluster(&text);
    let told = |host: &str| cluster.part_of(&HostName::new(host).unwrap()).pairs.len();
    assert_eq!((told("host1"), told("host2"), told("host3")), (1, 1, 0));
}

#[test]
fn what_does_not_fit_into_a_message_to_an_agent_is_refused() {
    let users = |count: usize| {
        let mut text = with_sip("");
        for n in 0..count {
            let (sha256, md5) = ("a".repeat(64), "b".repeat(32));
            write!(text, "[pairs.sip.sip.users.u{n}]\nsha256 = \"{sha256}\"\nmd5 = \"{md5}\"\n").unwrap();
        }
        text
    };
    cluster(&users(4_000));
    assert!(broken(&users(8_000)).to_string().contains("too many"));
}

#[test]
fn a_file_with_secrets_that_everybody_can_read_is_warned_about() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cluster.toml");
    std::fs::write(&path, SIP_EXAMPLE).unwrap();
    for (mode, warnings) in [(0o644, 1), (0o640, 0)] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(load_cluster(&path).unwrap().1.warnings, warnings);
    }
}

#[test]
fn the_host_example_is_right_and_its_comments_show_the_defaults() {
    let agent =
        |text: &str| -> AgentConfig { parse_agent("host.toml", text).unwrap_or_else(|r| panic!("{r}")).0 };
    assert_eq!(agent(&with_defaults(HOST_EXAMPLE)), agent(HOST_EXAMPLE));
}

#[test]
fn a_minimal_file_has_the_documented_defaults() {
    let (cluster, report) = parse_cluster("minimal.toml", MINIMAL).unwrap();
    assert_eq!(report.warnings, 0, "{report}");
    assert_eq!(cluster.name, "takeover");
    let listen = vec!["0.0.0.0:7400".parse().unwrap()];
    assert_eq!(cluster.scs, ScsSettings { listen, ..ScsSettings::default() });
    let sip1 = &cluster.applications[&app("sip1")];
    assert_eq!(sip1.mode_control, ModeControl::Socket);
    assert_eq!((sip1.autostart, sip1.notify, sip1.on_hang), (true, true, OnHang::Restart));
    assert_eq!(sip1.restart, RestartPolicy::default());
    assert_eq!(sip1.watchdog, Some(Duration::from_secs(1)));
    assert_eq!((sip1.start_limit, sip1.stop_limit), (Duration::from_secs(90), Duration::from_secs(90)));
    assert_eq!(sip1.suspend_limit, Duration::from_secs(10));
    assert_eq!((&sip1.directory, &sip1.user, &sip1.probe), (&None, &None, &None));
    let pair = &cluster.pairs[&PairName::new("sip").unwrap()];
    assert_eq!(
        (pair.redundancy, pair.profile, pair.gate, pair.failback),
        (Redundancy::Warm, Profile::Normal, GatePolicy::Preferred, Failback::Never)
    );
    assert_eq!(pair.flap_guard, FlapGuard::default());
    assert_eq!(pair.vips[0].control, VipControl::BuiltIn);
    let hosts: Vec<_> = pair.vips[0].interfaces.iter().map(|(host, i)| (host.as_str(), i.as_str())).collect();
    assert_eq!(hosts, [("host1", "eth0"), ("host2", "eth0")]);
}

#[test]
fn readiness_and_heartbeats_are_expected_only_of_who_promises_them() {
    let other = MINIMAL.replacen("host = \"host1\"", "host = \"host1\"\nmode-control = \"none\"", 1);
    let sip1 = cluster(&other).applications[&app("sip1")].clone();
    assert_eq!((sip1.notify, sip1.watchdog), (false, None));
    let off = MINIMAL.replacen("host = \"host1\"", "host = \"host1\"\nwatchdog = false", 1);
    assert_eq!(cluster(&off).applications[&app("sip1")].watchdog, None);
}

#[test]
fn members_of_a_cold_pair_do_not_start_by_themselves() {
    let cold = MINIMAL.replacen("[pairs.sip]", "[pairs.sip]\nredundancy = \"cold\"", 1);
    assert!(cluster(&cold).applications.values().all(|app| !app.autostart));
}

#[test]
fn a_profile_of_ones_own_is_a_table() {
    let own = |table: &str| {
        let text = MINIMAL.replacen("[pairs.sip]", &format!("[pairs.sip]\nprofile = {table}"), 1);
        let (cluster, report) = parse_cluster("test.toml", &text).unwrap_or_else(|report| panic!("{report}"));
        (cluster.pairs[&PairName::new("sip").unwrap()].profile, report.warnings)
    };
    let custom = |heartbeat, hold| Profile::Custom {
        heartbeat: Duration::from_millis(heartbeat),
        hold: Duration::from_millis(hold),
    };
    assert_eq!(own("{ heartbeat = \"50ms\", lease = \"250ms\" }"), (custom(50, 250), 0));
    // 40 ms to spare is less than what a busy host without real-time rights may need.
    assert_eq!(own("{ heartbeat = \"20ms\", lease = \"80ms\" }"), (custom(20, 80), 1));
}

#[test]
fn each_pair_is_wired() {
    let cluster = cluster(MINIMAL);
    assert_eq!(cluster.alarm_conditions.len(), shipped_conditions().len() + 4);
    let pair = PairName::new("sip").unwrap();
    let primary = &cluster.alarm_conditions["sip primary wiring sip1"];
    assert_eq!(primary.detect.event, events::NOW_PRIMARY);
    assert_eq!(primary.detect.source, DetectSource::Application(app("sip1")));
    assert_eq!(
        primary.reactions,
        [Reaction::DisableVipOnOther { pair: pair.clone() }, Reaction::EnableVip { pair: pair.clone() }]
    );
    assert!(primary.refire && primary.hidden && primary.enabled);
    let backup = &cluster.alarm_conditions["sip backup wiring sip2"];
    assert_eq!(backup.detect.event, events::NOW_BACKUP);
    assert_eq!(backup.reactions, [Reaction::DisableVip { pair }]);
}

#[test]
fn a_pair_without_vips_is_not_wired() {
    let text = MINIMAL.lines().filter(|line| !line.starts_with("vips")).collect::<Vec<_>>().join("\n");
    assert_eq!(cluster(&text).alarm_conditions, shipped_conditions());
}

#[test]
fn a_shipped_condition_keeps_what_the_file_does_not_say() {
    let text = format!("{MINIMAL}\n[alarm-conditions.application-failure]\ncategory = \"critical\"\n");
    let changed = &cluster(&text).alarm_conditions["application-failure"];
    let shipped = &shipped_conditions()["application-failure"];
    assert_eq!(changed.category, Category::Critical);
    assert_eq!((&changed.detect, &changed.cancel), (&shipped.detect, &shipped.cancel));
    let off = format!("{MINIMAL}\n[alarm-conditions.application-failure]\nenabled = false\n");
    assert!(!cluster(&off).alarm_conditions["application-failure"].enabled);
}

#[test]
fn both_spellings_of_an_event_are_the_same() {
    let condition = |id: &str| {
        let text = format!("{MINIMAL}\n[alarm-conditions.x]\ndetect = \"{id}\"\nhost = \"host1\"\n");
        cluster(&text).alarm_conditions["x"].clone()
    };
    assert_eq!(condition("00-5064"), condition("00-05064"));
    assert_eq!(condition("00-5064").detect.source, DetectSource::Host(HostName::new("host1").unwrap()));
}

const REFERENCE: &str = include_str!("../../../docs/configuration.md");

/// The text below the heading that holds `title`, up to the next heading.
fn chapter(title: &str) -> &'static str {
    let heading = REFERENCE
        .lines()
        .find(|line| line.starts_with('#') && line.contains(title))
        .unwrap_or_else(|| panic!("docs/configuration.md has no heading {title}"));
    let from = REFERENCE.find(&format!("{heading}\n")).expect("the heading was found above") + heading.len();
    let text = &REFERENCE[from..];
    &text[..text.find("\n#").unwrap_or(text.len())]
}

#[test]
fn every_key_of_both_files_is_in_the_reference() {
    for section in config::CLUSTER_FILE.iter().filter(|section| !section.path.is_empty()) {
        let text = chapter(&format!("`[{}]`", section.path));
        for key in section.keys {
            assert!(
                text.contains(&format!("\n| `{key}` |")),
                "`{key}` of [{}] is not described",
                section.path
            );
        }
        let rows = text.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
        let described = rows.take_while(|line| line.starts_with('|')).count();
        assert_eq!(described, section.keys.len(), "[{}] describes keys that it does not have", section.path);
    }
    for section in config::HOST_FILE {
        for key in section.keys {
            assert!(chapter("The host file").contains(&format!("\n| `{key}` |")), "`{key}` is not described");
        }
    }
}

#[test]
fn every_shipped_condition_is_in_the_reference() {
    let text = chapter("Shipped conditions");
    for (name, condition) in shipped_conditions() {
        let cancel: Vec<String> = condition.cancel.iter().map(ToString::to_string).collect();
        let cleared = if cancel.is_empty() { "an operator, or time".to_owned() } else { cancel.join(", ") };
        let row = format!("| `{name}` | {} | {} | {cleared} |", condition.category, condition.detect.event);
        assert!(text.contains(&row), "docs/configuration.md lacks the row {row}");
    }
}

#[test]
fn at_most_fifty_errors_are_shown_and_all_are_counted() {
    let mut text = MINIMAL.to_owned();
    for i in 0..70 {
        writeln!(text, "[applications.a{i}]\nhost = \"host1\"\ncommand = [\"x\"]").unwrap();
    }
    let report = broken(&text);
    assert_eq!((report.errors, report.diagnostics.len()), (70, MAX_REPORTED));
    assert!(report.render(false).ends_with("test.toml: 70 errors (20 of them not shown)\n"));
}

#[test]
fn a_report_tells_line_and_column() {
    let report = broken("[hosts.host1]\naddress = \"192.0.2.11\"\n[applications.a]\n  host = \"ä\"\n");
    let places: Vec<_> =
        report.diagnostics.iter().filter_map(|d| d.at.as_ref()).map(|n| (n.line, n.column)).collect();
    assert_eq!(places, [(3, 1), (4, 10)]);
}

#[test]
fn files_that_are_no_text_too_large_or_not_there_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let refused = |name: &str, content: Option<&[u8]>| {
        let path = directory.path().join(name);
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let report = load_cluster(&path).expect_err("the file must be refused");
        assert_eq!(report.errors, 1);
        report.to_string()
    };
    assert!(refused("large", Some(&vec![b'#'; MAX_FILE + 1])).contains("is larger than 4MiB"));
    assert!(refused("binary", Some(b"[hosts]\n\xff\xfe")).contains("line 2 is not text: byte 8"));
    assert!(refused("absent", None).contains("cannot be read: No such file"));
    assert!(load_cluster(Path::new("/")).is_err());
}

/// A small generator (xorshift64*), so that a failure can be repeated from its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % limit.max(1)
    }
}

/// Reads and renders `text` as either file: whatever it is, an answer comes and no panic.
fn harmless(what: &str, text: &str) {
    let outcome = std::panic::catch_unwind(|| {
        for report in [parse_cluster("f", text).map(|v| v.1), parse_agent("f", text).map(|v| v.1)] {
            let rendered = match report {
                Ok(report) => report.render(false),
                Err(report) => report.render(true),
            };
            assert!(!rendered.is_empty());
        }
    });
    assert!(outcome.is_ok(), "{what} must not panic:\n{text}");
}

#[test]
fn a_truncated_example_does_no_harm() {
    for end in (0..EXAMPLE.len()).filter(|end| EXAMPLE.is_char_boundary(*end)) {
        harmless(&format!("the example's first {end} bytes"), &EXAMPLE[..end]);
    }
}

#[test]
fn a_mutated_example_does_no_harm() {
    const PIECES: [&str; 16] = [
        "\"",
        "[",
        "]",
        "{",
        "}",
        "=",
        ".",
        "\n",
        "\r",
        "\0",
        "ä",
        "'''",
        "1e999",
        "inf",
        "[[a]]\n",
        "\u{202e}\t",
    ];
    for seed in 1..=600 {
        let mut random = Random(seed);
        let mut text: Vec<char> = with_defaults(EXAMPLE).chars().collect();
        for _ in 0..=random.below(6) {
            let at = random.below(text.len());
            match random.below(4) {
                0 => drop(text.drain(at..(at + random.below(40)).min(text.len()))),
                1 => drop(text.splice(at..at, PIECES[random.below(PIECES.len())].chars())),
                2 => text[at] = char::from(random.below(128) as u8),
                _ => {
                    let piece: Vec<char> = text[at..(at + random.below(200)).min(text.len())].to_vec();
                    let to = random.below(text.len());
                    drop(text.splice(to..to, piece));
                }
            }
        }
        harmless(&format!("seed {seed}"), &text.into_iter().collect::<String>());
    }
}

#[test]
fn random_text_does_no_harm() {
    for seed in 1..=300 {
        let mut random = Random(seed);
        let text: String = (0..random.below(400))
            .map(|_| char::from_u32(random.below(0x300) as u32).unwrap_or('?'))
            .collect();
        harmless(&format!("seed {seed}"), &text);
    }
}

#[test]
fn deep_nesting_does_no_harm() {
    for open in ["[", "{a=", "[{a=", "a."] {
        harmless("deep nesting", &format!("x = {}", open.repeat(50_000)));
        harmless("deep nesting of a key", &format!("{} = 1", "a.".repeat(50_000)));
    }
}
