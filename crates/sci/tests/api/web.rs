//! The web port: nobody gets in without a login or a token, roles and scopes hold, orders of other pages are refused, and what
//! was tried is in the audit.

use crate::world::{LIMIT, Ports, World};
use control_link::{Identity, Role, ca, web};
use domain::OidcSettings;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sci::api::{Audit, MadeToken, NewLink, Problem, Session, Users, Version};
use sci::client::{Client, Credentials, Target};
use scs::store::AuditRecord;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fs::Permissions;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;

const PASSWORD: &str = "correct horse battery";

/// The web port of a world, and a browser's memory.
pub struct Browser {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    pub cookie: Option<String>,
    pub csrf: Option<String>,
}

/// An answer.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_str(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.body))
    }

    /// The refusal, with what it says.
    pub fn refused(&self, status: u16, says: &str) {
        let problem: Problem = self.json();
        assert_eq!((self.status, problem.status), (status, status), "{problem}");
        assert!(problem.detail.contains(says), "{problem} does not say {says:?}");
    }
}

fn world() -> (World, Browser) {
    let mut browser = None;
    let world = World::with(|directory| web_port(directory, &mut browser));
    (world, browser.unwrap())
}

/// The same with logins by an identity provider.
pub fn world_with(oidc: OidcSettings) -> (World, Browser) {
    let mut browser = None;
    let world = World::with_provider(|directory| web_port(directory, &mut browser), oidc);
    (world, browser.unwrap())
}

fn web_port(directory: &Path, browser: &mut Option<Browser>) -> Ports {
    ca::init(&directory.join("ca"), "test").unwrap();
    let name = ["127.0.0.1".to_owned()];
    let issued =
        ca::issue_for(&directory.join("ca"), Role::Scs, "scs", &name, &directory.join("scs")).unwrap();
    let identity = Identity::load(&issued.certificate, &issued.key, &issued.ca).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let tls = web::client(&issued.ca).unwrap();
    *browser = Some(Browser { address, tls, cookie: None, csrf: None });
    (None, Some((listener, web::server_of(&identity))))
}

impl Browser {
    /// Another one, which has logged in nowhere.
    pub fn another(&self) -> Self {
        Self { address: self.address, tls: self.tls.clone(), cookie: None, csrf: None }
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = "127.0.0.1".try_into().unwrap();
        TlsConnector::from(self.tls.clone()).connect(name, stream).await.unwrap()
    }

    /// Sends `head` (lines, each with its end) behind the request line, and `body`; all that comes back.
    pub async fn send(&self, method: &str, path: &str, head: &str, body: &str) -> Answer {
        let mut stream = self.connect().await;
        let length =
            if method == "GET" { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{length}{head}\r\n{body}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // An end without TLS's own good-bye is one, too: the length is in the head.
        let _ = timeout(LIMIT, stream.read_to_end(&mut answer)).await.unwrap();
        let text = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }

    /// As a page does it: with the cookie, and its value with orders.
    pub async fn ask(&self, method: &str, path: &str, body: Value) -> Answer {
        let cookie =
            self.cookie.as_ref().map(|cookie| format!("Cookie: a=b; {cookie}\r\n")).unwrap_or_default();
        let csrf = self.csrf.as_ref().filter(|_| method != "GET");
        let csrf = csrf.map(|csrf| format!("X-CSRF-Token: {csrf}\r\n")).unwrap_or_default();
        let head = format!("Content-Type: application/json\r\nSec-Fetch-Site: same-origin\r\n{cookie}{csrf}");
        let body = if method == "POST" { body.to_string() } else { String::new() };
        self.send(method, &format!("/api/v1{path}"), &head, &body).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, Value::Null).await
    }

    pub async fn log_in(&mut self, user: &str, password: &str) -> Answer {
        let answer = self.ask("POST", "/session", json!({ "user": user, "password": password })).await;
        if answer.status == 200 {
            let cookie = answer.head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
            assert!(cookie.ends_with("; Path=/; Secure; HttpOnly; SameSite=Strict"), "{cookie}");
            self.cookie = cookie.split(';').next().map(str::to_owned);
            self.csrf = answer.json::<Session>().csrf;
        }
        answer
    }

    /// Somebody sets a password by a link's code and logs in.
    async fn enter(&self, name: &str, code: &str) -> Browser {
        let mut browser = self.another();
        let set = json!({ "code": code, "user": name, "password": PASSWORD });
        let answer = browser.ask("POST", "/password", set).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(browser.log_in(name, PASSWORD).await.status, 200);
        browser
    }
}

