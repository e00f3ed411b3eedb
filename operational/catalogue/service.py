"""Loads and reads the catalogue: a version of prices is checked, then never changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from operational import audit
from operational.catalogue.models import (
    Allowance,
    AllowanceCoverage,
    ChargeClass,
    Offering,
    PricePlanVersion,
    PriceStep,
    PriceTier,
    UsagePrice,
)  # fmt: skip
from operational.catalogue.price_steps import Tier, common_denominator, compile_price, step_rows
from operational.database import transaction
from operational.problems import NotFoundError
from operational.ratecards import (
    Amount,
    RateCardError,
    Row,
    Validity,
    midnight,
    read_yaml,
    repeated,
    validity_problems,
)  # fmt: skip
from tollhouse.settings import Settings

SAMPLE_CATALOGUE = Path(__file__).with_name("sample_catalogue.yaml")

_ALLOWANCE_NAMES = {
    "second": {"name_zh": "语音", "name_en": "Voice"},
    "octet": {"name_zh": "流量", "name_en": "Data"},
    "event": {"name_zh": "条数", "name_en": "Events"},
}

_LOAD_LOCK = 7_025_002  # one catalogue load at a time

Unit = Literal["second", "octet", "event"]


class CatalogueError(RateCardError):
    """A catalogue is refused; `problems` names every offending row. Nothing was loaded."""


class TierRow(Row):
    """From a quantity (inclusive) to a quantity (exclusive; none = no end), at a price."""

    from_quantity: int = Field(0, ge=0)
    to_quantity: int | None = None
    increment_quantity: int = Field(gt=0)
    per_quantity: int = Field(gt=0)
    price_amount: Amount


class UsagePriceRow(Row):
    """The price of a charge class.

    slots: one tier, inside a record; graduated: tiers over the cycle's total, beginning again
    every `repeat_quantity`.
    """

    charge_class: str
    model: Literal["slots", "graduated"]
    repeat_quantity: int | None = Field(None, gt=0)
    rounding_mode: Literal["half_up", "up", "down"] = "half_up"
    rounding_digits: int = Field(3, ge=0, le=6)
    bill_item_code: str
    tiers: tuple[TierRow, ...] = ()


class AllowanceRow(Row):
    """Free units a cycle, drawn raw or in rounded-up increments."""

    allowance: str
    unit: Unit
    size_quantity: int = Field(gt=0)
    priority: int = 1
    scope: Literal["line"] = "line"
    quantity_basis: Literal["raw", "rounded"]
    rounding_increment: int = Field(1, ge=1)
    covers: tuple[str, ...] = Field(min_length=1)


class VersionRow(Validity):
    """One version of an offering's prices: its own, or those of a price list."""

    version_number: int = Field(ge=1)
    monthly_fee_amount: Amount
    currency_code: Literal["CNY"] = "CNY"
    price_list: str | None = None
    usage_prices: tuple[UsagePriceRow, ...] = ()
    allowances: tuple[AllowanceRow, ...] = ()


class OfferingRow(Row):
    """One offering and all its versions."""

    offering_id: str
    offering_type: Literal["plan", "addon"]
    name_zh: str
    name_en: str
    status: Literal["active", "withdrawn"] = "active"
    versions: tuple[VersionRow, ...] = Field(min_length=1)


class ChargeClassRow(Row):
    """What usage is classified into; what is left out is as in the class above."""

    charge_class: str
    parent_class: str | None = None
    service: Literal["voice", "sms", "mms", "data", "vas"] | None = None
    unit: Unit | None = None
    bill_item_code: str | None = None
    name_zh: str
    name_en: str


class CatalogueCard(Row):
    """A whole catalogue file."""

    charge_classes: tuple[ChargeClassRow, ...]
    price_lists: dict[str, tuple[UsagePriceRow, ...]] = Field(default_factory=dict)
    offerings: tuple[OfferingRow, ...]


