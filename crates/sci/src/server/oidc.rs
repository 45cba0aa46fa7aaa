//! Logging in by an identity provider (OpenID Connect Core 1.0, the authorization code flow with PKCE). A browser that begins
//! gets a cookie with one secret, out of which state, nonce and PKCE's verifier are derived: nothing is remembered here
//! meanwhile, so strangers who begin and never end cost nothing.
//!
//! What is said with the provider goes over a thread of its own, a few logins at once: one that is slow, or a name service that
//! is, makes nobody wait but those who log in by it.

mod fetch;
mod page;
mod provider;
mod token;

use super::accounts::whence;
use super::callers::set_cookie;
use super::door::{Peer, by_provider};
use super::routes::{self, Api, Params, wall_clock};
use crate::api::{LoginWays, Problem};
use access::{Secret, Vouched};
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Redirect, Response};
use axum::{Extension, Json};
use domain::OidcSettings;
use page::Page;
use provider::{Provider, Trouble};
use ring::rand::{SecureRandom, SystemRandom};
use scs::store::AuditRecord;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::{Semaphore, oneshot};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto, version};

/// Logins that are under way at the provider at once.
const AT_ONCE: usize = 8;
/// Threads for name service and the secret's file.
const LOOKUP_THREADS: usize = 2;
/// How long a browser keeps the cookie of a login that it began, seconds.
const FLOW_S: u32 = 600;
/// Cookie of a login under way. Not `SameSite=Strict`, as the session's is: the browser comes back from another site.
const COOKIE: &str = "__Host-takeover-login";
/// Below the web port's address: where the provider sends browsers back to.
pub const CALLBACK: &str = "/api/v1/oidc/callback";
/// Longest code that a provider may give, bytes.
const MAX_CODE: usize = 4_096;
/// Groups that a page or a record names.
const NAMED: usize = 10;

/// Why nobody could log in by the provider.
#[derive(Debug, thiserror::Error)]
pub enum OidcError {
    /// The authorities that its certificate may be of.
    #[error("[scs.oidc]: there are no authorities to check the provider's certificate by: {0}")]
    Authorities(String),
    /// The thread.
    #[error("[scs.oidc]: cannot start its thread")]
    System(#[from] io::Error),
}

/// Logins by the provider.
#[derive(Clone)]
pub(super) struct Oidc {
    settings: Arc<OidcSettings>,
    fingerprint: Arc<str>,
    web_address: Arc<str>,
    provider: Arc<Provider>,
    places: Arc<Semaphore>,
    errands: tokio::runtime::Handle,
}

impl fmt::Debug for Oidc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Oidc").field("issuer", &self.settings.issuer).finish_non_exhaustive()
    }
}

/// The thread on which the provider is talked to; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Errands {
    _stop: oneshot::Sender<()>,
}

impl Oidc {
    /// `web_address`: how browsers reach the web port. The provider is not asked before somebody logs in.
    pub(super) fn new(settings: OidcSettings, web_address: &str) -> Result<(Self, Errands), OidcError> {
        let tls = tls(&settings)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(LOOKUP_THREADS)
            .build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        std::thread::Builder::new().name("oidc".to_owned()).spawn(move || {
            // An error says that the sender was dropped, which is what is waited for.
            let _ = runtime.block_on(stopped);
            // A name that is still looked up is nobody's concern any more.
            runtime.shutdown_background();
        })?;
        let settings = Arc::new(settings);
        let json = serde_json::to_string(&*settings).expect("plain data with text keys has a JSON form");
        let fingerprint: String = Sha256::digest(json).iter().map(|byte| format!("{byte:02x}")).collect();
        let redirect = format!("{web_address}{CALLBACK}");
        let provider = Arc::new(Provider::new(Arc::clone(&settings), redirect, tls));
        let oidc = Self {
            settings,
            fingerprint: fingerprint.into(),
            web_address: web_address.into(),
            provider,
            places: Arc::new(Semaphore::new(AT_ONCE)),
            errands: handle,
        };
        Ok((oidc, Errands { _stop: stop }))
    }

    pub(super) fn settings(&self) -> &OidcSettings {
        &self.settings
    }

    /// Stands for the settings: a session that began by others does not count any more.
    pub(super) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Does something with the provider, on its thread.
    async fn ask<T: Send + 'static, F: Future<Output = Result<T, Trouble>> + Send + 'static>(
        &self,
        work: impl FnOnce(Arc<Provider>) -> F,
    ) -> Result<T, Trouble> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return Err(Trouble::Away("too many logins at once; try again in a few seconds".to_owned()));
        };
        let work = work(Arc::clone(&self.provider));
        let done = self.errands.spawn(async move {
            let done = work.await;
            drop(place);
            done
        });
        done.await.unwrap_or_else(|_| Err(Trouble::Away("the login was broken off; try again".to_owned())))
    }
}

