"""Collecting 采集: every file of the landing folders is journalled and archived exactly once."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import psycopg

from ingestion import archive
from ingestion.formats import FORMATS, FileFacts, RawFormat, UnreadableFileError, recognise
from ingestion.journal_lock import JournalWork, journal
from ingestion.sources import Source, load_sources, upsert_sources
from tollhouse.settings import Settings

UNFINISHED_SUFFIXES = (".part", ".tmp", ".filepart")  # names under which files are still written
INCOMPLETE = "incomplete"  # the reason of a file taken in without its end begins with this
WAIT_S = 600.0

# What the machine lacks, not the file: to go on would skip every file there is.
FATAL_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE})

logger = logging.getLogger(__name__)


@dataclass
class CollectResult:
    """What a collection did, by file id; `known` counts the files passed over.

    `skipped` names the files that could not be read, each with the reason: the journal says nothing
    of them, and the next collection tries them again.
    """

    collected: list[str] = field(default_factory=list)
    duplicate: dict[str, str] = field(default_factory=dict)
    rejected: dict[str, str] = field(default_factory=dict)
    unfinished: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    unknown_folders: list[str] = field(default_factory=list)
    known: int = 0


@dataclass(frozen=True)
class _Arrival:
    """One file in a landing folder."""

    source: Source
    path: Path
    name: str  # as the journal has it: a name that is not UTF-8 with its octets as \\xff
    size: int
    received_at: datetime

    @property
    def base_id(self) -> str:
        """The file id it has unless that is taken."""
        return f"{self.source.source_id}/{self.name}"


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
    content of an earlier one of its source is recorded as a duplicate; one with the name of an
    earlier one and other content, or that is not what its source delivers, is rejected with a
    reason; files that are still being written are left for the next time. A file that cannot be
    read is skipped and reported; the others go on. Each file is one transaction, so a collection
    may be killed anywhere and run again.

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
                _arrivals(folder, sources[folder.name], result),
                key=lambda arrival: (arrival.received_at, arrival.name),
            )
            for arrival in arrivals:
                if (arrival.name, arrival.size, arrival.received_at) in known:
                    result.known += 1
                else:
                    _take_in_or_skip(settings, connection, arrival, result)
    return result


def _folders(settings: Settings) -> list[Path]:
    if not settings.landing_dir.is_dir():
        return []
    return sorted(path for path in settings.landing_dir.iterdir() if path.is_dir())


def _arrivals(folder: Path, source: Source, result: CollectResult) -> Iterator[_Arrival]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name.endswith(UNFINISHED_SUFFIXES):
                continue
            name = _journal_name(entry.name)
            try:
                if entry.is_dir():
                    continue
                status = entry.stat()
            except OSError as error:
                if entry.is_symlink() or not isinstance(error, FileNotFoundError):
                    _skip(result, f"{source.source_id}/{name}", entry.path, error)
                continue  # or taken away since it was listed
            if stat.S_ISREG(status.st_mode):
                path = Path(entry.path)
                yield _Arrival(source, path, name, status.st_size, _arrival_time(status))


def _journal_name(name: str) -> str:
    """A file's name as text that every database holds."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _skip(result: CollectResult, file_id: str, path: str | Path, error: Exception) -> None:
    where = _journal_name(os.fspath(path))
    reason = (
        f"{where} cannot be taken in: {_printable(error)};"
        " make it readable, or remove it: the next collection tries it again"
    )
    logger.warning("%s", reason)
    result.skipped[file_id] = reason


def _printable(error: Exception) -> str:
    text = error.strerror or str(error) if isinstance(error, OSError) else str(error)
    named = f"{type(error).__name__}: {text}"
    return named.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")[:1000]


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


