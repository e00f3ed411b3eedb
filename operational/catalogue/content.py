"""A version as the rows of its tables: out of what was written, out of the database, and back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import select
from sqlalchemy.orm import Session

from operational.catalogue.authoring import (
    Measure,
    OfferingRow,
    TierRow,
    UsagePriceRow,
    VersionRow,
)  # fmt: skip
from operational.catalogue.models import (
    Allowance,
    AllowanceCoverage,
    BundleComponent,
    Commitment,
    Discount,
    OneOffPrice,
    PricePlanVersion,
    PriceStep,
    PriceTier,
    UsagePrice,
)  # fmt: skip
from operational.catalogue.price_steps import Tier, common_denominator, compile_price, step_rows
from operational.ratecards import midnight

Values = dict[str, Any]

# A plan prices these, by itself or through the class above, unless it says it lacks the service.
REQUIRED_CLASSES = ("voice_domestic", "sms_domestic", "data_domestic")
# Content prices this, and nothing else of a version's applies to it.
CONTENT_CLASS = "vas_content"

ALLOWANCE_NAMES = {
    "second": ("语音", "Voice"), "octet": ("流量", "Data"), "event": ("条数", "Events"),
    "money": ("赠费", "Credit"),
}  # fmt: skip

# In order of their foreign keys: table, key, and the key that leads to the version.
TABLES: tuple[tuple[type[Any], str], ...] = (
    (PricePlanVersion, "plan_version_id"), (UsagePrice, "plan_version_id"),
    (PriceTier, "usage_price_id"), (PriceStep, "usage_price_id"), (Allowance, "plan_version_id"),
    (AllowanceCoverage, "allowance_id"), (Discount, "plan_version_id"),
    (OneOffPrice, "plan_version_id"), (Commitment, "plan_version_id"),
    (BundleComponent, "plan_version_id"),
)  # fmt: skip
# Set by the database, or by who uses the version.
UNWRITTEN = ("created_at", "updated_at", "used_at")


@dataclass
class VersionContent:
    """All rows of one version, by table."""

    rows: dict[type[Any], list[Values]] = field(
        default_factory=lambda: {table: [] for table, _ in TABLES}
    )

    @property
    def version(self) -> Values:
        """The row of the version itself."""
        return self.rows[PricePlanVersion][0]

    @property
    def version_id(self) -> str:
        """The version's id."""
        return str(self.version["plan_version_id"])

    def by_key(self, only: type[Any] | None = None) -> dict[tuple[str, tuple[Any, ...]], Values]:
        """All rows, or those of one table, by table and primary key."""
        return {
            (str(table.__tablename__), tuple(row[key] for key in _keys(table))): row
            for table, rows in self.rows.items() for row in rows if only in (None, table)
        }  # fmt: skip


def _keys(table: type[Any]) -> list[str]:
    return [column.name for column in table.__table__.primary_key]


def write_version(
    offering: OfferingRow, row: VersionRow, prices: Iterable[tuple[UsagePriceRow, str]],
    timezone: str,
) -> VersionContent:  # fmt: skip
    """The rows of a checked version; `prices` are its own and listed ones, with their bill items.

    Raises:
        PriceStepError: the prices cannot be calculated with exactly.
    """
    version_id = f"{offering.offering_id}@{row.version_number}"
    content = VersionContent()
    compiled = {}
    for price, bill_item_code in prices:
        price_id = f"{version_id}/{price.name}"
        content.rows[UsagePrice].append(
            {
                "usage_price_id": price_id, "plan_version_id": version_id,
                "repeat_quantity": price.repeat_quantity and price.repeat_quantity.value,
                "bill_item_code": bill_item_code,
            }
            | {name: getattr(price, name) for name in (
                "charge_class", "band", "model", "overhang", "connection_fee_amount",
                "minimum_amount", "maximum_amount", "rounding_mode", "rounding_digits",
            )}
        )  # fmt: skip
        tiers = [
            {"usage_price_id": price_id, "tier_number": number} | values
            for number, values in enumerate(tier_values(price.tiers), start=1)
        ]
        content.rows[PriceTier] += tiers
        compiled[price_id] = compile_price(
            price.model, [_tier(values) for values in tiers], price.overhang
        )
    denominator = common_denominator(compiled.values())
    content.rows[PriceStep] = [
        {"usage_price_id": price_id} | vars(step)
        for price_id, steps in compiled.items() for step in step_rows(steps, denominator)
    ]  # fmt: skip
    content.rows[PricePlanVersion] = [
        {
            "plan_version_id": version_id, "offering_id": offering.offering_id,
            "valid_from": midnight(row.valid_from, timezone),
            "valid_to": row.valid_to and midnight(row.valid_to, timezone),
            "calendar_id": row.calendar, "cost_denominator": denominator,
        }
        | {name: getattr(row, name) for name in (
            "version_number", "monthly_fee_amount", "currency_code", "first_month_rule",
            "last_month_rule", "suspension_fee_amount", "minimum_consumption_amount",
            "late_usage_policy",
        )}
    ]  # fmt: skip
    _write_allowances(content, version_id, row)
    content.rows[Discount] = [
        {
            "discount_id": f"{version_id}/{discount.discount}", "plan_version_id": version_id,
            "sequence": number, "bill_item_codes": ",".join(discount.bill_item_codes) or None,
        }
        | {name: getattr(discount, name) for name in ("name_zh", "name_en", "kind", "value")}
        for number, discount in enumerate(row.discounts, start=1)
    ]  # fmt: skip
    content.rows[OneOffPrice] = [
        {"plan_version_id": version_id} | price.model_dump() for price in row.one_off_prices
    ]
    if row.commitment is not None:
        content.rows[Commitment] = [{"plan_version_id": version_id} | row.commitment.model_dump()]
    content.rows[BundleComponent] = [
        {
            "plan_version_id": version_id, "offering_id": component.component,
            "fee_rule": component.fee_rule, "fee_amount": component.fee_amount,
        }
        for component in row.components
    ]  # fmt: skip
    return content


