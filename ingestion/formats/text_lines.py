"""The lines of a text file, a block at a time: where each stands, and which is no sound record.

NumPy finds the lines and divides all of them at once. Only lines that are wrong are looked at one
by one, to say what is wrong with each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from ingestion.formats.interface import (
    FIELD_COUNT,
    MALFORMED,
    RAW_RECORD_LIMIT,
    TRUNCATED,
    RawFile,
    UnreadableFileError,
)
from ingestion.formats.text_layout import Layout
from ingestion.formats.text_values import BoolArray, IntArray, OctetArray
from tollhouse.file_reasons import FileReason

LINE_FEED, CARRIAGE_RETURN = 10, 13
LONGEST_LINE = 2**20  # octets; what is longer is no record and is not kept in memory
SKIP_BLOCK = 2**16
FOUND = "found"  # a value of a reason: the number of fields or octets of the line


@dataclass(frozen=True)
class Extent:
    """The part of a file that holds record lines, in octets from its beginning."""

    begin: int
    end: int
    first_number: int  # of the line at `begin`, counting the file's lines from 1
    is_cut: bool  # the file ends inside its last record line


@dataclass(frozen=True)
class Piece:
    """Whole neighbouring lines of a file."""

    content: bytes
    offset: int
    first_number: int
    is_cut: bool = False  # the file ends inside the last of the lines


@dataclass(frozen=True)
class OverlongLine:
    """A line longer than `LONGEST_LINE`: how it begins, and how long it is."""

    head: bytes
    offset: int
    number: int
    size: int
    is_cut: bool = False


def read_pieces(file: RawFile, extent: Extent, block_octets: int) -> Iterator[Piece | OverlongLine]:
    """The record lines, in file order, in pieces of about `block_octets`.

    Raises:
        UnreadableFileError: the file is shorter than it was said to be.
    """
    with file.open_stream() as stream:
        _skip(stream, extent.begin, file)
        yield from _pieces(stream, file, extent, block_octets)


def _pieces(
    stream: BinaryIO, file: RawFile, extent: Extent, block_octets: int
) -> Iterator[Piece | OverlongLine]:
    at, number = extent.begin, extent.first_number  # of the first line not yet handed out
    read = extent.begin
    pending: list[bytes] = []
    pending_size = 0
    overlong = bytearray()
    overlong_size = 0
    last = b""
    while read < extent.end:
        block = stream.read(min(block_octets, extent.end - read))
        if not block:
            raise _is_shorter(file, read)
        read += len(block)
        if overlong_size:
            feed = block.find(b"\n")
            overlong_size += len(block) if feed < 0 else feed
            last = block[feed - 1 : feed] if feed > 0 else (last if feed == 0 else block[-1:])
            if feed < 0:
                continue
            yield OverlongLine(bytes(overlong), at, number, overlong_size - (last == b"\r"))
            at, number = at + overlong_size + 1, number + 1
            overlong_size = 0
            block = block[feed + 1 :]
        cut = block.rfind(b"\n") + 1
        if cut:
            content = b"".join([*pending, block[:cut]])
            yield Piece(content, at, number)
            feeds = np.count_nonzero(np.frombuffer(content, np.uint8) == LINE_FEED)
            at, number = at + len(content), number + int(feeds)
            pending, pending_size = [], 0
        if cut < len(block):
            pending.append(block[cut:])
            pending_size += len(block) - cut
        if pending_size > LONGEST_LINE + 1:  # one more may be a carriage return
            start = b"".join(pending)
            overlong, overlong_size = bytearray(start[:RAW_RECORD_LIMIT]), pending_size
            last = start[-1:]
            pending, pending_size = [], 0
    if overlong_size:
        size = overlong_size - (last == b"\r")
        yield OverlongLine(bytes(overlong), at, number, size, extent.is_cut)
    elif pending_size:
        yield Piece(b"".join(pending), at, number, extent.is_cut)


def _skip(stream: BinaryIO, octets: int, file: RawFile) -> None:
    left = octets
    while left:
        block = stream.read(min(left, SKIP_BLOCK))
        if not block:
            raise _is_shorter(file, octets - left)
        left -= len(block)


def _is_shorter(file: RawFile, at: int) -> UnreadableFileError:
    return UnreadableFileError("shorter", name=file.name, at=str(at), size=str(file.size))


@dataclass(frozen=True)
class Lines:
    """The record lines of a piece, as received and as UTF-8, by position.

    `text_…` are places in the UTF-8 text, the others in the content as received.
    """

    content: bytes
    offset: int  # of the content in the file
    numbers: IntArray
    starts: IntArray
    ends: IntArray
    text: bytes
    octets: OctetArray  # of the text
    text_starts: IntArray
    text_ends: IntArray
    is_text: BoolArray | None  # which lines are text in the layout's encoding; None means all
    has_controls: bool  # an octet below 32 stands inside some line
    is_cut: bool

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def offsets(self) -> IntArray:
        """Where in the file each line begins."""
        return self.starts + self.offset

    @property
    def lengths(self) -> IntArray:
        """Octets of each line as received, without its end."""
        return self.ends - self.starts

    def part(self, first: int, last: int) -> Lines:
        """Neighbouring ones of the lines; the places stay those in the whole content."""
        chosen = slice(first, last)
        return Lines(
            self.content, self.offset, self.numbers[chosen], self.starts[chosen],
            self.ends[chosen], self.text, self.octets, self.text_starts[chosen],
            self.text_ends[chosen], None if self.is_text is None else self.is_text[chosen],
            self.has_controls, self.is_cut and last >= len(self),
        )  # fmt: skip

    def raw_text(self, index: int, encoding: str) -> str:
        """A line as text whatever is in it, at most `RAW_RECORD_LIMIT` characters."""
        start, end = int(self.starts[index]), int(self.ends[index])
        return shown(self.content[start : min(end, start + RAW_RECORD_LIMIT)], encoding)


def shown(line: bytes, encoding: str) -> str:
    """Octets as text for people: what is no text is written as its number."""
    text = line.decode(encoding, "backslashreplace").replace("\0", "\\x00")
    return text[:RAW_RECORD_LIMIT]


def split(piece: Piece, layout: Layout) -> Lines:
    """The record lines of a piece; comments are left out but keep their line numbers."""
    content = piece.content
    received = np.frombuffer(content, np.uint8)
    starts, ends, returns = _line_places(received)
    numbers = piece.first_number + np.arange(len(starts), dtype=np.int64)
    text, is_text = content, None
    if len(received) and received.max() >= 0x80:
        text, is_text = _to_utf8(content, starts, ends, layout.encoding)
    if text is content:
        octets, text_starts, text_ends = received, starts, ends
    else:
        octets = np.frombuffer(text, np.uint8)
        text_starts, text_ends, returns = _line_places(octets)
    feeds = len(text_starts) - (not text.endswith(b"\n"))
    expected = feeds + returns
    if layout.delimiter == "\t":
        expected += int(np.count_nonzero(octets == ord("\t")))
    has_controls = int(np.count_nonzero(octets < 32)) > expected
    lines = Lines(
        content, piece.offset, numbers, starts, ends, text, octets, text_starts, text_ends,
        is_text, has_controls, piece.is_cut,
    )  # fmt: skip
    return lines if layout.comment is None else _without_comments(lines, layout.comment)


def _line_places(octets: OctetArray) -> tuple[IntArray, IntArray, int]:
    """Where lines begin and end without their end marks; how many had a carriage return."""
    feeds = np.flatnonzero(octets == LINE_FEED)
    starts = np.concatenate(([0], feeds + 1)).astype(np.int64)
    ends = np.concatenate((feeds, [len(octets)])).astype(np.int64)
    if len(octets) == 0 or octets[-1] == LINE_FEED:
        starts, ends = starts[:-1], ends[:-1]
    if not len(starts) or not (octets == CARRIAGE_RETURN).any():
        return starts, ends, 0
    has_return = (ends > starts) & (octets[np.maximum(ends, 1) - 1] == CARRIAGE_RETURN)
    return starts, ends - has_return, int(has_return.sum())


def _to_utf8(
    content: bytes, starts: IntArray, ends: IntArray, encoding: str
) -> tuple[bytes, BoolArray | None]:
    """The content in UTF-8, and which lines are text; single lines are tried if the whole fails."""
    try:
        text = content.decode(encoding)
        return (content if encoding == "utf-8" else text.encode()), None
    except UnicodeError:
        pass
    is_text = np.ones(len(starts), bool)
    converted = []
    for index, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        line = content[start:end]
        try:
            converted.append(line if line.isascii() else line.decode(encoding).encode())
        except UnicodeError:
            is_text[index] = False
            converted.append(b"")
    if encoding == "utf-8":
        return content, is_text
    return b"\n".join([*converted, b""]), is_text


def _without_comments(lines: Lines, mark: str) -> Lines:
    is_record = ~begins_with(lines, mark.encode())
    if is_record.all():
        return lines
    return Lines(
        lines.content, lines.offset, lines.numbers[is_record], lines.starts[is_record],
        lines.ends[is_record], lines.text, lines.octets, lines.text_starts[is_record],
        lines.text_ends[is_record],
        None if lines.is_text is None else lines.is_text[is_record], lines.has_controls,
        lines.is_cut and bool(is_record[-1]),
    )  # fmt: skip


def begins_with(lines: Lines, mark: bytes) -> BoolArray:
    """Which lines begin with the mark."""
    begins: BoolArray = lines.text_starts + len(mark) <= lines.text_ends
    last = max(len(lines.octets) - 1, 0)
    for position, octet in enumerate(mark):
        begins &= lines.octets[np.minimum(lines.text_starts + position, last)] == octet
    return begins


class Faults:
    """The undecodable records of some lines: code, explanation and text of each, by position."""

    def __init__(self, count: int) -> None:
        self.is_good = np.ones(count, bool)
        self._values: dict[int, tuple[str, str, str]] = {}

    def add(self, index: int, code: str, detail: str, text: str) -> None:
        """Record index is no sound one."""
        self.is_good[index] = False
        self._values[index] = (code, detail, text)

    def __bool__(self) -> bool:
        return bool(self._values)

    def column(self, number: int) -> pa.Array:
        """One of code (0), explanation (1), text (2) for every record, null where it is sound."""
        if not self._values:
            return pa.nulls(len(self.is_good), pa.string())
        values = np.full(len(self.is_good), None, object)
        values[list(self._values)] = [value[number] for value in self._values.values()]
        return pa.array(values, pa.string())


@dataclass(frozen=True)
class Divided:
    """Lines with what was found wrong, and the number of fields of each."""

    lines: Lines
    faults: Faults
    counts: IntArray | None  # None means that each has as many as the file has columns


def divide(
    lines: Lines, layout: Layout, columns: int, line_limit: int, *, counts_fields: bool = True
) -> Divided:
    """Find the lines that are no sound record; `columns` counts those of the file.

    Without `counts_fields` those of another number of fields are left to be found by the caller.
    """
    faults = Faults(len(lines))
    reasons: list[tuple[BoolArray, str, FileReason]] = []  # first of them that holds is told
    if lines.is_cut:
        is_cut = np.zeros(len(lines), bool)
        is_cut[-1:] = True
        reasons.append((is_cut, TRUNCATED, FileReason("file_ends_inside")))
    is_overlong = lines.lengths > line_limit
    if is_overlong.any():
        why = FileReason("overlong_line", {"most": str(line_limit)})
        reasons.append((is_overlong, MALFORMED, why))
    if lines.is_text is not None and not lines.is_text.all():
        why = FileReason("not_text", {"encoding": layout.encoding.upper()})
        reasons.append((~lines.is_text, MALFORMED, why))
    if lines.has_controls:
        has_control = _has_control(lines, layout.delimiter)
        reasons.append((has_control, MALFORMED, FileReason("control_character")))
    is_empty = lines.text_ends == lines.text_starts
    if is_empty.any():
        reasons.append((is_empty, MALFORMED, FileReason("empty_line")))
    other = _is_of_another_kind(lines, layout)
    if other.any():
        kind = layout.record_type or "record"
        reasons.append((other, MALFORMED, FileReason("other_kind", {"kind": kind})))
    counts = None
    if layout.kind == "delimited" and counts_fields:
        counts = _count_fields(lines, layout, columns, reasons)
        if counts is not None:
            least = columns - layout.columns_that_may_lack
            wanted: str | FileReason = str(columns)
            if least != columns:
                wanted = FileReason("from_to", {"least": str(least), "most": str(columns)})
            is_other = (counts > columns) | (counts < least)
            why = FileReason("fields_instead", {FOUND: "", "wanted": wanted})
            reasons.append((is_other, FIELD_COUNT, why))
    elif layout.kind == "fixed_width":
        size = layout.record_length or layout.last_octet
        is_other = lines.lengths != size
        if is_other.any():
            why = FileReason("octets_instead", {FOUND: "", "wanted": str(size)})
            reasons.append((is_other, FIELD_COUNT, why))
    if reasons:
        _tell(faults, lines, layout, reasons, lines.lengths if counts is None else counts)
    return Divided(lines, faults, counts)


def _tell(
    faults: Faults,
    lines: Lines,
    layout: Layout,
    reasons: list[tuple[BoolArray, str, FileReason]],
    found: IntArray,
) -> None:
    """Add each line for which a reason holds to the faults, with the first one that does."""
    is_wrong = np.zeros(len(lines), bool)
    for holds, _, _ in reasons:
        is_wrong |= holds
    offsets = lines.offsets
    for index in np.flatnonzero(is_wrong).tolist():
        code, why = next((code, why) for holds, code, why in reasons if holds[index])
        if FOUND in why.values:
            why = FileReason(why.code, {**why.values, FOUND: str(found[index])})
        line, at = str(lines.numbers[index]), str(offsets[index])
        detail = FileReason("line_at", {"line": line, "at": at, "why": why}).kept()
        faults.add(index, code, detail, lines.raw_text(index, layout.encoding))


def _is_of_another_kind(lines: Lines, layout: Layout) -> BoolArray:
    """Lines whose first field is not the record type; without one, trailers in the middle."""
    if layout.record_type is None:
        if layout.trailer is None:
            return np.zeros(len(lines), bool)
        return begins_with(lines, layout.trailer.mark.encode())
    kind = layout.record_type.encode()
    begins = begins_with(lines, kind)
    if layout.kind == "delimited":
        after = lines.text_starts + len(kind)
        octet = lines.octets[np.minimum(after, max(len(lines.octets) - 1, 0))]
        begins &= (after == lines.text_ends) | (octet == ord(layout.delimiter or ""))
    return ~begins


def _has_control(lines: Lines, delimiter: str | None) -> BoolArray:
    """Lines with octets below 32 (a carriage return before the line feed is none)."""
    is_control = (lines.octets < 32) & (lines.octets != LINE_FEED)
    if delimiter == "\t":
        is_control &= lines.octets != ord("\t")
    return _holds_any(lines, np.flatnonzero(is_control))


def _holds_any(lines: Lines, places: IntArray) -> BoolArray:
    found: BoolArray = np.searchsorted(places, lines.text_ends) > np.searchsorted(
        places, lines.text_starts
    )
    return found


def _count_fields(
    lines: Lines, layout: Layout, columns: int, reasons: list[tuple[BoolArray, str, FileReason]]
) -> IntArray | None:
    """Fields of each line; None if every line has as many as there are columns."""
    if not len(lines):
        return None
    first, last = int(lines.text_starts[0]), int(lines.text_ends[-1])
    octets = lines.octets[first:last]
    is_delimiter = octets == ord(layout.delimiter or "")
    if layout.quote is not None and (octets == ord(layout.quote)).any():
        is_delimiter = _outside_quotes(lines, layout, octets, is_delimiter, reasons)
    delimiters = np.flatnonzero(is_delimiter) + first
    count, inner = len(lines), columns - 1
    if inner and len(delimiters) == count * inner:
        table = delimiters.reshape(count, inner)
        if (table[:, 0] >= lines.text_starts).all() and (table[:, -1] < lines.text_ends).all():
            return None
    elif not inner and not len(delimiters):
        return None
    found: IntArray = (
        1
        + np.searchsorted(delimiters, lines.text_ends)
        - np.searchsorted(delimiters, lines.text_starts)
    )
    return found


def _outside_quotes(
    lines: Lines,
    layout: Layout,
    octets: OctetArray,
    is_delimiter: BoolArray,
    reasons: list[tuple[BoolArray, str, FileReason]],
) -> BoolArray:
    """The delimiters that divide fields; lines with quotes out of place are added to `reasons`.

    A quote opens a field at its beginning and closes it at its end; inside, it stands doubled. That
    two in a row close and open again makes the parity of the quotes before an octet tell whether it
    is inside: for all octets at once, once lines with an odd number have been left out.
    """
    quote, delimiter = ord(layout.quote or ""), ord(layout.delimiter or "")
    first = int(lines.text_starts[0])
    is_quote = octets == quote
    starts, ends = lines.text_starts - first, lines.text_ends - first
    # Sums modulo 256: only their parity is used.
    before = _quotes_before(is_quote)
    is_odd = ((before[ends] - before[starts]) & 1).astype(bool)
    gaps_odd = bool((before[starts[1:]] != before[ends[:-1]]).any())  # quotes in left-out lines
    if is_odd.any() or gaps_odd:
        inside = np.zeros(len(octets) + 1, np.int8)
        inside[starts[~is_odd]] += 1
        inside[ends[~is_odd]] -= 1
        is_quote &= np.cumsum(inside[:-1]).astype(bool)
        before = _quotes_before(is_quote)
        reasons.append((is_odd, MALFORMED, FileReason("open_quote")))
    places = np.flatnonzero(is_quote)
    is_opening = (before[places] & 1) == 0
    beside = np.where(is_opening, places - 1, places + 1)
    is_edge = (beside < 0) | (beside >= len(octets))
    neighbour = np.where(is_edge, LINE_FEED, octets[np.clip(beside, 0, len(octets) - 1)])
    is_right = (neighbour == delimiter) | (neighbour == quote) | (neighbour == LINE_FEED)
    is_right |= ~is_opening & (neighbour == CARRIAGE_RETURN)
    if not is_right.all():
        is_odd = _holds_any(lines, places[~is_right] + first)
        reasons.append((is_odd, MALFORMED, FileReason("odd_quote")))
    dividing: BoolArray = is_delimiter & ((before[:-1] & 1) == 0)
    return dividing


def _quotes_before(is_quote: BoolArray) -> OctetArray:
    """How many quotes stand before each octet and before the end, modulo 256."""
    before = np.zeros(len(is_quote) + 1, np.uint8)
    np.cumsum(is_quote.view(np.uint8), dtype=np.uint8, out=before[1:])
    return before


def join_runs(lines: Lines, is_chosen: BoolArray) -> bytes | memoryview:
    """The text of the chosen lines: runs of neighbours are taken whole."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], is_chosen.view(np.int8), [0]))))
    # Neighbours in the list may have had a comment between them.
    gap_follows = lines.numbers[1:] != lines.numbers[:-1] + 1
    breaks = np.flatnonzero(gap_follows & is_chosen[1:] & is_chosen[:-1]) + 1
    firsts, lasts = (np.sort(np.concatenate((ends, breaks))) for ends in (edges[::2], edges[1::2]))
    view = memoryview(lines.text)
    runs = [
        view[lines.text_starts[first] : lines.text_ends[last - 1]]
        for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True)
    ]
    return runs[0] if len(runs) == 1 else b"\n".join(runs)
