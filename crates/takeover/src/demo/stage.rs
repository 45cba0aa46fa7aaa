//! The demo's installation with its client, and what can be done to it: by hand, a key at a time, or as a whole workflow
//! that is watched, checked and measured.

use super::doorway::Doorway;
use super::workflow::{Seen, Workflow, faults_of_record, faults_of_service};
use anyhow::{Context, bail, ensure};
use domain::Micros;
use ha_core::{Incident, PairView};
use netlab::{Lab, Prober};
use nix::sys::signal::Signal;
use rehearsal::{AGENT_HOSTS, Api, CLIENT, Settings, Site, VIP, VIP6};
use sci::api::Incidents;
use std::net::IpAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The pair.
pub const PAIR: &str = "sip";
/// Its members.
pub const MEMBERS: [Member; 2] =
    [Member { app: "sip1", host: AGENT_HOSTS[0] }, Member { app: "sip2", host: AGENT_HOSTS[1] }];

/// How long a workflow may take to its end.
const LIMIT: Duration = Duration::from_secs(20);
/// How often the SCS is asked whether it has come to that.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How long the client goes on watching behind a workflow's end: an old primary that still answers would do so then, and
/// what was asked during the change has had its time to be answered.
const WATCHED_AFTER: Duration = Duration::from_millis(250);
/// How long the client is looked at before a change: the old primary's last answer is in it, also where the machine kept
/// the client waiting for a while.
const WATCHED_BEFORE: Duration = Duration::from_millis(100);
/// The time that counts as the end, for who answers then.
const AT_THE_END: Duration = Duration::from_millis(100);

/// A member of the pair and its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// The application.
    pub app: &'static str,
    /// Its host.
    pub host: &'static str,
}

impl Member {
    /// The one that is not this one.
    #[must_use]
    pub fn other(self) -> Member {
        if self == MEMBERS[0] { MEMBERS[1] } else { MEMBERS[0] }
    }
}

/// Everything that was built.
pub struct Stage {
    pub site: Site,
    pub api: Api,
    pub prober: Prober,
    /// The host that is cut off.
    pub cut: Option<&'static str>,
    /// The host whose agent was killed.
    pub without_agent: Option<&'static str>,
    /// The last incident that was waited for. The record comes a moment after the change: who only looked at what is
    /// recorded now would take one that is still on its way for the next.
    last_incident: u64,
}

/// A workflow that was run.
#[derive(Debug)]
pub struct Run {
    /// Which.
    pub workflow: Workflow,
    /// Who was primary; in the reconnection, who comes back as one.
    pub from: &'static str,
    /// Who is primary at the end.
    pub to: &'static str,
    /// Its record.
    pub incident: Option<Incident>,
    /// What the client saw.
    pub seen: Seen,
    /// Who answered at the end.
    pub answered_at_end: Vec<String>,
    /// Which hosts had the IPv4 VIP at the end, as their kernels say.
    pub holders: Vec<&'static str>,
    /// Why it did not pass; empty where it did.
    pub faults: Vec<String>,
}

impl Stage {
    /// Builds network and files, starts everything, and waits until sip1 is primary, its host has the VIPs, sip2 could
    /// take over, and the client is answered. `say` is told how far it is.
    ///
    /// # Errors
    /// What could not be built or did not come up.
    pub fn build(doorway: Option<&Doorway>, say: &dyn Fn(&str)) -> anyhow::Result<Self> {
        say("building a switch and four hosts: scs, host1, host2, client");
        let takeover = std::env::current_exe().context("cannot find the path of this program")?;
        let mut settings = Settings::new(&takeover).edit(allow_many_failures);
        settings.api_listener = doorway.map(Doorway::listener_for_scs).transpose()?;
        let mut site = Site::build(Lab::new()?, settings)?;
        if let Some(doorway) = doorway {
            doorway.furnish(site.files())?;
        }
        say("starting the SCS, an LCA on host1 and host2, and a SIP Server under each");
        site.start()?;
        say("starting a client that sends a SIP OPTIONS to the VIP every millisecond");
        let (prober, api) = (site.prober()?, site.api()?);
        let mut stage = Self { site, api, prober, cut: None, without_agent: None, last_incident: 0 };
        stage.await_incident()?; // of the first primary
        ensure!(
            stage.prober.await_answer(MEMBERS[0].app, Micros(0), LIMIT),
            "the client gets no answer from the VIP {VIP}"
        );
        Ok(stage)
    }

