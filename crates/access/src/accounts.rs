//! Users, one-time links, tokens and sessions: one value, kept whole by whoever owns it.

use crate::{Digest, Name, PasswordHash, Role, Secret};
use domain::{Micros, PairName};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Most users.
pub const MAX_USERS: usize = 1_000;
/// Most tokens.
pub const MAX_TOKENS: usize = 1_000;
/// Most links that nobody has used yet.
pub const MAX_LINKS: usize = 1_000;
/// Most sessions; one more ends the one that was used longest ago.
pub const MAX_SESSIONS: usize = 2_000;

/// How long a one-time link can be used.
const LINK_LIFE: Duration = Duration::from_secs(24 * 3_600);
/// A session ends when nobody has used it for so long.
const IDLE: Duration = Duration::from_secs(3_600);
/// A session ends so long after its login, used or not: a shift, and some.
const LIFE: Duration = Duration::from_secs(12 * 3_600);
/// A session's use is noted this often.
const NOTE: Duration = Duration::from_secs(60);

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// What the user may do.
    pub role: Role,
    /// None: a link was sent and has not been used yet.
    pub password: Option<PasswordHash>,
    /// Locked by an administrator.
    pub disabled: bool,
    /// Since when there is such a user.
    pub created: Micros,
}

/// What a one-time link is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grant {
    /// Whoever has it becomes an administrator, by a name of their choice: for an installation without one.
    FirstAdministrator,
    /// This user sets a password, the first or another.
    Password(Name),
}

/// A one-time link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// What it is for.
    pub grant: Grant,
    /// When it can no longer be used.
    pub expires: Micros,
}

/// Number of a token; they grow and are not given out again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenId(pub u64);

/// A program's right to use the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// What it is called, in the audit too.
    pub name: Name,
    /// What it may do.
    pub role: Role,
    /// To which pairs its orders may be; none: to all.
    pub pairs: Option<BTreeSet<PairName>>,
    /// When it can no longer be used.
    pub expires: Micros,
    /// Since when it can be.
    pub created: Micros,
    /// What is kept of it.
    digest: Digest,
}

/// A login of a browser.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Whose.
    pub user: Name,
    /// When the login was.
    pub begun: Micros,
    /// When it was used last, to the minute.
    pub used: Micros,
    /// Of somebody whom an identity provider knows; none: of a user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vouched: Option<Vouched>,
}

/// What an identity provider's word is worth, at the time of the login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vouched {
    /// What that one may do, for as long as the session lasts.
    pub role: Role,
    /// Stands for the settings by which it was so; under others the session counts no more.
    pub settings: String,
}

/// Who may use the interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Accounts {
    users: BTreeMap<Name, User>,
    links: BTreeMap<Digest, Link>,
    tokens: BTreeMap<TokenId, Token>,
    last_token: u64,
    sessions: BTreeMap<Digest, Session>,
}

/// Why something is not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is such a user.
    #[error("there is a user {0} already")]
    UserExists(Name),
    /// There is no such user.
    #[error("there is no user {0}")]
    NoUser(Name),
    /// There is no such token.
    #[error("there is no token {}", .0.0)]
    NoToken(TokenId),
    /// It would lock everybody out.
    #[error("{0} is the last administrator who can log in; make another one first")]
    LastAdministrator(Name),
    /// Used, expired or never given out.
    #[error("this link cannot be used: it was used already, or it is older than a day; ask for another one")]
    NoLink,
    /// An administrator's link needs a name.
    #[error("the first administrator needs a name")]
    NoName,
    /// The link is for somebody else.
    #[error("this link is for {0}")]
    OtherName(Name),
    /// Too many.
    #[error("there are as many {0} as there may be; remove some that nobody needs")]
    TooMany(&'static str),
    /// There is an administrator who can log in.
    #[error(
        "there is an administrator already; have another link made for that one, by an administrator or on the SCS's host"
    )]
    NotFirst,
    /// The time is past.
    #[error("it would have expired already")]
    Expired,
}

