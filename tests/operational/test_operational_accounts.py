"""The receivables ledger: what is posted, what the database refuses, who is paid first."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import errors
from typer.testing import CliRunner, Result

from operational.accounts import collection, notes, reports, service, unbilled
from operational.accounts.service import IdempotencyError
from operational.accounts.unbilled import UnbilledItem
from operational.billing.service import advance_cycle
from operational.catalogue.authoring import BILL_ITEMS
from operational.database import transaction
from operational.permissions import Principal
from operational.problems import ConflictError, ForbiddenError, InvalidRequestError, NotFoundError
from tests.operational.accounts_books import (
    ACCOUNTS,
    AGENT,
    FINANCE,
    SECOND,
    clear,
    connect,
    issue,
    pay,
    read,
)  # fmt: skip
from tests.operational.accounts_books import (
    books as new_books,
)
from tollhouse.accounts_commands import app
from tollhouse.pipeline import run_step
from tollhouse.settings import Settings
from tollhouse.warehouse.reference import collected_items, tax_rate_on

ONE, TWO, THREE, _ = ACCOUNTS
NOV = date(2026, 11, 5)


def money(**amounts: str) -> dict[str, Decimal]:
    return {code: Decimal(amount) for code, amount in amounts.items()}


def open_items(settings: Settings) -> dict[str, str]:
    return {key: str(amount) for key, amount in read(settings).items.items()}


@pytest.fixture(scope="module")
def kept_books(books_host: Settings) -> Iterator[Settings]:
    """Books for tests that change nothing: a bill, a payment of more, a closed month."""
    with new_books(books_host) as settings:
        issue(settings, "2026-10", {ONE: money(rent="76.00")})
        pay(settings, ONE, "100.00", NOV)
        reports.close_period(settings, principal=FINANCE, period_id="2026-09", today=NOV)
        yield settings


ENTRY = (
    "insert into billing.ledger_entry (entry_type, posted_date, account_id, province_code,"
    " idempotency_key, line_count, by_user) values ('bank_line', {day}, null, '00', '{key}', {n},"
    " 'psql') returning entry_id"
)
LINE = (
    "insert into billing.ledger_line (entry_id, line_number, ledger_code, amount)"
    " values ((select entry_id from billing.ledger_entry where idempotency_key = '{key}'), {n},"
    " '{code}', {amount})"
)


@pytest.mark.parametrize(
    "statement",
    [
        "update billing.ledger_entry set posted_date = posted_date",
        "delete from billing.ledger_entry",
        "truncate billing.ledger_entry cascade",
        "update billing.ledger_line set amount = amount",
        "delete from billing.ledger_line",
        "truncate billing.ledger_line",
        "update billing.open_item set open_amount = 0",
        "update billing.open_item set due_date = due_date + 1",
        "delete from billing.open_item",
        "truncate billing.open_item cascade",
        "update billing.fund set balance_amount = 1",
        "delete from billing.fund",
        "insert into billing.fund (fund_id, account_id, province_code, kind, valid_from, amount,"
        " balance_amount) values ('f', 'A0000001', '44', 'deposit', '2026-01-01', 5, 5)",
        "update billing.late_fee_run set fee_amount = 0",
        "delete from billing.dunning_action",
        "update billing.bank_file set file_name = 'x'",
        "delete from billing.ledger_period",
    ],
)
def test_what_stands_in_the_books_cannot_be_changed_by_sql(
    kept_books: Settings, statement: str
) -> None:
    before = read(kept_books)
    with connect(kept_books) as connection, pytest.raises(errors.RestrictViolation):
        connection.execute(statement)
    assert read(kept_books) == before


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        ([ENTRY, LINE.replace("{n}", "1"), LINE.replace("{n}", "2").replace("{amount}", "-9.99")],
         "does not balance"),
        ([ENTRY, LINE.replace("{n}", "1")], "does not balance: 1 of 2 lines"),
        ([ENTRY], "does not balance: 0 of 2 lines"),
        # Checked early, and then one line more.
        ([ENTRY, LINE.replace("{n}", "1"), LINE.replace("{n}", "2").replace("{amount}", "-10"),
          "set constraints all immediate", LINE.replace("{n}", "3")], "does not belong"),
        ([ENTRY.replace("{day}", "'2026-09-30'")], "that month is closed"),
    ],
)  # fmt: skip
def test_an_entry_that_does_not_balance_is_not_kept(
    kept_books: Settings, statements: list[str], message: str
) -> None:
    before = read(kept_books)
    values = {"day": "'2026-11-05'", "key": "psql", "n": "2", "code": "cash", "amount": "10"}
    with pytest.raises(psycopg.DatabaseError, match=message), connect(kept_books) as connection:
        for statement in statements:
            connection.execute(statement.format_map(values))
    assert read(kept_books) == before


def test_a_line_cannot_be_added_to_an_entry_of_another_day(kept_books: Settings) -> None:
    with connect(kept_books) as connection, pytest.raises(errors.RestrictViolation, match="belong"):
        connection.execute(
            "insert into billing.ledger_line (entry_id, line_number, ledger_code, amount)"
            " select max(entry_id), 3, 'cash', 1 from billing.ledger_entry"
        )


def test_a_reversal_is_the_mirror_of_what_it_reverses(kept_books: Settings) -> None:
    refused = pytest.raises(errors.CheckViolation, match="not the mirror")
    with refused, connect(kept_books) as connection:
        (entry_id,) = connection.execute(
            "insert into billing.ledger_entry (entry_type, posted_date, account_id, province_code,"
            " idempotency_key, line_count, reverses_entry_id, reason_code, by_user)"
            " select 'reversal', '2026-11-06', account_id, province_code, 'wrong', 2, entry_id,"
            " 'entered_wrongly', 'psql' from billing.ledger_entry where entry_type = 'payment'"
            " returning entry_id"
        ).fetchone()  # type: ignore[misc]
        for number, code, amount in ((1, "cash", 9), (2, "bank", -9)):
            connection.execute(
                "insert into billing.ledger_line (entry_id, line_number, ledger_code, amount)"
                " values (%s, %s, %s, %s)",
                (entry_id, number, code, amount),
            )


def test_a_final_bill_is_posted_once(books: Settings) -> None:
    charges = {ONE: money(rent="76.00", voice="1.50"), TWO: money(rent="106.00")}
    issue(books, "2026-10", charges)
    before = read(books)
    assert before.ledger == {"receivable": Decimal("183.50"), "revenue": Decimal("-183.50")}
    issue(books, "2026-10", charges)  # published again as it is
    assert service.post(books, by_user="test").bills == 0
    assert read(books) == before


def test_revenue_is_posted_without_the_tax_within_it(books: Settings) -> None:
    issue(
        books, "2026-10", {ONE: money(rent="76.00", data="10.00", discount="-5.00")},
        taxes=money(rent="6.28", data="0.57", discount="-0.41"),
    )  # fmt: skip
    assert read(books).ledger == {
        "receivable": Decimal("81.00"), "revenue": Decimal("-74.56"),
        "tax_payable": Decimal("-6.44"),
    }  # fmt: skip
    assert sum(Decimal(amount) for amount in open_items(books).values()) == Decimal("81.00")


def test_a_bill_published_on_trial_is_owed_when_it_is_published_again(books: Settings) -> None:
    charges = {ONE: money(rent="76.00")}
    issue(books, "2026-10", charges, is_final=False)
    assert service.post(books, by_user="test").bills == 0
    for state in ("approved", "final"):
        advance_cycle(books, "2026-10", state, "test", "test")
    assert service.post(books, by_user="test").bills == 0
    assert read(books).items == {}
    issue(books, "2026-10", charges)
    assert open_items(books) == {f"2026-10-{ONE}/rent": "76.00"}


def test_money_pays_the_oldest_bill_first_and_within_it_by_priority(books: Settings) -> None:
    issue(books, "2026-09", {ONE: money(data="5.00", rent="10.00", voice="3.00")})
    issue(books, "2026-10", {ONE: money(rent="10.00")})
    pay(books, ONE, "12.00", NOV)
    assert open_items(books) == {
        f"2026-09-{ONE}/rent": "0.00", f"2026-09-{ONE}/voice": "1.00",
        f"2026-09-{ONE}/data": "5.00", f"2026-10-{ONE}/rent": "10.00",
    }  # fmt: skip


def test_what_is_paid_too_much_is_a_deposit_that_pays_the_next_bill(books: Settings) -> None:
    pay(books, ONE, "100.00", date(2026, 10, 3))
    issue(books, "2026-10", {ONE: money(rent="76.00")})
    service.post(books, by_user="test", today=NOV)
    assert open_items(books) == {f"2026-10-{ONE}/rent": "0.00"}
    with transaction(books) as session:
        statement = service.account_statement(session, principal=FINANCE, account_id=ONE, today=NOV)
    assert (statement.owed_amount, statement.deposit_amount) == (0, Decimal("24.00"))


def test_bonus_money_pays_only_its_items_and_only_until_its_last_day(books: Settings) -> None:
    issue(books, "2026-10", {ONE: money(rent="76.00", data="8.00")})
    service.grant_bonus(
        books, principal=FINANCE, account_id=ONE, amount=Decimal("20.00"), reason_code="campaign",
        idempotency_key="b", valid_to=NOV, bill_item_codes=["data"], today=NOV,
    )  # fmt: skip
    assert open_items(books) == {f"2026-10-{ONE}/rent": "76.00", f"2026-10-{ONE}/data": "0.00"}
    with pytest.raises(ConflictError, match="deposits of 0"):
        service.refund(
            books, principal=FINANCE, account_id=ONE, amount=Decimal("1.00"), channel="counter",
            reason_code="customer_asks", idempotency_key="r", today=NOV,
        )  # fmt: skip
    assert service.post(books, by_user="test", today=NOV).expired_bonuses == 0
    assert service.post(books, by_user="test", today=NOV + timedelta(days=1)).expired_bonuses == 1
    ledger = read(books).ledger
    assert (ledger["bonus"], ledger["bonus_granted"]) == (0, Decimal("8.00"))


def test_credits_on_a_bill_cover_its_own_items_and_the_rest_is_a_deposit(books: Settings) -> None:
    issue(
        books, "2026-10",
        {ONE: money(rent="10.00", voice="3.00", discount="-4.00"),
         TWO: money(rent="10.00", discount="-12.50")},
    )  # fmt: skip
    found = read(books)
    assert found.items == {
        f"2026-10-{ONE}/rent": Decimal("6.00"), f"2026-10-{ONE}/voice": Decimal("3.00"),
    }  # fmt: skip
    assert found.funds == {f"bill:2026-10-{TWO}": Decimal("2.50")}
    assert found.ledger["revenue"] == Decimal("-6.50")


def test_a_bounced_cheque_is_owed_again_and_the_same_asked_twice_is_done_once(
    books: Settings,
) -> None:
    issue(books, "2026-10", {ONE: money(rent="76.00")})
    before = open_items(books)
    payment_id = pay(books, ONE, "80.00", NOV)
    asked: dict[str, Any] = {
        "principal": FINANCE, "payment_id": payment_id, "reason_code": "cheque_bounced",
        "today": NOV,
    }  # fmt: skip
    first = service.reverse_payment(books, **asked)
    assert service.reverse_payment(books, **asked).payment_id == first.payment_id
    assert open_items(books) == before
    assert read(books).ledger["cash"] == 0
    with connect(books) as connection:
        amounts = connection.execute("select sum(amount) from billing.payment").fetchone()
    assert amounts == (0,)  # what the warehouse bills from


def test_a_payment_that_was_given_back_in_part_is_not_reversed(books: Settings) -> None:
    payment_id = pay(books, ONE, "80.00", NOV)
    service.refund(
        books, principal=FINANCE, account_id=ONE, amount=Decimal("30.00"), channel="counter",
        reason_code="customer_asks", idempotency_key="r", today=NOV,
    )  # fmt: skip
    before = read(books)
    with pytest.raises(ConflictError, match=r"30.00 CNY of payment"):
        service.reverse_payment(
            books, principal=FINANCE, payment_id=payment_id, reason_code="cheque_bounced"
        )
    assert read(books) == before


def test_a_key_used_for_something_else_is_refused(books: Settings) -> None:
    pay(books, ONE, "80.00", NOV, idempotency_key="till-1")
    for account_id, amount in ((ONE, "80.01"), (TWO, "80.00")):
        with pytest.raises(IdempotencyError, match="till-1"):
            pay(books, account_id, amount, NOV, idempotency_key="till-1")


def at_once(actions: list[Callable[[], Any]]) -> list[Any]:
    """Run actions in threads that start together; what each returned or raised."""
    barrier = threading.Barrier(len(actions))
    outcomes: list[Any] = [None] * len(actions)

    def run(number: int, action: Callable[[], Any]) -> None:
        barrier.wait(timeout=30)
        try:
            outcomes[number] = action()
        except Exception as error:  # the test looks at it
            outcomes[number] = error

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(actions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return outcomes


def test_two_payments_at_once_with_the_same_key_are_one(books: Settings) -> None:
    issue(books, "2026-10", {ONE: money(rent="76.00")})
    found = at_once(
        [lambda: pay(books, ONE, "50.00", NOV, idempotency_key="same") for _ in range(4)]
    )
    assert len(set(found)) == 1
    assert open_items(books) == {f"2026-10-{ONE}/rent": "26.00"}
    assert read(books).ledger["cash"] == Decimal("50.00")


def test_payments_and_refunds_at_once_lose_nothing(books: Settings) -> None:
    issue(books, "2026-10", {ONE: money(rent="76.00"), TWO: money(rent="76.00")})

    def give_back() -> Any:
        return service.refund(
            books, principal=FINANCE, account_id=ONE, amount=Decimal("20.00"), channel="counter",
            reason_code="customer_asks", idempotency_key="r", today=NOV,
        )  # fmt: skip

    outcomes = at_once(
        [
            *(lambda: pay(books, ONE, "30.00", NOV) for _ in range(4)), give_back,
            lambda: service.post(books, by_user="test", today=NOV),
            lambda: pay(books, TWO, "80.00", NOV),
        ]
    )  # fmt: skip
    assert not [one for one in outcomes if isinstance(one, psycopg.Error)]
    refunded = not isinstance(outcomes[4], ConflictError)
    assert open_items(books) == {f"2026-10-{ONE}/rent": "0.00", f"2026-10-{TWO}/rent": "0.00"}
    deposits = Decimal("48.00") - (Decimal("20.00") if refunded else 0)
    assert -read(books).ledger["deposit"] == deposits
    with transaction(books) as session:
        assert reports.unbalanced(session) == {}


def test_a_note_needs_two_people_a_reason_and_a_final_bill(books: Settings) -> None:
    issue(books, "2026-10", {ONE: money(rent="76.00")})
    asked: dict[str, Any] = {
        "principal": FINANCE, "note_id": "n1", "note_type": "credit", "account_id": ONE,
        "bill_id": f"2026-10-{ONE}", "bill_item_code": "rent", "amount": Decimal("6.00"),
        "reason_code": "wrong_tariff", "explanation": "x",
    }  # fmt: skip
    for change, error in (
        ({"reason_code": "equipment"}, InvalidRequestError),
        ({"bill_id": None}, InvalidRequestError),
        ({"bill_item_code": "voice"}, InvalidRequestError),
        ({"explanation": " "}, InvalidRequestError),
        ({"account_id": TWO}, NotFoundError),
        ({"amount": Decimal("6.001")}, InvalidRequestError),
    ):  # fmt: skip
        with pytest.raises(error):
            notes.request_note(books, **asked | change)
    notes.request_note(books, **asked)
    with pytest.raises(ConflictError, match="another person"):
        notes.decide_note(books, principal=FINANCE, note_id="n1", approve=True, today=NOV)
    with pytest.raises(ForbiddenError):
        notes.decide_note(books, principal=AGENT, note_id="n1", approve=True, today=NOV)
    with connect(books) as connection, pytest.raises(errors.CheckViolation):
        connection.execute(
            "update billing.adjustment_note set state = 'approved', decided_by = requested_by"
        )
    assert open_items(books) == {f"2026-10-{ONE}/rent": "76.00"}
    done = notes.decide_note(books, principal=SECOND, note_id="n1", approve=True, today=NOV)
    assert (done.state, open_items(books)) == ("posted", {f"2026-10-{ONE}/rent": "70.00"})
    with pytest.raises(ConflictError, match="decided"):
        notes.decide_note(books, principal=SECOND, note_id="n1", approve=True, today=NOV)
    issue(books, "2026-11", {ONE: money(rent="76.00")}, is_final=False)
    with pytest.raises(ConflictError, match="not final"):
        notes.request_note(books, **asked | {"note_id": "n2", "bill_id": f"2026-11-{ONE}"})


def test_a_credit_on_a_paid_item_goes_back_to_where_the_money_came_from(books: Settings) -> None:
    issue(books, "2026-10", {ONE: money(rent="76.00", data="8.00")})
    service.grant_bonus(
        books, principal=FINANCE, account_id=ONE, amount=Decimal("8.00"), reason_code="campaign",
        idempotency_key="b", bill_item_codes=["data"], today=NOV,
    )  # fmt: skip
    pay(books, ONE, "76.00", NOV)
    notes.request_note(
        books, principal=FINANCE, note_id="n", note_type="credit", account_id=ONE,
        bill_id=f"2026-10-{ONE}", bill_item_code="data", amount=Decimal("5.00"),
        reason_code="wrong_tariff", explanation="x",
    )  # fmt: skip
    notes.decide_note(books, principal=SECOND, note_id="n", approve=True, today=NOV)
    found = read(books)
    assert found.funds["bonus:b"] == Decimal("5.00")
    assert (found.ledger["deposit"], found.ledger["receivable"]) == (0, 0)


def test_ageing_is_as_the_ledger_was_on_the_day(books: Settings) -> None:
    for cycle_id in ("2026-01", "2026-06", "2026-08", "2026-09", "2026-10"):
        issue(books, cycle_id, {ONE: money(rent="10.00")})
    issue(books, "2026-11", {ONE: money(rent="10.00"), THREE: money(rent="7.00")})
    as_of = date(2026, 12, 1)

    def aged(who: Principal = FINANCE) -> list[tuple[str, list[str]]]:
        with transaction(books) as session:
            rows = reports.ageing(session, principal=who, as_of=as_of)
        return [(row.key, [str(amount) for amount in row.amounts.values()]) for row in rows]

    # Due on the 20th: of 2026-11 not yet; 2026-10 for 11 days, 2026-09 42, 2026-08 72, 06 134.
    guangdong = ("44", ["10.00", "10.00", "10.00", "10.00", "10.00", "10.00"])
    assert aged() == [("11", ["7.00", *["0"] * 5]), guangdong]
    assert aged(AGENT) == [guangdong]
    pay(books, ONE, "60.00", as_of + timedelta(days=1))
    assert aged() == [("11", ["7.00", *["0"] * 5]), guangdong]


@pytest.mark.parametrize("ran_before", [True, False])
def test_late_fees_of_days_that_were_missed_are_charged_on_what_was_open_then(
    books: Settings, ran_before: bool
) -> None:
    issue(books, "2026-10", {ONE: money(rent="100.00", voice="50.00")})  # due 2026-11-20
    day = date(2026, 11, 20)
    today = date(2026, 11, 24)
    if ran_before:
        assert collection.run_late_fees(books, through=day, today=today, by_user="t").documents == 0
    pay(books, ONE, "100.00", date(2026, 11, 23))
    done = collection.run_late_fees(books, through=today, today=today, by_user="t")
    # 21st and 22nd 3‰ of 150.00, 23rd (paid by its end) and 24th of 50.00.
    assert (done.days, done.documents, done.amount) == (4, 4, Decimal("1.20"))
    assert collection.run_late_fees(books, through=today, today=today, by_user="t").days == 0
    with pytest.raises(InvalidRequestError, match="future"):
        collection.run_late_fees(
            books, through=today + timedelta(days=1), today=today, by_user="t"
        )  # fmt: skip


def test_the_steps_of_every_day_charge_up_to_yesterday_and_done_twice_change_nothing(
    books: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = ("post_accounts", "late_fees", "dun")
    today = service.local_today(books)
    monkeypatch.setattr(service, "local_today", lambda _: today)  # midnight may pass meanwhile
    yesterday = today - timedelta(days=1)
    first = {step: run_step(step, books) for step in steps}
    assert first["late_fees"]["days"] == 1
    with connect(books) as connection:
        (charged,) = connection.execute("select max(fee_date) from billing.late_fee_run").fetchone()
    assert charged == yesterday
    again = {step: run_step(step, books) for step in steps}
    for step, counts in again.items():
        assert {Decimal(count) for count in counts.values()} == {0}, step


def test_late_fees_never_exceed_the_principal(books: Settings) -> None:
    with connect(books) as connection:
        connection.execute(
            "insert into billing.accounts_parameter (name, valid_from, value)"
            " values ('late_fee_rate_per_day', '2026-11-01', 0.4)"
        )
    issue(books, "2026-10", {ONE: money(rent="10.00")})
    day = date(2026, 11, 20)
    collection.run_late_fees(books, through=day, today=NOV.replace(year=2027), by_user="t")
    collection.run_late_fees(
        books, through=day + timedelta(days=9), today=NOV.replace(year=2027), by_user="t"
    )
    with connect(books) as connection:
        fees = connection.execute("select fee_amount from billing.late_fee order by fee_date")
        assert [str(fee) for (fee,) in fees] == ["4.00", "4.00", "2.00"]


def test_who_pays_is_restored_and_what_was_not_sent_is_cancelled(books: Settings) -> None:
    issue(books, "2026-10", {ONE: money(rent="76.00"), THREE: money(rent="76.00")})
    days = [date(2026, 11, 21), date(2026, 11, 27), date(2026, 12, 5), date(2026, 12, 20)]
    today = days[-1]
    taken = [collection.dun(books, on_day=day, today=today, by_user="t").actions for day in days]
    assert taken == [{"remind": 2}, {"remind": 2}, {"bar_outgoing": 2}, {"bar_all": 2}]
    with transaction(books) as session:
        orders = collection.service_orders(session, principal=FINANCE)
    assert [order.action for order in orders] == ["bar_outgoing"] * 2 + ["bar_all"] * 2
    operator = Principal("operator", "operator", "operator", "00")
    for state in ("sent", "completed"):
        collection.move_service_order(
            books, principal=operator, service_order_id=orders[0].service_order_id, to_state=state
        )
    with pytest.raises(ConflictError, match="may go to"):
        collection.move_service_order(
            books, principal=operator, service_order_id=orders[1].service_order_id,
            to_state="completed",
        )  # fmt: skip
    for account_id in (ONE, THREE):
        pay(books, account_id, "76.00", today)
    with connect(books) as connection:
        found = connection.execute(
            "select account_id, action, state from billing.service_order"
            " order by account_id, service_order_id"
        ).fetchall()
    assert found == [
        (ONE, "bar_outgoing", "completed"), (ONE, "bar_all", "cancelled"),
        (ONE, "restore", "requested"),
        (THREE, "bar_outgoing", "cancelled"), (THREE, "bar_all", "cancelled"),
    ]  # fmt: skip


def test_what_is_written_off_is_bad_debt_until_it_is_paid_after_all(books: Settings) -> None:
    issue(books, "2026-10", {ONE: money(rent="76.00")})
    first = date(2026, 11, 21)
    for days in (0, 6, 14, 29, 90, 365):
        day = first + timedelta(days=days)
        done = collection.dun(books, on_day=day, today=day, by_user="t")
    assert (done.actions, done.written_off_amount) == ({"write_off": 1}, Decimal("76.00"))
    assert read(books).ledger["bad_debt"] == Decimal("76.00")
    pay(books, ONE, "76.00", day)
    assert -read(books).ledger["deposit"] == Decimal("76.00")
    with connect(books) as connection:
        (entry_id,) = connection.execute(
            "select entry_id from billing.ledger_entry where entry_type = 'write_off'"
        ).fetchone()  # type: ignore[misc]
    collection.reverse_write_off(books, principal=FINANCE, entry_id=entry_id, today=day)
    ledger = read(books).ledger
    assert (ledger["bad_debt"], ledger["receivable"], ledger["deposit"]) == (0, 0, 0)
    with pytest.raises(ConflictError, match="reversed already"):
        collection.reverse_write_off(books, principal=FINANCE, entry_id=entry_id, today=day)


def test_what_comes_late_for_a_closed_month_is_posted_on_the_first_open_day(
    books: Settings,
) -> None:
    issue(books, "2026-09", {ONE: money(rent="76.00")})
    with pytest.raises(ConflictError, match="has not ended"):
        reports.close_period(books, principal=FINANCE, period_id="2026-11", today=NOV)
    before = journal_csv(books, date(2026, 9, 1), date(2026, 10, 31))
    reports.close_period(books, principal=FINANCE, period_id="2026-10", today=NOV)
    pay(books, ONE, "76.00", date(2026, 10, 30))
    assert journal_csv(books, date(2026, 9, 1), date(2026, 10, 31)) == before
    with connect(books) as connection:
        days = connection.execute(
            "select distinct posted_date from billing.ledger_entry where entry_type <> 'bill'"
        ).fetchall()
    assert days == [(date(2026, 11, 1),)]


def busy(settings: Settings) -> None:
    """A month with some of everything."""
    issue(
        settings, "2026-10",
        {ONE: money(rent="76.00", voice="12.30", discount="-5.00"), THREE: money(rent="46.00")},
    )  # fmt: skip
    payment_id = pay(settings, ONE, "100.00", date(2026, 10, 9))
    service.grant_bonus(
        settings, principal=FINANCE, account_id=THREE, amount=Decimal("30.00"), today=NOV,
        reason_code="goodwill", idempotency_key="b",
    )  # fmt: skip
    service.reverse_payment(
        settings, principal=FINANCE, payment_id=payment_id, reason_code="cheque_bounced", today=NOV
    )
    collection.run_late_fees(
        settings, through=date(2026, 11, 25), today=date(2026, 11, 25), by_user="t"
    )


def journal_csv(settings: Settings, first: date, last: date) -> str:
    with transaction(settings) as session:
        return reports.journal_csv(
            reports.journal(session, principal=FINANCE, first=first, last=last)
        )


def bean_check(path: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "bean-check"), str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_exported_journal_passes_bean_check_and_a_lost_line_does_not(
    books: Settings, tmp_path: Path
) -> None:
    busy(books)
    path = tmp_path / "gl.beancount"
    with transaction(books) as session:
        rows = reports.journal(
            session, principal=FINANCE, first=date(2026, 10, 1), last=date(2026, 11, 30),
            unbilled={("44", "data"): Decimal("3.21")},
        )  # fmt: skip
        path.write_text(reports.journal_beancount(session, rows, title="test"), encoding="utf-8")
    done = bean_check(path)
    assert done.returncode == 0, done.stdout + done.stderr
    text = path.read_text(encoding="utf-8")
    assert text.count(" * ") >= 6
    posting = next(line for line in text.splitlines() if line.startswith("  Assets:Receivable"))
    path.write_text(text.replace(f"{posting}\n", "", 1), encoding="utf-8")
    assert bean_check(path).returncode != 0


def test_the_csv_balances_by_day_kind_and_province(books: Settings) -> None:
    busy(books)
    sums: dict[tuple[str, ...], Decimal] = defaultdict(Decimal)
    total = Decimal(0)
    text = journal_csv(books, date(2026, 10, 1), date(2026, 11, 30))
    for row in csv.DictReader(io.StringIO(text)):
        debit, credit = Decimal(row["debit_amount"]), Decimal(row["credit_amount"])
        sums[row["posted_date"], row["entry_type"], row["province_code"]] += debit - credit
        total += debit
    assert len(sums) > 6
    assert set(sums.values()) == {Decimal(0)}
    with connect(books) as connection:
        posted = connection.execute(
            "select sum(amount) from billing.ledger_line where amount > 0"
        ).fetchone()
    assert posted == (total,)


def test_unbilled_revenue_is_accrued_on_the_last_day_and_taken_back_on_the_next_first(
    books: Settings,
) -> None:
    accrued = {("44", "data"): Decimal("3.21")}
    with transaction(books) as session:
        one = reports.journal(
            session, principal=FINANCE, first=date(2026, 10, 1), last=date(2026, 10, 31),
            unbilled=accrued,
        )  # fmt: skip
        two = reports.journal(
            session, principal=FINANCE, first=date(2026, 11, 1), last=date(2026, 11, 30),
            unbilled_before=accrued,
        )  # fmt: skip
    assert {row.posted_date for row in one} == {date(2026, 10, 31)}
    assert {row.posted_date for row in two} == {date(2026, 11, 1)}
    net: dict[str, Decimal] = defaultdict(Decimal)
    for row in (*one, *two):
        net[row.ledger_code] += row.debit_amount - row.credit_amount
    assert net == {"unbilled_receivable": 0, "revenue": 0}


@pytest.fixture
def running(books: Settings, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Books with October's cycle open: what the warehouse has of its running bills, by item."""
    with connect(books) as connection:
        connection.execute(
            "insert into billing.billing_cycle (cycle_id, starts_at, ends_at) values"
            " ('2026-10', '2026-10-01 00:00+08', '2026-11-01 00:00+08')"
        )
    held = {"rent": "30.00", "data": "3.21"}
    monkeypatch.setattr(
        unbilled, "_read", lambda settings, cycle_ids: [
            UnbilledItem("44", code, Decimal(amount), Decimal(amount))
            for code, amount in held.items()
        ],
    )  # fmt: skip
    return held


