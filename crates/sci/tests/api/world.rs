//! A cluster to talk to: the decision core on a thread of its own, agents that do at once whatever they are told, a
//! store, and the API in front of them.

use access::Secret;
use control_link::Identity;
use control_link::web::Tls;
use domain::{
    Answer, AnswerOutcome, AppName, AppReport, AppStatus, Cluster, Epoch, HostName, Instruction,
    InterfaceReport, Launch, LaunchOutcome, LaunchResult, LaunchWhat, MacAddress, Micros, OidcSettings,
    Order, PairName, RunMode, SeenHolder, VipReport, VipSighting, VipVerb,
};
use ha_core::{Action, Durable, Input, Lost, OrderId, OrderOutcome, Record, State};
use sci::client::{Client, Target};
use sci::server::{Listeners, Server, bind_unix, serve};
use scs::configuration::Configuration;
use scs::handle::{Handle, LiveEvent, Request};
use scs::store::{Retention, Store, StoreItem};
use std::collections::{BTreeMap, VecDeque};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::oneshot;

/// Longest that a test waits for anything.
pub const LIMIT: Duration = Duration::from_secs(30);

const CLUSTER: &str = concat!(
    include_str!("../../../../packaging/examples/minimal.toml"),
    "\n[solutions.office]\napplications = [\"sip1\", \"sip2\"]\n"
);

/// A cluster that runs until it is dropped.
pub struct World {
    pub client: Client,
    pub handle: Handle,
    pub socket: PathBuf,
    pub directory: tempfile::TempDir,
    /// The code that makes the first administrator at the web port.
    pub first_link: Option<String>,
    messages: mpsc::Sender<Message>,
    core: Option<JoinHandle<()>>,
    // Dropped before the directory; the core ends behind it.
    server: Option<Server>,
}

/// TLS ports: for operators with certificates, and for browsers.
pub type Ports = (Option<(TcpListener, Identity)>, Option<(TcpListener, Tls)>);

enum Message {
    Look,
    Happened(Input),
    Hold(Held),
    End,
}

/// How the core is held: it says when a request has come, and answers it only when this is let go.
struct Held {
    request_came: mpsc::Sender<()>,
    let_go: mpsc::Receiver<()>,
}

/// A core that answers no request for as long as this is kept.
pub struct Hold {
    request_came: mpsc::Receiver<()>,
    _let_go: mpsc::Sender<()>,
}

impl Hold {
    /// Waits until a request has come to the core.
    pub fn until_a_request_came(&self) {
        self.request_came.recv_timeout(LIMIT).expect("a request comes");
    }
}

impl World {
    pub fn new() -> Self {
        Self::with_tls(|_| None)
    }

    /// A world with a TLS port, where `tls` gives one for the directory of the world.
    pub fn with_tls(tls: impl FnOnce(&std::path::Path) -> Option<(TcpListener, Identity)>) -> Self {
        Self::with(|directory| (tls(directory), None))
    }

    /// A world with the ports that `ports` gives for the directory of the world.
    pub fn with(ports: impl FnOnce(&std::path::Path) -> Ports) -> Self {
        Self::build(ports, None, None)
    }

    /// A world that sends traces to this collector.
    pub fn traced(collector: SocketAddr) -> Self {
        Self::build(|_| (None, None), Some(collector), None)
    }

    /// A world whose web port has logins by an identity provider.
    pub fn with_provider(ports: impl FnOnce(&std::path::Path) -> Ports, oidc: OidcSettings) -> Self {
        Self::build(ports, None, Some(oidc))
    }

