//! Leases and the gate, end to end: whatever is cut, stopped or killed, one at a time and in twos, never do two hosts answer
//! for the VIP, and service is back where a majority of voters lives.
//!
//! Beside the client that sends OPTIONS a second one asks both hosts, by ARP and by echo requests to either's Ethernet
//! address, a thousand times a second: a host that would answer is heard, whomever the switch or the client's neighbour
//! entry prefers (`watch`).

mod faults;
mod single;
mod twos;
mod watch;

use std::process::ExitCode;

fn main() -> ExitCode {
    netlab::harness::run(&e2e::stories![
        watch::turns_that_are_too_short_are_two_at_once,
        single::host_cut,
        single::host_not_heard,
        single::host_hears_nothing,
        single::cut_from_the_scs_alone,
        single::cut_from_the_peer_alone,
        single::agent_stopped_for_a_moment,
        single::agent_stopped_for_long,
        single::agent_killed_for_good,
        single::scs_killed,
        single::scs_and_host_lost_at_once,
        single::address_added_by_hand_on_the_backup,
        twos::of_cuts,
        twos::of_cuts_and_agents,
        twos::with_the_scs,
        twos::with_the_server,
        twos::healed_at_every_moment_of_a_takeover,
        twos::at_random,
    ])
}
