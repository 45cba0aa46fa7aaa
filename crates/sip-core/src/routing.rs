//! Where a call goes: to the contacts of a user, or by way of trunks.

use crate::setup::{Setup, of, spelled};
use crate::trunks::Trunks;
use domain::{Micros, SipChoice, SipRoute};
use sip_proto::b2bua::{CallKey, Failover, Flow, Plan, Target};
use sip_proto::{Binding, Registrar, Uri};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Whoever calls, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rights {
    /// Users may be called.
    pub(crate) users: bool,
    /// Trunks may be used.
    pub(crate) outside: bool,
}

/// Where a call goes; otherwise the status that says why it goes nowhere.
pub(crate) fn plan(
    setup: &Setup,
    registrar: &Registrar,
    trunks: &Trunks,
    (call, called): (CallKey, &str),
    rights: Rights,
    now: Micros,
) -> Result<Plan, u16> {
    let uri = Uri::parse(called).map_err(|_| 416_u16)?;
    if !is_ours(setup, &uri) {
        return Err(404);
    }
    let number = uri.userinfo.map_or("", |user| user.split(':').next().unwrap_or(""));
    let mut names = addresses_of_record(setup, &uri).map(|name| registrar.bindings(&name, now).collect());
    let bindings: Vec<&Binding> = names.find(|found: &Vec<_>| !found.is_empty()).unwrap_or_default();
    let ringing = setup.settings.timers.ringing;
    if rights.users && !bindings.is_empty() {
        let groups = to_contacts(setup, &bindings, number);
        return Ok(Plan { groups, failover: Failover::AnyFailure, ringing });
    }
    if rights.users && setup.settings.users.contains_key(number) {
        return Err(480);
    }
    let Some(route) = route(&setup.settings.routes, number) else {
        return Err(if may_go_on(setup, number) { 484 } else { 404 });
    };
    if !rights.outside {
        return Err(403);
    }
    let groups = by_trunks(route, trunks, call, number);
    if groups.is_empty() { Err(503) } else { Ok(Plan { groups, failover: Failover::Unavailable, ringing }) }
}

/// Whether the host of a URI is one of our domains or addresses.
pub(crate) fn is_ours(setup: &Setup, uri: &Uri<'_>) -> bool {
    let domains = &setup.settings.domains;
    let named = |domain: &String| domain.eq_ignore_ascii_case(uri.host);
    let at = |address: IpAddr| spelled(address).eq_ignore_ascii_case(uri.host);
    domains.is_empty()
        || domains.iter().any(named)
        || setup.settings.listen.iter().any(|listen| at(listen.address.ip()))
}

/// What a user may have registered as who is called so: users are the same in all our domains and at all our addresses, and
/// a telephone that knows of the server no more than its address calls `bob@192.0.2.100`.
fn addresses_of_record(setup: &Setup, uri: &Uri<'_>) -> impl Iterator<Item = String> {
    let settings = &setup.settings;
    let addresses = settings.listen.iter().map(|listen| spelled(listen.address.ip()));
    let hosts = settings.domains.iter().cloned().chain(addresses);
    let plain = Uri { port: None, ..*uri };
    let aliases = hosts.map(move |host| Uri { host: &host, ..plain }.address_of_record());
    std::iter::once(uri.address_of_record()).chain(aliases)
}

/// Whether somebody has a longer number that begins so: who dials digit by digit may have more of them.
fn may_go_on(setup: &Setup, number: &str) -> bool {
    let is_dialed = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'*' | b'#'));
    let begins_so = |longer: &str| longer.starts_with(number) && is_dialed(longer);
    let users = &setup.settings.users;
    is_dialed(number)
        && (users.keys().any(|user| begins_so(user.as_str()))
            || setup.settings.routes.iter().any(|route| begins_so(&route.prefix)))
}

/// The one with the longest prefix.
fn route<'r>(routes: &'r [SipRoute], number: &str) -> Option<&'r SipRoute> {
    routes.iter().filter(|route| number.starts_with(&route.prefix)).max_by_key(|route| route.prefix.len())
}

/// All contacts with the same q at once, those with the greatest first (RFC 3261, section 16.6).
fn to_contacts(setup: &Setup, bindings: &[&Binding], user: &str) -> Vec<Vec<Target>> {
    let mut groups: BTreeMap<_, Vec<Target>> = BTreeMap::new();
    for binding in bindings {
        let Some((flow, behind_nat)) = way_to(setup, binding) else { continue };
        let target = Target {
            uri: binding.contact.clone(),
            flow,
            behind_nat,
            route: binding.path.clone(),
            label: user.into(),
            replaces: None,
        };
        groups.entry(std::cmp::Reverse(binding.q)).or_default().push(target);
    }
    // None counts as 1.0, which is more than any that says less.
    let silent = groups.remove(&std::cmp::Reverse(None));
    silent.into_iter().chain(groups.into_values()).collect()
}

