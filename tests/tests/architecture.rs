//! The house is as `docs/architecture.md` says: which crate uses which, and which room of a crate uses which. A new arrow
//! is a line in that document first.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const DOCUMENT: &str = include_str!("../../docs/architecture.md");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

/// The words in `backticks` of a cell.
fn quoted(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// For each crate of the document: its folder, and which of our crates it uses.
fn documented() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let rows = DOCUMENT.lines().filter(|line| line.starts_with("| `jobmill-"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').collect();
        let one = |cell: &str| quoted(cell).pop_first().unwrap();
        (one(cells[1]), (one(cells[2]), quoted(cells[3])))
    })
    .collect()
}

/// The same from the manifests. What only tests need (dev-dependencies) does not count.
fn built() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let list = |value: &Value| value.as_array().unwrap().clone();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    list(&metadata["packages"])
        .iter()
        .map(|package| {
            let manifest = text(&package["manifest_path"]);
            let folder = Path::new(&manifest).parent().unwrap();
            let folder = folder.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            let uses = list(&package["dependencies"])
                .iter()
                .filter(|dependency| dependency["kind"].is_null())
                .map(|dependency| text(&dependency["name"]))
                .filter(|name| name.starts_with("jobmill-"))
                .collect();
            (text(&package["name"]), (folder, uses))
        })
        .collect()
}

#[test]
fn the_arrows_between_crates_are_those_of_the_document() {
    let (documented, built) = (documented(), built());
    for (name, crate_) in &built {
        assert_eq!(
            Some(crate_),
            documented.get(name),
            "{name} (left: its manifest, right: docs/architecture.md)"
        );
    }
    assert_eq!(documented.len(), built.len(), "a crate of the document is gone");
}

#[test]
fn no_arrow_goes_where_none_may() {
    let built = built();
    let uses = |name: &str| &built[name].1;
    assert!(uses("jobmill-core").is_empty(), "the core uses nothing of ours");
    assert_eq!(
        *uses("jobmill-engine"),
        BTreeSet::from(["jobmill-core".to_owned()])
    );
    for (name, (folder, uses)) in &built {
        if folder.starts_with("functions/") {
            for forbidden in ["jobmill-memory", "jobmill-local"] {
                assert!(
                    !uses.contains(forbidden),
                    "{name} is a function and uses {forbidden}"
                );
            }
        }
        for test in ["jobmill-tests", "jobmill-simulation"] {
            assert!(!uses.contains(test), "{name} uses {test} beyond its own tests");
        }
    }
}

/// The modules of a crate: path (`job::chunk::rows`, empty for the root) and code.
fn modules(folder: &Path, path: &[String], into: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap().path();
        let name = entry.file_stem().unwrap().to_str().unwrap().to_owned();
        if entry.is_dir() {
            modules(&entry, &[path, &[name]].concat(), into);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            let path = match name.as_str() {
                "lib" | "mod" => path.to_vec(),
                _ => [path, &[name]].concat(),
            };
            into.insert(path.join("::"), code(&std::fs::read_to_string(&entry).unwrap()));
        }
    }
}

