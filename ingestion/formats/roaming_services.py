"""What TAP3 and NRTRDE call services and directions alike."""

from __future__ import annotations

import numpy as np

from ingestion.formats.ber import BoolArray, IntArray
from ingestion.formats.ber_stream import Columns

SERVICES = ["voice", "sms", "data", "vas"]
VOICE, SMS, DATA, VAS = range(4)
DIRECTIONS = ["mo", "mt", "forwarded"]
MO, MT, FORWARDED = range(3)
_FIRST_SMS, _LAST_SMS = 0x20, 0x22  # teleservice codes, TS 22.003 in the coding of TS 29.002


def teleservices(columns: Columns) -> tuple[BoolArray, BoolArray]:
    """Whether a call event has a teleservice code, and whether that is one of a short message."""
    code, has_code = columns.codes("teleservice")
    return has_code, has_code & (code >= _FIRST_SMS) & (code <= _LAST_SMS)


def directions_of_calls(
    size: int, is_received: BoolArray, may_be_forwarded: BoolArray, has_third_party: BoolArray
) -> IntArray:
    """Received calls are `MT`; one made that names a third party was forwarded to the other."""
    direction = np.full(size, MO, np.int64)
    direction[is_received] = MT
    direction[may_be_forwarded & has_third_party] = FORWARDED
    return direction
