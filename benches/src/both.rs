//! Both hosts seen at once: who answers for the VIP when, to clients on either side of whatever separates the hosts. A
//! client of the
//! usual kind sees one host at a time, the one that its network leads it to.

use crate::sample::{Sample, Watch};
use anyhow::Context;
use domain::Micros;
use netlab::wire::{Kind, Party, Wire, answer, question};
use netlab::{Lab, Mac, Nic, Observation, ProbeSettings, Prober};
use rehearsal::{AGENT_HOSTS, CLIENT, SIP_PORT, VIP};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A second client, which stays with a host that is isolated.
pub const COMPANION: &str = "companion";
const COMPANION_ADDRESS: &str = "192.0.2.21/24";

/// Answers to questions this much apart belong together: whoever gave them answered in between, too.
const ANSWERS_STILL: u32 = 3;

/// Adds the second client to a lab.
///
/// # Errors
/// It cannot be made.
pub fn add_companion(lab: &mut Lab) -> anyhow::Result<()> {
    Ok(lab.host(COMPANION, &[Nic { segment: "lan", name: "eth0", addresses: &[COMPANION_ADDRESS] }])?)
}

/// For how long two hosts answered at once.
#[derive(Debug, Clone, Copy, Default)]
pub struct Dual {
    /// SIP OPTIONS.
    pub sip: Duration,
    /// ARP and ICMP echo, which a host's kernel answers by itself.
    pub kernel: Duration,
}

/// Two clients that ask both hosts.
pub struct Both {
    watch: Watch,
    companion: Prober,
    ears: [Ear; 2],
    tags: [String; 2],
}

impl Both {
    /// Starts asking; returns when the holder serves. `tags` are what the servers call themselves, in the hosts' order.
    ///
    /// # Errors
    /// It does not answer.
    pub fn begin(lab: &Lab, tags: [&str; 2], holder: usize) -> anyhow::Result<Self> {
        let every = Duration::from_millis(1);
        let settings = ProbeSettings::new(SocketAddr::new(VIP.parse::<IpAddr>()?, SIP_PORT));
        Ok(Self {
            companion: Prober::start(lab, COMPANION, settings)?,
            ears: [Ear::start(lab, CLIENT, every)?, Ear::start(lab, COMPANION, every)?],
            watch: Watch::begin(lab, tags[holder])?,
            tags: tags.map(str::to_owned),
        })
    }

    /// Waits until the other host has taken over, and for `after` more.
    ///
    /// # Errors
    /// It does not answer within `limit`.
    pub fn taken_over_by(self, new: usize, limit: Duration, after: Duration) -> anyhow::Result<Sample> {
        let (mut sample, near) = self.watch.seen_taken_over_by(&self.tags[new], limit, after)?;
        let far = self.companion.stop();
        let mut kernel = [Vec::new(), Vec::new()];
        for ear in self.ears {
            for (all, heard) in kernel.iter_mut().zip(ear.stop()) {
                all.extend(heard);
            }
        }
        let still = Duration::from_millis(1) * ANSWERS_STILL;
        let sip = self.tags.each_ref().map(|tag| [answers_of(&near, tag), answers_of(&far, tag)].concat());
        sample.both = Some(Dual { sip: overlap(sip, still), kernel: overlap(kernel, still) });
        Ok(sample)
    }
}

/// When somebody answered.
#[must_use]
pub fn answers_of(seen: &Observation, tag: &str) -> Vec<Micros> {
    seen.answers().iter().filter(|answer| seen.who(answer) == tag).map(|answer| answer.at).collect()
}

/// For how long both answered, where each answers from one answer to the next that comes within `still`.
#[must_use]
pub fn overlap(answers: [Vec<Micros>; 2], still: Duration) -> Duration {
    let spans = answers.map(|mut at| {
        at.sort_unstable();
        let mut spans: Vec<(Micros, Micros)> = Vec::new();
        for at in at {
            match spans.last_mut() {
                Some((_, until)) if at.since(*until) <= still => *until = at,
                Some(_) | None => spans.push((at, at)),
            }
        }
        spans
    });
    let [one, other] = &spans;
    let common = |(from, until): &(Micros, Micros)| -> Duration {
        let begun = other.partition_point(|(_, end)| end < from);
        let met = other[begun..].iter().take_while(|(start, _)| start < until);
        met.map(|(start, end)| (*end).min(*until).since((*start).max(*from))).sum()
    };
    one.iter().map(common).sum()
}

