//! Two ends, the value at each, and a connection between them that is slow, splits what it carries, and breaks. One clock,
//! in steps of a millisecond.

use domain::{Epoch, Micros};
use serde::{Deserialize, Serialize};
use sip_sync::{Broken, Limits, Readiness, Replica, Replicator, Role, Settings, Timing, Unknown};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// How long the ends wait before they connect again, milliseconds.
const AGAIN_MS: u64 = 30;

/// Numbers that look random (SplitMix64).
#[derive(Clone)]
pub struct Chance(pub u64);

impl Chance {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % bound
    }
}

/// A change of a [`Toy`]: parts of an item, all of it, or its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    Parts { key: u16, whole: bool, parts: Vec<(u8, u32)> },
    Removed { key: u16 },
}

/// The value: items made of numbered parts, as calls are.
#[derive(Debug, Default, Clone)]
pub struct Toy {
    pub items: BTreeMap<u16, BTreeMap<u8, u32>>,
    pub stale: BTreeSet<u16>,
    /// What the last word of the primary's clock made of ours.
    pub offset: i64,
}

impl Toy {
    /// Changes something at the primary.
    pub fn act(&mut self, chance: &mut Chance, keys: u64) -> Change {
        let key = chance.below(keys) as u16;
        let part = (chance.below(4) as u8, chance.below(1_000_000) as u32);
        let change = match (self.items.get(&key), chance.below(10)) {
            (Some(_), 0..2) => Change::Removed { key },
            (Some(_), _) => Change::Parts { key, whole: false, parts: vec![part] },
            (None, _) => Change::Parts { key, whole: true, parts: vec![part, (9, 9)] },
        };
        self.take(change.clone()).expect("what is changed is there");
        change
    }

    fn take(&mut self, change: Change) -> Result<(), Unknown> {
        match change {
            Change::Parts { key, whole: true, parts } => {
                self.stale.remove(&key);
                self.items.insert(key, parts.into_iter().collect());
            }
            Change::Parts { key, whole: false, parts } => {
                let fresh = self.items.get_mut(&key).filter(|_| !self.stale.contains(&key));
                fresh.ok_or(Unknown)?.extend(parts);
            }
            Change::Removed { key } => {
                self.stale.remove(&key);
                self.items.remove(&key).ok_or(Unknown)?;
            }
        }
        Ok(())
    }
}

impl Replica for Toy {
    type Change = Change;
    type Cursor = u16;

    fn clock(&self, now: Micros) -> Micros {
        Micros(now.0.saturating_add_signed(self.offset))
    }

    fn heard_clock(&mut self, at: Micros, now: Micros) {
        self.offset = at.0 as i64 - now.0 as i64;
    }

    fn snapshot(&self, after: Option<&u16>, most: usize, _: Micros, out: &mut Vec<Change>) -> Option<u16> {
        let from = after.map_or(0, |key| u32::from(*key) + 1);
        let behind = self.items.iter().filter(|(key, _)| u32::from(**key) >= from).take(most);
        out.extend(behind.map(|(key, parts)| Change::Parts {
            key: *key,
            whole: true,
            parts: parts.iter().map(|(part, value)| (*part, *value)).collect(),
        }));
        match out.last() {
            Some(Change::Parts { key, .. } | Change::Removed { key }) => Some(*key),
            None => None,
        }
    }

    fn begin_resync(&mut self) {
        self.stale = self.items.keys().copied().collect();
    }

    fn apply(&mut self, change: Change, _: Micros) -> Result<(), Unknown> {
        self.take(change)
    }

    fn end_resync(&mut self) {
        for key in std::mem::take(&mut self.stale) {
            self.items.remove(&key);
        }
    }
}

/// How the connection behaves.
#[derive(Debug, Clone, Copy)]
pub struct Path {
    /// How long bytes are under way, milliseconds.
    pub delay_ms: u64,
    /// Bytes that each direction takes in a millisecond.
    pub rate: usize,
    /// Bytes that are under way at most: what kernels keep.
    pub room: usize,
    /// Whether connections come about.
    pub up: bool,
}

