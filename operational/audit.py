"""Writes the audit log: every change by a person (or a loader) leaves a row, in its transaction."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from operational.i18n import MissingMessageError, has_message
from operational.identity.models import AuditLog


def record(
    session: Session, *, username: str, action: str, entity_type: str, entity_id: str,
    province_code: str, detail: dict[str, Any] | None = None,
) -> None:  # fmt: skip
    """Add one audit row to the running transaction. Personal data does not belong in `detail`.

    Raises MissingMessageError for an action or type of entity that pages have no word for.
    """
    for key in (f"audit_action.{action}", f"audit_entity.{entity_type}"):
        if not has_message(key):
            raise MissingMessageError(key)
    session.add(
        AuditLog(
            username=username, action=action, entity_type=entity_type, entity_id=entity_id,
            province_code=province_code, detail=detail or {},
        )
    )  # fmt: skip
