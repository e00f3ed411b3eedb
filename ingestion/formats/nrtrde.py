"""NRTRDE, the near real time files of roaming partners against fraud (GSMA TD.35, version 2.1).

A file is one element with a header and a list of call events: `moc`, `mtc` and `gprs`. They become
rows as those of TAP3 do: a teleservice code of 20 to 22 is an SMS, any other basic service voice; a
third party number means that the served subscriber forwarded the call; a call event with a
supplementary service code alone is `vas`. Incoming volume is downlink. Numbers are international
(`+`) but for dialled digits. `serving_plmn` is a TADIG code, the call event's own or the sender's.
`call_reference` is the network element (of packet data, the gateway) and call reference or charging
id; without one, network element, start and duration.

The same events come again, rated, in TAP3: by rule `rated_elsewhere` these are watched, not rated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.formats.ber import IntArray
from ingestion.formats.ber_stream import (
    BLOCK_OCTETS,
    BLOCK_RECORDS,
    Block,
    Columns,
    Damaged,
    Layout,
    NestedReader,
    Part,
    application,
    cells,
    children,
    column,
    damaged_table,
    gathered,
    head_parts,
    moment,
    named,
    printable,
    sequence_number,
    tail_part,
    whole_number,
)
from ingestion.formats.interface import FileFacts, RawFile, UnreadableFileError, batch_table
from ingestion.formats.roaming_services import (
    DATA,
    DIRECTIONS,
    SERVICES,
    SMS,
    VAS,
    VOICE,
    directions_of_calls,
    teleservices,
)
from tollhouse.file_reasons import FileReason

# APPLICATION tag numbers of TD.35 chapter 4.
_ROOT, _CALL_EVENTS = 1, 2
_KINDS = {3: "moc", 4: "mtc", 5: "gprs"}
_RECORD_TYPES = ["nrtrdeMoc", "nrtrdeMtc", "nrtrdeGprs"]  # unlike those of any other format
_MOC, _MTC, _GPRS = range(3)
_COUNT, _AVAILABLE, _RECIPIENT, _RELEASE, _SENDER, _SEQUENCE, _VERSION, _OFFSET = (
    20, 31, 36, 37, 38, 39, 41, 45,
)  # fmt: skip
_SERVICE_CODE = 46
_OF_A_CALL_EVENT = {
    "network": 15, "apn": 16, "duration": 19, "started": 21, "calling_number": 22,
    "reference": 23, "cause": 24, "charging_id": 26, "connected_number": 27, "incoming": 28,
    "outgoing": 29, "dialled_digits": 30, "ggsn": 32, "imei": 33, "imsi": 34, "entity": 35,
    "sgsn": 40, "suppl_service": 42, "third_party": 44, "offset": _OFFSET, "cell": 47, "area": 48,
    "msisdn": 49,
}  # fmt: skip
_NOT_NEEDED = (17, 25)  # operator part of the access point name, amount charged
_BEARER_CODE, _TELESERVICE_CODE = 18, 43


def _tag(number: int, *, is_constructed: bool = False) -> int:
    return application(number, is_constructed=is_constructed)


def _fields() -> dict[str, tuple[int, int]]:
    """Names of a field in each kind of call event, as `moc_imsi`."""
    fields = {
        f"{kind}_{name}": (_tag(holder, is_constructed=True), _tag(number))
        for holder, kind in _KINDS.items()
        for name, number in _OF_A_CALL_EVENT.items()
    }
    service = _tag(_SERVICE_CODE, is_constructed=True)
    fields["teleservice"] = (service, _tag(_TELESERVICE_CODE))
    fields["bearer_service"] = (service, _tag(_BEARER_CODE))
    return fields


_HEADER = frozenset(
    map(_tag, (_COUNT, _AVAILABLE, _RECIPIENT, _RELEASE, _SENDER, _SEQUENCE, _VERSION, _OFFSET))
)
LAYOUT = Layout(
    what="NRTRDE",
    roots=frozenset({_tag(_ROOT, is_constructed=True)}),
    lists=frozenset({_tag(_CALL_EVENTS, is_constructed=True)}),
    parts=_HEADER,
    records=frozenset(_tag(number, is_constructed=True) for number in _KINDS),
    fields=_fields(),
    descend=frozenset({_tag(_SERVICE_CODE, is_constructed=True)}),
    known=frozenset(map(_tag, _NOT_NEEDED)) | {_tag(_SERVICE_CODE, is_constructed=True)},
)
_TAGS = np.array(sorted(LAYOUT.records), np.int64)


@dataclass(frozen=True)
class NrtrdeFormat:
    """Format `nrtrde`; the block sizes are for tests."""

    name: str = "nrtrde"
    numbers_files = True
    block_octets: int = BLOCK_OCTETS
    block_records: int = BLOCK_RECORDS

    def recognises(self, head: bytes) -> bool:
        """Whether the file begins with a header of NRTRDE that names version and sender."""
        header = _header(head)
        return _VERSION in header and printable(header.get(_SENDER, b"")) is not None

    def read_facts(self, file: RawFile) -> FileFacts:
        """Sender, sequence number and time from the header, the count from behind the list.

        Raises:
            UnreadableFileError: the file begins with no header of NRTRDE.
        """
        if not self.recognises(file.head):
            raise UnreadableFileError("no_sender_header", name=file.name, what="NRTRDE")
        header = _header(file.head)
        count = whole_number(header.get(_COUNT))
        last = tail_part(file.tail, _tag(_COUNT))
        if last is not None:
            count = whole_number(
                next(last[start:end] for _, start, end in children(last, 0, len(last)))
            )
        return FileFacts(
            source_id=printable(header[_SENDER]),
            sequence_number=sequence_number(header.get(_SEQUENCE)),
            created_at=moment(header.get(_AVAILABLE), header.get(_OFFSET)),
            declared_record_count=count,
            lacks=None if count is not None else FileReason("lacks_count"),
        )

    def decode(self, file: RawFile) -> Iterator[pa.Table]:
        """Every call event as a row.

        Raises:
            UnreadableFileError: the file does not begin with an element of NRTRDE.
        """
        return gathered(self._tables(file))

    def _tables(self, file: RawFile) -> Iterator[pa.Table]:
        sender: str | None = None
        with file.open_stream() as stream:
            reader = NestedReader(
                stream,
                LAYOUT,
                file.name,
                block_octets=self.block_octets,
                block_records=self.block_records,
            )
            for item in reader:
                if isinstance(item, Block):
                    yield _decode(item, sender)
                elif isinstance(item, Damaged):
                    yield damaged_table(item)
                elif item.tag == _tag(_SENDER) and sender is None:
                    sender = printable(_value(item))


def _header(head: bytes) -> dict[int, bytes]:
    """Values of the header's elements by tag number, as far as they stand before the list."""
    numbers = {_tag(number): number for number in (
        _COUNT, _AVAILABLE, _RECIPIENT, _RELEASE, _SENDER, _SEQUENCE, _VERSION, _OFFSET,
    )}  # fmt: skip
    parts = list(head_parts(head, LAYOUT))[1:]
    return {numbers[part.tag]: _value(part) for part in reversed(parts)}