/// The first administrator, logged in.
pub async fn root(world: &World, browser: &Browser) -> Browser {
    browser.enter("root", world.first_link.as_ref().unwrap()).await
}

async fn user(root: &Browser, name: &str, role: &str) -> Browser {
    let made = root.ask("POST", "/users", json!({ "name": name, "role": role })).await;
    let link: NewLink = made.json();
    assert_eq!(
        link.url,
        Some(format!("https://scs:7443{}", link.path)),
        "as the web port's address is written"
    );
    root.enter(name, link.path.strip_prefix("/#/password/").unwrap()).await
}

pub fn told(records: &[AuditRecord]) -> Vec<String> {
    records.iter().map(|record| format!("{}: {}: {}", record.who, record.what, record.result)).collect()
}

#[test]
fn strangers_see_the_console_and_nothing_else() {
    let (world, browser) = world();
    world.run(async {
        let page = browser.send("GET", "/", "", "").await;
        assert_eq!(page.status, 200);
        assert!(page.head.contains("strict-transport-security: "), "{}", page.head);
        for path in
            ["/status", "/hosts", "/log", "/incidents", "/events", "/audit", "/users", "/tokens", "/version"]
        {
            let answer = browser.get(path).await;
            answer.refused(401, "log in first");
            assert!(answer.head.contains("www-authenticate: Bearer"), "{}", answer.head);
        }
        browser.ask("POST", "/applications/sip1/stop", json!({})).await.refused(401, "log in first");
        browser
            .ask("POST", "/users", json!({"name": "eve", "role": "administrator"}))
            .await
            .refused(401, "log in");
        for token in ["x", &"0".repeat(64)] {
            let answer = browser
                .send("GET", "/api/v1/status", &format!("Authorization: Bearer {token}\r\n"), "")
                .await;
            answer.refused(401, "this token does not exist");
        }
        let basic = browser.send("GET", "/api/v1/status", "Authorization: Basic cm9vdDo=\r\n", "").await;
        basic.refused(401, "Bearer TOKEN");
    });
    let audit = told(&world.audit());
    assert_eq!(
        audit[..2].iter().map(|line| line.split(": refused").next().unwrap()).collect::<Vec<_>>(),
        ["?: POST /applications/sip1/stop", "?: POST /users"]
    );
    assert_eq!(audit.len(), 5, "wrong credentials are attempts, looking without any is none: {audit:#?}");
}

#[test]
fn the_first_administrator_comes_by_the_link_and_makes_the_others() {
    let (world, browser) = world();
    world.run(async {
        let code = world.first_link.clone().unwrap();
        let look = browser.ask("POST", "/password/link", json!({ "code": code })).await;
        assert_eq!(look.json::<Value>()["user"], Value::Null);
        let set = |user: Value, password: &str| json!({ "code": code, "user": user, "password": password });
        browser.ask("POST", "/password", set(Value::Null, PASSWORD)).await.refused(422, "needs a name");
        browser.ask("POST", "/password", set("root".into(), "short")).await.refused(422, "at least 12");
        let root = root(&world, &browser).await;
        browser.ask("POST", "/password", set("eve".into(), PASSWORD)).await.refused(404, "used already");
        let who: Session = root.get("/session").await.json();
        assert_eq!((who.user.as_str(), who.role), ("root", access::Role::Administrator));

        let ann = user(&root, "ann", "operator").await;
        assert_eq!(ann.get("/status").await.status, 200);
        let users: Users = root.get("/users").await.json();
        assert_eq!(users.users.len(), 2);
        root.ask("POST", "/users/root/role", json!({ "role": "viewer" }))
            .await
            .refused(409, "last administrator");
        root.ask("DELETE", "/users/root", Value::Null).await.refused(409, "last administrator");
        assert_eq!(root.ask("POST", "/users/ann/disable", json!({ "reason": "left" })).await.status, 200);
        ann.get("/status").await.refused(401, "log in first");
        assert_eq!(root.ask("DELETE", "/users/ann", Value::Null).await.status, 200);
        assert_eq!(root.ask("DELETE", "/session", Value::Null).await.status, 200);
        root.get("/status").await.refused(401, "log in first");
    });
    let audit = told(&world.audit());
    for line in [
        "root: set password by link: accepted: the password is set",
        "root: log in: accepted: logged in",
        "root: add user ann, operator: accepted: done",
        "root: disable user ann: accepted: done",
        "root: log out: accepted: logged out",
    ] {
        assert!(audit.iter().any(|told| told == line), "{line} is not in {audit:#?}");
    }
    assert!(!format!("{audit:?}").contains(PASSWORD));
    assert_eq!(world.handle.store().verify_audit().unwrap().broken, None);
}

