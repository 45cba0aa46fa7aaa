//! Asks the network who has a VIP, and this host which addresses it has.

use crate::facts::VipSeen;
use domain::{InterfaceName, VipAddress};
use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};
use vip_control::{DuplicateCheck, VipController, VipError};

/// How long answers are waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Addresses of all interfaces but the loopback; empty where the kernel does not tell.
pub(crate) fn addresses() -> Vec<(InterfaceName, IpAddr, u8)> {
    let all = VipController::open().and_then(|mut controller| controller.addresses()).unwrap_or_default();
    all.into_iter().filter(|(_, address, _)| !address.is_loopback()).collect()
}

/// Asks about all at once.
pub(crate) fn look(vips: &[(VipAddress, InterfaceName)]) -> Vec<VipSeen> {
    if vips.is_empty() {
        return Vec::new();
    }
    let own = addresses();
    let mut seen: Vec<VipSeen> = vips
        .iter()
        .map(|(vip, interface)| VipSeen {
            vip: *vip,
            interface: interface.clone(),
            here: own.iter().any(|(name, address, _)| name == interface && *address == vip.address),
            elsewhere: BTreeSet::new(),
            unasked: None,
        })
        .collect();
    match DuplicateCheck::open() {
        Ok(mut check) => {
            for one in &mut seen {
                one.unasked = check.start(&one.vip, &one.interface).err().map(|e| crate::chain(&e));
            }
            if let Err(e) = hear(&mut check, &mut seen) {
                seen.iter_mut().for_each(|one| one.unasked = Some(crate::chain(&e)));
            }
        }
        Err(e) => seen.iter_mut().for_each(|one| one.unasked = Some(crate::chain(&e))),
    }
    seen
}

fn hear(check: &mut DuplicateCheck, seen: &mut [VipSeen]) -> Result<(), VipError> {
    let end = Instant::now() + PATIENCE;
    loop {
        for answer in check.answers()? {
            let asked = |one: &&mut VipSeen| one.vip == answer.vip && one.interface == answer.interface;
            if let Some(one) = seen.iter_mut().find(asked) {
                one.elsewhere.insert(answer.mac.to_string());
            }
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        wait_readable(check, left);
    }
}

/// Waits until packets have come, or the time is over (poll(2)). An interrupted wait is a short one.
fn wait_readable(check: &DuplicateCheck, left: Duration) {
    let mut descriptor = libc::pollfd { fd: check.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let timeout = libc::c_int::try_from(left.as_millis()).unwrap_or(libc::c_int::MAX).saturating_add(1);
    // SAFETY: one descriptor, valid through the call.
    let ready = unsafe { libc::poll(&raw mut descriptor, 1, timeout) };
    debug_assert!(ready >= 0 || io::Error::last_os_error().kind() == io::ErrorKind::Interrupted);
}
