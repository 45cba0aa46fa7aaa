//! What `cargo metadata` says about the workspace, reduced to what the rules ask: which packages are ours, what
//! they depend on directly, and the graph of everything that is linked in.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process::{cargo, output, root};

/// The workspace as Cargo resolves it for Linux.
#[derive(Debug, Default)]
pub struct Metadata {
    /// The packages of this repository, by name.
    pub ours: BTreeMap<String, Package>,
    /// From a package to those linked into it: dependencies for neither building nor testing. Names, not versions:
    /// the rules are about names.
    pub linked: BTreeMap<String, Vec<String>>,
}

/// A package of this repository.
#[derive(Debug, Default)]
pub struct Package {
    /// Its manifest, relative to the root.
    pub manifest: String,
    /// Its direct dependencies.
    pub dependencies: Vec<Dependency>,
}

/// A direct dependency of one of our packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// The package's name, not what it may be renamed to.
    pub name: String,
    /// Only for tests, examples and benchmarks.
    pub is_dev: bool,
}

impl Metadata {
    /// Asks Cargo.
    ///
    /// # Errors
    /// When Cargo fails or its answer is not understood.
    pub fn load() -> Result<Self> {
        // One platform, so that the result is the same everywhere; the product runs on Linux only.
        let arguments = ["metadata", "--format-version=1", "--filter-platform=x86_64-unknown-linux-gnu"];
        let text = output(cargo().args(arguments))?;
        let value = serde_json::from_str(&text).context("cannot read cargo metadata")?;
        Self::parse(&value, &root().to_string_lossy()).context("cargo metadata lacks a field")
    }

    /// Reads the answer (format version 1); `None` when a field is missing.
    fn parse(metadata: &Value, root: &str) -> Option<Self> {
        let members = metadata["workspace_members"].as_array()?;
        let mut names = BTreeMap::new();
        let mut ours = BTreeMap::new();
        for package in metadata["packages"].as_array()? {
            let name = package["name"].as_str()?.to_owned();
            names.insert(package["id"].as_str()?, name.clone());
            if members.contains(&package["id"]) {
                let manifest = package["manifest_path"].as_str()?.strip_prefix(root)?.trim_start_matches('/');
                let dependencies =
                    package["dependencies"].as_array()?.iter().map(dependency).collect::<Option<_>>()?;
                ours.insert(name, Package { manifest: manifest.to_owned(), dependencies });
            }
        }
        let mut linked: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for node in metadata["resolve"]["nodes"].as_array()? {
            // Two versions of one package fall together under its name, which is right: either is enough.
            let dependencies = linked.entry(names.get(node["id"].as_str()?)?.clone()).or_default();
            for dependency in node["deps"].as_array()?.iter().filter(|dependency| is_linked(dependency)) {
                dependencies.push(names.get(dependency["pkg"].as_str()?)?.clone());
            }
        }
        Some(Self { ours, linked })
    }
}

fn dependency(value: &Value) -> Option<Dependency> {
    Some(Dependency { name: value["name"].as_str()?.to_owned(), is_dev: value["kind"] == "dev" })
}

/// An ordinary dependency has a `kind` of null; `dev` and `build` are the others.
fn is_linked(dependency: &Value) -> bool {
    dependency["dep_kinds"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind["kind"].is_null()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_and_graph_are_read_and_dev_dependencies_are_not_linked() {
        let answer = serde_json::json!({
            "workspace_members": ["path#domain"],
            "packages": [
                {"id": "path#domain", "name": "domain", "manifest_path": "/r/crates/domain/Cargo.toml", "dependencies": [
                    {"name": "serde", "kind": null}, {"name": "tempfile", "kind": "dev"}]},
                {"id": "reg#serde", "name": "serde", "manifest_path": "/else/Cargo.toml", "dependencies": []},
                {"id": "reg#tempfile", "name": "tempfile", "manifest_path": "/else/Cargo.toml", "dependencies": []},
            ],
            "resolve": {"nodes": [
                {"id": "path#domain", "deps": [
                    {"pkg": "reg#serde", "dep_kinds": [{"kind": "dev"}, {"kind": null}]},
                    {"pkg": "reg#tempfile", "dep_kinds": [{"kind": "dev"}]}]},
                {"id": "reg#serde", "deps": []},
            ]},
        });
        let metadata = Metadata::parse(&answer, "/r").expect("complete");
        assert_eq!(metadata.ours.keys().collect::<Vec<_>>(), ["domain"]);
        assert_eq!(metadata.ours["domain"].manifest, "crates/domain/Cargo.toml");
        let dev: Vec<bool> =
            metadata.ours["domain"].dependencies.iter().map(|dependency| dependency.is_dev).collect();
        assert_eq!(dev, [false, true]);
        assert_eq!(metadata.linked["domain"], ["serde"]);
    }

    #[test]
    fn an_answer_that_lacks_a_field_is_refused() {
        assert!(Metadata::parse(&serde_json::json!({"packages": []}), "/r").is_none());
    }
}
