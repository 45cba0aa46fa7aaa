//! Bodies about who may use the API.

use access::{Name, Role};
use domain::{Micros, PairName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Header in which a page sends the session's `csrf` value with everything but `GET`.
pub const CSRF_HEADER: &str = "x-csrf-token";

/// `GET /session`: who is asking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Session {
    /// The user, the token, the user of the Unix socket's peer, or the name in the certificate.
    pub user: String,
    /// What that one may do.
    pub role: Role,
    /// To which pairs the orders may be; none: to all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pairs: Option<BTreeSet<PairName>>,
    /// What a page sends as [`CSRF_HEADER`]; none: the caller is no browser with a login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csrf: Option<String>,
}

/// `GET /login`: how one can log in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LoginWays {
    /// What the identity provider is called, where there is one: `GET /oidc/login` goes on there.
    pub provider: Option<String>,
    /// Whether users may log in with passwords.
    pub passwords: bool,
}

/// `POST /session`: a login.
#[derive(Clone, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
}

/// `POST /password/link`: what is this link for?
#[derive(Clone, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkCode {
    /// What is behind `#/password/` in the link.
    pub code: String,
}

/// What a link is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LinkUse {
    /// Whose password it sets; none: the first administrator's, who chooses a name.
    pub user: Option<Name>,
    /// When it can no longer be used.
    pub expires: Micros,
}

/// `POST /password`: sets a password by a link.
#[derive(Clone, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetPassword {
    /// What is behind `#/password/` in the link.
    pub code: String,
    /// The name of the first administrator; not needed for others.
    #[serde(default)]
    pub user: Option<Name>,
    /// The password.
    pub password: String,
}

/// `GET /users`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Users {
    /// By name.
    pub users: Vec<UserLine>,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct UserLine {
    /// The name.
    pub name: Name,
    /// What the user may do.
    pub role: Role,
    /// Locked out by an administrator.
    pub disabled: bool,
    /// Has set a password; if not, the link has not been used.
    pub has_password: bool,
    /// Since when there is such a user.
    pub created: Micros,
}

/// `POST /users`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// The name.
    pub name: Name,
    /// What the user may do.
    pub role: Role,
    /// Why, for the audit.
    #[serde(default)]
    pub reason: String,
}

/// A link that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct NewLink {
    /// Whose password it sets.
    pub user: Name,
    /// Path of the page with it: `/#/password/...`, below the address of the web port. Shown this once.
    pub path: String,
    /// The same with the address of the web port; none: there is no web port.
    #[serde(default)]
    pub url: Option<String>,
    /// When it can no longer be used.
    pub expires: Micros,
}

/// `POST /users/{name}/role`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRole {
    /// What the user may do from now on.
    pub role: Role,
    /// Why, for the audit.
    #[serde(default)]
    pub reason: String,
}

/// `GET /tokens`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Tokens {
    /// In the order of their numbers.
    pub tokens: Vec<TokenLine>,
}

/// A token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TokenLine {
    /// Its number.
    pub id: u64,
    /// What it is called.
    pub name: Name,
    /// What it may do.
    pub role: Role,
    /// To which pairs its orders may be; none: to all.
    pub pairs: Option<BTreeSet<PairName>>,
    /// Since when it can be used.
    pub created: Micros,
    /// When it can no longer be used.
    pub expires: Micros,
}

/// `POST /tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// What it is called, in the audit too.
    pub name: Name,
    /// What it may do.
    pub role: Role,
    /// To which pairs its orders may be; none: to all.
    #[serde(default)]
    pub pairs: Option<BTreeSet<PairName>>,
    /// How many days it can be used, 1 to 3,650.
    pub days: u32,
    /// Why, for the audit.
    #[serde(default)]
    pub reason: String,
}

/// A token that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct MadeToken {
    /// Its number.
    pub id: u64,
    /// What to send as `Authorization: Bearer`. Shown this once.
    pub token: String,
    /// When it can no longer be used.
    pub expires: Micros,
}

/// Answer where there is nothing else to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Done {
    /// What was done, in words.
    pub text: String,
}
