"""A published bill as a document: HTML, PDF, text lines, UBL 2.1; and its usage item by item.

Every figure comes from the published bill. Before anything is written the figures are added up; a
bill that does not add up is refused, not printed.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import typst
from jinja2 import Environment
from lxml import etree
from markupsafe import Markup
from pylopdf_fonts_zh_cn import sans_path
from sqlalchemy.orm import Session

from operational import audit
from operational.accounts.bills import BillDates, bill_dates
from operational.billing.arithmetic import MICRO, money, shown
from operational.billing.explanation import class_names, reading
from operational.billing.service import BillView, find_bill
from operational.i18n import translator
from operational.permissions import Principal
from operational.problems import ConflictError, InvalidRequestError
from operational.templating import environment, page_words
from tollhouse.settings import Settings

FORMATS = {
    "html": "text/html; charset=utf-8",
    "pdf": "application/pdf",
    "ubl": "application/xml",
}
USAGE_FORMATS = {
    "html": "text/html; charset=utf-8",
    "pdf": "application/pdf",
    "csv": "text/csv; charset=utf-8",
}
_TEMPLATES = Path(__file__).parent / "documents"
_UNIT_CODES = {"second": "SEC", "octet": "AD", "event": "C62", "day": "DAY"}  # UN/ECE rec. 20

_UBL = "urn:oasis:names:specification:ubl:schema:xsd:"
_CAC = f"{_UBL}CommonAggregateComponents-2"
_CBC = f"{_UBL}CommonBasicComponents-2"


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
    numbers: list[NumberLines]
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
    started_at: str
    kind: str
    other_party: str
    quantity: str
    drawn: str
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
    )  # fmt: skip
    check(document)
    return document


def _document(
    view: BillView, settings: Settings, *, principal: Principal, language: str, dates: BillDates
) -> BillDocument:
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
        payments=bill.payment_amount, closing=bill.closing_amount, numbers=numbers,
        language=language,
        issuer=settings.carrier_name or translator(language)("bill.issuer"),
        issuer_tax_number=settings.carrier_tax_number,
    )  # fmt: skip


def check(document: BillDocument) -> None:
    """Raise ConflictError unless items, numbers and balance of the bill add up."""
    items = sum((item.amount for line in document.numbers for item in line.items), Decimal(0))
    totals = sum((line.total for line in document.numbers), Decimal(0))
    closing = document.opening + document.charges + document.adjustments - document.payments
    if not items == totals == document.charges or closing != document.closing:
        raise ConflictError(
            "bill_does_not_add_up", bill_id=document.bill_id, items=items,
            charges=document.charges, closing=closing, due=document.closing,
        )  # fmt: skip


def render_bill(document: BillDocument, form: str, timezone: str) -> bytes:
    """The document in one of `FORMATS`."""
    if form == "html":
        return _html("billing/bill_document.html", document.language, timezone, bill=document)
    if form == "pdf":
        return _pdf("bill.typ", _bill_words(document, timezone), document.issued_on)
    if form == "ubl":
        return _ubl(document)
    raise InvalidRequestError("document_format", form=form, formats=sorted(FORMATS))


def _html(template: str, language: str, timezone: str, **values: Any) -> bytes:
    sheet = (_TEMPLATES / "document.css").read_text(encoding="utf-8")
    style = Markup(sheet)  # noqa: S704 - our own file
    words = page_words(language, timezone)
    return _jinja().get_template(template).render(**words, style=style, **values).encode()


@cache
def _jinja() -> Environment:
    return environment()


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
                row += [_percent(item.tax_rate), _tax(item.tax_amount)]
            rows.append([*row, _yuan(item.amount)])
        numbers.append(
            {"number": line.number or translate("bill.of_account"), "rows": rows,
             "total": _yuan(line.total)}
        )  # fmt: skip
    sums = [
        (translate("field.opening"), _yuan(document.opening)),
        (translate("field.charges"), _yuan(document.charges)),
        *(
            (translate(key), _yuan(amount))
            for key, amount in (
                ("bill.tax_in_charges", document.tax if document.has_tax else None),
                ("bill.deducted_in_charges", document.deducted or None),
                ("field.adjustments", document.adjustments or None),
            )
            if amount is not None
        ),
        (translate("field.payments"), _yuan(document.payments)),
        (translate("field.closing"), _yuan(document.closing)),
    ]
    return {
        "language": document.language, "title": translate("bill.title"),
        "issuer": document.issuer, "facts": facts, "sums": sums, "columns": columns,
        "numbers": numbers, "subtotal": translate("field.subtotal"),
        "heading": translate("bill.by_number"), "empty": translate("bill.empty"),
        "notice": "" if document.is_final else translate("bill.preliminary"),
        "currency": translate("bill.currency", currency=document.currency),
        "page": translate("bill.page"),
    }  # fmt: skip


def _pdf(template: str, words: dict[str, Any], issued_on: date) -> bytes:
    """A document typeset with the fonts of a package, the same bytes on every machine."""
    content = typst.compile(
        str(_TEMPLATES / template), font_paths=[str(sans_path().parent)], ignore_system_fonts=True,
        sys_inputs={"words": json.dumps(words, ensure_ascii=False)},
        timestamp=datetime(issued_on.year, issued_on.month, issued_on.day, tzinfo=UTC),
    )  # fmt: skip
    return bytes(content)


def _yuan(amount: Decimal) -> str:
    return f"{amount:,.2f}"


def _percent(rate: Decimal | None) -> str:
    return "" if rate is None else f"{rate.normalize():f}%"


def _tax(amount: Decimal | None) -> str:
    return "" if amount is None else _yuan(amount)


# UBL 2.1 ------------------------------------------------------------------------------------------


def _ubl(document: BillDocument) -> bytes:
    """An invoice of the cycle's charges; what was owed before and paid is told in a note.

    Elements stand in the order of the UBL 2.1 schema. Amounts of lines are without tax where the
    bill tells the tax. ConflictError for a bill without charges: an invoice has a line.
    """
    if not document.numbers:
        raise ConflictError("nothing_invoiced", bill_id=document.bill_id)
    translate = translator(document.language)
    names = {None: f"{_UBL}Invoice-2", "cac": _CAC, "cbc": _CBC}
    root = etree.Element(f"{{{names[None]}}}Invoice", nsmap=names)
    _cbc(root, "UBLVersionID", "2.1")
    _cbc(root, "ID", document.bill_id)
    _cbc(root, "IssueDate", str(document.issued_on))
    _cbc(root, "DueDate", str(document.due_on))
    _cbc(root, "InvoiceTypeCode", "380" if document.is_final else "325")  # UNTDID 1001
    balance = " · ".join(
        f"{translate(key)} {amount}"
        for key, amount in (
            ("field.opening", document.opening), ("field.adjustments", document.adjustments),
            ("field.payments", document.payments), ("field.closing", document.closing),
        )
    )  # fmt: skip
    if not document.is_final:
        _cbc(root, "Note", translate("bill.preliminary"))
    _cbc(root, "Note", balance)
    _cbc(root, "DocumentCurrencyCode", document.currency)
    period = _cac(root, "InvoicePeriod")
    _cbc(period, "StartDate", str(document.first_date))
    _cbc(period, "EndDate", str(document.last_date))
    supplier = _cac(_cac(root, "AccountingSupplierParty"), "Party")
    _cbc(_cac(supplier, "PartyName"), "Name", document.issuer)
    if document.issuer_tax_number:
        scheme = _cac(supplier, "PartyTaxScheme")
        _cbc(scheme, "CompanyID", document.issuer_tax_number)
        _cbc(_cac(scheme, "TaxScheme"), "ID", "VAT")
    customer_party = _cac(root, "AccountingCustomerParty")
    _cbc(customer_party, "SupplierAssignedAccountID", document.account_id)
    customer = _cac(customer_party, "Party")
    _cbc(_cac(customer, "PartyName"), "Name", document.customer_name)
    net = document.charges - document.tax
    if document.has_tax:
        _tax_total(root, document)
    total = _cac(root, "LegalMonetaryTotal")
    deducted = [("PrepaidAmount", document.deducted)] if document.deducted else []
    for name, amount in (
        ("LineExtensionAmount", net), ("TaxExclusiveAmount", net),
        ("TaxInclusiveAmount", document.charges), *deducted,
        ("PayableAmount", document.charges - document.deducted),
    ):  # fmt: skip
        _money(total, name, amount, document.currency)
    items = [(line.number, item) for line in document.numbers for item in line.items]
    for place, (number, item) in enumerate(items, 1):
        _invoice_line(root, document, place, number, item)
    return bytes(etree.tostring(root, xml_declaration=True, encoding="UTF-8", pretty_print=True))


def _invoice_line(
    root: Any, document: BillDocument, place: int, number: str, item: ItemLine
) -> None:
    line = _cac(root, "InvoiceLine")
    _cbc(line, "ID", str(place))
    if number:
        _cbc(line, "Note", number)
    unit = _UNIT_CODES.get(item.unit or "", "C62")
    quantity = 1 if item.quantity is None else item.quantity
    _cbc(line, "InvoicedQuantity", str(quantity), unitCode=unit)
    tax = item.tax_amount or Decimal(0)
    _money(line, "LineExtensionAmount", item.amount - tax, document.currency)
    if item.tax_amount is not None:
        _money(_cac(line, "TaxTotal"), "TaxAmount", item.tax_amount, document.currency)
    thing = _cac(line, "Item")
    _cbc(thing, "Name", item.name)
    _cbc(_cac(thing, "SellersItemIdentification"), "ID", item.code)
    if item.tax_rate is not None:
        category = _cac(thing, "ClassifiedTaxCategory")
        _tax_category(category, item.tax_rate)


def _tax_total(root: Any, document: BillDocument) -> None:
    by_rate: dict[Decimal, tuple[Decimal, Decimal]] = {}
    for line in document.numbers:
        for item in line.items:
            tax = item.tax_amount or Decimal(0)
            rate = item.tax_rate or Decimal(0)
            taxable, taxed = by_rate.get(rate, (Decimal(0), Decimal(0)))
            by_rate[rate] = (taxable + item.amount - tax, taxed + tax)
    total = _cac(root, "TaxTotal")
    _money(total, "TaxAmount", document.tax, document.currency)
    for rate, (taxable, taxed) in sorted(by_rate.items()):
        part = _cac(total, "TaxSubtotal")
        _money(part, "TaxableAmount", taxable, document.currency)
        _money(part, "TaxAmount", taxed, document.currency)
        _tax_category(_cac(part, "TaxCategory"), rate)


def _tax_category(parent: Any, rate: Decimal) -> None:
    _cbc(parent, "ID", "S" if rate else "Z")
    _cbc(parent, "Percent", f"{rate.normalize():f}")
    _cbc(_cac(parent, "TaxScheme"), "ID", "VAT")


def _cac(parent: Any, name: str) -> Any:
    return etree.SubElement(parent, f"{{{_CAC}}}{name}")


def _cbc(parent: Any, name: str, text: str, **attributes: str) -> None:
    etree.SubElement(parent, f"{{{_CBC}}}{name}", **attributes).text = text


def _money(parent: Any, name: str, amount: Decimal, currency: str) -> None:
    _cbc(parent, name, f"{amount:.2f}", currencyID=currency)


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
            started_at=at.replace(tzinfo=UTC).astimezone(zone).strftime("%Y-%m-%d %H:%M:%S"),
            kind=names[charge_class][language],
            other_party=principal.masked_msisdn(others.get(usage_id) or ""),
            quantity=shown(int(quantity * MICRO), unit), drawn=shown(int(drawn * MICRO), unit),
            amount=amount, usage_id=str(usage_id),
        )
        for usage_id, line, at, charge_class, unit, quantity, drawn, amount in rows
    ]  # fmt: skip


_USAGE_COLUMNS = (
    "explain.served_number", "explain.started_at", "explain.charge_class", "explain.other_party",
    "explain.quantity", "explain.covered_quantity", "explain.amount",
)  # fmt: skip


def render_usage(lines: Sequence[UsageLine], bill: BillDocument, form: str, timezone: str) -> bytes:
    """Itemised usage in one of `USAGE_FORMATS`."""
    translate = translator(bill.language)
    columns = [translate(key) for key in _USAGE_COLUMNS]
    rows = [
        [line.number, line.started_at, line.kind, line.other_party, line.quantity, line.drawn,
         _exact(line.amount)]
        for line in lines
    ]  # fmt: skip
    total = _exact(sum((line.amount for line in lines), Decimal(0)))
    if form == "csv":
        sink = io.StringIO()
        writer = csv.writer(sink)
        writer.writerow([*columns, translate("explain.usage")])
        writer.writerows([*row, line.usage_id] for row, line in zip(rows, lines, strict=True))
        return b"\xef\xbb\xbf" + sink.getvalue().encode()  # spreadsheets know UTF-8 by the mark
    if form == "html":
        return _html(
            "billing/usage_document.html", bill.language, timezone, bill=bill, columns=columns,
            rows=rows, total=total,
        )  # fmt: skip
    if form == "pdf":
        words = _bill_words(bill, timezone)
        words |= {
            "title": translate("bill.usage_title"), "columns": columns, "rows": rows,
            "total": total, "subtotal": translate("explain.line_charges"),
        }  # fmt: skip
        return _pdf("usage.typ", words, bill.issued_on)
    raise InvalidRequestError("document_format", form=form, formats=sorted(USAGE_FORMATS))


def _exact(amount: Decimal) -> str:
    return money(Fraction(amount))
