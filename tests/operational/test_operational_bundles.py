"""Bundles: what the catalogue refuses, how they are ordered and ended, what the database keeps."""

from __future__ import annotations

import html
import io
import re
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from psycopg import errors
from pydantic import ValidationError
from pypdf import PdfReader

from operational.billing.document import make_bill, render_bill
from operational.billing.service import advance_cycle, ensure_cycle, publish_bills
from operational.catalogue.authoring import OfferingRow, VersionRow
from operational.catalogue.bundles import OfferingFacts, VersionFacts, bundle_findings
from operational.catalogue.content import read_version, version_document, write_version
from operational.catalogue.files import SAMPLE_CATALOGUE
from operational.catalogue.findings import CatalogueError
from operational.catalogue.loader import diff_catalogue, load_catalogue, validate_catalogue
from operational.crm.models import CustomerOrder
from operational.crm.products import OrderError
from operational.crm.service import (
    BundleRequest,
    NewSubscriptionRequest,
    end_product,
    place_order,
)
from operational.database import transaction
from operational.permissions import Principal
from operational.problems import ConflictError, ForbiddenError, NotFoundError
from tests.operational.browser_forms import sent_fields
from tests.operational.test_operational_billing import bills
from tollhouse.settings import PROJECT_ROOT, Settings

Card = dict[str, Any]
ZONE = "Asia/Shanghai"
B = "bundle-x"


def offering(offering_id: str, kind: str, *versions: Card) -> Card:
    return {
        "offering_id": offering_id, "offering_type": kind, "name_zh": "试", "name_en": offering_id,
        "versions": [
            {"version_number": number, "valid_from": "2026-01-01", "monthly_fee_amount": "10"} | one
            for number, one in enumerate(versions, start=1)
        ],
    }  # fmt: skip


def plan(offering_id: str, charge_class: str = "voice_domestic", **more: Any) -> Card:
    calls = {"charge_class": charge_class, "model": "slots",
             "tiers": [{"increment_quantity": "1 min", "price_amount": "0.1"}]}  # fmt: skip
    absent = ["voice_domestic", "sms_domestic", "data_domestic"]
    not_offered = [name for name in absent if name != charge_class]
    return offering(offering_id, "plan", {"usage_prices": [calls], "not_offered": not_offered,
                                          **more})  # fmt: skip


def grouped(*names: str, **more: Any) -> Card:
    return {"components": [{"component": name} for name in names]} | more


def sound() -> dict[str, Card]:
    """A bundle of a mobile plan, a fixed line's plan and an add-on."""
    return {
        "mobile": plan("plan-m"), "fixed": plan("plan-f", "fixed_local"),
        "pack": offering("pack", "addon", {}) | {"name_zh": "小包", "name_en": "Pack"},
        "bundle": offering(B, "bundle", grouped("plan-m", "plan-f", "pack")),
    }  # fmt: skip


def put(path: str, value: Any) -> Callable[[dict[str, Card]], None]:
    def change(cards: dict[str, Card]) -> None:
        *steps, last = [int(step) if step.isdigit() else step for step in path.split("/")]
        content: Any = cards
        for step in steps:
            content = content[step]
        content[last] = value

    return change


