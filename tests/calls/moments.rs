//! The primary is taken away at the worst moment of each of many [`SITUATIONS`], and all of them end well: over UDP, where
//! messages are lost in the outage and repeated; over TCP and TLS, where telephones have to connect again.

use crate::phones::{records, site_with_settings};
use crate::situations::SITUATIONS;
use crate::telephones::{Dialog, Id, Room};
use crate::wire::Transport::{self, Tcp, Tls, Udp};
use anyhow::{Context, bail, ensure};
use e2e::{LIMIT, wait_until};
use netlab::Lab;
use nix::sys::signal::Signal;
use rehearsal::{AGENT_HOSTS, Site, VIP};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Shorter than by default, so that a call can ring until nobody wants to wait any more.
const RINGING: &str = "timers = { ringing = \"15s\" }";

/// What becomes of sip1, the primary.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Kill,
    /// It does nothing more, until its agent misses its heartbeats.
    Stop,
    Cut,
    SwitchOver,
}

impl Deed {
    fn is_done(self, site: &Site) -> anyhow::Result<()> {
        match self {
            Self::Kill => site.signal_app("sip1", Signal::SIGKILL),
            Self::Stop => site.signal_app("sip1", Signal::SIGSTOP),
            Self::Cut => Ok(site.lab.cut(AGENT_HOSTS[0])?),
            Self::SwitchOver => site.api()?.switch_over("sip", "while people talk").map(drop),
        }
    }
}

pub fn a_killed_server(_: &mut Lab) -> anyhow::Result<()> {
    datagrams(Deed::Kill)
}

pub fn a_server_that_hangs(_: &mut Lab) -> anyhow::Result<()> {
    datagrams(Deed::Stop)
}

pub fn a_host_that_is_cut_off(_: &mut Lab) -> anyhow::Result<()> {
    datagrams(Deed::Cut)
}

pub fn a_switchover(_: &mut Lab) -> anyhow::Result<()> {
    datagrams(Deed::SwitchOver)
}

fn datagrams(deed: Deed) -> anyhow::Result<()> {
    let site = site_with_settings(RINGING)?;
    let mut room = Room::new(&site, None);
    let (mut last, mut outage, mut then) = (Vec::new(), Vec::new(), Vec::new());
    for (name, begin) in SITUATIONS {
        let situation = begin(&mut room).with_context(|| format!("before it: {name}"))?;
        let (at_the_last, into_the_outage, goes_on) = situation.parts();
        last.extend(at_the_last);
        outage.extend(into_the_outage);
        then.push((name, goes_on));
    }
    for act in last {
        act(&mut room)?;
    }
    deed.is_done(&site)?;
    for act in outage {
        act(&mut room)?;
    }
    for (name, act) in then {
        act(&mut room).with_context(|| format!("after it: {name}\n{}", site.logs()))?;
    }
    ends(&site, &mut room)
}

/// Nobody heard what should not be, sip2 is primary, and each call is recorded once.
fn ends(site: &Site, room: &mut Room<'_>) -> anyhow::Result<()> {
    room.silence()?;
    site.wait_for("sip2 to be primary", LIMIT, |view| {
        view.pairs.iter().all(|pair| pair.primary.as_ref().is_some_and(|app| app.as_str() == "sip2"))
    })?;
    let expected = room.expected();
    let mut recorded = BTreeMap::new();
    let result = wait_until("a record of each call, with its cause", || {
        recorded = by_call_id(site)?;
        Ok(expected.iter().all(|(call, cause)| recorded.get(call).is_some_and(|it| it["cause"] == *cause)))
    });
    result.with_context(|| format!("{recorded:#?} are not {expected:#?}"))?;
    ensure!(recorded.len() == expected.len(), "nobody called: {recorded:#?} are not {expected:#?}");
    Ok(())
}

