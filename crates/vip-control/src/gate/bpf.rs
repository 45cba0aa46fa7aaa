//! bpf(2) as far as the gate needs it, and the memory that it shares with the kernel. All of the gate's `unsafe` is
//! here. What maps and programs are for is for the callers.

use super::assembler::Instruction;
use domain::Micros;
use std::ffi::{CStr, c_long};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::time::Duration;

// `enum bpf_cmd`.
const MAP_CREATE: c_long = 0;
const MAP_LOOKUP_ELEM: c_long = 1;
const MAP_UPDATE_ELEM: c_long = 2;
const MAP_DELETE_ELEM: c_long = 3;
const MAP_GET_NEXT_KEY: c_long = 4;
const PROG_LOAD: c_long = 5;
const PROG_TEST_RUN: c_long = 10;
const PROG_GET_FD_BY_ID: c_long = 13;
const MAP_GET_FD_BY_ID: c_long = 14;
const OBJ_GET_INFO_BY_FD: c_long = 15;
const PROG_QUERY: c_long = 16;

/// `BPF_PROG_TYPE_SCHED_CLS`.
const CLASSIFIER: u32 = 3;
/// Nothing that the program calls is reserved for the GPL.
const LICENCE: &CStr = c"Apache-2.0 OR MIT";
/// Maps that one program may use, with room to spare.
const MOST_MAPS: usize = 8;
/// Room for the verifier's explanation.
const LOG_LENGTH: usize = 64 * 1024;

/// Kinds of maps (`enum bpf_map_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Kind {
    /// `BPF_MAP_TYPE_HASH`
    Hash = 1,
    /// `BPF_MAP_TYPE_ARRAY`
    Array = 2,
}

/// What a map is like. Two maps of the same shape and name can stand for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// `enum bpf_map_type`.
    pub(super) kind: u32,
    /// Bytes.
    pub(super) key: u32,
    /// Bytes.
    pub(super) value: u32,
    /// Entries at most.
    pub(super) entries: u32,
    /// `BPF_F_*`.
    pub(super) flags: u32,
    /// At most 15 letters, digits, dots and underscores, padded with zeros.
    pub(super) name: [u8; 16],
}

impl Shape {
    /// A hash or an array; the array can be mapped into memory (since Linux 5.5).
    pub(super) const fn new(kind: Kind, key: usize, value: usize, entries: u32, name: &CStr) -> Self {
        let flags = match kind {
            Kind::Hash => 0,
            Kind::Array => 1 << 10, // BPF_F_MMAPABLE
        };
        Self { kind: kind as u32, key: key as u32, value: value as u32, entries, flags, name: padded(name) }
    }

    /// The same but for the number of entries: its contents can be read.
    pub(super) fn resembles(&self, other: &Shape) -> bool {
        Shape { entries: other.entries, ..*self } == *other
    }
}

const fn padded(name: &CStr) -> [u8; 16] {
    let mut padded = [0; 16];
    let bytes = name.to_bytes();
    assert!(bytes.len() < padded.len(), "names of maps and programs are short");
    let mut at = 0;
    while at < bytes.len() {
        padded[at] = bytes[at];
        at += 1;
    }
    padded
}

/// A map. Its keys and values are as long as its shape says; the methods take no others.
#[derive(Debug)]
pub(super) struct Map {
    fd: OwnedFd,
    shape: Shape,
}

#[repr(C)]
struct ElementOrder {
    fd: RawFd,
    _padding: u32,
    key: u64,
    /// Or the next key.
    value: u64,
    flags: u64,
}

impl Map {
    pub(super) fn create(shape: Shape) -> io::Result<Self> {
        #[repr(C)]
        struct Order {
            kind: u32,
            key: u32,
            value: u32,
            entries: u32,
            flags: u32,
            inner_fd: u32,
            numa_node: u32,
            name: [u8; 16],
        }
        let Shape { kind, key, value, entries, flags, name } = shape;
        let mut order = Order { kind, key, value, entries, flags, inner_fd: 0, numa_node: 0, name };
        // SAFETY: the order holds no pointers.
        let fd = unsafe { descriptor(MAP_CREATE, &mut order) }?;
        Ok(Self { fd, shape })
    }

