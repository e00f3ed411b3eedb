"""Page of interconnect agreements."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from operational.pages import PageOf
from operational.settlement import service

router = APIRouter()


@router.get("/agreements")
def agreements_page(page: PageOf) -> Response:
    """All agreements with their rates."""
    found = service.list_agreements(page.database, principal=page.principal)
    return page.render("settlement/agreements.html", agreements=found)
