//! Where a SIP server is that is known by name (RFC 3263): NAPTR says which transports it wants, SRV which hosts and
//! ports, A and AAAA which addresses. What is left out in DNS is left out here, too, down to the plain address.

use hickory_resolver::TokioResolver;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::{RData, RecordType};
use sip_core::Question;
use sip_proto::b2bua::Transport;
use std::cmp::Reverse;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// How long all of it may take. A call waits for this, and there may be another trunk.
const LIMIT: Duration = Duration::from_secs(4);
/// How long one question may wait for one name server.
const TRY: Duration = Duration::from_millis(1_500);
/// Hosts of one name that are looked at, and addresses that are told, at most.
const MOST: usize = 16;
/// How long an answer is good at least and at most.
const LEAST_TTL: Duration = Duration::from_secs(5);
const MOST_TTL: Duration = Duration::from_secs(3_600);

/// One of the places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) transport: Transport,
    pub(crate) address: SocketAddr,
    /// As in SRV: the lowest is tried first.
    pub(crate) priority: u16,
    /// As in SRV: the share among those with the same priority.
    pub(crate) weight: u16,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Located {
    pub(crate) question: Question,
    /// The best first; or why there is none.
    pub(crate) locations: Result<Vec<Location>, String>,
    /// How long this is good.
    pub(crate) good_for: Duration,
}

/// Looks names up. Cheap to clone; what was found is remembered as long as it is good.
#[derive(Clone)]
pub(crate) struct Locator {
    resolver: Result<TokioResolver, String>,
}

/// What was found so far.
struct Found {
    locations: Vec<Location>,
    until: Instant,
}

impl Locator {
    /// Asks those whom the system asks (resolv.conf(5), hosts(5)).
    pub(crate) fn from_system() -> Self {
        let build = || {
            let mut builder = TokioResolver::builder_tokio()?;
            let options = builder.options_mut();
            options.timeout = TRY;
            options.attempts = 1;
            builder.build()
        };
        Self { resolver: build().map_err(|e| e.to_string()) }
    }

    /// Answers a question, within the limit.
    pub(crate) async fn locate(&self, question: Question) -> Located {
        let found = match &self.resolver {
            Err(e) => Err(e.clone()),
            Ok(resolver) => match timeout(LIMIT, find(resolver, &question)).await {
                Err(_) => Err(format!("no name server answered within {LIMIT:?}")),
                Ok(Err(e)) => Err(e.to_string()),
                Ok(Ok(found)) if found.locations.is_empty() => Err("it has no address".to_owned()),
                Ok(Ok(found)) => Ok(found),
            },
        };
        let found = found.map(|mut found| {
            found.locations.sort_by_key(|location| (location.priority, Reverse(location.weight)));
            found
        });
        let until = found.as_ref().map_or_else(|_| Instant::now(), |found| found.until);
        let good_for = until.saturating_duration_since(Instant::now()).clamp(LEAST_TTL, MOST_TTL);
        Located { question, locations: found.map(|found| found.locations), good_for }
    }
}

/// RFC 3263, section 4.
async fn find(resolver: &TokioResolver, question: &Question) -> Result<Found, NetError> {
    let mut found = Found { locations: Vec::new(), until: Instant::now() + MOST_TTL };
    if let Some(port) = question.port {
        // Section 4.1: with a port and no transport it is UDP.
        let transport = question.transport.unwrap_or(Transport::Udp);
        found.add_host(resolver, &question.host, port, transport, (0, 0)).await?;
        return Ok(found);
    }
    let services = match question.transport {
        Some(transport) => vec![(service_name(&question.host, transport), transport)],
        None => found.services(resolver, &question.host).await?,
    };
    for (index, (name, transport)) in services.iter().enumerate() {
        found.add_service(resolver, name, *transport, index as u16).await?;
    }
    if found.locations.is_empty() {
        let transport = question.transport.unwrap_or(Transport::Udp);
        found.add_host(resolver, &question.host, default_port(transport), transport, (0, 0)).await?;
    }
    Ok(found)
}

