//! What becomes of a primary that fails while no SCS is there. Its agent hands the role over to a peer that stands by, as far as
//! it has heard lately; of one that has not it restarts the server where it was, which is right as well, and no takeover. On a
//! machine that is too busy for a moment that may happen to any story, so those that are about the takeover try again.

use crate::{LIMIT, ordinary_site, wait_until};
use anyhow::{Context, bail};
use rehearsal::{AGENT_HOSTS, Site, VIP, VIP6};

/// What the SIP Server of the first host logs, through its agent, each time that it has started.
pub const INITIALIZED: &str = "application sip1: initialization completed";
/// How often such a story is tried, each time with an installation of its own.
const TRIES: usize = 3;

/// What was done without an SCS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Without {
    /// The peer has taken over.
    TakenOver,
    /// The peer did not count as standing by, and the server came back where it was, with the VIPs.
    Restarted,
}

/// Tells a story in which sip1 fails without an SCS and sip2 takes over, beginning with both other voters behind sip1; anew
/// where sip1 was restarted instead.
///
/// # Errors
/// The story's own, or it never came to a takeover.
pub fn with_a_peer_that_stands_by(
    story: impl Fn(&mut Site) -> anyhow::Result<Without>,
) -> anyhow::Result<()> {
    for nth in 1..=TRIES {
        let mut site = ordinary_site()?;
        site.wait_for("both other voters to confirm sip1", LIMIT, |view| {
            view.pairs.iter().all(|pair| pair.lease.as_ref().is_some_and(|lease| lease.backing == 2))
        })?;
        match story(&mut site)? {
            Without::TakenOver => return Ok(()),
            Without::Restarted => {
                println!("try {nth}: host2 did not count as standing by, and sip1 came back where it was");
            }
        }
    }
    bail!("in none of {TRIES} tries did host2 count as standing by")
}

/// Waits for what becomes of sip1, which has just failed, without an SCS.
///
/// # Errors
/// Neither: both members' VIPs are on no host.
pub fn taken_without_scs(site: &Site) -> anyhow::Result<Without> {
    let mut found = None;
    let on = |host: &str| [VIP, VIP6].iter().all(|vip| site.holders(vip).is_ok_and(|on| on == [host]));
    wait_until("the agent on host2 to take over, or the one on host1 to restart sip1", || {
        found = if on(AGENT_HOSTS[1]) {
            Some(Without::TakenOver)
        } else {
            // Its addresses went when it failed: they are there again.
            let restarted = site.logs().matches(INITIALIZED).count() == 2 && on(AGENT_HOSTS[0]);
            restarted.then_some(Without::Restarted)
        };
        Ok(found.is_some())
    })
    .with_context(|| site.logs())?;
    found.context("it was found")
}
