"""Reference data (seeds) 参考数据: what they say, refused where a key stands twice or is none.

A calling code or number range listed twice would meet every usage twice.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from functools import cache
from pathlib import Path

import yaml

from tollhouse.warehouse.transform import DBT_PROJECT

SEEDS = DBT_PROJECT / "seeds"


class ReferenceDataError(ValueError):
    """Reference data has a key twice, or a value that is none; the message names file and line."""


def check_reference_data(folder: Path = SEEDS) -> None:
    """Raise ReferenceDataError unless every seed below `folder` keeps to its grain.

    The grain is what the seed's description says, `config.meta.grain`; so is how the values of some
    columns are written, `config.meta.patterns`.
    """
    problems: list[str] = []
    for described in sorted(folder.rglob("*.yml")):
        for seed in yaml.safe_load(described.read_text(encoding="utf-8"))["seeds"]:
            file, meta = described.parent / f"{seed['name']}.csv", seed["config"]["meta"]
            problems += _twice(file, meta["grain"])
            problems += _unlike(file, meta.get("patterns", {}))
    if problems:
        raise ReferenceDataError("\n".join(problems))


@cache
def province_codes() -> frozenset[str]:
    """The codes of the provinces in the reference data, with that of the headquarters."""
    return frozenset(row["province_code"].strip() for row in _rows("province"))


def bill_item_codes() -> frozenset[str]:
    """The bill items there are (seed bill_item)."""
    return frozenset(row["bill_item_code"] for row in _rows("bill_item"))


@cache
def collected_items() -> frozenset[str]:
    """The bill items that are collected for others, and so are no revenue (seed bill_item)."""
    return frozenset(
        row["bill_item_code"] for row in _rows("bill_item") if row["is_revenue"] == "false"
    )


def tax_rate_on(bill_item_code: str, day: date) -> tuple[Decimal, bool] | None:
    """The tax rate of a bill item on a day in percent, and whether it is a share of the net.

    Otherwise it is one of the gross. None for an item or a day that the seeds have no rate for.
    """
    classes = {row["bill_item_code"]: row["tax_class"] for row in _rows("bill_item")}
    tax_class = classes.get(bill_item_code)
    rates = [
        row
        for row in _rows("tax_rate")
        if row["tax_class"] == tax_class and date.fromisoformat(row["valid_from"]) <= day
    ]
    if not rates:
        return None
    newest = max(rates, key=lambda row: date.fromisoformat(row["valid_from"]))
    return Decimal(newest["rate_percent"]), newest["computed_on"] == "net"


def _rows(seed: str) -> list[dict[str, str]]:
    with (SEEDS / "ods" / f"{seed}.csv").open(encoding="utf-8-sig", newline="") as text:
        return list(csv.DictReader(text))


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


def _unlike(file: Path, patterns: dict[str, str]) -> Iterator[str]:
    """The values that are not written as those of their column are."""
    with file.open(encoding="utf-8-sig", newline="") as text:
        rows = csv.DictReader(text)
        for row in rows:
            for name, pattern in patterns.items():
                if not re.fullmatch(pattern, row[name].strip()):
                    yield (
                        f"{file.name}:{rows.line_num}: {name} {row[name]!r} is not like {pattern}:"
                        " correct it 格式不符，请改正"
                    )
