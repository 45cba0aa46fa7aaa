//! The programs that cases run: this test binary, told by `NETLAB_GUEST` which of them to be.

use netlab::{EnterError, Lab, Nic, Place, enter, harness};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::time::Duration;

const VARIABLE: &str = "NETLAB_GUEST";

/// A command that runs this binary as the guest of this name.
pub fn command(guest: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.env(VARIABLE, guest).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// The output of a guest, read with a bound on the waiting.
pub struct Output(BufReader<ChildStdout>);

impl Output {
    pub fn of(child: &mut Child) -> Self {
        Self(BufReader::new(child.stdout.take().unwrap()))
    }

    fn wait(&self) {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let mut ready = [PollFd::new(self.0.get_ref().as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut ready, PollTimeout::from(20_000_u16)), Ok(1), "nothing heard from the guest");
    }

    /// The next line; empty at the end.
    pub fn line(&mut self) -> String {
        if self.0.buffer().is_empty() {
            self.wait();
        }
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Waits until nobody has the other end any more.
    pub fn end(mut self) -> String {
        let mut rest = String::new();
        let mut bytes = self.0.buffer().to_vec();
        let mut chunk = [0; 4_096];
        loop {
            self.wait();
            let length = self.0.get_mut().read(&mut chunk).unwrap();
            if length == 0 {
                rest.push_str(&String::from_utf8_lossy(&bytes));
                return rest;
            }
            bytes.extend_from_slice(&chunk[..length]);
        }
    }
}

pub fn run_if_told() -> Option<ExitCode> {
    let guest = std::env::var(VARIABLE).ok()?;
    let (name, argument) = guest.split_once(' ').unwrap_or((&guest, ""));
    Some(match name {
        "exit" => inside(|| 7),
        "term" => inside(wait_for_term),
        "listen" => listen(),
        "linger" => inside(linger),
        "lab" => inside(|| small_lab(argument)),
        "forbidden" => inside(forbidden),
        "threads" => threads(),
        "harness" => harness::run(&[
            harness::Case::new("passes", |_| ()),
            harness::Case::new("panics", |_| panic!("as told")),
            harness::Case::new("hangs", |_| hang()).limit(Duration::from_millis(300)),
        ]),
        "responder" => respond(argument),
        _ => panic!("no guest {name}"),
    })
}

fn inside(work: impl FnOnce() -> u8) -> ExitCode {
    match enter() {
        Ok(Place::Inside) => ExitCode::from(work()),
        Ok(Place::Outside(code)) => ExitCode::from(code),
        Err(error) => {
            println!("{error}");
            ExitCode::from(99)
        }
    }
}

fn say(line: &str) {
    println!("{line}");
    std::io::stdout().flush().unwrap();
}

fn hang() {
    loop {
        std::thread::park();
    }
}

/// Says which signals come, to the first SIGTERM.
fn wait_for_term() -> u8 {
    use nix::sys::signal::{SigSet, Signal};
    let awaited: SigSet = [Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGINT].into_iter().collect();
    awaited.thread_block().unwrap();
    say("ready");
    loop {
        let signal = awaited.wait().unwrap();
        say(signal.as_str());
        if signal == Signal::SIGTERM {
            return 9;
        }
    }
}

/// Listens outside, answers one connection inside.
fn listen() -> ExitCode {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    inside(move || {
        say(&address.to_string());
        let (mut connection, _) = listener.accept().unwrap();
        connection.write_all(b"from inside").unwrap();
        0
    })
}

/// Leaves a grandchild in a session of its own that ignores what can be ignored.
fn linger() -> u8 {
    let mut stubborn = Command::new("sh");
    stubborn.args(["-c", "trap '' HUP INT TERM; setsid sleep 1000 & sleep 1000"]);
    let mut child = stubborn.stdin(Stdio::null()).spawn().unwrap();
    say("ready");
    child.wait().unwrap();
    0
}

/// Two hosts that hear each other.
fn small_lab(count: &str) -> u8 {
    for _ in 0..count.parse().unwrap_or(1) {
        let mut lab = Lab::new().unwrap();
        for (host, address) in [("a", "192.0.2.1/24"), ("b", "192.0.2.2/24")] {
            lab.host(host, &[Nic { segment: "lan", name: "eth0", addresses: &[address] }]).unwrap();
        }
        let bind =
            |host, address: &str| lab.in_host(host, || UdpSocket::bind((address, 9)).unwrap()).unwrap();
        let (a, b) = (bind("a", "192.0.2.1"), bind("b", "192.0.2.2"));
        b.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        a.send_to(b"hello", "192.0.2.2:9").unwrap();
        assert_eq!(b.recv(&mut [0; 8]).unwrap(), 5);
        lab.one_way("a", netlab::Direction::FromHost, true).unwrap();
    }
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    say(&map.split_whitespace().collect::<Vec<_>>().join(" "));
    0
}

/// Makes a user namespace in which none may be made, gives up all rights, and tries.
fn forbidden() -> u8 {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    assert!(map.trim_end().ends_with(" 1"), "the setting must not be the machine's");
    std::fs::write("/proc/sys/user/max_user_namespaces", "0").unwrap();
    let header = [0x2008_0522_u32, 0]; // _LINUX_CAPABILITY_VERSION_3, this thread
    let nothing = [0_u32; 6];
    // SAFETY: both have the layout that capset(2) wants for this version.
    assert_eq!(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), nothing.as_ptr()) }, 0);
    match enter() {
        Err(error @ EnterError::Forbidden { .. }) => {
            say(&error.to_string());
            3
        }
        other => panic!("{other:?}"),
    }
}

fn threads() -> ExitCode {
    std::thread::spawn(hang);
    match enter() {
        Err(EnterError::Threads(2)) => ExitCode::from(4),
        other => panic!("{other:?}"),
    }
}

/// A SIP server of a few lines that answers by a plan: `ADDRESS FROM-TO:TAG,...`, where FROM-TO are CSeq numbers, and a tag
/// `503` refuses. Ends when told by a datagram "end".
fn respond(plan: &str) -> ExitCode {
    let (address, plan) = plan.split_once(' ').unwrap();
    let plan: Vec<(u32, u32, &str)> = plan
        .split(',')
        .map(|part| {
            let (numbers, tag) = part.split_once(':').unwrap();
            let (from, to) = numbers.split_once('-').unwrap();
            (from.parse().unwrap(), to.parse().unwrap(), tag)
        })
        .collect();
    let socket = UdpSocket::bind(address.parse::<SocketAddr>().unwrap()).unwrap();
    say("ready");
    let mut buffer = [0; 2_048];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).unwrap();
        let request = std::str::from_utf8(&buffer[..length]).unwrap();
        let header = |name: &str| request.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(request.starts_with("OPTIONS sip:"), "{request}");
        let number: u32 = header("CSeq: ").split(' ').nth(1).unwrap().parse().unwrap();
        for (_, _, tag) in plan.iter().filter(|(from, to, _)| (*from..=*to).contains(&number)) {
            let status = if *tag == "503" { "503 Service Unavailable" } else { "200 OK" };
            let copied = ["Via: ", "From: ", "To: ", "Call-ID: ", "CSeq: "].map(header).join("\r\n");
            let server = format!("Server: Takeover/0.1.0 ({tag})");
            let answer = format!("SIP/2.0 {status}\r\n{copied}\r\n{server}\r\nContent-Length: 0\r\n\r\n");
            socket.send_to(answer.as_bytes(), from).unwrap();
        }
    }
}
