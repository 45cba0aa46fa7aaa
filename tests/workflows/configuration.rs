//! Another configuration while all goes on: nobody who calls notices but of what it takes away.

use crate::command_line::takeover;
use anyhow::{Context, ensure};
use domain::events;
use e2e::{LIMIT, clean_takeover, epoch, last_row, ordinary_site, site_with, tells, wait_until, whole};
use netlab::Lab;
use nix::sys::signal::Signal;
use rehearsal::{Site, VIP, VIP6};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const SECOND: &str = "192.0.2.101";

fn cluster_file(site: &Site) -> PathBuf {
    site.files().join("cluster.toml")
}

/// Writes a changed copy of the cluster file beside it; the name.
fn changed(site: &Site, name: &str, edit: impl FnOnce(String) -> String) -> anyhow::Result<String> {
    let path = site.files().join(name);
    fs::write(&path, edit(fs::read_to_string(cluster_file(site))?))?;
    Ok(path.to_string_lossy().into_owned())
}

fn with_second_vip(cluster: String) -> String {
    cluster + &format!("[[pairs.sip.vips]]\naddress = \"{SECOND}/24\"\ninterface = \"eth0\"\n")
}

/// A VIP more, and back: the SIP Servers' processes, the role and the first VIPs stay as they are.
pub fn applied_and_rolled_back_while_all_goes_on(_: &mut Lab) -> anyhow::Result<()> {
    let mut site = ordinary_site()?;
    let (api, prober, begun) = (site.api()?, site.prober()?, netlab::now());
    ensure!(prober.await_answer("sip1", begun, LIMIT), "sip1 does not answer");
    let (before, pids) = (epoch(&api)?, [site.app_pid("sip1")?, site.app_pid("sip2")?]);
    let text = fs::read_to_string(cluster_file(&site))?;
    takeover(&site, "config")?.expect(0, &["revision 1, read", "is in force"])?;

    let more = changed(&site, "more.toml", with_second_vip)?;
    takeover(&site, &format!("config plan {more}"))?.expect(0, &["VIP 192.0.2.101 added"])?;
    ensure!(fs::read_to_string(cluster_file(&site))? == text, "a plan changes nothing");
    let row = last_row(&api)?;
    takeover(&site, &format!("config apply {more} --yes --reason growth"))?
        .expect(0, &["VIP 192.0.2.101 added", "revision 2 is in force"])?;
    tells(&api, row, &[(events::CONFIG_APPLIED, "")])?;
    wait_until("the new VIP to be on host1", || Ok(site.holders(SECOND)? == ["host1"]))?;
    whole(&site, "sip1")?;
    ensure!(fs::read_to_string(cluster_file(&site))?.contains(SECOND), "it is written to the file");
    takeover(&site, &format!("config apply {more} --yes"))?
        .expect(0, &["nothing to change", "revision 2"])?;

    // It moves with the others.
    for (old, new, host) in [("sip1", "sip2", "host2"), ("sip2", "sip1", "host1")] {
        let ordered = netlab::now();
        takeover(&site, "switchover sip --yes")?.expect(0, &["completed"])?;
        ensure!(site.holders(SECOND)? == [host], "the new VIP moves with the role");
        ensure!(prober.await_answer(new, ordered, LIMIT), "{new} does not answer");
        clean_takeover("switchover with the new VIP", &prober.observe(ordered), old, new)?;
    }
    let moved = netlab::now();

    // A restart goes on with it.
    site.kill_scs()?;
    site.start_scs()?;
    whole(&site, "sip1")?;
    takeover(&site, "config")?.expect(0, &["revision 2, applied", "growth"])?;

    takeover(&site, "config rollback 1 --yes --reason undone")?
        .expect(0, &["! ", "callers of this address are cut off", "revision 3 is in force"])?;
    wait_until("the VIP to go", || Ok(site.holders(SECOND)?.is_empty()))?;
    ensure!(fs::read_to_string(cluster_file(&site))? == text, "the file is as it was");
    whole(&site, "sip1")?;
    takeover(&site, "config history")?
        .expect(0, &["revision 3, rolled back to revision 1", "undone", "revision 2, applied", "growth"])?;
    // The audit is on its way to the disk.
    wait_until("both to be in the audit", || {
        let audit = takeover(&site, "audit")?.out;
        Ok(["apply a configuration", "roll the configuration back to revision 1"]
            .iter()
            .all(|what| audit.contains(what)))
    })?;

    ensure!([site.app_pid("sip1")?, site.app_pid("sip2")?] == pids, "no server was restarted");
    ensure!(epoch(&api)? > before, "the two switchovers");
    let seen = prober.observe(moved);
    ensure!(seen.answers().iter().all(|answer| seen.who(answer) == "sip1"), "nobody else answered");
    println!("the longest gap: {:?}", seen.longest_gap());
    Ok(())
}

