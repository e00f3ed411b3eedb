"""Prepaid accounts 预付费: charges are taken from the balance while they arise.

What the warehouse shows of an account, cycle and bill item is compared with what was deducted, and
the difference is posted: up or down, by whatever the charges were rated again. So it does not
matter in which order and pieces charges arrive, or how often this is done.

A deduction is owed the moment it is posted, and paid at once from bonus money that may pay it,
then from deposits; what they do not cover is a negative balance, which the next top-up pays. The
other side waits in the ledger account `prepaid_deducted` until the final bill makes revenue of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from operational.accounts import balance, bank_transit, ledger
from operational.accounts.ledger import Line
from operational.bulk import copy_to_temporary
from operational.database import driver_transaction, transaction
from tollhouse.settings import Settings

MINIMUM = "minimum"  # the bill item of minimum consumption
ZERO = Decimal(0)


@dataclass(frozen=True)
class Deducted:
    """What a run did: accounts it changed, fen deducted and given back, who was told or barred."""

    accounts: int = 0
    deducted_amount: Decimal = ZERO
    given_back_amount: Decimal = ZERO
    notices: int = 0
    barred: int = 0
    restored: int = 0


def deduct(settings: Settings, *, charges: pa.Table, by_user: str, today: date) -> Deducted:
    """Post what the charges of cycles that are not final differ by from what was deducted.

    `charges` are of prepaid lines: account_id, cycle_id, bill_item_code, amount (yuan, rounded to
    the fen per bill item of a line and cycle); an item that is not there is charged nothing. What
    minimum consumption adds counts when the cycle has ended. All differences are one transaction;
    payments that are not in the ledger yet go before, and those by bank clear their lines in
    suspense, in others.
    """
    with driver_transaction(settings) as connection:
        ledger.post_payments(connection, timezone=settings.timezone, by_user=by_user)
        ledger.allocate(connection, account_ids=None, today=today, by_user=by_user)
    with transaction(settings) as session:
        bank_transit.meet_suspense(session, timezone=settings.timezone, by_user=by_user)
    with driver_transaction(settings) as connection:
        cycles = connection.execute(
            "select cycle_id, state from billing.billing_cycle where state <> 'final'"
            " order by cycle_id for share"
        ).fetchall()
        connection.execute("lock table billing.deduction in share row exclusive mode")
        is_charged = pc.is_in(
            charges["cycle_id"], value_set=pa.array([cycle for cycle, _ in cycles], pa.string())
        )
        is_running = pc.is_in(
            charges["cycle_id"],
            value_set=pa.array([cycle for cycle, state in cycles if state == "open"], pa.string()),
        )
        is_minimum = pc.equal(charges["bill_item_code"], MINIMUM)
        copy_to_temporary(
            connection, like="billing.deduction", temporary="prepaid_charge",
            data=charges.filter(pc.and_not(is_charged, pc.and_(is_running, is_minimum))),
            only=("account_id", "cycle_id", "bill_item_code", "amount"),
        )  # fmt: skip
        done = _post(
            connection, days=dict.fromkeys((cycle for cycle, _ in cycles), today), by_user=by_user
        )
        watched = balance.watch(connection, account_ids=None, today=today)
    return Deducted(
        done.accounts, done.deducted_amount, done.given_back_amount, watched.notices,
        watched.barred, watched.restored,
    )  # fmt: skip


# Final cycles with bills that are not in the ledger, and the day of what is still posted for them:
# their last, unless something was posted later.
_FINAL_CYCLES = """
select cyc.cycle_id, greatest(
    cast((cyc.ends_at at time zone %(timezone)s) as date) - 1,
    (
        select max(ent.posted_date) from billing.deduction as ded
        join billing.ledger_entry as ent on ent.entry_id = ded.entry_id
        where ded.cycle_id = cyc.cycle_id
    )
)
from billing.billing_cycle as cyc
where cyc.state = 'final'
    and exists (
        select 1 from billing.bill as bil
        join billing.bill_item as itm on itm.bill_id = bil.bill_id and itm.amount <> 0
        where bil.cycle_id = cyc.cycle_id and not exists (
            select 1 from billing.ledger_entry as ent
            where ent.idempotency_key = 'bill:' || bil.bill_id
        )
    )
order by cyc.cycle_id
"""

_BILLED = """
create temp table prepaid_charge on commit drop as
select bil.account_id, bil.cycle_id, itm.bill_item_code, sum(itm.amount) as amount
from billing.bill as bil
join billing.bill_item as itm on itm.bill_id = bil.bill_id
join crm.subscription as sub
    on sub.subscription_id = itm.subscription_id and sub.account_id = bil.account_id