V = "bundle/versions/0"
FAULTS: dict[str, tuple[Callable[[dict[str, Card]], None], str]] = {
    "an offering that is not there": (
        put(f"{V}/components/2/component", "none"),
        f"version {B}@1, component none: there is no offering none",
    ),
    "a bundle within a bundle": (
        lambda cards: cards.update(other=offering("bundle-y", "bundle", grouped("plan-m", B))),
        f"version bundle-y@1, component {B}: a bundle groups plans and add-ons, not a bundle",
    ),
    "the same component twice": (
        put(f"{V}/components/2/component", "plan-m"),
        f"version {B}@1, component plan-m: duplicate component, first at card.yaml:",
    ),
    "a component that begins later": (
        put("pack/versions/0/valid_from", "2026-03-01"),
        f"version {B}@1, component pack: no version of pack is in force on 2026-01-01",
    ),
    "a component that ends before": (
        put("pack/versions/0/valid_to", "2027-01-01"),
        "no version of pack is in force on 2027-01-01",
    ),
    "a component with a hole in its validity": (
        lambda cards: cards["pack"].update(offering(
            "pack", "addon", {"valid_to": "2026-02-01"}, {"valid_from": "2026-02-02"}
        )),
        "no version of pack is in force on 2026-02-01",
    ),
    "two plans for mobile lines": (
        lambda cards: cards.update(fixed=plan("plan-f")),
        f"version {B}@1, component plan-f: is for the same kind of line as plan-m",
    ),
    "no plan": (put("bundle/versions/0", offering(B, "bundle", grouped("pack"))["versions"][0]),
                "a bundle groups at least two offerings, one of them a plan"),
    "a fee that nothing replaces": (
        put(f"{V}/components/2/fee_amount", "5"),
        "component pack: fee_rule replaced takes a fee_amount, the other rules take none",
    ),
    "a replaced fee without amount": (
        put(f"{V}/components/2/fee_rule", "replaced"), "fee_rule replaced takes a fee_amount",
    ),
    "a fee rule that is none": (put(f"{V}/components/2/fee_rule", "half"), "fee_rule"),
    "usage prices of its own": (
        put(f"{V}/usage_prices", plan("p")["versions"][0]["usage_prices"]),
        f"version {B}@1: a bundle prices no usage of its own: leave out usage_prices",
    ),
    "components of a plan": (
        put("mobile/versions/0/components", [{"component": "pack"}]),
        "version plan-m@1: only offerings of type bundle have components",
    ),
    "a version that groups something else": (
        lambda cards: cards.update(bundle=offering(
            B, "bundle", grouped("plan-m", "pack", valid_to="2027-01-01"),
            grouped("plan-m", "plan-f", valid_from="2027-01-01"),
        )),
        f"version {B}@2: has other components than {B}@1",
    ),
    "dates the wrong way round": (put(f"{V}/valid_to", "2025-01-01"), "is not after"),
}  # fmt: skip


