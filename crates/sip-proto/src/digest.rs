//! Digest authentication (RFC 7616 as RFC 8760 takes it into SIP; RFC 3261, section 22), both sides: challenges made and
//! read, credentials made and checked. SHA-256 and MD5, quality of protection `auth`.
//!
//! A server needs no memory for a challenge: a nonce carries its time and a seal, so that the other member of a pair,
//! which has the same key, knows it too. Only how often a nonce was used is remembered, within bounds.

use crate::scan::Cursor;
use crate::{Message, StartLine, Uri, draft};
use domain::Micros;
use md5::Md5;
use sha2::{Digest as _, Sha256};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Most nonces whose use is remembered; of more, the oldest are forgotten and count as expired.
const MOST_NONCES: usize = 65_536;
/// Most challenges of one response that are looked at.
const MOST_CHALLENGES: usize = 8;

/// How a digest is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    /// The default where none is named.
    Md5,
    /// The one to prefer.
    Sha256,
}

impl Algorithm {
    fn of(name: &[u8]) -> Option<Self> {
        match name {
            name if name.eq_ignore_ascii_case(b"MD5") => Some(Algorithm::Md5),
            name if name.eq_ignore_ascii_case(b"SHA-256") => Some(Algorithm::Sha256),
            _ => None,
        }
    }

    /// The digest of all parts with colons between.
    fn of_parts(self, parts: &[&[u8]]) -> HexDigest {
        fn feed<D: sha2::Digest>(parts: &[&[u8]]) -> HexDigest {
            let mut hash = D::new();
            for (index, part) in parts.iter().enumerate() {
                if index > 0 {
                    hash.update(b":");
                }
                hash.update(part);
            }
            HexDigest::of(&hash.finalize())
        }
        match self {
            Algorithm::Md5 => feed::<Md5>(parts),
            Algorithm::Sha256 => feed::<Sha256>(parts),
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Algorithm::Md5 => "MD5",
            Algorithm::Sha256 => "SHA-256",
        })
    }
}

/// A digest as hexadecimal digits.
#[derive(Clone, Copy)]
pub struct HexDigest {
    digits: [u8; 64],
    length: usize,
}

impl HexDigest {
    fn of(bytes: &[u8]) -> Self {
        let mut digits = [0; 64];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
            pair.copy_from_slice(&[
                b"0123456789abcdef"[usize::from(byte >> 4)],
                b"0123456789abcdef"[usize::from(byte & 15)],
            ]);
        }
        Self { digits, length: bytes.len() * 2 }
    }

    /// Reads one as it is written: 32 digits for MD5, 64 for SHA-256.
    #[must_use]
    pub fn read(algorithm: Algorithm, text: &str) -> Option<Self> {
        let length = match algorithm {
            Algorithm::Md5 => 32,
            Algorithm::Sha256 => 64,
        };
        let sound = text.len() == length && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        let mut digits = [0; 64];
        digits.get_mut(..length)?.copy_from_slice(text.to_ascii_lowercase().as_bytes().get(..length)?);
        sound.then_some(Self { digits, length })
    }

    fn bytes(&self) -> &[u8] {
        &self.digits[..self.length]
    }

    /// Whether `other` is the same; takes as long wherever they differ.
    fn is(&self, other: &[u8]) -> bool {
        let differences =
            self.bytes().iter().zip(other).fold(0, |all, (a, b)| all | (a ^ b.to_ascii_lowercase()));
        self.length == other.len() && differences == 0
    }
}

impl fmt::Display for HexDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(self.bytes()).expect("digits are ASCII"))
    }
}

/// Does not show it: with it, anybody could answer challenges.
impl fmt::Debug for HexDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HexDigest(..)")
    }
}

/// What is kept of a password: H(user:realm:password) (RFC 7616, section 3.4.2).
#[must_use]
pub fn secret(algorithm: Algorithm, user: &str, realm: &str, password: &str) -> HexDigest {
    algorithm.of_parts(&[user.as_bytes(), realm.as_bytes(), password.as_bytes()])
}

