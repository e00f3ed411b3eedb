"""A bill's adjustments and payments are told one by one; notes are explained, and documents."""

from __future__ import annotations

import html
import io
import re
from dataclasses import replace
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from lxml import etree
from pypdf import PdfReader
from starlette.testclient import TestClient
from typer.testing import CliRunner

from operational.accounts import collection, notes, service
from operational.app import create_app
from operational.billing import note_document
from operational.billing.document import check, make_bill
from operational.billing.explanation import explain
from operational.billing.note_document import NoteDocument
from operational.billing.sections import Explanation
from operational.billing.service import advance_cycle, ensure_cycle, publish_bills
from operational.billing.wording import Wording
from operational.database import transaction
from operational.permissions import Principal
from operational.problems import ConflictError, ForbiddenError, InvalidRequestError, NotFoundError
from operational.security import SESSION_COOKIE
from tests.billing.test_bill_documents import CAC, CBC, misplaced
from tests.operational.accounts_books import (
    ACCOUNTS,
    AGENT,
    FINANCE,
    ITEMS,
    MOVEMENTS,
    SECOND,
    clear,
    connect,
    issue,
    pay,
)  # fmt: skip
from tollhouse.cli import app
from tollhouse.settings import Settings

ONE, TWO, THREE, _ = ACCOUNTS
ZONE = "Asia/Shanghai"
NOV = date(2026, 11, 5)
BILL = f"2026-10-{ONE}"
_keys = count(1)


def note(
    books: Settings, note_type: str, amount: str, *, code: str = "voice", day: date = NOV,
    bill_id: str | None = BILL, note_id: str | None = None, account_id: str = ONE,
    decide: bool | None = True,
) -> str:  # fmt: skip
    """A note, approved (or rejected, or left open); returns its id."""
    note_id = note_id or f"N-{next(_keys)}"
    notes.request_note(
        books, principal=FINANCE, note_id=note_id, note_type=note_type, account_id=account_id,
        bill_id=bill_id, bill_item_code=code, amount=Decimal(amount), explanation="he is right",
        reason_code="wrong_tariff" if note_type == "credit" else "missed_charge",
    )  # fmt: skip
    if decide is not None:
        notes.decide_note(
            books, principal=SECOND, note_id=note_id, approve=decide, reason="seen", today=day
        )
    return note_id


@pytest.fixture
def billed(books: Settings) -> Settings:
    """Books with a bill of October: 76.00 of rent with tax 6.28, 10.00 of voice with 0.83."""
    issue(
        books, "2026-10", {ONE: {"rent": Decimal("76.00"), "voice": Decimal("10.00")}},
        taxes={"rent": Decimal("6.28"), "voice": Decimal("0.83")},
    )  # fmt: skip
    return books


# What a bill's figures are made of ----------------------------------------------------------------

actions = st.lists(
    st.one_of(
        st.tuples(st.just("pay"), st.integers(1, 9_000)),
        st.tuples(st.just("reverse"), st.just(0)),
        st.tuples(st.just("refund"), st.integers(1, 500)),
        st.tuples(st.just("credit"), st.integers(1, 3_000)),
        st.tuples(st.just("debit"), st.integers(1, 3_000)),
        st.tuples(st.just("bonus"), st.integers(1, 3_000)),
        st.tuples(st.just("expire"), st.just(0)),
        st.tuples(st.just("fees"), st.just(0)),
    ),
    max_size=8,
)  # fmt: skip


