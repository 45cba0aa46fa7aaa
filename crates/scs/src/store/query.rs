//! Reading what is kept. Every query has a connection of its own, a limit on its rows and a limit on its time, so that
//! whoever asks (the API's threads) disturbs neither the writer nor each other.

use super::open::{load_accounts, load_durable, open_read_only};
use super::{AuditRecord, Store, audit, from_sql, level_from_sql, level_to_sql, to_sql};
use alarms::{ActiveAlarm, Ending};
use domain::{AppName, EventId, HostName, Level, LogEvent, Micros, PairName};
use ha_core::Incident;
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, params_from_iter};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Rows that one query returns at most.
pub const MAX_ROWS: u32 = 10_000;
/// Rows that a query returns where nothing else was asked for.
const DEFAULT_ROWS: u32 = 100;
/// How long one query may take.
const TIME_LIMIT: Duration = Duration::from_secs(5);
/// How often the time is looked at, instructions of SQLite's virtual machine (a few microseconds each at most).
const TIME_CHECK: i32 = 10_000;

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// It took too long.
    #[error("the query took longer than {} s; narrow it, for example by time", TIME_LIMIT.as_secs())]
    TooLong,
    /// A row does not hold what it should.
    #[error("cannot read {what} {number} in the store")]
    Content {
        /// What it is: "incident", "alarm", "log event".
        what: &'static str,
        /// Its number.
        number: i64,
    },
    /// SQLite failed.
    #[error("cannot read the store")]
    Database(#[source] rusqlite::Error),
}

impl From<rusqlite::Error> for QueryError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::OperationInterrupted) => QueryError::TooLong,
            Some(_) | None => QueryError::Database(error),
        }
    }
}

/// Which log events. All that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogFilter {
    /// This level and what is more severe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// About this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
    /// About this application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<AppName>,
    /// With this id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<EventId>,
    /// With this in the text, whatever the case of ASCII letters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Not before, microseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Micros>,
    /// Before, microseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Micros>,
    /// Behind the row with this number: what came in since, oldest first, for following the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// How many, up to [`MAX_ROWS`]; 100 unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A log event as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LogRow {
    /// Grows in the order in which events came in (which is not always that of their times).
    pub seq: u64,
    /// The event.
    #[serde(flatten)]
    pub event: LogEvent,
}

/// A part of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LogPage {
    /// Where to go on: [`LogFilter::after`] for what comes in behind this page.
    pub end: u64,
    /// The events.
    pub events: Vec<LogRow>,
}

/// Which incidents.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct IncidentFilter {
    /// Of this pair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pair: Option<PairName>,
    /// Only those that are still open (true), or that have ended (false).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open: Option<bool>,
    /// With a number below this one, for turning pages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// How many, up to [`MAX_ROWS`]; 100 unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// An alarm, active or ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct AlarmRecord {
    /// The alarm as it was last.
    #[serde(flatten)]
    pub alarm: ActiveAlarm,
    /// When it ended; none: active.
    pub ended_at: Option<Micros>,
    /// How it ended.
    pub ending: Option<Ending>,
}

