"""Closing the journal's account of a file: its records are through mediation."""

from __future__ import annotations

from collections.abc import Sequence

from tollhouse.postgres import connect
from tollhouse.settings import Settings


def mark_mediated(settings: Settings, file_ids: Sequence[str]) -> int:
    """Move landed files to `mediated` in the journal; others are left as they are.

    Returns:
        How many files were moved now.
    """
    with connect(settings) as connection:
        return connection.execute(
            "update control.usage_file set status = 'mediated'"
            " where status = 'landed' and file_id = any(%s)",
            (list(file_ids),),
        ).rowcount
