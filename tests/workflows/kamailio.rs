//! A pair of Kamailios from Debian, as shipped in `packaging/examples/kamailio`, in place of our own SIP Servers: modes by
//! command, health by OPTIONS.

use crate::sipp::Calls;
use anyhow::{Context, ensure};
use e2e::{binary, other, started, whole};
use netlab::Lab;
use nix::sys::signal::Signal;
use rehearsal::{Settings, VIP6};
use std::fs;
use std::path::{Path, PathBuf};

/// In place of Kamailio's own directory, which the hosts of the laboratory would share.
const SOCKET: &str = "/run/takeover/kamailio_ctl";

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/examples/kamailio").join(name)
}

/// The shipped configuration with the laboratory's second VIP and its directory.
fn configuration(directory: &Path) -> anyhow::Result<PathBuf> {
    let text = fs::read_to_string(example("kamailio.cfg"))?;
    let ours = text.replace("/run/kamailio/kamailio_ctl", SOCKET);
    let listen = format!("listen=udp:VIP:5060\nlisten=udp:[{VIP6}]:5060\n");
    let ours = ours.replacen("listen=udp:VIP:5060\n", &listen, 1);
    ensure!(ours.contains(VIP6) && ours.contains(SOCKET), "the example is not as this test knows it");
    let path = directory.join("kamailio.cfg");
    fs::write(&path, ours)?;
    Ok(path)
}

/// The ordinary cluster file with the applications of the shipped one.
fn with_kamailio(cluster: &str, configuration: &Path) -> String {
    let shipped = fs::read_to_string(example("cluster.toml")).expect("the example is there");
    let line = |key: &str| {
        let line = shipped.lines().find(|line| line.starts_with(key)).expect("the example has this key");
        line.replace("/etc/takeover/kamailio/kamailio.cfg", &configuration.display().to_string()).replace(
            "[\"/etc/takeover/kamailio/kamailio-mode.sh\"]",
            &format!(
                "[\"/usr/bin/env\", \"KAMAILIO_CTL=unix:{SOCKET}\", \"{}\"]",
                example("kamailio-mode.sh").display()
            ),
        )
    };
    let application = format!("{}\n{}\n{}", line("command ="), line("mode-control ="), line("probe ="));
    let lines = cluster.lines().map(|line| match line {
        line if line.starts_with("command =") => application.as_str(),
        line if line.starts_with("redundancy =") => "redundancy = \"warm\"",
        line => line,
    });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

/// It serves, is switched over, is killed, and serves on.
pub fn kamailio_pair(_: &mut Lab) -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let configuration = configuration(directory.path())?;
    let settings = Settings::new(&binary()?).edit(move |cluster| with_kamailio(&cluster, &configuration));
    let site = started(settings).context("is kamailio installed? `cargo xtask prepare` installs it")?;
    whole(&site, "sip1")?;
    Calls::begin(&site, "refresh", 100, 200)?.all_succeeded()?;

    let mut primary = "sip1";
    let mut calls = Calls::begin(&site, "refresh", 400, 200)?;
    site.api()?.switch_over("sip", "while SIPp calls")?;
    primary = other(primary);
    whole(&site, primary)?;
    ensure!(calls.going_on()?, "SIPp was done before the switchover was");
    calls.all_succeeded()?;

    let calls = Calls::begin(&site, "refresh", 400, 200)?;
    site.signal_app(primary, Signal::SIGKILL)?;
    primary = other(primary);
    whole(&site, primary)?;
    calls.all_succeeded()?;
    Calls::begin(&site, "refresh", 100, 200)?.all_succeeded()
}
