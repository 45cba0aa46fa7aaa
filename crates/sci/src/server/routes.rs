//! The endpoints. Reading is a view or a query; every order goes the same way: ask the core, write the audit, answer.

use super::{calls, console, live};
use crate::api::{
    Accepted, Alarms, Audit, AuditLine, Because, FiguresAt, HostLine, Hosts, Incidents, MAX_BODY, MAX_REASON,
    PREFIX, Problem, Status, Stop, SwitchOver, Version,
};
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use domain::{AppName, Micros, NameError, PairName};
use ha_core::{By, Incident, OperatorOrder, OrderOutcome, Plan};
use scs::handle::Handle;
use scs::store::{AuditRecord, IncidentFilter, LogFilter, LogPage, QueryError, Store, StoreItem};
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
const CORE_LIMIT: Duration = Duration::from_secs(10);
/// Longest text from outside that is put into an audit record, characters.
const MAX_AUDIT_TEXT: usize = 200;

/// What the endpoints work with.
#[derive(Debug, Clone)]
pub(super) struct Api {
    pub(super) handle: Handle,
    pub(super) release: Arc<str>,
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) who: String,
    pub(super) from: String,
}

pub(super) type Answer<T> = Result<Json<T>, Problem>;
/// The object that a `POST` carries. Looked at as one first: serde would take `[]` for a body without any fields.
type Body = Result<Json<Map<String, Value>>, JsonRejection>;
pub(super) type Params<T> = Result<Query<T>, QueryRejection>;

pub(super) fn router(api: Api) -> Router {
    let v1 = Router::new()
        .route("/status", get(status))
        .route("/hosts", get(hosts))
        .route("/pairs/{pair}/plan", get(plan))
        .route("/pairs/{pair}/switchover", post(switch_over))
        .route("/pairs/{pair}/acknowledge", post(acknowledge))
        .route("/pairs/{pair}/calls", get(calls::calls))
        .route("/pairs/{pair}/calls/{call}", get(calls::call))
        .route("/pairs/{pair}/calls/{call}/trace", get(calls::trace))
        .route("/applications/{app}/start", post(start))
        .route("/applications/{app}/stop", post(stop))
        .route("/applications/{app}/restart", post(restart))
        .route("/alarms", get(alarms))
        .route("/alarms/{number}/clear", post(clear_alarm))
        .route("/log", get(log))
        .route("/incidents", get(incidents))
        .route("/incidents/{id}", get(incident))
        .route("/events", get(live::events))
        .route("/audit", get(audit))
        .route("/session", get(console::session))
        .route("/version", get(version));
    Router::new()
        .nest(PREFIX, v1)
        .fallback(console::file)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(MAX_BODY))
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
        "{} does not take {}; orders are POST, all else is GET",
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

async fn switch_over(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    Path(pair): Path<String>,
    body: Body,
) -> Response {
    let order = named("pair", &pair).and_then(|pair| {
        let SwitchOver { to, reason, plan, force } = parse(body)?;
        Ok((OperatorOrder::SwitchOver { pair, to, plan, force }, reason))
    });
    let to = match &order {
        Ok((OperatorOrder::SwitchOver { to: Some(to), .. }, _)) => format!(" to {to}"),
        Ok(_) | Err(_) => String::new(),
    };
    carry_out(api, peer, format!("switchover {pair}{to}"), order).await
}

async fn acknowledge(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    Path(pair): Path<String>,
    body: Body,
) -> Response {
    let order = named("pair", &pair)
        .and_then(|pair| Ok((OperatorOrder::Acknowledge { pair }, parse::<Because>(body)?.reason)));
    carry_out(api, peer, format!("acknowledge {pair}"), order).await
}

async fn start(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    Path(app): Path<String>,
    body: Body,
) -> Response {
    let order = named("application", &app)
        .and_then(|app| Ok((OperatorOrder::Start { app }, parse::<Because>(body)?.reason)));
    carry_out(api, peer, format!("start {app}"), order).await
}

async fn stop(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    Path(app): Path<String>,
    body: Body,
) -> Response {
    let order = named("application", &app).and_then(|app| {
        let Stop { graceful, reason } = parse(body)?;
        Ok((OperatorOrder::Stop { app, graceful }, reason))
    });
    carry_out(api, peer, format!("stop {app}"), order).await
}

async fn restart(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    Path(app): Path<String>,
    body: Body,
) -> Response {
    let order = named("application", &app).and_then(|app| {
        let Stop { graceful, reason } = parse(body)?;
        Ok((OperatorOrder::Restart { app, graceful }, reason))
    });
    carry_out(api, peer, format!("restart {app}"), order).await
}

async fn clear_alarm(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    Path(number): Path<String>,
    body: Body,
) -> Response {
    let order = match number.parse() {
        Ok(number) => parse(body).map(|Because { reason }| (OperatorOrder::ClearAlarm { number }, reason)),
        Err(_) => Err(Problem::bad_request(format!("{number:?} is not the number of an alarm"))),
    };
    carry_out(api, peer, format!("clear alarm {number}"), order).await
}

/// Has an order carried out and audits it, whatever becomes of it. In a task of its own, because both must happen also
/// when the client goes away meanwhile.
async fn carry_out(
    api: Api,
    peer: Peer,
    what: String,
    order: Result<(OperatorOrder, String), Problem>,
) -> Response {
    let task = tokio::spawn(async move {
        let reason = order.as_ref().map_or_else(|_| String::new(), |(_, reason)| short(reason, MAX_REASON));
        let answer = match order {
            Ok((order, reason)) => ask_core(&api.handle, order, By { who: peer.who.clone(), reason }).await,
            Err(problem) => Err(problem),
        };
        let result = match &answer {
            Ok(accepted) => format!("accepted: {}", accepted.text),
            Err(problem) => format!("refused: {problem}"),
        };
        let what = short(&what, MAX_AUDIT_TEXT);
        let record = AuditRecord { at: wall_clock(), who: peer.who, from: peer.from, what, reason, result };
        api.handle.store().write(StoreItem::Audit(record));
        answer
    });
    match task.await {
        Ok(Ok(accepted)) => (StatusCode::ACCEPTED, Json(accepted)).into_response(),
        Ok(Err(problem)) => problem.into_response(),
        Err(_) => no_answer().into_response(),
    }
}

async fn ask_core(handle: &Handle, order: OperatorOrder, by: By) -> Result<Accepted, Problem> {
    if by.reason.len() > MAX_REASON {
        return Err(Problem::bad_request(format!("a reason has at most {MAX_REASON} bytes")));
    }
    match timeout(CORE_LIMIT, handle.order(order, by)).await.map_err(|_| no_answer())?? {
        OrderOutcome::Accepted { incident, text } => Ok(Accepted { incident, text }),
        OrderOutcome::Refused { why, plan } => Err(Problem::refused(why, plan)),
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

fn parse<T: DeserializeOwned>(body: Body) -> Result<T, Problem> {
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

fn no_answer() -> Problem {
    let detail = "the SCS has not answered in time; whether the order is carried out is not known, \
                  look at the status and the log";
    Problem::new(StatusCode::GATEWAY_TIMEOUT, detail)
}

/// Text from outside for the record: one line, bounded.
fn short(text: &str, limit: usize) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(limit).collect()
}

fn wall_clock() -> Micros {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Micros(u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX))
}
