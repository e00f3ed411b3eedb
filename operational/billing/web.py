"""Pages of billing cycles and bills."""

from __future__ import annotations

from typing import Literal
from urllib.parse import quote

from fastapi import APIRouter
from fastapi.responses import Response

from operational.accounts.bills import bill_dates
from operational.billing import note_document, service, totals
from operational.billing.document import (
    USAGE_FORMATS,
    bundle_note,
    itemised_usage,
    make_bill,
    render_bill,
    render_usage,
)
from operational.billing.explanation import explain, usage_of_record
from operational.billing.movements import bill_movements
from operational.billing.printing import FORMATS
from operational.billing.wording import EXPLAINED_KINDS, Wording
from operational.database import transaction
from operational.pages import FormOf, PageOf, download, language_of, see_other

router = APIRouter()

Language = Literal["zh", "en"] | None


@router.get("/bills/{bill_id}")
def bill_page(page: PageOf, bill_id: str) -> Response:
    """One bill, its items grouped by number."""
    view = service.find_bill(page.database, principal=page.principal, bill_id=bill_id)
    dates = bill_dates(page.database, cycle_id=view.bill.cycle_id, timezone=page.settings.timezone)
    movements = bill_movements(page.database, bill_id=bill_id, timezone=page.settings.timezone)
    language = language_of(page.request, page.reader)
    notes = [bundle_note(held, page.principal, language) for held in view.bundles]
    return page.render(
        "billing/bill.html",
        view=view,
        bill=view.bill,
        dates=dates,
        movements=movements,
        bundle_notes=notes,
    )


@router.get("/bills/{bill_id}/document.{form}")
def bill_document(page: PageOf, bill_id: str, form: str, lang: Language = None) -> Response:
    """The bill as a document to keep, in the account's language or `lang`: HTML, PDF or UBL."""
    document = make_bill(
        page.database, page.settings, principal=page.principal, bill_id=bill_id, language=lang
    )
    content = render_bill(document, form, page.settings.timezone)
    return download(content, FORMATS[form], f"{bill_id}.{'xml' if form == 'ubl' else form}")


@router.get("/bills/{bill_id}/usage.{form}")
def bill_usage(page: PageOf, bill_id: str, form: str, lang: Language = None) -> Response:
    """Every usage of the bill, in the account's language or `lang`: HTML, PDF or CSV."""
    who = page.principal
    with transaction(page.settings) as session:
        document = make_bill(session, page.settings, principal=who, bill_id=bill_id, language=lang)
        lines = itemised_usage(
            session, page.settings, principal=who, bill_id=bill_id, language=document.language
        )
    content = render_usage(lines, document, form, page.settings.timezone)
    return download(content, USAGE_FORMATS[form], f"{bill_id}-usage.{form}")


@router.get("/accounts/notes/{note_id:path}/document.{form}")
def printed_note(page: PageOf, note_id: str, form: str, lang: Language = None) -> Response:
    """A posted note as a document to keep, in the account's language or `lang`."""
    document = note_document.make_note(
        page.database, page.settings, principal=page.principal, note_id=note_id, language=lang
    )
    content = note_document.render_note(document, form, page.settings.timezone)
    return download(content, FORMATS[form], note_document.file_name(note_id, form))


@router.get("/explain")
def explain_form(page: PageOf, id: str = "") -> Response:
    """Ask what is to be explained."""
    page.principal.require("charge.explain")
    if id.strip():
        return see_other(f"/explain/{quote(id.strip(), safe='')}")
    return page.render("billing/explanation.html", found=None)


@router.get("/explain/record")
def explain_record(page: PageOf, file: str, number: int) -> Response:
    """How the usage that a record became came about."""
    usage_id = usage_of_record(
        page.settings, principal=page.principal, file_id=file, record_number=number
    )
    return see_other(f"/explain/{usage_id}")


@router.get("/explain/{identifier:path}")
def explain_page(page: PageOf, identifier: str) -> Response:
    """How a usage, a charge, a bill item, a bill or a note came about."""
    found = explain(page.settings, principal=page.principal, identifier=identifier)
    wording = Wording(
        language=language_of(page.request, page.principal), timezone=page.settings.timezone,
        principal=page.principal,
    )  # fmt: skip
    return page.render(
        "billing/explanation.html", found=found, wording=wording, explained_kinds=EXPLAINED_KINDS
    )


@router.get("/cycles")
def cycles_page(page: PageOf) -> Response:
    """All billing cycles."""
    page.principal.require("cycle.read")
    return page.render("billing/cycles.html", cycles=service.list_cycles(page.database))


@router.get("/cycles/{cycle_id}")
def cycle_page(page: PageOf, cycle_id: str) -> Response:
    """One cycle: state, history, and the decision for those who may take it."""
    who = page.principal
    cycle = service.find_cycle(page.database, principal=who, cycle_id=cycle_id)
    return page.render(
        "billing/cycle.html", cycle=cycle, states=service.CYCLE_STATES,
        allowed=service.next_states(page.database, cycle.state),
        totals=service.cycle_totals(page.database, principal=who, cycle_id=cycle_id),
    )  # fmt: skip


@router.get("/cycles/{cycle_id}/totals")
def totals_page(page: PageOf, cycle_id: str) -> Response:
    """The cycle's control totals, from the raw files to the lines of the ledger's journal."""
    found = totals.month_totals(page.settings, principal=page.principal, cycle_id=cycle_id)
    return page.render(
        "billing/totals.html", cycle_id=cycle_id, totals=found,
        broken=sum(not total.is_tied for total in found),
    )  # fmt: skip


@router.post("/cycles/{cycle_id}/state")
def decide_cycle(page: PageOf, form: FormOf, cycle_id: str) -> Response:
    """Move a cycle to another state, with a reason."""
    service.decide_cycle(
        page.settings, principal=page.principal, cycle_id=cycle_id,
        to_state=form.get("to_state", ""), reason=form.get("reason", ""),
    )  # fmt: skip
    return see_other(f"/cycles/{cycle_id}")
