//! Logins by an identity provider: a real one, over HTTP, with real signatures, which can be told to lie. What it is told to
//! say wrong is refused and audited, and what it says right gives the role of its groups and nothing more.

use crate::web::{Answer, Browser, root, told, world_with};
use crate::world::LIMIT;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::OidcSettings;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use sci::api::{LoginWays, Session};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::oneshot;

const SECRET: &str = "s3cret/with+signs=";

/// The query of a login.
type Asked = BTreeMap<String, String>;

/// What the provider says wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    Nothing,
    Nonce,
    Expired,
    NotYet,
    Audience,
    Issuer,
    OtherKeyOfThatName,
    UnknownKey,
    Unsigned,
    SharedSecret,
    Changed,
    ForAnother,
    NoName,
    Code,
}

/// The identity provider. Ends when dropped.
struct Idp {
    address: SocketAddr,
    desk: Arc<Desk>,
    _stop: oneshot::Sender<()>,
}

struct Desk {
    issuer: String,
    key: EcdsaKeyPair,
    other: EcdsaKeyPair,
    /// Codes given out: what their logins asked with, who it was, of which groups.
    codes: Mutex<BTreeMap<String, (Asked, Value)>>,
    lie: Mutex<Lie>,
}

impl Idp {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let key = || {
            let random = SystemRandom::new();
            let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap()
        };
        let desk = Arc::new(Desk {
            issuer: format!("http://{address}"),
            key: key(),
            other: key(),
            codes: Mutex::default(),
            lie: Mutex::new(Lie::Nothing),
        });
        let routes = Router::new()
            .route("/.well-known/openid-configuration", get(metadata))
            .route("/keys", get(keys))
            .route("/token", post(token))
            .with_state(Arc::clone(&desk));
        let (stop, stopped) = oneshot::channel::<()>();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let serving = async {
                    loop {
                        let Ok((stream, _)) = listener.accept().await else { continue };
                        let service = hyper_util::service::TowerToHyperService::new(routes.clone());
                        let stream = hyper_util::rt::TokioIo::new(stream);
                        tokio::spawn(
                            hyper::server::conn::http1::Builder::new().serve_connection(stream, service),
                        );
                    }
                };
                tokio::select! { _ = stopped => {} () = serving => {} }
            });
        });
        Self { address, desk, _stop: stop }
    }

    fn settings(&self, directory: &std::path::Path) -> OidcSettings {
        let file = directory.join("client-secret");
        write_secret(&file, &format!("{SECRET}\n"), 0o600);
        let groups = |group: &str| [group.to_owned()].into();
        OidcSettings {
            name: "Example SSO".to_owned(),
            issuer: format!("http://{}", self.address),
            client_id: "takeover".to_owned(),
            client_secret_file: Some(file),
            ca: None,
            scopes: vec!["profile".to_owned()],
            user_claim: "preferred_username".to_owned(),
            groups_claim: "realm_access.roles".to_owned(),
            viewers: groups("lookers"),
            operators: groups("noc"),
            administrators: groups("voice"),
            password_login: true,
        }
    }

    /// A person logs in there: the code that the browser is sent back with, for where it was sent from.
    fn log_in(&self, there: &str, groups: &[&str]) -> String {
        let asked = query(there);
        assert_eq!(asked["response_type"], "code");
        assert_eq!(asked["code_challenge_method"], "S256");
        assert_eq!(asked["redirect_uri"], "https://scs:7443/api/v1/oidc/callback");
        assert_eq!(asked["scope"], "openid profile");
        let mut codes = self.desk.codes.lock().unwrap();
        let code = format!("code{}", codes.len());
        codes.insert(code.clone(), (asked, json!(groups)));
        code
    }

    fn lies(&self, lie: Lie) {
        *self.desk.lie.lock().unwrap() = lie;
    }
}

fn write_secret(file: &std::path::Path, secret: &str, mode: u32) {
    std::fs::write(file, secret).unwrap();
    std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}

