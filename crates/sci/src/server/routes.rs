//! The endpoints with what each needs, and reading: a view or a query. Orders are in `orders`.

use super::callers::{self, Needs};
use super::door::Door;
use super::live::Hub;
use super::manners::{self, Orders};
use super::metrics::{self, Counters};
use super::oidc::{self, Oidc};
use super::openapi::{Document, Operation, goes_on, orders, reads, removes, revokes, shows, streams, takes};
use super::{
    accounts, calls, configuration, console, drills, foresight, history, live, orders as order, solutions,
};
use crate::api::{
    Accepted, AgentCertificate, Alarms, ApplyConfiguration, Audit, AuditLine, Because, CallLine, CallPage,
    CallTrace, ConfigurationText, Consequences, Done, Drills, FiguresAt, Hosts, Incidents, LinkCode, LinkUse,
    Login, LoginWays, MAX_BODY, MAX_CONFIGURATION, MadeToken, Maintain, NewDrill, NewLink, NewRole, NewToken,
    NewUser, PREFIX, PlanConfiguration, Problem, Revisions, Session, SetPassword, Solutions, Status, Stop,
    SwitchOver, TakeoverTimesOf, Tokens, Users, Version,
};
use access::Role;
use axum::body::Bytes;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use axum::{Json, Router};
use control_link::Certificate;
use domain::{AppName, Micros, NameError, PairName};
use ha_core::{Incident, Plan, SolutionView};
use scs::configuration::{InForce, Outlook, Revision};
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
    pub(super) counters: Counters,
    /// How the web port's address is written.
    pub(super) web_address: Option<Arc<str>>,
    /// Who else says who somebody is.
    pub(super) oidc: Option<Oidc>,
}

pub(super) type Answer<T> = Result<Json<T>, Problem>;
/// The object that a `POST` carries. Looked at as one first: serde would take `[]` for a body without any fields.
pub(super) type Body = Result<Json<Map<String, Value>>, JsonRejection>;
pub(super) type Params<T> = Result<Query<T>, QueryRejection>;

/// The endpoints, each with what it needs and what goes in and out: there is no way to add one without saying it.
struct Routes {
    api: Api,
    router: Router<Api>,
    document: Document,
}

impl Routes {
    fn at(mut self, needs: Needs, path: &str, operation: Operation) -> Self {
        self.document.add(needs, path, &operation);
        self.router = self.router.route(path, gated(&self.api, needs, operation.methods));
        self
    }
}

fn gated(api: &Api, needs: Needs, methods: MethodRouter<Api>) -> MethodRouter<Api> {
    let api = api.clone();
    methods.layer(middleware::from_fn(move |request: Request, next: Next| {
        callers::gate(needs, api.clone(), request, next)
    }))
}

const NOBODY: Needs = Needs::Nobody;
const VIEWER: Needs = Needs::Role(Role::Viewer);
const OPERATOR: Needs = Needs::Role(Role::Operator);
const ADMINISTRATOR: Needs = Needs::Role(Role::Administrator);

