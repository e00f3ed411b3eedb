"""Prepaid balances: charges in any order and pieces, killed or repeated, leave the same balance."""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from operational.accounts import balance, collection, notes, prepaid, reports, service
from operational.accounts.balance import PrepaidBalance
from operational.billing.service import ensure_cycle
from operational.database import transaction
from tests.operational.accounts_books import (
    ACCOUNTS,
    FINANCE,
    SECOND,
    clear,
    connect,
    issue,
    noon,
    pay,
    read,
)  # fmt: skip
from tollhouse.settings import Settings

A, B = ACCOUNTS[:2]
CYCLE = "2026-01"
DAY = date(2026, 1, 10)
ZERO = Decimal(0)
Charges = dict[tuple[str, str], Decimal]  # (account, bill item) → yuan
_keys = count(1)


@pytest.fixture
def prepaid_books(books: Settings) -> Settings:
    """Books whose accounts A and B have a prepaid line, in an open cycle."""
    make_prepaid(books, "S0000001", "S0000002")
    return books


def make_prepaid(books: Settings, *subscriptions: str) -> None:
    with connect(books) as connection:
        connection.execute(
            "update crm.subscription set payment_type = 'prepaid' where subscription_id = any(%s)",
            (list(subscriptions),),
        )
    ensure_cycle(books, CYCLE, books.timezone)


def deduct(books: Settings, charges: Charges, day: date = DAY) -> prepaid.Deducted:
    """Deduct as the pipeline does when the warehouse shows these charges."""
    rows = [
        {"account_id": account, "cycle_id": CYCLE, "bill_item_code": code, "amount": amount}
        for (account, code), amount in charges.items()
    ]
    schema = pa.schema(
        [(name, pa.string()) for name in ("account_id", "cycle_id", "bill_item_code")]
        + [("amount", pa.decimal128(18, 2))]
    )
    return prepaid.deduct(
        books, charges=pa.Table.from_pylist(rows, schema), by_user="test", today=day
    )


def yuan(text: str) -> Decimal:
    return Decimal(text)


def grant(books: Settings, account_id: str, amount: str, **more: Any) -> None:
    service.grant_bonus(
        books, principal=FINANCE, account_id=account_id, amount=Decimal(amount),
        reason_code="campaign", idempotency_key=f"prepaid-{next(_keys)}", today=DAY, **more,
    )  # fmt: skip


def balance_of(books: Settings, account_id: str, day: date = DAY) -> PrepaidBalance:
    with transaction(books) as session:
        return balance.prepaid_balance(session, principal=FINANCE, account_id=account_id, today=day)


def orders(books: Settings, account_id: str) -> list[tuple[str, str]]:
    with connect(books) as connection:
        return connection.execute(
            "select action, state from billing.service_order where account_id = %s"
            " order by service_order_id",
            (account_id,),
        ).fetchall()


def notices(books: Settings, account_id: str) -> list[tuple[str, Decimal]]:
    with connect(books) as connection:
        return connection.execute(
            "select kind, balance_amount from billing.balance_notice"
            " join billing.balance_case using (balance_case_id) where account_id = %s"
            " order by balance_notice.created_at, kind",
            (account_id,),
        ).fetchall()


def check_books(books: Settings) -> None:
    with transaction(books) as session:
        assert reports.unbalanced(session) == {}
    assert sum(read(books).ledger.values(), ZERO) == 0


FEN = st.integers(1, 3_000).map(lambda fen: Decimal(fen).scaleb(-2))
CODES = ("voice", "data", "rent")
SHOWN = st.dictionaries(st.tuples(st.sampled_from((A, B)), st.sampled_from(CODES)), FEN, max_size=5)
STEP = st.one_of(
    SHOWN.map(lambda shown: ("charge", shown)),
    SHOWN.map(lambda shown: ("killed", shown)),
    st.tuples(st.just("pay"), st.sampled_from((A, B)), FEN),
    st.tuples(st.just("grant"), st.sampled_from((A, B)), FEN, st.none() | st.sampled_from(CODES)),
    st.tuples(st.just("bounce")),
    st.tuples(st.just("again")),
)


