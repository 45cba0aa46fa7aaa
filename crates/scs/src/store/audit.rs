//! The audit as a chain: each record carries the SHA-256 of itself and of the digest before it, so a record that was changed,
//! removed or put in afterwards is found. Whoever can write the file can also make a whole new chain: against that, keep the
//! newest number and digest elsewhere from time to time and compare.
//!
//! Retention removes the oldest records; the digest of the last one removed stays as what the chain begins with.

use super::open::open_read_only;
use super::{AuditRecord, QueryError, Store, from_sql, to_sql};
use domain::Micros;
use rusqlite::{Connection, OptionalExtension, Row};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::path::Path;

/// Digest of a record; all zeros where there is none before the first.
pub(super) type Digest = [u8; 32];

/// What a look at the whole audit found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AuditVerdict {
    /// How many records there are.
    pub records: u64,
    /// Number of the oldest; none: there is no record.
    pub first: Option<u64>,
    /// Number of the newest.
    pub last: Option<u64>,
    /// Digest of the newest, 64 hexadecimal digits; with its number, what to keep elsewhere.
    pub head: String,
    /// The first record that does not fit; none: all fit.
    pub broken: Option<BrokenLink>,
}

/// Where the chain does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct BrokenLink {
    /// Number of the record.
    pub number: u64,
    /// What is wrong with it.
    pub why: String,
}

impl Store {
    /// Looks whether every audit record is as it was written and none is missing.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn verify_audit(&self) -> Result<AuditVerdict, QueryError> {
        verify_audit(self.path())
    }
}

/// [`Store::verify_audit`] for a file, whether an SCS has it open or not. Takes about a second for a million records.
///
/// # Errors
/// [`QueryError`]: also where the file is none of this release's stores.
pub fn verify_audit(path: &Path) -> Result<AuditVerdict, QueryError> {
    let connection = open_read_only(path)?;
    // One transaction: records that come in meanwhile belong to the next look.
    let transaction = connection.unchecked_transaction()?;
    let chain = Chain::load(&transaction)?;
    let mut statement = transaction.prepare(&format!("SELECT {COLUMNS}, digest FROM audit ORDER BY seq"))?;
    let mut rows = statement.query([])?;
    let (mut before, mut number) = (chain.anchor, chain.anchor_number);
    let mut verdict =
        AuditVerdict { records: 0, first: None, last: None, head: hex(&chain.head), broken: None };
    while let Some(row) = rows.next()? {
        let (seq, record) = read(row)?;
        let kept: Option<Vec<u8>> = row.get(7)?;
        verdict.records += 1;
        verdict.first.get_or_insert(seq);
        verdict.last = Some(seq);
        if verdict.broken.is_some() {
            continue;
        }
        let digest = digest_of(&before, seq, &record);
        let why = if seq != number + 1 {
            Some(format!("the records before it are missing, from {} on", number + 1))
        } else if kept.as_deref() != Some(&digest) {
            Some("it is not as it was written, or what was before it is not".to_owned())
        } else {
            None
        };
        verdict.broken = why.map(|why| BrokenLink { number: seq, why });
        (before, number) = (digest, seq);
    }
    if verdict.broken.is_none() && (number, before) != (chain.head_number, chain.head) {
        let why = "the newest records are missing, from this one on".to_owned();
        verdict.broken = Some(BrokenLink { number: number + 1, why });
    }
    Ok(verdict)
}

/// Both ends of the chain, as the file has them.
struct Chain {
    /// Number of the last record that retention removed; 0: none was.
    anchor_number: u64,
    anchor: Digest,
    /// Number of the newest record; 0: there never was one.
    head_number: u64,
    head: Digest,
}

impl Chain {
    fn load(connection: &Connection) -> rusqlite::Result<Self> {
        connection.query_row("SELECT anchor_number, anchor, head_number, head FROM audit_chain", [], |row| {
            Ok(Self {
                anchor_number: from_sql(row.get(0)?),
                anchor: row.get(1)?,
                head_number: from_sql(row.get(2)?),
                head: row.get(3)?,
            })
        })
    }
}

