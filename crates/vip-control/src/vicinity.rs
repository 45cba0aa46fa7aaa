//! Where a machine that manages no VIP stands to one: whether it has the address itself, and on which interface it shares
//! the VIP's subnet.

use crate::error::VipError;
use crate::netlink::{ListedAddress, Request, RouteSocket};
use domain::{InterfaceName, VipAddress};

/// The addresses of this machine, as they were when they were last looked at.
#[derive(Debug)]
pub struct Vicinity {
    route: RouteSocket,
    own: Vec<ListedAddress>,
}

impl Vicinity {
    /// Looks at the machine's addresses. Belongs to the network namespace of the calling thread.
    ///
    /// # Errors
    /// [`VipError::Kernel`].
    pub fn open() -> Result<Self, VipError> {
        let route = RouteSocket::open().map_err(|e| VipError::kernel("open a netlink socket", e))?;
        let mut vicinity = Self { route, own: Vec::new() };
        vicinity.look()?;
        Ok(vicinity)
    }

    /// Looks at them anew.
    ///
    /// # Errors
    /// [`VipError::Kernel`]; then what was known before still counts.
    pub fn look(&mut self) -> Result<(), VipError> {
        let all = Request::list_addresses(libc::AF_UNSPEC, 0);
        self.route
            .list(&all, &mut self.own, ListedAddress::read)
            .map_err(|e| VipError::kernel("list addresses", e))
    }

    /// Whether this machine has the address itself: it would be asked in vain from here.
    #[must_use]
    pub fn has(&self, vip: &VipAddress) -> bool {
        self.own.iter().any(|own| own.address == vip.address)
    }

    /// The interface on which this machine has an address in the VIP's subnet; none: it is elsewhere, or has the VIP.
    ///
    /// # Errors
    /// [`VipError::Kernel`].
    pub fn interface_to(&self, vip: &VipAddress) -> Result<Option<InterfaceName>, VipError> {
        if self.has(vip) {
            return Ok(None);
        }
        let near = self.own.iter().find(|own| own.is_settled() && own.shares_subnet_with(vip.address));
        let Some(near) = near else { return Ok(None) };
        let name = self.route.socket().interface_name(near.index);
        name.map_err(|e| VipError::kernel("look up an interface", e))
    }
}
