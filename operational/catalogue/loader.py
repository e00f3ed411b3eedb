"""Loads a catalogue: compares it with the database, refuses what cannot be, applies the rest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from psycopg import errors
from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from operational import audit
from operational.catalogue.authoring import CalendarRow, OfferingRow, free_number
from operational.catalogue.bundles import FIXED_CLASSES, OfferingFacts, VersionFacts
from operational.catalogue.checks import (
    Checked,
    ClassFacts,
    Known,
    check_catalogue,
    period_rows,
)  # fmt: skip
from operational.catalogue.content import (
    FieldChange,
    VersionContent,
    delete_content,
    differences,
    shown,
    stored_contents,
)  # fmt: skip
from operational.catalogue.files import (
    SAMPLE_CATALOGUE,
    STANDARD_CLASSES,
    Catalogue,
    read_catalogue,
)  # fmt: skip
from operational.catalogue.findings import CatalogueError, Finding, Place
from operational.catalogue.models import (
    BundleComponent,
    Calendar,
    CalendarHoliday,
    CalendarPeriod,
    ChargeClass,
    Offering,
    PricePlanVersion,
    PriceStep,
    UsagePrice,
)  # fmt: skip
from operational.database import session_factory, transaction
from tollhouse.settings import Settings

LOAD_LOCK = 7_025_009  # advisory lock: changes of the catalogue come one after the other
SHOWN_DIFFERENCES = 5


@dataclass(frozen=True)
class Change:
    """What loading would do to one charge class, calendar, offering or version."""

    kind: str  # added, changed or withdrawn
    entity: str  # charge_class, calendar, offering or version
    key: str
    fields: tuple[FieldChange, ...] = ()


@dataclass
class Comparison:
    """A checked catalogue beside the database."""

    checked: Checked
    changes: list[Change] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    added: list[VersionContent] = field(default_factory=list)
    replaced: list[VersionContent] = field(default_factory=list)  # as stored
    ended: dict[str, datetime | None] = field(default_factory=dict)
    not_mentioned: list[str] = field(default_factory=list)  # offerings only in the database


def validate_catalogue(paths: Sequence[Path], timezone: str) -> Checked:
    """Check files without a database; raises CatalogueError with every offending row.

    Where no file has charge classes, the shipped ones count.
    """
    catalogue, findings = read_catalogue(paths)
    if not catalogue.charge_classes and not findings:
        standard, _ = read_catalogue([STANDARD_CLASSES])
        catalogue.charge_classes = standard.charge_classes
    checked = check_catalogue(catalogue, Known(), timezone)
    if findings or checked.findings:
        raise CatalogueError([*findings, *checked.findings])
    return checked


def load_catalogue(
    settings: Settings, *paths: Path, username: str = "loader"
) -> dict[str, int]:  # fmt: skip
    """Load a catalogue from YAML files or folders; returns the rows inserted by table.

    Loading the same again inserts nothing. A version in use is not changed, except that its end
    may move while it is still to come. Raises CatalogueError with every offending row named; then
    nothing is loaded.
    """
    with transaction(settings) as session:
        session.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": LOAD_LOCK})
        comparison = compare(session, settings, paths or (SAMPLE_CATALOGUE,))
        if comparison.findings:
            raise CatalogueError(comparison.findings)
        try:
            counts = apply(session, comparison)
        except IntegrityError as error:
            if isinstance(error.orig, errors.RestrictViolation):
                detail = error.orig.diag.message_primary
                raise CatalogueError([Finding("kept", values={"detail": detail})]) from error
            raise
        if comparison.changes:
            audit.record(
                session, username=username, action="load_catalogue", entity_type="catalogue",
                entity_id=", ".join(path.name for path in paths) or SAMPLE_CATALOGUE.name,
                detail=counts | {"changes": [
                    f"{change.kind} {change.entity} {change.key}" for change in comparison.changes
                ]},
                province_code="00",
            )  # fmt: skip
    return {f"catalogue.{table}": count for table, count in counts.items()}


def load_sample(settings: Settings) -> dict[str, int]:
    """Load the sample into a catalogue that has no offering; one that has is its owners' own."""
    with session_factory(settings)() as session:
        is_empty = session.scalar(select(Offering.offering_id).limit(1)) is None
    return load_catalogue(settings) if is_empty else {}


