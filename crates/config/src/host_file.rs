//! The host file: the little that an agent must know before it has spoken to an SCS. Everything else comes from there.

use crate::file::{check_file, read_text};
use crate::reader::Table;
use crate::schema::AGENT;
use crate::{Checked, values};
use domain::HostName;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Where certificates and keys are, unless the file says otherwise.
const TLS_DIRECTORY: &str = "/etc/takeover/tls";

/// What an agent starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentConfig {
    /// The host it is the agent of; the name in its certificate.
    pub host: HostName,
    /// The SCSs to dial, in this order.
    pub scs: Vec<SocketAddr>,
    /// Its certificate, PEM.
    pub certificate: PathBuf,
    /// The certificate's key, PEM.
    pub key: PathBuf,
    /// The certificate authority whose certificates it trusts, PEM.
    pub ca: PathBuf,
    /// What must survive a reboot.
    pub state_directory: PathBuf,
    /// What must survive the agent's restart and not a reboot; on tmpfs.
    pub run_directory: PathBuf,
    /// Whether the agent asks for real-time scheduling and locked memory.
    pub real_time: bool,
    /// Whether applications get cgroups of their own.
    pub cgroup: bool,
    /// The watchdog device that resets the host when the agent's real-time thread stops; none: none is used.
    pub watchdog: Option<PathBuf>,
}

/// Reads the host file at `path`.
///
/// # Errors
/// The report of everything that is wrong with it, or of why it cannot be read.
pub fn load_agent(path: &Path) -> Checked<AgentConfig> {
    parse_agent(&path.display().to_string(), &read_text(path)?)
}

/// Reads a host file's text; `path` is what the report calls it.
///
/// # Errors
/// The report of everything that is wrong with it.
pub fn parse_agent(path: &str, text: &str) -> Checked<AgentConfig> {
    check_file(path, text, &AGENT, |_, table| agent(table))
}

fn agent(table: &Table<'_>) -> Option<AgentConfig> {
    let host = table
        .require("host", "host = \"host1\"")
        .and_then(|field| field.parsed::<HostName>("the name of this host"));
    let scs = table
        .require("scs", "scs = [\"192.0.2.10:7400\"]")
        .and_then(|field| values::socket_addresses(&field));
    let path =
        |key, default: PathBuf| table.get(key).and_then(|f| values::absolute_path(&f)).unwrap_or(default);
    let tls = |file: String| Path::new(TLS_DIRECTORY).join(file);
    let name = host.as_ref().map_or("host", HostName::as_str);
    let certificate = path("certificate", tls(format!("{name}.pem")));
    let key = path("key", tls(format!("{name}.key")));
    let ca = path("ca", tls("ca.pem".to_owned()));
    let state_directory = path("state-directory", PathBuf::from("/var/lib/takeover"));
    let run_directory = path("run-directory", PathBuf::from("/run/takeover"));
    if let Some(field) = table.get("run-directory").filter(|_| run_directory == state_directory) {
        field.error(
            || "what survives a reboot must be apart from what does not".to_owned(),
            |f| f.label("the same as `state-directory`"),
        );
    }
    Some(AgentConfig {
        host: host?,
        scs: scs?,
        certificate,
        key,
        ca,
        state_directory,
        run_directory,
        real_time: table.boolean("real-time", true),
        cgroup: table.boolean("cgroup", true),
        watchdog: table.get("watchdog").and_then(|field| values::absolute_path(&field)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minimal_file_has_the_documented_defaults() {
        let (agent, report) =
            parse_agent("host.toml", "host = \"host1\"\nscs = [\"192.0.2.10:7400\"]\n").unwrap();
        assert_eq!(report.warnings, 0);
        let expected = AgentConfig {
            host: HostName::new("host1").unwrap(),
            scs: vec!["192.0.2.10:7400".parse().unwrap()],
            certificate: "/etc/takeover/tls/host1.pem".into(),
            key: "/etc/takeover/tls/host1.key".into(),
            ca: "/etc/takeover/tls/ca.pem".into(),
            state_directory: "/var/lib/takeover".into(),
            run_directory: "/run/takeover".into(),
            real_time: true,
            cgroup: true,
            watchdog: None,
        };
        assert_eq!(agent, expected);
    }
}
