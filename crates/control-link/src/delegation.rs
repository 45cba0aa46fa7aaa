//! What an application shows to the other member's application: a certificate that its own host's agent has signed with
//! its own key.
//!
//! An agent's certificate is none of a CA, so what it signs is worth nothing on the control link, where chains must end at
//! the cluster's CA. Applications of one pair accept it from each other, and only so:
//!
//! ```text
//!   cluster's CA ──signed──> takeover://agent/HOST ──signed──> takeover://application/NAME
//!                                  the host that it must run on          the member that it must be
//! ```
//!
//! So an application never sees its agent's key, a stolen application's key opens nothing but the replication of its own
//! pair, and nobody has to issue further certificates by hand.

use crate::ca::{self, CaError, Issued};
use crate::identity::{self, Identity, IdentityError};
use crate::peer::{self, PeerName, Role};
use domain::{AppName, HostName};
use rcgen::{DnType, ExtendedKeyUsagePurpose, KeyUsagePurpose, SanType};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, OtherError, PeerIncompatible,
    RootCertStore, ServerConfig, SignatureScheme, version,
};
use std::path::Path;
use std::sync::Arc;

/// Application protocol of the replication (RFC 7301).
const ALPN: &[u8] = b"takeover-replication";
/// How the name of an application's certificate begins, behind the scheme.
const APPLICATION: &str = "application/";
/// The certificate of the agent in what an application shows.
pub(crate) const AGENT_IN_CHAIN: usize = 1;

/// An application on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegate {
    /// The host, whose agent vouches for it.
    pub host: HostName,
    /// Its name.
    pub application: AppName,
}

/// Makes a key and has the agent sign its certificate: `NAME.pem` (with the agent's own certificate behind it),
/// `NAME.key` (mode 0600) and `ca.pem` in `dir`, which is made with mode 0700 where it is not there. Files of before are
/// replaced. The certificate is valid for as long as the agent's; an agent does this whenever it starts the application,
/// and when its own certificate has changed.
///
/// # Errors
/// What is wrong with the agent's files, or could not be written.
pub fn delegate(
    agent_certificate: &Path,
    agent_key: &Path,
    cluster_ca: &Path,
    application: &AppName,
    dir: &Path,
) -> Result<Issued, CaError> {
    let agent_pem = ca::read_text(agent_certificate)?;
    let agent = ca::load_issuer(agent_certificate, &agent_pem, agent_key)?;
    let mut params = ca::params(ca::LEAF_VALIDITY)?;
    params.not_after = ca::not_after(agent_certificate)?.into();
    params.distinguished_name.push(DnType::CommonName, format!("application {application}"));
    let uri = peer::uri(&format!("{APPLICATION}{application}"));
    params.subject_alt_names = vec![SanType::URI(uri.try_into().map_err(ca::crypto)?)];
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = ca::new_key()?;
    let certificate = params.signed_by(&key, &agent).map_err(ca::crypto)?;

    let issued = Issued {
        certificate: dir.join(format!("{application}.pem")),
        key: dir.join(format!("{application}.key")),
        ca: dir.join("ca.pem"),
    };
    ca::make_private_dir(dir)?;
    ca::replace(&issued.ca, 0o644, ca::read_text(cluster_ca)?.as_bytes())?;
    // Key before certificate: whoever reads in between finds two that do not fit, and reads again.
    ca::replace(&issued.key, 0o600, key.serialize_pem().as_bytes())?;
    let chain = format!("{}{agent_pem}", certificate.pem());
    ca::replace(&issued.certificate, 0o644, chain.as_bytes())?;
    Ok(issued)
}

/// Loads what [`delegate`] wrote, for connections with `peer` and nobody else. [`Identity::name`] is the name of the agent
/// that vouches for us, as [`Link::peer`](crate::Link::peer) is of the one that vouches for the peer.
///
/// # Errors
/// [`IdentityError`] names the file and what is wrong with it.
pub fn load(files: &Issued, peer: &Delegate) -> Result<Identity, IdentityError> {
    let Issued { certificate, key, ca } = files;
    let expected = "an application's certificate and behind it its agent's, in PEM form";
    let chain = identity::read_certificates(certificate, expected)?;
    let private_key = identity::read_key(key)?;
    let wrong = |why: String| identity::content(certificate, expected, why);
    let [application, agent, ..] = chain.as_slice() else {
        return Err(wrong("there is only one certificate in it".to_owned()));
    };
    let name = PeerName::of_certificate(agent).map_err(wrong)?;
    let (not_before, not_after) = ca::validity(application).map_err(wrong)?;
    let provider = Arc::new(ring::default_provider());
    let vouched =
        Vouched { roots: identity::read_roots(ca)?, provider: provider.clone(), peer: peer.clone() };
    let vouched = Arc::new(vouched);

    let unusable = |e| identity::unusable_key(certificate, key, e);
    let versions = &[&version::TLS13];
    let mut client = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(vouched.clone())
        .with_client_auth_cert(chain.clone(), private_key.clone_key())
        .map_err(unusable)?;
    client.alpn_protocols = vec![ALPN.to_vec()];
    client.enable_sni = false;
    client.resumption = Resumption::disabled();
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(unusable)?
        .with_client_cert_verifier(vouched)
        .with_single_cert(chain, private_key)
        .map_err(unusable)?;
    server.alpn_protocols = vec![ALPN.to_vec()];
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    Ok(Identity {
        name,
        not_before,
        not_after,
        alpn: ALPN,
        named_by: AGENT_IN_CHAIN,
        client: Arc::new(client),
        server: Arc::new(server),
    })
}

/// Accepts one application, vouched for by the agent of one host.
#[derive(Debug)]
struct Vouched {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    peer: Delegate,
}

impl Vouched {
    /// The same at both ends: an agent's certificate is good for both.
    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        behind: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let Some((agent, intermediates)) = behind.split_first() else {
            return Err(refused("it shows no certificate of an agent".to_owned()));
        };
        let algorithms = self.provider.signature_verification_algorithms.all;
        let parsed = ParsedCertificate::try_from(agent)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)?;
        let voucher = PeerName::of_certificate(agent).map_err(refused)?;
        if voucher.role != Role::Agent || voucher.name != self.peer.host.as_str() {
            return Err(refused(format!("{voucher} vouches for it, not the agent of {}", self.peer.host)));
        }

        // From here on the agent is the authority, for its own applications.
        let mut agents = RootCertStore::empty();
        agents.add(agent.clone())?;
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &agents, &[], now, algorithms)?;
        let name = peer::name_in(end_entity).map_err(refused)?;
        if name.strip_prefix(APPLICATION) != Some(self.peer.application.as_str()) {
            return Err(refused(format!("it is {name}, not {APPLICATION}{}", self.peer.application)));
        }
        Ok(())
    }

    fn signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, dss, &self.provider.signature_verification_algorithms)
    }
}

/// A certificate that is good and not wanted.
fn refused(why: String) -> rustls::Error {
    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Refused(String);
    rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Refused(why)))))
}

/// TLS 1.2 is not configured, so this is never reached; refused all the same.
fn only_tls13() -> rustls::Error {
    rustls::Error::PeerIncompatible(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig)
}

impl ServerCertVerifier for Vouched {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verify(end_entity, intermediates, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Vouched {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.verify(end_entity, intermediates, now).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
