//! What the agent decides about one pair's lease: it joins the server's state, the lease, the gate, and whether an SCS is
//! there to decide. Pure, like everything here.
//!
//! ```text
//!  server is          wants of the lease
//!  ────────────────   ──────────────────────────────────────────────────────────────
//!  unknown            nothing yet: what an earlier run held is neither renewed nor let go
//!  absent, starting   nothing
//!  ready backup       a standing request
//!  primary            to hold, by the grant that made it primary
//!  broken primary     to hold on; without an SCS, and with a peer that stands by, to hand over
//! ```
//!
//! While an SCS is reached, it decides, and the lease enforces. While none is, a *known* failure is taken over:
//!
//! - the peer let go because its server failed, and the server here is ready: it becomes primary;
//! - the server here failed, the peer is heard and did not take over, and it is ready again: it becomes primary again.
//!
//! What was decided is tried again where the server refuses it, and an agent that slept first listens for a while: the
//! peer may have taken over unnoticed. Silence decides nothing. That no two hosts hold at a time does not depend on any
//! of this, but on the votes.

#[cfg(test)]
mod tests;

use domain::{Epoch, Member, Micros};
use lease::{Body, Machine, Memory, Output, Seat, Timing, Want, Why};
use std::time::Duration;

/// How long a failure that the peer told of may wait for an SCS that still seems to be there. Longer than any profile's
/// silence, so that an SCS that died along with the peer's server is known to be away.
const FAILURE_REMEMBERED: Duration = Duration::from_secs(5);

/// How long the SCS has to make a server backup whose lease is another's, before the agent does. The gate is closed
/// meanwhile; the SCS, which is back in most cases when the peer is, knows what else belongs to it.
const STEP_DOWN_AFTER: Duration = Duration::from_secs(2);

/// How soon, at most, a server that did not take the role is told to take it again.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What the member of the pair on this host is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Server {
    /// It is being found out what an earlier run of the agent left.
    #[default]
    Unknown,
    /// There is none that could use the VIPs.
    Absent {
        /// Because it was ordered so.
        by_order: bool,
    },
    /// It is a backup, and ready to take over.
    Ready,
    /// It is primary, or was told to be.
    Primary {
        /// The grant that it goes by.
        granted: Epoch,
    },
    /// It is primary and cannot provide service.
    Broken {
        /// The grant that it goes by.
        granted: Epoch,
    },
}

/// What is to be done, in order, by the thread that called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Send this to a voter.
    Send(Seat, Body),
    /// The gate of the pair's VIPs may be open until this time.
    Open {
        /// Under this epoch.
        epoch: Epoch,
        /// On this host's clock.
        until: Micros,
    },
    /// Close the gate, and refuse this epoch and all below from now on.
    Close {
        /// The epoch.
        epoch: Epoch,
    },
    /// The lease was won, behind [`Act::Open`]: VIPs that wait for it may be announced.
    Won {
        /// The epoch.
        epoch: Epoch,
    },
    /// The lease ran out; the gate has closed by itself.
    Lost {
        /// The epoch.
        epoch: Epoch,
    },
    /// Without an SCS: make the server primary under this epoch, enable the VIPs when the lease is won, and keep a report
    /// for the SCS.
    TakeOver {
        /// The epoch.
        epoch: Epoch,
        /// Why.
        why: Reason,
    },
    /// The peer let go because its server failed: the SCS may not hear that agent.
    PeerFailed {
        /// The epoch that it let go.
        epoch: Epoch,
    },
    /// Make the server backup: the role is, or is about to be, the other member's.
    StepDown {
        /// The newest epoch known of.
        epoch: Epoch,
    },
}

/// Why a server was made primary without an SCS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The peer let go: its server failed.
    PeerFailed {
        /// The epoch that it let go.
        epoch: Epoch,
    },
    /// The server here had failed, and is ready again; nobody else took over.
    BackAgain,
}

/// A role that may be taken later.
#[derive(Debug, Clone, Copy)]
struct Again {
    from: Micros,
    why: Reason,
}

