"""A bill says the same on paper, on the screen and to machines, and adds up wherever it is read."""

from __future__ import annotations

import csv
import html
import io
import re
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from lxml import etree
from pypdf import PdfReader
from sqlalchemy import text as sql_text

from operational.billing import document as bills
from operational.billing.document import BillDocument, ItemLine, NumberLines
from operational.billing.movements import BillMovements, Movement
from operational.database import transaction
from operational.permissions import Principal
from operational.problems import ConflictError, ForbiddenError, InvalidRequestError
from operational.templating import page_words
from tollhouse.settings import Settings
from tollhouse.warehouse import read_warehouse

ZONE = "Asia/Shanghai"
CLERK = Principal("clerk", "clerk", "finance", "00")
CBC = "{urn:oasis:names:specification:ubl:schema:xsd:CommonBasicComponents-2}"
CAC = "{urn:oasis:names:specification:ubl:schema:xsd:CommonAggregateComponents-2}"

# The order in which the UBL 2.1 specification lists the elements, of those that a bill may have.
ORDER = {
    "Invoice": [
        "UBLVersionID", "CustomizationID", "ProfileID", "ID", "IssueDate", "DueDate",
        "InvoiceTypeCode", "Note", "TaxPointDate", "DocumentCurrencyCode", "InvoicePeriod",
        "OrderReference", "AccountingSupplierParty", "AccountingCustomerParty", "PaymentMeans",
        "PrepaidPayment", "AllowanceCharge", "TaxTotal", "LegalMonetaryTotal", "InvoiceLine",
    ],
    "InvoicePeriod": ["StartDate", "EndDate"],
    "Party": ["PartyIdentification", "PartyName", "PostalAddress", "PartyTaxScheme"],
    "PartyTaxScheme": ["RegistrationName", "CompanyID", "TaxScheme"],
    "AccountingCustomerParty": ["CustomerAssignedAccountID", "SupplierAssignedAccountID", "Party"],
    "LegalMonetaryTotal": [
        "LineExtensionAmount", "TaxExclusiveAmount", "TaxInclusiveAmount", "AllowanceTotalAmount",
        "ChargeTotalAmount", "PrepaidAmount", "PayableRoundingAmount", "PayableAmount",
    ],
    "InvoiceLine": [
        "ID", "Note", "InvoicedQuantity", "LineExtensionAmount", "InvoicePeriod",
        "AllowanceCharge", "TaxTotal", "Item", "Price",
    ],
    "Item": ["Description", "Name", "SellersItemIdentification", "ClassifiedTaxCategory"],
    "TaxTotal": ["TaxAmount", "RoundingAmount", "TaxSubtotal"],
    "TaxSubtotal": ["TaxableAmount", "TaxAmount", "Percent", "TaxCategory"],
    "TaxCategory": ["ID", "Name", "Percent", "TaxScheme"],
    "ClassifiedTaxCategory": ["ID", "Name", "Percent", "TaxScheme"],
}  # fmt: skip


def movement(kind: str, amount: str, *, is_payment: bool = False, **more: Any) -> Movement:
    day = date(2026, 10, 17)
    return Movement(
        is_payment=is_payment, kind=kind, is_reversal=False, first_date=day, last_date=day,
        count=1, amount=Decimal(amount), **more,
    )  # fmt: skip


MOVEMENTS = BillMovements(
    adjustments=[
        movement(
            "credit_note", "-5.00", note_id="N-1", document_id="2026-09-A1",
            bill_item_code="data", reasons={"zh": "资费错误", "en": "Wrong tariff"},
        ),
        movement("late_fee", "3.75", document_id="2026-09-A1", entry_id=7),
        movement("bonus_grant", "-10.00", entry_id=8, valid_to=date(2027, 1, 31)),
        movement("write_off", "11.25", entry_id=9),
    ],
    payments=[
        movement(
            "payment", "80.00", is_payment=True, payment_id="P-1", channel="bank",
            reference="R-4711",
        ),
        movement("reversal", "-30.00", is_payment=True, payment_id="REV-P-0", channel="card",
                 reverses="P-0"),
    ],
)  # fmt: skip


