"""Circuit switched domain: records of the MSC (TS 32.298 clause 5.2.2.1, fields 5.1.4 and 5.1.2).

Rated are calls (MO, MT) and short messages (MO, MT). A call that leaves the MSC because the served
subscriber forwards it is an MO record with a forwarding service among those used: its direction is
`forwarded`, its other party the number it goes to. Circuit switched data (a bearer service) is
service `circuit_data`.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.formats.ber import BoolArray
from ingestion.formats.charging_fields import Found, Layout
from ingestion.formats.charging_kinds import (
    Columns,
    Kind,
    constant,
    first_of,
    identity_of_received,
    identity_of_sent,
    integer,
    outcome_of_message,
    reference,
)
from ingestion.formats.charging_tags.packet import area_and_cell

# MOCallRecord, MTCallRecord: clause 5.1.4 (CS domain CDR parameters).
MO_CALL = Layout.of(
    simple={
        "recordType": 0,
        "servedIMSI": 1,
        "servedIMEI": 2,
        "servedMSISDN": 3,
        "calledNumber": 5,
        "recordingEntity": 9,
        "seizureTime": 22,
        "answerTime": 23,
        "callDuration": 25,
        "causeForTerm": 30,
        "callReference": 32,
        "sequenceNumber": 33,
        "networkCallReference": 38,
    },
    nested={
        "mscIncomingTKGP": 10,
        "mscOutgoingTKGP": 11,
        "location": 12,
        "basicService": 14,
        "supplServicesUsed": 17,
    },
    others={4, 6, 7, 8, 13, 15, 16, 18, 19, 20, 21, 24, 26, 27, 28, 29, 31}
    | {*range(34, 38), *range(39, 78)},
)
MT_CALL = Layout.of(
    simple={
        "recordType": 0,
        "servedIMSI": 1,
        "servedIMEI": 2,
        "servedMSISDN": 3,
        "callingNumber": 4,
        "recordingEntity": 6,
        "seizureTime": 19,
        "answerTime": 20,
        "callDuration": 22,
        "causeForTerm": 27,
        "callReference": 29,
        "sequenceNumber": 30,
        "networkCallReference": 33,
    },
    nested={
        "mscIncomingTKGP": 7,
        "mscOutgoingTKGP": 8,
        "location": 9,
        "basicService": 11,
    },
    others={5, 10, *range(12, 19), 21, 23, 24, 25, 26, 28, 31, 32, *range(34, 62)},
)
# MOSMSRecord, MTSMSRecord: the same clause.
MO_MESSAGE = Layout.of(
    simple={
        "recordType": 0,
        "servedIMSI": 1,
        "servedIMEI": 2,
        "servedMSISDN": 3,
        "serviceCentre": 5,
        "recordingEntity": 6,
        "messageReference": 8,
        "time": 9,
        "destinationNumber": 12,
    },
    nested={"location": 7, "smsResult": 10},
    others={4, 11, 13, 14, 15},
)
MT_MESSAGE = Layout.of(
    simple={
        "recordType": 0,
        "serviceCentre": 1,
        "servedIMSI": 2,
        "servedIMEI": 3,
        "servedMSISDN": 4,
        "recordingEntity": 6,
        "time": 8,
    },
    nested={"location": 7, "smsResult": 9},
    others={5, 10, 11, 12, 13},
)
# TrunkGroup, LocationAreaAndCell: clause 5.1.4.
TRUNK_GROUP = Layout.of(simple={"tkgpNumber": 0, "tkgpName": 1})
LOCATION = Layout.of(simple={"locationAreaCode": 0, "cellId": 1, "mCC-MNC": 2})
# BasicServiceCode of TS 29.002: under tags 2 (bearer service) and 3 (teleservice).
BASIC_SERVICE = Layout.of(simple={"bearerService": 2, "teleservice": 3})
SUPPLEMENTARY_SERVICE = Layout.of(simple={"ssCode": 0}, others={1})

# SS-Code of TS 29.002 clause 17.7.5: call deflection, and the forwarding services.
FORWARDING = (0x20, 0x21, 0x24, 0x28, 0x29, 0x2A, 0x2B)

# CauseForTerm, clause 5.1.4: the call goes on in a further record.
PARTIAL_RECORD, REESTABLISHED = 1, 2


def mo_call(found: Found) -> Columns:
    """The columns of calls that a subscriber makes or forwards."""
    forwarded = _is_forwarded(found)
    direction = pc.if_else(pa.array(forwarded), pa.scalar("forwarded"), pa.scalar("mo"))
    return {
        "direction": direction,
        "other_party": found.address("calledNumber"),
        **_call(found),
    }


def mt_call(found: Found) -> Columns:
    """The columns of calls that a subscriber gets."""
    return {
        "direction": constant("mt", found.count),
        "other_party": found.address("callingNumber"),
        **_call(found),
    }


def _call(found: Found) -> Columns:
    cause, has_cause = found.number("causeForTerm", 4)
    part, has_part = found.number("sequenceNumber", 4)
    entity = found.address("recordingEntity")
    own = reference(found.hexadecimal("callReference"), entity)
    network = reference(found.hexadecimal("networkCallReference"), entity)
    started = found.moments("answerTime").or_else(found.moments("seizureTime"))
    is_bearer = found.inside("basicService", BASIC_SERVICE).has("bearerService")
    return {
        "service": pc.if_else(pa.array(is_bearer), pa.scalar("circuit_data"), pa.scalar("voice")),
        **_served(found),
        **started.columns(),
        "duration_seconds": integer(*found.quantity("callDuration")),
        "trunk_group_in": _trunk_group(found, "mscIncomingTKGP"),
        "trunk_group_out": _trunk_group(found, "mscOutgoingTKGP"),
        "cause_for_closing": integer(cause, has_cause),
        "call_reference": first_of(own, network),
        "partial_sequence": pa.array(np.where(has_part, part, 0)),
        "is_last_partial": pa.array(
            has_cause & (cause != PARTIAL_RECORD) & (cause != REESTABLISHED)
        ),
    }


def _served(found: Found) -> Columns:
    location = found.inside("location", LOCATION)
    return {
        "served_imsi": found.digits("servedIMSI"),
        "served_imei": found.digits("servedIMEI"),
        "served_msisdn": found.address("servedMSISDN"),
        "serving_plmn": location.network("mCC-MNC"),
        "cell_id": area_and_cell(location, "locationAreaCode", "cellId"),
    }


def _trunk_group(found: Found, name: str) -> pa.Array:
    group = found.inside(name, TRUNK_GROUP)
    number = integer(*group.number("tkgpNumber")).cast(pa.string())
    return first_of(group.text("tkgpName", 20), number)


def _is_forwarded(found: Found) -> BoolArray:
    is_forwarded = np.zeros(found.count, bool)
    if found.has("supplServicesUsed").any():
        services, row = found.items("supplServicesUsed", SUPPLEMENTARY_SERVICE)
        field = services.fields["ssCode"]
        code = found.decoding.octets[field.start]
        is_forwarded[row[field.is_present & np.isin(code, FORWARDING)]] = True
    return is_forwarded


def mo_message(found: Found) -> Columns:
    """The columns of short messages that a subscriber sends."""
    return {
        "direction": constant("mo", found.count),
        "other_party": found.message_address("destinationNumber"),
        "call_reference": identity_of_sent(found, "time"),
        **_message(found),
    }


def mt_message(found: Found) -> Columns:
    """The columns of short messages that a subscriber gets; the record does not say from whom."""
    return {
        "direction": constant("mt", found.count),
        "call_reference": identity_of_received(found, "time"),
        **_message(found),
    }


def _message(found: Found) -> Columns:
    return {
        "service": constant("sms", found.count),
        **_served(found),
        **found.moments("time").columns(),
        **outcome_of_message(found, "smsResult"),
    }


KINDS = (
    Kind("moCallRecord", 0, MO_CALL, mo_call, number=0),
    Kind("mtCallRecord", 1, MT_CALL, mt_call, number=1),
    Kind("moSMSRecord", 6, MO_MESSAGE, mo_message, number=6),
    Kind("mtSMSRecord", 7, MT_MESSAGE, mt_message, number=7),
)
