"""Balances of prepaid accounts: low ones are told, empty ones barred, topped up ones restored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import psycopg
from sqlalchemy import text
from sqlalchemy.orm import Session

from operational.crm.models import Account
from operational.permissions import Principal
from operational.problems import NotFoundError

SHOWN_MOVEMENTS = 50


@dataclass(frozen=True)
class Watched:
    """What looking at balances led to: notices, and lines barred and restored."""

    notices: int
    barred: int
    restored: int


@dataclass(frozen=True)
class DeductedItem:
    """What is deducted of one bill item in one cycle, and in how many postings."""

    cycle_id: str
    bill_item_code: str
    amount: Decimal
    postings: int
    last_date: date
    is_billed: bool


@dataclass(frozen=True)
class Movement:
    """One posting that changed the balance: a top-up is positive, a deduction negative."""

    entry_id: int
    posted_date: date
    entry_type: str
    reason_code: str | None
    amount: Decimal


@dataclass(frozen=True)
class PrepaidBalance:
    """A prepaid account's balance, and how it came to be."""

    account_id: str
    balance_amount: Decimal  # may pay anything, less what is owed; negative where charges exceed it
    restricted_amount: Decimal  # bonus money for some bill items only
    low_amount: Decimal
    barring_amount: Decimal
    standing: str  # enough, low, barred
    deducted: list[DeductedItem]
    movements: list[Movement]  # the newest


# Money that may pay anything less what was deducted and is not paid. Bills are no part of it: they
# are dunned when they are due.
_STANDING = """
select
    acc.account_id, acc.province_code,
    coalesce(
        (
            select sum(fnd.balance_amount) from billing.fund as fnd
            where fnd.account_id = acc.account_id and fnd.balance_amount > 0
                and fnd.kind <> 'security_deposit' and fnd.bill_item_codes is null
                and (
                    fnd.kind = 'deposit' or (
                        fnd.valid_from <= %(today)s
                        and (fnd.valid_to is null or fnd.valid_to >= %(today)s)
                    )
                )
        ),
        0
    ) - coalesce(
        (
            select sum(itm.open_amount) from billing.open_item as itm
            where itm.account_id = acc.account_id and itm.open_amount > 0
                and itm.document_type = 'deduction'
        ),
        0
    ) as balance_amount,
    billing.accounts_parameter_on('low_balance_amount', %(today)s) as low_amount,
    billing.accounts_parameter_on('barring_balance_amount', %(today)s) as barring_amount
from crm.account as acc
where (%(accounts)s::text[] is null or acc.account_id = any(%(accounts)s))
    and exists (select 1 from billing.deduction as ded where ded.account_id = acc.account_id)
"""

# Prepaid lines in service. What two cases bar is restored with the later of the two.
_LINES = """
select sub.account_id, sub.subscription_id, sub.province_code
from crm.subscription as sub
where sub.payment_type = 'prepaid' and sub.status <> 'terminated'
    and (sub.valid_to is null or sub.valid_to > now())
"""

_CLOSE = f"""
with closed as (
    update billing.balance_case as cas
    set closed_date = greatest(%(today)s, cas.opened_date, cas.barred_date)
    from ({_STANDING}) as std
    where std.account_id = cas.account_id and cas.closed_date is null
        and std.balance_amount > case
            when cas.barred_date is null then std.low_amount else std.barring_amount
        end
    returning cas.balance_case_id, cas.barred_date, cas.closed_date, std.balance_amount,
        std.barring_amount
),
told as (
    insert into billing.balance_notice (
        balance_case_id, kind, notice_date, balance_amount, threshold_amount
    )
    select balance_case_id, 'restored', closed_date, balance_amount, barring_amount
    from closed
    where barred_date is not null
    returning balance_case_id
)
select balance_case_id from told
"""  # noqa: S608 - text of this module

_RESTORE = """
insert into billing.service_order (
    account_id, subscription_id, province_code, action, balance_case_id, requested_date
)
select ord.account_id, ord.subscription_id, ord.province_code, 'restore', ord.balance_case_id,
    %(today)s
from billing.service_order as ord
where ord.balance_case_id = any(%(cases)s) and ord.action = 'bar_outgoing'
    and ord.state in ('sent', 'completed')
    and not exists (
        select 1 from billing.service_order as oth
        join billing.dunning_case as cas on cas.case_id = oth.case_id
        where oth.subscription_id = ord.subscription_id and cas.closed_date is null
            and oth.action in ('bar_outgoing', 'bar_all', 'terminate') and oth.state <> 'cancelled'
    )
"""

_OPEN = f"""
with opened as (
    insert into billing.balance_case (account_id, province_code, opened_date)
    select std.account_id, std.province_code, %(today)s
    from ({_STANDING}) as std
    where std.balance_amount <= greatest(std.low_amount, std.barring_amount)
        and exists (select 1 from ({_LINES}) as lin where lin.account_id = std.account_id)
    on conflict (account_id) where closed_date is null do nothing
    returning balance_case_id, account_id
),
told as (
    insert into billing.balance_notice (
        balance_case_id, kind, notice_date, balance_amount, threshold_amount
    )
    select opn.balance_case_id, 'low', %(today)s, std.balance_amount, std.low_amount
    from opened as opn
    join ({_STANDING}) as std on std.account_id = opn.account_id
    returning balance_case_id
)
select count(*) from told
"""  # noqa: S608 - text of this module

