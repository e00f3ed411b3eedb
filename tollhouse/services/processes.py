"""Child processes that outlive us: started in sessions of their own, remembered, and stopped whole.

A process is remembered in ``home/run/<name>.json`` by its id together with the moment it started
and the boot of the machine, so an id that was given to another process since is never touched.
Stopping ends its whole session: Airflow's workers move to other process groups, but no process of
ours leaves the session. Reads ``/proc``, so it is for Linux.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

TERMINATE_TIMEOUT_S = 20.0
KILL_TIMEOUT_S = 5.0
TAIL_LINES = 25
PROC = Path("/proc")

_children: dict[int, subprocess.Popen[bytes]] = {}  # ours to wait for, while we live


@dataclass(frozen=True)
class Program:
    """A command line to run, with everything it needs to know."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(repr=False)
    folder: Path


@dataclass(frozen=True)
class Record:
    """A started process, as remembered on disk."""

    name: str
    pid: int
    started: int  # clock ticks since boot: tells a process from a later one of the same id
    boot: str
    log: str


@dataclass(frozen=True)
class _Process:
    pid: int
    state: str
    session: int
    started: int


def start_process(program: Program, *, run_dir: Path, log_dir: Path) -> Record:
    """Start a program in a session of its own, its output appended to ``<log_dir>/<name>.log``."""
    run_dir.mkdir(parents=True, exist_ok=True)
    log_dir.mkdir(parents=True, exist_ok=True)
    log = log_dir / f"{program.name}.log"
    with log.open("ab") as sink:
        child = subprocess.Popen(
            list(program.command),
            env=dict(program.environment),
            cwd=program.folder,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _children[child.pid] = child
    found = _read_process(child.pid)
    record = Record(
        name=program.name,
        pid=child.pid,
        started=found.started if found else 0,
        boot=_boot(),
        log=str(log),
    )
    part = run_dir / f"{program.name}.json.part"
    part.write_text(json.dumps(asdict(record), indent=2) + "\n")
    part.rename(run_dir / f"{program.name}.json")
    return record


def read_records(run_dir: Path) -> dict[str, Record]:
    """The processes remembered in a folder, by name; whether they still run is another question."""
    records = {}
    for path in sorted(run_dir.glob("*.json")):
        with contextlib.suppress(json.JSONDecodeError, TypeError, FileNotFoundError):
            record = Record(**json.loads(path.read_text()))
            records[record.name] = record
    return records


def is_running(record: Record) -> bool:
    """Whether exactly this process runs (another one under its id does not count)."""
    found = _read_process(record.pid)
    return (
        found is not None
        and found.state != "Z"
        and found.started == record.started
        and record.boot == _boot()
    )


def stop_process(record: Record, *, run_dir: Path, timeout_s: float = TERMINATE_TIMEOUT_S) -> None:
    """End a process and everything in its session, politely first. Safe to call again."""
    _signal(record, signal.SIGTERM)
    if not _wait_until_gone(record, timeout_s):
        _signal(record, signal.SIGKILL)
        _wait_until_gone(record, KILL_TIMEOUT_S)
    (run_dir / f"{record.name}.json").unlink(missing_ok=True)


def exit_code(record: Record) -> int | None:
    """How a process this one started has ended; None while it runs, or if it is not ours."""
    child = _children.get(record.pid)
    return child.poll() if child else None


def tail(log: Path | str) -> str:
    """The last lines of a log."""
    with contextlib.suppress(FileNotFoundError):
        return "\n".join(Path(log).read_text(errors="replace").splitlines()[-TAIL_LINES:])
    return ""


def this_process() -> dict[str, str | int]:
    """What tells the process that asks from every other one, as plain values for JSON."""
    found = _read_process(os.getpid())
    return {
        "host": platform.node(), "boot": _boot(), "pid": os.getpid(),
        "started": found.started if found else 0,
    }  # fmt: skip


def has_ended(process: Mapping[str, Any]) -> bool:
    """Whether a process, as `this_process` told of it, is gone; of another machine's: False."""
    if process.get("host") != platform.node():
        return False
    if process.get("boot") != _boot():
        return True
    found = _read_process(int(process.get("pid", 0)))
    return found is None or found.state in "ZX" or found.started != process.get("started")


def _wait_until_gone(record: Record, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while _session(record):
        exit_code(record)  # where we are the parent, its remains are ours to clear away
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.1)
    exit_code(record)
    return True


def _signal(record: Record, number: signal.Signals) -> None:
    for process in _session(record):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


def _session(record: Record) -> list[_Process]:
    """The living processes of the record's session; none when the id has a new owner.

    A session keeps its id reserved: the kernel does not give the id to another process while a
    member of the session lives, even after the leader has died.
    """
    if record.boot != _boot():
        return []
    leader = _read_process(record.pid)
    if leader is not None and leader.started != record.started:
        return []
    members = (_read_process(int(path.name)) for path in PROC.iterdir() if path.name.isdigit())
    return [
        member
        for member in members
        if member is not None and member.session == record.pid and member.state != "Z"
    ]


def _read_process(pid: int) -> _Process | None:
    try:
        line = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # proc(5): the name, field 2, is in parentheses and may hold anything; fields 3, 6 and 22 follow
    fields = line.rpartition(")")[2].split()
    return _Process(pid=pid, state=fields[0], session=int(fields[3]), started=int(fields[19]))


def _boot() -> str:
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()