fn endpoints(api: &Api) -> Routes {
    Routes { api: api.clone(), router: Router::new(), document: Document::new() }
        .at(VIEWER, "/status", reads::<(), Status, _, _>(status, "Pairs, hosts, applications, active alarms"))
        .at(VIEWER, "/hosts", reads::<(), Hosts, _, _>(hosts, "Hosts with their figures"))
        .at(
            VIEWER,
            "/pairs/{pair}/plan",
            reads::<To, Plan, _, _>(plan, "What a switchover would do, and whether it may"),
        )
        .at(
            VIEWER,
            "/pairs/{pair}/consequences",
            reads::<(), Consequences, _, _>(
                foresight::consequences,
                "What would happen if something failed now",
            ),
        )
        .at(
            OPERATOR,
            "/pairs/{pair}/switchover",
            orders::<SwitchOver, Accepted, _, _>(order::switch_over, "Exchanges the modes of a pair"),
        )
        .at(
            OPERATOR,
            "/pairs/{pair}/acknowledge",
            orders::<Because, Accepted, _, _>(order::acknowledge, "A frozen pair fails over by itself again"),
        )
        .at(
            OPERATOR,
            "/pairs/{pair}/freeze",
            orders::<Because, Accepted, _, _>(order::freeze, "Nothing of a pair moves by itself any more"),
        )
        .at(
            OPERATOR,
            "/pairs/{pair}/unfreeze",
            orders::<Because, Accepted, _, _>(order::unfreeze, "Ends a freeze by hand"),
        )
        .at(
            OPERATOR,
            "/pairs/{pair}/maintenance",
            orders::<Maintain, Accepted, _, _>(order::maintain, "Somebody works on a pair for a while"),
        )
        .at(
            OPERATOR,
            "/pairs/{pair}/maintenance/end",
            orders::<Because, Accepted, _, _>(order::end_maintenance, "The work on a pair is done"),
        )
        .at(
            VIEWER,
            "/pairs/{pair}/drills",
            reads::<(), Drills, _, _>(drills::drills, "What is practised on a pair, and what came of it"),
        )
        .at(
            OPERATOR,
            "/pairs/{pair}/drills",
            orders::<NewDrill, Accepted, _, _>(drills::schedule, "Schedules a drill: a guarded switchover"),
        )
        .at(
            OPERATOR,
            "/pairs/{pair}/drills/{number}",
            revokes::<Accepted, _, _>(drills::remove, "Removes a drill"),
        )
        .at(
            VIEWER,
            "/pairs/{pair}/calls",
            reads::<calls::Which, CallPage, _, _>(calls::calls, "The calls of a pair's SIP Server"),
        )
        .at(
            VIEWER,
            "/pairs/{pair}/calls/{call}",
            reads::<calls::Whose, CallLine, _, _>(calls::call, "One call"),
        )
        .at(
            VIEWER,
            "/pairs/{pair}/calls/{call}/trace",
            reads::<calls::Whose, CallTrace, _, _>(calls::trace, "The messages of a call as a ladder"),
        )
        .at(
            OPERATOR,
            "/applications/{app}/start",
            orders::<Because, Accepted, _, _>(order::start, "Starts an application"),
        )
        .at(
            OPERATOR,
            "/applications/{app}/stop",
            orders::<Stop, Accepted, _, _>(order::stop, "Stops an application; never a failure"),
        )
        .at(
            OPERATOR,
            "/applications/{app}/restart",
            orders::<Stop, Accepted, _, _>(order::restart, "Stops and starts an application"),
        )
        .at(VIEWER, "/solutions", reads::<(), Solutions, _, _>(solutions::solutions, "Solutions"))
        .at(
            VIEWER,
            "/solutions/{solution}",
            reads::<(), SolutionView, _, _>(solutions::solution, "One solution"),
        )
        .at(
            OPERATOR,
            "/solutions/{solution}/start",
            orders::<Because, Accepted, _, _>(
                solutions::start,
                "Starts the applications of a solution, one after the other",
            ),
        )
        .at(
            OPERATOR,
            "/solutions/{solution}/stop",
            orders::<Stop, Accepted, _, _>(solutions::stop, "Stops them, in the opposite order; never a failure"),
        )
        .at(
            VIEWER,
            "/alarms",
            reads::<WhichAlarms, Alarms, _, _>(alarms, "Active alarms, with `history` also those that ended"),
        )
        .at(
            OPERATOR,
            "/alarms/{number}/clear",
            orders::<Because, Accepted, _, _>(order::clear_alarm, "Clears an active alarm"),
        )
        .at(VIEWER, "/log", reads::<LogFilter, LogPage, _, _>(log, "Log events"))
        .at(VIEWER, "/incidents", reads::<IncidentFilter, Incidents, _, _>(incidents, "Role changes"))
        .at(
            VIEWER,
            "/incidents/{id}",
            reads::<(), Incident, _, _>(incident, "One role change with its steps"),
        )
        .at(
            VIEWER,
            "/incidents/{id}/report",
            shows::<history::InForm, _, _>(history::report, "One role change as a page to send to others"),
        )
        .at(
            VIEWER,
            "/takeover-times",
            reads::<history::OfPair, TakeoverTimesOf, _, _>(history::times, "How long takeovers took"),
        )
        .at(
            VIEWER,
            "/events",
            streams::<live::Resume, _, _>(
                live::events,
                "What happens from now on, or from the event named on",
            ),
        )
        .at(
            OPERATOR,
            "/audit",
            reads::<WhichRecords, Audit, _, _>(audit, "Who ordered what, refused attempts too"),
        )
        .at(
            OPERATOR,
            "/audit/verdict",
            reads::<(), AuditVerdict, _, _>(audit_verdict, "Whether the audit is as it was written"),
        )
        .at(
            VIEWER,
            "/configuration",
            reads::<(), InForce, _, _>(configuration::in_force, "Which configuration is in force"),
        )
        .at(
            ADMINISTRATOR,
            "/configuration/text",
            reads::<(), ConfigurationText, _, _>(configuration::text, "Its text, secrets included"),
        )
        .at(
            VIEWER,
            "/configuration/revisions",
            reads::<(), Revisions, _, _>(configuration::revisions, "Configurations that were in force"),
        )
        .at(
            ADMINISTRATOR,
            "/configuration/revisions/{number}/text",
            reads::<(), ConfigurationText, _, _>(configuration::revision_text, "The text of one of them"),
        )
        .at(
            ADMINISTRATOR,
            "/configuration/plan",
            takes::<PlanConfiguration, Outlook, _, _>(
                configuration::plan,
                "What is wrong with a configuration, and what it would change",
            )
            .of_at_most(MAX_CONFIGURATION),
        )
        .at(
            ADMINISTRATOR,
            "/configuration",
            takes::<ApplyConfiguration, Revision, _, _>(
                configuration::apply,
                "Puts a configuration in force: one that is sent, an earlier one, or the cluster file as it is now",
            )
            .of_at_most(MAX_CONFIGURATION),
        )
        .at(VIEWER, "/session", reads::<(), Session, _, _>(accounts::session, "Who is asking"))
        .at(NOBODY, "/session", takes::<Login, Session, _, _>(accounts::log_in, "Logs in, at the web port"))
        .at(NOBODY, "/login", reads::<(), LoginWays, _, _>(oidc::ways, "How one can log in"))
        .at(
            NOBODY,
            "/oidc/login",
            goes_on::<(), _, _>(oidc::begin, "Goes on at the identity provider, for browsers at the web port"),
        )
        .at(
            NOBODY,
            "/oidc/callback",
            goes_on::<oidc::Outcome, _, _>(oidc::end, "Where the identity provider sends browsers back to"),
        )
        .at(VIEWER, "/session", removes::<Done, _, _>(accounts::log_out, "Logs out"))
        .at(
            NOBODY,
            "/password/link",
            takes::<LinkCode, LinkUse, _, _>(accounts::look_at_link, "What a one-time link is for"),
        )
        .at(
            NOBODY,
            "/password",
            takes::<SetPassword, Done, _, _>(
                accounts::set_password,
                "Sets a password by a one-time link, at the web port",
            ),
        )
        .at(ADMINISTRATOR, "/users", reads::<(), Users, _, _>(accounts::users, "Users of the web port"))
        .at(ADMINISTRATOR, "/users", takes::<NewUser, NewLink, _, _>(accounts::add_user, "Adds a user"))
        .at(ADMINISTRATOR, "/users/{name}", removes::<Done, _, _>(accounts::remove_user, "Removes a user"))
        .at(
            ADMINISTRATOR,
            "/users/{name}/link",
            takes::<Because, NewLink, _, _>(
                accounts::password_link,
                "Makes a link by which a user sets another password",
            ),
        )
        .at(
            ADMINISTRATOR,
            "/users/{name}/role",
            takes::<NewRole, Done, _, _>(accounts::set_role, "Gives a user another role"),
        )
        .at(
            ADMINISTRATOR,
            "/users/{name}/disable",
            takes::<Because, Done, _, _>(accounts::disable, "Locks a user out"),
        )
        .at(
            ADMINISTRATOR,
            "/users/{name}/enable",
            takes::<Because, Done, _, _>(accounts::enable, "Lets a user in again"),
        )
        .at(ADMINISTRATOR, "/tokens", reads::<(), Tokens, _, _>(accounts::tokens, "Tokens of programs"))
        .at(
            ADMINISTRATOR,
            "/tokens",
            takes::<NewToken, MadeToken, _, _>(accounts::add_token, "Makes a token, shown this once"),
        )
        .at(ADMINISTRATOR, "/tokens/{id}", removes::<Done, _, _>(accounts::remove_token, "Removes a token"))
        .at(VIEWER, "/version", reads::<(), Version, _, _>(version, "Releases of the SCS and of the API"))
}

