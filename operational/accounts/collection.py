"""Those who do not pay: late fees by day, dunning by step, barring and restoring, bad debt."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import psycopg
from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from operational import audit
from operational.accounts import balance, ledger
from operational.accounts.models import (
    DunningCase,
    DunningStep,
    LedgerEntry,
    ServiceOrder,
    ServiceOrderTransition,
)  # fmt: skip
from operational.database import driver_transaction, transaction
from operational.permissions import Principal
from operational.problems import ConflictError, InvalidRequestError, NotFoundError
from tollhouse.settings import Settings

LATEST_CATCH_UP = 400  # days: more were never missed, the date is mistyped
ACTIONS = ("remind", "bar_outgoing", "bar_all", "terminate", "write_off")


@dataclass(frozen=True)
class LateFees:
    """What late fees were charged: days run, documents, amount."""

    days: int
    documents: int
    amount: Decimal


@dataclass(frozen=True)
class Dunned:
    """What a dunning run did: steps taken by action, orders given, accounts restored, amounts."""

    actions: dict[str, int]
    orders: int
    restored: int
    applied_amount: Decimal  # of security deposits, before anything is written off
    written_off_amount: Decimal


# What of a document was open at the end of a day, out of the ledger as it was dated; the fee is
# rounded half-up to the fen per document and day, and never exceeds the document's principal.
_LATE_FEES = """
with candidate as (
    select open_item_id from billing.open_item where open_amount > 0
    union
    select lin.open_item_id
    from billing.ledger_entry as ent
    join billing.ledger_line as lin on lin.entry_id = ent.entry_id
    where ent.posted_date > %(day)s and lin.open_item_id is not null
),
item as (
    select itm.open_item_id, itm.document_id, itm.bill_id, itm.account_id, itm.province_code
    from candidate as can
    join billing.open_item as itm on itm.open_item_id = can.open_item_id
    where itm.accrues_late_fee and itm.due_date < %(day)s
),
base as (
    select itm.document_id, itm.bill_id, itm.account_id, itm.province_code,
        sum(lin.amount) as base_amount
    from item as itm
    join billing.ledger_line as lin on lin.open_item_id = itm.open_item_id
    join billing.ledger_entry as ent on ent.entry_id = lin.entry_id
    where ent.posted_date <= %(day)s
    group by itm.document_id, itm.bill_id, itm.account_id, itm.province_code
    having sum(lin.amount) > 0
),
fee as (
    select
        bas.*,
        least(
            round(bas.base_amount * %(rate)s, 2),
            (
                select sum(itm.amount) from billing.open_item as itm
                where itm.document_id = bas.document_id and itm.accrues_late_fee
            ) - coalesce(
                (
                    select sum(fee.fee_amount) from billing.late_fee as fee
                    where fee.document_id = bas.document_id
                ),
                0
            )
        ) as fee_amount,
        'late_fee:' || bas.document_id || ':' || %(day)s::date as fee_id,
        nextval('billing.ledger_entry_number') as entry_id
    from base as bas
),
charged as materialized (select * from fee where fee_amount > 0),
new_run as (
    insert into billing.late_fee_run (
        fee_date, rate_per_day, document_count, fee_amount, by_user
    )
    select %(day)s, %(rate)s, count(*), coalesce(sum(fee_amount), 0), %(by)s from charged
),
new_item as (
    insert into billing.open_item (
        open_item_id, account_id, province_code, document_type, document_id, bill_id,
        bill_item_code, issued_date, due_date, priority, accrues_late_fee, amount
    )
    select chg.fee_id, chg.account_id, chg.province_code, 'late_fee', chg.fee_id, chg.bill_id,
        'late_fee', %(day)s, %(day)s, rul.priority, false, chg.fee_amount
    from charged as chg
    join billing.item_rule as rul on rul.bill_item_code = 'late_fee'
),
new_fee as (
    insert into billing.late_fee (
        document_id, fee_date, account_id, base_amount, rate_per_day, fee_amount, open_item_id
    )
    select document_id, %(day)s, account_id, base_amount, %(rate)s, fee_amount, fee_id
    from charged
),
new_entry as (
    insert into billing.ledger_entry (
        entry_id, entry_type, posted_date, account_id, province_code, idempotency_key, line_count,
        bill_id, by_user
    )
    select entry_id, 'late_fee', (select billing.accounting_date(%(day)s)), account_id,
        province_code, fee_id, 2, bill_id, %(by)s
    from charged
),
new_line as (
    insert into billing.ledger_line (
        entry_id, line_number, ledger_code, bill_item_code, open_item_id, amount
    )
    select chg.entry_id, lin.line_number, lin.ledger_code, 'late_fee', lin.open_item_id, lin.amount
    from charged as chg
    cross join lateral (
        values
            (1, 'receivable', chg.fee_id, chg.fee_amount),
            (2, 'late_fee_income', cast(null as text), -chg.fee_amount)
    ) as lin (line_number, ledger_code, open_item_id, amount)
)
select account_id, fee_amount from charged
"""


# The day after the last run; before the first, the first day on which something was overdue.
_FIRST_DAY = """
select coalesce(
    (select max(fee_date) + 1 from billing.late_fee_run),
    (
        select min(itm.due_date) + 1 from billing.open_item as itm
        where itm.accrues_late_fee and (
            itm.open_amount > 0
            or exists (
                select 1 from billing.ledger_line as lin
                join billing.ledger_entry as ent on ent.entry_id = lin.entry_id
                where lin.open_item_id = itm.open_item_id and ent.posted_date > itm.due_date
            )
        )
    )
)
"""


def run_late_fees(settings: Settings, *, through: date, today: date, by_user: str) -> LateFees:
    """Charge late fees of every day after the last that was run, up to `through`; each day once.

    The first run ever begins on the day after the first due date on which something was open.
    """
    if through > today:
        raise InvalidRequestError("day_in_future", day=through)
    with driver_transaction(settings) as connection:
        connection.execute("lock table billing.late_fee_run in share row exclusive mode")
        (first,) = connection.execute(_FIRST_DAY).fetchone()
        first = first or through
        days = (through - first).days + 1
        if days > LATEST_CATCH_UP:
            raise InvalidRequestError("too_many_days", first=first, through=through)
        fees: list[tuple[str, Decimal]] = []
        for number in range(max(days, 0)):
            day = first + timedelta(days=number)
            rate = connection.execute(
                "select billing.accounts_parameter_on('late_fee_rate_per_day', %s)", (day,)
            ).fetchone()[0]
            ledger.expect_many(connection)
            fees += connection.execute(
                _LATE_FEES, {"day": day, "rate": rate, "by": by_user}
            ).fetchall()
        accounts = sorted({account_id for account_id, _ in fees})
        ledger.lock_accounts(connection, accounts)
        ledger.allocate(connection, account_ids=accounts, today=today, by_user=by_user)
    return LateFees(max(days, 0), len(fees), sum((fee for _, fee in fees), Decimal(0)))


# A negative balance of prepaid lines is no arrears to be dunned: the lines are barred at once.
_OVERDUE = """
select itm.account_id, itm.province_code, sum(itm.open_amount) as amount,
    %(today)s::date - min(itm.due_date) as days