def taxed(language: str = "en") -> BillDocument:
    """A bill with a discount, tax of two rates, an item of the account, notes and payments."""

    def item(code: str, amount: str, rate: str | None, tax: str | None, **more: Any) -> ItemLine:
        found = ItemLine(
            code=code, name=f"{code} 费", kind=None, quantity=None, unit=None,
            amount=Decimal(amount), tax_rate=None if rate is None else Decimal(rate),
            tax_amount=None if tax is None else Decimal(tax),
        )  # fmt: skip
        return replace(found, **more)

    return BillDocument(
        bill_id="2026-10-A1", cycle_id="2026-10", is_final=False, first_date=date(2026, 10, 1),
        last_date=date(2026, 10, 31), issued_on=date(2026, 10, 31),
        due_on=date(2026, 11, 20), account_id="A1",
        customer_name="王伟", province_code="44", currency="CNY", opening=Decimal("12.00"),
        charges=Decimal("1076.40"), adjustments=Decimal("0.00"), deducted=Decimal("6.40"),
        payments=Decimal("50.00"), closing=Decimal("1038.40"), movements=MOVEMENTS,
        numbers=[
            NumberLines(
                "8618600000001",
                [item("voice", "1100.00", "9.0000", "90.83", quantity=61, unit="second"),
                 item("data", "6.40", "6.0000", "0.36"), item("discount", "-20.00", None, None)],
                Decimal("1086.40"),
            ),
            NumberLines("", [item("credit", "-10.00", None, None)], Decimal("-10.00")),
        ],
        bundles=["A bundle includes a fee"], language=language, issuer="联星电信 & Co",
        issuer_tax_number="91310000MA1K000000",
    )  # fmt: skip


def text_of(pdf: bytes) -> str:
    return "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(pdf)).pages)


def figures(text: str) -> list[str]:
    return re.findall(r"-?[\d,]+\.\d\d\b", text)


def invoice(document: BillDocument) -> Any:
    return etree.fromstring(bills.render_bill(document, "ubl", ZONE))


def misplaced(root: Any, more: dict[str, list[str]] | None = None) -> list[str]:
    """Elements that UBL does not know there, or that stand in another order than its own."""
    known = ORDER | (more or {})
    wrong = []
    for element in root.iter():
        parent = etree.QName(element).localname
        names = [etree.QName(child).localname for child in element]
        order = known.get(parent)
        if order is None:
            continue
        wrong += [f"{parent}/{name}" for name in names if name not in order]
        places = [order.index(name) for name in names if name in order]
        if places != sorted(places):
            wrong.append(f"{parent}: {names}")
    return wrong


def total(root: Any, path: str) -> Decimal:
    return sum((Decimal(element.text) for element in root.findall(path)), Decimal(0))


@pytest.mark.parametrize("language", ["zh", "en"])
def test_paper_and_screen_show_every_figure_of_the_bill(language: str) -> None:
    document = taxed(language)
    wanted = ["12.00", "1,076.40", "91.19", "50.00", "1,038.40", "1,100.00", "90.83", "6.40",
              "0.36", "-20.00", "1,086.40", "-10.00"]  # fmt: skip
    page = bills.render_bill(document, "html", ZONE).decode()
    paper = text_of(bills.render_bill(document, "pdf", ZONE))
    for text in (page, paper):
        assert [figure for figure in wanted if figure not in figures(text)] == []
        assert "8618600000001" in text
        assert "王伟" in text
        assert ("税额" in text) == (language == "zh")
        assert ("Tax" in text) == (language == "en")


@pytest.mark.parametrize("language", ["zh", "en"])
def test_adjustments_and_payments_are_listed_with_what_they_are(language: str) -> None:
    document = taxed(language)
    told = {
        "zh": ("调减", "资费错误", "违约金", "赠送", "有效至 2027-01-31", "坏帐核销", "银行",
               "冲正：P-0"),
        "en": ("Credit note", "Wrong tariff", "Late fee", "Bonus granted", "until 2027-01-31",
               "Write-off", "bank", "Reversal: P-0"),
    }[language]  # fmt: skip
    page = html.unescape(bills.render_bill(document, "html", ZONE).decode())
    paper = text_of(bills.render_bill(document, "pdf", ZONE))
    amounts = ["-5.00", "3.75", "-10.00", "11.25", "80.00", "-30.00"]
    for text in (page, paper):
        flat = re.sub(r"\s+", "", text.replace("\u200b", ""))
        for word in (*told, "N-1", "P-1", "R-4711", "2026-09-A1", "2026-10-17"):
            assert re.sub(r"\s+", "", word) in flat, word
        assert [amount for amount in amounts if amount not in figures(text)] == []
    bare = replace(
        document, movements=BillMovements([], []), payments=Decimal(0),
        closing=Decimal("1088.40"),
    )  # fmt: skip
    for text in (
        bills.render_bill(bare, "html", ZONE).decode(),
        text_of(bills.render_bill(bare, "pdf", ZONE)),
    ):
        assert "one by one" not in text
        assert "明细" not in text


