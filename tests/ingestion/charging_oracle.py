"""What a charging record says, worked out from pycrate's reading of it, one record at a time.

Written apart from the decoder: values come from pycrate's own grammar modules, and each function
here reads one field of one record the plain way.
"""

from __future__ import annotations

import ipaddress
import random
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

FORWARDING = {0x20, 0x21, 0x24, 0x28, 0x29, 0x2A, 0x2B}

# Outermost choice of each domain: module of pycrate, name of the choice, records that are decoded.
DECODED: dict[tuple[str, str], tuple[str, ...]] = {
    ("CSChargingDataTypes", "CSRecord"): (
        "moCallRecord", "mtCallRecord", "moSMSRecord", "mtSMSRecord",
    ),
    ("GPRSChargingDataTypes", "GPRSRecord"): (
        "sgsnPDPRecord", "sGWRecord", "pGWRecord", "ePDGRecord", "tWAGRecord",
        "sgsnSMORecord", "sgsnSMTRecord",
    ),
    ("SMSChargingDataTypes", "SMSRecordType"): (
        "sCSMORecord", "sCSMTRecord", "iSMSMORecord", "iSMSMTRecord",
    ),
    ("IMSChargingDataTypes", "IMSRecord"): ("sCSCFRecord", "aSRecord"),
    ("MMTelChargingDataTypes", "MMTelServiceRecord"): ("mMTelRecord",),
    ("MMSChargingDataTypes", "MMSRecordType"): ("mMO1SRecord", "mMR1RtRqRecord", "mMFRecord"),
}  # fmt: skip
# recordType where it is not called like the record (TS 32.298 clause 5.1.1).
RECORD_TYPES = {"mMR1RtRqRecord": "mMR1RtRecord", "mMR1ARecord": "mMR1AFRecord",
                "transitRecord": "transitCallRecord"}  # fmt: skip

# --- random values -------------------------------------------------------------------------------

NUMBERS = ("MSISDN", "AddressString", "ISDN-AddressString", "CalledNumber", "CallingNumber",
           "RecordingEntity", "MSCAddress", "TranslatedNumber", "ConnectedNumber", "RoamingNumber",
           "Gsm-SCFAddress", "MscNo")  # fmt: skip
UNSUPPORTED = ("REAL", "OPEN_TYPE", "ANY", "EXT", "OBJECT IDENTIFIER", "EMBEDDED PDV")


class Omit(Exception):
    """An element whose type cannot be made up here."""


def random_value(draw: random.Random, kind: Any, name: str = "", depth: int = 0) -> Any:
    """A random value of one of pycrate's types."""
    if kind is None:
        raise Omit
    type_name = kind._typeref.called[1] if kind._typeref else kind._name
    if kind.TYPE in UNSUPPORTED or type_name == "ManagementExtensions":
        raise Omit
    if kind.TYPE in ("SEQUENCE", "SET"):
        return _members(draw, kind, depth)
    if kind.TYPE in ("SEQUENCE OF", "SET OF"):
        return _items(draw, kind, name, depth)
    if kind.TYPE == "CHOICE":
        return _alternative(draw, kind, name, depth)
    makers: dict[str, Callable[[], Any]] = {
        "INTEGER": lambda: _integer(draw, kind),
        "ENUMERATED": lambda: draw.choice(sorted(kind._cont)),
        "BOOLEAN": lambda: draw.random() < 0.5,
        "NULL": lambda: 0,
        "BIT STRING": lambda: _bits(draw, kind),
        "OCTET STRING": lambda: _octets(draw, kind, name, type_name),
    }
    if kind.TYPE in makers:
        return makers[kind.TYPE]()
    return _text(draw, kind, name)


def _members(draw: random.Random, kind: Any, depth: int) -> dict[str, Any]:
    value = {}
    for name, member in kind._cont.items():
        if member._opt and draw.random() < (0.3 if depth < 3 else 0.7):
            continue
        try:
            value[name] = random_value(draw, member, name, depth + 1)
        except Omit:
            if not member._opt:
                raise
    return value


