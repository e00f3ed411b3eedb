"""Charging files: the file and record headers of 3GPP TS 32.297, read as a stream.

A file is a header (clause 6.1.1) followed by records, each behind a header of its own that gives
its length (clause 6.1.2). `read_blocks` cuts a stream into blocks of whole records without ever
holding more than a block and `REPAIR_WINDOW` octets. A record whose lengths disagree is given up
alone: the next one is found again where a record header and the record behind it agree. Every
octet behind the file header belongs to exactly one record, sound or not, and which one does not
depend on how the stream is cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from ingestion.formats import ber
from ingestion.formats.ber import BoolArray, IntArray, Octets
from ingestion.formats.interface import MALFORMED, TRUNCATED, FileFacts, UnreadableFileError
from tollhouse.file_reasons import FileReason

# File header, TS 32.297 clause 6.1.1: octet positions counted from 0.
FILE_LENGTH_AT, HEADER_LENGTH_AT, APPENDED_AT, COUNT_AT, SEQUENCE_AT, FILTER_LENGTH_AT = (
    0,
    4,
    14,
    18,
    22,
    48,
)
MIN_HEADER = 52
COUNT_UNKNOWN = LENGTH_UNKNOWN = 0xFFFFFFFF

# Record header, TS 32.297 clause 6.1.2: length, release and version, format and specification.
RECORD_HEADER, EXTENDED_RECORD_HEADER = 4, 5
RELEASE_EXTENDED = 7  # release identifier that puts an extension octet behind the header
# By the octet of the header in which the release stands.
_HEADER_LENGTH = (RECORD_HEADER,) * (RELEASE_EXTENDED << 5) + (EXTENDED_RECORD_HEADER,) * 32
FORMAT_BER = 1
LARGEST_RECORD = EXTENDED_RECORD_HEADER + 0xFFFF

BLOCK_OCTETS = 8 * 2**20  # read at a time
BLOCK_RECORDS = 32_768  # decoded at a time: their octets stay in the processor's cache
REPAIR_WINDOW = 4 * 2**20  # how far behind a damaged record the next whole one is looked for
SEARCH_STEPS = (2**12, 2**16, 2**20, REPAIR_WINDOW)  # the next record is mostly near
SLOW_CHECKS = 64  # candidates of indefinite length that one search looks into


@dataclass(frozen=True)
class Block:
    """Consecutive records of a file.

    `content` begins at octet `base` of the file; `octets` is the same, padded. `starts` are the
    positions of the record headers in it, `bodies` those behind the headers, `ends` those behind
    the records. `faults` names the records that cannot be walked: index -> (code, explanation).
    """

    content: bytes
    octets: Octets
    base: int
    starts: IntArray
    bodies: IntArray
    ends: IntArray
    faults: dict[int, tuple[str, str]]


def header_length(head: bytes) -> int | None:
    """Octets of the file header, None if the lengths in it do not agree with each other."""
    if len(head) < MIN_HEADER:
        return None
    declared = _number(head, HEADER_LENGTH_AT, 4)
    if not MIN_HEADER <= declared <= len(head):
        return None
    extension_at = FILTER_LENGTH_AT + 2 + _number(head, FILTER_LENGTH_AT, 2)
    if extension_at + 2 > declared:
        return None
    known = extension_at + 2 + _number(head, extension_at, 2)
    # Two release extension octets may follow.
    return declared if known <= declared <= known + 2 else None


def read_header(head: bytes, size: int, name: str, received_at: datetime) -> FileFacts:
    """What the file header says.

    Raises:
        UnreadableFileError: there is no such header.
    """
    if header_length(head) is None:
        raise no_header(name)
    count = _number(head, COUNT_AT, 4)
    sequence = _number(head, SEQUENCE_AT, 4)
    length = _number(head, FILE_LENGTH_AT, 4)
    is_short = length != LENGTH_UNKNOWN and size < length
    lacks = FileReason("lacks_octets", {"octets": str(length - size), "length": str(length)})
    return FileFacts(
        sequence_number=sequence if sequence < 2**31 else None,
        created_at=_file_time(head[APPENDED_AT : APPENDED_AT + 4], received_at),
        declared_record_count=None if count == COUNT_UNKNOWN or count >= 2**31 else count,
        lacks=lacks if is_short else None,
    )


def no_header(name: str) -> UnreadableFileError:
    """What to raise of a file that does not begin with a header of TS 32.297."""
    return UnreadableFileError(
        "no_charging_header",
        name=name, first=str(HEADER_LENGTH_AT), second=str(FILTER_LENGTH_AT),
    )  # fmt: skip


def _file_time(packed: bytes, received_at: datetime) -> datetime | None:
    """A time of the file header (clause 6.1.1: month, day, hour, minute, sign and offset in bits).

    It has no year: it is the last such moment before the file was received (a day's tolerance).
    None if the bits are no time.
    """
    bits = int.from_bytes(packed, "big")
    month, day, hour, minute = bits >> 28, bits >> 23 & 31, bits >> 18 & 31, bits >> 12 & 63
    offset = timedelta(hours=bits >> 6 & 31, minutes=bits & 63)
    is_east = bits >> 11 & 1
    latest = received_at + timedelta(days=1)
    for year in (latest.year + 1, latest.year, latest.year - 1, latest.year - 4):
        try:
            zone = timezone(offset if is_east else -offset)
            moment = datetime(year, month, day, hour, minute, tzinfo=zone).astimezone(UTC)
        except (ValueError, OverflowError):
            continue
        if moment <= latest:
            return moment
    return None


def read_blocks(
    stream: BinaryIO,
    start: int,
    record_tags: npt.NDArray[np.int64],
    *,
    block_octets: int = BLOCK_OCTETS,
    block_records: int = BLOCK_RECORDS,
) -> Iterator[Block]:
    """The records of a file, a block at a time, in file order.

    Args:
        stream: the file from its first octet.
        start: octets of the file header.
        record_tags: identifiers of the records a damaged stretch may be followed by.
        block_octets: how much to read at a time.
        block_records: most records of a block.
    """
    rest, is_ended = _read(stream, start)
    base, rest = len(rest), b""
    searched = _Searched()
    while not is_ended or rest:
        if not is_ended:
            more, is_ended = _read(stream, block_octets)
            rest += more
        cutter = _Cutter(rest, base, record_tags, searched, is_ended)
        position = 0
        while True:
            block, position = cutter.cut(position, block_records)
            if not len(block.starts):
                break
            yield block
        base += position
        rest = rest[position:]


def _read(stream: BinaryIO, size: int) -> tuple[bytes, bool]:
    """The next octets, and whether the stream ended before there were `size` of them."""
    parts: list[bytes] = []
    missing = size
    while missing:
        part = stream.read(missing)
        if not part:
            return b"".join(parts), True
        parts.append(part)
        missing -= len(part)
    return b"".join(parts), False


@dataclass
class _Searched:
    """What the last search for a whole record saw: none from `first` to `last`, one at `found`.

    Kept from one damaged record to the next, in octets of the file: however many records are
    damaged, no octet is looked at twice.
    """

    first: int = 0
    last: int = 0
    found: int | None = None


class _Cutter:
    """Finds the records in a stretch of a file from octet `base`; `is_last` if the file ends there.

    `searched` outlives the stretch.
    """

    def __init__(
        self,
        content: bytes,
        base: int,
        record_tags: npt.NDArray[np.int64],
        searched: _Searched,
        is_last: bool,
    ) -> None:
        self.content = content
        self.base = base
        self.octets = ber.padded(content)
        self.record_tags = record_tags
        self.searched = searched
        self.is_last = is_last

    def cut(self, start: int, most: int) -> tuple[Block, int]:
        """At most `most` records from `start` on, the damaged ones too, and where the next begins.

        The chain of lengths is followed for a stretch of records and all of these are checked
        together; at the first that does not hold, `_repair` finds where the next record begins.
        Stops early where what lies behind must be read to decide.
        """
        starts: list[int] = []
        ends: list[int] = []
        faults: dict[int, tuple[str, str]] = {}
        position, stretch, size = start, most, len(self.content)
        while position < size and len(starts) < most:
            chain = self._follow(position, min(stretch, most - len(starts)))
            links = np.array(chain, np.int64)
            sound = self._agree(links[:-1], links[1:])
            good = len(sound) if sound.all() else int(np.argmin(sound))
            starts += chain[:good]
            ends += chain[1 : good + 1]
            position = chain[good]
            if good == stretch:
                stretch *= 2
            elif position < size and len(starts) < most:
                if not self.is_last and size - position < REPAIR_WINDOW + LARGEST_RECORD:
                    break
                end, code, why = self._repair(position)
                said = FileReason("record_at", {"at": str(self.base + position), "why": why})
                faults[len(starts)] = (code, said.kept())
                starts.append(position)
                ends.append(end)
                position, stretch = end, 64  # where one record is damaged, others may be
        starts_array = np.array(starts, np.int64)
        block = Block(
            content=self.content,
            octets=self.octets,
            base=self.base,
            starts=starts_array,
            bodies=starts_array + self._header_lengths(starts_array),
            ends=np.array(ends, np.int64),
            faults=faults,
        )
        return block, position

    def _follow(self, position: int, limit: int) -> list[int]:
        """Starts of up to `limit` records by their lengths, and the last one's end.

        Stops before a record that is not wholly inside the content.
        """
        chain = [position]
        content, header, size = self.content, _HEADER_LENGTH, len(self.content)
        last_header = size - RECORD_HEADER
        for _ in range(limit):
            if position > last_header:
                break
            length = content[position] << 8 | content[position + 1]
            position += length + header[content[position + 2]]
            chain.append(position)
        if position > size:
            chain.pop()
        return chain

    def _header_lengths(self, starts: IntArray) -> IntArray:
        lengths: IntArray = np.array(_HEADER_LENGTH)[self.octets[starts + 2]]
        return lengths

    def _agree(self, starts: IntArray, ends: IntArray) -> BoolArray:
        """Whether the one element in each record is as long as the record's header says."""
        bodies = starts + self._header_lengths(starts)
        _, values, lengths, wrong = ber.read_heads(self.octets, bodies)
        is_ber = (self.octets[starts + 3] >> 5 == FORMAT_BER) & (bodies < ends)
        agree: BoolArray = (wrong == 0) & (values + lengths == ends) & is_ber
        for index in np.flatnonzero((wrong == 2) & is_ber).tolist():
            agree[index] = self._is_one_element(int(bodies[index]), int(ends[index]))
        return agree

    def _is_one_element(self, start: int, end: int) -> bool:
        try:
            return ber.element_end(self.content, start, end) == end
        except ber.BerError:
            return False

    def _repair(self, position: int) -> tuple[int, str, FileReason]:
        """End, fault code and explanation of the damaged record at a position.

        Believes, in this order: the record header if a record or the file's end follows where it
        says; the record's own BER length likewise; else goes on to the next whole record. A length
        that would swallow a whole record is not believed.
        """
        size = len(self.content)
        claim = self._claim(position)
        if claim is None:
            return size, TRUNCATED, FileReason("ends_in_header")
        end, inner_end = claim
        following = self._next_whole_record(position)
        window_end = min(position + REPAIR_WINDOW, size)
        limit = window_end if following is None else following
        if end <= limit and self._looks_like_record(end):
            return end, MALFORMED, self._header_believed(position)
        if inner_end is not None and inner_end <= limit and self._looks_like_record(inner_end):
            return inner_end, MALFORMED, FileReason("wrong_header_length")
        if following is None and end > size and window_end == size:
            return size, TRUNCATED, FileReason("file_ends_before", {"octets": str(end - size)})
        unread = {"octets": str(limit - position)}
        if following is None:
            return limit, MALFORMED, FileReason("unread_as_searched", unread)
        return limit, MALFORMED, FileReason("unread_until_next", unread)

    def _header_believed(self, position: int) -> FileReason:
        encoding = self.content[position + 3] >> 5
        if encoding != FORMAT_BER:
            told = {"encoding": str(encoding), "readable": str(FORMAT_BER)}
            return FileReason("other_encoding", told)
        return FileReason("not_one_element")

    def _next_whole_record(self, position: int) -> int | None:
        """Where the first whole record behind a position begins, if within the window."""
        seen = self.searched
        first = position + 1
        if seen.first <= self.base + first <= seen.last:
            if seen.found is not None:
                return seen.found - self.base
            first = seen.last - self.base
        else:
            seen.first = self.base + first
        slow_checks = SLOW_CHECKS
        found = None
        for step in SEARCH_STEPS:
            last = min(position + step, len(self.content) - RECORD_HEADER - 1)
            if last <= first:
                continue
            candidates = np.flatnonzero(self._may_begin(first, last)) + first
            bodies = candidates + self._header_lengths(candidates)
            tags, values, lengths, wrong = ber.read_heads(self.octets, bodies)
            claimed = self.octets[candidates].astype(np.int64) << 8 | self.octets[candidates + 1]
            ends = bodies + claimed
            known = np.isin(tags, self.record_tags) & (ends <= len(self.content))
            whole = known & (wrong == 0) & (values + lengths == ends)
            found = int(candidates[whole][0]) if whole.any() else None
            for index in np.flatnonzero(known & (wrong == 2)).tolist():
                if slow_checks == 0 or (found is not None and candidates[index] > found):
                    break
                slow_checks -= 1
                if self._is_one_element(int(bodies[index]), int(ends[index])):
                    found = int(candidates[index])
            first = last
            if found is not None:
                break
        seen.found = None if found is None else self.base + found
        seen.last = self.base + (first if found is None else found)
        return found

    def _may_begin(self, first: int, last: int) -> BoolArray:
        """Whether a record header and the identifier of a record may stand at each position."""
        octets = self.octets
        is_extended = octets[first + 2 : last + 2] >= RELEASE_EXTENDED << 5
        leading = np.where(is_extended, octets[first + 5 : last + 5], octets[first + 4 : last + 4])
        may: BoolArray = (octets[first + 3 : last + 3] >> 5 == FORMAT_BER) & (leading >> 5 == 0b101)
        return may

    def _claim(self, position: int) -> tuple[int, int | None] | None:
        """Where the record at a position ends by its header and by its BER element."""
        if position + RECORD_HEADER > len(self.content):
            return None
        at = np.array([position], np.int64)
        body = position + int(self._header_lengths(at)[0])
        end = body + _number(self.content, position, 2)
        _, value, length, wrong = ber.read_heads(self.octets, np.array([body], np.int64))
        if wrong[0] == 2:
            limit = min(body + LARGEST_RECORD, len(self.content))
            try:
                return end, ber.element_end(self.content, body, limit)
            except ber.BerError:
                return end, None
        return end, None if wrong[0] else int(value[0] + length[0])

    def _looks_like_record(self, position: int) -> bool:
        """Whether a record begins (it may be cut off) or the file ends at a position."""
        if position >= len(self.content):
            return position == len(self.content)  # only the last stretch is read to its end
        claim = self._claim(position)
        if claim is None:
            return False
        return claim[0] == claim[1] and self.content[position + 3] >> 5 == FORMAT_BER


def _number(content: bytes, position: int, width: int) -> int:
    return int.from_bytes(content[position : position + width], "big")
