//! Calls through a pair of our own SIP Servers: whatever happens to the primary, neither party notices, and there is one
//! record for each call. SIPp is both telephones where there are many of them, `telephones` where one has to say the right
//! thing at the worst moment.

mod load;
mod moments;
mod phones;
mod shown;
mod situations;
mod takeovers;
mod telephones;
mod wire;

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
        takeovers::a_forced_switchover_loses_what_the_backup_lacks,
        takeovers::a_backup_that_was_restarted_has_all_calls_again,
        moments::a_killed_server,
        moments::a_server_that_hangs,
        moments::a_host_that_is_cut_off,
        moments::a_switchover,
        moments::connections_and_a_killed_server,
        moments::connections_and_a_host_that_is_cut_off,
        moments::connections_and_a_switchover,
        moments::sessions_are_refreshed_and_expire_after_a_killed_server,
        load::twenty_takeovers_in_a_row,
        load::five_hundred_calls_a_second,
        load::a_backup_is_restarted,
    ];
    netlab::harness::run(&stories)
}
