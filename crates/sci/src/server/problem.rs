//! Problems as responses (RFC 9457), each with a sentence that says what to do.

use crate::api::{MAX_BODY, PREFIX, Problem};
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ha_core::Plan;
use scs::handle::Gone;
use scs::store::QueryError;
use std::error::Error;

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error").to_owned();
        Self { status: status.as_u16(), title, detail: detail.into(), plan: None, outlook: None }
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    pub(super) fn refused(why: String, plan: Option<Plan>) -> Self {
        Self { plan: plan.map(Box::new), ..Self::new(StatusCode::CONFLICT, why) }
    }

    pub(super) fn no_route(path: &str) -> Self {
        Self::not_found(format!(
            "there is no {path}; {PREFIX}/status, /pairs, /applications, /alarms, /log, /incidents, /hosts, /events and \
             /version are there, see the documentation"
        ))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(self)).into_response();
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}

impl From<Gone> for Problem {
    fn from(gone: Gone) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, format!("{gone}; try again when it is back"))
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::TooLong => Self::bad_request(error.to_string()),
            QueryError::Content { .. } => Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
            QueryError::Database(ref cause) => {
                let detail = format!("{error}: {cause}; look at the file and its disk");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
            }
        }
    }
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        let status = rejection.status();
        let detail = if status == StatusCode::PAYLOAD_TOO_LARGE {
            format!("the body is too large; most have at most {} KiB", MAX_BODY / 1024)
        } else if status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            "send a JSON object with Content-Type: application/json; {} where there is nothing to say"
                .to_owned()
        } else {
            format!("the body is not what was expected: {}", innermost(&rejection))
        };
        Self::new(status, detail)
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::bad_request(format!("the query is not what was expected: {}", innermost(&rejection)))
    }
}

/// The most particular thing that an error says.
fn innermost(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
