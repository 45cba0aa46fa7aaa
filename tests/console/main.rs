//! The web console in a real browser (headless Chromium), before a real installation: what an operator sees and does. The
//! pictures of all pages are left in `target/screenshots`, for a person to look at.

mod axe;
mod browser;
mod configuring;
mod figures;
mod looking;
mod office;
mod operating;
mod pictures;
mod provider;
mod users;

use std::process::ExitCode;

fn main() -> ExitCode {
    netlab::harness::run(&e2e::stories![
        users::the_first_administrator_makes_the_others,
        users::a_viewer_is_offered_no_orders,
        users::a_session_that_ended,
        provider::somebody_signs_in_by_it,
        looking::log_by_filters,
        looking::certificates_of_hosts,
        operating::switchover_with_the_keyboard,
        operating::maintenance_is_seen_everywhere,
        operating::a_pair_is_frozen_and_unfrozen,
        operating::a_drill_is_scheduled,
        operating::a_solution_is_stopped_and_started,
        operating::a_failure_appears_by_itself,
        operating::scs_lost_and_back,
        configuring::an_error_is_shown_at_its_line_and_a_change_is_applied_and_undone,
        pictures::every_page,
        figures::first_paint,
        figures::a_thousand_hosts,
    ])
}
