//! The other end of the agent's connection, played by hand: accepts it with the real acceptor, says welcome, reads what
//! the agent reports. Every wait has a bound.

use crate::voice::Voice;
use control_link::messages::{Fact, FromAgent, Heartbeat, PROTOCOL, Report, ToAgent, Welcome};
use control_link::{Acceptor, Identity, Limits, Link, LinkError, Role, ca};
use domain::{
    Answer, AnswerOutcome, AppName, AppReport, AppStatus, Application, Cluster, Epoch, Host, HostName,
    Instruction, InterfaceName, Launch, LaunchResult, LaunchWhat, ModeControl, OnHang, Order, PeerReport,
    RefId, RestartPolicy, RunMode, Script, TakenOver, VipAddress, VipVerb,
};
use mio::{Events, Interest, Poll, Token};
use netlab::{Lab, Nic};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// No event of these tests takes longer, unless something is broken.
const LIMIT: Duration = Duration::from_secs(20);

pub struct Scs {
    address: SocketAddr,
    links: Receiver<Link>,
    _acceptor: Acceptor,
    pub voice: Voice,
    poll: Poll,
    link: Option<Link>,
    queue: VecDeque<FromAgent>,
    next_ref: u64,
    sessions: u64,
    tls: tempfile::TempDir,
    /// The version of the messages that it speaks.
    pub protocol: u32,
    /// Silence after which the agent hangs up.
    pub silence_ms: u64,
    /// Whether reports are acknowledged as they come.
    pub acknowledging: bool,
    /// The numbers of all reports on this connection.
    pub numbers: Vec<u64>,
    /// All facts on this connection.
    pub seen: Vec<Fact>,
    /// Which other agents are heard, by the last inventory.
    pub peers: Vec<PeerReport>,
    /// The roles taken without it, by the last inventory.
    pub taken_over: Vec<TakenOver>,
}

impl Scs {
    pub fn start(lab: &mut Lab) -> Self {
        for (host, address) in
            [("scs", "192.0.2.10/24"), ("host1", "192.0.2.11/24"), ("client", "192.0.2.12/24")]
        {
            lab.host(host, &[Nic { segment: "lan", name: "eth0", addresses: &[address] }]).unwrap();
        }
        let tls = tempfile::tempdir().unwrap();
        let ca_dir = tls.path().join("ca");
        ca::init(&ca_dir, "test").unwrap();
        let issued = ca::issue(&ca_dir, Role::Scs, "scs1", &tls.path().join("scs")).unwrap();
        let identity = Identity::load(&issued.certificate, &issued.key, &issued.ca).unwrap();
        let address: SocketAddr = "192.0.2.10:7400".parse().unwrap();
        let (listener, udp) = lab
            .in_host("scs", || (TcpListener::bind(address).unwrap(), UdpSocket::bind(address).unwrap()))
            .unwrap();
        let (sender, links) = channel();
        let on_link = move |link| drop(sender.send(link));
        let refused = |address, why| eprintln!("refused {address}: {why}");
        let acceptor =
            Acceptor::start(vec![listener], &identity, Limits::default(), |_| Ok(()), on_link, refused)
                .unwrap();
        Self {
            address,
            links,
            _acceptor: acceptor,
            voice: Voice::start(udp),
            poll: Poll::new().unwrap(),
            link: None,
            queue: VecDeque::new(),
            next_ref: 1_000,
            sessions: 0,
            tls,
            protocol: PROTOCOL,
            silence_ms: 20_000,
            acknowledging: true,
            numbers: Vec::new(),
            seen: Vec::new(),
            peers: Vec::new(),
            taken_over: Vec::new(),
        }
    }

    /// A certificate of the cluster's CA.
    pub fn identity(&self, role: Role, name: &str) -> Identity {
        let directory = self.tls.path().join(format!("{role}-{name}"));
        let issued = ca::issue(&self.tls.path().join("ca"), role, name, &directory).unwrap();
        Identity::load(&issued.certificate, &issued.key, &issued.ca).unwrap()
    }

