//! The writer thread: takes records out of the queue and commits them, tries again when that fails, tells how it
//! fares, and prunes what is too old when there is time.

use super::queue::{Numbered, Queue, Row, Work};
use super::{Health, audit, configurations, level_to_sql, open, retention, to_sql};
use alarms::{ActiveAlarm, Ending};
use domain::{LogEvent, Micros};
use ha_core::{Incident, Record};
use rusqlite::{Connection, ErrorCode};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Pause before a failed write is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Time between two looks at what is to be pruned.
const PRUNE_EVERY: Duration = Duration::from_secs(60);
/// Pruning waits for a moment without work, but not longer than this.
const PRUNE_LATEST: Duration = Duration::from_secs(300);

pub(super) struct Writer {
    path: PathBuf,
    /// None: could not be opened again after a failure.
    connection: Option<Connection>,
    queue: Arc<Queue>,
    health: Box<dyn Fn(Health) + Send>,
    /// Since when it has not worked.
    trouble: Option<Instant>,
    /// Records dropped before the trouble, if there is any, else up to now.
    dropped_before: u64,
    prune_at: Instant,
}

impl Writer {
    pub(super) fn new(
        path: PathBuf,
        connection: Connection,
        queue: Arc<Queue>,
        health: Box<dyn Fn(Health) + Send>,
    ) -> Self {
        let prune_at = Instant::now();
        Self { path, connection: Some(connection), queue, health, trouble: None, dropped_before: 0, prune_at }
    }

    pub(super) fn run(mut self) {
        loop {
            let written = match self.queue.next(self.prune_at) {
                Work::Durable(number, state) => {
                    let written = self.with_connection(|c| open::save_durable(c, &state));
                    match &written {
                        Ok(()) => self.queue.settle(),
                        Err(_) => self.queue.put_back_durable(number, state),
                    }
                    written
                }
                Work::Records(batch) => {
                    let written = self.with_connection(|c| write_batch(c, &batch));
                    match &written {
                        Ok(()) => self.queue.settle(),
                        Err(_) => self.queue.put_back(batch),
                    }
                    written
                }
                Work::Nothing => self.prune(),
                Work::End => return,
            };
            match written {
                Ok(()) => self.worked(),
                Err(reason) => {
                    self.failed(&reason);
                    if self.queue.pause(RETRY) {
                        return;
                    }
                }
            }
            if Instant::now() >= self.prune_at + PRUNE_LATEST {
                // Whether this works or not shows with the next write.
                let _ = self.prune();
            }
        }
    }

    /// Runs `work` on the connection, opened anew where it was given up; says why where that did not work.
    fn with_connection(
        &mut self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<()>,
    ) -> Result<(), String> {
        if self.connection.is_none() {
            let (connection, renewed) = open::open_or_renew(&self.path).map_err(|e| chain(&e))?;
            self.connection = Some(connection);
            renewed.into_iter().for_each(&self.health);
        }
        let Some(connection) = self.connection.as_mut() else { return Err("not open".to_owned()) };
        work(connection).map_err(|error| {
            let reason = explain(&error);
            match error.sqlite_error_code() {
                // The file is as it was: go on with it.
                Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {}
                _ => self.give_up_connection(&error),
            }
            reason
        })
    }

    fn give_up_connection(&mut self, error: &rusqlite::Error) {
        self.connection = None;
        // Opening alone may not meet the damage that this write met.
        if open::is_damage(error)
            && let Ok((connection, renewed)) = open::renew(&self.path, &error.to_string())
        {
            self.connection = Some(connection);
            (self.health)(renewed);
        }
    }

    fn failed(&mut self, reason: &str) {
        if self.trouble.is_none() {
            let (waiting, _) = self.queue.figures();
            self.trouble = Some(Instant::now());
            (self.health)(Health::Failed { reason: reason.to_owned(), waiting });
        }
    }

    fn worked(&mut self) {
        let (waiting, dropped) = self.queue.figures();
        match self.trouble {
            Some(since) if waiting <= self.queue.capacity() / 2 => {
                let back = Health::Back { lasted: since.elapsed(), dropped: dropped - self.dropped_before };
                self.dropped_before = dropped;
                self.trouble = None;
                (self.health)(back);
            }
            Some(_) => {}
            None if dropped > self.dropped_before => {
                self.failed("records come in faster than the disk takes them")
            }
            None => {}
        }
    }

    /// One small step; the next comes at once where more is to be done.
    fn prune(&mut self) -> Result<(), String> {
        let limits = self.queue.retention();
        let mut more = false;
        let result = self.with_connection(|connection| {
            more = retention::prune_some(connection, limits)?;
            Ok(())
        });
        self.prune_at = Instant::now() + if more && result.is_ok() { Duration::ZERO } else { PRUNE_EVERY };
        result
    }
}

/// Commits a batch as one transaction.
fn write_batch(connection: &mut Connection, batch: &[Numbered]) -> rusqlite::Result<()> {
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    let transaction = connection.transaction()?;
    for (_, row) in batch {
        match row {
            Row::Log(event) => insert_log(&transaction, event)?,
            Row::Record(Record::Incident(incident)) => upsert_incident(&transaction, incident)?,
            Row::Record(Record::AlarmActive(alarm)) => upsert_alarm(&transaction, alarm, None)?,
            Row::Record(Record::AlarmEnded { alarm, ending, at }) => {
                upsert_alarm(&transaction, alarm, Some((ending, *at)))?;
            }
            Row::Audit(record) => audit::append(&transaction, record)?,
            Row::Accounts(state) => open::save_accounts(&transaction, state)?,
            Row::Configuration(revision, text) => configurations::add(&transaction, revision, text)?,
        }
    }
    transaction.commit()
}

fn insert_log(connection: &Connection, event: &LogEvent) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO log (at, id, level, host, app, text, attributes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute((
            to_sql(event.at.0),
            event.id.to_string(),
            level_to_sql(event.level),
            event.host.as_ref().map(AsRef::as_ref),
            event.app.as_ref().map(AsRef::as_ref),
            &event.text,
            json(&event.attributes),
        ))?;
    Ok(())
}

fn upsert_incident(connection: &Connection, incident: &Incident) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO incidents (id, pair, begun, ended, json) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute((
            to_sql(incident.id.0),
            incident.pair.as_str(),
            to_sql(incident.begun.0),
            incident.ended.map(|at| to_sql(at.0)),
            json(incident),
        ))?;
    Ok(())
}

fn upsert_alarm(
    connection: &Connection,
    alarm: &ActiveAlarm,
    ended: Option<(&Ending, Micros)>,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO alarms (number, raised, ended, ending, json) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute((
            to_sql(alarm.number),
            to_sql(alarm.raised_at.0),
            ended.map(|(_, at)| to_sql(at.0)),
            ended.map(|(ending, _)| json(ending)),
            json(alarm),
        ))?;
    Ok(())
}

pub(super) fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("plain data with text keys has a JSON form")
}

/// What failed, with the remedy where there is one.
fn explain(error: &rusqlite::Error) -> String {
    let remedy = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => ": make room on the file system of the store",
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            ": check the permissions of the store and of its directory"
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => ": another program has the store locked",
        Some(_) | None => "",
    };
    format!("{error}{remedy}")
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
