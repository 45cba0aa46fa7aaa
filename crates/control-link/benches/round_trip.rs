//! What the link costs beside what carries it, on loopback, in one run: a round trip of a control message over plain TCP
//! and over a [`Link`], and of a heartbeat over plain UDP and sealed. `cargo bench -p control-link [-- ROUNDS]`.
//!
//! Both ends wait in mio's poll, as agent and SCS do, each on a thread and core of its own. The kinds take turns in
//! slices, so that what else the machine does hits them alike; the ratio is the median of the slices' ratios.

use control_link::messages::{FromAgent, Heartbeat};
use control_link::{
    Acceptor, Expected, Identity, Limits, Link, MAX_SEALED_LEN, MOST_MESSAGES, Role, SEALED_LEN, Seal, ca,
    dial,
};
use domain::{Epoch, HostFigures, Micros};
use lease::{Body, Message, PairId};
use mio::event::Source;
use mio::net::{TcpStream, UdpSocket};
use mio::{Events, Interest, Poll, Token};
use socket2::{SockFilter, SockRef};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

const SLICES: usize = 20;
const LIMIT: Duration = Duration::from_secs(10);

fn main() {
    let rounds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(20_000usize);
    stay_on(0);
    let lab = tempfile::tempdir().expect("a temporary directory");
    let (scs, agent) = identities(lab.path());
    let size = serde_json::to_vec(&message(1)).expect("figures are JSON").len();
    println!(
        "{rounds} round trips of each kind; control message {size} bytes, heartbeat {SEALED_LEN} bytes sealed"
    );

    let kind = |name, round_trip| Kind { name, round_trip, times: Vec::new() };
    let mut kinds = [
        kind("TCP, plain", Box::new(tcp(size))),
        kind("Link", Box::new(link(&scs, &agent))),
        kind("UDP, plain", Box::new(udp())),
        kind("UDP, sealed", Box::new(sealed(&scs, &agent))),
    ];
    for slice in 0..=SLICES {
        for kind in &mut kinds {
            for _ in 0..rounds / SLICES {
                let start = Instant::now();
                (kind.round_trip)();
                // The first slice warms up.
                if slice > 0 {
                    kind.times.push(start.elapsed());
                }
            }
        }
    }
    println!("{:<12} {:>9} {:>9} {:>9}   beside its carrier", "", "p50 µs", "p99 µs", "max µs");
    for (n, Kind { name, times, .. }) in kinds.iter().enumerate() {
        let slices = |n: usize| kinds[n].times.chunks(rounds / SLICES).map(|slice| quantile(us(slice), 0.5));
        let ratio = quantile(slices(n).zip(slices(n / 2 * 2)).map(|(ours, carrier)| ours / carrier), 0.5);
        let at = |share| quantile(us(times), share);
        println!("{name:<12} {:>9.1} {:>9.1} {:>9.1}   {ratio:.2} times", at(0.5), at(0.99), at(1.0));
    }
    handshakes(&scs, &agent);
    lost_segments(&scs, &agent);
    costs();
    sealing(&scs, &agent);
}

/// One kind of round trip; kinds stand in pairs, the carrier first.
struct Kind {
    name: &'static str,
    round_trip: Box<dyn FnMut()>,
    times: Vec<Duration>,
}

/// How long dialing takes, from nothing to a link at both ends.
fn handshakes(scs: &Identity, agent: &Identity) {
    let (_acceptor, links, address) = accept(scs);
    let times: Vec<_> = (0..200)
        .map(|_| {
            let start = Instant::now();
            let link = dial(address, agent, &Expected::any(Role::Scs), LIMIT).expect("a link");
            let other_end = links.recv_timeout(LIMIT).expect("a link");
            let took = start.elapsed();
            drop((link, other_end));
            took
        })
        .collect();
    println!(
        "a link from nothing: p50 {:.0} µs, p99 {:.0} µs",
        quantile(us(&times), 0.5),
        quantile(us(&times), 0.99)
    );
}