impl Accounts {
    /// Users by name.
    #[must_use]
    pub fn users(&self) -> &BTreeMap<Name, User> {
        &self.users
    }

    /// Tokens by number, those that expired too.
    #[must_use]
    pub fn tokens(&self) -> &BTreeMap<TokenId, Token> {
        &self.tokens
    }

    /// Whether anybody can log in as an administrator.
    #[must_use]
    pub fn has_administrator(&self) -> bool {
        self.users.values().any(User::can_administer)
    }

    /// Makes a link that makes the first administrator. One made before is of no more use.
    ///
    /// # Errors
    /// [`Refusal::NotFirst`].
    pub fn first_link(&mut self, secret: &Secret, now: Micros) -> Result<Link, Refusal> {
        if self.has_administrator() {
            return Err(Refusal::NotFirst);
        }
        self.links.retain(|_, link| link.grant != Grant::FirstAdministrator);
        self.add_link(Grant::FirstAdministrator, secret, now)
    }

    /// Makes a user, who sets a password by the link that `secret` makes.
    ///
    /// # Errors
    /// [`Refusal::UserExists`], [`Refusal::TooMany`].
    pub fn add_user(
        &mut self,
        name: &Name,
        role: Role,
        secret: &Secret,
        now: Micros,
    ) -> Result<Link, Refusal> {
        if self.users.contains_key(name) {
            return Err(Refusal::UserExists(name.clone()));
        }
        if self.users.len() >= MAX_USERS {
            return Err(Refusal::TooMany("users"));
        }
        let link = self.add_link(Grant::Password(name.clone()), secret, now)?;
        let user = User { role, password: None, disabled: false, created: now };
        self.users.insert(name.clone(), user);
        Ok(link)
    }

    /// Makes a link by which a user sets another password; the old one counts until then. A link made before is of no more
    /// use.
    ///
    /// # Errors
    /// [`Refusal::NoUser`].
    pub fn password_link(&mut self, name: &Name, secret: &Secret, now: Micros) -> Result<Link, Refusal> {
        self.user(name)?;
        let grant = Grant::Password(name.clone());
        self.links.retain(|_, link| link.grant != grant);
        self.add_link(grant, secret, now)
    }

    /// What a link is for.
    #[must_use]
    pub fn link(&self, secret: &Secret, now: Micros) -> Option<&Link> {
        self.links.get(&secret.digest()).filter(|link| now < link.expires)
    }

    /// Whose password a link sets: checked before the password is hashed, which is costly. `name` is needed for the first
    /// administrator's link only.
    ///
    /// # Errors
    /// [`Refusal::NoLink`], [`Refusal::NoName`], [`Refusal::OtherName`], [`Refusal::UserExists`], [`Refusal::NotFirst`].
    pub fn for_whom(&self, secret: &Secret, name: Option<&Name>, now: Micros) -> Result<Name, Refusal> {
        match &self.link(secret, now).ok_or(Refusal::NoLink)?.grant {
            Grant::FirstAdministrator if self.has_administrator() => Err(Refusal::NotFirst),
            Grant::FirstAdministrator => {
                let name = name.ok_or(Refusal::NoName)?;
                let taken = self.users.contains_key(name);
                if taken { Err(Refusal::UserExists(name.clone())) } else { Ok(name.clone()) }
            }
            Grant::Password(user) if name.is_some_and(|name| name != user) => {
                Err(Refusal::OtherName(user.clone()))
            }
            Grant::Password(user) => Ok(user.clone()),
        }
    }

    /// Uses a link: the password is set, the link is gone, and so are the user's sessions.
    ///
    /// # Errors
    /// As [`Accounts::for_whom`].
    pub fn use_link(
        &mut self,
        secret: &Secret,
        name: Option<&Name>,
        password: PasswordHash,
        now: Micros,
    ) -> Result<Name, Refusal> {
        let name = self.for_whom(secret, name, now)?;
        self.links.remove(&secret.digest());
        let administrator = User { role: Role::Administrator, password: None, disabled: false, created: now };
        self.users.entry(name.clone()).or_insert(administrator).password = Some(password);
        self.end_sessions_of(&name);
        Ok(name)
    }

