//! Both ends of the stream in a simulated world. After whatever happened: when the link is quiet, the backup's value is
//! the primary's; and at any time before, a whole value is one that a primary had.

mod world;

use domain::{Epoch, Micros};
use sip_sync::{
    Broken, HELLO_MAGIC, Limits, MAX_FRAME, PROTOCOL, Phase, Replica, Replicator, Role, Settings, Timing,
};
use std::time::Duration;
use world::{Chance, Change, Path, Toy, World, settings, summary};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A primary (0) with a value, and a backup (1).
fn pair(seed: u64, changes: usize, keys: u64) -> World {
    let mut world = World::new(seed);
    world.role(0, Role::Primary, 2);
    world.act(0, changes, keys);
    world
}

#[test]
fn a_backup_gets_everything_and_stays_in_step() {
    let mut world = pair(1, 3_000, 1_000);
    assert_eq!(world.ready(1).phase, Phase::Disconnected);
    world.run(8);
    assert!(matches!(world.ready(0).phase, Phase::Resync { .. }));
    let there = world.ready(1);
    assert!(matches!(there.phase, Phase::Resync { changes: 1.. }) && !there.ready, "{there}");
    world.settle();
    for _ in 0..200 {
        world.act(0, 10, 1_000);
        world.run(1);
        let (time, changes) = world.lag();
        assert!(time <= ms(6) && changes <= 60, "{time:?}, {changes}");
    }
    world.settle();
    assert_eq!(world.ready(0).to_string(), "in step, 0 ms and 0 changes behind");
    let [sent, taken] = [0, 1].map(|n| world.ends[n].replicator.counters());
    assert_eq!((sent.streams_sent, taken.streams_taken), (1, 1));
    assert!(sent.changes_sent > 2_000 && sent.changes_sent == taken.changes_taken, "{sent:?}, {taken:?}");
    assert_eq!([&world.ends[0].broken, &world.ends[1].broken], [&vec![], &vec![]]);
}

#[test]
fn the_whole_value_is_sent_slowly_enough() {
    let mut world = pair(2, 3_000, 1_000);
    let items = world.ends[0].value.items.len() as u64;
    let began = world.ms;
    world.settle();
    // Seven items each five milliseconds, and never more than that at once.
    let least = items / 7 * 5;
    assert!((least..least + 100).contains(&(world.ms - began)), "{items} items in {} ms", world.ms - began);
}

#[test]
fn changes_go_on_during_a_resynchronisation() {
    for seed in 0..20 {
        let mut world = pair(seed, 800, 300);
        for _ in 0..400 {
            world.act(0, 3, 300);
            world.tick();
        }
        world.settle();
    }
}

#[test]
fn a_connection_may_break_at_every_byte() {
    let mut complete = pair(3, 60, 30);
    complete.settle();
    for sender in [0, 1] {
        let length = complete.ends[sender].passed;
        assert!(length > 60, "{length}");
        for passes in 0..length {
            let mut world = pair(3, 60, 30);
            world.ends[sender].passes = Some(passes);
            world.run(100);
            world.act(0, 5, 30);
            world.settle();
        }
    }
}

#[test]
fn what_was_stale_is_kept_until_the_end_and_dropped_then() {
    let mut world = pair(4, 500, 100);
    world.settle();
    world.path.up = false;
    world.cut();
    let gone = world.ends[0].value.items.clone();
    world.act(0, 3_000, 200);
    world.path.up = true;
    world.run(40);
    let there = world.ready(1);
    assert!(matches!(there.phase, Phase::Resync { .. }) && !there.ready, "{there}");
    // Should it have to take over now, it has every call that it had, or that the primary has in its place.
    let keys = &world.ends[1].value.items;
    let missing =
        gone.keys().filter(|key| !keys.contains_key(key) && world.ends[0].value.items.contains_key(key));
    assert_eq!(missing.count(), 0);
    world.settle();
}

