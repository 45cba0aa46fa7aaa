//! Two things go wrong: one begins, the other a moment later, and both are put right. Never do two hosts answer, service is
//! back where a majority of voters lives, and everything is whole in the end.
//!
//! The ordinary run has each two of them once; `TAKEOVER_FAULTS=all` each in either order, and put right in either order, and
//! `TAKEOVER_FAULTS=Cut,ScsKilled` so these two.

use crate::faults::{Fault, What};
use crate::single::{longest_gap, settled};
use crate::watch::Watch;
use anyhow::{Context, bail, ensure};
use e2e::{binary, started, whole};
use netlab::Lab;
use rehearsal::{AGENT_HOSTS, Settings, Site};
use std::sync::Mutex;
use std::time::Duration;

/// Installations that go through the faults side by side: they mostly wait.
const SIDE_BY_SIDE: usize = 3;
/// Orders by which a story gets its first primary back.
const BACK_ATTEMPTS: usize = 3;
/// Time between the beginnings, and between the ends.
const A_MOMENT: Duration = Duration::from_millis(250);
/// How long both last: a takeover in profile `normal`, and a little more.
const BOTH: Duration = Duration::from_millis(900);
/// How long a client may be without an answer while the second host and the SCS are well: a takeover, begun anew when the
/// second fault begins, on a busy machine.
const SERVED_AGAIN: Duration = Duration::from_millis(552 + 250 + 1_200);

/// Two faults, and whether the first that begins is the last that ends.
#[derive(Debug, Clone, Copy)]
struct Two {
    one: Fault,
    other: Fault,
    nested: bool,
}

/// All of them about the first host, or the SCS.
pub fn of_all_kinds(_: &mut Lab) -> anyhow::Result<()> {
    let asked = std::env::var("TAKEOVER_FAULTS").unwrap_or_default();
    let is_asked = |one: What, other: What| {
        asked == "all" || asked == format!("{one:?},{other:?}") || asked == format!("{other:?},{one:?}")
    };
    let mut twos = Vec::new();
    for (n, one) in What::ALL.into_iter().enumerate() {
        for (m, other) in What::ALL.into_iter().enumerate().skip(n + 1) {
            let all = is_asked(one, other);
            if !all && !asked.is_empty() {
                continue;
            }
            let (one, other) = (one.on_the_first(), other.on_the_first());
            // Half of them in one order, half of them nested, whichever kinds they are of.
            let (turned, nested) = ((n + m) % 2 == 1, m % 4 >= 2);
            for (is_turned, is_nested) in [(false, false), (false, true), (true, false), (true, true)] {
                if all || (is_turned, is_nested) == (turned, nested) {
                    let (one, other) = if is_turned { (other, one) } else { (one, other) };
                    twos.push(Two { one, other, nested: is_nested });
                }
            }
        }
    }
    side_by_side(&twos, |site, two| {
        let served = ![two.one, two.other].iter().any(|fault| fault.what == What::ScsKilled);
        story(site, &format!("{two:?}"), served, |site| {
            two.one.begin(site)?;
            std::thread::sleep(A_MOMENT);
            two.other.begin(site)?;
            std::thread::sleep(BOTH);
            let (first, last) = if two.nested { (two.other, two.one) } else { (two.one, two.other) };
            first.end(site)?;
            std::thread::sleep(A_MOMENT);
            last.end(site)
        })
    })
}

/// The host is cut off, or its agent stopped, and comes back after every 70 ms of the time that a takeover takes.
pub fn healed_at_every_moment_of_a_takeover(_: &mut Lab) -> anyhow::Result<()> {
    let mut moments = Vec::new();
    for what in [What::Cut, What::NotHeard, What::AgentStopped] {
        moments.extend((0..=700).step_by(70).map(|ms| (what.on_the_first(), ms)));
    }
    side_by_side(&moments, |site, (fault, lasts)| {
        story(site, &format!("{fault:?} for {lasts} ms"), true, |site| {
            fault.begin(site)?;
            std::thread::sleep(Duration::from_millis(*lasts));
            fault.end(site)
        })
    })
}

