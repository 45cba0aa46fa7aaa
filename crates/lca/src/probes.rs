//! Asks applications from outside whether they can provide service. Each probe is a task of the worker; none can delay
//! another, nor the real-time thread.

use crate::scripts::{self, Script};
use domain::{LaunchOutcome, Probe, ProbeKind};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{MissedTickBehavior, interval, timeout};

/// How often is asked until the first success, if that is oftener than configured: an application that is ready should
/// count as ready soon.
const AT_FIRST: Duration = Duration::from_millis(200);
/// Longest beginning of an answer that is looked at.
const LONGEST: usize = 4_096;

/// Probes until `told` says that nobody listens any more.
pub async fn run(probe: &Probe, mut told: impl FnMut(Result<(), String>) -> bool) {
    let mut ticks = interval(probe.every.min(AT_FIRST));
    let mut at_first = true;
    loop {
        ticks.tick().await;
        let result = once(probe).await;
        if at_first && result.is_ok() {
            at_first = false;
            ticks = interval(probe.every);
            ticks.tick().await;
        }
        // A probe that took long is not followed by a burst of others.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        if !told(result) {
            return;
        }
    }
}

async fn once(probe: &Probe) -> Result<(), String> {
    let asked = async {
        match &probe.kind {
            ProbeKind::Process => Ok(()),
            ProbeKind::Tcp { target } => {
                TcpStream::connect(target).await.map(drop).map_err(|e| e.to_string())
            }
            ProbeKind::Http { target, path } => http(*target, path).await,
            ProbeKind::SipOptions { target } => sip_options(*target, probe.timeout).await,
            ProbeKind::Command { command } => run_command(command, probe.timeout).await,
        }
    };
    // A command has the same limit and is killed by its own runner, which needs a moment longer.
    let limit = match probe.kind {
        ProbeKind::Command { .. } => probe.timeout + Duration::from_secs(1),
        ProbeKind::Process
        | ProbeKind::Tcp { .. }
        | ProbeKind::Http { .. }
        | ProbeKind::SipOptions { .. } => probe.timeout,
    };
    let late = || Err(format!("no answer within {}", domain::format_duration(probe.timeout)));
    timeout(limit, asked).await.unwrap_or_else(|_| late())
}

/// `GET` with HTTP/1.1 (RFC 9112), of which only the status line is read.
async fn http(target: SocketAddr, path: &str) -> Result<(), String> {
    let text = |e: io::Error| e.to_string();
    let mut stream = TcpStream::connect(target).await.map_err(text)?;
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: takeover\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(text)?;
    let mut answer = Vec::with_capacity(512);
    while !answer.contains(&b'\n') && answer.len() < LONGEST {
        if stream.read_buf(&mut answer).await.map_err(text)? == 0 {
            break;
        }
    }
    match status(&answer, "HTTP/1.") {
        Some(200..=299) => Ok(()),
        Some(code) => Err(format!("the answer is {code}")),
        None => Err("the answer is not HTTP".to_owned()),
    }
}

/// SIP OPTIONS over UDP (RFC 3261, section 11): any final response shows that the server lives, but for 408 and 500 to
/// 504, by which it says that it cannot serve. Asked a second time halfway, since UDP may lose either packet.
async fn sip_options(target: SocketAddr, limit: Duration) -> Result<(), String> {
    let text = |e: io::Error| e.to_string();
    let any: SocketAddr =
        if target.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).await.map_err(text)?;
    socket.connect(target).await.map_err(text)?;
    let local = socket.local_addr().map_err(text)?;
    // Each RandomState has keys of its own: enough to tell this probe's answer from another's.
    let token = format!("{:016x}", RandomState::new().hash_one(local));
    let request = options_request(target, local, &token);
    let mut answer = [0; LONGEST];
    for _ in 0..2 {
        socket.send(request.as_bytes()).await.map_err(text)?;
        let answered = async {
            loop {
                let size = socket.recv(&mut answer).await.map_err(text)?;
                let answer = &answer[..size];
                let ours = answer.windows(token.len()).any(|window| window == token.as_bytes());
                match status(answer, "SIP/2.0") {
                    Some(200..) if !ours => {}
                    Some(code @ (408 | 500..=504)) => return Err(format!("the answer is {code}")),
                    Some(200..) => return Ok(()),
                    Some(_) | None => {}
                }
            }
        };
        if let Ok(result) = timeout(limit / 2, answered).await {
            return result;
        }
    }
    Err(format!("no answer within {}", domain::format_duration(limit)))
}

