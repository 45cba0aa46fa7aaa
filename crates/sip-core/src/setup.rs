//! Settings in the form in which they are used.

use domain::{SipSecret, SipSettings, SipTransport};
use sha2::{Digest, Sha256};
use sip_proto::b2bua::{CallLimits, CallSettings, Flow, Interface, Transport};
use sip_proto::digest::{Algorithm, HexDigest, User};
use sip_proto::transaction::Timing;
use sip_proto::{LEAST_MIN_SE_S, Limits, SessionLimits, Settings};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// What a trunk's label begins with, so that it is no user's.
pub(crate) const TRUNK: &str = "trunk/";

/// How a [`crate::SipCore`] is set up.
#[derive(Debug, Clone)]
pub struct Setup {
    /// From the cluster file.
    pub settings: Arc<SipSettings>,
    /// Value of the Server and User-Agent header fields.
    pub server: String,
    /// Random, and another one at each start of the process.
    pub seed: [u8; 32],
    /// Nobody is asked who they are: for trying it out.
    pub open: bool,
}

impl Setup {
    pub(crate) fn registrar(&self) -> Settings {
        let registrations = self.settings.registrations;
        let limits = Limits {
            contacts: registrations.contacts,
            min_expires_s: registrations.min_expires_s,
            default_expires_s: registrations.default_expires_s,
            max_expires_s: registrations.max_expires_s,
            ..Limits::default()
        };
        Settings { server: self.server.clone(), domains: self.domains(), limits, calls: true }
    }

    pub(crate) fn calls(&self) -> CallSettings {
        let trunks = self.settings.trunks.iter();
        let users = trunks.filter_map(|(name, trunk)| {
            let credentials = trunk.credentials.as_ref()?;
            let user =
                User { username: credentials.username.clone(), password: credentials.password.clone() };
            Some((format!("{TRUNK}{name}").into(), user))
        });
        let timers = self.settings.timers;
        CallSettings {
            server: self.server.clone(),
            interfaces: self
                .settings
                .listen
                .iter()
                .map(|listen| interface(listen.transport, listen.address))
                .collect(),
            timing: Timing::default(),
            session: SessionLimits {
                interval_s: timers.session_expires_s,
                min_se_s: timers.min_session_s.max(LEAST_MIN_SE_S),
            },
            limits: CallLimits { calls: self.settings.limits.calls, ..CallLimits::default() },
            users: users.collect::<BTreeMap<_, _>>(),
            seed: self.seed,
        }
    }

    /// Domains and the addresses that we listen at, as URIs spell them; none where any will do.
    pub(crate) fn domains(&self) -> Vec<String> {
        if self.settings.domains.is_empty() {
            return Vec::new();
        }
        let addresses = self.settings.listen.iter().map(|listen| spelled(listen.address.ip()));
        self.settings.domains.iter().cloned().chain(addresses).collect()
    }

    /// The realm of digest authentication.
    pub(crate) fn realm(&self) -> String {
        let first = self.settings.listen.first();
        let address = || first.map_or_else(|| "takeover".to_owned(), |listen| spelled(listen.address.ip()));
        self.settings.domains.first().cloned().unwrap_or_else(address)
    }

    /// The key of nonces: the same on both members, as their settings are, and as secret as these.
    pub(crate) fn nonce_key(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"takeover nonces");
        for (name, user) in &self.settings.users {
            hash.update(name.as_str());
            for secret in [&user.secret.sha256, &user.secret.md5].into_iter().flatten() {
                hash.update([0]);
                hash.update(secret);
            }
        }
        hash.finalize().into()
    }

    /// How long somebody is known who has proved who they are: for as long as a registration lasts.
    pub(crate) fn known_for(&self) -> Duration {
        Duration::from_secs(u64::from(self.settings.registrations.max_expires_s))
    }

    /// The algorithms that are offered, the better one first.
    pub(crate) fn algorithms(&self) -> Vec<Algorithm> {
        let any =
            |algorithm| self.settings.users.values().any(|user| secret(&user.secret, algorithm).is_some());
        [Algorithm::Sha256, Algorithm::Md5].into_iter().filter(|algorithm| any(*algorithm)).collect()
    }

    /// The way to somebody: by the interface with this transport and the address's family.
    pub(crate) fn flow_to(&self, transport: Transport, peer: SocketAddr) -> Option<Flow> {
        let fits = |listen: &domain::SipListen| {
            of(listen.transport) == transport && listen.address.is_ipv4() == peer.is_ipv4()
        };
        let interface = self.settings.listen.iter().position(fits)?;
        Some(Flow { interface: u8::try_from(interface).ok()?, peer })
    }

    pub(crate) fn transport(&self, flow: Flow) -> Transport {
        self.settings
            .listen
            .get(usize::from(flow.interface))
            .map_or(Transport::Udp, |listen| of(listen.transport))
    }

    pub(crate) fn address(&self, flow: Flow) -> Option<SocketAddr> {
        self.settings.listen.get(usize::from(flow.interface)).map(|listen| listen.address)
    }
}

/// What is kept of a password, for an algorithm.
pub(crate) fn secret(secret: &SipSecret, algorithm: Algorithm) -> Option<HexDigest> {
    let text = match algorithm {
        Algorithm::Sha256 => &secret.sha256,
        Algorithm::Md5 => &secret.md5,
    };
    HexDigest::read(algorithm, text.as_deref()?)
}

pub(crate) const fn of(transport: SipTransport) -> Transport {
    match transport {
        SipTransport::Udp => Transport::Udp,
        SipTransport::Tcp => Transport::Tcp,
        SipTransport::Tls => Transport::Tls,
    }
}

fn interface(transport: SipTransport, address: SocketAddr) -> Interface {
    Interface { transport: of(transport), address }
}

/// An address as the host of a URI.
pub(crate) fn spelled(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}
