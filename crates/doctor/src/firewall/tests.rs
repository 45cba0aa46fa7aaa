//! Rulesets in JSON as `nft --json list ruleset` prints them, cut to what counts.

use super::*;

/// A ruleset with one input chain of this policy and these rules, each a list of expressions.
fn ruleset(policy: &str, rules: &[&str]) -> String {
    let rules: Vec<String> = rules
        .iter()
        .map(|expr| {
            format!(r#"{{"rule": {{"family": "inet", "table": "t", "chain": "in", "handle": 1, "expr": {expr}}}}}"#)
        })
        .collect();
    let separator = if rules.is_empty() { "" } else { "," };
    format!(
        r#"{{"nftables": [{{"metainfo": {{"version": "1.0.6"}}}}, {{"table": {{"family": "inet", "name": "t"}}}},
            {{"chain": {{"family": "inet", "table": "t", "name": "in", "type": "filter", "hook": "input", "prio": 0,
                         "policy": "{policy}"}}}},
            {{"chain": {{"family": "inet", "table": "t", "name": "other"}}}},
            {{"rule": {{"family": "inet", "table": "t", "chain": "other", "expr": [{{"accept": null}}]}}}}
            {separator} {}]}}"#,
        rules.join(",")
    )
}

/// What becomes of TCP and of UDP to port 7401.
fn fates(policy: &str, rules: &[&str]) -> [Fate; 2] {
    let filter = judge(ruleset(policy, rules).as_bytes(), 7401).expect("a ruleset");
    ["tcp", "udp"].map(|protocol| {
        let is = |chains: &[String]| chains.contains(&format!("inet t in ({protocol})"));
        match (is(&filter.drops), is(&filter.unclear)) {
            (true, _) => Fate::Dropped,
            (false, true) => Fate::Unclear,
            (false, false) => Fate::Accepted,
        }
    })
}

const ACCEPTED: [Fate; 2] = [Fate::Accepted; 2];
const DROPPED: [Fate; 2] = [Fate::Dropped; 2];
const UNCLEAR: [Fate; 2] = [Fate::Unclear; 2];

#[test]
fn packets_are_followed_through_a_chain() {
    let established = r#"[{"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}},
        {"accept": null}]"#;
    let loopback =
        r#"[{"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "lo"}}, {"accept": null}]"#;
    let tcp = r#"[{"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 7401}},
        {"accept": null}]"#;
    let set = r#"[{"match": {"op": "==", "left": {"payload": {"protocol": "th", "field": "dport"}},
        "right": {"set": [22, {"range": [7400, 7402]}]}}}, {"counter": {"packets": 0, "bytes": 0}}, {"accept": null}]"#;
    let other_port = r#"[{"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 22}},
        {"accept": null}]"#;
    let not_our_port = r#"[{"match": {"op": "!=", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 22}},
        {"drop": null}]"#;
    let from_there = r#"[{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}},
        "right": "192.0.2.12"}}, {"accept": null}]"#;
    let reject = r#"[{"reject": {"type": "icmpx", "expr": "admin-prohibited"}}]"#;
    let jump = r#"[{"jump": {"target": "other"}}]"#;
    let jump_nowhere = r#"[{"jump": {"target": "missing"}}]"#;
    let itself = r#"[{"jump": {"target": "in"}}]"#;
    let on_eth0 = r#"[{"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "eth0"}},
        {"goto": {"target": "other"}}]"#;
    let map = r#"[{"vmap": {"key": {"ct": {"key": "state"}}, "data": "@states"}}]"#;
    let log = r#"[{"log": {"prefix": "in"}}]"#;
    let named_set = r#"[{"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}},
        "right": "@open"}}, {"accept": null}]"#;

    for (policy, rules, expected) in [
        ("accept", &[][..], ACCEPTED),
        ("drop", &[], DROPPED),
        ("drop", &[established, loopback, other_port], DROPPED),
        ("drop", &[established, tcp], [Fate::Accepted, Fate::Dropped]),
        ("drop", &[set], ACCEPTED),
        ("accept", &[not_our_port], [Fate::Dropped, Fate::Accepted]),
        ("accept", &[log, reject], DROPPED),
        ("accept", &[tcp, reject], [Fate::Accepted, Fate::Dropped]),
        ("drop", &[jump], ACCEPTED),
        ("drop", &[jump_nowhere], DROPPED),
        ("drop", &[itself], UNCLEAR),
        ("drop", &[from_there], UNCLEAR),
        ("drop", &[from_there, set], ACCEPTED),
        ("accept", &[from_there], ACCEPTED),
        ("accept", &[from_there, reject], UNCLEAR),
        ("drop", &[on_eth0], UNCLEAR),
        ("drop", &[map], UNCLEAR),
        ("drop", &[named_set], [Fate::Unclear, Fate::Dropped]),
    ] {
        assert_eq!(fates(policy, rules), expected, "policy {policy}, rules {rules:?}");
    }
}

#[test]
fn a_chain_that_is_not_for_input_says_nothing() {
    let forward = r#"{"nftables": [{"chain": {"family": "ip", "table": "t", "name": "f", "type": "filter",
        "hook": "forward", "policy": "drop"}}]}"#;
    let filter = judge(forward.as_bytes(), 7401).unwrap();
    assert_eq!((filter.drops.len(), filter.unclear.len()), (0, 0));
}

#[test]
fn what_is_no_ruleset_says_nothing_and_does_no_harm() {
    for text in ["", "[]", "{}", r#"{"nftables": 5}"#, "\u{0}"] {
        assert_eq!(judge(text.as_bytes(), 7401), None, "{text:?}");
    }
    let odd = r#"{"nftables": [5, {"chain": null}, {"rule": {"family": "ip"}},
        {"chain": {"family": "ip", "table": "t", "name": "in", "type": "filter", "hook": "input", "policy": "drop"}},
        {"rule": {"family": "ip", "table": "t", "chain": "in", "expr": [5, {}, {"match": {"op": "=="}}, {"match":
            {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": {"range": [9, 1]}}},
            {"jump": {}}, {"accept": null}]}}]}"#;
    let filter = judge(odd.as_bytes(), 7401).unwrap();
    assert_eq!(filter.unclear.len() + filter.drops.len(), 2, "{filter:?}");
}