def diff_catalogue(settings: Settings, paths: Sequence[Path]) -> Comparison:
    """What loading would change; the findings say why it would be refused. Changes nothing."""
    with session_factory(settings)() as session:
        return compare(session, settings, paths)


def compare(session: Session, settings: Settings, paths: Sequence[Path]) -> Comparison:
    """Read and check files, and set them beside the database."""
    catalogue, findings = read_catalogue(paths)
    comparison = compare_rows(session, settings, catalogue)
    comparison.findings = [*findings, *comparison.findings]
    return comparison


def compare_rows(session: Session, settings: Settings, catalogue: Catalogue) -> Comparison:
    """Check rows, out of files or a form, and set them beside the database."""
    known = stored_classes(session)
    bands = stored_bands(session)
    if not catalogue.charge_classes and not known:
        catalogue.charge_classes = read_catalogue([STANDARD_CLASSES])[0].charge_classes
    offerings = stored_offerings(session, settings.timezone)
    checked = check_catalogue(catalogue, Known(known, bands, offerings), settings.timezone)
    comparison = Comparison(checked, findings=list(checked.findings))
    used = used_versions(session)
    _compare_classes(session, comparison, known, used)
    for calendar in catalogue.calendars:
        _compare_calendar(session, comparison, calendar, used, settings.timezone)
    places = {row.offering_id: row.place for row in catalogue.offerings}
    stored_rows = {row.offering_id: row for row in session.scalars(select(Offering))}
    comparison.findings += _stored_codes(catalogue.offerings, stored_rows.values())
    comparison.not_mentioned = sorted(stored_rows.keys() - places.keys())
    versions: dict[str, list[PricePlanVersion]] = {}
    for version in session.scalars(select(PricePlanVersion)):
        versions.setdefault(version.offering_id, []).append(version)
    contents = stored_contents(session, checked.contents.keys() & {
        version.plan_version_id for rows in versions.values() for version in rows
    })  # fmt: skip
    for offering in catalogue.offerings:
        stored = stored_rows.get(offering.offering_id)
        _compare_offering(comparison, offering, stored)
        _compare_versions(
            comparison, offering, versions.get(offering.offering_id, []), contents, used
        )
    return comparison


def used_versions(session: Session) -> frozenset[str]:
    """The versions that were sold or rated by."""
    return frozenset(
        session.scalars(
            select(PricePlanVersion.plan_version_id).where(
                func.catalogue.is_used(PricePlanVersion.plan_version_id)
            )
        )
    )


def stored_classes(session: Session) -> dict[str, ClassFacts]:
    """The charge classes in the database."""
    names = tuple(ClassFacts.__dataclass_fields__)
    return {
        row.charge_class: ClassFacts(**{name: getattr(row, name) for name in names})
        for row in session.scalars(select(ChargeClass))
    }


def stored_bands(session: Session) -> dict[str, frozenset[str]]:
    """The bands of the calendars in the database."""
    found: dict[str, set[str]] = {}
    for calendar_id, band in session.execute(
        select(CalendarPeriod.calendar_id, CalendarPeriod.band).distinct()
    ):
        found.setdefault(calendar_id, set()).add(band)
    return {calendar_id: frozenset(bands) for calendar_id, bands in found.items()}


def stored_offerings(session: Session, timezone: str) -> dict[str, OfferingFacts]:
    """What bundles have to know of the offerings in the database."""
    zone = ZoneInfo(timezone)
    found = {row.offering_id: OfferingFacts(row.offering_type)
             for row in session.scalars(select(Offering))}  # fmt: skip
    fixed = set(
        session.scalars(
            select(UsagePrice.plan_version_id).where(
                UsagePrice.charge_class.startswith(FIXED_CLASSES, autoescape=True)
            )
        )
    )
    components: dict[str, set[str]] = {}
    for row in session.scalars(select(BundleComponent)):
        components.setdefault(row.plan_version_id, set()).add(row.offering_id)
    for version in session.scalars(select(PricePlanVersion)):
        end = version.valid_to and version.valid_to.astimezone(zone).date()
        found[version.offering_id].versions[version.version_number] = VersionFacts(
            version.valid_from.astimezone(zone).date(), end, version.plan_version_id in fixed,
            frozenset(components.get(version.plan_version_id, ())),
        )  # fmt: skip
    return found


# --- charge classes and calendars ----------------------------------------------------------------


