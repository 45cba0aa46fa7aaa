//! One thing at a time goes wrong: what moves service and what does not, and how soon it is back.

use crate::faults::{Fault, What};
use crate::watch::Watch;
use anyhow::{Context, ensure};
use domain::events;
use e2e::alone::{Without, taken_without_scs, with_a_peer_that_stands_by};
use e2e::{
    LIMIT, binary, last_row, next_incident, ordinary_site, site_with, started, tells, told, wait_until,
    whole, whole_again,
};
use netlab::{Lab, Observation};
use rehearsal::{AGENT_HOSTS, Settings, Site, VIP};
use std::process::Command;
use std::time::Duration;

/// A promise of profile `normal` (452 ms), the next renewal (100 ms), and what a busy machine takes besides.
const SERVED_AGAIN: Duration = Duration::from_millis(552 + 1_000);
/// How long a client may be without an answer where nothing but the machine's load can delay one.
const HICCUP: Duration = Duration::from_millis(200);
/// Several leases of profile `normal`.
const LEASES: Duration = Duration::from_millis(2_500);
/// Long enough for a role that has moved to show whether it stays.
const A_WHILE: Duration = Duration::from_millis(300);

pub fn host_cut(_: &mut Lab) -> anyhow::Result<()> {
    moves(&mut ordinary_site()?, &[What::Cut], A_WHILE)
}

pub fn host_cut_in_profile_fast(_: &mut Lab) -> anyhow::Result<()> {
    let fast = |cluster: String| cluster.replace("[pairs.sip]\n", "[pairs.sip]\nprofile = \"fast\"\n");
    moves(&mut site_with(fast)?, &[What::Cut], A_WHILE)
}

pub fn host_not_heard(_: &mut Lab) -> anyhow::Result<()> {
    moves(&mut ordinary_site()?, &[What::NotHeard], A_WHILE)
}

pub fn host_hears_nothing(_: &mut Lab) -> anyhow::Result<()> {
    moves(&mut ordinary_site()?, &[What::HearsNothing], A_WHILE)
}

pub fn cut_from_the_scs_alone(_: &mut Lab) -> anyhow::Result<()> {
    moves_nothing(&[What::FromScs])
}

pub fn cut_from_the_peer_alone(_: &mut Lab) -> anyhow::Result<()> {
    moves_nothing(&[What::FromPeer])
}

/// Clients go on reaching a host that nobody votes for any more.
pub fn cut_from_the_scs_and_the_peer(_: &mut Lab) -> anyhow::Result<()> {
    moves(&mut ordinary_site()?, &[What::FromScs, What::FromPeer], A_WHILE)
}

/// Known at once, by the carrier.
pub fn cut_from_the_clients_alone(_: &mut Lab) -> anyhow::Result<()> {
    moves(&mut started(Settings::new(&binary()?).management())?, &[What::FromClients], A_WHILE)
}

/// Its host goes on serving under the lease that it has.
pub fn agent_stopped_for_a_moment(_: &mut Lab) -> anyhow::Result<()> {
    unmoved_by(|site| {
        for _ in 0..5 {
            first(What::AgentStopped).begin(site)?;
            std::thread::sleep(Duration::from_millis(100));
            first(What::AgentStopped).end(site)?;
            std::thread::sleep(A_WHILE);
        }
        Ok(())
    })
}

/// Its gate closes by itself, and when it goes on it does not answer once more.
pub fn agent_stopped_for_a_second(_: &mut Lab) -> anyhow::Result<()> {
    moves(&mut ordinary_site()?, &[What::AgentStopped], Duration::from_secs(1))
}

pub fn agent_stopped_for_ten_seconds(_: &mut Lab) -> anyhow::Result<()> {
    moves(&mut ordinary_site()?, &[What::AgentStopped], Duration::from_secs(10))
}

/// The next one is there before the lease has run out, and goes on with it.
pub fn agent_killed_and_back_at_once(_: &mut Lab) -> anyhow::Result<()> {
    unmoved_by(|site| {
        for _ in 0..5 {
            first(What::AgentKilled).begin(site)?;
            first(What::AgentKilled).end(site)?;
            std::thread::sleep(A_WHILE);
        }
        Ok(())
    })
}

pub fn agent_killed_for_good(_: &mut Lab) -> anyhow::Result<()> {
    moves(&mut ordinary_site()?, &[What::AgentKilled], A_WHILE)
}

/// Nobody is left on the host who could let go.
pub fn server_and_agent_killed(_: &mut Lab) -> anyhow::Result<()> {
    moves(&mut ordinary_site()?, &[What::ServerAndAgentKilled], A_WHILE)
}

pub fn scs_killed(_: &mut Lab) -> anyhow::Result<()> {
    moves_nothing(&[What::ScsKilled])
}

