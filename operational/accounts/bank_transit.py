"""Money by bank that people enter 银行在途款, and the lines of statements that clear it.

Statements alone move the ledger account `bank`, so that it says what the bank says. What is entered
by hand with channel `bank` (payments, refunds, security deposits, and what is given back of them)
stands in `bank_clearing`. The two meet here, whichever comes first.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
from sqlalchemy import select
from sqlalchemy.orm import Session

from operational import audit
from operational.accounts import ledger
from operational.accounts.ledger import Line
from operational.accounts.models import BankLine
from operational.billing.models import Bill
from operational.crm.models import Account
from operational.permissions import HEADQUARTERS
from operational.problems import ConflictError

LEDGER = "bank_clearing"
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_SHORTEST_IN_TEXT = 6  # characters of a reference that a text may hold
# A year, a month or a day is in many texts: 2026, 2026-11, 20261101, 2026年11月.
_DATE = re.compile(
    r"(?:19|20)\d\d[-/.年]?(?:(?:0?[1-9]|1[0-2])[-/.月]?(?:(?:0?[1-9]|[12]\d|3[01])日?)?)?"
)


@dataclass(frozen=True)
class InTransit:
    """One entry that waits for its bank line: what comes in is positive, what goes out negative."""

    entry_id: int
    entry_type: str
    account_id: str
    province_code: str
    posted_date: date
    moved_date: date  # when it was paid, as people said
    amount: Decimal
    payment_id: str | None
    document_id: str
    reference: str | None
    by_user: str

    def age_days(self, today: date) -> int:
        """For how many days it has been in transit."""
        return max((today - self.moved_date).days, 0)


# A reversed payment is no longer in transit: its reversal stands in the same account.
_IN_TRANSIT = """
select {columns} from (
    select
        ent.entry_id, ent.entry_type, ent.account_id, ent.province_code, ent.posted_date,
        coalesce(
            cast((pay.paid_at at time zone %(timezone)s) as date), dep.received_date,
            ret.returned_date
        ) as moved_date,
        lin.amount, pay.payment_id,
        coalesce(pay.payment_id, dep.security_deposit_id, ret.security_return_id) as document_id,
        coalesce(pay.reference, dep.reference) as reference, ent.by_user
    from billing.ledger_line as lin
    join billing.ledger_entry as ent on ent.entry_id = lin.entry_id
    left join billing.payment as pay
        on ent.entry_type in ('payment', 'refund') and pay.payment_id = ent.payment_id
    left join billing.security_deposit as dep
        on ent.entry_type = 'security_deposit'
        and dep.security_deposit_id = split_part(ent.idempotency_key, ':', 2)
    left join billing.security_return as ret
        on ent.entry_type = 'security_return'
        and ret.security_return_id = split_part(ent.idempotency_key, ':', 2)
    where lin.ledger_code = 'bank_clearing'
        and ent.entry_type in ('payment', 'refund', 'security_deposit', 'security_return')
        and not exists (
            select 1 from billing.ledger_entry as rev where rev.reverses_entry_id = ent.entry_id
        )
        and not exists (
            select 1 from billing.bank_line as blk where blk.cleared_entry_id = ent.entry_id
        )
        and {condition}
) as item
"""


def in_transit(
    connection: psycopg.Connection[Any], *, timezone: str, limit: int | None = None
) -> list[InTransit]:
    """What waits for its bank line, the oldest first."""
    return _read(connection, "true", timezone=timezone, limit=limit)


def total_in_transit(connection: psycopg.Connection[Any]) -> tuple[int, Decimal]:
    """How many entries wait for their bank lines, and their sum."""
    query = _IN_TRANSIT.format(
        columns="count(*), coalesce(sum(amount), 0.00)", condition="true"
    )  # fmt: skip
    row = connection.execute(query, {"timezone": "UTC"}).fetchone()  # of no consequence for these
    assert row is not None  # noqa: S101 - an aggregate always gives a row
    return row[0], row[1]


def of_amounts(
    connection: psycopg.Connection[Any], *, timezone: str, amounts: Collection[Decimal]
) -> list[InTransit]:
    """What waits for a bank line of one of the amounts, the oldest first."""
    return _read(connection, "lin.amount = any(%(amounts)s)", timezone=timezone,
                 amounts=sorted(set(amounts)))  # fmt: skip


def _read(connection: psycopg.Connection[Any], condition: str, **values: Any) -> list[InTransit]:
    query = _IN_TRANSIT.format(columns="*", condition=condition)
    query += "order by moved_date, entry_id limit %(limit)s"
    rows = connection.execute(query, {"limit": None} | values).fetchall()
    return [InTransit(*row) for row in rows]


def words(line: BankLine) -> set[str]:
    """What may be a name in the texts of a line."""
    return set(_WORD.findall(f"{line.customer_reference or ''} {line.remittance or ''}"))


def accounts_by_bill(session: Session, line: BankLine) -> set[str]:
    """The accounts whose bills a line names."""
    named = select(Bill.account_id).where(Bill.bill_id.in_(words(line)))
    return set(session.scalars(named.distinct()))


def accounts_by_number(session: Session, line: BankLine) -> set[str]:
    """The accounts that a line names by their numbers."""
    return set(
        session.scalars(select(Account.account_id).where(Account.account_id.in_(words(line))))
    )


def has_reference(line: BankLine, reference: str | None) -> bool:
    """Whether a line bears a reference that people entered: one with a digit, and no date.

    A short one is the whole of a reference of the line: in a text it may mean anything.
    """
    wanted = _plain(reference)
    if not any(map(str.isdigit, wanted)) or _DATE.fullmatch(wanted):
        return False
    if wanted in {_plain(line.bank_reference), _plain(line.customer_reference)}:
        return True
    texts = f"{_plain(line.customer_reference)}\n{_plain(line.remittance)}"
    return (
        len(wanted) >= _SHORTEST_IN_TEXT
        and wanted in texts
        and re.search(rf"(?<![a-z0-9_-])(?<!\d[.,]){re.escape(wanted)}(?![a-z0-9_-]|[.,]\d)", texts)
        is not None
    )


def _plain(reference: str | None) -> str:
    return " ".join((reference or "").split()).casefold()


def match_days(connection: psycopg.Connection[Any], day: date) -> timedelta:
    """How far apart the day that people said and the day of the bank may be."""
    row = connection.execute(
        "select billing.accounts_parameter_on('bank_match_days', %s)", (day,)
    ).fetchone()
    assert row is not None  # noqa: S101 - a function gives a row
    return timedelta(days=int(row[0]))


def lock_and_read(
    session: Session, *, timezone: str, lines: Sequence[BankLine]
) -> dict[Decimal, list[InTransit]]:
    """Lock every account that lines may be of at once, in order: what they clear goes in theirs.

    Returns what of these accounts is in transit and of the amount of a line, by amount.
    """
    by_amount: dict[Decimal, list[BankLine]] = {}
    for line in lines:
        by_amount.setdefault(line.amount, []).append(line)
    connection = ledger.driver(session)
    texts = {word for line in lines for word in words(line)}
    locked = set(session.scalars(select(Account.account_id).where(Account.account_id.in_(texts))))
    locked |= set(session.scalars(select(Bill.account_id).where(Bill.bill_id.in_(texts))))
    locked |= {
        item.account_id
        for item in of_amounts(connection, timezone=timezone, amounts=by_amount)
        if any(has_reference(line, item.reference) for line in by_amount[item.amount])
    }
    ledger.lock_accounts(connection, locked)
    waiting: dict[Decimal, list[InTransit]] = {}
    for item in of_amounts(connection, timezone=timezone, amounts=by_amount):
        if item.account_id in locked:
            waiting.setdefault(item.amount, []).append(item)
    return waiting


def may_clear(
    waiting: Sequence[InTransit], *, line: BankLine, accounts: Collection[str],
    within: timedelta | None,
) -> list[InTransit]:  # fmt: skip
    """What a line may clear: the same amount, of the account it names, or else its reference.

    If they are of one account the line clears the first of them: that with its reference, else the
    oldest. Of several accounts they are for people. `within` limits how far apart the days are.
    """
    found = [
        one for one in waiting
        if one.amount == line.amount
        and (within is None or abs(one.moved_date - line.booked_date) <= within)
        and (one.account_id in accounts if accounts else has_reference(line, one.reference))
    ]  # fmt: skip
    return [one for one in found if has_reference(line, one.reference)] or found


def of_one_account(found: Sequence[InTransit]) -> InTransit | None:
    """The first of what a line may clear; None where it is of several accounts."""
    return found[0] if len({one.account_id for one in found}) == 1 else None


def clear(session: Session, *, line: BankLine, item: InTransit, rule: str, by_user: str) -> None:
    """Clear what is in transit by a line in suspense: no payment is made, the money has come."""
    ledger.post_entry(
        ledger.driver(session), entry_type="bank_match", key=match_key(line), by_user=by_user,
        posted_date=max(line.booked_date, item.posted_date), province_code=item.province_code,
        lines=[Line("suspense", line.amount), Line(LEDGER, -line.amount)],
    )  # fmt: skip
    line.cleared_entry_id = item.entry_id
    mark(line, rule, by_user, item.account_id, item.payment_id)
    session.flush()


def match_key(line: BankLine) -> str:
    """The key of the entry that moves a line out of suspense; its version then counts the match."""
    return f"bank_match:{line.bank_line_id}:{line.version}"


def mark(
    line: BankLine, rule: str, by_user: str, account_id: str | None, payment_id: str | None
) -> None:
    """Say in a line what it was found to be."""
    line.state, line.match_rule, line.matched_by = "matched", rule, by_user
    line.matched_at = datetime.now(UTC)
    line.account_id, line.payment_id = account_id, payment_id


def entered(session: Session, *, timezone: str, key: str, by_user: str) -> None:
    """Let an entry that was just posted meet its bank line, if it is by bank and the line is there.

    A line in suspense is cleared. Raises ConflictError where there is none and the money is booked
    already, as the payment that its line became.
    """
    connection = ledger.driver(session)
    found = _read(connection, "ent.idempotency_key = %(key)s", timezone=timezone, key=key)
    for item in found:
        within = match_days(connection, item.moved_date)
        line = _line_in_suspense(session, item, within)
        if line is None:
            _refuse_booked(connection, item, within)
        else:
            _clear_late(session, line=line, item=item, by_user=by_user)


def _clear_late(session: Session, *, line: BankLine, item: InTransit, by_user: str) -> None:
    """Clear a line after its file was imported, and say so in the operations log."""
    clear(session, line=line, item=item, rule="in_transit", by_user=by_user)
    audit.record(
        session, username=by_user, action="match_bank_line", entity_type="bank_line",
        entity_id=line.bank_line_id, province_code=HEADQUARTERS,
        detail={"amount": str(line.amount), "account": item.account_id,
                "cleared": item.document_id},
    )  # fmt: skip


def meet_suspense(session: Session, *, timezone: str, by_user: str) -> int:
    """Clear lines in suspense by what is in transit, where it was posted in bulk; how many.

    Where the line became a payment already, what was posted stays in transit for people to see.
    """
    in_suspense = select(BankLine.amount).where(BankLine.state == "suspense").distinct()
    amounts = session.scalars(in_suspense).all()
    if not amounts:
        return 0
    expected = of_amounts(ledger.driver(session), timezone=timezone, amounts=amounts)
    # A line that somebody is matching just now is left to him.
    lines = session.scalars(
        select(BankLine)
        .where(
            BankLine.state == "suspense", BankLine.amount.in_({item.amount for item in expected})
        )
        .order_by(BankLine.booked_date, BankLine.bank_line_id).with_for_update(skip_locked=True)
    ).all()  # fmt: skip
    if not lines:
        return 0
    held = repeated(session, lines=lines)
    waiting = lock_and_read(session, timezone=timezone, lines=lines)
    cleared = 0
    for line in lines:
        accounts = accounts_named(session, line)
        if accounts is None or line.bank_line_id in held:
            continue
        of_amount = waiting.get(line.amount, [])
        item = of_one_account(may_clear(
            of_amount, line=line, accounts=accounts,
            within=match_days(ledger.driver(session), line.booked_date),
        ))  # fmt: skip
        if item is not None:
            of_amount.remove(item)
            _clear_late(session, line=line, item=item, by_user=by_user)
            cleared += 1
    return cleared


def _refuse_booked(connection: psycopg.Connection[Any], item: InTransit, within: timedelta) -> None:
    row = connection.execute(
        "select lin.payment_id, lin.booked_date, sta.statement_reference"
        " from billing.bank_line as lin"
        " join billing.bank_statement as sta on sta.bank_statement_id = lin.bank_statement_id"
        " where lin.account_id = %(account)s and lin.amount = %(amount)s and lin.amount > 0"
        " and lin.payment_id is not null and lin.cleared_entry_id is null"
        " and lin.booked_date between %(first)s and %(last)s"
        " and not exists (select 1 from billing.payment as rev"
        "     where rev.reverses_payment_id = lin.payment_id)"
        " order by lin.booked_date, lin.bank_line_id limit 1",
        {
            "account": item.account_id, "amount": item.amount,
            "first": item.moved_date - within, "last": item.moved_date + within,
        },
    ).fetchone()  # fmt: skip
    if row is not None:
        payment_id, day, reference = row
        raise ConflictError(
            "came_by_statement", account_id=item.account_id, amount=item.amount, day=day,
            reference=reference, payment_id=payment_id,
        )  # fmt: skip


def _line_in_suspense(session: Session, item: InTransit, within: timedelta) -> BankLine | None:
    # A line that somebody is matching just now is left to him.
    lines = session.scalars(
        select(BankLine)
        .where(
            BankLine.state == "suspense", BankLine.amount == item.amount,
            BankLine.booked_date.between(item.moved_date - within, item.moved_date + within),
        )
        .order_by(BankLine.booked_date, BankLine.bank_line_id).with_for_update(skip_locked=True)
    ).all()  # fmt: skip
    held = repeated(session, lines=lines) if lines else {}
    found = [
        line for line in lines
        if line.bank_line_id not in held and (accounts := accounts_named(session, line)) is not None
        and may_clear([item], line=line, accounts=accounts, within=within)
    ]  # fmt: skip
    found.sort(key=lambda line: not has_reference(line, item.reference))
    return found[0] if found else None


def accounts_named(session: Session, line: BankLine) -> set[str] | None:
    """Whose a line may be by its texts; None where it names a bill of one and another account."""
    by_bill, by_number = accounts_by_bill(session, line), accounts_by_number(session, line)
    if by_bill and by_number - by_bill:
        return None
    return by_bill or by_number


def release(
    session: Session, *, payment_id: str, day: date, reason_code: str, by_user: str
) -> None:
    """Put the line of a payment that was reversed back into suspense."""
    line = session.scalars(
        select(BankLine).where(BankLine.payment_id == payment_id).with_for_update()
    ).one_or_none()
    if line is None:
        return
    if line.cleared_entry_id is not None:
        connection = ledger.driver(session)
        row = connection.execute(
            "select entry_id from billing.ledger_entry where idempotency_key = %s",
            (f"bank_match:{line.bank_line_id}:{line.version - 1}",),
        ).fetchone()
        assert row is not None  # noqa: S101 - clear posted it
        ledger.reverse_entry(
            connection, entry_id=row[0], posted_date=day, reason_code=reason_code, by_user=by_user
        )
    line.state, line.match_rule, line.matched_by, line.matched_at = "suspense", None, None, None
    line.account_id, line.payment_id, line.cleared_entry_id = None, None, None
    session.flush()


def repeated(session: Session, *, lines: Sequence[BankLine]) -> dict[str, str]:
    """Lines that another statement of their bank account has too, and that statement.

    The same day, amount and bank reference; without a reference, the same texts.
    """
    rows = ledger.driver(session).execute(
        _REPEATED, {"lines": [line.bank_line_id for line in lines]}
    ).fetchall()  # fmt: skip
    return dict(rows)


# Within a file the statement with the smaller reference comes first.
_REPEATED = """
select lin.bank_line_id, min(before.statement_reference)
from billing.bank_line as lin
join billing.bank_statement as own on own.bank_statement_id = lin.bank_statement_id
join billing.bank_statement as before
    on before.bank_account = own.bank_account
    and before.bank_statement_id <> own.bank_statement_id
join billing.bank_line as old
    on old.bank_statement_id = before.bank_statement_id
    and old.booked_date = lin.booked_date and old.amount = lin.amount
    and old.bank_reference is not distinct from lin.bank_reference
    and (
        lin.bank_reference is not null
        or (
            old.customer_reference is not distinct from lin.customer_reference
            and old.remittance is not distinct from lin.remittance
        )
    )
where lin.bank_line_id = any(%(lines)s)
    and (
        before.bank_file_id <> own.bank_file_id
        or (before.statement_reference, before.bank_statement_id)
            < (own.statement_reference, own.bank_statement_id)
    )
group by lin.bank_line_id
"""