def _compare_classes(
    session: Session, comparison: Comparison, stored: dict[str, ClassFacts], used: frozenset[str]
) -> None:
    known = comparison.checked.known
    pricing = select(UsagePrice.charge_class, func.min(UsagePrice.plan_version_id)).where(
        UsagePrice.plan_version_id.in_(used)
    )
    priced = {row[0]: row[1] for row in session.execute(pricing.group_by(UsagePrice.charge_class))}
    before = Known(stored)
    for row in comparison.checked.catalogue.charge_classes:
        facts, former = known.classes.get(row.charge_class), stored.get(row.charge_class)
        if facts is None or facts == former:
            continue
        if former is None:
            comparison.changes.append(Change("added", "charge_class", row.charge_class))
            continue
        fields = tuple(_differing("charge_class", row.charge_class, vars(former), vars(facts)))
        comparison.changes.append(Change("changed", "charge_class", row.charge_class, fields))
        lineage = {*before.lineage(row.charge_class), *known.lineage(row.charge_class)}
        users = [priced[name] for name in sorted(lineage & priced.keys())]
        if users and any(change.field not in ("name_zh", "name_en") for change in fields):
            comparison.findings.append(
                Finding(
                    "class_in_use", (("charge_class", row.charge_class),), row.place,
                    {"version": users[0], "changes": _listed(fields)},
                )
            )  # fmt: skip


def _differing(
    table: str, key: str, stored: dict[str, Any], proposed: dict[str, Any]
) -> Iterator[FieldChange]:
    for name, value in proposed.items():
        if stored.get(name) != value:
            yield FieldChange(table, key, name, stored.get(name), value)


def _listed(fields: Sequence[FieldChange]) -> str:
    listed = "; ".join(map(str, fields[:SHOWN_DIFFERENCES]))
    more = len(fields) - SHOWN_DIFFERENCES
    return listed + (f"; … (+{more})" if more > 0 else "")


def _compare_calendar(
    session: Session, comparison: Comparison, calendar: CalendarRow, used: frozenset[str],
    timezone: str,
) -> None:  # fmt: skip
    calendar_id = calendar.calendar_id
    stored = session.get(Calendar, calendar_id)
    if stored is None:
        comparison.changes.append(Change("added", "calendar", calendar_id))
        return
    changes = list(
        _differing(
            "calendar", calendar_id, vars(stored),
            {"name_zh": calendar.name_zh, "name_en": calendar.name_en},
        )
    )  # fmt: skip
    is_frozen_touched = False
    today = datetime.now(ZoneInfo(timezone)).date()
    for table, before, after in (
        ("calendar_period", _stored_periods(session, calendar_id), _periods(calendar)),
        ("calendar_holiday", _stored_holidays(session, calendar_id), _holidays(calendar)),
    ):
        for key in sorted(before.keys() | after.keys(), key=str):
            old, new = before.get(key), after.get(key)
            if old != new:
                place = "/".join(map(str, (calendar_id, *key)))
                changes.append(FieldChange(table, place, "", old and str(old), new and str(new)))
                is_frozen_touched |= not (isinstance(key[0], date) and key[0] > today)
    if not changes:
        return
    comparison.changes.append(Change("changed", "calendar", calendar_id, tuple(changes)))
    users = session.scalars(
        select(PricePlanVersion.plan_version_id)
        .where(PricePlanVersion.calendar_id == calendar_id)
        .where(PricePlanVersion.plan_version_id.in_(used))
        .order_by(PricePlanVersion.plan_version_id)
    ).all()
    if users and is_frozen_touched:
        comparison.findings.append(
            Finding(
                "calendar_in_use", (("calendar", calendar_id),), calendar.place,
                {"version": users[0], "changes": _listed(changes)},
            )
        )  # fmt: skip


Keyed = dict[tuple[Any, ...], tuple[Any, ...]]


def _periods(calendar: CalendarRow) -> Keyed:
    return {
        (day, period.from_second): (period.to_second, period.band)
        for period, day in period_rows(calendar)
    }


def _holidays(calendar: CalendarRow) -> Keyed:
    return {(row.holiday_date,): (row.name_zh, row.name_en) for row in calendar.holidays}


def _stored_periods(session: Session, calendar_id: str) -> Keyed:
    rows = session.scalars(select(CalendarPeriod).where(CalendarPeriod.calendar_id == calendar_id))
    return {(row.day_type, row.from_second): (row.to_second, row.band) for row in rows}


