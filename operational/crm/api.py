"""REST of customers (TMF629) and product orders (TMF622)."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from operational.crm import relations, service, suspension
from operational.crm.models import (
    CallGroup,
    CallGroupMember,
    Customer,
    CustomerOrder,
    FriendNumber,
)  # fmt: skip
from operational.crm.service import BundleRequest, NewSubscriptionRequest, OrderRequest
from operational.pages import installation_of
from operational.permissions import Principal
from operational.problem_details import CallerOf, ProblemError, ReadingOf

router = APIRouter(prefix="/tmf-api")

_CUSTOMER = "/customerManagement/v4/customer"
_ORDER = "/productOrderingManagement/v4/productOrder"
_PRODUCT = "/productInventory/v4/product/{product_instance_id}"
_FRIEND = "/serviceInventory/v4/service/{subscription_id}/friendNumber"
_STATUS = "/serviceInventory/v4/service/{subscription_id}/status"
_GROUP = "/partyManagement/v4/callGroup"


class FriendRequest(BaseModel):
    """A number to name a friend, from now or a moment to come."""

    model_config = ConfigDict(extra="forbid")

    number: str = Field(max_length=40)
    valid_from: datetime | None = Field(None, alias="validFrom")


class StatusRequest(BaseModel):
    """What a line is to be: `suspended`, or `active` again."""

    model_config = ConfigDict(extra="forbid")

    status: Literal["active", "suspended"]


class GroupRequest(BaseModel):
    """A group with short numbers for a group customer."""

    model_config = ConfigDict(extra="forbid")

    customer_id: str = Field(alias="customerId")
    name: str = Field(max_length=200)


class MemberRequest(BaseModel):
    """A line to take into a group, from now or a moment to come."""

    model_config = ConfigDict(extra="forbid")

    subscription_id: str = Field(alias="subscriptionId")
    short_number: str = Field(alias="shortNumber", max_length=10)
    valid_from: datetime | None = Field(None, alias="validFrom")


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
    return _place(request, response, caller, body, idempotency_key)


@router.post(_ORDER + "/bundle", status_code=201, tags=["order"])
def order_bundle(
    request: Request, response: Response, caller: CallerOf, body: BundleRequest,
    idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
) -> dict[str, Any]:  # fmt: skip
    """Order a bundle for lines that are there. The same Idempotency-Key gives the same order."""
    return _place(request, response, caller, body, idempotency_key)


def _place(
    request: Request, response: Response, caller: Principal, body: OrderRequest,
    idempotency_key: str | None,
) -> dict[str, Any]:  # fmt: skip
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


@router.post(_PRODUCT + "/end", tags=["product"])
def end_product(request: Request, caller: CallerOf, product_instance_id: str) -> dict[str, Any]:
    """End a bundle now: its add-ons end with it, its plans stay at their own fee."""
    product = service.end_product(
        installation_of(request).settings, principal=caller,
        product_instance_id=product_instance_id,
    )  # fmt: skip
    return {
        "id": product.product_instance_id,
        "productOffering": {"id": product.offering_id},
        "subscriptionId": product.subscription_id,
        "startDate": product.valid_from.isoformat(),
        "terminationDate": product.valid_to and product.valid_to.isoformat(),
    }


@router.get(_STATUS, tags=["line"])
def status_history(
    caller: CallerOf, database: ReadingOf, subscription_id: str
) -> list[dict[str, Any]]:
    """The statuses of a line and since when, the newest first."""
    found = suspension.status_history(database, principal=caller, subscription_id=subscription_id)
    return [{"status": row.status, "validFrom": row.valid_from.isoformat()} for row in found]


@router.post(_STATUS, tags=["line"])
def set_status(
    request: Request, caller: CallerOf, subscription_id: str, body: StatusRequest
) -> dict[str, Any]:
    """Suspend a line at its customer's request, or resume it; what it is already stays so."""
    line = suspension.set_status(
        installation_of(request).settings, principal=caller, subscription_id=subscription_id,
        status=body.status,
    )  # fmt: skip
    return {"id": line.subscription_id, "status": line.status}


@router.get(_FRIEND, tags=["friend number"])
def friend_numbers(
    caller: CallerOf, database: ReadingOf, subscription_id: str
) -> list[dict[str, Any]]:
    """Friend numbers of a line that hold or will."""
    found = relations.friend_numbers(database, principal=caller, subscription_id=subscription_id)
    return [_friend(caller, row) for row in found]


