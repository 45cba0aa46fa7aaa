//! The endpoints with what each needs, and reading: a view or a query. Orders are in `orders`.

use super::callers::{self, Needs};
use super::door::Door;
use super::live::Hub;
use super::manners::{self, Orders};
use super::{accounts, calls, console, live, orders};
use crate::api::{
    Alarms, Audit, AuditLine, FiguresAt, HostLine, Hosts, Incidents, MAX_BODY, PREFIX, Problem, Status,
    Version,
};
use access::Role;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use axum::{Json, Router};
use domain::{AppName, Micros, NameError, PairName};
use ha_core::{Incident, Plan};
use scs::handle::Handle;
use scs::store::{AuditVerdict, IncidentFilter, LogFilter, LogPage, QueryError, Store};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::timeout;

/// How long a request may take in all, its body included.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);
/// How long the core may take to answer; it needs microseconds.
pub(super) const CORE_LIMIT: Duration = Duration::from_secs(10);

/// What the endpoints work with.
#[derive(Debug, Clone)]
pub(super) struct Api {
    pub(super) handle: Handle,
    pub(super) release: Arc<str>,
    pub(super) door: Door,
    pub(super) hub: Hub,
    pub(super) orders: Orders,
}

pub(super) type Answer<T> = Result<Json<T>, Problem>;
/// The object that a `POST` carries. Looked at as one first: serde would take `[]` for a body without any fields.
pub(super) type Body = Result<Json<Map<String, Value>>, JsonRejection>;
pub(super) type Params<T> = Result<Query<T>, QueryRejection>;

/// The endpoints, each with what it needs: there is no way to add one without saying it.
struct Routes {
    api: Api,
    router: Router<Api>,
}

impl Routes {
    fn at(mut self, needs: Needs, path: &str, methods: MethodRouter<Api>) -> Self {
        let api = self.api.clone();
        let gate = middleware::from_fn(move |request: Request, next: Next| {
            callers::gate(needs, api.clone(), request, next)
        });
        self.router = self.router.route(path, methods.layer(gate));
        self
    }
}

pub(super) fn router(api: Api) -> Router {
    const NOBODY: Needs = Needs::Nobody;
    const VIEWER: Needs = Needs::Role(Role::Viewer);
    const OPERATOR: Needs = Needs::Role(Role::Operator);
    const ADMINISTRATOR: Needs = Needs::Role(Role::Administrator);
    let v1 = Routes { api: api.clone(), router: Router::new() }
        .at(VIEWER, "/status", get(status))
        .at(VIEWER, "/hosts", get(hosts))
        .at(VIEWER, "/pairs/{pair}/plan", get(plan))
        .at(OPERATOR, "/pairs/{pair}/switchover", post(orders::switch_over))
        .at(OPERATOR, "/pairs/{pair}/acknowledge", post(orders::acknowledge))
        .at(VIEWER, "/pairs/{pair}/calls", get(calls::calls))
        .at(VIEWER, "/pairs/{pair}/calls/{call}", get(calls::call))
        .at(VIEWER, "/pairs/{pair}/calls/{call}/trace", get(calls::trace))
        .at(OPERATOR, "/applications/{app}/start", post(orders::start))
        .at(OPERATOR, "/applications/{app}/stop", post(orders::stop))
        .at(OPERATOR, "/applications/{app}/restart", post(orders::restart))
        .at(VIEWER, "/alarms", get(alarms))
        .at(OPERATOR, "/alarms/{number}/clear", post(orders::clear_alarm))
        .at(VIEWER, "/log", get(log))
        .at(VIEWER, "/incidents", get(incidents))
        .at(VIEWER, "/incidents/{id}", get(incident))
        .at(VIEWER, "/events", get(live::events))
        .at(OPERATOR, "/audit", get(audit))
        .at(OPERATOR, "/audit/verdict", get(audit_verdict))
        .at(VIEWER, "/session", get(accounts::session))
        .at(NOBODY, "/session", post(accounts::log_in))
        .at(VIEWER, "/session", delete(accounts::log_out))
        .at(NOBODY, "/password", post(accounts::set_password))
        .at(NOBODY, "/password/link", post(accounts::look_at_link))
        .at(ADMINISTRATOR, "/users", get(accounts::users).post(accounts::add_user))
        .at(ADMINISTRATOR, "/users/{name}", delete(accounts::remove_user))
        .at(ADMINISTRATOR, "/users/{name}/link", post(accounts::password_link))
        .at(ADMINISTRATOR, "/users/{name}/role", post(accounts::set_role))
        .at(ADMINISTRATOR, "/users/{name}/disable", post(accounts::disable))
        .at(ADMINISTRATOR, "/users/{name}/enable", post(accounts::enable))
        .at(ADMINISTRATOR, "/tokens", get(accounts::tokens).post(accounts::add_token))
        .at(ADMINISTRATOR, "/tokens/{id}", delete(accounts::remove_token))
        .at(VIEWER, "/version", get(version))
        .router
        .layer(middleware::from_fn(manners::unchanged));
    Router::new()
        .nest(PREFIX, v1)
        .fallback(console::file)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(api.clone(), callers::identify))
        .layer(middleware::from_fn(console::from_here))
        .layer(middleware::from_fn(limit_time))
        .with_state(api)
}

async fn limit_time(request: Request, next: Next) -> Response {
    match timeout(REQUEST_LIMIT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(StatusCode::REQUEST_TIMEOUT, "the request took longer than 30 s; try again")
            .into_response(),
    }
}

