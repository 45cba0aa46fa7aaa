//! `takeover freeze`, `unfreeze` and `acknowledge`: whether a pair may fail over by itself.

use super::out::Out;
use super::{Exit, Failure, Options, order};
use crate::api::Because;
use crate::client::Client;
use clap::Args;
use domain::PairName;

/// Arguments of `freeze`.
#[derive(Debug, Clone, Args)]
pub struct Freeze {
    /// The pair
    pub pair: PairName,
    /// Why, for the log, the audit, and whoever sees it frozen
    #[arg(long, value_name = "TEXT", default_value_t, hide_default_value = true)]
    pub reason: String,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
    /// Where the SCS is and how to answer.
    #[command(flatten)]
    pub options: Options,
}

/// Arguments of `unfreeze` and `acknowledge`.
#[derive(Debug, Clone, Args)]
pub struct Thaw {
    /// The pair
    pub pair: PairName,
    /// Why, for the log and the audit
    #[arg(long, value_name = "TEXT", default_value_t, hide_default_value = true)]
    pub reason: String,
    /// Where the SCS is and how to answer.
    #[command(flatten)]
    pub options: Options,
}

pub(super) async fn freeze(client: &Client, args: Freeze, out: &Out) -> Result<Exit, Failure> {
    let Freeze { pair, reason, yes, .. } = args;
    if !yes {
        out.confirm(&format!(
            "Freeze {pair}? Nobody takes over when its primary fails, until it is unfrozen."
        ))?;
    }
    order::post(client, &format!("/pairs/{pair}/freeze"), &Because { reason }, out).await
}

/// `verb`: "unfreeze" or "acknowledge".
pub(super) async fn thaw(client: &Client, args: Thaw, verb: &str, out: &Out) -> Result<Exit, Failure> {
    let Thaw { pair, reason, .. } = args;
    order::post(client, &format!("/pairs/{pair}/{verb}"), &Because { reason }, out).await
}