def write(path: Path, cards: dict[str, Card], *only: str) -> Path:
    listed = {"offerings": [card for name, card in cards.items() if not only or name in only]}
    path.write_text(yaml.safe_dump(listed, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return path


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_bundle_is_refused_with_its_row_file_and_line(tmp_path: Path, fault: str) -> None:
    spoil, named = FAULTS[fault]
    cards = sound()
    validate_catalogue([write(tmp_path / "card.yaml", cards)], ZONE)  # sound before
    spoil(cards)
    with pytest.raises(CatalogueError) as refused:
        validate_catalogue([write(tmp_path / "card.yaml", cards)], ZONE)
    assert any(named in problem for problem in refused.value.problems), refused.value.problems
    assert all(found.place.file == "card.yaml" for found in refused.value.findings)
    assert all(found.place.line > 0 for found in refused.value.findings)


def test_a_bundle_read_back_is_written_as_the_same_rows() -> None:
    fees = {"fee_rule": "replaced", "fee_amount": "5.000001"}
    card = offering(B, "bundle", grouped("plan-m", "pack", monthly_fee_amount="99"))
    card["versions"][0]["components"][1] |= fees
    row = OfferingRow.model_validate(card)

    def rows(version: VersionRow) -> Any:
        return write_version(row, version, [], ZONE)

    content = rows(row.versions[0])
    again = rows(read_version(content, ZONE))
    assert again.by_key() == content.by_key()
    assert version_document(again, ZONE) == version_document(content, ZONE)


days = st.integers(0, 30).map(lambda number: date(2026, 1, 1) + timedelta(days=number))
spans = st.tuples(days, st.none() | days).filter(lambda span: span[1] is None or span[0] < span[1])


@given(spans, st.lists(spans, max_size=4))
def test_a_bundle_is_sound_exactly_when_its_component_is_in_force_each_of_its_days(
    bundle: tuple[date, date | None], component: list[tuple[date, date | None]]
) -> None:
    end = date(2026, 3, 1)  # after all of them

    def covered(span: tuple[date, date | None]) -> set[date]:
        return {span[0] + timedelta(days=n) for n in range(((span[1] or end) - span[0]).days)}

    def facts(span: tuple[date, date | None], *names: str) -> VersionFacts:
        return VersionFacts(*span, is_fixed=False, components=frozenset(names))

    known = {
        B: OfferingFacts("bundle", {1: facts(bundle, "plan-m")}),
        "plan-m": OfferingFacts("plan", dict(enumerate(map(facts, component)))),
    }
    row = OfferingRow.model_validate(offering("plan-m", "plan", {}))
    is_sound = covered(bundle) <= {day for span in component for day in covered(span)}
    assert (not list(bundle_findings([row], known))) == is_sound


@pytest.fixture
def loaded(operational: Settings, psql: Any, tmp_path: Path) -> Any:
    """The sound bundle, loaded; taken out afterwards."""
    load_catalogue(operational, write(tmp_path / "card.yaml", sound()))
    yield
    with psql() as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("delete from crm.product_instance where role = 'bundle'")
        ids = [["plan-m", "plan-f", "pack", B]]
        for table, key in (
            ("bundle_component", "plan_version_id"), ("price_step", "usage_price_id"),
            ("price_tier", "usage_price_id"), ("usage_price", "plan_version_id"),
            ("price_plan_version", "plan_version_id"),
        ):  # fmt: skip
            connection.execute(
                f"delete from catalogue.{table} where split_part({key}, '@', 1) = any(%s)", ids
            )
        connection.execute("delete from catalogue.offering where offering_id = any(%s)", ids)


@pytest.mark.usefixtures("loaded")
def test_loading_a_bundle_again_changes_nothing(operational: Settings, tmp_path: Path) -> None:
    file = write(tmp_path / "card.yaml", sound())
    assert diff_catalogue(operational, [file]).changes == []
    assert sum(load_catalogue(operational, file).values()) == 0
    # The components may be in the database alone.
    assert (
        diff_catalogue(operational, [write(tmp_path / "b.yaml", sound(), "bundle")]).findings == []
    )


@pytest.mark.usefixtures("loaded")
def test_a_component_of_a_loaded_bundle_does_not_end_before_it(
    operational: Settings, tmp_path: Path
) -> None:
    cards = sound()
    put("pack/versions/0/valid_to", "2027-01-01")(cards)
    with pytest.raises(
        CatalogueError, match=r"card\.yaml:2: version bundle-x@1, component pack: no"
    ):
        load_catalogue(operational, write(tmp_path / "card.yaml", cards, "pack"))


@pytest.mark.usefixtures("loaded")
def test_the_form_for_the_next_version_of_a_bundle_has_what_it_groups(
    browser: Callable[..., TestClient], psql: Any
) -> None:
    client, path = browser("finance", "en"), f"/catalogue/{B}/new-version"
    page = client.get(path).text
    assert "What it groups" in page
    assert "Usage prices" not in page
    sent = sent_fields(page, path) | {
        "valid_from": (datetime.now(UTC).date() + timedelta(days=3)).isoformat(),
        "monthly_fee_amount": "12", "components.0.fee_rule": "replaced", "reason": "dearer",
    }  # fmt: skip
    lacking = client.post(path, data=sent | {"do": "preview"})
    assert (lacking.status_code, "where the fee is another one" in lacking.text) == (422, True)
    shown = client.post(path, data=sent | {"components.0.fee_amount": "3", "do": "preview"})
    assert "monthly fee 3.00 yuan" in shown.text
    client.get("/language/zh")
    other = client.post(path, data=sent | {"components.0.fee_amount": "3", "do": "preview"})
    # By the names of the components, in either language; there is one that changes.
    for page_of, name in ((shown.text, "Pack"), (other.text, "小包")):
        assert len(re.findall(rf"<td>{name}<small>", page_of)) == 1
    saved = client.post(path, data=sent_fields(shown.text, path) | {"do": "save"})
    assert saved.headers.get("location") == f"/catalogue/{B}?version=2", saved.text
    with psql() as connection:
        rows = connection.execute(
            "select plan_version_id, offering_id, fee_rule, fee_amount"
            " from catalogue.bundle_component where plan_version_id like 'bundle-x@%%'"
            " order by 1, 2"
        ).fetchall()
    names = ("pack", "plan-f", "plan-m")
    assert rows == [
        *((f"{B}@1", name, "included", None) for name in names),
        (f"{B}@2", "pack", "replaced", Decimal(3)),
        *((f"{B}@2", name, "included", None) for name in names[1:]),
    ]


@pytest.mark.usefixtures("loaded")
def test_the_form_leaves_no_bundle_without_a_version_of_what_it_groups(
    browser: Callable[..., TestClient],
) -> None:
    client, path = browser("finance", "en"), "/catalogue/pack/new-version"
    begins, ends = (datetime.now(UTC).date() + timedelta(days=days) for days in (3, 30))
    sent = sent_fields(client.get(path).text, path) | {
        "valid_from": begins.isoformat(), "monthly_fee_amount": "11", "reason": "x", "do": "save",
    }  # fmt: skip
    ending = client.post(path, data=sent | {"valid_to": ends.isoformat()})
    assert (ending.status_code, f"in force on {ends}" in ending.text) == (422, True)
    saved = client.post(path, data=sent)
    assert saved.status_code == 303
    page = client.get("/catalogue/pack").text
    withdrawal = dict(re.findall(r'<input[^>]*name="([\w-]+)"[^>]*?value="([^"]*)"', page))
    answer = client.post("/catalogue/pack/withdraw-version", data=withdrawal | {"reason": "x"})
    assert answer.status_code == 303  # the version before is endless again


@pytest.mark.usefixtures("loaded")
def test_the_components_of_a_bundle_in_use_stay_as_they_are(psql: Any) -> None:
    of_bundle = "where plan_version_id = 'bundle-x@1'"
    change = f"update catalogue.bundle_component set fee_rule = 'own' {of_bundle}"
    with psql() as connection:
        assert connection.execute(change).rowcount == 3
        connection.rollback()
        connection.execute(
            "insert into crm.product_instance (product_instance_id, subscription_id, offering_id,"
            " role, valid_from) values ('P-bundle', 'S0000001', 'bundle-x', 'bundle', '2026-02-01')"
        )
    for statement in (
        change,
        f"delete from catalogue.bundle_component {of_bundle}",
        "insert into catalogue.bundle_component values ('bundle-x@1', 'plan-4g-76', 'own')",
        "truncate catalogue.bundle_component",
    ):
        with psql() as connection, pytest.raises(errors.RestrictViolation):
            connection.execute(statement)


# --- ordering and ending --------------------------------------------------------------------------

AGENT = Principal("agent44", "agent44", "agent", "44")
PAIR, SINGLE = "bundle-sample-4g-76-fixed", "bundle-sample-4g-106-data"
SINGLE_NAMES = {"zh": "示例融合套餐", "en": "Sample bundle"}


@pytest.fixture
def numbers(psql: Any) -> tuple[str, str]:
    """A free mobile number and a free number of a fixed line, of the agent's province."""
    with psql() as connection:
        (mobile,) = connection.execute(
            "select min(msisdn) from resource.msisdn where status = 'free' and province_code = '44'"
            " and msisdn like '861%'"
        ).fetchone()
        (taken,) = connection.execute(
            "select count(*) from resource.msisdn where msisdn like '8620%'"
        ).fetchone()
        fixed = f"8620850{taken:05d}"
        connection.execute(
            "insert into resource.msisdn (msisdn, province_code, status) values (%s, '44', 'free')",
            (fixed,),
        )
    return mobile, fixed


def place(
    settings: Settings, request: NewSubscriptionRequest | BundleRequest, order_id: str = ""
) -> CustomerOrder:
    return place_order(
        settings, principal=AGENT, order_id=order_id or f"O-{uuid.uuid4().hex[:20]}",
        request=request,
    )  # fmt: skip


def new_lines(msisdn: str, offering_id: str, **more: Any) -> NewSubscriptionRequest:
    fields = {"province_code": "44", "customer_name": "孙七", "msisdn": msisdn,
              "offering_id": offering_id} | more  # fmt: skip
    return NewSubscriptionRequest.model_validate(fields)


def held(psql: Any, account_of: str | None) -> list[tuple[Any, ...]]:
    """What lines of an account hold or held: offering, role, kind of line, bundle, if ended."""
    with psql() as connection:
        return connection.execute(  # type: ignore[no-any-return]
            """
            select prd.offering_id, prd.role, sub.service_type, bdl.offering_id,
                prd.valid_to is not null
            from crm.subscription as asked
            join crm.subscription as sub on sub.account_id = asked.account_id
            join crm.product_instance as prd on prd.subscription_id = sub.subscription_id
            left join crm.product_instance as bdl
                on bdl.product_instance_id = prd.bundle_instance_id
            where asked.subscription_id = %s
            order by prd.valid_from, prd.role desc, sub.service_type desc, prd.offering_id
            """,
            (account_of,),
        ).fetchall()


def bundle_of(psql: Any, subscription_id: str | None) -> str:
    with psql() as connection:
        (found,) = connection.execute(
            "select max(product_instance_id) from crm.product_instance"
            " where role = 'bundle' and subscription_id = %s",
            (subscription_id,),
        ).fetchone()
    return str(found)


def as_held(bundle: str, is_ended: bool = False) -> list[tuple[Any, ...]]:
    """The products of the sample bundle for two lines while it is held, or after."""
    return [
        ("plan-4g-76", "plan", "mobile", bundle, False),
        ("plan-fixed-line", "plan", "fixed", bundle, False),
        (bundle, "bundle", "mobile", None, is_ended),
        ("data-pack-100mb", "addon", "mobile", bundle, is_ended),
    ]


def test_a_new_customer_gets_both_lines_and_all_products_of_a_bundle(
    operational: Settings, psql: Any, numbers: tuple[str, str]
) -> None:
    mobile, fixed = numbers
    # Whichever line is named first, the bundle is the mobile line's.
    order = place(operational, new_lines(fixed, PAIR, second_msisdn=mobile))
    assert order.state == "completed"
    assert sorted(held(psql, order.subscription_id)) == sorted(as_held(PAIR))


def test_ending_a_bundle_ends_its_add_ons_and_leaves_the_plans(
    operational: Settings, psql: Any, numbers: tuple[str, str]
) -> None:
    mobile, fixed = numbers
    order = place(operational, new_lines(mobile, PAIR, second_msisdn=fixed))
    product = bundle_of(psql, order.subscription_id)
    end_product(operational, principal=AGENT, product_instance_id=product)
    assert sorted(held(psql, order.subscription_id)) == sorted(as_held(PAIR, is_ended=True))
    with pytest.raises(ConflictError, match="has ended already"):
        end_product(operational, principal=AGENT, product_instance_id=product)


def test_a_line_that_is_there_joins_and_changes_to_another_bundle(
    operational: Settings, psql: Any, numbers: tuple[str, str]
) -> None:
    mobile, fixed = numbers
    first = place(operational, new_lines(mobile, "plan-4g-106"))
    line = str(first.subscription_id)
    joined = place(operational, BundleRequest(subscription_id=line, offering_id=SINGLE))
    assert (joined.order_type, joined.subscription_id) == ("bundle", line)
    single = [
        (SINGLE, "bundle", "mobile", None, False), ("plan-4g-106", "plan", "mobile", SINGLE, False),
        ("data-pack-500mb", "addon", "mobile", SINGLE, False),
    ]  # fmt: skip
    plan_before = ("plan-4g-106", "plan", "mobile", None, True)
    assert sorted(map(str, held(psql, line))) == sorted(map(str, [plan_before, *single]))
    with psql() as connection:
        (account, customer) = connection.execute(
            "select account_id, customer_id from crm.subscription join crm.account"
            " using (account_id) where subscription_id = %s", (line,)
        ).fetchone()  # fmt: skip
    more = {"customer_name": None, "customer_id": customer, "account_id": account}
    place(operational, new_lines(fixed, PAIR, with_subscription_id=line, **more))
    assert sorted(map(str, held(psql, line))) == sorted(
        map(str, [plan_before, *((*product[:4], True) for product in single), *as_held(PAIR)])
    )


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({}, "has a fixed line: give its number"),
        ({"offering_id": SINGLE, "second": "fixed"}, "is for one line: leave the second number"),
        ({"second": "mobile"}, "is not for number"),
        ({"second": "862085099999"}, "is not in the pool"),
        ({"second": "fixed", "offering_id": "bundle-none"}, "is not on sale"),
        ({"with_subscription_id": "S0000002", "customer": "C0000001"}, "is not of account"),
        ({"with_subscription_id": "S0000001", "customer": "C0000001"}, "is no fixed line"),
        ({"with_subscription_id": "S9999999", "customer": "C0000001"}, "there is no subscription"),
    ],
)
def test_a_bundle_that_cannot_be_given_whole_leaves_nothing_behind(
    operational: Settings, psql: Any, numbers: tuple[str, str], change: Card, refusal: str
) -> None:
    mobile, fixed = numbers
    fields: Card = {"offering_id": PAIR, "msisdn": mobile} | change
    if second := fields.pop("second", None):
        fields["second_msisdn"] = {"fixed": fixed, "mobile": "8618699999999"}.get(second, second)
    if customer := fields.pop("customer", None):
        fields |= {"customer_name": None, "customer_id": customer,
                   "account_id": customer.replace("C", "A")}  # fmt: skip

    def everything() -> list[Any]:
        with psql() as connection:
            return [
                connection.execute(f"select count(*), max({column}::text) from {table}").fetchone()
                for table, column in (
                    ("crm.customer", "customer_id"), ("crm.account", "account_id"),
                    ("crm.subscription", "subscription_id"),
                    ("crm.product_instance", "updated_at"), ("resource.msisdn", "updated_at"),
                )
            ]  # fmt: skip

    before = everything()
    with pytest.raises(OrderError, match=refusal):
        place(operational, new_lines(**fields))
    assert everything() == before


