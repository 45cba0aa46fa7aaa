//! A history to be run: who is in the world, what the network is like, and what goes wrong when. Made from a seed, and a
//! plain value: it can be cut down until only what matters is left.

use crate::message::Node;
use crate::network::Weather;
use crate::random::Random;
use domain::{AppName, Cluster, HostName, PairName};
use std::fmt;

/// A cluster that the world knows how to build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Two hosts, a hot pair with one VIP under built-in control.
    Hot,
    /// Two hosts, a warm pair with two VIPs under a script's control.
    Scripted,
    /// Two hosts, a cold pair.
    Cold,
    /// Two hosts, two warm pairs, each preferring another host.
    Crossed,
    /// Three hosts, three warm pairs in a ring.
    Ring,
    /// Four hosts, two hot pairs of two.
    Four,
}

impl Layout {
    const ALL: [Layout; 6] =
        [Layout::Hot, Layout::Scripted, Layout::Cold, Layout::Crossed, Layout::Ring, Layout::Four];

    /// Hosts.
    #[must_use]
    pub fn hosts(self) -> usize {
        match self {
            Layout::Hot | Layout::Scripted | Layout::Cold | Layout::Crossed => 2,
            Layout::Ring => 3,
            Layout::Four => 4,
        }
    }

    /// The members' hosts of each pair.
    fn pairs(self) -> &'static [[usize; 2]] {
        match self {
            Layout::Hot | Layout::Scripted | Layout::Cold => &[[0, 1]],
            Layout::Crossed => &[[0, 1], [1, 0]],
            Layout::Ring => &[[0, 1], [1, 2], [2, 0]],
            Layout::Four => &[[0, 1], [2, 3]],
        }
    }

    /// The cluster file. Limits are short, so that no history has to wait for minutes.
    #[must_use]
    pub fn cluster_file(self) -> String {
        let (redundancy, control, vips) = match self {
            Layout::Hot | Layout::Four => ("hot", "built-in", 1),
            Layout::Crossed | Layout::Ring => ("warm", "built-in", 1),
            Layout::Cold => ("cold", "built-in", 1),
            Layout::Scripted => ("warm", "move", 2),
        };
        let mut file = String::from(
            "[cluster]\nname = \"world\"\n[scs]\nlisten = [\"192.0.2.1:7400\"]\nboot-grace = \"2s\"\nagent-grace = \"2s\"\n",
        );
        if control != "built-in" {
            file += "[scripts.move]\ncommand = [\"/bin/move\"]\ntime-limit = \"2s\"\n";
        }
        for host in 1..=self.hosts() {
            file += &format!("[hosts.host{host}]\naddress = \"192.0.2.1{host}\"\n");
        }
        for (pair, hosts) in self.pairs().iter().enumerate() {
            let pair = pair + 1;
            for (member, host) in hosts.iter().enumerate() {
                file += &format!(
                    "[applications.sip{pair}{letter}]\nhost = \"host{host}\"\ncommand = [\"/bin/sip\"]\n\
                     start-limit = \"3s\"\nstop-limit = \"1s\"\nrestart = {{ delay = \"100ms\", attempts = 1000 }}\n",
                    letter = ["a", "b"][member],
                    host = host + 1
                );
            }
            file += &format!(
                "[pairs.sip{pair}]\nmembers = [\"sip{pair}a\", \"sip{pair}b\"]\nredundancy = \"{redundancy}\"\n\
                 flap-guard = {{ hold-down = \"1s\" }}\n"
            );
            for vip in 1..=vips {
                file += &format!(
                    "[[pairs.sip{pair}.vips]]\naddress = \"198.51.100.{pair}{vip}/24\"\ninterface = \"eth0\"\n\
                     control = \"{control}\"\n"
                );
            }
        }
        file
    }

    pub(crate) fn cluster(self) -> Cluster {
        match config::parse_cluster("world.toml", &self.cluster_file()) {
            Ok((cluster, _)) => cluster,
            Err(report) => panic!("the world's own cluster file is wrong:\n{}", report.render(false)),
        }
    }
}

/// What an agent's host does to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// What is in /run is still there.
    WithMemory,
    /// /run was emptied, too.
    WithoutMemory,
}

