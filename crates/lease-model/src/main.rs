//! `lease-model [--long] [--states N] [--walks N] [PART]`: explores the configurations, small ones or long ones, whose names
//! contain PART, breaks each rule in turn, and walks at random; prints what it found. Fails where something does not hold that
//! must, or holds that must not. `cargo xtask model` runs it.

use lease_model::configurations::{Bounds, broken, possible, safe, walked};
use lease_model::explore::{Outcome, explore};
use lease_model::model::ONE_HOLDER;
use lease_model::setup::Setup;
use lease_model::walk::walk;
use std::process::ExitCode;
use std::time::Instant;

/// Most states of one configuration: up to 6 GB of memory. What must hold may be looked at for fewer; what is to be found is
/// found within this number.
const MOST: usize = 40_000_000;
/// Steps of a walk, and from one in how many of its states recovery is looked at.
const STEPS: (usize, usize) = (1_000, 50);

struct Arguments {
    bounds: Bounds,
    states: usize,
    walks: u64,
    part: String,
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(wrong) => {
            eprintln!("lease-model: {wrong}; usage: lease-model [--long] [--states N] [--walks N] [PART]");
            return ExitCode::from(2);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    let named = |setup: &Setup| setup.name.contains(&arguments.part);
    let mut good = true;
    println!("{}", Outcome::heading());
    println!("what must hold");
    for setup in safe(arguments.bounds).iter().filter(|setup| named(setup)) {
        let outcome = explore(setup, threads, arguments.states);
        println!("{outcome}");
        good &= outcome.is_good();
    }
    println!("what must be possible");
    for setup in possible(arguments.bounds).iter().filter(|setup| named(setup)) {
        let outcome = explore(setup, threads, MOST);
        println!("{outcome}");
        good &= outcome.is_good();
    }
    println!("what must not hold: each rule broken on purpose");
    for setup in broken().iter().filter(|setup| named(setup)) {
        let outcome = explore(setup, threads, MOST);
        println!("{outcome}");
        good &= outcome.broken.contains_key(ONE_HOLDER);
    }
    println!("at random, {} walks of {} steps each", arguments.walks, STEPS.0);
    for setup in walked().iter().filter(|setup| named(setup)) {
        good &= walks(setup, arguments.walks);
    }
    println!("{}", if good { "all is as it must be" } else { "SOMETHING IS NOT AS IT MUST BE" });
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn walks(setup: &Setup, count: u64) -> bool {
    let began = Instant::now();
    for seed in 0..count {
        if let Err(fall) = walk(setup, seed, STEPS.0, STEPS.1) {
            println!("{:44} seed {seed} BROKEN: {}\n{}", setup.name, fall.broken, fall.transcript);
            return false;
        }
    }
    println!("{:44} {count} walks in {:.1} s", setup.name, began.elapsed().as_secs_f64());
    true
}

fn arguments() -> Result<Arguments, String> {
    let mut found = Arguments { bounds: Bounds::Small, states: MOST, walks: 1_000, part: String::new() };
    let mut rest = std::env::args().skip(1);
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--long" => found.bounds = Bounds::Long,
            "--states" => {
                let states = number(rest.next())?;
                found.states =
                    usize::try_from(states).map_err(|_| format!("{states} states are too many"))?;
            }
            "--walks" => found.walks = number(rest.next())?,
            part if !part.starts_with('-') && found.part.is_empty() => part.clone_into(&mut found.part),
            other => return Err(format!("what is `{other}`")),
        }
    }
    Ok(found)
}

fn number(argument: Option<String>) -> Result<u64, String> {
    let text = argument.ok_or("a number is missing")?;
    text.replace('_', "").parse().map_err(|_| format!("`{text}` is no number"))
}
