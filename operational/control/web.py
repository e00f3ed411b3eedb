"""Page of the file journal."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from operational.control import service
from operational.pages import PageOf, StartOf

router = APIRouter()


@router.get("/files")
def files_page(page: PageOf, source: str = "", status: str = "", start: StartOf = 0) -> Response:
    """The file journal and the latest pipeline runs."""
    who, database = page.principal, page.database
    start = max(start, 0)
    found = service.list_files(
        database, principal=who, source_id=source or None, status=status or None, offset=start,
        limit=service.PAGE_ROWS + 1,
    )  # fmt: skip
    return page.render(
        "control/files.html", files=found[: service.PAGE_ROWS], source=source, chosen_status=status,
        start=start, has_more=len(found) > service.PAGE_ROWS, page_rows=service.PAGE_ROWS,
        counts=service.files_by_status(database, principal=who),
        sources=service.list_sources(database, principal=who),
        runs=service.recent_runs(database, principal=who),
    )  # fmt: skip