fn us(times: &[Duration]) -> impl Iterator<Item = f64> {
    times.iter().map(|time| time.as_secs_f64() * 1e6)
}

fn quantile(values: impl Iterator<Item = f64>, share: f64) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share) as usize]
}

/// Binds the calling thread to a core: near ends to one, far ends to another, or where the scheduler happens to put the
/// two ends of a kind would be measured.
fn stay_on(core: usize) {
    // SAFETY: a set of cores that lives here, and its size.
    unsafe {
        let mut cores: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut cores);
        // On a machine with one core it fails, and makes no difference.
        libc::sched_setaffinity(0, size_of_val(&cores), &raw const cores);
    }
}

/// How late a message arrives whose segment got lost: a filter makes the receiver's kernel throw it away.
fn lost_segments(scs: &Identity, agent: &Identity) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut near =
        std::net::TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
    let (mut far, _) = listener.accept().expect("a connection");
    near.set_nodelay(true).expect("a socket option");
    let plain = losses(|| {
        let lost = lose(&far);
        near.write_all(b"x").expect("a byte fits the socket");
        drop(lost);
        far.read_exact(&mut [0]).expect("it arrives late");
    });
    let (mut near, mut far) = connect(scs, agent);
    let mut waiter = Waiter::new(far.source());
    let mut messages = Vec::new();
    let linked = losses(|| {
        let lost = lose(far.source());
        near.send(&message(1)).expect("a message is sent");
        drop(lost);
        receive(&mut far, &mut waiter, &mut messages).expect("it arrives late");
    });
    println!("a segment lost: plain TCP p50 {plain:.1} ms late, Link p50 {linked:.1} ms late");
}

fn losses(mut lossy: impl FnMut()) -> f64 {
    let late = (0..21).map(|_| {
        let start = Instant::now();
        lossy();
        start.elapsed().as_secs_f64() * 1e3
    });
    quantile(late, 0.5)
}

/// Has everything that arrives at a socket thrown away until it is dropped.
struct Lossy<'a>(SockRef<'a>);

fn lose<S: AsFd>(socket: &S) -> Lossy<'_> {
    let drop_all = SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0);
    let socket = SockRef::from(socket);
    socket.attach_filter(&[drop_all]).expect("a filter");
    Lossy(socket)
}

impl Drop for Lossy<'_> {
    fn drop(&mut self) {
        self.0.detach_filter().expect("a filter to remove");
    }
}

/// What sealing and JSON cost by themselves.
fn costs() {
    let each = |times: u32, mut work: Box<dyn FnMut() + '_>| {
        let start = Instant::now();
        (0..times).for_each(|_| work());
        start.elapsed().as_secs_f64() * 1e6 / f64::from(times)
    };
    let text = serde_json::to_vec(&message(1)).expect("figures are JSON");
    let encode = each(100_000, Box::new(|| drop(std::hint::black_box(serde_json::to_vec(&message(1))))));
    let decode =
        each(100_000, Box::new(|| drop(std::hint::black_box(serde_json::from_slice::<FromAgent>(&text)))));
    println!("JSON of that message: encode {encode:.2} µs, decode {decode:.2} µs");
}

