//! The settings file: what an agent tells a SIP Server of a pair ([`SipAssignment`]), or, for one that stands alone, the
//! settings by themselves ([`SipSettings`]). JSON either way.

use crate::options::Options;
use anyhow::{Context, ensure};
use domain::{SipAssignment, SipIdentity, SipMember, SipSettings};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Largest file, bytes: some 100,000 users.
const MAX_FILE: u64 = 32 << 20;
/// Most listen addresses.
pub(crate) const MAX_LISTEN: usize = 32;
/// Name of the file of call detail records, in the directory of the settings.
const CDR_FILE: &str = "cdr.jsonl";

/// What the file says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Loaded {
    pub(crate) settings: SipSettings,
    /// Who we are in a pair; none: alone.
    pub(crate) member: Option<Member>,
}

/// A member of a pair and the other one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Member {
    pub(crate) this: SipMember,
    pub(crate) other: SipMember,
    pub(crate) identity: SipIdentity,
    pub(crate) pair: domain::PairName,
}

/// Tells the two kinds of file apart.
#[derive(Deserialize)]
struct Kind {
    settings: Option<IgnoredAny>,
}

impl Loaded {
    /// Reads the file.
    ///
    /// # Errors
    /// Names the file and what is wrong with it; nothing of its content, which has secrets in it.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let failed = || format!("cannot use the settings in {}", path.display());
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(MAX_FILE + 1).read_to_string(&mut text))
            .with_context(failed)?;
        ensure!(text.len() as u64 <= MAX_FILE, "the settings in {} are too large", path.display());
        Self::parse(&text).with_context(failed)
    }

    /// What the options say, or the file that they name.
    ///
    /// # Errors
    /// As [`Loaded::read`].
    pub(crate) fn of(options: &Options) -> anyhow::Result<Self> {
        match &options.settings {
            Some(path) => Self::read(path),
            None => {
                let loaded = Self { settings: options.plain_settings(), member: None };
                loaded.check()?;
                Ok(loaded)
            }
        }
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let kind: Kind = serde_json::from_str(text).map_err(without_content)?;
        let loaded = if kind.settings.is_some() {
            let SipAssignment { pair, this, other, identity, settings } =
                serde_json::from_str(text).map_err(without_content)?;
            Self { settings, member: Some(Member { this, other, identity, pair }) }
        } else {
            Self { settings: serde_json::from_str(text).map_err(without_content)?, member: None }
        };
        loaded.check()?;
        Ok(loaded)
    }

    /// Checks what a single value does not show, and what would keep sockets from working.
    fn check(&self) -> anyhow::Result<()> {
        let listen = &self.settings.listen;
        ensure!(!listen.is_empty(), "there is no address to listen at");
        ensure!(
            listen.len() <= MAX_LISTEN,
            "{} listen addresses are too many, {MAX_LISTEN} are allowed",
            listen.len()
        );
        for (index, one) in listen.iter().enumerate() {
            // Answers must come from the address that was asked, and a socket bound to any address may pick another.
            ensure!(
                !one.address.ip().is_unspecified(),
                "cannot listen at {}: name the Virtual IP address itself",
                one.address
            );
            ensure!(!listen[..index].contains(one), "{} is to be listened at twice", one.address);
        }
        Ok(())
    }

    /// Where the HTTP page is served: the host's own address, or, where none is known, this machine alone.
    pub(crate) fn http_address(&self) -> Option<SocketAddr> {
        let own = self.member.as_ref().map_or([127, 0, 0, 1].into(), |member| member.this.address);
        self.settings.http_port.map(|port| SocketAddr::new(own, port))
    }

    /// Where call detail records are written.
    pub(crate) fn cdr_file(&self) -> Option<PathBuf> {
        self.settings.cdr_directory.as_ref().map(|directory| directory.join(CDR_FILE))
    }
}

/// What is wrong and where, but for values: serde_json quotes them, and they may be secret.
fn without_content(error: serde_json::Error) -> anyhow::Error {
    let (line, column) = (error.line(), error.column());
    match error.classify() {
        serde_json::error::Category::Data => {
            let text = error.to_string();
            let known = ["missing field", "unknown variant", "duplicate field"];
            let what = known
                .iter()
                .find(|known| text.starts_with(**known))
                .map_or("a value does not fit", |_| &text);
            anyhow::anyhow!("{what} (line {line}, column {column})")
        }
        serde_json::error::Category::Syntax | serde_json::error::Category::Eof => {
            anyhow::anyhow!("it is not JSON (line {line}, column {column})")
        }
        serde_json::error::Category::Io => anyhow::anyhow!("it cannot be read"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{SipListen, SipTransport};

    fn settings() -> SipSettings {
        SipSettings {
            domains: vec!["example.com".to_owned()],
            listen: vec![SipListen {
                transport: SipTransport::Udp,
                address: "192.0.2.1:5060".parse().unwrap(),
            }],
            tls: None,
            registrations: Default::default(),
            users: Default::default(),
            trunks: Default::default(),
            routes: Vec::new(),
            limits: Default::default(),
            timers: Default::default(),
            replication: Default::default(),
            http_port: Some(8_080),
            cdr_directory: None,
            cdr_log: 20,
        }
    }

    #[test]
    fn both_kinds_of_file_are_read() {
        let alone = Loaded::parse(&serde_json::to_string(&settings()).unwrap()).unwrap();
        assert_eq!(alone, Loaded { settings: settings(), member: None });
        assert_eq!(alone.http_address(), Some("127.0.0.1:8080".parse().unwrap()));

        let member = |app: &str, address: &str| SipMember {
            app: app.parse().unwrap(),
            host: "host1".parse().unwrap(),
            address: address.parse().unwrap(),
        };
        let assignment = SipAssignment {
            pair: "sip".parse().unwrap(),
            this: member("sip1", "10.0.0.1"),
            other: member("sip2", "10.0.0.2"),
            identity: SipIdentity { certificate: "c".into(), key: "k".into(), ca: "a".into() },
            settings: settings(),
        };
        let of_pair = Loaded::parse(&serde_json::to_string(&assignment).unwrap()).unwrap();
        assert_eq!(of_pair.member.as_ref().unwrap().other.app.as_str(), "sip2");
        assert_eq!(of_pair.http_address(), Some("10.0.0.1:8080".parse().unwrap()));
    }

    #[test]
    fn errors_tell_no_secrets() {
        let text = serde_json::to_string(&settings()).unwrap();
        let secret = text.replace(r#""users":{}"#, r#""users":{"alice":{"secret":"5ec"}}"#);
        assert_ne!(secret, text);
        let error = format!("{:#}", Loaded::parse(&secret).unwrap_err());
        assert!(!error.contains("5ec") && error.contains("line 1"), "{error}");
        let error = Loaded::parse("{}").unwrap_err().to_string();
        assert!(error.starts_with("missing field `domains`"), "{error}");
        let mut nowhere = settings();
        nowhere.listen.clear();
        let error = Loaded::parse(&serde_json::to_string(&nowhere).unwrap()).unwrap_err().to_string();
        assert_eq!(error, "there is no address to listen at");
    }
}
