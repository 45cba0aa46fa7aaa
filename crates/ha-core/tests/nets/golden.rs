//! Golden transcripts: conversations with the core, one file each under `scripts/`. Numbers in parentheses are the step
//! numbers of the workflow. UPDATE_GOLDENFILES=1 rewrites them: only if you can say why every line moved.

use crate::world::{World, app, host, pair};
use domain::{AppStatus, Cause, Epoch, GateReport, LeaseReport, Standby, VipAddress, parse_duration};
use goldenscript::{Command, Context};
use ha_core::{DrillPlan, Input, OperatorOrder};
use std::error::Error;
use std::fmt::Write as _;

struct Script {
    world: Option<World>,
}

impl goldenscript::Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        if command.name == "cluster" {
            let edits: Vec<String> = std::iter::from_fn(|| args.next_pos().map(str::to_owned)).collect();
            self.world = Some(World::new(&edited(&edits)?));
            return Ok(String::new());
        }
        let world = self.world.as_mut().ok_or("begin with `cluster`")?;
        let from = world.lines.len();
        let mut word = || -> Result<String, Box<dyn Error>> {
            Ok(args.next_pos().ok_or("a word is missing")?.to_owned())
        };
        match command.name.as_str() {
            "start" => world.start(),
            "connect" => world.connect(&host(&word()?)),
            "kill" => world.kill(&app(&word()?)),
            "agent-restarts" => world.restart(&app(&word()?)),
            "cut" => world.cut(&host(&word()?)),
            "heal" => world.heal(&host(&word()?)),
            "kill-agent" => world.kill_agent(&host(&word()?)),
            "restart-agent" => world.restart_agent(&host(&word()?)),
            "restart-scs" => world.restart_scs(),
            // "scs-away 1h": it is started again so much later.
            "scs-away" => {
                let away = parse_duration(&word()?)?;
                world.now += away;
                world.restart_scs();
            }
            "restart-scs-forgetful" => world.restart_scs_forgetful(),
            "restart-scs-with" => world.restart_scs_with_file(file(&word()?)?),
            "apply" => world.apply(file(&word()?)?),
            "where" => {
                let places = world.places("192.0.2.100/24".parse()?);
                let places: Vec<_> = places.iter().map(|host| host.as_str()).collect();
                return Ok(format!("192.0.2.100 is on: {}\n", places.join(", ")));
            }
            "pass" => world.advance(parse_duration(&word()?)?),
            "deaf" => world.sim_mut(&app(&word()?)).deaf = true,
            "refuses" => world.sim_mut(&app(&word()?)).refuses = true,
            "add-trouble" => {
                let name = host(&word()?);
                world.hosts.get_mut(&name).ok_or("no such host")?.enabling_fails = true;
            }
            "absent" => {
                let name = host(&word()?);
                world.hosts.get_mut(&name).ok_or("no such host")?.agent_down = true;
            }
            "present" => {
                let name = host(&word()?);
                world.hosts.get_mut(&name).ok_or("no such host")?.agent_down = false;
            }
            "willing" => world.sim_mut(&app(&word()?)).refuses = false,
            "hangs" => world.set_app(&app(&word()?), |a| {
                (a.status, a.cause) = (AppStatus::ServiceUnavailable, Some(Cause::Hung));
            }),
            "lags" => world.set_app(&app(&word()?), |a| a.synced = false),
            "syncs" => world.set_app(&app(&word()?), |a| a.synced = true),
            "carrier-lost" => world.set_carrier(&host(&word()?), false),
            "carrier-back" => world.set_carrier(&host(&word()?), true),
            "scripts-fail" => world.hosts.get_mut(&host(&word()?)).ok_or("no such host")?.scripts_fail = true,
            "inquiries-fail" => {
                world.hosts.get_mut(&host(&word()?)).ok_or("no such host")?.inquiries_fail = true;
            }
            "old-release" => world.hosts.get_mut(&host(&word()?)).ok_or("no such host")?.old_release = true,
            "add-vip" => world.set_vip(&host(&word()?), "192.0.2.100/24".parse::<VipAddress>()?, true),
            "remove-vip" => world.set_vip(&host(&word()?), "192.0.2.100/24".parse::<VipAddress>()?, false),
            "switchover" => {
                let to = word().ok().map(|name| app(&name));
                world.order(
                    OperatorOrder::SwitchOver { pair: pair("sip"), to, plan: None, force: false },
                    "alice",
                    "maintenance",
                );
            }
            "forced-switchover" => {
                let order =
                    OperatorOrder::SwitchOver { pair: pair("sip"), to: None, plan: None, force: true };
                world.order(order, "alice", "it will never be");
            }
            // "holds sip2 412 9 3": so many calls confirmed, ringing, over TCP or TLS.
            "holds" => {
                let app = app(&word()?);
                let standby = Standby {
                    lag_ms: Some(2),
                    confirmed: word()?.parse()?,
                    ringing: word()?.parse()?,
                    calls_over_streams: word()?.parse()?,
                    ..Standby::default()
                };
                let host = host(if app.as_str() == "sip1" { "host1" } else { "host2" });
                world.feed(Input::StandbyReported { host, app, standby });
            }
            "stale-switchover" => {
                let order =
                    OperatorOrder::SwitchOver { pair: pair("sip"), to: None, plan: Some(1), force: false };
                world.order(order, "alice", "");
            }
            "scs-sees" => world.scs_sees(),
            "neighbours-deaf" => world.mute = true,
            "stranger-answers" => world.stranger = true,
            "stranger-leaves" => world.stranger = false,
            "neighbours-listen" => world.mute = false,
            // "hears host2 host1": the agent on host2 hears the agent on host1.
            "hears" => world.peer(&host(&word()?), &host(&word()?), true),
            "loses-lease" => world.lease_event(&host(&word()?), domain::events::LEASE_LOST),
            "wins-lease" => world.lease_event(&host(&word()?), domain::events::LEASE_HELD),
            // "tells-lease host1 none", "tells-lease host2 3": how it stands there, by its epoch.
            "tells-lease" => {
                let name = host(&word()?);
                world.tell_lease(&name, word()?.parse().ok().map(Epoch));
            }
            "hears-not" => world.peer(&host(&word()?), &host(&word()?), false),
            // The SCS probed a host, and it answers.
            "answers" => world.feed(Input::HostProbed { host: host(&word()?), answers: true }),
            "let-go" => world.let_go(&app(&word()?), Epoch(word()?.parse()?)),
            "took-over" => world.took_over(&app(&word()?), Epoch(word()?.parse()?)),
            "asks" => world.look(&host(&word()?)),
            "plan" => return plan(world),
            "what-if" => return what_if(world),
            // The agent tells that nothing but itself enforces the lease there.
            "has-no-gate" => {
                let why = "no rights to load it".to_owned();
                let lease = LeaseReport {
                    pair: pair("sip"),
                    held: Some(Epoch(2)),
                    left_us: 0,
                    backing: 2,
                    gate: GateReport::Agent { why },
                };
                world.feed(Input::LeasesReported { host: host(&word()?), leases: vec![lease] });
            }
            "stop" => {
                forget(world.order(OperatorOrder::Stop { app: app(&word()?), graceful: false }, "alice", ""))
            }
            "stop-gracefully" => {
                forget(world.order(OperatorOrder::Stop { app: app(&word()?), graceful: true }, "alice", ""))
            }
            "order-start" => forget(world.order(OperatorOrder::Start { app: app(&word()?) }, "alice", "")),
            "restart" => forget(world.order(
                OperatorOrder::Restart { app: app(&word()?), graceful: false },
                "alice",
                "",
            )),
            "acknowledge" => {
                let name = word().map_or_else(|_| pair("sip"), |name| pair(&name));
                forget(world.order(OperatorOrder::Acknowledge { pair: name }, "alice", "checked"))
            }
            "freeze" => {
                let why = "its data are in doubt";
                forget(world.order(OperatorOrder::Freeze { pair: pair("sip") }, "alice", why));
            }
            "unfreeze" => {
                forget(world.order(OperatorOrder::Unfreeze { pair: pair("sip") }, "alice", "checked"));
            }
            "maintain" => {
                let order = OperatorOrder::Maintain { pair: pair("sip"), lasts: parse_duration(&word()?)? };
                forget(world.order(order, "alice", "new cables"));
            }
            "end-maintenance" => {
                forget(world.order(OperatorOrder::EndMaintenance { pair: pair("sip") }, "alice", "done"));
            }
            // "drill 1h", "drill 1h back", "drill 1h daily": a drill of the pair in an hour.
            "drill" => {
                let at = world.now + parse_duration(&word()?)?;
                let more: Vec<String> = std::iter::from_fn(|| word().ok()).collect();
                let (back, daily) = (more.iter().any(|w| w == "back"), more.iter().any(|w| w == "daily"));
                let plan = DrillPlan { at, every_days: daily.then_some(1), back };
                let order = OperatorOrder::ScheduleDrill { pair: pair("sip"), plan };
                forget(world.order(order, "alice", "practice"));
            }
            "remove-drill" => {
                let order = OperatorOrder::RemoveDrill { pair: pair("sip"), number: word()?.parse()? };
                forget(world.order(order, "alice", "enough"));
            }
            "start-solution" => {
                let order = OperatorOrder::StartSolution { solution: word()?.parse()? };
                forget(world.order(order, "alice", "done"));
            }
            // "stop-solution office", "stop-solution office gracefully"
            "stop-solution" => {
                let (solution, graceful) = (word()?.parse()?, word().is_ok());
                forget(world.order(OperatorOrder::StopSolution { solution, graceful }, "alice", "new disks"));
            }
            "solutions" => return solutions(world),
            "status" => return status(world),
            unknown => return Err(format!("unknown command {unknown}").into()),
        }
        world.quiet();
        if !world.violations.is_empty() {
            return Err(world.violations.join("; ").into());
        }
        Ok(world.lines[from..].iter().fold(String::new(), |text, line| text + line + "\n"))
    }
}

