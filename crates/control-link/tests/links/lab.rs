//! What the tests need: a CA with identities in a directory, an acceptor that tells what it did, links that are waited
//! for with a bound.

use control_link::messages::FromAgent;
use control_link::{
    Acceptor, Expected, Identity, Limits, Link, LinkError, PeerName, Received, Role, ca, dial,
};
use domain::{HostFigures, Micros};
use mio::{Events, Interest, Poll, Token};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant, SystemTime};

/// The link's application protocol.
pub const CONTROL: &[&[u8]] = &[b"takeover-control"];
/// No wait in these tests is longer; only a failing test waits that long.
pub const BOUND: Duration = Duration::from_secs(20);

/// A cluster's CA and what it issued, in a directory of its own.
pub struct Lab {
    pub dir: tempfile::TempDir,
}

impl Lab {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        ca::init(&dir.path().join("ca"), "test").unwrap();
        Self { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn issue(&self, role: Role, name: &str) -> ca::Issued {
        ca::issue(&self.path("ca"), role, name, &self.path(name)).unwrap()
    }

    pub fn identity(&self, role: Role, name: &str) -> Identity {
        load(&self.issue(role, name))
    }

    /// A certificate of an agent that is valid in the given time only, made beside `ca::issue`.
    pub fn agent_valid(&self, name: &str, from: SystemTime, to: SystemTime) -> Identity {
        let issued = self.issue(Role::Agent, name);
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        let ca_key = rcgen::KeyPair::from_pem(&read(&self.path("ca/ca.key"))).unwrap();
        let issuer = rcgen::Issuer::from_ca_cert_pem(&read(&self.path("ca/ca.pem")), ca_key).unwrap();
        let mut params = rcgen::CertificateParams::default();
        (params.not_before, params.not_after) = (from.into(), to.into());
        let uri = format!("takeover://agent/{name}");
        params.subject_alt_names = vec![rcgen::SanType::URI(uri.try_into().unwrap())];
        let key = rcgen::KeyPair::from_pem(&read(&issued.key)).unwrap();
        std::fs::write(&issued.certificate, params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
        load(&issued)
    }

    /// A TLS client that sends what the test likes, with the certificate of `who` or none, for the application
    /// protocols `alpn`.
    pub fn raw_client(
        &self,
        to: SocketAddr,
        who: Option<&ca::Issued>,
        alpn: &[&[u8]],
    ) -> StreamOwned<ClientConnection, TcpStream> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Arc::new(TrustsEverybody(provider.clone()));
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match who {
            None => builder.with_no_client_auth(),
            Some(issued) => {
                let chain = CertificateDer::pem_file_iter(&issued.certificate).unwrap();
                let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
                let key = PrivateKeyDer::from_pem_file(&issued.key).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let tls = ClientConnection::new(Arc::new(config), to.ip().into()).unwrap();
        let stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(BOUND)).unwrap();
        StreamOwned::new(tls, stream)
    }
}

pub fn load(issued: &ca::Issued) -> Identity {
    Identity::load(&issued.certificate, &issued.key, &issued.ca).unwrap()
}

/// An acceptor that takes agents, and what came of those who dialed it.
pub struct Server {
    pub acceptor: Acceptor,
    pub links: Receiver<Link>,
    pub refusals: Receiver<(SocketAddr, String)>,
}

impl Server {
    pub fn start(identity: &Identity) -> Self {
        Self::limited(identity, Limits::default())
    }

    pub fn limited(identity: &Identity, limits: Limits) -> Self {
        let listeners =
            vec![TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("[::1]:0").unwrap()];
        let (to_links, links) = channel();
        let (to_refusals, refusals) = channel();
        let only_agents = |peer: &PeerName| match peer.role {
            Role::Agent => Ok(()),
            Role::Scs | Role::Operator => Err("only agents may connect here".to_owned()),
        };
        let acceptor = Acceptor::start(
            listeners,
            identity,
            limits,
            only_agents,
            move |link| drop(to_links.send(link)),
            move |address, why| drop(to_refusals.send((address, why))),
        );
        Self { acceptor: acceptor.unwrap(), links, refusals }
    }

    pub fn address(&self) -> SocketAddr {
        self.acceptor.addresses()[0]
    }

    /// Both ends of a new link.
    pub fn connect(&self, agent: &Identity) -> (Peer, Peer) {
        let link = dial(self.address(), agent, &Expected::any(Role::Scs), BOUND).unwrap();
        (Peer::new(link), Peer::new(self.links.recv_timeout(BOUND).unwrap()))
    }

    pub fn refusal(&self) -> String {
        self.refusals.recv_timeout(BOUND).expect("a refusal was to be reported").1
    }
}

/// A link with a poll to wait for it.
pub struct Peer {
    pub link: Link,
    poll: Poll,
    events: Events,
}

impl Peer {
    pub fn new(mut link: Link) -> Self {
        let poll = Poll::new().unwrap();
        poll.registry().register(link.source(), Token(0), Interest::READABLE | Interest::WRITABLE).unwrap();
        Self { link, poll, events: Events::with_capacity(8) }
    }

    /// Waits until `count` messages have come or the link ended; the messages, and how it ended.
    pub fn receive(&mut self, count: usize) -> (Vec<FromAgent>, Result<(), LinkError>) {
        let deadline = Instant::now() + BOUND;
        let mut messages = Vec::new();
        loop {
            match self.link.receive(&mut messages) {
                Err(e) => return (messages, Err(e)),
                Ok(_) if messages.len() >= count => return (messages, Ok(())),
                Ok(Received::More) => {}
                Ok(Received::All) => self.wait(deadline),
            }
        }
    }

    /// Waits until everything queued was taken by the socket.
    pub fn flush(&mut self) {
        let deadline = Instant::now() + BOUND;
        self.link.flush().unwrap();
        while self.link.wants_write() {
            self.wait(deadline);
            self.link.flush().unwrap();
        }
    }

    fn wait(&mut self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "nothing happened within {BOUND:?}");
        self.poll.poll(&mut self.events, Some(left)).unwrap();
    }
}

/// A message that can be told from others by its number.
pub fn message(number: u64) -> FromAgent {
    FromAgent::Figures(HostFigures { at: Micros(number), ..HostFigures::default() })
}

/// A hostile client does not look at the server's certificate.
#[derive(Debug)]
struct TrustsEverybody(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for TrustsEverybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