#[test]
fn roles_hold_and_what_is_refused_is_audited() {
    let (world, browser) = world();
    world.run(async {
        let root = root(&world, &browser).await;
        let (vera, otto) = (user(&root, "vera", "viewer").await, user(&root, "otto", "operator").await);
        assert_eq!(vera.get("/status").await.status, 200);
        vera.ask("POST", "/applications/sip2/start", json!({}))
            .await
            .refused(403, "needs the role operator; vera is viewer");
        vera.get("/audit").await.refused(403, "needs the role operator");
        assert_eq!(otto.ask("POST", "/applications/sip2/start", json!({})).await.status, 202);
        otto.ask("POST", "/users", json!({ "name": "eve", "role": "administrator" }))
            .await
            .refused(403, "administrator");
        otto.get("/tokens").await.refused(403, "administrator");
        let audit: Audit = otto.get("/audit").await.json();
        let refused = |who: &str| audit.records.iter().filter(|line| line.record.who == who).count();
        assert!(refused("vera") >= 2 && refused("otto") >= 2, "{audit:#?}");
        assert_eq!(root.ask("POST", "/users/vera/role", json!({ "role": "operator" })).await.status, 200);
        assert_eq!(vera.ask("POST", "/applications/sip2/start", json!({})).await.status, 202, "at once");
    });
}

#[test]
fn orders_of_other_pages_are_refused() {
    let (world, browser) = world();
    world.run(async {
        let root = root(&world, &browser).await;
        let cookie = format!("Cookie: {}\r\n", root.cookie.clone().unwrap());
        let json = "Content-Type: application/json\r\n";
        let path = "/api/v1/applications/sip2/start";
        let other = |head: String| {
            let root = &root;
            async move { root.send("POST", path, &head, "{}").await }
        };
        // The cookie alone is what another site's page could have sent along.
        other(format!("{cookie}{json}")).await.refused(403, "x-csrf-token");
        let wrong = format!("X-CSRF-Token: {}\r\n", "0".repeat(64));
        other(format!("{cookie}{json}{wrong}")).await.refused(403, "x-csrf-token");
        let right = format!("X-CSRF-Token: {}\r\n", root.csrf.clone().unwrap());
        other(format!("{cookie}{json}{right}Sec-Fetch-Site: cross-site\r\n"))
            .await
            .refused(403, "another site");
        assert_eq!(other(format!("{cookie}{json}{right}")).await.status, 202);
        // Another session's value is of no use.
        let mut second = browser.another();
        second.log_in("root", PASSWORD).await;
        let foreign = format!("X-CSRF-Token: {}\r\n", second.csrf.unwrap());
        other(format!("{cookie}{json}{foreign}")).await.refused(403, "x-csrf-token");
    });
}

#[test]
fn who_guesses_is_locked_out_and_a_name_tells_nothing() {
    let (world, browser) = world();
    world.run(async {
        let _root = root(&world, &browser).await;
        let mut guesser = browser.another();
        for _ in 0..6 {
            guesser.log_in("root", "wrong horse battery").await.refused(401, "do not let anybody in");
        }
        guesser.log_in("root", PASSWORD).await.refused(429, "too many wrong attempts");
        guesser.log_in("nobody", PASSWORD).await.refused(401, "do not let anybody in");
        guesser.log_in("no such name!", PASSWORD).await.refused(401, "do not let anybody in");
    });
    let audit = told(&world.audit());
    assert_eq!(audit.iter().filter(|line| line.contains("log in: refused")).count(), 9, "{audit:#?}");
}

