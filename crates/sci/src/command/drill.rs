//! `takeover drill`: switchovers that are practised at a time that was chosen.

use super::out::Out;
use super::time::{parse_coming, parse_days};
use super::{Exit, Failure, Options, order};
use crate::api::{Drills, NewDrill, Status};
use crate::client::Client;
use crate::render;
use clap::{Args, Subcommand};
use domain::{Micros, PairName};

/// Arguments of `drill`.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Drill {
    /// Change them.
    #[command(subcommand)]
    pub verb: Option<DrillVerb>,
    /// Of this pair
    #[arg(long)]
    pub pair: Option<PairName>,
    /// Where the SCS is and how to answer.
    #[command(flatten)]
    pub options: Options,
}

/// Verbs below `drill`.
#[derive(Debug, Clone, Subcommand)]
pub enum DrillVerb {
    /// Schedule a drill; it is skipped where anything speaks against it then
    Add {
        /// The pair
        pair: PairName,
        /// When: '2026-01-31 03:00', 'sun 03:00' or 03:00 for the next of these, or in how long: 10m, 2h
        #[arg(long, value_name = "TIME", value_parser = parse_coming)]
        at: Micros,
        /// Again every so many days, 1d to 366d; 7d is weekly
        #[arg(long = "every", value_name = "DAYS", value_parser = parse_days)]
        every_days: Option<u16>,
        /// Bring service back when the switchover was verified
        #[arg(long)]
        back: bool,
        /// Why, for the log and the audit
        #[arg(long, value_name = "TEXT", default_value_t, hide_default_value = true)]
        reason: String,
        /// Where the SCS is and how to answer.
        #[command(flatten)]
        options: Options,
    },
    /// Remove a drill; one under way is not stopped by that
    Remove {
        /// The pair
        pair: PairName,
        /// Its number
        number: u64,
        /// Where the SCS is and how to answer.
        #[command(flatten)]
        options: Options,
    },
}

impl Drill {
    pub(super) fn options(&self) -> &Options {
        match &self.verb {
            Some(DrillVerb::Add { options, .. } | DrillVerb::Remove { options, .. }) => options,
            None => &self.options,
        }
    }
}

pub(super) async fn run(client: &Client, args: Drill, out: &Out) -> Result<Exit, Failure> {
    match args.verb {
        Some(DrillVerb::Add { pair, at, every_days, back, reason, .. }) => {
            let body = NewDrill { at, every_days, back, reason };
            order::post(client, &format!("/pairs/{pair}/drills"), &body, out).await
        }
        Some(DrillVerb::Remove { pair, number, .. }) => {
            order::say(&client.delete(&format!("/pairs/{pair}/drills/{number}")).await?, out)
        }
        None => {
            let all = match args.pair {
                Some(pair) => vec![client.get::<Drills>(&format!("/pairs/{pair}/drills"), &()).await?],
                None => {
                    let status: Status = client.get("/status", &()).await?;
                    let of = |pair: ha_core::PairView| Drills { pair: pair.name, drills: pair.drills };
                    status.view.pairs.into_iter().map(of).collect()
                }
            };
            if out.json {
                out.json(&all)?;
            } else {
                out.text(&render::drills(&all, &out.look))?;
            }
            Ok(Exit::Done)
        }
    }
}
