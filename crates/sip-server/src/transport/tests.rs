//! Two ends, each with an event loop of its own, on loopback.

use super::*;
use crate::transport::tls::TlsFiles;
use mio::{Events, Poll};
use std::io::Write;
use std::net::TcpListener as StdListener;
use std::path::Path;
use std::time::Instant;

const LIMIT: Duration = Duration::from_secs(20);
const FIRST_TOKEN: usize = 16;
const MESSAGE: &[u8] = b"OPTIONS sip:a SIP/2.0\r\nl: 2\r\n\r\nhi";

/// One end, with what it has received.
struct End {
    poll: Poll,
    transports: Transports,
    received: Vec<(Flow, Vec<u8>)>,
    lost: Vec<Ticket>,
    now: Micros,
}

impl End {
    /// Over all transports; TLS where there are files.
    fn new(tls: Option<&TlsFiles>) -> Self {
        let poll = Poll::new().unwrap();
        let any = "127.0.0.1:0".parse().unwrap();
        let mut interfaces = vec![
            Interface { transport: Transport::Udp, address: any },
            Interface { transport: Transport::Tcp, address: any },
        ];
        interfaces.extend(tls.map(|_| Interface { transport: Transport::Tls, address: any }));
        let configs = tls.map(|files| TlsConfigs::load(files).unwrap());
        let registry = poll.registry().try_clone().unwrap();
        let mut transports = Transports::bind(&interfaces, configs, registry, FIRST_TOKEN).unwrap();
        transports.speak();
        Self { poll, transports, received: Vec::new(), lost: Vec::new(), now: Micros(1) }
    }

    fn address(&self, interface: u8) -> SocketAddr {
        match &self.transports.listening[usize::from(interface)].socket {
            Socket::Datagrams(datagrams) => datagrams.local_addr().unwrap(),
            Socket::Listener(listener) => listener.local_addr().unwrap(),
        }
    }

    fn send(&mut self, flow: Flow, bytes: &[u8], number: u32) {
        let letter = Letter { flow, bytes, ticket: Some(ticket(number)) };
        self.transports.send([letter], self.now);
    }

    /// Does what there is to do now, or soon.
    fn round(&mut self) {
        let mut events = Events::with_capacity(64);
        let wait = if self.transports.has_more() { Duration::ZERO } else { Duration::from_millis(1) };
        self.poll.poll(&mut events, Some(wait)).unwrap();
        for event in &events {
            self.transports.mark_ready(event.token());
        }
        let received = &mut self.received;
        self.transports.receive(self.now, |flow, bytes, _| received.push((flow, bytes.to_vec())));
        self.lost.extend(self.transports.take_unsent());
    }
}

fn ticket(number: u32) -> Ticket {
    (CallKey::read("00000000000000aa").unwrap(), number)
}

/// Goes round with both until something holds.
fn until(ends: &mut [&mut End], mut holds: impl FnMut(&[&mut End]) -> bool) {
    let begun = Instant::now();
    while !holds(ends) {
        assert!(begun.elapsed() < LIMIT, "it never came about");
        ends.iter_mut().for_each(|end| end.round());
    }
}

/// Certificate and key for this name, signed by themselves and trusted by each other.
fn files(dir: &Path, name: &str) -> TlsFiles {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let (certificate, key) = (dir.join("certificate.pem"), dir.join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    TlsFiles { ca: Some(certificate.clone()), certificate, key, verify_clients: false }
}

#[test]
fn a_message_and_its_answer_go_over_each_transport() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path(), "127.0.0.1");
    let (mut here, mut there) = (End::new(Some(&files)), End::new(Some(&files)));
    for interface in 0..3 {
        let flow = Flow { interface, peer: there.address(interface) };
        // More than a TLS record, and more than one write takes.
        let long = [b"OPTIONS sip:a SIP/2.0\r\nl: 40000\r\n\r\n", &[b'x'; 40_000][..]].concat();
        for bytes in [MESSAGE, &long] {
            here.send(flow, bytes, 1);
            until(&mut [&mut here, &mut there], |ends| !ends[1].received.is_empty());
            let (from, asked) = there.received.pop().unwrap();
            assert!(asked == bytes, "interface {interface}");
            assert_eq!(from.interface, interface);
            there.send(from, MESSAGE, 2);
            until(&mut [&mut here, &mut there], |ends| !ends[0].received.is_empty());
            let (back, answer) = here.received.pop().unwrap();
            assert_eq!(answer, MESSAGE);
            assert_eq!(back, flow, "the answer comes on the flow that the question left on");
        }
    }
    assert_eq!(
        (here.transports.connections(), there.transports.connections()),
        (2, 2),
        "they are used again"
    );
    assert_eq!((here.lost, there.lost), (Vec::new(), Vec::new()));
}

#[test]
fn what_nobody_takes_comes_back() {
    let mut here = End::new(None);
    let nobody = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    here.send(Flow { interface: 1, peer: nobody }, MESSAGE, 7);
    until(&mut [&mut here], |ends| !ends[0].lost.is_empty());
    assert_eq!(here.lost, [ticket(7)]);
    here.lost.clear();
    here.send(Flow { interface: 9, peer: nobody }, MESSAGE, 8);
    until(&mut [&mut here], |ends| !ends[0].lost.is_empty());
    assert_eq!(here.lost, [ticket(8)], "an interface that there is not");
    assert_eq!(here.transports.connections(), 0);
}

