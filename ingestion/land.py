"""Landing 入库: collected files are decoded into the raw tables, exactly once."""

from __future__ import annotations

import logging
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from ingestion import archive
from ingestion.formats import FORMATS, UnreadableFileError
from ingestion.formats.interface import ARROW_TYPES, FILE_COLUMNS, table_columns
from ingestion.journal_lock import JournalWork, journal
from tollhouse.settings import Settings
from tollhouse.warehouse import Warehouse, open_warehouse

RECORDS_PER_TRANSACTION = 500_000
WAIT_S = 600.0
REASON_LIMIT = 1000  # characters of a library's message that go into the journal

logger = logging.getLogger(__name__)


@dataclass
class LandResult:
    """What a landing did; `batch_id` is None when there was nothing to land."""

    batch_id: str | None = None
    files: int = 0
    records: int = 0
    decode_errors: Counter[str] = field(default_factory=Counter)
    rejected: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Collected:
    """A file of the journal that is to be landed."""

    file_id: str
    format_name: str
    sha256: str
    was_begun: bool  # a landing took it up before: there may be rows of it


def create_raw_tables(warehouse: Warehouse) -> None:
    """Make the raw table of every format, empty, where it is absent."""
    for raw_format in FORMATS.values():
        warehouse.create_table(raw_format.table, table_columns(raw_format))


def land(
    settings: Settings,
    on_progress: Callable[[int, int], None] | None = None,
    wait_s: float = WAIT_S,
) -> LandResult:
    """Decode every collected file into the raw table of its format.

    Files are landed in groups of up to `RECORDS_PER_TRANSACTION` records: the journal notes which
    batch takes them up, their rows are committed, the journal says landed. After a kill in between
    they are still `collected`, and what there may be of their rows is replaced. A file that cannot
    be decoded is rejected with the reason and has no rows; the others go on.

    Args:
        settings: says where.
        on_progress: called after each group with the files done and the files in all.
        wait_s: how long to wait for another writer of the warehouse or another landing to end.

    Raises:
        WarehouseBusyError: another process writes the warehouse.
        JournalBusyError: another landing is still running.
    """
    result = LandResult()
    with (
        open_warehouse(settings, "land usage files", wait_s) as warehouse,
        journal(settings, JournalWork.land, wait_s) as connection,
    ):
        create_raw_tables(warehouse)
        files = _collected_files(connection)
        if not files:
            return result
        started_at = datetime.now(UTC)
        result.batch_id = f"land-{started_at:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
        connection.execute(
            "insert into control.batch (batch_id, purpose, started_at, file_count, record_count)"
            " values (%s, 'land', %s, 0, 0)",
            (result.batch_id, started_at),
        )
        connection.commit()
        for group in _decoded_groups(settings, warehouse, connection, files, result):
            _land_group(warehouse, connection, group, result)
            if on_progress:
                on_progress(result.files + len(result.rejected), len(files))
        connection.execute(
            "update control.batch set ended_at = %s where batch_id = %s",
            (datetime.now(UTC), result.batch_id),
        )
        connection.commit()
    return result


def _collected_files(connection: psycopg.Connection) -> list[_Collected]:
    rows = connection.execute(
        "select file_id, format, sha256, batch_id is not null from control.usage_file"
        " where status = 'collected' order by received_at, file_id"
    )
    return [_Collected(*row) for row in rows]


def _decoded_groups(
    settings: Settings,
    warehouse: Warehouse,
    connection: psycopg.Connection,
    files: list[_Collected],
    result: LandResult,
) -> Iterator[list[tuple[_Collected, pa.Table]]]:
    """The files with their records, in groups that go into one transaction."""
    group: list[tuple[_Collected, pa.Table]] = []
    records = 0
    for file in files:
        try:
            content = archive.fetch(settings, file.file_id, file.sha256)
            table = FORMATS[file.format_name].decode(content)
        except MemoryError:
            raise  # the machine's fault, not the file's: on a larger one it may land
        except UnreadableFileError as error:
            _reject(warehouse, connection, file, str(error), result)
            continue
        except Exception as error:  # whatever it is, it is about this one file
            logger.exception("decoding %s failed", file.file_id)
            reason = _decoding_failure(settings, file, error)
            _reject(warehouse, connection, file, reason, result)
            continue
        if group and records + table.num_rows > RECORDS_PER_TRANSACTION:
            yield group
            group, records = [], 0
        group.append((file, table))
        records += table.num_rows
    if group:
        yield group


