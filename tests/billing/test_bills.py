"""The bills of the demo carrier are what a careful clerk gets record by record."""

from __future__ import annotations

import csv
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from tests.billing.clerk import Clerk, Ledger
from tests.billing.test_bill_rules import check_bills, check_taxes
from tollhouse.pipeline import run_step
from tollhouse.postgres import connect, operational_url
from tollhouse.settings import PROJECT_ROOT, Settings
from tollhouse.warehouse import open_warehouse

SEEDS = PROJECT_ROOT / "dbt" / "seeds" / "ods"


def charge_class_by_hand() -> Callable[[dict[str, Any]], str]:
    """The charge class of a usage record, worked out from the seeds one record at a time."""
    with (SEEDS / "country_zone.csv").open(encoding="utf-8") as file:
        zones = {row["calling_code"]: row["zone"] for row in csv.DictReader(file)}
    with (SEEDS / "plmn.csv").open(encoding="utf-8") as file:
        visited = {row["mcc"]: row["zone"] for row in csv.DictReader(file)}

    with (SEEDS / "short_code.csv").open(encoding="utf-8") as file:
        own_services = {row["short_code"] for row in csv.DictReader(file) if row["kind"] == "own"}

    def zone_of(number: str) -> str:
        return next(zones[number[:n]] for n in range(len(number), 0, -1) if number[:n] in zones)

    def charge_class(record: dict[str, Any]) -> str:
        service, number = record["service"], record["other_party"]
        is_abroad = record["serving_plmn"] != "46001"
        is_foreign = record["other_party_type"] == "e164" and not number.startswith("86")
        visited_zone = visited[record["serving_plmn"][:3]]
        match service:
            case "data":
                kind = f"roaming_{visited_zone}" if is_abroad else "domestic"
            case "sms" if record["direction"] != "mo":
                kind = "incoming"
            case "sms":
                kind = "roaming" if is_abroad else "international" if is_foreign else "domestic"
            case "voice" if is_abroad:
                kind = f"roaming_{visited_zone}"
            case "voice" if record["direction"] != "mo":
                kind = "incoming"
            case "voice" if is_foreign:
                kind = f"international_{zone_of(number)}"
            case _:
                kind = "service" if number in own_services else "domestic"
        return f"{service}_{kind}"

    return charge_class


@pytest.fixture(scope="module")
def ledger(carrier: Settings) -> Ledger:
    """The clerk's result for the whole carrier."""
    with open_warehouse(carrier, "read standard usage") as warehouse:
        usage = warehouse.table("mediation.usage").to_pylist()
    worker = Clerk(operational_url(carrier), carrier.cycle, carrier.timezone)
    return worker.work(usage, charge_class_by_hand())


@pytest.mark.pipeline
def test_every_usage_charge_is_what_the_clerk_charges(carrier: Settings, ledger: Ledger) -> None:
    with open_warehouse(carrier, "compare") as warehouse:
        charged = dict(
            warehouse.rows(
                "select cast(usage_id as varchar), amount from billing.charge"
                " where charge_type = 'usage'"
            )
        )
    assert charged.keys() == ledger.charges.keys()
    differing = {key for key, amount in charged.items() if amount != ledger.charges[key]}
    assert not differing


@pytest.mark.pipeline
def test_every_bill_item_of_all_subscribers_is_what_the_clerk_bills(
    carrier: Settings, ledger: Ledger
) -> None:
    with open_warehouse(carrier, "compare") as warehouse:
        billed = {
            (account, subscription, code): amount
            for account, subscription, code, amount in warehouse.rows(
                "select account_id, subscription_id, bill_item_code, amount from billing.bill_item"
            )
        }
        subscribers = warehouse.rows("select count(*) from ods.subscription")[0][0]
    assert billed == ledger.items
    assert len({subscription for _, subscription, _ in billed}) >= 0.95 * subscribers


@pytest.mark.pipeline
def test_every_published_bill_is_what_the_clerk_bills(carrier: Settings, ledger: Ledger) -> None:
    with connect(carrier) as connection:
        published = {
            account: {"charge_amount": charge, "payment_amount": paid, "closing_amount": closing}
            for account, charge, paid, closing in connection.execute(
                "select account_id, charge_amount, payment_amount, closing_amount from billing.bill"
                " where cycle_id = %s",
                (carrier.cycle,),
            )
        }
    assert published == ledger.bills


@pytest.mark.pipeline
def test_every_bill_holds_the_tax_of_its_items(carrier: Settings) -> None:
    with open_warehouse(carrier, "compare") as warehouse:
        items = warehouse.table("billing.bill_item").to_pylist()
        bills = warehouse.table("billing.bill").to_pylist()
    check_taxes(items)
    check_bills(items, bills)


@pytest.mark.pipeline
def test_usage_nobody_owns_is_in_suspense_with_an_estimated_value(
    carrier: Settings, ledger: Ledger
) -> None:
    with open_warehouse(carrier, "compare") as warehouse:
        suspended = dict(
            warehouse.rows(
                "select cast(usage_id as varchar), estimated_amount from billing.suspended_usage"
            )
        )
    assert suspended.keys() == ledger.suspended
    assert suspended
    assert all(amount is not None for amount in suspended.values())
    assert sum(suspended.values()) > Decimal(0)


@pytest.mark.pipeline
def test_demo_tariffs_leave_someone_beyond_every_allowance(
    carrier: Settings, ledger: Ledger
) -> None:
    """Or else the tests above would compare zeros with zeros."""
    codes = {code for (_, _, code), amount in ledger.items.items() if amount > 0}
    assert codes == {"rent", "voice", "sms", "data", "international", "roaming"}


@pytest.mark.pipeline
def test_billing_a_closed_cycle_again_changes_nothing(small_carrier: Settings) -> None:
    def bills() -> list[tuple[Any, ...]]:
        with open_warehouse(small_carrier, "read bills") as warehouse:
            return warehouse.rows("select bill_id, content_hash from billing.bill order by bill_id")

    before = bills()
    for step in ("extract", "mediate", "rate", "bill", "settle", "build_marts", "publish"):
        run_step(step, small_carrier)
    assert bills() == before
    assert len(before) > 100
    assert before[0][0].startswith(small_carrier.cycle)
