//! What others build on: the API keeps to its own OpenAPI document (Schemathesis tries it out), the figures and the alert rules
//! are as Prometheus wants them (promtool). A real SCS on loopback, without agents, and the command line with a token.

use anyhow::{Context, bail, ensure};
use e2e::loopback::{Scs, run, takeover, tool};
use std::fs;
use std::process::{Command, Stdio};

#[test]
fn the_api_keeps_to_its_document() -> anyhow::Result<()> {
    let schemathesis = tool("SCHEMATHESIS", "schemathesis")?;
    let scs = Scs::start(|_| String::new())?;
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
    let scs = Scs::start(|_| String::new())?;
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
    let scs = Scs::start(|_| String::new())?;
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
    // What was refused is answered before it is in the store.
    let mut audit = String::new();
    let looked = e2e::wait_until("the refusal to be in the audit", || {
        audit = run(scs.by_token(&operator)?.arg("audit"))?;
        Ok(audit.contains("token viewer") && audit.contains("POST /applications/sip1/start"))
    });
    looked.with_context(|| audit)
}