def exported(settings: Settings, month: int, *more: str) -> tuple[list[dict[str, str]], Result]:
    """The lines of accruals in a month's export of 2026, and what the command answered."""
    days = ["--from", f"2026-{month}-01", "--to", f"2026-{month}-{30 if month == 11 else 31}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tollhouse.accounts_commands.read_settings", lambda: settings)
        result = CliRunner().invoke(app, ["gl-export", *days, *more])
    assert result.exit_code == 0, result.output
    rows = csv.DictReader(io.StringIO(result.stdout)) if not more else ()
    return [row for row in rows if row["entry_type"].startswith("unbilled")], result


def revenue_of(rows: list[dict[str, str]]) -> dict[tuple[str, str], str]:
    return {
        (row["posted_date"], row["bill_item_code"]): str(
            Decimal(row["credit_amount"]) - Decimal(row["debit_amount"])
        )
        for row in rows if row["ledger_code"] == "revenue"
    }  # fmt: skip


def test_an_export_accrues_what_open_cycles_hold_and_takes_back_what_was_accrued(
    books: Settings, running: dict[str, str], tmp_path: Path
) -> None:
    october, result = exported(books, 10)
    assert revenue_of(october) == {("2026-10-31", "rent"): "30.00", ("2026-10-31", "data"): "3.21"}
    assert result.stderr == ""
    # Not closed, not final: taken back on 1 November, accrued again on 30 November.
    assert revenue_of(exported(books, 11)[0]) == {
        ("2026-11-01", "rent"): "-30.00", ("2026-11-01", "data"): "-3.21",
        ("2026-11-30", "rent"): "30.00", ("2026-11-30", "data"): "3.21",
    }  # fmt: skip
    assert exported(books, 8)[0] == []  # no cycle had begun
    path = tmp_path / "gl.beancount"
    exported(books, 11, "--format", "beancount", "--output", str(path))
    assert bean_check(path).returncode == 0
    found = json.loads(exported(books, 10, "--json")[1].stdout)
    assert found["unbilled"] == {"day": "2026-10-31", "amount": "33.21", "problem": None}
    assert found["debit"] == found["credit"]


