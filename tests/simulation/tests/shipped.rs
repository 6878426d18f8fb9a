//! What is tested is what ships: engines that are broken on purpose come in by one switch only, a `cfg` that whoever
//! builds must pass to the compiler, and nothing in the repository passes it but the step that tests them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The switch.
const SWITCH: &str = concat!("jobmill", "_mutants");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// No package can switch it on by itself: there is no feature, and no build script that could pass a `cfg`.
#[test]
fn no_package_has_a_feature_or_a_build_script_for_it() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() >= 9, "{} packages", packages.len());
    for package in packages {
        let name = &package["name"];
        let scripts: Vec<&Value> = package["targets"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|target| {
                target["kind"]
                    .as_array()
                    .unwrap()
                    .contains(&"custom-build".into())
            })
            .collect();
        assert!(scripts.is_empty(), "{name} has a build script");
        let features = package["features"].as_object().unwrap();
        assert!(
            features.keys().all(|feature| !feature.contains("mutant")),
            "{name} has the features {features:?}"
        );
        if name == "jobmill-engine" {
            assert!(features.is_empty(), "{name} has the features {features:?}");
        }
    }
}

/// Files of the repository, but what was built and what git keeps.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        let kind = entry.file_type().unwrap();
        let ours = ![".git", "target", "node_modules", ".aws-sam", "__pycache__"]
            .iter()
            .any(|skipped| name == *skipped);
        if kind.is_dir() && ours {
            files(&entry.path(), found);
        } else if kind.is_file() && ours {
            found.push(entry.path());
        }
    }
}

/// Only the engine and the simulation know the switch; only the lint table and the documents name it beside them, and
/// whatever runs it does so in a target folder of its own.
#[test]
fn only_the_engine_and_the_simulation_know_it() {
    let root = root();
    let mut found = Vec::new();
    files(&root, &mut found);
    let mut known = 0;
    for path in found {
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        let path = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
        for line in text.lines().filter(|line| line.contains(SWITCH)) {
            known += 1;
            let inside = ["shared/engine/src/", "tests/simulation/"]
                .iter()
                .any(|room| path.starts_with(room));
            let is_lint = path == "Cargo.toml" && line.starts_with("unexpected_cfgs");
            let is_document = path.ends_with(".md");
            let apart = !is_document && line.contains("--target-dir target/mutants");
            assert!(inside || is_lint || is_document || apart, "{path}: {line}");
        }
    }
    assert!(known > 10, "{known} lines");
    // A configuration of cargo could pass it to every build.
    assert!(!root.join(".cargo").exists());
}