def test_a_line_in_the_bundle_of_another_leaves_it_only_with_that(
    operational: Settings, psql: Any, numbers: tuple[str, str]
) -> None:
    mobile, fixed = numbers
    order = place(operational, new_lines(mobile, PAIR, second_msisdn=fixed))
    with psql() as connection:
        (other,) = connection.execute(
            "select subscription_id from crm.subscription where msisdn = %s and valid_to is null",
            (fixed,),
        ).fetchone()
        (account,) = connection.execute(
            "select account_id from crm.subscription where subscription_id = %s", (other,)
        ).fetchone()
        (spare,) = connection.execute(
            "insert into crm.subscription (subscription_id, account_id, msisdn, service_type,"
            " payment_type, status, valid_from, province_code) values ('S-spare-' || %s, %s,"
            " '86185' || right(%s, 8), 'mobile', 'postpaid', 'active', now(), '44')"
            " returning subscription_id",
            (other, account, fixed),
        ).fetchone()
    request = BundleRequest(subscription_id=spare, offering_id=PAIR, with_subscription_id=other)
    with pytest.raises(OrderError, match=f"in a bundle of subscription {order.subscription_id}"):
        place(operational, request)
    end_product(
        operational, principal=AGENT, product_instance_id=bundle_of(psql, order.subscription_id)
    )
    assert place(operational, request).state == "completed"


