//! An ID token: whether the provider signed it, for us, for this login, lately (OpenID Connect Core 1.0, section 3.1.3.7), and
//! whom it names. Parsing and the rules of JSON Web Tokens are `jsonwebtoken`'s; signatures are checked by `ring`, as all others
//! in this program are.

use access::{Name, Role, Secret};
use domain::OidcSettings;
use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use jsonwebtoken::signature::{self, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, Validation, decode, decode_header};
use ring::signature as ring_signature;
use serde_json::{Map, Value};

/// By how much the provider's clock may differ from ours, seconds.
const LEEWAY_S: u64 = 60;
/// Groups that are looked at.
const MAX_GROUPS: usize = 1_000;

/// What an ID token says.
pub(super) type Claims = Map<String, Value>;

/// Why an ID token is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Flaw {
    /// Signed with a key that we do not know, or do not know yet.
    #[error("it is signed with a key that the provider does not publish")]
    UnknownKey,
    /// Anything else.
    #[error("{0}")]
    Wrong(String),
}

/// Whom a token names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Person {
    /// The name for log and audit.
    pub(super) name: Name,
    /// The provider's own name, which never changes.
    pub(super) subject: String,
    /// The groups that it says.
    pub(super) groups: Vec<String>,
}

/// The claims of a token that `keys` signed for the client of `settings`, for the login that `nonce` is of.
///
/// # Errors
/// [`Flaw`].
pub(super) fn verified(
    token: &str,
    keys: &[Jwk],
    settings: &OidcSettings,
    nonce: &Secret,
) -> Result<Claims, Flaw> {
    // Once; a second time it is there already.
    let _ = RING.install_default();
    let header = decode_header(token).map_err(|error| wrong(&error))?;
    let algorithm = header.alg;
    if !matches!(
        algorithm,
        Algorithm::RS256
            | Algorithm::RS384
            | Algorithm::RS512
            | Algorithm::PS256
            | Algorithm::PS384
            | Algorithm::PS512
            | Algorithm::ES256
            | Algorithm::ES384
            | Algorithm::EdDSA
    ) {
        // A key that is published must never be taken for a shared secret.
        return Err(Flaw::Wrong(format!("it is signed by {algorithm:?}, which anybody could have done")));
    }
    let key = key_for(header.kid.as_deref(), algorithm, keys).ok_or(Flaw::UnknownKey)?;
    let mut validation = Validation::new(algorithm);
    validation.leeway = LEEWAY_S;
    validation.validate_nbf = true;
    validation.set_issuer(&[&settings.issuer]);
    validation.set_audience(&[&settings.client_id]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    let claims = decode::<Claims>(token, &key, &validation).map_err(|error| wrong(&error))?.claims;
    // Made for several: then it says who asked for it.
    let several = claims.get("aud").and_then(Value::as_array).is_some_and(|aud| aud.len() > 1);
    match claims.get("azp").map(Value::as_str) {
        Some(Some(party)) if party == settings.client_id => {}
        None if !several => {}
        Some(_) | None => return Err(Flaw::Wrong("another client asked for it".to_owned())),
    }
    let shown = claims.get("nonce").and_then(Value::as_str).and_then(|text| text.parse::<Secret>().ok());
    if !shown.is_some_and(|shown| shown.same_as(nonce)) {
        return Err(Flaw::Wrong("it is of another login".to_owned()));
    }
    Ok(claims)
}

/// Whom these claims name.
///
/// # Errors
/// What is missing, and what to do about it.
pub(super) fn person(claims: &Claims, settings: &OidcSettings) -> Result<Person, String> {
    let claim = &settings.user_claim;
    let name = at(claims, claim).and_then(Value::as_str).ok_or_else(|| {
        format!("the ID token has no text in the claim {claim:?}; let the provider put it there, or set `user-claim` to another")
    })?;
    let name = name.parse().map_err(|error| {
        format!("the claim {claim:?} cannot name anybody here: {error}; set `user-claim` to another")
    })?;
    let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default().to_owned();
    let groups = match at(claims, &settings.groups_claim) {
        Some(Value::String(group)) => vec![group.clone()],
        Some(Value::Array(groups)) => {
            groups.iter().filter_map(Value::as_str).take(MAX_GROUPS).map(str::to_owned).collect()
        }
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => Vec::new(),
    };
    Ok(Person { name, subject, groups })
}

/// The greatest role of these groups, and the group that has it.
pub(super) fn role<'g>(groups: &'g [String], settings: &OidcSettings) -> Option<(Role, &'g str)> {
    let of = |role: Role| match role {
        Role::Viewer => &settings.viewers,
        Role::Operator => &settings.operators,
        Role::Administrator => &settings.administrators,
    };
    Role::ALL.into_iter().rev().find_map(|role| {
        groups.iter().find(|group| of(role).contains(*group)).map(|group| (role, group.as_str()))
    })
}

