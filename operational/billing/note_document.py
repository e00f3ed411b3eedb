"""A posted credit or debit note as a document: HTML, PDF, UBL 2.1."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from operational.accounts.bills import bill_dates
from operational.accounts.models import AdjustmentNote, OpenItem
from operational.accounts.notes import find_note
from operational.billing import ubl
from operational.billing.models import Bill, BillItem
from operational.billing.note_explanation import posted_entry, share_of_posted
from operational.billing.printing import FORMATS, as_html, as_pdf, percent, yuan
from operational.crm.models import Account
from operational.i18n import has_message, translator
from operational.permissions import Principal
from operational.problems import ConflictError, InvalidRequestError
from operational.templating import page_words
from tollhouse.settings import Settings


def file_name(note_id: str, form: str) -> str:
    """What a note is called as a file in one of `FORMATS`; ids may have slashes."""
    return f"{note_id.replace('/', '-')}.{'xml' if form == 'ubl' else form}"


@dataclass(frozen=True)
class NoteDocument:
    """A note as it is printed, in one language, for one reader."""

    note_id: str
    note_type: str  # credit or debit
    issued_on: date
    due_on: date | None  # of a debit note
    account_id: str
    customer_name: str
    province_code: str
    currency: str
    bill_id: str | None
    bill_issued_on: date | None
    item_code: str
    item_name: str
    reason_code: str
    reason: str
    amount: Decimal
    tax: Decimal  # within the amount
    tax_rate: Decimal | None
    language: str
    issuer: str
    issuer_tax_number: str  # empty where the settings give none

    @property
    def net(self) -> Decimal:
        """The amount without the tax."""
        return self.amount - self.tax


def make_note(
    session: Session, settings: Settings, *, principal: Principal, note_id: str,
    language: str | None = None,
) -> NoteDocument:  # fmt: skip
    """The document of a posted note, in the language its account asked for or the one given.

    Raises:
        NotFoundError: there is no such note for this reader.
        ConflictError: the note is not posted: it is no document yet.
    """
    note = find_note(session, principal=principal, note_id=note_id)
    entry = posted_entry(session, note_id)
    if entry is None:
        raise ConflictError("note_not_posted", note_id=note_id, state=note.state)
    account = session.get_one(Account, note.account_id)
    language = language or account.bill_language
    translate = translator(language)
    bill = None if note.bill_id is None else session.get_one(Bill, note.bill_id)
    issued = None
    if bill is not None:
        dates = bill_dates(session, cycle_id=bill.cycle_id, timezone=settings.timezone)
        issued = dates.issued_date
    debited = session.get(OpenItem, f"note:{note_id}")
    share = share_of_posted(session, note, entry)
    item = f"bill_item.{note.bill_item_code}"
    return NoteDocument(
        note_id=note_id, note_type=note.note_type, issued_on=entry.posted_date,
        due_on=None if debited is None else debited.due_date, account_id=note.account_id,
        customer_name=principal.masked_name(account.customer.name),
        province_code=note.province_code, currency=bill.currency_code if bill else "CNY",
        bill_id=note.bill_id, bill_issued_on=issued,
        item_code=note.bill_item_code,
        item_name=translate(item) if has_message(item) else note.bill_item_code,
        reason_code=note.reason_code, reason=getattr(note.reason, f"name_{language}"),
        amount=note.amount, tax=share.tax,
        tax_rate=share.rate if share.rate is not None else _rate_of_item(session, note),
        language=language, issuer=settings.carrier_name or translate("bill.issuer"),
        issuer_tax_number=settings.carrier_tax_number,
    )  # fmt: skip


def _rate_of_item(session: Session, note: AdjustmentNote) -> Decimal | None:
    """The rate that the bill's items of the code have: they are of one tax class."""
    found: Decimal | None = session.scalar(
        select(func.max(BillItem.tax_rate_percent)).where(
            BillItem.bill_id == note.bill_id, BillItem.bill_item_code == note.bill_item_code
        )
    )
    return found


def render_note(document: NoteDocument, form: str, timezone: str) -> bytes:
    """The document in one of `FORMATS`."""
    if form == "html":
        return as_html(
            "billing/note_document.html", document.language, timezone,
            note=_words(document, timezone),
        )  # fmt: skip
    if form == "pdf":
        return as_pdf("note.typ", _words(document, timezone), document.issued_on)
    if form == "ubl":
        return _ubl(document)
    raise InvalidRequestError("document_format", form=form, formats=sorted(FORMATS))


