"""Credit and debit notes 调帐: the only way to change what a final bill says."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import psycopg
from sqlalchemy import case, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, joinedload

from operational import audit
from operational.accounts import collection, ledger
from operational.accounts.ledger import Line
from operational.accounts.models import AdjustmentNote, ItemRule, OpenItem
from operational.accounts.service import (
    check_bill_items,
    check_reason,
    checked_amount,
    find_account,
    local_today,
)
from operational.billing.models import Bill, BillingCycle
from operational.database import transaction
from operational.permissions import Principal
from operational.problems import ConflictError, InvalidRequestError, NotFoundError
from tollhouse.settings import Settings
from tollhouse.warehouse.reference import tax_rate_on

NOTE_STATES = ("requested", "approved", "posted", "rejected")
NOTE_TYPES = ("credit", "debit")
# What ids of notes that restate a cycle begin with.
RESTATEMENT = "restatement"


def request_note(
    settings: Settings, *, principal: Principal, note_id: str, note_type: str, account_id: str,
    bill_item_code: str, amount: Decimal, reason_code: str, explanation: str,
    bill_id: str | None = None,
) -> AdjustmentNote:  # fmt: skip
    """Ask for a note; nothing is posted until another person approves it.

    A credit note names the bill and the bill item it takes back from; the bill is of a final
    cycle (before that, the bill is computed anew). `note_id` is the idempotency key.
    """
    principal.require("note.request")
    amount = checked_amount(amount)
    if note_type not in NOTE_TYPES:
        raise InvalidRequestError("bad_parameters", names=["note_type"])
    if not note_id.strip() or len(note_id) > 100 or not note_id.isprintable():
        raise InvalidRequestError("key_missing")
    if not explanation.strip():
        raise InvalidRequestError("reason_missing")
    with transaction(settings) as session:
        account = find_account(session, principal=principal, account_id=account_id)
        check_reason(session, purpose=f"{note_type}_note", reason_code=reason_code)
        _check_subject(session, note_type, account_id, bill_id, bill_item_code)
        values = {
            "note_id": note_id, "note_type": note_type, "account_id": account_id,
            "province_code": account.province_code, "bill_id": bill_id,
            "bill_item_code": bill_item_code, "amount": amount, "reason_code": reason_code,
            "explanation": explanation.strip(), "requested_by": principal.username,
        }  # fmt: skip
        added = session.scalar(
            insert(AdjustmentNote).values(values)
            .on_conflict_do_nothing(index_elements=["note_id"]).returning(AdjustmentNote.note_id)
        )  # fmt: skip
        note = _load(session, note_id)
        if added is None and any(getattr(note, name) != values[name] for name in values):
            raise ConflictError("key_reused", used_key=note_id)
        if added is not None:
            _audit(session, principal, "request_note", note)
        return note


def decide_note(
    settings: Settings, *, principal: Principal, note_id: str, approve: bool, reason: str = "",
    today: date | None = None,
) -> AdjustmentNote:  # fmt: skip
    """Approve a note, which posts it, or reject it; never one's own. Once decided it stays so.

    A credit on what is paid already gives the money back to where it came from (deposit or bonus),
    from where it pays what else is owed. ConflictError where there is less to credit.
    """
    principal.require("note.approve")
    day = today or local_today(settings)
    if not approve and not reason.strip():
        raise InvalidRequestError("reason_missing")
    with transaction(settings) as session:
        note = session.get(AdjustmentNote, note_id, with_for_update=True)
        if note is None or not principal.sees(note.province_code):
            raise NotFoundError("no_note", note_id=note_id)
        if note.state != "requested":
            raise ConflictError("note_decided", note_id=note_id, state=note.state)
        if note.requested_by == principal.username:
            raise ConflictError("note_own", note_id=note_id)
        note.decided_by, note.decided_at = principal.username, datetime.now(UTC)
        note.decision_reason = reason.strip() or None
        note.state = "approved" if approve else "rejected"
        if approve:
            connection = ledger.driver(session)
            ledger.lock_accounts(connection, [note.account_id])
            (_credit if note.note_type == "credit" else _debit)(
                connection, session, note, day, principal.username
            )
            ledger.allocate(
                connection, account_ids=[note.account_id], today=day, not_before=day,
                by_user=principal.username,
            )  # fmt: skip
            collection.follow_money(connection, account_ids=[note.account_id], today=day)
            note.state = "posted"
        _audit(session, principal, "approve_note" if approve else "reject_note", note)
    with transaction(settings) as session:
        return _load(session, note_id)


def find_note(session: Session, *, principal: Principal, note_id: str) -> AdjustmentNote:
    """One note of the user's province."""
    principal.require("receivable.read")
    note = session.get(AdjustmentNote, note_id, options=[joinedload(AdjustmentNote.reason)])
    if note is None or not principal.sees(note.province_code):
        raise NotFoundError("no_note", note_id=note_id)
    return note


