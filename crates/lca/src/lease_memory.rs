//! What the leases' machines must know again after the agent's crash (R4), in memory that outlives the process: a file on
//! tmpfs, mapped. Remembering is a store of a hundred bytes, without a system call, and never waits.
//!
//! ```text
//!  "TKLEASE1" boot id (36 bytes) ...  | slot | slot | ...                       64 bytes, then 512 for each slot
//!  slot: pair, seat (8 bytes each) | copy | copy     copy: number (8 bytes), memory    written in turns
//! ```
//! What was promised in one seat says nothing in another: a pair whose members have changed places or hosts has lost its
//! memory, but for how long that binds.
//!
//! A process can be killed in the middle of a store: the copy that is half written has a wrong checksum, and the other one
//! is what was remembered before it. Nothing was done yet of what the half-written one would have said.

use domain::{HostName, Member};
use lease::{MEMORY_LEN, Memory, PairId};
use memmap2::MmapMut;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{Ordering, compiler_fence};

const MAGIC: &[u8; 8] = b"TKLEASE1";
const HEADER: usize = 64;
const BOOT_ID: usize = 36;
const SLOT: usize = 512;
const COPY: usize = 8 + MEMORY_LEN;
const SEAT: usize = 8;
const FIRST_COPY: usize = 16;
/// Most pairs of one host.
const SLOTS: usize = 1_024;

const _: () = assert!(FIRST_COPY + 2 * COPY <= SLOT);

/// The file.
#[derive(Debug)]
pub struct LeaseMemory {
    map: MmapMut,
}

/// In whose place something is remembered: as which member, on which host, and with which other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeatId(u64);

impl SeatId {
    /// The id of a seat.
    #[must_use]
    pub fn of(me: Member, here: &HostName, peer: &HostName) -> Self {
        let member = match me {
            Member::First => b'1',
            Member::Second => b'2',
        };
        // FNV-1a; no name of a host has a zero in it.
        let names = here.as_str().bytes().chain([0]).chain(peer.as_str().bytes());
        SeatId([member].into_iter().chain(names).fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        }))
    }
}

/// What is remembered of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remembered {
    /// Nothing.
    Nothing,
    /// What was kept in this seat.
    Ours(Memory),
    /// What was kept in another.
    OfAnotherSeat(Memory),
}

/// A pair's place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    index: usize,
    seat: SeatId,
    /// The number of the newest copy.
    number: u64,
}

impl LeaseMemory {
    /// Opens the file, or makes it. What is of another boot is no memory: the clocks began anew.
    ///
    /// # Errors
    /// There is no room for it, or it cannot be mapped.
    pub fn open(path: &Path, boot_id: &str) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let length = HEADER + SLOTS * SLOT;
        // All of it now: a page that tmpfs had no room for later would be a SIGBUS.
        let length_there = libc::off_t::try_from(length).map_err(io::Error::other)?;
        // SAFETY: posix_fallocate(3) takes a descriptor, which lives, and two numbers.
        let failed = unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, length_there) };
        if failed != 0 {
            return Err(io::Error::from_raw_os_error(failed));
        }
        // SAFETY: the file is this agent's own: its run directory is locked, and nobody else shortens it.
        let mut map = unsafe { memmap2::MmapOptions::new().len(length).map_mut(&file)? };
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(MAGIC);
        let id = boot_id.as_bytes();
        let id = &id[..id.len().min(BOOT_ID)];
        header[8..8 + id.len()].copy_from_slice(id);
        if map[..HEADER] != header {
            map.fill(0);
            map[..HEADER].copy_from_slice(&header);
        }
        Ok(Self { map })
    }

    /// The place of a pair, and what is remembered of it. None: there is no room for another pair.
    pub fn find(&mut self, pair: PairId, seat: SeatId) -> Option<(Slot, Remembered)> {
        let id = pair.0.to_be_bytes();
        let of = |index: usize| HEADER + index * SLOT;
        if let Some(index) = (0..SLOTS).find(|index| self.map[of(*index)..of(*index) + 8] == id) {
            let copies = [self.copy(index, 0), self.copy(index, 1)];
            let newest = copies.into_iter().flatten().max_by_key(|(number, _)| *number);
            let number = newest.map_or(0, |(number, _)| number);
            let kept_in = &self.map[of(index) + SEAT..of(index) + FIRST_COPY];
            let remembered = match newest {
                None => Remembered::Nothing,
                Some((_, memory)) if kept_in == seat.0.to_be_bytes() => Remembered::Ours(memory),
                Some((_, memory)) => Remembered::OfAnotherSeat(memory),
            };
            return Some((Slot { index, seat, number }, remembered));
        }
        let index = (0..SLOTS).find(|index| self.map[of(*index)..of(*index) + 8] == [0; 8])?;
        self.map[of(index)..of(index) + 8].copy_from_slice(&id);
        Some((Slot { index, seat, number: 0 }, Remembered::Nothing))
    }

    /// Remembers.
    pub fn keep(&mut self, slot: &mut Slot, memory: &Memory) {
        slot.number += 1;
        let at = place(slot.index, slot.number);
        self.map[at + 8..at + COPY].copy_from_slice(&memory.to_bytes());
        // Whoever reads it is another process, after this one has ended: the order of the program is enough.
        compiler_fence(Ordering::SeqCst);
        self.map[at..at + 8].copy_from_slice(&slot.number.to_le_bytes());
        compiler_fence(Ordering::SeqCst);
        // The first time, what another seat has left is in the other copy: not ours before there is a newer one.
        let seat = HEADER + slot.index * SLOT + SEAT;
        self.map[seat..seat + 8].copy_from_slice(&slot.seat.0.to_be_bytes());
    }

    /// Gives the place of a pair that is no longer configured to the next one.
    pub fn forget(&mut self, slot: Slot) {
        let at = HEADER + slot.index * SLOT;
        self.map[at..at + SLOT].fill(0);
    }

    fn copy(&self, index: usize, which: u64) -> Option<(u64, Memory)> {
        let at = place(index, which);
        let (number, memory) = self.map[at..at + COPY].split_first_chunk::<8>()?;
        let number = u64::from_le_bytes(*number);
        Some((number, Memory::from_bytes(memory.first_chunk::<MEMORY_LEN>()?)?)).filter(|_| number > 0)
    }
}

