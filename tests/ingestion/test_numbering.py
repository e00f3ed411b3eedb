"""The number plan gives every range of mobile numbers the area that its publisher gives it."""

from __future__ import annotations

import csv
import random

import pytest
from phone import Phone

from ingestion.numbering import TABLE, load_number_plan
from tollhouse.settings import PROJECT_ROOT, Settings
from tollhouse.warehouse import open_warehouse


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Area code by the first seven digits, as loaded; loaded twice."""
    settings = Settings(home=tmp_path_factory.mktemp("numbering"))
    with open_warehouse(settings, "load the number plan") as warehouse:
        loaded = load_number_plan(warehouse)
        assert load_number_plan(warehouse) == 0
        rows = warehouse.rows(f"select segment, area_code from {TABLE}")
    assert len(rows) == loaded
    return dict(rows)


def test_ranges_are_seven_digits_of_mobile_numbers_each_once(plan: dict[str, str]) -> None:
    assert len(plan) > 400_000
    assert all(len(segment) == 7 and segment.isdigit() for segment in plan)
    assert {segment[0] for segment in plan} == {"1"}


def test_a_number_has_the_area_that_the_library_finds_for_it(plan: dict[str, str]) -> None:
    book = Phone()
    for segment in random.Random(7).sample(sorted(plan), 500):
        assert book.find(f"{segment}0000")["area_code"].lstrip("0") == plan[segment]


def test_every_area_of_the_plan_is_an_area_code_that_is_known(plan: dict[str, str]) -> None:
    path = PROJECT_ROOT / "dbt" / "seeds" / "ods" / "area_code.csv"
    with path.open(encoding="utf-8", newline="") as lines:
        known = {row["area_code"] for row in csv.DictReader(lines)}
    assert set(plan.values()) <= known
