//! The configuration gives a VIP to another pair while a host that has it does not hear of that: it goes on answering, with the
//! vote of the other host, so that nobody else may.

use crate::faults::What;
use crate::single::longest_gap;
use crate::watch::Watch;
use anyhow::{Context, ensure};
use domain::{RunMode, events};
use e2e::{LIMIT, binary, last_row, tells, wait_until};
use ha_core::{MemberView, PairView, View};
use netlab::{Lab, Prober};
use rehearsal::{AGENT_HOSTS, Settings, Site, VIP, VIP6};
use std::fs;
use std::process::Output;
use std::time::Duration;

/// Several promises of profile `normal` (452 ms): long enough for a VIP that nobody keeps back to be moved.
const PROMISES: Duration = Duration::from_millis(2_500);
/// How long a client may be without an answer where nothing but the machine's load can delay one.
const HICCUP: Duration = Duration::from_millis(200);
/// A pair beside the ordinary one, with its primary on the other host, and nothing to serve but its address.
const OTHER_PAIR: &str = "\
[applications.alt1]\nhost = \"host2\"\ncommand = [\"/bin/sleep\", \"86400\"]\nmode-control = \"none\"\n\n\
[applications.alt2]\nhost = \"host1\"\ncommand = [\"/bin/sleep\", \"86400\"]\nmode-control = \"none\"\n\n\
[pairs.alt]\nmembers = [\"alt1\", \"alt2\"]\n\n\
[[pairs.alt.vips]]\naddress = \"192.0.2.101/24\"\ninterface = \"eth0\"\n\n";

/// The host hears of it: a promise later the VIP is with the other pair.
pub fn until_the_old_holder_has_heard(_: &mut Lab) -> anyhow::Result<()> {
    let (mut site, watch, prober) = withheld()?;
    let (api, row) = (site.api()?, last_row(&site.api()?)?);
    What::FromScs.on_the_first().end(&mut site)?;
    tells(&api, row, &[(events::VIP_RETURNED, "")]).with_context(|| site.logs())?;
    moved(&site)?;
    let gap = longest_gap(&prober.stop());
    ensure!(gap < HICCUP, "the VIP that stayed gave no answer for {gap:?}\n{}", site.logs());
    let turns = watch.end().with_context(|| site.logs())?;
    ensure!(turns == [AGENT_HOSTS[0]], "the VIP that stayed went {turns:?}");
    Ok(())
}

/// The host is lost, which nobody but an operator can know: it stays withheld until one says so.
pub fn until_an_operator_says_that_it_is_switched_off(_: &mut Lab) -> anyhow::Result<()> {
    let (mut site, watch, _prober) = withheld()?;
    let (api, row) = (site.api()?, last_row(&site.api()?)?);
    What::Cut.on_the_first().begin(&mut site)?;
    wait_until("host2 to take over what stayed with the pair", || {
        Ok(site.holders(VIP)?.contains(&AGENT_HOSTS[1]))
    })
    .with_context(|| site.logs())?;
    std::thread::sleep(PROMISES);
    keeps_it_back(&site)?;

    let said = takeover(&site, &["acknowledge", "alt", "--reason", "host1 is switched off"])?;
    ensure!(said.contains("alt gets its VIPs"), "{said}");
    tells(&api, row, &[(events::VIP_RETURNED, "")]).with_context(|| site.logs())?;
    wait_until("host2 to have the VIP", || Ok(site.holders(VIP6)?.contains(&AGENT_HOSTS[1])))
        .with_context(|| site.logs())?;

    // It was not, and comes back with what it had.
    for what in [What::Cut, What::FromScs] {
        what.on_the_first().end(&mut site)?;
    }
    moved(&site)?;
    watch.end().with_context(|| site.logs())?;
    Ok(())
}