    /// The pair as the SCS sees it.
    ///
    /// # Errors
    /// The SCS cannot be reached.
    pub fn pair(&self) -> anyhow::Result<PairView> {
        let found = self.api.view()?.pairs.into_iter().find(|pair| pair.name.as_str() == PAIR);
        found.context("the SCS does not know the pair")
    }

    /// The member that the SCS wants as primary.
    ///
    /// # Errors
    /// There is none, or the SCS cannot be reached.
    pub fn primary(&self) -> anyhow::Result<Member> {
        let wanted = self.pair()?.wanted_primary;
        let found = MEMBERS.into_iter().find(|m| wanted.as_ref().is_some_and(|w| w.as_str() == m.app));
        found.context("the pair has no primary now")
    }

    /// The newest incidents, in the order of their numbers.
    ///
    /// # Errors
    /// The SCS cannot be reached.
    pub fn newest_incidents(&self) -> anyhow::Result<Vec<Incident>> {
        Ok(self.api.get::<Incidents>("/incidents?limit=5")?.incidents)
    }

    /// Orders a switchover.
    ///
    /// # Errors
    /// The SCS refuses and says why.
    pub fn switch_over(&self) -> anyhow::Result<()> {
        self.api.switch_over(PAIR, "ordered in the demo").map(drop)
    }

    /// Cuts a host off.
    ///
    /// # Errors
    /// One is cut off already.
    pub fn cut(&mut self, host: &'static str) -> anyhow::Result<()> {
        if let Some(already) = self.cut {
            bail!("{already} is cut off already");
        }
        self.site.lab.cut(host)?;
        self.cut = Some(host);
        Ok(())
    }

