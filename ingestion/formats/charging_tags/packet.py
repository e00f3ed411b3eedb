"""Packet domain: records of SGSN, serving and packet gateway, ePDG and TWAG (TS 32.298 5.2.2.2).

One session is reported by several nodes; each node's record becomes a row, told apart by
`record_type`. Volumes are those of the service data containers where the record has any, else of
its traffic volume containers. Containers are added up; `rating_group` is set only if all service
containers of the record have the same.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.formats import ber
from ingestion.formats.ber import BoolArray, IntArray
from ingestion.formats.charging_fields import Found, Layout, plmn
from ingestion.formats.charging_kinds import (
    Columns,
    Kind,
    closing,
    constant,
    first_of,
    integer,
    only_one,
    reference,
    total,
)
from ingestion.formats.charging_tags.unrated import OTHERS_OF_20, OTHERS_OF_78, OTHERS_OF_79

# ChangeOfServiceCondition, an item of listOfServiceData: TS 32.298 clause 5.1.2.2 (List of Service
# Data).
SERVICE = Layout.of(
    simple={"ratingGroup": 1, "datavolumeFBCUplink": 12, "datavolumeFBCDownlink": 13},
    others={*range(2, 11), 14, *range(16, 31), 32, 33, *range(35, 43)},
)

# ChangeOfCharCondition, an item of listOfTrafficVolumes: clause 5.1.2.2 (List of Traffic Data
# Volumes).
TRAFFIC = Layout.of(
    simple={"dataVolumeGPRSUplink": 3, "dataVolumeGPRSDownlink": 4},
    others={1, 2, 5, 6, *range(8, 24)},
)

# What the records of SGW, PGW, ePDG and TWAG have in common: clause 5.1.2.2.
GATEWAY_SIMPLE = {
    "recordType": 0,
    "servedIMSI": 3,
    "chargingID": 5,
    "accessPointNameNI": 7,
    "recordOpeningTime": 13,
    "duration": 14,
    "causeForRecClosing": 15,
    "recordSequenceNumber": 17,
    "servedMSISDN": 22,
    "servedIMEI": 29,
}
LOCATED = {"servingNodePLMNIdentifier": 27, "userLocationInformation": 32}
GATEWAY_OTHERS = {8, 9, 11, 16, 18, 19, 20, 21, 23, 24, 25, 30}

PGW_RECORD = Layout.of(
    simple=GATEWAY_SIMPLE | LOCATED,
    nested={"nodeAddress": 4, "listOfTrafficVolumes": 12, "listOfServiceData": 34},
    others=GATEWAY_OTHERS | {6, 28, 31, 33, *range(35, 48), *range(49, 63), *range(64, 74)},
)
SGW_RECORD = Layout.of(
    simple=GATEWAY_SIMPLE | LOCATED,
    nested={"nodeAddress": 4, "listOfTrafficVolumes": 12, "gatewayAddress": 36},
    others=GATEWAY_OTHERS | {6, 31, 34, 35, *range(37, 45), *range(47, 58), *range(59, 65)},
)
EPDG_RECORD = Layout.of(
    simple=GATEWAY_SIMPLE,
    nested={"nodeAddress": 4, "listOfTrafficVolumes": 12, "gatewayAddress": 36},
    others=GATEWAY_OTHERS | {34, *range(37, 41), 43, 47, 48, *range(50, 56)},
)
TWAG_RECORD = Layout.of(
    simple=GATEWAY_SIMPLE,
    nested={"nodeAddress": 4, "listOfTrafficVolumes": 12, "gatewayAddress": 36},
    others=GATEWAY_OTHERS | {34, *range(37, 41), 43, 47, 48, *range(50, 55)},
)
# SGSNPDPRecord: clause 5.1.2.2.
SGSN_RECORD = Layout.of(
    simple={
        "recordType": 0,
        "servedIMSI": 3,
        "servedIMEI": 4,
        "locationAreaCode": 8,
        "cellIdentifier": 9,
        "chargingID": 10,
        "accessPointNameNI": 12,
        "recordOpeningTime": 16,
        "duration": 17,
        "causeForRecClosing": 19,
        "recordSequenceNumber": 21,
        "servedMSISDN": 27,
        "servingNodePLMNIdentifier": 38,
    },
    nested={"nodeAddress": 5, "gatewayAddress": 11, "listOfTrafficVolumes": 15},
    others={1, 6, 7, 13, 14, 18, 20, 22, 23, 24, 25, 26, *range(28, 38), 39},
)


def session(found: Found) -> Columns:
    """The columns of one node's record of a session."""
    count = found.count
    duration = found.quantity("duration")
    charging_id = integer(*found.number("chargingID"))
    node = found.ip("nodeAddress")
    if "gatewayAddress" in found.fields:
        call_reference = reference(charging_id, node, found.ip("gatewayAddress"))
    else:
        call_reference = reference(charging_id, node)
    columns = {
        "service": constant("data", count),
        "direction": constant("mo", count),
        "served_imsi": found.digits("servedIMSI"),
        "served_msisdn": found.address("servedMSISDN"),
        "served_imei": found.digits("servedIMEI"),
        "duration_seconds": integer(*duration),
        "apn": found.text("accessPointNameNI", 100),
        "call_reference": call_reference,
        **found.moments("recordOpeningTime").columns(),
        **closing(found, "causeForRecClosing", "recordSequenceNumber"),
        **_volumes(found),
    }
    if "servingNodePLMNIdentifier" in found.fields:
        columns["serving_plmn"] = found.network("servingNodePLMNIdentifier")
    if "userLocationInformation" in found.fields:
        columns["cell_id"] = located_cell(found, "userLocationInformation")[0]
    if "cellIdentifier" in found.fields:
        columns["cell_id"] = area_and_cell(found, "locationAreaCode", "cellIdentifier")
    return columns