def _items(draw: random.Random, kind: Any, name: str, depth: int) -> list[Any]:
    if kind._cont is None:
        raise Omit
    shortest = kind._const_sz.lb if kind._const_sz and kind._const_sz.lb else 0
    count = max(shortest, draw.choice((0, 1, 1, 2, 3)) if depth < 4 else 1)
    return [random_value(draw, kind._cont, name, depth + 1) for _ in range(count)]


def _alternative(draw: random.Random, kind: Any, name: str, depth: int) -> tuple[str, Any]:
    names = list(kind._cont)
    draw.shuffle(names)
    for chosen in names:
        try:
            return chosen, random_value(draw, kind._cont[chosen], chosen, depth + 1)
        except Omit:
            continue
    raise Omit


def _integer(draw: random.Random, kind: Any) -> int:
    bounds = kind._const_val
    lowest = bounds.lb if bounds and bounds.lb is not None else 0
    highest = bounds.ub if bounds and bounds.ub is not None else 2**31 - 1
    return draw.choice((lowest, min(lowest + draw.randrange(300), highest),
                        draw.randint(lowest, highest)))  # fmt: skip


def _bits(draw: random.Random, kind: Any) -> tuple[int, int]:
    size = kind._const_sz
    length = max(8, size.lb or 0) if size and size.lb is not None else 8
    if size and size.ub is not None:
        length = min(length, size.ub)
    return draw.getrandbits(length) if length else 0, length


def digits(draw: random.Random, count: int) -> str:
    return "".join(draw.choices("0123456789", k=count))


def swapped(text: str) -> bytes:
    even = text + "f" * (len(text) % 2)
    return bytes(int(even[at + 1] + even[at], 16) for at in range(0, len(even), 2))


def _octets(draw: random.Random, kind: Any, name: str, type_name: str) -> bytes:  # noqa: PLR0911
    if type_name == "TimeStamp":
        moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=draw.randrange(365 * 86_400))
        zone = draw.choice((b"+\x08\x00", b"-\x03\x30", b"+\x00\x00", b"+\x05\x45"))
        return bytes.fromhex(f"{moment:%y%m%d%H%M%S}") + zone
    if type_name == "IMSI":
        return swapped(digits(draw, 15))
    if type_name == "IMEI":
        return swapped(digits(draw, 16))
    if type_name in NUMBERS or name == "mSISDN":
        nature = draw.choice((b"\x91", b"\x81", b"\xa1"))
        return nature + swapped(digits(draw, draw.randint(3, 15)))
    if type_name == "SmsTpDestinationNumber":
        number = digits(draw, draw.randint(3, 15))
        length = bytes([len(number)]) if draw.random() < 0.5 else b""
        return length + draw.choice((b"\x91", b"\x81")) + swapped(number)
    if type_name in ("PLMN-Id", "MCC-MNC"):
        return draw.choice((bytes.fromhex("64f010"), bytes.fromhex("130062")))
    if name in ("userLocationInformation", "userLocationInfo"):
        return location(draw)
    if name == "accessNetworkInformation":
        return b"3GPP-E-UTRAN-FDD; utran-cell-id-3gpp=46001" + b"%04X%07X" % (
            draw.getrandbits(16), draw.getrandbits(28),
        )  # fmt: skip
    size = kind._const_sz
    shortest = size.lb if size and size.lb is not None else 1
    longest = size.ub if size and size.ub is not None else shortest + 8
    length = draw.randint(shortest, min(longest, shortest + 8))
    if draw.random() < 0.5:
        return "".join(draw.choices("abcXYZ-0189.@", k=length)).encode()
    return draw.randbytes(length)