def _take_in_or_skip(
    settings: Settings,
    connection: psycopg.Connection,
    arrival: _Arrival,
    result: CollectResult,
) -> None:
    """Take in one file; what is wrong with it alone does not stop the others."""
    try:
        _take_in(settings, connection, arrival, result)
    except (OSError, psycopg.DataError, psycopg.IntegrityError) as error:
        connection.rollback()
        if isinstance(error, OSError) and error.errno in FATAL_ERRORS:
            raise
        _skip(result, arrival.base_id, arrival.path, error)


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
        result.unfinished.append(arrival.base_id)
        return
    sha256 = hashlib.sha256(content).hexdigest()
    verdict = _judge(connection, arrival, content, sha256)
    if verdict.status == "unfinished":
        result.unfinished.append(arrival.base_id)
        return
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
            arrival.name,
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
    source, name = arrival.source, arrival.name
    raw_format = recognise(content)
    facts: FileFacts | None = None
    fault: str | None = None
    if raw_format is None:
        fault = f"{_describe(content)}: no known raw format, {_due(source)}"
    else:
        try:
            facts = raw_format.read_facts(content, name, arrival.received_at)
        except UnreadableFileError as error:
            fault = str(error)
        except Exception as error:  # a fault of ours met by one file must not stop the others
            logger.exception("reading what %s says of itself failed", arrival.base_id)
            fault = f"its header cannot be read as {raw_format.name}: {_printable(error)}"
    is_open = not content or (facts is not None and facts.lacks is not None)
    if is_open and _is_young(arrival):
        return _Verdict("unfinished")
    original = connection.execute(
        "select file_id, sha256 = %(sha256)s from control.usage_file"
        " where source_id = %(source)s and status in ('collected', 'landed', 'mediated')"
        " and (sha256 = %(sha256)s or file_name = %(name)s)"
        " order by sha256 = %(sha256)s desc, received_at, file_id limit 1",
        {"source": source.source_id, "sha256": sha256, "name": name},
    ).fetchone()
    if original and original[1]:
        return _Verdict("duplicate", f"same content as {original[0]}", original[0], raw_format)
    if original:
        fault = (
            f"the name {name} was used before, by {original[0]}, which has other content and is in"
            f" use: if both files are right, {source.source_id} has to send this one under a new"
            " name"
        )
    elif fault is None and facts is not None and raw_format is not None:
        fault = _misdelivery(arrival, raw_format, facts)
    if fault:
        return _Verdict("rejected", fault, raw_format=raw_format, facts=facts)
    note = None
    if facts is not None and facts.lacks:
        note = (
            f"{INCOMPLETE}: the file lacks {facts.lacks}, so records may be missing;"
            f" ask {source.source_id} to send it whole under a new name"
        )
    return _Verdict("collected", note, raw_format=raw_format, facts=facts)


def _misdelivery(arrival: _Arrival, raw_format: RawFormat, facts: FileFacts) -> str | None:
    """Why a readable file is not one that its folder is for."""
    source = arrival.source
    delivered = facts.source_id or "an unnamed source"
    if raw_format is not FORMATS[source.format] or facts.source_id != source.source_id:
        return f"content is {raw_format.name} of {delivered}, {_due(source)}"
    if not source.names_its_files(arrival.name):
        return f"files of {source.source_id} are named like {source.file_name}"
    return None


def _is_young(arrival: _Arrival) -> bool:
    """Whether the file changed so lately that it may still grow.

    A time far ahead of ours comes from a wrong clock and says nothing: that file is not waited for.
    """
    age = abs(datetime.now(UTC) - arrival.received_at)
    return age < timedelta(minutes=arrival.source.settle_minutes)


def _due(source: Source) -> str:
    return f"but the folder is for {source.format} of {source.source_id}"


def _describe(content: bytes) -> str:
    return f"content begins with {content[:16]!r}" if content else "the file is empty"


def _free_file_id(connection: psycopg.Connection, arrival: _Arrival) -> str:
    """``source/name``; with ``#2``, ``#3`` … behind it when that is taken."""
    base = arrival.base_id
    rows = connection.execute(
        "select file_id from control.usage_file where source_id = %s and starts_with(file_id, %s)",
        (arrival.source.source_id, base),
    )
    taken = {file_id for (file_id,) in rows}
    if base not in taken:
        return base
    return next(name for each in count(2) if (name := f"{base}#{each}") not in taken)
