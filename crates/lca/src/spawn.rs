//! Makes the process of an application, or finds the one that the agent's last run made. Takes milliseconds and reads and
//! writes files: for the worker, never for the real-time thread.

use crate::cgroup::{Cgroup, Cgroups};
use crate::state_file::{Files, ProcessFile, start_time};
use crate::sys;
use control_link::ca::Issued;
use control_link::delegation::delegate;
use domain::{AppName, Application, HostName, PairName, SIP_SETTINGS_VARIABLE, SipAssignment};
use std::ffi::{CStr, CString};
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

/// Output of an application above which its file is put aside when it starts anew, bytes.
const OUTPUT_LIMIT: u64 = 10 << 20;
/// Search path of applications and scripts, unless they are given another.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How long a killed process may take to end.
const END_LIMIT: Duration = Duration::from_secs(2);
/// Longest path of a Unix socket (unix(7)).
const LONGEST_SOCKET_PATH: usize = 107;

/// What processes are made with.
#[derive(Debug)]
pub struct Spawner {
    /// Where files are.
    pub files: Files,
    /// The host.
    pub host: HostName,
    /// The kernel's boot.
    pub boot_id: String,
    /// Control groups, where they may be used.
    pub cgroups: Option<Cgroups>,
    /// Certificate, key and authority of the agent, which vouches for its SIP Servers.
    pub agent: Issued,
    /// The limit for locked memory that the agent was started with; its own is lifted.
    pub memory_lock_limit: libc::rlimit,
}

/// A running process.
#[derive(Debug)]
pub struct Running {
    /// Its id; it leads its own session and process group.
    pub pid: u32,
    /// Readable when it has ended.
    pub pidfd: OwnedFd,
    /// Where its sd_notify messages arrive.
    pub notify: UnixDatagram,
    /// Its control group.
    pub cgroup: Option<Cgroup>,
}

/// What is left of the agent's last run.
#[derive(Debug)]
pub enum Found {
    /// The process lives.
    Alive(Running),
    /// There was one, and it has ended.
    Gone,
    /// There was none.
    Never,
}

impl Spawner {
    /// Starts an application, killing first what may be left of an earlier process of it.
    ///
    /// # Errors
    /// A sentence.
    pub fn spawn(
        &self,
        app: &AppName,
        settings: &Application,
        pair: Option<&PairName>,
    ) -> Result<Running, String> {
        let cgroup = self.cgroup(app)?;
        let notify = self.notify_socket(app, settings).map_err(|e| format!("its notify socket: {e}"))?;
        let output = self.output(app).map_err(|e| format!("the file for its output: {e}"))?;
        let errors = output.try_clone().map_err(|e| e.to_string())?;
        let user = settings.user.as_deref().map(User::find).transpose()?;
        self.mode_directory(app, user.as_ref())
            .map_err(|e| format!("the directory of its mode socket: {e}"))?;
        if self.files.sip_settings(app).exists() {
            self.vouch(app, user.as_ref())?;
        }
        let (program, arguments) = settings.command.split_first().ok_or("no command is configured")?;

        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(output).stderr(errors).env_clear();
        command.env("PATH", PATH);
        if let Some(user) = &user {
            command.env("USER", &user.name).env("LOGNAME", &user.name).env("HOME", &user.home);
        }
        command.envs(&settings.environment);
        self.tell_facts(&mut command, app, settings, pair);
        command.current_dir(settings.directory.as_deref().unwrap_or(Path::new("/")));

        let entrance =
            cgroup.as_ref().map(Cgroup::entrance).transpose().map_err(|e| format!("its cgroup: {e}"))?;
        let memory_lock_limit = self.memory_lock_limit;
        let prepare = move || {
            // Own session: it survives the agent, and a signal to its group reaches all of it.
            sys::new_session()?;
            if let Some(entrance) = &entrance {
                (&*entrance).write_all(b"0")?;
            }
            // The agent's own limit may be lifted; where that cannot be taken back it does no harm.
            let _ = sys::set_memory_lock_limit(&memory_lock_limit);
            match &user {
                Some(user) => sys::become_user(user.uid, user.gid, &user.groups),
                None => Ok(()),
            }
        };
        // SAFETY: between fork and exec `prepare` makes system calls only; it neither allocates nor takes a lock.
        unsafe { command.pre_exec(prepare) };
        let mut child = command.spawn().map_err(|e| format!("{program}: {e}"))?;
        // Not waited for here, so the id stays its own until the real-time thread reaps it.
        match self.take_note(app, child.id()) {
            Ok(pidfd) => Ok(Running { pid: child.id(), pidfd, notify, cgroup }),
            Err(e) => {
                // Unwatched, or without its file, the agent's next run would start it a second time.
                let _ = child.kill();
                let _ = child.wait();
                Err(e.to_string())
            }
        }
    }