    /// Gives a user another role. Sessions go on with it.
    ///
    /// # Errors
    /// [`Refusal::NoUser`], [`Refusal::LastAdministrator`].
    pub fn set_role(&mut self, name: &Name, role: Role) -> Result<(), Refusal> {
        self.change(name, |user| user.role = role)
    }

    /// Locks a user out, or lets one in again. Sessions of one who is locked out end.
    ///
    /// # Errors
    /// [`Refusal::NoUser`], [`Refusal::LastAdministrator`].
    pub fn set_disabled(&mut self, name: &Name, disabled: bool) -> Result<(), Refusal> {
        self.change(name, |user| user.disabled = disabled)?;
        if disabled {
            self.end_sessions_of(name);
        }
        Ok(())
    }

    /// Removes a user with sessions and links.
    ///
    /// # Errors
    /// [`Refusal::NoUser`], [`Refusal::LastAdministrator`].
    pub fn remove_user(&mut self, name: &Name) -> Result<(), Refusal> {
        // What counts is that somebody else can log in as an administrator.
        self.change(name, |user| user.disabled = true)?;
        self.users.remove(name);
        self.links.retain(|_, link| link.grant != Grant::Password(name.clone()));
        self.end_sessions_of(name);
        Ok(())
    }

    /// The hash to check a login's password against; none: nobody can log in by that name.
    #[must_use]
    pub fn password_of(&self, name: &Name) -> Option<&PasswordHash> {
        self.users.get(name).filter(|user| !user.disabled)?.password.as_ref()
    }

    /// Begins the session of a user whose password was right. Whether the user has been removed or locked out since it was
    /// looked up is looked at again.
    ///
    /// # Errors
    /// [`Refusal::NoUser`].
    pub fn log_in(&mut self, name: &Name, secret: &Secret, now: Micros) -> Result<Session, Refusal> {
        self.password_of(name).ok_or_else(|| Refusal::NoUser(name.clone()))?;
        let session = Session { user: name.clone(), begun: now, used: now, vouched: None };
        Ok(self.begin(session, secret, now))
    }

    /// Begins the session of somebody whom an identity provider knows by that name, which says nothing of a user of the same
    /// name here.
    pub fn let_in(&mut self, name: &Name, vouched: Vouched, secret: &Secret, now: Micros) -> Session {
        let session = Session { user: name.clone(), begun: now, used: now, vouched: Some(vouched) };
        self.begin(session, secret, now)
    }

    /// Ends sessions that began by an identity provider's word under other settings than these. Returns how many.
    pub fn end_vouched_but(&mut self, settings: Option<&str>) -> usize {
        let before = self.sessions.len();
        self.sessions.retain(|_, session| {
            session.vouched.as_ref().is_none_or(|vouched| Some(vouched.settings.as_str()) == settings)
        });
        before - self.sessions.len()
    }

    /// Whether a session began by an identity provider's word.
    #[must_use]
    pub fn is_vouched(&self, secret: &Secret) -> bool {
        self.sessions.get(&secret.digest()).is_some_and(|session| session.vouched.is_some())
    }

    fn begin(&mut self, session: Session, secret: &Secret, now: Micros) -> Session {
        self.sessions.retain(|_, session| session.lives(now));
        if self.sessions.len() >= MAX_SESSIONS {
            let idlest =
                self.sessions.iter().min_by_key(|(_, session)| session.used).map(|(digest, _)| *digest);
            idlest.map(|digest| self.sessions.remove(&digest));
        }
        self.sessions.insert(secret.digest(), session.clone());
        session
    }