/// What an SCS finds when it starts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    /// What was kept last.
    Kept,
    /// What was kept some time before that.
    Old,
    /// Nothing.
    Lost,
}

/// Something that goes wrong, or is ordered. Times in microseconds.
#[expect(missing_docs, reason = "fields say where, and for how long")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The network carries nothing from one machine to another, for a time; both ways, or this way only.
    Cut { from: Node, to: Node, both: bool, for_us: u64 },
    /// A host is cut off from everybody.
    Isolated { host: usize, for_us: u64 },
    /// The network is bad between two machines, for a time.
    Storm { from: Node, to: Node, weather: Weather, for_us: u64 },
    /// The agent dies and is started again.
    AgentDies { host: usize, restart: Restart, after_us: u64 },
    /// The agent stands still.
    AgentStalls { host: usize, for_us: u64 },
    /// The agent stands still just before it writes its gate the next time.
    AgentStallsAtGate { host: usize, for_us: u64 },
    /// The agent dies just before it writes its gate the next time.
    AgentDiesAtGate { host: usize, restart: Restart, after_us: u64 },
    /// The host loses its power and boots.
    Reboot { host: usize, after_us: u64 },
    /// The SCS dies and is started again.
    ScsDies { disk: Disk, after_us: u64 },
    /// The SCS stands still.
    ScsStalls { for_us: u64 },
    /// The SCS's store keeps nothing, for a time.
    DiskFails { for_us: u64 },
    /// A server's process ends.
    Crash { app: AppName },
    /// A server does nothing, for a time, unless it is killed for it.
    Hang { app: AppName, for_us: u64 },
    /// A server is not in step, for a time.
    OutOfStep { app: AppName, for_us: u64 },
    /// A server refuses to be primary, for a time.
    Refuses { app: AppName, for_us: u64 },
    /// Another tool removes the VIPs of a pair from a host, or puts them there.
    Meddling { pair: PairName, host: usize, present: bool },
    /// A host's interface is without carrier, for a time.
    Carrier { host: usize, for_us: u64 },
    /// Scripts on a host fail, for a time.
    ScriptsFail { host: usize, for_us: u64 },
    /// An operator switches a pair over.
    SwitchOver { pair: PairName },
    /// An operator stops an application.
    Stop { app: AppName, graceful: bool },
    /// An operator starts an application.
    Start { app: AppName },
    /// An operator restarts an application.
    RestartOrdered { app: AppName },
}

/// Moments at which faults hurt most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// An agent opens a gate that was closed.
    GateOpens,
    /// An agent closes a gate.
    GateCloses,
    /// An agent is told a run mode.
    Instructed,
    /// A server became primary.
    Promoted,
    /// The SCS wants something launched.
    Launched,
    /// A lease is let go.
    Released,
    /// An agent connects to the SCS.
    Connected,
    /// The SCS wrote down what must survive.
    Kept,
}

impl Moment {
    const ALL: [Moment; 8] = [
        Moment::GateOpens,
        Moment::GateCloses,
        Moment::Instructed,
        Moment::Promoted,
        Moment::Launched,
        Moment::Released,
        Moment::Connected,
        Moment::Kept,
    ];
}

/// When a fault comes.
#[expect(missing_docs, reason = "the variant says what they are")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// So many microseconds after the beginning.
    At(u64),
    /// So many microseconds behind the `nth` moment of this kind after `from`.
    Behind { moment: Moment, nth: u32, from: u64, after_us: u64 },
}

/// A fault with its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timed {
    /// When.
    pub when: When,
    /// What.
    pub fault: Fault,
}

/// How thoroughly the world itself is broken; the invariants must notice each of these. Each undoes one rule of the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breakage {
    /// Hosts have no gate: an address that is there answers.
    NoGate,
    /// The SCS's voter is of two minds: a refusal arrives as a promise.
    PromiseDoubled,
    /// R1: a lease is anchored where the promise arrived.
    AnchoredAtArrival,
    /// R3: the gate is opened for a time, not until a time.
    RelativeDeadline,
    /// R4: an agent without memory neither waits nor knows that it should.
    QuarantineForgotten,
    /// R5: a lease is let go and the gate stays open until its time.
    ReleasedBeforeClosed,
    /// R2: clocks are worse than the margin allows for.
    WildClocks,
}

