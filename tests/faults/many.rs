//! Many pairs under one SCS.

use anyhow::ensure;
use domain::RunMode;
use e2e::{binary, wait_until};
use ha_core::{IncidentKind, IncidentOutcome, View};
use netlab::Lab;
use rehearsal::{AGENT_HOSTS, Settings, Site};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How many.
const PAIRS: usize = 100;
/// How long all of them together may take on a small machine that has nothing else to do.
const LIMIT: Duration = Duration::from_secs(60);

/// All are switched over at once, back at once, and fail over at once when the host is cut off.
pub fn a_hundred_pairs_at_once(_: &mut Lab) -> anyhow::Result<()> {
    let mut site = Site::build(Lab::new()?, Settings::new(&binary()?).edit(|cluster| cluster_of(&cluster)))?;
    site.start_scs()?;
    for host in AGENT_HOSTS {
        site.start_agent(host)?;
    }
    site.wait_for("all pairs to have their first primary", LIMIT, |view| all_primaries(view, "a"))?;
    let api = site.api()?;
    for (to, holder) in [("b", "host2"), ("a", "host1")] {
        let begun = Instant::now();
        for n in 0..PAIRS {
            api.switch_over(&format!("pair{n}"), "all at once")?;
        }
        let ordered = begun.elapsed();
        site.wait_for("all pairs to be switched over", LIMIT, |view| all_primaries(view, to))?;
        println!("{PAIRS} switchovers ordered within {ordered:?}, all complete within {:?}", begun.elapsed());
        ensure!(vips(&site)? == BTreeMap::from([(holder, PAIRS)]), "the VIPs are on {:?}", vips(&site)?);
    }
    let begun = Instant::now();
    site.lab.cut("host1")?;
    site.wait_for("all pairs to have failed over", LIMIT, |view| all_primaries(view, "b"))?;
    println!("{PAIRS} pairs failed over within {:?} of the cut", begun.elapsed());
    ensure!(vips(&site)?.get("host2") == Some(&PAIRS), "the VIPs are on {:?}", vips(&site)?);
    site.lab.heal("host1")?;
    wait_until(
        "host1 to have let go of all VIPs",
        || Ok(vips(&site)? == BTreeMap::from([("host2", PAIRS)])),
    )?;
    wait_until("all incidents to be complete", || {
        let incidents: sci::api::Incidents = api.get("/incidents?limit=1000")?;
        let complete = |kind| {
            incidents
                .incidents
                .iter()
                .filter(|i| i.kind == kind && i.outcome == IncidentOutcome::Completed)
                .count()
        };
        Ok(complete(IncidentKind::Manual) == 2 * PAIRS && complete(IncidentKind::Disconnected) == PAIRS)
    })
}

/// Whether every pair is whole with its member `member` as primary.
fn all_primaries(view: &View, member: &str) -> bool {
    view.pairs.len() == PAIRS
        && view.pairs.iter().all(|pair| {
            let is_primary = |m: &ha_core::MemberView| m.app.as_str().ends_with(member);
            pair.incident.is_none()
                && pair.members.iter().any(|m| is_primary(m) && m.current && m.mode == Some(RunMode::Primary))
        })
}

/// How many VIPs each host has, as its kernel says.
fn vips(site: &Site) -> anyhow::Result<BTreeMap<&'static str, usize>> {
    let mut counts = BTreeMap::new();
    for host in AGENT_HOSTS {
        let is_vip =
            |a: &netlab::Address| matches!(a.address, IpAddr::V4(a) if a.octets()[..3] == [203, 0, 113]);
        let count = site.lab.addresses(host)?.iter().filter(|a| is_vip(a)).count();
        if count > 0 {
            counts.insert(host, count);
        }
    }
    Ok(counts)
}

/// The same hosts with a hundred pairs of processes that know no run modes: who has the VIP serves.
fn cluster_of(ordinary: &str) -> String {
    let head = ordinary.split("[hosts.").next().unwrap_or_default();
    let mut text = head.to_owned();
    for (n, host) in AGENT_HOSTS.iter().enumerate() {
        text += &format!("[hosts.{host}]\naddress = \"192.0.2.1{}\"\n\n", n + 1);
    }
    for n in 0..PAIRS {
        for (letter, host) in [("a", "host1"), ("b", "host2")] {
            text += &format!(
                "[applications.app{n}-{letter}]\nhost = \"{host}\"\ncommand = [\"/bin/sleep\", \"86400\"]\n\
                 mode-control = \"none\"\n\n"
            );
        }
        text += &format!(
            "[pairs.pair{n}]\nmembers = [\"app{n}-a\", \"app{n}-b\"]\n\n[[pairs.pair{n}.vips]]\n\
             address = \"203.0.113.{}/24\"\ninterface = \"eth0\"\n\n",
            n + 1
        );
    }
    text
}
