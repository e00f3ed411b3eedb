"""IP multimedia subsystem: records of S-CSCF, SIP and MMTel application servers.

TS 32.298 clauses 5.2.3.1 and 5.2.4.4 (records), 5.1.3 (fields). One session is reported by several
nodes, under one charging identifier (ICID); each node's record becomes a row, told apart by
`record_type` and by what begins the call reference.

- INVITE (or no method) is service `voice`, MESSAGE is `sms`; other methods (REGISTER, SUBSCRIBE …)
  are no usage and named `imsEvent`.
- The role of the node gives the direction: originating `mo`, terminating `mt`. A record with the
  diversion service among the supplementary services is `forwarded`; it is the diverting party's.
- A session lasts from its delivery's start to its end; a partial record from its opening to its
  closure, as far as the session was delivered then. Without a delivery the duration is 0. The
  fractions of seconds are not used.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.formats.ber import BoolArray
from ingestion.formats.charging_fields import (
    SET,
    Found,
    Layout,
    Moments,
    international,
    party_number,
)
from ingestion.formats.charging_kinds import (
    Columns,
    Kind,
    constant,
    first_of,
    integer,
    reference,
)
from ingestion.formats.charging_tags.packet import located_cell
from tollhouse.file_reasons import FileReason

# What the records have in common: clause 5.1.3.
COMMON_SIMPLE = {
    "recordType": 0,
    "sIP-Method": 2,
    "role-of-Node": 3,
    "session-Id": 5,
    "serviceRequestTimeStamp": 9,
    "serviceDeliveryStartTimeStamp": 10,
    "serviceDeliveryEndTimeStamp": 11,
    "recordOpeningTime": 12,
    "recordClosureTime": 13,
    "recordSequenceNumber": 16,
    "causeForRecordClosing": 17,
    "iMS-Charging-Identifier": 19,
    "accessNetworkInformation": 29,
}
COMMON_NESTED = {
    "list-Of-Calling-Party-Address": 6,
    "called-Party-Address": 7,
    "list-of-subscription-ID": 31,
}
COMMON_OTHERS = {1, 4, 14, 15, 18, *range(21, 27), 28, 30, *range(32, 40), 43, 44}

SCSCF_RECORD = Layout.of(
    simple=COMMON_SIMPLE | {"userLocationInformation": 47},
    nested=COMMON_NESTED | {"requested-Party-Address": 41},
    others=COMMON_OTHERS | {8, 27, 40, 42, 46, 48, *range(51, 61), 62, 63, 64, 65},
)
AS_RECORD = Layout.of(
    simple=COMMON_SIMPLE | {"userLocationInformation": 47},
    nested=COMMON_NESTED | {"requested-Party-Address": 101},
    others=COMMON_OTHERS
    | {8, 41, 46, 48, 51, *range(53, 59), 62, 63, 64, 100, *range(102, 107), *range(109, 114)},
)
MMTEL_RECORD = Layout.of(
    simple=COMMON_SIMPLE,
    nested=COMMON_NESTED | {"requested-Party-Address": 101, "mMTelInformation": 110},
    others=COMMON_OTHERS | {*range(53, 59), 64, 102, 104, 112, 113},
)

# InvolvedParty: clause 5.1.1.
PARTY = Layout.of(simple={"sIP-URI": 0, "tEL-URI": 1, "uRN": 2, "iSDN-E164": 3, "externalId": 4})
# SubscriptionID: clause 5.1.1; types 0 (E.164) and 1 (IMSI).
SUBSCRIPTION = Layout.of(simple={"subscriptionIDType": 0, "subscriptionIDData": 1})
TYPE_E164, TYPE_IMSI = 0, 1
# MMTelInformation, SupplService: clause 5.1.8.
MMTEL_INFORMATION = Layout.of(nested={"listOfSupplServices": 0})
SUPPLEMENTARY_SERVICE = Layout.of(
    simple={"serviceType": 0}, nested={"associated-Party-Address": 3}, others={1, 2, *range(4, 10)}
)
DIVERSION = 6

ORIGINATING, TERMINATING = 0, 1
# CauseForRecordClosing: the session goes on after a time limit, a change of service and an
# intervention of the operator.
CONTINUING = (3, 4, 5)

EVENT = "imsEvent"


def session(found: Found, *, node: str) -> Columns:
    """The columns of a record of one kind of node of a session or a message."""
    count = found.count
    calling = party(found.inside("list-Of-Calling-Party-Address", PARTY, may_repeat=True))
    called = party(found.inside("called-Party-Address", PARTY))
    requested = party(found.inside("requested-Party-Address", PARTY))
    subscribed_msisdn, subscribed_imsi = _subscriptions(found)
    role, has_role = found.number("role-of-Node", 4)
    is_mo, is_mt = has_role & (role == ORIGINATING), has_role & (role == TERMINATING)
    is_diverted, diverting = _diversion(found)
    dialled = first_of(requested, called)
    served_by_uri = _choose([(is_diverted, diverting), (is_mo, calling), (is_mt, called)], count)
    service, is_event = _service(found)
    columns = {
        "service": service,
        "direction": _choose(
            [
                (is_diverted, pa.scalar("forwarded")),
                (is_mo, pa.scalar("mo")),
                (is_mt, pa.scalar("mt")),
            ],
            count,
        ),
        "served_msisdn": first_of(
            pc.if_else(
                pa.array(is_diverted), party_number(diverting), pa.scalar(None, pa.string())
            ),
            subscribed_msisdn,
            party_number(served_by_uri),
        ),
        "served_imsi": subscribed_imsi,
        "other_party": _shown(
            _choose([(is_diverted, called), (is_mo, dialled), (is_mt, calling)], count)
        ),
        # Two nodes number their partial records each for itself: theirs are not the same call.
        "call_reference": reference(
            first_of(found.text_or_octets("iMS-Charging-Identifier"), found.text("session-Id")),
            constant(node, count),
        ),
        **_location(found),
        **_lasting(found),
    }
    if is_event.any():
        columns["record_type"] = pc.if_else(
            pa.array(is_event), pa.scalar(EVENT), pa.scalar(None, pa.string())
        )
    return columns


def party(parties: Found) -> pa.Array:
    """Of the forms one party is given in the one that says the number best."""
    return first_of(
        international(parties.text("iSDN-E164")),
        parties.text("tEL-URI"),
        parties.text("sIP-URI"),
        parties.text("externalId"),
    )


def _shown(uri: pa.Array) -> pa.Array:
    """The number of a party, or its URI where it has none."""
    return first_of(party_number(uri), uri)


def _choose(choices: list[tuple[BoolArray, pa.Array | pa.Scalar]], count: int) -> pa.Array:
    """Of the first choice that holds the value; null where none does."""
    chosen = pa.nulls(count, pa.string())
    for holds, value in reversed(choices):
        chosen = pc.if_else(pa.array(holds), value, chosen)
    return chosen


def _service(found: Found) -> tuple[pa.Array, BoolArray]:
    method = pc.utf8_upper(found.text("sIP-Method"))
    is_call = pc.fill_null(pc.equal(method, "INVITE"), True)
    is_message = pc.fill_null(pc.equal(method, "MESSAGE"), False)
    no_usage = pa.scalar(None, pa.string())
    service = pc.if_else(is_call, "voice", pc.if_else(is_message, "sms", no_usage))
    return service, pc.is_null(service).to_numpy(zero_copy_only=False)


def _subscriptions(found: Found) -> tuple[pa.Array, pa.Array]:
    """MSISDN and IMSI among the subscription identifiers of each record."""
    count = found.count
    msisdns: pa.Array = pa.nulls(count, pa.string())
    imsis: pa.Array = pa.nulls(count, pa.string())
    if not found.has("list-of-subscription-ID").any():
        return msisdns, imsis
    items, row = found.items("list-of-subscription-ID", SUBSCRIPTION, SET)
    kind, has_kind = items.number("subscriptionIDType", 4)
    data = items.text("subscriptionIDData")
    numbers = (international(data), data)
    columns = []
    for wanted, values in zip((TYPE_E164, TYPE_IMSI), numbers, strict=True):
        at = np.full(count, -1, np.int64)
        mine = np.flatnonzero(has_kind & (kind == wanted))[::-1]  # the first is written last
        at[row[mine]] = mine
        columns.append(values.take(pa.array(at, mask=at < 0)))
    return columns[0], columns[1]


def _diversion(found: Found) -> tuple[BoolArray, pa.Array]:
    """Whether the session was diverted, and by whom."""
    count = found.count
    nobody: pa.Array = pa.nulls(count, pa.string())
    is_diverted = np.zeros(count, bool)
    if "mMTelInformation" not in found.fields or not found.has("mMTelInformation").any():
        return is_diverted, nobody
    information = found.inside("mMTelInformation", MMTEL_INFORMATION)
    services, row = information.items("listOfSupplServices", SUPPLEMENTARY_SERVICE, SET)
    kind, has_kind = services.number("serviceType", 4)
    mine = np.flatnonzero(has_kind & (kind == DIVERSION))[::-1]
    is_diverted[row[mine]] = True
    at = np.full(count, -1, np.int64)
    at[row[mine]] = mine
    who = party(services.inside("associated-Party-Address", PARTY))
    return is_diverted, who.take(pa.array(at, mask=at < 0))


def _lasting(found: Found) -> Columns:
    """Start, duration and part of a record."""
    cause, has_cause = found.number("causeForRecordClosing", 4)
    part, has_part = found.number("recordSequenceNumber", 4)
    goes_on = has_cause & np.isin(cause, CONTINUING)
    is_partial = has_part | goes_on
    requested = found.moments("serviceRequestTimeStamp")
    delivered = found.moments("serviceDeliveryStartTimeStamp")
    ended = found.moments("serviceDeliveryEndTimeStamp")
    opened = found.moments("recordOpeningTime")
    closed = found.moments("recordClosureTime")
    later = is_partial & delivered.is_known & opened.is_known
    later &= opened.utc_seconds() > delivered.utc_seconds()
    started = _where(later, opened, delivered).or_else(requested).or_else(opened)
    until = ended.or_else(_where(is_partial, closed, ended))
    seconds = np.where(delivered.is_known, until.utc_seconds() - started.utc_seconds(), 0)
    is_known = ~delivered.is_known | until.is_known
    found.decoding.miss(
        is_known & (seconds < 0), found.record, lambda at: FileReason("ends_before_start")
    )
    return {
        **started.columns(),
        "duration_seconds": integer(seconds, is_known & (seconds >= 0)),
        "cause_for_closing": integer(cause, has_cause),
        "partial_sequence": pa.array(np.where(has_part, part, 0)),
        "is_last_partial": pa.array(~goes_on),
    }


def _where(holds: BoolArray, these: Moments, those: Moments) -> Moments:
    return Moments(
        np.where(holds, these.local, those.local),
        np.where(holds, these.is_known, those.is_known),
        np.where(holds, these.offset, those.offset),
        np.where(holds, these.has_offset, those.has_offset),
    )


# P-Access-Network-Info, TS 24.229 clause 7.2A.4: network, area (4 digits) and E-UTRAN cell (7).
_ACCESS_CELL = (
    r"(?i)utran-cell-id-3gpp=\"?(?P<network>[0-9]{5,6})(?P<area>[0-9a-f]{4})(?P<cell>[0-9a-f]{7})"
    r"(?:[^0-9a-f]|$)"
)


def _location(found: Found) -> Columns:
    """Cell and network, from the location information or the access network's header."""
    said = pc.extract_regex(found.text("accessNetworkInformation"), _ACCESS_CELL)
    cell = pc.binary_join_element_wise(
        pc.struct_field(said, "area"), pc.struct_field(said, "cell"), "-"
    )
    network = pc.struct_field(said, "network")
    if "userLocationInformation" in found.fields:
        located, plmn = located_cell(found, "userLocationInformation")
        cell, network = first_of(located, cell), first_of(plmn, network)
    return {"cell_id": pc.utf8_upper(cell), "serving_plmn": network}


KINDS = (
    Kind("sCSCFRecord", 63, SCSCF_RECORD, partial(session, node="sCSCF"), number=63),
    Kind("aSRecord", 69, AS_RECORD, partial(session, node="aS"), number=69),
    Kind("mMTelRecord", 83, MMTEL_RECORD, partial(session, node="mMTel"), number=83),
)
