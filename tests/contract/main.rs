//! What others build on: the API keeps to its own OpenAPI document (Schemathesis tries it out), the figures and the alert rules
//! are as Prometheus wants them (promtool). A real SCS on loopback, without agents, and the command line with a token.

use anyhow::{Context, bail, ensure};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// An SCS with a web port, in a directory of its own. Killed when dropped.
struct Scs {
    directory: tempfile::TempDir,
    process: Child,
    /// `https://127.0.0.1:PORT`
    address: String,
}

impl Drop for Scs {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Scs {
    fn start() -> anyhow::Result<Self> {
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
    fn token(&self, role: &str) -> anyhow::Result<PathBuf> {
        let at = self.directory.path();
        let mut make = takeover(at)?;
        make.args(["tokens", "add", role, "--role", role, "--days", "1", "--scs", "unix:scs.sock"]);
        let token = run(&mut make)?;
        let file = at.join(role);
        fs::write(&file, token)?;
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        Ok(file)
    }

    fn by_token(&self, file: &Path) -> anyhow::Result<Command> {
        let mut command = takeover(self.directory.path())?;
        command
            .env("TAKEOVER_SCS", &self.address)
            .env("TAKEOVER_CA", "ca.pem")
            .env("TAKEOVER_TOKEN_FILE", file);
        Ok(command)
    }
}

fn takeover(directory: &Path) -> anyhow::Result<Command> {
    let mut command = Command::new(e2e::binary()?);
    command.current_dir(directory).stdin(Stdio::null());
    Ok(command)
}

/// What it prints; an error with all it says where it fails.
fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    ensure!(output.status.success(), "{command:?} ends with {}:\n{out}\n{err}", output.status);
    Ok(out)
}

/// A tool that `cargo xtask test` sees to.
fn tool(variable: &str, program: &str) -> anyhow::Result<PathBuf> {
    let found = std::env::var_os(variable).map(PathBuf::from).or_else(|| {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|directory| directory.join(program)).find(|program| program.exists())
    });
    found.with_context(|| format!("{program} is missing: run `cargo xtask test`, or name it in {variable}"))
}

#[test]
fn the_api_keeps_to_its_document() -> anyhow::Result<()> {
    let schemathesis = tool("SCHEMATHESIS", "schemathesis")?;
    let scs = Scs::start()?;
    let at = scs.directory.path();
    let token = fs::read_to_string(scs.token("administrator")?)?;
    let mut trial = Command::new(schemathesis);
    trial.current_dir(at).stdin(Stdio::null());
    trial.args(["run", &format!("{}/api/v1/openapi.json", scs.address), "--tls-verify", "ca.pem"]);
    trial.args(["--header", &format!("Authorization: Bearer {}", token.trim())]);
    trial.args(["--checks", "not_a_server_error,status_code_conformance,content_type_conformance"]);
    trial.args(["--checks", "response_schema_conformance,negative_data_rejection"]);
    // The stream of live events has no end.
    trial.args(["--exclude-path", "/api/v1/events", "--phases", "examples,coverage,fuzzing"]);
    trial.args(["--max-examples", "20", "--seed", "1", "--no-color"]);
    println!("{}", run(&mut trial)?);
    // All of that was tried with an administrator's token: the record of it is whole.
    let verdict = run(takeover(at)?.args(["audit", "verify", "--scs", "unix:scs.sock"]))?;
    ensure!(verdict.contains("as it was written"), "{verdict}");
    Ok(())
}

#[test]
fn figures_and_rules_are_as_prometheus_wants_them() -> anyhow::Result<()> {
    let promtool = tool("PROMTOOL", "promtool")?;
    let scs = Scs::start()?;
    let token = fs::read_to_string(scs.token("viewer")?)?;
    let mut curl = Command::new(tool("CURL", "curl")?);
    curl.current_dir(scs.directory.path()).args(["--silent", "--fail", "--cacert", "ca.pem"]);
    curl.arg("--header").arg(format!("Authorization: Bearer {}", token.trim()));
    let figures = run(curl.arg(format!("{}/metrics", scs.address)))?;
    ensure!(figures.contains("takeover_pair_primaries{pair=\"sip\"} 0"), "{figures}");
    let mut check = Command::new(&promtool);
    let mut check = check.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    std::io::Write::write_all(&mut check.stdin.take().context("no standard input")?, figures.as_bytes())?;
    let verdict = check.wait_with_output()?;
    ensure!(verdict.status.success(), "{}", String::from_utf8_lossy(&verdict.stdout));

    let packaging = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging");
    run(Command::new(&promtool).args(["check", "rules", &format!("{packaging}/prometheus/alerts.yml")]))?;
    run(Command::new(&promtool).args(["test", "rules", &format!("{packaging}/prometheus/alerts_test.yml")]))?;
    // Each figure that a rule or the dashboard names is there, whatever it is where no agent has come yet.
    let source =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/sci/src/server/metrics.rs"))?;
    for file in ["prometheus/alerts.yml", "grafana/takeover.json"] {
        let text = fs::read_to_string(format!("{packaging}/{file}"))?;
        for name in names_in(&text) {
            let name = name.trim_end_matches("_bucket");
            ensure!(source.contains(&format!("\"{name}\"")), "{file} names {name}, which is no figure");
        }
    }
    Ok(())
}

/// Words that begin with `takeover_`.
fn names_in(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("takeover_"))
}

#[test]
fn the_command_line_works_from_elsewhere_with_a_token() -> anyhow::Result<()> {
    let scs = Scs::start()?;
    let (viewer, operator) = (scs.token("viewer")?, scs.token("operator")?);
    let status = run(scs.by_token(&viewer)?.arg("status"))?;
    ensure!(status.contains("Pair sip"), "{status}");
    let Err(refused) = run(scs.by_token(&viewer)?.args(["start", "sip1"])) else {
        bail!("a viewer gave an order")
    };
    ensure!(refused.to_string().contains("needs the role operator"), "{refused}");
    let Err(refused) = run(scs.by_token(&operator)?.args(["users"])) else {
        bail!("an operator saw the users")
    };
    ensure!(refused.to_string().contains("needs the role administrator"), "{refused}");
    let audit = run(scs.by_token(&operator)?.arg("audit"))?;
    ensure!(audit.contains("token viewer") && audit.contains("POST /applications/sip1/start"), "{audit}");
    Ok(())
}
