//! What the agent says, and what it is told.

use super::{AGENT, Server};
use crate::mode::Instructed;
use crate::sync::Report;
use control_link::messages::{FromApplication, ToApplication};
use domain::{Epoch, Micros, RefId, RunMode, Standby};
use std::os::fd::{AsFd, OwnedFd};

/// Instructions that are read in one round: more than the kernel keeps for us, so that after a stall the last one holds
/// before anything is answered.
const INSTRUCTIONS_PER_ROUND: usize = 1_024;
/// Agents that are accepted in one round.
const AGENTS_PER_ROUND: usize = 16;

impl Server {
    pub(super) fn accept_agents(&mut self, now: Micros) {
        for _ in 0..AGENTS_PER_ROUND {
            if !self.agent.accept(self.poll.registry(), AGENT, &self.say) {
                return;
            }
            // What it cannot know; then what it has already said.
            self.tell_agent(&self.run_mode(None));
            match &mut self.replication {
                // Once it has been told what there is.
                Some(replication) => replication.report_anew(),
                // Without another member there is nothing that a backup could lack.
                None => self.tell_agent(&FromApplication::Synced { synced: true, standby: None }),
            }
            let status = self.status(now);
            self.manager.ready(status, now);
            self.hear_agent(now);
        }
    }

    pub(super) fn hear_agent(&mut self, now: Micros) {
        for _ in 0..INSTRUCTIONS_PER_ROUND {
            let Some((message, along)) = self.agent.hear(&self.say) else { return };
            match message {
                ToApplication::SetRunMode { ref_id, mode, epoch } => self.instruct(ref_id, mode, epoch, now),
                ToApplication::Suspend => self.suspend(now),
                ToApplication::Reconfigure => self.reconfigure(now),
                ToApplication::Lifeline => self.hold(along),
            }
        }
        // One that sends so many at once is none of ours; its successor starts afresh.
        self.say.note(format_args!("the agent sends too much"));
        self.agent.forget();
    }

    /// Takes a run mode: silence or service first, then the answer, then the rest.
    fn instruct(&mut self, ref_id: RefId, mode: RunMode, epoch: Epoch, now: Micros) {
        let before = self.state;
        let instructed = self.state.instruct(mode, epoch);
        match (before.duty(), self.state.duty()) {
            (_, None) => {
                self.transports.silence();
                self.core.stand_by(now);
                self.set_replication_mode(now);
            }
            (serving, Some(duty)) => {
                // Under a new epoch calls are ours anew.
                if serving.is_none() || before.epoch() != self.state.epoch() {
                    self.set_replication_mode(now);
                    self.core.take_over(self.state.epoch(), now);
                }
                self.core.set_duty(duty);
                self.transports.speak();
            }
        }
        self.tell_agent(&self.run_mode(Some(ref_id)));
        match instructed {
            Instructed::Changed => {
                self.say.note(format_args!("{mode} mode, epoch {epoch}; before: {}", before.mode()));
                self.tell_status(now);
            }
            Instructed::Same => {}
            Instructed::Stale => self.say.note(format_args!(
                "{mode} mode for epoch {epoch} was refused: epoch {} holds",
                before.epoch()
            )),
        }
    }

    /// Begins a graceful stop: what is new is refused, and when the last call is over the agent is told.
    fn suspend(&mut self, now: Micros) {
        self.tell_agent(&FromApplication::Suspending);
        self.state.suspend();
        self.suspended_told = false;
        if let Some(duty) = self.state.duty() {
            self.core.set_duty(duty);
        }
        self.say.note(format_args!("a graceful stop begins, {} calls remain", self.remaining(now)));
        self.tell_whether_suspended(now);
        self.tell_status(now);
    }

    /// Tells the agent once when nothing is in hand any more. A backup has nothing in hand, whatever it holds a copy of.
    pub(super) fn tell_whether_suspended(&mut self, now: Micros) {
        if !self.state.is_suspended() || self.suspended_told {
            return;
        }
        if self.state.duty().is_none() || self.remaining(now) == 0 {
            self.suspended_told = true;
            self.tell_agent(&FromApplication::Suspended);
            self.say.note(format_args!("suspended, no calls remain"));
            self.tell_status(now);
        }
    }

    /// Calls that go on. Those that are over and wait for their last messages to come again need nobody.
    pub(super) fn remaining(&self, now: Micros) -> u32 {
        let Standby { confirmed, ringing, .. } = self.core.survey(now);
        confirmed + ringing
    }

    /// Lets the agent know of this process's end sooner.
    fn hold(&mut self, lifeline: Option<OwnedFd>) {
        let held = lifeline.map(|lifeline| self.lifeline.hold(lifeline.as_fd()));
        if let Some(Err(e)) = held {
            self.say.note(format_args!("the agent's lifeline cannot be held: {e}"));
        }
    }

    fn run_mode(&self, ref_id: Option<RefId>) -> FromApplication {
        FromApplication::RunMode { ref_id, mode: self.state.mode(), epoch: self.state.epoch() }
    }

    /// What there is, and whether the backup has it.
    pub(super) fn synced(&self, report: Report, now: Micros) -> FromApplication {
        let standby = Standby { lag_ms: report.lag_ms, ..self.core.survey(now) };
        FromApplication::Synced { synced: report.synced, standby: Some(standby) }
    }

    /// Who streams to whom. The last that the other member said is taken before calls are ours.
    fn set_replication_mode(&mut self, now: Micros) {
        if let Some(replication) = &mut self.replication {
            replication.set_mode(self.state.mode(), self.state.epoch(), &mut self.core, now);
        }
    }

    pub(super) fn tell_agent(&mut self, message: &FromApplication) {
        self.agent.tell(message, &self.say);
    }
}
