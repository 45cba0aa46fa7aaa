//! The network asked who has a VIP, by order and unasked. The other hosts of the laboratory hold it, or nobody does.

use crate::scs::{Agent, Scs, eth0};
use crate::vips::{modeless, vip4, vip6, with_vips};
use control_link::messages::Fact;
use domain::{
    AppStatus, LaunchOutcome, LaunchResult, MacAddress, RunMode, VipAddress, VipControl, VipSighting, VipVerb,
};
use netlab::Lab;
use vip_control::{Validity, VipController};

/// Puts the VIP onto another host of the laboratory, or takes it away; that host's Ethernet address.
fn hold(lab: &Lab, host: &str, vip: VipAddress, holds: bool) -> MacAddress {
    lab.in_host(host, || {
        let mut controller = VipController::open().unwrap();
        let changed = match holds {
            true => controller.enable(&vip, &eth0(), Validity::Permanent),
            false => controller.disable(&vip, &eth0()),
        };
        changed.unwrap();
        controller.link(&eth0()).unwrap().mac.expect("an Ethernet interface has an address")
    })
    .unwrap()
}

/// What was told last about a VIP.
fn sighting(scs: &Scs, vip: VipAddress) -> Option<&VipSighting> {
    scs.seen.iter().rev().find_map(|fact| match fact {
        Fact::VipSighted(sighting) if sighting.vip == vip => Some(sighting),
        _ => None,
    })
}

/// Orders to find the holder until exactly these answer: an IPv6 host does so a little after it got the address.
fn find(scs: &mut Scs, vip: VipAddress, mut expected: Vec<MacAddress>) -> LaunchResult {
    expected.sort();
    for _ in 0..50 {
        let result = scs.find_holder(vip);
        assert_eq!(result.outcome, LaunchOutcome::Succeeded, "{result:?}");
        // The sighting comes before the result.
        let told = sighting(scs, vip).expect("the sighting is told");
        let mut macs: Vec<_> = told.holders.iter().map(|holder| holder.mac).collect();
        macs.sort();
        assert_eq!(result.output, told.to_string());
        if macs == expected {
            assert!(told.holders.iter().all(|holder| holder.at >= told.asked), "{told:?}");
            return result;
        }
    }
    panic!("{expected:?} should answer, not {:?}", sighting(scs, vip));
}

pub fn the_holder_is_found_by_order(lab: &mut Lab) {
    let mut scs = Scs::start(lab);
    let _agent = Agent::start(lab, &scs);
    scs.welcome(with_vips(modeless(), &VipControl::BuiltIn));
    scs.app_is("app1", AppStatus::Started);
    for vip in [vip4(), vip6()] {
        assert!(find(&mut scs, vip, vec![]).took_us >= 100_000);
        let client = hold(lab, "client", vip, true);
        let found = find(&mut scs, vip, vec![client]);
        println!("found after {} us", found.took_us);
        let other = hold(lab, "scs", vip, true);
        find(&mut scs, vip, vec![client, other]);
        hold(lab, "client", vip, false);
        find(&mut scs, vip, vec![other]);
        hold(lab, "scs", vip, false);
    }
    // The holder itself is no witness.
    scs.set_mode("app1", RunMode::Primary, 3);
    assert_eq!(scs.vip(VipVerb::Enable, vip4(), 3, None).outcome, LaunchOutcome::Succeeded);
    let refused = scs.find_holder(vip4()).outcome;
    assert!(
        matches!(&refused, LaunchOutcome::Failed { why } if why.contains("holds it itself")),
        "{refused:?}"
    );
    let unknown = scs.find_holder("192.0.2.101/24".parse().unwrap()).outcome;
    assert!(matches!(&unknown, LaunchOutcome::Failed { why } if why.contains("no such VIP")), "{unknown:?}");
}

pub fn a_backup_asks_unasked(lab: &mut Lab) {
    let mut scs = Scs::start(lab);
    let client = hold(lab, "client", vip4(), true);
    let _agent = Agent::start(lab, &scs);
    scs.welcome(with_vips(modeless(), &VipControl::BuiltIn));
    // Each VIP has its turn within ten seconds.
    while sighting(&scs, vip4()).is_none() || sighting(&scs, vip6()).is_none() {
        scs.fact(|fact| matches!(fact, Fact::VipSighted(_)));
    }
    let held = sighting(&scs, vip4()).unwrap();
    assert_eq!(held.holders.iter().map(|holder| holder.mac).collect::<Vec<_>>(), [client]);
    assert_eq!(sighting(&scs, vip6()).unwrap().holders, [], "nobody has it, and that is told");
}
