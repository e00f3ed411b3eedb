"""The scoring run against a warehouse: rows, repeatability, cards, refusals."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest

import ml
from tollhouse.settings import Settings
from tollhouse.warehouse import open_warehouse

COLUMNS = ", ".join(name for name in ml.SCORE_COLUMNS if name != "_loaded_at")


def rows_of(settings: Settings) -> list[dict[str, Any]]:
    with open_warehouse(settings, "test") as warehouse:
        return [
            dict(zip(COLUMNS.split(", "), row, strict=True))
            for row in warehouse.rows(
                f"select {COLUMNS} from raw.customer_score order by data_cut_off, subscription_id"
            )
        ]


@pytest.fixture(scope="module")
def scored(
    tmp_path_factory: pytest.TempPathFactory, synthetic_marts: Any, put_marts: Any
) -> Iterator[tuple[Settings, ml.ScoreResult, list[dict[str, Any]]]]:
    settings = Settings(home=tmp_path_factory.mktemp("scored"), cycle="2026-10")
    put_marts(settings, synthetic_marts)
    result = ml.score(settings)
    yield settings, result, rows_of(settings)


def test_every_subscription_active_at_the_end_is_scored_once(
    scored: Any, synthetic_marts: Any
) -> None:
    _, result, rows = scored
    days = synthetic_marts.days
    active = sorted(days.loc[days["usage_date"].dt.date == date(2026, 10, 31), "subscription_id"])
    assert [row["subscription_id"] for row in rows] == active
    assert result.scored == len(active)
    assert result.data_cut_off == date(2026, 10, 31)
    assert result.mode == "model"


def test_scores_stay_in_their_ranges_and_money_is_exact(scored: Any) -> None:
    _, result, rows = scored
    assert rows
    for row in rows:
        assert 0 <= row["churn_probability"] <= 1
        assert row["value_segment"] in ("high", "medium", "low")
        assert isinstance(row["value_amount"], Decimal)
        assert row["run_id"] == result.run_id
        assert row["model_version"] == ml.MODEL_VERSION
        published = Decimal(repr(row["churn_probability"])) * max(row["value_amount"], Decimal(0))
        expected = published.quantize(Decimal("0.01"), ROUND_HALF_UP)
        assert row["value_at_risk_amount"] == expected
        reasons = json.loads(row["churn_reasons"])
        assert all(set(reason) == {"code", "zh", "en", "contribution"} for reason in reasons)


def test_deciles_follow_the_probabilities_and_are_about_equally_large(scored: Any) -> None:
    _, _, rows = scored
    by_risk = sorted(rows, key=lambda row: -row["churn_probability"])
    deciles = [row["churn_decile"] for row in by_risk]
    assert deciles == sorted(deciles)
    assert set(deciles) == set(range(1, 11))
    assert abs(deciles.count(1) - len(rows) / 10) <= 0.05 * len(rows)


def test_scoring_again_gives_the_same_rows_and_adds_none(scored: Any) -> None:
    settings, result, rows = scored
    again = ml.score(settings)
    assert again.run_id == result.run_id
    assert rows_of(settings) == rows


def test_a_given_run_id_is_kept_and_replaces_the_rows_of_that_cut_off(
    home: Settings, marts_of: Callable[..., Any], put_marts: Any
) -> None:
    put_marts(home, marts_of(40))
    ml.score(home)
    ml.score(home, run_id="by-hand")
    rows = rows_of(home)
    assert {row["run_id"] for row in rows} == {"by-hand"}
    assert len({row["subscription_id"] for row in rows}) == len(rows)


def test_a_small_carrier_is_scored_by_the_base_rate_and_its_card_says_so(
    home: Settings, marts_of: Callable[..., Any], put_marts: Any
) -> None:
    put_marts(home, marts_of(60))
    result = ml.score(home)
    rows = rows_of(home)
    assert result.mode == "base_rate"
    assert {row["churn_decile"] for row in rows} == {5}
    assert len({row["churn_probability"] for row in rows}) == 1
    metrics = json.loads((home.home / "ml" / "churn" / "metrics.json").read_text("utf-8"))
    assert metrics["mode"] == "base_rate"
    assert metrics["fallback_reason"] == "too_few_to_learn"
    card = (home.home / "ml" / "churn" / "model_card.md").read_text("utf-8")
    assert "未使用模型" in card
    assert "No model was used" in card


def test_a_cycle_that_is_not_over_is_scored_as_of_its_last_day_of_usage(
    home: Settings, marts_of: Callable[..., Any], put_marts: Any
) -> None:
    marts = marts_of(40, daily_hazard=0.0)
    days = marts.days.copy()
    later = days["usage_date"].dt.day > 9  # valid, but nothing has been collected yet
    days.loc[later, ["voice_mo_seconds", "voice_mt_seconds", "sms_count", "data_octets"]] = 0
    put_marts(home, type(marts)(days, marts.months))
    result = ml.score(home)
    assert result.data_cut_off == date(2026, 10, 9)
    assert result.scored == 40


def test_cards_hold_the_numbers_of_the_metrics_in_both_languages(scored: Any) -> None:
    _, result, _ = scored
    churn = json.loads((result.folder / "churn" / "metrics.json").read_text("utf-8"))
    card = (result.folder / "churn" / "model_card.md").read_text("utf-8")
    chosen = churn["training"]["evaluation"][churn["training"]["chosen"]]
    assert f"{chosen['auc']:.3f}" in card
    assert "用途" in card
    assert "Purpose" in card
    value = json.loads((result.folder / "value" / "metrics.json").read_text("utf-8"))
    value_card = (result.folder / "value" / "model_card.md").read_text("utf-8")
    assert value["value_amount"] in value_card
    segments = value["segments"].values()
    assert sum(part["subscriptions"] for part in segments) == result.scored
    total = sum((Decimal(part["value_amount"]) for part in segments), Decimal(0))
    assert total == Decimal(value["value_amount"])


def test_scoring_without_marts_names_the_step_to_run_first(home: Settings) -> None:
    with pytest.raises(ml.ScoreError, match="build_marts"):
        ml.score(home)