impl Breakage {
    /// All of them.
    pub const ALL: [Breakage; 7] = [
        Breakage::NoGate,
        Breakage::PromiseDoubled,
        Breakage::AnchoredAtArrival,
        Breakage::RelativeDeadline,
        Breakage::QuarantineForgotten,
        Breakage::ReleasedBeforeClosed,
        Breakage::WildClocks,
    ];
}

/// A history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// What it was made from; also of the network's whims.
    pub seed: u64,
    /// How long service of a pair may stay away, microseconds, where the faults are few enough to say so.
    pub patience_us: Option<u64>,
    /// Who is there.
    pub layout: Layout,
    /// The network on an ordinary day.
    pub weather: Weather,
    /// Each host's clock, and last the SCS's: millionths too fast.
    pub drift_ppm: Vec<i64>,
    /// What happens.
    pub faults: Vec<Timed>,
    /// When the last fault has come and everything is made whole.
    pub heal_us: u64,
    /// The world is broken on purpose.
    pub breakage: Option<Breakage>,
}

/// When the first fault comes at the earliest: the pairs have primaries by then.
pub const BEGIN_US: u64 = 4_000_000;

impl Scenario {
    /// The history of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed, 1);
        if random.below(4) == 0 { Self::few(seed, &mut random) } else { Self::many(seed, &mut random) }
    }

    fn many(seed: u64, random: &mut Random) -> Self {
        let layout = *random.pick(&Layout::ALL);
        let rough = random.below(3) == 0;
        let weather = if rough {
            let delay_us = (50, 200 + random.below(20_000));
            Weather { delay_us, lost: random.below(60), doubled: random.below(60) }
        } else {
            Weather::FAIR
        };
        let last = BEGIN_US + random.between(2_000_000..=14_000_000);
        let mut maker = Maker { layout, cluster: layout.cluster(), random, before: None };
        let mut faults: Vec<Timed> = (0..maker.random.between(1..=14)).map(|_| maker.timed(last)).collect();
        faults.sort_by_key(|timed| match timed.when {
            When::At(at) | When::Behind { from: at, .. } => at,
        });
        Self {
            seed,
            patience_us: None,
            layout,
            weather,
            drift_ppm: drift(layout, maker.random),
            faults,
            heal_us: last + 1_000_000,
            breakage: None,
        }
    }

    /// One fault, or two of which one is the SCS's: service may be away for a known time at most.
    fn few(seed: u64, random: &mut Random) -> Self {
        let layout = *random.pick(&[Layout::Hot, Layout::Crossed, Layout::Ring]);
        let at = BEGIN_US + random.below(1_000_000);
        let (mut faults, patience_us) = few_faults(layout, at, random);
        // Without an SCS a known failure is taken over as fast.
        if patience_us == AT_ONCE_US && random.below(2) == 0 {
            let when = When::At(at - random.between(10_000..=500_000));
            let disk = Disk::Kept;
            if matches!(faults[0].fault, Fault::Crash { .. }) {
                faults.insert(0, Timed { when, fault: Fault::ScsDies { disk, after_us: 8_000_000 } });
            }
        }
        Self {
            seed,
            patience_us: Some(patience_us),
            layout,
            weather: Weather::FAIR,
            drift_ppm: drift(layout, random),
            faults,
            heal_us: at + 9_000_000,
            breakage: None,
        }
    }
}

/// What a known failure, or an order, may cost: reports, an instruction and its answer, a launch, and whatever a driver
/// takes to carry them out.
const AT_ONCE_US: u64 = 10_000;
/// Within what time an agent that stood still or was replaced is back without anybody having noticed: a lease, less the
/// time since the last renewal and a round trip.
const UNNOTICED_US: u64 = 300_000;
/// Silence, or the absence of an agent: until the promise of the voters has run out, what is done about it has come round
/// (twice a heartbeat), and the rest is done at once.
const SILENCE_US: u64 = 452_000 + 2 * 100_000 + AT_ONCE_US;
/// A server that hangs: its watchdog, and the time since its last sign of life.
const HANG_US: u64 = 1_000_000 + AT_ONCE_US;