    /// Waits for the agent, takes its hello, says welcome, takes its inventory.
    pub fn welcome(&mut self, cluster: Cluster) -> Vec<AppReport> {
        let mut link = self.links.recv_timeout(LIMIT).expect("the agent dials");
        self.queue.clear();
        self.seen.clear();
        self.poll.registry().register(link.source(), Token(0), Interest::READABLE).unwrap();
        self.link = Some(link);
        let FromAgent::Hello(hello) = self.next() else { panic!("the first message is the hello") };
        assert_eq!((hello.protocol, hello.host.as_str()), (PROTOCOL, "host1"));
        self.sessions += 1;
        let session = self.sessions;
        let link = self.link.as_mut().unwrap();
        self.voice.speak(link.seal(session).unwrap());
        let welcome = Welcome {
            protocol: self.protocol,
            release: "test".to_owned(),
            session,
            cluster,
            heartbeat_ms: 50,
            silence_ms: self.silence_ms,
        };
        link.send(&ToAgent::Welcome(Box::new(welcome))).unwrap();
        // Figures may come at any time; everything else comes behind the inventory.
        loop {
            match self.next() {
                FromAgent::Inventory { apps, peers, .. } => {
                    self.peers = peers;
                    return apps;
                }
                FromAgent::Figures(_)
                | FromAgent::Standby { .. }
                | FromAgent::Leases { .. }
                | FromAgent::Lease { .. } => {}
                other @ (FromAgent::Hello(_) | FromAgent::Report(_) | FromAgent::Fetched { .. }) => {
                    panic!("the inventory follows the welcome, not {other:?}")
                }
            }
        }
    }

    pub fn assign(&mut self, cluster: Cluster) {
        self.send(&ToAgent::Assign { cluster: Box::new(cluster), number: 1, pace: None });
    }

    pub fn hang_up(&mut self) {
        self.link = None;
    }

    /// Waits, without answering heartbeats, until the agent hangs up.
    pub fn wait_for_hang_up(&mut self) {
        let deadline = Instant::now() + LIMIT;
        self.voice.be_silent(true);
        while self.receive(deadline).is_ok() {}
        self.voice.be_silent(false);
        self.link = None;
    }

    /// Sends an instruction; the answer is for [`Scs::answer`].
    pub fn order(&mut self, app: &str, order: Order) -> RefId {
        self.next_ref += 1;
        let ref_id = RefId(self.next_ref);
        self.send(&ToAgent::Instruct(Instruction { ref_id, app: app.parse().unwrap(), order }));
        ref_id
    }

    pub fn answer(&mut self, ref_id: RefId) -> AnswerOutcome {
        match self.fact(|fact| matches!(fact, Fact::Answer(answer) if answer.ref_id == ref_id)) {
            Fact::Answer(Answer { outcome, .. }) => outcome,
            other => panic!("{other:?}"),
        }
    }

    pub fn instruct(&mut self, app: &str, order: Order) -> AnswerOutcome {
        let ref_id = self.order(app, order);
        self.answer(ref_id)
    }

    pub fn set_mode(&mut self, app: &str, mode: RunMode, epoch: u64) -> AnswerOutcome {
        self.instruct(app, Order::SetRunMode { mode, epoch: Epoch(epoch) })
    }

    pub fn launch(&mut self, ref_id: u64, script: &str, limit_ms: u64) -> LaunchResult {
        self.run(Launch {
            ref_id: RefId(ref_id),
            what: LaunchWhat::Script { script: script.parse().unwrap() },
            pair: None,
            app: None,
            mode: None,
            epoch: Epoch(9),
            event: None,
            alarm: "wiring".to_owned(),
            time_limit: Duration::from_millis(limit_ms),
        })
    }

    pub fn run(&mut self, launch: Launch) -> LaunchResult {
        let ref_id = launch.ref_id;
        self.send(&ToAgent::Launch(Box::new(launch)));
        match self.fact(|fact| matches!(fact, Fact::LaunchEnded(result) if result.ref_id == ref_id)) {
            Fact::LaunchEnded(result) => result,
            other => panic!("{other:?}"),
        }
    }

    /// Orders the VIP control of `pair-app1`.
    pub fn vip(&mut self, verb: VipVerb, vip: VipAddress, epoch: u64, script: Option<&str>) -> LaunchResult {
        let script = script.map(|name| name.parse().unwrap());
        self.launch_for_pair(LaunchWhat::VipControl { verb, vip, interface: eth0(), script }, epoch)
    }

