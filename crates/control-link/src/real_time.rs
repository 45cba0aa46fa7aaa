//! Real-time scheduling for the threads that answer heartbeats: without it a busy host looks like a dead one.

/// Gives the calling thread SCHED_FIFO with this priority (1 to 99; sched(7)). Threads and processes that it starts do
/// not inherit it. Returns whether the system allowed it (CAP_SYS_NICE or RLIMIT_RTPRIO).
#[must_use]
pub fn raise_thread(priority: i32) -> bool {
    let parameters = libc::sched_param { sched_priority: priority };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: pid 0 is the calling thread, `parameters` lives through the call.
    unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) == 0 }
}