/// Status says what is guaranteed at this moment, and by whom, and what follows from the profile.
pub fn what_is_guaranteed_is_shown(_: &mut Lab) -> anyhow::Result<()> {
    let mut site = ordinary_site()?;
    let shows = |site: &Site, words: &[&str]| {
        let mut said = String::new();
        let result = wait_until("status to say so", || {
            said = String::from_utf8(site.command(&["status"])?.output()?.stdout)?;
            Ok(words.iter().all(|word| said.contains(word)))
        });
        result.with_context(|| format!("{words:?} is not said by {said}"))
    };
    let whole = [
        "host1, epoch 2, confirmed by 2 of 2 other voters, ",
        " of 450 ms left at ",
        "lease and gate: never two hosts answer; any single loss is survived",
        "served again within 552 ms",
    ];
    shows(&site, &whole)?;
    // Of a host that it does not hear the SCS knows nothing.
    let lost = [
        (What::FromPeer, "one more loss ends service (1 of 2 other voters confirms)"),
        (What::FromScs, "nobody that is heard of holds it"),
    ];
    for (what, said) in lost {
        let row = last_row(&site.api()?)?;
        first(what).begin(&mut site)?;
        shows(&site, &[said])?;
        if what == What::FromPeer {
            tells(&site.api()?, row, &[(events::BACKING_LOW, "")])?;
        }
        first(what).end(&mut site)?;
        shows(&site, &whole)?;
        if what == What::FromPeer {
            tells(&site.api()?, row, &[(events::BACKING_FULL, "")])?;
        }
    }
    Ok(())
}

/// The peer takes over what it knows of, and the SCS learns of it, with its true time.
pub fn server_killed_while_the_scs_is_away(_: &mut Lab) -> anyhow::Result<()> {
    with_a_peer_that_stands_by(killed_while_the_scs_is_away)
}

fn killed_while_the_scs_is_away(site: &mut Site) -> anyhow::Result<Without> {
    let (api, prober, watch) = (site.api()?, site.prober()?, Watch::start(site)?);
    let (row, known, clock) = (last_row(&api)?, api.incidents()?.len(), api.view()?.at);
    first(What::ScsKilled).begin(site)?;
    std::thread::sleep(LEASES);
    let begun = netlab::now();
    ensure!(
        prober.await_answer("sip1", begun, LIMIT),
        "sip1 does not serve without the SCS\n{}",
        site.logs()
    );
    first(What::ServerKilled).begin(site)?;
    if taken_without_scs(site)? == Without::Restarted {
        watch.end().with_context(|| site.logs())?;
        return Ok(Without::Restarted);
    }
    ensure!(prober.await_answer("sip2", begun, LIMIT), "sip2 does not take over\n{}", site.logs());
    std::thread::sleep(Duration::from_secs(2));
    let gap = longest_gap(&prober.observe(begun));
    println!("server killed while the SCS is away: served again after {gap:?}");
    ensure!(gap < HICCUP, "no answer for {gap:?}, though the peer knew at once\n{}", site.logs());

    let back = netlab::now();
    first(What::ScsKilled).end(site)?;
    let incident = next_incident(&api, known)?;
    // The SCS's clock is ahead of the laboratory's by the same as before.
    let (away, ahead) = (back.since(begun), api.view()?.at.since(netlab::now()));
    let ago = (netlab::now() + ahead).since(incident.begun);
    ensure!(incident.to.as_str() == "sip2" && incident.begun > clock, "{}", told(&incident));
    ensure!(
        ago > away - Duration::from_millis(200),
        "begun {ago:?} ago, with the SCS {away:?} away: {}",
        told(&incident)
    );
    tells(&api, row, &[(events::APP_TERMINATED, "sip1")])?;
    tells(&api, row, &[(events::TOOK_OVER_ALONE, "sip2"), (events::NOW_PRIMARY, "sip2")])?;
    whole(site, "sip2")?;
    ensure!(watch.end()? == AGENT_HOSTS, "the role went back and forth\n{}", site.logs());
    Ok(Without::TakenOver)
}

/// The stated limit: one vote of three is left, the VIP stops. It is back with the host.
pub fn scs_and_host_lost_until_the_host_is_back(_: &mut Lab) -> anyhow::Result<()> {
    scs_and_host_lost(What::Cut)
}

/// The same, and it is back with the SCS.
pub fn scs_and_host_lost_until_the_scs_is_back(_: &mut Lab) -> anyhow::Result<()> {
    scs_and_host_lost(What::ScsKilled)
}

fn scs_and_host_lost(back_first: What) -> anyhow::Result<()> {
    let mut site = ordinary_site()?;
    let (watch, prober) = (Watch::start(&site)?, site.prober()?);
    first(What::ScsKilled).begin(&mut site)?;
    std::thread::sleep(A_WHILE);
    first(What::Cut).begin(&mut site)?;
    // For as long as several leases last: nobody may take what one vote gives.
    std::thread::sleep(LEASES);
    let now = netlab::now();
    std::thread::sleep(A_WHILE);
    ensure!(prober.observe(now).answers().is_empty(), "somebody answers with one vote of three");
    first(back_first).end(&mut site)?;
    let healed = netlab::now();
    wait_until("somebody to serve again", || Ok(!prober.observe(healed).answers().is_empty()))
        .with_context(|| site.logs())?;
    println!("served {:?} after {back_first:?} was over", netlab::now().since(healed));
    for other in [What::ScsKilled, What::Cut] {
        first(other).end(&mut site)?;
    }
    settled(&site)?;
    watch.end().with_context(|| site.logs())?;
    Ok(())
}