@dataclass
class VersionContent:
    """All rows of one version, keyed by table, as they stand in the database."""

    version: dict[str, Any]
    usage_prices: list[dict[str, Any]] = field(default_factory=list)
    price_tiers: list[dict[str, Any]] = field(default_factory=list)
    price_steps: list[dict[str, Any]] = field(default_factory=list)
    allowances: list[dict[str, Any]] = field(default_factory=list)
    allowance_coverage: list[dict[str, Any]] = field(default_factory=list)

    def tables(self) -> Iterator[tuple[type[Any], list[dict[str, Any]]]]:
        """Tables and rows in foreign-key order."""
        yield PricePlanVersion, [self.version]
        yield UsagePrice, self.usage_prices
        yield PriceTier, self.price_tiers
        yield PriceStep, self.price_steps
        yield Allowance, self.allowances
        yield AllowanceCoverage, self.allowance_coverage


def load_catalogue(settings: Settings, path: Path = SAMPLE_CATALOGUE) -> dict[str, int]:
    """Load offerings and price plan versions from YAML; returns the rows inserted by table.

    Loading the same file again inserts nothing. A version that is there is immutable: other
    content is refused, except that an open version may be given an end in the future. Raises
    CatalogueError with every offending row named; then nothing is loaded.
    """
    try:
        card = read_yaml(path, CatalogueCard)
    except RateCardError as error:
        raise CatalogueError(path, error.problems) from error
    if problems := catalogue_problems(card):
        raise CatalogueError(path, problems)
    counts = dict.fromkeys(
        ("charge_class", "offering", "price_plan_version", "usage_price", "price_tier",
         "price_step", "allowance", "allowance_coverage"), 0,
    )  # fmt: skip
    with transaction(settings) as session:
        session.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": _LOAD_LOCK})
        for values in _classes(card):
            counts["charge_class"] += _put_class(session, values)
        for offering in card.offerings:
            counts["offering"] += _put_offering(session, offering)
            known = _stored_versions(session, offering.offering_id)
            problems += _clashes_with_stored(settings, offering, known)
            for row in sorted(offering.versions, key=lambda row: row.version_number):
                content = _content(settings, card, offering, row)
                stored = known.get(content.version["plan_version_id"])
                if stored is not None:
                    problems += _changes(session, stored, content)
                elif not problems:
                    for table, rows in content.tables():
                        if rows:
                            session.execute(insert(table), rows)
                        counts[str(table.__tablename__)] += len(rows)
        if problems:
            raise CatalogueError(path, problems)
        if any(counts.values()):
            audit.record(
                session, username="loader", action="load_catalogue", entity_type="catalogue",
                entity_id=path.name, detail=dict(counts), province_code="00",
            )  # fmt: skip
    return {f"catalogue.{table}": count for table, count in counts.items()}


def catalogue_problems(card: CatalogueCard) -> list[str]:
    """What is wrong with a catalogue, each problem naming its row; empty when all is well."""
    problems = [
        f"offering {offering_id}: duplicate id"
        for offering_id in repeated(row.offering_id for row in card.offerings)
    ]
    for name, prices in card.price_lists.items():
        problems += _price_problems(card, f"price list {name}", prices)
    for offering in card.offerings:
        name = offering.offering_id
        problems += [
            f"version {name}@{number}: duplicate id"
            for number in repeated(row.version_number for row in offering.versions)
        ]
        problems += validity_problems(
            "version", [(f"{name}@{row.version_number}", row) for row in offering.versions]
        )
        for version in offering.versions:
            problems += _version_problems(card, f"{name}@{version.version_number}", version)
    return problems


