"""What goes wrong on the way, placed on purpose so that it can be counted exactly.

No record carries two faults: each fault picks among records that are still clean (whole calls,
served by an owned number, not filtered, without a copy, outside truncated files).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tollhouse.simulator import network
from tollhouse.simulator.civil_time import Window
from tollhouse.simulator.delivery import CdrFile, Delivery, named, skip_sequence_number
from tollhouse.simulator.network import DATA, MO, VOICE
from tollhouse.simulator.numbering import Random, stream
from tollhouse.simulator.population import Population
from tollhouse.simulator.traffic import Records

REJECT_REASONS = (
    "", "field_count", "truncated", "malformed", "invalid_msisdn", "invalid_time",
    "invalid_duration", "invalid_other_party", "unknown_service",
)  # fmt: skip
(
    NONE, FIELD_COUNT, TRUNCATED, MALFORMED, INVALID_MSISDN, INVALID_TIME,
    INVALID_DURATION, INVALID_OTHER_PARTY, UNKNOWN_SERVICE,
) = range(9)  # fmt: skip
FILTER_REASONS = ("", "test_number", "emergency", "unanswered")

# Records of each fault at 2,000 subscribers.
_TEXT_MALFORMED, _PACKET_MALFORMED = 40, 20
_RECORD_FAULTS = {
    FIELD_COUNT: 60,
    INVALID_MSISDN: 60,
    INVALID_TIME: 60,
    INVALID_DURATION: 60,
    INVALID_OTHER_PARTY: 40,
    UNKNOWN_SERVICE: 30,
}
_UNKNOWN_SUBSCRIBERS = 200
_DUPLICATES_IN_FILE = 300
_DUPLICATES_ACROSS_FILES = 300
_LATE_S = 3 * 86_400


@dataclass(frozen=True)
class Faulty:
    """The records with their faults, sorted by file and place in it.

    `begins[i]:begins[i + 1]` are the records of `files[i]`; `copy_of` is the row of the other
    record of a duplicate pair (for the injected copy only), else -1.
    """

    records: Records
    fault: NDArray[np.uint8]
    file_of: NDArray[np.int32]
    copy_of: NDArray[np.int64]
    files: tuple[CdrFile, ...]
    begins: NDArray[np.int64]
    resent: tuple[tuple[int, CdrFile], ...]  # duplicate files: index of the original, the copy
    missing_sequence: tuple[int, int]  # source, number

    def record_numbers(self) -> NDArray[np.int64]:
        """Number of each record in its file, from 1."""
        return np.arange(len(self.records)) - self.begins[self.file_of] + 1


def filter_codes(found: Records, population: Population) -> NDArray[np.uint8]:
    """Index into FILTER_REASONS of every record, 0 for those to be rated."""
    is_voice = found.service == VOICE
    emergency = (
        is_voice & (found.prefix == network.PLAIN) & np.isin(found.other, network.EMERGENCY_NUMBERS)
    )
    test = found.party >= population.size + population.strangers
    unanswered = is_voice & (found.duration == 0)
    return np.select([test, emergency, unanswered], [1, 2, 3], 0).astype(np.uint8)


def inject(
    found: Records, delivery: Delivery, population: Population, *, seed: int, window: Window
) -> Faulty:
    """Place every fault once or more, in proportion to the carrier's size."""
    rng = stream(seed, "faults")

    def scaled(base: int) -> int:
        return population.scaled(base, days=window.days)

    clean = (found.part == 0) & (filter_codes(found, population) == 0)
    files, gap_source, gap_number = skip_sequence_number(delivery.files, rng=rng)
    files, resent_files, truncated_rows = _file_faults(rng, files, delivery, clean, window)
    fault = np.zeros(len(found), dtype=np.uint8)
    fault[truncated_rows] = TRUNCATED
    truncated_files = np.array([file.is_truncated for file in files])
    clean &= ~truncated_files[delivery.file_of]

    def pick(eligible: NDArray[np.bool_], count: int) -> NDArray[np.int64]:
        candidates = np.flatnonzero(eligible & clean)
        rows = np.sort(rng.choice(candidates, min(count, len(candidates)), replace=False))
        clean[rows] = False
        return rows

    is_packet = (found.source >= network.FIRST_PACKET_SOURCE) & (
        found.source < network.ROAMING_SOURCE
    )
    is_roaming = found.source == network.ROAMING_SOURCE
    calls_out = (found.direction == MO) & (found.service != DATA)
    eligible = {
        FIELD_COUNT: ~is_packet,
        INVALID_OTHER_PARTY: calls_out,
        UNKNOWN_SERVICE: ~is_packet,
    }
    everything = np.ones(len(found), dtype=np.bool_)
    fault[pick(~is_packet & ~is_roaming, scaled(_TEXT_MALFORMED))] = MALFORMED
    fault[pick(is_packet, scaled(_PACKET_MALFORMED))] = MALFORMED
    for code, base in _RECORD_FAULTS.items():
        fault[pick(eligible.get(code, everything), scaled(base))] = code
    party = found.party.copy()
    unknown = pick(~is_roaming, scaled(_UNKNOWN_SUBSCRIBERS))
    party[unknown] = population.size + rng.integers(0, population.strangers, len(unknown))
    found = replace(found, party=party)

    # Copies: parts of long calls may be copied too, faulty and filtered records are not.
    clean |= (found.part > 0) & ~truncated_files[delivery.file_of]
    inside = pick(everything, scaled(_DUPLICATES_IN_FILE))
    later = _later_file(rng, files)
    across = pick(later[delivery.file_of] >= 0, scaled(_DUPLICATES_ACROSS_FILES))
    target = later[delivery.file_of[across]]
    opened = np.array([file.opened for file in files])[target]
    created = np.array([file.created for file in files])[target]
    original = np.concatenate([inside, across])
    return _sorted(
        Records.concatenate([found, found.take(original)]),
        fault=np.concatenate([fault, np.zeros(len(original), dtype=np.uint8)]),
        file_of=np.concatenate([delivery.file_of, delivery.file_of[inside], target]),
        written=np.concatenate(
            [
                delivery.written,
                delivery.written[inside] + rng.integers(0, 3_600, len(inside)),
                opened + ((created - opened) * rng.random(len(across))).astype(np.int64),
            ]
        ),
        copy_of=np.concatenate([np.full(len(found), -1, dtype=np.int64), original]),
        files=files,
        resent=resent_files,
        missing_sequence=(gap_source, gap_number),
    )


