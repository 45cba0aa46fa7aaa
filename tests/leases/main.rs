//! Leases and the gate, end to end: whatever is cut, stopped or killed, one at a time and in twos, never do two hosts answer
//! for the VIP, and service is back where a majority of voters lives.
//!
//! Beside the client that sends OPTIONS a second one asks both hosts, by ARP, neighbour discovery and echo requests to either's
//! Ethernet address, a thousand times a second; what a host says for the VIPs is heard at its own interface, behind its gate:
//! whomever the switch, or the client's neighbour entry, prefers, and also where a cut keeps it from clients (`watch`).

mod faults;
mod gate;
mod single;
mod twos;
mod verification;
mod watch;
mod withheld;

use std::process::ExitCode;
use std::time::Duration;

/// The limit of stories that go through many faults; they may be asked for more of them (`twos`).
const LONG: Duration = Duration::from_secs(60 * 60);

fn main() -> ExitCode {
    let stories = e2e::stories![
        watch::turns_that_are_too_short_are_two_at_once,
        single::host_cut,
        single::host_cut_in_profile_fast,
        single::host_not_heard,
        single::host_hears_nothing,
        single::cut_from_the_scs_alone,
        single::cut_from_the_peer_alone,
        single::cut_from_the_scs_and_the_peer,
        single::cut_from_the_clients_alone,
        single::agent_stopped_for_a_moment,
        single::agent_stopped_for_a_second,
        single::agent_stopped_for_ten_seconds,
        single::agent_killed_and_back_at_once,
        single::agent_killed_for_good,
        single::server_and_agent_killed,
        single::scs_killed,
        single::what_is_guaranteed_is_shown,
        single::server_killed_while_the_scs_is_away,
        single::scs_and_host_lost_until_the_host_is_back,
        single::scs_and_host_lost_until_the_scs_is_back,
        single::address_added_by_hand_on_the_backup,
        gate::flushed_while_held,
        gate::flushed_while_not_held,
        gate::without_one_the_address_goes_with_the_lease,
        gate::without_one_a_stopped_agent_is_two_at_once,
        gate::closed_on_time_beside_a_fork_bomb,
        verification::a_role_change_is_complete_when_the_network_says_so,
        verification::a_stranger_with_the_address_is_told_of,
        verification::a_neighbour_that_was_misled_is_put_right,
        withheld::until_the_old_holder_has_heard,
        withheld::until_an_operator_says_that_it_is_switched_off,
    ];
    let many =
        e2e::stories![twos::of_all_kinds, twos::healed_at_every_moment_of_a_takeover, twos::at_random,];
    let all: Vec<_> = stories.into_iter().chain(many.map(|story| story.limit(LONG))).collect();
    netlab::harness::run(&all)
}
