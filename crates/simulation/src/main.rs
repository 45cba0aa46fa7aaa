//! `cargo xtask simulate`: runs many histories on all cores and prints what came of them; makes a failing one small and
//! tells it line by line. Clocks and threads are here alone; no history sees them.

use simulation::{Breakage, Outcome, Scenario, run, shrink};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const HELP: &str = "\
simulate [--seeds N] [--from S] [--broken HOW] [--all]   run N histories (default 10,000), seeds S and up (default 0);
                                                         tell the first that fails, with --all only name each
simulate --seed S [--broken HOW] [--all]                 run one, and tell it if it fails, with --all in any case

HOW breaks one rule of the lease in the world itself, to see whether it is noticed.";

/// How often the figures are printed on the way, seconds.
const SAY_EVERY: u64 = 60;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match Arguments::read(&arguments) {
        Ok(arguments) => match arguments.seed {
            Some(seed) => one(seed, &arguments),
            None => many(&arguments),
        },
        Err(why) => {
            eprintln!("{why}\n\n{HELP}");
            ExitCode::from(2)
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Arguments {
    seeds: u64,
    from: u64,
    seed: Option<u64>,
    broken: Option<Breakage>,
    all: bool,
}

impl Arguments {
    fn read(words: &[String]) -> Result<Self, String> {
        let mut arguments = Self { seeds: 10_000, from: 0, seed: None, broken: None, all: false };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} wants a value"));
            match word.as_str() {
                "--seeds" => arguments.seeds = number(value()?)?,
                "--from" => arguments.from = number(value()?)?,
                "--seed" => arguments.seed = Some(number(value()?)?),
                "--broken" => arguments.broken = Some(breakage(value()?)?),
                "--all" => arguments.all = true,
                other => return Err(format!("what is {other}?")),
            }
        }
        Ok(arguments)
    }

    fn scenario(&self, seed: u64) -> Scenario {
        Scenario { breakage: self.broken, ..Scenario::new(seed) }
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.replace('_', "").parse().map_err(|_| format!("{text} is no number"))
}

fn breakage(text: &str) -> Result<Breakage, String> {
    let known = |broken: &Breakage| format!("{broken:?}").eq_ignore_ascii_case(text);
    Breakage::ALL.into_iter().find(known).ok_or_else(|| format!("one of {:?}, not {text}", Breakage::ALL))
}

fn one(seed: u64, arguments: &Arguments) -> ExitCode {
    let scenario = arguments.scenario(seed);
    let outcome = run(&scenario, arguments.all);
    if outcome.violations.is_empty() {
        print_history(&scenario, &outcome);
        println!(
            "nothing is wrong; longest outage {} us, right {} us after the mending",
            outcome.longest_outage_us, outcome.right_after_us
        );
        return ExitCode::SUCCESS;
    }
    let (small, outcome) = smallest(&scenario);
    print_history(&small, &outcome);
    ExitCode::FAILURE
}

fn smallest(scenario: &Scenario) -> (Scenario, Outcome) {
    let small = shrink(scenario);
    let outcome = run(&small, true);
    (small, outcome)
}

fn print_history(scenario: &Scenario, outcome: &Outcome) {
    let Scenario { seed, layout, weather, drift_ppm, heal_us, patience_us, .. } = scenario;
    let judged = patience_us.map_or("not judged".to_owned(), |us| format!("of at most {us} us"));
    println!("seed {seed}, {layout:?}, {weather:?}, clocks {drift_ppm:?}");
    println!("  outages {judged}, mended at {heal_us} us");
    for timed in &scenario.faults {
        println!("  {timed}");
    }
    for line in &outcome.lines {
        println!("{line}");
    }
    for violation in &outcome.violations {
        println!("WRONG: {violation}");
    }
}

/// What all histories together came to.
#[derive(Debug, Default)]
struct Sums {
    seeds: u64,
    events: u64,
    faults: u64,
    time_us: u64,
    takeovers: u64,
    lost: u64,
    doubled: u64,
    /// Histories in which outages are judged: how many, and the longest.
    judged: u64,
    longest_us: (u64, u64),
    slowest_to_mend_us: (u64, u64),
}

impl Sums {
    fn add(&mut self, scenario: &Scenario, outcome: &Outcome) {
        let counts = &outcome.counts;
        self.seeds += 1;
        self.events += counts.events;
        self.faults += counts.faults;
        self.time_us += counts.time_us;
        self.takeovers += counts.takeovers;
        self.lost += counts.lost;
        self.doubled += counts.doubled;
        if scenario.patience_us.is_some() {
            self.judged += 1;
            self.longest_us = self.longest_us.max((outcome.longest_outage_us, scenario.seed));
        }
        self.slowest_to_mend_us = self.slowest_to_mend_us.max((outcome.right_after_us, scenario.seed));
    }

    fn print(&self, took: Duration) {
        let seconds = took.as_secs_f64().max(0.001);
        println!(
            "{} histories, {:.0} simulated hours, {:.0} s; {} events, {:.0} a second; {} faults, {} takeovers, {} \
             datagrams lost, {} doubled",
            self.seeds,
            self.time_us as f64 / 3.6e9,
            seconds,
            self.events,
            self.events as f64 / seconds,
            self.faults,
            self.takeovers,
            self.lost,
            self.doubled,
        );
        let (longest, seed) = self.longest_us;
        println!(
            "{} of few faults, in which outages are judged; the longest took {:.1} ms (seed {seed})",
            self.judged,
            longest as f64 / 1e3
        );
        let (slowest, seed) = self.slowest_to_mend_us;
        println!("slowest to come right: {:.1} s (seed {seed})", slowest as f64 / 1e6);
    }
}

#[expect(clippy::disallowed_methods, reason = "the driver may look at a clock, histories may not")]
fn many(arguments: &Arguments) -> ExitCode {
    let begun = std::time::Instant::now();
    let next = AtomicU64::new(arguments.from);
    let said = AtomicU64::new(SAY_EVERY);
    let end = arguments.from.saturating_add(arguments.seeds);
    let (sums, failed) = (Mutex::new(Sums::default()), Mutex::new(None::<u64>));
    let (stop, failures) = (AtomicBool::new(false), AtomicU64::new(0));
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let scenario = arguments.scenario(seed);
                    let outcome = run(&scenario, false);
                    if let Some(violation) = outcome.violations.first() {
                        if arguments.all {
                            println!("seed {seed}: {violation}");
                            failures.fetch_add(1, Ordering::Relaxed);
                            continue;
                        }
                        stop.store(true, Ordering::Relaxed);
                        let mut failed = failed.lock().expect("no thread panics with it");
                        *failed = Some(failed.map_or(seed, |known| known.min(seed)));
                        return;
                    }
                    let mut sums = sums.lock().expect("no thread panics with it");
                    sums.add(&scenario, &outcome);
                    let seconds = begun.elapsed().as_secs();
                    if seconds >= said.load(Ordering::Relaxed) {
                        said.store(seconds + SAY_EVERY, Ordering::Relaxed);
                        sums.print(begun.elapsed());
                    }
                }
            });
        }
    });
    sums.lock().expect("all threads have ended").print(begun.elapsed());
    let failed = *failed.lock().expect("all threads have ended");
    match failed {
        None if failures.load(Ordering::Relaxed) == 0 => ExitCode::SUCCESS,
        None => {
            println!("{} failed", failures.load(Ordering::Relaxed));
            ExitCode::FAILURE
        }
        Some(seed) => one(seed, arguments),
    }
}
