//! The cluster file and the host file: TOML in, checked values out, or a report with line, column, the text underlined,
//! what was expected and a hint. All mistakes of a file are reported at once.
//!
//! Also what a change of the cluster means ([`plan`]). It opens no socket and applies nothing; that is for the SCS and
//! the agent. Every key is described in `docs/configuration.md`.

mod application;
mod condition;
mod file;
mod host_file;
mod names;
mod oidc;
mod pair;
mod plan;
mod reader;
mod report;
mod schema;
mod shipped;
mod sip;
mod sip_ports;
mod size;
mod solution;
mod values;

pub use file::{check_cluster, load_cluster, parse_cluster, read_text};
pub use host_file::{AgentConfig, load_agent, parse_agent};

pub use plan::{Change, plan};
pub use report::{Diagnostic, EXIT_CODE_ERRORS, MAX_REPORTED, Note, Report, Severity};
pub use schema::{CLUSTER_FILE, HOST_FILE, Section};
pub use shipped::{shipped_conditions, vip_wiring};
pub use size::{format_size, parse_size};

/// Largest file that is read, bytes. A cluster of 1,000 hosts and 500 pairs needs about a tenth of it.
pub const MAX_FILE: usize = 4 << 20;

/// Where the SCS listens for agents unless the file says otherwise, and where agents dial unless told a port.
pub const DEFAULT_PORT: u16 = 7400;

/// Where an agent listens for the other agents, on its host's management address, unless the file says otherwise.
pub const DEFAULT_PEER_PORT: u16 = domain::PEER_PORT;

/// A value with the warnings about it; or, where the file has errors, only the report.
pub type Checked<T> = Result<(T, Report), Box<Report>>;
