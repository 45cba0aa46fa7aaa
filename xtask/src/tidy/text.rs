//! Rules about single files, read as lines of text: what each opens with, how long it may be, and words that must
//! not be left in it. What the compiler or clippy already refuses is left to them.

use super::{Finding, Source};

/// The longest file, in lines; a longer one does more than one thing.
const MAX_LINES: usize = 700;
/// The longest file of tests, in lines.
const MAX_TEST_LINES: usize = 1_000;
/// The longest line, in characters. rustfmt breaks code at 110; this bounds what it leaves alone.
const MAX_WIDTH: usize = 130;

/// What must not be in Rust code, and what to do instead. Written in pieces so that this file passes its own rules.
const FORBIDDEN: &[(&str, &str)] = &[
    (concat!("todo", "!("), "write it, or leave it out and say so in the documentation"),
    (concat!("unimplemented", "!("), "write it, or leave it out and say so in the documentation"),
    (concat!("dbg", "!("), "remove it"),
    (
        concat!("#[", "ignore"),
        "make the test run in time, or put it behind an environment variable with a small default",
    ),
];

/// The lint that is not to be silenced.
const UNUSED: &str = "dead_code";

/// Beginnings of paths that only exist on somebody's machine.
const MACHINE_PATHS: &[&str] =
    &[concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/Us", "ers/")];

/// Checks one file against the rules for its kind.
pub fn check(source: &Source) -> Vec<Finding> {
    let mut findings = machine_paths(source);
    if source.is("rs") {
        findings.extend(opening(source));
        findings.extend(length(source));
        findings.extend(lines_of_code(source));
    }
    findings
}

fn opening(source: &Source) -> Option<Finding> {
    let opens = source.text.starts_with("//!");
    (!opens).then(|| {
        Finding::new(&source.path, 1, "open with `//!`: what the file is for and what it leaves to others")
    })
}

fn length(source: &Source) -> Option<Finding> {
    let limit = if is_test_file(&source.path) { MAX_TEST_LINES } else { MAX_LINES };
    let lines = source.text.lines().count();
    (lines > limit).then(|| {
        Finding::new(&source.path, limit + 1, format!("{lines} lines, at most {limit}: split by topic"))
    })
}

fn lines_of_code(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in source.lines() {
        let mut find = |message: String| findings.push(Finding::new(&source.path, number, message));
        for (word, remedy) in FORBIDDEN {
            if line.contains(word) {
                find(format!("`{word}`: {remedy}"));
            }
        }
        if line.contains(UNUSED) && ["allow(", "expect("].iter().any(|attribute| line.contains(attribute)) {
            find("code that nothing uses: use it or remove it".to_owned());
        }
        if line.ends_with([' ', '\t']) {
            find("white space at the end of the line: remove it".to_owned());
        }
        let width = line.chars().count();
        if width > MAX_WIDTH {
            find(format!("{width} characters, at most {MAX_WIDTH}: break the line"));
        }
    }
    findings
}

fn machine_paths(source: &Source) -> Vec<Finding> {
    let found = source.lines().filter_map(|(number, line)| {
        let path = MACHINE_PATHS.iter().find(|path| begins_a_path(line, path))?;
        Some(Finding::new(
            &source.path,
            number,
            format!("`{path}` is a path of one machine: make it relative or an argument"),
        ))
    });
    found.collect()
}

/// Whether `start` stands in the line where a path begins, not inside a longer one.
fn begins_a_path(line: &str, start: &str) -> bool {
    line.match_indices(start).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|before| before.is_alphanumeric() || "/._-~}>".contains(before))
    })
}

fn is_test_file(path: &str) -> bool {
    let mut parts = path.split('/');
    parts.next_back() == Some("tests.rs") || parts.any(|directory| directory == "tests")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(path: &str, text: &str) -> Vec<String> {
        check(&Source { path: path.into(), text: text.into() }).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_tidy_file_has_no_findings() {
        assert_eq!(messages("a.rs", "//! What it is for.\n\nfn main() {}\n"), Vec::<String>::new());
    }

    #[test]
    fn every_file_opens_with_its_purpose() {
        assert_eq!(messages("a.rs", "fn main() {}\n").len(), 1);
        assert_eq!(messages("a.rs", "").len(), 1);
        assert_eq!(messages("notes.md", "# Notes\n").len(), 0, "only Rust files");
    }

    #[test]
    fn length_is_bounded_and_tests_may_be_longer() {
        let lines = |n: usize| format!("//! x\n{}", "\n".repeat(n - 1));
        assert_eq!(messages("a.rs", &lines(MAX_LINES)).len(), 0);
        assert!(messages("a.rs", &lines(MAX_LINES + 1))[0].starts_with("a.rs:701: 701 lines"));
        for path in ["src/tests.rs", "crates/x/tests/it.rs", "tests/src/lab.rs"] {
            assert_eq!(messages(path, &lines(MAX_TEST_LINES)).len(), 0, "{path}");
            assert_eq!(messages(path, &lines(MAX_TEST_LINES + 1)).len(), 1, "{path}");
        }
        assert_eq!(messages("src/my_tests.rs", &lines(MAX_TEST_LINES)).len(), 1);
    }

    #[test]
    fn unfinished_work_is_found_with_its_line() {
        for (word, _) in FORBIDDEN {
            let found = messages("a.rs", &format!("//! x\nfn a() {{}}\n    {word})\n"));
            assert!(found.len() == 1 && found[0].starts_with("a.rs:3: "), "{word}: {found:?}");
        }
        for allowance in ["#[allow(dead_", "#![allow(unused, dead_", "#[expect(dead_"] {
            assert_eq!(messages("a.rs", &format!("//! x\n{allowance}code)]\n")).len(), 1, "{allowance}");
        }
    }

    #[test]
    fn lines_are_short_and_end_in_text() {
        let long = "é".repeat(MAX_WIDTH);
        assert_eq!(messages("a.rs", &format!("//! x\n// {}\n", &long[..40])).len(), 0);
        assert_eq!(messages("a.rs", &format!("//! x\n{long}\n")).len(), 0, "characters, not bytes");
        assert_eq!(messages("a.rs", &format!("//! x\n{long}y\n")).len(), 1);
        assert_eq!(messages("a.rs", "//! x \n").len(), 1);
        assert_eq!(messages("a.rs", "//! x\t\n").len(), 1);
    }

    #[test]
    fn paths_of_one_machine_are_found_in_every_kind_of_file() {
        for start in MACHINE_PATHS {
            for path in ["a.md", "Cargo.toml", ".ci/run", "x.sh"] {
                assert_eq!(messages(path, &format!("see \"{start}me/x\"\n")).len(), 1, "{start} in {path}");
                assert_eq!(
                    messages(path, &format!("https://example.org{start}x ~{start}\n")).len(),
                    0,
                    "{start}"
                );
            }
        }
    }
}
