//! The laboratory against the real kernel, as root and as an ordinary user: `cargo test -p netlab` as either. Each case is
//! a process in namespaces of its own; programs that a case runs are this one, told by an environment variable what to be.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "clippy.toml allows tests to unwrap, and takes this for a program"
)]

mod enter;
mod guest;
mod lab;
mod prober;

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = guest::run_if_told() {
        return code;
    }
    netlab::harness::run(&netlab::cases![
        lab::hosts_hear_each_other,
        lab::a_cut_host_sees_no_carrier_and_hears_nobody,
        lab::one_segment_can_be_cut,
        lab::one_way_drops_one_way,
        lab::blocked_hosts_hear_everybody_else,
        lab::a_host_has_files_of_its_own,
        lab::programs_run_on_their_host,
        lab::whoever_runs_on_a_host_ends_with_the_lab,
        lab::twenty_hosts_with_a_hundred_addresses_each,
        lab::mistakes_are_told,
        prober::it_knows_who_answered_what,
        prober::it_asks_over_ipv6,
        prober::silence_is_lost_requests,
        enter::the_exit_code_comes_out,
        enter::signals_go_in,
        enter::the_terminal_stays_in_use,
        enter::open_descriptors_stay_open,
        enter::nothing_outlives_a_killed_guardian,
        enter::mounts_stay_inside,
        enter::an_ordinary_user_can_enter_and_build_a_lab,
        enter::root_without_cap_sys_admin_can_enter,
        enter::a_machine_that_forbids_it_is_told_how_to_allow_it,
        enter::threads_are_refused,
        enter::the_harness_reports_panics_and_kills_what_hangs,
    ])
}
