"""Pages of the control room: files, sources, rejected records, rules, rollbacks, audit."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import datetime, time
from typing import Annotated
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response

from operational.control import rejects, rollbacks, rules, service
from operational.control.record_fields import DIRECTIONS, FIELDS, SERVICES
from operational.control.rejects import Change, Replacement, Selection
from operational.pages import FormOf, Page, PageOf, StartOf, see_other
from operational.problems import ConflictError, InvalidRequestError, NotFoundError, Problem

router = APIRouter()

# The pages of the room: path, message key, permission.
ROOM = (
    ("/files", "control.files", "file.read"),
    ("/control/sources", "control.sources", "file.read"),
    ("/control/rejects", "control.rejects", "reject.read"),
    ("/control/rules", "control.rules", "rule.read"),
    ("/control/rollbacks", "control.rollbacks", "rollback.read"),
    ("/control/audit", "control.audit", "control_audit.read"),
)
_FILTERS = ("source", "reason", "file", "format", "since", "status")


@router.get("/control")
def room_page(page: PageOf) -> Response:
    """The first page of the room that the reader may see."""
    page.principal.require("rule.read")
    return see_other(_room(page)[0][0])


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
        "control/files.html", room=_room(page), files=found[: service.PAGE_ROWS], source=source,
        chosen_status=status, start=start, has_more=len(found) > service.PAGE_ROWS,
        page_rows=service.PAGE_ROWS, counts=service.files_by_status(database, principal=who),
        sources=service.list_sources(database, principal=who),
        runs=service.recent_runs(database, principal=who),
    )  # fmt: skip


@router.get("/control/sources")
def sources_page(page: PageOf) -> Response:
    """Every source with its latest days and what is wrong with it."""
    who, database = page.principal, page.database
    return page.render(
        "control/sources.html", room=_room(page), days_shown=service.DAYS_SHOWN,
        summaries=service.summarise_sources(database, principal=who),
        alarms=service.open_alarms(database, principal=who),
    )  # fmt: skip


@router.get("/control/sources/{source_id}")
def source_page(page: PageOf, source_id: str) -> Response:
    """One source: settings with their versions, days, alarms."""
    return _source_page(page, source_id, None)


@router.post("/control/sources/{source_id}/alarms")
def settle_alarm(page: PageOf, form: FormOf, source_id: str) -> Response:
    """Settle the alarm of a refused file."""
    page.principal.require("alarm.settle")
    try:
        service.settle_alarm(
            page.settings, principal=page.principal, file_id=form.get("file", ""),
            reason=form.get("reason", ""),
        )  # fmt: skip
    except (InvalidRequestError, NotFoundError) as problem:
        return _source_page(page, source_id, problem)
    return see_other(f"/control/sources/{quote(source_id)}")


def _filters(  # noqa: PLR0917 - FastAPI passes them by name
    source: str = "", reason: str = "", file: str = "",
    record_format: Annotated[str, Query(alias="format")] = "", since: str = "", status: str = "",
) -> dict[str, str]:  # fmt: skip
    values = (source, reason, file, record_format, since, status)
    return {name: value.strip() for name, value in zip(_FILTERS, values, strict=True)}


FiltersOf = Annotated[dict[str, str], Depends(_filters)]


@router.get("/control/rejects")
def rejects_page(page: PageOf, filters: FiltersOf, start: StartOf = 0) -> Response:
    """Rejected records, filtered."""
    who, database = page.principal, page.database
    start = max(start, 0)
    selection = _selection(page, filters)
    # Each reason counts what its tab shows: the other filters stay, what waits is left out.
    status = filters["status"] or "open"
    counted = replace(selection, reason_code=None, status=status)
    found = rejects.list_rejects(
        database, principal=who, selection=selection, offset=start, limit=rejects.PAGE_ROWS + 1
    )
    return page.render(
        "control/rejects.html", room=_room(page), rejects=found[: rejects.PAGE_ROWS],
        filters=filters, query=urlencode(filters), start=start, page_rows=rejects.PAGE_ROWS,
        has_more=len(found) > rejects.PAGE_ROWS,
        count=rejects.count_rejects(database, principal=who, selection=selection),
        services=SERVICES, directions=DIRECTIONS, query_of_all=urlencode(filters | {"reason": ""}),
        reasons={
            code: (urlencode(filters | {"reason": code, "status": status}), number)
            for code, number in rejects.rejects_by_reason(
                database, principal=who, selection=counted
            ).items()
        },
        sources=service.list_sources(database, principal=who),
    )  # fmt: skip


@router.get("/control/rejects/record")
def reject_page(page: PageOf, file: str, number: int) -> Response:
    """One rejected record: why, what it says, what was done to it, and the form to correct it."""
    return _reject_page(page, file, number, {}, None)


@router.post("/control/rejects/record")
def correct_record(page: PageOf, form: FormOf) -> Response:
    """Correct one record, or have it judged again as it is."""
    page.principal.require("reject.correct")
    file_id, number = form.get("file", ""), _number(form.get("number", ""))
    try:
        rejects.apply_change(
            page.settings, principal=page.principal,
            selection=Selection(file_id=file_id, record_number=number),
            change=_change(form, is_recycling=form.get("intent") == "recycle"),
            reason=form.get("why", ""),
        )  # fmt: skip
    except (InvalidRequestError, ConflictError) as problem:
        return _reject_page(page, file_id, number, form, problem)
    return see_other(f"/control/rejects/record?{urlencode({'file': file_id, 'number': number})}")


@router.get("/control/rejects/bulk")
def bulk_page(page: PageOf, filters: FiltersOf) -> Response:
    """The form to correct all records of a filter."""
    page.principal.require("reject.correct")
    return _bulk_page(page, filters, {})


@router.post("/control/rejects/bulk")
def correct_bulk(page: PageOf, form: FormOf) -> Response:
    """Show what a correction of many records would do; when that was seen and confirmed, do it."""
    who = page.principal
    who.require("reject.correct")
    filters = {name: form.get(name, "") for name in _FILTERS}
    try:
        selection = replace(_selection(page, filters), status=filters["status"] or None)
        change = _change(form, is_recycling=form.get("kind") == "recycle")
        dry_run = rejects.try_change(
            page.database, principal=who, selection=selection, change=change
        )
        # Only what was shown is done: had the number changed meanwhile, it is shown again.
        if form.get("intent") == "apply" and form.get("records") == str(dry_run.records):
            done = rejects.apply_change(
                page.settings, principal=who, selection=selection, change=change,
                reason=form.get("why", ""),
            )  # fmt: skip
            return _bulk_page(page, filters, form, done=done)
    except (InvalidRequestError, ConflictError) as problem:
        return _bulk_page(page, filters, form, problem=problem)
    return _bulk_page(page, filters, form, dry_run=dry_run)


@router.get("/control/rules")
def rules_page(page: PageOf) -> Response:
    """The validation rules with their history, and the form to change one."""
    return _rules_page(page, {}, None)


@router.post("/control/rules")
def change_rule(page: PageOf, form: FormOf) -> Response:
    """Put another version of a rule in force."""
    page.principal.require("rule.write")
    limit = form.get("limit_value", "").replace(",", "")
    try:
        if limit and not (limit.isascii() and limit.isdigit()):
            raise InvalidRequestError("bad_parameters", names=["limit_value"])
        rules.change_rule(
            page.settings, principal=page.principal, rule_code=form.get("rule_code", ""),
            source_id=form.get("source_id") or None, service=form.get("service") or None,
            severity=form.get("severity", ""), limit_value=int(limit) if limit else None,
            reason=form.get("reason", ""),
        )  # fmt: skip
    except InvalidRequestError as problem:
        return _rules_page(page, form, problem)
    return see_other("/control/rules")


@router.get("/control/rollbacks")
def rollbacks_page(page: PageOf) -> Response:
    """What was rolled back, by whom and why."""
    found = rollbacks.list_rollbacks(page.database, principal=page.principal)
    return page.render("control/rollbacks.html", room=_room(page), rollbacks=found)


@router.get("/control/rollbacks/{rollback_id}")
def rollback_page(page: PageOf, rollback_id: str) -> Response:
    """One rollback, file by file."""
    view = rollbacks.find_rollback(page.database, principal=page.principal, rollback_id=rollback_id)
    return page.render("control/rollback.html", room=_room(page), view=view, rollback=view.rollback)


@router.get("/control/audit")
def control_audit_page(page: PageOf) -> Response:
    """Who corrected, changed and took back what."""
    rows = service.control_audit(page.database, principal=page.principal)
    return page.render("control/audit.html", room=_room(page), rows=rows)


def _room(page: Page) -> list[tuple[str, str]]:
    """The pages of the room for this reader: path and message key."""
    return [(path, key) for path, key, permission in ROOM if page.principal.may(permission)]


def _selection(page: Page, filters: dict[str, str]) -> Selection:
    since = None
    if filters["since"]:
        try:
            day = datetime.strptime(filters["since"], "%Y-%m-%d").date()  # noqa: DTZ007 - a day
        except ValueError:
            raise InvalidRequestError("bad_parameters", names=["since"]) from None
        since = datetime.combine(day, time(), ZoneInfo(page.settings.timezone))
    return Selection(
        source_id=filters["source"] or None, reason_code=filters["reason"] or None,
        file_part=filters["file"] or None, record_format=filters["format"] or None, since=since,
        status=filters["status"] or None,
    )  # fmt: skip


def _change(form: dict[str, str], *, is_recycling: bool) -> Change:
    """The change a form asks for: fields left empty stay as they are."""
    as_received = form.get("as_received") == "yes"
    if is_recycling:
        return Change(as_received=as_received)
    values = {name: form[f"set_{name}"] for name in FIELDS if form.get(f"set_{name}")}
    replacement = None
    if name := form.get("replace_field"):
        replacement = Replacement(name, form.get("pattern", ""), form.get("replacement", ""))
    if not values and replacement is None:
        raise InvalidRequestError("no_change")
    return Change(values, replacement, as_received)


def _number(value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 9):
        raise InvalidRequestError("bad_parameters", names=["number"])
    return int(value)


def _reject_page(
    page: Page, file_id: str, number: int, form: dict[str, str], problem: Problem | None
) -> Response:
    view = rejects.find_reject(
        page.database, principal=page.principal, file_id=file_id, record_number=number
    )
    return page.render(
        "control/reject.html", 422 if problem else 200, room=_room(page), view=view,
        record=view.record, form=form, problem=problem, fields=FIELDS, services=SERVICES,
        directions=DIRECTIONS,
    )  # fmt: skip


def _bulk_page(
    page: Page, filters: dict[str, str], form: dict[str, str], *,
    problem: Problem | None = None, dry_run: rejects.DryRun | None = None,
    done: rejects.Corrected | None = None,
) -> Response:  # fmt: skip
    count = done.records if done else 0
    if not done:
        with suppress(InvalidRequestError):  # then the problem is the selection
            count = rejects.count_rejects(
                page.database, principal=page.principal, selection=_selection(page, filters)
            )
    return page.render(
        "control/bulk.html", 422 if problem else 200, room=_room(page), filters=filters,
        query=urlencode(filters), form=form, problem=problem, dry_run=dry_run, done=done,
        count=count, fields=FIELDS, services=SERVICES, directions=DIRECTIONS,
    )  # fmt: skip


def _source_page(page: Page, source_id: str, problem: Problem | None) -> Response:
    view = service.find_source(page.database, principal=page.principal, source_id=source_id)
    return page.render(
        "control/source.html", 422 if problem else 200, room=_room(page), view=view,
        source=view.source, problem=problem,
    )  # fmt: skip


def _rules_page(page: Page, form: dict[str, str], problem: Problem | None) -> Response:
    found = rules.list_rules(page.database, principal=page.principal)
    return page.render(
        "control/rules.html", 422 if problem else 200, room=_room(page), rules=found, form=form,
        problem=problem, codes=rules.RULE_CODES, severities=rules.SEVERITIES, services=SERVICES,
        sources=service.list_sources(page.database, principal=page.principal)
        if page.principal.may("file.read") else [],
    )  # fmt: skip
