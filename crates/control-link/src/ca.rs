//! The small built-in certificate authority: makes a cluster's CA and issues certificates for its parts. Files only,
//! no service; whoever has their own PKI needs none of it, as long as its certificates carry `takeover://ROLE/NAME`.

use crate::peer::{PeerName, Rights, Role};
use domain::NameError;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use x509_parser::prelude::{FromDer, X509Certificate};

const DAY: Duration = Duration::from_secs(86_400);
/// How long a CA is valid.
pub const CA_VALIDITY: Duration = DAY.saturating_mul(3_653);
/// How long an issued certificate is valid.
pub const LEAF_VALIDITY: Duration = DAY.saturating_mul(365);
/// Certificates are valid from a little before they are made, for hosts whose clocks are behind.
const BACKDATED: Duration = Duration::from_secs(3_600);

/// Why a CA or a certificate was not made.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file that is there would be overwritten.
    #[error("{0} exists and is not overwritten; move it away first")]
    Exists(PathBuf),
    /// A file or directory cannot be read or made.
    #[error("cannot access {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
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
    /// The name breaks a rule.
    #[error("{0:?} is not a name")]
    Name(String, #[source] NameError),
    /// Not something that a browser could dial.
    #[error("{0:?} is neither a DNS name nor an IP address")]
    Address(String),
    /// The system gave no random numbers, or the key could not be used.
    #[error("cannot make a key or certificate: {0}")]
    Crypto(String),
}

/// Files of an issued certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The certificate, `NAME.pem`.
    pub certificate: PathBuf,
    /// Its private key, `NAME.key`, mode 0600.
    pub key: PathBuf,
    /// Copy of the CA's certificate, `ca.pem`.
    pub ca: PathBuf,
}

/// Makes `ca.pem` and `ca.key` (mode 0600) in `dir`, which is made with mode 0700 where it is not there.
///
/// # Errors
/// [`CaError::Exists`] where either file is there; otherwise what could not be written.
pub fn init(dir: &Path, cluster_name: &str) -> Result<(), CaError> {
    make_private_dir(dir)?;
    let (cert_path, key_path) = (dir.join("ca.pem"), dir.join("ca.key"));
    refuse_existing(&[&cert_path, &key_path])?;
    let key = new_key()?;
    let mut params = params(CA_VALIDITY)?;
    params.distinguished_name.push(DnType::CommonName, format!("Takeover CA of {cluster_name}"));
    // Path length 0: this CA issues certificates for parts, never for further CAs (RFC 5280, section 4.2.1.9).
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let cert = params.self_signed(&key).map_err(crypto)?;
    write_new(&key_path, 0o600, key.serialize_pem().as_bytes())?;
    write_new(&cert_path, 0o644, cert.pem().as_bytes())
}

/// Issues a certificate of the CA in `dir` and writes it, its key and the CA's certificate into `out_dir`, which is
/// made with mode 0700 where it is not there.
///
/// # Errors
/// [`CaError::Exists`] where the certificate or key is there, or another `ca.pem`; otherwise what is wrong with the
/// CA's files or could not be written.
pub fn issue(dir: &Path, role: Role, name: &str, out_dir: &Path) -> Result<Issued, CaError> {
    issue_for(dir, role, name, &[], out_dir)
}

/// [`issue`] with addresses, DNS names or IP addresses, that browsers may dial its owner by: for the SCS's web port.
///
/// # Errors
/// As [`issue`], and [`CaError::Address`].
pub fn issue_for(
    dir: &Path,
    role: Role,
    name: &str,
    addresses: &[String],
    out_dir: &Path,
) -> Result<Issued, CaError> {
    let peer = PeerName::new(role, name).map_err(|e| CaError::Name(name.to_owned(), e))?;
    issue_to(dir, &peer, addresses, out_dir)
}

/// [`issue`] for an operator with these rights.
///
/// # Errors
/// As [`issue`].
pub fn issue_operator(dir: &Path, name: &str, rights: Rights, out_dir: &Path) -> Result<Issued, CaError> {
    let peer = PeerName::operator(name, rights).map_err(|e| CaError::Name(name.to_owned(), e))?;
    issue_to(dir, &peer, &[], out_dir)
}

