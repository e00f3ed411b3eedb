"""BER files that are one nested element (TAP, NRTRDE, RAP), read as a stream of their records.

Such a file is a root element with parts (control information) and a list of records in it. It can
be far larger than memory, and any of its elements may have an indefinite length (ITU-T X.690
clause 8.1.3.6). `NestedReader` goes through the file a window at a time and gives parts and blocks
of records in file order; `flatten` then finds the fields of a block's records level by level, all
records at once; the other functions turn a field of all records into a column.

The lengths of root and list are not relied upon: what stands behind a record is told by its tag.
Where a record does not hold together, the octets up to the next element that does are one damaged
record, so every octet of a file belongs to exactly one part or record, and which one does not
depend on how the stream is cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ingestion.formats import ber
from ingestion.formats.ber import BoolArray, Field, IntArray, Octets
from ingestion.formats.interface import (
    MALFORMED,
    RAW_RECORD_LIMIT,
    TRUNCATED,
    UnreadableFileError,
    batch_table,
)
from tollhouse.file_reasons import FileReason

BLOCK_OCTETS = 8 * 2**20  # read at a time
BLOCK_RECORDS = 32_768  # decoded at a time
LARGEST_ELEMENT = 2**20  # a record or part beyond this is taken for damaged
SEARCH_WINDOW = 2**20  # how far behind a damaged record the next whole element is looked for
LARGEST_CANDIDATE = 2**16  # of an element of indefinite length that ends a search
FEW_RECORDS = 32  # checked at a time behind a damaged record: others may be damaged too
END_OF_CONTENTS = 0


def application(number: int, *, is_constructed: bool) -> int:
    """The identifier octets of an element of class APPLICATION as one number (X.690 8.1.2)."""
    leading = 0x60 if is_constructed else 0x40
    if number < 31:
        return leading | number
    if number < 128:
        return (leading | 0x1F) << 8 | number
    return (leading | 0x1F) << 16 | (0x80 | number >> 7) << 8 | number & 0x7F


def tag_octets(tag: int) -> bytes:
    """The identifier octets behind such a number."""
    return tag.to_bytes(max((tag.bit_length() + 7) // 8, 1), "big")


def tag_number(tag: int) -> int:
    """Tag number of an identifier."""
    octets = tag_octets(tag)
    if len(octets) < 2:
        return tag & 0x1F
    number = 0
    for octet in octets[1:]:
        number = number << 7 | octet & 0x7F
    return number


def tag_name(tag: int) -> str:
    """The identifier as people write it, for messages."""
    classes = ("UNIVERSAL", "APPLICATION", "CONTEXT", "PRIVATE")
    return f"[{classes[tag_octets(tag)[0] >> 6]} {tag_number(tag)}]"


@dataclass(frozen=True)
class Layout:
    """Identifiers of the elements that make up a file.

    `lists` are gone into, `parts` and `records` are taken whole. `fields` maps the name of a field
    to the identifiers of what holds it and of itself; `descend` are the elements of a record that
    have fields in them; `known` are all identifiers the format defines.
    """

    what: str  # "TAP3", for messages
    roots: frozenset[int]
    lists: frozenset[int]
    parts: frozenset[int]
    records: frozenset[int]
    fields: Mapping[str, tuple[int, int]]
    descend: frozenset[int]
    known: frozenset[int]

    @cached_property
    def whole(self) -> frozenset[int]:
        """Identifiers a search for the next whole element may stop at."""
        return self.records | self.parts

    @cached_property
    def search(self) -> re.Pattern[bytes]:
        """Finds the identifiers of `whole`."""
        octets = sorted(re.escape(tag_octets(tag)) for tag in self.whole)
        return re.compile(b"|".join(octets), re.DOTALL)

    @cached_property
    def keys(self) -> tuple[IntArray, list[str]]:
        """Holder and field as one sorted number, and the names in that order."""
        numbers = {holder << 24 | tag: name for name, (holder, tag) in self.fields.items()}
        return np.array(sorted(numbers), np.int64), [numbers[key] for key in sorted(numbers)]

    @cached_property
    def arrays(self) -> tuple[IntArray, IntArray, IntArray]:
        """`descend`, `known` and `records` as sorted arrays."""
        sets = (self.descend, self.known, self.records)
        arrays = [np.array(sorted(tags), np.int64) for tags in sets]
        return arrays[0], arrays[1], arrays[2]


@dataclass(frozen=True)
class Part:
    """An element that is no record: all its octets, lengths made definite; of a list, its head."""

    tag: int
    content: bytes
    offset: int
    length: int


@dataclass(frozen=True)
class Damaged:
    """Octets that cannot be read as an element; `code` and `why` as in a decoded batch."""

    offset: int
    length: int
    code: str
    why: str
    content: bytes  # at most `RAW_RECORD_LIMIT` octets


@dataclass(frozen=True)
class Block:
    """Records that hold together: where they are in `octets`, and where they were in the file."""

    octets: Octets
    offsets: IntArray
    lengths: IntArray
    tree: Tree

    def raw_text(self, is_wanted: BoolArray) -> pa.Array:
        """The records in hexadecimal where wanted."""
        starts, ends = self.tree.starts, self.tree.ends
        return pa.array(
            [
                self.octets[start : min(end, start + RAW_RECORD_LIMIT)].tobytes().hex()
                if wanted
                else None
                for start, end, wanted in zip(
                    starts.tolist(), ends.tolist(), is_wanted.tolist(), strict=True
                )
            ]
            if is_wanted.any()
            else [None] * len(starts),
            pa.string(),
        )


@dataclass(frozen=True)
class Tree:
    """The fields of records, found by `flatten`; `tags` are the records' own identifiers."""

    starts: IntArray
    ends: IntArray
    tags: IntArray
    fault: npt.NDArray[np.int8]
    fault_at: IntArray
    fields: Mapping[str, Field]
    occurrences: Mapping[str, tuple[IntArray, IntArray, IntArray]]
    unknown: IntArray

    def field(self, *names: str) -> Field:
        """The first of the named fields that a record has."""
        found = self._arrays(names[0])
        start, length, is_present = found[0].copy(), found[1].copy(), found[2].copy()
        for name in names[1:]:
            other = self._arrays(name)
            takes = other[2] & ~is_present
            start[takes], length[takes] = other[0][takes], other[1][takes]
            is_present |= takes
        return Field(start, length, is_present)

    def _arrays(self, name: str) -> tuple[IntArray, IntArray, BoolArray]:
        found = self.fields.get(name)
        if found is not None:
            return found.start, found.length, found.is_present
        size = len(self.starts)
        return np.zeros(size, np.int64), np.zeros(size, np.int64), np.zeros(size, np.bool_)


