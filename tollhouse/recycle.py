"""Rejected records from the command line 错单处理: what was typed, as a selection and a change."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from datetime import date, datetime, time
from typing import Any, TextIO
from zoneinfo import ZoneInfo

from operational.control.models import RejectedRecord
from operational.control.record_fields import FIELDS
from operational.control.rejects import Change, Replacement, Selection
from operational.i18n import has_message
from tollhouse.settings import Settings

# Columns of the export, in order.
COLUMNS = (
    "file_id", "record_number", "status", "reason_code", "source_id", "province_code",
    "record_format", "received_at", "decode_detail_zh", "decode_detail_en",
    "byte_offset", "byte_length", *FIELDS,
    "raw_record",
)  # fmt: skip
SELECTORS = ("source", "reason", "file", "format", "since", "status")
STATES = ("open", "corrected")


class TypedError(ValueError):
    """What was typed cannot be understood; the message says how it is written."""


def selection_of(settings: Settings, typed: dict[str, str | None]) -> Selection:
    """The records that agree with what was typed, by the names in `SELECTORS`.

    Raises TypedError for another name, a state or reason that there is not, or a day that is none.
    """
    if unknown := sorted(set(typed) - set(SELECTORS)):
        raise TypedError(
            f"records are not chosen by {', '.join(unknown)}; choose by {', '.join(SELECTORS)}"
        )
    status, reason = typed.get("status"), typed.get("reason")
    if status not in (None, *STATES):
        raise TypedError(f"a rejected record is {' or '.join(STATES)}, not {status}")
    if reason and not has_message(f"reason.{reason}"):
        raise TypedError(
            f"there is no reason {reason}; `tollhouse rejects --json` shows their codes"
        )
    since = typed.get("since")
    try:
        day = date.fromisoformat(since) if since else None
    except ValueError:
        raise TypedError(f"write the day as 2026-10-31, not {since}") from None
    return Selection(
        source_id=typed.get("source"), reason_code=reason, file_id=typed.get("file"),
        record_format=typed.get("format"), status=status,
        since=datetime.combine(day, time(), ZoneInfo(settings.timezone)) if day else None,
    )  # fmt: skip


def pairs_of(texts: Iterable[str], option: str) -> dict[str, str]:
    """Texts like `name=value` (several may stand in one, with commas between) as a dictionary.

    A value holds a comma only where `option` is `--set`, which takes one pair a time.
    """
    pairs: dict[str, str] = {}
    for typed in texts:
        for part in [typed] if option == "--set" else typed.split(","):
            name, sign, value = part.strip().partition("=")
            if not (sign and name and value):
                raise TypedError(f"write {option} name=value, not {part.strip()!r}")
            if name in pairs:
                raise TypedError(f"{option} {name} is given twice")
            pairs[name] = value
    return pairs


def replacement_of(typed: str | None) -> Replacement | None:
    """A text like `field:pattern:replacement` as a replacement; `\\:` is a colon in one of them."""
    if typed is None:
        return None
    parts = _split(typed)
    if len(parts) != 3 or not parts[0] or not parts[1]:
        raise TypedError(
            f"write --replace field:pattern:replacement (\\: for a colon), not {typed!r}"
        )
    return Replacement(*parts)


def change_of(sets: Sequence[str], replace: str | None, *, as_received: bool) -> Change:
    """What was typed as a change."""
    change = Change(pairs_of(sets, "--set"), replacement_of(replace), as_received)
    if not change.fields:
        raise TypedError(
            "say what is to be corrected: --set field=value or --replace; to have the records"
            " judged again as they are: tollhouse rejects recycle"
        )
    return change


def _split(typed: str) -> list[str]:
    parts, current, is_escaped = [], "", False
    for character in typed:
        if is_escaped:
            current += character if character == ":" else f"\\{character}"
            is_escaped = False
        elif character == "\\":
            is_escaped = True
        elif character == ":":
            parts.append(current)
            current = ""
        else:
            current += character
    return [*parts, current + ("\\" if is_escaped else "")]


def as_document(record: RejectedRecord) -> dict[str, Any]:
    """A rejected record as plain values, by the names in `COLUMNS`."""
    detail = record.detail
    made = {
        "received_at": record.received_at.isoformat(),
        "decode_detail_zh": detail.zh if detail else None,
        "decode_detail_en": detail.en if detail else None,
    }
    return {name: made[name] if name in made else getattr(record, name) for name in COLUMNS}


def write_csv(records: Iterable[RejectedRecord], sink: TextIO) -> int:
    """Write records as CSV with a header line; returns how many. Memory does not grow with them."""
    writer = csv.DictWriter(sink, COLUMNS)
    writer.writeheader()
    count = 0
    for record in records:
        writer.writerow(as_document(record))
        count += 1
    return count