fn issue_to(dir: &Path, peer: &PeerName, addresses: &[String], out_dir: &Path) -> Result<Issued, CaError> {
    let name = &peer.name;
    let ca_path = dir.join("ca.pem");
    let ca_pem = read_text(&ca_path)?;
    let issuer = load_issuer(&ca_path, &ca_pem, &dir.join("ca.key"))?;
    make_private_dir(out_dir)?;
    let issued = Issued {
        certificate: out_dir.join(format!("{name}.pem")),
        key: out_dir.join(format!("{name}.key")),
        ca: out_dir.join("ca.pem"),
    };
    refuse_existing(&[&issued.certificate, &issued.key])?;
    let ca_is_there = match fs::read_to_string(&issued.ca) {
        Ok(found) if found == ca_pem => true,
        Ok(_) => return Err(CaError::Exists(issued.ca)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => false,
        Err(source) => return Err(CaError::File { path: issued.ca, source }),
    };
    let key = new_key()?;
    let mut params = leaf(peer)?;
    for address in addresses {
        params.subject_alt_names.push(alternative(address)?);
    }
    let cert = params.signed_by(&key, &issuer).map_err(crypto)?;
    write_new(&issued.key, 0o600, key.serialize_pem().as_bytes())?;
    write_new(&issued.certificate, 0o644, cert.pem().as_bytes())?;
    if !ca_is_there {
        write_new(&issued.ca, 0o644, ca_pem.as_bytes())?;
    }
    Ok(issued)
}

/// When the first certificate in a PEM file ends to be valid.
///
/// # Errors
/// What cannot be read.
pub fn not_after(certificate: &Path) -> Result<SystemTime, CaError> {
    let content =
        |why: String| CaError::Content { path: certificate.to_owned(), expected: "a certificate", why };
    let pem =
        fs::read(certificate).map_err(|source| CaError::File { path: certificate.to_owned(), source })?;
    let der = CertificateDer::from_pem_slice(&pem).map_err(|e| content(e.to_string()))?;
    validity(&der).map(|(_, end)| end).map_err(content)
}

/// First and last moment in which a certificate is valid.
pub(crate) fn validity(der: &[u8]) -> Result<(SystemTime, SystemTime), String> {
    let (_, parsed) =
        X509Certificate::from_der(der).map_err(|_| "it is not an X.509 certificate".to_owned())?;
    let at = |time: x509_parser::time::ASN1Time| {
        u64::try_from(time.timestamp())
            .map_or(SystemTime::UNIX_EPOCH, |s| SystemTime::UNIX_EPOCH + Duration::from_secs(s))
    };
    Ok((at(parsed.validity().not_before), at(parsed.validity().not_after)))
}

fn alternative(address: &str) -> Result<SanType, CaError> {
    let bad = || CaError::Address(address.to_owned());
    if let Ok(address) = address.parse() {
        return Ok(SanType::IpAddress(address));
    }
    match ServerName::try_from(address).map_err(|_| bad())? {
        ServerName::DnsName(name) => Ok(SanType::DnsName(name.as_ref().try_into().map_err(|_| bad())?)),
        _ => Err(bad()),
    }
}

fn leaf(peer: &PeerName) -> Result<CertificateParams, CaError> {
    let mut params = params(LEAF_VALIDITY)?;
    params.distinguished_name.push(DnType::CommonName, peer.to_string());
    params.subject_alt_names = vec![SanType::URI(peer.to_uri().try_into().map_err(crypto)?)];
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // Agents and SCSs both dial and accept; an operator only ever dials.
    params.extended_key_usages = match peer.role {
        Role::Scs | Role::Agent => {
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
        }
        Role::Operator => vec![ExtendedKeyUsagePurpose::ClientAuth],
    };
    Ok(params)
}

pub(crate) fn params(validity: Duration) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let start = SystemTime::now() - BACKDATED;
    params.not_before = start.into();
    params.not_after = (start + validity).into();
    params.serial_number = Some(random_serial()?);
    Ok(params)
}

/// 127 random bits: positive and at most 20 octets long (RFC 5280, section 4.1.2.2).
fn random_serial() -> Result<SerialNumber, CaError> {
    let mut serial = [0u8; 16];
    SystemRandom::new().fill(&mut serial).map_err(|_| CaError::Crypto("no random numbers".to_owned()))?;
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&serial))
}

pub(crate) fn new_key() -> Result<KeyPair, CaError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(crypto)
}

pub(crate) fn load_issuer(
    cert_path: &Path,
    cert_pem: &str,
    key_path: &Path,
) -> Result<Issuer<'static, KeyPair>, CaError> {
    let key = KeyPair::from_pem(&read_text(key_path)?).map_err(|e| CaError::Content {
        path: key_path.to_owned(),
        expected: "a private key",
        why: e.to_string(),
    })?;
    let content = |why: String| CaError::Content {
        path: cert_path.to_owned(),
        expected: "the certificate of the CA",
        why,
    };
    let der = CertificateDer::from_pem_slice(cert_pem.as_bytes()).map_err(|e| content(e.to_string()))?;
    let (_, parsed) = X509Certificate::from_der(&der).map_err(|e| content(e.to_string()))?;
    if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
        return Err(content(format!("it does not belong to {}", key_path.display())));
    }
    Issuer::from_ca_cert_der(&der, key).map_err(|e| content(e.to_string()))
}

pub(crate) fn make_private_dir(dir: &Path) -> Result<(), CaError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| CaError::File { path: dir.to_owned(), source })
}

fn refuse_existing(paths: &[&Path]) -> Result<(), CaError> {
    match paths.iter().find(|p| p.symlink_metadata().is_ok()) {
        Some(path) => Err(CaError::Exists(path.to_path_buf())),
        None => Ok(()),
    }
}

pub(crate) fn read_text(path: &Path) -> Result<String, CaError> {
    fs::read_to_string(path).map_err(|source| CaError::File { path: path.to_owned(), source })
}

fn write_new(path: &Path, mode: u32, content: &[u8]) -> Result<(), CaError> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()
        })
        .map_err(|source| CaError::File { path: path.to_owned(), source })
}

/// Writes a file whether it is there or not; who reads it meanwhile gets the old one or the new one.
pub(crate) fn replace(path: &Path, mode: u32, content: &[u8]) -> Result<(), CaError> {
    let new = path.with_extension("new");
    let failed = |source| CaError::File { path: path.to_owned(), source };
    match fs::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
        Ok(()) | Err(_) => {}
    }
    write_new(&new, mode, content)?;
    fs::rename(&new, path).map_err(failed)
}

pub(crate) fn crypto(error: rcgen::Error) -> CaError {
    CaError::Crypto(error.to_string())
}