async fn metadata(State(desk): State<Arc<Desk>>) -> Json<Value> {
    let issuer = &desk.issuer;
    Json(json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize?tenant=1"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/keys"),
    }))
}

async fn keys(State(desk): State<Arc<Desk>>) -> Json<Value> {
    let point = desk.key.public_key().as_ref();
    let coordinate = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    Json(json!({ "keys": [
        { "kty": "strange", "kid": "k0" },
        { "kty": "EC", "crv": "P-256", "use": "enc", "kid": "k1", "alg": "ECDH-ES", "x": "AA", "y": "AA" },
        { "kty": "EC", "crv": "P-256", "use": "sig", "kid": "k1", "alg": "ES256",
          "x": coordinate(&point[1..33]), "y": coordinate(&point[33..]) },
    ] }))
}

/// RFC 6749, section 4.1.3: the code is good once, for whoever has the verifier and the client's secret.
async fn token(State(desk): State<Arc<Desk>>, headers: HeaderMap, body: String) -> Response {
    let form: BTreeMap<String, String> = serde_urlencoded::from_str(&body).unwrap();
    let lie = *desk.lie.lock().unwrap();
    let refused = |error: &str| {
        (StatusCode::BAD_REQUEST, Json(json!({ "error": error, "error_description": "no <i>more</i>" })))
            .into_response()
    };
    let basic = base64::engine::general_purpose::STANDARD.encode("takeover:s3cret%2Fwith%2Bsigns%3D");
    if headers.get("authorization").is_none_or(|value| value != &format!("Basic {basic}")) {
        return refused("invalid_client");
    }
    let Some((asked, groups)) = desk.codes.lock().unwrap().remove(&form["code"]) else {
        return refused("invalid_grant");
    };
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&form["code_verifier"]));
    if lie == Lie::Code
        || challenge != asked["code_challenge"]
        || form["redirect_uri"] != asked["redirect_uri"]
    {
        return refused("invalid_grant");
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let mut claims = json!({
        "iss": desk.issuer, "aud": "takeover", "sub": "subject-7", "iat": now, "exp": now + 300,
        "nonce": asked["nonce"], "preferred_username": "ann", "realm_access": { "roles": groups },
    });
    match lie {
        Lie::Nonce => claims["nonce"] = json!("0".repeat(64)),
        Lie::Expired => claims["exp"] = json!(now - 120),
        Lie::NotYet => claims["nbf"] = json!(now + 600),
        Lie::Audience => claims["aud"] = json!("mail"),
        Lie::Issuer => claims["iss"] = json!("https://evil.example.com"),
        Lie::ForAnother => (claims["aud"], claims["azp"]) = (json!(["takeover", "mail"]), json!("mail")),
        Lie::NoName => claims["preferred_username"] = json!("Ann of Cleves"),
        Lie::Nothing
        | Lie::OtherKeyOfThatName
        | Lie::UnknownKey
        | Lie::Unsigned
        | Lie::SharedSecret
        | Lie::Changed
        | Lie::Code => {}
    }
    let (algorithm, kid) = match lie {
        Lie::Unsigned => ("none", "k1"),
        Lie::SharedSecret => ("HS256", "k1"),
        Lie::UnknownKey => ("ES256", "k9"),
        _ => ("ES256", "k1"),
    };
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(&json!({ "alg": algorithm, "kid": kid })), part(&claims));
    let key = if lie == Lie::OtherKeyOfThatName { &desk.other } else { &desk.key };
    let signature = key.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
    let mut signature = URL_SAFE_NO_PAD.encode(signature);
    let mut message = message;
    match lie {
        Lie::Unsigned => signature.clear(),
        Lie::SharedSecret => {
            // Signed with what is published, as with a password (the confusion of RFC 8725, section 2.1).
            let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, desk.key.public_key().as_ref());
            signature = URL_SAFE_NO_PAD.encode(ring::hmac::sign(&key, message.as_bytes()));
        }
        Lie::Changed => {
            claims["realm_access"]["roles"] = json!(["voice"]);
            message = format!("{}.{}", message.split('.').next().unwrap(), part(&claims));
        }
        _ => {}
    }
    Json(json!({ "access_token": "x", "token_type": "Bearer", "id_token": format!("{message}.{signature}") }))
        .into_response()
}

