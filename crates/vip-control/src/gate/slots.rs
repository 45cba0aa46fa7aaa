//! The slots: one for each managed VIP, in memory that the program in the kernel reads while we write it. Opening and
//! closing a gate are stores to this memory, without a system call.
//!
//! ```text
//! open  iff  fence <= epoch  and  now < deadline <= now + 60 s      (now: CLOCK_BOOTTIME, in the kernel)
//! ```
//! A new slot is all zeros: closed.
//!
//! # Why a writer may be stopped between any two stores, and a reader come in between
//!
//! There is one writer at a time: `&mut` within the agent, and the agent's lock among agents. It may be stopped for
//! any time, or for ever, after any store.
//!
//! - *Authorise (d, e)*: deadline, then epoch, then fence. After the first store the slot says (d, e', fence'), with the
//!   old epoch e'. Where e' is fenced off, it is still closed; otherwise it is open until d, which is ours under e. The
//!   other order would be wrong: after a release that left an old, greater deadline behind, the new epoch would open the
//!   gate until that.
//! - *Close*: one store, of the fence; whatever deadline is left behind is under an epoch that no longer counts.
//! - *Late stores*: a deadline is absolute, so one that was decided before a stop and is stored after it opens nothing
//!   that it would not have opened in time. The fence never falls (it is raised by compare and swap), and an epoch below
//!   it does not count: a late store of an old epoch closes the gate until the next renewal.
//! - The program reads epoch, fence, deadline, clock. Who sees the new epoch also sees the deadline that was stored
//!   before it. (On processors that reorder loads a frame may, within nanoseconds of the change of the epoch, meet the
//!   old deadline.)

use super::bpf::{self, Map, Mapping};
use domain::{Epoch, Micros};
use std::io;
use std::mem::offset_of;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many VIPs a gate has room for.
pub(super) const MOST: u32 = 1_024;
/// The longest time that a gate can be opened for, nanoseconds: 60 s. A deadline further ahead is a mistake (or garbage) and
/// does not count. The longest lease is 3 s.
pub(super) const LONGEST_NS: u64 = 60_000_000_000;

/// What the kernel knows about a VIP. The program reads it at the offsets below.
#[repr(C)]
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// CLOCK_BOOTTIME in nanoseconds.
    deadline_ns: AtomicU64,
    /// Under which the deadline was given.
    epoch: AtomicU64,
    /// The smallest epoch that counts.
    fence: AtomicU64,
    /// Frames dropped; counted by the program.
    stopped: AtomicU64,
}

pub(super) const DEADLINE_AT: i16 = offset_of!(Slot, deadline_ns) as i16;
pub(super) const EPOCH_AT: i16 = offset_of!(Slot, epoch) as i16;
pub(super) const FENCE_AT: i16 = offset_of!(Slot, fence) as i16;
pub(super) const STOPPED_AT: i16 = offset_of!(Slot, stopped) as i16;

/// What a slot said, as plain numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) deadline_ns: u64,
    pub(super) epoch: u64,
    pub(super) fence: u64,
    pub(super) stopped: u64,
}

impl Snapshot {
    /// From the bytes of a slot.
    pub(super) fn read(bytes: &[u8; size_of::<Slot>()]) -> Self {
        let at = |offset: i16| {
            let offset = usize::from(offset.unsigned_abs());
            bytes[offset..].first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes))
        };
        Self {
            deadline_ns: at(DEADLINE_AT),
            epoch: at(EPOCH_AT),
            fence: at(FENCE_AT),
            stopped: at(STOPPED_AT),
        }
    }

    /// What the program would decide at `now`.
    pub(super) fn is_open(&self, now: Micros) -> bool {
        let left = self.deadline_ns.wrapping_sub(nanoseconds(now)).wrapping_sub(1);
        self.fence <= self.epoch && left < LONGEST_NS
    }
}

impl Slot {
    /// Lets the VIP's traffic through until `deadline_ns`. The error is the fence, where `epoch` is below it.
    pub(super) fn authorise(&self, epoch: Epoch, until: Micros) -> Result<(), Epoch> {
        let fence = self.fence.load(Ordering::Relaxed);
        if epoch.0 < fence || epoch.0 == u64::MAX {
            return Err(Epoch(fence)); // the greatest number is left, so that every epoch can be fenced off
        }
        self.deadline_ns.store(nanoseconds(until), Ordering::Release);
        if self.epoch.load(Ordering::Relaxed) != epoch.0 {
            self.epoch.store(epoch.0, Ordering::Release);
            self.fence.fetch_max(epoch.0, Ordering::AcqRel);
        }
        Ok(())
    }

    /// Lets nothing through under `epoch` and all before it, ever.
    pub(super) fn fence_off(&self, epoch: Epoch) {
        self.fence.fetch_max(epoch.0.saturating_add(1), Ordering::AcqRel);
    }

    /// Lets nothing through under epochs below `fence`.
    pub(super) fn raise_fence(&self, fence: u64) {
        self.fence.fetch_max(fence, Ordering::AcqRel);
    }

    /// Makes the slot new: closed. Only for a slot that belongs to no VIP.
    pub(super) fn clear(&self) {
        for number in [&self.deadline_ns, &self.epoch, &self.fence, &self.stopped] {
            number.store(0, Ordering::Release);
        }
    }

    /// Single stores, as an agent makes them that was stopped in between.
    #[cfg(test)]
    pub(super) fn store_late(&self, until: Option<Micros>, epoch: Option<Epoch>) {
        if let Some(until) = until {
            self.deadline_ns.store(nanoseconds(until), Ordering::Release);
        }
        if let Some(epoch) = epoch {
            self.epoch.store(epoch.0, Ordering::Release);
        }
    }

    /// What it says now. Only the writer, of which there is one, gets numbers that belong together.
    pub(super) fn snapshot(&self) -> Snapshot {
        let read = |number: &AtomicU64| number.load(Ordering::Acquire);
        Snapshot {
            epoch: read(&self.epoch),
            fence: read(&self.fence),
            deadline_ns: read(&self.deadline_ns),
            stopped: read(&self.stopped),
        }
    }
}

/// The slots of a gate, in memory shared with the kernel.
#[derive(Debug)]
pub(super) struct Slots {
    memory: Mapping<Slot>,
}

impl Slots {
    /// Those in a map of the kernel.
    pub(super) fn of(map: &Map) -> io::Result<Self> {
        bpf::map_memory(map, MOST as usize).map(|memory| Self { memory })
    }

    /// One of them; none where there are not so many.
    pub(super) fn get(&self, number: u32) -> Option<&Slot> {
        self.memory.as_slice().get(number as usize)
    }
}

/// Nanoseconds since boot, of which there are enough for 584 years.
fn nanoseconds(time: Micros) -> u64 {
    time.0.saturating_mul(1_000)
}
