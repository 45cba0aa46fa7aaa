//! Settings of a pair's SIP Servers: both members have the same. Bounds are those of the cluster file, which checks them;
//! what is here can be relied upon.

use crate::names::{MAX_NAME, NameError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// All settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SipSettings {
    /// Domains that are served, besides the listen addresses: the host part of addresses-of-record. The first is the realm of
    /// digest authentication.
    pub domains: Vec<String>,
    /// Where it is reached: addresses of the pair's VIPs. The same order on both members.
    pub listen: Vec<SipListen>,
    /// Certificate for TLS; needed where it listens for TLS.
    pub tls: Option<SipTls>,
    /// Limits of registrations.
    pub registrations: SipRegistrations,
    /// Who may register and call, by name: the user part of the address-of-record.
    pub users: BTreeMap<SipName, SipUser>,
    /// Where calls to other networks go, and come from.
    pub trunks: BTreeMap<SipName, SipTrunk>,
    /// Which calls go to which trunks; the longest prefix counts.
    pub routes: Vec<SipRoute>,
    /// Bounds of what is accepted.
    pub limits: SipLimits,
    /// Timers of calls.
    pub timers: SipTimers,
    /// The copy that the backup keeps.
    pub replication: SipReplication,
    /// Port of each host's own address where health, metrics and calls are shown by HTTP; none: nowhere.
    pub http_port: Option<u16>,
    /// Directory of the call records; none: no files.
    pub cdr_directory: Option<PathBuf>,
    /// Call records that also go to the SCS's log, a second at most, 0 to [`MOST_LOGGED_CALLS`]; 0: none.
    #[serde(default = "logged_calls")]
    pub cdr_log: u16,
}

/// Most call records that may go to the SCS's log in a second.
pub const MOST_LOGGED_CALLS: u16 = 100;

/// Call records that go to the SCS's log in a second where nothing else is said.
#[must_use]
pub const fn logged_calls() -> u16 {
    20
}

/// Name of a user or a trunk: as [`crate::AppName`], and it may begin with and have `+`, `*` and `#`, as telephone numbers do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SipName(Arc<str>);

impl SipName {
    /// Checks `name` and wraps it.
    ///
    /// # Errors
    /// [`NameError`] says which rule the name breaks.
    pub fn new(name: &str) -> Result<Self, NameError> {
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.len() > MAX_NAME {
            return Err(NameError::TooLong { length: name.len(), most: MAX_NAME });
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+' | '*' | '#');
        match name.chars().find(|c| !allowed(*c)) {
            Some(c) => Err(NameError::Character(c)),
            None => Ok(Self(name.into())),
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SipName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for SipName {
    type Err = NameError;
    fn from_str(s: &str) -> Result<Self, NameError> {
        Self::new(s)
    }
}

impl TryFrom<String> for SipName {
    type Error = NameError;
    fn try_from(s: String) -> Result<Self, NameError> {
        Self::new(&s)
    }
}

impl From<SipName> for String {
    fn from(name: SipName) -> Self {
        name.0.as_ref().to_owned()
    }
}

/// Lets maps with such keys be looked up by text.
impl std::borrow::Borrow<str> for SipName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// How SIP travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SipTransport {
    /// Datagrams.
    Udp,
    /// Streams.
    Tcp,
    /// Encrypted streams.
    Tls,
}

impl fmt::Display for SipTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SipTransport::Udp => "udp",
            SipTransport::Tcp => "tcp",
            SipTransport::Tls => "tls",
        })
    }
}

/// An address to listen at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SipListen {
    /// Transport.
    pub transport: SipTransport,
    /// Address and port.
    pub address: SocketAddr,
}

/// Certificate and key, files in PEM on each host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SipTls {
    /// Certificate chain.
    pub certificate: PathBuf,
    /// Private key.
    pub key: PathBuf,
    /// Whom clients' and trunks' certificates have to come from; none: the system's authorities for trunks, and clients need
    /// none.
    pub ca: Option<PathBuf>,
}

/// Limits of registrations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SipRegistrations {
    /// Shortest, seconds; a shorter one is refused with 423.
    pub min_expires_s: u32,
    /// Where the phone does not say, seconds.
    pub default_expires_s: u32,
    /// Longest, seconds; a longer one is cut.
    pub max_expires_s: u32,
    /// Most contacts of one user.
    pub contacts: usize,
}