#[test]
fn a_slow_peer_delays_nobody_and_is_dropped() {
    let limits = Limits { queue: 20_000, ..Limits::default() };
    let mut world = World::with(5, [Settings { limits, ..settings("sip1") }, settings("sip2")]);
    world.role(0, Role::Primary, 2);
    world.settle();
    world.path = Path { rate: 10, room: 2_000, ..Path::default() };
    for _ in 0..3_000 {
        world.act(0, 10, 500);
        world.tick();
        assert!(world.ends[0].replicator.outgoing().len() <= 20_000 + 4 * 1_024, "the queue is bounded");
        assert!(world.lag().0 < ms(100) || !world.ready(0).ready || world.lag().0 <= ms(500));
    }
    assert!(!world.ready(0).ready);
    assert!(
        world.ends[0].broken.iter().any(|b| matches!(b, Broken::Overflow { .. })),
        "{:?}",
        world.ends[0].broken
    );
    world.path = Path::default();
    world.settle();
}

#[test]
fn a_peer_that_acknowledges_nothing_is_dropped() {
    let mut world = pair(6, 10, 10);
    world.settle();
    world.ends[1].stopped = true;
    world.act(0, 10, 10);
    world.run(499);
    assert!(world.ready(0).ready, "half a second of lag is allowed");
    world.run(3);
    assert!(!world.ready(0).ready);
    world.run(2_000);
    assert!(
        matches!(world.ends[0].broken[..], [Broken::Silent | Broken::Behind(_)]),
        "{:?}",
        world.ends[0].broken
    );
    world.ends[1].stopped = false;
    world.settle();
}

#[test]
fn readiness_comes_back_only_after_a_while() {
    let mut world = pair(7, 10, 10);
    world.settle();
    world.ends[1].stopped = true;
    world.act(0, 1, 10);
    world.run(600);
    assert!(!world.ready(0).ready);
    world.ends[1].stopped = false;
    world.run(20);
    assert_eq!(world.lag(), (Duration::ZERO, 0));
    assert!(!world.ready(0).ready);
    for _ in 0..1_050 {
        world.tick();
        world.ready(0);
    }
    assert!(world.ready(0).ready);
}

#[test]
fn a_backup_knows_its_own_lag() {
    let mut world = pair(8, 10, 10);
    world.settle();
    assert!(world.ready(1).ready);
    world.ends[0].stopped = true;
    world.run(590);
    assert!(world.ready(1).ready, "{}", world.ready(1));
    world.run(120);
    let there = world.ready(1);
    assert!(!there.ready && there.lag.unwrap().time > ms(500), "{there}");
}

#[test]
fn a_backup_whose_primary_dies_is_ready_for_a_while() {
    let mut world = pair(9, 10, 10);
    world.settle();
    world.path.up = false;
    world.cut();
    assert_eq!((world.ready(1).ready, world.ready(1).phase), (true, Phase::Disconnected));
    assert!(!world.ready(0).ready, "the primary knows that nobody hears it");
    world.run(4_999);
    assert!(world.ready(1).ready);
    world.run(2);
    assert!(!world.ready(1).ready);

    let mut world = pair(9, 3_000, 1_000);
    world.run(20);
    world.path.up = false;
    world.cut();
    assert!(!world.ready(1).ready, "it had not everything");
}

#[test]
fn another_format_is_told_and_nothing_is_taken() {
    let newer = Settings { format: 2, release: "0.2.0".into(), ..settings("sip2") };
    let mut world = World::with(10, [settings("sip1"), newer]);
    world.role(0, Role::Primary, 2);
    world.act(0, 100, 50);
    world.run(500);
    let [one, two] = &world.ends;
    assert_eq!(
        one.broken[0].to_string(),
        "the peer's release 0.2.0 speaks version 1.2 of the replication, this one 1.1; upgrade the older one"
    );
    assert!(two.broken.iter().any(|b| matches!(b, Broken::OtherVersion { .. } | Broken::Goodbye(_))));
    assert!(two.value.items.is_empty() && two.value.offset == 0);
    assert!(!world.ready(0).ready && !world.ready(1).ready);

    world.restart(1, settings("sip2"));
    world.settle();
}

