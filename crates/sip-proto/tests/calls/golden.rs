//! Golden transcripts: calls as message-sequence charts with times in seconds, one file each under `scripts/`; alice is on
//! the left, the server in the middle, everybody else on the right. UPDATE_GOLDENFILES=1 rewrites them: only if you can say
//! why every line moved.

use crate::world::World;
use domain::parse_duration;
use goldenscript::{Command, Context};
use sip_proto::b2bua::{Failover, Input, Order};
use std::error::Error;
use std::time::Duration;

struct Script {
    world: World,
}

impl goldenscript::Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        let mut words: Vec<String> = std::iter::from_fn(|| args.next_pos().map(str::to_owned)).collect();
        let world = &mut self.world;
        let from = world.chart.len();
        match command.name.as_str() {
            // "plan bob+carol dave": bob and carol at once, then dave.
            "plan" => {
                world.route(&words);
                return Ok(String::new());
            }
            "trunks" => world.plan.failover = Failover::Unavailable,
            "ringing" => world.plan.ringing = parse_duration(&words.remove(0))?,
            "label" => {
                // "label bob trunk": bob is known by another name, which has credentials.
                let target = world.plan.groups.iter_mut().flatten().find(|t| *t.label == *words[0]);
                target.ok_or("not in the plan")?.label = words[1].as_str().into();
            }
            "pass" => {
                let time = parse_duration(&words.remove(0))?;
                world.run_until(world.now + u64::try_from(time.as_micros())?);
            }
            "take-over" => world.take_over(),
            "lose" => world.lose = words.remove(0).parse()?,
            "hang-up-all" => {
                let calls: Vec<_> = world.servers[world.host].list().map(|call| call.call).collect();
                for call in calls {
                    world.step(Input::Ordered(Order::HangUp { call }));
                }
            }
            "refusing" => world.servers[world.host].refuse_new(true),
            "calls" => {
                let count = world.servers[world.host].len();
                return Ok(format!("{count} calls, {} records", world.cdrs.len()));
            }
            "saw" => {
                let phones = world.phones.values();
                let lines = phones
                    .filter(|p| !p.seen.is_empty())
                    .map(|p| format!("{}: {}\n", p.name, p.seen.join(", ")));
                return Ok(lines.collect());
            }
            // Each does it before it hears of the other.
            "together" => {
                for deed in &words {
                    let words: Vec<String> = deed.split(' ').map(str::to_owned).collect();
                    act(world, &words[0], &words[1..])?;
                    world.send_out();
                }
            }
            name => act(world, name, &words)?,
        }
        // What follows from it, but not from the time that passes.
        world.run_until(world.now + 10_000);
        let violations: Vec<String> =
            world.phones.values().flat_map(|phone| phone.violations.clone()).collect();
        if !violations.is_empty() {
            return Err(violations.join("; ").into());
        }
        Ok(world.chart[from..].iter().fold(String::new(), |text, line| text + line + "\n"))
    }
}

/// "bob answers", "alice calls 1000".
pub fn act(world: &mut World, name: &str, words: &[String]) -> Result<(), Box<dyn Error>> {
    let now = world.now;
    let phone = world.phones.get_mut(name).ok_or_else(|| format!("unknown command {name}"))?;
    let word = |at: usize| words.get(at).map_or("", String::as_str);
    let rest = |from: usize| words.get(from..).unwrap_or_default().join(" ").replace('|', "\r\n");
    let lines = |from: usize| if words.len() > from { rest(from) + "\r\n" } else { String::new() };
    match word(0) {
        "calls" => phone.calls("1000", &lines(1), now),
        "rings" => phone.rings(180, false, now),
        "progresses" => phone.rings(183, false, now),
        "rings-reliably" => phone.rings(183, true, now),
        "answers" => phone.answers(&lines(1), now),
        "refuses" => phone.refuses(word(1).parse()?, &lines(2), now),
        "cancels" => phone.cancels(now),
        "dies" => phone.dead = true,
        "hangs-up" => phone.hangs_up(now),
        "supports" => phone.supported = rest(1),
        "allows" => phone.allow = rest(1),
        method if method.chars().all(char::is_uppercase) && !method.is_empty() => phone.requests(method, now),
        other => return Err(format!("{name} cannot {other}").into()),
    }
    Ok(())
}

fn run(name: &str) {
    let path = format!("{}/tests/calls/scripts/{name}", env!("CARGO_MANIFEST_DIR"));
    let mut world = World::new(&["alice", "bob", "carol", "dave"]);
    world.route(&["bob".to_owned()]);
    world.plan.ringing = Duration::from_secs(60);
    if let Err(e) = goldenscript::run(&mut Script { world }, &path) {
        panic!("{name}: {e}");
    }
}

macro_rules! scripts {
    ($($test:ident)*) => {
        $(#[test] fn $test() { run(stringify!($test)); })*

        #[test]
        fn every_script_is_run() {
            let known = [$(stringify!($test)),*];
            for entry in std::fs::read_dir(format!("{}/tests/calls/scripts", env!("CARGO_MANIFEST_DIR"))).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                assert!(known.contains(&name.as_str()), "{name} is run by no test");
            }
        }
    };
}

scripts! {
    answer_crosses_the_cancel
    answer_lost
    basic_call
    both_answer
    by_order
    cancel_crosses_the_answer
    cancelled
    cancelled_before_anything
    challenged
    declined_everywhere
    everywhere_at_once
    glare
    hung_up_after_a_takeover
    never_acknowledged
    nobody_there
    not_reliable
    one_after_another
    refresh_by_invite
    refused
    refusing
    reliable_ringing
    session_dead
    session_refreshed
    taken_over_while_ringing
    trunks
    within_a_call
}
