"""Reads the catalogue as people see it: offerings with their versions, calendars."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from operational.catalogue.files import SAMPLE_CATALOGUE
from operational.catalogue.findings import CatalogueError
from operational.catalogue.loader import load_catalogue, load_sample
from operational.catalogue.models import (
    Allowance,
    AllowanceCoverage,
    BundleComponent,
    Calendar,
    CalendarHoliday,
    CalendarPeriod,
    ChargeClass,
    Commitment,
    Discount,
    Offering,
    OneOffPrice,
    PricePlanVersion,
    PriceTier,
    UsagePrice,
)  # fmt: skip
from operational.problems import NotFoundError

__all__ = ["SAMPLE_CATALOGUE", "CatalogueError", "load_catalogue", "load_sample"]


@dataclass(frozen=True)
class OfferingView:
    """An offering with one of its versions, as a person reads it."""

    offering: Offering
    version: PricePlanVersion
    versions: list[PricePlanVersion]
    allowances: list[Allowance] = field(default_factory=list)
    covered: dict[str, list[AllowanceCoverage]] = field(default_factory=dict)
    prices: list[tuple[UsagePrice, list[PriceTier]]] = field(default_factory=list)
    discounts: list[Discount] = field(default_factory=list)
    one_off_prices: list[OneOffPrice] = field(default_factory=list)
    commitment: Commitment | None = None
    components: list[tuple[BundleComponent, Offering]] = field(default_factory=list)

    @property
    def standing(self) -> dict[str, str]:
        """Whether each version is in force, past or still to come."""
        now = datetime.now(UTC)
        return {
            row.plan_version_id: "future" if row.valid_from > now
            else "past" if row.valid_to is not None and row.valid_to <= now else "in_force"
            for row in self.versions
        }  # fmt: skip


def list_offerings(session: Session, offering_type: str | None = None) -> list[OfferingView]:
    """All offerings with the version in force (else the newest), plans first, cheapest first."""
    query = select(Offering)
    if offering_type:
        query = query.where(Offering.offering_type == offering_type)
    versions = versions_of(session)
    views = [
        OfferingView(row, _current(versions[row.offering_id]), versions[row.offering_id])
        for row in session.scalars(query) if row.offering_id in versions
    ]  # fmt: skip
    allowances = defaultdict(list)
    for allowance in session.scalars(
        select(Allowance)
        .where(Allowance.plan_version_id.in_([view.version.plan_version_id for view in views]))
        .order_by(Allowance.unit.desc(), Allowance.priority, Allowance.allowance_id)
    ):
        allowances[allowance.plan_version_id].append(allowance)
    for view in views:
        view.allowances.extend(allowances[view.version.plan_version_id])
    return sorted(
        views,
        key=lambda view: (
            view.offering.offering_type != "plan", view.version.monthly_fee_amount,
            view.offering.name_en,
        ),
    )  # fmt: skip


def offering_names(session: Session, language: str) -> dict[str, str]:
    """The names of offerings by their ids."""
    name = Offering.name_zh if language == "zh" else Offering.name_en
    return {row[0]: row[1] for row in session.execute(select(Offering.offering_id, name))}


def versions_of(
    session: Session, offering_id: str | None = None
) -> dict[str, list[PricePlanVersion]]:
    """The versions of each offering, what is valid last first: files number them as they like."""
    query = select(PricePlanVersion).order_by(PricePlanVersion.valid_from.desc())
    if offering_id is not None:
        query = query.where(PricePlanVersion.offering_id == offering_id)
    found: dict[str, list[PricePlanVersion]] = {}
    for version in session.scalars(query):
        found.setdefault(version.offering_id, []).append(version)
    return found


def _current(versions: list[PricePlanVersion]) -> PricePlanVersion:
    """The version in force now, else the newest."""
    now = datetime.now(UTC)
    in_force = (
        row for row in versions
        if row.valid_from <= now and (row.valid_to is None or row.valid_to > now)
    )  # fmt: skip
    return next(in_force, versions[0])


def find_offering(
    session: Session, offering_id: str, version_number: int | None = None
) -> OfferingView:  # fmt: skip
    """One offering with a version, by default the one in force; NotFoundError without them."""
    offering = session.get(Offering, offering_id)
    versions = versions_of(session, offering_id).get(offering_id, [])
    if offering is None or not versions:
        raise NotFoundError("no_offering", offering_id=offering_id)
    if version_number is None:
        version = _current(versions)
    else:
        asked = [row for row in versions if row.version_number == version_number]
        if not asked:
            raise NotFoundError("no_version", offering_id=offering_id, version=version_number)
        version = asked[0]
    version_id = version.plan_version_id

    def rows(table: type[Any], *order: Any) -> list[Any]:
        query = select(table).where(table.plan_version_id == version_id).order_by(*order)
        return list(session.scalars(query))

    allowances: list[Allowance] = rows(Allowance, Allowance.priority, Allowance.allowance_id)
    covered: dict[str, list[AllowanceCoverage]] = defaultdict(list)
    for cover in session.scalars(
        select(AllowanceCoverage)
        .where(AllowanceCoverage.allowance_id.in_([row.allowance_id for row in allowances]))
        .order_by(AllowanceCoverage.allowance_coverage_id)
    ):
        covered[cover.allowance_id].append(cover)
    prices: list[UsagePrice] = rows(UsagePrice, UsagePrice.usage_price_id)
    order = {row.charge_class: place for place, row in enumerate(charge_classes(session))}
    prices.sort(key=lambda price: (order.get(price.charge_class, 0), price.band or ""))
    tiers: dict[str, list[PriceTier]] = {price.usage_price_id: [] for price in prices}
    for tier in session.scalars(
        select(PriceTier)
        .where(PriceTier.usage_price_id.in_(tiers))
        .order_by(PriceTier.usage_price_id, PriceTier.tier_number)
    ):
        tiers[tier.usage_price_id].append(tier)
    return OfferingView(
        offering, version, versions, allowances, covered,
        [(price, tiers[price.usage_price_id]) for price in prices],
        rows(Discount, Discount.sequence), rows(OneOffPrice, OneOffPrice.occasion),
        session.get(Commitment, version_id), components_of(session, version_id),
    )  # fmt: skip


def components_of(session: Session, version_id: str) -> list[tuple[BundleComponent, Offering]]:
    """What a version of a bundle groups, plans first."""
    rows = session.execute(
        select(BundleComponent, Offering)
        .join(Offering, Offering.offering_id == BundleComponent.offering_id)
        .where(BundleComponent.plan_version_id == version_id)
        .order_by(Offering.offering_type.desc(), Offering.offering_id)
    ).all()
    return [(component, offering) for component, offering in rows]


def charge_classes(session: Session) -> list[ChargeClass]:
    """The charge classes, by service, each after the one above it."""
    services = ("voice", "sms", "mms", "data", "vas")
    found = {row.charge_class: row for row in session.scalars(select(ChargeClass))}

    def lineage(row: ChargeClass) -> list[str]:
        above = found.get(row.parent_class or "")
        return [*(lineage(above) if above else []), row.charge_class]

    return sorted(found.values(), key=lambda row: (services.index(row.service), lineage(row)))


def charge_class_units(session: Session) -> dict[str, str]:
    """The unit each charge class counts in."""
    return {row.charge_class: row.unit for row in charge_classes(session)}


@dataclass(frozen=True)
class CalendarView:
    """A calendar: the periods of each type of day, and its holidays."""

    calendar: Calendar
    days: dict[str, list[CalendarPeriod]]
    holidays: list[CalendarHoliday]
    version_ids: list[str]


def list_calendars(session: Session) -> list[CalendarView]:
    """All calendars with the versions that go by them."""
    views = {
        row.calendar_id: CalendarView(row, {}, [], [])
        for row in session.scalars(select(Calendar).order_by(Calendar.calendar_id))
    }
    for period in session.scalars(select(CalendarPeriod).order_by(CalendarPeriod.from_second)):
        views[period.calendar_id].days.setdefault(period.day_type, []).append(period)
    for holiday in session.scalars(select(CalendarHoliday).order_by(CalendarHoliday.holiday_date)):
        views[holiday.calendar_id].holidays.append(holiday)
    for version in session.scalars(
        select(PricePlanVersion)
        .where(PricePlanVersion.calendar_id.is_not(None))
        .order_by(PricePlanVersion.plan_version_id)
    ):
        views[str(version.calendar_id)].version_ids.append(version.plan_version_id)
    return list(views.values())
