"""One run of the simulator: draw the carrier, then write its files, tables and the truth."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from tollhouse.settings import Settings
from tollhouse.simulator import network, packet_files, roaming_files, switch_files
from tollhouse.simulator.civil_time import Window
from tollhouse.simulator.delivery import deliver
from tollhouse.simulator.faults import Faulty, inject
from tollhouse.simulator.population import Population, operational_tables, populate
from tollhouse.simulator.traffic import generate
from tollhouse.simulator.truth import Truth, state_truth

TRUTH_FILE = "truth.json"
MANIFEST_FILE = "files.json"  # raw files a run intends to write, so that they can be removed
_ENCODERS = {
    "switch_cdr": switch_files.encode,
    "3gpp_cdr": packet_files.encode,
    "roaming_cdr": roaming_files.encode,
}
Progress = Callable[[str], None]


def simulate(settings: Settings, *, on_progress: Progress | None = None) -> Truth:
    """Write the raw files, operational tables and truth of a simulated carrier; return the truth.

    The same parameters give the same bytes and file times. Where the truth of these parameters
    is already there nothing is done; otherwise the output of a former run is removed first.
    """
    report = on_progress or (lambda message: None)
    window = Window.of(cycle=settings.cycle, days=settings.days, zone=settings.timezone)
    parameters = parameters_of(settings)
    truth_path = settings.seed_dir / TRUTH_FILE
    truth = Truth.read(truth_path)
    if truth is not None and truth.parameters == parameters:
        report("the simulated carrier is there already")
        return truth
    _remove_former_output(settings)
    report(f"drawing {settings.subscribers} subscribers")
    population = populate(size=settings.subscribers, seed=settings.seed, window=window)
    report(f"drawing the traffic of {window.days} days")
    traffic = generate(population, seed=settings.seed, window=window)
    faulty = inject(
        traffic,
        deliver(traffic, seed=settings.seed, window=window),
        population,
        seed=settings.seed,
        window=window,
    )
    settings.seed_dir.mkdir(parents=True, exist_ok=True)
    _write_manifest(settings, faulty, window)
    _write_raw_files(settings, faulty, population, window, report)
    report("writing the operational tables")
    _write_operational_tables(settings, population, window)
    truth = state_truth(faulty, population, parameters=parameters)
    truth.write(truth_path)
    os.utime(truth_path, (window.ends, window.ends))
    report(f"{truth.totals['raw_records']} raw records in {truth.totals['files']} files")
    return truth


def parameters_of(settings: Settings) -> dict[str, Any]:
    """What a simulated carrier depends on: same parameters, same files."""
    return {
        "subscribers": settings.subscribers,
        "cycle": settings.cycle,
        "days": Window.of(cycle=settings.cycle, days=settings.days, zone=settings.timezone).days,
        "seed": settings.seed,
        "timezone": settings.timezone,
    }


def _remove_former_output(settings: Settings) -> None:
    """Delete what an earlier run wrote, complete or not; other files in the folders stay."""
    (settings.seed_dir / TRUTH_FILE).unlink(missing_ok=True)
    manifest = settings.seed_dir / MANIFEST_FILE
    if manifest.exists():
        for file_id in json.loads(manifest.read_text(encoding="utf-8")):
            path = settings.landing_dir / file_id
            path.unlink(missing_ok=True)
            _part(path).unlink(missing_ok=True)
    shutil.rmtree(settings.seed_dir, ignore_errors=True)


def _write_manifest(settings: Settings, faulty: Faulty, window: Window) -> None:
    file_ids = [file.file_id for file in faulty.files]
    file_ids += [copy.file_id for _, copy in faulty.resent]
    path = settings.seed_dir / MANIFEST_FILE
    _write(path, (json.dumps(sorted(file_ids), indent=0) + "\n").encode(), at=window.ends)


def _write_raw_files(
    settings: Settings,
    faulty: Faulty,
    population: Population,
    window: Window,
    report: Progress,
) -> None:
    """Encode and write one file at a time, so that memory holds one file's bytes."""
    for source in network.SOURCES:
        (settings.landing_dir / source.source_id).mkdir(parents=True, exist_ok=True)
    copies = dict(faulty.resent)
    source_before = -1
    for index, file in enumerate(faulty.files):
        if file.source != source_before:
            report(f"writing the files of {network.SOURCES[file.source].source_id}")
            source_before = file.source
        rows = np.arange(faulty.begins[index], faulty.begins[index + 1])
        encode = _ENCODERS[network.SOURCES[file.source].format]
        content = encode(file, faulty.records.take(rows), faulty.fault[rows], population, window)
        _write(settings.landing_dir / file.file_id, content, at=file.received)
        if index in copies:
            copy = copies[index]
            _write(settings.landing_dir / copy.file_id, content, at=copy.received)


def _write_operational_tables(settings: Settings, population: Population, window: Window) -> None:
    folder = settings.seed_dir / "operational"
    folder.mkdir(parents=True, exist_ok=True)
    tables = operational_tables(population, seed=settings.seed, window=window)
    for name, table in tables.items():
        path = folder / f"{name}.parquet"
        pq.write_table(table, path)
        os.utime(path, (window.ends, window.ends))


def _write(path: Path, content: bytes, *, at: int) -> None:
    """Write a file whole: it appears by a rename, with the given modification time."""
    part = _part(path)
    part.write_bytes(content)
    os.utime(part, (at, at))
    part.replace(path)


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")
