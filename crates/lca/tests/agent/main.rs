//! The agent as a process of its own on a host of the laboratory, real children, and this test in the SCS's place, over the
//! real link.

// clippy knows test functions, and not cases of another harness.
#![allow(clippy::unwrap_used)]

mod alone;
mod modes;
mod observer;
mod peers;
mod scs;
mod sip_servers;
mod vips;
mod voice;

use control_link::messages::Fact;
use domain::{
    AnswerOutcome, AppStatus, Cause, Epoch, EventId, LaunchOutcome, ModeControl, OnHang, Order, RunMode,
    events,
};
use netlab::{Lab, harness};
use scs::{Agent, Scs, application, cluster, script, sh};
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(scs::AGENT) {
        return scs::run_agent(arguments);
    }
    harness::run(&netlab::cases![
        starts_reports_readiness_death_and_restarts,
        a_stop_by_order_is_no_failure_and_outlives_the_agent,
        a_stop_that_is_ignored_is_followed_by_a_kill_of_the_whole_group,
        silence_of_one_that_promised_heartbeats_is_a_hang,
        a_killed_agent_is_replaced_by_one_that_takes_over_what_runs,
        what_ended_while_no_agent_was_there_is_noticed,
        sigterm_ends_the_agent_alone,
        reports_that_were_not_acknowledged_come_again,
        scripts_have_their_facts_their_limits_and_run_once,
        heartbeats_flow_and_silence_ends_the_connection,
        what_is_configured_anew_starts_and_what_is_not_any_more_stops,
        an_application_that_cannot_be_started_says_why,
        two_agents_do_not_share_a_run_directory,
        a_watchdog_that_is_none_ends_the_start,
        the_agent_is_small,
        a_host_boots_without_an_scs,
        alone::a_role_that_was_taken_counts_when_its_lease_is_won,
        alone::vips_that_the_scs_did_not_get_to_are_enabled_without_it,
        alone::an_agent_that_comes_back_late_enables_what_ran_out,
        alone::without_a_gate_the_script_disables_a_vip_when_its_lease_ends,
        modes::run_modes_by_socket_are_confirmed_by_the_application,
        modes::the_mode_socket_is_connected_again_by_the_next_agent,
        modes::a_graceful_stop_waits_for_the_application,
        modes::run_modes_by_command_and_by_signal,
        modes::only_the_application_itself_may_notify,
        modes::a_probe_that_fails_makes_the_service_unavailable,
        modes::the_agents_own_stall_is_not_the_applications_silence,
        modes::instructions_for_what_is_not_there_are_refused,
        sip_servers::settings_reach_a_sip_server_and_nobody_else,
        sip_servers::copies_and_pages_of_a_sip_server_are_passed_on,
        observer::the_holder_is_found_by_order,
        observer::a_backup_asks_unasked,
        peers::two_agents_notice_silence_and_its_end,
        peers::an_agent_that_hears_nothing_is_silent_once,
        peers::agents_meet_without_an_scs_and_after_restarts,
        peers::an_scs_of_the_older_protocol_gets_heartbeats_alone,
        peers::votes_pass_and_a_replay_is_not_life,
        peers::strangers_are_refused_by_an_agent,
        peers::who_does_not_behave_is_hung_up_on,
        peers::another_agent_is_not_taken_for_the_one_that_is_dialed,
        vips::the_built_in_control_enables_and_disables,
        vips::a_backup_gets_no_vip,
        vips::a_death_releases_the_vips_before_it_is_reported,
        vips::a_vip_that_another_tool_removes_is_put_back,
        vips::an_address_goes_when_its_agent_stops_and_comes_back_with_the_lease,
        vips::a_fight_over_a_vip_is_not_fought_for_ever,
        vips::carrier_and_the_return_of_the_interface_are_told,
        vips::a_leftover_vip_is_removed_at_the_start,
        vips::the_next_agent_keeps_the_vips_of_a_primary,
        vips::the_gate_is_removed_when_neither_agent_nor_vip_is_there,
        vips::a_script_of_the_users_controls_vips,
    ])
}

