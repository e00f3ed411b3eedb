"""dbt is silent about misspelt keys on our engines, so a test is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tollhouse.settings import PROJECT_ROOT

NODE_KEYS = {"name", "description", "config", "columns", "data_tests", "latest_version", "versions"}
KEYS = {
    "file": {"version", "models", "seeds", "sources", "groups", "unit_tests", "macros"},
    "models": NODE_KEYS,
    "seeds": NODE_KEYS,
    "sources": {"name", "description", "schema", "config", "tables", "database"},
    "tables": {"name", "description", "config", "columns", "data_tests", "identifier"},
    "columns": {"name", "description", "data_type", "constraints", "data_tests", "config", "quote"},
    "unit_tests": {"name", "description", "model", "given", "expect", "overrides", "config"},
    "groups": {"name", "owner", "description", "config"},
    "macros": {"name", "description", "arguments", "config"},
    "config": {"meta", "materialized", "tags", "severity", "enabled", "contract", "column_types",
               "incremental_strategy", "unique_key", "where", "quote_columns", "error_if",
               "warn_if", "indexes"},
}  # fmt: skip

DBT_YAML = sorted((PROJECT_ROOT / "dbt" / "models").rglob("*.yml")) + sorted(
    (PROJECT_ROOT / "dbt" / "seeds").rglob("*.yml")
)


def unknown_keys(node: dict, kind: str, where: str) -> list[str]:
    wrong = [f"{where}: '{key}' is not a key of {kind}" for key in node if key not in KEYS[kind]]
    for key, value in node.items():
        if key == "config":
            wrong += unknown_keys(value, "config", f"{where}.config")
        elif key in KEYS and isinstance(value, list):
            for item in value:
                wrong += unknown_keys(item, key, f"{where}.{key}[{item.get('name', '?')}]")
    return wrong


@pytest.mark.parametrize("path", DBT_YAML, ids=lambda path: path.name)
def test_dbt_yaml_has_no_misspelt_key(path: Path) -> None:
    assert not (found := unknown_keys(yaml.safe_load(path.read_text()), "file", path.name)), found


def test_a_misspelt_key_is_found() -> None:
    text = {"models": [{"name": "m", "colums": [], "config": {"mata": {}}}]}
    assert len(unknown_keys(text, "file", "f")) == 2


def test_yaml_is_tidy() -> None:
    command = [str(Path(sys.executable).parent / "yamllint"), "--strict", "."]
    result = subprocess.run(
        command, cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
