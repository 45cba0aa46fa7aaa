//! What the gate costs, how exactly it closes when its holder is stopped, and whether late stores can hold it open:
//! `cargo bench -p vip-control`, as root. `-- 60` makes it fuzz for 60 seconds, `-- 60 200` stop the holder 200 times.
//!
//! A client asks for everything that a host's kernel answers by itself (ARP, ICMP, UDP, TCP, and their like of IPv6), and a
//! tap behind the gate sees, with the kernel's own time stamps, what leaves the host. It prints figures and never fails because
//! of them.

use domain::{Epoch, InterfaceName, Micros, VipAddress};
use netlab::wire::{Kind, Party, Wire, question, speaks_for};
use netlab::{Lab, Nic, Place, enter, now};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use vip_control::gate::{Gate, MOST_VIPS, left, support};
use vip_control::{Validity, VipController};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const V4: &str = "192.0.2.10/24";
const V6: &str = "2001:db8::10/64";
const HOST: Nic<'_> = Nic { segment: "lan", name: "eth0", addresses: &["192.0.2.11/24", "2001:db8::11/64"] };
const CLIENT: Nic<'_> =
    Nic { segment: "lan", name: "eth0", addresses: &["192.0.2.100/24", "2001:db8::100/64"] };

/// Pause between two rounds of questions.
const PACE: Duration = Duration::from_micros(200);
/// The holder whose stop is timed.
const TIMED: Settings =
    Settings { lease_ms: 200, renewal_ms: 50, stall_us: 0, releases: false, is_relative: false };
/// The holder that is stopped again and again: its lease is short, and it takes its time between deciding and storing.
const FUZZED: Settings =
    Settings { lease_ms: 50, renewal_ms: 10, stall_us: 2_000, releases: true, is_relative: false };
/// What R2 grants the gate beyond its deadline.
const SLACK: Duration = Duration::from_millis(1);
/// Frames that follow each other so closely are one episode.
const EPISODE: Duration = Duration::from_millis(5);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let outcome = match arguments.split_first() {
        Some((role, settings)) if role == "hold" => hold(settings),
        _ => run(&arguments),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Outcome<ExitCode> {
    if let Place::Outside(code) = enter()? {
        return Ok(code.into());
    }
    let number = |at: usize, or: u64| arguments.get(at).map_or(Ok(or), |text| text.parse());
    let (seconds, trials) = (number(0, 60)?, number(1, 50)?);
    let cores = std::thread::available_parallelism()?.get();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    println!("{cores} cores, Linux {}\n", kernel.trim());
    let mut lab = Lab::new()?;
    lab.host("host", &[HOST])?;
    lab.host("client", &[CLIENT])?;
    lab.in_host("host", costs)??;
    let stage = Stage::build(&lab)?;
    for (load, busy) in [("calm", 0), ("all cores saturated", cores)] {
        let late = loaded(busy, || stage.stop_trials(trials))?;
        println!("last frame minus deadline, holder stopped at random, {load}: {}", percentiles(late));
    }
    println!();
    for (name, settings) in [
        ("absolute deadline, as built", FUZZED),
        ("relative time-out, the counter-example", Settings { is_relative: true, ..FUZZED }),
    ] {
        let found = stage.fuzz(Duration::from_secs(seconds), settings)?;
        println!("late stores, {seconds} s, {name}: {found}");
    }
    Ok(ExitCode::SUCCESS)
}

/// What single calls and frames cost.
fn costs() -> Outcome<()> {
    const CALLS: u32 = 1_000_000;
    let support = support();
    for part in &support.parts {
        if let Some(problem) = &part.problem {
            return Err(format!("{}: {problem}", part.name).into());
        }
    }
    println!("each frame of a VIP, in the kernel: {:?}", support.frame_cost.unwrap_or_default());
    let eth0 = InterfaceName::new("eth0")?;
    let vips: Vec<VipAddress> =
        (0..500).map(|n| format!("10.0.{}.{}/16", n / 250, n % 250 + 1).parse()).collect::<Result<_, _>>()?;
    for count in [2, vips.len()] {
        let vips = &vips[..count];
        let begun = Instant::now();
        let mut gate = Gate::open(vips.iter().map(|vip| (vip, &eth0)))?;
        let opened = begun.elapsed();
        let until = now() + Duration::from_secs(50);
        let begun = Instant::now();
        for n in 0..CALLS {
            gate.authorise(&vips[n as usize % count], Epoch(2), until)?;
        }
        let authorised = begun.elapsed() / CALLS;
        let begun = Instant::now();
        for n in 0..CALLS {
            gate.close_and_fence(&vips[n as usize % count], Epoch(n.into()))?;
        }
        let closed = begun.elapsed() / CALLS;
        let begun = Instant::now();
        let holes = gate.check();
        let checked = begun.elapsed();
        assert!(holes.is_empty(), "{holes:?}");
        println!(
            "{count} VIPs of {MOST_VIPS}: authorise {authorised:?}, close {closed:?}, check {checked:?}, open {opened:?}"
        );
        drop(gate);
        left()?.remove()?;
    }
    println!();
    Ok(())
}

/// A host with VIPs and a client.
struct Stage<'a> {
    lab: &'a Lab,
    vips: [VipAddress; 2],
    wire: Wire,
    questions: Vec<Vec<u8>>,
}