/// The secrets of one login, all out of the one in the browser's cookie; nobody can make one out of another.
struct Flow(Secret);

impl Flow {
    fn state(&self) -> Secret {
        self.0.derived("takeover oidc state")
    }

    fn nonce(&self) -> Secret {
        self.0.derived("takeover oidc nonce")
    }

    fn verifier(&self) -> Secret {
        self.0.derived("takeover oidc verifier")
    }

    fn of(headers: &HeaderMap) -> Option<Self> {
        super::callers::cookie_named(headers, COOKIE).map(Self)
    }
}

/// What the provider sends a browser back with (RFC 6749, sections 4.1.2 and 4.1.2.1; RFC 9207). Others are of no concern.
#[derive(Deserialize, schemars::JsonSchema)]
pub(super) struct Outcome {
    code: Option<String>,
    state: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
    iss: Option<String>,
}

/// `GET /login`.
pub(super) async fn ways(State(api): State<Api>) -> Json<LoginWays> {
    let settings = api.oidc.as_ref().map(Oidc::settings);
    Json(LoginWays {
        provider: settings.map(|settings| settings.name.clone()),
        passwords: settings.is_none_or(|settings| settings.password_login),
    })
}

/// `GET /oidc/login`: on to the provider.
pub(super) async fn begin(State(api): State<Api>, Extension(peer): Extension<Peer>) -> Response {
    let (oidc, from, _) = match door(&api, &peer) {
        Ok(door) => door,
        Err(problem) => return problem.into_response(),
    };
    let mut random = [0; 32];
    let there = match SystemRandom::new().fill(&mut random) {
        Ok(()) => {
            let flow = Flow(Secret::new(random));
            let secrets = (flow.state(), flow.nonce(), flow.verifier());
            let address = oidc.ask(|provider| async move {
                let (state, nonce, verifier) = secrets;
                provider.login_address(&state, &nonce, &verifier).await
            });
            address.await.map(|address| (flow, address))
        }
        Err(_) => Err(Trouble::Settings("the system gives no random numbers".to_owned())),
    };
    match there {
        Ok((flow, address)) => {
            let cookie = flow_cookie(Some(&flow.0));
            (AppendHeaders([(header::SET_COOKIE, cookie)]), Redirect::to(&address)).into_response()
        }
        Err(trouble) => {
            audit_refusal(&api, "?", from, &trouble.to_string());
            refusal(&oidc, &trouble).into_response()
        }
    }
}

/// `GET /oidc/callback`: back from there.
pub(super) async fn end(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    query: Params<Outcome>,
    request: Request,
) -> Response {
    let (oidc, from, _) = match door(&api, &peer) {
        Ok(door) => door,
        Err(problem) => return problem.into_response(),
    };
    let outcome = match query {
        Ok(Query(outcome)) => outcome,
        Err(rejection) => return Problem::from(rejection).into_response(),
    };
    let flow = Flow::of(request.headers());
    let ended = finish(&api, &oidc, flow, outcome, &from).await;
    let gone = (header::SET_COOKIE, flow_cookie(None));
    match ended {
        Ok(session) => {
            let cookies = [gone, (header::SET_COOKIE, set_cookie(Some(&session)))];
            // The console's files need no session; its own requests carry the cookie that those of another site do not.
            (AppendHeaders(cookies), Redirect::to("/")).into_response()
        }
        Err((who, why, page)) => {
            audit_refusal(&api, &who, from, &why);
            (AppendHeaders([gone]), page).into_response()
        }
    }
}

