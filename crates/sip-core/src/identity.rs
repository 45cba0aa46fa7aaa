//! Who sends a request: a user who proves it (RFC 7616, RFC 8760), or a trunk by its address.

use crate::setup::{self, Setup};
use domain::Micros;
use sip_proto::digest::{Algorithm, Credentials, Nonces, Verdict};
use sip_proto::{HeaderName, Message};
use std::time::Duration;

/// How long a nonce is good.
const NONCE_LASTS: Duration = Duration::from_secs(300);

/// Who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Who {
    /// One of the users.
    User(Box<str>),
    /// Nobody is asked.
    Anybody,
    /// Nobody yet: to be challenged.
    Unproven {
        /// The proof was right, but for a nonce that is too old.
        stale: bool,
        /// There was a proof, and it was wrong.
        wrong: bool,
    },
}

/// Checks proofs.
#[derive(Debug)]
pub(crate) struct Identity {
    nonces: Nonces,
    realm: String,
    algorithms: Vec<Algorithm>,
    open: bool,
}

impl Identity {
    pub(crate) fn new(setup: &Setup) -> Self {
        Self {
            nonces: Nonces::new(setup.nonce_key(), NONCE_LASTS),
            realm: setup.realm(),
            algorithms: setup.algorithms(),
            open: setup.open,
        }
    }

    /// Who sent it, by the credentials in this header field. `wall` is the wall clock, Unix time.
    pub(crate) fn of(
        &mut self,
        message: &Message<'_>,
        field: HeaderName,
        setup: &Setup,
        wall: Micros,
    ) -> Who {
        if self.open {
            return Who::Anybody;
        }
        let mut unproven = Who::Unproven { stale: false, wrong: false };
        for value in message.values(field) {
            let Some(credentials) = Credentials::read(value) else { continue };
            if *credentials.realm != *self.realm.as_bytes() {
                continue;
            }
            let user = std::str::from_utf8(&credentials.username).ok();
            let user = user.and_then(|name| setup.settings.users.get_key_value(name));
            let secret = user.and_then(|(_, user)| setup::secret(&user.secret, credentials.algorithm));
            let verdict = match &secret {
                Some(secret) => self.nonces.check(message, &credentials, secret, wall),
                None => Verdict::Wrong,
            };
            match (verdict, user) {
                (Verdict::Genuine, Some((name, _))) => return Who::User(name.as_str().into()),
                (Verdict::Stale, _) => unproven = Who::Unproven { stale: true, wrong: false },
                (Verdict::Wrong | Verdict::Genuine, _) => {
                    unproven = Who::Unproven { stale: false, wrong: true };
                }
            }
        }
        unproven
    }

    /// The challenges, the best first (RFC 8760, section 2.4).
    pub(crate) fn challenges(&self, message: &Message<'_>, stale: bool, wall: Micros) -> Vec<String> {
        let challenge =
            |algorithm: &Algorithm| self.nonces.challenge(message, &self.realm, *algorithm, stale, wall);
        self.algorithms.iter().map(challenge).collect()
    }
}
