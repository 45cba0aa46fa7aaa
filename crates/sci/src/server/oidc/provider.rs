//! The identity provider as it describes itself (OpenID Connect Discovery 1.0), its keys, and the exchange of a code for an ID
//! token (RFC 6749, section 4.1.3, with RFC 7636). What it said is remembered for an hour.

use super::super::routes::short;
use super::fetch::{Sent, fetch};
use super::token::{self, Claims, Flaw};
use access::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use domain::OidcSettings;
use hyper::StatusCode;
use jsonwebtoken::jwk::Jwk;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::time::Instant;
use tokio_rustls::rustls::ClientConfig;

/// How long what the provider says of itself is believed.
const LASTS: Duration = Duration::from_secs(3_600);
/// How often its keys are asked for at most: a token with a made-up key must not make us ask without end.
const KEYS_EVERY: Duration = Duration::from_secs(10);
/// Keys that are looked at.
const MAX_KEYS: usize = 100;
/// What nobody but the SCS's user and group may be allowed with the secret's file.
const FOR_EVERYBODY: u32 = 0o007;
/// Longest secret, bytes.
const MAX_SECRET: u64 = 4_096;

/// Why a login does not come about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    /// It does not answer, or not as a provider does.
    #[error("{0}")]
    Away(String),
    /// It does not take the code, or us.
    #[error("the identity provider does not accept the login: {0}")]
    Refused(String),
    /// Its token is not believed.
    #[error("the identity provider's ID token is not believed: {0}")]
    Token(Flaw),
    /// Our own settings.
    #[error("{0}")]
    Settings(String),
}

/// What we need of what it says of itself.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Metadata {
    issuer: String,
    pub(super) authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    /// How clients may show their secrets (RFC 8414, section 2); none: by HTTP's basic authentication.
    #[serde(default)]
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

#[derive(Default)]
struct Known {
    metadata: Option<(Instant, Arc<Metadata>)>,
    keys: Option<(Instant, Arc<[Jwk]>)>,
}

/// The provider.
pub(super) struct Provider {
    settings: Arc<OidcSettings>,
    redirect: String,
    tls: Arc<ClientConfig>,
    known: Mutex<Known>,
}

impl Provider {
    /// `redirect`: where it sends browsers back to.
    pub(super) fn new(settings: Arc<OidcSettings>, redirect: String, tls: Arc<ClientConfig>) -> Self {
        Self { settings, redirect, tls, known: Mutex::new(Known::default()) }
    }

