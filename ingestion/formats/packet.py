"""Packet data records: files after 3GPP TS 32.297 that hold PGW records after TS 32.298 in BER.

A file is a header (clause 6.1.1) followed by records, each behind a header of its own that gives
its length (clause 6.1.2). A record whose lengths disagree is given up alone: the next one is found
again where a record header and the record behind it agree.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.formats import ber
from ingestion.formats.ber import BoolArray, Field, IntArray, Octets
from ingestion.formats.interface import (
    ARROW_TYPES,
    MALFORMED,
    RAW_RECORD_LIMIT,
    TRUNCATED,
    FileFacts,
    UnreadableFileError,
    record_columns,
)
from ingestion.formats.pgw_record import (
    CONSTRUCTED,
    IPV4_BINARY,
    IPV4_TEXT,
    IPV6_BINARY,
    IPV6_TEXT,
    OTHER_TAGS,
    RECORD_TAG,
    SERVICE_OTHER_TAGS,
    SERVICE_USED,
    USED,
    identifier,
)

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
MAX_QUANTITY = 2**48  # octets of one service; a thousand of them still fit a 64-bit sum
# Record header, TS 32.297 clause 6.1.2: length, release and version, format and specification.
RECORD_HEADER, EXTENDED_RECORD_HEADER = 4, 5
RELEASE_EXTENDED = 7  # release identifier that puts an extension octet behind the header
FORMAT_BER = 1

FILE_NAME = re.compile(r"(?P<node>[A-Za-z0-9-]+)_-_(?P<running_count>\d+)\.\d{8}_-_\d{4}")

SLICE = 32_768  # records decoded at a time: their octets stay in the processor's cache

RECORD_IDENTIFIER = identifier(RECORD_TAG, constructed=True)
RECORD_MARK = RECORD_IDENTIFIER.to_bytes(2, "big")
SEQUENCE_IDENTIFIER = 0x30


class PacketFormat:
    """TS 32.297 files of PGW records."""

    name = "packet_cdr"
    table = "raw.packet_cdr"
    columns: Mapping[str, str] = {
        "record_type": "integer",
        "served_imsi": "varchar",
        "served_msisdn": "varchar",
        "served_imei": "varchar",
        "pgw_address": "varchar",
        "serving_node_address": "varchar",
        "charging_id": "bigint",
        "apn": "varchar",
        "opened_local": "varchar",
        "utc_offset": "varchar",
        "duration_s": "bigint",
        "cause_for_closing": "integer",
        "record_sequence": "integer",
        "serving_plmn": "varchar",
        "rat_type": "integer",
        "rating_group": "bigint",
        "uplink_octets": "bigint",
        "downlink_octets": "bigint",
        "unknown_tag_count": "integer",
    }

    def recognises(self, content: bytes) -> bool:
        """Whether the lengths in the file header agree with each other."""
        if len(content) < MIN_HEADER:
            return False
        declared = _number(content, HEADER_LENGTH_AT, 4)
        if not MIN_HEADER <= declared <= len(content):
            return False
        extension_at = FILTER_LENGTH_AT + 2 + _number(content, FILTER_LENGTH_AT, 2)
        if extension_at + 2 > declared:
            return False
        known = extension_at + 2 + _number(content, extension_at, 2)
        return known <= declared <= known + 2  # two release extension octets may follow

    def read_facts(self, content: bytes, file_name: str, received_at: datetime) -> FileFacts:
        """What the header says; the source is the node in the file's name (clause 6.2)."""
        if not self.recognises(content):
            raise UnreadableFileError(f"{file_name} has no file header of TS 32.297")
        named = FILE_NAME.match(file_name)
        count = _number(content, COUNT_AT, 4)
        sequence = _number(content, SEQUENCE_AT, 4)
        length = _number(content, FILE_LENGTH_AT, 4)
        is_short = length != LENGTH_UNKNOWN and len(content) < length
        return FileFacts(
            source_id=named["node"] if named else None,
            sequence_number=sequence if sequence < 2**31 else None,
            created_at=_file_time(content[APPENDED_AT : APPENDED_AT + 4], received_at),
            declared_record_count=None if count == COUNT_UNKNOWN or count >= 2**31 else count,
            lacks=f"{length - len(content)} of the {length} octets its header declares"
            if is_short
            else None,
        )

    def decode(self, content: bytes) -> pa.Table:
        """Every record of the file, one row each."""
        if not self.recognises(content):
            raise UnreadableFileError("no file header of TS 32.297")
        octets = ber.padded(content)
        records = _split(content, octets, _number(content, HEADER_LENGTH_AT, 4))
        faults = dict(records.faults)
        parts = []
        for first in range(0, max(len(records.starts), 1), SLICE):
            part = slice(first, first + SLICE)
            parts.append(_decode_slice(octets, records, part, faults))
        fields = pa.concat_tables(parts)
        errors, details, raw_records = _fault_columns(content, records, faults)
        service = record_columns(
            offsets=pa.array(records.starts),
            lengths=pa.array(records.ends - records.starts),
            errors=errors,
            details=details,
            raw_records=raw_records,
        )
        return pa.table({**service, **dict(zip(fields.column_names, fields.columns, strict=True))})


