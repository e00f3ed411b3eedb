"""Restating a closed cycle 重出帐期: late usage whose plan says `restate`, as notes on its bills.

A copy of the cycle is rated and billed again with that usage in its place, among the usage that was
in time, so allowances, tiers, discounts and shares come out as if it had been there. The bills stay
as they are; each difference is asked for as a debit or credit note, which another person decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from operational.accounts.notes import RESTATEMENT, list_restatements, request_note
from operational.permissions import Principal
from tollhouse.cycle_copy import USAGE_BILLED, bill_copy, cycle_copy
from tollhouse.settings import Settings
from tollhouse.warehouse import open_warehouse

_WAITING = """
    select suspended.usage_id
    from billing.suspended_usage as suspended
    inner join ods.billing_cycle as cycle
        on cycle.cycle_id = $cycle and suspended.started_at >= cycle.starts_at
        and suspended.started_at < cycle.ends_at
    where suspended.reason_code = 'to_restate'
"""
USAGE = (
    USAGE_BILLED,
    f"usage_id in ({_WAITING})",
)
# Lines of the accounts whose usage waits: all that it can change is on bills for these.
_DIFFERENCES = """
with

concerned as (

    select distinct line.subscription_id
    from raw.waiting_usage as waiting
    inner join billing.guided_usage as guided
        on waiting.usage_id = guided.usage_id
    inner join billing.cycle_line as line
        on guided.account_id = line.account_id

)

select
    account_id,
    bill_item_code,
    sum(restated) - sum(billed) as difference,
    account_id in (select account_id from raw.billed_item) as is_billed
from (
    select account_id, subscription_id, bill_item_code, amount as billed, 0 as restated
    from raw.billed_item
    union all
    select account_id, subscription_id, bill_item_code, 0, amount from billing.bill_item
) as item
where subscription_id in (select subscription_id from concerned)
group by account_id, bill_item_code
order by account_id, bill_item_code
"""


@dataclass(frozen=True)
class Restatement:
    """What one bill item of one account should have been more (or, below zero, less).

    Attributes:
        noted_amount: what earlier restatements of it asked for, whatever was decided.
        note_id: the note asked for now; none where there is nothing left to ask for.
    """

    account_id: str
    bill_item_code: str
    difference: Decimal
    noted_amount: Decimal
    note_id: str | None


def restate(settings: Settings, *, principal: Principal, cycle_id: str) -> list[Restatement]:
    """Work the cycle out again with its late usage, and ask for a note for each difference.

    Running it again asks only for what is new since.

    Raises:
        CycleCopyError: the cycle was not billed.
        ProblemError: the bill is not final, or the principal may not ask for notes.
    """
    with cycle_copy(settings, cycle_id, usage=USAGE) as scratch:
        with open_warehouse(settings, "read late usage") as warehouse:
            waiting = warehouse.connection.execute(_WAITING, {"cycle": cycle_id}).to_arrow_table()
        with open_warehouse(scratch, "lay late usage") as warehouse:
            warehouse.connection.register("_waiting", waiting)
            warehouse.execute("create table raw.waiting_usage as select * from _waiting")
            warehouse.connection.unregister("_waiting")
        bill_copy(scratch)
        with open_warehouse(scratch, "compare") as warehouse:
            found = warehouse.rows(_DIFFERENCES)
    noted = list_restatements(settings, cycle_id=cycle_id)
    return [_ask(settings, principal, cycle_id, row, noted) for row in found if row[2]]


def _ask(
    settings: Settings, principal: Principal, cycle_id: str, row: tuple[Any, ...],
    noted: dict[tuple[str, str], tuple[int, Decimal]],
) -> Restatement:  # fmt: skip
    account_id, bill_item_code, difference, is_billed = row
    count, noted_amount = noted.get((account_id, bill_item_code), (0, Decimal(0)))
    missing = difference - noted_amount
    note_id = None
    if missing:
        note_id = f"{RESTATEMENT}/{cycle_id}/{account_id}/{bill_item_code}/{count + 1}"
        request_note(
            settings, principal=principal, note_id=note_id,
            note_type="debit" if missing > 0 else "credit", account_id=account_id,
            bill_item_code=bill_item_code, amount=abs(missing),
            reason_code="late_usage" if missing > 0 else "late_usage_credit",
            explanation=f"{cycle_id}: {difference:+} with late usage 含迟到话单",
            bill_id=f"{cycle_id}-{account_id}" if is_billed else None,
        )  # fmt: skip
    return Restatement(account_id, bill_item_code, difference, noted_amount, note_id)


__all__ = ["Restatement", "restate"]