#[test]
fn another_protocol_is_told_by_whoever_hears_of_it() {
    let mut hello = vec![1u8];
    hello.extend(HELLO_MAGIC);
    hello.extend((PROTOCOL + 1).to_be_bytes());
    hello.extend(1u32.to_be_bytes());
    hello.extend([5]);
    hello.extend(b"9.9.9 and whatever that version says further");
    let mut bytes = (hello.len() as u32).to_be_bytes().to_vec();
    bytes.extend(hello);
    let mut end = Replicator::new(settings("sip1"));
    end.connected(Micros(0));
    let told = end.received(&bytes, &mut Toy::default(), Micros(1)).unwrap_err();
    assert!(matches!(&told, Broken::OtherVersion { release, .. } if &**release == "9.9.9"), "{told}");
    let out = end.outgoing();
    assert!(
        out.windows(told.to_string().len()).any(|w| w == told.to_string().as_bytes()),
        "a goodbye says why"
    );
}

#[test]
fn only_the_other_member_of_the_pair_is_heard() {
    for other in [settings("sip1"), Settings { pair: "other".into(), ..settings("sip2") }] {
        let mut world = World::with(11, [settings("sip1"), other]);
        world.role(0, Role::Primary, 2);
        world.act(0, 10, 10);
        world.run(200);
        assert!(world.ends.iter().any(|end| matches!(end.broken[..], [Broken::OtherPair { .. }, ..])));
        assert!(world.ends[1].value.items.is_empty());
    }
}

#[test]
fn settings_that_do_not_go_together_stop_the_stream_others_only_readiness() {
    let mut world = pair(12, 100, 50);
    world.settle();
    world.ends[1].replicator.set_settings(Settings { digest: 23, ..settings("sip2") });
    world.act(0, 100, 50);
    world.run(50);
    let there = world.ready(0);
    assert!(!there.ready && there.phase == Phase::Live && there.to_string().ends_with("with other settings"));
    assert_eq!(world.ends[0].value.items, world.ends[1].value.items, "kept in step all the same");

    world.ends[1].replicator.set_settings(Settings { shape: 12, ..settings("sip2") });
    world.run(20);
    let sent = world.ends[0].replicator.counters();
    let before = world.ends[1].value.items.clone();
    world.act(0, 100, 50);
    world.run(50);
    assert_eq!(world.ready(1).phase, Phase::OtherShape);
    assert_eq!(world.ends[0].replicator.counters(), sent);
    assert_eq!(world.ends[1].value.items, before);

    world.ends[0].replicator.set_settings(Settings { shape: 12, ..settings("sip1") });
    world.settle();
}

#[test]
fn the_direction_turns_with_the_role() {
    let mut world = pair(13, 500, 200);
    world.settle();
    for epoch in 3..10 {
        let (old, new) = if epoch % 2 == 1 { (0, 1) } else { (1, 0) };
        world.act(old, 50, 200);
        world.run(world.path.delay_ms + 2);
        // A planned switchover: one ends, then the other begins.
        world.role(old, Role::Backup, epoch);
        world.run(3);
        assert!(world.ready(new).ready && world.ready(new).phase == Phase::NoPrimary);
        assert_eq!(world.ends[0].value.items, world.ends[1].value.items, "nothing is lost");
        world.role(new, Role::Primary, epoch);
        world.act(new, 50, 200);
        world.settle();
    }
    assert_eq!(
        [&world.ends[0].broken, &world.ends[1].broken],
        [&vec![], &vec![]],
        "one connection is enough"
    );
}

#[test]
fn what_a_deposed_primary_did_not_send_is_thrown_away() {
    let mut world = pair(14, 500, 200);
    world.settle();
    world.path = Path { rate: 0, ..Path::default() };
    world.act(0, 300, 200);
    world.run(10);
    world.role(1, Role::Primary, 3);
    world.act(1, 100, 200);
    let new = world.ends[1].value.items.clone();
    world.path = Path::default();
    world.run(50);
    assert_eq!(world.ready(0).phase, Phase::BothPrimary);
    assert_eq!(world.ends[1].value.items, new, "what arrives late is not taken");
    world.role(0, Role::Backup, 3);
    world.settle();
    assert_eq!(world.ends[0].value.items, new);
}

