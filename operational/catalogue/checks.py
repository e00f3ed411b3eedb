"""The rules of a catalogue: all that is wrong is found at once, each thing with its row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeVar

from operational.catalogue.authoring import (
    BILL_ITEMS,
    DAY_SECONDS,
    DAY_TYPES,
    AllowanceRow,
    CalendarRow,
    ChargeClassRow,
    CommitmentRow,
    CoverageRow,
    DiscountRow,
    Measure,
    OfferingRow,
    PeriodRow,
    PlacedRow,
    TierRow,
    UsagePriceRow,
    VersionRow,
)  # fmt: skip
from operational.catalogue.bundles import OfferingFacts, bundle_findings, with_rows
from operational.catalogue.content import (
    CONTENT_CLASS,
    REQUIRED_CLASSES,
    VersionContent,
    tier_values,
    write_version,
)  # fmt: skip
from operational.catalogue.files import Catalogue, PriceList
from operational.catalogue.findings import Finding, Path, Place
from operational.catalogue.price_steps import PriceStepError
from operational.ratecards import Validity
from tollhouse.warehouse.reference import collected_items

Placed = TypeVar("Placed")
CLASS_FACTS = ("service", "unit", "bill_item_code")


@dataclass(frozen=True)
class ClassFacts:
    """A charge class with what it has from the class above it."""

    charge_class: str
    parent_class: str | None
    before_class: str | None
    service: str
    unit: str
    bill_item_code: str
    name_zh: str
    name_en: str


@dataclass
class Known:
    """What rows may refer to: what is in the database, and what the files say."""

    classes: dict[str, ClassFacts] = field(default_factory=dict)
    calendars: dict[str, frozenset[str]] = field(default_factory=dict)  # id → bands
    offerings: dict[str, OfferingFacts] = field(default_factory=dict)

    def lineage(self, charge_class: str) -> list[str]:
        """A class and those whose price it may take, nearest first."""
        found: list[str] = []
        seen: set[str] = set()
        name: str | None = charge_class
        while name is not None and name not in seen and name in self.classes:
            seen.add(name)
            before = self.classes[name].before_class
            found += [one for one in (name, before) if one is not None and one not in found]
            name = self.classes[name].parent_class
        return found


@dataclass
class Checked:
    """A catalogue after its check: what is wrong, and the rows of the versions if nothing is."""

    catalogue: Catalogue
    known: Known
    findings: list[Finding] = field(default_factory=list)
    contents: dict[str, VersionContent] = field(default_factory=dict)


def check_catalogue(catalogue: Catalogue, known: Known, timezone: str) -> Checked:
    """Check all rows of a catalogue against each other and against what is known already."""
    known = Known(dict(known.classes), dict(known.calendars), dict(known.offerings))
    checked = Checked(catalogue, known)
    checked.findings += _class_findings(catalogue.charge_classes, known)
    for calendar in catalogue.calendars:
        known.calendars[calendar.calendar_id] = frozenset(row.band for row in calendar.periods)
        checked.findings += _calendar_findings(calendar)
    checked.findings += _twice(
        "calendar_twice", ((row.calendar_id, row.place, (("calendar", row.calendar_id),))
                           for row in catalogue.calendars)
    )  # fmt: skip
    lists = {prices.name: prices for prices in catalogue.price_lists}
    checked.findings += _twice(
        "list_twice", ((row.name, row.place, (("price_list", row.name),))
                       for row in catalogue.price_lists)
    )  # fmt: skip
    for prices in catalogue.price_lists:
        path: Path = (("price_list", prices.name),)
        checked.findings += _prices_findings(known, prices.prices, path)
    broken_lists = {found.path[0][1] for found in checked.findings
                    if found.path[0][0] == "price_list"}  # fmt: skip
    checked.findings += _twice(
        "offering_twice", ((row.offering_id, row.place, (("offering", row.offering_id),))
                           for row in catalogue.offerings)
    )  # fmt: skip
    checked.findings += _code_findings(catalogue.offerings)
    for offering in catalogue.offerings:
        checked.findings += _validity_findings(offering)
        for version in offering.versions:
            findings = list(check_version(offering, version, lists, known))
            checked.findings += findings
            if findings or broken_lists.intersection(version.price_list):
                continue
            try:
                content = write_version(
                    offering, version, _with_bill_items(version, lists, known), timezone
                )
            except PriceStepError as error:
                checked.findings.append(
                    Finding("inexact_prices", _version_path(offering, version), version.place,
                            {"detail": str(error)})
                )  # fmt: skip
                continue
            checked.contents[content.version_id] = content
    known.offerings = with_rows(known.offerings, catalogue.offerings, lists)
    checked.findings += bundle_findings(catalogue.offerings, known.offerings)
    return checked


def _version_path(offering: OfferingRow, version: VersionRow) -> Path:
    return (("version", f"{offering.offering_id}@{version.version_number}"),)


def _with_bill_items(
    version: VersionRow, lists: Mapping[str, PriceList], known: Known
) -> list[tuple[UsagePriceRow, str]]:
    return [
        (price, price.bill_item_code or known.classes[price.charge_class].bill_item_code)
        for price in _all_prices(version, lists)
    ]


def _all_prices(version: VersionRow, lists: Mapping[str, PriceList]) -> list[UsagePriceRow]:
    listed = [price for name in version.price_list for price in lists[name].prices]
    return [*listed, *version.usage_prices]


def _twice(code: str, rows: Iterable[tuple[Hashable, Any, Path]]) -> Iterator[Finding]:
    """A finding for every row whose key an earlier row has."""
    first: dict[Hashable, Any] = {}
    for key, place, path in rows:
        if key in first:
            yield Finding(code, path, place, {"first": first[key]})
        first.setdefault(key, place)


# --- charge classes ------------------------------------------------------------------------------


def _class_findings(rows: Sequence[ChargeClassRow], known: Known) -> Iterator[Finding]:
    """Take the classes in, each after those it goes by; what cannot be is found."""
    yield from _twice(
        "class_twice", ((row.charge_class, row.place, (("charge_class", row.charge_class),))
                        for row in rows)
    )  # fmt: skip
    waiting = {row.charge_class: row for row in rows}
    while waiting:
        ready = [row for row in waiting.values()
                 if waiting.keys().isdisjoint((row.parent_class, row.before_class))]  # fmt: skip
        if not ready:
            for row in waiting.values():
                path: Path = (("charge_class", row.charge_class),)
                above = row.parent_class if row.parent_class in waiting else row.before_class
                yield Finding("class_circle", path, row.place, {"above": above})
            return
        for row in ready:
            del waiting[row.charge_class]
            yield from _take_class(row, known)


def _take_class(row: ChargeClassRow, known: Known) -> Iterator[Finding]:
    path: Path = (("charge_class", row.charge_class),)
    above = known.classes.get(row.parent_class or "")
    for name in (row.parent_class, row.before_class):
        if name is not None and name not in known.classes:
            yield Finding("unknown_class", path, row.place, {"name": name})
    facts = {name: getattr(row, name) or getattr(above, name, None) for name in CLASS_FACTS}
    if missing := [name for name, value in facts.items() if value is None]:
        yield Finding("class_incomplete", path, row.place, {"names": ", ".join(missing)})
        return
    for other in (above, known.classes.get(row.before_class or "")):
        if other is not None and facts["unit"] != other.unit:
            yield Finding(
                "class_unit", path, row.place,
                {"unit": facts["unit"], "above": other.charge_class, "above_unit": other.unit},
            )  # fmt: skip
    if facts["bill_item_code"] not in BILL_ITEMS:
        yield _unknown_bill_item(path, row, str(facts["bill_item_code"]))
    known.classes[row.charge_class] = ClassFacts(
        row.charge_class,
        row.parent_class,
        row.before_class,
        name_zh=row.name_zh,
        name_en=row.name_en,
        **{name: str(value) for name, value in facts.items()},
    )


def _unknown_bill_item(path: Path, row: PlacedRow, code: str) -> Finding:
    return Finding(
        "unknown_bill_item", path, row.place, {"name": code, "known": ", ".join(BILL_ITEMS)}
    )


# --- calendars -----------------------------------------------------------------------------------


def _calendar_findings(calendar: CalendarRow) -> Iterator[Finding]:
    path: Path = (("calendar", calendar.calendar_id),)
    for day in DAY_TYPES:
        periods = sorted(
            (row for row in calendar.periods if day in row.days), key=lambda row: row.from_second
        )
        end, before = 0, None
        for period in periods:
            if period.from_second > end:
                yield _hole(path, calendar, day, end, period.from_second)
            elif period.from_second < end and before is not None:
                yield Finding(
                    "calendar_overlap", path, period.place,
                    {"day": day, "band": period.band, "other": before.band,
                     "start": clock(period.from_second), "end": clock(min(end, period.to_second))},
                )  # fmt: skip
            if period.to_second > end:
                end, before = period.to_second, period
        if end < DAY_SECONDS:
            yield _hole(path, calendar, day, end, DAY_SECONDS)
    for period in calendar.periods:
        if period.to_second <= period.from_second:
            yield Finding("period_order", path, period.place, {
                "band": period.band, "start": clock(period.from_second),
                "end": clock(period.to_second),
            })  # fmt: skip
    yield from _twice(
        "holiday_twice", ((row.holiday_date, row.place,
                           (*path, ("holiday", row.holiday_date.isoformat())))
                          for row in calendar.holidays)
    )  # fmt: skip


def _hole(path: Path, calendar: CalendarRow, day: str, start: int, end: int) -> Finding:
    return Finding(
        "calendar_hole", path, calendar.place,
        {"day": day, "start": clock(start), "end": clock(end)},
    )  # fmt: skip


def clock(seconds: int) -> str:
    """Seconds since midnight as a time of day."""
    hours, rest = divmod(seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours:02d}:{minutes:02d}" + (f":{seconds:02d}" if seconds else "")


# --- content -------------------------------------------------------------------------------------


def _code_findings(offerings: Sequence[OfferingRow]) -> Iterator[Finding]:
    """Content has the codes of its provider, nothing else has them, and none twice."""
    for row in offerings:
        is_content = row.offering_type == "content"
        if is_content != (row.sp_id is not None) or is_content != (row.content_id is not None):
            yield Finding("content_codes", (("offering", row.offering_id),), row.place)
    yield from _twice(
        "content_twice", (((row.sp_id, row.content_id), row.place,
                           (("offering", row.offering_id),))
                          for row in offerings if row.sp_id and row.content_id)
    )  # fmt: skip


# --- versions ------------------------------------------------------------------------------------


def _validity_findings(offering: OfferingRow) -> Iterator[Finding]:
    yield from _twice(
        "version_twice", ((row.version_number, row.place, _version_path(offering, row))
                          for row in offering.versions)
    )  # fmt: skip
    ordered = sorted(offering.versions, key=lambda row: (row.valid_from, row.version_number))
    for row in ordered:
        yield from _order_findings(row, _version_path(offering, row), row.place)
    for row, following in pairwise(ordered):
        if row.valid_to is None or row.valid_to > following.valid_from:
            yield Finding(
                "overlapping_validity", _version_path(offering, following), following.place,
                {
                    "other": f"{offering.offering_id}@{row.version_number}",
                    "place": str(row.place) or "–", "end": row.valid_to or "–",
                    "start": following.valid_from,
                },
            )  # fmt: skip


def _order_findings(row: Validity, path: Path, place: Any) -> Iterator[Finding]:
    if row.valid_to is not None and row.valid_to <= row.valid_from:
        yield Finding("validity_order", path, place, {"start": row.valid_from, "end": row.valid_to})


def check_version(
    offering: OfferingRow, version: VersionRow, lists: Mapping[str, PriceList], known: Known
) -> Iterator[Finding]:
    """What is wrong with one version; its price lists are checked apart."""
    path = _version_path(offering, version)
    bands = _bands_of(version, known)
    if version.calendar is not None and version.calendar not in known.calendars:
        yield Finding("unknown_calendar", path, version.place, {"name": version.calendar})
    if (version.suspension_fee_amount or 0) > version.monthly_fee_amount:
        yield Finding("suspension_above_fee", path, version.place, {
            "field": "suspension_fee_amount", "other_field": "monthly_fee_amount",
        })  # fmt: skip
    unknown = [name for name in version.price_list if name not in lists]
    for name in unknown:
        yield Finding("unknown_list", path, version.place, {"name": name})
    yield from _prices_findings(known, version.usage_prices, path)
    if not unknown:
        yield from _coverage_of_prices(offering, version, lists, known)
    yield from _twice(
        "allowance_twice", ((row.allowance, row.place, (*path, ("allowance", row.allowance)))
                            for row in version.allowances)
    )  # fmt: skip
    for allowance in version.allowances:
        yield from _allowance_findings(
            allowance, (*path, ("allowance", allowance.allowance)), known, bands
        )
    yield from _twice(
        "discount_twice", ((row.discount, row.place, (*path, ("discount", row.discount)))
                           for row in version.discounts)
    )  # fmt: skip
    for discount in version.discounts:
        yield from _discount_findings(discount, (*path, ("discount", discount.discount)))
    yield from _twice(
        "occasion_twice", ((row.occasion, row.place, (*path, ("one_off_price", row.occasion)))
                           for row in version.one_off_prices)
    )  # fmt: skip
    for price in version.one_off_prices:
        if price.bill_item_code not in BILL_ITEMS:
            inner = (*path, ("one_off_price", price.occasion))
            yield _unknown_bill_item(inner, price, price.bill_item_code)
    if version.commitment is not None:
        yield from _commitment_findings(offering, version.commitment, path)


def _discount_findings(discount: DiscountRow, path: Path) -> Iterator[Finding]:
    if discount.kind == "percent" and discount.value > 100:
        yield Finding("percent", path, discount.place, {"value": f"{discount.value:f}"})
    for code in discount.bill_item_codes:
        if code not in BILL_ITEMS:
            yield _unknown_bill_item(path, discount, code)
        elif code in collected_items():
            yield Finding("discount_of_others", path, discount.place, {"name": code})


def _commitment_findings(
    offering: OfferingRow, bound: CommitmentRow, path: Path
) -> Iterator[Finding]:
    if bound.penalty_rule == "remaining_share" and bound.penalty_value > 100:
        yield Finding("percent", path, bound.place, {"value": f"{bound.penalty_value:f}"})
    if bound.penalty_on != "leave" and offering.offering_type == "addon":
        yield Finding("addon_is_not_changed", path, bound.place)


def _bands_of(version: VersionRow, known: Known) -> frozenset[str]:
    return known.calendars.get(version.calendar or "", frozenset())


def _coverage_of_prices(
    offering: OfferingRow, version: VersionRow, lists: Mapping[str, PriceList], known: Known
) -> Iterator[Finding]:
    """Every class once, in every band; the classes a plan must price; nothing both ways."""
    path = _version_path(offering, version)
    prices = _all_prices(version, lists)
    yield from _prices_given_twice(version, prices, path, lists)
    yield from _band_findings(version, prices, path, _bands_of(version, known))
    priced = {price.charge_class for price in prices}
    if offering.offering_type == "plan":
        yield from _missing_prices(version, priced, path, known)
    elif offering.offering_type == "content":
        yield from _content_findings(version, priced, path)


def _place_in(version: VersionRow, price: UsagePriceRow) -> Place:
    """Where to mend a price: a listed one stands in its list, for other versions too."""
    is_own = any(price is own for own in version.usage_prices)
    return price.place if is_own else version.place


def _prices_given_twice(
    version: VersionRow, prices: Sequence[UsagePriceRow], path: Path,
    lists: Mapping[str, PriceList],
) -> Iterator[Finding]:  # fmt: skip
    """Prices of two lists, or of a list and the version; those of one place are found there."""
    origins = [number for number, name in enumerate(version.price_list)
               for _ in lists[name].prices]  # fmt: skip
    seen: dict[tuple[str, str | None], int] = {}
    for number, price in enumerate(prices):
        first = seen.setdefault((price.charge_class, price.band), number)
        if first < len(origins) and origins[first] not in origins[number : number + 1]:
            yield Finding(
                "price_in_list_too", (*path, ("price", price.name)), _place_in(version, price),
                {"first": prices[first].place},
            )  # fmt: skip


def _band_findings(
    version: VersionRow, prices: Sequence[UsagePriceRow], path: Path, bands: frozenset[str]
) -> Iterator[Finding]:
    by_class: dict[str, set[str | None]] = defaultdict(set)
    for price in prices:
        by_class[price.charge_class].add(price.band)
        if price.band is None:
            continue
        inner, place = (*path, ("price", price.name)), _place_in(version, price)
        if version.calendar is None:
            yield Finding("band_without_calendar", inner, place, {"band": price.band})
        elif bands and price.band not in bands:
            yield _unknown_band(inner, place, price.band, version.calendar, bands)
    for charge_class, priced in by_class.items():
        inner = (*path, ("price", charge_class))
        if None in priced and len(priced) > 1:
            yield Finding("band_and_all_day", inner, version.place)
        elif None not in priced:
            for band in sorted(band for band in bands if band not in priced):
                yield Finding("missing_band", inner, version.place,
                              {"band": band, "calendar": version.calendar})  # fmt: skip


def _missing_prices(
    version: VersionRow, priced: set[str], path: Path, known: Known
) -> Iterator[Finding]:
    for name in version.not_offered:
        if name not in REQUIRED_CLASSES:
            yield Finding("not_required", path, version.place,
                          {"name": name, "known": ", ".join(REQUIRED_CLASSES)})  # fmt: skip
        elif name in priced:
            yield Finding("not_offered_priced", (*path, ("price", name)), version.place)
    for name in REQUIRED_CLASSES:
        lineage = known.lineage(name) or [name]
        if name not in version.not_offered and priced.isdisjoint(lineage):
            yield Finding("missing_price", (*path, ("price", name)), version.place)


def _content_findings(version: VersionRow, priced: set[str], path: Path) -> Iterator[Finding]:
    """Content is priced, and nothing else: nobody holds it."""
    if CONTENT_CLASS not in priced:
        yield Finding("missing_content_price", path, version.place, {"class": CONTENT_CLASS})
    superfluous = [
        name for name, is_given in (
            ("usage_prices", bool(priced - {CONTENT_CLASS})),
            ("calendar", version.calendar is not None),
            ("monthly_fee_amount", version.monthly_fee_amount > 0),
            ("suspension_fee_amount", version.suspension_fee_amount is not None),
            ("minimum_consumption_amount", version.minimum_consumption_amount is not None),
            ("allowances", bool(version.allowances)), ("discounts", bool(version.discounts)),
            ("one_off_prices", bool(version.one_off_prices)),
            ("commitment", version.commitment is not None),
        ) if is_given
    ]  # fmt: skip
    if superfluous:
        yield Finding("content_holds_nothing", path, version.place, {
            "names": ", ".join(superfluous), "class": CONTENT_CLASS,
        })  # fmt: skip


def _unknown_band(
    path: Path, place: Any, band: str, calendar: str, bands: frozenset[str]
) -> Finding:
    return Finding(
        "unknown_band", path, place,
        {"band": band, "calendar": calendar, "known": ", ".join(sorted(bands))},
    )  # fmt: skip


# --- prices --------------------------------------------------------------------------------------


def _prices_findings(
    known: Known, prices: tuple[UsagePriceRow, ...], path: Path
) -> Iterator[Finding]:
    yield from _twice(
        "price_twice", (((row.charge_class, row.band), row.place, (*path, ("price", row.name)))
                        for row in prices)
    )  # fmt: skip
    for price in prices:
        inner = (*path, ("price", price.name))
        facts = known.classes.get(price.charge_class)
        if facts is None:
            yield Finding("unknown_class", inner, price.place, {"name": price.charge_class})
        if price.bill_item_code is not None and price.bill_item_code not in BILL_ITEMS:
            yield _unknown_bill_item(inner, price, price.bill_item_code)
        yield from _model_findings(price, inner)
        yield from _tier_findings(price, inner)
        if facts is not None:
            for tier in price.tiers:
                measures = (tier.from_quantity, tier.to_quantity, tier.increment_quantity,
                            tier.per_quantity)  # fmt: skip
                yield from _unit_findings(measures, facts.unit, inner, tier)
            yield from _unit_findings((price.repeat_quantity,), facts.unit, inner, price)


def _unit_findings(
    measures: Iterable[Measure | None], unit: str, path: Path, row: PlacedRow
) -> Iterator[Finding]:
    for written in sorted({one.unit for one in measures if one and one.unit} - {unit}):
        yield Finding("unit_differs", path, row.place, {"unit": written, "class_unit": unit})


def _model_findings(price: UsagePriceRow, path: Path) -> Iterator[Finding]:
    if (
        price.minimum_amount
        and price.maximum_amount
        and price.minimum_amount > price.maximum_amount
    ):
        yield Finding("minimum_above_maximum", path, price.place, {
            "field": "minimum_amount", "other_field": "maximum_amount",
        })  # fmt: skip
    misplaced = {
        "repeat_quantity": price.repeat_quantity is not None and price.model != "graduated",
        "overhang: each": price.overhang == "each" and price.model != "slots",
        "flat_amount": price.model in ("slots", "package")
        and any(tier.flat_amount for tier in price.tiers),
        "is_partial": price.model == "package" and any(tier.is_partial for tier in price.tiers),
    }
    for name, is_misplaced in misplaced.items():
        if is_misplaced:
            yield Finding("not_in_model", path, price.place, {"name": name, "model": price.model})


def _tier_findings(price: UsagePriceRow, path: Path) -> Iterator[Finding]:
    if not price.tiers:
        yield Finding("no_tier", path, price.place)
        return
    if price.model == "package" and len(price.tiers) > 1:
        yield Finding("package_tiers", path, price.place, {"count": len(price.tiers)})
        return
    end: Any = 0
    for number, (tier, values) in enumerate(
        zip(price.tiers, tier_values(price.tiers), strict=True), start=1
    ):
        inner = (*path, ("tier", str(number)))
        start, next_end = values["from_quantity"], values["to_quantity"]
        if end is None:
            yield Finding("after_the_end", inner, tier.place)
        elif start > end:
            yield _misplaced_tier("tier_gap", inner, tier, end, start)
        elif start < end:
            yield _misplaced_tier("tier_overlap", inner, tier, end, start)
        if next_end is not None and next_end <= start:
            yield Finding("tier_order", inner, tier.place,
                          {"start": f"{start:f}", "end": f"{next_end:f}"})  # fmt: skip
        if tier.increment_quantity is None and not tier.is_partial:
            yield Finding("no_increment", inner, tier.place)
        end = next_end
    inner = (*path, ("tier", str(len(price.tiers))))
    last = price.tiers[-1]
    if price.repeat_quantity is not None:
        if end != price.repeat_quantity.value:
            yield Finding(
                "repeat_gap", inner, last.place,
                {"end": "–" if end is None else f"{end:f}",
                 "repeat": f"{price.repeat_quantity.value:f}"},
            )  # fmt: skip
    elif end is not None and price.beyond is None:
        yield Finding("open_gap", inner, last.place, {"end": f"{end:f}"})
    elif end is None and price.beyond is not None:
        yield Finding("nothing_beyond", inner, last.place)


def _misplaced_tier(code: str, path: Path, tier: TierRow, end: Any, start: Any) -> Finding:
    return Finding(code, path, tier.place, {"expected": f"{end:f}", "start": f"{start:f}"})


# --- allowances ----------------------------------------------------------------------------------


def _allowance_findings(
    allowance: AllowanceRow, path: Path, known: Known, bands: frozenset[str]
) -> Iterator[Finding]:
    measures = (allowance.size_quantity, allowance.rounding_increment)
    yield from _unit_findings(measures, allowance.unit, path, allowance)
    for number, cover in enumerate(allowance.covers):
        facts = known.classes.get(cover.charge_class)
        if facts is None:
            yield Finding("unknown_class", path, cover.place, {"name": cover.charge_class})
            continue
        if allowance.unit not in ("money", facts.unit):
            yield Finding(
                "other_unit", path, cover.place,
                {"unit": allowance.unit, "name": cover.charge_class, "class_unit": facts.unit},
            )  # fmt: skip
        if cover.band is not None and cover.band not in bands:
            listed = ", ".join(sorted(bands)) or "–"
            yield Finding(
                "unknown_cover_band", path, cover.place, {"band": cover.band, "known": listed}
            )
        twice = [other for other in allowance.covers[:number] if _meets(cover, other, known)]
        if twice:
            yield Finding("covered_twice", path, cover.place,
                          {"name": cover.name, "other": twice[0].name})  # fmt: skip


def _meets(cover: CoverageRow, other: CoverageRow, known: Known) -> bool:
    """Whether some usage is covered by both."""
    is_below = cover.charge_class in known.lineage(other.charge_class)
    is_above = other.charge_class in known.lineage(cover.charge_class)
    in_both = cover.band is None or other.band is None or cover.band == other.band
    # What goes by two classes may be covered by both of them, if at the same times.
    is_shared = cover.band != other.band and any(
        {cover.charge_class, other.charge_class}.issubset(known.lineage(name))
        for name in known.classes
    )
    return in_both and (is_below or is_above or is_shared)


def period_rows(calendar: CalendarRow) -> list[tuple[PeriodRow, str]]:
    """The periods of a calendar by type of day."""
    return [(period, day) for period in calendar.periods for day in period.days]
