//! `takeover what-if`: what would happen if something failed now.

use super::out::Out;
use super::{Exit, Failure, Options};
use crate::api::Consequences;
use crate::client::Client;
use crate::render;
use clap::Args;
use domain::PairName;

/// Arguments of `what-if`.
#[derive(Debug, Clone, Args)]
pub struct WhatIf {
    /// The pair
    pub pair: PairName,
    /// Where the SCS is and how to answer.
    #[command(flatten)]
    pub options: Options,
}

pub(super) async fn what_if(client: &Client, args: &WhatIf, out: &Out) -> Result<Exit, Failure> {
    let told: Consequences = client.get(&format!("/pairs/{}/consequences", args.pair), &()).await?;
    if out.json {
        out.json(&told)?;
    } else {
        out.text(&render::consequences(&told, &out.look))?;
    }
    Ok(Exit::Done)
}
