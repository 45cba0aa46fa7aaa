//! VIPs that somebody else adds or removes, and the interface below them.

use anyhow::ensure;
use domain::events;
use e2e::{LIMIT, binary, clean_takeover, last_row, ordinary_site, started, tells, wait_until, whole};
use netlab::Lab;
use rehearsal::{Settings, Site, VIP, VIP6};
use std::process::Command;
use std::time::{Duration, Instant};

/// `ip addr del` on the holder, IPv4 and IPv6: the agent sees it by netlink and puts the address back, again and again.
pub fn removed_by_another_tool_is_put_back(_: &mut Lab) -> anyhow::Result<()> {
    let site = ordinary_site()?;
    let api = site.api()?;
    for (vip, prefix) in [(VIP, 24), (VIP6, 64), (VIP, 24)] {
        let row = last_row(&api)?;
        let begun = Instant::now();
        ip(&site, "host1", &["addr", "del", &format!("{vip}/{prefix}"), "dev", "eth0"])?;
        wait_until("the address to be put back", || Ok(site.holders(vip)? == ["host1"]))?;
        let within = begun.elapsed();
        println!("{vip} put back within {within:?}");
        ensure!(within < Duration::from_secs(1), "{vip} was away for {within:?}");
        tells(&api, row, &[(events::VIP_PUT_BACK, "")])?;
    }
    ensure!(api.view()?.pairs[0].epoch == e2e::FIRST_GRANT, "no role change was due");
    whole(&site, "sip1")
}

/// Added by hand on the backup's host: two hosts would answer, so the safety net removes it.
pub fn added_where_it_does_not_belong_is_removed(_: &mut Lab) -> anyhow::Result<()> {
    let site = ordinary_site()?;
    let api = site.api()?;
    let row = last_row(&api)?;
    ip(&site, "host2", &["addr", "add", &format!("{VIP}/24"), "dev", "eth0"])?;
    tells(&api, row, &[(events::VIP_MISPLACED, ""), (events::VIP_DISABLED, "")])?;
    whole(&site, "sip1")
}

/// A VIP that an earlier life has left on a host without a primary goes when the agent starts.
pub fn left_over_is_removed_when_the_agent_starts(_: &mut Lab) -> anyhow::Result<()> {
    let mut site = ordinary_site()?;
    site.kill_agent("host2")?;
    ip(&site, "host2", &["addr", "add", &format!("{VIP}/24"), "dev", "eth0"])?;
    site.start_agent("host2")?;
    wait_until("the left-over address to go", || Ok(site.holders(VIP)? == ["host1"]))?;
    whole(&site, "sip1")
}

/// The SIP interface of the primary loses its carrier while the management network is fine: service moves.
pub fn carrier_of_the_interface_lost(_: &mut Lab) -> anyhow::Result<()> {
    let site = started(Settings::new(&binary()?).management())?;
    let (api, prober) = (site.api()?, site.prober()?);
    let (row, begun) = (last_row(&api)?, netlab::now());
    ensure!(prober.await_answer("sip1", begun, LIMIT), "sip1 does not answer");
    site.lab.cut_segment("host1", "lan")?;
    tells(&api, row, &[(events::CARRIER_LOST, ""), (events::NOW_PRIMARY, "sip2")])?;
    ensure!(prober.await_answer("sip2", begun, LIMIT), "sip2 does not answer");
    clean_takeover("carrier lost", &prober.observe(begun), "sip1", "sip2")?;
    let back = last_row(&api)?;
    site.lab.heal_segment("host1", "lan")?;
    tells(&api, back, &[(events::CARRIER_BACK, "")])?;
    whole(&site, "sip2")
}

fn ip(site: &Site, host: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new("ip");
    command.args(arguments);
    let status = site.lab.spawn(host, command)?.wait()?;
    ensure!(status.success(), "ip {} on {host}: {status}", arguments.join(" "));
    Ok(())
}
