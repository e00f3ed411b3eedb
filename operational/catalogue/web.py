"""Pages of the product catalogue: offerings, calendars, and the form for a tariff."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Annotated, get_args

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import ValidationError

from operational.catalogue import exporting, service, tariff_form
from operational.catalogue.authoring import (
    DAY_TYPES,
    LAST_VERSION,
    OfferingType,
    UsagePriceRow,
)
from operational.catalogue.bundles import GROUPED
from operational.catalogue.checks import clock
from operational.catalogue.drafts import OFFERING_FIELDS, VERSION_FIELDS, Draft, read_draft
from operational.catalogue.loader import stored_bands
from operational.catalogue.models import ChargeClass
from operational.catalogue.preview import preview
from operational.catalogue.tariff_form import Purpose, TariffForm, TariffRefusedError
from operational.catalogue.wording import Wording
from operational.i18n import messages
from operational.pages import FormOf, Page, PageOf, download, language_of, see_other
from operational.problems import ConflictError, InvalidRequestError, Problem

router = APIRouter()

_TYPES = get_args(OfferingType)
_OWN_FIELDS = ("former", "seen", "reason", "do")  # of the form, not of the tariff
VersionOf = Annotated[int | None, Query(ge=1, le=LAST_VERSION)]


@router.get("/catalogue")
def catalogue_page(page: PageOf, kind: str = "") -> Response:
    """All offerings, or those of one type."""
    page.principal.require("catalogue.read")
    chosen = kind if kind in _TYPES else None
    views = service.list_offerings(page.database, chosen)
    return page.render("catalogue/offerings.html", views=views, kind=chosen or "", types=_TYPES)


@router.get("/catalogue/calendars")
def calendars_page(page: PageOf) -> Response:
    """All calendars: bands by day, and holidays."""
    page.principal.require("catalogue.read")
    return page.render(
        "catalogue/calendars.html", views=service.list_calendars(page.database),
        days=DAY_TYPES, clock=clock, words=_words(page),
    )  # fmt: skip


@router.get("/catalogue/new-offering")
def new_offering_page(page: PageOf, like: str = "") -> Response:
    """The form for a new offering, empty or with what another one has."""
    return _form_page(page, _opened(page, "new-offering", like), {})


@router.post("/catalogue/new-offering")
def add_offering(page: PageOf, form: FormOf) -> Response:
    """Show the form again, what it would add, or what is wrong with it; or add an offering."""
    return _answer(page, "new-offering", "", form)


@router.get("/catalogue/{offering_id}")
def offering_page(page: PageOf, offering_id: str, version: VersionOf = None) -> Response:
    """One offering with a version: by default the one in force."""
    page.principal.require("catalogue.read")
    return _offering_page(page, offering_id, version)


@router.get("/catalogue/{offering_id}/file")
def offering_file(page: PageOf, offering_id: str) -> Response:
    """One offering with all its versions as a YAML file."""
    page.principal.require("catalogue.read")
    content = exporting.offering_file(page.database, page.settings, offering_id)
    return download(content.encode(), "application/yaml", f"{offering_id}.yaml")


@router.get("/catalogue/{offering_id}/new-version")
def new_version_page(page: PageOf, offering_id: str) -> Response:
    """The form for the next version of an offering."""
    return _form_page(page, _opened(page, "new-version", offering_id), {})


@router.post("/catalogue/{offering_id}/new-version")
def add_version(page: PageOf, offering_id: str, form: FormOf) -> Response:
    """Show the form again, what it would change, or what is wrong with it; or add the version."""
    return _answer(page, "new-version", offering_id, form)


@router.get("/catalogue/{offering_id}/replace-version")
def replace_version_page(page: PageOf, offering_id: str) -> Response:
    """The form for replacing the newest version of an offering, which has not begun."""
    return _form_page(page, _opened(page, "replace-version", offering_id), {})


@router.post("/catalogue/{offering_id}/replace-version")
def replace_version(page: PageOf, offering_id: str, form: FormOf) -> Response:
    """Show the form again, what it would change, or what is wrong; or replace the version."""
    return _answer(page, "replace-version", offering_id, form)


@router.post("/catalogue/{offering_id}/withdraw-version")
def withdraw_version(page: PageOf, offering_id: str, form: FormOf) -> Response:
    """Withdraw the newest version of an offering, or show why it is not."""
    page.principal.require("catalogue.write")
    try:
        tariff_form.withdraw_version(
            page.settings, principal=page.principal, offering_id=offering_id,
            version_id=form.get("former", ""), seen=form.get("seen", ""),
            reason=form.get("reason", ""),
        )  # fmt: skip
    except (ConflictError, InvalidRequestError) as problem:
        return _offering_page(page, offering_id, None, problem)
    return see_other(f"/catalogue/{offering_id}")


def _status(problem: Problem | None) -> int:
    if problem is None:
        return 200
    return 409 if isinstance(problem, ConflictError) else 422


def _offering_page(
    page: Page, offering_id: str, version: int | None, problem: Problem | None = None
) -> Response:
    view = service.find_offering(page.database, offering_id, version)
    unbegun = tariff_form.unbegun_version(page.database, view.versions)
    return page.render(
        "catalogue/offering.html", _status(problem), view=view, words=_words(page),
        problem=problem, units=service.charge_class_units(page.database), unbegun=unbegun,
        seen=tariff_form.seen_as(unbegun) if unbegun else "",
    )  # fmt: skip


def _opened(page: Page, purpose: Purpose, offering_id: str) -> TariffForm:
    return tariff_form.open_form(
        page.database, page.settings, principal=page.principal, purpose=purpose,
        offering_id=offering_id,
    )  # fmt: skip


def _answer(page: Page, purpose: Purpose, offering_id: str, sent: dict[str, str]) -> Response:
    """What a button of the form does: `do` names it, and the rows it is about."""
    page.principal.require("catalogue.write")
    own = {name: sent.pop(name, "") for name in _OWN_FIELDS}
    do, _, at = (own["do"] or "preview").partition(" ")
    draft = read_draft(tariff_form.fields_of(purpose), sent)
    try:
        if do == "save":
            version_id = tariff_form.save_form(
                page.settings, principal=page.principal, purpose=purpose, offering_id=offering_id,
                former_id=own["former"], seen=own["seen"], draft=draft, reason=own["reason"],
            )  # fmt: skip
            saved_id, _, number = version_id.rpartition("@")
            return see_other(f"/catalogue/{saved_id}?version={number}")
        form = _opened(page, purpose, offering_id)
        if do != "preview":
            return _form_page(page, form, own, draft=draft, opened=_changed(draft, do, at))
        proposal = tariff_form.check_form(
            page.database, page.settings, principal=page.principal, form=form,
            former_id=own["former"], seen=own["seen"], draft=draft, reason=own["reason"],
        )  # fmt: skip
    except InvalidRequestError as problem:
        form = _opened(page, purpose, offering_id)
        return _form_page(page, form, own, draft=draft, problem=problem)
    except ConflictError as problem:  # what was typed was about another version
        if purpose == "replace-version":
            return _offering_page(page, offering_id, None, problem)
        return _form_page(page, _opened(page, purpose, offering_id), {}, problem=problem)
    words = _words(page)
    units = service.charge_class_units(page.database)
    offerings = service.offering_names(page.database, words.language)
    return page.render(
        "catalogue/tariff_preview.html", form=form, proposal=proposal, own=own,
        inputs=list(draft.inputs()), words=words,
        differences=preview(proposal, words, units, offerings),
        name_of_offering=words.name(proposal.offering),
    )  # fmt: skip


def _changed(draft: Draft, do: str, at: str) -> str:
    """Add, remove or raise a row; returns the way of the row that is to be seen."""
    if do == "edit":
        return ""
    change = {"add": draft.add, "remove": draft.remove, "raise": draft.raise_row}.get(do)
    if change is None or not at:
        raise InvalidRequestError("bad_parameters", names=["do"])
    return change(at)


def _form_page(
    page: Page, form: TariffForm, own: dict[str, str], *, draft: Draft | None = None,
    problem: Problem | None = None, opened: str = "",
) -> Response:  # fmt: skip
    """The form with what stands in it, and what is wrong with it where it is wrong."""
    words = _words(page)
    draft = form.draft if draft is None else draft
    findings = problem.findings if isinstance(problem, TariffRefusedError) else []
    errors: dict[str, list[str]] = {}
    for finding in findings:
        place = tariff_form.place_of_finding(finding)
        errors.setdefault(place, []).append(finding.page_message(words.translate))
    if isinstance(problem, InvalidRequestError) and (
        place := tariff_form.place_of_problem(problem)
    ):
        errors[place] = [problem.page_text(words.translate)]
    bands = stored_bands(page.database)
    units = service.charge_class_units(page.database)
    return page.render(
        "catalogue/tariff_form.html", _status(problem), form=form, draft=draft, own=own,
        problem=None if findings else problem, errors=errors, words=words,
        opened=_rows_around([*errors, opened]),
        findings=[(tariff_form.place_of_finding(one), one) for one in findings],
        seen=own.get("seen") or (tariff_form.seen_as(form.former) if form.former else ""),
        former_id=own.get("former") or (form.former.plan_version_id if form.former else ""),
        classes=_classes_by_service(page), calendars=service.list_calendars(page.database),
        bands=sorted(bands.get(draft.value("calendar"), ())), units=units,
        summaries=_summaries(draft, words, units), families=CHOICE_WORDS, hints=messages(),
        components=[
            view for view in service.list_offerings(page.database)
            if view.offering.offering_type in GROUPED
        ],
        offering_fields=OFFERING_FIELDS, version_fields=VERSION_FIELDS,
        offerings=service.list_offerings(page.database) if form.purpose == "new-offering" else [],
    )  # fmt: skip


# Where the words of a field's choices are, if not under tariff_choice.
CHOICE_WORDS = {
    "offering_type": "product_role", "model": "price_model", "rounding_mode": "rounding",
    "scope": "allowance_scope", "bill_item_code": "bill_item", "bill_item_codes": "bill_item",
    "not_offered": "charge_class", "occasion": "occasion", "penalty_on": "penalty_on",
    "first_month_rule": "first_month_rule", "last_month_rule": "last_month_rule",
    "late_usage_policy": "late_usage_policy",
}  # fmt: skip


def _rows_around(places: Iterable[str]) -> set[str]:
    """Every row that a place of the form is in."""
    ways = [place.split(".") for place in places]
    return {".".join(way[:length]) for way in ways for length in range(1, len(way) + 1)}


def _classes_by_service(page: Page) -> dict[str, list[ChargeClass]]:
    found: dict[str, list[ChargeClass]] = {}
    for row in service.charge_classes(page.database):
        found.setdefault(row.service, []).append(row)
    return found


def _summaries(draft: Draft, words: Wording, units: dict[str, str]) -> dict[str, str]:
    """What each row of the form says in a line; of a price that cannot be read, nothing."""
    found: dict[str, str] = {}
    for price in draft.rows.get("usage_prices", []):
        charge_class = price.value("charge_class")
        if not charge_class:
            continue
        band = words.band(price.value("band") or None)
        found[price.at] = f"{words.charge_class(charge_class)}, {band}"
        with suppress(ValidationError, KeyError):
            row = UsagePriceRow.model_validate(price.document())
            found[price.at] += f" · {'; '.join(words.price_row(row, units[charge_class]))}"
    for allowance in draft.rows.get("allowances", []):
        name = allowance.value(f"name_{words.language}") or allowance.value("allowance")
        found[allowance.at] = " · ".join(
            part for part in (name, allowance.value("size_quantity")) if part
        )
    return found


def _words(page: Page) -> Wording:
    return Wording(language_of(page.request, page.reader), page.settings.timezone)