/// The value of an Authorization or Proxy-Authorization header field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials<'a> {
    /// Who it is.
    pub username: Cow<'a, [u8]>,
    /// Where that name means something.
    pub realm: Cow<'a, [u8]>,
    /// The algorithm.
    pub algorithm: Algorithm,
    nonce: &'a [u8],
    uri: &'a [u8],
    response: &'a [u8],
    cnonce: &'a [u8],
    nc: &'a [u8],
}

impl<'a> Credentials<'a> {
    /// Reads the value; `None` where it is of another scheme, algorithm or quality of protection, or lacks something.
    #[must_use]
    pub fn read(value: &'a [u8]) -> Option<Self> {
        let params = Params::read(value)?;
        if !params.get("qop").is_some_and(|qop| unquoted(qop).eq_ignore_ascii_case(b"auth")) {
            return None;
        }
        Some(Self {
            username: unquote(params.get("username")?),
            realm: unquote(params.get("realm")?),
            algorithm: params.algorithm()?,
            nonce: unquoted(params.get("nonce")?),
            uri: unquoted(params.get("uri")?),
            response: unquoted(params.get("response")?),
            cnonce: unquoted(params.get("cnonce")?),
            nc: params.get("nc").filter(|nc| nc.len() == 8)?,
        })
    }

    /// How often the client says that it has used the nonce.
    fn count(&self) -> Option<u32> {
        std::str::from_utf8(self.nc).ok().and_then(|nc| u32::from_str_radix(nc, 16).ok())
    }

    /// Whether the response was made from this secret (RFC 7616, section 3.4.1).
    fn is_made_from(&self, secret: &HexDigest, method: &str) -> bool {
        let request = self.algorithm.of_parts(&[method.as_bytes(), self.uri]);
        let parts = [secret.bytes(), self.nonce, self.nc, self.cnonce, b"auth", request.bytes()];
        self.algorithm.of_parts(&parts).is(self.response)
    }
}

/// What credentials turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The user's.
    Genuine,
    /// The user's, but for a nonce that is too old or was used before: to be challenged again, with `stale`, which the
    /// client answers without asking its user.
    Stale,
    /// Somebody else's.
    Wrong,
}

/// The server's side: makes nonces and checks what comes back.
#[derive(Debug, Clone)]
pub struct Nonces {
    key: [u8; 32],
    lifetime: Duration,
    /// Highest count of each nonce, with the request that had it. Nonces begin with their time, so the oldest is first.
    used: BTreeMap<Box<[u8]>, (u32, u64)>,
}

impl Nonces {
    /// `key` is secret, random, and the same on both members of a pair.
    #[must_use]
    pub fn new(key: [u8; 32], lifetime: Duration) -> Self {
        Self { key, lifetime, used: BTreeMap::new() }
    }

    /// The value of a WWW-Authenticate or Proxy-Authenticate header field for this request. `now` is on a clock that the
    /// members of a pair share to within a fraction of the lifetime: the wall clock. The same request, sent again at the
    /// same time, is challenged with the same nonce.
    #[must_use]
    pub fn challenge(
        &self,
        request: &Message<'_>,
        realm: &str,
        algorithm: Algorithm,
        stale: bool,
        now: Micros,
    ) -> String {
        let nonce = self.sealed(now.0 / 1_000_000, draft::to_tag(request));
        let stale = if stale { ", stale=true" } else { "" };
        let realm = realm.replace(['"', '\\', '\r', '\n'], "");
        format!("Digest realm=\"{realm}\", nonce=\"{nonce}\", algorithm={algorithm}, qop=\"auth\"{stale}")
    }

    /// Checks the credentials of a request against the user's secret (for their algorithm, [`secret`]).
    pub fn check(
        &mut self,
        request: &Message<'_>,
        credentials: &Credentials<'_>,
        secret: &HexDigest,
        now: Micros,
    ) -> Verdict {
        let StartLine::Request(line) = request.start else { return Verdict::Wrong };
        let (Some(count), true) = (credentials.count(), same_resource(credentials.uri, line.uri)) else {
            return Verdict::Wrong;
        };
        if !credentials.is_made_from(secret, line.method_text) {
            return Verdict::Wrong;
        }
        if !self.is_fresh(credentials.nonce, now) {
            return Verdict::Stale;
        }
        self.count(credentials.nonce, count, draft::to_tag(request))
    }

