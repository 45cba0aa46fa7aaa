//! Good-bye: a host that leaves an installation takes the gate down, which outlives its agent on purpose.

use crate::run::lock;
use crate::state_file::Files;
use anyhow::{Context, bail};
use domain::InterfaceName;
use std::path::Path;
use vip_control::VipController;
use vip_control::gate::left;

/// Takes the gate of this host down: what it managed passes from now on, wherever its address is. Returns the interfaces
/// that it stood on; none: there was none.
///
/// # Errors
/// An agent runs with this run directory; or a VIP is still on an interface (unless `force`), so that this host would
/// answer for it; or the rights are missing.
pub fn remove_gate(run_directory: &Path, force: bool) -> anyhow::Result<Vec<InterfaceName>> {
    // Without the directory no agent has run since the boot. The lock is kept until the gate is down.
    let directory = run_directory.try_exists().context("cannot look for the run directory")?;
    let files = Files { state: run_directory.to_owned(), run: run_directory.to_owned() };
    let _alone = directory.then(|| lock(&files)).transpose()?;
    let left = left().context("cannot look for the gate")?;
    if left.interfaces().is_empty() {
        return Ok(Vec::new());
    }
    if !force {
        let Some(vips) = left.vips() else {
            bail!(
                "which VIPs the gate manages cannot be read; as root, or with --force, it is removed all the same"
            );
        };
        let addresses = VipController::open().and_then(|mut controller| controller.addresses());
        let addresses = addresses.context("cannot list this host's addresses")?;
        if let Some((interface, address, prefix)) = addresses.iter().find(|(_, ip, _)| vips.contains(ip)) {
            bail!(
                "{address} is still on {interface}, and this host would answer for it from now on; an address under the \
                 built-in control goes by itself within 12 s of its agent's end, any other with `takeover vip disable \
                 {address}/{prefix} {interface}`"
            );
        }
    }
    let interfaces = left.interfaces().iter().cloned().collect();
    left.remove().context("the gate still stands on some interfaces")?;
    Ok(interfaces)
}
