"""Billing cycles, and publishing bills and scores."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from psycopg import errors
from typer.testing import CliRunner, Result

from operational.accounts.service import take_payment
from operational.billing import totals
from operational.billing.service import (
    FinalCycleError,
    PublishError,
    PublishResult,
    TransitionError,
    advance_cycle,
    cycle_bounds,
    decide_cycle,
    ensure_cycle,
    publish_bills,
)  # fmt: skip
from operational.crm.service import publish_scores
from operational.permissions import Principal
from operational.problems import ConflictError, ForbiddenError, InvalidRequestError
from tests.operational.accounts_books import MOVEMENTS
from tollhouse.cli import app
from tollhouse.settings import Settings

FINANCE = Principal("finance", "finance", "finance", "00")
_years = count(2050)


@pytest.fixture
def cycle_id(operational: Settings) -> Iterator[str]:
    """A new cycle in state trial."""
    name = f"{next(_years)}-02"
    ensure_cycle(operational, name, "Asia/Shanghai")
    for state in ("cut_off", "trial"):
        advance_cycle(operational, name, state, "test", "test")
    yield name


def named(settings: Settings, cycle_id: str) -> Settings:
    """Settings that name the cycle, as those of a simulated carrier do: it counts as over."""
    return settings.model_copy(update={"cycle": cycle_id})


def finish(settings: Settings, cycle_id: str) -> None:
    for state in ("approved", "final"):
        advance_cycle(settings, cycle_id, state, "test", "test")


def bills(cycle_id: str, rent: str = "76.00", accounts: int = 3) -> tuple[pa.Table, ...]:
    """Bills of some accounts: rent, and 1.50 of voice; dm's further columns come along."""
    heads, items = [], []
    for number in range(1, accounts + 1):
        bill_id = f"B-{cycle_id}-{number}"
        amount = Decimal(rent) if number == 2 else Decimal("76.00")
        heads.append(
            {
                "bill_id": bill_id, "account_id": f"A{number:07d}", "customer_id": "not published",
                "cycle_id": cycle_id, "province_code": "44", "opening_amount": Decimal("-40.00"),
                "item_amount": amount + Decimal("9.50"), "discount_amount": Decimal("8.00"),
                "shared_amount": Decimal("0.00"), "tax_amount": Decimal("6.40"),
                "charge_amount": amount + Decimal("1.50"), "payment_amount": Decimal("0.00"),
                "adjustment_amount": Decimal("0.00"),
                "closing_amount": amount + Decimal("-38.50"), "currency_code": "CNY",
                "content_hash": f"{number}-{amount}",
            }
        )  # fmt: skip
        for code, quantity, value, kind in (
            ("rent", "1", amount + Decimal("8.00"), "charge"),
            ("rent", None, Decimal("-8.00"), "discount"),
            ("voice", "600", Decimal("1.50"), "charge"),
        ):
            items.append(
                {
                    "bill_item_key": f"{bill_id}-{code}-{kind}",
                    "bill_id": bill_id, "subscription_id": f"S{number:07d}",
                    "bill_item_code": code, "name_zh": code, "name_en": code,
                    "item_kind": kind, "discount_id": "off" if kind == "discount" else None,
                    "other_account_id": None,
                    "quantity": None if quantity is None else Decimal(quantity),
                    "unit": "month", "amount": value,
                    "base_amount": value + 100 if kind == "discount" else None,
                    "tax_class": "basic", "tax_rate_percent": Decimal("9.0000"),
                    "tax_amount": Decimal("0.00"),
                }
            )  # fmt: skip
    return pa.Table.from_pylist(heads), pa.Table.from_pylist(items), MOVEMENTS.empty_table()


def stored(psql: Any, cycle_id: str) -> list[tuple[Any, ...]]:
    with psql() as connection:
        rows: list[tuple[Any, ...]] = connection.execute(
            "select bil.bill_id, bil.closing_amount, bil.content_hash, bil.published_at,"
            " itm.bill_item_code, itm.amount from billing.bill as bil"
            " join billing.bill_item as itm on itm.bill_id = bil.bill_id"
            " where bil.cycle_id = %s order by 1, 5",
            (cycle_id,),
        ).fetchall()
    return rows


