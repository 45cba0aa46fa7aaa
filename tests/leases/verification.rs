//! Truth from outside: what callers get, not what hosts say of themselves, ends a role change.

use crate::single::{run, settled};
use crate::watch::Watch;
use anyhow::{Context, ensure};
use domain::events;
use e2e::{last_row, next_incident, ordinary_site, tells, told, wait_until, whole};
use ha_core::{Incident, IncidentOutcome, Phase};
use netlab::{Lab, Mac};
use rehearsal::{AGENT_HOSTS, CLIENT, SCS_HOST, Site, VIP};

/// The old holder's host and the SCS, which is in the subnet, ask the network, and what they are answered ends the incident.
pub fn a_role_change_is_complete_when_the_network_says_so(_: &mut Lab) -> anyhow::Result<()> {
    let site = ordinary_site()?;
    let (api, watch) = (site.api()?, Watch::start(&site)?);
    let known = api.incidents()?.len();
    api.switch_over("sip", "to see it verified")?;
    let incident = next_incident(&api, known)?;
    let last = incident.steps.last().with_context(|| told(&incident))?;
    ensure!(
        last.phase == Phase::Verified && last.text == "host1 and the SCS asked the network: host2 answers",
        "not verified last: {}",
        told(&incident)
    );
    whole(&site, "sip2")?;
    ensure!(watch.end()? == AGENT_HOSTS, "the role went back and forth\n{}", site.logs());
    Ok(())
}

/// Another machine answers for the VIP: an alarm tells so by itself, and a role change is not complete before it is silent.
pub fn a_stranger_with_the_address_is_told_of(_: &mut Lab) -> anyhow::Result<()> {
    let site = ordinary_site()?;
    let api = site.api()?;
    let (row, known) = (last_row(&api)?, api.incidents()?.len());
    let address = format!("{VIP}/24");
    run(&site, SCS_HOST, "ip", &["address", "add", &address, "dev", "eth0"])?;
    // The backup's agent asks unasked.
    tells(&api, row, &[(events::VIP_TWO_HOSTS, "")]).with_context(|| site.logs())?;

    api.switch_over("sip", "while a stranger answers")?;
    tells(&api, row, &[(events::NOW_PRIMARY, "sip2"), (events::VIP_NOT_CONFIRMED, "")])?;
    let open = the_one(&api.incidents()?, known)?;
    ensure!(open.outcome == IncidentOutcome::Open, "complete while a stranger answers: {}", told(&open));
    let doubts = open.steps.iter().filter(|step| step.phase == Phase::Verified).count();
    let announced = open.steps.iter().filter(|step| step.phase == Phase::Announced).count();
    ensure!(doubts >= 3 && announced >= 2, "not doubted and announced anew: {}", told(&open));

    run(&site, SCS_HOST, "ip", &["address", "del", &address, "dev", "eth0"])?;
    let incident = next_incident(&api, known)?;
    println!("{}", told(&incident));
    tells(&api, row, &[(events::VIP_CONFIRMED, "")])?;
    tells(&api, row, &[(events::VIP_TWO_HOSTS, ""), (events::VIP_NORMAL, "")])?;
    whole(&site, "sip2")
}

/// A client has the wrong host's Ethernet address for the VIP while that host is cut off. When it is back, and would get all
/// that the client sends, the holder announces itself, and the client follows.
pub fn a_neighbour_that_was_misled_is_put_right(_: &mut Lab) -> anyhow::Result<()> {
    let site = ordinary_site()?;
    let watch = Watch::start(&site)?;
    let [first, second] = [site.lab.mac(AGENT_HOSTS[0], "eth0")?, site.lab.mac(AGENT_HOSTS[1], "eth0")?];
    let (api, known) = (site.api()?, site.api()?.incidents()?.len());
    site.lab.cut(AGENT_HOSTS[0])?;
    next_incident(&api, known)?;
    mislead(&site, first)?;
    site.lab.heal(AGENT_HOSTS[0])?;
    wait_until("the client to be put right by an announcement", || {
        Ok(site.lab.neighbour(CLIENT, VIP.parse()?)? == Some(second))
    })?;
    ensure!(settled(&site)? == "sip2", "the role has moved\n{}", site.logs());
    ensure!(watch.end()? == AGENT_HOSTS, "the role went back and forth\n{}", site.logs());
    Ok(())
}

/// Has the client believe that `mac` is the VIP's, for as long as nobody tells it otherwise.
fn mislead(site: &Site, mac: Mac) -> anyhow::Result<()> {
    let mac = mac.to_string();
    run(site, CLIENT, "ip", &["neighbour", "replace", VIP, "lladdr", &mac, "dev", "eth0", "nud", "reachable"])
}

fn the_one(incidents: &[Incident], known: usize) -> anyhow::Result<Incident> {
    match incidents.get(known..) {
        Some([one]) => Ok(one.clone()),
        Some(_) | None => {
            anyhow::bail!("one incident was due: {}", incidents.iter().map(told).collect::<String>())
        }
    }
}
