//! Runs commands that end: users' scripts, mode commands, command probes. Each in a process group of its own, with a
//! clean environment, a time limit for it and its children, and an output that is kept in part.

use domain::{LAUNCH_OUTPUT_LIMIT, LaunchOutcome};
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout_at};

/// How long the rest of the output is waited for when the script has ended but a child of it keeps the pipe open.
const OUTPUT_GRACE: Duration = Duration::from_millis(50);

/// A command to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Program and arguments.
    pub command: Vec<String>,
    /// All of its environment but `PATH`.
    pub environment: Vec<(&'static str, String)>,
    /// How long it may run.
    pub time_limit: Duration,
}

/// How it ended and what it printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// How it ended.
    pub outcome: LaunchOutcome,
    /// Standard output and standard error together: the beginning and the end.
    pub output: String,
}

/// Runs a command to its end, or kills it and its children when its time is up.
pub async fn run(script: &Script) -> Ended {
    let deadline = Instant::now() + script.time_limit;
    let mut output = Output::default();
    let outcome = match start(script) {
        Err(e) => LaunchOutcome::Failed { why: e.to_string() },
        Ok((mut child, mut pipe)) => {
            match timeout_at(deadline, finish(&mut child, &mut pipe, &mut output)).await {
                Ok(Ok(status)) => outcome_of(status),
                Ok(Err(e)) => {
                    kill(&mut child).await;
                    LaunchOutcome::Failed { why: e.to_string() }
                }
                Err(_) => {
                    kill(&mut child).await;
                    drain(&mut pipe, &mut output).await;
                    LaunchOutcome::TimedOut
                }
            }
        }
    };
    Ended { outcome, output: output.text() }
}

fn start(script: &Script) -> io::Result<(Child, pipe::Receiver)> {
    let (program, arguments) =
        script.command.split_first().ok_or_else(|| io::Error::other("no command is configured"))?;
    let (reader, writer) = io::pipe()?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", crate::spawn::PATH)
        .envs(script.environment.iter().map(|(name, value)| (name, value)))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0);
    let child = command.spawn().map_err(|e| io::Error::new(e.kind(), format!("{program}: {e}")))?;
    // `command` holds the write ends; dropped here, so that the pipe ends with the script.
    drop(command);
    Ok((child, pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?))
}

/// Waits for the end, reading all the while: a script that prints much must not wait for us.
async fn finish(child: &mut Child, pipe: &mut pipe::Receiver, output: &mut Output) -> io::Result<ExitStatus> {
    let mut buffer = [0; 4_096];
    loop {
        tokio::select! {
            status = child.wait() => {
                let status = status?;
                drain(pipe, output).await;
                return Ok(status);
            }
            read = pipe.read(&mut buffer) => match read? {
                0 => return child.wait().await,
                read => output.push(&buffer[..read]),
            },
        }
    }
}

/// Reads what is left in the pipe. Bounded: a child left in the background may print for ever.
async fn drain(pipe: &mut pipe::Receiver, output: &mut Output) {
    let deadline = Instant::now() + OUTPUT_GRACE;
    let mut buffer = [0; 4_096];
    while let Ok(Ok(read @ 1..)) = timeout_at(deadline, pipe.read(&mut buffer)).await {
        output.push(&buffer[..read]);
    }
}

/// Kills the whole group. The child is waited for afterwards, so the group's id is still its own.
async fn kill(child: &mut Child) {
    if let Some(group) = child.id().and_then(|id| libc::pid_t::try_from(id).ok()) {
        // SAFETY: a system call without pointers.
        unsafe { libc::killpg(group, libc::SIGKILL) };
    }
    let _ = child.wait().await;
}

fn outcome_of(status: ExitStatus) -> LaunchOutcome {
    match (status.code(), status.signal()) {
        (Some(0), _) => LaunchOutcome::Succeeded,
        (Some(code), _) => LaunchOutcome::Exited { code },
        (None, Some(signal)) => LaunchOutcome::Killed { signal },
        (None, None) => LaunchOutcome::Failed { why: status.to_string() },
    }
}

/// The beginning and the end of an output of any length.
#[derive(Debug, Default)]
struct Output {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    left_out: usize,
}

