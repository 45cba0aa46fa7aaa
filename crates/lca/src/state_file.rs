//! What the agent knows again after its own restart, in files that are whole or not there: its part of the cluster and
//! what operators stopped (state directory, survives a reboot), the run state and one file per process (run directory).

use domain::{AppName, Cluster, LaunchOutcome, RefId, SipAssignment, SipIdentity};
use lca_core::supervisor::Saved;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

/// Largest file that is read.
const LARGEST: u64 = 16 << 20;

/// What is kept for the next run of the agent on the same boot.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunState {
    /// The kernel's boot: what was written before a reboot says nothing about processes.
    pub boot_id: String,
    /// Applications.
    pub apps: BTreeMap<AppName, Saved>,
    /// Launches that ran, oldest first.
    pub launches: Vec<(RefId, LaunchOutcome)>,
    /// VIPs put back so far.
    pub vips_put_back: u64,
}

/// A process that the agent started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessFile {
    /// The kernel's boot.
    pub boot_id: String,
    /// Its id.
    pub pid: u32,
    /// When it started, clock ticks since the boot (field 22 of `/proc/PID/stat`, proc_pid_stat(5)): tells it from another
    /// process that got the same id later.
    pub started: u64,
}

/// Where the files are.
#[derive(Debug, Clone)]
pub struct Files {
    /// Survives a reboot.
    pub state: PathBuf,
    /// Does not.
    pub run: PathBuf,
}

impl Files {
    /// Where the leases' machines keep what survives a crash: on tmpfs, where a store waits for no disk.
    #[must_use]
    pub fn leases(&self) -> PathBuf {
        self.run.join("leases")
    }

    /// The agent's part of the cluster as it was told last.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn cluster(&self) -> io::Result<Option<Cluster>> {
        read(&self.state.join("cluster.json"))
    }

    /// Keeps the agent's part of the cluster.
    ///
    /// # Errors
    /// It could not be written; the old file is as it was.
    pub fn keep_cluster(&self, cluster: &Cluster) -> io::Result<()> {
        write(&self.state.join("cluster.json"), cluster, true)
    }

    /// The applications that an operator stopped.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn stopped(&self) -> io::Result<BTreeSet<AppName>> {
        Ok(read(&self.state.join("stopped.json"))?.unwrap_or_default())
    }

    /// Keeps the applications that an operator stopped.
    ///
    /// # Errors
    /// They could not be written; the old file is as it was.
    pub fn keep_stopped(&self, stopped: &BTreeSet<AppName>) -> io::Result<()> {
        write(&self.state.join("stopped.json"), stopped, true)
    }

    /// The state of the agent's last run.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn run_state(&self) -> io::Result<Option<RunState>> {
        read(&self.run.join("lca-state.json"))
    }

    /// Keeps the state of this run.
    ///
    /// # Errors
    /// It could not be written; the old file is as it was.
    pub fn keep_run_state(&self, state: &RunState) -> io::Result<()> {
        write(&self.run.join("lca-state.json"), state, false)
    }

    /// The process of an application.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn process(&self, app: &AppName) -> io::Result<Option<ProcessFile>> {
        read(&self.of(app, "process.json"))
    }

    /// Keeps the process of an application.
    ///
    /// # Errors
    /// It could not be written.
    pub fn keep_process(&self, app: &AppName, process: &ProcessFile) -> io::Result<()> {
        write(&self.of(app, "process.json"), process, false)
    }

    /// Forgets the process of an application; no file is no error.
    pub fn forget_process(&self, app: &AppName) {
        let _ = fs::remove_file(self.of(app, "process.json"));
    }

    /// What a SIP Server is told.
    #[must_use]
    pub fn sip_settings(&self, app: &AppName) -> PathBuf {
        self.of(app, "sip.json")
    }

    /// Where its certificate and key are, which the agent makes.
    #[must_use]
    pub fn identity(&self, app: &AppName) -> SipIdentity {
        let directory = self.identity_directory(app);
        SipIdentity {
            certificate: directory.join(format!("{app}.pem")),
            key: directory.join(format!("{app}.key")),
            ca: directory.join("ca.pem"),
        }
    }

    /// The directory of the certificate of a SIP Server; its user's.
    #[must_use]
    pub fn identity_directory(&self, app: &AppName) -> PathBuf {
        self.of(app, "tls")
    }

    /// Keeps what a SIP Server is told, for its user (id and group) alone; whether it is something else than before.
    ///
    /// # Errors
    /// It could not be written; the old file is as it was.
    pub fn keep_sip_settings(
        &self,
        app: &AppName,
        assignment: &SipAssignment,
        owner: Option<(u32, u32)>,
    ) -> io::Result<bool> {
        let path = self.sip_settings(app);
        // What cannot be read is written anew.
        let same = read(&path).is_ok_and(|found: Option<SipAssignment>| found.as_ref() == Some(assignment));
        // SAFETY: system calls that cannot fail.
        let own = unsafe { (libc::geteuid(), libc::getegid()) };
        let owner = owner.unwrap_or(own);
        let owned = fs::metadata(&path).is_ok_and(|found| (found.uid(), found.gid()) == owner);
        if same && owned {
            return Ok(false);
        }
        write_for(&path, assignment, false, Some(owner).filter(|owner| *owner != own))?;
        Ok(!same)
    }

    /// Removes what a SIP Server was told; whether there was anything.
    ///
    /// # Errors
    /// It is there and cannot be removed.
    pub fn forget_sip_settings(&self, app: &AppName) -> io::Result<bool> {
        match fs::remove_file(self.sip_settings(app)) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The socket for sd_notify messages of an application.
    #[must_use]
    pub fn notify_socket(&self, app: &AppName) -> PathBuf {
        self.of(app, "notify")
    }

    /// The directory in which an application makes its mode socket; its own, since it may be of another user.
    #[must_use]
    pub fn mode_directory(&self, app: &AppName) -> PathBuf {
        self.of(app, "mode")
    }

    /// The mode socket of an application.
    #[must_use]
    pub fn mode_socket(&self, app: &AppName) -> PathBuf {
        self.mode_directory(app).join("socket")
    }

    /// Where an application's output goes.
    #[must_use]
    pub fn output(&self, app: &AppName) -> PathBuf {
        self.state.join("output").join(format!("{app}.log"))
    }

    /// Makes the directories.
    ///
    /// # Errors
    /// Which one could not be made is in the text.
    pub fn make(&self) -> io::Result<()> {
        for dir in [self.run.clone(), self.state.clone(), self.state.join("output")] {
            fs::create_dir_all(&dir).map_err(|e| {
                io::Error::new(e.kind(), format!("cannot make directory {}: {e}", dir.display()))
            })?;
        }
        Ok(())
    }

    fn of(&self, app: &AppName, what: &str) -> PathBuf {
        self.run.join(format!("{app}.{what}"))
    }
}

