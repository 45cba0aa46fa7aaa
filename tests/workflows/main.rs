//! The workflows of the product, end to end: what operators order, what fails, and what is killed. Each case is a story
//! on an installation of its own, told by the client's view, the incidents and the log.

mod command_line;
mod configuration;
mod demo;
mod disconnected;
mod failure;
mod kamailio;
mod killing;
mod scs;
mod sipp;
mod switchover;

use std::process::ExitCode;

fn main() -> ExitCode {
    netlab::harness::run(&e2e::stories![
        switchover::both_directions_twice,
        failure::killed_both_directions_twice,
        failure::hung_and_heartbeats_missed,
        failure::hung_and_probe_unanswered,
        disconnected::cut_and_reconnected_both_directions,
        disconnected::host_not_heard,
        disconnected::host_hears_nothing,
        killing::agent_of_the_primary,
        killing::agent_of_the_backup,
        killing::scs,
        killing::both_agents,
        killing::agent_that_took_no_note_of_a_process,
        killing::scs_and_agent,
        killing::server_and_agent,
        killing::server_and_scs,
        scs::restarts_change_nothing,
        scs::learns_what_happened_without_it,
        sipp::calls_during_switchovers,
        sipp::calls_during_and_after_failovers,
        kamailio::kamailio_pair,
        command_line::shows,
        command_line::orders,
        command_line::alarms,
        command_line::exit_codes,
        configuration::applied_and_rolled_back_while_all_goes_on,
        configuration::what_cannot_be_applied_changes_nothing,
        configuration::a_pair_comes_and_goes,
        configuration::a_vip_moves_to_another_pair,
        configuration::another_profile,
        demo::as_oneself,
        demo::as_nobody,
    ])
}
