"""REST of payments and refunds (TMF676), account statements, notes and service orders."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from operational.accounts import (
    balance,
    collection,
    notes,
    reports,
    responsibility,
    security_deposits,
    service,
)
from operational.accounts.models import AdjustmentNote, SecurityDeposit, ServiceOrder
from operational.billing.models import Payment, PaymentResponsibility
from operational.billing.note_document import file_name, make_note, render_note
from operational.billing.printing import FORMATS
from operational.pages import download, installation_of
from operational.problem_details import CallerOf, ProblemError, ReadingOf

router = APIRouter()

_PAYMENT = "/tmf-api/paymentManagement/v4/payment"
_REFUND = "/tmf-api/paymentManagement/v4/refund"
_ACCOUNTS = "/api/accounts/v1"

Limit = Annotated[int, Query(ge=1, le=200)]
Offset = Annotated[int, Query(ge=0)]
KeyOf = Annotated[str | None, Header(alias="Idempotency-Key")]
# Amounts travel as text: a JSON number may have passed through binary floating point.
Amount = Annotated[str, Field(pattern=r"^[0-9]{1,16}(\.[0-9]{1,2})?$")]


class PaymentRequest(BaseModel):
    """Money received for an account."""

    model_config = ConfigDict(extra="forbid")

    account_id: str
    amount: Amount
    channel: str
    paid_at: datetime | None = None
    reference: str | None = Field(None, max_length=200)


class RefundRequest(BaseModel):
    """Money given back out of the deposit, or a payment that is taken back whole."""

    model_config = ConfigDict(extra="forbid")

    account_id: str
    amount: Amount
    channel: str
    reason_code: str


class ReversalRequest(BaseModel):
    """Why a payment is taken back."""

    model_config = ConfigDict(extra="forbid")

    reason_code: str


class SecurityDepositRequest(BaseModel):
    """Money received as security, and for what."""

    model_config = ConfigDict(extra="forbid")

    account_id: str
    subscription_id: str | None = None
    amount: Amount
    channel: str
    reason_code: str
    reference: str | None = Field(None, max_length=200)


class SecurityReturnRequest(BaseModel):
    """What is given back of a security deposit; in arrears only with a reason of its own."""

    model_config = ConfigDict(extra="forbid")

    amount: Amount
    channel: str
    reason_code: str
    override_reason: str | None = Field(None, max_length=500)


class SecurityApplication(BaseModel):
    """How much of a security deposit pays what is overdue; without an amount, all that can."""

    model_config = ConfigDict(extra="forbid")

    amount: Amount | None = None


class NoteRequest(BaseModel):
    """A credit or debit note that is asked for."""

    model_config = ConfigDict(extra="forbid")

    note_type: str
    account_id: str
    bill_id: str | None = None
    bill_item_code: str
    amount: Amount
    reason_code: str
    explanation: str = Field(max_length=500)


class ResponsibilityRequest(BaseModel):
    """A share of a line's bill items that the account of someone else pays."""

    model_config = ConfigDict(extra="forbid")

    account_id: str
    subscription_id: str
    share_percent: str = Field(pattern=r"^[0-9]{1,3}(\.[0-9]{1,6})?$")
    monthly_cap_amount: Amount | None = None
    bill_item_codes: list[str] = []
    valid_from: date
    valid_to: date | None = None


class LastDay(BaseModel):
    """The last day an account pays."""

    model_config = ConfigDict(extra="forbid")

    last_day: date


class MemberRequest(BaseModel):
    """A customer, and the group or household it becomes a member of."""

    model_config = ConfigDict(extra="forbid")

    customer_id: str
    parent_customer_id: str


class Decision(BaseModel):
    """Whether a note is approved, and why."""

    model_config = ConfigDict(extra="forbid")

    approve: bool
    reason: str = Field("", max_length=500)


class Progress(BaseModel):
    """How far a service order got."""

    model_config = ConfigDict(extra="forbid")

    state: str