/// What sealing and opening a datagram cost, with none, one and as many lease messages as fit.
fn sealing(scs: &Identity, agent: &Identity) {
    const ROUNDS: u32 = 20_000;
    let (mut near, mut far) = connect(scs, agent);
    let (mut near, mut far) = (near.seal(1).expect("keys"), far.seal(1).expect("keys"));
    let ask = Body::Ask { epoch: Epoch(2), at: Micros(3), hold_us: 450_000, kind: lease::Kind::Standby };
    for count in [0, 1, MOST_MESSAGES] {
        let messages = vec![Message { pair: PairId(1), body: ask }; count];
        let (mut sealing, mut opening, mut size) = (Duration::ZERO, Duration::ZERO, 0);
        let mut buffer = [0; MAX_SEALED_LEN];
        for round in 0..ROUNDS {
            let start = Instant::now();
            near.seal_with(&heartbeat(u64::from(round)), &messages, |datagram| {
                size = datagram.len();
                buffer[..size].copy_from_slice(datagram);
            });
            let sealed = Instant::now();
            let opened = far.open(&mut buffer[..size]).expect("a datagram");
            assert_eq!(opened.messages().filter(Result::is_ok).count(), count);
            sealing += sealed - start;
            opening += sealed.elapsed();
        }
        let each = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(ROUNDS);
        println!(
            "datagram with {count:>2} lease messages, {size:>4} bytes: seal {:.2} µs, open {:.2} µs",
            each(sealing),
            each(opening)
        );
    }
}

fn identities(dir: &std::path::Path) -> (Identity, Identity) {
    ca::init(&dir.join("ca"), "bench").expect("a CA");
    let make = |role, name| {
        let issued = ca::issue(&dir.join("ca"), role, name, dir).expect("a certificate");
        Identity::load(&issued.certificate, &issued.key, &issued.ca).expect("an identity")
    };
    (make(Role::Scs, "scs1"), make(Role::Agent, "host1"))
}

fn message(number: u64) -> FromAgent {
    FromAgent::Figures(HostFigures { at: Micros(number), ..HostFigures::default() })
}

fn heartbeat(number: u64) -> Heartbeat {
    Heartbeat { at: Micros(number), heard: Micros(number), held_us: number, stall_us: number }
}

/// Waits for one socket.
struct Waiter {
    poll: Poll,
    events: Events,
}

impl Waiter {
    fn new(source: &mut impl Source) -> Self {
        let poll = Poll::new().expect("a poll");
        poll.registry().register(source, Token(0), Interest::READABLE).expect("a socket to wait for");
        Self { poll, events: Events::with_capacity(4) }
    }

    /// Tries `work` until it has something, waiting in between.
    fn until<T>(&mut self, mut work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        loop {
            match work() {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.poll.poll(&mut self.events, Some(LIMIT))?
                }
                outcome => return outcome,
            }
        }
    }
}

fn tcp(size: usize) -> impl FnMut() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let near =
        std::net::TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
    let (far, _) = listener.accept().expect("a connection");
    let ready = |stream: std::net::TcpStream| {
        stream.set_nodelay(true).and_then(|()| stream.set_nonblocking(true)).expect("socket options");
        TcpStream::from_std(stream)
    };
    let (mut near, mut far) = (ready(near), ready(far));
    let mut buffer = vec![0; size + 4];
    let whole = |stream: &mut TcpStream, waiter: &mut Waiter, buffer: &mut [u8]| {
        let mut filled = 0;
        while filled < buffer.len() {
            match waiter.until(|| stream.read(&mut buffer[filled..]))? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => filled += read,
            }
        }
        Ok(())
    };
    let mut far_buffer = buffer.clone();
    thread::spawn(move || {
        stay_on(1);
        let mut waiter = Waiter::new(&mut far);
        while whole(&mut far, &mut waiter, &mut far_buffer).and_then(|()| far.write_all(&far_buffer)).is_ok()
        {
        }
    });
    let mut waiter = Waiter::new(&mut near);
    move || {
        near.write_all(&buffer).expect("a small message fits the socket");
        whole(&mut near, &mut waiter, &mut buffer).expect("an echo");
    }
}

fn accept(scs: &Identity) -> (Acceptor, Receiver<Link>, SocketAddr) {
    let (established, links) = channel();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let acceptor = Acceptor::start(
        vec![listener],
        scs,
        Limits::default(),
        |_| Ok(()),
        move |link| drop(established.send(link)),
        |address, why| panic!("{address}: {why}"),
    );
    let acceptor = acceptor.expect("an acceptor");
    let address = acceptor.addresses()[0];
    (acceptor, links, address)
}