#[test]
fn an_order_that_is_sent_again_is_carried_out_once() {
    let (world, browser) = world();
    world.run(async {
        let root = root(&world, &browser).await;
        let head = format!(
            "Content-Type: application/json\r\nCookie: {}\r\nX-CSRF-Token: {}\r\n",
            root.cookie.as_ref().unwrap(),
            root.csrf.as_ref().unwrap()
        );
        let order = |key: &'static str, body: &'static str| {
            let head = format!("{head}Idempotency-Key: {key}\r\n");
            let root = &root;
            async move { root.send("POST", "/api/v1/pairs/sip/switchover", &head, body).await }
        };
        let first = order("k1", "{}").await;
        assert_eq!(first.status, 202, "{}", first.body);
        let again = order("k1", "{}").await;
        assert_eq!((again.status, &again.body), (202, &first.body));
        order("k1", r#"{"reason":"another"}"#).await.refused(422, "another order");
        order("", "{}").await.refused(400, "1 to 128");
    });
    let ordered = world.audit().iter().filter(|record| record.what.starts_with("switchover")).count();
    assert_eq!(ordered, 1);
}

#[test]
fn an_unchanged_answer_is_not_sent_again() {
    let (world, browser) = world();
    world.run(async {
        let root = root(&world, &browser).await;
        let users = root.get("/users").await;
        let etag = users.head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
        let cookie = root.cookie.clone().unwrap();
        let asked = |tag: String| {
            let (root, head) = (&root, format!("Cookie: {cookie}\r\nIf-None-Match: {tag}\r\n"));
            async move { root.send("GET", "/api/v1/users", &head, "").await }
        };
        let same = asked(format!("\"other\", W/{etag}")).await;
        assert_eq!((same.status, same.body.as_str()), (304, ""));
        root.ask("POST", "/users", json!({ "name": "ann", "role": "viewer" })).await;
        assert_eq!(asked(etag.to_owned()).await.status, 200);
    });
}

#[test]
fn a_thousand_readers_of_live_events_are_served() {
    // Both ends are in this process: twice as many files, and some.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    assert!(
        most >= 4_096,
        "a process may have {most} open files here, this test needs 4096: raise the hard limit"
    );
    setrlimit(Resource::RLIMIT_NOFILE, most.min(65_536), most).unwrap();
    let (world, browser) = world();
    let sockets = 1_000;
    world.run(async {
        let root = root(&world, &browser).await;
        let cookie = root.cookie.as_ref().unwrap();
        let request = format!("GET /api/v1/events HTTP/1.1\r\nHost: x\r\nCookie: {cookie}\r\n\r\n");
        let mut readers = Vec::new();
        for _ in 0..sockets {
            let mut stream = browser.connect().await;
            stream.write_all(request.as_bytes()).await.unwrap();
            readers.push(stream);
        }
        for reader in &mut readers {
            until(reader, ": connected").await;
        }
        let event = domain::LogEvent::new(domain::events::SCS_STARTED, domain::Micros(1));
        world.handle.publish(scs::handle::LiveEvent::Log(event.because("for all".to_owned())));
        for reader in &mut readers {
            until(reader, "for all").await;
        }
        assert_eq!(root.get("/status").await.status, 200, "others are served beside them");
    });
}