    /// The map with this id. Needs CAP_SYS_ADMIN.
    pub(super) fn by_id(id: u32) -> io::Result<Self> {
        #[repr(C)]
        #[derive(Default)]
        struct Info {
            kind: u32,
            id: u32,
            key: u32,
            value: u32,
            entries: u32,
            flags: u32,
            name: [u8; 16],
        }
        let fd = by_id(MAP_GET_FD_BY_ID, id)?;
        let mut info = Info::default();
        // SAFETY: `Info` is a prefix of `struct bpf_map_info`, which holds no pointers.
        unsafe { information(&fd, &mut info) }?;
        let Info { kind, id: _, key, value, entries, flags, name } = info;
        Ok(Self { fd, shape: Shape { kind, key, value, entries, flags, name } })
    }

    pub(super) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Whether there was such a key; then `value` has its value.
    pub(super) fn get(&self, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
        self.check(key.len(), value.len())?;
        let mut order = self.order(key.as_ptr(), value.as_mut_ptr());
        // SAFETY: both buffers are as long as the map's keys and values, and valid during the call.
        found(unsafe { bpf(MAP_LOOKUP_ELEM, &mut order) })
    }

    pub(super) fn put(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.check(key.len(), value.len())?;
        let mut order = self.order(key.as_ptr(), value.as_ptr());
        // SAFETY: as above; the kernel only reads them.
        unsafe { bpf(MAP_UPDATE_ELEM, &mut order) }.map(drop)
    }

    /// Whether there was such a key.
    pub(super) fn remove(&self, key: &[u8]) -> io::Result<bool> {
        self.check(key.len(), self.shape.value as usize)?;
        let mut order = self.order(key.as_ptr(), std::ptr::null());
        // SAFETY: the key is as long as the map's keys, and valid during the call.
        found(unsafe { bpf(MAP_DELETE_ELEM, &mut order) })
    }

    /// Whether there is a key after this one (or, after none, a first one); then `next` has it.
    pub(super) fn next_key(&self, after: Option<&[u8]>, next: &mut [u8]) -> io::Result<bool> {
        self.check(next.len(), self.shape.value as usize)?;
        self.check(after.map_or(next.len(), <[u8]>::len), self.shape.value as usize)?;
        let after = after.map_or(std::ptr::null(), <[u8]>::as_ptr);
        let mut order = self.order(after, next.as_mut_ptr());
        // SAFETY: both keys are as long as the map's keys, and valid during the call; without one, null asks for the first.
        found(unsafe { bpf(MAP_GET_NEXT_KEY, &mut order) })
    }

    fn order(&self, key: *const u8, value: *const u8) -> ElementOrder {
        ElementOrder {
            fd: self.fd.as_raw_fd(),
            _padding: 0,
            key: key.expose_provenance() as u64,
            value: value.expose_provenance() as u64,
            flags: 0,
        }
    }

    fn check(&self, key: usize, value: usize) -> io::Result<()> {
        let fits = key == self.shape.key as usize && value == self.shape.value as usize;
        if fits { Ok(()) } else { Err(io::ErrorKind::InvalidInput.into()) }
    }
}

impl AsRawFd for Map {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// A loaded program.
#[derive(Debug)]
pub(super) struct Program {
    fd: OwnedFd,
    id: u32,
    maps: Vec<u32>,
}

impl Program {
    /// Has the kernel verify and compile a classifier. The second part of the error is what the verifier found wrong, if it was
    /// asked at all.
    pub(super) fn load(code: &[Instruction], name: &CStr) -> Result<Self, (io::Error, String)> {
        let loaded = load(code, name, &mut []).and_then(Self::described);
        loaded.map_err(|error| {
            // Once more, for an explanation; without it programs load faster.
            let mut log = vec![0; LOG_LENGTH];
            let _ = load(code, name, &mut log);
            let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
            (error, String::from_utf8_lossy(&log[..end]).trim().to_owned())
        })
    }