    /// Notes a use of a nonce. The count must grow (RFC 7616, section 3.4); the very same request may come again, for UDP
    /// repeats what was not answered in time.
    fn count(&mut self, nonce: &[u8], count: u32, request: u64) -> Verdict {
        let full = self.used.len() >= MOST_NONCES;
        let forgotten = full && self.used.first_key_value().is_some_and(|(oldest, _)| nonce < &oldest[..]);
        match self.used.get_mut(nonce) {
            Some(used) if *used == (count, request) => Verdict::Genuine,
            Some((highest, _)) if count <= *highest => Verdict::Stale,
            Some(used) => {
                *used = (count, request);
                Verdict::Genuine
            }
            // Older than any that is remembered, and so perhaps one that was used and forgotten.
            None if forgotten => Verdict::Stale,
            None => {
                if full {
                    self.used.pop_first();
                }
                self.used.insert(nonce.into(), (count, request));
                Verdict::Genuine
            }
        }
    }

    /// Whether we (or the other member) made it, and not too long ago.
    fn is_fresh(&self, nonce: &[u8], now: Micros) -> bool {
        let number = |range| {
            let digits = nonce.get(range).and_then(|digits| std::str::from_utf8(digits).ok());
            digits.and_then(|digits| u64::from_str_radix(digits, 16).ok())
        };
        let (Some(made_s), Some(request)) = (number(0..10), number(10..26)) else { return false };
        let age = (now.0 / 1_000_000).abs_diff(made_s);
        age <= self.lifetime.as_secs() && self.sealed(made_s, request).as_bytes() == nonce
    }

    fn sealed(&self, made_s: u64, request: u64) -> String {
        let mut hash = Sha256::new();
        // Two passes, as in HMAC: the key is no prefix of what is sealed.
        hash.update(self.key);
        hash.update(made_s.to_be_bytes());
        hash.update(request.to_be_bytes());
        let inner = hash.finalize();
        let mut hash = Sha256::new();
        hash.update(self.key);
        hash.update(inner);
        let seal = HexDigest::of(&hash.finalize()[..16]);
        format!("{:010x}{request:016x}{seal}", made_s & 0xff_ffff_ffff)
    }
}

/// Whether the digest was made for the Request-URI that it came with (RFC 7616, section 3.4.6). Only who is called counts,
/// not where: on the way host, port and parameters are rewritten (RFC 3261, section 22.4, item 8), and phones leave some
/// out. What was proved for somebody else is of no use; and for the same one it is only once, by its count.
fn same_resource(digest_uri: &[u8], request_uri: &[u8]) -> bool {
    let read = |bytes| std::str::from_utf8(bytes).ok().and_then(|text| Uri::parse(text).ok());
    digest_uri == request_uri
        || matches!((read(digest_uri), read(request_uri)), (Some(a), Some(b)) if a.is_of_user_of(&b))
}

/// The client's side: a user that answers challenges.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub username: String,
    /// Its password.
    pub password: String,
}

/// Does not show the password.
impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("username", &self.username).finish_non_exhaustive()
    }
}

