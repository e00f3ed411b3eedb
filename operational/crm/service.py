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
from sqlalchemy import exists, func, or_, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, selectinload

from operational import audit
from operational.bulk import copy_to_temporary
from operational.catalogue.models import Allowance, Offering, PricePlanVersion, UsagePrice
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
from operational.database import driver_transaction, transaction
from operational.permissions import Principal
from operational.problems import ConflictError, InvalidRequestError, NotFoundError
from tollhouse.settings import Settings

PAGE_ROWS = 50
ORDER_STATES = ("draft", "submitted", "completed", "cancelled", "failed")

_CUSTOMER_SCORE = "crm.customer_score"
_SCORE_COLUMNS = (
    "subscription_id", "account_id", "customer_id", "province_code", "churn_probability",
    "churn_decile", "churn_reasons", "value_amount", "value_segment", "value_at_risk_amount",
    "model_version", "data_cut_off", "run_id",
)  # fmt: skip


class OrderError(ConflictError):
    """An order cannot go on; the message says why and what to choose instead."""


class IdempotencyError(ConflictError):
    """The same order id was used before for another request."""


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Digits = StringConstraints(strip_whitespace=True, pattern=r"^[1-9]\d{7,14}$")


def service_type_of(msisdn: str) -> str:
    """Of a number in E.164 digits: fixed for those of Chinese areas, else mobile."""
    return "fixed" if re.fullmatch(r"86(?!1[3-9]).*", msisdn) else "mobile"


class NewSubscriptionRequest(BaseModel):
    """What a new-subscription order asks for.

    Either a customer that is there (`customer_id`) or a new one (`customer_name` …); either one
    of the customer's accounts (`account_id`) or a new one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    province_code: Annotated[str, StringConstraints(pattern=r"^\d{2}$")]
    customer_id: Text | None = None
    customer_name: Text | None = None
    customer_type: Literal["individual", "household", "group"] = "individual"
    id_number: Annotated[str, StringConstraints(strip_whitespace=True, max_length=40)] | None = None
    account_id: Text | None = None
    bill_language: Literal["zh", "en"] = "zh"
    offering_id: Text
    msisdn: Annotated[str, Digits]
    imsi: Annotated[str, StringConstraints(pattern=r"^\d{14,15}$")] | None = None
    payment_type: Literal["postpaid", "prepaid"] = "postpaid"

    @field_validator("imsi")
    @classmethod
    def _no_card_of_a_fixed_line(cls, imsi: str | None, info: ValidationInfo) -> str | None:
        if imsi is not None and service_type_of(str(info.data.get("msisdn"))) == "fixed":
            raise ValueError("a fixed line has no card: leave the IMSI out")
        return imsi

    @model_validator(mode="after")
    def _one_customer(self) -> Self:
        if (self.customer_id is None) == (self.customer_name is None):
            raise ValueError("choose a customer or give the name of a new one, not both")
        if self.account_id is not None and self.customer_id is None:
            raise ValueError("an account belongs to a customer that is there: choose the customer")
        return self


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
    """Free numbers of a province, to choose from."""
    principal.require("order.place")
    if not principal.sees(province_code):
        raise NotFoundError("other_province", province_code=province_code)
    query = select(Msisdn.msisdn).where(
        Msisdn.status == "free", Msisdn.province_code == province_code
    )
    if ending:
        query = query.where(Msisdn.msisdn.endswith(ending, autoescape=True))
    return list(session.scalars(query.order_by(Msisdn.msisdn).limit(limit)))


def plans_on_sale(session: Session) -> list[tuple[Offering, PricePlanVersion]]:
    """Active plans with their version in force, cheapest first."""
    now = func.now()
    rows = session.execute(
        select(Offering, PricePlanVersion)
        .join(PricePlanVersion, PricePlanVersion.offering_id == Offering.offering_id)
        .where(
            Offering.offering_type == "plan", Offering.status == "active",
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


def order_provinces(session: Session, *, principal: Principal) -> list[str]:
    """Provinces in which the user may place an order: those seen that have free numbers."""
    principal.require("order.place")
    query = select(Msisdn.province_code).where(Msisdn.status == "free").distinct()
    query = principal.only_own_province(query, Msisdn.province_code)
    return list(session.scalars(query.order_by(Msisdn.province_code)))


def save_draft(
    settings: Settings, *, principal: Principal, order_id: str, request: NewSubscriptionRequest
) -> CustomerOrder:
    """Keep an order as a draft. The same id and request again gives the same order.

    Raises IdempotencyError when the id was used for another request or by another person.
    """
    principal.require("order.place")
    if not principal.sees(request.province_code):
        raise InvalidRequestError("other_province", province_code=request.province_code)
    requested = request.model_dump(mode="json", exclude_none=True)
    with transaction(settings) as session:
        created = session.execute(
            insert(CustomerOrder)
            .values(
                order_id=order_id, order_type="new_subscription", state="draft",
                requested=requested, placed_by=principal.username,
                province_code=request.province_code,
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
    settings: Settings, *, principal: Principal, order_id: str, request: NewSubscriptionRequest
) -> CustomerOrder:
    """Take an order, submit it and complete it; placing the same order again changes nothing."""
    save_draft(settings, principal=principal, order_id=order_id, request=request)
    return submit_order(settings, principal=principal, order_id=order_id)


def submit_order(settings: Settings, *, principal: Principal, order_id: str) -> CustomerOrder:
    """Submit a draft and complete it: customer, account, subscription, plan and number at once.

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
    request = NewSubscriptionRequest.model_validate(order.requested)
    now = datetime.now(UTC)
    plan, version = next(
        (sold for sold in plans_on_sale(session) if sold[0].offering_id == request.offering_id),
        (None, None),
    )
    if plan is None or version is None:
        raise OrderError("plan_not_on_sale", offering_id=request.offering_id)
    service_type = service_type_of(request.msisdn)
    if service_type != _service_type_of_plan(session, version):
        raise OrderError(
            "plan_of_other_service", offering_id=request.offering_id, msisdn=request.msisdn
        )
    _assign_number(session, request)
    customer = _customer_of(session, principal, request)
    account = _account_of(session, customer, request)
    subscription = Subscription(
        subscription_id=_next_id(session, "S", "crm.subscription_number"),
        account_id=account.account_id, msisdn=request.msisdn, imsi=request.imsi,
        service_type=service_type, payment_type=request.payment_type, status="active",
        valid_from=now, valid_to=None, province_code=request.province_code,
    )  # fmt: skip
    session.add(subscription)
    try:
        session.flush()
    except IntegrityError as error:  # the pool says free, but somebody has the number
        if "one_subscription_per_msisdn" not in str(error.orig):
            raise
        raise OrderError("number_not_free", msisdn=request.msisdn, state="assigned") from error
    session.add(
        ProductInstance(
            product_instance_id=_next_id(session, "P", "crm.product_instance_number"),
            subscription_id=subscription.subscription_id, offering_id=plan.offering_id,
            role="plan", valid_from=now, valid_to=None,
        )
    )  # fmt: skip
    order.customer_id = customer.customer_id
    order.subscription_id = subscription.subscription_id
    order.completed_at = now
    _move(session, order, "completed", principal)


