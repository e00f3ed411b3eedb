"""Upkeep of the embedded warehouse file."""

from __future__ import annotations

import os
from pathlib import Path

from tollhouse.settings import Profile, Settings
from tollhouse.warehouse.connection import CATALOGUE, connect_engine
from tollhouse.warehouse.lock import writer_lock


class MaintenanceError(RuntimeError):
    """The warehouse file was left as it is; the message says why."""


def new_file(file: Path) -> Path:
    """Where a new version of a DuckDB file is written before it is swapped in; nothing is there."""
    part = file.with_suffix(".part")
    for leftover in (part, part.with_name(f"{part.name}.wal")):
        leftover.unlink(missing_ok=True)
    return part


def compact(settings: Settings, wait_s: float = 0.0) -> tuple[int, int]:
    """Write the warehouse file anew without the space of dropped tables; swap it in atomically.

    Nothing to do on the server profile, whose engine looks after itself.

    Returns:
        Bytes before and after.

    Raises:
        WarehouseBusyError: another process writes.
    """
    file = settings.warehouse_file
    if settings.profile is not Profile.embedded or not file.exists():
        return (0, 0)
    with writer_lock(settings, "compact the warehouse file", wait_s):
        before = file.stat().st_size
        part = new_file(file)
        with connect_engine() as connection:
            connection.execute(f"attach '{file}' as {CATALOGUE}")
            # What a killed writer left in the log goes into the file: a log that outlived the swap
            # would be applied to the new file once more.
            connection.execute(f"checkpoint {CATALOGUE}")
            connection.execute(f"attach '{part}' as compacted")
            connection.execute(f"copy from database {CATALOGUE} to compacted")
        for log in file.parent.glob(f"{file.name}.wal"):
            raise MaintenanceError(f"{log} is still there after a checkpoint: nothing was changed")
        os.replace(part, file)  # noqa: PTH105 - Path.replace, said atomically
        return (before, file.stat().st_size)