def _stored_holidays(session: Session, calendar_id: str) -> Keyed:
    rows = session.scalars(
        select(CalendarHoliday).where(CalendarHoliday.calendar_id == calendar_id)
    )
    return {(row.holiday_date,): (row.name_zh, row.name_en) for row in rows}


# --- offerings and versions ----------------------------------------------------------------------


def _offering_values(offering: OfferingRow) -> dict[str, Any]:
    return offering.model_dump(exclude={"versions"})


def _compare_offering(
    comparison: Comparison, offering: OfferingRow, stored: Offering | None
) -> None:  # fmt: skip
    key = offering.offering_id
    if stored is None:
        comparison.changes.append(Change("added", "offering", key))
        return
    fields = tuple(_differing("offering", key, vars(stored), _offering_values(offering)))
    if not fields:
        return
    withdrawn = stored.status == "active" and offering.status == "withdrawn"
    comparison.changes.append(
        Change("withdrawn" if withdrawn else "changed", "offering", key, fields)
    )
    for change in fields:
        if change.field in ("offering_type", "sp_id", "content_id"):
            comparison.findings.append(
                Finding("offering_kept", (("offering", key),), offering.place,
                        {"field": change.field, "stored": change.stored or "–"})
            )  # fmt: skip


def _stored_codes(
    offerings: Sequence[OfferingRow], stored: Iterable[Offering]
) -> Iterator[Finding]:
    """Content that is there under another id."""
    known: dict[tuple[str | None, str | None], str] = {
        (row.sp_id, row.content_id): row.offering_id for row in stored if row.sp_id
    }
    for row in offerings:
        other = known.get((row.sp_id, row.content_id), row.offering_id)
        if other != row.offering_id:
            yield Finding("content_twice", (("offering", row.offering_id),), row.place,
                          {"first": other})  # fmt: skip


def _compare_versions(
    comparison: Comparison, offering: OfferingRow, stored: Iterable[PricePlanVersion],
    contents: dict[str, VersionContent], used: frozenset[str],
) -> None:  # fmt: skip
    known = {version.plan_version_id: version for version in stored}
    proposed = {
        f"{offering.offering_id}@{row.version_number}": row.place for row in offering.versions
    }
    numbers = [row.version_number for row in known.values()]
    numbers += [row.version_number for row in offering.versions]
    for version_id, place in proposed.items():
        content = comparison.checked.contents.get(version_id)
        if content is None:
            continue  # it has findings of its own
        if version_id not in known:
            comparison.added.append(content)
            comparison.changes.append(Change("added", "version", version_id))
        else:
            _compare_version(
                comparison, contents[version_id], content, place, version_id in used,
                following=free_number(numbers),
            )  # fmt: skip
        comparison.findings += _clashes(
            content, place, [row for key, row in known.items() if key not in proposed]
        )


def _compare_version(
    comparison: Comparison, stored: VersionContent, content: VersionContent, place: Place,
    is_used: bool, *, following: int,
) -> None:  # fmt: skip
    changes = tuple(differences(stored, content))
    if not changes and _steps(stored) == _steps(content):
        return
    version_id = content.version_id
    if changes:
        comparison.changes.append(Change("changed", "version", version_id, changes))
    if not is_used:
        comparison.replaced.append(stored)
        comparison.added.append(content)
        return
    now = datetime.now(UTC)
    kept = [
        change for change in changes
        if change.field != "valid_to" or any(
            end is not None and end <= now for end in (change.stored, change.proposed)
        )
    ]  # fmt: skip
    if kept:
        comparison.findings.append(
            Finding(
                "version_in_use", (("version", version_id),), place,
                {"changes": _listed(kept), "next": following},
            )
        )  # fmt: skip
    elif changes:
        comparison.ended[version_id] = content.version["valid_to"]


def _steps(content: VersionContent) -> Any:
    return content.version["cost_denominator"], content.by_key(only=PriceStep)


def _clashes(
    content: VersionContent, place: Place, others: Iterable[PricePlanVersion]
) -> Iterator[Finding]:
    """Overlaps with versions in the database that the files do not mention."""
    begins, ends = content.version["valid_from"], content.version["valid_to"]
    for other in others:
        if (other.valid_to is None or begins < other.valid_to) and (
            ends is None or other.valid_from < ends
        ):
            yield Finding(
                "overlap_stored", (("version", content.version_id),), place,
                {"other": other.plan_version_id, "start": begins.isoformat(),
                 "end": shown(other.valid_to)},
            )  # fmt: skip


