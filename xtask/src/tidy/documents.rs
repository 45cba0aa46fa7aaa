//! Rules about documents: every relative link leads somewhere inside the repository, and there is a change log.

use std::path::{Component, Path, PathBuf};

use super::{Finding, Source};

/// Checks all Markdown files; `root` is where they lie, to look up what they link to.
pub fn check(sources: &[Source], root: &Path) -> Vec<Finding> {
    let documents = sources.iter().filter(|source| source.is("md"));
    let mut findings: Vec<Finding> = documents.flat_map(|document| links(document, root)).collect();
    if !sources.iter().any(|source| source.path == "CHANGELOG.md" && !source.text.trim().is_empty()) {
        findings.push(Finding::new("CHANGELOG.md", 1, "missing or empty: say what changed for users"));
    }
    findings
}

fn links(document: &Source, root: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut in_code = false;
    for (number, line) in document.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        } else if !in_code {
            for target in targets(&without_code(line)) {
                let message = match resolve(&document.path, target) {
                    Some(path) if root.join(&path).exists() => continue,
                    Some(path) => {
                        format!("the link `{target}` leads to {}, which is not there", path.display())
                    }
                    None => format!("the link `{target}` leaves the repository"),
                };
                findings.push(Finding::new(&document.path, number, message));
            }
        }
    }
    findings
}

/// The line without what stands in backquotes.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join(" ")
}

/// The relative targets of a line's links: `[text](target)` and `[name]: target`.
fn targets(line: &str) -> Vec<&str> {
    let inline = line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
    let definition = line.strip_prefix('[').and_then(|rest| rest.split_once("]: ")).map(|(_, target)| target);
    let all = inline.chain(definition.and_then(|target| target.split_whitespace().next()));
    let all = all.map(|target| target.trim_start_matches('<').trim_end_matches('>'));
    // Without the anchor; what is then empty pointed into the same document.
    let paths = all.filter(|target| !is_external(target)).filter_map(|target| target.split('#').next());
    paths.filter(|path| !path.is_empty()).collect()
}

fn is_external(target: &str) -> bool {
    ["http:", "https:", "mailto:", "tel:", "sip:", "sips:"].iter().any(|scheme| target.starts_with(scheme))
}

/// Where a link in `document` leads, relative to the root; `None` when that is outside the repository.
fn resolve(document: &str, target: &str) -> Option<PathBuf> {
    let mut resolved = match target.strip_prefix('/') {
        Some(_) => PathBuf::new(),
        None => Path::new(document).parent().map(Path::to_path_buf).unwrap_or_default(),
    };
    for component in Path::new(target.trim_start_matches('/')).components() {
        match component {
            Component::Normal(name) => resolved.push(name),
            Component::ParentDir => {
                if !resolved.pop() {
                    return None;
                }
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Some(resolved)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Findings for a document in docs/ of this very repository, whose files the links are looked up in.
    fn messages(text: &str) -> Vec<String> {
        let source = |path: &str, text: &str| Source { path: path.into(), text: text.into() };
        let sources = [source("docs/page.md", text), source("CHANGELOG.md", "# Changes\n")];
        check(&sources, crate::process::root()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn links_that_lead_somewhere_pass() {
        let text = "[a](../Cargo.toml) and [b](../xtask/src/main.rs#L1), [c](#here), [d](https://example.org/x),\n\
                    [e](/Cargo.toml \"with a title\"), [f](<../xtask>), ![image](../Cargo.lock)\n\
                    [g]: ../xtask/Cargo.toml\n";
        assert_eq!(messages(text), Vec::<String>::new());
    }

    #[test]
    fn links_that_lead_nowhere_are_found_with_their_line() {
        let found = messages("fine\n[a](gone.md) [b](../Cargo.toml) [c](../gone.md#x)\n[d]: /gone\n");
        let starts = [
            "docs/page.md:2: the link `gone.md` leads to docs/gone.md",
            "docs/page.md:2:",
            "docs/page.md:3:",
        ];
        assert_eq!(found.len(), starts.len(), "{found:?}");
        for (found, start) in found.iter().zip(starts) {
            assert!(found.starts_with(start), "{found}");
        }
    }

    #[test]
    fn links_out_of_the_repository_are_found_even_when_something_is_there() {
        assert_eq!(messages("[up](../../)\n").len(), 1);
    }

    #[test]
    fn code_is_not_read_as_links() {
        assert_eq!(messages("`[a](gone)` and\n```text\n[b](gone)\n```\n"), Vec::<String>::new());
        assert_eq!(messages("```\n```\n[b](gone)\n").len(), 1, "after the code");
    }

    #[test]
    fn an_empty_change_log_is_found() {
        let sources = [Source { path: "CHANGELOG.md".into(), text: "\n".into() }];
        assert_eq!(check(&sources, Path::new("/")).len(), 1);
        assert_eq!(check(&[], Path::new("/")).len(), 1);
    }
}
