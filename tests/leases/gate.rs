//! The gate in the kernel: others take it away, and a kernel, or missing rights, that have none.

use crate::faults::What;
use crate::single::{longest_gap, moves, run, settled, unmoved_by};
use crate::watch::Watch;
use anyhow::{Context, ensure};
use domain::{GateReport, events};
use e2e::{LIMIT, binary, last_row, ordinary_site, started, tells, wait_until, whole};
use netlab::Lab;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rehearsal::{AGENT_HOSTS, Settings, Site, VIP, VIP6};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A lease of profile `normal`, and what a busy machine takes besides.
const LEASE_OVER: Duration = Duration::from_millis(450 + 1_000);

/// The holder's filters are flushed, again and again: it goes on serving, and its gate is back and closes on time.
pub fn flushed_while_held(_: &mut Lab) -> anyhow::Result<()> {
    let mut site = ordinary_site()?;
    for _ in 0..5 {
        flush_and_see_it_back(&site, AGENT_HOSTS[0])?;
    }
    whole(&site, "sip1")?;
    moves(&mut site, &[What::AgentStopped], Duration::from_secs(1))
}

/// The backup's filters are flushed: they are back, and closed to an address that is put there.
pub fn flushed_while_not_held(_: &mut Lab) -> anyhow::Result<()> {
    unmoved_by(|site| {
        flush_and_see_it_back(site, AGENT_HOSTS[1])?;
        let stopped = What::AgentStopped.on(AGENT_HOSTS[1]);
        stopped.begin(site)?;
        for vip in [format!("{VIP}/24"), format!("{VIP6}/64")] {
            run(site, AGENT_HOSTS[1], "ip", &["address", "add", &vip, "dev", "eth0", "nodad"])?;
        }
        ensure!(site.holders(VIP)? == AGENT_HOSTS, "both hosts have the address");
        std::thread::sleep(Duration::from_millis(500));
        stopped.end(site)?;
        wait_until("the address to be removed", || Ok(site.holders(VIP)? == [AGENT_HOSTS[0]]))
    })
}

/// Where the kernel gives no gate the agent removes the addresses of a lease that has ended, while clients still reach it.
pub fn without_one_the_address_goes_with_the_lease(_: &mut Lab) -> anyhow::Result<()> {
    let mut site = site_without_gate()?;
    let prober = site.prober()?;
    ensure!(prober.await_answer("sip1", netlab::now(), LIMIT), "sip1 does not answer");
    let cut = netlab::now();
    for what in [What::FromScs, What::FromPeer] {
        what.on_the_first().begin(&mut site)?;
    }
    wait_until("host1 to remove the addresses", || {
        Ok([VIP, VIP6].iter().all(|vip| site.holders(vip).is_ok_and(|on| !on.contains(&AGENT_HOSTS[0]))))
    })
    .with_context(|| site.logs())?;
    let removed = netlab::now().since(cut);
    println!("addresses removed {removed:?} after the cut");
    ensure!(removed < LEASE_OVER, "the addresses were there for {removed:?}\n{}", site.logs());
    ensure!(prober.await_answer("sip2", cut, LIMIT), "sip2 does not take over\n{}", site.logs());
    for what in [What::FromScs, What::FromPeer] {
        what.on_the_first().end(&mut site)?;
    }
    whole(&site, "sip2")
}

/// Agents without real-time rights beside a fork bomb in a cgroup of its own: whoever serves, at no moment do two, and
/// when it is over one does.
pub fn closed_on_time_beside_a_fork_bomb(_: &mut Lab) -> anyhow::Result<()> {
    let site = started(Settings { real_time: false, ..Settings::new(&binary()?) })?;
    let (watch, prober, begun) = (Watch::start(&site)?, site.prober()?, netlab::now());
    let bomb = ForkBomb::start(&site, AGENT_HOSTS[0])?;
    wait_until("the bomb to go off", || Ok(bomb.processes()? > ForkBomb::PROCESSES / 2))?;
    std::thread::sleep(Duration::from_secs(5));
    let processes = bomb.processes()?;
    let placed = bomb.cgroup.as_ref().map_or("in no cgroup of their own", |_| "in a cgroup of their own");
    drop(bomb);
    ensure!(processes > ForkBomb::PROCESSES / 2, "the bomb did not last: {processes} processes");
    settled(&site)?;
    let turns = watch.end().with_context(|| site.logs())?;
    let gap = longest_gap(&prober.observe(begun));
    println!(
        "beside {processes} processes that fork, {placed}: the role went {turns:?}, longest gap {gap:?}"
    );
    Ok(())
}

/// Processes without end that fork without end, as many as a shell's recursion makes.
struct ForkBomb {
    /// Leads a session of its own, as all that the laboratory starts.
    shell: Child,
    /// A cgroup of its own, where one can be made.
    cgroup: Option<Cgroup>,
}

