"""Explains a credit or debit note: what it corrects, the tax within it, and what it did."""

from __future__ import annotations

import re
import uuid
from decimal import Decimal
from fractions import Fraction
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session, joinedload

from operational.accounts.models import AdjustmentNote, LedgerEntry, LedgerLine, OpenItem
from operational.accounts.notes import TaxShare, tax_share
from operational.billing.arithmetic import Line, money
from operational.billing.models import BillItem, BillMovement
from operational.billing.sections import Explanation, Fact, Named, Section

_HASH = re.compile(r"[0-9a-f]{32}")


def explain_note(session: Session, *, note_id: str) -> Explanation | None:
    """What a note is and, once it is posted, how it came about; none where there is no such note.

    What is worked out again is the tax within it, by the rule it was posted by.
    """
    note = session.get(AdjustmentNote, note_id, options=[joinedload(AdjustmentNote.reason)])
    if note is None:
        return None
    sections = [_head(note), *_noted_items(session, note)]
    entry = posted_entry(session, note_id)
    if entry is None:
        return Explanation("adjustment_note", note_id, note.province_code, None, None, sections)
    sections[0].add("explain.posted_on", str(entry.posted_date))
    counted_on = session.scalar(
        select(BillMovement.bill_id).where(BillMovement.entry_id == entry.entry_id)
    )
    sections[0].add("explain.counted_on", counted_on, "bill")
    share = share_of_posted(session, note, entry)
    taxes = {"tax_payable"} if share.is_taxed else set()  # an item may be tax itself
    net = sum(
        (abs(line.amount) for line in entry.lines
         if line.open_item_id is None and line.ledger_code not in taxes),
        Decimal(0),
    )  # fmt: skip
    sections.append(_tax_section(note, share, net))
    sections += _undone(session, note_id)
    sections.append(_ledger_section(session, note_id))
    return Explanation(
        "adjustment_note", note_id, note.province_code, note.amount, net + share.tax, sections
    )


def posted_entry(session: Session, note_id: str) -> LedgerEntry | None:
    """The ledger entry a note was posted with."""
    return session.scalar(
        select(LedgerEntry).where(
            LedgerEntry.note_id == note_id,
            LedgerEntry.entry_type.in_(("credit_note", "debit_note")),
        )
    )


def share_of_posted(session: Session, note: AdjustmentNote, entry: LedgerEntry) -> TaxShare:
    """The tax within a posted note, reckoned as it was then."""
    debited = session.get(OpenItem, f"note:{note.note_id}")
    day = entry.posted_date if debited is None else debited.issued_date
    return tax_share(session, note, day, before_entry=entry.entry_id)


def _head(note: AdjustmentNote) -> Section:
    section = Section("explain.note")
    section.add("explain.note_type", f"note_type.{note.note_type}", "word")
    section.add("explain.state", f"note_state.{note.state}", "word")
    section.add("explain.amount", _yuan(note.amount))
    section.add("explain.account", note.account_id, "code")
    section.add("explain.on_bill", note.bill_id, "bill")
    section.add("explain.bill_item_code", f"bill_item.{note.bill_item_code}", "word")
    reason: Named = {
        "code": note.reason_code, "zh": note.reason.name_zh, "en": note.reason.name_en,
    }  # fmt: skip
    section.add("explain.reason", reason, "named")
    section.add("explain.note_text", note.explanation)
    section.add("explain.requested_by", note.requested_by, "code")
    section.add("explain.requested_at", note.requested_at, "moment")
    section.add("explain.decided_by", note.decided_by, "code")
    section.add("explain.decided_at", note.decided_at, "moment")
    section.add("explain.decision_reason", note.decision_reason)
    return section


def _noted_items(session: Session, note: AdjustmentNote) -> list[Section]:
    """The bill's items of the code, each to be explained in turn."""
    items = session.scalars(
        select(BillItem)
        .where(BillItem.bill_id == note.bill_id, BillItem.bill_item_code == note.bill_item_code)
        .order_by(BillItem.subscription_id, BillItem.item_kind, BillItem.bill_item_key)
    ).all()
    if not items:
        return []
    section = Section("explain.noted_items")
    section.columns = [
        "explain.subscription", "explain.item_kind", "explain.amount", "explain.tax",
        "explain.on_bill_item",
    ]  # fmt: skip
    section.rows = [
        [
            Fact("explain.subscription", item.subscription_id, "code"),
            Fact("explain.item_kind", f"item_kind.{item.item_kind}", "word"),
            Fact("explain.amount", _yuan(item.amount)),
            Fact("explain.tax", "" if item.tax_amount is None else _yuan(item.tax_amount)),
            Fact("explain.on_bill_item", _key(item.bill_item_key), "bill_item"),
        ]
        for item in items
    ]
    return [section]


def _key(key: str) -> str:
    """A bill item's key as other explanations write it."""
    return str(uuid.UUID(key)) if _HASH.fullmatch(key) else key