    /// The program with this id. Needs CAP_SYS_ADMIN.
    pub(super) fn by_id(id: u32) -> io::Result<Self> {
        Self::described(by_id(PROG_GET_FD_BY_ID, id)?)
    }

    /// What the system calls it.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// The ids of its maps.
    pub(super) fn maps(&self) -> &[u32] {
        &self.maps
    }

    /// What it decides about a frame, and how long that took on the average of `times`.
    pub(super) fn run(&self, frame: &[u8], times: u32) -> io::Result<(i32, Duration)> {
        #[repr(C)]
        struct Order {
            fd: RawFd,
            result: u32,
            frame_length: u32,
            output_length: u32,
            frame: u64,
            output: u64,
            times: u32,
            nanoseconds: u32,
        }
        let mut order = Order {
            fd: self.fd.as_raw_fd(),
            result: 0,
            frame_length: u32::try_from(frame.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
            output_length: 0,
            frame: frame.as_ptr().expose_provenance() as u64,
            output: 0,
            times,
            nanoseconds: 0,
        };
        // SAFETY: the frame is valid during the call and as long as said; nothing is written but the order itself.
        unsafe { bpf(PROG_TEST_RUN, &mut order) }?;
        Ok((order.result.cast_signed(), Duration::from_nanos(order.nanoseconds.into())))
    }

    fn described(fd: OwnedFd) -> io::Result<Self> {
        /// The first members of `struct bpf_prog_info`.
        #[repr(C)]
        #[derive(Default)]
        struct Info {
            kind: u32,
            id: u32,
            tag: u64,
            compiled_length: u32,
            verified_length: u32,
            compiled: u64,
            verified: u64,
            loaded: u64,
            user: u32,
            map_count: u32,
            maps: u64,
        }
        let mut maps = [0_u32; MOST_MAPS];
        let mut info = Info {
            map_count: MOST_MAPS as u32,
            maps: maps.as_mut_ptr().expose_provenance() as u64,
            ..Info::default()
        };
        // SAFETY: `Info` is a prefix of `struct bpf_prog_info`; its pointer leads to as many ids as it says, the others
        // are null.
        unsafe { information(&fd, &mut info) }?;
        let count = MOST_MAPS.min(info.map_count as usize);
        Ok(Self { fd, id: info.id, maps: maps[..count].to_vec() })
    }
}

impl AsRawFd for Program {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

fn load(code: &[Instruction], name: &CStr, log: &mut [u8]) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Order {
        kind: u32,
        count: u32,
        code: u64,
        licence: u64,
        log_level: u32,
        log_length: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
        name: [u8; 16],
    }
    let mut order = Order {
        kind: CLASSIFIER,
        count: u32::try_from(code.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        code: code.as_ptr().expose_provenance() as u64,
        licence: LICENCE.as_ptr().expose_provenance() as u64,
        log_level: u32::from(!log.is_empty()),
        log_length: u32::try_from(log.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        log: if log.is_empty() { 0 } else { log.as_mut_ptr().expose_provenance() as u64 },
        kernel_version: 0,
        flags: 0,
        name: padded(name),
    };
    // SAFETY: code, licence (which ends in NUL) and log are valid during the call and as long as said.
    unsafe { descriptor(PROG_LOAD, &mut order) }
}

/// How many programs an interface has on `tcx` (since Linux 6.6; before, none), where they come before every filter.
pub(super) fn count_tcx(interface: u32, egress: bool) -> io::Result<u32> {
    #[repr(C)]
    #[derive(Default)]
    struct Order {
        interface: u32,
        place: u32,
        query_flags: u32,
        attach_flags: u32,
        ids: u64,
        count: u32,
        _padding: u32,
        link_ids: u64,
        link_attach_flags: u64,
        program_attach_flags: u64,
        revision: u64,
    }
    const TCX_INGRESS: u32 = 46;
    let mut order = Order { interface, place: TCX_INGRESS + u32::from(egress), ..Order::default() };
    // SAFETY: without room for ids the kernel only counts.
    match unsafe { bpf(PROG_QUERY, &mut order) } {
        Ok(_) => Ok(order.count),
        Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOENT | libc::ENODEV)) => Ok(0),
        Err(e) => Err(e),
    }
}

/// Memory that is a map's, as a slice of `T`.
#[derive(Debug)]
pub(super) struct Mapping<T> {
    start: NonNull<T>,
    count: usize,
}

// SAFETY: the memory belongs to the mapping alone within this process and is only handed out as `&T`.
unsafe impl<T: Send + Sync> Send for Mapping<T> {}

/// Maps `count` values of an array into memory. `T` must be a structure of atomic integers: the kernel and other
/// processes write there, too.
pub(super) fn map_memory<T: Default>(map: &Map, count: usize) -> io::Result<Mapping<T>> {
    let length = count * size_of::<T>();
    let fits = map.shape.kind == Kind::Array as u32
        && map.shape.value as usize == size_of::<T>()
        && map.shape.entries as usize == count
        && size_of::<T>().is_multiple_of(8); // the kernel pads values to 8 bytes
    if !fits {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping, which replaces none.
    let start = unsafe {
        libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_SHARED, map.fd.as_raw_fd(), 0)
    };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok(Mapping { start, count })
}

impl<T> Mapping<T> {
    pub(super) fn as_slice(&self) -> &[T] {
        // SAFETY: mapped for as long as this value lives, aligned to a page, as long as `count` values; `T` allows others
        // to change it (see `map_memory`).
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }
}

impl<T> Drop for Mapping<T> {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `map_memory` made, and nothing borrows it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.count * size_of::<T>()) };
    }
}

