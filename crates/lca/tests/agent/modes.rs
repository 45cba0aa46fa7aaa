//! Run modes by socket, command and signal; graceful stop; who may notify; probes; the agent's own stall.

use crate::scs::{self, Agent, Scs, cluster, sh};
use crate::{READY, is_log};
use control_link::messages::{Fact, FromApplication, ToApplication};
use control_link::mode_socket::{Connection, Listener};
use domain::{
    AnswerOutcome, AppStatus, Cause, Epoch, ModeControl, Order, Probe, ProbeKind, RunMode, Signal, events,
};
use netlab::Lab;
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

/// This test as the application, on its mode socket.
pub struct Application {
    _listener: Listener,
    connection: Connection,
}

impl Application {
    pub fn accept(agent: &Agent, app: &str) -> Self {
        let listener = Listener::bind(&agent.mode_socket(app)).unwrap();
        let connection = scs::wait_for(|| listener.accept().unwrap());
        Self { _listener: listener, connection }
    }

    pub fn tell(&self, message: &FromApplication) {
        self.connection.send(message).unwrap();
    }

    /// The next instruction. The agent's lifeline is not held: this is not the process that the agent watches.
    pub fn hear(&self) -> ToApplication {
        let instruction = |message: &ToApplication| *message != ToApplication::Lifeline;
        scs::wait_for(|| self.connection.receive().unwrap().filter(instruction))
    }

    /// Takes the next instruction and confirms it.
    fn obey(&self) {
        match self.hear() {
            ToApplication::SetRunMode { ref_id, mode, epoch } => {
                self.tell(&FromApplication::RunMode { ref_id: Some(ref_id), mode, epoch });
            }
            ToApplication::Suspend | ToApplication::Lifeline | ToApplication::Reconfigure => {
                panic!("a run mode was to come")
            }
        }
    }
}

pub fn run_modes_by_socket_are_confirmed_by_the_application(lab: &mut Lab) {
    let mut scs = Scs::start(lab);
    let agent = Agent::start(lab, &scs);
    scs.welcome(cluster([("app1", sh("exec sleep 1000"))]));
    scs.app_is("app1", AppStatus::Started);
    let app = Application::accept(&agent, "app1");
    app.tell(&FromApplication::RunMode { ref_id: None, mode: RunMode::Backup, epoch: Epoch(0) });
    assert_eq!(scs.app(|app| app.mode.is_some()).mode, Some(RunMode::Backup));

    let first = scs.order("app1", Order::SetRunMode { mode: RunMode::Primary, epoch: Epoch(5) });
    app.obey();
    let report = scs.app(|app| app.mode == Some(RunMode::Primary));
    assert_eq!(report.epoch, Epoch(5));
    assert_eq!(scs.answer(first), AnswerOutcome::Done, "the answer comes behind the report");

    // A log event of the application passes through; whose it is, is not for it to say.
    let event =
        domain::LogEvent::new(events::FLAPPING, domain::Micros(0)).of(&"someone-else".parse().unwrap());
    app.tell(&FromApplication::Log { event });
    let Fact::Log(event) = scs.fact(|fact| is_log(fact, events::FLAPPING)) else { unreachable!() };
    assert_eq!(event.app.unwrap().as_str(), "app1");
}

pub fn the_mode_socket_is_connected_again_by_the_next_agent(lab: &mut Lab) {
    let mut scs = Scs::start(lab);
    let mut agent = Agent::start(lab, &scs);
    let part = cluster([("app1", sh("exec sleep 1000"))]);
    scs.welcome(part.clone());
    scs.app_is("app1", AppStatus::Started);
    drop(Application::accept(&agent, "app1"));
    agent.state_is_saved(|state| state.contains("\"status\":\"started\""));
    agent.kill();
    agent.start_again(lab, &scs);
    scs.welcome(part);
    // It became primary while no agent was there to be told; the application itself is believed.
    let app = Application::accept(&agent, "app1");
    app.tell(&FromApplication::RunMode { ref_id: None, mode: RunMode::Primary, epoch: Epoch(8) });
    scs.app(|app| app.mode == Some(RunMode::Primary) && app.epoch == Epoch(8));
    assert_eq!(scs.set_mode("app1", RunMode::Backup, 7), AnswerOutcome::Stale { seen: Epoch(8) });
}

pub fn a_graceful_stop_waits_for_the_application(lab: &mut Lab) {
    let mut scs = Scs::start(lab);
    let agent = Agent::start(lab, &scs);
    scs.welcome(cluster([("app1", sh("exec sleep 1000"))]));
    scs.app_is("app1", AppStatus::Started);
    let app = Application::accept(&agent, "app1");
    app.tell(&FromApplication::RunMode { ref_id: None, mode: RunMode::Primary, epoch: Epoch(1) });
    scs.app(|app| app.mode.is_some());
    scs.instruct("app1", Order::Stop { graceful: true });
    assert_eq!(app.hear(), ToApplication::Suspend);
    app.tell(&FromApplication::Suspending);
    scs.app_is("app1", AppStatus::Suspending);
    app.tell(&FromApplication::Suspended);
    for status in [AppStatus::Suspended, AppStatus::StopPending, AppStatus::Stopped] {
        scs.app_is("app1", status);
    }
}