    /// Where a browser goes to log in (OpenID Connect Core 1.0, section 3.1.2.1).
    ///
    /// # Errors
    /// [`Trouble`].
    pub(super) async fn login_address(
        &self,
        state: &Secret,
        nonce: &Secret,
        verifier: &Secret,
    ) -> Result<String, Trouble> {
        let endpoint = self.metadata().await?.authorization_endpoint.clone();
        let mut scopes = vec!["openid"];
        scopes.extend(self.settings.scopes.iter().map(String::as_str).filter(|scope| *scope != "openid"));
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.reveal()));
        let query = form(&[
            ("response_type", "code"),
            ("client_id", &self.settings.client_id),
            ("redirect_uri", &self.redirect),
            ("scope", &scopes.join(" ")),
            ("state", &state.reveal()),
            ("nonce", &nonce.reveal()),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        let joint = if endpoint.contains('?') { '&' } else { '?' };
        Ok(format!("{endpoint}{joint}{query}"))
    }

    /// What the ID token says that the provider gives for a code.
    ///
    /// # Errors
    /// [`Trouble`].
    pub(super) async fn redeem(
        &self,
        code: &str,
        nonce: &Secret,
        verifier: &Secret,
    ) -> Result<Claims, Trouble> {
        let metadata = self.metadata().await?;
        let verifier = verifier.reveal();
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &self.redirect),
            ("client_id", &self.settings.client_id),
            ("code_verifier", &verifier),
        ];
        let secret = self.client_secret().await?;
        let basic = metadata
            .token_endpoint_auth_methods_supported
            .as_ref()
            .is_none_or(|methods| methods.iter().any(|method| method == "client_secret_basic"));
        let authorization = match &secret {
            Some(secret) if basic => Some(basic_authentication(&self.settings.client_id, secret)),
            Some(secret) => {
                fields.push(("client_secret", secret));
                None
            }
            None => None,
        };
        let sent = Sent::Form(form(&fields), authorization);
        let (status, body) =
            fetch(&self.tls, &metadata.token_endpoint, sent).await.map_err(|why| self.away(&why))?;
        if status.is_server_error() {
            return Err(self.away(&format!("it answers {status}")));
        }
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status != StatusCode::OK {
            // RFC 6749, section 5.2: `invalid_client` is our secret, `invalid_grant` the code.
            let said = |name| answer.get(name).and_then(Value::as_str).unwrap_or_default();
            let text = format!("{status} {} {}", said("error"), said("error_description"));
            return Err(Trouble::Refused(short(text.trim_end(), 300)));
        }
        let Some(token) = answer.get("id_token").and_then(Value::as_str) else {
            return Err(Trouble::Refused("it gives no ID token; is the scope openid allowed?".to_owned()));
        };
        self.verified(token, nonce).await
    }

    async fn verified(&self, token: &str, nonce: &Secret) -> Result<Claims, Trouble> {
        let keys = self.keys(LASTS).await?;
        match token::verified(token, &keys, &self.settings, nonce) {
            // It may have new ones.
            Err(Flaw::UnknownKey) => {
                let keys = self.keys(KEYS_EVERY).await?;
                token::verified(token, &keys, &self.settings, nonce).map_err(Trouble::Token)
            }
            done => done.map_err(Trouble::Token),
        }
    }

    async fn metadata(&self) -> Result<Arc<Metadata>, Trouble> {
        let known = self.known().metadata.clone();
        if let Some((at, metadata)) = known
            && at.elapsed() < LASTS
        {
            return Ok(metadata);
        }
        let issuer = &self.settings.issuer;
        let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let metadata: Metadata = self.document(&url).await?;
        // Section 4.3: exactly the same, or one provider could pass for another.
        if metadata.issuer != *issuer {
            let text = format!(
                "it says that its issuer is {:?}; set `issuer` to that if it is right",
                metadata.issuer
            );
            return Err(self.away(&short(&text, 300)));
        }
        let metadata = Arc::new(metadata);
        self.known().metadata = Some((Instant::now(), Arc::clone(&metadata)));
        Ok(metadata)
    }

    /// Its keys, not older than this.
    async fn keys(&self, age: Duration) -> Result<Arc<[Jwk]>, Trouble> {
        let url = self.metadata().await?.jwks_uri.clone();
        let known = self.known().keys.clone();
        if let Some((at, keys)) = known
            && at.elapsed() < age
        {
            return Ok(keys);
        }
        #[derive(Deserialize)]
        struct Keys {
            keys: Vec<Value>,
        }
        let Keys { keys } = self.document(&url).await?;
        // Those of kinds that nobody knows here are none of ours.
        let keys: Arc<[Jwk]> =
            keys.into_iter().take(MAX_KEYS).filter_map(|key| serde_json::from_value(key).ok()).collect();
        self.known().keys = Some((Instant::now(), Arc::clone(&keys)));
        Ok(keys)
    }

    /// Not kept while the provider is asked: one login that waits for it must not make the others wait after it.
    fn known(&self) -> MutexGuard<'_, Known> {
        // Whole at any time, whoever panicked.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn document<T: DeserializeOwned>(&self, url: &str) -> Result<T, Trouble> {
        let (status, body) =
            fetch(&self.tls, url, Sent::Nothing).await.map_err(|why| self.away(&format!("{url}: {why}")))?;
        if status != StatusCode::OK {
            return Err(self.away(&format!("{url} answers {status}")));
        }
        serde_json::from_slice(&body)
            .map_err(|error| self.away(&format!("{url} is not what was expected: {error}")))
    }

    async fn client_secret(&self) -> Result<Option<String>, Trouble> {
        match &self.settings.client_secret_file {
            None => Ok(None),
            Some(path) => read_secret(path).await.map(Some).map_err(Trouble::Settings),
        }
    }

    fn away(&self, why: &str) -> Trouble {
        Trouble::Away(format!("the identity provider {} cannot be used: {why}", self.settings.issuer))
    }
}

/// The secret in a file, without the end of its line.
///
/// # Errors
/// Why it cannot be had.
pub(super) async fn read_secret(path: &Path) -> Result<String, String> {
    let failed =
        |error: std::io::Error| format!("cannot read the client's secret, {}: {error}", path.display());
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    if file.metadata().await.map_err(failed)?.permissions().mode() & FOR_EVERYBODY != 0 {
        return Err(format!(
            "the client's secret, {0}, is open to everybody; `chmod 600 {0}`",
            path.display()
        ));
    }
    let mut text = String::new();
    file.take(MAX_SECRET).read_to_string(&mut text).await.map_err(failed)?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(format!("the client's secret, {}, is empty", path.display()));
    }
    Ok(secret.to_owned())
}

/// RFC 6749, section 2.3.1: both are encoded as in a form before.
fn basic_authentication(client: &str, secret: &str) -> String {
    let encoded = |text: &str| crate::api::escaped(text);
    format!("Basic {}", STANDARD.encode(format!("{}:{}", encoded(client), encoded(secret))))
}

fn form(fields: &[(&str, &str)]) -> String {
    let field = |(name, value): &(&str, &str)| format!("{name}={}", crate::api::escaped(value));
    fields.iter().map(field).collect::<Vec<_>>().join("&")
}
