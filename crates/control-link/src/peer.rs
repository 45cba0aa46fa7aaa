//! Who is at the other end: role and name, as a certificate carries them.
//!
//! A certificate of the cluster has exactly one subject alternative name of the form `takeover://ROLE/NAME` (a URI,
//! RFC 5280, section 4.2.1.6), or `takeover://operator/NAME?rights=RIGHTS`. A URI and not a DNS name, because a host's
//! name here may hold what a DNS name may not ('_', 64 characters in one label), and because it says the role as well.

use domain::{HostName, Micros, NameError};
use std::fmt;
use std::str::FromStr;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

const SCHEME: &str = "takeover://";
/// What comes before an operator's rights.
const RIGHTS: &str = "?rights=";

/// What the holder of a certificate may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// A Solution Control Server.
    Scs,
    /// The Local Control Agent of the host that the name names.
    Agent,
    /// A person at the interface, or a program on a person's behalf.
    Operator,
}

impl Role {
    /// The role as certificates spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Scs => "scs",
            Role::Agent => "agent",
            Role::Operator => "operator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        [Role::Scs, Role::Agent, Role::Operator]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| format!("{text:?} is not a role: \"scs\", \"agent\" or \"operator\""))
    }
}

/// What an operator may do who shows the certificate; each may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rights {
    /// Look.
    Viewer,
    /// Give orders.
    Operator,
    /// Change configuration, users and tokens: certificates that say nothing.
    Administrator,
}

impl Rights {
    /// As certificates spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Rights::Viewer => "viewer",
            Rights::Operator => "operator",
            Rights::Administrator => "administrator",
        }
    }
}

impl FromStr for Rights {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        [Rights::Viewer, Rights::Operator, Rights::Administrator]
            .into_iter()
            .find(|rights| rights.as_str() == text)
            .ok_or_else(|| format!("{text:?} are no rights: \"viewer\", \"operator\" or \"administrator\""))
    }
}

/// Role and name of one end of a link.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerName {
    /// What it is.
    pub role: Role,
    /// Its name; for an agent the host's. Obeys the rules of [`HostName`].
    pub name: String,
    /// An operator's rights; of others it means nothing, and is [`Rights::Administrator`].
    pub rights: Rights,
}

impl PeerName {
    /// Checks `name` by the rules of [`HostName`].
    ///
    /// # Errors
    /// The rule that the name breaks.
    pub fn new(role: Role, name: &str) -> Result<Self, NameError> {
        let rights = Rights::Administrator;
        HostName::new(name).map(|name| Self { role, name: name.into(), rights })
    }

    /// An operator with these rights.
    ///
    /// # Errors
    /// As [`PeerName::new`].
    pub fn operator(name: &str, rights: Rights) -> Result<Self, NameError> {
        Ok(Self { rights, ..Self::new(Role::Operator, name)? })
    }

    /// The name as it stands in a certificate.
    pub(crate) fn to_uri(&self) -> String {
        // All rights are not written, so that releases that know none understand; others they refuse, as they should.
        let rights = match self.rights {
            Rights::Administrator => String::new(),
            rights @ (Rights::Viewer | Rights::Operator) => format!("{RIGHTS}{}", rights.as_str()),
        };
        uri(&format!("{}/{}{rights}", self.role, self.name))
    }

    /// Reads the name out of a certificate (DER) whose signature was checked before.
    ///
    /// # Errors
    /// A sentence that says why it is not a certificate of a cluster.
    pub fn of_certificate(der: &[u8]) -> Result<Self, String> {
        Self::parse(&name_in(der)?)
    }

    fn parse(rest: &str) -> Result<Self, String> {
        let (role, name) =
            rest.split_once('/').ok_or_else(|| format!("{SCHEME}{rest} has no name behind its role"))?;
        let bad = |e: NameError| format!("{SCHEME}{rest}: {e}");
        match (role.parse()?, name.split_once(RIGHTS)) {
            (Role::Operator, Some((name, rights))) => Self::operator(name, rights.parse()?).map_err(bad),
            (role @ (Role::Scs | Role::Agent | Role::Operator), _) => Self::new(role, name).map_err(bad),
        }
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.role, self.name)
    }
}

/// What a certificate says for people to look at; who somebody is, [`PeerName`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Its subject, as RFC 4514 writes it.
    pub subject: String,
    /// When it begins to count, Unix time.
    pub from: Micros,
    /// When it counts no more, Unix time.
    pub until: Micros,
}

impl Certificate {
    /// Reads a certificate (DER) whose signature was checked before.
    #[must_use]
    pub fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let micros = |seconds: i64| Micros(u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000_000));
        let validity = certificate.validity();
        Some(Self {
            subject: certificate.subject().to_string(),
            from: micros(validity.not_before.timestamp()),
            until: micros(validity.not_after.timestamp()),
        })
    }
}

/// A name of the cluster as certificates carry it.
pub(crate) fn uri(name: &str) -> String {
    format!("{SCHEME}{name}")
}

/// The name of the cluster that a certificate carries, without the scheme.
pub(crate) fn name_in(der: &[u8]) -> Result<String, String> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|_| "it is not an X.509 certificate".to_owned())?;
    let alternatives = certificate.subject_alternative_name().map_err(|e| e.to_string())?;
    let mut uris = alternatives.iter().flat_map(|a| &a.value.general_names).filter_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix(SCHEME),
        _ => None,
    });
    match (uris.next(), uris.next()) {
        (Some(name), None) => Ok(name.to_owned()),
        (Some(_), Some(_)) => {
            Err("it carries more than one name of the form takeover://ROLE/NAME".to_owned())
        }
        (None, _) => Err("it carries no name of the form takeover://ROLE/NAME".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_certificates_are_read_back_exactly() {
        for name in ["host1", "a.b-c_d", &"x".repeat(64)] {
            let peer = PeerName::new(Role::Agent, name).unwrap();
            assert_eq!(PeerName::parse(peer.to_uri().strip_prefix(SCHEME).unwrap()), Ok(peer));
        }
        for rights in [Rights::Viewer, Rights::Operator, Rights::Administrator] {
            let peer = PeerName::operator("alice", rights).unwrap();
            assert_eq!(PeerName::parse(peer.to_uri().strip_prefix(SCHEME).unwrap()), Ok(peer));
        }
        assert_eq!(PeerName::parse("operator/alice").unwrap().rights, Rights::Administrator);
        for bad in [
            "operator/alice?rights=",
            "operator/alice?rights=root",
            "operator/alice?rights=viewer?rights=administrator",
            "operator/?rights=viewer",
            "agent/a?rights=viewer",
        ] {
            assert!(PeerName::parse(bad).is_err(), "{bad} must be refused");
        }
        for bad in ["agent", "agent/", "agent/a/b", "root/a", "agent/a b", "Agent/a", "agent/%41"] {
            assert!(PeerName::parse(bad).is_err(), "{bad} must be refused");
        }
    }
}
