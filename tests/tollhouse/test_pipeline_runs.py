"""The journal of runs: what was killed is known as killed from the next run on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from operational.database import upgrade
from tollhouse import cli, pipeline
from tollhouse.pipeline import Step, run_step
from tollhouse.postgres import EmbeddedServer, connect
from tollhouse.services.processes import has_ended, this_process
from tollhouse.settings import PROJECT_ROOT, Settings

SLEEPING = """
import sys, time
from pathlib import Path
from tollhouse import pipeline
from tollhouse.settings import Settings
def sleep(settings, on_progress):
    print("asleep", flush=True)
    time.sleep(60)
pipeline.STEPS["sleep"] = pipeline.Step("sleep", "", "", "", "", sleep)
pipeline.run_step("sleep", Settings(home=Path(sys.argv[1])))
"""


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    made = Settings(home=tmp_path)
    try:
        upgrade(made)
        yield made
    finally:
        EmbeddedServer(made.home).remove()


def statuses(settings: Settings) -> dict[str, tuple[str, bool]]:
    """By step: the status of its run, and whether it has an end."""
    with connect(settings) as connection:
        rows = connection.execute(
            "select step, status, ended_at is not null from control.pipeline_run"
        ).fetchall()
    return {step: (status, has_end) for step, status, has_end in rows}


def test_the_next_run_of_any_step_marks_those_of_dead_processes(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(pipeline.STEPS, "rest", Step("rest", "", "", "", "", lambda *_: {}))
    with subprocess.Popen(
        [sys.executable, "-c", SLEEPING, str(settings.home)],
        env=os.environ | {"PYTHONPATH": str(PROJECT_ROOT)}, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "asleep\n"
        run_step("rest", settings)
        assert statuses(settings)["sleep"] == ("running", False)
        os.kill(process.pid, signal.SIGKILL)
    run_step("rest", settings)
    assert statuses(settings) == {"sleep": ("killed", True), "rest": ("succeeded", True)}


def test_collecting_says_what_it_could_not_take_in_and_why(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = {
        "source_id": "MSC-99", "name_zh": "测试", "name_en": "Test", "format": "switch_cdr",
        "province_code": "44", "file_name": ".*", "sequence_rule": "continuous",
        "late_after_hours": 24, "location": "sftp://nouser@127.0.0.1:1/x",
    }  # fmt: skip
    own = tmp_path / "own"
    own.mkdir()
    (own / "sources.yaml").write_text(json.dumps({"sources": [entry]}), encoding="utf-8")
    made = settings.model_copy(update={"sources_dir": own})
    monkeypatch.setattr("tollhouse.terminal.get_settings", lambda: made)
    (made.landing_dir / "NOBODY").mkdir(parents=True)
    (made.landing_dir / "MSC-44").mkdir()
    (made.landing_dir / "MSC-44" / "MSC-44_20261005_000001.cdr").symlink_to("nowhere")

    shown = CliRunner().invoke(cli.app, ["run", "collect", "--json"])
    assert shown.exit_code == 0, shown.output
    counts = json.loads(shown.stdout)["collect"]
    assert (counts["unreachable"], counts["skipped"], counts["unknown_folders"]) == (1, 1, 1)
    lines = [line.strip() for line in shown.stderr.splitlines()]
    for beginning, part in (
        ("! unreachable 无法连接: MSC-99: ", "127.0.0.1"),
        ("! skipped 已跳过: ", "MSC-44_20261005_000001.cdr cannot be taken in"),
        ("! unknown folder 未登记的目录: ", "NOBODY: no source is called so"),
    ):
        (line,) = [each for each in lines if each.startswith(beginning)]
        assert part in line
    assert counts["findings"] == [line.removeprefix("! ") for line in lines if line[0] == "!"]


def test_a_process_is_told_from_a_later_one_of_its_id_and_from_those_of_other_machines() -> None:
    me = this_process()
    assert not has_ended(me)
    assert has_ended(me | {"started": int(me["started"]) - 1})
    assert has_ended(me | {"boot": "another"})
    assert not has_ended(me | {"host": "another", "boot": "another"})
    assert has_ended(me | {"pid": 2**22 + 1})
