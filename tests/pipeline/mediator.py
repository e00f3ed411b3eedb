"""What mediation should make of some switch records, told record by record in plain Python."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

WAIT = timedelta(hours=48)


@dataclass(frozen=True)
class Call:
    """One record as a switch writes it; `part` 0 is a whole call."""

    served: str
    other: str
    reference: str
    seconds: int
    part: int = 0
    is_last: bool = True

    @property
    def key(self) -> tuple[str, str, bool]:
        return self.served, self.reference, self.part > 0


@dataclass
class SentFile:
    """A file of calls, as it is known here."""

    file_id: str
    received_at: datetime
    calls: list[Call]
    corrections: dict[int, dict[str, str]] = field(default_factory=dict)

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
    if not (call.served.isdigit() and 8 <= len(call.served) <= 15):
        return Outcome("rejected", "invalid_msisdn")
    if not call.reference:
        return Outcome("rejected", "invalid_identity")
    if not call.other:
        return Outcome("rejected", "invalid_other_party")
    if call.other == "110":
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
    parts: dict[tuple[str, str, bool], list[tuple[int, Record, SentFile]]] = defaultdict(list)
    seen: set[tuple[tuple[str, str, bool], int]] = set()
    for sent in sorted(files, key=lambda each: (each.received_at, each.file_id)):
        for number in range(1, len(sent.calls) + 1):
            call, record = sent.call(number), (sent.file_id, number)
            verdict = judge(call)
            if verdict is not None and verdict.outcome == "rejected":
                outcomes[record] = verdict
            elif (call.key, call.part) in seen:
                outcomes[record] = Outcome("duplicate")
            else:
                seen.add((call.key, call.part))
                if verdict is None and call.part:
                    parts[call.key].append((call.part, record, sent))
                elif verdict is None:
                    outcomes[record] = Outcome("standard")
                    usage[call.served, call.other, call.seconds, 1, False] += 1
                else:
                    outcomes[record] = verdict
    for found in parts.values():
        found.sort(key=lambda each: each[0])
        calls = [sent.call(record[1]) for _, record, sent in found]
        is_whole = calls[-1].is_last and [call.part for call in calls] == list(
            range(1, len(calls) + 1)
        )
        is_waiting = not is_whole and max(sent.received_at for *_, sent in found) + WAIT > now
        for _, record, _ in found:
            outcomes[record] = Outcome("merged", "waiting" if is_waiting else None)
        if not is_waiting:
            outcomes[found[0][1]] = Outcome("standard")
            seconds = sum(call.seconds for call in calls)
            usage[calls[0].served, calls[0].other, seconds, len(calls), not is_whole] += 1
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