impl User {
    /// Answers the challenges of a 401 or 407 response, given as the values of its WWW-Authenticate or
    /// Proxy-Authenticate header fields, with the value of an Authorization or Proxy-Authorization header field: the
    /// first challenge that can be answered, as the server puts the one that it prefers on top (RFC 8760, section 2.4).
    /// `cnonce` is random. Each answer is for a nonce of its own, so it is used once.
    #[must_use]
    pub fn answer<'v>(
        &self,
        challenges: impl Iterator<Item = &'v [u8]>,
        method: &str,
        uri: &str,
        cnonce: u64,
    ) -> Option<String> {
        challenges.take(MOST_CHALLENGES).find_map(|value| self.answer_one(value, method, uri, cnonce))
    }

    fn answer_one(&self, value: &[u8], method: &str, uri: &str, cnonce: u64) -> Option<String> {
        let params = Params::read(value)?;
        let algorithm = params.algorithm()?;
        // Copied as they are, quotes and escapes included, so they are text that quotes can hold.
        let (realm, nonce) = (
            std::str::from_utf8(params.get("realm")?).ok()?,
            std::str::from_utf8(params.get("nonce")?).ok()?,
        );
        let plain_realm = unquote(realm.as_bytes());
        let secret = algorithm.of_parts(&[self.username.as_bytes(), &plain_realm, self.password.as_bytes()]);
        let request = algorithm.of_parts(&[method.as_bytes(), uri.as_bytes()]);
        let cnonce = format!("{cnonce:016x}");
        let with_qop = match params.get("qop") {
            None => false,
            Some(qop) => {
                let mut offered = unquoted(qop).split(|b| *b == b',');
                offered.any(|qop| crate::scan::trim(qop).eq_ignore_ascii_case(b"auth")).then_some(true)?
            }
        };
        let plain_nonce = unquoted(nonce.as_bytes());
        let response = if with_qop {
            algorithm.of_parts(&[
                secret.bytes(),
                plain_nonce,
                b"00000001",
                cnonce.as_bytes(),
                b"auth",
                request.bytes(),
            ])
        } else {
            algorithm.of_parts(&[secret.bytes(), plain_nonce, request.bytes()])
        };
        let username = self.username.replace('\\', "\\\\").replace('"', "\\\"");
        let mut answer = format!(
            "Digest username=\"{username}\", realm={realm}, nonce={nonce}, uri=\"{uri}\", response=\"{response}\", \
             algorithm={algorithm}"
        );
        if with_qop {
            answer.push_str(&format!(", qop=auth, nc=00000001, cnonce=\"{cnonce}\""));
        }
        if let Some(opaque) = params.get("opaque").and_then(|opaque| std::str::from_utf8(opaque).ok()) {
            answer.push_str(&format!(", opaque={opaque}"));
        }
        Some(answer)
    }
}

/// `Digest name=value, name="value", ...`
struct Params<'a>(Vec<(&'a str, &'a [u8])>);

impl<'a> Params<'a> {
    /// Most parameters of one value; there are eleven with a meaning.
    const MOST: usize = 32;

    fn read(value: &'a [u8]) -> Option<Self> {
        let mut cursor = Cursor::new(value);
        let scheme = cursor.token()?;
        let mut params = Vec::with_capacity(12);
        cursor.skip_lws();
        while params.len() < Self::MOST && !cursor.at_end() {
            let name = cursor.token()?;
            cursor.eat_spaced(b'=')?;
            let value = match cursor.peek()? {
                b'"' => cursor.quoted()?,
                _ => cursor.take_while(|b| b.is_ascii_graphic() && !matches!(b, b',' | b'"')),
            };
            params.push((name, value));
            cursor.skip_lws();
            if !cursor.at_end() {
                cursor.eat_spaced(b',')?;
            }
        }
        (scheme.eq_ignore_ascii_case("Digest") && cursor.at_end()).then_some(Self(params))
    }

    /// The value of a parameter, with its quotes.
    fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.0.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }

    fn algorithm(&self) -> Option<Algorithm> {
        self.get("algorithm").map_or(Some(Algorithm::Md5), |name| Algorithm::of(unquoted(name)))
    }
}

/// What is between the quotes, or all of it where there are none.
fn unquoted(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value)
}