def location(draw: random.Random) -> bytes:
    """User location information with some of CGI, SAI, RAI, TAI and ECGI (TS 29.274 8.21)."""
    parts = {
        0x01: bytes.fromhex("64f010") + draw.randbytes(4),
        0x02: bytes.fromhex("64f010") + draw.randbytes(4),
        0x04: bytes.fromhex("64f010") + draw.randbytes(4),
        0x08: bytes.fromhex("64f010") + draw.randbytes(2),
        0x10: bytes.fromhex("64f010") + bytes([draw.randrange(16)]) + draw.randbytes(3),
    }
    flags = draw.choice((0x18, 0x01, 0x02, 0x0C, 0x10, 0x1F, 0x00))
    return bytes([flags]) + b"".join(part for bit, part in parts.items() if flags & bit)


def _text(draw: random.Random, kind: Any, name: str) -> str:
    number = digits(draw, draw.randint(5, 13))
    texts = {
        "iPTextV4Address": str(ipaddress.IPv4Address(draw.getrandbits(32))),
        "iPTextV6Address": str(ipaddress.IPv6Address(draw.getrandbits(128))),
        "sIP-URI": draw.choice((f"sip:+{number}@ims.example;user=phone", "sip:ann@ims.example")),
        "tEL-URI": draw.choice((f"tel:+{number[:2]}-{number[2:]}", f"tel:{number}")),
        "iSDN-E164": number,
        "subscriptionIDData": number,
        "sMAddressData": number,
        "sIP-Method": draw.choice(("INVITE", "INVITE", "MESSAGE", "REGISTER", "Invite")),
    }
    size = kind._const_sz
    longest = size.ub if size and size.ub is not None else 12
    return texts.get(name, "".join(draw.choices("abcXYZ019", k=draw.randint(1, min(longest, 12)))))


def with_record_type(record_name: str, value: dict[str, Any]) -> dict[str, Any]:
    """The record with the recordType that is its own."""
    return value | {"recordType": RECORD_TYPES.get(record_name, record_name)}


# --- one field of one record ---------------------------------------------------------------------


def tbcd(value: bytes | None) -> str | None:
    if value is None:
        return None
    text = "".join(f"{octet & 15:x}{octet >> 4:x}" for octet in value).split("f")[0]
    return text.translate(str.maketrans("abcde", "*#abc"))


def number(value: bytes | None) -> str | None:
    if value is None:
        return None
    if value[0] < 0x80:
        value = value[:1] + value[2:]
    return ("+" if value[0] >> 4 & 7 == 1 else "") + str(tbcd(value[1:]))


def message_number(value: bytes | None) -> str | None:
    if value and value[0] < 0x80 and value[1] >= 0x80:
        return number(value[1:])
    return number(value)


def moment(value: bytes | None) -> tuple[datetime, int] | None:
    if value is None:
        return None
    local = datetime.strptime("20" + value[:6].hex(), "%Y%m%d%H%M%S")  # noqa: DTZ007 - local
    offset = int(value[7:8].hex()) * 60 + int(value[8:].hex())
    return local, -offset if value[6:7] == b"-" else offset


def started(*values: bytes | None) -> dict[str, Any]:
    found = next((found for found in map(moment, values) if found), (None, None))
    return {"started_local": found[0], "utc_offset_minutes": found[1]}


def plmn(value: bytes | None) -> str | None:
    if value is None:
        return None
    text = "".join(f"{octet & 15:x}{octet >> 4:x}" for octet in value)
    return text[:3] + text[4:] + text[3].replace("f", "")


def area_cell(area: bytes | None, cell: bytes | None) -> str | None:
    if cell is None:
        return None
    return (f"{area.hex()}-{cell.hex()}" if area is not None else cell.hex()).upper()


