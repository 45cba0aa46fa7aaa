//! What the kept incidents say: how long takeovers took, and one incident as a page to send to others.

use super::routes::{Answer, Api, Params, ask_store};
use crate::api::{PREFIX, Problem, TakeoverTimesOf};
use crate::render::{Look, report};
use crate::times::takeover_times;
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use domain::PairName;
use ha_core::Incident;
use scs::store::IncidentFilter;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Incidents that are looked at, the newest: enough for percentiles, and bounded.
const MOST: u32 = 5_000;
/// What a report in HTML may do: look as it says itself, and nothing else.
const REPORT_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OfPair {
    /// Of this pair; of all unless given.
    pair: Option<PairName>,
}

pub(super) async fn times(State(api): State<Api>, query: Params<OfPair>) -> Answer<TakeoverTimesOf> {
    let Query(OfPair { pair }) = query?;
    let filter = IncidentFilter { pair, open: Some(false), limit: Some(MOST), ..IncidentFilter::default() };
    let view = api.handle.view();
    let promise = |pair: &ha_core::PairView| Some((pair.name.clone(), pair.lease.as_ref()?.host_cut_us));
    let promises: BTreeMap<_, _> = view.pairs.iter().filter_map(promise).collect();
    let incidents = ask_store(&api, move |store| store.incidents(&filter)).await?;
    Ok(Json(TakeoverTimesOf {
        incidents: incidents.len(),
        since: incidents.first().map(|incident| incident.begun),
        times: takeover_times(&incidents, &promises),
    }))
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct InForm {
    #[serde(default)]
    form: Form,
}

#[derive(Deserialize, Default, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Form {
    #[default]
    Text,
    Html,
}

pub(super) async fn report(
    State(api): State<Api>,
    Path(id): Path<String>,
    query: Params<InForm>,
) -> Result<Response, Problem> {
    let Query(InForm { form }) = query?;
    let incident = find(&api, &id).await?;
    let cluster = api.handle.view().cluster.clone();
    let look = Look { colour: false, zone: jiff::tz::TimeZone::UTC };
    let (kind, text) = match form {
        Form::Text => ("text/plain; charset=utf-8", report::text(&incident, &cluster, &look)),
        Form::Html => ("text/html; charset=utf-8", report::html(&incident, &cluster, &look)),
    };
    let mut response = text.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(REPORT_POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}

/// The incident with this number.
pub(super) async fn find(api: &Api, id: &str) -> Result<Incident, Problem> {
    let id: u64 =
        id.parse().map_err(|_| Problem::bad_request(format!("{id:?} is not the number of an incident")))?;
    let found = ask_store(api, move |store| store.incident(id)).await?;
    found.ok_or_else(|| {
        Problem::not_found(format!("there is no incident {id}; {PREFIX}/incidents lists them"))
    })
}
