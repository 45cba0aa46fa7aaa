//! What stands of a gate although no process has it: found, and taken down when a host is done with VIPs.

use super::program::Way;
use super::{Found, GateError, cannot_look_up, filters, is_absent};
use crate::netlink::RouteSocket;
use domain::InterfaceName;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The gate of this host, as the process that had it last has left it.
#[derive(Debug)]
pub struct Left {
    route: RouteSocket,
    interfaces: BTreeSet<InterfaceName>,
    vips: Option<BTreeSet<IpAddr>>,
}

/// Looks what stands of a gate on this host, in the network namespace of this thread.
///
/// # Errors
/// [`GateError::Kernel`], [`GateError::NoPermission`].
pub fn left() -> Result<Left, GateError> {
    let mut route = RouteSocket::open().map_err(|e| GateError::route("open a netlink socket", e))?;
    let found = Found::look(&mut route)?;
    let read: Result<Vec<_>, _> = found.sets.iter().map(super::Set::read).collect();
    let whole = found.unreadable.is_none();
    let vips =
        read.ok().filter(|_| whole).map(|sets| sets.into_iter().flat_map(|set| set.into_keys()).collect());
    Ok(Left { route, interfaces: found.interfaces, vips })
}

impl Left {
    /// The interfaces that have filters of a gate.
    #[must_use]
    pub fn interfaces(&self) -> &BTreeSet<InterfaceName> {
        &self.interfaces
    }

    /// The addresses that it manages; none: that cannot be read, for want of rights or because another release made it.
    #[must_use]
    pub fn vips(&self) -> Option<&BTreeSet<IpAddr>> {
        self.vips.as_ref()
    }

    /// Takes the gate down everywhere: all VIPs' traffic passes. For good-bye only. The queueing discipline stays, which
    /// others may use.
    ///
    /// # Errors
    /// [`GateError::Kernel`], [`GateError::NoPermission`]: it stands still on some interfaces.
    pub fn remove(mut self) -> Result<(), GateError> {
        for interface in &self.interfaces {
            let index = self.route.socket().interface_index(interface).map_err(cannot_look_up)?;
            let Some(index) = index else { continue };
            for way in Way::BOTH {
                match filters::detach(&mut self.route, index, way) {
                    Err(e) if !is_absent(&e) => return Err(GateError::route("remove a filter", e)),
                    Ok(()) | Err(_) => {}
                }
            }
        }
        Ok(())
    }
}
