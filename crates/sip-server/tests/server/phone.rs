//! A telephone: says what it is told to say, in the words of RFC 3261, and waits for what it should hear.

use crate::rig::LIMIT;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use sip_proto::digest::User;
use sip_proto::{Frame, Framer};
use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

pub const SDP: &str =
    "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\nm=audio 30000 RTP/AVP 8\r\n";
pub const PASSWORD: &str = "correct horse";

enum Wire {
    Udp(UdpSocket),
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// A message.
#[derive(Debug, Clone)]
pub struct Heard(pub String);

pub struct Phone {
    pub name: &'static str,
    wire: Wire,
    transport: &'static str,
    local: SocketAddr,
    framer: Framer,
    input: Vec<u8>,
    seen: HashSet<String>,
    /// Of the last request.
    branch: String,
    /// Of the call that it is in.
    pub dialog: Dialog,
}

/// What requests within a call are made of.
#[derive(Debug, Clone, Default)]
pub struct Dialog {
    pub call_id: String,
    pub local: String,
    pub remote: String,
    pub target: String,
    pub cseq: u32,
}

impl Phone {
    pub fn udp(name: &'static str, server: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        let local = socket.local_addr().unwrap();
        Self::new(name, Wire::Udp(socket), "UDP", local)
    }

    pub fn tcp(name: &'static str, server: SocketAddr) -> Self {
        let stream = stream(server);
        let local = stream.local_addr().unwrap();
        Self::new(name, Wire::Tcp(stream), "TCP", local)
    }

    /// Over TLS, believing this certificate alone.
    pub fn tls(name: &'static str, server: SocketAddr, certificate: &Path) -> Self {
        let stream = stream(server);
        let local = stream.local_addr().unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name_of_server = ServerName::IpAddress(server.ip().into());
        let connection = ClientConnection::new(Arc::new(config), name_of_server).unwrap();
        Self::new(name, Wire::Tls(Box::new(StreamOwned::new(connection, stream))), "TLS", local)
    }

    fn new(name: &'static str, wire: Wire, transport: &'static str, local: SocketAddr) -> Self {
        Self {
            name,
            wire,
            transport,
            local,
            framer: Framer::default(),
            input: Vec::new(),
            seen: HashSet::new(),
            branch: String::new(),
            dialog: Dialog::default(),
        }
    }

    pub fn contact(&self) -> String {
        format!("<sip:{}@{};transport={}>", self.name, self.local, self.transport.to_lowercase())
    }

    pub fn send(&mut self, text: &str) {
        match &mut self.wire {
            Wire::Udp(socket) => drop(socket.send(text.as_bytes()).unwrap()),
            Wire::Tcp(stream) => stream.write_all(text.as_bytes()).unwrap(),
            Wire::Tls(stream) => stream.write_all(text.as_bytes()).unwrap(),
        }
    }

    /// The next message that was not heard before, and is no 100.
    pub fn hear(&mut self) -> Heard {
        loop {
            let heard = Heard(self.receive());
            let unheard =
                self.seen.insert(format!("{}{}{}", heard.line(), heard.header("Via"), heard.header("CSeq")));
            if unheard && heard.status() != Some(100) {
                return heard;
            }
        }
    }

    /// The next message, which begins like this.
    pub fn expect(&mut self, line: &str) -> Heard {
        let heard = self.hear();
        assert!(heard.0.starts_with(line), "{} expected {line}, heard:\n{}", self.name, heard.0);
        heard
    }