class KilledError(RuntimeError):
    """The process ends in the middle of its transaction."""


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEP, min_size=3, max_size=9), last=SHOWN)
def test_any_way_to_the_same_charges_leaves_money_in_less_charges(
    prepaid_books: Settings, steps: list[Any], last: Charges
) -> None:
    books = prepaid_books
    clear(books)
    make_prepaid(books, "S0000001", "S0000002")
    money: dict[str, Decimal] = defaultdict(Decimal)
    payments: list[tuple[str, str, Decimal]] = []
    shown: Charges = {}
    for step in [*steps, ("charge", last), ("again",)]:
        match step:
            case ("charge", charges):
                shown = charges
                deduct(books, shown)
            case ("killed", charges):
                die_while_deducting(books, charges)
            case ("again",):
                done = deduct(books, shown)
                assert (done.accounts, done.deducted_amount, done.notices) == (0, 0, 0)
            case ("pay", account, amount):
                payments.append((account, pay(books, account, str(amount), DAY), amount))
                money[account] += amount
            case ("grant", account, amount, code):
                grant(books, account, str(amount), bill_item_codes=code and [code])
                money[account] += amount
            case ("bounce",) if payments:
                account, payment, amount = payments.pop(0)
                service.reverse_payment(
                    books, principal=FINANCE, payment_id=payment, reason_code="cheque_bounced",
                    today=DAY,
                )  # fmt: skip
                money[account] -= amount
        check_books(books)
        for account in (A, B):
            found = balance_of(books, account)
            charged = sum((sum_ for (who, _), sum_ in shown.items() if who == account), ZERO)
            assert found.balance_amount + found.restricted_amount == money[account] - charged
            deducted = {row.bill_item_code: row.amount for row in found.deducted if row.amount}
            assert deducted == {code: sum_ for (who, code), sum_ in shown.items() if who == account}
            movements = sum((row.amount for row in found.movements), ZERO)
            assert movements == money[account] - charged


def die_while_deducting(books: Settings, charges: Charges) -> None:
    """Deduct, and end before the last statement: nothing may be left of it."""
    watch = balance.watch

    def die(*_: Any, **__: Any) -> Any:
        raise KilledError

    balance.watch = die
    try:
        with pytest.raises(KilledError):
            deduct(books, charges)
    finally:
        balance.watch = watch


def test_bonus_money_pays_what_it_may_before_the_deposit(prepaid_books: Settings) -> None:
    pay(prepaid_books, A, "20", DAY)
    grant(prepaid_books, A, "5", bill_item_codes=["voice"])
    deduct(prepaid_books, {(A, "voice"): yuan("3.20"), (A, "data"): yuan("4.00")})
    found = balance_of(prepaid_books, A)
    assert (found.balance_amount, found.restricted_amount) == (yuan("16.00"), yuan("1.80"))
    deduct(prepaid_books, {(A, "voice"): yuan("6.00"), (A, "data"): yuan("4.00")})
    found = balance_of(prepaid_books, A)
    assert (found.balance_amount, found.restricted_amount) == (yuan("15.00"), ZERO)


def test_rating_again_gives_money_back_to_where_it_came_from(prepaid_books: Settings) -> None:
    pay(prepaid_books, A, "20", DAY)
    grant(prepaid_books, A, "5", valid_to=DAY, bill_item_codes=["voice"])
    deduct(prepaid_books, {(A, "voice"): yuan("7.00")})
    assert balance_of(prepaid_books, A).balance_amount == yuan("18.00")
    # the bonus is over by now: what it paid in time stays paid by it
    later = DAY + timedelta(days=1)
    deduct(prepaid_books, {(A, "voice"): yuan("6.00")}, later)
    found = balance_of(prepaid_books, A, later)
    assert found.balance_amount == yuan("19.00")
    with connect(prepaid_books) as connection:
        assert connection.execute(
            "select sequence, amount, total_amount, reason_code from billing.deduction"
            " order by sequence"
        ).fetchall() == [
            (1, yuan("7.00"), yuan("7.00"), "charges_rose"),
            (2, yuan("-1.00"), yuan("6.00"), "charges_fell"),
        ]


