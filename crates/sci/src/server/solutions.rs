//! Solutions: listed from the view, started and stopped by orders as any other.

use super::door::Caller;
use super::orders::carry_out;
use super::routes::{Answer, Api, Body, named, parse};
use crate::api::{Because, Problem, Solutions, Stop};
use axum::extract::{Path, State};
use axum::response::Response;
use axum::{Extension, Json};
use domain::SolutionName;
use ha_core::{OperatorOrder, SolutionView};

pub(super) async fn solutions(State(api): State<Api>) -> Json<Solutions> {
    let view = api.handle.view();
    Json(Solutions { at: view.at, solutions: view.solutions.clone() })
}

pub(super) async fn solution(State(api): State<Api>, Path(solution): Path<String>) -> Answer<SolutionView> {
    let name: SolutionName = named("solution", &solution)?;
    let view = api.handle.view();
    let found = view.solutions.iter().find(|solution| solution.name == name);
    let found = found.ok_or_else(|| {
        let detail =
            format!("there is no solution {name}; `takeover solutions` and /api/v1/solutions list them");
        Problem::not_found(detail)
    })?;
    Ok(Json(found.clone()))
}

pub(super) async fn start(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(solution): Path<String>,
    body: Body,
) -> Response {
    let order = named("solution", &solution)
        .and_then(|solution| Ok((OperatorOrder::StartSolution { solution }, parse::<Because>(body)?.reason)));
    carry_out(api, caller, format!("start solution {solution}"), order).await
}

pub(super) async fn stop(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(solution): Path<String>,
    body: Body,
) -> Response {
    let order = named("solution", &solution).and_then(|solution| {
        let Stop { graceful, reason } = parse(body)?;
        Ok((OperatorOrder::StopSolution { solution, graceful }, reason))
    });
    carry_out(api, caller, format!("stop solution {solution}"), order).await
}