/// Puts a record behind the newest one.
pub(super) fn append(connection: &Connection, record: &AuditRecord) -> rusqlite::Result<()> {
    let chain = Chain::load(connection)?;
    let number = chain.head_number + 1;
    let digest = digest_of(&chain.head, number, record);
    connection
        .prepare_cached(
            "INSERT INTO audit (seq, at, who, source, what, reason, result, digest) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute((
            to_sql(number),
            to_sql(record.at.0),
            &record.who,
            &record.from,
            &record.what,
            &record.reason,
            &record.result,
            &digest,
        ))?;
    set_head(connection, number, &digest)
}

/// Chains the records of a file that was written before there was a chain.
pub(super) fn chain_old_records(connection: &Connection) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(&format!("SELECT {COLUMNS} FROM audit ORDER BY seq"))?;
    let records = statement.query_map([], read)?.collect::<Result<Vec<_>, _>>()?;
    let Some((first, _)) = records.first() else { return Ok(()) };
    connection.execute("UPDATE audit_chain SET anchor_number = ?1", [to_sql(first.saturating_sub(1))])?;
    let mut before = Digest::default();
    for (number, record) in &records {
        before = digest_of(&before, *number, record);
        connection.execute("UPDATE audit SET digest = ?1 WHERE seq = ?2", (&before, to_sql(*number)))?;
        set_head(connection, *number, &before)?;
    }
    Ok(())
}

/// Deletes records from the oldest on, up to `most` of those that are not newer than `cutoff`; what is behind one that is newer
/// stays, whatever its own time. Returns how many.
pub(super) fn prune(connection: &Connection, cutoff: i64, most: i64) -> rusqlite::Result<usize> {
    let last: Option<(i64, Digest)> = connection
        .prepare_cached(
            "SELECT seq, digest FROM (SELECT seq, digest FROM audit
                 WHERE seq < coalesce((SELECT min(seq) FROM audit WHERE at > ?1), 9223372036854775807)
                 ORDER BY seq LIMIT ?2)
             ORDER BY seq DESC LIMIT 1",
        )?
        .query_row((cutoff, most), |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((seq, digest)) = last else { return Ok(0) };
    connection.execute("UPDATE audit_chain SET anchor_number = ?1, anchor = ?2", (seq, &digest))?;
    connection.prepare_cached("DELETE FROM audit WHERE seq <= ?1")?.execute([seq])
}

fn set_head(connection: &Connection, number: u64, digest: &Digest) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE audit_chain SET head_number = ?1, head = ?2")?
        .execute((to_sql(number), digest))?;
    Ok(())
}

/// Columns of a record in the order of [`read`].
pub(super) const COLUMNS: &str = "seq, at, who, source, what, reason, result";

pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<(u64, AuditRecord)> {
    let record = AuditRecord {
        at: Micros(from_sql(row.get(1)?)),
        who: row.get(2)?,
        from: row.get(3)?,
        what: row.get(4)?,
        reason: row.get(5)?,
        result: row.get(6)?,
    };
    Ok((from_sql(row.get(0)?), record))
}

