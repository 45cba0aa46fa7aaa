//! What others do to a gate's interfaces, and what its check makes of it.

use super::lab::{add_bridge, drain, in_lab, index, remove, sip0, wait_for};
use super::vip;
use crate::gate::{Continued, Fault, Gate, GateError, Hole, MOST_VIPS, Refusal, left};
use crate::netlink::{Request, RouteSocket};
use crate::{Monitor, NetEvent};
use domain::{Epoch, InterfaceName, Micros, VipAddress};
use std::io;
use std::os::fd::AsRawFd;

const V4: &str = "192.0.2.10/24";

const HANDLE: u32 = 0xffff_0000;
const CLSACT: u32 = 0xffff_fff1;
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;
const TCA_BPF_OPS_LEN: u16 = 4;
const TCA_BPF_OPS: u16 = 5;

/// A gate; none, and said so, where this process may not have one.
fn open<'a>(vips: impl IntoIterator<Item = (&'a VipAddress, &'a InterfaceName)>) -> Option<Gate> {
    match Gate::open(vips) {
        Err(GateError::NoPermission { remedy, .. }) => {
            println!("skipped: {remedy}");
            None
        }
        other => Some(other.unwrap()),
    }
}

/// What another tool asks for: `tc`.
fn tc(kind: u16, on: &InterfaceName, numbers: [u32; 3], fill: impl FnOnce(&mut Request)) -> io::Result<()> {
    let flags = if [libc::RTM_NEWQDISC, libc::RTM_NEWTFILTER].contains(&kind) {
        libc::NLM_F_CREATE | libc::NLM_F_EXCL | libc::NLM_F_ACK
    } else {
        libc::NLM_F_ACK
    };
    let mut request = Request::new(kind, flags);
    request.push(&[0; 4]);
    request.push(&index(on).to_ne_bytes());
    for number in numbers {
        request.push(&number.to_ne_bytes());
    }
    fill(&mut request);
    RouteSocket::open().unwrap().order(request)
}

/// A filter of another tool, in classic BPF, that lets everything pass.
fn add_filter(on: &InterfaceName, parent: u32, preference: u16, protocol: i32) -> io::Result<()> {
    let info = u32::from(preference) << 16 | u32::from((protocol as u16).to_be());
    tc(libc::RTM_NEWTFILTER, on, [1, parent, info], |request| {
        request.attribute(libc::TCA_KIND, b"bpf\0");
        request.nested(libc::TCA_OPTIONS, |request| {
            request.attribute(TCA_BPF_OPS_LEN, &1_u16.to_ne_bytes());
            request.attribute(TCA_BPF_OPS, &[6, 0, 0, 0, 0, 0, 0, 0]); // ret 0
        });
    })
}

fn flush(on: &InterfaceName) {
    tc(libc::RTM_DELQDISC, on, [HANDLE, CLSACT, 0], |_| ()).unwrap();
}

/// The one hole that there is.
fn only(holes: Vec<Hole>) -> (Fault, Option<GateError>) {
    let [Hole { interface, fault, remains }] = <[Hole; 1]>::try_from(holes).unwrap();
    assert_eq!(interface, sip0());
    (fault, remains)
}

