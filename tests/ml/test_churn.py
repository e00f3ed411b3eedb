"""Churn warning: no look into the future, ranking, calibration, fallbacks, reasons."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml.churn import (
    CATEGORICAL,
    NUMERIC,
    ChurnModel,
    ChurnParameters,
    features_as_of,
    labels_after,
    plan_cut_offs,
    train,
)
from ml.churn.reasons import explain
from ml.frames import USAGE_COLUMNS

FIRST, LAST = date(2026, 10, 1), date(2026, 10, 31)
PARAMETERS = ChurnParameters()
CUT_OFFS = plan_cut_offs(FIRST, LAST, PARAMETERS)
LOOKBACK = CUT_OFFS.lookback_days


@pytest.fixture(scope="module")
def model(synthetic_marts: Any) -> ChurnModel:
    return train(synthetic_marts.days, synthetic_marts.months, CUT_OFFS, PARAMETERS)


def features(marts: Any, cut_off: date) -> pd.DataFrame:
    return features_as_of(marts.days, marts.months, cut_off, lookback_days=LOOKBACK)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cut_off_day=st.integers(8, 25),
    seed=st.integers(0, 10_000),
    share_removed=st.floats(0, 1),
)
def test_no_feature_changes_when_anything_after_the_cut_off_does(
    marts_of: Callable[..., Any], cut_off_day: int, seed: int, share_removed: float
) -> None:
    marts = marts_of(30, daily_hazard=0.03)
    cut_off = date(2026, 10, cut_off_day)
    chance = np.random.default_rng(seed)
    days, months = marts.days.copy(), marts.months.copy()

    later = days["usage_date"] > pd.Timestamp(cut_off)
    for column in USAGE_COLUMNS:
        days.loc[later, column] = chance.integers(0, 10_000, later.sum())
    days.loc[later, "usage_charge_amount"] = Decimal(99)
    days.loc[later, "province_code"] = "99"
    days = days[~(later & (chance.random(len(days)) < share_removed))]
    joiner = days.tail(1).assign(subscription_id="S9999999", usage_date=pd.Timestamp(LAST))
    days = pd.concat([days, joiner], ignore_index=True)

    # Another end of the story for everybody who was still there: leaves on another day, or stays.
    end_before = [left if left else LAST for left in months["left_date"]]
    for row, before in enumerate(end_before):
        if before <= cut_off:
            continue
        after = cut_off + timedelta(days=int(chance.integers(1, (LAST - cut_off).days + 1)))
        months.loc[row, "left_date"] = after if chance.random() < 0.5 else None
        counted_to = months.loc[row, "left_date"] or LAST
        months.loc[row, "tenure_days"] += (counted_to - before).days
    for column in ("charge_amount", "settlement_cost_amount", "settlement_income_amount"):
        months[column] = Decimal(int(chance.integers(0, 1000)))
    months.loc[len(months)] = {**months.iloc[0], "cycle_id": "2026-11", "offering_id": "other"}

    pd.testing.assert_frame_equal(
        features_as_of(days, months, cut_off, lookback_days=LOOKBACK), features(marts, cut_off)
    )


def test_features_do_see_the_cut_off_day_itself(marts_of: Callable[..., Any]) -> None:
    marts = marts_of(30)
    changed = marts.days.copy()
    last = changed["usage_date"] == pd.Timestamp(2026, 10, 15)
    changed.loc[last, "data_octets"] += 50 * 1048576
    before = features(marts, date(2026, 10, 15))
    after = features_as_of(changed, marts.months, date(2026, 10, 15), lookback_days=LOOKBACK)
    assert (after["data_mb_recent"] > before["data_mb_recent"]).all()


def test_features_of_a_hand_made_subscription_are_what_a_person_would_count() -> None:
    rows = [
        ("S1", date(2026, 10, day), "44", 120 if day <= 4 else 0, 0, 0, 0, Decimal(0))
        for day in range(1, 11)
    ]
    days = pd.DataFrame(
        rows, columns=["subscription_id", "usage_date", "province_code", *USAGE_COLUMNS,
                       "usage_charge_amount"],
    )  # fmt: skip
    days["usage_date"] = pd.to_datetime(days["usage_date"])
    months = pd.DataFrame(
        [("S1", "2026-10", "plan-4g-76", Decimal(76), 131, None)],
        columns=["subscription_id", "cycle_id", "offering_id", "monthly_fee_amount", "tenure_days",
                 "left_date"],
    )  # fmt: skip
    row = features_as_of(days, months, date(2026, 10, 10), lookback_days=10, recent_days=7).loc[
        "S1"
    ]
    assert row["days_silent"] == 6
    assert row["active_share_recent"] == pytest.approx(1 / 7)  # 4 October
    assert row["active_share_earlier"] == 1
    assert row["voice_minutes_recent"] == pytest.approx(2 / 7)
    assert row["tenure_days"] == 110  # 131 on 31 October
    assert row["voice_trend"] == pytest.approx(np.log((2 / 7 + 0.5) / (2 + 0.5)))


def test_labels_tell_leaving_and_silence_from_staying_and_skip_who_left_in_the_gap() -> None:
    cut_off = date(2026, 10, 11)  # gap 12-14, window 15-21
    story = {  # subscription: (last day valid, days with usage)
        "stays": (31, range(1, 32)),
        "one call in the window": (31, (1, 21)),
        "silent in the window": (31, (*range(1, 15), *range(22, 32))),
        "left in the window": (20, range(1, 21)),
        "left in the gap": (13, range(1, 14)),
        "joined in the gap": (31, range(13, 32)),
    }
    rows = [
        (key, date(2026, 10, day), "11", int(day in used), 0, 0, 0, Decimal(0))
        for key, (last, used) in story.items()
        for day in range(13 if key == "joined in the gap" else 1, last + 1)
    ]
    days = pd.DataFrame(
        rows, columns=["subscription_id", "usage_date", "province_code", *USAGE_COLUMNS,
                       "usage_charge_amount"],
    )  # fmt: skip
    days["usage_date"] = pd.to_datetime(days["usage_date"])
    assert labels_after(days, cut_off, PARAMETERS).to_dict() == {
        "stays": 0,
        "one call in the window": 0,
        "silent in the window": 1,
        "left in the window": 1,
    }


@pytest.mark.parametrize("length", range(1, 120))
def test_no_label_used_for_training_is_younger_than_the_evaluation_cut_off(length: int) -> None:
    as_of = FIRST + timedelta(days=length - 1)
    plan = plan_cut_offs(FIRST, as_of, PARAMETERS)
    horizon = timedelta(days=PARAMETERS.horizon_days)
    if plan.evaluation:
        assert plan.evaluation + horizon <= plan.as_of
        assert plan.evaluation >= FIRST
    for cut_off in plan.training:
        assert plan.evaluation is not None
        assert cut_off + horizon <= plan.evaluation
        assert cut_off - timedelta(days=plan.lookback_days - 1) >= FIRST
    assert bool(plan.training) == (length >= 27)


def test_model_ranks_later_data_better_than_the_baseline_and_than_chance(
    model: ChurnModel,
) -> None:
    assert model.mode == "model"
    metrics = model.metrics["evaluation"]
    assert metrics["boosting"]["auc"] > 0.8
    assert metrics["boosting"]["auc"] > metrics["logistic"]["auc"]
    assert metrics["boosting"]["pr_auc"] > metrics["logistic"]["pr_auc"]
    assert metrics["boosting"]["lift_top_decile"] > 4
    assert metrics["boosting"]["auc_still_active"] > 0.75


def test_probabilities_are_calibrated(model: ChurnModel) -> None:
    chosen = model.metrics["evaluation"][model.metrics["chosen"]]
    assert chosen["brier"] < chosen["brier_base_rate"]
    assert chosen["log_loss"] < chosen["log_loss_base_rate"]
    assert chosen["mean_probability"] == pytest.approx(chosen["observed_rate"], rel=0.5)
    predicted = [part["predicted"] for part in chosen["calibration"]]
    assert predicted == sorted(predicted)
    assert chosen["calibration"][-1]["observed"] > 3 * chosen["calibration"][0]["observed"]


def test_acting_above_the_threshold_costs_less_than_nobody_and_than_everybody(
    model: ChurnModel,
) -> None:
    threshold = model.metrics["evaluation"][model.metrics["chosen"]]["threshold"]
    assert threshold["probability"] == pytest.approx(0.1)
    assert threshold["cost_at_threshold"] < threshold["cost_contact_nobody"]
    assert threshold["cost_at_threshold"] < threshold["cost_contact_everybody"]


def test_training_twice_and_in_another_row_order_gives_the_same_probabilities(
    synthetic_marts: Any, model: ChurnModel
) -> None:
    shuffled = synthetic_marts.days.sample(frac=1, random_state=1)
    again = train(shuffled, synthetic_marts.months, CUT_OFFS, PARAMETERS)
    frame = features(synthetic_marts, LAST)
    pd.testing.assert_frame_equal(
        features_as_of(shuffled, synthetic_marts.months, LAST, lookback_days=LOOKBACK), frame
    )
    assert again.metrics["chosen"] == model.metrics["chosen"]
    np.testing.assert_allclose(again.probabilities(frame), model.probabilities(frame), atol=1e-12)


@pytest.mark.parametrize(
    ("subscribers", "daily_hazard", "last", "reason"),
    [
        (200, 0.003, 31, "too_few_to_learn"),
        (60, 0.0, 31, "too_few_to_learn"),  # a single class
        (200, 0.01, 20, "history_too_short"),
        (200, 0.01, 5, "history_too_short"),
    ],
)
def test_too_little_data_falls_back_to_the_base_rate_and_says_why(
    marts_of: Callable[..., Any], subscribers: int, daily_hazard: float, last: int, reason: str
) -> None:
    marts = marts_of(subscribers, daily_hazard=daily_hazard)
    as_of = date(2026, 10, last)
    days = marts.days[marts.days["usage_date"] <= pd.Timestamp(as_of)]
    model = train(days, marts.months, plan_cut_offs(FIRST, as_of, PARAMETERS), PARAMETERS)
    assert (model.mode, model.fallback_reason) == ("base_rate", reason)
    frame = features_as_of(days, marts.months, as_of, lookback_days=LOOKBACK)
    probabilities = model.probabilities(frame)
    assert len(set(probabilities)) == 1
    assert 0 < probabilities[0] < 0.5
    why = explain(model, frame, lookback_days=LOOKBACK)
    assert {reasons[0]["code"] for reasons in why} == {"base_rate"}


def test_a_model_that_finds_no_signal_is_not_used(synthetic_marts: Any) -> None:
    shuffled = synthetic_marts.days.copy()
    chance = np.random.default_rng(3)
    keys = shuffled["subscription_id"].unique()
    doomed = set(chance.choice(keys, 150, replace=False))
    # Churn strikes at random: all use the same until one day they are gone.
    for column in USAGE_COLUMNS:
        shuffled[column] = 100
    end = {key: int(chance.integers(12, 31)) for key in doomed}
    last_day = shuffled["subscription_id"].map(end).fillna(31)
    shuffled = shuffled[shuffled["usage_date"].dt.day <= last_day]
    shuffled["usage_charge_amount"] = Decimal(0)
    months = synthetic_marts.months.assign(
        tenure_days=500, left_date=None, offering_id="p", monthly_fee_amount=Decimal(56)
    )
    strict = ChurnParameters(least_auc=0.75)
    model = train(shuffled, months, plan_cut_offs(FIRST, LAST, strict), strict)
    assert (model.mode, model.fallback_reason) == ("base_rate", "ranks_no_better")


def test_reasons_are_true_of_the_subscription_and_ordered_by_contribution(
    synthetic_marts: Any, model: ChurnModel
) -> None:
    frame = features(synthetic_marts, LAST)
    why = explain(model, frame, lookback_days=LOOKBACK)
    assert len(why) == len(frame)
    for reasons in why:
        assert 1 <= len(reasons) <= 3
        contributions = [reason["contribution"] for reason in reasons]
        assert contributions == sorted(contributions, reverse=True)
        assert all(reason["zh"] and reason["en"] for reason in reasons)
    riskiest = int(np.argmax(model.probabilities(frame)))
    assert why[riskiest][0]["code"] in ("activity", "trend", "level")
    for position, (_, row) in enumerate(frame.iterrows()):
        for reason in why[position]:
            if reason["code"] == "activity" and "没有任何使用" in reason["zh"]:
                assert f"{int(row['days_silent'])} 天" in reason["zh"]


def test_feature_frame_has_the_declared_columns_and_one_row_per_valid_subscription(
    synthetic_marts: Any,
) -> None:
    frame = features(synthetic_marts, LAST)
    assert list(frame.columns) == [*NUMERIC, *CATEGORICAL]
    valid = synthetic_marts.days.loc[
        synthetic_marts.days["usage_date"] == pd.Timestamp(LAST), "subscription_id"
    ]
    assert sorted(valid) == list(frame.index)
