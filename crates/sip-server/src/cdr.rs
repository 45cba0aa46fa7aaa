//! Call detail records on disk: one JSON object per line, appended by a thread of its own. A disk that is full or slow
//! costs no call anything: records wait in a bounded queue, and what does not fit there is counted and said.

use anyhow::Context;
use sip_proto::b2bua::CallKey;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Records that may wait: at 100 ended calls a second, more than two minutes of a disk that takes nothing. Some 8 MB.
const QUEUE: usize = 16_384;
/// Records that are written with one system call, at most.
const BATCH: usize = 256;
/// How long after a failure writing is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// What the thread is told.
enum Order {
    /// Append this line; it ends with a line end.
    Write(String),
    /// Open the file anew: it was moved away.
    Reopen,
}

/// What the thread says.
#[derive(Debug, Default)]
struct Shared {
    failing: AtomicBool,
    /// The server ends: what cannot be written now is given up.
    ending: AtomicBool,
    written: AtomicU64,
}

/// What is to be said about the file, once each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// Records cannot be written. So many are lost since the last time.
    Failing { lost: u64 },
    /// Records are written again.
    Recovered,
}

/// The file of records.
#[derive(Debug)]
pub(crate) struct CdrFile {
    /// Calls whose records wait, in their order.
    waiting: VecDeque<CallKey>,
    /// How many of those that ever waited were seen to be written.
    taken: u64,
    /// Calls whose records did not fit the queue, and nobody knows yet.
    given_up: Vec<CallKey>,
    path: PathBuf,
    orders: Option<SyncSender<Order>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    lost: u64,
    lost_told: u64,
    failing_told: bool,
}