from billing.open_item as itm
where itm.open_amount > 0 and itm.due_date < %(today)s and itm.document_type <> 'deduction'
group by itm.account_id, itm.province_code
"""

_OPEN_CASES = f"""
insert into billing.dunning_case (account_id, province_code, opened_date)
select ovd.account_id, ovd.province_code, %(today)s
from ({_OVERDUE}) as ovd
join (
    select days_overdue, minimum_amount from billing.dunning_step
    where is_active order by step_number limit 1
) as stp on ovd.days >= stp.days_overdue and ovd.amount >= stp.minimum_amount
on conflict (account_id) where closed_date is null do nothing
"""  # noqa: S608 - text of this module

# The next step of each case, if its time has come: steps are taken in order, one a day.
_DUE_STEPS = f"""
select cas.case_id, cas.account_id, stp.step_number, stp.action, ovd.days, ovd.amount
from billing.dunning_case as cas
join ({_OVERDUE}) as ovd on ovd.account_id = cas.account_id
cross join lateral (
    select step_number, action, days_overdue, minimum_amount
    from billing.dunning_step
    where is_active and step_number > coalesce(
        (select max(act.step_number) from billing.dunning_action as act
        where act.case_id = cas.case_id),
        0
    )
    order by step_number limit 1
) as stp
where cas.closed_date is null
    and ovd.days >= stp.days_overdue and ovd.amount >= stp.minimum_amount
    and not exists (
        select 1 from billing.dunning_action as act
        where act.case_id = cas.case_id and act.action_date >= %(today)s
    )
