//! `takeover check-health`: asks once, and says it as monitoring systems want to hear it.

use super::out::{Out, with_causes};
use super::{CheckHealth, Exit, Failure};
use crate::api::Status;
use crate::client::Client;
use crate::health::{Health, Verdict, health};
use tokio::time::timeout;

pub(super) async fn check(client: &Client, args: &CheckHealth, out: &Out) -> Result<Exit, Failure> {
    let asked = timeout(args.timeout, client.get::<Status>("/status", &())).await;
    let status = asked.map_err(|_| Failure::Late(args.timeout))??;
    say(&health(&status, args.pair.as_ref()), out)
}

/// The verdict where the SCS cannot be asked: standard output is what a monitoring system shows.
pub(super) fn cannot_say(failure: &Failure, out: &Out) -> Exit {
    // Where standard output is closed, the exit code still tells.
    let _ = say(&Health::unknown(&with_causes(failure)), out);
    Exit::Health(Verdict::Unknown)
}

fn say(health: &Health, out: &Out) -> Result<Exit, Failure> {
    if out.json {
        out.json(health)?;
    } else {
        out.line(&health.line)?;
    }
    Ok(Exit::Health(health.verdict))
}