def test_the_command_shows_the_bill_of_the_cycle_that_is_asked_for_or_the_newest(
    operational: Settings,
    psql: Any,
    cycle_id: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    later = f"{cycle_id[:4]}-03"
    ensure_cycle(operational, later, "Asia/Shanghai")
    for state in ("cut_off", "trial"):
        advance_cycle(operational, later, state, "test", "test")
    for cycle, rent in ((cycle_id, "10.00"), (later, "20.00")):
        publish_bills(operational, *bills(cycle, rent))
    monkeypatch.setattr("tollhouse.bill_commands.read_settings", lambda: operational)

    def answered(*options: str) -> Result:
        return CliRunner().invoke(app, ["bill", "A0000002", *options])

    def shown(*options: str) -> tuple[str, str]:
        bill = json.loads(answered("--json", *options).stdout)
        return bill["bill_id"], bill["charge_amount"]

    assert shown("--cycle", cycle_id) == (f"B-{cycle_id}-2", "11.50")
    assert shown("--cycle", later) == (f"B-{later}-2", "21.50")
    assert shown() == shown("--cycle", later)
    for cycle in (cycle_id, later):
        page = answered("--format", "html", "--cycle", cycle)
        assert f"B-{cycle}-2" in page.stdout
    for options in ((), ("--json",)):
        file = tmp_path / "written"
        written = answered(*options, "--output", str(file))
        assert (written.exit_code, written.stdout) == (0, "")
        content = file.read_text(encoding="utf-8")
        assert f"B-{later}-2" in content
        assert "21.50" in content
        file.unlink()
    for refusal in (
        ("--json", "--format", "html"),
        ("--usage",),
        ("--usage", "--json"),
        ("--usage", "--format", "ubl"),
        ("--format", "csv"),
    ):
        assert answered(*refusal).exit_code == 2
    refused = answered("--cycle", "2049-12")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "A0000002 has no published bill of 2049-12" in refused.stderr
    refused = answered("--cycle", "2026-13")
    assert refused.exit_code == 2
    assert "2026-13 is not a month like 2026-10" in refused.stderr


def test_a_bill_is_written_in_the_language_that_its_account_asked_for(
    operational: Settings, psql: Any, cycle_id: str, browser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_bills(operational, *bills(cycle_id, "10.00"))
    monkeypatch.setattr("tollhouse.bill_commands.read_settings", lambda: operational)
    bill = f"B-{cycle_id}-2"
    titles = {"zh": "电信业务帐单", "en": "<h1>Bill"}
    wording = {"zh": "应缴金额", "en": "Amount due"}

    def speak(language: str) -> None:
        with psql() as connection:
            connection.execute(
                "update crm.account set bill_language = %s where account_id = 'A0000002'",
                (language,),
            )

    def written(*options: str) -> str:
        command = ["bill", "A0000002", "--cycle", cycle_id, "--format", "html", *options]
        return CliRunner().invoke(app, command).stdout

    def invoice(*options: str) -> str:
        command = ["bill", "A0000002", "--cycle", cycle_id, "--format", "ubl", *options]
        return CliRunner().invoke(app, command).stdout

    try:
        for language, other in (("en", "zh"), ("zh", "en")):
            speak(language)
            reader = browser("admin", other)  # who reads the page in another language
            assert titles[language] in written()
            assert titles[other] in written("--lang", other)
            assert wording[language] in invoice()
            document = f"/bills/{bill}/document.html"
            assert titles[language] in reader.get(document).text
            assert titles[other] in reader.get(document, params={"lang": other}).text
            assert reader.get(document, params={"lang": "fr"}).status_code == 422
    finally:
        speak("zh")


def test_a_cycle_is_a_calendar_month_in_civil_time() -> None:
    starts_at, ends_at = cycle_bounds("2026-12", "Asia/Shanghai")
    assert starts_at.astimezone(UTC) == datetime(2026, 11, 30, 16, tzinfo=UTC)
    assert ends_at.astimezone(UTC) == datetime(2026, 12, 31, 16, tzinfo=UTC)


def test_opening_a_cycle_again_keeps_its_state(operational: Settings, cycle_id: str) -> None:
    assert ensure_cycle(operational, cycle_id, "Asia/Shanghai").state == "trial"


def test_a_cycle_advances_by_the_table_and_each_step_is_noted(
    operational: Settings, psql: Any, cycle_id: str
) -> None:
    with pytest.raises(TransitionError, match="may go to approved, cut off, not to final"):
        advance_cycle(operational, cycle_id, "final", "test", "too early")
    advance_cycle(operational, cycle_id, "cut_off", "test", "again")
    advance_cycle(operational, cycle_id, "cut_off", "test", "asked twice")
    with psql() as connection:
        steps = connection.execute(
            "select to_state, reason from billing.billing_cycle_event where cycle_id = %s"
            " order by event_id",
            (cycle_id,),
        ).fetchall()
    assert [state for state, _ in steps] == ["open", "cut_off", "trial", "cut_off"]
    assert steps[-1][1] == "again"


def test_only_finance_at_headquarters_decides_on_a_cycle_and_with_a_reason(
    operational: Settings, cycle_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {"cycle_id": cycle_id, "to_state": "approved"}
    with pytest.raises(ForbiddenError):
        agent = Principal("agent44", "agent44", "agent", "44")
        decide_cycle(operational, principal=agent, reason="because", **asked)
    with pytest.raises(ConflictError, match="headquarters"):
        provincial = Principal("finance44", "finance44", "finance", "44")
        decide_cycle(operational, principal=provincial, reason="because", **asked)
    with pytest.raises(InvalidRequestError, match="reason"):
        decide_cycle(operational, principal=FINANCE, reason="  ", **asked)
    with pytest.raises(ConflictError, match=f"{cycle_id} lasts until .*-02-2[89]"):
        decide_cycle(operational, principal=FINANCE, reason="ok", **asked)
    simulated = named(operational, cycle_id)
    with pytest.raises(ConflictError, match="warehouse cannot be read"):  # there is none here
        decide_cycle(simulated, principal=FINANCE, reason="ok", **asked)
    monkeypatch.setattr(totals, "require_tied", lambda settings, cycle_id: None)
    assert decide_cycle(simulated, principal=FINANCE, reason="ok", **asked).state == "approved"


def test_publishing_twice_changes_nothing(operational: Settings, psql: Any, cycle_id: str) -> None:
    assert publish_bills(operational, *bills(cycle_id)) == PublishResult(3, 9, 0)
    before = stored(psql, cycle_id)
    assert publish_bills(operational, *bills(cycle_id)) == PublishResult(0, 0, 3)
    assert stored(psql, cycle_id) == before


def test_bills_of_a_cycle_on_trial_are_replaced_whole(
    operational: Settings, psql: Any, cycle_id: str
) -> None:
    publish_bills(operational, *bills(cycle_id))
    assert publish_bills(operational, *bills(cycle_id, "80.00", accounts=2)).bills_written == 2
    rows = stored(psql, cycle_id)
    assert {row[0] for row in rows} == {f"B-{cycle_id}-1", f"B-{cycle_id}-2"}
    assert (f"B-{cycle_id}-2", Decimal("88.00")) in [(row[0], row[5]) for row in rows]


def test_bills_on_trial_are_shown_owed_by_nobody_and_taken_back_when_the_cycle_is_final(
    operational: Settings, psql: Any, cycle_id: str, browser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def posted() -> int:
        with psql() as connection:
            (count,) = connection.execute(
                "select count(*) from billing.ledger_entry where bill_id like %s",
                (f"B-{cycle_id}-%",),
            ).fetchone()
        return int(count)

    client = browser("finance", "en")
    assert "The trial bills are not published yet" in client.get(f"/cycles/{cycle_id}").text
    publish_bills(operational, *bills(cycle_id))
    page = client.get(f"/cycles/{cycle_id}").text
    assert "3 bills, 232.50 CNY in all" in page
    assert "Preliminary" in page
    assert posted() == 0
    monkeypatch.setattr(totals, "require_tied", lambda settings, cycle_id: None)
    for state in ("approved", "final"):
        assert len({row[0] for row in stored(psql, cycle_id)}) == 3
        decide_cycle(
            named(operational, cycle_id), principal=FINANCE, cycle_id=cycle_id, to_state=state,
            reason="ok",
        )  # fmt: skip
    assert stored(psql, cycle_id) == []
    assert posted() == 0
    publish_bills(operational, *bills(cycle_id, "80.00"))  # as it was billed again
    assert posted() == 3
    advance_cycle(operational, cycle_id, "final", "test", "asked twice")
    assert len({row[0] for row in stored(psql, cycle_id)}) == 3


def test_a_final_cycle_is_published_once_and_equal_bills_are_left_alone(
    operational: Settings, psql: Any, cycle_id: str
) -> None:
    finish(operational, cycle_id)
    assert publish_bills(operational, *bills(cycle_id)).bills_written == 3
    before = stored(psql, cycle_id)
    assert publish_bills(operational, *bills(cycle_id)) == PublishResult(0, 0, 3)
    assert stored(psql, cycle_id) == before


@pytest.mark.parametrize(("rent", "accounts"), [("76.01", 3), ("76.00", 1), ("76.00", 4)])
def test_a_final_cycle_refuses_other_bills_and_names_the_first(
    operational: Settings, psql: Any, cycle_id: str, rent: str, accounts: int
) -> None:
    finish(operational, cycle_id)
    publish_bills(operational, *bills(cycle_id))
    before = stored(psql, cycle_id)
    first = f"B-{cycle_id}-{4 if accounts == 4 else 2}"
    with pytest.raises(FinalCycleError, match=first):
        publish_bills(operational, *bills(cycle_id, rent, accounts))
    assert stored(psql, cycle_id) == before


def test_a_changed_item_under_an_unchanged_hash_is_found(
    operational: Settings, cycle_id: str
) -> None:
    finish(operational, cycle_id)
    heads, items, none = bills(cycle_id)
    publish_bills(operational, heads, items, none)
    moved = items.to_pylist()
    moved[0]["amount"] += 1
    moved[1]["amount"] -= 1
    with pytest.raises(FinalCycleError, match=f"B-{cycle_id}-1"):
        publish_bills(operational, heads, pa.Table.from_pylist(moved), none)


def with_payments(tables: tuple[pa.Table, ...], payments: dict[int, str]) -> tuple[pa.Table, ...]:
    """The bills with payments of 50.00 by account number; what is owed stays what it was."""
    heads, items, _ = tables
    rows, movements = heads.to_pylist(), []
    for number, payment_id in payments.items():
        row = rows[number - 1]
        row["payment_amount"] += Decimal("50.00")
        row["opening_amount"] += Decimal("50.00")
        movements.append(
            {
                "bill_movement_key": payment_id, "bill_id": row["bill_id"], "entry_id": None,
                "payment_id": payment_id, "amount": Decimal("50.00"),
            }
        )  # fmt: skip
    return pa.Table.from_pylist(rows), items, pa.Table.from_pylist(movements, MOVEMENTS)


def test_a_bill_keeps_the_payments_it_counts_and_no_others(
    operational: Settings, cycle_id: str
) -> None:
    first, second = (
        take_payment(
            operational, principal=FINANCE, account_id="A0000001", amount=Decimal("50.00"),
            channel="counter", idempotency_key=f"{cycle_id}-{number}",
        ).payment_id
        for number in (1, 2)
    )  # fmt: skip
    heads, items, movements = with_payments(bills(cycle_id), {1: first})
    with pytest.raises(PublishError, match=r"payment_amount 50\.00 is not the sum of its payments"):
        publish_bills(operational, heads, items, MOVEMENTS.empty_table())
    with pytest.raises(PublishError, match=r"movements of bill .*-1 come without their bill"):
        publish_bills(operational, heads.slice(1), items.slice(3), movements)
    publish_bills(operational, heads, items, movements)
    assert publish_bills(operational, heads, items, movements).bills_unchanged == 3
    finish(operational, cycle_id)  # which takes back what was published on trial
    publish_bills(operational, heads, items, movements)
    other = with_payments(bills(cycle_id), {1: second})[2]  # the same amount, another payment
    with pytest.raises(FinalCycleError, match=f"B-{cycle_id}-1"):
        publish_bills(operational, heads, items, other)


def test_a_bill_tells_its_payments_by_every_channel(
    operational: Settings, cycle_id: str, browser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment_id = take_payment(
        operational, principal=FINANCE, account_id="A0000001", amount=Decimal("50.00"),
        channel="bank", idempotency_key=f"{cycle_id}-told", reference="R-4711",
    ).payment_id  # fmt: skip
    publish_bills(operational, *with_payments(bills(cycle_id), {1: payment_id}))
    monkeypatch.setattr("tollhouse.bill_commands.read_settings", lambda: operational)

    def answered(*options: str) -> str:
        command = ["bill", "A0000001", "--cycle", cycle_id, "--lang", "en", *options]
        return CliRunner().invoke(app, command).stdout

    (line,) = [line for line in answered().splitlines() if payment_id in line]
    for words in ("50.00", "Payment", "bank", "R-4711"):
        assert words in line
    (told,) = json.loads(answered("--json"))["payments"]
    assert (told["payment_id"], told["amount"]) == (payment_id, "50.00")
    assert payment_id in answered("--format", "html")
    client = browser("admin", "en")
    page = client.get(f"/bills/B-{cycle_id}-1").text
    assert "Payments one by one" in page
    assert payment_id in page
    assert "Adjustments one by one" not in page


@pytest.mark.parametrize(
    "statement",
    [
        "update billing.bill set content_hash = '' where cycle_id = %(cycle)s",
        "update billing.bill set cycle_id = '2026-10' where cycle_id = %(cycle)s",
        "delete from billing.bill_item where bill_id like 'B-' || %(cycle)s || '%%'",
        "update billing.bill_item set amount = 0 where bill_id like 'B-' || %(cycle)s || '%%'",
        "insert into billing.bill_item (bill_item_key, bill_id, subscription_id, bill_item_code,"
        " name_zh, name_en, quantity, unit, amount) values ('late',"
        " 'B-' || %(cycle)s || '-1', 'S0000001', 'late',"
        " '', '', 1, 'event', 1)",
        "insert into billing.bill (bill_id, account_id, cycle_id, province_code, opening_amount,"
        " item_amount, charge_amount, payment_amount, closing_amount, currency_code, content_hash)"
        " values ('late', 'A0000004', %(cycle)s, '51', 0, 0, 0, 0, 0, 'CNY', '')",
        "insert into billing.bill_movement (bill_movement_key, bill_id, payment_id, amount)"
        " select 'late', 'B-' || %(cycle)s || '-1', min(payment_id), 1 from billing.payment"
        " where payment_id not in (select payment_id from billing.bill_movement"
        " where payment_id is not null)",
    ],
)
def test_bills_of_a_final_cycle_cannot_be_changed_by_sql(
    operational: Settings, psql: Any, cycle_id: str, statement: str
) -> None:
    ensure_cycle(operational, "2026-10", "Asia/Shanghai")
    finish(operational, cycle_id)
    publish_bills(operational, *bills(cycle_id))
    with psql() as connection, pytest.raises(errors.DatabaseError, match="final cycle"):
        connection.execute(statement, {"cycle": cycle_id})
    assert len(stored(psql, cycle_id)) == 9


def test_bills_that_do_not_add_up_are_refused(
    operational: Settings, psql: Any, cycle_id: str
) -> None:
    heads, items, none = bills(cycle_id)
    with pytest.raises(PublishError, match=r"-1: charge_amount 77.50 is not the sum"):
        publish_bills(operational, heads, items.slice(1), none)
    with pytest.raises(PublishError, match=r"-1 come without their bill"):
        publish_bills(operational, heads.slice(1), items, none)
    wrong = [row | {"closing_amount": Decimal(0)} for row in heads.to_pylist()]
    with pytest.raises(PublishError, match="bill_balances"):
        publish_bills(operational, pa.Table.from_pylist(wrong), items, none)
    assert stored(psql, cycle_id) == []


def test_a_bill_shows_discounts_what_is_paid_for_others_and_the_tax(
    operational: Settings, browser: Any, cycle_id: str
) -> None:
    heads, items, none = bills(cycle_id)
    rows, parts = heads.to_pylist(), items.to_pylist()
    for row, amount in zip(rows, ("-20.00", "20.00", "0.00"), strict=True):
        for column in ("shared_amount", "charge_amount", "closing_amount"):
            row[column] += Decimal(amount)
    for bill, other, amount in ((1, 2, "-20.00"), (2, 1, "20.00")):
        parts.append(
            parts[0]
            | {
                "bill_item_key": f"{cycle_id}-share-{bill}", "bill_id": f"B-{cycle_id}-{bill}",
                "item_kind": "share", "other_account_id": f"A{other:07d}", "quantity": None,
                "amount": Decimal(amount), "base_amount": Decimal("40.00"),
            }
        )  # fmt: skip
    publish_bills(operational, pa.Table.from_pylist(rows), pa.Table.from_pylist(parts), none)
    with_share = browser("admin", "en").get(f"/bills/B-{cycle_id}-1").text
    assert "Paid by account A0000002" in with_share
    assert "Items 85.50 − discounts 8.00 + paid for others -20.00 = charges 57.50" in with_share
    assert "Charges include tax of 6.40" in with_share
    assert "为帐户 A0000001 代付" in browser("admin", "zh").get(f"/bills/B-{cycle_id}-2").text


def test_nobody_promises_to_pay_for_a_line_of_his_own(operational: Settings, psql: Any) -> None:
    promise = (
        "insert into billing.payment_responsibility (payment_responsibility_id, account_id,"
        " subscription_id, share_percent, valid_from) values ('r', %s, 'S0000001', 50, now())"
    )
    with psql() as connection, pytest.raises(errors.RestrictViolation, match="it is its own"):
        connection.execute(promise, ("A0000001",))
    with psql() as connection:
        assert connection.execute(promise, ("A0000002",)).rowcount == 1


def test_bills_of_an_unknown_cycle_are_refused(operational: Settings) -> None:
    with pytest.raises(PublishError, match="no billing cycle 2049-01"):
        publish_bills(operational, *bills("2049-01"))


def test_a_refused_bill_is_not_repeated_in_the_message(
    operational: Settings, cycle_id: str
) -> None:
    heads, items, none = bills(cycle_id)
    position = heads.schema.get_field_index("account_id")
    heads = heads.set_column(
        position, "account_id", pa.array([f"欧阳保密{n}" for n in range(heads.num_rows)])
    )
    with pytest.raises(PublishError, match="bill_account_id_fkey") as raised:
        publish_bills(operational, heads, items, none)
    assert "欧阳保密" not in "".join(traceback.format_exception(raised.value))


def score(number: int, probability: float) -> dict[str, Any]:
    return {
        "subscription_id": f"S{number:07d}", "account_id": f"A{number:07d}",
        "customer_id": f"C{number:07d}", "province_code": "44",
        "churn_probability": probability, "churn_decile": 9, "churn_reasons": "[]",
        "value_amount": Decimal("120.00"), "value_segment": "high",
        "value_at_risk_amount": Decimal("60.00"), "model_version": "churn-1",
        "data_cut_off": date(2026, 10, 31), "run_id": "r", "scored_elsewhere": 1,
    }  # fmt: skip


def test_publishing_scores_replaces_all_of_them(operational: Settings, psql: Any) -> None:
    assert publish_scores(operational, pa.Table.from_pylist([score(1, 0.5), score(3, 0.25)])) == 2
    published = publish_scores(operational, pa.Table.from_pylist([score(2, 0.1234567)]))
    assert published == 1
    with psql() as connection:
        rows = connection.execute(
            "select subscription_id, churn_probability from crm.customer_score"
        ).fetchall()
    assert rows == [("S0000002", Decimal("0.123457"))]