    /// Orders to ask the network who has a VIP of `pair-app1`.
    pub fn find_holder(&mut self, vip: VipAddress) -> LaunchResult {
        self.launch_for_pair(LaunchWhat::FindHolder { vip, interface: eth0() }, 0)
    }

    fn launch_for_pair(&mut self, what: LaunchWhat, epoch: u64) -> LaunchResult {
        self.next_ref += 1;
        self.run(Launch {
            ref_id: RefId(self.next_ref),
            what,
            pair: Some("pair-app1".parse().unwrap()),
            app: Some("app1".parse().unwrap()),
            mode: Some(RunMode::Primary),
            epoch: Epoch(epoch),
            event: None,
            alarm: String::new(),
            time_limit: Duration::from_secs(5),
        })
    }

    /// The next report of an application that is as wanted.
    pub fn app(&mut self, wanted: impl Fn(&AppReport) -> bool) -> AppReport {
        match self.fact(|fact| matches!(fact, Fact::App(report) if wanted(report))) {
            Fact::App(report) => report,
            other => panic!("{other:?}"),
        }
    }

    pub fn app_is(&mut self, app: &str, status: AppStatus) -> AppReport {
        self.app(|report| report.app.as_str() == app && report.status == status)
    }

    /// The next fact that is as wanted; those before it are passed over.
    pub fn fact(&mut self, wanted: impl Fn(&Fact) -> bool) -> Fact {
        self.report(wanted).fact
    }

    /// The same with the time at which it happened.
    pub fn report(&mut self, wanted: impl Fn(&Fact) -> bool) -> Report {
        let deadline = Instant::now() + LIMIT;
        loop {
            match self.receive(deadline) {
                Ok(FromAgent::Report(report)) if wanted(&report.fact) => return report,
                // Figures come for ever: the bound is for the fact, not for the next message.
                Ok(_) => assert!(Instant::now() < deadline, "it did not come; seen so far: {:#?}", self.seen),
                Err(e) => panic!("no message of the agent: {e}; seen so far: {:#?}", self.seen),
            }
        }
    }

    /// The next message that is as wanted; those before it are passed over.
    pub fn message(&mut self, wanted: impl Fn(&FromAgent) -> bool) -> FromAgent {
        let deadline = Instant::now() + LIMIT;
        loop {
            match self.receive(deadline) {
                Ok(message) if wanted(&message) => return message,
                Ok(_) => assert!(Instant::now() < deadline, "it did not come; seen so far: {:#?}", self.seen),
                Err(e) => panic!("no message of the agent: {e}; seen so far: {:#?}", self.seen),
            }
        }
    }

    /// Reads on until something is so.
    pub fn wait_until(&mut self, so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !so(self) {
            assert!(Instant::now() < deadline, "it did not become so; seen so far: {:#?}", self.seen);
            if let Err(e) = self.receive(deadline) {
                panic!("no message of the agent: {e}; seen so far: {:#?}", self.seen);
            }
        }
    }

    /// The next heartbeat of the agent.
    pub fn heartbeat(&mut self) -> Heartbeat {
        self.voice.next()
    }

    pub fn send(&mut self, message: &ToAgent) {
        self.link.as_mut().unwrap().send(message).unwrap();
    }

    fn next(&mut self) -> FromAgent {
        let deadline = Instant::now() + LIMIT;
        match self.receive(deadline) {
            Ok(message) => message,
            Err(e) => panic!("no message of the agent: {e}; seen so far: {:#?}", self.seen),
        }
    }

    fn receive(&mut self, deadline: Instant) -> Result<FromAgent, LinkError> {
        let mut events = Events::with_capacity(8);
        loop {
            if let Some(message) = self.queue.pop_front() {
                self.took(&message);
                return Ok(message);
            }
            let mut messages = Vec::new();
            let received = self.link.as_mut().expect("connected").receive(&mut messages);
            self.queue.extend(messages);
            if self.queue.is_empty() {
                let _ = received?;
                let left = deadline.saturating_duration_since(Instant::now());
                assert!(!left.is_zero(), "nothing came; seen so far: {:#?}", self.seen);
                self.poll.poll(&mut events, Some(left.min(Duration::from_millis(50)))).unwrap();
            }
        }
    }

