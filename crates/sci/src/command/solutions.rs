//! `takeover solutions`: ordered sets of applications, started and stopped as one.

use super::out::Out;
use super::{Exit, Failure, Options};
use crate::api::{Accepted, Because, Solutions as All, Stop};
use crate::client::Client;
use crate::render;
use clap::{Args, Subcommand};
use domain::{SolutionName, SolutionStatus};
use ha_core::SolutionView;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Time between two looks at an order that is under way.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Within what time an order is seen that was taken.
const SHOWN_WITHIN: Duration = Duration::from_secs(2);

/// Arguments of `solutions`.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Solutions {
    /// Show, start or stop one.
    #[command(subcommand)]
    pub verb: Option<SolutionVerb>,
    /// Where the SCS is and how to answer.
    #[command(flatten)]
    pub options: Options,
}

/// Verbs below `solutions`.
#[derive(Debug, Clone, Subcommand)]
pub enum SolutionVerb {
    /// Show one with its applications
    Show {
        /// The solution
        solution: SolutionName,
        /// Where the SCS is and how to answer.
        #[command(flatten)]
        options: Options,
    },
    /// Start its applications in their order; each is waited for, 10 minutes at the most
    Start {
        /// The solution
        solution: SolutionName,
        /// Why, for the log and the audit
        #[arg(long, value_name = "TEXT", default_value_t, hide_default_value = true)]
        reason: String,
        /// Where the SCS is and how to answer.
        #[command(flatten)]
        options: Options,
    },
    /// Stop its applications in the opposite order; never a failure: nothing is restarted, nothing fails over
    Stop {
        /// The solution
        solution: SolutionName,
        /// Let each finish what is in hand first, a day at the most
        #[arg(long)]
        graceful: bool,
        /// Why, for the log and the audit
        #[arg(long, value_name = "TEXT", default_value_t, hide_default_value = true)]
        reason: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
        /// Where the SCS is and how to answer.
        #[command(flatten)]
        options: Options,
    },
}

impl Solutions {
    pub(super) fn options(&self) -> &Options {
        match &self.verb {
            Some(
                SolutionVerb::Show { options, .. }
                | SolutionVerb::Start { options, .. }
                | SolutionVerb::Stop { options, .. },
            ) => options,
            None => &self.options,
        }
    }
}

pub(super) async fn run(client: &Client, args: Solutions, out: &Out) -> Result<Exit, Failure> {
    match args.verb {
        None => {
            let all: All = client.get("/solutions", &()).await?;
            if out.json {
                out.json(&all)?;
            } else {
                out.text(&render::solutions(&all.solutions, all.at, &out.look))?;
            }
            Ok(Exit::Done)
        }
        Some(SolutionVerb::Show { solution, .. }) => {
            let solution: SolutionView = client.get(&format!("/solutions/{solution}"), &()).await?;
            if out.json {
                out.json(&solution)?;
            } else {
                out.text(&render::solution(&solution, &out.look))?;
            }
            Ok(Exit::Done)
        }
        Some(SolutionVerb::Start { solution, reason, .. }) => {
            let accepted: Accepted =
                client.post(&format!("/solutions/{solution}/start"), &Because { reason }).await?;
            until_the_end(client, &solution, &accepted, SolutionStatus::Started, out).await
        }
        Some(SolutionVerb::Stop { solution, graceful, reason, yes, .. }) => {
            if !yes {
                let found: SolutionView = client.get(&format!("/solutions/{solution}"), &()).await?;
                out.confirm(&format!("{}Stop all of it?", render::solution(&found, &out.look)))?;
            }
            let accepted: Accepted =
                client.post(&format!("/solutions/{solution}/stop"), &Stop { graceful, reason }).await?;
            until_the_end(client, &solution, &accepted, SolutionStatus::Stopped, out).await
        }
    }
}

/// Waits until the order has ended, and tells how. The order goes on where this is broken off.
async fn until_the_end(
    client: &Client,
    name: &SolutionName,
    accepted: &Accepted,
    wanted: SolutionStatus,
    out: &Out,
) -> Result<Exit, Failure> {
    if !out.json {
        out.line(&accepted.text)?;
    }
    let (begun, mut waits_for) = (Instant::now(), None);
    let ended: SolutionView = loop {
        let solution: SolutionView = client.get(&format!("/solutions/{name}"), &()).await?;
        match &solution.order {
            Some(order) if waits_for != Some(order.at.clone()) => {
                if let (Some(app), false) = (&order.at, out.json) {
                    out.line(&format!("waits for {app}"))?;
                }
                waits_for = Some(order.at.clone());
            }
            Some(_) => {}
            // What is shown follows the order by a moment.
            None if waits_for.is_some() || solution.status == wanted || begun.elapsed() > SHOWN_WITHIN => {
                break solution;
            }
            None => {}
        }
        sleep(LOOK_EVERY).await;
    };
    if out.json {
        out.json(&ended)?;
    } else if ended.status == wanted {
        out.line(&format!("{name} is {wanted}"))?;
    }
    if ended.status == wanted {
        return Ok(Exit::Done);
    }
    let SolutionView { status, reason, .. } = ended;
    out.remark(&format!(
        "error: {name} is {status}: {reason}; `takeover log --id 70-00327` says why the order ended"
    ));
    Ok(Exit::Refused)
}