def located(value: bytes | None) -> tuple[str | None, str | None]:
    """Cell and network of user location information."""
    if not value:
        return None, None
    flags, rest, parts = value[0], value[1:], {}
    for bit, size in ((1, 7), (2, 7), (4, 7), (8, 5), (16, 7)):
        if flags & bit:
            parts[bit], rest = rest[:size], rest[size:]
    if 16 in parts:
        area = parts[8][3:].hex() + "-" if 8 in parts else ""
        return (area + parts[16][3:].hex()[1:]).upper(), plmn(parts[16][:3])
    gsm = parts.get(1, parts.get(2))
    if gsm is None:
        return None, None
    return f"{gsm[3:5].hex()}-{gsm[5:].hex()}".upper(), plmn(gsm[:3])


def address(value: Any) -> str | None:
    """An IP address as pycrate shows the choices around it."""
    while isinstance(value, tuple):
        name, value = value
        if name == "iPBinV6AddressWithPrefix":
            return str(ipaddress.IPv6Address(value["iPBinV6Address"]))
    if value is None:
        return None
    return str(ipaddress.ip_address(value))


def joined(*parts: str | None) -> str | None:
    """Parts of an identity; the last is the one that must be there."""
    return None if parts[-1] is None else "|".join(part for part in parts if part is not None)


def text_or_hex(value: bytes | None) -> str | None:
    if value is None:
        return None
    is_text = all(0x20 <= octet <= 0x7E for octet in value)
    return value.decode("ascii") if is_text else value.hex()


def cause_number(kind: Any, value: Any) -> int | None:
    return kind._cont[value] if isinstance(value, str) else value


def hexed(value: bytes | None) -> str | None:
    return None if value is None else value.hex()


# --- whole records -------------------------------------------------------------------------------


def expected(record_name: str, value: dict[str, Any], kind: Any) -> dict[str, Any]:
    """The columns of a record, those that are not null."""
    family = next(maker for names, maker in _FAMILIES if record_name in names)
    return {"record_type": record_name, "unknown_tag_count": 0} | family(record_name, value, kind)


def _circuit(name: str, value: dict[str, Any], kind: Any) -> dict[str, Any]:
    get = value.get
    place = get("location") or {}
    row = {
        "served_imsi": tbcd(get("servedIMSI")),
        "served_imei": tbcd(get("servedIMEI")),
        "served_msisdn": number(get("servedMSISDN")),
        "serving_plmn": plmn(place.get("mCC-MNC")),
        "cell_id": area_cell(place.get("locationAreaCode"), place.get("cellId")),
        "direction": "mt" if name.startswith("mt") else "mo",
    }
    entity = number(value["recordingEntity"])
    if "SMS" in name:
        time = get("originationTime", get("deliveryTime"))
        key = (entity, hexed(time), hexed(get("messageReference")))
        if name == "mtSMSRecord":
            key = (entity, number(get("serviceCentre")), hexed(time))
        return row | started(time) | {
            "service": "sms",
            "other_party": message_number(get("destinationNumber")),
            "cause_for_closing": 3 if "smsResult" in value else 0,
            "call_reference": joined(*key),
        }  # fmt: skip
    cause = cause_number(kind._cont["causeForTerm"], value["causeForTerm"])
    forwards = any(used["ssCode"][0] in FORWARDING for used in get("supplServicesUsed", ()))
    if name == "moCallRecord" and forwards:
        row["direction"] = "forwarded"
    groups = {
        column: str(get(element)[1]) if element in value else None
        for column, element in (
            ("trunk_group_in", "mscIncomingTKGP"), ("trunk_group_out", "mscOutgoingTKGP"),
        )
    }  # fmt: skip
    is_bearer = "basicService" in value and value["basicService"][0] == "bearerService"
    other = "calledNumber" if name == "moCallRecord" else "callingNumber"
    return row | groups | started(get("answerTime"), get("seizureTime")) | {
        "service": "circuit_data" if is_bearer else "voice",
        "other_party": number(get(other)),
        "duration_seconds": value["callDuration"],
        "cause_for_closing": cause,
        "call_reference": joined(entity, hexed(value["callReference"])),
        "partial_sequence": get("sequenceNumber", 0),
        "is_last_partial": cause not in (1, 2),
    }  # fmt: skip


