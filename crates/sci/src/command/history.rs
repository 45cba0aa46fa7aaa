//! What the kept incidents say: `takeover times`, `takeover incidents show ID --report`.

use super::out::Out;
use super::{Exit, Failure, Options};
use crate::api::{Status, TakeoverTimesOf};
use crate::client::Client;
use crate::render::{self, Look, report};
use clap::Args;
use domain::PairName;
use ha_core::Incident;

/// Arguments of `times`.
#[derive(Debug, Clone, Args)]
pub struct Times {
    /// Of this pair
    #[arg(long)]
    pub pair: Option<PairName>,
    /// Where the SCS is and how to answer.
    #[command(flatten)]
    pub options: Options,
}

pub(super) async fn times(client: &Client, args: Times, out: &Out) -> Result<Exit, Failure> {
    let query: Vec<_> = args.pair.iter().map(|pair| ("pair", pair.as_str())).collect();
    let told: TakeoverTimesOf = client.get("/takeover-times", &query).await?;
    if out.json {
        out.json(&told)?;
    } else {
        out.text(&render::takeover_times(&told, &out.look))?;
    }
    Ok(Exit::Done)
}

pub(super) async fn report(client: &Client, id: u64, html: bool, out: &Out) -> Result<Exit, Failure> {
    let incident: Incident = client.get(&format!("/incidents/{id}"), &()).await?;
    let status: Status = client.get("/status", &()).await?;
    let page = if html { report::html } else { report::text };
    let look = Look { colour: false, ..out.look.clone() };
    out.text(&page(&incident, &status.view.cluster, &look))?;
    Ok(Exit::Done)
}
