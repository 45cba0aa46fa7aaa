//! Verbs that look and change nothing.

use super::out::Out;
use super::{Exit, Failure, Log, Status};
use crate::api;
use crate::client::{Client, ClientError};
use crate::render;
use ha_core::Incident;
use scs::store::{IncidentFilter, LogFilter, LogPage, LogRow};
use std::time::Duration;
use tokio::time::sleep;

/// Time between two looks of `status --watch`.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// Time between two looks of `log --follow`.
const FOLLOW_EVERY: Duration = Duration::from_millis(300);
/// Pause while the SCS that is being followed cannot be reached.
const RECONNECT_EVERY: Duration = Duration::from_secs(1);
/// Terminal: cursor to the top, erase to the end (ECMA-48, CUP and ED).
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

pub(super) async fn status(client: &Client, args: &Status, out: &Out) -> Result<Exit, Failure> {
    if args.watch {
        return watch(client, out).await;
    }
    let status: api::Status = client.get("/status", &()).await?;
    if out.json {
        out.json(&status)?;
    } else {
        out.text(&render::status(&status, &out.look))?;
    }
    Ok(if args.check && render::is_in_trouble(&status.view) { Exit::Trouble } else { Exit::Done })
}

async fn watch(client: &Client, out: &Out) -> Result<Exit, Failure> {
    loop {
        let text = match client.get("/status", &()).await {
            Ok(status) => render::status(&status, &out.look),
            Err(error) => format!("{error}\n"),
        };
        out.text(&format!("{CLEAR}{text}"))?;
        sleep(WATCH_EVERY).await;
    }
}

pub(super) async fn hosts(client: &Client, out: &Out) -> Result<Exit, Failure> {
    if out.json {
        let hosts: api::Hosts = client.get("/hosts", &()).await?;
        out.json(&hosts)?;
    } else {
        // The status, for its time: what is "now" is the SCS's to say.
        let status: api::Status = client.get("/status", &()).await?;
        out.text(&render::hosts(&status.host_lines(), status.view.at, &out.look))?;
    }
    Ok(Exit::Done)
}

pub(super) async fn alarms(client: &Client, history: bool, limit: u32, out: &Out) -> Result<Exit, Failure> {
    let query = [("history", history.to_string()), ("limit", limit.to_string())];
    let api::Alarms { alarms } = client.get("/alarms", &query).await?;
    if out.json {
        out.json(&api::Alarms { alarms })?;
    } else if alarms.is_empty() {
        out.line(if history { "no alarms" } else { "no active alarms" })?;
    } else {
        out.text(&render::alarms(&alarms, history, &out.look))?;
    }
    Ok(Exit::Done)
}

pub(super) async fn incidents(
    client: &Client,
    pair: Option<domain::PairName>,
    limit: u32,
    out: &Out,
) -> Result<Exit, Failure> {
    let filter = IncidentFilter { pair, limit: Some(limit), ..IncidentFilter::default() };
    let api::Incidents { incidents } = client.get("/incidents", &filter).await?;
    if out.json {
        out.json(&api::Incidents { incidents })?;
    } else if incidents.is_empty() {
        out.line("no incidents")?;
    } else {
        out.text(&render::incidents(&incidents, &out.look))?;
    }
    Ok(Exit::Done)
}

pub(super) async fn incident(client: &Client, id: u64, out: &Out) -> Result<Exit, Failure> {
    let incident: Incident = client.get(&format!("/incidents/{id}"), &()).await?;
    if out.json {
        out.json(&incident)?;
    } else {
        out.text(&render::incident(&incident, &out.look))?;
    }
    Ok(Exit::Done)
}

pub(super) async fn log(client: &Client, args: Log, out: &Out) -> Result<Exit, Failure> {
    let filter = LogFilter {
        level: args.level,
        host: args.host,
        app: args.app,
        id: args.id,
        text: args.text,
        since: args.since,
        until: args.until,
        after: None,
        limit: Some(args.limit),
    };
    let page: LogPage = client.get("/log", &filter).await?;
    match (args.follow, out.json) {
        (false, true) => out.json(&page)?,
        (true, true) => print_rows(&page.events, out)?,
        (_, false) if page.events.is_empty() && !args.follow => out.line("no log events")?,
        (_, false) => out.text(&render::log(page.events.iter().map(|row| &row.event), &out.look))?,
    }
    if args.follow { follow(client, filter, page, out).await } else { Ok(Exit::Done) }
}

/// Shows what comes in behind `page`, until Ctrl-C; waits for an SCS that goes away.
async fn follow(client: &Client, mut filter: LogFilter, page: LogPage, out: &Out) -> Result<Exit, Failure> {
    let mut reachable = true;
    filter.limit = None;
    filter.after = Some(page.end);
    loop {
        let pause = match client.get::<LogPage>("/log", &filter).await {
            Ok(page) => {
                if !reachable {
                    out.remark("the SCS is back");
                    reachable = true;
                }
                // A store that was begun anew counts anew.
                filter.after = Some(page.end);
                print_rows(&page.events, out)?;
                FOLLOW_EVERY
            }
            Err(error @ (ClientError::Unreachable { .. } | ClientError::Broken { .. })) => {
                if reachable {
                    out.remark(&format!("{error}; waiting for it"));
                    reachable = false;
                }
                RECONNECT_EVERY
            }
            Err(error @ ClientError::Problem(_)) => return Err(error.into()),
        };
        sleep(pause).await;
    }
}

fn print_rows(rows: &[LogRow], out: &Out) -> Result<(), Failure> {
    for row in rows {
        if out.json {
            out.json_line(row)?;
        } else {
            out.line(&render::log_line(&row.event, &out.look))?;
        }
    }
    Ok(())
}