fn place(index: usize, number: u64) -> usize {
    let second = usize::from(number % 2 == 1);
    HEADER + index * SLOT + FIRST_COPY + second * COPY
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{Epoch, Micros};
    use lease::{Machine, Seat, Timing};

    fn memory(seen: u64) -> Memory {
        let timing = Timing::from(domain::Profile::Normal);
        Machine::new(Seat::Member(Member::First), timing, Epoch(seen), Micros(seen)).memory()
    }

    fn seat(me: Member, here: &str, peer: &str) -> SeatId {
        SeatId::of(me, &here.parse().unwrap(), &peer.parse().unwrap())
    }

    fn ours() -> SeatId {
        seat(Member::First, "host1", "host2")
    }

    #[test]
    fn what_was_kept_is_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("leases");
        let mut first = LeaseMemory::open(&path, "boot-1").unwrap();
        let (mut one, nothing) = first.find(PairId(1), ours()).unwrap();
        let (mut two, _) = first.find(PairId(2), ours()).unwrap();
        assert_eq!(nothing, Remembered::Nothing);
        for n in 1..=5 {
            first.keep(&mut one, &memory(n));
            first.keep(&mut two, &memory(100 + n));
        }
        drop(first);
        let mut second = LeaseMemory::open(&path, "boot-1").unwrap();
        assert_eq!(second.find(PairId(1), ours()), Some((one, Remembered::Ours(memory(5)))));
        assert_eq!(second.find(PairId(2), ours()), Some((two, Remembered::Ours(memory(105)))));
        second.forget(one);
        assert_eq!(second.find(PairId(1), ours()).unwrap().1, Remembered::Nothing);
        drop(second);
        let mut rebooted = LeaseMemory::open(&path, "boot-2").unwrap();
        assert_eq!(rebooted.find(PairId(2), ours()).unwrap().1, Remembered::Nothing);
    }

    #[test]
    fn what_was_kept_in_another_seat_is_not_ours() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = LeaseMemory::open(&directory.path().join("leases"), "boot").unwrap();
        let (mut slot, _) = file.find(PairId(1), ours()).unwrap();
        for n in 1..=3 {
            file.keep(&mut slot, &memory(n));
        }
        for other in [
            seat(Member::Second, "host1", "host2"),
            seat(Member::First, "host1", "host3"),
            seat(Member::First, "host2", "host1"),
        ] {
            let (_, found) = file.find(PairId(1), other).unwrap();
            assert_eq!(found, Remembered::OfAnotherSeat(memory(3)));
        }
        let other = seat(Member::Second, "host1", "host2");
        let (mut slot, _) = file.find(PairId(1), other).unwrap();
        file.keep(&mut slot, &memory(9));
        assert_eq!(file.find(PairId(1), other).unwrap().1, Remembered::Ours(memory(9)));
        assert_eq!(file.find(PairId(1), ours()).unwrap().1, Remembered::OfAnotherSeat(memory(9)));
    }

    #[test]
    fn half_a_store_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("leases");
        let mut file = LeaseMemory::open(&path, "boot-1").unwrap();
        let (mut slot, _) = file.find(PairId(7), ours()).unwrap();
        file.keep(&mut slot, &memory(1));
        file.keep(&mut slot, &memory(2));
        let newer = memory(3).to_bytes();
        let at = place(slot.index, slot.number + 1);
        for torn in 1..MEMORY_LEN - 8 {
            file.map[at + 8..at + 8 + torn].copy_from_slice(&newer[..torn]);
            let (_, found) = file.find(PairId(7), ours()).unwrap();
            assert_eq!(found, Remembered::Ours(memory(2)), "{torn} bytes were written");
        }
    }

    #[test]
    fn there_is_room_for_so_many_pairs() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = LeaseMemory::open(&directory.path().join("leases"), "boot").unwrap();
        for pair in 1..=SLOTS as u64 {
            assert!(file.find(PairId(pair), ours()).is_some());
        }
        assert_eq!(file.find(PairId(0xffff), ours()), None);
    }
}