def test_what_a_closed_month_accrued_stays_and_is_what_the_next_takes_back(
    books: Settings, running: dict[str, str]
) -> None:
    reports.close_period(books, principal=FINANCE, period_id="2026-10", today=NOV)
    running["rent"] = "31.00"  # late usage, and the cycle goes on
    assert revenue_of(exported(books, 10)[0]) == {
        ("2026-10-31", "rent"): "30.00",
        ("2026-10-31", "data"): "3.21",
    }
    november = {("2026-11-01", "rent"): "-30.00", ("2026-11-01", "data"): "-3.21"}
    assert revenue_of(exported(books, 11)[0]) == november | {
        ("2026-11-30", "rent"): "31.00",
        ("2026-11-30", "data"): "3.21",
    }
    with connect(books) as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("update billing.billing_cycle set state = 'final'")
    assert revenue_of(exported(books, 11)[0]) == november  # billed in November: nothing to accrue
    for statement in (
        "update billing.unbilled_revenue set amount = 1", "delete from billing.unbilled_revenue",
        "insert into billing.unbilled_revenue (period_id, province_code, bill_item_code, amount)"
        " values ('2026-10', '44', 'voice', 1)",
    ):  # fmt: skip
        with connect(books) as connection, pytest.raises(errors.RestrictViolation):
            connection.execute(statement)


