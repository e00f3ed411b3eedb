"""Decoding a unit of files into Parquet parts: what each process of a landing does."""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import multiprocessing
import os
import re
import resource
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingestion.archive import (
    Original,
    OriginalUnavailableError,
    archive_path,
    quarantine_path,
)  # fmt: skip
from ingestion.formats import RawFile, RawFormat, UnreadableFileError
from ingestion.formats.interface import raw_schema
from ingestion.sources import raw_formats
from tollhouse.file_reasons import FileReason
from tollhouse.settings import Settings
from tollhouse.warehouse.raw_parts import (
    BATCH_COLUMN,
    FILES_KEY,
    UNFINISHED_SUFFIX,
    batch_folder,
)

RECORDS_PER_PART = 500_000
RECORDS_PER_GROUP = 131_072  # of a part's row group: what a reader skips or reads as a whole
BYTES_PER_GROUP = 64_000_000  # in memory, where records kept as received make rows long
IN_HAND_SUFFIX = ".in-hand"
REASON_LIMIT = 1000  # characters of a library's message that go into the journal

# Raw records are read within minutes by mediation and then hardly ever: zstd would make them less
# than half as long, and take longer to write and to read than the rest of it.
COMPRESSION = "lz4"
# Columns with few values, which a part writes as numbers into a list of them.
DICTIONARY = (
    "_file_id", "_loaded_at", "_decode_error", "record_type", "service", "direction",
    "utc_offset_minutes", "serving_plmn", "cell_id", "trunk_group_in", "trunk_group_out", "apn",
    "rating_group", "sp_id", "content_id", "cause_for_closing", "partial_sequence",
    "unknown_tag_count",
)  # fmt: skip
# Columns that readers find row groups by; least and greatest values of others cost more than they
# save.
SEARCHED = ("_file_id", "_record_number", "started_local")

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # options of the C library's allocator (malloc.h)

logger = logging.getLogger(__name__)

PART_SCHEMA = raw_schema().remove(raw_schema().get_field_index(BATCH_COLUMN))


@dataclass(frozen=True)
class CollectedFile:
    """A file of the journal that is to be landed."""

    file_id: str
    name: str
    format_name: str
    sha256: str
    size: int
    received_at: datetime
    timezone: str


@dataclass(frozen=True)
class Unit:
    """Files that one process decodes; the parts are named after the unit."""

    batch_id: str
    name: str
    files: tuple[CollectedFile, ...]


@dataclass
class UnitOutcome:
    """What became of a unit: finished parts, records by landed file, reasons by rejected one.

    Of `unavailable` files the original could not be read: they are still collected. `peak_mb` is
    the most memory that its process has had so far.
    """

    parts: list[Path] = field(default_factory=list)
    landed: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, FileReason] = field(default_factory=dict)
    unavailable: dict[str, FileReason] = field(default_factory=dict)
    decode_errors: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=lambda: {"decode": 0.0, "write": 0.0})
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC).replace(tzinfo=None))
    peak_mb: int = 0

    @contextmanager
    def timing(self, phase: str) -> Iterator[None]:
        """Add the time spent inside to a phase."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] += time.perf_counter() - begun


def begin_decoding() -> None:
    """Make a process ready to decode units, and nothing else."""
    _end_with_parent()
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Have freed memory used again, not given back: each block of records needs as much anew.

    To fetch it page by page from the system took a tenth of decoding BER. Where the C library has
    no such option nothing changes.
    """
    with contextlib.suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, 32 << 20)  # the most it takes; more than any column of a block
        mallopt(_TRIM_THRESHOLD, 1 << 30)