    fn build(
        ports: impl FnOnce(&std::path::Path) -> Ports,
        collector: Option<SocketAddr>,
        oidc: Option<OidcSettings>,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let retention = Retention { keep: Duration::from_secs(86_400), keep_bytes: 1 << 30 };
        let store = Store::open(&directory.path().join("takeover.db"), retention, |_| {}).unwrap();
        let (requests, asked) = mpsc::channel();
        let (messages, received) = mpsc::channel();
        let wake = messages.clone();
        let file = directory.path().join("cluster.toml");
        std::fs::write(&file, CLUSTER).unwrap();
        let (cluster, _) = config::parse_cluster("minimal.toml", CLUSTER).unwrap_or_else(|r| panic!("{r}"));
        let configuration =
            Configuration::start(file, CLUSTER.to_owned(), cluster, &store, wall_clock()).unwrap();
        let wake = Arc::new(move || wake.send(Message::Look).unwrap_or_default());
        let handle = Handle::new(requests, wake, store, configuration);
        let core = Core::new(handle.clone());
        let core = std::thread::spawn(move || core.run(&asked, &received));
        let socket = directory.path().join("run/scs.sock");
        let (tls, web) = ports(directory.path());
        let listeners = Listeners {
            unix: bind_unix(&socket).unwrap(),
            tls,
            web,
            web_address: Some("https://scs:7443".to_owned()),
            oidc,
        };
        let server = Some(serve(handle.clone(), listeners, collector, "0.1.0").unwrap());
        let client = Client::new(Target::Unix(socket.clone()));
        let first_link = server.as_ref().and_then(Server::first_link).map(Secret::reveal);
        let world =
            Self { client, handle, socket, directory, first_link, messages, core: Some(core), server };
        for host in ["host1", "host2"] {
            world.connect(host);
        }
        world.until("sip has a primary and its VIP", |view| {
            let pair = &view.pairs[0];
            pair.primary.is_some()
                && pair.incident.is_none()
                && view.hosts.iter().all(|h| h.release == "0.1.0")
        });
        world
    }

    /// An agent connects and tells what runs on its host.
    pub fn connect(&self, host: &str) {
        let host = HostName::new(host).unwrap();
        self.happened(Input::AgentConnected {
            host: host.clone(),
            release: "0.1.0".to_owned(),
            finds_holders: true,
        });
        self.happened(Input::InventoryReported {
            apps: vec![],
            vips: vec![],
            interfaces: vec![InterfaceReport { interface: "eth0".parse().unwrap(), up: true, mac: None }],
            host,
        });
    }

    /// A host goes silent.
    pub fn cut(&self, host: &str) {
        let host = HostName::new(host).unwrap();
        self.happened(Input::AgentLost { host, how: Lost::Silent, answers: false });
    }

    /// Lets the core answer no request until the result is dropped.
    pub fn hold(&self) -> Hold {
        let (came, request_came) = mpsc::channel();
        let (_let_go, let_go) = mpsc::channel();
        self.messages.send(Message::Hold(Held { request_came: came, let_go })).unwrap();
        Hold { request_came, _let_go }
    }

    fn happened(&self, input: Input) {
        self.messages.send(Message::Happened(input)).unwrap();
    }

    /// Waits until the published view is as `holds` wants it.
    pub fn until(&self, what: &str, holds: impl Fn(&ha_core::View) -> bool) {
        let mut events = self.handle.events();
        let deadline = Instant::now() + LIMIT;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        while !holds(&self.handle.view()) {
            let left = deadline.saturating_duration_since(Instant::now());
            let news = runtime.block_on(async { tokio::time::timeout(left, events.recv()).await });
            assert!(news.is_ok(), "not so in time: {what}\n{:#?}", self.handle.view());
        }
    }

    /// Runs `test` where futures run.
    pub fn run<T>(&self, test: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { tokio::time::timeout(LIMIT, test).await.expect("the test ends in time") })
    }

    /// Audit records, once all of them are written.
    pub fn audit(&self) -> Vec<scs::store::AuditRecord> {
        assert!(self.handle.store().flush(LIMIT));
        self.handle.store().audit(None).unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(self.server.take());
        self.messages.send(Message::End).unwrap_or_default();
        if let Some(core) = self.core.take() {
            let ended = core.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the core panicked");
        }
    }
}

/// The core with its agents.
struct Core {
    state: State,
    handle: Handle,
    apps: BTreeMap<AppName, AppReport>,
    pending: BTreeMap<OrderId, oneshot::Sender<OrderOutcome>>,
    last_order: u64,
    last_time: Micros,
}