def test_the_database_keeps_a_component_to_its_bundle(
    operational: Settings, psql: Any, numbers: tuple[str, str]
) -> None:
    mobile, fixed = numbers
    order = place(operational, new_lines(mobile, PAIR, second_msisdn=fixed))
    bundle = bundle_of(psql, order.subscription_id)
    for statement in (
        "update crm.product_instance set valid_to = now() + interval '1 day'"
        " where bundle_instance_id = %s and role = 'addon'",
        # as the bundle of a line of somebody else, or of what is no bundle
        "insert into crm.product_instance (product_instance_id, subscription_id, offering_id, role,"
        " valid_from, bundle_instance_id)"
        " values ('P-x', 'S0000002', 'data-pack-500mb', 'addon', now(), %s)",
        "update crm.product_instance set bundle_instance_id = (select min(product_instance_id)"
        " from crm.product_instance where bundle_instance_id = %s) where product_instance_id ="
        " (select max(product_instance_id) from crm.product_instance where role = 'addon')",
    ):
        with pytest.raises(errors.RestrictViolation, match="held through a bundle"), psql() as run:
            run.execute(statement, (bundle,))
    with psql() as connection:  # together they end in whatever order
        for role in ("addon", "plan", "bundle"):
            connection.execute(
                "update crm.product_instance set valid_to = now() + interval '1 day'"
                " where %s in (bundle_instance_id, product_instance_id) and role = %s",
                (bundle, role),
            )


