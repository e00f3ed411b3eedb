"""Basic Encoding Rules (ITU-T X.690), read for many records at a time.

`walk` goes through all records in lockstep: one step reads the identifier and the length of the
next element of every record that has one left. The other functions turn the octets of one field of
all records into a column. Positions are offsets into one array of octets that is followed by
`PADDING` zero octets, so that a read past a record's end stays inside the array.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

PADDING = 32
MAX_ELEMENTS = 1000  # of one level of one record; more is no charging record but garbage

Octets = npt.NDArray[np.uint8]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

# Why a record cannot be walked (X.690 clause in brackets).
FAULTS = {
    1: "an element runs past the end of what holds it",
    2: "an indefinite length [8.1.3.6] is not supported",
    3: "a length of more than 4 octets [8.1.3.5]",
    4: "a tag of more than 3 octets [8.1.2.4]",
    5: "an end-of-contents element [8.1.5] without an indefinite length",
    6: f"more than {MAX_ELEMENTS} elements on one level",
}


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
        values: Octets = octets[(self.start + skip)[:, None] + np.arange(width)]
        return values


def integers(octets: Octets, field: Field, limit: int = 8) -> IntArray:
    """Two's complement integers (X.690 8.3) of at most `limit` octets; 0 where absent or longer."""
    length = np.where(field.is_present & (field.length <= limit), field.length, 0)
    width = int(length.max(initial=0))
    value = np.zeros(len(length), np.int64)
    if not width:
        return value
    first = octets[field.start]
    value[(first >= 0x80) & (length > 0)] = -1  # the sign fills from the left
    for number in range(width):
        taken = length > number
        following = octets[field.start + number].astype(np.int64)
        value = np.where(taken, value << 8 | following, value)
    return value


def tbcd(octets: Octets, field: Field, width: int, skip: int = 0) -> pa.Array:
    """Telephony digits (TS 29.002 TBCD-STRING): low half first, ended by a filler 0xF.

    Args:
        octets: the file.
        field: where the values are.
        width: octets of the longest value, without `skip`.
        skip: octets before the digits (the nature of address of an MSISDN).
    """
    packed = field.matrix(octets, width, skip)
    halves = np.empty((len(packed), 2 * width), np.uint8)
    halves[:, 0::2] = packed & 0x0F
    halves[:, 1::2] = packed >> 4
    used = np.maximum(field.length - skip, 0) * 2
    keep = (np.arange(2 * width) < used[:, None]) & (np.cumsum(halves == 0xF, axis=1) == 0)
    return texts(_TBCD_CHARACTERS[halves], keep, field.is_present)


_TBCD_CHARACTERS = np.frombuffer(b"0123456789*#abcF", np.uint8)
HEX_CHARACTERS = np.frombuffer(b"0123456789abcdef", np.uint8)


def bcd_digits(packed: Octets) -> Octets:
    """Characters of packed decimal octets, high half first; a half above 9 stays visible as a-f."""
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
