"""Security deposits: held and owed back, no revenue and no balance; applied before a write-off."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from psycopg import errors

from operational.accounts import (
    balance,
    bank,
    collection,
    notes,
    reports,
    security_deposits,
    service,
)
from operational.accounts.service import IdempotencyError
from operational.app import create_app
from operational.billing.models import Payment
from operational.billing.totals import _security
from operational.database import transaction
from operational.permissions import Principal
from operational.problems import ConflictError, ForbiddenError, InvalidRequestError, NotFoundError
from tests.operational.accounts_books import (
    ACCOUNTS,
    AGENT,
    FINANCE,
    SECOND,
    connect,
    issue,
    pay,
    read,
)  # fmt: skip
from tests.operational.test_operational_accounts import bean_check, journal_csv, money
from tollhouse.settings import Settings

ONE, TWO, THREE, _ = ACCOUNTS
NOV = date(2026, 11, 5)
DUE = date(2026, 11, 20)  # of October's bills
LATE = DUE + timedelta(days=1)
yuan = Decimal


def take(settings: Settings, account_id: str, amount: str, day: date = NOV, **more: Any) -> str:
    asked: dict[str, Any] = {
        "principal": FINANCE, "channel": "counter", "reason_code": "international_roaming",
        "idempotency_key": f"take {account_id} {amount} {day}",
    }  # fmt: skip
    taken = security_deposits.receive(
        settings, account_id=account_id, amount=yuan(amount), today=day, **(asked | more)
    )
    return taken.security_deposit_id


def give_back(settings: Settings, deposit_id: str, amount: str, day: date, **more: Any) -> str:
    asked: dict[str, Any] = {
        "principal": FINANCE, "channel": "bank", "reason_code": "no_longer_required",
        "idempotency_key": f"return {deposit_id} {amount} {day}",
    }  # fmt: skip
    given = security_deposits.give_back(
        settings, security_deposit_id=deposit_id, amount=yuan(amount), today=day, **(asked | more)
    )
    return given.security_return_id


def apply(
    settings: Settings, deposit_id: str, day: date, amount: str | None = None, **more: Any
) -> Payment:
    asked: dict[str, Any] = {"principal": FINANCE, "idempotency_key": f"apply {deposit_id} {day}"}
    return security_deposits.apply(
        settings, security_deposit_id=deposit_id, today=day,
        amount=None if amount is None else yuan(amount), **(asked | more),
    )  # fmt: skip


def held(settings: Settings, account_id: str = ONE) -> list[tuple[str, str, str, str]]:
    """Received, given back, applied and held of each deposit; the ledger must say the same."""
    with transaction(settings) as session:
        found = security_deposits.statement(session, principal=FINANCE, account_id=account_id)
        assert reports.unbalanced(session) == {}
        in_ledger, by_documents = _security(session, date(2099, 1, 1))
    assert in_ledger == by_documents == -read(settings).ledger.get("security_deposit", yuan(0))
    return [
        (str(one.deposit.amount), str(one.returned_amount), str(one.applied_amount),
         str(one.held_amount))
        for one in found
    ]  # fmt: skip


def test_a_security_deposit_is_a_liability_that_pays_no_bill_and_counts_in_no_balance(
    books: Settings,
) -> None:
    take(books, ONE, "500.00", subscription_id="S0000001")
    issue(books, "2026-10", {ONE: money(rent="76.00")})
    service.post(books, by_user="test", today=LATE)
    found = read(books)
    assert found.items == {f"2026-10-{ONE}/rent": yuan("76.00")}
    assert found.ledger == {
        "cash": yuan("500.00"), "security_deposit": yuan("-500.00"),
        "receivable": yuan("76.00"), "revenue": yuan("-76.00"),
    }  # fmt: skip
    with transaction(books) as session:
        view = service.account_statement(session, principal=FINANCE, account_id=ONE, today=LATE)
        prepaid = balance.prepaid_balance(session, principal=FINANCE, account_id=ONE, today=LATE)
        deferred = reports.deferred_revenue(session, principal=FINANCE, as_of=LATE)
    assert (view.owed_amount, view.overdue_amount) == (yuan("76.00"), yuan("76.00"))
    assert (view.deposit_amount, view.funds, view.payments) == (0, [], [])
    assert (prepaid.balance_amount, prepaid.movements, deferred) == (0, [], [])
    assert collection.dun(books, on_day=LATE, today=LATE, by_user="t").actions == {"remind": 1}
    with pytest.raises(ConflictError, match="deposits of 0"):
        service.refund(
            books, principal=FINANCE, account_id=ONE, amount=yuan(1), channel="bank",
            reason_code="customer_asks", idempotency_key="r",
        )  # fmt: skip
    with connect(books) as connection:
        rows = connection.execute("select * from billing.adjustment").fetchall()
    assert rows == []  # no bill says anything of it
    assert held(books) == [("500.00", "0.00", "0.00", "500.00")]


def test_it_is_given_back_in_parts_and_never_more_than_is_held(books: Settings) -> None:
    deposit_id = take(books, ONE, "500.00")
    first = give_back(books, deposit_id, "200.00", NOV)
    assert give_back(books, deposit_id, "200.00", NOV) == first  # asked again
    with pytest.raises(ConflictError, match=r"300\.00 CNY are held"):
        give_back(books, deposit_id, "300.01", NOV)
    give_back(books, deposit_id, "300.00", NOV)
    ledger = read(books).ledger
    assert (ledger["cash"], ledger["bank_clearing"], ledger["security_deposit"]) == (500, -500, 0)
    assert held(books) == [("500.00", "500.00", "0.00", "0.00")]
    with connect(books) as connection:
        actions = connection.execute(
            "select action, detail ->> 'amount' from identity.audit_log"
            " where entity_type = 'security_deposit' order by id"
        ).fetchall()
    assert actions == [
        ("take_security_deposit", "500.00"), ("return_security_deposit", "200.00"),
        ("return_security_deposit", "300.00"),
    ]  # fmt: skip


def test_in_arrears_it_is_given_back_only_with_a_reason_which_is_kept(books: Settings) -> None:
    issue(books, "2026-10", {ONE: money(rent="76.00")})
    deposit_id = take(books, ONE, "500.00")
    give_back(books, deposit_id, "1.00", DUE)  # owed, not overdue
    with pytest.raises(ConflictError, match=r"76\.00 CNY of account A0000001 are overdue"):
        give_back(books, deposit_id, "9.00", LATE)
    with pytest.raises(ConflictError, match="are overdue"):
        give_back(books, deposit_id, "9.00", LATE, override_reason="  ")
    give_back(books, deposit_id, "9.00", LATE, override_reason="ordered by a court")
    with connect(books) as connection:
        kept = connection.execute(
            "select amount, overdue_amount, override_reason from billing.security_return"
            " order by amount desc limit 1"
        ).fetchone()
    assert kept == (yuan("9.00"), yuan("76.00"), "ordered by a court")


def test_it_is_applied_to_what_is_overdue_and_to_nothing_else(books: Settings) -> None:
    issue(books, "2026-10", {ONE: money(rent="76.00", voice="10.00"), TWO: money(rent="5.00")})
    issue(books, "2026-11", {ONE: money(rent="76.00")})
    deposit_id = take(books, ONE, "500.00")
    with pytest.raises(ConflictError, match=r"0\.00 CNY of account A0000001 are overdue"):
        apply(books, deposit_id, DUE)
    with pytest.raises(ConflictError, match=r"86\.00 CNY"):
        apply(books, deposit_id, LATE, "86.01")
    first = apply(books, deposit_id, LATE, "30.00")
    assert apply(books, deposit_id, LATE, "30.00").payment_id == first.payment_id
    with pytest.raises(IdempotencyError):
        apply(books, deposit_id, LATE, "31.00")
    rest = apply(books, deposit_id, LATE, idempotency_key="the rest")
    assert (first.channel, first.amount, rest.amount) == ("security_deposit", 30, 56)
    found = read(books)
    open_items = {key: amount for key, amount in found.items.items() if amount}
    assert open_items == {f"2026-11-{ONE}/rent": 76, f"2026-10-{TWO}/rent": 5}
    assert held(books) == [("500.00", "0.00", "86.00", "414.00")]


def test_an_applied_deposit_that_is_reversed_is_held_again(books: Settings) -> None:
    issue(books, "2026-10", {ONE: money(rent="76.00")})
    deposit_id = take(books, ONE, "50.00")
    payment = apply(books, deposit_id, LATE)
    assert held(books) == [("50.00", "0.00", "50.00", "0.00")]
    service.reverse_payment(
        books, principal=FINANCE, payment_id=payment.payment_id, reason_code="entered_wrongly",
        today=LATE,
    )  # fmt: skip
    assert held(books) == [("50.00", "0.00", "0.00", "50.00")]
    assert read(books).items == {f"2026-10-{ONE}/rent": yuan("76.00")}
    apply(books, deposit_id, LATE, idempotency_key="again")
    assert held(books) == [("50.00", "0.00", "50.00", "0.00")]


def test_a_credit_on_what_a_deposit_paid_leaves_ordinary_money_of_the_customer(
    books: Settings,
) -> None:
    issue(books, "2026-10", {ONE: money(rent="76.00")})
    apply(books, take(books, ONE, "76.00"), LATE)
    notes.request_note(
        books, principal=FINANCE, note_id="N", note_type="credit", account_id=ONE,
        bill_id=f"2026-10-{ONE}", bill_item_code="rent", amount=yuan("20.00"),
        reason_code="wrong_tariff", explanation="x",
    )  # fmt: skip
    notes.decide_note(books, principal=SECOND, note_id="N", approve=True, today=LATE)
    assert read(books).ledger["deposit"] == yuan("-20.00")
    assert held(books) == [("76.00", "0.00", "76.00", "0.00")]


def through_dunning(settings: Settings, until: int = 365) -> list[collection.Dunned]:
    days = [DUE + timedelta(days=number) for number in (1, 7, 15, 30, 90, 365) if number <= until]
    return [collection.dun(settings, on_day=day, today=day, by_user="t") for day in days]


def applications_audited(books: Settings) -> list[tuple[Any, ...]]:
    with connect(books) as connection:
        return connection.execute(
            "select log.username, log.entity_id = pay.security_deposit_id, log.province_code,"
            " log.detail ->> 'amount', log.detail ->> 'reason', log.detail ->> 'account'"
            " from identity.audit_log as log"
            " join billing.payment as pay on pay.payment_id = log.detail ->> 'payment'"
            " where log.action = 'apply_security_deposit' order by log.detail ->> 'amount'"
        ).fetchall()


def test_before_a_write_off_deposits_are_applied_and_only_the_rest_is_lost(
    books: Settings,
) -> None:
    issue(books, "2026-10", {ONE: money(rent="76.00"), TWO: money(rent="40.00")})
    take(books, ONE, "20.00")
    take(books, ONE, "16.00", NOV + timedelta(days=1))
    take(books, TWO, "100.00")
    *_, before, last = through_dunning(books)
    assert (before.applied_amount, before.actions) == (0, {"terminate": 2})
    assert last.actions == {"write_off": 1}
    assert (last.applied_amount, last.written_off_amount) == (yuan("76.00"), yuan("40.00"))
    ledger = read(books).ledger
    assert (ledger["bad_debt"], ledger["receivable"]) == (yuan("40.00"), 0)
    assert held(books) == [("16.00", "0.00", "16.00", "0.00"), ("20.00", "0.00", "20.00", "0.00")]
    assert held(books, TWO) == [("100.00", "0.00", "40.00", "60.00")]
    with connect(books) as connection:
        outcomes = connection.execute(
            "select account_id, outcome from billing.dunning_case order by account_id"
        ).fetchall()
    assert outcomes == [(ONE, "written_off"), (TWO, "paid")]
    assert applications_audited(books) == [
        ("t", True, "44", amount, "international_roaming", account)
        for amount, account in (("16.00", ONE), ("20.00", ONE), ("40.00", TWO))
    ]
    again = DUE + timedelta(days=365)
    done = collection.dun(books, on_day=again, today=again, by_user="t")
    assert (done.actions, done.applied_amount, done.written_off_amount) == ({}, 0, 0)
    assert len(applications_audited(books)) == 3


def test_what_a_deposit_leaves_open_is_written_off_when_it_is_old_enough(books: Settings) -> None:
    issue(books, "2026-10", {ONE: money(rent="76.00")})
    issue(books, "2026-11", {ONE: money(rent="50.00")})
    take(books, ONE, "80.00")
    last = through_dunning(books)[-1]
    assert (last.actions, last.applied_amount) == ({}, yuan("80.00"))
    assert read(books).items[f"2026-11-{ONE}/rent"] == yuan("46.00")
    later = date(2026, 12, 20) + timedelta(days=365)
    done = collection.dun(books, on_day=later, today=later, by_user="t")
    assert (done.actions, done.written_off_amount) == ({"write_off": 1}, yuan("46.00"))


def test_the_journal_with_deposits_passes_bean_check(books: Settings, tmp_path: Path) -> None:
    issue(books, "2026-10", {ONE: money(rent="76.00"), THREE: money(rent="46.00")})
    deposit_id = take(books, ONE, "500.00")
    take(books, THREE, "9.00")
    apply(books, deposit_id, LATE)
    give_back(books, deposit_id, "100.00", LATE)
    path = tmp_path / "gl.beancount"
    with transaction(books) as session:
        rows = reports.journal(
            session, principal=FINANCE, first=date(2026, 10, 1), last=date(2026, 11, 30)
        )
        path.write_text(reports.journal_beancount(session, rows, title="test"), encoding="utf-8")
        trial = reports.trial_balance(
            session, principal=FINANCE, first=date(2026, 10, 1), last=date(2026, 11, 30)
        )
    done = bean_check(path)
    assert done.returncode == 0, done.stdout + done.stderr
    text = path.read_text(encoding="utf-8")
    assert "; 224101 押金 Security deposits" in text
    assert "Liabilities:SecurityDeposit:P44" in text
    (row,) = [one for one in trial if one.ledger_code == "security_deposit"]
    assert (row.debit_amount, row.credit_amount, row.closing_amount) == (176, 509, -333)
    exported = journal_csv(books, date(2026, 10, 1), date(2026, 11, 30))
    assert exported.count("224101,security_deposit") == 4
    # Nothing of it is income or tax: that is the bills' alone.
    income = {one.entry_type for one in rows if one.ledger_code in ("revenue", "tax_payable")}
    assert income == {"bill"}


def test_in_a_closed_month_it_is_posted_on_the_first_open_day(books: Settings) -> None:
    reports.close_period(books, principal=FINANCE, period_id="2026-10", today=NOV)
    take(books, ONE, "5.00", date(2026, 10, 30))
    with transaction(books) as session:
        assert _security(session, date(2026, 10, 31)) == (0, 0)
        assert _security(session, date(2026, 11, 1)) == (5, 5)


@pytest.mark.parametrize(
    ("act", "problem", "told"),
    [
        (lambda of: take(of, ONE, "0"), InvalidRequestError, "an amount is positive"),
        (lambda of: take(of, ONE, "5", channel="security_deposit"), InvalidRequestError,
         "there is no channel security_deposit"),
        (lambda of: take(of, ONE, "5", reason_code="goodwill"), InvalidRequestError,
         "credit, handset, international_roaming"),
        (lambda of: take(of, ONE, "5", subscription_id="S0000002"), InvalidRequestError,
         "has no subscription S0000002"),
        (lambda of: take(of, THREE, "5", principal=AGENT), NotFoundError, "no account"),
        (lambda of: give_back(of, take(of, ONE, "5"), "5", NOV, principal=AGENT), ForbiddenError,
         "security_deposit.return"),
        (lambda of: apply(of, take(of, ONE, "5"), NOV, principal=AGENT), ForbiddenError,
         "security_deposit.apply"),
        (lambda of: apply(of, take(of, ONE, "5"), NOV, principal=Principal(
            "f11", "f11", "finance", "11")), NotFoundError, "no security deposit"),
        (lambda of: pay(of, ONE, "5", NOV, channel="security_deposit"), InvalidRequestError,
         "agent, bank, card, counter, online"),
    ],
)  # fmt: skip
def test_what_is_no_security_deposit_is_refused(
    books: Settings, act: Callable[[Settings], Any], problem: type[Exception], told: str
) -> None:
    with pytest.raises(problem, match=told):
        act(books)


def test_a_key_used_for_another_deposit_is_refused(books: Settings) -> None:
    first = take(books, ONE, "5", idempotency_key="k")
    assert take(books, ONE, "5", idempotency_key="k") == first
    with pytest.raises(IdempotencyError, match="key k was used before"):
        take(books, ONE, "6", idempotency_key="k")
    assert read(books).ledger["cash"] == yuan("5.00")


def test_no_bank_line_returns_what_was_applied(books: Settings) -> None:
    issue(books, "2026-10", {ONE: money(rent="76.00")})
    payment = apply(books, take(books, ONE, "76.00"), LATE)
    with connect(books) as connection:
        connection.execute(
            "insert into billing.bank_file (bank_file_id, file_name, format, sha256, imported_by)"
            " values ('F', 'f', 'mt940', 'x', 't')"
        )
        connection.execute(
            "insert into billing.bank_statement (bank_statement_id, bank_file_id, bank_account,"
            " statement_reference, currency_code, opening_date, opening_amount, closing_date,"
            " closing_amount) values ('S', 'F', 'b', 'r', 'CNY', '2026-11-20', 0, '2026-11-20', 0)"
        )
        connection.execute(
            "insert into billing.bank_line (bank_line_id, bank_statement_id, line_number,"
            " booked_date, amount) values ('L', 'S', 1, '2026-11-21', -76)"
        )
    with pytest.raises(NotFoundError, match="no payment"):
        bank.match_to_return(
            books, principal=FINANCE, bank_line_id="L", payment_id=payment.payment_id
        )


@pytest.mark.parametrize("statement", [
    "update billing.security_deposit set amount = 1", "delete from billing.security_deposit",
    "truncate billing.security_deposit cascade", "update billing.security_return set amount = 1",
    "delete from billing.security_return", "truncate billing.security_return",
])  # fmt: skip
def test_what_was_received_and_given_back_cannot_be_changed_by_sql(
    books: Settings, statement: str
) -> None:
    give_back(books, take(books, ONE, "5"), "1", NOV)
    with connect(books) as connection, pytest.raises(errors.RestrictViolation):
        connection.execute(statement)


@pytest.mark.parametrize(
    ("entry_type", "other"),
    [("allocation", "cash"), ("payment", "revenue"), ("security_return", "bad_debt")],
)
def test_by_sql_too_a_security_deposit_pays_nothing_and_becomes_no_income(
    books: Settings, entry_type: str, other: str
) -> None:
    deposit_id = take(books, ONE, "5")
    with connect(books) as connection, pytest.raises(errors.RestrictViolation, match="security"):
        connection.execute(
            "with ent as (insert into billing.ledger_entry (entry_type, posted_date, account_id,"
            " province_code, idempotency_key, line_count, by_user) values (%s, '2026-11-05', %s,"
            " '44', 'x', 2, 'psql') returning entry_id)"
            " insert into billing.ledger_line (entry_id, line_number, ledger_code, fund_id, amount)"
            " select entry_id, lin.* from ent cross join (values (1, 'security_deposit', %s, 5),"
            " (2, %s, null, -5)) as lin",
            (entry_type, ONE, deposit_id, other),
        )


def test_rest_takes_applies_and_returns_a_security_deposit_once_by_its_key(
    books: Settings,
) -> None:
    rest = "/api/accounts/v1/securityDeposit"
    issue(books, "2024-01", {ONE: money(rent="30.00")})
    with TestClient(create_app(books)) as client:

        def send(path: str, key: str, **body: Any) -> Any:
            return client.post(
                path, json=body, auth=("admin", "a password of this test"),
                headers={"Idempotency-Key": key} if key else {},
            )  # fmt: skip

        body = {
            "account_id": ONE, "amount": "200.00", "channel": "online",
            "reason_code": "credit",
        }  # fmt: skip
        assert send(rest, "", **body).status_code == 400
        taken = send(rest, "sd/1", **body)
        assert (taken.status_code, send(rest, "sd/1", **body).json()) == (201, taken.json())
        assert send(rest, "sd/1", **(body | {"amount": "201.00"})).status_code == 409
        one = f"{rest}/{taken.json()['id']}"
        back = {"amount": "50.00", "channel": "bank", "reason_code": "customer_leaves"}
        refused = send(f"{one}/return", "sd/2", **back)
        assert (refused.status_code, "30.00 CNY" in refused.json()["detail"]) == (409, True)
        applied = send(f"{one}/application", "sd/3")
        assert applied.status_code == 201
        assert applied.json()["amount"]["value"] == "30.00"
        assert applied.json()["securityDepositId"] == taken.json()["id"]
        assert send(f"{one}/application", "sd/3").json() == applied.json()
        given = send(f"{one}/return", "sd/2", **back)
        assert (given.status_code, given.json()["overdue"]["value"]) == (201, "0.00")
        assert send(f"{rest}/SD-none/return", "sd/4", **back).status_code == 404
        found = client.get(
            f"/api/accounts/v1/account/{ONE}/securityDeposit",
            auth=("admin", "a password of this test"),
        ).json()
        assert [found[0][name]["value"] for name in ("amount", "applied", "returned", "held")] == [
            "200.00", "30.00", "50.00", "120.00",
        ]  # fmt: skip
        assert [move["type"] for move in found[0]["movement"]] == [
            "received", "applied", "returned",
        ]  # fmt: skip
