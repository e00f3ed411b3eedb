"""Rows of formats that are read record by record, on their way into a decoded batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from ingestion.formats.interface import ARROW_TYPES, USAGE_COLUMNS, batch_table


class RowBatch:
    """Collects rows and makes them a batch with the columns of `USAGE_COLUMNS` named."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._offsets: list[int] = []
        self._lengths: list[int] = []
        self._errors: list[str | None] = []
        self._details: list[str | None] = []
        self._raw_records: list[str | None] = []
        self._values: list[Mapping[str, object]] = []

    def __len__(self) -> int:
        return len(self._offsets)

    def add(
        self, offset: int, length: int, values: Mapping[str, object], *, error: str | None = None,
        detail: str | None = None, raw_record: str | None = None,
    ) -> None:  # fmt: skip
        """Add a row: where it stands in the file, its values by column, what is wrong with it."""
        self._offsets.append(offset)
        self._lengths.append(length)
        self._errors.append(error)
        self._details.append(detail)
        self._raw_records.append(raw_record)
        self._values.append(values)

    def table(self) -> pa.Table:
        """The rows so far."""
        return batch_table(
            offsets=pa.array(self._offsets),
            lengths=pa.array(self._lengths),
            errors=pa.array(self._errors, pa.string()),
            details=pa.array(self._details, pa.string()),
            raw_records=pa.array(self._raw_records, pa.string()),
            fields={
                name: pa.array(
                    [row.get(name) for row in self._values], ARROW_TYPES[USAGE_COLUMNS[name]]
                )
                for name in self._names
            },
        )