fn few_faults(layout: Layout, at: u64, random: &mut Random) -> (Vec<Timed>, u64) {
    let for_us = random.duration_us(1_000..=8_000_000);
    let host = usize::try_from(random.below(layout.hosts() as u64)).expect("few hosts");
    let pair = random.below(layout.pairs().len() as u64) + 1;
    let app = AppName::new(&format!("sip{pair}a")).expect("a name");
    let after_silence = if for_us < UNNOTICED_US { 0 } else { SILENCE_US };
    let (fault, patience_us) = match random.below(10) {
        0 => (Fault::AgentDies { host, restart: Restart::WithMemory, after_us: for_us }, after_silence),
        1 => (Fault::AgentStalls { host, for_us }, after_silence),
        2 => (Fault::ScsDies { disk: Disk::Kept, after_us: for_us }, 0),
        3 => (Fault::ScsStalls { for_us }, 0),
        4 | 5 => {
            let other =
                if random.below(2) == 0 { Node::Scs } else { Node::Host((host + 1) % layout.hosts()) };
            let (from, to) =
                if random.below(2) == 0 { (Node::Host(host), other) } else { (other, Node::Host(host)) };
            (Fault::Cut { from, to, both: random.below(2) == 0, for_us }, 0)
        }
        6 => (Fault::Isolated { host, for_us }, if for_us < UNNOTICED_US { 0 } else { SILENCE_US }),
        7 => (Fault::Crash { app }, AT_ONCE_US),
        8 => (Fault::Hang { app, for_us }, HANG_US),
        9 => {
            let pair = PairName::new(&format!("sip{pair}")).expect("a name");
            (Fault::SwitchOver { pair }, AT_ONCE_US)
        }
        _ => unreachable!("below(10)"),
    };
    (vec![Timed { when: When::At(at), fault }], patience_us)
}

fn drift(layout: Layout, random: &mut Random) -> Vec<i64> {
    (0..=layout.hosts())
        .map(|_| match random.below(4) {
            0 => 500,
            1 => -500,
            _ => i64::try_from(random.below(1_001)).expect("small") - 500,
        })
        .collect()
}

struct Maker<'a> {
    layout: Layout,
    cluster: Cluster,
    random: &'a mut Random,
    /// When and where the fault before strikes: misfortunes seldom come alone.
    before: Option<(u64, usize)>,
}