def _words(document: NoteDocument, timezone: str) -> dict[str, Any]:
    """What the templates print: all of it text, so that no figure is reckoned in them."""
    words = page_words(document.language, timezone)
    translate = words["t"]
    facts = [
        (translate("field.customer"), document.customer_name),
        (translate("field.account"), document.account_id),
        (translate("field.province"), words["province"](document.province_code)),
        (translate("note.number"), document.note_id),
        (translate("bill.issued_on"), str(document.issued_on)),
    ]
    for key, value in (
        ("bill.due_on", document.due_on), ("note.corrects", document.bill_id),
        ("note.bill_issued_on", document.bill_issued_on),
        ("bill.issuer_tax_number", document.issuer_tax_number),
    ):  # fmt: skip
        if value:
            facts.append((translate(key), str(value)))
    facts.append((translate("field.reason"), document.reason))
    return {
        "language": document.language, "title": translate(f"note_title.{document.note_type}"),
        "issuer": document.issuer, "facts": facts, "notice": "",
        "columns": [
            translate("bill.item"), translate("note.net"), translate("bill.tax_rate"),
            translate("bill.tax_in_it"), translate("field.amount"),
        ],
        "row": [
            document.item_name, yuan(document.net), percent(document.tax_rate),
            yuan(document.tax), yuan(document.amount),
        ],
        "sum": [translate(f"note_total.{document.note_type}"), yuan(document.amount)],
        "explained": translate(f"note_explained.{document.note_type}"),
        "currency": translate("bill.currency", currency=document.currency),
        "page": translate("bill.page"),
    }  # fmt: skip


def _ubl(document: NoteDocument) -> bytes:
    """A CreditNote or DebitNote; elements stand in the order of the UBL 2.1 schema.

    A debit note has no type code and no due date of its own: its terms of payment have one.
    """
    is_credit = document.note_type == "credit"
    root = ubl.document("CreditNote" if is_credit else "DebitNote")
    ubl.cbc(root, "ID", document.note_id)
    ubl.cbc(root, "IssueDate", str(document.issued_on))
    if is_credit:
        ubl.cbc(root, "CreditNoteTypeCode", "381")  # UNTDID 1001
    ubl.cbc(root, "DocumentCurrencyCode", document.currency)
    why = ubl.cac(root, "DiscrepancyResponse")
    if document.bill_id:
        ubl.cbc(why, "ReferenceID", document.bill_id)
    ubl.cbc(why, "ResponseCode", document.reason_code)
    ubl.cbc(why, "Description", document.reason)
    if document.bill_id:
        invoice = ubl.cac(ubl.cac(root, "BillingReference"), "InvoiceDocumentReference")
        ubl.cbc(invoice, "ID", document.bill_id)
        ubl.cbc(invoice, "IssueDate", str(document.bill_issued_on))
    ubl.parties(
        root, issuer=document.issuer, issuer_tax_number=document.issuer_tax_number,
        account_id=document.account_id, customer_name=document.customer_name,
    )  # fmt: skip
    if document.due_on is not None:
        ubl.cbc(ubl.cac(root, "PaymentTerms"), "PaymentDueDate", str(document.due_on))
    if document.tax_rate is not None:
        tax = ubl.cac(root, "TaxTotal")
        ubl.money(tax, "TaxAmount", document.tax, document.currency)
        part = ubl.cac(tax, "TaxSubtotal")
        ubl.money(part, "TaxableAmount", document.net, document.currency)
        ubl.money(part, "TaxAmount", document.tax, document.currency)
        ubl.tax_category(ubl.cac(part, "TaxCategory"), document.tax_rate)
    total = ubl.cac(root, "LegalMonetaryTotal" if is_credit else "RequestedMonetaryTotal")
    for name, amount in (
        ("LineExtensionAmount", document.net), ("TaxExclusiveAmount", document.net),
        ("TaxInclusiveAmount", document.amount), ("PayableAmount", document.amount),
    ):  # fmt: skip
        ubl.money(total, name, amount, document.currency)
    line = ubl.cac(root, "CreditNoteLine" if is_credit else "DebitNoteLine")
    ubl.cbc(line, "ID", "1")
    quantity = "CreditedQuantity" if is_credit else "DebitedQuantity"
    ubl.cbc(line, quantity, "1", unitCode="C62")
    ubl.money(line, "LineExtensionAmount", document.net, document.currency)
    if document.tax_rate is not None:
        ubl.money(ubl.cac(line, "TaxTotal"), "TaxAmount", document.tax, document.currency)
    thing = ubl.cac(line, "Item")
    ubl.cbc(thing, "Name", document.item_name)
    ubl.cbc(ubl.cac(thing, "SellersItemIdentification"), "ID", document.item_code)
    if document.tax_rate is not None:
        ubl.tax_category(ubl.cac(thing, "ClassifiedTaxCategory"), document.tax_rate)
    return ubl.written(root)
