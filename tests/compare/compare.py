"""Compares jobmill with sosw's Scheduler: started by `tests/compare/run`, explained in README.md."""

import argparse
import dataclasses
import importlib.metadata
import itertools
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from sides import Jobmill, Moto, Sosw, cpu_seconds, one_core


class Different(Exception):
    """The two did not do the same, so there is nothing to compare."""


@dataclasses.dataclass
class Line:
    """A line of the table: a figure from each run of either side. `jobmill` may have done more of the same."""

    what: str
    unit: str
    sosw: list
    jobmill: list
    better: str = "more"
    goal: float | None = None

    @property
    def ratio(self):
        """By how much jobmill is better, in the median."""
        ratio = statistics.median(self.jobmill) / statistics.median(self.sosw)
        return ratio if self.better == "more" else 1 / ratio

    def as_json(self):
        return {
            **dataclasses.asdict(self),
            "sosw_median": statistics.median(self.sosw),
            "jobmill_median": statistics.median(self.jobmill),
            "ratio": self.ratio,
        }

    def as_cells(self):
        figures = (figure(statistics.median(runs)) for runs in (self.sosw, self.jobmill))
        goal = f"{self.goal:g}" if self.goal else ""
        return self.what, self.unit, *figures, figure(self.ratio), goal


def figure(number):
    """Three digits or all of a whole number."""
    if number >= 100:
        return f"{number:,.0f}"
    return f"{number:.3g}"


def say(text):
    """Progress, for people."""
    print(text, file=sys.stderr, flush=True)


# ------------------------------------------------------------------------------------------------------------ rows