/// The same with escapes undone.
fn unquote(value: &[u8]) -> Cow<'_, [u8]> {
    let inner = unquoted(value);
    if !inner.contains(&b'\\') || inner.len() == value.len() {
        return Cow::Borrowed(inner);
    }
    let mut bytes = inner.iter();
    let mut plain = Vec::with_capacity(inner.len());
    while let Some(byte) = bytes.next() {
        plain.push(if *byte == b'\\' { *bytes.next().unwrap_or(byte) } else { *byte });
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Framing, parse};

    /// The example of RFC 7616, section 3.9.1, which RFC 8760 refers to.
    #[test]
    fn the_example_of_the_rfc() {
        for (algorithm, response) in [
            (Algorithm::Md5, "8ca523f5e9506fed4657c9700eebdbec"),
            (Algorithm::Sha256, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ] {
            let value = format!(
                "Digest username=\"Mufasa\", realm=\"http-auth@example.org\", uri=\"/dir/index.html\", algorithm={algorithm},
                 nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", nc=00000001,
                 cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", qop=auth, response=\"{response}\",
                 opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
            );
            let credentials = Credentials::read(value.as_bytes()).unwrap();
            let right = secret(algorithm, "Mufasa", "http-auth@example.org", "Circle of Life");
            assert!(credentials.is_made_from(&right, "GET"));
            assert!(!credentials.is_made_from(&right, "PUT"));
            assert!(
                !credentials.is_made_from(&secret(algorithm, "Mufasa", "http-auth@example.org", "x"), "GET")
            );
        }
    }

    /// A server, a user, and the REGISTER requests between them.
    struct Scene {
        nonces: Nonces,
        user: User,
        now: Micros,
    }

    const URI: &str = "sip:example.com";

    fn register(cseq: u32, uri: &str) -> String {
        format!(
            "REGISTER {uri} SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK{cseq}\r\nFrom: <sip:a@x>;tag=1\r\nTo: <sip:a@x>\r\n\
             Call-ID: c\r\nCSeq: {cseq} REGISTER\r\n\r\n"
        )
    }

    impl Scene {
        fn new() -> Self {
            let nonces = Nonces::new([7; 32], Duration::from_secs(300));
            let user = User { username: "al\"ice".to_owned(), password: "secret".to_owned() };
            Self { nonces, user, now: Micros(1_000_000_000) }
        }

        fn answer(&self, algorithm: Algorithm) -> String {
            let text = register(1, URI);
            let request = parse(text.as_bytes(), Framing::Datagram).unwrap();
            let challenge = self.nonces.challenge(&request, "ex\"ample", algorithm, false, self.now);
            self.user.answer([challenge.as_bytes()].into_iter(), "REGISTER", URI, 5).unwrap()
        }

        fn check(&mut self, authorization: &str, cseq: u32) -> Verdict {
            self.check_for(authorization, &register(cseq, URI))
        }

        fn check_for(&mut self, authorization: &str, request: &str) -> Verdict {
            let request = parse(request.as_bytes(), Framing::Datagram).unwrap();
            let credentials = Credentials::read(authorization.as_bytes()).unwrap();
            let user = std::str::from_utf8(&credentials.username).unwrap();
            let realm = std::str::from_utf8(&credentials.realm).unwrap();
            let secret = secret(credentials.algorithm, user, realm, "secret");
            self.nonces.check(&request, &credentials, &secret, self.now)
        }
    }

    #[test]
    fn a_challenge_is_answered_once() {
        for algorithm in [Algorithm::Md5, Algorithm::Sha256] {
            let mut scene = Scene::new();
            let answer = scene.answer(algorithm);
            assert_eq!(scene.check(&answer, 2), Verdict::Genuine, "{answer}");
            assert_eq!(scene.check(&answer, 2), Verdict::Genuine, "the same request sent again");
            assert_eq!(scene.check(&answer, 3), Verdict::Stale, "another request with the same count");
        }
    }

    #[test]
    fn it_is_for_whom_it_was_made_wherever_that_is() {
        let same = |made_for: &str, used_for: &str| same_resource(made_for.as_bytes(), used_for.as_bytes());
        for there in
            ["sip:bob@192.0.2.100", "sips:bob@example.com:5061;transport=tls", "sip:b%6Fb:x@example.com"]
        {
            assert!(same("sip:bob@example.com", there) && same(there, "sip:bob@example.com"), "{there}");
        }
        assert!(same("sip:example.com", "sip:192.0.2.100;transport=tcp"));
        for other in ["sip:carol@example.com", "sip:Bob@example.com", "sip:example.com", "bob", ""] {
            assert!(!same("sip:bob@example.com", other) && !same(other, "sip:bob@example.com"), "{other}");
        }
        let mut scene = Scene::new();
        let answer = scene.answer(Algorithm::Sha256);
        assert_eq!(scene.check_for(&answer, &register(2, "sip:carol@example.com")), Verdict::Wrong);
    }

    #[test]
    fn the_other_member_of_the_pair_knows_the_challenge() {
        let scene = Scene::new();
        let answer = scene.answer(Algorithm::Sha256);
        assert_eq!(Scene::new().check(&answer, 2), Verdict::Genuine);
        let mut stranger = Scene::new();
        stranger.nonces.key = [8; 32];
        assert_eq!(stranger.check(&answer, 2), Verdict::Stale, "right password, unknown nonce");
    }

    #[test]
    fn nonces_end() {
        let mut scene = Scene::new();
        let answer = scene.answer(Algorithm::Md5);
        scene.now += Duration::from_secs(301);
        assert_eq!(scene.check(&answer, 2), Verdict::Stale);
        scene.now = scene.now - Duration::from_secs(1);
        assert_eq!(scene.check(&answer, 2), Verdict::Genuine);
    }

    #[test]
    fn wrong_passwords_and_forged_nonces_are_wrong() {
        let mut scene = Scene::new();
        scene.user.password = "guess".to_owned();
        let answer = scene.answer(Algorithm::Sha256);
        assert_eq!(scene.check(&answer, 2), Verdict::Wrong);
        scene.user.password = "secret".to_owned();
        let answer = scene.answer(Algorithm::Sha256);
        assert_eq!(scene.check(&answer.replace("nc=00000001", "nc=00000002"), 2), Verdict::Wrong);
    }

    #[test]
    fn what_is_used_is_remembered_within_bounds() {
        let mut nonces = Nonces::new([0; 32], Duration::from_secs(1));
        for n in 0..MOST_NONCES + 10 {
            assert_eq!(nonces.count(format!("{n:010x}").as_bytes(), 1, 0), Verdict::Genuine);
        }
        assert_eq!(nonces.used.len(), MOST_NONCES);
        assert_eq!(nonces.count(format!("{:010x}", 3).as_bytes(), 1, 0), Verdict::Stale, "was forgotten");
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let good = Scene::new().answer(Algorithm::Md5);
        for (old, new) in [
            ("Digest", "Basic"),
            ("MD5", "MD5-sess"),
            ("qop=auth", "qop=auth-int"),
            (", qop=auth", ""),
            ("nc=00000001", "nc=1"),
            (", nc=", " nc="),
            ("uri=\"sip:example.com\"", "uri=\"sip:example.com"),
        ] {
            assert_eq!(Credentials::read(good.replace(old, new).as_bytes()), None, "{new}");
        }
        let user = Scene::new().user;
        let answer = |challenge: &str| user.answer([challenge.as_bytes()].into_iter(), "INVITE", URI, 1);
        assert_eq!(answer("Digest realm=\"x\", nonce=\"y\", algorithm=SHA-512-256"), None);
        assert_eq!(answer("Digest realm=\"x\", nonce=\"y\", qop=\"auth-int\""), None);
        assert!(answer("Digest realm=\"x\", nonce=\"y\"").is_some_and(|old| !old.contains("qop")));
    }

    #[test]
    fn the_first_challenge_that_can_be_answered_is() {
        let challenges: [&[u8]; 3] = [
            b"Digest realm=\"x\", nonce=\"1\", algorithm=SHA-512-256, qop=\"auth\"",
            b"Digest realm=\"x\", nonce=\"2\", algorithm=SHA-256, qop=\"auth,auth-int\", opaque=\"o\"",
            b"Digest realm=\"x\", nonce=\"3\", algorithm=MD5, qop=\"auth\"",
        ];
        let answer = Scene::new().user.answer(challenges.into_iter(), "INVITE", URI, 1).unwrap();
        assert!(answer.contains("nonce=\"2\"") && answer.ends_with(", opaque=\"o\""), "{answer}");
    }
}
