//! Dialing one other part, one of its addresses after another, until it answers: a thread's work, since dialing blocks.
//! The SCS is dialed so, and each agent that this one is to dial (`meeting`).

use crate::say::Say;
use control_link::{Expected, Identity, IdentityError, Link, dial};
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::thread;
use std::time::Duration;

/// Pause after all addresses were tried once; doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(2);

/// Where the agent's certificate is.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The agent's certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The CA that both ends trust.
    pub ca: PathBuf,
}

impl Credentials {
    /// Reads them, as they are now.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn load(&self) -> Result<Identity, IdentityError> {
        Identity::load(&self.certificate, &self.key, &self.ca)
    }
}

/// Whom to dial, and as whom.
#[derive(Debug, Clone)]
pub struct Dialer {
    /// Where.
    pub addresses: Vec<SocketAddr>,
    /// Who must answer.
    pub expected: Expected,
    /// What people call it.
    pub whom: String,
    /// The agent's certificate.
    pub credentials: Credentials,
}

/// Order to dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dial {
    /// At once: the last connection was in use.
    AtOnce,
    /// After a pause: the last one was refused right away.
    AfterPause,
}

impl Dialer {
    /// Dials whenever it is ordered to, until the orders end.
    pub fn run(&self, mut identity: Identity, orders: &Receiver<Dial>, linked: impl Fn(Link), say: &Say) {
        let mut pause = FIRST_PAUSE;
        let (mut unlinked, mut unreadable) = (Once::default(), Once::default());
        while let Ok(order) = orders.recv() {
            match order {
                Dial::AtOnce => pause = FIRST_PAUSE,
                Dial::AfterPause => pause = rest(pause),
            }
            loop {
                // Certificates are replaced while the agent runs; the new ones count from the next attempt on.
                match self.credentials.load() {
                    Ok(new) => {
                        identity = new;
                        unreadable.good_news();
                    }
                    Err(e) => {
                        unreadable.say(say, format!("the certificate in use is kept: {}", chain(&e)));
                    }
                }
                match self.attempt(&identity) {
                    Ok(link) => {
                        unlinked.good_news();
                        linked(link);
                        break;
                    }
                    Err(why) => unlinked.say(say, format!("no connection to {}: {why}", self.whom)),
                }
                if orders.try_recv() == Err(TryRecvError::Disconnected) {
                    return;
                }
                pause = rest(pause);
            }
        }
    }

    /// Tries each address once. The error is a sentence.
    fn attempt(&self, identity: &Identity) -> Result<Link, String> {
        let mut failures = Vec::new();
        for address in &self.addresses {
            match dial(*address, identity, &self.expected, ATTEMPT) {
                Ok(link) => return Ok(link),
                Err(e) => failures.push(chain(&e)),
            }
        }
        Err(failures.join("; "))
    }
}

/// Sleeps for `pause`, half of it by chance so that the agents of a cluster do not all dial at once; returns the next one.
fn rest(pause: Duration) -> Duration {
    // Each RandomState has keys of its own.
    let chance = u32::try_from(RandomState::new().hash_one(0) % 1_000).expect("below 1,000");
    thread::sleep(pause / 2 + pause / 2 * chance / 1_000);
    (pause * 2).min(LONGEST_PAUSE)
}

/// Says each thing once, until there is good news: the same sentences again and again help nobody.
#[derive(Debug, Default)]
pub(crate) struct Once(Vec<String>);

impl Once {
    /// Different things that are said.
    const MOST: usize = 8;

    pub(crate) fn say(&mut self, say: &Say, sentence: String) {
        if self.0.len() < Self::MOST && !self.0.contains(&sentence) {
            say.warning(format_args!("{sentence}"));
            self.0.push(sentence);
        }
    }

    pub(crate) fn good_news(&mut self) {
        self.0.clear();
    }
}

/// An error with all its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}
