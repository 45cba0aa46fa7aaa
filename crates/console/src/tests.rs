//! What can be said of the files without a browser: that they are all there, keep to the content security policy, and
//! never make markup from data.

use super::{SCRIPT, asset, assets};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, str};

fn text(path: &str) -> &'static str {
    str::from_utf8(asset(path).expect("a file of the console").bytes).expect("UTF-8")
}

fn scripts() -> impl Iterator<Item = (&'static str, &'static str)> {
    assets().filter(|(_, asset)| asset.content_type == SCRIPT).map(|(path, _)| (path, text(path)))
}

/// What stands between `open` and the next quote, wherever it does.
fn quoted<'a>(source: &'a str, open: &'a str) -> impl Iterator<Item = &'a str> {
    source.split(open).skip(1).filter_map(|rest| rest.split('"').next())
}

#[test]
fn the_page_is_found_and_nothing_beside_the_files_is() {
    assert_eq!(asset("/"), asset("/index.html"));
    assert!(asset("/").expect("the page").content_type.starts_with("text/html"));
    for path in ["", "index.html", "//", "/pages", "/pages/", "/../Cargo.toml", "/pages/../app.js", "/APP.JS"]
    {
        assert!(asset(path).is_none(), "{path}");
    }
}

#[test]
fn tags_are_quoted_and_differ() {
    let tags: BTreeSet<&str> = assets().map(|(_, asset)| asset.etag).collect();
    assert_eq!(tags.len(), assets().count());
    assert!(tags.iter().all(|tag| tag.len() == 34 && tag.starts_with('"') && tag.ends_with('"')), "{tags:?}");
}

#[test]
fn every_file_in_the_directory_is_embedded() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
    let mut on_disk = BTreeSet::new();
    for directory in [root.clone(), root.join("pages")] {
        for entry in fs::read_dir(directory).expect("the directory is there") {
            let path: PathBuf = entry.expect("an entry").path();
            if path.is_file() {
                let below = path.strip_prefix(&root).expect("below it").to_str().expect("UTF-8");
                on_disk.insert(format!("/{below}"));
            }
        }
    }
    let embedded: BTreeSet<String> = assets().map(|(path, _)| path.to_owned()).collect();
    assert_eq!(embedded, on_disk);
}

#[test]
fn what_is_imported_and_linked_is_there() {
    for (path, source) in scripts() {
        let directory = path.rsplit_once('/').expect("a path begins with /").0;
        for named in quoted(source, "from \"").chain(quoted(source, "import(\"")) {
            let target = match named.strip_prefix("../") {
                Some(rest) => format!("/{rest}"),
                None => format!("{directory}/{}", named.trim_start_matches("./")),
            };
            assert!(asset(&target).is_some(), "{path} imports {named}");
        }
    }
    for named in quoted(text("/"), "href=\"/").chain(quoted(text("/"), "src=\"/")) {
        assert!(asset(&format!("/{named}")).is_some(), "the page wants {named}");
    }
}

#[test]
fn nothing_needs_more_than_the_policy_allows() {
    let page = text("/");
    for forbidden in ["style=", "<style", "onclick", "onload", "http://", "https://"] {
        assert!(!page.contains(forbidden), "the page has {forbidden}");
    }
    assert_eq!(page.matches("<script").count(), page.matches("<script type=\"module\" src=\"/").count());
    for (path, source) in scripts() {
        for forbidden in
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"]
        {
            assert!(!source.contains(forbidden), "{path} has {forbidden}");
        }
        assert!(!source.contains("setAttribute(\"style\""), "{path} sets a style attribute");
    }
}

#[test]
fn the_console_is_small() {
    let bytes: usize = assets().map(|(_, asset)| asset.bytes.len()).sum();
    assert!(bytes < 150_000, "the whole console has {bytes} bytes");
    for (path, source) in scripts() {
        assert!(source.lines().count() < 500, "{path} is too long to read");
    }
}
