"""Collecting 采集: every file of the sources is journalled and archived exactly once."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from zoneinfo import ZoneInfo

import psycopg
from psycopg.types.json import Jsonb

from ingestion import alarms, archive
from ingestion.alarms import Alarm
from ingestion.archive import Incoming
from ingestion.formats import FileFacts, RawFormat
from ingestion.journal_lock import JournalWork, journal
from ingestion.judging import NamedFile, Verdict, judge, printable
from ingestion.sources import Source, load_sources, raw_formats, upsert_sources
from ingestion.transport import (
    HELD_SUFFIX,
    Delivery,
    Location,
    UnreachableError,
    open_location,
)
from tollhouse.settings import Settings

UNFINISHED_SUFFIXES = (".part", ".tmp", ".filepart")  # names under which files are still written
WAIT_S = 600.0
# Clocks differ: a file is taken for collected in the second of its time if it is not older by more.
SAME_SECOND = timedelta(minutes=1)

# What the machine lacks, not the file: to go on would skip every file there is.
FATAL_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE})

logger = logging.getLogger(__name__)


@dataclass
class CollectResult:
    """What a collection did, by file id; `known` counts the files passed over.

    `skipped` names the files that could not be read, each with the reason: the journal says nothing
    of them, and the next collection tries them again. `unreachable` names the sources whose folder
    or host could not be reached, with the reason. `unfinished` are still being written, or wait for
    their marker. `cleared_away` counts the files deleted or moved where they were delivered, and
    `left_behind` names those that could not be. `alarms` are those raised now; of `cleared_alarms`
    the cause is gone.
    """

    collected: list[str] = field(default_factory=list)
    duplicate: dict[str, str] = field(default_factory=dict)
    rejected: dict[str, str] = field(default_factory=dict)
    unfinished: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    unreachable: dict[str, str] = field(default_factory=dict)
    unknown_folders: list[str] = field(default_factory=list)
    known: int = 0
    octets: int = 0
    cleared_away: int = 0
    left_behind: dict[str, str] = field(default_factory=dict)
    alarms: list[Alarm] = field(default_factory=list)
    cleared_alarms: int = 0


# The journal's name, size and time of a file: what it is known by.
_Key = tuple[str, int, datetime]


@dataclass(frozen=True)
class _Arrival(NamedFile):
    """One file of a source, where it is delivered, with the markers that go when it goes.

    A file that a killed collection held is one of the name it was delivered under.
    """

    location: Location
    delivery: Delivery
    markers: tuple[Delivery, ...] = ()
    lacks_marker: bool = False

    @property
    def key(self) -> _Key:
        return self.name, self.delivery.size, self.received_at

    @property
    def is_held(self) -> bool:
        return self.delivery.name == self.delivery.held_name


@dataclass
class _TakenIn:
    """What the journal has of one key: digests of files that may be cleared away, and of others.

    `is_ambiguous` where the time is in whole seconds and hardly older than the collection: another
    file of the key may have come within that second.
    """

    safe: set[str] = field(default_factory=set)
    others: set[str] = field(default_factory=set)
    is_ambiguous: bool = False


def collect(settings: Settings, wait_s: float = WAIT_S) -> CollectResult:
    """Journal and archive every new file of the sources, oldest arrival first.

    A file with the name, size and time of one in the journal is passed over. A file with the
    content of an earlier one of its source is recorded as a duplicate; one with the name of an
    earlier one and other content, or that is not what its source delivers, is rejected with a
    reason, and its original quarantined; files that are still being written are left for the next
    time. A file that cannot be read is skipped and reported, and so is a source that cannot be
    reached; the others go on. Each file is read once, in bounded memory, and is one transaction, so
    a collection may be killed anywhere and run again. At the end the alarms about files are brought
    up to date.

    Raises:
        JournalBusyError: another collection is still running after `wait_s` seconds.
        SourcesError: the list of sources cannot be used.
    """
    result = CollectResult()
    sources = load_sources(settings)
    formats = raw_formats(settings)
    with journal(settings, JournalWork.collect, wait_s) as connection:
        archive.clear_incoming(settings)
        upsert_sources(connection, sources)
        connection.commit()
        result.unknown_folders = _unknown_folders(settings, sources)
        for source in sources.values():
            try:
                _collect_from(settings, connection, source, formats, result)
            except UnreachableError as error:
                connection.rollback()
                if error.errno in FATAL_ERRORS:
                    raise
                reason = f"{source.source_id}: {printable(error)}; the next collection tries again"
                logger.warning("%s", reason)
                result.unreachable[source.source_id] = reason
        changes = alarms.update_alarms(settings, connection, sources)
        result.alarms, result.cleared_alarms = changes.raised, changes.cleared
        connection.commit()
    return result


def _unknown_folders(settings: Settings, sources: Mapping[str, Source]) -> list[str]:
    if not settings.landing_dir.is_dir():
        return []
    return sorted(
        path.name
        for path in settings.landing_dir.iterdir()
        if path.is_dir() and path.name not in sources
    )


def _collect_from(
    settings: Settings,
    connection: psycopg.Connection,
    source: Source,
    formats: Mapping[str, RawFormat],
    result: CollectResult,
) -> None:
    """Take in the new files of one source; then clear away what is taken in, if it says so."""
    if source.location is None and not (settings.landing_dir / source.source_id).is_dir():
        return  # nothing was ever delivered there
    with open_location(source.is_at(settings), source.credentials) as location:
        arrivals = sorted(
            _arrivals(location, source, formats, result),
            key=lambda arrival: (arrival.received_at, arrival.name),
        )
        known = _known_files(connection, source.source_id, [each.name for each in arrivals])
        unknown = [arrival for arrival in arrivals if arrival.key not in known]
        result.known += len(arrivals) - len(unknown)
        result.unfinished += [each.base_id for each in unknown if each.lacks_marker]
        new = [arrival for arrival in unknown if not arrival.lacks_marker]
        with _ReadAhead(settings, location, new) as ahead:
            for arrival in new:
                _take_in_or_skip(settings, connection, arrival, ahead, result)
        if source.after_collection != "keep":
            _clear_away(settings, connection, source, location, arrivals, result)


def _clear_away(  # noqa: PLR0917 - what a collection goes by
    settings: Settings,
    connection: psycopg.Connection,
    source: Source,
    location: Location,
    arrivals: Sequence[_Arrival],
    result: CollectResult,
) -> None:
    """Delete or move, where they are delivered, the files that the journal and the archive have.

    Killed anywhere, the next collection goes on: what is still there, held or not, is looked up
    again. Files of which no original is kept stay, and so does one that is no more what was taken
    in: the next collection takes that up from where it is.
    """
    journalled = _journalled(settings, connection, source.source_id, arrivals)
    # What a killed collection holds goes first: another file of the name needs its place.
    for arrival in sorted(arrivals, key=lambda each: not each.is_held):
        taken_in = journalled.get(arrival.key)
        if taken_in is None or not taken_in.safe:
            continue
        try:
            if not location.look_at(arrival.delivery.name).is_as(arrival.delivery):
                continue  # somebody is writing it anew
            held = replace(arrival, delivery=location.hold(arrival.delivery))
            if not held.delivery.is_as(arrival.delivery):
                continue  # overwritten since it was listed
            if taken_in.is_ambiguous and not _is_taken_in(
                settings, connection, held, taken_in, result
            ):
                continue
            _clear(held)
            result.cleared_away += 1
        except FileNotFoundError:
            continue  # somebody else did, or put another in its place
        except (OSError, psycopg.DataError, psycopg.IntegrityError) as error:
            connection.rollback()
            if isinstance(error, OSError) and error.errno in FATAL_ERRORS:
                raise
            if isinstance(error, UnreachableError) and not _answers(location, arrival):
                raise  # what is behind it cannot be cleared away either
            where = _journal_name(location.describe(arrival.delivery.name))
            reason = (
                f"{where} is taken in, but cannot be cleared away: {printable(error)};"
                " allow it, or set after_collection of the source to keep"
            )
            logger.warning("%s", reason)
            result.left_behind[arrival.base_id] = reason


def _answers(location: Location, arrival: _Arrival) -> bool:
    """Whether a location can still be asked: some say of one file what they say of a lost line."""
    try:
        location.look_at(arrival.delivery.name)
    except UnreachableError:
        return False
    except OSError:
        return True
    return True


def _clear(held: _Arrival) -> None:
    """Delete or move a held file, behind its marker.

    A marker that outlived its file would say of the next file of the name that it is whole, while
    that is being written; a file that lost its marker is known to the journal. A marker that was
    written anew is that of the next file.
    """
    location = held.location
    for marker in held.markers:
        with contextlib.suppress(FileNotFoundError):
            held_marker = location.hold(marker)
            if held_marker.is_as(marker):
                location.remove(held_marker)
    if held.source.after_collection == "delete":
        location.remove(held.delivery)
    else:
        location.move(held.delivery)


def _is_taken_in(
    settings: Settings,
    connection: psycopg.Connection,
    held: _Arrival,
    taken_in: _TakenIn,
    result: CollectResult,
) -> bool:
    """Whether a held file has the content that was taken in; one that has not is taken in now.

    Neither its size nor its time tells it from the other, so that no later collection would.
    """
    with held.location.open(held.delivery.name) as stream:
        incoming = archive.take_in(settings, stream)
    try:
        if _has_changed(held, incoming):  # where nothing is renamed
            return False
        if incoming.sha256 not in taken_in.safe | taken_in.others:
            _judge_and_keep(settings, connection, held, incoming, result)
        return incoming.sha256 in taken_in.safe
    finally:
        incoming.discard()


def _journalled(
    settings: Settings,
    connection: psycopg.Connection,
    source_id: str,
    arrivals: Sequence[_Arrival],
) -> dict[_Key, _TakenIn]:
    """What the journal has of files, by name, size and time.

    Safe are those that are taken in and whose original is in the archive. Refused ones are not:
    they stay where they are until they are loaded again.
    """
    rows = connection.execute(
        "select file_name, size_bytes, received_at, sha256, collected_at,"
        " status <> 'rejected', coalesce(duplicate_of_file_id, file_id)"
        " from control.usage_file where source_id = %s and file_name = any(%s)",
        (source_id, [each.name for each in arrivals]),
    )
    found: dict[_Key, _TakenIn] = {}
    for name, size, received_at, sha256, collected_at, is_in, kept_as in rows:
        taken_in = found.setdefault((name, size, received_at.astimezone(UTC)), _TakenIn())
        is_safe = is_in and archive.archive_path(settings, kept_as).is_file()
        (taken_in.safe if is_safe else taken_in.others).add(sha256)
        is_young = collected_at - received_at < SAME_SECOND
        taken_in.is_ambiguous |= is_young and received_at.microsecond == 0
    return found


class _ReadAhead:
    """Reads the next files, in their order, while others are judged: reading is most of the work.

    Only where the location may be read from several threads; else each file is read when it is due.
    """

    def __init__(
        self, settings: Settings, location: Location, arrivals: Sequence[_Arrival]
    ) -> None:
        self._settings = settings
        threads = settings.threads if location.is_parallel else 1
        self._pool = ThreadPoolExecutor(threads)
        self._due = iter(arrivals)
        self._reading: deque[Future[archive.Incoming]] = deque()
        for _ in range(threads if threads > 1 else 0):
            self._begin_next()

    def __enter__(self) -> _ReadAhead:
        return self

    def __exit__(self, *_: object) -> None:
        self._due = iter(())
        for reading in self._reading:
            if not reading.cancel() and reading.exception() is None:
                reading.result().discard()
        self._pool.shutdown()

    def next(self) -> archive.Incoming:
        """The next file, read; raises what reading it raised."""
        if not self._reading:
            self._begin_next()
            return self._reading.popleft().result()
        reading = self._reading.popleft()
        self._begin_next()
        return reading.result()

    def _begin_next(self) -> None:
        arrival = next(self._due, None)
        if arrival is not None:
            self._reading.append(self._pool.submit(self._read, arrival))

    def _read(self, arrival: _Arrival) -> archive.Incoming:
        with arrival.location.open(arrival.delivery.name) as stream:
            return archive.take_in(self._settings, stream)


def _arrivals(
    location: Location,
    source: Source,
    formats: Mapping[str, RawFormat],
    result: CollectResult,
) -> Iterator[_Arrival]:
    deliveries = {each.name: each for each in location.deliveries()}
    for delivery in deliveries.values():
        name = delivery.delivered_name
        if name.startswith(".") or name.endswith(UNFINISHED_SUFFIXES):
            continue
        if "/" in name or "\0" in name:  # a server's listing may say anything; a name is no path
            shown = _journal_name(name).replace("\0", "\\x00")
            file_id = f"{source.source_id}/{shown}"
            result.skipped[file_id] = f"{file_id}: its name is a path: it is not taken in"
            continue
        arrival = _Arrival(
            source, formats, _journal_name(name), delivery.modified_at, location, delivery
        )
        if source.done_marker is None:
            yield arrival
        elif not name.endswith(source.done_marker):  # a marker is no file
            marker = name + source.done_marker
            # One that was held says the same: it was written anew while the former one went.
            found = [deliveries.get(each) for each in (marker + HELD_SUFFIX, marker)]
            markers = tuple(each for each in found if each is not None)
            is_of_another = arrival.is_held and name in deliveries
            yield replace(
                arrival, markers=() if is_of_another else markers, lacks_marker=not markers
            )


def _journal_name(name: str) -> str:
    """A file's name as text that every database holds."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _known_files(
    connection: psycopg.Connection, source_id: str, names: list[str]
) -> set[tuple[str, int, datetime]]:
    rows = connection.execute(
        "select file_name, size_bytes, received_at from control.usage_file"
        " where source_id = %s and file_name = any(%s)",
        (source_id, names),
    )
    return {(name, size, received_at.astimezone(UTC)) for name, size, received_at in rows}


