//! The cluster file, while the SCS runs: what is in force, what a change would mean, applying one, and going back.
//!
//! The file stays the truth: a change that comes through the API is written to it before it is in force, so that a restart finds
//! it. Every configuration that was in force is kept with its number, by whom, why, and what it changed.
//!
//! Applying waits for the disk and for the core thread: not to be called on a thread that must not wait.

use crate::handle::{Gone, Handle};
use crate::store::{QueryError, Store, StoreItem};
use config::{Change, Report};
use domain::{Cluster, Micros};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What reports call a configuration that has no name.
pub const NAME: &str = "cluster.toml";

/// How long two texts are compared at the most; a coarser comparison is shown then.
const DIFF_LIMIT: Duration = Duration::from_millis(500);

/// A configuration that was put in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Revision {
    /// Its number; they grow by one.
    pub number: u64,
    /// When it was put in force.
    pub at: Micros,
    /// By whom.
    pub who: String,
    /// How.
    pub how: How,
    /// Why; may be empty.
    pub reason: String,
    /// SHA-256 of its text, 64 hexadecimal digits.
    pub digest: String,
    /// What was different from the one before.
    pub changes: Vec<Change>,
}

/// How a configuration was put in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "how")]
pub enum How {
    /// It was in the cluster file when the SCS started.
    Started,
    /// An operator sent it.
    Applied,
    /// An operator had the cluster file read again.
    Reloaded,
    /// An operator went back to an earlier one.
    RolledBack {
        /// Which.
        to: u64,
    },
}

/// A configuration that somebody wants in force.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// All of the file.
    pub text: Text,
    /// The revision that it was made from; none: whichever is in force.
    pub base: Option<u64>,
    /// The digest of the text that was looked at ([`Outlook::digest`]); none: whatever it is by now.
    pub digest: Option<String>,
    /// By whom.
    pub who: String,
    /// Why; may be empty.
    pub reason: String,
}

/// Where the text of a proposal comes from.
#[derive(Debug, Clone)]
pub enum Text {
    /// It was sent.
    Sent(String),
    /// It is in the cluster file.
    OfTheFile,
    /// It was in force before.
    OfRevision(u64),
}

/// What a proposal would do, or what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Outlook {
    /// The revision in force, to which it is compared.
    pub base: u64,
    /// The digest of the proposed text (SHA-256): with it, what is applied is what was looked at.
    #[serde(default)]
    pub digest: String,
    /// Errors found in it; with any, it cannot be applied, and there are no changes.
    pub errors: usize,
    /// What is wrong with it or worth a second look, by position.
    pub diagnostics: Vec<config::Diagnostic>,
    /// The same as text for a terminal; empty where nothing is wrong.
    pub report: String,
    /// What would change, with the consequences.
    pub changes: Vec<Change>,
    /// The difference of the two texts, as `diff -u` shows it; empty where there is none.
    pub diff: String,
}

/// How it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct InForce {
    /// The revision in force.
    pub revision: Revision,
    /// The cluster file.
    pub path: String,
    /// Why the file is not what is in force: it was edited or cannot be read; none: it is.
    pub file_differs: Option<String>,
    /// What waits until the SCS is started anew.
    pub waits_for_restart: Vec<Change>,
}

