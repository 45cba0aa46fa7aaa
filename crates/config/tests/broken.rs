//! Golden tests: what is said about files that are wrong. Each `broken/*.toml` (cluster files) and `broken-host/*.toml`
//! (host files) has the expected report beside it; `UPDATE_GOLDEN=1` rewrites them, and then each line that moved wants
//! to be read by somebody.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use config::{EXIT_CODE_ERRORS, Report, parse_agent, parse_cluster};
use std::fs;
use std::path::{Path, PathBuf};

/// The only file of them that can be used.
const ONLY_WARNINGS: &str = "warnings";

fn reports(directory: &str, check: impl Fn(&str, &str) -> Report) -> usize {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(directory);
    let mut files: Vec<PathBuf> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    let mut wrong = Vec::new();
    for file in &files {
        let name = file.file_name().unwrap().to_str().unwrap();
        let report = check(name, &fs::read_to_string(file).unwrap());
        let usable = file.file_stem().unwrap() == ONLY_WARNINGS;
        assert_eq!(report.exit_code(), if usable { 0 } else { EXIT_CODE_ERRORS }, "{name}");
        assert!(!report.diagnostics.is_empty(), "{name} must have something to say");
        let golden = file.with_extension("txt");
        let rendered = report.render(false);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&golden, rendered).unwrap();
        } else if fs::read_to_string(&golden).unwrap_or_default() != rendered {
            wrong.push(format!("{name} now says:\n{rendered}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    files.len()
}

#[test]
fn broken_cluster_files_are_explained() {
    let files = reports("broken", |name, text| match parse_cluster(name, text) {
        Ok((_, warnings)) => warnings,
        Err(report) => *report,
    });
    assert!(files >= 35, "only {files} broken files");
}

#[test]
fn broken_host_files_are_explained() {
    let files = reports("broken-host", |name, text| match parse_agent(name, text) {
        Ok((_, warnings)) => warnings,
        Err(report) => *report,
    });
    assert!(files >= 4, "only {files} broken files");
}
