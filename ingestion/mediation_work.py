"""What mediation takes up 预处理任务: files that changed since they were last mediated."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg

from tollhouse.postgres import connect
from tollhouse.settings import Settings

# So many raw records go into one run, for bounded memory; a larger file goes alone.
RECORDS_PER_RUN = 5_000_000

# Of a file named `file`: mediation took it up, but no run that ended has seen it as it is now.
UNFOLLOWED = """
    exists (select from control.mediation_work as former where former.file_id = file.file_id)
    and file.revision > coalesce(
        (
            select max(work.revision) from control.mediation_work as work
            join control.batch as batch on batch.batch_id = work.batch_id
            where work.file_id = file.file_id and batch.ended_at is not null
        ), 0
    )
"""
# Its raw records count, or mediation still needs them to take back what they said.
NEEDS_RAW = f"(file.status in ('landed', 'mediated') or ({UNFOLLOWED}))"


@dataclass(frozen=True)
class MediationRun:
    """One run: its batch, the files it took up, their records, and whether other files wait."""

    batch_id: str
    files: int
    records: int
    has_more: bool


def take_up(settings: Settings, limit: int = RECORDS_PER_RUN) -> MediationRun:
    """Begin a mediation run, or go on with one that was killed.

    A run takes up the files that were landed, corrected or rolled back since a run last took them
    up and came to its end: first received, first served, up to `limit` records. There may be none;
    such a run closes the long calls whose time ran out.
    """
    with connect(settings) as connection:
        killed = connection.execute(
            "select batch_id from control.batch where purpose = 'mediate' and ended_at is null"
            " order by started_at limit 1 for update"
        ).fetchone()
        if killed:
            batch_id = str(killed[0])
            # The run before may have left rows, and the files may have changed since it began.
            connection.execute(
                "update control.mediation_work as work set is_again = true,"
                " is_changed = work.is_changed or work.revision <> file.revision"
                " or file.status not in ('landed', 'mediated'),"
                " revision = file.revision"
                " from control.usage_file as file"
                " where work.batch_id = %s and file.file_id = work.file_id",
                (batch_id,),
            )
        else:
            batch_id = _begin(connection, limit)
        files, records = connection.execute(
            "select count(*), coalesce(sum(file.decoded_record_count), 0)"
            " from control.mediation_work as work"
            " join control.usage_file as file on file.file_id = work.file_id"
            " where work.batch_id = %s",
            (batch_id,),
        ).fetchone() or (0, 0)
        (waiting,) = connection.execute(
            f"select count(*) from ({_DUE}) as due"  # noqa: S608 - a constant
            " where file_id not in"
            " (select file_id from control.mediation_work where batch_id = %s)",
            (batch_id,),
        ).fetchone() or (0,)
    return MediationRun(batch_id, int(files), int(records), waiting > 0)


def finish(settings: Settings, run: MediationRun) -> int:
    """End a run whose models are built: its files are mediated; returns how many became so now."""
    with connect(settings) as connection:
        moved = connection.execute(
            "update control.usage_file as file set status = 'mediated'"
            " from control.mediation_work as work"
            " where work.batch_id = %s and file.file_id = work.file_id"
            " and file.revision = work.revision and file.status = 'landed'",
            (run.batch_id,),
        ).rowcount
        connection.execute(
            "update control.batch set ended_at = %s, file_count = %s, record_count = %s"
            " where batch_id = %s",
            (datetime.now(UTC), run.files, run.records, run.batch_id),
        )
    return moved


def unfollowed_files(settings: Settings) -> list[str]:
    """Files that do not count any more, of which mediation may still show what they said."""
    with connect(settings) as connection:
        rows = connection.execute(
            "select file_id from control.usage_file as file"  # noqa: S608 - a constant
            f" where status not in ('landed', 'mediated') and ({UNFOLLOWED}) order by file_id"
        ).fetchall()
    return [str(file_id) for (file_id,) in rows]


# Files in a revision that no finished run has seen, with the records before and with them.
_DUE = """
    select file.file_id, file.revision, file.received_at,
        sum(coalesce(file.decoded_record_count, 0))
            over (order by file.received_at, file.file_id) as running_records,
        row_number() over (order by file.received_at, file.file_id) as position
    from control.usage_file as file
    where file.status in ('landed', 'mediated', 'rolled_back')
        and file.revision > coalesce(
            (
                select max(work.revision) from control.mediation_work as work
                join control.batch as batch on batch.batch_id = work.batch_id
                where work.file_id = file.file_id and batch.ended_at is not null
            ), 0
        )
"""


def _begin(connection: psycopg.Connection, limit: int) -> str:
    started_at = datetime.now(UTC)
    batch_id = f"mediate-{started_at:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
    connection.execute(
        "insert into control.batch (batch_id, purpose, started_at) values (%s, 'mediate', %s)",
        (batch_id, started_at),
    )
    connection.execute(
        "insert into control.mediation_work"  # noqa: S608 - constants
        " (batch_id, file_id, revision, is_again, is_changed)"
        f" select %(batch)s, file_id, revision, {_WAS_TAKEN_UP}, {_WAS_TAKEN_UP}"
        f" from ({_DUE}) as due where running_records <= %(limit)s or position = 1",
        {"batch": batch_id, "limit": limit},
    )
    return batch_id


_WAS_TAKEN_UP = (
    "exists (select from control.mediation_work as former where former.file_id = due.file_id)"
)
