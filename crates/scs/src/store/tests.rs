//! The store on real files: what goes in comes out, through a kill, a full disk and a damaged file.

use super::*;
use alarms::{ActiveAlarm, Ending, Source};
use domain::{AppName, Category, Epoch, EventId, HostName, PairName, events};
use ha_core::{Incident, IncidentId, IncidentKind, IncidentOutcome};
use rusqlite::Connection;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::process::{Command, Stdio};
use std::sync::mpsc;

const LIMIT: Duration = Duration::from_secs(30);
const KEEP_ALL: Retention = Retention { keep: Duration::from_secs(3_153_600_000), keep_bytes: u64::MAX };

fn open(path: &Path) -> (Store, mpsc::Receiver<Health>) {
    let (told, health) = mpsc::channel();
    let store = Store::open(path, KEEP_ALL, move |h| told.send(h).unwrap_or_default()).unwrap();
    (store, health)
}

fn event(at: u64, id: EventId, text: &str) -> LogEvent {
    LogEvent { text: text.to_owned(), ..LogEvent::new(id, Micros(at)) }
}

fn incident(id: u64, ended: Option<u64>) -> Incident {
    Incident {
        id: IncidentId(id),
        pair: PairName::new("sip").unwrap(),
        kind: IncidentKind::Failure,
        from: None,
        to: AppName::new("sip1").unwrap(),
        epoch: Epoch(id),
        reason: "sip2 failed".to_owned(),
        ordered_by: String::new(),
        drill: None,
        begun: Micros(id),
        unnoticed_us: 0,
        ended: ended.map(Micros),
        outcome: if ended.is_some() { IncidentOutcome::Completed } else { IncidentOutcome::Open },
        evidence: Vec::new(),
        steps: Vec::new(),
    }
}

fn alarm(number: u64) -> ActiveAlarm {
    ActiveAlarm {
        number,
        condition: "application failure".to_owned(),
        source: Source::Cluster,
        category: Category::Major,
        event: events::APP_TERMINATED,
        text: "gone".to_owned(),
        raised_at: Micros(number),
        repeated_at: Micros(number),
        repeats: 0,
        expires_at: Micros(number + 1),
        hidden: false,
    }
}

fn texts(page: LogPage) -> Vec<String> {
    page.events.into_iter().map(|row| row.event.text).collect()
}

#[test]
fn what_goes_in_comes_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("takeover.db");
    let (store, _health) = open(&path);
    assert_eq!(store.load_durable().unwrap(), None);
    assert_eq!(store.log(&LogFilter::default()).unwrap(), LogPage { end: 0, events: Vec::new() });

    let logged = event(5, events::NOW_PRIMARY, "now primary").with("pair", "sip");
    store.write(StoreItem::Log(logged.clone()));
    store.write(StoreItem::Record(Record::Incident(incident(1, None))));
    store.write(StoreItem::Record(Record::Incident(incident(1, Some(9)))));
    store.write(StoreItem::Record(Record::AlarmActive(alarm(1))));
    store.write(StoreItem::Record(Record::AlarmActive(alarm(2))));
    let ending = Ending::Cleared { by: "ann".to_owned(), reason: "known".to_owned() };
    let ended = Record::AlarmEnded { alarm: alarm(1), ending: ending.clone(), at: Micros(7) };
    store.write(StoreItem::Record(ended));
    let audit = AuditRecord {
        at: Micros(8),
        who: "ann".to_owned(),
        from: "unix".to_owned(),
        what: "clear alarm 1".to_owned(),
        reason: "known".to_owned(),
        result: "alarm 1 cleared".to_owned(),
    };
    store.write(StoreItem::Audit(audit.clone()));
    store.write(StoreItem::Durable("{\"epoch\":1}".to_owned()));
    store.write(StoreItem::Durable("{\"epoch\":2}".to_owned()));
    assert!(store.flush(LIMIT));

    for store in [store, open(&path).0] {
        let page = LogPage { end: 1, events: vec![LogRow { seq: 1, event: logged.clone() }] };
        assert_eq!(store.log(&LogFilter::default()).unwrap(), page);
        assert_eq!(store.incidents(&IncidentFilter::default()).unwrap(), [incident(1, Some(9))]);
        assert_eq!(store.incident(1).unwrap(), Some(incident(1, Some(9))));
        assert_eq!(store.incident(2).unwrap(), None);
        let active = AlarmRecord { alarm: alarm(2), ended_at: None, ending: None };
        let history =
            AlarmRecord { alarm: alarm(1), ended_at: Some(Micros(7)), ending: Some(ending.clone()) };
        assert_eq!(store.alarms(false, None).unwrap(), std::slice::from_ref(&active));
        assert_eq!(store.alarms(true, None).unwrap(), [history, active]);
        assert_eq!(store.audit(None).unwrap(), std::slice::from_ref(&audit));
        assert_eq!(store.load_durable().unwrap().as_deref(), Some("{\"epoch\":2}"));
    }
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "nobody else reads the log");
}