impl ForkBomb {
    /// How many: each generation doubles them.
    const PROCESSES: usize = (1 << 8) - 1;
    const SCRIPT: &str =
        "bomb() { if [ $1 -gt 0 ]; then bomb $(($1 - 1)) & bomb $(($1 - 1)) & fi; while :; do (:); done; }
        bomb 7";

    fn start(site: &Site, host: &str) -> anyhow::Result<Self> {
        let cgroup = Cgroup::make()?;
        let mut shell = Command::new("sh");
        shell.args(["-c", Self::SCRIPT]).stderr(Stdio::null());
        let bomb = Self { shell: site.lab.spawn(host, shell)?, cgroup };
        if let Some(Cgroup(path)) = &bomb.cgroup {
            fs::write(path.join("cgroup.procs"), bomb.shell.id().to_string())?;
        }
        Ok(bomb)
    }

    /// How many there are.
    fn processes(&self) -> anyhow::Result<usize> {
        let group = self.shell.id().to_string();
        let of_the_group = |stat: &String| {
            // Behind the name in brackets come the state, the parent and the process group (proc(5)).
            let behind = stat.rsplit(") ").next().unwrap_or_default();
            behind.split(' ').nth(2) == Some(group.as_str())
        };
        let entries = fs::read_dir("/proc")?.flatten();
        Ok(entries
            .filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok())
            .filter(of_the_group)
            .count())
    }
}

impl Drop for ForkBomb {
    fn drop(&mut self) {
        let group = i32::try_from(self.shell.id()).map(Pid::from_raw);
        let _ = group.map(|group| killpg(group, Signal::SIGKILL));
        let _ = self.shell.wait();
    }
}

/// A cgroup beside all others, removed when those in it have ended.
struct Cgroup(PathBuf);

impl Cgroup {
    /// None where nobody may make one here.
    fn make() -> anyhow::Result<Option<Self>> {
        // Process numbers are the same in every laboratory; the number of their namespace is not.
        let laboratory = fs::metadata("/proc/self/ns/pid")?.ino();
        let hierarchies = ["", "unified", "cpu"].map(|name| Path::new("/sys/fs/cgroup").join(name));
        let made =
            hierarchies.into_iter().filter(|path| path.join("cgroup.procs").exists()).find_map(|path| {
                let cgroup = path.join(format!("takeover-bomb-{laboratory}"));
                fs::create_dir(&cgroup).is_ok().then_some(Self(cgroup))
            });
        Ok(made)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Those that have died may still be there for a moment.
        let _ = wait_until("the cgroup to be empty", || Ok(fs::remove_dir(&self.0).is_ok()));
    }
}

/// The stated limit: nobody is there to remove it. And the proof that the watch hears two where there are two.
pub fn without_one_a_stopped_agent_is_two_at_once(_: &mut Lab) -> anyhow::Result<()> {
    let mut site = site_without_gate()?;
    let (watch, prober, begun) = (Watch::start(&site)?, site.prober()?, netlab::now());
    What::AgentStopped.on_the_first().begin(&mut site)?;
    ensure!(prober.await_answer("sip2", begun, LIMIT), "sip2 does not take over\n{}", site.logs());
    std::thread::sleep(Duration::from_millis(300));
    What::AgentStopped.on_the_first().end(&mut site)?;
    whole(&site, "sip2")?;
    ensure!(watch.end_with_two()?, "two hosts had the address, and the watch has not heard it");
    Ok(())
}

/// Another tool takes the filters of an interface away.
fn flush_and_see_it_back(site: &Site, host: &str) -> anyhow::Result<()> {
    let api = site.api()?;
    let row = last_row(&api)?;
    run(site, host, "tc", &["qdisc", "del", "dev", "eth0", "clsact"])?;
    tells(&api, row, &[(events::GATE_DISTURBED, "")]).with_context(|| format!("{host}\n{}", site.logs()))
}

/// An installation whose agents lack the rights to have a gate; and that says so.
fn site_without_gate() -> anyhow::Result<Site> {
    let site = started(Settings { gate: false, ..Settings::new(&binary()?) })?;
    let api = site.api()?;
    let mut lease = None;
    wait_until("both agents to tell of their gates", || {
        lease = api.view()?.pairs.remove(0).lease;
        Ok(lease.as_ref().is_some_and(|lease| !lease.gates.contains(&GateReport::Unknown)))
    })?;
    let lease = lease.context("the pair has a lease")?;
    ensure!(
        lease.gates.iter().all(|gate| matches!(gate, GateReport::Agent { .. })),
        "there is a gate: {:?}",
        lease.gates
    );
    ensure!(lease.guarantee.starts_with("lease only"), "not said to be less: {}", lease.guarantee);
    Ok(site)
}
