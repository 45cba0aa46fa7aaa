//! The second client: asks either host for the VIP all the time, past switch and neighbour entries, and keeps who answered
//! when.

use anyhow::{Context, ensure};
use domain::Micros;
use netlab::Lab;
use netlab::wire::{Kind, Party, Seen, Wire, answer, question};
use rehearsal::{AGENT_HOSTS, CLIENT, Site, VIP};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Time between two rounds of questions.
const EVERY: Duration = Duration::from_millis(1);
/// Two hosts that answer in turns within this time answer at once: a role does not go there and back so fast.
const AT_ONCE: Duration = Duration::from_millis(200);

/// The second client at work.
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<(Micros, usize)>>>,
}

impl Watch {
    /// Begins to ask.
    pub fn start(site: &Site) -> anyhow::Result<Self> {
        let vip: IpAddr = VIP.parse()?;
        let mac = site.lab.mac(CLIENT, "eth0")?;
        let asker = Party { mac, v4: Ipv4Addr::new(192, 0, 2, 20), v6: Ipv6Addr::UNSPECIFIED };
        let mut hosts = BTreeMap::new();
        for (number, host) in AGENT_HOSTS.iter().enumerate() {
            hosts.insert(site.lab.mac(host, "eth0")?.0, number);
        }
        let wire = site.lab.in_host(CLIENT, || Wire::open("eth0"))??;
        let stop = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("watch".to_owned()).spawn(move || {
            // Who speaks for the VIP in a frame, and when: the kernel's time stamp.
            let speaker = |frame: &Seen| {
                let by = frame.frame.get(6..12).and_then(|mac| hosts.get(mac).copied());
                let speaks = answer(&frame.frame).is_some_and(|(_, for_whom)| for_whom == vip);
                by.filter(|_| speaks && !frame.is_outgoing).map(|by| (frame.at, by))
            };
            let mut seen = Vec::new();
            let some_mac = hosts.keys().next().copied().unwrap_or_default();
            while !until.load(Ordering::Relaxed) {
                wire.send(&question(Kind::Neighbour, &asker, netlab::Mac(some_mac), vip));
                for mac in hosts.keys() {
                    wire.send(&question(Kind::Echo, &asker, netlab::Mac(*mac), vip));
                }
                let next_round = netlab::now() + EVERY;
                while let Some(frame) = wire.next(next_round.since(netlab::now())) {
                    seen.extend(speaker(&frame));
                    if netlab::now() >= next_round {
                        break;
                    }
                }
            }
            seen.extend(wire.seen().iter().filter_map(speaker));
            seen
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Ends, and fails where two hosts ever answered at once. Which hosts answered, in turn.
    pub fn end(mut self) -> anyhow::Result<Vec<&'static str>> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("it ends once")?;
        let mut seen = thread.join().map_err(|_| anyhow::anyhow!("the watch panicked"))?;
        seen.sort_unstable();
        let turns = turns(&seen);
        ensure!(!turns.is_empty(), "the second client heard nobody");
        if let Some(at_once) = at_once(&turns) {
            let told: Vec<String> = turns
                .iter()
                .map(|turn| {
                    format!(
                        "{} from {} to {}, {} answers",
                        AGENT_HOSTS[turn.by], turn.from, turn.to, turn.answers
                    )
                })
                .collect();
            anyhow::bail!("two hosts answered at once at {at_once}:\n{}", told.join("\n"));
        }
        Ok(turns.iter().map(|turn| AGENT_HOSTS[turn.by]).collect())
    }
}

/// Answers of one host without one of the other between them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Turn {
    by: usize,
    from: Micros,
    to: Micros,
    answers: usize,
}

fn turns(seen: &[(Micros, usize)]) -> Vec<Turn> {
    let mut turns: Vec<Turn> = Vec::new();
    for (at, by) in seen {
        match turns.last_mut() {
            Some(turn) if turn.by == *by => (turn.to, turn.answers) = (*at, turn.answers + 1),
            Some(_) | None => turns.push(Turn { by: *by, from: *at, to: *at, answers: 1 }),
        }
    }
    turns
}

/// When two hosts took turns so fast that both must have been answering: one has answered before and after a turn of the
/// other, all of it within [`AT_ONCE`].
fn at_once(turns: &[Turn]) -> Option<Micros> {
    turns.windows(3).find(|three| three[2].from.since(three[0].to) < AT_ONCE).map(|three| three[1].from)
}

/// The instrument itself.
pub fn turns_that_are_too_short_are_two_at_once(_: &mut Lab) -> anyhow::Result<()> {
    let ms = |at: u64, by| (Micros(at * 1_000), by);
    let clean = [ms(1, 0), ms(2, 0), ms(500, 1), ms(501, 1), ms(1_200, 0)];
    ensure!(at_once(&turns(&clean)).is_none());
    let both = [ms(1, 0), ms(2, 1), ms(3, 0), ms(4, 1)];
    ensure!(at_once(&turns(&both)) == Some(Micros(2_000)));
    Ok(())
}
