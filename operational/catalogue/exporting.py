"""Writes what is loaded as somebody would have written it: for forms, and for files to download."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import yaml
from sqlalchemy.orm import Session

from operational.catalogue.authoring import OfferingRow, TierRow, UsagePriceRow, VersionRow
from operational.catalogue.checks import ClassFacts
from operational.catalogue.content import (
    VersionContent,
    read_version,
    stored_contents,
    tier_values,
)  # fmt: skip
from operational.catalogue.drafts import written_document
from operational.catalogue.loader import stored_classes
from operational.catalogue.models import Offering
from operational.catalogue.service import charge_classes, versions_of
from operational.problems import NotFoundError
from tollhouse.settings import Settings


def authored_version(
    content: VersionContent, offering_type: str, classes: Mapping[str, ClassFacts],
    order: Iterable[str], timezone: str,
) -> VersionRow:  # fmt: skip
    """A stored version without what goes without saying; prices in the order of their classes."""
    row = read_version(content, timezone)
    places = {name: place for place, name in enumerate(order)}
    prices = sorted(row.usage_prices, key=lambda one: (places[one.charge_class], one.band or ""))
    return row.model_copy(
        update={
            "usage_prices": tuple(_authored_price(price, classes) for price in prices),
            # Only a plan has classes that it must price.
            "not_offered": row.not_offered if offering_type == "plan" else (),
        }
    )


def _authored_price(price: UsagePriceRow, classes: Mapping[str, ClassFacts]) -> UsagePriceRow:
    inherited = classes[price.charge_class].bill_item_code
    tiers: list[TierRow] = []
    for tier in price.tiers:
        follows = tier_values([*tiers, tier.model_copy(update={"from_quantity": None})])[-1]
        is_next = tier.from_quantity and tier.from_quantity.value == follows["from_quantity"]
        is_each = tier.per_quantity == tier.increment_quantity
        tiers.append(
            tier.model_copy(
                update={
                    "from_quantity": None if is_next else tier.from_quantity,
                    "per_quantity": None if is_each else tier.per_quantity,
                }
            )
        )
    return price.model_copy(
        update={
            "tiers": tuple(tiers),
            "bill_item_code": None if price.bill_item_code == inherited else price.bill_item_code,
        }
    )


def authored_offering(session: Session, settings: Settings, offering_id: str) -> OfferingRow:
    """A stored offering with all its versions, as it would be written; NotFoundError without."""
    offering = session.get(Offering, offering_id)
    versions = versions_of(session, offering_id).get(offering_id, [])
    if offering is None or not versions:
        raise NotFoundError("no_offering", offering_id=offering_id)
    contents = stored_contents(session, [row.plan_version_id for row in versions])
    classes = stored_classes(session)
    order = [row.charge_class for row in charge_classes(session)]
    return OfferingRow(
        **offering_facts(offering),
        versions=tuple(
            authored_version(
                contents[row.plan_version_id], offering.offering_type, classes, order,
                settings.timezone,
            )
            for row in reversed(versions)
        ),
    )  # fmt: skip


def offering_facts(offering: Offering) -> dict[str, Any]:
    """What a stored offering says besides its versions."""
    names = [name for name in OfferingRow.model_fields if name != "versions"]
    return {name: getattr(offering, name) for name in names}


def offering_file(session: Session, settings: Settings, offering_id: str) -> str:
    """A stored offering as a YAML file: loading it changes nothing."""
    units = {name: facts.unit for name, facts in stored_classes(session).items()}
    row = authored_offering(session, settings, offering_id)
    written = {"offerings": [written_document(row, units, is_short=True)]}
    return yaml.safe_dump(written, allow_unicode=True, sort_keys=False, width=100)
