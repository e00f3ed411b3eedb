"""Pages of customers, subscriptions and orders."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import ValidationError

from operational.billing import service as billing
from operational.control import service as control
from operational.crm import relations, service, suspension
from operational.crm.products import OrderError
from operational.crm.service import BundleRequest, NewSubscriptionRequest
from operational.pages import FormOf, Page, PageOf, StartOf, see_other
from operational.problems import InvalidRequestError, NotFoundError

router = APIRouter()

_FORM_FIELDS = tuple(NewSubscriptionRequest.model_fields)


@router.get("/")
def overview(page: PageOf) -> Response:
    """The first page: counts, warnings, the latest cycle, files; as far as the role goes."""
    who, database = page.principal, page.database
    warnings = []
    if who.may("customer.read"):
        for score in service.churn_list(database, principal=who, limit=8):
            subscription = service.find_subscription(
                database, principal=who, subscription_id=score.subscription_id
            )
            warnings.append((score, subscription, service.reasons_of(score)[:2]))
    return page.render(
        "crm/overview.html",
        counts=service.overview_counts(database, principal=who) if who.may("customer.read") else {},
        warnings=warnings,
        cycles=billing.list_cycles(database)[:1] if who.may("cycle.read") else [],
        files=control.files_by_status(database, principal=who) if who.may("file.read") else {},
    )


@router.get("/customers")
def customers_page(page: PageOf, q: str = "", start: StartOf = 0) -> Response:
    """Search customers; htmx asks for the table alone while the reader types."""
    start = max(start, 0)
    found = service.search_customers(
        page.database, principal=page.principal, query=q, offset=start, limit=service.PAGE_ROWS + 1
    )
    partial = page.request.headers.get("HX-Request") is not None
    return page.render(
        "crm/customer_rows.html" if partial else "crm/customers.html",
        customers=found[: service.PAGE_ROWS], query=q, start=start,
        has_more=len(found) > service.PAGE_ROWS, page_rows=service.PAGE_ROWS,
    )  # fmt: skip


@router.get("/customers/{customer_id}")
def customer_page(page: PageOf, customer_id: str) -> Response:
    """All about one customer."""
    who, database = page.principal, page.database
    customer = service.find_customer(database, principal=who, customer_id=customer_id)
    accounts = [account.account_id for account in customer.accounts]
    subscriptions = [sub for account in customer.accounts for sub in account.subscriptions]
    scores = service.scores_of(
        database, principal=who, subscription_ids=[sub.subscription_id for sub in subscriptions]
    )
    return page.render(
        "crm/customer.html", customer=customer, scores=scores,
        plans={sub.subscription_id: service.current_plan(sub) for sub in subscriptions},
        warnings=[
            (scores[sub.subscription_id], sub, service.reasons_of(scores[sub.subscription_id]))
            for sub in subscriptions if sub.subscription_id in scores
        ],
        bills=billing.bills_of_accounts(database, principal=who, account_ids=accounts),
        payments=billing.payments_of_accounts(database, principal=who, account_ids=accounts),
        groups=relations.call_groups_of(database, principal=who, customer_id=customer_id),
    )  # fmt: skip


@router.get("/subscriptions/{subscription_id}")
def subscription_page(page: PageOf, subscription_id: str) -> Response:
    """All about one subscription."""
    who, database = page.principal, page.database
    subscription = service.find_subscription(
        database, principal=who, subscription_id=subscription_id
    )
    score = service.scores_of(database, principal=who, subscription_ids=[subscription_id])
    found = score.get(subscription_id)
    return page.render(
        "crm/subscription.html", subscription=subscription, customer=subscription.account.customer,
        plan=service.current_plan(subscription), score=found,
        why=service.reasons_of(found) if found else [],
        statuses=suspension.status_history(
            database, principal=who, subscription_id=subscription_id
        ),
        friends=relations.friend_numbers(
            database, principal=who, subscription_id=subscription_id
        ),
        membership=relations.membership_of(
            database, principal=who, subscription_id=subscription_id
        ),
        bundles=service.bundles_on_sale(database), order_id=_new_order_id(),
        now=datetime.now(UTC),
    )  # fmt: skip


@router.post("/subscriptions/{subscription_id}/bundle")
def take_bundle(page: PageOf, form: FormOf, subscription_id: str) -> Response:
    """Order a bundle for the line, and for another line of the account."""
    values = {name: form[name].strip() for name in ("offering_id", "with_subscription_id")
              if form.get(name, "").strip()}  # fmt: skip
    try:
        request = BundleRequest.model_validate(values | {"subscription_id": subscription_id})
    except ValidationError as error:
        names = sorted({str(item["loc"][0]) for item in error.errors()})
        raise InvalidRequestError("bad_parameters", names=names) from error
    order_id = form.get("order_id") or _new_order_id()
    service.place_order(page.settings, principal=page.principal, order_id=order_id, request=request)
    return see_other(f"/orders/{order_id}")


@router.post("/subscriptions/{subscription_id}/products/{product_instance_id}/end")
def end_product(
    page: PageOf, _form: FormOf, subscription_id: str, product_instance_id: str
) -> Response:
    """End a bundle of the line now."""
    service.end_product(
        page.settings, principal=page.principal, product_instance_id=product_instance_id
    )
    return see_other(f"/subscriptions/{subscription_id}")


@router.post("/subscriptions/{subscription_id}/status")
def set_status(page: PageOf, form: FormOf, subscription_id: str) -> Response:
    """Suspend the line at its customer's request, or resume it."""
    suspension.set_status(
        page.settings, principal=page.principal, subscription_id=subscription_id,
        status=form.get("status", ""),
    )  # fmt: skip
    return see_other(f"/subscriptions/{subscription_id}")