/// Both ends of a link.
fn connect(scs: &Identity, agent: &Identity) -> (Link, Link) {
    let (_acceptor, links, address) = accept(scs);
    let near = dial(address, agent, &Expected::any(Role::Scs), LIMIT).expect("a link");
    (near, links.recv_timeout(LIMIT).expect("a link"))
}

fn receive(link: &mut Link, waiter: &mut Waiter, messages: &mut Vec<FromAgent>) -> Option<FromAgent> {
    waiter
        .until(|| match link.receive(messages) {
            Ok(_) => messages.pop().ok_or(io::ErrorKind::WouldBlock.into()),
            Err(e) => Err(io::Error::other(e)),
        })
        .ok()
}

fn link(scs: &Identity, agent: &Identity) -> impl FnMut() + use<> {
    let (mut near, mut far) = connect(scs, agent);
    thread::spawn(move || {
        stay_on(1);
        let mut waiter = Waiter::new(far.source());
        let mut messages = Vec::new();
        while let Some(message) = receive(&mut far, &mut waiter, &mut messages) {
            if far.send(&message).is_err() {
                return;
            }
        }
    });
    let mut waiter = Waiter::new(near.source());
    let mut messages = Vec::new();
    let mut number = 0;
    move || {
        number += 1;
        near.send(&message(number)).expect("a message is sent");
        let echo = receive(&mut near, &mut waiter, &mut messages).expect("an echo");
        assert_eq!(echo, message(number));
    }
}

fn udp_pair() -> (UdpSocket, UdpSocket) {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let (a, b) = (UdpSocket::bind(any).expect("a port"), UdpSocket::bind(any).expect("a port"));
    a.connect(b.local_addr().expect("an address")).expect("connected");
    b.connect(a.local_addr().expect("an address")).expect("connected");
    (a, b)
}

fn udp() -> impl FnMut() {
    let (mut near, mut far) = udp_pair();
    thread::spawn(move || {
        stay_on(1);
        let mut waiter = Waiter::new(&mut far);
        let mut buffer = [0; 256];
        while waiter.until(|| far.recv(&mut buffer)).and_then(|n| far.send(&buffer[..n])).is_ok() {}
    });
    let mut waiter = Waiter::new(&mut near);
    let mut buffer = [0; SEALED_LEN];
    move || {
        near.send(&buffer).expect("a datagram fits the socket");
        waiter.until(|| near.recv(&mut buffer)).expect("an echo");
    }
}

fn sealed(scs: &Identity, agent: &Identity) -> impl FnMut() + use<> {
    let (mut near_link, mut far_link) = connect(scs, agent);
    let keys = |link: &mut Link| link.seal(1).expect("keys");
    let (mut near_seal, mut far_seal): (Seal, Seal) = (keys(&mut near_link), keys(&mut far_link));
    let (mut near, mut far) = udp_pair();
    thread::spawn(move || {
        stay_on(1);
        let mut waiter = Waiter::new(&mut far);
        let mut buffer = [0; 256];
        while let Ok(length) = waiter.until(|| far.recv(&mut buffer)) {
            let heartbeat = far_seal.open(&mut buffer[..length]).expect("a heartbeat").heartbeat;
            if far.send(&far_seal.seal(&heartbeat)).is_err() {
                return;
            }
        }
    });
    let mut waiter = Waiter::new(&mut near);
    let mut number = 0;
    let mut buffer = [0; 256];
    move || {
        number += 1;
        near.send(&near_seal.seal(&heartbeat(number))).expect("a datagram fits the socket");
        let length = waiter.until(|| near.recv(&mut buffer)).expect("an echo");
        let opened = near_seal.open(&mut buffer[..length]).expect("a heartbeat");
        assert_eq!(opened.heartbeat, heartbeat(number));
    }
}
