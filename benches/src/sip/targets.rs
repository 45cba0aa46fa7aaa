//! What is measured: our pair with a copy of everything, our server alone without one, and Kamailio.

use super::sipp::{CALLEE, CLIENT_ADDRESS};
use crate::servers::end;
use anyhow::{Context, ensure};
use netlab::{Lab, Nic};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rehearsal::{AGENT_HOSTS, CLIENT, SIP_PORT, Settings, Site, VIP};
use sip_proto::digest::{Algorithm, secret};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Our pair.
pub const PAIR: &str = "takeover pair";
/// One server of ours that asks nobody who they are, and has nobody to copy anything to.
pub const ALONE: &str = "takeover alone";
/// The baseline.
pub const KAMAILIO: &str = "kamailio";
/// How many phones register, again and again.
pub const PHONES: usize = 1_000;
/// Where digests are good; the passwords are `secret`.
const REALM: &str = "example.com";
/// How long a server may take to start.
const START_LIMIT: Duration = Duration::from_secs(10);
/// How long a server may take to end before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// Kamailio's workers.
const WORKERS: usize = 2;

/// Something that serves SIP at the VIP, in a network of its own.
pub trait Target {
    /// What it is.
    fn who(&self) -> &'static str;
    /// Its network.
    fn lab(&self) -> &Lab;
    /// Its processes, each by the part that it belongs to; those of a part stand together.
    ///
    /// # Errors
    /// One does not run.
    fn processes(&self) -> anyhow::Result<Vec<(&'static str, u32)>>;
}

/// The name of a phone, as both configurations and SIPp's lists have it. Those that are `known` have to prove who they are.
#[must_use]
pub fn phone(number: usize, known: bool) -> String {
    format!("{}{number}", if known { "known" } else { "open" })
}

/// The cluster file with settings for SIP Servers: phones that register, `callee`, and SIPp's calls as those of a trunk, which
/// is known by its address and is asked for no proof, as Kamailio asks for none.
#[must_use]
pub fn with_sip(cluster: &str) -> String {
    let mut text = format!(
        "{cluster}\n[pairs.sip.sip]\ndomains = [\"{REALM}\"]\n\
         limits = {{ source-rate = 100000, source-burst = 1000000, refusals = 100000 }}\n\n\
         [pairs.sip.sip.trunks.phones]\nhost = \"{CLIENT_ADDRESS}\"\nport = {CALLEE}\ntransport = \"udp\"\n\
         probe = false\n"
    );
    let users = (0..PHONES).map(|number| phone(number, true)).chain(["callee".to_owned()]);
    for name in users {
        let secret = secret(Algorithm::Md5, &name, REALM, "secret");
        text += &format!("\n[pairs.sip.sip.users.{name}]\nmd5 = \"{secret}\"\n");
    }
    text
}

/// Our pair, with its agents and its SCS.
pub struct Pair(Site);

impl Pair {
    /// Builds and starts it.
    ///
    /// # Errors
    /// What did not come up.
    pub fn start(takeover: &Path) -> anyhow::Result<Self> {
        let settings = Settings::new(takeover).edit(|cluster| with_sip(&cluster));
        let mut site = Site::build(Lab::new()?, settings)?;
        site.start()?;
        Ok(Self(site))
    }
}

impl Target for Pair {
    fn who(&self) -> &'static str {
        PAIR
    }

    fn lab(&self) -> &Lab {
        &self.0.lab
    }

    fn processes(&self) -> anyhow::Result<Vec<(&'static str, u32)>> {
        let agent = |host| self.0.agent_pid(host).with_context(|| format!("no agent runs on {host}"));
        Ok(vec![
            ("primary", self.0.app_pid("sip1")?),
            ("backup", self.0.app_pid("sip2")?),
            ("agents, SCS", agent(AGENT_HOSTS[0])?),
            ("agents, SCS", agent(AGENT_HOSTS[1])?),
            ("agents, SCS", self.0.scs_pid().context("no SCS runs")?),
        ])
    }
}

/// One server on a host that has the VIP for good.
pub struct Alone {
    who: &'static str,
    lab: Lab,
    server: Child,
}

impl Alone {
    /// Our server, open to everybody.
    ///
    /// # Errors
    /// It does not start.
    pub fn takeover(takeover: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(takeover);
        let listen = format!("{VIP}:{SIP_PORT}");
        command.args(["sip-server", "--standalone", "--name", "alone", "--listen", &listen]);
        Self::start(ALONE, one_host()?, command)
    }

    /// Kamailio, as [`configuration`] has it.
    ///
    /// # Errors
    /// It does not start.
    pub fn kamailio(program: &Path) -> anyhow::Result<Self> {
        let lab = one_host()?;
        let directory = lab.directory(AGENT_HOSTS[0])?.join("run");
        let file = directory.join("kamailio.cfg");
        std::fs::write(&file, configuration())?;
        let mut command = Command::new(program);
        // In the foreground, its complaints to standard error; shared memory as for large installations.
        command.args(["-DD", "-E", "-m", "512", "-M", "16", "-f"]).arg(&file);
        command.arg("-Y").arg(&directory);
        Self::start(KAMAILIO, lab, command)
    }

