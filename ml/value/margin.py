"""What a subscription brings in a month, after settlement."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pandas as pd

MARGIN_QUANTUM = Decimal("0.000001")


def monthly_margins(months: pd.DataFrame) -> dict[str, Decimal]:
    """Mean monthly margin by subscription: charge - settlement cost + settlement income.

    Args:
        months: rows of dm.subscription_month, amounts as Decimal, of the cycles to average over
            (``ml.frames.MARGIN_CYCLES``). A first month that was not complete counts as it was.

    Returns:
        Yuan, rounded half-up to six digits.
    """
    amounts = ("charge_amount", "settlement_cost_amount", "settlement_income_amount")
    margins: dict[str, list[Decimal]] = {}
    for subscription_id, charge, cost, income in months[["subscription_id", *amounts]].itertuples(
        index=False, name=None
    ):
        margin = _exact(charge) - _exact(cost) + _exact(income)
        margins.setdefault(str(subscription_id), []).append(margin)
    return {
        key: (sum(values, Decimal(0)) / len(values)).quantize(MARGIN_QUANTUM, ROUND_HALF_UP)
        for key, values in margins.items()
    }


def _exact(amount: Any) -> Decimal:
    if pd.isna(amount):
        return Decimal(0)
    if isinstance(amount, float):
        raise TypeError("amounts must arrive as Decimal: read them with Warehouse.rows")
    return Decimal(amount)