impl<'a> Stage<'a> {
    fn build(lab: &'a Lab) -> Outcome<Self> {
        let vips: [VipAddress; 2] = [V4.parse()?, V6.parse()?];
        lab.in_host("host", || -> Outcome<()> {
            let mut controller = VipController::open()?;
            for vip in &vips {
                controller.enable(vip, &InterfaceName::new("eth0")?, Validity::Permanent)?;
            }
            // Every question is answered.
            for setting in ["ipv4/icmp_ratelimit", "ipv6/icmp/ratelimit"] {
                std::fs::write(format!("/proc/sys/net/{setting}"), "0")?;
            }
            Ok(())
        })??;
        let asker = Party {
            mac: lab.mac("client", "eth0")?,
            v4: "192.0.2.100".parse()?,
            v6: "2001:db8::100".parse()?,
        };
        let host = lab.mac("host", "eth0")?;
        let of = |vip: &VipAddress| Kind::ALL.map(|kind| question(kind, &asker, host, vip.address));
        let questions = vips.iter().flat_map(of).collect();
        let wire = lab.in_host("client", || Wire::open("eth0"))??;
        Ok(Self { lab, vips, wire, questions })
    }

    /// Asks all the time while `work` is done.
    fn asked<T>(&self, work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // So that a busy machine delays the questions as little as the frames that answer them.
                become_real_time();
                while !done.load(Ordering::Relaxed) {
                    self.questions.iter().for_each(|question| self.wire.send(question));
                    self.wire.seen();
                    std::thread::sleep(PACE);
                }
            });
            let outcome = work();
            done.store(true, Ordering::Relaxed);
            outcome
        })
    }

    /// Microseconds from the deadline to the last frame, for each of the VIPs and stops.
    fn stop_trials(&self, trials: u64) -> Outcome<Vec<i64>> {
        let mut late = Vec::new();
        let mut chance = Chance::new();
        for _ in 0..trials {
            let tap = self.lab.in_host("host", || Wire::open("eth0"))??;
            let mut holder = self.start(TIMED)?;
            let mut frames = Vec::new();
            self.asked(|| {
                let stop = now()
                    + Duration::from_micros(250_000 + chance.below(u64::from(TIMED.renewal_ms) * 1_000));
                self.listen(&tap, stop, &mut frames);
                kill(Pid::from_raw(holder.id().cast_signed()), Signal::SIGSTOP)?;
                self.listen(&tap, now() + 2 * TIMED.lease(), &mut frames);
                Ok(())
            })?;
            let until = self.lab.in_host("host", || -> Outcome<[Micros; 2]> {
                let gate = Gate::open([])?;
                let until = |vip| gate.state(vip, now()).map(|state| state.until).ok_or("not managed");
                Ok([until(&self.vips[0])?, until(&self.vips[1])?])
            })??;
            end(&mut holder)?;
            for (n, until) in until.into_iter().enumerate() {
                let last = frames
                    .iter()
                    .filter(|(vip, _)| *vip == n)
                    .map(|(_, at)| *at)
                    .max()
                    .ok_or("no answers")?;
                late.push(last.0.cast_signed() - until.0.cast_signed());
            }
        }
        Ok(late)
    }

    /// Stops and continues a holder at random and counts how often the host spoke for a VIP without authority.
    fn fuzz(&self, how_long: Duration, settings: Settings) -> Outcome<String> {
        let log = self.lab.directory("host")?.join("run/authority");
        let mut chance = Chance::new();
        let (mut episodes, mut worst, mut stops, mut heard) = (0, Duration::ZERO, 0, 0);
        let end_of_all = now() + how_long;
        while now() < end_of_all {
            let tap = self.lab.in_host("host", || Wire::open("eth0"))??;
            let mut holder = self.start(settings)?;
            let pid = Pid::from_raw(holder.id().cast_signed());
            let mut frames = Vec::new();
            let end_of_round = end_of_all.min(now() + Duration::from_secs(5));
            self.asked(|| {
                while now() < end_of_round {
                    self.listen(&tap, now() + Duration::from_micros(chance.below(40_000)), &mut frames);
                    kill(pid, Signal::SIGSTOP)?;
                    self.listen(&tap, now() + Duration::from_micros(chance.below(200_000)), &mut frames);
                    kill(pid, Signal::SIGCONT)?;
                    stops += 1;
                }
                kill(pid, Signal::SIGSTOP)?;
                self.listen(&tap, now() + 3 * settings.lease(), &mut frames);
                Ok(())
            })?;
            end(&mut holder)?;
            heard += frames.len();
            let authority = read_log(&log)?;
            let mut before = Micros(0);
            frames.sort_by_key(|(_, at)| *at);
            for (_, at) in frames {
                let excess = at.since(authorised_until(&authority, at));
                if excess > SLACK {
                    episodes += u32::from(before + EPISODE < at);
                    (before, worst) = (at, worst.max(excess));
                }
            }
        }
        Ok(format!(
            "{episodes} episodes, the longest {worst:?} past its authority ({stops} stops, {heard} frames)"
        ))
    }

    /// Gathers the frames for VIPs that leave the host, with the VIP's number, until some time.
    fn listen(&self, tap: &Wire, until: Micros, frames: &mut Vec<(usize, Micros)>) {
        while now() < until {
            if let Some(seen) = tap.next(Duration::from_millis(1)).filter(|seen| seen.is_outgoing) {
                let about = self.vips.iter().position(|vip| speaks_for(&seen.frame, vip.address));
                frames.extend(about.map(|vip| (vip, seen.at)));
            }
        }
    }

    fn start(&self, settings: Settings) -> Outcome<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("hold").args(settings.to_arguments()).stdout(Stdio::piped());
        let mut holder = self.lab.spawn("host", command)?;
        let output = holder.stdout.as_mut().ok_or("no output")?;
        if BufReader::new(output).read_line(&mut String::new())? == 0 {
            return Err("the holder did not start".into());
        }
        Ok(holder)
    }
}