    /// Keeps on file which process is the application's, for the agent's next run; returns its pidfd.
    ///
    /// # Errors
    /// It has ended, or the file cannot be written.
    pub fn take_note(&self, app: &AppName, pid: u32) -> io::Result<OwnedFd> {
        let pidfd = sys::pidfd_open(pid)?;
        let process = ProcessFile { boot_id: self.boot_id.clone(), pid, started: start_time(pid)? };
        self.files.keep_process(app, &process)?;
        Ok(pidfd)
    }

    /// Finds the process that the agent's last run made.
    ///
    /// # Errors
    /// A sentence: it is not known whether there is one.
    pub fn find(&self, app: &AppName, settings: &Application) -> Result<Found, String> {
        let found = self.find_noted(app, settings)?;
        if !matches!(found, Found::Alive(_)) && self.cgroups.is_none() {
            self.end_unnoted(app)?;
        }
        Ok(found)
    }

    /// Ends processes of the application of which nothing was kept: an agent that was killed between making one and taking
    /// note of it leaves it behind, and it would have the ports of the one that is made next. They are known by their
    /// environment, and by the directory that it leads to there: an agent elsewhere, in a container for example, has the
    /// same paths. (With control groups they are in the group, which is cleared before a process is made.)
    fn end_unnoted(&self, app: &AppName) -> Result<(), String> {
        let socket = self.files.notify_socket(app);
        let mark = [b"NOTIFY_SOCKET=", socket.as_os_str().as_bytes()].concat();
        let directory = socket.parent().unwrap_or(Path::new("/"));
        let identity = |path: &Path| fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
        let ours = match identity(directory) {
            Ok(ours) => ours,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(format!("{} cannot be looked at: {error}", directory.display())),
        };
        // As the process sees it (proc(5), /proc/PID/root).
        let is_ours = |process: &Path| {
            let root = process.join("root");
            identity(&root.join(directory.strip_prefix("/").unwrap_or(directory)))
                .is_ok_and(|theirs| theirs == ours)
        };
        let is_marked = |environment: &[u8]| environment.split(|byte| *byte == 0).any(|one| one == mark);
        let entries = fs::read_dir("/proc").map_err(|e| format!("/proc cannot be read: {e}"))?;
        for entry in entries.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            // The descriptor first: from here on the id cannot come to mean another process unnoticed.
            let Ok(pidfd) = sys::pidfd_open(pid) else { continue };
            let marked =
                fs::read(entry.path().join("environ")).is_ok_and(|environment| is_marked(&environment));
            if marked && is_ours(&entry.path()) {
                // It may end by itself meanwhile.
                let _ = sys::signal(pidfd.as_fd(), libc::SIGKILL);
                sys::await_end(pidfd.as_fd(), END_LIMIT)
                    .map_err(|e| format!("process {pid} of its last run is left: {e}"))?;
            }
        }
        Ok(())
    }

    fn find_noted(&self, app: &AppName, settings: &Application) -> Result<Found, String> {
        let Some(file) = self.files.process(app).map_err(|e| e.to_string())? else { return Ok(Found::Never) };
        if file.boot_id != self.boot_id {
            self.files.forget_process(app);
            return Ok(Found::Never);
        }
        // The descriptor first: from here on the id cannot come to mean another process unnoticed.
        let Ok(pidfd) = sys::pidfd_open(file.pid) else { return Ok(Found::Gone) };
        match start_time(file.pid) {
            Ok(started) if started == file.started && !is_zombie(file.pid) => {}
            Ok(_) | Err(_) => return Ok(Found::Gone),
        }
        let notify = self.notify_socket(app, settings).map_err(|e| format!("its notify socket: {e}"))?;
        let cgroup = self.cgroups.as_ref().map(|cgroups| cgroups.of(app));
        Ok(Found::Alive(Running { pid: file.pid, pidfd, notify, cgroup }))
    }

    /// Writes what a SIP Server is told, readable by its user alone, or removes it; whether that changed anything.
    ///
    /// # Errors
    /// A sentence; the file is as it was.
    pub fn keep_sip_settings(
        &self,
        app: &AppName,
        assignment: Option<&SipAssignment>,
        user: Option<&str>,
    ) -> Result<bool, String> {
        let Some(assignment) = assignment else {
            return self.files.forget_sip_settings(app).map_err(|e| e.to_string());
        };
        let user = user.map(User::find).transpose()?;
        let mut changed = false;
        // A process that runs has its certificate; another one follows the agent's own.
        if modified(&assignment.identity.certificate) < modified(&self.agent.certificate) {
            self.vouch(app, user.as_ref())?;
            changed = true;
        }
        let owner = user.map(|user| (user.uid, user.gid));
        let written = self.files.keep_sip_settings(app, assignment, owner).map_err(|e| e.to_string())?;
        Ok(written || changed)
    }

    /// Makes a key for a SIP Server, and signs its certificate.
    fn vouch(&self, app: &AppName, user: Option<&User>) -> Result<(), String> {
        let failed = |e: &dyn std::fmt::Display| format!("its certificate: {e}");
        let directory = self.files.identity_directory(app);
        let Issued { certificate, key, ca } = &self.agent;
        let made = delegate(certificate, key, ca, app, &directory).map_err(|e| failed(&e))?;
        if let Some(user) = user {
            for path in [&made.certificate, &made.key, &made.ca, &directory] {
                lchown(path, Some(user.uid), Some(user.gid)).map_err(|e| failed(&e))?;
            }
        }
        Ok(())
    }

    /// Kills what is left of an application whose main process has ended.
    ///
    /// # Errors
    /// Processes are left.
    pub fn clear(&self, app: &AppName) -> io::Result<()> {
        self.files.forget_process(app);
        self.cgroups.as_ref().map_or(Ok(()), |cgroups| cgroups.of(app).clear())
    }

    /// Kills all processes in the application's control group, where it has one.
    pub fn kill(&self, app: &AppName) {
        if let Some(cgroups) = &self.cgroups {
            // No such group: then nothing has left the process group, which is killed already.
            let _ = cgroups.of(app).kill();
        }
    }

    fn cgroup(&self, app: &AppName) -> Result<Option<Cgroup>, String> {
        let Some(cgroups) = &self.cgroups else { return Ok(None) };
        cgroups.of(app).clear().map_err(|e| format!("processes of its last run are left: {e}"))?;
        cgroups.make(app).map(Some).map_err(|e| format!("its cgroup: {e}"))
    }

    fn notify_socket(&self, app: &AppName, settings: &Application) -> io::Result<UnixDatagram> {
        let path = self.files.notify_socket(app);
        if path.as_os_str().len() > LONGEST_SOCKET_PATH {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "{} is longer than {LONGEST_SOCKET_PATH} bytes; choose a shorter run directory",
                    path.display()
                ),
            ));
        }
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            Ok(()) | Err(_) => {}
        }
        let socket = UnixDatagram::bind(&path)?;
        socket.set_nonblocking(true)?;
        sys::pass_credentials(&socket)?;
        // An application of another user must be able to send; who sent is checked anyway.
        let mode = if settings.user.is_some() { 0o622 } else { 0o600 };
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
        Ok(socket)
    }

    /// The application makes its mode socket itself, so the directory must be its user's.
    fn mode_directory(&self, app: &AppName, user: Option<&User>) -> io::Result<()> {
        let path = self.files.mode_directory(app);
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            Ok(()) | Err(_) => {}
        }
        // Also back to the agent's own, where the configuration named a user before.
        let (uid, gid) = match user {
            Some(user) => (user.uid, user.gid),
            // SAFETY: system calls that cannot fail.
            None => unsafe { (libc::geteuid(), libc::getegid()) },
        };
        let found = fs::symlink_metadata(&path)?;
        if (found.uid(), found.gid()) == (uid, gid) { Ok(()) } else { lchown(&path, Some(uid), Some(gid)) }
    }

    /// A file, not a pipe: the application outlives the agent.
    fn output(&self, app: &AppName) -> io::Result<File> {
        let path = self.files.output(app);
        if fs::metadata(&path).is_ok_and(|found| found.len() > OUTPUT_LIMIT) {
            fs::rename(&path, path.with_extension("log.1"))?;
        }
        File::options().create(true).append(true).open(path)
    }

    /// The environment by which an application finds the agent. `WATCHDOG_PID` is left out: it would have to be known
    /// before the fork, and without it `WATCHDOG_USEC` is for whoever reads it (sd_watchdog_enabled(3)).
    fn tell_facts(
        &self,
        command: &mut Command,
        app: &AppName,
        settings: &Application,
        pair: Option<&PairName>,
    ) {
        command.env("NOTIFY_SOCKET", self.files.notify_socket(app));
        if let Some(limit) = settings.watchdog {
            command.env("WATCHDOG_USEC", limit.as_micros().to_string());
        }
        command.env("TAKEOVER_MODE_SOCKET", self.files.mode_socket(app));
        command.env("TAKEOVER_APPLICATION", app.as_str()).env("TAKEOVER_HOST", self.host.as_str());
        if let Some(pair) = pair {
            command.env("TAKEOVER_PAIR", pair.as_str());
        }
        let settings = self.files.sip_settings(app);
        if settings.exists() {
            command.env(SIP_SETTINGS_VARIABLE, settings);
        }
    }
}