def test_without_tax_there_is_no_tax_column() -> None:
    document = taxed()
    untaxed = replace(
        document,
        issuer_tax_number="",
        numbers=[
            replace(
                line,
                items=[replace(item, tax_rate=None, tax_amount=None) for item in line.items],
            )
            for line in document.numbers
        ],
    )
    assert "Tax" not in text_of(bills.render_bill(untaxed, "pdf", ZONE))
    assert "Tax" not in bills.render_bill(untaxed, "html", ZONE).decode()
    assert invoice(untaxed).find(f"{CAC}TaxTotal") is None


def test_the_same_bill_gives_the_same_bytes() -> None:
    for form in bills.FORMATS:
        first = bills.render_bill(taxed(), form, ZONE)
        assert first == bills.render_bill(taxed(), form, ZONE), form


def test_an_invoice_keeps_to_the_order_of_ubl_and_adds_up() -> None:
    document = taxed()
    root = invoice(document)
    assert misplaced(root) == []
    assert document.bundles == [root.findall(f"{CBC}Note")[-1].text]
    monetary = root.find(f"{CAC}LegalMonetaryTotal")
    amounts = {etree.QName(each).localname: Decimal(each.text) for each in monetary}
    assert (
        total(root, f"{CAC}InvoiceLine/{CBC}LineExtensionAmount")
        == (amounts["LineExtensionAmount"])
    )
    taxes = total(root, f"{CAC}TaxTotal/{CBC}TaxAmount")
    assert taxes == total(root, f"{CAC}InvoiceLine/{CAC}TaxTotal/{CBC}TaxAmount")
    assert taxes == total(root, f"{CAC}TaxTotal/{CAC}TaxSubtotal/{CBC}TaxAmount")
    assert amounts["TaxExclusiveAmount"] + taxes == amounts["TaxInclusiveAmount"]
    assert amounts["PrepaidAmount"] == document.deducted > 0
    assert amounts["PayableAmount"] == document.charges - document.deducted
    assert {each.get("currencyID") for each in root.iter(f"{CBC}TaxAmount")} == {"CNY"}
    subtotals = total(root, f"{CAC}TaxTotal/{CAC}TaxSubtotal/{CBC}TaxableAmount")
    assert subtotals == amounts["TaxExclusiveAmount"]


@pytest.mark.parametrize("language", ["zh", "en"])
def test_every_document_says_until_when_to_pay_and_whom(language: str) -> None:
    document = taxed(language)
    page = html.unescape(bills.render_bill(document, "html", ZONE).decode())
    paper = text_of(bills.render_bill(document, "pdf", ZONE))
    for text in (page, paper):
        for fact in ("2026-10-31", "2026-11-20", "联星电信 & Co", "91310000MA1K000000"):
            assert fact in text, fact
    root = invoice(document)
    assert [root.findtext(f"{CBC}{name}") for name in ("IssueDate", "DueDate")] == [
        "2026-10-31", "2026-11-20",
    ]  # fmt: skip
    party = root.find(f"{CAC}AccountingSupplierParty/{CAC}Party")
    assert party.findtext(f"{CAC}PartyName/{CBC}Name") == "联星电信 & Co"
    assert party.findtext(f"{CAC}PartyTaxScheme/{CBC}CompanyID") == "91310000MA1K000000"
    nameless = invoice(replace(document, issuer_tax_number=""))
    assert nameless.find(f"{CAC}AccountingSupplierParty/{CAC}Party/{CAC}PartyTaxScheme") is None