fn options_request(target: SocketAddr, local: SocketAddr, token: &str) -> String {
    // RFC 3261: the headers that section 8.1.1 demands, the branch with the magic cookie of 8.1.1.7, Accept of 11.1;
    // rport of RFC 3581, section 3.
    format!(
        "OPTIONS sip:{target} SIP/2.0\r\n\
         Via: SIP/2.0/UDP {local};branch=z9hG4bK{token};rport\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:probe@{local}>;tag={token}\r\n\
         To: <sip:{target}>\r\n\
         Call-ID: {token}\r\n\
         CSeq: 1 OPTIONS\r\n\
         Contact: <sip:probe@{local}>\r\n\
         Accept: application/sdp\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

async fn run_command(command: &[String], limit: Duration) -> Result<(), String> {
    let script = Script { command: command.to_vec(), environment: Vec::new(), time_limit: limit };
    let ended = scripts::run(&script).await;
    match ended.outcome {
        LaunchOutcome::Succeeded => Ok(()),
        other => {
            let last = ended.output.lines().last().unwrap_or_default();
            Err(if last.is_empty() {
                format!("the command {other}")
            } else {
                format!("the command {other}: {last}")
            })
        }
    }
}

/// The status code of an answer whose first line begins with `version`.
fn status(answer: &[u8], version: &str) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\r' || *byte == b'\n').next()?;
    let rest = std::str::from_utf8(line).ok()?.strip_prefix(version)?;
    rest.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    fn probe(kind: ProbeKind) -> Probe {
        Probe { kind, every: Duration::from_millis(1), timeout: Duration::from_millis(400), failures: 1 }
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    async fn http_answers(answer: &'static str) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 1_024];
            let size = stream.read(&mut request).await.unwrap();
            assert!(request[..size].starts_with(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1:"));
            stream.write_all(answer.as_bytes()).await.unwrap();
        };
        let probe = probe(ProbeKind::Http { target, path: "/health".to_owned() });
        tokio::join!(once(&probe), server).0
    }

    #[test]
    fn http_wants_2xx() {
        block_on(async {
            assert_eq!(http_answers("HTTP/1.1 204 No Content\r\n\r\n").await, Ok(()));
            assert_eq!(http_answers("HTTP/1.1 503 Later\r\n\r\n").await, Err("the answer is 503".to_owned()));
            assert_eq!(http_answers("hello\r\n").await, Err("the answer is not HTTP".to_owned()));
        });
    }

    async fn sip_answers(first: &'static str) -> Result<(), String> {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let target = server.local_addr().unwrap();
        let answering = async {
            let mut request = vec![0; 2_048];
            let (size, from) = server.recv_from(&mut request).await.unwrap();
            let request = String::from_utf8(request[..size].to_vec()).unwrap();
            let (_, headers) = request.split_once("\r\n").unwrap();
            // A stray answer to somebody else, and a provisional one, do not count.
            for line in
                ["SIP/2.0 200 OK\r\nCall-ID: other\r\n\r\n", &format!("SIP/2.0 100 Trying\r\n{headers}")]
            {
                server.send_to(line.as_bytes(), from).await.unwrap();
            }
            server.send_to(format!("{first}\r\n{headers}").as_bytes(), from).await.unwrap();
        };
        let probe = probe(ProbeKind::SipOptions { target });
        tokio::join!(once(&probe), answering).0
    }

    #[test]
    fn sip_wants_a_final_response() {
        block_on(async {
            assert_eq!(sip_answers("SIP/2.0 200 OK").await, Ok(()));
            assert_eq!(sip_answers("SIP/2.0 404 Not Found").await, Ok(()));
            assert_eq!(
                sip_answers("SIP/2.0 503 Service Unavailable").await,
                Err("the answer is 503".to_owned())
            );
        });
    }

    #[test]
    fn silence_is_a_failure_after_the_time_out() {
        block_on(async {
            let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let target = silent.local_addr().unwrap();
            let result = once(&probe(ProbeKind::SipOptions { target })).await;
            assert_eq!(result, Err("no answer within 400ms".to_owned()));
            let mut asked = 0;
            let mut request = [0; 2_048];
            while silent.try_recv(&mut request).is_ok() {
                asked += 1;
            }
            assert_eq!(asked, 2, "a lost packet must not make a failure");
        });
    }

    #[test]
    fn tcp_and_commands() {
        block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let target = listener.local_addr().unwrap();
            assert_eq!(once(&probe(ProbeKind::Tcp { target })).await, Ok(()));
            drop(listener);
            assert!(once(&probe(ProbeKind::Tcp { target })).await.is_err());
            let command = |text: &str| ["/bin/sh", "-c", text].map(str::to_owned).to_vec();
            assert_eq!(once(&probe(ProbeKind::Command { command: command("true") })).await, Ok(()));
            let failed = once(&probe(ProbeKind::Command { command: command("echo no disk; exit 2") })).await;
            assert_eq!(failed, Err("the command ended with exit code 2: no disk".to_owned()));
        });
    }

    #[test]
    fn it_goes_on_until_nobody_listens() {
        let mut results = Vec::new();
        block_on(run(&probe(ProbeKind::Process), |result| {
            results.push(result);
            results.len() < 3
        }));
        assert_eq!(results, [Ok(()), Ok(()), Ok(())]);
    }
}