"""  # noqa: S608 - text of this module

_TAKE_STEPS = f"""
insert into billing.dunning_action (
    case_id, step_number, action_date, action, days_overdue, overdue_amount
)
select case_id, step_number, %(today)s, action, days, amount from ({_DUE_STEPS}) as due
returning case_id, action
"""  # noqa: S608 - text of this module

# Security deposits of accounts about to be written off, the oldest first, up to what they owe.
_APPLY_SECURITY = f"""
insert into billing.payment (
    payment_id, account_id, paid_at, amount, currency_code, channel, idempotency_key,
    province_code, payment_type, taken_by, security_deposit_id
)
select
    'SEC-' || replace(cast(gen_random_uuid() as text), '-', ''), hld.account_id,
    (%(today)s::date + time '12:00') at time zone %(timezone)s,
    least(hld.balance_amount, hld.owed_amount - hld.before_amount), 'CNY', 'security_deposit',
    'write_off:' || hld.case_id || ':' || hld.fund_id || ':' || (
        select count(*) from billing.payment as pay where pay.security_deposit_id = hld.fund_id
    ),
    hld.province_code, 'payment', %(by)s, hld.fund_id
from (
    select
        fnd.*, due.case_id, owed.amount as owed_amount,
        coalesce(
            sum(fnd.balance_amount) over (
                partition by fnd.account_id order by fnd.valid_from, fnd.fund_id
                rows between unbounded preceding and 1 preceding
            ),
            0
        ) as before_amount
    from ({_DUE_STEPS}) as due
    join billing.fund as fnd
        on fnd.account_id = due.account_id and fnd.kind = 'security_deposit'
        and fnd.balance_amount > 0
    cross join lateral (
        select sum(itm.open_amount) as amount from billing.open_item as itm
        where itm.account_id = due.account_id and itm.open_amount > 0
            and itm.document_type <> 'deduction'
    ) as owed
    where due.action = 'write_off'
) as hld
where hld.before_amount < hld.owed_amount
returning payment_id, account_id, amount
"""  # noqa: S608 - text of this module

# As people's own applications are audited (security_deposits.apply).
_AUDIT_APPLIED = """
insert into identity.audit_log (username, action, entity_type, entity_id, province_code, detail)
select %(by)s, 'apply_security_deposit', 'security_deposit', dep.security_deposit_id,
    dep.province_code,
    jsonb_build_object(
        'account', dep.account_id, 'amount', cast(pay.amount as text), 'reason', dep.reason_code,
        'payment', pay.payment_id, 'before', 'write_off'
    )
from billing.payment as pay
join billing.security_deposit as dep on dep.security_deposit_id = pay.security_deposit_id
where pay.payment_id = any(%(payments)s)
order by pay.payment_id
"""

_GIVE_ORDERS = """
insert into billing.service_order (
    account_id, subscription_id, province_code, action, case_id, requested_date
)
select cas.account_id, sub.subscription_id, sub.province_code, act.action, cas.case_id, %(today)s
from billing.dunning_action as act
join billing.dunning_case as cas on cas.case_id = act.case_id
join crm.subscription as sub on sub.account_id = cas.account_id
where act.case_id = any(%(cases)s) and act.action_date = %(today)s
    and act.action in ('bar_outgoing', 'bar_all', 'terminate')
    and sub.status <> 'terminated' and (sub.valid_to is null or sub.valid_to > now())