    fn start(who: &'static str, lab: Lab, mut command: Command) -> anyhow::Result<Self> {
        let log = lab.directory(AGENT_HOSTS[0])?.join("run/server.log");
        let output = std::fs::File::create(&log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let server = lab.spawn(AGENT_HOSTS[0], command)?;
        let mut started = Self { who, lab, server };
        let begun = Instant::now();
        while !crate::servers::listens(&started.lab, AGENT_HOSTS[0])? {
            let ended = started.server.try_wait()?;
            let said = || std::fs::read_to_string(&log).unwrap_or_default();
            ensure!(
                ended.is_none() && begun.elapsed() < START_LIMIT,
                "{who} does not listen: {ended:?} {}",
                said()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(started)
    }
}

impl Target for Alone {
    fn who(&self) -> &'static str {
        self.who
    }

    fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The one that was started, and its children.
    fn processes(&self) -> anyhow::Result<Vec<(&'static str, u32)>> {
        let first = self.server.id();
        let children = std::fs::read_to_string(format!("/proc/{first}/task/{first}/children"))
            .context("the kernel lists no children (CONFIG_PROC_CHILDREN)")?;
        let mut processes = vec![("server", first)];
        for child in children.split_whitespace() {
            processes.push(("server", child.parse()?));
        }
        Ok(processes)
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        // Kamailio's first process ends the others when it is asked to end; killed, it would leave them to the lab.
        let asked = i32::try_from(self.server.id())
            .is_ok_and(|pid| kill(Pid::from_raw(pid), Signal::SIGTERM).is_ok());
        let begun = Instant::now();
        while asked && begun.elapsed() < STOP_LIMIT && self.server.try_wait().is_ok_and(|end| end.is_none()) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = end(&mut self.server);
    }
}

fn one_host() -> anyhow::Result<Lab> {
    let mut lab = Lab::new()?;
    let vip = format!("{VIP}/24");
    let client = format!("{CLIENT_ADDRESS}/24");
    lab.host(AGENT_HOSTS[0], &[Nic { segment: "lan", name: "eth0", addresses: &["192.0.2.11/24", &vip] }])?;
    lab.host(CLIENT, &[Nic { segment: "lan", name: "eth0", addresses: &[&client] }])?;
    Ok(lab)
}

/// A stateful relay that stays in the dialog's route and knows its dialogs, and a registrar. It looks nobody up: every call
/// goes to the one callee, which is less work than ours has.
fn configuration() -> String {
    let known = phone(0, true);
    let known = known.trim_end_matches('0');
    format!(
        r#"#!KAMAILIO
debug=1
log_stderror=yes
children={WORKERS}
disable_tcp=yes
auto_aliases=no
dns=no
rev_dns=no
listen=udp:{VIP}:{SIP_PORT}

loadmodule "pv.so"
loadmodule "sl.so"
loadmodule "tm.so"
loadmodule "rr.so"
loadmodule "maxfwd.so"
loadmodule "siputils.so"
loadmodule "textops.so"
loadmodule "dialog.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "auth.so"

request_route {{
	if (!mf_process_maxfwd_header("10")) {{
		sl_send_reply("483", "Too Many Hops");
		exit;
	}}
	force_rport();
	if (has_totag()) {{
		if (loose_route()) {{
			t_relay();
			exit;
		}}
		if (is_method("ACK")) {{
			if (t_check_trans()) {{
				t_relay();
			}}
			exit;
		}}
		sl_send_reply("404", "Not here");
		exit;
	}}
	t_check_trans();
	if (is_method("REGISTER")) {{
		if ($fU =~ "^{known}") {{
			if (!pv_www_authenticate("{REALM}", "secret", "0")) {{
				www_challenge("{REALM}", "0");
				exit;
			}}
		}}
		if (!save("location")) {{
			sl_reply_error();
		}}
		exit;
	}}
	if (is_method("INVITE")) {{
		dlg_manage();
		record_route();
		$du = "sip:{CLIENT_ADDRESS}:{CALLEE}";
		if (!t_relay()) {{
			sl_reply_error();
		}}
		exit;
	}}
	sl_send_reply("405", "Method Not Allowed");
}}
"#
    )
}

/// Where Kamailio is installed, if it is, and its version.
///
/// # Errors
/// It is there and does not run.
pub fn find_kamailio() -> anyhow::Result<Option<(PathBuf, String)>> {
    for directory in ["/usr/sbin", "/usr/local/sbin", "/sbin"] {
        let program = Path::new(directory).join("kamailio");
        if program.is_file() {
            let output = Command::new(&program).arg("-v").output()?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let version =
                text.trim_start_matches("version: ").lines().next().unwrap_or_default().trim().to_owned();
            ensure!(!version.is_empty(), "{} -v says nothing", program.display());
            return Ok(Some((program, version)));
        }
    }
    Ok(None)
}