impl Store {
    /// The log events that `filter` asks for, in the order of their times: the newest ones, or with
    /// [`LogFilter::after`] the first ones that came in behind it, in the order in which they came in.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn log(&self, filter: &LogFilter) -> Result<LogPage, QueryError> {
        let (sql, values) = log_query(filter);
        let connection = self.connect()?;
        // One transaction: the end must belong to the very rows that are read.
        let transaction = connection.unchecked_transaction()?;
        let last: Option<i64> = transaction.query_row("SELECT max(seq) FROM log", [], |row| row.get(0))?;
        let rows = rows(&transaction, &sql, values, LogColumns::read)?;
        let mut events = rows.into_iter().map(LogColumns::into_row).collect::<Result<Vec<_>, _>>()?;
        let mut end = last.map_or(0, from_sql);
        if filter.after.is_none() {
            events.reverse();
        } else if events.len() == rows_wanted(filter.limit) {
            end = events.last().map_or(end, |row| row.seq);
        }
        Ok(LogPage { end, events })
    }

    /// The newest incidents that `filter` asks for, in the order of their numbers.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn incidents(&self, filter: &IncidentFilter) -> Result<Vec<Incident>, QueryError> {
        let mut conditions = Conditions::default();
        conditions.add("pair = ?", filter.pair.as_ref().map(|pair| text(pair.as_str())));
        conditions.add("(ended IS NULL) = ?", filter.open.map(|open| Value::Integer(i64::from(open))));
        conditions.add("id < ?", filter.before.map(|id| Value::Integer(to_sql(id))));
        let sql = format!("SELECT id, json FROM incidents {} ORDER BY id DESC LIMIT ?", conditions.sql());
        let rows = self.rows(&sql, conditions.values_with(limit(filter.limit)), numbered_json)?;
        rows.iter().rev().map(|(id, json)| decode("incident", *id, json)).collect()
    }

    /// One incident.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn incident(&self, id: u64) -> Result<Option<Incident>, QueryError> {
        let connection = self.connect()?;
        let row = connection
            .query_row("SELECT id, json FROM incidents WHERE id = ?1", [to_sql(id)], numbered_json)
            .optional()?;
        row.map(|(id, json)| decode("incident", id, &json)).transpose()
    }

    /// The newest alarms, ended ones too with `history`, in the order of their numbers. `rows`: how many, up to
    /// [`MAX_ROWS`]; 100 unless set.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn alarms(&self, history: bool, rows: Option<u32>) -> Result<Vec<AlarmRecord>, QueryError> {
        let which = if history { "" } else { "WHERE ended IS NULL" };
        let sql =
            format!("SELECT number, ended, ending, json FROM alarms {which} ORDER BY number DESC LIMIT ?");
        let read = |row: &Row<'_>| {
            Ok((
                row.get::<_, i64>(0)?,
                row.get::<_, Option<i64>>(1)?,
                row.get::<_, Option<String>>(2)?,
                row.get(3)?,
            ))
        };
        let rows: Vec<(_, _, _, String)> = self.rows(&sql, vec![limit(rows)], read)?;
        let record = |(number, ended, ending, json): &(i64, Option<i64>, Option<String>, String)| {
            Ok(AlarmRecord {
                alarm: decode("alarm", *number, json)?,
                ended_at: ended.map(|at| Micros(from_sql(at))),
                ending: ending.as_ref().map(|ending| decode("alarm", *number, ending)).transpose()?,
            })
        };
        rows.iter().rev().map(record).collect()
    }

    /// The newest audit records, in the order in which they came in. `rows`: how many, up to [`MAX_ROWS`]; 100 unless
    /// set.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn audit(&self, rows: Option<u32>) -> Result<Vec<AuditRecord>, QueryError> {
        let records = self.audit_before(None, rows)?;
        Ok(records.into_iter().rev().map(|(_, record)| record).collect())
    }

    /// Audit records with their numbers, the newest first, from below the number `before` on where one is given. `rows`: how
    /// many, up to [`MAX_ROWS`]; 100 unless set.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn audit_before(
        &self,
        before: Option<u64>,
        rows: Option<u32>,
    ) -> Result<Vec<(u64, AuditRecord)>, QueryError> {
        let sql = format!("SELECT {} FROM audit WHERE seq < ? ORDER BY seq DESC LIMIT ?", audit::COLUMNS);
        let before = i64::try_from(before.unwrap_or(u64::MAX)).unwrap_or(i64::MAX);
        self.rows(&sql, vec![before.into(), limit(rows)], audit::read)
    }

    /// The core's state as it was last written; none in a new store.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn load_durable(&self) -> Result<Option<String>, QueryError> {
        Ok(load_durable(&self.connect()?)?)
    }

    /// Who may use the API, as it was last written (`access::Accounts` as JSON); none: nobody was ever made.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn load_accounts(&self) -> Result<Option<String>, QueryError> {
        Ok(load_accounts(&self.connect()?)?)
    }

    fn connect(&self) -> Result<Connection, QueryError> {
        let mut connection = open_read_only(self.path())?;
        let deadline = Instant::now() + TIME_LIMIT;
        connection.progress_handler(TIME_CHECK, Some(move || Instant::now() > deadline))?;
        Ok(connection)
    }

    fn rows<T>(
        &self,
        sql: &str,
        values: Vec<Value>,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, QueryError> {
        rows(&self.connect()?, sql, values, read)
    }
}