fn by_id(command: c_long, id: u32) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Order {
        id: u32,
        next_id: u32,
        flags: u32,
    }
    // SAFETY: the order holds no pointers.
    unsafe { descriptor(command, &mut Order { id, next_id: 0, flags: 0 }) }
}

/// Fills in what the kernel tells about an object.
///
/// # Safety
/// `T` must be a prefix of the structure that the kernel fills in, and its pointers null or as the kernel expects them.
unsafe fn information<T>(fd: &OwnedFd, info: &mut T) -> io::Result<()> {
    #[repr(C)]
    struct Order {
        fd: RawFd,
        length: u32,
        info: u64,
    }
    let info = (&raw mut *info).expose_provenance() as u64;
    let mut order = Order { fd: fd.as_raw_fd(), length: size_of::<T>() as u32, info };
    // SAFETY: the kernel writes at most `length` bytes there; the rest is the caller's promise.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut order) }.map(drop)
}

/// # Safety
/// As for [`bpf`], for a command that gives a descriptor.
unsafe fn descriptor<T>(command: c_long, order: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise.
    let fd = unsafe { bpf(command, order) }?;
    // SAFETY: `fd` was just made and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The system call. Shorter orders than the kernel's `union bpf_attr` are taken as if zeros followed.
///
/// # Safety
/// `order` must be laid out as the command's part of the union, every byte of it initialised but for padding, and its
/// pointers must lead to what the kernel reads or writes there.
unsafe fn bpf<T>(command: c_long, order: &mut T) -> io::Result<i32> {
    // SAFETY: pointer and length describe `order`; the rest is the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *order, size_of::<T>()) };
    i32::try_from(result).ok().filter(|result| *result >= 0).ok_or_else(io::Error::last_os_error)
}

/// Whether a key was there.
fn found(result: io::Result<i32>) -> io::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(e) => Err(e),
    }
}

/// CLOCK_BOOTTIME: what the program in the kernel reads.
pub(super) fn boot_time() -> Micros {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one `timespec` there. The clock is there since Linux 2.6.39, so it does.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Micros(seconds * 1_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000)
}

/// Moves this thread to a network namespace of its own. Needs CAP_SYS_ADMIN.
pub(super) fn enter_new_network() -> io::Result<()> {
    // SAFETY: takes no pointers; concerns this thread only.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