# --- the file ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Records:
    """Where the records are: `starts` of their headers, `bodies` behind these, `ends`.

    `faults` names those that cannot be walked: index -> (code, explanation).
    """

    starts: IntArray
    bodies: IntArray
    ends: IntArray
    faults: dict[int, tuple[str, str]]


def _split(content: bytes, octets: Octets, start: int) -> _Records:
    """Find every record of the file, the damaged ones too.

    The chain of lengths is followed for a stretch of records and all of these are checked
    together; at the first that does not hold, `_repair` finds where the next record begins.
    """
    starts: list[int] = []
    faults: dict[int, tuple[str, str]] = {}
    ends: list[int] = []
    position, stretch = start, SLICE
    size = len(content)
    while position < size:
        chain = _follow(content, position, stretch)
        links = np.array(chain, np.int64)
        sound = _agree(octets, links[:-1], links[1:])
        good = len(sound) if sound.all() else int(np.argmin(sound))
        starts += chain[:good]
        ends += chain[1 : good + 1]
        position = chain[good]
        if good == stretch:
            stretch = min(stretch * 2, SLICE)
        elif position < size:
            end, code, why = _repair(content, position)
            faults[len(starts)] = (code, f"record at byte {position}: {why}")
            starts.append(position)
            ends.append(end)
            position, stretch = end, 64  # where one record is damaged, others may be
    starts_array = np.array(starts, np.int64)
    return _Records(
        starts=starts_array,
        bodies=starts_array + _header_lengths(octets, starts_array),
        ends=np.array(ends, np.int64),
        faults=faults,
    )


def _follow(content: bytes, position: int, limit: int) -> list[int]:
    """Starts of up to `limit` records from a position on by their lengths, and the last one's end.

    Stops before a record that is not wholly inside the file.
    """
    chain = [position]
    size = len(content)
    while len(chain) <= limit:
        if position + RECORD_HEADER > size:
            break
        length = content[position] << 8 | content[position + 1]
        is_extended = content[position + 2] >= RELEASE_EXTENDED << 5
        position += length + (EXTENDED_RECORD_HEADER if is_extended else RECORD_HEADER)
        if position > size:
            break
        chain.append(position)
    return chain


def _header_lengths(octets: Octets, starts: IntArray) -> IntArray:
    is_extended = octets[starts + 2] >= RELEASE_EXTENDED << 5
    return np.where(is_extended, EXTENDED_RECORD_HEADER, RECORD_HEADER)


def _agree(octets: Octets, starts: IntArray, ends: IntArray) -> BoolArray:
    """Whether the one element in each record is as long as the record's header says."""
    bodies = starts + _header_lengths(octets, starts)
    _, values, lengths, wrong = ber.read_heads(octets, bodies)
    is_ber = octets[starts + 3] >> 5 == FORMAT_BER
    agree: BoolArray = (wrong == 0) & (values + lengths == ends) & is_ber & (bodies < ends)
    return agree


