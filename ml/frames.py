"""The subscription marts as data frames, cut to what was known at the end of a cycle."""

from __future__ import annotations

import hashlib
from calendar import monthrange
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import pandas as pd

from tollhouse.warehouse import Warehouse

HISTORY_DAYS = 90  # further back than any feature or training cut-off looks
MARGIN_CYCLES = 3  # cycles the value score averages the margin over

USAGE_COLUMNS = ("voice_mo_seconds", "voice_mt_seconds", "sms_count", "data_octets")
DAY_COLUMNS = (
    "subscription_id", "usage_date", "province_code", *USAGE_COLUMNS, "usage_charge_amount",
)  # fmt: skip
MONTH_COLUMNS = (
    "subscription_id", "cycle_id", "province_code", "offering_id", "monthly_fee_amount",
    "tenure_days", "left_date", "charge_amount", "settlement_cost_amount",
    "settlement_income_amount",
)  # fmt: skip


class MissingMartError(RuntimeError):
    """A mart the scores are made from is absent or empty; the message says which step makes it."""


@dataclass(frozen=True)
class SubscriptionFrames:
    """What the scores are made from.

    `days` has one row per subscription and civil day it was valid (``DAY_COLUMNS``), `months` one
    per subscription and cycle (``MONTH_COLUMNS``, amounts as exact decimals). `as_of` is the last
    day of the cycle on which anybody used anything: a cycle that is still running, or was simulated
    for a few days only, is scored as of its last day of data.
    """

    days: pd.DataFrame
    months: pd.DataFrame
    as_of: date
    fingerprint: str

    @property
    def first_day(self) -> date:
        """The first day of the history on which anybody used anything."""
        used = self.days[list(USAGE_COLUMNS)].sum(axis=1) > 0
        return _as_date(self.days.loc[used, "usage_date"].min())


def cycle_bounds(cycle: str) -> tuple[date, date]:
    """First and last civil day of a cycle ('2026-10')."""
    year, month = (int(part) for part in cycle.split("-"))
    return date(year, month, 1), date(year, month, monthrange(year, month)[1])


def load_frames(warehouse: Warehouse, cycle: str) -> SubscriptionFrames:
    """Read the marts up to the end of `cycle`.

    Raises:
        MissingMartError: a table is absent, or the cycle has no usage.
    """
    for table in ("dm.subscription_day", "dm.subscription_month"):
        if not warehouse.has_table(table):
            raise MissingMartError(f"{table} is not there: run the step build_marts first")
    first, last = cycle_bounds(cycle)
    used = " + ".join(USAGE_COLUMNS)
    as_of = warehouse.rows(
        f"select max(usage_date) from dm.subscription_day"  # noqa: S608 - our own column names
        f" where usage_date between ? and ? and {used} > 0",
        [first, last],
    )[0][0]
    if as_of is None:
        raise MissingMartError(
            f"dm.subscription_day holds no usage in cycle {cycle}: land and rate its files, run "
            "build_marts, then score again"
        )
    days = warehouse.frame(
        f"select {', '.join(DAY_COLUMNS)} from dm.subscription_day"  # noqa: S608
        " where usage_date > ? and usage_date <= ? order by subscription_id, usage_date",
        [as_of - timedelta(days=HISTORY_DAYS), as_of],
    )
    days["usage_date"] = pd.to_datetime(days["usage_date"]).astype("datetime64[s]")
    months = pd.DataFrame(
        warehouse.rows(
            f"select {', '.join(MONTH_COLUMNS)} from dm.subscription_month"  # noqa: S608
            " where cycle_id <= ? order by subscription_id, cycle_id",
            [cycle],
        ),
        columns=list(MONTH_COLUMNS),
    )
    recent = sorted(months["cycle_id"].unique())[-MARGIN_CYCLES:]
    months = months[months["cycle_id"].isin(recent)].reset_index(drop=True)
    return SubscriptionFrames(days, months, as_of, _fingerprint(days, months))


def _fingerprint(*frames: pd.DataFrame) -> str:
    """Twelve hex digits that are the same exactly when all rows are the same."""
    digest = hashlib.sha256()
    for frame in frames:
        hashes = pd.util.hash_pandas_object(frame.astype("str"), index=False)
        digest.update(hashes.to_numpy().tobytes())
    return digest.hexdigest()[:12]


def _as_date(value: Any) -> date:
    return pd.Timestamp(value).date()