def flatten(octets: Octets, starts: IntArray, ends: IntArray, layout: Layout) -> Tree:
    """The fields of `layout` in the records at `starts`, all lengths being definite.

    `fault` of a record is 0 or a key of `ber.FAULTS`: an element of it does not hold together.
    """
    size = len(starts)
    descend, known, record_tags = layout.arrays
    keys, names = layout.keys
    tags, values, lengths, wrong = ber.read_heads(octets, starts)
    fault = wrong.copy()
    fault[(fault == 0) & (values + lengths != ends)] = 1
    fault_at = np.where(fault > 0, starts, -1)
    owner = np.flatnonzero(fault == 0)
    holder, start, end = tags[owner], values[owner], ends[owner]
    unknown = np.zeros(size, np.int64)
    found: list[tuple[IntArray, IntArray, IntArray, IntArray]] = []
    for level in range(ber.MAX_DEPTH):
        if not len(owner):
            break
        walked = ber.walk(octets, start, end)
        bad = walked.fault > 0
        fault[owner[bad]] = walked.fault[bad]
        fault_at[owner[bad]] = walked.fault_at[bad]
        elements = walked.elements
        record = owner[elements.owner]
        if level == 0:  # a record inside a record: the end of the outer one was lost
            nested = _is_among(elements.tag, record_tags)
            fault[record[nested]] = 1
            fault_at[record[nested]] = starts[record[nested]]
        key = holder[elements.owner] << 24 | elements.tag
        place = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
        is_field = keys[place] == key
        found.append(
            (place[is_field], record[is_field], elements.start[is_field], elements.length[is_field])
        )
        is_unknown = ~is_field & ~_is_among(elements.tag, known)
        unknown += np.bincount(record[is_unknown], minlength=size)
        inner = _is_among(elements.tag, descend)
        owner, holder = record[inner], elements.tag[inner]
        start = elements.start[inner]
        end = start + elements.length[inner]
    places, records, at, octet_counts = (
        np.concatenate(parts) if found else np.zeros(0, np.int64)
        for parts in (zip(*found, strict=True) if found else ((), (), (), ()))
    )
    fields, occurrences = _by_field(
        names, size, places=places, records=records, at=at, lengths=octet_counts
    )
    return Tree(starts, ends, tags, fault, fault_at, fields, occurrences, unknown)


