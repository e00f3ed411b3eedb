"""Prepaid balances of a simulated carrier, deducted while its files arrive."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest

from operational.accounts import collection, notes
from operational.accounts.service import grant_bonus, local_today, take_payment
from operational.billing.service import ensure_cycle
from operational.billing.totals import month_totals
from tests.operational.accounts_books import FINANCE, SECOND
from tollhouse.pipeline import run_step
from tollhouse.postgres import EmbeddedServer, connect
from tollhouse.settings import Settings
from tollhouse.warehouse import open_warehouse

pytestmark = pytest.mark.pipeline

FEN = Decimal("0.01")
ZERO = Decimal(0)
TO_DEDUCTION = ("collect", "land", "mediate", "rate", "deduct")
Totals = dict[tuple[str, str], Decimal]  # (account, bill item) → yuan


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A carrier whose files have not come yet: they wait in a folder beside."""
    settings = Settings(home=tmp_path_factory.mktemp("prepaid"), subscribers=60, days=12)
    try:
        for step in ("prepare", "simulate"):
            run_step(step, settings)
        yield settings
    finally:
        EmbeddedServer(settings.home).remove()


def charged(settings: Settings) -> Totals:
    """What prepaid lines are charged, rounded by hand: half-up per line and item, after summing."""
    with connect(settings) as connection:
        prepaid = {
            subscription_id
            for (subscription_id,) in connection.execute(
                "select subscription_id from crm.subscription where payment_type = 'prepaid'"
            )
        }
    with open_warehouse(settings, "read charges") as warehouse:
        rows = warehouse.rows(
            "select account_id, subscription_id, bill_item_code, amount from billing.charge"
        )
    exact: dict[tuple[str, str, str], Decimal] = defaultdict(Decimal)
    for account_id, subscription_id, code, amount in rows:
        if subscription_id in prepaid:
            exact[account_id, subscription_id, code] += amount
    totals: Totals = defaultdict(Decimal)
    for (account_id, _, code), amount in exact.items():
        totals[account_id, code] += amount.quantize(FEN, ROUND_HALF_UP)
    return {key: amount for key, amount in totals.items() if amount}


def query(settings: Settings, text: str) -> list[Any]:
    with connect(settings) as connection:
        return connection.execute(text).fetchall()


def deducted(settings: Settings) -> Totals:
    rows = query(
        settings,
        "select account_id, bill_item_code, sum(amount) from billing.deduction"
        " group by account_id, bill_item_code having sum(amount) <> 0",
    )
    return {(account_id, code): amount for account_id, code, amount in rows}


def check_balances(settings: Settings) -> None:
    """Of accounts with prepaid lines only: money and debts are payments less deductions."""
    rows = query(
        settings,
        """
        with chosen as (
            select acc.account_id from crm.account as acc
            where not exists (
                select 1 from crm.subscription as sub
                where sub.account_id = acc.account_id and sub.payment_type = 'postpaid'
            )
        )
        select cho.account_id,
            (select coalesce(sum(balance_amount), 0) from billing.fund as fnd
                where fnd.account_id = cho.account_id)
            - (select coalesce(sum(open_amount), 0) from billing.open_item as itm
                where itm.account_id = cho.account_id),
            (select coalesce(sum(amount), 0) from billing.payment as pay
                where pay.account_id = cho.account_id)
            - (select coalesce(sum(amount), 0) from billing.deduction as ded
                where ded.account_id = cho.account_id)
        from chosen as cho
        """,
    )
    assert len(rows) >= 3
    assert [row for row in rows if row[1] != row[2]] == []


def test_balances_follow_the_files_and_the_bills_claim_nothing_twice(home: Settings) -> None:
    waiting = home.home / "waiting"
    later = sorted(home.landing_dir.glob("*/*"))[1::2]
    for path in later:
        (waiting / path.parent.name).mkdir(parents=True, exist_ok=True)
        path.rename(waiting / path.parent.name / path.name)
    for step in TO_DEDUCTION:
        run_step(step, home)
    first = charged(home)
    assert first
    assert deducted(home) == first
    check_balances(home)
    assert run_step("deduct", home)["accounts"] == 0

    for path in later:
        (waiting / path.parent.name / path.name).rename(path)
    for step in TO_DEDUCTION:
        run_step(step, home)
    second = charged(home)
    assert second != first
    assert deducted(home) == second
    check_balances(home)

    for step in ("bill", "settle", "close_cycle", "build_marts", "publish"):
        run_step(step, home)
    assert deducted(home) == second
    check_balances(home)
    assert query(
        home, "select sum(amount) from billing.ledger_line where ledger_code = 'prepaid_deducted'"
    ) == [(ZERO,)]
    # what a bill claims is what its lines that are not prepaid are charged
    claimed = query(
        home,
        """
        with claim as (
            select bil.bill_id, sum(itm.amount) as amount
            from billing.bill as bil
            join billing.bill_item as itm on itm.bill_id = bil.bill_id
            join crm.subscription as sub on sub.subscription_id = itm.subscription_id
            where sub.payment_type = 'postpaid'
            group by bil.bill_id
        ),
        owed as (
            select bill_id, sum(amount) as amount from billing.open_item
            where bill_id is not null group by bill_id
        )
        select count(*), count(*) filter (where claim.amount is distinct from owed.amount)
        from claim full join owed on owed.bill_id = claim.bill_id
        """,
    )
    assert claimed[0][0] > 20
    assert claimed[0][1] == 0
    with open_warehouse(home, "read totals") as warehouse:
        assert not warehouse.rows("select * from dm.control_total where not is_tied")
        (total,) = warehouse.rows(
            "select left_value, right_value from dm.control_total where hop like 'prepaid%'"
        )
    assert total == (sum(second.values()), sum(second.values()))
    account_id = min(account for account, _ in second)
    shown = json.loads(_command(home, "accounts", "balance", account_id, "--json"))
    assert {row["bill_item_code"]: Decimal(row["amount"]) for row in shown["deducted"]} == {
        code: amount for (account, code), amount in second.items() if account == account_id
    }
    assert all(row["is_billed"] for row in shown["deducted"])
    assert account_id in _command(home, "accounts", "balance", account_id)