impl Default for Path {
    fn default() -> Self {
        Self { delay_ms: 1, rate: usize::MAX, room: usize::MAX, up: true }
    }
}

/// One member.
pub struct End {
    pub replicator: Replicator<u16>,
    pub value: Toy,
    pub role: Role,
    /// What is under way to the other, and when it arrives.
    wire: VecDeque<(u64, Vec<u8>)>,
    /// Bytes that still pass to the other before the connection breaks; none: it does not break.
    pub passes: Option<usize>,
    pub passed: usize,
    /// Why its connections ended.
    pub broken: Vec<Broken>,
    /// Nothing runs here, the connection stays.
    pub stopped: bool,
    /// It runs, and does not listen.
    pub deaf: bool,
}

pub struct World {
    pub ms: u64,
    pub path: Path,
    pub ends: [End; 2],
    pub chance: Chance,
    connected: bool,
    connect_at: u64,
    /// Every value that a primary ever had.
    pub history: BTreeSet<u64>,
}

pub fn settings(name: &str) -> Settings {
    Settings {
        pair: "pair".into(),
        application: name.into(),
        release: "0.1.0".into(),
        format: 1,
        shape: 11,
        digest: 22,
        timing: Timing::default(),
        limits: Limits { part: 7, window: 100, ..Limits::default() },
    }
}

fn end(settings: Settings) -> End {
    End {
        replicator: Replicator::new(settings),
        value: Toy::default(),
        role: Role::Backup,
        wire: VecDeque::new(),
        passes: None,
        passed: 0,
        broken: Vec::new(),
        stopped: false,
        deaf: false,
    }
}

impl World {
    pub fn new(seed: u64) -> Self {
        Self::with(seed, [settings("sip1"), settings("sip2")])
    }

    pub fn with(seed: u64, [one, two]: [Settings; 2]) -> Self {
        Self {
            ms: 1_000,
            path: Path::default(),
            ends: [end(one), end(two)],
            chance: Chance(seed),
            connected: false,
            connect_at: 0,
            history: BTreeSet::new(),
        }
    }

    pub fn now(&self) -> Micros {
        Micros(self.ms * 1_000)
    }

    /// The role of an end.
    pub fn role(&mut self, n: usize, role: Role, epoch: u64) {
        let end = &mut self.ends[n];
        end.role = role;
        if role == Role::Primary {
            // What it has is what there is.
            end.value.stale.clear();
        }
        end.replicator.set_role(role, Epoch(epoch));
        self.record(n);
    }

    /// A primary changes something.
    pub fn act(&mut self, n: usize, times: usize, keys: u64) {
        for _ in 0..times {
            let change = self.ends[n].value.act(&mut self.chance, keys);
            self.record(n);
            let now = self.now();
            if let Err(broken) = self.ends[n].replicator.send(&[change], now) {
                self.give_up(n, broken);
            }
        }
    }

    fn record(&mut self, n: usize) {
        if self.ends[n].role == Role::Primary {
            self.history.insert(summary(&self.ends[n].value));
        }
    }

    pub fn ready(&mut self, n: usize) -> Readiness {
        let now = self.now();
        self.ends[n].replicator.readiness(now)
    }

    /// Breaks the connection.
    pub fn cut(&mut self) {
        let now = self.now();
        self.connected = false;
        self.connect_at = self.ms + AGAIN_MS;
        for end in &mut self.ends {
            end.wire.clear();
            end.replicator.disconnected(now);
        }
    }

    /// The process of an end starts anew.
    pub fn restart(&mut self, n: usize, settings: Settings) {
        self.cut();
        self.ends[n] = end(settings);
    }

    fn give_up(&mut self, n: usize, broken: Broken) {
        self.ends[n].broken.push(broken);
        // What waits, a goodbye perhaps, is sent before the connection is closed.
        self.carry(n);
        self.deliver(1 - n, true);
        self.cut();
    }