/// What a holder does.
#[derive(Clone, Copy)]
struct Settings {
    lease_ms: u32,
    renewal_ms: u32,
    /// At most so long between deciding and storing.
    stall_us: u64,
    /// Now and then it closes the gate, and goes on under a later epoch.
    releases: bool,
    /// It stores what was left when it decided, from when it stores: what must not be done (R3).
    is_relative: bool,
}

impl Settings {
    fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms.into())
    }

    fn to_arguments(self) -> [String; 5] {
        let Self { lease_ms, renewal_ms, stall_us, releases, is_relative } = self;
        [
            lease_ms.to_string(),
            renewal_ms.to_string(),
            stall_us.to_string(),
            releases.to_string(),
            is_relative.to_string(),
        ]
    }

    fn from_arguments(arguments: &[String]) -> Outcome<Self> {
        let [lease, renewal, stall, releases, is_relative] = arguments else {
            return Err("five settings".into());
        };
        Ok(Self {
            lease_ms: lease.parse()?,
            renewal_ms: renewal.parse()?,
            stall_us: stall.parse()?,
            releases: releases.parse()?,
            is_relative: is_relative.parse()?,
        })
    }
}

/// The role of a holder: writes down what it may do before it does it, and that it may no more after it has stopped doing it.
fn hold(arguments: &[String]) -> Outcome<ExitCode> {
    let settings = Settings::from_arguments(arguments)?;
    let (vips, eth0) = ([V4.parse()?, V6.parse()?], InterfaceName::new("eth0")?);
    let mut gate = Gate::open(vips.iter().map(|vip| (vip, &eth0)))?;
    let mut log = File::create(Path::new("/run/takeover/authority"))?;
    let mut chance = Chance::new();
    let mut epoch =
        gate.fence(&vips[0]).ok_or("not managed")?.max(gate.fence(&vips[1]).ok_or("not managed")?);
    let mut is_first = true;
    loop {
        let decided = now();
        let until = decided + settings.lease();
        note(&mut log, decided, until)?;
        spin(Duration::from_micros(chance.below(settings.stall_us + 1)));
        let until = if settings.is_relative { now() + settings.lease() } else { until };
        for vip in &vips {
            gate.authorise(vip, epoch, until)?;
        }
        if std::mem::take(&mut is_first) {
            println!("ready");
            std::io::stdout().flush()?;
        }
        if settings.releases && chance.below(10) == 0 {
            for vip in &vips {
                gate.close_and_fence(vip, epoch)?;
            }
            let released = now();
            note(&mut log, released, released)?;
            epoch = Epoch(epoch.0 + 2);
        }
        std::thread::sleep(Duration::from_millis(settings.renewal_ms.into()));
    }
}

