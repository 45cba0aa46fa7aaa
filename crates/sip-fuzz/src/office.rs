//! The servers that are tried: how they are set up.

use domain::{
    Micros, SipChoice, SipLimits, SipListen, SipName, SipRoute, SipSecret, SipSettings, SipTransport,
    SipTrunk, SipUser,
};
use sip_core::{Setup, SipCore};
use sip_proto::SessionLimits;
use sip_proto::b2bua::{CallLimits, CallSettings, Calls, Interface, Transport};
use sip_proto::transaction::Timing;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// Where phones reach the server: over UDP, and over TCP.
pub(crate) const VIP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 100)), 5060);
/// Who is the trunk.
pub(crate) const TRUNK: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
/// Most calls at once: little, so that the limit is met.
const CALLS: usize = 12;

/// A trunk for numbers that begin with 0, and a user with a password.
pub(crate) fn trunks_and_users() -> SipSettings {
    let name = |text| SipName::new(text).expect("a name");
    let trunk = SipTrunk {
        host: TRUNK.to_string(),
        port: Some(5060),
        transport: None,
        from: None,
        credentials: None,
        sources: Vec::new(),
        probe: None,
        probe_failures: 2,
        calls: None,
    };
    let choice = SipChoice { trunk: name("out"), priority: 1, weight: 1 };
    let secret = SipSecret { sha256: Some("0".repeat(64)), md5: Some("0".repeat(32)) };
    SipSettings {
        domains: vec!["example.com".to_owned()],
        listen: [SipTransport::Udp, SipTransport::Tcp]
            .map(|transport| SipListen { transport, address: VIP })
            .to_vec(),
        tls: None,
        registrations: Default::default(),
        users: BTreeMap::from([(name("u1"), SipUser { secret, calls: Some(3), outside: true })]),
        trunks: BTreeMap::from([(name("out"), trunk)]),
        routes: vec![SipRoute { prefix: "0".to_owned(), strip: 1, add: String::new(), trunks: vec![choice] }],
        limits: SipLimits {
            calls: CALLS,
            source_per_s: 1_000_000,
            source_burst: 1_000_000,
            ..SipLimits::default()
        },
        timers: Default::default(),
        replication: Default::default(),
        http_port: None,
        cdr_directory: Some("records".into()),
        cdr_log: 20,
    }
}

/// A server's setup; `open`: nobody is asked who they are.
pub(crate) fn setup(settings: SipSettings, open: bool) -> Setup {
    Setup { settings: Arc::new(settings), server: "test".to_owned(), seed: [1; 32], open }
}

/// One that asks nobody.
pub(crate) fn server(seed: u8, now: Micros) -> SipCore {
    SipCore::new(Setup { seed: [seed; 32], ..setup(trunks_and_users(), true) }, now)
}

/// Calls without the server around them.
pub(crate) fn open_calls() -> Calls {
    Calls::new(CallSettings {
        server: "test".to_owned(),
        interfaces: vec![Interface { transport: Transport::Udp, address: VIP }],
        timing: Timing::default(),
        session: SessionLimits::default(),
        limits: CallLimits::default(),
        users: BTreeMap::new(),
        seed: [1; 32],
    })
}