def _version_problems(card: CatalogueCard, name: str, version: VersionRow) -> list[str]:
    problems = []
    units = {row["charge_class"]: row["unit"] for row in _classes(card)}
    if version.price_list is not None and version.price_list not in card.price_lists:
        problems.append(f"version {name}: there is no price list {version.price_list}")
    else:
        problems += _price_problems(card, f"version {name}", version.usage_prices)
        priced = {row.charge_class for row in _usage_prices(card, version)}
        problems += [
            f"version {name}: missing price for charge class {charge_class}"
            for charge_class in ("voice_domestic", "sms_domestic", "data_domestic")
            if charge_class not in priced and charge_class in units
        ]
        problems += [
            f"version {name}: charge class {charge_class} is priced in the version and in "
            f"price list {version.price_list}"
            for charge_class in repeated(row.charge_class for row in _usage_prices(card, version))
            if version.price_list and version.usage_prices
        ]
    problems += [
        f"allowance {name}/{allowance}: duplicate id"
        for allowance in repeated(row.allowance for row in version.allowances)
    ]
    for allowance in version.allowances:
        label = f"allowance {name}/{allowance.allowance}"
        problems += [f"{label}: covers {row} twice" for row in repeated(allowance.covers)]
        for charge_class in allowance.covers:
            unit = units.get(charge_class)
            if unit is None:
                problems.append(f"{label}: there is no charge class {charge_class}")
            elif unit != allowance.unit:
                problems.append(
                    f"{label}: counts {allowance.unit}, but {charge_class} counts {unit}"
                )
    return problems


def _price_problems(
    card: CatalogueCard, owner: str, prices: tuple[UsagePriceRow, ...]
) -> list[str]:
    problems = [
        f"{owner}: duplicate price for charge class {charge_class}"
        for charge_class in repeated(row.charge_class for row in prices)
    ]
    known = {row.charge_class for row in card.charge_classes}
    for price in prices:
        label = f"{owner}, price {price.charge_class}"
        if price.charge_class not in known:
            problems.append(f"{label}: there is no such charge class")
        problems += _tier_problems(label, price)
    return problems


def _tier_problems(label: str, price: UsagePriceRow) -> list[str]:
    if not price.tiers:
        return [f"{label}: missing price (no tier)"]
    problems = []
    if price.model == "slots":
        if len(price.tiers) != 1:
            problems.append(f"{label}: slots take exactly one tier, not {len(price.tiers)}")
        if price.repeat_quantity is not None:
            problems.append(f"{label}: slots take no repeat_quantity")
    if len({(tier.increment_quantity, tier.per_quantity) for tier in price.tiers}) > 1:
        problems.append(
            f"{label}: all tiers of a price take the same increment_quantity and per_quantity"
        )
    expected: int | None = 0
    for number, tier in enumerate(price.tiers, start=1):
        if expected is None:
            problems.append(f"{label}, tier {number}: follows a tier without an end")
            break
        if tier.from_quantity != expected:
            fault = "gap" if tier.from_quantity > expected else "overlap"
            problems.append(
                f"{label}, tier {number}: {fault}, begins at {tier.from_quantity} "
                f"instead of {expected}"
            )
        if tier.to_quantity is not None and tier.to_quantity <= tier.from_quantity:
            problems.append(f"{label}, tier {number}: ends before it begins")
        expected = tier.to_quantity
    if expected != price.repeat_quantity:
        problems.append(
            f"{label}, last tier: gap, ends at {expected} instead of "
            f"{price.repeat_quantity or 'no end'}"
        )
    return problems


def _usage_prices(card: CatalogueCard, version: VersionRow) -> tuple[UsagePriceRow, ...]:
    listed = card.price_lists[version.price_list] if version.price_list else ()
    return (*listed, *version.usage_prices)


