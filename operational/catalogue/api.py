"""REST of product offerings (TMF620)."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from operational.catalogue import service
from operational.catalogue.models import PricePlanVersion, PriceTier, UsagePrice
from operational.catalogue.service import OfferingView
from operational.problem_details import CallerOf, ReadingOf

router = APIRouter(prefix="/tmf-api/productCatalogManagement/v4")


@router.get("/productOffering", tags=["catalogue"])
def offerings(caller: CallerOf, database: ReadingOf) -> list[dict[str, Any]]:
    """All offerings with the version of their prices."""
    caller.require("catalogue.read")
    return [_offering(view) for view in service.list_offerings(database)]


@router.get("/productOffering/{offering_id}", tags=["catalogue"])
def offering(
    caller: CallerOf, database: ReadingOf, offering_id: str,
    version: Annotated[int | None, Query(ge=1, le=1_000_000)] = None,
) -> dict[str, Any]:  # fmt: skip
    """One offering with its usage prices; `version` asks for another version than today's."""
    caller.require("catalogue.read")
    view = service.find_offering(database, offering_id, version)
    return _offering(view) | {
        "usagePrice": [_price(price, tiers) for price, tiers in view.prices],
        "bundledProductOffering": [
            {
                "id": offering.offering_id,
                "type": offering.offering_type,
                "feeRule": component.fee_rule,
                "fee": component.fee_amount and str(component.fee_amount),
            }
            for component, offering in view.components
        ],
    }


def _offering(view: OfferingView) -> dict[str, Any]:
    version = view.version
    return {
        "id": view.offering.offering_id,
        "type": view.offering.offering_type,
        "nameZh": view.offering.name_zh,
        "nameEn": view.offering.name_en,
        "isBundle": view.offering.offering_type == "bundle",
        "lifecycleStatus": view.offering.status,
        "version": version.version_number,
        "validFor": _valid_for(version),
        "monthlyFee": {"unit": version.currency_code, "value": str(version.monthly_fee_amount)},
        "allowance": [
            {
                "nameZh": allowance.name_zh, "nameEn": allowance.name_en, "unit": allowance.unit,
                "size": allowance.size_quantity, "scope": allowance.scope,
                "rolloverMonths": allowance.rollover_months,
            }
            for allowance in view.allowances
        ],
        "versions": [
            {"version": row.version_number, "validFor": _valid_for(row)} for row in view.versions
        ],
    }  # fmt: skip


def _valid_for(version: PricePlanVersion) -> dict[str, Any]:
    return {
        "startDateTime": version.valid_from.isoformat(),
        "endDateTime": version.valid_to and version.valid_to.isoformat(),
    }


def _price(price: UsagePrice, tiers: list[PriceTier]) -> dict[str, Any]:
    return {
        "chargeClass": price.charge_class, "band": price.band, "model": price.model,
        "repeatQuantity": price.repeat_quantity,
        "connectionFee": str(price.connection_fee_amount),
        "tier": [
            {
                "from": tier.from_quantity, "to": tier.to_quantity,
                "increment": tier.increment_quantity, "per": tier.per_quantity,
                "price": str(tier.price_amount), "flat": str(tier.flat_amount),
                "isPartial": tier.is_partial,
            }
            for tier in tiers
        ],
    }  # fmt: skip