/// A pair, as its member's agent keeps it.
#[derive(Debug, Clone)]
pub struct Keeper {
    me: Member,
    machine: Machine,
    server: Server,
    scs_reached: bool,
    /// Whether the peer's agent is heard, whatever it has to say about this pair.
    peer_heard: bool,
    carrier: bool,
    /// The peer let go because its server failed: what it let go, and when.
    peer_failed: Option<(Epoch, Micros)>,
    /// From when on the server here may take the role without an SCS: it failed while it held, or did not take it.
    again: Option<Again>,
    /// This agent slept: until when nothing is decided alone.
    listen_until: Option<Micros>,
    /// The greatest epoch that the server has seen: it refuses orders under smaller ones.
    seen: Epoch,
    /// The role was taken here without an SCS: under which grant, and why.
    taken: Option<(Epoch, Reason)>,
    /// The other member has a newer grant: its epoch, and when the server here is made backup if nobody has by then.
    outdated: Option<(Epoch, Micros)>,
    won: bool,
    outputs: Vec<Output>,
}

impl Keeper {
    /// A keeper; from the memory that an earlier run of the agent left on this boot, or without.
    #[must_use]
    pub fn new(me: Member, timing: Timing, memory: Option<&Memory>, now: Micros, out: &mut Vec<Act>) -> Self {
        let mut outputs = Vec::new();
        let machine = match memory {
            Some(memory) => Machine::resume(me, timing, memory, now, &mut outputs),
            None => Machine::new(Seat::Member(me), timing, Epoch(0), now),
        };
        let mut keeper = Self {
            me,
            won: machine.held().is_some(),
            machine,
            server: Server::Unknown,
            scs_reached: false,
            peer_heard: false,
            carrier: true,
            peer_failed: None,
            again: None,
            listen_until: None,
            seen: Epoch(0),
            taken: None,
            outdated: None,
            outputs,
        };
        keeper.act(now, out);
        keeper
    }

    /// One without memory that neither promises nor asks for `promise` at least: promises may be out that were given under
    /// other settings.
    #[must_use]
    pub fn quiet_for(mut self, promise: Duration, now: Micros) -> Self {
        self.machine = self.machine.quiet_for(promise, now);
        self
    }

    /// The gate of this host refuses this epoch and all below it. To be told before anything else, and when the VIPs change:
    /// the gate's fence may outlive the memory, and a lease under it would be held behind a closed gate.
    pub fn fenced_off(&mut self, epoch: Epoch) {
        self.machine.fenced_off(epoch);
    }

    /// The server has seen this epoch, and refuses orders under smaller ones: a role that is taken here is above it.
    pub fn saw(&mut self, epoch: Epoch) {
        self.seen = self.seen.max(epoch);
    }

    /// Other durations from now on.
    pub fn set_timing(&mut self, timing: Timing) {
        self.machine.set_timing(timing);
    }

    /// The server is something else now, or just what it was.
    pub fn server(&mut self, server: Server, now: Micros, out: &mut Vec<Act>) {
        self.notice_sleep(now);
        let before = std::mem::replace(&mut self.server, server);
        if before == server {
            return;
        }
        self.outdated = None;
        let held = matches!(self.machine.wanted(), Want::Hold { .. }) || self.machine.held().is_some();
        let want = match server {
            Server::Unknown => return,
            Server::Absent { .. } => Want::Nothing,
            Server::Ready => Want::Standby,
            Server::Primary { granted } | Server::Broken { granted } => Want::Hold { granted },
        };
        // A primary that becomes a backup was told to; one that is gone was told to, or failed.
        let why = match server {
            Server::Absent { by_order: false } => Why::Failed,
            Server::Absent { by_order: true }
            | Server::Unknown
            | Server::Ready
            | Server::Primary { .. }
            | Server::Broken { .. } => Why::Ordered,
        };
        let taken = self.taken.take_if(|(granted, _)| server != Server::Primary { granted: *granted });
        match server {
            Server::Primary { .. } | Server::Absent { by_order: true } => {
                (self.peer_failed, self.again) = (None, None);
            }
            Server::Absent { by_order: false } if held => {
                self.again = Some(Again { from: now + self.patience(), why: Reason::BackAgain });
            }
            // It refused the order, or did not carry it out.
            Server::Ready if !self.scs_reached => {
                let from = now + self.patience().max(TRY_AGAIN_AFTER);
                self.again = taken.map(|(_, why)| Again { from, why }).or(self.again);
            }
            Server::Absent { by_order: false } | Server::Unknown | Server::Ready | Server::Broken { .. } => {}
        }
        self.machine.want(want, why, !self.scs_reached, now, &mut self.outputs);
        self.act(now, out);
        self.decide_alone(now, out);
    }