def _take_in_or_skip(
    settings: Settings,
    connection: psycopg.Connection,
    arrival: _Arrival,
    ahead: _ReadAhead,
    result: CollectResult,
) -> None:
    """Take in one file; what is wrong with it alone does not stop the others."""
    try:
        _take_in(settings, connection, arrival, ahead, result)
    except UnreachableError:
        raise  # whatever is behind it cannot be fetched either
    except (OSError, psycopg.DataError, psycopg.IntegrityError) as error:
        connection.rollback()
        if isinstance(error, OSError) and error.errno in FATAL_ERRORS:
            raise
        where = _journal_name(arrival.location.describe(arrival.delivery.name))
        reason = (
            f"{where} cannot be taken in: {printable(error)};"
            " make it readable, or remove it: the next collection tries it again"
        )
        logger.warning("%s", reason)
        result.skipped[arrival.base_id] = reason


def _take_in(
    settings: Settings,
    connection: psycopg.Connection,
    arrival: _Arrival,
    ahead: _ReadAhead,
    result: CollectResult,
) -> None:
    """Read one file, decide about it, and write its journal row: one transaction."""
    try:
        incoming = ahead.next()
    except FileNotFoundError:
        if _is_gone(arrival):
            return  # taken away between the listing and now
        raise
    try:
        if _has_changed(arrival, incoming):
            result.unfinished.append(arrival.base_id)
            return
        _judge_and_keep(settings, connection, arrival, incoming, result)
    finally:
        incoming.discard()


