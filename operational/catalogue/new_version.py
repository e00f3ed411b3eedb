"""Adds the next version of an offering out of a form: the newest with some amounts changed.

A version that has not begun and that nothing uses can be replaced so, and withdrawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, cast
from zoneinfo import ZoneInfo

from pydantic import ValidationError
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from operational import audit
from operational.catalogue.authoring import (
    MEGABYTE,
    AllowanceRow,
    OfferingRow,
    OfferingType,
    UsagePriceRow,
    VersionRow,
)  # fmt: skip
from operational.catalogue.checks import Known, check_catalogue
from operational.catalogue.content import (
    FieldChange,
    VersionContent,
    differences,
    read_version,
    shown,
    stored_contents,
    version_document,
)  # fmt: skip
from operational.catalogue.files import Catalogue
from operational.catalogue.findings import NOWHERE, Finding, field_finding, own_errors
from operational.catalogue.loader import (
    LOAD_LOCK,
    put_versions,
    stored_bands,
    stored_classes,
    stored_offerings,
)  # fmt: skip
from operational.catalogue.models import Offering, PricePlanVersion
from operational.catalogue.service import charge_classes, versions_of
from operational.database import transaction
from operational.identity.models import AuditLog
from operational.permissions import HEADQUARTERS, Principal
from operational.problems import (
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
)  # fmt: skip
from tollhouse.settings import Settings


@dataclass(frozen=True)
class Input:
    """One field of the form: its name there, what it is about, and its value as typed."""

    name: str
    kind: str
    row: str
    band: str | None
    number: int
    value: str


@dataclass(frozen=True)
class VersionForm:
    """The form for a version: the one it is copied from, and the fields that may be changed.

    A version is copied from itself where it is to be replaced: then its number stays.
    """

    offering: Offering
    former: PricePlanVersion
    next_number: int
    earliest: date
    inputs: list[Input]

    @property
    def is_replacing(self) -> bool:
        """Whether the version takes the place of the one it is copied from."""
        return self.next_number == self.former.version_number


class VersionRefusedError(InvalidRequestError):
    """A new version breaks the rules of the catalogue; `findings` says which and where."""

    def __init__(self, findings: list[Finding]) -> None:
        self.findings = findings
        super().__init__("version_refused", count=len(findings))


def version_form(
    session: Session, settings: Settings, *, principal: Principal, offering_id: str,
    is_replacing: bool = False,
) -> VersionForm:  # fmt: skip
    """What the form for an offering's next version begins with, or for replacing its newest.

    Raises:
        ForbiddenError: the role does not change the catalogue, or the user is not at headquarters.
        NotFoundError: there is no such offering.
        ConflictError: the newest version is to be replaced, but has begun or is in use.
    """
    _require(principal)
    offering = session.get(Offering, offering_id)
    versions = versions_of(session, offering_id).get(offering_id, [])
    if offering is None or not versions:
        raise NotFoundError("no_offering", offering_id=offering_id)
    newest = versions[0]
    before: PricePlanVersion | None = newest
    if is_replacing:
        _require_unbegun(session, newest)
        before = _version_before(versions, newest)
    content = stored_contents(session, [newest.plan_version_id])[newest.plan_version_id]
    row = read_version(content, settings.timezone)
    zone = ZoneInfo(settings.timezone)
    days = [datetime.now(zone).date()]
    days += [before.valid_from.astimezone(zone).date()] if before else []
    order = [one.charge_class for one in charge_classes(session)]
    return VersionForm(
        offering, newest, newest.version_number + (0 if is_replacing else 1),
        date.fromordinal(max(days).toordinal() + 1), _inputs(row, order),
    )  # fmt: skip


def unbegun_version(
    session: Session, versions: Sequence[PricePlanVersion]
) -> PricePlanVersion | None:
    """The newest of the versions, if it has not begun and nothing uses it."""
    return versions[0] if versions and _is_unbegun(session, versions[0]) else None


def _is_unbegun(session: Session, version: PricePlanVersion) -> bool:
    is_used = session.scalar(select(func.catalogue.is_used(version.plan_version_id)))
    return version.valid_from > datetime.now(UTC) and not is_used


def _require_unbegun(session: Session, version: PricePlanVersion) -> None:
    if not _is_unbegun(session, version):
        raise ConflictError("version_begun", version=version.plan_version_id)


def _version_before(
    versions: Sequence[PricePlanVersion], version: PricePlanVersion
) -> PricePlanVersion | None:
    earlier = [row for row in versions if row.valid_from < version.valid_from]
    return max(earlier, key=lambda row: row.valid_from, default=None)


def _end_without(
    session: Session, before: PricePlanVersion, version: PricePlanVersion
) -> datetime | None:
    """When the version before would end if this one were not there.

    The log of changes has what a version added here cut off. Of a version out of a file nobody
    knows it: the version before takes its time over.
    """
    if before.valid_to != version.valid_from:
        return before.valid_to
    noted = session.scalar(
        select(AuditLog.detail)
        .where(AuditLog.entity_type == _ENTITY_TYPE, AuditLog.entity_id == version.plan_version_id)
        .order_by(AuditLog.id.desc())
        .limit(1)
    )
    if noted is None or _CUT_OFF not in noted:
        return version.valid_to
    return noted[_CUT_OFF] and datetime.fromisoformat(noted[_CUT_OFF])


_ENTITY_TYPE = "price_plan_version"
_CUT_OFF = "former_valid_to"  # in the log: when the former version would have ended


def _require(principal: Principal) -> None:
    principal.require("catalogue.write")
    if not principal.sees_all_provinces:
        raise ForbiddenError("catalogue_headquarters")


def _inputs(row: VersionRow, order: Sequence[str]) -> list[Input]:
    """The amounts and sizes of a version, each under a name of its own, prices in class order."""
    found = [Input("monthly_fee", "monthly_fee", "", None, 0, shown(row.monthly_fee_amount))]
    ranked = sorted(
        enumerate(row.usage_prices), key=lambda one: (order.index(one[1].charge_class), one[0])
    )
    for number, price in ranked:
        for name in ("connection_fee_amount", "minimum_amount", "maximum_amount"):
            value = getattr(price, name)
            if value:
                found.append(_price_input(price, f"price-{number}-{name}", name, 0, value))
        for place, tier in enumerate(price.tiers):
            label = place + 1 if len(price.tiers) > 1 else 0
            name = f"tier-{number}-{place}"
            found.append(
                _price_input(price, f"{name}-price_amount", "price_amount", label,
                             tier.price_amount)
            )  # fmt: skip
            if tier.flat_amount:
                found.append(
                    _price_input(price, f"{name}-flat_amount", "flat_amount", label,
                                 tier.flat_amount)
                )  # fmt: skip
    found += [
        Input(f"allowance-{number}", "size_quantity", allowance.allowance, None, 0,
              written_size(allowance))
        for number, allowance in enumerate(row.allowances)
    ]  # fmt: skip
    found += [
        Input(f"discount-{number}", "discount", discount.discount, None, 0, shown(discount.value))
        for number, discount in enumerate(row.discounts)
    ]
    found += [
        Input(f"one_off-{number}", "one_off", price.occasion, None, 0, shown(price.amount))
        for number, price in enumerate(row.one_off_prices)
    ]
    if row.suspension_fee_amount is not None:
        found.append(
            Input("suspension_fee", "suspension_fee", "", None, 0, shown(row.suspension_fee_amount))
        )
    if row.minimum_consumption_amount is not None:
        found.append(
            Input("minimum_consumption", "minimum_consumption", "", None, 0,
                  shown(row.minimum_consumption_amount))
        )  # fmt: skip
    return found


def _price_input(
    price: UsagePriceRow, name: str, kind: str, number: int, value: Decimal
) -> Input:  # fmt: skip
    return Input(name, kind, price.charge_class, price.band, number, shown(value))


def written_size(allowance: AllowanceRow) -> str:
    """The size of an allowance as it would be written."""
    size = allowance.size_quantity.value
    if allowance.unit == "second" and size % 60 == 0:
        return f"{shown(size / 60)} min"
    if allowance.unit == "octet" and size % MEGABYTE == 0:
        is_gigabytes = size % (MEGABYTE * 1024) == 0
        return f"{shown(size / MEGABYTE / (1024 if is_gigabytes else 1))} " + (
            "GB" if is_gigabytes else "MB"
        )
    return shown(size)


def add_version(
    settings: Settings, *, principal: Principal, offering_id: str, former_id: str,
    valid_from: date, values: Mapping[str, str], reason: str,
) -> PricePlanVersion:  # fmt: skip
    """Add the next version of an offering: a copy of the newest with some amounts changed.

    The former version ends where the new one begins; what is left empty stays as it was.

    Raises:
        ForbiddenError: the role does not change the catalogue, or the user is not at headquarters.
        ConflictError: somebody else added a version meanwhile.
        InvalidRequestError: no reason is given, nothing is changed, or it begins too early.
        VersionRefusedError: the version breaks the rules of the catalogue.
    """
    _require(principal)
    _require_reason(reason)
    with transaction(settings) as session:
        _lock(session)
        form = version_form(session, settings, principal=principal, offering_id=offering_id)
        former = form.former
        _require_newest(former, former_id)
        return _put_version(
            session, settings, form, principal=principal, before=former,
            before_end=former.valid_to, valid_from=valid_from, values=values, reason=reason,
        )  # fmt: skip


def replace_version(
    settings: Settings, *, principal: Principal, offering_id: str, version_id: str, seen: str,
    valid_from: date, values: Mapping[str, str], reason: str,
) -> PricePlanVersion:  # fmt: skip
    """Put a changed copy in the place of the newest version, which has not begun.

    `seen` says since when the version is as its reader saw it (`seen_as`). The version before ends
    where the copy begins.

    Raises:
        ConflictError: the version has begun, is in use, or is not what was seen.
        InvalidRequestError, ForbiddenError, VersionRefusedError: as for a new version.
    """
    _require(principal)
    _require_reason(reason)
    with transaction(settings) as session:
        _lock(session)
        form = version_form(
            session, settings, principal=principal, offering_id=offering_id, is_replacing=True
        )
        version = form.former
        _require_newest(version, version_id)
        _require_seen(version, seen)
        before = _version_before(versions_of(session, offering_id)[offering_id], version)
        return _put_version(
            session, settings, form, principal=principal, before=before,
            before_end=_end_without(session, before, version) if before else None,
            valid_from=valid_from, values=values, reason=reason,
        )  # fmt: skip


def withdraw_version(
    settings: Settings, *, principal: Principal, offering_id: str, version_id: str, seen: str,
    reason: str,
) -> None:  # fmt: skip
    """Take out the newest version, which has not begun; the one before gets its end back.

    Raises:
        ForbiddenError: the role does not change the catalogue, or the user is not at headquarters.
        NotFoundError: there is no such offering.
        ConflictError: the version has begun, is in use, is the only one, or is not what was seen.
        InvalidRequestError: no reason is given.
    """
    _require(principal)
    _require_reason(reason)
    with transaction(settings) as session:
        _lock(session)
        versions = versions_of(session, offering_id).get(offering_id, [])
        if not versions:
            raise NotFoundError("no_offering", offering_id=offering_id)
        version = versions[0]
        _require_newest(version, version_id)
        _require_unbegun(session, version)
        _require_seen(version, seen)
        if len(versions) == 1:
            raise ConflictError("version_alone", version=version_id)
        before = _version_before(versions, version)
        ended = {} if before is None else {
            before.plan_version_id: _end_without(session, before, version)
        }  # fmt: skip
        stored = stored_contents(session, [version_id])[version_id]
        put_versions(session, replaced=[stored], ended=ended)
        audit.record(
            session, username=principal.username, action="withdraw_plan_version",
            entity_type=_ENTITY_TYPE, entity_id=version_id, province_code=HEADQUARTERS,
            detail={
                "valid_from": version.valid_from.isoformat(), "reason": reason.strip(),
                "ends": {key: end and end.isoformat() for key, end in ended.items()},
            },
        )  # fmt: skip


def seen_as(version: PricePlanVersion) -> str:
    """What tells a version from the one that somebody put in its place."""
    return version.created_at.isoformat()


def _lock(session: Session) -> None:
    session.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": LOAD_LOCK})


def _require_reason(reason: str) -> None:
    if not reason.strip():
        raise InvalidRequestError("reason_missing")


def _require_newest(newest: PricePlanVersion, version_id: str) -> None:
    if newest.plan_version_id != version_id:
        raise ConflictError("version_added", former=version_id, newest=newest.plan_version_id)


def _require_seen(version: PricePlanVersion, seen: str) -> None:
    if seen_as(version) != seen:
        raise ConflictError("version_changed", version=version.plan_version_id)


def _put_version(
    session: Session, settings: Settings, form: VersionForm, *, principal: Principal,
    before: PricePlanVersion | None, before_end: datetime | None, valid_from: date,
    values: Mapping[str, str], reason: str,
) -> PricePlanVersion:  # fmt: skip
    """Insert the version of the form, and let the one before, that would end so, end there."""
    if valid_from < form.earliest:
        raise InvalidRequestError("version_too_early", earliest=form.earliest)
    former_id = form.former.plan_version_id
    stored = stored_contents(session, [former_id])[former_id]
    content = _next_content(
        session, form, stored, valid_from=valid_from, values=values, timezone=settings.timezone
    )
    own = () if form.is_replacing else ("valid_from", "valid_to", "version_number")
    changes = [
        change for change in _comparable(stored, content, former_id) if change.field not in own
    ]
    if not changes:
        raise InvalidRequestError("version_unchanged")
    begins = content.version["valid_from"]
    end = begins if before_end is None or before_end > begins else before_end
    put_versions(
        session, replaced=[stored] if form.is_replacing else [], added=[content],
        ended={before.plan_version_id: end} if before and before.valid_to != end else {},
    )  # fmt: skip
    audit.record(
        session, username=principal.username, entity_type=_ENTITY_TYPE,
        action="replace_plan_version" if form.is_replacing else "add_plan_version",
        entity_id=content.version_id, province_code=HEADQUARTERS,
        detail={
            "former": before and before.plan_version_id, "valid_from": valid_from.isoformat(),
            "changes": [str(change) for change in changes], "reason": reason.strip(),
            _CUT_OFF: before_end and before_end.isoformat(),
        },
    )  # fmt: skip
    session.flush()
    return session.scalars(
        select(PricePlanVersion)
        .where(PricePlanVersion.plan_version_id == content.version_id)
        .execution_options(populate_existing=True)
    ).one()


def _next_content(
    session: Session, form: VersionForm, stored: VersionContent, *, valid_from: date,
    values: Mapping[str, str], timezone: str,
) -> VersionContent:  # fmt: skip
    """The rows of the form's version, checked by the same rules as a file."""
    version_id = f"{form.offering.offering_id}@{form.next_number}"
    document = version_document(stored, timezone)
    document |= {"version_number": form.next_number, "valid_from": valid_from}
    if not form.is_replacing:
        document["valid_to"] = None
    for name, value in values.items():
        if value.strip():
            _put_value(document, name, value.strip())
    try:
        version = VersionRow.model_validate(document)
    except ValidationError as error:
        raise VersionRefusedError(
            [
                field_finding(
                    item, (("version", version_id), *_rows_of(document, item["loc"])), NOWHERE
                )
                for item in own_errors(error)
            ]
        ) from error
    offering = OfferingRow(
        offering_id=form.offering.offering_id,
        offering_type=cast(OfferingType, form.offering.offering_type),
        sp_id=form.offering.sp_id, content_id=form.offering.content_id,
        name_zh=form.offering.name_zh, name_en=form.offering.name_en, versions=(version,),
    )  # fmt: skip
    checked = check_catalogue(
        Catalogue(offerings=[offering]),
        Known(stored_classes(session), stored_bands(session), stored_offerings(session, timezone)),
        timezone,
    )  # fmt: skip
    if checked.findings:
        raise VersionRefusedError(checked.findings)
    return checked.contents[version_id]


