"""TAP3, the files of roaming partners (GSMA TD.57, releases 3.10 to 3.12).

A file is a Transfer Batch with call events, or a Notification that there were none. The batch
control information gives sender, sequence number and time of creation, the audit control
information at the end the number of call events. Call events hold codes for UTC offsets and network
elements; the tables behind these stand in the network information before them.

How call events become rows (`record_type` is the name of the call event):

=====================  =======  ====================================================================
call event             service  remarks
=====================  =======  ====================================================================
mobileOriginatedCall   voice,   SMS if the teleservice code is 20 to 22; null without a basic
mobileTerminatedCall   sms      service. With a third party the call was forwarded.
supplServiceEvent      vas      `content_id` is the supplementary service code and the action
serviceCentreUsage     sms      direction from the charged party's status
gprsCall               data     incoming volume is downlink, outgoing volume uplink
contentTransaction     vas      volumes and duration of the transaction
locationService        vas      the tracking customer is served, the tracked one the other party
messagingEvent         sms      direction is the messaging event service code as received
mobileSession          voice    `mo` if a destination was requested, else `mt`
tapNotification        (none)   the one row of a Notification
=====================  =======  ====================================================================

Numbers are international (`+`) but for dialled digits. `serving_plmn` is the serving network's
TADIG code (a call event's own, else the file's sender), since the file has no MCC and MNC; SQL maps
it. `call_reference` is network element and call reference, charging id, event reference or
transaction id; where there is none, network element, start and duration, which tell apart all but
events of one second.

Partial packet data records carry a letter, not a number: F is part 1, and every other part gets the
seconds from the start of the context to its own start, plus 2 (without a start of the context: the
seconds since 2000). These rise from part to part but are not consecutive.

Files of a release that is not 3.10 to 3.12 are read as well; what they have beyond is unknown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.formats import ber, tap_tags
from ingestion.formats.ber import BoolArray, IntArray
from ingestion.formats.ber_stream import (
    BLOCK_OCTETS,
    BLOCK_RECORDS,
    Block,
    Columns,
    Damaged,
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
    offset_minutes,
    printable,
    sequence_number,
    tag_number,
    tail_part,
    whole_number,
)
from ingestion.formats.interface import FileFacts, RawFile, UnreadableFileError, batch_table
from ingestion.formats.roaming_services import (
    DATA,
    DIRECTIONS,
    MT,
    SERVICES,
    SMS,
    VAS,
    VOICE,
    directions_of_calls,
    teleservices,
)
from tollhouse.file_reasons import FileReason

NOTIFICATION_TYPE = "tapNotification"

_BATCH_ROOT = application(tap_tags.TRANSFER_BATCH, is_constructed=True)
_CONTROL = application(tap_tags.BATCH_CONTROL, is_constructed=True)
_NETWORK = application(tap_tags.NETWORK_INFO, is_constructed=True)
_AUDIT = application(tap_tags.AUDIT_CONTROL, is_constructed=True)
_SENDER = application(tap_tags.SENDER, is_constructed=False)
_NUMBERS = np.array(sorted(tap_tags.CALL_EVENT_NAMES), np.int64)
_NAMES = [tap_tags.CALL_EVENT_NAMES[number] for number in _NUMBERS.tolist()]
_TAGS = np.array([application(n, is_constructed=True) for n in _NUMBERS.tolist()], np.int64)
_MOC, _MTC, _SUPPLEMENTARY, _CENTRE, _GPRS, _CONTENT, _LOCATION, _MESSAGING, _SESSION = range(9)

_SERVICE_OF = np.array(
    [-1, -1, VAS, SMS, DATA, VAS, VAS, SMS, VOICE], np.int64
)  # calls by their basic service
_RECIPIENT_CHARGED = 1  # status of the charged party of a service centre usage
_EPOCH_2000 = np.datetime64("2000-01-01", "us")
_LARGEST_CODE = 65_535


@dataclass
class _Context:
    """What the file says before its call events."""

    sender: str | None = None
    offsets: dict[int, int] = field(default_factory=dict)
    entities: dict[int, tuple[str, bool]] = field(default_factory=dict)  # id, is it a gateway


@dataclass(frozen=True)
class TapFormat:
    """Format `tap3`; the block sizes are for tests."""

    name: str = "tap3"
    numbers_files = True
    block_octets: int = BLOCK_OCTETS
    block_records: int = BLOCK_RECORDS

    def recognises(self, head: bytes) -> bool:
        """Whether the file is a Transfer Batch or a Notification with a sender in its header."""
        return self._header(head) is not None

    def read_facts(self, file: RawFile) -> FileFacts:
        """Sender, sequence number and creation from the header, the count from the audit control.

        Raises:
            UnreadableFileError: the file begins with no header of TAP3.
        """
        header = self._header(file.head)
        if header is None:
            raise UnreadableFileError("no_sender_header", name=file.name, what="TAP3")
        is_batch = file.head[0] == _BATCH_ROOT
        audit = tail_part(file.tail, _AUDIT) if is_batch else None
        count = None if is_batch else 1
        if audit is not None:
            count = _number_in(audit, tap_tags.CALL_EVENT_COUNT)
        missing = _missing_octets(file)
        lacks = None
        if missing:
            lacks = FileReason("lacks_declared", {"octets": str(missing)})
        elif is_batch and audit is None:
            lacks = FileReason("lacks_audit")
        return FileFacts(
            source_id=printable(header[tap_tags.SENDER]),
            sequence_number=sequence_number(header.get(tap_tags.FILE_SEQUENCE)),
            created_at=_created(header.get(tap_tags.FILE_CREATED)),
            declared_record_count=count,
            lacks=lacks,
        )

    def decode(self, file: RawFile) -> Iterator[pa.Table]:
        """Every call event, or the notification, as a row.

        Raises:
            UnreadableFileError: the file does not begin with an element of TAP3.
        """
        return gathered(self._tables(file))

    def _tables(self, file: RawFile) -> Iterator[pa.Table]:
        is_notice = file.head[:1] == bytes([application(2, is_constructed=True)])
        if is_notice:
            yield from self._notice(file)
            return
        context = _Context()
        with file.open_stream() as stream:
            reader = NestedReader(
                stream,
                tap_tags.BATCH,
                file.name,
                block_octets=self.block_octets,
                block_records=self.block_records,
            )
            for item in reader:
                if isinstance(item, Block):
                    yield _decode(item, context)
                elif isinstance(item, Damaged):
                    yield damaged_table(item)
                else:
                    _learn(context, item)

    def _notice(self, file: RawFile) -> Iterator[pa.Table]:
        parts: dict[int, bytes] = {}
        size = 0
        damaged: list[Damaged] = []
        with file.open_stream() as stream:
            for item in NestedReader(
                stream, tap_tags.NOTICE, file.name, block_octets=self.block_octets
            ):
                if isinstance(item, Damaged):
                    damaged.append(item)
                elif isinstance(item, Part) and not damaged:
                    size += item.length
                    parts.setdefault(item.tag, item.content)
        created = parts.get(application(tap_tags.FILE_CREATED, is_constructed=True))
        local, minutes = _local_time(created)
        yield batch_table(
            offsets=pa.array([0]),
            lengths=pa.array([size]),
            raw_records=pa.array([None], pa.string()),
            fields={
                "record_type": pa.array([NOTIFICATION_TYPE]),
                "started_local": pa.array([local], pa.timestamp("us")),
                "utc_offset_minutes": pa.array([minutes], pa.int32()),
            },
        )
        for item in damaged:
            yield damaged_table(item)

    @staticmethod
    def _header(head: bytes) -> dict[int, bytes] | None:
        """Values of the header's elements by number; None if this is no TAP3 file."""
        notice = _values(head_parts(head, tap_tags.NOTICE))
        if notice is None:
            for part in head_parts(head, tap_tags.BATCH):
                if part.tag == _CONTROL:
                    notice = dict(_inner(part.content))
        if notice is None or printable(notice.get(tap_tags.SENDER, b"")) is None:
            return None
        return notice


