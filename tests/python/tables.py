"""The tables of sosw: CreateTable requests, in the one definition that there is of them."""

import json
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
DEFINITIONS = (REPOSITORY / "infra/localstack/tables").glob("*.json")
TABLES = {path.stem: json.loads(path.read_text()) for path in DEFINITIONS}
"""The task tables by sosw's names; each is what boto3's `create_table` takes."""
CONFIG_TABLE = json.loads((REPOSITORY / "tests/data/config_table.json").read_text())
"""sosw's table of configurations."""


def key_names(table: str) -> list[str]:
    """The attributes of a table's key: hash, then range."""
    return [part["AttributeName"] for part in TABLES[table]["KeySchema"]]