def _packet(name: str, value: dict[str, Any], kind: Any) -> dict[str, Any]:
    get = value.get
    own, gateway = {
        "sgsnPDPRecord": ("sgsnAddress", "ggsnAddressUsed"),
        "sGWRecord": ("s-GWAddress", "p-GWAddressUsed"),
        "pGWRecord": ("p-GWAddress", None),
        "ePDGRecord": ("ePDGAddressUsed", "p-GWAddressUsed"),
        "tWAGRecord": ("tWAGAddressUsed", "p-GWAddressUsed"),
    }[name]
    cause = cause_number(kind._cont["causeForRecClosing"], value["causeForRecClosing"])
    traffic, services = get("listOfTrafficVolumes"), get("listOfServiceData")
    volumes: dict[str, int | None] = {"uplink_octets": None, "downlink_octets": None}
    for column, flow, fbc in (
        ("uplink_octets", "dataVolumeGPRSUplink", "datavolumeFBCUplink"),
        ("downlink_octets", "dataVolumeGPRSDownlink", "datavolumeFBCDownlink"),
    ):
        if services is not None:
            volumes[column] = sum(each.get(fbc, 0) for each in services)
        elif traffic is not None:
            volumes[column] = sum(each.get(flow, 0) for each in traffic)
    groups = {each["ratingGroup"] for each in services or ()}
    cell = located(get("userLocationInformation"))[0]
    if name == "sgsnPDPRecord":
        cell = area_cell(get("locationAreaCode"), get("cellIdentifier"))
    return volumes | started(value["recordOpeningTime"]) | {
        "service": "data",
        "direction": "mo",
        "served_imsi": tbcd(get("servedIMSI")),
        "served_imei": tbcd(get("servedIMEI")),
        "served_msisdn": number(get("servedMSISDN")),
        "duration_seconds": value["duration"],
        "apn": get("accessPointNameNI"),
        "serving_plmn": plmn(get("servingNodePLMNIdentifier")),
        "cell_id": cell,
        "rating_group": groups.pop() if len(groups) == 1 else None,
        "cause_for_closing": cause,
        "call_reference": joined(
            address(get(own)), address(get(gateway)) if gateway else None, str(value["chargingID"])
        ),
        "partial_sequence": get("recordSequenceNumber", 0),
        "is_last_partial": not (16 <= cause <= 27 or cause == 1),
    }  # fmt: skip


def _sgsn_message(name: str, value: dict[str, Any], kind: Any) -> dict[str, Any]:
    get = value.get
    entity, time = number(get("recordingEntity")), hexed(value["eventTimeStamp"])
    key = (entity, time, hexed(get("messageReference")))
    if name == "sgsnSMTRecord":
        key = (entity, number(get("serviceCentre")), time)
    other = get("destinationNumber", get("originatingAddress"))
    return started(value["eventTimeStamp"]) | {
        "service": "sms",
        "direction": "mo" if name == "sgsnSMORecord" else "mt",
        "served_imsi": tbcd(get("servedIMSI")),
        "served_imei": tbcd(get("servedIMEI")),
        "served_msisdn": number(get("servedMSISDN")),
        "other_party": message_number(other),
        "serving_plmn": plmn(get("servingNodePLMNIdentifier")),
        "cell_id": area_cell(get("locationArea"), get("cellIdentifier")),
        "cause_for_closing": 3 if "smsResult" in value else 0,
        "call_reference": joined(*key),
    }


def _correspondent(info: dict[str, Any] | None, prefix: str) -> str | None:
    if not info:
        return None
    if f"{prefix}MSISDN" in info:
        return number(info[f"{prefix}MSISDN"])
    other = info.get(f"{prefix}OtherAddress", {})
    data = other.get("sMAddressData")
    return "+" + data if data and other.get("sMAddressType") == "mSISDN" else data


