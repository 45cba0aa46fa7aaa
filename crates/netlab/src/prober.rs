//! The client that asks a Virtual IP address every millisecond whether anybody is there, as a phone would, and keeps who
//! answered when. What that means is `observation`'s business.

use crate::observation::{Answer, Observation, Request};
use crate::sip::{self, LAST_NUMBER, Options};
use crate::types::{micros, now};
use crate::{Lab, LabError};
use domain::Micros;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::sys::time::{TimeSpec, TimeValLike};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How many who answer are told apart; those beyond count as one more.
const MAX_TAGS: usize = 64;
/// Longest wait for anything, so that an order to stop is seen soon even where requests are rare.
const LONGEST_WAIT_MS: u16 = 20;
/// Priority under SCHED_FIFO: low among real-time threads, so that it measures the product and does not disturb it.
const PRIORITY: i32 = 2;

/// What a prober does.
#[derive(Debug, Clone)]
pub struct ProbeSettings {
    /// The address asked; IPv4 or IPv6, UDP.
    pub target: SocketAddr,
    /// How often, at least 100 µs.
    pub every: Duration,
    /// How long an answer may take before its request counts as lost.
    pub patience: Duration,
    /// How many requests, and as many answers, are remembered; the oldest are forgotten first.
    pub keep: usize,
}

impl ProbeSettings {
    /// Asks `target` every millisecond, waits 100 ms for an answer and remembers the last ten minutes.
    #[must_use]
    pub fn new(target: SocketAddr) -> Self {
        let every = Duration::from_millis(1);
        Self { target, every, patience: Duration::from_millis(100), keep: 600_000 }
    }
}

/// A prober at work. Dropping it ends it.
pub struct Prober {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// A picture of the last second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// When it was taken.
    pub at: Micros,
    /// Requests sent in the second before.
    pub sent: usize,
    /// Who answered in that second, and how often; in the order of their first answer ever.
    pub answered: Vec<(String, usize)>,
    /// The last answer ever: who gave it, and when.
    pub last: Option<(String, Micros)>,
}

struct Shared {
    record: Mutex<Record>,
    /// Told at every answer.
    heard: Condvar,
    stop: AtomicBool,
}

/// What the thread has seen.
struct Record {
    started: Micros,
    /// When it ceased to ask.
    stopped: Option<Micros>,
    settings: ProbeSettings,
    real_time: bool,
    tags: Vec<String>,
    /// Numbered one by one from that of the first.
    requests: VecDeque<Request>,
    answers: VecDeque<Answer>,
    refused: u64,
    skipped: u64,
}

impl Prober {
    /// Starts one on a host of the lab.
    ///
    /// # Errors
    /// [`LabError::NoSuchHost`]; [`LabError::Kernel`], also where the host has no route to the target.
    pub fn start(lab: &Lab, host: &str, settings: ProbeSettings) -> Result<Self, LabError> {
        let failed = |source| LabError::Kernel { doing: format!("starting a prober on {host}"), source };
        let socket = lab.in_host(host, || open(settings.target))?.map_err(failed)?;
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)
            .map_err(|errno| failed(errno.into()))?;
        let local = socket.local_addr().map_err(failed)?;
        let started = now();
        let options = Options::new(local, settings.target, started.0);
        let shared = Arc::new(Shared {
            record: Mutex::new(Record::new(started, settings)),
            heard: Condvar::new(),
            stop: AtomicBool::new(false),
        });
        let worker = Worker { shared: Arc::clone(&shared), socket, timer, options, number: 0 };
        let thread = std::thread::Builder::new()
            .name("prober".to_owned())
            .spawn(move || worker.run())
            .map_err(failed)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Stops asking, waits for answers that are still due, and tells what was seen.
    #[must_use]
    pub fn stop(mut self) -> Observation {
        self.end();
        let record = self.shared.lock();
        // The window ends with the asking (and the last answer): the wait after that is no outage.
        let last_answer = record.answers.back().map_or(Micros(0), |last| last.at + Duration::from_micros(1));
        let end = record.stopped.unwrap_or_else(now).max(last_answer);
        record.observation(record.started, end, end)
    }