fn query(url: &str) -> Asked {
    serde_urlencoded::from_str(url.split_once('?').unwrap().1).unwrap()
}

fn header<'a>(answer: &'a Answer, name: &str) -> Vec<&'a str> {
    answer.head.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).collect()
}

/// Begins a login: where the browser is sent, and the cookie that it keeps meanwhile.
async fn begin(browser: &Browser) -> (String, String) {
    let answer = browser.send("GET", "/api/v1/oidc/login", "", "").await;
    assert_eq!(answer.status, 303, "{}", answer.body);
    let cookie = header(&answer, "set-cookie")[0];
    assert!(cookie.ends_with("; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=600"), "{cookie}");
    (header(&answer, "location")[0].to_owned(), cookie.split(';').next().unwrap().to_owned())
}

/// The browser comes back.
async fn back(browser: &Browser, cookie: &str, query: &str) -> Answer {
    let head = format!("Cookie: {cookie}\r\nSec-Fetch-Site: cross-site\r\n");
    browser.send("GET", &format!("/api/v1/oidc/callback?{query}"), &head, "").await
}

/// A whole login of somebody of these groups.
async fn sign_in(idp: &Idp, browser: &Browser, groups: &[&str]) -> Answer {
    let (there, cookie) = begin(browser).await;
    let code = idp.log_in(&there, groups);
    back(browser, &cookie, &format!("code={code}&state={}", query(&there)["state"])).await
}

/// What the browser has after a login that came about.
async fn signed_in(idp: &Idp, browser: &Browser, groups: &[&str]) -> (Browser, Session) {
    let answer = sign_in(idp, browser, groups).await;
    assert_eq!((answer.status, header(&answer, "location")), (303, vec!["/"]), "{}", answer.body);
    let cookies = header(&answer, "set-cookie");
    assert!(
        cookies[0].starts_with("__Host-takeover-login=;") && cookies[0].ends_with("Max-Age=0"),
        "{cookies:?}"
    );
    assert!(cookies[1].ends_with("; Path=/; Secure; HttpOnly; SameSite=Strict"), "{cookies:?}");
    let mut browser = browser.another();
    browser.cookie = cookies[1].split(';').next().map(str::to_owned);
    let session: Session = browser.get("/session").await.json();
    browser.csrf.clone_from(&session.csrf);
    (browser, session)
}

#[test]
fn a_group_has_its_role_and_nothing_more() {
    let (idp, directory) = (Idp::start(), tempfile::tempdir().unwrap());
    let (world, browser) = world_with(idp.settings(directory.path()));
    world.run(async {
        let ways: LoginWays = browser.get("/login").await.json();
        assert_eq!(ways, LoginWays { provider: Some("Example SSO".to_owned()), passwords: true });
        let stop = |browser: Browser| async move {
            let stopped = browser.ask("POST", "/applications/sip2/stop", json!({ "reason": "test" })).await;
            (stopped.status, browser.get("/users").await.status)
        };
        let (viewer, session) = signed_in(&idp, &browser, &["lookers", "people"]).await;
        assert_eq!((session.user.as_str(), session.role), ("sso ann", access::Role::Viewer));
        assert_eq!(stop(viewer).await, (403, 403));
        let (operator, session) = signed_in(&idp, &browser, &["noc", "lookers"]).await;
        assert_eq!(session.role, access::Role::Operator, "the greatest of them");
        assert_eq!(stop(operator).await, (202, 403));
        let (administrator, session) = signed_in(&idp, &browser, &["voice"]).await;
        assert_eq!(session.role, access::Role::Administrator);
        assert_eq!(stop(administrator.another()).await, (401, 401), "another browser");
        assert_eq!(administrator.get("/users").await.status, 200);
        assert_eq!(administrator.ask("DELETE", "/session", Value::Null).await.status, 200);
        administrator.get("/status").await.refused(401, "log in first");
    });
    let audit = told(&world.audit());
    let login =
        "sso ann: log in by Example SSO: accepted: logged in as operator by group noc, subject subject-7";
    assert!(audit.iter().any(|line| line == login), "{audit:#?}");
    assert!(audit.iter().any(|line| line.starts_with("sso ann: stop sip2: accepted")), "{audit:#?}");
    assert!(!audit.iter().any(|line| line.contains(SECRET) || line.contains("code0")), "{audit:#?}");
}