def _value(part: Part) -> bytes:
    for _, start, end in children(part.content, 0, len(part.content)):
        return part.content[start:end]
    return b""


def _each(name: str) -> tuple[str, str, str]:
    return f"moc_{name}", f"mtc_{name}", f"gprs_{name}"


def _decode(block: Block, sender: str | None) -> pa.Table:
    columns = Columns(block)
    kind = np.searchsorted(_TAGS, block.tree.tags)
    started, has_start = columns.times(*_each("started"))
    minutes, has_minutes = columns.utc_offsets(*_each("offset"))
    duration, has_duration = columns.integers(*_each("duration"))
    service, direction = _service_and_direction(columns, block, kind)
    dialled = columns.texts(*_each("dialled_digits"))
    connected = columns.international_texts(*_each("connected_number"))
    calling = columns.international_texts(*_each("calling_number"))
    columns.international_texts(*_each("third_party"))  # not wanted, but told if unreadable
    cause, has_cause = columns.small_integers(*_each("cause"))
    reference, has_reference = columns.integers(*_each("reference"), *_each("charging_id"))
    entity = columns.texts(*_each("entity"), *_each("ggsn"), *_each("sgsn"))
    start_text = pc.strftime(column(started, has_start).cast(pa.timestamp("s")), "%Y%m%d%H%M%S")
    instead = pc.binary_join_element_wise(
        start_text,
        pc.fill_null(column(duration, has_duration).cast(pa.string()), ""),
        "|",
    )
    told = pc.coalesce(column(reference, has_reference).cast(pa.string()), instead)
    fields = {
        "record_type": named(kind, _RECORD_TYPES),
        "service": service,
        "direction": direction,
        "served_msisdn": columns.digits(*_each("msisdn"), is_international=True),
        "served_imsi": columns.digits(*_each("imsi")),
        "served_imei": columns.digits(*_each("imei")),
        "other_party": pc.if_else(pa.array(kind == _MTC), calling, pc.coalesce(connected, dialled)),
        "started_local": column(started, has_start),
        "utc_offset_minutes": column(minutes, has_minutes),
        "duration_seconds": column(duration, has_duration),
        "uplink_octets": column(*columns.integers(*_each("outgoing"))),
        "downlink_octets": column(*columns.integers(*_each("incoming"))),
        "serving_plmn": pc.coalesce(
            columns.texts(*_each("network")), pa.scalar(sender, pa.string())
        ),
        "cell_id": cells(columns.integers(*_each("area")), columns.integers(*_each("cell"))),
        "apn": columns.texts(*_each("apn")),
        "content_id": columns.texts(*_each("suppl_service")),
        "cause_for_closing": column(cause, has_cause),
        "call_reference": pc.binary_join_element_wise(pc.fill_null(entity, ""), told, "|"),
        "unknown_tag_count": pa.array(block.tree.unknown),
    }
    is_untold = np.asarray(pc.is_null(service)) | columns.is_unreadable
    return batch_table(
        offsets=pa.array(block.offsets),
        lengths=pa.array(block.lengths),
        raw_records=block.raw_text(is_untold),
        fields=fields,
    )


def _service_and_direction(
    columns: Columns, block: Block, kind: IntArray
) -> tuple[pa.Array, pa.Array]:
    has_teleservice, is_sms = teleservices(columns)
    bearer = block.tree.field("bearer_service").is_present
    supplementary = block.tree.field(*_each("suppl_service")).is_present
    service = np.full(len(kind), -1, np.int64)
    service[supplementary] = VAS
    service[has_teleservice | bearer] = VOICE
    service[is_sms] = SMS
    service[kind == _GPRS] = DATA
    direction = directions_of_calls(
        len(kind), kind == _MTC, (kind == _MOC) & (service == VOICE),
        block.tree.field(*_each("third_party")).is_present,
    )  # fmt: skip
    return named(service, SERVICES), named(direction, DIRECTIONS)
