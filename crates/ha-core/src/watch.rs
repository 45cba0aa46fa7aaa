//! Faults that count only when they last: raised after a while, cleared at once.

use domain::Micros;
use std::time::Duration;

/// A debounced fault.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Watch {
    bad_since: Option<Micros>,
    raised: bool,
}

/// What [`Watch::update`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edge {
    /// Nothing new.
    Same,
    /// The fault has lasted.
    Raised,
    /// A fault that had been raised is over.
    Cleared,
}

impl Watch {
    pub(crate) fn update(&mut self, bad: bool, lasting: Duration, now: Micros) -> Edge {
        if !bad {
            self.bad_since = None;
            return if std::mem::take(&mut self.raised) { Edge::Cleared } else { Edge::Same };
        }
        let since = *self.bad_since.get_or_insert(now);
        if self.raised || now.since(since) < lasting {
            return Edge::Same;
        }
        self.raised = true;
        Edge::Raised
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.raised
    }

    /// When the fault will have lasted.
    pub(crate) fn deadline(&self, lasting: Duration) -> Option<Micros> {
        if self.raised { None } else { self.bad_since.map(|since| since + lasting) }
    }
}