def test_charges_below_zero_are_money_of_the_account(prepaid_books: Settings) -> None:
    deduct(prepaid_books, {(A, "rent"): yuan("4.00")})
    assert balance_of(prepaid_books, A).balance_amount == yuan("-4.00")
    deduct(prepaid_books, {(A, "rent"): yuan("-2.50")})
    assert balance_of(prepaid_books, A).balance_amount == yuan("2.50")
    deduct(prepaid_books, {(A, "rent"): yuan("1.00")})
    assert balance_of(prepaid_books, A).balance_amount == yuan("-1.00")
    check_books(prepaid_books)


def test_minimum_consumption_is_deducted_when_the_cycle_has_ended(prepaid_books: Settings) -> None:
    pay(prepaid_books, A, "50", DAY)
    charges = {(A, "voice"): yuan("3.00"), (A, "minimum"): yuan("7.00")}
    deduct(prepaid_books, charges)
    assert balance_of(prepaid_books, A).balance_amount == yuan("47.00")
    with connect(prepaid_books) as connection:
        connection.execute(
            "update billing.billing_cycle set state = 'cut_off' where cycle_id = %s", (CYCLE,)
        )
    deduct(prepaid_books, charges)
    assert balance_of(prepaid_books, A).balance_amount == yuan("40.00")


def test_a_final_bill_takes_what_is_deducted_and_claims_the_rest(prepaid_books: Settings) -> None:
    pay(prepaid_books, A, "50", DAY)
    deduct(prepaid_books, {(A, "voice"): yuan("3.00"), (A, "data"): yuan("9.00")})
    # the last charges of the month came after the last deduction, and data was rated again
    issue(
        prepaid_books, CYCLE, {A: {"voice": yuan("3.50"), "data": yuan("8.00")}},
        taxes={"voice": yuan("0.29"), "data": yuan("0.45")},
    )  # fmt: skip
    service.post(prepaid_books, by_user="test", today=date(2026, 2, 1))
    found = read(prepaid_books)
    assert found.ledger["revenue"] == yuan("-10.76")
    assert found.ledger["tax_payable"] == yuan("-0.74")
    assert found.ledger["prepaid_deducted"] == 0
    assert found.ledger["receivable"] == 0
    assert not [key for key in found.items if not key.startswith("deduction:")]
    assert balance_of(prepaid_books, A).balance_amount == yuan("38.50")
    assert all(row.is_billed for row in balance_of(prepaid_books, A).deducted)
    check_books(prepaid_books)
    # what is billed stays, whatever the warehouse says afterwards
    done = deduct(prepaid_books, {}, date(2026, 2, 2))
    assert done.accounts == 0
    assert balance_of(prepaid_books, A).balance_amount == yuan("38.50")


def test_deductions_of_an_account_without_a_final_bill_are_given_back(
    prepaid_books: Settings,
) -> None:
    pay(prepaid_books, B, "50", DAY)
    deduct(prepaid_books, {(B, "voice"): yuan("3.00")})
    issue(prepaid_books, CYCLE, {A: {"voice": yuan("3.50")}})
    assert balance_of(prepaid_books, B).balance_amount == yuan("50.00")
    assert balance_of(prepaid_books, A).balance_amount == yuan("-3.50")
    check_books(prepaid_books)


def test_a_credit_note_on_a_prepaid_bill_goes_back_to_the_balance(prepaid_books: Settings) -> None:
    pay(prepaid_books, A, "50", DAY)
    deduct(prepaid_books, {(A, "voice"): yuan("3.00")})
    issue(prepaid_books, CYCLE, {A: {"voice": yuan("3.00")}})
    notes.request_note(
        prepaid_books, principal=FINANCE, note_id="N-prepaid", account_id=A, note_type="credit",
        bill_id=f"{CYCLE}-{A}", bill_item_code="voice", amount=yuan("1.00"),
        reason_code="disputed_usage", explanation="test",
    )  # fmt: skip
    notes.decide_note(
        prepaid_books, principal=SECOND, note_id="N-prepaid", approve=True,
        today=date(2026, 2, 5),
    )  # fmt: skip
    assert balance_of(prepaid_books, A).balance_amount == yuan("48.00")
    check_books(prepaid_books)