def tier_values(tiers: Iterable[TierRow]) -> list[Values]:
    """Tiers with what was left out: each begins where the one before ends."""
    found: list[Values] = []
    end: Decimal | None = Decimal(0)
    for tier in tiers:
        start = tier.from_quantity.value if tier.from_quantity else (end or Decimal(0))
        end = None if tier.to_quantity is None else tier.to_quantity.value
        increment = tier.increment_quantity or tier.per_quantity or Measure(Decimal(1))
        found.append(
            {
                "from_quantity": start, "to_quantity": end,
                "increment_quantity": increment.value,
                "per_quantity": (tier.per_quantity or increment).value,
                "price_amount": tier.price_amount, "flat_amount": tier.flat_amount,
                "is_partial": tier.is_partial,
            }
        )  # fmt: skip
    return found


def _tier(values: Values) -> Tier:
    return Tier(
        from_quantity=Fraction(values["from_quantity"]),
        to_quantity=None if values["to_quantity"] is None else Fraction(values["to_quantity"]),
        increment_quantity=None if values["is_partial"] else Fraction(values["increment_quantity"]),
        per_quantity=Fraction(values["per_quantity"]),
        price_amount=Fraction(values["price_amount"]), flat_amount=Fraction(values["flat_amount"]),
    )  # fmt: skip


def _write_allowances(content: VersionContent, version_id: str, row: VersionRow) -> None:
    for allowance in row.allowances:
        allowance_id = f"{version_id}/{allowance.allowance}"
        name_zh, name_en = ALLOWANCE_NAMES[allowance.unit]
        content.rows[Allowance].append(
            {
                "allowance_id": allowance_id, "plan_version_id": version_id,
                "name_zh": allowance.name_zh or name_zh, "name_en": allowance.name_en or name_en,
                "size_quantity": allowance.size_quantity.value,
                "rounding_increment": allowance.rounding_increment.value,
            }
            | {name: getattr(allowance, name) for name in (
                "unit", "priority", "scope", "quantity_basis", "rollover_months",
            )}
        )  # fmt: skip
        content.rows[AllowanceCoverage] += [
            {
                "allowance_coverage_id": f"{allowance_id}/{cover.name}",
                "allowance_id": allowance_id, "charge_class": cover.charge_class,
                "band": cover.band,
            }
            for cover in allowance.covers
        ]  # fmt: skip


def stored_contents(session: Session, version_ids: Iterable[str]) -> dict[str, VersionContent]:
    """The rows of versions as they are in the database."""
    wanted = sorted(set(version_ids))
    found = {version_id: VersionContent() for version_id in wanted}
    owner_of: dict[str, str] = {version_id: version_id for version_id in wanted}
    for table, leading in TABLES:
        columns = [
            column for column in table.__table__.columns if column.name not in UNWRITTEN
        ]  # fmt: skip
        query = select(*columns).where(table.__table__.columns[leading].in_(owner_of))
        for values in session.execute(query.order_by(*table.__table__.primary_key)).mappings():
            owner = owner_of[values[leading]]
            found[owner].rows[table].append(dict(values))
            if table in (UsagePrice, Allowance):
                owner_of[values[_keys(table)[0]]] = owner
    return found


def delete_content(session: Session, content: VersionContent) -> None:
    """Take a version out, the rows that refer to others first; only one not in use goes."""
    ids = {content.version_id} | {
        row[key]
        for table, key in ((UsagePrice, "usage_price_id"), (Allowance, "allowance_id"))
        for row in content.rows[table]
    }
    for table, leading in reversed(TABLES):
        columns = table.__table__.columns
        session.execute(table.__table__.delete().where(columns[leading].in_(ids)))