    fn took(&mut self, message: &FromAgent) {
        assert!(message.known_since() <= self.protocol, "an older SCS would hang up on {message:?}");
        if let FromAgent::Inventory { taken_over, .. } = message {
            self.taken_over.clone_from(taken_over);
        }
        if let FromAgent::Report(report) = message {
            self.numbers.push(report.seq);
            self.seen.push(report.fact.clone());
            if self.acknowledging {
                let seq = report.seq;
                // It may have hung up meanwhile, which the next receive tells.
                let _ = self.link.as_mut().unwrap().send(&ToAgent::Acknowledge { seq });
            }
        }
    }
}

/// An agent as a process of its own on host1. What it leaves behind ends with the laboratory.
pub struct Agent {
    host: &'static str,
    directory: tempfile::TempDir,
    child: Option<Child>,
}

impl Agent {
    pub fn start(lab: &Lab, scs: &Scs) -> Self {
        let mut agent = Self::new("host1", scs);
        agent.start_again(lab, scs);
        agent
    }

    /// One that knows its part of the cluster from before, on any host.
    pub fn start_with(lab: &Lab, scs: &Scs, host: &'static str, cluster: &Cluster) -> Self {
        let mut agent = Self::new(host, scs);
        let state = agent.directory.path().join("state");
        std::fs::create_dir_all(&state).unwrap();
        std::fs::write(state.join("cluster.json"), serde_json::to_vec(cluster).unwrap()).unwrap();
        agent.start_again(lab, scs);
        agent
    }

    fn new(host: &'static str, scs: &Scs) -> Self {
        let directory = tempfile::tempdir().unwrap();
        ca::issue(&scs.tls.path().join("ca"), Role::Agent, host, &directory.path().join("tls")).unwrap();
        Self { host, directory, child: None }
    }

    pub fn start_again(&mut self, lab: &Lab, scs: &Scs) {
        assert!(self.child.is_none(), "the last one has ended");
        let mut command = self.command(scs);
        command.stderr(File::options().create(true).append(true).open(self.log()).unwrap());
        self.child = Some(lab.spawn(self.host, command).unwrap());
    }

    /// Waits until the agent has said this so many times since it was started first.
    pub fn has_said(&self, what: &str, times: usize) {
        wait_for(|| (self.said().matches(what).count() >= times).then_some(()));
    }

    /// All that the agent has said.
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap()
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    pub fn second(&self, lab: &Lab, scs: &Scs) -> Output {
        let mut command = self.command(scs);
        command.stderr(Stdio::piped());
        lab.spawn("host1", command).unwrap().wait_with_output().unwrap()
    }

    /// What an agent with this watchdog device says at its end.
    pub fn with_watchdog(lab: &Lab, scs: &Scs, device: &str) -> Output {
        let directory = tempfile::tempdir().unwrap();
        ca::issue(&scs.tls.path().join("ca"), Role::Agent, "host1", &directory.path().join("tls")).unwrap();
        let agent = Self { host: "host1", directory, child: None };
        let mut command = agent.command(scs);
        command.arg(device).stderr(Stdio::piped());
        lab.spawn("host1", command).unwrap().wait_with_output().unwrap()
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub fn terminate(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        signal(child.id(), libc::SIGTERM);
        wait_for(|| child.try_wait().unwrap())
    }

    /// Waits until the run state on file is as wanted.
    pub fn state_is_saved(&self, wanted: impl Fn(&str) -> bool) {
        let path = self.directory.path().join("run/lca-state.json");
        wait_for(|| std::fs::read_to_string(&path).ok().filter(|state| wanted(state)));
    }

    /// Where an application listens for run modes.
    pub fn mode_socket(&self, app: &str) -> PathBuf {
        self.directory.path().join(format!("run/{app}.mode/socket"))
    }

    fn command(&self, scs: &Scs) -> Command {
        // This program itself: so it is always the agent that the tests were built with.
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([AGENT, self.host]).arg(self.directory.path()).arg(scs.address.to_string());
        command
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the agent of {} said:\n{}", self.host, self.said());
        }
        if self.child.is_some() {
            self.kill();
        }
    }
}