/// Errors at their line, a file that cannot be written, one that somebody else has edited, a plan that is out of date.
pub fn what_cannot_be_applied_changes_nothing(_: &mut Lab) -> anyhow::Result<()> {
    let site = ordinary_site()?;
    let text = fs::read_to_string(cluster_file(&site))?;
    let broken = changed(&site, "broken.toml", |cluster| {
        cluster.replace("redundancy = \"hot\"", "redundancy = \"hottest\"")
    })?;
    let line = 1 + text.lines().position(|line| line.starts_with("redundancy")).context("a line of it")?;
    let at = format!("broken.toml:{line}:");
    for verb in ["plan", "apply --yes"] {
        takeover(&site, &format!("config {verb} {broken}"))?.expect(2, &["hottest", &at])?;
    }
    takeover(&site, "config plan /nonexistent.toml")?.expect(2, &["cannot be read"])?;
    takeover(&site, "config rollback 9 --yes")?.expect(1, &["there is no revision 9"])?;

    // Edited on the SCS's host: sent ones do not overwrite that.
    fs::write(cluster_file(&site), text.replace("name = \"rehearsal\"", "name = \"edited\""))?;
    takeover(&site, "config")?.expect(0, &["it was edited and not applied"])?;
    let more = changed(&site, "more.toml", with_second_vip)?;
    takeover(&site, &format!("config apply {more} --yes"))?.expect(1, &["was edited", "config reload"])?;
    takeover(&site, "config plan")?.expect(0, &["name changed from rehearsal to edited"])?;
    takeover(&site, "config reload --yes")?.expect(0, &["revision 2 is in force"])?;
    wait_until("it to be in force", || Ok(site.api()?.view()?.cluster == "edited"))?;

    // A file that is not there cannot be replaced: what is missing may be a mount.
    let file = cluster_file(&site);
    let aside = file.with_file_name("away.toml");
    fs::rename(&file, &aside)?;
    takeover(&site, &format!("config apply {more} --yes"))?.expect(1, &["cannot be written"])?;
    fs::rename(&aside, &file)?;
    ensure!(site.holders(SECOND)?.is_empty(), "none of them was applied");

    // What is written keeps the mode of the file.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640))?;
    takeover(&site, &format!("config apply {more} --yes"))?.expect(0, &["revision 3 is in force"])?;
    ensure!(fs::metadata(&file)?.permissions().mode() & 0o7777 == 0o640, "its mode stays");
    wait_until("the VIP to come", || Ok(site.holders(SECOND)? == ["host1"]))?;
    whole(&site, "sip1")
}

