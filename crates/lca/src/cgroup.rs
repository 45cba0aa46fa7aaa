//! A control group (v2) per application, so that no process of it is missed when it is killed. Best effort: where the
//! hierarchy is not ours to write, process groups alone must do.

use domain::AppName;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where version 2 is mounted: alone, or beside version 1.
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// Our part of the hierarchy.
const SLICE: &str = "takeover.slice";
/// How long killed processes may take to be gone.
const GONE_LIMIT: Duration = Duration::from_secs(2);

/// The part of the hierarchy for the applications of one agent.
#[derive(Debug, Clone)]
pub struct Cgroups {
    slice: PathBuf,
    /// Tells the agents of one machine apart (a demonstration runs several): the identity of their run directory.
    agent: String,
}

impl Cgroups {
    /// Finds version 2 and makes our part of it.
    ///
    /// # Errors
    /// Why it cannot be used, to be told.
    pub fn open(run_directory: &Path) -> io::Result<Self> {
        let mount = MOUNTS
            .into_iter()
            .map(Path::new)
            .find(|mount| mount.join("cgroup.procs").exists())
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no cgroup version 2 is mounted"))?;
        let slice = mount.join(SLICE);
        match fs::create_dir(&slice) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            Ok(()) | Err(_) => {}
        }
        let identity = fs::metadata(run_directory)?;
        let agent = format!("{:x}-{:x}", identity.dev(), identity.ino());
        Ok(Self { slice, agent })
    }

    /// Makes the group of an application.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn make(&self, app: &AppName) -> io::Result<Cgroup> {
        let group = self.of(app);
        match fs::create_dir(&group.0) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
            Ok(()) | Err(_) => Ok(group),
        }
    }

    /// The group of an application, whether it is there or not.
    #[must_use]
    pub fn of(&self, app: &AppName) -> Cgroup {
        Cgroup(self.slice.join(format!("{app}@{}", self.agent)))
    }
}

/// The group of one application.
#[derive(Debug, Clone)]
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// The file to which a process writes "0" to move itself here.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn entrance(&self) -> io::Result<File> {
        File::options().write(true).open(self.0.join("cgroup.procs"))
    }

    /// Kills every process in it (`cgroup.kill`, Linux 5.14).
    ///
    /// # Errors
    /// `NotFound`: there is no such group, or the kernel is older.
    pub fn kill(&self) -> io::Result<()> {
        fs::write(self.0.join("cgroup.kill"), "1")
    }

    /// Kills what is left in it, waits until it is gone, and removes the group. Blocks; not for the real-time thread.
    ///
    /// # Errors
    /// Processes are left after two seconds.
    pub fn clear(&self) -> io::Result<()> {
        if !self.0.exists() {
            return Ok(());
        }
        if self.populated()? {
            self.kill()?;
            self.wait_until_empty()?;
        }
        fs::remove_dir(&self.0)
    }

    fn populated(&self) -> io::Result<bool> {
        Ok(fs::read_to_string(self.0.join("cgroup.events"))?.lines().any(|line| line == "populated 1"))
    }

    /// The kernel tells a change of `cgroup.events` by POLLPRI (cgroup-v2 documentation, "populated notification").
    fn wait_until_empty(&self) -> io::Result<()> {
        let events = File::open(self.0.join("cgroup.events"))?;
        let deadline = Instant::now() + GONE_LIMIT;
        while self.populated()? {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "killed processes are still there"));
            }
            let mut waited = libc::pollfd { fd: events.as_raw_fd(), events: libc::POLLPRI, revents: 0 };
            let limit = i32::try_from(left.as_millis()).unwrap_or(i32::MAX).clamp(1, 100);
            // SAFETY: one valid pollfd.
            unsafe { libc::poll(&raw mut waited, 1, limit) };
        }
        Ok(())
    }
}

/// Whether a process is in the group of that path, as its own `/proc/PID/cgroup` says.
#[must_use]
pub fn holds(group: &Cgroup, pid: u32) -> bool {
    let Some(name) = group.0.file_name().and_then(|name| name.to_str()) else { return false };
    fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| {
        text.lines().any(|line| line.starts_with("0::") && line.ends_with(&format!("{SLICE}/{name}")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    #[test]
    fn clearing_a_group_kills_what_left_the_process_group() {
        let run = tempfile::tempdir().unwrap();
        let app = AppName::new("cleared").unwrap();
        let group = match Cgroups::open(run.path()).and_then(|cgroups| cgroups.make(&app)) {
            Ok(group) => group,
            Err(e) => return println!("not tested, cgroups are not ours to write here: {e}"),
        };
        group.clear().unwrap();
        Cgroups::open(run.path()).unwrap().make(&app).unwrap();
        let mut child = Command::new("setsid").args(["sleep", "1000"]).stdin(Stdio::null()).spawn().unwrap();
        write!(group.entrance().unwrap(), "{}", child.id()).unwrap();
        assert!(holds(&group, child.id()));
        assert!(!holds(&group, std::process::id()));
        group.clear().unwrap();
        assert!(!child.wait().unwrap().success(), "killed");
        group.clear().unwrap();
    }
}