pub fn run_modes_by_command_and_by_signal(lab: &mut Lab) {
    let mut scs = Scs::start(lab);
    let agent = Agent::start(lab, &scs);
    let note = agent.directory().join("note");
    let read = || std::fs::read_to_string(&note).unwrap_or_default();

    let mut app = sh("exec sleep 1000");
    let text =
        format!("echo $TAKEOVER_APPLICATION $TAKEOVER_PAIR $@ > {}; test $1 = primary", note.display());
    app.mode_control = ModeControl::Command {
        command: ["/bin/sh", "-c", &text, "sh"].map(str::to_owned).to_vec(),
        time_limit: Duration::from_secs(5),
    };
    scs.welcome(cluster([("app1", app)]));
    assert_eq!(scs.app_is("app1", AppStatus::Started).mode, Some(RunMode::Backup));
    assert_eq!(scs.set_mode("app1", RunMode::Primary, 3), AnswerOutcome::Done);
    assert_eq!(read(), "app1 pair-app1 primary 3\n");
    let refused = scs.set_mode("app1", RunMode::Backup, 4);
    assert!(matches!(refused, AnswerOutcome::Refused { why } if why.contains("exit code 1")));

    let text = format!(
        "trap 'echo usr1 > {0}' USR1; echo ready > {0}; while :; do sleep 0.01; done",
        note.display()
    );
    let mut app = sh(&text);
    app.mode_control = ModeControl::Signal { primary: Signal::Usr1, backup: Signal::Usr2 };
    scs.assign(cluster([("app2", app)]));
    scs.app_is("app2", AppStatus::Started);
    scs::wait_for(|| (read() == "ready\n").then_some(()));
    assert_eq!(scs.set_mode("app2", RunMode::Primary, 1), AnswerOutcome::Done);
    scs::wait_for(|| (read() == "usr1\n").then_some(()));
}

pub fn only_the_application_itself_may_notify(lab: &mut Lab) {
    let mut scs = Scs::start(lab);
    let agent = Agent::start(lab, &scs);
    let go = agent.directory().join("go");
    let mut app =
        sh(&format!("until test -e {}; do sleep 0.01; done; {READY}; exec sleep 1000", go.display()));
    app.notify = true;
    scs.welcome(cluster([("app1", app)]));
    scs.app_is("app1", AppStatus::Initializing);
    let socket = agent.directory().join("run/app1.notify");
    let stranger = UnixDatagram::unbound().unwrap();
    stranger.send_to(b"READY=1\nSTATUS=not me", &socket).unwrap();
    std::fs::write(go, "").unwrap();
    let started = scs.app_is("app1", AppStatus::Started);
    assert_eq!(started.text, "", "the stranger's datagram came first and was not heard");
}

pub fn a_probe_that_fails_makes_the_service_unavailable(lab: &mut Lab) {
    let mut scs = Scs::start(lab);
    let _agent = Agent::start(lab, &scs);
    let listen = || TcpListener::bind("127.0.0.1:5060").unwrap();
    let listener = lab.in_host("host1", listen).unwrap();
    let mut app = sh("exec sleep 1000");
    app.on_hang = domain::OnHang::Report;
    app.probe = Some(Probe {
        kind: ProbeKind::Tcp { target: "127.0.0.1:5060".parse().unwrap() },
        every: Duration::from_millis(50),
        timeout: Duration::from_millis(500),
        failures: 2,
    });
    scs.welcome(cluster([("app1", app)]));
    scs.app_is("app1", AppStatus::Started);
    drop(listener);
    let unavailable = scs.app_is("app1", AppStatus::ServiceUnavailable);
    assert!(matches!(unavailable.cause, Some(Cause::ProbeFailed(_))), "{unavailable:?}");
    let _listener = lab.in_host("host1", listen).unwrap();
    scs.app_is("app1", AppStatus::Started);
}

pub fn the_agents_own_stall_is_not_the_applications_silence(lab: &mut Lab) {
    let mut scs = Scs::start(lab);
    let agent = Agent::start(lab, &scs);
    let alive = READY.replace("READY=1", "READY=1\\nWATCHDOG=1");
    let mut app = sh(&format!("while :; do {alive}; sleep 0.2; done"));
    app.notify = true;
    app.watchdog = Some(Duration::from_millis(900));
    scs.welcome(cluster([("app1", app)]));
    scs.app_is("app1", AppStatus::Started);
    // Both stand still, for longer than the watchdog allows; then both go on.
    scs::signal(agent.pid(), libc::SIGSTOP);
    let stopped = std::time::Instant::now();
    scs::wait_for(|| (stopped.elapsed() > Duration::from_millis(1_500)).then_some(()));
    scs::signal(agent.pid(), libc::SIGCONT);
    let Fact::Log(event) = scs.fact(|fact| is_log(fact, events::AGENT_STALLED)) else { unreachable!() };
    let stall_us: u64 = event.attributes["stall_us"].parse().unwrap();
    assert!((1_000_000..10_000_000).contains(&stall_us), "{stall_us}");
    // Answered in order: a hang would have been reported before.
    scs.instruct("app1", Order::Start);
    assert!(!scs.seen.iter().any(|fact| is_log(fact, events::APP_NOT_ABLE)));
}

pub fn instructions_for_what_is_not_there_are_refused(lab: &mut Lab) {
    let mut scs = Scs::start(lab);
    let _agent = Agent::start(lab, &scs);
    let mut app = sh("exec sleep 1000");
    app.autostart = false;
    scs.welcome(cluster([("app1", app)]));
    assert!(matches!(scs.set_mode("app1", RunMode::Primary, 1), AnswerOutcome::Refused { .. }));
    assert!(matches!(scs.instruct("none", Order::Start), AnswerOutcome::Refused { .. }));
    assert_eq!(scs.instruct("app1", Order::Start), AnswerOutcome::Done);
    scs.app_is("app1", AppStatus::Started);
}