    /// Connects the host again that was cut off, and says which.
    ///
    /// # Errors
    /// None is cut off.
    pub fn reconnect(&mut self) -> anyhow::Result<&'static str> {
        let host = self.cut.context("no host is cut off")?;
        self.site.lab.heal(host)?;
        self.cut = None;
        Ok(host)
    }

    /// Kills the agent of a host.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill_agent(&mut self, host: &'static str) -> anyhow::Result<()> {
        self.site.kill_agent(host)?;
        self.without_agent = Some(host);
        Ok(())
    }

    /// Starts the agent again that was killed, and says whose.
    ///
    /// # Errors
    /// None was killed, or it cannot be started.
    pub fn restart_agent(&mut self) -> anyhow::Result<&'static str> {
        let host = self.without_agent.context("both agents run")?;
        self.site.start_agent(host)?;
        self.without_agent = None;
        Ok(host)
    }

    /// Runs a workflow once. The roles are left as they are at its end: the next run goes the other way.
    pub fn run(&mut self, workflow: Workflow) -> Run {
        let nobody = Member { app: "", host: "" };
        let (old, new) = match self.make_start_state(workflow) {
            Ok(members) => members,
            Err(error) => {
                let mut run = Run::new(workflow, nobody, nobody);
                run.faults.push(format!("the start state was not reached: {error:#}"));
                return run;
            }
        };
        let mut run = Run::new(workflow, old, new);
        if let Err(error) = self.carry_out(&mut run, old, new) {
            run.faults.push(format!("{error:#}"));
        }
        run
    }

    /// Sees to it that the workflow can begin. Who loses the role (or comes back with it), and who gets (or keeps) it.
    fn make_start_state(&mut self, workflow: Workflow) -> anyhow::Result<(Member, Member)> {
        match (workflow, self.cut) {
            (Workflow::Reconnected, None) => {
                let old = self.primary()?;
                self.cut(old.host)?;
                self.await_incident()?;
                self.await_end_state(Workflow::Disconnected, old.other())?;
            }
            (Workflow::Reconnected, Some(_)) => {}
            (Workflow::Manual | Workflow::Failure | Workflow::Disconnected, Some(_)) => {
                let host = self.reconnect()?;
                let survivor = MEMBERS.into_iter().find(|member| member.host != host);
                self.await_incident()?;
                self.await_end_state(Workflow::Reconnected, survivor.context("no host is left")?)?;
            }
            (Workflow::Manual | Workflow::Failure | Workflow::Disconnected, None) => {}
        }
        let new = match workflow {
            Workflow::Reconnected => self.primary()?,
            Workflow::Manual | Workflow::Failure | Workflow::Disconnected => self.primary()?.other(),
        };
        Ok((new.other(), new))
    }

    fn carry_out(&mut self, run: &mut Run, old: Member, new: Member) -> anyhow::Result<()> {
        let workflow = run.workflow;
        let begun = Site::now();
        let skipped_before = self.prober.observe(begun).skipped;
        match workflow {
            Workflow::Manual => self.switch_over()?,
            Workflow::Failure => self.site.signal_app(old.app, Signal::SIGKILL)?,
            Workflow::Disconnected => self.cut(old.host)?,
            Workflow::Reconnected => drop(self.reconnect()?),
        }
        let from = match workflow {
            Workflow::Manual | Workflow::Failure | Workflow::Disconnected => {
                // Without asking the SCS meanwhile, which would disturb what is measured.
                ensure!(
                    self.prober.await_answer(new.app, begun, LIMIT),
                    "{} did not answer the client within {LIMIT:?}",
                    new.app
                );
                begun - WATCHED_BEFORE
            }
            // The survivor answers all the time, and the client must not count the cut before.
            Workflow::Reconnected => begun,
        };
        run.incident = Some(self.await_incident()?);
        let outcome = self.await_end_state(workflow, new);
        sleep(WATCHED_AFTER);
        let window = self.prober.observe(from);
        run.seen = Seen::change(&window, workflow.kind(), old.app, new.app);
        run.seen.skipped -= skipped_before;
        let end = window.between(window.to - AT_THE_END, window.to);
        run.answered_at_end = end.count_by_tag().into_keys().map(str::to_owned).collect();
        run.holders = self.site.holders(VIP)?;

        run.faults.extend(run.incident.iter().flat_map(|incident| faults_of_record(workflow, incident)));
        run.faults.extend(faults_of_service(workflow, &run.seen));
        if run.answered_at_end != [new.app] {
            let who = run.answered_at_end.join(" and ");
            let who = if who.is_empty() { "nobody" } else { &who };
            run.faults.push(format!("at the end {who} answered, not {} alone", new.app));
        }
        outcome
    }

    /// The next incident, once it has ended and is recorded.
    fn await_incident(&mut self) -> anyhow::Result<Incident> {
        let begun = Instant::now();
        while begun.elapsed() < LIMIT {
            let next = self.newest_incidents()?.into_iter().find(|i| i.id.0 > self.last_incident);
            if let Some(incident) = next.filter(|incident| incident.ended.is_some()) {
                self.last_incident = incident.id.0;
                return Ok(incident);
            }
            sleep(LOOK_EVERY);
        }
        bail!("no incident was recorded from beginning to end within {LIMIT:?}")
    }

    /// Waits for the workflow's end state, in which `primary` has the role.
    fn await_end_state(&self, workflow: Workflow, primary: Member) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let amiss = self.amiss(workflow, primary)?;
            if amiss.is_empty() {
                return Ok(());
            }
            ensure!(begun.elapsed() < LIMIT, "{LIMIT:?} after it began, {}", amiss.join("; "));
            sleep(LOOK_EVERY);
        }
    }

    /// What is not yet as it must be at the end of the workflow.
    fn amiss(&self, workflow: Workflow, primary: Member) -> anyhow::Result<Vec<String>> {
        let pair = self.pair()?;
        let mut amiss = Vec::new();
        let mut expect = |so: bool, otherwise: String| {
            if !so {
                amiss.push(otherwise);
            }
        };
        let is_primary = pair.primary.as_ref().is_some_and(|app| app.as_str() == primary.app);
        expect(is_primary, format!("{} is not the one primary", primary.app));
        expect(pair.incident.is_none(), "an incident is still open".to_owned());
        // Of a host that is cut off nothing is known, and behind its closed gate the address stays for some seconds.
        let other_is_seen = workflow != Workflow::Disconnected;
        for member in pair.members.iter().filter(|_| other_is_seen) {
            if let Err(why) = &member.ready {
                expect(false, format!("{} could not take over: {why}", member.app));
            }
        }
        for vip in &pair.vips {
            for place in &vip.places {
                let here = place.host.as_str() == primary.host;
                let reported = !here && !other_is_seen || place.enabled == Some(here);
                expect(reported, format!("{} is not reported as it must be on {}", vip.address, place.host));
            }
        }
        for vip in [VIP, VIP6] {
            let holders = self.site.holders(vip)?;
            let right = holders.contains(&primary.host) && (holders.len() == 1 || !other_is_seen);
            expect(right, format!("{vip} is on {}", holders.join(" and ")));
        }
        let known = self.site.lab.neighbour(CLIENT, VIP.parse::<IpAddr>()?)?;
        let right = known == Some(self.site.lab.mac(primary.host, "eth0")?);
        expect(right, format!("the client's ARP entry of {VIP} does not lead to {}", primary.host));
        Ok(amiss)
    }
}