/// When a file was changed last; none: it is not there.
fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|found| found.modified()).ok()
}

/// A zombie has ended: nobody but the agent's last run could have reaped it.
fn is_zombie(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z')))
}

/// A user that an application runs as.
#[derive(Debug)]
struct User {
    name: String,
    home: String,
    uid: u32,
    gid: u32,
    groups: Vec<libc::gid_t>,
}

impl User {
    fn find(name: &str) -> Result<Self, String> {
        let asked = CString::new(name).map_err(|_| format!("{name:?} is no user name"))?;
        let mut buffer = vec![0; 16 * 1024];
        // SAFETY: all zero is a valid passwd without anything in it.
        let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        // SAFETY: all pointers are valid for the call, and the buffer has the length given.
        let failed = unsafe {
            libc::getpwnam_r(
                asked.as_ptr(),
                &raw mut entry,
                buffer.as_mut_ptr(),
                buffer.len(),
                &raw mut found,
            )
        };
        if failed != 0 || found.is_null() {
            return Err(format!("there is no user {name}"));
        }
        // SAFETY: getpwnam_r has filled in the entry; its strings are in `buffer`.
        let home = unsafe { CStr::from_ptr(entry.pw_dir) }.to_string_lossy().into_owned();
        let mut groups = vec![0; 256];
        let mut count = 256;
        // SAFETY: `groups` has room for `count` entries.
        let all =
            unsafe { libc::getgrouplist(asked.as_ptr(), entry.pw_gid, groups.as_mut_ptr(), &raw mut count) };
        if all < 0 {
            return Err(format!("user {name} is in more than 256 groups"));
        }
        groups.truncate(usize::try_from(count).unwrap_or(0));
        Ok(Self { name: name.to_owned(), home, uid: entry.pw_uid, gid: entry.pw_gid, groups })
    }
}