/// When something was decided, and until when the VIPs may be spoken for from then on.
fn note(log: &mut File, at: Micros, until: Micros) -> Outcome<()> {
    let mut record = [0; 16];
    record[..8].copy_from_slice(&at.0.to_ne_bytes());
    record[8..].copy_from_slice(&until.0.to_ne_bytes());
    Ok(log.write_all(&record)?)
}

fn read_log(path: &Path) -> Outcome<Vec<(Micros, Micros)>> {
    let bytes = std::fs::read(path)?;
    let number =
        |bytes: &[u8]| bytes.first_chunk().map_or(Micros(0), |bytes| Micros(u64::from_ne_bytes(*bytes)));
    Ok(bytes.chunks_exact(16).map(|record| (number(record), number(&record[8..]))).collect())
}

/// Until when there was authority, as far as was decided by `at`.
fn authorised_until(log: &[(Micros, Micros)], at: Micros) -> Micros {
    let decided = log.partition_point(|(decided, _)| *decided <= at);
    log[..decided].last().map_or(Micros(0), |(_, until)| *until)
}

/// Does `work` beside so many threads that do nothing, as fast as they can.
fn loaded<T>(threads: usize, work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let outcome = work();
        done.store(true, Ordering::Relaxed);
        outcome
    })
}

fn spin(how_long: Duration) {
    let end = Instant::now() + how_long;
    while Instant::now() < end {
        std::hint::spin_loop();
    }
}

fn percentiles(mut values: Vec<i64>) -> String {
    values.sort_unstable();
    let at = |percent: usize| values[(values.len() * percent).div_ceil(100).max(1) - 1] as f64 / 1_000.0;
    format!("p50 {:.2} ms, p95 {:.2} ms, max {:.2} ms ({} values)", at(50), at(95), at(100), values.len())
}

fn end(child: &mut Child) -> Outcome<()> {
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// Where it is not allowed the thread stays an ordinary one.
fn become_real_time() {
    let parameters = libc::sched_param { sched_priority: 50 };
    // SAFETY: the parameters are read during the call only; 0 is the calling thread.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) };
}

/// xorshift64*, from the time.
struct Chance(u64);

impl Chance {
    fn new() -> Self {
        Self(now().0 | 1)
    }

    /// Zero where there is no choice.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % bound.max(1)
    }
}
