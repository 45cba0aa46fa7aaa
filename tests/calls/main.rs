//! Calls through a pair of our own SIP Servers, with SIPp as both telephones: whatever happens to the primary, neither party
//! notices, and there is one record for each call.

mod phones;
mod shown;
mod takeovers;

use std::process::ExitCode;

fn main() -> ExitCode {
    let stories = e2e::stories![
        shown::calls_are_shown_to_operators,
        takeovers::established_calls_outlive_a_switchover,
        takeovers::established_calls_outlive_a_killed_server,
        takeovers::established_calls_outlive_a_host_that_is_cut_off,
        takeovers::ringing_calls_are_answered_after_a_killed_server,
        takeovers::ringing_calls_are_cancelled_after_a_killed_server,
        takeovers::calls_go_on_while_the_role_moves,
        takeovers::a_backup_that_was_restarted_has_all_calls_again,
    ];
    netlab::harness::run(&stories)
}
