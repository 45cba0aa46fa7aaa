//! Where verbs speak: results on standard output, as text or JSON; failures and questions on standard error.

use super::Failure;
use crate::client::ClientError;
use crate::render::Look;
use serde::Serialize;
use std::error::Error;
use std::io::{self, BufRead, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

pub(super) struct Out {
    pub(super) json: bool,
    pub(super) look: Look,
    /// What was said, where it is kept and not printed.
    kept: Option<Mutex<String>>,
}

impl Out {
    pub(super) fn new(json: bool) -> Self {
        Self { json, look: Look::of_stdout(), kept: None }
    }

    /// One that prints nothing: what it was told is given back by [`Out::into_kept`].
    pub(super) fn keeping(json: bool) -> Self {
        Self { kept: Some(Mutex::default()), ..Self::new(json) }
    }

    /// What was said, results and remarks in their order; nothing where it was printed.
    pub(super) fn into_kept(self) -> String {
        self.kept.map(|kept| kept.into_inner().unwrap_or_else(PoisonError::into_inner)).unwrap_or_default()
    }

    /// Keeps `text` and says so, or leaves it to be printed.
    fn keeps(&self, text: &str) -> bool {
        self.kept
            .as_ref()
            .map(|kept| kept.lock().unwrap_or_else(PoisonError::into_inner).push_str(text))
            .is_some()
    }

    /// Text that ends with a line break.
    pub(super) fn text(&self, text: &str) -> Result<(), Failure> {
        if self.keeps(text) {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        Ok(stdout.flush()?)
    }

    pub(super) fn line(&self, line: &str) -> Result<(), Failure> {
        self.text(&format!("{line}\n"))
    }

    /// One JSON value, for people's eyes as well.
    pub(super) fn json(&self, value: &impl Serialize) -> Result<(), Failure> {
        self.line(&serde_json::to_string_pretty(value).map_err(io::Error::other)?)
    }

    /// One JSON value on a line, where more follow.
    pub(super) fn json_line(&self, value: &impl Serialize) -> Result<(), Failure> {
        self.line(&serde_json::to_string(value).map_err(io::Error::other)?)
    }

    /// A remark that is not the result.
    pub(super) fn remark(&self, text: &str) {
        if self.keeps(&format!("{text}\n")) {
            return;
        }
        // Where standard error is closed, nobody wants remarks.
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// Says why a verb failed, with all causes; with `--json` a problem of the API also as the result.
    pub(super) fn fail(&self, failure: &Failure) {
        if let (true, Failure::Client(ClientError::Problem(problem))) = (self.json, failure) {
            // The exit code says the same.
            let _ = self.json(problem);
        }
        self.remark(&format!("error: {}", with_causes(failure)));
    }

    /// Asks, where somebody sits at a terminal; elsewhere whoever wrote the script has thought about it.
    pub(super) fn confirm(&self, question: &str) -> Result<(), Failure> {
        if !io::stdin().is_terminal() {
            return Ok(());
        }
        write!(io::stderr(), "{question} [y/N] ")?;
        io::stderr().flush()?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        match answer.trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => Err(Failure::NotConfirmed),
        }
    }
}

/// An error with all that led to it.
pub(super) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
