"""Raw records: Parquet parts below the home folder, and how the warehouse sees them as one table.

``<raw_dir>/_batch_id=<batch>/<part>.parquet`` holds the records of one or more files of a landing.
Nothing is ever changed in a part. A row counts only if the file journal names its batch for its
file: what a killed landing left is dead, and deleted by the next one (`remove_dead_parts`).

Embedded profile: the view ``raw.usage_record`` reads the parts. Server profile: the table of that
name in PostgreSQL gets the rows of each part (`publish_parts`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tollhouse.settings import Profile, Settings
from tollhouse.warehouse.connection import CATALOGUE, Warehouse, refresh_raw_view

TABLE = "raw.usage_record"
BATCH_COLUMN = "_batch_id"  # stands in the name of the folder, not in the part
FILE_COLUMN = "_file_id"
SCHEMA_FOLDER = f"{BATCH_COLUMN}=0"  # first of all batches: its empty part gives the columns
UNFINISHED_SUFFIX = ".tmp"
FILES_KEY = b"tollhouse.files"  # of a part's metadata: the ids of the files in it, JSON


@dataclass(frozen=True)
class Part:
    """One finished part."""

    path: Path
    batch_id: str
    octets: int

    def file_ids(self) -> list[str]:
        """The files with records in it."""
        metadata = pq.read_metadata(self.path).metadata or {}
        return [str(file_id) for file_id in json.loads(metadata.get(FILES_KEY, b"[]"))]


def batch_folder(settings: Settings, batch_id: str) -> Path:
    """Where the parts of a landing stand."""
    return settings.raw_dir / f"{BATCH_COLUMN}={batch_id}"


def parts(settings: Settings, batch_ids: Iterable[str] | None = None) -> Iterator[Part]:
    """The finished parts of some batches, or of all."""
    if batch_ids is None:
        folders = sorted(settings.raw_dir.glob(f"{BATCH_COLUMN}=*"))
    else:
        folders = [batch_folder(settings, batch_id) for batch_id in sorted(batch_ids)]
    for folder in folders:
        if folder.name != SCHEMA_FOLDER:
            for path in sorted(folder.glob("*.parquet")):
                yield Part(path, folder.name.partition("=")[2], path.stat().st_size)


def prepare_raw(warehouse: Warehouse, settings: Settings, schema: pa.Schema) -> None:
    """Make ``raw.usage_record``, empty if nothing was landed yet; calling it again does no harm.

    Args:
        warehouse: open for writing.
        settings: says where the parts are, and which engine.
        schema: columns of the raw table, the batch's among them, in order.
    """
    _write_schema_part(settings, schema)
    if settings.profile is Profile.embedded:
        refresh_raw_view(warehouse.connection, settings.raw_dir)
        return
    (kind,) = warehouse.rows(
        "select max(case when table_name is null then 0 else 1 end) from information_schema.tables"
        " where table_catalog = ? and table_schema = 'raw' and table_name = 'usage_record'",
        [CATALOGUE],
    )[0]
    types = {"string": "varchar", "int32": "integer", "int64": "bigint", "bool": "boolean"}
    columns = {each.name: types.get(str(each.type), "timestamp") for each in schema}
    if not kind:
        warehouse.create_table(TABLE, columns)
        for column in (BATCH_COLUMN, FILE_COLUMN):
            # DuckDB makes no index in PostgreSQL: the statement goes there as it is.
            warehouse.execute(
                "call postgres_execute(?, ?)",
                [
                    CATALOGUE,
                    f"create index if not exists usage_record_{column.strip('_')}"
                    f" on {TABLE} ({column})",
                ],
            )
        return
    present = {
        name
        for (name,) in warehouse.rows(
            "select column_name from information_schema.columns where table_catalog = ?"
            " and table_schema = 'raw' and table_name = 'usage_record'",
            [CATALOGUE],
        )
    }
    for name, sql_type in columns.items():
        if name not in present:
            warehouse.execute(f"alter table {TABLE} add column {name} {sql_type}")


def publish_parts(
    warehouse: Warehouse, settings: Settings, batch_id: str, paths: Sequence[Path]
) -> None:
    """Make the rows of parts of a batch visible; doing it again leaves them there once.

    Nothing to do on the embedded profile, whose view sees every part as soon as it is there.
    """
    if settings.profile is Profile.embedded or not paths:
        return
    file_ids = sorted({each for path in paths for each in Part(path, batch_id, 0).file_ids()})
    schema = pq.read_schema(paths[0])
    # PostgreSQL's text cannot hold a zero octet.
    values = ", ".join(
        f"replace({each.name}, chr(0), '\\x00')" if pa.types.is_string(each.type) else each.name
        for each in schema
    )
    names = ", ".join(each.name for each in schema)
    with warehouse.transaction():
        _delete_rows(warehouse, {batch_id: file_ids})
        warehouse.execute(
            f"insert into {TABLE} ({BATCH_COLUMN}, {names}) select ?, {values}"  # noqa: S608
            " from read_parquet(?, hive_partitioning = false)",
            [batch_id, [str(path) for path in paths]],
        )


def remove_parts(warehouse: Warehouse, settings: Settings, doomed: Sequence[Part]) -> int:
    """Delete parts, and on the server profile their rows; returns the bytes freed."""
    if settings.profile is not Profile.embedded and doomed:
        files: dict[str, list[str]] = {}
        for part in doomed:
            files.setdefault(part.batch_id, []).extend(part.file_ids())
        with warehouse.transaction():
            _delete_rows(warehouse, files)
    for part in doomed:
        part.path.unlink(missing_ok=True)
    for folder in {part.path.parent for part in doomed}:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    return sum(part.octets for part in doomed)


def remove_unfinished(settings: Settings, batch_id: str) -> None:
    """Delete what a killed landing was writing when it died."""
    folder = batch_folder(settings, batch_id)
    for path in folder.glob(f"*{UNFINISHED_SUFFIX}"):
        path.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _delete_rows(warehouse: Warehouse, files: Mapping[str, Sequence[str]]) -> None:
    for batch_id, file_ids in files.items():
        marks = ", ".join("?" * len(file_ids))
        if file_ids:
            warehouse.execute(
                f"delete from {TABLE} where {BATCH_COLUMN} = ?"  # noqa: S608
                f" and {FILE_COLUMN} in ({marks})",
                [batch_id, *file_ids],
            )


def _write_schema_part(settings: Settings, schema: pa.Schema) -> None:
    """Leave an empty part with the columns of today; one of former columns stays beside it.

    Where there are two, parts differ in their columns, and the view looks into each.
    """
    part_schema = schema.remove(schema.get_field_index(BATCH_COLUMN))
    folder = settings.raw_dir / SCHEMA_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    present = sorted(folder.glob("schema-*.parquet"))
    if any(pq.read_schema(path).equals(part_schema) for path in present):
        return
    part = folder / f"schema.{os.getpid()}{UNFINISHED_SUFFIX}"
    pq.write_table(part_schema.empty_table(), part)
    part.replace(folder / f"schema-{len(present) + 1:04d}.parquet")