/// A claim by its name; where there is none of that name, by a path whose parts are apart by dots.
fn at<'c>(claims: &'c Claims, name: &str) -> Option<&'c Value> {
    claims.get(name).or_else(|| {
        let mut parts = name.split('.');
        let first = claims.get(parts.next()?)?;
        parts.try_fold(first, |value, part| value.get(part))
    })
}

/// The key that a token names, if it is one for signatures of that kind. One that names none may have been made with the only
/// key of its kind.
fn key_for(id: Option<&str>, algorithm: Algorithm, keys: &[Jwk]) -> Option<DecodingKey> {
    let fits = |jwk: &&Jwk| {
        let signs = !matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption));
        let same = jwk.common.key_algorithm.is_none_or(|of| of.to_string() == format!("{algorithm:?}"));
        let named = id.is_none_or(|id| jwk.common.key_id.as_deref() == Some(id));
        let family = DecodingKey::from_jwk(jwk).is_ok_and(|key| key.family() == algorithm.family());
        signs && same && named && family
    };
    let mut fitting = keys.iter().filter(fits);
    match (fitting.next(), fitting.next()) {
        (Some(key), None) => DecodingKey::from_jwk(key).ok(),
        (Some(key), Some(_)) if id.is_some() => DecodingKey::from_jwk(key).ok(),
        (Some(_), Some(_)) | (None, _) => None,
    }
}

fn wrong(error: &Error) -> Flaw {
    Flaw::Wrong(match error.kind() {
        ErrorKind::ExpiredSignature => "it has expired; does the clock of this machine keep time?".to_owned(),
        ErrorKind::ImmatureSignature => {
            "it is not valid yet; does the clock of this machine keep time?".to_owned()
        }
        ErrorKind::InvalidSignature => "its signature is not the provider's".to_owned(),
        ErrorKind::InvalidIssuer => "another provider made it".to_owned(),
        ErrorKind::InvalidAudience => "it was made for another client".to_owned(),
        ErrorKind::MissingRequiredClaim(claim) => format!("it has no {claim:?}"),
        // The library's enum, which grows.
        _ => format!("it is not well-formed: {error}"),
    })
}

/// `jsonwebtoken` asks for signatures to be checked; nothing here signs.
static RING: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
    verifier_factory: |algorithm, key| Ok(Box::new(ByRing { algorithm: *algorithm, key: key.clone() })),
    key_utils: KeyUtils::new_unimplemented(),
};

struct ByRing {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl JwtVerifier for ByRing {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Verifier<Vec<u8>> for ByRing {
    fn verify(&self, message: &[u8], signed: &Vec<u8>) -> Result<(), signature::Error> {
        let done = match self.key.kind() {
            DecodingKeyKind::RsaModulusExponent { n, e } => {
                // ring refuses keys below 2,048 bits.
                let rules = rsa(self.algorithm).ok_or_else(signature::Error::new)?;
                ring_signature::RsaPublicKeyComponents { n, e }.verify(rules, message, signed)
            }
            DecodingKeyKind::SecretOrDer(point) => {
                let rules: &dyn ring_signature::VerificationAlgorithm = match self.algorithm {
                    Algorithm::ES256 => &ring_signature::ECDSA_P256_SHA256_FIXED,
                    Algorithm::ES384 => &ring_signature::ECDSA_P384_SHA384_FIXED,
                    Algorithm::EdDSA => &ring_signature::ED25519,
                    // The library's enum, which grows.
                    _ => return Err(signature::Error::new()),
                };
                ring_signature::UnparsedPublicKey::new(rules, point).verify(message, signed)
            }
        };
        done.map_err(|_| signature::Error::new())
    }
}

fn rsa(algorithm: Algorithm) -> Option<&'static ring_signature::RsaParameters> {
    match algorithm {
        Algorithm::RS256 => Some(&ring_signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => Some(&ring_signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => Some(&ring_signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => Some(&ring_signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => Some(&ring_signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => Some(&ring_signature::RSA_PSS_2048_8192_SHA512),
        // The library's enum, which grows.
        _ => None,
    }
}