def job(days, sections, stores, products, note=0):
    """A job of days * sections * stores * products rows, with `note` bytes of custom attributes at its root."""
    skus = [f"sku-{sku:02}" for sku in range(products)]
    return {
        "lambda_name": "report",
        "period": f"last_{days}_days",
        "isolate_days": True,
        "isolate_products": True,
        **{f"attribute_{number}": "x" * (note // 20) for number in range(20 if note else 0)},
        "sections": {
            f"section-{section}": {"stores": {f"store-{store}": {"products": skus} for store in range(stores)}}
            for section in range(sections)
        },
    }


def row_value(text):
    """A row as a JSON value, in which numbers are what was written."""

    def number(digits):
        return ("number", digits)

    return json.loads(text, parse_int=number, parse_float=number)


def assert_same_rows(sosw, jobmill, event, rows):
    """The rows of both are the same JSON values in the same order."""
    file = event.with_suffix(".rows")
    sosw.rows(event, file)
    number = 0
    with open(file) as theirs, jobmill.lines(event) as ours:
        for number, (their, our) in enumerate(itertools.zip_longest(theirs, ours), 1):
            if their is None or our is None or row_value(their) != row_value(our):
                raise Different(f"row {number} of {event.name}:\nsosw:    {their}\njobmill: {our}")
    file.unlink()
    if number != rows:
        raise Different(f"{event.name} has {number} rows instead of {rows}")


def compare_rows(sosw, jobmill, folder, what, note, days, more_days, rounds, goal):
    """The rows of one job by both; by jobmill also those of the same job over more days."""
    events = {}
    for count in [days, *more_days]:
        rows = count * 10_000
        events[rows] = folder / f"job-{rows}-{note}.json"
        events[rows].write_text(json.dumps(job(count, 10, 10, 100, note)))
    base, *more = events
    say(f"{what}: are they the same?")
    assert_same_rows(sosw, jobmill, events[base], base)
    for rows in more:
        with jobmill.lines(events[rows]) as lines:
            found = sum(1 for _ in lines)
        if found != rows:
            raise Different(f"{events[rows].name} has {found} rows instead of {rows}")

    theirs, ours, in_process = [], {rows: [] for rows in events}, []
    for number in range(rounds):
        say(f"{what}: round {number + 1} of {rounds}")
        with one_core():
            theirs.append(sosw.rows(events[base]))
            for rows, event in events.items():
                ours[rows].append(jobmill.rows(event))
            if jobmill.in_process:
                in_process.append(jobmill.rows_in_process(events[base]))
                if in_process[-1]["rows"] != base:
                    raise Different(f"{jobmill.in_process} made {in_process[-1]['rows']} rows instead of {base}")

    def lines(rows, runs, label):
        for name, key in [("rows a second", "seconds"), ("rows a CPU second", "cpu")]:
            their, our = [base / run[key] for run in theirs], [rows / run[key] for run in runs]
            yield Line(f"{what}, {label}", name, their, our, goal=goal)

    for rows, runs in ours.items():
        yield from lines(rows, runs, f"{rows:,}")
    if in_process:
        yield from lines(base, in_process, f"{base:,}, both in process")
    for rows, runs in ours.items():
        their, our = ([run["peak"] / 2**20 for run in runs] for runs in (theirs, runs))
        yield Line(f"{what}, {rows:,}", "MiB at the peak", their, our, better="less")


# ----------------------------------------------------------------------------------------------------------- drain


def compare_drain(sosw, jobmill, moto, folder, tasks, rounds, goal):
    """A whole invocation against moto, jobmill before and after sosw."""
    event = folder / "job-drain.json"
    event.write_text(json.dumps(job(10, 2, 5, tasks // 100)))
    with jobmill.lines(event) as lines:
        rows = [row_value(line) for line in lines]
    for row in rows:
        del row["labourer_id"]
    if len(rows) != tasks:
        raise Different(f"{event.name} has {len(rows)} rows instead of {tasks}")

    def run(side):
        moto.reset()
        begun = cpu_seconds(moto.process.pid)
        result = {**side.call(event), "moto": cpu_seconds(moto.process.pid) - begun}
        if [row_value(payload) for payload in moto.payloads()] != rows:
            raise Different(f"the tasks of {type(side).__name__} in the table are not the rows of the job")
        return result

    theirs, ours = [], []
    for number in range(rounds):
        say(f"drain: round {number + 1} of {rounds}")
        ours.append(run(jobmill))
        theirs.append(run(sosw))
        ours.append(run(jobmill))
    what = f"invocation against moto, {tasks:,} tasks"
    their, our = ([tasks / run["seconds"] for run in runs] for runs in (theirs, ours))
    yield Line(what, "tasks a second", their, our, goal=goal)
    for name, key in [("µs of its CPU a task", "cpu"), ("µs of moto's CPU a task", "moto")]:
        their, our = ([run[key] / tasks * 1e6 for run in runs] for runs in (theirs, ours))
        yield Line(what, name, their, our, better="less")


# ---------------------------------------------------------------------------------------------------------- report


def machine():
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": model[1] if model else platform.machine(),
        "memory_gib": round(memory / 2**30),
        "system": f"{platform.system()} {platform.release()}",
    }


def versions(jobmill):
    """Of what is compared, and of what it runs on."""
    said = subprocess.run([jobmill, "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout
    packages = {name: importlib.metadata.version(name) for name in ("sosw", "moto", "boto3")}
    return {"jobmill": said.split()[-1], **packages, "python": platform.python_version()}


def commands(chosen):
    """What was run, as one would write it in a shell; sosw's two are parts of a process, see README.md."""
    return {
        "rows, sosw": "python sosw_scheduler.py rows CONFIG JOB",
        "rows, jobmill": f"{chosen.jobmill} plan --config CONFIG --format rows JOB > /dev/null",
        **({"rows, in process": f"{chosen.in_process} CONFIG JOB"} if chosen.in_process else {}),
        "invocation, sosw": "python sosw_scheduler.py call CONFIG JOB",
        "invocation, jobmill": f"JOBMILL_CONFIG=file:CONFIG {chosen.bootstrap}",
    }


def table(report, lines):
    """The report as text for people."""
    of = report["machine"]
    yield f"{of['cores']} cores of {of['cpu']}, {of['memory_gib']} GiB, {of['system']}"
    yield ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    load = " to ".join(f"{load:.1f}" for load in report["load"])
    yield f"load average {load}; medians of {report['rounds']} rounds, {report['drain_rounds']} of invocations"
    yield from (f"{what}: {command}" for what, command in report["commands"].items())
    yield ""
    cells = [("what", "figure", "sosw", "jobmill", "ratio", "goal"), *(line.as_cells() for line in lines)]
    widths = [max(map(len, column)) for column in zip(*cells)]
    for what, unit, *figures in cells:
        left = f"{what:<{widths[0]}}  {unit:<{widths[1]}}"
        yield "  ".join([left, *(f"{cell:>{width}}" for cell, width in zip(figures, widths[2:]))]).rstrip()
    yield ""
    yield "Ratio: how many times better jobmill is. Where it made more rows, sosw's figure is that of the same job over"
    yield "fewer days."


def options():
    parser = argparse.ArgumentParser(prog="tests/compare/run", description=__doc__)
    parser.add_argument("--format", choices=["table", "json"], default="table")
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows and tasks, one round: is all well?")
    parser.add_argument("--rounds", type=int, default=5, help="of the rows (default: %(default)s)")
    parser.add_argument("--drain-rounds", type=int, default=1, help="of the invocations (default: %(default)s)")
    parser.add_argument("--in-process", metavar="PROGRAM", help="see README.md")
    parser.add_argument("--jobmill", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--bootstrap", required=True, help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    chosen = options()
    days, more_days, tasks = (1, [10], 100) if chosen.quick else (10, [100, 1000], 1000)
    goals = (None, None, None) if chosen.quick else (70, 100, 100)
    rounds, drain_rounds = (1, 1) if chosen.quick else (chosen.rounds, chosen.drain_rounds)
    load = os.getloadavg()[0]
    # Below target/, since the rows of a job are hundreds of megabytes.
    with tempfile.TemporaryDirectory(dir=sys.prefix) as scratch:
        folder = Path(scratch)
        with Moto(folder) as moto:
            moto.reset()
            sosw = Sosw(folder, moto.endpoint)
            jobmill = Jobmill(folder, moto.endpoint, chosen.jobmill, chosen.bootstrap, chosen.in_process)
            lines = [
                *compare_rows(sosw, jobmill, folder, "rows", 0, days, more_days, rounds, goals[0]),
                *compare_rows(sosw, jobmill, folder, "rows with 2 kB", 2000, days, more_days[:1], rounds, goals[1]),
                *compare_drain(sosw, jobmill, moto, folder, tasks, drain_rounds, goals[2]),
            ]
    report = {
        "machine": machine(),
        "versions": versions(chosen.jobmill),
        "commands": commands(chosen),
        "load": [load, os.getloadavg()[0]],
        "rounds": rounds,
        "drain_rounds": drain_rounds,
    }
    if chosen.format == "json":
        print(json.dumps({**report, "lines": [line.as_json() for line in lines]}, indent=2))
    else:
        print("\n".join(table(report, lines)))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that all `with`s end
    try:
        main()
    except Different as error:
        sys.exit(f"error: {error}")