#[test]
fn what_the_provider_says_wrong_is_refused_and_audited() {
    let (idp, directory) = (Idp::start(), tempfile::tempdir().unwrap());
    let (world, browser) = world_with(idp.settings(directory.path()));
    let lies = [
        (Lie::Nonce, 403, "it is of another login"),
        (Lie::Expired, 403, "it has expired"),
        (Lie::NotYet, 403, "it is not valid yet"),
        (Lie::Audience, 403, "it was made for another client"),
        (Lie::Issuer, 403, "another provider made it"),
        (Lie::OtherKeyOfThatName, 403, "its signature is not the provider"),
        (Lie::UnknownKey, 403, "a key that the provider does not publish"),
        (Lie::Unsigned, 403, "it is not well-formed"),
        (Lie::SharedSecret, 403, "which anybody could have done"),
        (Lie::Changed, 403, "its signature is not the provider"),
        (Lie::ForAnother, 403, "another client asked for it"),
        (Lie::NoName, 500, "cannot name anybody here"),
        (Lie::Code, 403, "invalid_grant no"),
    ];
    world.run(async {
        for (lie, status, says) in lies {
            idp.lies(lie);
            let answer = sign_in(&idp, &browser, &["noc"]).await;
            assert_eq!(answer.status, status, "{lie:?}: {}", answer.body);
            assert!(answer.body.contains(says), "{lie:?}: {}", answer.body);
            assert!(header(&answer, "content-type")[0].starts_with("text/html"), "a page for a person");
            assert!(answer.head.contains("content-security-policy: default-src 'none'"), "{}", answer.head);
            assert_eq!(
                header(&answer, "set-cookie").len(),
                1,
                "only that the login's cookie is gone: {lie:?}"
            );
            assert!(!answer.body.contains("<i>more"), "what the provider says is text: {}", answer.body);
        }
    });
    let audit = told(&world.audit());
    for (lie, _, says) in lies {
        let says = says.replace("it is not well-formed", "well-formed");
        assert!(
            audit.iter().any(|line| line.contains("refused: ") && line.contains(&says)),
            "{lie:?} {audit:#?}"
        );
    }
}

#[test]
fn a_login_ends_only_where_it_began_and_once() {
    let (idp, directory) = (Idp::start(), tempfile::tempdir().unwrap());
    let (world, browser) = world_with(idp.settings(directory.path()));
    world.run(async {
        let (there, cookie) = begin(&browser).await;
        let state = query(&there)["state"].clone();
        let code = idp.log_in(&there, &["noc"]);
        let good = format!("code={code}&state={state}");
        let (_, others) = begin(&browser).await;
        for (cookie, query) in [
            ("a=b", good.clone()),
            (others.as_str(), good.clone()),
            (&cookie, format!("code={code}&state={}", "0".repeat(64))),
            (&cookie, format!("code={code}")),
            (&cookie, format!("{good}&iss=https%3A%2F%2Fevil.example.com")),
            (&cookie, format!("state={state}")),
        ] {
            let answer = back(&browser, cookie, &query).await;
            assert_eq!(answer.status, 400, "{query}: {}", answer.body);
            assert!(answer.body.contains("Open https://scs:7443 and sign in again"), "{}", answer.body);
        }
        let denied = format!("state={state}&error=access_denied&error_description=not%20today");
        let denied = back(&browser, &cookie, &denied).await;
        assert!(denied.status == 403 && denied.body.contains("access_denied not today"), "{}", denied.body);
        assert_eq!(back(&browser, &cookie, &good).await.status, 303);
        let again = back(&browser, &cookie, &good).await;
        assert!(
            again.status == 403 && again.body.contains("invalid_grant"),
            "the code is used: {}",
            again.body
        );
        let nobody = sign_in(&idp, &browser, &["people", "<b>"]).await;
        assert_eq!(nobody.status, 403);
        assert!(
            nobody.body.contains("knows you as ann, of these groups: people, &lt;b&gt;"),
            "{}",
            nobody.body
        );
    });
    let audit = told(&world.audit());
    let refused = "sso ann: log in by Example SSO: refused: none of the groups has a role: people, <b>";
    assert!(audit.iter().any(|line| line == refused), "{audit:#?}");
}

