"""Lines that join, leave and change bundles pay what the clerk finds by going day by day."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from operational.billing.explanation import explain
from operational.billing.wording import Wording
from operational.catalogue.findings import CatalogueError
from operational.catalogue.loader import load_catalogue
from operational.permissions import Principal
from tests.billing.clerk import Clerk
from tests.billing.test_bills import charge_class_by_hand
from tests.billing.test_suspension import suspend_most
from tollhouse.pipeline import run_step
from tollhouse.postgres import EmbeddedServer, connect, operational_url
from tollhouse.settings import Settings
from tollhouse.warehouse import open_warehouse
from tollhouse.whatif import what_if

pytestmark = pytest.mark.pipeline

CLERK = Principal("clerk", "clerk", "finance", "00")
SUBSCRIBERS = 40
MIDNIGHT = datetime(2026, 9, 30, 16, tzinfo=UTC)  # of 1 October in China
PLAN, PACK, OWN = "plan-4g-76", "data-pack-500mb", "data-pack-100mb"


def components(plan: dict[str, str], pack: dict[str, str]) -> list[dict[str, str]]:
    return [
        {"component": PLAN} | plan, {"component": PACK} | pack,
        {"component": OWN, "fee_rule": "own"},
    ]  # fmt: skip


def catalogue() -> dict[str, Any]:
    """A bundle whose fees change within the month, and one that is paid whole."""
    included, dearer = {"fee_rule": "included"}, {"fee_rule": "replaced", "fee_amount": "7.77"}
    common = {"offering_type": "bundle", "name_zh": "甲融合", "name_en": "First bundle"}
    return {"offerings": [
        common | {"offering_id": "bundle-a", "versions": [
            {"version_number": 1, "valid_from": "2026-01-01", "valid_to": "2026-10-16",
             "monthly_fee_amount": "99.99", "suspension_fee_amount": "5",
             "components": components(included, dearer)},
            {"version_number": 2, "valid_from": "2026-10-16", "monthly_fee_amount": "88.01",
             "components": components(dearer, included)},
        ]},
        common | {"offering_id": "bundle-b", "name_zh": "乙融合", "name_en": "Second bundle",
                  "versions": [
            {"version_number": 1, "valid_from": "2026-01-01", "monthly_fee_amount": "60",
             "first_month_rule": "half_after_mid", "last_month_rule": "whole",
             "components": components(included, included)},
        ]},
    ]}  # fmt: skip


def add(connection: psycopg.Connection[Any], **product: Any) -> str:
    names = ", ".join(product)
    places = ", ".join(f"%({name})s" for name in product)
    connection.execute(f"insert into crm.product_instance ({names}) values ({places})", product)
    return str(product["product_instance_id"])


def give_bundles(settings: Settings) -> None:
    """Lines take bundles, change and leave them at any moments around the cycle.

    Every third has its pack on another line of the account, if there is one.
    """
    drawn = random.Random(11)
    with connect(settings) as connection:
        lines = connection.execute(
            "select pri.subscription_id, pri.product_instance_id, pri.valid_from,"
            " (select max(oth.subscription_id) from crm.subscription as oth"
            "  where oth.account_id = sub.account_id) as other"
            " from crm.product_instance as pri"
            " inner join crm.subscription as sub on sub.subscription_id = pri.subscription_id"
            " where pri.role = 'plan' and pri.valid_to is null and sub.valid_to is null order by 1"
        ).fetchall()
        for number, (line, plan, since, other) in enumerate(lines):
            moments = sorted(
                {
                    max(since + timedelta(hours=1),
                        MIDNIGHT + timedelta(days=drawn.randint(-4, 32), seconds=second))
                    for second in drawn.choices((0, 0, 1, 43_200, 86_399), k=1 + number % 4)
                }
            )  # fmt: skip
            connection.execute(
                "update crm.product_instance set valid_to = %s where product_instance_id = %s",
                (moments[0], plan),
            )
            ends = [*moments[1:], None]
            # The last one lasts, or is left for the plan alone.
            is_left = len(moments) > 1 and number % 2 == 1
            for turn, (begin, end) in enumerate(zip(moments, ends, strict=True)):
                if is_left and turn == len(moments) - 1:
                    continue
                stays = is_left and turn == len(moments) - 2
                mark = f"{line}-{turn}"
                common = {"subscription_id": line, "valid_from": begin, "valid_to": end}
                bundle = add(
                    connection, product_instance_id=f"B-{mark}", role="bundle",
                    offering_id=("bundle-a", "bundle-b")[(turn + number) % 2], **common,
                )  # fmt: skip
                add(connection, product_instance_id=f"C-{mark}", role="plan", offering_id=PLAN,
                    bundle_instance_id=bundle,
                    **common | ({"valid_to": None} if stays else {}))  # fmt: skip
                elsewhere = {"subscription_id": other if number % 3 == 0 else line}
                add(connection, product_instance_id=f"D-{mark}", role="addon", offering_id=PACK,
                    bundle_instance_id=bundle, **common | elsewhere)  # fmt: skip
                add(connection, product_instance_id=f"E-{mark}", role="addon", offering_id=OWN,
                    bundle_instance_id=bundle, **common)  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A carrier whose lines have bundles and suspensions."""
    made = Settings(home=tmp_path_factory.mktemp("bundles"), subscribers=SUBSCRIBERS, days=3)
    try:
        for step in ("prepare", "simulate", "collect", "land", "mediate"):
            run_step(step, made)
        file = Path(made.home) / "bundles.yaml"
        file.write_text(yaml.safe_dump(catalogue(), allow_unicode=True), encoding="utf-8")
        load_catalogue(made, file)
        with connect(made) as connection:  # as if the versions had been loaded so
            connection.execute("set session_replication_role = replica")
            connection.execute(
                "update catalogue.price_plan_version set suspension_fee_amount = 6.5"
                " where offering_id = %s", (PLAN,),
            )  # fmt: skip
        give_bundles(made)
        suspend_most(made)
        for step in ("audit", "rate", "bill"):
            run_step(step, made)
        yield made
    finally:
        EmbeddedServer(made.home).remove()