#[test]
fn the_log_is_filtered() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _health) = open(&dir.path().join("takeover.db"));
    let (host, app) = (HostName::new("h1").unwrap(), AppName::new("sip1").unwrap());
    let mut trace = event(30, events::SCRIPT_SUCCEEDED, "trace");
    trace.level = Level::Trace;
    for event in [
        event(40, events::NOW_BACKUP, "100% Late").of(&app),
        event(10, events::NOW_PRIMARY, "early").of(&app).on(&host),
        event(20, events::HOST_NORMAL, "middle").on(&host),
        trace,
    ] {
        store.write(StoreItem::Log(event));
    }
    assert!(store.flush(LIMIT));
    let all = LogFilter::default();
    let cases = [
        (all.clone(), vec!["early", "middle", "trace", "100% Late"]),
        (LogFilter { limit: Some(2), ..all.clone() }, vec!["trace", "100% Late"]),
        (LogFilter { level: Some(Level::Standard), ..all.clone() }, vec!["early", "middle", "100% Late"]),
        (LogFilter { level: Some(Level::Alarm), ..all.clone() }, vec![]),
        (LogFilter { host: Some(host), ..all.clone() }, vec!["early", "middle"]),
        (LogFilter { app: Some(app), limit: Some(1), ..all.clone() }, vec!["100% Late"]),
        (LogFilter { id: Some(events::HOST_NORMAL), ..all.clone() }, vec!["middle"]),
        (LogFilter { text: Some("0% l".to_owned()), ..all.clone() }, vec!["100% Late"]),
        (LogFilter { text: Some("' OR 1=1 --".to_owned()), ..all.clone() }, vec![]),
        (
            LogFilter { since: Some(Micros(20)), until: Some(Micros(40)), ..all.clone() },
            vec!["middle", "trace"],
        ),
        (LogFilter { after: Some(1), limit: Some(2), ..all.clone() }, vec!["early", "middle"]),
        (LogFilter { after: Some(4), ..all }, vec![]),
    ];
    for (filter, expected) in cases {
        assert_eq!(texts(store.log(&filter).unwrap()), expected, "{filter:?}");
    }
    let follow = LogFilter { after: Some(1), limit: Some(2), ..LogFilter::default() };
    assert_eq!(store.log(&follow).unwrap().end, 3, "a full page ends with its last row");
    let follow = LogFilter { after: Some(1), level: Some(Level::Alarm), ..LogFilter::default() };
    assert_eq!(store.log(&follow).unwrap().end, 4, "what does not match is not looked at again");
}

#[test]
fn files_of_a_newer_release_and_of_other_programs_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("takeover.db");
    drop(open(&path));
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    let error = Store::open(&path, KEEP_ALL, |_| {}).unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 99, known: 3, .. }), "{error:?}");

    let foreign = dir.path().join("foreign.db");
    Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    assert!(matches!(Store::open(&foreign, KEEP_ALL, |_| {}), Err(OpenError::Foreign { .. })));

    let nowhere = dir.path().join("missing/takeover.db");
    assert!(matches!(Store::open(&nowhere, KEEP_ALL, |_| {}), Err(OpenError::File { .. })));
}