def _put_value(document: dict[str, Any], name: str, value: str) -> None:
    """Put one typed value where its input stands for; unknown names are refused."""
    kind, *rest = name.split("-")
    try:
        numbers = [int(one) for one in rest if one.isdigit()]
        if kind == "monthly_fee":
            document["monthly_fee_amount"] = value
        elif kind == "suspension_fee":
            document["suspension_fee_amount"] = value
        elif kind == "minimum_consumption":
            document["minimum_consumption_amount"] = value
        elif kind == "price" and rest[1] in _PRICE_FIELDS:
            document["usage_prices"][numbers[0]][rest[1]] = value
        elif kind == "tier" and rest[2] in _TIER_FIELDS:
            document["usage_prices"][numbers[0]]["tiers"][numbers[1]][rest[2]] = value
        elif kind == "allowance":
            document["allowances"][numbers[0]]["size_quantity"] = value
        elif kind == "discount":
            document["discounts"][numbers[0]]["value"] = value
        elif kind == "one_off":
            document["one_off_prices"][numbers[0]]["amount"] = value
        else:
            raise KeyError(name)
    except (IndexError, KeyError) as error:
        raise InvalidRequestError("bad_parameters", names=[name]) from error


_PRICE_FIELDS = ("connection_fee_amount", "minimum_amount", "maximum_amount")
_TIER_FIELDS = ("price_amount", "flat_amount")