#[test]
fn a_provider_that_is_away_is_in_nobodys_way() {
    let directory = tempfile::tempdir().unwrap();
    // Takes connections and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut settings = Idp::start().settings(directory.path());
    settings.issuer = format!("http://{}", silent.local_addr().unwrap());
    let (world, browser) = world_with(settings);
    world.run(async {
        // More than are taken at once: what is beyond is told so, and all the others go on waiting.
        let waiting: Vec<_> = (0..9)
            .map(|_| {
                let browser = browser.another();
                tokio::spawn(async move { browser.send("GET", "/api/v1/oidc/login", "", "").await })
            })
            .collect();
        let begun = Instant::now();
        let root = root(&world, &browser).await;
        assert_eq!(root.get("/status").await.status, 200);
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
        let mut said = Vec::new();
        for answer in waiting {
            said.push(tokio::time::timeout(LIMIT, answer).await.unwrap().unwrap());
        }
        assert!(said.iter().all(|answer| answer.status == 502), "a page says so");
        let of = |text: &str| said.iter().filter(|answer| answer.body.to_lowercase().contains(text)).count();
        assert!(of("too many logins at once") >= 1, "{}", said[0].body);
        assert!(of("no answer within 5 s") >= 1, "{}", said[0].body);
        assert!(said.iter().all(|answer| answer.body.contains("log in with a password")), "{}", said[0].body);
    });
}

#[test]
fn passwords_can_be_switched_off_and_secrets_can_be_wrong() {
    let (idp, directory) = (Idp::start(), tempfile::tempdir().unwrap());
    let mut settings = idp.settings(directory.path());
    settings.password_login = false;
    let file = settings.client_secret_file.clone().unwrap();
    let (world, mut browser) = world_with(settings);
    assert_eq!(world.first_link, None, "a link for a password would be of no use");
    world.run(async {
        let ways: LoginWays = browser.get("/login").await.json();
        assert!(!ways.passwords);
        browser.log_in("root", "whatever it is").await.refused(403, "sign in with Example SSO");
        // Read at each login: a new secret needs no restart.
        write_secret(&file, "another", 0o600);
        let answer = sign_in(&idp, &browser, &["noc"]).await;
        assert!(answer.status == 403 && answer.body.contains("invalid_client"), "{}", answer.body);
        assert!(answer.body.contains("needs no login"), "the way in that is left: {}", answer.body);
        std::fs::remove_file(&file).unwrap();
        let answer = sign_in(&idp, &browser, &["noc"]).await;
        assert!(answer.status == 500 && answer.body.contains("No such file"), "{}", answer.body);
        write_secret(&file, SECRET, 0o644);
        let answer = sign_in(&idp, &browser, &["noc"]).await;
        assert!(answer.status == 500 && answer.body.contains("is open to everybody"), "{}", answer.body);
        assert!(!answer.body.contains(SECRET), "{}", answer.body);
        write_secret(&file, SECRET, 0o600);
        let (_, session) = signed_in(&idp, &browser, &["noc"]).await;
        assert_eq!(session.user, "sso ann");
    });
}