#[test]
fn a_damaged_file_is_moved_aside() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("takeover.db");
    std::fs::write(
        &path,
        "this is no database, whatever its name says; long enough to have a header of its own".repeat(9),
    )
    .unwrap();
    let (store, health) = open(&path);
    let Ok(Health::Renewed { moved_to, durable_saved: false, .. }) = health.try_recv() else {
        panic!("told at once")
    };
    assert!(moved_to.exists() && moved_to.to_string_lossy().contains("takeover.db.damaged-"));
    store.write(StoreItem::Log(event(1, events::SCS_STARTED, "anew")));
    assert!(store.flush(LIMIT));
    assert_eq!(texts(store.log(&LogFilter::default()).unwrap()), ["anew"]);
}

#[test]
fn damage_met_while_writing_costs_neither_the_state_nor_what_waits() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("takeover.db");
    let (store, _health) = open(&path);
    store.write(StoreItem::Durable("state".to_owned()));
    for n in 0..2_000 {
        store.write(StoreItem::Log(event(n, events::SCS_STARTED, &"x".repeat(200))));
    }
    assert!(store.flush(LIMIT));
    drop(store);
    // The list of free pages is looked at when a new page is needed, not when the file is opened.
    let other = Connection::open(&path).unwrap();
    other.execute_batch("DELETE FROM log; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    drop(other);
    let file = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let mut word = [0; 4];
    file.read_exact_at(&mut word, 32).unwrap();
    let first_free = u64::from(u32::from_be_bytes(word));
    assert!(first_free > 0);
    file.write_all_at(&[0xff; 4096], (first_free - 1) * 4096).unwrap();

    let (store, health) = open(&path);
    assert_eq!(health.try_recv(), Err(mpsc::TryRecvError::Empty), "does not show yet");
    for n in 1..=100 {
        store.write(StoreItem::Log(event(n, events::SCS_STARTED, &"y".repeat(200))));
    }
    assert!(store.flush(LIMIT));
    let told: Vec<_> = health.try_iter().collect();
    assert!(told.iter().any(|h| matches!(h, Health::Renewed { durable_saved: true, .. })), "{told:?}");
    assert_eq!(store.log(&LogFilter::default()).unwrap().events.len(), 100);
    assert_eq!(store.load_durable().unwrap().as_deref(), Some("state"));
}

#[test]
fn old_records_go_open_ones_stay() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("takeover.db");
    let (store, _health) = open(&path);
    let now = wall_clock();
    let hour_ago = now - Duration::from_secs(3_600);
    for (at, text) in [(hour_ago, "old"), (now, "new")] {
        store.write(StoreItem::Log(event(at.0, events::SCS_STARTED, text)));
    }
    store.write(StoreItem::Record(Record::Incident(incident(1, None))));
    store.write(StoreItem::Record(Record::Incident(incident(2, Some(hour_ago.0)))));
    store.write(StoreItem::Record(Record::AlarmActive(alarm(1))));
    let ended = Record::AlarmEnded { alarm: alarm(2), ending: Ending::TimedOut, at: hour_ago };
    store.write(StoreItem::Record(ended));
    assert!(store.flush(LIMIT));

    let mut connection = Connection::open(&path).unwrap();
    prune_all(&mut connection, Retention { keep: Duration::from_secs(1_800), keep_bytes: u64::MAX });
    assert_eq!(texts(store.log(&LogFilter::default()).unwrap()), ["new"]);
    assert_eq!(store.incidents(&IncidentFilter::default()).unwrap(), [incident(1, None)]);
    let ended = IncidentFilter { open: Some(false), ..IncidentFilter::default() };
    assert_eq!(store.incidents(&ended).unwrap(), [], "pruned");
    let open = IncidentFilter { open: Some(true), ..IncidentFilter::default() };
    assert_eq!(store.incidents(&open).unwrap(), [incident(1, None)]);
    let alarms = store.alarms(true, None).unwrap();
    assert_eq!(alarms.iter().map(|a| a.alarm.number).collect::<Vec<_>>(), [1]);

    prune_all(&mut connection, Retention { keep: Duration::ZERO, keep_bytes: 0 });
    assert_eq!(store.incidents(&IncidentFilter::default()).unwrap().len(), 1, "open");
    assert_eq!(store.alarms(false, None).unwrap().len(), 1, "active");
}