@router.post("/subscriptions/{subscription_id}/friend-numbers")
def add_friend_number(page: PageOf, form: FormOf, subscription_id: str) -> Response:
    """Name a number a friend of the line, from now on."""
    relations.add_friend_number(
        page.settings, principal=page.principal, subscription_id=subscription_id,
        number=form.get("number", ""),
    )  # fmt: skip
    return see_other(f"/subscriptions/{subscription_id}")


@router.post("/subscriptions/{subscription_id}/friend-numbers/{friend_number_id}/end")
def end_friend_number(
    page: PageOf, _form: FormOf, subscription_id: str, friend_number_id: int
) -> Response:
    """End a friend number now."""
    relations.end_friend_number(
        page.settings, principal=page.principal, subscription_id=subscription_id,
        friend_number_id=friend_number_id,
    )  # fmt: skip
    return see_other(f"/subscriptions/{subscription_id}")


@router.post("/customers/{customer_id}/call-groups")
def create_call_group(page: PageOf, form: FormOf, customer_id: str) -> Response:
    """Give a group customer a group with short numbers."""
    group = relations.create_call_group(
        page.settings, principal=page.principal, customer_id=customer_id,
        name=form.get("name", ""),
    )  # fmt: skip
    return see_other(f"/call-groups/{group.call_group_id}")


@router.get("/call-groups/{call_group_id}")
def call_group_page(page: PageOf, call_group_id: str) -> Response:
    """One group and its members."""
    who, database = page.principal, page.database
    return page.render(
        "crm/call_group.html",
        group=relations.find_call_group(database, principal=who, call_group_id=call_group_id),
        members=relations.members_of(database, principal=who, call_group_id=call_group_id),
    )


@router.post("/call-groups/{call_group_id}/members")
def add_group_member(page: PageOf, form: FormOf, call_group_id: str) -> Response:
    """Take a line into the group, from now on."""
    relations.add_member(
        page.settings, principal=page.principal, call_group_id=call_group_id,
        subscription_id=form.get("subscription_id", "").upper(),
        short_number=form.get("short_number", ""),
    )  # fmt: skip
    return see_other(f"/call-groups/{call_group_id}")


@router.post("/call-groups/{call_group_id}/members/{call_group_member_id}/end")
def end_group_member(
    page: PageOf, _form: FormOf, call_group_id: str, call_group_member_id: int
) -> Response:
    """Let a line leave the group now."""
    relations.end_member(
        page.settings, principal=page.principal, call_group_id=call_group_id,
        call_group_member_id=call_group_member_id,
    )  # fmt: skip
    return see_other(f"/call-groups/{call_group_id}")


@router.get("/orders")
def orders_page(page: PageOf, state: str = "", start: StartOf = 0) -> Response:
    """Orders, newest first."""
    start = max(start, 0)
    found = service.list_orders(
        page.database, principal=page.principal, state=state or None, offset=start,
        limit=service.PAGE_ROWS + 1,
    )  # fmt: skip
    return page.render(
        "crm/orders.html", orders=found[: service.PAGE_ROWS], state=state, start=start,
        has_more=len(found) > service.PAGE_ROWS, page_rows=service.PAGE_ROWS,
        states=service.ORDER_STATES,
    )  # fmt: skip