order by cas.account_id, sub.subscription_id
"""

_WRITE_OFF = """
with item as (
    select itm.*, cas.case_id from billing.dunning_case as cas
    join billing.open_item as itm
        on itm.account_id = cas.account_id and itm.open_amount > 0
        and itm.document_type <> 'deduction'
    where cas.case_id = any(%(cases)s)
),
numbered as materialized (
    select case_id, account_id, province_code, count(*) as items,
        nextval('billing.ledger_entry_number') as entry_id
    from item group by case_id, account_id, province_code
),
new_entry as (
    insert into billing.ledger_entry (
        entry_id, entry_type, posted_date, account_id, province_code, idempotency_key, line_count,
        reason_code, by_user
    )
    select entry_id, 'write_off', billing.accounting_date(%(today)s), account_id, province_code,
        'write_off:' || case_id, items * 2, 'uncollectible', %(by)s
    from numbered
),
new_line as (
    insert into billing.ledger_line (
        entry_id, line_number, ledger_code, bill_item_code, open_item_id, amount
    )
    select
        num.entry_id,
        row_number() over (partition by num.entry_id order by lin.amount < 0, itm.open_item_id),
        lin.ledger_code, itm.bill_item_code, lin.open_item_id, lin.amount
    from item as itm
    join numbered as num on num.case_id = itm.case_id
    left join billing.item_rule as rul on rul.bill_item_code = itm.bill_item_code
    cross join lateral (
        values
            (
                -- What was not collected is not owed to those it was to be collected for.
                case rul.ledger_code when 'collected_for_others' then rul.ledger_code
                    else 'bad_debt' end,
                cast(null as text), itm.open_amount
            ),
            ('receivable', itm.open_item_id, -itm.open_amount)
    ) as lin (ledger_code, open_item_id, amount)
)
select coalesce(sum(open_amount), 0) from item
"""


def dun(settings: Settings, *, on_day: date, today: date, by_user: str) -> Dunned:
    """Take the dunning steps whose time has come, one a case and day; restore who has paid.

    Before an account is written off its security deposits are applied to what it owes; the step is
    taken if enough of the rest is old enough. Running the same day again changes nothing.
    """
    if on_day > today:
        raise InvalidRequestError("day_in_future", day=on_day)
    values = {"today": on_day, "by": by_user}
    with driver_transaction(settings) as connection:
        rows = connection.execute(
            f"select account_id from ({_OVERDUE}) as ovd"  # noqa: S608 - text of this module
            " union select account_id from billing.dunning_case where closed_date is null",
            values,
        ).fetchall()
        ledger.lock_accounts(connection, [account_id for (account_id,) in rows])
        restored = restore_paid(connection, account_ids=None, today=on_day)
        connection.execute(_OPEN_CASES, values)
        applied = _apply_security(connection, settings, on_day=on_day, by_user=by_user)
        restored += restore_paid(connection, account_ids=list(applied), today=on_day)
        taken = connection.execute(_TAKE_STEPS, values).fetchall()
        cases = [case_id for case_id, _ in taken]
        orders = connection.execute(_GIVE_ORDERS, values | {"cases": cases}).rowcount
        gone = [case_id for case_id, action in taken if action == "write_off"]
        (written_off,) = connection.execute(_WRITE_OFF, values | {"cases": gone}).fetchone()
        connection.execute(
            "update billing.dunning_case set closed_date = %(today)s, outcome = 'written_off'"
            " where case_id = any(%(cases)s)",
            values | {"cases": gone},
        )
    actions = {name: sum(1 for _, action in taken if action == name) for name in ACTIONS}
    return Dunned({name: count for name, count in actions.items() if count}, orders, restored,
                  sum(applied.values(), Decimal(0)), written_off)  # fmt: skip


def _apply_security(
    connection: psycopg.Connection[Any], settings: Settings, *, on_day: date, by_user: str
) -> dict[str, Decimal]:
    """Pay from security deposits what is about to be written off; returns how much by account."""
    values = {"today": on_day, "by": by_user, "timezone": settings.timezone}
    rows = connection.execute(_APPLY_SECURITY, values).fetchall()
    applied: dict[str, Decimal] = defaultdict(Decimal)
    for _, account_id, amount in rows:
        applied[account_id] += amount
    if applied:
        payments = [payment_id for payment_id, _, _ in rows]
        ledger.post_payments(
            connection, timezone=settings.timezone, by_user=by_user, payment_ids=payments
        )
        connection.execute(_AUDIT_APPLIED, {"payments": payments, "by": by_user})
        ledger.allocate(
            connection, account_ids=list(applied), today=on_day, not_before=on_day,
            due_before=date.max, by_user=by_user,
        )  # fmt: skip
    return applied


def overdue_amount(connection: psycopg.Connection[Any], *, account_id: str, today: date) -> Decimal:
    """What of an account is past its due date; deductions of prepaid lines are not."""
    row = connection.execute(
        f"select coalesce(sum(amount), 0.00) from ({_OVERDUE}) as ovd"  # noqa: S608 - of this module
        " where account_id = %(account)s",
        {"today": today, "account": account_id},
    ).fetchone()
    assert row is not None  # noqa: S101 - an aggregate always gives a row
    return Decimal(row[0])


# Cases of accounts with less overdue than the first step asks for.
_PAID_CASES = f"""
update billing.dunning_case as cas
set closed_date = greatest(%(today)s, cas.opened_date), outcome = 'paid'
where cas.closed_date is null
    and (%(accounts)s::text[] is null or cas.account_id = any(%(accounts)s))
    and not exists (
        select 1 from ({_OVERDUE}) as ovd
        where ovd.account_id = cas.account_id
            and ovd.amount >= (
                select stp.minimum_amount from billing.dunning_step as stp
                where stp.is_active order by stp.step_number limit 1
            )
    )
