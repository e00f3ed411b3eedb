"""Why the model warns: what each group of features adds for one subscription, in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ml.churn.features import CATEGORICAL, GROUPS
from ml.churn.model import ChurnModel

REASONS_PER_SUBSCRIPTION = 3
LEAST_CONTRIBUTION = 0.1  # log-odds; less than this is no reason to name
LEAST_DECLINE = float(np.log(0.9))  # a fall of less than a tenth is no trend
Reason = dict[str, Any]

_NO_MODEL: Reason = {
    "code": "base_rate",
    "zh": "历史数据不足,取总体流失率",
    "en": "Too little history: the overall churn rate is given",
    "contribution": 0.0,
}
_NO_SIGN: Reason = {
    "code": "none",
    "zh": "无明显流失迹象",
    "en": "No sign of leaving",
    "contribution": 0.0,
}


def explain(
    model: ChurnModel, features: pd.DataFrame, *, lookback_days: int, recent_days: int = 4
) -> list[list[Reason]]:
    """Up to three reasons for each row, the strongest first; at least one entry.

    The contribution of a group is the change of the model's own log-odds when the group's features
    are replaced by those of a typical active subscription (median, most frequent category). Only
    groups that raise the probability, and in which the subscription is worse than the typical one,
    are reasons; the words state the subscription's own values.
    """
    if model.mode == "base_rate":
        return [[dict(_NO_MODEL)] for _ in range(len(features))]
    reference = _typical(features, recent_days)
    log_odds = _logit(model.probabilities(features))
    contributions = pd.DataFrame(index=features.index)
    for group, names in GROUPS.items():
        replaced = features.copy()
        for name in names:
            replaced[name] = reference[name]
        contributions[group] = log_odds - _logit(model.probabilities(replaced))
    reasons: list[list[Reason]] = []
    values = contributions.to_numpy()
    groups = list(contributions.columns)
    for position, record in enumerate(features.to_dict("records")):
        row = {str(name): value for name, value in record.items()}
        named = [
            _word(groups[column], row, float(values[position, column]), lookback_days, recent_days)
            for column in np.argsort(-values[position], kind="stable")
            if values[position, column] >= LEAST_CONTRIBUTION
            and _is_adverse(groups[column], row, reference)
        ][:REASONS_PER_SUBSCRIPTION]
        reasons.append(named or [dict(_NO_SIGN)])
    return reasons


def _typical(features: pd.DataFrame, recent_days: int) -> dict[str, Any]:
    active = features.loc[features["days_silent"] < recent_days]
    frame = features if active.empty else active
    return {
        name: frame[name].mode().iloc[0] if name in CATEGORICAL else frame[name].median()
        for name in frame.columns
    }


def _is_adverse(group: str, row: dict[str, Any], reference: dict[str, Any]) -> bool:
    """Whether the subscription's own values are a reason anybody would accept."""
    if group == "activity":
        return bool(
            row["days_without_own_use"] > reference["days_without_own_use"]
            or row["active_share_recent"] < reference["active_share_recent"]
        )
    if group == "trend":
        return bool(min(row["voice_trend"], row["data_trend"]) < LEAST_DECLINE)
    if group == "level":
        names = ("voice_minutes_recent", "data_mb_recent")
        return any(row[name] < reference[name] for name in names)
    return True


def _word(
    group: str, row: dict[str, Any], contribution: float, lookback_days: int, recent_days: int
) -> Reason:
    if group == "activity":
        days, own = int(row["days_silent"]), int(row["days_without_own_use"])
        share = row["active_share_recent"]
        if days >= lookback_days:
            zh, en = f"至少 {days} 天没有任何使用", f"No use at all for at least {_days(days)}"
        elif days > 1:
            zh, en = f"已 {days} 天没有任何使用", f"No use at all for {_days(days)}"
        elif own > 1:
            zh, en = f"已 {own} 天没有主动使用", f"No use of its own for {_days(own)}"
        else:
            zh = f"最近 {recent_days} 天中有使用的天数占 {share:.0%}"
            en = f"In use on {share:.0%} of the last {_days(recent_days)}"
    elif group == "trend":
        (voice_zh, voice_en), (data_zh, data_en) = (
            _change(row["voice_trend"], row["voice_minutes_recent"]),
            _change(row["data_trend"], row["data_mb_recent"]),
        )
        zh = f"最近 {recent_days} 天与此前相比:主叫 {voice_zh},流量 {data_zh}"
        en = f"Last {_days(recent_days)} against before: calls made {voice_en}, data {data_en}"
    elif group == "level":
        minutes, data_mb = row["voice_minutes_recent"], row["data_mb_recent"]
        zh = f"最近日均主叫 {minutes:.1f} 分钟、流量 {data_mb:.1f} MB"
        en = f"Recently {minutes:.1f} minutes of calls made and {data_mb:.1f} MB a day"
    elif group == "tenure":
        tenure = row["tenure_days"]
        zh = "入网日期不详" if pd.isna(tenure) else f"在网 {int(tenure)} 天"
        en = "Date of joining unknown" if pd.isna(tenure) else f"With us for {_days(int(tenure))}"
    elif group == "plan":
        fee = row["monthly_fee"]
        zh = "没有套餐" if pd.isna(fee) else f"套餐月费 {fee:.0f} 元"
        en = "No plan" if pd.isna(fee) else f"Plan of {fee:.0f} yuan a month"
    else:
        zh, en = f"归属省分 {row['province_code']}", f"Home province {row['province_code']}"
    return {"code": group, "zh": zh, "en": en, "contribution": round(contribution, 4)}


def _days(number: int) -> str:
    return "1 day" if number == 1 else f"{number} days"


def _change(trend: float, recent: float) -> tuple[str, str]:
    if recent == 0:
        return "已无", "none left"
    if pd.isna(trend):
        return "无从比较", "not comparable"
    percent = round(min(float(np.expm1(trend)), 9.99) * 100)
    return (f"{percent:+d}%",) * 2 if percent else ("持平", "unchanged")


def _logit(probabilities: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    safe = np.clip(probabilities, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(safe / (1 - safe)))