def _content(
    settings: Settings, card: CatalogueCard, offering: OfferingRow, row: VersionRow
) -> VersionContent:
    """The database rows of one version of the card."""
    version_id = f"{offering.offering_id}@{row.version_number}"
    content = VersionContent(
        version={
            "plan_version_id": version_id,
            "offering_id": offering.offering_id,
            "version_number": row.version_number,
            "valid_from": midnight(row.valid_from, settings.timezone),
            "valid_to": row.valid_to and midnight(row.valid_to, settings.timezone),
            "monthly_fee_amount": row.monthly_fee_amount,
            "currency_code": row.currency_code,
        }
    )
    compiled = {}
    for price in _usage_prices(card, row):
        price_id = f"{version_id}/{price.charge_class}"
        content.usage_prices.append(
            {"usage_price_id": price_id, "plan_version_id": version_id}
            | price.model_dump(exclude={"tiers"})
        )
        content.price_tiers += [
            {"usage_price_id": price_id, "tier_number": number} | tier.model_dump()
            for number, tier in enumerate(price.tiers, start=1)
        ]
        compiled[price_id] = compile_price(
            price.model,
            [
                Tier(
                    from_quantity=Fraction(tier.from_quantity),
                    to_quantity=None if tier.to_quantity is None else Fraction(tier.to_quantity),
                    increment_quantity=Fraction(tier.increment_quantity),
                    per_quantity=Fraction(tier.per_quantity),
                    price_amount=Fraction(tier.price_amount),
                )
                for tier in price.tiers
            ],
        )
    denominator = common_denominator(compiled.values())
    content.version["cost_denominator"] = denominator
    content.price_steps = [
        {"usage_price_id": price_id} | vars(step)
        for price_id, steps in compiled.items()
        for step in step_rows(steps, denominator)
    ]
    for allowance in row.allowances:
        allowance_id = f"{version_id}/{allowance.allowance}"
        content.allowances.append(
            {"allowance_id": allowance_id, "plan_version_id": version_id}
            | _ALLOWANCE_NAMES[allowance.unit]
            | allowance.model_dump(exclude={"allowance", "covers"})
        )
        content.allowance_coverage += [
            {
                "allowance_coverage_id": f"{allowance_id}/{charge_class}",
                "allowance_id": allowance_id,
                "charge_class": charge_class,
            }
            for charge_class in allowance.covers
        ]
    return content


def _classes(card: CatalogueCard) -> list[dict[str, Any]]:
    """The rows of the charge classes, each after the one above it."""
    rows: dict[str, dict[str, Any]] = {}
    for row in card.charge_classes:
        above = rows.get(row.parent_class or "", {})
        given = {name: value for name, value in row.model_dump().items() if value is not None}
        rows[row.charge_class] = above | {"parent_class": None} | given
    return list(rows.values())


def _put_class(session: Session, values: dict[str, Any]) -> int:
    """Insert a charge class, or bring it up to date; returns rows inserted."""
    stored = session.get(ChargeClass, values["charge_class"])
    if stored is None:
        session.execute(insert(ChargeClass), [values])
        return 1
    for name, value in values.items():
        setattr(stored, name, value)
    session.flush()
    return 0


def _put_offering(session: Session, offering: OfferingRow) -> int:
    """Insert an offering, or bring its names and status up to date; returns rows inserted."""
    values = offering.model_dump(exclude={"versions"})
    stored = session.get(Offering, offering.offering_id)
    if stored is None:
        session.execute(insert(Offering), [values])
        return 1
    for name, value in values.items():
        setattr(stored, name, value)
    return 0


def _stored_versions(session: Session, offering_id: str) -> dict[str, PricePlanVersion]:
    found = session.scalars(
        select(PricePlanVersion).where(PricePlanVersion.offering_id == offering_id)
    )
    return {version.plan_version_id: version for version in found}


def _clashes_with_stored(
    settings: Settings, offering: OfferingRow, known: Mapping[str, PricePlanVersion]
) -> list[str]:
    """Overlaps of new versions with stored ones that the file does not mention."""
    problems = []
    mentioned = {f"{offering.offering_id}@{row.version_number}" for row in offering.versions}
    for row in offering.versions:
        version_id = f"{offering.offering_id}@{row.version_number}"
        if version_id in known:
            continue
        begins = midnight(row.valid_from, settings.timezone)
        ends = row.valid_to and midnight(row.valid_to, settings.timezone)
        problems += [
            f"version {version_id}: overlapping validity with {stored.plan_version_id}, "
            "which is already loaded"
            for stored in known.values()
            if stored.plan_version_id not in mentioned
            and (stored.valid_to is None or begins < stored.valid_to)
            and (ends is None or stored.valid_from < ends)
        ]
    return problems