@settings(
    max_examples=8, phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(drawn=actions)
def test_the_lines_shown_come_to_the_figures_of_the_bill(
    books: Settings, drawn: list[tuple[str, int]]
) -> None:
    clear(books)
    issue(books, "2026-10", {ONE: {"rent": Decimal("76.00"), "voice": Decimal("30.00")}})
    day, wanted = date(2026, 12, 1), []
    for what, number in drawn:
        day += timedelta(days=1)
        wanted += act(books, what, Decimal(number).scaleb(-2), day)
    published = publish_december(books)
    with transaction(books) as session:
        document = make_bill(session, books, principal=FINANCE, bill_id=published)
    check(document)
    shown = document.movements
    assert document.adjustments == sum(each.amount for each in shown.adjustments)
    assert document.payments == sum(each.amount for each in shown.payments)
    assert sorted((each.name(str), each.amount) for each in shown.payments) == sorted(
        (f"payment_kind.{kind}", amount) for kind, amount in wanted if kind in PAYMENT_KINDS
    )
    assert sorted(
        (each.kind, each.amount) for each in shown.adjustments if each.kind != "late_fee"
    ) == sorted(
        (kind, amount) for kind, amount in wanted if kind not in (*PAYMENT_KINDS, "late_fee")
    )
    fees = [each for each in shown.adjustments if each.kind == "late_fee"]
    assert len({each.document_id for each in fees}) == len(fees)  # a line for each document
    charged = [amount for kind, amount in wanted if kind == "late_fee"]
    assert sum(each.amount for each in fees) == sum(charged)


PAYMENT_KINDS = ("payment", "refund", "reversal")


def act(books: Settings, what: str, amount: Decimal, day: date) -> list[tuple[str, Decimal]]:
    """Do it; what of it a bill has to tell."""
    moved: list[tuple[str, Decimal]] = []
    key = f"{what}-{next(_keys)}"
    try:
        match what:
            case "pay":
                pay(books, ONE, str(amount), day)
                moved = [("payment", amount)]
            case "reverse":
                moved = reverse_last(books, day)
            case "refund":
                service.refund(
                    books, principal=FINANCE, account_id=ONE, amount=amount, channel="counter",
                    reason_code="customer_asks", idempotency_key=key, today=day,
                )  # fmt: skip
                moved = [("refund", -amount)]
            case "credit" | "debit":
                note(books, what, str(amount), day=day)
                moved = [(f"{what}_note", -amount if what == "credit" else amount)]
            case "bonus":
                service.grant_bonus(
                    books, principal=FINANCE, account_id=ONE, amount=amount, today=day,
                    reason_code="campaign", idempotency_key=key, valid_to=day,
                )  # fmt: skip
                moved = [("bonus_grant", -amount)]
            case "expire":
                moved = expire(books, day)
            case _:
                run = collection.run_late_fees(books, through=day, today=day, by_user="test")
                moved = [("late_fee", run.amount)] if run.amount else []
    except ConflictError:
        pass  # nothing to give back, or to credit
    return moved


def reverse_last(books: Settings, day: date) -> list[tuple[str, Decimal]]:
    with connect(books) as connection:
        found = connection.execute(
            "select pay.payment_id, pay.amount from billing.payment as pay"
            " where pay.payment_type = 'payment' and not exists (select 1 from billing.payment"
            " as rev where rev.reverses_payment_id = pay.payment_id) order by 1 desc limit 1"
        ).fetchone()
    if found is None:
        return []
    service.reverse_payment(
        books, principal=FINANCE, payment_id=found[0], reason_code="cheque_bounced", today=day
    )
    return [("reversal", -found[1])]


def expire(books: Settings, day: date) -> list[tuple[str, Decimal]]:
    with connect(books) as connection:
        left = connection.execute(
            "select balance_amount from billing.fund where kind = 'bonus' and valid_to < %s"
            " and balance_amount > 0",
            (day,),
        ).fetchall()
    service.post(books, by_user="test", today=day)
    return [("bonus_expiry", amount) for (amount,) in left]


def publish_december(books: Settings) -> str:
    """A bill that counts all there is; which days count to which cycle is the models' affair."""
    ensure_cycle(books, "2026-12", ZONE)
    for state in ("cut_off", "trial"):
        advance_cycle(books, "2026-12", state, "test", "test")
    bill_id = f"2026-12-{ONE}"
    with connect(books) as connection:
        payments = connection.execute("select payment_id, amount from billing.payment").fetchall()
        entries = connection.execute("select entry_id, amount from billing.adjustment").fetchall()
    paid, adjusted = (sum((row[1] for row in rows), Decimal(0)) for rows in (payments, entries))
    none = Decimal("0.00")
    head = {
        "bill_id": bill_id, "account_id": ONE, "cycle_id": "2026-12", "province_code": "44",
        "opening_amount": none, "item_amount": none, "charge_amount": none,
        "discount_amount": none, "shared_amount": none, "tax_amount": none,
        "adjustment_amount": none + adjusted, "payment_amount": none + paid,
        "closing_amount": none + adjusted - paid, "currency_code": "CNY", "content_hash": "h",
    }  # fmt: skip
    movements = [
        {"bill_movement_key": f"{kind}{key}", "bill_id": bill_id, "amount": amount,
         "payment_id": key if kind == "p" else None, "entry_id": key if kind == "e" else None}
        for kind, rows in (("p", payments), ("e", entries))
        for key, amount in rows
    ]  # fmt: skip
    publish_bills(
        books, pa.Table.from_pylist([head]), ITEMS.empty_table(),
        pa.Table.from_pylist(movements, MOVEMENTS),
    )  # fmt: skip
    return bill_id


# A note, explained --------------------------------------------------------------------------------


def told(found: Explanation, language: str = "en") -> dict[str, Any]:
    wording = Wording(language=language, timezone=ZONE, principal=FINANCE)
    return {section["section"]: section for section in wording.document(found)["sections"]}


def facts(section: dict[str, Any]) -> dict[str, str]:
    return {fact["fact"]: fact["value"] for fact in section["facts"]}


def explained(books: Settings, note_id: str, principal: Principal = FINANCE) -> Explanation:
    return explain(books, principal=principal, identifier=note_id)


def test_a_note_is_explained_from_the_item_to_the_ledger(billed: Settings) -> None:
    payment = pay(billed, ONE, "86.00", NOV)
    note_id = note(billed, "credit", "4.00", day=NOV + timedelta(days=1))
    found = explained(billed, note_id)
    assert found.is_agreed
    assert found.amount == Decimal("4.00")
    sections = told(found)
    head = facts(sections["note"])
    assert head | {
        "note_type": "credit", "state": "posted", "on_bill": BILL, "bill_item_code": "voice",
        "reason": "wrong_tariff", "note_text": "he is right", "requested_by": "finance",
        "decided_by": "finance2", "decision_reason": "seen", "posted_on": "2026-11-06",
    } == head  # fmt: skip
    (item,) = sections["noted_items"]["rows"]
    assert (item["amount"], item["tax"]) == ("10.00", "0.83")
    (proportion, net) = sections["note_tax"]["arithmetic"]
    assert proportion["formula"].startswith("0.83 × 4.00/10.00")
    assert (proportion["result"], net["result"]) == ("0.33", "3.67")
    (undone,) = sections["note_undone"]["rows"]
    assert (undone["payment"], undone["amount"]) == (payment, "86.00")
    posted = sections["ledger_entries"]["rows"]
    assert sum(Decimal(row["debit"] or 0) for row in posted) == sum(
        Decimal(row["credit"] or 0) for row in posted
    )
    assert {("revenue", "3.67"), ("tax_payable", "0.33")} <= {
        (row["ledger_account"], row["debit"]) for row in posted
    }


@settings(
    max_examples=8, phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(
    gross=st.integers(1, 3_000), tax=st.integers(0, 300),
    amounts=st.lists(st.tuples(st.booleans(), st.integers(1, 900)), min_size=1, max_size=4),
)  # fmt: skip
def test_the_explained_tax_of_every_note_is_the_posted_one_whatever_came_after(
    books: Settings, gross: int, tax: int, amounts: list[tuple[bool, int]]
) -> None:
    clear(books)
    whole, within = fen(gross), fen(min(tax, gross))
    issue(books, "2026-10", {ONE: {"voice": whole}}, taxes={"voice": within})
    asked: list[tuple[str, bool, Decimal]] = []
    for is_credit, number in amounts:
        amount = fen(number)
        try:
            note_id = note(books, "credit" if is_credit else "debit", str(amount))
        except ConflictError:
            continue  # there is less to credit
        asked.append((note_id, is_credit, amount))
    through = {True: Decimal(0), False: whole}
    before = {True: Decimal(0), False: within}
    for note_id, is_credit, amount in asked:
        through[is_credit] += amount
        total = half_up(Fraction(within) * Fraction(through[is_credit]) / Fraction(whole))
        found = explained(books, note_id)
        assert found.is_agreed
        lines = told(found)["note_tax"]["arithmetic"]
        assert Decimal(lines[-1]["result"]) == amount - (total - before[is_credit])
        before[is_credit] = total


def fen(number: int) -> Decimal:
    return Decimal(number).scaleb(-2)


def half_up(exact: Fraction) -> Decimal:
    return (Decimal(exact.numerator) / Decimal(exact.denominator)).quantize(
        Decimal("0.01"), ROUND_HALF_UP
    )


def test_a_note_that_is_not_posted_is_told_but_is_no_document(billed: Settings) -> None:
    for decide, state in ((None, "requested"), (False, "rejected")):
        note_id = note(billed, "credit", "1.00", decide=decide)
        found = explained(billed, note_id)
        assert facts(told(found)["note"])["state"] == state
        assert "ledger_entries" not in told(found)
        with transaction(billed) as session, pytest.raises(ConflictError, match=state):
            note_document.make_note(session, billed, principal=FINANCE, note_id=note_id)


def test_notes_are_for_those_who_may_and_of_their_province(billed: Settings) -> None:
    note_id = note(billed, "credit", "1.00")
    assert explained(billed, note_id, AGENT).amount == 1
    for asking, error in (
        (Principal("o", "o", "operator", "00"), ForbiddenError),
        (Principal("b", "b", "agent", "11"), NotFoundError),
    ):
        with pytest.raises(error):
            explained(billed, note_id, asking)
        with transaction(billed) as session, pytest.raises(error):
            note_document.make_note(session, billed, principal=asking, note_id=note_id)
    with pytest.raises(NotFoundError, match="N-none"):
        explained(billed, "N-none")


# A note as a document -----------------------------------------------------------------------------


def printed(books: Settings, note_id: str, language: str = "en") -> NoteDocument:
    with transaction(books) as session:
        return note_document.make_note(
            session, books, principal=FINANCE, note_id=note_id, language=language
        )


def text_of(pdf: bytes) -> str:
    return "\n".join(page.extract_text() for page in PdfReader(io.BytesIO(pdf)).pages)


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize("kind", ["credit", "debit"])
def test_paper_and_screen_say_what_a_note_corrects(
    billed: Settings, kind: str, language: str
) -> None:
    document = printed(billed, note(billed, kind, "4.00"), language)
    paper = text_of(note_document.render_note(document, "pdf", ZONE))
    page = html.unescape(note_document.render_note(document, "html", ZONE).decode())
    title = {
        ("zh", "credit"): "贷项通知单", ("zh", "debit"): "借项通知单",
        ("en", "credit"): "Credit note", ("en", "debit"): "Debit note",
    }[language, kind]  # fmt: skip
    due = ["2026-11-25"] if kind == "debit" else []
    for text in (paper, page):
        for word in (title, document.note_id, BILL, "2026-11-05", "2026-10-31", ONE, "4.00",
                     "0.33", "3.67", *due):  # fmt: skip
            assert word in text, word
        assert "he is right" not in text  # what colleagues tell each other stays here
        assert ("漏计" in text) == ((language, kind) == ("zh", "debit"))
    assert note_document.render_note(document, "pdf", ZONE) == note_document.render_note(
        document, "pdf", ZONE
    )
    with pytest.raises(InvalidRequestError, match="html, pdf, ubl"):
        note_document.render_note(document, "csv", ZONE)


# The order in which the UBL 2.1 specification lists the elements of notes, of those one may have.
NOTE_ORDER = {
    "CreditNote": [
        "UBLVersionID", "ID", "IssueDate", "TaxPointDate", "CreditNoteTypeCode", "Note",
        "DocumentCurrencyCode", "InvoicePeriod", "DiscrepancyResponse", "OrderReference",
        "BillingReference", "AccountingSupplierParty", "AccountingCustomerParty", "PaymentMeans",
        "PaymentTerms", "AllowanceCharge", "TaxTotal", "LegalMonetaryTotal", "CreditNoteLine",
    ],
    "DebitNote": [
        "UBLVersionID", "ID", "IssueDate", "Note", "TaxPointDate", "DocumentCurrencyCode",
        "InvoicePeriod", "DiscrepancyResponse", "OrderReference", "BillingReference",
        "AccountingSupplierParty", "AccountingCustomerParty", "PrepaidPayment", "AllowanceCharge",
        "PaymentMeans", "PaymentTerms", "TaxTotal", "RequestedMonetaryTotal", "DebitNoteLine",
    ],
    "DiscrepancyResponse": ["ReferenceID", "ResponseCode", "Description", "EffectiveDate"],
    "InvoiceDocumentReference": ["ID", "CopyIndicator", "UUID", "IssueDate"],
    "PaymentTerms": ["ID", "Note", "Amount", "PaymentDueDate"],
    "RequestedMonetaryTotal": [
        "LineExtensionAmount", "TaxExclusiveAmount", "TaxInclusiveAmount", "PrepaidAmount",
        "PayableAmount",
    ],
    "CreditNoteLine": [
        "ID", "Note", "CreditedQuantity", "LineExtensionAmount", "TaxTotal", "AllowanceCharge",
        "Item", "Price",
    ],
    "DebitNoteLine": [
        "ID", "Note", "DebitedQuantity", "LineExtensionAmount", "TaxTotal", "AllowanceCharge",
        "Item", "Price",
    ],
}  # fmt: skip
NEEDED = {
    "credit": ("LegalMonetaryTotal", "CreditNoteLine"),
    "debit": ("RequestedMonetaryTotal", "DebitNoteLine"),
}


@pytest.mark.parametrize("kind", ["credit", "debit"])
def test_a_note_in_ubl_keeps_to_its_order_and_adds_up(billed: Settings, kind: str) -> None:
    document = printed(billed, note(billed, kind, "4.00"))
    root = etree.fromstring(note_document.render_note(document, "ubl", ZONE))
    assert etree.QName(root).localname == f"{kind.capitalize()}Note"
    assert etree.QName(root).namespace.endswith(f"xsd:{kind.capitalize()}Note-2")
    assert misplaced(root, NOTE_ORDER) == []
    total, line = (root.find(f"{CAC}{name}") for name in NEEDED[kind])
    amounts = {etree.QName(each).localname: Decimal(each.text) for each in total}
    assert amounts == {
        "LineExtensionAmount": Decimal("3.67"), "TaxExclusiveAmount": Decimal("3.67"),
        "TaxInclusiveAmount": Decimal("4.00"), "PayableAmount": Decimal("4.00"),
    }  # fmt: skip
    assert line.findtext(f"{CBC}LineExtensionAmount") == "3.67"
    invoice = root.find(f"{CAC}BillingReference/{CAC}InvoiceDocumentReference")
    assert [each.text for each in invoice] == [BILL, "2026-10-31"]
    assert root.findtext(f"{CBC}CreditNoteTypeCode") == ("381" if kind == "credit" else None)
    due = root.findtext(f"{CAC}PaymentTerms/{CBC}PaymentDueDate")
    assert due == ("2026-11-25" if kind == "debit" else None)
    taxed = replace(document, tax_rate=Decimal("9.0000"))
    root = etree.fromstring(note_document.render_note(taxed, "ubl", ZONE))
    assert misplaced(root, NOTE_ORDER) == []
    subtotal = f"{CAC}TaxTotal/{CAC}TaxSubtotal/"
    assert root.findtext(f"{subtotal}{CBC}TaxableAmount") == "3.67"
    assert root.findtext(f"{subtotal}{CBC}TaxAmount") == "0.33"
    assert root.findtext(f"{subtotal}{CAC}TaxCategory/{CBC}Percent") == "9"


def test_a_debit_note_of_no_bill_is_taxed_by_the_rate_of_its_day(books: Settings) -> None:
    note_id = note(books, "debit", "1.09", bill_id=None)
    found = explained(books, note_id)
    assert found.is_agreed
    (by_rate, net) = told(found)["note_tax"]["arithmetic"]
    assert (by_rate["formula"], net["result"]) == ("1.09 × 9/109 = 0.09", "1.00")
    document = printed(books, note_id)
    assert (document.tax, document.tax_rate, document.bill_id) == (Decimal("0.09"), 9, None)
    root = etree.fromstring(note_document.render_note(document, "ubl", ZONE))
    assert misplaced(root, NOTE_ORDER) == []
    assert root.find(f"{CAC}BillingReference") is None
    for form in ("html", "pdf"):
        assert note_document.render_note(document, form, ZONE)


# From every channel -------------------------------------------------------------------------------


def test_a_note_with_slashes_in_its_id_is_reached_from_every_channel(
    billed: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    note_id = "restatement/2026-10/A0000001/voice/1"
    note(billed, "credit", "4.00", note_id=note_id)
    client = TestClient(create_app(billed), follow_redirects=False)
    password = billed.admin_password
    assert password
    client.get("/language/en")
    signer = client.app.state.installation.signer
    client.cookies.set(SESSION_COOKIE, signer.dump(signer.new("admin", 0)))
    account = client.get(f"/accounts/of/{ONE}").text
    (path,) = set(re.findall(r'href="(/explain/[^"]+)"', account))
    page = client.get(html.unescape(path)).text
    assert note_id in page
    assert "Worked out again" in page
    documents = re.findall(r'href="(/accounts/notes/[^"]+/document\.\w+)"', page)
    assert len(documents) == 3
    for link in documents:
        answer = client.get(html.unescape(link))
        assert answer.status_code == 200, link
        assert answer.content
    api = f"/api/accounts/v1/note/{note_id}"
    asked: dict[str, Any] = {"auth": ("admin", password.get_secret_value())}
    assert client.get(api, **asked).json()["billItemCode"] == "voice"
    by_rest = client.get(f"{api}/document", params={"format": "ubl", "language": "en"}, **asked)
    assert etree.QName(etree.fromstring(by_rest.content)).localname == "CreditNote"
    assert client.get(f"{api}/document", params={"format": "doc"}, **asked).status_code == 422
    for name in ("read_settings",):
        monkeypatch.setattr(f"tollhouse.bill_commands.{name}", lambda: billed)
    written = tmp_path / "note.xml"
    command = ["note", note_id, "--format", "ubl", "--lang", "en", "--output", str(written)]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert written.read_bytes() == by_rest.content
    shown = CliRunner().invoke(app, ["explain", note_id, "--lang", "en"])
    assert shown.exit_code == 0, shown.output
    assert "Tax within the note" in shown.output
