//! Orders: each goes the same way: ask the core, write the audit, answer.

use super::door::Caller;
use super::routes::{Api, Body, CORE_LIMIT, named, no_answer, parse, short, wall_clock};
use crate::api::{Accepted, Because, MAX_REASON, Maintain, Problem, Stop, SwitchOver};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use domain::{PairName, format_duration};
use ha_core::{By, OperatorOrder, OrderOutcome, SolutionPart, View};
use scs::handle::Handle;
use scs::store::{AuditRecord, StoreItem};
use std::time::Duration;
use tokio::time::timeout;

/// Longest text from outside that is put into an audit record, characters.
const MAX_AUDIT_TEXT: usize = 200;

pub(super) async fn switch_over(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
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
    carry_out(api, caller, format!("switchover {pair}{to}"), order).await
}

pub(super) async fn acknowledge(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(pair): Path<String>,
    body: Body,
) -> Response {
    let order = named("pair", &pair)
        .and_then(|pair| Ok((OperatorOrder::Acknowledge { pair }, parse::<Because>(body)?.reason)));
    carry_out(api, caller, format!("acknowledge {pair}"), order).await
}

pub(super) async fn freeze(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(pair): Path<String>,
    body: Body,
) -> Response {
    let order = named("pair", &pair)
        .and_then(|pair| Ok((OperatorOrder::Freeze { pair }, parse::<Because>(body)?.reason)));
    carry_out(api, caller, format!("freeze {pair}"), order).await
}

pub(super) async fn unfreeze(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(pair): Path<String>,
    body: Body,
) -> Response {
    let order = named("pair", &pair)
        .and_then(|pair| Ok((OperatorOrder::Unfreeze { pair }, parse::<Because>(body)?.reason)));
    carry_out(api, caller, format!("unfreeze {pair}"), order).await
}

pub(super) async fn maintain(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(pair): Path<String>,
    body: Body,
) -> Response {
    let order = named("pair", &pair).and_then(|pair| {
        let Maintain { lasts_s, reason } = parse(body)?;
        Ok((OperatorOrder::Maintain { pair, lasts: Duration::from_secs(lasts_s) }, reason))
    });
    let lasts = match &order {
        Ok((OperatorOrder::Maintain { lasts, .. }, _)) => format!(" for {}", format_duration(*lasts)),
        Ok(_) | Err(_) => String::new(),
    };
    carry_out(api, caller, format!("maintenance {pair}{lasts}"), order).await
}

pub(super) async fn end_maintenance(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(pair): Path<String>,
    body: Body,
) -> Response {
    let order = named("pair", &pair)
        .and_then(|pair| Ok((OperatorOrder::EndMaintenance { pair }, parse::<Because>(body)?.reason)));
    carry_out(api, caller, format!("end maintenance {pair}"), order).await
}

pub(super) async fn start(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(app): Path<String>,
    body: Body,
) -> Response {
    let order = named("application", &app)
        .and_then(|app| Ok((OperatorOrder::Start { app }, parse::<Because>(body)?.reason)));
    carry_out(api, caller, format!("start {app}"), order).await
}

pub(super) async fn stop(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(app): Path<String>,
    body: Body,
) -> Response {
    let order = named("application", &app).and_then(|app| {
        let Stop { graceful, reason } = parse(body)?;
        Ok((OperatorOrder::Stop { app, graceful }, reason))
    });
    carry_out(api, caller, format!("stop {app}"), order).await
}

pub(super) async fn restart(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(app): Path<String>,
    body: Body,
) -> Response {
    let order = named("application", &app).and_then(|app| {
        let Stop { graceful, reason } = parse(body)?;
        Ok((OperatorOrder::Restart { app, graceful }, reason))
    });
    carry_out(api, caller, format!("restart {app}"), order).await
}

