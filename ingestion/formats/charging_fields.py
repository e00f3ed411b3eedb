"""Fields of charging records as columns: structures of 3GPP TS 32.298, read for many at a time.

`Found` is one level of many structures: it knows where each used element stands and turns elements
into columns. Two kinds of damage are told apart. A structure that cannot be walked, an element that
stands twice and a quantity out of garbage octets make the record malformed (`Decoding.refuse`): no
usage may come of it. A text or a time that cannot be read is only missing, and the record's octets
are kept beside it (`Decoding.miss`).
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.formats import ber
from ingestion.formats.ber import BoolArray, Field, IntArray, Octets
from tollhouse.file_reasons import FileReason

MAX_QUANTITY = 2**48  # octets of one service; a thousand of them still fit a 64-bit sum
LONGEST_NUMBER = 20  # octets of digits (TS 29.002: an AddressString has at most 20)
LONGEST_TEXT = 255
SEQUENCE, SET = 0x30, 0x31  # identifiers of the items of most lists


def identifier(number: int, *, constructed: bool = False) -> int:
    """The identifier octets of a context-specific tag as one number (X.690 clause 8.1.2)."""
    leading = 0xA0 if constructed else 0x80
    if number < 31:
        return leading | number
    if number < 128:
        return (leading | 0x1F) << 8 | number
    return (leading | 0x1F) << 16 | (0x80 | number >> 7) << 8 | number & 0x7F


@dataclass(frozen=True)
class Layout:
    """Elements of a SET or SEQUENCE: those we use by name, and the numbers of others we know.

    `lookup` has for every identifier of up to two octets the index of the used element, or one of
    the codes.
    """

    names: tuple[str, ...]
    lookup: npt.NDArray[np.int16]

    KNOWN = -1  # skipped
    UNKNOWN = -2  # skipped and counted
    MISSHAPEN = (
        -3
    )  # a used element that is constructed where it should not be, or not where it should

    @classmethod
    def of(
        cls,
        *,
        simple: Mapping[str, int] | None = None,
        nested: Mapping[str, int] | None = None,
        universal: Mapping[str, int] | None = None,
        others: Iterable[int] = (),
    ) -> Layout:
        """A layout.

        Args:
            simple: used elements with a value, name -> context-specific tag number.
            nested: used elements that hold others.
            universal: used elements under the tag of their type, name -> identifier octet.
            others: tag numbers of elements that are defined but not used.
        """
        lookup = np.full(2**16, cls.UNKNOWN, np.int16)
        for number in others:
            for is_constructed in (False, True):
                lookup[identifier(number, constructed=is_constructed)] = cls.KNOWN
        names: list[str] = []
        for used, is_constructed in ((simple or {}, False), (nested or {}, True)):
            for name, number in used.items():
                lookup[identifier(number, constructed=is_constructed)] = len(names)
                lookup[identifier(number, constructed=not is_constructed)] = cls.MISSHAPEN
                names.append(name)
        for name, octet in (universal or {}).items():
            lookup[octet] = len(names)
            names.append(name)
        return cls(tuple(names), lookup)


class Decoding:
    """Some records while they are decoded: their octets, and what is wrong with each.

    `base` is the octet of the file where `octets` begins, for messages.
    """

    def __init__(self, octets: Octets, base: int, count: int) -> None:
        self.octets = octets
        self.base = base
        self.count = count
        self.is_sound = np.ones(count, bool)
        self.reasons: dict[int, FileReason] = {}
        self.misses: dict[int, list[FileReason]] = {}
        self.has_indefinite = np.zeros(count, bool)
        self.unknown = np.zeros(count, np.int64)

    def refuse(
        self, wrong: BoolArray, record: IntArray | None, why: Callable[[int], FileReason]
    ) -> None:
        """Mark the records of some structures as malformed; only the first reason counts."""
        for at in np.flatnonzero(wrong).tolist():
            index = at if record is None else int(record[at])
            if self.is_sound[index]:
                self.reasons[index] = why(at)
                self.is_sound[index] = False

    def miss(
        self, wrong: BoolArray, record: IntArray | None, why: Callable[[int], FileReason]
    ) -> None:
        """Note a field that is there but cannot be read."""
        for at in np.flatnonzero(wrong).tolist():
            index = at if record is None else int(record[at])
            self.misses.setdefault(index, []).append(why(at))

    def said(self, code: str, name: str, start: int, **values: str) -> FileReason:
        """What is wrong with a field whose value begins at an octet of `octets`."""
        return FileReason(code, {"name": name, "at": str(self.base + start), **values})


@dataclass(frozen=True)
class Moments:
    """Local times: microseconds since 1970 as read off the clock, and minutes ahead of UTC."""

    local: IntArray
    is_known: BoolArray
    offset: IntArray
    has_offset: BoolArray

    def or_else(self, other: Moments) -> Moments:
        """These, and where there is none the other."""
        mine = self.is_known
        return Moments(
            np.where(mine, self.local, other.local),
            mine | other.is_known,
            np.where(mine, self.offset, other.offset),
            np.where(mine, self.has_offset, other.has_offset),
        )

    def utc_seconds(self) -> IntArray:
        """Seconds since 1970, UTC; an unknown offset counts as none."""
        seconds: IntArray = self.local // 1_000_000 - np.where(self.has_offset, self.offset, 0) * 60
        return seconds

    def columns(self) -> dict[str, pa.Array]:
        """The columns of a record's start."""
        return {
            "started_local": pa.array(
                self.local.astype("M8[us]"), pa.timestamp("us"), mask=~self.is_known
            ),
            "utc_offset_minutes": pa.array(self.offset, mask=~(self.is_known & self.has_offset)),
        }