/// Each text with its length before it, so that no two records have the same bytes.
fn digest_of(before: &Digest, number: u64, record: &AuditRecord) -> Digest {
    let AuditRecord { at, who, from, what, reason, result } = record;
    let mut hash = Sha256::new();
    hash.update(before);
    hash.update(number.to_be_bytes());
    hash.update(at.0.to_be_bytes());
    for text in [who, from, what, reason, result] {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
    hash.finalize().into()
}

fn hex(digest: &Digest) -> String {
    digest.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Retention, StoreItem};
    use std::time::Duration;

    fn store(directory: &Path) -> Store {
        let retention = Retention { keep: Duration::from_secs(36_500 * 86_400), keep_bytes: 1 << 30 };
        Store::open(&directory.join("takeover.db"), retention, |_| {}).unwrap()
    }

    fn record(n: u64) -> AuditRecord {
        let text = |what: &str| format!("{what} {n}");
        AuditRecord {
            at: Micros(n),
            who: text("who"),
            from: text("from"),
            what: text("what"),
            reason: text("reason"),
            result: text("result"),
        }
    }

    /// A file with `n` records, closed.
    fn written(directory: &Path, n: u64) -> Connection {
        let store = store(directory);
        for n in 1..=n {
            store.write(StoreItem::Audit(record(n)));
        }
        assert!(store.flush(Duration::from_secs(10)));
        Connection::open(directory.join("takeover.db")).unwrap()
    }

    fn broken(connection: &Connection) -> Option<u64> {
        verify_audit(Path::new(connection.path().unwrap())).unwrap().broken.map(|broken| broken.number)
    }

    #[test]
    fn an_untouched_audit_holds() {
        let directory = tempfile::tempdir().unwrap();
        let empty = store(directory.path()).verify_audit().unwrap();
        assert_eq!((empty.records, empty.last, empty.broken), (0, None, None));
        let file = written(directory.path(), 300);
        let verdict = verify_audit(Path::new(file.path().unwrap())).unwrap();
        assert_eq!((verdict.records, verdict.first, verdict.last), (300, Some(1), Some(300)));
        assert_eq!((verdict.broken, verdict.head.len()), (None, 64));
    }

    #[test]
    fn whatever_is_changed_is_found() {
        for (sql, at) in [
            ("UPDATE audit SET result = 'accepted' WHERE seq = 7", 7),
            ("UPDATE audit SET at = 1 WHERE seq = 3", 3),
            ("UPDATE audit SET who = 'who 4reason' WHERE seq = 4", 4),
            ("DELETE FROM audit WHERE seq = 5", 6),
            ("DELETE FROM audit WHERE seq = 1", 2),
            ("DELETE FROM audit WHERE seq > 8", 9),
            ("DELETE FROM audit", 1),
            ("UPDATE audit SET seq = 11 WHERE seq = 10", 11),
            (
                "INSERT INTO audit SELECT 11, at, who, source, what, reason, result, digest FROM audit WHERE seq = 10",
                11,
            ),
            ("UPDATE audit SET digest = NULL WHERE seq = 2", 2),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let file = written(directory.path(), 10);
            assert_eq!(broken(&file), None);
            file.execute(sql, []).unwrap();
            assert_eq!(broken(&file), Some(at), "{sql}");
        }
    }

    #[test]
    fn retention_leaves_a_chain_that_holds() {
        let directory = tempfile::tempdir().unwrap();
        let file = written(directory.path(), 10);
        assert_eq!(prune(&file, 6, 4).unwrap(), 4);
        assert_eq!(broken(&file), None);
        assert_eq!(prune(&file, 6, 4).unwrap(), 2);
        assert_eq!(prune(&file, 6, 4).unwrap(), 0);
        assert_eq!(broken(&file), None);
        assert_eq!(verify_audit(Path::new(file.path().unwrap())).unwrap().first, Some(7));
        file.execute("DELETE FROM audit WHERE seq = 7", []).unwrap();
        assert_eq!(broken(&file), Some(8), "what retention did not remove is missed");
        assert_eq!(prune(&file, 100, 100).unwrap(), 3);
        let again = written(directory.path(), 2);
        assert_eq!(broken(&again), None, "it goes on where it ended");
    }

    #[test]
    fn a_clock_that_was_put_back_breaks_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let file = written(directory.path(), 3);
        let store = store(directory.path());
        store.write(StoreItem::Audit(AuditRecord { at: Micros(1), ..record(4) }));
        assert!(store.flush(Duration::from_secs(10)));
        assert_eq!(prune(&file, 2, 100).unwrap(), 2, "record 4 waits for record 3");
        assert_eq!(broken(&file), None);
    }

    #[test]
    fn records_of_an_older_release_are_chained_when_they_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let file = written(directory.path(), 5);
        file.execute_batch(
            "DROP TABLE audit_chain; DROP TABLE accounts; DROP TABLE configurations; ALTER TABLE audit DROP COLUMN digest;
             DELETE FROM audit WHERE seq < 3; PRAGMA user_version = 1;",
        )
        .unwrap();
        let verdict = store(directory.path()).verify_audit().unwrap();
        assert_eq!((verdict.records, verdict.first, verdict.broken), (3, Some(3), None));
    }
}