#[test]
fn a_flushed_gate_is_noticed_and_restored() {
    in_lab("gate::a_flushed_gate_is_noticed_and_restored", |_| {
        let Some(mut gate) = open([(&vip(V4), &sip0())]) else { return };
        assert!(matches!(gate.continued(), Continued::New));
        assert!(gate.check().is_empty(), "it stands");
        let mut monitor = Monitor::open().unwrap();
        let heard = |monitor: &mut Monitor| {
            wait_for("the filters' change", &monitor.as_raw_fd(), || {
                drain(monitor).contains(&NetEvent::FiltersChanged { interface: sip0() }).then_some(())
            });
        };
        flush(&sip0());
        heard(&mut monitor);
        assert!(matches!(only(gate.check()), (Fault::Missing, None)));
        assert!(gate.check().is_empty(), "restored");
        // One way only.
        let ours = 1 << 16 | u32::from((libc::ETH_P_ALL as u16).to_be());
        drain(&mut monitor);
        tc(libc::RTM_DELTFILTER, &sip0(), [0, EGRESS, ours], |_| ()).unwrap();
        heard(&mut monitor);
        assert!(matches!(only(gate.check()), (Fault::Missing, None)));
        assert!(gate.check().is_empty(), "restored");
        // By another gate, which goes on with the same slots.
        gate.authorise(&vip(V4), Epoch(3), Micros(1)).unwrap();
        let mut other = open([]).unwrap();
        assert!(matches!(other.continued(), Continued::Whole));
        assert_eq!(other.fence(&vip(V4)), Some(Epoch(3)));
        assert!(matches!(only(gate.check()), (Fault::Exchanged, None)));
        assert!(matches!(only(other.check()), (Fault::Exchanged, None)));
        left().unwrap().remove().unwrap();
        assert!(matches!(only(other.check()), (Fault::Missing, None)));
    });
}

#[test]
fn what_is_left_of_a_gate_is_found_and_taken_down() {
    in_lab("gate::what_is_left_of_a_gate_is_found_and_taken_down", |_| {
        let Some(gate) = open([(&vip(V4), &sip0())]) else { return };
        add_filter(&sip0(), INGRESS, 2, libc::ETH_P_ALL).unwrap();
        drop(gate);
        let found = left().unwrap();
        assert!(found.interfaces().iter().eq([&sip0()]), "{found:?}");
        assert!(found.vips().unwrap().iter().eq([&vip(V4).address]), "{found:?}");
        found.remove().unwrap();
        let nothing = left().unwrap();
        assert!(nothing.interfaces().is_empty(), "{nothing:?}");
        nothing.remove().unwrap();
        // It has left nothing to go on with, and what others have is where it was.
        let mut gate = open([(&vip(V4), &sip0())]).unwrap();
        assert!(matches!(gate.continued(), Continued::New));
        assert!(gate.check().is_empty());
        let taken = add_filter(&sip0(), INGRESS, 2, libc::ETH_P_ALL).unwrap_err();
        assert_eq!(taken.raw_os_error(), Some(libc::EEXIST));
    });
}

#[test]
fn filters_of_others_that_decide_first_are_told() {
    in_lab("gate::filters_of_others_that_decide_first_are_told", |_| {
        let Some(mut gate) = open([(&vip(V4), &sip0())]) else { return };
        add_filter(&sip0(), INGRESS, 2, libc::ETH_P_ALL).unwrap();
        assert!(gate.check().is_empty(), "it comes after the gate");
        add_filter(&sip0(), INGRESS, 1, libc::ETH_P_ALL).unwrap();
        assert!(matches!(only(gate.check()), (Fault::NotFirst { before: 1 }, None)));
        add_filter(&sip0(), EGRESS, 1, libc::ETH_P_ALL).unwrap();
        assert!(matches!(only(gate.check()), (Fault::NotFirst { before: 2 }, None)));
    });
}

