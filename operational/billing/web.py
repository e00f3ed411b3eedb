"""Pages of billing cycles and bills."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from operational.billing import service
from operational.pages import FormOf, PageOf, see_other

router = APIRouter()


@router.get("/bills/{bill_id}")
def bill_page(page: PageOf, bill_id: str) -> Response:
    """One bill, its items grouped by number."""
    view = service.find_bill(page.database, principal=page.principal, bill_id=bill_id)
    return page.render("billing/bill.html", view=view, bill=view.bill)


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


@router.post("/cycles/{cycle_id}/state")
def decide_cycle(page: PageOf, form: FormOf, cycle_id: str) -> Response:
    """Move a cycle to another state, with a reason."""
    service.decide_cycle(
        page.settings, principal=page.principal, cycle_id=cycle_id,
        to_state=form.get("to_state", ""), reason=form.get("reason", ""),
    )  # fmt: skip
    return see_other(f"/cycles/{cycle_id}")