def _centre_message(name: str, value: dict[str, Any], kind: Any) -> dict[str, Any]:
    get = value.get
    recipients = get("recipientInfo")
    if isinstance(recipients, list):
        recipients = recipients[0] if recipients else None
    parties = (("originator", get("originatorInfo")), ("recipient", recipients))
    served, other = parties if "MO" in name else parties[::-1]
    context = [hexed(value["eventtimestamp"])]
    if name.startswith("sC"):
        context.insert(0, number(value["sMSNodeAddress"]))
    key = joined(*context, hexed(get("messageReference"))) or joined(*context)
    cell, network = located(get("userLocationInfo"))
    is_report = get("sMMessageType") == "deliveryReport"
    return started(value["eventtimestamp"]) | {
        "record_type": "smsDeliveryReport" if is_report else name,
        "service": None if is_report else "sms",
        "direction": "mo" if "MO" in name else "mt",
        "served_imsi": tbcd((served[1] or {}).get(f"{served[0]}IMSI")),
        "served_imei": tbcd(get("servedIMEI")) if name.startswith("sC") else None,
        "served_msisdn": _correspondent(served[1], served[0]),
        "other_party": _correspondent(other[1], other[0]),
        "cell_id": cell,
        "serving_plmn": network,
        "cause_for_closing": 3 if "sMSResult" in value else 0,
        "call_reference": key,
    }


PARTY_ORDER = ("iSDN-E164", "tEL-URI", "sIP-URI", "externalId")


def _party(*choices: tuple[str, str]) -> str | None:
    found = {}
    for form, text in choices:
        found.setdefault(form, text)
    for form in PARTY_ORDER:
        if form in found:
            return "+" + found[form] if form == "iSDN-E164" else found[form]
    return None


def _dialled_number(uri: str | None) -> str | None:
    match = re.match(r"(?:tel:|sip:)?(\+?\d+)(?:[@;]|$)", re.sub("[-.()]", "", uri or ""))
    return match[1] if match else None


def _shown(uri: str | None) -> str | None:
    return _dialled_number(uri) or uri


def _ims(name: str, value: dict[str, Any], kind: Any) -> dict[str, Any]:
    get = value.get

    def one(element: str) -> str | None:
        return _party(value[element]) if element in value else None

    calling = _party(*get("list-Of-Calling-Party-Address", ()))
    called, asked = one("called-Party-Address"), one("requested-Party-Address")
    subscriptions: dict[str, str] = {}
    for each in get("list-of-subscription-ID", ()):
        subscriptions.setdefault(each["subscriptionIDType"], each["subscriptionIDData"])
    diversions = [
        each for each in get("mMTelInformation", {}).get("listOfSupplServices", ())
        if each["serviceType"] in (6, "cDIVersion")
    ]  # fmt: skip
    role = {"originating": "mo", "terminating": "mt"}.get(get("role-of-Node", ""))
    direction = "forwarded" if diversions else role
    by = diversions[0].get("associated-Party-Address") if diversions else None
    diverting = _party(by) if by else None
    served = {"forwarded": diverting, "mo": calling, "mt": called, None: None}[direction]
    other = {"forwarded": called, "mo": asked or called, "mt": calling, None: None}[direction]
    e164 = subscriptions.get("eND-USER-E164")
    method = get("sIP-Method", "INVITE").upper()
    service = {"INVITE": "voice", "MESSAGE": "sms"}.get(method)
    cell, network = located(get("userLocationInformation"))
    if "accessNetworkInformation" in value:
        said = value["accessNetworkInformation"].decode().split("=46001")[1]
        cell, network = cell or f"{said[:4]}-{said[4:]}", network or "46001"
    cause = None
    if "causeForRecordClosing" in value:
        cause = kind._cont["causeForRecordClosing"]._cont[value["causeForRecordClosing"]]
    key = text_or_hex(get("iMS-Charging-Identifier")) or get("session-Id")
    return _lasting(value, cause) | {
        "record_type": name if service else "imsEvent",
        "service": service,
        "direction": direction,
        "served_msisdn": (_dialled_number(diverting) if diversions else None)
        or ("+" + e164 if e164 else None)
        or _dialled_number(served),
        "served_imsi": subscriptions.get("eND-USER-IMSI"),
        "other_party": _shown(other),
        "cell_id": cell,
        "serving_plmn": network,
        "call_reference": f"{name.removesuffix('Record')}|{key}" if key else None,
        "cause_for_closing": cause,
    }