#[test]
fn what_leaves_no_room_for_the_gate_is_named() {
    in_lab("gate::what_leaves_no_room_for_the_gate_is_named", |_| {
        tc(libc::RTM_NEWQDISC, &sip0(), [HANDLE, CLSACT, 0], |request| {
            request.attribute(libc::TCA_KIND, b"ingress\0");
        })
        .unwrap();
        let Some(mut gate) = open([(&vip(V4), &sip0())]) else { return };
        let (fault, remains) = only(gate.check());
        assert_eq!(fault, Fault::Missing);
        assert!(matches!(remains, Some(GateError::IngressDiscipline { .. })), "{remains:?}");
        flush(&sip0());
        assert!(matches!(only(gate.check()), (Fault::Missing, None)), "nothing in the way any more");
        assert!(gate.check().is_empty());
        flush(&sip0());
        tc(libc::RTM_NEWQDISC, &sip0(), [HANDLE, CLSACT, 0], |request| {
            request.attribute(libc::TCA_KIND, b"clsact\0");
        })
        .unwrap();
        add_filter(&sip0(), EGRESS, 1, libc::ETH_P_IP).unwrap();
        let (_, remains) = only(gate.check());
        assert!(matches!(remains, Some(GateError::PreferenceTaken { .. })), "{remains:?}");
        let lo = InterfaceName::new("lo").unwrap();
        let refused = gate.manage(&vip("192.0.2.11/24"), &lo).unwrap_err();
        assert!(matches!(refused, GateError::NotEthernet { .. }), "{refused:?}");
        assert!(gate.state(&vip("192.0.2.11/24"), Micros(0)).is_some(), "managed wherever there is a gate");
    });
}

#[test]
fn an_interface_that_comes_or_comes_back_is_guarded() {
    in_lab("gate::an_interface_that_comes_or_comes_back_is_guarded", |_| {
        let bridge = InterfaceName::new("sip9").unwrap();
        let Some(mut gate) = open([(&vip(V4), &bridge)]) else { return };
        let absent = gate.manage(&vip(V4), &bridge).unwrap_err();
        assert!(matches!(absent, GateError::NoInterface { .. }), "{absent:?}");
        for _ in 0..2 {
            assert!(gate.check().is_empty(), "nothing passes where there is no interface");
            add_bridge("sip9");
            let holes = gate.check();
            assert!(
                matches!(&holes[..], [Hole { interface, fault: Fault::Missing, remains: None }] if *interface == bridge),
                "{holes:?}"
            );
            assert!(gate.check().is_empty());
            remove(&bridge);
        }
    });
}

#[test]
fn a_thousand_vips_on_one_interface_do_not_get_in_each_others_way() {
    in_lab("gate::a_thousand_vips_on_one_interface_do_not_get_in_each_others_way", |_| {
        let number = |n: usize| match n % 2 {
            0 => vip(&format!("10.0.{}.{}/16", n / 200, n % 200 + 1)),
            _ => vip(&format!("2001:db8::{n:x}/64")),
        };
        let sip0 = sip0();
        let vips: Vec<VipAddress> = (0..MOST_VIPS).map(number).collect();
        let Some(mut gate) = open(vips.iter().map(|vip| (vip, &sip0))) else { return };
        assert!(gate.check().is_empty());
        let one_more = number(MOST_VIPS);
        assert!(matches!(gate.manage(&one_more, &sip0), Err(GateError::Full { .. })));
        assert_eq!(gate.authorise(&one_more, Epoch(1), Micros(1)), Err(Refusal::NotManaged));
        for (n, vip) in vips.iter().enumerate() {
            gate.authorise(vip, Epoch(n as u64 + 1), Micros(1_000 + n as u64)).unwrap();
        }
        let look = |gate: &Gate| {
            for (n, vip) in vips.iter().enumerate().skip(1) {
                let state = gate.state(vip, Micros(1_000 + n as u64 - 1)).unwrap();
                let now = gate.state(vip, Micros(1_000 + n as u64)).unwrap();
                assert!(state.open && !now.open, "{vip}");
                assert_eq!((state.epoch, state.fence), (Epoch(n as u64 + 1), Epoch(n as u64 + 1)));
            }
        };
        look(&gate);
        assert!(gate.unmanage(&vips[0]).unwrap());
        gate.manage(&one_more, &sip0).unwrap();
        let new = gate.state(&one_more, Micros(0)).unwrap();
        assert_eq!((new.open, new.epoch, new.fence), (false, Epoch(0), Epoch(0)), "nothing is inherited");
        drop(gate);
        let gate = open([]).unwrap();
        assert_eq!(gate.managed().count(), MOST_VIPS);
        look(&gate);
    });
}
