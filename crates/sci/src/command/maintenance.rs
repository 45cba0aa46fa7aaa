//! `takeover maintenance`: somebody works on a pair for a while.

use super::out::Out;
use super::{Exit, Failure, Options, order};
use crate::api::{Because, Maintain};
use crate::client::Client;
use clap::Args;
use domain::{PairName, parse_duration};
use std::time::Duration;

/// Arguments of `maintenance`.
#[derive(Debug, Clone, Args)]
pub struct Maintenance {
    /// The pair
    pub pair: PairName,
    /// How long it lasts from now, 1m to 7d; one under way is made longer or shorter
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    #[arg(required_unless_present = "end", conflicts_with = "end")]
    pub lasts: Option<Duration>,
    /// It is done
    #[arg(long)]
    pub end: bool,
    /// Why, for the log and the audit
    #[arg(long, value_name = "TEXT", default_value_t, hide_default_value = true)]
    pub reason: String,
    /// Where the SCS is and how to answer.
    #[command(flatten)]
    pub options: Options,
}

pub(super) async fn run(client: &Client, args: Maintenance, out: &Out) -> Result<Exit, Failure> {
    let Maintenance { pair, lasts, reason, .. } = args;
    match lasts {
        Some(lasts) => {
            // Rounded up: less than a minute is refused all the same.
            let lasts_s = lasts.as_millis().div_ceil(1_000).try_into().unwrap_or(u64::MAX);
            let body = Maintain { lasts_s, reason };
            order::post(client, &format!("/pairs/{pair}/maintenance"), &body, out).await
        }
        None => {
            order::post(client, &format!("/pairs/{pair}/maintenance/end"), &Because { reason }, out).await
        }
    }
}