impl CdrFile {
    /// Opens the file, made with mode 0640 where it is not there. `wake` is called when something was written.
    ///
    /// # Errors
    /// Where it cannot be opened: a wrong path shows at the start.
    pub(crate) fn open(path: &Path, wake: impl Fn() + Send + 'static) -> anyhow::Result<Self> {
        let failed = || format!("cannot write call detail records to {}", path.display());
        let file = open(path).with_context(failed)?;
        let (orders, received) = sync_channel(QUEUE);
        let shared = Arc::new(Shared::default());
        let mut writer = Writer { path: path.to_owned(), file: Some(file), shared: Arc::clone(&shared) };
        let thread = thread::Builder::new()
            .name("cdr".to_owned())
            .spawn(move || writer.run(&received, &wake))
            .with_context(failed)?;
        Ok(Self {
            waiting: VecDeque::new(),
            taken: 0,
            given_up: Vec::new(),
            path: path.to_owned(),
            orders: Some(orders),
            shared,
            thread: Some(thread),
            lost: 0,
            lost_told: 0,
            failing_told: false,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends the record of a call, which is one line without its end. Never waits.
    pub(crate) fn write(&mut self, call: CallKey, mut line: String) {
        line.push('\n');
        if self.order(Order::Write(line)) {
            self.waiting.push_back(call);
        } else {
            self.lost += 1;
            self.given_up.push(call);
        }
    }

    /// Calls whose records were written since the last time, or given up.
    pub(crate) fn take_done(&mut self) -> Vec<CallKey> {
        let mut done = std::mem::take(&mut self.given_up);
        let written = self.shared.written.load(Ordering::Relaxed);
        let fresh = usize::try_from(written - self.taken).unwrap_or(usize::MAX).min(self.waiting.len());
        done.extend(self.waiting.drain(..fresh));
        self.taken = written;
        done
    }

    /// Ends it, as dropping it does; calls whose records are written by then, or will not be.
    pub(crate) fn finish(mut self) -> Vec<CallKey> {
        let mut done = std::mem::take(&mut self.given_up);
        done.extend(self.waiting.drain(..));
        done
    }

    /// Opens the file anew, after it was moved away.
    pub(crate) fn reopen(&mut self) {
        // Where the queue is full the file is in trouble, and opened anew when that ends.
        self.order(Order::Reopen);
    }

    /// What has to be said now.
    pub(crate) fn news(&mut self) -> Option<Told> {
        let failing = self.shared.failing.load(Ordering::Relaxed);
        let lost = self.lost - self.lost_told;
        let told = match (failing, self.failing_told) {
            (true, false) => Told::Failing { lost },
            (_, _) if lost > 0 => Told::Failing { lost },
            (false, true) => Told::Recovered,
            (true, true) | (false, false) => return None,
        };
        self.failing_told = failing || lost > 0;
        self.lost_told = self.lost;
        Some(told)
    }

    /// How many records were written, and how many were lost.
    pub(crate) fn figures(&self) -> (u64, u64) {
        (self.shared.written.load(Ordering::Relaxed), self.lost)
    }

    fn order(&self, order: Order) -> bool {
        self.orders.as_ref().is_some_and(|orders| orders.try_send(order).is_ok())
    }
}

impl Drop for CdrFile {
    /// Writes what waits, unless the file is failing.
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::Relaxed);
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(path)?;
    let length = file.metadata()?.len();
    if length > 0 {
        // A record that a predecessor could not finish must not spoil ours.
        let mut last = [0];
        file.read_exact_at(&mut last, length - 1)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(file)
}

/// The thread's side.
struct Writer {
    path: PathBuf,
    file: Option<File>,
    shared: Arc<Shared>,
}

impl Writer {
    fn run(&mut self, orders: &Receiver<Order>, wake: &dyn Fn()) {
        while let Ok(order) = orders.recv() {
            let mut lines = Vec::new();
            let mut count = 0;
            for order in std::iter::once(order).chain(orders.try_iter()) {
                match order {
                    Order::Write(line) => {
                        lines.extend_from_slice(line.as_bytes());
                        count += 1;
                    }
                    Order::Reopen => {
                        // What came before belongs into the old file.
                        self.append(&std::mem::take(&mut lines));
                        self.file = None;
                    }
                }
                if count >= BATCH as u64 {
                    break;
                }
            }
            if self.append(&lines) {
                self.shared.written.fetch_add(count, Ordering::Relaxed);
                wake();
            }
        }
    }

    /// Appends all of it, however often that has to be tried; false where the server ends meanwhile.
    fn append(&mut self, lines: &[u8]) -> bool {
        let mut rest = lines;
        while self.append_some(&mut rest).is_err() {
            self.shared.failing.store(true, Ordering::Relaxed);
            if self.shared.ending.load(Ordering::Relaxed) {
                return false;
            }
            thread::park_timeout(TRY_AGAIN);
        }
        self.shared.failing.store(false, Ordering::Relaxed);
        true
    }

    fn append_some(&mut self, rest: &mut &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(open(&self.path)?),
        };
        while !rest.is_empty() {
            match file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(length) => *rest = &rest[length..],
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::time::Instant;

    fn call(number: usize) -> CallKey {
        CallKey::read(&format!("{number:016x}")).unwrap()
    }

    fn eventually(mut holds: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < Duration::from_secs(20), "it never came about");
            thread::yield_now();
        }
    }

    #[test]
    fn records_are_appended_in_order_and_the_file_can_be_moved_away() {
        let dir = tempfile::tempdir().unwrap();
        let (path, moved) = (dir.path().join("cdr.jsonl"), dir.path().join("cdr.jsonl.1"));
        fs::write(&path, "{\"half").unwrap();
        let (wake, woken) = std::sync::mpsc::channel();
        let mut cdrs = CdrFile::open(&path, move || wake.send(()).unwrap()).unwrap();
        cdrs.write(call(1), "1".to_owned());
        cdrs.write(call(2), "2".to_owned());
        eventually(|| cdrs.figures() == (2, 0));
        woken.recv().unwrap();
        assert_eq!(cdrs.take_done(), [call(1), call(2)]);
        assert_eq!(cdrs.take_done(), []);
        fs::rename(&path, &moved).unwrap();
        cdrs.reopen();
        cdrs.write(call(3), "3".to_owned());
        assert_eq!(cdrs.finish(), [call(3)]);
        assert_eq!(fs::read_to_string(&moved).unwrap(), "{\"half\n1\n2\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "3\n");
    }

    #[test]
    fn a_full_disk_is_said_once_and_costs_what_does_not_fit_the_queue() {
        // Writing to it fails with ENOSPC (full(4)).
        let mut cdrs = CdrFile::open(Path::new("/dev/full"), || {}).unwrap();
        cdrs.write(call(1), "first".to_owned());
        eventually(|| cdrs.shared.failing.load(Ordering::Relaxed));
        for number in 0..QUEUE + 100 {
            cdrs.write(call(number), number.to_string());
        }
        let lost = 100;
        assert_eq!(cdrs.figures(), (0, lost));
        assert_eq!(cdrs.news(), Some(Told::Failing { lost }));
        assert_eq!(cdrs.news(), None);
        assert_eq!(cdrs.take_done().len(), 100, "those that are lost are owed no more");
        cdrs.write(call(0), "one more".to_owned());
        assert_eq!(cdrs.news(), Some(Told::Failing { lost: 1 }));
        cdrs.shared.failing.store(false, Ordering::Relaxed);
        assert_eq!(cdrs.news(), Some(Told::Recovered));
        // And the end does not wait for the disk.
        drop(cdrs);
    }

    #[test]
    fn a_path_that_cannot_be_shows_at_the_start() {
        let error = CdrFile::open(Path::new("/nowhere/cdr.jsonl"), || {}).unwrap_err();
        assert_eq!(error.to_string(), "cannot write call detail records to /nowhere/cdr.jsonl");
    }
}