fn rows<T>(
    connection: &Connection,
    sql: &str,
    values: Vec<Value>,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, QueryError> {
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map(params_from_iter(values), read)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn log_query(filter: &LogFilter) -> (String, Vec<Value>) {
    let mut conditions = Conditions::default();
    conditions.add("seq > ?", filter.after.map(|seq| Value::Integer(to_sql(seq))));
    conditions.add("at >= ?", filter.since.map(|at| Value::Integer(to_sql(at.0))));
    conditions.add("at < ?", filter.until.map(|at| Value::Integer(to_sql(at.0))));
    conditions.add("level <= ?", filter.level.map(|level| Value::Integer(level_to_sql(level))));
    conditions.add("host = ?", filter.host.as_ref().map(|host| text(host.as_str())));
    conditions.add("app = ?", filter.app.as_ref().map(|app| text(app.as_str())));
    conditions.add("id = ?", filter.id.map(|id| text(&id.to_string())));
    conditions.add("instr(lower(text), lower(?)) > 0", filter.text.as_deref().map(text));
    let order = if filter.after.is_some() { "seq" } else { "at DESC, seq DESC" };
    let sql = format!(
        "SELECT seq, at, id, level, host, app, text, attributes FROM log {} ORDER BY {order} LIMIT ?",
        conditions.sql()
    );
    (sql, conditions.values_with(limit(filter.limit)))
}

/// Conditions joined by AND, with the values for their question marks in the same order.
#[derive(Default)]
struct Conditions {
    sql: Vec<&'static str>,
    values: Vec<Value>,
}

impl Conditions {
    fn add(&mut self, sql: &'static str, value: Option<Value>) {
        if let Some(value) = value {
            self.sql.push(sql);
            self.values.push(value);
        }
    }

    fn sql(&self) -> String {
        if self.sql.is_empty() { String::new() } else { format!("WHERE {}", self.sql.join(" AND ")) }
    }

    fn values_with(mut self, last: Value) -> Vec<Value> {
        self.values.push(last);
        self.values
    }
}

fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

fn limit(asked: Option<u32>) -> Value {
    Value::Integer(i64::from(asked.unwrap_or(DEFAULT_ROWS).min(MAX_ROWS)))
}

fn rows_wanted(asked: Option<u32>) -> usize {
    asked.unwrap_or(DEFAULT_ROWS).min(MAX_ROWS) as usize
}

fn numbered_json(row: &Row<'_>) -> rusqlite::Result<(i64, String)> {
    Ok((row.get(0)?, row.get(1)?))
}

fn decode<T: DeserializeOwned>(what: &'static str, number: i64, json: &str) -> Result<T, QueryError> {
    serde_json::from_str(json).map_err(|_| QueryError::Content { what, number })
}

/// A row of the log, not checked yet.
struct LogColumns {
    seq: i64,
    at: i64,
    id: String,
    level: i64,
    host: Option<String>,
    app: Option<String>,
    text: String,
    attributes: String,
}

impl LogColumns {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: row.get(0)?,
            at: row.get(1)?,
            id: row.get(2)?,
            level: row.get(3)?,
            host: row.get(4)?,
            app: row.get(5)?,
            text: row.get(6)?,
            attributes: row.get(7)?,
        })
    }

    fn into_row(self) -> Result<LogRow, QueryError> {
        let bad = || QueryError::Content { what: "log event", number: self.seq };
        let event = LogEvent {
            at: Micros(from_sql(self.at)),
            id: self.id.parse().map_err(|_| bad())?,
            level: level_from_sql(self.level).ok_or_else(bad)?,
            host: self.host.map(|host| HostName::new(&host)).transpose().map_err(|_| bad())?,
            app: self.app.map(|app| AppName::new(&app)).transpose().map_err(|_| bad())?,
            text: self.text,
            attributes: decode("log event", self.seq, &self.attributes)?,
        };
        Ok(LogRow { seq: from_sql(self.seq), event })
    }
}
