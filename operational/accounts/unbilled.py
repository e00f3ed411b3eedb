"""Unbilled revenue 未出帐收入: what lines owe us for cycles that are not final, net of tax.

One figure for the journal and for the control totals: the running bills of the cycles that have
begun by a day, as the warehouse has them. A closed month keeps what it accrued on its last day.
What is collected for others is not accrued: it is neither ours nor owed to them until it is billed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from operational.accounts.models import LedgerPeriod, UnbilledRevenue
from operational.problems import ConflictError
from tollhouse.settings import Settings
from tollhouse.warehouse import EngineError, Warehouse, WarehouseBusyError, read_warehouse
from tollhouse.warehouse.reference import collected_items

READ_WAIT_S = 10.0
ZERO = Decimal(0)


@dataclass(frozen=True)
class UnbilledItem:
    """What the running bills of a province hold of one item: exact, and as billed net of tax."""

    province_code: str
    bill_item_code: str
    exact_amount: Decimal
    net_amount: Decimal


@dataclass(frozen=True)
class Accrual:
    """Net amounts by province and bill item at the end of a day; or why they are not known."""

    day: date
    amounts: dict[tuple[str, str], Decimal]
    problem: ConflictError | None = None

    @property
    def total_amount(self) -> Decimal:
        """The sum of the amounts."""
        return sum(self.amounts.values(), ZERO)


def open_cycles(session: Session, *, day: date, timezone: str) -> list[str]:
    """Cycles that have begun by the end of a day and are not final."""
    found = session.execute(
        text(
            "select cycle_id from billing.billing_cycle where state <> 'final'"
            " and cast(starts_at at time zone :timezone as date) <= :day order by cycle_id"
        ),
        {"day": day, "timezone": timezone},
    )
    return list(found.scalars())


def running_items(warehouse: Warehouse, cycle_ids: Sequence[str]) -> list[UnbilledItem]:
    """What the running bills of cycles hold, by province and bill item."""
    if not cycle_ids:
        return []
    rows = warehouse.rows(
        "select province_code, bill_item_code, sum(charge_amount), sum(net_amount)"  # noqa: S608
        f" from billing.bill_item where cycle_id in ({_places(cycle_ids)})"
        " group by province_code, bill_item_code order by province_code, bill_item_code",
        list(cycle_ids),
    )
    return [UnbilledItem(*row) for row in rows]


def net_amounts(items: Sequence[UnbilledItem]) -> dict[tuple[str, str], Decimal]:
    """What is accrued of them: net amounts by province and bill item, none of them 0."""
    others = collected_items()
    return {
        (one.province_code, one.bill_item_code): one.net_amount
        for one in items
        if one.net_amount and one.bill_item_code not in others
    }


def collected_amount(items: Sequence[UnbilledItem]) -> Decimal:
    """What of them is collected for others."""
    others = collected_items()
    return sum((one.net_amount for one in items if one.bill_item_code in others), ZERO)


def charged_amount(warehouse: Warehouse, cycle_ids: Sequence[str]) -> Decimal:
    """The charges of cycles, before rounding to items: what `running_items` must come to."""
    if not cycle_ids:
        return ZERO
    ((amount,),) = warehouse.rows(
        "select coalesce(sum(amount), 0) from billing.charge"  # noqa: S608 - places only
        f" where cycle_id in ({_places(cycle_ids)})",
        list(cycle_ids),
    )
    return Decimal(amount)


def accrual(settings: Settings, session: Session, *, day: date) -> Accrual:
    """What is accrued at the end of a day; of a closed month's last day, what it has kept.

    Where the warehouse cannot say it, the accrual holds nothing, and the problem instead.
    """
    tomorrow = day + timedelta(days=1)
    if tomorrow.day == 1 and session.get(LedgerPeriod, f"{day:%Y-%m}") is not None:
        kept = session.scalars(
            select(UnbilledRevenue).where(UnbilledRevenue.period_id == f"{day:%Y-%m}")
        )
        return Accrual(day, {(row.province_code, row.bill_item_code): row.amount for row in kept})
    cycle_ids = open_cycles(session, day=day, timezone=settings.timezone)
    try:
        items = _read(settings, cycle_ids) if cycle_ids else []
    except (WarehouseBusyError, EngineError) as error:
        return Accrual(day, {}, ConflictError("unbilled_unknown", day=day, reason=str(error)))
    except ConflictError as error:
        return Accrual(day, {}, error)
    return Accrual(day, net_amounts(items))


def _read(settings: Settings, cycle_ids: Sequence[str]) -> list[UnbilledItem]:
    with read_warehouse(settings, wait_s=READ_WAIT_S) as warehouse:
        known: set[str] = set()
        if warehouse.has_table("billing.bill_item") and warehouse.has_table("ods.billing_cycle"):
            known = {row[0] for row in warehouse.rows("select cycle_id from ods.billing_cycle")}
        missing = [cycle_id for cycle_id in cycle_ids if cycle_id not in known]
        if missing:
            raise ConflictError("unbilled_not_rated", cycle_ids=missing)
        return running_items(warehouse, cycle_ids)


def _places(values: Sequence[str]) -> str:
    return ", ".join("?" * len(values))