def _is_among(tags: IntArray, wanted: IntArray) -> BoolArray:
    """Which tags are in a sorted array (`np.isin` would sort the tags, which are many)."""
    if not len(wanted):
        return np.zeros(len(tags), np.bool_)
    place = np.minimum(np.searchsorted(wanted, tags), len(wanted) - 1)
    found: BoolArray = wanted[place] == tags
    return found


def _by_field(
    names: list[str],
    size: int,
    *,
    places: IntArray,
    records: IntArray,
    at: IntArray,
    lengths: IntArray,
) -> tuple[dict[str, Field], dict[str, tuple[IntArray, IntArray, IntArray]]]:
    order = np.argsort(places.astype(np.uint8), kind="stable")
    bounds = np.searchsorted(places[order], np.arange(len(names) + 1))
    fields = {}
    occurrences = {}
    for number, name in enumerate(names):
        chosen = order[bounds[number] : bounds[number + 1]]
        if not len(chosen):
            continue
        chosen = chosen[np.argsort(at[chosen], kind="stable")]  # in file order: the first counts
        start, length = np.zeros(size, np.int64), np.zeros(size, np.int64)
        is_present = np.zeros(size, np.bool_)
        backwards = chosen[::-1]
        start[records[backwards]] = at[backwards]
        length[records[backwards]] = lengths[backwards]
        is_present[records[backwards]] = True
        fields[name] = Field(start, length, is_present)
        occurrences[name] = (records[chosen], at[chosen], lengths[chosen])
    return fields, occurrences


