//! What the documents say in figures is what the code says, and what they name is there.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use jobmill_core::job::estimate::{Estimate, Load};

const PERFORMANCE: &str = include_str!("../../docs/performance.md");

/// The job of the benchmarks: rows of 130 bytes, tasks of one write unit, a function of 256 MB.
fn estimate(tasks: u64) -> Estimate {
    Estimate::of(&Load {
        rows: tasks,
        file_bytes: tasks * 130,
        item_bytes: tasks * 280,
        longest_item: 300,
        seconds_per_invocation: 840,
        memory_mb: 256,
    })
}

fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0 => "under a second".to_owned(),
        1..=119 => format!("{whole} s"),
        120..=7_199 => format!("{} min", whole.div_ceil(60)),
        _ => format!("{:.1} h", seconds / 3_600.0),
    }
}

#[test]
fn the_times_and_costs_in_the_document_are_those_of_the_estimate() {
    for (name, tasks) in [
        ("1 thousand", 1_000),
        ("1 million", 1_000_000),
        ("10 million", 10_000_000),
    ] {
        let estimate = estimate(tasks);
        assert!(estimate.exact);
        let row = format!(
            "| {name} | {} | {} | {} | {} | ${:.4} | ${:.4} | ${:.4} |",
            duration(estimate.labourer_seconds),
            duration(estimate.new_table_seconds),
            duration(estimate.quota_seconds),
            estimate.invocations,
            estimate.dynamodb_usd,
            estimate.s3_usd,
            estimate.lambda_usd,
        );
        assert!(
            PERFORMANCE.contains(&row),
            "docs/performance.md lacks the row\n{row}"
        );
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

/// All files below a folder that end so, but those of builds and installs.
fn files(folder: &Path, ending: &str, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if entry.file_type().unwrap().is_dir() {
            if name != "target" && !name.starts_with('.') {
                files(&path, ending, into);
            }
        } else if name.ends_with(ending) {
            into.push(path);
        }
    }
}

/// The documents: path below the root, and text.
fn documents() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    files(&root(), ".md", &mut found);
    assert!(found.len() > 30, "only {} documents", found.len());
    found
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            (path, text)
        })
        .collect()
}

/// The text without its fenced blocks.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let lines = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    });
    lines.map(|line| format!("{line}\n")).collect()
}

/// What a heading is called in a link: lower case, blanks as hyphens, no punctuation.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title
                .chars()
                .filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
            kept.map(|letter| if letter == ' ' { '-' } else { letter })
                .collect()
        })
        .collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut links = 0;
    for (path, text) in documents() {
        for link in prose(&text).split("](").skip(1) {
            let link = link.split(')').next().unwrap();
            if link.contains("://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => path.clone(),
                file => path.parent().unwrap().join(file),
            };
            assert!(target.exists(), "{}: {link}", path.display());
            if !anchor.is_empty() {
                let there = anchors(&prose(&std::fs::read_to_string(&target).unwrap()));
                assert!(there.contains(anchor), "{}: {link}", path.display());
            }
            links += 1;
        }
    }
    assert!(links > 100, "only {links} links were found");
}

#[test]
fn every_path_that_is_named_is_there() {
    let tops = [
        "cli/",
        "docs/",
        "examples/",
        "functions/",
        "infra/",
        "shared/",
        "tests/",
    ];
    let mut paths = 0;
    for (document, text) in documents() {
        for code in prose(&text).split('`').skip(1).step_by(2) {
            let word = code.split_whitespace().next().unwrap_or_default();
            let plain = word
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || "/._-".contains(letter));
            // In capitals: a name to be filled in.
            let filled_in = word
                .split('/')
                .all(|part| part.is_empty() || !part.chars().all(|letter| letter.is_ascii_uppercase()));
            if plain && filled_in && tops.iter().any(|top| word.starts_with(top)) {
                assert!(root().join(word).exists(), "{}: `{word}`", document.display());
                paths += 1;
            }
        }
    }
    assert!(paths > 60, "only {paths} paths were found");
}

#[test]
fn every_test_of_the_guarantees_is_there() {
    let mut sources = Vec::new();
    for folder in ["cli", "functions", "shared", "tests"] {
        files(&root().join(folder), ".rs", &mut sources);
    }
    let code: String = sources
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    let guarantees = std::fs::read_to_string(root().join("docs/guarantees.md")).unwrap();
    let mut tests = 0;
    for row in guarantees.lines().filter(|line| line.starts_with('|')) {
        let last = row.trim_end_matches('|').rsplit('|').next().unwrap();
        for name in last
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|name| name.contains('_'))
        {
            assert!(
                code.contains(&format!("fn {name}("))
                    || root().join(format!("tests/tests/{name}.rs")).exists(),
                "docs/guarantees.md names the test `{name}`"
            );
            tests += 1;
        }
    }
    assert!(tests > 20, "only {tests} tests are named");
}
