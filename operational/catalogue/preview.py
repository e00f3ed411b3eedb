"""What a form would change, in words: what is stored beside what would be, before it is saved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from operational.catalogue.content import FieldChange, Values, VersionContent, shown
from operational.catalogue.findings import tariff_label
from operational.catalogue.models import (
    Allowance,
    AllowanceCoverage,
    BundleComponent,
    Commitment,
    Discount,
    OneOffPrice,
    PricePlanVersion,
    PriceTier,
    UsagePrice,
)  # fmt: skip
from operational.catalogue.tariff_form import Proposal
from operational.catalogue.wording import Wording
from operational.i18n import has_message
from operational.templating import money

# What of the row of a version is shown, by the name it has in the form.
_VERSION_FIELDS = {
    "valid_from": "valid_from", "valid_to": "valid_to", "monthly_fee_amount": "monthly_fee_amount",
    "first_month_rule": "first_month_rule", "last_month_rule": "last_month_rule",
    "suspension_fee_amount": "suspension_fee_amount",
    "minimum_consumption_amount": "minimum_consumption_amount",
    "late_usage_policy": "late_usage_policy", "calendar_id": "calendar",
}  # fmt: skip
# Rows of tables that are told with the row they belong to.
_OWNERS = {"price_tier": "usage_price", "allowance_coverage": "allowance"}
_NOTHING = "–"

Part = tuple[str, str]  # table, and what the row is called within its version


@dataclass
class Difference:
    """One thing as it is and as it would be, line by line; nothing on the side that lacks it."""

    section: str  # a field of the version
    name: str
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)

    @property
    def is_row(self) -> bool:
        """Whether it is one of the rows that the section is of."""
        return bool(self.section) and self.section not in _VERSION_FIELDS.values()


def preview(
    proposal: Proposal, words: Wording, units: Mapping[str, str], offerings: Mapping[str, str]
) -> list[Difference]:
    """What a proposal changes; of a new offering, all that it has.

    `units` are those of the charge classes, `offerings` the names of offerings by their ids.
    """
    after = _told(proposal.content, words, units, offerings)
    if proposal.stored is None:
        return list(_differences({}, after, None, words))
    changed: dict[Part, list[FieldChange]] = {}
    for change in proposal.changes:
        changed.setdefault(_part(change, proposal.stored.version_id), []).append(change)
    before = _told(proposal.stored, words, units, offerings)
    return list(_differences(before, after, changed, words))


def _part(change: FieldChange, version_id: str) -> Part:
    name = change.key.removeprefix(version_id).removeprefix("/")
    table = _OWNERS.get(change.table, change.table)
    if change.table == "price_tier":
        name = name.rpartition("/")[0]
    elif change.table == "allowance_coverage":
        name = name.partition("/")[0]
    elif change.table == "price_plan_version":
        name = change.field
    return table, name


def _differences(
    before: dict[Part, Difference], after: dict[Part, Difference],
    changed: dict[Part, list[FieldChange]] | None, words: Wording,
) -> Iterator[Difference]:  # fmt: skip
    for part in dict.fromkeys([*after, *before, *(changed or ())]):
        if changed is not None and part not in changed:
            continue
        sides = [before.get(part), after.get(part)]
        told = next(
            (one for one in reversed(sides) if one is not None),
            Difference("", tariff_label(words.translate, part[1])),  # nothing has words for it
        )
        lines = [list(one.after) if one else [] for one in sides]
        if changed is not None and lines[0] == lines[1]:  # words too coarse for what differs
            for change in changed[part]:
                label = tariff_label(words.translate, change.field)
                lines[0].append(f"{label}: {_word(words, change.field, change.stored)}")
                lines[1].append(f"{label}: {_word(words, change.field, change.proposed)}")
        yield Difference(told.section, told.name, *lines)


def _word(words: Wording, name: str, value: Any) -> str:
    key = f"tariff_choice.{name}.{value}"
    return words.translate(key) if has_message(key) else shown(value)


def _told(
    content: VersionContent, words: Wording, units: Mapping[str, str],
    offerings: Mapping[str, str],
) -> dict[Part, Difference]:  # fmt: skip
    """All of a version in words, in the order of the form."""
    found: dict[Part, Difference] = {}

    def tell(table: str, name: str, section: str, label: str, lines: list[str]) -> None:
        found[table, name] = Difference(section, label, after=lines)

    def name_in_version(identifier: str) -> str:
        return identifier.removeprefix(f"{content.version_id}/")

    for column, name in _VERSION_FIELDS.items():
        label = tariff_label(words.translate, name)
        text = _version_word(words, name, content.version[column])
        tell(PricePlanVersion.__tablename__, column, name, label, [text])
    places = {charge_class: place for place, charge_class in enumerate(units)}
    for row in sorted(
        content.rows[UsagePrice], key=lambda row: (places[row["charge_class"]], row["band"] or "")
    ):
        tiers = [PriceTier(**tier) for tier in _of(content, PriceTier, "usage_price_id", row)]
        label = words.charge_class(row["charge_class"])
        tell(
            "usage_price", name_in_version(row["usage_price_id"]), "usage_prices",
            f"{label}, {words.band(row['band'])}",
            words.whole_price(UsagePrice(**row), tiers, units[row["charge_class"]]),
        )  # fmt: skip
    for row in content.rows[Allowance]:
        covers = [
            AllowanceCoverage(**cover)
            for cover in _of(content, AllowanceCoverage, "allowance_id", row)
        ]
        allowance = Allowance(**row)
        tell(
            "allowance", name_in_version(row["allowance_id"]), "allowances",
            words.name(allowance), words.whole_allowance(allowance, covers),
        )  # fmt: skip
    for row in sorted(content.rows[Discount], key=lambda row: row["sequence"]):
        discount = Discount(**row)
        tell("discount", name_in_version(row["discount_id"]), "discounts", words.name(discount),
             [f"{row['sequence']}. {words.discount(discount)}"])  # fmt: skip
    for row in content.rows[OneOffPrice]:
        item = words.translate(f"bill_item.{row['bill_item_code']}")
        tell("one_off_price", row["occasion"], "one_off_prices",
             words.translate(f"occasion.{row['occasion']}"),
             [f"{money(row['amount'])} · {item}"])  # fmt: skip
    for row in content.rows[Commitment]:
        tell("commitment", "", "commitment", "", [words.commitment(Commitment(**row))])
    for row in content.rows[BundleComponent]:
        offering_id = row["offering_id"]
        tell("bundle_component", offering_id, "components", offerings.get(offering_id, offering_id),
             [words.component(BundleComponent(**row))])  # fmt: skip
    return found


def _of(content: VersionContent, table: type[Any], key: str, owner: Values) -> list[Values]:
    return [row for row in content.rows[table] if row[key] == owner[key]]


def _version_word(words: Wording, name: str, value: Any) -> str:
    if value is None:
        return _NOTHING
    if isinstance(value, Decimal):
        return money(value)
    if isinstance(value, datetime):
        return str(words.local_date(value))
    return str(value) if name == "calendar" else words.translate(f"{name}.{value}")
