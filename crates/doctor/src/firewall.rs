//! Whether the packet filter lets the agents reach each other: reads what `nft` lists and follows a packet of a new
//! connection to a port through the chains of the input hook. What it does not understand makes the answer unclear, never
//! wrong. Rules of the old iptables (`iptables-legacy`) are not seen.

use crate::facts::Filter;
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::{Command, Stdio};

/// Chains followed into each other.
const DEEPEST: usize = 16;
/// Rules looked at for one packet; a chain entered from many places counts each time.
const MOST_RULES: usize = 100_000;

/// Asks `nft`; none where it is not there or may not be asked.
pub(crate) fn look(port: u16) -> Option<Filter> {
    let output =
        Command::new("nft").args(["--json", "list", "ruleset"]).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| judge(&output.stdout, port)).flatten()
}

/// What the ruleset, as `nft --json list ruleset` prints it (libnftables-json(5)), does with new TCP connections to `port`
/// and with UDP datagrams. None where it is no ruleset.
pub(crate) fn judge(json: &[u8], port: u16) -> Option<Filter> {
    let ruleset: Value = serde_json::from_slice(json).ok()?;
    let listed = ruleset.get("nftables")?.as_array()?;
    let mut chains: BTreeMap<Place<'_>, Chain<'_>> = BTreeMap::new();
    for chain in listed.iter().filter_map(|item| item.get("chain")) {
        let Some(place) = Place::of(chain, "name") else { continue };
        let text = |key| chain.get(key).and_then(Value::as_str);
        let input = text("hook") == Some("input") && text("type") == Some("filter");
        let drops = text("policy") == Some("drop");
        chains.insert(place, Chain { input, drops, rules: Vec::new() });
    }
    for rule in listed.iter().filter_map(|item| item.get("rule")) {
        let chain = Place::of(rule, "chain").and_then(|place| chains.get_mut(&place));
        if let (Some(chain), Some(expressions)) = (chain, rule.get("expr").and_then(Value::as_array)) {
            chain.rules.push(expressions);
        }
    }
    let mut filter = Filter { port, drops: Vec::new(), unclear: Vec::new() };
    // The management addresses may be of either family: both are looked at, a packet of each by its own tables.
    for (place, _) in chains.iter().filter(|(place, chain)| chain.input && place.family != "bridge") {
        for protocol in ["tcp", "udp"] {
            let mut walk = Walk { chains: &chains, port, protocol, rules: MOST_RULES };
            let said = format!("{} {} {} ({protocol})", place.family, place.table, place.chain);
            match walk.base(place) {
                Fate::Accepted => {}
                Fate::Dropped => filter.drops.push(said),
                Fate::Unclear => filter.unclear.push(said),
            }
        }
    }
    Some(filter)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place<'a> {
    family: &'a str,
    table: &'a str,
    chain: &'a str,
}

impl<'a> Place<'a> {
    fn of(item: &'a Value, name: &str) -> Option<Self> {
        let text = |key| item.get(key).and_then(Value::as_str);
        Some(Self { family: text("family")?, table: text("table")?, chain: text(name)? })
    }
}

struct Chain<'a> {
    input: bool,
    drops: bool,
    rules: Vec<&'a [Value]>,
}

/// What becomes of the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Accepted,
    Dropped,
    Unclear,
}

/// A packet on its way.
struct Walk<'a> {
    chains: &'a BTreeMap<Place<'a>, Chain<'a>>,
    port: u16,
    protocol: &'static str,
    rules: usize,
}

impl<'a> Walk<'a> {
    fn base(&mut self, place: &Place<'a>) -> Fate {
        let policy = match self.chains.get(place) {
            Some(chain) if chain.drops => Fate::Dropped,
            Some(_) | None => Fate::Accepted,
        };
        self.chain(place, 0).unwrap_or(policy)
    }

    /// None: the packet comes out at the end.
    fn chain(&mut self, place: &Place<'a>, depth: usize) -> Option<Fate> {
        let chain = self.chains.get(place)?;
        // What a rule that may or may not match does with the packet, until a later one does the same or is sure.
        let mut perhaps = None;
        for rule in &chain.rules {
            if depth > DEEPEST || self.rules == 0 {
                return Some(Fate::Unclear);
            }
            self.rules -= 1;
            let (matches, sure) = self.matches(rule);
            if !matches {
                continue;
            }
            let Some(fate) = rule.iter().find_map(|expression| self.verdict(expression, place, depth)) else {
                continue;
            };
            match (fate, perhaps) {
                (None, _) if sure => return perhaps,
                (None, _) => {}
                (Some(fate), None) if sure => return Some(fate),
                (Some(fate), Some(before)) if sure => {
                    return Some(if fate == before { fate } else { Fate::Unclear });
                }
                (Some(fate), None) => perhaps = Some(fate),
                (Some(fate), Some(before)) if fate != before => perhaps = Some(Fate::Unclear),
                (Some(_), Some(_)) => {}
            }
        }
        // Not sure of any of it: the policy may apply as well.
        perhaps.map(|fate| match (fate, chain.input && chain.drops) {
            (Fate::Dropped, true) => Fate::Dropped,
            (Fate::Accepted, false) if chain.input => Fate::Accepted,
            (Fate::Accepted | Fate::Dropped | Fate::Unclear, _) => Fate::Unclear,
        })
    }

