"""Basic Encoding Rules (ITU-T X.690), read for many records at a time.

`walk` goes through all records in lockstep: one step reads the identifier and the length of the
next element of every record that has one left. The other functions turn the octets of one field of
all records into a column. Positions are offsets into one array of octets that is followed by
`PADDING` zero octets, so that a read past a record's end stays inside the array.

Indefinite lengths (X.690 clause 8.1.3.6) are rare and cannot be skipped over: `definite` rewrites
the one element that has them, and the result is walked like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tollhouse.file_reasons import FileReason

PADDING = 320  # more than the widest value read as a whole
MAX_ELEMENTS = 1000  # of one level of one record; more is no charging record but garbage

Octets = npt.NDArray[np.uint8]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

# Why a record cannot be walked (X.690 clause in brackets).
FAULTS = {
    1: FileReason("ber_overrun"),
    2: FileReason("ber_indefinite"),
    3: FileReason("ber_long_length"),
    4: FileReason("ber_long_tag"),
    5: FileReason("ber_stray_end"),
    6: FileReason("ber_too_many", {"most": str(MAX_ELEMENTS)}),
}


def fault_at(fault: int, at: int, what: str | FileReason | None = None) -> FileReason:
    """A key of `FAULTS`, where it was found, and in what."""
    if what is None:
        return FileReason("ber_at", {"fault": FAULTS[fault], "at": str(at)})
    return FileReason("ber_at_of", {"fault": FAULTS[fault], "at": str(at), "what": what})


@dataclass(frozen=True)
class Elements:
    """The elements found by `walk`, all arrays of the same length.

    `tag` is the identifier octets as one number (0x80, 0xBF22), `owner` the index of the record.
    """

    owner: IntArray
    tag: IntArray
    start: IntArray
    length: IntArray


@dataclass(frozen=True)
class Walk:
    """Elements of all records; `fault` is 0 or a key of `FAULTS`, found at octet `fault_at`."""

    elements: Elements
    fault: npt.NDArray[np.int8]
    fault_at: IntArray


def padded(content: bytes) -> Octets:
    """The octets of a file, followed by the padding this module relies on."""
    return np.frombuffer(content + bytes(PADDING), np.uint8)


def walk(octets: Octets, starts: IntArray, ends: IntArray) -> Walk:
    """The elements between `starts` and `ends` of each record, one level deep."""
    fault = np.zeros(len(starts), np.int8)
    fault_at = np.full(len(starts), -1, np.int64)
    found: list[tuple[IntArray, IntArray, IntArray, IntArray]] = []
    owner = np.flatnonzero(starts < ends)
    position, end = starts[owner], ends[owner]
    while len(owner):
        tag, value, length, wrong = read_heads(octets, position)
        after = value + length
        wrong[(after > end) & (wrong == 0)] = 1
        if len(found) >= MAX_ELEMENTS:
            wrong[:] = 6
        sound = wrong == 0
        if not sound.all():
            fault[owner[~sound]] = wrong[~sound]
            fault_at[owner[~sound]] = position[~sound]
            owner, tag, value, length = owner[sound], tag[sound], value[sound], length[sound]
            after, end = after[sound], end[sound]
        found.append((owner, tag, value, length))
        more = after < end
        if more.all():
            position = after
        else:
            owner, position, end = owner[more], after[more], end[more]
    columns = [np.concatenate(parts) for parts in zip(*found, strict=True)] if found else []
    if not columns:
        columns = [np.zeros(0, np.int64)] * 4
    return Walk(Elements(*columns), fault, fault_at)


def read_heads(
    octets: Octets, position: IntArray
) -> tuple[IntArray, IntArray, IntArray, npt.NDArray[np.int8]]:
    """Tag, start and length of the value, and fault of the element at each position."""
    wrong = np.zeros(len(position), np.int8)
    tag = octets[position].astype(np.int64)
    wrong[tag == 0] = 5
    cursor = position + 1
    is_long = (tag & 0x1F) == 0x1F
    for octet_number in (2, 3):
        if not is_long.any():
            break
        following = octets[cursor]
        tag = np.where(is_long, tag << 8 | following, tag)
        cursor = cursor + is_long
        is_long = is_long & (following >= 0x80)
        if octet_number == 3:
            wrong[is_long] = 4
    first = octets[cursor].astype(np.int64)
    cursor += 1
    is_long_length = first >= 0x80
    length = np.where(is_long_length, 0, first)
    if is_long_length.any():
        count = np.where(is_long_length, first & 0x7F, 0)
        wrong[(wrong == 0) & is_long_length & (count == 0)] = 2
        wrong[(wrong == 0) & (count > 4)] = 3
        count = np.minimum(count, 4)
        for number in range(int(count.max())):
            taken = count > number
            length = np.where(taken, length << 8 | octets[cursor], length)
            cursor = cursor + taken
    return tag, cursor, length, wrong


@dataclass(frozen=True)
class Field:
    """Where one field stands in each record: octets `start` … `start + length`, if `is_present`."""

    start: IntArray
    length: IntArray
    is_present: BoolArray

    def matrix(self, octets: Octets, width: int, skip: int = 0) -> Octets:
        """The first `width` octets of each value after `skip` (what lies beyond it included)."""
        return gather(octets, self.start + skip, width)


def gather(octets: Octets, starts: IntArray, width: int) -> Octets:
    """A row of `width` octets (at most `PADDING`) from each start."""
    # Overlapping items of one octet's stride: each row is copied at once.
    rows = np.ndarray((len(octets) - width + 1,), f"V{width}", octets.data, strides=(1,))
    return rows[starts].view(np.uint8).reshape(len(starts), width)


def distinct(packed: Octets) -> tuple[Octets, IntArray]:
    """The different rows of octets, and which of them each row is.

    Cells, networks and nodes are few: whoever makes texts of these makes each text once.
    """
    count, width = packed.shape
    rows = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(width), count, [None, pa.py_buffer(np.ascontiguousarray(packed))]
    ).dictionary_encode()
    different = np.frombuffer(rows.dictionary.buffers()[1], np.uint8)
    places: IntArray = rows.indices.to_numpy()
    return different[: len(rows.dictionary) * width].reshape(-1, width), places


def integers(octets: Octets, field: Field, limit: int = 8) -> IntArray:
    """Two's complement integers (X.690 8.3) of at most `limit` octets; 0 where absent or longer."""
    length = np.where(field.is_present & (field.length <= limit), field.length, 0)
    wide = gather(octets, field.start, 8).view(">i8").reshape(-1).astype(np.int64)
    # What lies behind the value is shifted out; the sign is kept.
    return np.where(length > 0, wide >> 8 * (8 - np.maximum(length, 1)), 0)


