//! The configuration: what is in force, what another would mean, applying one, going back. The texts have secrets in them.

use super::accounts::record;
use super::door::Caller;
use super::routes::{Answer, Api, Body, no_answer, parse, short, wall_clock};
use crate::api::{ApplyConfiguration, ConfigurationText, MAX_REASON, PlanConfiguration, Problem, Revisions};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use scs::configuration::{ApplyError, InForce, NAME, Outlook, Proposal, Revision, Text};

/// Longest name of a file that a report repeats, characters.
const MAX_NAME: usize = 200;

pub(super) async fn in_force(State(api): State<Api>) -> Answer<InForce> {
    let configuration = api.handle.configuration().clone();
    Ok(Json(apart(move || configuration.in_force()).await?))
}

pub(super) async fn text(State(api): State<Api>) -> Answer<ConfigurationText> {
    let configuration = api.handle.configuration().clone();
    let (revision, text) = apart(move || configuration.text()).await?;
    Ok(Json(ConfigurationText { revision, text }))
}

pub(super) async fn revisions(State(api): State<Api>) -> Answer<Revisions> {
    let handle = api.handle.clone();
    let revisions = apart(move || handle.configuration().revisions(handle.store())).await??;
    Ok(Json(Revisions { revisions }))
}

pub(super) async fn revision_text(
    State(api): State<Api>,
    Path(number): Path<String>,
) -> Answer<ConfigurationText> {
    let unknown = || Problem::not_found(format!("there is no revision {number} among those that are kept"));
    let revision: u64 = number.parse().map_err(|_| unknown())?;
    let handle = api.handle.clone();
    let text = apart(move || handle.configuration().text_of(revision, handle.store())).await??;
    Ok(Json(ConfigurationText { revision, text }))
}

pub(super) async fn plan(State(api): State<Api>, body: Body) -> Answer<Outlook> {
    let PlanConfiguration { text, revision, name } = parse(body)?;
    let text = source(text, revision)?;
    let name = name.map_or_else(|| NAME.to_owned(), |name| short(&name, MAX_NAME));
    let handle = api.handle.clone();
    let outlook = apart(move || handle.configuration().outlook(&text, &name, handle.store())).await?;
    Ok(Json(outlook?))
}

/// In a task of its own, because it must be done to its end, and audited, also when the client goes away meanwhile.
pub(super) async fn apply(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Answer<Revision> {
    let proposal = || -> Result<Proposal, Problem> {
        let ApplyConfiguration { text, revision, base, digest, reason } = parse(body)?;
        if reason.len() > MAX_REASON {
            return Err(Problem::bad_request(format!("a reason has at most {MAX_REASON} bytes")));
        }
        Ok(Proposal { text: source(text, revision)?, base, digest, who: caller.who.clone(), reason })
    }();
    let task = tokio::spawn(async move {
        let reason = proposal.as_ref().map(|proposal| proposal.reason.clone()).unwrap_or_default();
        let what = match proposal.as_ref().map(|proposal| &proposal.text) {
            Ok(Text::OfRevision(number)) => format!("roll the configuration back to revision {number}"),
            Ok(Text::OfTheFile) => "reload the configuration".to_owned(),
            Ok(Text::Sent(_)) | Err(_) => "apply a configuration".to_owned(),
        };
        let answer = match proposal {
            Ok(proposal) => {
                let handle = api.handle.clone();
                let applied =
                    apart(move || handle.configuration().apply(proposal, &handle, wall_clock())).await;
                applied.and_then(|applied| applied.map_err(Problem::from))
            }
            Err(problem) => Err(problem),
        };
        let result = answer.as_ref().map(|revision| format!("revision {}", revision.number));
        record(&api, &caller, what, &reason, &result);
        answer
    });
    task.await.unwrap_or_else(|_| Err(no_answer())).map(Json)
}

fn source(text: Option<String>, revision: Option<u64>) -> Result<Text, Problem> {
    match (text, revision) {
        (Some(text), None) if text.len() > config::MAX_FILE => Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("a cluster file has at most {}", config::format_size(config::MAX_FILE as u64)),
        )),
        (Some(text), None) => Ok(Text::Sent(text)),
        (None, Some(number)) => Ok(Text::OfRevision(number)),
        (None, None) => Ok(Text::OfTheFile),
        (Some(_), Some(_)) => Err(Problem::bad_request("give a text or a revision, not both")),
    }
}

/// Work that waits for a disk or for the core thread.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.map_err(|_| no_answer())
}

impl From<ApplyError> for Problem {
    fn from(error: ApplyError) -> Self {
        let detail = error.to_string();
        match error {
            ApplyError::Invalid(outlook) => {
                let detail = format!("{detail}\n{}", outlook.report);
                Self { outlook: Some(outlook), ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail) }
            }
            ApplyError::Outdated { .. }
            | ApplyError::FileEdited { .. }
            | ApplyError::File { .. }
            | ApplyError::Moved => Self::new(StatusCode::CONFLICT, detail),
            ApplyError::Unknown(_) => Self::not_found(detail),
            ApplyError::Store(error) => error.into(),
            ApplyError::Gone(gone) => gone.into(),
        }
    }
}
