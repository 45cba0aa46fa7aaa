//! Fetches a page that an application shows by HTTP, for the SCS. A task of the worker, bounded in time and size.

use control_link::messages::MAX_PAGE;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long it may take in all: less than whoever asked waits.
const LIMIT: Duration = Duration::from_secs(5);
/// Largest head of an answer, bytes.
const MAX_HEAD: usize = 16 * 1024;
/// Longest complaint of the application that is passed on, characters.
const MAX_COMPLAINT: usize = 300;

/// `GET` with HTTP/1.0 (RFC 1945), whose answer ends with the connection.
///
/// # Errors
/// A sentence.
pub async fn fetch(target: SocketAddr, path: &str) -> Result<String, String> {
    let late = || Err(format!("no answer within {}", domain::format_duration(LIMIT)));
    timeout(LIMIT, ask(target, path)).await.unwrap_or_else(|_| late())
}

async fn ask(target: SocketAddr, path: &str) -> Result<String, String> {
    let failed = |e: io::Error| format!("the application's pages at {target} cannot be reached: {e}");
    let mut stream = TcpStream::connect(target).await.map_err(failed)?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {target}\r\nUser-Agent: takeover\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut answer = Vec::with_capacity(4_096);
    stream.take((MAX_HEAD + MAX_PAGE + 1) as u64).read_to_end(&mut answer).await.map_err(failed)?;
    let blank = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let blank = blank.filter(|at| *at < MAX_HEAD).ok_or("the answer is not HTTP")?;
    let body = String::from_utf8_lossy(&answer[blank + 4..]);
    if body.len() > MAX_PAGE {
        return Err(format!("the page is larger than {MAX_PAGE} bytes; ask for less"));
    }
    let head = String::from_utf8_lossy(&answer[..blank]);
    let code = head.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1));
    match code.and_then(|code| code.parse::<u16>().ok()) {
        Some(200) => Ok(body.into_owned()),
        Some(code) => {
            let complaint: String =
                body.lines().next().unwrap_or_default().chars().take(MAX_COMPLAINT).collect();
            Err(if complaint.is_empty() { format!("the answer is {code}") } else { complaint })
        }
        None => Err("the answer is not HTTP".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    async fn answered(answer: &[u8]) -> Result<String, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 1_024];
            let size = stream.read(&mut request).await.unwrap();
            assert!(request[..size].starts_with(b"GET /calls HTTP/1.0\r\n"));
            // The other end may have seen enough.
            let _ = stream.write_all(answer).await;
        };
        tokio::join!(fetch(target, "/calls"), server).0
    }

    #[test]
    fn a_page_is_passed_on_and_a_complaint_is() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n[1]\n";
            assert_eq!(answered(ok).await, Ok("[1]\n".to_owned()));
            let no = b"HTTP/1.1 404 Not Found\r\n\r\nthere is no such call\nat all";
            assert_eq!(answered(no).await, Err("there is no such call".to_owned()));
            assert_eq!(answered(b"HTTP/1.1 503 Later\r\n\r\n").await, Err("the answer is 503".to_owned()));
            for bad in [b"".as_slice(), b"hello", b"SIP/2.0 200 OK\r\n\r\n"] {
                assert_eq!(answered(bad).await, Err("the answer is not HTTP".to_owned()));
            }
            let large = [b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &vec![b'x'; MAX_PAGE + 1]].concat();
            assert!(answered(&large).await.unwrap_err().contains("larger"));
        });
    }
}
