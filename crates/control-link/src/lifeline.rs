//! The lifeline: tells an agent that an application is dying *before* the kernel takes its memory apart. A pidfd
//! (pidfd_open(2)) is readable only afterwards, which is 3 ms later for a process of 20 MB and 30 ms for one of 200 MB.
//!
//! It is a futex in memory that both share, on the application's robust list (get_robust_list(2)): when a thread ends,
//! however it ends, the first thing that the kernel does about its memory is to mark the futexes of that list
//! `FUTEX_OWNER_DIED` and to wake who waits for them (`exit_mm_release` in the kernel's `exit_mm`). Needs no right, works
//! in namespaces, and costs nothing while nobody dies.
//!
//! ```text
//!  agent                                            application
//!  [`Watched::new`]: memory, sealed
//!  `ToApplication::Lifeline` + descriptor ────────> [`Lifeline::hold`], in the thread that ends with the process
//!  [`Watched::wait`], in a thread of its own  <──── (dies)
//! ```
//!
//! The application may write to the memory whatever it likes: it can make itself seem dead, and no more.

use memmap2::{MmapOptions, MmapRaw};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

/// Bytes that are shared: one page, of which one word is used.
const SHARED: usize = 4_096;
/// Nobody holds it yet.
const FREE: u32 = 0;
/// The agent waits no more. No thread has this number, which has all bits of `FUTEX_TID_MASK`.
const GIVEN_UP: u32 = libc::FUTEX_TID_MASK;
/// An application whose lifeline changes more often than this without an end plays with it.
const MOST_CHANGES: u32 = 1_000;

/// What became of an application that was watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The thread with this number, as the application sees it, is ending.
    Dying {
        /// The main thread's number is that of the process.
        thread: u32,
    },
    /// [`Watched::give_up`] was called, or the other side does not keep to the rules.
    GivenUp,
}

/// The agent's side.
#[derive(Debug)]
pub struct Watched {
    memory: Shared,
    descriptor: OwnedFd,
}

impl Watched {
    /// Makes the memory. It can neither grow nor shrink, so that reading it never fails.
    ///
    /// # Errors
    /// What the system refused.
    pub fn new() -> io::Result<Self> {
        let name = CString::new("takeover-lifeline")?;
        // SAFETY: a name that lives through the call, and flags.
        let made = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
        if made < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was made above, and is nobody else's.
        let descriptor = unsafe { OwnedFd::from_raw_fd(made) };
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        // SAFETY: a descriptor that is open, and numbers.
        let done = unsafe {
            libc::ftruncate(descriptor.as_raw_fd(), SHARED as libc::off_t) == 0
                && libc::fcntl(descriptor.as_raw_fd(), libc::F_ADD_SEALS, seals) == 0
        };
        if !done {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { memory: Shared::map(descriptor.as_fd())?, descriptor })
    }

    /// What is passed to the application along with `ToApplication::Lifeline`.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// Waits for the end of whoever holds it, or for [`Watched::give_up`].
    #[must_use]
    pub fn wait(&self) -> Outcome {
        let word = self.memory.word();
        let mut holder = 0;
        for _ in 0..MOST_CHANGES {
            let seen = word.load(Ordering::Acquire);
            if seen & libc::FUTEX_OWNER_DIED != 0 {
                return Outcome::Dying { thread: holder };
            }
            if seen & libc::FUTEX_TID_MASK == GIVEN_UP {
                return Outcome::GivenUp;
            }
            holder = seen & libc::FUTEX_TID_MASK;
            self.memory.wait_while(seen);
        }
        Outcome::GivenUp
    }

    /// Ends [`Watched::wait`] of another thread.
    pub fn give_up(&self) {
        self.memory.word().store(GIVEN_UP, Ordering::Release);
        self.memory.wake();
    }
}

/// The application's side. Belongs to the thread that made it, and is to be made in the one that ends with the process.
///
/// While it is held, it takes the place of the thread's robust list: mutexes that are robust (pthread_mutexattr_setrobust(3))
/// are not when this thread ends.
#[derive(Debug, Default)]
pub struct Lifeline {
    held: Option<Held>,
}