def _repair(content: bytes, position: int) -> tuple[int, str, str]:
    """End, fault code and explanation of the damaged record at a position.

    Believes, in this order: the record header if a record or the file's end follows where it says;
    the record's own BER length likewise; else goes on to the next whole record. A length that would
    swallow a whole record is not believed.
    """
    size = len(content)
    claim = _claim(content, position)
    if claim is None:
        return size, TRUNCATED, "the file ends inside this record's header"
    end, inner_end = claim
    following = _next_whole_record(content, position)
    limit = size if following is None else following
    if end <= limit and _looks_like_record(content, end):
        return end, MALFORMED, "the record is not one BER element of the length its header says"
    if inner_end is not None and inner_end <= limit and _looks_like_record(content, inner_end):
        return inner_end, MALFORMED, "the length in the record header is wrong"
    if following is not None:
        why = f"{following - position} octets up to the next record cannot be read"
        return following, MALFORMED, why
    if end > size:
        return size, TRUNCATED, f"the file ends {end - size} octets before this record does"
    return size, MALFORMED, f"{size - position} octets up to the end of the file cannot be read"


def _next_whole_record(content: bytes, position: int) -> int | None:
    """Where the first whole record behind a position begins."""
    mark = content.find(RECORD_MARK, position + RECORD_HEADER + 1)
    while mark >= 0:
        for header in (RECORD_HEADER, EXTENDED_RECORD_HEADER):
            candidate = mark - header
            if candidate > position and _is_whole_record(content, candidate, header):
                return candidate
        mark = content.find(RECORD_MARK, mark + 1)
    return None


def _claim(content: bytes, position: int) -> tuple[int, int | None] | None:
    """Where the record at a position ends by its header and by its BER element."""
    if position + RECORD_HEADER > len(content):
        return None
    is_extended = content[position + 2] >= RELEASE_EXTENDED << 5
    body = position + (EXTENDED_RECORD_HEADER if is_extended else RECORD_HEADER)
    end = body + _number(content, position, 2)
    octets = ber.padded(content[body : body + 16])
    _, value, length, wrong = ber.read_heads(octets, np.zeros(1, np.int64))
    inner_end = None if wrong[0] else body + int(value[0] + length[0])
    return end, inner_end


def _looks_like_record(content: bytes, position: int) -> bool:
    """Whether a record begins (it may be cut off) or the file ends at a position."""
    if position >= len(content):
        return position == len(content)
    claim = _claim(content, position)
    if claim is None:
        return False
    return claim[0] == claim[1] and content[position + 3] >> 5 == FORMAT_BER


def _is_whole_record(content: bytes, position: int, header: int) -> bool:
    claim = _claim(content, position)
    is_extended = content[position + 2] >= RELEASE_EXTENDED << 5
    return (
        claim is not None
        and claim[0] == claim[1]
        and claim[0] <= len(content)
        and is_extended == (header == EXTENDED_RECORD_HEADER)
        and content[position + 3] >> 5 == FORMAT_BER
    )


def _number(content: bytes, position: int, width: int) -> int:
    return int.from_bytes(content[position : position + width], "big")


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


def _fault_columns(
    content: bytes, records: _Records, faults: Mapping[int, tuple[str, str]]
) -> tuple[pa.Array, pa.Array, pa.Array]:
    """Code, explanation and octets (hex) of the undecodable records; null for the others."""
    count = len(records.starts)
    if not faults:
        nothing = pa.nulls(count, pa.string())
        return nothing, nothing, nothing
    columns: list[npt.NDArray[np.object_]] = [np.full(count, None, object) for _ in range(3)]
    for index, (code, why) in faults.items():
        start, end = int(records.starts[index]), int(records.ends[index])
        raw = content[start : min(end, start + RAW_RECORD_LIMIT)].hex()
        for column, value in zip(columns, (code, why, raw), strict=True):
            column[index] = value
    error, detail, raw_record = (pa.array(column, pa.string()) for column in columns)
    return error, detail, raw_record


# --- the records ---------------------------------------------------------------------------------