def test_the_fees_of_a_month_with_bundles_are_what_the_clerk_finds(home: Settings) -> None:
    with open_warehouse(home, "read standard usage") as warehouse:
        usage = warehouse.table("mediation.usage").to_pylist()
        billed = dict(
            warehouse.rows(
                "select subscription_id, amount from billing.bill_item"
                " where bill_item_code = 'rent' and item_kind = 'charge'"
            )
        )
        rules = warehouse.rows(
            "select role, fee_rule, count(*), max(part_number), sum(suspended_days)"
            " from billing.recurring_charge group by role, fee_rule order by role, fee_rule"
        )
        (charged,) = warehouse.rows("select sum(amount) from billing.recurring_charge")
    ledger = Clerk(operational_url(home), home.cycle, home.timezone).work(
        usage, charge_class_by_hand()
    )
    rents = {key[1]: amount for key, amount in ledger.items.items() if key[2] == "rent" and amount}
    assert billed == rents
    assert charged[0] == sum(rents.values())
    # Every kind of fee was there, in several parts, suspended or not.
    found = {(role, rule): tuple(rest) for role, rule, *rest in rules}
    for kind in (("plan", "included"), ("plan", "replaced"), ("plan", None), ("bundle", None),
                 ("addon", "own"), ("addon", "included"), ("addon", "replaced")):  # fmt: skip
        assert found[kind][0] > 2, kind
    assert max(parts for _, parts, _ in found.values()) > 1
    assert found["plan", "replaced"][2] > 0


def test_explanations_name_the_bundle_that_includes_a_fee(home: Settings) -> None:
    with open_warehouse(home, "read charges") as warehouse:
        charges = warehouse.rows(
            "select cast(charge.charge_key as varchar), charge.amount, fee.fee_rule,"
            " fee.role, fee.bundle_version_id, charge.subscription_id || charge.charged_at::varchar"
            " || charge.plan_version_id"
            " from billing.charge as charge"
            " inner join billing.recurring_charge as fee"
            " on fee.subscription_id = charge.subscription_id and fee.held_from = charge.charged_at"
            " and fee.plan_version_id = charge.plan_version_id and fee.cycle_id = charge.cycle_id"
            " where charge.charge_type = 'recurring'"
        )
    # The same pack may be held twice on a line, through bundles of others.
    times = Counter(row[5] for row in charges)
    assert sum(count == 1 for count in times.values()) > 100
    seen = set()
    for charge_key, amount, rule, role, version, place in charges:
        if times[place] > 1:
            found = explain(home, principal=CLERK, identifier=charge_key)
            assert found.is_agreed
            continue
        if (rule, role, version) in seen and len(seen) > 8 and amount == 0:
            continue
        seen.add((rule, role, version))
        found = explain(home, principal=CLERK, identifier=charge_key)
        assert (found.amount, found.worked_out) == (amount, amount)
        for language, names in (("zh", "甲乙"), ("en", ("First", "Second"))):
            words = Wording(language=language, timezone=home.timezone, principal=CLERK)
            (section,) = words.document(found)["sections"]
            notes = "".join(section["notes"])
            named = [name for name in names if name in notes]
            assert named == ([] if rule is None else [names["bundle-b" in version]])
            if rule == "included":
                assert amount == Decimal(0)
                assert ("含在融合套餐" if language == "zh" else "included in the bundle") in notes
        if role == "bundle":
            labels = {fact["fact"] for fact in words.document(found)["sections"][0]["facts"]}
            assert "component_included" in labels


