"""Bank statements: read, refused with the place, matched once, the rest in suspense."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from operational.accounts import (
    bank,
    bank_transit,
    prepaid,
    reports,
    security_deposits,
    service,
)  # fmt: skip
from operational.accounts.bank import BankRefusedError
from operational.accounts.bank_formats import (
    BankFileError,
    Statement,
    StatementLine,
    read_statements,
)  # fmt: skip
from operational.accounts.models import BankLine
from operational.database import transaction
from operational.permissions import Principal
from operational.problems import ConflictError
from tests.operational.accounts_books import (
    ACCOUNTS,
    AGENT,
    FINANCE,
    clear,
    connect,
    issue,
    noon,
    pay,
    read,
)  # fmt: skip
from tollhouse.settings import Settings

ONE, TWO, THREE, _ = ACCOUNTS
DAY = date(2026, 12, 1)


def line(amount: str, reference: str = "", text: str = "", number: int = 1) -> StatementLine:
    return StatementLine(DAY, Decimal(amount), f"BK{number}", reference or None, text or None)


def statement(*lines: StatementLine, opening: str = "1000.00", number: int = 12) -> Statement:
    closing = Decimal(opening) + sum((row.amount for row in lines), Decimal(0))
    return Statement(
        "CN44ICBC0001", f"STMT{number}", "CNY", date(2026, 11, 30), Decimal(opening), DAY, closing,
        list(lines),
    )  # fmt: skip


def as_mt940(one: Statement) -> bytes:
    def amount(value: Decimal) -> str:
        return f"{abs(value):.2f}".replace(".", ",")

    def mark(value: Decimal) -> str:
        return "C" if value >= 0 else "D"

    out = [
        f":20:{one.reference}", f":25:{one.bank_account}", ":28C:00012/001",
        f":60F:{mark(one.opening_amount)}{one.opening_date:%y%m%d}CNY{amount(one.opening_amount)}",
    ]  # fmt: skip
    for row in one.lines:
        out.append(
            f":61:{row.booked_date:%y%m%d%m%d}{mark(row.amount)}{amount(row.amount)}NTRF"
            f"{row.customer_reference or 'NONREF'}//{row.bank_reference}"
        )
        if row.remittance:
            out.append(f":86:{row.remittance}")
    out += [
        f":62F:{mark(one.closing_amount)}{one.closing_date:%y%m%d}CNY{amount(one.closing_amount)}",
        "-",
    ]  # fmt: skip
    return "\r\n".join(out).encode() + b"\r\n"


def as_camt(one: Statement, version: str = "08", prefix: str = "") -> bytes:
    def balance(code: str, value: Decimal, day: date) -> str:
        sign = "CRDT" if value >= 0 else "DBIT"
        return (
            f"<Bal><Tp><CdOrPrtry><Cd>{code}</Cd></CdOrPrtry></Tp><Amt Ccy='CNY'>{abs(value)}</Amt>"
            f"<CdtDbtInd>{sign}</CdtDbtInd><Dt><Dt>{day}</Dt></Dt></Bal>\n"
        )

    entries = "".join(
        f"<Ntry><Amt Ccy='CNY'>{abs(row.amount)}</Amt>"
        f"<CdtDbtInd>{'CRDT' if row.amount > 0 else 'DBIT'}</CdtDbtInd><Sts><Cd>BOOK</Cd></Sts>"
        f"<BookgDt><Dt>{row.booked_date}</Dt></BookgDt><AcctSvcrRef>{row.bank_reference}</AcctSvcrRef>"
        "<NtryDtls><TxDtls><Refs>"
        f"<EndToEndId>{row.customer_reference or 'NOTPROVIDED'}</EndToEndId></Refs>"
        f"<RmtInf><Ustrd>{row.remittance or ''}</Ustrd></RmtInf></TxDtls></NtryDtls></Ntry>\n"
        for row in one.lines
    )
    text = (
        f"<Document>\n<BkToCstmrStmt>\n<Stmt><Id>{one.reference}</Id>"
        f"<Acct><Id><Othr><Id>{one.bank_account}</Id></Othr></Id></Acct>\n"
        + balance("OPBD", one.opening_amount, one.opening_date)
        + balance("CLBD", one.closing_amount, one.closing_date)
        + entries
        + "</Stmt></BkToCstmrStmt></Document>\n"
    )
    namespace = f"urn:iso:std:iso:20022:tech:xsd:camt.053.001.{version}"
    declared = f"xmlns:{prefix}" if prefix else "xmlns"
    if prefix:
        text = text.replace("<", f"<{prefix}:").replace(f"<{prefix}:/", f"</{prefix}:")
    return text.replace("Document>", f'Document {declared}="{namespace}">', 1).encode()


TEXT = st.text("ABCDEFGHIJ 0123456789", min_size=1, max_size=20).map(str.strip)
LINES = st.lists(
    st.builds(
        lambda fen, reference, text, number: StatementLine(
            DAY, Decimal(fen).scaleb(-2), f"BK{number}", reference or None, text or None
        ),
        st.integers(-10_000_000, 10_000_000).filter(bool),
        st.from_regex(r"[A-Z0-9]{1,16}", fullmatch=True).filter(lambda one: one != "NONREF"),
        TEXT, st.integers(0, 9999),
    ),
    max_size=8,
)  # fmt: skip


@hypothesis_settings(max_examples=60)
@given(lines=LINES, version=st.sampled_from(["02", "08", "13"]), prefix=st.sampled_from(["", "n"]))
def test_both_formats_say_what_was_written(
    lines: list[StatementLine], version: str, prefix: str
) -> None:
    one = statement(*lines)
    for written, format_name in (
        (as_mt940(one), "mt940"),
        (as_camt(one, version, prefix), "camt.053"),
    ):
        found_format, (found,) = read_statements(written)
        assert found_format == format_name
        assert (found.bank_account, found.opening_amount) == (one.bank_account, one.opening_amount)
        assert (found.closing_amount, found.closing_date) == (one.closing_amount, DAY)
        for row, expected in zip(found.lines, lines, strict=True):
            shown = " ".join((expected.remittance or "").split()) or None
            remittance = " ".join((row.remittance or "").split()) or None
            assert replace(row, remittance=remittance) == replace(expected, remittance=shown)


def test_a_reversed_credit_takes_money_away() -> None:
    written = as_mt940(statement(line("-76.00", "A0000001"))).replace(b"D76,00", b"RC76,00")
    _, (found,) = read_statements(written)
    assert [row.amount for row in found.lines] == [Decimal("-76.00")]


GOOD_MT940 = as_mt940(statement(line("76.00", ONE), line("-6.00", "", "charge", 2)))
GOOD_CAMT = as_camt(statement(line("76.00", ONE), line("-6.00", "", "charge", 2)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1: neither XML nor MT940"),
        (b"date;amount\n2026-12-01;76.00\n", "line 1: neither XML nor MT940"),
        (b"\x80\xff\xff", "neither UTF-8 nor GB 18030"),
        (GOOD_MT940.replace(b":61:2612011201C76,00", b":61:2612011201C77,00"),
         "opening balance and lines make 1071.00, the closing balance is 1070.00"),
        (GOOD_MT940.replace(b"C76,00N", b"C7x,00N"), "line 1: 2 :61: lines in this statement, 1"),
        (GOOD_MT940.replace(b":61:2612011201C76", b":61:2613991201C76"), "line 5: "),
        (GOOD_MT940[: GOOD_MT940.index(b":62F:")], "no :62F:"),
        (GOOD_MT940.replace(b":25:CN44ICBC0001\r\n", b""), "line 1: .* no :25:"),
        (GOOD_MT940 * 2, "in this file twice"),
        (GOOD_CAMT[:-40], "line [0-9]+: not well-formed XML"),
        (b"<Document/>", "not a camt.053 document"),
        (GOOD_CAMT.replace(b">76.00<", b">7x.00<"), "line 6: Amt is not a number: '7x.00'"),
        (GOOD_CAMT.replace(b">76.00<", b">77.00<"), "lines make 1071.00"),
        (GOOD_CAMT.replace(b">76.00<", b">76.005<"), "lines make|more than 2 digits"),
        (GOOD_CAMT.replace(b"<BookgDt><Dt>2026-12-01", b"<BookgDt><Dt>2026-13-01", 1),
         "line 6: Ntry has a BookgDt that is no date: '2026-13-01'"),
        (GOOD_CAMT.replace(b"CRDT</CdtDbtInd><Sts>", b"PLUS</CdtDbtInd><Sts>"),
         "line 6: Ntry has CdtDbtInd 'PLUS'"),
        (GOOD_CAMT.replace(b"CLBD", b"ITBD"), "line 3: Stmt has no opening"),
        (b"<!DOCTYPE d [<!ENTITY e SYSTEM 'file:///etc/hostname'>]>" + GOOD_CAMT,
         "document type declaration"),
    ],
)  # fmt: skip
def test_a_malformed_file_is_refused_with_its_place(content: bytes, message: str) -> None:
    with pytest.raises(BankFileError, match=message):
        read_statements(content)


def take(settings: Settings, content: bytes, name: str = "icbc.sta") -> bank.Imported:
    return bank.import_file(settings, principal=FINANCE, file_name=name, content=content)


def states(settings: Settings) -> list[tuple[str, str | None, str | None]]:
    with connect(settings) as connection:
        return connection.execute(
            "select state, match_rule, account_id from billing.bank_line order by line_number"
        ).fetchall()


def check(settings: Settings) -> None:
    """Suspense holds the unmatched lines, and the bank's ledger moved as its statements say.

    What is in transit is what was entered by bank and no line has cleared.
    """
    with transaction(settings) as session:
        assert reports.unbalanced(session) == {}
    with connect(settings) as connection:
        moved = connection.execute(
            "select coalesce(sum(closing_amount - opening_amount), 0) from billing.bank_statement"
        ).fetchone()
    assert moved == (read(settings).ledger.get("bank", Decimal(0)),)


def test_lines_are_matched_by_bill_by_account_and_by_amount_among_several(books: Settings) -> None:
    issue(books, "2026-10", {ONE: {"rent": Decimal(76)}, TWO: {"rent": Decimal(106)}})
    done = take(
        books,
        as_mt940(
            statement(
                line("50.00", f"2026-10-{ONE}"),
                line("6.00", "", f"PAYMENT FOR {THREE} THANKS", 2),
                line("106.00", "", f"{ONE} {TWO}", 3),
                line("17.00", "", f"{ONE} {TWO}", 4),
                line("76.00", "", "NO NAME", 5),
                line("-6.50", "", "CHARGE", 6),
            )
        ),
    )
    assert (done.lines, done.matched, done.suspense) == (6, 3, 3)
    assert done.matched_amount + done.suspense_amount == Decimal("248.50")
    assert states(books) == [
        ("matched", "bill_reference", ONE), ("matched", "account_reference", THREE),
        ("matched", "amount_of_several", TWO), ("suspense", None, None), ("suspense", None, None),
        ("suspense", None, None),
    ]  # fmt: skip
    assert read(books).items == {
        f"2026-10-{ONE}/rent": Decimal(26), f"2026-10-{TWO}/rent": Decimal(0),
    }  # fmt: skip
    check(books)


def test_the_same_file_twice_and_the_same_statement_in_another_file_change_nothing(
    books: Settings,
) -> None:
    one = statement(line("76.00", ONE))
    take(books, as_mt940(one))
    before = read(books)
    assert take(books, as_mt940(one), "again.sta") == bank.Imported("again.sta", is_new=False)
    other = as_mt940(one).replace(b"//BK1", b"//BK1 ")
    with pytest.raises(BankRefusedError, match=r"came before, in icbc\.sta"):
        take(books, other, "other.sta")
    assert read(books) == before


@pytest.mark.parametrize("in_one_file", [True, False])
def test_a_line_that_an_earlier_statement_has_is_held_in_suspense(
    books: Settings, in_one_file: bool
) -> None:
    issue(books, "2026-10", {ONE: {"rent": Decimal(76)}, TWO: {"rent": Decimal(106)}})
    first = as_mt940(statement(line("76.00", ONE)))
    second = as_mt940(statement(line("76.00", ONE), line("106.00", TWO, "", 2), number=13))
    for number, content in enumerate([first + second] if in_one_file else [first, second]):
        take(books, content, f"{number}.sta")
    assert sorted(states(books), key=str) == [
        ("matched", "account_reference", ONE), ("matched", "account_reference", TWO),
        ("suspense", None, None),
    ]  # fmt: skip
    assert set(read(books).items.values()) == {Decimal(0)}
    with transaction(books) as session:
        lines = bank.suspense_lines(session, principal=FINANCE)
        held = bank_transit.repeated(session, lines=lines)
    assert held == {lines[0].bank_line_id: "STMT12/00012/001"}
    check(books)


def test_the_bill_of_one_account_and_the_number_of_another_are_for_people(books: Settings) -> None:
    issue(books, "2026-10", {ONE: {"rent": Decimal(76)}, TWO: {"rent": Decimal(106)}})
    done = take(books, as_mt940(statement(line("76.00", f"2026-10-{ONE}", TWO))))
    assert (done.matched, done.suspense) == (0, 1)
    own = as_mt940(statement(line("76.00", f"2026-10-{ONE}", ONE, 2), number=13))
    assert take(books, own, "own.sta").matched == 1
    check(books)


def test_a_refused_file_leaves_nothing_behind(books: Settings) -> None:
    two = as_mt940(statement(line("76.00", ONE))) + as_mt940(
        statement(line("1.00", TWO), number=13)
    ).replace(b"C1,00", b"C2,00")
    with pytest.raises(BankRefusedError, match=r"icbc.sta is refused: statement STMT13"):
        take(books, two)
    assert (states(books), read(books).ledger) == ([], {})


def suspense_ids(settings: Settings) -> list[str]:
    with transaction(settings) as session:
        return [row.bank_line_id for row in bank.suspense_lines(session, principal=FINANCE)]


def test_what_is_in_suspense_is_matched_by_hand_once(books: Settings) -> None:
    issue(books, "2026-10", {ONE: {"rent": Decimal(76)}})
    take(books, as_camt(statement(
        line("76.00", "", "NO NAME"), line("-6.50", "", "CHARGE", 2),
        line("900.00", "", "AGENT COLLECTION", 3),
    )), "icbc.xml")  # fmt: skip
    payment, charge, collected = suspense_ids(books)
    with transaction(books) as session:
        lines = bank.suspense_lines(session, principal=FINANCE)
        found = bank.suggestions(session, books, principal=FINANCE, lines=lines)
        assert found[payment] == [ONE]
    with pytest.raises(ConflictError, match="is a debit"):
        bank.match_to_account(books, principal=FINANCE, bank_line_id=charge, account_id=ONE)
    bank.match_to_account(books, principal=FINANCE, bank_line_id=payment, account_id=ONE)
    for line_id, code, reason in (
        (charge, "bank_charge", "bank_fee"),
        (collected, "agent_clearing", "collected_by_channel"),
    ):
        bank.match_to_ledger(
            books, principal=FINANCE, bank_line_id=line_id, ledger_code=code, reason_code=reason
        )
    ledger = read(books).ledger
    assert (ledger["suspense"], ledger["receivable"]) == (0, 0)
    assert (ledger["bank_charge"], ledger["agent_clearing"]) == (Decimal("6.50"), Decimal(-900))
    with pytest.raises(ConflictError, match="matched already"):
        bank.match_to_account(books, principal=FINANCE, bank_line_id=payment, account_id=TWO)
    check(books)


@pytest.mark.parametrize("channel", ["bank file", "counter"])
def test_a_returned_payment_is_owed_again(books: Settings, channel: str) -> None:
    issue(books, "2026-10", {ONE: {"rent": Decimal(76)}})
    if channel == "counter":
        payment_id = pay(books, ONE, "76.00", DAY)
    else:
        take(books, as_mt940(statement(line("76.00", ONE))))
        with connect(books) as connection:
            (payment_id,) = connection.execute("select payment_id from billing.payment").fetchone()  # type: ignore[misc]
    returned = statement(line("-76.00", "", "RETURNED"), opening="1076.00", number=13)
    take(books, as_mt940(returned), "next.sta")
    (line_id,) = suspense_ids(books)
    bank.match_to_return(books, principal=FINANCE, bank_line_id=line_id, payment_id=payment_id)
    found = read(books)
    assert found.items == {f"2026-10-{ONE}/rent": Decimal(76)}
    assert found.ledger["suspense"] == 0
    cash_and_bank = found.ledger["bank"] + found.ledger.get("cash", Decimal(0))
    assert (cash_and_bank, found.ledger["deposit"]) == (0, 0)
    check(books)


def test_a_line_matched_with_the_wrong_account_is_in_suspense_again_when_reversed(
    books: Settings,
) -> None:
    take(books, as_mt940(statement(line("76.00", ONE))))
    with connect(books) as connection:
        ((payment_id,),) = connection.execute("select payment_id from billing.payment").fetchall()
    service.reverse_payment(
        books, principal=FINANCE, payment_id=payment_id, reason_code="wrong_account"
    )
    check(books)
    (line_id,) = suspense_ids(books)
    bank.match_to_account(books, principal=FINANCE, bank_line_id=line_id, account_id=TWO)
    check(books)
    assert states(books) == [("matched", "by_hand", TWO)]
    assert suspense_ids(books) == []


# Bank money that people enter --------------------------------------------------------------------


def by_bank(settings: Settings, account_id: str, amount: str, **more: Any) -> str:
    return pay(settings, account_id, amount, DAY, **({"channel": "bank"} | more))


def deposit_by_bank(
    settings: Settings, account_id: str, amount: str, key: str = "d", reference: str | None = None
) -> str:
    return security_deposits.receive(
        settings, principal=FINANCE, account_id=account_id, amount=Decimal(amount), channel="bank",
        reason_code="credit", idempotency_key=key, today=DAY, reference=reference,
    ).security_deposit_id  # fmt: skip


def waiting(settings: Settings) -> list[tuple[str, Decimal]]:
    with transaction(settings) as session:
        found = bank.in_transit(session, settings, principal=FINANCE)
    return [(item.account_id, item.amount) for item in found]


def by_province(settings: Settings) -> dict[tuple[str, str], Decimal]:
    """What is not zero of each ledger account in each province."""
    with connect(settings) as connection:
        rows = connection.execute(
            "select ent.province_code, lin.ledger_code, sum(lin.amount)"
            " from billing.ledger_line as lin"
            " join billing.ledger_entry as ent on ent.entry_id = lin.entry_id"
            " group by 1, 2 having sum(lin.amount) <> 0"
        ).fetchall()
    return {(province, code): amount for province, code, amount in rows}


def owed_to(settings: Settings, account_id: str) -> Decimal:
    """What the ledger owes a customer less what he owes: his money, however it is booked."""
    with connect(settings) as connection:
        row = connection.execute(
            "select coalesce(-sum(lin.amount), 0) from billing.ledger_line as lin"
            " join billing.ledger_entry as ent on ent.entry_id = lin.entry_id"
            " where ent.account_id = %s"
            " and lin.ledger_code in ('receivable', 'deposit', 'security_deposit')",
            (account_id,),
        ).fetchone()
    assert row
    return Decimal(row[0])


def test_money_entered_as_by_bank_is_in_transit_until_its_line_comes(books: Settings) -> None:
    issue(books, "2026-10", {ONE: {"rent": Decimal(76)}})
    payment_id = by_bank(books, ONE, "76.00", reference="R-1")
    ledger = read(books).ledger
    assert (ledger["bank_clearing"], ledger.get("bank", 0), ledger["receivable"]) == (76, 0, 0)
    assert waiting(books) == [(ONE, 76)]
    check(books)
    done = take(books, as_mt940(statement(line("76.00", ONE))))
    assert (done.matched, done.suspense) == (1, 0)
    ledger = read(books).ledger
    assert (ledger["bank_clearing"], ledger["bank"], ledger["suspense"]) == (0, 76, 0)
    assert (states(books), waiting(books)) == ([("matched", "in_transit", ONE)], [])
    with connect(books) as connection:
        rows = connection.execute("select payment_id from billing.payment").fetchall()
    assert rows == [(payment_id,)]
    check(books)


def test_money_that_a_statement_has_brought_is_not_entered_again(books: Settings) -> None:
    take(books, as_mt940(statement(line("76.00", ONE))))
    before = read(books)
    for enter in (by_bank, deposit_by_bank):
        with pytest.raises(ConflictError, match=r"came on 2026-12-01 by bank statement STMT12"):
            enter(books, ONE, "76.00")
    assert read(books) == before
    by_bank(books, ONE, "75.99")
    by_bank(books, TWO, "76.00")
    pay(books, ONE, "76.00", DAY + timedelta(days=11), channel="bank")
    pay(books, ONE, "76.00", DAY)  # at the counter
    assert waiting(books) == [(ONE, Decimal("75.99")), (TWO, 76), (ONE, 76)]
    check(books)


def test_a_payment_that_was_a_security_deposit_becomes_one(books: Settings) -> None:
    take(books, as_mt940(statement(line("500.00", ONE))))
    with connect(books) as connection:
        ((payment_id,),) = connection.execute("select payment_id from billing.payment").fetchall()
    service.reverse_payment(
        books, principal=FINANCE, payment_id=payment_id, reason_code="entered_wrongly"
    )
    deposit_by_bank(books, ONE, "500.00")
    ledger = read(books).ledger
    assert (ledger["bank"], ledger["security_deposit"], ledger["deposit"]) == (500, -500, 0)
    assert (ledger["suspense"], ledger["bank_clearing"], waiting(books)) == (0, 0, [])
    with connect(books) as connection:
        audited = connection.execute(
            "select detail ->> 'account' from identity.audit_log where action = 'match_bank_line'"
        ).fetchall()
    assert audited == [(ONE,)]
    check(books)


@pytest.mark.parametrize("enter", ["payment", "deposit"])
def test_the_own_line_of_an_entry_is_cleared_beside_a_payment_of_the_same_amount(
    books: Settings, enter: str
) -> None:
    issue(books, "2026-10", {ONE: {"rent": Decimal(500)}})
    take(books, as_mt940(statement(
        line("500.00", f"2026-10-{ONE}"), line("500.00", "", "GUARANTEE G-2026-7", 2),
    )))  # fmt: skip
    if enter == "payment":
        by_bank(books, ONE, "500.00", reference="G-2026-7")
    else:
        deposit_by_bank(books, ONE, "500.00", reference="G-2026-7")
    assert states(books) == [("matched", "bill_reference", ONE), ("matched", "in_transit", ONE)]
    assert (waiting(books), owed_to(books, ONE)) == ([], 500)
    check(books)
    with pytest.raises(ConflictError, match=r"came on 2026-12-01 by bank statement STMT12"):
        by_bank(books, ONE, "500.00")


ENTRIES = st.lists(
    st.tuples(
        st.sampled_from([ONE, TWO]), st.sampled_from(["10.00", "20.00"]),
        st.sampled_from(["payment", "deposit"]), st.sampled_from(["account", "reference", "none"]),
    ),
    min_size=1, max_size=4,
)  # fmt: skip


@hypothesis_settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), entries=ENTRIES)
def test_whatever_comes_first_the_money_stands_once_in_bank_and_once_for_the_customer(
    books: Settings, data: st.DataObject, entries: list[tuple[str, str, str, str]]
) -> None:
    clear(books)
    steps = [(number, what) for number in range(len(entries)) for what in ("hand", "line")]
    for number, what in data.draw(st.permutations(steps)):
        account_id, amount, kind, names = entries[number]
        if what == "line":
            text = {"account": account_id, "reference": f"REF-10{number}", "none": "?"}[names]
            one = statement(line(amount, "", text, number), number=100 + number)
            take(books, as_mt940(one), f"{number}.sta")
            continue
        with suppress(ConflictError):  # a line brought it
            if kind == "payment":
                by_bank(books, account_id, amount, reference=f"REF-10{number}")
            else:
                deposit_by_bank(books, account_id, amount, f"d{number}")
        check(books)
    # What neither names its account nor bears a reference is matched by people.
    for line_id in suspense_ids(books):
        number = int(line_statement(books, line_id)) - 100
        bank.match_to_account(
            books, principal=FINANCE, bank_line_id=line_id, account_id=entries[number][0]
        )
    check(books)
    ledger = read(books).ledger
    assert ledger["bank"] == sum(Decimal(amount) for _, amount, *_ in entries)
    assert (ledger["suspense"], ledger.get("bank_clearing", 0), waiting(books)) == (0, 0, [])
    for account_id in (ONE, TWO):
        assert owed_to(books, account_id) == sum(
            Decimal(amount) for whose, amount, *_ in entries if whose == account_id
        )


def line_statement(settings: Settings, line_id: str) -> str:
    with connect(settings) as connection:
        row = connection.execute(
            "select substr(statement_reference, 5, 3) from billing.bank_line"
            " join billing.bank_statement using (bank_statement_id) where bank_line_id = %s",
            (line_id,),
        ).fetchone()
    assert row
    return str(row[0])


def test_a_reference_tells_whose_line_it_is_where_no_account_is_named(books: Settings) -> None:
    by_bank(books, ONE, "76.00", reference="R-10001")
    by_bank(books, TWO, "76.00", reference="R-10002")
    by_bank(books, THREE, "76.00", reference="thanks")
    take(books, as_mt940(statement(
        line("76.00", "", "PAYMENT r-10002"), line("76.00", "", "THANKS", 2),
        line("77.00", "", "R-10001", 3),
    )))  # fmt: skip
    assert [row[2] for row in states(books)] == [TWO, None, None]
    assert waiting(books) == [(ONE, 76), (THREE, 76)]
    check(books)


@pytest.mark.parametrize(
    ("reference", "borne", "not_borne"),
    [
        ("R-10002", ["for r-10002.", "付款R-10002谢谢", "/REF/R-10002/"],
         ["R-100023", "R-10002-1", "XR-10002", "R 10002"]),
        ("2026/0012", ["INVOICE 2026/0012", "(2026/0012)"],
         ["2026 0012", "12026/0012", "2026/00123"]),
        ("INV.7 of May", ["re INV.7  of\nMay, thanks"], ["INV.7"]),
        ("100123", ["no 100123, thanks"], ["100123.45", "1,100123"]),
        ("20261101000123", ["20261101000123"], ["20261101"]),
    ],
)  # fmt: skip
def test_a_reference_is_borne_as_a_whole(
    reference: str, borne: list[str], not_borne: list[str]
) -> None:
    for text in borne + not_borne:
        for found in (BankLine(remittance=text), BankLine(customer_reference=text)):
            assert bank_transit.has_reference(found, reference) == (text in borne), text


@pytest.mark.parametrize("reference", ["1", "R-1", "No 12"])
def test_a_short_reference_is_the_whole_of_a_reference_of_the_line(reference: str) -> None:
    for found in (
        BankLine(bank_reference=reference), BankLine(customer_reference=f" {reference.lower()} "),
    ):  # fmt: skip
        assert bank_transit.has_reference(found, reference)
    for found in (
        BankLine(remittance=reference), BankLine(customer_reference=f"{reference} X"), BankLine(),
    ):  # fmt: skip
        assert not bank_transit.has_reference(found, reference)


@pytest.mark.parametrize(
    "reference",
    ["2026", "2026-11", "202611", "20261101", "2026-11-01", "2026/11/1", "2026年11月", "thanks", "",
     None],
)  # fmt: skip
def test_a_date_or_a_mere_word_is_no_reference(reference: str | None) -> None:
    for column in ("bank_reference", "customer_reference", "remittance"):
        assert not bank_transit.has_reference(BankLine(**{column: reference}), reference)


def test_what_may_be_of_several_accounts_in_transit_is_for_people(books: Settings) -> None:
    owed = {ONE: 106, TWO: 152, THREE: 76}  # TWO then owes just what the lines are of
    issue(books, "2026-10", {one: {"rent": Decimal(amount)} for one, amount in owed.items()})
    by_bank(books, ONE, "76.00")
    by_bank(books, TWO, "76.00")
    take(books, as_mt940(statement(
        line("76.00", "", f"{ONE} {TWO}"), line("76.00", "", f"{ONE} {TWO} {THREE}", 2),
    )))  # fmt: skip
    assert states(books) == [("suspense", None, None)] * 2
    assert (waiting(books), owed_to(books, THREE)) == ([(ONE, 76), (TWO, 76)], -76)
    check(books)


@pytest.mark.parametrize("posts", ["post", "deduct"])
def test_payments_loaded_in_bulk_clear_their_lines_in_suspense(books: Settings, posts: str) -> None:
    take(books, as_mt940(statement(
        line("76.00", "", f"{ONE} {TWO}"), line("50.00", THREE, "", 2),
        line("30.00", "", "NO NAME", 3), line("20.00", "", f"{ONE} {TWO}", 4),
    )))  # fmt: skip
    loaded = [(ONE, 76), (THREE, 50), (TWO, 30), (ONE, 20), (TWO, 20), (TWO, 10)]
    with connect(books) as connection, connection.cursor() as cursor:
        cursor.executemany(
            "insert into billing.payment (payment_id, account_id, paid_at, amount, currency_code,"
            " channel, idempotency_key, province_code, payment_type)"
            " select %(key)s, account_id, %(at)s, %(amount)s, 'CNY', 'bank', %(key)s,"
            " province_code, 'payment' from crm.account where account_id = %(account)s",
            [
                {"key": f"bulk{number}", "at": noon(DAY), "account": account, "amount": amount}
                for number, (account, amount) in enumerate(loaded)
            ],
        )
    for _again in range(2):
        if posts == "post":
            service.post(books, by_user="test", today=DAY)
        else:
            names = ("account_id", "cycle_id", "bill_item_code")
            schema = pa.schema([(name, pa.string()) for name in names])
            charges = schema.append(pa.field("amount", pa.decimal128(18, 2))).empty_table()
            prepaid.deduct(books, charges=charges, by_user="test", today=DAY)
        assert states(books) == [
            ("matched", "in_transit", ONE), ("matched", "account_reference", THREE),
            ("suspense", None, None), ("suspense", None, None),
        ]  # fmt: skip
        # Of THREE the line is a payment already; the others' lines are for people, or to come.
        assert sorted(waiting(books)) == [(ONE, 20), (TWO, 10), (TWO, 20), (TWO, 30), (THREE, 50)]
        check(books)
    with connect(books) as connection:
        audited = connection.execute(
            "select username, detail ->> 'cleared' from identity.audit_log"
            " where action = 'match_bank_line'"
        ).fetchall()
    assert audited == [("test", "bulk0")]


def test_a_line_of_another_time_is_a_payment_unless_people_say_otherwise(books: Settings) -> None:
    early = DAY - timedelta(days=11)
    pay(books, ONE, "76.00", early, channel="bank")
    take(books, as_mt940(statement(line("76.00", ONE), line("76.00", "", "NO NAME", 2))))
    assert waiting(books) == [(ONE, 76)]
    with transaction(books) as session:
        (found,) = bank.in_transit(session, books, principal=FINANCE)
        lines = bank.suspense_lines(session, principal=FINANCE)
        named = bank.suggestions(session, books, principal=FINANCE, lines=lines)
    assert (found.moved_date, found.age_days(DAY)) == (early, 11)
    assert named == {lines[0].bank_line_id: [ONE]}
    bank.match_to_account(
        books, principal=FINANCE, bank_line_id=lines[0].bank_line_id, account_id=ONE
    )
    assert waiting(books) == []
    assert owed_to(books, ONE) == 152
    check(books)


@pytest.mark.parametrize("line_first", [True, False])
def test_money_that_is_given_back_by_bank_is_cleared_by_its_debit(
    books: Settings, line_first: bool
) -> None:
    pay(books, ONE, "100.00", DAY)
    deposit_id = deposit_by_bank(books, TWO, "50.00")

    def give_back() -> None:
        service.refund(
            books, principal=FINANCE, account_id=ONE, amount=Decimal("30.00"), channel="bank",
            reason_code="customer_asks", idempotency_key="r", today=DAY,
        )  # fmt: skip
        security_deposits.give_back(
            books, principal=FINANCE, security_deposit_id=deposit_id, amount=Decimal("20.00"),
            channel="bank", reason_code="no_longer_required", idempotency_key="s", today=DAY,
        )  # fmt: skip

    if not line_first:
        give_back()
        assert sorted(waiting(books)) == [(ONE, -30), (TWO, -20), (TWO, 50)]
    take(books, as_mt940(statement(
        line("50.00", TWO), line("-30.00", ONE, "", 2), line("-20.00", TWO, "", 3),
        line("-30.00", "", "CHARGE", 4),
    )))  # fmt: skip
    if line_first:
        give_back()
    assert waiting(books) == []
    (line_id,) = suspense_ids(books)
    with pytest.raises(ConflictError, match="is a debit"):
        bank.match_to_account(books, principal=FINANCE, bank_line_id=line_id, account_id=ONE)
    ledger = read(books).ledger
    assert (ledger["bank"], ledger["bank_clearing"], ledger["suspense"]) == (-30, 0, 30)
    check(books)


def test_a_payment_reversed_after_its_line_came_puts_the_line_into_suspense(
    books: Settings,
) -> None:
    payment_id = by_bank(books, ONE, "76.00")
    take(books, as_mt940(statement(line("76.00", ONE))))
    reverse: dict[str, Any] = {
        "principal": FINANCE, "payment_id": payment_id, "reason_code": "wrong_account",
    }  # fmt: skip
    service.reverse_payment(books, **reverse)
    check(books)
    (line_id,) = suspense_ids(books)
    bank.match_to_account(books, principal=FINANCE, bank_line_id=line_id, account_id=TWO)
    service.reverse_payment(books, **reverse)  # asked again
    assert (waiting(books), suspense_ids(books)) == ([], [])
    assert (owed_to(books, ONE), owed_to(books, TWO)) == (0, 76)
    check(books)


def test_a_return_needs_the_line_by_which_the_money_came(books: Settings) -> None:
    payment_id = by_bank(books, ONE, "76.00")
    take(books, as_mt940(statement(line("-76.00", "", "RETURNED"), opening="1076.00")))
    (line_id,) = suspense_ids(books)
    match: dict[str, Any] = {
        "principal": FINANCE, "bank_line_id": line_id, "payment_id": payment_id,
    }  # fmt: skip
    with pytest.raises(ConflictError, match="first match the line by which it came"):
        bank.match_to_return(books, **match)
    take(books, as_mt940(statement(line("76.00", ONE, "", 2), number=13)), "next.sta")
    bank.match_to_return(books, **match)
    service.reverse_payment(
        books, principal=FINANCE, payment_id=payment_id, reason_code="payment_returned"
    )  # it is reversed: nothing more happens
    ledger = read(books).ledger
    assert {ledger[code] for code in ("bank", "bank_clearing", "suspense", "deposit")} == {0}
    assert by_province(books) == {}
    assert (waiting(books), suspense_ids(books)) == ([], [])
    check(books)


def test_what_is_not_in_transit_as_the_ledger_says_is_named(books: Settings) -> None:
    by_bank(books, ONE, "76.00")
    take(books, as_mt940(statement(line("5.00", TWO))))
    with connect(books) as connection:
        connection.execute("set session_replication_role = replica")  # no guards
        connection.execute(
            "update billing.ledger_line set amount = 70 where ledger_code = 'bank_clearing'"
        )
        connection.execute("update billing.ledger_line set amount = 6 where ledger_code = 'bank'")
        connection.execute(
            "update billing.bank_line set cleared_entry_id = (select min(entry_id)"
            " from billing.ledger_line where ledger_code = 'bank_clearing')"
        )
    with transaction(books) as session:
        wrong = reports.unbalanced(session)
    assert wrong["bank_and_statements"] == (6, 5)
    assert wrong["bank_in_transit"] == (70, 0)


def test_bank_statements_are_for_finance_at_headquarters(books: Settings) -> None:
    provincial = Principal("finance44", "finance44", "finance", "44")
    content: dict[str, Any] = {"file_name": "x", "content": GOOD_MT940}
    for who in (provincial, AGENT):
        with pytest.raises(Exception, match=r"headquarters|does not include"):
            bank.import_file(books, principal=who, **content)
