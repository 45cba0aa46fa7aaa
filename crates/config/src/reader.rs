//! Reads values out of the parsed file and reports what is not as expected, where it stands. Every accessor returns
//! `None` for a value that it has reported, so that reading goes on and finds the next mistake.

use crate::report::{Diagnostic, MAX_REPORTED, Note, Report, Severity};
use crate::schema::{CLUSTER_FILE, HOST_FILE, Section};
use crate::size::{format_size, parse_size};
use domain::{format_duration, parse_duration};
use std::cell::RefCell;
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::str::FromStr;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Bytes of the file.
pub(crate) type Span = Range<usize>;

/// Longest word that a better one is looked for, bytes.
const MAX_SUGGESTED: usize = 64;

/// Collects what is wrong. Of each severity [`MAX_REPORTED`] are kept and the others counted.
pub(crate) struct Sink<'t> {
    text: &'t str,
    found: RefCell<Found>,
}

#[derive(Default)]
struct Found {
    diagnostics: Vec<Diagnostic>,
    errors: usize,
    warnings: usize,
}

/// What is wrong with a piece of the file, being put together.
pub(crate) struct Finding {
    span: Span,
    message: String,
    label: String,
    related: Option<(Span, String)>,
    help: Option<String>,
}

impl Finding {
    /// `message` about the text at `span`.
    pub(crate) fn new(span: Span, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), label: String::new(), related: None, help: None }
    }

    /// What is written under the text: what was expected.
    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Another place that it has to do with.
    pub(crate) fn related(mut self, span: Span, label: impl Into<String>) -> Self {
        self.related = Some((span, label.into()));
        self
    }

    /// What to do.
    pub(crate) fn help(mut self, help: impl Into<Option<String>>) -> Self {
        self.help = help.into();
        self
    }
}

impl<'t> Sink<'t> {
    /// For a file of this text.
    pub(crate) fn new(text: &'t str) -> Self {
        Self { text, found: RefCell::default() }
    }

    /// Reports an error; `finding` is not called when there is no room for another.
    pub(crate) fn error(&self, finding: impl FnOnce() -> Finding) {
        let mut found = self.found.borrow_mut();
        found.errors += 1;
        if found.errors <= MAX_REPORTED {
            found.diagnostics.push(self.diagnostic(Severity::Error, finding()));
        }
    }

    /// Reports a warning; `finding` is not called when there is no room for another.
    pub(crate) fn warning(&self, finding: impl FnOnce() -> Finding) {
        let mut found = self.found.borrow_mut();
        found.warnings += 1;
        if found.warnings <= MAX_REPORTED {
            found.diagnostics.push(self.diagnostic(Severity::Warning, finding()));
        }
    }

    /// Whether an error was reported.
    pub(crate) fn has_errors(&self) -> bool {
        self.found.borrow().errors > 0
    }

    /// Everything reported.
    pub(crate) fn into_report(self, path: &str) -> Report {
        let found = self.found.into_inner();
        Report::new(path, self.text, found.diagnostics, found.errors, found.warnings)
    }

    fn diagnostic(&self, severity: Severity, finding: Finding) -> Diagnostic {
        let note = |(span, label): (Span, String)| Note::new(self.text, &span, label);
        Diagnostic {
            severity,
            message: finding.message,
            at: Some(note((finding.span, finding.label))),
            related: finding.related.map(note),
            help: finding.help,
        }
    }
}

/// A table of the file; keys that its section does not have were reported when it was opened.
pub(crate) struct Table<'t> {
    /// How messages name it: `application "sip1"`.
    pub(crate) title: String,
    /// Its header, or its braces.
    pub(crate) span: Span,
    section: &'static Section,
    table: &'t DeTable<'t>,
    sink: &'t Sink<'t>,
}

impl<'t> Table<'t> {
    /// Takes `table` as one of `section`; keys that the section does not have are reported.
    pub(crate) fn new(
        sink: &'t Sink<'t>,
        table: &'t DeTable<'t>,
        span: Span,
        section: &'static Section,
        title: String,
    ) -> Self {
        for key in table.keys().filter(|key| !section.keys.contains(&key.get_ref().as_ref())) {
            sink.error(|| unknown_key(key, section, &title));
        }
        Self { title, span, section, table, sink }
    }

