//! What an agent tells the SIP Server that it starts, in a file: the pair's settings, where the other member is, and where
//! its certificate is.

use crate::{AppName, Cluster, HostName, PairName, SipSettings};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::PathBuf;

/// Environment variable in which the agent names the file to a SIP Server whose pair has settings. JSON, a
/// [`SipAssignment`]; readable by the application's user alone.
pub const SIP_SETTINGS_VARIABLE: &str = "TAKEOVER_SIP_SETTINGS";

/// All that a SIP Server of a pair is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SipAssignment {
    /// The pair.
    pub pair: PairName,
    /// This member.
    pub this: SipMember,
    /// The other member.
    pub other: SipMember,
    /// What it shows to the other member.
    pub identity: SipIdentity,
    /// The pair's settings.
    pub settings: SipSettings,
}

/// A member of a pair of SIP Servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SipMember {
    /// Its name, which is also the one in its certificate.
    pub app: AppName,
    /// Its host.
    pub host: HostName,
    /// The host's own address: there it listens for the other member ([`crate::SipReplication::port`]) and shows its pages
    /// ([`SipSettings::http_port`]).
    pub address: IpAddr,
}

/// Where a SIP Server's own certificate is. The agent makes it when it starts the server, and signs it; the other member
/// accepts it and nobody else does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SipIdentity {
    /// Certificate, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM; readable by the application's user.
    pub key: PathBuf,
    /// The installation's authority, PEM.
    pub ca: PathBuf,
}

impl SipAssignment {
    /// What `app` is to be told; none: it is no member of a pair that has settings.
    #[must_use]
    pub fn of(cluster: &Cluster, app: &AppName, identity: SipIdentity) -> Option<Self> {
        let (name, pair) = cluster.pair_of(app)?;
        let member = |app: &AppName| {
            let host = cluster.host_of(app)?.clone();
            let address = cluster.hosts.get(&host)?.address;
            Some(SipMember { app: app.clone(), host, address })
        };
        Some(Self {
            pair: name.clone(),
            this: member(app)?,
            other: member(pair.other(app))?,
            identity,
            settings: pair.sip.as_deref()?.clone(),
        })
    }
}