def list_notes(
    session: Session, *, principal: Principal, state: str | None = None, limit: int = 50,
    offset: int = 0,
) -> list[AdjustmentNote]:  # fmt: skip
    """Notes of the user's province, those to be decided first, the newest first."""
    principal.require("receivable.read")
    query = select(AdjustmentNote).options(joinedload(AdjustmentNote.reason))
    if state is not None:
        query = query.where(AdjustmentNote.state == state)
    query = principal.only_own_province(query, AdjustmentNote.province_code)
    waiting_first = (AdjustmentNote.state != "requested", AdjustmentNote.requested_at.desc())
    return list(session.scalars(query.order_by(*waiting_first).limit(limit).offset(offset)))


def list_restatements(
    settings: Settings, *, cycle_id: str
) -> dict[tuple[str, str], tuple[int, Decimal]]:
    """What restatements of a cycle asked for, by account and bill item: how many notes, and net.

    Debits count as positive. Rejected notes count too: what was refused is not asked for again.
    """
    signed = case((AdjustmentNote.note_type == "debit", 1), else_=-1) * AdjustmentNote.amount
    query = (
        select(
            AdjustmentNote.account_id, AdjustmentNote.bill_item_code, func.count(),
            func.sum(signed),
        )
        .where(AdjustmentNote.note_id.startswith(f"{RESTATEMENT}/{cycle_id}/", autoescape=True))
        .group_by(AdjustmentNote.account_id, AdjustmentNote.bill_item_code)
    )  # fmt: skip
    with transaction(settings) as session:
        found = session.execute(query).all()
    return {(row[0], row[1]): (row[2], row[3]) for row in found}


def _credit(
    connection: psycopg.Connection[Any], session: Session, note: AdjustmentNote, day: date, by: str
) -> None:
    items, _ = ledger.open_again(
        connection, open_item_ids=_item_ids(connection, note), amount=note.amount,
        posted_date=day, reason_code="credited", by_user=by, note_id=note.note_id,
    )  # fmt: skip
    available = sum((open_amount for _, open_amount in items), Decimal(0))
    if available < note.amount:
        raise ConflictError(
            "credit_too_large", bill_id=note.bill_id, bill_item_code=note.bill_item_code,
            available=available,
        )  # fmt: skip
    lines = _net_and_tax(session, note, day)
    left = note.amount
    for item_id, open_amount in items:
        if amount := min(left, open_amount):
            lines.append(Line("receivable", -amount, note.bill_item_code, open_item_id=item_id))
        left -= amount
    _post(connection, note, day, by, lines)


def _debit(
    connection: psycopg.Connection[Any], session: Session, note: AdjustmentNote, day: date, by: str
) -> None:
    rule = session.get(ItemRule, note.bill_item_code)
    item_id = f"note:{note.note_id}"
    connection.execute(
        "insert into billing.open_item (open_item_id, account_id, province_code, document_type,"
        " document_id, bill_id, bill_item_code, issued_date, due_date, priority,"
        " accrues_late_fee, amount) values (%s, %s, %s, 'debit_note', %s, %s, %s, %s, %s, %s, %s,"
        " %s)",
        (
            item_id, note.account_id, note.province_code, item_id, note.bill_id,
            note.bill_item_code, day, day + timedelta(days=_term(connection, day)),
            ledger.DEFAULT_PRIORITY if rule is None else rule.priority,
            True if rule is None else rule.accrues_late_fee, note.amount,
        ),
    )  # fmt: skip
    lines = [
        Line("receivable", note.amount, note.bill_item_code, open_item_id=item_id),
        *_net_and_tax(session, note, day),
    ]
    _post(connection, note, day, by, lines)


