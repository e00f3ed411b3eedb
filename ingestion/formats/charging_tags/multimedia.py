"""Multimedia messages: records of the MMS relay/server (TS 32.298 5.2.4.1, fields 5.1.5).

Rated are submission by the originator (MM1), retrieval by the recipient (MM1) and forwarding; what
relays exchange with each other, with applications and with mailboxes is not. Of several recipients
the first is the other party.
"""

from __future__ import annotations

import pyarrow as pa

from ingestion.formats.charging_fields import Found, Layout
from ingestion.formats.charging_kinds import (
    Columns,
    Kind,
    constant,
    first_of,
    integer,
    reference,
)

# MMO1SRecord, MMR1RtRqRecord, MMFRecord: clause 5.1.5.
SUBMISSION = Layout.of(
    simple={
        "recordType": 0,
        "messageID": 2,
        "submissionTime": 12,
        "status": 16,
        "recordTimeStamp": 25,
        "sGSNPLMNIdentifier": 30,
    },
    nested={"served": 4, "others": 5},
    others={1, 3, *range(6, 12), 13, 14, 15, *range(17, 25), *range(26, 30), 31, 32},
)
RETRIEVAL = Layout.of(
    simple={
        "recordType": 0,
        "messageID": 2,
        "submissionTime": 10,
        "status": 15,
        "recordTimeStamp": 21,
        "vaspID": 25,
        "vasID": 26,
        "sGSNPLMNIdentifier": 27,
    },
    nested={"other": 4, "served": 5},
    others={1, 3, *range(6, 10), *range(11, 15), *range(16, 21), 22, 23, 24, 28, 29},
)
FORWARDING = Layout.of(
    simple={"recordType": 0, "messageID": 2, "status": 11, "recordTimeStamp": 13},
    nested={"served": 3, "others": 4},
    others={1, *range(5, 11), 12, *range(14, 17)},
)
# MMSAgentAddress, MMSAgentAddressData: clause 5.1.5.
AGENT = Layout.of(nested={"mMSAgentAddressData": 0}, others={1})
ADDRESS = Layout.of(simple={"eMail-address": 0, "mSISDN": 1, "shortCode": 2})


def submission(found: Found) -> Columns:
    """The columns of messages that a subscriber sends."""
    sent = found.moments("submissionTime").or_else(found.moments("recordTimeStamp"))
    return {
        "direction": constant("mo", found.count),
        "other_party": agent_address(found.first_item("others", AGENT)),
        "serving_plmn": found.network("sGSNPLMNIdentifier"),
        **sent.columns(),
        **_message(found),
    }


def retrieval(found: Found) -> Columns:
    """The columns of messages that a subscriber fetches, at the time it does."""
    fetched = found.moments("recordTimeStamp").or_else(found.moments("submissionTime"))
    return {
        "direction": constant("mt", found.count),
        "other_party": agent_address(found.inside("other", AGENT)),
        "serving_plmn": found.network("sGSNPLMNIdentifier"),
        "sp_id": found.text_or_octets("vaspID"),
        "content_id": found.text_or_octets("vasID"),
        **fetched.columns(),
        **_message(found),
    }


def forwarding(found: Found) -> Columns:
    """The columns of messages that a subscriber lets the relay forward without fetching them."""
    return {
        "direction": constant("forwarded", found.count),
        "other_party": agent_address(found.first_item("others", AGENT)),
        **found.moments("recordTimeStamp").columns(),
        **_message(found),
    }


def _message(found: Found) -> Columns:
    return {
        "service": constant("mms", found.count),
        "served_msisdn": found.inside("served", AGENT)
        .inside("mMSAgentAddressData", ADDRESS)
        .address("mSISDN"),
        "cause_for_closing": integer(*found.number("status", 4)),
        "call_reference": reference(found.text_or_octets("messageID")),
    }


def agent_address(agent: Found) -> pa.Array:
    """Number, short code or mail address of a user agent."""
    data = agent.inside("mMSAgentAddressData", ADDRESS)
    return first_of(
        data.address("mSISDN"),
        data.text_or_octets("shortCode"),
        data.text_or_octets("eMail-address"),
    )


KINDS = (
    Kind("mMO1SRecord", 30, SUBMISSION, submission, number=30),
    Kind("mMR1RtRqRecord", 41, RETRIEVAL, retrieval, number=41),
    Kind("mMFRecord", 49, FORWARDING, forwarding, number=49),
)
