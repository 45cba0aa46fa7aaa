//! Role changes as OpenTelemetry traces, sent to a collector by OTLP over HTTP (<https://opentelemetry.io/docs/specs/otlp/>):
//! one span for the incident, and one in it for each phase, from the phase before it on. A collector that is away is tried
//! again; what it misses for longer stays in the incidents.

use axum::body::Bytes;
use domain::Micros;
use ha_core::{Incident, IncidentOutcome, Phase};
use http_body_util::Full;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span, status};
use prost::Message;
use scs::handle::LiveEvent;
use sha2::{Digest as _, Sha256};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

/// Incidents that wait for a collector at most; what ends beyond that is not traced.
const MOST: usize = 256;
/// How long sending one may take.
const LIMIT: Duration = Duration::from_secs(5);
/// Pause before it is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Sends each incident that ends from now on; without a collector, never ends and does nothing.
pub(super) async fn run(
    collector: Option<SocketAddr>,
    mut events: Receiver<LiveEvent>,
    cluster: String,
    release: String,
) {
    let Some(collector) = collector else { return std::future::pending().await };
    let (sender, mut waiting) = mpsc::channel(MOST);
    let collecting = async move {
        loop {
            match events.recv().await {
                Ok(LiveEvent::Incident(incident)) if incident.ended.is_some() => {
                    // Full: the collector has been away for long.
                    let _ =
                        sender.try_send(Bytes::from(trace(&incident, &cluster, &release).encode_to_vec()));
                }
                Ok(LiveEvent::Incident(_) | LiveEvent::Log(_) | LiveEvent::ViewChanged)
                | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    };
    let sending = async move {
        while let Some(trace) = waiting.recv().await {
            let mut is_away = false;
            while let Err(why) = send(collector, trace.clone()).await {
                if !std::mem::replace(&mut is_away, true) {
                    eprintln!("takeover scs: traces cannot be sent to {collector}, trying again: {why}");
                }
                sleep(RETRY).await;
            }
        }
    };
    tokio::join!(collecting, sending);
}

/// Sends one request; one that the collector does not want is given up, as the protocol says.
async fn send(collector: SocketAddr, body: Bytes) -> Result<(), String> {
    let exchange = async {
        let stream = TcpStream::connect(collector).await.map_err(|error| error.to_string())?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        let request = Request::post("/v1/traces")
            .header(header::HOST, collector.to_string())
            .header(header::CONTENT_TYPE, "application/x-protobuf")
            .body(Full::new(body))
            .map_err(|error| error.to_string())?;
        // It ends with the sender, or with the limit of whoever waits for the answer.
        tokio::spawn(connection);
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Err(format!("it answers {}", answer.status())),
            status => {
                eprintln!("takeover scs: the collector at {collector} does not take a trace: {status}");
                Ok(())
            }
        }
    };
    timeout(LIMIT, exchange).await.map_err(|_| "no answer in time".to_owned())?
}

/// An incident as a trace. Its ids follow from the incident, so that one sent twice is one.
fn trace(incident: &Incident, cluster: &str, release: &str) -> ExportTraceServiceRequest {
    let of = |what: &str| {
        let seed = format!("{cluster}\0{}\0{}\0{what}", incident.id.0, incident.begun.0);
        Sha256::digest(seed.as_bytes()).to_vec()
    };
    let (trace_id, root) = (of("trace")[..16].to_vec(), of("span")[..8].to_vec());
    let span = |name: String, span_id: Vec<u8>, parent: Vec<u8>, from: Micros, to: Micros| Span {
        trace_id: trace_id.clone(),
        span_id,
        parent_span_id: parent,
        name,
        kind: span::SpanKind::Internal as i32,
        start_time_unix_nano: from.0.saturating_mul(1_000),
        end_time_unix_nano: to.max(from).0.saturating_mul(1_000),
        ..Span::default()
    };
    let ended = incident.ended.unwrap_or(incident.begun);
    let (name, begun) = (format!("{} of {}", incident.kind, incident.pair), incident.begun);
    let mut whole = span(name, root.clone(), Vec::new(), begun, ended);
    whole.attributes = vec![
        text("takeover.pair", incident.pair.as_str()),
        text("takeover.incident", &incident.id.0.to_string()),
        text("takeover.kind", &incident.kind.to_string()),
        text("takeover.from", incident.from.as_ref().map_or("", |app| app.as_str())),
        text("takeover.to", incident.to.as_str()),
        text("takeover.epoch", &incident.epoch.to_string()),
        text("takeover.reason", &incident.reason),
        text("takeover.ordered_by", &incident.ordered_by),
        text("takeover.outcome", &incident.outcome.to_string()),
    ];
    let (code, message) = match &incident.outcome {
        IncidentOutcome::Completed => (status::StatusCode::Ok, String::new()),
        IncidentOutcome::Open
        | IncidentOutcome::RolledBack { .. }
        | IncidentOutcome::Superseded
        | IncidentOutcome::Interrupted
        | IncidentOutcome::Reconfigured => (status::StatusCode::Error, incident.outcome.to_string()),
    };
    whole.status = Some(Status { message, code: code as i32 });
    let mut spans = vec![whole];
    let mut before = begun;
    for (n, (phase, at, host, what)) in phases(incident).into_iter().enumerate() {
        let id = of(&format!("phase {n}"))[..8].to_vec();
        let mut part = span(phase.to_string(), id, root.clone(), before.min(at), at);
        part.attributes = vec![text("takeover.what", what)];
        part.attributes.extend(host.map(|host| text("takeover.host", host)));
        spans.push(part);
        before = before.max(at);
    }
    let scope = InstrumentationScope {
        name: "takeover".to_owned(),
        version: release.to_owned(),
        ..InstrumentationScope::default()
    };
    let resource = Resource {
        attributes: vec![text("service.name", "takeover"), text("service.namespace", cluster)],
        ..Resource::default()
    };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
    let resource_spans = ResourceSpans { resource: Some(resource), scope_spans, ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![resource_spans] }
}

/// When each phase was first reached, where, and what happened, in order.
fn phases(incident: &Incident) -> Vec<(Phase, Micros, Option<&str>, &str)> {
    let mut phases: Vec<(Phase, Micros, Option<&str>, &str)> = Vec::new();
    for step in &incident.steps {
        if !phases.iter().any(|(phase, ..)| *phase == step.phase) {
            phases.push((step.phase, step.at, step.host.as_ref().map(|host| host.as_str()), &step.text));
        }
    }
    phases.sort_by_key(|(_, at, ..)| *at);
    phases
}

fn text(key: &str, value: &str) -> KeyValue {
    let value = AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) };
    KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
}