    fn receive(&mut self) -> String {
        let mut buffer = [0; 65_536];
        if let Wire::Udp(socket) = &self.wire {
            let length =
                socket.recv(&mut buffer).unwrap_or_else(|e| panic!("{} hears nothing: {e}", self.name));
            return String::from_utf8(buffer[..length].to_vec()).unwrap();
        }
        loop {
            match self.framer.next(&self.input) {
                Frame::Message(length) => {
                    let message = self.input.drain(..length).collect();
                    return String::from_utf8(message).unwrap();
                }
                Frame::Skip(length) | Frame::KeepAlive(length) => drop(self.input.drain(..length)),
                Frame::Broken(_) => panic!("{} hears what is no message", self.name),
                Frame::Incomplete => {
                    let read = match &mut self.wire {
                        Wire::Tcp(stream) => stream.read(&mut buffer),
                        Wire::Tls(stream) => stream.read(&mut buffer),
                        Wire::Udp(_) => unreachable!("datagrams are whole"),
                    };
                    let length = read.unwrap_or_else(|e| panic!("{} hears nothing: {e}", self.name));
                    assert!(length > 0, "{} was hung up on", self.name);
                    self.input.extend_from_slice(&buffer[..length]);
                }
            }
        }
    }

    /// A request outside of calls, or the one that begins one.
    pub fn begin(&mut self, method: &str, uri: &str, to: &str, more: &str, body: &str) -> String {
        let number = number();
        self.dialog = Dialog {
            call_id: format!("{number}@{}", self.name),
            local: format!("<sip:{}@example.com>;tag=l{number}", self.name),
            remote: format!("<{to}>"),
            target: uri.to_owned(),
            cseq: 0,
        };
        self.request(method, more, body)
    }

    /// A request of the dialog, which is not sent yet.
    pub fn request(&mut self, method: &str, more: &str, body: &str) -> String {
        if !matches!(method, "ACK" | "CANCEL") {
            self.dialog.cseq += 1;
        }
        self.branch = format!("z9hG4bK{}", number());
        self.write(method, &self.branch, more, body)
    }

    fn write(&self, method: &str, branch: &str, more: &str, body: &str) -> String {
        let Dialog { call_id, local, remote, target, cseq } = &self.dialog;
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        format!(
            "{method} {target} SIP/2.0\r\nVia: SIP/2.0/{} {};rport;branch={branch}\r\nMax-Forwards: 70\r\n\
             From: {local}\r\nTo: {remote}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\nContact: {}\r\n\
             {more}{kind}Content-Length: {}\r\n\r\n{body}",
            self.transport,
            self.local,
            self.contact(),
            body.len(),
        )
    }

    /// Sends a request of the dialog; its final answer.
    pub fn ask(&mut self, method: &str, more: &str, body: &str) -> Heard {
        let text = self.request(method, more, body);
        self.send(&text);
        self.hear()
    }

    /// Answers a request.
    pub fn answer(&mut self, asked: &Heard, status: &str, body: &str) {
        let to = asked.header("To");
        let tag = if to.contains(";tag=") { String::new() } else { format!(";tag=r{}", self.name) };
        let copied: String =
            ["From", "Call-ID", "CSeq"].map(|name| format!("{name}: {}\r\n", asked.header(name))).concat();
        let via: String = asked.all("Via").map(|value| format!("Via: {value}\r\n")).collect();
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let text = format!(
            "SIP/2.0 {status}\r\n{via}{copied}To: {to}{tag}\r\nContact: {}\r\n{kind}Content-Length: {}\r\n\r\n{body}",
            self.contact(),
            body.len(),
        );
        self.send(&text);
    }

    /// Registers, proving who it is where that is asked for.
    pub fn register(&mut self) -> Heard {
        let to = format!("sip:{}@example.com", self.name);
        let text = self.begin("REGISTER", "sip:example.com", &to, "Expires: 600\r\n", "");
        self.send(&text);
        let mut heard = self.hear();
        if heard.status() == Some(401) {
            let proof = self.proof(&heard, "REGISTER", "WWW-Authenticate");
            heard = self.ask("REGISTER", &format!("Expires: 600\r\nAuthorization: {proof}\r\n"), "");
        }
        assert_eq!(heard.status(), Some(200), "{}", heard.0);
        heard
    }