pub(super) fn router(api: Api) -> Router {
    let Routes { router, document, .. } = endpoints(&api);
    let document = Bytes::from(document.finish(&api.release));
    let kind = [(header::CONTENT_TYPE, "application/json")];
    let v1 = router
        // Tells nothing that is not in the program.
        .route("/openapi.json", get(move || std::future::ready((kind, document.clone()))))
        .layer(middleware::from_fn(manners::unchanged));
    Router::new()
        .nest(PREFIX, v1)
        .route("/metrics", gated(&api, VIEWER, get(metrics::metrics)))
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

#[derive(Deserialize, schemars::JsonSchema)]
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
    Json(status_of(&api))
}

async fn hosts(State(api): State<Api>) -> Json<Hosts> {
    Json(Hosts { hosts: status_of(&api).host_lines() })
}

fn status_of(api: &Api) -> Status {
    let figures = api.handle.figures().into_iter();
    let certificates = api.handle.certificates().into_iter();
    Status {
        release: api.release.to_string(),
        view: api.handle.view().as_ref().clone(),
        figures: figures
            .map(|(host, (received_at, figures))| (host, FiguresAt { received_at, figures }))
            .collect(),
        certificates: certificates
            .map(|(host, Certificate { subject, from, until })| {
                (host, AgentCertificate { subject, from, until })
            })
            .collect(),
    }
}

#[derive(Deserialize, schemars::JsonSchema)]
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

#[derive(Deserialize, schemars::JsonSchema)]
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
    Ok(Json(history::find(&api, &id).await?))
}

/// Runs a query where it may take its time.
pub(super) async fn ask_store<T: Send + 'static>(
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