fn is_log(fact: &Fact, id: EventId) -> bool {
    matches!(fact, Fact::Log(event) if event.id == id)
}

/// Tells the agent from a shell that the application is ready (sd_notify(3)); a program nobody wrote for this.
const READY: &str = "python3 -c 'import os,socket; \
    socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM).sendto(b\"READY=1\",os.environ[\"NOTIFY_SOCKET\"])'";

fn starts_reports_readiness_death_and_restarts(lab: &mut Lab) {
    let mut scs = Scs::start(lab);
    let mut app = sh(&format!("{READY}; exec sleep 1000"));
    app.notify = true;
    let _agent = Agent::start(lab, &scs);
    scs.welcome(cluster([("app1", app)]));
    let started = scs.app_is("app1", AppStatus::Started);
    let pid = started.pid.expect("a started application has a process");

    scs::kill(pid);
    let stopped = scs.app_is("app1", AppStatus::Stopped);
    assert_eq!(stopped.cause, Some(Cause::Killed(9)));
    assert_eq!(stopped.mode, None);
    scs.fact(|fact| is_log(fact, events::APP_TERMINATED));
    let again = scs.app_is("app1", AppStatus::Started);
    assert_eq!(again.restarts, 1);
    assert_ne!(again.pid, Some(pid));
}

fn a_stop_by_order_is_no_failure_and_outlives_the_agent(lab: &mut Lab) {
    let mut scs = Scs::start(lab);
    let mut agent = Agent::start(lab, &scs);
    scs.welcome(cluster([("app1", sh("exec sleep 1000"))]));
    scs.app_is("app1", AppStatus::Started);
    let done = scs.instruct("app1", Order::Stop { graceful: false });
    assert_eq!(done, AnswerOutcome::Done);
    let stopped = scs.app_is("app1", AppStatus::Stopped);
    assert_eq!(stopped.cause, Some(Cause::Ordered));
    scs.fact(|fact| is_log(fact, events::APP_STOP_DETECTED));
    // The order is answered before it is on disk: an agent that dies in between is told again by the SCS, which this
    // one does not do.
    let kept = agent.directory().join("state/stopped.json");
    scs::wait_for(|| std::fs::read_to_string(&kept).ok()?.contains("app1").then_some(()));

    agent.kill();
    agent.start_again(lab, &scs);
    let inventory = scs.welcome(cluster([("app1", sh("exec sleep 1000"))]));
    assert!(inventory.iter().all(|app| app.status == AppStatus::Stopped), "{inventory:?}");
    // Had it been started, this would come before the answer.
    assert_eq!(scs.instruct("app1", Order::Stop { graceful: false }), AnswerOutcome::Done);
    assert!(!scs.seen.iter().any(|fact| is_log(fact, events::APP_STARTED)));
}

fn a_stop_that_is_ignored_is_followed_by_a_kill_of_the_whole_group(lab: &mut Lab) {
    let mut scs = Scs::start(lab);
    let mut app = sh("trap '' TERM; sleep 1001 & echo $! > $CHILD; while :; do wait; done");
    app.stop_limit = Duration::from_millis(300);
    let agent = Agent::start(lab, &scs);
    let child = agent.directory().join("child");
    app.environment.insert("CHILD".to_owned(), child.display().to_string());
    scs.welcome(cluster([("app1", app)]));
    scs.app_is("app1", AppStatus::Started);
    let child: u32 = scs::wait_for(|| std::fs::read_to_string(&child).ok()?.trim().parse().ok());
    scs.instruct("app1", Order::Stop { graceful: false });
    scs.fact(|fact| is_log(fact, events::STOP_LIMIT_OVERRUN));
    assert_eq!(scs.app_is("app1", AppStatus::Stopped).cause, Some(Cause::StopLimit));
    scs::wait_for(|| scs::is_dead(child).then_some(()));
}

