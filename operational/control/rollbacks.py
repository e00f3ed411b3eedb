"""Rollbacks in the journal: which files were taken back, by whom and why, and whether it is done.

What hung on the files is found in the warehouse by `tollhouse.rollback`, which then has the
warehouse follow the journal.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from operational import audit
from operational.billing.models import BillingCycle
from operational.control.models import PipelineRun, Rollback, RollbackFile, UsageFile
from operational.database import transaction
from operational.permissions import HEADQUARTERS, Principal
from operational.problems import ConflictError, InvalidRequestError, NotFoundError
from tollhouse.settings import Settings

SCOPES = ("file", "batch")
LIVE = ("collected", "landed", "mediated")  # files that count; others have nothing to take back
CLOSED_STATES = ("approved", "final")
# The steps that make the warehouse follow the journal, in their order.
FOLLOWING_STEPS = ("mediate", "rate", "settle", "build_marts")


@dataclass(frozen=True)
class FileCounts:
    """What hangs on one file."""

    file_id: str
    raw_records: int
    usage_records: int
    charges: int
    charge_amount: Decimal


@dataclass
class CycleCounts:
    """What of one billing cycle hangs on the files."""

    charges: int = 0
    charge_amount: Decimal = Decimal(0)
    settlement_entries: int = 0
    settlement_amount: Decimal = Decimal(0)


# Kept with a rollback as a document, its amounts as text.
_CYCLES = TypeAdapter(dict[str, CycleCounts])


@dataclass(frozen=True)
class RollbackView:
    """A rollback with its files, for a page.

    `cycles` are its sums by billing cycle; None where they hold files that the user does not see.
    """

    rollback: Rollback
    files: list[tuple[RollbackFile, UsageFile]]
    cycles: dict[str, CycleCounts] | None


def files_to_roll_back(
    session: Session, *, principal: Principal, scope: str, target: str
) -> list[UsageFile]:
    """The files of a rollback, by id: the one named, or all that were landed in the batch.

    Raises:
        NotFoundError: there is no such file or batch.
        ConflictError: all of it was taken back, or never taken in.
    """
    principal.require("file.rollback")
    column = UsageFile.file_id if scope == "file" else UsageFile.batch_id
    query = principal.only_own_province(
        select(UsageFile).where(column == target), UsageFile.province_code
    )
    files = list(session.scalars(query.order_by(UsageFile.file_id)))
    if not files:
        raise NotFoundError("no_file" if scope == "file" else "no_batch", target=target)
    live = [file for file in files if file.status in LIVE]
    if not live:
        raise ConflictError("nothing_to_roll_back", target=target, status_state=files[0].status)
    return live


def raw_records_gone(file_ids: Sequence[str]) -> ConflictError:
    """What is said of files whose raw records were deleted: the calls in them stay as they are."""
    return ConflictError("raw_records_gone", names=list(file_ids))


def closed_cycles(session: Session, cycle_ids: Sequence[str]) -> list[str]:
    """Those of the cycles whose figures may not change any more."""
    query = select(BillingCycle.cycle_id).where(
        BillingCycle.cycle_id.in_(cycle_ids), BillingCycle.state.in_(CLOSED_STATES)
    )
    return list(session.scalars(query.order_by(BillingCycle.cycle_id)))


def request_rollback(
    settings: Settings, *, principal: Principal, scope: str, target: str, reason: str,
    files: Sequence[FileCounts], counts: Mapping[str, Any], cycle_ids: Sequence[str],
) -> str:  # fmt: skip
    """Take files back in the journal: status, revision and the record of it in one transaction.

    From here on the files do not count; `complete_rollback` notes that the warehouse followed.

    Args:
        settings: says where.
        principal: who wants it.
        scope: `file` or `batch`.
        target: its id.
        reason: why.
        files: the files with what hangs on each, as shown to the user.
        counts: the same in sums, as shown to the user.
        cycle_ids: the cycles that the usage of these files is charged or settled in.

    Returns:
        The id of the rollback.

    Raises:
        ConflictError: a cycle is closed, or a file changed since it was looked at.
        InvalidRequestError: no reason is given.
    """
    principal.require("file.rollback")
    reason = reason.strip()
    if not reason:
        raise InvalidRequestError("reason_missing")
    with transaction(settings) as session:
        # A cycle that is held cannot be approved meanwhile.
        session.execute(
            select(BillingCycle.cycle_id)
            .where(BillingCycle.cycle_id.in_(cycle_ids))
            .with_for_update(read=True)
        )
        if closed := closed_cycles(session, cycle_ids):
            raise ConflictError("cycle_closed_to_rollback", target=target, cycles=closed)
        wanted = [file.file_id for file in files]
        held = session.scalars(
            select(UsageFile)
            .where(UsageFile.file_id.in_(wanted), UsageFile.status.in_(LIVE))
            .order_by(UsageFile.file_id)
            .with_for_update()
        ).all()
        if changed := sorted(set(wanted) - {file.file_id for file in held}):
            raise ConflictError("files_changed", names=changed[:5])
        now = datetime.now(UTC)
        rollback_id = f"rollback-{now:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
        session.add(
            Rollback(
                rollback_id=rollback_id, scope=scope, target=target, reason=reason,
                requested_by=principal.username, counts=dict(counts),
            )
        )  # fmt: skip
        session.flush()
        session.add_all(RollbackFile(rollback_id=rollback_id, **vars(file)) for file in files)
        for file in held:
            file.status = "rolled_back"
            file.status_reason_code = "rolled_back"
            file.status_reason_values = {"who": principal.username, "why": reason}
            file.revision += 1
        provinces = {file.province_code for file in held}
        audit.record(
            session, username=principal.username, action="roll_back", entity_type="rollback",
            entity_id=rollback_id,
            province_code=provinces.pop() if len(provinces) == 1 else HEADQUARTERS,
            detail={"scope": scope, "target": target, "files": len(held), "reason": reason},
        )  # fmt: skip
    return rollback_id


def note_reload(settings: Settings, *, principal: Principal, file_id: str, reason: str) -> None:
    """Note in the audit log that a file that was taken back or refused is to be landed."""
    principal.require("file.rollback")
    with transaction(settings) as session:
        file = session.get(UsageFile, file_id)
        audit.record(
            session, username=principal.username, action="reload", entity_type="usage_file",
            entity_id=file_id, province_code=file.province_code if file else HEADQUARTERS,
            detail={"reason": reason},
        )  # fmt: skip


def pending_rollbacks(session: Session) -> list[Rollback]:
    """Those that the warehouse has not followed yet, oldest first."""
    query = select(Rollback).where(Rollback.completed_at.is_(None))
    return list(session.scalars(query.order_by(Rollback.requested_at, Rollback.rollback_id)))


def pending_files(session: Session) -> list[str]:
    """The files of rollbacks that the warehouse has not followed yet."""
    query = (
        select(RollbackFile.file_id)
        .join(Rollback, Rollback.rollback_id == RollbackFile.rollback_id)
        .where(Rollback.completed_at.is_(None))
        .distinct()
        .order_by(RollbackFile.file_id)
    )
    return list(session.scalars(query))


def complete_rollbacks(settings: Settings) -> list[str]:
    """Note as complete every rollback that the warehouse has followed since; returns their ids.

    It has when after the request each of `FOLLOWING_STEPS` was run to its end, one after the
    other, by whomever. Calling it again, or after any run, does no harm.
    """
    completed = []
    with transaction(settings) as session:
        for rollback in pending_rollbacks(session):
            ended_at: datetime | None = rollback.requested_at
            for step in FOLLOWING_STEPS:
                ended_at = session.scalar(
                    select(func.min(PipelineRun.ended_at)).where(
                        PipelineRun.step == step, PipelineRun.status == "succeeded",
                        PipelineRun.started_at >= ended_at,
                    )
                )  # fmt: skip
                if ended_at is None:
                    break
            if ended_at is not None:
                _complete(session, rollback.rollback_id, ended_at)
                completed.append(rollback.rollback_id)
    return completed


def mark_complete(settings: Settings, rollback_ids: Sequence[str]) -> None:
    """Note that the warehouse has followed these rollbacks, now."""
    with transaction(settings) as session:
        for rollback_id in rollback_ids:
            _complete(session, rollback_id, datetime.now(UTC))


def rolled_back_files(session: Session, rollback_ids: Sequence[str]) -> list[str]:
    """The files of rollbacks that are still taken back (others were loaded again since)."""
    query = (
        select(UsageFile.file_id)
        .join(RollbackFile, RollbackFile.file_id == UsageFile.file_id)
        .where(RollbackFile.rollback_id.in_(rollback_ids), UsageFile.status == "rolled_back")
        .distinct()
    )
    return list(session.scalars(query))


def _complete(session: Session, rollback_id: str, completed_at: datetime) -> None:
    session.execute(
        update(Rollback)
        .where(Rollback.rollback_id == rollback_id, Rollback.completed_at.is_(None))
        .values(completed_at=completed_at)
        .execution_options(synchronize_session=False)
    )


def list_rollbacks(
    session: Session, *, principal: Principal, limit: int = 200
) -> list[tuple[Rollback, int, Decimal]]:
    """Rollbacks of the user's province, newest first, each with files and amount taken back."""
    principal.require("rollback.read")
    query = (
        select(
            Rollback, func.count(RollbackFile.file_id),
            func.coalesce(func.sum(RollbackFile.charge_amount), Decimal(0)),
        )
        .join(RollbackFile, RollbackFile.rollback_id == Rollback.rollback_id)
        .join(UsageFile, UsageFile.file_id == RollbackFile.file_id)
        .group_by(Rollback.rollback_id)
        .order_by(Rollback.requested_at.desc(), Rollback.rollback_id)
        .limit(limit)
    )  # fmt: skip
    query = principal.only_own_province(query, UsageFile.province_code)
    return [(row[0], row[1], row[2]) for row in session.execute(query)]


def find_rollback(session: Session, *, principal: Principal, rollback_id: str) -> RollbackView:
    """One rollback and its files of the user's province; NotFoundError if none of them is."""
    principal.require("rollback.read")
    rollback = session.get(Rollback, rollback_id)
    query = (
        select(RollbackFile, UsageFile)
        .join(UsageFile, UsageFile.file_id == RollbackFile.file_id)
        .where(RollbackFile.rollback_id == rollback_id)
        .order_by(RollbackFile.file_id)
    )
    query = principal.only_own_province(query, UsageFile.province_code)
    files = [(row[0], row[1]) for row in session.execute(query)]
    if rollback is None or not files:
        raise NotFoundError("no_rollback", rollback_id=rollback_id)
    all_files = session.scalars(
        select(func.count())
        .select_from(RollbackFile)
        .where(RollbackFile.rollback_id == rollback_id)
    ).one()
    if len(files) < all_files:
        return RollbackView(rollback, files, cycles=None)
    cycles = _CYCLES.validate_python(rollback.counts.get("cycles", {}))
    return RollbackView(rollback, files, cycles)