def test_a_bill_is_due_on_the_day_from_which_the_ledger_counts(small_carrier: Settings) -> None:
    with transaction(small_carrier) as session:
        owed = session.execute(
            sql_text(
                "select bill_id, max(issued_date), max(due_date) from billing.open_item"
                " where document_type = 'bill' group by bill_id order by bill_id limit 5"
            )
        ).all()
        assert owed
        for bill_id, issued, due in owed:
            document = bills.make_bill(
                session, small_carrier, principal=CLERK, bill_id=bill_id, language="zh"
            )
            assert (document.issued_on, document.due_on) == (issued, due)
            assert document.due_on - document.last_date == timedelta(days=20)


def test_a_bill_lists_the_payments_of_its_cycle(small_carrier: Settings) -> None:
    with transaction(small_carrier) as session:
        paid = session.execute(
            sql_text(
                "select bil.bill_id, sum(pay.amount), array_agg(pay.payment_id order by 1)"
                " from billing.bill as bil join billing.billing_cycle as cyc using (cycle_id)"
                " join billing.payment as pay on pay.account_id = bil.account_id"
                " and pay.paid_at >= cyc.starts_at and pay.paid_at < cyc.ends_at"
                " and pay.created_at < bil.published_at group by bil.bill_id order by 1 limit 5"
            )
        ).all()
        assert paid
        for bill_id, amount, payment_ids in paid:
            document = bills.make_bill(session, small_carrier, principal=CLERK, bill_id=bill_id)
            listed = document.movements.payments
            assert document.payments == amount == sum(each.amount for each in listed)
            assert sorted(each.number for each in listed) == sorted(payment_ids)


def test_the_issuer_is_who_the_settings_name(small_carrier: Settings) -> None:
    named = small_carrier.model_copy(
        update={"carrier_name": "联星电信", "carrier_tax_number": "91310000MA1K000000"}
    )
    with transaction(small_carrier) as session:
        asked = {
            "principal": CLERK, "language": "en",
            "bill_id": session.scalar(sql_text("select min(bill_id) from billing.bill")),
        }  # fmt: skip
        document = bills.make_bill(session, named, **asked)
        assert (document.issuer, document.issuer_tax_number) == ("联星电信", "91310000MA1K000000")
        assert bills.make_bill(session, small_carrier, **asked).issuer == "The carrier"


def test_an_invoice_on_trial_is_a_proforma_and_says_so() -> None:
    for is_final, code, notes in ((False, "325", 3), (True, "380", 2)):
        root = invoice(replace(taxed(), is_final=is_final))
        assert misplaced(root) == []
        assert root.findtext(f"{CBC}InvoiceTypeCode") == code
        assert len(root.findall(f"{CBC}Note")) == notes


def test_a_name_with_markup_stays_text() -> None:
    document = replace(taxed(), customer_name='<b>#x & "y" $z$</b>')
    assert b"<b>#x" not in bills.render_bill(document, "html", ZONE)
    assert '<b>#x & "y" $z$</b>' in text_of(bills.render_bill(document, "pdf", ZONE))
    name = invoice(document).find(f"{CAC}AccountingCustomerParty/{CAC}Party/{CAC}PartyName")
    assert name[0].text == '<b>#x & "y" $z$</b>'


def test_a_bill_that_does_not_add_up_is_refused() -> None:
    bills.check(taxed())
    for changed in (
        {"charges": Decimal("1076.41")}, {"closing": Decimal("1038.41")},
        # the balance is right, but nobody knows what it is made of
        {"adjustments": Decimal("1.00"), "closing": Decimal("1039.40")},
        {"payments": Decimal("51.00"), "closing": Decimal("1037.40")},
        {"movements": BillMovements(MOVEMENTS.adjustments[:-1], MOVEMENTS.payments)},
    ):  # fmt: skip
        with pytest.raises(ConflictError, match="does not add up"):
            bills.check(replace(taxed(), **changed))