def _end_with_parent() -> None:
    """Make this process end when the landing that began it is killed: else it waits for ever."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def files_in_hand(folder: Path) -> set[str]:
    """The files that processes were decoding when they died; their notes are deleted."""
    names = set()
    for note in folder.glob(f"*{IN_HAND_SUFFIX}"):
        names.add(note.read_text(encoding="utf-8"))
        note.unlink()
    return names


def discard_parts(folder: Path, unit_name: str) -> None:
    """Delete the parts of a unit, finished or not, before its files are decoded again."""
    name = re.compile(rf"{re.escape(unit_name)}-\d{{3,5}}\.parquet({UNFINISHED_SUFFIX})?")
    for path in folder.glob(f"{unit_name}-*"):
        if name.fullmatch(path.name):
            path.unlink()


def decode_unit(settings: Settings, unit: Unit) -> UnitOutcome:
    """Decode the files of a unit into parts of its batch, a batch of records at a time.

    A file that cannot be decoded is rejected, one whose original cannot be read is left for the
    next landing; what was written of them does not count, as the journal will not name the batch
    for them.
    """
    outcome = UnitOutcome()
    formats = raw_formats(settings)
    folder = batch_folder(settings, unit.batch_id)
    note = folder / f"{unit.name}{IN_HAND_SUFFIX}"
    writer = _PartWriter(folder, unit.name, outcome)
    try:
        for file in unit.files:
            note.write_text(file.file_id, encoding="utf-8")
            try:
                _decode_file(settings, formats[file.format_name], file, writer, outcome)
            except MemoryError:
                raise  # the machine's fault, not the file's: on a larger one it may land
            except UnreadableFileError as error:
                writer.drop_pending_of(file.file_id)
                outcome.rejected[file.file_id] = error.reason
            except OriginalUnavailableError as error:
                writer.drop_pending_of(file.file_id)
                outcome.unavailable[file.file_id] = error.reason
            except OSError:
                raise  # a full disk is nothing a file is to blame for
            except Exception as error:  # whatever it is, it is about this one file
                logger.exception("decoding %s failed", file.file_id)
                writer.drop_pending_of(file.file_id)
                outcome.rejected[file.file_id] = _decoding_failure(settings, file, error)
        writer.finish()
    except BaseException:
        writer.abandon()
        raise
    finally:
        note.unlink(missing_ok=True)
    outcome.peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return outcome


def _decode_file(
    settings: Settings,
    raw_format: RawFormat,
    file: CollectedFile,
    writer: _PartWriter,
    outcome: UnitOutcome,
) -> None:
    original = Original(archive_path(settings, file.file_id), file.sha256, file.size)
    raw_file = original.as_raw_file(file.name, file.received_at, ZoneInfo(file.timezone))
    errors: Counter[str] = Counter()
    records = 0
    for table in _batches(raw_format, raw_file, outcome):
        if table.num_rows:
            with outcome.timing("write"):
                rows = _as_raw(table, file.file_id, records + 1, outcome.started_at)
            records += table.num_rows
            for count in pc.value_counts(rows.column("_decode_error").drop_null()).to_pylist():
                errors[count["values"]] += count["counts"]
            writer.add(file.file_id, rows)
    if not original.is_verified:  # a format may stop before the end, at the last record
        with outcome.timing("decode"):
            original.verify()
    outcome.landed[file.file_id] = records
    outcome.decode_errors.update(errors)


def _batches(raw_format: RawFormat, raw_file: RawFile, outcome: UnitOutcome) -> Iterator[pa.Table]:
    """The decoded batches, with the time that decoding them takes."""
    batches = iter(raw_format.decode(raw_file))
    while True:
        with outcome.timing("decode"):
            table = next(batches, None)
        if table is None:
            return
        yield table


def _as_raw(table: pa.Table, file_id: str, first_number: int, loaded_at: datetime) -> pa.Table:
    """A decoded batch with every column of a part, in order.

    Raises:
        ArrowInvalid: a text is no UTF-8, which would make the part unreadable for the warehouse.
    """
    count = table.num_rows
    numbers = np.arange(first_number, first_number + count, dtype=np.int32)
    given = {
        "_file_id": pa.repeat(pa.scalar(file_id, pa.string()), count),
        "_loaded_at": pa.repeat(pa.scalar(loaded_at, pa.timestamp("us")), count),
        "_record_number": pa.array(numbers),
    }
    names = set(table.column_names)
    columns = []
    for each in PART_SCHEMA:
        if each.name in given:
            columns.append(given[each.name])
        elif each.name in names:
            columns.append(table.column(each.name).cast(each.type))
        else:
            columns.append(pa.nulls(count, each.type))
    rows = pa.table(columns, schema=PART_SCHEMA)
    rows.validate(full=True)
    return rows


class _PartWriter:
    """Writes records into parts: row groups of even size, whatever the size of the files."""

    def __init__(self, folder: Path, unit_name: str, outcome: UnitOutcome) -> None:
        self._folder, self._unit_name, self._outcome = folder, unit_name, outcome
        self._pending: list[tuple[str, pa.Table]] = []
        self._writer: pq.ParquetWriter | None = None
        self._path = folder
        self._number = self._records = 0
        self._files: dict[str, None] = {}

    def add(self, file_id: str, rows: pa.Table) -> None:
        """Write records of a file, now or with those that follow."""
        self._pending.append((file_id, rows))
        tables = [table for _, table in self._pending]
        if (
            sum(table.num_rows for table in tables) >= RECORDS_PER_GROUP
            or sum(table.nbytes for table in tables) >= BYTES_PER_GROUP
        ):
            self._write()

    def drop_pending_of(self, file_id: str) -> None:
        """Forget what is not written yet of a file that turned out to be bad."""
        self._pending = [each for each in self._pending if each[0] != file_id]

    def finish(self) -> None:
        """Write what is left, and give the last part its name."""
        self._write()
        self._end_part()

    def abandon(self) -> None:
        """Leave no unfinished part behind."""
        if self._writer is not None:
            self._writer.close()
            self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        if not self._pending:
            return
        with self._outcome.timing("write"):
            rows = pa.concat_tables([table for _, table in self._pending])
            if self._writer is None:
                self._begin_part()
            assert self._writer is not None  # noqa: S101 - for mypy
            groups = -(-rows.num_rows // RECORDS_PER_GROUP)
            self._writer.write_table(rows, row_group_size=-(-rows.num_rows // groups))
            self._files |= dict.fromkeys(file_id for file_id, _ in self._pending)
            self._records += rows.num_rows
            self._pending.clear()
            if self._records >= RECORDS_PER_PART:
                self._end_part()

    def _begin_part(self) -> None:
        name = f"{self._unit_name}-{self._number:03d}.parquet{UNFINISHED_SUFFIX}"
        self._path = self._folder / name
        self._writer = pq.ParquetWriter(
            self._path, PART_SCHEMA, compression=COMPRESSION, use_dictionary=list(DICTIONARY),
            write_statistics=list(SEARCHED), store_schema=False,
        )  # fmt: skip

    def _end_part(self) -> None:
        if self._writer is None:
            return
        self._writer.add_key_value_metadata({FILES_KEY: json.dumps(list(self._files)).encode()})
        self._writer.close()
        with self._path.open("rb") as part:
            os.fsync(part.fileno())
        target = self._path.with_suffix("")
        self._path.replace(target)
        handle = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        self._outcome.parts.append(target)
        self._writer, self._records, self._number = None, 0, self._number + 1
        self._files = {}


def _decoding_failure(settings: Settings, file: CollectedFile, error: Exception) -> FileReason:
    return FileReason(
        "undecodable",
        {
            "format": file.format_name,
            "detail": _tidy(f"{type(error).__name__}: {error}"[:REASON_LIMIT]),
            "path": str(quarantine_path(settings, file.file_id)),
        },
    )


def _tidy(text: str) -> str:
    """Text that every database holds."""
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()