returning cas.case_id
"""  # noqa: S608 - text of this module

_RESTORE = """
insert into billing.service_order (
    account_id, subscription_id, province_code, action, case_id, requested_date
)
select ord.account_id, ord.subscription_id, ord.province_code, 'restore', ord.case_id, %(today)s
from billing.service_order as ord
where ord.case_id = any(%(cases)s) and ord.action in ('bar_outgoing', 'bar_all')
    and ord.state in ('sent', 'completed')
    and not exists (
        select 1 from billing.service_order as oth
        where oth.case_id = ord.case_id and oth.subscription_id = ord.subscription_id
            and oth.action = 'terminate' and oth.state in ('sent', 'completed')
    )
    and not exists (
        select 1 from billing.service_order as oth
        join billing.balance_case as cas on cas.balance_case_id = oth.balance_case_id
        where oth.subscription_id = ord.subscription_id and cas.closed_date is null
            and oth.action = 'bar_outgoing' and oth.state <> 'cancelled'
    )
group by ord.account_id, ord.subscription_id, ord.province_code, ord.case_id
"""


def restore_paid(
    connection: psycopg.Connection[Any], *, account_ids: Sequence[str] | None, today: date
) -> int:
    """Close the cases of accounts that paid; returns how many.

    Orders that nobody has sent yet are cancelled; what was barred is restored. A number that was
    terminated stays terminated.
    """
    accounts = None if account_ids is None else list(account_ids)
    values = {"today": today, "accounts": accounts}
    cases = [case_id for (case_id,) in connection.execute(_PAID_CASES, values).fetchall()]
    if cases:
        connection.execute(
            "update billing.service_order set state = 'cancelled', version = version + 1"
            " where case_id = any(%s) and state in ('requested', 'failed')"
            " and action <> 'restore'",
            (cases,),
        )
        connection.execute(_RESTORE, {"cases": cases, "today": today})
    return len(cases)


def follow_money(
    connection: psycopg.Connection[Any], *, account_ids: Sequence[str] | None, today: date
) -> None:
    """After money moved: restore who has paid, tell or bar or restore prepaid lines."""
    restore_paid(connection, account_ids=account_ids, today=today)
    balance.watch(connection, account_ids=account_ids, today=today)


def reverse_write_off(
    settings: Settings, *, principal: Principal, entry_id: int, today: date,
) -> int:  # fmt: skip
    """Open again what was written off, because it is paid after all; returns the new entry."""
    principal.require("payment.reverse")
    with transaction(settings) as session:
        entry = session.get(LedgerEntry, entry_id)
        if entry is None or entry.account_id is None or not principal.sees(entry.province_code):
            raise NotFoundError("no_entry", entry_id=entry_id)
        if entry.entry_type != "write_off":
            raise ConflictError("not_a_write_off", entry_id=entry_id)
        connection = ledger.driver(session)
        ledger.lock_accounts(connection, [entry.account_id])
        if session.scalar(select(LedgerEntry.entry_id)
                          .where(LedgerEntry.reverses_entry_id == entry_id)):  # fmt: skip
            raise ConflictError("entry_reversed", entry_id=entry_id)
        reversal = ledger.reverse_entry(
            connection, entry_id=entry_id, posted_date=today, reason_code="paid_after_write_off",
            by_user=principal.username,
        )  # fmt: skip
        ledger.allocate(
            connection, account_ids=[entry.account_id], today=today, not_before=today,
            by_user=principal.username,
        )  # fmt: skip
        audit.record(
            session, username=principal.username, action="reverse_write_off",
            entity_type="account", entity_id=entry.account_id, province_code=entry.province_code,
            detail={"entry": entry_id},
        )  # fmt: skip
        return reversal


def dunning_cases(
    session: Session, *, principal: Principal, only_open: bool = True, limit: int = 50,
    offset: int = 0,
) -> list[DunningCase]:  # fmt: skip
    """Cases of the user's province with the steps taken, the newest first."""
    principal.require("dunning.read")
    query = select(DunningCase).options(selectinload(DunningCase.actions))
    if only_open:
        query = query.where(DunningCase.closed_date.is_(None))
    query = principal.only_own_province(query, DunningCase.province_code)
    return list(
        session.scalars(
            query.order_by(DunningCase.opened_date.desc(), DunningCase.case_id.desc())
            .limit(limit).offset(offset)
        )
    )  # fmt: skip


