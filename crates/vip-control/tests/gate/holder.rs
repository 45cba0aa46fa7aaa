//! The processes that the tests start, stop and kill: this test's own binary in another role.

use domain::{Epoch, InterfaceName, VipAddress};
use netlab::{Lab, now};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, setresgid, setresuid};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;
use vip_control::gate::{Continued, Gate, support};

/// Under which the roles open gates.
pub const EPOCH: Epoch = Epoch(7);
/// How long a lease of `role-renew` lasts, and how often it renews.
const LEASE: Duration = Duration::from_millis(200);
const RENEWAL: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(59);

/// What a process started by [`start`] does.
pub fn play(role: &str, arguments: &[String]) -> ExitCode {
    match role {
        "role-renew" => renew(arguments),
        "role-open-long" => {
            let (mut gate, vips) = open(arguments);
            for vip in &vips {
                gate.authorise(vip, EPOCH, now() + LONG).expect("a new gate");
            }
        }
        "role-look-without-sys-admin" => {
            drop_sys_admin();
            let gate = Gate::open([]).expect("a gate");
            assert!(matches!(gate.continued(), Continued::Replaced { .. }), "{:?}", gate.continued());
        }
        "role-without-sys-admin" => {
            drop_sys_admin();
            let (mut gate, vips) = open(arguments);
            assert!(matches!(gate.continued(), Continued::Replaced { .. }), "{:?}", gate.continued());
            for vip in &vips {
                gate.authorise(vip, Epoch(1), now()).expect("fences are gone with the gate that had them");
            }
            let support = support();
            assert!(support.is_sufficient() && support.parts.iter().any(|part| part.problem.is_some()));
        }
        "role-nobody" => {
            setresgid(Gid::from_raw(65_534), Gid::from_raw(65_534), Gid::from_raw(65_534)).expect("root may");
            setresuid(Uid::from_raw(65_534), Uid::from_raw(65_534), Uid::from_raw(65_534)).expect("root may");
            crate::assert_refused("this process lacks CAP_BPF and CAP_NET_ADMIN");
        }
        "role-user-namespace" => {
            unshare(CloneFlags::CLONE_NEWUSER).expect("root may");
            crate::assert_refused("this is a user namespace");
        }
        unknown => panic!("unknown role {unknown}"),
    }
    ExitCode::SUCCESS
}

/// Renews for as long as it lives, and writes a line each time.
fn renew(arguments: &[String]) {
    let (mut gate, vips) = open(arguments);
    let mut output = std::io::stdout();
    loop {
        let until = now() + LEASE;
        for vip in &vips {
            gate.authorise(vip, EPOCH, until).expect("nobody fences this one off");
        }
        if writeln!(output, "{until}").and_then(|()| output.flush()).is_err() {
            return; // the test has ended
        }
        std::thread::sleep(RENEWAL); // the pace of a lease
    }
}

fn open(arguments: &[String]) -> (Gate, Vec<VipAddress>) {
    let (interface, vips) = arguments.split_first().expect("an interface and VIPs");
    let interface = InterfaceName::new(interface.as_str()).expect("a name");
    let vips: Vec<VipAddress> = vips.iter().map(|vip| vip.parse().expect("a VIP")).collect();
    let mut gate = Gate::open(vips.iter().map(|vip| (vip, &interface))).expect("a gate");
    assert!(gate.check().is_empty());
    (gate, vips)
}

/// Gives up CAP_SYS_ADMIN (capset(2)).
fn drop_sys_admin() {
    const VERSION_3: u32 = 0x2008_0522;
    const SYS_ADMIN: u32 = 1 << 21;
    let header = [VERSION_3, 0];
    let mut sets = [[0_u32; 3]; 2]; // effective, permitted, inheritable: the lower 32, then the upper
    // SAFETY: header and sets are as the system calls expect them, and stay where they are.
    unsafe {
        assert_eq!(libc::syscall(libc::SYS_capget, header.as_ptr(), sets.as_mut_ptr()), 0);
        let [lower, _] = &mut sets;
        lower.iter_mut().for_each(|set| *set &= !SYS_ADMIN);
        assert_eq!(libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()), 0);
    }
}

/// Starts a role on a host.
pub fn start(lab: &Lab, host: &str, arguments: &[&str]) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command.args(arguments).stdout(Stdio::piped());
    lab.spawn(host, command).expect("the role starts")
}

/// Waits until a role has written so many lines; the last one.
pub fn wait_for_lines(child: &mut Child, count: usize) -> String {
    let output = child.stdout.as_mut().expect("piped");
    // What is read ahead is nobody else's business.
    BufReader::new(output).lines().take(count).map(|line| line.expect("a line")).last().expect("lines")
}

/// Sends a signal.
pub fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).expect("it is there");
}

/// Ends a role, also one that is stopped.
pub fn end(mut child: Child) {
    signal(&child, Signal::SIGKILL);
    child.wait().expect("it has ended");
}
