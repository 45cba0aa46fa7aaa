//! Tests that the documentation says what the program does: commands and options, examples of command lines and files,
//! events, alarms, and excerpts of transcripts.

use crate::Arguments;
use clap::{Command, CommandFactory, Parser};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Options that every operator's command has; described once, in a section of their own.
const SHARED: &str = "## Options of all operator's commands";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// README and everything directly in docs/, by path from the root.
fn documents() -> Vec<String> {
    let mut paths = vec!["README.md".to_owned()];
    for entry in fs::read_dir(root().join("docs")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") {
            paths.push(format!("docs/{name}"));
        }
    }
    paths.sort();
    paths
}

/// The fenced blocks of a language, each with the line before it.
fn blocks(text: &str, language: &str) -> Vec<(String, String)> {
    let fence = format!("```{language}");
    let lines: Vec<&str> = text.lines().collect();
    let starts = lines.iter().enumerate().filter(|(_, line)| **line == fence);
    let block = |(start, _): (usize, &&str)| {
        let body: Vec<&str> = lines[start + 1..].iter().take_while(|line| **line != "```").copied().collect();
        (if start > 0 { lines[start - 1].to_owned() } else { String::new() }, body.join("\n") + "\n")
    };
    starts.map(block).collect()
}

/// The text from a heading to the next one of the same level.
fn section<'a>(text: &'a str, heading: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("\n{heading}\n"))?;
    Some(rest.split("\n## ").next().unwrap_or(rest))
}

/// Commands that do something themselves, with their whole names.
fn commands(command: &Command, name: &str, found: &mut Vec<(String, Command)>) {
    if !command.is_subcommand_required_set() {
        found.push((name.to_owned(), command.clone()));
    }
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        commands(sub, &format!("{name} {}", sub.get_name()), found);
    }
}

/// The `--options` that a text speaks of.
fn options_in(text: &str) -> BTreeSet<String> {
    let option = |part: &str| -> String {
        part.chars().take_while(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-').collect()
    };
    let mut parts = text.split("`--");
    parts.next();
    parts.map(option).collect()
}

#[test]
fn every_command_and_option_is_described_and_nothing_else() {
    let text = read("docs/commands.md");
    let shared = options_in(section(&text, SHARED).unwrap());
    let mut all = Vec::new();
    let mut command = Arguments::command();
    command.build();
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        commands(sub, &format!("takeover {}", sub.get_name()), &mut all);
    }
    let headings: BTreeSet<String> = all.iter().map(|(name, _)| format!("## `{name}`")).collect();
    let described: BTreeSet<String> =
        text.lines().filter(|line| line.starts_with("## `")).map(str::to_owned).collect();
    assert_eq!(described, headings);
    for (name, command) in &all {
        let section = section(&text, &format!("## `{name}`")).unwrap();
        let said = options_in(section);
        let mut has = BTreeSet::new();
        for argument in command.get_arguments() {
            let Some(long) = argument.get_long() else {
                let value = argument.get_value_names().map(|names| names[0].to_string()).unwrap();
                assert!(
                    section.contains(&value) || section.contains("enable|disable|status"),
                    "{name}: {value}"
                );
                continue;
            };
            has.insert(long.to_owned());
            let takes_value = argument.get_action().takes_values();
            for default in
                argument.get_default_values().iter().filter(|value| takes_value && !value.is_empty())
            {
                let default = format!("`{}`", default.to_string_lossy());
                let place = if said.contains(long) { section } else { text.as_str() };
                assert!(place.contains(&default), "{name} --{long}: the default {default} is not said");
            }
        }
        let operators =
            ["scs", "certificate", "key", "ca"].iter().all(|o| has.contains(*o)) && has.contains("json");
        for option in has.iter().filter(|o| !["help", "version"].contains(&o.as_str())) {
            let elsewhere = operators && shared.contains(option);
            assert!(said.contains(option) || elsewhere, "docs/commands.md: {name} has --{option}");
        }
        for option in &said {
            assert!(has.contains(option), "docs/commands.md: {name} has no --{option}");
        }
    }
}

/// The words of a command line, as a shell would see them; where it goes on to another program it ends.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut begun) = (Vec::new(), String::new(), None, false);
    for c in line.chars() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some(_), c) => word.push(c),
            (None, '"' | '\'') => (quote, begun) = (Some(c), true),
            (None, '|' | '>' | '#') if !begun => break,
            (None, c) if c.is_whitespace() => {
                if begun {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            (None, c) => {
                word.push(c);
                begun = true;
            }
        }
    }
    if begun {
        words.push(word);
    }
    words
}

#[test]
fn command_lines_in_the_documents_are_understood() {
    let mut seen = 0;
    for path in documents() {
        let text = read(&path);
        let consoles = blocks(&text, "console").into_iter().map(|(_, block)| block);
        for line in consoles.flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>()) {
            let Some(line) = line.strip_prefix("$ takeover ") else { continue };
            let arguments = ["takeover".to_owned()].into_iter().chain(words(line));
            if let Err(e) = Arguments::try_parse_from(arguments) {
                panic!("{path}: takeover {line}: {e}");
            }
            seen += 1;
        }
    }
    assert!(seen >= 30, "{seen} command lines were found");
}

#[test]
fn files_in_the_documents_are_good() {
    let hosts = "[hosts.host1]\naddress = \"192.0.2.11\"\n[hosts.host2]\naddress = \"192.0.2.12\"\n";
    for path in documents() {
        for (_, block) in blocks(&read(&path), "toml") {
            let report = match block.lines().next() {
                Some("# cluster file") => config::parse_cluster(&path, &block).map(|(_, report)| report),
                Some("# part of a cluster file") => {
                    config::parse_cluster(&path, &format!("{hosts}{block}")).map(|(_, report)| report)
                }
                Some("# host file") => config::parse_agent(&path, &block).map(|(_, report)| report),
                first => {
                    panic!("{path}: a toml block begins with {first:?}, which does not say what it is of")
                }
            };
            match report {
                Ok(report) => assert!(report.diagnostics.is_empty(), "{}", report.render(false)),
                Err(report) => panic!("{}", report.render(false)),
            }
        }
    }
}

#[test]
fn excerpts_are_as_their_transcripts_are() {
    let mut seen = 0;
    for path in documents() {
        for (before, block) in blocks(&read(&path), "text") {
            let Some(file) = before.strip_prefix("<!-- excerpt: ").and_then(|rest| rest.strip_suffix(" -->"))
            else {
                continue;
            };
            assert!(read(file).contains(&block), "{path}: not, or no longer, in {file}:\n{block}");
            seen += 1;
        }
    }
    assert!(seen > 0);
}

#[test]
fn every_event_is_in_the_table_and_nothing_else() {
    let text = read("docs/events.md");
    let is_row =
        |line: &&str| line.starts_with("| ") && line.as_bytes().get(2).is_some_and(u8::is_ascii_digit);
    let said: Vec<&str> = text.lines().filter(is_row).collect();
    let logged: Vec<String> = domain::REGISTRY
        .iter()
        .map(|kind| format!("| {} | {} | {} |", kind.id, kind.level, kind.text))
        .collect();
    assert_eq!(said, logged);
}

#[test]
fn every_shipped_alarm_has_advice() {
    let operations = read("docs/operations.md");
    let advised = section(&operations, "## Alarms, and what to do").unwrap();
    for (name, condition) in config::shipped_conditions() {
        let begin = format!("| `{name}` | {} |", condition.category);
        assert!(advised.contains(&begin), "docs/operations.md has no line that begins with {begin}");
    }
}
