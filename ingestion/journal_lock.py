"""The right to collect, or to land: one process at a time for one operational database."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from enum import IntEnum

import psycopg

from tollhouse.postgres import operational_url
from tollhouse.settings import Settings

LOCK_SPACE = 0x746F6C6C  # first key of our advisory locks in PostgreSQL: "toll"


class JournalWork(IntEnum):
    """What a holder of the lock does with the file journal."""

    collect = 1
    land = 2


class JournalBusyError(RuntimeError):
    """Another process does the same work on the file journal; wait for it and try again."""


@contextlib.contextmanager
def journal(settings: Settings, work: JournalWork, wait_s: float) -> Iterator[psycopg.Connection]:
    """A connection to the file journal that holds the right to do this work.

    The right is an advisory lock of the session: PostgreSQL frees it when the holder dies.

    Raises:
        JournalBusyError: another process still holds it after `wait_s` seconds.
    """
    with psycopg.connect(operational_url(settings)) as connection:
        connection.execute(
            "select set_config('lock_timeout', %s, true)", (f"{int(wait_s * 1000)}",)
        )
        try:
            connection.execute("select pg_advisory_lock(%s, %s)", (LOCK_SPACE, int(work)))
        except psycopg.errors.LockNotAvailable:
            raise JournalBusyError(
                f"another process has been at work on the file journal ({work.name}) for more than"
                f" {wait_s:g} s; wait for it to end and try again"
            ) from None
        connection.commit()
        yield connection