@router.post(_PAYMENT, tags=["payment"], status_code=201)
def take_payment(
    request: Request, response: Response, caller: CallerOf, body: PaymentRequest, key: KeyOf = None
) -> dict[str, Any]:
    """Receive a payment. The same Idempotency-Key again answers with the payment taken then."""
    payment = service.take_payment(
        installation_of(request).settings, principal=caller, account_id=body.account_id,
        amount=Decimal(body.amount), channel=body.channel, idempotency_key=_key(key),
        paid_at=_with_zone(body.paid_at), reference=body.reference,
    )  # fmt: skip
    response.headers["Location"] = f"{_PAYMENT}/{payment.payment_id}"
    return _payment(payment)


@router.get(_PAYMENT + "/{payment_id}", tags=["payment"])
def payment(caller: CallerOf, database: ReadingOf, payment_id: str) -> dict[str, Any]:
    """One payment, refund or reversal."""
    return _payment(service.find_payment(database, principal=caller, payment_id=payment_id))


@router.post(_PAYMENT + "/{payment_id}/reversal", tags=["payment"], status_code=201)
def reverse_payment(
    request: Request, caller: CallerOf, payment_id: str, body: ReversalRequest
) -> dict[str, Any]:
    """Take a payment back; asked again, answers with the first reversal."""
    return _payment(
        service.reverse_payment(
            installation_of(request).settings, principal=caller, payment_id=payment_id,
            reason_code=body.reason_code,
        )
    )  # fmt: skip


@router.post(_REFUND, tags=["payment"], status_code=201)
def refund(
    request: Request, caller: CallerOf, body: RefundRequest, key: KeyOf = None
) -> dict[str, Any]:
    """Give deposit money back. Needs an Idempotency-Key."""
    return _payment(
        service.refund(
            installation_of(request).settings, principal=caller, account_id=body.account_id,
            amount=Decimal(body.amount), channel=body.channel, reason_code=body.reason_code,
            idempotency_key=_key(key),
        )
    )  # fmt: skip


@router.post(_ACCOUNTS + "/securityDeposit", tags=["account"], status_code=201)
def take_security_deposit(
    request: Request, caller: CallerOf, body: SecurityDepositRequest, key: KeyOf = None
) -> dict[str, Any]:
    """Take money as security. Needs an Idempotency-Key."""
    taken = body.model_dump() | {"amount": Decimal(body.amount)}
    return _security_deposit(
        security_deposits.receive(
            installation_of(request).settings, principal=caller, idempotency_key=_key(key), **taken
        )
    )


@router.post(
    _ACCOUNTS + "/securityDeposit/{security_deposit_id}/return", tags=["account"], status_code=201
)
def return_security_deposit(
    request: Request, caller: CallerOf, security_deposit_id: str, body: SecurityReturnRequest,
    key: KeyOf = None,
) -> dict[str, Any]:  # fmt: skip
    """Give a security deposit back, whole or in part. Needs an Idempotency-Key."""
    given = security_deposits.give_back(
        installation_of(request).settings, principal=caller, amount=Decimal(body.amount),
        security_deposit_id=security_deposit_id, channel=body.channel, reason_code=body.reason_code,
        override_reason=body.override_reason, idempotency_key=_key(key),
    )  # fmt: skip
    return {
        "id": given.security_return_id, "securityDeposit": {"id": security_deposit_id},
        "amount": _amount(given.amount), "channel": given.channel, "reasonCode": given.reason_code,
        "returnedDate": given.returned_date.isoformat(),
        "overrideReason": given.override_reason, "overdue": _amount(given.overdue_amount),
    }  # fmt: skip


@router.post(
    _ACCOUNTS + "/securityDeposit/{security_deposit_id}/application", tags=["account"],
    status_code=201,
)  # fmt: skip
def apply_security_deposit(
    request: Request, caller: CallerOf, security_deposit_id: str, body: SecurityApplication,
    key: KeyOf = None,
) -> dict[str, Any]:  # fmt: skip
    """Pay what is overdue from a security deposit; answers with the payment it becomes."""
    return _payment(
        security_deposits.apply(
            installation_of(request).settings, principal=caller, idempotency_key=_key(key),
            security_deposit_id=security_deposit_id,
            amount=None if body.amount is None else Decimal(body.amount),
        )
    )  # fmt: skip


