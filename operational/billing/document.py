"""A published bill as a document: HTML, PDF, text lines, UBL 2.1; and its usage item by item.

Every figure comes from the published bill. Before anything is written the figures are added up; a
bill that does not add up is refused, not printed.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from operational import audit
from operational.accounts.bills import BillDates, bill_dates
from operational.billing import ubl
from operational.billing.arithmetic import MICRO, money, shown
from operational.billing.explanation import class_names, reading
from operational.billing.movements import BillMovements, Movement, bill_movements
from operational.billing.printing import FORMATS, as_html, as_pdf, percent, tax_text, yuan
from operational.billing.service import BillView, BundleOfBill, find_bill
from operational.i18n import Translate, translator
from operational.permissions import Principal
from operational.problems import ConflictError, InvalidRequestError
from operational.templating import page_words
from tollhouse.settings import Settings

USAGE_FORMATS = {
    "html": "text/html; charset=utf-8",
    "pdf": "application/pdf",
    "csv": "text/csv; charset=utf-8",
}
_UNIT_CODES = {"second": "SEC", "octet": "AD", "event": "C62", "day": "DAY"}  # UN/ECE rec. 20


@dataclass(frozen=True)
class ItemLine:
    """One item of the bill; tax where the bill says it."""

    code: str
    name: str
    kind: str | None
    quantity: Decimal | int | None
    unit: str | None
    amount: Decimal
    tax_rate: Decimal | None
    tax_amount: Decimal | None


@dataclass(frozen=True)
class NumberLines:
    """The items of one number, or of the account itself."""

    number: str
    items: list[ItemLine]
    total: Decimal


@dataclass(frozen=True)
class BillDocument:
    """A bill as it is printed, in one language, for one reader."""

    bill_id: str
    cycle_id: str
    is_final: bool
    first_date: date
    last_date: date
    issued_on: date
    due_on: date
    account_id: str
    customer_name: str
    province_code: str
    currency: str
    opening: Decimal
    charges: Decimal
    adjustments: Decimal
    deducted: Decimal  # of the charges, from the prepaid balance
    payments: Decimal
    closing: Decimal
    movements: BillMovements  # what adjustments and payments are made of
    numbers: list[NumberLines]
    bundles: list[str]  # what each bundle includes, in a sentence
    language: str
    issuer: str
    issuer_tax_number: str  # empty where the settings give none

    @property
    def has_tax(self) -> bool:
        """Whether some item says what tax is in it."""
        return any(item.tax_amount is not None for line in self.numbers for item in line.items)

    @property
    def tax(self) -> Decimal:
        """The tax within the charges."""
        return sum(
            (item.tax_amount or Decimal(0) for line in self.numbers for item in line.items),
            Decimal(0),
        )


@dataclass(frozen=True)
class UsageLine:
    """One usage of the bill, as the itemised list shows it."""

    number: str
    started_at: datetime  # in the carrier's time
    kind: str
    other_party: str
    quantity: Decimal
    drawn: Decimal  # of the quantity, from allowances
    unit: str  # second, octet or event
    amount: Decimal
    usage_id: str


def make_bill(
    session: Session, settings: Settings, *, principal: Principal, bill_id: str,
    language: str | None = None,
) -> BillDocument:  # fmt: skip
    """The document of a published bill, in the language its account asked for or the one given.

    Raises:
        NotFoundError: there is no such bill for this reader.
        ConflictError: the figures of the bill do not add up.
    """
    view = find_bill(session, principal=principal, bill_id=bill_id)
    document = _document(
        view, settings, principal=principal, language=language or view.account.bill_language,
        dates=bill_dates(session, cycle_id=view.bill.cycle_id, timezone=settings.timezone),
        movements=bill_movements(session, bill_id=bill_id, timezone=settings.timezone),
    )  # fmt: skip
    check(document)
    return document


def _document(
    view: BillView, settings: Settings, *, principal: Principal, language: str, dates: BillDates,
    movements: BillMovements,
) -> BillDocument:  # fmt: skip
    bill, zone = view.bill, ZoneInfo(settings.timezone)
    numbers = []
    for subscription, rows, total in view.lines:
        items = [
            ItemLine(
                code=row.bill_item_code, name=getattr(row, f"name_{language}"),
                kind=getattr(row, "item_kind", None), quantity=row.quantity, unit=row.unit,
                amount=row.amount, tax_rate=getattr(row, "tax_rate_percent", None),
                tax_amount=getattr(row, "tax_amount", None),
            )
            for row in rows
        ]  # fmt: skip
        number = "" if subscription is None else principal.masked_msisdn(subscription.msisdn)
        numbers.append(NumberLines(number, items, total))
    return BillDocument(
        bill_id=bill.bill_id, cycle_id=bill.cycle_id, is_final=bill.cycle.state == "final",
        first_date=bill.cycle.starts_at.astimezone(zone).date(),
        last_date=(bill.cycle.ends_at.astimezone(zone) - timedelta(seconds=1)).date(),
        issued_on=dates.issued_date, due_on=dates.due_date, account_id=bill.account_id,
        customer_name=principal.masked_name(view.customer.name), province_code=bill.province_code,
        currency=bill.currency_code, opening=bill.opening_amount, charges=bill.charge_amount,
        adjustments=bill.adjustment_amount, deducted=view.deducted_amount,
        payments=bill.payment_amount, closing=bill.closing_amount, movements=movements,
        numbers=numbers,
        bundles=[bundle_note(one, principal, language) for one in view.bundles],
        language=language,
        issuer=settings.carrier_name or translator(language)("bill.issuer"),
        issuer_tax_number=settings.carrier_tax_number,
    )  # fmt: skip


def bundle_note(held: BundleOfBill, principal: Principal, language: str) -> str:
    """Whose monthly fees a bundle includes, in one sentence."""
    names = [str(getattr(one, f"name_{language}")) for one in held.included]
    return translator(language)(
        "bill.bundle" if names else "bill.bundle_alone",
        bundle=getattr(held.bundle, f"name_{language}"),
        number=principal.masked_msisdn(held.subscription.msisdn),
        names=("、" if language == "zh" else ", ").join(names),
    )


def check(document: BillDocument) -> None:
    """Raise ConflictError unless every figure of the bill is the sum of its parts."""
    closing = document.opening + document.charges + document.adjustments - document.payments
    for figure, amount, parts in (
        ("charges", document.charges,
         [item.amount for line in document.numbers for item in line.items]),
        ("charges", document.charges, [line.total for line in document.numbers]),
        ("adjustments", document.adjustments,
         [each.amount for each in document.movements.adjustments]),
        ("payments", document.payments, [each.amount for each in document.movements.payments]),
        ("closing", document.closing, [closing]),
    ):  # fmt: skip
        if amount != (total := sum(parts, Decimal(0))):
            raise ConflictError(
                "bill_does_not_add_up", bill_id=document.bill_id, figure=figure, amount=amount,
                parts=total,
            )  # fmt: skip


def render_bill(document: BillDocument, form: str, timezone: str) -> bytes:
    """The document in one of `FORMATS`."""
    if form == "html":
        listed = _movement_words(document, translator(document.language))
        return as_html(
            "billing/bill_document.html", document.language, timezone, bill=document,
            listed=listed, movement_columns=MOVEMENT_COLUMNS,
        )  # fmt: skip
    if form == "pdf":
        return as_pdf("bill.typ", _bill_words(document, timezone), document.issued_on)
    if form == "ubl":
        return _ubl(document)
    raise InvalidRequestError("document_format", form=form, formats=sorted(FORMATS))


# PDF ----------------------------------------------------------------------------------------------


def _bill_words(document: BillDocument, timezone: str) -> dict[str, Any]:
    """What the template prints: all of it text, so that no figure is reckoned in it."""
    words = page_words(document.language, timezone)
    translate = words["t"]
    facts = [
        (translate("field.customer"), document.customer_name),
        (translate("field.account"), document.account_id),
        (translate("field.province"), words["province"](document.province_code)),
        (translate("bill.period"), f"{document.first_date} – {document.last_date}"),
        (translate("bill.number"), document.bill_id),
        (translate("bill.issued_on"), str(document.issued_on)),
        (translate("bill.due_on"), str(document.due_on)),
    ]
    if document.issuer_tax_number:
        facts.append((translate("bill.issuer_tax_number"), document.issuer_tax_number))
    columns = [translate("bill.item"), translate("field.quantity")]
    if document.has_tax:
        columns += [translate("bill.tax_rate"), translate("bill.tax_in_it")]
    columns.append(translate("field.amount"))
    numbers = []
    for line in document.numbers:
        rows = []
        for item in line.items:
            row = [item.name, words["quantity"](item.quantity, item.unit)]
            if document.has_tax:
                row += [percent(item.tax_rate), tax_text(item.tax_amount)]
            rows.append([*row, yuan(item.amount)])
        numbers.append(
            {"number": line.number or translate("bill.of_account"), "rows": rows,
             "total": yuan(line.total)}
        )  # fmt: skip
    sums = [
        (translate("field.opening"), yuan(document.opening)),
        (translate("field.charges"), yuan(document.charges)),
        *(
            (translate(key), yuan(amount))
            for key, amount in (
                ("bill.tax_in_charges", document.tax if document.has_tax else None),
                ("bill.deducted_in_charges", document.deducted or None),
                (
                    "field.adjustments",
                    document.adjustments if document.movements.adjustments else None,
                ),
            )
            if amount is not None
        ),
        (translate("field.payments"), yuan(document.payments)),
        (translate("field.closing"), yuan(document.closing)),
    ]
    return {
        "language": document.language, "title": translate("bill.title"),
        "issuer": document.issuer, "facts": facts, "sums": sums, "columns": columns,
        "numbers": numbers, "subtotal": translate("field.subtotal"),
        "heading": translate("bill.by_number"), "empty": translate("bill.empty"),
        "movements": _movement_words(document, translate),
        "movement_columns": [translate(key) for key in MOVEMENT_COLUMNS],
        "notice": "" if document.is_final else translate("bill.preliminary"),
        "bundles": document.bundles,
        "currency": translate("bill.currency", currency=document.currency),
        "page": translate("bill.page"),
    }  # fmt: skip


MOVEMENT_COLUMNS = (
    "bill.movement_date", "bill.movement_kind", "bill.movement_details", "bill.movement_number",
    "field.amount",
)  # fmt: skip


def _movement_words(document: BillDocument, translate: Translate) -> list[dict[str, Any]]:
    """The lists of adjustments and of payments; one that is empty is left out."""
    return [
        {
            "heading": translate(heading), "total": yuan(total),
            "rows": [_movement_row(each, translate, document.language) for each in movements],
        }
        for heading, movements, total in (
            ("bill.adjustments_listed", document.movements.adjustments, document.adjustments),
            ("bill.payments_listed", document.movements.payments, document.payments),
        )
        if movements
    ]  # fmt: skip


def _movement_row(each: Movement, translate: Translate, language: str) -> list[str]:
    return [
        str(each.last_date), each.name(translate), each.details(translate, language),
        each.number, yuan(each.amount),
    ]  # fmt: skip


# UBL 2.1 ------------------------------------------------------------------------------------------


def _ubl(document: BillDocument) -> bytes:
    """An invoice of the cycle's charges; notes tell what was owed before and paid, and of bundles.

    Elements stand in the order of the UBL 2.1 schema. Amounts of lines are without tax where the
    bill tells the tax. ConflictError for a bill without charges: an invoice has a line.
    """
    if not document.numbers:
        raise ConflictError("nothing_invoiced", bill_id=document.bill_id)
    translate = translator(document.language)
    root = ubl.document("Invoice")
    ubl.cbc(root, "ID", document.bill_id)
    ubl.cbc(root, "IssueDate", str(document.issued_on))
    ubl.cbc(root, "DueDate", str(document.due_on))
    ubl.cbc(root, "InvoiceTypeCode", "380" if document.is_final else "325")  # UNTDID 1001
    balance = " · ".join(
        f"{translate(key)} {amount}"
        for key, amount in (
            ("field.opening", document.opening), ("field.adjustments", document.adjustments),
            ("field.payments", document.payments), ("field.closing", document.closing),
        )
    )  # fmt: skip
    if not document.is_final:
        ubl.cbc(root, "Note", translate("bill.preliminary"))
    ubl.cbc(root, "Note", balance)
    for bundle in document.bundles:
        ubl.cbc(root, "Note", bundle)
    ubl.cbc(root, "DocumentCurrencyCode", document.currency)
    period = ubl.cac(root, "InvoicePeriod")
    ubl.cbc(period, "StartDate", str(document.first_date))
    ubl.cbc(period, "EndDate", str(document.last_date))
    ubl.parties(
        root, issuer=document.issuer, issuer_tax_number=document.issuer_tax_number,
        account_id=document.account_id, customer_name=document.customer_name,
    )  # fmt: skip
    net = document.charges - document.tax
    if document.has_tax:
        _tax_total(root, document)
    total = ubl.cac(root, "LegalMonetaryTotal")
    deducted = [("PrepaidAmount", document.deducted)] if document.deducted else []
    for name, amount in (
        ("LineExtensionAmount", net), ("TaxExclusiveAmount", net),
        ("TaxInclusiveAmount", document.charges), *deducted,
        ("PayableAmount", document.charges - document.deducted),
    ):  # fmt: skip
        ubl.money(total, name, amount, document.currency)
    items = [(line.number, item) for line in document.numbers for item in line.items]
    for place, (number, item) in enumerate(items, 1):
        _invoice_line(root, document, place, number, item)
    return ubl.written(root)


def _invoice_line(
    root: Any, document: BillDocument, place: int, number: str, item: ItemLine
) -> None:
    line = ubl.cac(root, "InvoiceLine")
    ubl.cbc(line, "ID", str(place))
    if number:
        ubl.cbc(line, "Note", number)
    unit = _UNIT_CODES.get(item.unit or "", "C62")
    quantity = 1 if item.quantity is None else item.quantity
    ubl.cbc(line, "InvoicedQuantity", str(quantity), unitCode=unit)
    tax = item.tax_amount or Decimal(0)
    ubl.money(line, "LineExtensionAmount", item.amount - tax, document.currency)
    if item.tax_amount is not None:
        ubl.money(ubl.cac(line, "TaxTotal"), "TaxAmount", item.tax_amount, document.currency)
    thing = ubl.cac(line, "Item")
    ubl.cbc(thing, "Name", item.name)
    ubl.cbc(ubl.cac(thing, "SellersItemIdentification"), "ID", item.code)
    if item.tax_rate is not None:
        category = ubl.cac(thing, "ClassifiedTaxCategory")
        ubl.tax_category(category, item.tax_rate)


def _tax_total(root: Any, document: BillDocument) -> None:
    by_rate: dict[Decimal, tuple[Decimal, Decimal]] = {}
    for line in document.numbers:
        for item in line.items:
            tax = item.tax_amount or Decimal(0)
            rate = item.tax_rate or Decimal(0)
            taxable, taxed = by_rate.get(rate, (Decimal(0), Decimal(0)))
            by_rate[rate] = (taxable + item.amount - tax, taxed + tax)
    total = ubl.cac(root, "TaxTotal")
    ubl.money(total, "TaxAmount", document.tax, document.currency)
    for rate, (taxable, taxed) in sorted(by_rate.items()):
        part = ubl.cac(total, "TaxSubtotal")
        ubl.money(part, "TaxableAmount", taxable, document.currency)
        ubl.money(part, "TaxAmount", taxed, document.currency)
        ubl.tax_category(ubl.cac(part, "TaxCategory"), rate)


# Itemised usage -----------------------------------------------------------------------------------

_ITEMISED = """
select
    charge.usage_id,
    charge.subscription_id,
    charge.charged_at,
    charge.charge_class,
    charge.unit,
    sum(charge.billable_quantity + charge.drawn_quantity) as quantity,
    sum(charge.drawn_quantity) as drawn,
    sum(charge.amount) as amount