/// Faults one after another and at once, on either host, for `TAKEOVER_FAULT_SECONDS` (20) from the seed `TAKEOVER_SEED` (1).
pub fn at_random(_: &mut Lab) -> anyhow::Result<()> {
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
    };
    let (seconds, seed) = (number("TAKEOVER_FAULT_SECONDS", 20), number("TAKEOVER_SEED", 1));
    let mut random = Random::from(seed);
    let mut site = restless_site()?;
    let watch = Watch::start(&site)?;
    let (mut active, mut history): (Vec<Fault>, Vec<String>) = (Vec::new(), Vec::new());
    let begun = netlab::now();
    while netlab::now().since(begun) < Duration::from_secs(seconds) {
        let at = netlab::now().since(begun);
        if active.len() == 2 || !active.is_empty() && random.below(2) == 0 {
            let fault = active.swap_remove(random.below(active.len()));
            history.push(format!("{at:?}: {fault:?} ends"));
            fault.end(&mut site)?;
        } else {
            let what = What::ALL[random.below(What::ALL.len())];
            let fault = what.on(AGENT_HOSTS[random.below(AGENT_HOSTS.len())]);
            history.push(format!("{at:?}: {fault:?} begins"));
            fault.begin(&mut site)?;
            if !active.contains(&fault) && what != What::ServerKilled {
                active.push(fault);
            }
        }
        std::thread::sleep(Duration::from_millis(u64::try_from(random.below(900))?));
    }
    for fault in active {
        fault.end(&mut site)?;
    }
    let told =
        |site: &Site| format!("seed {seed}:\n{}\n{}{}", history.join("\n"), records(site), site.logs());
    settled(&site).with_context(|| told(&site))?;
    let turns = watch.end().with_context(|| told(&site))?.len();
    println!(
        "seed {seed}: {} faults begun or over in {seconds} s, the role moved {turns} times",
        history.len()
    );
    Ok(())
}

/// Some installations share the work.
fn side_by_side<T: Sync>(
    work: &[T],
    story: impl Fn(&mut Site, &T) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<()> {
    let left = Mutex::new(work.iter());
    let next = || left.lock().ok()?.next();
    let worker = || -> anyhow::Result<()> {
        let mut site = restless_site()?;
        while let Some(part) = next() {
            story(&mut site, part)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..SIDE_BY_SIDE).map(|_| scope.spawn(worker)).collect();
        // All are waited for: an installation does not end in the midst of its work.
        let results: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        results
            .into_iter()
            .try_for_each(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// From sip1 as primary through `deed` to a whole pair; `served` where the client must not be without an answer for long.
fn story(
    site: &mut Site,
    what: &str,
    served: bool,
    deed: impl FnOnce(&mut Site) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    back_to_the_first(site).with_context(|| format!("before {what}"))?;
    let (watch, prober) = (Watch::start(site)?, site.prober()?);
    let begun = netlab::now();
    let told = |site: &Site| format!("{what}\n{}{}", records(site), site.logs());
    deed(site).with_context(|| what.to_owned())?;
    let primary = settled(site).with_context(|| told(site))?;
    let gap = longest_gap(&prober.observe(begun));
    let turns = watch.end().with_context(|| told(site))?;
    println!("{what}: {turns:?}, primary is {primary}, longest gap {gap:?}");
    // Nothing goes wrong on the second host: what it has it keeps.
    ensure!(AGENT_HOSTS.starts_with(&turns), "the role went {turns:?}: {}", told(site));
    ensure!(!served || gap < SERVED_AGAIN, "no answer for {gap:?}: {}", told(site));
    Ok(())
}

/// An installation in which service may move as often as it likes, with a network of its own for SCS and agents.
fn restless_site() -> anyhow::Result<Site> {
    started(Settings::new(&binary()?).management().edit(|cluster| {
        let mut cluster = cluster + "\n[pairs.sip.flap-guard]\nfree = 1000\nfreeze-after = 1000\n";
        for app in e2e::APPS {
            cluster += &format!("\n[applications.{app}.restart]\ndelay = \"0s\"\nattempts = 1000\n");
        }
        cluster
    }))
}

/// What the SCS has recorded last, as far as it can be asked.
fn records(site: &Site) -> String {
    const LAST: usize = 60;
    let Ok(api) = site.api() else { return String::new() };
    let incidents = api.incidents().unwrap_or_default();
    let log = api.log().unwrap_or_default();
    let incidents: String = incidents.iter().rev().take(3).rev().map(e2e::told).collect();
    incidents + &e2e::shown(&log[log.len().saturating_sub(LAST)..])
}

fn back_to_the_first(site: &mut Site) -> anyhow::Result<()> {
    let mut said = String::new();
    // The story before this one may have an echo, and an order that crosses it is refused or ends where it began.
    for _ in 0..BACK_ATTEMPTS {
        if settled(site)? == "sip1" {
            return Ok(());
        }
        let ordered = site.command(&["switchover", "sip", "--to", "sip1"])?.output()?;
        if ordered.status.success() {
            whole(site, "sip1")?;
            return Ok(());
        }
        said =
            [ordered.stdout, ordered.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        eprintln!("the way back to sip1 is not free yet: {said}");
    }
    bail!("sip1 does not become primary by order: {said}")
}

/// Xorshift: any sequence will do that a seed repeats.
struct Random(u64);

impl Random {
    fn from(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).map_or(0, |number| number % below.max(1))
    }
}