@router.get(_ACCOUNTS + "/account/{account_id}/securityDeposit", tags=["account"])
def account_security_deposits(
    caller: CallerOf, database: ReadingOf, account_id: str
) -> list[dict[str, Any]]:
    """The security deposits of an account, what is held of each, and how it came to be."""
    found = security_deposits.statement(database, principal=caller, account_id=account_id)
    return [
        _security_deposit(one.deposit) | {
            "held": _amount(one.held_amount), "returned": _amount(one.returned_amount),
            "applied": _amount(one.applied_amount),
            "movement": [
                {
                    "postedDate": move.day.isoformat(), "type": move.kind, "channel": move.channel,
                    "amount": _amount(move.amount), "reasonCode": move.reason_code,
                    "note": move.note,
                }
                for move in one.movements
            ],
        }
        for one in found
    ]  # fmt: skip


@router.get(_ACCOUNTS + "/account/{account_id}", tags=["account"])
def account(
    request: Request, caller: CallerOf, database: ReadingOf, account_id: str
) -> dict[str, Any]:
    """What an account owes, item by item, and the money it has."""
    view = service.account_statement(
        database, principal=caller, account_id=account_id,
        today=service.local_today(installation_of(request).settings),
    )  # fmt: skip
    return {
        "id": account_id,
        "provinceCode": view.account.province_code,
        "owed": _amount(view.owed_amount),
        "overdue": _amount(view.overdue_amount),
        "deposit": _amount(view.deposit_amount),
        "bonus": _amount(view.bonus_amount),
        "openItem": [
            {
                "id": item.open_item_id, "document": item.document_id, "billId": item.bill_id,
                "billItemCode": item.bill_item_code, "issuedDate": item.issued_date.isoformat(),
                "dueDate": item.due_date.isoformat(), "amount": _amount(item.amount),
                "openAmount": _amount(item.open_amount),
            }
            for item in view.items
        ],
        "fund": [
            {
                "id": fund.fund_id, "kind": fund.kind, "balance": _amount(fund.balance_amount),
                "billItemCodes": fund.bill_item_codes,
                "validTo": None if fund.valid_to is None else fund.valid_to.isoformat(),
            }
            for fund in view.funds
        ],
    }  # fmt: skip


@router.get(_ACCOUNTS + "/account/{account_id}/balance", tags=["account"])
def prepaid_balance(
    request: Request, caller: CallerOf, database: ReadingOf, account_id: str
) -> dict[str, Any]:
    """The balance of a prepaid account, what was deducted from it, and its newest movements."""
    found = balance.prepaid_balance(
        database, principal=caller, account_id=account_id,
        today=service.local_today(installation_of(request).settings),
    )  # fmt: skip
    return {
        "id": account_id,
        "balance": _amount(found.balance_amount),
        "restrictedBonus": _amount(found.restricted_amount),
        "standing": found.standing,
        "lowThreshold": _amount(found.low_amount),
        "barringThreshold": _amount(found.barring_amount),
        "deducted": [
            {
                "cycleId": row.cycle_id, "billItemCode": row.bill_item_code,
                "amount": _amount(row.amount), "isBilled": row.is_billed,
            }
            for row in found.deducted
        ],
        "movement": [
            {
                "entryId": row.entry_id, "postedDate": row.posted_date.isoformat(),
                "type": row.entry_type, "reasonCode": row.reason_code,
                "amount": _amount(row.amount),
            }
            for row in found.movements
        ],
    }  # fmt: skip


@router.get(_ACCOUNTS + "/ageing", tags=["account"])
def ageing(
    request: Request, caller: CallerOf, database: ReadingOf, as_of: date | None = None
) -> list[dict[str, Any]]:
    """Arrears by province and time overdue."""
    day = as_of or service.local_today(installation_of(request).settings)
    return [
        {
            "provinceCode": row.key, "asOf": day.isoformat(),
            "amount": {name: str(amount) for name, amount in row.amounts.items()},
            "total": str(row.total_amount),
        }
        for row in reports.ageing(database, principal=caller, as_of=day)
    ]  # fmt: skip


