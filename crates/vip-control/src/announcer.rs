//! When held VIPs are announced again: a burst after a VIP was enabled, since announcements get lost and switches
//! learn late, then now and then for as long as it is held. Pure: time comes in, what is due goes out, the caller
//! sends it.

use domain::{InterfaceName, Micros, VipAddress};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// When the repeats come, counted from the first announcement, which
/// [`VipController::enable`](crate::VipController::enable) sends itself. Short distances first, for the packet that
/// got lost; long ones last, for the switch port that was still being set up (spanning tree, link aggregation).
const REPEATS: [Duration; 6] = [
    Duration::from_millis(10),
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
];
/// Time between refreshes behind the repeats.
const REFRESH: Duration = Duration::from_secs(60);
/// Announcements in one `SLOT` at most. 16 per millisecond tell 500 VIPs in 32 ms and stay under 25 Mbit/s on the
/// wire.
const PER_SLOT: u32 = 16;
const SLOT: Duration = Duration::from_millis(1);

/// The schedule.
///
/// ```text
///  start ── 10 ms ── 50 ms ── 200 ms ── 1 s ── 2 s ── 5 s ── every 60 s ── ... ── stop
/// ```
///
/// The caller sleeps until [`next_deadline`](Self::next_deadline) and sends what [`due`](Self::due) gives. Repeats
/// that the caller slept through are not made up for: one is sent, and the next comes when it would have come anyway.
#[derive(Debug, Clone, Default)]
pub struct Announcer {
    held: BTreeMap<VipAddress, Held>,
    /// The same VIPs in the order in which they are due.
    queue: BTreeSet<(Micros, VipAddress)>,
    slot: Slot,
}

#[derive(Debug, Clone)]
struct Held {
    on: InterfaceName,
    started: Micros,
    due: Micros,
}

/// The current slot and how much of it is used.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    ends: Micros,
    used: u32,
}

impl Announcer {
    /// A schedule without VIPs.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins the burst for a VIP that was announced first at `now`. For a VIP that is being announced already, the
    /// burst begins anew: after a change of interface, or when the neighbours may have been told otherwise (healed
    /// split).
    pub fn start(&mut self, vip: VipAddress, on: InterfaceName, now: Micros) {
        self.stop(&vip);
        let due = now + REPEATS[0];
        self.held.insert(vip, Held { on, started: now, due });
        self.queue.insert((due, vip));
    }

    /// Announces the VIP no more.
    pub fn stop(&mut self, vip: &VipAddress) {
        if let Some(held) = self.held.remove(vip) {
            self.queue.remove(&(held.due, *vip));
        }
    }

    /// When [`due`](Self::due) gives something again; none while no VIP is held.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Micros> {
        let (due, _) = self.queue.first()?;
        Some(if self.slot.used < PER_SLOT { *due } else { self.slot.ends.max(*due) })
    }

    /// What is to be announced now, the longest overdue first. Gives no more than the pace allows; the rest comes
    /// with the next deadline, a millisecond later at most. What is not taken from the iterator stays due.
    pub fn due(&mut self, now: Micros) -> impl Iterator<Item = (VipAddress, InterfaceName)> + '_ {
        std::iter::from_fn(move || {
            if self.next_deadline()? > now {
                return None;
            }
            let (_, vip) = self.queue.pop_first()?;
            let held = self.held.get_mut(&vip).expect("queue and held have the same VIPs");
            held.due = following(held.started, now);
            self.queue.insert((held.due, vip));
            self.slot.take(now);
            Some((vip, held.on.clone()))
        })
    }
}

impl Slot {
    fn take(&mut self, now: Micros) {
        if now >= self.ends {
            *self = Self { ends: now + SLOT, used: 0 };
        }
        self.used += 1;
    }
}

/// When a VIP whose burst began at `started` is announced next after `now`.
fn following(started: Micros, now: Micros) -> Micros {
    let age = now.since(started);
    match REPEATS.iter().find(|repeat| **repeat > age) {
        Some(repeat) => started + *repeat,
        None => now + REFRESH,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vip(n: u16) -> VipAddress {
        format!("10.0.{}.{}/16", n / 250, n % 250 + 1).parse().unwrap()
    }

    fn eth0() -> InterfaceName {
        InterfaceName::new("eth0").unwrap()
    }

    /// Follows the deadlines until `end` and gives (time, number announced) for each.
    fn run(announcer: &mut Announcer, end: Micros) -> Vec<(u64, usize)> {
        let mut told = Vec::new();
        let mut last = None;
        while let Some(now) = announcer.next_deadline().filter(|deadline| *deadline <= end) {
            assert!(last < Some(now), "a deadline that does not move on is a busy loop");
            last = Some(now);
            told.push((now.0 / 1_000, announcer.due(now).count()));
        }
        told
    }

    #[test]
    fn one_vip_is_announced_in_a_burst_and_refreshed() {
        let mut announcer = Announcer::new();
        assert_eq!(announcer.next_deadline(), None);
        announcer.start(vip(0), eth0(), Micros(0));
        let told = run(&mut announcer, Micros(130_000_000));
        let times: Vec<u64> = told.iter().map(|(ms, _)| *ms).collect();
        assert_eq!(times, [10, 50, 200, 1_000, 2_000, 5_000, 65_000, 125_000]);
        assert!(told.iter().all(|(_, count)| *count == 1));
    }

    #[test]
    fn five_hundred_vips_are_paced_and_each_gets_its_turn() {
        let mut announcer = Announcer::new();
        for n in 0..500 {
            announcer.start(vip(n), eth0(), Micros(0));
        }
        let told = run(&mut announcer, Micros(49_000));
        assert!(told.iter().all(|(_, count)| *count <= 16), "{told:?}");
        assert_eq!(told.iter().map(|(_, count)| count).sum::<usize>(), 500);
        assert_eq!((told[0], told.last()), ((10, 16), Some(&(41, 4))));
    }

    #[test]
    fn a_caller_that_looks_all_the_time_is_paced_too() {
        let mut announcer = Announcer::new();
        for n in 0..100 {
            announcer.start(vip(n), eth0(), Micros(0));
        }
        let in_a_millisecond: usize = (20_000..21_000).map(|us| announcer.due(Micros(us)).count()).sum();
        assert_eq!(in_a_millisecond, 16);
    }

    #[test]
    fn repeats_slept_through_are_sent_once() {
        let mut announcer = Announcer::new();
        announcer.start(vip(0), eth0(), Micros(0));
        assert_eq!(announcer.due(Micros(700_000)).count(), 1);
        assert_eq!(announcer.next_deadline(), Some(Micros(1_000_000)));
    }

    #[test]
    fn a_stopped_vip_is_silent_and_a_restarted_one_bursts_again() {
        let mut announcer = Announcer::new();
        announcer.start(vip(0), eth0(), Micros(0));
        announcer.start(vip(1), eth0(), Micros(0));
        announcer.stop(&vip(0));
        let told: Vec<_> = announcer.due(Micros(10_000)).collect();
        assert_eq!(told, [(vip(1), eth0())]);
        let other = InterfaceName::new("eth1").unwrap();
        announcer.start(vip(1), other.clone(), Micros(30_000_000));
        assert_eq!(announcer.next_deadline(), Some(Micros(30_010_000)));
        assert_eq!(announcer.due(Micros(30_010_000)).collect::<Vec<_>>(), [(vip(1), other)]);
        announcer.stop(&vip(1));
        assert_eq!(announcer.next_deadline(), None);
    }
}
