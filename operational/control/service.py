"""The file journal and its sources: which files came, what became of them, what is missing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import date
from decimal import Decimal
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from operational import audit
from operational.control.models import FileAlarm, PipelineRun, Source, SourceVersion, UsageFile
from operational.database import transaction
from operational.identity.models import AuditLog
from operational.permissions import Principal
from operational.problems import InvalidRequestError, NotFoundError
from tollhouse.settings import Settings

PAGE_ROWS = 50
DAYS_SHOWN = 31
# What the audit log says about this room's own work.
CONTROL_ACTIONS = (
    "correct_records", "recycle_records", "change_rule", "change_source", "roll_back", "reload",
    "settle_alarm",
)  # fmt: skip


@dataclass(frozen=True)
class SourceDay:
    """What came from one source on one day and became of it; a row of `dm.source_day`."""

    source_id: str
    province_code: str
    file_date: date
    file_count: int
    record_count: int
    standard_count: int
    merged_count: int
    duplicate_count: int
    rejected_count: int
    filtered_count: int
    late_file_count: int
    mean_delay_seconds: int | None
    mean_collection_seconds: int | None
    mean_landing_seconds: int | None
    mean_mediation_seconds: int | None
    processed_count: int
    processing_seconds: Decimal
    records_per_second: Decimal | None
    byte_count: int


_ADDED = tuple(
    field.name for field in fields(SourceDay) if field.name.endswith("_count")
)  # counts of days add up to those of the period


@dataclass(frozen=True)
class SourceSummary:
    """A source with the sums of its latest days, and its alarms that are not cleared."""

    source: Source
    counts: dict[str, int] | None  # None where nothing is published
    processing_seconds: Decimal
    alarms: list[FileAlarm]

    @property
    def rejected_share(self) -> float | None:
        """Rejected records of a thousand."""
        if not self.counts or not self.counts["record_count"]:
            return None
        return 1000 * self.counts["rejected_count"] / self.counts["record_count"]

    @property
    def records_per_second(self) -> Decimal | None:
        """Throughput: records by the time that landing and mediating them took."""
        if not self.counts or not self.processing_seconds:
            return None
        return self.counts["processed_count"] / self.processing_seconds


@dataclass(frozen=True)
class SourceView:
    """One source: every version of its settings, its latest days and alarms."""

    source: Source
    versions: list[tuple[SourceVersion, dict[str, tuple[Any, Any]]]]
    days: list[SourceDay]
    alarms: list[FileAlarm]


def list_files(
    session: Session, *, principal: Principal, source_id: str | None = None,
    status: str | None = None, limit: int = PAGE_ROWS, offset: int = 0,
) -> list[UsageFile]:  # fmt: skip
    """Files of the user's province, last received first."""
    principal.require("file.read")
    query = select(UsageFile)
    if source_id:
        query = query.where(UsageFile.source_id == source_id)
    if status:
        query = query.where(UsageFile.status == status)
    query = principal.only_own_province(query, UsageFile.province_code)
    return list(
        session.scalars(
            query.order_by(UsageFile.received_at.desc(), UsageFile.file_id)
            .limit(limit).offset(offset)
        )
    )  # fmt: skip


def files_by_status(session: Session, *, principal: Principal) -> dict[str, int]:
    """How many files of the user's province are in each status."""
    principal.require("file.read")
    query = select(UsageFile.status, func.count()).group_by(UsageFile.status)
    query = principal.only_own_province(query, UsageFile.province_code)
    return {row[0]: row[1] for row in session.execute(query)}


def list_sources(session: Session, *, principal: Principal) -> list[Source]:
    """Sources of the user's province."""
    principal.require("file.read")
    query = principal.only_own_province(select(Source), Source.province_code)
    return list(session.scalars(query.order_by(Source.source_id)))


def recent_runs(session: Session, *, principal: Principal, limit: int = 20) -> list[PipelineRun]:
    """The newest pipeline runs."""
    principal.require("file.read")
    query = select(PipelineRun).order_by(PipelineRun.started_at.desc(), PipelineRun.run_id)
    return list(session.scalars(query.limit(limit)))


def summarise_sources(session: Session, *, principal: Principal) -> list[SourceSummary]:
    """Sources of the user's province with the sums of their latest published days."""
    days = defaultdict(list)
    for day in _source_days(session, principal):
        days[day.source_id].append(day)
    alarms = defaultdict(list)
    for alarm in open_alarms(session, principal=principal):
        alarms[alarm.source_id].append(alarm)
    return [
        SourceSummary(
            source,
            {name: sum(getattr(day, name) for day in days[source.source_id]) for name in _ADDED}
            if days[source.source_id] else None,
            sum((day.processing_seconds for day in days[source.source_id]), Decimal()),
            alarms[source.source_id],
        )
        for source in list_sources(session, principal=principal)
    ]  # fmt: skip