    /// What was seen from `from` on, as far as it is remembered, while it goes on asking.
    #[must_use]
    pub fn observe(&self, from: Micros) -> Observation {
        let record = self.shared.lock();
        let at = now();
        record.observation(from, at, at - record.settings.patience)
    }

    /// A picture of the last second; costs microseconds.
    #[must_use]
    pub fn live(&self) -> Live {
        self.shared.lock().live(now())
    }

    /// Waits until `tag` has given an answer at `since` or later; false where it has not within `limit`.
    #[must_use]
    pub fn await_answer(&self, tag: &str, since: Micros, limit: Duration) -> bool {
        let record = self.shared.lock();
        let (record, _) = self
            .shared
            .heard
            .wait_timeout_while(record, limit, |record| !record.answered_since(tag, since))
            .unwrap_or_else(PoisonError::into_inner);
        record.answered_since(tag, since)
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; what was seen before it is still true.
            let _ = thread.join();
        }
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    /// The record is whole between calls, also after a panic elsewhere.
    fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The socket: bound to whatever address the host has towards the target, and to hear nobody else.
fn open(target: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr =
        if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(target)?;
    socket.set_nonblocking(true)?;
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    Ok(socket)
}

/// What the thread has for itself.
struct Worker {
    shared: Arc<Shared>,
    socket: UdpSocket,
    timer: TimerFd,
    options: Options,
    /// Of the last request.
    number: u32,
}

impl Worker {
    fn run(mut self) {
        let real_time = become_real_time();
        let every = {
            let mut record = self.shared.lock();
            record.real_time = real_time;
            record.settings.every
        };
        let every = TimeSpec::nanoseconds(i64::try_from(every.as_nanos()).unwrap_or(i64::MAX).max(100_000));
        // An interval on the clock itself: a late wake-up does not shift those after it. The first at once.
        let ticks = Expiration::IntervalDelayed(TimeSpec::nanoseconds(1), every);
        self.timer
            .set(ticks, TimerSetTimeFlags::empty())
            .expect("the interval is positive and the timer ours");
        while !self.shared.stop.load(Ordering::Relaxed) && self.number < LAST_NUMBER {
            self.wait();
            self.receive();
            self.send_if_due();
        }
        self.timer.unset().expect("the timer is ours");
        self.shared.lock().stopped = Some(now());
        // Bounded by the patience of the last request.
        while self.shared.lock().awaits_answers(now()) {
            self.wait();
            self.receive();
        }
    }

    fn wait(&self) {
        let mut ready = [
            PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.timer.as_fd(), PollFlags::POLLIN),
        ];
        // An error (EINTR) is a wake-up like any other.
        let _ = poll(&mut ready, PollTimeout::from(LONGEST_WAIT_MS));
    }

    fn send_if_due(&mut self) {
        let mut expired = [0; 8];
        if nix::unistd::read(&self.timer, &mut expired) != Ok(8) {
            return; // not yet
        }
        self.number += 1;
        let request = self.options.numbered(self.number);
        let sent = now();
        // Sent or not (no route, no neighbour, an ICMP error that the socket reports now): it was due and stays unanswered.
        let _ = self.socket.send(request);
        let mut record = self.shared.lock();
        record.skipped += u64::from_ne_bytes(expired).saturating_sub(1);
        record.note_request(Request { number: self.number, sent, answered: None });
    }

    fn receive(&mut self) {
        let mut buffer = [0; 2_048];
        // Bounded, so that a flood cannot keep it from sending.
        for _ in 0..64 {
            match receive_one(&self.socket, &mut buffer) {
                Ok((length, at)) => {
                    if let Some(response) = sip::parse(&buffer[..length]) {
                        self.shared.lock().note_response(&response, at);
                        self.shared.heard.notify_all(); // costs nothing where nobody waits
                    }
                }
                Err(Errno::EAGAIN) => return,
                Err(_) => {} // an ICMP error on behalf of a request that was sent: it stays unanswered
            }
        }
    }
}

/// Receives a datagram, and when the kernel did.
fn receive_one(socket: &UdpSocket, buffer: &mut [u8]) -> Result<(usize, Micros), Errno> {
    let mut control = nix::cmsg_space!(TimeSpec);
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty())?;
    let (boot, wall) = (now(), micros(nix::time::ClockId::CLOCK_REALTIME));
    let stamp = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::ScmTimestampns(stamp) => Some(stamp),
        _ => None,
    });
    // The stamp is on the wall clock; how long ago it was counts on both.
    let age = stamp.map_or(Duration::ZERO, |stamp| wall.since(from_time(stamp)));
    Ok((message.bytes, boot - age))
}

