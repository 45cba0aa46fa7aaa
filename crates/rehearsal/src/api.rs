//! The API without async: a few calls for programs that do one thing after the other.

use anyhow::Context;
use ha_core::{Incident, View};
use sci::api::{Accepted, Because, Incidents, Status, Stop, SwitchOver};
use sci::client::{Client, Target};
use scs::store::LogRow;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;
use tokio::runtime::{Builder, Runtime};

/// Blocking calls to the API of one SCS.
#[derive(Debug)]
pub struct Api {
    runtime: Runtime,
    client: Client,
}

#[derive(Serialize)]
struct Nothing {}

impl Api {
    /// The API behind this Unix socket.
    ///
    /// # Errors
    /// No event loop could be made.
    pub fn new(socket: &Path) -> anyhow::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build().context("no event loop")?;
        Ok(Self { runtime, client: Client::new(Target::Unix(socket.to_owned())) })
    }

    /// `GET` of any path below `/api/v1`.
    ///
    /// # Errors
    /// The SCS cannot be reached, or says what is wrong.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        Ok(self.runtime.block_on(self.client.get(path, &Nothing {}))?)
    }

    /// `POST` to any path below `/api/v1`.
    ///
    /// # Errors
    /// The SCS cannot be reached, or refuses and says why.
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> anyhow::Result<T> {
        Ok(self.runtime.block_on(self.client.post(path, body))?)
    }

    /// The state of everything.
    ///
    /// # Errors
    /// The SCS cannot be reached.
    pub fn view(&self) -> anyhow::Result<View> {
        Ok(self.get::<Status>("/status")?.view)
    }

    /// Orders a switchover to the member that is not primary; the number of its incident.
    ///
    /// # Errors
    /// Refused, with the reason.
    pub fn switch_over(&self, pair: &str, reason: &str) -> anyhow::Result<u64> {
        let body = SwitchOver { reason: reason.to_owned(), ..SwitchOver::default() };
        let accepted: Accepted = self.post(&format!("/pairs/{pair}/switchover"), &body)?;
        accepted.incident.context("the switchover has no incident")
    }

    /// Orders the start of an application.
    ///
    /// # Errors
    /// Refused, with the reason.
    pub fn start(&self, app: &str) -> anyhow::Result<Accepted> {
        self.post(&format!("/applications/{app}/start"), &Because::default())
    }

    /// Orders the stop of an application.
    ///
    /// # Errors
    /// Refused, with the reason.
    pub fn stop(&self, app: &str, graceful: bool) -> anyhow::Result<Accepted> {
        self.post(&format!("/applications/{app}/stop"), &Stop { graceful, reason: String::new() })
    }

    /// Acknowledges a pair that was frozen.
    ///
    /// # Errors
    /// Refused, with the reason.
    pub fn acknowledge(&self, pair: &str) -> anyhow::Result<Accepted> {
        self.post(&format!("/pairs/{pair}/acknowledge"), &Because::default())
    }

    /// The incidents, in the order of their numbers.
    ///
    /// # Errors
    /// The SCS cannot be reached.
    pub fn incidents(&self) -> anyhow::Result<Vec<Incident>> {
        Ok(self.get::<Incidents>("/incidents")?.incidents)
    }

    /// One incident.
    ///
    /// # Errors
    /// There is none of this number.
    pub fn incident(&self, id: u64) -> anyhow::Result<Incident> {
        self.get(&format!("/incidents/{id}"))
    }

    /// The newest log events, oldest first, at most a thousand.
    ///
    /// # Errors
    /// The SCS cannot be reached.
    pub fn log(&self) -> anyhow::Result<Vec<LogRow>> {
        let page: scs::store::LogPage = self.get("/log?limit=1000")?;
        Ok(page.events)
    }
}
