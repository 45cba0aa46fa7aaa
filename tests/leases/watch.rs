//! A second client asks either host for the VIPs all the time, past switch and neighbour entries, and an ear at each
//! host's interface, behind its gate, keeps what the host says in their names: whoever speaks is heard there, also
//! where a cut keeps it from the client.

use anyhow::{Context, ensure};
use domain::Micros;
use e2e::LIMIT;
use netlab::wire::{Kind, Party, Wire, question, speaks_for};
use netlab::{Lab, Mac};
use rehearsal::{AGENT_HOSTS, CLIENT, Site, VIP, VIP6};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Time between two rounds of questions, each about one of the VIPs.
const EVERY: Duration = Duration::from_millis(1);
/// Two hosts that speak in turns within this time speak at once, unless questions went unanswered in between: a role can go
/// there and back within milliseconds (the peer takes it without an SCS, which knows a newer grant), but not without a gap.
const AT_ONCE: Duration = Duration::from_millis(200);
/// Questions about a VIP between two turns of a host of which it must have left one unanswered: the last may be the one that
/// its next turn begins with.
const UNANSWERED: usize = 2;
/// Priority of the asking thread where real-time scheduling is allowed.
const PRIORITY: i32 = 5;
const VIPS: [&str; 2] = [VIP, VIP6];

/// Something of each of [`VIPS`], in order of time.
type OfEach<T> = [Vec<T>; VIPS.len()];

/// The second client and the ears at work.
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Records>>,
}

/// A host spoke for a VIP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Heard {
    at: Micros,
    /// Which of [`VIPS`].
    vip: usize,
    /// Which of [`AGENT_HOSTS`].
    by: usize,
}

/// What the thread wrote down.
#[derive(Debug, Default)]
struct Records {
    heard: Vec<Heard>,
    /// When both hosts were asked.
    asked: OfEach<Micros>,
}

impl Watch {
    /// Begins to ask; returns when somebody was heard.
    pub fn start(site: &Site) -> anyhow::Result<Self> {
        let asker = Asker::open(site)?;
        let ears = AGENT_HOSTS.map(|host| site.lab.in_host(host, || Wire::open("eth0")));
        let [first, second] = ears;
        let (stop, (told, heard)) = (Arc::new(AtomicBool::new(false)), channel());
        let worker = Worker { asker, ears: [first??, second??], stop: Arc::clone(&stop), told };
        let thread = std::thread::Builder::new().name("watch".to_owned()).spawn(move || worker.run())?;
        let watch = Self { stop, thread: Some(thread) };
        watch.await_first(&heard, site)?;
        Ok(watch)
    }

    fn await_first(&self, heard: &Receiver<()>, site: &Site) -> anyhow::Result<()> {
        heard.recv_timeout(LIMIT).with_context(|| format!("the watch hears nobody\n{}", site.logs()))
    }

    /// Ends, and fails where two hosts ever spoke for a VIP at once. Which hosts answered, in turn.
    pub fn end(self) -> anyhow::Result<Vec<&'static str>> {
        let (turns, asked) = self.turns()?;
        for ((vip, turns), asked) in VIPS.iter().zip(&turns).zip(&asked) {
            if let Some(at_once) = at_once(turns, asked) {
                let told: String = turns.iter().map(Turn::told).collect();
                anyhow::bail!(
                    "two hosts spoke for {vip} at once at {at_once} {}:\n{told}",
                    netlab::harness::FINAL
                );
            }
        }
        Ok(turns[0].iter().map(|turn| AGENT_HOSTS[turn.by]).collect())
    }

    /// Ends; whether two hosts spoke for a VIP at once.
    pub fn end_with_two(self) -> anyhow::Result<bool> {
        let (turns, asked) = self.turns()?;
        Ok(turns.iter().zip(&asked).any(|(turns, asked)| at_once(turns, asked).is_some()))
    }

    fn turns(mut self) -> anyhow::Result<(OfEach<Turn>, OfEach<Micros>)> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("it ends once")?;
        let Records { mut heard, asked } =
            thread.join().map_err(|_| anyhow::anyhow!("the watch panicked"))?;
        heard.sort_unstable();
        let of = |vip| turns(heard.iter().filter(|heard| heard.vip == vip));
        let turns = [0, 1].map(of);
        ensure!(turns.iter().all(|turns| !turns.is_empty()), "nobody has spoken for one of the VIPs");
        Ok((turns, asked))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The client's side.
struct Asker {
    wire: Wire,
    party: Party,
    macs: [Mac; AGENT_HOSTS.len()],
    vips: [IpAddr; VIPS.len()],
}

impl Asker {
    fn open(site: &Site) -> anyhow::Result<Self> {
        let mac = |host: &str| site.lab.mac(host, "eth0");
        let party = Party { mac: mac(CLIENT)?, v4: "192.0.2.20".parse()?, v6: "2001:db8::20".parse()? };
        let wire = site.lab.in_host(CLIENT, || Wire::open("eth0"))??;
        let [first, second] = AGENT_HOSTS;
        Ok(Self { wire, party, macs: [mac(first)?, mac(second)?], vips: [VIP.parse()?, VIP6.parse()?] })
    }

