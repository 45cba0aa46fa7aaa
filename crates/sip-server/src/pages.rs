//! What is shown over HTTP. Names and units of metrics do not change between releases.

use crate::beside::Page;
use crate::transport;
use sip_sync::{Counters, Readiness};
use std::fmt::Write;

/// Largest list of calls, bytes: what an agent passes on (`control_link::messages::MAX_PAGE`), less some room for its end.
pub(crate) const MAX_LIST: usize = control_link::messages::MAX_PAGE - 1_024;

/// Metrics in the text format of Prometheus.
#[derive(Debug, Default)]
pub(crate) struct Metrics(String);

impl Metrics {
    /// Adds a value that goes up and down.
    pub(crate) fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.one(name, "gauge", help, value);
    }

    /// Adds a value that only grows.
    pub(crate) fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.one(&format!("{name}_total"), "counter", help, value);
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        let name = format!("takeover_sip_{name}");
        // Writing to a string cannot fail.
        let _ = write!(self.0, "# HELP {name} {help}.\n# TYPE {name} {kind}\n{name} {value}\n");
    }

    /// Adds what was moved.
    pub(crate) fn transports(&mut self, counters: &transport::Counters, connections: usize) {
        self.gauge("connections", "Connections over TCP and TLS", connections as f64);
        for (name, help, value) in [
            ("messages_received", "Messages received, before anything is known of them", counters.received),
            ("messages_sent", "Messages given to the kernel or to a connection", counters.sent),
            ("messages_unsent", "Messages that could not be sent", counters.unsent),
            ("messages_returned", "Datagrams that came back, as nobody was there", counters.returned),
            ("silenced", "Datagrams and connections dropped as backup", counters.silenced),
            ("connections_accepted", "Connections accepted", counters.accepted),
            ("connections_refused", "Connections refused, since there were too many", counters.refused),
            ("connections_begun", "Connections that were begun here", counters.begun),
            ("connections_overdue", "Connections closed for a limit of time or room", counters.overdue),
        ] {
            self.counter(name, help, value);
        }
    }

    /// Adds how the copy stands.
    pub(crate) fn replication(&mut self, readiness: &Readiness, counters: Counters) {
        let lag = readiness.lag.unwrap_or_default();
        self.gauge(
            "backup_ready",
            "1 while the backup has all it needs to take over at once",
            readiness.ready.into(),
        );
        self.gauge(
            "replication_connected",
            "1 while the two members are in contact",
            readiness.lag.is_some().into(),
        );
        self.gauge(
            "replication_lag_seconds",
            "Age of the oldest change that the backup lacks",
            lag.time.as_secs_f64(),
        );
        self.gauge(
            "replication_lag_changes",
            "Changes that the backup lacks, as the primary knows",
            lag.changes as f64,
        );
        for (name, help, value) in [
            ("replication_resyncs_sent", "Resynchronisations begun as primary", counters.streams_sent),
            ("replication_resyncs_taken", "Resynchronisations taken as backup", counters.streams_taken),
            ("replication_changes_sent", "Changes sent to the backup", counters.changes_sent),
            ("replication_changes_taken", "Changes taken from the primary", counters.changes_taken),
        ] {
            self.counter(name, help, value);
        }
    }

    /// What writes itself.
    pub(crate) fn text(&mut self) -> &mut String {
        &mut self.0
    }

    pub(crate) fn page(self) -> Page {
        Page { status: 200, content_type: "text/plain; version=0.0.4; charset=utf-8", body: self.0 }
    }
}

/// A page of JSON.
pub(crate) fn json(body: String) -> Page {
    Page { status: 200, content_type: "application/json", body }
}
