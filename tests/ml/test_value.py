"""Customer value: the formula by hand, money exact, segments at their cut points."""

from __future__ import annotations

from decimal import Decimal

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml.value import (
    PeerGroup,
    ValueParameters,
    annuity,
    monthly_margins,
    peer_groups,
    segment,
    value_at_risk,
    value_of,
)

PARAMETERS = ValueParameters()


def months(*rows: tuple[str, str, str, str]) -> pd.DataFrame:
    return pd.DataFrame(
        [(key, *(Decimal(amount) for amount in amounts)) for key, *amounts in rows],
        columns=[
            "subscription_id", "charge_amount", "settlement_cost_amount",
            "settlement_income_amount",
        ],
    )  # fmt: skip


def test_margin_is_charge_less_settlement_cost_plus_income_averaged_over_cycles() -> None:
    margins = monthly_margins(
        months(("S1", "76.10", "3.060000", "1.200000"), ("S1", "80.00", "0", "0"),
               ("S2", "0", "5.5", "0"))
    )  # fmt: skip
    assert margins == {"S1": Decimal("77.120000"), "S2": Decimal("-5.500000")}


def test_margin_refuses_binary_floating_point() -> None:
    frame = months(("S1", "1", "0", "0")).astype({"charge_amount": float})
    with pytest.raises(TypeError, match="Decimal"):
        monthly_margins(frame)


def test_annuity_without_churn_and_interest_is_the_number_of_months() -> None:
    free = ValueParameters(annual_discount_rate=Decimal(0))
    assert annuity(Decimal(1), free) == Decimal("12.000000")
    assert annuity(Decimal(0), free) == 0


def test_annuity_follows_the_declared_formula() -> None:
    expected = sum(0.97**month / 1.10 ** (month / 12) for month in range(1, 13))
    assert float(annuity(Decimal("0.97"), PARAMETERS)) == pytest.approx(expected, abs=1e-6)


def test_peer_group_survival_turns_the_window_into_a_month() -> None:
    plans = {f"S{number}": "plan-a" for number in range(10)}
    probabilities = {key: Decimal("0.02") for key in plans}
    group = peer_groups(plans, probabilities, 7, PARAMETERS)["plan-a"]
    assert group.members == 10
    assert group.window_churn_probability == Decimal("0.020000")
    assert float(group.monthly_survival) == pytest.approx(0.98 ** (30.4375 / 7), abs=1e-6)


def test_small_peer_groups_lean_on_the_portfolio() -> None:
    plans = {f"S{number}": "large" for number in range(200)} | {"T1": "small"}
    probabilities = {key: Decimal("0.01") for key in plans} | {"T1": Decimal("0.9")}
    groups = peer_groups(plans, probabilities, 7, PARAMETERS)
    assert groups["small"].window_churn_probability < Decimal("0.05")
    assert groups["small"].window_churn_probability > groups["large"].window_churn_probability


def test_value_and_value_at_risk_round_half_up_to_the_fen() -> None:
    group = PeerGroup(1, Decimal("0.01"), Decimal("0.9"), Decimal("5.000000"))
    assert value_of(Decimal("10.001000"), group) == Decimal("50.01")  # 50.005
    assert value_at_risk(Decimal("0.500000"), Decimal("50.01")) == Decimal("25.01")  # 25.005
    assert value_at_risk(Decimal("0.5"), Decimal("-3.00")) == Decimal("0.00")


@given(
    probability=st.decimals(0, 1, places=6),
    value=st.decimals(-10_000, 10_000, places=2),
)
def test_value_at_risk_lies_between_nothing_and_the_value(
    probability: Decimal, value: Decimal
) -> None:
    at_risk = value_at_risk(probability, value)
    assert 0 <= at_risk <= max(value, Decimal(0))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (PARAMETERS.high_from, "high"),
        (PARAMETERS.high_from - Decimal("0.01"), "medium"),
        (PARAMETERS.medium_from, "medium"),
        (PARAMETERS.medium_from - Decimal("0.01"), "low"),
        (Decimal("-1"), "low"),
    ],
)
def test_segments_change_exactly_at_the_cut_points(value: Decimal, expected: str) -> None:
    assert segment(value, PARAMETERS) == expected
