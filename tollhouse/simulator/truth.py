"""What the platform must find: exact counts of every outcome, overall and by file.

`truth.json` is written last, so its presence says that the simulated carrier is complete.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tollhouse.simulator import network
from tollhouse.simulator.faults import FILTER_REASONS, REJECT_REASONS, Faulty, filter_codes
from tollhouse.simulator.network import DATA, VOICE
from tollhouse.simulator.population import Population

OUTCOMES = ("standard", "merged", "duplicate", "rejected", "filtered")
STANDARD, MERGED, DUPLICATE, REJECTED, FILTERED = range(5)
LATE_AFTER_S = 24 * 3_600


class TruthError(RuntimeError):
    """The truth file is not one this version can read; the message says what to do."""


@dataclass(frozen=True)
class Truth:
    """Parameters of the simulation, totals, counts by file, and where file faults are.

    `totals["files"]` counts every file on disk, duplicate files included; all record counts, and
    `files`, leave the duplicate files out. `long_calls` counts calls and data sessions in parts,
    incomplete ones included.
    """

    parameters: dict[str, Any]
    totals: dict[str, Any]
    files: dict[str, dict[str, int]]
    faults: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> Truth | None:
        """The truth in a file; None if there is no file."""
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise TruthError(
                f"{path} cannot be read ({error}): delete it and simulate again"
            ) from error

    def write(self, path: Path) -> None:
        """Write the file whole: it appears by a rename."""
        part = path.with_name(f".{path.name}.part")
        with part.open("w", encoding="utf-8") as sink:
            json.dump(asdict(self), sink, ensure_ascii=False, indent=1, sort_keys=True)
            sink.write("\n")
            sink.flush()
            os.fsync(sink.fileno())
        part.replace(path)


def outcomes(faulty: Faulty, population: Population) -> NDArray[np.uint8]:
    """Outcome of every record (index into OUTCOMES).

    Of two records with one identity the later is the duplicate: by arrival of the file, then its
    name, then the place in it.
    """
    found = faulty.records
    outcome = np.where(found.part > 1, MERGED, STANDARD).astype(np.uint8)
    outcome[filter_codes(found, population) > 0] = FILTERED
    by_arrival = sorted(
        range(len(faulty.files)),
        key=lambda index: (faulty.files[index].received, faulty.files[index].file_id),
    )
    rank = np.empty(len(by_arrival), dtype=np.int64)
    rank[by_arrival] = np.arange(len(by_arrival))
    position = rank[faulty.file_of] * 2**32 + faulty.record_numbers()
    copies = np.flatnonzero(faulty.copy_of >= 0)
    originals = faulty.copy_of[copies]
    outcome[np.where(position[copies] > position[originals], copies, originals)] = DUPLICATE
    outcome[faulty.fault > 0] = REJECTED
    return outcome


def state_truth(faulty: Faulty, population: Population, *, parameters: dict[str, Any]) -> Truth:
    """Count everything."""
    found = faulty.records
    outcome = outcomes(faulty, population)
    filtered = filter_codes(found, population)
    kept = outcome <= MERGED
    is_standard = outcome == STANDARD
    parts = kept & (found.part > 0)
    long_references = np.unique(found.reference[parts])
    ended = np.unique(found.reference[parts & found.is_last])
    sessions = np.unique(found.reference[parts & (found.service == DATA)])
    is_stranger = (found.party >= population.size) & (
        found.party < population.size + population.strangers
    )
    by_outcome = {name: int((outcome == code).sum()) for code, name in enumerate(OUTCOMES)}
    late = [file.file_id for file in faulty.files if file.received > file.created + LATE_AFTER_S]
    miscounted = [file.file_id for file in faulty.files if file.count_error]
    resent = {copy.file_id: faulty.files[index].file_id for index, copy in faulty.resent}
    missing_source, missing_number = faulty.missing_sequence
    totals = {
        "raw_records": len(found),
        "files": len(faulty.files) + len(faulty.resent),
        "duplicate_files": len(faulty.resent),
        "late_files": len(late),
        "sequence_gaps": 1,
        "count_mismatch_files": len(miscounted),
        **by_outcome,
        "rejected_by_reason": {
            name: int((faulty.fault == code).sum())
            for code, name in enumerate(REJECT_REASONS)
            if code
        },
        "filtered_by_reason": {
            name: int(((outcome == FILTERED) & (filtered == code)).sum())
            for code, name in enumerate(FILTER_REASONS)
            if code
        },
        "long_calls": len(long_references),
        "incomplete_long_calls": len(long_references) - len(ended),
        "long_calls_by_service": {
            "voice": len(long_references) - len(sessions),
            "data": len(sessions),
        },
        "unknown_subscriber": int((is_standard & is_stranger).sum()),
        "standard_by_service": {
            name: int((is_standard & (found.service == code)).sum())
            for code, name in enumerate(network.SERVICES)
        },
        "octets": int(found.uplink[kept].sum() + found.downlink[kept].sum()),
        "voice_seconds": int(found.duration[kept & (found.service == VOICE)].sum(dtype=np.int64)),
        "subscriptions": population.size,
        "subscriptions_leaving": int(population.is_leaving().sum()),
    }
    counts = np.bincount(
        faulty.file_of.astype(np.int64) * len(OUTCOMES) + outcome,
        minlength=len(faulty.files) * len(OUTCOMES),
    ).reshape(-1, len(OUTCOMES))
    files = {
        file.file_id: {
            "raw": sum(row),
            **dict(zip(OUTCOMES, row, strict=True)),
        }
        for file, row in zip(faulty.files, counts.tolist(), strict=True)
    }
    return Truth(
        parameters=parameters,
        totals=totals,
        files=files,
        faults={
            "duplicate_files": resent,
            "late_files": late,
            "count_mismatch_files": miscounted,
            "truncated_files": [file.file_id for file in faulty.files if file.is_truncated],
            "missing_sequence_numbers": {
                network.SOURCES[missing_source].source_id: [missing_number]
            },
        },
    )