/// Room for the sentence about what was left out, and for bytes that become longer as text.
const HALF: usize = LAUNCH_OUTPUT_LIMIT / 2 - 128;

impl Output {
    fn push(&mut self, bytes: &[u8]) {
        let (first, rest) = bytes.split_at(bytes.len().min(HALF - self.head.len()));
        self.head.extend_from_slice(first);
        self.tail.extend(rest);
        let over = self.tail.len().saturating_sub(HALF);
        self.tail.drain(..over);
        self.left_out += over;
    }

    fn text(mut self) -> String {
        let mut text = String::from_utf8_lossy(&self.head).into_owned();
        if self.left_out > 0 {
            text += &format!("\n[... {} bytes left out ...]\n", self.left_out);
        }
        text += &String::from_utf8_lossy(self.tail.make_contiguous());
        // What is not UTF-8 has become three bytes for one.
        text.truncate(text.floor_char_boundary(LAUNCH_OUTPUT_LIMIT));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(text: &str, limit_ms: u64) -> Ended {
        let command = ["/bin/sh", "-c", text].map(str::to_owned).to_vec();
        let environment = vec![("TAKEOVER_VERB", "enable".to_owned())];
        let script = Script { command, environment, time_limit: Duration::from_millis(limit_ms) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(&script))
    }

    #[test]
    fn exit_code_output_and_environment() {
        let ended = sh("echo out; echo err >&2; echo $TAKEOVER_VERB; env | wc -l; exit 3", 10_000);
        assert_eq!(ended.outcome, LaunchOutcome::Exited { code: 3 });
        // PATH, TAKEOVER_VERB and what the shell itself adds (PWD, perhaps OLDPWD, SHLVL, _).
        let lines: Vec<_> = ended.output.lines().collect();
        assert_eq!(lines[..3], ["out", "err", "enable"]);
        assert!(lines[3].trim().parse::<u32>().unwrap() <= 6, "{lines:?}");
        assert_eq!(sh("kill -9 $$", 10_000).outcome, LaunchOutcome::Killed { signal: 9 });
        assert_eq!(sh("true", 10_000).outcome, LaunchOutcome::Succeeded);
    }

    #[test]
    fn a_time_out_kills_the_children_too() {
        let ended = sh("sleep 1000 & echo $!; sleep 1000", 300);
        assert_eq!(ended.outcome, LaunchOutcome::TimedOut);
        let child: u32 = ended.output.trim().parse().unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        // Killed, and reaped by init or by whoever adopts orphans here; a zombie is dead as well.
        let dead = || {
            std::fs::read_to_string(format!("/proc/{child}/stat"))
                .map_or(true, |stat| stat.rsplit_once(')').unwrap().1.trim_start().starts_with('Z'))
        };
        while !dead() {
            assert!(std::time::Instant::now() < deadline, "the child of a script outlived its time-out");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_megabyte_of_output_is_kept_in_part() {
        let ended = sh("echo begin; yes | head -c 1000000; echo end", 10_000);
        assert_eq!(ended.outcome, LaunchOutcome::Succeeded);
        assert!(ended.output.len() <= LAUNCH_OUTPUT_LIMIT);
        assert!(ended.output.starts_with("begin\n") && ended.output.ends_with("end\n"));
        assert!(ended.output.contains("bytes left out"));
    }

    #[test]
    fn a_child_in_the_background_does_not_keep_the_result_back() {
        let begun = std::time::Instant::now();
        let ended = sh("sleep 20 & echo done", 15_000);
        assert_eq!((ended.outcome, ended.output.as_str()), (LaunchOutcome::Succeeded, "done\n"));
        assert!(begun.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn what_cannot_be_run_fails_with_a_reason() {
        let script = Script {
            command: vec!["/no/such".to_owned()],
            environment: vec![],
            time_limit: Duration::from_secs(1),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let ended = runtime.block_on(run(&script));
        assert!(matches!(ended.outcome, LaunchOutcome::Failed { why } if why.contains("/no/such")));
    }

    #[test]
    fn output_that_is_no_text_stays_within_the_limit() {
        let mut output = Output::default();
        output.push(&[0xff; 100_000]);
        assert!(output.text().len() <= LAUNCH_OUTPUT_LIMIT);
    }
}