where bil.cycle_id = any(%(cycles)s) and sub.payment_type = 'prepaid'
group by bil.account_id, bil.cycle_id, itm.bill_item_code
"""


def settle_final(connection: psycopg.Connection[Any], *, timezone: str, by_user: str) -> Deducted:
    """Deduct, or give back, what final bills not posted yet differ by from what was deducted."""
    days = dict(connection.execute(_FINAL_CYCLES, {"timezone": timezone}).fetchall())
    if not days:
        return Deducted()
    connection.execute("lock table billing.deduction in share row exclusive mode")
    connection.execute(_BILLED, {"cycles": list(days)})
    return _post(connection, days=days, by_user=by_user, reason_code="final_bill")


# What is in the ledger as a bill stays as it is: after that there are notes.
_DIFFERENCES = """
create temp table deduction_difference on commit drop as
select dif.*, acc.province_code
from (
    select
        coalesce(chg.account_id, ded.account_id) as account_id,
        coalesce(chg.cycle_id, ded.cycle_id) as cycle_id,
        coalesce(chg.bill_item_code, ded.bill_item_code) as bill_item_code,
        coalesce(chg.amount, 0) - coalesce(ded.amount, 0) as amount,
        coalesce(chg.amount, 0) as total_amount
    from prepaid_charge as chg
    full join (
        select account_id, cycle_id, bill_item_code, sum(amount) as amount
        from billing.deduction
        where cycle_id = any(%(cycles)s)
        group by account_id, cycle_id, bill_item_code
    ) as ded
        on ded.account_id = chg.account_id and ded.cycle_id = chg.cycle_id
        and ded.bill_item_code = chg.bill_item_code
) as dif
join crm.account as acc on acc.account_id = dif.account_id
where dif.amount <> 0 and not exists (
    select 1 from billing.bill as bil
    join billing.ledger_entry as ent on ent.idempotency_key = 'bill:' || bil.bill_id
    where bil.account_id = dif.account_id and bil.cycle_id = dif.cycle_id
)
"""

# One entry an account and cycle; each line an open item of its own, which funds then pay.
_RISES = """
with rise as (
    select
        dif.*, day.posted_date, coalesce(rul.priority, %(priority)s) as priority,
        (
            select coalesce(max(ded.sequence), 0) + 1 from billing.deduction as ded
            where ded.account_id = dif.account_id and ded.cycle_id = dif.cycle_id
        ) as sequence,
        'deduction:' || dif.cycle_id || '-' || dif.account_id as document_id,
        case row_number() over (
            partition by dif.account_id, dif.cycle_id order by dif.bill_item_code
        )
            when 1 then nextval('billing.ledger_entry_number')
        end as new_number
    from deduction_difference as dif
    join (
        select unnest(%(cycles)s::text[]) as cycle_id,
            greatest(
                unnest(%(days)s::date[]), (select billing.accounting_date('-infinity'))
            ) as posted_date
    ) as day on day.cycle_id = dif.cycle_id
    left join billing.item_rule as rul on rul.bill_item_code = dif.bill_item_code
    where dif.amount > 0
),
numbered as materialized (
    select
        rise.*, document_id || ':' || sequence || '/' || bill_item_code as open_item_id,
        max(new_number) over entry as entry_id, count(*) over entry as items,
        row_number() over (partition by account_id, cycle_id order by bill_item_code) as place
    from rise
    window entry as (partition by account_id, cycle_id)
),
new_item as (
    insert into billing.open_item (
        open_item_id, account_id, province_code, document_type, document_id, bill_item_code,
        issued_date, due_date, priority, accrues_late_fee, amount
    )
    select open_item_id, account_id, province_code, 'deduction', document_id, bill_item_code,
        posted_date, posted_date, priority, false, amount
    from numbered
),
new_entry as (
    insert into billing.ledger_entry (
        entry_id, entry_type, posted_date, account_id, province_code, idempotency_key, line_count,
        reason_code, by_user
    )
    select entry_id, 'deduction', posted_date, account_id, province_code,
        document_id || ':' || sequence, items * 2, %(reason)s, %(by)s
    from numbered
    where new_number is not null
),
new_line as (
    insert into billing.ledger_line (
        entry_id, line_number, ledger_code, bill_item_code, open_item_id, amount
    )
    select num.entry_id, num.place + lin.after * num.items, lin.ledger_code, num.bill_item_code,
        lin.open_item_id, lin.amount
    from numbered as num
    cross join lateral (
        values
            (0, 'receivable', num.open_item_id, num.amount),
            (1, 'prepaid_deducted', cast(null as text), -num.amount)
    ) as lin (after, ledger_code, open_item_id, amount)
),
new_deduction as (
    insert into billing.deduction (
        account_id, cycle_id, sequence, bill_item_code, province_code, amount, total_amount,
        reason_code, entry_id
    )
    select account_id, cycle_id, sequence, bill_item_code, province_code, amount, total_amount,
        %(reason)s, entry_id
    from numbered
)
select coalesce(sum(amount), 0) from numbered
"""


def _post(
    connection: psycopg.Connection[Any], *, days: Mapping[str, date], by_user: str,
    reason_code: str | None = None,
) -> Deducted:  # fmt: skip
    """Post the differences to the temporary table prepaid_charge in cycles, each on its day."""
    cycles = list(days)
    ledger.expect_many(connection)
    connection.execute("analyze prepaid_charge")
    connection.execute(_DIFFERENCES, {"cycles": cycles})
    rows = connection.execute(
        "select account_id, cycle_id from deduction_difference group by account_id, cycle_id"
    ).fetchall()
    ledger.lock_accounts(connection, [account_id for account_id, _ in rows])
    given_back = _post_falls(
        connection, days=days, by_user=by_user, reason_code=reason_code or "charges_fell"
    )
    row = connection.execute(
        _RISES,
        {
            "cycles": cycles, "days": list(days.values()), "priority": ledger.DEFAULT_PRIORITY,
            "reason": reason_code or "charges_rose", "by": by_user,
        },
    ).fetchone()  # fmt: skip
    assert row is not None  # noqa: S101 - an aggregate always gives a row
    for day in sorted(set(days.values())):
        accounts = [account_id for account_id, cycle_id in rows if days[cycle_id] == day]
        ledger.allocate(connection, account_ids=accounts, today=day, by_user=by_user)
    return Deducted(len({account_id for account_id, _ in rows}), row[0], given_back)


def _post_falls(
    connection: psycopg.Connection[Any], *, days: Mapping[str, date], by_user: str,
    reason_code: str,
) -> Decimal:  # fmt: skip
    """Give back what charges fell by, account by account; returns how much it was."""
    rows = connection.execute(
        "select account_id, cycle_id, province_code, array_agg(bill_item_code order by"
        " bill_item_code), array_agg(-amount order by bill_item_code),"
        " array_agg(total_amount order by bill_item_code)"
        " from deduction_difference where amount < 0"
        " group by account_id, cycle_id, province_code order by account_id, cycle_id"
    ).fetchall()
    given_back = ZERO
    for account_id, cycle_id, province_code, codes, amounts, totals in rows:
        day = days[cycle_id]
        document = f"deduction:{cycle_id}-{account_id}"
        row = connection.execute(
            "select coalesce(max(sequence), 0) + 1 from billing.deduction"
            " where account_id = %s and cycle_id = %s",
            (account_id, cycle_id),
        ).fetchone()
        assert row is not None  # noqa: S101 - an aggregate always gives a row
        sequence = row[0]
        lines, oldest = [], day
        for code, amount in zip(codes, amounts, strict=True):
            more, since = _fall_lines(
                connection, document=document, sequence=sequence, code=code, amount=amount,
                account_id=account_id, province_code=province_code, day=day, by_user=by_user,
            )  # fmt: skip
            lines += more
            oldest = min(oldest, since)
        entry_id = ledger.post_entry(
            connection, entry_type="deduction", posted_date=day, key=f"{document}:{sequence}",
            by_user=by_user, lines=lines, account_id=account_id, province_code=province_code,
            reason_code=reason_code,
        )  # fmt: skip
        connection.execute(
            "insert into billing.deduction (account_id, cycle_id, sequence, bill_item_code,"
            " province_code, amount, total_amount, reason_code, entry_id)"
            " select %s, %s, %s, chg.code, %s, -chg.amount, chg.total, %s, %s"
            " from unnest(%s::text[], %s::numeric[], %s::numeric[]) as chg (code, amount, total)",
            (
                account_id, cycle_id, sequence, province_code, reason_code, entry_id, codes,
                amounts, totals,
            ),
        )  # fmt: skip
        # As of the day it had paid: bonus money that expired since pays again what it paid then.
        ledger.allocate(
            connection, account_ids=[account_id], today=oldest, not_before=day, by_user=by_user
        )
        given_back += sum(amounts, ZERO)
    return given_back


def _fall_lines(
    connection: psycopg.Connection[Any], *, document: str, sequence: int, code: str,
    amount: Decimal, account_id: str, province_code: str, day: date, by_user: str,
) -> tuple[list[Line], date]:  # fmt: skip
    """Lines that take a bill item's charges back; a net credit beyond them is a deposit."""
    ids = connection.execute(
        "select open_item_id from billing.open_item where document_id = %s and bill_item_code = %s",
        (document, code),
    ).fetchall()
    items, oldest = ledger.open_again(
        connection, open_item_ids=[item_id for (item_id,) in ids], amount=amount, posted_date=day,
        reason_code="charges_fell", by_user=by_user,
    )  # fmt: skip
    lines, left = [Line("prepaid_deducted", amount, code)], amount
    for item_id, open_amount in items:
        if credited := min(left, open_amount):
            lines.append(Line("receivable", -credited, code, open_item_id=item_id))
        left -= credited
    if left:
        fund_id = f"{document}:{sequence}/{code}"
        ledger.add_fund(
            connection, fund_id=fund_id, account_id=account_id, province_code=province_code,
            kind="deposit", amount=left, valid_from=day,
        )  # fmt: skip
        lines.append(Line("deposit", -left, fund_id=fund_id))
    return lines, oldest
