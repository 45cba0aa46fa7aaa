//! A SIP Server in a thread of the test, with everybody it talks to.

use control_link::messages::{FromApplication, ToApplication};
use control_link::mode_socket::{Connection, ModeSocketError};
use domain::{Epoch, RefId, RunMode, SipSettings};
use sip_server::{ModeSource, Options};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::os::unix::thread::JoinHandleExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long an event may take before the test fails.
pub const LIMIT: Duration = Duration::from_secs(20);

pub struct Rig {
    pub vip4: SocketAddr,
    pub vip6: SocketAddr,
    pub probe: SocketAddr,
    /// Where HTTP is answered, of a server with settings.
    pub http: Option<SocketAddr>,
    /// The first thing that the manager heard.
    pub ready: String,
    pub agent: Agent,
    pub manager: Manager,
    path: PathBuf,
    server: Option<JoinHandle<anyhow::Result<()>>>,
    dir: tempfile::TempDir,
}

impl Rig {
    /// A server that was just started, and its agent. Everybody may register and call.
    pub fn start() -> Self {
        Self::launch(|_, _| None)
    }

    /// A server of a file of settings, which are made for a directory, an address, and a port for HTTP.
    pub fn with_settings(make: impl FnOnce(&Path, IpAddr, u16) -> SipSettings) -> Self {
        let http = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut rig = Self::launch(|dir, ip| {
            let path = dir.join("settings.json");
            std::fs::write(&path, serde_json::to_string(&make(dir, ip, http.port())).unwrap()).unwrap();
            Some(path)
        });
        rig.http = Some(http);
        rig
    }

    fn launch(settings: impl FnOnce(&Path, IpAddr) -> Option<PathBuf>) -> Self {
        static USED: AtomicU16 = AtomicU16::new(1);
        // A loopback address of its own for each server of each test process, so that none is in the other's way.
        let [high, low] = (std::process::id() as u16).to_be_bytes();
        let number = USED.fetch_add(1, Ordering::Relaxed) as u8;
        let ip = IpAddr::from(Ipv4Addr::new(127, high | 1, low, number));
        let free6 = UdpSocket::bind("[::1]:0").unwrap().local_addr().unwrap();

        let dir = tempfile::tempdir().unwrap();
        let (path, notify) = (dir.path().join("mode"), dir.path().join("notify"));
        let manager = Manager(UnixDatagram::bind(&notify).unwrap());
        manager.0.set_read_timeout(Some(LIMIT)).unwrap();
        let (vip4, probe) = (SocketAddr::new(ip, 5060), SocketAddr::new(ip, 5062));
        let options = Options {
            name: "sip1".parse().unwrap(),
            settings: settings(dir.path(), ip),
            open: true,
            listen: vec![vip4, free6],
            probe_listen: Some(probe),
            domains: vec!["example.com".to_owned()],
            mode: ModeSource::Socket(path.clone()),
            notify_socket: Some(notify.into_os_string()),
            watchdog: Some(Duration::from_millis(60)),
        };
        let server = std::thread::spawn(|| sip_server::run(options));
        let ready = manager.notice();
        let agent = Agent::connect(&path);
        let (vip6, http, server) = (free6, None, Some(server));
        Self { vip4, vip6, probe, http, ready, agent, manager, path, server, dir }
    }

    /// A server that was made primary.
    pub fn primary(epoch: u64) -> Self {
        let rig = Self::start();
        rig.agent.receive();
        rig.agent.receive();
        rig.make_primary(epoch);
        rig
    }

    /// Makes it primary.
    pub fn make_primary(&self, epoch: u64) {
        let mode = RunMode::Primary;
        let expected = FromApplication::RunMode { ref_id: Some(RefId(7)), mode, epoch: Epoch(epoch) };
        assert_eq!(self.instruct(7, mode, epoch), expected);
    }

    /// Where its files are.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Gives an instruction; the answer to it.
    pub fn instruct(&self, ref_id: u64, mode: RunMode, epoch: u64) -> FromApplication {
        self.agent.send(&ToApplication::SetRunMode { ref_id: RefId(ref_id), mode, epoch: Epoch(epoch) });
        loop {
            let message = self.agent.receive();
            if matches!(message, FromApplication::RunMode { ref_id: Some(_), .. }) {
                return message;
            }
        }
    }

    /// A new agent in place of the old one, which is returned, still connected.
    pub fn reconnect_agent(&mut self) -> Agent {
        std::mem::replace(&mut self.agent, Agent::connect(&self.path))
    }