    /// Is not there any more.
    pub fn unregister(&mut self) {
        let to = format!("sip:{}@example.com", self.name);
        let text = self.begin("REGISTER", "sip:example.com", &to, "Expires: 0\r\n", "");
        self.send(&text);
        self.expect("SIP/2.0 200");
    }

    /// Registers another place than its own.
    pub fn register_at(&mut self, contact: &str) {
        let to = format!("sip:{}@example.com", self.name);
        let text = self.begin("REGISTER", "sip:example.com", &to, "Expires: 600\r\n", "");
        self.send(&text.replace(&self.contact(), contact));
        self.expect("SIP/2.0 200");
    }

    /// Gives up the call that it has begun.
    pub fn cancel(&self) -> String {
        self.write("CANCEL", &self.branch, "", "")
    }

    pub fn port(&self) -> u16 {
        self.local.port()
    }

    /// Calls somebody, proving who it is where that is asked for. What it hears is for the caller to wait for.
    pub fn call(&mut self, user: &str) {
        let to = format!("sip:{user}@example.com");
        let text = self.begin("INVITE", &to, &to, "", SDP);
        self.send(&text);
    }

    /// Answers the challenge to its INVITE.
    pub fn call_with_proof(&mut self) {
        let heard = self.expect("SIP/2.0 407");
        // The ACK of what is no 2xx is of the INVITE's transaction (RFC 3261, section 17.1.1.3).
        let via = heard.header("Via").to_owned();
        let branch = via.split("branch=").nth(1).unwrap().split(';').next().unwrap();
        let remote = std::mem::replace(&mut self.dialog.remote, heard.header("To").to_owned());
        let ack = self.write("ACK", branch, "", "");
        self.send(&ack);
        self.dialog.remote = remote;
        let proof = self.proof(&heard, "INVITE", "Proxy-Authenticate");
        let invite = self.request("INVITE", &format!("Proxy-Authorization: {proof}\r\n"), SDP);
        self.send(&invite);
    }

    fn proof(&self, heard: &Heard, method: &str, field: &str) -> String {
        let user = User { username: self.name.to_owned(), password: PASSWORD.to_owned() };
        let challenges: Vec<&str> = heard.all(field).collect();
        let challenges = challenges.iter().map(|challenge| challenge.as_bytes());
        user.answer(challenges, method, &self.dialog.target, number().into()).expect("a challenge")
    }

    /// The call was answered: where it goes on, and that we know.
    pub fn acknowledge(&mut self, ok: &Heard) {
        self.dialog.remote = ok.header("To").to_owned();
        self.dialog.target = uri_of(ok.header("Contact"));
        let ack = self.request("ACK", "", "");
        self.send(&ack);
    }

    /// We were called: what requests of ours are made of.
    pub fn adopt(&mut self, invite: &Heard) {
        self.dialog = Dialog {
            call_id: invite.header("Call-ID").to_owned(),
            local: format!("{};tag=r{}", invite.header("To"), self.name),
            remote: invite.header("From").to_owned(),
            target: uri_of(invite.header("Contact")),
            cseq: 100,
        };
    }
}

impl Heard {
    pub fn line(&self) -> &str {
        self.0.lines().next().unwrap_or_default()
    }

    pub fn status(&self) -> Option<u16> {
        self.0.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let head = self.0.split("\r\n\r\n").next().unwrap_or_default();
        head.lines().filter_map(move |line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub fn header(&self, name: &str) -> &str {
        self.all(name).next().unwrap_or_else(|| panic!("no {name} in\n{}", self.0))
    }

    pub fn body(&self) -> &str {
        self.0.split_once("\r\n\r\n").map_or("", |(_, body)| body)
    }
}

fn uri_of(contact: &str) -> String {
    contact.split(['<', '>']).nth(1).unwrap_or(contact).to_owned()
}

fn stream(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

fn number() -> u32 {
    static NUMBER: AtomicU32 = AtomicU32::new(1);
    NUMBER.fetch_add(1, Ordering::Relaxed)
}
