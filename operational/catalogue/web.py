"""Pages of the product catalogue."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from operational.catalogue import service
from operational.pages import PageOf

router = APIRouter()


@router.get("/catalogue")
def catalogue_page(page: PageOf) -> Response:
    """All offerings."""
    page.principal.require("catalogue.read")
    return page.render("catalogue/offerings.html", views=service.list_offerings(page.database))


@router.get("/catalogue/{offering_id}")
def offering_page(page: PageOf, offering_id: str) -> Response:
    """One offering with its prices."""
    page.principal.require("catalogue.read")
    view = service.find_offering(page.database, offering_id)
    units = service.charge_class_units(view)
    return page.render("catalogue/offering.html", view=view, units=units)