#[test]
fn the_file_stays_within_its_size_the_oldest_go_first() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("takeover.db");
    let (store, _health) = open(&path);
    let start = wall_clock();
    for n in 0..5_000 {
        store.write(StoreItem::Log(event(
            start.0 + n,
            events::SCS_STARTED,
            &format!("{n} {}", "x".repeat(300)),
        )));
    }
    assert!(store.flush(LIMIT));
    let keep_bytes = 1 << 20;
    let mut connection = Connection::open(&path).unwrap();
    let steps = prune_all(&mut connection, Retention { keep: KEEP_ALL.keep, keep_bytes });
    assert!(steps > 3, "in small steps, not {steps}");
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let size = std::fs::metadata(&path).unwrap().len();
    assert!(size <= keep_bytes && size > keep_bytes / 2, "{size}");
    let rows = store.log(&LogFilter { limit: Some(MAX_ROWS), ..LogFilter::default() }).unwrap().events;
    assert!(rows.len() > 1_000 && rows.len() < 5_000);
    assert!(rows.windows(2).all(|w| w[0].seq + 1 == w[1].seq), "no holes");
    assert_eq!(rows.last().unwrap().seq, 5_000, "the newest are there");
}

/// Prunes until nothing is left to do; returns the steps that it took.
fn prune_all(connection: &mut Connection, limits: Retention) -> usize {
    (1..1_000).find(|_| !retention::prune_some(connection, limits).unwrap()).expect("pruning comes to an end")
}

#[test]
fn the_writer_prunes_by_itself() {
    let queue = Arc::new(Queue::new(10, Retention { keep: Duration::from_secs(60), keep_bytes: u64::MAX }));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("takeover.db");
    let (connection, _) = open::open_or_renew(&path).unwrap();
    queue.push(StoreItem::Log(event(1, events::SCS_STARTED, "of 1970")));
    let writer = writer::Writer::new(path.clone(), connection, Arc::clone(&queue), Box::new(|_| {}));
    let thread = std::thread::spawn(move || writer.run());
    assert!(queue.flush(LIMIT));
    let reader = Connection::open(&path).unwrap();
    let deadline = std::time::Instant::now() + LIMIT;
    let left = || reader.query_row("SELECT count(*) FROM log", [], |row| row.get::<_, i64>(0)).unwrap();
    while left() > 0 {
        assert!(std::time::Instant::now() < deadline, "not pruned");
        std::thread::yield_now();
    }
    queue.close();
    thread.join().unwrap();
}

/// Runs the test `name` of this binary as a process of its own. Such a test does nothing but where it is told its file.
fn child(name: &str, file: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("store::tests::{name}"), "--nocapture"]);
    command.env("STORE_TEST_FILE", file);
    command
}

fn file_of_child() -> Option<PathBuf> {
    std::env::var_os("STORE_TEST_FILE").map(PathBuf::from)
}

