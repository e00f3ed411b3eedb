"""Reference data (seeds) 参考数据: refused where a key stands twice, before it prices anything.

A calling code or number range listed twice would meet every usage twice.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import yaml

from tollhouse.warehouse.transform import DBT_PROJECT

SEEDS = DBT_PROJECT / "seeds"


class ReferenceDataError(ValueError):
    """Rows of the reference data have the same key; the message names each pair, file and line."""


def check_reference_data(folder: Path = SEEDS) -> None:
    """Raise ReferenceDataError unless every seed below `folder` keeps to its grain.

    The grain is what the seed's description says, `config.meta.grain`.
    """
    problems = [
        problem
        for described in sorted(folder.rglob("*.yml"))
        for seed in yaml.safe_load(described.read_text(encoding="utf-8"))["seeds"]
        for problem in _twice(
            described.parent / f"{seed['name']}.csv", seed["config"]["meta"]["grain"]
        )
    ]
    if problems:
        raise ReferenceDataError("\n".join(problems))


@cache
def province_codes() -> frozenset[str]:
    """The codes of the provinces in the reference data, with that of the headquarters."""
    with (SEEDS / "ods" / "province.csv").open(encoding="utf-8-sig", newline="") as text:
        return frozenset(row["province_code"].strip() for row in csv.DictReader(text))


def _twice(file: Path, grain: list[str]) -> Iterator[str]:
    first: dict[tuple[str, ...], int] = {}
    with file.open(encoding="utf-8-sig", newline="") as text:
        rows = csv.DictReader(text)
        for row in rows:
            key = tuple(row[name].strip() for name in grain)
            if key in first:
                named = ", ".join(f"{name} {value}" for name, value in zip(grain, key, strict=True))
                yield (
                    f"{file.name}:{rows.line_num}: {named} stands in line {first[key]} already:"
                    f" keep one 与第 {first[key]} 行重复，请保留一行"
                )
            first.setdefault(key, rows.line_num)