    /// The value of `key`, if it is there.
    pub(crate) fn get(&self, key: &'static str) -> Option<Field<'t>> {
        debug_assert!(
            self.section.keys.contains(&key),
            "{key} is missing in the schema of {}",
            self.section.path
        );
        let (key, value) = self.table.get_key_value(key)?;
        Some(Field { name: key.get_ref(), key: key.span(), value, sink: self.sink })
    }

    /// The value of `key`; its absence is reported with `example`, a line that would do.
    pub(crate) fn require(&self, key: &'static str, example: &str) -> Option<Field<'t>> {
        let field = self.get(key);
        if field.is_none() {
            self.sink.error(|| {
                Finding::new(self.span.clone(), format!("{} has no `{key}`", self.title))
                    .label(format!("`{key}` is required here"))
                    .help(format!("add a line such as: {example}"))
            });
        }
        field
    }

    /// The table as it was parsed.
    pub(crate) fn raw(&self) -> &'t DeTable<'t> {
        self.table
    }

    /// Reports an error about the table as a whole.
    pub(crate) fn error(&self, message: impl FnOnce() -> String, finding: impl FnOnce(Finding) -> Finding) {
        self.sink.error(|| finding(Finding::new(self.span.clone(), message())));
    }

    /// Reports a warning about the table as a whole.
    pub(crate) fn warning(&self, message: impl FnOnce() -> String, finding: impl FnOnce(Finding) -> Finding) {
        self.sink.warning(|| finding(Finding::new(self.span.clone(), message())));
    }

    /// The boolean at `key`, or `default` where it is not there.
    pub(crate) fn boolean(&self, key: &'static str, default: bool) -> bool {
        self.get(key).and_then(|field| field.boolean()).unwrap_or(default)
    }

    /// The duration at `key`, or `default` where it is not there.
    pub(crate) fn duration(
        &self,
        key: &'static str,
        range: RangeInclusive<Duration>,
        default: Duration,
    ) -> Duration {
        self.get(key).and_then(|field| field.duration(range)).unwrap_or(default)
    }

    /// The number at `key`, or `default` where it is not there.
    pub(crate) fn integer(&self, key: &'static str, range: RangeInclusive<u32>, default: u32) -> u32 {
        self.get(key).and_then(|field| field.integer(range)).unwrap_or(default)
    }
}

fn unknown_key(key: &Spanned<toml::de::DeString<'_>>, section: &'static Section, title: &str) -> Finding {
    let name = key.get_ref().as_ref();
    let elsewhere = || {
        // Only within the same file: the two files share no tables.
        let file = if HOST_FILE.contains(&section) { HOST_FILE } else { CLUSTER_FILE };
        let owners: Vec<String> =
            file.iter().filter(|other| other.keys.contains(&name)).map(|other| other.title()).collect();
        (!owners.is_empty()).then(|| format!("`{name}` is a key of {}", owners.join(", ")))
    };
    let help = did_you_mean(name, section.keys.iter().copied())
        .or_else(elsewhere)
        .unwrap_or_else(|| format!("keys here are: {}", section.keys.join(", ")));
    Finding::new(key.span(), format!("{title} has an unknown key {}", shown(name)))
        .label(format!("not a key of {}", section.title()))
        .help(help)
}

/// A key and its value.
#[derive(Clone)]
pub(crate) struct Field<'t> {
    /// The key; for an item of an array, the array's.
    pub(crate) name: &'t str,
    /// Where the key stands.
    pub(crate) key: Span,
    value: &'t Spanned<DeValue<'t>>,
    sink: &'t Sink<'t>,
}

impl<'t> Field<'t> {
    /// Where the value stands.
    pub(crate) fn span(&self) -> Span {
        self.value.span()
    }

    /// Reports an error about the value.
    pub(crate) fn error(&self, message: impl FnOnce() -> String, finding: impl FnOnce(Finding) -> Finding) {
        self.sink.error(|| finding(Finding::new(self.span(), message())));
    }

    /// Reports an error about the key.
    pub(crate) fn key_error(
        &self,
        message: impl FnOnce() -> String,
        finding: impl FnOnce(Finding) -> Finding,
    ) {
        self.sink.error(|| finding(Finding::new(self.key.clone(), message())));
    }

    /// Reports a warning about the key.
    pub(crate) fn key_warning(
        &self,
        message: impl FnOnce() -> String,
        finding: impl FnOnce(Finding) -> Finding,
    ) {
        self.sink.warning(|| finding(Finding::new(self.key.clone(), message())));
    }

