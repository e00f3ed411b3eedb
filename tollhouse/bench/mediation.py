"""How fast mediation is, file to standard usage, and in how much memory.

One run: rounds of files are written (not timed), then collected, landed and mediated (timed).
Each round ends with control totals: the outcomes must be those of the records written, and every
standard record one usage.
"""

from __future__ import annotations

import os
import resource
import shutil
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

from tollhouse.bench.load import FORMATS, RECORDS_PER_FILE, write_files
from tollhouse.pipeline import run_step
from tollhouse.postgres import EmbeddedServer
from tollhouse.settings import Settings
from tollhouse.warehouse import open_warehouse

STEPS = ("collect", "land", "mediate")
OUTCOMES = ("standard", "merged", "duplicate", "rejected")


class ControlTotalsDifferError(RuntimeError):
    """What came out is not what was written; a speed without right results means nothing."""


@dataclass
class Round:
    """One round: how many records, and seconds by step."""

    records: int
    seconds: dict[str, float] = field(default_factory=dict)
    peak_mb: int = 0

    @property
    def total_s(self) -> float:
        """Seconds of all steps."""
        return sum(self.seconds.values())

    @property
    def records_per_s(self) -> int:
        """File to standard usage."""
        return round(self.records / self.total_s)


@dataclass(frozen=True)
class Result:
    """All rounds of a run, and what its files had in them and became."""

    raw_format: str
    rounds: list[Round]
    totals: dict[str, int]
    usages: int


def measure(home: Path, raw_format: str, rounds: list[int], history: int = 0) -> Result:
    """Write, collect, land and mediate `rounds` of so many records each, in an empty home.

    Args:
        home: a folder to be made, and deleted after the run.
        raw_format: a key of `FORMATS`.
        rounds: records of each round, multiples of `RECORDS_PER_FILE`.
        history: so many records are mediated before, not in the result: the keys that duplicates
            are looked for among.

    Raises:
        ControlTotalsDifferError: the outcomes are not those of the records written.
    """
    settings = Settings(home=home)
    expected: Counter[str] = Counter()
    done: list[Round] = []
    first = 0
    try:
        run_step("prepare", settings)
        plan = [*_pieces(history), *rounds]
        for number, count in enumerate(plan):
            expected += _write(settings, raw_format, first, count)
            first += count
            this = _run_round(settings, count)
            if number >= len(plan) - len(rounds):
                done.append(this)
            shutil.rmtree(settings.landing_dir)
            totals, usages = _found(settings)
            written = {name: expected[name] for name in OUTCOMES}
            if totals != written or usages != written["standard"]:
                raise ControlTotalsDifferError(
                    f"written: {written}; found: {totals} and {usages} usages"
                )
        return Result(raw_format, done, totals, usages)
    finally:
        EmbeddedServer(home).remove()
        shutil.rmtree(home, ignore_errors=True)


def _pieces(records: int, at_most: int = 5_000_000) -> list[int]:
    return [min(at_most, records - done) for done in range(0, records, at_most)]


def _write(settings: Settings, raw_format: str, first: int, count: int) -> Counter[str]:
    """The files of one round, written by as many processes as there are threads."""
    share = -(-count // settings.threads // RECORDS_PER_FILE) * RECORDS_PER_FILE
    starts = range(first, first + count, share)
    with ProcessPoolExecutor(settings.threads, get_context("spawn")) as pool:
        found = pool.map(
            write_files,
            [settings.landing_dir] * len(starts),
            [raw_format] * len(starts),
            starts,
            [min(share, first + count - start) for start in starts],
        )
        return sum(found, Counter())


def _run_round(settings: Settings, count: int) -> Round:
    this = Round(count)
    worker_mb = 0
    for step in STEPS:
        began = time.perf_counter()
        counts = run_step(step, settings)
        this.seconds[step] = time.perf_counter() - began
        worker_mb = max(worker_mb, counts.get("peak_mb", 0))
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    this.peak_mb = own // 1024 + worker_mb * settings.threads
    return this


def _found(settings: Settings) -> tuple[dict[str, int], int]:
    columns = ", ".join(f"cast(sum({name}_count) as bigint)" for name in OUTCOMES)
    with open_warehouse(settings, "control totals of a benchmark") as warehouse:
        (row,) = warehouse.rows(f"select {columns} from mediation.file_balance")  # noqa: S608
        ((usages,),) = warehouse.rows("select count(*) from mediation.usage")
    return dict(zip(OUTCOMES, row, strict=True)), usages


def hardware() -> str:
    """The machine, for beside the figures."""
    model = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        "unknown processor",
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB"


__all__ = ["FORMATS", "ControlTotalsDifferError", "Result", "Round", "hardware", "measure"]