impl Found {
    /// The services of a domain, best first: as its NAPTR records say, or all that we have a transport for.
    async fn services(
        &mut self,
        resolver: &TokioResolver,
        host: &str,
    ) -> Result<Vec<(String, Transport)>, NetError> {
        let mut services = Vec::new();
        for data in self.records(resolver, host, RecordType::NAPTR).await? {
            let RData::NAPTR(naptr) = data else { continue };
            let transport = match naptr.services.to_ascii_uppercase().as_slice() {
                b"SIP+D2U" => Transport::Udp,
                b"SIP+D2T" => Transport::Tcp,
                b"SIPS+D2T" => Transport::Tls,
                // A service of others, or a transport that we do not have.
                _ => continue,
            };
            if naptr.flags.eq_ignore_ascii_case(b"s") {
                services.push((naptr.order, naptr.preference, naptr.replacement.to_ascii(), transport));
            }
        }
        services.sort_by_key(|(order, preference, ..)| (*order, *preference));
        services.truncate(MOST);
        if services.is_empty() {
            let ours = [Transport::Udp, Transport::Tcp, Transport::Tls];
            return Ok(ours.map(|transport| (service_name(host, transport), transport)).to_vec());
        }
        Ok(services.into_iter().map(|(_, _, name, transport)| (name, transport)).collect())
    }

    /// The hosts of a service. Those of the service behind it come after all of them.
    async fn add_service(
        &mut self,
        resolver: &TokioResolver,
        name: &str,
        transport: Transport,
        rank: u16,
    ) -> Result<(), NetError> {
        let mut hosts = Vec::new();
        for data in self.records(resolver, name, RecordType::SRV).await? {
            // A target that is the root: the service is decidedly not there (RFC 2782).
            if let RData::SRV(srv) = data
                && !srv.target.is_root()
            {
                hosts.push((srv.priority, srv.weight, srv.target.to_ascii(), srv.port));
            }
        }
        hosts.sort();
        // Bits of the priority make room for the rank of the service; 4,096 priorities are told apart.
        let base = rank.min(15) << 12;
        for (priority, weight, host, port) in hosts.into_iter().take(MOST) {
            let place = (base | priority.min(0x0fff), weight);
            self.add_host(resolver, &host, port, transport, place).await?;
        }
        Ok(())
    }

    async fn add_host(
        &mut self,
        resolver: &TokioResolver,
        host: &str,
        port: u16,
        transport: Transport,
        (priority, weight): (u16, u16),
    ) -> Result<(), NetError> {
        for kind in [RecordType::A, RecordType::AAAA] {
            for data in self.records(resolver, host, kind).await? {
                let ip = match data {
                    RData::A(a) => IpAddr::V4(a.0),
                    RData::AAAA(aaaa) => IpAddr::V6(aaaa.0),
                    // An alias on the way.
                    _ => continue,
                };
                if self.locations.len() < MOST {
                    let address = SocketAddr::new(ip, port);
                    self.locations.push(Location { transport, address, priority, weight });
                }
            }
        }
        Ok(())
    }

    /// Records of a name; none where there are none, which is no error.
    async fn records(
        &mut self,
        resolver: &TokioResolver,
        name: &str,
        kind: RecordType,
    ) -> Result<Vec<RData>, NetError> {
        // A dot at the end: the name is whole, and none of the system's domains are tried behind it.
        let whole = format!("{}.", name.trim_end_matches('.'));
        match resolver.lookup(whole, kind).await {
            Ok(lookup) => {
                self.until = self.until.min(lookup.valid_until());
                Ok(lookup.answers().iter().map(|record| record.data.clone()).collect())
            }
            Err(e) if e.is_no_records_found() => Ok(Vec::new()),
            Err(e) => Err(e),
        }
    }
}

fn service_name(host: &str, transport: Transport) -> String {
    match transport {
        Transport::Udp => format!("_sip._udp.{host}"),
        Transport::Tcp => format!("_sip._tcp.{host}"),
        Transport::Tls => format!("_sips._tcp.{host}"),
    }
}