class NestedReader:
    """Goes through a nested file; iterating gives its `Part`s, `Block`s and `Damaged` stretches."""

    def __init__(
        self,
        stream: BinaryIO,
        layout: Layout,
        name: str,
        *,
        block_octets: int = BLOCK_OCTETS,
        block_records: int = BLOCK_RECORDS,
    ) -> None:
        self._stream = stream
        self._layout = layout
        self._name = name
        self._block_octets = block_octets
        self._block_records = block_records
        self._content = b""
        self._base = 0
        self._position = 0
        self._is_ended = False
        self._padded: Octets | None = None
        self._open = 0  # elements of indefinite length that have not ended

    def __iter__(self) -> Iterator[Part | Block | Damaged]:
        """Everything in the file, in file order.

        Raises:
            UnreadableFileError: it does not begin with the root element.
        """
        self._fill()
        yield self._root()
        stretch = self._block_records
        while True:
            self._fill()
            if self._position >= len(self._content):
                return
            block, is_damaged = self._records(stretch)
            if block is not None:
                yield block
            if is_damaged:
                self._fill()
                yield self._damaged()
                stretch = FEW_RECORDS
            elif block is not None:
                stretch = min(stretch * 2, self._block_records)
            else:
                yield self._part() or self._damaged()

    def _fill(self) -> None:
        """Make sure that what has to be looked at together is in the window."""
        needed = LARGEST_ELEMENT + SEARCH_WINDOW
        if self._is_ended or len(self._content) - self._position >= needed:
            return
        parts = [self._content[self._position :]]
        missing = needed - len(parts[0]) + self._block_octets
        while missing > 0:
            part = self._stream.read(min(missing, self._block_octets))
            if not part:
                self._is_ended = True
                break
            parts.append(part)
            missing -= len(part)
        self._base += self._position
        self._position = 0
        self._content = b"".join(parts)
        self._padded = None

    def _octets(self) -> Octets:
        if self._padded is None:
            self._padded = ber.padded(self._content)
        return self._padded

    def _root(self) -> Part:
        tag, value, length = _read_head(self._content, 0, len(self._content))
        if tag not in self._layout.roots or value is None:
            begins = self._content[:4].hex(" ") or "–"
            raise UnreadableFileError(
                "no_root_element", name=self._name, what=self._layout.what, begins=begins
            )
        self._open += length is None
        self._position = value
        return Part(tag, self._content[:value], 0, value)

    def _part(self) -> Part | None:
        """The element at the position if it is no record and holds together."""
        content, position = self._content, self._position
        if content[position] == END_OF_CONTENTS:
            return self._end_of_contents()
        tag, value, length = _read_head(content, position, len(content))
        if value is None:
            return None
        if tag in self._layout.lists:
            self._open += length is None
            return self._take(tag, value)
        if tag not in self._layout.parts:
            return None
        limit = min(len(content), position + LARGEST_ELEMENT)
        try:
            end = ber.element_end(content, position, limit)
            whole = ber.definite(content[position:end], 0, end - position)
        except ber.BerError:
            return None
        return self._take(tag, end, whole)

    def _end_of_contents(self) -> Part | None:
        content, position = self._content, self._position
        if self._open and content[position : position + 2] == b"\0\0":
            self._open -= 1
            return self._take(END_OF_CONTENTS, position + 2)
        if self._is_ended and not content[position:].strip(b"\0"):
            return self._take(END_OF_CONTENTS, len(content))  # filled up to a block of a tape
        return None

    def _take(self, tag: int, end: int, content: bytes | None = None) -> Part:
        start, self._position = self._position, end
        octets = self._content[start:end] if content is None else content
        return Part(tag, octets, self._base + start, end - start)

    def _records(self, most: int) -> tuple[Block | None, bool]:
        """The records from the position on, at most `most`, and whether the next is damaged."""
        content, layout = self._content, self._layout
        size = len(content)
        records = layout.records
        starts: list[int] = []
        ends: list[int] = []
        rewritten: dict[int, bytes] = {}
        position = self._position
        is_damaged = False
        while position < size and len(starts) < most:
            if not self._is_ended and size - position < LARGEST_ELEMENT + SEARCH_WINDOW:
                break
            tag, value, length = _read_head(content, position, size)
            if tag not in records:
                break
            end = None if value is None or length is None else value + length
            if value is not None and length is None:
                end = self._indefinite_end(position)
                if end is not None:
                    whole = content[position:end]
                    rewritten[len(starts)] = ber.definite(whole, 0, len(whole))
            if end is None or end > size or end - position > LARGEST_ELEMENT:
                is_damaged = True
                break
            starts.append(position)
            ends.append(end)
            position = end
        if not starts:
            return None, is_damaged
        block = self._block(starts, ends, rewritten)
        faulty = np.flatnonzero(block.tree.fault)
        if len(faulty):
            good = int(faulty[0])
            is_damaged = True
            position = starts[good]
            if not good:
                return None, True
            few = {index: whole for index, whole in rewritten.items() if index < good}
            block = self._block(starts[:good], ends[:good], few)
        self._position = position
        return block, is_damaged

    def _is_followed(self, position: int) -> bool:
        """Whether an element of the file, or its end, stands at a position."""
        content = self._content
        if position >= len(content):
            return self._is_ended
        if content[position] == END_OF_CONTENTS:
            return bool(self._open) or not content[position:].strip(b"\0")
        tag, value, _ = _read_head(content, position, len(content))
        return value is not None and tag in self._layout.whole | self._layout.lists

    def _indefinite_end(self, position: int) -> int | None:
        limit = min(len(self._content), position + LARGEST_ELEMENT)
        try:
            return ber.element_end(self._content, position, limit)
        except ber.BerError:
            return None

    def _block(self, starts: list[int], ends: list[int], rewritten: dict[int, bytes]) -> Block:
        first, last = starts[0], ends[-1]
        offsets = np.array(starts, np.int64)
        lengths = np.array(ends, np.int64) - offsets
        octets = self._octets()
        at, behind = offsets, offsets + lengths
        if rewritten:
            parts = [self._content[first:last]]
            at, behind = at - first, behind - first
            size = last - first
            for index, whole in rewritten.items():
                at[index], behind[index] = size, size + len(whole)
                parts.append(whole)
                size += len(whole)
            octets = ber.padded(b"".join(parts))
        tree = flatten(octets, at, behind, self._layout)
        return Block(octets, offsets + self._base, lengths, tree)

    def _damaged(self) -> Damaged:
        """What stands at the position up to the next element that holds together."""
        content, start = self._content, self._position
        size = len(content)
        stop = min(size, start + SEARCH_WINDOW)
        found = self._next_whole(start + 1, stop)
        end = stop if found is None else found
        self._position = end
        code, why = MALFORMED, self._why(start, size)
        tag, value, length = _read_head(content, start, size)
        if found is None and end == size and self._is_ended and tag in self._layout.whole:
            try:
                ber.element_end(content, start, size)
            except ber.BerError as error:
                if error.fault == 1:
                    code = TRUNCATED
                    why = FileReason("file_ends_inside")
                    if value is not None and length is not None:
                        octets = str(value + length - size)
                        why = FileReason("file_ends_before", {"octets": octets})
        return Damaged(
            self._base + start,
            end - start,
            code,
            FileReason("record_at", {"at": str(self._base + start), "why": why}).kept(),
            content[start : min(end, start + RAW_RECORD_LIMIT)],
        )

    def _why(self, start: int, size: int) -> FileReason:  # noqa: PLR0911 - a fault each
        content, layout = self._content, self._layout
        tag, value, length = _read_head(content, start, size)
        if value is None:
            return FileReason("no_element")
        if tag not in layout.whole:
            told = {"tag": tag_name(tag), "what": layout.what}
            return FileReason("misplaced_element", told)
        if length is not None and value + length > size:
            return FileReason("overlong_element", {"octets": str(length)})
        try:
            end = ber.element_end(content, start, min(size, start + LARGEST_ELEMENT))
            whole = ber.definite(content[start:end], 0, end - start)
        except ber.BerError as error:
            return ber.fault_at(error.fault, self._base + error.at)
        one = np.zeros(1, np.int64)
        tree = flatten(ber.padded(whole), one, one + len(whole), layout)
        fault, at = int(tree.fault[0]), int(tree.fault_at[0])
        if fault not in ber.FAULTS:
            return FileReason("not_followed")
        if len(whole) != end - start or at < 0:
            return ber.FAULTS[fault]
        return ber.fault_at(fault, self._base + start + at)

    def _next_whole(self, start: int, stop: int) -> int | None:
        """Where the next element begins that holds together and is followed by another."""
        content = self._content
        for match in self._layout.search.finditer(content, start, stop):
            position = match.start()
            limit = min(len(content), position + LARGEST_ELEMENT)
            tag, value, length = _read_head(content, position, limit)
            if value is None or tag not in self._layout.whole:
                continue
            try:
                if length is None:
                    limit = min(limit, position + LARGEST_CANDIDATE)
                    end = ber.element_end(content, position, limit)
                else:
                    end = value + length
            except ber.BerError:
                continue
            if end > limit or end - position < 4 or not self._is_followed(end):
                continue
            if _is_sound(content, position, end, 0):
                return position
        return None


