"""The file journal: which files came, and what became of them."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from operational.control.models import PipelineRun, Source, UsageFile
from operational.permissions import Principal

PAGE_ROWS = 50


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
