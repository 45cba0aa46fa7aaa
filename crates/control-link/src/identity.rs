//! Who we are: certificate, private key and the CA that we trust, checked when they are loaded so that a mistake shows
//! at the start with its file and remedy, not later as a handshake that fails.

use crate::ca;
use crate::peer::PeerName;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, InconsistentKeys, RootCertStore, ServerConfig,
    SignatureScheme, version,
};
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Application protocol of the control link (RFC 7301): a certificate of the cluster shown at another of its TLS ports,
/// such as the API's, is a clear error and not a connection that stays silent.
pub(crate) const ALPN: &[u8] = b"takeover-control";
/// Application protocol of the API, HTTP/1.1 as registered with IANA.
const API_ALPN: &[u8] = b"http/1.1";
/// Largest certificate or key file, bytes.
const MAX_FILE: u64 = 1 << 20;
/// Permission bits that a private key must not have: written or executed by the group, anything for others. Readable
/// by a group is common practice (Debian's `ssl-cert`).
const KEY_FORBIDDEN: u32 = 0o037;

/// Why an identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The private key can be read by everybody or changed by others.
    #[error(
        "the private key {path} has mode {mode:04o}, others could read or change it; run: chmod 600 {path}"
    )]
    KeyPermissions {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file does not hold what it should.
    #[error("{path} does not hold {expected}: {why}")]
    Content {
        /// Which.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The key is not the certificate's.
    #[error("{key} is not the private key of {certificate}; issue both anew or name the right file")]
    KeyMismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The certificate is not one of this CA, or not usable with it.
    #[error("{certificate} cannot be used with the CA {ca}: {why}")]
    NotIssued {
        /// The certificate's file.
        certificate: PathBuf,
        /// The CA's file.
        ca: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// Certificate, key and trusted CA of one part of the cluster. Cheap to clone.
#[derive(Clone)]
pub struct Identity {
    pub(crate) name: PeerName,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    /// The application protocol that connections must have agreed upon.
    pub(crate) alpn: &'static [u8],
    /// Which certificate of the peer's chain names it.
    pub(crate) named_by: usize,
    pub(crate) client: Arc<ClientConfig>,
    pub(crate) server: Arc<ServerConfig>,
}

impl Identity {
    /// Loads a certificate (PEM, further certificates of its chain behind it), its private key (PEM) and the CA's
    /// certificate (PEM; more than one while a CA is replaced).
    ///
    /// A certificate that has expired or is not valid yet is loaded nevertheless: a wrong clock at boot must not keep
    /// an agent from watching its applications. See [`Identity::not_after`]; peers refuse it with a clear reason.
    ///
    /// # Errors
    /// [`IdentityError`] names the file, what is wrong with it and what to do.
    pub fn load(certificate: &Path, key: &Path, ca: &Path) -> Result<Self, IdentityError> {
        let chain = read_certificates(certificate, "a certificate in PEM form")?;
        let private_key = read_key(key)?;
        let roots = read_roots(ca)?;
        let [leaf, intermediates @ ..] = chain.as_slice() else {
            return Err(content(certificate, "a certificate in PEM form", "it is empty".to_owned()));
        };
        let not_issued = |why: String| IdentityError::NotIssued {
            certificate: certificate.to_owned(),
            ca: ca.to_owned(),
            why,
        };

        let provider = Arc::new(ring::default_provider());
        let client_verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|e| content(ca, "the certificate of a CA in PEM form", e.to_string()))?;
        let name = PeerName::of_certificate(leaf).map_err(not_issued)?;
        let (not_before, not_after) = ca::validity(leaf).map_err(not_issued)?;
        let checked_at = SystemTime::now().clamp(not_before, not_after);
        client_verifier
            .verify_client_cert(leaf, intermediates, unix_time(checked_at))
            .map_err(|e| not_issued(own_certificate(&e)))?;

        let unusable = |e| unusable_key(certificate, key, e);
        let client =
            client_config(&provider, roots, chain.clone(), private_key.clone_key()).map_err(unusable)?;
        let server = server_config(&provider, client_verifier, chain, private_key).map_err(unusable)?;
        Ok(Self {
            name,
            not_before,
            not_after,
            alpn: ALPN,
            named_by: 0,
            client: Arc::new(client),
            server: Arc::new(server),
        })
    }

    /// Role and name in the certificate.
    #[must_use]
    pub fn name(&self) -> &PeerName {
        &self.name
    }

    /// From when the certificate is valid.
    #[must_use]
    pub fn not_before(&self) -> SystemTime {
        self.not_before
    }

    /// Until when the certificate is valid.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// TLS of the HTTP API at the SCS's end: the same certificates as on the control link under another application
    /// protocol (RFC 7301), so that neither can be taken for the other. Who the client is, is for the caller to look
    /// at: [`PeerName::of_certificate`].
    #[must_use]
    pub fn api_server(&self) -> Arc<ServerConfig> {
        let mut config = ServerConfig::clone(&self.server);
        config.alpn_protocols = vec![API_ALPN.to_vec()];
        Arc::new(config)
    }

    /// TLS of the HTTP API at the client's end; see [`Identity::api_server`].
    #[must_use]
    pub fn api_client(&self) -> Arc<ClientConfig> {
        let mut config = ClientConfig::clone(&self.client);
        config.alpn_protocols = vec![API_ALPN.to_vec()];
        Arc::new(config)
    }
}

impl fmt::Debug for Identity {
    /// Without the configurations, which know the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("name", &self.name)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

fn client_config(
    provider: &Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ClientConfig, rustls::Error> {
    let verifier = Arc::new(IssuedByCluster { roots, provider: provider.clone() });
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.enable_sni = false;
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    verifier: Arc<dyn ClientCertVerifier>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Checks that the server's certificate was issued by the cluster's CA for servers. Its name is not compared with the
/// dialed address, as a browser would: the name is `takeover://ROLE/NAME`, and `dial` compares it with what the caller
/// expects before anything but the handshake was sent.
#[derive(Debug)]
pub(crate) struct IssuedByCluster {
    pub(crate) roots: Arc<RootCertStore>,
    pub(crate) provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for IssuedByCluster {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        // Never reached, TLS 1.2 is not configured; refused all the same.
        Err(rustls::Error::PeerIncompatible(rustls::PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Why rustls does not take our own certificate and key.
pub(crate) fn unusable_key(certificate: &Path, key: &Path, error: rustls::Error) -> IdentityError {
    match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            IdentityError::KeyMismatch { certificate: certificate.to_owned(), key: key.to_owned() }
        }
        other => content(key, "a usable private key", other.to_string()),
    }
}

/// The CAs that are trusted.
pub(crate) fn read_roots(ca: &Path) -> Result<Arc<RootCertStore>, IdentityError> {
    let expected = "the certificate of a CA in PEM form";
    let mut roots = RootCertStore::empty();
    for root in read_certificates(ca, expected)? {
        roots.add(root).map_err(|e| content(ca, expected, e.to_string()))?;
    }
    Ok(Arc::new(roots))
}

pub(crate) fn read_certificates(
    path: &Path,
    expected: &'static str,
) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let pem = read(path)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|e| content(path, expected, e.to_string()))?;
    if certificates.is_empty() {
        return Err(content(path, expected, "there is no BEGIN CERTIFICATE in it".to_owned()));
    }
    Ok(certificates)
}

pub(crate) fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, IdentityError> {
    let metadata =
        fs::metadata(path).map_err(|source| IdentityError::Read { path: path.to_owned(), source })?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & KEY_FORBIDDEN != 0 {
        return Err(IdentityError::KeyPermissions { path: path.to_owned(), mode });
    }
    PrivateKeyDer::from_pem_slice(&read(path)?)
        .map_err(|e| content(path, "a private key in PEM form", e.to_string()))
}

fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    let failed = |source| IdentityError::Read { path: path.to_owned(), source };
    let length = fs::metadata(path).map_err(failed)?.len();
    if length > MAX_FILE {
        return Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 1 MiB")));
    }
    fs::read(path).map_err(failed)
}

pub(crate) fn content(path: &Path, expected: &'static str, why: String) -> IdentityError {
    IdentityError::Content { path: path.to_owned(), expected, why }
}

/// A sentence about our own certificate, where `reason::sentence` speaks of the peer's.
fn own_certificate(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => "this CA did not issue it".to_owned(),
        rustls::Error::InvalidCertificate(CertificateError::InvalidPurposeContext { .. }) => {
            "its extended key usage lacks clientAuth, which every part needs".to_owned()
        }
        other => other.to_string(),
    }
}

fn unix_time(at: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO))
}
