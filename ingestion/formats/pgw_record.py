"""The fields of a packet gateway's record: tag tables after 3GPP TS 32.298 (Release 15).

Tags are the record's context-specific tag numbers; what the fields mean is described in the clause
beside each table. `USED` fields become columns; the others are known, skipped and not counted as
unknown.
"""

from __future__ import annotations

# PGWRecord, TS 32.298 clause 5.1.2.2 (field descriptions), outermost tag of GPRSRecord.
RECORD_TAG = 79

# Name of a used field -> tag number. Constructed fields carry bit 0x20 in their identifier.
USED: dict[str, int] = {
    "recordType": 0,
    "servedIMSI": 3,
    "p-GWAddress": 4,
    "chargingID": 5,
    "servingNodeAddress": 6,
    "accessPointNameNI": 7,
    "recordOpeningTime": 13,
    "duration": 14,
    "causeForRecClosing": 15,
    "recordSequenceNumber": 17,
    "servedMSISDN": 22,
    "servingNodePLMNIdentifier": 27,
    "servedIMEI": 29,
    "rATType": 30,
    "listOfServiceData": 34,
}
CONSTRUCTED = frozenset({"p-GWAddress", "servingNodeAddress", "listOfServiceData"})

# Tag numbers of the other fields of PGWRecord.
OTHER_TAGS = frozenset(
    {8, 9, 11, 12, 16, 18, 19, 20, 21, 23, 24, 25, 28, 31, 32, 33, *range(35, 48), *range(49, 63)}
    | {*range(64, 74)}
)

# ChangeOfServiceCondition, an element of listOfServiceData, TS 32.298 clause 5.1.2.2 (List of
# Service Data).
SERVICE_USED: dict[str, int] = {
    "ratingGroup": 1,
    "datavolumeFBCUplink": 12,
    "datavolumeFBCDownlink": 13,
}
SERVICE_OTHER_TAGS = frozenset(
    {*range(2, 11), 14, *range(16, 31), 32, 33, *range(35, 43)},
)

# GSNAddress (an IPAddress): alternatives by identifier octet, TS 32.298 clause 5.1.1.
IPV4_BINARY, IPV6_BINARY, IPV4_TEXT, IPV6_TEXT = 0x80, 0x81, 0x82, 0x83


def identifier(number: int, *, constructed: bool = False) -> int:
    """The identifier octets of a context-specific tag as one number (X.690 clause 8.1.2)."""
    leading = 0xA0 if constructed else 0x80
    return leading | number if number < 31 else (leading | 0x1F) << 8 | number