def tbcd(
    octets: Octets, field: Field, longest: int, is_international: BoolArray | None = None
) -> pa.Array:
    """Telephony digits (TS 29.002 TBCD-STRING): low half first, ended by a filler 0xF.

    Args:
        octets: the file.
        field: where the digits are.
        longest: octets beyond which a value is cut; the caller refuses such values.
        is_international: values that get a `+` in front.
    """
    length = np.where(field.is_present, np.clip(field.length, 0, longest), 0)
    width = max(int(length.max(initial=0)), 1)
    packed = field.matrix(octets, width)
    halves = np.empty((len(packed), 1 + 2 * width), np.uint8)
    halves[:, 0] = _PLUS
    halves[:, 1::2] = packed & 0x0F
    halves[:, 2::2] = packed >> 4
    keep = np.arange(-1, 2 * width) < 2 * length[:, None]
    filler = halves == 0xF
    last = 2 * length  # column of the last half: the usual place of a filler
    rows = np.arange(len(packed))
    is_odd = filler[rows, last]
    keep[rows, last] &= ~is_odd
    early = filler & keep
    if early.any():
        keep &= np.cumsum(early, axis=1) == 0
    keep[:, 0] = False if is_international is None else is_international
    return texts(_TBCD_CHARACTERS[halves], keep, field.is_present)


_PLUS = 16
_TBCD_CHARACTERS = np.frombuffer(b"0123456789*#abcF+", np.uint8)
HEX_CHARACTERS = np.frombuffer(b"0123456789abcdef", np.uint8)


def hex_digits(packed: Octets) -> Octets:
    """Characters of octets, two hexadecimal digits each."""
    characters = np.empty((len(packed), 2 * packed.shape[1]), np.uint8)
    characters[:, 0::2] = HEX_CHARACTERS[packed >> 4]
    characters[:, 1::2] = HEX_CHARACTERS[packed & 0x0F]
    return characters


def texts(characters: Octets, keep: BoolArray, is_present: BoolArray) -> pa.Array:
    """A column of texts from a matrix of ASCII characters, of which those in `keep` count."""
    keep = keep & is_present[:, None]
    offsets = np.zeros(len(keep) + 1, np.int32)
    np.cumsum(keep.sum(axis=1), out=offsets[1:])
    return pa.StringArray.from_buffers(
        len(keep),
        pa.py_buffer(offsets),
        pa.py_buffer(np.ascontiguousarray(characters[keep])),
        pa.py_buffer(np.packbits(is_present, bitorder="little")),
    )


