//! One end of the stream: what it knows of the other, what it sends, what it takes.
//!
//! ```text
//!   what this end does with a connection         (none of it while the other end is not understood)
//!
//!             the peer greeted        own: primary, peer: backup whose value is not newer
//!   Greeting ------------------> Idle --------------------------------------------------> Sending
//!                                 |  ^                                                     |   ^
//!                   Begin, while  |  | own role or the peer's has changed                  |   | Again:
//!                   own: backup   v  |                                                     '---' from the beginning
//!                               Taking
//! ```
//!
//! Roles come from outside, by the lease, and are told to the peer. They decide who streams; the stream decides no roles.

use crate::frame::{self, Ack, Begin, Clock, Done, FULL_FRAME, Frame, Hello, Kind, MAX_FRAME};
use crate::lag::{Account, Gauge, Lag};
use crate::outbox::Outbox;
use crate::replica::{Replica, Unknown};
use crate::settings::{Broken, Counters, Phase, Readiness, Role, Settings, Standing};
use domain::{Epoch, Micros};
use serde::Serialize;
use std::time::Duration;

/// Most bytes that wait where a goodbye is worth writing.
const GOODBYE_BEHIND: usize = 64 * 1024;

/// One end of the stream, for as long as the process lives: connections come and go. `K` is [`Replica::Cursor`].
///
/// Around it, in each round of an event loop: [`Replicator::received`] with what has arrived, [`Replicator::send`] with
/// each change right after it was made, [`Replicator::due`] last, and what [`Replicator::outgoing`] gives is sent. An error
/// of any of these ends the connection: what waits may be sent once more, then [`Replicator::disconnected`].
#[derive(Debug)]
pub struct Replicator<K> {
    settings: Settings,
    own: Standing,
    session: Option<Session<K>>,
    /// Until when a backup that was ready counts as ready without a connection.
    parting_until: Option<Micros>,
    counters: Counters,
}

/// What belongs to a connection.
#[derive(Debug)]
struct Session<K> {
    outbox: Outbox,
    input: Vec<u8>,
    /// When something was last heard.
    heard_at: Micros,
    next_heartbeat: Micros,
    /// When what was taken is acknowledged.
    ack_at: Option<Micros>,
    peer: Option<Hello>,
    sending: Option<Sending<K>>,
    taking: Option<Taking>,
    /// How many streams were begun by this end.
    streams: u32,
    gauge: Gauge,
    /// Nothing is written or read any more.
    over: bool,
}

/// The primary's side of a stream.
#[derive(Debug)]
struct Sending<K> {
    account: Account,
    snapshot: Snapshot<K>,
}

/// How far the primary is with the whole value.
#[derive(Debug)]
enum Snapshot<K> {
    /// What is behind the cursor is still to be sent.
    Under { cursor: Option<K>, next_part: Micros },
    /// All was sent with the change of this number.
    Sent { end: u64 },
    /// All was acknowledged.
    Acknowledged,
}

/// The backup's side of a stream.
#[derive(Debug)]
struct Taking {
    stream: u32,
    taken: u64,
    /// Whether the whole value was taken.
    whole: bool,
    /// What the primary said of the lag.
    told_lag: Duration,
}