    /// Who has it, and does either host answer an echo request?
    fn ask(&self, vip: usize) {
        let vip = self.vips[vip];
        self.wire.send(&question(Kind::Neighbour, &self.party, self.macs[0], vip));
        for mac in self.macs {
            self.wire.send(&question(Kind::Echo, &self.party, mac, vip));
        }
        let _ = self.wire.seen(); // the answers: heard where they are given
    }
}

/// What the thread has for itself.
struct Worker {
    asker: Asker,
    ears: [Wire; AGENT_HOSTS.len()],
    stop: Arc<AtomicBool>,
    told: Sender<()>,
}

impl Worker {
    fn run(self) -> Records {
        // Below the agents, and above what keeps the machine busy: a question that comes late proves nothing.
        let _ = control_link::real_time::raise_thread(PRIORITY);
        let (mut records, mut told) = (Records::default(), false);
        for round in 0.. {
            // What was said up to the end was heard.
            let last = self.stop.load(Ordering::Relaxed);
            for (by, ear) in self.ears.iter().enumerate() {
                for frame in ear.seen().into_iter().filter(|frame| frame.is_outgoing) {
                    let of_it = |vip: &IpAddr| speaks_for(&frame.frame, *vip);
                    let vip = self.asker.vips.iter().position(of_it);
                    records.heard.extend(vip.map(|vip| Heard { at: frame.at, vip, by }));
                }
            }
            if last {
                break;
            }
            if !told && !records.heard.is_empty() {
                told = self.told.send(()).is_ok();
            }
            let vip = round % VIPS.len();
            records.asked[vip].push(netlab::now());
            self.asker.ask(vip);
            std::thread::sleep(EVERY);
        }
        records
    }
}

/// What one host said without a word of the other in between.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Turn {
    by: usize,
    from: Micros,
    to: Micros,
    words: usize,
}

impl Turn {
    fn told(&self) -> String {
        format!("{} from {} to {}, {} frames\n", AGENT_HOSTS[self.by], self.from, self.to, self.words)
    }
}

fn turns<'a>(heard: impl Iterator<Item = &'a Heard>) -> Vec<Turn> {
    let mut turns: Vec<Turn> = Vec::new();
    for Heard { at, by, .. } in heard.copied() {
        match turns.last_mut() {
            Some(turn) if turn.by == by => (turn.to, turn.words) = (at, turn.words + 1),
            Some(_) | None => turns.push(Turn { by, from: at, to: at, words: 1 }),
        }
    }
    turns
}

/// When two hosts took turns so fast that both must have been speaking: one has spoken before and after a turn of the
/// other, all of it within [`AT_ONCE`], and answered all that it was asked in between.
fn at_once(turns: &[Turn], asked: &[Micros]) -> Option<Micros> {
    let let_go = |before: &Turn, after: &Turn| {
        let first = asked.partition_point(|at| *at <= before.to);
        asked[first..].iter().take_while(|at| **at < after.from).count() >= UNANSWERED
    };
    let too_fast =
        |three: &&[Turn]| three[2].from.since(three[0].to) < AT_ONCE && !let_go(&three[0], &three[2]);
    turns.windows(3).find(too_fast).map(|three| three[1].from)
}

/// The instrument itself; `gate::without_one_a_stopped_agent_is_two_at_once` shows that it hears.
pub fn turns_that_are_too_short_are_two_at_once(_: &mut Lab) -> anyhow::Result<()> {
    let said = |words: &[(u64, usize)]| -> Vec<Turn> {
        let heard: Vec<_> =
            words.iter().map(|(ms, by)| Heard { at: Micros(ms * 1_000), vip: 0, by: *by }).collect();
        turns(heard.iter())
    };
    let all: Vec<Micros> = (0..2_000).map(|ms| Micros(ms * 1_000 - ms.min(1))).collect();
    let found = |words: &[(u64, usize)]| at_once(&said(words), &all);
    ensure!(found(&[(1, 0), (2, 0), (500, 1), (501, 1), (1_200, 0)]).is_none());
    ensure!(found(&[(1, 0), (1, 1), (2, 0), (2, 1)]) == Some(Micros(1_000)));
    // One word of a host that has come back.
    ensure!(found(&[(1, 0), (500, 1), (900, 1), (901, 0), (901, 1), (902, 1)]) == Some(Micros(901_000)));
    // There and back within milliseconds, but each had fallen silent before the other spoke.
    ensure!(found(&[(1, 0), (2, 0), (5, 1), (6, 1), (10, 0)]).is_none());
    // The same, and nobody had asked in between.
    ensure!(at_once(&said(&[(1, 0), (5, 1), (10, 0)]), &[Micros(900), Micros(4_900)]) == Some(Micros(5_000)));
    Ok(())
}
