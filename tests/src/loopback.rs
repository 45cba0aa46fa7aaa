//! A real SCS on loopback with a web port, without agents, for stories about who gets in and what is told.

use crate::binary;
use anyhow::{Context, ensure};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// An SCS with a web port, in a directory of its own. Killed when dropped.
pub struct Scs {
    /// Where its files are.
    pub directory: tempfile::TempDir,
    process: Child,
    /// `https://127.0.0.1:PORT`
    pub address: String,
}

impl Drop for Scs {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Scs {
    /// `settings` has more of the cluster file's `[scs]`, for the directory with its files.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start(settings: impl FnOnce(&Path) -> String) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let at = directory.path();
        run(takeover(at)?.args(["ca", "init", "--name", "test"]))?;
        run(takeover(at)?.args(["ca", "issue", "scs", "--role", "scs", "--address", "127.0.0.1"]))?;
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/examples/minimal.toml");
        // Both at once, so that they differ; free again before the SCS takes them.
        let free = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
        let [agents, web] = [free[0].local_addr()?, free[1].local_addr()?];
        drop(free);
        let ports = format!("[scs]\nlisten = [\"{agents}\"]\n[scs.web]\nlisten = \"{web}\"\n\n");
        let ports = ports + &settings(at);
        fs::write(at.join("cluster.toml"), format!("{ports}{}", fs::read_to_string(example)?))?;
        let mut scs = takeover(at)?;
        scs.args(["scs", "--cluster", "cluster.toml", "--certificate", "scs.pem", "--key", "scs.key"]);
        scs.args(["--ca", "ca.pem", "--state-directory", "store", "--api-socket", "scs.sock"]);
        let mut process = scs.stdout(Stdio::piped()).spawn()?;
        let said = BufReader::new(process.stdout.take().context("no standard output")?);
        let link = said.lines().map_while(Result::ok).find_map(|line| {
            let (address, _) = line.trim().split_once("/#/password/")?;
            Some(address.to_owned())
        });
        let address = link.context("the SCS prints no link for the first administrator")?;
        Ok(Self { directory, process, address })
    }

    /// A command of the operator, with a token of this role in a file.
    ///
    /// # Errors
    /// It is not made.
    pub fn token(&self, role: &str) -> anyhow::Result<PathBuf> {
        let at = self.directory.path();
        let mut make = takeover(at)?;
        make.args(["tokens", "add", role, "--role", role, "--days", "1", "--scs", "unix:scs.sock"]);
        let token = run(&mut make)?;
        let file = at.join(role);
        fs::write(&file, token)?;
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        Ok(file)
    }

    /// The command line with such a file, at the web port.
    ///
    /// # Errors
    /// There is no binary.
    pub fn by_token(&self, file: &Path) -> anyhow::Result<Command> {
        let mut command = takeover(self.directory.path())?;
        command
            .env("TAKEOVER_SCS", &self.address)
            .env("TAKEOVER_CA", "ca.pem")
            .env("TAKEOVER_TOKEN_FILE", file);
        Ok(command)
    }
}

/// The binary under test in that directory.
///
/// # Errors
/// There is none.
pub fn takeover(directory: &Path) -> anyhow::Result<Command> {
    let mut command = Command::new(binary()?);
    command.current_dir(directory).stdin(Stdio::null());
    Ok(command)
}

/// What it prints; an error with all it says where it fails.
///
/// # Errors
/// It fails.
pub fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    ensure!(output.status.success(), "{command:?} ends with {}:\n{out}\n{err}", output.status);
    Ok(out)
}

/// A tool that `cargo xtask test` sees to.
///
/// # Errors
/// It is not there.
pub fn tool(variable: &str, program: &str) -> anyhow::Result<PathBuf> {
    let found = std::env::var_os(variable).map(PathBuf::from).or_else(|| {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|directory| directory.join(program)).find(|program| program.exists())
    });
    found.with_context(|| format!("{program} is missing: run `cargo xtask test`, or name it in {variable}"))
}
