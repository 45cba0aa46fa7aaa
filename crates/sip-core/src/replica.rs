//! What the backup is told, and how it takes it.

use crate::{Record, SipCore};
use domain::Micros;
use serde::{Deserialize, Serialize};
use sip_proto::Binding;
use sip_proto::b2bua::{CallKey, Delta, Stage};
use sip_sync::{Replica, Unknown};
use std::ops::Bound;

/// Version of the form in which changes are written. It grows whenever [`Change`], or anything in it, gets other fields or
/// variants: servers with different ones do not replicate, and would misread each other if they did.
pub const FORMAT: u32 = 2;
/// Addresses-of-record that a backup forgets with each change of one.
const EXPIRIES_PER_CHANGE: usize = 4;

/// A change of one item: a call, who called in it, the bindings of an address-of-record, or a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Of a call.
    Call(Box<Delta>),
    /// Who calls; comes behind the first change of the call.
    Caller {
        /// The call.
        call: CallKey,
        /// A label; none where nobody is asked.
        caller: Option<Box<str>>,
    },
    /// All bindings of an address-of-record; none: it is forgotten.
    Bindings {
        /// The address-of-record.
        address: Box<str>,
        /// Its bindings.
        bindings: Vec<Binding>,
    },
    /// A call is over, and this is to be written down about it.
    Record(Box<Record>),
    /// That was done, or given up.
    Recorded {
        /// Of these calls.
        calls: Vec<CallKey>,
    },
}

/// How far a snapshot has come: bindings first, since calls need them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cursor {
    /// Behind the bindings of this address-of-record.
    Address(Box<str>),
    /// All bindings, and the calls up to this one.
    Call(Option<CallKey>),
    /// All of these, and the records up to that of this call.
    Record(Option<CallKey>),
}

impl Replica for SipCore {
    type Change = Change;
    type Cursor = Cursor;

    fn clock(&self, now: Micros) -> Micros {
        self.calls.clock(now)
    }

    fn heard_clock(&mut self, at: Micros, now: Micros) {
        self.calls.heard_clock(at, now);
    }

    fn snapshot(
        &self,
        after: Option<&Cursor>,
        most: usize,
        now: Micros,
        out: &mut Vec<Change>,
    ) -> Option<Cursor> {
        let address = match after {
            None => None,
            Some(Cursor::Address(address)) => Some(&**address),
            Some(Cursor::Call(call)) => return Some(self.snapshot_of_calls(*call, most, now, out)),
            Some(Cursor::Record(call)) => return self.snapshot_of_records(*call, most, out),
        };
        let mut last = None;
        for (address, bindings) in self.uas.registrar().range(address, most) {
            last = Some(address.into());
            out.push(Change::Bindings { address: address.into(), bindings: bindings.to_vec() });
        }
        Some(last.map_or(Cursor::Call(None), Cursor::Address))
    }

    fn begin_resync(&mut self) {
        self.calls.begin_resync();
        self.stale_records = self.unwritten.keys().copied().collect();
        self.stale_addresses =
            self.uas.registrar().range(None, usize::MAX).map(|(address, _)| address.into()).collect();
    }

    fn apply(&mut self, change: Change, now: Micros) -> Result<(), Unknown> {
        match change {
            Change::Call(delta) => {
                let (call, removed, about_called) = (delta.call, delta.is_removal(), delta.is_about_called());
                let result = self.calls.apply(*delta, now);
                if about_called {
                    self.note_called(call);
                }
                // As at the primary: a call that is over occupies nobody, though its last transactions go on.
                if !self.occupies(call) {
                    self.forget_caller(call);
                }
                // That it is gone is what was to be reached.
                if removed { Ok(()) } else { result.map_err(|_| Unknown) }
            }
            Change::Caller { call, caller } => {
                if self.occupies(call) {
                    self.note_caller(call, caller);
                }
                Ok(())
            }
            Change::Bindings { address, bindings } => {
                self.stale_addresses.remove(&address);
                for flow in bindings.iter().filter_map(|binding| binding.flow) {
                    self.sources.known(flow.peer.ip(), self.setup.known_for(), now);
                }
                self.uas.registrar_mut().set(&address, bindings);
                // Nothing is due at a backup; so that what has expired does not pile up there.
                let clock = self.calls.clock(now);
                self.uas.registrar_mut().due(clock, EXPIRIES_PER_CHANGE);
                Ok(())
            }
            Change::Record(record) => {
                self.stale_records.remove(&record.call);
                self.unwritten.insert(record.call, *record);
                Ok(())
            }
            Change::Recorded { calls } => {
                for call in calls {
                    self.unwritten.remove(&call);
                }
                Ok(())
            }
        }
    }

    fn end_resync(&mut self) {
        for call in self.calls.end_resync() {
            self.note_called(call);
            self.forget_caller(call);
        }
        for address in std::mem::take(&mut self.stale_addresses) {
            self.uas.registrar_mut().set(&address, Vec::new());
        }
        for call in std::mem::take(&mut self.stale_records) {
            self.unwritten.remove(&call);
        }
    }
}

impl SipCore {
    /// Whether there is the call, and it is not over.
    pub(crate) fn occupies(&self, call: CallKey) -> bool {
        self.calls.listed(call).is_some_and(|listed| listed.stage != Stage::Over)
    }

    fn snapshot_of_calls(
        &self,
        after: Option<CallKey>,
        most: usize,
        now: Micros,
        out: &mut Vec<Change>,
    ) -> Cursor {
        let mut last = None;
        for delta in self.calls.snapshot(after, most, now) {
            let call = delta.call;
            last = Some(call);
            out.push(Change::Call(Box::new(delta)));
            if let Some(caller) = self.callers.get(&call) {
                out.push(Change::Caller { call, caller: caller.clone() });
            }
        }
        last.map_or(Cursor::Record(None), |call| Cursor::Call(Some(call)))
    }

    fn snapshot_of_records(
        &self,
        after: Option<CallKey>,
        most: usize,
        out: &mut Vec<Change>,
    ) -> Option<Cursor> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut last = None;
        for (call, record) in self.unwritten.range((from, Bound::Unbounded)).take(most) {
            last = Some(*call);
            out.push(Change::Record(Box::new(record.clone())));
        }
        last.map(|call| Cursor::Record(Some(call)))
    }
}
