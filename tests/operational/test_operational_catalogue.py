"""The catalogue: what is loaded, and what is refused by name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, reject
from hypothesis import strategies as st
from psycopg import errors
from typer.testing import CliRunner

from operational.catalogue.authoring import (
    BILL_ITEMS,
    CatalogueFile,
    OfferingRow,
    UsagePriceRow,
    VersionRow,
)
from operational.catalogue.checks import Known, check_catalogue, clock
from operational.catalogue.content import read_version, version_document, write_version
from operational.catalogue.files import SAMPLE_CATALOGUE, Catalogue, PriceList
from operational.catalogue.findings import NOWHERE, CatalogueError, Finding
from operational.catalogue.loader import diff_catalogue, load_catalogue, validate_catalogue
from operational.catalogue.price_steps import PriceStepError
from tollhouse.cli import app
from tollhouse.settings import PROJECT_ROOT, Settings

Card = dict[str, Any]
ZONE = "Asia/Shanghai"


def small_card() -> Card:
    """A catalogue of one plan with the three classes a plan prices, and a calendar."""
    return {
        "charge_classes": [
            charge_class("voice", "second"), charge_class("sms", "event"),
            charge_class("data", "octet"),
            below("voice_local"),
            charge_class("vas", "event") | {"charge_class": "vas_content"},
        ],
        "calendars": [
            {
                "calendar_id": "half", "name_zh": "半日", "name_en": "Half days",
                "periods": [
                    {"band": "morning", "days": "all", "from": "00:00", "to": "12:00"},
                    {"band": "evening", "days": "all", "from": "12:00", "to": "24:00"},
                ],
                "holidays": [holiday("2026-10-01")],
            }
        ],
        "price_lists": {"listed": [price("sms", 1)]},
        "offerings": [
            {
                "offering_id": "plan-x", "offering_type": "plan", "name_zh": "试", "name_en": "x",
                "versions": [version(1, "2026-01-01")],
            }
        ],
    }  # fmt: skip


def charge_class(service: str, unit: str) -> Card:
    return {
        "charge_class": f"{service}_domestic", "service": service, "unit": unit,
        "bill_item_code": service, "name_zh": "国内", "name_en": "Domestic",
    }  # fmt: skip


def below(name: str, above: str = "voice_domestic", **more: Any) -> Card:
    """A charge class below another."""
    return {"charge_class": name, "parent_class": above, "name_zh": "类", "name_en": "x"} | more


def holiday(day: str) -> Card:
    return {"holiday_date": day, "name_zh": "节日", "name_en": "Holiday"}


def price(service: str, increment: Any = 60, **more: Any) -> Card:
    return {
        "charge_class": f"{service}_domestic", "model": "slots", "tiers": [tier(increment)]
    } | more  # fmt: skip


def version(number: int, valid_from: str, **more: Any) -> Card:
    return {
        "version_number": number, "valid_from": valid_from, "monthly_fee_amount": "10",
        "calendar": "half", "price_list": "listed",
        "usage_prices": [
            price("voice"),
            price("data", "1 MB", model="graduated", tiers=[
                tier("1 MB", to_quantity="100 MB"), tier("1 MB", from_quantity="100 MB"),
            ]),
        ],
        "allowances": [
            {
                "allowance": "voice", "unit": "second", "size_quantity": "100 min",
                "quantity_basis": "rounded", "rounding_increment": 60, "covers": ["voice_domestic"],
            }
        ],
        "discounts": [
            {"discount": "loyal", "name_zh": "优惠", "name_en": "Loyal", "kind": "percent",
             "value": "10", "bill_item_codes": ["rent"]}
        ],
        "one_off_prices": [{"occasion": "join", "amount": "5"}],
    } | more  # fmt: skip


def tier(increment: Any = 60, **more: Any) -> Card:
    return {"increment_quantity": increment, "price_amount": "0.15"} | more


def in_bands(*bands: str) -> list[Card]:
    return [price("voice", band=band) for band in bands]


def bare(**more: Any) -> Card:
    """A version of nothing but its validity."""
    return {"version_number": 1, "valid_from": "2026-01-01", "monthly_fee_amount": "0"} | more


def bound(**more: Any) -> Card:
    """A commitment of a year."""
    return {"months": 12, "penalty_rule": "fixed", "penalty_value": "100"} | more


def sp_content(offering_id: str, **more: Any) -> Card:
    """Content of a provider at one price."""
    paid = {"charge_class": "vas_content", "model": "slots", "tiers": [tier(1)]}
    return {
        "offering_id": offering_id, "offering_type": "content", "name_zh": "内容",
        "name_en": "Content", "sp_id": "900", "content_id": "A",
        "versions": [bare(usage_prices=[paid], **more)],
    }  # fmt: skip


def edit(path: str, value: Any = None) -> Callable[[Card], None]:
    """Sets (or, without a value, deletes) what a path of keys leads to."""

    def change(card: Card) -> None:
        *steps, last = [int(step) if step.isdigit() else step for step in path.split("/")]
        content: Any = card
        for step in steps:
            content = content[step]
        if value is None:
            del content[last]
        elif last == "+":
            content.append(value)
        else:
            content[last] = value

    return change


V = "offerings/0/versions/0"
VOICE, DATA = f"{V}/usage_prices/0", f"{V}/usage_prices/1"


def with_friends(also_covered: Any) -> Callable[[Card], None]:
    """Adds local calls to friends, and lets the allowance cover friends and something else."""

    def change(card: Card) -> None:
        friends = {"before_class": "voice_friend"}
        card["charge_classes"] += [
            below("voice_friend"), below("voice_friend_local", "voice_local", **friends),
        ]  # fmt: skip
        edit(f"{V}/allowances/0/covers", ["voice_friend", also_covered])(card)

    return change


FAULTS: dict[str, tuple[Callable[[Card], None], str]] = {
    "suspension dearer than the fee": (
        edit(f"{V}/suspension_fee_amount", "10.01"),
        "suspension_fee_amount is more than monthly_fee_amount",
    ),
    "penalty on something else": (
        edit(f"{V}/commitment", bound(penalty_on="change")), "penalty_on",
    ),
    "an add-on that is changed": (
        lambda card: card["offerings"].append({
            "offering_id": "addon-y", "offering_type": "addon", "name_zh": "试", "name_en": "y",
            "versions": [bare(commitment=bound(penalty_on="leave_or_change"))],
        }),
        "version addon-y@1: an add-on is left and never changed: its penalty_on is leave",
    ),
    "offering twice": (
        lambda card: card["offerings"].append(card["offerings"][0]),
        "offering plan-x: duplicate id",
    ),
    "version twice": (
        edit("offerings/0/versions/+", version(1, "2027-01-01")),
        "version plan-x@1: duplicate id",
    ),
    "overlapping validity": (
        edit("offerings/0/versions/+", version(2, "2026-06-01")),
        "version plan-x@2: overlapping validity with plan-x@1",
    ),
    "ends before it begins": (
        edit(f"{V}/valid_to", "2025-01-01"), "version plan-x@1: valid_to 2025-01-01 is not after",
    ),
    "duplicate price": (
        edit(f"{V}/usage_prices/+", price("voice")),
        "version plan-x@1, price voice_domestic: duplicate price",
    ),
    "priced in the list too": (
        edit(f"{V}/usage_prices/+", price("sms", 1)),
        "version plan-x@1, price sms_domestic: duplicate price",
    ),
    "missing price": (edit(DATA), "version plan-x@1, price data_domestic: missing price"),
    "missing price list": (
        edit(f"{V}/price_list", "none"), "version plan-x@1: there is no price list none",
    ),
    "no tier": (
        edit(f"{VOICE}/tiers", []), "version plan-x@1, price voice_domestic: missing price",
    ),
    "tier gap": (
        edit(f"{DATA}/tiers/1/from_quantity", "150 MB"),
        "version plan-x@1, price data_domestic, tier 2: gap: begins at 157286400",
    ),
    "tiers out of order": (
        lambda card: card["offerings"][0]["versions"][0]["usage_prices"][1]["tiers"].reverse(),
        "version plan-x@1, price data_domestic, tier 2: follows a tier without an end",
    ),
    "tiers overlap": (
        edit(f"{DATA}/tiers/1/from_quantity", "50 MB"),
        "price data_domestic, tier 2: overlap or out of order: begins at 52428800",
    ),
    "slot gap": (
        edit(f"{VOICE}/tiers", [tier(to_quantity=60), tier(from_quantity=120)]),
        "price voice_domestic, tier 2: gap: begins at 120 instead of 60",
    ),
    "nothing after the last tier": (
        edit(f"{DATA}/tiers/1/to_quantity", "200 MB"),
        "price data_domestic, tier 2: gap: nothing after 209715200",
    ),
    "repeat gap": (
        edit(f"{DATA}/repeat_quantity", "1 GB"),
        "price data_domestic, tier 2: gap: the last tier ends at –",
    ),
    "package of two tiers": (
        edit(f"{DATA}/model", "package"), "price data_domestic: package takes exactly one tier",
    ),
    "flat fee in slots": (
        edit(f"{VOICE}/tiers/0/flat_amount", "1"),
        "price voice_domestic: flat_amount has no meaning in model slots",
    ),
    "least above most": (
        lambda card: card["offerings"][0]["versions"][0]["usage_prices"][0].update(
            minimum_amount="2", maximum_amount="1"
        ),
        "price voice_domestic: minimum_amount is more than maximum_amount",
    ),
    "band without price": (
        edit(f"{V}/usage_prices/0", in_bands("morning")[0]),
        "version plan-x@1, price voice_domestic: missing price in band evening of calendar half",
    ),
    "band and all day": (
        edit(f"{V}/usage_prices/+", in_bands("morning")[0]),
        "price voice_domestic: has a price for all day and prices by band",
    ),
    "unknown band": (
        edit(f"{V}/usage_prices/0", in_bands("night")[0]),
        "price voice_domestic/night: calendar half has no band night; it has evening, morning",
    ),
    "calendar hole": (
        edit("calendars/0/periods/0/to", "11:59"),
        "calendar half: hole: no band on mon from 11:59 to 12:00",
    ),
    "calendar hole on holidays": (
        edit("calendars/0/periods/0/days", "mon-sun"),
        "calendar half: hole: no band on holiday from 00:00 to 12:00",
    ),
    "calendar overlap": (
        edit("calendars/0/periods/1/from", "11:00"),
        "calendar half: overlap: mon from 11:00 to 12:00 is in bands morning and evening",
    ),
    "holiday twice": (
        edit("calendars/0/holidays/+", holiday("2026-10-01")),
        "calendar half, holiday 2026-10-01: given twice",
    ),
    "unknown class": (
        edit(f"{VOICE}/charge_class", "voice_martian"),
        "price voice_martian: there is no charge class voice_martian",
    ),
    "unknown calendar": (
        edit(f"{V}/calendar", "lunar"), "version plan-x@1: there is no calendar lunar",
    ),
    "unknown bill item": (
        edit(f"{VOICE}/bill_item_code", "gifts"), "price voice_domestic: there is no bill item",
    ),
    "discount on what is collected for others": (
        edit(f"{V}/discounts/0/bill_item_codes", ["rent", "collection"]),
        "discount loyal: item collection is collected for others",
    ),
    "unknown class above": (
        edit("charge_classes/3/parent_class", "voice_martian"),
        "charge class voice_local: there is no charge class voice_martian",
    ),
    "classes in a circle": (
        edit("charge_classes/0/parent_class", "voice_local"),
        "charge class voice_domestic: its class above, voice_local, stands below it",
    ),
    "goes by a class that is not there": (
        edit("charge_classes/3/before_class", "voice_martian"),
        "charge class voice_local: there is no charge class voice_martian",
    ),
    "goes by a class below it": (
        edit("charge_classes/0/before_class", "voice_local"),
        "charge class voice_domestic: its class above, voice_local, stands below it",
    ),
    "goes by a class of another unit": (
        edit("charge_classes/3/before_class", "data_domestic"),
        "charge class voice_local: counts second, but data_domestic",
    ),
    "covered at different times as what both classes are": (
        with_friends({"charge_class": "voice_local", "band": "evening"}),
        "allowance voice: covers voice_local/evening, which voice_friend covers already",
    ),
    "covers another unit": (
        edit(f"{V}/allowances/0/covers", ["data_domestic"]),
        "allowance voice: counts second, but data_domestic counts octet",
    ),
    "covered twice": (
        edit(f"{V}/allowances/0/covers", ["voice_domestic", "voice_local"]),
        "allowance voice: covers voice_local, which voice_domestic covers already",
    ),
    "size zero": (
        edit(f"{V}/allowances/0/size_quantity", "0 MB"),
        "version plan-x@1, allowance voice: size_quantity is more than zero",
    ),
    "size negative": (
        edit(f"{V}/allowances/0/size_quantity", -60), "allowance voice: size_quantity is more than",
    ),
    "size in another unit": (
        edit(f"{V}/allowances/0/size_quantity", "5 MB"),
        "allowance voice: is written in octet, but counts second",
    ),
    "seven decimals": (
        edit(f"{VOICE}/tiers/0/price_amount", "0.1234567"),
        "price voice_domestic, tier 1: price_amount: 0.1234567 has more than 6 decimals",
    ),
    "binary fraction": (
        edit(f"{VOICE}/tiers/0/price_amount", 0.15), "write '0.15' in quotes",
    ),
    "negative price": (
        edit(f"{VOICE}/tiers/0/price_amount", "-1"), "price_amount must not be negative: -1",
    ),
    "misspelt": (edit(f"{V}/monthly_fee", "1"), "version plan-x@1: there is no field monthly_fee"),
    "discount above 100 percent": (
        edit(f"{V}/discounts/0/value", "101"),
        "version plan-x@1, discount loyal: 101 percent is more than 100",
    ),
    "occasion twice": (
        edit(f"{V}/one_off_prices/+", {"occasion": "join", "amount": "1"}),
        "version plan-x@1, one-off price join: duplicate occasion",
    ),
    "cannot be calculated exactly": (
        edit(f"{VOICE}/tiers/0/per_quantity", "9999999999971 s"),
        "version plan-x@1: the prices cannot be calculated with exactly",
    ),
    "content without its codes": (
        edit("offerings/0/offering_type", "content"), "offering plan-x: content has both sp_id",
    ),
    "codes of a plan": (
        edit("offerings/0/sp_id", "900"), "offering plan-x: content has both sp_id",
    ),
    "content without a price": (
        edit("offerings/+", sp_content("content-x") | {"versions": [bare()]}),
        "version content-x@1: missing price: content prices vas_content",
    ),
    "content with a fee": (
        edit("offerings/+", sp_content("content-x", monthly_fee_amount="1")),
        "version content-x@1: content prices vas_content and nothing else, nobody holds it: drop"
        " monthly_fee_amount",
    ),
    "the same content twice": (
        lambda card: card["offerings"].extend([sp_content("content-x"), sp_content("content-y")]),
        "offering content-y: this sp_id and content_id belong to",
    ),
}  # fmt: skip


def write(path: Path, card: Card) -> Path:
    path.write_text(yaml.safe_dump(card, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return path


def line_of(path: Path, needle: str) -> int:
    lines = path.read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if needle in line)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_catalogue_is_refused_with_the_row_and_its_file_and_line_named(
    tmp_path: Path, fault: str
) -> None:
    spoil, named = FAULTS[fault]
    card = small_card()
    validate_catalogue([write(tmp_path / "card.yaml", card)], ZONE)  # sound before
    spoil(card)
    with pytest.raises(CatalogueError) as refused:
        validate_catalogue([write(tmp_path / "card.yaml", json.loads(json.dumps(card)))], ZONE)
    assert any(named in problem for problem in refused.value.problems), refused.value.problems
    assert all(finding.place.file == "card.yaml" for finding in refused.value.findings)
    assert all(finding.place.line > 0 for finding in refused.value.findings)


def test_all_findings_are_reported_at_once_each_at_its_line(tmp_path: Path) -> None:
    card = small_card()
    for fault in ("tier gap", "covers another unit", "calendar hole", "occasion twice"):
        FAULTS[fault][0](card)
    file = write(tmp_path / "card.yaml", card)
    with pytest.raises(CatalogueError) as refused:
        validate_catalogue([file], ZONE)
    lines = {finding.code: finding.place.line for finding in refused.value.findings}
    assert lines["tier_gap"] == line_of(file, "from_quantity: 150 MB") - 2
    assert lines["other_unit"] == line_of(file, "  covers:") + 1
    assert lines["occasion_twice"] == line_of(file, "one_off_prices") + 3
    assert "calendar_hole" in lines
    assert sum(code == "calendar_hole" for code in (f.code for f in refused.value.findings)) == 8


def test_a_faulty_field_does_not_hide_what_is_wrong_with_other_offerings(tmp_path: Path) -> None:
    card = small_card()
    faulty, other = (card["offerings"][0] | {"offering_id": name} for name in ("a", "plan-y"))
    faulty["versions"] = [version(1, "2026-01-01", monthly_fee_amount="cheap")]
    other["versions"] = [version(2, "2026-01-01", calendar="none")]
    path = write(tmp_path / "plans.yaml", card | {"offerings": [faulty, other]})
    with pytest.raises(CatalogueError) as refused:
        validate_catalogue([tmp_path], ZONE)
    found = {(finding.code, finding.place.line) for finding in refused.value.findings}
    assert found == {
        ("field_no_number", line_of(path, "monthly_fee_amount: cheap")),
        ("unknown_calendar", line_of(path, "version_number: 2")),
    }


def test_content_or_a_price_given_twice_is_named_with_both_its_rows(tmp_path: Path) -> None:
    one, two = tmp_path / "a.yaml", tmp_path / "b.yaml"
    card = small_card()
    card["price_lists"]["again"] = [price("sms", 1)]
    card["offerings"][0]["versions"][0]["price_list"] = ["listed", "again"]
    write(one, card | {"offerings": [*card["offerings"], sp_content("content-x")]})
    write(two, {"offerings": [sp_content("content-y")]})
    with pytest.raises(CatalogueError) as refused:
        validate_catalogue([tmp_path], ZONE)
    found = {finding.code: (str(finding.place), str(finding.values["first"]))
             for finding in refused.value.findings}  # fmt: skip
    listed = [
        number
        for number, line in enumerate(one.read_text().splitlines(), 1)
        if line.endswith("charge_class: sms_domestic") and line.startswith("  -")
    ]
    assert found == {
        "content_twice": (
            f"b.yaml:{line_of(two, 'content-y')}", f"a.yaml:{line_of(one, 'content-x')}"
        ),
        "price_in_list_too": (
            f"a.yaml:{line_of(one, 'version_number: 1')}", f"a.yaml:{listed[0]}"
        ),
    }  # fmt: skip


def test_findings_say_the_same_in_chinese(tmp_path: Path) -> None:
    card = small_card()
    FAULTS["tier gap"][0](card)
    with pytest.raises(CatalogueError, match="版本 plan-x@1, 价格 data_domestic, 档 2: 档间有缺口"):
        validate_catalogue([write(tmp_path / "card.yaml", card)], ZONE)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("offerings: [", "card.yaml:1: not valid YAML"),
        ("- 1", "card.yaml:1: a file maps charge_classes"),
        ("offerings: []\nofferings: []\n", "card.yaml:2: key offerings is given twice"),
        ("\ufeffofferings: \x00", "not valid YAML"),
    ],
)
def test_what_is_no_catalogue_is_refused_at_its_line(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "card.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(CatalogueError) as refused:
        validate_catalogue([tmp_path / "card.yaml"], ZONE)
    assert any(named in problem for problem in refused.value.problems), refused.value.problems


def test_an_allowance_may_cover_both_classes_that_a_call_goes_by(tmp_path: Path) -> None:
    card = small_card()
    with_friends("voice_local")(card)
    validate_catalogue([write(tmp_path / "card.yaml", card)], ZONE)


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    for path, named in ((tmp_path / "no.yaml", "no such file"), (tmp_path, "no .yaml file")):
        with pytest.raises(CatalogueError, match=named):
            validate_catalogue([path], ZONE)


def test_files_of_a_folder_refer_to_each_other(tmp_path: Path) -> None:
    card = small_card()
    for name, content in card.items():
        write(tmp_path / f"{name}.yaml", {name: content})
    assert list(validate_catalogue([tmp_path], ZONE).contents) == ["plan-x@1"]
    with pytest.raises(CatalogueError, match="there is no price list listed in these files"):
        validate_catalogue([tmp_path / "offerings.yaml"], ZONE)


# --- what is loaded -------------------------------------------------------------------------------


def test_loading_again_inserts_nothing(operational: Settings, psql: Any) -> None:
    audited = "select count(*) from identity.audit_log where action = 'load_catalogue'"
    with psql() as connection:
        before = connection.execute(audited).fetchone()
    assert set(load_catalogue(operational).values()) <= {0}
    assert diff_catalogue(operational, [SAMPLE_CATALOGUE]).changes == []
    with psql() as connection:
        assert connection.execute(audited).fetchone() == before


def test_a_refused_catalogue_loads_nothing(
    operational: Settings, psql: Any, tmp_path: Path
) -> None:
    card = {"offerings": small_card()["offerings"], "price_lists": small_card()["price_lists"]}
    card["offerings"][0]["versions"][0]["calendar"] = "lunar"
    with pytest.raises(CatalogueError, match="there is no calendar lunar"):
        load_catalogue(operational, write(tmp_path / "card.yaml", card))
    with psql() as connection:
        assert connection.execute(
            "select count(*) from catalogue.offering where offering_id = 'plan-x'"
        ).fetchone() == (0,)


@pytest.fixture
def plan(operational: Settings, psql: Any, tmp_path: Path) -> Iterator[Card]:
    """A plan nobody has yet, loaded from a file that refers to the shipped classes; taken out."""
    card = small_card()
    del card["charge_classes"]
    load_catalogue(operational, write(tmp_path / "plan.yaml", card))
    yield card
    with psql() as connection:
        connection.execute("set session_replication_role = replica")  # past the guards
        owned = "(select plan_version_id from catalogue.price_plan_version where offering_id"
        owned += " = 'plan-x')"
        for table, key, owner in (
            ("price_step", "usage_price_id", "usage_price"),
            ("price_tier", "usage_price_id", "usage_price"),
            ("allowance_coverage", "allowance_id", "allowance"),
        ):
            connection.execute(
                f"delete from catalogue.{table} where {key} in (select {key} from"
                f" catalogue.{owner} where plan_version_id in {owned})"
            )
        for table in ("usage_price", "allowance", "discount", "one_off_price", "commitment"):
            connection.execute(f"delete from catalogue.{table} where plan_version_id in {owned}")
        connection.execute("delete from catalogue.price_plan_version where offering_id = 'plan-x'")
        connection.execute("delete from crm.product_instance where offering_id = 'plan-x'")
        connection.execute("delete from catalogue.offering where offering_id = 'plan-x'")
        for table in ("calendar_period", "calendar_holiday", "calendar"):
            connection.execute(f"delete from catalogue.{table} where calendar_id = 'half'")


def use(psql: Any, version_id: str = "plan-x@1") -> None:
    with psql() as connection:
        connection.execute(
            "update catalogue.price_plan_version set used_at = now() where plan_version_id = %s",
            (version_id,),
        )


@pytest.fixture
def used_plan(plan: Card, psql: Any) -> Card:
    """That plan, in use."""
    use(psql)
    return plan


def test_a_version_nobody_uses_is_corrected_in_place(
    operational: Settings, psql: Any, tmp_path: Path, plan: Card
) -> None:
    edit(f"{VOICE}/tiers/0/price_amount", "0.20")(plan)
    counts = load_catalogue(operational, write(tmp_path / "plan.yaml", plan))
    assert (counts["catalogue.usage_price"], counts["catalogue.price_tier"]) == (3, 4)
    with psql() as connection:
        assert connection.execute(
            "select price_amount, unit_numerator / cost_denominator"
            " from catalogue.price_tier join catalogue.price_step using (usage_price_id)"
            " join catalogue.usage_price using (usage_price_id)"
            " join catalogue.price_plan_version using (plan_version_id)"
            " where usage_price_id = 'plan-x@1/voice_domestic'"
        ).fetchall() == [(Decimal("0.20"), 200_000)]


def test_a_version_in_use_is_refused_field_by_field_with_the_way_out(
    operational: Settings, psql: Any, tmp_path: Path, plan: Card
) -> None:
    use(psql)
    edit(f"{VOICE}/tiers/0/price_amount", "0.20")(plan)
    edit(f"{V}/monthly_fee_amount", "11")(plan)
    with pytest.raises(CatalogueError) as refused:
        load_catalogue(operational, write(tmp_path / "plan.yaml", plan))
    (problem,) = refused.value.problems
    assert "version plan-x@1: is in use" in problem
    assert "monthly_fee_amount: 10 → 11" in problem
    assert "plan-x@1/voice_domestic/1 price_amount: 0.15 → 0.2" in problem
    assert problem.endswith("add version 2")


def test_a_version_that_a_subscription_holds_is_in_use(
    operational: Settings, psql: Any, tmp_path: Path, plan: Card
) -> None:
    with psql() as connection:
        connection.execute(
            "insert into crm.product_instance (product_instance_id, subscription_id, offering_id,"
            " role, valid_from) values ('PX', 'S0000001', 'plan-x', 'addon', '2026-02-01+08')"
        )
    edit(f"{V}/monthly_fee_amount", "11")(plan)
    with pytest.raises(CatalogueError, match="plan-x@1: is in use"):
        load_catalogue(operational, write(tmp_path / "plan.yaml", plan))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda offering: offering.update(sp_id="901999"), "sp_id is loaded as 901001, and stays"),
        (lambda offering: offering.update(offering_id="content-other"), "belong to content-ring"),
        (
            lambda offering: offering["versions"][0]["usage_prices"][0]["tiers"][0].update(
                price_amount="9"
            ),
            "version content-ring-tone@1: is in use",
        ),
    ],
    ids=["other codes", "another offering", "another price"],
)
def test_published_content_keeps_its_codes_and_its_price_while_it_is_in_force(
    operational: Settings, tmp_path: Path, change: Callable[[Card], None], named: str
) -> None:
    offering = sp_content("content-ring-tone") | {
        "name_zh": "彩铃下载", "name_en": "Ring-back tone, one download", "sp_id": "901001",
        "content_id": "RBT001",
    }  # fmt: skip
    offering["versions"][0]["valid_from"] = "2014-01-01"
    offering["versions"][0]["usage_prices"][0]["tiers"][0]["price_amount"] = "2"
    file = tmp_path / "content.yaml"
    assert diff_catalogue(operational, [write(file, {"offerings": [offering]})]).changes == []
    change(offering)
    with pytest.raises(CatalogueError) as refused:
        load_catalogue(operational, write(file, {"offerings": [offering]}))
    assert any(named in problem for problem in refused.value.problems), refused.value.problems


def test_a_new_version_closes_the_one_in_use(
    operational: Settings, psql: Any, tmp_path: Path, plan: Card
) -> None:
    use(psql)
    versions = plan["offerings"][0]["versions"]
    versions[0]["valid_to"] = "2099-01-01"
    versions.append(version(2, "2099-01-01", monthly_fee_amount="12"))
    file = write(tmp_path / "plan.yaml", plan)
    changes = diff_catalogue(operational, [file]).changes
    assert [(change.kind, change.key) for change in changes] == [
        ("changed", "plan-x@1"), ("added", "plan-x@2"),
    ]  # fmt: skip
    assert [(one.field, one.stored) for one in changes[0].fields] == [("valid_to", None)]
    load_catalogue(operational, file)
    with psql() as connection:
        assert connection.execute(
            "select version_number, valid_to is null from catalogue.price_plan_version"
            " where offering_id = 'plan-x' order by 1"
        ).fetchall() == [(1, False), (2, True)]
    versions[0]["valid_to"], versions[1]["valid_from"] = "2098-01-01", "2098-01-01"
    load_catalogue(operational, write(file, plan))  # both ends move while they are to come
    versions[0]["valid_to"] = "2026-06-01"
    with pytest.raises(CatalogueError, match="plan-x@1: is in use"):
        load_catalogue(operational, write(file, plan))


def test_a_new_version_must_not_overlap_one_already_loaded(
    operational: Settings, tmp_path: Path, plan: Card
) -> None:
    plan["offerings"][0]["versions"] = [version(2, "2030-01-01")]
    with pytest.raises(CatalogueError) as refused:
        load_catalogue(operational, write(tmp_path / "plan.yaml", plan))
    (problem,) = refused.value.problems
    assert "version plan-x@2: overlapping validity with plan-x@1, which is loaded" in problem
    assert "give plan-x@1 a valid_to" in problem


@pytest.mark.parametrize(
    ("change", "in_use"),
    [
        (edit("calendars/0/periods/0/band", "dawn"), "calendar half: version plan-x@1 in use"),
        (edit("calendars/0/holidays/+", holiday("2020-10-01")), "calendar half: version plan-x@1"),
        (edit("calendars/0/holidays/+", holiday("2099-10-01")), None),
        (edit("calendars/0/name_en", "Halves"), None),
    ],
)
def test_of_a_calendar_in_use_only_holidays_to_come_and_names_change(
    operational: Settings, tmp_path: Path, used_plan: Card, *,
    change: Callable[[Card], None], in_use: str | None,
) -> None:  # fmt: skip
    change(used_plan)
    file = write(tmp_path / "plan.yaml", used_plan)
    if in_use is None:
        load_catalogue(operational, file)
        assert diff_catalogue(operational, [file]).changes == []
        return
    with pytest.raises(CatalogueError, match=in_use):
        load_catalogue(operational, file)


def test_a_class_priced_by_a_version_in_use_keeps_its_place(
    operational: Settings, tmp_path: Path
) -> None:
    classes = yaml.safe_load((SAMPLE_CATALOGUE / "charge_classes.yaml").read_text("utf-8"))
    rows = {row["charge_class"]: row for row in classes["charge_classes"]}
    rows["voice_local"] |= {"name_en": "Local"}
    rows["voice_friend"] |= {"parent_class": "voice_incoming"}
    with pytest.raises(CatalogueError) as refused:
        load_catalogue(operational, write(tmp_path / "classes.yaml", classes))
    (problem,) = refused.value.problems
    assert re.search(r"charge class voice_friend: version plan-4g-\d+@\d in use prices it", problem)


def test_withdrawing_an_offering_is_shown_as_that(
    operational: Settings, tmp_path: Path, plan: Card
) -> None:
    plan["offerings"][0]["status"] = "withdrawn"
    file = write(tmp_path / "plan.yaml", plan)
    comparison = diff_catalogue(operational, [file])
    assert [(one.kind, one.key) for one in comparison.changes] == [("withdrawn", "plan-x")]
    assert "plan-4g-76" in comparison.not_mentioned
    load_catalogue(operational, file)
    assert diff_catalogue(operational, [file]).changes == []


# --- what the database keeps, whoever writes ------------------------------------------------------

ROWS = {
    "price_plan_version": "plan_version_id = 'plan-x@1'",
    "usage_price": "plan_version_id = 'plan-x@1'",
    "price_tier": "usage_price_id like 'plan-x@1/%'",
    "price_step": "usage_price_id like 'plan-x@1/%'",
    "allowance": "plan_version_id = 'plan-x@1'",
    "allowance_coverage": "allowance_id like 'plan-x@1/%'",
    "discount": "plan_version_id = 'plan-x@1'",
    "one_off_price": "plan_version_id = 'plan-x@1'",
}
CHANGES = {
    "price_plan_version": "monthly_fee_amount = 0", "usage_price": "rounding_digits = 2",
    "price_tier": "price_amount = 0", "price_step": "unit_numerator = 0",
    "allowance": "size_quantity = 1", "allowance_coverage": "charge_class = 'voice_service'",
    "discount": "value = 99", "one_off_price": "amount = 0",
}  # fmt: skip


@pytest.mark.usefixtures("plan")
@pytest.mark.parametrize("table", ROWS)
def test_rows_of_a_version_change_until_it_is_used_and_never_after(psql: Any, table: str) -> None:
    update = f"update catalogue.{table} set {CHANGES[table]} where {ROWS[table]}"
    delete = f"delete from catalogue.{table} where {ROWS[table]}"
    with psql() as connection:
        assert connection.execute(update).rowcount > 0
        connection.rollback()
    use(psql)
    for statement in (update, delete):
        with psql() as connection, pytest.raises(errors.RestrictViolation) as refused:
            connection.execute(statement)
        assert "version plan-x@1 stays as it is: the version is in use; add a new version" in str(
            refused.value
        )


@pytest.mark.usefixtures("plan")
@pytest.mark.parametrize(
    "statement",
    [
        "insert into catalogue.one_off_price values ('plan-x@1', 'leave', 1, 'one_off')",
        "insert into catalogue.discount values ('d', 'plan-x@1', 9, 'x', 'x', 'amount', 1)",
        "insert into catalogue.price_tier values ('plan-x@1/voice_domestic', 2, 0, null, 1, 1, 0)",
        "insert into catalogue.commitment values ('plan-x@1', 12, 'fixed', 1)",
        "update catalogue.price_tier set usage_price_id = 'plan-x@1/voice_domestic',"
        " tier_number = 9 where usage_price_id = 'plan-4g-56@1/voice_domestic'",
        "update catalogue.price_plan_version set used_at = null where plan_version_id = 'plan-x@1'",
        "update catalogue.price_plan_version set valid_to = now() - interval '1 hour'"
        " where plan_version_id = 'plan-x@1'",
        "delete from catalogue.calendar_period where calendar_id = 'half' and day_type = 'mon'",
        "insert into catalogue.calendar_holiday values ('half', '2020-01-01', 'x', 'x')",
        "delete from catalogue.calendar_holiday where holiday_date = '2026-10-01'"
        " and calendar_id = 'half'",
        "update catalogue.charge_class set unit = 'event' where charge_class = 'voice_domestic'",
        "update catalogue.charge_class set parent_class = 'voice_incoming'"
        " where charge_class = 'voice_local'",
        "truncate catalogue.price_step",
    ],
)
def test_nothing_is_slipped_into_or_out_of_a_version_in_use(psql: Any, statement: str) -> None:
    use(psql)
    with psql() as connection, pytest.raises(errors.RestrictViolation):
        connection.execute(statement)


@pytest.mark.usefixtures("plan")
def test_the_end_of_a_version_in_use_moves_while_it_is_to_come(psql: Any) -> None:
    use(psql)
    with psql() as connection:
        for end in ("now() + interval '1 year'", "now() + interval '2 years'", "null"):
            connection.execute(
                f"update catalogue.price_plan_version set valid_to = {end}"
                " where plan_version_id = 'plan-x@1'"
            )


# --- the sample -----------------------------------------------------------------------------------


def test_the_nine_plans_have_their_published_fees_and_allowances(psql: Any) -> None:
    published = {  # yuan: (minutes, MB)
        56: (100, 500), 76: (200, 800), 106: (300, 1024), 136: (500, 1024), 166: (500, 2048),
        196: (500, 3072), 296: (1000, 4096), 396: (2000, 6144), 596: (3000, 11264),
    }  # fmt: skip
    with psql() as connection:
        rows = connection.execute(
            """
            select ver.monthly_fee_amount,
                max(alw.size_quantity) filter (where alw.unit = 'second') / 60,
                max(alw.size_quantity) filter (where alw.unit = 'octet') / 1048576,
                max(alw.rollover_months)
            from catalogue.price_plan_version as ver
            join catalogue.allowance as alw on alw.plan_version_id = ver.plan_version_id
            where ver.plan_version_id ~ '^plan-4g-[0-9]+@2$' group by 1
            """
        ).fetchall()
    assert {int(fee): (minutes, megabytes) for fee, minutes, megabytes, _ in rows} == published
    assert {months for *_, months in rows} == {1}


def test_domestic_data_beyond_the_allowance_costs_60_yuan_a_gigabyte(psql: Any) -> None:
    with psql() as connection:
        tiers = connection.execute(
            """
            select tir.from_quantity / 1048576, tir.to_quantity / 1048576, tir.price_amount,
                prc.repeat_quantity / 1048576
            from catalogue.price_tier as tir
            join catalogue.usage_price as prc on prc.usage_price_id = tir.usage_price_id
            where prc.usage_price_id = 'plan-4g-76@2/data_domestic' order by tir.tier_number
            """
        ).fetchall()
    assert tiers == [(0, 200, Decimal("0.3"), 1024), (200, 1024, Decimal(0), 1024)]
    assert sum((upto - start) * price for start, upto, price, _ in tiers) == 60


@pytest.mark.parametrize(
    ("megabytes", "due"),
    [  # what a card of 80 yuan comes to: never more than the next card that would have held it
        (1024, 80), (1025, Decimal("80.1")), (1724, 150), (3072, 150), (3572, 200), (5120, 200),
        (6120, 300), (10240, 300), (15360, 812), (20000, 812),
    ],
)  # fmt: skip
def test_a_data_card_becomes_the_next_one_when_its_fee_is_reached(
    psql: Any, megabytes: int, due: Decimal
) -> None:
    with psql() as connection:
        tiers = connection.execute(
            "select from_quantity / 1048576, to_quantity / 1048576, price_amount"
            " from catalogue.price_tier where usage_price_id = '3g-card-80@1/data_domestic'"
        ).fetchall()
    beyond = max(megabytes - 1024, 0)
    assert 80 + sum(max(min(beyond, end) - start, 0) * each for start, end, each in tiers) == due


def test_every_service_of_the_published_tariffs_is_on_offer(psql: Any) -> None:
    published = {
        "data-pack-100mb": 10, "data-pack-300mb": 20, "data-pack-500mb": 30, "data-pack-1gb": 60,
        "data-pack-2gb": 90, "data-pack-3gb": 120, "data-pack-4gb": 150, "data-pack-6gb": 190,
        "data-pack-11gb": 290, "family-data-4gb": "119.9", "family-data-6gb": "159.9",
        "family-data-8gb": "199.9", "family-data-12gb": "239.9", "family-voice-500": 35,
        "family-voice-1000": 60, "family-voice-2000": 90, "family-sms-400": 20,
        "family-sms-600": 30, "caller-id": 6, "ring-back-tone": 5, "mail": 5, "3g-card-80": 80,
        "3g-card-150": 150, "3g-card-200": 200, "3g-card-300": 300, "3g-pack-100mb": 10,
        "3g-pack-300mb": 20, "3g-pack-500mb": 30, "plan-3g-standard": 50,
    }  # fmt: skip
    with psql() as connection:
        fees = dict(
            connection.execute(
                "select offering_id, monthly_fee_amount from catalogue.price_plan_version"
                " where valid_to is null"
            ).fetchall()
        )
        shared = connection.execute(
            "select count(*) from catalogue.allowance where plan_version_id like 'family-%'"
            " and scope <> 'shared'"
        ).fetchone()
        carried = connection.execute(
            "select distinct valid_from < '2015-10-01 00:00+08', rollover_months"
            " from catalogue.allowance join catalogue.price_plan_version using (plan_version_id)"
            " where offering_id like 'data-pack-%' order by 1"
        ).fetchall()
    assert {name: fees.get(name) for name in published} == {
        name: Decimal(fee) for name, fee in published.items()
    }
    assert (shared, carried) == ((0,), [(False, 1), (True, 0)])


def test_what_is_not_well_sourced_is_marked_to_confirm() -> None:
    for name in ("price_lists", "plans_other", "data_cards_3g", "calendars"):
        assert "to confirm" in (SAMPLE_CATALOGUE / f"{name}.yaml").read_text(encoding="utf-8")


# --- written and read back ------------------------------------------------------------------------

amounts = st.decimals(0, 1000, places=6)
quantities = st.integers(1, 10**9)


@st.composite
def usage_prices(draw: st.DrawFn) -> Card:
    """A sound price of the data class in any model."""
    model = draw(st.sampled_from(["slots", "graduated", "volume", "package"]))
    count = 1 if model == "package" else draw(st.integers(1, 4))
    bounds = sorted(draw(st.sets(quantities, min_size=count - 1, max_size=count - 1)))
    has_flat = model in ("graduated", "volume")
    return {
        "charge_class": "data_domestic", "model": model,
        "tiers": [
            {
                "to_quantity": end, "increment_quantity": draw(st.integers(1, 1000)),
                "per_quantity": draw(st.sampled_from([1, 60, 1024, 1000])),
                "price_amount": str(draw(amounts)),
                "flat_amount": str(draw(amounts)) if has_flat else "0",
                "is_partial": draw(st.booleans()) if model != "package" else False,
            }
            for end in [*bounds, None]
        ],
        "overhang": draw(st.sampled_from(["absorb", "each"])) if model == "slots" else "absorb",
        "connection_fee_amount": str(draw(amounts)),
        "rounding_digits": draw(st.integers(0, 6)),
    }  # fmt: skip


@given(usage_prices(), amounts, st.integers(1, 1000), st.sampled_from(["line", "shared", "pooled"]))
def test_a_version_read_back_is_written_as_the_same_rows(
    data_price: Card, fee: Decimal, minutes: int, scope: str
) -> None:
    written = VersionRow.model_validate(
        version(3, "2026-01-01", monthly_fee_amount=str(fee), valid_to="2027-01-01",
                usage_prices=[data_price], price_list=(), not_offered=["sms_domestic"],
                minimum_consumption_amount="12.34", suspension_fee_amount="0",
                commitment=bound(penalty_on="leave_or_change"))
        | {"allowances": [
            {"allowance": "m", "unit": "second", "size_quantity": f"{minutes} min",
             "scope": scope, "rollover_months": 1, "covers": ["voice_domestic"]}
        ]}
    )  # fmt: skip
    offering = OfferingRow(
        offering_id="p", offering_type="addon", name_zh="x", name_en="x", versions=(written,)
    )

    def rows(row: VersionRow) -> Any:
        prices: list[tuple[UsagePriceRow, str]] = [(one, "data") for one in row.usage_prices]
        return write_version(offering, row, prices, ZONE)

    try:
        content = rows(written)
    except PriceStepError:  # more digits than are calculated with: refused when it is loaded
        reject()
    again = rows(read_version(content, ZONE))
    assert again.by_key() == content.by_key()
    assert version_document(again, ZONE) == version_document(content, ZONE)


# --- the command line -----------------------------------------------------------------------------


@pytest.fixture
def run(operational: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setattr("tollhouse.terminal.get_settings", lambda: operational)

    def command(*words: Any) -> Any:
        return CliRunner().invoke(app, ["catalogue", *map(str, words)])

    return command


def test_validate_needs_no_database_and_names_every_row(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nowhere = Settings(home=tmp_path / "nowhere")
    monkeypatch.setattr("tollhouse.terminal.get_settings", lambda: nowhere)
    card = small_card()
    file = write(tmp_path / "card.yaml", card)
    sound = CliRunner().invoke(app, ["catalogue", "validate", str(file)])
    assert (sound.exit_code, "1 versions, nothing to correct" in sound.output) == (0, True)
    FAULTS["tier gap"][0](card)
    FAULTS["unknown bill item"][0](card)
    write(file, card)
    refused = CliRunner().invoke(app, ["catalogue", "validate", str(file), "--json"])
    assert refused.exit_code == 1
    findings = json.loads(refused.stdout)["findings"]
    assert {(one["code"], one["offering"], one["version"], one["price"]) for one in findings} == {
        ("tier_gap", "plan-x", "plan-x@1", "data_domestic"),
        ("unknown_bill_item", "plan-x", "plan-x@1", "voice_domestic"),
    }
    assert {one["file"] for one in findings} == {"card.yaml"}
    told = CliRunner().invoke(app, ["catalogue", "validate", str(file)])
    assert told.exit_code == 1
    assert "tier 2: gap: begins at 157286400 instead of 104857600" in told.output
    assert not nowhere.home.exists()


def test_the_shipped_catalogue_is_sound_by_itself() -> None:
    for path in SAMPLE_CATALOGUE.glob("*.yaml"):
        assert path.read_text(encoding="utf-8").startswith("# "), path.name
    result = CliRunner().invoke(app, ["catalogue", "validate", str(SAMPLE_CATALOGUE)])
    assert result.exit_code == 0, result.output


def test_diff_load_and_show_at_the_command_line(
    run: Callable[..., Any], tmp_path: Path, plan: Card, psql: Any
) -> None:
    use(psql)
    file = write(tmp_path / "plan.yaml", plan)
    assert "Nothing would change" in run("diff", file).output
    assert "Nothing new" in run("load", file).output
    edit(f"{V}/monthly_fee_amount", "11")(plan)
    write(file, plan)
    refused = run("diff", file)
    assert refused.exit_code == 1
    assert "monthly_fee_amount: 10 → 11" in refused.output
    document = json.loads(run("diff", file, "--json").stdout)
    assert document["changes"] == [
        {
            "kind": "changed", "entity": "version", "key": "plan-x@1",
            "fields": [
                {
                    "table": "price_plan_version", "row": "plan-x@1",
                    "field": "monthly_fee_amount", "stored": "10", "proposed": "11",
                }
            ],
        }
    ]  # fmt: skip
    assert document["findings"][0]["code"] == "version_in_use"
    assert run("load", file).exit_code == 1
    edit(f"{V}/monthly_fee_amount", "10")(plan)
    edit(f"{V}/valid_to", "2099-01-01")(plan)
    edit("offerings/0/versions/+", version(2, "2099-01-01"))(plan)
    write(file, plan)
    loaded = json.loads(run("load", file, "--json").stdout)
    assert loaded["inserted"]["catalogue.price_plan_version"] == 1
    with psql() as connection:
        (who,) = connection.execute(
            "select username from identity.audit_log where action = 'load_catalogue'"
            " order by id desc limit 1"
        ).fetchone()
    assert who.endswith("(command line)")
    shown = run("show", "plan-x", "--version", 2)
    assert "0.15 per min" in shown.output
    assert "plan-x@2  2099-01-01" in shown.output
    assert "0.15 元/分钟" in run("show", "plan-x", "--language", "zh").output
    assert json.loads(run("show", "plan-x", "--json").stdout)["version"]["version_number"] == 1
    missing = run("show", "plan-none")
    assert (missing.exit_code, "there is no offering plan-none" in missing.output) == (1, True)
    assert run("show", "plan-x", "--language", "fr").exit_code == 2


def test_every_command_has_help_with_an_example() -> None:
    for command in ("load", "validate", "diff", "show"):
        told = CliRunner().invoke(app, ["catalogue", command, "--help"])
        assert (told.exit_code, "Example" in told.output) == (0, True)


def test_a_hostile_file_does_not_stop_the_check(tmp_path: Path) -> None:
    bomb = "a: &a [x, x]\n" + "\n".join(
        f"{letter}: &{letter} [{', '.join([f'*{before}'] * 9)}]"
        for before, letter in zip("abcde", "bcdef", strict=True)
    )
    (tmp_path / "bomb.yaml").write_text(bomb, encoding="utf-8")
    with pytest.raises(CatalogueError, match=r"there is no field a"):
        validate_catalogue([tmp_path / "bomb.yaml"], ZONE)


def test_the_runbook_shows_a_version_that_is_sound(tmp_path: Path) -> None:
    text = (PROJECT_ROOT / "docs/runbooks/change-a-tariff.md").read_text(encoding="utf-8")
    example = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)[0]
    plans = yaml.safe_load(example)
    versions = plans["offerings"][0]["versions"]
    versions[0] |= versions[1] | {
        name: versions[0][name] for name in ("version_number", "valid_from", "valid_to")
    }
    files = [SAMPLE_CATALOGUE / f"{name}.yaml" for name in ("charge_classes", "price_lists")]
    checked = validate_catalogue([*files, write(tmp_path / "plans.yaml", plans)], ZONE)
    assert sorted(checked.contents) == ["plan-4g-76@2", "plan-4g-76@3"]
    with pytest.raises(CatalogueError, match=r"4g-calls .* give the file that has the list too"):
        validate_catalogue([tmp_path / "plans.yaml"], ZONE)


def test_every_bill_item_of_the_warehouse_is_one_of_the_catalogue() -> None:
    seed = (PROJECT_ROOT / "dbt/seeds/ods/bill_item.csv").read_text(encoding="utf-8")
    codes = [line.split(",")[0] for line in seed.splitlines()[1:]]
    made_by_billing = {"minimum"}  # no tariff prices it
    assert "rent" in codes
    assert set(codes) - made_by_billing <= set(BILL_ITEMS)


# --- no gap goes unseen, and nothing sound is refused ---------------------------------------------


@given(
    st.sets(st.integers(1, 10**6), min_size=1, max_size=5), st.data(),
    st.sampled_from(["slots", "graduated", "volume"]), st.integers(-50, 50).filter(bool),
)  # fmt: skip
def test_tiers_are_sound_exactly_when_each_begins_where_the_one_before_ends(
    bounds: set[int], data: st.DataObject, model: str, shift: int
) -> None:
    ends = sorted(bounds)
    tiers = [
        tier(1, from_quantity=start, **({"to_quantity": end} if end else {}))
        for start, end in zip([0, *ends], [*ends, 0], strict=True)
    ]
    card = small_card()
    edit(VOICE, price("voice", model=model, tiers=tiers))(card)
    assert findings_of(card) == []
    number = data.draw(st.integers(1, len(tiers) - 1))
    tiers[number]["from_quantity"] = max(ends[number - 1] + shift, 0)
    codes = {(one.code, one.path[-1]) for one in findings_of(card)}
    fault = "tier_gap" if shift > 0 else "tier_overlap"
    assert (fault, ("tier", str(number + 1))) in codes


@given(st.sets(st.integers(1, 1439), max_size=6), st.data())
def test_a_calendar_is_sound_exactly_when_no_minute_is_left_out_or_doubled(
    cuts: set[int], data: st.DataObject
) -> None:
    edges = [0, *sorted(cuts), 1440]
    periods = [
        {"band": "morning", "days": "all", "from": clock(start * 60), "to": clock(end * 60)}
        for start, end in pairwise(edges)
    ]
    card = small_card()
    card["calendars"][0]["periods"] = periods
    assert findings_of(card) == []
    number = data.draw(st.integers(0, len(periods) - 1))
    twice, once = [*periods, periods[number]], [*periods[:number], *periods[number + 1 :]]
    for faulty, code in ((twice, "calendar_overlap"), (once, "calendar_hole")):
        card["calendars"][0]["periods"] = faulty
        assert [one.code for one in findings_of(card)] == [code] * 8  # on every type of day


def findings_of(card: Card) -> list[Finding]:
    content = CatalogueFile.model_validate(card)
    catalogue = Catalogue(
        list(content.charge_classes), list(content.calendars),
        [PriceList(name, NOWHERE, prices) for name, prices in content.price_lists.items()],
        list(content.offerings),
    )  # fmt: skip
    return check_catalogue(catalogue, Known(), ZONE).findings
