"""A synthetic carrier's marts, with a churn signal that is known because it was put there."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from ml.frames import DAY_COLUMNS, MONTH_COLUMNS
from tollhouse.settings import Settings
from tollhouse.warehouse import open_warehouse

CYCLE = "2026-10"
PLANS = {"plan-4g-56": Decimal(56), "plan-4g-106": Decimal(106), "plan-4g-296": Decimal(296)}


@dataclass(frozen=True)
class Marts:
    days: pd.DataFrame
    months: pd.DataFrame


def make_marts(
    subscribers: int, *, daily_hazard: float = 0.006, cycle: str = CYCLE, seed: int = 7
) -> Marts:
    """A month of daily rows: those who will leave use less and less for some days before."""
    chance = np.random.default_rng(seed)
    year, month = (int(part) for part in cycle.split("-"))
    length = monthrange(year, month)[1]
    first = date(year, month, 1)
    days, months = [], []
    for number in range(1, subscribers + 1):
        key = f"S{number:07d}"
        province = str(chance.choice(["11", "44", "51"]))
        plan = str(chance.choice(list(PLANS)))
        level = float(chance.lognormal(0, 0.6))
        onset = int(chance.geometric(daily_hazard)) if daily_hazard else 10_000
        goes_quietly = bool(chance.random() < 0.5)  # falls silent instead of leaving
        gone = onset + 9
        left: date | None = None
        totals = np.zeros(4, dtype=np.int64)
        charge = Decimal(0)
        for day in range(1, length + 1):
            if day > gone and not goes_quietly:
                left = first + timedelta(days=gone - 1)
                break
            fading = 0.75 ** max(0, day - onset) if day <= gone else 0.0
            usage = np.array(
                [
                    chance.poisson(300 * level * fading),
                    chance.poisson(240 * level * fading),
                    chance.poisson(1.2 * level * fading),
                    chance.poisson(30 * level * fading) * 1048576,
                ],
                dtype=np.int64,
            ) * int(chance.random() < 0.9)
            cost = Decimal(int(usage[2])) / 10
            totals += usage
            charge += cost
            days.append((key, first + timedelta(days=day - 1), province, *usage.tolist(), cost))
        end = left or first + timedelta(days=length - 1)
        months.append(
            (
                key, cycle, province, plan, PLANS[plan], int(chance.integers(40, 2000)) + end.day,
                left, PLANS[plan] + charge, Decimal(int(totals[0])) / 1000,
                Decimal(int(totals[1])) / 1000,
            )
        )  # fmt: skip
    day_frame = pd.DataFrame(days, columns=list(DAY_COLUMNS))
    day_frame["usage_date"] = pd.to_datetime(day_frame["usage_date"]).astype("datetime64[s]")
    return Marts(day_frame, pd.DataFrame(months, columns=list(MONTH_COLUMNS)))


def write_marts(settings: Settings, marts: Marts) -> None:
    """Put the frames where the marts would be."""
    day_types = dict(
        zip(
            DAY_COLUMNS,
            ("varchar", "date", "varchar", *["bigint"] * 4, "decimal(18,6)"),
            strict=True,
        )
    )
    month_types = dict(
        zip(
            MONTH_COLUMNS,
            (
                "varchar", "varchar", "varchar", "varchar", "decimal(18,6)", "integer", "date",
                "decimal(18,2)", "decimal(18,6)", "decimal(18,6)",
            ),
            strict=True,
        )
    )  # fmt: skip
    with open_warehouse(settings, "test") as warehouse:
        for table, frame, types in (
            ("dm.subscription_day", marts.days, day_types),
            ("dm.subscription_month", marts.months, month_types),
        ):
            warehouse.execute(f"drop table if exists {table}")
            warehouse.create_table(table, types)
            rows = pa.Table.from_pydict(
                {name: [_plain(value) for value in frame[name]] for name in frame.columns}
            )
            warehouse.append(table, rows)


def _plain(value: object) -> object:
    if isinstance(value, pd.Timestamp):
        return value.date()
    return None if value is pd.NaT else value


@pytest.fixture(scope="session")
def synthetic_marts() -> Marts:
    """1,500 subscribers, October 2026."""
    return make_marts(1500)


@pytest.fixture(scope="session")
def marts_of() -> Callable[..., Marts]:
    """Make marts to order."""
    return make_marts


@pytest.fixture(scope="session")
def put_marts() -> Callable[[Settings, Marts], None]:
    """Write marts into the warehouse of a home."""
    return write_marts


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    """Settings of an empty home."""
    return Settings(home=tmp_path / "home", cycle=CYCLE)
