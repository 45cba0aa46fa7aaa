//! What the SCS keeps on disk: log events, incidents, alarms, the audit, and the state that the decision core needs
//! after a restart. SQLite, one file, written by a thread of its own, so that nobody who hands something in ever waits
//! for the disk. What to keep, and what to do when the disk fails, is for the SCS to decide.
//!
//! ```text
//!  core ── write() ──> queue, in memory, bounded ──> writer thread ──> takeover.db (write-ahead log)
//!                                                      │    └─ retention, in small steps           ▲
//!                                                      └─ Health ──> SCS logs it      queries ─────┘ read-only
//! ```
//!
//! * Records are committed in batches with `synchronous = NORMAL`: whatever was committed survives a crash of the SCS;
//!   a power failure can cost the last moments but never the file (<https://www.sqlite.org/wal.html>, "Performance
//!   Considerations").
//! * The core's state is a transaction of its own with `synchronous = FULL`, so a power failure does not take an epoch
//!   back that agents have seen. Only the newest matters: older ones not yet written are skipped, so there is at most
//!   one flush of the disk at a time, however fast the state changes.
//! * When the disk is full or fails, records wait in memory and are tried again every second.

mod audit;
mod configurations;
mod open;
mod query;
mod queue;
mod retention;
mod writer;

pub use audit::{AuditVerdict, BrokenLink, verify_audit};
pub use configurations::MAX_REVISIONS;
pub use open::OpenError;
pub use query::{AlarmRecord, IncidentFilter, LogFilter, LogPage, LogRow, MAX_ROWS, QueryError};

use crate::configuration::Revision;
use domain::{Level, LogEvent, Micros};
use ha_core::Record;
use queue::Queue;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Records that wait in memory at most; see [`Store::write`].
pub const QUEUE_CAPACITY: usize = 100_000;

/// Something to keep.
#[derive(Debug, Clone, PartialEq)]
pub enum StoreItem {
    /// A log event. Those of level debug are not kept.
    Log(LogEvent),
    /// A record of the decision core.
    Record(Record),
    /// What an operator did or tried to do.
    Audit(AuditRecord),
    /// The core's state ([`ha_core::Durable`] as JSON); replaces the one before it.
    Durable(String),
    /// Who may use the API (`access::Accounts` as JSON); replaces what was before it.
    Accounts(String),
    /// A configuration that was put in force, with its text. The newest [`MAX_REVISIONS`] are kept.
    Configuration(Box<Revision>, String),
}

/// What an operator did or tried to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AuditRecord {
    /// When, microseconds since the Unix epoch.
    pub at: Micros,
    /// Who: the user of the Unix socket's peer, or the name in the client certificate.
    pub who: String,
    /// From where: the peer's address, or "unix" with the peer's process id.
    pub from: String,
    /// What was ordered.
    pub what: String,
    /// The reason given; may be empty.
    pub reason: String,
    /// What came of it.
    pub result: String,
}

/// How the store fares. Told once per change, on the writer's thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Nothing can be written, or not as fast as it comes in; records wait in memory.
    Failed {
        /// Why, with the remedy where there is one.
        reason: String,
        /// How many wait.
        waiting: usize,
    },
    /// It works again, all that waited is written or soon will be.
    Back {
        /// How long it did not work.
        lasted: Duration,
        /// How many records were dropped meanwhile because too many waited.
        dropped: u64,
    },
    /// The file was damaged: it was moved aside and a new one begun.
    Renewed {
        /// Where the damaged file is now.
        moved_to: PathBuf,
        /// What was wrong with it.
        reason: String,
        /// Whether the core's state could be saved from it.
        durable_saved: bool,
    },
}

/// How long and how much is kept. Open incidents and active alarms are kept whatever this says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// How long records are kept.
    pub keep: Duration,
    /// How large the file may grow, bytes; the oldest records go first.
    pub keep_bytes: u64,
}

/// The store. Cheap to clone; the writer ends when the last clone is gone.
#[derive(Debug, Clone)]
pub struct Store(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    queue: Arc<Queue>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl Store {
    /// Opens the store, makes or migrates it where needed, and starts its writer. `health` is called on the writer's
    /// thread, but for a damaged file found now, which it is told before this returns.
    ///
    /// # Errors
    /// [`OpenError`]: the file cannot be used, and moving it aside would be wrong or did not help.
    pub fn open(
        path: &Path,
        retention: Retention,
        health: impl Fn(Health) + Send + 'static,
    ) -> Result<Self, OpenError> {
        let (connection, renewed) = open::open_or_renew(path)?;
        renewed.into_iter().for_each(&health);
        let queue = Arc::new(Queue::new(QUEUE_CAPACITY, retention));
        let writer = writer::Writer::new(path.to_owned(), connection, Arc::clone(&queue), Box::new(health));
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || writer.run())
            .map_err(|source| OpenError::Thread { source })?;
        Ok(Self(Arc::new(Shared { path: path.to_owned(), queue })))
    }

    /// Hands `item` in. Never waits for the disk and never fails: while the store cannot write, up to
    /// [`QUEUE_CAPACITY`] items wait in memory; beyond that the oldest log events of the levels interaction and trace
    /// are dropped, then the oldest items of any kind. [`Health::Back`] says how many.
    pub fn write(&self, item: StoreItem) {
        self.0.queue.push(item);
    }

    /// Changes how much is kept.
    pub fn retain(&self, retention: Retention) {
        self.0.queue.set_retention(retention);
    }

    /// Waits until all that was handed in before is committed, at most for `limit`. Returns whether it is. For the end
    /// of the program and for tests.
    #[must_use]
    pub fn flush(&self, limit: Duration) -> bool {
        self.0.queue.flush(limit)
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }
}

/// Microseconds since the Unix epoch.
fn wall_clock() -> Micros {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Micros(u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX))
}

/// SQLite's integers are signed; times and numbers here never come near the difference.
fn to_sql(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn from_sql(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

/// Levels as the file has them; never renumber.
fn level_to_sql(level: Level) -> i64 {
    match level {
        Level::Alarm => 0,
        Level::Standard => 1,
        Level::Interaction => 2,
        Level::Trace => 3,
        Level::Debug => 4,
    }
}

fn level_from_sql(number: i64) -> Option<Level> {
    let all = [Level::Alarm, Level::Standard, Level::Interaction, Level::Trace, Level::Debug];
    all.into_iter().find(|level| level_to_sql(*level) == number)
}

#[cfg(test)]
mod tests;