/// A configuration that the first one changes to.
fn file(name: &str) -> Result<&'static str, Box<dyn Error>> {
    Ok(match name {
        "one-vip-more" => include_str!("world/one_vip_more.toml"),
        "vip-moved" => include_str!("world/vip_moved.toml"),
        "pair-gone" => include_str!("world/vip_moved_pair_gone.toml"),
        "old-hosts" => include_str!("world/old_hosts.toml"),
        "new-hosts" => include_str!("world/new_hosts.toml"),
        "one-pair" => include_str!("world/one_pair.toml"),
        "solution" => include_str!("world/solution.toml"),
        name => return Err(format!("there is no file {name}").into()),
    })
}

/// The pretend cluster with lines replaced: `KEY=VALUE` below [pairs.sip].
fn edited(edits: &[String]) -> Result<String, Box<dyn Error>> {
    let mut toml = match edits.first().map(String::as_str) {
        Some("scripted") => include_str!("world/scripted.toml").to_owned(),
        Some("solution") => include_str!("world/solution.toml").to_owned(),
        Some("two-pairs") => include_str!("world/two_pairs.toml").to_owned(),
        Some("old-hosts") => include_str!("world/old_hosts.toml").to_owned(),
        Some("cold") => include_str!("world/cold.toml").to_owned(),
        Some("unwatched") => {
            include_str!("world/cluster.toml").replace("command = [", "watchdog = false\ncommand = [")
        }
        Some("scs-on-host1") => {
            include_str!("world/cluster.toml").replace("192.0.2.1:7400", "192.0.2.11:7400")
        }
        _ => include_str!("world/cluster.toml").to_owned(),
    };
    for edit in edits.iter().filter(|e| e.contains('=')) {
        let (key, _) = edit.split_once('=').ok_or("KEY=VALUE")?;
        let keep = toml.lines().filter(|line| !line.starts_with(&format!("{key} ")) || key == "command");
        toml = keep.fold(String::new(), |text, line| text + line + "\n");
        toml = toml.replace("[pairs.sip]\n", &format!("[pairs.sip]\n{edit}\n"));
    }
    Ok(toml)
}

