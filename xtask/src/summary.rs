//! Reads the output of `cargo test` line by line and adds up what all test binaries report. The output format is
//! libtest's, which is stable in practice: `running N tests`, `test NAME ... FAILED`, `test result: ok. 3 passed; ...`.

use std::fmt;

use crate::again::FINAL;

/// Lines of a failed test's output that are shown once more at the end: the panic comes first.
const LINES_OF_A_FAILURE: usize = 30;

/// Characters of each.
const LINE_OF_A_FAILURE: usize = 500;

/// The sum over all test binaries of a run.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Summary {
    passed: u64,
    failed: u64,
    skipped: u64,
    /// Names of the tests that failed, in the order in which they did.
    failures: Vec<String>,
    /// Which of them have seen what must never be.
    never: Vec<String>,
    /// Names of those that passed at the second try.
    passed_again: Vec<String>,
    /// What the failed tests said, as libtest shows it after each binary, its first lines.
    said: Vec<String>,
    /// The failed test whose words are being shown.
    speaking: Option<String>,
    /// Lines of the shown test that still belong into `said`.
    listening: usize,
    /// A binary has said `running` and not yet given its result.
    running: bool,
}

impl Summary {
    /// Takes one line of the output.
    pub fn line(&mut self, line: &str) {
        self.listen(line);
        if is_start(line) {
            self.binary_ended();
            self.running = true;
        } else if let Some(result) = line.strip_prefix("test result: ") {
            self.running = false;
            self.passed += count(result, "passed");
            self.failed += count(result, "failed");
            self.skipped += count(result, "ignored");
        } else if let Some(test) = line.strip_prefix("test ")
            && let Some((name, how)) = test.rsplit_once(" ... ")
            && how.starts_with("FAILED")
        {
            self.failures.push(name.to_owned());
        }
    }

    /// Ends the run; `success` is whether Cargo itself was content.
    ///
    /// A run that failed without a failed test (it did not compile, a binary was killed) counts as one failure, so
    /// that the closing line never reads like a success.
    pub fn end(&mut self, success: bool) {
        self.binary_ended();
        if !success && self.failed == 0 {
            self.failed = 1;
            self.failures.push("cargo test itself: see the errors above".to_owned());
        }
    }

    /// A summary for a run that never came to its tests.
    pub fn not_built(what: &str) -> Self {
        Self { failed: 1, failures: vec![what.to_owned()], ..Self::default() }
    }

    /// Whether nothing failed and something ran.
    pub fn is_success(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }

    /// The names of the failed tests that may have failed by an accident.
    pub fn worth_another_try(&self) -> impl Iterator<Item = &str> {
        self.failures.iter().filter(|name| !self.never.contains(name)).map(String::as_str)
    }

    /// A test that had failed has passed at its second try.
    pub fn passed_again(&mut self, name: &str) {
        let before = self.failures.len();
        self.failures.retain(|failed| failed != name);
        let number = before - self.failures.len();
        self.failed -= number as u64;
        self.passed += number as u64;
        self.passed_again.extend(std::iter::repeat_n(name.to_owned(), number));
    }

    /// The names of the tests that passed at the second try.
    pub fn needed_two(&self) -> &[String] {
        &self.passed_again
    }

    /// The names of what failed.
    pub fn failures(&self) -> &[String] {
        &self.failures
    }

    /// The first lines of what each failed test said.
    pub fn said(&self) -> &[String] {
        &self.said
    }

    fn listen(&mut self, line: &str) {
        if let Some(speaker) = line.strip_prefix("---- ").and_then(|line| line.strip_suffix(" ----")) {
            self.listening = LINES_OF_A_FAILURE;
            self.speaking = Some(speaker.strip_suffix(" stdout").unwrap_or(speaker).to_owned());
        } else if line.starts_with("test result: ") {
            self.listening = 0;
            self.speaking = None;
        } else if line == "failures:" || line == "stack backtrace:" {
            self.listening = 0;
        }
        if line.contains(FINAL) {
            self.never.extend(self.speaking.take());
        }
        if self.listening > 0 {
            self.listening -= 1;
            self.said.push(line.chars().take(LINE_OF_A_FAILURE).collect());
        }
    }

