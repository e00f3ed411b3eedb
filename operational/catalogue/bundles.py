"""The rules of bundles 融合套餐: what one may group, so that whoever orders it can be given it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date

from operational.catalogue.authoring import ComponentRow, OfferingRow, VersionRow
from operational.catalogue.files import PriceList
from operational.catalogue.findings import Finding, Path, Place

FIXED_CLASSES = "fixed_"  # a plan that prices calls of fixed lines apart is for fixed lines
GROUPED = ("plan", "addon")


@dataclass(frozen=True)
class VersionFacts:
    """What a bundle has to know of a version: of its components', and of its own."""

    valid_from: date
    valid_to: date | None
    is_fixed: bool
    components: frozenset[str]


@dataclass(frozen=True)
class OfferingFacts:
    """What a bundle has to know of an offering; its versions by number."""

    offering_type: str
    versions: dict[int, VersionFacts] = field(default_factory=dict)


Offerings = Mapping[str, OfferingFacts]


def with_rows(
    stored: Offerings, rows: Iterable[OfferingRow], lists: Mapping[str, PriceList]
) -> dict[str, OfferingFacts]:
    """The offerings of the database with what the files say of them, and of others."""
    known = dict(stored)
    for row in rows:
        former = known.get(row.offering_id, OfferingFacts(row.offering_type))
        known[row.offering_id] = OfferingFacts(
            row.offering_type,
            former.versions | {one.version_number: _facts(one, lists) for one in row.versions},
        )
    return known


def _facts(version: VersionRow, lists: Mapping[str, PriceList]) -> VersionFacts:
    listed = [price for name in version.price_list if name in lists for price in lists[name].prices]
    return VersionFacts(
        version.valid_from, version.valid_to,
        any(price.charge_class.startswith(FIXED_CLASSES)
            for price in (*listed, *version.usage_prices)),
        frozenset(row.component for row in version.components),
    )  # fmt: skip


def bundle_findings(rows: Iterable[OfferingRow], known: Offerings) -> Iterator[Finding]:
    """What is wrong with the bundles of the files, and with loaded ones that the files touch."""
    places = {row.offering_id: row for row in rows}
    for row in places.values():
        for version in row.versions:
            path: Path = (("version", f"{row.offering_id}@{version.version_number}"),)
            if row.offering_type == "bundle":
                yield from _version_findings(version, path, known)
            elif version.components:
                yield Finding("components_of_a_bundle", path, version.components[0].place)
    for offering_id, facts in known.items():
        if facts.offering_type == "bundle":
            yield from _coverage_findings(offering_id, facts, places, known)


def _version_findings(version: VersionRow, path: Path, known: Offerings) -> Iterator[Finding]:
    superfluous = [
        name for name in ("usage_prices", "price_list", "allowances", "calendar")
        if getattr(version, name)
    ]  # fmt: skip
    if superfluous:
        yield Finding("bundle_has_no_usage", path, version.place, {"names": ", ".join(superfluous)})
    first: dict[str, ComponentRow] = {}
    plans: dict[bool, str] = {}
    for row in version.components:
        inner: Path = (*path, ("component", row.component))
        if (row.fee_rule == "replaced") != (row.fee_amount is not None):
            yield Finding("component_fee", inner, row.place)
        if row.component in first:
            place = str(first[row.component].place) or "–"
            yield Finding("component_twice", inner, row.place, {"first": place})
            continue
        first[row.component] = row
        facts = known.get(row.component)
        if facts is None:
            yield Finding("unknown_component", inner, row.place, {"name": row.component})
        elif facts.offering_type not in GROUPED:
            yield Finding("component_type", inner, row.place, {"type": facts.offering_type})
        elif facts.offering_type == "plan":
            is_fixed = any(one.is_fixed for one in facts.versions.values())
            if is_fixed in plans:
                yield Finding("two_plans_of_a_line", inner, row.place, {"other": plans[is_fixed]})
            plans.setdefault(is_fixed, row.component)
    is_known = all(name in known for name in first)
    if is_known and (not plans or len(first) < 2):
        yield Finding("bundle_incomplete", path, version.place)


def _coverage_findings(
    offering_id: str, bundle: OfferingFacts, places: Mapping[str, OfferingRow], known: Offerings
) -> Iterator[Finding]:
    """Components without a version in force, and versions of other components than the first's."""
    numbers = sorted(bundle.versions)
    for number in numbers:
        version, path = bundle.versions[number], (("version", f"{offering_id}@{number}"),)
        place = _place_of(places.get(offering_id), number)
        if place is not None and version.components != bundle.versions[numbers[0]].components:
            yield Finding("components_differ", path, place,
                          {"first": f"{offering_id}@{numbers[0]}"})  # fmt: skip
        for name in sorted(version.components):
            facts = known.get(name)
            if facts is None or facts.offering_type not in GROUPED:
                continue
            # Of a loaded bundle it is the component's row that breaks it.
            at = place or _place_of(places.get(name))
            uncovered = _first_uncovered(version, facts.versions.values())
            if at is not None and uncovered is not None:
                yield Finding("component_not_in_force", (*path, ("component", name)), at,
                              {"name": name, "day": uncovered})  # fmt: skip


def _place_of(row: OfferingRow | None, number: int | None = None) -> Place | None:
    """Where a version stands, or the offering; None of what is not in the files."""
    if row is None or number is None:
        return row.place if row else None
    return next((one.place for one in row.versions if one.version_number == number), None)


def _first_uncovered(version: VersionFacts, others: Iterable[VersionFacts]) -> date | None:
    """The first day of a version on which none of the others is in force."""
    day = version.valid_from
    for other in sorted(others, key=lambda one: one.valid_from):
        if other.valid_from <= day and (other.valid_to is None or other.valid_to > day):
            if other.valid_to is None:
                return None
            day = other.valid_to
    return None if version.valid_to is not None and day >= version.valid_to else day