def _land_group(
    warehouse: Warehouse,
    connection: psycopg.Connection,
    group: list[tuple[_Collected, pa.Table]],
    result: LandResult,
) -> None:
    """Rows, then journal; a kill in between leaves a note that makes the next run replace them."""
    ids = [file.file_id for file, _ in group]
    connection.execute(
        "update control.usage_file set batch_id = %s where file_id = any(%s)",
        (result.batch_id, ids),
    )
    connection.commit()
    loaded_at = datetime.now(UTC).replace(tzinfo=None)
    with warehouse.transaction():
        for raw_format in FORMATS.values():
            mine = [(file, rows) for file, rows in group if file.format_name == raw_format.name]
            begun = [file.file_id for file, _ in mine if file.was_begun]
            if begun:
                marks = ", ".join("?" * len(begun))
                warehouse.execute(
                    f"delete from {raw_format.table} where _file_id in ({marks})",  # noqa: S608
                    begun,
                )
            if mine:
                rows = pa.concat_tables(
                    [_with_origin(rows, file, result, loaded_at) for file, rows in mine]
                )
                warehouse.append(raw_format.table, rows)
    _journal_landed(connection, group, result)
    result.files += len(group)
    result.records += sum(rows.num_rows for _, rows in group)
    for _, rows in group:
        for count in pc.value_counts(rows.column("_decode_error").drop_null()).to_pylist():
            result.decode_errors[count["values"]] += count["counts"]


def _journal_landed(
    connection: psycopg.Connection,
    group: list[tuple[_Collected, pa.Table]],
    result: LandResult,
) -> None:
    landed_at = datetime.now(UTC)
    with connection.cursor() as cursor:
        cursor.executemany(
            "update control.usage_file set status = 'landed',"
            " decoded_record_count = %s, landed_at = %s where file_id = %s",
            [(rows.num_rows, landed_at, file.file_id) for file, rows in group],
        )
    records = sum(rows.num_rows for _, rows in group)
    connection.execute(
        "update control.batch set file_count = file_count + %s, record_count = record_count + %s"
        " where batch_id = %s",
        (len(group), records, result.batch_id),
    )
    connection.commit()


def _with_origin(
    rows: pa.Table, file: _Collected, result: LandResult, loaded_at: datetime
) -> pa.Table:
    values = {"_file_id": file.file_id, "_batch_id": result.batch_id, "_loaded_at": loaded_at}
    for name, sql_type in FILE_COLUMNS.items():
        value = pa.scalar(values[name], ARROW_TYPES[sql_type])
        rows = rows.append_column(name, pa.repeat(value, rows.num_rows))
    return rows


def _decoding_failure(settings: Settings, file: _Collected, error: Exception) -> str:
    text = f"{type(error).__name__}: {error}".replace("\0", "\\x00")[:REASON_LIMIT]
    text = text.encode("utf-8", "backslashreplace").decode()
    return (
        f"it cannot be decoded as {file.format_name}: {text}; its original is"
        f" {archive.archive_path(settings, file.file_id)}, a corrected file may be sent"
        " under a new name"
    )


def _reject(
    warehouse: Warehouse,
    connection: psycopg.Connection,
    file: _Collected,
    reason: str,
    result: LandResult,
) -> None:
    """Refuse a file: first its rows go, if a landing before left any, then the journal says so."""
    if file.was_begun:
        with warehouse.transaction():
            for raw_format in FORMATS.values():
                warehouse.execute(
                    f"delete from {raw_format.table} where _file_id = ?",  # noqa: S608
                    [file.file_id],
                )
    connection.execute(
        "update control.usage_file set status = 'rejected', status_reason = %s where file_id = %s",
        (reason, file.file_id),
    )
    connection.commit()
    result.rejected[file.file_id] = reason
