"""What every raw format offers, and what the raw table of usage records has.

A format turns a file into rows of the common vocabulary `USAGE_COLUMNS`, a batch at a time, so
that memory is bounded by the batch and never by the file. It does not judge: what a value means,
whether a record is good, a duplicate or a part of a longer call is decided in SQL
(``dbt/models/mediation``).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from pathlib import Path
from typing import BinaryIO, Protocol
from zoneinfo import ZoneInfo

import pyarrow as pa

from tollhouse.file_reasons import FileReason

RAW_TABLE = "raw.usage_record"

HEAD_BYTES = 65_536  # of a file's beginning and of its end, to recognise it and to read its facts
BATCH_RECORDS = 131_072  # a decoded batch has at most about so many records

# Columns that say where in which file a record stands. The format writes all but the number, which
# `land` counts from 1 in file order.
RECORD_COLUMNS: dict[str, str] = {
    "_record_number": "integer",
    "_byte_offset": "bigint",  # in the file as received, uncompressed
    "_byte_length": "integer",
    "_decode_error": "varchar",  # FIELD_COUNT, TRUNCATED or MALFORMED; null if decoded
    "_decode_detail": "varchar",  # what was wrong and where (line or byte): `FileReason.kept`
    # The record as text (hex if it is binary) where it, or a field of it, could not be read.
    "_raw_record": "varchar",
}

# The fields of a record, the same for all formats; a format writes those it has, others are null.
# A value that cannot be read as the type is null, and the record's text stands in `_raw_record`.
USAGE_COLUMNS: dict[str, str] = {
    "record_type": "varchar",  # the format's own name of the kind of record
    "service": "varchar",  # voice, sms, mms, data, vas; else as received
    "direction": "varchar",  # mo, mt, forwarded; else as received
    "served_msisdn": "varchar",  # as received; `+` before it if marked as international
    "served_imsi": "varchar",
    "served_imei": "varchar",
    "other_party": "varchar",  # as dialled or shown; `+` before it if marked as international
    "started_local": "timestamp",  # local civil time of the network element
    "utc_offset_minutes": "integer",  # minutes the local time is ahead of UTC
    "duration_seconds": "bigint",
    "uplink_octets": "bigint",
    "downlink_octets": "bigint",
    "serving_plmn": "varchar",  # MCC and MNC, digits
    "cell_id": "varchar",
    "trunk_group_in": "varchar",
    "trunk_group_out": "varchar",
    "apn": "varchar",
    "rating_group": "bigint",
    "sp_id": "varchar",  # service provider of content
    "content_id": "varchar",
    "cause_for_closing": "integer",
    # What tells the call from every other one of the same source, service, direction and number.
    "call_reference": "varchar",
    "partial_sequence": "integer",  # number of the part of a long call, from 1; 0 or null = whole
    "is_last_partial": "boolean",  # no further part follows
    "unknown_tag_count": "integer",  # elements met that the format does not know
}

# Columns that say how it got here; written by `land`.
FILE_COLUMNS: dict[str, str] = {
    "_file_id": "varchar",
    "_batch_id": "varchar",
    "_loaded_at": "timestamp",
}

ARROW_TYPES: dict[str, pa.DataType] = {
    "varchar": pa.string(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "boolean": pa.bool_(),
    "timestamp": pa.timestamp("us"),
}

# The codes of `_decode_error`.
FIELD_COUNT = "field_count"
TRUNCATED = "truncated"
MALFORMED = "malformed"

RAW_RECORD_LIMIT = 65_536  # bytes of a record that cannot be read that are kept beside it


class UnreadableFileError(ValueError):
    """A file cannot be taken in at all; the reason says what is wrong with it, and where."""

    def __init__(self, code: str, **values: str) -> None:
        self.reason = FileReason(code, values)
        super().__init__(self.reason.en)


@dataclass(frozen=True)
class FileFacts:
    """What a file says about itself.

    `source_id` is None where the format does not name its sender, `declared_record_count` where the
    file does not say (a truncated text file has lost its trailer). `lacks` says what is missing at
    the end of the file, None if it ends as it should or the format has no mark of an end.
    """

    source_id: str | None = None
    sequence_number: int | None = None
    created_at: datetime | None = None
    declared_record_count: int | None = None
    lacks: FileReason | None = None


@dataclass(frozen=True)
class RawFile:
    """A file to be read: how long it is, and a way to a fresh stream from its beginning.

    `head` and `tail` are its first and last `HEAD_BYTES` octets (the whole of a shorter file). The
    stream need not be seekable. `received_at` (UTC) and `timezone` (of the sending network element)
    complete times that lack a year or an offset.
    """

    name: str
    size: int
    head: bytes
    tail: bytes
    received_at: datetime
    open_stream: Callable[[], BinaryIO]
    timezone: tzinfo = field(default=ZoneInfo("Asia/Shanghai"))

    @classmethod
    def of_bytes(
        cls, content: bytes, name: str, received_at: datetime, zone: tzinfo | None = None
    ) -> RawFile:
        """A file whose content is at hand."""
        return cls(
            name, len(content), content[:HEAD_BYTES], content[-HEAD_BYTES:], received_at,
            lambda: io.BytesIO(content), zone or ZoneInfo("Asia/Shanghai"),
        )  # fmt: skip

    @classmethod
    def of_path(
        cls, path: Path, name: str, received_at: datetime, zone: tzinfo | None = None
    ) -> RawFile:
        """A file in a folder."""
        size = path.stat().st_size
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
            stream.seek(max(size - HEAD_BYTES, 0))
            tail = stream.read(HEAD_BYTES)
        return cls(
            name, size, head, tail, received_at, lambda: path.open("rb"),
            zone or ZoneInfo("Asia/Shanghai"),
        )  # fmt: skip


class RawFormat(Protocol):
    """One raw format: recognising it, reading what a file says of itself, decoding its records."""

    @property
    def name(self) -> str:
        """Name of the format, as in ``sources.yaml``."""

    @property
    def numbers_files(self) -> bool:
        """Whether its files may say their sequence number."""

    def recognises(self, head: bytes) -> bool:
        """Whether the first octets (at most `HEAD_BYTES`) are those of a file of this format."""

    def read_facts(self, file: RawFile) -> FileFacts:
        """What the file's header and trailer say, from its head and tail.

        Raises:
            UnreadableFileError: they say nothing that can be used.
        """

    def decode(self, file: RawFile) -> Iterator[pa.Table]:
        """Every record of the file, in file order, a batch at a time.

        A batch has `RECORD_COLUMNS` without the number, and those of `USAGE_COLUMNS` the format
        has, in their Arrow types. A record that cannot be decoded is a row with `_decode_error`,
        `_decode_detail` and `_raw_record` and null fields; the records behind it are not lost.

        Raises:
            UnreadableFileError: nothing of the file can be read; the message names the byte.
        """


def raw_columns() -> dict[str, str]:
    """All columns of the raw table with their SQL types, in order."""
    return {**FILE_COLUMNS, **RECORD_COLUMNS, **USAGE_COLUMNS}


def raw_schema() -> pa.Schema:
    """The same as an Arrow schema."""
    return pa.schema([(name, ARROW_TYPES[kind]) for name, kind in raw_columns().items()])


def batch_table(
    *,
    offsets: pa.Array,
    lengths: pa.Array,
    raw_records: pa.Array,
    fields: Mapping[str, pa.Array],
    errors: pa.Array | None = None,
    details: pa.Array | None = None,
) -> pa.Table:
    """A decoded batch from its columns, each cast to its type; without errors if none are given."""
    none = pa.nulls(len(offsets), pa.string())
    errors = none if errors is None else errors
    details = none if details is None else details
    service = (offsets, lengths, errors, details, raw_records)
    names = [name for name in RECORD_COLUMNS if name != "_record_number"]
    columns = dict(zip(names, service, strict=True)) | dict(fields)
    types = RECORD_COLUMNS | USAGE_COLUMNS
    return pa.table(
        {name: column.cast(ARROW_TYPES[types[name]]) for name, column in columns.items()}
    )
