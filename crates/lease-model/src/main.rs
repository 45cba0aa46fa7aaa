//! probe
use lease_model::configurations::*;
use lease_model::explore::{explore, Outcome};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let most: usize = args.get(1).map_or(20_000_000, |a| a.parse().unwrap());
    let all = match args[0].as_str() { "safe" => safe(Bounds::Small), "long" => safe(Bounds::Long), "possible" => possible(), _ => broken() };
    println!("{}", Outcome::heading());
    for setup in all {
        if args.get(2).is_some_and(|part| !setup.name.contains(part.as_str())) { continue; }
        println!("{}", explore(&setup, 2, most));
    }
}
