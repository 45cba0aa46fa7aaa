//! Verbs that order something.

use super::out::Out;
use super::{Exit, Failure, Start, Stop, Switchover};
use crate::api::{self, Accepted, Because, live};
use crate::client::{Client, ClientError, Events};
use crate::render;
use domain::AppName;
use ha_core::{Incident, IncidentOutcome, Plan};
use serde::Serialize;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// Time between two looks at an incident whose live events do not come in.
const POLL_EVERY: Duration = Duration::from_millis(250);

pub(super) async fn switch_over(client: &Client, args: Switchover, out: &Out) -> Result<Exit, Failure> {
    let to: Vec<_> = args.to.iter().map(|to| ("to", to.as_str())).collect();
    let plan: Plan = client.get(&format!("/pairs/{}/plan", args.pair), &to).await?;
    if args.plan || !plan.passes(args.force) {
        return show_plan(&plan, args.force, out);
    }
    if !out.json {
        out.text(&render::plan(&plan, &out.look))?;
    }
    if !args.yes {
        out.confirm(&format!("Switch {} over to {}?", plan.pair, plan.to))?;
    }
    // Before the order, so that no step escapes.
    let events = client.events().await.ok();
    let order = api::SwitchOver {
        to: Some(plan.to.clone()),
        reason: args.reason,
        plan: Some(plan.hash),
        force: args.force,
    };
    let accepted: Accepted = client.post(&format!("/pairs/{}/switchover", plan.pair), &order).await?;
    let Some(id) = accepted.incident else { return say(&accepted, out) };
    let mut following = Following { client, events, id, shown: 0 };
    match following.until_the_end(Instant::now() + args.wait, out).await? {
        Some(incident) => end(&incident, out),
        None => {
            out.remark(&format!(
                "error: incident {id} is still under way; `takeover incidents show {id}` tells how it goes on"
            ));
            Ok(Exit::Refused)
        }
    }
}

fn show_plan(plan: &Plan, force: bool, out: &Out) -> Result<Exit, Failure> {
    if out.json {
        out.json(plan)?;
    } else {
        out.text(&render::plan(plan, &out.look))?;
    }
    if plan.passes(force) {
        return Ok(Exit::Done);
    }
    out.remark("error: not switched over, a check fails");
    Ok(Exit::Refused)
}

fn end(incident: &Incident, out: &Out) -> Result<Exit, Failure> {
    if out.json {
        out.json(incident)?;
    } else {
        out.line(&render::outcome_line(incident, &out.look))?;
    }
    Ok(match incident.outcome {
        IncidentOutcome::Completed => Exit::Done,
        IncidentOutcome::Open
        | IncidentOutcome::RolledBack { .. }
        | IncidentOutcome::Superseded
        | IncidentOutcome::Interrupted
        | IncidentOutcome::Reconfigured => Exit::Refused,
    })
}

/// Watches an incident: by live events, and by asking where they do not come in.
struct Following<'c> {
    client: &'c Client,
    events: Option<Events>,
    id: u64,
    /// Steps shown so far.
    shown: usize,
}

impl Following<'_> {
    /// Shows steps as they come. Returns the ended incident; none when `deadline` comes first.
    async fn until_the_end(&mut self, deadline: Instant, out: &Out) -> Result<Option<Incident>, Failure> {
        while Instant::now() < deadline {
            let Ok(news) = timeout_at(deadline, self.news()).await else { return Ok(None) };
            let Some(incident) = news? else { continue };
            for step in incident.steps.iter().skip(self.shown) {
                if !out.json {
                    out.line(&render::step_line(step, incident.begun, &out.look))?;
                }
            }
            self.shown = self.shown.max(incident.steps.len());
            if incident.outcome != IncidentOutcome::Open {
                return Ok(Some(incident));
            }
        }
        Ok(None)
    }

    async fn news(&mut self) -> Result<Option<Incident>, Failure> {
        let Some(events) = &mut self.events else {
            sleep(POLL_EVERY).await;
            return self.ask().await;
        };
        tokio::select! {
            event = events.next() => match event {
                Ok(Some(event)) if event.name == live::INCIDENT => {
                    let incident = serde_json::from_str(&event.data).ok();
                    Ok(incident.filter(|incident: &Incident| incident.id.0 == self.id))
                }
                Ok(Some(event)) if event.name != live::LOST => Ok(None),
                // The stream has ended, which is no reason not to see the incident's end.
                Ok(_) | Err(_) => {
                    self.events = None;
                    Ok(None)
                }
            },
            () = sleep(POLL_EVERY) => self.ask().await,
        }
    }

    /// The incident as the store has it, which may be a moment behind.
    async fn ask(&self) -> Result<Option<Incident>, Failure> {
        match self.client.get(&format!("/incidents/{}", self.id), &()).await {
            Ok(incident) => Ok(Some(incident)),
            Err(ClientError::Problem(problem)) if problem.status == 404 => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

pub(super) async fn start(client: &Client, args: Start, out: &Out) -> Result<Exit, Failure> {
    post(client, &format!("/applications/{}/start", args.app), &Because { reason: args.reason }, out).await
}

/// `verb`: "stop" or "restart".
pub(super) async fn stop(client: &Client, args: Stop, verb: &str, out: &Out) -> Result<Exit, Failure> {
    if !args.yes {
        out.confirm(&format!("{verb} {}?", describe(client, &args.app).await?))?;
    }
    let body = api::Stop { graceful: args.graceful, reason: args.reason };
    post(client, &format!("/applications/{}/{verb}", args.app), &body, out).await
}

/// An application with what it is at the moment, so that nobody stops the wrong one.
async fn describe(client: &Client, name: &AppName) -> Result<String, Failure> {
    let status: api::Status = client.get("/status", &()).await?;
    let app = status.view.applications.iter().find(|app| &app.name == name);
    Ok(match app {
        Some(app) => {
            let mode = app.mode.map(|mode| format!(", {mode}")).unwrap_or_default();
            format!("{name} on {} ({}{mode})", app.host, app.status)
        }
        None => name.to_string(),
    })
}

pub(super) async fn clear_alarm(
    client: &Client,
    number: u64,
    reason: String,
    out: &Out,
) -> Result<Exit, Failure> {
    post(client, &format!("/alarms/{number}/clear"), &Because { reason }, out).await
}

pub(super) async fn post(
    client: &Client,
    path: &str,
    body: &impl Serialize,
    out: &Out,
) -> Result<Exit, Failure> {
    say(&client.post(path, body).await?, out)
}

pub(super) fn say(accepted: &Accepted, out: &Out) -> Result<Exit, Failure> {
    if out.json {
        out.json(accepted)?;
    } else {
        out.line(&accepted.text)?;
    }
    Ok(Exit::Done)
}