#[test]
fn two_primaries_exchange_nothing() {
    let mut world = pair(15, 100, 50);
    world.role(1, Role::Primary, 3);
    world.act(1, 50, 50);
    let values = [world.ends[0].value.items.clone(), world.ends[1].value.items.clone()];
    for _ in 0..300 {
        world.tick();
    }
    assert_eq!([&world.ends[0].value.items, &world.ends[1].value.items], [&values[0], &values[1]]);
    assert!(!world.ready(0).ready && world.ready(1).to_string() == "the other member is primary, too");
    assert_eq!([0, 1].map(|n| world.ends[n].replicator.counters().streams_sent), [0, 0]);
    world.act(0, 50, 50);
    world.act(1, 50, 50);
    world.run(50);
    world.role(0, Role::Backup, 3);
    world.settle();
}

#[test]
fn an_older_primary_does_not_overwrite_a_newer_value() {
    let mut world = pair(16, 100, 50);
    world.settle();
    world.role(1, Role::Primary, 3);
    world.act(1, 50, 50);
    // The one with epoch 2 has heard nothing of it and is cut off; the one with epoch 3 steps back.
    world.path.up = false;
    world.cut();
    world.role(1, Role::Backup, 3);
    let newer = world.ends[1].value.items.clone();
    world.path.up = true;
    world.run(300);
    assert_eq!(world.ends[1].value.items, newer);
    assert_eq!((world.ready(0).phase, world.ready(1).phase), (Phase::Newer, Phase::Newer));
    assert_eq!(world.ends[0].replicator.counters().streams_sent, 1, "only the one before");
    world.role(0, Role::Backup, 4);
    world.run(10);
    assert!(
        !world.ready(0).ready && world.ready(1).ready,
        "the one with the newer value is the better choice"
    );
    world.role(1, Role::Primary, 5);
    world.settle();
}

#[test]
fn a_stream_that_was_begun_before_the_role_turned_is_not_taken() {
    // The last one cannot be, as no two members share an epoch.
    for (epoch, steps_back) in [(3, false), (3, true), (2, false)] {
        let mut world = pair(20, 50, 20);
        world.path.delay_ms = 50;
        // Greetings have met, and the beginning of the stream is under way.
        world.run(70);
        assert_eq!(world.ends[0].replicator.counters().streams_sent, 1);
        world.role(1, Role::Primary, epoch);
        world.act(1, 50, 20);
        if steps_back {
            world.role(1, Role::Backup, 3);
        }
        let newer = world.ends[1].value.items.clone();
        world.run(300);
        assert_eq!(world.ends[1].value.items, newer);
        assert_eq!(world.ends[1].replicator.counters().streams_taken, 0);
        world.role(0, Role::Backup, 4);
        world.role(1, Role::Primary, 5);
        world.settle();
        assert_eq!(world.ends[0].value.items, newer);
    }
}

#[test]
fn acknowledgements_of_an_earlier_stream_count_for_nothing() {
    let mut world = pair(21, 200, 100);
    world.settle();
    world.path.delay_ms = 20;
    world.act(0, 50, 100);
    world.run(30);
    world.role(0, Role::Backup, 3);
    world.role(0, Role::Primary, 4);
    world.settle();
    assert_eq!(world.ends[0].replicator.counters().streams_sent, 2);
    assert_eq!([&world.ends[0].broken, &world.ends[1].broken], [&vec![], &vec![]]);
}

