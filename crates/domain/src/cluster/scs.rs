//! Settings of the SCS: where it listens, who gets in, how long it keeps and waits.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Settings of the SCS.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScsSettings {
    /// Where agents dial: TCP for control messages, UDP of the same number for heartbeats.
    pub listen: Vec<SocketAddr>,
    /// Where the API listens with TLS; none: on the Unix socket only.
    pub api_listen: Option<SocketAddr>,
    /// Where browsers and programs with a token reach the API; none: nowhere.
    #[serde(default)]
    pub web: Option<WebSettings>,
    /// Who else says who somebody is, for logins at the web port; none: passwords alone.
    #[serde(default)]
    pub oidc: Option<OidcSettings>,
    /// Where an OpenTelemetry collector takes traces by OTLP over HTTP; none: nowhere.
    #[serde(default)]
    pub otlp: Option<SocketAddr>,
    /// How long log events, ended incidents and audit records are kept.
    pub keep: Duration,
    /// How large the store may grow, bytes; the oldest records go first.
    pub keep_bytes: u64,
    /// How long after its start the SCS waits for both members of a pair before it elects one by itself.
    pub boot_grace: Duration,
    /// How long an agent may be away on a host that answers before its host counts as lost.
    pub agent_grace: Duration,
}

/// The SCS's web port: TLS without a certificate of the client's, who logs in or has a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebSettings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Certificate (PEM, its chain behind it) and private key of the user's own; none: the SCS's, of the built-in authority.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// How browsers reach it, `https://scs.example.com:7443`; none: by `listen`.
    #[serde(default)]
    pub address: Option<String>,
}

/// An identity provider (OpenID Connect Core 1.0), and what its groups may do here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OidcSettings {
    /// What people call it.
    pub name: String,
    /// Its issuer identifier: a URL with `https`, or with `http` of the SCS's own machine.
    pub issuer: String,
    /// As what the SCS is known there.
    pub client_id: String,
    /// File with the secret that goes with it; none: a client without one (RFC 6749, section 2.1), by PKCE alone.
    pub client_secret_file: Option<PathBuf>,
    /// Authorities (PEM) that its certificate may be of; none: the system's.
    pub ca: Option<PathBuf>,
    /// What is asked for beside `openid`.
    pub scopes: Vec<String>,
    /// The claim with the name that a person is shown and audited by.
    pub user_claim: String,
    /// The claim with the person's groups.
    pub groups_claim: String,
    /// Groups that may look.
    pub viewers: BTreeSet<String>,
    /// Groups that may give orders.
    pub operators: BTreeSet<String>,
    /// Groups that may change configuration, users and tokens.
    pub administrators: BTreeSet<String>,
    /// Whether users may log in with passwords, too.
    pub password_login: bool,
}

impl Default for ScsSettings {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            api_listen: None,
            web: None,
            oidc: None,
            otlp: None,
            keep: Duration::from_secs(90 * 86_400),
            keep_bytes: 1 << 30,
            boot_grace: Duration::from_secs(5),
            agent_grace: Duration::from_secs(5),
        }
    }
}