def test_a_bill_of_a_balance_alone_is_a_statement_and_no_invoice() -> None:
    carried = replace(
        taxed(), charges=Decimal(0), deducted=Decimal(0), payments=Decimal(0), numbers=[],
        closing=Decimal("12.00"), adjustments=Decimal(0), movements=BillMovements([], []),
    )  # fmt: skip
    bills.check(carried)
    for form in ("html", "pdf"):
        content = bills.render_bill(carried, form, ZONE)
        text = text_of(content) if form == "pdf" else content.decode()
        assert figures(text).count("12.00") == 2  # opening and closing
    with pytest.raises(ConflictError, match="2026-10-A1 has no charges"):
        bills.render_bill(carried, "ubl", ZONE)


def test_an_unknown_format_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidRequestError, match="html, pdf, ubl"):
        bills.render_bill(taxed(), "docx", ZONE)


def test_itemised_usage_adds_up_to_the_charges_of_the_bill(small_carrier: Settings) -> None:
    with read_warehouse(small_carrier, wait_s=30) as warehouse:
        bill_id, count, amount = warehouse.rows(
            "select cycle_id || '-' || account_id as bill_id, count(distinct usage_id),"
            " sum(amount) from billing.charge where charge_type = 'usage'"
            " group by 1 order by 3 desc, 1 limit 1"
        )[0]
    asked = {"principal": CLERK, "bill_id": bill_id, "language": "zh"}
    with transaction(small_carrier) as session:
        document = bills.make_bill(session, small_carrier, **asked)
        lines = bills.itemised_usage(session, small_carrier, **asked)
    assert len(lines) == count > 0
    assert sum(line.amount for line in lines) == amount
    content = bills.render_usage(lines, document, "csv", ZONE).decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(content)))
    assert sum(Decimal(row["金额"]) for row in rows) == amount
    number = re.compile(r"-?\d+(\.\d+)?")
    for row, line in zip(rows, lines, strict=True):
        assert all(number.fullmatch(row[name]) for name in ("用量", "套餐抵扣量", "金额"))
        assert (Decimal(row["用量"]), Decimal(row["套餐抵扣量"])) == (line.quantity, line.drawn)
        assert row["单位"] in ("second", "octet", "event")
        assert datetime.fromisoformat(row["开始时间"]) == line.started_at
        assert row["开始时间"].endswith("+08:00")
    paper = text_of(bills.render_usage(lines, document, "pdf", ZONE))
    page = bills.render_usage(lines, document, "html", ZONE).decode()
    for text in (paper, page):
        assert all(text.count(f"{line.started_at:%Y-%m-%d %H:%M:%S}") for line in lines)
    bill = text_of(bills.render_bill(document, "pdf", ZONE))
    assert f"{document.closing:,.2f}" in figures(bill)
    assert misplaced(invoice(document)) == []


def test_names_and_numbers_are_masked_on_documents(small_carrier: Settings) -> None:
    with read_warehouse(small_carrier, wait_s=30) as warehouse:
        bill_id = warehouse.rows("select min(bill_id) from billing.bill")[0][0]
    analyst = Principal("a", "a", "analyst", "00")
    asked = {"bill_id": bill_id, "language": "zh"}
    with transaction(small_carrier) as session:
        whole = bills.make_bill(session, small_carrier, principal=CLERK, **asked)
        masked = bills.make_bill(session, small_carrier, principal=analyst, **asked)
        lines = bills.itemised_usage(session, small_carrier, principal=analyst, **asked)
    page = bills.render_bill(masked, "html", ZONE).decode()
    assert whole.customer_name not in page
    assert [line.number for line in whole.numbers if line.number in page] == []
    assert all("*" in line.number for line in lines)
    operator = Principal("o", "o", "operator", "00")
    with transaction(small_carrier) as session, pytest.raises(ForbiddenError):
        bills.itemised_usage(session, small_carrier, principal=operator, **asked)


def test_a_duration_reads_in_minutes_and_seconds_in_either_language() -> None:
    for seconds, zh, en in (
        (15_190, "253 分钟 10 秒", "253 min 10 s"), (60, "1 分钟", "1 min"), (45, "45 秒", "45 s"),
        (3_600_000, "60,000 分钟", "60,000 min"), (0, "0 分钟", "0 min"),
        (-61, "-1 分钟 1 秒", "-1 min 1 s"),
    ):  # fmt: skip
        for language, text in (("zh", zh), ("en", en)):
            quantity = page_words(language, "Asia/Shanghai")["quantity"]
            assert quantity(Decimal(seconds), "second") == text