fn plan(world: &World) -> Result<String, Box<dyn Error>> {
    let plan = world.core.plan_switchover(&pair("sip"), None, world.now)?;
    let mut text = String::new();
    for check in &plan.checks {
        let verdict = if check.passed { "pass" } else { "FAIL" };
        writeln!(text, "{verdict}: {}: {}{}", check.what, check.seen, remedy(&check.remedy))?;
    }
    for step in &plan.steps {
        writeln!(text, "would {step}")?;
    }
    for line in &plan.callers {
        writeln!(text, "callers: {line}")?;
    }
    Ok(text)
}

fn what_if(world: &World) -> Result<String, Box<dyn Error>> {
    let before = world.core.view(world.now);
    let mut text = String::new();
    for told in world.core.consequences(&pair("sip"), world.now)? {
        writeln!(text, "if {}:\n    {}", told.title, told.text)?;
        let figure = |us: Option<u64>| us.map_or("never".to_owned(), |us| format!("{us} us"));
        let primary = told.primary.map_or("nobody".to_owned(), |app| app.to_string());
        let backing = told.backing.map_or("-".to_owned(), |n| n.to_string());
        writeln!(
            text,
            "    noticed {}, moves {}, primary {primary}, away {}, backing {backing}",
            figure(told.noticed_us),
            told.moves,
            figure(told.away_us)
        )?;
        writeln!(text, "    next: {}", told.next)?;
    }
    assert_eq!(world.core.view(world.now), before, "imagining changes nothing");
    Ok(text)
}