def texts_of(values: pa.Array, places: IntArray, is_present: BoolArray) -> pa.Array:
    """A column of texts, each the one at its place among few."""
    return values.take(pa.array(places, mask=~is_present))


# --- indefinite lengths --------------------------------------------------------------------------

MAX_DEPTH = 32  # levels of constructed elements; more is no charging record but garbage


class BerError(ValueError):
    """Octets that are no BER element; `at` is the offending octet, `fault` a key of `FAULTS`."""

    def __init__(self, fault: int, at: int) -> None:
        super().__init__(f"BER fault {fault} at byte {at}")
        self.fault = fault
        self.at = at


def element_end(content: Sequence[int], start: int, limit: int) -> int:
    """Where the element at `start` ends, whatever form its length has.

    Raises:
        BerError: there is no whole element before `limit`.
    """
    return _extent(content, start, limit, 0)[1]


def element_extent(content: Sequence[int], start: int, limit: int) -> tuple[int, int]:
    """Where the value of the element at `start` begins, and where the element ends.

    Raises:
        BerError: there is no whole element before `limit`.
    """
    return _extent(content, start, limit, 0)


def _head(content: Sequence[int], start: int, limit: int) -> tuple[int, int | None]:
    """Start of the value and its length (None: indefinite) of the element at `start`."""
    cursor = start + 1
    if cursor >= limit:
        raise BerError(1, start)
    if content[start] & 0x1F == 0x1F:
        while content[cursor] >= 0x80:
            cursor += 1
            if cursor - start > 2:
                raise BerError(4, start)
            if cursor >= limit:
                raise BerError(1, start)
        cursor += 1
    if cursor >= limit:
        raise BerError(1, start)
    first = content[cursor]
    cursor += 1
    if first < 0x80:
        return cursor, first
    if first == 0x80:
        return cursor, None
    count = first & 0x7F
    if count > 4:
        raise BerError(3, start)
    if cursor + count > limit:
        raise BerError(1, start)
    return cursor + count, int.from_bytes(bytes(content[cursor : cursor + count]), "big")


def _extent(content: Sequence[int], start: int, limit: int, depth: int) -> tuple[int, int]:
    """Start of the value and end of the element at `start`."""
    if start >= limit:
        raise BerError(1, start)
    if content[start] == 0:
        raise BerError(5, start)
    if depth > MAX_DEPTH:
        raise BerError(6, start)
    value, length = _head(content, start, limit)
    if length is not None:
        if value + length > limit:
            raise BerError(1, start)
        return value, value + length
    if not content[start] & 0x20:
        raise BerError(2, start)
    cursor = value
    while True:
        if cursor + 2 > limit:
            raise BerError(1, start)
        if content[cursor] == 0 and content[cursor + 1] == 0:
            return value, cursor + 2
        cursor = _extent(content, cursor, limit, depth + 1)[1]


def definite(content: bytes, start: int, limit: int) -> bytes:
    """The element at `start` with all its lengths in the definite form.

    Where the content of a constructed element of definite length is no sequence of elements, it is
    taken over as it is: whoever walks into it will say so.

    Raises:
        BerError: there is no whole element before `limit`.
    """
    return _definite(content, start, limit, 0)[0]


def _definite(content: bytes, start: int, limit: int, depth: int) -> tuple[bytes, int]:
    """The element at `start` rewritten, and where the original ends."""
    if content[start] == 0:
        raise BerError(5, start)
    if depth > MAX_DEPTH:
        raise BerError(6, start)
    value, length = _head(content, start, limit)
    is_constructed = content[start] & 0x20
    if length is None and not is_constructed:
        raise BerError(2, start)
    if length is not None and value + length > limit:
        raise BerError(1, start)
    if not is_constructed and length is not None:
        return content[start : value + length], value + length
    parts = []
    cursor, stop = value, limit if length is None else value + length
    try:
        while length is None or cursor < stop:
            if cursor + (2 if length is None else 1) > stop:
                raise BerError(1, start)
            if length is None and content[cursor] == content[cursor + 1] == 0:
                stop = cursor + 2
                break
            part, cursor = _definite(content, cursor, stop, depth + 1)
            parts.append(part)
    except BerError:
        if length is None:
            raise
        return content[start:stop], stop
    inner = b"".join(parts)
    return content[start : _tag_end(content, start)] + _length_octets(len(inner)) + inner, stop


def _tag_end(content: bytes, start: int) -> int:
    """Where the identifier octets of an element end."""
    cursor = start + 1
    if content[start] & 0x1F == 0x1F:
        while content[cursor] >= 0x80:
            cursor += 1
        cursor += 1
    return cursor


def _length_octets(length: int) -> bytes:
    if length < 0x80:
        return bytes([length])
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([0x80 | len(octets)]) + octets