pub(super) async fn clear_alarm(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(number): Path<String>,
    body: Body,
) -> Response {
    let order = match number.parse() {
        Ok(number) => parse(body).map(|Because { reason }| (OperatorOrder::ClearAlarm { number }, reason)),
        Err(_) => Err(Problem::bad_request(format!("{number:?} is not the number of an alarm"))),
    };
    carry_out(api, caller, format!("clear alarm {number}"), order).await
}

/// Has an order carried out and audits it, whatever becomes of it. In a task of its own, because both must happen also
/// when the client goes away meanwhile.
pub(super) async fn carry_out(
    api: Api,
    caller: Caller,
    what: String,
    order: Result<(OperatorOrder, String), Problem>,
) -> Response {
    let task = tokio::spawn(async move {
        let reason = order.as_ref().map_or_else(|_| String::new(), |(_, reason)| short(reason, MAX_REASON));
        let order = order.and_then(|(order, reason)| match in_scope(&caller, &order, &api.handle.view()) {
            true => Ok((order, reason)),
            false => Err(out_of_scope(&caller)),
        });
        let answer = match order {
            Ok((order, reason)) => ask_core(&api.handle, order, By { who: caller.who.clone(), reason }).await,
            Err(problem) => Err(problem),
        };
        let result = match &answer {
            Ok(accepted) => format!("accepted: {}", accepted.text),
            Err(problem) => format!("refused: {problem}"),
        };
        let what = short(&what, MAX_AUDIT_TEXT);
        let record =
            AuditRecord { at: wall_clock(), who: caller.who, from: caller.from, what, reason, result };
        api.handle.store().write(StoreItem::Audit(record));
        answer
    });
    match task.await {
        Ok(Ok(accepted)) => (StatusCode::ACCEPTED, Json(accepted)).into_response(),
        Ok(Err(problem)) => problem.into_response(),
        Err(_) => no_answer().into_response(),
    }
}

/// Whether the order is to a pair that its caller may give orders to.
fn in_scope(caller: &Caller, order: &OperatorOrder, view: &View) -> bool {
    let Some(pairs) = &caller.pairs else { return true };
    // All of what it would do must be theirs to do.
    if let OperatorOrder::StartSolution { solution } | OperatorOrder::StopSolution { solution, .. } = order {
        let found = view.solutions.iter().find(|found| found.name == *solution);
        let theirs = |part: &SolutionPart| part.pair.as_ref().is_some_and(|pair| pairs.contains(pair));
        return found.is_some_and(|found| found.applications.iter().all(theirs));
    }
    let pair: Option<&PairName> = match order {
        OperatorOrder::SwitchOver { pair, .. }
        | OperatorOrder::Acknowledge { pair }
        | OperatorOrder::Freeze { pair }
        | OperatorOrder::Unfreeze { pair }
        | OperatorOrder::Maintain { pair, .. }
        | OperatorOrder::EndMaintenance { pair }
        | OperatorOrder::ScheduleDrill { pair, .. }
        | OperatorOrder::RemoveDrill { pair, .. } => Some(pair),
        OperatorOrder::Start { app }
        | OperatorOrder::Stop { app, .. }
        | OperatorOrder::Restart { app, .. } => {
            let has = |pair: &&ha_core::PairView| pair.members.iter().any(|member| member.app == *app);
            view.pairs.iter().find(has).map(|pair| &pair.name)
        }
        // An alarm may be about anything; solutions are above.
        OperatorOrder::ClearAlarm { .. }
        | OperatorOrder::StartSolution { .. }
        | OperatorOrder::StopSolution { .. } => None,
    };
    pair.is_some_and(|pair| pairs.contains(pair))
}

fn out_of_scope(caller: &Caller) -> Problem {
    let pairs: Vec<_> = caller.pairs.iter().flatten().map(PairName::as_str).collect();
    let detail = format!("{} may give orders to these pairs only: {}", caller.who, pairs.join(", "));
    Problem::new(StatusCode::FORBIDDEN, detail)
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