@router.get("/orders/new")
def order_form(page: PageOf, customer_id: str = "", province_code: str = "") -> Response:
    """An empty order form, with the id the order will have."""
    page.principal.require("order.place")
    fields = {"customer_id": customer_id, "province_code": province_code}
    return _order_form(page, fields | {"order_id": _new_order_id()})


@router.get("/orders/numbers")
def order_numbers(page: PageOf, province_code: str = "", ending: str = "") -> Response:
    """Free numbers to choose from, for the form."""
    numbers = service.free_numbers(
        page.database, principal=page.principal, province_code=province_code, ending=ending.strip()
    )
    return page.render("crm/order_numbers.html", numbers=numbers, chosen="")


@router.post("/orders")
def place_order(page: PageOf, form: FormOf) -> Response:
    """Place the order of the form, or keep it as a draft."""
    who = page.principal
    is_existing = form.get("customer_choice") == "existing"
    ignored = {"customer_name", "id_number"} if is_existing else {"customer_id", "account_id"}
    values = {name: form[name] for name in _FORM_FIELDS if form.get(name) and name not in ignored}
    order_id = form.get("order_id") or _new_order_id()
    try:
        request = NewSubscriptionRequest.model_validate(values)
    except ValidationError as error:
        wrong = [str(item["loc"][0]) if item["loc"] else "customer" for item in error.errors()]
        return _order_form(page, form | {"order_id": order_id}, status=422, wrong=wrong)
    if form.get("intent") == "draft":
        service.save_draft(page.settings, principal=who, order_id=order_id, request=request)
        return see_other(f"/orders/{order_id}")
    try:
        service.place_order(page.settings, principal=who, order_id=order_id, request=request)
    except OrderError as error:
        # The failed order stays as it is; the form, corrected, becomes another order.
        again = form | {"order_id": _new_order_id()}
        return _order_form(page, again, status=409, problem=error)
    return see_other(f"/orders/{order_id}")


@router.get("/orders/{order_id}")
def order_page(page: PageOf, order_id: str) -> Response:
    """One order with its history."""
    order = service.find_order(page.database, principal=page.principal, order_id=order_id)
    return page.render(
        "crm/order.html", order=order,
        offering=service.find_offering(page.database, order.requested.get("offering_id")),
        allowed=service.next_order_states(page.database, order.state),
        transitions=service.order_transitions(page.database),
    )  # fmt: skip


@router.post("/orders/{order_id}/submit")
def submit_order(page: PageOf, _form: FormOf, order_id: str) -> Response:
    """Submit a draft and complete it."""
    service.submit_order(page.settings, principal=page.principal, order_id=order_id)
    return see_other(f"/orders/{order_id}")


@router.post("/orders/{order_id}/cancel")
def cancel_order(page: PageOf, _form: FormOf, order_id: str) -> Response:
    """Cancel an order that is not completed."""
    service.cancel_order(page.settings, principal=page.principal, order_id=order_id)
    return see_other(f"/orders/{order_id}")


def _new_order_id() -> str:
    return f"O-{uuid.uuid4().hex[:20]}"


def _order_form(
    page: Page, fields: dict[str, str], *, status: int = 200, wrong: list[str] | None = None,
    problem: OrderError | None = None,
) -> Response:  # fmt: skip
    """The form with what was filled in, and what is wrong with it."""
    who = page.principal
    customer = None
    if customer_id := fields.get("customer_id", "").upper():
        try:
            customer = service.find_customer(page.database, principal=who, customer_id=customer_id)
        except NotFoundError:
            customer = None
    provinces = service.order_provinces(page.database, principal=who)
    province = fields.get("province_code") or (
        customer.province_code if customer else next(iter(provinces), who.province_code)
    )
    if not who.sees(province):
        province = who.province_code
    values: dict[str, Any] = dict.fromkeys((*_FORM_FIELDS, "order_id", "customer_choice"), "")
    values |= fields | {"province_code": province}
    values["customer_choice"] = fields.get("customer_choice") or (
        "existing" if fields.get("customer_id") else "new"
    )
    numbers = service.free_numbers(page.database, principal=who, province_code=province)
    chosen = values["msisdn"]
    return page.render(
        "crm/order_form.html", status, fields=values, customer=customer,
        provinces=provinces or [province], plans=service.plans_on_sale(page.database),
        bundles=service.bundles_on_sale(page.database),
        components=service.components_on_sale(page.database),
        allowances=service.allowances_on_sale(page.database), numbers=numbers, chosen=chosen,
        wrong=sorted(set(wrong or [])), problem=problem,
    )  # fmt: skip
