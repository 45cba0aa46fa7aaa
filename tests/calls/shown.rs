//! What operators see of calls, from wherever the SCS is reached: lists, a ladder, the copy, and what a switchover would do.

use crate::phones::{Calls, site, standby};
use anyhow::{Context, ensure};
use e2e::wait_until;
use netlab::Lab;
use rehearsal::Site;
use serde_json::Value;
use std::time::Duration;

const CALLS: u32 = 3;
const TALK: Duration = Duration::from_secs(8);
const RING: Duration = Duration::from_millis(200);

/// What a command prints; it must succeed.
fn printed(site: &Site, arguments: &[&str]) -> anyhow::Result<String> {
    let output = site.command(arguments)?.output()?;
    let text = String::from_utf8(output.stdout)?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "takeover {arguments:?} ended with {}: {text}{complaint}",
        output.status
    );
    Ok(text)
}

/// A list, a call by its key and by its Call-ID, its ladder; the same of the backup's copy; status and plan.
pub fn calls_are_shown_to_operators(_: &mut Lab) -> anyhow::Result<()> {
    let site = site()?;
    let calls = Calls::begin(&site, (CALLS, 100), ("caller", TALK), ("callee", RING))?;
    wait_until("all calls to be answered, and known to the backup", || {
        Ok(standby(&site, "sip2")?.confirmed == CALLS)
    })?;

    let mut lists = Vec::new();
    for arguments in [["calls", "--json", "--app", "sip1"], ["calls", "--json", "--app", "sip2"]] {
        let page: Value = serde_json::from_str(&printed(&site, &arguments)?)?;
        let calls = page["calls"].as_array().context("calls are listed")?;
        ensure!(calls.len() == CALLS as usize, "{page}");
        let said =
            calls.iter().map(|call| (call["call"].clone(), call["call_id"].clone(), call["stage"].clone()));
        lists.push(said.collect::<Vec<_>>());
    }
    ensure!(lists[0] == lists[1], "the copy lists other calls: {lists:?}");
    let (key, id, stage) = &lists[0][0];
    ensure!(stage == "established", "{lists:?}");
    let (key, id) = (key.as_str().context("a key")?, id.as_str().context("a Call-ID")?);

    let text = printed(&site, &["calls"])?;
    ensure!(text.contains("3 calls, as sip1 has them") && text.contains(key) && text.contains(id), "{text}");
    let shown = printed(&site, &["calls", "show", key])?;
    ensure!(shown.contains(id) && printed(&site, &["calls", "show", id])? == shown, "{shown}");
    let ladder = printed(&site, &["calls", "trace", id])?;
    ensure!(["INVITE", "180", "200", "ACK"].iter().all(|part| ladder.contains(part)), "{ladder}");
    let missing = site.command(&["calls", "show", "nobody@nowhere"])?.output()?;
    ensure!(missing.status.code() == Some(1), "{missing:?}");

    let status = printed(&site, &["status"])?;
    ensure!(status.contains("sip2 would go on with 3 confirmed, 0 ringing; 1 registered"), "{status}");
    ensure!(status.contains("sip1 has 3 confirmed"), "{status}");
    let plan = printed(&site, &["switchover", "sip", "--plan"])?;
    ensure!(plan.contains("sip2 has what sip1 has (synchronized)"), "{plan}");
    ensure!(plan.contains("go on at sip2: 3 confirmed, 0 ringing; 1 registered"), "{plan}");
    calls.succeed()
}
