//! What the doctor says: findings, each with what was seen, why it matters and what to do; and what follows from them.

use serde::Serialize;
use std::fmt;

/// How bad. Ordered: the greatest of all findings makes the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// As it should be.
    Good,
    /// Worth knowing; nothing need be done.
    Note,
    /// A takeover may be slower, or happen without need, or a guarantee is lower than it could be.
    Warning,
    /// A takeover is impossible, or two hosts may answer at a time.
    Error,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Level::Good => "ok",
            Level::Note => "note",
            Level::Warning => "warning",
            Level::Error => "ERROR",
        })
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad.
    pub level: Level,
    /// What was looked at; the same in every release: `clock-rate`. The chapters of `docs/doctor.md` have these names.
    pub check: &'static str,
    /// The interface, file or program that it is about, where there are several.
    pub subject: Option<String>,
    /// The value that was seen.
    pub seen: String,
    /// Why it matters; empty where all is well.
    pub why: String,
    /// Commands, or lines of files to write; empty where there is nothing to do.
    pub remedy: Vec<String>,
}

impl Finding {
    pub(crate) fn new(level: Level, check: &'static str, seen: impl Into<String>) -> Self {
        Self { level, check, subject: None, seen: seen.into(), why: String::new(), remedy: Vec::new() }
    }

    pub(crate) fn good(check: &'static str, seen: impl Into<String>) -> Self {
        Self::new(Level::Good, check, seen)
    }

    pub(crate) fn note(check: &'static str, seen: impl Into<String>) -> Self {
        Self::new(Level::Note, check, seen)
    }

    pub(crate) fn warning(check: &'static str, seen: impl Into<String>) -> Self {
        Self::new(Level::Warning, check, seen)
    }

    pub(crate) fn error(check: &'static str, seen: impl Into<String>) -> Self {
        Self::new(Level::Error, check, seen)
    }

    pub(crate) fn about(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    pub(crate) fn why(mut self, why: impl Into<String>) -> Self {
        self.why = why.into();
        self
    }

    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy.push(remedy.into());
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let about = self.subject.as_ref().map_or(String::new(), |subject| format!(" {subject}"));
        write!(f, "{:<8} {}{about}: {}", self.level, self.check, self.seen)?;
        if !self.why.is_empty() {
            write!(f, "\n           why: {}", self.why)?;
        }
        for (index, remedy) in self.remedy.iter().enumerate() {
            write!(f, "\n        {} {remedy}", if index == 0 { "remedy:" } else { "       " })?;
        }
        Ok(())
    }
}

/// Whether this host keeps the leases of a profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProfileVerdict {
    /// The profile, or the pair that has one of its own.
    pub profile: String,
    /// Why not, with the arithmetic; none: it does.
    pub flappy: Option<String>,
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Release of the kernel.
    pub kernel: String,
    /// The findings, in the order in which they are looked at.
    pub findings: Vec<Finding>,
    /// The guarantee that follows.
    pub guarantee: String,
    /// Which profiles this host can keep, as far as it was measured; empty where nothing was.
    pub profiles: Vec<ProfileVerdict>,
}

impl Report {
    /// The worst of the findings.
    #[must_use]
    pub fn worst(&self) -> Level {
        self.findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Good)
    }

    /// 0: all well; 1: warnings; 2: something makes takeover unsafe or impossible.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.worst() {
            Level::Good | Level::Note => 0,
            Level::Warning => 1,
            Level::Error => 2,
        }
    }

    fn count(&self, level: Level) -> usize {
        self.findings.iter().filter(|finding| finding.level == level).count()
    }
}

/// For a person: findings, then what follows, then the count.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        writeln!(f, "\nguarantee: {}", self.guarantee)?;
        for ProfileVerdict { profile, flappy } in &self.profiles {
            match flappy {
                None => writeln!(f, "profile {profile}: this host keeps its leases")?,
                Some(why) => writeln!(f, "profile {profile}: leases will be lost without need: {why}")?,
            }
        }
        writeln!(
            f,
            "{} errors, {} warnings, {} notes; {} checks are well",
            self.count(Level::Error),
            self.count(Level::Warning),
            self.count(Level::Note),
            self.count(Level::Good),
        )
    }
}