/// An installation whose SCS came back with a configuration by which pair `alt`, primary on host2, has one of the VIPs of pair
/// `sip`, primary on host1, which has not heard of it. Beside it the watch, and a client of the VIP that stays.
fn withheld() -> anyhow::Result<(Site, Watch, Prober)> {
    let mut site = Site::build(Lab::new()?, Settings::new(&binary()?).edit(|cluster| cluster + OTHER_PAIR))?;
    site.start_scs()?;
    for host in AGENT_HOSTS {
        site.start_agent(host)?;
    }
    site.wait_for("both pairs to be whole", LIMIT, |view| {
        ["sip1", "alt1"].iter().all(|primary| is_primary(view, primary))
            && view.pairs.iter().all(|pair| pair.lease.as_ref().is_some_and(|lease| lease.backing == 2))
    })?;
    let (watch, prober) = (Watch::start(&site)?, site.prober()?);
    ensure!(prober.await_answer("sip1", netlab::now(), LIMIT), "sip1 does not answer");

    What::FromScs.on_the_first().begin(&mut site)?;
    site.kill_scs()?;
    let file = site.files().join("cluster.toml");
    let of = |pair: &str| format!("[[pairs.{pair}.vips]]\naddress = \"{VIP6}/64\"");
    let (before, here) = (fs::read_to_string(&file)?, of("sip"));
    ensure!(before.contains(&here), "not the ordinary file: {before}");
    fs::write(&file, before.replace(&here, &of("alt")))?;
    site.start_scs()?;
    let api = site.api()?;
    tells(&api, 0, &[(events::VIP_WITHHELD, ""), (events::HOST_NORMAL, "")]).with_context(|| site.logs())?;
    site.wait_for("alt1 to go on", LIMIT, |view| is_primary(view, "alt1"))?;
    std::thread::sleep(PROMISES);
    keeps_it_back(&site)?;
    ensure!(site.holders(VIP6)? == [AGENT_HOSTS[0]], "host1 has lost the VIP\n{}", site.logs());
    Ok((site, watch, prober))
}

/// The VIP is not with the other pair, and everybody is told why.
fn keeps_it_back(site: &Site) -> anyhow::Result<()> {
    let (view, status) = (site.api()?.view()?, takeover(site, &["status"])?);
    let holders = site.holders(VIP6)?;
    ensure!(!holders.contains(&AGENT_HOSTS[1]), "the VIP is on {holders:?}\n{}", site.logs());
    let why = format!("{VIP6} is withheld: host1 and host2 had it in pair sip");
    ensure!(status.contains(&why), "status does not say why: {status}");
    ensure!(
        view.alarms.iter().any(|alarm| alarm.condition.as_str() == "vip-withheld"),
        "no alarm: {:?}",
        view.alarms
    );
    Ok(())
}

/// The VIP is with the other pair, and answers there; nothing is withheld any more.
fn moved(site: &Site) -> anyhow::Result<()> {
    wait_until("the VIP to be on host2 alone", || Ok(site.holders(VIP6)? == [AGENT_HOSTS[1]]))
        .with_context(|| site.logs())?;
    site.wait_for("pair alt to be whole, with both its VIPs", LIMIT, |view| {
        let alt = view.pairs.iter().find(|pair| pair.name.as_str() == "alt");
        is_primary(view, "alt1")
            && alt.is_some_and(|alt| alt.vips.len() == 2 && alt.trouble.is_empty() && alt.incident.is_none())
            && view.alarms.iter().all(|alarm| alarm.condition.as_str() != "vip-withheld")
    })
}

fn is_primary(view: &View, app: &str) -> bool {
    let is_it = |member: &MemberView| {
        member.app.as_str() == app && member.current && member.mode == Some(RunMode::Primary)
    };
    view.pairs.iter().any(|pair: &PairView| pair.members.iter().any(is_it))
}

/// What a command prints, which has to succeed.
fn takeover(site: &Site, arguments: &[&str]) -> anyhow::Result<String> {
    let Output { status, stdout, stderr } = site.command(arguments)?.output()?;
    let said = String::from_utf8_lossy(&stdout) + String::from_utf8_lossy(&stderr);
    ensure!(status.success(), "takeover {}: {status}: {said}", arguments.join(" "));
    Ok(said.into_owned())
}