def _lasting(value: dict[str, Any], cause: int | None) -> dict[str, Any]:
    get = value.get

    def utc(octets: bytes | None) -> datetime | None:
        found = moment(octets)
        return found[0] - timedelta(minutes=found[1]) if found else None

    goes_on = cause in (3, 4, 5)
    is_partial = goes_on or "recordSequenceNumber" in value
    delivered, opened = get("serviceDeliveryStartTimeStamp"), get("recordOpeningTime")
    begin = delivered
    if is_partial and delivered and opened and utc(opened) > utc(delivered):  # type: ignore[operator]
        begin = opened
    end = get("serviceDeliveryEndTimeStamp") or (get("recordClosureTime") if is_partial else None)
    duration: int | None = 0
    if delivered:
        start_at, end_at = utc(begin), utc(end)
        duration = None
        if start_at and end_at and end_at >= start_at:
            duration = int((end_at - start_at).total_seconds())
    return started(begin, get("serviceRequestTimeStamp"), opened) | {
        "duration_seconds": duration,
        "partial_sequence": get("recordSequenceNumber", 0),
        "is_last_partial": not goes_on,
    }


def _agent(agent: dict[str, Any] | None) -> str | None:
    if not agent:
        return None
    form, data = agent["mMSAgentAddressData"]
    return number(data) if form == "mSISDN" else text_or_hex(data)


def _multimedia(name: str, value: dict[str, Any], kind: Any) -> dict[str, Any]:
    get = value.get
    row = {"service": "mms", "call_reference": text_or_hex(value["messageID"])}
    served = {"mMO1SRecord": "originatorAddress", "mMR1RtRqRecord": "recipientAddress",
              "mMFRecord": "forwardingAddress"}[name]  # fmt: skip
    form, data = value[served]["mMSAgentAddressData"]
    row["served_msisdn"] = number(data) if form == "mSISDN" else None
    if name == "mMR1RtRqRecord":
        row |= started(get("recordTimeStamp"), get("submissionTime"))
        row |= {"direction": "mt", "other_party": _agent(get("senderAddress"))}
        row |= {"sp_id": text_or_hex(get("vaspID")), "content_id": text_or_hex(get("vasID"))}
    else:
        others = value["recipientAddresses"]
        row["other_party"] = _agent(others[0] if others else None)
        row["direction"] = "mo" if name == "mMO1SRecord" else "forwarded"
        row |= started(get("submissionTime"), get("recordTimeStamp"))
    row["serving_plmn"] = plmn(get("sGSNPLMNIdentifier"))
    for element in ("requestStatusCode", "mmStatusCode"):
        if element in value:
            row["cause_for_closing"] = cause_number(kind._cont[element], value[element])
    return row


_FAMILIES: tuple[tuple[tuple[str, ...], Callable[..., dict[str, Any]]], ...] = (
    (("moCallRecord", "mtCallRecord", "moSMSRecord", "mtSMSRecord"), _circuit),
    (("sgsnPDPRecord", "sGWRecord", "pGWRecord", "ePDGRecord", "tWAGRecord"), _packet),
    (("sgsnSMORecord", "sgsnSMTRecord"), _sgsn_message),
    (("sCSMORecord", "sCSMTRecord", "iSMSMORecord", "iSMSMTRecord"), _centre_message),
    (("sCSCFRecord", "aSRecord", "mMTelRecord"), _ims),
    (("mMO1SRecord", "mMR1RtRqRecord", "mMFRecord"), _multimedia),
)
