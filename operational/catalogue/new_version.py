"""Adds the next version of an offering out of a form: the newest with some amounts changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal, cast
from zoneinfo import ZoneInfo

from pydantic import ValidationError
from sqlalchemy import text
from sqlalchemy.orm import Session

from operational import audit
from operational.catalogue.authoring import (
    MEGABYTE,
    AllowanceRow,
    OfferingRow,
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
    insert_content,
    stored_bands,
    stored_classes,
)  # fmt: skip
from operational.catalogue.models import Offering, PricePlanVersion
from operational.catalogue.service import charge_classes, versions_of
from operational.database import transaction
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
    """The form for the next version: the former one, and the fields that may be changed."""

    offering: Offering
    former: PricePlanVersion
    next_number: int
    earliest: date
    inputs: list[Input]


class VersionRefusedError(InvalidRequestError):
    """A new version breaks the rules of the catalogue; `findings` says which and where."""

    def __init__(self, findings: list[Finding]) -> None:
        self.findings = findings
        super().__init__("version_refused", count=len(findings))


def version_form(
    session: Session, settings: Settings, *, principal: Principal, offering_id: str
) -> VersionForm:
    """What the form for an offering's next version begins with: its newest version."""
    _require(principal)
    offering = session.get(Offering, offering_id)
    versions = versions_of(session, offering_id).get(offering_id, [])
    if offering is None or not versions:
        raise NotFoundError("no_offering", offering_id=offering_id)
    former = versions[0]
    content = stored_contents(session, [former.plan_version_id])[former.plan_version_id]
    row = read_version(content, settings.timezone)
    zone = ZoneInfo(settings.timezone)
    today = datetime.now(zone).date()
    first = former.valid_from.astimezone(zone).date()
    earliest = date.fromordinal(max(today, first).toordinal() + 1)
    order = [one.charge_class for one in charge_classes(session)]
    return VersionForm(offering, former, former.version_number + 1, earliest, _inputs(row, order))


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
    if not reason.strip():
        raise InvalidRequestError("reason_missing")
    with transaction(settings) as session:
        session.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": LOAD_LOCK})
        form = version_form(session, settings, principal=principal, offering_id=offering_id)
        former = form.former
        if former.plan_version_id != former_id:
            raise ConflictError("version_added", former=former_id, newest=former.plan_version_id)
        if valid_from < form.earliest:
            raise InvalidRequestError("version_too_early", earliest=form.earliest)
        stored = stored_contents(session, [former_id])[former_id]
        content = _next_content(
            session, form, stored, valid_from=valid_from, values=values,
            timezone=settings.timezone,
        )  # fmt: skip
        changes = [
            change for change in _comparable(stored, content, former_id)
            if change.field not in ("valid_from", "valid_to", "version_number")
        ]  # fmt: skip
        if not changes:
            raise InvalidRequestError("version_unchanged")
        begins = content.version["valid_from"]
        if former.valid_to is None or former.valid_to > begins:
            former.valid_to = begins
            session.flush()
        insert_content(session, content, {})
        audit.record(
            session, username=principal.username, action="add_plan_version",
            entity_type="price_plan_version", entity_id=content.version_id,
            province_code=HEADQUARTERS,
            detail={
                "former": former_id, "valid_from": valid_from.isoformat(),
                "changes": [str(change) for change in changes], "reason": reason.strip(),
            },
        )  # fmt: skip
        session.flush()
        added = session.get(PricePlanVersion, content.version_id)
        assert added is not None  # noqa: S101 - inserted just above
        return added


def _next_content(
    session: Session, form: VersionForm, stored: VersionContent, *, valid_from: date,
    values: Mapping[str, str], timezone: str,
) -> VersionContent:  # fmt: skip
    """The rows of the next version, checked by the same rules as a file."""
    version_id = f"{form.offering.offering_id}@{form.next_number}"
    document = version_document(stored, timezone)
    document |= {
        "version_number": form.next_number, "valid_from": valid_from, "valid_to": None,
    }  # fmt: skip
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
        offering_type=cast('Literal["plan", "addon", "content"]', form.offering.offering_type),
        sp_id=form.offering.sp_id, content_id=form.offering.content_id,
        name_zh=form.offering.name_zh, name_en=form.offering.name_en, versions=(version,),
    )  # fmt: skip
    checked = check_catalogue(
        Catalogue(offerings=[offering]), Known(stored_classes(session), stored_bands(session)),
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
