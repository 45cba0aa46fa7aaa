//! What is wrong with a file, in an order and a form that a person can work through: the most that [`MAX_REPORTED`]
//! allows, by position, each with the line it is about.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// Most errors, and most warnings, that a report lists; of more it tells the number.
pub const MAX_REPORTED: usize = 50;

/// Exit code of a command whose file has errors.
pub const EXIT_CODE_ERRORS: u8 = 2;

/// Keys whose values are secrets, or would be if somebody wrote them.
const SECRET_KEYS: [&str; 3] = ["sha256", "md5", "password"];

/// Longest piece of a line that is shown, bytes either side of what is underlined.
const MAX_SHOWN: usize = 512;

/// How bad.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used; this is probably not what was meant.
    Warning,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Diagnostic {
    /// How bad.
    pub severity: Severity,
    /// What is wrong, one sentence, lower case.
    pub message: String,
    /// The text it is about, and what was expected there; none: it is about the file as a whole.
    pub at: Option<Note>,
    /// Another place that it has to do with.
    pub related: Option<Note>,
    /// What to do.
    pub help: Option<String>,
}

/// A remark on a piece of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Note {
    /// Which bytes; never more than one line.
    pub span: Range<usize>,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is written under the text.
    pub label: String,
}

/// Everything that is wrong with a file. Without errors the file can be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The file, as it was named.
    pub path: String,
    /// What is wrong, by position in the file.
    pub diagnostics: Vec<Diagnostic>,
    /// Errors found.
    pub errors: usize,
    /// Warnings found.
    pub warnings: usize,
    /// The file's text, to show lines of.
    #[serde(skip)]
    text: String,
}

impl Report {
    /// Sorts what was found. The counts are of everything found, of which `found` may be a part.
    pub(crate) fn new(
        path: &str,
        text: &str,
        mut found: Vec<Diagnostic>,
        errors: usize,
        warnings: usize,
    ) -> Self {
        found.sort_by_key(|d| (d.at.as_ref().map(|note| note.span.start), d.severity));
        Self { path: path.to_owned(), text: masked(text), diagnostics: found, errors, warnings }
    }

    /// A report of one error about the file as a whole: it could not be read.
    pub(crate) fn unreadable(path: &str, message: String, help: &str) -> Box<Self> {
        let help = Some(help.to_owned());
        let error = Diagnostic { severity: Severity::Error, message, at: None, related: None, help };
        Box::new(Self::new(path, "", vec![error], 1, 0))
    }

    /// Adds a warning about the file as a whole.
    pub(crate) fn warn(&mut self, message: &str, help: &str) {
        let (message, help) = (message.to_owned(), Some(help.to_owned()));
        let warning = Diagnostic { severity: Severity::Warning, message, at: None, related: None, help };
        self.diagnostics.insert(0, warning);
        self.warnings += 1;
    }

