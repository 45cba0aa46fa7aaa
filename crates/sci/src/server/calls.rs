//! The calls of a pair's SIP Server, as it shows them itself: asked for through the agent of its host. Changes nothing.

use super::routes::{Answer, Api, Params, named};
use crate::api::{CallLine, CallPage, CallTrace, Problem, escaped};
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use control_link::messages::MAX_PATH;
use domain::{AppName, PairName, RunMode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio::time::timeout;

/// How long a page may take: longer than the agent waits for its application.
const PAGE_LIMIT: Duration = Duration::from_secs(8);
/// Most calls on a page; unless asked otherwise, so many.
const MOST: u32 = 300;

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    /// Whose; none: the primary's.
    app: Option<AppName>,
    /// Those behind this one.
    after: Option<String>,
    /// At most so many.
    limit: Option<u32>,
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Whose {
    /// Whose; none: the primary's.
    app: Option<AppName>,
}

pub(super) async fn calls(
    State(api): State<Api>,
    Path(pair): Path<String>,
    query: Params<Which>,
) -> Answer<CallPage> {
    let Query(Which { app, after, limit }) = query?;
    let app = member(&api, &pair, app)?;
    let after = after.map(|after| format!("&after={}", escaped(&after))).unwrap_or_default();
    let path = format!("/calls?most={}{after}", limit.unwrap_or(MOST).clamp(1, MOST));
    let page: CallPage = json(&fetch(&api, &app, path).await?)?;
    Ok(Json(CallPage { app: Some(app), ..page }))
}

pub(super) async fn call(
    State(api): State<Api>,
    Path((pair, call)): Path<(String, String)>,
    query: Params<Whose>,
) -> Answer<CallLine> {
    let Query(Whose { app }) = query?;
    let app = member(&api, &pair, app)?;
    Ok(Json(json(&fetch(&api, &app, format!("/calls/{}", escaped(&call))).await?)?))
}

pub(super) async fn trace(
    State(api): State<Api>,
    Path((pair, call)): Path<(String, String)>,
    query: Params<Whose>,
) -> Answer<CallTrace> {
    let Query(Whose { app }) = query?;
    let app = member(&api, &pair, app)?;
    let ladder = fetch(&api, &app, format!("/calls/{}/trace", escaped(&call))).await?;
    Ok(Json(CallTrace { app, ladder }))
}

/// The member that is to be asked.
fn member(api: &Api, pair: &str, app: Option<AppName>) -> Result<AppName, Problem> {
    let name: PairName = named("pair", pair)?;
    let view = api.handle.view();
    let known = view.pairs.iter().find(|pair| pair.name == name);
    let pair = known.ok_or_else(|| Problem::not_found(format!("there is no pair {name}")))?;
    if let Some(app) = app {
        let is_member = pair.members.iter().any(|member| member.app == app);
        return if is_member {
            Ok(app)
        } else {
            Err(Problem::bad_request(format!("{app} is no member of {name}")))
        };
    }
    let runs = pair.members.iter().find(|member| member.current && member.mode == Some(RunMode::Primary));
    let primary = pair.primary.clone().or_else(|| runs.map(|member| member.app.clone()));
    primary.ok_or_else(|| {
        let detail = format!("{name} has no primary now; ask one of its members for its copy: `--app`");
        Problem::new(StatusCode::CONFLICT, detail)
    })
}

async fn fetch(api: &Api, app: &AppName, path: String) -> Result<String, Problem> {
    if path.len() > MAX_PATH {
        return Err(Problem::bad_request("that is too long for the name of a call"));
    }
    let late =
        || Problem::new(StatusCode::GATEWAY_TIMEOUT, format!("the agent of {app} did not answer in time"));
    let page = timeout(PAGE_LIMIT, api.handle.page(app.clone(), path)).await.map_err(|_| late())??;
    // Whether there is no such call or no such page, the application says; it has no code that came this far.
    page.map_err(Problem::not_found)
}

fn json<T: DeserializeOwned>(page: &str) -> Result<T, Problem> {
    serde_json::from_str(page).map_err(|_| {
        let detail = "the application's page is none of this release; upgrade the older of the two";
        Problem::new(StatusCode::BAD_GATEWAY, detail)
    })
}
