//! The configurations that were in force, the newest ones, each with its text: what an operator rolls back to.

use super::open::open_read_only;
use super::writer::json;
use super::{QueryError, Store, to_sql};
use crate::configuration::Revision;
use rusqlite::{Connection, OptionalExtension};

/// How many are kept.
pub const MAX_REVISIONS: u64 = 100;

/// Keeps one, and removes the oldest beyond [`MAX_REVISIONS`].
pub(super) fn add(connection: &Connection, revision: &Revision, text: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO configurations (number, json, text) VALUES (?1, ?2, ?3)")?
        .execute((to_sql(revision.number), json(revision), text))?;
    connection
        .prepare_cached("DELETE FROM configurations WHERE number <= ?1")?
        .execute([to_sql(revision.number.saturating_sub(MAX_REVISIONS))])?;
    Ok(())
}

impl Store {
    /// The configurations that were in force, without their texts, the newest first.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn revisions(&self) -> Result<Vec<Revision>, QueryError> {
        let connection = open_read_only(self.path())?;
        let mut statement =
            connection.prepare("SELECT number, json FROM configurations ORDER BY number DESC")?;
        let rows = statement.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?;
        rows.map(|row| {
            let (number, json) = row?;
            decode(number, &json)
        })
        .collect()
    }

    /// One of them with its text; none: it never was, or is too old to be kept.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn revision(&self, number: u64) -> Result<Option<(Revision, String)>, QueryError> {
        let connection = open_read_only(self.path())?;
        let found = connection
            .prepare("SELECT number, json, text FROM configurations WHERE number = ?1")?
            .query_row([to_sql(number)], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
            })
            .optional()?;
        found.map(|(number, json, text)| Ok((decode(number, &json)?, text))).transpose()
    }
}

fn decode(number: i64, json: &str) -> Result<Revision, QueryError> {
    serde_json::from_str(json).map_err(|_| QueryError::Content { what: "configuration", number })
}
