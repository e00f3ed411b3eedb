"""Pages of the product catalogue: offerings, calendars, and the form for a new version."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response

from operational.catalogue import new_version, service
from operational.catalogue.authoring import DAY_TYPES
from operational.catalogue.checks import clock
from operational.catalogue.new_version import VersionRefusedError
from operational.catalogue.wording import Wording
from operational.pages import FormOf, Page, PageOf, language_of, see_other
from operational.problems import ConflictError, InvalidRequestError, Problem

router = APIRouter()

_TYPES = ("plan", "bundle", "addon", "content")
_OWN_FIELDS = ("former", "seen", "valid_from", "reason")
VersionOf = Annotated[int | None, Query(ge=1, le=1_000_000)]


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


@router.get("/catalogue/{offering_id}")
def offering_page(page: PageOf, offering_id: str, version: VersionOf = None) -> Response:
    """One offering with a version: by default the one in force."""
    page.principal.require("catalogue.read")
    return _offering_page(page, offering_id, version)


@router.get("/catalogue/{offering_id}/new-version")
def new_version_page(page: PageOf, offering_id: str) -> Response:
    """The form for the next version of an offering."""
    return _form_page(page, offering_id, {}, None)


@router.post("/catalogue/{offering_id}/new-version")
def add_version(page: PageOf, offering_id: str, form: FormOf) -> Response:
    """Add the next version of an offering, or show what is wrong with it."""
    page.principal.require("catalogue.write")
    try:
        added = new_version.add_version(
            page.settings, principal=page.principal, offering_id=offering_id,
            former_id=form.get("former", ""), valid_from=_day(form.get("valid_from", "")),
            values=_values(form), reason=form.get("reason", ""),
        )  # fmt: skip
    except InvalidRequestError as problem:
        return _form_page(page, offering_id, form, problem)
    except ConflictError as problem:  # what was typed was about another version
        return _form_page(page, offering_id, {}, problem)
    return see_other(f"/catalogue/{offering_id}?version={added.version_number}")


@router.get("/catalogue/{offering_id}/replace-version")
def replace_version_page(page: PageOf, offering_id: str) -> Response:
    """The form for replacing the newest version of an offering, which has not begun."""
    return _form_page(page, offering_id, {}, None, is_replacing=True)


@router.post("/catalogue/{offering_id}/replace-version")
def replace_version(page: PageOf, offering_id: str, form: FormOf) -> Response:
    """Replace the newest version of an offering, or show why it is not."""
    page.principal.require("catalogue.write")
    try:
        put = new_version.replace_version(
            page.settings, principal=page.principal, offering_id=offering_id,
            version_id=form.get("former", ""), seen=form.get("seen", ""),
            valid_from=_day(form.get("valid_from", "")), values=_values(form),
            reason=form.get("reason", ""),
        )  # fmt: skip
    except InvalidRequestError as problem:
        return _form_page(page, offering_id, form, problem, is_replacing=True)
    except ConflictError as problem:  # the version is not there any more as it was seen
        return _offering_page(page, offering_id, None, problem)
    return see_other(f"/catalogue/{offering_id}?version={put.version_number}")


@router.post("/catalogue/{offering_id}/withdraw-version")
def withdraw_version(page: PageOf, offering_id: str, form: FormOf) -> Response:
    """Withdraw the newest version of an offering, or show why it is not."""
    page.principal.require("catalogue.write")
    try:
        new_version.withdraw_version(
            page.settings, principal=page.principal, offering_id=offering_id,
            version_id=form.get("former", ""), seen=form.get("seen", ""),
            reason=form.get("reason", ""),
        )  # fmt: skip
    except (ConflictError, InvalidRequestError) as problem:
        return _offering_page(page, offering_id, None, problem)
    return see_other(f"/catalogue/{offering_id}")


def _values(form: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in form.items() if name not in _OWN_FIELDS}


def _status(problem: Problem | None) -> int:
    if problem is None:
        return 200
    return 409 if isinstance(problem, ConflictError) else 422


def _offering_page(
    page: Page, offering_id: str, version: int | None, problem: Problem | None = None
) -> Response:
    view = service.find_offering(page.database, offering_id, version)
    unbegun = new_version.unbegun_version(page.database, view.versions)
    return page.render(
        "catalogue/offering.html", _status(problem), view=view, words=_words(page),
        problem=problem, units=service.charge_class_units(page.database), unbegun=unbegun,
        seen=new_version.seen_as(unbegun) if unbegun else "",
    )  # fmt: skip


def _form_page(
    page: Page, offering_id: str, form: dict[str, str], problem: Problem | None, *,
    is_replacing: bool = False,
) -> Response:  # fmt: skip
    shown = new_version.version_form(
        page.database, page.settings, principal=page.principal, offering_id=offering_id,
        is_replacing=is_replacing,
    )  # fmt: skip
    findings = problem.findings if isinstance(problem, VersionRefusedError) else []
    former = service.find_offering(page.database, offering_id, shown.former.version_number)
    words, units = _words(page), service.charge_class_units(page.database)
    now = {
        (price.charge_class, price.band, tier.tier_number): words.tier(
            price, tier, units[price.charge_class], len(tiers)
        )
        for price, tiers in former.prices for tier in tiers
    }  # fmt: skip
    names = {row.allowance_id.rpartition("/")[2]: words.name(row) for row in former.allowances}
    names |= {row.discount_id.rpartition("/")[2]: words.name(row) for row in former.discounts}
    return page.render(
        "catalogue/new_version.html", _status(problem), view=shown, form=form, problem=problem,
        findings=findings, words=words, now=now, names=names, former=former,
        seen=form.get("seen") or new_version.seen_as(shown.former),
    )  # fmt: skip


def _day(value: str) -> date:
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise InvalidRequestError("bad_parameters", names=["valid_from"]) from None


def _words(page: Page) -> Wording:
    return Wording(language_of(page.request, page.reader), page.settings.timezone)
