//! `bench false-takeovers`: nothing fails, but the machine has no processor to spare. Every takeover is one too many.
//! All contenders run at
//! the same time, so that they have the same minutes.

use crate::both::{Ear, answers_of, overlap};
use crate::busy::Busy;
use crate::keepalived::{self, Keepalived, Tuning};
use crate::ours::{Ours, SERVERS};
use crate::sample::us;
use domain::Profile;
use netlab::{Lab, ProbeSettings, Prober};
use rehearsal::{CLIENT, SIP_PORT, VIP};
use serde::Serialize;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// How often each is asked: six are asked at once, on a machine that is busy anyway.
const EVERY: Duration = Duration::from_millis(5);
/// Answers at most this far apart belong together.
const STILL: Duration = Duration::from_millis(15);

/// Arguments of the benchmark.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// How long with each number of loops
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=600))]
    minutes: u64,
    /// Numbers of loops that want all of a processor
    #[arg(long, value_delimiter = ',', default_values_t = [2, 8])]
    loops: Vec<u32>,
    /// Print JSON in place of a table
    #[arg(long)]
    json: bool,
    /// The binary under test
    #[arg(long, env = "TAKEOVER_BIN", value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// What one contender did beside so many loops.
#[derive(Debug, Serialize)]
struct Row {
    loops: u32,
    who: String,
    /// Role changes, as the product itself records them; each of them without a reason.
    takeovers: usize,
    /// For how long both hosts answered SIP OPTIONS and, by their kernels, ARP and echo, µs.
    dual_us: [u64; 2],
    /// The longest time without an answer, µs: servers, too, wait for a processor.
    longest_gap_us: u64,
}

enum Contender {
    Ours(&'static str, Box<Ours>),
    Theirs(&'static str, Box<Keepalived>),
}

impl Contender {
    fn who(&self) -> &'static str {
        match self {
            Contender::Ours(who, _) | Contender::Theirs(who, _) => who,
        }
    }

    fn lab(&self) -> &Lab {
        match self {
            Contender::Ours(_, ours) => ours.lab(),
            Contender::Theirs(_, theirs) => theirs.lab(),
        }
    }

    fn tags(&self) -> [&str; 2] {
        match self {
            Contender::Ours(..) => SERVERS,
            Contender::Theirs(_, theirs) => theirs.tags().into(),
        }
    }

    fn role_changes(&self) -> anyhow::Result<usize> {
        match self {
            Contender::Ours(_, ours) => ours.role_changes(),
            Contender::Theirs(_, theirs) => Ok(theirs.role_changes()),
        }
    }
}

/// Runs the benchmark inside namespaces of its own and prints the figures.
///
/// # Errors
/// Something could not be built.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let binary = crate::binary(arguments.binary.as_deref())?;
    let mut contenders = Vec::new();
    for (who, profile, real_time) in [
        ("takeover, normal", Profile::Normal, true),
        ("takeover, normal, no real-time", Profile::Normal, false),
        ("takeover, fast", Profile::Fast, true),
        ("takeover, fast, no real-time", Profile::Fast, false),
    ] {
        eprintln!("{who}: starting");
        contenders.push(Contender::Ours(who, Box::new(Ours::start_with(&binary, profile, real_time)?)));
    }
    if let Some((program, version)) = keepalived::find()? {
        eprintln!("{version}");
        for (who, tuning) in
            [("keepalived, 10 ms", Tuning::Best), ("keepalived, 10 ms, real-time", Tuning::BestRealTime)]
        {
            let theirs = Keepalived::start(&binary, &program, tuning)?;
            contenders.push(Contender::Theirs(who, Box::new(theirs)));
        }
    }
    let mut rows = Vec::new();
    for loops in &arguments.loops {
        rows.extend(beside(*loops, Duration::from_secs(60 * arguments.minutes), &contenders)?);
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        print!("{}", text(&rows, arguments.minutes));
    }
    Ok(())
}

fn beside(loops: u32, time: Duration, contenders: &[Contender]) -> anyhow::Result<Vec<Row>> {
    eprintln!("{loops} loops: {} s", time.as_secs());
    let mut watched = Vec::new();
    for contender in contenders {
        let target = SocketAddr::new(VIP.parse::<IpAddr>()?, SIP_PORT);
        let settings = ProbeSettings { every: EVERY, ..ProbeSettings::new(target) };
        let prober = Prober::start(contender.lab(), CLIENT, settings)?;
        let ear = Ear::start(contender.lab(), CLIENT, EVERY)?;
        watched.push((contender, prober, ear, contender.role_changes()?));
    }
    let busy = Busy::start(loops)?;
    std::thread::sleep(time);
    drop(busy);
    let mut rows = Vec::new();
    for (contender, prober, ear, before) in watched {
        let seen = prober.stop();
        let sip = contender.tags().map(|tag| answers_of(&seen, tag));
        rows.push(Row {
            loops,
            who: contender.who().to_owned(),
            takeovers: contender.role_changes()?.saturating_sub(before),
            dual_us: [us(overlap(sip, STILL)), us(overlap(ear.stop(), STILL))],
            longest_gap_us: seen.longest_gap().map_or(0, |gap| us(gap.length())),
        });
    }
    Ok(rows)
}

fn text(rows: &[Row], minutes: u64) -> String {
    let mut text = format!("machine: {}\n\n{minutes} min each, nothing failed\n", crate::machine());
    let _ = writeln!(
        text,
        "{:>5} {:<32} {:>9} {:>12} {:>12} {:>16}",
        "loops", "who", "takeovers", "both SIP, ms", "both ARP, ms", "longest gap, ms"
    );
    let ms = |us: u64| format!("{:.1}", us as f64 / 1_000.0);
    for row in rows {
        let [sip, kernel] = row.dual_us.map(ms);
        let gap = ms(row.longest_gap_us);
        let _ = writeln!(
            text,
            "{:>5} {:<32} {:>9} {sip:>12} {kernel:>12} {gap:>16}",
            row.loops, row.who, row.takeovers
        );
    }
    text
}
