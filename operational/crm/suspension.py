"""Suspending a line when its customer asks for it 停机保号, and resuming it.

The database keeps since when a line has its status, so that days can be priced by it.
"""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from operational import audit
from operational.crm.models import Subscription, SubscriptionStatus
from operational.crm.service import find_subscription, visible_subscription
from operational.database import transaction
from operational.permissions import Principal
from operational.problems import ConflictError, InvalidRequestError
from tollhouse.settings import Settings

CHOICES = ("active", "suspended")


def status_history(
    session: Session, *, principal: Principal, subscription_id: str
) -> list[SubscriptionStatus]:
    """The statuses of a line, the newest first; NotFoundError outside the province."""
    find_subscription(session, principal=principal, subscription_id=subscription_id)
    return list(
        session.scalars(
            select(SubscriptionStatus)
            .where(SubscriptionStatus.subscription_id == subscription_id)
            .order_by(SubscriptionStatus.subscription_status_id.desc())
        )
    )


def set_status(
    settings: Settings, *, principal: Principal, subscription_id: str, status: str
) -> Subscription:
    """Suspend a line, or resume it, now; what it is already stays as it is.

    Raises:
        InvalidRequestError: the status is neither.
        ConflictError: the line is terminated or has ended.
    """
    principal.require("subscription.suspend")
    if status not in CHOICES:
        raise InvalidRequestError("bad_parameters", names=["status"])
    with transaction(settings) as session:
        line = visible_subscription(session, principal, subscription_id, is_locked=True)
        now = session.scalars(select(func.now())).one()
        if line.status == "terminated" or (line.valid_to is not None and line.valid_to <= now):
            raise ConflictError("subscription_ended", subscription_id=subscription_id)
        if line.status != status:
            line.status = status
            audit.record(
                session, username=principal.username,
                action="suspend_subscription" if status == "suspended" else "resume_subscription",
                entity_type="subscription", entity_id=subscription_id,
                province_code=line.province_code,
            )  # fmt: skip
        return line
