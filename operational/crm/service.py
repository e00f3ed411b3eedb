"""Customers and orders: what a person may look up, and how an order becomes a subscription."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql
from pydantic import (
    BaseModel,
    ConfigDict,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)  # fmt: skip
from sqlalchemy import exists, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, selectinload

from operational import audit
from operational.bulk import copy_to_temporary
from operational.catalogue.models import Allowance, BundleComponent, Offering, PricePlanVersion
from operational.crm.models import (
    LAST_WARNING_DECILE,
    Account,
    Customer,
    CustomerOrder,
    CustomerOrderEvent,
    CustomerOrderTransition,
    CustomerScore,
    Msisdn,
    ProductInstance,
    Subscription,
)  # fmt: skip
from operational.crm.products import (
    Lines,
    OrderError,
    end_bundle,
    give,
    give_bundle,
    next_id,
    plans_of,
)
from operational.database import driver_transaction, transaction
from operational.permissions import Principal
from operational.problems import ConflictError, InvalidRequestError, NotFoundError
from tollhouse.settings import Settings

PAGE_ROWS = 50
_LONGEST_ORDER_ID = 200
ORDER_STATES = ("draft", "submitted", "completed", "cancelled", "failed")

_CUSTOMER_SCORE = "crm.customer_score"
_SCORE_COLUMNS = (
    "subscription_id", "account_id", "customer_id", "province_code", "churn_probability",
    "churn_decile", "churn_reasons", "value_amount", "value_segment", "value_at_risk_amount",
    "model_version", "data_cut_off", "run_id",
)  # fmt: skip


class IdempotencyError(ConflictError):
    """The same order id was used before for another request."""


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Digits = StringConstraints(strip_whitespace=True, pattern=r"^[1-9][0-9]{7,14}$")


FIXED_NUMBER = "^86(?!1[3-9])"  # of Chinese areas; numbers of mobile lines begin with 13 to 19
FIXED_NUMBERS_SHOWN = 8


def service_type_of(msisdn: str) -> str:
    """Of a number in E.164 digits: fixed for those of Chinese areas, else mobile."""
    return "fixed" if re.match(FIXED_NUMBER, msisdn) else "mobile"


class NewSubscriptionRequest(BaseModel):
    """What a new-subscription order asks for: a plan, or a bundle with all it groups.

    Either a customer that is there (`customer_id`) or a new one (`customer_name` …); either one
    of the customer's accounts (`account_id`) or a new one. The other line of a bundle for two is
    new too (`second_msisdn`) or one that the account has (`with_subscription_id`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    province_code: Annotated[str, StringConstraints(pattern=r"^[0-9]{2}$")]
    customer_id: Text | None = None
    customer_name: Text | None = None
    customer_type: Literal["individual", "household", "group"] = "individual"
    id_number: Annotated[str, StringConstraints(strip_whitespace=True, max_length=40)] | None = None
    account_id: Text | None = None
    bill_language: Literal["zh", "en"] = "zh"
    offering_id: Text
    msisdn: Annotated[str, Digits]
    imsi: Annotated[str, StringConstraints(pattern=r"^[0-9]{14,15}$")] | None = None
    payment_type: Literal["postpaid", "prepaid"] = "postpaid"
    second_msisdn: Annotated[str, Digits] | None = None
    with_subscription_id: Text | None = None

    @field_validator("imsi")
    @classmethod
    def _no_card_of_a_fixed_line(cls, imsi: str | None, info: ValidationInfo) -> str | None:
        if imsi is not None and service_type_of(str(info.data.get("msisdn"))) == "fixed":
            raise ValueError("a fixed line has no card: leave the IMSI out")
        return imsi

    @field_validator("with_subscription_id")
    @classmethod
    def _one_other_line(cls, line: str | None, info: ValidationInfo) -> str | None:
        if line is not None and info.data.get("second_msisdn") is not None:
            raise ValueError("give a second number or a line that is there, not both")
        if line is not None and info.data.get("account_id") is None:
            raise ValueError("a line that is there belongs to an account: choose the account")
        return line

    @model_validator(mode="after")
    def _one_customer(self) -> Self:
        if (self.customer_id is None) == (self.customer_name is None):
            raise ValueError("choose a customer or give the name of a new one, not both")
        if self.account_id is not None and self.customer_id is None:
            raise ValueError("an account belongs to a customer that is there: choose the customer")
        return self


class BundleRequest(BaseModel):
    """What an order of a bundle for lines that are there asks for.

    Of a bundle for two lines the other one is `with_subscription_id`, of the same account.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    subscription_id: Text
    offering_id: Text
    with_subscription_id: Text | None = None


OrderRequest = NewSubscriptionRequest | BundleRequest


@dataclass(frozen=True)
class Reason:
    """Why a subscription is likely to leave, in both languages."""

    code: str
    zh: str
    en: str
    contribution: float | None = None


# Customers --------------------------------------------------------------------------------------


def search_customers(
    session: Session, *, principal: Principal, query: str, limit: int = PAGE_ROWS, offset: int = 0
) -> list[Customer]:
    """Customers of the user's province by name, number, or id of customer/account/subscription.

    An empty query lists them by id. Roles that see personal data masked find by id only: a search
    that finds would tell what the mask hides.
    """
    principal.require("customer.read")
    found = select(Customer).options(
        selectinload(Customer.accounts).selectinload(Account.subscriptions)
    )
    term = query.strip()
    if term:
        by_account = exists().where(Account.customer_id == Customer.customer_id)
        by_subscription = by_account.where(Subscription.account_id == Account.account_id)
        conditions = [
            Customer.customer_id == term.upper(),
            by_account.where(Account.account_id == term.upper()),
            by_subscription.where(Subscription.subscription_id == term.upper()),
        ]
        if principal.may("customer.personal_data"):
            number = term.removeprefix("+").replace(" ", "")
            conditions += [
                Customer.name.contains(term, autoescape=True),
                Customer.id_number == term,
            ]
            if number.isascii() and number.isdigit() and len(number) >= 4:
                national = number if number.startswith("86") else f"86{number}"
                conditions.append(
                    by_subscription.where(
                        or_(
                            Subscription.msisdn.startswith(number),
                            Subscription.msisdn.startswith(national),
                        )
                    )
                )
        found = found.where(or_(*conditions))
    found = principal.only_own_province(found, Customer.province_code)
    return list(session.scalars(found.order_by(Customer.customer_id).limit(limit).offset(offset)))


def find_customer(session: Session, *, principal: Principal, customer_id: str) -> Customer:
    """One customer with accounts, subscriptions and plans; NotFoundError outside the province."""
    principal.require("customer.read")
    customer = session.get(
        Customer, customer_id,
        options=[
            selectinload(Customer.accounts).selectinload(Account.subscriptions)
            .selectinload(Subscription.products).selectinload(ProductInstance.offering)
        ],
    )  # fmt: skip
    if customer is None or not principal.sees(customer.province_code):
        raise NotFoundError("no_customer", customer_id=customer_id)
    return customer


def find_subscription(
    session: Session, *, principal: Principal, subscription_id: str
) -> Subscription:
    """One subscription with its plans; NotFoundError outside the province."""
    principal.require("customer.read")
    subscription = session.get(
        Subscription, subscription_id,
        options=[selectinload(Subscription.products).selectinload(ProductInstance.offering)],
    )  # fmt: skip
    if subscription is None or not principal.sees(subscription.province_code):
        raise NotFoundError("no_subscription", subscription_id=subscription_id)
    return subscription


def visible_customer(
    session: Session, principal: Principal, customer_id: str, *, is_locked: bool = False
) -> Customer:
    """One customer, locked for a change if asked; NotFoundError outside the province."""
    customer = session.get(Customer, customer_id, with_for_update=is_locked or None)
    if customer is None or not principal.sees(customer.province_code):
        raise NotFoundError("no_customer", customer_id=customer_id)
    return customer


def visible_subscription(
    session: Session, principal: Principal, subscription_id: str, *, is_locked: bool = False
) -> Subscription:
    """One subscription, locked for a change if asked; NotFoundError outside the province."""
    subscription = session.get(Subscription, subscription_id, with_for_update=is_locked or None)
    if subscription is None or not principal.sees(subscription.province_code):
        raise NotFoundError("no_subscription", subscription_id=subscription_id)
    return subscription


def current_plan(subscription: Subscription) -> ProductInstance | None:
    """The plan in force now, else the last one."""
    plans = [product for product in subscription.products if product.role == "plan"]
    now = datetime.now(UTC)
    in_force = [
        plan for plan in plans
        if plan.valid_from <= now and (plan.valid_to is None or now < plan.valid_to)
    ]  # fmt: skip
    return next(reversed(in_force or plans), None)


def scores_of(
    session: Session, *, principal: Principal, subscription_ids: list[str]
) -> dict[str, CustomerScore]:
    """Published scores by subscription, of the user's province."""
    principal.require("customer.read")
    query = select(CustomerScore).where(CustomerScore.subscription_id.in_(subscription_ids))
    query = principal.only_own_province(query, CustomerScore.province_code)
    return {score.subscription_id: score for score in session.scalars(query)}


def churn_list(session: Session, *, principal: Principal, limit: int = 10) -> list[CustomerScore]:
    """Of the subscriptions to warn of, those with most value at risk (a call list)."""
    principal.require("customer.read")
    query = (
        select(CustomerScore)
        .where(CustomerScore.churn_decile <= LAST_WARNING_DECILE)
        .order_by(CustomerScore.value_at_risk_amount.desc(), CustomerScore.subscription_id)
    )
    return list(
        session.scalars(
            principal.only_own_province(query, CustomerScore.province_code).limit(limit)
        )
    )


def reasons_of(score: CustomerScore) -> list[Reason]:
    """The reasons behind a churn warning, strongest first."""
    return [
        Reason(
            code=str(row.get("code", "")), zh=str(row.get("zh", "")), en=str(row.get("en", "")),
            contribution=row.get("contribution"),
        )
        for row in json.loads(score.churn_reasons or "[]")
    ]  # fmt: skip


def overview_counts(session: Session, *, principal: Principal) -> dict[str, int]:
    """How many customers, active subscriptions, free numbers and open orders the user sees."""
    principal.require("customer.read")
    counted: dict[str, tuple[Any, Any]] = {
        "customers": (select(func.count()).select_from(Customer), Customer.province_code),
        "subscriptions": (
            select(func.count()).select_from(Subscription).where(Subscription.status == "active"),
            Subscription.province_code,
        ),
        "free_numbers": (
            select(func.count()).select_from(Msisdn).where(Msisdn.status == "free"),
            Msisdn.province_code,
        ),
        "open_orders": (
            select(func.count()).select_from(CustomerOrder)
            .where(CustomerOrder.state.in_(("draft", "submitted"))),
            CustomerOrder.province_code,
        ),
    }  # fmt: skip
    return {
        name: session.scalar(principal.only_own_province(query, column)) or 0
        for name, (query, column) in counted.items()
    }


# Orders -----------------------------------------------------------------------------------------


def free_numbers(
    session: Session, *, principal: Principal, province_code: str, ending: str = "", limit: int = 20
) -> list[str]:
    """Free numbers of a province, to choose from: at most so many mobile ones, then fixed ones."""
    principal.require("order.place")
    if not principal.sees(province_code):
        raise NotFoundError("other_province", province_code=province_code)
    query = select(Msisdn.msisdn).where(
        Msisdn.status == "free", Msisdn.province_code == province_code
    )
    if ending:
        query = query.where(Msisdn.msisdn.endswith(ending, autoescape=True))
    is_fixed = Msisdn.msisdn.regexp_match(FIXED_NUMBER)
    return [
        number
        for kind, most in ((~is_fixed, limit), (is_fixed, FIXED_NUMBERS_SHOWN))
        for number in session.scalars(query.where(kind).order_by(Msisdn.msisdn).limit(most))
    ]


def find_offering(session: Session, offering_id: str | None) -> Offering | None:
    """What an order asks for, if there is such an offering."""
    return session.get(Offering, offering_id) if offering_id else None


def plans_on_sale(session: Session) -> list[tuple[Offering, PricePlanVersion]]:
    """Active plans with their version in force, cheapest first."""
    return _on_sale(session, "plan")


def bundles_on_sale(session: Session) -> list[tuple[Offering, PricePlanVersion]]:
    """Active bundles with their version in force, cheapest first."""
    return _on_sale(session, "bundle")


def _on_sale(session: Session, offering_type: str) -> list[tuple[Offering, PricePlanVersion]]:
    now = func.now()
    rows = session.execute(
        select(Offering, PricePlanVersion)
        .join(PricePlanVersion, PricePlanVersion.offering_id == Offering.offering_id)
        .where(
            Offering.offering_type == offering_type, Offering.status == "active",
            PricePlanVersion.valid_from <= now,
            or_(PricePlanVersion.valid_to.is_(None), PricePlanVersion.valid_to > now),
        )
        .order_by(PricePlanVersion.monthly_fee_amount, Offering.offering_id)
    ).all()  # fmt: skip
    return [(offering, version) for offering, version in rows]


def allowances_on_sale(session: Session) -> dict[str, list[Allowance]]:
    """Allowances of the plans on sale, by plan version."""
    versions = [version.plan_version_id for _, version in plans_on_sale(session)]
    found: dict[str, list[Allowance]] = {version: [] for version in versions}
    for allowance in session.scalars(
        select(Allowance)
        .where(Allowance.plan_version_id.in_(versions))
        .order_by(Allowance.unit.desc(), Allowance.priority)
    ):
        found[allowance.plan_version_id].append(allowance)
    return found


def components_on_sale(session: Session) -> dict[str, list[Offering]]:
    """What the bundles on sale are made of, by bundle version: plans first."""
    versions = [version.plan_version_id for _, version in bundles_on_sale(session)]
    found: dict[str, list[Offering]] = {version: [] for version in versions}
    rows = session.execute(
        select(BundleComponent.plan_version_id, Offering)
        .join(Offering, Offering.offering_id == BundleComponent.offering_id)
        .where(BundleComponent.plan_version_id.in_(versions))
        .order_by(Offering.offering_type.desc(), Offering.offering_id)
    )
    for version, offering in rows:
        found[version].append(offering)
    return found


def order_provinces(session: Session, *, principal: Principal) -> list[str]:
    """Provinces in which the user may place an order: those seen that have free numbers."""
    principal.require("order.place")
    query = select(Msisdn.province_code).where(Msisdn.status == "free").distinct()
    query = principal.only_own_province(query, Msisdn.province_code)
    return list(session.scalars(query.order_by(Msisdn.province_code)))


def save_draft(
    settings: Settings, *, principal: Principal, order_id: str, request: OrderRequest
) -> CustomerOrder:
    """Keep an order as a draft. The same id and request again gives the same order.

    Raises IdempotencyError when the id was used for another request or by another person,
    InvalidRequestError when it can be none.
    """
    principal.require("order.place")
    if not 1 <= len(order_id) <= _LONGEST_ORDER_ID or not order_id.isprintable():
        raise InvalidRequestError("order_id_wrong", longest=_LONGEST_ORDER_ID)
    if isinstance(request, NewSubscriptionRequest) and not principal.sees(request.province_code):
        raise InvalidRequestError("other_province", province_code=request.province_code)
    requested = request.model_dump(mode="json", exclude_none=True)
    with transaction(settings) as session:
        if isinstance(request, NewSubscriptionRequest):
            order_type, province_code = "new_subscription", request.province_code
        else:
            line = visible_subscription(session, principal, request.subscription_id)
            order_type, province_code = "bundle", line.province_code
        created = session.execute(
            insert(CustomerOrder)
            .values(
                order_id=order_id, order_type=order_type, state="draft",
                requested=requested, placed_by=principal.username, province_code=province_code,
            )
            .on_conflict_do_nothing(index_elements=["order_id"])
            .returning(CustomerOrder.order_id)
        ).first()  # fmt: skip
        order = session.get_one(CustomerOrder, order_id)
        if created is None:
            if (order.requested, order.placed_by) != (requested, principal.username):
                raise IdempotencyError("order_reused", order_id=order_id)
            return order
        session.add(_event(order, None, "draft", principal))
        _audit_order(session, order, "save_order", principal)
        return order


def place_order(
    settings: Settings, *, principal: Principal, order_id: str, request: OrderRequest
) -> CustomerOrder:
    """Take an order, submit it and complete it; placing the same order again changes nothing."""
    save_draft(settings, principal=principal, order_id=order_id, request=request)
    return submit_order(settings, principal=principal, order_id=order_id)


def submit_order(settings: Settings, *, principal: Principal, order_id: str) -> CustomerOrder:
    """Submit a draft and complete it: customer, account, lines, products and numbers at once.

    The submission is kept by itself, so an order interrupted before completion is completed when
    it is submitted again. An order that cannot be completed ends as failed, and OrderError says
    why. A completed order is returned as it is.
    """
    with transaction(settings) as session:
        order = _lock_order(session, principal, order_id)
        if order.state == "completed":
            return order
        if order.state == "draft":
            _move(session, order, "submitted", principal)
        elif order.state != "submitted":
            raise OrderError("order_over", order_id=order_id, state=order.state)
    try:
        return _in_order(settings, principal, order_id, _complete)
    except OrderError as error:
        reason = str(error)
        _in_order(
            settings, principal, order_id,
            lambda session, order, who: _move(session, order, "failed", who, reason=reason),
        )  # fmt: skip
        raise


def cancel_order(settings: Settings, *, principal: Principal, order_id: str) -> CustomerOrder:
    """Cancel an order that is not completed yet; cancelling again changes nothing."""
    return _in_order(
        settings, principal, order_id,
        lambda session, order, who: _move(session, order, "cancelled", who),
    )  # fmt: skip


def find_order(session: Session, *, principal: Principal, order_id: str) -> CustomerOrder:
    """One order with its events; NotFoundError outside the province."""
    principal.require("order.read")
    order = session.get(CustomerOrder, order_id, options=[selectinload(CustomerOrder.events)])
    if order is None or not principal.sees(order.province_code):
        raise NotFoundError("no_order", order_id=order_id)
    return order


def list_orders(
    session: Session, *, principal: Principal, state: str | None = None,
    limit: int = PAGE_ROWS, offset: int = 0,
) -> list[CustomerOrder]:  # fmt: skip
    """Orders of the user's province, newest first."""
    principal.require("order.read")
    query = select(CustomerOrder)
    if state:
        query = query.where(CustomerOrder.state == state)
    query = principal.only_own_province(query, CustomerOrder.province_code)
    return list(
        session.scalars(
            query.order_by(CustomerOrder.created_at.desc(), CustomerOrder.order_id)
            .limit(limit).offset(offset)
        )
    )  # fmt: skip


def next_order_states(session: Session, state: str) -> list[str]:
    """The states an order may go to from `state`."""
    return list(
        session.scalars(
            select(CustomerOrderTransition.to_state)
            .where(CustomerOrderTransition.from_state == state)
            .order_by(CustomerOrderTransition.to_state)
        )
    )


def order_transitions(session: Session) -> list[tuple[str, str]]:
    """The whole state machine of orders."""
    rows = session.scalars(select(CustomerOrderTransition))
    order = {state: position for position, state in enumerate(ORDER_STATES)}
    pairs = [(row.from_state, row.to_state) for row in rows]
    return sorted(pairs, key=lambda pair: (order[pair[0]], order[pair[1]]))


def _in_order(
    settings: Settings, principal: Principal, order_id: str,
    change: Callable[[Session, CustomerOrder, Principal], None],
) -> CustomerOrder:  # fmt: skip
    with transaction(settings) as session:
        order = _lock_order(session, principal, order_id)
        change(session, order, principal)
        return order


def _lock_order(session: Session, principal: Principal, order_id: str) -> CustomerOrder:
    principal.require("order.place")
    order = session.scalar(
        select(CustomerOrder).where(CustomerOrder.order_id == order_id).with_for_update()
    )
    if order is None or not principal.sees(order.province_code):
        raise NotFoundError("no_order", order_id=order_id)
    return order


def _move(
    session: Session, order: CustomerOrder, to_state: str, principal: Principal, reason: str = ""
) -> None:
    if order.state == to_state:
        return
    allowed = next_order_states(session, order.state)
    if to_state not in allowed:
        raise OrderError(
            "order_transition", order_id=order.order_id, state=order.state, to_state=to_state,
            allowed_state=allowed,
        )  # fmt: skip
    session.add(_event(order, order.state, to_state, principal))
    order.state = to_state
    _audit_order(session, order, f"order_{to_state}", principal, reason)


def _complete(session: Session, order: CustomerOrder, principal: Principal) -> None:
    """Create all that the order asks for, in the running transaction."""
    if order.state == "completed":
        return
    if order.order_type == "bundle":
        _complete_bundle(session, order, principal)
    else:
        _complete_subscription(session, order, principal)
    order.completed_at = datetime.now(UTC)
    _move(session, order, "completed", principal)


def _complete_bundle(session: Session, order: CustomerOrder, principal: Principal) -> None:
    """Give lines that are there the bundle of the order."""
    request = BundleRequest.model_validate(order.requested)
    now = datetime.now(UTC)
    line = _line_there(session, principal, request.subscription_id, at=now)
    offering, version = _sold(session, request.offering_id, "bundle")
    plans = plans_of(session, offering, version, now)
    if line.service_type not in plans:
        raise OrderError(
            "plan_of_other_service", offering_id=request.offering_id, msisdn=line.msisdn
        )
    lines: Lines = {line.service_type: line}
    if other := _other_kind(plans, line.service_type, request):
        lines[other] = _line_there(
            session, principal, str(request.with_subscription_id), at=now,
            account_id=line.account_id, service_type=other,
        )  # fmt: skip
    give_bundle(session, offering, version, lines, now)
    order.customer_id, order.subscription_id = line.account.customer_id, line.subscription_id


def _complete_subscription(session: Session, order: CustomerOrder, principal: Principal) -> None:
    """Make the lines of the order and give them what it asks for."""
    request = NewSubscriptionRequest.model_validate(order.requested)
    now = datetime.now(UTC)
    offering, version = _sold(session, request.offering_id, "plan", "bundle")
    plans = plans_of(session, offering, version, now)
    service_type = service_type_of(request.msisdn)
    if service_type not in plans:
        raise OrderError(
            "plan_of_other_service", offering_id=request.offering_id, msisdn=request.msisdn
        )
    other = _other_kind(plans, service_type, request)
    _assign_number(session, request.msisdn, request.province_code)
    customer = _customer_of(session, principal, request)
    account = _account_of(session, customer, request)
    line = _new_line(session, account, request, request.msisdn, at=now)
    lines: Lines = {service_type: line}
    if other and request.second_msisdn is not None:
        if service_type_of(request.second_msisdn) != other:
            raise OrderError(
                "plan_of_other_service", offering_id=request.offering_id,
                msisdn=request.second_msisdn,
            )  # fmt: skip
        _assign_number(session, request.second_msisdn, request.province_code)
        lines[other] = _new_line(session, account, request, request.second_msisdn, at=now)
    elif other:
        lines[other] = _line_there(
            session, principal, str(request.with_subscription_id), at=now,
            account_id=account.account_id, service_type=other,
        )  # fmt: skip
    if offering.offering_type == "bundle":
        give_bundle(session, offering, version, lines, now)
    else:
        give(session, offering, line, now)
    order.customer_id, order.subscription_id = customer.customer_id, line.subscription_id


def _sold(
    session: Session, offering_id: str, *offering_types: str
) -> tuple[Offering, PricePlanVersion]:
    on_sale = [sold for kind in offering_types for sold in _on_sale(session, kind)]
    found = next((sold for sold in on_sale if sold[0].offering_id == offering_id), None)
    if found is None:
        raise OrderError("plan_not_on_sale", offering_id=offering_id)
    return found


def _other_kind(plans: dict[str, Offering], service_type: str, request: OrderRequest) -> str | None:
    """The kind of the other line that an offering is for; the request names one exactly then."""
    other = next((kind for kind in plans if kind != service_type), None)
    is_named = request.with_subscription_id is not None or (
        isinstance(request, NewSubscriptionRequest) and request.second_msisdn is not None
    )
    if other and not is_named:
        raise OrderError(_MISSING[other], offering_id=request.offering_id)
    if is_named and not other:
        raise OrderError("other_line_superfluous", offering_id=request.offering_id)
    return other


_MISSING = {"mobile": "mobile_line_missing", "fixed": "fixed_line_missing"}
_OF_OTHER_KIND = {"mobile": "line_is_not_mobile", "fixed": "line_is_not_fixed"}


def _new_line(
    session: Session, account: Account, request: NewSubscriptionRequest, msisdn: str, *,
    at: datetime,
) -> Subscription:  # fmt: skip
    subscription = Subscription(
        subscription_id=next_id(session, "S", "crm.subscription_number"),
        account_id=account.account_id, msisdn=msisdn,
        imsi=request.imsi if msisdn == request.msisdn else None,
        service_type=service_type_of(msisdn), payment_type=request.payment_type, status="active",
        valid_from=at, valid_to=None, province_code=request.province_code,
    )  # fmt: skip
    session.add(subscription)
    try:
        session.flush()
    except IntegrityError as error:  # the pool says free, but somebody has the number
        if "one_subscription_per_msisdn" not in str(error.orig):
            raise
        raise OrderError("number_not_free", msisdn=msisdn, state="assigned") from error
    return subscription


def _line_there(
    session: Session, principal: Principal, subscription_id: str, *, at: datetime,
    account_id: str | None = None, service_type: str | None = None,
) -> Subscription:  # fmt: skip
    """A line that goes on, of the account and the kind asked for, locked for a change."""
    try:
        line = visible_subscription(session, principal, subscription_id, is_locked=True)
    except NotFoundError as error:
        raise OrderError("no_subscription", subscription_id=subscription_id) from error
    if account_id is not None and line.account_id != account_id:
        raise OrderError("line_of_other", subscription_id=subscription_id, account_id=account_id)
    if line.status == "terminated" or (line.valid_to is not None and line.valid_to <= at):
        raise OrderError("line_is_gone", subscription_id=subscription_id)
    if service_type is not None and line.service_type != service_type:
        raise OrderError(_OF_OTHER_KIND[service_type], subscription_id=subscription_id)
    return line


def end_product(
    settings: Settings, *, principal: Principal, product_instance_id: str
) -> ProductInstance:
    """End a bundle of a line now: its add-ons end with it, its plans stay at their own fee.

    Raises:
        NotFoundError: there is no such product, or it is of another province.
        ConflictError: it is no bundle, has not begun, or has ended.
    """
    principal.require("product.end")
    with transaction(settings) as session:
        product = session.get(ProductInstance, product_instance_id, with_for_update=True)
        if product is None:
            raise NotFoundError("no_product", product_instance_id=product_instance_id)
        line = visible_subscription(session, principal, product.subscription_id)
        now = datetime.now(UTC)
        if product.role != "bundle":
            raise ConflictError("product_is_no_bundle", product_instance_id=product_instance_id)
        if product.valid_from >= now:
            raise ConflictError("product_not_begun", product_instance_id=product_instance_id)
        if product.valid_to is not None and product.valid_to <= now:
            raise ConflictError("product_ended", product_instance_id=product_instance_id)
        end_bundle(session, product, now)
        audit.record(
            session, username=principal.username, action="end_bundle", entity_type="subscription",
            entity_id=line.subscription_id, province_code=line.province_code,
            detail={
                "product_instance_id": product_instance_id, "offering_id": product.offering_id,
            },
        )  # fmt: skip
        return product


def _assign_number(session: Session, msisdn: str, province_code: str) -> None:
    """Take the number out of the pool; of two orders at once the second waits and is refused."""
    number = session.scalar(select(Msisdn).where(Msisdn.msisdn == msisdn).with_for_update())
    if number is None or number.province_code != province_code:
        raise OrderError("number_not_in_pool", msisdn=msisdn, province_code=province_code)
    if number.status != "free":
        raise OrderError("number_not_free", msisdn=msisdn, state=number.status)
    number.status = "assigned"
    session.flush()


def _customer_of(
    session: Session, principal: Principal, request: NewSubscriptionRequest
) -> Customer:
    if request.customer_id is not None:
        customer = session.get(Customer, request.customer_id)
        if customer is None or not principal.sees(customer.province_code):
            raise OrderError("no_customer", customer_id=request.customer_id)
        if customer.province_code != request.province_code:
            raise OrderError(
                "customer_province", customer_id=customer.customer_id,
                province_code=customer.province_code,
            )  # fmt: skip
        return customer
    customer = Customer(
        customer_id=next_id(session, "C", "crm.customer_number"),
        customer_type=request.customer_type, name=request.customer_name or "",
        id_number=request.id_number, segment=None, province_code=request.province_code,
    )  # fmt: skip
    session.add(customer)
    session.flush()
    return customer


def _account_of(session: Session, customer: Customer, request: NewSubscriptionRequest) -> Account:
    if request.account_id is not None:
        account = session.get(Account, request.account_id)
        if account is None or account.customer_id != customer.customer_id:
            raise OrderError(
                "account_of_other", account_id=request.account_id, customer_id=customer.customer_id
            )
        if account.status != "active":
            raise OrderError("account_closed", account_id=account.account_id)
        return account
    account = Account(
        account_id=next_id(session, "A", "crm.account_number"),
        customer_id=customer.customer_id, account_name=customer.name,
        bill_language=request.bill_language, status="active",
        province_code=request.province_code,
    )  # fmt: skip
    session.add(account)
    session.flush()
    return account


def _event(
    order: CustomerOrder, from_state: str | None, to_state: str, principal: Principal
) -> CustomerOrderEvent:
    return CustomerOrderEvent(
        order_id=order.order_id, from_state=from_state, to_state=to_state,
        by_user=principal.username,
    )  # fmt: skip


def _audit_order(
    session: Session, order: CustomerOrder, action: str, principal: Principal, reason: str = ""
) -> None:
    detail = {
        name: value
        for name, value in (
            ("offering_id", order.requested.get("offering_id")),
            ("customer_id", order.customer_id),
            ("subscription_id", order.subscription_id),
        )
        if value
    }
    if reason:
        msisdn = str(order.requested.get("msisdn", ""))
        detail["reason"] = reason.replace(msisdn, "…") if msisdn else reason
    audit.record(
        session, username=principal.username, action=action, entity_type="customer_order",
        entity_id=order.order_id, province_code=order.province_code, detail=detail,
    )  # fmt: skip


# Scores -----------------------------------------------------------------------------------------


def publish_scores(settings: Settings, scores: pa.Table) -> int:
    """Replace all scores by `scores`, in one transaction; returns the rows published.

    Columns as crm.customer_score; others are not looked at. `churn_probability` may come
    as a float; it is kept to 6 digits.
    """
    position = scores.schema.get_field_index("churn_probability")
    probability = scores.column(position) if position >= 0 else None
    if probability is not None and pa.types.is_floating(probability.type):
        exact = pc.round(probability.cast(pa.float64()), ndigits=6).cast(pa.decimal128(9, 6))
        scores = scores.set_column(position, "churn_probability", exact)
    with driver_transaction(settings) as connection:
        names = copy_to_temporary(
            connection,
            data=scores,
            like=_CUSTOMER_SCORE,
            temporary="new_score",
            only=_SCORE_COLUMNS,
        )
        # One publisher at a time; readers go on reading the old rows until this one commits.
        connection.execute("lock table crm.customer_score in share row exclusive mode")
        connection.execute("delete from crm.customer_score")
        columns = sql.SQL(", ").join(map(sql.Identifier, names))
        return int(
            connection.execute(
                sql.SQL("insert into crm.customer_score ({}) select {} from new_score").format(
                    columns, columns
                )
            ).rowcount
        )
