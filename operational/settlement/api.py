"""REST of agreements (TMF651)."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from operational.problem_details import CallerOf, ReadingOf
from operational.settlement import service

router = APIRouter(prefix="/tmf-api/agreementManagement/v4")


@router.get("/agreement", tags=["settlement"])
def agreements(caller: CallerOf, database: ReadingOf) -> list[dict[str, Any]]:
    """All agreements with their rates."""
    return [
        {
            "id": row.agreement_id,
            "counterparty": row.counterparty_code,
            "validFrom": row.valid_from.isoformat(),
            "rate": [
                {
                    "version": rate.version_number,
                    "service": rate.service,
                    "direction": rate.direction,
                    "amount": {"unit": row.currency_code, "value": str(rate.rate_amount)},
                    "perQuantity": rate.per_quantity,
                    "validFrom": rate.valid_from.isoformat(),
                    "validTo": rate.valid_to and rate.valid_to.isoformat(),
                }
                for rate in row.rates
            ],
        }
        for row in service.list_agreements(database, principal=caller)
    ]
