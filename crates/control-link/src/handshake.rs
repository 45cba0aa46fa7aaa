//! A connection on its way to become a [`Link`]: TLS handshake, then one frame in which the accepting end says whether it
//! takes the dialing one. In TLS 1.3 the dialer is done before its certificate was looked at; without that frame it
//! would learn of a refusal, with luck, at its first message.

use crate::identity::Identity;
use crate::link::{Link, LinkError};
use crate::peer::PeerName;
use crate::reason;
use mio::net::TcpStream;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Connection, ServerConnection};
use serde::{Deserialize, Serialize};
use std::io;
use std::net::SocketAddr;

/// First frame on a connection, from the accepting end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub(crate) enum Greeting {
    /// Go on.
    Ready,
    /// The certificate is good, its holder is not wanted; the connection closes.
    Refused {
        /// Why.
        why: String,
    },
}

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("the peer closed the connection during the handshake")]
    Closed,
    #[error("{}", reason::sentence(.0))]
    Tls(rustls::Error),
    #[error("the peer's certificate cannot be used: {0}")]
    Name(String),
    #[error("the connection failed during the handshake: {0}")]
    Io(io::Error),
}

/// A handshake under way, over a non-blocking socket.
#[derive(Debug)]
pub(crate) struct Handshake {
    tls: Connection,
    stream: TcpStream,
    peer_address: SocketAddr,
    alpn: &'static [u8],
    named_by: usize,
}

/// How far a handshake is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Waits for the socket.
    Waiting,
    /// Done: [`Handshake::into_link`].
    Done,
}

impl Handshake {
    pub(crate) fn dialing(
        identity: &Identity,
        stream: TcpStream,
        to: SocketAddr,
    ) -> Result<Self, rustls::Error> {
        let name = ServerName::IpAddress(to.ip().into());
        let tls = ClientConnection::new(identity.client.clone(), name)?;
        Ok(Self::over(identity, tls.into(), stream, to))
    }

    pub(crate) fn accepting(
        identity: &Identity,
        stream: TcpStream,
        from: SocketAddr,
    ) -> Result<Self, rustls::Error> {
        let tls = ServerConnection::new(identity.server.clone())?;
        Ok(Self::over(identity, tls.into(), stream, from))
    }

    fn over(identity: &Identity, tls: Connection, stream: TcpStream, peer_address: SocketAddr) -> Self {
        Self { tls, stream, peer_address, alpn: identity.alpn, named_by: identity.named_by }
    }

    pub(crate) fn source(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    pub(crate) fn peer_address(&self) -> SocketAddr {
        self.peer_address
    }

    /// Goes as far as it goes without waiting. Bounded: rustls ends a handshake of more than 64 KiB.
    pub(crate) fn advance(&mut self) -> Result<Progress, HandshakeError> {
        loop {
            if !self.write()? {
                return Ok(Progress::Waiting);
            }
            if !self.tls.is_handshaking() {
                return Ok(Progress::Done);
            }
            match self.tls.read_tls(&mut self.stream) {
                Ok(0) => return Err(HandshakeError::Closed),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Progress::Waiting),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(io_error(e)),
            }
            if let Err(e) = self.tls.process_new_packets() {
                // The alert that tells the peer what is wrong; if it cannot be sent, the error says enough.
                let _ = self.write();
                return Err(HandshakeError::Tls(e));
            }
        }
    }

    /// Whether everything could be written.
    fn write(&mut self) -> Result<bool, HandshakeError> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.stream) {
                Ok(0) => return Err(HandshakeError::Closed),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(io_error(e)),
            }
        }
        Ok(true)
    }

    /// The link, once [`Progress::Done`]. Its peer has a certificate of the cluster's CA; whether it is the right peer
    /// is for the caller to say.
    pub(crate) fn into_link(self) -> Result<Link, HandshakeError> {
        if self.tls.alpn_protocol() != Some(self.alpn) {
            return Err(HandshakeError::Tls(rustls::Error::NoApplicationProtocol));
        }
        let certificate = self.tls.peer_certificates().and_then(|chain| chain.get(self.named_by));
        let certificate = certificate.ok_or(HandshakeError::Tls(rustls::Error::NoCertificatesPresented))?;
        let peer = PeerName::of_certificate(certificate).map_err(HandshakeError::Name)?;
        let mut link = Link::new(self.tls, self.stream, peer, self.peer_address);
        // What came with the end of the handshake was read with it; the socket will not announce it again.
        link.take_plaintext()?;
        Ok(link)
    }
}

fn io_error(error: io::Error) -> HandshakeError {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => HandshakeError::Closed,
        _ => HandshakeError::Io(error),
    }
}

impl From<LinkError> for HandshakeError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Closed => HandshakeError::Closed,
            LinkError::Tls(e) => HandshakeError::Tls(e),
            LinkError::Io(e) => HandshakeError::Io(e),
            other @ (LinkError::Overflow { .. }
            | LinkError::TooLarge { .. }
            | LinkError::Malformed { .. }
            | LinkError::Unencodable(_)
            | LinkError::SealedBefore) => HandshakeError::Io(io::Error::other(other)),
        }
    }
}
