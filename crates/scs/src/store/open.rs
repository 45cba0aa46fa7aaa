//! Opening the file: made where there is none, migrated where it is of an older release, moved aside where it is
//! damaged, left alone where it is somebody else's.

use super::{Health, audit, to_sql, wall_clock};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// In the file's header (`PRAGMA application_id`): "TKOV".
const APPLICATION_ID: i64 = 0x544B_4F56;

/// How long a statement waits for another process that has the file locked, `sqlite3` or a backup for example.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Schema changes in order; the file's `PRAGMA user_version` says how many it has. Never edit one that was released:
/// add another behind it.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE durable (
        one INTEGER PRIMARY KEY CHECK (one = 1), at INTEGER NOT NULL, state TEXT NOT NULL
    ) STRICT;
    -- AUTOINCREMENT: who follows the log goes by `seq`, so a number must not come back after its row was pruned.
    CREATE TABLE log (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, id TEXT NOT NULL, level INTEGER NOT NULL,
        host TEXT, app TEXT, text TEXT NOT NULL, attributes TEXT NOT NULL
    ) STRICT;
    CREATE INDEX log_at ON log (at);
    CREATE TABLE incidents (
        id INTEGER PRIMARY KEY, pair TEXT NOT NULL, begun INTEGER NOT NULL, ended INTEGER, json TEXT NOT NULL
    ) STRICT;
    CREATE INDEX incidents_ended ON incidents (ended);
    CREATE TABLE alarms (
        number INTEGER PRIMARY KEY, raised INTEGER NOT NULL, ended INTEGER, ending TEXT, json TEXT NOT NULL
    ) STRICT;
    CREATE INDEX alarms_ended ON alarms (ended);
    CREATE TABLE audit (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, who TEXT NOT NULL, source TEXT NOT NULL,
        what TEXT NOT NULL, reason TEXT NOT NULL, result TEXT NOT NULL
    ) STRICT;
    CREATE INDEX audit_at ON audit (at);
", "
    CREATE TABLE accounts (
        one INTEGER PRIMARY KEY CHECK (one = 1), at INTEGER NOT NULL, state TEXT NOT NULL
    ) STRICT;
    ALTER TABLE audit ADD COLUMN digest BLOB;
    CREATE TABLE audit_chain (
        one INTEGER PRIMARY KEY CHECK (one = 1), anchor_number INTEGER NOT NULL, anchor BLOB NOT NULL,
        head_number INTEGER NOT NULL, head BLOB NOT NULL
    ) STRICT;
    INSERT INTO audit_chain VALUES (1, 0, zeroblob(32), 0, zeroblob(32));
", "
    CREATE TABLE configurations (
        number INTEGER PRIMARY KEY, json TEXT NOT NULL, text TEXT NOT NULL
    ) STRICT;
"];
/// The one that made the audit a chain.
const CHAINED: usize = 1;

