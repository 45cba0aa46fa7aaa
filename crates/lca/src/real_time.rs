//! The real-time thread: one loop over everything that must not wait for anything else. It reads no files, starts no
//! processes and writes no log; what takes longer than microseconds is the worker's.

use crate::agent::Agent;
use crate::clock::boottime;
use crate::controlled;
use crate::messages::News;
use crate::sys::Timer;
use crate::watchdog::{BEAT, Pulse};
use control_link::messages::ToAgent;
use control_link::real_time::raise_thread;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use std::io;
use std::os::fd::AsRawFd;
use std::sync::mpsc::Receiver;
use std::time::Duration;

/// Wakes the loop for news of the worker.
pub const WAKER: Token = Token(0);
const TIMER: Token = Token(1);
/// The connection to the SCS.
pub const LINK: Token = Token(2);
/// The socket for heartbeats.
pub const HEARTBEATS: Token = Token(3);
const MONITOR: Token = Token(4);
const DUPLICATES: Token = Token(5);
const INQUIRY: Token = Token(6);
/// The first token of processes.
pub const FIRST_PROCESS: usize = 16;
/// The first token of other agents: far above those of all processes that will ever be started.
pub const FIRST_PEER: Token = Token(1 << 48);

/// SCHED_FIFO priority: above everything ordinary, below the kernel's own threads (50).
const PRIORITY: libc::c_int = 20;
/// Lateness up to this much is the machine's ordinary course.
const SLACK: Duration = Duration::from_millis(2);
/// Events taken from the kernel at once.
const EVENTS: usize = 256;
/// News of the worker taken in one round.
const MOST_NEWS: usize = 64;

/// Whether the thread has real-time scheduling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// It has.
    Given,
    /// Switched off in the host file.
    NotWanted,
    /// The system does not allow it.
    Refused,
}

/// Runs until the agent is told to end.
///
/// # Errors
/// The event loop broke: the agent cannot go on.
pub fn run(
    mut agent: Agent,
    mut poll: Poll,
    news: &Receiver<News>,
    pulse: &Pulse,
    want_real_time: bool,
) -> io::Result<()> {
    let rights = match want_real_time {
        false => Rights::NotWanted,
        true if raise_thread(PRIORITY) => Rights::Given,
        true => Rights::Refused,
    };
    let timer = Timer::new()?;
    let register = |fd, token| poll.registry().register(&mut SourceFd(&fd), token, Interest::READABLE);
    register(timer.as_raw_fd(), TIMER)?;
    if let Some(monitor) = agent.vips.monitor() {
        register(monitor.as_raw_fd(), MONITOR)?;
    }
    if let Some(duplicates) = agent.vips.duplicates() {
        register(duplicates.as_raw_fd(), DUPLICATES)?;
    }
    if let Some(inquiry) = agent.observer.inquiry() {
        register(inquiry.as_raw_fd(), INQUIRY)?;
    }
    agent.begin(rights, boottime());

    let mut events = Events::with_capacity(EVENTS);
    let mut pending = Pending::default();
    let mut messages = Vec::new();
    while !agent.terminated() {
        pulse.beat();
        let begun = boottime();
        let idle = begun + BEAT;
        // What is due since before this round (as an agent that starts has it, since ever) is late by nobody's sleep.
        let deadline = agent.next_deadline().map_or(idle, |deadline| deadline.min(idle)).max(begun);
        timer.set(Some(deadline))?;
        let wait = (!pending.is_empty()).then_some(Duration::ZERO);
        match poll.poll(&mut events, wait) {
            Err(e) if e.kind() != io::ErrorKind::Interrupted => return Err(e),
            Ok(()) | Err(_) => {}
        }
        let now = boottime();
        // However the loop was woken: past its deadline is late.
        let late = now.since(deadline);
        if late > SLACK {
            agent.stalled(late, now);
        }
        for event in &events {
            pending.push(event.token());
        }
        for token in pending.take() {
            if ready(&mut agent, token, news, &mut messages) {
                pending.push(token);
            }
        }
        // Last, so that what arrived during a stall is heard before anybody counts as silent. The agent may have been
        // stopped in the middle of a round, too.
        let begun = now;
        let now = boottime();
        if now.since(begun) > SLACK {
            agent.stalled(now.since(begun), now);
        }
        agent.time_passed(now);
        agent.save();
    }
    agent.save_for_good();
    Ok(())
}

/// Serves one descriptor. True: there is more, which the edge-triggered poll will not tell again.
fn ready(agent: &mut Agent, token: Token, news: &Receiver<News>, messages: &mut Vec<ToAgent>) -> bool {
    let now = boottime();
    match token {
        WAKER => {
            for _ in 0..MOST_NEWS {
                match news.try_recv() {
                    Ok(news) => agent.hear(news, boottime()),
                    Err(_) => return false,
                }
            }
            true
        }
        // What is due is looked for in every round.
        TIMER => false,
        LINK => {
            let (change, more) = agent.session.ready(now, messages);
            agent.listen(messages, now);
            agent.changed(change, now);
            more
        }
        HEARTBEATS => agent.hear_scs(now),
        MONITOR => agent.watch_network(now),
        DUPLICATES => {
            agent.hear_duplicates(now);
            false
        }
        INQUIRY => agent.observer.hear(now),
        peer if peer >= FIRST_PEER => agent.hear_peers(peer, now),
        process => match controlled::from_token(FIRST_PROCESS, process) {
            Some((run, kind)) => agent.process_ready(run, kind, now),
            None => false,
        },
    }
}

/// Descriptors to be served, each once, in the order in which they became ready.
#[derive(Debug, Default)]
struct Pending(Vec<Token>);

impl Pending {
    fn push(&mut self, token: Token) {
        if !self.0.contains(&token) {
            self.0.push(token);
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self) -> Vec<Token> {
        std::mem::take(&mut self.0)
    }
}