def _judge_and_keep(
    settings: Settings,
    connection: psycopg.Connection,
    arrival: _Arrival,
    incoming: Incoming,
    result: CollectResult,
) -> None:
    """Decide about a file that was read, and write its journal row unless it is unfinished."""
    raw = incoming.as_raw_file(arrival.name, arrival.received_at, ZoneInfo(arrival.source.timezone))
    verdict = judge(connection, arrival, raw, incoming.sha256)
    if verdict.status == "unfinished":
        result.unfinished.append(arrival.base_id)
        return
    _keep(settings, connection, arrival, incoming, verdict, result)


def _is_gone(arrival: _Arrival) -> bool:
    """Whether a file that cannot be opened is not even listed any more (a dead link still is)."""
    return all(each.name != arrival.delivery.name for each in arrival.location.deliveries())


def _has_changed(arrival: _Arrival, incoming: Incoming) -> bool:
    """Whether the file is not the one that was listed, so that it is written right now."""
    try:
        now = arrival.location.look_at(arrival.delivery.name)
    except FileNotFoundError:
        return incoming.size != arrival.delivery.size  # taken away once it was read whole
    return now != arrival.delivery or incoming.size != arrival.delivery.size


def _keep(  # noqa: PLR0917 - what a transaction is made of
    settings: Settings,
    connection: psycopg.Connection,
    arrival: _Arrival,
    incoming: Incoming,
    verdict: Verdict,
    result: CollectResult,
) -> None:
    """Put the original where it belongs, then journal it.

    After a kill in between, the next collection gives the file the same id and replaces the
    original by itself; what it judges otherwise, it takes from where the former verdict put it.
    """
    file_id = _free_file_id(connection, arrival)
    places = {
        "collected": archive.archive_path(settings, file_id),
        "rejected": archive.quarantine_path(settings, file_id),
    }
    for status, path in places.items():
        if status != verdict.status:
            path.unlink(missing_ok=True)
    if verdict.status in places:
        incoming.place(places[verdict.status])
    facts = verdict.facts or FileFacts()
    connection.execute(
        "insert into control.usage_file (file_id, source_id, file_name, format, province_code,"
        " sha256, size_bytes, sequence_number, sequence_date, created_at_source, received_at,"
        " collected_at, status, status_reason_code, status_reason_values, duplicate_of_file_id,"
        " declared_record_count)"
        " values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            file_id,
            arrival.source.source_id,
            arrival.name,
            verdict.raw_format.name if verdict.raw_format else None,
            arrival.source.province_code,
            incoming.sha256,
            incoming.size,
            verdict.number.sequence_number,
            verdict.number.sequence_date,
            facts.created_at,
            arrival.received_at,
            datetime.now(UTC),
            verdict.status,
            verdict.reason.code if verdict.reason else None,
            Jsonb(verdict.reason.document() if verdict.reason else {}),
            verdict.original_id,
            facts.declared_record_count,
        ),
    )
    connection.commit()
    result.octets += incoming.size
    if verdict.status == "collected":
        result.collected.append(file_id)
    elif verdict.status == "duplicate":
        result.duplicate[file_id] = verdict.original_id or ""
    else:
        result.rejected[file_id] = verdict.reason.en if verdict.reason else ""


def _free_file_id(connection: psycopg.Connection, arrival: _Arrival) -> str:
    """``source/name``; with ``#2``, ``#3`` … behind it when that is taken."""
    base = arrival.base_id
    if not connection.execute(
        "select from control.usage_file where file_id = %s", (base,)
    ).rowcount:
        return base
    rows = connection.execute(
        "select file_id from control.usage_file where source_id = %s and starts_with(file_id, %s)",
        (arrival.source.source_id, base),
    )
    taken = {file_id for (file_id,) in rows}
    return next(name for each in count(2) if (name := f"{base}#{each}") not in taken)
