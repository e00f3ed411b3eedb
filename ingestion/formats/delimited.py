"""Delimited text files, described by a YAML layout; decoded by column, never record by record.

NumPy finds the lines and counts the fields of all of them at once; what is sound is parsed by
Arrow's CSV reader in one go. Only the lines that are wrong are looked at one by one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pacsv
import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator

from ingestion.formats.interface import (
    FIELD_COUNT,
    MALFORMED,
    RAW_RECORD_LIMIT,
    TRUNCATED,
    FileFacts,
    UnreadableFileError,
    record_columns,
)

LINE_FEED, CARRIAGE_RETURN = 10, 13
HEADER_LIMIT = 4096  # the header lines stand within the first bytes, the trailer within the last
PARSE_BLOCK = 16 * 2**20

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


class DelimitedFormat(BaseModel):
    """One delimited format; its fields are those of the YAML layout."""

    model_config = ConfigDict(extra="forbid", frozen=True, ignored_types=(cached_property,))

    name: str
    table: str
    delimiter: str = Field(min_length=1, max_length=1)
    header: list[str] = Field(min_length=1, description="A regular expression per header line.")
    record_type: str | None = Field(description="First field of every record line, if any.")
    trailer_type: str = Field(description="First field of the trailer.")
    trailer: str = Field(description="Regular expression of the trailer line.")
    column_names: list[str] = Field(alias="columns", min_length=1)

    @field_validator("header", "trailer")
    @classmethod
    def _compiles(cls, value: list[str] | str) -> list[str] | str:
        for pattern in [value] if isinstance(value, str) else value:
            re.compile(pattern)
        return value

    @property
    def columns(self) -> Mapping[str, str]:
        """Every field as text: what it means is decided in SQL, where a reject can be named."""
        return dict.fromkeys(self.column_names, "varchar")

    def recognises(self, content: bytes) -> bool:
        """Whether the file begins with the layout's header lines."""
        return self._read_header(content) is not None

    def read_facts(self, content: bytes, file_name: str, received_at: datetime) -> FileFacts:
        """What header and trailer say; the name and the arrival say nothing more here."""
        match = self._read_header(content)
        if match is None:
            raise UnreadableFileError(f"{file_name} has no header of {self.name}")
        fields = {key: value.decode("ascii", "replace") for key, value in match.groupdict().items()}
        try:
            created_at = datetime.strptime(
                fields["created"] + fields["utc_offset"], "%Y%m%d%H%M%S%z"
            ).astimezone(UTC)
        except (ValueError, OverflowError):
            raise UnreadableFileError(
                f"the header of {file_name} says it was created at"
                f" {fields['created']} {fields['utc_offset']}, which is no time"
            ) from None
        trailer = re.fullmatch(self.trailer.encode(), _last_line(content))
        return FileFacts(
            source_id=fields["source_id"],
            sequence_number=int(fields["sequence_number"]),
            created_at=created_at,
            declared_record_count=int(trailer["record_count"]) if trailer else None,
            lacks=self._missing_end(content, has_trailer=trailer is not None),
        )

    def decode(self, content: bytes) -> pa.Table:
        """Every line between header and trailer, one row each."""
        lines = self._split(content)
        faults = self._find_faults(content, lines)
        fields = self._parse_good_lines(content, lines, faults)
        service = record_columns(
            offsets=pa.array(lines.starts),
            lengths=pa.array(lines.ends - lines.starts),
            errors=faults.column(0),
            details=faults.column(1),
            raw_records=faults.column(2),
        )
        return pa.table({**service, **fields})

    def _missing_end(self, content: bytes, *, has_trailer: bool) -> str | None:
        if not has_trailer:
            return f"its trailer ({self.trailer_type})"
        # A trailer without its line feed may be the first digits of a longer one.
        return None if content.endswith(b"\n") else "the line feed behind its trailer"

    def _read_header(self, content: bytes) -> re.Match[bytes] | None:
        lines = content[:HEADER_LIMIT].split(b"\n")[: len(self.header) + 1]
        if len(lines) <= len(self.header):  # the last header line, too, ends in a line feed
            return None
        matches = [
            re.fullmatch(pattern.encode(), line.removesuffix(b"\r"))
            for pattern, line in zip(self.header, lines, strict=False)
        ]
        return matches[0] if all(matches) else None

    def _split(self, content: bytes) -> _Lines:
        """Where every record line begins and ends (header, trailer and blank ends left out)."""
        size = len(content.rstrip(b"\r\n"))
        octets = np.frombuffer(content, np.uint8, count=size)
        feeds = np.flatnonzero(octets == LINE_FEED)
        starts = np.concatenate(([0], feeds + 1)).astype(np.int64)
        ends = np.concatenate((feeds, [size])).astype(np.int64)
        ends = ends - ((ends > starts) & (octets[ends - 1] == CARRIAGE_RETURN))
        header_lines = len(self.header)
        starts, ends = starts[header_lines:], ends[header_lines:]
        is_cut = False
        if len(starts):
            last = content[starts[-1] : ends[-1]]
            is_cut = size == len(content)
            kind = self.trailer_type.encode()
            is_trailer = re.fullmatch(self.trailer.encode(), last) is not None
            is_cut_trailer = is_cut and (last.startswith(kind) or kind.startswith(last))
            if is_trailer or is_cut_trailer:
                starts, ends, is_cut = starts[:-1], ends[:-1], False
        return _Lines(octets, starts, ends, header_lines, is_cut)

    def _find_faults(self, content: bytes, lines: _Lines) -> _Faults:
        """The lines that are no sound record, each with a code and an explanation."""
        faults = _Faults(len(lines.starts))
        wanted = len(self.column_names) + (self.record_type is not None)
        delimiters = np.flatnonzero(lines.octets == ord(self.delimiter))
        found = (
            1 + np.searchsorted(delimiters, lines.ends) - np.searchsorted(delimiters, lines.starts)
        )
        is_typed = self._has_record_type(lines)
        is_clean = ~self._has_control_character(lines)
        is_text = _is_utf8(content, lines)
        is_whole = np.ones(len(lines.starts), bool)
        if lines.is_cut:
            is_whole[-1] = False
        wrong = ~(is_typed & is_clean & is_text & is_whole & (found == wanted))
        for index in np.flatnonzero(wrong).tolist():
            start, end = int(lines.starts[index]), int(lines.ends[index])
            where = f"line {lines.first_number + index} at byte {start}"
            if not is_whole[index]:
                code, why = TRUNCATED, "the file ends inside this record"
            elif not is_text[index]:
                code, why = MALFORMED, "not UTF-8 text"
            elif not is_clean[index]:
                code, why = MALFORMED, "a control character inside"
            elif not is_typed[index]:
                code, why = (
                    MALFORMED,
                    f"a line of another kind than '{self.record_type or 'record'}'",
                )
            else:
                code, why = FIELD_COUNT, f"{found[index]} fields instead of {wanted}"
            raw = content[start : min(end, start + RAW_RECORD_LIMIT)]
            text = raw.decode("utf-8", "backslashreplace").replace("\0", "\\x00")
            faults.add(index, code, f"{where}: {why}", text)
        return faults

    def _has_record_type(self, lines: _Lines) -> BoolArray:
        """Whether the first field of each line is the record type."""
        expected = self.record_type
        is_typed = np.ones(len(lines.starts), bool)
        if expected is None:  # then a line is a record unless it is a comment or trailer
            mark = self.trailer_type.encode()[0]
            filled = lines.ends > lines.starts
            is_typed[filled] = lines.octets[lines.starts[filled]] != mark
            return is_typed
        for position, octet in enumerate(expected.encode()):
            at = np.minimum(lines.starts + position, len(lines.octets) - 1)
            is_typed &= (at < lines.ends) & (lines.octets[at] == octet)
        after = lines.starts + len(expected.encode())
        at = np.minimum(after, len(lines.octets) - 1)
        matches: BoolArray = is_typed & (
            (after == lines.ends) | (lines.octets[at] == ord(self.delimiter))
        )
        return matches

    @staticmethod
    def _has_control_character(lines: _Lines) -> BoolArray:
        """Whether a line has octets below 32 (a carriage return before the line feed is none)."""
        controls = np.flatnonzero((lines.octets < 32) & (lines.octets != LINE_FEED))
        found: BoolArray = np.searchsorted(controls, lines.ends) > np.searchsorted(
            controls, lines.starts
        )
        return found

    def _parse_good_lines(
        self, content: bytes, lines: _Lines, faults: _Faults
    ) -> dict[str, pa.ChunkedArray]:
        is_good = np.ones(len(lines.starts), bool)
        is_good[faults.indices] = False
        if not is_good.any():
            return {name: pa.nulls(len(is_good), pa.string()) for name in self.column_names}
        names = [*([] if self.record_type is None else ["_type"]), *self.column_names]
        parsed = pacsv.read_csv(
            pa.BufferReader(_join_runs(content, lines, is_good)),
            read_options=pacsv.ReadOptions(column_names=names, block_size=PARSE_BLOCK),
            parse_options=pacsv.ParseOptions(
                delimiter=self.delimiter, quote_char=False, newlines_in_values=False
            ),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                include_columns=self.column_names,
                strings_can_be_null=True,
                null_values=[""],
            ),
        )
        if parsed.num_rows != int(is_good.sum()):
            raise UnreadableFileError(
                f"{int(is_good.sum())} sound lines gave {parsed.num_rows} records of {self.name}"
            )
        if faults.indices:
            taken = pa.array(np.cumsum(is_good) - 1, mask=~is_good)
            parsed = parsed.take(taken)
        return {name: parsed.column(name) for name in self.column_names}