def _tax_section(note: AdjustmentNote, share: TaxShare, net: Decimal) -> Section:
    """How the tax within the note was reckoned."""
    section = Section("explain.note_tax")
    if share.rate is not None:
        whole = 100 + (share.rate if share.is_rate_of_net else Decimal(0))
        exact = Fraction(note.amount) * Fraction(share.rate) / Fraction(whole)
        formula = f"{_yuan(note.amount)} × {_plain(share.rate)}/{_plain(whole)} = {money(exact)}"
        section.lines.append(Line("explain.line_note_tax_by_rate", formula, _yuan(share.tax)))
    elif share.billed:
        sign = 1 if note.note_type == "credit" else -1
        base = share.noted + note.amount
        through = base if sign == 1 else share.billed + base
        exact = Fraction(share.billed_tax) * Fraction(through) / Fraction(share.billed)
        formula = f"{_yuan(share.billed_tax)} × {_yuan(through)}/{_yuan(share.billed)}"
        total = share.tax + share.noted_tax + (Decimal(0) if sign == 1 else share.billed_tax)
        section.lines.append(
            Line("explain.line_note_tax", f"{formula} = {money(exact)}", _yuan(total))
        )
        taken = [share.noted_tax] if sign == 1 else [share.billed_tax, share.noted_tax]
        if any(taken):
            formula = " − ".join(map(_yuan, (total, *filter(None, taken))))
            section.lines.append(Line("explain.line_note_tax_left", formula, _yuan(share.tax)))
        section.notes.append(("explain.note_tax_together", {}))
    else:
        section.notes.append(("explain.note_untaxed", {}))
    formula = f"{_yuan(note.amount)} − {_yuan(share.tax)}"
    section.lines.append(Line("explain.line_note_net", formula, _yuan(net)))
    return section


# What the reversals of allocations gave back, each to the fund it had come from.
_UNDONE = """
select ent.reverses_entry_id, ent.posted_date, fnd.kind, fnd.payment_id,
    sum(-lin.amount) as amount
from billing.ledger_entry as ent
join billing.ledger_line as lin on lin.entry_id = ent.entry_id
join billing.fund as fnd on fnd.fund_id = lin.fund_id
where ent.note_id = :note and ent.entry_type = 'reversal'
group by ent.entry_id, ent.reverses_entry_id, ent.posted_date, fnd.fund_id
order by ent.entry_id, fnd.fund_id
"""


def _undone(session: Session, note_id: str) -> list[Section]:
    rows = session.execute(text(_UNDONE), {"note": note_id}).all()
    if not rows:
        return []
    section = Section("explain.note_undone")
    section.columns = [
        "accounts.entry", "explain.posted_on", "explain.given_back_to", "explain.payment",
        "explain.amount",
    ]  # fmt: skip
    section.rows = [
        [
            Fact("accounts.entry", str(row.reverses_entry_id), "code"),
            Fact("explain.posted_on", str(row.posted_date)),
            Fact("explain.given_back_to", f"fund_kind.{row.kind}", "word"),
            Fact("explain.payment", row.payment_id, "code"),
            Fact("explain.amount", _yuan(row.amount)),
        ]
        for row in rows
    ]
    section.notes.append(("explain.note_undone_why", {}))
    return [section]


def _ledger_section(session: Session, note_id: str) -> Section:
    section = Section("explain.ledger_entries")
    section.columns = [
        "accounts.entry", "explain.posted_on", "accounts.kind", "explain.ledger_account",
        "explain.bill_item_code", "explain.debit", "explain.credit",
    ]  # fmt: skip
    found = session.execute(
        select(LedgerEntry, LedgerLine)
        .join(LedgerLine, LedgerLine.entry_id == LedgerEntry.entry_id)
        .where(LedgerEntry.note_id == note_id)
        .options(joinedload(LedgerLine.ledger))
        .order_by(LedgerEntry.entry_id, LedgerLine.amount < 0, LedgerLine.line_number)
    )
    for entry, line in found:
        section.rows.append(_ledger_row(entry, line))
    return section


def _ledger_row(entry: Any, line: Any) -> list[Fact]:
    account: Named = {
        "code": line.ledger_code,
        "zh": f"{line.ledger.account_number} {line.ledger.name_zh}",
        "en": f"{line.ledger.account_number} {line.ledger.name_en}",
    }
    item = line.bill_item_code
    return [
        Fact("accounts.entry", str(entry.entry_id), "code"),
        Fact("explain.posted_on", str(entry.posted_date)),
        Fact("accounts.kind", f"entry_type.{entry.entry_type}", "word"),
        Fact("explain.ledger_account", account, "named"),
        Fact("explain.bill_item_code", item and f"bill_item.{item}", "word"),
        Fact("explain.debit", _yuan(line.amount) if line.amount > 0 else ""),
        Fact("explain.credit", _yuan(-line.amount) if line.amount < 0 else ""),
    ]


def _yuan(amount: Decimal) -> str:
    return f"{amount:.2f}"


def _plain(rate: Decimal) -> str:
    return f"{rate.normalize():f}"