@router.post(_FRIEND, status_code=201, tags=["friend number"])
def add_friend_number(
    request: Request, caller: CallerOf, subscription_id: str, body: FriendRequest
) -> dict[str, Any]:
    """Name a number a friend of a line. A number that is one already is answered as it is."""
    friend = relations.add_friend_number(
        installation_of(request).settings, principal=caller, subscription_id=subscription_id,
        number=body.number, valid_from=body.valid_from,
    )  # fmt: skip
    return _friend(caller, friend)


@router.post(_FRIEND + "/{friend_number_id}/end", tags=["friend number"])
def end_friend_number(
    request: Request, caller: CallerOf, subscription_id: str, friend_number_id: int
) -> dict[str, Any]:
    """End a friend number now; the row stays, for the calls it priced."""
    friend = relations.end_friend_number(
        installation_of(request).settings, principal=caller, subscription_id=subscription_id,
        friend_number_id=friend_number_id,
    )  # fmt: skip
    return _friend(caller, friend)


@router.get(_GROUP, tags=["call group"])
def call_groups(
    caller: CallerOf,
    database: ReadingOf,
    customerId: str,
) -> list[dict[str, Any]]:
    """The groups with short numbers of a customer."""
    found = relations.call_groups_of(database, principal=caller, customer_id=customerId)
    return [_group(row) for row in found]


@router.post(_GROUP, status_code=201, tags=["call group"])
def create_call_group(request: Request, caller: CallerOf, body: GroupRequest) -> dict[str, Any]:
    """Make a group for a group customer. One of the same name is answered as it is."""
    return _group(
        relations.create_call_group(
            installation_of(request).settings, principal=caller, customer_id=body.customer_id,
            name=body.name,
        )
    )  # fmt: skip


@router.get(_GROUP + "/{call_group_id}/member", tags=["call group"])
def group_members(
    caller: CallerOf, database: ReadingOf, call_group_id: str
) -> list[dict[str, Any]]:
    """The members of a group, by short number."""
    found = relations.members_of(database, principal=caller, call_group_id=call_group_id)
    return [_member(row) for row in found]


@router.post(_GROUP + "/{call_group_id}/member", status_code=201, tags=["call group"])
def add_group_member(
    request: Request, caller: CallerOf, call_group_id: str, body: MemberRequest
) -> dict[str, Any]:
    """Take a line into a group. One that is in it by this number is answered as it is."""
    return _member(
        relations.add_member(
            installation_of(request).settings, principal=caller, call_group_id=call_group_id,
            subscription_id=body.subscription_id, short_number=body.short_number,
            valid_from=body.valid_from,
        )
    )  # fmt: skip


@router.post(_GROUP + "/{call_group_id}/member/{call_group_member_id}/end", tags=["call group"])
def end_group_member(
    request: Request, caller: CallerOf, call_group_id: str, call_group_member_id: int
) -> dict[str, Any]:
    """Let a line leave a group now; the row stays, for the calls it priced."""
    return _member(
        relations.end_member(
            installation_of(request).settings, principal=caller, call_group_id=call_group_id,
            call_group_member_id=call_group_member_id,
        )
    )  # fmt: skip


def _friend(caller: Principal, row: FriendNumber) -> dict[str, Any]:
    return {
        "id": str(row.friend_number_id),
        "subscriptionId": row.subscription_id,
        "number": caller.masked_msisdn(row.number),
        "validFrom": row.valid_from.isoformat(),
        "validTo": row.valid_to and row.valid_to.isoformat(),
    }


def _group(row: CallGroup) -> dict[str, Any]:
    return {
        "id": row.call_group_id,
        "customerId": row.customer_id,
        "name": row.name,
        "provinceCode": row.province_code,
    }


def _member(row: CallGroupMember) -> dict[str, Any]:
    return {
        "id": str(row.call_group_member_id),
        "callGroupId": row.call_group_id,
        "subscriptionId": row.subscription_id,
        "shortNumber": row.short_number,
        "validFrom": row.valid_from.isoformat(),
        "validTo": row.valid_to and row.valid_to.isoformat(),
    }


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