def _post(
    connection: psycopg.Connection[Any], note: AdjustmentNote, day: date, by: str, lines: list[Line]
) -> None:
    ledger.post_entry(
        connection, entry_type=f"{note.note_type}_note", posted_date=day,
        key=f"note:{note.note_id}", by_user=by, lines=lines, account_id=note.account_id,
        province_code=note.province_code, reason_code=note.reason_code, bill_id=note.bill_id,
        note_id=note.note_id,
    )  # fmt: skip


def _item_ids(connection: psycopg.Connection[Any], note: AdjustmentNote) -> list[str]:
    """What was owed for the bill item: on the bill, or deducted from the balance before."""
    rows = connection.execute(
        "select open_item_id from billing.open_item"
        " where (bill_id = %(bill)s or document_id = 'deduction:' || %(bill)s)"
        " and bill_item_code = %(code)s",
        {"bill": note.bill_id, "code": note.bill_item_code},
    ).fetchall()
    return [item_id for (item_id,) in rows]


def _term(connection: psycopg.Connection[Any], day: date) -> int:
    row = connection.execute(
        "select billing.accounts_parameter_on('payment_term_days', %s)", (day,)
    ).fetchone()
    assert row is not None  # noqa: S101 - a function gives a row
    return int(row[0])


# The item as the bill has it, and what notes on it have done since.
_TAXED = """
select
    coalesce(sum(itm.amount), 0), coalesce(sum(itm.tax_amount), 0),
    noted.debited, noted.debit_tax, noted.credited, noted.credit_tax
from (
    select
        coalesce(sum(nte.amount) filter (where nte.note_type = 'debit'), 0) as debited,
        coalesce(sum(nte.amount) filter (where nte.note_type = 'credit'), 0) as credited,
        coalesce(-sum(tax.amount) filter (where nte.note_type = 'debit'), 0) as debit_tax,
        coalesce(sum(tax.amount) filter (where nte.note_type = 'credit'), 0) as credit_tax
    from billing.adjustment_note as nte
    join billing.ledger_entry as ent
        on ent.note_id = nte.note_id and ent.entry_type in ('credit_note', 'debit_note')
    left join billing.ledger_line as tax
        on tax.entry_id = ent.entry_id and tax.ledger_code = 'tax_payable'
    where nte.bill_id = %(bill)s and nte.bill_item_code = %(code)s
        and (%(before)s::bigint is null or ent.entry_id < %(before)s)
) as noted
left join billing.bill_item as itm
    on itm.bill_id = %(bill)s and itm.bill_item_code = %(code)s
group by noted.debited, noted.debit_tax, noted.credited, noted.credit_tax
"""


@dataclass(frozen=True)
class TaxShare:
    """The tax within a note, and what it is reckoned from.

    By the bill's item (`billed`, and the tax in it) and the notes of the same kind on it before
    (`noted`, and the tax in them); of an item the bill has not, by `rate`; else there is no tax.
    """

    tax: Decimal
    billed: Decimal = Decimal(0)
    billed_tax: Decimal = Decimal(0)
    noted: Decimal = Decimal(0)
    noted_tax: Decimal = Decimal(0)
    rate: Decimal | None = None
    is_rate_of_net: bool = True

    @property
    def is_taxed(self) -> bool:
        """Whether there was anything to reckon tax from."""
        return bool(self.billed) or self.rate is not None


