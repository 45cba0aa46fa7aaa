//! Drills: listed from the view, scheduled and removed by orders as any other.

use super::door::Caller;
use super::orders::carry_out;
use super::routes::{Answer, Api, Body, named, parse};
use crate::api::{Drills, NewDrill, Problem};
use axum::extract::{Path, State};
use axum::response::Response;
use axum::{Extension, Json};
use domain::PairName;
use ha_core::{DrillPlan, OperatorOrder};

pub(super) async fn drills(State(api): State<Api>, Path(pair): Path<String>) -> Answer<Drills> {
    let name: PairName = named("pair", &pair)?;
    let view = api.handle.view();
    let found = view.pairs.iter().find(|pair| pair.name == name);
    let pair = found.ok_or_else(|| Problem::not_found(format!("there is no pair {name}")))?;
    Ok(Json(Drills { pair: name, drills: pair.drills.clone() }))
}

pub(super) async fn schedule(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(pair): Path<String>,
    body: Body,
) -> Response {
    let order = named("pair", &pair).and_then(|pair| {
        let NewDrill { at, every_days, back, reason } = parse(body)?;
        Ok((OperatorOrder::ScheduleDrill { pair, plan: DrillPlan { at, every_days, back } }, reason))
    });
    let how = match &order {
        Ok((OperatorOrder::ScheduleDrill { plan, .. }, _)) => described(plan),
        Ok(_) | Err(_) => String::new(),
    };
    carry_out(api, caller, format!("drill {pair}{how}"), order).await
}

pub(super) async fn remove(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path((pair, number)): Path<(String, String)>,
) -> Response {
    let order = named("pair", &pair).and_then(|pair| match number.parse() {
        Ok(number) => Ok((OperatorOrder::RemoveDrill { pair, number }, String::new())),
        Err(_) => Err(Problem::bad_request(format!("{number:?} is not the number of a drill"))),
    });
    carry_out(api, caller, format!("remove drill {number} of {pair}"), order).await
}

/// For the audit: when, how often, and whether back.
fn described(plan: &DrillPlan) -> String {
    let every = plan.every_days.map_or(String::new(), |days| format!(" every {days} days"));
    let back = if plan.back { " and back" } else { "" };
    format!(" at {}{every}{back}", utc(plan.at.0))
}

/// A time as people read it, whatever zone they are in: RFC 3339, to the second.
fn utc(us: u64) -> String {
    let at = i64::try_from(us).ok().and_then(|us| jiff::Timestamp::from_microsecond(us).ok());
    at.map_or_else(|| format!("{us} us"), |at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}
