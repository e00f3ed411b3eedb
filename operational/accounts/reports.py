"""What finance reads: ageing, trial balance, revenue, the journal for the general ledger 业会."""

from __future__ import annotations

import csv
import io
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from decimal import Decimal
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from operational import audit
from operational.accounts.bank_transit import total_in_transit
from operational.accounts.ledger import driver
from operational.accounts.models import LedgerAccount, LedgerPeriod, UnbilledRevenue
from operational.accounts.unbilled import accrual
from operational.database import transaction
from operational.months import last_day
from operational.permissions import HEADQUARTERS, Principal
from operational.problems import ConflictError, InvalidRequestError
from tollhouse.settings import Settings

# Days overdue, from and to; the first is not due yet.
BUCKETS: tuple[tuple[str, int | None, int | None], ...] = (
    ("not_due", None, -1), ("0_30", 0, 30), ("31_60", 31, 60), ("61_90", 61, 90),
    ("91_180", 91, 180), ("over_180", 181, None),
)  # fmt: skip
ZERO = Decimal("0.00")
Accrued = Mapping[tuple[str, str], Decimal]  # unbilled revenue by province and bill item


@dataclass(frozen=True)
class AgeingRow:
    """What an account (or a province, or all) owes, by how long it is overdue."""

    key: str
    province_code: str
    amounts: dict[str, Decimal]
    total_amount: Decimal


@dataclass(frozen=True)
class TrialBalanceRow:
    """One ledger account over a period; debits and credits are both positive."""

    ledger_code: str
    account_number: str
    kind: str
    name_zh: str
    name_en: str
    opening_amount: Decimal
    debit_amount: Decimal
    credit_amount: Decimal
    closing_amount: Decimal


@dataclass(frozen=True)
class JournalRow:
    """One line of the journal for the general ledger: a day's postings of one kind, added up."""

    posted_date: date
    entry_type: str
    province_code: str
    account_number: str
    ledger_code: str
    bill_item_code: str
    debit_amount: Decimal
    credit_amount: Decimal
    entry_count: int


@dataclass(frozen=True)
class RevenueRow:
    """Income of one month, province and class."""

    period_id: str
    province_code: str
    ledger_code: str
    bill_item_code: str
    amount: Decimal


@dataclass(frozen=True)
class DeferredRevenue:
    """Money received for services not delivered yet: deposits and bonus money of a province."""

    province_code: str
    deposit_amount: Decimal
    bonus_amount: Decimal


_AGEING = """
    select itm.account_id, itm.province_code, cast(:as_of as date) - itm.due_date as days,
        sum(lin.amount) as amount
    from billing.open_item as itm
    join billing.ledger_line as lin on lin.open_item_id = itm.open_item_id
    join billing.ledger_entry as ent on ent.entry_id = lin.entry_id
    where ent.posted_date <= :as_of and (:province = '00' or itm.province_code = :province)
    group by itm.account_id, itm.province_code, itm.open_item_id, itm.due_date
    having sum(lin.amount) <> 0
"""


def ageing(
    session: Session, *, principal: Principal, as_of: date, by_account: bool = False,
    limit: int | None = None, offset: int = 0,
) -> list[AgeingRow]:  # fmt: skip
    """Arrears as of the end of a day, by province or by account (those owing most first).

    As the ledger was dated: what was posted later does not change it.
    """
    principal.require("receivable.read")
    key = "account_id" if by_account else "province_code"
    sums = ", ".join(
        f"coalesce(sum(amount) filter (where {_bucket_condition(low, high)}), 0) as b{number}"
        for number, (_, low, high) in enumerate(BUCKETS)
    )
    order = "total desc, key" if by_account else "key"
    rows: Sequence[Any] = session.execute(
        text(
            f"with owed as ({_AGEING}) select {key} as key, province_code, {sums},"  # noqa: S608
            f" sum(amount) as total from owed group by {key}, province_code order by {order}"
            " limit :limit offset :offset"
        ),
        {"as_of": as_of, "province": principal.province_code, "limit": limit, "offset": offset},
    ).all()
    return [
        AgeingRow(
            row.key, row.province_code,
            {name: getattr(row, f"b{number}") for number, (name, _, _) in enumerate(BUCKETS)},
            row.total,
        )
        for row in rows
    ]  # fmt: skip


def ageing_total(rows: Sequence[AgeingRow]) -> AgeingRow:
    """The sum of rows."""
    amounts = {name: sum((row.amounts[name] for row in rows), ZERO) for name, _, _ in BUCKETS}
    return AgeingRow("", HEADQUARTERS, amounts, sum(amounts.values(), ZERO))