    /// Whether there are errors.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// The exit code of a command that did nothing but check: 0, or [`EXIT_CODE_ERRORS`].
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if self.has_errors() { EXIT_CODE_ERRORS } else { 0 }
    }

    /// The report as text for a person, with a summary as its last line; in colours (ANSI) where `colour`.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let mut out = String::new();
        for diagnostic in &self.diagnostics {
            out.push_str(&renderer.render(&[self.group(diagnostic)]));
            out.push_str("\n\n");
        }
        out.push_str(&self.summary());
        out.push('\n');
        out
    }

    /// One line: the file and how much is wrong with it.
    #[must_use]
    pub fn summary(&self) -> String {
        let count = |n: usize, what: &str| match n {
            0 => None,
            1 => Some(format!("1 {what}")),
            n => Some(format!("{n} {what}s")),
        };
        let parts: Vec<String> =
            [count(self.errors, "error"), count(self.warnings, "warning")].into_iter().flatten().collect();
        let hidden = self.errors + self.warnings - self.diagnostics.len();
        let more = if hidden == 0 { String::new() } else { format!(" ({hidden} of them not shown)") };
        if parts.is_empty() {
            format!("{}: no errors", self.path)
        } else {
            format!("{}: {}{more}", self.path, parts.join(", "))
        }
    }

    fn group<'a>(&'a self, diagnostic: &'a Diagnostic) -> Group<'a> {
        let level = match diagnostic.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = match &diagnostic.at {
            Some(at) => {
                let mut notes = vec![(at, AnnotationKind::Primary)];
                notes.extend(diagnostic.related.iter().map(|note| (note, AnnotationKind::Context)));
                level.primary_title(diagnostic.message.as_str()).elements(self.snippets(&notes))
            }
            // Without a place to show, the path goes into the sentence.
            None => Group::with_title(level.primary_title(format!("{}: {}", self.path, diagnostic.message))),
        };
        if let Some(help) = &diagnostic.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        group
    }

    /// The lines that `notes` are about: in one picture, or each in its own where a line is too long to show.
    fn snippets<'a>(
        &'a self,
        notes: &[(&'a Note, AnnotationKind)],
    ) -> Vec<Snippet<'a, annotate_snippets::Annotation<'a>>> {
        let annotation = |note: &'a Note, kind: AnnotationKind, from: usize| {
            kind.span(note.span.start - from..note.span.end - from).label(note.label.as_str())
        };
        let snippet = |shown: Range<usize>, line: usize| {
            Snippet::source(&self.text[shown]).line_start(line).path(self.path.as_str())
        };
        let lines: Vec<_> = notes.iter().map(|(note, _)| line_around(&self.text, note.span.start)).collect();
        if lines.iter().all(|line| line.len() <= MAX_SHOWN) {
            let first = notes.iter().map(|(note, _)| note.line).min().unwrap_or(1);
            let from = lines.iter().map(|line| line.start).min().unwrap_or(0);
            let to = lines.iter().map(|line| line.end).max().unwrap_or(0);
            let annotations = notes.iter().map(|(note, kind)| annotation(note, *kind, from));
            vec![snippet(from..to, first).annotations(annotations)]
        } else {
            let piece = |(note, kind): &(&'a Note, AnnotationKind)| {
                let line = line_around(&self.text, note.span.start);
                let from =
                    self.text.ceil_char_boundary(line.start.max(note.span.start.saturating_sub(MAX_SHOWN)));
                let to = self.text.floor_char_boundary(line.end.min(note.span.end + MAX_SHOWN));
                snippet(from..to, note.line).annotation(annotation(note, *kind, from))
            };
            notes.iter().map(piece).collect()
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(false).trim_end())
    }
}

impl std::error::Error for Report {}

impl Note {
    /// A remark on `span` of `text`, cut to the first line of it and to whole characters.
    pub(crate) fn new(text: &str, span: &Range<usize>, label: String) -> Self {
        let start = text.floor_char_boundary(span.start);
        let line = line_around(text, start);
        let start = start.min(line.end);
        let end = text.ceil_char_boundary(span.end).clamp(start, line.end);
        let end = text.floor_char_boundary(end.min(start + MAX_SHOWN));
        Self {
            line: text[..line.start].bytes().filter(|b| *b == b'\n').count() + 1,
            column: text[line.start..start].chars().count() + 1,
            span: start..end,
            label,
        }
    }
}

/// The text with the values of secret keys made unreadable, byte for byte: reports go to terminals and logs, and show
/// whole lines. Also where the file is no TOML.
pub(crate) fn masked(text: &str) -> String {
    text.split_inclusive('\n').map(masked_line).collect()
}