_BAR = f"""
with barred as (
    update billing.balance_case as cas
    set barred_date = greatest(%(today)s, cas.opened_date)
    from ({_STANDING}) as std
    where std.account_id = cas.account_id and cas.closed_date is null
        and cas.barred_date is null and std.balance_amount <= std.barring_amount
    returning cas.balance_case_id, cas.account_id, cas.barred_date, std.balance_amount,
        std.barring_amount
),
told as (
    insert into billing.balance_notice (
        balance_case_id, kind, notice_date, balance_amount, threshold_amount
    )
    select balance_case_id, 'barred', barred_date, balance_amount, barring_amount
    from barred
    returning balance_case_id
),
ordered as (
    insert into billing.service_order (
        account_id, subscription_id, province_code, action, balance_case_id, requested_date
    )
    select bar.account_id, lin.subscription_id, lin.province_code, 'bar_outgoing',
        bar.balance_case_id, bar.barred_date
    from barred as bar
    join ({_LINES}) as lin on lin.account_id = bar.account_id
    order by bar.account_id, lin.subscription_id
    returning subscription_id
)
select (select count(*) from told), (select count(*) from ordered)
"""  # noqa: S608 - text of this module


def watch(
    connection: psycopg.Connection[Any], *, account_ids: Sequence[str] | None, today: date
) -> Watched:
    """Compare balances of prepaid accounts (all for None) with the thresholds, and act once.

    A case begins with the notice of a low balance, bars the prepaid lines when the balance comes to
    the barring threshold, and ends, restoring them, when there is more than that again. Orders to
    bar that nobody has sent yet are cancelled. Accounts nothing was ever deducted from are not
    looked at.
    """
    accounts = None if account_ids is None else list(account_ids)
    values: dict[str, Any] = {"accounts": accounts, "today": today}
    cases = [case_id for (case_id,) in connection.execute(_CLOSE, values).fetchall()]
    restored = 0
    if cases:
        connection.execute(
            "update billing.service_order set state = 'cancelled', version = version + 1"
            " where balance_case_id = any(%s) and state in ('requested', 'failed')"
            " and action <> 'restore'",
            (cases,),
        )
        restored = connection.execute(_RESTORE, {"cases": cases, "today": today}).rowcount
    opened = connection.execute(_OPEN, values).fetchone()
    barred = connection.execute(_BAR, values).fetchone()
    assert opened is not None and barred is not None  # noqa: S101 - aggregates give a row
    return Watched(len(cases) + opened[0] + barred[0], barred[1], restored)


def prepaid_balance(
    session: Session, *, principal: Principal, account_id: str, today: date,
    limit: int = SHOWN_MOVEMENTS,
) -> PrepaidBalance:  # fmt: skip
    """The balance of an account, what was deducted by cycle and item, and the newest movements.

    Raises NotFoundError for an account of another province.
    """
    principal.require("receivable.read")
    account = session.get(Account, account_id)
    if account is None or not principal.sees(account.province_code):
        raise NotFoundError("no_account", account_id=account_id)
    values = {"account": account_id, "today": today, "limit": limit}
    money = session.execute(text(_BALANCE), values).one()
    deducted: Sequence[Any] = session.execute(text(_DEDUCTED), values).all()
    movements: Sequence[Any] = session.execute(text(_MOVEMENTS), values).all()
    return PrepaidBalance(
        account_id=account_id, balance_amount=money.balance_amount,
        restricted_amount=money.restricted_amount, low_amount=money.low_amount,
        barring_amount=money.barring_amount, standing=money.standing,
        deducted=[DeductedItem(*row) for row in deducted],
        movements=[Movement(*row) for row in movements],
    )  # fmt: skip


_BALANCE = """
select
    coalesce(sum(fnd.balance_amount) filter (where fnd.bill_item_codes is null), 0) - (
        select coalesce(sum(itm.open_amount), 0) from billing.open_item as itm
        where itm.account_id = :account and itm.document_type = 'deduction'
    ) as balance_amount,
    coalesce(sum(fnd.balance_amount) filter (where fnd.bill_item_codes is not null), 0)
        as restricted_amount,
    round(billing.accounts_parameter_on('low_balance_amount', :today), 2) as low_amount,
    round(billing.accounts_parameter_on('barring_balance_amount', :today), 2) as barring_amount,
    coalesce(
        (
            select case when cas.barred_date is null then 'low' else 'barred' end
            from billing.balance_case as cas
            where cas.account_id = :account and cas.closed_date is null
        ),
        'enough'
    ) as standing
from billing.fund as fnd
where fnd.account_id = :account and fnd.balance_amount > 0 and fnd.kind <> 'security_deposit'
    and (
        fnd.kind = 'deposit'
        or (fnd.valid_from <= :today and (fnd.valid_to is null or fnd.valid_to >= :today))
    )
"""

_DEDUCTED = """
select ded.cycle_id, ded.bill_item_code, sum(ded.amount), count(*), max(ent.posted_date),
    exists (
        select 1 from billing.bill as bil
        join billing.ledger_entry as bll on bll.idempotency_key = 'bill:' || bil.bill_id
        where bil.account_id = :account and bil.cycle_id = ded.cycle_id
    )
from billing.deduction as ded
join billing.ledger_entry as ent on ent.entry_id = ded.entry_id
where ded.account_id = :account
group by ded.cycle_id, ded.bill_item_code
order by ded.cycle_id desc, ded.bill_item_code
limit :limit
"""

# Allocation moves money inside the balance; what changes it are the other entries.
_MOVEMENTS = """
select ent.entry_id, ent.posted_date, ent.entry_type, ent.reason_code, -sum(lin.amount)
from billing.ledger_entry as ent
join billing.ledger_line as lin on lin.entry_id = ent.entry_id
left join billing.open_item as itm on itm.open_item_id = lin.open_item_id
where ent.account_id = :account and lin.ledger_code <> 'security_deposit'
    and (lin.fund_id is not null or itm.document_type = 'deduction')
group by ent.entry_id
having sum(lin.amount) <> 0
order by ent.entry_id desc
limit :limit
"""