def _volumes(found: Found) -> Columns:
    count = found.count
    uplink, downlink, has_traffic = _added_up(
        found, "listOfTrafficVolumes", TRAFFIC, "dataVolumeGPRSUplink", "dataVolumeGPRSDownlink"
    )
    group = pa.nulls(count, pa.int64())
    if "listOfServiceData" in found.fields:
        items, row = found.items("listOfServiceData", SERVICE)
        group = only_one(*items.number("ratingGroup"), row, count)
        has_service = found.has("listOfServiceData")
        service_up, _ = items.quantity("datavolumeFBCUplink")
        service_down, _ = items.quantity("datavolumeFBCDownlink")
        uplink = np.where(has_service, total(service_up, row, count), uplink)
        downlink = np.where(has_service, total(service_down, row, count), downlink)
        has_traffic = has_traffic | has_service
    return {
        "uplink_octets": integer(uplink, has_traffic),
        "downlink_octets": integer(downlink, has_traffic),
        "rating_group": group,
    }


def _added_up(
    found: Found, name: str, layout: Layout, up: str, down: str
) -> tuple[IntArray, IntArray, BoolArray]:
    """Octets up and down of the containers of a list, and which records have the list."""
    is_present = found.has(name)
    if not is_present.any():
        nothing = np.zeros(found.count, np.int64)
        return nothing, nothing, is_present
    items, row = found.items(name, layout)
    uplink = total(items.quantity(up)[0], row, found.count)
    return uplink, total(items.quantity(down)[0], row, found.count), is_present


# User location information, TS 29.274 clause 8.21: bits of the first octet say which of these
# follow, in this order, of how many octets.
_PARTS = (
    ("CGI", 0x01, 7),
    ("SAI", 0x02, 7),
    ("RAI", 0x04, 7),
    ("TAI", 0x08, 5),
    ("ECGI", 0x10, 7),
)
# By the first octet: where the parts end.
_PARTS_END = np.array(
    [1 + sum(size for _, bit, size in _PARTS if flags & bit) for flags in range(256)], np.int64
)


