//! `takeover demo`: a whole installation on this machine, in namespaces of its own, of which nothing remains. On a terminal
//! it is shown live and obeys keys (`live`, `picture`, `terminal`); otherwise, and when asked, it runs workflows and checks
//! them (`workflow`, `report`). The installation itself is `stage`.

mod doorway;
mod live;
mod picture;
mod report;
mod stage;
mod terminal;
mod workflow;

use anyhow::Context;
use clap::{Args, ValueEnum};
use doorway::Doorway;
use netlab::Place;
use stage::{Run, Stage};
use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;
use workflow::Workflow;

/// Arguments of `takeover demo`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
On a terminal the demo shows the pair live, and keys do to it what happens to installations: s orders a switchover, \
k kills the primary's server, h hangs it, c cuts its host off, r connects it again, a kills or restarts an agent, q ends \
the demo. After each change the incident's numbered steps are shown, and how long the client was without an answer. \
From another terminal the command line can be used against it: the demo says how.

With --workflow, or where there is no terminal, it runs workflows instead, checks every step, measures, and ends:
  manual        an operator orders a switchover
  failure       the primary's process is killed
  disconnected  the primary's host is cut off
  reconnected   it comes back (it is cut off first, where it is not)
Each further run goes the other way. The outage is the time from the last answer of the old primary to the first of \
the new one, seen by a client that sends a SIP OPTIONS to the VIP every millisecond.

It needs no rights and nothing to be installed: hosts are network namespaces, which the kernel makes for whoever asks. \
Nothing remains of them however the demo ends.

Exit codes:
  0        every step happened in order, one host alone answered at the end, every outage was within its bound
  1        not so, or the demo could not run
  2        the command line is wrong
  128 + N  ended by signal N

Examples:
  takeover demo
  takeover demo --workflow all
  takeover demo --workflow failure --runs 100 --json")]
pub struct Arguments {
    /// Run this workflow without interaction, check it and measure it [without a terminal: all]
    #[arg(long, value_enum)]
    workflow: Option<Choice>,
    /// How often each workflow is run, at most 1000 times [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    runs: Option<u32>,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Choice {
    /// An operator orders a switchover
    Manual,
    /// The primary's process is killed
    Failure,
    /// The primary's host is cut off
    Disconnected,
    /// The host that was cut off comes back
    Reconnected,
    /// The four, one after the other
    All,
}

impl Choice {
    fn workflows(self) -> Vec<Workflow> {
        match self {
            Choice::Manual => vec![Workflow::Manual],
            Choice::Failure => vec![Workflow::Failure],
            Choice::Disconnected => vec![Workflow::Disconnected],
            Choice::Reconnected => vec![Workflow::Reconnected],
            Choice::All => Workflow::ALL.to_vec(),
        }
    }
}

impl Arguments {
    fn is_interactive(&self) -> bool {
        self.workflow.is_none() && self.runs.is_none() && !self.json && terminal::is_usable()
    }
}

/// Runs it. To be called before any thread is started.
///
/// # Errors
/// The namespaces could not be entered, or the installation did not come up; a workflow that fails is no error but the
/// exit code.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let interactive = arguments.is_interactive();
    let saved = interactive.then(terminal::Saved::now).transpose()?;
    // Before the namespaces are entered: what is opened here is seen from outside.
    let doorway = Doorway::open();
    match netlab::enter()? {
        Place::Outside(code) => {
            if let Some(saved) = saved {
                saved.restore_if_changed();
            }
            Ok(ExitCode::from(code))
        }
        Place::Inside => inside(arguments, interactive, doorway),
    }
}

fn inside(
    arguments: &Arguments,
    interactive: bool,
    doorway: anyhow::Result<Doorway>,
) -> anyhow::Result<ExitCode> {
    let begun = Instant::now();
    // People want to see that something happens; programs read standard output.
    let say = |text: &str| eprintln!("[{:5.2} s] {text}", begun.elapsed().as_secs_f64());
    let doorway = doorway.inspect_err(|error| say(&format!("no use from outside: {error:#}"))).ok();
    let mut stage = Stage::build(doorway.as_ref(), &say)?;
    let outside = doorway
        .map(|doorway| picture::Outside { source: doorway.source_command(), program: own_path(&stage) });
    if interactive {
        live::run(&mut stage, outside.as_ref())?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(outside) = &outside {
        say(&format!(
            "to watch from another terminal: {}; {} status --watch",
            outside.source, outside.program
        ));
    }
    let runs = run_workflows(arguments, &mut stage, &say)?;
    if arguments.json {
        print(&(report::json(&runs).context("the results cannot be written as JSON")? + "\n"))?;
    } else {
        print(&report::summary(&runs))?;
    }
    let passed = runs.iter().all(Run::passed);
    if !passed {
        eprintln!("takeover: a workflow failed; the end of what the parts said:\n{}", stage.site.logs());
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How this program can be called from where the user is now, as short as that may be.
fn own_path(stage: &Stage) -> String {
    let path = stage.site.takeover();
    let below = std::env::current_dir().ok().and_then(|here| path.strip_prefix(here).ok());
    below.map_or_else(|| path.display().to_string(), |below| format!("./{}", below.display()))
}

/// Runs what is asked for. A run that fails is the last: what comes after it would only tell of its consequences.
fn run_workflows(arguments: &Arguments, stage: &mut Stage, say: &dyn Fn(&str)) -> anyhow::Result<Vec<Run>> {
    let workflows = arguments.workflow.unwrap_or(Choice::All).workflows();
    let times = arguments.runs.unwrap_or(1);
    let mut runs = Vec::new();
    for number in 1..=times {
        for workflow in &workflows {
            say(&format!("{}, run {number} of {times}", workflow.kind()));
            let run = stage.run(*workflow);
            if !arguments.json {
                print(&report::run(&run, number, times))?;
            }
            let passed = run.passed();
            runs.push(run);
            if !passed {
                return Ok(runs);
            }
        }
    }
    Ok(runs)
}

/// To standard output; whoever reads it may have gone.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot write the results")
}
