//! What would happen if something failed now. The core thread gives away a copy of what it knows of the pair; the thinking is
//! done here, where nobody waits for it.

use super::routes::{Answer, Api, CORE_LIMIT, named, no_answer};
use crate::api::{Consequences, Problem};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use domain::PairName;
use tokio::time::timeout;

pub(super) async fn consequences(State(api): State<Api>, Path(pair): Path<String>) -> Answer<Consequences> {
    let pair: PairName = named("pair", &pair)?;
    let copy =
        timeout(CORE_LIMIT, api.handle.copy_of_pair(pair.clone())).await.map_err(|_| no_answer())??;
    let (state, at) = copy.ok_or_else(|| Problem::not_found(format!("there is no pair {pair}")))?;
    let of = pair.clone();
    let told = tokio::task::spawn_blocking(move || state.consequences(&of, at)).await;
    let failed =
        |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "what would happen could not be worked out");
    let consequences = told.map_err(failed)?.map_err(|why| Problem::new(StatusCode::CONFLICT, why))?;
    Ok(Json(Consequences { pair, at, consequences }))
}