def _read_head(content: bytes, position: int, limit: int) -> tuple[int, int | None, int | None]:
    """Identifier, start of the value and length of an element.

    The start is None where there is no whole head, the length where it is indefinite.
    """
    if position + 1 >= limit:
        return content[position] if position < limit else 0, None, None
    tag = content[position]
    cursor = position + 1
    if tag & 0x1F == 0x1F:
        tag, cursor = _long_tag(content, position, limit)
        if cursor >= limit:
            return tag, None, None
    first = content[cursor]
    cursor += 1
    if first < 0x80:
        return tag, cursor, first
    count = first & 0x7F
    if not count:
        return tag, cursor if content[position] & 0x20 else None, None
    if count > 4 or cursor + count > limit:
        return tag, None, None
    return tag, cursor + count, int.from_bytes(content[cursor : cursor + count], "big")


def _long_tag(content: bytes, position: int, limit: int) -> tuple[int, int]:
    """An identifier of two or three octets, and where its length begins: `limit` if nowhere."""
    tag = content[position]
    for cursor in range(position + 1, min(position + 3, limit)):
        tag = tag << 8 | content[cursor]
        if content[cursor] < 0x80:
            return tag, cursor + 1
    return tag, limit


def _is_sound(content: bytes, start: int, end: int, depth: int) -> bool:
    """Whether an element, and all constructed ones in it, are exact sequences of elements."""
    if depth > ber.MAX_DEPTH:
        return False
    _, value, length = _read_head(content, start, end)
    if value is None:
        return False
    stop = end if length is not None else end - 2
    if not content[start] & 0x20:
        return True
    cursor = value
    while cursor < stop:
        try:
            following = ber.element_end(content, cursor, stop)
        except ber.BerError:
            return False
        if not _is_sound(content, cursor, following, depth + 1):
            return False
        cursor = following
    return True