#[test]
fn nobody_is_ready_before_the_end_was_acknowledged() {
    let mut world = pair(22, 5, 5);
    world.path.delay_ms = 100;
    let mut ready_at = [0, 0];
    for _ in 0..1_000 {
        world.tick();
        for n in [0, 1] {
            if ready_at[n] == 0 && world.ready(n).ready {
                ready_at[n] = world.ms;
            }
        }
    }
    assert!(ready_at[1] > 0 && (100..110).contains(&(ready_at[0] - ready_at[1])), "{ready_at:?}");
}

#[test]
fn a_backup_that_is_slow_gets_no_more_of_the_whole_than_it_takes() {
    let mut world = pair(23, 3_000, 1_000);
    world.run(6);
    world.ends[1].stopped = true;
    world.run(1_000);
    let (_, changes) = world.lag();
    assert!((50..=100 + 7).contains(&changes), "{changes}");
    world.ends[1].stopped = false;
    world.settle();
}

#[test]
fn a_peer_that_says_nothing_is_dropped() {
    let mut world = pair(24, 10, 10);
    world.settle();
    world.ends[1].stopped = true;
    world.run(1_850);
    assert_eq!(world.ends[0].broken, []);
    world.run(300);
    assert_eq!(world.ends[0].broken, [Broken::Silent]);
}

#[test]
fn a_peer_that_speaks_and_takes_nothing_is_dropped() {
    let patient = Settings {
        timing: Timing { silence: Duration::from_secs(60), ..Timing::default() },
        ..settings("sip2")
    };
    let mut world = World::with(25, [settings("sip1"), patient]);
    world.role(0, Role::Primary, 2);
    world.act(0, 10, 10);
    world.settle();
    world.ends[1].deaf = true;
    world.act(0, 1, 10);
    world.run(1_990);
    assert_eq!((world.ends[0].broken.len(), world.ready(0).ready), (0, false));
    world.run(20);
    assert!(matches!(world.ends[0].broken[..], [Broken::Behind(_)]), "{:?}", world.ends[0].broken);
    world.ends[1].deaf = false;
    world.settle();
}

#[test]
fn two_that_have_come_apart_find_together() {
    let mut world = pair(17, 500, 100);
    world.settle();
    let lost = *world.ends[0].value.items.keys().next().unwrap();
    world.ends[1].value.items.remove(&lost);
    let now = world.now();
    let value = &mut world.ends[0].value;
    let change = Change::Parts { key: lost, whole: false, parts: vec![(3, 3)] };
    value.apply(change.clone(), now).unwrap();
    world.ends[0].replicator.send(&[change], now).unwrap();
    world.history.clear();
    let mut resync = false;
    for _ in 0..20 {
        // Values in between are none that anybody had.
        world.history.insert(summary(&world.ends[1].value));
        world.tick();
        resync |= matches!(world.ready(1).phase, Phase::Resync { .. });
    }
    assert!(resync);
    world.settle();
}

#[test]
fn the_clock_is_told_while_nothing_changes() {
    let mut world = pair(18, 10, 10);
    world.ends[0].value.offset = 5_000_000;
    world.settle();
    assert!((world.ends[1].value.offset - 5_000_000).abs() <= 2_000);
    world.ends[0].value.offset = 7_000_000;
    world.run(150);
    assert!((world.ends[1].value.offset - 7_000_000).abs() <= 2_000);
}

#[test]
fn whatever_arrives_nothing_panics() {
    let mut greeting = Replicator::<u16>::new(settings("sip2"));
    greeting.connected(Micros(0));
    greeting.set_role(Role::Primary, Epoch(2));
    greeting.due(&Toy::default(), Micros(1)).unwrap();
    let hello = greeting.outgoing().to_vec();
    let mut chance = Chance(19);
    let mut ended = 0;
    for round in 0..20_000 {
        let mut end = Replicator::new(settings("sip1"));
        end.connected(Micros(0));
        let mut bytes = if round % 2 == 0 { hello.clone() } else { Vec::new() };
        for _ in 0..chance.below(4) {
            let body: Vec<u8> = (0..chance.below(40)).map(|_| chance.below(256) as u8).collect();
            bytes.extend((body.len() as u32 + 1).to_be_bytes());
            bytes.push(chance.below(11) as u8);
            bytes.extend(body);
        }
        if let Some(byte) = bytes.len().checked_sub(1).map(|last| chance.below(last as u64 + 1) as usize) {
            bytes[byte] ^= 1 << chance.below(8);
        }
        let mut value = Toy::default();
        ended += usize::from(end.received(&bytes, &mut value, Micros(1)).is_err());
        let _ = end.due(&value, Micros(2));
        end.readiness(Micros(3));
    }
    assert!(ended > 10_000, "{ended}");
}

