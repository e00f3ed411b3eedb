"""Bundles: what the catalogue refuses, how they are ordered and ended, what the database keeps."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from psycopg import errors

from operational.catalogue.authoring import OfferingRow, VersionRow
from operational.catalogue.bundles import OfferingFacts, VersionFacts, bundle_findings
from operational.catalogue.content import read_version, version_document, write_version
from operational.catalogue.findings import CatalogueError
from operational.catalogue.loader import diff_catalogue, load_catalogue, validate_catalogue
from tollhouse.settings import Settings

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
        "pack": offering("pack", "addon", {}),
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