/// Reads until `text` has come.
async fn until(reader: &mut TlsStream<TcpStream>, text: &str) {
    let (mut all, mut buffer) = (String::new(), vec![0; 4_096]);
    while !all.contains(text) {
        let read = reader.read(&mut buffer).await.unwrap();
        assert!(read > 0, "{all}");
        all.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
}

#[test]
fn tokens_have_a_role_pairs_and_an_end() {
    let (world, browser) = world();
    world.run(async {
        let root = root(&world, &browser).await;
        let make = |body: Value| root.ask("POST", "/tokens", body);
        make(json!({ "name": "x", "role": "viewer", "days": 0 })).await.refused(400, "1 to 3650 days");
        make(json!({ "name": "x", "role": "viewer", "days": 1, "pairs": ["none"] }))
            .await
            .refused(400, "no pair none");
        let token: MadeToken =
            make(json!({ "name": "drill", "role": "operator", "days": 1, "pairs": [] })).await.json();
        let with = |token: &MadeToken| {
            format!("Content-Type: application/json\r\nAuthorization: Bearer {}\r\n", token.token)
        };
        let path = "/api/v1/applications/sip2/start";
        browser
            .send("POST", path, &with(&token), "{}")
            .await
            .refused(403, "token drill may give orders to these pairs");
        let token2: MadeToken =
            make(json!({ "name": "drill2", "role": "operator", "days": 1, "pairs": ["sip"] })).await.json();
        assert_eq!(browser.send("POST", path, &with(&token2), "{}").await.status, 202);
        let who: Session = browser.send("GET", "/api/v1/session", &with(&token2), "").await.json();
        assert_eq!((who.user.as_str(), who.csrf), ("token drill2", None));
        let some: MadeToken =
            make(json!({ "name": "some", "role": "administrator", "days": 1, "pairs": ["sip"] }))
                .await
                .json();
        for (method, path) in [("GET", "/api/v1/configuration/text"), ("GET", "/api/v1/users")] {
            browser.send(method, path, &with(&some), "").await.refused(403, "for some pairs only");
        }
        browser
            .send("POST", "/api/v1/configuration", &with(&some), "{}")
            .await
            .refused(403, "for some pairs only");
        let listed = root.get("/tokens").await.body;
        assert!(!listed.contains(&token.token) && listed.contains("drill2"), "{listed}");
        let gone = root.ask("DELETE", &format!("/tokens/{}", token2.id), Value::Null).await;
        assert_eq!(gone.status, 200);
        browser.send("POST", path, &with(&token2), "{}").await.refused(401, "does not exist");
    });
    assert!(told(&world.audit()).iter().any(|line| line.starts_with("token drill2: start sip2: accepted")));
}

#[test]
fn the_command_line_gets_in_with_a_token() {
    let (world, browser) = world();
    let path = world.directory.path().join("token");
    world.run(async {
        let root = root(&world, &browser).await;
        let made = root.ask("POST", "/tokens", json!({ "name": "cli", "role": "viewer", "days": 1 })).await;
        let token: MadeToken = made.json();
        std::fs::write(&path, format!("{}\n", token.token)).unwrap();
    });
    let ca = world.directory.path().join("ca/ca.pem");
    let parse = || {
        let files = Credentials { token_file: Some(&path), ca: Some(&ca), ..Credentials::default() };
        Target::parse(&format!("https://{}", browser.address), files)
    };
    std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    assert!(parse().unwrap_err().to_string().contains("chmod 600"));
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let client = Client::new(parse().unwrap());
    world.run(async {
        client.get::<Version>("/version", &()).await.unwrap();
        let refused = client.post::<Value>("/applications/sip2/start", &json!({})).await.unwrap_err();
        assert!(refused.to_string().contains("token cli is viewer"), "{refused}");
    });
}

#[test]
fn what_was_made_is_there_after_a_restart() {
    let (world, browser) = world();
    let cookie = world.run(async { root(&world, &browser).await.cookie.clone().unwrap() });
    let kept = world.handle.store().load_accounts().unwrap().unwrap();
    let secret = cookie.split_once('=').unwrap().1;
    assert!(kept.contains("root") && !kept.contains(secret) && !kept.contains(PASSWORD));
    // The next server reads the same store.
    let unix = sci::server::bind_unix(&world.directory.path().join("again.sock")).unwrap();
    let listeners = sci::server::Listeners { unix, tls: None, web: None, web_address: None, oidc: None };
    let again = sci::server::serve(world.handle.clone(), listeners, None, "0").unwrap();
    assert!(again.first_link().is_none(), "there is an administrator");
}

#[test]
fn slow_and_oversized_clients_harm_nobody() {
    let (world, browser) = world();
    world.run(async {
        let root = root(&world, &browser).await;
        let big = format!("{{\"reason\":\"{}\"}}", "x".repeat(70_000));
        let head = format!(
            "Content-Type: application/json\r\nCookie: {}\r\nX-CSRF-Token: {}\r\n",
            root.cookie.as_ref().unwrap(),
            root.csrf.as_ref().unwrap()
        );
        browser
            .send("POST", "/api/v1/applications/sip2/start", &head, &big)
            .await
            .refused(413, "at most 64 KiB");
        let long = format!("X: {}\r\n", "y".repeat(100_000));
        let answer = browser.send("GET", "/api/v1/status", &long, "").await;
        assert!(matches!(answer.status, 0 | 431), "{}", answer.status);
        // Connections that begin a request and never end it; everybody else is served meanwhile.
        let mut dawdlers = Vec::new();
        for _ in 0..200 {
            let mut stream = browser.connect().await;
            stream.write_all(b"GET /api/v1/status HTTP/1.1\r\nX: ").await.unwrap();
            dawdlers.push(stream);
        }
        assert_eq!(root.get("/status").await.status, 200);
    });
}
