//! Ports that SIP Servers need on their hosts' own addresses, beside those of agents and SCS: none is wanted twice.

use crate::reader::{Field, Span};
use domain::{Host, HostName, PairName, SipSettings};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Who has which TCP port on which host.
pub(crate) struct Ports<'a> {
    hosts: &'a BTreeMap<HostName, Host>,
    /// Where the SCS listens, each with its key.
    scs: &'a [(&'a str, SocketAddr)],
    taken: BTreeMap<(HostName, u16), (String, Span)>,
}

impl<'a> Ports<'a> {
    /// `scs`: where the SCS listens, each with its key.
    pub(crate) fn new(hosts: &'a BTreeMap<HostName, Host>, scs: &'a [(&'a str, SocketAddr)]) -> Self {
        Self { hosts, scs, taken: BTreeMap::new() }
    }

    /// Takes the ports of a pair; what is taken already is reported at `field`.
    pub(crate) fn claim(
        &mut self,
        pair: &PairName,
        hosts: Option<&[HostName; 2]>,
        settings: &SipSettings,
        field: &Field<'_>,
    ) {
        let replication = ("replication.port", Some(settings.replication.port));
        for (key, port) in [replication, ("http-port", settings.http_port)] {
            let Some(port) = port else { continue };
            for host in hosts.into_iter().flatten() {
                if let Some((owner, span)) = self.owner(host, port) {
                    field.key_error(
                        || format!("`{key}` of pair \"{pair}\" wants TCP port {port} of host \"{host}\""),
                        |f| {
                            let f = f.label(format!("taken by {owner}"));
                            let f = match span.filter(|span| *span != field.key) {
                                Some(span) => f.related(span, "there".to_owned()),
                                None => f,
                            };
                            f.help(format!("set `{key}` of `sip` to a port of its own"))
                        },
                    );
                    break;
                }
                let owner = format!("`{key}` of pair \"{pair}\"");
                self.taken.insert((host.clone(), port), (owner, field.key.clone()));
            }
        }
    }

    /// Who has the port on a host's own address.
    fn owner(&self, host: &HostName, port: u16) -> Option<(String, Option<Span>)> {
        if let Some((owner, span)) = self.taken.get(&(host.clone(), port)) {
            return Some((owner.clone(), Some(span.clone())));
        }
        let settings = self.hosts.get(host)?;
        let agent = settings.peers_reach_it_at();
        if agent.ip() == settings.address && agent.port() == port {
            return Some(("the agent there (`peer-address`)".to_owned(), None));
        }
        let scs = self.scs.iter().find(|(_, at)| at.ip() == settings.address && at.port() == port);
        scs.map(|(key, _)| (format!("the SCS (`{key}`)"), None))
    }
}
