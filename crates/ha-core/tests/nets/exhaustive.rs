//! Every short history of commands: to length 4 here, longer with TAKEOVER_LENGTH. After each history the world heals,
//! and what must hold is checked in every quiet moment on the way.

use crate::world::{World, app, host, pair};
use ha_core::OperatorOrder;
use std::time::Duration;

const CLUSTER: &str = include_str!("world/cluster.toml");

type Command = (&'static str, fn(&mut World));

const COMMANDS: &[Command] = &[
    ("kill sip1", |w| w.kill(&app("sip1"))),
    ("kill sip2", |w| w.kill(&app("sip2"))),
    ("restart sip1", |w| w.restart(&app("sip1"))),
    ("restart sip2", |w| w.restart(&app("sip2"))),
    ("cut host1", |w| w.cut(&host("host1"))),
    ("cut host2", |w| w.cut(&host("host2"))),
    ("heal host1", |w| w.heal(&host("host1"))),
    ("heal host2", |w| w.heal(&host("host2"))),
    ("switchover", |w| {
        w.order(
            OperatorOrder::SwitchOver { pair: pair("sip"), to: None, plan: None, force: false },
            "alice",
            "",
        );
    }),
    ("restart the SCS", World::restart_scs),
];

#[test]
fn every_short_history() {
    let length: u32 = std::env::var("TAKEOVER_LENGTH").ok().and_then(|l| l.parse().ok()).unwrap_or(4);
    let base = COMMANDS.len();
    let mut histories = 0_u64;
    for length in 1..=length {
        for number in 0..base.pow(length) {
            let history: Vec<&Command> =
                (0..length).map(|digit| &COMMANDS[number / base.pow(digit) % base]).collect();
            check(&history);
            histories += 1;
        }
    }
    println!("{histories} histories, all commands of {base}, to length {length}");
}

fn check(history: &[&Command]) {
    let mut world = World::new(CLUSTER);
    world.start();
    for (_, command) in history {
        command(&mut world);
        world.advance(Duration::from_millis(600));
    }
    world.heal_all();
    world.check_whole();
    if !world.violations.is_empty() {
        let names: Vec<_> = history.iter().map(|(name, _)| *name).collect();
        panic!(
            "{}\nin the history: {}\n{}",
            world.violations.join("\n"),
            names.join(", "),
            world.lines.join("\n")
        );
    }
}