def _rows_of(document: dict[str, Any], location: tuple[Any, ...]) -> list[tuple[str, str]]:
    """The rows on the way to a field of the form."""
    kinds = {
        "usage_prices": ("price", "charge_class"), "allowances": ("allowance", "allowance"),
        "discounts": ("discount", "discount"), "one_off_prices": ("one_off_price", "occasion"),
    }  # fmt: skip
    found: list[tuple[str, str]] = []
    listed, content = "", document
    for step in location:
        content = content[step] if isinstance(content, (dict, list, tuple)) else content
        if isinstance(step, str):
            listed = step
        elif listed == "tiers":
            found.append(("tier", str(step + 1)))
        elif listed in kinds:
            kind, key = kinds[listed]
            found.append((kind, str(content[key])))
    return found


def _comparable(
    stored: VersionContent, content: VersionContent, former_id: str
) -> list[FieldChange]:
    """What a new version changes, with its rows called as the former's."""

    def renamed(value: Any) -> Any:
        prefix = content.version_id
        if isinstance(value, str) and (value == prefix or value.startswith(f"{prefix}/")):
            return former_id + value.removeprefix(prefix)
        return value

    as_former = VersionContent(
        {
            table: [{name: renamed(value) for name, value in row.items()} for row in rows]
            for table, rows in content.rows.items()
        }
    )
    return list(differences(stored, as_former))