impl Run {
    fn new(workflow: Workflow, old: Member, new: Member) -> Self {
        Self {
            workflow,
            from: old.app,
            to: new.app,
            incident: None,
            seen: Seen::default(),
            answered_at_end: Vec::new(),
            holders: Vec::new(),
            faults: Vec::new(),
        }
    }

    /// Whether everything was as it must be.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.faults.is_empty()
    }
}

/// What an installation does when things fail again and again would only be in the way where somebody makes them fail: a
/// pair is held back and then frozen until it is acknowledged (the flap guard), and each restart of a server waits twice as
/// long as the one before.
fn allow_many_failures(mut cluster: String) -> String {
    let guard = "flap-guard = { free = 1000, freeze-after = 1000, window = \"1s\" }";
    let restart = "restart = { delay = \"0s\", attempts = 1000 }";
    let mut add = |table: String, line: &str| {
        cluster = cluster.replace(&format!("[{table}]\n"), &format!("[{table}]\n{line}\n"));
    };
    add(format!("pairs.{PAIR}"), guard);
    for member in MEMBERS {
        add(format!("applications.{}", member.app), restart);
    }
    cluster
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_go_into_the_tables_that_the_cluster_file_has() {
        let cluster = "[applications.sip1]\na\n[applications.sip2]\nb\n[pairs.sip]\nc\n".to_owned();
        let edited = allow_many_failures(cluster);
        let order: Vec<&str> = edited.lines().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(
            order,
            [
                "[applications.sip1]",
                "restart",
                "a",
                "[applications.sip2]",
                "restart",
                "b",
                "[pairs.sip]",
                "flap-guard",
                "c"
            ]
        );
    }

    #[test]
    fn each_member_is_the_other_of_the_other() {
        for member in MEMBERS {
            assert_ne!(member.other(), member);
            assert_eq!(member.other().other(), member);
        }
    }
}
