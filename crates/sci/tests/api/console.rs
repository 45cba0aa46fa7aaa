//! The web console as a browser gets it: files with strict headers, who is asking, the audit, and no orders from elsewhere.

use crate::world::World;
use sci::api::{Accepted, Audit, Because, Session};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

/// One request over the Unix socket, and all that is answered.
fn exchange(world: &World, request: &str) -> String {
    let mut stream = UnixStream::connect(&world.socket).unwrap();
    stream.set_read_timeout(Some(crate::world::LIMIT)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn get(world: &World, path: &str, more: &str) -> String {
    exchange(world, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{more}\r\n"))
}

#[test]
fn files_come_with_strict_headers_and_only_once() {
    let world = World::new();
    let page = get(&world, "/", "");
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("<title>Takeover</title>"), "{page}");
    for header in
        ["content-security-policy: default-src 'none'; script-src 'self'", "x-content-type-options: nosniff"]
    {
        assert!(page.contains(header), "{header} is missing in {page}");
    }
    let etag = page.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();
    let again = get(&world, "/", &format!("If-None-Match: {etag}\r\n"));
    assert!(again.starts_with("HTTP/1.1 304") && !again.contains("<title>"), "{again}");
    let script = get(&world, "/app.js", "");
    assert!(script.contains("content-type: text/javascript"), "{script}");
    for path in
        ["/app.css", "//app.js", "/../app.js", "/%2e%2e/app.js", "/pages/", "/api/v1/app.js", "/APP.JS"]
    {
        assert!(get(&world, path, "").starts_with("HTTP/1.1 404"), "{path}");
    }
    let post = "POST /index.html HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    assert!(exchange(&world, post).starts_with("HTTP/1.1 404"));
}

#[test]
fn who_asks_is_told_and_what_was_ordered_is_listed() {
    let world = World::new();
    world.run(async {
        let session: Session = world.client.get("/session", &()).await.unwrap();
        assert!(!session.user.is_empty() && session.role == access::Role::Administrator, "{session:?}");
        for reason in ["first", "second"] {
            let because = Because { reason: reason.to_owned() };
            world.client.post::<Accepted>("/applications/sip1/start", &because).await.unwrap();
        }
    });
    assert_eq!(world.audit().len(), 2);
    world.run(async {
        let all: Audit = world.client.get("/audit", &()).await.unwrap();
        let reasons: Vec<_> = all.records.iter().map(|line| line.record.reason.as_str()).collect();
        assert_eq!(reasons, ["second", "first"]);
        let older = [("before", all.records[0].number), ("limit", 5)];
        let older: Audit = world.client.get("/audit", &older).await.unwrap();
        assert_eq!(older.records, all.records[1..]);
    });
}

#[test]
fn pages_of_other_sites_give_no_orders() {
    let world = World::new();
    let order = |site: &str| {
        let body = r#"{"reason":""}"#;
        let request = format!(
            "POST /api/v1/applications/sip1/start HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{site}\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        exchange(&world, &request)[..12].to_owned()
    };
    assert_eq!(order("Sec-Fetch-Site: cross-site\r\n"), "HTTP/1.1 403");
    assert_eq!(order("Sec-Fetch-Site: same-site\r\n"), "HTTP/1.1 403");
    assert_eq!(order("Sec-Fetch-Site: same-origin\r\n"), "HTTP/1.1 202");
    assert_eq!(order(""), "HTTP/1.1 202", "the command line says nothing of sites");
    assert_eq!(world.audit().len(), 2);
}
