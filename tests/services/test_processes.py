"""Child processes: remembered exactly, stopped whole."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tollhouse.services.processes import (
    Program,
    Record,
    exit_code,
    is_running,
    read_records,
    start_process,
    stop_process,
    tail,
)

DEADLINE_S = 60

# Starts a child in a process group of its own, as Airflow's workers are, and tells its id.
PARENT_AND_CHILD = """
import os, pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], process_group=0)
pathlib.Path("child").write_text(str(child.pid))
time.sleep(300)
"""
STUBBORN = """
import pathlib, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path("ready").touch()
time.sleep(300)
"""


def _start(folder: Path, code: str, name: str = "program") -> Record:
    program = Program(name, [sys.executable, "-c", code], dict(os.environ), folder)
    return start_process(program, run_dir=folder / "run", log_dir=folder / "logs")


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_stopping_ends_children_in_other_process_groups(tmp_path: Path) -> None:
    record = _start(tmp_path, PARENT_AND_CHILD)
    _wait_for(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text() != "")
    child = int((tmp_path / "child").read_text())
    assert _is_alive(child)
    stop_process(record, run_dir=tmp_path / "run")
    assert not _is_alive(record.pid)
    assert not _is_alive(child)


def test_stopping_ends_children_whose_parent_died_before(tmp_path: Path) -> None:
    record = _start(tmp_path, PARENT_AND_CHILD.replace("time.sleep(300)\n", "", 1))
    _wait_for(lambda: exit_code(record) is not None)
    child = int((tmp_path / "child").read_text())
    assert _is_alive(child)
    stop_process(record, run_dir=tmp_path / "run")
    assert not _is_alive(child)


def test_a_process_that_ignores_the_polite_signal_is_killed(tmp_path: Path) -> None:
    record = _start(tmp_path, STUBBORN)
    _wait_for((tmp_path / "ready").exists)
    stop_process(record, run_dir=tmp_path / "run", timeout_s=0.5)
    assert not _is_alive(record.pid)


def test_a_process_that_got_the_id_since_is_left_alone(tmp_path: Path) -> None:
    record = _start(tmp_path, "import time; time.sleep(300)")
    try:
        earlier = dataclasses.replace(record, started=record.started - 1)
        before_boot = dataclasses.replace(record, boot="an earlier boot")
        for stale in (earlier, before_boot):
            assert not is_running(stale)
            stop_process(stale, run_dir=tmp_path / "elsewhere")
        assert is_running(record)
    finally:
        stop_process(record, run_dir=tmp_path / "run")


def test_a_started_process_is_remembered_until_it_is_stopped(tmp_path: Path) -> None:
    record = _start(tmp_path, "import time; time.sleep(300)", name="sleeper")
    assert read_records(tmp_path / "run") == {"sleeper": record}
    assert is_running(record)
    stop_process(record, run_dir=tmp_path / "run")
    stop_process(record, run_dir=tmp_path / "run")
    assert read_records(tmp_path / "run") == {}


def test_output_goes_to_the_log_and_its_end_can_be_shown(tmp_path: Path) -> None:
    record = _start(tmp_path, "for number in range(100): print('line', number)")
    _wait_for(lambda: exit_code(record) is not None)
    shown = tail(record.log).splitlines()
    assert exit_code(record) == 0
    assert shown[-1] == "line 99"
    assert len(shown) < 100