@dataclass(frozen=True)
class Found:
    """Where the used elements of many structures stand; `record` says whose structure each is.

    `record` is None where every record has one such structure.
    """

    decoding: Decoding
    fields: dict[str, Field]
    count: int
    record: IntArray | None = None

    @classmethod
    def walk(
        cls,
        decoding: Decoding,
        starts: IntArray,
        ends: IntArray,
        layout: Layout,
        *,
        what: str | FileReason,
        record: IntArray | None = None,
        may_repeat: bool = False,
    ) -> Found:
        """Walk structures; refuse the record of one that cannot be, or has a used element twice.

        With `may_repeat` the structures are lists, and the first of each kind of element counts.
        """
        count, width = len(starts), len(layout.names)
        walked = ber.walk(decoding.octets, starts, ends)
        elements = walked.elements
        tags = elements.tag
        if tags.max(initial=0) >= 2**16:
            tags = np.where(tags < 2**16, tags, 0)
        column = layout.lookup[tags]
        unknown = elements.owner[np.flatnonzero(column == layout.UNKNOWN)]
        np.add.at(decoding.unknown, unknown if record is None else record[unknown], 1)
        used = np.flatnonzero(column >= 0)
        if may_repeat:
            used = used[::-1]  # of elements that stand twice the first is written last
        cell = elements.owner[used] * width + column[used]
        field_start, field_length = np.zeros((2, count * width), np.int64)
        field_start[cell] = elements.start[used]
        field_length[cell] = elements.length[used]
        times = np.bincount(cell, minlength=count * width).reshape(count, width)
        field_start = field_start.reshape(count, width)
        field_length = field_length.reshape(count, width)
        is_indefinite = np.flatnonzero(walked.fault == 2)
        decoding.has_indefinite[is_indefinite if record is None else record[is_indefinite]] = True
        decoding.refuse(
            walked.fault != 0, record,
            lambda at: ber.fault_at(
                int(walked.fault[at]), decoding.base + int(walked.fault_at[at]), what
            ),
        )  # fmt: skip
        if not may_repeat and times.max(initial=0) > 1:
            decoding.refuse(
                np.any(times > 1, axis=1), record,
                lambda at: FileReason(
                    "twice", {"name": layout.names[int(times[at].argmax())], "what": what}
                ),
            )  # fmt: skip
        misshapen = np.flatnonzero(column == layout.MISSHAPEN)
        if len(misshapen):
            of = {int(elements.owner[at]): int(elements.start[at]) for at in misshapen[::-1]}
            wrong = np.zeros(count, bool)
            wrong[list(of)] = True
            decoding.refuse(
                wrong, record,
                lambda at: FileReason(
                    "misshapen", {"at": str(decoding.base + of[at]), "what": what}
                ),
            )  # fmt: skip
        fields = {
            name: Field(field_start[:, number], field_length[:, number], times[:, number] > 0)
            for number, name in enumerate(layout.names)
        }
        return cls(decoding, fields, count, record)

    # --- structures within ---

    def has(self, name: str) -> BoolArray:
        """Whether each structure has the element."""
        return self.fields[name].is_present

    def inside(self, name: str, layout: Layout, *, may_repeat: bool = False) -> Found:
        """The structure an element holds (none found where it is absent)."""
        field = self.fields[name]
        return Found.walk(
            self.decoding, field.start, field.start + field.length, layout,
            what=name, record=self.record, may_repeat=may_repeat,
        )  # fmt: skip

    def first_item(self, name: str, layout: Layout, item: int = SEQUENCE) -> Found:
        """The first structure in a list (none found where there is no list, or an empty one)."""
        only = Layout.of(universal={name: item})
        return self.inside(name, only, may_repeat=True).inside(name, layout)

    def items(self, name: str, layout: Layout, item: int = SEQUENCE) -> tuple[Found, IntArray]:
        """The structures in a list, and the row of this level that each belongs to."""
        elements = self.elements(name)
        row = elements.owner
        record = row if self.record is None else self.record[row]
        self.decoding.refuse(
            elements.tag != item, record,
            lambda at: self.decoding.said(
                "not_an_item", name, elements.start[at], tag=f"{int(elements.tag[at]):X}"
            ),
        )  # fmt: skip
        ends = elements.start + elements.length
        found = Found.walk(
            self.decoding, elements.start, ends, layout,
            what=FileReason("item_of", {"name": name}), record=record,
        )  # fmt: skip
        return found, row

    def elements(self, name: str) -> ber.Elements:
        """The elements directly within one, in the order of rows and then of octets."""
        field = self.fields[name]
        outer = ber.walk(self.decoding.octets, field.start, field.start + field.length)
        is_indefinite = np.flatnonzero(outer.fault == 2)
        self.decoding.has_indefinite[
            is_indefinite if self.record is None else self.record[is_indefinite]
        ] = True
        self.decoding.refuse(
            outer.fault != 0, self.record,
            lambda at: ber.fault_at(
                int(outer.fault[at]), self.decoding.base + int(outer.fault_at[at]), name
            ),
        )  # fmt: skip
        found = outer.elements
        order = np.lexsort((found.start, found.owner))
        return ber.Elements(
            found.owner[order], found.tag[order], found.start[order], found.length[order]
        )

    # --- numbers ---

    def quantity(self, name: str) -> tuple[IntArray, BoolArray]:
        """A number of seconds or octets; the record is refused where it is no such thing."""
        field = self.fields[name]
        value = ber.integers(self.decoding.octets, field)
        wrong = field.is_present & (
            (field.length < 1) | (field.length > 8) | (np.abs(value) >= MAX_QUANTITY)
        )
        self.decoding.refuse(
            wrong, self.record,
            lambda at: self.decoding.said(
                "no_quantity", name, field.start[at], octets=str(field.length[at])
            ),
        )  # fmt: skip
        return value, field.is_present

    def number(self, name: str, limit: int = 8) -> tuple[IntArray, BoolArray]:
        """A number that is a code or an identity; refused where it has more octets than `limit`."""
        field = self.fields[name]
        wrong = field.is_present & ((field.length < 1) | (field.length > limit))
        self.decoding.refuse(
            wrong, self.record,
            lambda at: self.decoding.said(
                "other_length", name, field.start[at],
                octets=str(field.length[at]), least="1", most=str(limit),
            ),
        )  # fmt: skip
        return ber.integers(self.decoding.octets, field, limit), field.is_present

    # --- texts ---

    def _readable(self, name: str, shortest: int, longest: int) -> Field:
        """The field where its length is one it may have; missed where not."""
        field = self.fields[name]
        wrong: BoolArray = field.is_present & ((field.length < shortest) | (field.length > longest))
        if not wrong.any():
            return field
        self.decoding.miss(
            wrong, self.record,
            lambda at: self.decoding.said(
                "other_length", name, field.start[at],
                octets=str(field.length[at]), least=str(shortest), most=str(longest),
            ),
        )  # fmt: skip
        return Field(field.start, field.length, field.is_present & ~wrong)

    def digits(self, name: str, longest: int = 8) -> pa.Array:
        """Telephony digits without a nature of address: IMSI, IMEI (TS 29.002 TBCD-STRING)."""
        return ber.tbcd(self.decoding.octets, self._readable(name, 1, longest), longest)

    def address(self, name: str) -> pa.Array:
        """A number behind its nature: AddressString (TS 29.002), BCD numbers (TS 24.008).

        The octet of the nature has bits 7 to 5 = 1 for international numbers and 5 for names, and
        bit 8 = 0 where another octet (presentation and screening, TS 24.008 clause 10.5.4.9)
        follows it.
        """
        return self._address_of(self._readable(name, 1, LONGEST_NUMBER + 2))

    def message_address(self, name: str) -> pa.Array:
        """The same, behind the number of half octets or not (TS 23.040 clause 9.1.2.5).

        Vendors differ in whether the octet of the length is part of the element; an octet of the
        nature always has bit 8 set, a length never.
        """
        field = self._readable(name, 1, LONGEST_NUMBER + 3)
        octets = self.decoding.octets
        halves = octets[field.start].astype(np.int64)
        has_length = (octets[field.start + 1] >= 0x80) & ((halves + 1) // 2 == field.length - 2)
        start = field.start + has_length
        return self._address_of(Field(start, field.length - has_length, field.is_present))

    def _address_of(self, field: Field) -> pa.Array:
        octets = self.decoding.octets
        nature = octets[field.start]
        skip = 1 + (nature < 0x80)
        kind = nature >> 4 & 7
        number = Field(field.start + skip, np.maximum(field.length - skip, 0), field.is_present)
        numbers = ber.tbcd(octets, number, LONGEST_NUMBER, kind == 1)
        is_name = np.flatnonzero(field.is_present & (kind == 5))
        if not len(is_name):
            return numbers
        values = numbers.to_pylist()
        for at in is_name.tolist():
            start, length = int(number.start[at]), int(number.length[at])
            values[at] = _name(octets[start : start + length].tobytes())
        return pa.array(values, pa.string())

    def text(self, name: str, longest: int = LONGEST_TEXT) -> pa.Array:
        """Printable ASCII text; missed where it is not."""
        field = self._readable(name, 1, longest)
        octets = self.decoding.octets
        length = np.where(field.is_present, np.minimum(field.length, longest), 0)
        width = max(int(length.max(initial=0)), 1)
        characters = ber.gather(octets, field.start, width)
        keep = np.arange(width) < length[:, None]
        odd: BoolArray = np.any(keep & ((characters < 0x20) | (characters > 0x7E)), axis=1)
        self.decoding.miss(
            odd, self.record,
            lambda at: self.decoding.said("not_printable", name, field.start[at]),
        )  # fmt: skip
        return ber.texts(characters, keep & ~odd[:, None], field.is_present & ~odd)

    def text_or_octets(self, name: str, longest: int = LONGEST_TEXT) -> pa.Array:
        """An identity that is text in some networks: as text where it is, else in hexadecimal."""
        field = self._readable(name, 1, longest)
        octets = self.decoding.octets
        length = np.where(field.is_present, field.length, 0)
        width = max(int(length.max(initial=0)), 1)
        characters = ber.gather(octets, field.start, width)
        within = np.arange(width) < length[:, None]
        is_text: BoolArray = ~np.any(within & ((characters < 0x20) | (characters > 0x7E)), axis=1)
        wide = np.zeros((len(characters), 2 * width), np.uint8)
        wide[:, :width] = characters
        keep = np.arange(2 * width) < np.where(is_text, length, 2 * length)[:, None]
        shown = np.where(is_text[:, None], wide, ber.hex_digits(characters))
        return ber.texts(shown, keep, field.is_present)

    def hexadecimal(self, name: str, longest: int = 64) -> pa.Array:
        """Octets without a meaning of their own, two hexadecimal digits each."""
        field = self._readable(name, 1, longest)
        length = np.where(field.is_present, field.length, 0)
        width = max(int(length.max(initial=0)), 1)
        packed = ber.gather(self.decoding.octets, field.start, width)
        keep = np.arange(2 * width) < 2 * length[:, None]
        return ber.texts(ber.hex_digits(packed), keep, field.is_present)

    def network(self, name: str) -> pa.Array:
        """MCC and MNC as text (TS 24.008 order of digits: two-digit MNCs carry a filler)."""
        field = self._readable(name, 3, 3)
        packed, places = ber.distinct(field.matrix(self.decoding.octets, 3))
        return ber.texts_of(plmn(packed), places, field.is_present)

    def ip(self, name: str) -> pa.Array:
        """The first IP address in a constructed element, as text (TS 32.298 IPAddress)."""
        field = self.fields[name]
        octets = self.decoding.octets
        is_ipv4 = (
            field.is_present
            & (field.length >= 6)
            & (octets[field.start] == IPV4_BINARY)
            & (octets[field.start + 1] == 4)
        )
        rest = np.flatnonzero(field.is_present & ~is_ipv4).tolist()
        quads, places = ber.distinct(ber.gather(octets, field.start + 2, 4))
        characters = _OCTET_CHARACTERS[quads].reshape(len(quads), 16)
        keep = _OCTET_KEEP[quads].reshape(len(quads), 16)
        keep[:, 12:] = _LAST_OCTET_KEEP[quads[:, 3]]
        different = ber.texts(characters, keep, np.ones(len(quads), np.bool_))
        addresses = ber.texts_of(different, places, is_ipv4)
        if not rest:
            return addresses
        found = addresses.to_pylist()
        unread = np.zeros(len(found), bool)
        for index in rest:
            start, length = int(field.start[index]), int(field.length[index])
            found[index] = _rare_address(octets[start : start + length].tobytes())
            unread[index] = found[index] is None
        self.decoding.miss(
            unread, self.record,
            lambda at: self.decoding.said("no_address", name, field.start[at]),
        )  # fmt: skip
        return pa.array(found, pa.string())

    # --- times ---

    def moments(self, name: str) -> Moments:
        """A TimeStamp (TS 32.298): YYMMDDhhmmss in BCD, the sign of the offset in ASCII, hhmm."""
        field = self._readable(name, 9, 9)
        packed = field.matrix(self.decoding.octets, 9)
        pairs = np.minimum(packed >> 4, 15).astype(np.int64) * 10 + (packed & 15)
        is_decimal = (packed >> 4 < 10) & (packed & 15 < 10)
        year, month, day, hour, minute, second = (pairs[:, at] for at in range(6))
        is_sane = (month >= 1) & (month <= 12) & (day >= 1) & (hour < 24)
        is_sane &= (minute < 60) & (second < 60) & is_decimal[:, :6].all(axis=1)
        months = np.where(is_sane, (year + 30) * 12 + month - 1, 0).astype("M8[M]")
        first = months.astype("M8[D]").astype(np.int64)
        is_sane &= day <= (months + 1).astype("M8[D]").astype(np.int64) - first
        seconds = (((first + day - 1) * 24 + hour) * 60 + minute) * 60 + second
        sign = packed[:, 6]
        has_offset = is_decimal[:, 7:].all(axis=1) & (pairs[:, 7] <= 14) & (pairs[:, 8] < 60)
        has_offset &= (sign == ord("+")) | (sign == ord("-"))
        offset = pairs[:, 7] * 60 + pairs[:, 8]
        is_known, has_offset = field.is_present & is_sane, field.is_present & has_offset
        self.decoding.miss(
            field.is_present & ~(is_known & has_offset), self.record,
            lambda at: self.decoding.said(
                "no_time", name, field.start[at], octets=packed[at].tobytes().hex()
            ),
        )  # fmt: skip
        return Moments(
            np.where(is_known, seconds * 1_000_000, 0),
            is_known,
            np.where(sign == ord("-"), -offset, offset),
            has_offset,
        )


def plmn(packed: Octets) -> pa.Array:
    """MCC and MNC as text from three octets each."""
    halves = np.stack(
        (
            packed[:, 0] & 15, packed[:, 0] >> 4, packed[:, 1] & 15,
            packed[:, 2] & 15, packed[:, 2] >> 4, packed[:, 1] >> 4,
        ),
        axis=1,
    )  # fmt: skip
    keep = np.ones(halves.shape, bool)
    keep[:, 5] = halves[:, 5] != 0xF
    return ber.texts(ber.HEX_CHARACTERS[halves], keep, np.ones(len(packed), np.bool_))


# IPAddress: alternatives by identifier octet, TS 32.298 clause 5.2.1.
IPV4_BINARY, IPV6_BINARY, IPV4_TEXT, IPV6_TEXT = 0x80, 0x81, 0x82, 0x83
IPV6_WITH_PREFIX = 0xA4  # holds the sixteen octets under the tag of an octet string
OCTET_STRING = 0x04


@functools.lru_cache(maxsize=65_536)  # a file has few nodes
def _rare_address(value: bytes) -> str | None:
    """An IPv6 address, one in text form or behind a long length; None if it is neither."""
    try:
        start, end = ber.element_extent(value, 0, len(value))
        kind, inner = value[0], value[start:end]
        if kind == IPV6_WITH_PREFIX:
            start, end = ber.element_extent(inner, 0, len(inner))
            if inner[0] == OCTET_STRING and end - start == 16:
                return str(ipaddress.IPv6Address(inner[start:end]))
        if (kind, len(inner)) in ((IPV4_BINARY, 4), (IPV6_BINARY, 16)):
            return str(ipaddress.ip_address(inner))
        if kind in (IPV4_TEXT, IPV6_TEXT):
            return str(ipaddress.ip_address(inner.decode("ascii")))
    except ValueError:
        return None
    return None


_OCTET_TEXTS = [f"{number}." for number in range(256)]
_OCTET_CHARACTERS = np.array([list(text.ljust(4).encode()) for text in _OCTET_TEXTS], np.uint8)
_OCTET_KEEP = np.array([[at < len(text) for at in range(4)] for text in _OCTET_TEXTS])
_LAST_OCTET_KEEP = np.roll(_OCTET_KEEP, -1, axis=1) & (np.arange(4) < 3)


# Default alphabet of short messages, TS 23.038 clause 6.2.1, by code.
_LETTERS = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ ÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)


def _name(packed: bytes) -> str:
    """The letters of an alphanumeric address: seven bits each, low bits first (TS 23.038 6.1.2)."""
    bits = int.from_bytes(packed, "little")
    letters = [_LETTERS[bits >> 7 * at & 0x7F] for at in range(len(packed) * 8 // 7)]
    return "".join(letters).rstrip("@").strip()


def party_number(uri: pa.Array) -> pa.Array:
    """The telephone number in a `tel` or `sip` URI (RFC 3966, RFC 3261), null if there is none.

    Visual separators are left out; a number that is not global stays as it is.
    """
    bare = pc.replace_substring_regex(uri, r"[-.()]", "")  # ``msisdn-86…`` loses its hyphen too
    found = pc.extract_regex(
        bare, r"(?i)^(?:tel:|sips?:|msisdn)?(?P<number>\+?[0-9*#]+)(?:[@;:?]|$)"
    )
    return pc.struct_field(found, "number")


def international(number: pa.Array) -> pa.Array:
    """Numbers that are international by definition, with `+` in front."""
    return pc.replace_substring_regex(number, r"^([0-9])", r"+\1")
