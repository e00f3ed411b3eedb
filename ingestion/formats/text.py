"""Text files, delimited or of fixed width, that a YAML layout describes and nothing else.

A file is read in blocks of whole lines, and each block is decoded by column, never record by
record: NumPy divides the lines, Arrow's CSV reader takes the sound ones apart, and the layout's
rules fill the fields of the vocabulary. A layout is data: a new source of text needs no code.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from ingestion.formats.interface import (
    BATCH_RECORDS,
    HEAD_BYTES,
    MALFORMED,
    RAW_RECORD_LIMIT,
    TRUNCATED,
    USAGE_COLUMNS,
    FileFacts,
    RawFile,
    UnreadableFileError,
    batch_table,
)
from ingestion.formats.text_fields import FieldReader
from ingestion.formats.text_layout import Column, Layout, LayoutError, read_layouts
from ingestion.formats.text_lines import (
    LINE_FEED,
    LONGEST_LINE,
    Divided,
    Extent,
    Lines,
    OverlongLine,
    divide,
    join_runs,
    read_pieces,
    shown,
    split,
)
from ingestion.formats.text_values import BoolArray, IntArray, OctetArray, read_offsets
from tollhouse.file_reasons import FileReason

__all__ = ["LayoutError", "TextFormat", "load_layouts"]

BLOCK_OCTETS = 8 * 2**20  # by measurement: larger ones leave the caches and take longer
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
RECORD_TYPE = ""  # name of the first field of a line that begins with a record type


@dataclass(frozen=True)
class _Header:
    """The lines before the records: what they say, where they end, which columns follow."""

    facts: Mapping[str, str]
    places: Mapping[str, int]  # at which byte of the file each fact begins
    lines: int
    end: int
    columns: tuple[str, ...]


class TextFormat:
    """The format of one layout."""

    def __init__(self, layout: Layout, *, block_octets: int = BLOCK_OCTETS) -> None:
        self.layout = layout
        self._block_octets = block_octets
        self._header = [re.compile(pattern, re.ASCII) for pattern in layout.header]
        self._reader = FieldReader(layout.fields)
        used = set().union(*(rule.used_columns() for rule in layout.fields.values()))
        self._used = [column for column in layout.columns if column.name in used]

    @property
    def name(self) -> str:
        """Name of the format, as in ``sources.yaml``."""
        return self.layout.name

    @property
    def numbers_files(self) -> bool:
        """Whether a header line has group `sequence_number`."""
        return any("sequence_number" in pattern.groupindex for pattern in self._header)

    def recognises(self, head: bytes) -> bool:
        """Whether the file begins with the layout's header, or with the first line it expects."""
        return self._read_header(head) is not None

    def read_facts(self, file: RawFile) -> FileFacts:
        """What header and trailer say; the name and the arrival say nothing more here."""
        header = self._read_header(file.head)
        if header is None:
            raise UnreadableFileError("not_of_layout", name=file.name, layout=self.name)
        trailer = self._trailer_match(self._last_line(file))
        count = None
        if trailer and "record_count" in trailer.groupdict():
            count = int(trailer["record_count"])
        return FileFacts(
            source_id=header.facts.get("source_id"),
            sequence_number=self._sequence_number(header, file),
            created_at=self._created_at(header, file),
            declared_record_count=count,
            lacks=self._missing_end(file, has_trailer=trailer is not None),
        )

    def decode(self, file: RawFile) -> Iterator[pa.Table]:
        """Every line between header and trailer, one row each, in batches."""
        header = self._read_header(file.head)
        if header is None:
            raise UnreadableFileError("not_of_layout", name=file.name, layout=self.name)
        extent = self._extent(file, header)
        for piece in read_pieces(file, extent, self._block_octets):
            if isinstance(piece, OverlongLine):
                yield self._overlong_record(piece)
                continue
            lines = split(piece, self.layout)
            for first in range(0, len(lines), BATCH_RECORDS):
                yield self._decode_lines(lines.part(first, first + BATCH_RECORDS), header, file)

    # ---- what a file says about itself

    def _read_header(self, head: bytes) -> _Header | None:
        """The header at the beginning of a file; None if there is another or none."""
        layout = self.layout
        at = len(BYTE_ORDER_MARK) if head.startswith(BYTE_ORDER_MARK) else 0
        texts: list[tuple[str, int]] = []  # the lines that are looked at, and where each ends
        passed = 0
        wanted = max(len(self._header), 1)
        while len(texts) < wanted + (layout.first_line is not None and bool(self._header)):
            feed = head.find(b"\n", at)
            if feed < 0:
                if self._header or len(head) >= HEAD_BYTES or at == len(head):
                    break
                feed = len(head)  # a file without header may be one line without its end
            line = head[at:feed].removesuffix(b"\r").decode(layout.encoding, "replace")
            at = feed + 1
            if not texts and layout.preamble and re.fullmatch(
                layout.preamble, line, re.ASCII
            ):  # fmt: skip
                passed += 1
                continue
            texts.append((line, at))
            if feed == len(head):
                break
        if len(texts) < wanted:
            return None
        matches = [
            pattern.fullmatch(line) for pattern, (line, _) in zip(self._header, texts, strict=False)
        ]
        if not all(matches):
            return None
        if layout.first_line is not None and not self._begins_as_it_should(texts):
            return None
        facts: dict[str, str] = {}
        places: dict[str, int] = {}
        begin = self._begin_of(head, passed)
        for match, (line, after) in zip(matches, texts, strict=False):
            if match is not None:
                found = {key: text for key, text in match.groupdict().items() if text is not None}
                facts |= found
                for key in found:
                    before = line[: match.start(key)].encode(layout.encoding, "replace")
                    places[key] = begin + len(before)
            begin = after
        end = texts[len(self._header) - 1][1] if self._header else self._begin_of(head, passed)
        columns = self._columns_of(texts)
        if columns is None:
            return None
        return _Header(facts, places, passed + len(self._header), end, columns)

    def _begins_as_it_should(self, texts: list[tuple[str, int]]) -> bool:
        """Whether the first line behind the header, if there is one, is as the layout says."""
        behind = texts[len(self._header) :]
        return not behind or bool(
            re.fullmatch(self.layout.first_line or "", behind[0][0], re.ASCII)
        )

    @staticmethod
    def _begin_of(head: bytes, passed: int) -> int:
        """Where the line behind so many lines begins."""
        at = len(BYTE_ORDER_MARK) if head.startswith(BYTE_ORDER_MARK) else 0
        for _ in range(passed):
            at = head.index(b"\n", at) + 1
        return at

    def _columns_of(self, texts: list[tuple[str, int]]) -> tuple[str, ...] | None:
        """The columns of the file in its order; None if one that the layout needs is not there."""
        names = [column.name for column in self.layout.columns]
        if not self.layout.named_columns:
            has_type = self.layout.record_type is not None and self.layout.kind == "delimited"
            return (RECORD_TYPE, *names) if has_type else tuple(names)
        line = texts[len(self._header) - 1][0]
        quote = self.layout.quote or ""
        found = [name.strip(f" {quote}") for name in line.split(self.layout.delimiter)]
        optional = set(names[len(names) - self.layout.optional_columns :])
        if len(set(found)) != len(found) or not set(names) - optional <= set(found):
            return None
        return tuple(found)

    def _sequence_number(self, header: _Header, file: RawFile) -> int | None:
        text = header.facts.get("sequence_number")
        if text is None:
            return None
        if not re.fullmatch(r"[0-9]{1,18}", text):
            at = str(header.places["sequence_number"])
            raise UnreadableFileError("no_header_number", name=file.name, text=text, at=at)
        return int(text)

    def _created_at(self, header: _Header, file: RawFile) -> datetime | None:
        created = header.facts.get("created")
        if created is None:
            return None
        offset = header.facts.get("utc_offset")
        try:
            local = datetime.strptime(created, self.layout.created_format)  # noqa: DTZ007 next line
            if offset is None:
                return local.replace(tzinfo=local.tzinfo or file.timezone).astimezone(UTC)
            minutes = read_offsets(pa.array([offset]))
            if not minutes.is_read[0]:
                raise ValueError(offset)
            ahead = timedelta(minutes=int(minutes.numbers[0]))
            return local.replace(tzinfo=UTC) - ahead
        except (ValueError, OverflowError):
            shown_time = f"{created} {offset or ''}".strip()
            at = str(header.places["created"])
            raise UnreadableFileError(
                "no_header_time", name=file.name, text=shown_time, at=at
            ) from None

    @staticmethod
    def _last_line(file: RawFile) -> bytes | None:
        """The last line that is not blank; None if it is longer than the tail."""
        _, feed, line = file.tail.rstrip(b"\r\n").rpartition(b"\n")
        return line if feed or file.size <= len(file.tail) else None

    def _trailer_match(self, line: bytes | None) -> re.Match[str] | None:
        trailer = self.layout.trailer
        if trailer is None or line is None:
            return None
        text = line.removesuffix(b"\r").decode(self.layout.encoding, "replace")
        return re.fullmatch(trailer.pattern, text, re.ASCII)

    def _missing_end(self, file: RawFile, *, has_trailer: bool) -> FileReason | None:
        trailer = self.layout.trailer
        if trailer is not None and not has_trailer:
            return FileReason("lacks_trailer", {"mark": str(trailer.mark)})
        if file.tail.endswith(b"\n") or not self.layout.ends_with_line_feed:
            return None
        # A trailer without its line feed may be the first digits of a longer one.
        if trailer is not None:
            return FileReason("lacks_feed_of_trailer")
        return FileReason("lacks_feed_of_record")

    def _extent(self, file: RawFile, header: _Header) -> Extent:
        """Which part of the file is records: not the header, the trailer, nor blank ends."""
        blank = len(file.tail) - len(file.tail.rstrip(b"\r\n"))
        end = file.size - blank
        is_cut = blank == 0 and self.layout.ends_with_line_feed
        last = self._last_line(file)
        if self.layout.trailer is not None and last is not None:
            begin_of_last = end - len(last)
            mark = self.layout.trailer.mark.encode(self.layout.encoding)
            is_cut_trailer = blank == 0 and (last.startswith(mark) or mark.startswith(last))
            is_trailer = self._trailer_match(last) is not None or is_cut_trailer
            if is_trailer and begin_of_last >= header.end:
                end, is_cut = begin_of_last, False
        if end == file.size - blank:  # the last record keeps its line end, if it has one
            ending = file.tail[len(file.tail) - blank :]
            end += 2 if ending.startswith(b"\r\n") else int(ending.startswith(b"\n"))
        return Extent(header.end, max(end, header.end), header.lines + 1, is_cut)

    # ---- records

    def _decode_lines(self, lines: Lines, header: _Header, file: RawFile) -> pa.Table:
        divided, columns = self._divide(lines, header.columns)
        is_good = divided.faults.is_good
        count = int(is_good.sum())
        if count:
            fields, is_unreadable = self._reader.read(columns, count, file.timezone)
        else:
            fields, is_unreadable = {}, np.zeros(0, bool)
        raw_records = divided.faults.column(2)
        if is_unreadable.any():
            raw_records = self._with_unreadable(raw_records, lines, is_good, is_unreadable)
        if count < len(lines):
            rows = pa.array(np.cumsum(is_good) - 1, mask=~is_good)
            fields = {name: field.take(rows) for name, field in fields.items()}
        return batch_table(
            offsets=pa.array(lines.offsets),
            lengths=pa.array(lines.lengths),
            errors=divided.faults.column(0),
            details=divided.faults.column(1),
            raw_records=raw_records,
            fields={
                name: fields.get(name, pa.nulls(len(lines)))
                for name in USAGE_COLUMNS
                if name in fields or name in self._field_names
            },
        )

    def _divide(
        self, lines: Lines, names: tuple[str, ...]
    ) -> tuple[Divided, dict[str, pa.StringArray]]:
        """The lines with their faults, and the columns of the sound ones.

        Where no field can be quoted, Arrow's reader takes exactly the lines with the right number
        of fields, so they are counted only if it refuses the block.
        """
        layout = self.layout
        has_quotes = layout.quote is not None and layout.quote.encode() in lines.text
        is_read = any(column.name in names for column in self._used)
        if layout.kind == "delimited" and is_read and not has_quotes:
            divided = divide(lines, layout, len(names), LONGEST_LINE, counts_fields=False)
            count = int(divided.faults.is_good.sum())
            with contextlib.suppress(pa.ArrowInvalid):
                return divided, self._columns(divided, names, count) if count else {}
        divided = divide(lines, layout, len(names), LONGEST_LINE)
        count = int(divided.faults.is_good.sum())
        return divided, self._columns(divided, names, count) if count else {}

    @cached_property
    def _field_names(self) -> set[str]:
        names = set(self.layout.fields)
        return names | ({"utc_offset_minutes"} if "started_local" in names else set())

    def _with_unreadable(
        self, raw_records: pa.Array, lines: Lines, is_good: BoolArray, is_unreadable: BoolArray
    ) -> pa.Array:
        """The kept texts, and those of the sound records of which a field could not be read."""
        rows = np.flatnonzero(is_good)[is_unreadable]
        kept = np.array(raw_records.to_numpy(zero_copy_only=False), object)
        kept[rows] = [lines.raw_text(row, self.layout.encoding) for row in rows.tolist()]
        return pa.array(kept, pa.string())

    def _overlong_record(self, line: OverlongLine) -> pa.Table:
        if line.is_cut:
            code, why = TRUNCATED, FileReason("file_ends_inside")
        else:
            code, why = MALFORMED, FileReason("overlong_line", {"most": str(LONGEST_LINE)})
        told = {"line": str(line.number), "at": str(line.offset), "why": why}
        return batch_table(
            offsets=pa.array([line.offset]),
            lengths=pa.array([min(line.size, 2**31 - 1)]),
            errors=pa.array([code]),
            details=pa.array([FileReason("line_at", told).kept()]),
            raw_records=pa.array([shown(line.head[:RAW_RECORD_LIMIT], self.layout.encoding)]),
            fields={name: pa.nulls(1) for name in USAGE_COLUMNS if name in self._field_names},
        )

    def _columns(
        self, divided: Divided, names: tuple[str, ...], count: int
    ) -> dict[str, pa.StringArray]:
        """The columns that the rules use, of the sound records in order."""
        lines, is_good = divided.lines, divided.faults.is_good
        if self.layout.kind == "fixed_width":
            return self._fixed_columns(lines, is_good)
        sizes = None if divided.counts is None else divided.counts[is_good]
        if sizes is None or (sizes == len(names)).all():
            return self._delimited_columns(lines, is_good, names, count)
        parts, order = [], []
        rows = np.flatnonzero(is_good)
        for size in np.unique(sizes).tolist():
            chosen = np.zeros(len(lines), bool)
            chosen[rows[sizes == size]] = True
            part = self._delimited_columns(lines, chosen, names[:size], int(chosen.sum()))
            parts.append(part)
            order.append(np.flatnonzero(sizes == size))
        back = pa.array(np.argsort(np.concatenate(order), kind="stable"))
        return {
            name: pa.concat_arrays([part[name] for part in parts]).take(back) for name in parts[0]
        }

    def _delimited_columns(
        self, lines: Lines, is_chosen: BoolArray, names: tuple[str, ...], count: int
    ) -> dict[str, pa.StringArray]:
        layout = self.layout
        found = [name for name in (column.name for column in self._used) if name in names]
        missing = {
            column.name: pa.nulls(count, pa.string())
            for column in self._used
            if column.name not in names
        }
        if not found:
            return missing
        text = join_runs(lines, is_chosen)
        if text[:3] == BYTE_ORDER_MARK:  # here it is part of a value, which Arrow would not know
            text = b"\n" + text
        parsed = pacsv.read_csv(
            pa.BufferReader(text),
            read_options=pacsv.ReadOptions(
                column_names=names, block_size=len(text) + 1, use_threads=False
            ),
            parse_options=pacsv.ParseOptions(
                delimiter=layout.delimiter, quote_char=layout.quote or False,
                double_quote=layout.quote is not None, newlines_in_values=False,
            ),
            convert_options=pacsv.ConvertOptions(
                check_utf8=False,  # the lines have been checked
                column_types=dict.fromkeys(found, pa.string()),
                include_columns=found,
                strings_can_be_null=True,
                null_values=[""],
            ),
        )  # fmt: skip
        if parsed.num_rows != count:
            raise UnreadableFileError(
                "miscounted_lines",
                lines=str(count), at=str(int(lines.offsets[0])), records=str(parsed.num_rows),
                layout=self.name,
            )  # fmt: skip
        columns = {name: _whole(parsed.column(name)) for name in found}
        if layout.trim:
            columns = {name: _none_if_empty(pc.utf8_trim(c, " ")) for name, c in columns.items()}
        return columns | missing

    def _fixed_columns(self, lines: Lines, is_good: BoolArray) -> dict[str, pa.StringArray]:
        width = self.layout.record_length or self.layout.last_octet
        received = np.frombuffer(lines.content, np.uint8)
        starts = lines.starts[is_good]
        step = int(starts[1] - starts[0]) if len(starts) > 1 else width
        if (np.diff(starts) == step).all() and step >= width:
            first = int(starts[0])
            block = np.lib.stride_tricks.as_strided(
                received[first:], (len(starts), width), (step, 1), writeable=False
            )
        else:
            block = received[starts[:, None] + np.arange(width)]
        return {
            column.name: _fixed_column(block, column, self.layout.encoding) for column in self._used
        }


