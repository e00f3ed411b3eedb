"""Upkeep of the embedded warehouse file."""

from __future__ import annotations

import os

from tollhouse.settings import Profile, Settings
from tollhouse.warehouse.connection import CATALOGUE, connect_engine
from tollhouse.warehouse.lock import writer_lock


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
        part = file.with_suffix(".part")
        part.unlink(missing_ok=True)
        with connect_engine() as connection:
            connection.execute(f"attach '{file}' as {CATALOGUE} (read_only)")
            connection.execute(f"attach '{part}' as compacted")
            connection.execute(f"copy from database {CATALOGUE} to compacted")
        os.replace(part, file)  # noqa: PTH105 - Path.replace, said atomically
        return (before, file.stat().st_size)