def _values(parts: Iterator[Part]) -> dict[int, bytes] | None:
    """Whole contents of a notification's header elements by number."""
    found: dict[int, bytes] = {}
    for index, part in enumerate(parts):
        if index:
            for number, value in _numbered(part.content):
                found.setdefault(number, value)
    return found or None


def _numbered(content: bytes) -> Iterator[tuple[int, bytes]]:
    for tag, start, end in children(content, 0, len(content)):
        yield tag_number(tag), content[start:end]


def _inner(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Numbers and values of the elements in an element."""
    for _, start, end in children(content, 0, len(content)):
        yield from _numbered(content[start:end])


def _number_in(content: bytes, number: int) -> int | None:
    for inner, value in _inner(content):
        if inner == number and 0 < len(value) <= 4:
            return whole_number(value)
    return None


def _created(value: bytes | None) -> datetime | None:
    if value is None:
        return None
    parts = dict(_numbered(value))
    return moment(parts.get(tap_tags.LOCAL_TIME), parts.get(tap_tags.UTC_OFFSET))


def _local_time(content: bytes | None) -> tuple[datetime | None, int | None]:
    """Civil time and offset of a header's time."""
    if content is None:
        return None, None
    parts = dict(_inner(content))
    local = moment(parts.get(tap_tags.LOCAL_TIME), None)
    minutes = offset_minutes(parts.get(tap_tags.UTC_OFFSET, b""))
    return (local.replace(tzinfo=None) if local else None), minutes


def _missing_octets(file: RawFile) -> int:
    """Octets by which the first element is longer than the file."""
    octets = ber.padded(file.head[:16])
    _, start, length, wrong = ber.read_heads(octets, np.zeros(1, np.int64))
    if wrong[0]:  # the length is indefinite
        return 0
    return max(0, int(start[0] + length[0]) - file.size)


def _learn(context: _Context, part: Part) -> None:
    """Take from a header part what call events refer to; the first of two entries counts."""
    if part.tag == _CONTROL:
        sender = dict(_inner(part.content)).get(tap_tags.SENDER)
        context.sender = printable(sender) if sender else None
    elif part.tag == _NETWORK:
        for number, table in _inner(part.content):
            for entry_number, entry in _numbered(table):
                values = dict(_numbered(entry))
                if number == tap_tags.OFFSET_TABLE and entry_number == tap_tags.OFFSET_ENTRY:
                    code = _code(values.get(tap_tags.UTC_OFFSET_CODE))
                    minutes = offset_minutes(values.get(tap_tags.UTC_OFFSET, b""))
                    if code is not None and minutes is not None:
                        context.offsets.setdefault(code, minutes)
                elif number == tap_tags.ENTITY_TABLE and entry_number == tap_tags.ENTITY_ENTRY:
                    code = _code(values.get(tap_tags.ENTITY_CODE))
                    name = printable(values.get(tap_tags.ENTITY_ID, b""))
                    is_gateway = _code(values.get(tap_tags.ENTITY_TYPE)) in tap_tags.GATEWAY_TYPES
                    if code is not None and name is not None:
                        context.entities.setdefault(code, (name, is_gateway))


def _code(value: bytes | None) -> int | None:
    code = whole_number(value)
    return code if code is not None and code <= _LARGEST_CODE else None


def _decode(block: Block, context: _Context) -> pa.Table:
    columns = Columns(block)
    order = np.argsort(_TAGS)
    kind = order[np.searchsorted(_TAGS[order], block.tree.tags)]
    started, has_start = columns.times(
        "started_call", "started_charging", "started_deposit", "started_order", "started_service",
        "started_lcs",
    )  # fmt: skip
    offsets = _offsets(
        columns,
        context.offsets,
        "offset_call", "offset_charging", "offset_deposit", "offset_order", "offset_service",
        "offset_lcs",
    )  # fmt: skip
    duration, has_duration = columns.integers(
        "duration_mo", "duration_mt", "duration_gprs", "duration_content", "duration_session"
    )
    cause, has_cause = columns.small_integers("cause_mo", "cause_mt", "cause_gprs", "cause_session")
    service, direction = _service_and_direction(columns, block, kind)
    entity = _entity(columns, block, context.entities)
    party_msisdn, party_imsi = _parties(columns.texts("party_id", "tracking_id"))
    networks = columns.texts("network", "network_scu")
    sequence, is_last = _partial(columns, started, has_start)
    uplink, downlink = (
        columns.integers(f"{name}_gprs", f"{name}_content") for name in ("outgoing", "incoming")
    )
    fields = {
        "record_type": named(kind, _NAMES),
        "service": service,
        "direction": direction,
        "served_msisdn": pc.coalesce(
            columns.digits("msisdn_sim", "msisdn_gsm", "msisdn_party", is_international=True),
            columns.international_texts("mdn"),
            party_msisdn,
            columns.texts("public_user_party"),
        ),
        "served_imsi": pc.coalesce(
            columns.digits("imsi_sim", "imsi_gsm", "imsi_party"),
            columns.texts("min"),
            party_imsi,
        ),
        "served_imei": pc.coalesce(
            columns.digits("imei", "imei_party"), columns.texts("equipment")
        ),
        "other_party": _other_party(columns, kind, service),
        "started_local": column(started, has_start),
        "utc_offset_minutes": offsets,
        "duration_seconds": column(duration, has_duration),
        "uplink_octets": column(*uplink),
        "downlink_octets": column(*downlink),
        "serving_plmn": pc.coalesce(networks, pa.scalar(context.sender, pa.string())),
        "cell_id": cells(
            columns.integers("area_call", "area_gprs", "area_messaging", "area_session"),
            columns.integers("cell_call", "cell_gprs", "cell_messaging", "cell_session"),
        ),
        "apn": columns.texts("apn"),
        "sp_id": columns.texts("provider_id", "lcs_provider_id", "provider_name"),
        "content_id": _content_id(columns),
        "cause_for_closing": column(cause, has_cause),
        "call_reference": _reference(
            columns, entity, column(started, has_start), column(duration, has_duration)
        ),
        "partial_sequence": sequence,
        "is_last_partial": is_last,
        "unknown_tag_count": pa.array(block.tree.unknown),
    }
    # A call without a basic service cannot be told: its octets are kept for whoever looks at it.
    is_untold = np.asarray(pc.is_null(service)) | columns.is_unreadable
    return batch_table(
        offsets=pa.array(block.offsets),
        lengths=pa.array(block.lengths),
        raw_records=block.raw_text(is_untold),
        fields=fields,
    )


def _offsets(columns: Columns, table: Mapping[int, int], *names: str) -> pa.Array:
    """Minutes behind the codes; a code that is not in the file's table is unreadable."""
    code, has_code = columns.integers(*names)
    known = np.array(sorted(table), np.int64)
    if not len(known):
        columns.is_unreadable |= has_code
        return pa.nulls(len(code), pa.int32())
    place = np.minimum(np.searchsorted(known, code), len(known) - 1)
    is_known = has_code & (known[place] == code)
    columns.is_unreadable |= has_code & ~is_known
    minutes = np.array([table[key] for key in known.tolist()], np.int32)
    return column(minutes[place], is_known)


def _service_and_direction(
    columns: Columns, block: Block, kind: IntArray
) -> tuple[pa.Array, pa.Array]:
    service = _SERVICE_OF[kind]
    is_call = kind <= _MTC
    has_teleservice, is_sms = teleservices(columns)
    bearer = block.tree.field("bearer_service").is_present
    service[is_call & (has_teleservice | bearer)] = VOICE
    service[is_call & is_sms] = SMS
    direction = directions_of_calls(
        len(kind), kind == _MTC, (kind == _MOC) & (service == VOICE),
        block.tree.field("third_party").is_present,
    )  # fmt: skip
    status, has_status = columns.integers("party_status")
    direction[(kind == _CENTRE) & has_status & (status == _RECIPIENT_CHARGED)] = MT
    is_asked = block.tree.field("requested_number", "requested_user").is_present
    direction[(kind == _SESSION) & ~is_asked] = MT
    direction[kind == _MESSAGING] = -1
    code, has_code = columns.integers("messaging_service")
    directions = named(direction, DIRECTIONS)
    if (kind == _MESSAGING).any():
        directions = pc.coalesce(directions, column(code, has_code).cast(pa.string()))
    return named(service, SERVICES), directions


def _entity(columns: Columns, block: Block, entities: Mapping[int, tuple[str, bool]]) -> pa.Array:
    """The network element's identity: of packet data the gateway's, which all parts share."""
    code, has_code = columns.integers(
        "entity_call", "entities_gprs", "entity_scu", "entity_location"
    )
    gateways = [code for code, (_, is_gateway) in entities.items() if is_gateway]
    found = block.tree.occurrences.get("entities_gprs")
    if found is not None and gateways:
        record, start, length = found
        every = np.ones(len(record), np.bool_)
        codes = ber.integers(block.octets, ber.Field(start, length, every))
        is_gateway = np.isin(codes, gateways)
        code[record[is_gateway][::-1]] = codes[is_gateway][::-1]
    different, place = np.unique(code, return_inverse=True)
    names = [entities[key][0] if key in entities else str(key) for key in different.tolist()]
    return pa.array(names, pa.string()).take(pa.array(place.reshape(-1), mask=~has_code))


def _parties(identities: pa.Array) -> tuple[pa.Array, pa.Array]:
    """MSISDN and IMSI of a party known by a text: 15 digits are taken for an IMSI."""
    is_imsi = pc.match_substring_regex(identities, r"^\d{15}$")
    is_number = pc.match_substring_regex(identities, r"^\d{7,14}$")
    nothing = pa.scalar(None, pa.string())
    numbers = pc.if_else(is_number, pc.binary_join_element_wise("+", identities, ""), identities)
    return pc.if_else(is_imsi, nothing, numbers), pc.if_else(is_imsi, identities, nothing)


def _other_party(columns: Columns, kind: IntArray, service: pa.Array) -> pa.Array:
    called = columns.digits("called_number", is_international=True)
    dialled = columns.texts("dialled_digits")
    calling = columns.digits("calling_number", is_international=True)
    # Of a message, the called number is the message centre's; the receiver's stands beside it.
    destination = columns.international_texts("sms_destination")
    originator = columns.international_texts("sms_originator")
    tracked, _ = _parties(columns.texts("tracked_id"))
    rest = pc.coalesce(
        columns.international_texts("non_charged_number"),
        columns.digits("requested_number", is_international=True),
        columns.texts("requested_user"),
        columns.digits("non_charged_party", is_international=True),
        columns.texts("non_charged_user"),
        tracked,
    )
    is_sms = pc.equal(service, "sms")
    outgoing = pc.if_else(
        pc.fill_null(is_sms, False), pc.coalesce(destination, called, dialled),
        pc.coalesce(called, dialled),
    )  # fmt: skip
    incoming = pc.if_else(pc.fill_null(is_sms, False), pc.coalesce(originator, calling), calling)
    columns.hexadecimal("third_party")  # not wanted, but told if it cannot be read
    return pc.if_else(
        pa.array(kind == _MOC), outgoing, pc.if_else(pa.array(kind == _MTC), incoming, rest)
    )


def _content_id(columns: Columns) -> pa.Array:
    code, has_code = columns.integers("content_code")
    action, has_action = columns.integers("suppl_action")
    supplementary = columns.texts("suppl_service")
    both = pc.binary_join_element_wise(
        supplementary, column(action, has_action).cast(pa.string()), "-"
    )
    supplementary = pc.coalesce(both, supplementary)
    return pc.coalesce(column(code, has_code).cast(pa.string()), supplementary)


def _reference(
    columns: Columns, entity: pa.Array, started: pa.Array, duration: pa.Array
) -> pa.Array:
    charging, has_charging = columns.integers("charging_id")
    reference = pc.coalesce(
        columns.hexadecimal("reference_call", "reference_location"),
        column(charging, has_charging).cast(pa.string()),
        columns.texts("event_messaging", "event_session", "transaction_id"),
    )
    is_without = pc.is_null(reference)
    told = reference
    if pc.any(is_without).as_py():
        start = pc.strftime(pc.filter(started, is_without).cast(pa.timestamp("s")), "%Y%m%d%H%M%S")
        lasted = pc.fill_null(pc.filter(duration, is_without).cast(pa.string()), "")
        instead = pc.binary_join_element_wise(start, lasted, "|")
        told = pc.replace_with_mask(reference, is_without, instead)
    joined = pc.binary_join_element_wise(
        entity, told, "|", null_handling="replace", null_replacement=""
    )
    return pc.if_else(pc.is_valid(told), joined, pa.scalar(None, pa.string()))


def _partial(
    columns: Columns, started: np.ndarray, has_start: BoolArray
) -> tuple[pa.Array, pa.Array]:
    """Number of the part and whether it is the last."""
    letters = columns.texts("partial_type")
    context, has_context = columns.times("started_context")
    since = np.where(has_context, context, _EPOCH_2000)
    seconds = (started - since) // np.timedelta64(1, "s")
    is_first = np.asarray(pc.fill_null(pc.equal(letters, "F"), False))
    is_later = np.asarray(pc.fill_null(pc.is_in(letters, value_set=pa.array(["I", "L"])), False))
    columns.is_unreadable |= np.asarray(pc.is_valid(letters)) & ~is_first & ~is_later
    sequence = np.where(is_first, 1, np.clip(seconds, 0, 2**31 - 3) + 2)
    is_numbered = is_first | is_later & has_start
    is_last = pc.equal(letters, "L")
    return column(sequence, is_numbered), is_last