def test_the_database_keeps_the_lines_of_a_bundle_in_one_account(
    operational: Settings, psql: Any, numbers: tuple[str, str]
) -> None:
    mobile, fixed = numbers
    order = place(operational, new_lines(mobile, PAIR, second_msisdn=fixed))
    bundle = bundle_of(psql, order.subscription_id)
    with psql() as connection:
        lines = [
            found for (found,) in connection.execute(
                "select subscription_id from crm.subscription where valid_to is null"
                " and msisdn in (%s, %s) order by subscription_id = %s",
                (mobile, fixed, order.subscription_id),
            )
        ]  # fmt: skip
        (home,) = connection.execute(
            "select account_id from crm.subscription where subscription_id = %s", (lines[0],)
        ).fetchone()
    assert len(lines) == 2

    def move(account_id: str, *moved: str) -> None:
        with psql() as connection:
            for line in moved:
                connection.execute(
                    "update crm.subscription set account_id = %s where subscription_id = %s",
                    (account_id, line),
                )

    for line in lines:
        with pytest.raises(errors.RestrictViolation, match="stays in its account"):
            move("A0000001", line)
    move("A0000001", *lines)
    move(home, *lines)
    end_product(operational, principal=AGENT, product_instance_id=bundle)
    move("A0000001", lines[0])
    with psql() as connection:  # what is left of the bundle ends by itself
        ended = connection.execute(
            "update crm.product_instance set valid_to = now() + interval '1 day'"
            " where bundle_instance_id = %s and valid_to is null",
            (bundle,),
        )
        assert ended.rowcount == 2  # the plans


