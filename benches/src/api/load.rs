//! The load: a process on the client's host that asks the same question at a fixed rate, over a few connections that it keeps,
//! whether or not the answers keep up. A request counts from when it was due, so that an API that stands still for a while is
//! not flattered by questions that were not asked meanwhile.

use crate::sample::{Summary, us};
use anyhow::{Context, ensure};
use control_link::web;
use netlab::Lab;
use rehearsal::CLIENT;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Connections that the requests take turns on.
const CONNECTIONS: u32 = 8;
/// How long an answer may take before it counts as none.
const PATIENCE: Duration = Duration::from_secs(5);
/// What the process says when all its connections are there.
const READY: &str = "ready";

/// Arguments of the process.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    address: SocketAddr,
    ca: PathBuf,
    token: PathBuf,
    question: String,
    per_second: u32,
}

/// What became of the requests.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Answers {
    latency_us: Vec<u64>,
    lateness_us: Vec<u64>,
    failures: u64,
}

impl Answers {
    /// Those of another load with them.
    pub fn add(&mut self, other: Self) {
        self.latency_us.extend(other.latency_us);
        self.lateness_us.extend(other.lateness_us);
        self.failures += other.failures;
    }

    /// From when requests were due to the last bytes of their answers, µs.
    #[must_use]
    pub fn latency(&self) -> Option<Summary> {
        Summary::of(self.latency_us.iter().copied())
    }

    /// How late they were sent, µs.
    #[must_use]
    pub fn lateness(&self) -> Option<Summary> {
        Summary::of(self.lateness_us.iter().copied())
    }

    /// Requests without an answer, or with another than 200.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures
    }
}

/// The process at work.
pub struct Load {
    child: Child,
    stop: Option<ChildStdin>,
    said: BufReader<std::process::ChildStdout>,
}

impl Load {
    /// Starts it; returns when its connections are there.
    ///
    /// # Errors
    /// They are not.
    pub fn start(
        lab: &Lab,
        address: &str,
        ca: &Path,
        token: &Path,
        question: &str,
        per_second: u32,
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["api-load", address]).arg(ca).arg(token).args([question, &per_second.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = lab.spawn(CLIENT, command)?;
        let stop = child.stdin.take();
        let mut said = BufReader::new(child.stdout.take().context("the load has no output")?);
        let mut line = String::new();
        said.read_line(&mut line)?;
        ensure!(line.trim_end() == READY, "the load did not start");
        Ok(Self { child, stop, said })
    }

    /// Ends it.
    ///
    /// # Errors
    /// It had ended before.
    pub fn end(mut self) -> anyhow::Result<Answers> {
        drop(self.stop.take());
        let mut text = String::new();
        self.said.read_to_string(&mut text)?;
        Ok(serde_json::from_str(&text)?)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended, as it should
        let _ = self.child.wait();
    }
}

/// The process itself: asks until its standard input ends, then prints what became of it.
///
/// # Errors
/// The web port is not there, or does not want it.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let token = std::fs::read_to_string(&arguments.token)?;
    let request = format!(
        "GET {} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\naccept: application/json\r\n\r\n",
        arguments.question,
        arguments.address,
        token.trim()
    );
    let tls = web::client(&arguments.ca)?;
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let stream = TcpStream::connect(arguments.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let name = ServerName::IpAddress(arguments.address.ip().into());
        let mut stream = StreamOwned::new(ClientConnection::new(Arc::clone(&tls), name)?, stream);
        ask(&mut stream, &request).context("the first question")?;
        connections.push(stream);
    }
    println!("{READY}");
    let stop = AtomicBool::new(false);
    let begun = Instant::now();
    let every = Duration::from_secs(1) * CONNECTIONS / arguments.per_second;
    let answers = std::thread::scope(|scope| {
        let asking: Vec<_> = connections
            .iter_mut()
            .zip(0..)
            .map(|(stream, n)| {
                let first = begun + every * n / CONNECTIONS;
                let (request, stop) = (&request, &stop);
                scope.spawn(move || ask_again_and_again(stream, request, first, every, stop))
            })
            .collect();
        // Nothing is ever written to it; it ends.
        let _ = std::io::stdin().read(&mut [0]);
        stop.store(true, Ordering::Relaxed);
        let mut all = Answers::default();
        asking.into_iter().filter_map(|one| one.join().ok()).for_each(|one| all.add(one));
        all
    });
    println!("{}", serde_json::to_string(&answers)?);
    Ok(())
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

fn ask_again_and_again(
    stream: &mut Stream,
    request: &str,
    first: Instant,
    every: Duration,
    stop: &AtomicBool,
) -> Answers {
    let mut answers = Answers::default();
    let mut due = first;
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        answers.lateness_us.push(us(due.elapsed()));
        if ask(stream, request).is_err() {
            // The connection is of no use any more.
            answers.failures += 1;
            return answers;
        }
        answers.latency_us.push(us(due.elapsed()));
        due += every;
    }
    answers
}

/// One question and its whole answer, which has to be 200 and say how long it is.
fn ask(stream: &mut Stream, request: &str) -> anyhow::Result<()> {
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let mut answer = Vec::with_capacity(64 << 10);
    let mut part = [0; 16 << 10];
    loop {
        let length = stream.read(&mut part)?;
        ensure!(length > 0, "the connection ended");
        answer.extend_from_slice(&part[..length]);
        let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(&answer[..end])?.to_ascii_lowercase();
        ensure!(head.starts_with("http/1.1 200"), "{head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.context("an answer without a length")?.trim().parse()?;
        if answer.len() >= end + 4 + length {
            return Ok(());
        }
    }
}