def read_version(content: VersionContent, timezone: str) -> VersionRow:
    """A stored version as it would be written: what `write_version` made it from."""
    return VersionRow.model_validate(version_document(content, timezone))


def version_document(content: VersionContent, timezone: str) -> Values:
    """A stored version as a document of the authoring format."""
    version = content.version
    version_id = content.version_id
    zone = ZoneInfo(timezone)

    def civil(moment: datetime | None) -> Any:
        return moment and moment.astimezone(zone).date()

    def name(identifier: str) -> str:
        return identifier.removeprefix(f"{version_id}/")

    tiers: dict[str, list[Values]] = defaultdict(list)
    for tier in content.rows[PriceTier]:
        tiers[tier["usage_price_id"]].append(_without(tier, "usage_price_id", "tier_number"))
    covers: dict[str, list[Values]] = defaultdict(list)
    for cover in content.rows[AllowanceCoverage]:
        covers[cover["allowance_id"]].append(
            _without(cover, "allowance_coverage_id", "allowance_id")
        )
    priced = {price["charge_class"] for price in content.rows[UsagePrice]}
    return (
        _without(version, "plan_version_id", "offering_id", "cost_denominator", "calendar_id")
        | {
            "valid_from": civil(version["valid_from"]), "valid_to": civil(version["valid_to"]),
            "calendar": version["calendar_id"],
            "usage_prices": [
                _without(price, "usage_price_id", "plan_version_id")
                | {
                    "tiers": tiers[price["usage_price_id"]],
                    "beyond": _beyond(price, tiers[price["usage_price_id"]]),
                }
                for price in content.rows[UsagePrice]
            ],
            "not_offered": [name for name in REQUIRED_CLASSES if name not in priced],
            "allowances": [
                _without(allowance, "allowance_id", "plan_version_id")
                | {
                    "allowance": name(allowance["allowance_id"]),
                    "covers": covers[allowance["allowance_id"]],
                }
                for allowance in content.rows[Allowance]
            ],
            "discounts": [
                _without(discount, "discount_id", "plan_version_id", "sequence")
                | {
                    "discount": name(discount["discount_id"]),
                    "bill_item_codes": [
                        code for code in (discount["bill_item_codes"] or "").split(",") if code
                    ],
                }
                for discount in sorted(content.rows[Discount], key=lambda row: row["sequence"])
            ],
            "one_off_prices": [
                _without(price, "plan_version_id") for price in content.rows[OneOffPrice]
            ],
            "commitment": next(
                (_without(row, "plan_version_id") for row in content.rows[Commitment]), None
            ),
            "components": [
                _without(row, "plan_version_id", "offering_id") | {"component": row["offering_id"]}
                for row in content.rows[BundleComponent]
            ],
        }
    )  # fmt: skip


def _beyond(price: Values, tiers: list[Values]) -> str | None:
    has_end = bool(tiers) and tiers[-1]["to_quantity"] is not None
    return "free" if has_end and price["repeat_quantity"] is None else None


def _without(values: Mapping[str, Any], *names: str) -> Values:
    return {name: value for name, value in values.items() if name not in names}


@dataclass(frozen=True)
class FieldChange:
    """One field of one row that differs; `table` and `key` say of which."""

    table: str
    key: str
    field: str
    stored: Any
    proposed: Any

    def __str__(self) -> str:
        return f"{self.key} {self.field}: {shown(self.stored)} → {shown(self.proposed)}"


def shown(value: Any) -> str:
    """A value as a person reads it."""
    if value is None:
        return "–"
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)


def differences(stored: VersionContent, proposed: VersionContent) -> Iterator[FieldChange]:
    """What differs, field by field; compiled steps are left out, their tiers tell."""
    before, after = stored.by_key(), proposed.by_key()
    for place in sorted(before.keys() | after.keys(), key=str):
        table, key = place
        label = "/".join(map(str, key))
        old, new = before.get(place), after.get(place)
        if table == PriceStep.__tablename__:
            continue
        if old is None or new is None:
            yield FieldChange(table, label, "", None if old is None else _facts(old),
                              None if new is None else _facts(new))  # fmt: skip
            continue
        for name in old:
            if name != "cost_denominator" and old[name] != new[name]:
                yield FieldChange(table, label, name, old[name], new[name])


def _facts(row: Values) -> str:
    """A row in one line, without its ids."""
    return ", ".join(
        f"{name} {shown(value)}" for name, value in row.items()
        if value is not None and not name.endswith("_id") and name != "tier_number"
    )  # fmt: skip