impl Lifeline {
    /// Holds the lifeline of which the agent passed the descriptor; an earlier one is let go.
    ///
    /// # Errors
    /// It is not a lifeline, or the system refused. An earlier one is held on.
    pub fn hold(&mut self, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        let memory = Shared::map(descriptor)?;
        // SAFETY: asks for the caller's own number.
        let thread = unsafe { libc::syscall(libc::SYS_gettid) };
        let thread = u32::try_from(thread).map_err(io::Error::other)? & libc::FUTEX_TID_MASK;
        let mut list = Box::new(List::default());
        list.link(memory.word());
        // The kernel wakes only where somebody is said to wait: that is so from the beginning.
        let ours = thread | libc::FUTEX_WAITERS;
        if memory.word().compare_exchange(FREE, ours, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return Err(io::Error::other("the lifeline is somebody else's, or the agent waits no more"));
        }
        let before = match &self.held {
            Some(held) => held.before,
            None => robust_list()?,
        };
        set_robust_list((&raw mut list.head).cast())?;
        memory.wake();
        // Only now, as the kernel would follow it until then.
        drop(self.held.replace(Held { _memory: memory, _list: list, before }));
        Ok(())
    }
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        if let Some(held) = &self.held {
            // It cannot fail with a list that was the thread's before.
            let _ = set_robust_list(held.before);
        }
    }
}

#[derive(Debug)]
struct Held {
    /// Both live for as long as the kernel may follow them.
    _memory: Shared,
    _list: Box<List>,
    /// The list that was there before.
    before: *mut libc::c_void,
}

/// A robust list of one futex, as in the kernel's `linux/futex.h`.
#[derive(Debug)]
#[repr(C)]
struct List {
    head: Head,
    entry: Entry,
}

#[derive(Debug)]
#[repr(C)]
struct Head {
    first: *mut Entry,
    /// From an entry to its futex, bytes.
    futex_offset: libc::c_long,
    pending: *mut Entry,
}

#[derive(Debug)]
#[repr(C)]
struct Entry {
    next: *mut Entry,
}

impl Default for List {
    fn default() -> Self {
        let nothing = std::ptr::null_mut();
        Self {
            head: Head { first: nothing, futex_offset: 0, pending: nothing },
            entry: Entry { next: nothing },
        }
    }
}

impl List {
    /// Makes it a list of this futex alone: the head's first member is an entry too, and the last entry leads back to it.
    fn link(&mut self, futex: &AtomicU32) {
        let entry = &raw mut self.entry;
        self.entry.next = (&raw mut self.head).cast();
        self.head.first = entry;
        self.head.futex_offset = (futex.as_ptr() as libc::c_long).wrapping_sub(entry as libc::c_long);
    }
}

/// The shared page.
#[derive(Debug)]
struct Shared(MmapRaw);

impl Shared {
    fn map(descriptor: BorrowedFd<'_>) -> io::Result<Self> {
        // SAFETY: asks about a descriptor that is open; without F_SEAL_SHRINK a read of the mapping may fail later.
        let seals = unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_GET_SEALS) };
        if seals < 0 || seals & libc::F_SEAL_SHRINK == 0 {
            return Err(io::Error::other("the descriptor is not that of a lifeline"));
        }
        MmapOptions::new().len(SHARED).map_raw(descriptor.as_raw_fd()).map(Self)
    }

    fn word(&self) -> &AtomicU32 {
        // SAFETY: the first word of a page that is mapped, readable and writable, for as long as `self` lives. Other
        // processes access it as an atomic too, or break themselves alone.
        unsafe { AtomicU32::from_ptr(self.0.as_mut_ptr().cast()) }
    }

    /// Waits for a change, or for a wake-up without one.
    fn wait_while(&self, value: u32) {
        // SAFETY: a word that is mapped, and no time limit. Every error means that there is nothing to wait for.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.word().as_ptr(),
                libc::FUTEX_WAIT,
                value,
                std::ptr::null::<libc::timespec>(),
            )
        };
    }

    fn wake(&self) {
        // SAFETY: a word that is mapped; wakes every waiter.
        unsafe { libc::syscall(libc::SYS_futex, self.word().as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
    }
}

fn robust_list() -> io::Result<*mut libc::c_void> {
    let (mut head, mut size) = (std::ptr::null_mut::<libc::c_void>(), 0_usize);
    // SAFETY: 0 is the calling thread; both places live through the call.
    match unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut size) } {
        0 => Ok(head),
        _ => Err(io::Error::last_os_error()),
    }
}

