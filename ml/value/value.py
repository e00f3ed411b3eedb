"""Expected value over the horizon: margin x retention curve, discounted; exact decimals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

FEN = Decimal("0.01")
RATE_QUANTUM = Decimal("0.000001")


@dataclass(frozen=True)
class ValueParameters:
    """Every choice of the value score; the model card prints them."""

    horizon_months: int = 12
    annual_discount_rate: Decimal = Decimal("0.10")
    days_per_month: Decimal = Decimal("30.4375")
    peer_weight: Decimal = Decimal(50)
    """A peer group's rate is shrunk to the portfolio's as if that many members had shown it."""
    high_from: Decimal = Decimal(1200)
    """Yuan of value from which the segment is 'high'."""
    medium_from: Decimal = Decimal(500)
    """Yuan of value from which the segment is 'medium'."""


@dataclass(frozen=True)
class PeerGroup:
    """Subscriptions of one plan: how many, their churn probability and what follows from it."""

    members: int
    window_churn_probability: Decimal
    monthly_survival: Decimal
    annuity: Decimal


def peer_groups(
    plan_of: Mapping[str, str],
    probability_of: Mapping[str, Decimal],
    window_days: int,
    parameters: ValueParameters,
) -> dict[str, PeerGroup]:
    """The retention of each plan, from the churn probabilities of its members.

    Args:
        plan_of: plan by subscription.
        probability_of: churn probability by subscription, of those still in use; who has already
            fallen silent would count again in every month.
        window_days: days the churn probability speaks of.
        parameters: see ``ValueParameters``.
    """
    known = [probability_of[key] for key in sorted(probability_of)]
    overall = sum(known, Decimal(0)) / len(known) if known else Decimal(0)
    groups: dict[str, PeerGroup] = {}
    months_per_window = parameters.days_per_month / window_days
    for plan in sorted(set(plan_of.values())):
        members = [key for key in sorted(plan_of) if plan_of[key] == plan]
        seen = [probability_of[key] for key in members if key in probability_of]
        weight = parameters.peer_weight
        churn = (sum(seen, Decimal(0)) + overall * weight) / (len(seen) + weight)
        churn = churn.quantize(RATE_QUANTUM, ROUND_HALF_UP)
        survival = ((1 - churn) ** months_per_window).quantize(RATE_QUANTUM, ROUND_HALF_UP)
        groups[plan] = PeerGroup(len(members), churn, survival, annuity(survival, parameters))
    return groups


def annuity(monthly_survival: Decimal, parameters: ValueParameters) -> Decimal:
    """Present value of one yuan a month, paid at the end of each month survived.

    Sum over m = 1..horizon of survival^m / (1 + annual rate)^(m/12), half-up to six digits.
    """
    discount = (1 + parameters.annual_discount_rate) ** (Decimal(1) / 12)
    factor = monthly_survival / discount
    total = sum((factor**month for month in range(1, parameters.horizon_months + 1)), Decimal(0))
    return total.quantize(RATE_QUANTUM, ROUND_HALF_UP)


def value_of(monthly_margin: Decimal, group: PeerGroup) -> Decimal:
    """Expected value over the horizon in yuan, half-up to the fen."""
    return (monthly_margin * group.annuity).quantize(FEN, ROUND_HALF_UP)


def value_at_risk(churn_probability: Decimal, value: Decimal) -> Decimal:
    """Churn probability x value, half-up to the fen; nothing is at risk in a negative value."""
    return (churn_probability * max(value, Decimal(0))).quantize(FEN, ROUND_HALF_UP)


def segment(value: Decimal, parameters: ValueParameters) -> str:
    """``high``, ``medium`` or ``low`` by the declared cut points."""
    if value >= parameters.high_from:
        return "high"
    return "medium" if value >= parameters.medium_from else "low"
