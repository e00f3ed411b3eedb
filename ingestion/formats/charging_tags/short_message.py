"""Short messages over packet access: records of SGSN or MME, SMS centre and IP-SM-GW.

TS 32.298 clauses 5.2.2.2 (SGSN) and 5.2.4.2 (SMS), fields 5.1.2 and 5.1.7. Of several recipients
of one submission the first is the other party.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.formats.charging_fields import Found, Layout
from ingestion.formats.charging_kinds import (
    Columns,
    Kind,
    constant,
    first_of,
    identity_of_received,
    identity_of_sent,
    outcome_of_message,
    reference,
)
from ingestion.formats.charging_tags.packet import area_and_cell, located_cell

# SGSNSMORecord, SGSNSMTRecord: clause 5.1.2.
SGSN_MO = Layout.of(
    simple={
        "recordType": 0,
        "servedIMSI": 1,
        "servedIMEI": 2,
        "servedMSISDN": 3,
        "recordingEntity": 6,
        "locationArea": 7,
        "cellIdentifier": 9,
        "messageReference": 10,
        "eventTimeStamp": 11,
        "otherParty": 18,
        "servingNodePLMNIdentifier": 28,
    },
    nested={"smsResult": 12},
    others={4, 5, 8, *range(13, 18), *range(19, 28), 29, 30},
)
SGSN_MT = Layout.of(
    simple={
        "recordType": 0,
        "servedIMSI": 1,
        "servedIMEI": 2,
        "servedMSISDN": 3,
        "serviceCentre": 5,
        "recordingEntity": 6,
        "locationArea": 7,
        "cellIdentifier": 9,
        "eventTimeStamp": 10,
        "otherParty": 19,
        "servingNodePLMNIdentifier": 27,
    },
    nested={"smsResult": 11},
    others={4, 8, *range(12, 19), *range(20, 27), 28, 29},
)
# SCSMORecord, SCSMTRecord (SMS centre), ISMSMORecord, ISMSMTRecord (IP-SM-GW): clause 5.1.7.
CENTRE_MO = Layout.of(
    simple={
        "recordType": 0,
        "node": 1,
        "servedIMEI": 4,
        "eventtimestamp": 5,
        "messageReference": 6,
        "sMMessageType": 13,
        "userLocationInfo": 16,
    },
    nested={"originatorInfo": 2, "recipientInfo": 3, "sMSResult": 19},
    others={*range(7, 13), 14, 15, 17, 18, 22, 23},
)
CENTRE_MT = Layout.of(
    simple={
        "recordType": 0,
        "node": 1,
        "servedIMEI": 4,
        "eventtimestamp": 6,
        "messageReference": 8,
        "sMMessageType": 15,
        "userLocationInfo": 20,
    },
    nested={"recipientInfo": 2, "originatorInfo": 3, "sMSResult": 23},
    others={5, 7, *range(9, 15), 16, 17, 18, 19, 21, 22, 25, 26, 27},
)
GATEWAY_MO = Layout.of(
    simple={
        "recordType": 0,
        "eventtimestamp": 5,
        "messageReference": 6,
        "sMMessageType": 13,
        "userLocationInfo": 17,
    },
    nested={"originatorInfo": 2, "recipientInfo": 3, "sMSResult": 16},
    others={1, 4, *range(7, 13), 14, 15, *range(18, 26)},
)
GATEWAY_MT = Layout.of(
    simple={
        "recordType": 0,
        "eventtimestamp": 6,
        "messageReference": 8,
        "sMMessageType": 15,
        "userLocationInfo": 20,
    },
    nested={"recipientInfo": 2, "originatorInfo": 3, "sMSResult": 23},
    others={1, 4, 5, 7, *range(9, 15), 16, 17, 18, 19, 21, 22, *range(24, 30)},
)
# OriginatorInfo, RecipientInfo: they number their elements alike.
CORRESPONDENT = Layout.of(
    simple={"iMSI": 0, "mSISDN": 1}, nested={"otherAddress": 2}, others=range(3, 8)
)
# SMAddressInfo: type 1 is an MSISDN, 4 a short code.
ADDRESS = Layout.of(simple={"sMAddressType": 0, "sMAddressData": 1}, others={2})
MSISDN_TYPE = 1

# SMMessageType: what is no message of the subscriber.
DELIVERY_REPORT = 1
DELIVERY_REPORT_NAME = "smsDeliveryReport"


def sgsn_mo(found: Found) -> Columns:
    """The columns of messages sent over SGSN or MME."""
    return {
        "direction": constant("mo", found.count),
        "other_party": found.message_address("otherParty"),
        "call_reference": identity_of_sent(found, "eventTimeStamp"),
        **_sgsn(found),
    }


def sgsn_mt(found: Found) -> Columns:
    """The columns of messages received over SGSN or MME."""
    return {
        "direction": constant("mt", found.count),
        "other_party": found.message_address("otherParty"),
        "call_reference": identity_of_received(found, "eventTimeStamp"),
        **_sgsn(found),
    }


def _sgsn(found: Found) -> Columns:
    return {
        "service": constant("sms", found.count),
        "served_imsi": found.digits("servedIMSI"),
        "served_imei": found.digits("servedIMEI"),
        "served_msisdn": found.address("servedMSISDN"),
        "serving_plmn": found.network("servingNodePLMNIdentifier"),
        "cell_id": area_and_cell(found, "locationArea", "cellIdentifier"),
        **found.moments("eventTimeStamp").columns(),
        **outcome_of_message(found, "smsResult"),
    }


def centre_mo(found: Found) -> Columns:
    """The columns of messages a centre or gateway takes from a subscriber."""
    origin = found.inside("originatorInfo", CORRESPONDENT)
    recipient = found.first_item("recipientInfo", CORRESPONDENT)
    return _centre(found, "mo", origin, recipient)


def centre_mt(found: Found) -> Columns:
    """The columns of messages a centre or gateway delivers to a subscriber."""
    origin = found.inside("originatorInfo", CORRESPONDENT)
    recipient = found.inside("recipientInfo", CORRESPONDENT)
    return _centre(found, "mt", recipient, origin)


def _centre(found: Found, direction: str, served: Found, other: Found) -> Columns:
    context = [found.hexadecimal("eventtimestamp", 9)]
    if "node" in found.fields:
        context.insert(0, found.address("node"))
    # The reference of a message is optional in the records of deliveries; the time is not.
    call_reference = first_of(
        reference(found.hexadecimal("messageReference"), *context),
        reference(context[-1], *context[:-1]),
    )
    cell, network = located_cell(found, "userLocationInfo")
    columns = {
        "direction": constant(direction, found.count),
        "served_imsi": served.digits("iMSI"),
        "served_msisdn": correspondent_number(served),
        "other_party": correspondent_number(other),
        "cell_id": cell,
        "serving_plmn": network,
        "call_reference": call_reference,
        **found.moments("eventtimestamp").columns(),
        **outcome_of_message(found, "sMSResult"),
        **message_service(found),
    }
    if "servedIMEI" in found.fields:
        columns["served_imei"] = found.digits("servedIMEI")
    return columns


def message_service(found: Found) -> Columns:
    """Service `sms`, or a kind of its own and none for a delivery report."""
    kind, has_kind = found.number("sMMessageType", 4)
    is_report = has_kind & (kind == DELIVERY_REPORT)
    columns = {
        "service": pc.if_else(pa.array(is_report), pa.scalar(None, pa.string()), pa.scalar("sms"))
    }
    if is_report.any():
        columns["record_type"] = pc.if_else(
            pa.array(is_report), pa.scalar(DELIVERY_REPORT_NAME), pa.scalar(None, pa.string())
        )
    return columns


def correspondent_number(correspondent: Found) -> pa.Array:
    """The MSISDN of an originator or recipient, else its other address."""
    other = correspondent.inside("otherAddress", ADDRESS)
    kind, has_kind = other.number("sMAddressType", 4)
    data = other.text("sMAddressData")
    is_msisdn = has_kind & (kind == MSISDN_TYPE)
    plus = pc.replace_substring_regex(data, r"^([0-9])", r"+\1")
    return first_of(
        correspondent.address("mSISDN"), pc.if_else(pa.array(np.asarray(is_msisdn)), plus, data)
    )


KINDS = (
    Kind("sgsnSMORecord", 23, SGSN_MO, sgsn_mo, number=21),
    Kind("sgsnSMTRecord", 24, SGSN_MT, sgsn_mt, number=22),
    Kind("sCSMORecord", 93, CENTRE_MO, centre_mo, number=93),
    Kind("sCSMTRecord", 94, CENTRE_MT, centre_mt, number=94),
    Kind("iSMSMORecord", 112, GATEWAY_MO, centre_mo, number=112),
    Kind("iSMSMTRecord", 113, GATEWAY_MT, centre_mt, number=113),
)
