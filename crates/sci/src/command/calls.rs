//! `takeover calls`: what a pair's SIP Servers have in hand.

use super::out::Out;
use super::{CallVerb, Calls, Exit, Failure};
use crate::api::{self, CallLine, CallPage, CallTrace, escaped};
use crate::client::{Client, ClientError};
use crate::render;
use domain::PairName;
use serde::de::DeserializeOwned;

/// Calls asked for at a time.
const PAGE: u32 = 300;

pub(super) async fn run(client: &Client, args: &Calls, out: &Out) -> Result<Exit, Failure> {
    let pairs = pairs(client, args).await?;
    match &args.verb {
        None => list(client, args, &pairs, out).await,
        Some(CallVerb::Show { call, .. }) => {
            let line: CallLine = find(client, args, &pairs, &format!("calls/{}", escaped(call))).await?;
            if out.json {
                out.json(&line)?
            } else {
                out.text(&render::call(&line, &out.look))?
            }
            Ok(Exit::Done)
        }
        Some(CallVerb::Trace { call, .. }) => {
            let trace: CallTrace =
                find(client, args, &pairs, &format!("calls/{}/trace", escaped(call))).await?;
            if out.json {
                out.json(&trace)?
            } else {
                out.text(&render::trace(&trace))?
            }
            Ok(Exit::Done)
        }
    }
}

/// The pair that was named, or all that show their calls.
async fn pairs(client: &Client, args: &Calls) -> Result<Vec<PairName>, Failure> {
    if let Some(pair) = &args.pair {
        return Ok(vec![pair.clone()]);
    }
    let status: api::Status = client.get("/status", &()).await?;
    let asked = |pair: &ha_core::PairView| {
        args.app.as_ref().is_none_or(|app| pair.members.iter().any(|member| member.app == *app))
    };
    let showing = status.view.pairs.into_iter().filter(|pair| pair.shows_calls && asked(pair));
    let pairs: Vec<PairName> = showing.map(|pair| pair.name).collect();
    if pairs.is_empty() { Err(Failure::NoCalls) } else { Ok(pairs) }
}

async fn list(client: &Client, args: &Calls, pairs: &[PairName], out: &Out) -> Result<Exit, Failure> {
    let mut exit = Exit::Done;
    for pair in pairs {
        match page(client, args, pair).await {
            Ok(page) if out.json => out.json_line(&page)?,
            Ok(page) => out.text(&render::calls(pair, &page, &out.look))?,
            // One pair whose server cannot be asked does not hide the others.
            Err(Failure::Client(ClientError::Problem(problem))) if pairs.len() > 1 => {
                out.remark(&format!("error: pair {pair}: {problem}"));
                exit = Exit::Refused;
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(exit)
}

/// As many calls as were asked for, page by page.
async fn page(client: &Client, args: &Calls, pair: &PairName) -> Result<CallPage, Failure> {
    let mut all = CallPage::default();
    loop {
        let left = args.limit.saturating_sub(u32::try_from(all.calls.len()).unwrap_or(u32::MAX));
        let mut query = whose(args);
        query.push(("limit", left.min(PAGE).to_string()));
        query.extend(all.next.take().map(|next| ("after", next)));
        let page: CallPage = client.get(&format!("/pairs/{pair}/calls"), &query).await?;
        let got_some = !page.calls.is_empty();
        all.app = page.app;
        all.calls.extend(page.calls);
        all.next = page.next;
        if all.next.is_none() || !got_some || all.calls.len() >= args.limit as usize {
            return Ok(all);
        }
    }
}

/// Looks for one call in all pairs; the last complaint where nobody has it.
async fn find<T: DeserializeOwned>(
    client: &Client,
    args: &Calls,
    pairs: &[PairName],
    path: &str,
) -> Result<T, Failure> {
    let mut complaint = Failure::NoCalls;
    for pair in pairs {
        match client.get(&format!("/pairs/{pair}/{path}"), &whose(args)).await {
            Ok(found) => return Ok(found),
            Err(ClientError::Problem(problem)) => complaint = ClientError::Problem(problem).into(),
            Err(error) => return Err(error.into()),
        }
    }
    Err(complaint)
}

fn whose(args: &Calls) -> Vec<(&'static str, String)> {
    args.app.iter().map(|app| ("app", app.to_string())).collect()
}