class _Decoding:
    """One slice of records while it is decoded: their octets, and the first fault of each."""

    def __init__(self, octets: Octets, count: int) -> None:
        self.octets = octets
        self.is_sound = np.ones(count, bool)
        self.reasons: dict[int, str] = {}

    def refuse(self, wrong: BoolArray, why: Callable[[int], str]) -> None:
        """Mark records as malformed; only the first reason counts."""
        for index in np.flatnonzero(wrong & self.is_sound).tolist():
            self.reasons[index] = why(index)
        self.is_sound &= ~wrong


def _decode_slice(
    octets: Octets, records: _Records, part: slice, faults: dict[int, tuple[str, str]]
) -> pa.Table:
    starts, bodies, ends = records.starts[part], records.bodies[part], records.ends[part]
    decoding = _Decoding(octets, len(starts))
    for index in faults:
        if part.start <= index < part.start + len(starts):
            decoding.is_sound[index - part.start] = False
    if len(starts):
        tag, values, _, _ = ber.read_heads(octets, np.where(decoding.is_sound, bodies, 0))
        decoding.refuse(
            tag != RECORD_IDENTIFIER,
            lambda at: f"tag 0x{int(tag[at]):X} at byte {bodies[at]} is not that of a PGW record",
        )
    else:
        values = bodies
    columns = _decode_records(decoding, values, ends)
    for index, why in decoding.reasons.items():
        where = f"record at byte {starts[index]}: "
        faults[part.start + index] = (MALFORMED, where + why)
    is_sound = pa.array(decoding.is_sound)
    nothing = {name: pa.scalar(None, column.type) for name, column in columns.items()}
    if not decoding.is_sound.all():
        columns = {
            name: pc.if_else(is_sound, column, nothing[name]) for name, column in columns.items()
        }
    return pa.table(columns)


def _decode_records(decoding: _Decoding, starts: IntArray, ends: IntArray) -> dict[str, pa.Array]:
    """The columns of `PacketFormat.columns` for every record between `starts` and `ends`."""
    octets = decoding.octets
    no_octets = np.where(decoding.is_sound, starts, 0), np.where(decoding.is_sound, ends, 0)
    fields, unknown = _find_fields(decoding, *no_octets, _RECORD_TAGS, what="the record")
    service = _decode_services(decoding, fields["listOfServiceData"])

    def integer(name: str, limit: int) -> pa.Array:
        field = fields[name]
        _check_integer(decoding, name, field, limit)
        return pa.array(ber.integers(octets, field, limit), mask=~field.is_present)

    def digits(name: str, width: int, skip: int = 0) -> pa.Array:
        field = fields[name]
        _check_length(decoding, name, field, 1 + skip, width + skip)
        return ber.tbcd(octets, field, width, skip)

    opened, offset = _opening_time(decoding, fields["recordOpeningTime"])
    columns = {
        "record_type": integer("recordType", 4),
        "served_imsi": digits("servedIMSI", 8),
        "served_msisdn": digits("servedMSISDN", 10, skip=1),
        "served_imei": digits("servedIMEI", 8),
        "pgw_address": _address(decoding, "p-GWAddress", fields["p-GWAddress"]),
        "serving_node_address": _address(
            decoding, "servingNodeAddress", fields["servingNodeAddress"]
        ),
        "charging_id": integer("chargingID", 8),
        "apn": _ascii(decoding, "accessPointNameNI", fields["accessPointNameNI"], 63),
        "opened_local": opened,
        "utc_offset": offset,
        "duration_s": integer("duration", 8),
        "cause_for_closing": integer("causeForRecClosing", 4),
        "record_sequence": integer("recordSequenceNumber", 4),
        "serving_plmn": _plmn(decoding, fields["servingNodePLMNIdentifier"]),
        "rat_type": integer("rATType", 4),
        **service.columns,
        "unknown_tag_count": pa.array(unknown + service.unknown),
    }
    return {
        name: columns[name].cast(ARROW_TYPES[sql_type])
        for name, sql_type in PacketFormat.columns.items()
    }