    /// Ends a session. Returns whose it was.
    pub fn log_out(&mut self, secret: &Secret) -> Option<Name> {
        self.sessions.remove(&secret.digest()).map(|session| session.user)
    }

    /// Whose session this is and what that one may do now; none: it has ended. Says too whether its use was noted, which is
    /// a change worth keeping.
    pub fn session(&mut self, secret: &Secret, now: Micros) -> Option<(Name, Role, bool)> {
        let digest = secret.digest();
        let session = self.sessions.get_mut(&digest)?;
        let role = match &session.vouched {
            Some(vouched) => Some(vouched.role),
            None => self.users.get(&session.user).filter(|user| !user.disabled).map(|user| user.role),
        };
        let Some(role) = role.filter(|_| session.lives(now)) else {
            self.sessions.remove(&digest);
            return None;
        };
        let noted = now.since(session.used) >= NOTE;
        if noted {
            session.used = now;
        }
        Some((session.user.clone(), role, noted))
    }

    /// Makes a token.
    ///
    /// # Errors
    /// [`Refusal::TooMany`], [`Refusal::Expired`].
    pub fn add_token(
        &mut self,
        name: Name,
        role: Role,
        pairs: Option<BTreeSet<PairName>>,
        expires: Micros,
        secret: &Secret,
        now: Micros,
    ) -> Result<TokenId, Refusal> {
        if expires <= now {
            return Err(Refusal::Expired);
        }
        if self.tokens.len() >= MAX_TOKENS {
            return Err(Refusal::TooMany("tokens"));
        }
        self.last_token += 1;
        let id = TokenId(self.last_token);
        self.tokens.insert(id, Token { name, role, pairs, expires, created: now, digest: secret.digest() });
        Ok(id)
    }

    /// Removes a token.
    ///
    /// # Errors
    /// [`Refusal::NoToken`].
    pub fn remove_token(&mut self, id: TokenId) -> Result<Token, Refusal> {
        self.tokens.remove(&id).ok_or(Refusal::NoToken(id))
    }

    /// The token that this secret is of.
    #[must_use]
    pub fn token(&self, secret: &Secret, now: Micros) -> Option<&Token> {
        let digest = secret.digest();
        self.tokens.values().find(|token| token.digest == digest && now < token.expires)
    }

    fn user(&self, name: &Name) -> Result<&User, Refusal> {
        self.users.get(name).ok_or_else(|| Refusal::NoUser(name.clone()))
    }

    /// Changes a user, unless nobody could administer any more after it who could before.
    fn change(&mut self, name: &Name, change: impl FnOnce(&mut User)) -> Result<(), Refusal> {
        let mut changed = self.user(name)?.clone();
        change(&mut changed);
        let others = self.users.iter().any(|(other, user)| other != name && user.can_administer());
        if self.user(name)?.can_administer() && !changed.can_administer() && !others {
            return Err(Refusal::LastAdministrator(name.clone()));
        }
        self.users.insert(name.clone(), changed);
        Ok(())
    }

    fn add_link(&mut self, grant: Grant, secret: &Secret, now: Micros) -> Result<Link, Refusal> {
        self.links.retain(|_, link| now < link.expires);
        if self.links.len() >= MAX_LINKS {
            return Err(Refusal::TooMany("links"));
        }
        let link = Link { grant, expires: now + LINK_LIFE };
        self.links.insert(secret.digest(), link.clone());
        Ok(link)
    }

    fn end_sessions_of(&mut self, name: &Name) {
        self.sessions.retain(|_, session| session.user != *name || session.vouched.is_some());
    }
}

impl User {
    fn can_administer(&self) -> bool {
        self.role == Role::Administrator && !self.disabled && self.password.is_some()
    }
}

impl Session {
    /// When it ends, used or not.
    #[must_use]
    pub fn ends(&self) -> Micros {
        self.begun + LIFE
    }

    fn lives(&self, now: Micros) -> bool {
        now < self.ends() && now.since(self.used) < IDLE
    }
}

#[cfg(test)]
mod tests;
