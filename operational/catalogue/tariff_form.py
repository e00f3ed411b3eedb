"""The form for a tariff: a new offering, the next version of one, or one that has not begun.

What was typed is checked by the rules that files are checked by, set beside what is loaded, and put
in as the loader puts it in. A version that has not begun and that nothing uses can be replaced so,
and withdrawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any, Literal, cast
from zoneinfo import ZoneInfo

from pydantic import ValidationError
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from operational import audit
from operational.catalogue.authoring import OfferingRow, free_number
from operational.catalogue.bundles import OfferingFacts, bundle_findings
from operational.catalogue.checks import Known, check_catalogue
from operational.catalogue.content import (
    FieldChange,
    VersionContent,
    differences,
    stored_contents,
)  # fmt: skip
from operational.catalogue.drafts import (
    OFFERING_FIELDS,
    VERSION_FIELDS,
    Document,
    Draft,
    FormField,
    draft_of,
    written_document,
)  # fmt: skip
from operational.catalogue.exporting import (
    authored_offering,
    authored_version,
    offering_facts,
)  # fmt: skip
from operational.catalogue.files import Catalogue, place_rows, row_path
from operational.catalogue.findings import Finding, Place, field_finding, own_errors
from operational.catalogue.loader import (
    LOAD_LOCK,
    Comparison,
    apply,
    compare_rows,
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

Purpose = Literal["new-offering", "new-version", "replace-version"]


@dataclass(frozen=True)
class TariffForm:
    """What a form is for, and what stands in it at first.

    A version is a copy of `former`; where it is to be replaced, of itself, and its number stays.
    The version `before` ends where it begins; without it, `before` would end at `before_end`.
    """

    purpose: Purpose
    draft: Draft
    offering: Offering | None = None
    former: PricePlanVersion | None = None
    number: int = 1
    earliest: date | None = None
    before: PricePlanVersion | None = None
    before_end: datetime | None = None

    @property
    def is_replacing(self) -> bool:
        """Whether the version takes the place of the one it is copied from."""
        return self.purpose == "replace-version"


@dataclass(frozen=True)
class Proposal:
    """A version that is sound: what is stored in its place or before it, and what would change."""

    offering: OfferingRow
    content: VersionContent
    stored: VersionContent | None = None
    changes: list[FieldChange] = field(default_factory=list)
    ended: dict[str, datetime | None] = field(default_factory=dict)
    comparison: Comparison | None = None


class TariffRefusedError(InvalidRequestError):
    """What was typed breaks the rules of the catalogue; `findings` says which and where."""

    def __init__(self, findings: list[Finding]) -> None:
        self.findings = findings
        super().__init__("tariff_refused", count=len(findings))


def fields_of(purpose: Purpose) -> tuple[FormField, ...]:
    """The fields of a form; a stored offering is not asked for."""
    return (*OFFERING_FIELDS, *VERSION_FIELDS) if purpose == "new-offering" else VERSION_FIELDS


def open_form(
    session: Session, settings: Settings, *, principal: Principal, purpose: Purpose,
    offering_id: str = "",
) -> TariffForm:  # fmt: skip
    """What the form begins with; for a new offering, a copy of another one's newest version.

    Raises:
        ForbiddenError: the role does not change the catalogue, or the user is not at headquarters.
        NotFoundError: there is no such offering.
        ConflictError: the newest version is to be replaced, but has begun or is in use.
    """
    _require(principal)
    if purpose == "new-offering" and not offering_id:
        return TariffForm(purpose, draft_of(fields_of(purpose), {}))
    offering = session.get(Offering, offering_id)
    versions = versions_of(session, offering_id).get(offering_id, [])
    if offering is None or not versions:
        raise NotFoundError("no_offering", offering_id=offering_id)
    newest = versions[0]
    document = _stored_document(session, settings, offering, newest)
    if purpose == "new-offering":
        like = {"offering_type": offering.offering_type} | document | {"valid_from": None}
        return TariffForm(purpose, draft_of(fields_of(purpose), like))
    before: PricePlanVersion | None = newest
    before_end = newest.valid_to
    if purpose == "replace-version":
        _require_unbegun(session, newest)
        before = _version_before(versions, newest)
        before_end = _end_without(session, before, newest) if before else None
    else:
        document |= {"valid_from": None, "valid_to": None}
    zone = ZoneInfo(settings.timezone)
    days = [datetime.now(zone).date()]
    days += [before.valid_from.astimezone(zone).date()] if before else []
    return TariffForm(
        purpose, draft_of(fields_of(purpose), document), offering, newest,
        newest.version_number if purpose == "replace-version"
        else free_number([row.version_number for row in versions]),
        date.fromordinal(max(days).toordinal() + 1), before, before_end,
    )  # fmt: skip


def _stored_document(
    session: Session, settings: Settings, offering: Offering, version: PricePlanVersion
) -> Document:
    classes = stored_classes(session)
    version_id = version.plan_version_id
    row = authored_version(
        stored_contents(session, [version_id])[version_id], offering.offering_type, classes,
        [one.charge_class for one in charge_classes(session)], settings.timezone,
    )  # fmt: skip
    return written_document(row, {name: facts.unit for name, facts in classes.items()})


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


def propose(session: Session, settings: Settings, form: TariffForm, draft: Draft) -> Proposal:
    """What the draft comes to beside what is loaded. Changes nothing.

    Raises:
        TariffRefusedError: it breaks the rules of the catalogue.
        InvalidRequestError: a version changes nothing, or begins too early.
    """
    offering = _authored(form, draft)
    version_id = f"{offering.offering_id}@{form.number}"
    if form.offering is None:
        if session.get(Offering, offering.offering_id) is not None:
            raise TariffRefusedError([Finding("offering_there", place=offering.place)])
        comparison = compare_rows(session, settings, Catalogue(offerings=[offering]))
        if comparison.findings:
            raise TariffRefusedError(comparison.findings)
        content = comparison.checked.contents[version_id]
        return Proposal(offering, content, comparison=comparison)
    checked = check_catalogue(
        Catalogue(offerings=[offering]),
        Known(
            stored_classes(session), stored_bands(session),
            _offerings_then(session, settings, form, offering.versions[0].valid_from),
        ),
        settings.timezone,
    )  # fmt: skip
    if checked.findings:
        raise TariffRefusedError(checked.findings)
    if form.earliest is not None and offering.versions[0].valid_from < form.earliest:
        raise InvalidRequestError("version_too_early", earliest=form.earliest)
    return _beside_former(session, form, offering, checked.contents[version_id])


def _offerings_then(
    session: Session, settings: Settings, form: TariffForm, begins: date
) -> dict[str, OfferingFacts]:
    """What bundles have to know of the offerings once the version before ends as it would."""
    known = stored_offerings(session, settings.timezone)
    if form.before is not None:
        end = form.before_end and form.before_end.astimezone(ZoneInfo(settings.timezone)).date()
        _end(known, form.before, begins if end is None or end > begins else end)
    return known


def _end(known: dict[str, OfferingFacts], version: PricePlanVersion, end: date | None) -> None:
    versions = known[version.offering_id].versions
    number = version.version_number
    versions[number] = replace(versions[number], valid_to=end)


def _beside_former(
    session: Session, form: TariffForm, offering: OfferingRow, content: VersionContent
) -> Proposal:
    """The proposal for a version: what it changes, and where the one before ends."""
    former_id = cast("PricePlanVersion", form.former).plan_version_id
    stored = stored_contents(session, [former_id])[former_id]
    own = () if form.is_replacing else ("valid_from", "valid_to", "version_number")
    changes = [
        change for change in _comparable(stored, content, former_id) if change.field not in own
    ]
    if not changes:
        raise InvalidRequestError("version_unchanged")
    ended: dict[str, datetime | None] = {}
    if form.before is not None:
        begins, end = content.version["valid_from"], form.before_end
        end = begins if end is None or end > begins else end
        if form.before.valid_to != end:
            ended[form.before.plan_version_id] = end
    return Proposal(offering, content, stored, changes, ended)


def _authored(form: TariffForm, draft: Draft) -> OfferingRow:
    """The draft as a row of the authoring format, each row knowing where it stands in the form."""
    version = draft.document(*(one.name for one in VERSION_FIELDS))
    document = (
        offering_facts(form.offering) if form.offering is not None
        else draft.document(*(one.name for one in OFFERING_FIELDS))
    ) | {"versions": [version | {"version_number": form.number}]}  # fmt: skip
    try:
        row = OfferingRow.model_validate(document)
    except ValidationError as error:
        content = {"offerings": [document]}
        raise TariffRefusedError(
            [
                field_finding(
                    item, row_path(content, ("offerings", 0, *item["loc"])),
                    Place(at=_way_in_form(item["loc"], is_field=True)),
                )
                for item in own_errors(error)
            ]
        ) from error  # fmt: skip
    place_rows(row, (), lambda way: Place(at=_way_in_form(way)))
    return row


# Rows that are there once; the form calls them as the first of many.
_SINGLE = tuple(one.name for one in (*OFFERING_FIELDS, *VERSION_FIELDS) if one.most == 1)


def _way_in_form(way: Sequence[Any], *, is_field: bool = False) -> str:
    """Where the form has the row that a way in the authoring format leads to, or leads into."""
    steps: list[Any] = list(way[2:] if way[:1] == ("versions",) else way)
    if is_field and steps and isinstance(steps[-1], str):
        steps.pop()
    if steps and steps[0] in _SINGLE:
        steps.insert(1, 0)
    return ".".join(map(str, steps))


# The field at which the form shows a finding that does not name one itself.
_FIELDS_OF_FINDINGS = {
    "offering_there": "offering_id", "content_codes": "sp_id", "content_twice": "sp_id",
    "validity_order": "valid_to", "unknown_calendar": "calendar",
    "price_twice": "charge_class", "unknown_class": "charge_class", "other_unit": "charge_class",
    "covered_twice": "charge_class", "unknown_band": "band", "unknown_cover_band": "band",
    "band_without_calendar": "band", "band_and_all_day": "usage_prices",
    "missing_band": "usage_prices", "missing_price": "usage_prices",
    "missing_content_price": "usage_prices", "inexact_prices": "usage_prices",
    "not_required": "not_offered", "not_offered_priced": "not_offered",
    "discount_of_others": "bill_item_codes", "unknown_bill_item": "bill_item_code",
    "no_tier": "tiers", "package_tiers": "tiers",
    "tier_gap": "from_quantity", "tier_overlap": "from_quantity", "tier_order": "to_quantity",
    "after_the_end": "from_quantity", "no_increment": "increment_quantity",
    "repeat_gap": "to_quantity", "open_gap": "to_quantity", "nothing_beyond": "to_quantity",
    "bundle_has_no_usage": "usage_prices", "bundle_incomplete": "components",
    "components_of_a_bundle": "components", "components_differ": "components",
    "component_fee": "fee_amount", "component_twice": "component",
    "unknown_component": "component", "component_type": "component",
    "two_plans_of_a_line": "component", "component_not_in_force": "component",
    "allowance_twice": "allowance", "discount_twice": "discount", "occasion_twice": "occasion",
}  # fmt: skip
_FIELDS_OF_PROBLEMS = {"version_too_early": "valid_from", "reason_missing": "reason"}


def place_of_finding(finding: Finding) -> str:
    """The input, or the row, of the form that a finding is about."""
    name = finding.values.get("field") or _FIELDS_OF_FINDINGS.get(finding.code, "")
    if finding.code == "not_in_model":
        name = str(finding.values["name"]).partition(":")[0]
        name = "" if name in ("flat_amount", "is_partial") else name  # of one of its tiers
    elif finding.code == "percent":
        name = "penalty_value" if finding.place.at.startswith("commitment") else "value"
    return ".".join(part for part in (finding.place.at, name) if part)


def place_of_problem(problem: InvalidRequestError) -> str:
    """The input of the form that a problem is about, if it is about one."""
    return _FIELDS_OF_PROBLEMS.get(problem.code, "")


def check_form(
    session: Session, settings: Settings, *, principal: Principal, form: TariffForm,
    former_id: str, seen: str, draft: Draft, reason: str,
) -> Proposal:  # fmt: skip
    """What saving the draft would change; raises what saving it would raise."""
    _require(principal)
    if form.offering is not None:
        former = cast("PricePlanVersion", form.former)
        _require_newest(former, former_id)
        _require_seen(former, seen)
    proposal = propose(session, settings, form, draft)
    _require_reason(reason)
    return proposal


def save_form(
    settings: Settings, *, principal: Principal, purpose: Purpose, offering_id: str = "",
    former_id: str = "", seen: str = "", draft: Draft, reason: str,
) -> str:  # fmt: skip
    """Put the draft into the catalogue; returns the version's id.

    The former version ends where the new one begins. `former_id` is the version that the draft
    was copied from, `seen` since when it was as its reader saw it (`seen_as`).

    Raises:
        ForbiddenError: the role does not change the catalogue, or the user is not at headquarters.
        ConflictError: the versions are not as they were seen any more.
        InvalidRequestError: no reason is given, nothing is changed, or it begins too early.
        TariffRefusedError: the draft breaks the rules of the catalogue.
    """
    _require(principal)
    with transaction(settings) as session:
        _lock(session)
        form = open_form(
            session, settings, principal=principal, purpose=purpose, offering_id=offering_id
        )
        proposal = check_form(
            session, settings, principal=principal, form=form, former_id=former_id, seen=seen,
            draft=draft, reason=reason,
        )  # fmt: skip
        _put(session, form, proposal, principal=principal, reason=reason.strip())
        return proposal.content.version_id


def _put(
    session: Session, form: TariffForm, proposal: Proposal, *, principal: Principal, reason: str
) -> None:
    """Apply a proposal, and note who made it and why."""
    valid_from = proposal.offering.versions[0].valid_from.isoformat()
    if proposal.comparison is not None:
        counts = apply(session, proposal.comparison)
        audit.record(
            session, username=principal.username, action="add_offering", entity_type="offering",
            entity_id=proposal.offering.offering_id, province_code=HEADQUARTERS,
            detail=counts | {"valid_from": valid_from, "reason": reason},
        )  # fmt: skip
        return
    replaced = [proposal.stored] if form.is_replacing and proposal.stored else []
    put_versions(session, replaced=replaced, added=[proposal.content], ended=proposal.ended)
    audit.record(
        session, username=principal.username, entity_type=_ENTITY_TYPE,
        action="replace_plan_version" if form.is_replacing else "add_plan_version",
        entity_id=proposal.content.version_id, province_code=HEADQUARTERS,
        detail={
            "former": form.before and form.before.plan_version_id, "valid_from": valid_from,
            "changes": [str(change) for change in proposal.changes], "reason": reason,
            _CUT_OFF: form.before_end and form.before_end.isoformat(),
        },
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
        _require_bundles_whole(session, settings, version, before, ended)
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


def _require_bundles_whole(
    session: Session, settings: Settings, version: PricePlanVersion,
    before: PricePlanVersion | None, ended: dict[str, datetime | None],
) -> None:  # fmt: skip
    """Refuse to take a version out that a bundle needs: the one before ends too early."""
    known = stored_offerings(session, settings.timezone)
    del known[version.offering_id].versions[version.version_number]
    if before is not None:
        end = ended[before.plan_version_id]
        _end(known, before, end and end.astimezone(ZoneInfo(settings.timezone)).date())
    row = authored_offering(session, settings, version.offering_id)
    if findings := list(bundle_findings([row], known)):
        raise TariffRefusedError(findings)


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