@dataclass(frozen=True)
class _Lines:
    octets: npt.NDArray[np.uint8]
    starts: IntArray
    ends: IntArray
    header_lines: int
    is_cut: bool  # the file ends inside the last line

    @property
    def first_number(self) -> int:
        """Number of the first record line, counting from 1."""
        return self.header_lines + 1


class _Faults:
    """The undecodable records: code, explanation and text of each, by position."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.indices: list[int] = []
        self._values: list[tuple[str, str, str]] = []

    def add(self, index: int, code: str, detail: str, text: str) -> None:
        self.indices.append(index)
        self._values.append((code, detail, text))

    def column(self, number: int) -> pa.Array:
        """One of code (0), explanation (1), text (2) for every record, null where it is sound."""
        if not self.indices:
            return pa.nulls(self._count, pa.string())
        values: npt.NDArray[np.object_] = np.full(self._count, None, object)
        values[self.indices] = [value[number] for value in self._values]
        return pa.array(values, pa.string())


def load_layouts(folder: Path) -> list[DelimitedFormat]:
    """The delimited formats whose layouts stand in a folder, by file name."""
    return [
        DelimitedFormat.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        for path in sorted(folder.glob("*.yaml"))
    ]


def _last_line(content: bytes) -> bytes:
    return content[-HEADER_LIMIT:].rstrip(b"\r\n").rpartition(b"\n")[2]


def _is_utf8(content: bytes, lines: _Lines) -> BoolArray:
    """Whether each line is UTF-8; lines are looked at singly only if the file as a whole is not."""
    is_text = np.ones(len(lines.starts), bool)
    high = np.flatnonzero(lines.octets >= 0x80)
    if not len(high):
        return is_text
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        suspects = np.searchsorted(high, lines.ends) > np.searchsorted(high, lines.starts)
        for index in np.flatnonzero(suspects).tolist():
            try:
                content[lines.starts[index] : lines.ends[index]].decode("utf-8")
            except UnicodeDecodeError:
                is_text[index] = False
    return is_text


def _join_runs(content: bytes, lines: _Lines, is_good: BoolArray) -> bytes | memoryview:
    """The sound lines as one text: the runs of neighbours are copied whole."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], is_good.view(np.int8), [0]))))
    view = memoryview(content)
    runs = [
        view[lines.starts[first] : lines.ends[last - 1]]
        for first, last in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
    ]
    return runs[0] if len(runs) == 1 else b"\n".join(runs)