    /// Reports a warning about the value.
    pub(crate) fn warning(&self, message: impl FnOnce() -> String, finding: impl FnOnce(Finding) -> Finding) {
        self.sink.warning(|| finding(Finding::new(self.span(), message())));
    }

    /// Whether the value is a string.
    pub(crate) fn is_string(&self) -> bool {
        self.value.get_ref().is_str()
    }

    /// Whether the value is a table.
    pub(crate) fn is_table(&self) -> bool {
        self.value.get_ref().is_table()
    }

    /// Whether the value is a table that has `key`.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.value.get_ref().get(key).is_some()
    }

    /// Whether the value is a boolean.
    pub(crate) fn is_boolean(&self) -> bool {
        self.value.get_ref().is_bool()
    }

    /// A string without control characters; `expected` says what kind of string.
    pub(crate) fn string(&self, expected: &str) -> Option<&'t str> {
        let DeValue::String(text) = self.value.get_ref() else {
            let scalar =
                matches!(self.value.get_ref(), DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_));
            self.wrong_type(expected, scalar.then(|| "put it in quotation marks".to_owned()));
            return None;
        };
        if let Some(control) = text.chars().find(|c| c.is_control()) {
            self.error(
                || format!("`{}` holds the control character {control:?}", self.name),
                |f| f.label("no control characters here"),
            );
            return None;
        }
        Some(text)
    }

    /// A string that `T` is made from.
    pub(crate) fn parsed<T: FromStr<Err: Display>>(&self, expected: &str) -> Option<T> {
        self.understood(expected, str::parse)
    }

    /// A string that `parse` understands; what it says otherwise is the message.
    pub(crate) fn understood<T, E: Display>(
        &self,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.string(expected)?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(why) => {
                self.error(|| format!("`{}`: {why}", self.name), |f| f.label(format!("expected {expected}")));
                None
            }
        }
    }

    /// One of a few words.
    pub(crate) fn choice<T: Clone>(&self, choices: &[(&'static str, T)]) -> Option<T> {
        let words = choices.iter().map(|(word, _)| *word);
        let expected = one_of(words.clone());
        let text = self.string(&expected)?;
        let found = choices.iter().find(|(word, _)| *word == text).map(|(_, value)| value.clone());
        if found.is_none() {
            self.error(
                || format!("`{}` cannot be {}", self.name, shown(text)),
                |f| f.label(format!("expected {expected}")).help(did_you_mean(text, words)),
            );
        }
        found
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&self) -> Option<bool> {
        let value = self.value.get_ref().as_bool();
        if value.is_none() {
            let quoted = self.value.get_ref().as_str().filter(|s| matches!(*s, "true" | "false"));
            self.wrong_type(
                "true or false",
                quoted.map(|s| format!("write it without quotation marks: {s}")),
            );
        }
        value
    }

    /// A whole number within `range`.
    pub(crate) fn integer(&self, range: RangeInclusive<u32>) -> Option<u32> {
        let expected = format!("a whole number, {} to {}", range.start(), range.end());
        let DeValue::Integer(number) = self.value.get_ref() else {
            let quoted = self.value.get_ref().as_str().filter(|s| s.parse::<u32>().is_ok());
            self.wrong_type(&expected, quoted.map(|s| format!("write it without quotation marks: {s}")));
            return None;
        };
        let value = u32::from_str_radix(number.as_str(), number.radix()).ok().filter(|n| range.contains(n));
        if value.is_none() {
            self.error(
                || format!("`{}` is out of range", self.name),
                |f| f.label(format!("expected {expected}")),
            );
        }
        value
    }

    /// A duration within `range`.
    pub(crate) fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let expected = format!(
            "a duration, \"{}\" to \"{}\"",
            format_duration(*range.start()),
            format_duration(*range.end())
        );
        self.within(&expected, "ms, s, m, h or d", range, parse_duration)
    }

    /// A size in bytes within `range`.
    pub(crate) fn size(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let expected =
            format!("a size, \"{}\" to \"{}\"", format_size(*range.start()), format_size(*range.end()));
        self.within(&expected, "KiB, MiB, GiB or TiB", range, parse_size)
    }

    fn within<T: PartialOrd + Copy>(
        &self,
        expected: &str,
        units: &str,
        range: RangeInclusive<T>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        if self.value.get_ref().is_integer() {
            self.wrong_type(expected, Some(format!("write it in quotation marks, with a unit: {units}")));
            return None;
        }
        let value = self.understood(expected, parse)?;
        if range.contains(&value) {
            return Some(value);
        }
        self.error(
            || format!("`{}` is out of range", self.name),
            |f| f.label(format!("expected {expected}")),
        );
        None
    }

    /// An array; its items carry the array's name.
    pub(crate) fn items(&self, expected: &str) -> Option<Vec<Field<'t>>> {
        let DeValue::Array(array) = self.value.get_ref() else {
            let words = |s: &str| s.split_whitespace().take(32).map(|w| format!("{w:?}")).collect::<Vec<_>>();
            let text = self.value.get_ref().as_str().filter(|s| s.len() <= 256);
            self.wrong_type(
                expected,
                text.map(|s| format!("write it as an array: [{}]", words(s).join(", "))),
            );
            return None;
        };
        Some(array.iter().map(|value| Field { value, ..self.clone() }).collect())
    }

    /// A table of `section`.
    pub(crate) fn table(&self, section: &'static Section, title: String) -> Option<Table<'t>> {
        // A table that has its own header is written so; one that is part of another is usually written in braces.
        let headed = section.path.ends_with("NAME") || !section.path.contains('.');
        let remedy = headed.then(|| format!("write it as a table: {}", section.title()));
        let expected = format!("a table; its keys: {}", section.keys.join(", "));
        let table = self.raw_table(&expected, remedy)?;
        Some(Table::new(self.sink, table, self.span(), section, title))
    }

    /// A table whose keys are names: each with its value.
    pub(crate) fn entries(&self, expected: &str) -> Vec<Field<'t>> {
        let table = self.raw_table(expected, None).into_iter().flatten();
        table
            .map(|(key, value)| Field { name: key.get_ref(), key: key.span(), value, sink: self.sink })
            .collect()
    }

    fn raw_table(&self, expected: &str, remedy: Option<String>) -> Option<&'t DeTable<'t>> {
        let table = self.value.get_ref().as_table();
        if table.is_none() {
            self.wrong_type(expected, remedy);
        }
        table
    }

    /// Reports that the value is of another type than `expected`; `remedy` is what to write instead, if that is clear.
    pub(crate) fn wrong_type(&self, expected: &str, remedy: Option<String>) {
        let value = self.value.get_ref();
        let a = if matches!(value, DeValue::Integer(_) | DeValue::Array(_)) { "an" } else { "a" };
        self.error(
            || format!("`{}` is of the wrong type: {a} {}", self.name, value.type_str()),
            |f| f.label(format!("expected {expected}")).help(remedy),
        );
    }
}

