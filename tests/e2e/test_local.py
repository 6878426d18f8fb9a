"""Local testing as docs/local.md describes it: `infra/localstack/setup`, and the scheduler under `cargo lambda`."""

import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from jobqueue import Queue
from ministack import end, free_port, guarded
from stack import Stack
from throttle import throttled
from waiting import until

REPOSITORY = Path(__file__).parents[2]
LOCALSTACK = REPOSITORY / "infra/localstack"
TOOLS = Path(sys.executable).parent

# `cargo lambda watch` starts an instance by `cargo run`. This leaves the build out: it runs the binary under test.
CARGO = """#!/bin/sh
case "$1" in
  run) exec "$JOBMILL_BOOTSTRAP" ;;
  *) exec cargo "$@" ;;
esac
"""


def set_up(cloud) -> None:
    """What a user does first. A second time it changes nothing."""
    environment = os.environ | cloud.environment | {"PATH": f"{TOOLS}:{os.environ['PATH']}"}
    subprocess.run([LOCALSTACK / "setup"], env=environment, check=True, timeout=120)


@pytest.fixture(scope="module")
def local(cloud) -> Queue:
    """Bucket, tables and configuration of infra/localstack/setup."""
    set_up(cloud)
    return Queue(cloud, json.loads((LOCALSTACK / "jobmill.json").read_text()))


def table(cloud, name: str) -> dict:
    """Keys, attributes and indexes of a table."""
    description = cloud.client("dynamodb").describe_table(TableName=name)["Table"]
    attributes = description["AttributeDefinitions"]
    indexes = [
        {key: index[key] for key in ("IndexName", "KeySchema", "Projection")}
        for kind in ("GlobalSecondaryIndexes", "LocalSecondaryIndexes")
        for index in description.get(kind, [])
    ]
    return {
        "attributes": sorted(attributes, key=lambda attribute: attribute["AttributeName"]),
        "keys": description["KeySchema"],
        "indexes": indexes,
    }


def test_setup_makes_the_tables_of_the_template(cloud, local):
    """Under sosw's names, with the keys, attributes and indexes that a deployment has."""
    stack = Stack(cloud, "tables", Architecture="x86_64")
    for name, logical_id in {
        "sosw_tasks": "TasksTable",
        "sosw_closed_tasks": "ClosedTable",
        "sosw_retry_tasks": "RetryTable",
        "sosw_tasks_meta": "MetaTable",
    }.items():
        assert table(cloud, name) == table(cloud, stack.resources[logical_id])


def test_setup_puts_the_configuration_and_can_be_run_again(cloud, local):
    """The second time nothing is made, and the configuration is that of the folder."""
    set_up(cloud)
    settings = dict(line.split("=", 1) for line in (LOCALSTACK / "local.env").read_text().split())
    bucket, key = settings["JOBMILL_CONFIG"].removeprefix("s3://").split("/")
    stored = cloud.client("s3").get_object(Bucket=bucket, Key=key)["Body"]
    assert json.load(stored) == local.config


@pytest.mark.skipif(not shutil.which("cargo"), reason="cargo is not installed")
def test_cargo_lambda_watch_runs_a_chain_of_siblings(cloud, local, tmp_path):
    """Its deadline lies in 1970, so the configured time-out counts; siblings start at its own port."""
    cargo = tmp_path / "cargo"
    cargo.write_text(CARGO)
    cargo.chmod(0o755)
    names = [f"section-{row}" for row in range(1_500)]
    job = tmp_path / "job.json"
    flat = {"lambda_name": "report", "isolate_sections": True, "sections": names}
    job.write_text(json.dumps({"run_id": "watched", "job": flat}))
    port = free_port()
    address = ["--invoke-address", "127.0.0.1", "--invoke-port", str(port)]
    with throttled(cloud.endpoint, 250) as dynamodb, (tmp_path / "log").open("wb") as log:
        variables = {
            "CARGO": str(cargo),
            "AWS_ENDPOINT_URL_DYNAMODB": dynamodb,
            "AWS_ENDPOINT_URL_LAMBDA": f"http://127.0.0.1:{port}",
            "JOBMILL_CONFIG": json.dumps(local.config | {"timeout": 6}),
        }
        watch = guarded(
            [TOOLS / "cargo-lambda", "lambda", "watch", "--ignore-changes", "--concurrency", "4", *address],
            cwd=REPOSITORY,
            env=os.environ | cloud.environment | variables,
            stdout=log,
            stderr=log,
        )
        try:
            until("cargo lambda watch listens", lambda: listens(port), seconds=60)
            invoked = subprocess.run(
                [TOOLS / "cargo-lambda", "lambda", "invoke", "bootstrap", *address, "--data-file", job],
                cwd=REPOSITORY,
                capture_output=True,
                timeout=90,
                check=True,
            )
            receipt = local.assert_whole("watched", names)
        finally:
            end(watch)
            print((tmp_path / "log").read_text())
    answer = json.loads(invoked.stdout)
    assert (answer["outcome"], answer["to"]) == ("handed_off", "sibling")
    assert receipt["hops"] > 0


def listens(port: int) -> bool:
    """Whether an HTTP server answers there."""
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5)
    except urllib.error.HTTPError:
        return True
    except urllib.error.URLError:
        return False
    return True
