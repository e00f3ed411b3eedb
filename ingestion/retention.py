"""Retention 保留期: originals and raw records that were kept long enough are deleted.

Only what no work is left for goes. A file has open business while it is not mediated in its latest
revision, or a rejected record of it waits for somebody; its original and its raw records stay. The
original of a refused file stays as long as somebody may want to look at it. What no
landing counts any more, because it was killed or its file refused, rolled back or landed anew, goes
at once; of a file that was taken back, once mediation has followed: until then it has to see what
it said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg

from ingestion import archive
from ingestion.journal_lock import JournalWork, journal
from ingestion.land import create_raw_tables
from ingestion.mediation_work import NEEDS_RAW
from ingestion.sources import load_sources
from tollhouse.settings import Settings
from tollhouse.warehouse import open_warehouse, writer_lock
from tollhouse.warehouse.raw_parts import Part, parts, remove_parts, remove_unfinished

WAIT_S = 600.0
IDS_PER_QUERY = 10_000

# Files that no work is left for, with what their age goes by. `file_id = any(…)` follows.
_SETTLED = """
    select file_id, source_id, batch_id, collected_at, landed_at
    from control.usage_file as file
    where status = 'mediated'
        and revision <= coalesce(
            (
                select max(work.revision) from control.mediation_work as work
                join control.batch as batch on batch.batch_id = work.batch_id
                where work.file_id = file.file_id and batch.ended_at is not null
            ), 0
        )
        and not exists (
            select from control.rejected_record as reject where reject.file_id = file.file_id
        )
        and file_id = any(%s)
"""


@dataclass(frozen=True)
class RetainResult:
    """What was deleted: how many, and the bytes on disk."""

    originals: int = 0
    original_octets: int = 0
    parts: int = 0
    part_octets: int = 0
    quarantined: int = 0
    quarantined_octets: int = 0


def retain(settings: Settings, wait_s: float = WAIT_S) -> RetainResult:
    """Delete originals and raw parts past their time; running it again deletes nothing more.

    A raw part goes when all files in it may go, and a file's records go all or none.

    Raises:
        JournalBusyError: a landing is still running.
        WarehouseBusyError: another process writes the warehouse.
    """
    now = datetime.now(UTC)
    with journal(settings, JournalWork.land, wait_s) as connection:
        # Nobody may take back a file between the look at the journal and the end of its records.
        with writer_lock(settings, "delete raw records kept long enough", wait_s):
            part_count, part_octets = _remove_parts(settings, connection, now)
        originals, original_octets = _remove_originals(settings, connection, now)
        quarantined, quarantined_octets = _remove_quarantined(settings, connection, now)
    return RetainResult(
        originals, original_octets, part_count, part_octets, quarantined, quarantined_octets
    )


def _remove_parts(
    settings: Settings, connection: psycopg.Connection, now: datetime
) -> tuple[int, int]:
    contents = {part: part.file_ids() for part in parts(settings)}
    file_ids = sorted({file_id for ids in contents.values() for file_id in ids})
    batch_of = _batches_that_count(connection, file_ids)
    kept_since = now - timedelta(days=settings.raw_days)
    removable = {
        file_id
        for file_id, _, _, _, landed_at in _settled(connection, file_ids)
        if landed_at is not None and landed_at < kept_since
    }
    doomed = _removable_parts(contents, batch_of, removable)
    unended = connection.execute(
        "select batch_id from control.batch where purpose = 'land' and ended_at is null"
    ).fetchall()
    for (batch_id,) in unended:
        remove_unfinished(settings, batch_id)
    if not doomed:
        return 0, 0
    with open_warehouse(settings, "delete raw records kept long enough") as warehouse:
        create_raw_tables(warehouse, settings)
        return len(doomed), remove_parts(warehouse, settings, doomed)


def _removable_parts(
    contents: Mapping[Part, list[str]], batch_of: Mapping[str, str], removable: set[str]
) -> list[Part]:
    """The parts in which no file has to stay; one with another part that stays has to as well."""
    live = {
        part: {file_id for file_id in ids if batch_of.get(file_id) == part.batch_id}
        for part, ids in contents.items()
    }
    removable = set(removable)
    while True:
        held = {file_id for files in live.values() if not files <= removable for file_id in files}
        if held.isdisjoint(removable):
            return [part for part, files in live.items() if files <= removable]
        removable -= held


def _batches_that_count(connection: psycopg.Connection, file_ids: list[str]) -> dict[str, str]:
    """For each file the batch whose records of it count or are to be taken back, if any is."""
    found: dict[str, str] = {}
    for at in range(0, len(file_ids), IDS_PER_QUERY):
        rows = connection.execute(
            "select file_id, batch_id from control.usage_file as file"  # noqa: S608 - a constant
            f" where {NEEDS_RAW} and batch_id is not null and file_id = any(%s)",
            (file_ids[at : at + IDS_PER_QUERY],),
        )
        found |= {str(file_id): str(batch_id) for file_id, batch_id in rows}
    return found


def _settled(
    connection: psycopg.Connection, file_ids: list[str]
) -> Iterable[tuple[str, str, str | None, datetime, datetime | None]]:
    for at in range(0, len(file_ids), IDS_PER_QUERY):
        yield from connection.execute(_SETTLED, (file_ids[at : at + IDS_PER_QUERY],))


def _remove_originals(
    settings: Settings, connection: psycopg.Connection, now: datetime
) -> tuple[int, int]:
    kept_for = {
        source_id: timedelta(days=source.archive_days)
        for source_id, source in load_sources(settings).items()
        if source.archive_days is not None
    }
    default = timedelta(days=settings.archive_days)
    present = _present(settings.archive_dir)
    count = octets = 0
    for file_id, source_id, _, collected_at, _ in _settled(connection, sorted(present)):
        if collected_at < now - kept_for.get(source_id, default):
            octets += present[file_id].stat().st_size
            present[file_id].unlink()
            count += 1
    return count, octets


def _remove_quarantined(
    settings: Settings, connection: psycopg.Connection, now: datetime
) -> tuple[int, int]:
    """Delete originals of files that were refused long ago; why they were stays in the journal.

    With them goes what a killed reload left: a copy in the archive of a file that is still refused,
    one in the quarantine of a file that is refused no more.
    """
    present = _present(settings.quarantine_dir)
    kept_since = now - timedelta(days=settings.quarantine_days)
    file_ids = sorted(present)
    count = octets = 0
    for at in range(0, len(file_ids), IDS_PER_QUERY):
        rows = connection.execute(
            "select file_id, status = 'rejected' from control.usage_file"
            " where (status <> 'rejected' or collected_at < %s) and file_id = any(%s)",
            (kept_since, file_ids[at : at + IDS_PER_QUERY]),
        )
        for file_id, is_refused in rows:
            if is_refused:
                archive.archive_path(settings, file_id).unlink(missing_ok=True)
            octets += present[file_id].stat().st_size
            present[file_id].unlink()
            count += 1
    return count, octets


def _present(folder: Path) -> dict[str, Path]:
    """The originals in a folder, by file id."""
    return {
        path.relative_to(folder).as_posix().removesuffix(archive.SUFFIX): path
        for path in folder.glob(f"[!.]*/*{archive.SUFFIX}")
    }