fn default_port(transport: Transport) -> u16 {
    match transport {
        Transport::Udp | Transport::Tcp => 5060,
        Transport::Tls => 5061,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
    use hickory_resolver::net::runtime::TokioRuntimeProvider;
    use hickory_resolver::proto::op::{Message, MessageType, OpCode, ResponseCode};
    use hickory_resolver::proto::rr::rdata::{A, NAPTR, SRV};
    use hickory_resolver::proto::rr::{Name, Record};
    use tokio::net::UdpSocket;

    const TTL_S: u32 = 300;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn a(host: &str, last: u8) -> (Name, RData) {
        (name(host), RData::A(A::new(192, 0, 2, last)))
    }

    fn srv(service: &str, (priority, weight): (u16, u16), port: u16, target: &str) -> (Name, RData) {
        (name(service), RData::SRV(SRV::new(priority, weight, port, name(target))))
    }

    fn naptr(host: &str, order: u16, service: &str, replacement: &str) -> (Name, RData) {
        let bytes = |text: &str| text.as_bytes().into();
        let data = NAPTR::new(order, 1, bytes("s"), bytes(service), bytes(""), name(replacement));
        (name(host), RData::NAPTR(data))
    }

    /// Answers from these records; names that are in none do not exist.
    async fn name_server(socket: UdpSocket, records: Vec<(Name, RData)>) {
        let mut buffer = [0; 1_500];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            let asked = Message::from_vec(&buffer[..length]).unwrap();
            let query = asked.queries[0].clone();
            let mut answer = Message::new(asked.metadata.id, MessageType::Response, OpCode::Query);
            answer.add_query(query.clone());
            if !records.iter().any(|(owner, _)| owner == query.name()) {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
            for (owner, data) in &records {
                if owner == query.name() && data.record_type() == query.query_type() {
                    answer.add_answer(Record::from_rdata(owner.clone(), TTL_S, data.clone()));
                }
            }
            socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
        }
    }

    /// The answers of a world in which only these records exist.
    fn located(records: Vec<(Name, RData)>, questions: &[Question]) -> Vec<Located> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let mut connection = ConnectionConfig::udp();
            connection.port = socket.local_addr().unwrap().port();
            let server = NameServerConfig::new([127, 0, 0, 1].into(), true, vec![connection]);
            let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
            tokio::spawn(name_server(socket, records));
            let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
            let locator = Locator { resolver: Ok(resolver.build().unwrap()) };
            let mut answers = Vec::new();
            for question in questions {
                answers.push(locator.locate(question.clone()).await);
            }
            answers
        })
    }

    fn question(port: Option<u16>, transport: Option<Transport>) -> Question {
        let trunk = "t".parse().unwrap();
        Question { trunk, host: "trunk.example".to_owned(), port, transport }
    }

    fn place(transport: Transport, last: u8, port: u16, priority: u16, weight: u16) -> Location {
        let address = SocketAddr::from(([192, 0, 2, last], port));
        Location { transport, address, priority, weight }
    }

    #[test]
    fn services_come_as_naptr_ranks_them_and_hosts_as_srv_does() {
        let records = vec![
            naptr("trunk.example.", 20, "SIP+D2U", "_sip._udp.trunk.example."),
            naptr("trunk.example.", 10, "SIPS+D2T", "_sips._tcp.trunk.example."),
            naptr("trunk.example.", 5, "E2U+email", "mail.example."),
            srv("_sips._tcp.trunk.example.", (2, 7), 5061, "b.example."),
            srv("_sips._tcp.trunk.example.", (1, 5), 5071, "a.example."),
            srv("_sip._udp.trunk.example.", (0, 0), 5060, "a.example."),
            a("a.example.", 1),
            a("b.example.", 2),
        ];
        let [by_naptr, by_srv] =
            &located(records, &[question(None, None), question(None, Some(Transport::Udp))])[..]
        else {
            panic!("two questions, two answers")
        };
        let expected = [
            place(Transport::Tls, 1, 5071, 1, 5),
            place(Transport::Tls, 2, 5061, 2, 7),
            place(Transport::Udp, 1, 5060, 0x1000, 0),
        ];
        assert_eq!(by_naptr.locations.as_deref(), Ok(&expected[..]));
        assert!(by_naptr.good_for <= Duration::from_secs(TTL_S.into()), "{:?}", by_naptr.good_for);
        assert_eq!(by_srv.locations.as_deref(), Ok(&[place(Transport::Udp, 1, 5060, 0, 0)][..]));
    }

    #[test]
    fn without_services_it_is_the_address_and_the_usual_port() {
        let records = vec![a("trunk.example.", 3)];
        let questions = [
            question(None, Some(Transport::Tls)),
            question(None, None),
            question(Some(5080), Some(Transport::Tcp)),
            question(Some(5080), None),
        ];
        let found: Vec<_> = located(records, &questions).into_iter().map(|l| l.locations.unwrap()).collect();
        let expected = [
            vec![place(Transport::Tls, 3, 5061, 0, 0)],
            vec![place(Transport::Udp, 3, 5060, 0, 0)],
            vec![place(Transport::Tcp, 3, 5080, 0, 0)],
            vec![place(Transport::Udp, 3, 5080, 0, 0)],
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_not_there_is_an_error_that_is_not_asked_for_again_at_once() {
        let records = vec![srv("_sip._udp.trunk.example.", (0, 0), 0, ".")];
        let answers = located(records, &[question(None, Some(Transport::Udp))]);
        assert_eq!(answers[0].locations, Err("it has no address".to_owned()));
        assert_eq!(answers[0].good_for, LEAST_TTL);
    }
}