fn remedy(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" -> {text}") }
}

fn status(world: &World) -> Result<String, Box<dyn Error>> {
    let mut text = String::new();
    for p in world.core.view(world.now).pairs {
        let wanted = p.wanted_primary.map_or("nobody".to_owned(), |w| w.to_string());
        writeln!(text, "{}: wanted {wanted}, epoch {}: {}", p.name, p.epoch, p.reason)?;
        for m in p.members {
            let mode = m.mode.map_or("-".to_owned(), |m| m.to_string());
            let sight = if m.current { "" } else { " (last known)" };
            writeln!(text, "  {} on {}: {}, {mode}{sight}", m.app, m.host, m.status)?;
        }
        for v in p.vips {
            let places = v.places.iter().map(|place| {
                let enabled = place.enabled.map_or("unknown", |e| if e { "enabled" } else { "disabled" });
                format!("{} {enabled}", place.host)
            });
            writeln!(text, "  {}: {}", v.address, places.collect::<Vec<_>>().join(", "))?;
        }
        for trouble in p.trouble {
            writeln!(text, "  trouble: {trouble}")?;
        }
        if let Some(freeze) = p.freeze {
            let since = world.now.since(freeze.since).as_secs();
            writeln!(text, "  frozen by {} for {since} s: {}", freeze.by, freeze.reason)?;
        }
        if let Some(maintenance) = p.maintenance {
            let left = maintenance.until.since(world.now).as_secs();
            writeln!(text, "  maintenance by {}, {left} s left: {}", maintenance.by, maintenance.reason)?;
        }
        for drill in p.drills {
            let at =
                drill.at.map_or("over".to_owned(), |at| format!("in {} s", at.since(world.now).as_secs()));
            let last = drill.last.map_or(String::new(), |l| format!("; last {:?}: {}", l.result, l.text));
            writeln!(text, "  drill {} {at}{last}", drill.number)?;
        }
        writeln!(text, "  next: {}", p.next)?;
    }
    Ok(text)
}

fn solutions(world: &World) -> Result<String, Box<dyn Error>> {
    let mut text = String::new();
    for s in world.core.view(world.now).solutions {
        let why = if s.reason.is_empty() { String::new() } else { format!(": {}", s.reason) };
        writeln!(text, "{} is {}{why}", s.name, s.status)?;
        if let Some(order) = s.order {
            let at = order.at.map_or("the whole".to_owned(), |app| app.to_string());
            writeln!(text, "  {:?} by {}, waits for {at}", order.what, order.by)?;
        }
    }
    Ok(text)
}

