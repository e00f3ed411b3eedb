"""The catalogue: what is loaded, and what is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from operational.catalogue.service import SAMPLE_CATALOGUE, CatalogueError, load_catalogue
from tollhouse.settings import Settings

Card = dict[str, Any]


def small_card() -> Card:
    """A catalogue of one plan with two charge classes."""
    return {
        "charge_classes": [charge_class("voice"), charge_class("data", "octet")],
        "offerings": [
            {
                "offering_id": "plan-x", "offering_type": "plan", "name_zh": "试", "name_en": "x",
                "versions": [version(1, "2026-01-01")],
            }
        ],
    }  # fmt: skip


def charge_class(service: str, unit: str = "second") -> Card:
    return {
        "charge_class": f"{service}_domestic", "service": service, "unit": unit,
        "bill_item_code": service, "name_zh": "国内", "name_en": "Domestic",
    }  # fmt: skip


def version(number: int, valid_from: str, **more: Any) -> Card:
    return {
        "version_number": number, "valid_from": valid_from, "monthly_fee_amount": "10",
        "usage_prices": [
            {
                "charge_class": "voice_domestic", "model": "slots", "bill_item_code": "voice",
                "tiers": [tier()],
            },
            {
                "charge_class": "data_domestic", "model": "graduated", "bill_item_code": "data",
                "tiers": [tier(to_quantity=100), tier(from_quantity=100)],
            },
        ],
        "allowances": [
            {
                "allowance": "voice", "unit": "second", "size_quantity": 60,
                "quantity_basis": "rounded", "rounding_increment": 60, "covers": ["voice_domestic"],
            }
        ],
    } | more  # fmt: skip


def tier(**more: Any) -> Card:
    return {"increment_quantity": 60, "per_quantity": 60, "price_amount": "0.15"} | more


def prices(card: Card) -> list[Card]:
    found: list[Card] = card["offerings"][0]["versions"][0]["usage_prices"]
    return found


def write(path: Path, card: Card) -> Path:
    path.write_text(yaml.safe_dump(card, allow_unicode=True), encoding="utf-8")
    return path


def twice(card: Card) -> None:
    card["offerings"].append(card["offerings"][0])


def no_tier(card: Card) -> None:
    prices(card)[0]["tiers"] = []


def no_class(card: Card) -> None:
    del prices(card)[1]


def tier_gap(card: Card) -> None:
    prices(card)[1]["tiers"][1]["from_quantity"] = 150


def tier_overlap(card: Card) -> None:
    prices(card)[1]["tiers"][1]["from_quantity"] = 50


def other_unit(card: Card) -> None:
    prices(card)[1]["tiers"][1]["per_quantity"] = 3600


def open_repeat(card: Card) -> None:
    prices(card)[1]["repeat_quantity"] = 1000


def two_slots(card: Card) -> None:
    prices(card)[0]["tiers"] = [tier(to_quantity=60), tier(from_quantity=60)]


def duplicate_price(card: Card) -> None:
    prices(card).append(prices(card)[0])


def overlap(card: Card) -> None:
    card["offerings"][0]["versions"].append(version(2, "2026-06-01"))


def same_version(card: Card) -> None:
    card["offerings"][0]["versions"] = [
        version(1, "2026-01-01", valid_to="2026-02-01"), version(1, "2026-02-01"),
    ]  # fmt: skip


def wrong_unit(card: Card) -> None:
    card["offerings"][0]["versions"][0]["allowances"][0]["covers"] = ["data_domestic"]


def unknown_class(card: Card) -> None:
    prices(card)[0]["charge_class"] = "voice_martian"


def inexact(card: Card) -> None:
    prices(card)[0]["tiers"][0]["price_amount"] = 0.15


def misspelt(card: Card) -> None:
    card["offerings"][0]["versions"][0]["monthly_fee"] = "1"


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (twice, "offering plan-x: duplicate id"),
        (no_tier, "version plan-x@1, price voice_domestic: missing price"),
        (no_class, "version plan-x@1: missing price for charge class data_domestic"),
        (tier_gap, "version plan-x@1, price data_domestic, tier 2: gap"),
        (other_unit, "all tiers of a price take the same"),
        (tier_overlap, "version plan-x@1, price data_domestic, tier 2: overlap"),
        (open_repeat, "version plan-x@1, price data_domestic, last tier: gap"),
        (two_slots, "price voice_domestic: slots take exactly one tier, not 2"),
        (duplicate_price, "plan-x@1: duplicate price for charge class voice_domestic"),
        (overlap, "version plan-x@1 and plan-x@2: overlapping validity"),
        (same_version, "version plan-x@1: duplicate id"),
        (wrong_unit, "allowance plan-x@1/voice: counts second, but data_domestic counts octet"),
        (unknown_class, "price voice_martian: there is no such charge class"),
        (inexact, "plan-x / versions / 0 / usage_prices / voice_domestic / tiers / 0 / price_"),
        (misspelt, "plan-x / versions / 0 / monthly_fee"),
    ],
)
def test_a_faulty_catalogue_is_refused_with_the_row_named(
    operational: Settings, psql: Any, tmp_path: Path, spoil: Callable[[Card], None], named: str
) -> None:
    card = small_card()
    spoil(card)
    with pytest.raises(CatalogueError) as refused:
        load_catalogue(operational, write(tmp_path / "card.yaml", card))
    assert any(named in problem for problem in refused.value.problems), refused.value.problems
    with psql() as connection:
        assert connection.execute(
            "select count(*) from catalogue.offering where offering_id = 'plan-x'"
        ).fetchone() == (0,)


def test_loading_again_inserts_nothing(operational: Settings) -> None:
    assert set(load_catalogue(operational).values()) == {0}


def test_a_version_that_is_there_is_not_changed(operational: Settings, tmp_path: Path) -> None:
    card = yaml.safe_load(SAMPLE_CATALOGUE.read_text(encoding="utf-8"))
    card["offerings"][0]["versions"][0]["monthly_fee_amount"] = "57"
    with pytest.raises(CatalogueError, match="plan-4g-56@1 is already loaded with other content"):
        load_catalogue(operational, write(tmp_path / "card.yaml", card))


def test_a_new_version_must_not_overlap_one_already_loaded(
    operational: Settings, tmp_path: Path
) -> None:
    card = yaml.safe_load(SAMPLE_CATALOGUE.read_text(encoding="utf-8"))
    card["offerings"] = card["offerings"][:1]
    card["offerings"][0]["versions"][0] |= {"version_number": 2, "valid_from": "2030-01-01"}
    with pytest.raises(
        CatalogueError, match="plan-4g-56@2: overlapping validity with plan-4g-56@1"
    ):
        load_catalogue(operational, write(tmp_path / "card.yaml", card))


def test_the_nine_plans_have_their_published_fees_and_allowances(
    operational: Settings, psql: Any
) -> None:
    published = {  # yuan: (minutes, MB)
        56: (100, 500), 76: (200, 800), 106: (300, 1024), 136: (500, 1024), 166: (500, 2048),
        196: (500, 3072), 296: (1000, 4096), 396: (2000, 6144), 596: (3000, 11264),
    }  # fmt: skip
    with psql() as connection:
        rows = connection.execute(
            """
            select ver.monthly_fee_amount,
                max(alw.size_quantity) filter (where alw.unit = 'second') / 60,
                max(alw.size_quantity) filter (where alw.unit = 'octet') / 1048576
            from catalogue.price_plan_version as ver
            join catalogue.allowance as alw on alw.plan_version_id = ver.plan_version_id
            where ver.valid_from = '2014-03-18 00:00+08' group by 1
            """
        ).fetchall()
    assert {int(fee): (minutes, megabytes) for fee, minutes, megabytes in rows} == published


def test_domestic_data_beyond_the_allowance_costs_60_yuan_a_gigabyte(
    operational: Settings, psql: Any
) -> None:
    with psql() as connection:
        tiers = connection.execute(
            """
            select tir.from_quantity / 1048576, tir.to_quantity / 1048576, tir.price_amount,
                prc.repeat_quantity / 1048576
            from catalogue.price_tier as tir
            join catalogue.usage_price as prc on prc.usage_price_id = tir.usage_price_id
            where prc.usage_price_id = 'plan-4g-76@1/data_domestic' order by tir.tier_number
            """
        ).fetchall()
    assert tiers == [(0, 200, Decimal("0.3"), 1024), (200, 1024, Decimal(0), 1024)]
    assert sum((upto - start) * price for start, upto, price, _ in tiers) == 60