    pub fn udp(&self, server: SocketAddr) -> Udp {
        let any = if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let socket = UdpSocket::bind(any).unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        Udp(socket)
    }

    pub fn tcp(&self, server: SocketAddr) -> Tcp {
        let stream = TcpStream::connect(server).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        Tcp(stream)
    }

    /// Ends the server with SIGTERM, as an agent does.
    pub fn stop(mut self) -> Manager {
        self.end();
        let nobody = UnixDatagram::unbound().unwrap();
        std::mem::replace(&mut self.manager, Manager(nobody))
    }

    /// Ends the server, and waits until it has.
    pub fn end(&mut self) {
        let Some(server) = self.server.take() else { return };
        if !server.is_finished() {
            // SAFETY: the thread has not been joined, so its id is valid; it reads this signal from a descriptor.
            unsafe { libc::pthread_kill(server.as_pthread_t(), libc::SIGTERM) };
        }
        let result = server.join();
        if !std::thread::panicking() {
            result.expect("the server does not panic").expect("the server ends properly");
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.end();
    }
}

/// The agent's side of the mode socket.
pub struct Agent(Connection);

impl Agent {
    fn connect(path: &Path) -> Self {
        Self(Connection::connect(path).expect("a server that is ready listens"))
    }

    pub fn send(&self, message: &ToApplication) {
        self.0.send(message).unwrap();
    }

    pub fn receive(&self) -> FromApplication {
        loop {
            if let Some(message) = self.0.receive().unwrap() {
                return message;
            }
            assert!(self.0.wait(LIMIT).unwrap(), "the server told nothing for {LIMIT:?}");
        }
    }

    pub fn is_closed(&self) -> bool {
        loop {
            match self.0.receive::<FromApplication>() {
                Err(ModeSocketError::Closed) => return true,
                Err(e) => panic!("{e}"),
                Ok(Some(_)) => {}
                Ok(None) if self.0.wait(LIMIT).unwrap() => {}
                Ok(None) => return false,
            }
        }
    }
}

/// The manager's side of the notify socket.
pub struct Manager(UnixDatagram);

impl Manager {
    pub fn notice(&self) -> String {
        let mut buffer = [0; 4_096];
        let length = self.0.recv(&mut buffer).expect("a notice within the limit");
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    pub fn wait_for(&self, text: &str) {
        while !self.notice().contains(text) {}
    }
}

/// A client over UDP.
pub struct Udp(UdpSocket);

impl Udp {
    pub fn send(&self, datagram: &[u8]) {
        self.0.send(datagram).unwrap();
    }

    pub fn ask(&self, datagram: &[u8]) -> String {
        self.send(datagram);
        let mut buffer = [0; 65_536];
        let length = self.0.recv(&mut buffer).expect("an answer within the limit");
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    pub fn heard_nothing(&self) -> bool {
        self.0.set_nonblocking(true).unwrap();
        let result = self.0.recv(&mut [0; 1]);
        self.0.set_nonblocking(false).unwrap();
        result.is_err_and(|e| e.kind() == ErrorKind::WouldBlock)
    }

    pub fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }
}

/// A client over TCP.
pub struct Tcp(pub TcpStream);

impl Tcp {
    pub fn ask(&mut self, message: &[u8]) -> String {
        self.0.write_all(message).unwrap();
        self.read_message()
    }

    /// One answer; answers here have no body.
    pub fn read_message(&mut self) -> String {
        let mut message = Vec::new();
        while !message.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).expect("an answer within the limit");
            message.push(byte[0]);
        }
        String::from_utf8(message).unwrap()
    }
}

/// A request with this first line and these further header lines.
pub fn request(line: &str, more: &str) -> Vec<u8> {
    static SENT: AtomicU16 = AtomicU16::new(0);
    let method = line.split(' ').next().unwrap();
    let branch = SENT.fetch_add(1, Ordering::Relaxed);
    format!(
        "{line}\r\nVia: SIP/2.0/UDP client.example;rport;branch=z9hG4bK{branch}\r\nMax-Forwards: 70\r\n\
         From: <sip:alice@example.com>;tag=1\r\nTo: <sip:alice@example.com>\r\nCall-ID: {branch}@client.example\r\n\
         CSeq: 1 {method}\r\n{more}\r\n"
    )
    .into_bytes()
}

pub fn status_of(response: &str) -> u16 {
    response.strip_prefix("SIP/2.0 ").and_then(|rest| rest.get(..3)).expect("a status line").parse().unwrap()
}

/// Numbers from a seed (xorshift64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}
