//! What went wrong in TLS, in words that say what to look at. rustls' own texts are for those who know rustls.

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};
use x509_parser::time::ASN1Time;

/// A sentence for a failed handshake or a broken record.
pub(crate) fn sentence(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(why) => certificate(why),
        Error::AlertReceived(alert) => alert_received(*alert),
        Error::NoCertificatesPresented => "the peer showed no certificate".to_owned(),
        Error::NoApplicationProtocol => "the peer speaks TLS but not this protocol".to_owned(),
        Error::InvalidMessage(_)
        | Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. } => {
            format!("the peer does not speak TLS 1.3 as it should: {error}")
        }
        Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => "the peer offers only TLS versions older than 1.3".to_owned(),
        other => other.to_string(),
    }
}

fn certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::Expired => "the peer's certificate has expired; issue a new one".to_owned(),
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("the peer's certificate has expired on {}; issue a new one", date(not_after.as_secs()))
        }
        CertificateError::NotValidYet => {
            "the peer's certificate is not valid yet; check both clocks".to_owned()
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!(
                "the peer's certificate is not valid before {}; check both clocks",
                date(not_before.as_secs())
            )
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the peer's certificate was not issued by this cluster's CA".to_owned()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "the peer's certificate is not meant for this end of a connection (extended key usage)".to_owned()
        }
        other => format!("the peer's certificate is not valid: {other}"),
    }
}

fn alert_received(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateExpired => {
            "the peer says that our certificate has expired (or its clock is wrong); issue a new one"
                .to_owned()
        }
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            "the peer says that our certificate was not issued by its CA".to_owned()
        }
        AlertDescription::CertificateRequired => {
            "the peer demands a certificate and we showed none".to_owned()
        }
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate => {
            format!("the peer does not accept our certificate ({alert:?}); its log says why")
        }
        AlertDescription::ProtocolVersion => "the peer does not speak TLS 1.3".to_owned(),
        AlertDescription::NoApplicationProtocol => "the peer speaks TLS but not this protocol".to_owned(),
        other => format!("the peer ended the connection with a TLS alert: {other:?}"),
    }
}

/// `YYYY-MM-DD` of a Unix time.
pub(crate) fn date(unix_seconds: u64) -> String {
    i64::try_from(unix_seconds)
        .ok()
        .and_then(|s| ASN1Time::from_timestamp(s).ok())
        .map_or_else(|| "a date beyond all calendars".to_owned(), |t| t.to_datetime().date().to_string())
}