fn set_robust_list(head: *mut libc::c_void) -> io::Result<()> {
    // SAFETY: the kernel only notes the address. What it follows from there when the thread ends is kept by the caller, and
    // what it cannot read it leaves alone.
    match unsafe { libc::syscall(libc::SYS_set_robust_list, head, size_of::<Head>()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Duration;

    /// Waits for the outcome in another thread, within ten seconds.
    fn outcome_of(watched: &Arc<Watched>) -> Outcome {
        let (tell, told) = std::sync::mpsc::channel();
        let waiting = Arc::clone(watched);
        std::thread::spawn(move || tell.send(waiting.wait()));
        told.recv_timeout(Duration::from_secs(10)).expect("an outcome within ten seconds")
    }

    #[test]
    fn the_end_of_a_thread_is_told() {
        let watched = Arc::new(Watched::new().unwrap());
        let descriptor = watched.descriptor().try_clone_to_owned().unwrap();
        let thread = std::thread::spawn(move || {
            let mut lifeline = Lifeline::default();
            lifeline.hold(descriptor.as_fd()).unwrap();
            std::mem::forget(lifeline);
            // SAFETY: asks for the caller's own number.
            unsafe { libc::syscall(libc::SYS_gettid) }
        });
        let outcome = outcome_of(&watched);
        let thread = u32::try_from(thread.join().unwrap()).unwrap();
        assert!(outcome == Outcome::Dying { thread } || outcome == Outcome::Dying { thread: 0 });
    }

    #[test]
    fn a_killed_process_is_told_of_before_its_pidfd_is() {
        let watched = Arc::new(Watched::new().unwrap());
        // SAFETY: the child never returns; the C library lets the one thread that it has go on allocating.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let held = Lifeline::default().hold_for_good(watched.descriptor());
            // SAFETY: as above.
            unsafe {
                if held {
                    libc::raise(libc::SIGKILL);
                }
                libc::_exit(1);
            }
        }
        assert!(child > 0);
        let outcome = outcome_of(&watched);
        let mut status = 0;
        // SAFETY: our own child, which is waited for once.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert!(libc::WIFSIGNALED(status), "the child could not hold the lifeline: {status}");
        let thread = u32::try_from(child).unwrap();
        assert!(
            outcome == Outcome::Dying { thread } || outcome == Outcome::Dying { thread: 0 },
            "{outcome:?}"
        );
    }

    impl Lifeline {
        fn hold_for_good(mut self, descriptor: BorrowedFd<'_>) -> bool {
            let held = self.hold(descriptor).is_ok();
            std::mem::forget(self);
            held
        }
    }

    #[test]
    fn who_gives_up_waits_no_more_and_cannot_be_held_by() {
        let watched = Arc::new(Watched::new().unwrap());
        watched.give_up();
        assert_eq!(outcome_of(&watched), Outcome::GivenUp);
        assert!(Lifeline::default().hold(watched.descriptor()).is_err());
    }

    #[test]
    fn a_second_one_takes_the_place_of_the_first() {
        let (first, second) = (Watched::new().unwrap(), Arc::new(Watched::new().unwrap()));
        let other = second.descriptor().try_clone_to_owned().unwrap();
        let one = first.descriptor().try_clone_to_owned().unwrap();
        std::thread::spawn(move || {
            let mut lifeline = Lifeline::default();
            lifeline.hold(one.as_fd()).unwrap();
            lifeline.hold(other.as_fd()).unwrap();
            std::mem::forget(lifeline);
        });
        assert!(matches!(outcome_of(&second), Outcome::Dying { .. }));
        assert_eq!(first.memory.word().load(Ordering::Acquire) & libc::FUTEX_OWNER_DIED, 0);
    }

    #[test]
    fn one_that_lets_go_does_not_seem_to_die() {
        let watched = Watched::new().unwrap();
        let descriptor = watched.descriptor().try_clone_to_owned().unwrap();
        std::thread::spawn(move || drop(Lifeline::default().hold(descriptor.as_fd()))).join().unwrap();
        assert_eq!(watched.memory.word().load(Ordering::Acquire) & libc::FUTEX_OWNER_DIED, 0);
    }

    #[test]
    fn what_is_not_a_lifeline_is_refused() {
        let file = tempfile::tempfile().unwrap();
        assert!(Lifeline::default().hold(file.as_fd()).is_err());
    }

    #[test]
    fn one_who_plays_with_it_is_left_alone() {
        let watched = Arc::new(Watched::new().unwrap());
        let playing = Arc::clone(&watched);
        std::thread::spawn(move || {
            let mut value = 1;
            while playing.memory.word().swap(value, Ordering::AcqRel) != GIVEN_UP && value < 10_000_000 {
                playing.memory.wake();
                value += 1;
            }
        });
        assert_eq!(outcome_of(&watched), Outcome::GivenUp);
        watched.give_up();
    }
}
