"""Posts final bills into the ledger: what is owed, what was deducted, what is revenue and tax."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

import psycopg
from sqlalchemy.orm import Session

from operational.accounts import ledger, prepaid

# The days that a cycle's bills bear, in the ledger and on every document.
_DATES = """
select
    cyc.cycle_id, cyc.state, days.last_day as issued_date,
    days.last_day + cast(
        billing.accounts_parameter_on('payment_term_days', days.last_day) as integer
    ) as due_date
from billing.billing_cycle as cyc
cross join lateral (
    select cast((cyc.ends_at at time zone %(timezone)s) as date) - 1 as last_day
) as days
where %(cycle)s::text is null or cyc.cycle_id = %(cycle)s
"""

# A bill's items, added up by code. Credits on a bill (negative items) cover its own items first, in
# the order in which they would be paid; what credits are left when nothing is owed is a deposit.
# Items of the account's own prepaid lines are deducted by now: revenue that nobody owes.
_POST_BILLS = f"""
with cycle as materialized (
    select
        dat.cycle_id, dat.issued_date as last_day, dat.due_date,
        greatest(dat.issued_date, (select billing.accounting_date('-infinity'))) as posted_date
    from ({_DATES}) as dat
    where dat.state = 'final'
),
item as (
    select
        bil.bill_id, bil.account_id, bil.province_code, cyc.last_day, cyc.posted_date,
        cyc.due_date, itm.bill_item_code,
        coalesce(sum(itm.amount) filter (where sub.subscription_id is null), 0) as amount,
        coalesce(sum(itm.amount) filter (where sub.subscription_id is not null), 0)
            as deducted_amount,
        coalesce(sum(itm.tax_amount), 0) as tax_amount,
        coalesce(rul.priority, %(priority)s) as priority,
        coalesce(rul.ledger_code, 'revenue') as ledger_code,
        coalesce(rul.accrues_late_fee, true) as accrues_late_fee
    from cycle as cyc
    join billing.bill as bil on bil.cycle_id = cyc.cycle_id
    join billing.bill_item as itm on itm.bill_id = bil.bill_id
    left join crm.subscription as sub
        on sub.subscription_id = itm.subscription_id and sub.account_id = bil.account_id
        and sub.payment_type = 'prepaid'
    left join billing.item_rule as rul on rul.bill_item_code = itm.bill_item_code
    where not exists (
        select 1 from billing.ledger_entry as ent
        where ent.idempotency_key = 'bill:' || bil.bill_id
    )
    group by
        bil.bill_id, bil.account_id, bil.province_code, cyc.last_day, cyc.posted_date,
        cyc.due_date, itm.bill_item_code, rul.priority, rul.ledger_code, rul.accrues_late_fee
    having sum(itm.amount) <> 0
        or sum(itm.amount) filter (where sub.subscription_id is not null) <> 0
),
ranked as (
    select
        item.*,
        -sum(least(amount, 0)) over (partition by bill_id) as credit_amount,
        sum(amount) over (partition by bill_id) as bill_amount,
        coalesce(
            sum(greatest(amount, 0)) over (
                partition by bill_id order by priority, bill_item_code
                rows between unbounded preceding and 1 preceding
            ),
            0
        ) as before_amount,
        case row_number() over (partition by bill_id order by priority, bill_item_code)
            when 1 then nextval('billing.ledger_entry_number')
        end as new_number
    from item
),
charged as materialized (
    select
        ranked.*,
        max(new_number) over (partition by bill_id) as entry_id,
        case
            when amount > 0
            then amount - least(amount, greatest(credit_amount - before_amount, 0))
            else 0
        end as owed_amount,
        bill_id || '/' || bill_item_code as open_item_id
    from ranked
),
left_over as materialized (
    select *, 'bill:' || bill_id as fund_id, -bill_amount as amount_left
    from charged
    where new_number is not null and bill_amount < 0
),
new_item as (
    insert into billing.open_item (
        open_item_id, account_id, province_code, document_type, document_id, bill_id,
        bill_item_code, issued_date, due_date, priority, accrues_late_fee, amount
    )
    select open_item_id, account_id, province_code, 'bill', bill_id, bill_id, bill_item_code,
        last_day, due_date, priority, accrues_late_fee, owed_amount
    from charged
    where owed_amount > 0
),
new_fund as (
    insert into billing.fund (
        fund_id, account_id, province_code, kind, bill_id, valid_from, amount
    )
    select fund_id, account_id, province_code, 'deposit', bill_id, last_day, amount_left
    from left_over
),
line as materialized (
    select
        line.*,
        row_number() over (
            partition by entry_id order by amount < 0, ledger_code, bill_item_code
        ) as line_number
    from (
        select entry_id, bill_id, account_id, province_code, posted_date,
            'receivable' as ledger_code, bill_item_code, open_item_id,
            cast(null as text) as fund_id, owed_amount as amount
        from charged
        where owed_amount > 0
        union all
        select entry_id, bill_id, account_id, province_code, posted_date, ledger_code,
            bill_item_code, null, null, tax_amount - amount - deducted_amount
        from charged
        where amount + deducted_amount <> tax_amount
        union all
        select entry_id, bill_id, account_id, province_code, posted_date, 'tax_payable',
            bill_item_code, null, null, -tax_amount
        from charged
        where tax_amount <> 0
        union all
        select entry_id, bill_id, account_id, province_code, posted_date, 'prepaid_deducted',
            bill_item_code, null, null, deducted_amount
        from charged
        where deducted_amount <> 0
        union all
        select entry_id, bill_id, account_id, province_code, posted_date, 'deposit', null, null,
            fund_id, -amount_left
        from left_over
    ) as line
),
new_entry as (
    insert into billing.ledger_entry (
        entry_id, entry_type, posted_date, account_id, province_code, idempotency_key, line_count,
        bill_id, by_user
    )
    select entry_id, 'bill', posted_date, account_id, province_code, 'bill:' || bill_id, count(*),
        bill_id, %(by)s
    from line
    group by entry_id, posted_date, account_id, province_code, bill_id
),
new_line as (
    insert into billing.ledger_line (
        entry_id, line_number, ledger_code, bill_item_code, open_item_id, fund_id, amount
    )
    select entry_id, line_number, ledger_code, bill_item_code, open_item_id, fund_id, amount
    from line
)
select count(new_number) from charged
"""  # noqa: S608 - text of this module


@dataclass(frozen=True)
class BillDates:
    """The day a cycle's bills are issued, and the day until which they are to be paid."""

    issued_date: date
    due_date: date


def bill_dates(session: Session, *, cycle_id: str, timezone: str) -> BillDates:
    """The dates of the bills of a cycle that there is: as the ledger has them, or will have."""
    ((_, _, issued_date, due_date),) = ledger.driver(session).execute(
        _DATES, {"timezone": timezone, "cycle": cycle_id}
    )
    return BillDates(issued_date, due_date)


def post_final_bills(connection: psycopg.Connection[Any], *, timezone: str, by_user: str) -> int:
    """Post the bills of final cycles that are not posted yet; returns how many.

    What prepaid lines are charged on them is deducted to the fen before.
    """
    ledger.expect_many(connection)
    prepaid.settle_final(connection, timezone=timezone, by_user=by_user)
    return ledger.count_rows(
        connection, _POST_BILLS,
        {
            "timezone": timezone, "cycle": None, "by": by_user,
            "priority": ledger.DEFAULT_PRIORITY,
        },
    )  # fmt: skip
