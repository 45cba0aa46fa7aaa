//! What a machine wants done.

use crate::{Body, Seat, Why};
use domain::{Epoch, Member, Micros};

/// To be carried out in the order in which it comes, by the thread that called (R6): a gate is closed before anybody is
/// told so (R5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Output {
    /// Send this. Lost is lost: it comes again.
    Send(Seat, Body),
    /// The lease is held: the gate may be open until this time (R3: absolute).
    Open {
        /// Under this epoch.
        epoch: Epoch,
        /// On this host's clock.
        until: Micros,
    },
    /// The gate is to be closed, and to refuse this epoch and all below it from now on.
    Close {
        /// The epoch that ends.
        epoch: Epoch,
    },
    /// The lease ran out without being renewed; the gate has closed by itself. The machine goes on asking.
    Lost {
        /// The epoch that it was held under.
        epoch: Epoch,
    },
    /// The other member was granted the role since: the lease is let go, behind this.
    Outdated {
        /// The other member's grant.
        granted: Epoch,
    },
    /// The other member let go.
    Released {
        /// Who.
        by: Member,
        /// Up to this epoch.
        epoch: Epoch,
        /// Why.
        why: Why,
    },
}