/// The records of both hosts by the caller's Call-ID: one of each epoch at most, of which the greatest counts. The calls of a
/// host that was cut off are lost as far as it can see, one among them that had just come and that the other host never
/// heard of: there it has another key.
fn by_call_id(site: &Site) -> anyhow::Result<BTreeMap<String, Value>> {
    let mut newest = BTreeMap::<String, Value>::new();
    for record in records(site)?.0.into_values() {
        let call = record["call_id"].as_str().context("a Call-ID")?.to_owned();
        let epoch = |record: &Value| record["epoch"].as_u64();
        match newest.get(&call) {
            Some(known) if epoch(known) == epoch(&record) => {
                bail!("two records of one epoch: {known}, {record}")
            }
            Some(known) if epoch(known) > epoch(&record) => {}
            Some(_) | None => drop(newest.insert(call, record)),
        }
    }
    Ok(newest)
}

pub fn connections_and_a_killed_server(_: &mut Lab) -> anyhow::Result<()> {
    connections(Deed::Kill)
}

pub fn connections_and_a_host_that_is_cut_off(_: &mut Lab) -> anyhow::Result<()> {
    connections(Deed::Cut)
}

pub fn connections_and_a_switchover(_: &mut Lab) -> anyhow::Result<()> {
    connections(Deed::SwitchOver)
}

/// The server listens to everything, with a certificate for the VIP, which is written there.
fn listening(certificate: &Path, key: &Path) -> anyhow::Result<String> {
    let made = rcgen::generate_simple_self_signed([VIP.to_owned()])?;
    std::fs::write(certificate, made.cert.pem())?;
    std::fs::write(key, made.signing_key.serialize_pem())?;
    Ok(format!(
        "listen = [\"udp:{VIP}:5060\", \"udp:[{}]:5060\", \"tcp:{VIP}:5060\", \"tls:{VIP}:5061\"]\n\
         tls = {{ certificate = \"{}\", key = \"{}\" }}",
        rehearsal::VIP6,
        certificate.display(),
        key.display()
    ))
}

