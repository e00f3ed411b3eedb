"""Collecting 采集: every file of the landing folders is journalled and archived exactly once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from ingestion import archive
from ingestion.formats import FORMATS, FileFacts, RawFormat, UnreadableFileError, recognise
from ingestion.journal_lock import JournalWork, journal
from ingestion.sources import Source, load_sources, upsert_sources
from tollhouse.settings import Settings

UNFINISHED_SUFFIXES = (".part", ".tmp", ".filepart")  # names under which files are still written
WAIT_S = 600.0


@dataclass
class CollectResult:
    """What a collection did, by file id; `known` counts the files passed over."""

    collected: list[str] = field(default_factory=list)
    duplicate: dict[str, str] = field(default_factory=dict)
    rejected: dict[str, str] = field(default_factory=dict)
    unfinished: list[str] = field(default_factory=list)
    unknown_folders: list[str] = field(default_factory=list)
    known: int = 0


@dataclass(frozen=True)
class _Arrival:
    """One file in a landing folder."""

    source: Source
    path: Path
    size: int
    received_at: datetime


@dataclass(frozen=True)
class _Verdict:
    """What becomes of an arrival."""

    status: str
    reason: str | None = None
    original_id: str | None = None
    raw_format: RawFormat | None = None
    facts: FileFacts | None = None


def collect(settings: Settings, wait_s: float = WAIT_S) -> CollectResult:
    """Journal and archive every new file below the landing folder, oldest arrival first.

    A file with the name, size and time of one in the journal is passed over. A file with the
    content or the name of an earlier one of its source is recorded as a duplicate; one that is not
    what its source delivers is rejected with a reason; files that are still being written are left
    for the next time. Each file is one transaction, so a collection may be killed anywhere and
    run again.

    Raises:
        JournalBusyError: another collection is still running after `wait_s` seconds.
    """
    result = CollectResult()
    with journal(settings, JournalWork.collect, wait_s) as connection:
        upsert_sources(connection)
        connection.commit()
        sources = load_sources()
        for folder in _folders(settings):
            if folder.name not in sources:
                result.unknown_folders.append(folder.name)
                continue
            known = _known_files(connection, folder.name)
            arrivals = sorted(
                _arrivals(folder, sources[folder.name]),
                key=lambda arrival: (arrival.received_at, arrival.path.name),
            )
            for arrival in arrivals:
                if (arrival.path.name, arrival.size, arrival.received_at) in known:
                    result.known += 1
                else:
                    _take_in(settings, connection, arrival, result)
    return result


def _folders(settings: Settings) -> list[Path]:
    if not settings.landing_dir.is_dir():
        return []
    return sorted(path for path in settings.landing_dir.iterdir() if path.is_dir())


def _arrivals(folder: Path, source: Source) -> Iterator[_Arrival]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name.endswith(UNFINISHED_SUFFIXES):
                continue
            if not entry.is_file():
                continue
            status = entry.stat()
            yield _Arrival(source, Path(entry.path), status.st_size, _arrival_time(status))


def _arrival_time(status: os.stat_result) -> datetime:
    # Whole microseconds, as PostgreSQL keeps them: a float of seconds would not compare equal.
    seconds, nanoseconds = divmod(status.st_mtime_ns, 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=nanoseconds // 1000)


def _known_files(connection: psycopg.Connection, source_id: str) -> set[tuple[str, int, datetime]]:
    rows = connection.execute(
        "select file_name, size_bytes, received_at from control.usage_file where source_id = %s",
        (source_id,),
    )
    return {(name, size, received_at.astimezone(UTC)) for name, size, received_at in rows}


def _take_in(
    settings: Settings,
    connection: psycopg.Connection,
    arrival: _Arrival,
    result: CollectResult,
) -> None:
    """Decide about one file, archive it, and write its journal row: one transaction."""
    try:
        content = arrival.path.read_bytes()
        status = arrival.path.stat()
    except FileNotFoundError:
        return  # taken away between the listing and now
    if (status.st_size, _arrival_time(status)) != (arrival.size, arrival.received_at):
        result.unfinished.append(f"{arrival.source.source_id}/{arrival.path.name}")
        return
    sha256 = hashlib.sha256(content).hexdigest()
    verdict = _judge(connection, arrival, content, sha256)
    file_id = _free_file_id(connection, arrival)
    if verdict.status == "collected":
        archive.store(settings, file_id, content)
    facts = verdict.facts or FileFacts(None, None, None, None)
    connection.execute(
        "insert into control.usage_file (file_id, source_id, file_name, format, province_code,"
        " sha256, size_bytes, sequence_number, created_at_source, received_at, collected_at,"
        " status, status_reason, duplicate_of_file_id, declared_record_count)"
        " values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            file_id,
            arrival.source.source_id,
            arrival.path.name,
            verdict.raw_format.name if verdict.raw_format else None,
            arrival.source.province_code,
            sha256,
            arrival.size,
            facts.sequence_number,
            facts.created_at,
            arrival.received_at,
            datetime.now(UTC),
            verdict.status,
            verdict.reason,
            verdict.original_id,
            facts.declared_record_count,
        ),
    )
    connection.commit()
    if verdict.status == "collected":
        result.collected.append(file_id)
    elif verdict.status == "duplicate":
        result.duplicate[file_id] = verdict.original_id or ""
    else:
        result.rejected[file_id] = verdict.reason or ""


def _judge(
    connection: psycopg.Connection, arrival: _Arrival, content: bytes, sha256: str
) -> _Verdict:
    source, name = arrival.source, arrival.path.name
    original = connection.execute(
        "select file_id, sha256 = %(sha256)s from control.usage_file"
        " where source_id = %(source)s and status in ('collected', 'landed', 'mediated')"
        " and (sha256 = %(sha256)s or file_name = %(name)s)"
        " order by sha256 = %(sha256)s desc, received_at, file_id limit 1",
        {"source": source.source_id, "sha256": sha256, "name": name},
    ).fetchone()
    if original:
        same = "content" if original[1] else "name"
        return _Verdict(
            "duplicate", f"same {same} as {original[0]}", original[0], recognise(content)
        )
    raw_format = recognise(content)
    if raw_format is None:
        return _Verdict("rejected", f"{_describe(content)}: no known raw format, {_due(source)}")
    try:
        facts = raw_format.read_facts(content, name, arrival.received_at)
    except UnreadableFileError as error:
        return _Verdict("rejected", str(error), raw_format=raw_format)
    delivered = facts.source_id or "an unnamed source"
    if raw_format is not FORMATS[source.format] or facts.source_id != source.source_id:
        reason = f"content is {raw_format.name} of {delivered}, {_due(source)}"
        return _Verdict("rejected", reason, raw_format=raw_format, facts=facts)
    if not source.names_its_files(name):
        reason = f"files of {source.source_id} are named like {source.file_name}"
        return _Verdict("rejected", reason, raw_format=raw_format, facts=facts)
    return _Verdict("collected", raw_format=raw_format, facts=facts)


def _due(source: Source) -> str:
    return f"but the folder is for {source.format} of {source.source_id}"


def _describe(content: bytes) -> str:
    return f"content begins with {content[:16]!r}" if content else "the file is empty"


def _free_file_id(connection: psycopg.Connection, arrival: _Arrival) -> str:
    """``source/name``; with ``#2``, ``#3`` … behind it when that name came before."""
    base = f"{arrival.source.source_id}/{arrival.path.name}"
    row = connection.execute(
        "select count(*) from control.usage_file where source_id = %s and file_name = %s",
        (arrival.source.source_id, arrival.path.name),
    ).fetchone()
    earlier = row[0] if row else 0
    return f"{base}#{earlier + 1}" if earlier else base
