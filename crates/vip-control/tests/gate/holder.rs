//! The processes that the tests start, stop and kill: this test's own binary in another role.

use domain::{Epoch, InterfaceName, VipAddress};
use netlab::{Lab, now};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, setresgid, setresuid};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Barrier;
use std::time::{Duration, Instant};
use vip_control::gate::{Continued, Gate, support};

/// Under which the roles open gates.
pub const EPOCH: Epoch = Epoch(7);
/// How long a lease of `role-renew` lasts, and how often it renews.
pub const LEASE: Duration = Duration::from_millis(200);
const RENEWAL: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(59);

/// What a process started by [`start`] does.
pub fn play(role: &str, arguments: &[String]) -> ExitCode {
    match role {
        "role-renew" => renew(arguments),
        "role-crowd" => crowd(),
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

/// Renews for as long as it lives, and writes a line each time: until when, microseconds.
fn renew(arguments: &[String]) {
    let (mut gate, vips) = open(arguments);
    let mut output = std::io::stdout();
    loop {
        let until = now() + LEASE;
        for vip in &vips {
            gate.authorise(vip, EPOCH, until).expect("nobody fences this one off");
        }
        if writeln!(output, "{}", until.0).and_then(|()| output.flush()).is_err() {
            return; // the test has ended
        }
        std::thread::sleep(RENEWAL); // the pace of a lease
    }
}

/// A thread on each processor that never waits, and comes before all that is ordinary. Writes a line when all are there.
fn crowd() {
    let processors = std::thread::available_parallelism().map_or(1, |count| count.get());
    let here = Barrier::new(processors + 1);
    std::thread::scope(|scope| {
        for _ in 0..processors {
            scope.spawn(|| {
                here.wait();
                raise_thread(1);
                loop {
                    std::hint::spin_loop();
                }
            });
        }
        raise_thread(2);
        here.wait();
        println!("all are there");
    });
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

/// Puts the calling thread before all that is ordinary (SCHED_FIFO, sched(7)), but not what it starts.
pub fn raise_thread(priority: libc::c_int) {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: the parameters are read during the call only; 0 is the calling thread.
    let done = unsafe {
        libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const parameters)
    };
    assert_eq!(done, 0, "root may: {}", std::io::Error::last_os_error());
}

/// A control group whose processes can be frozen (cgroups(7), version 2).
pub struct Freezer(PathBuf);

impl Freezer {
    /// A new one; none where that is not possible.
    pub fn create() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
        let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let place =
            mounts.find_map(|fields| (fields.get(2) == Some(&"cgroup2")).then(|| fields[1].to_owned()))?;
        let group = Path::new(&place).join(format!("takeover-test-{}", std::process::id()));
        fs::create_dir(&group).ok()?;
        let freezer = Self(group);
        freezer.0.join("cgroup.freeze").exists().then_some(freezer)
    }

    /// Freezes a role; returns when it stands still.
    pub fn freeze(&self, child: &Child) {
        let write = |file: &str, text: &str| fs::write(self.0.join(file), text).expect("root may");
        write("cgroup.freeze", "0"); // of the last one
        write("cgroup.procs", &child.id().to_string());
        write("cgroup.freeze", "1");
        let is_frozen =
            || fs::read_to_string(self.0.join("cgroup.events")).is_ok_and(|e| e.contains("frozen 1"));
        let end = Instant::now() + Duration::from_secs(5);
        while !is_frozen() {
            assert!(Instant::now() < end, "{} does not freeze", child.id());
            std::thread::yield_now();
        }
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
