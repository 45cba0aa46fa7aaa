//! `cargo xtask tidy`: the rules of CONTRIBUTING.md that a program can check. This file walks the tree, gathers the
//! findings and prints them as `file:line: message`; the rules are in the modules below it, as functions of text.

mod arrows;
mod documents;
mod manifests;
mod metadata;
mod text;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::process::root;
use metadata::Metadata;

/// Something to put right, where it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    /// Relative to the root of the repository.
    path: String,
    /// Counted from one.
    line: usize,
    /// What is wrong and what to do.
    message: String,
}

impl Finding {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// A text file of the repository.
struct Source {
    /// Relative to the root of the repository, with `/`.
    path: String,
    text: String,
}

impl Source {
    fn is(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|found| found == extension)
    }

    fn is_shell_script(&self) -> bool {
        let first = self.text.lines().next().unwrap_or_default();
        self.is("sh") || (first.starts_with("#!") && first.ends_with("sh"))
    }

    /// The lines with their numbers, counted from one.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines())
    }
}

/// Checks the repository and prints what it finds; `Ok(false)` when there was something.
///
/// # Errors
/// When files cannot be read or Cargo cannot describe the workspace.
pub fn run() -> Result<bool> {
    let sources = sources()?;
    let metadata = Metadata::load()?;
    let mut findings: Vec<Finding> = sources.iter().flat_map(text::check).collect();
    findings.extend(arrows::check(&metadata, &sources));
    findings.extend(manifests::check(&metadata, &sources));
    findings.extend(documents::check(&sources, root()));
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => println!("tidy: {} files, nothing to put right", sources.len()),
        n => println!("tidy: {} files, {n} to put right", sources.len()),
    }
    Ok(findings.is_empty())
}

/// The shell scripts of the repository, relative to its root.
///
/// # Errors
/// When files cannot be read.
pub fn shell_scripts() -> Result<Vec<String>> {
    Ok(sources()?.into_iter().filter(Source::is_shell_script).map(|source| source.path).collect())
}

/// Every text file that a rule is about. Walks the tree rather than asking git, so that it also works in an unpacked
/// archive and sees a file before it is committed.
fn sources() -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    let mut directories = vec![root().to_path_buf()];
    while let Some(directory) = directories.pop() {
        let entries =
            fs::read_dir(&directory).with_context(|| format!("cannot list {}", directory.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot list {}", directory.display()))?;
            // The kind of the entry itself: a symbolic link is neither and is not followed, so the walk ends.
            let kind = entry.file_type().context("cannot read a directory entry")?;
            if kind.is_dir() && is_ours(&entry.file_name().to_string_lossy()) {
                directories.push(entry.path());
            } else if kind.is_file() && entry.file_name() != ".git" {
                // (In a further work tree that is a file, and names a place outside.)
                sources.extend(source(entry.path())?);
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(sources)
}

/// Whether a directory holds our text, as opposed to what programs produce.
fn is_ours(directory: &str) -> bool {
    match directory {
        ".ci" | ".cargo" | ".github" => true,
        "target" => false,
        other => !other.starts_with('.'),
    }
}

/// Reads a file that a rule may be about: Rust, Markdown, TOML, shell, and what has no extension (scripts).
fn source(path: PathBuf) -> Result<Option<Source>> {
    let extension = path.extension().map(|extension| extension.to_string_lossy().into_owned());
    if !matches!(extension.as_deref(), None | Some("rs" | "md" | "toml" | "sh")) {
        return Ok(None);
    }
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let relative = path.strip_prefix(root()).context("the walk left the repository")?;
    let path = relative.to_string_lossy().into_owned();
    Ok(Some(Source { path, text: String::from_utf8_lossy(&bytes).into_owned() }))
}

/// The line of `path` that starts with `prefix`, or its first: where a finding about a whole file points to.
fn line_of(sources: &[Source], path: &str, prefix: &str) -> usize {
    let source = sources.iter().find(|source| source.path == path);
    source
        .and_then(|source| source.lines().find(|(_, line)| line.starts_with(prefix)))
        .map_or(1, |(number, _)| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_walk_sees_this_file_and_the_hidden_script_but_no_product_of_the_build() {
        let sources = sources().expect("readable tree");
        let has = |path: &str| sources.iter().any(|source| source.path == path);
        assert!(has("xtask/src/tidy.rs"));
        assert!(has(".ci/run"));
        assert!(!sources.iter().any(|source| source.path.starts_with("target/")));
    }

    #[test]
    fn scripts_are_known_by_name_or_first_line() {
        let script =
            |path: &str, text: &str| Source { path: path.into(), text: text.into() }.is_shell_script();
        assert!(script("a.sh", ""));
        assert!(script(".ci/run", "#!/usr/bin/env bash\n"));
        assert!(!script("tool", "#!/usr/bin/python3\n"));
        assert!(!script("LICENSE", "Apache"));
    }

    #[test]
    fn a_finding_can_be_clicked() {
        assert_eq!(Finding::new("a/b.rs", 7, "wrong").to_string(), "a/b.rs:7: wrong");
    }
}