@pytest.mark.parametrize(
    "fields",
    [
        {"second_msisdn": "862085000001", "with_subscription_id": "S0000001",
         "customer_name": None, "customer_id": "C0000001", "account_id": "A0000001"},
        {"with_subscription_id": "S0000001"},  # of no account yet
    ],
)  # fmt: skip
def test_the_other_line_is_named_once_and_has_its_account(fields: Card) -> None:
    with pytest.raises(ValidationError) as refused:
        new_lines("8618600000999", PAIR, **fields)
    assert [error["loc"] for error in refused.value.errors()] == [("with_subscription_id",)]


def test_who_may_not_order_or_end_is_refused(operational: Settings, psql: Any) -> None:
    analyst = Principal("analyst", "analyst", "analyst", "00")
    with pytest.raises(ForbiddenError):
        end_product(operational, principal=analyst, product_instance_id="P")
    with pytest.raises(NotFoundError, match="there is no product P-none"):
        end_product(operational, principal=AGENT, product_instance_id="P-none")
    elsewhere = BundleRequest(subscription_id="S0000003", offering_id=SINGLE)  # of Beijing
    with pytest.raises(NotFoundError):
        place(operational, elsewhere)


def test_bundles_are_ordered_and_ended_on_the_pages_and_by_rest(
    operational: Settings, psql: Any, numbers: tuple[str, str],
    browser: Callable[..., TestClient],
) -> None:  # fmt: skip
    mobile, fixed = numbers
    client = browser("agent44", "en")
    token = re.findall(r'name="csrf_token" value="(\w+)"', client.get("/orders/new").text)[0]
    form = {"csrf_token": token, "order_id": f"O-{uuid.uuid4().hex[:20]}", "intent": "submit",
            "customer_choice": "new", "customer_name": "周八", "province_code": "44",
            "offering_id": PAIR, "msisdn": mobile, "payment_type": "postpaid",
            "bill_language": "en", "second_msisdn": fixed}  # fmt: skip
    offered = html.unescape(client.get("/orders/new").text)
    assert PAIR in offered
    with psql() as connection:
        names = connection.execute(
            "select name_en from catalogue.offering join catalogue.bundle_component"
            " using (offering_id) where plan_version_id = %s order by offering_type desc,"
            " offering_id",
            (f"{PAIR}@1",),
        ).fetchall()
    assert len(names) > 1
    assert " + ".join(name for (name,) in names) in offered
    answer = client.post("/orders", data=form, follow_redirects=False)
    assert answer.status_code == 303, answer.text
    assert client.get(answer.headers["location"]).status_code == 200
    with psql() as connection:
        (line,) = connection.execute(
            "select subscription_id from crm.customer_order where order_id = %s",
            (form["order_id"],),
        ).fetchone()
    page = client.get(f"/subscriptions/{line}").text
    product = bundle_of(psql, line)
    assert f"/subscriptions/{line}/products/{product}/end" in page
    ended = client.post(
        f"/subscriptions/{line}/products/{product}/end", data={"csrf_token": token},
        follow_redirects=False,
    )  # fmt: skip
    assert ended.headers["location"] == f"/subscriptions/{line}"
    assert f"products/{product}/end" not in client.get(f"/subscriptions/{line}").text
    taken = client.post(
        f"/subscriptions/{line}/bundle",
        data={"csrf_token": token, "offering_id": SINGLE, "order_id": "O-page-bundle"},
        follow_redirects=False,
    )  # fmt: skip
    assert taken.headers["location"] == "/orders/O-page-bundle"
    shown = client.get("/orders/O-page-bundle").text
    assert line in shown
    assert f'href="/catalogue/{SINGLE}"' in shown
    assert line in client.get("/orders").text
    agent = ("agent44", "tollhouse")
    product = bundle_of(psql, line)
    path = f"/tmf-api/productInventory/v4/product/{product}/end"
    assert client.post(path, auth=agent).json()["terminationDate"] is not None
    assert client.post(path, auth=agent).status_code == 409
    order = {"subscription_id": line, "offering_id": SINGLE}
    path = "/tmf-api/productOrderingManagement/v4/productOrder/bundle"
    assert client.post(path, json=order, auth=agent).status_code == 400
    answers = [
        client.post(path, json=order, auth=agent, headers={"Idempotency-Key": "one bundle"}).json()
        for _ in range(2)
    ]
    assert answers[0] == answers[1]
    assert (answers[0]["orderType"], answers[0]["state"]) == ("bundle", "completed")
    shown = client.get(f"/catalogue/{PAIR}").text
    assert all(name in shown for name in ("plan-4g-76", "plan-fixed-line", "data-pack-100mb"))
    offered = client.get(
        f"/tmf-api/productCatalogManagement/v4/productOffering/{PAIR}", auth=agent
    ).json()
    assert offered["isBundle"]
    assert {row["id"]: row["feeRule"] for row in offered["bundledProductOffering"]} == {
        "plan-4g-76": "included", "plan-fixed-line": "included", "data-pack-100mb": "replaced",
    }  # fmt: skip