    /// A binary that began and gave no result was killed or aborted: one failure, of which only this is known.
    fn binary_ended(&mut self) {
        if std::mem::take(&mut self.running) {
            self.failed += 1;
            self.failures.push("a test binary that ended without a result: see the errors above".to_owned());
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// `running 12 tests` or `running 1 test`.
fn is_start(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    matches!(words.as_slice(), ["running", number, "test" | "tests"] if number.parse::<u64>().is_ok())
}

/// The number before `word` in `ok. 3 passed; 0 failed; 1 ignored; ...`.
fn count(result: &str, word: &str) -> u64 {
    let words: Vec<&str> = result.split([' ', ';']).collect();
    let pair = words.windows(2).find(|pair| pair[1] == word);
    pair.and_then(|pair| pair[0].parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(output: &str, success: bool) -> Summary {
        let mut summary = Summary::default();
        output.lines().for_each(|line| summary.line(line));
        summary.end(success);
        summary
    }

    const GOOD: &str = "\
running 2 tests
test epoch::orders ... ok
test epoch::slow ... ignored, takes an hour

test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s

running 1 test
test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.11s
";

    #[test]
    fn all_binaries_are_added_up() {
        let summary = summary(GOOD, true);
        assert_eq!(summary.to_string(), "2 passed, 0 failed, 1 skipped");
        assert!(summary.is_success());
    }

    #[test]
    fn a_failed_test_is_counted_and_named() {
        let output = "running 2 tests\ntest a::b ... FAILED\ntest c ... ok\n\
                      test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out";
        let summary = summary(output, false);
        assert_eq!(summary.to_string(), "1 passed, 1 failed, 0 skipped");
        assert_eq!(summary.failures(), ["a::b"]);
        assert!(!summary.is_success());
    }

    #[test]
    fn what_a_failed_test_said_is_kept_up_to_its_backtrace() {
        let output = "running 1 test\ntest a ... FAILED\n\nfailures:\n\n---- a stdout ----\npanicked at x\n\
                      stack backtrace:\n   0: rust_begin_unwind\n\n\nfailures:\n    a\n\n\
                      test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(summary(output, false).said(), ["---- a stdout ----", "panicked at x"]);
    }

    #[test]
    fn a_story_that_failed_is_named_and_what_must_never_be_has_no_second_try() {
        let output = "running 2 tests\ntest late ... FAILED (2.50s)\n---- late ----\nafter 960 ms\nit panicked\n\
                      test twice ... FAILED (2.50s)\n---- twice ----\n14 answers of host1 (must never be)\n\n\
                      test result: FAILED. 0 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out";
        let summary = summary(output, false);
        assert_eq!(summary.failures(), ["late", "twice"]);
        assert_eq!(summary.worth_another_try().collect::<Vec<_>>(), ["late"]);
    }

    #[test]
    fn a_binary_that_dies_is_a_failure() {
        let died = format!("running 5 tests\ntest x ... ok\n{GOOD}");
        let summary = summary(&died, false);
        assert_eq!(summary.to_string(), "2 passed, 1 failed, 1 skipped");
        assert!(!summary.is_success());
    }

    #[test]
    fn the_last_binary_may_die_too() {
        assert_eq!(
            summary("running 5 tests\ntest x ... ok\n", false).to_string(),
            "0 passed, 1 failed, 0 skipped"
        );
    }

    #[test]
    fn what_does_not_compile_is_not_a_success() {
        let summary = summary("", false);
        assert_eq!(summary.to_string(), "0 passed, 1 failed, 0 skipped");
        assert_eq!(summary.failures().len(), 1);
    }

    #[test]
    fn nothing_run_is_not_a_success() {
        assert!(!summary("", true).is_success());
    }

    #[test]
    fn lines_that_a_test_prints_do_not_confuse() {
        let output =
            format!("running on two cores\n  test result: ok. 9 passed; 9 failed\ntest drive\n{GOOD}");
        assert_eq!(summary(&output, true).to_string(), "2 passed, 0 failed, 1 skipped");
    }
}