def _service_type_of_plan(session: Session, version: PricePlanVersion) -> str:
    """A plan is for fixed lines if it prices their calls apart."""
    has_fixed_price = select(UsagePrice).where(
        UsagePrice.plan_version_id == version.plan_version_id,
        UsagePrice.charge_class.startswith("fixed_", autoescape=True),
    )
    return "fixed" if session.scalar(select(has_fixed_price.exists())) else "mobile"


def _assign_number(session: Session, request: NewSubscriptionRequest) -> None:
    """Take the number out of the pool; of two orders at once the second waits and is refused."""
    number = session.scalar(select(Msisdn).where(Msisdn.msisdn == request.msisdn).with_for_update())
    if number is None or number.province_code != request.province_code:
        raise OrderError(
            "number_not_in_pool", msisdn=request.msisdn, province_code=request.province_code
        )
    if number.status != "free":
        raise OrderError("number_not_free", msisdn=request.msisdn, state=number.status)
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
        customer_id=_next_id(session, "C", "crm.customer_number"),
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
        account_id=_next_id(session, "A", "crm.account_number"),
        customer_id=customer.customer_id, account_name=customer.name,
        bill_language=request.bill_language, status="active",
        province_code=request.province_code,
    )  # fmt: skip
    session.add(account)
    session.flush()
    return account


def _next_id(session: Session, prefix: str, sequence: str) -> str:
    number = session.scalar(
        text("select nextval(cast(:sequence as regclass))"), {"sequence": sequence}
    )
    return f"{prefix}{number:07d}"


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
