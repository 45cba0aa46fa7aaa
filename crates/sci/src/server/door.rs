//! Who is let in, and as whom. The rules are `access`'s; here are its memory, its randomness, and the costly part (hashing
//! passwords), which is done on threads where nobody waits for it.

use crate::api::Problem;
use access::{Accounts, Guard, Locked, Name, PasswordHash, Refusal, Role, Secret, Token, Vouched};
use axum::http::StatusCode;
use domain::{Micros, PairName};
use ring::rand::{SecureRandom, SystemRandom};
use scs::store::{AuditRecord, QueryError, Store, StoreItem};
use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Passwords that are hashed at once: each takes a core for about 20 ms, and 19 MiB.
const HASHES_AT_ONCE: usize = 2;
/// How long a login may wait for others'.
const HASH_WAIT: Duration = Duration::from_secs(5);
/// How long a change may take to be on its way to the disk.
const KEEP_LIMIT: Duration = Duration::from_secs(5);
/// Refused attempts of strangers that the audit takes in a minute; how many more there were, it says.
const STRANGERS_A_MINUTE: u32 = 60;

/// The other end of a connection.
#[derive(Debug, Clone)]
pub(super) enum Peer {
    /// Known already, by its certificate or by the system.
    Known {
        /// Who.
        who: String,
        /// From where.
        from: String,
        /// What that one may do: by the system everything, by a certificate what it says.
        role: Role,
    },
    /// At the web port: has to log in, or to show a token.
    Stranger(SocketAddr),
}

/// Who asks, and what that one may do.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) who: String,
    pub(super) from: String,
    pub(super) role: Role,
    /// To which pairs the orders may be; none: to all.
    pub(super) pairs: Option<BTreeSet<PairName>>,
    /// What was shown.
    pub(super) proof: Proof,
}

/// How a caller is known.
#[derive(Debug, Clone)]
pub(super) enum Proof {
    /// By the connection.
    Connection,
    /// By the session of a browser.
    Session(Secret),
    /// By a token.
    Token(Secret),
}

impl Caller {
    /// Tells callers apart whose names are the same: a user and a certificate may both be `ann`, and so may two tokens.
    pub(super) fn identity(&self) -> String {
        match &self.proof {
            Proof::Connection => format!("connection {}", self.who),
            Proof::Session(_) => format!("user {}", self.who),
            Proof::Token(secret) => format!("token {}", String::from(secret.digest())),
        }
    }

    /// The session's secret, where a browser has logged in.
    pub(super) fn session(&self) -> Option<&Secret> {
        match &self.proof {
            Proof::Session(secret) => Some(secret),
            Proof::Connection | Proof::Token(_) => None,
        }
    }
}

/// The memory of who may use the API.
#[derive(Clone)]
pub(super) struct Door {
    inner: Arc<Mutex<Inner>>,
    hashing: Arc<Semaphore>,
    nobody: Arc<PasswordHash>,
    store: Store,
}

struct Inner {
    accounts: Accounts,
    guard: Guard,
    refusals: Refusals,
}

/// How many refused attempts of strangers were audited in this minute.
#[derive(Default)]
struct Refusals {
    minute: u64,
    audited: u32,
    left_out: u32,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").finish_non_exhaustive()
    }
}