/// `did you mean "x"?` where a candidate is near enough: a third of its length, at least one, in letters added,
/// dropped, changed or swapped.
pub(crate) fn did_you_mean<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<String> {
    if word.len() > MAX_SUGGESTED {
        return None;
    }
    let distance = |candidate: &str| strsim::osa_distance(&word.to_lowercase(), &candidate.to_lowercase());
    candidates
        .filter(|candidate| candidate.len() <= MAX_SUGGESTED)
        .map(|candidate| (distance(candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .min()
        .map(|(_, candidate)| format!("did you mean {candidate:?}?"))
}

/// `"a", "b" or "c"`.
pub(crate) fn one_of<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.map(|word| format!("{word:?}")).collect();
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        Some((only, _)) => only.clone(),
        None => "nothing".to_owned(),
    }
}

/// A word of the file as messages show it: quoted, cut where it is long.
pub(crate) fn shown(word: &str) -> String {
    let cut = word.floor_char_boundary(MAX_SUGGESTED);
    if cut < word.len() { format!("{:?}...", &word[..cut]) } else { format!("{word:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_suggested_and_far_ones_are_not() {
        let keys = ["host", "command", "start-limit", "stop-limit"];
        for (word, expected) in [
            ("hots", Some("did you mean \"host\"?")),
            ("Command", Some("did you mean \"command\"?")),
            ("strat-limit", Some("did you mean \"start-limit\"?")),
            ("colour", None),
        ] {
            assert_eq!(did_you_mean(word, keys.into_iter()).as_deref(), expected, "{word}");
        }
        assert_eq!(did_you_mean(&"host".repeat(100), keys.into_iter()), None);
    }

    #[test]
    fn choices_are_listed_in_words() {
        assert_eq!(one_of(["a", "b", "c"].into_iter()), "\"a\", \"b\" or \"c\"");
        assert_eq!(one_of(["a"].into_iter()), "\"a\"");
    }
}
