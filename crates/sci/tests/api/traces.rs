//! Role changes as traces: what a collector gets, and when it is away for a while.

use crate::command::takeover;
use crate::world::{LIMIT, World};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{Span, status::StatusCode};
use prost::Message;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::ExitCode;

/// Takes one request and answers it; the body.
fn take(listener: &TcpListener, status: &str) -> Vec<u8> {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut reader = BufReader::new(stream);
    let (mut line, mut length, mut kind) = (String::new(), 0, String::new());
    while reader.read_line(&mut line).unwrap() > 2 {
        let (name, value) = line.trim().split_once(':').unwrap_or(("", &line));
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap(),
            "content-type" => kind = value.trim().to_owned(),
            "" => assert!(value.starts_with("POST /v1/traces "), "{value}"),
            _ => {}
        }
        line.clear();
    }
    assert_eq!(kind, "application/x-protobuf");
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    reader.get_mut().write_all(answer.as_bytes()).unwrap();
    body
}

fn spans(body: &[u8]) -> Vec<Span> {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    request.resource_spans.into_iter().flat_map(|of| of.scope_spans).flat_map(|of| of.spans).collect()
}

#[test]
fn a_switchover_is_one_trace_with_a_span_for_each_phase() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let world = World::traced(listener.local_addr().unwrap());
    // The world's own first primary; a collector that is busy gets it again.
    let busy = take(&listener, "503 Service Unavailable");
    assert_eq!(take(&listener, "200 OK"), busy);
    let scs = format!("unix:{}", world.socket.display());
    assert_eq!(takeover("switchover sip --yes --reason drill", &scs), ExitCode::SUCCESS);
    let spans = spans(&take(&listener, "200 OK"));
    let (root, phases) = spans.split_first().unwrap();
    assert_eq!(root.name, "manual switchover of sip");
    assert_eq!(root.status.as_ref().unwrap().code, StatusCode::Ok as i32);
    assert!(root.attributes.iter().any(|a| a.key == "takeover.to" && format!("{a:?}").contains("sip2")));
    let names: Vec<&str> = phases.iter().map(|span| span.name.as_str()).collect();
    for phase in ["detected", "decided", "backup-instructed", "primary-confirmed", "address-moved"] {
        assert!(names.contains(&phase), "{names:?} lacks {phase}");
    }
    for span in phases {
        assert_eq!((&span.trace_id, &span.parent_span_id), (&root.trace_id, &root.span_id));
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
        assert!(span.end_time_unix_nano <= root.end_time_unix_nano, "{span:?} is later than {root:?}");
    }
    let mut ids: Vec<_> = spans.iter().map(|span| &span.span_id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), spans.len(), "each span has an id of its own");
    assert_eq!((root.trace_id.len(), root.span_id.len()), (16, 8));
}
