"""Raw files in bulk: the simulator's encoders on plain columns, as fast as they go.

Not a carrier's month: the calls are drawn alike all day, so that a file costs next to nothing to
make. What is in them is known: long calls in two parts, copies, numbers that are none.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np

from tollhouse.simulator import faults, network, packet_files, switch_files
from tollhouse.simulator.civil_time import Window
from tollhouse.simulator.delivery import CdrFile
from tollhouse.simulator.population import Population
from tollhouse.simulator.traffic import Records, records

SUBSCRIBERS = 200_000
RECORDS_PER_FILE = 20_000
PARTS_OF = 50  # every so many records two are the parts of one call
COPY_OF = 1_000  # every so many records one is a copy of the one before
REJECT_OF = 1_000  # every so many records one has a number that is none
FORMATS = {"switch_cdr": "MSC-44", "3gpp_cdr": "PGW-44"}

_WINDOW = Window.of(cycle="2026-10", days=None, zone="Asia/Shanghai")


def write_files(folder: Path, raw_format: str, first: int, count: int) -> Counter[str]:
    """Write files of `count` records, numbered from `first` on; returns what is in them.

    Args:
        folder: landing folder of all sources.
        raw_format: a key of `FORMATS`.
        first: number of the first record; a multiple of `RECORDS_PER_FILE`.
        count: how many records; likewise.
    """
    source_id = FORMATS[raw_format]
    source = next(
        index for index, each in enumerate(network.SOURCES) if each.source_id == source_id
    )
    encode = switch_files.encode if raw_format == "switch_cdr" else packet_files.encode
    population = _population()
    target = folder / source_id
    target.mkdir(parents=True, exist_ok=True)
    found: Counter[str] = Counter()
    for begin in range(first, first + count, RECORDS_PER_FILE):
        sequence = begin // RECORDS_PER_FILE + 1
        batch, fault = _batch(source, begin, is_packet=raw_format == "3gpp_cdr")
        opened = int(batch.started.min())
        created = int((batch.started + batch.duration).max()) + 60
        name = (
            f"{source_id}_20261001_{sequence:06d}.cdr"
            if raw_format == "switch_cdr"
            else f"{source_id}_-_{sequence}.20261001_-_1200+0800"
        )
        file = CdrFile(source, sequence, opened, created, created, name)
        path = target / name
        path.write_bytes(encode(file, batch, fault, population, _WINDOW))
        os.utime(path, (created, created))
        found["raw"] += len(batch)
        found["rejected"] += int((fault > 0).sum())
        found["merged"] += int((batch.part == 2).sum())
        found["duplicate"] += _copies(begin)
    found["standard"] = found["raw"] - found["rejected"] - found["merged"] - found["duplicate"]
    return found


def _copies(begin: int) -> int:
    row = np.arange(begin, begin + RECORDS_PER_FILE)
    return int((row % COPY_OF == COPY_OF - 1).sum())


def _batch(source: int, begin: int, *, is_packet: bool) -> tuple[Records, np.ndarray]:
    row = np.arange(begin, begin + RECORDS_PER_FILE)
    # The record is the original's in everything: reference, party, start.
    is_copy = row % COPY_OF == COPY_OF - 1
    origin = np.where(is_copy, row - 1, row)
    is_second = origin % PARTS_OF == 1
    is_part = is_second | (origin % PARTS_OF == 0)
    call = np.where(is_second, origin - 1, origin)
    dice = (call * 2_654_435_761) % 4_294_967_296
    fault = np.where(row % REJECT_OF == REJECT_OF // 2 + 7, faults.INVALID_MSISDN, 0).astype(
        np.uint8
    )
    is_voice = (dice % 3 > 0) | is_part
    seconds = np.where(is_voice, 1 + dice // 7 % 900, 0)
    batch = records(
        RECORDS_PER_FILE,
        source=source,
        service=_service(is_voice, is_packet=is_packet),
        direction=dice // 11 % 2 if not is_packet else 0,
        party=dice // 13 % SUBSCRIBERS,
        started=_WINDOW.begins + call % 1_000_000 * 2 + np.where(is_second, 900, 0),
        duration=np.where(is_packet, 600, seconds),
        cell=(dice % 50) * 65_536 + dice // 17 % 60,  # 3,000 cells
        prefix=network.PLAIN,
        other=13_000_000_000 + dice % 999_999_999 if not is_packet else -1,
        trunk_out=1 if not is_packet else 0,
        reference=1 + call,
        part=np.where(is_second, 2, np.where(is_part, 1, 0)),
        is_last=~is_part | is_second,
        cause=np.where(is_part & ~is_second, 17, 0) if is_packet else 16,
        uplink=dice % 1_000_000 if is_packet else 0,
        downlink=dice % 50_000_000 if is_packet else 0,
    )
    return batch, fault


def _service(is_voice: np.ndarray, *, is_packet: bool) -> np.ndarray:
    """Service codes of the simulator's network."""
    if is_packet:
        return np.full(len(is_voice), network.DATA)
    return np.where(is_voice, network.VOICE, network.SMS)


def _population() -> Population:
    number = np.arange(SUBSCRIBERS, dtype=np.int64)
    nobody = np.zeros(0, np.int64)
    return Population(
        size=SUBSCRIBERS, strangers=0, test_numbers=0,
        msisdns=8_618_600_000_000 + number * 37,
        imsis=460_010_000_000_000 + number * 41,
        imeis=86_000_000_000_000 + number * 43,
        province=nobody, plan=nobody, account=nobody, customer_of_account=nobody,
        is_business_account=np.zeros(0, np.bool_), valid_from=nobody, valid_to=nobody,
        free_msisdns=(),
    )  # fmt: skip
