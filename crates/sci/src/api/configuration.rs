//! Bodies of the endpoints about the configuration.

use scs::configuration::Revision;
use serde::{Deserialize, Serialize};

/// Largest body of [`PlanConfiguration`] and [`ApplyConfiguration`], bytes: a file of the largest size, each byte of which may
/// become six in JSON.
pub const MAX_CONFIGURATION: usize = 6 * config::MAX_FILE + 64 * 1024;

/// `GET /configuration/text`, `GET /configuration/revisions/{number}/text`: a cluster file, secrets included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ConfigurationText {
    /// The revision that it is of.
    pub revision: u64,
    /// All of the file.
    pub text: String,
}

/// `GET /configuration/revisions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Revisions {
    /// Those that are kept, the newest first.
    pub revisions: Vec<Revision>,
}

/// `POST /configuration/plan`. Neither text nor revision: the cluster file on the SCS's host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanConfiguration {
    /// All of a cluster file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// One that was in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// What the report is to call it; `cluster.toml` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// `POST /configuration`. Neither text nor revision: the cluster file on the SCS's host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApplyConfiguration {
    /// All of a cluster file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// One that was in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// The revision that it was made from: refused where another is in force by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<u64>,
    /// The digest of the text that was looked at, as its plan tells: refused where it is another by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Why, for the history and the audit.
    #[serde(default)]
    pub reason: String,
}