def test_the_runbook_shows_a_bundle_that_is_sound(tmp_path: Path) -> None:
    text = (PROJECT_ROOT / "docs/runbooks/change-a-tariff.md").read_text(encoding="utf-8")
    example = next(block for block in re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
                   if "offering_type: bundle" in block)  # fmt: skip
    (tmp_path / "example.yaml").write_text(example, encoding="utf-8")
    checked = validate_catalogue([SAMPLE_CATALOGUE, tmp_path / "example.yaml"], ZONE)
    assert "bundle-home@1" in checked.contents


# --- the bill -------------------------------------------------------------------------------------


@pytest.fixture
def held_in_2049(operational: Settings, psql: Any) -> Iterator[str]:
    """A cycle to come on trial in which a line holds the bundle from the 5th on."""
    cycle_id = "2049-03"
    ensure_cycle(operational, cycle_id, ZONE)
    for state in ("cut_off", "trial"):
        advance_cycle(operational, cycle_id, state, "test", "test")
    with psql() as connection:
        connection.execute(
            "insert into crm.product_instance (product_instance_id, subscription_id, offering_id,"
            f" role, valid_from) values ('P-2049', 'S0000001', '{SINGLE}', 'bundle', '2049-03-05')"
        )
    yield cycle_id
    with psql() as connection:
        for table in ("bill_item", "bill"):
            connection.execute(
                f"delete from billing.{table} where bill_id in"
                " (select bill_id from billing.bill where cycle_id = %s)",
                (cycle_id,),
            )
        connection.execute("delete from crm.product_instance where product_instance_id = 'P-2049'")


def test_the_bill_says_whose_monthly_fees_a_bundle_includes(
    operational: Settings, held_in_2049: str, browser: Callable[..., TestClient]
) -> None:
    publish_bills(operational, *bills(held_in_2049))
    sentences = {
        "zh": "已含以下产品的月费：4G全国套餐106元、4G流量包30元500MB",
        "en": "includes the monthly fees of 4G national 106, 4G data pack 500MB",
    }
    bill_id, other = (f"B-{held_in_2049}-{number}" for number in (1, 2))
    for language, sentence in sentences.items():
        with transaction(operational) as session:
            document = make_bill(
                session, operational, principal=AGENT, bill_id=bill_id, language=language
            )
        assert [sentence in note for note in document.bundles] == [True]
        assert sentence in render_bill(document, "html", ZONE).decode()
        text = "".join(
            page.extract_text()
            for page in PdfReader(io.BytesIO(render_bill(document, "pdf", ZONE))).pages
        )
        assert SINGLE_NAMES[language] in text
        assert sentence in browser("agent44", language).get(f"/bills/{bill_id}").text
    assert "includes the monthly fees" not in browser("agent44", "en").get(f"/bills/{other}").text