def children(content: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Identifier, start and end of the value of each element between two positions.

    Ends early where an element of definite length does not hold together. Lengths must be definite.
    """
    cursor = start
    while cursor < end:
        tag, value, length = _read_head(content, cursor, end)
        if value is None or length is None or value + length > end:
            return
        yield tag, value, value + length
        cursor = value + length


def head_parts(head: bytes, layout: Layout) -> Iterator[Part]:
    """The parts at the beginning of a file, as far as its head reaches; ends at the first record.

    The root comes first. Nothing comes if the head is not that of such a file.
    """
    size = len(head)
    tag, value, _ = _read_head(head, 0, size)
    if value is None or tag not in layout.roots:
        return
    yield Part(tag, head[:value], 0, value)
    cursor = value
    while cursor < size and head[cursor] != END_OF_CONTENTS:
        tag, value, _ = _read_head(head, cursor, size)
        if value is None or tag not in layout.parts:
            return
        try:
            end = ber.element_end(head, cursor, size)
            whole = ber.definite(head[cursor:end], 0, end - cursor)
        except ber.BerError:
            return
        yield Part(tag, whole, cursor, end - cursor)
        cursor = end


def tail_part(tail: bytes, tag: int) -> bytes | None:
    """The last element of a file if it has this identifier, lengths made definite.

    Behind it only ends of contents and filling may stand.
    """
    content = tail.rstrip(b"\0")
    ends = range(len(content), len(tail) + 1)
    octets = tag_octets(tag)
    at = len(content)
    while (at := tail.rfind(octets, 0, at)) >= 0:
        try:
            end = ber.element_end(tail, at, len(tail))
        except ber.BerError:
            continue
        if end in ends and _is_sound(tail, at, end, 0):
            return ber.definite(tail[at:end], 0, end - at)
    return None


# --- columns -------------------------------------------------------------------------------------

_HIGH_FIRST = np.frombuffer(b"0123456789abcde\0+", np.uint8)
_FILLER, _PLUS = 15, 16
LONGEST_DIGITS = 20  # octets; E.164 and IMSI have 15 digits at most, dialled numbers 40


class Columns:
    """Columns from the fields of a block; `is_unreadable` marks records with an unreadable one."""

    def __init__(self, block: Block) -> None:
        self._block = block
        self._octets = block.octets
        self._tree = block.tree
        self.is_unreadable = np.zeros(len(block.offsets), np.bool_)

    def _refuse(self, is_bad: BoolArray) -> None:
        self.is_unreadable |= is_bad

    def integers(self, *names: str) -> tuple[IntArray, BoolArray]:
        """Integers of 0 and more, and where there is one."""
        field = self._tree.field(*names)
        value = ber.integers(self._octets, field)
        is_bad = field.is_present & ((field.length > 8) | (field.length == 0) | (value < 0))
        self._refuse(is_bad)
        return value, field.is_present & ~is_bad

    def small_integers(self, *names: str) -> tuple[IntArray, BoolArray]:
        """Integers that fit into 31 bits."""
        value, is_present = self.integers(*names)
        is_bad = is_present & (value >= 2**31)
        self._refuse(is_bad)
        return value, is_present & ~is_bad

    def digits(self, *names: str, is_international: bool = False) -> pa.Array:
        """Digits, two an octet, the first in the high half, the last half perhaps a filler F."""
        field = self._tree.field(*names)
        is_good = field.is_present & (field.length <= LONGEST_DIGITS) & (field.length > 0)
        length = np.where(is_good, field.length, 0)
        width = max(int(length.max(initial=0)), 1)
        packed = Field(np.where(is_good, field.start, 0), length, is_good).matrix(
            self._octets, width
        )
        halves = np.empty((len(packed), 1 + 2 * width), np.uint8)
        halves[:, 0] = _PLUS
        halves[:, 1::2] = packed >> 4
        halves[:, 2::2] = packed & 0x0F
        keep = np.arange(-1, 2 * width) < 2 * length[:, None]
        filler = (halves == _FILLER) & keep
        keep[:, 0] = is_international
        behind = np.maximum.accumulate(filler, axis=1)
        is_good &= ~(behind & keep & ~filler).any(axis=1)  # digits behind a filler
        is_good &= ~filler[:, 1]
        keep &= ~behind
        self._refuse(field.is_present & ~is_good)
        return ber.texts(_HIGH_FIRST[halves], keep, is_good)

    def hexadecimal(self, *names: str, longest: int = 16) -> pa.Array:
        """The octets in hexadecimal."""
        field = self._tree.field(*names)
        is_good = field.is_present & (field.length <= longest) & (field.length > 0)
        length = np.where(is_good, field.length, 0)
        width = max(int(length.max(initial=0)), 1)
        packed = Field(np.where(is_good, field.start, 0), length, is_good).matrix(
            self._octets, width
        )
        halves = np.empty((len(packed), 2 * width), np.uint8)
        halves[:, ::2] = packed >> 4
        halves[:, 1::2] = packed & 0x0F
        keep = np.arange(2 * width) < 2 * length[:, None]
        self._refuse(field.is_present & ~is_good)
        return ber.texts(ber.HEX_CHARACTERS[halves], keep, is_good)

    def texts(self, *names: str, longest: int = 128) -> pa.Array:
        """Printable ASCII."""
        characters, length, is_good = self._characters(longest, *names)
        keep = np.arange(characters.shape[1]) < length[:, None]
        is_bad = (keep & ((characters < 0x20) | (characters > 0x7E))).any(axis=1) & is_good
        self._refuse(is_bad)
        return ber.texts(characters, keep, is_good & ~is_bad)

    def international_texts(self, *names: str) -> pa.Array:
        """Printable ASCII, with a `+` in front of what is a number of more than six digits.

        Shorter numbers are short codes of a service, the rest are names.
        """
        characters, length, is_good = self._characters(64, *names)
        keep = np.arange(characters.shape[1]) < length[:, None]
        is_bad = (keep & ((characters < 0x20) | (characters > 0x7E))).any(axis=1) & is_good
        self._refuse(is_bad)
        is_number = ((characters >= 0x30) & (characters <= 0x39) | ~keep).all(axis=1)
        plus = np.full((len(characters), 1), ord("+"), np.uint8)
        is_prefixed = (is_number & (length > 6))[:, None]
        return ber.texts(
            np.concatenate((plus, characters), axis=1),
            np.concatenate((is_prefixed, keep), axis=1),
            is_good & ~is_bad,
        )

    def _characters(self, longest: int, *names: str) -> tuple[Octets, IntArray, BoolArray]:
        field = self._tree.field(*names)
        is_good = field.is_present & (field.length <= longest) & (field.length > 0)
        self._refuse(field.is_present & (field.length > longest))
        length = np.where(is_good, field.length, 0)
        width = max(int(length.max(initial=0)), 1)
        start = np.where(is_good, field.start, 0)
        # Values may stand at the very end: what lies beyond the octets is not looked at.
        at = np.minimum(start[:, None] + np.arange(width), len(self._octets) - 1)
        return self._octets[at], length, is_good

    def codes(self, *names: str) -> tuple[IntArray, BoolArray]:
        """Codes of two hexadecimal characters, or of one octet, as numbers (0x21 is SMS)."""
        field = self._tree.field(*names)
        characters = field.matrix(self._octets, 2).astype(np.int64)
        value = np.zeros(len(characters), np.int64)
        is_text = field.length == 2
        is_good = field.is_present & is_text | field.is_present & (field.length == 1)
        for column in (0, 1):
            octet = characters[:, column]
            lower = octet | 0x20
            is_digit = (octet >= 0x30) & (octet <= 0x39)
            is_letter = (lower >= 0x61) & (lower <= 0x66)
            half = np.where(is_digit, octet - 0x30, lower - 0x57)
            is_good &= ~is_text | is_digit | is_letter
            value = value << 4 | np.where(is_good & is_text, half, 0)
        value = np.where(is_text, value, characters[:, 0])
        self._refuse(field.is_present & ~is_good)
        return value, is_good

    def times(self, *names: str) -> tuple[npt.NDArray[np.datetime64], BoolArray]:
        """Civil times of 14 characters, YYYYMMDDhhmmss."""
        field = self._tree.field(*names)
        is_good = field.is_present & (field.length == 14)
        digits = (
            Field(np.where(is_good, field.start, 0), field.length, is_good)
            .matrix(self._octets, 14)
            .astype(np.int64)
            - 0x30
        )
        is_good &= ((digits >= 0) & (digits <= 9)).all(axis=1)
        digits[~is_good] = 0
        pairs = digits[:, ::2] * 10 + digits[:, 1::2]
        year, month = pairs[:, 0] * 100 + pairs[:, 1], pairs[:, 2]
        day, hour, minute, second = (pairs[:, column] for column in (3, 4, 5, 6))
        is_good &= (month >= 1) & (month <= 12) & (day >= 1) & (hour < 24) & (minute < 60)
        is_good &= (second < 60) & (year >= 1970)
        months = (np.where(is_good, year, 1970) - 1970) * 12 + np.where(is_good, month, 1) - 1
        first = months.astype("datetime64[M]")
        date = first.astype("datetime64[D]") + np.where(is_good, day - 1, 0)
        is_good &= date.astype("datetime64[M]") == first
        seconds = (hour * 60 + minute) * 60 + second
        moment = date.astype("datetime64[us]") + seconds.astype("timedelta64[s]")
        self._refuse(field.is_present & ~is_good)
        return moment, is_good

    def utc_offsets(self, *names: str) -> tuple[IntArray, BoolArray]:
        """Minutes behind texts like `+0530`."""
        field = self._tree.field(*names)
        is_good = field.is_present & (field.length == 5)
        octets = (
            Field(np.where(is_good, field.start, 0), field.length, is_good)
            .matrix(self._octets, 5)
            .astype(np.int64)
        )
        sign, digits = octets[:, 0], octets[:, 1:] - 0x30
        is_good &= ((digits >= 0) & (digits <= 9)).all(axis=1)
        is_good &= (sign == ord("+")) | (sign == ord("-"))
        minutes = (digits[:, 0] * 10 + digits[:, 1]) * 60 + digits[:, 2] * 10 + digits[:, 3]
        is_good &= minutes <= 14 * 60
        self._refuse(field.is_present & ~is_good)
        return np.where(sign == ord("-"), -minutes, minutes), is_good


def column(values: npt.NDArray[np.generic], is_present: BoolArray) -> pa.Array:
    """An Arrow array, null where there is no value."""
    return pa.array(values, mask=~is_present)


def named(choice: IntArray, names: list[str]) -> pa.Array:
    """Texts chosen by number; null where the number is negative."""
    return pa.array(names, pa.string()).take(pa.array(choice, mask=choice < 0))


def cells(area: tuple[IntArray, BoolArray], cell: tuple[IntArray, BoolArray]) -> pa.Array:
    """Location area and cell in hexadecimal, four digits each or more, joined by a hyphen."""
    is_present = area[1] & cell[1]
    pairs = np.stack((np.where(is_present, area[0], 0), np.where(is_present, cell[0], 0)), axis=1)
    different, place = np.unique(pairs, axis=0, return_inverse=True)
    texts = [f"{first:04X}-{second:04X}" for first, second in different.tolist()]
    return pa.array(texts, pa.string()).take(pa.array(place.reshape(-1), mask=~is_present))


def damaged_table(damaged: Damaged) -> pa.Table:
    """One row for octets that could not be read."""
    return batch_table(
        offsets=pa.array([damaged.offset]),
        lengths=pa.array([min(damaged.length, 2**31 - 1)]),
        errors=pa.array([damaged.code]),
        details=pa.array([damaged.why]),
        raw_records=pa.array([damaged.content.hex()]),
        fields={},
    )


def gathered(tables: Iterator[pa.Table], rows: int = BLOCK_RECORDS) -> Iterator[pa.Table]:
    """The same rows in tables of at least `rows` rows, but for the last."""
    waiting: list[pa.Table] = []
    count = 0
    for table in tables:
        waiting.append(table)
        count += len(table)
        if count >= rows:
            yield pa.concat_tables(waiting, promote_options="default")
            waiting, count = [], 0
    if waiting:
        yield pa.concat_tables(waiting, promote_options="default")


def moment(text: bytes | None, offset: bytes | None) -> datetime | None:
    """A point in time from `YYYYMMDDhhmmss` and `+hhmm`, None if they are no time."""
    if text is None or not re.fullmatch(rb"\d{14}", text):
        return None
    minutes = offset_minutes(offset) if offset is not None else 0
    if minutes is None:
        return None
    try:
        local = datetime.strptime(text.decode("ascii"), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        return local - timedelta(minutes=minutes)
    except (ValueError, OverflowError):
        return None


def offset_minutes(text: bytes) -> int | None:
    """Minutes behind a text like `-0330`, None if it is none."""
    if not re.fullmatch(rb"[+-]\d{4}", text):
        return None
    minutes = int(text[1:3]) * 60 + int(text[3:5])
    return None if minutes > 14 * 60 else -minutes if text[:1] == b"-" else minutes


def sequence_number(digits: bytes | None) -> int | None:
    """A file sequence number of at most nine digits, None if it is none."""
    text = printable(digits or b"") or ""
    return int(text) if text.isdigit() and len(text) < 10 else None


def whole_number(value: bytes | None) -> int | None:
    """A non-negative number of one to four octets (X.690 8.3), None if it is none."""
    if not value or len(value) > 4:
        return None
    number = int.from_bytes(value, "big", signed=True)
    return number if number >= 0 else None


def printable(octets: bytes) -> str | None:
    """Text of printable ASCII, None if it is not, or empty."""
    return octets.decode("ascii") if octets and all(0x20 <= o <= 0x7E for o in octets) else None
