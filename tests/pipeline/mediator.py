"""What mediation should make of some call records, told record by record in plain Python."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

# How long each source's missing parts are waited for, as its list says: those of the exchange
# longer than any test.
WAITS = {"MSC-44": timedelta(hours=48), "OWN-44": timedelta(hours=87_600)}
ROUTING = "9900"  # stands before ported numbers


@dataclass(frozen=True)
class Call:
    """One record as an exchange writes it; `part` 0 is a whole call."""

    served: str
    other: str
    reference: str
    seconds: int
    part: int = 0
    is_last: bool = True

    @property
    def line(self) -> str:
        """The served number, without what routes it."""
        return self.served.removeprefix(ROUTING)

    @property
    def called(self) -> str:
        """The other party, without what routes it."""
        return self.other.removeprefix(ROUTING)

    @property
    def key(self) -> tuple[str, str, bool]:
        return self.line, self.reference, self.part > 0


@dataclass
class SentFile:
    """A file of calls, as it is known here; `waits` is what its source said when it was landed."""

    file_id: str
    received_at: datetime
    calls: list[Call]
    corrections: dict[int, dict[str, str]] = field(default_factory=dict)
    waits: timedelta | None = None

    @property
    def source(self) -> str:
        return self.file_id.partition("/")[0]

    def call(self, number: int) -> Call:
        """The record of a number, as corrected."""
        found = self.calls[number - 1]
        fixed = self.corrections.get(number, {})
        return replace(
            found, served=fixed.get("served_msisdn", found.served),
            other=fixed.get("other_party", found.other),
        )  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What became of a record."""

    outcome: str
    reason: str | None = None


Record = tuple[str, int]


def judge(call: Call) -> Outcome | None:
    """Why a record is no usage by itself; None if nothing is wrong with it."""
    if not (call.line.isdigit() and 8 <= len(call.line) <= 15):
        return Outcome("rejected", "invalid_msisdn")
    if not call.reference:
        return Outcome("rejected", "invalid_identity")
    if not call.called:
        return Outcome("rejected", "invalid_other_party")
    if call.called == "110":
        return Outcome("filtered", "emergency")
    if call.seconds == 0 and call.part == 0:
        return Outcome("filtered", "unanswered")
    return None


def mediate(
    files: list[SentFile], now: datetime
) -> tuple[dict[Record, Outcome], Counter[tuple[str, str, int, int, bool]]]:
    """Outcome of every record, and the usage (served, other party, seconds, parts, incomplete)."""
    outcomes: dict[Record, Outcome] = {}
    usage: Counter[tuple[str, str, int, int, bool]] = Counter()
    parts: dict[tuple[str, str, str, bool], list[tuple[int, Record, SentFile]]] = defaultdict(list)
    seen: set[tuple[tuple[str, str, str, bool], int]] = set()
    for sent in sorted(files, key=lambda each: (each.received_at, each.file_id)):
        for number in range(1, len(sent.calls) + 1):
            call, record = sent.call(number), (sent.file_id, number)
            verdict = judge(call)
            key = sent.source, *call.key
            if verdict is not None and verdict.outcome == "rejected":
                outcomes[record] = verdict
            elif (key, call.part) in seen:
                outcomes[record] = Outcome("duplicate")
            else:
                seen.add((key, call.part))
                if verdict is None and call.part:
                    parts[key].append((call.part, record, sent))
                elif verdict is None:
                    outcomes[record] = Outcome("standard")
                    usage[call.line, call.called, call.seconds, 1, False] += 1
                else:
                    outcomes[record] = verdict
    for found in parts.values():
        found.sort(key=lambda each: each[0])
        calls = [sent.call(record[1]) for _, record, sent in found]
        is_whole = calls[-1].is_last and [call.part for call in calls] == list(
            range(1, len(calls) + 1)
        )
        waited_until = max(
            sent.received_at + (sent.waits or WAITS[sent.source]) for *_, sent in found
        )
        is_waiting = not is_whole and waited_until > now
        for _, record, _ in found:
            outcomes[record] = Outcome("merged", "waiting" if is_waiting else None)
        if not is_waiting:
            outcomes[found[0][1]] = Outcome("standard")
            seconds = sum(call.seconds for call in calls)
            usage[calls[0].line, calls[0].called, seconds, len(calls), not is_whole] += 1
    return outcomes, usage


def switch_file(sequence: int, calls: list[Call]) -> bytes:
    """The calls as a file of switch MSC-44; all began at eight in the morning of 1 October."""
    lines = [f"HDR|MSC-44|{sequence:06d}|20261001120000|+0800"]
    lines += [
        f"CDR|voice|mo|{call.served}|460010000000001|860000000000017|{call.other}|20261001080000"
        f"|+0800|{call.seconds}|46001|28F1-0A2B||CMCC-44-OUT1|{call.reference}|{call.part}"
        f"|{int(call.is_last)}|0"
        for call in calls
    ]
    lines.append(f"TRL|{len(calls)}|0")
    return ("\n".join(lines) + "\n").encode()


# An exchange of the user's own: another layout, another order of columns, words for what is whole.
OWN_SOURCE = {
    "source_id": "OWN-44", "name_zh": "测试", "name_en": "Test", "format": "own_cdr",
    "province_code": "44", "file_name": r"OWN-44_\d{6}\.txt", "sequence_rule": "continuous",
    "late_after_hours": 24, "long_call_timeout_hours": 87_600,
}  # fmt: skip
OWN_LAYOUT = {
    "name": "own_cdr", "kind": "delimited", "encoding": "gb18030", "delimiter": ";",
    "header": [r"OWN;(?P<source_id>[A-Z0-9-]+);(?P<sequence_number>\d+);(?P<created>\d{14})"],
    "trailer": {"mark": "END", "pattern": r"END;(?P<record_count>\d+)"},
    "columns": ["reference", "kind", "called", "calling", "started", "seconds", "part", "last"],
    "fields": {
        "service": {"column": "kind", "map": {"通话": "voice"}},
        "direction": {"constant": "mo"},
        "served_msisdn": "calling",
        "other_party": "called",
        "started_local": {"column": "started", "format": "%Y-%m-%d %H:%M:%S"},
        "duration_seconds": "seconds",
        "uplink_octets": {"constant": 0},
        "downlink_octets": {"constant": 0},
        "call_reference": "reference",
        "partial_sequence": "part",
        "is_last_partial": {"column": "last", "true_values": ["末"], "false_values": ["续"]},
    },
}  # fmt: skip


def own_file(sequence: int, calls: list[Call]) -> bytes:
    """The calls as a file of exchange OWN-44; all began when those of `switch_file` did."""
    lines = [f"OWN;OWN-44;{sequence};20261001120000"]
    lines += [
        f"{call.reference};通话;{call.other};{call.served};2026-10-01 08:00:00;{call.seconds}"
        f";{call.part};{'末' if call.is_last else '续'}"
        for call in calls
    ]
    lines.append(f"END;{len(calls)}")
    return ("\n".join(lines) + "\n").encode("gb18030")
