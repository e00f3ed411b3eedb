"""Features of a subscription as they were known at the end of a day."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd

from ml.frames import USAGE_COLUMNS, cycle_bounds

SECONDS_PER_MINUTE = 60
OCTETS_PER_MB = 1048576

# Group of features -> its features. Reasons are given by group.
GROUPS: dict[str, tuple[str, ...]] = {
    "activity": (
        "days_silent", "days_without_own_use", "active_share_recent", "active_share_earlier",
    ),
    "trend": ("voice_trend", "incoming_trend", "data_trend", "charge_trend"),
    "level": (
        "voice_minutes_recent", "incoming_minutes_recent", "sms_recent", "data_mb_recent",
        "charge_recent",
    ),
    "tenure": ("tenure_days",),
    "plan": ("monthly_fee", "offering_id"),
    "area": ("province_code",),
}  # fmt: skip
CATEGORICAL = ("offering_id", "province_code")
NUMERIC = tuple(name for group in GROUPS.values() for name in group if name not in CATEGORICAL)

# Whatever the sample says, longer silence and fewer active days never lower the probability.
MONOTONE = {"days_silent": 1, "days_without_own_use": 1, "active_share_recent": -1}

# Daily measure -> (column of dm.subscription_day, divisor, what counts as "nothing" in a trend)
_MEASURES: dict[str, tuple[str, float, float]] = {
    "voice_minutes": ("voice_mo_seconds", SECONDS_PER_MINUTE, 0.5),
    "incoming_minutes": ("voice_mt_seconds", SECONDS_PER_MINUTE, 0.5),
    "sms": ("sms_count", 1, 0.1),
    "data_mb": ("data_octets", OCTETS_PER_MB, 1.0),
    "charge": ("usage_charge_amount", 1, 0.05),
}
_TRENDS = {
    "voice_trend": "voice_minutes",
    "incoming_trend": "incoming_minutes",
    "data_trend": "data_mb",
    "charge_trend": "charge",
}


def features_as_of(
    days: pd.DataFrame,
    months: pd.DataFrame,
    cut_off: date,
    *,
    lookback_days: int,
    recent_days: int = 4,
) -> pd.DataFrame:
    """One row per subscription valid on `cut_off`, from nothing that happened after it.

    Args:
        days: rows of dm.subscription_day (``ml.frames.DAY_COLUMNS``).
        months: rows of dm.subscription_month. Of a cycle that was not over at the cut-off only the
            facts that stood at its start are read: the plan, its fee and the date of joining.
        cut_off: last civil day whose usage may be seen.
        lookback_days: days looked back over, the cut-off included.
        recent_days: last part of the look-back, compared with the part before it.

    Returns:
        Frame indexed by subscription_id, sorted, with the columns ``NUMERIC`` (float) and
        ``CATEGORICAL`` (text). A rate of a part of the look-back in which the subscription did
        not yet exist is NaN.
    """
    end = pd.Timestamp(cut_off)
    age = (end - days["usage_date"]).dt.days
    seen = days.loc[(age >= 0) & (age < lookback_days)]
    # Sums of floats depend on their order: fix it, or the rows' order would reach the model.
    seen = seen.sort_values(["subscription_id", "usage_date"])
    seen["age"] = age[seen.index].astype(int)
    seen["is_used"] = (seen[list(USAGE_COLUMNS)] > 0).any(axis=1)
    seen["is_own"] = (seen[["voice_mo_seconds", "sms_count", "data_octets"]] > 0).any(axis=1)
    present = seen.loc[seen["age"] == 0].set_index("subscription_id").sort_index()

    features = pd.DataFrame(index=present.index)
    for name, flag in (("days_silent", "is_used"), ("days_without_own_use", "is_own")):
        last_use = seen.loc[seen[flag]].groupby("subscription_id")["age"].min()
        features[name] = last_use.reindex(features.index).fillna(lookback_days).astype(float)

    recent = _daily_means(seen.loc[seen["age"] < recent_days])
    earlier = _daily_means(seen.loc[seen["age"] >= recent_days])
    recent, earlier = recent.reindex(features.index), earlier.reindex(features.index)
    features["active_share_recent"] = recent["active_share"]
    features["active_share_earlier"] = earlier["active_share"]
    for name in _MEASURES:
        features[f"{name}_recent"] = recent[name]
    for trend, name in _TRENDS.items():
        nothing = _MEASURES[name][2]
        features[trend] = np.log((recent[name] + nothing) / (earlier[name] + nothing))

    contract = _contract_as_of(months, cut_off)
    for name in ("tenure_days", "monthly_fee"):
        features[name] = contract[name].reindex(features.index).astype(float)
    features["offering_id"] = contract["offering_id"].reindex(features.index).fillna("none")
    features["province_code"] = present["province_code"].fillna("none")
    return features[[*NUMERIC, *CATEGORICAL]]


def _daily_means(seen: pd.DataFrame) -> pd.DataFrame:
    """Mean of each daily measure over the days a subscription was valid."""
    measures = pd.DataFrame({"subscription_id": seen["subscription_id"]})
    measures["active_share"] = seen["is_used"].astype(float)
    for name, (column, divisor, _) in _MEASURES.items():
        measures[name] = seen[column].astype(float) / divisor
    return measures.groupby("subscription_id").mean()


def _contract_as_of(months: pd.DataFrame, cut_off: date) -> pd.DataFrame:
    """Plan, fee and tenure by subscription, from the latest cycle begun by `cut_off`.

    The date of joining is taken back from the tenure, which the mart counts up to the end of the
    cycle or to the day of leaving; so neither of these two later facts reaches the feature.
    """
    bounds = {cycle: cycle_bounds(cycle) for cycle in months["cycle_id"].unique()}
    begun = [cycle for cycle, (first, _) in bounds.items() if first <= cut_off]
    known = (
        months.loc[months["cycle_id"].isin(begun)]
        .sort_values(["subscription_id", "cycle_id"])
        .drop_duplicates("subscription_id", keep="last")
        .set_index("subscription_id")
    )
    cycle_end = pd.to_datetime(
        known["cycle_id"].map({key: end for key, (_, end) in bounds.items()})
    )
    left = pd.to_datetime(known["left_date"])
    counted_to = left.where(left.notna() & (left < cycle_end), cycle_end)
    joined = counted_to - pd.to_timedelta(known["tenure_days"].astype(float), unit="D")
    return pd.DataFrame(
        {
            "tenure_days": (pd.Timestamp(cut_off) - joined).dt.days.clip(lower=0),
            "monthly_fee": known["monthly_fee_amount"].astype(float),
            "offering_id": known["offering_id"],
        },
        index=known.index,
    )
