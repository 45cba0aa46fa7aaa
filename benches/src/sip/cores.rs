//! Which core a program runs on: servers on one, SIPp on another, so that neither takes time from the other.

use anyhow::{Context, ensure};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// A core for servers and one for SIPp.
#[derive(Debug, Clone, Copy)]
pub struct Cores {
    /// Of everything that is measured.
    pub servers: usize,
    /// Of those who call.
    pub phones: usize,
}

impl Cores {
    /// The first two that this process may use.
    ///
    /// # Errors
    /// There is one only.
    pub fn find() -> anyhow::Result<Self> {
        let set = sched_getaffinity(Pid::from_raw(0))?;
        let usable: Vec<usize> =
            (0..CpuSet::count()).filter(|core| set.is_set(*core).unwrap_or(false)).take(2).collect();
        ensure!(usable.len() == 2, "servers and SIPp need a core each, and there is one");
        Ok(Self { servers: usable[0], phones: usable[1] })
    }
}

/// Does `work` on a core. What it starts stays there, as affinity is inherited (sched_setaffinity(2)); this thread goes back.
///
/// # Errors
/// The kernel refused, or `work` failed.
pub fn on<T>(core: usize, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let this = Pid::from_raw(0);
    let before = sched_getaffinity(this)?;
    let mut one = CpuSet::new();
    one.set(core)?;
    sched_setaffinity(this, &one).with_context(|| format!("cannot run on core {core}"))?;
    let done = work();
    sched_setaffinity(this, &before)?;
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_goes_back_to_where_it_ran() {
        let this = Pid::from_raw(0);
        let before = sched_getaffinity(this).unwrap();
        let Ok(cores) = Cores::find() else { return };
        let there = on(cores.phones, || Ok(sched_getaffinity(this)?)).unwrap();
        assert!(there.is_set(cores.phones).unwrap() && !there.is_set(cores.servers).unwrap());
        assert_eq!(sched_getaffinity(this).unwrap(), before);
    }
}