@router.post(_ACCOUNTS + "/note", tags=["account"], status_code=201)
def request_note(
    request: Request, caller: CallerOf, body: NoteRequest, key: KeyOf = None
) -> dict[str, Any]:
    """Ask for a credit or debit note; the Idempotency-Key becomes its number."""
    asked = body.model_dump() | {"amount": Decimal(body.amount)}
    return _note(
        notes.request_note(
            installation_of(request).settings, principal=caller, note_id=_key(key), **asked
        )
    )


@router.get(_ACCOUNTS + "/note/{note_id:path}/document", tags=["account"])
def note_document(  # noqa: PLR0917 - FastAPI passes them by name
    request: Request, caller: CallerOf, database: ReadingOf, note_id: str,
    form: Annotated[Literal["html", "pdf", "ubl"], Query(alias="format")] = "ubl",
    language: Literal["zh", "en"] | None = None,
) -> Response:  # fmt: skip
    """A posted note: HTML, PDF or UBL 2.1, in the account's language unless another is named."""
    settings = installation_of(request).settings
    document = make_note(database, settings, principal=caller, note_id=note_id, language=language)
    content = render_note(document, form, settings.timezone)
    return download(content, FORMATS[form], file_name(note_id, form))


@router.get(_ACCOUNTS + "/note/{note_id:path}", tags=["account"])
def note(caller: CallerOf, database: ReadingOf, note_id: str) -> dict[str, Any]:
    """A credit or debit note: what it corrects, who asked for it and who decided."""
    return _note(notes.find_note(database, principal=caller, note_id=note_id))


@router.post(_ACCOUNTS + "/note/{note_id:path}/decision", tags=["account"])
def decide_note(request: Request, caller: CallerOf, note_id: str, body: Decision) -> dict[str, Any]:
    """Approve or reject a note that another person asked for."""
    return _note(
        notes.decide_note(
            installation_of(request).settings, principal=caller, note_id=note_id,
            approve=body.approve, reason=body.reason,
        )
    )  # fmt: skip


@router.post(_ACCOUNTS + "/paymentResponsibility", tags=["account"], status_code=201)
def add_responsibility(
    request: Request, caller: CallerOf, body: ResponsibilityRequest, key: KeyOf = None
) -> dict[str, Any]:
    """Let an account pay a share of a line of another; the Idempotency-Key becomes its number."""
    asked = body.model_dump() | {
        "share_percent": Decimal(body.share_percent),
        "monthly_cap_amount": None if body.monthly_cap_amount is None
        else Decimal(body.monthly_cap_amount),
    }  # fmt: skip
    return _responsibility(
        responsibility.add_responsibility(
            installation_of(request).settings, principal=caller, idempotency_key=_key(key), **asked
        )
    )


@router.get(_ACCOUNTS + "/account/{account_id}/paymentResponsibility", tags=["account"])
def account_responsibilities(
    caller: CallerOf, database: ReadingOf, account_id: str
) -> dict[str, Any]:
    """Whom an account pays for, and who pays for its lines."""
    found = responsibility.responsibilities(database, principal=caller, account_id=account_id)
    return {
        "paidFor": [_responsibility(row) for row in found.paid_for],
        "paidBy": [_responsibility(row) for row in found.paid_by],
    }


@router.post(_ACCOUNTS + "/paymentResponsibility/{payment_responsibility_id}/end", tags=["account"])
def end_responsibility(
    request: Request, caller: CallerOf, payment_responsibility_id: str, body: LastDay
) -> dict[str, Any]:
    """Let an account stop paying after a day."""
    return _responsibility(
        responsibility.end_responsibility(
            installation_of(request).settings, principal=caller, last_day=body.last_day,
            payment_responsibility_id=payment_responsibility_id,
        )
    )  # fmt: skip


@router.post(_ACCOUNTS + "/groupMember", tags=["account"], status_code=201)
def add_member(request: Request, caller: CallerOf, body: MemberRequest) -> dict[str, Any]:
    """Make a customer a member of a group or household."""
    member = responsibility.add_member(
        installation_of(request).settings, principal=caller, **body.model_dump()
    )
    return {"customerId": member.customer_id, "parentCustomerId": member.parent_customer_id}