@dataclass(frozen=True)
class _TagTable:
    """Used fields by column number, and for every identifier its column (or KNOWN, UNKNOWN)."""

    names: tuple[str, ...]
    lookup: npt.NDArray[np.int16]

    KNOWN = -1
    UNKNOWN = -2

    @classmethod
    def of(
        cls, used: Mapping[str, int], constructed: frozenset[str], others: frozenset[int]
    ) -> _TagTable:
        lookup = np.full(2**16, cls.UNKNOWN, np.int16)
        for number in others:
            for is_constructed in (False, True):
                lookup[identifier(number, constructed=is_constructed)] = cls.KNOWN
        for column, (name, number) in enumerate(used.items()):
            lookup[identifier(number, constructed=name in constructed)] = column
        return cls(tuple(used), lookup)


_RECORD_TAGS = _TagTable.of(USED, CONSTRUCTED, OTHER_TAGS)
_SERVICE_TAGS = _TagTable.of(SERVICE_USED, frozenset(), SERVICE_OTHER_TAGS)


def _find_fields(
    decoding: _Decoding,
    starts: IntArray,
    ends: IntArray,
    tags: _TagTable,
    *,
    what: str,
    record: IntArray | None = None,
) -> tuple[dict[str, Field], IntArray]:
    """Where the used fields of each structure stand, and how many unknown tags it has.

    `record` says which record each structure belongs to (default: one each); the record is
    refused when its structure cannot be walked or has a used field twice.
    """
    count, width = len(starts), len(tags.names)
    walked = ber.walk(decoding.octets, starts, ends)
    elements = walked.elements
    narrow = np.where(elements.tag < 2**16, elements.tag, 0)
    column = tags.lookup[narrow]
    unknown = np.bincount(elements.owner[column == tags.UNKNOWN], minlength=count)
    used = column >= 0
    cell = elements.owner[used] * width + column[used]
    places = np.zeros((2, count * width), np.int64)
    places[:, cell] = elements.start[used], elements.length[used]
    field_start, field_length = places.reshape(2, count, width)
    times = np.bincount(cell, minlength=count * width).reshape(count, width)
    _refuse(
        decoding, walked.fault != 0, record,
        lambda at: f"{ber.FAULTS[int(walked.fault[at])]} at byte {walked.fault_at[at]} of {what}",
    )  # fmt: skip
    _refuse(
        decoding, np.any(times > 1, axis=1), record,
        lambda at: f"{tags.names[int(times[at].argmax())]} stands twice in {what}",
    )  # fmt: skip
    field_start, field_length = (
        field_start.reshape(count, width),
        field_length.reshape(count, width),
    )
    fields = {
        name: Field(field_start[:, number], field_length[:, number], times[:, number] > 0)
        for number, name in enumerate(tags.names)
    }
    return fields, unknown


def _refuse(
    decoding: _Decoding, wrong: BoolArray, record: IntArray | None, why: Callable[[int], str]
) -> None:
    """`decoding.refuse` for structures that belong to records."""
    if record is None:
        decoding.refuse(wrong, why)
        return
    for at in np.flatnonzero(wrong).tolist():
        index = int(record[at])
        if decoding.is_sound[index]:
            decoding.reasons[index] = why(at)
            decoding.is_sound[index] = False


@dataclass(frozen=True)
class _Services:
    columns: dict[str, pa.Array]
    unknown: IntArray


