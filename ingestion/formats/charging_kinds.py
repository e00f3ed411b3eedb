"""What a kind of charging record is: its tags, and how its elements become columns.

The modules of `charging_tags` declare the kinds; `ChargingRecordFormat` decodes all records of one
kind together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.formats.ber import BoolArray, IntArray
from ingestion.formats.charging_fields import Found, Layout

Columns = dict[str, pa.Array]

# Causes for closing (TS 32.298 clause 5.1.2.2, CauseForRecClosing) after which the session goes on
# in a further record: 1 partial record; 16 volume limit, 17 time limit, 18 serving node change,
# 19 most changes of condition, 20 management intervention, 21 intersystem change, 22 RAT change,
# 23 time zone change, 24 PLMN change. 25 to 27 (change of serving gateway, of APN-AMBR, receipt of
# an exception data counter) came with later releases.
FIRST_CONTINUING, LAST_CONTINUING = 16, 27


@dataclass(frozen=True)
class Kind:
    """A kind of record.

    `tag` is its number in the outermost choice, `number` its recordType where that must tell it
    from another kind under the same tag. A kind without `columns` is recognised and not decoded:
    it is nothing a subscriber pays for. `namesakes` are other records under the same tag, by their
    recordType; they are not decoded either.
    """

    name: str
    tag: int
    layout: Layout | None = None
    columns: Callable[[Found], Columns] | None = None
    number: int | None = None
    namesakes: Mapping[int, str] = field(default_factory=dict)


def constant(value: str, count: int) -> pa.Array:
    """The same text for every record."""
    return pa.repeat(pa.scalar(value, pa.string()), count)


def integer(value: IntArray, is_present: BoolArray) -> pa.Array:
    """A column of numbers."""
    return pa.array(value, mask=~is_present)


def first_of(*columns: pa.Array) -> pa.Array:
    """Of every row the first value there is."""
    return pc.coalesce(*columns)


def reference(key: pa.Array, *context: pa.Array) -> pa.Array:
    """What tells a call from others: `context` and key joined by '|', null without the key."""
    text = key if pa.types.is_string(key.type) else key.cast(pa.string())
    if not context:
        return text
    # Arrow 26 leaves a row out of the result when all of its values are null and skipped.
    key_or_nothing = pc.fill_null(text, "")
    joined = pc.binary_join_element_wise(*context, key_or_nothing, "|", null_handling="skip")
    return pc.if_else(pc.is_valid(text), joined, pa.scalar(None, pa.string()))


def closing(found: Found, cause: str, sequence: str) -> Columns:
    """Cause, part and whether it is the last, from a cause and a sequence number."""
    cause_value, has_cause = found.number(cause, 4)
    part, has_part = found.number(sequence, 4)
    goes_on = ((cause_value >= FIRST_CONTINUING) & (cause_value <= LAST_CONTINUING)) | (
        cause_value == 1
    )
    return {
        "cause_for_closing": integer(cause_value, has_cause),
        "partial_sequence": pa.array(np.where(has_part, part, 0)),
        "is_last_partial": pa.array(has_cause & ~goes_on),
    }


def total(quantity: IntArray, row: IntArray, count: int) -> IntArray:
    """Sum of the items of each row."""
    value = np.zeros(count, np.int64)
    np.add.at(value, row, quantity)
    return value


def only_one(value: IntArray, is_present: BoolArray, row: IntArray, count: int) -> pa.Array:
    """The value all items of a row share; null where they differ or there is none."""
    lowest = np.full(count, np.iinfo(np.int64).max)
    highest = np.full(count, np.iinfo(np.int64).min)
    np.minimum.at(lowest, row[is_present], value[is_present])
    np.maximum.at(highest, row[is_present], value[is_present])
    return pa.array(np.where(lowest == highest, lowest, 0), mask=lowest != highest)


FAILED = 3  # as CauseForTerm `unsuccessfulCallAttempt`


def identity_of_sent(found: Found, time: str) -> pa.Array:
    """Call reference of a message sent: its own, the recording entity and the time."""
    return reference(
        found.hexadecimal("messageReference"),
        found.address("recordingEntity"),
        found.hexadecimal(time, 9),
    )


def identity_of_received(found: Found, time: str) -> pa.Array:
    """Call reference of a message received, which has none of its own: time, entity and centre."""
    return reference(
        found.hexadecimal(time, 9),
        found.address("recordingEntity"),
        found.address("serviceCentre"),
    )


def outcome_of_message(found: Found, result: str) -> Columns:
    """Cause of a short message: a record says only of a failed one how it went (smsResult)."""
    failed = found.has(result)
    return {"cause_for_closing": pa.array(np.where(failed, FAILED, 0))}
