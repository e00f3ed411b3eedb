"""`tollhouse clean` deletes what Tollhouse made and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tollhouse import cli


def test_the_warehouses_that_commands_make_for_themselves_go_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("TOLLHOUSE_HOME", str(home))
    for name in ("conformance", "cycle-copy", "somebody's"):
        (home / name).mkdir(parents=True)
        (home / name / "warehouse.duckdb").touch()
    (home / "warehouse.lock").touch()

    answer = CliRunner().invoke(cli.app, ["clean"])

    assert answer.exit_code == 0, answer.output
    assert [path.name for path in home.iterdir()] == ["somebody's"]