    /// The SCS is reached, or no longer.
    pub fn scs_reached(&mut self, reached: bool, now: Micros, out: &mut Vec<Act>) {
        self.notice_sleep(now);
        if reached {
            (self.again, self.taken) = (None, None);
        } else if self.scs_reached {
            // The SCS has made the peer primary, in most cases; and this agent may have slept since it was asked last.
            self.await_peer(now);
        }
        if reached && !self.scs_reached {
            // The next renewal may be too late: an agent that starts wants the lease before it has its links.
            self.machine.reached(now, &mut self.outputs);
        }
        self.scs_reached = reached;
        self.act(now, out);
        self.decide_alone(now, out);
    }

    /// The peer's agent is heard, or no longer.
    pub fn peer_heard(&mut self, heard: bool, now: Micros, out: &mut Vec<Act>) {
        self.notice_sleep(now);
        if heard && !self.peer_heard {
            self.await_peer(now);
            self.machine.reached(now, &mut self.outputs);
        }
        self.peer_heard = heard;
        self.act(now, out);
        self.decide_alone(now, out);
    }

    /// The interfaces of the pair's VIPs have, or have not, a carrier.
    pub fn carrier(&mut self, carrier: bool, now: Micros, out: &mut Vec<Act>) {
        self.notice_sleep(now);
        self.carrier = carrier;
        self.decide_alone(now, out);
    }

    /// Another voter says something.
    pub fn hear(&mut self, from: Seat, body: Body, now: Micros, out: &mut Vec<Act>) {
        self.notice_sleep(now);
        self.machine.hear(from, body, now, &mut self.outputs);
        self.act(now, out);
        self.decide_alone(now, out);
    }

    /// Does what is due.
    pub fn time_passed(&mut self, now: Micros, out: &mut Vec<Act>) {
        self.notice_sleep(now);
        self.machine.time_passed(now, &mut self.outputs);
        self.act(now, out);
        self.decide_alone(now, out);
    }

