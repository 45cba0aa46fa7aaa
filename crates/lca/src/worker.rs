//! The worker: one ordinary thread with an event loop of its own for everything that takes milliseconds or longer, namely
//! processes, scripts, probes, figures and files. What it takes away from itself it never takes from the real-time thread.

use crate::figures::Figures;
use crate::mailbox::Mailbox;
use crate::messages::{Job, News};
use crate::say::Say;
use crate::spawn::Spawner;
use crate::{pages, probes, scripts};
use domain::{AppName, LaunchOutcome, LaunchResult};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Receiver;
use tokio::task::{AbortHandle, LocalSet, spawn_local};
use tokio::time::{MissedTickBehavior, interval};

/// Time between figures.
const FIGURES: Duration = Duration::from_secs(5);
/// Most pages that are fetched at once.
const PAGES: usize = 8;

/// Works until the other side is gone, or SIGTERM or SIGINT came and the state is saved.
///
/// # Errors
/// The event loop could not be set up.
pub fn run(spawner: Spawner, jobs: Receiver<Job>, mailbox: Mailbox, say: Say) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let worker = Worker {
        spawner,
        mailbox,
        say,
        probes: BTreeMap::new(),
        stopped: None,
        pages: Arc::new(Semaphore::new(PAGES)),
    };
    LocalSet::new().block_on(&runtime, worker.work(jobs))
}

struct Worker {
    spawner: Spawner,
    mailbox: Mailbox,
    say: Say,
    probes: BTreeMap<AppName, AbortHandle>,
    /// As written last.
    stopped: Option<BTreeSet<AppName>>,
    /// Places for pages that are being fetched.
    pages: Arc<Semaphore>,
}

impl Worker {
    async fn work(mut self, mut jobs: Receiver<Job>) -> io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut figures = Figures::default();
        let mut ticks = interval(FIGURES);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                job = jobs.recv() => match job {
                    Some(job) => self.take(job),
                    None => return Ok(()),
                },
                _ = terminate.recv() => self.mailbox.send(News::Terminate),
                _ = interrupt.recv() => self.mailbox.send(News::Terminate),
                _ = ticks.tick() => self.mailbox.send(News::Figures(Box::new(figures.read()))),
            }
        }
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Find(app, settings) => {
                let found = self.spawner.find(&app, &settings.application);
                self.mailbox.send(News::Found(app, found));
            }
            Job::Start(app, settings) => {
                let pair = settings.pair.as_ref().map(|(name, _)| name);
                let started = self.spawner.spawn(&app, &settings.application, pair);
                self.mailbox.send(News::Started(app, started));
            }
            Job::Kill(app) => self.spawner.kill(&app),
            Job::KeepProcess(app, pid) => {
                let result = self.spawner.take_note(&app, pid).map(drop);
                self.complain(result);
            }
            Job::Clear(app) => {
                if let Err(e) = self.spawner.clear(&app) {
                    self.say.warning(format_args!("application {app}: processes are left: {e}"));
                }
            }
            Job::Probe { app, run, probe } => self.probe(app, run, probe),
            Job::ModeCommand(app, ref_id, script) => {
                let mailbox = self.mailbox.clone();
                spawn_local(async move {
                    let ended = scripts::run(&script).await;
                    let result = match ended.outcome {
                        LaunchOutcome::Succeeded => Ok(()),
                        other => Err(format!("{other} {}", ended.output.trim_end())),
                    };
                    mailbox.send(News::ModeCommandEnded(app, ref_id, result));
                });
            }
            Job::Script(ref_id, script) => {
                let mailbox = self.mailbox.clone();
                spawn_local(async move {
                    let begun = Instant::now();
                    let scripts::Ended { outcome, output } = scripts::run(&script).await;
                    let took_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                    mailbox.send(News::ScriptEnded(LaunchResult { ref_id, outcome, output, took_us }));
                });
            }
            Job::Save(state, stopped) => {
                let mut result = self.spawner.files.keep_run_state(&state);
                if result.is_ok() && self.stopped.as_ref() != Some(&stopped) {
                    result = self.spawner.files.keep_stopped(&stopped);
                    self.stopped = Some(stopped);
                }
                self.complain(result);
                self.mailbox.send(News::Saved);
            }
            Job::KeepSipSettings { app, assignment, user } => {
                let kept = self.spawner.keep_sip_settings(&app, assignment.as_deref(), user.as_deref());
                self.mailbox.send(News::SipSettingsKept(app, kept));
            }
            Job::Fetch { number, target, path } => {
                let Ok(place) = Arc::clone(&self.pages).try_acquire_owned() else {
                    let why = "too many pages are being fetched; try again".to_owned();
                    return self.mailbox.send(News::Fetched(number, Err(why)));
                };
                let mailbox = self.mailbox.clone();
                spawn_local(async move {
                    let page = pages::fetch(target, &path).await;
                    mailbox.send(News::Fetched(number, page));
                    drop(place);
                });
            }
            Job::SaveCluster(cluster) => {
                let result = self.spawner.files.keep_cluster(&cluster);
                self.complain(result);
            }
        }
    }

    fn probe(&mut self, app: AppName, run: u64, probe: Option<domain::Probe>) {
        if let Some(last) = self.probes.remove(&app) {
            last.abort();
        }
        let Some(probe) = probe else { return };
        let mailbox = self.mailbox.clone();
        let name = app.clone();
        let task = spawn_local(async move {
            probes::run(&probe, |result| {
                mailbox.send(News::Probed { app: name.clone(), run, result });
                true
            })
            .await;
        });
        self.probes.insert(app, task.abort_handle());
    }

    fn complain(&self, result: io::Result<()>) {
        if let Err(e) = result {
            self.say.error(format_args!("{e}; after a restart the agent will not know what it knows now"));
        }
    }
}