def _decode_services(decoding: _Decoding, services: Field) -> _Services:
    """Rating group and volumes of listOfServiceData.

    Several containers of one rating group are added up. A record with several rating groups is
    refused: it would need a row for each.
    """
    octets, count = decoding.octets, len(services.start)
    outer = ber.walk(octets, services.start, services.start + services.length)
    decoding.refuse(
        outer.fault != 0,
        lambda at: (
            f"{ber.FAULTS[int(outer.fault[at])]} at byte {outer.fault_at[at]} of listOfServiceData"
        ),
    )
    record, start = outer.elements.owner, outer.elements.start
    _refuse(
        decoding, outer.elements.tag != SEQUENCE_IDENTIFIER, record,
        lambda at: f"tag 0x{int(outer.elements.tag[at]):X} at byte {start[at]}"
        " of listOfServiceData is no sequence",
    )  # fmt: skip
    fields, unknown = _find_fields(
        decoding,
        start,
        start + outer.elements.length,
        _SERVICE_TAGS,
        what="a service",
        record=record,
    )
    group = fields["ratingGroup"]
    values = {name: ber.integers(octets, field) for name, field in fields.items()}
    for name, field in fields.items():
        _refuse(decoding, _is_no_quantity(field, values[name]), record, _Why(name, field))

    def total(quantity: IntArray) -> IntArray:
        value = np.zeros(count, np.int64)
        np.add.at(value, record, quantity)
        return value

    groups = values["ratingGroup"]
    first_group = np.zeros(count, np.int64)
    has_group = np.zeros(count, bool)
    with_group = np.flatnonzero(group.is_present)[::-1]  # the first of a record is written last
    first_group[record[with_group]] = groups[with_group]
    has_group[record[with_group]] = True
    _refuse(
        decoding, group.is_present & (groups != first_group[record]), record,
        lambda at: f"services of the rating groups {first_group[record[at]]} and {groups[at]}"
        " in one record are not supported",
    )  # fmt: skip
    has_service = services.is_present
    columns = {
        "rating_group": pa.array(first_group, mask=~has_group),
        "uplink_octets": pa.array(total(values["datavolumeFBCUplink"]), mask=~has_service),
        "downlink_octets": pa.array(total(values["datavolumeFBCDownlink"]), mask=~has_service),
    }
    per_record = np.zeros(count, np.int64)
    np.add.at(per_record, record, unknown)
    return _Services(columns, per_record)


def _is_no_quantity(field: Field, value: IntArray) -> BoolArray:
    """Whether an integer is empty, or longer or larger than any charging record has cause for."""
    wrong: BoolArray = field.is_present & (
        (field.length < 1) | (field.length > 8) | (np.abs(value) >= MAX_QUANTITY)
    )
    return wrong


@dataclass(frozen=True)
class _Why:
    """Says that a field of some structure is no quantity."""

    name: str
    field: Field

    def __call__(self, at: int) -> str:
        return (
            f"{self.name} at byte {self.field.start[at]} of {self.field.length[at]} octets"
            " is no quantity a record can have"
        )


def _check_integer(decoding: _Decoding, name: str, field: Field, limit: int) -> None:
    wrong = field.is_present & ((field.length < 1) | (field.length > limit))
    decoding.refuse(
        wrong,
        lambda at: (
            f"{name} at byte {field.start[at]} has {field.length[at]} octets, not 1 to {limit}"
        ),
    )


def _check_length(
    decoding: _Decoding, name: str, field: Field, shortest: int, longest: int
) -> None:
    wrong = field.is_present & ((field.length < shortest) | (field.length > longest))
    decoding.refuse(
        wrong,
        lambda at: (
            f"{name} at byte {field.start[at]} has {field.length[at]} octets,"
            f" not {shortest} to {longest}"
        ),
    )


def _opening_time(decoding: _Decoding, field: Field) -> tuple[pa.Array, pa.Array]:
    """Local time yyyymmddhhmmss and offset +hhmm of a TimeStamp (TS 32.298 clause 5.1.1)."""
    _check_length(decoding, "recordOpeningTime", field, 9, 9)
    packed = field.matrix(decoding.octets, 9)
    century = np.broadcast_to(np.frombuffer(b"20", np.uint8), (len(packed), 2))
    local = np.concatenate((century, ber.bcd_digits(packed[:, :6])), axis=1)
    sign = packed[:, 6:7]
    decoding.refuse(
        field.is_present & ~np.isin(sign[:, 0], (ord("+"), ord("-"))),
        lambda at: f"recordOpeningTime at byte {field.start[at]} has no sign of the offset",
    )
    sign = np.where(sign == ord("-"), ord("-"), ord("+")).astype(np.uint8)
    offset = np.concatenate((sign, ber.bcd_digits(packed[:, 7:9])), axis=1)
    return (
        ber.texts(local, np.ones(local.shape, bool), field.is_present),
        ber.texts(offset, np.ones(offset.shape, bool), field.is_present),
    )


