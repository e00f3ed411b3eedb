"""Lines suspended at their customer's request pay what the clerk finds by going day by day."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from operational.billing.explanation import explain
from operational.permissions import Principal
from tests.billing.clerk import Clerk
from tests.billing.test_bills import charge_class_by_hand
from tollhouse.pipeline import run_step
from tollhouse.postgres import EmbeddedServer, connect, operational_url
from tollhouse.settings import Settings
from tollhouse.warehouse import open_warehouse, read_warehouse

pytestmark = pytest.mark.pipeline

CLERK = Principal("clerk", "clerk", "finance", "00")
SUBSCRIBERS = 40
RENTS = (
    "select subscription_id, amount from billing.bill_item"
    " where bill_item_code = 'rent' and item_kind = 'charge' order by subscription_id"
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A carrier whose month was rated before anybody was suspended."""
    made = Settings(home=tmp_path_factory.mktemp("suspended"), subscribers=SUBSCRIBERS, days=3)
    try:
        for step in ("prepare", "simulate", "collect", "land", "mediate", "rate"):
            run_step(step, made)
        yield made
    finally:
        EmbeddedServer(made.home).remove()


def suspend_most(settings: Settings) -> None:
    """Suspend and resume lines at any moments around the cycle, also at midnight and twice."""
    drawn = random.Random(7)
    midnight = datetime(2026, 9, 30, 16, tzinfo=UTC)  # of 1 October in China
    with connect(settings) as connection:
        lines = connection.execute(
            "select subscription_id, valid_from from crm.subscription order by 1"
        )
        for number, (line, joined) in enumerate(lines.fetchall()):
            moments = sorted(
                max(joined, midnight + timedelta(days=drawn.randint(-5, 33), seconds=second))
                for second in drawn.choices((0, 0, 1, 43_200, 86_399), k=number % 5)
            )
            for turn, moment in enumerate(moments):
                connection.execute(
                    "insert into crm.subscription_status (subscription_id, status, valid_from)"
                    " values (%s, %s, %s)",
                    (line, ("suspended", "active")[turn % 2], moment),
                )


def test_without_a_fee_for_it_suspension_changes_nothing(home: Settings) -> None:
    with read_warehouse(home, wait_s=60) as warehouse:
        before = warehouse.rows(RENTS)
    suspend_most(home)
    run_step("rate", home)
    with read_warehouse(home, wait_s=60) as warehouse:
        assert warehouse.rows(RENTS) == before
        (counts,) = warehouse.rows(
            "select count(*), sum(suspended_days) from billing.recurring_charge"
        )
    assert counts[0] >= SUBSCRIBERS
    assert counts[1] == 0


def test_suspended_lines_pay_what_the_clerk_finds_and_the_fee_is_explained(home: Settings) -> None:
    with connect(home) as connection:
        # Versions in use cannot be changed: as if they had been loaded so.
        connection.execute("set session_replication_role = replica")
        connection.execute(
            "update catalogue.price_plan_version set suspension_fee_amount = case"
            " when plan_version_id < 'plan-4g-8' then 0 else least(monthly_fee_amount, 5.01) end"
        )
    run_step("rate", home)
    with open_warehouse(home, "read standard usage") as warehouse:
        usage = warehouse.table("mediation.usage").to_pylist()
        billed = {
            (account, line, "rent"): amount
            for account, line, amount in warehouse.rows(
                "select account_id, subscription_id, amount from billing.bill_item"
                " where bill_item_code = 'rent' and item_kind = 'charge'"
            )
        }
        charges = warehouse.rows(
            "select cast(charge.charge_key as varchar), charge.amount, fee.suspended_days"
            " from billing.charge as charge"
            " inner join billing.recurring_charge as fee"
            " on fee.subscription_id = charge.subscription_id and fee.held_from = charge.charged_at"
            " and fee.plan_version_id = charge.plan_version_id and fee.cycle_id = charge.cycle_id"
            " where charge.charge_type = 'recurring'"
        )
    ledger = Clerk(operational_url(home), home.cycle, home.timezone).work(
        usage, charge_class_by_hand()
    )
    rents = {key: amount for key, amount in ledger.items.items() if key[2] == "rent"}
    assert {key: amount for key, amount in billed.items() if amount} == {
        key: amount for key, amount in rents.items() if amount
    }
    lengths = {days for *_, days in charges}
    assert len(lengths) > 5
    assert 0 in lengths
    for charge_key, amount, days in charges:
        found = explain(home, principal=CLERK, identifier=charge_key)
        assert (found.amount, found.worked_out) == (amount, amount)
        (section,) = found.sections
        shown = [fact.value for fact in section.facts if fact.label == "explain.suspended_days"]
        assert shown == ([str(days)] if days else [])
    assert any(amount == Decimal(0) for _, amount, days in charges if days)
