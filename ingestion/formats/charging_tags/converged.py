"""Converged charging of the 5G core: the record of the charging function (CHF).

TS 32.298 clause 5.2.5.2 (record), 5.1.9 and 5.1.5.0 (fields). A record is what the specific
information in it says: of a PDU session `data`, of a short message `sms`. Records of registration,
N2 connections, location reporting, exposed interfaces and slice management are no usage and named
`chargingFunctionEvent`. A record with none of these (such as the information of later releases)
has no service, and is left to be rejected rather than to be passed over.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.formats.ber import BoolArray
from ingestion.formats.charging_fields import Found, Layout, international, party_number
from ingestion.formats.charging_kinds import (
    FAILED,
    Columns,
    Kind,
    closing,
    first_of,
    integer,
    only_one,
    reference,
    total,
)
from ingestion.formats.charging_tags.ims import PARTY, SUBSCRIPTION, TYPE_E164, TYPE_IMSI, party
from ingestion.formats.charging_tags.short_message import (
    CORRESPONDENT,
    DELIVERY_REPORT,
    DELIVERY_REPORT_NAME,
    correspondent_number,
)

# ChargingRecord: clause 5.1.5.0 (CHF CDR parameters).
CHARGING_RECORD = Layout.of(
    simple={
        "recordType": 0,
        "recordingNetworkFunctionID": 1,
        "recordOpeningTime": 6,
        "duration": 7,
        "recordSequenceNumber": 8,
        "causeForRecClosing": 9,
        "chargingSessionIdentifier": 16,
    },
    nested={
        "subscriberIdentifier": 2,
        "listOfMultipleUnitUsage": 5,
        "pDUSessionChargingInformation": 13,
        "sMSChargingInformation": 15,
        "exposureFunctionAPIInformation": 18,
        "registrationChargingInformation": 19,
        "n2ConnectionChargingInformation": 20,
        "locationReportingChargingInformation": 21,
        "nSMChargingInformation": 25,
        "nSPAChargingInformation": 26,
    },
    others={3, 4, 10, 11, 12, 14, 17, 22, 23, 24, 27},
)
EVENTS = (
    "exposureFunctionAPIInformation",
    "registrationChargingInformation",
    "n2ConnectionChargingInformation",
    "locationReportingChargingInformation",
    "nSMChargingInformation",
    "nSPAChargingInformation",
)
EVENT_NAME = "chargingFunctionEvent"

# MultipleUnitUsage and UsedUnitContainer: the same clause.
UNIT_USAGE = Layout.of(simple={"ratingGroup": 0}, nested={"usedUnitContainers": 1}, others={2, 3})
USED_UNITS = Layout.of(
    simple={"dataTotalVolume": 4, "dataVolumeUplink": 5, "dataVolumeDownlink": 6},
    others={0, 1, 2, 3, *range(7, 16)},
)
# PDUSessionChargingInformation, SMSChargingInformation: the same clause.
PDU_SESSION = Layout.of(
    simple={
        "pDUSessionChargingID": 0,
        "pDUSessionId": 6,
        "dataNetworkNameIdentifier": 13,
        "servingCNPLMNID": 27,
    },
    nested={"userIdentifier": 1, "userEquipmentInfo": 2},
    others={3, 4, 5, *range(7, 13), *range(14, 27), *range(28, 37)},
)
MESSAGE = Layout.of(
    simple={"eventtimestamp": 8, "sMMessageType": 21, "messageReference": 32},
    nested={"originatorInfo": 1, "recipientInfos": 2, "userEquipmentInfo": 3, "sMSResult": 29},
    others={4, 5, 6, 7, 20, *range(22, 29), 30, 31, *range(33, 39)},
)
EQUIPMENT = Layout.of(simple={"equipmentType": 0, "equipmentData": 1})

SUBMISSION, DELIVERY = 0, 3  # SMMessageType


def usage(found: Found) -> Columns:
    """The columns of records of the charging function."""
    is_data = found.has("pDUSessionChargingInformation")
    is_message = found.has("sMSChargingInformation")
    msisdn, imsi = _subscriber(found)
    session = found.inside("pDUSessionChargingInformation", PDU_SESSION)
    function = found.text("recordingNetworkFunctionID")
    charging_id = integer(*session.number("pDUSessionChargingID"))
    session_id = integer(*session.number("pDUSessionId", 4)).cast(pa.string())
    nothing = pa.scalar(None, pa.string())
    data = pa.array(is_data)
    columns = {
        "service": pc.if_else(data, "data", nothing),
        "direction": pc.if_else(data, "mo", nothing),
        "served_imsi": imsi,
        "served_msisdn": first_of(
            msisdn, party_number(party(session.inside("userIdentifier", PARTY)))
        ),
        "served_imei": _equipment(session),
        "duration_seconds": integer(*found.quantity("duration")),
        "apn": session.text("dataNetworkNameIdentifier", 100),
        "serving_plmn": session.network("servingCNPLMNID"),
        "call_reference": first_of(
            reference(charging_id, function, session_id),
            reference(found.text_or_octets("chargingSessionIdentifier"), function),
        ),
        **found.moments("recordOpeningTime").columns(),
        **closing(found, "causeForRecClosing", "recordSequenceNumber"),
        **_volumes(found, is_data),
    }
    record_type: pa.Array = pa.nulls(found.count, pa.string())
    if is_message.any():
        record_type = _with_messages(found, is_message & ~is_data, columns)
    is_event = ~is_data & ~is_message & np.any([found.has(name) for name in EVENTS], axis=0)
    columns["record_type"] = pc.if_else(pa.array(is_event), EVENT_NAME, record_type)
    return columns


def _subscriber(found: Found) -> tuple[pa.Array, pa.Array]:
    """MSISDN and IMSI, from a subscription identifier with or without ``imsi-`` before it."""
    subscriber = found.inside("subscriberIdentifier", SUBSCRIPTION)
    kind, has_kind = subscriber.number("subscriptionIDType", 4)
    data = pc.replace_substring_regex(subscriber.text("subscriptionIDData"), r"^(imsi|msisdn)-", "")
    nothing = pa.scalar(None, pa.string())
    is_msisdn, is_imsi = has_kind & (kind == TYPE_E164), has_kind & (kind == TYPE_IMSI)
    return (
        pc.if_else(pa.array(is_msisdn), international(data), nothing),
        pc.if_else(pa.array(is_imsi), data, nothing),
    )


def _equipment(holder: Found) -> pa.Array:
    """IMEI of the equipment: in text, with or without ``imei-`` before it, or in half octets."""
    equipment = holder.inside("userEquipmentInfo", EQUIPMENT)
    text = equipment.text_or_octets("equipmentData", 64)
    in_text = pc.extract_regex(text, r"^(?:imei(?:sv)?-)?(?P<digits>[0-9]{14,16})$")
    is_short = equipment.fields["equipmentData"].length <= 8
    halves = pc.if_else(
        pa.array(is_short), equipment.digits("equipmentData", 64), pa.scalar(None, pa.string())
    )
    return pc.if_else(pa.array(is_short), halves, pc.struct_field(in_text, "digits"))


def _volumes(found: Found, is_data: BoolArray) -> Columns:
    """Octets of all used units; those without a split by direction count as downlink."""
    count = found.count
    if not found.has("listOfMultipleUnitUsage").any():
        nothing = pa.nulls(count, pa.int64())
        return {"uplink_octets": nothing, "downlink_octets": nothing, "rating_group": nothing}
    usages, row = found.items("listOfMultipleUnitUsage", UNIT_USAGE)
    units, usage_of = usages.items("usedUnitContainers", USED_UNITS)
    unit_row = row[usage_of]
    uplink, has_uplink = units.quantity("dataVolumeUplink")
    downlink, has_downlink = units.quantity("dataVolumeDownlink")
    whole, _ = units.quantity("dataTotalVolume")
    downlink = np.where(has_uplink | has_downlink, downlink, whole)
    is_measured = found.has("listOfMultipleUnitUsage") & is_data
    return {
        "uplink_octets": integer(total(uplink, unit_row, count), is_measured),
        "downlink_octets": integer(total(downlink, unit_row, count), is_measured),
        "rating_group": only_one(*usages.number("ratingGroup"), row, count),
    }


def _with_messages(found: Found, is_message: BoolArray, columns: Columns) -> pa.Array:
    """Put the columns of short messages in place; returns the record types that change by it."""
    message = found.inside("sMSChargingInformation", MESSAGE)
    kind, has_kind = message.number("sMMessageType", 4)
    is_mt = has_kind & (kind == DELIVERY)
    is_mo = has_kind & (kind == SUBMISSION)
    is_report = is_message & has_kind & (kind == DELIVERY_REPORT)
    nothing = pa.scalar(None, pa.string())
    origin = correspondent_number(message.inside("originatorInfo", CORRESPONDENT))
    recipient = correspondent_number(message.first_item("recipientInfos", CORRESPONDENT))
    to = pa.array(is_mt)
    sent = message.moments("eventtimestamp")
    own = {
        "service": pc.if_else(pa.array(is_report), nothing, "sms"),
        "direction": pc.if_else(to, "mt", pc.if_else(pa.array(is_mo), "mo", nothing)),
        "served_msisdn": first_of(columns["served_msisdn"], pc.if_else(to, recipient, origin)),
        "served_imei": _equipment(message),
        "other_party": pc.if_else(to, origin, recipient),
        "duration_seconds": pa.nulls(found.count, pa.int64()),
        "call_reference": first_of(
            reference(
                message.hexadecimal("messageReference"),
                found.text("recordingNetworkFunctionID"),
                message.hexadecimal("eventtimestamp", 9),
            ),
            columns["call_reference"],
        ),
        "cause_for_closing": pa.array(np.where(message.has("sMSResult"), FAILED, 0)),
        **sent.columns(),
    }
    chosen = pa.array(is_message)
    for name, column in own.items():
        before = columns.get(name, pa.nulls(found.count, column.type))
        columns[name] = pc.if_else(chosen, column, before)
    return pc.if_else(pa.array(is_report), DELIVERY_REPORT_NAME, nothing)


KINDS = (Kind("chargingFunctionRecord", 200, CHARGING_RECORD, usage, number=200),)