/// Ends a login. Returns the session; or who it was, why not, for the audit, and the page for that person.
async fn finish(
    api: &Api,
    oidc: &Oidc,
    flow: Option<Flow>,
    outcome: Outcome,
    from: &str,
) -> Result<Secret, (String, String, Page)> {
    let stranger = |why: &str, page| Err(("?".to_owned(), why.to_owned(), page));
    let state = outcome.state.as_deref().and_then(|state| state.parse::<Secret>().ok());
    let Some(flow) = flow.filter(|flow| state.is_some_and(|state| state.same_as(&flow.state()))) else {
        return stranger("the login was not begun in this browser", Page::not_begun_here(&oidc.web_address));
    };
    if outcome.iss.is_some_and(|issuer| issuer != oidc.settings.issuer) {
        return stranger("another provider answered", Page::not_begun_here(&oidc.web_address));
    }
    if let Some(error) = outcome.error {
        let text = format!("{error} {}", outcome.error_description.unwrap_or_default());
        let trouble = Trouble::Refused(routes::short(text.trim_end(), 300));
        return stranger(&trouble.to_string(), refusal(oidc, &trouble));
    }
    let Some(code) = outcome.code.filter(|code| !code.is_empty() && code.len() <= MAX_CODE) else {
        return stranger("the provider gave no code", Page::not_begun_here(&oidc.web_address));
    };
    let (nonce, verifier) = (flow.nonce(), flow.verifier());
    let claims = oidc.ask(|provider| async move { provider.redeem(&code, &nonce, &verifier).await }).await;
    let person = claims.and_then(|claims| token::person(&claims, &oidc.settings).map_err(Trouble::Settings));
    let person = match person {
        Ok(person) => person,
        Err(trouble) => return stranger(&trouble.to_string(), refusal(oidc, &trouble)),
    };
    let who = by_provider(&person.name);
    let Some((role, group)) = token::role(&person.groups, &oidc.settings) else {
        let groups = named(&person.groups);
        let why = format!("none of the groups has a role: {groups}");
        return Err((who, why, Page::no_role(person.name.as_str(), &groups)));
    };
    let now = wall_clock();
    let vouched = Vouched { role, settings: oidc.fingerprint.to_string() };
    let Some(session) = api.door.let_in(&person.name, vouched, now) else {
        let trouble = Trouble::Settings("the system gives no random numbers".to_owned());
        return Err((who, trouble.to_string(), refusal(oidc, &trouble)));
    };
    let subject = routes::short(&person.subject, 64);
    let group = routes::short(group, 64);
    let result = format!("accepted: logged in as {role} by group {group}, subject {subject}");
    let (from, what) = (from.to_owned(), format!("log in by {}", oidc.settings.name));
    api.door.audit(AuditRecord { at: now, who, from, what, reason: String::new(), result });
    Ok(session)
}

/// The provider, and from where somebody comes who has to log in.
fn door(api: &Api, peer: &Peer) -> Result<(Oidc, String, IpAddr), Problem> {
    let (from, source) = whence(peer)?;
    let oidc = api
        .oidc
        .clone()
        .ok_or_else(|| Problem::not_found("there is no identity provider: [scs.oidc] is not configured"))?;
    Ok((oidc, from, source))
}

fn refusal(oidc: &Oidc, trouble: &Trouble) -> Page {
    let status = match trouble {
        Trouble::Away(_) => StatusCode::BAD_GATEWAY,
        Trouble::Refused(_) | Trouble::Token(_) => StatusCode::FORBIDDEN,
        Trouble::Settings(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Page::trouble(status, &trouble.to_string(), oidc.settings.password_login)
}

fn named(groups: &[String]) -> String {
    if groups.is_empty() {
        return "no groups".to_owned();
    }
    let more = if groups.len() > NAMED { ", ..." } else { "" };
    let groups: Vec<_> = groups.iter().take(NAMED).map(|group| routes::short(group, 64)).collect();
    format!("{}{more}", groups.join(", "))
}

fn audit_refusal(api: &Api, who: &str, from: String, why: &str) {
    let what =
        api.oidc.as_ref().map_or("log in".to_owned(), |oidc| format!("log in by {}", oidc.settings.name));
    let (who, result) = (who.to_owned(), format!("refused: {}", routes::short(why, 500)));
    api.door.audit_stranger(AuditRecord { at: wall_clock(), who, from, what, reason: String::new(), result });
}

fn flow_cookie(secret: Option<&Secret>) -> String {
    let (value, age) = secret.map_or((String::new(), 0), |secret| (secret.reveal(), FLOW_S));
    format!("{COOKIE}={value}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={age}")
}

/// TLS 1.3 with the provider, as everywhere else.
fn tls(settings: &OidcSettings) -> Result<Arc<ClientConfig>, OidcError> {
    let mut roots = RootCertStore::empty();
    let failed = |why: String| OidcError::Authorities(why);
    match &settings.ca {
        Some(path) => {
            let said = |error: &dyn fmt::Display| failed(format!("{}: {error}", path.display()));
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| said(&error))? {
                roots.add(certificate.map_err(|error| said(&error))?).map_err(|error| said(&error))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let plain = settings.issuer.starts_with("http://");
    if roots.is_empty() && !plain {
        return Err(failed("none is installed; install ca-certificates, or set `ca`".to_owned()));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_protocol_versions(&[&version::TLS13])
        .map_err(|error| failed(error.to_string()))?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}
