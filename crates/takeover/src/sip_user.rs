//! `takeover sip-user`: what the cluster file keeps of a SIP user's password.

use anyhow::{Context, bail, ensure};
use clap::Args;
use domain::SipName;
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use sip_proto::digest::{Algorithm, secret};
use std::io::{self, BufRead, IsTerminal, Stdin, Write};
use std::process::ExitCode;

/// Longest password, bytes.
const MAX_PASSWORD: usize = 1_024;

/// Arguments of `takeover sip-user`.
#[derive(Debug, Args)]
#[command(after_help = "\
Asks for the password, twice and without showing it; where standard input is no terminal, its first line is the password.
Prints the lines that the cluster file needs. Whoever has them can register as this user: keep the file to yourself.
Examples:
  takeover sip-user alice example.com
  takeover sip-user 201 example.com < password")]
pub struct Arguments {
    /// The user part of the address
    name: SipName,
    /// The realm: the first of the pair's `domains`
    realm: String,
}

/// Runs it.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { name, realm } = arguments;
    // As `config` reads domains: the realm is part of what is digested.
    let realm = realm.to_ascii_lowercase();
    let password = password()?;
    let of = |algorithm| secret(algorithm, name.as_str(), &realm, &password);
    // A bare key of TOML has fewer characters than a name.
    let is_bare = name.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    let key = if is_bare { name.to_string() } else { format!("\"{name}\"") };
    println!("# in [pairs.NAME.sip.users.{key}]");
    println!("sha256 = \"{}\"", of(Algorithm::Sha256));
    println!("md5 = \"{}\"", of(Algorithm::Md5));
    Ok(ExitCode::SUCCESS)
}

fn password() -> anyhow::Result<String> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return usable(line(&stdin)?);
    }
    let silence = Silence::begin(&stdin).context("the terminal cannot be told not to show the password")?;
    let first = ask("Password: ", &stdin)?;
    let second = ask("Again: ", &stdin)?;
    drop(silence);
    ensure!(first == second, "the two are not the same; nothing was printed");
    usable(first)
}

fn usable(password: String) -> anyhow::Result<String> {
    if password.is_empty() || password.len() > MAX_PASSWORD || password.chars().any(char::is_control) {
        bail!("a password has 1 to {MAX_PASSWORD} bytes and no control characters");
    }
    Ok(password)
}

fn ask(question: &str, stdin: &Stdin) -> anyhow::Result<String> {
    eprint!("{question}");
    io::stderr().flush()?;
    let answer = line(stdin)?;
    eprintln!();
    Ok(answer)
}

fn line(stdin: &Stdin) -> anyhow::Result<String> {
    let mut line = String::new();
    stdin.lock().read_line(&mut line).context("the password cannot be read")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// A terminal that does not show what is typed, until this is dropped.
struct Silence<'a> {
    terminal: &'a Stdin,
    before: Termios,
}

impl<'a> Silence<'a> {
    fn begin(terminal: &'a Stdin) -> nix::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(terminal, SetArg::TCSAFLUSH, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        // Where it fails the terminal is gone.
        let _ = tcsetattr(self.terminal, SetArg::TCSAFLUSH, &self.before);
    }
}