/// A pair with its applications is added on the same hosts, fails over, and is taken away.
pub fn a_pair_comes_and_goes(_: &mut Lab) -> anyhow::Result<()> {
    let site = ordinary_site()?;
    let pids = [site.app_pid("sip1")?, site.app_pid("sip2")?];
    let server = site.takeover().display().to_string();
    let more = changed(&site, "more.toml", |cluster| {
        let mut text = cluster;
        for n in [1, 2] {
            text += &format!(
                "[applications.alt{n}]\nhost = \"host{n}\"\ncommand = [\"{server}\", \"sip-server\", \"--open\", \
                 \"--listen\", \"{SECOND}:5060\", \"--probe-listen\", \"127.0.0.1:5071\"]\n"
            );
        }
        text + &format!(
            "[pairs.alt]\nmembers = [\"alt2\", \"alt1\"]\nredundancy = \"hot\"\n[[pairs.alt.vips]]\naddress = \"{SECOND}/24\"\n\
             interface = \"eth0\"\n"
        )
    })?;
    takeover(&site, &format!("config apply {more} --yes"))?.expect(0, &["pair alt: added"])?;
    wait_until("the new pair to be whole", || {
        let view = site.api()?.view()?;
        let alt = view.pairs.iter().find(|pair| pair.name.as_str() == "alt").context("it is there")?;
        Ok(alt.primary.as_ref().is_some_and(|app| app.as_str() == "alt2")
            && alt.members.iter().all(|member| member.ready.is_ok())
            && site.holders(SECOND)? == ["host2"])
    })?;
    let killed = site.app_pid("alt2")?;
    site.signal_app("alt2", Signal::SIGKILL)?;
    wait_until("alt1 to take over", || Ok(site.holders(SECOND)? == ["host1"]))?;
    wait_until("alt2 to be there again", || Ok(site.app_pid("alt2").is_ok_and(|pid| pid != killed)))?;
    let theirs = [site.app_pid("alt1")?, site.app_pid("alt2")?];

    takeover(&site, "config rollback 1 --yes")?.expect(0, &["pair alt: removed", "revision 3"])?;
    wait_until("the pair's processes and its VIP to go", || {
        let runs = |pid: &u32| Path::new(&format!("/proc/{pid}")).exists();
        Ok(site.holders(SECOND)?.is_empty() && !theirs.iter().any(runs))
    })?;
    ensure!([site.app_pid("sip1")?, site.app_pid("sip2")?] == pids, "the other pair goes on");
    wait_until("one pair to be left", || Ok(site.api()?.view()?.pairs.len() == 1))?;
    whole(&site, "sip1")
}

/// The VIPs of a pair are given to one of another name, on the same hosts: never two hosts answer, and the service is there again
/// when the old pair's promises are over.
pub fn a_vip_moves_to_another_pair(_: &mut Lab) -> anyhow::Result<()> {
    let site = ordinary_site()?;
    let (api, prober, begun) = (site.api()?, site.prober()?, netlab::now());
    ensure!(prober.await_answer("sip1", begun, LIMIT), "sip1 does not answer");
    let renamed = changed(&site, "renamed.toml", |cluster| cluster.replace("pairs.sip", "pairs.phones"))?;
    let row = last_row(&api)?;
    takeover(&site, &format!("config apply {renamed} --yes"))?.expect(0, &["! ", "moves from pair sip"])?;
    tells(&api, row, &[(events::VIP_WITHHELD, ""), (events::VIP_RETURNED, "")])?;
    whole(&site, "sip1")?;
    let seen = prober.observe(begun);
    ensure!(seen.answers().iter().all(|answer| seen.who(answer) == "sip1"), "nobody else ever answered");
    println!("the longest gap: {:?}", seen.longest_gap());
    Ok(())
}

/// The profile of a pair changes under a lease that is held: no gap, no takeover; then it is as fast as the new one says.
pub fn another_profile(_: &mut Lab) -> anyhow::Result<()> {
    let site = site_with(|cluster| {
        cluster.replace("redundancy = \"hot\"", "redundancy = \"hot\"\nprofile = \"wan\"")
    })?;
    let (api, prober, begun) = (site.api()?, site.prober()?, netlab::now());
    ensure!(prober.await_answer("sip1", begun, LIMIT), "sip1 does not answer");
    let granted = epoch(&api)?;
    for profile in ["fast", "wan", "normal", "fast"] {
        let file = changed(&site, "profile.toml", |cluster| {
            let line = |line: &str| {
                if line.starts_with("profile") {
                    format!("profile = \"{profile}\"\n")
                } else {
                    format!("{line}\n")
                }
            };
            cluster.lines().map(line).collect()
        })?;
        takeover(&site, &format!("config apply {file} --yes"))?.expect(0, &["profile changed"])?;
        whole(&site, "sip1")?;
    }
    ensure!(epoch(&api)? == granted, "nobody took over");
    let lost = api.incidents()?;
    ensure!(lost.len() == 1, "there is only the first primary: {lost:?}");
    let cut = netlab::now();
    site.lab.cut("host1")?;
    ensure!(prober.await_answer("sip2", cut, LIMIT), "sip2 does not answer");
    clean_takeover("host cut in the new profile", &prober.observe(begun), "sip1", "sip2")?;
    wait_until("both VIPs to be on host2", || {
        Ok([VIP, VIP6].iter().all(|vip| site.holders(vip).is_ok_and(|on| on.contains(&"host2"))))
    })
}