def dunning_steps(session: Session) -> list[DunningStep]:
    """The steps in order."""
    return list(session.scalars(select(DunningStep).order_by(DunningStep.step_number)))


def service_orders(
    session: Session, *, principal: Principal, state: str | None = None,
    case_ids: Sequence[int] | None = None, limit: int = 50, offset: int = 0,
) -> list[ServiceOrder]:  # fmt: skip
    """Barring and restoring orders of the user's province, the oldest first."""
    principal.require("dunning.read")
    query = select(ServiceOrder)
    if state is not None:
        query = query.where(ServiceOrder.state == state)
    if case_ids is not None:
        query = query.where(ServiceOrder.case_id.in_(case_ids))
    query = principal.only_own_province(query, ServiceOrder.province_code)
    return list(
        session.scalars(query.order_by(ServiceOrder.service_order_id).limit(limit).offset(offset))
    )


def move_service_order(
    settings: Settings, *, principal: Principal, service_order_id: int, to_state: str
) -> ServiceOrder:
    """Say how far an order got: sent, completed, failed, cancelled, as the table allows."""
    principal.require("service_order.move")
    with transaction(settings) as session:
        order = session.get(ServiceOrder, service_order_id, with_for_update=True)
        if order is None or not principal.sees(order.province_code):
            raise NotFoundError("no_service_order", service_order_id=service_order_id)
        if order.state == to_state:
            return order
        allowed = list(
            session.scalars(
                select(ServiceOrderTransition.to_state)
                .where(ServiceOrderTransition.from_state == order.state)
                .order_by(ServiceOrderTransition.to_state)
            )
        )
        if to_state not in allowed:
            raise ConflictError(
                "service_order_transition", service_order_id=service_order_id, state=order.state,
                to_state=to_state, allowed_state=allowed,
            )  # fmt: skip
        audit.record(
            session, username=principal.username, action="move_service_order",
            entity_type="service_order", entity_id=str(service_order_id),
            province_code=order.province_code, detail={"from": order.state, "to": to_state},
        )  # fmt: skip
        order.state = to_state
        return order
