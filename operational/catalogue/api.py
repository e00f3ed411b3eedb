"""REST of product offerings (TMF620)."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from operational.catalogue import service
from operational.catalogue.service import OfferingView
from operational.problem_details import CallerOf, ReadingOf

router = APIRouter(prefix="/tmf-api/productCatalogManagement/v4")


@router.get("/productOffering", tags=["catalogue"])
def offerings(caller: CallerOf, database: ReadingOf) -> list[dict[str, Any]]:
    """All offerings with the version of their prices."""
    caller.require("catalogue.read")
    return [_offering(view) for view in service.list_offerings(database)]


@router.get("/productOffering/{offering_id}", tags=["catalogue"])
def offering(caller: CallerOf, database: ReadingOf, offering_id: str) -> dict[str, Any]:
    """One offering."""
    caller.require("catalogue.read")
    return _offering(service.find_offering(database, offering_id))


def _offering(view: OfferingView) -> dict[str, Any]:
    version = view.version
    return {
        "id": view.offering.offering_id,
        "nameZh": view.offering.name_zh,
        "nameEn": view.offering.name_en,
        "lifecycleStatus": view.offering.status,
        "version": version.version_number,
        "validFor": {
            "startDateTime": version.valid_from.isoformat(),
            "endDateTime": version.valid_to and version.valid_to.isoformat(),
        },
        "monthlyFee": {"unit": version.currency_code, "value": str(version.monthly_fee_amount)},
        "allowance": [
            {"unit": allowance.unit, "size": allowance.size_quantity}
            for allowance in view.allowances
        ],
    }
