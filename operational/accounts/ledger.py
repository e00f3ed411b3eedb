"""Posts into the receivables ledger: bills, payments, allocation, reversal. Set-based SQL.

The database keeps the books in balance (migration 0005); this module says what is posted. Every
function works in the caller's transaction, on the driver's connection, and takes account locks in
the order of account ids, so that two callers wait for each other and neither sees half of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import psycopg
from sqlalchemy.orm import Session

from operational.permissions import HEADQUARTERS

DEFAULT_PRIORITY = 50  # of a bill item that billing.item_rule does not name


@dataclass(frozen=True)
class Line:
    """One line to be posted: a debit is positive, a credit negative."""

    ledger_code: str
    amount: Decimal
    bill_item_code: str | None = None
    open_item_id: str | None = None
    fund_id: str | None = None


@dataclass(frozen=True)
class Posted:
    """What posting did: documents posted, and what was allocated to open items."""

    bills: int = 0
    payments: int = 0
    expired_bonuses: int = 0
    allocated_amount: Decimal = Decimal(0)


def driver(session: Session) -> psycopg.Connection[Any]:
    """The driver's connection of a session, in the session's transaction."""
    session.flush()
    connection: psycopg.Connection[Any] = session.connection().connection.driver_connection  # type: ignore[assignment]
    return connection


def lock_accounts(connection: psycopg.Connection[Any], account_ids: Iterable[str]) -> None:
    """Hold accounts until the end of the transaction: their money moves one change at a time."""
    connection.execute(
        "select account_id from crm.account where account_id = any(%s)"
        " order by account_id for no key update",
        (sorted(set(account_ids)),),
    )


def post_entry(
    connection: psycopg.Connection[Any], *, entry_type: str, posted_date: date, key: str,
    by_user: str, lines: Sequence[Line], account_id: str | None = None,
    province_code: str = HEADQUARTERS, reason_code: str | None = None, bill_id: str | None = None,
    payment_id: str | None = None, note_id: str | None = None,
) -> int:  # fmt: skip
    """Post one entry on the first open day from `posted_date`; returns its number."""
    row = connection.execute(
        "insert into billing.ledger_entry (entry_type, posted_date, account_id, province_code,"
        " idempotency_key, line_count, reason_code, bill_id, payment_id, note_id, by_user)"
        " values (%s, billing.accounting_date(%s), %s, %s, %s, %s, %s, %s, %s, %s, %s)"
        " returning entry_id",
        (
            entry_type, posted_date, account_id, province_code, key, len(lines), reason_code,
            bill_id, payment_id, note_id, by_user,
        ),
    ).fetchone()  # fmt: skip
    assert row is not None  # noqa: S101 - insert returns its row
    entry_id = int(row[0])
    with connection.cursor() as cursor:
        cursor.execute(
            "insert into billing.ledger_line (entry_id, line_number, ledger_code, bill_item_code,"
            " open_item_id, fund_id, amount)"
            " select %s, row_number() over (), lin.* from unnest(%s::text[], %s::text[],"
            " %s::text[], %s::text[], %s::numeric[]) as lin",
            (
                entry_id, [line.ledger_code for line in lines],
                [line.bill_item_code for line in lines], [line.open_item_id for line in lines],
                [line.fund_id for line in lines], [line.amount for line in lines],
            ),
        )  # fmt: skip
    return entry_id


def add_fund(
    connection: psycopg.Connection[Any], *, fund_id: str, account_id: str, province_code: str,
    kind: str, amount: Decimal, valid_from: date, valid_to: date | None = None,
    bill_item_codes: list[str] | None = None, payment_id: str | None = None,
) -> None:  # fmt: skip
    """Make a fund with nothing in it; the lines that follow fill it."""
    connection.execute(
        "insert into billing.fund (fund_id, account_id, province_code, kind, payment_id,"
        " bill_item_codes, valid_from, valid_to, amount) values (%s, %s, %s, %s, %s, %s, %s, %s,"
        " %s)",
        (
            fund_id, account_id, province_code, kind, payment_id, bill_item_codes, valid_from,
            valid_to, amount,
        ),
    )  # fmt: skip


# A bill's items, added up by code. Credits on a bill (negative items) cover its own items first, in
# the order in which they would be paid; what credits are left when nothing is owed is a deposit.
_POST_BILLS = """
with bill as (
    select
        bil.bill_id, bil.account_id, bil.province_code,
        cast((cyc.ends_at at time zone %(timezone)s) as date) - 1 as last_day
    from billing.bill as bil
    join billing.billing_cycle as cyc on cyc.cycle_id = bil.cycle_id
    where cyc.state = 'final'
        and (%(cycle)s::text is null or bil.cycle_id = %(cycle)s)
        and not exists (
            select 1 from billing.ledger_entry as ent
            where ent.idempotency_key = 'bill:' || bil.bill_id
        )
),
item as (
    select
        bil.bill_id, itm.bill_item_code, sum(itm.amount) as amount,
        coalesce(min(rul.priority), %(priority)s) as priority,
        coalesce(min(rul.ledger_code), 'revenue') as ledger_code,
        coalesce(bool_and(rul.accrues_late_fee), true) as accrues_late_fee
    from bill as bil
    join billing.bill_item as itm on itm.bill_id = bil.bill_id
    left join billing.item_rule as rul on rul.bill_item_code = itm.bill_item_code
    group by bil.bill_id, itm.bill_item_code
    having sum(itm.amount) <> 0
),
ranked as (
    select
        item.*,
        -sum(least(amount, 0)) over (partition by bill_id) as credit_amount,
        coalesce(
            sum(greatest(amount, 0)) over (
                partition by bill_id order by priority, bill_item_code
                rows between unbounded preceding and 1 preceding
            ),
            0
        ) as before_amount
    from item
),
owed as (
    select
        bill_id, bill_item_code, priority, accrues_late_fee,
        amount - least(amount, greatest(credit_amount - before_amount, 0)) as amount
    from ranked
    where amount > 0
),
left_over as (
    select bill_id, -sum(amount) as amount from item group by bill_id having sum(amount) < 0
),
new_item as (
    insert into billing.open_item (
        open_item_id, account_id, province_code, document_type, document_id, bill_id,
        bill_item_code, issued_date, due_date, priority, accrues_late_fee, amount
    )
    select
        own.bill_id || '/' || own.bill_item_code, bil.account_id, bil.province_code, 'bill',
        own.bill_id, own.bill_id, own.bill_item_code, bil.last_day,
        bil.last_day + cast(
            billing.accounts_parameter_on('payment_term_days', bil.last_day) as integer
        ),
        own.priority, own.accrues_late_fee, own.amount
    from owed as own
    join bill as bil on bil.bill_id = own.bill_id
    where own.amount > 0
    returning open_item_id, bill_id, bill_item_code, amount
),
new_fund as (
    insert into billing.fund (
        fund_id, account_id, province_code, kind, bill_id, valid_from, amount
    )
    select 'bill:' || lef.bill_id, bil.account_id, bil.province_code, 'deposit', lef.bill_id,
        bil.last_day, lef.amount
    from left_over as lef
    join bill as bil on bil.bill_id = lef.bill_id
    returning fund_id, bill_id, amount
),
line as (
    select bill_id, 'receivable' as ledger_code, bill_item_code, open_item_id,
        cast(null as text) as fund_id, amount
    from new_item
    union all
    select bill_id, ledger_code, bill_item_code, null, null, -amount from item
    union all
    select bill_id, 'deposit', null, null, fund_id, -amount from new_fund
),
new_entry as (
    insert into billing.ledger_entry (
        entry_type, posted_date, account_id, province_code, idempotency_key, line_count, bill_id,
        by_user
    )
    select
        'bill', billing.accounting_date(bil.last_day), bil.account_id, bil.province_code,
        'bill:' || bil.bill_id, count(*), bil.bill_id, %(by)s
    from line as lin
    join bill as bil on bil.bill_id = lin.bill_id
    group by bil.bill_id, bil.last_day, bil.account_id, bil.province_code
    returning entry_id, bill_id
),
new_line as (
    insert into billing.ledger_line (
        entry_id, line_number, ledger_code, bill_item_code, open_item_id, fund_id, amount
    )
    select
        ent.entry_id,
        row_number() over (
            partition by lin.bill_id order by lin.amount < 0, lin.ledger_code, lin.bill_item_code
        ),
        lin.ledger_code, lin.bill_item_code, lin.open_item_id, lin.fund_id, lin.amount
    from line as lin
    join new_entry as ent on ent.bill_id = lin.bill_id
)
select count(*) from new_entry
"""


def post_final_bills(
    connection: psycopg.Connection[Any], *, timezone: str, by_user: str,
    cycle_id: str | None = None,
) -> int:  # fmt: skip
    """Post the bills of final cycles (or of one) that are not posted yet; returns how many."""
    return _count(
        connection, _POST_BILLS,
        {"timezone": timezone, "cycle": cycle_id, "by": by_user, "priority": DEFAULT_PRIORITY},
    )  # fmt: skip


# A payment fills a fund of its own; allocation then pays open items from it.
_POST_PAYMENTS = """
with receipt as (
    select
        pay.payment_id, pay.account_id, pay.province_code, pay.amount, cha.ledger_code,
        cast((pay.paid_at at time zone %(timezone)s) as date) as paid_date
    from billing.payment as pay
    join billing.payment_channel as cha on cha.channel = pay.channel
    where pay.payment_type = 'payment'
        and (%(payment)s::text is null or pay.payment_id = %(payment)s)
        and not exists (
            select 1 from billing.ledger_entry as ent
            where ent.idempotency_key = 'payment:' || pay.payment_id
        )
),
new_fund as (
    insert into billing.fund (
        fund_id, account_id, province_code, kind, payment_id, valid_from, amount
    )
    select 'payment:' || payment_id, account_id, province_code, 'deposit', payment_id, paid_date,
        amount
    from receipt
    returning payment_id, fund_id
),
new_entry as (
    insert into billing.ledger_entry (
        entry_type, posted_date, account_id, province_code, idempotency_key, line_count,
        payment_id, by_user
    )
    select 'payment', billing.accounting_date(paid_date), account_id, province_code,
        'payment:' || payment_id, 2, payment_id, %(by)s
    from receipt
    returning entry_id, payment_id
),
new_line as (
    insert into billing.ledger_line (entry_id, line_number, ledger_code, fund_id, amount)
    select ent.entry_id, lin.line_number, lin.ledger_code, lin.fund_id, lin.amount
    from new_entry as ent
    join receipt as rec on rec.payment_id = ent.payment_id
    join new_fund as fnd on fnd.payment_id = ent.payment_id
    cross join lateral (
        values
            (1, coalesce(%(debit)s::text, rec.ledger_code), cast(null as text), rec.amount),
            (2, 'deposit', fnd.fund_id, -rec.amount)
    ) as lin (line_number, ledger_code, fund_id, amount)
)
select count(*) from new_entry
"""


def post_payments(
    connection: psycopg.Connection[Any], *, timezone: str, by_user: str,
    payment_id: str | None = None, debit: str | None = None,
) -> int:  # fmt: skip
    """Post payments (or one) that are not posted yet, each into a fund; returns how many.

    `debit` is the ledger account the money came to; default the one of the payment's channel.
    """
    return _count(
        connection, _POST_PAYMENTS,
        {"timezone": timezone, "payment": payment_id, "by": by_user, "debit": debit},
    )  # fmt: skip


# One fund of each account at a time, the first of its order that can pay something: bonus money
# before deposits, what expires first before what expires later, then the oldest. It pays the items
# it may pay, oldest document first, within a document by priority.
_ALLOCATE = """
with account as (
    select distinct account_id from billing.fund
    where balance_amount > 0
        and (%(accounts)s::text[] is null or account_id = any(%(accounts)s))
),
payable as (
    select
        fnd.fund_id, fnd.kind, fnd.account_id, fnd.province_code, fnd.balance_amount,
        itm.open_item_id, itm.bill_item_code, itm.open_amount, itm.issued_date, itm.document_id,
        itm.priority,
        greatest(fnd.valid_from, itm.issued_date, %(not_before)s::date) as allocated_date,
        dense_rank() over (
            partition by fnd.account_id
            order by case fnd.kind when 'bonus' then 1 else 2 end, fnd.valid_to nulls last,
                fnd.valid_from, fnd.fund_id
        ) as fund_rank
    from account as acc
    join billing.fund as fnd on fnd.account_id = acc.account_id and fnd.balance_amount > 0
    join billing.open_item as itm
        on itm.account_id = fnd.account_id
        and itm.open_amount > 0
        and (fnd.bill_item_codes is null or itm.bill_item_code = any(fnd.bill_item_codes))
    where fnd.kind = 'deposit'
        or (
            fnd.valid_from <= %(today)s
            and (fnd.valid_to is null or fnd.valid_to >= greatest(%(today)s, itm.issued_date))
        )
),
queued as (
    select
        payable.*,
        coalesce(
            sum(open_amount) over (
                partition by fund_id
                order by issued_date, document_id, priority, open_item_id
                rows between unbounded preceding and 1 preceding
            ),
            0
        ) as before_amount
    from payable
    where fund_rank = 1
),
paid as (
    select
        queued.*, billing.accounting_date(allocated_date) as posted_date,
        least(open_amount, balance_amount - before_amount) as amount
    from queued
    where before_amount < balance_amount
),
line as (
    select fund_id, posted_date, 'receivable' as ledger_code, bill_item_code, open_item_id,
        cast(null as text) as own_fund_id, -amount as amount
    from paid
    union all
    select fund_id, posted_date, kind, null, null, fund_id, sum(amount)
    from paid
    group by fund_id, posted_date, kind
),
numbered as materialized (
    select fund_id, posted_date, line_count, nextval('billing.ledger_entry_number') as entry_id
    from (
        select fund_id, posted_date, count(*) as line_count from line group by fund_id, posted_date
        order by fund_id, posted_date
    ) as grouped
),
new_entry as (
    insert into billing.ledger_entry (
        entry_id, entry_type, posted_date, account_id, province_code, idempotency_key, line_count,
        payment_id, by_user
    )
    select
        num.entry_id, 'allocation', num.posted_date, fnd.account_id, fnd.province_code,
        'allocation:' || num.entry_id, num.line_count, fnd.payment_id, %(by)s
    from numbered as num
    join billing.fund as fnd on fnd.fund_id = num.fund_id
),
new_line as (
    insert into billing.ledger_line (
        entry_id, line_number, ledger_code, bill_item_code, open_item_id, fund_id, amount
    )
    select
        num.entry_id,
        row_number() over (
            partition by num.entry_id order by lin.amount < 0, lin.open_item_id
        ),
        lin.ledger_code, lin.bill_item_code, lin.open_item_id, lin.own_fund_id, lin.amount
    from line as lin
    join numbered as num on num.fund_id = lin.fund_id and num.posted_date = lin.posted_date
)
select count(*), coalesce(sum(amount), 0) from paid
"""


def allocate(
    connection: psycopg.Connection[Any], *, account_ids: Sequence[str] | None, today: date,
    by_user: str, not_before: date | None = None,
) -> Decimal:  # fmt: skip
    """Pay open items from the accounts' funds (all accounts for None) 销帐; returns the amount.

    An allocation is dated when both the money and the debt were there, but not before
    `not_before`. Bonus money that expired before `today` pays nothing. The caller holds the
    accounts' locks (lock_accounts) unless it works on all of them.
    """
    accounts = None if account_ids is None else sorted(set(account_ids))
    if accounts is None:
        rows = connection.execute(
            "select distinct fnd.account_id from billing.fund as fnd"
            " join billing.open_item as itm on itm.account_id = fnd.account_id"
            " where fnd.balance_amount > 0 and itm.open_amount > 0"
        ).fetchall()
        accounts = sorted(account_id for (account_id,) in rows)
        lock_accounts(connection, accounts)
    allocated = Decimal(0)
    while True:
        row = connection.execute(
            _ALLOCATE,
            {"accounts": accounts, "today": today, "not_before": not_before, "by": by_user},
        ).fetchone()
        assert row is not None  # noqa: S101 - an aggregate always gives a row
        if row[0] == 0:
            return allocated
        allocated += row[1]


_EXPIRE_BONUSES = """
with expired as materialized (
    select fund_id, account_id, province_code, balance_amount,
        nextval('billing.ledger_entry_number') as entry_id
    from billing.fund
    where kind = 'bonus' and valid_to < %(today)s and balance_amount > 0
),
new_entry as (
    insert into billing.ledger_entry (
        entry_id, entry_type, posted_date, account_id, province_code, idempotency_key, line_count,
        by_user
    )
    select entry_id, 'bonus_expiry', billing.accounting_date(%(today)s), account_id,
        province_code, 'bonus_expiry:' || entry_id, 2, %(by)s
    from expired
),
new_line as (
    insert into billing.ledger_line (entry_id, line_number, ledger_code, fund_id, amount)
    select exp.entry_id, lin.line_number, lin.ledger_code, lin.fund_id, lin.amount
    from expired as exp
    cross join lateral (
        values
            (1, 'bonus', exp.fund_id, exp.balance_amount),
            (2, 'bonus_granted', cast(null as text), -exp.balance_amount)
    ) as lin (line_number, ledger_code, fund_id, amount)
)
select count(*) from expired
"""


def expire_bonuses(connection: psycopg.Connection[Any], *, today: date, by_user: str) -> int:
    """Take back bonus money whose last day is before `today`; returns how many funds."""
    connection.execute(
        "select account_id from crm.account where account_id in (select account_id"
        " from billing.fund where kind = 'bonus' and valid_to < %s and balance_amount > 0)"
        " order by account_id for no key update",
        (today,),
    )
    return _count(connection, _EXPIRE_BONUSES, {"today": today, "by": by_user})


def post_all(
    connection: psycopg.Connection[Any], *, timezone: str, today: date, by_user: str
) -> Posted:
    """Post what is not posted yet (final bills, payments), expire bonuses, allocate."""
    bills = post_final_bills(connection, timezone=timezone, by_user=by_user)
    payments = post_payments(connection, timezone=timezone, by_user=by_user)
    expired = expire_bonuses(connection, today=today, by_user=by_user)
    allocated = allocate(connection, account_ids=None, today=today, by_user=by_user)
    return Posted(bills, payments, expired, allocated)


def reverse_entry(
    connection: psycopg.Connection[Any], *, entry_id: int, posted_date: date, reason_code: str,
    by_user: str,
) -> int:  # fmt: skip
    """Post the mirror of an entry; returns its number. Which it reverses is unique."""
    row = connection.execute(
        "insert into billing.ledger_entry (entry_type, posted_date, account_id, province_code,"
        " idempotency_key, line_count, reverses_entry_id, reason_code, bill_id, payment_id,"
        " note_id, by_user)"
        " select 'reversal', billing.accounting_date(greatest(%(day)s, posted_date)), account_id,"
        " province_code, 'reversal:' || entry_id, line_count, entry_id, %(reason)s, bill_id,"
        " payment_id, note_id, %(by)s"
        " from billing.ledger_entry where entry_id = %(entry)s returning entry_id",
        {"entry": entry_id, "day": posted_date, "reason": reason_code, "by": by_user},
    ).fetchone()
    assert row is not None  # noqa: S101 - the caller found the entry
    connection.execute(
        "insert into billing.ledger_line (entry_id, line_number, ledger_code, bill_item_code,"
        " open_item_id, fund_id, amount)"
        " select %s, line_number, ledger_code, bill_item_code, open_item_id, fund_id, -amount"
        " from billing.ledger_line where entry_id = %s",
        (row[0], entry_id),
    )
    return int(row[0])


def live_allocations(
    connection: psycopg.Connection[Any], *, fund_id: str | None = None,
    open_item_ids: Sequence[str] = (),
) -> list[int]:  # fmt: skip
    """Allocations from a fund, or to open items, that are not reversed; the newest first."""
    rows = connection.execute(
        "select distinct ent.entry_id from billing.ledger_entry as ent"
        " join billing.ledger_line as lin on lin.entry_id = ent.entry_id"
        " where ent.entry_type = 'allocation'"
        " and (lin.fund_id = %s or lin.open_item_id = any(%s))"
        " and not exists (select 1 from billing.ledger_entry as rev"
        "     where rev.reverses_entry_id = ent.entry_id)"
        " order by ent.entry_id desc",
        (fund_id, list(open_item_ids)),
    ).fetchall()
    return [entry_id for (entry_id,) in rows]


def _count(connection: psycopg.Connection[Any], query: str, values: dict[str, Any]) -> int:
    row = connection.execute(query, values).fetchone()
    assert row is not None  # noqa: S101 - an aggregate always gives a row
    return int(row[0])
