"""The journal of runs: what was killed is known as killed from the next run on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from operational.database import upgrade
from tollhouse import pipeline
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


def test_a_process_is_told_from_a_later_one_of_its_id_and_from_those_of_other_machines() -> None:
    me = this_process()
    assert not has_ended(me)
    assert has_ended(me | {"started": int(me["started"]) - 1})
    assert has_ended(me | {"boot": "another"})
    assert not has_ended(me | {"host": "another", "boot": "another"})
    assert has_ended(me | {"pid": 2**22 + 1})