    /// When [`Keeper::time_passed`] is due next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Micros> {
        let may = !self.scs_reached && self.peer_heard && self.server == Server::Ready && self.carrier;
        let again = self.again.map(|again| again.from).filter(|_| may);
        let listened = self.listen_until.filter(|_| may);
        let step_down = self.outdated.map(|(_, at)| at);
        [self.machine.next_deadline(), again.max(listened), step_down].into_iter().flatten().min()
    }

    /// The machine, to be looked at.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// What the server is.
    #[must_use]
    pub fn server_is(&self) -> Server {
        self.server
    }

    /// First in every input: one that comes long after something was due has found this agent asleep. What happened
    /// meanwhile may come behind it.
    fn notice_sleep(&mut self, now: Micros) {
        let every = self.machine.timing().every();
        let Some(due) = self.next_deadline().filter(|due| *due + every < now) else { return };
        let until = now + self.patience();
        self.listen_until = Some(until);
        // It is not forgotten for that.
        if let Some((_, at)) = self.peer_failed.as_mut().filter(|(_, at)| due.since(*at) < FAILURE_REMEMBERED)
        {
            *at = until;
        }
    }

    /// The peer may have taken over unnoticed: then it asks for this agent's vote before this is over.
    fn await_peer(&mut self, now: Micros) {
        let from = now + self.patience();
        self.again = self.again.map(|again| Again { from: again.from.max(from), ..again });
    }

    /// Long enough for a peer that stands by to have taken over.
    fn patience(&self) -> Duration {
        let promise = self.machine.timing().promise();
        match self.me {
            Member::First => 2 * promise,
            // The two wait for different times, so that one comes first.
            Member::Second => 3 * promise,
        }
    }

    /// What is to be done without an SCS.
    fn decide_alone(&mut self, now: Micros, out: &mut Vec<Act>) {
        if let Some((epoch, _)) = self.outdated.take_if(|(_, at)| *at <= now) {
            out.push(Act::StepDown { epoch });
        }
        self.listen_until.take_if(|until| *until <= now);
        if self.scs_reached {
            return;
        }
        match self.server {
            Server::Ready if self.carrier => self.take_over_if_known(now, out),
            Server::Primary { granted } if !self.carrier => self.hand_over(granted, now, out),
            Server::Broken { granted } => self.hand_over(granted, now, out),
            Server::Ready | Server::Primary { .. } | Server::Unknown | Server::Absent { .. } => {}
        }
    }

    fn take_over_if_known(&mut self, now: Micros, out: &mut Vec<Act>) {
        // Whoever has this agent's promise holds, or may hold: nothing failed that is not taken care of.
        let promised = self.machine.promised_to().is_some_and(|(to, _, _)| to != self.me);
        if promised {
            self.peer_failed = None;
            // Somebody took over in time.
            self.again.take_if(|again| again.from <= now);
        }
        if promised || self.listen_until.is_some() {
            return;
        }
        let peer_failed = self.peer_failed.filter(|(_, at)| now.since(*at) < FAILURE_REMEMBERED);
        let why = match (peer_failed, self.again) {
            (Some((epoch, _)), _) => Reason::PeerFailed { epoch },
            // One that hears nobody knows of nobody who took over, and could not hold the lease.
            (None, Some(Again { from, why })) if from <= now && self.peer_heard => why,
            (None, _) => return,
        };
        (self.peer_failed, self.again) = (None, None);
        let epoch = self.next_grant();
        self.server = Server::Primary { granted: epoch };
        self.taken = Some((epoch, why));
        out.push(Act::TakeOver { epoch, why });
        self.machine.want(Want::Hold { granted: epoch }, Why::Ordered, false, now, &mut self.outputs);
        self.act(now, out);
    }

    /// The epoch of a grant that this member gives itself; its server has seen none as great.
    fn next_grant(&self) -> Epoch {
        let next = self.machine.next_grant();
        if next > self.seen { next } else { self.seen.next_of(self.me) }
    }

    /// This host cannot serve, a peer stands by, and there is no SCS to tell.
    fn hand_over(&mut self, granted: Epoch, now: Micros, out: &mut Vec<Act>) {
        if !matches!(self.machine.wanted(), Want::Hold { .. }) || !self.machine.other_stands_by(now) {
            return;
        }
        // It may not arrive.
        self.again = Some(Again { from: now + self.patience(), why: Reason::BackAgain });
        self.taken = None;
        self.machine.want(Want::Nothing, Why::Failed, true, now, &mut self.outputs);
        self.act(now, out);
        out.push(Act::StepDown { epoch: granted });
    }

    fn act(&mut self, now: Micros, out: &mut Vec<Act>) {
        for output in self.outputs.drain(..) {
            match output {
                Output::Send(to, body) => out.push(Act::Send(to, body)),
                Output::Open { epoch, until } => {
                    out.push(Act::Open { epoch, until });
                    if !std::mem::replace(&mut self.won, true) {
                        out.push(Act::Won { epoch });
                    }
                }
                Output::Close { epoch } => {
                    self.won = false;
                    out.push(Act::Close { epoch });
                }
                Output::Lost { epoch } => {
                    self.won = false;
                    out.push(Act::Lost { epoch });
                }
                Output::Outdated { granted } => {
                    self.outdated = Some((granted, now + STEP_DOWN_AFTER));
                    self.taken = None;
                }
                Output::Released { by, epoch, why } if by != self.me => match why {
                    Why::Failed => {
                        self.peer_failed = Some((epoch, now));
                        out.push(Act::PeerFailed { epoch });
                    }
                    Why::Ordered | Why::Outdated => self.peer_failed = None,
                },
                Output::Released { .. } => {}
            }
        }
    }
}