# --- applying ------------------------------------------------------------------------------------


def apply(session: Session, comparison: Comparison) -> dict[str, int]:
    """Bring the database to what the catalogue says; returns the rows inserted by table."""
    counts: dict[str, int] = {}
    checked = comparison.checked
    changed = {(change.entity, change.key) for change in comparison.changes}
    for facts in checked.known.classes.values():
        if ("charge_class", facts.charge_class) in changed:
            _count(counts, ChargeClass, _put(session, ChargeClass, vars(facts)))
    for calendar in checked.catalogue.calendars:
        if ("calendar", calendar.calendar_id) in changed:
            _put_calendar(session, calendar, counts)
    for offering in checked.catalogue.offerings:
        if ("offering", offering.offering_id) in changed:
            _count(counts, Offering, _put(session, Offering, _offering_values(offering)))
    put_versions(
        session, replaced=comparison.replaced, ended=comparison.ended, added=comparison.added,
        counts=counts,
    )  # fmt: skip
    return counts


def put_versions(
    session: Session, *, replaced: Iterable[VersionContent] = (),
    ended: Mapping[str, datetime | None], added: Iterable[VersionContent] = (),
    counts: dict[str, int] | None = None,
) -> None:  # fmt: skip
    """Take versions out that nothing uses, move the ends of others, and insert new ones.

    The database refuses to take out a version in use.
    """
    for content in replaced:
        delete_content(session, content)
    # Ends that come earlier make room for ends that come later, and for what is new.
    endless = datetime.max.replace(tzinfo=UTC)
    for version_id, end in sorted(ended.items(), key=lambda one: one[1] or endless):
        session.execute(
            PricePlanVersion.__table__.update()  # type: ignore[attr-defined]
            .where(PricePlanVersion.plan_version_id == version_id)
            .values(valid_to=end)
        )
    for content in added:
        _insert_content(session, content, {} if counts is None else counts)


def _insert_content(session: Session, content: VersionContent, counts: dict[str, int]) -> None:
    """Insert a version with all its rows."""
    for table, rows in content.rows.items():
        if rows:
            session.execute(insert(table), rows)
        _count(counts, table, len(rows))


def _count(counts: dict[str, int], table: type[Any], rows: int) -> None:
    name = str(table.__tablename__)
    counts[name] = counts.get(name, 0) + rows


def _put(session: Session, table: type[Any], values: dict[str, Any]) -> int:
    """Insert a row, or bring it up to date; returns rows inserted."""
    key = next(iter(table.__table__.primary_key)).name
    stored = session.get(table, values[key])
    if stored is None:
        session.execute(insert(table), [values])
        return 1
    for name, value in values.items():
        setattr(stored, name, value)
    session.flush()
    return 0


def _put_calendar(session: Session, calendar: CalendarRow, counts: dict[str, int]) -> None:
    calendar_id = calendar.calendar_id
    names = {"name_zh": calendar.name_zh, "name_en": calendar.name_en}
    _count(counts, Calendar, _put(session, Calendar, {"calendar_id": calendar_id} | names))
    for table, before, after, keys, fields in (
        (CalendarPeriod, _stored_periods(session, calendar_id), _periods(calendar),
         ("day_type", "from_second"), ("to_second", "band")),
        (CalendarHoliday, _stored_holidays(session, calendar_id), _holidays(calendar),
         ("holiday_date",), ("name_zh", "name_en")),
    ):  # fmt: skip
        columns = table.__table__.columns
        for key in [key for key in before if before[key] != after.get(key)]:
            condition = [columns[name] == value for name, value in zip(keys, key, strict=True)]
            session.execute(
                table.__table__.delete().where(columns["calendar_id"] == calendar_id, *condition)  # type: ignore[attr-defined]
            )
        rows = [
            {"calendar_id": calendar_id}
            | dict(zip((*keys, *fields), (*key, *after[key]), strict=True))
            for key in after if before.get(key) != after[key]
        ]  # fmt: skip
        if rows:
            session.execute(insert(table), rows)
        _count(counts, table, len(rows))