fn run(name: &str) {
    let path = format!("{}/tests/nets/scripts/{name}", env!("CARGO_MANIFEST_DIR"));
    if let Err(e) = goldenscript::run(&mut Script { world: None }, &path) {
        panic!("{name}: {e}");
    }
}

macro_rules! scripts {
    ($($test:ident)*) => {
        $(#[test] fn $test() { run(stringify!($test)); })*

        #[test]
        fn every_script_is_run() {
            let known = [$(stringify!($test)),*];
            for entry in std::fs::read_dir(format!("{}/tests/nets/scripts", env!("CARGO_MANIFEST_DIR"))).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                assert!(known.contains(&name.as_str()), "{name} is run by no test");
            }
        }
    };
}

scripts! {
    vip_withheld_and_then_the_pair_is_gone vip_of_a_pair_that_is_gone_and_comes_back
    solution_is_stopped_and_started_in_order solution_lapses_unplanned solution_order_that_cannot_be_carried_out
    solution_order_survives_the_scs
    workflow_1_manual_switchover
    workflow_2_primary_server_failure
    workflow_3_primary_server_disconnected
    workflow_4_reconnection
    twice_in_a_row_and_back
    switchover_is_refused_with_reasons
    switchover_rolls_back_when_the_other_refuses
    switchover_rolls_back_when_the_old_primary_is_deaf
    operator_stop_is_no_failure
    restart_and_start_by_order
    backup_not_ready_is_not_elected
    nobody_else_the_failed_one_comes_back
    hung_primary
    hot_standby_can_be_forced
    hot_standby_waits_for_sync_where_it_is_planned
    cold_standby_is_started_when_needed
    cold_standby_switches_over_planned
    flap_guard_holds_back_and_freezes
    failback_after_stable_time
    failback_manual_only_tells
    misplaced_vip_is_put_right
    missed_change_cut_fail_reconnect
    script_fails_built_in_helps
    unanswered_instruction_is_sent_again
    agent_away_is_no_host_lost
    carrier_lost
    configuration_moves_a_vip
    configuration_with_another_vip
    configuration_without_a_pair
    scs_restart_changes_nothing
    scs_that_forgot_learns_epochs
    scs_restart_while_an_agent_is_away
    agent_dies_in_a_switchover
    vips_that_cannot_be_enabled
    cold_standby_that_fails_at_once
    boot_with_one_host
    boot_waits_for_the_first_to_be_ready
    boot_waits_for_what_the_first_has_to_tell
    two_primaries_are_reported_when_they_last
    peer_hears_what_the_scs_does_not
    taken_over_without_the_scs
    restarted_scs_waits_for_who_may_have_taken_over
    restarted_scs_waits_for_an_agent_on_a_host_that_answers
    not_confirmed_from_outside
    scs_asks_where_no_host_can
    scs_and_peer_both_ask
    not_confirmed_then_moved
    let_go_under_a_later_epoch
    seen_nowhere_or_twice
    agent_of_an_old_release_is_not_asked_who_holds
    lease_lost_ends_when_anyone_holds
    vip_that_moves_to_another_pair_is_withheld
    vip_of_a_replaced_pair_is_withheld
    inquiry_that_fails_is_asked_again_after_a_pause
    frozen_by_hand_and_unfrozen
    frozen_by_hand_and_by_the_flap_guard
    maintenance_holds_failback_and_the_flap_count
    maintenance_survives_the_scs_and_ends_by_itself
    drill_there_and_back
    drill_is_skipped_with_the_reason
    drill_that_does_not_go_well
    drill_survives_the_scs
    what_if_all_is_well
    what_if_the_backup_is_away
    what_if_it_is_frozen
    what_if_nothing_watches
    what_if_standby_is_cold
    what_if_there_is_no_gate
    what_if_the_scs_is_on_a_member
    what_if_the_agents_do_not_hear_each_other
}

/// The outcome is in the transcript.
fn forget(_: ha_core::OrderId) {}