impl Core {
    fn new(handle: Handle) -> Self {
        let now = wall_clock();
        let cluster: Cluster =
            config::parse_cluster("minimal.toml", CLUSTER).unwrap_or_else(|r| panic!("{r}")).0;
        let report = |app: &AppName| AppReport {
            app: app.clone(),
            status: AppStatus::Started,
            mode: Some(RunMode::Backup),
            epoch: Epoch(0),
            synced: true,
            pid: Some(4711),
            cause: None,
            text: "serving".to_owned(),
            restarts: 0,
            released: Vec::new(),
        };
        let apps = cluster.applications.keys().map(|app| (app.clone(), report(app))).collect();
        let state = State::new(cluster, Durable::default(), now);
        handle.publish_view(state.view(now));
        Self { state, handle, apps, pending: BTreeMap::new(), last_order: 0, last_time: now }
    }

    fn run(mut self, asked: &mpsc::Receiver<Request>, received: &mpsc::Receiver<Message>) {
        loop {
            let now = self.now();
            let wait = self.state.next_deadline().map_or(LIMIT, |at| at.since(now));
            match received.recv_timeout(wait) {
                Ok(Message::Happened(input)) => self.take(input),
                Ok(Message::Look) => {}
                Ok(Message::Hold(held)) => {
                    // The next message is the wake of the request that is to be held.
                    let _wake = received.recv_timeout(LIMIT);
                    let _waiter_may_be_gone = held.request_came.send(());
                    let _let_go = held.let_go.recv_timeout(LIMIT);
                }
                Err(mpsc::RecvTimeoutError::Timeout) => self.take(Input::TimePassed),
                Ok(Message::End) | Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
            while let Ok(request) = asked.try_recv() {
                self.answer(request);
            }
        }
    }

    fn answer(&mut self, request: Request) {
        match request {
            Request::Order { order, by, outcome } => {
                self.last_order += 1;
                let id = OrderId(self.last_order);
                self.pending.insert(id, outcome);
                self.take(Input::Ordered { id, order, by });
            }
            Request::PlanSwitchover { pair, to, plan } => {
                let now = self.now();
                let answer: Result<_, String> = self.state.plan_switchover(&pair, to.as_ref(), now);
                let _asker_may_be_gone = plan.send(answer);
            }
            Request::CopyPair { pair, copy } => {
                let now = self.now();
                let part = self.state.part_for(&pair).map(|part| (Box::new(part), now));
                let _asker_may_be_gone = copy.send(part);
            }
            Request::Apply { cluster, what, done } => {
                self.take(Input::ClusterApplied { cluster, what });
                let _asker_may_be_gone = done.send(());
            }
            // As a SIP Server with three calls does, of which it shows two at a time.
            Request::Fetch { app, path, page } => {
                let line = |n: u8| {
                    format!(
                        r#"{{"call":"2-{n}","call_id":"id {n}/x","caller":"alice","called":"20{n}","answered_by":null,
                            "stage":"ringing","age_ms":1500,"later":1}}"#
                    )
                };
                let answer = match path.as_str() {
                    "/calls?most=300" | "/calls?most=2" => {
                        Ok(format!(r#"{{"calls":[{},{}],"next":"2-2"}}"#, line(1), line(2)))
                    }
                    "/calls?most=300&after=2-2" | "/calls?most=298&after=2-2" => {
                        Ok(format!(r#"{{"calls":[{}]}}"#, line(3)))
                    }
                    "/calls/id%203%2Fx" => Ok(line(3)),
                    "/calls/2-3/trace" => Ok(format!("ladder of {app}\n  INVITE ->\u{7}\n")),
                    "/calls/old" => Ok("{}".to_owned()),
                    _ => Err("there is no such call".to_owned()),
                };
                let _asker_may_be_gone = page.send(answer);
            }
        }
    }

    /// Takes an input with everything that follows from what the agents answer.
    fn take(&mut self, input: Input) {
        let mut inputs = VecDeque::from([self.complete(input)]);
        let mut taken = 0;
        while let Some(input) = inputs.pop_front() {
            taken += 1;
            assert!(taken < 1_000, "core and agents talk without end");
            let now = self.now();
            for action in ha_core::run(&mut self.state, input, now) {
                self.carry_out(action, now, &mut inputs);
            }
        }
        let now = self.now();
        self.handle.publish_view(self.state.view(now));
    }

    /// Fills in what an agent has to say of its applications and VIPs.
    fn complete(&self, input: Input) -> Input {
        let Input::InventoryReported { host, interfaces, .. } = input else { return input };
        let cluster = self.state.cluster();
        let here = |app: &&AppReport| cluster.host_of(&app.app) == Some(&host);
        let apps: Vec<_> = self.apps.values().filter(here).cloned().collect();
        let vips = cluster.pairs.values().flat_map(|pair| &pair.vips);
        let vip = |vip: &domain::Vip| VipReport {
            vip: vip.address,
            interface: vip.interfaces[&host].clone(),
            present: false,
            why: String::new(),
        };
        Input::InventoryReported { apps, vips: vips.map(vip).collect(), interfaces, host }
    }

    fn carry_out(&mut self, action: Action, at: Micros, inputs: &mut VecDeque<Input>) {
        match action {
            Action::Instruct(host, instruction) => self.instructed(host, &instruction, at, inputs),
            Action::Launch(host, launch) => launched(host, launch, at, inputs),
            Action::Log(event) => {
                self.handle.store().write(StoreItem::Log(event.clone()));
                self.handle.publish(LiveEvent::Log(event));
            }
            Action::Record(record) => {
                if let Record::Incident(incident) = &record {
                    self.handle.publish(LiveEvent::Incident(Box::new(incident.clone())));
                }
                self.handle.store().write(StoreItem::Record(record));
            }
            Action::Answer(id, outcome) => {
                let asker = self.pending.remove(&id).expect("each order is answered once");
                let _asker_may_be_gone = asker.send(outcome);
            }
            Action::Assign(_) | Action::FindHolder(_) | Action::Remember => {}
        }
    }

    fn instructed(
        &mut self,
        host: HostName,
        instruction: &Instruction,
        at: Micros,
        inputs: &mut VecDeque<Input>,
    ) {
        let app = self.apps.get_mut(&instruction.app).expect("an application of the cluster");
        match instruction.order {
            Order::SetRunMode { mode, epoch } => {
                app.mode = Some(mode);
                app.epoch = epoch;
            }
            Order::Start => {
                app.status = AppStatus::Started;
                app.mode = Some(RunMode::Backup);
            }
            Order::Stop { .. } => {
                app.status = AppStatus::Stopped;
                app.mode = None;
            }
        }
        let answer = Answer { ref_id: instruction.ref_id, outcome: AnswerOutcome::Done };
        inputs.push_back(Input::AppReported { host: host.clone(), at, report: app.clone() });
        inputs.push_back(Input::Answered { host, at, answer });
    }

    /// Never goes back, which the core relies on.
    fn now(&mut self) -> Micros {
        self.last_time = self.last_time.max(wall_clock());
        self.last_time
    }
}

fn launched(host: HostName, launch: Launch, at: Micros, inputs: &mut VecDeque<Input>) {
    match launch.what {
        LaunchWhat::VipControl { verb, vip, interface, .. } => {
            let present = verb == VipVerb::Enable;
            let report = VipReport { vip, interface, present, why: "built-in control".to_owned() };
            inputs.push_back(Input::VipReported { host: host.clone(), at, report });
        }
        LaunchWhat::FindHolder { vip, interface } => {
            let holders = vec![SeenHolder { mac: MacAddress([2, 0, 0, 0, 0, 1]), at }];
            let sighting = VipSighting { vip, interface, asked: at, holders };
            inputs.push_back(Input::VipSighted { host: host.clone(), at, sighting });
        }
        LaunchWhat::Announce { .. } | LaunchWhat::Script { .. } => {}
    }
    let result = LaunchResult {
        ref_id: launch.ref_id,
        outcome: LaunchOutcome::Succeeded,
        output: String::new(),
        took_us: 100,
    };
    inputs.push_back(Input::LaunchEnded { host, at, result });
}

pub fn wall_clock() -> Micros {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Micros(u64::try_from(since_epoch.as_micros()).unwrap())
}

pub fn app(name: &str) -> AppName {
    AppName::new(name).unwrap()
}

pub fn pair(name: &str) -> PairName {
    PairName::new(name).unwrap()
}