/// Who talks how, and what a telephone does when its connection is gone.
struct Pair {
    caller: (Transport, Back),
    callee: (Transport, Back),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Back {
    /// It was never away.
    Always,
    /// It registers anew with the contact that it had.
    Same,
    /// It registers anew from where it is now; its instance says who it is (RFC 5626).
    Moved,
    /// It says what it has to say.
    Silent,
}

const PAIRS: [Pair; 6] = [
    Pair { caller: (Tcp, Back::Same), callee: (Tcp, Back::Same) },
    Pair { caller: (Tls, Back::Same), callee: (Tls, Back::Same) },
    Pair { caller: (Tls, Back::Moved), callee: (Tcp, Back::Moved) },
    Pair { caller: (Udp, Back::Always), callee: (Tls, Back::Moved) },
    Pair { caller: (Tcp, Back::Same), callee: (Udp, Back::Always) },
    Pair { caller: (Tls, Back::Silent), callee: (Udp, Back::Always) },
];

fn comes_back(room: &mut Room<'_>, id: Id, back: Back) -> anyhow::Result<()> {
    match back {
        Back::Always => Ok(()),
        Back::Silent => room.reconnect(id, false),
        Back::Same | Back::Moved => room.come_back(id, back == Back::Moved),
    }
}

/// Calls that are established and calls that ring, of telephones with connections.
fn connections(deed: Deed) -> anyhow::Result<()> {
    let files = tempfile::tempdir()?;
    let certificate = files.path().join("certificate.pem");
    let site = site_with_settings(&listening(&certificate, &files.path().join("key.pem"))?)?;
    let mut room = Room::new(&site, Some(&certificate));
    let (mut established, mut ringing) = (Vec::new(), Vec::new());
    for pair in &PAIRS {
        let mut phones = || -> anyhow::Result<(Id, Id)> {
            Ok((room.registered(pair.caller.0)?, room.registered(pair.callee.0)?))
        };
        let ((alice, bob), (carol, dave)) = (phones()?, phones()?);
        established.push((pair, room.talk(alice, bob, "callee-hung-up")?));
        // Of who says nothing nobody knows where to send the answer.
        if pair.caller.1 != Back::Silent {
            ringing.push((pair, dave, room.ringing(carol, dave, "caller-hung-up")?));
        }
    }
    deed.is_done(&site)?;
    for (n, (pair, (mut alice, mut bob))) in established.into_iter().enumerate() {
        comes_back(&mut room, alice.phone, pair.caller.1)?;
        comes_back(&mut room, bob.phone, pair.callee.1)?;
        goes_on(&mut room, &mut alice, &mut bob).with_context(|| format!("established, pair {n}"))?;
    }
    for (n, (pair, dave, (mut carol, asked))) in ringing.into_iter().enumerate() {
        comes_back(&mut room, carol.phone, pair.caller.1)?;
        comes_back(&mut room, dave, pair.callee.1)?;
        let mut answered = || {
            let other = room.takes(&mut carol, dave, &asked)?;
            room.hang_up(&mut carol, &other)
        };
        answered().with_context(|| format!("ringing, pair {n}"))?;
    }
    ends(&site, &mut room)
}

/// On hold and back by both, until the callee hangs up.
fn goes_on(room: &mut Room<'_>, alice: &mut Dialog, bob: &mut Dialog) -> anyhow::Result<()> {
    room.change(alice, bob, "sendonly")?;
    room.change(bob, alice, "sendrecv")?;
    room.hang_up(bob, alice)
}

/// Sessions that the server refreshes are refreshed in time by the one that took over, and one that a telephone was to refresh,
/// and does not, is ended (RFC 4028, sections 7.4 and 10). The first session is refreshed by the first server, which says when
/// the second one's is due: just after the takeover.
pub fn sessions_are_refreshed_and_expire_after_a_killed_server(_: &mut Lab) -> anyhow::Result<()> {
    const HALF: Duration = Duration::from_secs(60);
    /// How long after the first session the next one begins: time for a takeover, on a busy machine.
    const LATER: Duration = Duration::from_secs(3);
    let site = site_with_settings("timers = { session-expires = \"90s\", min-session = \"90s\" }")?;
    let mut room = Room::new(&site, None);
    let mut sessions = Vec::new();
    for _ in 0..2 {
        let (alice, bob) = (room.phone(Udp)?, room.registered(Udp)?);
        sessions.push(room.talk(alice, bob, "caller-hung-up")?);
        room.pass(LATER)?;
    }
    let (alice, bob) = (room.phone(Udp)?, room.registered(Udp)?);
    let promised = "Supported: timer\r\nSession-Expires: 90;refresher=uac\r\n";
    let (mut forgetful, invite) = room.challenged_call(alice, bob, promised, "session-expired")?;
    room.send(alice, &invite)?;
    let asked = room.rings(&forgetful, bob)?;
    let other = room.takes(&mut forgetful, bob, &asked)?;

    for (number, (alice, bob)) in sessions.iter_mut().enumerate() {
        for dialog in [&*alice, &*bob] {
            let refresh = room.hear_within(dialog, "UPDATE", HALF).context("no refresh")?;
            room.answer(dialog.phone, &refresh, "200 OK", "", "")?;
        }
        if number == 0 {
            Deed::Kill.is_done(&site)?;
        }
    }
    // The other side was refreshed by the server until then.
    let refresh = room.hear(&other, "UPDATE").context("no refresh of the forgetful one's callee")?;
    room.answer(other.phone, &refresh, "200 OK", "", "")?;
    for dialog in [&forgetful, &other] {
        let bye = room.hear_within(dialog, "BYE", HALF)?;
        room.answer(dialog.phone, &bye, "200 OK", "", "")?;
    }
    for (mut alice, bob) in sessions {
        room.hang_up(&mut alice, &bob)?;
    }
    ends(&site, &mut room)
}