@router.get(_ACCOUNTS + "/serviceOrder", tags=["account"])
def orders(
    caller: CallerOf, database: ReadingOf, state: str | None = None, limit: Limit = 50,
    offset: Offset = 0,
) -> list[dict[str, Any]]:  # fmt: skip
    """Barring and restoring orders, the oldest first."""
    found = collection.service_orders(
        database, principal=caller, state=state, limit=limit, offset=offset
    )
    return [_order(row) for row in found]


@router.post(_ACCOUNTS + "/serviceOrder/{service_order_id}/state", tags=["account"])
def move_order(
    request: Request, caller: CallerOf, service_order_id: int, body: Progress
) -> dict[str, Any]:
    """Say how far an order got."""
    return _order(
        collection.move_service_order(
            installation_of(request).settings, principal=caller,
            service_order_id=service_order_id, to_state=body.state,
        )
    )  # fmt: skip


def _key(key: str | None) -> str:
    if not key:
        raise ProblemError(400, "send an Idempotency-Key header: what moves money is done once")
    return key


def _with_zone(moment: datetime | None) -> datetime | None:
    if moment is not None and moment.tzinfo is None:
        raise ProblemError(422, "paid_at needs an offset, for example 2026-11-05T09:30:00+08:00")
    return moment


def _payment(row: Payment) -> dict[str, Any]:
    return {
        "id": row.payment_id,
        "href": f"{_PAYMENT}/{row.payment_id}",
        "type": row.payment_type,
        "account": {"id": row.account_id},
        "amount": _amount(row.amount),
        "channel": row.channel,
        "paymentDate": row.paid_at.isoformat(),
        "reference": row.reference,
        "reasonCode": row.reason_code,
        "reverses": row.reverses_payment_id,
        "securityDepositId": row.security_deposit_id,
    }


def _security_deposit(row: SecurityDeposit) -> dict[str, Any]:
    return {
        "id": row.security_deposit_id, "account": {"id": row.account_id},
        "subscription": None if row.subscription_id is None else {"id": row.subscription_id},
        "amount": _amount(row.amount), "channel": row.channel, "reasonCode": row.reason_code,
        "receivedDate": row.received_date.isoformat(), "reference": row.reference,
    }  # fmt: skip


def _note(row: AdjustmentNote) -> dict[str, Any]:
    return {
        "id": row.note_id, "type": row.note_type, "state": row.state,
        "account": {"id": row.account_id}, "billId": row.bill_id,
        "billItemCode": row.bill_item_code, "amount": _amount(row.amount),
        "reasonCode": row.reason_code, "explanation": row.explanation,
        "requestedBy": row.requested_by, "requestedAt": row.requested_at.isoformat(),
        "decidedBy": row.decided_by,
        "decidedAt": None if row.decided_at is None else row.decided_at.isoformat(),
        "decisionReason": row.decision_reason,
    }  # fmt: skip


def _responsibility(row: PaymentResponsibility) -> dict[str, Any]:
    return {
        "id": row.payment_responsibility_id, "payer": {"id": row.account_id},
        "subscription": {"id": row.subscription_id}, "sharePercent": str(row.share_percent),
        "billItemCodes": row.bill_item_codes and row.bill_item_codes.split(","),
        "monthlyCap": None if row.monthly_cap_amount is None else _amount(row.monthly_cap_amount),
        "validFrom": row.valid_from.isoformat(),
        "validTo": None if row.valid_to is None else row.valid_to.isoformat(),
    }  # fmt: skip


def _order(row: ServiceOrder) -> dict[str, Any]:
    return {
        "id": row.service_order_id, "account": {"id": row.account_id},
        "subscription": {"id": row.subscription_id}, "action": row.action, "state": row.state,
        "requestedDate": row.requested_date.isoformat(),
    }  # fmt: skip


def _amount(amount: Decimal) -> dict[str, str]:
    return {"unit": "CNY", "value": str(amount)}