/// The interface that carries the VIPs.
pub fn eth0() -> InterfaceName {
    "eth0".parse().unwrap()
}

/// A signal to a process that the test or its agent started.
pub fn signal(pid: u32, signal: i32) {
    // SAFETY: a system call without pointers.
    assert_eq!(unsafe { libc::kill(i32::try_from(pid).unwrap(), signal) }, 0, "process {pid} is there");
}

/// SIGKILL.
pub fn kill(pid: u32) {
    signal(pid, libc::SIGKILL);
}

/// First argument that makes this program an agent: `HOST DIRECTORY SCS` follow.
pub const AGENT: &str = "run-agent";

/// The agent, with its certificate in `DIRECTORY/tls`.
pub fn run_agent(mut arguments: impl Iterator<Item = String>) -> ExitCode {
    let mut next = || arguments.next().expect("the test gives all arguments");
    let (host, directory, address) = (next(), PathBuf::from(next()), next());
    let options = lca::Options {
        certificate: directory.join(format!("tls/{host}.pem")),
        key: directory.join(format!("tls/{host}.key")),
        ca: directory.join("tls/ca.pem"),
        state_directory: directory.join("state"),
        run_directory: directory.join("run"),
        real_time: true,
        cgroup: true,
        scs: vec![address.parse().unwrap()],
        host: host.parse().unwrap(),
        watchdog: arguments.next().map(PathBuf::from),
    };
    match lca::run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e:#}");
            ExitCode::FAILURE
        }
    }
}

/// Looks again and again until there is something, with a bound.
pub fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "what was waited for did not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn is_dead(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .map_or(true, |stat| stat.rsplit_once(')').unwrap().1.trim_start().starts_with('Z'))
}

pub fn application(command: &[&str]) -> Application {
    let seconds = Duration::from_secs;
    Application {
        host: HostName::new("host1").unwrap(),
        command: command.iter().map(ToString::to_string).collect(),
        directory: None,
        environment: BTreeMap::new(),
        user: None,
        mode_control: ModeControl::Socket,
        autostart: true,
        restart: RestartPolicy { auto: true, delay: Duration::from_millis(50), attempts: 10 },
        notify: false,
        start_limit: seconds(20),
        stop_limit: seconds(20),
        suspend_limit: seconds(5),
        watchdog: None,
        on_hang: OnHang::Restart,
        probe: None,
    }
}

pub fn sh(text: &str) -> Application {
    application(&["/bin/sh", "-c", text])
}

pub fn script(text: &str) -> Script {
    Script {
        command: ["/bin/sh", "-c", text].map(str::to_owned).to_vec(),
        time_limit: Duration::from_secs(10),
    }
}

pub fn host_at(address: &str) -> Host {
    Host { address: address.parse().unwrap(), peer_address: None }
}

/// A cluster of two hosts in which the applications are on the first; each is in a pair with one on the second.
pub fn cluster<const N: usize>(apps: [(&str, Application); N]) -> Cluster {
    let mut cluster = Cluster { name: "test".to_owned(), ..Cluster::default() };
    for (host, address) in [("host1", "192.0.2.11"), ("host2", "192.0.2.13")] {
        cluster.hosts.insert(host.parse().unwrap(), host_at(address));
    }
    for (name, application) in apps {
        let elsewhere = Application { host: "host2".parse().unwrap(), ..application.clone() };
        let member = AppName::new(name).unwrap();
        let other = AppName::new(&format!("{name}-2")).unwrap();
        let pair = domain::Pair {
            members: [member.clone(), other],
            redundancy: domain::Redundancy::Warm,
            profile: domain::Profile::Normal,
            gate: domain::GatePolicy::default(),
            failback: domain::Failback::Never,
            flap_guard: domain::FlapGuard::default(),
            vips: Vec::new(),
            sip: None,
        };
        cluster.applications.insert(pair.members[1].clone(), elsewhere);
        cluster.applications.insert(member, application);
        cluster.pairs.insert(format!("pair-{name}").parse().unwrap(), pair);
    }
    cluster
}
