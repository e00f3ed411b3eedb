"""REST of the file journal."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from operational.control import service
from operational.problem_details import CallerOf, ReadingOf

router = APIRouter(prefix="/api/control/v1")


@router.get("/usageFile", tags=["control"])
def usage_files(  # noqa: PLR0917 - FastAPI passes them by name
    caller: CallerOf, database: ReadingOf, source: str = "", status: str = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 50, offset: Annotated[int, Query(ge=0)] = 0,
) -> list[dict[str, Any]]:  # fmt: skip
    """Files, last received first."""
    found = service.list_files(
        database, principal=caller, source_id=source or None, status=status or None, limit=limit,
        offset=offset,
    )  # fmt: skip
    return [
        {
            "id": row.file_id,
            "source": row.source_id,
            "name": row.file_name,
            "status": row.status,
            "statusReasonCode": row.status_reason_code,
            "statusReason": row.reason.en if row.reason else None,
            "receivedAt": row.received_at.isoformat(),
            "declaredRecordCount": row.declared_record_count,
            "decodedRecordCount": row.decoded_record_count,
        }
        for row in found
    ]
