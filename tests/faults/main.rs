//! Faults around the parts, end to end: addresses that others remove, scripts that misbehave, strangers on the control
//! port, a full disk, and many pairs at once.

mod addresses;
mod drills;
mod many;
mod orders;
mod refusals;
mod scripts;
mod store;
mod strangers;

use std::process::ExitCode;

fn main() -> ExitCode {
    netlab::harness::run(&e2e::stories![
        addresses::removed_by_another_tool_is_put_back,
        addresses::added_where_it_does_not_belong_is_removed,
        addresses::left_over_is_removed_when_the_agent_starts,
        addresses::carrier_of_the_interface_lost,
        scripts::the_users_own_in_place_of_the_built_in,
        scripts::failing_is_told_and_the_built_in_control_helps,
        scripts::hanging_is_killed_and_the_built_in_control_helps,
        scripts::a_megabyte_of_output_is_bounded,
        scripts::alarm_reaction_with_its_facts,
        strangers::wrong_certificates_are_refused_with_a_reason,
        strangers::garbage_harms_nobody,
        store::a_full_disk_delays_nothing,
        orders::a_stop_by_order_is_no_failure,
        orders::graceful_stop_and_restart,
        orders::a_solution_in_its_order,
        drills::there_and_back,
        drills::skipped_where_a_pre_check_fails,
        refusals::files_with_errors,
        refusals::a_second_one,
        many::a_hundred_pairs_at_once,
    ])
}