/// Asks both hosts for the VIP in ways that their kernels answer: everybody by ARP, each by an echo to its own interface.
pub struct Ear {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<[Vec<Micros>; 2]>>,
}

impl Ear {
    /// Begins, on a host of the lab.
    ///
    /// # Errors
    /// There is no such host.
    pub fn start(lab: &Lab, on: &str, every: Duration) -> anyhow::Result<Self> {
        let macs = [lab.mac(AGENT_HOSTS[0], "eth0")?, lab.mac(AGENT_HOSTS[1], "eth0")?];
        let own = lab.addresses(on)?.into_iter().find_map(|own| match own.address {
            IpAddr::V4(v4) => Some(v4),
            IpAddr::V6(_) => None,
        });
        let asker = Party {
            mac: lab.mac(on, "eth0")?,
            v4: own.context("the client has no address")?,
            v6: Ipv6Addr::UNSPECIFIED,
        };
        let vip: Ipv4Addr = VIP.parse()?;
        let wire = lab.in_host(on, || Wire::open("eth0"))??;
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let stop = Arc::clone(&stop);
            std::thread::Builder::new()
                .name("ear".to_owned())
                .spawn(move || listen(&wire, &stop, &asker, macs, vip.into(), every))?
        };
        Ok(Self { stop, thread: Some(thread) })
    }

    /// When each host answered.
    #[must_use]
    pub fn stop(mut self) -> [Vec<Micros>; 2] {
        self.stop.store(true, Ordering::Relaxed);
        // A panic there has been printed.
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn listen(
    wire: &Wire,
    stop: &AtomicBool,
    asker: &Party,
    macs: [Mac; 2],
    vip: IpAddr,
    every: Duration,
) -> [Vec<Micros>; 2] {
    crate::floor::become_real_time(EAR_PRIORITY);
    let everybody = question(Kind::Neighbour, asker, Mac([0xff; 6]), vip);
    let echoes = macs.map(|mac| question(Kind::Echo, asker, mac, vip));
    let mut heard = [Vec::new(), Vec::new()];
    let mut next = netlab::now();
    while !stop.load(Ordering::Relaxed) {
        wire.send(&everybody);
        echoes.iter().for_each(|echo| wire.send(echo));
        next = (next + every).max(netlab::now());
        loop {
            let left = next.since(netlab::now());
            if left.is_zero() {
                break;
            }
            let Some(seen) = wire.next(left) else { break };
            let of_vip = answer(&seen.frame).is_some_and(|(_, address)| address == vip);
            let sender = macs.iter().position(|mac| seen.frame.get(6..12) == Some(&mac.0[..]));
            if let (false, true, Some(host)) = (seen.is_outgoing, of_vip, sender) {
                heard[host].push(seen.at);
            }
        }
    }
    heard
}

/// As the prober: low among real-time threads.
const EAR_PRIORITY: i32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overlap_is_the_time_in_which_both_answer() {
        let ms = |at: &[u64]| at.iter().map(|at| Micros(at * 1_000)).collect::<Vec<_>>();
        let still = Duration::from_millis(3);
        let overlap = |one: &[u64], other: &[u64]| overlap([ms(one), ms(other)], still).as_millis();
        assert_eq!(overlap(&[1, 2, 3, 4], &[6, 7, 8]), 0, "one after the other");
        assert_eq!(overlap(&[1, 2, 3, 4, 5, 6], &[4, 5, 6, 7]), 2);
        assert_eq!(overlap(&[1, 2, 3, 20, 21, 22], &[2, 5, 8, 11, 14, 17, 20, 23]), 3, "twice");
        assert_eq!(overlap(&[1, 2, 3, 10, 11], &[5, 6, 7]), 0, "in a pause of the other");
        assert_eq!(overlap(&[], &[5, 6, 7]), 0);
    }
}
