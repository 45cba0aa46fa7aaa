//! Going in, and leaving nothing. The guests here enter namespaces from within a case's own.

use crate::guest::{Output, command};
use netlab::Lab;
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// `nobody` on Debian; in a user namespace that maps only one user, that one.
const ORDINARY_USER: u32 = 65_534;

pub fn the_exit_code_comes_out(_: &mut Lab) {
    assert_eq!(command("exit").status().unwrap().code(), Some(7));
}

pub fn signals_go_in(_: &mut Lab) {
    let mut guardian = command("term").spawn().unwrap();
    let pid = Pid::from_raw(guardian.id().cast_signed());
    let mut output = Output::of(&mut guardian);
    assert_eq!(output.line(), "ready");
    for signal in [Signal::SIGUSR1, Signal::SIGTERM] {
        kill(pid, signal).unwrap();
        assert_eq!(output.line(), signal.as_str());
    }
    assert_eq!(guardian.wait().unwrap().code(), Some(9));
}

pub fn the_terminal_stays_in_use(_: &mut Lab) {
    let (terminal, far) = terminal();
    let mut command = command("term");
    let far_number = far.as_raw_fd();
    // SAFETY: between fork and exec, system calls that touch no memory: a session of its own with this terminal.
    let control = move || match unsafe { (libc::setsid(), libc::ioctl(far_number, libc::TIOCSCTTY, 0)) } {
        (1.., 0) => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    };
    // SAFETY: as said there.
    let mut guardian = unsafe { command.pre_exec(control) }.spawn().unwrap();
    let mut output = Output::of(&mut guardian);
    assert_eq!(output.line(), "ready");
    File::from(terminal).write_all(b"\x03").unwrap();
    assert_eq!(output.line(), "SIGINT");
    // Were it passed on by the guardian as well, a second one would come before this.
    kill(Pid::from_raw(guardian.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(output.line(), "SIGTERM");
    assert_eq!(guardian.wait().unwrap().code(), Some(9));
}

/// The two ends of a pseudo-terminal.
fn terminal() -> (OwnedFd, OwnedFd) {
    let (mut near, mut far) = (-1, -1);
    let (name, settings, size) = (std::ptr::null_mut(), std::ptr::null(), std::ptr::null());
    // SAFETY: both numbers are written before it returns; the rest may be absent.
    assert_eq!(unsafe { libc::openpty(&raw mut near, &raw mut far, name, settings, size) }, 0);
    // SAFETY: just opened, and nobody else's.
    unsafe { (OwnedFd::from_raw_fd(near), OwnedFd::from_raw_fd(far)) }
}

pub fn open_descriptors_stay_open(_: &mut Lab) {
    let mut guardian = command("listen").spawn().unwrap();
    let address = Output::of(&mut guardian).line();
    let mut answer = String::new();
    TcpStream::connect(&address).unwrap().read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "from inside");
    assert!(guardian.wait().unwrap().success());
}

pub fn nothing_outlives_a_killed_guardian(_: &mut Lab) {
    for run_as in [None, ordinary_user()] {
        let mut command = command("linger");
        if let Some(user) = run_as {
            command.uid(user).gid(user);
        }
        let mut guardian = command.spawn().unwrap();
        let mut output = Output::of(&mut guardian);
        assert_eq!(output.line(), "ready");
        guardian.kill().unwrap();
        // Everybody inside has the pipe: its end is theirs.
        assert_eq!(output.end(), "");
        guardian.wait().unwrap();
    }
}

pub fn mounts_stay_inside(_: &mut Lab) {
    // As systemd has it: what is mounted in a copy of the namespace shows up here, unless that copy is made private.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SHARED, None::<&str>).unwrap();
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = mounts();
    let mut guardian = command("linger").spawn().unwrap();
    let mut output = Output::of(&mut guardian);
    assert_eq!(output.line(), "ready");
    assert_eq!(mounts(), before);
    guardian.kill().unwrap();
    output.end();
    guardian.wait().unwrap();
    assert_eq!(mounts(), before);
}

pub fn an_ordinary_user_can_enter_and_build_a_lab(lab: &mut Lab) {
    // Where the case is in a user namespace already, an ordinary user has entered it: itself.
    let Some(user) = ordinary_user() else { return super::lab::build(lab, &["a", "b"]) };
    // Not where we are: root's home, in which the repository may lie, is closed to others.
    builds_a_lab(command("lab 2").uid(user).gid(user).current_dir("/"));
}

/// In many containers root is that.
pub fn root_without_cap_sys_admin_can_enter(_: &mut Lab) {
    builds_a_lab(without_cap_sys_admin(&mut command("lab 1")));
}

fn builds_a_lab(command: &mut Command) {
    let mut guardian = command.spawn().unwrap();
    let map = Output::of(&mut guardian).end();
    assert!(guardian.wait().unwrap().success(), "{map}");
    assert!(
        map.trim_end().ends_with(" 1") && map.starts_with("0 "),
        "in a user namespace, as root there: {map}"
    );
}

pub fn a_machine_that_forbids_it_is_told_how_to_allow_it(_: &mut Lab) {
    let mut guardian = without_cap_sys_admin(&mut command("forbidden")).spawn().unwrap();
    let text = Output::of(&mut guardian).end();
    assert_eq!(guardian.wait().unwrap().code(), Some(3), "{text}");
    assert!(text.contains("sysctl -w user.max_user_namespaces") && text.contains("run as root"), "{text}");
}

pub fn threads_are_refused(_: &mut Lab) {
    assert_eq!(command("threads").status().unwrap().code(), Some(4));
}

pub fn the_harness_reports_panics_and_kills_what_hangs(_: &mut Lab) {
    let run = |arguments: &[&str]| {
        let output = command("harness").args(arguments).stderr(Stdio::null()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = run(&[]);
    assert_eq!(code, Some(101), "{text}");
    for expected in [
        "running 3 tests\ntest passes ... ok",
        "test panics ... FAILED",
        "as told",
        "it panicked",
        "test hangs ... FAILED",
        "killed after 300ms",
        "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out",
    ] {
        assert!(text.contains(expected), "{expected:?} is missing in\n{text}");
    }
    let (code, text) = run(&["--exact", "passes"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 2 filtered out"),
        "{text}"
    );
    assert_eq!(run(&["--list", "an"]), (Some(0), "panics: test\nhangs: test\n".to_owned()));
    assert_eq!(run(&["--nonsense"]).0, Some(2));
}

/// Somebody else than root to run as, where there is anybody: in a user namespace of an ordinary user there is only root.
fn ordinary_user() -> Option<u32> {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    (!map.trim_end().ends_with(" 1")).then_some(ORDINARY_USER)
}

/// Has `command` run as root that may not make namespaces, except in a user namespace.
fn without_cap_sys_admin(command: &mut Command) -> &mut Command {
    const CAP_SYS_ADMIN: i32 = 21;
    // SAFETY: a system call that touches no memory.
    let drop = || match unsafe { libc::prctl(libc::PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    };
    // SAFETY: between fork and exec, `drop` makes a system call only.
    unsafe { command.pre_exec(drop) }
}