def _changes(session: Session, stored: PricePlanVersion, content: VersionContent) -> list[str]:
    """What differs from a stored version; gives an open version its end, the one change allowed."""
    version_id = stored.plan_version_id
    new_end = content.version["valid_to"]
    if stored.valid_to is None and new_end is not None and new_end > datetime.now(UTC):
        stored.valid_to = new_end
        session.flush()
    differences = []
    for table, rows in content.tables():
        if table in (PriceTier, PriceStep):
            owner = table.usage_price_id.in_(
                select(UsagePrice.usage_price_id).where(UsagePrice.plan_version_id == version_id)
            )
        elif table is AllowanceCoverage:
            owner = AllowanceCoverage.allowance_id.in_(
                select(Allowance.allowance_id).where(Allowance.plan_version_id == version_id)
            )
        else:
            owner = table.plan_version_id == version_id
        keys = [column.name for column in table.__table__.primary_key]
        columns = [
            column for column in table.__table__.columns
            if column.name in (rows or [content.version])[0]
        ]  # fmt: skip
        found = {
            tuple(row[key] for key in keys): dict(row)
            for row in session.execute(select(*columns).where(owner)).mappings()
        }
        wanted = {tuple(row[key] for key in keys): row for row in rows}
        differences += [
            "/".join(map(str, key))
            for key in sorted(found.keys() | wanted.keys(), key=str)
            if found.get(key) != wanted.get(key)
        ]
    if not differences:
        return []
    return [
        f"version {version_id} is already loaded with other content "
        f"({', '.join(differences[:5])}): a version is never changed; add version "
        f"{stored.version_number + 1} instead"
    ]


@dataclass(frozen=True)
class OfferingView:
    """An offering with a version, its allowances and prices, as a person reads it."""

    offering: Offering
    version: PricePlanVersion
    allowances: list[Allowance]
    prices: list[tuple[UsagePrice, list[PriceTier]]]


def list_offerings(session: Session) -> list[OfferingView]:
    """All offerings with their newest version, cheapest first."""
    newest = session.execute(
        select(Offering, PricePlanVersion)
        .join(PricePlanVersion, PricePlanVersion.offering_id == Offering.offering_id)
        .order_by(Offering.offering_id, PricePlanVersion.version_number.desc())
        .distinct(Offering.offering_id)
    ).all()
    views = [_view(session, offering, version) for offering, version in newest]
    return sorted(views, key=lambda view: (view.version.monthly_fee_amount, view.offering.name_en))


def find_offering(session: Session, offering_id: str) -> OfferingView:
    """One offering with its newest version; NotFoundError if there is none."""
    found = next(
        (view for view in list_offerings(session) if view.offering.offering_id == offering_id), None
    )
    if found is None:
        raise NotFoundError("no_offering", offering_id=offering_id)
    return found


def _view(session: Session, offering: Offering, version: PricePlanVersion) -> OfferingView:
    allowances = session.scalars(
        select(Allowance)
        .where(Allowance.plan_version_id == version.plan_version_id)
        .order_by(Allowance.unit.desc(), Allowance.priority)
    )
    prices = session.scalars(
        select(UsagePrice)
        .where(UsagePrice.plan_version_id == version.plan_version_id)
        .order_by(UsagePrice.usage_price_id)
    ).all()
    tiers: dict[str, list[PriceTier]] = {price.usage_price_id: [] for price in prices}
    for tier in session.scalars(
        select(PriceTier)
        .where(PriceTier.usage_price_id.in_(tiers))
        .order_by(PriceTier.usage_price_id, PriceTier.tier_number)
    ):
        tiers[tier.usage_price_id].append(tier)
    return OfferingView(
        offering,
        version,
        list(allowances),
        [(price, tiers[price.usage_price_id]) for price in prices],
    )


def charge_class_units(view: OfferingView) -> dict[str, str]:
    """The unit each price of an offering counts in: the kind of service stands in its name."""
    by_service: dict[str, Unit] = {"voice": "second", "sms": "event", "data": "octet"}
    return {
        price.charge_class: by_service.get(price.charge_class.partition("_")[0], "event")
        for price, _ in view.prices
    }
