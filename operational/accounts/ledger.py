"""Posts into the receivables ledger: payments, allocation, reversal. Set-based SQL.

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


def expect_many(connection: psycopg.Connection[Any]) -> None:
    """Before much is posted: memory for sorting it, and triggers and foreign keys planned anew.

    A plan made while a table was a page long reads the whole table for every row.
    """
    connection.execute("set local work_mem = '64MB'")
    connection.execute("discard plans")


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


# The statements below work for one payment and for a month's bills. What one step finds out it
# hands on in its rows, with the number of the entry it will be: no step is joined with another,
# only with tables through their indexes. The planner does not know how large a step's result is,
# and might compare every row of one with every row of the other.

# A payment fills a fund of its own; allocation then pays open items from it. The fund on the debit
# side is the security deposit that it is applied from.
_POST_PAYMENTS = """
with receipt as materialized (
    select
        pay.payment_id, pay.account_id, pay.province_code, pay.amount, pay.security_deposit_id,
        coalesce(%(debit)s::text, cha.ledger_code) as ledger_code, days.paid_date,
        greatest(days.paid_date, (select billing.accounting_date('-infinity'))) as posted_date,
        'payment:' || pay.payment_id as fund_id,
        nextval('billing.ledger_entry_number') as entry_id
    from billing.payment as pay
    join billing.payment_channel as cha on cha.channel = pay.channel
    cross join lateral (
        select cast((pay.paid_at at time zone %(timezone)s) as date) as paid_date
    ) as days
    where pay.payment_type = 'payment'
        and (%(payments)s::text[] is null or pay.payment_id = any(%(payments)s))
        and not exists (
            select 1 from billing.ledger_entry as ent
            where ent.idempotency_key = 'payment:' || pay.payment_id
        )
),
new_fund as (
    insert into billing.fund (
        fund_id, account_id, province_code, kind, payment_id, valid_from, amount
    )
    select fund_id, account_id, province_code, 'deposit', payment_id, paid_date, amount
    from receipt
),
new_entry as (
    insert into billing.ledger_entry (
        entry_id, entry_type, posted_date, account_id, province_code, idempotency_key, line_count,
        payment_id, by_user
    )
    select entry_id, 'payment', posted_date, account_id, province_code, 'payment:' || payment_id,
        2, payment_id, %(by)s
    from receipt
),
new_line as (
    insert into billing.ledger_line (entry_id, line_number, ledger_code, fund_id, amount)
    select rec.entry_id, lin.line_number, lin.ledger_code, lin.fund_id, lin.amount
    from receipt as rec
    cross join lateral (
        values
            (1, rec.ledger_code, rec.security_deposit_id, rec.amount),
            (2, 'deposit', rec.fund_id, -rec.amount)
    ) as lin (line_number, ledger_code, fund_id, amount)
)
select count(*) from receipt
"""


def post_payments(
    connection: psycopg.Connection[Any], *, timezone: str, by_user: str,
    payment_ids: Sequence[str] | None = None, debit: str | None = None,
) -> int:  # fmt: skip
    """Post payments (or some) that are not posted yet, each into a fund; returns how many.

    `debit` is the ledger account the money came to; default the one of the payment's channel. What
    is applied of a security deposit comes out of the fund that holds it.
    """
    if payment_ids is None:
        expect_many(connection)
    payments = None if payment_ids is None else list(payment_ids)
    return count_rows(
        connection, _POST_PAYMENTS,
        {"timezone": timezone, "payments": payments, "by": by_user, "debit": debit},
    )  # fmt: skip


# One fund of each account at a time, the first of its order that can pay something: bonus money
# before deposits, what expires first before what expires later, then the oldest. It pays the items
# it may pay, oldest document first, within a document by priority.
_ALLOCATE = """
with payable as (
    select
        fnd.fund_id, fnd.kind, fnd.account_id, fnd.province_code as fund_province, fnd.payment_id,
        fnd.balance_amount, itm.open_item_id, itm.bill_item_code, itm.open_amount,
        itm.issued_date, itm.document_id, itm.priority,
        greatest(
            fnd.valid_from, itm.issued_date, %(not_before)s::date,
            (select billing.accounting_date('-infinity'))
        ) as posted_date,
        dense_rank() over (
            partition by fnd.account_id
            order by case fnd.kind when 'bonus' then 1 else 2 end, fnd.valid_to nulls last,
                fnd.valid_from, fnd.fund_id
        ) as fund_rank
    from billing.fund as fnd
    join billing.open_item as itm
        on itm.account_id = fnd.account_id
        and itm.open_amount > 0
        and (fnd.bill_item_codes is null or itm.bill_item_code = any(fnd.bill_item_codes))
        and (
            %(due_before)s::date is null
            or (itm.due_date < %(due_before)s and itm.document_type <> 'deduction')
        )
    where fnd.balance_amount > 0
        and fnd.kind <> 'security_deposit'
        and fnd.account_id = any(%(accounts)s)
        and (
            fnd.kind = 'deposit'
            or (
                fnd.valid_from <= %(today)s
                and (fnd.valid_to is null or fnd.valid_to >= greatest(%(today)s, itm.issued_date))
            )
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
        queued.*, least(open_amount, balance_amount - before_amount) as amount,
        case row_number() over (partition by fund_id, posted_date order by open_item_id)
            when 1 then nextval('billing.ledger_entry_number')
        end as new_number
    from queued
    where before_amount < balance_amount
),
numbered as materialized (
    select
        paid.*,
        max(new_number) over entry as entry_id,
        sum(amount) over entry as entry_amount,
        count(*) over entry + 1 as line_count,
        row_number() over (partition by fund_id, posted_date order by open_item_id) + 1
            as line_number
    from paid
    window entry as (partition by fund_id, posted_date)
),
new_entry as (
    insert into billing.ledger_entry (
        entry_id, entry_type, posted_date, account_id, province_code, idempotency_key, line_count,
        payment_id, by_user
    )
    select
        entry_id, 'allocation', posted_date, account_id, fund_province,
        'allocation:' || entry_id, line_count, payment_id, %(by)s
    from numbered
    where new_number is not null
),
new_line as (
    insert into billing.ledger_line (
        entry_id, line_number, ledger_code, bill_item_code, open_item_id, fund_id, amount
    )
    select entry_id, 1, kind, null, null, fund_id, entry_amount
    from numbered
    where new_number is not null
    union all
    select entry_id, line_number, 'receivable', bill_item_code, open_item_id, null, -amount
    from numbered
)
select count(*), coalesce(sum(amount), 0) from numbered
"""


def allocate(
    connection: psycopg.Connection[Any], *, account_ids: Sequence[str] | None, today: date,
    by_user: str, not_before: date | None = None, due_before: date | None = None,
) -> Decimal:  # fmt: skip
    """Pay open items from the accounts' funds (all accounts for None) 销帐; returns the amount.

    An allocation is dated when both the money and the debt were there, but not before
    `not_before`. Bonus money that expired before `today` pays nothing; security deposits pay
    nothing ever. With `due_before` only what was due before that day is paid, and no deductions.
    The caller holds the accounts' locks (lock_accounts) unless it works on all of them.
    """
    accounts = None if account_ids is None else sorted(set(account_ids))
    if accounts is None:
        rows = connection.execute(
            "select distinct fnd.account_id from billing.fund as fnd"
            " join billing.open_item as itm on itm.account_id = fnd.account_id"
            " where fnd.balance_amount > 0 and fnd.kind <> 'security_deposit'"
            " and itm.open_amount > 0"
        ).fetchall()
        accounts = sorted(account_id for (account_id,) in rows)
        lock_accounts(connection, accounts)
    if len(accounts) > 1:
        expect_many(connection)
    allocated = Decimal(0)
    while True:
        row = connection.execute(
            _ALLOCATE,
            {
                "accounts": accounts, "today": today, "not_before": not_before, "by": by_user,
                "due_before": due_before,
            },
        ).fetchone()  # fmt: skip
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
    expect_many(connection)
    connection.execute(
        "select account_id from crm.account where account_id in (select account_id"
        " from billing.fund where kind = 'bonus' and valid_to < %s and balance_amount > 0)"
        " order by account_id for no key update",
        (today,),
    )
    return count_rows(connection, _EXPIRE_BONUSES, {"today": today, "by": by_user})


def reverse_entry(
    connection: psycopg.Connection[Any], *, entry_id: int, posted_date: date, reason_code: str,
    by_user: str, note_id: str | None = None,
) -> int:  # fmt: skip
    """Post the mirror of an entry; returns its number. Which it reverses is unique.

    `note_id` is the note because of which it is reversed.
    """
    row = connection.execute(
        "insert into billing.ledger_entry (entry_type, posted_date, account_id, province_code,"
        " idempotency_key, line_count, reverses_entry_id, reason_code, bill_id, payment_id,"
        " note_id, by_user)"
        " select 'reversal', billing.accounting_date(greatest(%(day)s, posted_date)), account_id,"
        " province_code, 'reversal:' || entry_id, line_count, entry_id, %(reason)s, bill_id,"
        " payment_id, coalesce(%(note)s, note_id), %(by)s"
        " from billing.ledger_entry where entry_id = %(entry)s returning entry_id",
        {
            "entry": entry_id,
            "day": posted_date,
            "reason": reason_code,
            "by": by_user,
            "note": note_id,
        },
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


def open_again(
    connection: psycopg.Connection[Any], *, open_item_ids: Sequence[str], amount: Decimal,
    posted_date: date, reason_code: str, by_user: str, note_id: str | None = None,
) -> tuple[list[tuple[str, Decimal]], date]:  # fmt: skip
    """Undo payments of items, the newest first, until `amount` of them is open, or all is.

    What an allocation paid besides is open again too, and its money is where it came from: allocate
    afterwards. Returns the items with what is open, oldest first, and the day of the oldest
    allocation that was undone (`posted_date` where there was none).
    """
    ids, oldest = list(open_item_ids), posted_date
    allocations = iter(live_allocations(connection, open_item_ids=ids))
    while True:
        items = connection.execute(
            "select open_item_id, open_amount from billing.open_item"
            " where open_item_id = any(%s) order by issued_date, document_id, open_item_id",
            (ids,),
        ).fetchall()
        if sum((open_amount for _, open_amount in items), Decimal(0)) >= amount:
            return items, oldest
        if (entry_id := next(allocations, None)) is None:
            return items, oldest
        reverse_entry(
            connection, entry_id=entry_id, posted_date=posted_date, reason_code=reason_code,
            by_user=by_user, note_id=note_id,
        )  # fmt: skip
        row = connection.execute(
            "select posted_date from billing.ledger_entry where entry_id = %s", (entry_id,)
        ).fetchone()
        assert row is not None  # noqa: S101 - it was just reversed
        oldest = min(oldest, row[0])


def count_rows(connection: psycopg.Connection[Any], query: str, values: dict[str, Any]) -> int:
    """The one number a statement of postings gives: how many documents it posted."""
    row = connection.execute(query, values).fetchone()
    assert row is not None  # noqa: S101 - an aggregate always gives a row
    return int(row[0])