fn silence_of_one_that_promised_heartbeats_is_a_hang(lab: &mut Lab) {
    let mut scs = Scs::start(lab);
    let alive = READY.replace("READY=1", "READY=1\\nWATCHDOG=1");
    let mut app = sh(&format!("{alive}; exec sleep 1000"));
    app.notify = true;
    app.watchdog = Some(Duration::from_millis(300));
    let _agent = Agent::start(lab, &scs);
    scs.welcome(cluster([("app1", app.clone())]));
    scs.app_is("app1", AppStatus::Started);
    assert_eq!(scs.app_is("app1", AppStatus::ServiceUnavailable).cause, Some(Cause::Hung));
    assert_eq!(scs.app_is("app1", AppStatus::Stopped).cause, Some(Cause::Hung));
    app.on_hang = OnHang::Report;
    scs.assign(cluster([("app1", app)]));
    scs.app_is("app1", AppStatus::Started);
    assert_eq!(scs.app_is("app1", AppStatus::ServiceUnavailable).cause, Some(Cause::Hung));
}

fn a_killed_agent_is_replaced_by_one_that_takes_over_what_runs(lab: &mut Lab) {
    let mut scs = Scs::start(lab);
    let mut app = sh("exec sleep 1000");
    app.mode_control = ModeControl::None;
    let mut agent = Agent::start(lab, &scs);
    let part = cluster([("app1", app)]);
    scs.welcome(part.clone());
    let pid = scs.app_is("app1", AppStatus::Started).pid.unwrap();
    assert_eq!(scs.set_mode("app1", RunMode::Primary, 7), AnswerOutcome::Done);
    agent.state_is_saved(|state| state.contains("\"greatest\":7"));

    agent.kill();
    assert!(!scs::is_dead(pid), "the application outlives its agent");
    agent.start_again(lab, &scs);
    scs.welcome(part);
    let adopted = scs.app(|app| app.status == AppStatus::Started);
    assert_eq!((adopted.pid, adopted.mode, adopted.epoch), (Some(pid), Some(RunMode::Primary), Epoch(7)));
    scs.fact(|fact| is_log(fact, events::APP_START_DETECTED));
    let refused = scs.set_mode("app1", RunMode::Backup, 6);
    assert_eq!(refused, AnswerOutcome::Stale { seen: Epoch(7) });

    // Its death is noticed although it is nobody's child any more.
    scs::kill(pid);
    assert_eq!(scs.app_is("app1", AppStatus::Stopped).cause, Some(Cause::Ended));
    assert_eq!(scs.app_is("app1", AppStatus::Started).restarts, 1);
}

fn what_ended_while_no_agent_was_there_is_noticed(lab: &mut Lab) {
    let mut scs = Scs::start(lab);
    let mut agent = Agent::start(lab, &scs);
    let part = cluster([("app1", sh("exec sleep 1000"))]);
    scs.welcome(part.clone());
    let pid = scs.app_is("app1", AppStatus::Started).pid.unwrap();
    agent.state_is_saved(|state| state.contains("\"status\":\"started\""));
    agent.kill();
    scs::kill(pid);
    scs::wait_for(|| scs::is_dead(pid).then_some(()));
    agent.start_again(lab, &scs);
    scs.welcome(part);
    scs.fact(|fact| is_log(fact, events::APP_TERMINATED));
    assert_ne!(scs.app_is("app1", AppStatus::Started).pid, Some(pid));
}

fn sigterm_ends_the_agent_alone(lab: &mut Lab) {
    let mut scs = Scs::start(lab);
    let mut agent = Agent::start(lab, &scs);
    scs.welcome(cluster([("app1", sh("exec sleep 1000"))]));
    let pid = scs.app_is("app1", AppStatus::Started).pid.unwrap();
    assert!(agent.terminate().success());
    assert!(!scs::is_dead(pid));
    agent.start_again(lab, &scs);
    scs.welcome(cluster([("app1", sh("exec sleep 1000"))]));
    assert_eq!(scs.app(|app| app.status == AppStatus::Started).pid, Some(pid));
}

