"""REST of customer bills (TMF678) and billing cycles."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from operational.accounts.bills import BillDates, bill_dates
from operational.billing import service, totals
from operational.billing.explanation import explain as explain_it
from operational.billing.models import Bill
from operational.billing.movements import Movement, bill_movements
from operational.billing.wording import Wording
from operational.pages import installation_of
from operational.problem_details import CallerOf, ReadingOf

router = APIRouter()

_BILL = "/tmf-api/customerBillManagement/v4/customerBill"


@router.get(_BILL, tags=["bill"])
def bills(  # noqa: PLR0917 - FastAPI passes them by name
    request: Request, caller: CallerOf, database: ReadingOf,
    cycle_id: Annotated[str | None, Query(alias="billCycle.id")] = None,
    account_id: Annotated[str | None, Query(alias="billingAccount.id")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50, offset: Annotated[int, Query(ge=0)] = 0,
) -> list[dict[str, Any]]:  # fmt: skip
    """Bills by cycle and account."""
    found = service.list_bills(
        database, principal=caller, cycle_id=cycle_id, account_id=account_id, limit=limit,
        offset=offset,
    )  # fmt: skip
    timezone = installation_of(request).settings.timezone
    dates = {
        cycle: bill_dates(database, cycle_id=cycle, timezone=timezone)
        for cycle in {row.cycle_id for row in found}
    }
    return [_bill(row, dates[row.cycle_id]) for row in found]


@router.get(_BILL + "/{bill_id}", tags=["bill"])
def bill(request: Request, caller: CallerOf, database: ReadingOf, bill_id: str) -> dict[str, Any]:
    """One bill with its items, and what its adjustments and payments are made of."""
    view = service.find_bill(database, principal=caller, bill_id=bill_id)
    timezone = installation_of(request).settings.timezone
    dates = bill_dates(database, cycle_id=view.bill.cycle_id, timezone=timezone)
    items = [
        {
            "subscriptionId": subscription.subscription_id,
            "msisdn": caller.masked_msisdn(subscription.msisdn),
            "billItemCode": item.bill_item_code,
            "kind": item.item_kind,
            "discountId": item.discount_id,
            "otherAccountId": item.other_account_id,
            "nameZh": item.name_zh,
            "nameEn": item.name_en,
            "quantity": None if item.quantity is None else str(item.quantity),
            "unit": item.unit,
            "baseAmount": _known_amount(item.base_amount, view.bill.currency_code),
            "amount": _amount(item.amount, view.bill.currency_code),
            "taxClass": item.tax_class,
            "taxRatePercent": None if item.tax_rate_percent is None else str(item.tax_rate_percent),
            "taxIncludedAmount": _known_amount(item.tax_amount, view.bill.currency_code),
        }
        for subscription, rows, _total in view.lines
        for item in rows
    ]
    movements = bill_movements(database, bill_id=bill_id, timezone=timezone)
    return _bill(view.bill, dates) | {
        "billItem": items,
        "adjustment": [_movement(each, view.bill.currency_code) for each in movements.adjustments],
        "payment": [_movement(each, view.bill.currency_code) for each in movements.payments],
    }


@router.get("/api/billing/v1/explanation/{identifier:path}", tags=["bill"])
def explanation(
    caller: CallerOf, request: Request, identifier: str, language: str = "zh"
) -> dict[str, Any]:
    """How a usage, a charge, a bill item, a bill or a note came about."""
    settings = installation_of(request).settings
    found = explain_it(settings, principal=caller, identifier=identifier)
    wording = Wording(language=language, timezone=settings.timezone, principal=caller)
    return wording.document(found)


@router.get("/api/billing/v1/billingCycle/{cycle_id}", tags=["bill"])
def cycle(caller: CallerOf, database: ReadingOf, cycle_id: str) -> dict[str, Any]:
    """One billing cycle and how it came to its state."""
    row = service.find_cycle(database, principal=caller, cycle_id=cycle_id)
    return {
        "id": row.cycle_id,
        "state": row.state,
        "startsAt": row.starts_at.isoformat(),
        "endsAt": row.ends_at.isoformat(),
        "event": [
            {
                "at": event.at.isoformat(), "fromState": event.from_state,
                "toState": event.to_state, "byUser": event.by_user, "reason": event.reason,
            }
            for event in row.events
        ],
    }  # fmt: skip


@router.get("/api/billing/v1/billingCycle/{cycle_id}/controlTotal", tags=["bill"])
def control_totals(caller: CallerOf, request: Request, cycle_id: str) -> list[dict[str, Any]]:
    """The cycle's control totals, from the raw files to the lines of the ledger's journal."""
    settings = installation_of(request).settings
    return [
        {
            "hopNumber": total.hop_number, "hop": total.hop, "measure": total.measure,
            "unit": total.unit, "leftName": total.left_name, "leftValue": str(total.left_value),
            "rightName": total.right_name, "rightValue": str(total.right_value),
            "difference": str(total.difference), "isTied": total.is_tied,
        }
        for total in totals.month_totals(settings, principal=caller, cycle_id=cycle_id)
    ]  # fmt: skip


def _bill(row: Bill, dates: BillDates) -> dict[str, Any]:
    currency = row.currency_code
    return {
        "id": row.bill_id,
        "href": f"{_BILL}/{row.bill_id}",
        "billingAccount": {"id": row.account_id},
        "billCycle": {"id": row.cycle_id, "state": row.cycle.state},
        "provinceCode": row.province_code,
        "billDate": dates.issued_date.isoformat(),
        "paymentDueDate": dates.due_date.isoformat(),
        "openingAmount": _amount(row.opening_amount, currency),
        "itemAmount": _amount(row.item_amount, currency),
        "discountAmount": _amount(row.discount_amount, currency),
        "sharedAmount": _amount(row.shared_amount, currency),
        "chargeAmount": _amount(row.charge_amount, currency),
        "taxIncludedAmount": _amount(row.tax_amount, currency),
        "adjustmentAmount": _amount(row.adjustment_amount, currency),
        "paymentAmount": _amount(row.payment_amount, currency),
        "amountDue": _amount(row.closing_amount, currency),
        "contentHash": row.content_hash,
        "publishedAt": row.published_at.isoformat(),
    }


def _movement(each: Movement, currency: str) -> dict[str, Any]:
    return {
        "kind": each.kind, "isReversal": each.is_reversal, "firstDate": str(each.first_date),
        "lastDate": str(each.last_date), "count": each.count,
        "amount": _amount(each.amount, currency), "paymentId": each.payment_id,
        "noteId": each.note_id, "channel": each.channel, "reference": each.reference,
        "documentId": each.document_id, "billItemCode": each.bill_item_code,
    }  # fmt: skip


def _known_amount(amount: object | None, currency: str) -> dict[str, str] | None:
    return None if amount is None else _amount(amount, currency)


def _amount(amount: object, currency: str) -> dict[str, str]:
    """Amounts travel as text: a JSON number may pass through binary floating point."""
    return {"unit": currency, "value": str(amount)}