    /// What an expression does with the packet, if it is a verdict; `Some(None)`: it leaves the chain.
    fn verdict(&mut self, expression: &'a Value, place: &Place<'a>, depth: usize) -> Option<Option<Fate>> {
        let (word, value) = expression.as_object()?.iter().next()?;
        match word.as_str() {
            "accept" => Some(Some(Fate::Accepted)),
            "drop" | "reject" => Some(Some(Fate::Dropped)),
            "return" => Some(None),
            "jump" | "goto" => {
                let target = Place { chain: value.get("target")?.as_str()?, ..*place };
                match self.chain(&target, depth + 1) {
                    Some(fate) => Some(Some(fate)),
                    None if word == "goto" => Some(None),
                    None => None,
                }
            }
            // Maps of verdicts, queues, rules of iptables that nft does not read.
            "vmap" | "queue" | "xt" => Some(Some(Fate::Unclear)),
            _ => None,
        }
    }

    /// Whether a rule matches the packet, and whether that is sure.
    fn matches(&self, rule: &[Value]) -> (bool, bool) {
        let mut sure = true;
        for found in rule.iter().filter_map(|expression| expression.get("match")) {
            match self.matched(found) {
                Some(true) => {}
                Some(false) => return (false, true),
                None => sure = false,
            }
        }
        (true, sure)
    }

    fn matched(&self, expression: &Value) -> Option<bool> {
        let (left, right) = (expression.get("left")?, expression.get("right")?);
        let equal = match expression.get("op")?.as_str()? {
            "==" | "in" => true,
            "!=" => false,
            _ => return None,
        };
        let is = |key: &str, value: &str| {
            left.get(key).and_then(|l| l.get("key")).and_then(Value::as_str) == Some(value)
        };
        let payload = |field: &str| {
            let payload = left.get("payload")?;
            (payload.get("field")?.as_str()? == field).then(|| payload.get("protocol")?.as_str()).flatten()
        };
        let holds = if is("ct", "state") {
            contains(right, &|v| v.as_str() == Some("new"))?
        } else if is("meta", "iifname") || is("meta", "iif") {
            // From another host: not over the loopback, else unknown.
            if right.as_str() == Some("lo") { false } else { return None }
        } else if is("meta", "l4proto") || payload("protocol").is_some() || payload("nexthdr").is_some() {
            contains(right, &|v| v.as_str() == Some(self.protocol))?
        } else if let Some(protocol) = payload("dport") {
            if protocol != self.protocol && protocol != "th" {
                // A port of TCP is one of TCP only, whatever it is compared with.
                return Some(false);
            }
            contains(right, &|v| v.as_u64() == Some(u64::from(self.port)))?
        } else if payload("type").is_some_and(|protocol| protocol.starts_with("icmp")) {
            false
        } else {
            return None;
        };
        Some(holds == equal)
    }
}

/// Whether a value, a set, a list or a range holds what `wanted` accepts; none where it is something else.
fn contains(value: &Value, wanted: &dyn Fn(&Value) -> bool) -> Option<bool> {
    if let Some(members) = value.get("set").or(Some(value)).and_then(Value::as_array) {
        let held: Vec<Option<bool>> =
            members.iter().take(MOST_RULES).map(|member| contains(member, wanted)).collect();
        return if held.contains(&Some(true)) {
            Some(true)
        } else {
            held.into_iter().collect::<Option<Vec<_>>>().map(|_| false)
        };
    }
    if let Some([from, to]) = value.get("range").and_then(Value::as_array).map(Vec::as_slice) {
        let (from, to) = (from.as_u64()?, to.as_u64()?);
        return (to - from.min(to) <= 65_535).then(|| (from..=to).any(|n| wanted(&Value::from(n))));
    }
    match value {
        // The name of a set: what is in it is listed elsewhere.
        Value::String(name) if name.starts_with('@') => None,
        Value::String(_) | Value::Number(_) => Some(wanted(value)),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests;