def load_layouts(folder: Path) -> list[TextFormat]:
    """The text formats whose layouts stand in a folder, by file name.

    Raises:
        LayoutError: one of them cannot be used, or two have one name.
    """
    return [TextFormat(layout) for layout in read_layouts(folder)]


def _whole(column: pa.ChunkedArray) -> pa.StringArray:
    """The column in one piece; to combine chunks would copy also a single one."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _none_if_empty(text: pa.StringArray) -> pa.StringArray:
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)


def _fixed_column(block: OctetArray, column: Column, encoding: str) -> pa.StringArray:
    """One column of fixed-width records, without its filling, null where nothing is left."""
    begin = (column.start or 1) - 1
    length = column.length or 1
    cells = np.ascontiguousarray(block[:, begin : begin + length])
    is_text = cells != ord(column.fill)
    count = len(cells)
    first = np.zeros(count, np.int64)
    last = np.full(count, length, np.int64)
    is_filled = np.ones(count, bool)
    if column.trim != "none":
        is_filled = is_text.any(axis=1)
        if column.trim in ("both", "left"):
            first = is_text.argmax(axis=1)
        if column.trim in ("both", "right"):
            last = length - is_text[:, ::-1].argmax(axis=1)
        last = np.where(is_filled, last, first)
    places = np.arange(length)
    is_kept = (places >= first[:, None]) & (places < last[:, None])
    text = _strings(cells[is_kept], last - first, encoding)
    return text if is_filled.all() else pc.if_else(pa.array(is_filled), text, None)


def _strings(octets: OctetArray, lengths: IntArray, encoding: str) -> pa.StringArray:
    """Strings of the given lengths, one behind the other, from octets in an encoding."""
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    if len(octets) and octets.max() >= 0x80:
        octets, offsets = _to_utf8(octets, offsets, encoding)
    return pa.StringArray.from_buffers(
        len(lengths), pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(octets.tobytes())
    )


def _to_utf8(octets: OctetArray, offsets: IntArray, encoding: str) -> tuple[OctetArray, IntArray]:
    """The same strings in UTF-8: all at once, with a line feed between them to tell them again."""
    divided = np.insert(octets, offsets[1:], LINE_FEED)
    try:
        text = divided.tobytes().decode(encoding)
    except UnicodeDecodeError:
        # A character that a column's end cuts in two is shown as the sign for it.
        content = octets.tobytes()
        text = "".join(
            content[begin:end].decode(encoding, "replace") + "\n"
            for begin, end in pairwise(offsets.tolist())
        )
    converted = np.frombuffer(text.encode(), np.uint8)
    feeds = np.flatnonzero(converted == LINE_FEED)
    return np.delete(converted, feeds), np.concatenate(([0], feeds - np.arange(len(feeds))))