impl<K> Replicator<K> {
    /// One end, a backup without a value or a connection.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let own = Standing { role: Role::Backup, value: Epoch(0), whole: true };
        Self { settings, own, session: None, parting_until: None, counters: Counters::default() }
    }

    /// There is a connection; one that there was before is forgotten.
    pub fn connected(&mut self, now: Micros) {
        self.part(now);
        let mut session = Session {
            outbox: Outbox::default(),
            input: Vec::new(),
            heard_at: now,
            next_heartbeat: now + self.settings.timing.heartbeat,
            ack_at: None,
            peer: None,
            sending: None,
            taking: None,
            streams: 0,
            gauge: Gauge::default(),
            over: false,
        };
        frame::write_hello(&mut session.outbox, &self.settings, self.own);
        self.session = Some(session);
    }

    /// There is no connection any more.
    pub fn disconnected(&mut self, now: Micros) {
        self.part(now);
        self.session = None;
    }

    /// The role is another one, or its epoch. To be called before the value is changed under it, and after everything
    /// that has arrived was [`Replicator::received`].
    pub fn set_role(&mut self, role: Role, epoch: Epoch) {
        let own = match role {
            Role::Primary => Standing { role, value: self.own.value.max(epoch), whole: true },
            Role::Backup => Standing { role, ..self.own },
        };
        if role == Role::Primary {
            self.parting_until = None;
        }
        self.stand(own);
    }

    /// The settings have changed.
    pub fn set_settings(&mut self, settings: Settings) {
        if settings == self.settings {
            return;
        }
        self.settings = settings;
        if let Some(session) = self.session.as_mut().filter(|session| !session.over) {
            frame::write_hello(&mut session.outbox, &self.settings, self.own);
        }
        self.settle();
    }

    /// The value was changed. Nothing is sent where nobody takes it.
    ///
    /// # Errors
    /// [`Broken`]: the connection is of no use any more.
    pub fn send<C: Serialize>(&mut self, changes: &[C], now: Micros) -> Result<(), Broken> {
        let limit = self.settings.limits.queue;
        let Some(session) = self.session.as_mut().filter(|session| !session.over) else { return Ok(()) };
        let Some(sending) = &mut session.sending else { return Ok(()) };
        self.counters.changes_sent += changes.len() as u64;
        let sent = write_changes(&mut session.outbox, &mut sending.account, changes, now).and_then(|()| {
            let bytes = session.outbox.len();
            if bytes > limit { Err(Broken::Overflow { bytes }) } else { Ok(()) }
        });
        self.checked(sent)
    }

    /// Bytes have arrived.
    ///
    /// # Errors
    /// [`Broken`]: the connection is of no use any more. What was whole before was taken.
    pub fn received<R>(&mut self, bytes: &[u8], replica: &mut R, now: Micros) -> Result<(), Broken>
    where
        R: Replica<Cursor = K>,
    {
        let Some(session) = self.session.as_mut().filter(|session| !session.over) else { return Ok(()) };
        session.heard_at = now;
        let mut input = std::mem::take(&mut session.input);
        input.extend_from_slice(bytes);
        let mut rest = input.as_slice();
        let taken = loop {
            match frame::first(rest) {
                Ok(None) => break Ok(()),
                Ok(Some(frame)) => {
                    if let Err(broken) = self.frame(frame, replica, now) {
                        break Err(broken);
                    }
                    rest = &rest[frame.length..];
                }
                Err(broken) => break Err(broken),
            }
        };
        let done = input.len() - rest.len();
        input.drain(..done);
        if let Some(session) = &mut self.session {
            session.input = input;
        }
        self.checked(taken)
    }

    /// Does what is due: heartbeats, acknowledgements, the next part of a resynchronisation, and giving up.
    ///
    /// # Errors
    /// [`Broken`]: the connection is of no use any more.
    pub fn due<R: Replica<Cursor = K>>(&mut self, replica: &R, now: Micros) -> Result<(), Broken> {
        let done = self.live(now).and_then(|()| {
            self.begin(replica, now);
            self.part_of_snapshot(replica, now)
        });
        self.checked(done)?;
        self.beat(replica, now);
        Ok(())
    }

    /// When [`Replicator::due`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Micros> {
        let session = self.session.as_ref().filter(|session| !session.over)?;
        if session.sending.is_none() && self.may_send() {
            return Some(Micros(0));
        }
        let part = session.sending.as_ref().and_then(|sending| match &sending.snapshot {
            Snapshot::Under { next_part, .. } => self.has_room(session, sending).then_some(*next_part),
            Snapshot::Sent { .. } | Snapshot::Acknowledged => None,
        });
        let silence = session.heard_at + self.settings.timing.silence;
        [part, session.ack_at, Some(silence), Some(session.next_heartbeat)].into_iter().flatten().min()
    }

    /// What is to be sent.
    #[must_use]
    pub fn outgoing(&self) -> &[u8] {
        self.session.as_ref().map_or(&[], |session| session.outbox.pending())
    }

    /// The first `length` bytes of [`Replicator::outgoing`] are on their way.
    pub fn sent(&mut self, length: usize) {
        if let Some(session) = &mut self.session {
            session.outbox.sent(length);
        }
    }

    /// What it has done so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// How this end stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.own
    }

    /// How the replication stands.
    pub fn readiness(&mut self, now: Micros) -> Readiness {
        let phase = self.phase();
        let (lag, timing) = (self.lag(now), self.settings.timing);
        let other_settings = self.peer().is_some_and(|peer| peer.digest != self.settings.digest);
        let ready = match phase {
            Phase::Live => {
                let time = lag.unwrap_or_default().time;
                self.session.as_mut().is_some_and(|session| {
                    session.gauge.judge(time, timing.allowed_lag, timing.recovery, now)
                })
            }
            Phase::NoPrimary => {
                let newer = self.peer().is_some_and(|peer| peer.standing.value > self.own.value);
                self.own.whole && !newer
            }
            Phase::Disconnected | Phase::Greeting => self.parting_until.is_some_and(|until| now < until),
            Phase::OtherShape | Phase::BothPrimary | Phase::Newer | Phase::Resync { .. } => false,
        };
        Readiness { ready: ready && !other_settings, lag, phase, other_settings }
    }

    // ---- how it stands

    fn peer(&self) -> Option<&Hello> {
        self.session.as_ref()?.peer.as_ref()
    }

    fn phase(&self) -> Phase {
        let Some(session) = self.session.as_ref().filter(|session| !session.over) else {
            return Phase::Disconnected;
        };
        let Some(peer) = &session.peer else { return Phase::Greeting };
        if peer.shape != self.settings.shape {
            return Phase::OtherShape;
        }
        match (self.own.role, peer.standing.role) {
            (Role::Primary, Role::Primary) => Phase::BothPrimary,
            (Role::Backup, Role::Backup) => Phase::NoPrimary,
            (Role::Primary, Role::Backup) if peer.standing.value > self.own.value => Phase::Newer,
            (Role::Backup, Role::Primary) if self.own.value > peer.standing.value => Phase::Newer,
            (Role::Primary, Role::Backup) => match &session.sending {
                Some(Sending { snapshot: Snapshot::Acknowledged, .. }) => Phase::Live,
                Some(sending) => Phase::Resync { changes: sending.account.sent },
                None => Phase::Resync { changes: 0 },
            },
            (Role::Backup, Role::Primary) => match &session.taking {
                Some(taking) if taking.whole => Phase::Live,
                Some(taking) => Phase::Resync { changes: taking.taken },
                None => Phase::Resync { changes: 0 },
            },
        }
    }

    fn lag(&self, now: Micros) -> Option<Lag> {
        let session = self.session.as_ref().filter(|session| !session.over && session.peer.is_some())?;
        if let Some(sending) = &session.sending {
            return Some(sending.account.lag(now));
        }
        // What a backup has not heard of it cannot count; silence beyond what is usual may hide as much.
        let silence = now.since(session.heard_at).saturating_sub(self.settings.timing.heartbeat);
        let told = session.taking.as_ref().map(|taking| taking.told_lag).unwrap_or_default();
        Some(Lag { time: silence.max(told), changes: 0 })
    }

    /// The connection is going: remembers whether it leaves a backup that is ready.
    fn part(&mut self, now: Micros) {
        let (backup, parting) = (self.own.role == Role::Backup, self.settings.timing.parting);
        if backup && self.phase() == Phase::Live && self.readiness(now).ready {
            self.parting_until = Some(now + parting);
        }
    }

    fn stand(&mut self, own: Standing) {
        if own == self.own {
            return;
        }
        self.own = own;
        if let Some(session) = self.session.as_mut().filter(|session| !session.over) {
            frame::write(&mut session.outbox, Kind::Standing, &own);
        }
        self.settle();
    }

    /// Ends streams that are none any more after a role or the settings have changed.
    fn settle(&mut self) {
        let (may_send, may_take) = (self.may_send(), self.may_take());
        let Some(session) = &mut self.session else { return };
        if !may_send {
            session.sending = None;
        }
        if !may_take {
            session.taking = None;
        }
    }

    fn may_send(&self) -> bool {
        let Some(peer) = self.peer() else { return false };
        self.own.role == Role::Primary
            && peer.standing.role == Role::Backup
            && peer.standing.value <= self.own.value
            && peer.shape == self.settings.shape
    }

    fn may_take(&self) -> bool {
        let Some(peer) = self.peer() else { return false };
        self.own.role == Role::Backup
            && peer.standing.role == Role::Primary
            && peer.standing.value >= self.own.value
            && peer.shape == self.settings.shape
    }

    /// Ends what an error has ended, and tells the peer why where it can use that.
    fn checked(&mut self, result: Result<(), Broken>) -> Result<(), Broken> {
        let Err(broken) = &result else { return result };
        let Some(session) = self.session.as_mut().filter(|session| !session.over) else { return result };
        let tell = match broken {
            Broken::OtherVersion { .. }
            | Broken::OtherPair { .. }
            | Broken::Malformed(_)
            | Broken::TooLarge { .. }
            | Broken::Unwritable(_)
            | Broken::Behind(_) => session.outbox.len() < GOODBYE_BEHIND,
            Broken::Overflow { .. } | Broken::Silent | Broken::Goodbye(_) => false,
        };
        if tell {
            frame::write_goodbye(&mut session.outbox, &broken.to_string());
        }
        session.over = true;
        result
    }

    // ---- frames

    fn frame<R>(&mut self, frame: Frame<'_>, replica: &mut R, now: Micros) -> Result<(), Broken>
    where
        R: Replica<Cursor = K>,
    {
        let Frame { kind, body, .. } = frame;
        let greeted = self.peer().is_some();
        match kind {
            Kind::Goodbye => Err(frame::read_goodbye(body)),
            Kind::Hello => self.hello(body),
            _ if !greeted => Err(Broken::Malformed("a frame before its hello")),
            Kind::Standing => {
                self.peer_stands(frame::read(body, "a standing")?);
                Ok(())
            }
            Kind::Begin => {
                self.stream_begins(frame::read(body, "the beginning of a stream")?, replica, now);
                Ok(())
            }
            Kind::Changes => self.take_changes(body, replica, now),
            Kind::Done => self.stream_is_whole(frame::read(body, "the end of a snapshot")?, replica, now),
            Kind::Ack => self.acknowledged(frame::read(body, "an acknowledgement")?),
            Kind::Clock => {
                self.clock(frame::read(body, "a clock")?, replica, now);
                Ok(())
            }
            Kind::Again => {
                if let Some(session) = &mut self.session {
                    session.sending = None;
                }
                Ok(())
            }
        }
    }

    fn hello(&mut self, body: &[u8]) -> Result<(), Broken> {
        let hello = frame::read_hello(body, self.settings.format)?;
        if hello.pair != self.settings.pair || hello.application == self.settings.application {
            return Err(Broken::OtherPair { pair: hello.pair, application: hello.application });
        }
        if let Some(session) = &mut self.session {
            session.peer = Some(hello);
        }
        self.settle();
        Ok(())
    }

    fn peer_stands(&mut self, standing: Standing) {
        if let Some(peer) = self.session.as_mut().and_then(|session| session.peer.as_mut()) {
            peer.standing = standing;
        }
        self.settle();
        if self.session.as_ref().is_some_and(|session| session.taking.is_some()) {
            // The same primary, under a newer epoch.
            self.stand(Standing { value: standing.value, ..self.own });
        }
    }

    fn stream_begins<R>(&mut self, begin: Begin, replica: &mut R, now: Micros)
    where
        R: Replica<Cursor = K>,
    {
        if !self.may_take() {
            // It does not know yet who we are now; what follows is ignored.
            return;
        }
        replica.heard_clock(Micros(begin.clock), now);
        replica.begin_resync();
        self.parting_until = None;
        self.counters.streams_taken += 1;
        let value = self.peer().map_or(self.own.value, |peer| peer.standing.value);
        if let Some(session) = &mut self.session {
            session.taking =
                Some(Taking { stream: begin.stream, taken: 0, whole: false, told_lag: Duration::ZERO });
            session.gauge = Gauge::default();
        }
        self.stand(Standing { role: Role::Backup, value, whole: false });
    }

    fn take_changes<R>(&mut self, body: &[u8], replica: &mut R, now: Micros) -> Result<(), Broken>
    where
        R: Replica<Cursor = K>,
    {
        let Some(session) = &mut self.session else { return Ok(()) };
        let Some(taking) = &mut session.taking else { return Ok(()) };
        let malformed = |_| Broken::Malformed("a change");
        let (before, mut rest) = postcard::take_from_bytes::<u64>(body).map_err(malformed)?;
        if before != taking.taken {
            return Err(Broken::Malformed("changes that are not the next ones"));
        }
        while !rest.is_empty() {
            let (change, behind) = postcard::take_from_bytes::<R::Change>(rest).map_err(malformed)?;
            rest = behind;
            taking.taken += 1;
            self.counters.changes_taken += 1;
            if let Err(Unknown) = replica.apply(change, now)
                && taking.whole
            {
                // The two have come apart, by an error of either program. A new stream puts that right.
                let open = session.outbox.begin(Kind::Again);
                session.outbox.end(open);
                session.taking = None;
                self.own.whole = false;
                return Ok(());
            }
        }
        session.ack_at.get_or_insert(now + self.settings.timing.ack);
        Ok(())
    }

    fn stream_is_whole<R>(&mut self, done: Done, replica: &mut R, now: Micros) -> Result<(), Broken>
    where
        R: Replica<Cursor = K>,
    {
        let Some(session) = &mut self.session else { return Ok(()) };
        let Some(taking) = &mut session.taking else { return Ok(()) };
        if done.sent != taking.taken || taking.whole {
            return Err(Broken::Malformed("the end of a snapshot"));
        }
        taking.whole = true;
        session.ack_at = Some(now);
        replica.end_resync();
        self.stand(Standing { whole: true, ..self.own });
        Ok(())
    }

    fn acknowledged(&mut self, ack: Ack) -> Result<(), Broken> {
        let Some(session) = &mut self.session else { return Ok(()) };
        let (stream, Some(sending)) = (session.streams, &mut session.sending) else { return Ok(()) };
        if ack.stream != stream {
            // Of the one before.
            return Ok(());
        }
        if !sending.account.acknowledged(ack.taken) {
            return Err(Broken::Malformed("an acknowledgement of what it was not sent"));
        }
        if let Snapshot::Sent { end } = sending.snapshot
            && ack.taken >= end
            && ack.whole
        {
            sending.snapshot = Snapshot::Acknowledged;
        }
        Ok(())
    }

    fn clock<R>(&mut self, clock: Clock, replica: &mut R, now: Micros)
    where
        R: Replica<Cursor = K>,
    {
        let Some(taking) = self.session.as_mut().and_then(|session| session.taking.as_mut()) else { return };
        taking.told_lag = Duration::from_millis(clock.lag_ms.into());
        replica.heard_clock(Micros(clock.clock), now);
    }

    // ---- time

    /// Whether the peer is alive.
    fn live(&self, now: Micros) -> Result<(), Broken> {
        let Some(session) = self.session.as_ref().filter(|session| !session.over) else { return Ok(()) };
        let silence = self.settings.timing.silence;
        if now.since(session.heard_at) >= silence {
            return Err(Broken::Silent);
        }
        let lag = session.sending.as_ref().map_or(Duration::ZERO, |sending| sending.account.lag(now).time);
        if lag >= silence { Err(Broken::Behind(lag)) } else { Ok(()) }
    }

    /// Begins to stream where that is called for.
    fn begin<R: Replica<Cursor = K>>(&mut self, replica: &R, now: Micros) {
        if !self.may_send() {
            return;
        }
        let Some(session) = self.session.as_mut().filter(|s| !s.over && s.sending.is_none()) else { return };
        session.streams += 1;
        self.counters.streams_sent += 1;
        let begin = Begin { stream: session.streams, clock: replica.clock(now).0 };
        frame::write(&mut session.outbox, Kind::Begin, &begin);
        session.gauge = Gauge::default();
        session.sending = Some(Sending {
            account: Account::default(),
            snapshot: Snapshot::Under { cursor: None, next_part: now },
        });
    }

    fn has_room(&self, session: &Session<K>, sending: &Sending<K>) -> bool {
        let limits = self.settings.limits;
        session.outbox.len() <= limits.part_queue && sending.account.unacknowledged() <= limits.window
    }

    /// Sends the next part of the whole value.
    fn part_of_snapshot<R>(&mut self, replica: &R, now: Micros) -> Result<(), Broken>
    where
        R: Replica<Cursor = K>,
    {
        let (most, pause) = (self.settings.limits.part, self.settings.timing.part);
        let Some(session) = self.session.as_ref().filter(|session| !session.over) else { return Ok(()) };
        if !session.sending.as_ref().is_some_and(|sending| self.has_room(session, sending)) {
            return Ok(());
        }
        let Some(session) = &mut self.session else { return Ok(()) };
        let Some(Sending { account, snapshot }) = &mut session.sending else { return Ok(()) };
        let Snapshot::Under { cursor, next_part } = snapshot else { return Ok(()) };
        if now < *next_part {
            return Ok(());
        }
        let mut items = Vec::new();
        let next = replica.snapshot(cursor.as_ref(), most, now, &mut items);
        self.counters.changes_sent += items.len() as u64;
        write_changes(&mut session.outbox, account, &items, now)?;
        if next.is_some() {
            *cursor = next;
            *next_part = now + pause;
        } else {
            let end = account.sent;
            frame::write(&mut session.outbox, Kind::Done, &Done { sent: end });
            // Also where there was nothing to send: it is the acknowledgement of the end that is waited for.
            account.mark(now);
            *snapshot = Snapshot::Sent { end };
        }
        Ok(())
    }

    /// Says that this end lives, and what it has.
    fn beat<R: Replica<Cursor = K>>(&mut self, replica: &R, now: Micros) {
        let heartbeat = self.settings.timing.heartbeat;
        let Some(session) = self.session.as_mut().filter(|session| !session.over) else { return };
        let ack_due = session.ack_at.is_some_and(|at| now >= at);
        if now < session.next_heartbeat && !ack_due {
            return;
        }
        session.next_heartbeat = now + heartbeat;
        match &session.sending {
            Some(sending) => {
                let lag = sending.account.lag(now).time.as_millis();
                let clock =
                    Clock { clock: replica.clock(now).0, lag_ms: u32::try_from(lag).unwrap_or(u32::MAX) };
                frame::write(&mut session.outbox, Kind::Clock, &clock);
            }
            None => {
                let ack = session.taking.as_ref().map_or(Ack::default(), |taking| Ack {
                    stream: taking.stream,
                    taken: taking.taken,
                    whole: taking.whole,
                });
                frame::write(&mut session.outbox, Kind::Ack, &ack);
            }
        }
        session.ack_at = None;
    }
}

/// Writes changes as frames that are not too long.
fn write_changes<C: Serialize>(
    outbox: &mut Outbox,
    account: &mut Account,
    changes: &[C],
    now: Micros,
) -> Result<(), Broken> {
    if changes.is_empty() {
        return Ok(());
    }
    let mut changes = changes.iter().peekable();
    while changes.peek().is_some() {
        let open = outbox.begin(Kind::Changes);
        outbox.write(&account.sent).map_err(Broken::Unwritable)?;
        while outbox.length(&open) < FULL_FRAME
            && let Some(change) = changes.next()
        {
            outbox.write(change).map_err(Broken::Unwritable)?;
            account.sent += 1;
        }
        let bytes = outbox.end(open);
        if bytes > MAX_FRAME {
            return Err(Broken::TooLarge { bytes });
        }
    }
    account.mark(now);
    Ok(())
}