def proposed_bundle(path: Path, fee: str, plan: dict[str, str], pack: dict[str, str]) -> Path:
    """The second bundle with another fee, and other fees of what it groups."""
    bundle = catalogue()["offerings"][1]
    bundle["versions"][0] |= {"monthly_fee_amount": fee, "components": components(plan, pack)}
    path.write_text(yaml.safe_dump({"offerings": [bundle]}, allow_unicode=True), encoding="utf-8")
    return path


def rents(home: Settings, fee: Decimal, fees: dict[str, Decimal]) -> dict[str, Decimal]:
    """The fees of each line as the clerk finds them, were the second bundle's others."""
    with open_warehouse(home, "read standard usage") as warehouse:
        usage = warehouse.table("mediation.usage").to_pylist()
    clerk = Clerk(operational_url(home), home.cycle, home.timezone)
    for version in clerk.versions["bundle-b"]:
        version["monthly_fee_amount"] = fee
    for row in clerk.tables["catalogue.bundle_component"]:
        if row["plan_version_id"] == "bundle-b@1" and row["offering_id"] in fees:
            row |= {"fee_rule": "replaced", "fee_amount": fees[row["offering_id"]]}
    items = clerk.work(usage, charge_class_by_hand()).items
    return {line: amount for (_, line, item), amount in items.items() if item == "rent"}


def test_a_proposed_version_of_a_bundle_tells_who_would_pay_less_and_who_more(
    home: Settings, tmp_path: Path
) -> None:
    """Cheaper as a whole, dearer for what it groups: as the clerk finds it, line by line."""
    included = {"fee_rule": "included"}
    as_it_is = what_if(
        home, [proposed_bundle(tmp_path / "is.yaml", "60", included, included)], home.cycle
    )
    assert all((line.difference, line.winners, line.losers) == (0, 0, 0) for line in as_it_is.lines)
    proposed = proposed_bundle(
        tmp_path / "proposed.yaml", "45", {"fee_rule": "replaced", "fee_amount": "10.01"},
        {"fee_rule": "replaced", "fee_amount": "11.5"},
    )  # fmt: skip
    answer = what_if(home, [proposed], home.cycle)
    assert answer.versions == ["bundle-b@1"]
    before = rents(home, Decimal(60), {})
    after = rents(home, Decimal(45), {PLAN: Decimal("10.01"), PACK: Decimal("11.5")})
    changes = {line: after[line] - amount for line, amount in before.items()}
    (total,) = (line for line in answer.lines if line.dimension == "total")
    assert total.difference == sum(changes.values())
    winners = sum(change < 0 for change in changes.values())
    losers = sum(change > 0 for change in changes.values())
    assert (total.winners, total.losers) == (winners, losers)
    assert min(winners, losers) > 0
    told = {
        row["subscription_id"]: row["proposed_amount"] - row["billed_amount"]
        for row in answer.most_changed
    }
    assert told == {line: changes[line] for line in told}
    with pytest.raises(CatalogueError, match="components"):  # another composition is another bundle
        card = yaml.safe_load(proposed.read_text(encoding="utf-8"))
        card["offerings"][0]["versions"][0]["version_number"] = 2
        card["offerings"][0]["versions"][0]["components"].pop()
        proposed.write_text(yaml.safe_dump(card, allow_unicode=True), encoding="utf-8")
        what_if(home, [proposed], home.cycle)