#[test]
fn a_connection_that_does_not_come_about_is_given_up_in_time() {
    let mut here = End::new(None);
    // A listener whose queue is full does not answer.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.listen(0).unwrap();
    let peer = socket.local_addr().unwrap().as_socket().unwrap();
    let _fills_it: Vec<_> =
        (0..8).map(|_| sockets::connect("127.0.0.1".parse().unwrap(), peer).unwrap()).collect();
    here.send(Flow { interface: 1, peer }, MESSAGE, 7);
    here.round();
    here.now += Duration::from_secs(3);
    here.transports.sweep(here.now);
    here.round();
    assert_eq!(here.lost, []);
    here.now += Duration::from_secs(2);
    here.transports.sweep(here.now);
    here.round();
    assert_eq!(here.lost, [ticket(7)]);
}

#[test]
fn a_certificate_of_another_name_or_nobodys_is_refused() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let files_here = files(dir.path(), "here.example");
    let (mut here, mut there) = (End::new(Some(&files_here)), End::new(Some(&files_here)));
    let flow = Flow { interface: 2, peer: there.address(2) };
    here.send(flow, MESSAGE, 1);
    until(&mut [&mut here, &mut there], |ends| !ends[0].lost.is_empty());

    here.transports.set_names(BTreeMap::from([(flow.peer, ServerName::try_from("here.example").unwrap())]));
    here.send(flow, MESSAGE, 2);
    until(&mut [&mut here, &mut there], |ends| !ends[1].received.is_empty());
    there.received.clear();

    // Certificates are renewed without dropping who is there, and count from the next connection on.
    there.transports.set_tls(Some(TlsConfigs::load(&files(other.path(), "here.example")).unwrap()));
    here.send(flow, MESSAGE, 3);
    until(&mut [&mut here, &mut there], |ends| !ends[1].received.is_empty());
    let mut stranger = End::new(Some(&files_here));
    stranger
        .transports
        .set_names(BTreeMap::from([(flow.peer, ServerName::try_from("here.example").unwrap())]));
    stranger.send(flow, MESSAGE, 4);
    until(&mut [&mut stranger, &mut there], |ends| !ends[0].lost.is_empty());
    assert_eq!(here.lost, [ticket(1)]);
}

#[test]
fn clients_have_to_show_a_certificate_where_that_is_wanted() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let files_here = TlsFiles { verify_clients: true, ..files(dir.path(), "127.0.0.1") };
    let strange = TlsFiles { ca: files_here.ca.clone(), ..files(other.path(), "127.0.0.1") };
    let (mut here, mut there) = (End::new(Some(&files_here)), End::new(Some(&files_here)));
    let mut stranger = End::new(Some(&strange));
    let flow = Flow { interface: 2, peer: there.address(2) };
    here.send(flow, MESSAGE, 1);
    until(&mut [&mut here, &mut there], |ends| !ends[1].received.is_empty());
    there.received.clear();
    stranger.send(flow, MESSAGE, 2);
    until(&mut [&mut stranger, &mut there], |ends| {
        ends[0].transports.connections() == 0 && ends[1].transports.connections() == 1
    });
    assert!(there.received.is_empty());
}

#[test]
fn silence_drops_connections_and_sends_nothing() {
    let (mut here, mut there) = (End::new(None), End::new(None));
    let flow = Flow { interface: 1, peer: there.address(1) };
    here.send(flow, MESSAGE, 1);
    until(&mut [&mut here, &mut there], |ends| !ends[1].received.is_empty());
    there.transports.silence();
    until(&mut [&mut here, &mut there], |ends| ends[0].transports.connections() == 0);
    for interface in 0..2 {
        there.send(Flow { interface, peer: here.address(interface) }, MESSAGE, 2);
    }
    there.round();
    assert_eq!(there.lost, [ticket(2), ticket(2)]);
    assert!(here.received.is_empty());
    let before = there.transports.counters().silenced;
    here.send(Flow { interface: 0, peer: there.address(0) }, MESSAGE, 3);
    until(&mut [&mut here, &mut there], |ends| ends[1].transports.counters().silenced > before);
    assert_eq!(there.received.len(), 1);
}

#[test]
fn who_does_not_read_is_not_kept() {
    let mut here = End::new(None);
    let deaf = StdListener::bind("127.0.0.1:0").unwrap();
    let flow = Flow { interface: 1, peer: deaf.local_addr().unwrap() };
    let long = [b'x'; 32_000];
    let mut number = 0;
    while here.lost.is_empty() {
        number += 1;
        assert!(number < 10_000, "what waits for one connection must be bounded");
        here.send(flow, &long, number);
        here.round();
    }
    assert_eq!(here.lost.last(), Some(&ticket(number)));
}

#[test]
fn one_source_cannot_take_all_places() {
    let mut there = End::new(None);
    let full = source_of("127.0.0.1:1".parse().unwrap());
    there.transports.per_source.insert(full, MAX_PER_SOURCE);
    let mut crowd = std::net::TcpStream::connect(there.address(1)).unwrap();
    until(&mut [&mut there], |ends| ends[0].transports.counters().refused == 1);
    assert_eq!(there.transports.connections(), 0);
    there.transports.per_source.clear();
    let _ = crowd.write_all(MESSAGE);
    crowd = std::net::TcpStream::connect(there.address(1)).unwrap();
    crowd.write_all(MESSAGE).unwrap();
    until(&mut [&mut there], |ends| !ends[0].received.is_empty());
    assert_eq!(there.transports.per_source.get(&full), Some(&1));
    drop(crowd);
    until(&mut [&mut there], |ends| ends[0].transports.connections() == 0);
    assert!(there.transports.per_source.is_empty());
}
