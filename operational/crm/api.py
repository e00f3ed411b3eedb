"""REST of customers (TMF629) and product orders (TMF622)."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response

from operational.crm import service
from operational.crm.models import Customer, CustomerOrder
from operational.crm.service import NewSubscriptionRequest
from operational.pages import installation_of
from operational.permissions import Principal
from operational.problem_details import CallerOf, ProblemError, ReadingOf

router = APIRouter(prefix="/tmf-api")

_CUSTOMER = "/customerManagement/v4/customer"
_ORDER = "/productOrderingManagement/v4/productOrder"

Limit = Annotated[int, Query(ge=1, le=200)]
Offset = Annotated[int, Query(ge=0)]


@router.get(_CUSTOMER, tags=["customer"])
def customers(
    caller: CallerOf, database: ReadingOf, name: str = "", limit: Limit = 50, offset: Offset = 0
) -> list[dict[str, Any]]:
    """Customers by name, number or id (`name` takes any of them)."""
    found = service.search_customers(
        database, principal=caller, query=name, limit=limit, offset=offset
    )
    return [_customer(caller, row) for row in found]


@router.get(_CUSTOMER + "/{customer_id}", tags=["customer"])
def customer(caller: CallerOf, database: ReadingOf, customer_id: str) -> dict[str, Any]:
    """One customer."""
    return _customer(
        caller, service.find_customer(database, principal=caller, customer_id=customer_id)
    )


@router.get(_ORDER, tags=["order"])
def orders(
    caller: CallerOf, database: ReadingOf, state: str = "", limit: Limit = 50, offset: Offset = 0
) -> list[dict[str, Any]]:
    """Orders, newest first."""
    found = service.list_orders(
        database, principal=caller, state=state or None, limit=limit, offset=offset
    )
    return [_order(row) for row in found]


@router.get(_ORDER + "/{order_id}", tags=["order"])
def order(caller: CallerOf, database: ReadingOf, order_id: str) -> dict[str, Any]:
    """One order."""
    return _order(service.find_order(database, principal=caller, order_id=order_id))


@router.post(_ORDER, status_code=201, tags=["order"])
def place_order(
    request: Request, response: Response, caller: CallerOf, body: NewSubscriptionRequest,
    idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
) -> dict[str, Any]:  # fmt: skip
    """Place a new-subscription order. The same Idempotency-Key again gives the same order."""
    if not idempotency_key:
        raise ProblemError(
            400, "send an Idempotency-Key header: sending the order again must not repeat it"
        )
    digest = hashlib.sha256(f"{caller.username}|{idempotency_key}".encode()).hexdigest()
    placed = service.place_order(
        installation_of(request).settings, principal=caller, order_id=f"O-{digest[:20]}",
        request=body,
    )  # fmt: skip
    response.headers["Location"] = f"{router.prefix}{_ORDER}/{placed.order_id}"
    return _order(placed)


def _customer(caller: Principal, row: Customer) -> dict[str, Any]:
    return {
        "id": row.customer_id,
        "href": f"{router.prefix}{_CUSTOMER}/{row.customer_id}",
        "name": caller.masked_name(row.name),
        "customerType": row.customer_type,
        "idNumber": caller.masked_id_number(row.id_number),
        "provinceCode": row.province_code,
        "account": [
            {
                "id": account.account_id,
                "name": caller.masked_name(account.account_name),
                "status": account.status,
                "subscription": [
                    {
                        "id": subscription.subscription_id,
                        "msisdn": caller.masked_msisdn(subscription.msisdn),
                        "status": subscription.status,
                    }
                    for subscription in account.subscriptions
                ],
            }
            for account in row.accounts
        ],
    }


def _order(row: CustomerOrder) -> dict[str, Any]:
    return {
        "id": row.order_id,
        "href": f"{router.prefix}{_ORDER}/{row.order_id}",
        "orderType": row.order_type,
        "state": row.state,
        "customerId": row.customer_id,
        "subscriptionId": row.subscription_id,
        "provinceCode": row.province_code,
        "orderDate": row.created_at.isoformat(),
        "completionDate": row.completed_at and row.completed_at.isoformat(),
    }
