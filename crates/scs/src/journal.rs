//! Log events into systemd's journal, each with its facts as fields, so that `journalctl TAKEOVER_APPLICATION=sip1` finds them.
//! On a thread of its own: a journal that is busy makes nobody wait.

use crate::handle::{Handle, LiveEvent};
use control_link::journal::{Entry, Journal};
use domain::{Level, LogEvent};
use std::io;
use std::path::Path;
use tokio::sync::broadcast::error::RecvError;

/// Sends log events to the journal from now on, until the SCS ends.
///
/// # Errors
/// The system gives no socket or no thread.
pub fn start(handle: &Handle, socket: &Path) -> io::Result<()> {
    let journal = Journal::at(socket)?;
    let mut events = handle.events();
    std::thread::Builder::new().name("journal".to_owned()).spawn(move || {
        loop {
            let entry = match events.blocking_recv() {
                Ok(LiveEvent::Log(event)) => entry_of(&event),
                Ok(LiveEvent::Incident(_) | LiveEvent::ViewChanged) => continue,
                Err(RecvError::Lagged(lost)) => {
                    let mut entry = Entry::default();
                    entry.field("MESSAGE", &format!("{lost} events are not here: `takeover log` has them"));
                    entry.field("PRIORITY", "4");
                    entry
                }
                Err(RecvError::Closed) => return,
            };
            // The store has them all the same.
            let _ = journal.send(&entry);
        }
    })?;
    Ok(())
}

fn entry_of(event: &LogEvent) -> Entry {
    let mut entry = Entry::default();
    entry.field("MESSAGE", &format!("{} {}", event.id, event.text));
    // As syslog(3) counts: what raises alarms is critical, the rest is for those who look.
    entry.field(
        "PRIORITY",
        match event.level {
            Level::Alarm => "2",
            Level::Standard => "5",
            Level::Interaction => "6",
            Level::Trace | Level::Debug => "7",
        },
    );
    entry.field("SYSLOG_IDENTIFIER", "takeover");
    entry.field("TAKEOVER_EVENT", &event.id.to_string());
    entry.field("TAKEOVER_AT_USEC", &event.at.0.to_string());
    if let Some(host) = &event.host {
        entry.field("TAKEOVER_HOST", host.as_str());
    }
    if let Some(app) = &event.app {
        entry.field("TAKEOVER_APPLICATION", app.as_str());
    }
    for (name, value) in &event.attributes {
        entry.field(&format!("TAKEOVER_{name}"), value);
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{AppName, Micros, events};
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn an_event_has_its_facts_as_fields() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listening = UnixDatagram::bind(&path).unwrap();
        let event = LogEvent::new(events::NOW_PRIMARY, Micros(7))
            .of(&AppName::new("sip1").unwrap())
            .because("by order")
            .with("pair", "sip");
        Journal::at(&path).unwrap().send(&entry_of(&event)).unwrap();
        let mut buffer = [0; 1_000];
        let length = listening.recv(&mut buffer).unwrap();
        let text = std::str::from_utf8(&buffer[..length]).unwrap();
        for field in
            ["PRIORITY=5", "TAKEOVER_EVENT=00-05150", "TAKEOVER_APPLICATION=sip1", "TAKEOVER_PAIR=sip"]
        {
            assert!(text.lines().any(|line| line == field), "{text} lacks {field}");
        }
        assert!(text.starts_with("MESSAGE=00-05150 "), "{text}");
    }
}
