"""The writer's lock: one process at a time changes the warehouse of a home folder."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import psycopg

from tollhouse.settings import Profile, Settings

ADVISORY_KEY = 0x746F6C6C_77726974  # "tollwrit"

_held: dict[str, int] = {}  # lock file -> depth: the lock is re-entrant within a process


class WarehouseBusyError(RuntimeError):
    """Another process is writing; the message names it."""


@contextlib.contextmanager
def writer_lock(settings: Settings, purpose: str, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the right to write the warehouse, waiting up to `wait_s` seconds for it.

    The lock is the operating system's, so it is free again the moment its holder dies. On the
    server profile an advisory lock of the warehouse database keeps other machines out as well.

    Raises:
        WarehouseBusyError: somebody else holds it; the message says who, since when and for what.
    """
    settings.home.mkdir(parents=True, exist_ok=True)
    path = settings.home / "warehouse.lock"
    name = str(path.resolve())
    if _held.get(name):
        _held[name] += 1
        try:
            yield
        finally:
            _held[name] -= 1
        return
    deadline = time.monotonic() + wait_s
    with path.open("a+") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise WarehouseBusyError(_describe_holder(path.read_text())) from None
                time.sleep(0.2)
        handle.truncate(0)
        handle.write(
            json.dumps(
                {
                    "pid": os.getpid(),
                    "purpose": purpose,
                    "since": datetime.now(UTC).isoformat(timespec="seconds"),
                }
            )
        )
        handle.flush()
        _held[name] = 1
        try:
            with _lock_of_database(settings, deadline):
                yield
        finally:
            _held.pop(name)
            fcntl.flock(handle, fcntl.LOCK_UN)


@contextlib.contextmanager
def reading_lock(settings: Settings, wait_s: float = 0.0) -> Iterator[None]:
    """Keep writers away for a moment, waiting up to `wait_s` seconds for one to end.

    Readers do not keep each other away. Only the embedded profile needs it: its one file is open to
    a writer or to readers; a server lets both in.

    Raises:
        WarehouseBusyError: somebody writes; the message says who, since when and for what.
    """
    if settings.profile is not Profile.embedded:
        yield
        return
    settings.home.mkdir(parents=True, exist_ok=True)
    path = settings.home / "warehouse.lock"
    deadline = time.monotonic() + wait_s
    with path.open("a+") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise WarehouseBusyError(_describe_holder(path.read_text())) from None
                time.sleep(0.1)
        try:
            yield
        finally:
            fcntl.flock(handle, fcntl.LOCK_UN)


@contextlib.contextmanager
def _lock_of_database(settings: Settings, deadline: float) -> Iterator[None]:
    if settings.profile is Profile.embedded:
        yield
        return
    with psycopg.connect(settings.warehouse_url or "", autocommit=True) as connection:
        while connection.execute("select pg_try_advisory_lock(%s)", (ADVISORY_KEY,)).fetchone() != (
            True,
        ):
            if time.monotonic() >= deadline:
                raise WarehouseBusyError(
                    "another machine is writing the warehouse; wait for it to end and try again"
                )
            time.sleep(0.5)
        yield


def _describe_holder(text: str) -> str:
    try:
        holder = json.loads(text)
    except json.JSONDecodeError:
        return "another process is writing the warehouse; wait for it to end and try again"
    return (
        f"process {holder['pid']} has been writing the warehouse since {holder['since']} "
        f"({holder['purpose']}); wait for it to end, or stop it, and try again"
    )
