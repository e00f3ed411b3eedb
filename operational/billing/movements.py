"""What a bill's payments and adjustments are made of, for pages, documents and explanations.

Which they are stands with the bill: `billing.bill_movement`, made in the warehouse by the rule of
docs/DECISIONLOG.md "What a bill's balance is made of". Here is what each of them is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from operational.billing.models import BillMovement
from operational.i18n import Translate, has_message

# A reversal is of the kind of what it takes back.
_DESCRIBED = """
select
    mov.payment_id, mov.entry_id, mov.amount,
    coalesce(pay.payment_type, org.entry_type, ent.entry_type) as kind,
    ent.reverses_entry_id is not null as is_reversal,
    coalesce(cast((pay.paid_at at time zone :timezone) as date), ent.posted_date) as moved_on,
    pay.channel, pay.reference, pay.reverses_payment_id,
    nte.note_id, nte.bill_id as noted_bill_id, nte.bill_item_code,
    fee.document_id as fee_document_id, fee.fee_date, fee.base_amount as fee_base_amount,
    fee.rate_per_day as fee_rate,
    fnd.valid_to, rsn.name_zh as reason_zh, rsn.name_en as reason_en
from unnest(cast(:payments as text[]), cast(:entries as bigint[]), cast(:amounts as numeric[]))
    as mov (payment_id, entry_id, amount)
left join billing.payment as pay on pay.payment_id = mov.payment_id
left join billing.ledger_entry as ent on ent.entry_id = mov.entry_id
left join billing.ledger_entry as org on org.entry_id = ent.reverses_entry_id
left join billing.adjustment_note as nte on nte.note_id = ent.note_id
left join lateral (
    select min(lin.open_item_id) as open_item_id, min(lin.fund_id) as fund_id
    from billing.ledger_line as lin
    where lin.entry_id = coalesce(org.entry_id, ent.entry_id)
) as on_line on true
left join billing.late_fee as fee
    on fee.open_item_id = on_line.open_item_id
    and coalesce(org.entry_type, ent.entry_type) = 'late_fee'
left join billing.fund as fnd on fnd.fund_id = on_line.fund_id and fnd.kind = 'bonus'
left join billing.reason_code as rsn
    on rsn.reason_code = coalesce(pay.reason_code, ent.reason_code)
order by moved_on, mov.entry_id, mov.payment_id
"""


@dataclass(frozen=True)
class Movement:
    """One payment, or one adjustment; of late fees perhaps those of several days on a document.

    `amount` is what was received, or what is owed more.
    """

    is_payment: bool
    kind: str  # payment, refund, reversal; or the type of the ledger entry
    is_reversal: bool  # of an adjustment
    first_date: date
    last_date: date
    count: int
    amount: Decimal
    payment_id: str | None = None
    entry_id: int | None = None
    note_id: str | None = None
    channel: str | None = None
    reference: str | None = None
    reverses: str | None = None  # the payment
    document_id: str | None = None  # of a note, the bill; of a late fee, what was overdue
    bill_item_code: str | None = None
    reasons: dict[str, str] | None = None  # by language
    valid_to: date | None = None  # of bonus money
    fee_base: Decimal | None = None
    fee_rate: Decimal | None = None

    @property
    def number(self) -> str:
        """Its number: the payment's, the note's, else that of the ledger entry."""
        return self.payment_id or self.note_id or str(self.entry_id or "")

    def name(self, translate: Translate, _language: str = "") -> str:
        """What it is, in a word."""
        if self.is_payment:
            return translate(f"payment_kind.{self.kind}")
        name = translate(f"entry_type.{self.kind}")
        return translate("bill.reversal_of", name=name) if self.is_reversal else name

    def details(self, translate: Translate, language: str) -> str:
        """What is known of it besides, in one line: method and reference, item, days, reason."""
        parts = [
            self.channel and translate(f"channel.{self.channel}"),
            self.reference,
            self.reverses and translate("bill.reversal_of", name=self.reverses),
            self.document_id,
            self.bill_item_code and _item(translate, self.bill_item_code),
            self._fee(translate),
            self.reasons and self.reasons[language],
            self.valid_to and translate("bill.bonus_until", day=self.valid_to),
        ]
        return " · ".join(part for part in parts if part)

    def _fee(self, translate: Translate) -> str:
        if self.fee_base is not None and self.fee_rate is not None:
            return f"{self.fee_base:,.2f} × {self.fee_rate.normalize():f}"
        if self.kind == "late_fee" and self.count > 1:
            return translate(
                "bill.fee_days", count=self.count, first=self.first_date, last=self.last_date
            )
        return ""


@dataclass(frozen=True)
class BillMovements:
    """What the two figures of a bill are made of."""

    adjustments: list[Movement]
    payments: list[Movement]


def bill_movements(session: Session, *, bill_id: str, timezone: str) -> BillMovements:
    """The payments and adjustments of a published bill; late fees added up by document."""
    rows = session.execute(
        select(BillMovement.payment_id, BillMovement.entry_id, BillMovement.amount).where(
            BillMovement.bill_id == bill_id
        )
    ).all()
    found = describe(session, rows=[tuple(row) for row in rows], timezone=timezone)
    return BillMovements(
        _fees_together(each for each in found if not each.is_payment),
        [each for each in found if each.is_payment],
    )


def describe(session: Session, *, rows: Iterable[tuple[Any, ...]], timezone: str) -> list[Movement]:
    """What each of the payments (id, null, amount) and entries (null, number, amount) is."""
    listed = list(rows)
    if not listed:
        return []
    payments, entries, amounts = (list(column) for column in zip(*listed, strict=True))
    found = session.execute(
        text(_DESCRIBED),
        {"payments": payments, "entries": entries, "amounts": amounts, "timezone": timezone},
    )
    return [
        Movement(
            is_payment=row.payment_id is not None, kind=row.kind, is_reversal=row.is_reversal,
            first_date=row.fee_date or row.moved_on, last_date=row.fee_date or row.moved_on,
            count=1, amount=row.amount, payment_id=row.payment_id, entry_id=row.entry_id,
            note_id=row.note_id, channel=row.channel, reference=row.reference,
            reverses=row.reverses_payment_id, document_id=row.noted_bill_id or row.fee_document_id,
            bill_item_code=row.bill_item_code,
            reasons=row.reason_zh and {"zh": row.reason_zh, "en": row.reason_en},
            valid_to=row.valid_to, fee_base=row.fee_base_amount, fee_rate=row.fee_rate,
        )
        for row in found
    ]  # fmt: skip


def _fees_together(movements: Iterable[Movement]) -> list[Movement]:
    """Late fees, which are charged by the day, as one line a document; the others as they are."""
    kept: list[Movement] = []
    place: dict[str, int] = {}
    for each in movements:
        if each.kind != "late_fee" or each.document_id is None or each.is_reversal:
            kept.append(each)
        elif each.document_id not in place:
            place[each.document_id] = len(kept)
            kept.append(each)
        else:
            of_before = kept[place[each.document_id]]
            kept[place[each.document_id]] = replace(
                of_before, amount=of_before.amount + each.amount, count=of_before.count + 1,
                first_date=min(of_before.first_date, each.first_date),
                last_date=max(of_before.last_date, each.last_date), entry_id=None, fee_base=None,
                fee_rate=None,
            )  # fmt: skip
    return kept


def _item(translate: Translate, code: str) -> str:
    return translate(f"bill_item.{code}") if has_message(f"bill_item.{code}") else code
