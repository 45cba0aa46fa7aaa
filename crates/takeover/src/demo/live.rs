//! The demo on a terminal: draws the picture ten times a second and does what the keys say.

use super::picture::{self, Change, Outside, Scene};
use super::stage::Stage;
use super::terminal::Screen;
use super::workflow::Seen;
use domain::Micros;
use nix::sys::signal::Signal;
use rehearsal::{Site, VIP};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Between two pictures.
const FRAME: Duration = Duration::from_millis(100);
/// How long the client goes on watching behind the end of a role change, before what it saw is told.
const WATCHED_AFTER: Duration = Duration::from_millis(250);
/// How long before the first step of a role change its outage can have begun: a hung server is noticed after a second, a
/// killed agent after five.
const OUTAGE_BEFORE: Duration = Duration::from_secs(6);

/// Shows the stage until somebody quits or the terminal is gone.
///
/// # Errors
/// The terminal cannot be used.
pub fn run(stage: &mut Stage, outside: Option<&Outside>) -> anyhow::Result<()> {
    let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let screen = Screen::enter()?;
    let mut follower = Follower { last: None, window_from: Site::now() };
    let mut message = "everything runs; press a key".to_owned();
    loop {
        follower.look(stage);
        // An SCS that does not answer is part of the show.
        let view = stage.api.view().ok();
        let holders = stage.site.holders(VIP)?;
        let scene = Scene {
            view: view.as_ref(),
            live: &stage.prober.live(),
            holders: &holders,
            cut: stage.cut,
            last: follower.last.as_ref(),
            message: &message,
            outside,
        };
        screen.show(&picture::lines(&scene, screen.size(), colour))?;
        let Some(keys) = screen.keys(FRAME)? else { return Ok(()) };
        for key in keys {
            match press(stage, key) {
                Pressed::Quit => return Ok(()),
                Pressed::Nothing => {}
                Pressed::Done(Ok(text)) => message = text,
                Pressed::Done(Err(error)) => message = format!("not done: {error:#}"),
            }
        }
    }
}

enum Pressed {
    Quit,
    Nothing,
    Done(anyhow::Result<String>),
}

fn press(stage: &mut Stage, key: u8) -> Pressed {
    Pressed::Done(match key {
        b'q' => return Pressed::Quit,
        b's' => stage.switch_over().map(|()| "a switchover was ordered".to_owned()),
        b'k' => signal_primary(stage, Signal::SIGKILL, "was killed; its LCA restarts it"),
        b'h' => signal_primary(stage, Signal::SIGSTOP, "hangs; its LCA notices that its heartbeats stay out"),
        b'c' => cut(stage),
        b'r' => stage.reconnect().map(|host| format!("{host} is connected again")),
        b'a' => kill_or_start_agent(stage),
        _ => return Pressed::Nothing,
    })
}

fn signal_primary(stage: &Stage, signal: Signal, then: &str) -> anyhow::Result<String> {
    let primary = stage.primary()?;
    stage.site.signal_app(primary.app, signal)?;
    Ok(format!("{} {then}", primary.app))
}

fn cut(stage: &mut Stage) -> anyhow::Result<String> {
    let host = stage.primary()?.host;
    stage.cut(host)?;
    Ok(format!("{host} was cut off; it cannot renew its lease on the VIP, which ends (r)"))
}

fn kill_or_start_agent(stage: &mut Stage) -> anyhow::Result<String> {
    if stage.without_agent.is_some() {
        let host = stage.restart_agent()?;
        return Ok(format!("the LCA on {host} was started again"));
    }
    let host = stage.primary()?.host;
    stage.kill_agent(host)?;
    Ok(format!("the LCA on {host} was killed, its server goes on; a starts it again"))
}

/// Follows the incidents, whoever caused them: a key, or the command line in another terminal.
struct Follower {
    last: Option<Change>,
    /// Before this, the client saw other changes.
    window_from: Micros,
}

impl Follower {
    fn look(&mut self, stage: &Stage) {
        let Some(newest) = stage.newest_incidents().ok().and_then(|mut incidents| incidents.pop()) else {
            return;
        };
        if let Some(known) = &self.last
            && known.incident == newest
            && known.seen.is_some()
        {
            return;
        }
        let (now, wall) = (Site::now(), wall_clock());
        let ended = newest.ended.is_some_and(|ended| wall.since(ended) >= WATCHED_AFTER);
        let seen = ended.then(|| {
            // The record's times are on the wall clock, the client's are not.
            let begun = now - wall.since(newest.begun);
            let window = stage.prober.observe(self.window_from.max(begun - OUTAGE_BEFORE));
            self.window_from = now;
            let old = newest.from.as_ref().map_or("", |from| from.as_str());
            Seen::change(&window, newest.kind, old, newest.to.as_str())
        });
        self.last = Some(Change { incident: newest, seen });
    }
}

fn wall_clock() -> Micros {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Micros(u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX))
}