def _plmn(decoding: _Decoding, field: Field) -> pa.Array:
    """MCC and MNC as text (TS 29.060 order of digits: two-digit MNCs carry a filler)."""
    _check_length(decoding, "servingNodePLMNIdentifier", field, 3, 3)
    packed = field.matrix(decoding.octets, 3)
    halves = np.stack(
        (
            packed[:, 0] & 15, packed[:, 0] >> 4, packed[:, 1] & 15,
            packed[:, 2] & 15, packed[:, 2] >> 4, packed[:, 1] >> 4,
        ),
        axis=1,
    )  # fmt: skip
    keep = np.ones(halves.shape, bool)
    keep[:, 5] = halves[:, 5] != 0xF
    return ber.texts(ber.HEX_CHARACTERS[halves], keep, field.is_present)


def _ascii(decoding: _Decoding, name: str, field: Field, longest: int) -> pa.Array:
    """Printable ASCII text."""
    _check_length(decoding, name, field, 1, longest)
    length = np.where(field.is_present, np.minimum(field.length, longest), 0)
    width = max(int(length.max(initial=0)), 1)
    at = field.start[:, None] + np.arange(width)
    characters = decoding.octets[np.minimum(at, len(decoding.octets) - 1)]
    keep = np.arange(width) < length[:, None]
    decoding.refuse(
        (keep & ((characters < 0x20) | (characters > 0x7E))).any(axis=1),
        lambda at: f"{name} at byte {field.start[at]} is not printable text",
    )
    keep &= (characters >= 0x20) & (characters <= 0x7E)
    return ber.texts(characters, keep, field.is_present)


def _address(decoding: _Decoding, name: str, field: Field) -> pa.Array:
    """The first IP address in a constructed field, as text."""
    octets = decoding.octets
    is_ipv4 = (
        field.is_present
        & (field.length >= 6)
        & (octets[field.start] == IPV4_BINARY)
        & (octets[field.start + 1] == 4)
    )
    rest = np.flatnonzero(field.is_present & ~is_ipv4 & decoding.is_sound).tolist()
    quads = field.matrix(octets, 4, skip=2)
    characters = _OCTET_CHARACTERS[quads].reshape(len(quads), 16)
    keep = _OCTET_KEEP[quads].reshape(len(quads), 16)
    keep[:, 12:] = _LAST_OCTET_KEEP[quads[:, 3]]
    addresses = ber.texts(characters, keep, is_ipv4)
    if not rest:
        return addresses
    found = addresses.to_pylist()
    for index in rest:
        start, length = int(field.start[index]), int(field.length[index])
        found[index] = _rare_address(octets[start : start + length].tobytes())
    unread = np.zeros(len(found), bool)
    unread[[index for index in rest if found[index] is None]] = True
    decoding.refuse(unread, lambda at: f"{name} at byte {field.start[at]} is no IP address")
    return pa.array(found, pa.string())


def _rare_address(value: bytes) -> str | None:
    """An IPv6 address or an address in text form; None if it is neither."""
    if len(value) < 2 or len(value) < 2 + value[1]:
        return None
    kind, inner = value[0], value[2 : 2 + value[1]]
    try:
        if kind == IPV6_BINARY and len(inner) == 16:
            return str(ipaddress.IPv6Address(inner))
        if kind in (IPV4_TEXT, IPV6_TEXT):
            return str(ipaddress.ip_address(inner.decode("ascii")))
    except ValueError:
        return None
    return None


_OCTET_TEXTS = [f"{number}." for number in range(256)]
_OCTET_CHARACTERS = np.array([list(text.ljust(4).encode()) for text in _OCTET_TEXTS], np.uint8)
_OCTET_KEEP = np.array([[at < len(text) for at in range(4)] for text in _OCTET_TEXTS])
_LAST_OCTET_KEEP = np.roll(_OCTET_KEEP, -1, axis=1) & (np.arange(4) < 3)