/// The way to a contact: what it says, unless the registration came from elsewhere, as behind a NAT, or over a stream, which
/// is the only way back. With a Path, that is the way.
fn way_to(setup: &Setup, binding: &Binding) -> Option<(Flow, bool)> {
    let uri = Uri::parse(&binding.contact).ok()?;
    let named = uri.host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    let named = named.map(|address| SocketAddr::new(address, uri.port.unwrap_or(5060)));
    match (binding.flow, named) {
        (Some(flow), _) if setup.transport(flow).is_reliable() => Some((flow, true)),
        (Some(flow), _) if binding.path.is_some() => Some((flow, true)),
        (Some(flow), Some(named)) if flow.peer.ip() == named.ip() => {
            Some((Flow { peer: named, ..flow }, false))
        }
        (Some(flow), _) => Some((flow, true)),
        (None, Some(named)) => Some((setup.flow_to(of(domain::SipTransport::Udp), named)?, false)),
        (None, None) => None,
    }
}

/// One trunk after the other.
fn by_trunks(route: &SipRoute, trunks: &Trunks, call: CallKey, number: &str) -> Vec<Vec<Target>> {
    let number: String = number.chars().skip(usize::from(route.strip)).collect();
    let number = format!("{}{number}", route.add);
    let mut groups = Vec::new();
    for choice in in_order(&route.trunks, call) {
        let Some(trunk) = trunks.get(&choice.trunk) else { continue };
        for (flow, transport) in trunk.places() {
            let uri = trunk.uri(&number, flow, transport).into();
            let label = trunk.label().into();
            groups.push(vec![Target { uri, flow, behind_nat: false, route: None, label, replaces: None }]);
        }
    }
    groups
}

/// By priority, and among those of the same priority at random by weight, as with SRV (RFC 2782). Chance is in the call's
/// key, which is random, so that both members of a pair choose the same.
fn in_order(choices: &[SipChoice], call: CallKey) -> Vec<&SipChoice> {
    let mut chance = call.number();
    let mut left: Vec<&SipChoice> = choices.iter().collect();
    left.sort_by_key(|choice| choice.priority);
    let mut ordered = Vec::with_capacity(left.len());
    while let Some(first) = left.first() {
        let same = left.iter().take_while(|choice| choice.priority == first.priority).count();
        let weights: u64 = left.iter().take(same).map(|choice| u64::from(choice.weight)).sum();
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut point = if weights == 0 { 0 } else { (chance >> 33) % weights };
        let chosen = left.iter().take(same).position(|choice| {
            let weight = u64::from(choice.weight);
            let here = point < weight;
            point = point.saturating_sub(weight);
            here
        });
        ordered.push(left.remove(chosen.unwrap_or(0)));
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::SipName;

    fn choice(trunk: &str, priority: u16, weight: u16) -> SipChoice {
        SipChoice { trunk: SipName::new(trunk).unwrap(), priority, weight }
    }

    #[test]
    fn weights_are_shares_and_priorities_come_first() {
        let choices =
            [choice("last", 20, 1), choice("much", 10, 3), choice("little", 10, 1), choice("never", 10, 0)];
        let mut firsts = BTreeMap::new();
        for n in 0..4_000_u64 {
            let key = CallKey::read(&format!("{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).unwrap();
            let order = in_order(&choices, key);
            assert_eq!(order.len(), 4);
            assert_eq!(order[3].trunk.as_str(), "last");
            *firsts.entry(order[0].trunk.to_string()).or_insert(0) += 1;
        }
        assert!(
            (2_800..3_200).contains(&firsts["much"]) && (800..1_200).contains(&firsts["little"]),
            "{firsts:?}"
        );
        assert!(!firsts.contains_key("never"));
    }

    #[test]
    fn the_longest_prefix_counts() {
        let of =
            |prefix: &str| SipRoute { prefix: prefix.into(), strip: 0, add: String::new(), trunks: vec![] };
        let routes = [of(""), of("+49"), of("+4930"), of("+43")];
        assert_eq!(route(&routes, "+493012").unwrap().prefix, "+4930");
        assert_eq!(route(&routes, "+4989").unwrap().prefix, "+49");
        assert_eq!(route(&routes, "110").unwrap().prefix, "");
        assert_eq!(route(&routes[1..], "110"), None);
    }
}