def _command(settings: Settings, *arguments: str) -> str:
    return subprocess.run(
        [str(Path(sys.executable).parent / "tollhouse"), *arguments],
        env={**os.environ, "TOLLHOUSE_HOME": str(settings.home)},
        capture_output=True, text=True, timeout=120, check=True,
    ).stdout  # fmt: skip


def test_the_next_bill_begins_where_the_ledger_stands(home: Settings) -> None:
    """What happened after the bill before is in it: notes, late fees, bonus money, a top-up."""
    today = local_today(home)
    ensure_cycle(home, f"{today:%Y-%m}", home.timezone)
    # three accounts that owe something, and one that is prepaid
    owing = query(
        home,
        "select account_id, bill_id, bill_item_code from billing.open_item"
        " where open_amount > 1 and bill_id is not null order by account_id, open_item_id",
    )
    account_id, bill_id, code = owing[0]
    for number, (kind, reason, amount) in enumerate(
        (("credit", "wrong_tariff", "0.50"), ("debit", "missed_charge", "7.31"))
    ):
        notes.request_note(
            home, principal=FINANCE, note_id=f"n{number}", note_type=kind, account_id=account_id,
            bill_id=bill_id, bill_item_code=code, amount=Decimal(amount), reason_code=reason,
            explanation="test",
        )  # fmt: skip
        notes.decide_note(home, principal=SECOND, note_id=f"n{number}", approve=True)
    prepaid_account = next(iter(deducted(home)))[0]
    for account in (owing[-1][0], prepaid_account):
        grant_bonus(
            home, principal=FINANCE, account_id=account, amount=Decimal("3.21"),
            reason_code="goodwill", idempotency_key=f"bonus-{account}",
        )  # fmt: skip
    take_payment(
        home, principal=FINANCE, account_id=prepaid_account, amount=Decimal("12.34"),
        channel="counter", idempotency_key="top-up",
    )  # fmt: skip
    collection.run_late_fees(home, through=today, today=today, by_user="test")
    for step in ("rate", "deduct"):
        run_step(step, home)
    stands = dict(
        query(
            home,
            """
            select ent.account_id, sum(lin.amount) from billing.ledger_entry as ent
            join billing.ledger_line as lin on lin.entry_id = ent.entry_id
            where lin.open_item_id is not null or lin.fund_id is not null
            group by ent.account_id
            """,
        )
    )
    kinds = {kind for (kind,) in query(home, "select adjustment_type from billing.adjustment")}
    assert kinds >= {"credit_note", "debit_note", "bonus_grant"}
    running = deducted_in(home, f"{today:%Y-%m}")
    with open_warehouse(home, "read bills") as warehouse:
        bills = warehouse.rows(
            "select account_id, closing_amount, charge_amount, adjustment_amount from billing.bill"
            " where cycle_id = ?",
            [f"{today:%Y-%m}"],
        )
    assert len(bills) > 20
    assert sum(1 for *_, adjusted in bills if adjusted) >= 3
    for account, closing, charges, _ in bills:
        # charges of the cycle are in the ledger as far as they are deducted
        assert closing - charges + running.get(account, ZERO) == stands.get(account, ZERO), account
    totals = month_totals(home, principal=FINANCE, cycle_id=f"{today:%Y-%m}")
    assert [str(total) for total in totals if not total.is_tied] == []
    assert {total.hop_number for total in totals} >= set(range(1, 11))


def deducted_in(settings: Settings, cycle_id: str) -> dict[str, Decimal]:
    return dict(
        query(
            settings,
            "select account_id, sum(amount) from billing.deduction"
            f" where cycle_id = '{cycle_id}' group by account_id",
        )
    )