def open_alarms(session: Session, *, principal: Principal, limit: int = 500) -> list[FileAlarm]:
    """Alarms of the user's province that are not cleared, newest first."""
    principal.require("file.read")
    query = (
        select(FileAlarm)
        .join(Source, Source.source_id == FileAlarm.source_id)
        .where(FileAlarm.cleared_at.is_(None))
        .order_by(FileAlarm.raised_at.desc(), FileAlarm.alarm_id)
        .limit(limit)
    )
    return list(session.scalars(principal.only_own_province(query, Source.province_code)))


def settle_alarm(
    settings: Settings, *, principal: Principal, file_id: str, reason: str
) -> FileAlarm:  # fmt: skip
    """Clear the alarm of a refused file that nobody will send again; who did and why is kept.

    The file stays refused and its original in the quarantine. Refused once more, it has another
    alarm.

    Raises:
        InvalidRequestError: no reason is given.
        NotFoundError: the file has no alarm that stands, or is of another province.
    """
    principal.require("alarm.settle")
    reason = reason.strip()
    if not reason:
        raise InvalidRequestError("reason_missing")
    with transaction(settings) as session:
        alarm = session.scalar(
            select(FileAlarm)
            .where(
                FileAlarm.file_id == file_id, FileAlarm.kind == "quarantined",
                FileAlarm.cleared_at.is_(None),
            )
            .with_for_update()
        )  # fmt: skip
        source = session.get(Source, alarm.source_id) if alarm else None
        if alarm is None or source is None or not principal.sees(source.province_code):
            raise NotFoundError("no_alarm", file_id=file_id)
        alarm.cleared_at = session.scalar(select(func.clock_timestamp()))
        alarm.settled_by, alarm.settled_reason = principal.username, reason
        audit.record(
            session, username=principal.username, action="settle_alarm",
            entity_type="usage_file", entity_id=file_id, province_code=source.province_code,
            detail={"reason": reason},
        )  # fmt: skip
    return alarm


def find_source(session: Session, *, principal: Principal, source_id: str) -> SourceView:
    """One source; NotFoundError if there is none, or it is of another province."""
    principal.require("file.read")
    source = session.get(Source, source_id)
    if source is None or not principal.sees(source.province_code):
        raise NotFoundError("no_source", source_id=source_id)
    versions = list(
        session.scalars(
            select(SourceVersion)
            .where(SourceVersion.source_id == source_id)
            .order_by(SourceVersion.version)
        )
    )
    alarms = session.scalars(
        select(FileAlarm)
        .where(FileAlarm.source_id == source_id)
        .order_by(FileAlarm.cleared_at.is_not(None), FileAlarm.raised_at.desc())
        .limit(PAGE_ROWS)
    )
    days = [day for day in _source_days(session, principal) if day.source_id == source_id]
    return SourceView(source, list(reversed(_with_changes(versions))), days, list(alarms))


def _with_changes(
    versions: Iterable[SourceVersion],
) -> list[tuple[SourceVersion, dict[str, tuple[Any, Any]]]]:
    """Each version with what it changed: field → (before, after); the first changed nothing."""
    found: list[tuple[SourceVersion, dict[str, tuple[Any, Any]]]] = []
    for version in versions:
        before = found[-1][0].content if found else version.content
        names = sorted({*before, *version.content})
        changes = {
            name: (before.get(name), version.content.get(name))
            for name in names if before.get(name) != version.content.get(name)
        }  # fmt: skip
        found.append((version, changes))
    return found


def _source_days(session: Session, principal: Principal) -> list[SourceDay]:
    """The latest published days of every source, newest first; none before the first publishing."""
    if session.scalar(text("select to_regclass('dm.source_day')")) is None:
        return []
    names = ", ".join(field.name for field in fields(SourceDay))
    rows = session.execute(
        text(
            f"select {names} from dm.source_day"  # noqa: S608 - names of our own class
            " where file_date > (select max(file_date) from dm.source_day) - cast(:days as integer)"
            " and (cast(:province as text) is null or province_code = :province)"
            " order by file_date desc, source_id"
        ),
        {
            "days": DAYS_SHOWN,
            "province": None if principal.sees_all_provinces else principal.province_code,
        },
    )
    return [SourceDay(**row) for row in rows.mappings()]


def control_audit(session: Session, *, principal: Principal, limit: int = 200) -> list[AuditLog]:
    """The newest audit rows of this room's work, of the user's province."""
    principal.require("control_audit.read")
    query = (
        select(AuditLog)
        .where(AuditLog.action.in_(CONTROL_ACTIONS))
        .order_by(AuditLog.id.desc())
        .limit(limit)
    )
    return list(session.scalars(principal.only_own_province(query, AuditLog.province_code)))