/// Why the store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A newer release has written it.
    #[error(
        "{path} was written by a newer release (schema {found}, this one knows {known}); \
         install that release again, or move the file away and begin a new one"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest schema that this release knows.
        known: usize,
    },
    /// It is a database of another program.
    #[error("{path} is the database of another program; name another file as the store")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file or its directory cannot be used.
    #[error("cannot use {path} as the store")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// SQLite refuses it.
    #[error("cannot open the store {path}")]
    Database {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// The writer's thread cannot be started.
    #[error("cannot start the thread of the store")]
    Thread {
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl OpenError {
    fn is_damage(&self) -> bool {
        match self {
            OpenError::Database { source, .. } => is_damage(source),
            OpenError::Newer { .. }
            | OpenError::Foreign { .. }
            | OpenError::File { .. }
            | OpenError::Thread { .. } => false,
        }
    }
}

/// Whether the file itself is broken, as opposed to the disk being full or the like.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Opens the file for writing; a damaged one is moved aside and the core's state carried over where it can be read.
pub(super) fn open_or_renew(path: &Path) -> Result<(Connection, Option<Health>), OpenError> {
    match open(path) {
        Ok(connection) => Ok((connection, None)),
        Err(error) if error.is_damage() => {
            renew(path, &error.to_string_with_source()).map(|(c, h)| (c, Some(h)))
        }
        Err(error) => Err(error),
    }
}

/// Moves the file aside and begins a new one.
pub(super) fn renew(path: &Path, reason: &str) -> Result<(Connection, Health), OpenError> {
    let old = open_read_only(path).ok();
    let durable = old.as_ref().and_then(|connection| load_durable(connection).ok().flatten());
    let accounts = old.as_ref().and_then(|connection| load_accounts(connection).ok().flatten());
    drop(old);
    let moved_to = move_aside(path)?;
    let connection = open(path)?;
    if let Some(state) = &durable {
        save_durable(&connection, state).map_err(|source| database(path, source))?;
    }
    if let Some(state) = &accounts {
        save_accounts(&connection, state).map_err(|source| database(path, source))?;
    }
    Ok((
        connection,
        Health::Renewed { moved_to, reason: reason.to_owned(), durable_saved: durable.is_some() },
    ))
}

/// A connection for queries. Its own for each query: opening one takes a fraction of a millisecond, and so no thread
/// of the API waits for another, nor reads on from a file that was moved aside.
pub(super) fn open_read_only(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

pub(super) fn load_durable(connection: &Connection) -> rusqlite::Result<Option<String>> {
    connection.query_row("SELECT state FROM durable", [], |row| row.get(0)).optional()
}

/// Writes the core's state; on the disk, not only on its way there, when this returns.
pub(super) fn save_durable(connection: &Connection, state: &str) -> rusqlite::Result<()> {
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection
        .prepare_cached("INSERT OR REPLACE INTO durable (one, at, state) VALUES (1, ?1, ?2)")?
        .execute((to_sql(wall_clock().0), state))?;
    Ok(())
}

pub(super) fn load_accounts(connection: &Connection) -> rusqlite::Result<Option<String>> {
    connection.query_row("SELECT state FROM accounts", [], |row| row.get(0)).optional()
}

pub(super) fn save_accounts(connection: &Connection, state: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO accounts (one, at, state) VALUES (1, ?1, ?2)")?
        .execute((to_sql(wall_clock().0), state))?;
    Ok(())
}

fn open(path: &Path) -> Result<Connection, OpenError> {
    // Made here and not by SQLite, for its mode: the log may tell what is nobody else's business. SQLite gives the same
    // mode to the write-ahead log.
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|source| file_error(path, source))?;
    let failed = |source| database(path, source);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    check_origin(&connection, path)?;
    configure(&connection).map_err(failed)?;
    migrate(&mut connection).map_err(failed)?;
    touch_everything(&connection).map_err(failed)?;
    Ok(connection)
}

/// Refuses what is not ours to write.
fn check_origin(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let failed = |source| database(path, source);
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(failed);
    if number("SELECT count(*) FROM sqlite_schema")? > 0 && number("PRAGMA application_id")? != APPLICATION_ID
    {
        return Err(OpenError::Foreign { path: path.to_owned() });
    }
    let found = number("PRAGMA user_version")?;
    if usize::try_from(found).is_ok_and(|found| found <= MIGRATIONS.len()) {
        Ok(())
    } else {
        Err(OpenError::Newer { path: path.to_owned(), found, known: MIGRATIONS.len() })
    }
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    // Before the first table, or it has no effect: lets the file shrink when less is to be kept.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    // After a burst the write-ahead log shrinks to this again.
    connection.query_row("PRAGMA journal_size_limit = 16777216", [], |_| Ok(()))?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(())
}

fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let done: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let done = usize::try_from(done).unwrap_or(usize::MAX);
    for (index, sql) in MIGRATIONS.iter().enumerate().skip(done) {
        transaction.execute_batch(sql)?;
        if index == CHAINED {
            audit::chain_old_records(&transaction)?;
        }
        transaction.pragma_update(None, "user_version", to_sql(index as u64 + 1))?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.commit()
}

/// Reads a little of every table and index, so that coarse damage shows now and not in the middle of a takeover. Reading
/// all of it (`PRAGMA quick_check`) would delay the start by seconds; finer damage is dealt with when it is met.
fn touch_everything(connection: &Connection) -> rusqlite::Result<()> {
    load_durable(connection)?;
    for (table, key, index) in [
        ("log", "seq", "at"),
        ("incidents", "id", "ended"),
        ("alarms", "number", "ended"),
        ("audit", "seq", "at"),
    ] {
        for order in ["ASC", "DESC"] {
            for column in [key, index] {
                let sql = format!("SELECT * FROM {table} ORDER BY {column} {order} LIMIT 1");
                connection.query_row(&sql, [], |_| Ok(())).optional()?;
            }
        }
    }
    Ok(())
}

/// Renames the file and what belongs to it; a write-ahead log left behind would be replayed into the new file.
fn move_aside(path: &Path) -> Result<PathBuf, OpenError> {
    let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let free = |n: u32| {
        let again = if n == 0 { String::new() } else { format!("-{n}") };
        with_suffix(path, &format!(".damaged-{stamp}{again}"))
    };
    let target = (0..100).map(free).find(|target| !target.exists()).unwrap_or_else(|| free(100));
    for suffix in ["-wal", "-shm", ""] {
        let from = with_suffix(path, suffix);
        match std::fs::rename(&from, with_suffix(&target, suffix)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(file_error(&from, source)),
        }
    }
    Ok(target)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

fn file_error(path: &Path, source: io::Error) -> OpenError {
    OpenError::File { path: path.to_owned(), source }
}

fn database(path: &Path, source: rusqlite::Error) -> OpenError {
    OpenError::Database { path: path.to_owned(), source }
}

impl OpenError {
    fn to_string_with_source(&self) -> String {
        match std::error::Error::source(self) {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        }
    }
}