#[test]
fn a_frame_that_is_announced_too_large_is_not_waited_for() {
    let mut end = Replicator::new(settings("sip1"));
    end.connected(Micros(0));
    let bytes = (MAX_FRAME as u32 + 1).to_be_bytes();
    let told = end.received(&bytes, &mut Toy::default(), Micros(1));
    assert_eq!(told, Err(Broken::TooLarge { bytes: MAX_FRAME + 1 }));
    let deadline = end.next_deadline();
    assert_eq!(deadline, None, "it is over");
}

/// Everything at once, by chance: cuts, slowness, restarts, switchovers, planned and not.
fn history(seed: u64) {
    let mut chance = Chance(seed);
    let timing = Timing { part: ms(1 + chance.below(8)), ..Timing::default() };
    let limits = Limits {
        queue: 4_000 + chance.below(100_000) as usize,
        part: 1 + chance.below(20) as usize,
        window: 1 + chance.below(300),
        part_queue: chance.below(5_000) as usize,
    };
    let setup = |name| Settings { timing, limits, ..settings(name) };
    let mut world = World::with(seed, [setup("sip1"), setup("sip2")]);
    let (mut primary, mut epoch, keys) = (0, 2, 20 + chance.below(150));
    world.role(0, Role::Primary, epoch);
    for _ in 0..30 {
        match chance.below(9) {
            0 => world.cut(),
            1 => world.path.up = !world.path.up,
            2 => world.path = Path { rate: 1 + chance.below(200) as usize, room: 3_000, ..world.path },
            3 => {
                world.path = Path { delay_ms: chance.below(60), rate: usize::MAX, room: usize::MAX, up: true }
            }
            4 => {
                // Planned, with all steps at their own times.
                epoch += 1;
                world.role(primary, Role::Backup, epoch);
                world.run(chance.below(20));
                primary = 1 - primary;
                world.role(primary, Role::Primary, epoch);
            }
            5 => {
                // The primary dies and comes back without a value.
                epoch += 1;
                world.restart(primary, setup(if primary == 0 { "sip1" } else { "sip2" }));
                world.run(chance.below(20));
                primary = 1 - primary;
                world.role(primary, Role::Primary, epoch);
            }
            6 => {
                // The old primary is deposed before it knows.
                epoch += 1;
                world.role(1 - primary, Role::Primary, epoch);
                for _ in 0..chance.below(20) {
                    world.act(0, 1, keys);
                    world.act(1, 1, keys);
                    world.tick();
                }
                world.role(primary, Role::Backup, epoch);
                primary = 1 - primary;
            }
            7 => {
                let backup = 1 - primary;
                world.ends[backup].stopped = !world.ends[backup].stopped;
            }
            _ => {
                let name = if primary == 0 { "sip2" } else { "sip1" };
                world.restart(1 - primary, setup(name));
            }
        }
        for _ in 0..chance.below(300) {
            let times = chance.below(4) as usize;
            world.act(primary, times, keys);
            world.tick();
        }
    }
    world.path = Path::default();
    world.ends.iter_mut().for_each(|end| end.stopped = false);
    world.settle();
}

#[test]
fn whatever_happens_the_two_are_equal_in_the_end() {
    // More of them: `SEEDS=100000 cargo test -p sip-sync whatever_happens`.
    let seeds = std::env::var("SEEDS").ok().map_or(100, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        let result = std::panic::catch_unwind(|| history(seed));
        if let Err(panic) = result {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