/// Why a configuration was not applied. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// It has errors.
    #[error("the configuration has errors")]
    Invalid(Box<Outlook>),
    /// It was made from another than that in force.
    #[error(
        "it was made from revision {base}, and revision {} is in force, by {}; look at what that changed, and apply yours on \
         top of it", .now.number, .now.who
    )]
    Outdated {
        /// What it was made from.
        base: u64,
        /// What is in force.
        now: Box<Revision>,
    },
    /// Somebody has edited the file and not had it read.
    #[error(
        "the cluster file {path} was edited since revision {number} was put in force; `takeover config reload` applies it, and \
         `takeover config rollback {number}` puts it back"
    )]
    FileEdited {
        /// The file.
        path: String,
        /// What is in force.
        number: u64,
    },
    /// It is another text than the one that was looked at.
    #[error("the file has changed since it was looked at; look at what it says now, and apply that")]
    Moved,
    /// There is no such revision.
    #[error("there is no revision {0}; see `takeover config history`")]
    Unknown(u64),
    /// The file cannot be written.
    #[error(
        "the cluster file {path} cannot be written, so that a restart would undo the change: {source}; make it writable for \
         the SCS, or edit it on the SCS's host and `takeover config reload`"
    )]
    File {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The store cannot be read.
    #[error("the store cannot be read")]
    Store(#[from] QueryError),
    /// The SCS is shutting down.
    #[error(transparent)]
    Gone(#[from] Gone),
}

/// The configuration, for any thread. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Configuration(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    /// What the SCS was started with.
    started: Cluster,
    now: Mutex<Now>,
}

/// What is in force. Held while another is applied, so that there is one at a time.
#[derive(Debug)]
struct Now {
    revision: Revision,
    text: String,
    cluster: Cluster,
}

impl Configuration {
    /// The configuration that the SCS starts with. It is a new revision unless the newest one has the same text.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn start(
        path: PathBuf,
        text: String,
        cluster: Cluster,
        store: &Store,
        at: Micros,
    ) -> Result<Self, QueryError> {
        // The working directory is of no use to whoever reads it elsewhere.
        let path = std::path::absolute(&path).unwrap_or(path);
        let newest = store.revisions()?.into_iter().next();
        let digest = digest_of(&text);
        let revision = match newest {
            Some(known) if known.digest == digest => known,
            before => {
                let number = before.as_ref().map_or(1, |before| before.number + 1);
                let kept = before.map(|before| store.revision(before.number)).transpose()?.flatten();
                let old = kept.and_then(|(_, text)| config::parse_cluster("kept", &text).ok());
                let changes = old.map(|(old, _)| config::plan(&old, &cluster)).unwrap_or_default();
                let (who, reason) = ("the SCS".to_owned(), String::new());
                let revision = Revision { number, at, who, how: How::Started, reason, digest, changes };
                store.write(StoreItem::Configuration(Box::new(revision.clone()), text.clone()));
                revision
            }
        };
        let now = Mutex::new(Now { revision, text, cluster: cluster.clone() });
        Ok(Self(Arc::new(Shared { path, started: cluster, now })))
    }

    /// How it is. Reads the cluster file.
    #[must_use]
    pub fn in_force(&self) -> InForce {
        let now = self.now();
        let waits_for_restart = config::plan(&self.0.started, &now.cluster);
        InForce {
            revision: now.revision.clone(),
            path: self.0.path.display().to_string(),
            file_differs: self.file_differs(&now),
            waits_for_restart: waits_for_restart.into_iter().filter(Change::waits_for_restart).collect(),
        }
    }

    /// The revision in force with its text, which has secrets in it.
    #[must_use]
    pub fn text(&self) -> (u64, String) {
        let now = self.now();
        (now.revision.number, now.text.clone())
    }

    /// The configurations that were in force, without their texts, the newest first.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn revisions(&self, store: &Store) -> Result<Vec<Revision>, QueryError> {
        let newest = self.now().revision.clone();
        let mut all = store.revisions()?;
        // It may be on its way to the disk.
        if all.first().is_none_or(|kept| kept.number < newest.number) {
            all.insert(0, newest);
        }
        Ok(all)
    }

    /// The text of a configuration that was in force, which has secrets in it.
    ///
    /// # Errors
    /// [`ApplyError::Unknown`], [`ApplyError::Store`].
    pub fn text_of(&self, revision: u64, store: &Store) -> Result<String, ApplyError> {
        self.resolve(&Text::OfRevision(revision), &self.now(), store)
    }

    /// What a proposal would do; `name` is what a report calls it.
    ///
    /// # Errors
    /// [`ApplyError::Unknown`], [`ApplyError::Store`], and [`ApplyError::File`] where the file cannot be read.
    pub fn outlook(&self, text: &Text, name: &str, store: &Store) -> Result<Outlook, ApplyError> {
        let now = self.now();
        let text = self.resolve(text, &now, store)?;
        Ok(now.outlook(&text, name).0)
    }

    /// Puts a configuration in force: it is written to the cluster file, then everybody concerned is told. The number of the
    /// revision in force, and what changed; nothing where it is the one in force already.
    ///
    /// # Errors
    /// [`ApplyError`]; nothing has changed.
    pub fn apply(&self, proposal: Proposal, handle: &Handle, at: Micros) -> Result<Revision, ApplyError> {
        let Proposal { text: source, base, digest, who, reason } = proposal;
        let mut now = self.now();
        // Not before it is our turn: what the file says until then may be what another has just replaced.
        let text = self.resolve(&source, &now, handle.store())?;
        if let Some(base) = base.filter(|base| *base != now.revision.number) {
            return Err(ApplyError::Outdated { base, now: Box::new(now.revision.clone()) });
        }
        if digest.is_some_and(|digest| digest != digest_of(&text)) {
            return Err(ApplyError::Moved);
        }
        let (outlook, cluster) = now.outlook(&text, NAME);
        let Some(cluster) = cluster else { return Err(ApplyError::Invalid(Box::new(outlook))) };
        let path = || self.0.path.display().to_string();
        let how = match source {
            Text::OfTheFile => How::Reloaded,
            Text::Sent(_) => How::Applied,
            Text::OfRevision(to) => How::RolledBack { to },
        };
        // Back to what is in force: that is how an edit is thrown away.
        let discards = how == How::RolledBack { to: now.revision.number };
        if how != How::Reloaded && !discards {
            let edited = ApplyError::FileEdited { path: path(), number: now.revision.number };
            match self.read() {
                Ok(text) if text == now.text => {}
                // It is not there: that is said below.
                Err(_) if !self.0.path.exists() => {}
                // One that cannot be read is somebody's, too.
                Ok(_) | Err(_) => return Err(edited),
            }
        }
        if how != How::Reloaded {
            replace(&self.0.path, &text).map_err(|source| ApplyError::File { path: path(), source })?;
        }
        if text == now.text {
            return Ok(now.revision.clone());
        }
        let number = now.revision.number + 1;
        let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        if let Err(gone) = handle.apply(cluster.clone(), format!("revision {number} by {who}{why}")) {
            // What is not in force must not come with the next start.
            if how != How::Reloaded {
                replace(&self.0.path, &now.text)
                    .map_err(|source| ApplyError::File { path: path(), source })?;
            }
            return Err(gone.into());
        }
        let digest = digest_of(&text);
        let revision = Revision { number, at, who, how, reason, digest, changes: outlook.changes };
        handle.store().write(StoreItem::Configuration(Box::new(revision.clone()), text.clone()));
        *now = Now { revision: revision.clone(), text, cluster };
        Ok(revision)
    }

    fn resolve(&self, text: &Text, now: &Now, store: &Store) -> Result<String, ApplyError> {
        match text {
            Text::Sent(text) => Ok(text.clone()),
            Text::OfTheFile => self.read().map_err(|report| ApplyError::File {
                path: self.0.path.display().to_string(),
                source: io::Error::other(report.render(false)),
            }),
            Text::OfRevision(number) if now.revision.number == *number => Ok(now.text.clone()),
            Text::OfRevision(number) => {
                let found = store.revision(*number)?;
                found.map(|(_, text)| text).ok_or(ApplyError::Unknown(*number))
            }
        }
    }

    fn read(&self) -> Result<String, Box<Report>> {
        config::read_text(&self.0.path)
    }

    fn file_differs(&self, now: &Now) -> Option<String> {
        match self.read() {
            Ok(text) if text == now.text => None,
            Ok(_) => Some("it was edited and not applied; `takeover config reload` applies it".to_owned()),
            Err(report) => Some(report.render(false)),
        }
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        // What is behind it is replaced as a whole.
        self.0.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Now {
    /// What this text would do, and what it says where it can be used.
    fn outlook(&self, text: &str, name: &str) -> (Outlook, Option<Cluster>) {
        let (report, cluster) = match config::parse_cluster(name, text) {
            Ok((cluster, report)) => (report, Some(cluster)),
            Err(report) => (*report, None),
        };
        let changes = cluster.as_ref().map(|new| config::plan(&self.cluster, new)).unwrap_or_default();
        let mut compare = similar::TextDiff::configure();
        let diff = compare.timeout(DIFF_LIMIT).diff_lines(self.text.as_str(), text);
        let names = (format!("revision {}", self.revision.number), "proposed".to_owned());
        let diff = diff.unified_diff().context_radius(3).header(&names.0, &names.1).to_string();
        let outlook = Outlook {
            base: self.revision.number,
            digest: digest_of(text),
            errors: report.errors,
            report: if report.diagnostics.is_empty() { String::new() } else { report.render(false) },
            diagnostics: report.diagnostics,
            changes,
            diff,
        };
        (outlook, cluster)
    }
}

fn digest_of(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Replaces the contents of a file, all or nothing, whatever happens meanwhile; owner and mode stay.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    // A link stays one.
    let path = path.canonicalize()?;
    let before = path.metadata()?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy().into_owned();
    let beside = path.with_file_name(format!(".{name}.new"));
    let written = || -> io::Result<()> {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.set_permissions(Permissions::from_mode(before.mode() & 0o7777))?;
        if (file.metadata()?.uid(), file.metadata()?.gid()) != (before.uid(), before.gid()) {
            fchown(&file, Some(before.uid()), Some(before.gid()))?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, &path)
    }();
    if written.is_err() {
        // What is left of it is of no use to anybody.
        let _ = std::fs::remove_file(&beside);
        return written;
    }
    // It is there, whatever comes of this: only a crash of the machine might undo it.
    let directory = path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all());
    if let Err(e) = directory {
        eprintln!("takeover scs: {} may not be on the disk yet: {e}", path.display());
    }
    Ok(())
}
