"""Which record goes into which file: daily ones of the elements, weekly ones of the clearing house.

A record is written when its call or session (or part of it) ends, and files are numbered without
holes per source; a day with more than 50,000 records is cut into several files.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tollhouse.simulator import network
from tollhouse.simulator.civil_time import Window, utc_datetime
from tollhouse.simulator.numbering import Random, stream
from tollhouse.simulator.traffic import Records

RECORDS_PER_FILE = 50_000
WEEK = 7


@dataclass(frozen=True)
class CdrFile:
    """A file to be written, with its faults; times are UTC seconds."""

    source: int  # index into SOURCES
    sequence: int
    opened: int
    created: int
    received: int
    name: str
    is_truncated: bool = False
    count_error: int = 0  # declared record count minus the real one

    @property
    def file_id(self) -> str:
        """The file's name in the journal: source and file name."""
        return f"{network.SOURCES[self.source].source_id}/{self.name}"


@dataclass(frozen=True)
class Delivery:
    """All files in sending order of each source, and for every record its file and place."""

    files: tuple[CdrFile, ...]
    file_of: NDArray[np.int32]
    written: NDArray[np.int64]  # sort key inside the file


def deliver(found: Records, *, seed: int, window: Window) -> Delivery:
    """Put every record into a file of its source."""
    rng = stream(seed, "delivery")
    written = found.started + found.duration
    file_of = np.empty(len(found), dtype=np.int32)
    files: list[CdrFile] = []
    least = 2 if window.days == 1 else 1  # a lone file could miss no predecessor
    for source in range(len(network.SOURCES)):
        rows = np.flatnonzero(found.source == source)
        rows = rows[np.lexsort((found.part[rows], found.reference[rows], written[rows]))]
        period = _periods(window, source, written[rows])
        sequence = int(rng.integers(100, 400))
        minute = int(rng.integers(20, 90))
        for value in np.unique(period):
            begins, ends = np.searchsorted(period, [value, value + 1])
            pieces = max(least, -(-int(ends - begins) // RECORDS_PER_FILE))
            chunks = [chunk for chunk in np.array_split(rows[begins:ends], pieces) if len(chunk)]
            opened, closed = _period_bounds(window, source, int(value))
            for chunk in chunks:
                is_final = chunk is chunks[-1]
                created = closed + minute * 60 if is_final else int(written[chunk[-1]]) + 300
                file_of[chunk] = len(files)
                files.append(
                    CdrFile(
                        source=source,
                        sequence=sequence,
                        opened=opened,
                        created=created,
                        received=created + int(rng.integers(300, 1_200)),
                        name="",
                    )
                )
                sequence += 1
                opened = created
    return Delivery(tuple(files), file_of, written)


def skip_sequence_number(
    files: tuple[CdrFile, ...], *, rng: Random
) -> tuple[tuple[CdrFile, ...], int, int]:
    """One source leaves out a number in the middle of its files: files, source, number."""
    counts = np.bincount([file.source for file in files], minlength=len(network.SOURCES))
    source = int(rng.choice(np.flatnonzero(counts[: network.ROAMING_SOURCE] >= 2)))
    own = [index for index, file in enumerate(files) if file.source == source]
    after = own[int(rng.integers(1, len(own)))]
    missing = files[after].sequence
    moved = tuple(
        replace(file, sequence=file.sequence + 1)
        if file.source == source and file.sequence >= missing
        else file
        for file in files
    )
    return moved, source, missing


def named(file: CdrFile, window: Window, *, sent: int | None = None) -> CdrFile:
    """The file under the name its format gives it; `sent` is the time in the name."""
    source = network.SOURCES[file.source]
    at = file.created if sent is None else sent
    reading = str(int(window.clock.reading(np.array([at]))[0]))
    if source.format == "3gpp_cdr":  # TS 32.297 clause 6.2
        zone = window.clock.offset_text(at)
        name = f"{source.source_id}_-_{file.sequence}.{reading[:8]}_-_{reading[8:12]}{zone}"
    elif source.format == "switch_cdr":
        name = f"{source.source_id}_{reading[:8]}_{file.sequence:06d}.cdr"
    else:
        name = f"{source.source_id}_{utc_datetime(at):%Y%m%d}_{file.sequence:06d}.csv"
    return replace(file, name=name)


def _periods(window: Window, source: int, written: NDArray[np.int64]) -> NDArray[np.int64]:
    day = window.day_of(written)
    if source == network.ROAMING_SOURCE:
        return np.minimum(day, window.days - 1) // WEEK
    return day


def _period_bounds(window: Window, source: int, period: int) -> tuple[int, int]:
    if source == network.ROAMING_SOURCE:
        first, last = period * WEEK, min((period + 1) * WEEK, window.days)
        return int(window.day_starts[first]), int(window.day_starts[last]) + 3_600
    return int(window.day_starts[period]), int(window.day_starts[period + 1])
