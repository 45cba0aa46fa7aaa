//! The agent's own log lines on standard error, for journald or a terminal. Written by a thread of its own from a
//! bounded queue: whoever has something to say is never kept waiting, and what does not fit is counted.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

/// Lines that may wait.
const WAITING: usize = 1_024;

/// How severe, with the numbers of syslog (sd-daemon(3)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Something does not work.
    Error = 3,
    /// Something works less well than it should.
    Warning = 4,
    /// What a person may want to know.
    Notice = 5,
    /// The ordinary course of things.
    Info = 6,
}

#[derive(Debug)]
enum Line {
    Text(String),
    /// Answered when everything before it is written.
    Finish(SyncSender<()>),
}

/// Says things. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Say {
    queue: SyncSender<Line>,
    lost: Arc<AtomicU64>,
    /// Whether standard error goes to journald, which reads the severity from `<n>` before the line.
    journald: bool,
}

impl Say {
    /// Starts the thread that writes.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub fn start() -> std::io::Result<Self> {
        let (queue, lines) = sync_channel(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lost);
        thread::Builder::new()
            .name("say".to_owned())
            .stack_size(64 * 1024)
            .spawn(move || write(&lines, &counted))?;
        Ok(Self { queue, lost, journald: std::env::var_os("JOURNAL_STREAM").is_some() })
    }

    /// Says something, unless too much waits already. Line breaks in it are shown, not made.
    pub fn say(&self, severity: Severity, what: fmt::Arguments<'_>) {
        let mut line = String::new();
        if self.journald {
            let _ = write!(line, "<{}>", severity as u8);
        }
        let begin = line.len();
        let _ = write!(line, "{what}");
        if line[begin..].contains(char::is_control) {
            line = line[..begin].to_owned() + &line[begin..].escape_debug().to_string();
        }
        line.push('\n');
        if self.queue.try_send(Line::Text(line)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything is written that was said so far.
    pub fn finish(&self) {
        let (done, written) = sync_channel(0);
        // Where the writing thread is gone there is nothing to wait for.
        if self.queue.send(Line::Finish(done)).is_ok() {
            let _ = written.recv();
        }
    }

    /// [`Severity::Error`].
    pub fn error(&self, what: fmt::Arguments<'_>) {
        self.say(Severity::Error, what);
    }

    /// [`Severity::Warning`].
    pub fn warning(&self, what: fmt::Arguments<'_>) {
        self.say(Severity::Warning, what);
    }

    /// [`Severity::Notice`].
    pub fn notice(&self, what: fmt::Arguments<'_>) {
        self.say(Severity::Notice, what);
    }

    /// [`Severity::Info`].
    pub fn info(&self, what: fmt::Arguments<'_>) {
        self.say(Severity::Info, what);
    }
}

fn write(lines: &Receiver<Line>, lost: &AtomicU64) {
    for line in lines {
        let line = match line {
            Line::Text(line) => line,
            Line::Finish(done) => {
                let _ = done.send(());
                continue;
            }
        };
        let mut out = std::io::stderr().lock();
        // A standard error that takes nothing is no reason to end.
        let _ = out.write_all(line.as_bytes());
        let missing = lost.swap(0, Ordering::Relaxed);
        if missing > 0 {
            let _ = writeln!(out, "{missing} lines were lost, standard error is too slow");
        }
    }
}
