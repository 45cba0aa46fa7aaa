//! TLS where the client shows no certificate: browsers and programs with a token at the SCS's web port.

use crate::identity::{
    Identity, IdentityError, IssuedByCluster, read_certificates, read_key, read_roots, unusable_key,
};
use crate::{PeerName, Role};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme, version};
use std::path::Path;
use std::sync::Arc;

/// HTTP/1.1 as registered with IANA.
const ALPN: &[u8] = b"http/1.1";

/// TLS at the server's end.
pub type Tls = Arc<ServerConfig>;

/// TLS of the web port with a certificate (PEM, its chain behind it) and a key of the user's own, of a public authority for
/// example.
///
/// # Errors
/// [`IdentityError`].
pub fn server(certificate: &Path, key: &Path) -> Result<Tls, IdentityError> {
    let chain = read_certificates(certificate, "a certificate in PEM form")?;
    let private_key = read_key(key)?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&version::TLS13])
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private_key))
        .map_err(|error| unusable_key(certificate, key, error))?;
    Ok(of_the_web(config))
}

/// TLS of the web port with the SCS's own certificate. Browsers take it where `takeover ca issue --address` put the name into it
/// that they dial, and where they trust the installation's authority.
///
/// # Panics
/// Never: the provider knows TLS 1.3.
#[must_use]
pub fn server_of(identity: &Identity) -> Tls {
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&version::TLS13])
        .expect("the provider knows TLS 1.3")
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(&identity.server.cert_resolver));
    of_the_web(config)
}

fn of_the_web(mut config: ServerConfig) -> Tls {
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Arc::new(config)
}

/// TLS of a client that trusts the authorities in `ca`: the server is an SCS of theirs, or has a certificate of theirs for the
/// name that was dialed, as browsers want it.
///
/// # Errors
/// [`IdentityError`].
pub fn client(ca: &Path) -> Result<Arc<ClientConfig>, IdentityError> {
    let roots = read_roots(ca)?;
    let provider = Arc::new(ring::default_provider());
    let unusable = |why: String| crate::identity::content(ca, "the certificate of a CA in PEM form", why);
    let by_name = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone())
        .build()
        .map_err(|error| unusable(error.to_string()))?;
    let verifier = AnScsOrByName { scs: IssuedByCluster { roots, provider: provider.clone() }, by_name };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])
        .map_err(|error| unusable(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct AnScsOrByName {
    scs: IssuedByCluster,
    by_name: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for AnScsOrByName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match PeerName::of_certificate(end_entity) {
            Ok(PeerName { role: Role::Scs, .. }) => {
                self.scs.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
            // An agent in the SCS's place has a certificate of the same authority: the role is what it lacks.
            Ok(peer) => Err(rustls::Error::General(format!("there is {peer}, not an SCS"))),
            Err(_) => {
                self.by_name.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.scs.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.scs.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.scs.supported_verify_schemes()
    }
}