impl Default for SipRegistrations {
    fn default() -> Self {
        Self { min_expires_s: 60, default_expires_s: 3_600, max_expires_s: 7_200, contacts: 10 }
    }
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SipUser {
    /// What is kept of the password.
    pub secret: SipSecret,
    /// Most calls at once, of those that the user makes and those that the user is called in; none: no limit.
    pub calls: Option<u32>,
    /// Whether the user may call by way of trunks.
    pub outside: bool,
}

/// H(user:realm:password) (RFC 7616, section 3.4.2), in hexadecimal digits. Never shown.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SipSecret {
    /// With SHA-256; none: that algorithm is not offered.
    pub sha256: Option<String>,
    /// With MD5; none: that algorithm is not offered.
    pub md5: Option<String>,
}

impl fmt::Debug for SipSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SipSecret(..)")
    }
}

/// A trunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SipTrunk {
    /// Name or address of the other side. A name without a port is looked up by NAPTR and SRV (RFC 3263).
    pub host: String,
    /// Port; none: by SRV, or the transport's own.
    pub port: Option<u16>,
    /// Transport; none: by NAPTR, or UDP.
    pub transport: Option<SipTransport>,
    /// Which of the listen addresses requests leave from: an index; none: the first that fits.
    pub from: Option<usize>,
    /// How we answer challenges of the other side.
    pub credentials: Option<SipCredentials>,
    /// Addresses from which calls of this trunk come, besides those that `host` is found at. They need no digest.
    pub sources: Vec<IpAddr>,
    /// How often it is asked whether it is there (OPTIONS); none: never, it counts as in service.
    pub probe: Option<Duration>,
    /// Unanswered probes in a row after which it is out of service.
    pub probe_failures: u32,
    /// Most calls at once; none: no limit.
    pub calls: Option<u32>,
}

/// A name and a password, for challenges of others.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SipCredentials {
    /// Name.
    pub username: String,
    /// Password. Never shown.
    pub password: String,
}

impl fmt::Debug for SipCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SipCredentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// Which called numbers go to which trunks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SipRoute {
    /// Called numbers (user parts) that begin with this; empty: all that nothing else fits.
    pub prefix: String,
    /// Characters that are cut off the front.
    pub strip: u8,
    /// What is put in front then.
    pub add: String,
    /// Trunks, each with its priority (lower first) and weight among those of the same priority.
    pub trunks: Vec<SipChoice>,
}

/// A trunk of a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SipChoice {
    /// Its name.
    pub trunk: SipName,
    /// Lower is tried first.
    pub priority: u16,
    /// Share among those of the same priority; 0: only where no other is left.
    pub weight: u16,
}

/// Bounds of what is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SipLimits {
    /// Most calls at once; further ones are refused with 503.
    pub calls: usize,
    /// Most requests outside of dialogs of one source, per second on average; trunks have no such limit.
    pub source_per_s: u32,
    /// How many of them may come at once.
    pub source_burst: u32,
    /// Refused requests (401 again, 403, 404, malformed) in a row after which a source is no longer answered.
    pub refusals: u32,
    /// For how long it is not.
    pub silence: Duration,
}

impl Default for SipLimits {
    fn default() -> Self {
        Self {
            calls: 20_000,
            source_per_s: 50,
            source_burst: 200,
            refusals: 20,
            silence: Duration::from_secs(300),
        }
    }
}

/// Timers of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SipTimers {
    /// How long a group of contacts or a trunk may ring.
    pub ringing: Duration,
    /// Session interval that is asked for (RFC 4028), seconds.
    pub session_expires_s: u32,
    /// Shortest that is accepted, seconds.
    pub min_session_s: u32,
}

impl Default for SipTimers {
    fn default() -> Self {
        Self { ringing: Duration::from_secs(60), session_expires_s: 1_800, min_session_s: 90 }
    }
}

/// The copy that the backup keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SipReplication {
    /// TCP port of the hosts' own addresses.
    pub port: u16,
    /// How far the copy may be behind and still count as synchronized.
    pub lag: Duration,
}

impl Default for SipReplication {
    fn default() -> Self {
        Self { port: 7403, lag: Duration::from_millis(500) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_telephone_number_is_a_name() {
        for name in ["alice", "+493012345", "*21#", "3000"] {
            assert_eq!(SipName::new(name).unwrap().as_str(), name);
        }
        for name in ["", "a b", "a@b", "ä", &"x".repeat(65)] {
            assert!(SipName::new(name).is_err(), "{name}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let secret = SipSecret { sha256: Some("5ec".to_owned()), md5: None };
        let credentials = SipCredentials { username: "us".to_owned(), password: "5ec".to_owned() };
        let shown = format!("{secret:?} {credentials:?}");
        assert!(!shown.contains("5ec") && shown.contains("us"), "{shown}");
    }
}