/// Whoever puts the address there: the gate is closed to it.
pub fn address_added_by_hand_on_the_backup(_: &mut Lab) -> anyhow::Result<()> {
    unmoved_by(|site| {
        let second = What::AgentStopped.on(AGENT_HOSTS[1]);
        second.begin(site)?;
        run(site, AGENT_HOSTS[1], "ip", &["address", "add", &format!("{VIP}/24"), "dev", "eth0"])?;
        ensure!(site.holders(VIP)? == AGENT_HOSTS, "both hosts have the address");
        std::thread::sleep(A_WHILE);
        second.end(site)?;
        wait_until("the address to be removed", || Ok(site.holders(VIP)? == [AGENT_HOSTS[0]]))
    })
}

/// Service moves within a promise and a renewal, and stays moved when the faults are over, which last for at least `lasts`.
pub fn moves(site: &mut Site, what: &[What], lasts: Duration) -> anyhow::Result<()> {
    let (watch, prober, begun) = (Watch::start(site)?, site.prober()?, netlab::now());
    ensure!(prober.await_answer("sip1", begun, LIMIT), "sip1 does not answer");
    let cut = netlab::now();
    for what in what {
        first(*what).begin(site)?;
    }
    ensure!(prober.await_answer("sip2", begun, LIMIT), "{what:?}: sip2 does not take over\n{}", site.logs());
    std::thread::sleep(lasts.saturating_sub(netlab::now().since(cut)).max(A_WHILE));
    let gap = longest_gap(&prober.observe(begun));
    ensure!(gap < SERVED_AGAIN, "{what:?}: no answer for {gap:?}\n{}", site.logs());

    let healed = netlab::now();
    for what in what {
        first(*what).end(site)?;
    }
    whole(site, "sip2")?;
    let seen = prober.observe(healed);
    let after = longest_gap(&seen);
    println!("{what:?}: served again after {gap:?}; longest gap after the heal {after:?}");
    ensure!(after < HICCUP, "{what:?}: no answer for {after:?} after the heal\n{}", site.logs());
    only(&seen, "sip2")?;
    let turns = watch.end().with_context(|| format!("{what:?}\n{}", site.logs()))?;
    ensure!(turns == AGENT_HOSTS, "{what:?}: the role went {turns:?}\n{}", site.logs());
    let alarms = site.api()?.view()?.alarms;
    // One that lost its lease hears the new holder, and has nothing to say about that.
    let stranger = alarms.iter().find(|alarm| alarm.event == events::VIP_DUPLICATE);
    ensure!(stranger.is_none(), "{what:?}: the new holder was taken for a stranger: {stranger:?}");
    Ok(())
}

/// Service stays where it is, as long as the faults last and afterwards.
fn moves_nothing(what: &[What]) -> anyhow::Result<()> {
    unmoved_by(|site| {
        what.iter().try_for_each(|what| first(*what).begin(site))?;
        std::thread::sleep(LEASES);
        what.iter().try_for_each(|what| first(*what).end(site))
    })
}

/// Whatever is done, the first host serves, and nobody else speaks.
pub fn unmoved_by(deed: impl FnOnce(&mut Site) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut site = ordinary_site()?;
    let (watch, prober, begun) = (Watch::start(&site)?, site.prober()?, netlab::now());
    deed(&mut site)?;
    whole(&site, "sip1")?;
    let seen = prober.observe(begun);
    let gap = longest_gap(&seen);
    println!("unmoved, longest gap {gap:?}");
    ensure!(gap < HICCUP, "no answer for {gap:?}\n{}", site.logs());
    only(&seen, "sip1")?;
    ensure!(watch.end()? == [AGENT_HOSTS[0]], "another host has spoken\n{}", site.logs());
    Ok(())
}

fn only(seen: &Observation, app: &str) -> anyhow::Result<()> {
    let answers = seen.count_by_tag();
    ensure!(answers.keys().eq([&app]), "not only {app} answers: {answers:?}");
    Ok(())
}

pub fn longest_gap(seen: &Observation) -> Duration {
    seen.longest_gap().map_or(Duration::ZERO, netlab::Gap::length)
}

/// Waits until everything is whole, whoever is primary. What was about to move when it was looked at may move first: what the SCS
/// shows follows that by some milliseconds.
pub fn settled(site: &Site) -> anyhow::Result<String> {
    let mut found = whole_again(site);
    let looked = wait_until("everything to be whole", || {
        if found.is_err() {
            found = whole_again(site);
        }
        Ok(found.is_ok())
    });
    match (found, looked) {
        (Err(why), Err(late)) => Err(why.context(late)),
        (found, _) => found,
    }
}

/// Runs a program on a host, which has to succeed.
pub fn run(site: &Site, host: &str, program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new(program);
    command.args(arguments);
    let status = site.lab.spawn(host, command)?.wait()?;
    ensure!(status.success(), "{program} {} on {host}: {status}", arguments.join(" "));
    Ok(())
}

fn first(what: What) -> Fault {
    what.on_the_first()
}