/// Why nobody can be let in.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// The store cannot be read.
    #[error("who may use the API cannot be read from the store")]
    Store(#[from] QueryError),
    /// The store has something else.
    #[error("who may use the API is not readable in the store; was it written by a newer release?")]
    Content(#[from] serde_json::Error),
    /// No randomness, no secrets.
    #[error("the system gives no random numbers")]
    Random,
}

impl Door {
    /// With those whom the store knows.
    pub(super) fn open(store: &Store) -> Result<Self, DoorError> {
        let accounts = match store.load_accounts()? {
            Some(json) => serde_json::from_str(&json)?,
            None => Accounts::default(),
        };
        let nobody =
            PasswordHash::of_nobody(random().ok_or(DoorError::Random)?).map_err(|_| DoorError::Random)?;
        Ok(Self {
            inner: Arc::new(Mutex::new(Inner {
                accounts,
                guard: Guard::default(),
                refusals: Refusals::default(),
            })),
            hashing: Arc::new(Semaphore::new(HASHES_AT_ONCE)),
            nobody: Arc::new(nobody),
            store: store.clone(),
        })
    }

    /// A link for the first administrator, while there is none.
    pub(super) fn first_link(&self, now: Micros) -> Option<Secret> {
        let secret = Secret::new(random()?);
        let mut inner = self.lock();
        inner.accounts.first_link(&secret, now).ok()?;
        self.keep(&inner.accounts);
        Some(secret)
    }

    /// Looks at who is known.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Accounts) -> T) -> T {
        look(&self.lock().accounts)
    }

    /// Changes who is known, and keeps it before it is answered: a token that was removed must not come back with the next
    /// start.
    pub(super) async fn change<T>(
        &self,
        change: impl FnOnce(&mut Accounts) -> Result<T, Refusal>,
    ) -> Result<T, Problem> {
        let done = {
            let mut inner = self.lock();
            let done = change(&mut inner.accounts)?;
            self.keep(&inner.accounts);
            done
        };
        let store = self.store.clone();
        match tokio::task::spawn_blocking(move || store.flush(KEEP_LIMIT)).await {
            Ok(true) => Ok(done),
            Ok(false) | Err(_) => Err(Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "done, but the store does not take it: it counts until the SCS ends; look at the disk of its store",
            )),
        }
    }

    /// Whom a session is of, as log and audit have it, and what that one may do.
    pub(super) fn session(&self, secret: &Secret, now: Micros) -> Option<(String, Role)> {
        let mut inner = self.lock();
        let vouched = inner.accounts.is_vouched(secret);
        let (name, role, noted) = inner.accounts.session(secret, now)?;
        if noted {
            self.keep(&inner.accounts);
        }
        Some((if vouched { by_provider(&name) } else { name.to_string() }, role))
    }

    /// Begins a session of somebody whom the identity provider knows.
    pub(super) fn let_in(&self, name: &Name, vouched: Vouched, now: Micros) -> Option<Secret> {
        let secret = Secret::new(random()?);
        let mut inner = self.lock();
        inner.accounts.let_in(name, vouched, &secret, now);
        self.keep(&inner.accounts);
        Some(secret)
    }

    /// Ends sessions that began by an identity provider under other settings.
    pub(super) fn end_vouched_but(&self, settings: Option<&str>) {
        let mut inner = self.lock();
        if inner.accounts.end_vouched_but(settings) > 0 {
            self.keep(&inner.accounts);
        }
    }

    /// Whether a caller is still let in, who reads on for hours.
    pub(super) fn admits(&self, caller: &Caller, now: Micros) -> bool {
        match &caller.proof {
            Proof::Connection => true,
            Proof::Session(secret) => self.session(secret, now).is_some(),
            Proof::Token(secret) => self.lock().accounts.token(secret, now).is_some(),
        }
    }

    /// The token of a secret.
    pub(super) fn token(&self, text: &str, now: Micros) -> Option<(Secret, Token)> {
        let secret: Secret = text.parse().ok()?;
        let token = self.lock().accounts.token(&secret, now)?.clone();
        Some((secret, token))
    }

    /// Checks a password and begins a session. Takes as long for a name that does not exist.
    pub(super) async fn log_in(
        &self,
        user: &str,
        password: String,
        source: IpAddr,
        now: Micros,
    ) -> Result<Secret, Denied> {
        let name: Option<Name> = user.parse().ok();
        self.lock().guard.admit(user, source, now)?;
        let hash = name.as_ref().and_then(|name| self.lock().accounts.password_of(name).cloned());
        let hash = hash.unwrap_or_else(|| PasswordHash::clone(&self.nobody));
        let right = self.hash(move || hash.is_of(&password)).await?;
        let secret = Secret::new(random().ok_or(Denied::Busy)?);
        let mut inner = self.lock();
        let name = name.filter(|name| right && inner.accounts.log_in(name, &secret, now).is_ok());
        let Some(name) = name else {
            inner.guard.wrong(user, source, now);
            return Err(Denied::Wrong);
        };
        inner.guard.right(name.as_str());
        self.keep(&inner.accounts);
        Ok(secret)
    }

    /// Sets a password by a one-time link.
    pub(super) async fn use_link(
        &self,
        secret: &Secret,
        name: Option<Name>,
        password: String,
        now: Micros,
    ) -> Result<Name, Problem> {
        let whose = self.look(|accounts| accounts.for_whom(secret, name.as_ref(), now))?;
        let salt = random().ok_or(Denied::Busy)?;
        let hash = self.hash(move || PasswordHash::new(&password, whose.as_str(), salt)).await?;
        let hash = hash.map_err(|error| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
        self.change(|accounts| accounts.use_link(secret, name.as_ref(), hash, now)).await
    }

    /// A secret for somebody.
    pub(super) fn secret(&self) -> Result<Secret, Problem> {
        Ok(Secret::new(random().ok_or(Denied::Busy)?))
    }

    /// Puts into the audit what somebody did or tried.
    pub(super) fn audit(&self, record: AuditRecord) {
        self.store.write(StoreItem::Audit(record));
    }

    /// Puts into the audit what a stranger tried; not more than [`STRANGERS_A_MINUTE`], or a stranger could fill the disk.
    pub(super) fn audit_stranger(&self, mut record: AuditRecord) {
        let left_out = {
            let refusals = &mut self.lock().refusals;
            let minute = record.at.0 / 60_000_000;
            if refusals.minute != minute {
                (refusals.minute, refusals.audited) = (minute, 0);
            }
            if refusals.audited >= STRANGERS_A_MINUTE {
                refusals.left_out = refusals.left_out.saturating_add(1);
                return;
            }
            refusals.audited += 1;
            std::mem::take(&mut refusals.left_out)
        };
        if left_out > 0 {
            record.result =
                format!("{} ({left_out} more attempts of strangers before this one)", record.result);
        }
        self.audit(record);
    }

    /// Runs what takes a core for a while, not more at once than the host can bear beside its work.
    async fn hash<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Denied> {
        let place = timeout(HASH_WAIT, Arc::clone(&self.hashing).acquire_owned()).await;
        let Ok(Ok(_place)) = place else { return Err(Denied::Busy) };
        tokio::task::spawn_blocking(work).await.map_err(|_| Denied::Busy)
    }

    fn keep(&self, accounts: &Accounts) {
        let json = serde_json::to_string(accounts).expect("plain data with text keys has a JSON form");
        self.store.write(StoreItem::Accounts(json));
    }

    /// Nothing in here panics half way through a change, so a poisoned lock guards good data.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Denied {
    /// The same for a wrong name and a wrong password: which of them it was is nobody's business.
    #[error("that name and password, or that token, do not let anybody in")]
    Wrong,
    /// Guessed too often.
    #[error(transparent)]
    Locked(#[from] Locked),
    /// Too many at once.
    #[error("too many logins at once; try again in a few seconds")]
    Busy,
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        let status = match denied {
            Denied::Wrong => StatusCode::UNAUTHORIZED,
            Denied::Locked(_) => StatusCode::TOO_MANY_REQUESTS,
            Denied::Busy => StatusCode::SERVICE_UNAVAILABLE,
        };
        Problem::new(status, denied.to_string())
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let status = match &refusal {
            Refusal::NoUser(_) | Refusal::NoToken(_) | Refusal::NoLink => StatusCode::NOT_FOUND,
            Refusal::NoName | Refusal::OtherName(_) | Refusal::Expired => StatusCode::UNPROCESSABLE_ENTITY,
            Refusal::UserExists(_)
            | Refusal::LastAdministrator(_)
            | Refusal::TooMany(_)
            | Refusal::NotFirst => StatusCode::CONFLICT,
        };
        Problem::new(status, refusal.to_string())
    }
}

/// How somebody is called whom the identity provider knows: no user has a name with a space.
pub(super) fn by_provider(name: &Name) -> String {
    format!("sso {name}")
}

fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(bytes)
}