#[test]
fn a_kill_in_the_middle_of_writing_loses_nothing_that_was_committed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("takeover.db");
    for round in 0..3_u64 {
        let mut writer = child("child_writes_until_killed", &path).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(writer.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut numbers = lines.filter_map(|line| line.strip_prefix("committed ")?.parse::<u64>().ok());
        // Another moment each time.
        let committed = numbers.nth(usize::try_from(20 + round * 7).unwrap()).expect("the child writes");
        writer.kill().unwrap();
        writer.wait().unwrap();
        let committed = numbers.last().unwrap_or(committed);

        let check = Connection::open(&path).unwrap();
        let verdict: String = check.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(verdict, "ok");
        drop(check);
        let (store, health) = open(&path);
        assert_eq!(health.try_recv(), Err(mpsc::TryRecvError::Empty), "nothing is damaged");
        let durable: u64 = store.load_durable().unwrap().unwrap().parse().unwrap();
        assert!(durable >= committed, "state {durable} is older than {committed}");
        let filter =
            LogFilter { limit: Some(MAX_ROWS), host: Some(round_host(round)), ..LogFilter::default() };
        let numbers: Vec<u64> =
            texts(store.log(&filter).unwrap()).iter().map(|t| t.parse().unwrap()).collect();
        assert!(numbers.len() as u64 > committed, "{} rows, {committed} committed", numbers.len());
        assert!(numbers.iter().copied().eq(0..numbers.len() as u64), "no holes, nothing twice");
    }
}

fn round_host(round: u64) -> HostName {
    HostName::new(&format!("round{round}")).unwrap()
}

#[test]
fn child_writes_until_killed() {
    let Some(path) = file_of_child() else { return };
    let (store, _health) = open(&path);
    let round = (0..).find(|round| {
        let filter = LogFilter { host: Some(round_host(*round)), ..LogFilter::default() };
        store.log(&filter).unwrap().events.is_empty()
    });
    let host = round_host(round.unwrap());
    for n in 0..1_000_000_u64 {
        store.write(StoreItem::Log(event(n + 1, events::SCS_STARTED, &n.to_string()).on(&host)));
        store.write(StoreItem::Durable(n.to_string()));
        if n % 10 == 0 {
            assert!(store.flush(LIMIT));
            println!("committed {n}");
        }
    }
}

#[test]
fn a_full_disk_delays_records_and_loses_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("takeover.db");
    let inner = child("child_fills_its_disk", &path);
    // A mount namespace of its own, and a user namespace where that takes one; all gone with the process.
    let rights = if nix::unistd::Uid::effective().is_root() { "-m" } else { "-Urm" };
    let mut command = Command::new("unshare");
    command
        .args([rights, "sh", "-c", "mount -t tmpfs -o size=2m tmpfs \"$0\" && exec \"$@\""])
        .arg(dir.path());
    command.arg(inner.get_program()).args(inner.get_args()).env("STORE_TEST_FILE", &path);
    let output = command.output().expect("unshare of util-linux");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("all there"), "{text}");
}

#[test]
fn child_fills_its_disk() {
    let Some(path) = file_of_child() else { return };
    let (store, health) = open(&path);
    store.write(StoreItem::Durable("before".to_owned()));
    assert!(store.flush(LIMIT));
    let ballast = path.with_file_name("ballast");
    let full = std::fs::write(&ballast, vec![0_u8; 4 << 20]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    for n in 1..=3_000 {
        store.write(StoreItem::Log(event(n, events::SCS_STARTED, &format!("{n} {}", "x".repeat(100)))));
    }
    store.write(StoreItem::Durable("after".to_owned()));
    let Ok(Health::Failed { reason, .. }) = health.recv_timeout(LIMIT) else { panic!("the disk is full") };
    assert!(reason.contains("make room"), "{reason}");
    assert!(!store.flush(Duration::from_millis(10)));
    assert_eq!(store.load_durable().unwrap().as_deref(), Some("before"), "reading works");

    std::fs::remove_file(&ballast).unwrap();
    let Ok(Health::Back { dropped: 0, .. }) = health.recv_timeout(LIMIT) else {
        panic!("there is room again")
    };
    assert!(store.flush(LIMIT));
    assert_eq!(store.load_durable().unwrap().as_deref(), Some("after"));
    let rows = store.log(&LogFilter { limit: Some(MAX_ROWS), ..LogFilter::default() }).unwrap().events;
    assert!(rows.iter().map(|row| row.event.at.0).eq(1..=3_000), "each once, in order");
    println!("all there");
}