def tax_share(
    session: Session, note: AdjustmentNote, day: date, *, before_entry: int | None = None
) -> TaxShare:
    """The tax within a note posted on `day`, or that was posted with the entry given.

    In proportion to the bill's item, reckoned from all its notes together: a fen that rounding
    keeps back on one comes with a later one, and when all is credited all the tax is. Of an item
    the bill has not, by the rate of the day; ConflictError where there is none.
    """
    if _earned(session, note) != "revenue":
        return TaxShare(Decimal(0))
    row = ledger.driver(session).execute(
        _TAXED, {"bill": note.bill_id, "code": note.bill_item_code, "before": before_entry}
    ).fetchone()  # fmt: skip
    assert row is not None  # noqa: S101 - an aggregate always gives a row
    billed, billed_tax, debited, debit_tax, credited, credit_tax = row
    if note.note_type == "credit":
        tax = _part(billed_tax * (credited + note.amount), billed) - credit_tax
        return TaxShare(tax, billed, billed_tax, credited, credit_tax)
    if billed:
        total = _part(billed_tax * (billed + debited + note.amount), billed)
        return TaxShare(total - billed_tax - debit_tax, billed, billed_tax, debited, debit_tax)
    found = tax_rate_on(note.bill_item_code, day)
    if found is None:
        raise ConflictError("no_tax_rate", bill_item_code=note.bill_item_code, day=day)
    rate, of_net = found
    tax = _part(note.amount * rate, 100 + rate if of_net else Decimal(100))
    return TaxShare(tax, rate=rate, is_rate_of_net=of_net)


def _net_and_tax(session: Session, note: AdjustmentNote, day: date) -> list[Line]:
    """What the note is without tax, and the tax in it; a debit of a credit note, or a credit."""
    tax = tax_share(session, note, day).tax
    sign = 1 if note.note_type == "credit" else -1
    return [
        Line(code, sign * amount, note.bill_item_code)
        for code, amount in (
            (_earned(session, note), note.amount - tax), ("tax_payable", tax),
        )
        if amount
    ]  # fmt: skip


def _earned(session: Session, note: AdjustmentNote) -> str:
    """The ledger account of what the note takes back or adds: income, or owed to others."""
    rule = session.get(ItemRule, note.bill_item_code)
    return "revenue" if rule is None else rule.ledger_code


def _part(numerator: Decimal, denominator: Decimal) -> Decimal:
    """A quotient, half-up to the fen; of nothing, nothing."""
    if not denominator:
        return Decimal(0)
    return (numerator / denominator).quantize(Decimal("0.01"), ROUND_HALF_UP)


def _check_subject(
    session: Session, note_type: str, account_id: str, bill_id: str | None, bill_item_code: str
) -> None:
    if not bill_item_code:
        raise InvalidRequestError("bad_parameters", names=["bill_item_code"])
    if note_type == "debit":
        check_bill_items(session, [bill_item_code])
    if bill_id is None:
        if note_type == "credit":
            raise InvalidRequestError("note_without_bill")
        return
    bill = session.get(Bill, bill_id)
    if bill is None or bill.account_id != account_id:
        raise NotFoundError("no_bill", bill_id=bill_id)
    state = session.get_one(BillingCycle, bill.cycle_id).state
    if state != "final":
        raise ConflictError("bill_not_final", bill_id=bill_id, state=state)
    if note_type == "credit":
        codes = session.scalars(
            select(OpenItem.bill_item_code)
            .where(or_(OpenItem.bill_id == bill_id, OpenItem.document_id == f"deduction:{bill_id}"))
            .distinct()
        ).all()
        if bill_item_code not in codes:
            raise InvalidRequestError(
                "bill_without_item", bill_id=bill_id, bill_item_code=bill_item_code,
                known=sorted(codes),
            )  # fmt: skip


def _load(session: Session, note_id: str) -> AdjustmentNote:
    return session.scalars(
        select(AdjustmentNote).where(AdjustmentNote.note_id == note_id)
        .options(joinedload(AdjustmentNote.reason))
    ).one()  # fmt: skip


def _audit(session: Session, principal: Principal, action: str, note: AdjustmentNote) -> None:
    audit.record(
        session, username=principal.username, action=action, entity_type="adjustment_note",
        entity_id=note.note_id, province_code=note.province_code,
        detail={"account": note.account_id, "type": note.note_type, "amount": str(note.amount),
                "bill": note.bill_id, "item": note.bill_item_code, "reason": note.reason_code},
    )  # fmt: skip
