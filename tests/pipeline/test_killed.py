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


def test_every_step_may_be_killed_and_run_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    undisturbed = Settings(home=tmp_path_factory.mktemp("undisturbed"), subscribers=SUBSCRIBERS)
    killed = Settings(home=tmp_path_factory.mktemp("killed"), subscribers=SUBSCRIBERS)
    dice = random.Random(7)
    interrupted = []
    try:
        for name in DEMO_JOB:
            started = time.monotonic()
            run_step(name, undisturbed)
            seconds = time.monotonic() - started
            # A fresh process needs about 1.5 s before the step itself begins.
            if _killed_before_its_end(killed, name, 1.5 + dice.uniform(0.2, 0.9) * seconds):
                interrupted.append(name)
            run_step(name, killed)
        assert differences(tables_of(undisturbed), tables_of(killed)) == []
        assert _bills(undisturbed) == _bills(killed)
        assert len(interrupted) >= len(DEMO_JOB) // 2, interrupted
    finally:
        for settings in (undisturbed, killed):
            EmbeddedServer(settings.home).remove()


def _killed_before_its_end(settings: Settings, step: str, after_s: float) -> bool:
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
        process.wait(after_s)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)
        return True
    return False


def _bills(settings: Settings) -> list[tuple[object, ...]]:
    with connect(settings) as connection:
        return connection.execute(
            "select bill_id, content_hash, closing_amount from billing.bill order by bill_id"
        ).fetchall()