def _bucket_condition(low: int | None, high: int | None) -> str:
    conditions = [f"days >= {low}"] if low is not None else []
    conditions += [f"days <= {high}"] if high is not None else []
    return " and ".join(conditions)


def trial_balance(
    session: Session, *, principal: Principal, first: date, last: date
) -> list[TrialBalanceRow]:
    """Opening balance, debits, credits and closing balance of every ledger account."""
    principal.require("ledger.read")
    _check_period(first, last)
    rows: Sequence[Any] = session.execute(
        text(
            """
            select acc.ledger_code, acc.account_number, acc.kind, acc.name_zh, acc.name_en,
                coalesce(sum(mov.amount) filter (where mov.posted_date < :first), 0.00) as opening,
                coalesce(sum(mov.amount) filter (
                    where mov.posted_date >= :first and mov.amount > 0), 0.00) as debit,
                coalesce(-sum(mov.amount) filter (
                    where mov.posted_date >= :first and mov.amount < 0), 0.00) as credit,
                coalesce(sum(mov.amount), 0.00) as closing
            from billing.ledger_account as acc
            left join (
                select lin.ledger_code, ent.posted_date, lin.amount
                from billing.ledger_line as lin
                join billing.ledger_entry as ent on ent.entry_id = lin.entry_id
                where ent.posted_date <= :last
                    and (:province = '00' or ent.province_code = :province)
            ) as mov on mov.ledger_code = acc.ledger_code
            group by acc.ledger_code
            order by acc.account_number
            """
        ),
        {"first": first, "last": last, "province": principal.province_code},
    ).all()
    return [TrialBalanceRow(*row) for row in rows]


def journal(
    session: Session, *, principal: Principal, first: date, last: date,
    unbilled: Accrued | None = None, unbilled_before: Accrued | None = None,
) -> list[JournalRow]:  # fmt: skip
    """The period's postings for the general ledger, added up by day, kind, province and account.

    `unbilled` is accrued on the last day; `unbilled_before`, what the period before accrued, is
    taken back on the first.
    """
    principal.require("ledger.read")
    _check_period(first, last)
    rows: Sequence[Any] = session.execute(
        text(
            """
            select ent.posted_date, ent.entry_type, ent.province_code, acc.account_number,
                lin.ledger_code, coalesce(lin.bill_item_code, ''),
                coalesce(sum(lin.amount) filter (where lin.amount > 0), 0.00),
                coalesce(-sum(lin.amount) filter (where lin.amount < 0), 0.00),
                count(distinct ent.entry_id)
            from billing.ledger_entry as ent
            join billing.ledger_line as lin on lin.entry_id = ent.entry_id
            join billing.ledger_account as acc on acc.ledger_code = lin.ledger_code
            where ent.posted_date between :first and :last
                and (:province = '00' or ent.province_code = :province)
            group by 1, 2, 3, 4, 5, 6
            order by 1, 2, 3, 4, 6
            """
        ),
        {"first": first, "last": last, "province": principal.province_code},
    ).all()
    numbers = {row.ledger_code: row.account_number for row in session.query(LedgerAccount)}
    accrued = [
        line
        for day, kind, sign, amounts in (
            (first, "unbilled_reversal", -1, unbilled_before), (last, "unbilled", 1, unbilled),
        )
        for of, amount in (amounts or {}).items() if principal.sees(of[0]) and amount
        for line in _accrual(day, kind, of, sign * amount, numbers)
    ]  # fmt: skip
    return sorted(
        [*(JournalRow(*row) for row in rows), *accrued],
        key=lambda row: (row.posted_date, row.entry_type, row.province_code, row.account_number,
                         row.bill_item_code),
    )  # fmt: skip


def _accrual(
    day: date, kind: str, of: tuple[str, str], amount: Decimal, numbers: dict[str, str]
) -> list[JournalRow]:
    province_code, bill_item_code = of
    return [
        JournalRow(
            day, kind, province_code, numbers[code], code,
            bill_item_code if code == "revenue" else "", max(value, ZERO), max(-value, ZERO), 1,
        )
        for code, value in (("unbilled_receivable", amount), ("revenue", -amount))
    ]  # fmt: skip