/// The random id of the kernel's boot.
///
/// # Errors
/// `/proc` is not mounted.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// When a process started, clock ticks since the boot.
///
/// # Errors
/// `NotFound`: there is no such process.
pub fn start_time(pid: u32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the name in brackets and may hold anything, brackets and blanks too.
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    fields.split_ascii_whitespace().nth(19).and_then(|field| field.parse().ok()).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat has no start time"))
    })
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let explain = |e: io::Error| io::Error::new(e.kind(), format!("cannot read {}: {e}", path.display()));
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(explain(e)),
    };
    let mut text = Vec::new();
    file.take(LARGEST).read_to_end(&mut text).map_err(explain)?;
    serde_json::from_slice(&text).map(Some).map_err(|e| explain(e.into()))
}

/// Writes a file whole, for the agent's own user.
fn write<T: Serialize>(path: &Path, value: &T, durable: bool) -> io::Result<()> {
    write_for(path, value, durable, None)
}

/// Writes a file whole: beside it, then renamed over it (rename(2) is atomic). `durable` waits for the disk. Nobody but
/// `owner` (id and group; none: the agent's own) may read it: the cluster has secrets of SIP users in it.
fn write_for<T: Serialize>(
    path: &Path,
    value: &T,
    durable: bool,
    owner: Option<(u32, u32)>,
) -> io::Result<()> {
    let beside = path.with_extension("new");
    let explain = |e: io::Error| io::Error::new(e.kind(), format!("cannot write {}: {e}", path.display()));
    let text = serde_json::to_vec(value).map_err(|e| explain(e.into()))?;
    // Anew: one that was left there may be readable for others, or a link to somewhere else.
    match fs::remove_file(&beside) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(explain(e)),
        Ok(()) | Err(_) => {}
    }
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&beside).map_err(explain)?;
    if let Some((user, group)) = owner {
        fchown(&file, Some(user), Some(group)).map_err(explain)?;
    }
    file.write_all(&text).map_err(explain)?;
    if durable {
        file.sync_all().map_err(explain)?;
    }
    fs::rename(&beside, path).map_err(explain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_found_again_and_half_a_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files { state: dir.path().join("state"), run: dir.path().join("run") };
        files.make().unwrap();
        let app = AppName::new("sip1").unwrap();
        assert_eq!(files.process(&app).unwrap(), None);
        let process = ProcessFile { boot_id: boot_id().unwrap(), pid: 7, started: 9 };
        files.keep_process(&app, &process).unwrap();
        assert_eq!(files.process(&app).unwrap(), Some(process));
        files.forget_process(&app);
        files.forget_process(&app);
        assert_eq!(files.process(&app).unwrap(), None);

        fs::write(files.run.join("lca-state.json"), "{\"boot_id\": \"x\", \"apps\": {").unwrap();
        assert!(files.run_state().unwrap_err().to_string().contains("lca-state.json"));
    }

    #[test]
    fn the_start_time_of_a_process_is_read() {
        let own = start_time(std::process::id()).unwrap();
        assert!(own > 0);
        assert_eq!(start_time(std::process::id()).unwrap(), own);
        assert!(start_time(u32::MAX / 2).is_err());
    }
}