impl Maker<'_> {
    fn timed(&mut self, last: u64) -> Timed {
        let at = match self.before {
            Some((at, _)) if self.random.below(2) == 0 => {
                (at + self.random.duration_us(100..=1_000_000)).min(last)
            }
            Some(_) | None => self.random.between(BEGIN_US..=last),
        };
        let host = self.before.map_or_else(|| self.any_host(), |(_, host)| host);
        self.before = Some((at, host));
        let when = if self.random.below(2) == 0 {
            When::At(at)
        } else {
            let moment = *self.random.pick(&Moment::ALL);
            let nth = u32::try_from(self.random.below(3)).expect("small");
            let after_us = if self.random.below(3) == 0 { 0 } else { self.random.duration_us(1..=500_000) };
            When::Behind { moment, nth, from: at, after_us }
        };
        Timed { when, fault: self.fault() }
    }

    fn any_host(&mut self) -> usize {
        usize::try_from(self.random.below(self.layout.hosts() as u64)).expect("few hosts")
    }

    /// Often that of the fault before.
    fn host(&mut self) -> usize {
        let host = match self.before {
            Some((_, host)) if self.random.below(2) == 0 => host,
            Some(_) | None => self.any_host(),
        };
        self.before = self.before.map(|(at, _)| (at, host));
        host
    }

    fn app(&mut self) -> AppName {
        let names: Vec<_> = self.cluster.applications.keys().cloned().collect();
        self.random.pick(&names).clone()
    }

    fn pair(&mut self) -> PairName {
        let names: Vec<_> = self.cluster.pairs.keys().cloned().collect();
        self.random.pick(&names).clone()
    }

    fn two_machines(&mut self) -> (Node, Node) {
        let machines = self.layout.hosts() as u64 + 1;
        let one = self.random.below(machines);
        let other = (one + 1 + self.random.below(machines - 1)) % machines;
        let node = |n| Node::at(usize::try_from(n).expect("few machines"));
        (node(one), node(other))
    }

    fn restart(&mut self) -> Restart {
        if self.random.below(3) == 0 { Restart::WithoutMemory } else { Restart::WithMemory }
    }

    fn fault(&mut self) -> Fault {
        let for_us = self.random.duration_us(1_000..=8_000_000);
        match self.random.below(30) {
            0..=2 => {
                let (from, to) = self.two_machines();
                Fault::Cut { from, to, both: self.random.below(2) == 0, for_us }
            }
            3..=4 => Fault::Isolated { host: self.host(), for_us },
            5 => {
                let (from, to) = self.two_machines();
                let delay_us = (100, 1_000 + self.random.below(300_000));
                let (lost, doubled) = (self.random.below(500), self.random.below(300));
                Fault::Storm { from, to, weather: Weather { delay_us, lost, doubled }, for_us }
            }
            6..=7 => Fault::AgentDies { host: self.host(), restart: self.restart(), after_us: for_us },
            8..=9 => Fault::AgentStalls { host: self.host(), for_us },
            10 => Fault::AgentStallsAtGate { host: self.host(), for_us },
            11 => Fault::AgentDiesAtGate { host: self.host(), restart: self.restart(), after_us: for_us },
            12 => Fault::Reboot { host: self.host(), after_us: for_us },
            13..=14 => {
                let disk = match self.random.below(6) {
                    0 => Disk::Lost,
                    1 => Disk::Old,
                    _ => Disk::Kept,
                };
                Fault::ScsDies { disk, after_us: for_us }
            }
            15 => Fault::ScsStalls { for_us },
            16 => Fault::DiskFails { for_us },
            17..=19 => Fault::Crash { app: self.app() },
            20 => Fault::Hang { app: self.app(), for_us },
            21 => Fault::OutOfStep { app: self.app(), for_us },
            22 => Fault::Refuses { app: self.app(), for_us },
            23 => {
                Fault::Meddling { pair: self.pair(), host: self.host(), present: self.random.below(2) == 0 }
            }
            24 => Fault::Carrier { host: self.host(), for_us },
            25 => Fault::ScriptsFail { host: self.host(), for_us },
            26..=27 => Fault::SwitchOver { pair: self.pair() },
            28 => Fault::Stop { app: self.app(), graceful: self.random.below(2) == 0 },
            29 if self.random.below(2) == 0 => Fault::RestartOrdered { app: self.app() },
            29 => Fault::Start { app: self.app() },
            _ => unreachable!("below(30)"),
        }
    }
}

impl Fault {
    /// A voter forgets what it promised: no two hold all the same, but a majority that knows nothing of an epoch may grant
    /// one below it.
    pub(crate) fn forgets(&self) -> bool {
        match self {
            Fault::AgentDies { restart, .. } | Fault::AgentDiesAtGate { restart, .. } => {
                *restart == Restart::WithoutMemory
            }
            // The SCS's voter has no memory: what is on its disk is some milliseconds old.
            Fault::ScsDies { .. } | Fault::Reboot { .. } => true,
            Fault::Cut { .. }
            | Fault::Isolated { .. }
            | Fault::Storm { .. }
            | Fault::AgentStalls { .. }
            | Fault::AgentStallsAtGate { .. }
            | Fault::ScsStalls { .. }
            | Fault::DiskFails { .. }
            | Fault::Crash { .. }
            | Fault::Hang { .. }
            | Fault::OutOfStep { .. }
            | Fault::Refuses { .. }
            | Fault::Meddling { .. }
            | Fault::Carrier { .. }
            | Fault::ScriptsFail { .. }
            | Fault::SwitchOver { .. }
            | Fault::Stop { .. }
            | Fault::Start { .. }
            | Fault::RestartOrdered { .. } => false,
        }
    }
}

/// As in the transcript.
impl fmt::Display for Timed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.when {
            When::At(at) => write!(f, "at {} us: {:?}", at, self.fault),
            When::Behind { moment, nth, from, after_us } => {
                write!(
                    f,
                    "{after_us} us behind {moment:?} number {} from {from} us: {:?}",
                    nth + 1,
                    self.fault
                )
            }
        }
    }
}

pub(crate) fn host_names(cluster: &Cluster) -> Vec<HostName> {
    cluster.hosts.keys().cloned().collect()
}