def _file_faults(
    rng: Random,
    files: tuple[CdrFile, ...],
    delivery: Delivery,
    clean: NDArray[np.bool_],
    window: Window,
) -> tuple[tuple[CdrFile, ...], tuple[tuple[int, CdrFile], ...], NDArray[np.int64]]:
    """Truncated, miscounted, late and resent files, all different; then the files' names."""
    size = np.bincount(delivery.file_of, minlength=len(files))
    order = np.lexsort((np.arange(len(delivery.file_of)), delivery.written, delivery.file_of))
    last_row = order[np.cumsum(size) - 1]
    times = 2 if window.days >= 10 else 1
    changed = list(files)
    copied: list[int] = []
    truncated: list[int] = []
    for file_format, each in (("switch_cdr", times), ("3gpp_cdr", 1)):
        free = [
            int(index)
            for index in rng.permutation(len(files))
            if network.SOURCES[files[index].source].format == file_format and size[index] >= 3
        ]
        cut = [index for index in free if clean[last_row[index]]][:each]
        free = [index for index in free if index not in cut]
        truncated += cut
        for index in cut:
            changed[index] = replace(changed[index], is_truncated=True)
        for index in free[:1]:
            changed[index] = replace(changed[index], count_error=int(rng.integers(1, 4)))
        for index in free[1 : 1 + each]:
            lateness = _LATE_S + int(rng.integers(0, 86_400))
            changed[index] = replace(changed[index], received=changed[index].created + lateness)
        copied += free[1 + each : 1 + 2 * each]
    final = tuple(named(file, window) for file in changed)
    resent = []
    for index in sorted(copied):
        sent = final[index].created + 86_400
        copy = named(final[index], window, sent=sent)
        resent.append((index, replace(copy, received=sent + 600)))
    return final, tuple(resent), last_row[np.array(truncated, dtype=np.int64)]


def _later_file(rng: Random, files: tuple[CdrFile, ...]) -> NDArray[np.int64]:
    """For every file a later, sound one of the same source (one to three on), or -1."""
    later = np.full(len(files), -1, dtype=np.int64)
    for index, file in enumerate(files):
        following = [
            step
            for step in range(index + 1, min(index + 4, len(files)))
            if files[step].source == file.source and not files[step].is_truncated
        ]
        if following:
            later[index] = rng.choice(following)
    return later


def _sorted(
    found: Records,
    *,
    fault: NDArray[np.uint8],
    file_of: NDArray[np.int64],
    written: NDArray[np.int64],
    copy_of: NDArray[np.int64],
    files: tuple[CdrFile, ...],
    resent: tuple[tuple[int, CdrFile], ...],
    missing_sequence: tuple[int, int],
) -> Faulty:
    order = np.lexsort((np.arange(len(file_of)), written, file_of))
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    copy_of = copy_of[order]
    return Faulty(
        records=found.take(order),
        fault=fault[order],
        file_of=file_of[order].astype(np.int32),
        copy_of=np.where(copy_of >= 0, place[copy_of], -1),
        files=files,
        begins=np.searchsorted(file_of[order], np.arange(len(files) + 1)),
        resent=resent,
        missing_sequence=missing_sequence,
    )
