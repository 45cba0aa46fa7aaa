//! What agents report, as inputs of the core: on our clock, and nothing that an agent cannot know.

use crate::sessions::Agent;
use control_link::messages::{Fact, Report};
use domain::{Cluster, EventId, Micros, PeerReport, events};
use ha_core::Input;

/// Events that only the SCS logs: an agent that sends one is not believed.
const ONLY_OURS: &[EventId] = &[
    events::NOW_PRIMARY,
    events::NOW_BACKUP,
    events::HOST_INACCESSIBLE,
    events::HOST_NORMAL,
    events::HOST_UNAVAILABLE,
    events::HOST_UNREACHABLE,
    events::NO_PRIMARY,
    events::TWO_PRIMARIES,
    events::PAIR_NORMAL,
    events::VIP_NO_HOLDER,
    events::VIP_TWO_HOSTS,
    events::VIP_NORMAL,
    events::VIP_NOT_CONFIRMED,
    events::VIP_CONFIRMED,
    events::PAIR_FROZEN,
    events::PAIR_THAWED,
    events::LEASE_STRAINED,
    events::LEASE_STEADY,
    events::SWITCHOVER_ORDERED,
    events::ALARM_RAISED,
    events::ALARM_CLEARED,
];

/// A report as an input of the core; none where it is not news.
pub(crate) fn input_of(agent: &Agent, report: Report, cluster: &Cluster, now: Micros) -> Option<Input> {
    let Report { at, fact, .. } = report;
    let host = agent.host.clone();
    // What happened before the agent connected is in its inventory by now; telling it again would be a step back.
    let is_news = agent.heard_inventory && at >= agent.hello_at;
    let at = agent.on_our_clock(at, now);
    match fact {
        Fact::App(report) => is_news.then_some(Input::AppReported { host, at, report }),
        Fact::Vip(report) => is_news.then_some(Input::VipReported { host, at, report }),
        Fact::VipSighted(mut sighting) => {
            sighting.asked = agent.on_our_clock(sighting.asked, now);
            for holder in &mut sighting.holders {
                holder.at = agent.on_our_clock(holder.at, now);
            }
            is_news.then_some(Input::VipSighted { host, at, sighting })
        }
        Fact::Interface(report) => is_news.then_some(Input::InterfaceReported { host, at, report }),
        Fact::Peer(PeerReport { host: peer, heard }) => {
            is_news.then_some(Input::PeerReported { host, at, peer, heard })
        }
        Fact::LeaseLetGo { pair, app, epoch } => {
            // Of a pair of its own host only, whichever member it was.
            let is_its = cluster.pairs.get(&pair).is_some_and(|settings| {
                let here = |member| cluster.host_of(member) == Some(&host);
                settings.members.contains(&app) && settings.members.iter().any(here)
            });
            is_its.then_some(Input::LeaseLetGo { pair, app, epoch })
        }
        Fact::Answer(answer) => Some(Input::Answered { host, at, answer }),
        Fact::LaunchEnded(result) => Some(Input::LaunchEnded { host, at, result }),
        Fact::Log(mut event) => {
            event.at = agent.on_our_clock(event.at, now);
            // An agent speaks for its own host and applications, and of nothing that only the SCS can know.
            event.app = event.app.filter(|app| cluster.host_of(app) == Some(&host));
            event.host = Some(host);
            (!ONLY_OURS.contains(&event.id)).then_some(Input::EventReported { event })
        }
    }
}
