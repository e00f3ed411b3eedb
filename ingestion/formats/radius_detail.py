"""RADIUS accounting as FreeRADIUS writes it down: `detail` files (RFC 2866, RFC 2869).

A record is a line with the time it was received, then a line for each attribute (indented,
`Name = value`), then an empty line. What becomes of them:

* Stop is the session: usage of service `data`, direction `mo`. Octets are the counter plus 2^32 for
  each of the gigawords (RFC 2869 clauses 5.1 and 5.2); input is what the user sent, so uplink.
* Interim updates are not rated: their counters begin with the session, so the Stop has them all.
  Start, Accounting-On and Accounting-Off are no usage either. Their `record_type`s are
  `radiusStart`, `radiusInterimUpdate`, `radiusAccountingOn`, `radiusAccountingOff`, `radiusOther`,
  all without a service. A session whose Stop was lost (the access server was restarted, the network
  was down) is therefore not usage; a Start or interim update without a Stop shows it.
* A session with H.323 attributes is voice, which is not read: service `h323`.

The served number is Calling-Station-Id where that is one, else User-Name (an account of fixed
broadband). A session began at the time of its Stop less its duration. The time of the Stop is
Event-Timestamp, else the time of reception less Acct-Delay-Time; texts are civil time of the
source.
`call_reference` is the access server and Acct-Session-Id.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import BinaryIO

import pyarrow as pa

from ingestion.formats.interface import (
    MALFORMED,
    RAW_RECORD_LIMIT,
    TRUNCATED,
    FileFacts,
    RawFile,
    UnreadableFileError,
)
from ingestion.formats.row_batch import RowBatch
from tollhouse.file_reasons import FileReason

BLOCK_OCTETS = 4 * 2**20  # read at a time
LARGEST_RECORD = 2**18  # a record without an empty line behind so many octets is damaged

_TIME = rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}"
_HEAD = re.compile(rb"\s*" + _TIME + rb"\r?\n[ \t]+[\w.:-]+ [:+]?= ")
# A value in quotes may have line feeds only as `\n`, so a record is a run of lines with text.
_RECORD = re.compile(rb"[^\r\n][^\n]*\n(?:[^\r\n][^\n]*(?:\n|\Z))*|[^\r\n][^\n]*\Z")
_SHAPE = re.compile(
    _TIME + rb"\r?\n(?:[ \t]+[\w.:-]+ [:+]?= (?:\"(?:[^\"\\\n]|\\.)*\"|[^\"\n]*?)[ \t]*\r?\n)+"
)
_WANTED = (
    b"Acct-Status-Type", b"Acct-Session-Id", b"Acct-Session-Time", b"Acct-Input-Octets",
    b"Acct-Output-Octets", b"Acct-Input-Gigawords", b"Acct-Output-Gigawords",
    b"Acct-Terminate-Cause", b"Acct-Delay-Time", b"User-Name", b"Calling-Station-Id",
    b"Called-Station-Id", b"NAS-IP-Address", b"NAS-IPv6-Address", b"NAS-Identifier",
    b"Event-Timestamp", b"Timestamp", b"3GPP-IMSI", b"3GPP-IMEISV", b"3GPP-SGSN-MCC-MNC",
    b"3GPP-Rating-Group", b"h323-conf-id", b"h323-call-origin",
)  # fmt: skip
_ATTRIBUTE = re.compile(
    rb"^[ \t]+(" + b"|".join(_WANTED) + rb') [:+]?= (?:"((?:[^"\\\n]|\\.)*)"|([^\n]*?))[ \t\r]*$',
    re.MULTILINE,
)
_TYPES = {
    "start": "radiusStart", "1": "radiusStart",
    "stop": "radiusStop", "2": "radiusStop",
    "interim-update": "radiusInterimUpdate", "alive": "radiusInterimUpdate",
    "3": "radiusInterimUpdate",
    "accounting-on": "radiusAccountingOn", "7": "radiusAccountingOn",
    "accounting-off": "radiusAccountingOff", "8": "radiusAccountingOff",
}  # fmt: skip
_STOP, _OTHER = "radiusStop", "radiusOther"
# RFC 2866 clause 5.10.
_CAUSES = {
    name: number
    for number, name in enumerate(
        (
            "user-request", "lost-carrier", "lost-service", "idle-timeout", "session-timeout",
            "admin-reset", "admin-reboot", "port-error", "nas-error", "nas-request", "nas-reboot",
            "port-unneeded", "port-preempted", "port-suspended", "service-unavailable", "callback",
            "user-error", "host-request",
        ),
        start=1,
    )
}  # fmt: skip
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_PHONE_NUMBER = re.compile(r"\+?\d{7,15}")
_HARDWARE_ADDRESS = re.compile(r"(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}.*")
_LARGEST_COUNTER = 2**32
_COLUMNS = (
    "record_type", "service", "direction", "served_msisdn", "served_imsi", "served_imei",
    "started_local", "utc_offset_minutes", "duration_seconds", "uplink_octets", "downlink_octets",
    "serving_plmn", "apn", "rating_group", "cause_for_closing", "call_reference",
)  # fmt: skip


@dataclass(frozen=True)
class RadiusDetailFormat:
    """Format `radius_detail`; the block size is for tests."""

    name: str = "radius_detail"
    numbers_files = False
    block_octets: int = BLOCK_OCTETS

    def recognises(self, head: bytes) -> bool:
        """Whether the file begins with a line of a time and attributes, and is accounting."""
        return _HEAD.match(head) is not None and b"Acct-Status-Type" in head

    def read_facts(self, file: RawFile) -> FileFacts:
        """When the first record was received; a detail file has neither sender nor number.

        Raises:
            UnreadableFileError: the file does not begin with an accounting record.
        """
        if not self.recognises(file.head):
            raise UnreadableFileError("no_radius_detail", name=file.name)
        created = _written_time(file.head.split(b"\n", 1)[0].strip().decode("ascii"))
        is_whole = file.tail.replace(b"\r", b"").endswith(b"\n\n")
        return FileFacts(
            created_at=created.replace(tzinfo=file.timezone).astimezone(UTC) if created else None,
            lacks=None if is_whole else FileReason("lacks_empty_line"),
        )

    def decode(self, file: RawFile) -> Iterator[pa.Table]:
        """Every record as a row.

        Raises:
            UnreadableFileError: the file does not begin with an accounting record.
        """
        if not self.recognises(file.head):
            raise UnreadableFileError("no_radius_detail", name=file.name)
        with file.open_stream() as stream:
            yield from self._tables(stream, file.timezone)

    def _tables(self, stream: BinaryIO, zone: tzinfo) -> Iterator[pa.Table]:
        rest, base, line = b"", 0, 1
        while True:
            more = stream.read(self.block_octets)
            content = rest + more
            end = len(content) if not more else _last_empty_line(content)
            if more and not end and len(content) > LARGEST_RECORD:
                end = content.rfind(b"\n") + 1 or len(content)
            if end:
                rows = _read(content[:end], base, line, zone, is_end=not more)
                if len(rows):
                    yield rows.table()
            line += content.count(b"\n", 0, end)
            base += end
            rest = content[end:]
            if not more:
                return


def _last_empty_line(content: bytes) -> int:
    """Where the text behind the last empty line begins, 0 without one."""
    return max(content.rfind(b"\n\n") + 2 if b"\n\n" in content else 0,
               content.rfind(b"\n\r\n") + 3 if b"\n\r\n" in content else 0)  # fmt: skip


def _read(content: bytes, base: int, line: int, zone: tzinfo, *, is_end: bool) -> RowBatch:
    rows = RowBatch(_COLUMNS)
    matches = list(_RECORD.finditer(content))
    starts = [match.start() for match in matches]
    attributes: list[dict[bytes, str]] = [{} for _ in starts]
    for match in _ATTRIBUTE.finditer(content):
        owner = bisect_right(starts, match.start()) - 1
        if owner >= 0:
            value = match[2] if match[2] is not None else match[3]
            attributes[owner].setdefault(match[1], value.decode("utf-8", "replace"))
    for match, found in zip(matches, attributes, strict=True):
        start, end = match.span()
        record = content[start:end]
        code: str | None = None
        if is_end and end == len(content):
            code, why = TRUNCATED, FileReason("no_empty_line")
        elif not _SHAPE.fullmatch(record):
            code, why = MALFORMED, FileReason("not_attributes")
        elif b"Acct-Status-Type" not in found:
            code, why = MALFORMED, FileReason("no_status_type")
        detail = None
        values: dict[str, object] = {}
        is_unreadable = False
        if code:
            number = str(line + content.count(b"\n", 0, start))
            at = str(base + start)
            detail = FileReason("line_at", {"line": number, "at": at, "why": why}).kept()
        else:
            values, is_unreadable = _values(record, found, zone)
        text = record[:RAW_RECORD_LIMIT].decode("utf-8", "replace")
        rows.add(
            base + start, end - start, values, error=code, detail=detail,
            raw_record=text if code or is_unreadable else None,
        )  # fmt: skip
    return rows


def _values(record: bytes, found: dict[bytes, str], zone: tzinfo) -> tuple[dict[str, object], bool]:
    """The columns of a record, and whether one of its attributes could not be read."""
    kind = _TYPES.get(found[b"Acct-Status-Type"].lower(), _OTHER)
    unreadable = False

    def counter(name: bytes, below: int = _LARGEST_COUNTER) -> int | None:
        nonlocal unreadable
        text = found.get(name)
        if text is None:
            return None
        number = int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else None
        if number is None or number >= below:
            unreadable = True
            return None
        return number

    def octets(direction: bytes) -> int | None:
        low = counter(b"Acct-" + direction + b"-Octets")
        high = counter(b"Acct-" + direction + b"-Gigawords", 2**30)
        is_lost = high is None and b"Acct-" + direction + b"-Gigawords" in found
        return None if low is None or is_lost else low + (high or 0) * _LARGEST_COUNTER

    duration = counter(b"Acct-Session-Time")
    server = found.get(b"NAS-IP-Address") or found.get(b"NAS-IPv6-Address")
    server = server or found.get(b"NAS-Identifier") or ""
    session = found.get(b"Acct-Session-Id")
    calling = found.get(b"Calling-Station-Id", "")
    called = found.get(b"Called-Station-Id", "")
    is_voice = b"h323-conf-id" in found or b"h323-call-origin" in found
    is_stop = kind == _STOP
    values: dict[str, object] = {
        "record_type": kind,
        "service": ("h323" if is_voice else "data") if is_stop else None,
        "direction": "mo" if is_stop else None,
        "served_msisdn": calling if _PHONE_NUMBER.fullmatch(calling) else found.get(b"User-Name"),
        "served_imsi": found.get(b"3GPP-IMSI"),
        "served_imei": found.get(b"3GPP-IMEISV"),
        "duration_seconds": duration,
        "uplink_octets": octets(b"Input"),
        "downlink_octets": octets(b"Output"),
        "serving_plmn": found.get(b"3GPP-SGSN-MCC-MNC"),
        "apn": called if called and not _HARDWARE_ADDRESS.fullmatch(called) else None,
        "rating_group": counter(b"3GPP-Rating-Group"),
        "call_reference": f"{server}|{session}" if session else None,
    }
    cause = found.get(b"Acct-Terminate-Cause")
    if cause is not None:
        number = int(cause) if cause.isascii() and cause.isdigit() else _CAUSES.get(cause.lower())
        values["cause_for_closing"] = number if number is not None and number < 2**31 else None
        unreadable = unreadable or values["cause_for_closing"] is None
    ended = _event_time(record, found, counter(b"Acct-Delay-Time") or 0, zone)
    lasted = duration or 0
    is_timed = ended is not None and lasted < 2**31 and (duration is not None or not is_stop)
    if is_timed and ended is not None:
        started = (ended - timedelta(seconds=lasted)).astimezone(zone)
        offset = started.utcoffset() or timedelta()
        values["started_local"] = started.replace(tzinfo=None)
        values["utc_offset_minutes"] = int(offset.total_seconds()) // 60
    else:
        unreadable = unreadable or is_stop
    return values, unreadable


def _event_time(
    record: bytes, found: dict[bytes, str], delay: int, zone: tzinfo
) -> datetime | None:
    """When the event of a record happened."""
    event = found.get(b"Event-Timestamp", "")
    if event:
        moment = _instant(event) or _local(_written_time(event), zone)
        if moment is not None:
            return moment
    received = _instant(found.get(b"Timestamp", ""))
    if received is None:
        line = record.split(b"\n", 1)[0].strip().decode("ascii", "replace")
        received = _local(_written_time(line), zone)
    return received - timedelta(seconds=delay) if received and delay < 2**31 else received


def _instant(text: str) -> datetime | None:
    is_number = text.isascii() and text.isdigit() and len(text) <= 11
    return datetime.fromtimestamp(int(text), UTC) if is_number else None


def _local(time: datetime | None, zone: tzinfo) -> datetime | None:
    return time.replace(tzinfo=zone).astimezone(UTC) if time is not None else None


@lru_cache(maxsize=8192)
def _written_time(text: str) -> datetime | None:
    """`Mon Oct  5 08:30:00 2026` or `Oct  5 2026 08:30:00 CST` as civil time."""
    words = text.split()
    if words and words[0] in ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"):
        words = [*words[1:3], *words[4:5], words[3]] if len(words) == 5 else []
    if len(words) not in (4, 5) or words[0] not in _MONTHS:
        return None
    try:
        hour, minute, second = (int(part) for part in words[3].split(":"))
        month = _MONTHS.index(words[0]) + 1
        # Civil time: whose clock it is, is known to the source.
        return datetime(int(words[2]), month, int(words[1]), hour, minute, second)  # noqa: DTZ001
    except ValueError:
        return None
