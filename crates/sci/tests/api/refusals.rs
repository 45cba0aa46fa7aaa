//! What the API says to requests that make no sense: always a problem document, always what to do, never harm.

use crate::world::World;
use sci::api::Problem;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

/// One request as it stands; status code and body of the answer.
fn raw(world: &World, request: &str) -> (u16, String, String) {
    let mut stream = UnixStream::connect(&world.socket).unwrap();
    stream.set_read_timeout(Some(crate::world::LIMIT)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, head.to_ascii_lowercase(), body.to_owned())
}

fn request(method: &str, path: &str, kind: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn every_refusal_is_a_problem_that_says_what_to_do() {
    let world = World::new();
    let json = "application/json";
    let long = format!(r#"{{"reason":"{}"}}"#, "x".repeat(70_000));
    let wordy = format!(r#"{{"reason":"{}"}}"#, "x".repeat(2_000));
    let cases = [
        ("GET", "/nothing", json, "", 404, "/api/v1/status"),
        ("GET", "/api/v1/nothing", json, "", 404, "/api/v1/nothing"),
        ("GET", "/api/v2/status", json, "", 404, "/api/v1"),
        ("DELETE", "/api/v1/status", json, "", 405, "orders are POST"),
        ("GET", "/api/v1/pairs/sip/switchover", json, "", 405, "orders are POST"),
        ("POST", "/api/v1/pairs/sip/switchover", json, "{", 400, "expected"),
        ("POST", "/api/v1/pairs/sip/switchover", json, "[]", 422, "expected"),
        ("POST", "/api/v1/pairs/sip/switchover", json, r#"{"too":"sip2"}"#, 422, "too"),
        ("POST", "/api/v1/pairs/sip/switchover", "text/plain", "{}", 415, "application/json"),
        ("POST", "/api/v1/pairs/sip/switchover", json, &long, 413, "64 KiB"),
        ("POST", "/api/v1/pairs/sip/switchover", json, &wordy, 400, "1000 bytes"),
        ("POST", "/api/v1/pairs/sip/switchover", json, r#"{"to":"x y"}"#, 422, "' '"),
        ("POST", "/api/v1/pairs/sip/switchover", json, r#"{"to":"sip9"}"#, 409, "sip1 and sip2"),
        ("POST", "/api/v1/pairs/other/switchover", json, "{}", 409, "sip"),
        ("POST", "/api/v1/pairs/%2e%2e%2f/switchover", json, "{}", 400, "name of a pair"),
        ("POST", "/api/v1/pairs/sip/acknowledge", json, "{}", 409, "not frozen"),
        ("POST", "/api/v1/pairs/sip/unfreeze", json, "{}", 409, "not frozen"),
        ("POST", "/api/v1/pairs/other/freeze", json, "{}", 409, "no pair"),
        ("POST", "/api/v1/applications/sip9/stop", json, "{}", 409, "sip1, sip2"),
        ("POST", "/api/v1/applications/sip1/stop", json, r#"{"gracefull":true}"#, 422, "gracefull"),
        ("POST", "/api/v1/alarms/one/clear", json, "{}", 400, "number of an alarm"),
        ("POST", "/api/v1/alarms/999/clear", json, "{}", 409, "takeover alarms"),
        ("GET", "/api/v1/pairs/other/plan", json, "", 404, "sip"),
        ("GET", "/api/v1/pairs/sip/plan?to=sip9", json, "", 400, "sip1 and sip2"),
        ("GET", "/api/v1/incidents/999", json, "", 404, "/incidents"),
        ("GET", "/api/v1/incidents/x", json, "", 400, "number of an incident"),
        ("GET", "/api/v1/log?level=loud", json, "", 400, "standard"),
        ("GET", "/api/v1/log?levle=alarm", json, "", 400, "levle"),
        ("GET", "/api/v1/log?limit=-1", json, "", 400, "invalid digit"),
    ];
    for (method, path, kind, body, status, says) in cases {
        let (code, head, answer) = raw(&world, &request(method, path, kind, body));
        assert_eq!(code, status, "{method} {path}: {answer}");
        assert!(head.contains("content-type: application/problem+json"), "{method} {path}: {head}");
        let problem: Problem = serde_json::from_str(&answer).unwrap();
        assert_eq!(problem.status, status);
        assert!(problem.detail.contains(says), "{method} {path}: {:?} does not say {says:?}", problem.detail);
    }
    let view = world.handle.view();
    assert_eq!(view.pairs[0].primary, Some(crate::world::app("sip1")), "nothing of this did anything");
    let audit = world.audit();
    let orders = cases.iter().filter(|case| case.0 == "POST").count();
    assert_eq!(audit.len(), orders, "each refused order is in the audit");
    assert!(audit.iter().all(|record| record.result.starts_with("refused: ") && !record.what.contains('\n')));
}

#[test]
fn what_is_not_http_is_dropped() {
    let world = World::new();
    for garbage in ["\0\0\0\0", "GET\r\n\r\n", &"x".repeat(100_000)] {
        let mut stream = UnixStream::connect(&world.socket).unwrap();
        stream.set_read_timeout(Some(crate::world::LIMIT)).unwrap();
        // The server may have hung up before all of it is written.
        let _ = stream.write_all(garbage.as_bytes());
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{garbage:.20}");
    }
    let (code, _, _) = raw(&world, &request("GET", "/api/v1/version", "application/json", ""));
    assert_eq!(code, 200, "others are served");
}