def journal_csv(rows: Sequence[JournalRow]) -> str:
    """The journal as CSV with a header; amounts with two digits."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(JournalRow.__dataclass_fields__)
    for row in rows:
        writer.writerow(asdict(row).values())
    return out.getvalue()


_ROOTS = {
    "asset": "Assets", "liability": "Liabilities", "income": "Income", "expense": "Expenses",
}  # fmt: skip


def journal_beancount(session: Session, rows: Sequence[JournalRow], *, title: str) -> str:
    """The journal in Beancount's language: every account opened, each balance asserted at the end.

    One transaction a day, kind of posting and province; the assertions are the rows added up by
    account, so that `bean-check` finds a line that was lost.
    """
    ledgers = {row.ledger_code: row for row in session.query(LedgerAccount)}
    grouped: dict[tuple[date, str, str], list[tuple[str, Decimal]]] = defaultdict(list)
    balances: dict[str, Decimal] = defaultdict(Decimal)
    names: dict[str, str] = {}
    for row in rows:
        ledger = ledgers[row.ledger_code]
        parts = [_ROOTS[ledger.kind], _camel(ledger.ledger_code), f"P{row.province_code}"]
        if row.bill_item_code and ledger.kind == "income":
            parts.insert(2, _camel(row.bill_item_code))
        account = ":".join(parts)
        names[account] = f"{ledger.account_number} {ledger.name_zh} {ledger.name_en}"
        group = grouped[row.posted_date, row.entry_type, row.province_code]
        for amount in (row.debit_amount, -row.credit_amount):
            if amount:
                group.append((account, amount))
                balances[account] += amount
    first = min((row.posted_date for row in rows), default=date(2000, 1, 1))
    last = max((row.posted_date for row in rows), default=first)
    out = [f'option "title" "{title}"', 'option "operating_currency" "CNY"', ""]
    by_name = sorted((names[account], account) for account in balances)
    for name, opened in groupby(by_name, key=itemgetter(0)):
        out += [f"; {name}", *(f"{first} open {account} CNY" for _, account in opened)]
    for (day, kind, province), postings in sorted(grouped.items()):
        out += ["", f'{day} * "{kind}" "{province}"']
        out += [f"  {account:<60} {amount:>18.2f} CNY" for account, amount in postings]
    out.append("")
    out += [
        f"{last + timedelta(days=1)} balance {account:<60} {amount:>18.2f} CNY"
        for account, amount in sorted(balances.items())
    ]
    return "\n".join(out) + "\n"


def _camel(code: str) -> str:
    """A code as a component of a Beancount account: letters, digits and hyphens, capital first."""
    words = [word for word in re.split(r"[^A-Za-z0-9]+", code) if word]
    return "".join(word[:1].upper() + word[1:] for word in words) or "Other"


def revenue(session: Session, *, principal: Principal, first: date, last: date) -> list[RevenueRow]:
    """Income by month, province and class, as it was posted (adjusted by notes)."""
    principal.require("ledger.read")
    _check_period(first, last)
    rows: Sequence[Any] = session.execute(
        text(
            """
            select to_char(ent.posted_date, 'YYYY-MM'), ent.province_code, lin.ledger_code,
                coalesce(lin.bill_item_code, ''), -sum(lin.amount)
            from billing.ledger_entry as ent
            join billing.ledger_line as lin on lin.entry_id = ent.entry_id
            join billing.ledger_account as acc on acc.ledger_code = lin.ledger_code
            where acc.kind = 'income' and ent.posted_date between :first and :last
                and (:province = '00' or ent.province_code = :province)
            group by 1, 2, 3, 4
            order by 1, 2, 3, 4
            """
        ),
        {"first": first, "last": last, "province": principal.province_code},
    ).all()
    return [RevenueRow(*row) for row in rows]


def deferred_revenue(
    session: Session, *, principal: Principal, as_of: date
) -> list[DeferredRevenue]:
    """Deposits and bonus money not used yet at the end of a day, by province."""
    principal.require("ledger.read")
    rows: Sequence[Any] = session.execute(
        text(
            """
            select ent.province_code,
                coalesce(-sum(lin.amount) filter (where lin.ledger_code = 'deposit'), 0),
                coalesce(-sum(lin.amount) filter (where lin.ledger_code = 'bonus'), 0)
            from billing.ledger_entry as ent
            join billing.ledger_line as lin on lin.entry_id = ent.entry_id
            where lin.ledger_code in ('deposit', 'bonus') and ent.posted_date <= :as_of
                and (:province = '00' or ent.province_code = :province)
            group by 1 order by 1
            """
        ),
        {"as_of": as_of, "province": principal.province_code},
    ).all()
    return [DeferredRevenue(*row) for row in rows]


def close_period(settings: Settings, *, principal: Principal, period_id: str, today: date) -> None:
    """Close a month for the ledger: from then on nothing is posted into it, or before it.

    Months are closed in order, after they have ended; what belongs to a closed month and comes
    later is posted on the first open day. The month keeps what it accrues of revenue that is not
    billed. Closing a closed month again changes nothing.

    Raises:
        ConflictError: the month has not ended, or a cycle that has begun is not final and the
            warehouse cannot say what it holds.
    """
    principal.require("period.close")
    if not principal.sees_all_provinces:
        raise ConflictError("period_headquarters")
    if not re.fullmatch(r"[0-9]{4}-(0[1-9]|1[0-2])", period_id):
        raise InvalidRequestError("bad_parameters", names=["period"])
    if period_id >= today.strftime("%Y-%m"):
        raise ConflictError("period_running", period_id=period_id)
    with transaction(settings) as session:
        # Waits for whoever is posting; who posts later sees the closed month.
        session.execute(text("lock table billing.ledger_entry in share row exclusive mode"))
        if session.get(LedgerPeriod, period_id) is not None:
            return
        accrued = accrual(settings, session, day=last_day(period_id))
        if accrued.problem is not None:
            raise accrued.problem
        session.add(LedgerPeriod(period_id=period_id, closed_by=principal.username))
        session.flush()
        session.add_all(
            UnbilledRevenue(
                period_id=period_id, province_code=province, bill_item_code=code, amount=amount
            )
            for (province, code), amount in accrued.amounts.items()
        )
        audit.record(
            session, username=principal.username, action="close_ledger_period",
            entity_type="ledger_period", entity_id=period_id, province_code=HEADQUARTERS,
        )  # fmt: skip


def unbalanced(session: Session) -> dict[str, Any]:
    """The control totals of the accounts: each pair is equal, or something is lost.

    Receivables in the ledger are the open items; deposits of both kinds and bonus money are the
    funds; security deposits are what was received less what was given back and what was applied;
    suspense is the unmatched bank lines, the bank all of them; in transit by bank is what no line
    has cleared; what is deducted and not billed is the deductions of
    accounts and cycles without a bill in the ledger; debits are credits.
    """
    row = session.execute(
        text(
            """
            select
                coalesce(sum(lin.amount), 0) as "all",
                coalesce(sum(lin.amount) filter (where ledger_code = 'receivable'), 0) as owed,
                (select coalesce(sum(open_amount), 0) from billing.open_item) as items,
                coalesce(-sum(lin.amount) filter (where fund_id is not null), 0) as money,
                (select coalesce(sum(balance_amount), 0) from billing.fund) as funds,
                coalesce(-sum(lin.amount) filter (where ledger_code = 'security_deposit'), 0)
                    as security,
                (select coalesce(sum(amount), 0) from billing.security_deposit)
                    - (select coalesce(sum(amount), 0) from billing.security_return)
                    - (select coalesce(sum(amount), 0) from billing.payment
                        where security_deposit_id is not null) as held,
                coalesce(-sum(lin.amount) filter (where ledger_code = 'suspense'), 0) as suspense,
                (select coalesce(sum(amount), 0) from billing.bank_line
                    where state = 'suspense') as bank_lines,
                coalesce(sum(lin.amount) filter (where ledger_code = 'bank'), 0) as bank,
                (select coalesce(sum(amount), 0) from billing.bank_line) as statements,
                coalesce(sum(lin.amount) filter (where ledger_code = 'bank_clearing'), 0)
                    as bank_clearing,
                coalesce(-sum(lin.amount) filter (where ledger_code = 'prepaid_deducted'), 0)
                    as deducted,
                (select coalesce(sum(ded.amount), 0) from billing.deduction as ded
                    where not exists (
                        select 1 from billing.bill as bil
                        join billing.ledger_entry as ent
                            on ent.idempotency_key = 'bill:' || bil.bill_id
                        where bil.account_id = ded.account_id and bil.cycle_id = ded.cycle_id
                    )) as unbilled
            from billing.ledger_line as lin
            """
        )
    ).one()
    pairs = {
        "debits_less_credits": (row.all, ZERO),
        "receivable_and_open_items": (row.owed, row.items),
        "deposits_and_funds": (row.money, row.funds),
        "security_deposits_held": (row.security, row.held),
        "suspense_and_bank_lines": (row.suspense, row.bank_lines),
        "bank_and_statements": (row.bank, row.statements),
        "bank_in_transit": (row.bank_clearing, total_in_transit(driver(session))[1]),
        "deducted_and_not_billed": (row.deducted, row.unbilled),
    }
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _check_period(first: date, last: date) -> None:
    if last < first:
        raise InvalidRequestError("period_wrong", first=first, last=last)