def test_an_export_says_what_the_warehouse_cannot_and_the_month_is_not_closed(
    books: Settings, running: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    rows, result = exported(books, 10)
    assert rows == []
    assert "未出帐收入" in result.stderr
    assert "the unbilled revenue at the end of 2026-10-31" in result.stderr
    found = json.loads(exported(books, 10, "--json")[1].stdout)
    assert found["unbilled"]["amount"] is None
    assert "cannot say" in found["unbilled"]["problem"]
    assert found["unbilled_before"] == {"day": "2026-09-30", "amount": "0", "problem": None}
    with pytest.raises(ConflictError, match="cannot say the unbilled revenue"):
        reports.close_period(books, principal=FINANCE, period_id="2026-10", today=NOV)


def test_restating_a_cycle_with_nothing_to_restate_says_so(
    books: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tollhouse.accounts_commands.read_settings", lambda: books)
    monkeypatch.setattr("tollhouse.restatement.restate", lambda settings, principal, cycle_id: [])
    result = CliRunner().invoke(app, ["restate", "2026-10"])
    assert result.exit_code == 0, result.output
    assert "2026-10 没有需要重出的内容" in result.stdout
    assert "There is nothing to restate in 2026-10" in result.stdout


def test_trial_balance_and_revenue_are_the_ledgers(books: Settings) -> None:
    busy(books)
    first, last = date(2026, 11, 1), date(2026, 11, 30)
    with transaction(books) as session:
        rows = reports.trial_balance(session, principal=FINANCE, first=first, last=last)
        provinces = [
            reports.trial_balance(
                session, principal=Principal("f", "f", "finance", code), first=first, last=last
            )
            for code in ("11", "44", "51")
        ]
        income = reports.revenue(session, principal=FINANCE, first=date(2026, 10, 1), last=last)
    ledger = read(books).ledger
    assert {row.ledger_code: row.closing_amount for row in rows if row.closing_amount} == {
        code: amount for code, amount in ledger.items() if amount
    }
    for row in rows:
        moved = row.opening_amount + row.debit_amount - row.credit_amount
        assert moved == row.closing_amount
    for number, row in enumerate(rows):
        assert row.closing_amount == sum(one[number].closing_amount for one in provinces)
    posted = {(row.period_id, row.province_code, row.bill_item_code): row.amount for row in income}
    assert posted == {
        ("2026-10", "11", "rent"): Decimal("46.00"), ("2026-10", "44", "rent"): Decimal("76.00"),
        ("2026-10", "44", "voice"): Decimal("12.30"),
        ("2026-10", "44", "discount"): Decimal("-5.00"),
        ("2026-11", "11", "late_fee"): Decimal("0.25"),  # five days
        ("2026-11", "44", "late_fee"): Decimal("1.25"),
    }  # fmt: skip


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    gross=st.integers(1, 5_000), tax=st.integers(0, 400),
    notes_=st.lists(st.tuples(st.booleans(), st.integers(1, 2_000)), max_size=6),
)  # fmt: skip
def test_notes_take_back_the_tax_that_was_in_what_they_credit(
    books: Settings, gross: int, tax: int, notes_: list[tuple[bool, int]]
) -> None:
    clear(books)
    tax = min(tax, gross)
    issue(
        books, "2026-10", {ONE: {"voice": fen(gross), "rent": fen(777)}},
        taxes={"voice": fen(tax), "rent": fen(64)},
    )  # fmt: skip
    billed, credited, number = gross, 0, 0
    for is_credit, amount in [*notes_, (True, gross * 100)]:
        asked = min(amount, billed - credited) if is_credit else amount
        if not asked:
            continue
        number += 1
        notes.request_note(
            books, principal=FINANCE, note_id=f"tax-{number}", account_id=ONE,
            note_type="credit" if is_credit else "debit", bill_id=f"2026-10-{ONE}",
            bill_item_code="voice", amount=fen(asked), explanation="test",
            reason_code="wrong_tariff" if is_credit else "missed_charge",
        )  # fmt: skip
        notes.decide_note(books, principal=SECOND, note_id=f"tax-{number}", approve=True, today=NOV)
        if is_credit:
            credited += asked
        else:
            billed += asked
        still = fen(billed - credited)
        income, payable = _income_and_tax(books)
        assert income + payable == still
        # of what is left as much is tax as was of the item, but for half a fen each way
        assert abs(payable - still * tax / gross) <= Decimal("0.01")
    if credited == billed:
        assert _income_and_tax(books) == (0, 0)


def fen(number: int) -> Decimal:
    return Decimal(number).scaleb(-2)


def _income_and_tax(books: Settings) -> tuple[Decimal, Decimal]:
    """What is posted for voice as revenue and as tax."""
    with connect(books) as connection:
        sums = dict(
            connection.execute(
                "select ledger_code, -sum(amount) from billing.ledger_line"
                " where bill_item_code = 'voice' and ledger_code in ('revenue', 'tax_payable')"
                " group by ledger_code"
            ).fetchall()
        )
    return sums.get("revenue", Decimal(0)), sums.get("tax_payable", Decimal(0))


def debit(books: Settings, code: str, amount: str, day: date, **more: Any) -> None:
    note_id = f"missed-{code}-{day}"
    notes.request_note(
        books, principal=FINANCE, note_id=note_id, account_id=TWO, note_type="debit",
        bill_item_code=code, amount=Decimal(amount), explanation="test",
        reason_code="missed_charge", **more,
    )  # fmt: skip
    notes.decide_note(books, principal=SECOND, note_id=note_id, approve=True, today=day)


@pytest.mark.parametrize(
    ("code", "amount", "day", "tax"),
    [
        ("voice", "1.09", NOV, "0.09"),  # 9 percent of the net
        ("data", "1.06", NOV, "0.06"),  # value-added: 6 percent
        ("voice", "1.11", date(2015, 1, 1), "0.11"),
        ("voice", "1.00", date(2014, 5, 31), "0.03"),  # 3 percent of the gross
        ("late_fee", "1.00", NOV, "0"),
        ("collection", "1.00", NOV, "0"),  # money of others
    ],
)
def test_a_missed_charge_that_no_bill_has_is_taxed_at_the_rate_of_its_day(
    books: Settings, code: str, amount: str, day: date, tax: str
) -> None:
    debit(books, code, amount, day)
    assert -read(books).ledger.get("tax_payable", Decimal(0)) == Decimal(tax)


def test_a_missed_charge_without_a_tax_rate_is_not_posted(
    books: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notes, "tax_rate_on", lambda code, day: None)
    with pytest.raises(ConflictError, match=f"no tax rate of voice on {NOV}"):
        debit(books, "voice", "1.00", NOV)
    assert read(books).ledger == {}


def test_every_bill_item_of_a_tariff_has_a_tax_rate() -> None:
    assert [code for code in BILL_ITEMS if tax_rate_on(code, NOV) is None] == []


@pytest.mark.parametrize("code", ["nonsense", "tax", "voice ", "VOICE"])
def test_what_is_no_bill_item_is_neither_charged_nor_paid_for(books: Settings, code: str) -> None:
    with pytest.raises(InvalidRequestError, match="no bill item"):
        debit(books, code, "1.00", NOV)
    with pytest.raises(InvalidRequestError, match="no bill item"):
        service.grant_bonus(
            books, principal=FINANCE, account_id=TWO, amount=Decimal(1), reason_code="campaign",
            idempotency_key="b", bill_item_codes=["data", code], today=NOV,
        )  # fmt: skip
    assert read(books).ledger == {}


# --- collected for others -------------------------------------------------------------------------


def collected(settings: Settings, *codes: str) -> list[Decimal]:
    """What stands in ledger accounts; credits are positive."""
    ledger = read(settings).ledger
    return [-ledger.get(code, Decimal(0)) for code in codes]


def test_what_is_collected_for_others_is_owed_to_them_and_no_revenue(
    books: Settings, tmp_path: Path
) -> None:
    issue(
        books, "2026-10", {ONE: money(rent="76.00", collection="30.00")},
        taxes={"rent": Decimal("6.28")},
    )  # fmt: skip
    ours = ("revenue", "tax_payable", "collected_for_others")
    assert collected(books, *ours) == [Decimal("69.72"), Decimal("6.28"), 30]
    credit = {"account_id": ONE, "bill_id": f"2026-10-{ONE}", "bill_item_code": "collection"}
    for note_id, note_type, amount in (("c", "credit", "10.00"), ("d", "debit", "4.00")):
        notes.request_note(
            books, principal=FINANCE, note_id=note_id, note_type=note_type, amount=Decimal(amount),
            reason_code="wrong_tariff" if note_type == "credit" else "missed_charge",
            explanation="test", **credit,
        )  # fmt: skip
        notes.decide_note(books, principal=SECOND, note_id=note_id, approve=True, today=NOV)
    assert collected(books, *ours, "receivable") == [Decimal("69.72"), Decimal("6.28"), 24, -100]
    pay(books, ONE, "100.00", NOV)
    assert collected(books, "collected_for_others", "receivable", "cash") == [24, 0, -100]
    days: dict[str, Any] = {"first": date(2026, 10, 1), "last": date(2026, 11, 30)}
    path = tmp_path / "gl.beancount"
    with transaction(books) as session:
        rows = reports.revenue(session, principal=FINANCE, **days)
        lines = reports.journal(session, principal=FINANCE, **days)
        path.write_text(reports.journal_beancount(session, lines, title="test"))
        assert reports.unbalanced(session) == {}
    assert [(row.bill_item_code, row.amount) for row in rows] == [("rent", Decimal("69.72"))]
    assert {(row.account_number, row.ledger_code) for row in lines if row.bill_item_code ==
            "collection" and row.ledger_code != "receivable"} == {
        ("224102", "collected_for_others")
    }  # fmt: skip
    assert "Liabilities:CollectedForOthers:P44" in path.read_text()
    checked = bean_check(path)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("paid", ["0", "80.00", "106.00"])
def test_what_was_not_collected_is_not_owed_to_others(books: Settings, paid: str) -> None:
    issue(books, "2026-10", {ONE: money(rent="76.00", collection="30.00")})
    if paid != "0":
        pay(books, ONE, paid, NOV)
    day = date(2028, 1, 1)
    for _ in range(6):
        collection.dun(books, on_day=day, today=day, by_user="t")
        day += timedelta(days=1)
    came = Decimal(paid)
    loss = max(76 - came, Decimal(0))  # rent is paid first
    assert collected(books, "revenue", "bad_debt", "receivable") == [76, -loss, 0]
    assert collected(books, "collected_for_others") == [max(came - 76, Decimal(0))]
    with connect(books) as connection:
        gone = connection.execute(
            "select entry_id from billing.ledger_entry where entry_type = 'write_off'"
        ).fetchall()
    for (entry_id,) in gone:
        collection.reverse_write_off(books, principal=FINANCE, entry_id=entry_id, today=day)
    assert collected(books, "bad_debt", "collected_for_others") == [0, 30]
    assert collected(books, "receivable") == [came - 106]


def test_what_is_collected_for_others_is_not_accrued() -> None:
    items = [
        UnbilledItem("44", "rent", Decimal("10.0"), Decimal("9.17")),
        UnbilledItem("44", "collection", Decimal("5.0"), Decimal("5.00")),
    ]
    assert unbilled.net_amounts(items) == {("44", "rent"): Decimal("9.17")}
    assert unbilled.collected_amount(items) == Decimal("5.00")


def test_the_ledger_and_the_warehouse_collect_the_same_items_for_others(books: Settings) -> None:
    with connect(books) as connection:
        rows = connection.execute(
            "select bill_item_code from billing.item_rule where ledger_code = %s",
            ("collected_for_others",),
        ).fetchall()
    assert {code for (code,) in rows} == collected_items() == {"collection"}
