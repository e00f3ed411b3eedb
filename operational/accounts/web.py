"""Pages of the accounts: statement, payments, notes, ageing, dunning, bank lines, trial balance."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Annotated
from uuid import uuid4

from fastapi import APIRouter, Query, UploadFile
from fastapi.responses import Response

from operational.accounts import (
    bank,
    bank_transit,
    collection,
    notes,
    reports,
    responsibility,
    security_deposits,
    service,
)
from operational.accounts.bank_formats import LARGEST_FILE
from operational.pages import FormOf, Page, PageOf, StartOf, see_other
from operational.problems import ConflictError, InvalidRequestError, NotFoundError, Problem

router = APIRouter()

# The pages of the room: path, message key, permission.
ROOM = (
    ("/accounts/search", "accounts.search", "receivable.read"),
    ("/accounts/notes", "accounts.notes", "receivable.read"),
    ("/accounts/ageing", "accounts.ageing", "receivable.read"),
    ("/accounts/dunning", "accounts.dunning", "dunning.read"),
    ("/accounts/bank", "accounts.bank", "bank.manage"),
    ("/accounts/trial-balance", "accounts.trial_balance", "ledger.read"),
)
_REFUSALS = (ConflictError, InvalidRequestError, NotFoundError)


@router.get("/accounts")
def room_page(page: PageOf) -> Response:
    """The first page of the room."""
    page.principal.require("receivable.read")
    return see_other(_room(page)[0][0])


@router.get("/accounts/search")
def search_page(page: PageOf, q: str = "") -> Response:
    """Find an account; without a query, those that owe most."""
    found = service.search_accounts(page.database, principal=page.principal, query=q)
    if q and len(found) == 1:
        return see_other(f"/accounts/of/{found[0][0].account_id}")
    return page.render("accounts/search.html", room=_room(page), found=found, q=q)


@router.get("/accounts/of/{account_id}")
def account_page(page: PageOf, account_id: str) -> Response:
    """One account: what is owed, the money there is, the ledger; forms for those who may."""
    return _account_page(page, account_id)


@router.post("/accounts/of/{account_id}/payments")
def take_payment(page: PageOf, form: FormOf, account_id: str) -> Response:
    """Receive a payment."""

    def act() -> None:
        service.take_payment(
            page.settings, principal=page.principal, account_id=account_id,
            amount=service.parse_amount(form.get("amount", "")), channel=form.get("channel", ""),
            idempotency_key=f"form:{form.get('key', '')}", reference=form.get("reference") or None,
        )  # fmt: skip

    page.principal.require("payment.take")
    return _acted(page, account_id, act)


@router.post("/accounts/of/{account_id}/refunds")
def give_refund(page: PageOf, form: FormOf, account_id: str) -> Response:
    """Give deposit money back."""

    def act() -> None:
        service.refund(
            page.settings, principal=page.principal, account_id=account_id,
            amount=service.parse_amount(form.get("amount", "")), channel=form.get("channel", ""),
            reason_code=form.get("reason_code", ""),
            idempotency_key=f"form:{form.get('key', '')}",
        )  # fmt: skip

    page.principal.require("payment.refund")
    return _acted(page, account_id, act)


@router.post("/accounts/of/{account_id}/reversals")
def reverse_payment(page: PageOf, form: FormOf, account_id: str) -> Response:
    """Take a payment back."""

    def act() -> None:
        service.reverse_payment(
            page.settings, principal=page.principal, payment_id=form.get("payment_id", ""),
            reason_code=form.get("reason_code", ""),
        )  # fmt: skip

    page.principal.require("payment.reverse")
    return _acted(page, account_id, act)


@router.post("/accounts/of/{account_id}/bonuses")
def grant_bonus(page: PageOf, form: FormOf, account_id: str) -> Response:
    """Give bonus money."""

    def act() -> None:
        service.grant_bonus(
            page.settings, principal=page.principal, account_id=account_id,
            amount=service.parse_amount(form.get("amount", "")),
            reason_code=form.get("reason_code", ""),
            idempotency_key=f"form:{form.get('key', '')}", valid_to=_day(form, "valid_to"),
            bill_item_codes=_codes(form),
        )  # fmt: skip

    page.principal.require("bonus.grant")
    return _acted(page, account_id, act)


@router.post("/accounts/of/{account_id}/security-deposits")
def take_security_deposit(page: PageOf, form: FormOf, account_id: str) -> Response:
    """Take a security deposit."""

    def act() -> None:
        security_deposits.receive(
            page.settings, principal=page.principal, account_id=account_id,
            subscription_id=form.get("subscription_id") or None,
            amount=service.parse_amount(form.get("amount", "")), channel=form.get("channel", ""),
            reason_code=form.get("reason_code", ""), reference=form.get("reference") or None,
            idempotency_key=f"form:{form.get('key', '')}",
        )  # fmt: skip

    page.principal.require("security_deposit.take")
    return _acted(page, account_id, act)


@router.post("/accounts/of/{account_id}/security-deposits/{security_deposit_id}/return")
def return_security_deposit(
    page: PageOf, form: FormOf, account_id: str, security_deposit_id: str
) -> Response:
    """Give a security deposit back."""

    def act() -> None:
        security_deposits.give_back(
            page.settings, principal=page.principal, security_deposit_id=security_deposit_id,
            amount=service.parse_amount(form.get("amount", "")), channel=form.get("channel", ""),
            reason_code=form.get("reason_code", ""), override_reason=form.get("override_reason"),
            idempotency_key=f"form:{form.get('key', '')}",
        )  # fmt: skip

    page.principal.require("security_deposit.return")
    return _acted(page, account_id, act)


@router.post("/accounts/of/{account_id}/security-deposits/{security_deposit_id}/application")
def apply_security_deposit(
    page: PageOf, form: FormOf, account_id: str, security_deposit_id: str
) -> Response:
    """Pay what is overdue from a security deposit."""

    def act() -> None:
        amount = form.get("amount", "").strip()
        security_deposits.apply(
            page.settings, principal=page.principal, security_deposit_id=security_deposit_id,
            amount=service.parse_amount(amount) if amount else None,
            idempotency_key=f"form:{form.get('key', '')}",
        )  # fmt: skip

    page.principal.require("security_deposit.apply")
    return _acted(page, account_id, act)


@router.post("/accounts/of/{account_id}/notes")
def request_note(page: PageOf, form: FormOf, account_id: str) -> Response:
    """Ask for a credit or debit note."""

    def act() -> None:
        note_type = form.get("note_type", "")
        bill_id, _, code = form.get("bill_item", "").partition("/")
        notes.request_note(
            page.settings, principal=page.principal, note_id=f"N-{form.get('key', '')}",
            note_type=note_type, account_id=account_id, bill_id=bill_id or None,
            bill_item_code=code, amount=service.parse_amount(form.get("amount", "")),
            reason_code=form.get("reason_code", ""), explanation=form.get("explanation", ""),
        )  # fmt: skip

    page.principal.require("note.request")
    return _acted(page, account_id, act, after="/accounts/notes")


@router.post("/accounts/of/{account_id}/responsibilities")
def add_responsibility(page: PageOf, form: FormOf, account_id: str) -> Response:
    """Let the account pay a share of a line of another."""

    def act() -> None:
        first = _day(form, "valid_from")
        if first is None:
            raise InvalidRequestError("bad_parameters", names=["valid_from"])
        cap = form.get("monthly_cap_amount", "").strip()
        responsibility.add_responsibility(
            page.settings, principal=page.principal, account_id=account_id,
            subscription_id=form.get("subscription_id", "").strip(),
            share_percent=responsibility.parse_percent(form.get("share_percent", "")),
            monthly_cap_amount=service.parse_amount(cap) if cap else None, valid_from=first,
            valid_to=_day(form, "valid_to"), bill_item_codes=_codes(form),
            idempotency_key=f"form:{form.get('key', '')}",
        )  # fmt: skip

    page.principal.require("responsibility.manage")
    return _acted(page, account_id, act)


@router.post("/accounts/of/{account_id}/responsibilities/{payment_responsibility_id}")
def end_responsibility(
    page: PageOf, form: FormOf, account_id: str, payment_responsibility_id: str
) -> Response:
    """Let the account stop paying after a day."""

    def act() -> None:
        last = _day(form, "last_day")
        if last is None:
            raise InvalidRequestError("bad_parameters", names=["last_day"])
        responsibility.end_responsibility(
            page.settings, principal=page.principal, last_day=last,
            payment_responsibility_id=payment_responsibility_id,
        )  # fmt: skip

    page.principal.require("responsibility.manage")
    return _acted(page, account_id, act)


@router.post("/accounts/of/{account_id}/members")
def add_member(page: PageOf, form: FormOf, account_id: str) -> Response:
    """Make a customer a member of the group the account is of."""

    def act() -> None:
        account = service.find_account(
            page.database, principal=page.principal, account_id=account_id
        )
        responsibility.add_member(
            page.settings, principal=page.principal,
            customer_id=form.get("customer_id", "").strip(),
            parent_customer_id=account.customer_id,
        )  # fmt: skip

    page.principal.require("responsibility.manage")
    return _acted(page, account_id, act)


@router.get("/accounts/notes")
def notes_page(page: PageOf, state: str = "", start: StartOf = 0) -> Response:
    """Credit and debit notes, those to be decided first."""
    return _notes_page(page, state, max(start, 0), None)


@router.post("/accounts/notes/{note_id:path}")
def decide_note(page: PageOf, form: FormOf, note_id: str) -> Response:
    """Approve or reject a note."""
    page.principal.require("note.approve")
    try:
        notes.decide_note(
            page.settings, principal=page.principal, note_id=note_id,
            approve=form.get("decision") == "approve", reason=form.get("reason", ""),
        )  # fmt: skip
    except _REFUSALS as problem:
        return _notes_page(page, "", 0, problem)
    return see_other("/accounts/notes")


@router.get("/accounts/ageing")
def ageing_page(page: PageOf, as_of: str = "", start: StartOf = 0) -> Response:
    """Arrears by time overdue: provinces, and the accounts that owe most."""
    who, database, start = page.principal, page.database, max(start, 0)
    day = _day({"as_of": as_of}, "as_of") or service.local_today(page.settings)
    provinces = reports.ageing(database, principal=who, as_of=day)
    accounts = reports.ageing(
        database, principal=who, as_of=day, by_account=True, limit=service.PAGE_ROWS + 1,
        offset=start,
    )  # fmt: skip
    return page.render(
        "accounts/ageing.html", room=_room(page), as_of=day, provinces=provinces,
        total=reports.ageing_total(provinces), accounts=accounts[: service.PAGE_ROWS],
        buckets=[name for name, _, _ in reports.BUCKETS], start=start,
        page_rows=service.PAGE_ROWS, has_more=len(accounts) > service.PAGE_ROWS,
    )  # fmt: skip


@router.get("/accounts/dunning")
def dunning_page(page: PageOf, closed: bool = False, start: StartOf = 0) -> Response:
    """Accounts that are dunned: steps taken, what comes next, orders given."""
    who, database, start = page.principal, page.database, max(start, 0)
    cases = collection.dunning_cases(
        database, principal=who, only_open=not closed, limit=service.PAGE_ROWS + 1, offset=start
    )
    shown = cases[: service.PAGE_ROWS]
    return page.render(
        "accounts/dunning.html", room=_room(page), cases=shown,
        steps=collection.dunning_steps(database), closed=closed, start=start,
        orders=collection.service_orders(
            database, principal=who, case_ids=[case.case_id for case in shown], limit=200
        ),
        page_rows=service.PAGE_ROWS, has_more=len(cases) > service.PAGE_ROWS,
    )  # fmt: skip


@router.get("/accounts/bank")
def bank_page(page: PageOf, start: StartOf = 0) -> Response:
    """Bank lines that nobody has matched, what is in transit, and the statements imported last."""
    return _bank_page(page, max(start, 0), None, None)


@router.post("/accounts/bank/files")
def import_bank_file(page: PageOf, _form: FormOf, file: UploadFile) -> Response:
    """Import a statement file."""
    page.principal.require("bank.manage")
    try:
        done = bank.import_file(
            page.settings, principal=page.principal, content=file.file.read(LARGEST_FILE + 1),
            file_name=(file.filename or "statement")[:200],
        )  # fmt: skip
    except _REFUSALS as problem:
        return _bank_page(page, 0, problem, None)
    return _bank_page(page, 0, None, done)


@router.post("/accounts/bank/lines")
def match_bank_line(page: PageOf, form: FormOf) -> Response:
    """Say what a bank line is: a payment, what was entered before, a return, something else."""
    page.principal.require("bank.manage")
    line_id, what = form.get("bank_line_id", ""), form.get("what", "")
    try:
        if what == "payment":
            bank.match_to_account(
                page.settings, principal=page.principal, bank_line_id=line_id,
                account_id=form.get("target", ""),
            )  # fmt: skip
        elif what == "return":
            bank.match_to_return(
                page.settings, principal=page.principal, bank_line_id=line_id,
                payment_id=form.get("target", ""),
            )  # fmt: skip
        else:
            bank.match_to_ledger(
                page.settings, principal=page.principal, bank_line_id=line_id, ledger_code=what,
                reason_code="bank_fee" if what == "bank_charge" else "collected_by_channel",
            )  # fmt: skip
    except _REFUSALS as problem:
        return _bank_page(page, 0, problem, None)
    return see_other("/accounts/bank")


@router.get("/accounts/trial-balance")
def trial_balance_page(
    page: PageOf, first: Annotated[str, Query(alias="from")] = "",
    last: Annotated[str, Query(alias="to")] = "",
) -> Response:  # fmt: skip
    """Every ledger account over a period, revenue by class, and deferred revenue."""
    who, database = page.principal, page.database
    today = service.local_today(page.settings)
    begins = _day({"from": first}, "from") or today.replace(day=1)
    ends = _day({"to": last}, "to") or today
    rows = reports.trial_balance(database, principal=who, first=begins, last=ends)
    return page.render(
        "accounts/trial_balance.html", room=_room(page), rows=rows, first=begins, last=ends,
        debit=sum(row.debit_amount for row in rows), credit=sum(row.credit_amount for row in rows),
        closing=sum(row.closing_amount for row in rows),
        revenue=reports.revenue(database, principal=who, first=begins, last=ends),
        deferred=reports.deferred_revenue(database, principal=who, as_of=ends),
    )  # fmt: skip


def _account_page(page: Page, account_id: str, problem: Problem | None = None) -> Response:
    database = page.database
    view = service.account_statement(
        database, principal=page.principal, account_id=account_id,
        today=service.local_today(page.settings),
    )  # fmt: skip
    purposes = (
        "refund", "reversal", "bonus", "credit_note", "debit_note", "security_deposit",
        "security_return",
    )  # fmt: skip
    return page.render(
        "accounts/account.html", 422 if problem else 200, room=_room(page), view=view,
        account=view.account, problem=problem, key=uuid4().hex,
        shares=responsibility.responsibilities(
            database, principal=page.principal, account_id=account_id
        ),
        deposits=security_deposits.statement(
            database, principal=page.principal, account_id=account_id
        ),
        an_instant=timedelta(microseconds=1),
        chargeable_items=service.chargeable_items(database),
        channels=service.channels(database), today=service.local_today(page.settings),
        reasons={name: service.reasons_for(database, name) for name in purposes},
    )  # fmt: skip


def _acted(
    page: Page, account_id: str, act: Callable[[], None], after: str | None = None
) -> Response:
    try:
        act()
    except _REFUSALS as problem:
        return _account_page(page, account_id, problem)
    return see_other(after or f"/accounts/of/{account_id}")


def _notes_page(page: Page, state: str, start: int, problem: Problem | None) -> Response:
    found = notes.list_notes(
        page.database, principal=page.principal, state=state or None, offset=start,
        limit=service.PAGE_ROWS + 1,
    )  # fmt: skip
    return page.render(
        "accounts/notes.html", 422 if problem else 200, room=_room(page), problem=problem,
        notes=found[: service.PAGE_ROWS], chosen_state=state, states=notes.NOTE_STATES,
        start=start, page_rows=service.PAGE_ROWS, has_more=len(found) > service.PAGE_ROWS,
    )  # fmt: skip


def _bank_page(
    page: Page, start: int, problem: Problem | None, done: bank.Imported | None
) -> Response:
    who, database = page.principal, page.database
    lines = bank.suspense_lines(database, principal=who, limit=service.PAGE_ROWS + 1, offset=start)
    shown = lines[: service.PAGE_ROWS]
    count, amount = bank.suspense_total(database, principal=who)
    return page.render(
        "accounts/bank.html", 422 if problem else 200, room=_room(page), lines=shown,
        count=count, amount=amount, problem=problem, done=done,
        repeated=bank_transit.repeated(database, lines=shown),
        suggestions=bank.suggestions(database, page.settings, principal=who, lines=shown),
        waiting=bank.in_transit(
            database, page.settings, principal=who, limit=service.PAGE_ROWS
        ),
        waiting_total=bank.in_transit_total(database, principal=who),
        today=service.local_today(page.settings),
        ledgers=bank.other_ledgers(database), statements=bank.statements(database, principal=who),
        start=start, page_rows=service.PAGE_ROWS, has_more=len(lines) > service.PAGE_ROWS,
    )  # fmt: skip


def _room(page: Page) -> list[tuple[str, str]]:
    """The pages of the room for this reader: path and message key."""
    who = page.principal
    return [
        (path, key) for path, key, permission in ROOM
        if who.may(permission) and (permission != "bank.manage" or who.sees_all_provinces)
    ]  # fmt: skip


def _codes(form: dict[str, str]) -> list[str]:
    codes = form.get("bill_item_codes", "").replace("，", ",").split(",")
    return [code.strip() for code in codes if code.strip()]


def _day(form: dict[str, str], name: str) -> date | None:
    if not form.get(name):
        return None
    try:
        return date.fromisoformat(form[name])
    except ValueError:
        raise InvalidRequestError("bad_parameters", names=[name]) from None
