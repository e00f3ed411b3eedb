"""Killed at any step and run again, the job ends in the same tables."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.pipeline.tables import differences, tables_of
from tollhouse.pipeline import DEMO_JOB, run_step
from tollhouse.postgres import EmbeddedServer, connect
from tollhouse.settings import Settings

pytestmark = pytest.mark.pipeline

SUBSCRIBERS = 100
START_LIMIT_S = 180


def test_every_step_may_be_killed_and_run_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    undisturbed = Settings(home=tmp_path_factory.mktemp("undisturbed"), subscribers=SUBSCRIBERS)
    killed = Settings(home=tmp_path_factory.mktemp("killed"), subscribers=SUBSCRIBERS)
    dice = random.Random(7)
    steps = (*DEMO_JOB, "maintain")
    interrupted = []
    try:
        for name in steps:
            started = time.monotonic()
            run_step(name, undisturbed)
            seconds = time.monotonic() - started
            if _killed_while_running(killed, name, dice.uniform(0, 0.8) * seconds):
                interrupted.append(name)
            run_step(name, killed)
        assert differences(tables_of(undisturbed), tables_of(killed)) == []
        assert _bills(undisturbed) == _bills(killed)
        # Some end before they are hit, more of them where the machine is busy with other things.
        assert len(interrupted) >= len(steps) // 2, interrupted
    finally:
        for settings in (undisturbed, killed):
            EmbeddedServer(settings.home).remove()


def _killed_while_running(settings: Settings, step: str, after_s: float) -> bool:
    """Start a step in a process of its own and kill it `after_s` seconds into the step itself."""
    process = subprocess.Popen(
        [str(Path(sys.executable).parent / "tollhouse"), "run", step],
        env={
            **os.environ,
            "TOLLHOUSE_HOME": str(settings.home),
            "TOLLHOUSE_SUBSCRIBERS": str(settings.subscribers),
        },
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + START_LIMIT_S
        while process.poll() is None and not _is_running(settings, step):
            assert time.monotonic() < deadline, f"{step} did not begin within {START_LIMIT_S} s"
            time.sleep(0.02)
        process.wait(after_s)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(120)
        return _is_running(settings, step)
    return False


def _is_running(settings: Settings, step: str) -> bool:
    """Whether the journal of runs says the step has begun and not ended."""
    if step == "prepare":  # before it there is no journal; its first work is the server's data
        return EmbeddedServer(settings.home).data.exists()
    with connect(settings) as connection:
        return bool(
            connection.execute(
                "select 1 from control.pipeline_run where step = %s and status = 'running'", (step,)
            ).fetchone()
        )


def _bills(settings: Settings) -> list[tuple[object, ...]]:
    with connect(settings) as connection:
        return connection.execute(
            "select bill_id, content_hash, closing_amount from billing.bill order by bill_id"
        ).fetchall()