from billing.charge as charge
where charge.cycle_id = ? and charge.account_id = ? and charge.charge_type = 'usage'
group by
    charge.usage_id, charge.subscription_id, charge.charged_at, charge.charge_class, charge.unit
order by charge.subscription_id, charge.charged_at, charge.usage_id
"""

_OTHER_PARTIES = """
select usage.usage_id, usage.other_party
from mediation.usage as usage
where usage._file_id in (
    select charge._file_id
    from billing.charge as charge
    where charge.cycle_id = ? and charge.account_id = ? and charge.charge_type = 'usage'
) and usage.usage_id in (
    select charge.usage_id
    from billing.charge as charge
    where charge.cycle_id = ? and charge.account_id = ? and charge.charge_type = 'usage'
)
"""


def itemised_usage(
    session: Session, settings: Settings, *, principal: Principal, bill_id: str, language: str
) -> list[UsageLine]:
    """Every usage of a bill, and a note of who asked for it.

    Raises:
        NotFoundError: there is no such bill for this reader.
        ConflictError: the warehouse is being written and nothing was published yet.
    """
    principal.require("charge.explain")
    view = find_bill(session, principal=principal, bill_id=bill_id)
    numbers = {
        subscription.subscription_id: principal.masked_msisdn(subscription.msisdn)
        for subscription, _, _ in view.lines
        if subscription is not None
    }
    key = [view.bill.cycle_id, view.bill.account_id]
    with reading(settings) as (warehouse, is_live):
        rows = warehouse.rows(_ITEMISED, key)
        names = class_names(warehouse)
        others = dict(warehouse.rows(_OTHER_PARTIES, [*key, *key])) if is_live else {}
    audit.record(
        session, username=principal.username, action="itemise", entity_type="bill",
        entity_id=bill_id, province_code=view.bill.province_code,
    )  # fmt: skip
    zone = ZoneInfo(settings.timezone)
    return [
        UsageLine(
            number=numbers.get(line, line),
            started_at=at.replace(tzinfo=UTC).astimezone(zone),
            kind=names[charge_class][language],
            other_party=principal.masked_msisdn(others.get(usage_id) or ""),
            quantity=quantity, drawn=drawn, unit=unit, amount=amount, usage_id=str(usage_id),
        )
        for usage_id, line, at, charge_class, unit, quantity, drawn, amount in rows
    ]  # fmt: skip


_USAGE_COLUMNS = (
    "explain.served_number", "explain.started_at", "explain.charge_class", "explain.other_party",
    "explain.quantity", "explain.covered_quantity", "explain.amount",
)  # fmt: skip


def render_usage(lines: Sequence[UsageLine], bill: BillDocument, form: str, timezone: str) -> bytes:
    """Itemised usage in one of `USAGE_FORMATS`."""
    if form == "csv":
        return _usage_csv(lines, bill.language)
    translate = translator(bill.language)
    columns = [translate(key) for key in _USAGE_COLUMNS]
    rows = [
        [line.number, f"{line.started_at:%Y-%m-%d %H:%M:%S}", line.kind, line.other_party,
         shown(int(line.quantity * MICRO), line.unit), shown(int(line.drawn * MICRO), line.unit),
         _exact(line.amount)]
        for line in lines
    ]  # fmt: skip
    total = _exact(sum((line.amount for line in lines), Decimal(0)))
    if form == "html":
        return as_html(
            "billing/usage_document.html", bill.language, timezone, bill=bill, columns=columns,
            rows=rows, total=total,
        )  # fmt: skip
    if form == "pdf":
        words = _bill_words(bill, timezone)
        words |= {
            "title": translate("bill.usage_title"), "columns": columns, "rows": rows,
            "total": total, "subtotal": translate("explain.line_charges"),
        }  # fmt: skip
        return as_pdf("usage.typ", words, bill.issued_on)
    raise InvalidRequestError("document_format", form=form, formats=sorted(USAGE_FORMATS))


def _exact(amount: Decimal) -> str:
    return money(Fraction(amount))


_CSV_COLUMNS = (
    "explain.served_number", "explain.started_at", "explain.charge_class", "explain.other_party",
    "explain.quantity", "explain.covered_quantity", "bill.unit", "explain.amount",
    "explain.usage",
)  # fmt: skip


def _usage_csv(lines: Sequence[UsageLine], language: str) -> bytes:
    """For programs: numbers without their unit, moments with their offset from UTC."""
    translate = translator(language)
    sink = io.StringIO()
    writer = csv.writer(sink)
    writer.writerow([translate(key) for key in _CSV_COLUMNS])
    writer.writerows(
        [line.number, line.started_at.isoformat(timespec="seconds"), line.kind, line.other_party,
         _number(line.quantity), _number(line.drawn), line.unit, _exact(line.amount),
         line.usage_id]
        for line in lines
    )  # fmt: skip
    return b"\xef\xbb\xbf" + sink.getvalue().encode()  # spreadsheets know UTF-8 by the mark


def _number(quantity: Decimal) -> str:
    """Digits and a point, nothing else."""
    text = f"{quantity:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