fn masked_line(line: &str) -> Cow<'_, str> {
    // Looked for anew only once it was passed, so that a long line is gone through once for each key.
    let mut next = SECRET_KEYS.map(|key| line.find(key));
    let mut masked = String::new();
    let mut at = 0;
    loop {
        for (key, next) in SECRET_KEYS.iter().zip(&mut next) {
            if next.is_some_and(|next| next < at) {
                *next = line[at..].find(key).map(|found| at + found);
            }
        }
        let nearest =
            SECRET_KEYS.iter().zip(&next).filter_map(|(key, next)| Some((*next)? + key.len())).min();
        let Some(behind) = nearest else { break };
        masked.push_str(&line[at..behind]);
        at = behind;
        // `sha256 = "..."`, or `"sha256" = "..."`
        let Some(value) = line[at..].trim_start_matches(['"', '\'', ' ', '\t']).strip_prefix('=') else {
            continue;
        };
        let begins = line.len() - value.len();
        let ends = begins + value.find([',', '}', '#', '\n']).unwrap_or(value.len());
        masked.push_str(&line[at..begins]);
        let hide = |c: char| match c {
            ' ' | '\t' | '\r' | '"' | '\'' => c.to_string(),
            _ => "*".repeat(c.len_utf8()),
        };
        masked.extend(line[begins..ends].chars().map(hide));
        at = ends;
    }
    if at == 0 {
        return Cow::Borrowed(line);
    }
    masked.push_str(&line[at..]);
    Cow::Owned(masked)
}

/// The line that holds byte `at` of `text`, without its line break.
fn line_around(text: &str, at: usize) -> Range<usize> {
    let start = text[..at].rfind('\n').map_or(0, |i| i + 1);
    let end = text[at..].find('\n').map_or(text.len(), |i| at + i);
    let end = if text[start..end].ends_with('\r') { end - 1 } else { end };
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str, span: Range<usize>) -> Diagnostic {
        let at = Some(Note::new(text, &span, "label".to_owned()));
        Diagnostic { severity: Severity::Error, message: "wrong".to_owned(), at, related: None, help: None }
    }

    #[test]
    fn positions_count_characters_and_stay_in_one_line() {
        let text = "a = 1\nä = \"x\ny\"\r\n";
        let note = Note::new(text, &(11..text.len()), String::new());
        assert_eq!((note.line, note.column, &text[note.span.clone()]), (2, 5, "\"x"));
        let end = Note::new(text, &(text.len()..text.len()), String::new());
        assert_eq!((end.line, end.column), (4, 1));
        assert_eq!(&text[Note::new(text, &(14..16), String::new()).span], "y\"");
    }

    #[test]
    fn secrets_are_masked_in_place() {
        let text = "a = { sha256 = \"0f\", calls = 3, \"md5\"='ä' }\nb = 1 # md5\nmd5\npassword-file = \"/p\"\npassword = 5ec\n";
        let hidden = "a = { sha256 = \"**\", calls = 3, \"md5\"='**' }\nb = 1 # md5\nmd5\npassword-file = \"/p\"\n\
                      password = ***\n";
        assert_eq!(masked(text), hidden);
        // In linear time, also where it is one line.
        assert!(masked(&"sha256=1,".repeat(400_000)).ends_with("sha256=*,"));
        let shown = Report::new("f", text, vec![error(text, 6..12)], 1, 0).render(false);
        assert!(shown.contains("sha256") && !shown.contains("0f"), "{shown}");
    }

    #[test]
    fn what_is_not_shown_is_counted() {
        let report = Report::new("f", "x", vec![error("x", 0..1)], 80, 1);
        assert!(report.render(false).ends_with("f: 80 errors, 1 warning (80 of them not shown)\n"));
    }

    #[test]
    fn colours_come_only_when_asked_for() {
        let report = Report::new("f", "x", vec![error("x", 0..1)], 1, 0);
        assert!(!report.render(false).contains('\x1b'));
        assert!(report.render(true).contains('\x1b'));
    }

    #[test]
    fn a_long_line_is_shown_in_part() {
        let text = format!("{}HERE{}", "ä".repeat(100_000), "ö".repeat(100_000));
        let rendered = Report::new("f", &text, vec![error(&text, 200_000..200_004)], 1, 0).render(false);
        assert!(rendered.contains("HERE") && rendered.len() < 3_000, "{rendered}");
    }
}
