//! What a telephone is connected by: a datagram socket or a connection on the clients' host, with or without TLS.

use crate::telephones::server;
use anyhow::{Context, bail};
use e2e::LIMIT;
use rehearsal::{CLIENT, Site};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use sip_proto::{Frame, Framer};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;

/// How a telephone talks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
    Tls,
}

/// An open socket, which never blocks.
pub struct Wire {
    kind: Kind,
    local: SocketAddr,
    framer: Framer,
    input: Vec<u8>,
    dead: bool,
}

enum Kind {
    Udp(UdpSocket),
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Transport {
    /// As Via has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
        }
    }
}

impl Wire {
    /// To the server, whoever that is; over TLS it has to show this certificate.
    ///
    /// # Errors
    /// It does not answer.
    pub fn open(site: &Site, transport: Transport, certificate: Option<&Path>) -> anyhow::Result<Self> {
        let address = server(transport)?;
        let stream = || site.lab.in_host(CLIENT, || TcpStream::connect_timeout(&address, LIMIT));
        let kind = match transport {
            Transport::Udp => {
                let own = SocketAddr::new(crate::phones::CLIENT_ADDRESS.parse::<IpAddr>()?, 0);
                let socket = site.lab.in_host(CLIENT, || UdpSocket::bind(own))??;
                socket.connect(address)?;
                socket.set_nonblocking(true)?;
                Kind::Udp(socket)
            }
            Transport::Tcp => {
                let stream = stream()??;
                stream.set_nonblocking(true)?;
                Kind::Tcp(stream)
            }
            Transport::Tls => {
                let certificate = certificate.context("the server has no certificate")?;
                Kind::Tls(Box::new(encrypted(stream()??, address.ip(), certificate)?))
            }
        };
        let local = match &kind {
            Kind::Udp(socket) => socket.local_addr()?,
            Kind::Tcp(stream) => stream.local_addr()?,
            Kind::Tls(stream) => stream.sock.local_addr()?,
        };
        Ok(Self { kind, local, framer: Framer::default(), input: Vec::new(), dead: false })
    }

    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Sends a message. A datagram may be lost, as when nobody has the VIP; a dead connection is the telephone's affair.
    ///
    /// # Errors
    /// The connection is dead.
    pub fn send(&mut self, text: &str) -> anyhow::Result<()> {
        let sent = match &mut self.kind {
            Kind::Udp(socket) => {
                let _ = socket.send(text.as_bytes());
                return Ok(());
            }
            Kind::Tcp(stream) => stream.write_all(text.as_bytes()),
            Kind::Tls(stream) => stream.write_all(text.as_bytes()),
        };
        self.dead |= sent.is_err();
        sent.context("the connection is dead")
    }

    /// Whether the connection is known to have ended.
    pub fn has_ended(&self) -> bool {
        self.dead
    }

    /// Whether the connection has ended, asked by a keep-alive (RFC 5626, section 4.4.1): of a connection to a host that does
    /// not have the VIP any more, the one that has it knows nothing, and says so.
    pub fn is_dead(&mut self) -> bool {
        self.dead || self.send("\r\n\r\n").is_err()
    }

    /// What has come, if it is a whole message.
    ///
    /// # Errors
    /// It is no SIP.
    pub fn receive(&mut self) -> anyhow::Result<Option<String>> {
        let mut buffer = [0; 65_536];
        loop {
            let read = match &mut self.kind {
                Kind::Udp(socket) => {
                    // Refused datagrams are told as errors; the next round sees to it.
                    let Ok(length) = socket.recv(&mut buffer) else { return Ok(None) };
                    return Ok(Some(String::from_utf8(buffer[..length].to_vec())?));
                }
                Kind::Tcp(stream) => stream.read(&mut buffer),
                Kind::Tls(stream) => stream.read(&mut buffer),
            };
            match read {
                Ok(0) => self.dead = true,
                Ok(length) => self.input.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => self.dead = true,
            }
            match self.framer.next(&self.input) {
                Frame::Message(length) => {
                    let message = self.input.drain(..length).collect();
                    return Ok(Some(String::from_utf8(message)?));
                }
                Frame::Skip(length) | Frame::KeepAlive(length) => drop(self.input.drain(..length)),
                Frame::Broken(_) => {
                    bail!("what comes is no message: {}", String::from_utf8_lossy(&self.input))
                }
                Frame::Incomplete => return Ok(None),
            }
        }
    }
}

fn encrypted(
    mut stream: TcpStream,
    server: IpAddr,
    certificate: &Path,
) -> anyhow::Result<StreamOwned<ClientConnection, TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut connection = ClientConnection::new(Arc::new(config), ServerName::IpAddress(server.into()))?;
    stream.set_read_timeout(Some(LIMIT))?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    stream.set_nonblocking(true)?;
    Ok(StreamOwned::new(connection, stream))
}