/// Without comments, and without the tests at the end.
fn code(text: &str) -> String {
    let before_tests = text.split("\n#[cfg(test)]\nmod ").next().unwrap();
    let lines = before_tests.lines().map(|line| match line.find("//") {
        Some(at) => &line[..at],
        None => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// What a path goes on with: `a::b` is one, `{a, b::{c, d}}` are several.
fn expand(text: &str) -> Vec<String> {
    let text = text.trim_start();
    let Some(group) = text.strip_prefix('{') else {
        let length = text
            .find(|letter: char| !letter.is_alphanumeric() && letter != '_' && letter != ':')
            .unwrap_or(text.len());
        let (path, rest) = text.split_at(length);
        return match path.strip_suffix("::") {
            Some(path) if rest.starts_with('{') => {
                expand(rest).iter().map(|end| format!("{path}::{end}")).collect()
            }
            _ => vec![path.to_owned()],
        };
    };
    let (mut depth, mut start, mut found) = (0_u32, 0, Vec::new());
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' | ',' if depth == 0 => {
                found.extend(expand(&group[start..at]));
                start = at + 1;
                if letter == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    found
}

/// Which modules a module imports: by `crate::`, by `super::`, and by the names of its own modules. What it only shows to
/// others (`pub use`) is no import.
fn imports(path: &str, code: &str, all: &BTreeMap<String, String>) -> BTreeSet<String> {
    let above = path.rsplit_once("::").map_or("", |(above, _)| above);
    let mut found = BTreeSet::new();
    let begin = if path.is_empty() {
        String::new()
    } else {
        format!("{path}::")
    };
    let own: Vec<String> = all
        .keys()
        .filter_map(|module| module.strip_prefix(&begin))
        .filter(|rest| !rest.is_empty() && !rest.contains("::"))
        .map(|name| format!("{name}::"))
        .collect();
    let own = own.iter().map(|word| (word.as_str(), word.trim_end_matches(':')));
    let own: Vec<(&str, String)> = own.map(|(word, name)| (word, format!("{begin}{name}"))).collect();
    let roots = [("crate::", String::new()), ("super::", above.to_owned())];
    for (word, base) in roots.iter().chain(&own) {
        for (at, _) in code.match_indices(word) {
            let before = &code[..at];
            let is_word = !before.ends_with(|letter: char| letter.is_alphanumeric() || "_:".contains(letter));
            if !is_word || before.ends_with("pub use ") {
                continue;
            }
            for rest in expand(&code[at + word.len()..]) {
                let whole = [base.as_str(), &rest].into_iter().filter(|part| !part.is_empty());
                let mut whole = whole.collect::<Vec<_>>().join("::");
                // The longest part of it that is a module.
                while !all.contains_key(&whole) {
                    whole = whole.rsplit_once("::").map_or("", |(above, _)| above).to_owned();
                }
                found.insert(whole);
            }
        }
    }
    // A folder is one room: its parts may use what its `mod.rs` declares, such as the type whose methods they hold.
    found.retain(|module| !within(path, module));
    found
}

fn graph(folder: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut all = BTreeMap::new();
    modules(&root().join(folder).join("src"), &[], &mut all);
    assert!(all.len() > 10, "only {} modules in {folder}", all.len());
    all.iter()
        .map(|(path, code)| (path.clone(), imports(path, code, &all)))
        .collect()
}

/// A way from a module back to itself.
fn circle(graph: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn visit<'a>(
        at: &'a str,
        graph: &'a BTreeMap<String, BTreeSet<String>>,
        way: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
    ) -> Option<Vec<String>> {
        if let Some(from) = way.iter().position(|before| *before == at) {
            let circle = way[from..].iter().chain([&at]);
            return Some(circle.map(|&name| name.to_owned()).collect());
        }
        if done.contains(at) {
            return None;
        }
        way.push(at);
        let found = graph[at].iter().find_map(|next| visit(next, graph, way, done));
        way.pop();
        done.insert(at);
        found
    }
    let mut done = BTreeSet::new();
    graph
        .keys()
        .find_map(|start| visit(start, graph, &mut Vec::new(), &mut done))
}

#[test]
fn no_two_modules_import_one_another() {
    for folder in ["shared/core", "shared/engine"] {
        let circle = circle(&graph(folder));
        assert!(circle.is_none(), "{folder}: {}", circle.unwrap().join(" -> "));
    }
}

/// Whether `module` is `room` or lies in it.
fn within(module: &str, room: &str) -> bool {
    let rest = module.strip_prefix(room);
    room.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[track_caller]
fn only(graph: &BTreeMap<String, BTreeSet<String>>, room: &str, allowed: &[&str]) {
    let inside: Vec<_> = graph.iter().filter(|(module, _)| within(module, room)).collect();
    assert!(!inside.is_empty(), "there is no room {room}");
    for (module, imports) in inside {
        for import in imports {
            let allowed = allowed.iter().chain([&room]).any(|room| within(import, room));
            assert!(allowed, "{module} imports {import}");
        }
    }
}

/// The modules at the top of a crate.
fn top(graph: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<&str> {
    let names = graph.keys().map(|module| module.split("::").next().unwrap());
    names.filter(|name| !name.is_empty()).collect()
}

#[test]
fn each_room_of_the_core_keeps_to_the_rooms_below_it() {
    let core = graph("shared/core");
    let rooms = ["task", "queue", "job", "config"];
    let mut below: Vec<&str> = top(&core)
        .into_iter()
        .filter(|room| !rooms.contains(room))
        .collect();
    for ground in below.clone() {
        only(&core, ground, &below);
    }
    only(&core, "task", &below);
    below.push("task");
    only(&core, "queue", &below);
    below.push("queue");
    below.extend(["job::fields", "job::zone", "job::period", "job::schema"]);
    for room in [
        "job::fields",
        "job::zone",
        "job::period",
        "job::schema",
        "job::event",
        "config",
    ] {
        only(&core, room, &below);
    }
}

#[test]
fn no_use_case_of_the_engine_uses_another_and_nothing_below_uses_one() {
    let engine = graph("shared/engine");
    // Every folder but that of the ports is a use case.
    let folders = engine.keys().filter_map(|module| module.split_once("::"));
    let use_cases: BTreeSet<&str> = folders
        .map(|(room, _)| room)
        .filter(|room| *room != "ports")
        .collect();
    assert!(use_cases.contains("schedule"));
    let shared: Vec<&str> = top(&engine).difference(&use_cases).copied().collect();
    assert!(shared.contains(&"lease"));
    for room in shared.iter().chain(&use_cases) {
        only(&engine, room, &shared);
    }
}

#[test]
fn no_service_of_the_local_cloud_uses_another_and_nothing_below_uses_one() {
    let local = graph("shared/local");
    let services = BTreeSet::from(["s3", "dynamo", "lambda", "sqs"]);
    let above = BTreeSet::from(["front", "counting", "counting_queue", "bin"]);
    let below: Vec<&str> = top(&local)
        .into_iter()
        .filter(|room| !services.contains(room) && !above.contains(room))
        .collect();
    assert!(below.contains(&"http") && below.contains(&"faults"));
    for room in below.iter().chain(&services) {
        only(&local, room, &below);
    }
    let rooms: BTreeMap<String, BTreeSet<String>> = below
        .iter()
        .map(|room| ((*room).to_owned(), local[*room].clone()))
        .collect();
    let circle = circle(&rooms);
    assert!(circle.is_none(), "{}", circle.unwrap().join(" -> "));
}

#[test]
fn the_look_at_imports_sees_them() {
    let all: BTreeMap<String, String> = ["", "a", "a::b", "a::b::c", "d", "e"]
        .map(|path| (path.to_owned(), String::new()))
        .into();
    let names =
        |names: &[&str]| -> BTreeSet<String> { names.iter().map(|name| (*name).to_owned()).collect() };
    let text = "use crate::{a::{b::Thing, Other}, d};\nlet x = super::c::f(crate::e::X); // crate::nothing\nuse mycrate::d;";
    // a::b is itself, a is its room, comments and other names are none.
    assert_eq!(imports("a::b", &code(text), &all), names(&["d", "e"]));
    assert_eq!(
        imports("a::b::c", "use super::super::x; use crate::d::X;", &all),
        names(&["d"])
    );
    assert_eq!(imports("a::b", "use c::Thing;", &all), names(&["a::b::c"]));
    assert_eq!(
        imports("a::b", "pub use c::Thing; let sync::x = 1;", &all),
        names(&[])
    );
    let graph = |arrows: &[(&str, &[&str])]| {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        arrows
            .iter()
            .map(|(from, to)| ((*from).to_owned(), own(to)))
            .collect()
    };
    assert_eq!(
        circle(&graph(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"])])),
        Some(["b", "c", "b"].map(str::to_owned).to_vec())
    );
    assert_eq!(
        circle(&graph(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &[])])),
        None
    );
}