def test_a_low_balance_is_told_an_empty_one_barred_and_a_top_up_restores(
    prepaid_books: Settings,
) -> None:
    books = prepaid_books
    pay(books, A, "30", DAY)
    deduct(books, {(A, "data"): yuan("19.99")})
    assert (notices(books, A), orders(books, A)) == ([], [])
    deduct(books, {(A, "data"): yuan("20.00")})
    assert notices(books, A) == [("low", yuan("10.00"))]
    assert orders(books, A) == []
    assert balance_of(books, A).standing == "low"
    deduct(books, {(A, "data"): yuan("30.00")})
    deduct(books, {(A, "data"): yuan("31.00")})
    assert notices(books, A) == [("low", yuan("10.00")), ("barred", yuan("0.00"))]
    assert orders(books, A) == [("bar_outgoing", "requested")]
    with connect(books) as connection:
        connection.execute("update billing.service_order set state = 'sent'")
    pay(books, A, "1.00", DAY)  # just covers what is owed: still nothing to use
    assert balance_of(books, A).standing == "barred"
    pay(books, A, "30.00", DAY)
    assert orders(books, A) == [("bar_outgoing", "sent"), ("restore", "requested")]
    assert notices(books, A)[-1] == ("restored", yuan("30.00"))
    assert balance_of(books, A).standing == "enough"


def test_a_top_up_before_the_order_was_sent_cancels_it(prepaid_books: Settings) -> None:
    deduct(prepaid_books, {(A, "data"): yuan("1.00")})
    assert orders(prepaid_books, A) == [("bar_outgoing", "requested")]
    pay(prepaid_books, A, "100", DAY)
    assert orders(prepaid_books, A) == [("bar_outgoing", "cancelled")]


def test_a_negative_balance_is_barred_and_neither_dunned_nor_charged_late_fees(
    prepaid_books: Settings,
) -> None:
    deduct(prepaid_books, {(A, "data"): yuan("80.00")})
    much_later = DAY + timedelta(days=400)
    collection.run_late_fees(prepaid_books, through=DAY, today=much_later, by_user="test")
    done = collection.dun(prepaid_books, on_day=much_later, today=much_later, by_user="test")
    assert (done.actions, done.orders, done.written_off_amount) == ({}, 0, 0)
    assert read(prepaid_books).ledger.get("late_fee_income", ZERO) == 0


def test_the_table_of_deductions_takes_no_total_that_is_not_the_sum(
    prepaid_books: Settings,
) -> None:
    deduct(prepaid_books, {(A, "data"): yuan("1.00")})
    with (
        pytest.raises(psycopg.errors.CheckViolation, match="not the sum of deductions"),
        connect(prepaid_books) as connection,
    ):
        connection.execute(
            "insert into billing.deduction select account_id, cycle_id, 2, bill_item_code,"
            " province_code, 1, 3, reason_code, entry_id from billing.deduction"
        )


def test_a_top_up_that_was_loaded_pays_before_anybody_is_barred(prepaid_books: Settings) -> None:
    with connect(prepaid_books) as connection:
        connection.execute(
            "insert into billing.payment (payment_id, account_id, paid_at, amount, currency_code,"
            " channel, idempotency_key, province_code) values ('loaded', %s, %s, 30, 'CNY', 'bank',"
            " 'loaded', '44')",
            (A, noon(DAY)),
        )
    deduct(prepaid_books, {(A, "data"): yuan("7.00")})
    assert balance_of(prepaid_books, A).balance_amount == yuan("23.00")
    assert (notices(prepaid_books, A), orders(prepaid_books, A)) == ([], [])


def test_two_runs_at_once_deduct_once(prepaid_books: Settings) -> None:
    charges = {(A, "data"): yuan("7.00"), (B, "voice"): yuan("2.00")}
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: deduct(prepaid_books, charges), range(4)))
    assert sorted(one.accounts for one in done) == [0, 0, 0, 2]
    assert balance_of(prepaid_books, A).balance_amount == yuan("-7.00")