def located_cell(found: Found, name: str) -> tuple[pa.Array, pa.Array]:
    """Area and cell in hexadecimal, joined by '-', and the network (TS 29.274 clause 8.21).

    The area is the location area code with the cell or service area of a CGI or SAI, the tracking
    area code with the E-UTRAN cell of an ECGI. Null where there is no cell.
    """
    field = found.fields[name]
    octets = found.decoding.octets
    is_present = field.is_present & (field.length >= 1)
    end = np.where(is_present, _PARTS_END[octets[field.start]], 1)
    is_short = is_present & (field.length < end)
    found.decoding.miss(
        is_short, found.record,
        lambda row: found.decoding.said("shorter_than_flags", name, field.start[row]),
    )  # fmt: skip
    usable = is_present & ~is_short
    width = int(end[usable].max(initial=1))
    different, places = ber.distinct(field.matrix(octets, width))
    cells, networks = _cells(different)
    return ber.texts_of(cells, places, usable), ber.texts_of(networks, places, usable)


def _cells(locations: ber.Octets) -> tuple[pa.Array, pa.Array]:
    """Cell and network of user locations; what stands behind one in its row is not looked at."""
    count, width = locations.shape
    octets = np.concatenate((locations.reshape(-1), np.zeros(ber.PADDING, np.uint8)))
    start = np.arange(count, dtype=np.int64) * width
    flags = locations[:, 0]
    at = {}
    cursor = start + 1
    for kind, bit, size in _PARTS:
        at[kind] = cursor
        cursor = cursor + np.where(flags & bit, size, 0)

    def part(kind: str, skip: int, size: int) -> ber.Octets:
        return ber.gather(octets, at[kind] + skip, size)

    has_lte = flags & 0x10 > 0
    has_gsm = (flags & 0x03 > 0) & ~has_lte
    gsm = np.where((flags & 0x01 > 0)[:, None], part("CGI", 0, 7), part("SAI", 0, 7))
    has_area = flags & 0x08 > 0
    # Columns: 4 digits of the area, '-', 8 digits of the cell (E-UTRAN cells have 28 bits).
    characters = np.full((count, 13), ord("-"), np.uint8)
    area = np.where(has_gsm[:, None], gsm[:, 3:5], part("TAI", 3, 2))
    characters[:, 0:4] = ber.hex_digits(area)
    cell = np.where(
        has_gsm[:, None], np.hstack([np.zeros((count, 2), np.uint8), gsm[:, 5:7]]),
        part("ECGI", 3, 4),
    )  # fmt: skip
    characters[:, 5:13] = ber.hex_digits(cell.astype(np.uint8))
    keep = np.ones(characters.shape, bool)
    keep[:, :5] = (has_gsm | has_area)[:, None]
    keep[:, 5] = False
    keep[:, 6:9] = ~has_gsm[:, None]
    has_cell = has_gsm | has_lte
    network = np.where(has_gsm[:, None], gsm[:, :3], part("ECGI", 0, 3)).astype(np.uint8)
    networks = pc.if_else(pa.array(has_cell), plmn(network), pa.scalar(None, pa.string()))
    return pc.utf8_upper(ber.texts(characters, keep, has_cell)), networks


def area_and_cell(found: Found, area: str, cell: str) -> pa.Array:
    """Location area code and cell in hexadecimal, joined by '-'; the cell alone without an area."""
    code, number = found.hexadecimal(area), found.hexadecimal(cell)
    return pc.utf8_upper(first_of(pc.binary_join_element_wise(code, number, "-"), number))


KINDS = (
    Kind("sgsnPDPRecord", 20, SGSN_RECORD, session, number=18, namesakes=OTHERS_OF_20),
    Kind("sGWRecord", 78, SGW_RECORD, session, number=84, namesakes=OTHERS_OF_78),
    Kind("pGWRecord", 79, PGW_RECORD, session, number=85, namesakes=OTHERS_OF_79),
    Kind("ePDGRecord", 96, EPDG_RECORD, session, number=96),
    Kind("tWAGRecord", 97, TWAG_RECORD, session, number=97),
)
