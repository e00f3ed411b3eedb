"""Products of lines: plans, add-ons, and the bundles 融合套餐 that hold them together.

All of it in the transaction of the caller: a bundle is given whole, or not at all.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, or_, select, text
from sqlalchemy.orm import Session

from operational.catalogue.bundles import FIXED_CLASSES
from operational.catalogue.models import BundleComponent, Offering, PricePlanVersion, UsagePrice
from operational.crm.models import ProductInstance, Subscription
from operational.problems import ConflictError

Lines = dict[str, Subscription]  # by service type


class OrderError(ConflictError):
    """An order cannot go on; the message says why and what to choose instead."""


def next_id(session: Session, prefix: str, sequence: str) -> str:
    """The next id of a sequence."""
    number = session.scalar(
        text("select nextval(cast(:sequence as regclass))"), {"sequence": sequence}
    )
    return f"{prefix}{number:07d}"


def plan_service_type(session: Session, plan_version_id: str) -> str:
    """A plan is for fixed lines if it prices their calls apart."""
    has_fixed_price = select(UsagePrice).where(
        UsagePrice.plan_version_id == plan_version_id,
        UsagePrice.charge_class.startswith(FIXED_CLASSES, autoescape=True),
    )
    return "fixed" if session.scalar(select(has_fixed_price.exists())) else "mobile"


def plans_of(
    session: Session, offering: Offering, version: PricePlanVersion, at: datetime
) -> dict[str, Offering]:
    """The plans that come with an offering, by the service type of their line: itself, or a few."""
    if offering.offering_type == "plan":
        return {plan_service_type(session, version.plan_version_id): offering}
    rows = session.execute(
        select(Offering, PricePlanVersion.plan_version_id)
        .join(BundleComponent, BundleComponent.offering_id == Offering.offering_id)
        .join(PricePlanVersion, PricePlanVersion.offering_id == Offering.offering_id)
        .where(
            BundleComponent.plan_version_id == version.plan_version_id,
            Offering.offering_type == "plan", PricePlanVersion.valid_from <= at,
            or_(PricePlanVersion.valid_to.is_(None), PricePlanVersion.valid_to > at),
        )
    ).all()  # fmt: skip
    return {plan_service_type(session, version_id): plan for plan, version_id in rows}


def give(
    session: Session, offering: Offering, line: Subscription, at: datetime,
    bundle: ProductInstance | None = None,
) -> ProductInstance:  # fmt: skip
    """Give a line an offering from a moment on, by itself or through a bundle."""
    product = ProductInstance(
        product_instance_id=next_id(session, "P", "crm.product_instance_number"),
        subscription_id=line.subscription_id, offering_id=offering.offering_id,
        role=offering.offering_type,
        bundle_instance_id=bundle and bundle.product_instance_id, valid_from=at, valid_to=None,
    )  # fmt: skip
    session.add(product)
    session.flush()
    return product


def give_bundle(
    session: Session, bundle: Offering, version: PricePlanVersion, lines: Lines, at: datetime
) -> ProductInstance:
    """Give lines a bundle and all it groups: a line each plan, the first the rest.

    The bundle and its add-ons are the mobile line's, where there is one. A plan that a line has
    ends, and so does a bundle that these lines hold.

    Raises:
        OrderError: a line is held to a bundle of another line, or is to change later already.
    """
    for _, line in sorted(lines.items()):
        _make_room(session, line, lines, at)
    first = lines[min(lines, key=("mobile", "fixed").index)]
    product = give(session, bundle, first, at)
    plans = plans_of(session, bundle, version, at)
    for service_type, plan in plans.items():
        give(session, plan, lines[service_type], at, product)
    addons = session.scalars(
        select(Offering)
        .join(BundleComponent, BundleComponent.offering_id == Offering.offering_id)
        .where(
            BundleComponent.plan_version_id == version.plan_version_id,
            Offering.offering_type == "addon",
        )
        .order_by(Offering.offering_id)
    )  # fmt: skip
    for addon in addons.all():
        give(session, addon, first, at, product)
    return product


def end_bundle(session: Session, bundle: ProductInstance, at: datetime) -> None:
    """End a bundle: its add-ons end with it, plans stay, at their own fee from then on."""
    bundle.valid_to = at
    for component in session.scalars(
        select(ProductInstance)
        .where(
            ProductInstance.bundle_instance_id == bundle.product_instance_id,
            ProductInstance.role == "addon", _is_held(at),
        )
        .order_by(ProductInstance.product_instance_id)
        .with_for_update()
    ):  # fmt: skip
        component.valid_to = at
    session.flush()


def _is_held(at: datetime) -> ColumnElement[bool]:
    return or_(ProductInstance.valid_to.is_(None), ProductInstance.valid_to > at)


def _make_room(session: Session, line: Subscription, lines: Lines, at: datetime) -> None:
    """End the plan of a line, and the bundle it is held through."""
    held = session.scalars(
        select(ProductInstance)
        .where(ProductInstance.subscription_id == line.subscription_id, _is_held(at))
        .order_by(ProductInstance.product_instance_id)
        .with_for_update()
    ).all()
    if any(product.valid_from > at for product in held):
        raise OrderError("line_changes_later", subscription_id=line.subscription_id)
    for bundle_id in {product.bundle_instance_id or product.product_instance_id for product in held
                      if product.bundle_instance_id or product.role == "bundle"}:  # fmt: skip
        bundle = session.get_one(ProductInstance, bundle_id, with_for_update=True)
        if bundle.valid_to is not None and bundle.valid_to <= at:
            continue
        if bundle.subscription_id not in {one.subscription_id for one in lines.values()}:
            raise OrderError(
                "line_in_bundle", subscription_id=line.subscription_id,
                other=bundle.subscription_id,
            )  # fmt: skip
        end_bundle(session, bundle, at)
    for product in held:
        if product.role == "plan":
            product.valid_to = at
    session.flush()
