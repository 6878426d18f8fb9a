//! How long a job document of sixteen megabytes takes from its file to its plan, and how much memory; beside Python's
//! `json` module, which only reads the same file. All in turn, each in a process of its own.
//!
//! `cargo bench -p jobmill-core --bench big_job`
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs
)]

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use jobmill_core::config::Config;
use jobmill_core::job::event::{self, Request};
use jobmill_core::job::period::AsOf;
use jobmill_core::job::plan::Plan;
use jobmill_core::json::Document;
use serde_json::{Value, json};

const STORES: u64 = 100_000;
const PRODUCTS_OF_A_STORE: u64 = 10;
const TURNS: usize = 7;

/// The times of each process, in seconds by the clock; `cpu` is what it had of a core, which other work on the machine
/// does not take away.
const TIMES: [&str; 5] = ["read", "parse", "plan", "all", "cpu"];

/// What Python is asked: the same first two steps.
const PYTHON: &str = r#"
import json, sys, time
def cpu(): return int(open("/proc/self/schedstat").read().split()[0]) / 1e9
before, begun = cpu(), time.perf_counter()
text = open(sys.argv[1], encoding="utf-8").read()
read = time.perf_counter()
json.loads(text)
parsed, after = time.perf_counter(), cpu()
peak = [line for line in open("/proc/self/status") if line.startswith("VmHWM")][0].split()[1]
print(json.dumps({"read": read - begun, "parse": parsed - read, "plan": 0, "all": parsed - begun,
                  "cpu": after - before, "peak": int(peak)}))
"#;

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    if let Some(file) = arguments.next() {
        return println!("{}", measure(Path::new(&file)));
    }
    let folder = std::env::temp_dir().join(format!("jobmill-big-job-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for (name, flag, space) in [
        (
            "each product on its own, written without spaces",
            "isolate_products",
            "",
        ),
        (
            "each product on its own, written as Python writes",
            "isolate_products",
            " ",
        ),
        (
            "each store on its own, written without spaces",
            "isolate_stores",
            "",
        ),
    ] {
        let file = folder.join("job.json");
        std::fs::write(&file, job(flag, space)).unwrap();
        compare(name, &file);
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

fn job(flag: &str, space: &str) -> String {
    let mut job = format!(
        "{{\"lambda_name\":{space}\"worker\",{space}\"{flag}\":{space}true,{space}\"sections\":{space}{{\"s\":{space}{{\"stores\":{space}{{"
    );
    for store in 0..STORES {
        let separator = if store == 0 { "" } else { "," };
        let before = if store == 0 { "" } else { space };
        write!(
            job,
            "{separator}{before}\"store-{store:06}\":{space}{{\"products\":{space}["
        )
        .unwrap();
        for product in 0..PRODUCTS_OF_A_STORE {
            let separator = if product == 0 { "" } else { "," };
            let before = if product == 0 { "" } else { space };
            let number = store * PRODUCTS_OF_A_STORE + product;
            write!(job, "{separator}{before}\"p-{number:08}\"").unwrap();
        }
        job.push_str("]}");
    }
    job.push_str("}}}}");
    job
}

fn compare(name: &str, file: &Path) {
    let bytes = std::fs::metadata(file).unwrap().len();
    println!("{name}: {:.1} MB", bytes as f64 / 1e6);
    let (mut ours, mut pythons) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        ours.push(outcome(Command::new(std::env::current_exe().unwrap()).arg(file)).unwrap());
        pythons.extend(outcome(Command::new("python3").args(["-c", PYTHON]).arg(file)));
    }
    let median = |of: &[Value], column: &str| -> f64 {
        let mut values: Vec<f64> = of.iter().map(|one| one[column].as_f64().unwrap()).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let show = |who: &str, of: &[Value]| {
        print!("  {who:<24}");
        for column in TIMES {
            print!(" {column} {:.3} s ", median(of, column));
        }
        println!(" peak {:.1} MB", median(of, "peak") * 1024.0 / 1e6);
    };
    show("jobmill, up to the plan", &ours);
    if pythons.is_empty() {
        return println!("  python3 is not there: nothing to compare with");
    }
    show("Python, json.loads only", &pythons);
    println!(
        "  jobmill takes {:.2} of Python's time by the clock, {:.2} of its CPU, and {:.2} of its memory",
        median(&ours, "all") / median(&pythons, "all"),
        median(&ours, "cpu") / median(&pythons, "cpu"),
        median(&ours, "peak") / median(&pythons, "peak"),
    );
}

fn outcome(command: &mut Command) -> Option<Value> {
    let output = command.output().ok()?;
    assert!(output.status.success(), "{output:?}");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

/// One process: reads, plans, and says what it took.
fn measure(file: &Path) -> Value {
    let config = Config::read(&json!({
        "queue_bucket": "b",
        "max_tasks_per_job": 100_000_000,
        "task_config": { "labourers": { "worker": {} } },
        "job_schema": { "chunkable_attrs": [["section", {}], ["store", {}], ["product", {}]] },
    }))
    .unwrap();
    let (cpu_before, begun) = (cpu_seconds(), Instant::now());
    let text = String::from_utf8(std::fs::read(file).unwrap()).unwrap();
    let read = begun.elapsed();
    let document = Document::parse(text).unwrap();
    let parsed = begun.elapsed();
    let Request::Job(request) = event::read(document).unwrap() else {
        panic!("no job");
    };
    let plan = Plan::make(&config, request, None, AsOf::parse("2024-03-06").unwrap()).unwrap();
    let (planned, cpu_after) = (begun.elapsed(), cpu_seconds());
    assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
    assert!([STORES, STORES * PRODUCTS_OF_A_STORE].contains(&plan.chunks.row_count()));
    json!({
        "read": read.as_secs_f64(),
        "parse": (parsed - read).as_secs_f64(),
        "plan": (planned - parsed).as_secs_f64(),
        "all": planned.as_secs_f64(),
        "cpu": cpu_after - cpu_before,
        "peak": peak_kb(),
    })
}

/// How long this process has had a core.
fn cpu_seconds() -> f64 {
    let statistics = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    statistics
        .split_whitespace()
        .next()
        .unwrap()
        .parse::<f64>()
        .unwrap()
        / 1e9
}

/// The most memory that this process ever had.
fn peak_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
