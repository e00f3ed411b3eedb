"""What every raw format offers, and what every raw table has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import numpy as np
import pyarrow as pa

# Columns of a record that say where it came from; written by the format's decoder.
RECORD_COLUMNS: dict[str, str] = {
    "_record_number": "integer",
    "_byte_offset": "bigint",
    "_byte_length": "integer",
    "_decode_error": "varchar",
    "_decode_detail": "varchar",
    "_raw_record": "varchar",
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
    "timestamp": pa.timestamp("us"),
}

# The codes of `_decode_error`.
FIELD_COUNT = "field_count"
TRUNCATED = "truncated"
MALFORMED = "malformed"

RAW_RECORD_LIMIT = 65_536  # bytes of an undecodable record that are kept beside it


class UnreadableFileError(ValueError):
    """A file cannot be taken in at all; the message says what is wrong with it."""


@dataclass(frozen=True)
class FileFacts:
    """What a file says about itself.

    `declared_record_count` is None where the file does not say (a truncated text file has lost
    its trailer). `lacks` says what is missing at the end of the file, None if it ends as it should.
    """

    source_id: str | None
    sequence_number: int | None
    created_at: datetime | None
    declared_record_count: int | None
    lacks: str | None = None


class RawFormat(Protocol):
    """One raw format: recognising it, reading what a file says of itself, decoding its records."""

    @property
    def name(self) -> str:
        """Name of the format, as in ``sources.yaml``."""

    @property
    def table(self) -> str:
        """The raw table its records go to, with schema."""

    @property
    def columns(self) -> Mapping[str, str]:
        """The fields of a record and their SQL types, without the service columns."""

    def recognises(self, content: bytes) -> bool:
        """Whether the first bytes are those of a file of this format."""

    def read_facts(self, content: bytes, file_name: str, received_at: datetime) -> FileFacts:
        """What the file's header, trailer and name say.

        Raises:
            UnreadableFileError: they say nothing that can be used.
        """

    def decode(self, content: bytes) -> pa.Table:
        """Every record of the file: `RECORD_COLUMNS` and the format's columns, in file order.

        A record that cannot be decoded is a row with `_decode_error` and null fields.
        """


def table_columns(raw_format: RawFormat) -> dict[str, str]:
    """All columns of a format's raw table with their SQL types."""
    return {**FILE_COLUMNS, **RECORD_COLUMNS, **raw_format.columns}


def record_columns(
    *,
    offsets: pa.Array,
    lengths: pa.Array,
    errors: pa.Array,
    details: pa.Array,
    raw_records: pa.Array,
) -> dict[str, pa.Array]:
    """The service columns of the records of one file, numbered from 1 in file order."""
    numbers = pa.array(np.arange(1, len(offsets) + 1, dtype=np.int32))
    columns = (numbers, offsets, lengths, errors, details, raw_records)
    return {
        name: column.cast(ARROW_TYPES[sql_type])
        for (name, sql_type), column in zip(RECORD_COLUMNS.items(), columns, strict=True)
    }