async fn method_not_allowed(request: Request) -> Problem {
    let detail = format!(
        "{} does not take {}; orders are POST, what is removed is DELETE, all else is GET",
        request.uri().path(),
        request.method()
    );
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WhichRecords {
    before: Option<u64>,
    limit: Option<u32>,
}

async fn audit(State(api): State<Api>, query: Params<WhichRecords>) -> Answer<Audit> {
    let Query(WhichRecords { before, limit }) = query?;
    let records = ask_store(&api, move |store| store.audit_before(before, limit)).await?;
    let line = |(number, record)| AuditLine { number, record };
    Ok(Json(Audit { records: records.into_iter().map(line).collect() }))
}

async fn audit_verdict(State(api): State<Api>) -> Answer<AuditVerdict> {
    Ok(Json(ask_store(&api, Store::verify_audit).await?))
}

async fn version(State(api): State<Api>) -> Json<Version> {
    Json(Version { release: api.release.to_string(), api: 1 })
}

async fn status(State(api): State<Api>) -> Json<Status> {
    let figures = api.handle.figures();
    Json(Status {
        release: api.release.to_string(),
        view: api.handle.view().as_ref().clone(),
        figures: figures
            .into_iter()
            .map(|(host, (received_at, figures))| (host, FiguresAt { received_at, figures }))
            .collect(),
    })
}

async fn hosts(State(api): State<Api>) -> Json<Hosts> {
    let mut figures = api.handle.figures();
    let line = |host: &ha_core::HostView| HostLine {
        host: host.clone(),
        figures: figures.remove(&host.name).map(|(received_at, figures)| FiguresAt { received_at, figures }),
    };
    Json(Hosts { hosts: api.handle.view().hosts.iter().map(line).collect() })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct To {
    to: Option<AppName>,
}

async fn plan(State(api): State<Api>, Path(pair): Path<String>, query: Params<To>) -> Answer<Plan> {
    let Query(To { to }) = query?;
    let pair: PairName = named("pair", &pair)?;
    let known = api.handle.view().pairs.iter().any(|p| p.name == pair);
    let plan = timeout(CORE_LIMIT, api.handle.plan_switchover(pair, to)).await.map_err(|_| no_answer())??;
    plan.map(Json).map_err(|why| if known { Problem::bad_request(why) } else { Problem::not_found(why) })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WhichAlarms {
    #[serde(default)]
    history: bool,
    limit: Option<u32>,
}

async fn alarms(State(api): State<Api>, query: Params<WhichAlarms>) -> Answer<Alarms> {
    let Query(WhichAlarms { history, limit }) = query?;
    let alarms = if history {
        ask_store(&api, move |store| store.alarms(true, limit)).await?
    } else {
        // The view, not the store: the store may be behind, and what is active now is what matters.
        let active = |alarm: &alarms::ActiveAlarm| scs::store::AlarmRecord {
            alarm: alarm.clone(),
            ended_at: None,
            ending: None,
        };
        api.handle.view().alarms.iter().map(active).collect()
    };
    Ok(Json(Alarms { alarms: alarms.into_iter().filter(|record| !record.alarm.hidden).collect() }))
}

async fn log(State(api): State<Api>, query: Params<LogFilter>) -> Answer<LogPage> {
    let Query(filter) = query?;
    Ok(Json(ask_store(&api, move |store| store.log(&filter)).await?))
}

async fn incidents(State(api): State<Api>, query: Params<IncidentFilter>) -> Answer<Incidents> {
    let Query(filter) = query?;
    Ok(Json(Incidents { incidents: ask_store(&api, move |store| store.incidents(&filter)).await? }))
}

async fn incident(State(api): State<Api>, Path(id): Path<String>) -> Answer<Incident> {
    let id: u64 =
        id.parse().map_err(|_| Problem::bad_request(format!("{id:?} is not the number of an incident")))?;
    match ask_store(&api, move |store| store.incident(id)).await? {
        Some(incident) => Ok(Json(incident)),
        None => Err(Problem::not_found(format!("there is no incident {id}; {PREFIX}/incidents lists them"))),
    }
}

/// Runs a query where it may take its time.
async fn ask_store<T: Send + 'static>(
    api: &Api,
    query: impl FnOnce(&Store) -> Result<T, QueryError> + Send + 'static,
) -> Result<T, Problem> {
    let store = api.handle.store().clone();
    match tokio::task::spawn_blocking(move || query(&store)).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the query did not end; try again")),
    }
}

pub(super) fn parse<T: DeserializeOwned>(body: Body) -> Result<T, Problem> {
    let Json(object) = body?;
    serde_json::from_value(Value::Object(object)).map_err(|error| {
        let detail = format!("the body is not what was expected: {error}");
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    })
}

pub(super) fn named<T: FromStr<Err = NameError>>(what: &str, name: &str) -> Result<T, Problem> {
    name.parse()
        .map_err(|error| Problem::bad_request(format!("{name:?} is not the name of a {what}: {error}")))
}

pub(super) fn no_answer() -> Problem {
    let detail = "the SCS has not answered in time; whether the order is carried out is not known, \
                  look at the status and the log";
    Problem::new(StatusCode::GATEWAY_TIMEOUT, detail)
}

/// Text from outside for the record: one line, bounded.
pub(super) fn short(text: &str, limit: usize) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(limit).collect()
}

pub(super) fn wall_clock() -> Micros {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Micros(u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX))
}