fn reports_that_were_not_acknowledged_come_again(lab: &mut Lab) {
    let mut scs = Scs::start(lab);
    scs.acknowledging = false;
    let _agent = Agent::start(lab, &scs);
    let part = cluster([("app1", sh("exec sleep 1000"))]);
    scs.welcome(part.clone());
    let pid = scs.app_is("app1", AppStatus::Started).pid.unwrap();
    let before = scs.numbers.clone();
    scs.hang_up();
    // Happens while nobody listens.
    scs::kill(pid);
    scs.numbers.clear();
    scs.welcome(part.clone());
    scs.fact(|fact| is_log(fact, events::APP_TERMINATED));
    assert_eq!(scs.numbers[..before.len()], before, "the same reports, under their numbers, in order");
    assert!(scs.numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{:?}", scs.numbers);

    scs.acknowledging = true;
    scs.app_is("app1", AppStatus::Started);
    let acknowledged = *scs.numbers.last().unwrap();
    // Answered in order: the acknowledgements have arrived.
    scs.instruct("app1", Order::Start);
    scs.hang_up();
    scs.numbers.clear();
    scs.welcome(part);
    scs.fact(|fact| is_log(fact, events::CONNECTED));
    assert!(scs.numbers[0] > acknowledged, "{:?} after {acknowledged}", scs.numbers);

    // What the welcome itself leads to is told after what waits, not before.
    scs.acknowledging = false;
    scs.instruct("app1", Order::Start);
    scs.hang_up();
    scs.numbers.clear();
    scs.welcome(cluster([]));
    scs.app_is("app1", AppStatus::StopPending);
    assert!(scs.numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{:?}", scs.numbers);
}

fn scripts_have_their_facts_their_limits_and_run_once(lab: &mut Lab) {
    let mut scs = Scs::start(lab);
    let _agent = Agent::start(lab, &scs);
    let mut part = cluster([]);
    part.scripts.insert(
        "facts".parse().unwrap(),
        script("echo $TAKEOVER_HOST $TAKEOVER_EPOCH $TAKEOVER_ALARM; exit 3"),
    );
    part.scripts.insert("loud".parse().unwrap(), script("yes | head -c 1000000"));
    part.scripts.insert("endless".parse().unwrap(), script("sleep 1000 & wait"));
    scs.welcome(part);
    let facts = scs.launch(1, "facts", 5_000);
    assert_eq!(facts.outcome, LaunchOutcome::Exited { code: 3 });
    assert_eq!(facts.output, "host1 9 wiring\n");
    let again = scs.launch(1, "facts", 5_000);
    assert_eq!((again.outcome, again.took_us), (facts.outcome, facts.took_us), "the result, not another run");
    let loud = scs.launch(2, "loud", 5_000);
    assert!(loud.outcome.succeeded() && loud.output.len() <= domain::LAUNCH_OUTPUT_LIMIT);
    assert_eq!(scs.launch(3, "endless", 200).outcome, LaunchOutcome::TimedOut);
    assert!(matches!(scs.launch(4, "none", 200).outcome, LaunchOutcome::Failed { .. }));
}

fn heartbeats_flow_and_silence_ends_the_connection(lab: &mut Lab) {
    let mut scs = Scs::start(lab);
    scs.silence_ms = 1_000;
    let _agent = Agent::start(lab, &scs);
    scs.welcome(cluster([]));
    let answered = scs::wait_for(|| Some(scs.heartbeat()).filter(|heartbeat| heartbeat.heard.0 > 0));
    assert!(answered.heard < answered.at, "our own clock, one later than the agent's");
    // Not answered any more: the agent hangs up by itself and dials again.
    scs.wait_for_hang_up();
    scs.welcome(cluster([]));
    let lost = scs.fact(|fact| is_log(fact, events::CONNECTION_LOST));
    assert!(matches!(lost, Fact::Log(event) if event.text.contains("nothing was heard")));
}

fn what_is_configured_anew_starts_and_what_is_not_any_more_stops(lab: &mut Lab) {
    let mut scs = Scs::start(lab);
    let _agent = Agent::start(lab, &scs);
    scs.welcome(cluster([("app1", sh("exec sleep 1000"))]));
    let pid = scs.app_is("app1", AppStatus::Started).pid.unwrap();
    scs.assign(cluster([("app1", sh("exec sleep 1001")), ("app2", sh("exec sleep 1000"))]));
    scs.app_is("app2", AppStatus::Started);
    assert!(!scs::is_dead(pid), "a new command counts from the next start on");
    scs.assign(cluster([("app2", sh("exec sleep 1000"))]));
    scs.app_is("app1", AppStatus::Stopped);
    let entry = format!("/proc/{pid}");
    scs::wait_for(|| (!std::path::Path::new(&entry).exists()).then_some(()));
}

fn an_application_that_cannot_be_started_says_why(lab: &mut Lab) {
    let mut scs = Scs::start(lab);
    let mut app = application(&["/no/such/program"]);
    app.restart.auto = false;
    let _agent = Agent::start(lab, &scs);
    scs.welcome(cluster([("app1", app)]));
    let stopped = scs.app(|app| app.cause.is_some());
    assert!(matches!(stopped.cause, Some(Cause::NotStarted(why)) if why.contains("/no/such/program")));
}

fn two_agents_do_not_share_a_run_directory(lab: &mut Lab) {
    let mut scs = Scs::start(lab);
    let agent = Agent::start(lab, &scs);
    scs.welcome(cluster([]));
    let second = agent.second(lab, &scs);
    assert!(!second.status.success());
    assert!(String::from_utf8_lossy(&second.stderr).contains("another agent runs"));
}

fn a_watchdog_that_is_none_ends_the_start(lab: &mut Lab) {
    let scs = Scs::start(lab);
    for (device, said) in [("/dev/null", "it is no watchdog device"), ("/dev/nothing", "modprobe softdog")] {
        let ended = Agent::with_watchdog(lab, &scs, device);
        let stderr = String::from_utf8_lossy(&ended.stderr);
        assert!(!ended.status.success() && stderr.contains(said), "{stderr}");
    }
}

fn the_agent_is_small(lab: &mut Lab) {
    let mut scs = Scs::start(lab);
    let agent = Agent::start(lab, &scs);
    scs.welcome(cluster([("app1", sh("exec sleep 1000"))]));
    scs.app_is("app1", AppStatus::Started);
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let kb = |name: &str| -> u64 {
        let field = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        field.trim().trim_end_matches(" kB").parse().unwrap()
    };
    println!("resident {} kB, locked {} kB", kb("VmRSS:"), kb("VmLck:"));
    assert!(kb("VmRSS:") < 20 * 1_024, "{status}");
}

fn a_host_boots_without_an_scs(lab: &mut Lab) {
    let mut scs = Scs::start(lab);
    let mut agent = Agent::start(lab, &scs);
    let part = cluster([("app1", sh("exec sleep 1000")), ("app2", sh("exec sleep 1000"))]);
    scs.welcome(part);
    let pids = ["app1", "app2"].map(|app| scs.app_is(app, AppStatus::Started).pid.unwrap());
    scs.instruct("app2", Order::Stop { graceful: false });
    scs.app_is("app2", AppStatus::Stopped);
    assert!(agent.terminate().success());
    // What a reboot does: no process, and nothing in the run directory.
    scs::kill(pids[0]);
    std::fs::remove_dir_all(agent.directory().join("run")).unwrap();
    agent.start_again(lab, &scs);
    // Nobody says welcome; the application runs all the same, and the one that an operator stopped does not.
    let process = agent.directory().join("run/app1.process.json");
    scs::wait_for(|| process.exists().then_some(()));
    agent.state_is_saved(|state| {
        let states = ["\"app1\":{\"wanted\":true,\"status\":\"started\"", "\"app2\":{\"wanted\":false"];
        states.iter().all(|wanted| state.contains(wanted))
    });
    assert!(!agent.directory().join("run/app2.process.json").exists());
}