fn from_time(time: TimeSpec) -> Micros {
    Micros(u64::try_from(time.num_microseconds()).unwrap_or(0))
}

/// Asks for SCHED_FIFO for this thread; false where that is not allowed.
fn become_real_time() -> bool {
    let parameters = libc::sched_param { sched_priority: PRIORITY };
    // SAFETY: the parameters are read during the call only; 0 is the calling thread.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) == 0 }
}

impl Record {
    fn new(started: Micros, settings: ProbeSettings) -> Self {
        Self {
            started,
            stopped: None,
            settings,
            real_time: false,
            tags: Vec::new(),
            requests: VecDeque::new(),
            answers: VecDeque::new(),
            refused: 0,
            skipped: 0,
        }
    }

    fn note_request(&mut self, request: Request) {
        if self.requests.len() >= self.settings.keep.max(1) {
            self.requests.pop_front();
        }
        self.requests.push_back(request);
    }

    fn note_response(&mut self, response: &sip::Response<'_>, at: Micros) {
        if !response.success {
            self.refused += 1;
            return;
        }
        let Some(first) = self.requests.front().map(|request| request.number) else { return };
        // Answers to what was never asked, or is forgotten, are not ours to count.
        let Some(place) = response.number.checked_sub(first).and_then(|n| usize::try_from(n).ok()) else {
            return;
        };
        let by = self.index_of(response.tag);
        let Some(request) = self.requests.get_mut(place) else { return };
        // In order, whatever microsecond was lost between the clocks.
        let at = at.max(request.sent).max(self.answers.back().map_or(Micros(0), |last| last.at));
        request.answered.get_or_insert(at);
        if self.answers.len() >= self.settings.keep.max(1) {
            self.answers.pop_front();
        }
        self.answers.push_back(Answer { number: response.number, at, by });
    }

    fn index_of(&mut self, tag: &str) -> u8 {
        let known = self.tags.iter().position(|known| known == tag);
        let index = known.unwrap_or_else(|| {
            if self.tags.len() < MAX_TAGS {
                self.tags.push(tag.to_owned());
            } else if self.tags.len() == MAX_TAGS {
                self.tags.push("others".to_owned());
            }
            self.tags.len() - 1
        });
        u8::try_from(index).unwrap_or(u8::MAX)
    }

    fn awaits_answers(&self, at: Micros) -> bool {
        let young = self.requests.iter().rev().take_while(|r| at.since(r.sent) < self.settings.patience);
        young.into_iter().any(|request| request.answered.is_none())
    }

    fn answered_since(&self, tag: &str, since: Micros) -> bool {
        let recent = self.answers.iter().rev().take_while(|answer| answer.at >= since);
        recent.into_iter().any(|answer| self.tags[usize::from(answer.by)] == tag)
    }

    fn observation(&self, from: Micros, to: Micros, settled_until: Micros) -> Observation {
        let requests = self.requests.range(self.requests.partition_point(|r| r.sent < from)..).copied();
        let answers = self.answers.range(self.answers.partition_point(|a| a.at < from)..).copied();
        Observation {
            from: from.max(self.started),
            to,
            settled_until,
            refused: self.refused,
            skipped: self.skipped,
            real_time: self.real_time,
            tags: self.tags.clone(),
            requests: requests.collect(),
            answers: answers.collect(),
        }
    }

    fn live(&self, at: Micros) -> Live {
        let since = at - Duration::from_secs(1);
        let mut counts = vec![0; self.tags.len()];
        for answer in self.answers.iter().rev().take_while(|answer| answer.at >= since) {
            counts[usize::from(answer.by)] += 1;
        }
        let answered = self.tags.iter().cloned().zip(counts).filter(|(_, count)| *count > 0).collect();
        let last = self.answers.back().map(|last| (self.tags[usize::from(last.by)].clone(), last.at));
        let sent = self.requests.iter().rev().take_while(|request| request.sent >= since).count();
        Live { at, sent, answered, last }
    }
}