    /// A millisecond.
    pub fn tick(&mut self) {
        self.ms += 1;
        let now = self.now();
        if !self.connected && self.path.up && self.ms >= self.connect_at {
            self.connected = true;
            for end in &mut self.ends {
                end.replicator.connected(now);
                end.passed = 0;
            }
        }
        for n in [0, 1] {
            self.deliver(n, false);
        }
        for n in [0, 1] {
            let end = &mut self.ends[n];
            if !end.stopped
                && let Err(broken) = end.replicator.due(&end.value, now)
            {
                self.give_up(n, broken);
            }
        }
        for n in [0, 1] {
            self.carry(n);
        }
    }

    pub fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.tick();
        }
    }

    /// Takes what an end sends, as much as the connection takes.
    fn carry(&mut self, n: usize) {
        let end = &mut self.ends[n];
        if !self.connected || end.stopped {
            return;
        }
        let under_way: usize = end.wire.iter().map(|(_, bytes)| bytes.len()).sum();
        let room = self.path.room.saturating_sub(under_way).min(self.path.rate);
        let mut bytes = end.replicator.outgoing();
        bytes = &bytes[..bytes.len().min(room)];
        let mut cut = false;
        if let Some(passes) = end.passes {
            let left = passes.saturating_sub(end.passed);
            cut = bytes.len() >= left && !bytes.is_empty();
            bytes = &bytes[..bytes.len().min(left)];
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            // In pieces of any length.
            let length = (1 + self.chance.below(400) as usize).min(rest.len());
            end.wire.push_back((self.ms + self.path.delay_ms, rest[..length].to_vec()));
            rest = &rest[length..];
        }
        let length = bytes.len();
        end.passed += length;
        end.replicator.sent(length);
        if cut {
            self.deliver(1 - n, true);
            self.ends[n].passes = None;
            self.cut();
        }
    }

    /// Gives an end what has arrived.
    fn deliver(&mut self, n: usize, all: bool) {
        let now = self.now();
        while self.connected && !self.ends[n].stopped && !self.ends[n].deaf {
            let wire = &mut self.ends[1 - n].wire;
            if !wire.front().is_some_and(|(at, _)| all || *at <= self.ms) {
                return;
            }
            let Some((_, bytes)) = wire.pop_front() else { return };
            let end = &mut self.ends[n];
            let before = (end.role == Role::Primary).then(|| summary(&end.value));
            let taken = end.replicator.received(&bytes, &mut end.value, now);
            if let Some(before) = before {
                assert_eq!(before, summary(&end.value), "a primary takes nothing");
            } else if end.replicator.standing().whole && end.replicator.standing().value > Epoch(0) {
                let value = summary(&end.value);
                assert!(self.history.contains(&value), "at {} ms a value that nobody had", self.ms);
            }
            if let Err(broken) = taken {
                if all {
                    return end.broken.push(broken);
                }
                return self.give_up(n, broken);
            }
        }
    }

    /// Runs until the backup is ready and the link is quiet; then both are equal.
    pub fn settle(&mut self) {
        for _ in 0..60_000 {
            self.tick();
            let quiet =
                self.ends.iter().all(|end| end.wire.is_empty() && end.replicator.outgoing().is_empty());
            if quiet && self.ready(0).ready && self.ready(1).ready && self.lag() == (Duration::ZERO, 0) {
                assert_eq!(self.ends[0].value.items, self.ends[1].value.items);
                assert!(self.ends.iter().any(|end| end.role == Role::Primary));
                return;
            }
        }
        let phases = [self.ready(0), self.ready(1)];
        panic!(
            "at {} ms they are not ready: {phases:?}; {:?}",
            self.ms,
            [&self.ends[0].broken, &self.ends[1].broken]
        );
    }

    /// As the primary sees it.
    pub fn lag(&mut self) -> (Duration, u64) {
        let primary = usize::from(self.ends[1].role == Role::Primary);
        self.ready(primary).lag.map_or((Duration::MAX, u64::MAX), |lag| (lag.time, lag.changes))
    }
}

/// Tells values apart.
pub fn summary(value: &Toy) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.items.hash(&mut hasher);
    hasher.finish()
}
