//! Pruning by age and by size, in steps small enough that the writer is never long away from its queue.

use super::{Retention, audit, to_sql, wall_clock};
use rusqlite::Connection;

/// Rows deleted from one table in one step at most.
const STEP: i64 = 500;
/// Pages given back to the file system in one step at most.
const VACUUM_PAGES: i64 = 256;

/// What may be pruned besides the audit, which is a chain: table, key, and the time that counts. Incidents and alarms count
/// from their end, so that open ones, which have none, are never touched.
const PRUNED: [(&str, &str, &str); 3] =
    [("log", "seq", "at"), ("incidents", "id", "ended"), ("alarms", "number", "ended")];

/// Prunes a little. Returns whether more is to be done.
pub(super) fn prune_some(connection: &mut Connection, limits: Retention) -> rusqlite::Result<bool> {
    let too_old = wall_clock() - limits.keep;
    if delete_until(connection, to_sql(too_old.0))? > 0 {
        return Ok(true);
    }
    let page = number(connection, "PRAGMA page_size")?;
    let pages = number(connection, "PRAGMA page_count")?;
    let free = number(connection, "PRAGMA freelist_count")?;
    let limit = to_sql(limits.keep_bytes);
    if (pages - free).saturating_mul(page) > limit
        && let Some(cutoff) = oldest_some(connection)?
        && delete_until(connection, cutoff)? > 0
    {
        return Ok(true);
    }
    // Pages that pruning freed are used again; they are given back only where less is to be kept than there was.
    if pages.saturating_mul(page) > limit && free > 0 {
        // This statement works as far as it is stepped, so it must be stepped to its end.
        let mut vacuum = connection.prepare(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
        let mut rows = vacuum.query([])?;
        while rows.next()?.is_some() {}
        return Ok(free > VACUUM_PAGES);
    }
    Ok(false)
}

/// Deletes what is not newer than `cutoff`, up to [`STEP`] rows of each table. Returns how many.
fn delete_until(connection: &mut Connection, cutoff: i64) -> rusqlite::Result<usize> {
    let transaction = connection.transaction()?;
    let mut deleted = 0;
    for (table, key, time) in PRUNED {
        deleted += transaction
            .prepare_cached(&format!(
                "DELETE FROM {table} WHERE {key} IN
                 (SELECT {key} FROM {table} WHERE {time} <= ?1 ORDER BY {time} LIMIT {STEP})"
            ))?
            .execute([cutoff])?;
    }
    deleted += audit::prune(&transaction, cutoff, STEP)?;
    transaction.commit()?;
    Ok(deleted)
}

/// The time of the last of the [`STEP`] oldest rows, whichever table they are in.
fn oldest_some(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    let of_each = PRUNED.map(|(table, _, time)| (table, time)).into_iter().chain([("audit", "at")]).map(|(table, time)| {
        format!(
            "SELECT * FROM (SELECT {time} AS t FROM {table} WHERE {time} IS NOT NULL ORDER BY {time} LIMIT {STEP})"
        )
    });
    let sql = format!(
        "SELECT max(t) FROM (SELECT t FROM ({}) ORDER BY t LIMIT {STEP})",
        of_each.collect::<Vec<_>>().join(" UNION ALL ")
    );
    connection.prepare_cached(&sql)?.query_row([], |row| row.get(0))
}

fn number(connection: &Connection, sql: &str) -> rusqlite::Result<i64> {
    connection.query_row(sql, [], |row| row.get(0))
}
