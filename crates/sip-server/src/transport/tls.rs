//! Certificates for SIP over TLS (RFC 3261, section 26; RFC 5922): loaded from files at the start and when told to, so that
//! they can be renewed without dropping anybody.

use anyhow::{Context, ensure};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where systems keep the certificates of the public authorities: Debian and its kin, then Red Hat's.
const SYSTEM_ROOTS: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// Which files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// Our certificate, further ones of its chain behind it, PEM.
    pub(crate) certificate: PathBuf,
    /// Its private key, PEM.
    pub(crate) key: PathBuf,
    /// Authorities whose certificates we accept, PEM; none: those of the system, for those whom we connect to.
    pub(crate) ca: Option<PathBuf>,
    /// Whether those who connect to us have to show a certificate of these authorities.
    pub(crate) verify_clients: bool,
}

/// TLS in both directions. Cheap to clone.
#[derive(Clone)]
pub(crate) struct TlsConfigs {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl TlsConfigs {
    /// Loads the files.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub(crate) fn load(files: &TlsFiles) -> anyhow::Result<Self> {
        let chain = certificates(&files.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&files.key)
            .with_context(|| format!("{} holds no private key", files.key.display()))?;
        let roots = Arc::new(roots(files.ca.as_deref())?);
        let provider = Arc::new(ring::default_provider());
        let unusable = || format!("{} cannot be used", files.certificate.display());

        let server =
            ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let server = if files.verify_clients {
            ensure!(!roots.is_empty(), "no authority is named whose certificates clients could show");
            let verifier =
                WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build()?;
            server.with_client_cert_verifier(verifier)
        } else {
            server.with_no_client_auth()
        };
        let server = server.with_single_cert(chain.clone(), key.clone_key()).with_context(unusable)?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .with_context(unusable)?;
        Ok(Self { server: Arc::new(server), client: Arc::new(client) })
    }

    /// Our end of a connection that was made to us.
    pub(super) fn accept(&self) -> Option<Box<rustls::Connection>> {
        ServerConnection::new(self.server.clone()).ok().map(|tls| Box::new(tls.into()))
    }

    /// Our end of a connection to `name`.
    pub(super) fn begin(&self, name: ServerName<'static>) -> Option<Box<rustls::Connection>> {
        ClientConnection::new(self.client.clone(), name).ok().map(|tls| Box::new(tls.into()))
    }
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    let certificates = read().with_context(|| format!("cannot read certificates from {}", path.display()))?;
    ensure!(!certificates.is_empty(), "{} holds no certificate", path.display());
    Ok(certificates)
}

/// The authorities. None of the system's is no mistake: then nobody whom we connect to is trusted.
fn roots(ca: Option<&Path>) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate).with_context(|| format!("{} holds no authority", path.display()))?;
            }
        }
        None => {
            if let Some(found) = SYSTEM_ROOTS.iter().find_map(|path| certificates(Path::new(path)).ok()) {
                roots.add_parsable_certificates(found);
            }
        }
    }
    Ok(roots)
}
